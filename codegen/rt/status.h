/* Status codes of compiled code: what a kernel, a plan or an exported model returns. 0 is success. */
#ifndef TG_CODEGEN_RT_STATUS_H
#define TG_CODEGEN_RT_STATUS_H

typedef enum {
  RT_OK = 0,
  RT_INTERRUPTED, /* the cancellation flag was seen; outputs are incomplete */
  RT_BAD_INDEX,   /* a data-dependent subscript was outside its axis */
  RT_DIV_ZERO,    /* integer // or % by zero */
  RT_NO_MEMORY,
  RT_ASSERT, /* assert met false */
  RT_ROUTINE /* a library routine failed */
} RtStatus;

/* A short English phrase; never NULL. */
const char *rt_status_text(int status);
#endif
