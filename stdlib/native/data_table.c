/* The table of data sets, their making, and iterators over them. */
#include "stdlib/native/data_set.h"
#include "stdlib/native/data_pass.h"
#include "graph/diag.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct Known {
  const char *text;
  int64_t id;
} Known;

struct DataTable {
  Arena *arena;
  VEC(DataSet *) set;
  VEC(Known) known;
  VEC(DataPassRun *) pass; /* by handle; NULL: closed */
  volatile int *interrupt;
};

DataTable *data_table_new(volatile int *interrupt) {
  Arena *a = arena_new();
  DataTable *t = arena_new_of(a, DataTable);
  t->arena = a, t->interrupt = interrupt;
  return t;
}

void data_table_end_run(DataTable *t) {
  if (!t) return;
  for (int k = 0; k < t->pass.n; k++)
    if (t->pass.at[k]) data_pass_free(t->pass.at[k]);
  t->pass.n = 0;
}

void data_table_free(DataTable *t) {
  if (!t) return;
  data_table_end_run(t);
  for (int k = 0; k < t->set.n; k++) {
    DataSet *s = t->set.at[k];
    if (s->ops->free) s->ops->free(s);
    pthread_mutex_destroy(&s->lock);
  }
  arena_free(t->arena);
}

Arena *data_arena(DataTable *t) { return t->arena; }
bool data_stopped(const DataTable *t) { return t->interrupt && *t->interrupt; }

int64_t data_pass_keep(DataTable *t, DataPassRun *p) {
  int k = 0;
  while (k < t->pass.n && t->pass.at[k]) k++;
  if (k == t->pass.n) vec_push(t->arena, &t->pass, NULL);
  t->pass.at[k] = p;
  return k + 1; /* 0 is never a handle */
}
DataPassRun *data_pass_get(const DataTable *t, int64_t handle) {
  return handle >= 1 && handle <= t->pass.n ? t->pass.at[handle - 1] : NULL;
}
void data_pass_end(DataTable *t, int64_t handle) {
  DataPassRun *p = data_pass_get(t, handle);
  if (!p) return;
  t->pass.at[handle - 1] = NULL;
  data_pass_free(p);
}

/* ---- sets ------------------------------------------------------------------------------------------------------ */

DataSet *data_set_new(DataTable *t, const DataOps *ops, int nfield, const DataField *field, int nof,
                      DataSet *const *of) {
  DataSet *s = arena_new_of(t->arena, DataSet);
  s->ops = ops, s->table = t, s->nfield = nfield, s->nof = nof, s->what = nof ? of[0]->what : "";
  s->field = arena_copy(t->arena, field, sizeof *field * (size_t)nfield);
  s->bytes = arena_array(t->arena, size_t, nfield);
  s->random = nof > 0;
  for (int k = 0; k < nfield; k++) {
    if (!shape_bytes(field[k].dtype, field[k].rank, field[k].dim, &s->bytes[k])) bug("a row of an impossible size");
    s->row_bytes += s->bytes[k];
    s->field[k].name = arena_strdup(t->arena, field[k].name ? field[k].name : "");
  }
  s->of = arena_copy(t->arena, of, sizeof *of * (size_t)nof);
  for (int k = 0; k < nof; k++) {
    s->nkey += of[k]->nkey, s->ntensor += of[k]->ntensor;
    s->random &= of[k]->random, s->slow |= of[k]->slow, s->borrows |= of[k]->borrows;
  }
  s->length = nof ? of[0]->length : DATA_UNKNOWN;
  pthread_mutex_init(&s->lock, NULL);
  return s;
}

int64_t data_set_add(DataSet *s) {
  s->nkey += s->own_key, s->ntensor += s->own_tensor;
  s->id = s->table->set.n;
  vec_push(s->table->arena, &s->table->set, s);
  return s->id;
}

DataSet *data_set(const DataTable *t, int64_t id) {
  if (!t || id < 0 || id >= t->set.n) bug("data set %lld", (long long)id);
  return t->set.at[id];
}

DataInfo data_info(const DataTable *t, int64_t id) {
  const DataSet *s = data_set(t, id);
  return (DataInfo){s->nfield, s->field, s->length, s->random, s->nkey, s->ntensor, s->what};
}

int64_t data_known(DataTable *t, const char *text) {
  for (int k = 0; k < t->known.n; k++)
    if (!strcmp(t->known.at[k].text, text)) return t->known.at[k].id;
  return -1;
}
void data_remember(DataTable *t, const char *text, int64_t id) {
  for (int k = 0; k < t->known.n; k++)
    if (!strcmp(t->known.at[k].text, text)) {
      t->known.at[k].id = id;
      return;
    }
  vec_push(t->arena, &t->known, ((Known){arena_strdup(t->arena, text), id}));
}

char *data_file_text(DataTable *t, const char *kind, const char *path) {
  struct stat st = {0};
  if (stat(path, &st)) memset(&st, 0, sizeof st);
  return arena_printf(t->arena, "%s %s %lld %lld.%09ld %llu %llu", kind, path, (long long)st.st_size,
                      (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (unsigned long long)st.st_ino,
                      (unsigned long long)st.st_dev);
}

/* ---- iterators ------------------------------------------------------------------------------------------------- */

bool data_no_memory(Fault *f, size_t bytes) {
  fault_set(f, R_MEMORY, (Span){0}, "out of memory: a data set asked for %zu bytes", bytes);
  return false;
}

DataIter *data_iter_open(DataSet *s, DataPass *p, int key, int tensor, Fault *f) {
  DataIter *it = calloc(1, sizeof *it);
  DataIter **of = calloc((size_t)s->nof + 1, sizeof *of);
  if (!it || !of) {
    free(it), free(of);
    return data_no_memory(f, sizeof *it), NULL;
  }
  *it = (DataIter){.set = s, .of = of, .pass = p};
  for (int k = 0; k < s->nof; k++) {
    if (!s->lazy && !(of[k] = data_iter_open(s->of[k], p, key, tensor, f))) return data_iter_close(it), NULL;
    key += s->of[k]->nkey, tensor += s->of[k]->ntensor;
  }
  it->key = key, it->tensor = tensor;
  if (s->ops->open && !s->ops->open(it, f)) return data_iter_close(it), NULL;
  return it;
}

/* Also of one that did not open: ops->close is then given self == NULL. */
void data_iter_close(DataIter *it) {
  if (!it) return;
  if (it->set->ops->close) it->set->ops->close(it);
  for (int k = 0; k < it->set->nof; k++) data_iter_close(it->of[k]);
  free(it->of), free(it->row), free(it);
}

int64_t *data_iter_rows(DataIter *it, int64_t n, Fault *f) {
  if (n <= it->nrow) return it->row;
  int64_t *p = realloc(it->row, sizeof *p * (size_t)n);
  if (!p) return data_no_memory(f, sizeof *p * (size_t)n), NULL;
  it->nrow = n;
  return it->row = p;
}

bool data_iter_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  return n == 0 || it->set->ops->gather(it, n, row, to, f);
}

int64_t data_iter_read(DataIter *it, int64_t n, void *const *to, Fault *f) {
  DataSet *s = it->set;
  if (!s->random) return n ? s->ops->read(it, n, to, f) : 0;
  if (s->length >= 0 && n > s->length - it->at) n = s->length - it->at;
  if (n <= 0) return 0;
  /* numbers of its own: a stage's gather uses it->row */
  int64_t *row = malloc(sizeof *row * (size_t)n);
  if (!row) return data_no_memory(f, sizeof *row * (size_t)n), -1;
  for (int64_t k = 0; k < n; k++) row[k] = it->at + k;
  bool ok = data_iter_gather(it, n, row, to, f);
  free(row);
  it->at += n;
  return ok ? n : -1;
}

int64_t data_iter_skip(DataIter *it, int64_t n, Fault *f) {
  DataSet *s = it->set;
  if (s->random) {
    if (s->length >= 0 && n > s->length - it->at) n = s->length - it->at;
    it->at += n;
    return n;
  }
  int64_t chunk = s->row_bytes ? (int64_t)((1 << 20) / s->row_bytes) + 1 : 1 << 16, done = 0;
  void **to = calloc((size_t)s->nfield + 1, sizeof *to);
  bool ok = to != NULL;
  for (int k = 0; ok && k < s->nfield; k++) ok = (to[k] = malloc(s->bytes[k] * (size_t)chunk + 1)) != NULL;
  if (!ok) data_no_memory(f, s->row_bytes * (size_t)chunk);
  while (ok && done < n) {
    int64_t want = n - done < chunk ? n - done : chunk, got = data_iter_read(it, want, to, f);
    ok = got >= 0;
    if (ok) done += got;
    if (got < want) break;
  }
  for (int k = 0; to && k < s->nfield; k++) free(to[k]);
  free(to);
  return ok ? done : -1;
}

uint64_t data_hash(uint64_t key, uint64_t i) { /* splitmix64's finaliser, twice */
  uint64_t h = key + UINT64_C(0x9E3779B97F4A7C15) * (i + 1);
  for (int k = 0; k < 2; k++) {
    h = (h ^ h >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    h = (h ^ h >> 27) * UINT64_C(0x94D049BB133111EB);
    h ^= h >> 31;
    h += key;
  }
  return h;
}
