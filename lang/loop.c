/* Loops: fold, scan and for become one LOOP node; over a tuple they are unrolled.
 *
 * The state is a value; its tensors and numbers are the loop's PARAMs. The body is elaborated with the PARAMs in their place,
 * again if needed, until nothing changes:
 *   dtype   a weak state (0, [1, 2]) is weak in the body first, takes the dtype of the next state, and is joined with it
 *   shape   must not change
 *   free    the indices of enclosing comprehensions that the next state depends on become leading axes of the state
 * `while` inside a comprehension differs between elements: a hidden bool state says which go on, the others keep their value. */
#include "lang/loop.h"
#include <string.h>

static const char *state_name(const LoopForm *f, int leaf) {
  int at = 0;
  for (int k = 0; k < f->nt; k++) {
    Value **l, *v = f->nt == 1 ? f->init : f->init->agg.at[k];
    at += v_leaves(f->E, v, &l);
    if (leaf < at) return f->ast->kid2[k]->name ? f->ast->kid2[k]->name : "state";
  }
  return "state";
}

static void read_init(LoopForm *f) {
  Elab *E = f->E;
  if (f->nt == 0) {
    f->init = v_tuple(E, 0, NULL);
    return;
  }
  Ast *e = f->ast;
  f->init = elab_expr(E, f->env, e->b);
  if (f->nt > 1 && (f->init->kind != V_TUPLE || f->init->agg.n != f->nt))
    diag_fail(E->d, T_TYPE, e->b->span, "%d states need %d first values, not %s", f->nt, f->nt,
              v_type_text(E, f->init));
  Value **l;
  f->nleaf = v_leaves(E, f->init, &l);
  f->leaf = arena_array(E->a, StateLeaf, f->nleaf);
  for (int k = 0; k < f->nleaf; k++) {
    StateLeaf *s = &f->leaf[k];
    s->init = l[k];
    Num num;
    if (v_num(l[k], &num))
      s->dtype = num.is_bool ? DT_BOOL : num.is_float ? DT_F64 : DT_I64, s->weak = !num.is_bool;
    else {
      s->dtype = l[k]->t.dtype, s->weak = l[k]->t.weak, s->rank = l[k]->t.rank;
      memcpy(s->dim, l[k]->t.dim, sizeof s->dim);
    }
  }
}

/* ---- the block's value ------------------------------------------------------------------------------------------- */

/* Splits the block's value into the next state and what a scan stacks. */
void loop_split(LoopForm *f, Value *state, Value *v, bool strict) {
  Elab *E = f->E;
  Span at = f->ast->a->span;
  if (f->nt == 0) {
    f->next = f->init;
    return;
  }
  int extra = 0;
  Value **rest = NULL;
  if (f->nt == 1) {
    bool tuple_state = state->kind == V_TUPLE && (!strict || same_structure(state, v));
    if (f->scan && v->kind == V_TUPLE && !tuple_state && v->agg.n >= 1)
      f->next = v->agg.at[0], extra = v->agg.n - 1, rest = v->agg.at + 1;
    else
      f->next = v;
  } else {
    if (v->kind != V_TUPLE || v->agg.n < f->nt || (!f->scan && v->agg.n > f->nt))
      diag_fail(E->d, T_TYPE, at, "the block gives the next %d states; this gives %s", f->nt, v_type_text(E, v));
    f->next = v_tuple(E, f->nt, v->agg.at), extra = v->agg.n - f->nt, rest = v->agg.at + f->nt;
  }
  f->next = v_bare_like(E, f->next, f->init);
  if (strict && !same_structure(f->init, f->next)) {
    Diag *g = diag_add(E->d, T_TYPE, at, "the state is %s before a step and %s after it", v_type_text(E, f->init),
                       v_type_text(E, f->next));
    diag_note(E->d, g, f->ast->b->span, "the first state");
    elab_fail(E, g);
  }
  f->nstack = 0;
  if (!f->scan) return;
  f->stack = arena_array(E->a, Value *, f->nt + extra);
  for (int k = 0; k < f->nt; k++) f->stack[f->nstack++] = f->nt == 1 ? f->next : f->next->agg.at[k];
  for (int k = 0; k < extra; k++) f->stack[f->nstack++] = rest[k];
}

/* Compares next leaf n with the state: adapts the state's dtype. True when it changed. */
static bool adapt(LoopForm *f, int k, Value *n) {
  Elab *E = f->E;
  StateLeaf *s = &f->leaf[k];
  Span at = f->ast->a->span;
  int rank = n->kind == V_TENSOR ? n->t.rank : 0;
  bool ok = rank == s->rank;
  for (int a = 0; a < rank && ok; a++) {
    if (s->dim[a].n < 0) s->dim[a] = n->t.dim[a];
    ok = n->t.dim[a].n < 0 || n->t.dim[a].n == s->dim[a].n;
  }
  if (!ok) {
    Value *before = v_tensor(E, tv_hard_dtype(&(TensorV){.dtype = s->dtype, .weak = s->weak}), s->rank, s->dim, NULL);
    Diag *g = diag_add(E->d, S_MISMATCH, at, "the state `%s` is %s before a step and %s after it: its shape must stay",
                       state_name(f, k), v_type_text(E, before), v_type_text(E, n));
    diag_note(E->d, g, f->ast->b->span, "the first state");
    for (int a = 0; a < rank; a++) note_origin(E, g, n->t.dim[a]);
    if (s->rank == 0 && rank > 0)
      diag_help(E->d, g, "begin with zeros%s",
                rank == 1 ? arena_printf(E->a, "(%lld)", (long long)n->t.dim[0].n) : " of that shape");
    elab_fail(E, g);
  }
  Num num;
  bool weak_next = (v_num(n, &num) && !num.is_bool) || (n->kind == V_TENSOR && n->t.weak);
  DType t = n->kind == V_TENSOR ? n->t.dtype : v_num(n, &num) && num.is_bool ? DT_BOOL : num.is_float ? DT_F64 : DT_I64;
  if (s->weak) {
    bool flt = dt_is_float(s->dtype);
    if (weak_next)
      s->dtype = dt_is_float(t) || flt ? DT_F32 : DT_I64;
    else
      s->dtype = flt && !dt_is_float(t) ? DT_F32 : !flt && t == DT_BOOL ? DT_I64 : t;
    s->weak = false;
    return true;
  }
  if (weak_next) { /* 1 fits any number; a decimal makes integers floats */
    if (!dt_is_float(t) && s->dtype != DT_BOOL) return false;
    if (dt_is_float(s->dtype)) return false;
    s->dtype = dt_is_float(t) ? DT_F32 : DT_I64;
    return true;
  }
  if (t == s->dtype) return false;
  DType j;
  if (!dt_join(t, s->dtype, &j)) {
    Diag *g = diag_add(E->d, T_DTYPE, at, "the state `%s` is %s before a step and %s after it", state_name(f, k),
                       dt_name(s->dtype), v_type_text(E, n));
    diag_note(E->d, g, f->ast->b->span, "the first state");
    diag_help(E->d, g, "%s(...) around the next state converts it", dt_name(s->dtype));
    elab_fail(E, g);
  }
  bool changed = j != s->dtype;
  s->dtype = j;
  return changed;
}

/* ---- one attempt ------------------------------------------------------------------------------------------------- */

static Value *param_value(LoopForm *f, StateLeaf *s, const char *name) {
  Elab *E = f->E;
  int64_t dim[TG_MAX_RANK];
  if (f->nfree + s->rank > TG_MAX_RANK)
    diag_fail(E->d, S_RANK, f->ast->span, "more than %d indices and axes meet in one state", TG_MAX_RANK);
  for (int k = 0; k < f->nfree; k++) dim[k] = f->free[k]->extent < 0 ? 1 : f->free[k]->extent;
  for (int k = 0; k < s->rank; k++) dim[f->nfree + k] = s->dim[k].n < 0 ? 1 : s->dim[k].n;
  s->param = nd_param(E->g, s->dtype, f->nfree + s->rank, dim, name);
  Value *v = load_over(E, s->param, f->nfree, f->free, s->dim);
  v->t.weak = s->weak;
  return v;
}

const Env *loop_bind_state(LoopForm *f, Value *state) {
  return f->nt ? elab_bind(f->E, f->env, f->nt, f->ast->kid2, state) : f->env;
}

Expr *loop_while(LoopForm *f, const Env *env) {
  Elab *E = f->E;
  Value *c = elab_expr(E, env, f->ast->c);
  if (c->kind == V_BOOL) c = v_scalar(E, ex_bool(E->g, c->b));
  if (c->kind != V_TENSOR || c->t.rank || c->t.dtype != DT_BOOL)
    diag_fail(E->d, T_TYPE, f->ast->c->span, "`while` takes a scalar bool, not %s", v_type_text(E, c));
  return c->t.e;
}

/* The next element of a data set; *key: its position, which keys the draws of the step. */
static Value *data_step(LoopForm *f, Expr **key) {
  DataWalk *d = f->data;
  return data_next(f->E, d->set, d->handle, d->rows, f->clause->b->span, &d->next_more, key);
}

/* What the body gave states of models: new ones are carried in the next attempt. */
static void read_next(LoopForm *f, const Next *known) {
  Elab *E = f->E;
  Change *change;
  int n = next_changes(E, known, &change);
  if (n && f->data)
    diag_fail(E->d, T_MODEL, f->ast->span,
              "a loop over a data set inside value_grad gives a state its next value; let value_grad be in the loop");
  for (int k = 0; k < n; k++) {
    int j = 0;
    while (j < f->ncarry && f->carry[j] != change[k].id) j++;
    if (j == f->ncarry) {
      int all = f->nleaf + f->ncarry;
      StateLeaf *leaf = arena_array(E->a, StateLeaf, all + 1);
      if (all) memcpy(leaf, f->leaf, sizeof *leaf * (size_t)all);
      const void **id = arena_array(E->a, const void *, j + 1);
      if (j) memcpy(id, f->carry, sizeof *id * (size_t)j);
      const TensorV *t = &change[k].before->t;
      leaf[all] = (StateLeaf){.dtype = t->dtype, .rank = t->rank, .init = change[k].before};
      memcpy(leaf[all].dim, t->dim, sizeof t->dim);
      id[j] = change[k].id, f->leaf = leaf, f->carry = id, f->ncarry++;
    }
  }
  f->carry_next = arena_array(E->a, Value *, f->ncarry);
  for (int j = 0; j < f->ncarry; j++) f->carry_next[j] = next_value(E, f->carry[j], f->leaf[f->nleaf + j].init);
  f->nrow = next_rows(E, known, &f->row);
  for (int r = 0; r < f->nrow; r++)
    for (int j = 0; j < f->ncarry; j++)
      if (f->row[r].parent == f->carry[j])
        diag_fail(E->d, T_MODEL, f->ast->span, "the body gives a state of the stack that it walks two next values");
  E->next = f->mark;
}

/* Elaborates the body once; the form holds what came out. */
static void attempt(LoopForm *f) {
  Elab *E = f->E;
  Graph *g = E->g;
  g->span = user_span(f->E, f->ast->span);
  int64_t hi = f->trip > 0 ? f->trip - 1 : 0;
  f->counter = nd_counter(g, 0, hi);
  f->count = ex_load(g, f->counter, 0, NULL, NULL, false, f->ast->span);
  Value **at = arena_array(E->a, Value *, f->nleaf);
  for (int k = 0; k < f->nleaf; k++) at[k] = f->leaf[k].load = param_value(f, &f->leaf[k], state_name(f, k));
  const Env *env = loop_bind_state(f, v_with_leaves(E, f->init, at));
  Expr *guard = E->guard, *go = NULL;
  f->alive = NULL;
  f->mark = E->next;
  for (int k = 0; k < f->ncarry; k++) {
    StateLeaf *s = &f->leaf[f->nleaf + k];
    next_know(E, f->carry[k], s->load = param_value(f, s, "state"));
  }
  const Next *known = E->next;
  bool all = !f->ast->c && !f->steps; /* every step is taken */
  if (!f->data) env = elab_bind(E, env, 1, &f->clause->a, next_walk(E, &f->walk, f->count, !all));
  if (f->steps && f->steps->nvar) go = ex_op2(g, OP_LT, f->count, f->steps);
  if (f->data && f->data->stops) {
    f->data->more = nd_param(g, DT_BOOL, 0, NULL, "more");
    go = ex_load(g, f->data->more, 0, NULL, NULL, false, f->ast->span);
  }
  if (f->ast->c) {
    E->guard = ex_and(g, guard, go);
    Expr *c = loop_while(f, env);
    E->guard = guard;
    go = ex_and(g, go, c);
    if (f->nfree) { /* elements stop one by one */
      int64_t dim[TG_MAX_RANK];
      for (int k = 0; k < f->nfree; k++) dim[k] = f->free[k]->extent < 0 ? 1 : f->free[k]->extent;
      f->alive = nd_param(g, DT_BOOL, f->nfree, dim, "alive");
      go = ex_and(g, load_over(E, f->alive, f->nfree, f->free, NULL)->t.e, go);
    }
  }
  f->go = go;
  E->guard = ex_and(g, guard, go);
  Stream stream = E->stream;
  int effects = E->effect.n;
  Expr *key = f->count;
  if (f->data)
    env = elab_bind(E, env, 1, &f->clause->a, data_step(f, &key));
  else if (f->walk.kind == WALK_RANGE) /* by the value: what 3..n draws at 5 is what 0..n draws there */
    key = ex_op2(g, OP_ADD, f->count, f->walk.lo);
  E->stream = stream_loop(E, key);
  const double repeat = E->repeat;
  E->repeat *= (double)f->trip;
  Value *v = elab_expr(E, env, f->ast->a);
  E->repeat = repeat;
  f->effect.n = f->effect.cap = 0, f->effect.at = NULL;
  for (int k = effects; k < E->effect.n; k++) vec_push(E->a, &f->effect, E->effect.at[k]);
  E->effect.n = effects;
  E->guard = guard;
  stream.ordinal++;
  E->stream = stream;
  loop_split(f, f->init, v, true);
  read_next(f, known);
}

/* After an attempt: do the state's types and free indices cover what the body gave? */
static bool settle(LoopForm *f, int ncarry) {
  Elab *E = f->E;
  bool changed = false;
  Value **n;
  int m = v_leaves(E, f->next, &n);
  if (m != f->nleaf)
    diag_fail(E->d, T_TYPE, f->ast->a->span, "the state is %s before a step and %s after it", v_type_text(E, f->init),
              v_type_text(E, f->next));
  for (int k = 0; k < m; k++) changed |= adapt(f, k, n[k]);
  changed |= f->ncarry != ncarry;
  int before = f->nfree;
  for (int k = 0; k < f->ncarry; k++) f->nfree = free_union(E, f->carry_next[k], f->nfree, f->free);
  for (int k = 0; k < f->nrow; k++) f->nfree = free_union(E, f->row[k].v, f->nfree, f->free);
  for (int k = 0; k < m; k++)
    if (n[k]->kind == V_TENSOR) f->nfree = expr_free_union(E, n[k]->t.e, f->nfree, f->free);
  f->nfree = expr_free_union(E, f->go, f->nfree, f->free);
  for (int k = 0; k < f->nstack; k++) f->nfree = free_union(E, f->stack[k], f->nfree, f->free);
  return !changed && f->nfree == before;
}

/* ---- building the node ------------------------------------------------------------------------------------------- */

Node *loop_state_node(LoopForm *f, Value *v, const StateLeaf *s) {
  Elab *E = f->E;
  Span at = f->ast->a->span;
  return node_over(E, v_tensor(E, s->dtype, s->rank, s->dim, tv_at(E, v, s->dtype, s->rank, s->dim, at)), f->nfree,
                   f->free);
}

/* A stacked leaf: GET of [trip, free..., own...] as a value with the axes (trip, own). */
static Value *stacked(LoopForm *f, Node *get, const TensorV *like) {
  Elab *E = f->E;
  Expr *idx[TG_MAX_RANK];
  Dim dim[TG_MAX_RANK];
  idx[0] = ex_iter(E->g, 0);
  dim[0] = f->walk.dim;
  dim[0].n = f->trip;
  for (int k = 0; k < f->nfree; k++) idx[1 + k] = f->free[k]->var;
  for (int k = 0; k < like->rank; k++) idx[1 + f->nfree + k] = ex_iter(E->g, 1 + k), dim[1 + k] = like->dim[k];
  return v_tensor(E, (DType)get->dtype, like->rank + 1, dim,
                  ex_load(E->g, get, 1 + f->nfree + like->rank, idx, NULL, false, E->g->span));
}

static Node *trip_node(LoopForm *f) {
  Elab *E = f->E;
  Expr *n = ex_op2(E->g, OP_MAX, f->steps, ex_int(E->g, DT_I64, 0));
  Value *v = v_scalar(E, n);
  Index *free[TG_MAX_RANK];
  int nfree = expr_free_union(E, n, 0, free);
  if (!nfree) return nd_scalar(E->g, n);
  Node *all = node_over(E, v, nfree, free);
  Node *most = nd_comp(E->g, 0, nfree, all->dim, RED_MAX, ex_load_full(E->g, all, 0), NULL);
  return nd_scalar(
      E->g, ex_op2(E->g, OP_MAX, ex_load(E->g, most, 0, NULL, NULL, false, E->g->span), ex_int(E->g, DT_I64, 0)));
}

static Value *build(LoopForm *f) {
  Elab *E = f->E;
  Graph *g = E->g;
  g->span = user_span(f->E, f->ast->span);
  Value **next, **leaf;
  Node *hidden = f->alive ? f->alive : f->data && f->data->stops ? f->data->more : NULL;
  int all = f->nleaf + f->ncarry, n = all + (hidden != NULL), nstack = 0, cap = n + f->nrow;
  v_leaves(E, f->next, &next);
  for (int k = 0; k < f->nstack; k++) cap += v_leaves(E, f->stack[k], &leaf);
  Node **init = arena_array(E->a, Node *, n), **param = arena_array(E->a, Node *, n),
       **out = arena_array(E->a, Node *, n + cap);
  Value *go = f->go ? v_scalar(E, f->go) : NULL;
  bool select = go && (f->alive || (f->steps && f->steps->nvar));
  for (int k = 0; k < all; k++) {
    StateLeaf *s = &f->leaf[k];
    init[k] = loop_state_node(f, s->init, s), param[k] = s->param;
    Value *v = k < f->nleaf ? next[k] : f->carry_next[k - f->nleaf];
    if (select) v = tv_select(E, go, v, s->load, f->ast->span);
    out[k] = loop_state_node(f, v, s);
  }
  Node *cond = NULL;
  if (f->alive) {
    init[all] = node_over(E, v_scalar(E, ex_bool(g, true)), f->nfree, f->free);
    param[all] = f->alive, out[all] = node_over(E, go, f->nfree, f->free);
    cond = nd_comp(g, 0, f->nfree, f->alive->dim, RED_ANY, ex_load_full(g, out[all], 0), NULL);
  } else if (hidden) {
    init[all] = nd_scalar(g, f->data->more0);
    param[all] = hidden, out[all] = nd_scalar(g, f->data->next_more);
  }
  if (!cond && f->go && (f->ast->c || hidden)) cond = nd_scalar(g, f->go);
  for (int k = 0; k < f->nstack; k++) {
    int m = v_leaves(E, f->stack[k], &leaf);
    for (int j = 0; j < m; j++) {
      Value *v = tv_harden(E, leaf[j], f->ast->a->span);
      if (k < f->nt && nstack < f->nleaf) { /* a state: in the state's dtype */
        const StateLeaf *s = &f->leaf[nstack];
        v = v_tensor(E, s->dtype, s->rank, s->dim, tv_at(E, leaf[j], s->dtype, s->rank, s->dim, f->ast->a->span));
      }
      if (select) v = tv_select(E, go, v, v_int(E, 0, NULL), f->ast->span);
      leaf[j] = v;
      out[n + nstack++] = node_over(E, v, f->nfree, f->free);
    }
    f->stack[k] = v_with_leaves(E, f->stack[k], leaf);
  }
  int nuser = nstack;
  for (int k = 0; k < f->nrow; k++) out[n + nstack++] = node_over(E, f->row[k].v, f->nfree, f->free);
  Loop l = {.nstate = n,
            .init = init,
            .param = param,
            .counter = f->counter,
            .trip = f->trip,
            .cond = cond,
            .nstack = nstack,
            .trip_node = f->steps ? trip_node(f) : NULL,
            .body = {.nout = n + nstack, .out = out, .neffect = f->effect.n, .effect = f->effect.at}};
  loop_hoist(g, &l);
  Node *node = nd_loop(g, &l);
  if (f->effect.n) vec_push(E->a, &E->effect, node);
  Value **got = arena_array(E->a, Value *, f->nleaf);
  for (int k = 0; k < f->nleaf; k++) got[k] = load_over(E, nd_get(g, node, k), f->nfree, f->free, f->leaf[k].dim);
  f->last = v_with_leaves(E, f->init, got);
  for (int k = 0; k < f->ncarry; k++)
    next_write(E, f->carry[k],
               load_over(E, nd_get(g, node, f->nleaf + k), f->nfree, f->free, f->leaf[f->nleaf + k].dim));
  for (int k = 0; k < f->nrow; k++)
    next_write(E, f->row[k].parent, stacked(f, nd_get(g, node, n + nuser + k), &f->row[k].v->t));
  if (f->data && hidden) f->left = ex_load(g, nd_get(g, node, all), 0, NULL, NULL, false, f->ast->span);
  if (f->nt == 0) return v_none(E);
  if (!f->scan) return f->last;
  int at = n;
  for (int k = 0; k < f->nstack; k++) {
    int m = v_leaves(E, f->stack[k], &leaf);
    for (int j = 0; j < m; j++) leaf[j] = stacked(f, nd_get(g, node, at++), &leaf[j]->t);
    Dim steps = f->walk.dim;
    steps.n = f->trip;
    f->stack[k] = v_stacked(E, f->stack[k], leaf, steps);
  }
  return f->nstack == 1 ? f->stack[0] : v_tuple(E, f->nstack, f->stack);
}

/* No step is taken: the types come from a body that never runs, elaborated without proofs. */
static Value *no_steps(LoopForm *f) {
  Elab *E = f->E;
  Value **leaf, **got = arena_array(E->a, Value *, f->nleaf);
  for (int k = 0; k < f->nleaf; k++) {
    StateLeaf *s = &f->leaf[k];
    got[k] =
        tv_seal(E, v_tensor(E, s->dtype, s->rank, s->dim, tv_at(E, s->init, s->dtype, s->rank, s->dim, f->ast->span)));
  }
  f->last = v_with_leaves(E, f->init, got);
  if (f->nt == 0) return v_none(E);
  if (!f->scan) return f->last;
  int nth = 0;
  for (int k = 0; k < f->nstack; k++) {
    int m = v_leaves(E, f->stack[k], &leaf);
    for (int j = 0; j < m; j++, nth++) {
      Value *v = tv_harden(E, leaf[j], f->ast->span);
      DType t = k < f->nt && nth < f->nleaf ? f->leaf[nth].dtype : v->t.dtype;
      Dim dim[TG_MAX_RANK + 1] = {f->walk.dim};
      dim[0].n = 0;
      if (v->t.rank == TG_MAX_RANK) diag_fail(E->d, S_RANK, f->ast->span, "more than %d axes", TG_MAX_RANK);
      memcpy(dim + 1, v->t.dim, sizeof *dim * (size_t)v->t.rank);
      leaf[j] = v_tensor(E, t, v->t.rank + 1, dim, ex_zero(E, t));
    }
    Dim none = f->walk.dim;
    none.n = 0;
    f->stack[k] = v_stacked(E, f->stack[k], leaf, none);
  }
  return f->nstack == 1 ? f->stack[0] : v_tuple(E, f->nstack, f->stack);
}

/* ---- loops over tuples ------------------------------------------------------------------------------------------- */

static Value *unrolled(LoopForm *f) {
  Elab *E = f->E;
  Value *state = f->init, *alive = NULL;
  int n = (int)f->walk.n, rows = 0;
  Value ***row = arena_array(E->a, Value **, n);
  for (int k = 0; k < n; k++) {
    const Env *env = loop_bind_state(f, state);
    env = elab_bind(E, env, 1, &f->clause->a, walk_item(E, &f->walk, k));
    Expr *guard = E->guard;
    if (f->ast->c) {
      Value *c = elab_expr(E, env, f->ast->c);
      if (c->kind == V_BOOL && !c->b && !alive) break;
      if (c->kind != V_BOOL) {
        if (c->kind != V_TENSOR || c->t.rank || c->t.dtype != DT_BOOL)
          diag_fail(E->d, T_TYPE, f->ast->c->span, "`while` takes a scalar bool, not %s", v_type_text(E, c));
      }
      if (alive || c->kind != V_BOOL) {
        Span two[2] = {f->ast->c->span, f->ast->c->span};
        alive = alive ? tv_elementwise(E, OP_AND, 2, (Value *[]){alive, c}, two, f->ast->c->span) : c;
        if (alive->kind == V_TENSOR) E->guard = ex_and(E->g, guard, alive->t.e);
      }
    }
    bool allowed = E->effects_allowed;
    const Next *mark = E->next;
    if (alive) E->effects_allowed = false;
    Value *v = elab_expr(E, env, f->ast->a);
    E->effects_allowed = allowed, E->guard = guard;
    if (alive) {
      Change *change;
      int nchange = next_changes(E, mark, &change);
      for (int j = 0; j < nchange; j++)
        next_write(E, change[j].id, select_value(E, alive, change[j].v, change[j].before, f->ast->span));
    }
    loop_split(f, state, v, false); /* the structure may change from step to step */
    if (alive) {
      f->next = select_value(E, alive, f->next, state, f->ast->span);
      Value **leaf;
      for (int j = 0; j < f->nstack; j++) {
        int m = v_leaves(E, f->stack[j], &leaf);
        for (int i = 0; i < m; i++) leaf[i] = tv_select(E, alive, leaf[i], v_int(E, 0, NULL), f->ast->span);
        f->stack[j] = v_with_leaves(E, f->stack[j], leaf);
      }
    }
    state = f->next, row[rows++] = f->stack;
  }
  if (f->nt == 0) return v_none(E);
  if (!f->scan) return state;
  if (!rows) diag_fail(E->d, V_EMPTY, f->ast->span, "a scan over an empty tuple: what it would stack is unknown");
  Value **out = arena_array(E->a, Value *, f->nstack), **col = arena_array(E->a, Value *, rows);
  Span *at = arena_array(E->a, Span, rows);
  for (int j = 0; j < f->nstack; j++) {
    for (int k = 0; k < rows; k++) col[k] = row[k][j], at[k] = f->ast->a->span;
    out[j] = pieces_stack(E, rows, col) ? join_stack(E, rows, col, 0, at, f->ast->span) : v_tuple(E, rows, col);
  }
  return f->nstack == 1 ? out[0] : v_tuple(E, f->nstack, out);
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

/* Number of steps: static, or an expression and a bound for it. */
static void read_steps(LoopForm *f) {
  Elab *E = f->E;
  if (f->walk.n >= 0 || E->trial) {
    f->trip = f->walk.n < 0 ? 1 : f->walk.n;
    return;
  }
  f->steps = ex_op2(E->g, OP_SUB, f->walk.hi, f->walk.lo);
  Box box = space_box(E, 0, NULL);
  Interval in = ex_interval(E->g, f->steps, &box, E->guard);
  f->trip = in.lo > in.hi || in.hi < 0 ? 0 : in.hi;
  if (f->scan && f->trip > ((int64_t)1 << 40)) {
    Diag *g = diag_add(E->d, T_STATIC, f->clause->b->span,
                       "a scan stacks one row a step, so the number of steps must have a static bound");
    diag_help(E->d, g, "scan ... for t in 0..n while t < m");
    elab_fail(E, g);
  }
  f->nfree = expr_free_union(E, f->steps, f->nfree, f->free);
}

Value *loop_run(LoopForm *f) {
  Elab *E = f->E;
  for (int k = 0; k < f->nleaf; k++)
    if (f->leaf[k].init->kind == V_TENSOR) f->nfree = expr_free_union(E, f->leaf[k].init->t.e, f->nfree, f->free);
  bool never = f->trip == 0 && !f->steps;
  for (int round = 0;; round++) {
    if (round > 4 * TG_MAX_RANK + f->nleaf * DT_COUNT) bug("a loop's state does not settle");
    Elab saved = *E;
    E->trial |= never;
    int ncarry = f->ncarry;
    attempt(f);
    bool settled = settle(f, ncarry);
    if (settled && !never) return build(f);
    *E = saved;
    if (settled) return no_steps(f);
  }
}

Value *elab_loop(Elab *E, const Env *env, Ast *e) {
  LoopForm *f = arena_new_of(E->a, LoopForm);
  *f = (LoopForm){
      .E = E, .env = env, .ast = e, .clause = e->kid[0], .scan = strcmp(e->name, "scan") == 0, .nt = e->nkid2};
  read_init(f);
  Value *in = elab_expr(E, env, f->clause->b);
  if (in->kind == V_DATA) return loop_over_data(f, in);
  f->walk = walk_open(E, in, f->clause->b->span);
  if (f->walk.kind == WALK_UNROLL) return unrolled(f);
  read_steps(f);
  return loop_run(f);
}
