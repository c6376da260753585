/* Stages that keep rows: filter, which asks a compiled program about chunks of them; cache, which remembers them. */
#include "stdlib/native/data_set.h"
#include "graph/diag.h"
#include <stdlib.h>
#include <string.h>

static void **rows_new(const DataSet *s, int64_t n, Fault *f) {
  void **to = calloc((size_t)s->nfield + 1, sizeof *to);
  bool ok = to != NULL;
  for (int k = 0; ok && k < s->nfield; k++) {
    size_t bytes;
    ok = !__builtin_mul_overflow(s->bytes[k], (size_t)n, &bytes) && !posix_memalign(&to[k], 64, bytes + 1);
  }
  if (ok) return to;
  for (int k = 0; to && k < s->nfield; k++) free(to[k]);
  free(to);
  return data_no_memory(f, s->row_bytes * (size_t)n), NULL;
}
static void rows_free(const DataSet *s, void **to) {
  for (int k = 0; to && k < s->nfield; k++) free(to[k]);
  free(to);
}
static void copy_rows(const DataSet *s, void *const *to, int64_t at, void *const *from, int64_t row, int64_t n) {
  for (int k = 0; k < s->nfield; k++)
    memcpy((char *)to[k] + s->bytes[k] * (size_t)at, (char *)from[k] + s->bytes[k] * (size_t)row,
           s->bytes[k] * (size_t)n);
}

/* ---- filter ----------------------------------------------------------------------------------------------------- */

typedef struct Sieve {
  void **row;
  uint8_t *keep;
  int64_t n, at; /* rows in hand; the next one to look at */
  bool ended;
} Sieve;

static bool filter_open(DataIter *it, Fault *f) {
  const DataProgram *p = it->set->self;
  Sieve *s = calloc(1, sizeof *s);
  if (!s) return data_no_memory(f, sizeof *s);
  it->self = s;
  if (!(s->row = rows_new(it->set, p->chunk, f))) return false;
  return (s->keep = malloc((size_t)p->chunk)) != NULL || data_no_memory(f, (size_t)p->chunk);
}
static void filter_close(DataIter *it) {
  Sieve *s = it->self;
  if (s) rows_free(it->set, s->row), free(s->keep);
  free(s);
}

static bool ask(DataIter *it, Sieve *s, Fault *f) {
  DataSet *set = it->set;
  const DataProgram *p = set->self;
  for (int64_t k = s->n; k < p->chunk; k++) copy_rows(set, s->row, k, s->row, 0, 1); /* a row that is known to be one */
  Tensor *in = calloc((size_t)set->nfield + 1, sizeof *in);
  if (!in) return data_no_memory(f, sizeof *in);
  for (int k = 0; k < set->nfield; k++) {
    in[k] =
        (Tensor){.dtype = set->field[k].dtype, .rank = set->field[k].rank + 1, .dim = {p->chunk}, .data = s->row[k]};
    memcpy(in[k].dim + 1, set->field[k].dim, sizeof in[k].dim[0] * (size_t)set->field[k].rank);
  }
  Tensor out = {.dtype = DT_BOOL, .rank = 1, .dim = {p->chunk}, .data = s->keep};
  pthread_mutex_lock(&set->lock); /* one plan */
  bool ok = p->run(p->self, set->nfield, in, 1, &out, f);
  pthread_mutex_unlock(&set->lock);
  free(in);
  return ok;
}

static int64_t filter_read(DataIter *it, int64_t n, void *const *to, Fault *f) {
  Sieve *s = it->self;
  const DataProgram *p = it->set->self;
  for (int64_t done = 0;;) {
    while (s->at < s->n && done < n) { /* runs of rows that stay */
      while (s->at < s->n && !s->keep[s->at]) s->at++;
      int64_t from = s->at;
      while (s->at < s->n && s->keep[s->at] && done + (s->at - from) < n) s->at++;
      copy_rows(it->set, to, done, s->row, from, s->at - from);
      done += s->at - from;
    }
    if (done == n || s->ended) return done;
    s->n = data_iter_read(it->of[0], p->chunk, s->row, f);
    if (s->n < 0) return s->n = 0, -1;
    s->ended = s->n < p->chunk, s->at = 0;
    if (s->n && !ask(it, s, f)) return -1;
  }
}

static void filter_free(DataSet *s) {
  DataProgram *p = s->self;
  p->free(p->self);
}

static char *filter_text(DataTable *t, int64_t of, uint32_t node) {
  return arena_printf(data_arena(t), "filter %lld %u", (long long)of, node);
}
int64_t data_filter_known(DataTable *t, int64_t of, uint32_t node) { return data_known(t, filter_text(t, of, node)); }

int64_t data_filter(DataTable *t, int64_t of, uint32_t node, DataProgram p) {
  static const DataOps ops = {.open = filter_open, .close = filter_close, .read = filter_read, .free = filter_free};
  DataSet *d = data_set(t, of), *s = data_set_new(t, &ops, d->nfield, d->field, 1, &d);
  s->self = arena_copy(data_arena(t), &p, sizeof p);
  s->random = false, s->slow = true;
  if (s->length != DATA_ENDLESS && s->length) s->length = DATA_UNKNOWN;
  int64_t id = data_set_add(s);
  data_remember(t, filter_text(t, of, node), id);
  return id;
}

/* ---- map -------------------------------------------------------------------------------------------------------- */

typedef struct Mapped {
  void **in, **out; /* a chunk of rows below, and of those made of them */
  int64_t n, at;
  bool ended;
} Mapped;

static bool map_open(DataIter *it, Fault *f) {
  const DataProgram *p = it->set->self;
  Mapped *m = calloc(1, sizeof *m);
  if (!m) return data_no_memory(f, sizeof *m);
  it->self = m;
  return (m->in = rows_new(it->set->of[0], p->chunk, f)) && (m->out = rows_new(it->set, p->chunk, f));
}
static void map_close(DataIter *it) {
  Mapped *m = it->self;
  if (m) rows_free(it->set->of[0], m->in), rows_free(it->set, m->out);
  free(m);
}

static void as_tensors(const DataSet *s, int64_t n, void *const *row, Tensor *t) {
  for (int k = 0; k < s->nfield; k++) {
    t[k] = (Tensor){.dtype = s->field[k].dtype, .rank = s->field[k].rank + 1, .dim = {n}, .data = row[k]};
    memcpy(t[k].dim + 1, s->field[k].dim, sizeof t[k].dim[0] * (size_t)s->field[k].rank);
  }
}

static bool map_chunk(DataIter *it, Mapped *m, Fault *f) {
  DataSet *s = it->set, *of = s->of[0];
  const DataProgram *p = s->self;
  m->n = data_iter_read(it->of[0], p->chunk, m->in, f), m->at = 0;
  if (m->n < 0) return m->n = 0, false;
  m->ended = m->n < p->chunk;
  if (!m->n) return true;
  for (int64_t k = m->n; k < p->chunk; k++) copy_rows(of, m->in, k, m->in, 0, 1); /* a row that is known to be one */
  Tensor *t = calloc((size_t)(s->nfield + of->nfield), sizeof *t);
  if (!t) return data_no_memory(f, sizeof *t);
  as_tensors(of, p->chunk, m->in, t), as_tensors(s, p->chunk, m->out, t + of->nfield);
  pthread_mutex_lock(&s->lock);
  bool ok = p->run(p->self, of->nfield, t, s->nfield, t + of->nfield, f);
  pthread_mutex_unlock(&s->lock);
  free(t);
  return ok;
}

static int64_t map_read(DataIter *it, int64_t n, void *const *to, Fault *f) {
  Mapped *m = it->self;
  for (int64_t done = 0;;) {
    int64_t now = m->n - m->at < n - done ? m->n - m->at : n - done;
    copy_rows(it->set, to, done, m->out, m->at, now);
    done += now, m->at += now;
    if (done == n || m->ended) return done;
    if (!map_chunk(it, m, f)) return -1;
  }
}

int64_t data_mapped(DataTable *t, int64_t of, int nfield, const DataField *field, DataProgram p) {
  static const DataOps ops = {.open = map_open, .close = map_close, .read = map_read, .free = filter_free};
  DataSet *d = data_set(t, of), *s = data_set_new(t, &ops, nfield, field, 1, &d);
  s->self = arena_copy(data_arena(t), &p, sizeof p);
  s->random = false, s->slow = true;
  return data_set_add(s);
}

/* ---- cache ------------------------------------------------------------------------------------------------------ */

/* Over random access: each row is kept when it is first read. Over a stream: the first pass that reaches the end leaves
 * its rows here, and later ones read them. All under the set's lock but what is complete. */
typedef struct Cache {
  void **row;
  int64_t n;
  uint8_t *have; /* random access */
  bool complete; /* stream */
} Cache;

/* A pass over a stream that is not kept yet keeps its rows for itself until the end. */
typedef struct Keeper {
  void **row;
  int64_t n, cap;
  bool from_memory, begun;
} Keeper;

static bool cache_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  DataSet *s = it->set;
  Cache *c = s->self;
  bool ok = true;
  pthread_mutex_lock(&s->lock);
  if (!c->row) {
    c->row = rows_new(s, s->length, f);
    c->have = c->row ? calloc(1, (size_t)s->length + 1) : NULL;
    if (c->row && !c->have) data_no_memory(f, (size_t)s->length);
    ok = c->have != NULL;
  }
  for (int64_t k = 0; ok && k < n; k++) {
    if (!c->have[row[k]]) {
      void *at[64], **one = s->nfield <= 64 ? at : malloc(sizeof *one * (size_t)s->nfield);
      if (!(ok = one != NULL)) break;
      for (int j = 0; j < s->nfield; j++) one[j] = (char *)c->row[j] + s->bytes[j] * (size_t)row[k];
      ok = data_iter_gather(it->of[0], 1, &row[k], one, f);
      c->have[row[k]] = ok;
      if (one != at) free(one);
    }
    if (ok) copy_rows(s, to, k, c->row, row[k], 1);
  }
  pthread_mutex_unlock(&s->lock);
  return ok;
}

static bool keeper_grow(DataSet *s, Keeper *p, int64_t n, Fault *f) {
  if (p->n + n <= p->cap) return true;
  int64_t cap = p->cap ? p->cap : 1024;
  while (cap < p->n + n) cap *= 2;
  for (int k = 0; k < s->nfield; k++) {
    void *more = realloc(p->row[k], s->bytes[k] * (size_t)cap + 1);
    if (!more) return data_no_memory(f, s->row_bytes * (size_t)cap);
    p->row[k] = more;
  }
  p->cap = cap;
  return true;
}

static bool keeper_open(DataIter *it, Fault *f) {
  Keeper *p = calloc(1, sizeof *p);
  if (!p) return data_no_memory(f, sizeof *p);
  it->self = p;
  Cache *c = it->set->self;
  pthread_mutex_lock(&it->set->lock);
  p->from_memory = c->complete;
  pthread_mutex_unlock(&it->set->lock);
  if (p->from_memory) return true;
  if (!(p->row = calloc((size_t)it->set->nfield + 1, sizeof *p->row))) return data_no_memory(f, sizeof *p->row);
  DataSet *of = it->set->of[0];
  return (it->of[0] = data_iter_open(of, it->pass, it->key - of->nkey, it->tensor - of->ntensor, f)) != NULL;
}
static void keeper_close(DataIter *it) {
  Keeper *p = it->self;
  if (p) rows_free(it->set, p->row);
  free(p);
}

static int64_t keeper_read(DataIter *it, int64_t n, void *const *to, Fault *f) {
  DataSet *s = it->set;
  Cache *c = s->self;
  Keeper *p = it->self;
  if (p->from_memory) {
    if (n > c->n - it->at) n = c->n - it->at;
    copy_rows(s, to, 0, c->row, it->at, n);
    it->at += n;
    return n;
  }
  int64_t got = data_iter_read(it->of[0], n, to, f);
  if (got < 0 || !p->row) return got;
  if (!keeper_grow(s, p, got, f)) return -1;
  copy_rows(s, p->row, p->n, to, 0, got);
  p->n += got;
  if (got == n) return got;
  pthread_mutex_lock(&s->lock);
  if (!c->complete) c->row = p->row, c->n = p->n, c->complete = true, p->row = NULL;
  pthread_mutex_unlock(&s->lock);
  return got;
}

static void cache_free(DataSet *s) {
  Cache *c = s->self;
  rows_free(s, c->row), free(c->have);
}

int64_t data_cache(DataTable *t, int64_t of) {
  static const DataOps random = {.gather = cache_gather, .free = cache_free},
                       stream = {.open = keeper_open, .close = keeper_close, .read = keeper_read, .free = cache_free};
  DataSet *d = data_set(t, of);
  bool each = d->random && d->length >= 0;
  char *text = arena_printf(data_arena(t), "cache %lld", (long long)of);
  int64_t id = data_known(t, text);
  /* rows of the program's tensors are in memory, and other ones in each run; keys may differ between passes */
  if (d->borrows || d->nkey || d->length == DATA_ENDLESS) return of;
  if (id >= 0) return id;
  DataSet *s = data_set_new(t, each ? &random : &stream, d->nfield, d->field, 1, &d);
  s->self = arena_new_of(data_arena(t), Cache), s->lazy = !each, s->random = each;
  id = data_set_add(s);
  data_remember(t, text, id);
  return id;
}
