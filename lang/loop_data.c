/* Folds, scans and `for` over data sets: one pass over batches (or rows).
 *
 *   handle, more = open                      ordered calls: they run where the loop stands
 *   LOOP state.., [more] while [more and] c  full batches; the body begins by reading the next one
 *   the short last batch                     the block once more, elaborated on its own number of rows
 *   close
 *
 * Sizes are static, so the short batch is a second elaboration. It stands after the loop, in a COND where it may not
 * come: the loop stopped early by `while`, or begins behind it. A set that does not know its length (`more` decides
 * when the loop ends) does not know the short batch's rows either: the block becomes a deferred program (deferred.c),
 * elaborated and compiled when they are known. */
#include "lang/loop.h"
#include <string.h>

static const int64_t UNKNOWN_TRIP = (int64_t)1 << 40;

/* ---- the short last batch ---------------------------------------------------------------------------------------- */

/* The state's leaf types, which the block on full batches has settled, hold for the short one too. */
static Value *settled_leaf(LoopForm *f, Value *v, const StateLeaf *s) {
  Elab *E = f->E;
  int rank = v->kind == V_TENSOR ? v->t.rank : 0;
  bool same = rank == s->rank;
  for (int a = 0; a < rank && same; a++) same = v->t.dim[a].n == s->dim[a].n;
  if (!same) {
    Value *before = v_tensor(E, s->dtype, s->rank, s->dim, NULL);
    diag_fail(E->d, S_MISMATCH, f->ast->a->span, "a state is %s before the last step and %s after it",
              v_type_text(E, before), v_type_text(E, v));
  }
  return v_node(E, loop_state_node(f, v, s));
}

static void tail_step(Elab *E, void *ctx) {
  Tail *t = ctx;
  LoopForm *f = t->f;
  const Env *env = loop_bind_state(f, t->state);
  Expr *more, *pos;
  Value *x = data_next(E, f->data->set, f->data->handle, t->rows, f->clause->b->span, &more, &pos);
  env = elab_bind(E, env, 1, &f->clause->a, x);
  E->stream = stream_loop(E, pos);
  loop_split(f, f->init, elab_expr(E, env, f->ast->a), true);
  Value **leaf;
  v_leaves(E, f->next, &leaf);
  for (int k = 0; k < f->nleaf; k++) leaf[k] = settled_leaf(f, leaf[k], &f->leaf[k]);
  t->next = v_with_leaves(E, f->init, leaf);
  VEC(Value *) row = {0};
  for (int k = 0; k < f->nstack; k++) {
    int m = v_leaves(E, f->stack[k], &leaf);
    for (int j = 0; j < m; j++) {
      bool state = k < f->nt && row.n < f->nleaf;
      Value *v = state ? settled_leaf(f, leaf[j], &f->leaf[row.n]) : tv_harden(E, leaf[j], f->ast->a->span);
      vec_push(E->a, &row, v_node(E, tv_closed(E, v)));
    }
  }
  t->nrow = row.n, t->row = row.at;
}

static Value *zero_like(Elab *E, const TensorV *t) {
  return v_tensor(E, t->dtype, t->rank, t->dim, ex_zero(E, t->dtype));
}

/* What was computed in a branch: GETs of `node`, from result `at` on. */
static void from_branch(Elab *E, Node *node, int at, int n, Value **leaf) {
  for (int k = 0; k < n; k++) leaf[k] = v_node(E, nd_get(E->g, node, at + k));
}

void tail_lazy(Tail *t) {
  LoopForm *f = t->f;
  Elab *E = f->E;
  Value **before, **after;
  v_leaves(E, t->state, &before);
  v_leaves(E, t->next, &after);
  int n = f->nleaf + t->nrow;
  Node **yes = arena_array(E->a, Node *, n), **no = arena_array(E->a, Node *, n);
  for (int k = 0; k < f->nleaf; k++)
    yes[k] = tv_closed(E, after[k]), no[k] = loop_state_node(f, before[k], &f->leaf[k]);
  for (int k = 0; k < t->nrow; k++)
    yes[f->nleaf + k] = tv_closed(E, t->row[k]), no[f->nleaf + k] = tv_closed(E, zero_like(E, &t->row[k]->t));
  Region ry = {n, yes, t->effect.n, t->effect.at}, rn = {n, no, 0, NULL};
  E->g->span = user_span(E, f->ast->span);
  Node *node = nd_cond(E->g, nd_scalar(E->g, t->guard), &ry, &rn);
  vec_push(E->a, &E->effect, node);
  from_branch(E, node, 0, f->nleaf, after);
  t->next = v_with_leaves(E, t->next, after);
  from_branch(E, node, f->nleaf, t->nrow, t->row);
}

bool tail_elaborate(Tail *t) {
  LoopForm *f = t->f;
  Elab *E = f->E;
  Expr *guard = E->guard;
  Stream after = E->stream;
  int effects = E->effect.n;
  if (E->stream.ordinal) E->stream.ordinal--; /* the loop has counted itself: this is its stream */
  E->guard = ex_and(E->g, guard, t->guard);
  bool ok = elab_guarded(E, tail_step, t);
  E->stream = after, E->guard = guard;
  if (!ok) {
    Diag *g = E->d->last;
    if (E->d->quiet || !g || f->data->shape.full == 0) return false;
    diag_note(E->d, g, user_span(E, f->clause->b->span), "met in the last batch%s, which has %lld row%s",
              f->data->shape.tail < 0 ? " as it may be" : "", (long long)t->rows, t->rows == 1 ? "" : "s");
    diag_help(E->d, g, "batch(%lld, drop_last = true) leaves it out", (long long)f->data->shape.size);
    return false;
  }
  t->effect.n = t->effect.cap = 0, t->effect.at = NULL;
  for (int k = effects; k < E->effect.n; k++) vec_push(E->a, &t->effect, E->effect.at[k]);
  E->effect.n = effects;
  return true;
}

/* The block on t->rows rows where t->guard holds. */
static void run_tail(Tail *t) {
  Elab *E = t->f->E;
  if (!tail_elaborate(t)) diag_unwind(E->d);
  if (t->guard) {
    tail_lazy(t);
    return;
  }
  for (int k = 0; k < t->effect.n; k++) vec_push(E->a, &E->effect, t->effect.at[k]);
}

/* Does the short batch come? NULL: always. */
static Expr *tail_guard(LoopForm *f, Value *state, Expr *rest) {
  Elab *E = f->E;
  DataWalk *d = f->data;
  if (!d->stops && !f->ast->c) return NULL;
  Expr *go = d->shape.tail < 0 ? ex_op2(E->g, OP_GT, rest, ex_int(E->g, DT_I64, 0))
                               : ex_op2(E->g, OP_EQ, rest, ex_int(E->g, DT_I64, d->shape.tail));
  if (f->left) go = ex_and(E->g, go, ex_op1(E->g, OP_NOT, f->left));
  if (f->ast->c) go = ex_and(E->g, go, loop_while(f, loop_bind_state(f, state)));
  return go;
}

/* The rows that a scan stacked over full batches, and one more. */
static Value *append_rows(LoopForm *f, Value *stacked, Value **row) {
  Elab *E = f->E;
  Value **leaf;
  Span two[2] = {f->ast->span, f->ast->span};
  int n = v_leaves(E, stacked, &leaf);
  for (int k = 0; k < n; k++) {
    const TensorV *s = &leaf[k]->t, *r = &row[k]->t;
    bool same = s->rank == r->rank + 1;
    for (int a = 0; a < r->rank && same; a++) same = s->dim[a + 1].n == r->dim[a].n;
    if (!same) {
      Diag *g = diag_add(E->d, S_MISMATCH, f->ast->a->span,
                         "a scan stacks values of one shape, and this depends on the number of rows: %s in the last "
                         "batch",
                         v_type_text(E, row[k]));
      diag_help(E->d, g, "batch(%lld, drop_last = true) leaves the short last batch out",
                (long long)f->data->shape.size);
      elab_fail(E, g);
    }
    Value *one = view_expand(E, row[k], 0, dim_of(1));
    leaf[k] = join_concat(E, 2, (Value *[]){leaf[k], one}, 0, two, f->ast->span);
  }
  return v_with_leaves(E, stacked, leaf);
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

Value *loop_over_data(LoopForm *f, Value *set) {
  Elab *E = f->E;
  Span at = f->clause->b->span;
  effect_allowed(E, "a loop over a data set", f->ast->span);
  if (E->index) diag_fail(E->d, T_EFFECT, f->ast->span, "a loop over a data set inside a comprehension");
  if (E->deriving) {
    Diag *g = diag_add(E->d, T_EFFECT, user_span(E, f->ast->span),
                       "a loop over a data set inside a function that is differentiated: its batches are read once");
    diag_help(E->d, g, "differentiate within the loop, a batch at a time; or loop over tensors, as in d[0..1000].x");
    elab_fail(E, g);
  }
  DataWalk *d = f->data = arena_new_of(E->a, DataWalk);
  Expr *skip = data_of(set)->skip;
  *d = (DataWalk){.set = set, .shape = data_shape(E, set)};
  d->rows = d->shape.size ? d->shape.size : 1;
  d->stops = d->shape.full < 0 || f->ast->c || skip;
  d->handle = data_open(E, set, skip, at, &d->more0);
  f->trip = d->shape.full < 0 ? UNKNOWN_TRIP : d->shape.full;
  int64_t tail = d->shape.size ? d->shape.tail : 0;
  if (f->trip == 0 && tail > 0 && !d->stops) d->rows = tail, f->trip = 1, tail = 0; /* one short batch is all */
  if (f->scan && d->shape.full < 0) {
    Diag *g = diag_add(E->d, T_STATIC, at,
                       "a scan stacks one row a step, and the length of this data set is not known before it is read");
    diag_help(E->d, g, "a fold keeps a state only; or take(n) of it");
    elab_fail(E, g);
  }
  f->walk.dim = dim_of(f->trip);
  f->walk.dim.from = origin_new(E, NULL, at, "%lld batches in this data set", (long long)f->trip);
  Value *v = loop_run(f);
  if (tail) {
    Tail t = {.f = f, .rows = tail, .state = f->last};
    Value **leaf;
    int nstack = f->nstack;
    Expr *rest = d->stops ? data_rest(E, set, d->handle, at) : NULL;
    if (d->stops) t.guard = tail_guard(f, f->last, rest);
    if (tail < 0)
      deferred_tail(&t, rest);
    else
      run_tail(&t);
    if (!f->scan)
      v = f->nt ? t.next : v;
    else {
      Value **got = arena_array(E->a, Value *, nstack);
      int next = 0;
      for (int k = 0; k < nstack; k++) {
        Value *s = nstack == 1 ? v : v->agg.at[k];
        got[k] = append_rows(f, s, t.row + next);
        next += v_leaves(E, s, &leaf);
      }
      v = nstack == 1 ? got[0] : v_tuple(E, nstack, got);
    }
  }
  data_close(E, set, d->handle, at);
  return v;
}
