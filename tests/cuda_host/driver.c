/* The driver's entry points (fake.h).
 *
 *   Op     queued work: a copy, a clearing, a launch, a wait for another stream. Runs when something waits for it
 *   Stream ops in order, counted; an Event is a place in one
 *   Piece  device memory: closed to the host (PROT_NONE) while no work runs */
#include "codegen/rt/dev_cuda_api.h"
#include "tests/cuda_host/fake.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
  OUT_OF_MEMORY = 2,
  INVALID = 1,
  NOT_FOUND = 500,
  BAD_IMAGE = 200,
  UNSUPPORTED_IN_CAPTURE = 900,
  BAD_CONTEXT = 201,
  OTHER_QUEUE = 999
};

typedef enum { OP_COPY, OP_ZERO, OP_LAUNCH, OP_JOIN, OP_WORK } OpKind;
typedef struct Module {
  struct Module *next;
  void *lib;
  struct TgShim **shim;
  size_t args, scratch;
  bool waits, racing;
  int cut;
} Module;
typedef struct Function {
  struct Function *next;
  Module *of;
  void (*fn)(const void *);
} Function;
typedef struct Op {
  struct Op *next;
  OpKind kind;
  char *dst;
  const char *src;
  size_t n;
  void *held; /* bytes taken at once, or a launch's arguments */
  const Function *f;
  uint32_t grid, block;
  struct Stream *of; /* JOIN: as many ops of that stream come before */
  long count;
  FakeWork work;
} Op;
typedef struct Ops {
  Op *first, **last;
} Ops;
typedef struct Stream {
  struct Stream *next;
  Ops ops;
  long queued, done;
} Stream;
typedef struct Event {
  Stream *of;
  long count;
} Event;
typedef struct Piece {
  struct Piece *next;
  char *at;
  size_t n, mapped;
  bool host;
} Piece;
typedef struct Graph {
  Ops ops;
} Graph;

enum { MAX_CALLS = 64 };
static struct Fake {
  int calls[MAX_CALLS];
  const char *name[MAX_CALLS];
  int ncall;
  int lost;    /* the result of all calls from now on */
  bool closed; /* the context was not let in last time */
  int contexts, streams, modules, events, graphs, execs;
  Piece *pieces;
  Function *functions;
  Module *module;
  Stream *stream;
  Ops *capture;
  void *capture_on; /* the stream that is recorded; others go on */
  Graph *capturing;
  bool bad_capture;
  bool misused;
  int flushes;
  void (*at_end)(void);
} fake;

/* One call at a time, whatever the threads: each entry point holds this to its end. */
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static int hold(void) { return pthread_mutex_lock(&lock); }
static void let_go(int *held) { pthread_mutex_unlock(&lock), (void)held; }
#define HOLD __attribute__((cleanup(let_go), unused)) int held_ = hold()

/* ---- Failures ---------------------------------------------------------------------------------------------------- */
int fake_fails(const char *call) {
  HOLD;
  int i = 0;
  while (i < fake.ncall && strcmp(fake.name[i], call)) i++;
  if (i == fake.ncall) fake.name[fake.ncall++] = call;
  fake.calls[i]++;
  if (fake.lost) return fake.lost;
  const char *want = getenv("TG_FAKE_FAIL");
  size_t n = strlen(call);
  if (!want || strncmp(want, call, n) || want[n] != ':') return 0;
  char *more;
  long number = strtol(want + n + 1, &more, 10);
  if (*more == '+' ? fake.calls[i] < number : fake.calls[i] != number) return 0;
  const char *result = strchr(more, ':');
  int r = result ? atoi(result + 1) : OUT_OF_MEMORY;
  if (r >= 700 && r < 900) fake.lost = r;
  return r;
}
#define CALL(name)                                                                                                     \
  HOLD;                                                                                                                \
  do {                                                                                                                 \
    int fails_ = fake_fails(#name);                                                                                    \
    if (fails_) return fails_;                                                                                         \
  } while (0)

void fake_misuse(const char *what) {
  fprintf(stderr, "fake driver: %s\n", what);
  fake.misused = true;
}

/* What may not be done while this thread records: the recording is lost. */
static bool breaks_capture(void) {
  if (fake.capture) fake.bad_capture = true;
  return fake.capture != NULL;
}

/* Contexts entered by this thread. What works in one says so by CALL_IN. */
static _Thread_local int entered;
#define CALL_IN(name)                                                                                                  \
  CALL(name);                                                                                                          \
  do {                                                                                                                 \
    if (entered < 1) {                                                                                                 \
      fake_misuse(#name " outside a context");                                                                         \
      return BAD_CONTEXT;                                                                                              \
    }                                                                                                                  \
  } while (0)

__attribute__((destructor)) static void at_end(void) {
  int device = 0, pinned = 0;
  for (Piece *p = fake.pieces; p; p = p->next) p->host ? pinned++ : device++;
  if (!fake.lost &&
      (device || pinned || fake.contexts || fake.streams || fake.modules || fake.events || fake.graphs || fake.execs))
    fprintf(stderr,
            "fake driver: not freed: %d device, %d pinned, %d contexts, %d streams, %d modules, %d events, %d graphs, "
            "%d execs\n",
            device, pinned, fake.contexts, fake.streams, fake.modules, fake.events, fake.graphs, fake.execs);
  const char *path = getenv("TG_FAKE_COUNT");
  FILE *f = path ? fopen(path, "a") : NULL;
  for (int i = 0; f && i < fake.ncall; i++) fprintf(f, "%s %d\n", fake.name[i], fake.calls[i]);
  if (f) fclose(f);
}

/* The thing is gone, whatever the call says. */
#define CALL_FREE(name, ...)                                                                                           \
  HOLD;                                                                                                                \
  __VA_ARGS__;                                                                                                         \
  do {                                                                                                                 \
    int fails_ = fake_fails(#name);                                                                                    \
    if (fails_) return fails_;                                                                                         \
  } while (0)

/* ---- Memory ------------------------------------------------------------------------------------------------------ */
static Piece *piece_of(const void *p, size_t n) {
  for (Piece *x = fake.pieces; x; x = x->next)
    if ((const char *)p >= x->at && (const char *)p + n <= x->at + x->n) return x;
  return NULL;
}
bool fake_on_device(const void *at) {
  Piece *x = piece_of(at, 1);
  return x && !x->host;
}
/* Closed for the first waits only: it costs time by the page. */
static void open_memory(int how) {
  if (how == PROT_NONE && fake.flushes++ > 200) return;
  if (how != PROT_NONE && fake.flushes > 201) return;
  for (Piece *x = fake.pieces; x; x = x->next)
    if (!x->host) mprotect(x->at, x->mapped, how);
}
static int piece_new(size_t n, bool host, char **at) {
  Piece *x = calloc(1, sizeof *x);
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  x->n = n;
  x->mapped = (n + page - 1) / page * page;
  x->host = host;
  x->at = mmap(NULL, x->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (x->at == MAP_FAILED) {
    free(x);
    return OUT_OF_MEMORY;
  }
  if (n < (size_t)64 << 20) memset(x->at, 0xff, n); /* nan, -1: whoever reads what nothing wrote sees it */
  if (!host && fake.flushes <= 201) mprotect(x->at, x->mapped, PROT_NONE);
  x->next = fake.pieces;
  fake.pieces = x;
  *at = x->at;
  return 0;
}
/* Some op still queued reads or writes x. A launch does what its arguments point to. */
static bool in_use(const Piece *x) {
  for (Stream *t = fake.stream; t; t = t->next)
    for (Op *op = t->ops.first; op; op = op->next) {
      const char *at[] = {op->kind == OP_JOIN ? NULL : op->dst,
                          op->kind == OP_COPY && op->src != op->held ? op->src : NULL};
      for (int k = 0; k < 2; k++)
        if (at[k] >= x->at && at[k] < x->at + x->n) return true;
      if (op->kind == OP_WORK && op->work.touches(op->work.ctx, x->at, x->at + x->n)) return true;
      for (size_t k = 0; op->kind == OP_LAUNCH && k + sizeof(char *) <= op->n; k += sizeof(char *)) {
        const char *arg;
        memcpy(&arg, (char *)op->held + k, sizeof arg);
        if (arg >= x->at && arg < x->at + x->n) return true;
      }
    }
  return false;
}
static int piece_free(void *p, bool host) {
  for (Piece **at = &fake.pieces; *at; at = &(*at)->next)
    if ((*at)->at == (char *)p && (*at)->host == host) {
      Piece *x = *at;
      if (in_use(x) && !fake.lost) fake_misuse("memory is freed while work on it is queued");
      *at = x->next;
      munmap(x->at, x->mapped);
      free(x);
      return 0;
    }
  fake_misuse("what is freed is no allocation");
  return INVALID;
}

/* ---- The queue --------------------------------------------------------------------------------------------------- */
static void ops_add(Ops *q, Op *op) {
  if (!q->first) q->last = &q->first;
  *q->last = op;
  q->last = &op->next;
  op->next = NULL;
}
static void op_free(Op *op) {
  if (op->kind == OP_WORK) op->work.drop(op->work.ctx);
  free(op->held);
  free(op);
}
static Op *op_copy(const Op *op) {
  Op *c = malloc(sizeof *c);
  *c = *op;
  if (op->held) {
    c->held = malloc(op->n + 1);
    memcpy(c->held, op->held, op->n);
    if (op->src == op->held) c->src = c->held;
  }
  return c;
}
static Order order(void) {
  const char *s = getenv("TG_FAKE_ORDER");
  return s && *s == 'r' ? ORDER_REVERSE : s && *s == 's' ? ORDER_SHUFFLE : ORDER_FORWARD;
}
static int op_run(const Op *op) {
  if (op->kind == OP_COPY) memmove(op->dst, op->src, op->n);
  if (op->kind == OP_ZERO) memset(op->dst, 0, op->n);
  if (op->kind != OP_LAUNCH) return 0;
  const Module *m = op->f->of;
  Launch l = {.fn = op->f->fn,
              .args = op->held,
              .shim = m->shim,
              .waits = m->waits,
              .racing = m->racing,
              .cut = m->cut,
              .grid = op->grid,
              .block = op->block,
              .order = order()};
  char *last[3] = {NULL, NULL, NULL}; /* of TgArgs: the record, the scratch, the site */
  if (m->args >= sizeof last) memcpy(last, (char *)op->held + m->args - sizeof last, sizeof last);
  l.record = last[0];
  l.end = last[1] + m->scratch;
  return fibers_run(&l);
}
/* FAKE_NOT_YET: something before `count` waits for another process. */
static int run_until(Stream *s, long count) {
  int r = 0;
  while (s->done < count && s->ops.first) {
    Op *op = s->ops.first;
    if (!r)
      r = op->kind == OP_JOIN   ? run_until(op->of, op->count)
          : op->kind == OP_WORK ? op->work.step(op->work.ctx)
                                : op_run(op);
    if (r == FAKE_NOT_YET) return r;
    s->ops.first = op->next;
    s->done++;
    op_free(op);
  }
  return r;
}
/* A query does what can be done now. */
static int flush(Stream *s, long count, bool waits) {
  if (breaks_capture()) return UNSUPPORTED_IN_CAPTURE;
  if (s->done >= count) return fake.lost;
  open_memory(PROT_READ | PROT_WRITE);
  int r = run_until(s, count);
  while (waits && r == FAKE_NOT_YET) {
    usleep(50);
    r = run_until(s, count);
  }
  if (r == FAKE_NOT_YET) fake.flushes--; /* not one of those that are seen closed */
  open_memory(PROT_NONE);
  if (r == FAKE_NOT_YET) return CU_NOT_READY;
  if (r) fake.lost = r;
  return r;
}
static int queue(void *stream, Op op) {
  Stream *s = stream;
  Op *o = op_copy(&op);
  bool recorded = fake.capture && stream == fake.capture_on;
  ops_add(recorded ? fake.capture : &s->ops, o);
  if (!recorded) s->queued++;
  return 0;
}

int fake_queue(void *stream, const FakeWork *w) {
  HOLD;
  if (fake.capture) return w->drop(w->ctx), fake.bad_capture = true, UNSUPPORTED_IN_CAPTURE;
  if (fake.lost) return w->drop(w->ctx), fake.lost;
  for (Stream *s = fake.stream; s; s = s->next)
    if (s == stream) return queue(stream, (Op){.kind = OP_WORK, .work = *w});
  fake_misuse("work for a stream of another driver");
  return w->drop(w->ctx), OTHER_QUEUE;
}

/* ---- The context ------------------------------------------------------------------------------------------------- */
static void module_free(Module *m) {
  for (Function **at = &fake.functions, *f; (f = *at);) {
    if (f->of != m) {
      at = &f->next;
      continue;
    }
    *at = f->next;
    free(f);
  }
  Module **at = &fake.module;
  while (*at != m) at = &(*at)->next;
  *at = m->next;
  dlclose(m->lib);
  free(m);
  fake.modules--;
}
/* The last hold on a context takes memory and code along. Nobody may count on that who can still enter it. */
static void context_free(void) {
  while (fake.pieces) piece_free(fake.pieces->at, fake.pieces->host);
  while (fake.module) module_free(fake.module);
}

/* ---- Entry points ------------------------------------------------------------------------------------------------ */
CuResult cuInit(unsigned flags) {
  CALL(cuInit);
  return 0;
}
CuResult cuDriverGetVersion(int *version) {
  CALL(cuDriverGetVersion);
  const char *s = getenv("TG_FAKE_DRIVER");
  *version = s ? atoi(s) : 12040;
  return 0;
}
CuResult cuDeviceGetCount(int *n) {
  CALL(cuDeviceGetCount);
  const char *s = getenv("TG_FAKE_DEVICES");
  *n = s ? atoi(s) : 1;
  return 0;
}
CuResult cuDeviceGet(int *dev, int index) {
  CALL(cuDeviceGet);
  *dev = index;
  return 0;
}
CuResult cuDeviceGetName(char *name, int n, int dev) {
  CALL(cuDeviceGetName);
  snprintf(name, (size_t)n, "Fake device");
  return 0;
}
CuResult cuDeviceGetAttribute(int *value, int what, int dev) {
  CALL(cuDeviceGetAttribute);
  const char *s = getenv("TG_FAKE_ARCH");
  int arch = s ? atoi(s) : 80;
  *value = what == CU_MAJOR ? arch / 10 : what == CU_MINOR ? arch % 10 : 0;
  return 0;
}
CuResult cuDeviceTotalMem_v2(size_t *bytes, int dev) {
  CALL(cuDeviceTotalMem_v2);
  *bytes = (size_t)8 << 30;
  return 0;
}
CuResult cuDeviceGetUuid_v2(CuUuid *uuid, int dev) {
  CALL(cuDeviceGetUuid_v2);
  *uuid = (CuUuid){{(unsigned char)(dev + 1)}};
  return 0;
}
CuResult cuDevicePrimaryCtxRetain(void **ctx, int dev) {
  CALL(cuDevicePrimaryCtxRetain);
  *ctx = &fake;
  fake.contexts++;
  return 0;
}
void fake_at_end(void (*fn)(void)) { fake.at_end = fn; }
CuResult cuDevicePrimaryCtxRelease_v2(int dev) {
  CALL_FREE(cuDevicePrimaryCtxRelease_v2, if (!--fake.contexts && fake.closed) context_free();
            if (fake.at_end) fake.at_end());
  return 0;
}
CuResult cuCtxPushCurrent_v2(void *ctx) {
  HOLD;
  int r = fake_fails("cuCtxPushCurrent_v2");
  fake.closed = r != 0;
  if (r) return r;
  if (ctx != &fake) return BAD_CONTEXT;
  entered++;
  return 0;
}
CuResult cuCtxPopCurrent_v2(void **ctx) {
  HOLD;
  *ctx = &fake;
  if (entered-- < 1) fake_misuse("a context is left that was not entered");
  return fake_fails("cuCtxPopCurrent_v2");
}
CuResult cuMemAlloc_v2(CuPtr *p, size_t n) {
  char *at = NULL;
  CALL_IN(cuMemAlloc_v2);
  if (breaks_capture()) return UNSUPPORTED_IN_CAPTURE;
  const char *most = getenv("TG_FAKE_MEMORY");
  size_t taken = n;
  for (Piece *x = fake.pieces; x; x = x->next) taken += x->host ? 0 : x->n;
  int r = taken > (most ? (size_t)atoll(most) : (size_t)8 << 30) ? OUT_OF_MEMORY : piece_new(n, false, &at);
  *p = (CuPtr)(uintptr_t)at;
  return r;
}
CuResult cuMemFree_v2(CuPtr p) {
  CALL_FREE(cuMemFree_v2, int r = piece_free((void *)(uintptr_t)p, false));
  return r;
}
CuResult cuMemHostAlloc(void **p, size_t n, unsigned flags) {
  char *at = NULL;
  CALL_IN(cuMemHostAlloc);
  if (breaks_capture()) return UNSUPPORTED_IN_CAPTURE;
  int r = piece_new(n, true, &at);
  *p = at;
  return r;
}
CuResult cuMemFreeHost(void *p) {
  CALL_FREE(cuMemFreeHost, int r = piece_free(p, true));
  return r;
}
static bool on_device(CuPtr p, size_t n) {
  Piece *x = piece_of((void *)(uintptr_t)p, n);
  if (x && !x->host) return true;
  fake_misuse("an address is not device memory");
  return false;
}
CuResult cuMemcpyHtoDAsync_v2(CuPtr dst, const void *src, size_t n, void *stream) {
  CALL_IN(cuMemcpyHtoDAsync_v2);
  if (!on_device(dst, n)) return INVALID;
  Piece *x = piece_of(src, n);
  Op op = {.kind = OP_COPY, .dst = (char *)(uintptr_t)dst, .src = src, .n = n};
  if (!x || !x->host) fake_misuse("bytes come from memory that is not pinned: when they are read nobody knows");
  return queue(stream, op);
}
CuResult cuMemcpyDtoHAsync_v2(void *dst, CuPtr src, size_t n, void *stream) {
  CALL_IN(cuMemcpyDtoHAsync_v2);
  if (!on_device(src, n)) return INVALID;
  if (fake.capture) return fake.bad_capture = true, UNSUPPORTED_IN_CAPTURE;
  return queue(stream, (Op){.kind = OP_COPY, .dst = dst, .src = (char *)(uintptr_t)src, .n = n});
}
CuResult cuMemcpyDtoDAsync_v2(CuPtr dst, CuPtr src, size_t n, void *stream) {
  CALL_IN(cuMemcpyDtoDAsync_v2);
  if (!on_device(dst, n) || !on_device(src, n)) return INVALID;
  return queue(stream, (Op){.kind = OP_COPY, .dst = (char *)(uintptr_t)dst, .src = (char *)(uintptr_t)src, .n = n});
}
CuResult cuMemsetD8Async(CuPtr dst, unsigned char v, size_t n, void *stream) {
  CALL_IN(cuMemsetD8Async);
  if (!on_device(dst, n) || v) return INVALID;
  return queue(stream, (Op){.kind = OP_ZERO, .dst = (char *)(uintptr_t)dst, .n = n});
}
CuResult cuStreamCreate(void **stream, unsigned flags) {
  CALL_IN(cuStreamCreate);
  Stream *s = calloc(1, sizeof *s);
  s->next = fake.stream;
  *stream = fake.stream = s;
  fake.streams++;
  return 0;
}
static void stream_free(Stream *s) {
  Stream **at = &fake.stream;
  if (!fake.lost) flush(s, s->queued, true);
  for (Op *op = s->ops.first, *next; op; op = next) {
    next = op->next;
    op_free(op);
  }
  while (*at != s) at = &(*at)->next;
  *at = s->next;
  free(s);
  fake.streams--;
}
CuResult cuStreamDestroy_v2(void *stream) {
  CALL_FREE(cuStreamDestroy_v2, stream_free(stream));
  return 0;
}
CuResult cuStreamSynchronize(void *stream) {
  CALL_IN(cuStreamSynchronize);
  return flush(stream, ((Stream *)stream)->queued, true);
}
CuResult cuStreamQuery(void *stream) {
  CALL_IN(cuStreamQuery);
  return flush(stream, ((Stream *)stream)->queued, false);
}
CuResult cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
  CALL_IN(cuStreamWaitEvent);
  if (breaks_capture()) return UNSUPPORTED_IN_CAPTURE; /* an event from outside */
  const Event *e = event;
  return queue(stream, (Op){.kind = OP_JOIN, .of = e->of, .count = e->count});
}

CuResult cuModuleLoadData(void **module, const void *image) {
  CALL_IN(cuModuleLoadData);
  if (breaks_capture()) return UNSUPPORTED_IN_CAPTURE;
  const char *s = image;
  uint64_t n;
  if ((uintptr_t)image % 16) fake_misuse("an image is not aligned to 16 bytes");
  if (memcmp(s, "TGSO", 4)) return BAD_IMAGE;
  memcpy(&n, s + 8, 8);
  char path[] = "/tmp/tgmoduleXXXXXX"; /* libraries are told apart by their names, too */
  int fd = mkstemp(path);
  if (fd < 0 || write(fd, s + 16, n) != (ssize_t)n) return OUT_OF_MEMORY;
  Module *m = calloc(1, sizeof *m);
  m->lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!m->lib) fprintf(stderr, "fake driver: %s\n", dlerror());
  close(fd);
  unlink(path);
  const uint64_t *about = m->lib ? dlsym(m->lib, "tg_about") : NULL;
  if (!about) return free(m), BAD_IMAGE;
  m->shim = dlsym(m->lib, "tg_shim");
  m->args = about[0];
  m->waits = about[1];
  m->racing = about[2];
  m->scratch = about[4];
  const char *cut = getenv("TG_FAKE_CUT"), *line = cut ? strchr(cut, ':') : NULL;
  if (line && strtoull(cut, NULL, 16) == about[3]) m->cut = atoi(line + 1);
  m->next = fake.module;
  fake.modules++;
  *module = fake.module = m;
  return 0;
}
CuResult cuModuleUnload(void *module) {
  HOLD;
  for (Stream *t = fake.stream; t && !fake.lost; t = t->next)
    for (Op *op = t->ops.first; op; op = op->next)
      if (op->kind == OP_LAUNCH && op->f->of == module) fake_misuse("a module is unloaded while its work is queued");
  module_free(module);
  return fake_fails("cuModuleUnload");
}
CuResult cuModuleGetFunction(void **f, void *module, const char *name) {
  CALL_IN(cuModuleGetFunction);
  void *at = dlsym(((Module *)module)->lib, name);
  if (!at) return NOT_FOUND;
  Function *x = calloc(1, sizeof *x);
  *x = (Function){fake.functions, module, (void (*)(const void *))at};
  fake.functions = x;
  *f = x;
  return 0;
}
CuResult cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, void *stream, void **param, void **extra) {
  CALL_IN(cuLaunchKernel);
  const Function *fn = f;
  if (!gx || !bx || bx > 1024 || gy != 1 || gz != 1 || by != 1 || bz != 1 || extra) return INVALID;
  return queue(stream, (Op){.kind = OP_LAUNCH, .held = param[0], .n = fn->of->args, .f = fn, .grid = gx, .block = bx});
}

CuResult cuEventCreate(void **event, unsigned flags) {
  CALL_IN(cuEventCreate);
  *event = calloc(1, sizeof(Event));
  fake.events++;
  return 0;
}
CuResult cuEventRecord(void *event, void *stream) {
  CALL_IN(cuEventRecord);
  if (breaks_capture()) return UNSUPPORTED_IN_CAPTURE; /* it would be part of the recording */
  *(Event *)event = (Event){stream, ((Stream *)stream)->queued};
  return 0;
}
CuResult cuEventSynchronize(void *event) {
  CALL_IN(cuEventSynchronize);
  const Event *e = event;
  return flush(e->of, e->count, true);
}
CuResult cuEventQuery(void *event) {
  CALL_IN(cuEventQuery);
  const Event *e = event;
  return e->of ? flush(e->of, e->count, false) : 0;
}
CuResult cuEventDestroy_v2(void *event) {
  CALL_FREE(cuEventDestroy_v2, free(event), fake.events--);
  return 0;
}

CuResult cuStreamBeginCapture_v2(void *stream, int mode) {
  CALL_IN(cuStreamBeginCapture_v2);
  if (fake.capture) return UNSUPPORTED_IN_CAPTURE;
  fake.capturing = calloc(1, sizeof *fake.capturing);
  fake.capture = &fake.capturing->ops;
  fake.capture_on = stream;
  fake.bad_capture = false;
  return 0;
}
static void graph_free(Graph *g) {
  for (Op *op = g->ops.first, *next; op; op = next) {
    next = op->next;
    op_free(op);
  }
  free(g);
}
CuResult cuStreamEndCapture(void *stream, void **graph) {
  HOLD;
  int r = fake_fails("cuStreamEndCapture");
  Graph *g = fake.capturing;
  if (!g) return INVALID;
  fake.capturing = NULL;
  fake.capture = NULL;
  *graph = NULL;
  if (!r && fake.bad_capture) r = 901;
  if (r) return graph_free(g), r;
  fake.graphs++;
  *graph = g;
  return 0;
}
CuResult cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long flags) {
  CALL_IN(cuGraphInstantiateWithFlags);
  Graph *x = calloc(1, sizeof *x);
  for (Op *op = ((Graph *)graph)->ops.first; op; op = op->next) ops_add(&x->ops, op_copy(op));
  fake.execs++;
  *exec = x;
  return 0;
}
CuResult cuGraphLaunch(void *exec, void *stream) {
  CALL_IN(cuGraphLaunch);
  for (Op *op = ((Graph *)exec)->ops.first; op; op = op->next) queue(stream, *op);
  return 0;
}
CuResult cuGraphExecDestroy(void *exec) {
  CALL_FREE(cuGraphExecDestroy, graph_free(exec), fake.execs--);
  return 0;
}
CuResult cuGraphDestroy(void *graph) {
  CALL_FREE(cuGraphDestroy, graph_free(graph), fake.graphs--);
  return 0;
}

CuResult cuGetErrorName(CuResult r, const char **s) {
  *s = r == 2     ? "CUDA_ERROR_OUT_OF_MEMORY"
       : r == 719 ? "CUDA_ERROR_LAUNCH_FAILED"
       : r == 999 ? "CUDA_ERROR_UNKNOWN"
                  : "CUDA_ERROR_OTHER";
  return 0;
}
CuResult cuGetErrorString(CuResult r, const char **s) {
  *s = r == 2 ? "out of memory" : r == 719 ? "unspecified launch failure" : "other error";
  return 0;
}
