/* Safetensors as values, and the order of loads and saves of one file. */
#include "lang/tensor_files.h"
#include "lang/fold.h"
#include "lang/model.h"
#include "stdlib/native/safetensors.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- which files the program writes ------------------------------------------------------------------------------ */

const SavedFile *file_saved(Elab *E, const char *path) {
  for (int k = E->session->saved.n; k-- > 0;)
    if (!strcmp(E->session->saved.at[k]->path, path)) return E->session->saved.at[k];
  return NULL;
}

/* A definition that is checked by itself may never run. */
void file_note_save(Elab *E, const char *path, bool part, int n, const char *const *name, Node *const *node) {
  if (E->checking) return;
  SavedFile *s = arena_new_of(E->a, SavedFile);
  TensorType *type = arena_array(E->a, TensorType, n);
  for (int k = 0; k < n; k++) type[k] = (TensorType){node[k]->dtype, node[k]->rank, node[k]->dim};
  *s = (SavedFile){path, n, name, type, part};
  vec_push(E->a, &E->session->saved, s);
}

/* The same native, marked as an effect. */
static const Native *ordered(Elab *E, const Native *fn) {
  const char *name = arena_printf(E->a, "%s_now", fn->name);
  const Native *f = natives_find(E->natives, name);
  if (!f) bug("no native `%s`", name);
  return f;
}

Node *file_load_call(Elab *E, const char *native, int nattr, const Attr *attr, int nres, const TensorType *res,
                     Span at) {
  const Native *fn = natives_find(E->natives, native);
  if (!fn) bug("no native `%s`", native);
  bool must = E->stream.dyn || file_saved(E, attr[0].s); /* dyn: in a loop (or after a seed, where it does no harm) */
  E->g->span = user_span(E, at);
  if (must && E->effects_allowed && !E->trial) {
    Node *n = nd_call(E->g, ordered(E, fn), nattr, attr, 0, NULL, nres, res);
    vec_push(E->a, &E->effect, n);
    return n;
  }
  Node *n = nd_call(E->g, fn, nattr, attr, 0, NULL, nres, res);
  if (!E->trial && !E->checking) vec_push(E->a, &E->session->loaded, n);
  return n;
}

void file_settle(Elab *E, const char *path, Span at) {
  for (int k = 0; k < E->session->loaded.n; k++) {
    Node *n = E->session->loaded.at[k];
    if (strcmp(n->call.attr[0].s, path)) continue;
    Node **get = arena_array(E->a, Node *, n->nres);
    for (int j = 0; j < n->nres; j++) get[j] = nd_get(E->g, n, j);
    effect_call(E, "after", 0, NULL, n->nres, get, at);
  }
}

/* ---- leaves ------------------------------------------------------------------------------------------------------ */

static void check_leaves(Elab *E, const Value *v, const char *name, Span at, const char *what) {
  if (v->kind == V_RECORD || v->kind == V_TUPLE) {
    for (int k = 0; k < v->agg.n; k++)
      check_leaves(E, v->agg.at[k],
                   path_join(E, name, v->kind == V_RECORD ? v->agg.key[k] : arena_printf(E->a, "%d", k)), at, what);
    return;
  }
  if (v->kind == V_MODEL || v->kind == V_TENSOR || v->kind == V_NUM || v->kind == V_BOOL) return;
  v_as_tensor(E, (Value *)v, at, *name ? arena_printf(E->a, "`%s`", name) : what);
}

Leaves leaves_of(Elab *E, Value *v, Span at, const char *what) {
  check_leaves(E, v, "", at, what);
  Leaves l = {0};
  Value **leaf;
  l.n = v_leaves(E, v, &leaf);
  v_leaf_paths(E, v, &l.name);
  l.node = arena_array(E->a, Node *, l.n);
  l.type = arena_array(E->a, TensorType, l.n);
  for (int k = 0; k < l.n; k++) {
    Value *x = tv_harden(E, leaf[k], at);
    TensorV *t = v_as_tensor(E, x, at, *l.name[k] ? l.name[k] : what);
    if (t->e->nvar) diag_fail(E->d, T_EFFECT, at, "%s depends on an index of the comprehension around it", what);
    l.node[k] = tv_closed(E, v_tensor(E, t->dtype, t->rank, t->dim, t->e));
    l.type[k] = (TensorType){l.node[k]->dtype, l.node[k]->rank, l.node[k]->dim};
  }
  return l;
}

Value *with_results(Elab *E, Value *v, Node *call, int first) {
  Value **leaf, **to;
  int n = v_leaves(E, v, &leaf);
  to = arena_array(E->a, Value *, n);
  for (int k = 0; k < n; k++) {
    to[k] = v_node(E, nd_get(E->g, call, first + k));
    for (int d = 0; leaf[k]->kind == V_TENSOR && d < leaf[k]->t.rank; d++) to[k]->t.dim[d] = leaf[k]->t.dim[d];
  }
  return v_with_leaves(E, v, to);
}

/* ---- names as a tree --------------------------------------------------------------------------------------------- */

typedef struct Tree {
  const char *key;
  Value *leaf;
  VEC(struct Tree *) kid;
} Tree;
enum { MOST_LEVELS = 64, MOST_POSITIONS = 4096 };

static Tree *tree_child(Elab *E, Tree *t, const char *key, size_t n) {
  if (t->kid.n) { /* names of one group stand together, as a rule */
    Tree *last = t->kid.at[t->kid.n - 1];
    if (strlen(last->key) == n && !memcmp(last->key, key, n)) return last;
  }
  for (int k = 0; k < t->kid.n; k++)
    if (strlen(t->kid.at[k]->key) == n && !memcmp(t->kid.at[k]->key, key, n)) return t->kid.at[k];
  Tree *c = arena_new_of(E->a, Tree);
  c->key = arena_strndup(E->a, key, n);
  vec_push(E->a, &t->kid, c);
  return c;
}

static bool position(const char *s, int *out) {
  size_t n = strlen(s);
  if (!n || n > 4 || strspn(s, "0123456789") != n || (n > 1 && *s == '0')) return false;
  return (*out = atoi(s)) < MOST_POSITIONS;
}

static Value *tree_value(Elab *E, const Tree *t) {
  if (t->leaf) return t->leaf;
  int at, most = -1;
  bool positions = t->kid.n > 0;
  for (int k = 0; k < t->kid.n && positions; k++)
    if ((positions = position(t->kid.at[k]->key, &at)) && at > most) most = at;
  Value **v = arena_array(E->a, Value *, positions ? most + 1 : t->kid.n);
  Name *key = arena_array(E->a, Name, t->kid.n);
  if (!positions) {
    for (int k = 0; k < t->kid.n; k++) {
      const char *s = t->kid.at[k]->key;
      key[k] = name_of(E->names, s, strlen(s)), v[k] = tree_value(E, t->kid.at[k]);
    }
    return v_record(E, t->kid.n, key, v);
  }
  for (int k = 0; k <= most; k++) v[k] = v_none(E); /* layers without parameters leave their position empty */
  for (int k = 0; k < t->kid.n; k++) {
    position(t->kid.at[k]->key, &at);
    v[at] = tree_value(E, t->kid.at[k]);
  }
  return v_tuple(E, most + 1, v);
}

Value *tree_of_names(Elab *E, const char *path, int n, const char *const *name, Value *const *leaf, Span at) {
  Tree root = {0};
  for (int k = 0; k < n; k++) {
    Tree *t = &root;
    const char *from = name[k];
    for (int level = 0;; level++) {
      const char *dot = strchr(from, '.');
      if (level == MOST_LEVELS) dot = NULL;
      t = tree_child(E, t, from, dot ? (size_t)(dot - from) : strlen(from));
      if (t->leaf || (!dot && t->kid.n)) {
        Diag *g = diag_add(E->d, M_FILE, at, "%s: `%s` is a tensor and the beginning of other names", path,
                           t->leaf ? arena_printf(E->a, "%.*s", dot ? (int)(dot - name[k]) : 1000, name[k]) : name[k]);
        diag_help(E->d, g, "load(path, like) reads it by the names of `like`");
        elab_fail(E, g);
      }
      if (!dot) break;
      from = dot + 1;
    }
    t->leaf = leaf[k];
  }
  return tree_value(E, &root);
}

/* ---- load -------------------------------------------------------------------------------------------------------- */

static const char BARE[] = "value"; /* the name of a tensor that was saved alone */

static const char *const *file_names(Elab *E, int n, const char *const *name) {
  const char **out = arena_array(E->a, const char *, n);
  for (int k = 0; k < n; k++) out[k] = *name[k] ? name[k] : BARE;
  return out;
}

static Node *read_call(Elab *E, const char *path, bool exact, int n, const char *const *name, const TensorType *type,
                       Span at) {
  Attr *attr = arena_array(E->a, Attr, n + 2);
  attr[0].s = path, attr[1].i = exact;
  for (int k = 0; k < n; k++) attr[k + 2].s = name[k];
  return file_load_call(E, "load_safetensors", n + 2, attr, n, type, at);
}

static Value *result(Elab *E, Node *call, int k, const char *path, const char *name, Span at) {
  Value *v = v_node(E, nd_get(E->g, call, k));
  for (int d = 0; d < v->t.rank; d++)
    v->t.dim[d].from =
        origin_new(E, NULL, at, "%lld is axis %d of `%s` in %s", (long long)v->t.dim[d].n, d, name, path);
  return v;
}

static Value *as_saved(Elab *E, const SavedFile *s, Span at) {
  const char *const *name = file_names(E, s->n, s->name);
  Node *call = read_call(E, s->path, true, s->n, name, s->type, at);
  Value **leaf = arena_array(E->a, Value *, s->n);
  for (int k = 0; k < s->n; k++) leaf[k] = result(E, call, k, s->path, name[k], at);
  return s->n == 1 && !*s->name[0] ? leaf[0] : tree_of_names(E, s->path, s->n, name, leaf, at);
}

static Value *as_found(Elab *E, const char *path, const StFile *s, Span at) {
  const char **name = arena_array(E->a, const char *, s->n);
  TensorType *type = arena_array(E->a, TensorType, s->n);
  Value **leaf = arena_array(E->a, Value *, s->n);
  for (int k = 0; k < s->n; k++) {
    const StTensor *t = &s->tensor[k];
    if (!t->known)
      diag_fail(E->d, M_FILE, at, "%s: `%s` has the dtype %s, which has no counterpart in tg", path, t->name, t->code);
    name[k] = t->name;
    type[k] = (TensorType){t->type.dtype, t->type.rank, arena_copy(E->a, t->type.dim, sizeof t->type.dim)};
  }
  Node *call = read_call(E, path, true, s->n, name, type, at);
  for (int k = 0; k < s->n; k++) leaf[k] = result(E, call, k, path, name[k], at);
  const char *kind = st_meta(s, "tg.kind");
  if (s->n == 1 && kind && !strcmp(kind, "tensor")) return leaf[0];
  return tree_of_names(E, path, s->n, name, leaf, at);
}

/* Every name, dtype and shape; each difference is a note. */
static void compare(Elab *E, const char *path, const StFile *s, const Leaves *l, const char *const *name, bool exact,
                    Value *like, Span at, Span like_at) {
  enum { MOST_NOTES = 8 };
  FileTensor *want = arena_array(E->a, FileTensor, l->n);
  for (int k = 0; k < l->n; k++) {
    want[k] = (FileTensor){l->type[k].dtype, l->type[k].rank, {0}};
    for (int d = 0; d < want[k].rank; d++) want[k].dim[d] = l->type[k].dim[d];
  }
  const char *const *line, *what = like->kind == V_MODEL ? "the model" : "`like`";
  int n = st_compare(E->a, s, l->n, name, want, exact, what, &line);
  if (!n) return;
  Diag *g =
      diag_add(E->d, M_WEIGHTS, at, "%s does not fit %s: %d %s", path, what, n, n == 1 ? "difference" : "differences");
  diag_note(E->d, g, like_at, "%s", line[0]);
  for (int k = 1; k < n && k < MOST_NOTES; k++) diag_note(E->d, g, (Span){0}, "%s", line[k]);
  if (n > MOST_NOTES) diag_note(E->d, g, (Span){0}, "and %d more; tg inspect %s lists the file", n - MOST_NOTES, path);
  elab_fail(E, g);
}

/* What the file will be once the program has saved it. */
static StFile future_file(Elab *E, const SavedFile *saved) {
  StFile s = {.n = saved->n, .tensor = arena_array(E->a, StTensor, saved->n)};
  const char *const *name = file_names(E, saved->n, saved->name);
  for (int k = 0; k < saved->n; k++) {
    const TensorType *t = &saved->type[k];
    s.tensor[k] = (StTensor){.name = name[k], .known = true, .type = {t->dtype, t->rank, {0}}};
    for (int d = 0; d < t->rank; d++) s.tensor[k].type.dim[d] = t->dim[d];
  }
  return s;
}

static Value *load_like(Elab *E, const char *path, const StFile *s, bool part, Value *like, Span at, Span like_at) {
  Leaves l = leaves_of(E, like, like_at, "what load fills");
  const char *const *name = file_names(E, l.n, l.name);
  compare(E, path, s, &l, name, !part, like, at, like_at);
  return with_results(E, like, read_call(E, path, !part, l.n, name, l.type, at), 0);
}

Value *load_safetensors(Elab *E, const char *path, Value *like, Span at, Span like_at) {
  const SavedFile *saved = file_saved(E, path);
  Fault f = {0};
  StFile s;
  bool there = !saved && st_list(E->a, path, &s, &f);
  if (!saved && !there) {
    if (E->checking && access(path, F_OK)) diag_unwind(E->d); /* it may be there when the definition is called */
    diag_fail(E->d, f.id ? f.id : M_FILE, at, "%s", f.msg);
  }
  if (saved) s = future_file(E, saved);
  const char *kind = st_meta(&s, "tg.kind");
  bool part = saved ? saved->part : kind && !strcmp(kind, "checkpoint");
  if (like) return load_like(E, path, &s, part, like, at, like_at);
  return saved ? as_saved(E, saved, at) : as_found(E, path, &s, at);
}

void save_safetensors(Elab *E, const char *path, Value *v, Span at, Span path_at) {
  Leaves l = leaves_of(E, v, at, "what save writes");
  bool bare = l.n == 1 && !*l.name[0];
  const char *const *name = file_names(E, l.n, l.name);
  Attr *attr = arena_array(E->a, Attr, l.n + 2);
  attr[0].s = path, attr[1].s = bare ? "tensor" : "";
  for (int k = 0; k < l.n; k++) attr[k + 2].s = name[k];
  effect_call(E, "save_safetensors", l.n + 2, attr, l.n, l.node, path_at);
  file_note_save(E, path, false, l.n, l.name, l.node);
}
