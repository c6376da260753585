/* load and save: what a file holds is learnt from its header while checking; its data are read by a native when the
 * program runs, so an unused file is never read. */
#include "lang/builtin.h"
#include "lang/tensor_files.h"
#include "stdlib/native/files.h"
#include <string.h>

static Value *result_value(Elab *E, Node *call, int k) { return v_node(E, nd_get(E->g, call, k)); }

static TensorType type_of(Elab *E, const FileTensor *f) {
  return (TensorType){f->dtype, f->rank, arena_copy(E->a, f->dim, sizeof *f->dim * (size_t)f->rank)};
}

static FileTensor of_type(const TensorType *t) {
  FileTensor f = {t->dtype, t->rank, {0}};
  for (int d = 0; d < t->rank; d++) f.dim[d] = t->dim[d];
  return f;
}

static void name_axes(Elab *E, Value *v, const char *path, Span at) {
  for (int a = 0; v->kind == V_TENSOR && a < v->t.rank; a++)
    v->t.dim[a].from = origin_new(E, NULL, at, "%lld is axis %d of %s", (long long)v->t.dim[a].n, a, path);
}

/* What the program has saved before counts, not what lies on the disk while checking. */
static bool list_npz(Elab *E, const char *path, int *n, NpzMember **m, Fault *f) {
  const SavedFile *s = file_saved(E, path);
  if (!s) return npz_list(E->a, path, n, m, f);
  *n = s->n, *m = arena_array(E->a, NpzMember, s->n);
  for (int k = 0; k < s->n; k++) (*m)[k] = (NpzMember){s->name[k], of_type(&s->type[k])};
  return true;
}

static Value *load_npz(Elab *E, const char *path, Span at, Fault *f, bool *ok) {
  NpzMember *m;
  int n;
  if (!(*ok = list_npz(E, path, &n, &m, f))) return NULL;
  Attr *attr = arena_array(E->a, Attr, n + 1);
  TensorType *res = arena_array(E->a, TensorType, n);
  Name *key = arena_array(E->a, Name, n);
  Value **kid = arena_array(E->a, Value *, n);
  attr[0].s = path;
  for (int k = 0; k < n; k++) {
    attr[k + 1].s = m[k].name, res[k] = type_of(E, &m[k].type);
    key[k] = name_of(E->names, m[k].name, strlen(m[k].name));
  }
  Node *call = file_load_call(E, "load_npz", n + 1, attr, n, res, at);
  for (int k = 0; k < n; k++) name_axes(E, kid[k] = result_value(E, call, k), path, at);
  return v_record(E, n, key, kid);
}

/* A record of the numeric columns; text columns have no tensor and are left out. */
static Value *load_csv(Elab *E, const char *path, Span at, Fault *f, bool *ok) {
  CsvInfo info;
  if (file_saved(E, path)) {
    Diag *g = diag_add(E->d, M_FILE, at, "%s is written by this program: its columns are not known yet", path);
    diag_help(E->d, g, "save to .npz, which keeps names and dtypes");
    elab_fail(E, g);
  }
  if (!(*ok = csv_header(E->a, path, &info, f))) return NULL;
  Attr *attr = arena_array(E->a, Attr, info.ncol + 1);
  TensorType *res = arena_array(E->a, TensorType, info.ncol);
  Name *key = arena_array(E->a, Name, info.ncol);
  Value **kid = arena_array(E->a, Value *, info.ncol);
  int n = 0;
  attr[0].s = path;
  int64_t *nrow = arena_copy(E->a, &info.nrow, sizeof info.nrow);
  for (int k = 0; k < info.ncol; k++) {
    if (info.col[k].text) continue;
    attr[n + 1].i = k, attr[n + 1].f = k, res[n] = (TensorType){info.col[k].dtype, 1, nrow};
    key[n] = name_of(E->names, info.col[k].name, strlen(info.col[k].name));
    n++;
  }
  if (n == 0) diag_fail(E->d, M_FILE, at, "%s: no column holds numbers", path);
  Node *call = file_load_call(E, "load_csv", n + 1, attr, n, res, at);
  for (int k = 0; k < n; k++) name_axes(E, kid[k] = result_value(E, call, k), path, at);
  return v_record(E, n, key, kid);
}

static Value *load_one(Elab *E, const char *path, FileKind kind, Span at, Fault *f, bool *ok) {
  const SavedFile *s = file_saved(E, path);
  FileTensor t;
  *ok = true;
  if (s)
    t = of_type(&s->type[0]);
  else
    *ok = kind == FILE_NPY ? npy_header(path, &t, f) : idx_header(path, &t, f);
  if (!*ok) return NULL;
  TensorType res = type_of(E, &t);
  Attr attr = {.s = path};
  Value *v = result_value(E, file_load_call(E, kind == FILE_NPY ? "load_npy" : "load_idx", 1, &attr, 1, &res, at), 0);
  name_axes(E, v, path, at);
  return v;
}

static Value *load_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Span at = arg_span(c, bound[0]);
  const char *path = v_static_str(E, bound[0], at, "a file's name");
  FileKind kind = file_kind(path);
  if (kind == FILE_UNKNOWN)
    diag_fail(
        E->d, M_FILE, at,
        "%s: the name's end tells the format: .npy .npz .csv .safetensors .idx, -ubyte, the last two also with .gz",
        path);
  if (kind == FILE_SAFETENSORS) return load_safetensors(E, path, bound[1], at, bound[1] ? arg_span(c, bound[1]) : at);
  if (bound[1])
    diag_fail(E->d, T_ARGS, arg_span(c, bound[1]), "`like` goes with .safetensors files, not with %s", path);
  Fault f = {0};
  bool ok;
  Value *v = kind == FILE_NPZ   ? load_npz(E, path, at, &f, &ok)
             : kind == FILE_CSV ? load_csv(E, path, at, &f, &ok)
                                : load_one(E, path, kind, at, &f, &ok);
  if (!ok) diag_fail(E->d, f.id == E_NONE ? M_FILE : f.id, at, "%s", f.msg);
  return v;
}

/* ---- save ------------------------------------------------------------------------------------------------------ */

/* save(x, path): models and trees of tensors as safetensors, a tensor as npy or IDX, a record as npz, columns as CSV.
 */
static Value *save_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Span at = arg_span(c, bound[0]);
  const char *path = v_static_str(E, bound[1], c->span, "a file's name");
  FileKind kind = file_kind(path);
  if (kind == FILE_UNKNOWN)
    diag_fail(E->d, M_FILE, c->span, "%s: the name's end tells the format: .npy .npz .csv .safetensors .idx", path);
  effect_allowed(E, "save", c->span);
  file_settle(E, path, c->span);
  if (kind == FILE_SAFETENSORS) {
    save_safetensors(E, path, bound[0], at, c->span);
    return v_none(E);
  }
  Leaves l = leaves_of(E, bound[0], at, "what save writes");
  bool one = l.n == 1 && !*l.name[0];
  const char *native = kind == FILE_NPY   ? "save_npy"
                       : kind == FILE_NPZ ? "save_npz"
                       : kind == FILE_CSV ? "save_csv"
                                          : "save_idx";
  if ((kind == FILE_NPY || kind == FILE_IDX) && !one) {
    Diag *g = diag_add(E->d, T_TYPE, at, "%s holds one tensor, but this is %s", path, v_type_text(E, bound[0]));
    diag_help(E->d, g, "a record goes into .npz, a model into .safetensors");
    elab_fail(E, g);
  }
  if (kind == FILE_NPZ && one)
    diag_fail(E->d, T_TYPE, at, "%s holds a record of tensors, but this is %s", path, v_type_text(E, bound[0]));
  if (kind == FILE_CSV)
    for (int k = 0; k < l.n; k++)
      if (l.type[k].rank != (one ? 2 : 1) || (k && l.type[k].dim[0] != l.type[0].dim[0]))
        diag_fail(E->d, T_TYPE, at, "%s takes a tensor [N, C] or columns [N] of one length, not %s", path,
                  v_type_text(E, bound[0]));
  Attr *attr = arena_array(E->a, Attr, l.n + 1);
  attr[0].s = path;
  for (int k = 0; k < l.n; k++) attr[k + 1].s = l.name[k];
  effect_call(E, native, one ? 1 : l.n + 1, attr, l.n, l.node, c->span);
  file_note_save(E, path, false, l.n, l.name, l.node);
  return v_none(E);
}

/* ---- data sets that come with the system ----------------------------------------------------------------------- */

static Value *fashion_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  FashionFiles files;
  Fault f = {0};
  const char *dir = E->session->main->dir;
  if (!fashion_mnist_find(E->a, dir && *dir ? dir : NULL, &files, &f)) diag_fail(E->d, M_FILE, c->span, "%s", f.msg);
  const char *path[4] = {files.train_x, files.train_y, files.test_x, files.test_y};
  Value *v[4];
  for (int k = 0; k < 4; k++) v[k] = v_str(E, path[k], strlen(path[k]));
  return v_tuple(E, 4, v);
}

const Builtin builtins_files[] = {
    {"load", "path, like=", load_fn,
     "What a file holds: .npy and IDX a tensor, .npz a record, .csv a record of its numeric columns, .safetensors the "
     "tree "
     "of its names; with `like` (a model, a record, a tensor) the same with the file's tensors: names, dtypes and "
     "shapes "
     "must agree.",
     0},
    {"save", "x, path", save_fn,
     "Writes x: a model, record, tuple or tensor to .safetensors, a tensor to .npy or .idx, a record to .npz, columns "
     "to "
     ".csv. The file appears whole or not at all.",
     0},
    {"fashion_mnist_files", "", fashion_fn,
     "The paths of Fashion-MNIST: training images and labels, test images and labels.", 0},
    {0},
};
