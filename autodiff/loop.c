/* Loops and branches.
 *
 * A loop is run again with one more stack for each differentiable carry that its steps need (the same body and PARAMs: the two
 * loops are merged into one when both survive), then a loop in the other direction carries the adjoints:
 *
 *   forward   s[t+1] = F(s[t], c, t)                      c: what the body reads from outside (the frontier)
 *   reverse   l[t]   = dF/ds(s[t], c, t)^T l[t+1]         l: adjoints of states
 *             a[t]   = a[t+1] + dF/dc(s[t], c, t)^T l[t+1]  a: adjoints of the frontier
 *
 * Rows: a contribution to c that touches only row t (from c[t] in the body) is stacked, not accumulated: the stack is
 * the adjoint. Fission: where the contribution to a[t] is a sum (a contraction), nothing is accumulated in the loop; the
 * two factors are stacked and one contraction over (t, its own reduction) follows. An LSTM's weight gradients are one
 * product each. */
#include "internal.h"
#include <string.h>

/* ---- what a loop body depends on --------------------------------------------------------------------------------- */
typedef struct Inside {
  Arena *a;
  PtrMap in, local;
  NodeVec frontier;
  PtrMap seen;
} Inside;
static bool reads_any(const Node *n, const PtrMap *param) {
  Node *const *free;
  for (int k = nd_free_params(n, &free); k-- > 0;)
    if (ptrmap_has(param, free[k])) return true;
  return false;
}
static void binds(PtrMap *to, int n, Node *const *param, Node *counter) {
  for (int i = 0; i < n; i++) ptrmap_put(to, param[i], param[i]);
  if (counter) ptrmap_put(to, counter, counter);
}
/* Marks the nodes that depend on the given params, and apart from them (`local`) those that stand inside an inner loop:
 * they are nobody's frontier, but what they read may be. */
static void mark_inside(Inside *s, int n, Node *const *order, int nparam, Node *const *param, Node *counter) {
  PtrMap own = {.arena = s->a}, inner = {.arena = s->a};
  binds(&own, nparam, param, counter);
  for (int i = 0; i < n; i++) {
    if (order[i]->kind == ND_LOOP) binds(&inner, order[i]->loop.nstate, order[i]->loop.param, order[i]->loop.counter);
    if (order[i]->kind == ND_CUSTOM) binds(&inner, order[i]->custom.nparam, order[i]->custom.param, NULL);
  }
  for (int i = 0; i < n; i++) {
    if (reads_any(order[i], &own)) ptrmap_put(&s->in, order[i], order[i]);
    if (reads_any(order[i], &inner)) ptrmap_put(&s->local, order[i], order[i]);
  }
}
typedef struct Frontier {
  Inside *in;
  Sweep *sw;
} Frontier;
static void add_frontier(void *ctx, Node *n) {
  Frontier *f = ctx;
  if (ptrmap_has(&f->in->in, n) || ptrmap_has(&f->in->local, n) || ptrmap_has(&f->in->seen, n) || !sw_active(f->sw, n))
    return;
  ptrmap_put(&f->in->seen, n, n);
  if (n->nres == 0 && dt_is_float(n->dtype)) vec_push(f->in->a, &f->in->frontier, n);
}

/* x[t, ...] for a stack x, as a node. */
static Node *row_of(Graph *g, Node *stack, Node *counter, const Node *like) {
  Expr **at = arena_array(g->arena, Expr *, like->rank + 1);
  at[0] = ex_load(g, counter, 0, NULL, NULL, false, like->span);
  for (int i = 0; i < like->rank; i++) at[i + 1] = ex_iter(g, i);
  return nd_comp(g, like->rank, 0, like->dim, RED_NONE, ex_load(g, stack, like->rank + 1, at, NULL, false, like->span),
                 NULL);
}

/* ---- fission ----------------------------------------------------------------------------------------------------- */
typedef struct Fission {
  Graph *g;
  const Inside *in; /* of the reverse loop */
  NodeVec *stacked; /* nodes to be stacked by the reverse loop */
  Arena *a;
  Node *const *stack; /* afterwards: their stacks */
  int shift;          /* where reduction iterators move up to make room for t */
  Node *counter;
} Fission;
static int stack_index(Fission *f, Node *n, bool add) {
  for (int i = 0; i < f->stacked->n; i++)
    if (f->stacked->at[i] == n) return i;
  if (!add) bug("fission: node was not stacked");
  vec_push(f->a, f->stacked, n);
  return f->stacked->n - 1;
}
/* Loads of loop-dependent movement comps (a carry's row of its stack) become loads of their source: nothing is stacked
 * twice. */
static Expr *inline_moves(void *ctx, Expr *e) {
  Fission *f = ctx;
  if (e->kind != EX_LOAD || e->mask || e->checked || !ptrmap_has(&f->in->in, e->node)) return NULL;
  const Node *n = e->node;
  if (n->kind != ND_COMP || n->comp.nred || n->comp.guard || n->comp.body->kind != EX_LOAD) return NULL;
  return ex_map(f->g, ex_subst_iters(f->g, n->comp.body, e->n, e->arg), inline_moves, f);
}
static Node *without_moves(Fission *f, Node *c) {
  if (c->kind != ND_COMP || c->comp.op != RED_SUM) return c;
  const Comp *k = &c->comp;
  return nd_comp(f->g, k->nout, k->nred, k->extent, k->op, ex_map(f->g, k->body, inline_moves, f),
                 k->guard ? ex_map(f->g, k->guard, inline_moves, f) : NULL);
}
typedef struct Loads {
  Fission *f;
  int64_t elements;
  bool ok;
} Loads;
static void scan_loads(void *ctx, Expr *e) {
  Loads *l = ctx;
  if (e->kind != EX_LOAD || !ptrmap_has(&l->f->in->in, e->node)) return;
  if (e->node->kind == ND_PARAM && e->node != l->f->counter && e->node->rank == 0 && !dt_is_float(e->node->dtype))
    l->ok = false;
  if (e->node != l->f->counter) l->elements += nd_size(e->node);
}
/* A sum whose loop-dependent factors are together no larger than its result is worth splitting off. */
static bool splits_off(Fission *f, Node *c) {
  if (c->kind != ND_COMP || c->comp.op != RED_SUM) return false;
  Loads l = {f, 0, true};
  ex_visit(c->comp.body, scan_loads, &l);
  if (c->comp.guard) ex_visit(c->comp.guard, scan_loads, &l);
  return l.ok && l.elements <= 2 * nd_size(c) + 4096;
}
static void stack_loads(void *ctx, Expr *e) {
  Fission *f = ctx;
  if (e->kind == EX_LOAD && e->node != f->counter && ptrmap_has(&f->in->in, e->node)) stack_index(f, e->node, true);
}
static Expr *outside(void *ctx, Expr *e) {
  Fission *f = ctx;
  Graph *g = f->g;
  if (e->kind == EX_ITER) return e->num.i >= f->shift ? ex_iter(g, (int)e->num.i + 1) : e;
  if (e->kind != EX_LOAD) return NULL;
  if (e->node == f->counter) return ex_iter(g, f->shift);
  Expr **at = arena_array(g->arena, Expr *, e->n + 1);
  for (int i = 0; i < e->n; i++) at[i + 1] = ex_map(g, e->arg[i], outside, f);
  Expr *mask = e->mask ? ex_map(g, e->mask, outside, f) : NULL;
  if (!ptrmap_has(&f->in->in, e->node)) return ex_load(g, e->node, e->n, at + 1, mask, e->checked, e->span);
  at[0] = ex_iter(g, f->shift);
  return ex_load(g, f->stack[stack_index(f, e->node, false)], e->n + 1, at, mask, e->checked, e->span);
}
/* sum over all t of the comp c. */
static Node *sum_outside(Fission *f, const Node *c, int64_t trip) {
  Graph *g = f->g;
  const Comp *k = &c->comp;
  int64_t *e = arena_array(g->arena, int64_t, k->nout + k->nred + 1);
  memcpy(e, k->extent, sizeof *e * (size_t)k->nout);
  e[k->nout] = trip;
  memcpy(e + k->nout + 1, k->extent + k->nout, sizeof *e * (size_t)k->nred);
  f->shift = k->nout;
  return nd_comp(g, k->nout, k->nred + 1, e, RED_SUM, ex_map(g, k->body, outside, f),
                 k->guard ? ex_map(g, k->guard, outside, f) : NULL);
}
/* ---- rows --------------------------------------------------------------------------------------------------------- */
/* cond as `ITER 0 == counter + *c` and others? Solves the equation in either form that the makers leave. */
static bool is_row_condition(const Expr *e, const Node *counter, int64_t *c) {
  if (e->kind != EX_OP || e->op != OP_EQ || e->arg[0]->dtype != DT_I64) return false;
  int64_t iter = 0, count = 0, k = 0;
  for (int side = 0; side < 2; side++) {
    const Expr *x = e->arg[side];
    int64_t sign = side ? -1 : 1;
    int n = x->kind == EX_LIN ? x->n : 1;
    if (x->kind == EX_LIN || x->kind == EX_CONST) k += sign * x->num.i;
    if (x->kind == EX_CONST) continue;
    for (int i = 0; i < n; i++) {
      const Expr *a = x->kind == EX_LIN ? x->arg[i] : x;
      int64_t coef = sign * (x->kind == EX_LIN ? x->coef[i] : 1);
      if (a->kind == EX_ITER && a->num.i == 0)
        iter += coef;
      else if (a->kind == EX_LOAD && a->node == counter)
        count += coef;
      else
        return false;
    }
  }
  /* iter * j + count * t + k = 0 with iter = -count = +-1 */
  if (iter * iter != 1 || iter != -count) return false;
  *c = -k * iter;
  return true;
}
static bool has_row_condition(const Expr *e, const Node *counter, int64_t *c) {
  if (!e) return false;
  if (e->kind == EX_OP && e->op == OP_AND)
    return has_row_condition(e->arg[0], counter, c) || has_row_condition(e->arg[1], counter, c);
  return is_row_condition(e, counter, c);
}
/* The one row of contribution p that is not 0, at index counter + *c; NULL when p has another form. */
static Node *row_piece(Graph *g, Arena *a, Node *p, Node *counter, int64_t *c) {
  if (p->kind != ND_COMP || p->comp.nout < 1) return NULL;
  const Comp *k = &p->comp;
  const Expr *b = k->body;
  double zero;
  bool found = has_row_condition(k->guard, counter, c);
  if (!found && b->kind == EX_OP && b->op == OP_SELECT && ex_is_const(b->arg[2], &zero) && zero == 0)
    found = has_row_condition(b->arg[0], counter, c);
  if (!found && b->kind == EX_LOAD && b->mask) found = has_row_condition(b->mask, counter, c);
  if (!found || (k->op != RED_NONE && k->op != RED_SUM)) return NULL;
  int n = k->nout + k->nred;
  Expr **by = arena_array(a, Expr *, n), *t = ex_load(g, counter, 0, NULL, NULL, false, p->span);
  by[0] = ex_op2(g, OP_ADD, t, ex_int(g, DT_I64, *c));
  for (int i = 1; i < n; i++) by[i] = ex_iter(g, i - 1);
  /* Off the ends (x[t + 1] at the last step) the row is nowhere. */
  Expr *inside = ex_and(g, ex_op2(g, OP_GE, by[0], ex_int(g, DT_I64, 0)),
                        ex_op2(g, OP_LT, by[0], ex_int(g, DT_I64, k->extent[0])));
  double always;
  if (ex_is_const(inside, &always) && always) inside = NULL;
  Expr *body = ex_subst_iters(g, k->body, n, by), *guard = k->guard ? ex_subst_iters(g, k->guard, n, by) : NULL;
  return nd_comp(g, k->nout - 1, k->nred, k->extent + 1, k->op, body, ex_and(g, inside, guard));
}
/* The adjoint from the stacked rows: row j came at counter j - c. */
static Node *from_rows(Graph *g, Arena *a, Node *stack, const Node *like, int64_t c) {
  Expr **at = arena_array(a, Expr *, like->rank);
  for (int i = 0; i < like->rank; i++) at[i] = ex_iter(g, i);
  at[0] = ex_op2(g, OP_SUB, at[0], ex_int(g, DT_I64, c));
  Expr *mask = NULL;
  if (c > 0) mask = ex_op2(g, OP_GE, at[0], ex_int(g, DT_I64, 0));
  if (like->dim[0] - 1 - c >= stack->dim[0])
    mask = ex_and(g, mask, ex_op2(g, OP_LT, at[0], ex_int(g, DT_I64, stack->dim[0])));
  return nd_comp(g, like->rank, 0, like->dim, RED_NONE, ex_load(g, stack, like->rank, at, mask, false, like->span),
                 NULL);
}

static bool is_zero(const Node *n) {
  double v;
  return n->kind == ND_COMP && n->comp.op == RED_NONE && ex_is_const(n->comp.body, &v) && v == 0;
}
/* A contribution is a tree of element-wise sums; its leaves split off one by one. */
static void leaves_of(Graph *g, Arena *a, Node *c, NodeVec *out) {
  if (c->kind == ND_COMP && c->comp.op == RED_NONE && !c->comp.guard) {
    Expr *b = c->comp.body;
    while (b->kind == EX_OP && b->op == OP_ADD && b->arg[1]->kind == EX_LOAD) b = b->arg[0];
    if (b->kind == EX_LOAD && b != c->comp.body) {
      for (b = c->comp.body; b; b = b->kind == EX_OP ? b->arg[0] : NULL) {
        Expr *l = b->kind == EX_OP ? b->arg[1] : b;
        if (l->mask || l->node->rank != c->rank || l != ex_load_full(g, l->node, 0)) {
          vec_push(a, out, c);
          return;
        }
      }
      for (b = c->comp.body; b; b = b->kind == EX_OP ? b->arg[0] : NULL)
        leaves_of(g, a, b->kind == EX_OP ? b->arg[1]->node : b->node, out);
      return;
    }
  }
  vec_push(a, out, c);
}

typedef struct Row {
  int of;
  int64_t c;
  Node *value;
} Row; /* row counter + c of frontier node `of` */

/* ---- the loop rule ------------------------------------------------------------------------------------------------ */
void rule_loop(Sweep *s, Node *n) {
  Graph *g = s->g;
  Arena *a = s->a;
  const Loop *l = &n->loop;
  int ns = l->nstate, nk = l->nstack, nout = ns + nk;
  if (l->trip == 0) { /* no step: the states are the inits, and there are no rows */
    for (int k = 0; k < ns; k++) sw_add(s, l->init[k], sw_result_adjoint(s, n, k));
    return;
  }

  /* 1 what is inside, and the frontier */
  Node **order, **root = arena_array(a, Node *, nout + l->body.neffect);
  memcpy(root, l->body.out, sizeof *root * (size_t)nout);
  int n_in = graph_topo(g, nout, root, &order);
  Inside in = {.a = a, .in = {.arena = a}, .local = {.arena = a}, .seen = {.arena = a}};
  mark_inside(&in, n_in, order, ns, l->param, l->counter);
  Frontier fr = {&in, s};
  for (int i = 0; i < n_in; i++)
    if (ptrmap_has(&in.in, order[i]) || ptrmap_has(&in.local, order[i])) nd_each_input(order[i], add_frontier, &fr);
  for (int i = 0; i < nout; i++) add_frontier(&fr, l->body.out[i]);
  int nf = in.frontier.n;

  /* 2 the body's own adjoints, over the PARAMs of the body, stand-ins for the carried adjoints, and rows of stacked
   * ones */
  int64_t last = l->trip > 0 ? l->trip - 1 : 0;
  Node *t = nd_counter(g, 0, last);
  Node **lam = arena_array(a, Node *, ns), **init = arena_array(a, Node *, ns + nf),
       **ct = arena_array(a, Node *, nout);
  Node **x = arena_array(a, Node *, ns + nf + 1), **dx = arena_array(a, Node *, ns + nf);
  /* The body on PARAMs of its own: cotangents may reach the loop itself, which binds the old ones. */
  Node **from = arena_array(a, Node *, ns + 1), **to = arena_array(a, Node *, ns + 1),
       **y = arena_array(a, Node *, nout);
  int nsub = ns;
  for (int k = 0; k < ns; k++)
    from[k] = l->param[k], to[k] = x[k] = nd_param(g, from[k]->dtype, from[k]->rank, from[k]->dim, from[k]->name);
  if (l->counter) from[nsub] = l->counter, to[nsub++] = t;
  for (int i = 0; i < nout; i++) y[i] = l->body.out[i];
  graph_rewrite(g, nsub, from, to, nout, y);
  for (int k = 0; k < ns; k++) {
    ct[k] = lam[k] = NULL;
    if (!dt_is_float(x[k]->dtype)) continue;
    ct[k] = lam[k] = nd_param(g, x[k]->dtype, x[k]->rank, x[k]->dim, "lambda");
    init[k] = sw_result_adjoint(s, n, k);
    if (!init[k]) init[k] = bd_zeros_like(g, x[k]);
  }
  for (int j = 0; j < nk; j++) {
    Node *w = sw_result_adjoint(s, n, ns + j);
    ct[ns + j] = w ? row_of(g, w, t, l->body.out[ns + j]) : NULL;
  }
  for (int i = 0; i < nf; i++) x[ns + i] = in.frontier.at[i];
  ad_vjp(g, s->natives, nout, y, ct, ns + nf, x, dx);

  /* 3 the loop once more, with every carry stacked, and what else the adjoint wants of each step (save.c) */
  NodeVec taint = {0};
  for (int k = 0; k < ns; k++)
    if (lam[k]) vec_push(a, &taint, lam[k]);
  for (int j = 0; j < nk; j++)
    if (sw_result_adjoint(s, n, ns + j)) vec_push(a, &taint, sw_result_adjoint(s, n, ns + j));
  Node **kept;
  int nsave = ad_saved(g, a, &(SaveSpec){ns, x, t, taint.n, taint.at, ns + nf, dx, l->trip}, &kept);
  Node **outs = arena_array(a, Node *, nout + ns + nsave);
  memcpy(outs, l->body.out, sizeof *outs * (size_t)nout);
  memcpy(outs + nout, l->param, sizeof *outs * (size_t)ns);
  memcpy(outs + nout + ns, kept, sizeof *outs * (size_t)nsave);
  graph_rewrite(g, l->counter ? nsub : ns, to, from, nsave, outs + nout + ns);
  Loop more = *l;
  more.body.nout = nout + ns + nsave, more.body.out = outs, more.nstack = nk + ns + nsave;
  more.body.neffect = 0, more.body.effect = NULL;
  Node *saved = nd_loop(g, &more);
  Node *steps = l->cond ? nd_get(g, saved, ns + nk + ns + nsave) : l->trip_node;
  /* ... and the body's adjoints with PARAMs and kept values bound to the rows of step t */
  Node **was = arena_array(a, Node *, ns + nsave), **row = arena_array(a, Node *, ns + nsave);
  for (int k = 0; k < ns + nsave; k++) {
    was[k] = k < ns ? x[k] : kept[k - ns];
    row[k] = row_of(g, nd_get(g, saved, ns + nk + k), t, was[k]);
  }
  graph_rewrite(g, ns + nsave, was, row, ns + nf, dx);

  /* 4 the loop in the other direction: adjoints of float states, then accumulators of the frontier that do not split
   * off */
  Node **rparam = arena_array(a, Node *, ns + nf), **rinit = arena_array(a, Node *, ns + nf);
  NodeVec body = {0}, stacked = {0};
  int nr = 0;
  for (int k = 0; k < ns; k++)
    if (lam[k]) {
      rparam[nr] = lam[k], rinit[nr++] = init[k];
      vec_push(a, &body, dx[k]);
    }
  int nlam = nr;
  NodeVec probe = {0};
  for (int i = 0; i < ns + nf; i++) vec_push(a, &probe, dx[i]);
  Node **rorder;
  int n_rev = graph_topo(g, probe.n, probe.at, &rorder);
  Inside rin = {.a = a, .in = {.arena = a}, .local = {.arena = a}, .seen = {.arena = a}};
  mark_inside(&rin, n_rev, rorder, nlam, rparam, t);
  Fission f = {.g = g, .in = &rin, .stacked = &stacked, .a = a, .counter = t};
  NodeVec *leaf = arena_array(a, NodeVec, nf);
  int *acc = arena_array(a, int, nf);
  VEC(Row) rows = {0};
  bool fission = !steps; /* rows of steps not run are 0, but t itself and guards may not be: only whole loops */
  for (int i = 0; i < nf; i++) {
    Node *c = dx[ns + i];
    NodeVec parts = {0}, keep = {0};
    leaves_of(g, a, c, &parts);
    for (int p = 0; p < parts.n; p++) {
      int64_t c;
      if (is_zero(parts.at[p])) continue; /* else a state that nothing changes, added to in each step */
      Node *row = row_piece(g, a, parts.at[p], t, &c);
      if (row) {
        vec_push(a, &rows, ((Row){i, c, row}));
        continue;
      }
      Node *plain = without_moves(&f, parts.at[p]);
      if (fission && splits_off(&f, plain))
        vec_push(a, &leaf[i], plain);
      else
        vec_push(a, &keep, parts.at[p]);
    }
    for (int p = 0; p < leaf[i].n; p++) {
      ex_visit(leaf[i].at[p]->comp.body, stack_loads, &f);
      if (leaf[i].at[p]->comp.guard) ex_visit(leaf[i].at[p]->comp.guard, stack_loads, &f);
    }
    acc[i] = -1;
    if (!keep.n) continue;
    Node *rest = bd_sum(g, keep.n, keep.at), *p = nd_param(g, c->dtype, c->rank, c->dim, "acc");
    acc[i] = nr, rparam[nr] = p, rinit[nr++] = bd_zeros_like(g, c);
    vec_push(a, &body, bd_map(g, OP_ADD, p, rest));
  }
  for (int i = 0; i < rows.n; i++)
    stack_index(&f, rows.at[i].value, true); /* often a factor that was split off as well */
  for (int i = 0; i < stacked.n; i++) vec_push(a, &body, stacked.at[i]);
  Loop back = {.nstate = nr,
               .init = rinit,
               .param = rparam,
               .counter = t,
               .trip = l->trip,
               .trip_node = steps,
               .body = {.nout = body.n, .out = body.at},
               .nstack = stacked.n,
               .reverse = !l->reverse};
  Node *rev = nd_loop(g, &back);
  Node **stack = arena_array(a, Node *, stacked.n);
  for (int i = 0; i < stacked.n; i++) stack[i] = nd_get(g, rev, nr + i);
  f.stack = stack;

  /* 5 what reaches the inits and the frontier */
  for (int k = 0, r = 0; k < ns; k++)
    if (lam[k]) sw_add(s, l->init[k], nd_get(g, rev, r++));
  for (int i = 0; i < nf; i++) {
    if (acc[i] >= 0) sw_add(s, in.frontier.at[i], nd_get(g, rev, acc[i]));
    for (int p = 0; p < leaf[i].n; p++) sw_add(s, in.frontier.at[i], sum_outside(&f, leaf[i].at[p], l->trip));
  }
  for (int i = 0; i < rows.n; i++) {
    Node *x = in.frontier.at[rows.at[i].of];
    sw_add(s, x, from_rows(g, a, nd_get(g, rev, nr + stack_index(&f, rows.at[i].value, false)), x, rows.at[i].c));
  }
}

/* ---- branches ----------------------------------------------------------------------------------------------------- */
/* Differentiated through to what is active outside: the nodes that both arms and the rest of the graph may share are
 * stopped at the x of this sweep, so each arm is its own small derivative. */
void rule_cond(Sweep *s, Node *n) {
  Graph *g = s->g;
  int nout = n->nres;
  Node **ct = arena_array(s->a, Node *, nout);
  for (int i = 0; i < nout; i++) ct[i] = sw_result_adjoint(s, n, i);
  /* The x reached by either arm. */
  NodeVec x = {0};
  const Region *arm[2] = {&n->cond.yes, &n->cond.no};
  PtrMap seen = {.arena = s->a};
  for (int k = 0; k < 2; k++) {
    Node **order, **root = arena_array(s->a, Node *, nout);
    memcpy(root, arm[k]->out, sizeof *root * (size_t)nout);
    int m = graph_topo(g, nout, root, &order);
    for (int i = 0; i < m; i++)
      if (ptrmap_has(&s->cut, order[i]) && dt_is_float(order[i]->dtype) && !ptrmap_has(&seen, order[i])) {
        ptrmap_put(&seen, order[i], order[i]);
        vec_push(s->a, &x, order[i]);
      }
  }
  Node **d[2];
  Region r[2];
  for (int k = 0; k < 2; k++) {
    d[k] = arena_array(s->a, Node *, x.n);
    ad_vjp(g, s->natives, nout, arm[k]->out, ct, x.n, x.at, d[k]);
    r[k] = (Region){.nout = x.n, .out = d[k]};
  }
  if (!x.n) return;
  Node *c = nd_cond(g, n->cond.pred, &r[0], &r[1]);
  for (int i = 0; i < x.n; i++) sw_add(s, x.at[i], nd_get(g, c, i));
}
