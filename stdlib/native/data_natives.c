/* The natives data_open, data_next, data_rest, data_close, data_gather. Conventions: data.h. */
#include "stdlib/native/data_pass.h"
#include "stdlib/native/io.h"
#include <stdlib.h>
#include <string.h>

static bool wrong(Fault *f, const char *what) {
  fault_set(f, R_NATIVE, (Span){0}, "%s: wrong arguments", what);
  return false;
}

static DataTable *table_of(void *ctx) { return ctx ? ((NativeHost *)ctx)->data : NULL; }
static int64_t scalar(const Tensor *t) { return dt_get_i(t->dtype, t->data, 0); }
static void put(Tensor *t, int64_t v) { dt_put_i(t->dtype, t->data, 0, v); }

/* Results as the set's fields [lead..., ...]. The oracle's wide mode asks for f64 where a field is another float. */
typedef struct Dest {
  int n;
  void **to;
  Tensor *out;
  const DataField *field;
} Dest;

static bool dest_open(Dest *d, const DataSet *s, int nlead, const int64_t *lead, Tensor *out, Fault *f) {
  int64_t rows = 1;
  for (int a = 0; a < nlead; a++) rows *= lead[a];
  *d = (Dest){.n = s->nfield, .out = out, .field = s->field};
  if (!(d->to = calloc((size_t)s->nfield + 1, sizeof *d->to))) return data_no_memory(f, 8);
  for (int k = 0; k < s->nfield; k++) {
    bool same = out[k].dtype == s->field[k].dtype;
    if (out[k].rank != s->field[k].rank + nlead || (!same && out[k].dtype != DT_F64)) return wrong(f, "data");
    for (int a = 0; a < out[k].rank; a++)
      if (out[k].dim[a] != (a < nlead ? lead[a] : s->field[k].dim[a - nlead])) return wrong(f, "data");
    d->to[k] = same ? out[k].data : malloc(s->bytes[k] * (size_t)rows + 1);
    if (!d->to[k]) return data_no_memory(f, s->bytes[k] * (size_t)rows);
  }
  return true;
}
static void dest_close(Dest *d, bool ok) {
  for (int k = 0; d->to && k < d->n; k++) {
    if (d->to[k] == d->out[k].data) continue;
    int64_t n = ok && d->to[k] ? tensor_count(&d->out[k]) : 0;
    for (int64_t i = 0; i < n; i++) ((double *)d->out[k].data)[i] = dt_get_f(d->field[k].dtype, d->to[k], i);
    free(d->to[k]);
  }
  free(d->to);
}

static int64_t *keys_of(const DataSet *s, const Tensor *in, Fault *f) {
  int64_t *key = malloc(sizeof *key * (size_t)(s->nkey + 1));
  if (!key) return data_no_memory(f, sizeof *key * (size_t)s->nkey), NULL;
  for (int k = 0; k < s->nkey; k++) key[k] = scalar(&in[k]);
  return key;
}

static bool run_open(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  DataTable *t = table_of(ctx);
  if (!t || nattr != 2 || nout != 2) return wrong(f, "data_open");
  DataSet *s = data_set(t, attr[0].i);
  if (nin != 1 + s->nkey + s->ntensor) return wrong(f, "data_open");
  int64_t *key = keys_of(s, in + 1, f), size = attr[1].i < 1 ? 1 : attr[1].i;
  DataPassRun *p = key ? data_pass_new(s, size, scalar(&in[0]), key, in + 1 + s->nkey, f) : NULL;
  free(key);
  if (!p) return run_status(false, f);
  int64_t ready = data_pass_ready(p, f);
  if (ready < 0) return data_pass_free(p), run_status(false, f);
  put(&out[0], data_pass_keep(t, p)), put(&out[1], ready == size);
  return true;
}

static DataPassRun *pass_of(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, const char *what,
                            Fault *f) {
  DataTable *t = table_of(ctx);
  DataPassRun *p = t && nattr >= 1 && nin >= 1 ? data_pass_get(t, scalar(&in[0])) : NULL;
  if (p && data_pass_set(p)->id == attr[0].i) return p;
  fault_set(f, R_NATIVE, (Span){0}, "%s: this pass over the data is not open", what);
  return NULL;
}

/* The rows of the batch that data_next is to give: all, or those of a rank. */
typedef struct Window {
  int64_t rows, lo, hi;
} Window;
static Window window_of(int nattr, const Attr *attr) {
  int64_t rows = nattr == 2 || nattr == 4 ? attr[1].i : -1;
  return (Window){rows, nattr == 4 ? attr[2].i : 0, nattr == 4 ? attr[3].i : rows};
}
static bool fits(const DataSet *s, Window w, int nin, int nout) {
  return w.rows >= 1 && w.lo >= 0 && w.hi >= w.lo && w.hi <= w.rows && nin == 1 + s->ntensor && nout == s->nfield + 2;
}

static bool run_next(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  DataPassRun *p = pass_of(ctx, nattr, attr, nin, in, "data_next", f);
  if (!p) return false;
  DataSet *s = data_pass_set(p);
  Window w = window_of(nattr, attr);
  int64_t own = w.hi - w.lo, number, ready;
  if (!fits(s, w, nin, nout)) return wrong(f, "data_next");
  data_pass_tensors(p, in + 1);
  Dest d;
  bool ok = dest_open(&d, s, 1, &own, out, f) && data_pass_take(p, w.rows, w.lo, w.hi, d.to, &number, f);
  dest_close(&d, ok);
  ok = ok && (ready = data_pass_ready(p, f)) >= 0;
  if (ok) put(&out[s->nfield], ready == data_pass_size(p)), put(&out[s->nfield + 1], number);
  return run_status(ok, f);
}

/* The fields of the next batch. */
static int next_ahead(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out) {
  Fault f = {0};
  DataPassRun *p = pass_of(ctx, nattr, attr, nin, in, "data_next", &f);
  if (!p) return 0;
  DataSet *s = data_pass_set(p);
  Window w = window_of(nattr, attr);
  int64_t own = w.hi - w.lo;
  if (!fits(s, w, nin, nout)) return 0;
  data_pass_tensors(p, in + 1);
  Dest d;
  bool ok = dest_open(&d, s, 1, &own, out, &f) && data_pass_look(p, w.rows, w.lo, w.hi, d.to);
  dest_close(&d, ok);
  return ok ? s->nfield : 0;
}

static bool next_claim(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                       Fault *f) {
  DataPassRun *p = pass_of(ctx, nattr, attr, nin, in, "data_next", f);
  if (!p) return false;
  DataSet *s = data_pass_set(p);
  int64_t number;
  data_pass_tensors(p, in + 1);
  if (!data_pass_claim(p, window_of(nattr, attr).rows, &number)) return false;
  int64_t ready = data_pass_ready(p, f);
  if (ready >= 0) put(&out[s->nfield], ready == data_pass_size(p)), put(&out[s->nfield + 1], number);
  return run_status(ready >= 0, f);
}

static bool run_rest(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  DataPassRun *p = pass_of(ctx, nattr, attr, nin, in, "data_rest", f);
  int64_t n = p ? data_pass_ready(p, f) : -1;
  if (n < 0) return run_status(false, f);
  put(&out[0], n == data_pass_size(p) ? 0 : n);
  return true;
}

static bool run_close(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                      Fault *f) {
  if (!pass_of(ctx, nattr, attr, nin, in, "data_close", f)) return false;
  data_pass_end(table_of(ctx), scalar(&in[0]));
  return true;
}

/* ---- rows by number -------------------------------------------------------------------------------------------- */

typedef struct Wanted {
  int64_t row, at;
} Wanted;
static int by_row(const void *a, const void *b) {
  int64_t x = ((const Wanted *)a)->row, y = ((const Wanted *)b)->row;
  return (x > y) - (x < y);
}

static void copy_row(const DataSet *s, void *const *to, int64_t at, void *const *from, int64_t row) {
  for (int k = 0; k < s->nfield; k++)
    memcpy((char *)to[k] + s->bytes[k] * (size_t)at, (char *)from[k] + s->bytes[k] * (size_t)row, s->bytes[k]);
}

static bool no_such_row(const DataSet *s, int64_t row, int64_t n, Fault *f) {
  fault_set(f, R_INDEX, (Span){0}, "row %lld of %s, which has %lld", (long long)row, s->what, (long long)n);
  return false;
}

/* In one pass as far as the last of them, for a set without random access. */
static bool gather_stream(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  DataSet *s = it->set;
  Wanted *w = malloc(sizeof *w * (size_t)n);
  void **one = calloc((size_t)s->nfield + 1, sizeof *one);
  bool ok = w && one;
  for (int k = 0; ok && k < s->nfield; k++) ok = (one[k] = malloc(s->bytes[k] + 1)) != NULL;
  if (!ok) data_no_memory(f, sizeof *w * (size_t)n);
  for (int64_t k = 0; ok && k < n; k++) w[k] = (Wanted){row[k], k};
  bool run = true; /* 0, 1, 2, ..: read where they belong */
  for (int64_t k = 0; k < n; k++) run &= row[k] == k;
  if (ok && run) {
    int64_t got = data_iter_read(it, n, to, f);
    ok = got == n || (got >= 0 && no_such_row(s, got, got, f));
  } else if (ok) {
    qsort(w, (size_t)n, sizeof *w, by_row);
    int64_t at = 0; /* rows read; `one` holds row at - 1 */
    for (int64_t k = 0; ok && k < n; k++) {
      if (w[k].row >= at) {
        int64_t gap = w[k].row - at, got = gap ? data_iter_skip(it, gap, f) : 0;
        ok = got >= 0 && (got == gap || no_such_row(s, w[k].row, at + got, f));
        if (!ok) break;
        at += gap, got = data_iter_read(it, 1, one, f);
        ok = got == 1 || (got == 0 && no_such_row(s, w[k].row, at, f));
        at++;
      }
      if (ok) copy_row(s, to, w[k].at, one, 0);
    }
  }
  for (int k = 0; one && k < s->nfield; k++) free(one[k]);
  free(one), free(w);
  return ok;
}

static bool run_gather(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                       Fault *f) {
  DataTable *t = table_of(ctx);
  if (!t || nattr != 1 || nin < 1 || in[0].dtype != DT_I64) return wrong(f, "data_gather");
  DataSet *s = data_set(t, attr[0].i);
  if (nin != 1 + s->nkey + s->ntensor || nout != s->nfield) return wrong(f, "data_gather");
  const int64_t *row = in[0].data;
  int64_t n = tensor_count(&in[0]);
  for (int64_t k = 0; k < n; k++)
    if (row[k] < 0 || (s->length >= 0 && row[k] >= s->length)) return no_such_row(s, row[k], s->length, f);
  DataPass pass = {.set = s, .key = keys_of(s, in + 1, f), .tensor = in + 1 + s->nkey};
  DataIter *it = pass.key ? data_iter_open(s, &pass, 0, 0, f) : NULL;
  Dest d = {0};
  bool ok = it && dest_open(&d, s, in[0].rank, in[0].dim, out, f);
  ok = ok && (s->random ? data_iter_gather(it, n, row, d.to, f) : gather_stream(it, n, row, d.to, f));
  dest_close(&d, ok);
  data_iter_close(it);
  free(pass.key);
  return run_status(ok, f);
}

const Native data_natives[DATA_NATIVES] = {
    {.name = "data_open", .effect = true, .run = run_open},
    {.name = "data_next", .effect = true, .run = run_next, .ahead = next_ahead, .claim = next_claim},
    {.name = "data_rest", .effect = true, .run = run_rest},
    {.name = "data_close", .effect = true, .run = run_close},
    {.name = "data_gather", .run = run_gather},
};
