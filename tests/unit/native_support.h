/* What the tests of natives share: tensors from values, one call of a native by name, a folder of one's own, NumPy. */
#ifndef TG_TESTS_UNIT_NATIVE_SUPPORT_H
#define TG_TESTS_UNIT_NATIVE_SUPPORT_H
#include "stdlib/native/files.h"
#include "stdlib/native/host.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIMS(...)                                                                                                      \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]) { __VA_ARGS__ }

/* A zeroed tensor. It stays reachable to the end of the test's process, so a test may leave it to exit. */
static inline Tensor make(DType t, int rank, const int64_t *dim) {
  static struct TensorBuf **made;
  static size_t n;
  Tensor x;
  cr_assert(tensor_alloc(&x, t, rank, dim));
  made = realloc(made, (n + 1) * sizeof *made);
  cr_assert(made);
  made[n++] = x.owner;
  memset(x.data, 0, tensor_bytes(&x));
  return x;
}
static inline void put(Tensor *t, int64_t i, double v) {
  if (dt_is_float(t->dtype))
    dt_put_f(t->dtype, t->data, i, v);
  else
    dt_put_i(t->dtype, t->data, i, (int64_t)v);
}
static inline double get(const Tensor *t, int64_t i) {
  return dt_is_float(t->dtype) ? dt_get_f(t->dtype, t->data, i) : (double)dt_get_i(t->dtype, t->data, i);
}
static inline Tensor of(DType t, int rank, const int64_t *dim, const double *v) {
  Tensor x = make(t, rank, dim);
  for (int64_t i = 0; i < tensor_count(&x); i++) put(&x, i, v[i]);
  return x;
}
#define VALUES(t, n, ...) of(t, 1, (const int64_t[]){n}, (const double[]){__VA_ARGS__})
static inline Tensor scalar(DType t, double v) { return of(t, 0, NULL, &v); }

/* xorshift: the same numbers in every run. */
static inline uint64_t draw(uint64_t *s) { return *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17, *s; }
static inline double uniform(uint64_t *s) { return (double)(draw(s) >> 11) * 0x1p-53 * 2 - 1; }

static inline const Native *native(const char *name) {
  static Natives all; /* a test is a process of its own */
  if (!all.arena) {
    all.arena = arena_new();
    native_register_all(&all);
  }
  const Native *n = natives_find(&all, name);
  cr_assert(n, "no native %s", name);
  return n;
}
static inline bool call(const char *name, void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout,
                        Tensor *out, Fault *f) {
  *f = (Fault){0};
  bool ok = native(name)->run(ctx, nattr, attr, nin, in, nout, out, f);
  cr_assert_eq(ok, f->id == E_NONE, "%s: result %d, fault '%s'", name, ok, f->msg);
  return ok;
}
#define PATH_ATTR(p)                                                                                                   \
  1, (const Attr[]) {                                                                                                  \
    { .s = (p) }                                                                                                       \
  }

/* A path in a folder made for this process and removed by `done`. */
static char folder[64];
static inline const char *file(const char *name) {
  static char path[8][256];
  static int k;
  if (!*folder) {
    strcpy(folder, "/tmp/tg-native-XXXXXX");
    cr_assert(mkdtemp(folder));
  }
  snprintf(path[k % 8], sizeof path[0], "%s/%s", folder, name);
  return path[k++ % 8];
}
static inline int run_shell(const char *fmt, ...) {
  char cmd[8192];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(cmd, sizeof cmd, fmt, ap);
  va_end(ap);
  return system(cmd);
}
static inline void done(void) {
  if (*folder) cr_assert_eq(run_shell("rm -rf '%s'", folder), 0);
}
static inline void write_bytes(const char *path, const void *p, size_t n) {
  FILE *f = fopen(path, "wb");
  cr_assert(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}
static inline size_t read_bytes(const char *path, void *p, size_t cap) {
  FILE *f = fopen(path, "rb");
  cr_assert(f);
  size_t n = fread(p, 1, cap, f);
  fclose(f);
  return n;
}
/* Runs Python with NumPy in the folder; the program must print nothing and exit with 0. Skips the test without NumPy.
 */
static inline void numpy(const char *program) {
  file("");
  if (system("/usr/bin/python3 -c 'import numpy' 2>/dev/null")) cr_skip_test("no NumPy");
  write_bytes(file("check.py"), program, strlen(program));
  cr_assert_eq(run_shell("cd '%s' && /usr/bin/python3 check.py", folder), 0, "NumPy disagrees");
}
#endif
