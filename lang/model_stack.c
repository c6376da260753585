/* Stacks of models: one model whose leaves have a leading axis. Comprehensions build them, joins make them of pieces,
 * loops and comprehensions walk their rows, subscripts select. */
#include "lang/model.h"
#include "lang/space.h"
#include <string.h>

/* ---- building -------------------------------------------------------------------------------------------------- */

typedef struct Abstract {
  const Index *i;
  Span at;
} Abstract;

static Value *abstract_leaf(Elab *E, void *ctx, Value *leaf, LeafKind kind) {
  (void)kind;
  Abstract *a = ctx;
  return abstract_index(E, leaf, a->i, a->at);
}

/* A sub-model made outside of the comprehension is shared by all its rows. */
static bool made_outside(void *ctx, const ModelV *m) {
  const Index *i = m->born;
  while (i && i != ((Abstract *)ctx)->i) i = i->outer;
  return !i;
}

Value *model_abstract(Elab *E, Value *model, const Index *i, Span at) {
  const ModelV *m = model->model;
  if (m->hole) {
    Diag *g = diag_add(E->d, T_MODEL, at, "the models of a stack have one size, and this `%s` has `_`", m->def->name);
    diag_help(E->d, g, "write the size; or a tuple of models: (M(_, 3), M(_, 3))");
    elab_fail(E, g);
  }
  if (m->lead == TG_MAX_RANK) diag_fail(E->d, S_RANK, at, "more than %d axes", TG_MAX_RANK);
  Abstract a = {i, at};
  LeafMap map = {.fn = abstract_leaf,
                 .keep = made_outside,
                 .ctx = &a,
                 .lead = 1,
                 .dim = {.n = i->extent, .from = i->from, .sym = i->sym}};
  Value *r = model_map(E, model, &map);
  r->model->born = i->outer;
  return r;
}

bool model_pieces_stack(Elab *E, int n, Value *const *v) {
  Value **first, **leaf;
  int m = v_leaves(E, v[0], &first);
  if (v[0]->model->hole || v[0]->model->lead == TG_MAX_RANK) return false;
  for (int k = 1; k < n; k++) {
    if (v[k]->kind != V_MODEL || !model_same_structure(v[0]->model, v[k]->model)) return false;
    if (v_leaves(E, v[k], &leaf) != m) return false;
    for (int j = 0; j < m; j++)
      if (!pieces_stack(E, 2, (Value *[]){first[j], leaf[j]})) return false;
  }
  return true;
}

typedef struct Join {
  int n, next;
  Value ***leaf; /* of each piece */
  const Span *at;
  Span whole;
} Join;

static Value *join_leaf(Elab *E, void *ctx, Value *leaf, LeafKind kind) {
  (void)leaf, (void)kind;
  Join *j = ctx;
  Value **row = arena_array(E->a, Value *, j->n);
  for (int k = 0; k < j->n; k++) row[k] = j->leaf[k][j->next];
  j->next++;
  return join_stack(E, j->n, row, 0, j->at, j->whole);
}

Value *model_join(Elab *E, int n, Value *const *piece, const Span *at, Span whole) {
  if (!model_pieces_stack(E, n, piece)) {
    int k = 1;
    while (k < n - 1 && model_pieces_stack(E, 2, (Value *[]){piece[0], piece[k]})) k++;
    diag_fail(E->d, T_MODEL, at[k < n ? k : 0], "the models of a stack have one structure: %s does not go with %s",
              v_type_text(E, piece[k < n ? k : 0]), v_type_text(E, piece[0]));
  }
  Join j = {.n = n, .leaf = arena_array(E->a, Value **, n), .at = at, .whole = whole};
  for (int k = 0; k < n; k++) v_leaves(E, piece[k], &j.leaf[k]);
  LeafMap map = {.fn = join_leaf,
                 .ctx = &j,
                 .lead = 1,
                 .dim = {.n = n, .from = origin_new(E, NULL, whole, "%d models stacked here", n)}};
  return model_map(E, piece[0], &map);
}

/* ---- selecting ------------------------------------------------------------------------------------------------- */

typedef struct Select {
  const Env *env;
  Ast sub, base;
  const TensorV *first; /* the first leaf selected: whether the axis stays */
} Select;

static Value *select_leaf(Elab *E, void *ctx, Value *leaf, LeafKind kind) {
  (void)kind;
  Select *s = ctx;
  Value *r = elab_index(E, env_bind(E, s->env, s->base.name, leaf, s->base.span), &s->sub);
  if (!s->first) s->first = &r->t;
  return r;
}

static bool less_stacked(void *ctx, const ModelV *m) {
  (void)ctx;
  return m->lead == 0;
}

/* The number of the row that the subscript selects: what it makes of 0, 1, 2, ... */
static Expr *row_number(Elab *E, const Select *s, const Dim *dim) {
  Value *numbers = v_tensor(E, DT_I64, 1, dim, ex_iter(E->g, 0));
  Stream stream = E->stream;
  Ast sub = s->sub;
  Value *r = elab_index(E, env_bind(E, s->env, s->base.name, numbers, s->base.span), &sub);
  E->stream = stream;
  return r->t.e;
}

/* stack[i], stack[lo:hi]: a subscript of the leading axis of every leaf. */
Value *model_index(Elab *E, const Env *env, Value *model, Ast *e) {
  const ModelV *m = model->model;
  if (!m->lead) {
    Diag *g = diag_add(E->d, T_MODEL, e->span, "%s is no stack, so it has no subscripts", model_text(E, m));
    if (e->a->kind == AST_NAME) diag_help(E->d, g, "its members are fields: %s.name", e->a->name);
    elab_fail(E, g);
  }
  if (e->nkid != 1 || e->kid[0]->kind == AST_ELLIPSIS || e->kid[0]->kind == AST_NONE)
    diag_fail(E->d, T_MODEL, e->span, "a stack of models has one subscript at a time: stack[i] or stack[lo:hi]");
  Select s = {.env = env, .sub = *e};
  s.base = (Ast){.kind = AST_NAME, .span = e->a->span, .at = e->a->at, .name = name_of(E->names, "the stack", 9)};
  s.sub.a = &s.base;
  /* does the axis stay? */
  Stream stream = E->stream;
  const Next *next = E->next;
  Dim dim = m->dim[0];
  Value *probe = v_tensor(E, DT_BOOL, 1, &dim, ex_bool(E->g, true)); /* of the stack's length */
  probe = elab_index(E, env_bind(E, env, s.base.name, probe, e->a->span), &s.sub);
  E->stream = stream, E->next = next;
  bool slice = probe->t.rank == 1;
  if (probe->t.rank > 1) diag_fail(E->d, T_MODEL, e->span, "a stack of models has subscripts of rank 0 or 1");
  LeafMap map = {.fn = select_leaf, .keep = less_stacked, .ctx = &s, .lead = slice ? 0 : -1};
  Value *r = model_map(E, model, &map);
  if (slice)
    r->model->dim[0] = probe->t.dim[0];
  else
    next_rows_of(E, model, r, row_number(E, &s, &dim));
  return r;
}

int64_t model_len(Elab *E, Value *model, Span at, const char *what, const Origin **from) {
  const ModelV *m = model->model;
  if (!m->lead) diag_fail(E->d, T_TYPE, at, "%s is %s: only stacks have a length", what, model_text(E, m));
  *from = m->dim[0].from;
  return m->dim[0].n;
}
