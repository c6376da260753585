/* libFuzzer: readers of data sets. The first byte chooses: CSV streamed must give what load_csv gives; a protobuf
 * Example; a TFRecord file; text. */
#include "fuzz_file.h"
#include "stdlib/native/csv.h"
#include "stdlib/native/data_csv.h"
#include "stdlib/native/data_pass.h"
#include "stdlib/native/data_text.h"
#include "stdlib/native/data_tfrecord.h"
#include <string.h>

/* All rows of a set; field k at to[k], room for `most` rows. -1: fault. */
static int64_t read_set(DataTable *t, int64_t id, int64_t most, void **to) {
  Fault f = {0};
  DataSet *s = data_set(t, id);
  int64_t n = -1;
  for (int k = 0; k < s->nfield; k++)
    if (!(to[k] = malloc(s->bytes[k] * (size_t)(most + 1) + 1))) abort();
  DataPass pass = {.set = s};
  DataIter *it = data_iter_open(s, &pass, 0, 0, &f);
  if (it) n = data_iter_read(it, most + 1, to, &f);
  if ((n < 0) != (f.id != E_NONE)) abort();
  data_iter_close(it);
  return n;
}

static void compare(DataTable *t, Arena *a, int64_t id, const char *path, const CsvInfo *c, int64_t n, void **to) {
  DataSet *s = data_set(t, id);
  if (n != c->nrow) abort();
  for (int k = 0, field = 0; k < c->ncol && k < 16; k++) {
    if (c->col[k].text) continue;
    FileTensor h = {c->col[k].dtype, 1, {n}};
    Fault f = {0};
    Tensor x;
    if (!small_result(&x, &h)) return;
    if (s->field[field].dtype != h.dtype) abort();
    bool read = fuzz_native(a, "load_csv")->run(NULL, 2, (Attr[]){{.s = path}, {.i = k}}, 0, NULL, 1, &x, &f);
    for (int64_t i = 0; read && i < n; i++) {
      double v = dt_is_float(h.dtype) ? dt_get_f(h.dtype, x.data, i) : (double)dt_get_i(h.dtype, x.data, i);
      double w = dt_is_float(h.dtype) ? dt_get_f(h.dtype, to[field], i) : (double)dt_get_i(h.dtype, to[field], i);
      if (v != w && (v == v || w == w)) abort();
    }
    tensor_drop(&x);
    field++;
  }
}

/* CR alone ends a line for load_csv, not for the stream. */
static bool cr_alone(const uint8_t *p, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (p[i] == '\r' && (i + 1 == n || p[i + 1] != '\n')) return true;
  return false;
}

static void fuzz_rows(DataTable *t, Arena *a, const MemFile *m, const uint8_t *data, size_t n) {
  Fault f = {0};
  CsvInfo c;
  bool ok = csv_header(a, m->path, &c, &f);
  int64_t id = data_csv(t, m->path, &(CsvOptions){.skip_bad = n % 2}, &f);
  if (id < 0) return;
  int64_t most = (int64_t)n + 1;
  void **to = calloc((size_t)data_set(t, id)->nfield + 1, sizeof *to);
  int64_t got = read_set(t, id, most, to);
  if (ok && got >= 0 && c.nrow < 1000 && !cr_alone(data, n) && !memchr(data, ':', n))
    compare(t, a, id, m->path, &c, got, to);
  for (int k = 0; k < data_set(t, id)->nfield; k++) free(to[k]);
  free(to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  if (n < 1) return 0;
  Fault f = {0};
  Feature feature[16];
  if (data[0] % 4 == 1) return example_features(data + 1, n - 1, 16, feature) > 16;
  MemFile m = mem_file(data + 1, n - 1);
  Arena *a = arena_new();
  DataTable *t = data_table_new(NULL);
  void *to[1024] = {0};
  int64_t id = -1;
  if (data[0] % 4 == 0) fuzz_rows(t, a, &m, data + 1, n - 1);
  if (data[0] % 4 == 2) id = data_tfrecord(t, m.path, &f);
  if (data[0] % 4 == 3) id = data_text_open(t, m.path, &f);
  if (id >= 0) {
    read_set(t, id, (int64_t)n, to);
    for (int k = 0; k < 1024; k++) free(to[k]);
  }
  data_table_free(t);
  arena_free(a);
  close(m.fd);
  return 0;
}
