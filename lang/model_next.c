/* Next values of states: `next m = e` inside value_grad.
 *
 * value_grad gives the states of its argument fresh ids and tracks them: a list, newest first, of what they are by now.
 * A method that reads a state sees its current value, so two calls of one layer update it twice. Loops carry what their
 * bodies change, branches choose, walks over stacks collect rows. */
#include "lang/model.h"
#include "lang/space.h"
#include <string.h>

static const Next *find_in(const Next *n, const void *id) {
  while (n && n->id != id) n = n->up;
  return n;
}
static const Next *find(const Elab *E, const void *id) { return find_in(E->next, id); }

Value *next_value(Elab *E, const void *id, Value *otherwise) {
  const Next *n = find(E, id);
  if (!n) return otherwise;
  return n->at ? view_index(E, next_value(E, n->parent, NULL), 0, n->at) : n->v;
}

static void push(Elab *E, Next n) {
  Next *p = arena_copy(E->a, &n, sizeof n);
  p->up = E->next;
  E->next = p;
}

void next_know(Elab *E, const void *id, Value *v) { push(E, (Next){.id = id, .v = v}); }

static Expr *iter_up(void *ctx, Expr *e) { return e->kind == EX_ITER ? ex_iter(ctx, (int)e->num.i + 1) : NULL; }

/* stack with v as its row `at`. */
static Value *with_row(Elab *E, Value *stack, Expr *at, Value *v) {
  const TensorV *t = &stack->t;
  Expr *here = ex_op2(E->g, OP_EQ, ex_iter(E->g, 0), at), *row = ex_map(E->g, v->t.e, iter_up, E->g);
  return tv_seal(E, v_tensor(E, t->dtype, t->rank, t->dim, ex_select(E->g, here, row, t->e)));
}

void next_write(Elab *E, const void *id, Value *v) {
  const Next *n = find(E, id);
  if (n && n->at)
    next_write(E, n->parent, with_row(E, next_value(E, n->parent, NULL), n->at, v));
  else
    push(E, (Next){.id = id, .v = v, .write = true});
}

int next_changes(Elab *E, const Next *mark, Change **out) {
  VEC(Change) all = {0};
  for (const Next *n = E->next; n != mark; n = n->up) {
    const Next *before = n->write ? find_in(mark, n->id) : NULL;
    bool newest = before != NULL;
    for (int k = 0; k < all.n && newest; k++) newest = all.at[k].id != n->id;
    if (newest) vec_push(E->a, &all, ((Change){n->id, before->v, n->v}));
  }
  *out = all.at;
  return all.n;
}

int next_rows(Elab *E, const Next *mark, RowWrite **out) {
  VEC(RowWrite) all = {0};
  for (const Next *n = E->next; n != mark; n = n->up) {
    if (!n->parent || n->at) continue;
    const Next *now = find(E, n->id);
    if (now->write) vec_push(E->a, &all, ((RowWrite){n->parent, n->v, now->v}));
  }
  *out = all.at;
  return all.n;
}

static bool depends_on(Elab *E, Value *v, const Index *i) {
  Index *free[TG_MAX_RANK];
  int n = free_union(E, v, 0, free);
  for (int k = 0; k < n; k++)
    if (free[k] == i) return true;
  return false;
}

static _Noreturn void fail_varying(Elab *E, const Index *i, Span at) {
  Diag *g = diag_add(E->d, T_MODEL, at, "a state's next value differs between the values of %s%s%s",
                     i->name ? "`" : "an index", i->name ? i->name : "", i->name ? "`" : "");
  diag_help(E->d, g, "call the layer once with the whole batch, or in a fold");
  elab_fail(E, g);
}

void next_close(Elab *E, const Next *mark, const Index *i, Expr *guard, Span at) {
  Change *change;
  RowWrite *row;
  int n = next_changes(E, mark, &change), m = next_rows(E, mark, &row);
  E->next = mark;
  for (int k = 0; k < n; k++) {
    if (depends_on(E, change[k].v, i)) fail_varying(E, i, at);
    next_write(E, change[k].id, change[k].v);
  }
  for (int k = 0; k < m; k++) {
    Value *v = guard ? tv_select(E, v_scalar(E, guard), row[k].v, row[k].before, at) : row[k].v;
    next_write(E, row[k].parent, tv_seal(E, abstract_index(E, v, i, at)));
  }
}

/* ---- rows of stacks -------------------------------------------------------------------------------------------- */

void next_rows_of(Elab *E, const Value *stack, const Value *row, Expr *at) {
  if (stack == row || !E->next) return;
  if (stack->kind == V_TUPLE || stack->kind == V_RECORD)
    for (int k = 0; k < stack->agg.n; k++) next_rows_of(E, stack->agg.at[k], row->agg.at[k], at);
  if (stack->kind != V_MODEL) return;
  const ModelV *s = stack->model, *r = row->model;
  for (int k = 0; k < s->n; k++) {
    const Member *a = &s->at[k], *b = &r->at[k];
    if (a->kind == MEM_ARG || a->kind == MEM_VALUE)
      next_rows_of(E, a->v, b->v, at);
    else if (a->kind == MEM_STATE && a->id != b->id && find(E, a->id) && !find(E, b->id))
      push(E, (Next){.id = b->id, .v = b->v, .parent = a->id, .at = at});
  }
}

/* ---- `next` ---------------------------------------------------------------------------------------------------- */

const Env *elab_next(Elab *E, const Env *env, Ast *e) {
  Name self = name_of(E->names, "self", 4);
  const Env *found = env_find(env, self);
  if (!found || found->v->kind != V_MODEL) return export_next(E, env, e);
  const ModelV *m = found->v->model;
  const Member *x = NULL;
  for (int k = 0; k < m->n; k++)
    if (m->at[k].name == e->name && m->at[k].kind != MEM_ARG) x = &m->at[k];
  if (!x || x->kind != MEM_STATE) {
    Diag *g = x ? diag_add(E->d, T_MODEL, e->span, "`%s` of `%s` is not a state: only states have next values", e->name,
                           m->def->name)
                : diag_add(E->d, T_MODEL, e->span, "`%s` has no state `%s`", m->def->name, e->name);
    if (x) diag_note(E->d, g, x->span, "it is declared here");
    VEC(const char *) all = {0};
    for (int k = 0; k < m->n; k++)
      if (m->at[k].kind == MEM_STATE) vec_push(E->a, &all, m->at[k].name);
    const char *near = closest_name(e->name, all.n, all.at);
    if (near)
      diag_help(E->d, g, "did you mean `%s`?", near);
    else if (x && x->kind == MEM_PARAM)
      diag_help(E->d, g, "parameters change by training; declare it as `%s: state[...]` to set it here", e->name);
    elab_fail(E, g);
  }
  Value *v = elab_expr(E, env, e->b), *old = next_value(E, x->id, x->v);
  if (old->kind == V_NONE)
    diag_fail(E->d, T_MODEL, e->span, "%s holds parameters only, as gradients do", model_text(E, m));
  TensorV *t = v_as_tensor(E, v, e->b->span, arena_printf(E->a, "the next value of `%s`", e->name)), *o = &old->t;
  bool ok = t->rank == o->rank;
  for (int k = 0; k < o->rank && ok; k++) ok = t->dim[k].n == o->dim[k].n || t->dim[k].n < 0 || o->dim[k].n < 0;
  if (!ok) {
    Diag *g = diag_add(E->d, S_MISMATCH, e->b->span, "the next value of `%s` is %s, but the state is %s", e->name,
                       v_type_text(E, v), v_type_text(E, old));
    diag_note(E->d, g, x->span, "the state is declared here");
    for (int k = 0; k < t->rank; k++) note_origin(E, g, t->dim[k]);
    elab_fail(E, g);
  }
  if (!t->weak && v->kind == V_TENSOR && t->dtype != o->dtype && (dt_is_float(t->dtype) || !dt_is_float(o->dtype))) {
    Diag *g = diag_add(E->d, T_DTYPE, e->b->span, "the next value of `%s` is %s, but the state is %s", e->name,
                       v_type_text(E, v), v_type_text(E, old));
    diag_note(E->d, g, x->span, "the state is declared here");
    diag_help(E->d, g, "%s(...) converts it", dt_name(o->dtype));
    elab_fail(E, g);
  }
  if (!find(E, x->id)) return env; /* nobody collects it */
  v = tv_cast(E, v, o->dtype, e->b->span);
  if (dt_is_float(o->dtype)) v = tv_elementwise(E, OP_STOP, 1, &v, &e->b->span, e->b->span);
  next_write(E, x->id, v);
  return env;
}

/* ---- tracking -------------------------------------------------------------------------------------------------- */

static Value *same_leaf(Elab *E, void *ctx, Value *leaf, LeafKind kind) {
  (void)ctx;
  return kind == LEAF_STATE ? arena_copy(E->a, leaf, sizeof *leaf) : leaf; /* a copy gets an id of its own */
}

static void track_model(Elab *E, const ModelV *m);
static void track(Elab *E, const Value *v) {
  if (v->kind == V_MODEL) track_model(E, v->model);
  if (v->kind == V_TUPLE || v->kind == V_RECORD || v->kind == V_ZIP)
    for (int k = 0; k < v->agg.n; k++) track(E, v->agg.at[k]);
}
static void track_model(Elab *E, const ModelV *m) {
  for (int k = 0; k < m->n; k++) {
    const Member *x = &m->at[k];
    if (x->kind == MEM_STATE && x->v->kind == V_TENSOR && !find(E, x->id))
      next_know(E, x->id, x->v);
    else if (x->kind == MEM_ARG || x->kind == MEM_VALUE)
      track(E, x->v);
  }
}

static Value *renew(Elab *E, Value *v) {
  if (v->kind == V_MODEL) {
    LeafMap map = {.fn = same_leaf};
    return model_map(E, v, &map);
  }
  if (!v_has_model(v)) return v;
  Value *r = arena_copy(E->a, v, sizeof *v);
  r->agg.at = arena_array(E->a, Value *, v->agg.n);
  for (int k = 0; k < v->agg.n; k++) r->agg.at[k] = renew(E, v->agg.at[k]);
  return r;
}

Value *next_track(Elab *E, Value *v) {
  Value *r = renew(E, v);
  track(E, r);
  return r;
}

Value *next_values(Elab *E, Value *v) {
  Value **leaf;
  LeafKind *kind;
  int n = v_leaves(E, v, &leaf), m = 0;
  v_leaf_kinds(E, v, &kind);
  for (int k = 0; k < n; k++)
    if (kind[k] == LEAF_STATE) leaf[m++] = leaf[k];
  return v_tuple(E, m, leaf);
}

Value *next_state(Elab *E, Value *like, Value *states) {
  Value **leaf;
  LeafKind *kind;
  int n = v_leaves(E, like, &leaf), m = 0;
  v_leaf_kinds(E, like, &kind);
  for (int k = 0; k < n; k++)
    if (kind[k] == LEAF_STATE) leaf[k] = states->agg.at[m++];
  return v_with_mode(E, v_with_leaves(E, like, leaf), false);
}
