/* Stages over other sets: shuffle, sample, take, skip, repeat, zip, enumerate.
 *
 * Over sets with random access a stage is arithmetic on row numbers; over the others it reads on. What a stage gives at
 * a position depends on the position and the key alone. */
#include "stdlib/native/data_set.h"
#include "graph/diag.h"
#include <stdlib.h>
#include <string.h>

static DataSet *stage(DataTable *t, const DataOps *random, const DataOps *stream, int64_t of, int64_t n) {
  DataSet *d = data_set(t, of), *s = data_set_new(t, d->random ? random : stream, d->nfield, d->field, 1, &d);
  s->n = n;
  return s;
}

static void copy_row(const DataSet *s, void *const *to, int64_t at, void *const *from, int64_t row) {
  for (int k = 0; k < s->nfield; k++)
    memcpy((char *)to[k] + s->bytes[k] * (size_t)at, (char *)from[k] + s->bytes[k] * (size_t)row, s->bytes[k]);
}

static void **buffer_new(const DataSet *s, int64_t rows, Fault *f) {
  void **to = calloc((size_t)s->nfield + 1, sizeof *to);
  bool ok = to != NULL;
  for (int k = 0; ok && k < s->nfield; k++) {
    size_t bytes;
    ok = !__builtin_mul_overflow(s->bytes[k], (size_t)rows, &bytes) && (to[k] = malloc(bytes + 1)) != NULL;
  }
  if (ok) return to;
  for (int k = 0; to && k < s->nfield; k++) free(to[k]);
  free(to);
  return data_no_memory(f, s->row_bytes * (size_t)rows), NULL;
}
static void buffer_free(const DataSet *s, void **b) {
  for (int k = 0; b && k < s->nfield; k++) free(b[k]);
  free(b);
}

/* ---- permutations ----------------------------------------------------------------------------------------------- */

/* A permutation of 0..n under a key. Up to 2^20 rows: Fisher-Yates, a list. Beyond: a Feistel network on the next even
 * number of bits, walked until it lands inside (fewer than 4 steps on average); it needs no memory. */
typedef struct Order {
  int64_t n;
  uint64_t key;
  uint32_t *list;
  int half; /* bits of one half */
} Order;
enum { LIST_MAX = 1 << 20, ROUNDS = 8 };

static bool order_open(Order *o, int64_t n, int64_t key, Fault *f) {
  *o = (Order){.n = n, .key = (uint64_t)key};
  if (n > LIST_MAX) {
    while ((INT64_C(1) << 2 * o->half) < n && o->half < 31) o->half++;
    return true;
  }
  if (!(o->list = malloc(sizeof *o->list * (size_t)(n + 1)))) return data_no_memory(f, sizeof *o->list * (size_t)n);
  for (int64_t k = 0; k < n; k++) o->list[k] = (uint32_t)k;
  for (int64_t k = n - 1; k > 0; k--) {
    int64_t j = (int64_t)((unsigned __int128)data_hash(o->key, (uint64_t)k) * (uint64_t)(k + 1) >> 64);
    uint32_t x = o->list[k];
    o->list[k] = o->list[j], o->list[j] = x;
  }
  return true;
}

static int64_t order_at(const Order *o, int64_t k) {
  if (o->list) return o->list[k];
  uint64_t mask = (UINT64_C(1) << o->half) - 1, x = (uint64_t)k;
  do {
    uint64_t lo = x & mask, hi = x >> o->half;
    for (uint64_t r = 0; r < ROUNDS; r++) {
      uint64_t next = hi ^ (data_hash(o->key + r, lo) & mask);
      hi = lo, lo = next;
    }
    x = hi << o->half | lo;
  } while (x >= (uint64_t)o->n);
  return (int64_t)x;
}

/* ---- shuffle and sample with random access ---------------------------------------------------------------------- */

static bool order_iter_open(DataIter *it, Fault *f) {
  Order *o = calloc(1, sizeof *o);
  if (!o) return data_no_memory(f, sizeof *o);
  it->self = o;
  return order_open(o, it->set->of[0]->length, it->pass->key[it->key], f);
}
static void order_iter_close(DataIter *it) {
  Order *o = it->self;
  if (o) free(o->list);
  free(o);
}
static bool order_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  int64_t *r = data_iter_rows(it, n, f);
  if (!r) return false;
  for (int64_t k = 0; k < n; k++) r[k] = order_at(it->self, row[k]);
  return data_iter_gather(it->of[0], n, r, to, f);
}

/* ---- shuffle of a stream: a buffer ------------------------------------------------------------------------------ */

typedef struct Pool {
  void **row;
  int64_t n, drawn; /* rows in the buffer; rows given so far */
  bool full, dry;
} Pool;

static bool pool_open(DataIter *it, Fault *f) {
  Pool *p = calloc(1, sizeof *p);
  if (!p) return data_no_memory(f, sizeof *p);
  it->self = p;
  return (p->row = buffer_new(it->set, it->set->n, f)) != NULL;
}
static void pool_close(DataIter *it) {
  Pool *p = it->self;
  if (p) buffer_free(it->set, p->row);
  free(p);
}
static int64_t shuffle_read(DataIter *it, int64_t n, void *const *to, Fault *f) {
  DataSet *s = it->set;
  Pool *p = it->self;
  if (!p->full) {
    p->n = data_iter_read(it->of[0], s->n, p->row, f);
    if (p->n < 0) return p->n = 0, -1;
    p->full = true, p->dry = p->n < s->n;
  }
  /* the next rows of the stream land in `to`, and change places with rows drawn from the buffer */
  int64_t fresh = p->dry ? 0 : data_iter_read(it->of[0], n, to, f), at = 0;
  if (fresh < 0) return -1;
  p->dry |= fresh < n;
  char *swap = malloc(s->row_bytes + 1);
  if (!swap) return data_no_memory(f, s->row_bytes), -1;
  for (; at < n && (at < fresh || p->n); at++) {
    uint64_t h = data_hash((uint64_t)it->pass->key[it->key], (uint64_t)p->drawn++);
    int64_t j = (int64_t)((unsigned __int128)h * (uint64_t)p->n >> 64);
    if (at < fresh) {
      for (int k = 0; k < s->nfield; k++) {
        char *x = (char *)to[k] + s->bytes[k] * (size_t)at, *y = (char *)p->row[k] + s->bytes[k] * (size_t)j;
        memcpy(swap, x, s->bytes[k]), memcpy(x, y, s->bytes[k]), memcpy(y, swap, s->bytes[k]);
      }
    } else {
      copy_row(s, to, at, p->row, j);
      copy_row(s, p->row, j, p->row, --p->n);
    }
  }
  free(swap);
  return at;
}

/* ---- sample of a stream: a reservoir ---------------------------------------------------------------------------- */

/* The whole stream is read before the first row is given; the reservoir holds n rows. */
static int64_t sample_read(DataIter *it, int64_t n, void *const *to, Fault *f) {
  DataSet *s = it->set;
  Pool *p = it->self;
  if (!p->full) {
    p->n = data_iter_read(it->of[0], s->n, p->row, f);
    if (p->n < 0) return p->n = 0, -1;
    enum { CHUNK = 256 };
    void **chunk = buffer_new(s, CHUNK, f);
    int64_t seen = p->n, got = chunk ? 0 : -1;
    while (chunk && p->n == s->n && (got = data_iter_read(it->of[0], CHUNK, chunk, f)) > 0)
      for (int64_t k = 0; k < got; k++, seen++) {
        uint64_t h = data_hash((uint64_t)it->pass->key[it->key], (uint64_t)seen);
        int64_t j = (int64_t)((unsigned __int128)h * (uint64_t)(seen + 1) >> 64);
        if (j < s->n) copy_row(s, p->row, j, chunk, k);
      }
    buffer_free(s, chunk);
    if (got < 0) return -1;
    p->full = true;
  }
  int64_t at = 0;
  for (; at < n && p->n; at++) {
    uint64_t h = data_hash(~(uint64_t)it->pass->key[it->key], (uint64_t)p->drawn++);
    int64_t j = (int64_t)((unsigned __int128)h * (uint64_t)p->n >> 64);
    copy_row(s, to, at, p->row, j);
    copy_row(s, p->row, j, p->row, --p->n);
  }
  return at;
}

static const DataOps order_ops = {.open = order_iter_open, .close = order_iter_close, .gather = order_gather};

int64_t data_shuffle(DataTable *t, int64_t of, int64_t buffer) {
  static const DataOps stream = {.open = pool_open, .close = pool_close, .read = shuffle_read};
  DataSet *d = data_set(t, of), *s = stage(t, d->length >= 0 ? &order_ops : &stream, &stream, of, buffer);
  s->random = d->random && d->length >= 0, s->own_key = 1;
  return data_set_add(s);
}

int64_t data_sample(DataTable *t, int64_t of, int64_t n) {
  static const DataOps stream = {.open = pool_open, .close = pool_close, .read = sample_read};
  DataSet *d = data_set(t, of), *s = stage(t, d->length >= 0 ? &order_ops : &stream, &stream, of, n);
  s->random = d->random && d->length >= 0, s->own_key = 1;
  s->length = d->length >= 0 && d->length < n ? d->length : d->length == DATA_UNKNOWN ? DATA_UNKNOWN : n;
  return data_set_add(s);
}

/* ---- take, skip, repeat ----------------------------------------------------------------------------------------- */

static bool same_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  return data_iter_gather(it->of[0], n, row, to, f);
}
static int64_t take_read(DataIter *it, int64_t n, void *const *to, Fault *f) {
  if (n > it->set->n - it->at) n = it->set->n - it->at;
  int64_t got = data_iter_read(it->of[0], n, to, f);
  if (got > 0) it->at += got;
  return got;
}
int64_t data_take(DataTable *t, int64_t of, int64_t n) {
  static const DataOps random = {.gather = same_gather}, stream = {.read = take_read};
  DataSet *s = stage(t, &random, &stream, of, n);
  if (s->length == DATA_ENDLESS || s->length > n) s->length = n;
  return data_set_add(s);
}

static bool skip_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  int64_t *r = data_iter_rows(it, n, f);
  if (!r) return false;
  for (int64_t k = 0; k < n; k++) r[k] = row[k] + it->set->n;
  return data_iter_gather(it->of[0], n, r, to, f);
}
static int64_t skip_read(DataIter *it, int64_t n, void *const *to, Fault *f) {
  if (!it->at && data_iter_skip(it->of[0], it->set->n, f) < 0) return -1;
  it->at = 1;
  return data_iter_read(it->of[0], n, to, f);
}
int64_t data_skip(DataTable *t, int64_t of, int64_t n) {
  static const DataOps random = {.gather = skip_gather}, stream = {.read = skip_read};
  DataSet *s = stage(t, &random, &stream, of, n);
  if (s->length >= 0) s->length = s->length < n ? 0 : s->length - n;
  return data_set_add(s);
}

static bool repeat_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  int64_t *r = data_iter_rows(it, n, f), each = it->set->of[0]->length;
  if (!r) return false;
  for (int64_t k = 0; k < n; k++) r[k] = row[k] % each;
  return data_iter_gather(it->of[0], n, r, to, f);
}
static int64_t repeat_read(DataIter *it, int64_t n, void *const *to, Fault *f) {
  DataSet *s = it->set;
  void **at = calloc((size_t)s->nfield + 1, sizeof *at);
  if (!at) return data_no_memory(f, sizeof *at), -1;
  int64_t done = 0;
  bool empty = false; /* the set gave nothing since it was begun: no use to begin again */
  while (done < n && !(s->n >= 0 && it->at >= s->n)) {
    for (int k = 0; k < s->nfield; k++) at[k] = (char *)to[k] + s->bytes[k] * (size_t)done;
    int64_t want = n - done, got = data_iter_read(it->of[0], want, at, f);
    if (got < 0) {
      done = -1;
      break;
    }
    done += got;
    if (got > 0) empty = false;
    if (got == want) break;
    if (empty) break;
    empty = true;
    if (++it->at == s->n) break;
    data_iter_close(it->of[0]);
    if (!(it->of[0] =
              data_iter_open(s->of[0], it->pass, it->key - s->of[0]->nkey, it->tensor - s->of[0]->ntensor, f))) {
      done = -1;
      break;
    }
  }
  free(at);
  return done;
}
int64_t data_repeat(DataTable *t, int64_t of, int64_t n) {
  static const DataOps random = {.gather = repeat_gather}, stream = {.read = repeat_read};
  DataSet *d = data_set(t, of), *s = stage(t, d->length >= 0 ? &random : &stream, &stream, of, n);
  if (n == 0 || d->length == 0)
    s->length = 0;
  else if (n < 0 || d->length == DATA_ENDLESS)
    s->length = DATA_ENDLESS;
  else if (d->length >= 0 && __builtin_mul_overflow(d->length, n, &s->length))
    s->length = DATA_ENDLESS;
  if (n == 0) s->random = true; /* no row is ever asked for */
  return data_set_add(s);
}

/* ---- zip, enumerate --------------------------------------------------------------------------------------------- */

static bool zip_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  int at = 0;
  for (int k = 0; k < it->set->nof; at += it->set->of[k]->nfield, k++)
    if (!data_iter_gather(it->of[k], n, row, to + at, f)) return false;
  return true;
}
static int64_t zip_read(DataIter *it, int64_t n, void *const *to, Fault *f) {
  int at = 0;
  for (int k = 0; k < it->set->nof; at += it->set->of[k]->nfield, k++) {
    int64_t got = data_iter_read(it->of[k], n, to + at, f);
    if (got < 0) return -1;
    n = got; /* the shortest ends it */
  }
  return n;
}
int64_t data_zip(DataTable *t, int n, const int64_t *of) {
  static const DataOps random = {.gather = zip_gather}, stream = {.read = zip_read};
  Arena *a = data_arena(t);
  DataSet **d = arena_array(a, DataSet *, n);
  bool all = true;
  int m = 0, at = 0;
  int64_t length = DATA_ENDLESS;
  for (int k = 0; k < n; k++) {
    d[k] = data_set(t, of[k]), all &= d[k]->random, m += d[k]->nfield;
    if (d[k]->length == DATA_UNKNOWN || length == DATA_UNKNOWN)
      length = DATA_UNKNOWN;
    else if (d[k]->length >= 0 && (length < 0 || d[k]->length < length))
      length = d[k]->length;
  }
  DataField *field = arena_array(a, DataField, m);
  for (int k = 0; k < n; at += d[k]->nfield, k++) memcpy(field + at, d[k]->field, sizeof *field * (size_t)d[k]->nfield);
  DataSet *s = data_set_new(t, all ? &random : &stream, m, field, n, d);
  s->length = length;
  return data_set_add(s);
}

static bool enumerate_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  memcpy(to[0], row, sizeof *row * (size_t)n);
  return data_iter_gather(it->of[0], n, row, to + 1, f);
}
static int64_t enumerate_read(DataIter *it, int64_t n, void *const *to, Fault *f) {
  int64_t got = data_iter_read(it->of[0], n, to + 1, f);
  for (int64_t k = 0; k < got; k++) ((int64_t *)to[0])[k] = it->at++;
  return got;
}
int64_t data_enumerate(DataTable *t, int64_t of) {
  static const DataOps random = {.gather = enumerate_gather}, stream = {.read = enumerate_read};
  DataSet *d = data_set(t, of);
  DataField *field = arena_array(data_arena(t), DataField, d->nfield + 1);
  field[0] = (DataField){.name = "", .dtype = DT_I64};
  memcpy(field + 1, d->field, sizeof *field * (size_t)d->nfield);
  return data_set_add(data_set_new(t, d->random ? &random : &stream, d->nfield + 1, field, 1, &d));
}
