/* `tg inspect FILE`: what is in a file of tensors: names, dtypes, shapes, sizes, metadata; and whether it is whole. */
#include "host.h"
#include "stdlib/native/files.h"
#include "stdlib/native/safetensors.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct Row {
  const char *name, *type;
  uint64_t bytes;
  int64_t count;
} Row;
typedef struct Table {
  Arena *a;
  VEC(Row) row;
} Table;

static const char *type_text(Arena *a, const char *dtype, int rank, const int64_t *dim) {
  char *s = arena_printf(a, "%s[", dtype);
  for (int d = 0; d < rank; d++) s = arena_printf(a, "%s%s%lld", s, d ? ", " : "", (long long)dim[d]);
  return arena_printf(a, "%s]", s);
}
static void add(Table *t, const char *name, const char *dtype, int rank, const int64_t *dim, uint64_t bytes) {
  int64_t count = 1;
  for (int d = 0; d < rank; d++)
    if (__builtin_mul_overflow(count, dim[d], &count)) count = INT64_MAX;
  vec_push(t->a, &t->row, ((Row){name, type_text(t->a, dtype, rank, dim), bytes, count}));
}
static void add_type(Table *t, const char *name, const FileTensor *f) {
  size_t bytes = 0;
  shape_bytes(f->dtype, f->rank, f->dim, &bytes);
  add(t, name, dt_name(f->dtype), f->rank, f->dim, bytes);
}

static const char *size_text(Arena *a, uint64_t bytes) {
  static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
  double v = (double)bytes;
  int k = 0;
  while (v >= 1000 && k < 4) v /= 1000, k++;
  return arena_printf(a, k ? "%.1f %s" : "%.0f %s", v, unit[k]);
}

/* Control characters of a file's texts do not reach the terminal. */
static const char *clean(Arena *a, const char *s) {
  char *c = arena_strdup(a, s);
  for (char *p = c; *p; p++)
    if ((unsigned char)*p < ' ' || *p == 127) *p = *p == '\n' ? ';' : '?';
  return c;
}

static void show(const Table *t, FILE *out) {
  int wide = 0, broad = 0;
  uint64_t bytes = 0;
  int64_t count = 0;
  for (int k = 0; k < t->row.n; k++) {
    int n = (int)strlen(t->row.at[k].name), m = (int)strlen(t->row.at[k].type);
    if (n > wide) wide = n > 60 ? 60 : n;
    if (m > broad) broad = m > 40 ? 40 : m;
  }
  for (int k = 0; k < t->row.n; k++) {
    const Row *r = &t->row.at[k];
    fprintf(out, "%-*s  %-*s  %s\n", wide, clean(t->a, r->name), broad, r->type, size_text(t->a, r->bytes));
    bytes += r->bytes;
    if (__builtin_add_overflow(count, r->count, &count)) count = INT64_MAX;
  }
  fprintf(out, "%d %s, %lld elements, %s\n", t->row.n, t->row.n == 1 ? "tensor" : "tensors", (long long)count,
          size_text(t->a, bytes));
}

static bool safetensors(Table *t, const char *path, FILE *out, Fault *f) {
  In in = {.fd = -1};
  StFile s;
  bool ok = st_open(t->a, &in, path, &s, f);
  for (int k = 0; ok && k < s.n; k++) {
    const StTensor *x = &s.tensor[k];
    add(t, x->name, x->known ? dt_name(x->type.dtype) : x->code, x->type.rank, x->type.dim, x->bytes);
  }
  if (ok) show(t, out);
  for (int k = 0; ok && k < s.nmeta; k++)
    if (strcmp(s.meta[k].key, "tg.crc32"))
      fprintf(out, "%s: %s\n", clean(t->a, s.meta[k].key), clean(t->a, s.meta[k].value));
  fflush(out);
  ok = ok && st_verify(&in, &s);
  if (ok && s.crc_at) fprintf(out, "checksum: fits\n");
  in_close(&in);
  return ok;
}

static bool npz(Table *t, const char *path, FILE *out, Fault *f) {
  NpzMember *m;
  int n;
  if (!npz_list(t->a, path, &n, &m, f)) return false;
  for (int k = 0; k < n; k++) add_type(t, m[k].name, &m[k].type);
  show(t, out);
  return true;
}

static bool csv(Table *t, const char *path, FILE *out, Fault *f) {
  CsvInfo info;
  if (!csv_header(t->a, path, &info, f)) return false;
  for (int k = 0; k < info.ncol; k++)
    if (info.col[k].text)
      fprintf(out, "%s: text\n", clean(t->a, info.col[k].name));
    else
      add_type(t, info.col[k].name, &(FileTensor){info.col[k].dtype, 1, {info.nrow}});
  show(t, out);
  return true;
}

static bool one(Table *t, FileKind kind, const char *path, FILE *out, Fault *f) {
  FileTensor x;
  if (!(kind == FILE_NPY ? npy_header : idx_header)(path, &x, f)) return false;
  const char *slash = strrchr(path, '/');
  add_type(t, slash ? slash + 1 : path, &x);
  show(t, out);
  return true;
}

int inspect_run(const char *path) {
  Table t = {.a = arena_new()};
  Fault f = {0};
  struct stat st;
  if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
    path = arena_printf(t.a, "%s/checkpoint.safetensors", path); /* of fit */
  FileKind kind = file_kind(path);
  bool ok = true;
  if (kind == FILE_SAFETENSORS)
    ok = safetensors(&t, path, stdout, &f);
  else if (kind == FILE_NPZ)
    ok = npz(&t, path, stdout, &f);
  else if (kind == FILE_CSV)
    ok = csv(&t, path, stdout, &f);
  else if (kind != FILE_UNKNOWN)
    ok = one(&t, kind, path, stdout, &f);
  else
    fault_set(&f, M_FILE, (Span){0},
              "%.300s: the name's end tells the format: .safetensors .npy .npz .csv .idx, -ubyte", path),
        ok = false;
  fflush(stdout);
  if (!ok) fprintf(stderr, "tg: %s\n", f.msg);
  arena_free(t.a);
  return ok ? EXIT_OK : EXIT_RUN;
}
