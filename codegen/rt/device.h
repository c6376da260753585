/* Devices beside the host: memory, code, streams of work. A device is a table of functions; the plan executor knows no
 * more.
 *
 * All work goes to one stream, in order, but for put_ahead and between `to`. Functions marked async return when the
 * work is queued: host memory that they read must stay as it is until rt_device_wait or a mark behind them, except
 * `put`, which has taken its bytes on return. A function that gives false has left its reason in RtDevice.why; after
 * that the device may be lost, and further calls fail too, but everything may still be freed. Device memory is named by
 * address and never read or written by the host.
 *
 * Not thread-safe: one thread at a time uses a device. */
#ifndef TG_CODEGEN_RT_DEVICE_H
#define TG_CODEGEN_RT_DEVICE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct RtDevice RtDevice;
typedef struct RtModule RtModule;     /* loaded code */
typedef struct RtFunction RtFunction; /* of a module; lives as long as that */
typedef struct RtMark RtMark;         /* a place in the stream */
typedef struct RtTape RtTape;         /* recorded work */
typedef struct RtStream RtStream;     /* another stream of work; of CUDA its own handle */

typedef struct RtDeviceOps {
  const char *kind;           /* "cuda" */
  void (*close)(RtDevice *d); /* entered */
  /* A device is open for the calling thread from `open` or `enter` to `leave`; another thread may then enter it. Other
   * uses of the device by this thread come back to what they had. */
  bool (*enter)(RtDevice *d);
  void (*leave)(RtDevice *d);
  bool (*alloc)(RtDevice *d, size_t bytes, void **p);
  void (*release)(RtDevice *d, void *p);
  bool (*pin)(RtDevice *d, size_t bytes, void **p); /* host memory for async copies */
  void (*unpin)(RtDevice *d, void *p);
  bool (*put)(RtDevice *d, void *dst, const void *src, size_t bytes);
  bool (*put_async)(RtDevice *d, void *dst, const void *pinned, size_t bytes);
  /* The same on a second stream, beside what is queued. mark_ahead: a place in that, which `join` makes the first
   * stream wait for. */
  bool (*put_ahead)(RtDevice *d, void *dst, const void *pinned, size_t bytes);
  bool (*mark_ahead)(RtDevice *d, RtMark **m);
  bool (*join)(RtDevice *d, RtMark *m);
  bool (*get)(RtDevice *d, void *dst, const void *src, size_t bytes); /* waits for all that is queued */
  bool (*get_async)(RtDevice *d, void *dst, const void *src,
                    size_t bytes); /* at once and in order where dst is not pinned */
  bool (*copy)(RtDevice *d, void *dst, const void *src, size_t bytes); /* async, as are zero and launch */
  bool (*zero)(RtDevice *d, void *dst, size_t bytes);
  bool (*load)(RtDevice *d, const void *image, RtModule **m);
  void (*unload)(RtDevice *d, RtModule *m);
  bool (*function)(RtDevice *d, RtModule *m, const char *name, RtFunction **f);
  bool (*launch)(RtDevice *d, RtFunction *f, uint32_t grid, uint32_t block,
                 const void *args); /* args: one struct, copied */
  bool (*wait)(RtDevice *d);
  bool (*mark)(RtDevice *d, RtMark **m); /* *m NULL: made; else set anew */
  bool (*wait_mark)(RtDevice *d, RtMark *m);
  bool (*reached)(RtDevice *d, RtMark *m, bool *yes); /* does not wait */
  void (*drop_mark)(RtDevice *d, RtMark *m);
  /* Between record and recorded, copy, zero and launch are recorded instead of queued. On failure nothing is recorded,
   * and recording has ended. */
  bool (*record)(RtDevice *d);
  bool (*recorded)(RtDevice *d, RtTape **t);
  bool (*replay)(RtDevice *d, RtTape *t); /* async */
  void (*drop_tape)(RtDevice *d, RtTape *t);
  /* Another stream, which `wait` waits for, too. After `to` work, marks and joins are that stream's; NULL: the first
   * one's again. */
  bool (*stream)(RtDevice *d, RtStream **s);
  void (*to)(RtDevice *d, RtStream *s);
  void (*drop_stream)(RtDevice *d, RtStream *s); /* nothing is queued there */
} RtDeviceOps;

/* Work may wait for other processes (dist/nccl.h). While the host waits for the device it asks `look` again and again;
 * false, with `why` for RtDevice.why: it comes to nothing. Then `look` has seen to it that what is queued ends, every
 * wait fails from there on, and `given_up` is set. */
typedef struct RtWatch {
  bool (*look)(void *ctx, char *why, size_t nwhy);
  void *ctx;
  bool given_up;
} RtWatch;

struct RtDevice {
  const RtDeviceOps *op;
  char name[96];
  int arch;      /* CUDA: 10 * major + minor of the compute capability */
  int driver;    /* CUDA: 1000 * major + 10 * minor of the newest CUDA that the driver knows */
  size_t memory; /* bytes */
  uint64_t unit; /* tells the devices of a host apart, whatever their index */
  RtWatch watch; /* look NULL: nobody watches */
  char why[320];
};

/* The kinds of devices that this program was built with, and how to open one. */
typedef struct RtDeviceKind {
  const char *name;
  /* Device number `index`; of -1 - n number n, counted round and round. NULL with a reason in why, such as a library
   * that is missing. */
  RtDevice *(*open)(int index, char *why, size_t nwhy);
  /* How many there are; -1 with a reason. */
  int (*count)(char *why, size_t nwhy);
} RtDeviceKind;
const RtDeviceKind *rt_device_kind(const char *name); /* NULL: none of that name */
extern const RtDeviceKind rt_cuda;
#endif
