/* Calls every function of the library that tests/check/build makes of net.tg. Usage: driver MODE [FILE], prints what
 * differs.
 *
 *   all       self-test, batch sizes, strides, DLPack, bad arguments, allocations
 *   threads   contexts in two threads at once, and one context in two threads
 *   refused   a context of a device that may fail at any point
 *   run N     classify on N images made here, to standard output as raw floats; `images N` prints the images */
#include "net.h"
#include <dirent.h>
#include <fenv.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int failures;
#define CHECK(c) ((c) ? (void)0 : (void)(failures++, printf("line %d: %s\n", __LINE__, #c)))
enum { PIXELS = 144, MANY = 300 };

static float *images(int n) {
  float *x = malloc(sizeof *x * (size_t)(n * PIXELS + 1));
  unsigned s = 1;
  for (int i = 0; i < n * PIXELS; i++) {
    s = s * 1664525u + 1013904223u;
    x[i] = (float)(s >> 8) / 16777216.0f;
  }
  return x;
}

/* ---- allocations ---- */
typedef struct Count {
  size_t bytes, live;
  int calls;
} Count;
static void *take(void *user, size_t bytes, size_t align) {
  Count *c = user;
  c->bytes += bytes, c->live += bytes, c->calls++;
  return aligned_alloc(align, (bytes + align - 1) / align * align);
}
static void give(void *user, void *p, size_t bytes) {
  ((Count *)user)->live -= bytes;
  free(p);
}
static void *refuse(void *user, size_t bytes, size_t align) {
  (void)user, (void)bytes, (void)align;
  return NULL;
}

static void batches(net_context *c) {
  float *x = images(MANY), *y = malloc(sizeof *y * MANY * 10), *z = malloc(sizeof *z * (MANY + 1) * 10);
  CHECK(net_classify(c, MANY, x, y) == NET_OK);
  for (int n = 0; n <= MANY; n = n < 70 ? n + 1 : n + 23) {
    memset(z, 0x55, sizeof *z * (MANY + 1) * 10);
    CHECK(net_classify(c, n, x, z) == NET_OK);
    CHECK(memcmp(y, z, sizeof *z * (size_t)n * 10) == 0); /* a row's bits do not depend on its company */
    for (size_t i = 0; i < 40; i++) CHECK(((unsigned char *)(z + n * 10))[i] == 0x55);
  }
  free(x), free(y), free(z);
}

static net_tensor tensor(void *data, int code, int bits, int ndim, int64_t *shape, int64_t *strides) {
  net_tensor t = {.data = data, .device = {1, 0}, .ndim = ndim, .shape = shape, .strides = strides};
  t.dtype.code = (uint8_t)code, t.dtype.bits = (uint8_t)bits, t.dtype.lanes = 1;
  return t;
}

/* Images that lie column by column and every other one, results row by row with a gap. */
static void strides(net_context *c) {
  enum { N = 21 };
  float *x = images(N), *y = malloc(sizeof *y * N * 10), *xs = malloc(sizeof *xs * 2 * N * PIXELS),
        *ys = malloc(sizeof *ys * N * 16);
  CHECK(net_classify(c, N, x, y) == NET_OK);
  for (int b = 0; b < N; b++)
    for (int i = 0; i < 12; i++)
      for (int j = 0; j < 12; j++) xs[2 * b * PIXELS + j * 12 + i] = x[b * PIXELS + i * 12 + j];
  int64_t shape[] = {N, 1, 12, 12}, step[] = {2 * PIXELS, 7, 1, 12}, oshape[] = {N, 10}, ostep[] = {16, 1};
  net_tensor in = tensor(xs, 2, 32, 4, shape, step), out = tensor(ys, 2, 32, 2, oshape, ostep);
  const net_tensor *i1 = &in, *o1 = &out;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_OK);
  for (int b = 0; b < N; b++) CHECK(memcmp(ys + 16 * b, y + 10 * b, 40) == 0);

  net_managed held = {.tensor = tensor(x, 2, 32, 4, shape, NULL)}, *give_in = &held, *made = NULL;
  CHECK(net_classify_dlpack(c, &give_in, 1, &made, 1) == NET_OK);
  CHECK(made && made->tensor.shape[0] == N && made->tensor.shape[1] == 10 &&
        memcmp(made->tensor.data, y, sizeof *y * N * 10) == 0);
  if (made) made->deleter(made);

  out.dtype.bits = 64;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_BAD_DTYPE);
  out.dtype.bits = 32, oshape[0] = N - 1;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_BAD_SHAPE);
  oshape[0] = N, shape[2] = 11;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_BAD_SHAPE);
  shape[2] = 12, in.ndim = 3;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_BAD_SHAPE);
  in.ndim = 4, in.device.type = 2;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_BAD_DEVICE);
  in.device.type = 1;
  CHECK(net_classify_dl(c, &i1, 2, &o1, 1) == NET_BAD_SIZE);
  CHECK(net_classify_dl(c, NULL, 1, &o1, 1) == NET_BAD_SIZE);
  i1 = NULL;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_BAD_ARGUMENT);
  give_in = NULL;
  CHECK(net_classify_dlpack(c, &give_in, 1, &made, 1) == NET_BAD_ARGUMENT && made == NULL);
  free(x), free(y), free(xs), free(ys);
}

/* Rows from back to front, from an offset, and one image for all rows. */
static void odd_strides(net_context *c) {
  enum { N = 9 };
  float *x = images(N + 2), *y = malloc(sizeof *y * N * 10), *z = malloc(sizeof *z * N * 10);
  CHECK(net_classify(c, N, x + PIXELS, y) == NET_OK);
  int64_t shape[] = {N, 1, 12, 12}, step[] = {-PIXELS, 99, 12, 1}, oshape[] = {N, 10};
  net_tensor in = tensor(x + N * PIXELS, 2, 32, 4, shape, step), out = tensor(z, 2, 32, 2, oshape, NULL);
  const net_tensor *i1 = &in, *o1 = &out;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_OK);
  for (int b = 0; b < N; b++) CHECK(memcmp(z + 10 * b, y + 10 * (N - 1 - b), 40) == 0);
  in.data = x, in.byte_offset = sizeof(float) * PIXELS, step[0] = PIXELS;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_OK && memcmp(z, y, sizeof *y * N * 10) == 0);
  in.strides = NULL;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_OK && memcmp(z, y, sizeof *y * N * 10) == 0);
  in.strides = step, step[0] = 0;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_OK);
  for (int b = 0; b < N; b++) CHECK(memcmp(z + 10 * b, y, 40) == 0);
  in.dtype.lanes = 2;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_BAD_DTYPE);
  in.dtype.lanes = 1, in.dtype.code = 1;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_BAD_DTYPE);
  in.dtype.code = 2, in.byte_offset = 2;
  CHECK(net_classify_dl(c, &i1, 1, &o1, 1) == NET_BAD_ALIGNMENT);
  free(x), free(y), free(z);
}

/* Every dtype by DLPack's codes: in, and out of the managed results. */
static void dtypes(net_context *c) {
  static const struct { int code, bits; } kind[7] = {{6, 8}, {1, 8}, {0, 8}, {0, 16}, {0, 32}, {2, 16}, {4, 16}};
  uint8_t a[2] = {1, 0}, b[2] = {254, 0};
  int8_t i8[2] = {-1, 5};
  int16_t i16[2] = {-1, 300};
  int32_t i32[2] = {-1, 70000};
  uint16_t half[2] = {0x3c00, 0xc000}, brain[2] = {0x3f80, 0xc000};
  void *data[7] = {a, b, i8, i16, i32, half, brain};
  int64_t shape[1] = {2};
  net_managed in[7], *give_in[7], *made[7];
  for (int k = 0; k < 7; k++) {
    in[k] = (net_managed){.tensor = tensor(data[k], kind[k].code, kind[k].bits, 1, shape, NULL)};
    give_in[k] = &in[k];
  }
  CHECK(net_kinds_dlpack(c, give_in, 7, made, 7) == NET_OK);
  for (int k = 0; k < 7 && made[k]; k++) {
    const net_tensor *t = &made[k]->tensor;
    CHECK(t->dtype.code == kind[k].code && t->dtype.bits == kind[k].bits && t->dtype.lanes == 1);
    CHECK(t->device.type == 1 && t->ndim == 1 && t->shape[0] == 2);
  }
  if (made[0]) {
    CHECK(memcmp(made[0]->tensor.data, "\0\1", 2) == 0 && memcmp(made[1]->tensor.data, "\377\1", 2) == 0);
    CHECK(((int8_t *)made[2]->tensor.data)[1] == 6 && ((int16_t *)made[3]->tensor.data)[1] == 301);
    CHECK(((int32_t *)made[4]->tensor.data)[1] == 70001 && ((uint16_t *)made[5]->tensor.data)[1] == 0x4000);
    CHECK(((uint16_t *)made[6]->tensor.data)[0] == 0xbf80);
  }
  for (int k = 0; k < 7; k++)
    if (made[k]) made[k]->deleter(made[k]);
  for (int k = 0; k < 7; k++) { /* each is asked for by its own code */
    in[k].tensor.dtype.code ^= 1;
    CHECK(net_kinds_dlpack(c, give_in, 7, made, 7) == NET_BAD_DTYPE && made[0] == NULL);
    in[k].tensor.dtype.code ^= 1;
  }
}

/* All codes have texts of their own. */
static void texts(void) {
  for (int i = 0; i <= NET_NO_LAPACK; i++) {
    CHECK(strcmp(net_strerror(i), net_strerror(NET_NO_LAPACK + 1)) != 0);
    for (int j = 0; j < i; j++) CHECK(strcmp(net_strerror(i), net_strerror(j)) != 0);
  }
}

static int tasks(void) { /* threads of this process */
  int n = 0;
  DIR *d = opendir("/proc/self/task");
  while (d && readdir(d)) n++;
  if (d) closedir(d);
  return n;
}

/* Options of an older caller end early; the rest of the structure is not looked at. */
static void old_options(void) {
  net_options o = {.size = offsetof(net_options, alloc), .threads = 1, .alloc = refuse, .release = give};
  net_context *c = NULL;
  CHECK(net_create(&o, &c) == NET_OK);
  net_destroy(c);
}

static void bad_arguments(net_context *c) {
  float *x = images(4), y[64];
  CHECK(net_classify(NULL, 1, x, y) == NET_BAD_ARGUMENT);
  CHECK(net_classify(c, 1, NULL, y) == NET_BAD_ARGUMENT);
  CHECK(net_classify(c, 1, x, NULL) == NET_BAD_ARGUMENT);
  CHECK(net_classify(c, -1, x, y) == NET_BAD_SIZE);
  CHECK(net_classify(c, INT64_MAX, x, y) == NET_BAD_SIZE);
  CHECK(net_classify(c, 1, (float *)(void *)((char *)x + 2), y) == NET_BAD_ALIGNMENT);
  CHECK(net_classify(c, 0, NULL, NULL) == NET_OK);
  CHECK(strstr(net_message(c), "") != NULL);
  int64_t i[3] = {1, 20, 3};
  float rows[18];
  CHECK(net_look(c, 3, i, rows) == NET_BAD_INDEX && strstr(net_message(c), "index 20 is out of range for size 20"));
  i[1] = 19;
  CHECK(net_look(c, 3, i, rows) == NET_OK && net_message(c)[0] == 0);
  CHECK(strcmp(net_strerror(NET_OK), "success") == 0 && net_strerror(12345) != NULL);
  CHECK(net_create(NULL, NULL) == NET_BAD_ARGUMENT);
  net_context *none = c;
  net_options o = {.size = sizeof o, .threads = 1, .alloc = refuse, .release = give};
  CHECK(net_create(&o, &none) == NET_NO_MEMORY && none == NULL);
  net_destroy(NULL);
  free(x);
}

static void million(net_context *c) {
  enum { N = 1000000 };
  float *x = malloc(sizeof *x * N), *y = malloc(sizeof *y * N);
  for (int i = 0; i < N; i++) x[i] = (float)(i % 1000 + 1);
  CHECK(net_newton(c, N, x, y) == NET_OK);
  for (int i = 0; i < N; i += 1000) CHECK(y[i] > 1.41f && y[i] < 1.4144f);
  free(x), free(y);
}

static void several(net_context *c) {
  float x[15], twice[15], total[3], scale = 2;
  int64_t top[3];
  for (int i = 0; i < 15; i++) x[i] = (float)((i * 7) % 11);
  CHECK(net_several(c, 3, x, &scale, twice, total, top) == NET_OK);
  CHECK(twice[14] == 2 * x[14] && total[1] == x[5] + x[6] + x[7] + x[8] + x[9] && top[0] == 3);
}

/* Towards zero, and small numbers lost where the processor can do that: results must not notice, nor the mode change. */
static void float_modes(net_context *c, const net_options *o) {
  size_t size = sizeof(float) * MANY * 10;
  float *x = images(MANY), *want = malloc(size), *got = malloc(size), small = 1e-20f, tiny[3] = {0}, total[1];
  float five[5] = {1e-20f, 2e-20f, 3e-20f, 1, 2};
  int64_t top[1];
  for (int i = 0; i < MANY * PIXELS; i++) x[i] *= 300;
  CHECK(net_classify(c, MANY, x, want) == NET_OK);
  int was = fegetround();
  fesetround(FE_TOWARDZERO);
#ifdef __SSE__
  __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
  unsigned set = __builtin_ia32_stmxcsr() & ~0x3fu;
#endif
  net_context *other;
  if (net_create(o, &other) == NET_OK) {
    CHECK(net_classify(other, MANY, x, got) == NET_OK && !memcmp(got, want, size));
    float twice[5];
    CHECK(net_several(other, 1, five, &small, twice, total, top) == NET_OK);
    memcpy(tiny, twice, sizeof tiny);
    net_destroy(other);
  }
  CHECK(fegetround() == FE_TOWARDZERO);
#ifdef __SSE__
  CHECK((__builtin_ia32_stmxcsr() & ~0x3fu) == set);
  __builtin_ia32_ldmxcsr(0x1f80);
#endif
  fesetround(was);
  CHECK(tiny[0] > 0 && tiny[2] > 2.9e-40f && tiny[2] < 3.1e-40f);
  free(x), free(want), free(got);
}

static void all(void) {
  Count n = {0, 0, 0};
  net_options o = {.size = sizeof o, .threads = 2, .alloc = take, .release = give, .user = &n};
  net_context *c;
  int alone = tasks();
  CHECK(net_abi() == NET_ABI);
  CHECK(net_create(&o, &c) == NET_OK);
  if (!c) return;
  CHECK(n.bytes == net_memory(&o)); /* what the build prints is what a context takes */
  int calls = n.calls;
  batches(c);
  strides(c);
  odd_strides(c);
  dtypes(c);
  texts();
  old_options();
  bad_arguments(c);
  several(c);
  million(c);
  CHECK(n.calls == calls);
  float_modes(c, &o);
  CHECK(net_selftest(c) == NET_OK);
  CHECK(strstr(net_manifest(), "\"classify\"") != NULL);
  net_destroy(c);
  CHECK(n.live == 0);
  CHECK(tasks() == alone);
}

typedef struct Work {
  net_context *c;
  const float *x, *y;
  int busy;
} Work;
static void *own_context(void *arg) {
  Work *w = arg;
  float z[10 * 33];
  net_options o = {.size = sizeof o, .threads = 2};
  net_context *c;
  CHECK(net_create(&o, &c) == NET_OK);
  for (int k = 0; k < 20; k++) CHECK(net_classify(c, 33, w->x, z) == NET_OK && memcmp(z, w->y, sizeof z) == 0);
  net_destroy(c);
  return NULL;
}
static void *same_context(void *arg) {
  Work *w = arg;
  float z[10 * 33];
  for (int k = 0; k < 50; k++) {
    int s = net_classify(w->c, 33, w->x, z);
    CHECK(s == NET_BUSY || (s == NET_OK && memcmp(z, w->y, sizeof z) == 0));
  }
  return NULL;
}
/* A call while another is under way. */
typedef struct Long {
  net_context *c;
  float *x, *y;
  int n, done;
} Long;
static void *long_calls(void *arg) {
  Long *l = arg;
  while (!__atomic_load_n(&l->done, __ATOMIC_RELAXED)) {
    int s = net_newton(l->c, l->n, l->x, l->y);
    CHECK(s == NET_OK || s == NET_BUSY);
  }
  return NULL;
}
static void busy(net_context *c) {
  enum { N = 300000, TRIES = 100000 };
  Long l = {c, malloc(sizeof(float) * N), malloc(sizeof(float) * N), N, 0};
  float x = 1, y;
  int met = 0;
  for (int i = 0; i < N; i++) l.x[i] = 2;
  pthread_t t;
  pthread_create(&t, NULL, long_calls, &l);
  for (int i = 0; i < TRIES && !met; i++) {
    met = net_newton(c, 1, &x, &y) == NET_BUSY;
    if (i > 100) nanosleep(&(struct timespec){0, 100000}, NULL);
  }
  __atomic_store_n(&l.done, 1, __ATOMIC_RELAXED);
  pthread_join(t, NULL);
  CHECK(met);
  free(l.x), free(l.y);
}

static void threads(void) {
  float *x = images(33), y[10 * 33];
  net_context *c;
  CHECK(net_create(NULL, &c) == NET_OK);
  CHECK(net_classify(c, 33, x, y) == NET_OK);
  void *(*fn[])(void *) = {own_context, same_context};
  for (int k = 0; k < 2; k++) {
    Work w[2] = {{c, x, y, 0}, {c, x, y, 0}};
    pthread_t t[2];
    for (int i = 0; i < 2; i++) pthread_create(&t[i], NULL, fn[k], &w[i]);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
  }
  busy(c);
  net_destroy(c);
  free(x);
}

/* Whatever the device says to creating, calling and destroying: the host's memory comes back. */
static void refused(void) {
  Count n = {0, 0, 0};
  net_options o = {.size = sizeof o, .alloc = take, .release = give, .user = &n};
  net_context *c = NULL;
  float *x = images(3), y[10 * 3];
  int made = net_create(&o, &c) == NET_OK;
  CHECK(made == (c != NULL));
  for (int k = 0; k < 4 && c; k++) net_classify(c, 3, x, y);
  net_destroy(c);
  CHECK(n.live == 0);
  free(x);
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "all";
  int n = argc > 2 ? atoi(argv[2]) : 1;
  if (!strcmp(mode, "all")) all();
  if (!strcmp(mode, "threads")) threads();
  if (!strcmp(mode, "refused")) refused();
  if (!strcmp(mode, "images") || !strcmp(mode, "run")) {
    float *x = images(n), *y = malloc(sizeof *y * (size_t)n * 10);
    net_context *c;
    if (net_create(NULL, &c) || net_classify(c, n, x, y)) return 2;
    if (*mode == 'i') fwrite(x, sizeof *x, (size_t)n * PIXELS, stdout);
    if (*mode == 'r') fwrite(y, sizeof *y, (size_t)n * 10, stdout);
    net_destroy(c);
    free(x), free(y);
  }
  return failures != 0;
}
