/* `tg bench libNAME.so`: latency of a library's functions by batch size. It knows of the library what any caller does:
 * the manifest inside it, and the functions NAME_create, NAME_manifest and NAME_EXPORT_dl. */
#include "build.h"
#include "timing.h"
#include "codegen/rt/lib.h"
#include "stdlib/native/json.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_RUNS = 2000, MIN_RUNS = 10, ROWS_END = 5 };
static const double budget = 0.5; /* seconds a line */
static const int64_t batch_rows[] = {1, 8, 32, 128, 512};

typedef struct Described {
  const char *name;
  DType dtype;
  int rank;
  int64_t dim[TG_MAX_RANK];
  bool batched;
} Described;
typedef VEC(Described) List;
typedef struct Function {
  const char *name;
  double flops;
  List in, out;
  VEC(int64_t) blocks; /* the plans' numbers of rows */
  bool listed;         /* no others can be called */
} Function;
typedef int (*DlFn)(void *c, const DLTensor *const *in, int nin, const DLTensor *const *out, int nout);

/* ---- The manifest ------------------------------------------------------------------------------------------------ */
static bool read_tensor(Json *j, Arena *a, Described *t) {
  const char *key, *s;
  bool first = true, ok = json_take(j, '{');
  while (ok && json_more(j, '}', &first, &ok)) {
    ok = json_string(j, a, &key, NULL) && json_take(j, ':');
    if (ok && !strcmp(key, "name"))
      ok = json_string(j, a, &t->name, NULL);
    else if (ok && !strcmp(key, "dtype"))
      ok = json_string(j, a, &s, NULL) && dt_by_name(s, (int)strlen(s), &t->dtype);
    else if (ok && !strcmp(key, "shape")) {
      bool one = true;
      ok = json_take(j, '[');
      while (ok && json_more(j, ']', &one, &ok)) {
        Json back = *j;
        ok = t->rank < TG_MAX_RANK;
        if (ok && !json_count(j, &t->dim[t->rank])) {
          *j = back;
          ok = t->rank == 0 && json_string(j, a, &s, NULL);
          t->batched = true;
        }
        t->rank++;
      }
    } else if (ok)
      ok = json_skip(j, a);
  }
  return ok;
}

static bool read_list(Json *j, Arena *a, List *l) {
  bool first = true, ok = json_take(j, '[');
  while (ok && json_more(j, ']', &first, &ok)) {
    Described t = {0};
    ok = read_tensor(j, a, &t);
    vec_push(a, l, t);
  }
  return ok;
}

static bool read_blocks(Json *j, Arena *a, Function *f) {
  bool first = true, ok = json_take(j, '[');
  while (ok && json_more(j, ']', &first, &ok)) {
    int64_t n;
    ok = json_count(j, &n);
    if (ok) vec_push(a, &f->blocks, n);
  }
  return ok;
}

static bool read_function(Json *j, Arena *a, Function *f) {
  const char *key;
  bool first = true, ok = json_take(j, '{');
  while (ok && json_more(j, '}', &first, &ok)) {
    int64_t n;
    ok = json_string(j, a, &key, NULL) && json_take(j, ':');
    if (ok && !strcmp(key, "name"))
      ok = json_string(j, a, &f->name, NULL);
    else if (ok && !strcmp(key, "flops")) {
      ok = json_count(j, &n);
      f->flops = ok ? (double)n : 0;
    } else if (ok && !strcmp(key, "blocks"))
      ok = read_blocks(j, a, f);
    else if (ok && !strcmp(key, "listed"))
      f->listed = ok = json_skip(j, a); /* it stands there when it is true */
    else if (ok && !strcmp(key, "inputs"))
      ok = read_list(j, a, &f->in);
    else if (ok && !strcmp(key, "outputs"))
      ok = read_list(j, a, &f->out);
    else if (ok)
      ok = json_skip(j, a);
  }
  return ok && f->name;
}

typedef VEC(Function) Functions;
static bool read_manifest(Arena *a, const char *text, Functions *out) {
  Json j = {text, text + strlen(text)};
  const char *key;
  bool first = true, ok = json_take(&j, '{');
  while (ok && json_more(&j, '}', &first, &ok)) {
    ok = json_string(&j, a, &key, NULL) && json_take(&j, ':');
    if (ok && strcmp(key, "exports"))
      ok = json_skip(&j, a);
    else if (ok) {
      bool one = true;
      ok = json_take(&j, '[');
      while (ok && json_more(&j, ']', &one, &ok)) {
        Function f = {0};
        ok = read_function(&j, a, &f);
        vec_push(a, out, f);
      }
    }
  }
  return ok;
}

/* ---- Timing ------------------------------------------------------------------------------------------------------ */
static DLDataType dl_type(DType t) {
  static const uint8_t code[] = {6, 1, 0, 0, 0, 0, 2, 4, 2, 2};
  return (DLDataType){code[t], (uint8_t)(8 * dt_bytes(t)), 1};
}

/* The tensors of a list for `rows` rows, inputs filled. False: no memory. */
static bool make_tensors(Arena *a, const List *l, int64_t rows, bool fill, DLTensor *t, const DLTensor **at) {
  for (int i = 0; i < l->n; i++) {
    const Described *d = &l->at[i];
    int64_t *shape = arena_copy(a, d->dim, sizeof d->dim), count = 1;
    if (d->batched) shape[0] = rows;
    for (int k = 0; k < d->rank; k++)
      if (__builtin_mul_overflow(count, shape[k], &count) || count > (int64_t)1 << 36) return false;
    void *data = aligned_alloc(64, ((size_t)count * (size_t)dt_bytes(d->dtype) + 127) / 64 * 64);
    if (!data) return false;
    if (fill) lib_golden_fill((int)d->dtype, (uint64_t)(i + 1) << 32, count, data);
    t[i] = (DLTensor){.data = data, .device = {1, 0}, .ndim = d->rank, .dtype = dl_type(d->dtype), .shape = shape};
    at[i] = &t[i];
  }
  return true;
}

/* One line: p50, p90, p99 of a call in us, rows a second, GFLOP/s. Returns the library's status. */
static int time_rows(FILE *out, DlFn fn, void *context, const Function *f, int64_t rows, bool batched) {
  Arena *a = arena_new();
  DLTensor *t = arena_array(a, DLTensor, f->in.n + f->out.n);
  const DLTensor **at = arena_array(a, const DLTensor *, f->in.n + f->out.n);
  double *s = arena_array(a, double, MAX_RUNS);
  bool made =
      make_tensors(a, &f->in, rows, true, t, at) && make_tensors(a, &f->out, rows, false, t + f->in.n, at + f->in.n);
  int n = 0, status = made ? fn(context, at, f->in.n, at + f->in.n, f->out.n) : RT_NO_MEMORY;
  double start = rt_seconds();
  while (!status && n < MAX_RUNS && (n < MIN_RUNS || rt_seconds() - start < budget)) {
    double t0 = rt_seconds();
    status = fn(context, at, f->in.n, at + f->in.n, f->out.n);
    s[n++] = rt_seconds() - t0;
  }
  if (!status) {
    qsort(s, (size_t)n, sizeof *s, timing_order);
    double p50 = s[n / 2];
    if (batched)
      fprintf(out, "%-20s %6lld", f->name, (long long)rows);
    else
      fprintf(out, "%-20s %6s", f->name, "");
    fprintf(out, " %10.1f %10.1f %10.1f %12.0f %9.2f\n", p50 * 1e6, s[n * 9 / 10] * 1e6, s[n * 99 / 100] * 1e6,
            (double)rows / p50, f->flops * (double)rows / p50 * 1e-9);
    fflush(out);
  }
  for (int i = 0; i < f->in.n + f->out.n; i++) free(t[i].data);
  arena_free(a);
  return status;
}

typedef struct Library {
  void *so;
  const char *name;
  Arena *a;
} Library;
static void *symbol(const Library *l, const char *what) {
  return dlsym(l->so, arena_printf(l->a, "%s_%s", l->name, what));
}

static int bench_library(const HostOptions *o, Library *l) {
  const char *(*manifest)(void) = (const char *(*)(void))(uintptr_t)symbol(l, "manifest");
  int (*create)(const LibOptions *, void **) = (int (*)(const LibOptions *, void **))(uintptr_t)symbol(l, "create");
  void (*destroy)(void *) = (void (*)(void *))(uintptr_t)symbol(l, "destroy");
  const char *(*text)(int) = (const char *(*)(int))(uintptr_t)symbol(l, "strerror");
  Functions f = {0};
  if (!manifest || !create || !destroy || !text || !read_manifest(l->a, manifest(), &f)) {
    fprintf(stderr, "tg: lib%s.so is not a library made by tg build under this name\n", l->name);
    return EXIT_USAGE;
  }
  void *context;
  int status = create(&(LibOptions){.size = sizeof(LibOptions), .threads = o->threads}, &context);
  if (status) {
    fprintf(stderr, "tg: %s\n", text(status));
    return EXIT_RUN;
  }
  FILE *out = o->out ? o->out : stdout;
  fprintf(out, "%-20s %6s %10s %10s %10s %12s %9s\n", "function", "rows", "p50 us", "p90 us", "p99 us", "rows/s",
          "GFLOP/s");
  for (int i = 0; i < f.n && !status; i++) {
    bool batched = false;
    const int64_t *rows = f.at[i].listed ? f.at[i].blocks.at : batch_rows;
    DlFn fn = (DlFn)(uintptr_t)symbol(l, arena_printf(l->a, "%s_dl", f.at[i].name));
    for (int k = 0; k < f.at[i].in.n; k++) batched |= f.at[i].in.at[k].batched;
    for (int k = 0; k < (!batched ? 1 : f.at[i].listed ? f.at[i].blocks.n : ROWS_END) && fn && !status; k++)
      status = time_rows(out, fn, context, &f.at[i], rows[k], batched);
    if (status) fprintf(stderr, "tg: %s: %s\n", f.at[i].name, text(status));
  }
  destroy(context);
  return status ? EXIT_RUN : EXIT_OK;
}

bool is_library(const char *path) {
  size_t n = strlen(path);
  return n > 3 && !strcmp(path + n - 3, ".so");
}

int bench_lib(const HostOptions *o, const char *path) {
  Arena *a = arena_new();
  const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
  if (!strncmp(base, "lib", 3)) base += 3;
  Library l = {dlopen(slash ? path : arena_printf(a, "./%s", path), RTLD_NOW | RTLD_LOCAL),
               arena_strndup(a, base, strlen(base) - 3), a};
  int code = EXIT_USAGE;
  if (!l.so)
    fprintf(stderr, "tg: %s\n", dlerror());
  else
    code = bench_library(o, &l);
  if (l.so) dlclose(l.so);
  arena_free(a);
  return code;
}
