/* The forms that schedules want, reached before anything fuses.
 *
 *   segmented reduction   [sum(e for n, .. if a[n] == k) for k, ..] visits every (n, k). The guard says that for one n only
 *                         one k counts, so it is a SCATTER over n into place a[n], without the factor of K.
 *                         Also max and min (float: over the identity -inf, inf) and counts.
 *   contraction           contract_normal: post * sum(a * b)
 *
 * The order in which a destination of the SCATTER meets its terms is that of the reduction, ascending. */
#include "codegen/contract.h"
#include "codegen/fuse.h"
#include <math.h>

/* e is `ITER k == data` or `data == ITER k` for an output iterator k, with data free of output iterators. Possibly
 * under a cast of either side. Returns k, or -1; *data is i64. */
static Expr *uncast(Expr *e) {
  while (e->kind == EX_OP && e->op == OP_CAST && dt_is_int((DType)e->dtype) && dt_is_int((DType)e->arg[0]->dtype) &&
         dt_bytes((DType)e->dtype) >= dt_bytes((DType)e->arg[0]->dtype))
    e = e->arg[0];
  return e;
}

static bool has_load(const Expr *e) {
  if (e->kind == EX_LOAD) return true;
  for (int i = 0; i < e->n; i++)
    if (has_load(e->arg[i])) return true;
  return false;
}

static int segment_key(Graph *g, const Comp *c, Expr *e, Expr **data) {
  if (e->kind != EX_OP || e->op != OP_EQ) return -1;
  for (int side = 0; side < 2; side++) {
    Expr *it = uncast(e->arg[side]), *key = e->arg[1 - side];
    if (it->kind != EX_ITER || it->num.i >= c->nout || !dt_is_int((DType)key->dtype) || !has_load(key)) continue;
    bool free = true;
    for (int k = 0; k < c->nout && free; k++) free = !ex_uses_iter(key, k);
    if (!free) continue;
    *data = key->dtype == DT_I64 ? key : ex_cast(g, DT_I64, key);
    return (int)it->num.i;
  }
  return -1;
}

/* Takes the conjunct that is a segment key out of guard; *rest is what is left (NULL: nothing). */
static int split_guard(Graph *g, const Comp *c, Expr *guard, Expr **data, Expr **rest) {
  int k = segment_key(g, c, guard, data);
  if (k >= 0) {
    *rest = NULL;
    return k;
  }
  if (guard->kind != EX_OP || guard->op != OP_AND) return -1;
  for (int side = 0; side < 2; side++) {
    k = split_guard(g, c, guard->arg[side], data, rest);
    if (k < 0) continue;
    *rest = ex_and(g, *rest, guard->arg[1 - side]);
    return k;
  }
  return -1;
}

static bool combine_of(Reduce op, Combine *how) {
  switch (op) {
  case RED_SUM:
    *how = SC_ADD;
    return true;
  case RED_MAX:
    *how = SC_MAX;
    return true;
  case RED_MIN:
    *how = SC_MIN;
    return true;
  default:
    return false;
  }
}

static Node *segment(Graph *g, Node *n) {
  const Comp *c = &n->comp;
  Combine how;
  Expr *data, *rest;
  if (!c->guard || !c->nred || c->chunk || !combine_of(c->op, &how)) return NULL; /* a scatter knows no chunks */
  /* Half-precision sums accumulate in f32, which a scatter into the result cannot. */
  if (c->op == RED_SUM && (n->dtype == DT_F16 || n->dtype == DT_BF16)) return NULL;
  int key = split_guard(g, c, c->guard, &data, &rest);
  if (key < 0) return NULL;
  /* Source iterators: the outputs but key, then the reductions. */
  int total = c->nout + c->nred, nsrc = total - 1;
  Expr **by = arena_array(g->arena, Expr *, total), **idx = arena_array(g->arena, Expr *, c->nout);
  int64_t *extent = arena_array(g->arena, int64_t, nsrc);
  for (int k = 0, at = 0; k < total; k++) {
    if (k == key) continue;
    extent[at] = c->extent[k];
    by[k] = ex_iter(g, at++);
  }
  by[key] = NULL;
  for (int k = 0; k < total; k++)
    if (k != key && by[k] == NULL) bug("segment: iterator");
  Expr *first = ex_int(g, DT_I64, 0);
  by[key] = first; /* for data, which is free of it */
  data = ex_subst_iters(g, data, total, by);
  by[key] = data; /* where the guard holds, k is the key */
  for (int k = 0; k < c->nout; k++) idx[k] = by[k];
  Expr *inside =
      ex_op2(g, OP_AND, ex_op2(g, OP_GE, data, first), ex_op2(g, OP_LT, data, ex_int(g, DT_I64, c->extent[key])));
  Expr *guard = rest ? ex_and(g, inside, ex_subst_iters(g, rest, total, by)) : inside;
  Expr *body = ex_subst_iters(g, c->body, total, by);
  Node *base = NULL;
  if (how != SC_ADD) {
    DType t = (DType)n->dtype;
    Expr *v = dt_is_float(t) ? ex_float(g, t, how == SC_MAX ? -INFINITY : INFINITY)
                             : ex_int(g, t, how == SC_MAX ? dt_int_min(t) : dt_int_max(t));
    base = nd_comp(g, n->rank, 0, n->dim, RED_NONE, v, NULL);
  }
  return nd_scatter(g, (DType)n->dtype, n->rank, n->dim, base, nsrc, extent, idx, body, guard, how, false);
}

Node *fuse_normal(Graph *g, Node *n) {
  if (!n->comp.nred) return n;
  Node *s = segment(g, n);
  if (s) return s;
  s = contract_normal(g, n);
  return s->kind == ND_COMP ? s : n;
}
