/* Leaves: the tensors and numbers inside tuples, records and models, in order; values rebuilt with other leaves.
 *
 * One walk does both. In a model only tensors are leaves: numbers, functions and the like are part of its structure,
 * and stay static whatever the leaves become. */
#include "lang/model.h"
#include "lang/space.h"
#include <string.h>

typedef struct Shared {
  const void *id, *to; /* a parameter's or state's identity, before and after */
  Value *v;            /* what it became */
} Shared;

typedef struct LeafWalk {
  Elab *E;
  Value *(*fn)(struct LeafWalk *w, Value *leaf, LeafKind kind, const char *path);
  void *ctx;
  bool rebuild, paths;
  const LeafMap *map; /* or NULL */
  int depth;          /* models open */
  VEC(Shared) seen;   /* in the outermost of them */
} LeafWalk;

static Value *walk(LeafWalk *w, Value *v, const char *path);

Value *v_model(Elab *E, ModelV *m) {
  Value *v = arena_new_of(E->a, Value);
  v->kind = V_MODEL, v->model = m;
  return v;
}

static bool is_leaf(const Value *v) { return v->kind == V_TENSOR || v->kind == V_NUM || v->kind == V_BOOL; }

/* Literal lists and constants of rank 0 are as static as numbers. */
static bool is_model_leaf(const Value *v) {
  return v->kind == V_TENSOR && !v->t.weak && !(v->t.rank == 0 && v->t.e->kind == EX_CONST);
}

static const char *sub_path(LeafWalk *w, const char *path, const char *name) {
  return w->paths ? path_join(w->E, path, name) : NULL;
}

const char *path_join(Elab *E, const char *a, const char *b) {
  if (!a || !*a) return b;
  return *b ? arena_printf(E->a, "%s.%s", a, b) : a;
}

static Value *with_id(Elab *E, Value *v, const void *id) {
  if (v->kind != V_TENSOR || v->t.id == id) return v;
  Value *r = arena_copy(E->a, v, sizeof *v);
  r->t.id = id;
  return r;
}

static const Shared *find_shared(const LeafWalk *w, const void *id) {
  for (int k = 0; k < w->seen.n; k++)
    if (w->seen.at[k].id == id) return &w->seen.at[k];
  return NULL;
}

/* A parameter or state: its first occurrence goes to fn. */
static void walk_cell(LeafWalk *w, Member *m, LeafKind kind, const char *path) {
  const Shared *s = find_shared(w, m->id);
  if (!s) {
    Value *now = kind == LEAF_STATE ? next_value(w->E, m->id, m->v) : m->v, *to = w->fn(w, now, kind, path);
    const void *id = !w->rebuild || to == now ? m->id : arena_alloc(w->E->a, 1);
    vec_push(w->E->a, &w->seen, ((Shared){m->id, id, to}));
    s = &w->seen.at[w->seen.n - 1];
  }
  m->v = s->v, m->id = s->to;
}

static Value *walk_model(LeafWalk *w, Value *v, const char *path) {
  const ModelV *m = v->model;
  if (m->hole || (w->depth && w->map && w->map->keep && w->map->keep(w->map->ctx, m))) return v;
  if (w->depth++ == 0) w->seen.n = 0;
  ModelV *c = arena_copy(w->E->a, m, sizeof *m);
  bool bare = w->map && w->map->bare;
  c->at = arena_copy(w->E->a, m->at, sizeof *m->at * (size_t)m->n);
  for (int k = 0; k < m->n; k++) {
    Member *x = &c->at[k];
    const char *p = sub_path(w, path, x->name);
    if (x->kind == MEM_PARAM)
      walk_cell(w, x, LEAF_PARAM, p);
    else if (x->kind == MEM_STATE && bare)
      x->v = v_none(w->E);
    else if (x->kind == MEM_STATE && x->v->kind != V_NONE)
      walk_cell(w, x, LEAF_STATE, p);
    else if (x->kind == MEM_ARG || x->kind == MEM_VALUE)
      x->v = walk(w, x->v, p);
  }
  w->depth--;
  if (!w->rebuild) return v;
  c->born = w->E->index, c->bare |= bare;
  if (w->map && w->map->lead > 0) {
    if (c->lead == TG_MAX_RANK) bug("a stack of %d axes", c->lead + 1);
    memmove(c->dim + 1, c->dim, sizeof *c->dim * (size_t)c->lead++);
    c->dim[0] = w->map->dim;
  } else if (w->map && w->map->lead < 0) {
    c->lead += w->map->lead;
    memmove(c->dim, c->dim - w->map->lead, sizeof *c->dim * (size_t)c->lead);
  }
  return v_model(w->E, c);
}

static Value *walk_items(LeafWalk *w, Value *v, const char *path) {
  Value **kid = arena_array(w->E->a, Value *, v->agg.n);
  for (int k = 0; k < v->agg.n; k++) {
    const char *name = !w->paths ? NULL : v->kind == V_RECORD ? v->agg.key[k] : arena_printf(w->E->a, "%d", k);
    kid[k] = walk(w, v->agg.at[k], sub_path(w, path, name));
  }
  if (!w->rebuild) return v;
  if (v->kind == V_RECORD) return v_record(w->E, v->agg.n, v->agg.key, kid);
  Value *r = v_tuple(w->E, v->agg.n, kid);
  r->kind = v->kind;
  return r;
}

static Value *walk(LeafWalk *w, Value *v, const char *path) {
  switch (v->kind) {
  case V_MODEL:
    return walk_model(w, v, path);
  case V_TUPLE:
  case V_RECORD:
  case V_ZIP:
    return walk_items(w, v, path);
  default:
    if (!w->depth) return is_leaf(v) ? w->fn(w, v, LEAF_PLAIN, path) : v;
    if (!is_model_leaf(v)) return v;
    const Shared *s = v->t.id ? find_shared(w, v->t.id) : NULL;
    if (s) return with_id(w->E, s->v, s->to);
    if (w->map && w->map->bare) return v_none(w->E);
    return w->fn(w, v, LEAF_VALUE, path);
  }
}

/* ---- listing --------------------------------------------------------------------------------------------------- */

typedef struct Leaf {
  Value *v;
  LeafKind kind;
  const char *path;
} Leaf;
typedef struct List {
  VEC(Leaf) at;
} List;

static Value *list_leaf(LeafWalk *w, Value *leaf, LeafKind kind, const char *path) {
  List *l = w->ctx;
  vec_push(w->E->a, &l->at, ((Leaf){leaf, kind, path}));
  return leaf;
}

static List list(Elab *E, Value *v, bool paths) {
  List l = {0};
  LeafWalk w = {.E = E, .fn = list_leaf, .ctx = &l, .paths = paths};
  walk(&w, v, "");
  return l;
}

int v_leaves(Elab *E, Value *v, Value ***out) {
  List l = list(E, v, false);
  *out = arena_array(E->a, Value *, l.at.n);
  for (int k = 0; k < l.at.n; k++) (*out)[k] = l.at.at[k].v;
  return l.at.n;
}

int v_leaf_kinds(Elab *E, Value *v, LeafKind **out) {
  List l = list(E, v, false);
  *out = arena_array(E->a, LeafKind, l.at.n);
  for (int k = 0; k < l.at.n; k++) (*out)[k] = l.at.at[k].kind;
  return l.at.n;
}

int v_leaf_paths(Elab *E, Value *v, const char ***out) {
  List l = list(E, v, true);
  *out = arena_array(E->a, const char *, l.at.n);
  for (int k = 0; k < l.at.n; k++) (*out)[k] = l.at.at[k].path;
  return l.at.n;
}

bool v_has_model(const Value *v) {
  if (v->kind == V_MODEL) return true;
  if (v->kind != V_TUPLE && v->kind != V_RECORD && v->kind != V_ZIP) return false;
  for (int k = 0; k < v->agg.n; k++)
    if (v_has_model(v->agg.at[k])) return true;
  return false;
}

/* ---- replacing ------------------------------------------------------------------------------------------------- */

typedef struct With {
  Value *const *leaf;
  int next;
} With;

static Value *next_leaf(LeafWalk *w, Value *leaf, LeafKind kind, const char *path) {
  (void)leaf, (void)kind, (void)path;
  With *x = w->ctx;
  return x->leaf[x->next++];
}

Value *v_with_leaves(Elab *E, Value *like, Value *const *leaf) {
  With x = {.leaf = leaf};
  LeafWalk w = {.E = E, .fn = next_leaf, .ctx = &x, .rebuild = true};
  return walk(&w, like, NULL);
}

Value *v_stacked(Elab *E, Value *like, Value *const *leaf, Dim lead) {
  With x = {.leaf = leaf};
  LeafMap map = {.lead = 1, .dim = lead};
  LeafWalk w = {.E = E, .fn = next_leaf, .ctx = &x, .rebuild = true, .map = &map};
  return walk(&w, like, NULL);
}

static Value *map_leaf(LeafWalk *w, Value *leaf, LeafKind kind, const char *path) {
  (void)path;
  return w->map->fn(w->E, w->map->ctx, leaf, kind);
}

Value *model_map(Elab *E, Value *model, const LeafMap *map) {
  LeafWalk w = {.E = E, .fn = map_leaf, .rebuild = true, .map = map};
  return walk(&w, model, NULL);
}

/* ---- structure ------------------------------------------------------------------------------------------------- */

static bool same_member(const Value *a, const Value *b) {
  if (a->kind == V_TENSOR && b->kind == V_TENSOR) return is_model_leaf(a) ? is_model_leaf(b) : value_same(a, b);
  if (a->kind != b->kind) return false;
  if (a->kind == V_MODEL) return model_same_structure(a->model, b->model);
  if (a->kind != V_TUPLE && a->kind != V_RECORD && a->kind != V_ZIP) return value_same(a, b);
  if (a->agg.n != b->agg.n) return false;
  for (int k = 0; k < a->agg.n; k++)
    if ((a->kind == V_RECORD && a->agg.key[k] != b->agg.key[k]) || !same_member(a->agg.at[k], b->agg.at[k]))
      return false;
  return true;
}

bool model_same_structure(const ModelV *a, const ModelV *b) {
  if (a == b) return true;
  if (a->def->ast != b->def->ast || a->n != b->n || a->lead != b->lead || a->bare != b->bare || a->hole != b->hole)
    return false;
  for (int k = 0; k < a->n; k++) {
    const Member *x = &a->at[k], *y = &b->at[k];
    if (x->name != y->name || x->kind != y->kind) return false;
    if ((x->kind == MEM_ARG || x->kind == MEM_VALUE) && !same_member(x->v, y->v)) return false;
  }
  return true;
}

/* ---- stacks and modes ------------------------------------------------------------------------------------------ */

typedef struct Row {
  Expr *k;
  int lead;
} Row;
static Value *row_fn(Elab *E, void *ctx, Value *leaf, LeafKind kind) {
  (void)kind;
  return view_index(E, leaf, 0, ((Row *)ctx)->k);
}
static bool row_keep(void *ctx, const ModelV *m) { return m->lead < ((Row *)ctx)->lead; }

Value *model_row(Elab *E, Value *stack, Expr *k) {
  Row r = {k, stack->model->lead};
  LeafMap map = {.fn = row_fn, .keep = row_keep, .ctx = &r, .lead = -1};
  return model_map(E, stack, &map);
}

Value *v_with_mode(Elab *E, Value *v, bool training) {
  if (v->kind == V_MODEL) {
    ModelV *c = arena_copy(E->a, v->model, sizeof *c);
    c->training = training;
    c->at = arena_copy(E->a, c->at, sizeof *c->at * (size_t)c->n);
    for (int k = 0; k < c->n; k++) c->at[k].v = v_with_mode(E, c->at[k].v, training);
    return v_model(E, c);
  }
  if (!v_has_model(v)) return v;
  Value *r = arena_copy(E->a, v, sizeof *v);
  r->agg.at = arena_array(E->a, Value *, v->agg.n);
  for (int k = 0; k < v->agg.n; k++) r->agg.at[k] = v_with_mode(E, v->agg.at[k], training);
  return r;
}

static Value *same_leaf(Elab *E, void *ctx, Value *leaf, LeafKind kind) {
  (void)E, (void)ctx, (void)kind;
  return leaf;
}

Value *v_bare(Elab *E, Value *v) {
  LeafMap map = {.fn = same_leaf, .bare = true};
  if (v->kind == V_MODEL) return model_map(E, v, &map);
  if (!v_has_model(v)) return v;
  Value *r = arena_copy(E->a, v, sizeof *v);
  r->agg.at = arena_array(E->a, Value *, v->agg.n);
  for (int k = 0; k < v->agg.n; k++) r->agg.at[k] = v_bare(E, v->agg.at[k]);
  return r;
}

Value *v_bare_like(Elab *E, Value *v, const Value *like) {
  if (v->kind == V_MODEL && like->kind == V_MODEL) return like->model->bare && !v->model->bare ? v_bare(E, v) : v;
  if (v->kind != like->kind || (v->kind != V_TUPLE && v->kind != V_RECORD) || v->agg.n != like->agg.n) return v;
  Value *r = arena_copy(E->a, v, sizeof *v);
  r->agg.at = arena_array(E->a, Value *, v->agg.n);
  for (int k = 0; k < v->agg.n; k++) r->agg.at[k] = v_bare_like(E, v->agg.at[k], like->agg.at[k]);
  return r;
}

/* ---- arithmetic ------------------------------------------------------------------------------------------------ */

typedef struct Params {
  int n;
  Value **at;
  const char **path;
} Params;

static Params params_of(Elab *E, Value *v, bool paths) {
  List l = list(E, v, paths);
  Params p = {.at = arena_array(E->a, Value *, l.at.n), .path = arena_array(E->a, const char *, l.at.n)};
  for (int k = 0; k < l.at.n; k++)
    if (l.at.at[k].kind == LEAF_PARAM) p.path[p.n] = l.at.at[k].path, p.at[p.n++] = l.at.at[k].v;
  return p;
}

static Value *next_param(LeafWalk *w, Value *leaf, LeafKind kind, const char *path) {
  (void)path;
  With *x = w->ctx;
  return kind == LEAF_PARAM ? x->leaf[x->next++] : leaf;
}

Value *model_arith(Elab *E, int n, Value *const *v, const Span *at, Span whole, const char *opname, ParamFn fn,
                   void *ctx) {
  Value *like = NULL, *arg[3];
  Params part[3] = {{0}};
  for (int k = 0; k < n; k++)
    if (v[k]->kind == V_MODEL && (!like || (like->model->bare && !v[k]->model->bare))) like = v[k];
  if (n > 3 || !like) bug("arithmetic of %d values on models", n);
  Params first = params_of(E, like, true);
  for (int k = 0; k < n; k++) {
    if (v[k]->kind == V_POISON) diag_unwind(E->d);
    if (v[k]->kind != V_MODEL) {
      if (v[k]->kind == V_NUM || v[k]->kind == V_BOOL || (v[k]->kind == V_TENSOR && v[k]->t.rank == 0)) continue;
      Diag *g = diag_add(E->d, T_TYPE, whole, "`%s` of %s and %s: a model meets scalars and models of its structure",
                         opname, v_type_text(E, like), v_type_text(E, v[k]));
      diag_note(E->d, g, at[k], "this is %s", v_type_text(E, v[k]));
      elab_fail(E, g);
    }
    part[k] = params_of(E, v[k], true);
    int j = 0;
    while (j < part[k].n && j < first.n && !strcmp(part[k].path[j], first.path[j])) j++;
    if (j == part[k].n && j == first.n) continue;
    Diag *g = diag_add(E->d, T_TYPE, whole, "`%s` of %s and %s: their parameters differ", opname, v_type_text(E, like),
                       v_type_text(E, v[k]));
    diag_note(E->d, g, (Span){0}, "one has %s where the other has %s", j < first.n ? first.path[j] : "no more",
              j < part[k].n ? part[k].path[j] : "no more");
    elab_fail(E, g);
  }
  Value **out = arena_array(E->a, Value *, first.n);
  for (int i = 0; i < first.n; i++) {
    for (int k = 0; k < n; k++) {
      arg[k] = v[k]->kind == V_MODEL ? part[k].at[i] : v[k];
      const TensorV *a = &first.at[i]->t, *b = &arg[k]->t;
      if (v[k]->kind != V_MODEL) continue;
      bool ok = a->rank == b->rank;
      for (int d = 0; d < a->rank && ok; d++) ok = a->dim[d].n == b->dim[d].n || a->dim[d].n < 0 || b->dim[d].n < 0;
      if (ok) continue;
      Diag *g = diag_add(E->d, S_MISMATCH, whole, "`%s` of two models whose parameters `%s` are %s and %s", opname,
                         first.path[i], v_type_text(E, first.at[i]), v_type_text(E, arg[k]));
      for (int d = 0; d < a->rank && a->rank == b->rank; d++)
        if (a->dim[d].n != b->dim[d].n) {
          note_origin(E, g, a->dim[d]);
          note_origin(E, g, b->dim[d]);
          break;
        }
      elab_fail(E, g);
    }
    out[i] = fn(E, ctx, n, arg);
  }
  With x = {.leaf = out};
  LeafWalk w = {.E = E, .fn = next_param, .ctx = &x, .rebuild = true};
  return walk(&w, like, NULL);
}
