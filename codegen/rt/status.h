/* Status codes of compiled code: what a kernel, a plan or an exported model returns. 0 is success. */
#ifndef TG_CODEGEN_RT_STATUS_H
#define TG_CODEGEN_RT_STATUS_H

typedef enum {
  RT_OK = 0,
  RT_INTERRUPTED, /* the cancellation flag was seen; outputs are incomplete */
  RT_BAD_INDEX,   /* a data-dependent subscript was outside its axis */
  RT_DIV_ZERO,    /* integer // or % by zero */
  RT_NO_MEMORY,
  RT_ASSERT,  /* assert met false */
  RT_ROUTINE, /* a library routine failed */
  /* of calls into a library made by `tg build` */
  RT_BAD_ARGUMENT, /* a null pointer, another library's context */
  RT_BAD_SIZE,     /* a negative or impossible number of rows; a number of tensors that is not the export's */
  RT_BAD_ALIGNMENT,
  RT_BAD_SHAPE,
  RT_BAD_DTYPE,
  RT_BAD_DEVICE, /* a tensor that is not in the processor's memory */
  RT_BUSY,       /* the context is in use by another thread */
  RT_NO_WEIGHTS, /* the file of weights is missing or not the library's */
  RT_NO_CPU,     /* the library was built for another processor */
  RT_DIFFERS,    /* the self-test got other values than when the library was built */
  RT_NO_DRIVER,  /* of libraries for a GPU: there is no driver */
  RT_NO_DEVICE,  /* no device that the library has code for */
  RT_DEVICE,     /* the device or its driver reported an error */
  RT_NO_LAPACK,  /* a routine needs LAPACK, which is not installed */
  RT_STATUS_COUNT
} RtStatus;

/* A short English phrase; never NULL. */
const char *rt_status_text(int status);
#endif
