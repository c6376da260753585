/* The reverse sweep: nodes in descending order, each handing its adjoint to what it reads.
 *
 * A comprehension's rule is one for all: seed the body with the adjoint at the output point (for max and min: where
 * this point is the first best one; for products: times the product of the others), take partials with respect to every
 * load, and turn each load's index map around (invert.c). */
#include "internal.h"
#include <string.h>

bool sw_active(const Sweep *s, Node *n) { return ptrmap_has(&s->active, n); }

void sw_add(Sweep *s, Node *to, Node *c) {
  if (!c || !sw_active(s, to) || !dt_is_float(to->dtype)) return;
  NodeVec *v = ptrmap_get(&s->contrib, to);
  if (!v) {
    v = arena_new_of(s->a, NodeVec);
    ptrmap_put(&s->contrib, to, v);
    if (to->kind == ND_GET && !ptrmap_has(&s->cut, to)) {
      NodeVec *gets = ptrmap_get(&s->gets, to->get.of);
      if (!gets) ptrmap_put(&s->gets, to->get.of, gets = arena_new_of(s->a, NodeVec));
      vec_push(s->a, gets, to);
    }
  }
  vec_push(s->a, v, c);
}
Node *sw_adjoint(Sweep *s, Node *n) {
  NodeVec *v = ptrmap_get(&s->contrib, n);
  return v ? bd_sum(s->g, v->n, v->at) : NULL;
}
Node *sw_result_adjoint(Sweep *s, Node *tuple, int index) {
  NodeVec *gets = ptrmap_get(&s->gets, tuple);
  for (int i = 0; gets && i < gets->n; i++)
    if (gets->at[i]->get.index == index) return sw_adjoint(s, gets->at[i]);
  return NULL;
}

/* ---- comprehensions --------------------------------------------------------------------------------------------- */
/* Row-major position of iterators first .. first+n-1. */
static Expr *position(Graph *g, int first, int n, const int64_t *extent) {
  int64_t *coef = arena_array(g->arena, int64_t, n), step = 1;
  Expr **it = arena_array(g->arena, Expr *, n);
  for (int i = n; i-- > 0;) coef[i] = step, it[i] = ex_iter(g, first + i), step *= extent[i];
  return ex_lin(g, 0, n, coef, it);
}

void rule_body(Sweep *s, int niter, const int64_t *extent, Expr *body, Expr *guard, Expr *seed, Span span) {
  Partial *part;
  int n = ad_partials(s, body, seed, &part);
  for (int i = 0; i < n; i++) {
    Expr *l = part[i].load;
    Space sp = {niter,
                extent,
                l->arg,
                part[i].p,
                ex_and(s->g, guard, ex_and(s->g, part[i].cond, l->mask)),
                l->checked,
                l->span.file ? l->span : span};
    sw_add(s, l->node, ad_gather(s->g, s->a, l->node, &sp));
  }
}

/* For each point, the product of the body over the other points of its reduction: a running product from either side.
 */
static Expr *product_of_others(Sweep *s, const Comp *c, Expr *body) {
  Graph *g = s->g;
  int nout = c->nout;
  int64_t *e = arena_array(s->a, int64_t, nout + 1);
  e[nout] = 1;
  for (int i = 0; i < nout; i++) e[i] = c->extent[i];
  for (int i = 0; i < c->nred; i++) e[nout] *= c->extent[nout + i];
  /* The reduction space as one axis: r_i = pos // (what lies below) % extent_i. */
  Expr **by = arena_array(s->a, Expr *, nout + c->nred);
  Expr *rest = ex_iter(g, nout);
  for (int i = 0; i < nout; i++) by[i] = ex_iter(g, i);
  for (int i = c->nred; i-- > 0;) {
    Expr *n = ex_int(g, DT_I64, c->extent[nout + i]);
    by[nout + i] = i ? ex_op2(g, OP_MOD, rest, n) : rest;
    rest = ex_op2(g, OP_FLOORDIV, rest, n);
  }
  if (c->guard) body = ex_select(g, c->guard, body, ex_num(g, body->dtype, 1));
  body = ex_subst_iters(g, body, nout + c->nred, by);
  Node *before = nd_scan(g, nout + 1, e, RED_PROD, body, false, true);
  Node *after = nd_scan(g, nout + 1, e, RED_PROD, body, true, true);
  Expr **at = arena_array(s->a, Expr *, nout + 1);
  for (int i = 0; i < nout; i++) at[i] = ex_iter(g, i);
  at[nout] = position(g, nout, c->nred, c->extent + nout);
  return ex_op2(g, OP_MUL, bd_load_at(g, before, nout + 1, at), bd_load_at(g, after, nout + 1, at));
}

void rule_comp(Sweep *s, Node *n, Node *w) {
  Graph *g = s->g;
  const Comp *c = &n->comp;
  Expr *seed = ex_load_full(g, w, 0), *guard = c->guard, *body = ad_expand_arms(s, c->body);
  if (seed->dtype != body->dtype) seed = ex_cast(g, body->dtype, seed);
  switch (c->op) {
  case RED_NONE:
  case RED_SUM:
    break;
  case RED_MAX:
  case RED_MIN: {
    Node *best = nd_comp(g, c->nout, c->nred, c->extent, c->op == RED_MAX ? RED_ARGMAX : RED_ARGMIN, c->body, c->guard);
    Expr *here = ex_op2(g, OP_EQ, ex_load_full(g, best, 0), position(g, c->nout, c->nred, c->extent + c->nout));
    guard = ex_and(g, guard, here);
    break;
  }
  case RED_PROD:
    seed = ex_op2(g, OP_MUL, seed, product_of_others(s, c, c->body));
    break;
  default:
    return;
  }
  rule_body(s, c->nout + c->nred, c->extent, body, guard, seed, n->span);
}

/* ---- scans ------------------------------------------------------------------------------------------------------ */
/* d sum: the running sum from the other side. */
static Expr *scan_seed(Sweep *s, Node *n, Node *w) {
  Graph *g = s->g;
  const Comp *c = &n->comp;
  return ex_load_full(g, nd_scan(g, c->nout, c->extent, RED_SUM, ex_load_full(g, w, 0), !c->reverse, c->exclusive), 0);
}
/* max and min: each running best stands at the last place where it changed; that place gathers what came to all it
 * rules. */
static Expr *scan_best_seed(Sweep *s, Node *n, Node *w) {
  Graph *g = s->g;
  const Comp *c = &n->comp;
  int last = c->nout - 1, r = c->nout;
  int64_t len = c->extent[last];
  Expr *it = ex_iter(g, last), *end = ex_int(g, DT_I64, c->reverse ? len - 1 : 0);
  Node *strict = nd_scan(g, r, c->extent, c->op, c->body, c->reverse, true); /* best of all earlier places */
  Expr *first = ex_op2(g, OP_EQ, it, end);
  Expr *better = ex_op2(g, c->op == RED_MAX ? OP_GT : OP_LT, c->body, ex_load_full(g, strict, 0));
  Expr *step = c->reverse ? ex_op2(g, OP_SUB, ex_int(g, DT_I64, len - 1), it) : it; /* places in scan order */
  Expr *mark = ex_select(g, ex_op2(g, OP_OR, first, better), step, ex_int(g, DT_I64, 0));
  Node *place = nd_scan(g, r, c->extent, RED_MAX, mark, c->reverse, c->exclusive);
  Expr **idx = arena_array(s->a, Expr *, r);
  for (int i = 0; i < last; i++) idx[i] = ex_iter(g, i);
  Expr *at = ex_load_full(g, place, 0);
  idx[last] = c->reverse ? ex_op2(g, OP_SUB, ex_int(g, DT_I64, len - 1), at) : at;
  Expr *valid = c->exclusive ? ex_op1(g, OP_NOT, first) : NULL;
  Node *sum =
      nd_scatter(g, w->dtype, r, c->extent, NULL, r, c->extent, idx, ex_load_full(g, w, 0), valid, SC_ADD, true);
  return ex_load_full(g, sum, 0);
}
/* cumprod: d b_s = (product before s) * R_s, R_s = w_s + b_{s+1} R_{s+1}: a loop along the axis in the other direction.
 */
static Expr *scan_prod_seed(Sweep *s, Node *n, Node *w) {
  Graph *g = s->g;
  const Comp *c = &n->comp;
  int last = c->nout - 1;
  int64_t len = c->extent[last];
  Node *b = nd_comp(g, c->nout, 0, c->extent, RED_NONE, c->body, NULL);
  Node *r = nd_param(g, n->dtype, last, c->extent, "r"), *t = nd_counter(g, 0, len ? len - 1 : 0);
  Expr *tt = ex_load(g, t, 0, NULL, NULL, false, n->span);
  Expr **at = arena_array(s->a, Expr *, c->nout), **nx = arena_array(s->a, Expr *, c->nout);
  for (int i = 0; i < last; i++) at[i] = nx[i] = ex_iter(g, i);
  Expr *next = ex_op2(g, OP_ADD, tt, ex_int(g, DT_I64, c->reverse ? -1 : 1));
  Expr *inside =
      c->reverse ? ex_op2(g, OP_GE, next, ex_int(g, DT_I64, 0)) : ex_op2(g, OP_LT, next, ex_int(g, DT_I64, len));
  at[last] = tt, nx[last] = next;
  Expr *carry = ex_op2(g, OP_MUL, ex_load(g, b, c->nout, nx, inside, false, n->span), ex_load_full(g, r, 0));
  /* inclusive: R_s = w_s + b_{s+1} R_{s+1}. exclusive: y_t excludes b_t, so E_s = w_{s+1} + b_{s+1} E_{s+1}. */
  Expr *here = c->exclusive ? ex_load(g, w, c->nout, nx, inside, false, n->span)
                            : ex_load(g, w, c->nout, at, NULL, false, n->span);
  Node *step = nd_comp(g, last, 0, c->extent, RED_NONE, ex_op2(g, OP_ADD, here, carry), NULL);
  Node *init = bd_zeros(g, n->dtype, last, c->extent), *outs[2] = {step, step};
  Loop l = {.nstate = 1,
            .init = &init,
            .param = &r,
            .counter = t,
            .trip = len,
            .body = {.nout = 2, .out = outs},
            .nstack = 1,
            .reverse = !c->reverse};
  Node *stack = nd_get(g, nd_loop(g, &l), 1);
  Node *before = nd_scan(g, c->nout, c->extent, RED_PROD, c->body, c->reverse, true);
  Expr **rot = arena_array(s->a, Expr *, c->nout);
  rot[0] = ex_iter(g, last);
  for (int i = 0; i < last; i++) rot[i + 1] = ex_iter(g, i);
  return ex_op2(g, OP_MUL, ex_load_full(g, before, 0), bd_load_at(g, stack, c->nout, rot));
}
void rule_scan(Sweep *s, Node *n, Node *w) {
  Expr *seed = n->comp.op == RED_SUM    ? scan_seed(s, n, w)
               : n->comp.op == RED_PROD ? scan_prod_seed(s, n, w)
                                        : scan_best_seed(s, n, w);
  rule_body(s, n->comp.nout, n->comp.extent, n->comp.body, n->comp.guard, seed, n->span);
}

/* ---- scatters --------------------------------------------------------------------------------------------------- */
/* The source points in order; the adjoint of a point's value is the result's at its place, if it is that place's
 * winner. */
void rule_scatter(Sweep *s, Node *n, Node *w) {
  Graph *g = s->g;
  const Comp *c = &n->scatter.src;
  Node *base = n->scatter.base;
  Expr *at_place = ex_load(g, w, n->scatter.nidx, n->scatter.idx, c->guard, n->scatter.checked, n->span);
  Expr *guard = c->guard, *pos = position(g, 0, c->nout, c->extent);
  if (n->scatter.how == SC_ADD) {
    if (base) sw_add(s, base, w);
  } else {
    bool set = n->scatter.how == SC_SET;
    Expr *take = guard, *y = ex_load(g, n, n->scatter.nidx, n->scatter.idx, guard, n->scatter.checked, n->span);
    if (!set) take = ex_and(g, guard, ex_op2(g, OP_EQ, c->body, y));
    /* SET: the last writer wins; MAX, MIN: the base first, then the first source that reaches the result. */
    Expr *none = ex_int(g, DT_I64, set ? -1 : INT64_MAX);
    Expr *start = none;
    if (!set && base)
      start =
          ex_select(g, ex_op2(g, OP_EQ, ex_load_full(g, base, 0), ex_load_full(g, n, 0)), ex_int(g, DT_I64, -1), none);
    Node *before = nd_comp(g, n->rank, 0, n->dim, RED_NONE, start, NULL);
    Node *winner = nd_scatter(g, DT_I64, n->rank, n->dim, before, c->nout, c->extent, n->scatter.idx, pos, take,
                              set ? SC_SET : SC_MIN, n->scatter.checked);
    Expr *mine = ex_load(g, winner, n->scatter.nidx, n->scatter.idx, guard, n->scatter.checked, n->span);
    guard = ex_and(g, guard, ex_op2(g, OP_EQ, mine, pos));
    if (base) {
      Expr *kept = ex_op2(g, OP_EQ, ex_load_full(g, winner, 0), ex_int(g, DT_I64, -1));
      sw_add(s, base,
             nd_comp(g, n->rank, 0, n->dim, RED_NONE, ex_select(g, kept, ex_load_full(g, w, 0), ex_num(g, w->dtype, 0)),
                     NULL));
    }
  }
  rule_body(s, c->nout, c->extent, ad_expand_arms(s, c->body), guard, at_place, n->span);
}

void rule_custom(Sweep *s, Node *n, Node *w) {
  int na = n->custom.narg, np = n->custom.nparam;
  Node **to = arena_array(s->a, Node *, np), **adj = arena_array(s->a, Node *, na);
  memcpy(to, n->custom.arg, sizeof *to * (size_t)na);
  to[na] = n->custom.primal, to[na + 1] = w;
  memcpy(adj, n->custom.adj, sizeof *adj * (size_t)na);
  graph_rewrite(s->g, np, n->custom.param, to, na, adj);
  for (int i = 0; i < na; i++) sw_add(s, n->custom.arg[i], adj[i]);
}

/* ---- the sweep -------------------------------------------------------------------------------------------------- */
typedef struct Find {
  Sweep *s;
  bool active;
} Find;
static void find_active(void *ctx, Node *in) { ((Find *)ctx)->active |= sw_active(((Find *)ctx)->s, in); }

void ad_vjp(Graph *g, const Natives *natives, int ny, Node *const *y, Node *const *ct, int nx, Node *const *x,
            Node **dx) {
  Sweep *s = &(Sweep){.g = g, .a = g->arena, .natives = natives};
  s->cut.arena = s->active.arena = s->contrib.arena = s->gets.arena = s->a;
  for (int i = 0; i < nx; i++)
    if (dt_is_float(x[i]->dtype)) ptrmap_put(&s->active, x[i], x[i]);
  Node **root = arena_array(s->a, Node *, ny), **order;
  memcpy(root, y, sizeof *root * (size_t)ny);
  int n = graph_topo(g, ny, root, &order);
  for (int i = 0; i < nx; i++) ptrmap_put(&s->cut, x[i], x[i]);
  for (int i = 0; i < n; i++) {
    Find f = {s, false};
    if (ptrmap_has(&s->cut, order[i])) continue;
    nd_each_input(order[i], find_active, &f);
    if (f.active) ptrmap_put(&s->active, order[i], order[i]);
  }
  for (int i = 0; i < ny; i++)
    if (ct[i]) sw_add(s, y[i], ct[i]);
  for (int i = n; i-- > 0;) {
    Node *nd = order[i];
    if (!sw_active(s, nd) || ptrmap_has(&s->cut, nd)) continue;
    if (nd->nres) {
      if (!ptrmap_has(&s->gets, nd)) continue;
      if (nd->kind == ND_LOOP)
        rule_loop(s, nd);
      else if (nd->kind == ND_COND)
        rule_cond(s, nd);
      else
        rule_call(s, nd);
      continue;
    }
    if (nd->kind == ND_GET) continue;
    Node *w = sw_adjoint(s, nd);
    if (!w) continue;
    g->span = nd->span;
    switch (nd->kind) {
    case ND_COMP:
      rule_comp(s, nd, w);
      break;
    case ND_SCAN:
      rule_scan(s, nd, w);
      break;
    case ND_SCATTER:
      rule_scatter(s, nd, w);
      break;
    case ND_CUSTOM:
      rule_custom(s, nd, w);
      break;
    default:
      bug("adjoint of a node of kind %d", nd->kind);
    }
  }
  for (int i = 0; i < nx; i++) {
    Node *w = dt_is_float(x[i]->dtype) ? sw_adjoint(s, x[i]) : NULL;
    dx[i] = w ? w : bd_zeros_like(g, x[i]);
  }
}
