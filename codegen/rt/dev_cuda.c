/* CUDA devices through the driver's library, found at run time (device.h). */
#include "codegen/rt/clock.h"
#include "codegen/rt/dev_cuda_api.h"
#include "codegen/rt/device.h"
#include "codegen/rt/hash.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STREAMS = 4, PIECES = 4, PIECE_BYTES = 512 << 10, PIECE_ALIGN = 16 };

/* Pinned memory that `put` copies through: when an asynchronous copy reads pageable memory the driver does not say.
 * Pieces are filled one after the other; one is filled anew when its mark has been reached. */
typedef struct Piece {
  size_t used;
  void *stream; /* its copies are queued there */
  RtMark *mark; /* behind them, */
  bool marked;  /* once the next piece is begun */
} Piece;

typedef struct Cuda {
  RtDevice dev;
  CudaDriver cu;
  void *lib;
  int id;
  bool retained, entered;
  pthread_t by; /* the thread that entered */
  void *ctx;
  void *stream, *first, *side; /* where work goes now; where it goes by itself; of put_ahead, NULL until it is needed */
  void *other[MAX_STREAMS];    /* that were asked for */
  char *pinned;                /* PIECES of PIECE_BYTES, NULL until they are needed */
  Piece piece[PIECES];
  int filling;
} Cuda;

/* ---- The library ------------------------------------------------------------------------------------------------- */
static const char *error_text(const CudaDriver *cu, CuResult r, char *buf, size_t n) {
  const char *name = NULL, *text = NULL;
  cu->cuGetErrorName(r, &name);
  cu->cuGetErrorString(r, &text);
  snprintf(buf, n, "%s (%s)", text ? text : "unknown error", name ? name : "no name");
  return buf;
}

/* TG_CUDA_DRIVER names another library, for tests. */
static void *driver_open(CudaDriver *cu, char *why, size_t nwhy) {
  const char *path = getenv("TG_CUDA_DRIVER");
  bool given = path && *path;
  void *lib = dlopen(given ? path : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE); /* it starts threads */
  if (!lib) {
    snprintf(why, nwhy, "the CUDA driver is missing: %s%s", dlerror(),
             given ? " (TG_CUDA_DRIVER)" : "; install the NVIDIA driver");
    return NULL;
  }
  struct {
    const char *name;
    void **at;
  } entry[] = {
#define ENTRY(name, params) {#name, (void **)(void *)&cu->name},
      CUDA_DRIVER(ENTRY)
#undef ENTRY
  };
  for (size_t i = 0; i < sizeof entry / sizeof *entry; i++) {
    *entry[i].at = dlsym(lib, entry[i].name);
    if (*entry[i].at) continue;
    snprintf(why, nwhy, "the CUDA driver is too old: it has no %s; CUDA 11.4 or later is needed", entry[i].name);
    dlclose(lib);
    return NULL;
  }
  CuResult r = cu->cuInit(0);
  if (!r) return lib;
  char text[160];
  snprintf(why, nwhy, "the CUDA driver does not start: %s", error_text(cu, r, text, sizeof text));
  dlclose(lib);
  return NULL;
}

static int device_count(const CudaDriver *cu, char *why, size_t nwhy) {
  int n = 0;
  char text[160];
  CuResult r = cu->cuDeviceGetCount(&n);
  if (!r) return n;
  snprintf(why, nwhy, "the CUDA driver gives no devices: %s", error_text(cu, r, text, sizeof text));
  return -1;
}

static int cuda_count(char *why, size_t nwhy) {
  CudaDriver cu;
  void *lib = driver_open(&cu, why, nwhy);
  if (!lib) return -1;
  int n = device_count(&cu, why, nwhy);
  dlclose(lib);
  return n;
}

/* ---- Results ----------------------------------------------------------------------------------------------------- */
static Cuda *of(RtDevice *d) { return (Cuda *)(void *)d; }

static bool done(RtDevice *d, CuResult r, const char *what) {
  char text[160];
  if (!r) return true;
  snprintf(d->why, sizeof d->why, "%s failed: %s", what, error_text(&of(d)->cu, r, text, sizeof text));
  return false;
}

/* ---- Waiting ----------------------------------------------------------------------------------------------------- */
/* What is waited for has not come yet. False: it comes to nothing. */
static bool go_on_waiting(RtDevice *d, int *tries) {
  RtWatch *w = &d->watch;
  if (!w->look(w->ctx, d->why, sizeof d->why)) {
    w->given_up = true;
    return false;
  }
  rt_wait_longer(tries); /* those that it waits for may need this core */
  return true;
}
/* Until `query` of a stream or an event says that it is done; `wait` waits for it without watching. */
static bool settled(RtDevice *d, void *work, CuResult (*query)(void *), CuResult (*wait)(void *), const char *what) {
  int tries = 0;
  if (!d->watch.look) {
    CuResult r = wait(work);
    if (r) wait(work); /* it may have been of the moment; what is queued knows memory that the caller gives up */
    return done(d, r, what);
  }
  while (!d->watch.given_up) {
    CuResult r = query(work);
    if (r != CU_NOT_READY) return done(d, r, what);
    if (!go_on_waiting(d, &tries)) break;
  }
  wait(work); /* the reason is known */
  return false;
}
static bool stream_settled(RtDevice *d, void *stream, const char *what) {
  return settled(d, stream, of(d)->cu.cuStreamQuery, of(d)->cu.cuStreamSynchronize, what);
}
static bool event_settled(RtDevice *d, void *event, const char *what) {
  return settled(d, event, of(d)->cu.cuEventQuery, of(d)->cu.cuEventSynchronize, what);
}
/* The driver may wait inside a copy to pageable memory, where nobody could watch: so before it. */
static bool settled_before_copy(RtDevice *d, size_t bytes) {
  return !d->watch.look || !bytes || stream_settled(d, of(d)->stream, "a kernel");
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */
static CuPtr ptr(const void *p) { return (CuPtr)(uintptr_t)p; }

static bool cuda_alloc(RtDevice *d, size_t bytes, void **p) {
  CuPtr at = 0;
  CuResult r = of(d)->cu.cuMemAlloc_v2(&at, bytes ? bytes : 1);
  *p = r ? NULL : (void *)(uintptr_t)at;
  if (!r) return true;
  char text[160];
  snprintf(d->why, sizeof d->why, "%zu MiB on %s were refused: %s", bytes >> 20, d->name,
           error_text(&of(d)->cu, r, text, sizeof text));
  return false;
}
static void cuda_release(RtDevice *d, void *p) {
  if (p) of(d)->cu.cuMemFree_v2(ptr(p));
}
static bool cuda_pin(RtDevice *d, size_t bytes, void **p) {
  *p = NULL;
  return done(d, of(d)->cu.cuMemHostAlloc(p, bytes ? bytes : 1, 0), "allocating pinned memory");
}
static void cuda_unpin(RtDevice *d, void *p) {
  if (p) of(d)->cu.cuMemFreeHost(p);
}
static bool put_on(RtDevice *d, void *stream, void *dst, const void *pinned, size_t bytes) {
  return !bytes || done(d, of(d)->cu.cuMemcpyHtoDAsync_v2(ptr(dst), pinned, bytes, stream), "copying to the device");
}
static bool cuda_put_async(RtDevice *d, void *dst, const void *src, size_t bytes) {
  return put_on(d, of(d)->stream, dst, src, bytes);
}
static bool cuda_get_async(RtDevice *d, void *dst, const void *src, size_t bytes) {
  if (!settled_before_copy(d, bytes)) return false;
  return !bytes ||
         done(d, of(d)->cu.cuMemcpyDtoHAsync_v2(dst, ptr(src), bytes, of(d)->stream), "copying from the device");
}
static bool cuda_get(RtDevice *d, void *dst, const void *src, size_t bytes) {
  return cuda_get_async(d, dst, src, bytes) && stream_settled(d, of(d)->stream, "a kernel");
}
static bool cuda_copy(RtDevice *d, void *dst, const void *src, size_t bytes) {
  return !bytes ||
         done(d, of(d)->cu.cuMemcpyDtoDAsync_v2(ptr(dst), ptr(src), bytes, of(d)->stream), "copying on the device");
}
static bool cuda_zero(RtDevice *d, void *dst, size_t bytes) {
  return !bytes || done(d, of(d)->cu.cuMemsetD8Async(ptr(dst), 0, bytes, of(d)->stream), "clearing device memory");
}

/* ---- Code -------------------------------------------------------------------------------------------------------- */
static bool cuda_load(RtDevice *d, const void *image, RtModule **m) {
  void *module = NULL;
  bool ok = done(d, of(d)->cu.cuModuleLoadData(&module, image), "loading a kernel");
  *m = ok ? module : NULL;
  return ok;
}
static void cuda_unload(RtDevice *d, RtModule *m) {
  if (m) of(d)->cu.cuModuleUnload(m);
}
static bool cuda_function(RtDevice *d, RtModule *m, const char *name, RtFunction **f) {
  void *at = NULL;
  bool ok = done(d, of(d)->cu.cuModuleGetFunction(&at, m, name), "finding a kernel");
  *f = ok ? at : NULL;
  return ok;
}
static bool cuda_launch(RtDevice *d, RtFunction *f, uint32_t grid, uint32_t block, const void *args) {
  void *param[1] = {(void *)(uintptr_t)args};
  return done(d, of(d)->cu.cuLaunchKernel(f, grid, 1, 1, block, 1, 1, 0, of(d)->stream, param, NULL),
              "launching a kernel");
}
/* All streams: after it nothing is queued. */
static bool cuda_wait(RtDevice *d) {
  Cuda *c = of(d);
  bool ok = stream_settled(d, c->first, "a kernel");
  if (c->side) ok = stream_settled(d, c->side, "copying to the device") && ok;
  for (int i = 0; i < MAX_STREAMS; i++)
    if (c->other[i]) ok = stream_settled(d, c->other[i], "work on another stream") && ok;
  return ok;
}

/* ---- Marks and recorded work ------------------------------------------------------------------------------------- */
static bool mark_in(RtDevice *d, void *stream, RtMark **m) {
  Cuda *c = of(d);
  void *e = *m;
  if (!e && !done(d, c->cu.cuEventCreate(&e, CU_EVENT_DISABLE_TIMING), "making an event")) return false;
  *m = e;
  return done(d, c->cu.cuEventRecord(e, stream), "recording an event");
}
static bool cuda_mark(RtDevice *d, RtMark **m) { return mark_in(d, of(d)->stream, m); }

/* The piece to go on with, of which some room is left. */
static Piece *room_to_put(RtDevice *d) {
  Cuda *c = of(d);
  Piece *x = &c->piece[c->filling];
  if (!c->pinned) {
    void *at;
    if (!cuda_pin(d, (size_t)PIECES * PIECE_BYTES, &at)) return NULL;
    c->pinned = at;
  }
  if (!x->used) x->stream = c->stream;
  if (x->used < PIECE_BYTES && x->stream == c->stream) return x;
  if (!mark_in(d, x->stream, &x->mark)) return NULL;
  x->marked = true;
  c->filling = (c->filling + 1) % PIECES;
  x = &c->piece[c->filling];
  if (x->marked && !event_settled(d, x->mark, "copying to the device")) return NULL;
  *x = (Piece){.stream = c->stream, .mark = x->mark};
  return x;
}
static bool cuda_put(RtDevice *d, void *dst, const void *src, size_t bytes) {
  const char *from = src;
  for (char *to = dst; bytes;) {
    Piece *x = room_to_put(d);
    if (!x) return false;
    size_t room = PIECE_BYTES - x->used, n = bytes < room ? bytes : room;
    char *at = of(d)->pinned + (size_t)of(d)->filling * PIECE_BYTES + x->used;
    memcpy(at, from, n);
    x->used += (n + PIECE_ALIGN - 1) / PIECE_ALIGN * PIECE_ALIGN;
    if (!cuda_put_async(d, to, at, n)) return false;
    to += n, from += n, bytes -= n;
  }
  return true;
}
static void drop_pieces(Cuda *c) {
  for (int i = 0; i < PIECES; i++)
    if (c->piece[i].mark) c->cu.cuEventDestroy_v2(c->piece[i].mark);
  cuda_unpin(&c->dev, c->pinned);
}
static bool cuda_put_ahead(RtDevice *d, void *dst, const void *src, size_t bytes) {
  Cuda *c = of(d);
  if (!c->side && !done(d, c->cu.cuStreamCreate(&c->side, CU_STREAM_NON_BLOCKING), "making a stream")) return false;
  return put_on(d, c->side, dst, src, bytes);
}
static bool cuda_mark_ahead(RtDevice *d, RtMark **m) { return mark_in(d, of(d)->side, m); }
static bool cuda_join(RtDevice *d, RtMark *m) {
  return done(d, of(d)->cu.cuStreamWaitEvent(of(d)->stream, m, 0), "waiting for another stream");
}
static bool cuda_wait_mark(RtDevice *d, RtMark *m) { return event_settled(d, m, "a kernel"); }
static bool cuda_reached(RtDevice *d, RtMark *m, bool *yes) {
  CuResult r = of(d)->cu.cuEventQuery(m);
  *yes = r == 0;
  return r == CU_NOT_READY || done(d, r, "a kernel");
}
static void cuda_drop_mark(RtDevice *d, RtMark *m) {
  if (m) of(d)->cu.cuEventDestroy_v2(m);
}
static bool cuda_record(RtDevice *d) {
  return done(d, of(d)->cu.cuStreamBeginCapture_v2(of(d)->stream, CU_CAPTURE_THREAD_LOCAL), "beginning a capture");
}
static bool cuda_recorded(RtDevice *d, RtTape **t) {
  Cuda *c = of(d);
  void *graph = NULL, *exec = NULL;
  *t = NULL;
  bool ok = done(d, c->cu.cuStreamEndCapture(c->stream, &graph), "ending a capture");
  if (ok) ok = done(d, c->cu.cuGraphInstantiateWithFlags(&exec, graph, 0), "making a graph");
  if (graph) c->cu.cuGraphDestroy(graph);
  if (ok) *t = exec;
  return ok;
}
static bool cuda_replay(RtDevice *d, RtTape *t) {
  return done(d, of(d)->cu.cuGraphLaunch(t, of(d)->stream), "launching a graph");
}
static void cuda_drop_tape(RtDevice *d, RtTape *t) {
  if (t) of(d)->cu.cuGraphExecDestroy(t);
}

/* ---- Opening ----------------------------------------------------------------------------------------------------- */
/* The caller's context comes back with leave. Entered twice by one thread is entered once. */
static bool cuda_enter(RtDevice *d) {
  if (of(d)->entered && pthread_equal(of(d)->by, pthread_self())) return true;
  of(d)->by = pthread_self();
  return of(d)->entered = done(d, of(d)->cu.cuCtxPushCurrent_v2(of(d)->ctx), "entering the context");
}
static void cuda_leave(RtDevice *d) {
  void *ctx;
  if (of(d)->entered) of(d)->cu.cuCtxPopCurrent_v2(&ctx);
  of(d)->entered = false;
}

static bool cuda_stream(RtDevice *d, RtStream **s) {
  Cuda *c = of(d);
  int i = 0;
  void *made = NULL;
  *s = NULL;
  while (i < MAX_STREAMS && c->other[i]) i++;
  if (i == MAX_STREAMS) {
    snprintf(d->why, sizeof d->why, "more than %d further streams", MAX_STREAMS);
    return false;
  }
  if (!done(d, c->cu.cuStreamCreate(&made, CU_STREAM_NON_BLOCKING), "making a stream")) return false;
  *s = c->other[i] = made;
  return true;
}
static void cuda_to(RtDevice *d, RtStream *s) { of(d)->stream = s ? (void *)s : of(d)->first; }
static void cuda_drop_stream(RtDevice *d, RtStream *s) {
  Cuda *c = of(d);
  for (int i = 0; s && i < MAX_STREAMS; i++) {
    if (c->other[i] != (void *)s) continue;
    c->cu.cuStreamDestroy_v2(s);
    c->other[i] = NULL;
    Piece *x = &c->piece[c->filling];
    if (x->stream == (void *)s) x->used = 0; /* nothing is queued there */
  }
}

static void cuda_close(RtDevice *d) {
  Cuda *c = of(d);
  for (int i = 0; i < MAX_STREAMS; i++) cuda_drop_stream(d, c->other[i]);
  if (c->side) c->cu.cuStreamDestroy_v2(c->side);
  if (c->first) c->cu.cuStreamDestroy_v2(c->first);
  if (c->pinned && c->entered) drop_pieces(c);
  cuda_leave(d);
  if (c->retained) c->cu.cuDevicePrimaryCtxRelease_v2(c->id);
  if (c->lib) dlclose(c->lib);
  free(c);
}

static const RtDeviceOps ops = {
    .kind = "cuda",
    .close = cuda_close,
    .enter = cuda_enter,
    .leave = cuda_leave,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .pin = cuda_pin,
    .unpin = cuda_unpin,
    .put = cuda_put,
    .put_async = cuda_put_async,
    .put_ahead = cuda_put_ahead,
    .mark_ahead = cuda_mark_ahead,
    .join = cuda_join,
    .get = cuda_get,
    .get_async = cuda_get_async,
    .copy = cuda_copy,
    .zero = cuda_zero,
    .load = cuda_load,
    .unload = cuda_unload,
    .function = cuda_function,
    .launch = cuda_launch,
    .wait = cuda_wait,
    .mark = cuda_mark,
    .wait_mark = cuda_wait_mark,
    .reached = cuda_reached,
    .drop_mark = cuda_drop_mark,
    .record = cuda_record,
    .recorded = cuda_recorded,
    .replay = cuda_replay,
    .drop_tape = cuda_drop_tape,
    .stream = cuda_stream,
    .to = cuda_to,
    .drop_stream = cuda_drop_stream,
};

static bool start(Cuda *c, int index) {
  RtDevice *d = &c->dev;
  int major = 0, minor = 0;
  CuUuid uuid = {{0}};
  return done(d, c->cu.cuDeviceGet(&c->id, index), "opening the device") &&
         done(d, c->cu.cuDeviceGetName(d->name, sizeof d->name, c->id), "asking for the device's name") &&
         done(d, c->cu.cuDeviceGetAttribute(&major, CU_MAJOR, c->id), "asking for the device's architecture") &&
         done(d, c->cu.cuDeviceGetAttribute(&minor, CU_MINOR, c->id), "asking for the device's architecture") &&
         done(d, c->cu.cuDeviceTotalMem_v2(&d->memory, c->id), "asking for the device's memory") &&
         done(d, c->cu.cuDriverGetVersion(&d->driver), "asking for the driver's version") &&
         (d->arch = 10 * major + minor, true) &&
         done(d, c->cu.cuDeviceGetUuid_v2(&uuid, c->id), "asking for the device's identity") &&
         (d->unit = rt_hash(RT_HASH, uuid.byte, sizeof uuid.byte), true) &&
         (c->retained = done(d, c->cu.cuDevicePrimaryCtxRetain(&c->ctx, c->id), "starting a context")) &&
         cuda_enter(d) && done(d, c->cu.cuStreamCreate(&c->first, CU_STREAM_NON_BLOCKING), "making a stream") &&
         (c->stream = c->first, true);
}

static RtDevice *cuda_open(int index, char *why, size_t nwhy) {
  Cuda *c = calloc(1, sizeof *c);
  if (!c) {
    snprintf(why, nwhy, "out of memory");
    return NULL;
  }
  c->dev.op = &ops;
  c->lib = driver_open(&c->cu, why, nwhy);
  int n = c->lib ? device_count(&c->cu, why, nwhy) : -1;
  if (index < 0) index = n > 0 ? (-1 - index) % n : 0;
  bool ok = n > index;
  if (n >= 0 && !ok)
    snprintf(why, nwhy, n ? "there is no CUDA device %d: the driver shows %d" : "the CUDA driver shows no device",
             index, n);
  if (ok && !start(c, index)) {
    snprintf(why, nwhy, "%s", c->dev.why);
    ok = false;
  }
  if (ok && c->dev.arch < 75) {
    snprintf(why, nwhy, "%s is of compute capability %d.%d; 7.5 or later is needed", c->dev.name, c->dev.arch / 10,
             c->dev.arch % 10);
    ok = false;
  }
  if (ok) return &c->dev;
  cuda_close(&c->dev);
  return NULL;
}

const RtDeviceKind rt_cuda = {"cuda", cuda_open, cuda_count};

const RtDeviceKind *rt_device_kind(const char *name) {
  static const RtDeviceKind *const kind[] = {&rt_cuda};
  for (size_t i = 0; i < sizeof kind / sizeof *kind; i++)
    if (!strcmp(kind[i]->name, name)) return kind[i];
  return NULL;
}
