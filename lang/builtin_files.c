/* load and save: what a file holds is learnt from its header while checking; its data are read by a native when the
 * program runs, so an unused file is never read. */
#include "lang/session.h"
#include "stdlib/native/files.h"
#include <string.h>

static Value *result_value(Elab *E, Node *call, int k) { return v_node(E, nd_get(E->g, call, k)); }

static TensorType type_of(Elab *E, const FileTensor *f) {
  return (TensorType){f->dtype, f->rank, arena_copy(E->a, f->dim, sizeof *f->dim * (size_t)f->rank)};
}

static Node *load_call(Elab *E, const char *native, int nattr, const Attr *attr, int nres, const TensorType *res) {
  const Native *fn = natives_find(E->natives, native);
  if (!fn) bug("no native `%s`", native);
  return nd_call(E->g, fn, nattr, attr, 0, NULL, nres, res);
}

static void name_axes(Elab *E, Value *v, const char *path, Span at) {
  for (int a = 0; v->kind == V_TENSOR && a < v->t.rank; a++)
    v->t.dim[a].from = origin_new(E, NULL, at, "%lld is axis %d of %s", (long long)v->t.dim[a].n, a, path);
}

static Value *load_npz(Elab *E, const char *path, Span at, Fault *f, bool *ok) {
  NpzMember *m;
  int n;
  if (!(*ok = npz_list(E->a, path, &n, &m, f))) return NULL;
  Attr *attr = arena_array(E->a, Attr, n + 1);
  TensorType *res = arena_array(E->a, TensorType, n);
  Name *key = arena_array(E->a, Name, n);
  Value **kid = arena_array(E->a, Value *, n);
  attr[0].s = path;
  for (int k = 0; k < n; k++) {
    attr[k + 1].s = m[k].name, res[k] = type_of(E, &m[k].type);
    key[k] = name_of(E->names, m[k].name, strlen(m[k].name));
  }
  Node *call = load_call(E, "load_npz", n + 1, attr, n, res);
  for (int k = 0; k < n; k++) name_axes(E, kid[k] = result_value(E, call, k), path, at);
  return v_record(E, n, key, kid);
}

/* A record of the numeric columns; text columns have no tensor and are left out. */
static Value *load_csv(Elab *E, const char *path, Span at, Fault *f, bool *ok) {
  CsvInfo info;
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
  Node *call = load_call(E, "load_csv", n + 1, attr, n, res);
  for (int k = 0; k < n; k++) name_axes(E, kid[k] = result_value(E, call, k), path, at);
  return v_record(E, n, key, kid);
}

static Value *load_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Span at = c->arg[0].span;
  const char *path = v_static_str(E, bound[0], at, "a file's name");
  Fault f = {0};
  FileTensor t;
  bool ok = true;
  Value *v = NULL;
  FileKind kind = file_kind(path);
  switch (kind) {
  case FILE_NPZ:
    v = load_npz(E, path, at, &f, &ok);
    break;
  case FILE_CSV:
    v = load_csv(E, path, at, &f, &ok);
    break;
  case FILE_NPY:
  case FILE_IDX:
    if (!(ok = kind == FILE_NPY ? npy_header(path, &t, &f) : idx_header(path, &t, &f))) break;
    TensorType res = type_of(E, &t);
    Attr attr = {.s = path};
    v = result_value(E, load_call(E, kind == FILE_NPY ? "load_npy" : "load_idx", 1, &attr, 1, &res), 0);
    name_axes(E, v, path, at);
    break;
  case FILE_UNKNOWN:
    diag_fail(E->d, M_FILE, at, "%s: the name's end tells the format: .npy .npz .csv .idx, -ubyte, also with .gz",
              path);
  }
  if (!ok) diag_fail(E->d, f.id == E_NONE ? M_FILE : f.id, at, "%s", f.msg);
  return v;
}

/* ---- save ------------------------------------------------------------------------------------------------------ */

typedef struct Leaves {
  VEC(Attr) name;
  VEC(Node *) node;
} Leaves;

static void collect(Elab *E, Leaves *l, Value *v, const char *name, Span at) {
  if (v->kind == V_RECORD || v->kind == V_TUPLE) {
    for (int k = 0; k < v->agg.n; k++) {
      const char *key = v->kind == V_RECORD ? v->agg.key[k] : arena_printf(E->a, "%d", k);
      collect(E, l, v->agg.at[k], *name ? arena_printf(E->a, "%s.%s", name, key) : key, at);
    }
    return;
  }
  TensorV *t = v_as_tensor(E, v, at, *name ? arena_printf(E->a, "`%s`", name) : "what save writes");
  Value *x = v_tensor(E, t->dtype, t->rank, t->dim, t->e);
  x->t.weak = t->weak;
  vec_push(E->a, &l->name, ((Attr){.s = name}));
  vec_push(E->a, &l->node, tv_closed(E, x));
}

/* save(x, path): a tensor as npy or IDX, a record as npz, columns as CSV. */
static Value *save_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Span at = c->arg[0].span;
  const char *path = v_static_str(E, bound[1], c->span, "a file's name");
  FileKind kind = file_kind(path);
  if (kind == FILE_UNKNOWN)
    diag_fail(E->d, M_FILE, c->span, "%s: the name's end tells the format: .npy .npz .csv .idx", path);
  Leaves l = {0};
  vec_push(E->a, &l.name, ((Attr){.s = path}));
  effect_allowed(E, "save", c->span);
  collect(E, &l, bound[0], "", at);
  bool one = l.node.n == 1 && bound[0]->kind != V_RECORD && bound[0]->kind != V_TUPLE;
  const char *native = kind == FILE_NPY   ? "save_npy"
                       : kind == FILE_NPZ ? "save_npz"
                       : kind == FILE_CSV ? "save_csv"
                                          : "save_idx";
  if ((kind == FILE_NPY || kind == FILE_IDX) && !one) {
    Diag *g = diag_add(E->d, T_TYPE, at, "%s holds one tensor, but this is %s", path, v_type_text(E, bound[0]));
    diag_help(E->d, g, "a record goes into .npz");
    elab_fail(E, g);
  }
  if (kind == FILE_NPZ && one)
    diag_fail(E->d, T_TYPE, at, "%s holds a record of tensors, but this is %s", path, v_type_text(E, bound[0]));
  if (kind == FILE_CSV)
    for (int k = 0; k < l.node.n; k++)
      if (l.node.at[k]->rank != (one ? 2 : 1) || (k && l.node.at[k]->dim[0] != l.node.at[0]->dim[0]))
        diag_fail(E->d, T_TYPE, at, "%s takes a tensor [N, C] or columns [N] of one length, not %s", path,
                  v_type_text(E, bound[0]));
  effect_call(E, native, one ? 1 : l.name.n, l.name.at, l.node.n, l.node.at, c->span);
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
    {"load", "path", load_fn,
     "What a file holds: .npy and IDX a tensor, .npz a record, .csv a record of its numeric columns. Read when used.",
     0},
    {"save", "x, path", save_fn,
     "Writes x: a tensor to .npy or .idx, a record to .npz, columns to .csv. The file appears whole or not at all.", 0},
    {"fashion_mnist_files", "", fashion_fn,
     "The paths of Fashion-MNIST: training images and labels, test images and labels.", 0},
    {0},
};
