/* Sources whose rows are tensors along a first axis: tensors of the program, IDX and npy files. */
#include "stdlib/native/data_set.h"
#include "stdlib/native/idx.h"
#include "stdlib/native/npy.h"
#include "graph/diag.h"
#include <stdlib.h>
#include <string.h>

/* ---- tensors of the program ------------------------------------------------------------------------------------- */

static bool rows_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  DataSet *s = it->set;
  for (int k = 0; k < s->nfield; k++) {
    const Tensor *t = &it->pass->tensor[it->tensor + k];
    size_t b = s->bytes[k];
    if (t->dtype == s->field[k].dtype) {
      for (int64_t i = 0; i < n; i++) memcpy((char *)to[k] + b * (size_t)i, (char *)t->data + b * (size_t)row[i], b);
      continue;
    }
    int64_t each = 1; /* the oracle's wide mode */
    for (int a = 0; a < s->field[k].rank; a++) each *= s->field[k].dim[a];
    for (int64_t i = 0; i < n * each; i++)
      dt_put_f(s->field[k].dtype, to[k], i, dt_get_f(t->dtype, t->data, row[i / each] * each + i % each));
  }
  return true;
}

int64_t data_rows(DataTable *t, int n, const DataField *field, int64_t length) {
  static const DataOps ops = {.gather = rows_gather};
  DataSet *s = data_set_new(t, &ops, n, field, 0, NULL);
  s->length = length, s->random = true, s->borrows = true, s->own_tensor = n, s->what = "data.rows";
  return data_set_add(s);
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

/* Rows stand one after the other in the file, or all are in memory: compressed files, those in another order of bytes
 * or axes, and small ones. */
typedef struct FileRows {
  const char *path;
  FileTensor type;
  const Native *load; /* reads the whole */
  bool whole;
  uint64_t data_at;
  Tensor all; /* under the set's lock until loaded, then constant */
  bool loaded;
} FileRows;

enum { KEEP_BYTES = 256 << 20 };

static bool load_all(DataSet *s, FileRows *r, Fault *f) {
  pthread_mutex_lock(&s->lock);
  bool ok = r->loaded;
  if (!ok) {
    Attr a = {.s = r->path};
    ok = tensor_alloc(&r->all, r->type.dtype, r->type.rank, r->type.dim) ||
         data_no_memory(f, s->row_bytes * (size_t)s->length);
    ok = ok && r->load->run(NULL, 1, &a, 0, NULL, 1, &r->all, f);
    if (!ok) tensor_drop(&r->all);
    r->loaded = ok;
  }
  pthread_mutex_unlock(&s->lock);
  return ok;
}

static bool file_open(DataIter *it, Fault *f) {
  DataSet *s = it->set;
  FileRows *r = s->self;
  if (r->whole) return load_all(s, r, f);
  In *in = malloc(sizeof *in);
  if (!in) return data_no_memory(f, sizeof *in);
  it->self = in;
  FileTensor now;
  if (!in_open(in, r->path, f) || !npy_header(r->path, &now, f)) return false;
  bool same = now.dtype == r->type.dtype && now.rank == r->type.rank;
  for (int a = 0; same && a < now.rank; a++) same = now.dim[a] == r->type.dim[a];
  return same || io_fail(f, r->path, "was changed since its header was read");
}
static void file_close(DataIter *it) {
  if (it->self) in_close(it->self);
  free(it->self);
}

static bool file_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  DataSet *s = it->set;
  FileRows *r = s->self;
  size_t b = s->bytes[0];
  char *at = to[0];
  if (r->whole) {
    for (int64_t i = 0; i < n; i++) memcpy(at + b * (size_t)i, (char *)r->all.data + b * (size_t)row[i], b);
    return true;
  }
  In *in = it->self;
  in->fault = f;
  for (int64_t i = 0, run; i < n; i += run) { /* neighbours at once */
    for (run = 1; i + run < n && row[i + run] == row[i] + run;) run++;
    if (!in_read(in, r->data_at + b * (uint64_t)row[i], at + b * (size_t)i, b * (size_t)run)) return false;
  }
  return true;
}

static void file_free(DataSet *s) {
  FileRows *r = s->self;
  if (r->loaded) tensor_drop(&r->all);
}

static int64_t file_rows(DataTable *t, const char *text, const FileRows *r, Fault *f) {
  static const DataOps ops = {.open = file_open, .close = file_close, .gather = file_gather, .free = file_free};
  if (!r->type.rank) return io_fail(f, r->path, "holds a scalar: it has no rows"), -1;
  DataField field = {.name = "", .dtype = r->type.dtype, .rank = r->type.rank - 1};
  memcpy(field.dim, r->type.dim + 1, sizeof field.dim[0] * (size_t)field.rank);
  DataSet *s = data_set_new(t, &ops, 1, &field, 0, NULL);
  FileRows *own = arena_copy(data_arena(t), r, sizeof *r);
  own->path = arena_strdup(data_arena(t), r->path);
  own->whole |= s->row_bytes * (uint64_t)r->type.dim[0] <= KEEP_BYTES;
  s->length = r->type.dim[0], s->random = true, s->slow = !own->whole, s->self = own, s->what = own->path;
  int64_t id = data_set_add(s);
  data_remember(t, text, id);
  return id;
}

int64_t data_idx(DataTable *t, const char *path, Fault *f) {
  char *text = data_file_text(t, "idx", path);
  int64_t id = data_known(t, text);
  FileRows r = {.path = path, .load = &native_load_idx, .whole = true};
  if (id >= 0) return id;
  return idx_header(path, &r.type, f) ? file_rows(t, text, &r, f) : -1;
}

int64_t data_npy(DataTable *t, const char *path, Fault *f) {
  char *text = data_file_text(t, "npy", path);
  int64_t id = data_known(t, text);
  FileRows r = {.path = path, .load = &native_load_npy};
  Npy npy;
  if (id >= 0) return id;
  if (!npy_open_header(path, &npy, f)) return -1;
  r.type = npy.type, r.data_at = npy.data_at, r.whole = npy.fortran && npy.type.rank > 1;
  return file_rows(t, text, &r, f);
}
