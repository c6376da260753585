/* The simplifier: one bottom-up pass, repeated until nothing changes.
 *
 *   merge         loops of the same steps become one (merge.c), first
 *   movement      a comp that only moves (its body is one unmasked load with index subscripts, or holds no load at all)
 *                 vanishes into the loads of it
 *   ranges        // % comparisons, masks, min and max decided by the extents (reduce.c)
 *   guards        equalities substitute, triangles become SCAN (guards.c)
 *   SPLIT         iterators under // and % become two (split.c)
 *   narrow        iterators shrink to where a sum's body is not 0; a scatter to affine places is a comp (narrow.c)
 *   sums          an iterator that one factor of a product has alone is summed out first (presum.c)
 *   unused        an output iterator that a body does not use is dropped: computed once, broadcast by movement
 *   leftovers     CUSTOM is its primal, STOP its argument (derivatives have been taken); a branch on a constant is the
 *                 branch; a loop of no steps is its initial state; results of loops that nobody reads are not computed
 *
 * Every rule depends on the structure and, where sizes matter, gives the same arithmetic in the same order, so a row of
 * a batch is computed alike whatever the batch. CSE is interning, and what is not reachable is gone. Equal values, in
 * floats up to the sign of zero; faults are kept where the value is still wanted. Spans go over to what replaces a
 * node. */
#include "graph/affine.h"
#include "graph/internal.h"
#include <string.h>

enum { MAX_PASSES = 6, MAX_INLINE_OPS = 12 };

/* Of the pass, by id of the old node: its replacement; of LOOP and COND, which results are read and where they are
 * now. */
typedef struct {
  Graph *g;
  Arena *scratch;
  Node **to;
  bool **used;
  int **slot;
  uint32_t cap;
} Map;

static Node *mapped(void *ctx, Node *n) {
  const Map *m = ctx;
  return n->id < m->cap && m->to[n->id] ? m->to[n->id] : n;
}

/* ---- Movement ---------------------------------------------------------------------------------------------------- */

static bool index_only(Expr *const *idx, int n) {
  for (int i = 0; i < n; i++)
    if (!expr_x(idx[i])->index) return false;
  return true;
}

typedef struct {
  int ops;
  bool heavy;
} Weight;
static void weigh(void *ctx, Expr *e) {
  Weight *w = ctx;
  if (e->kind == EX_LOAD) w->heavy = true;
  if (e->kind != EX_OP) return;
  w->ops++;
  if (!op_info[e->op].prim || e->op == OP_PHILOX || e->op == OP_DIV || e->op == OP_SQRT) w->heavy = true;
}

static bool moves(const Node *n) {
  if (n->kind != ND_COMP || n->comp.op != RED_NONE || n->comp.guard) return false;
  const Expr *b = n->comp.body;
  if (b->kind == EX_LOAD) return !b->mask && index_only(b->arg, b->n);
  if (node_x(n)->nin) return false;
  Weight w = {0};
  ex_visit(n->comp.body, weigh, &w);
  return !w.heavy && w.ops <= MAX_INLINE_OPS;
}

/* A checked load of t guards t's sizes. After inlining the check is made against the source's: each subscript that may
 * be wrong must meet a bare axis of the source of the same size. */
static bool check_survives(const Expr *load, const Node *t) {
  const Expr *b = t->comp.body;
  if (b->kind != EX_LOAD) return false;
  for (int k = 0; k < load->n; k++) {
    if (expr_x(load->arg[k])->index) continue;
    bool met = false;
    for (int d = 0; d < b->n && !met; d++)
      met = b->arg[d]->kind == EX_ITER && b->arg[d]->num.i == k && b->node->dim[d] == t->dim[k];
    if (!met) return false;
  }
  return true;
}

static Expr *inline_movement(void *ctx, Expr *e) {
  Graph *g = ((Map *)ctx)->g;
  if (e->kind == EX_OP && e->op == OP_STOP) return e->arg[0];
  if (e->kind != EX_LOAD || !moves(e->node) || (e->checked && !check_survives(e, e->node))) return e;
  Expr *b = ex_subst_iters(g, e->node->comp.body, e->n, e->arg);
  if (!e->mask) {
    if (b->kind != EX_LOAD || !e->checked) return b;
    return ex_load(g, b->node, b->n, b->arg, NULL, true, e->span);
  }
  if (b->kind == EX_LOAD)
    return ex_load(g, b->node, b->n, b->arg, e->mask, e->checked || b->checked, e->checked ? e->span : b->span);
  return ex_select(g, e->mask, b, ex_num(g, e->dtype, 0));
}

static Expr *simplified_expr(void *ctx, Expr *e) {
  Map *m = ctx;
  return ex_rebuild(m->g, e, &(Rebuild){.node = mapped, .post = inline_movement, .ctx = m});
}

/* ---- One comprehension ------------------------------------------------------------------------------------------- */

void work_subst(Work *w, Expr *const *by) {
  int n = w->nout + w->nred;
  w->body = ex_subst_iters(w->g, w->body, n, by);
  if (w->guard) w->guard = ex_subst_iters(w->g, w->guard, n, by);
  for (int i = 0; i < w->nidx; i++) w->idx[i] = ex_subst_iters(w->g, w->idx[i], n, by);
}

/* What the guard implies is not used: back ends may evaluate a body before they test its guard, so a load must stay
 * inside its tensor (or masked) at every point of the box. */
void work_reduce(Work *w) {
  Interval iter[WORK_ITER];
  int n = w->nout + w->nred;
  for (int i = 0; i < n; i++) iter[i] = (Interval){0, w->extent[i] - 1};
  Box b = {.niter = n, .iter = iter};
  if (w->guard) w->guard = ex_and(w->g, ex_reduce(w->g, w->guard, &b, NULL), NULL);
  w->body = ex_reduce(w->g, w->body, &b, NULL);
  for (int i = 0; i < w->nidx; i++) w->idx[i] = ex_reduce(w->g, w->idx[i], &b, NULL);
}

static bool uses(const Work *w, int k) {
  bool u = ex_uses_iter(w->body, k) || (w->guard && ex_uses_iter(w->guard, k));
  for (int i = 0; i < w->nidx; i++) u = u || ex_uses_iter(w->idx[i], k);
  return u;
}

void work_drop(Work *w, int k) {
  Expr *by[WORK_ITER];
  int n = w->nout + w->nred;
  for (int i = 0; i < n; i++) by[i] = ex_iter(w->g, i > k ? i - 1 : i);
  work_subst(w, by);
  for (int i = k; i + 1 < n; i++) w->extent[i] = w->extent[i + 1];
  if (k >= w->nout) {
    w->nred--;
    return;
  }
  for (int i = k; i + 1 < w->nout; i++) w->back[i] = w->back[i + 1];
  w->nout--;
  w->changed = true;
}

static bool plain(const Work *w) { /* already movement, or next to nothing to compute */
  Weight v = {0};
  if (w->nred || w->guard) return false;
  if (w->body->kind == EX_LOAD) return true;
  ex_visit(w->body, weigh, &v);
  return !v.heavy && v.ops <= MAX_INLINE_OPS;
}

static void drop_unused(Work *w) {
  if (w->fixed_outputs) return;
  for (int k = w->nout; k-- > 0 && !plain(w);)
    if (w->extent[k] > 0 && !uses(w, k)) work_drop(w, k);
  bool idempotent = w->op == RED_MAX || w->op == RED_MIN || w->op == RED_ANY || w->op == RED_ALL;
  bool whole = w->op == RED_SUM && w->body->dtype == DT_I64;
  for (int k = w->nout + w->nred; k-- > w->nout;) {
    if (w->extent[k] <= 0 || uses(w, k) || (!idempotent && !whole)) continue;
    if (whole) w->body = ex_op2(w->g, OP_MUL, w->body, ex_int(w->g, DT_I64, w->extent[k]));
    work_drop(w, k);
  }
  if (w->nred || w->op == RED_NONE) return;
  if (!w->guard)
    w->op = RED_NONE;
  else if (w->op == RED_SUM) { /* one point, or none */
    w->body = ex_select(w->g, w->guard, work_push_mask(w, w->body, w->guard), ex_num(w->g, w->body->dtype, 0));
    w->guard = NULL;
    w->op = RED_NONE;
  }
}

static bool empty_space(const Comp *c) {
  for (int i = 0; i < c->nout + c->nred; i++)
    if (!c->extent[i]) return true;
  return false;
}

static void load_work(Work *w, Graph *g, const Comp *c) {
  *w = (Work){.g = g, .nout = c->nout, .nred = c->nred, .op = c->op, .body = c->body, .guard = c->guard};
  for (int i = 0; i < c->nout + c->nred; i++) w->extent[i] = c->extent[i];
  for (int i = 0; i < c->nout; i++) w->back[i] = ex_iter(g, i);
}

static Node *simplify_comp(Graph *g, Node *n) {
  Work w;
  Node *inner;
  if (n->comp.nout + n->comp.nred > WORK_ITER || empty_space(&n->comp) || n->comp.chunk) return n;
  load_work(&w, g, &n->comp);
  work_reduce(&w);
  work_guards(&w);
  double v;
  bool never = w.guard && w.guard->kind == EX_CONST, zero = w.op == RED_SUM && ex_is_const(w.body, &v) && v == 0;
  Expr *none = ex_over_nothing(g, w.op, w.body->dtype);
  if ((never || zero) && none) return nd_comp(g, n->comp.nout, 0, n->comp.extent, RED_NONE, none, NULL);
  bool keep = w.op != RED_NONE && w.nred == 1 && w.guard != NULL; /* may be a triangle */
  drop_unused(&w);
  if (!keep || !work_scan(&w, &inner)) {
    work_narrow(&w);
    work_split(&w);
    work_presum(&w);
    if (w.op != RED_NONE && !w.nred) return n; /* a guarded reduction of one point without a neutral value: as it was */
    inner = nd_comp(g, w.nout, w.nred, w.extent, w.op, w.body, w.guard);
  }
  if (!w.changed) return inner;
  return nd_comp(g, n->comp.nout, 0, n->comp.extent, RED_NONE,
                 ex_load(g, inner, w.nout, w.back, w.mask, false, (Span){0}), NULL);
}

static Node *simplify_scan(Graph *g, Node *n) {
  Work w;
  if (n->comp.nout > WORK_ITER || empty_space(&n->comp)) return n;
  load_work(&w, g, &n->comp);
  work_reduce(&w);
  return nd_scan(g, w.nout, w.extent, w.op, w.body, n->comp.reverse, n->comp.exclusive);
}

static Node *simplify_scatter(Graph *g, Node *n) {
  Work w;
  const Comp *c = &n->scatter.src;
  if (c->nout > WORK_ITER) return n;
  if (empty_space(c)) return n->scatter.base ? n->scatter.base : n;
  load_work(&w, g, c);
  w.fixed_outputs = true;
  w.nidx = n->rank;
  for (int i = 0; i < n->rank; i++) w.idx[i] = n->scatter.idx[i];
  work_reduce(&w);
  work_split(&w);
  n = nd_scatter(g, n->dtype, n->rank, n->dim, n->scatter.base, w.nout, w.extent, w.idx, w.body, w.guard,
                 n->scatter.how, n->scatter.checked);
  Node *comp = n->kind == ND_SCATTER ? scatter_as_comp(g, n) : NULL;
  return comp ? comp : n;
}

/* ---- Tuples ------------------------------------------------------------------------------------------------------ */

static Node *zeros(Graph *g, const TensorType *t) {
  return nd_comp(g, t->rank, 0, t->dim, RED_NONE, ex_num(g, t->dtype, 0), NULL);
}

static bool known(const Node *pred, bool *v) {
  if (pred->kind == ND_CONST) return *v = dt_get_i(DT_BOOL, pred->data, 0) != 0, true;
  if (pred->kind != ND_COMP || pred->comp.op || pred->comp.guard || pred->comp.body->kind != EX_CONST) return false;
  return *v = pred->comp.body->num.i != 0, true;
}

static Node *simplify_get(Graph *g, Node *n) {
  Node *of = n->get.of;
  bool v;
  if (of->kind == ND_COND && known(of->cond.pred, &v)) {
    const Region *r = v ? &of->cond.yes : &of->cond.no;
    return r->neffect ? n : r->out[n->get.index];
  }
  if (of->kind == ND_LOOP && of->loop.trip == 0 && !of->loop.trip_node)
    return n->get.index < of->loop.nstate ? of->loop.init[n->get.index] : zeros(g, &of->res[n->get.index]);
  return n;
}

static void need_states(const Loop *l, const Node *from, bool *need, bool *more) {
  Node *const *p;
  int n = nd_free_params(from, &p);
  for (int k = 0; k < l->nstate; k++)
    for (int i = 0; i < n && !need[k]; i++)
      if (p[i] == l->param[k]) need[k] = *more = true;
}

/* The loop without states and stacks that nobody needs. used[k]: GET k is read; slot[k]: where GET k is now. */
static Node *prune_loop(Map *m, Node *n, const bool *used, int *slot) {
  const Loop *l = &n->loop;
  int nout = l->nstate + l->nstack, ns = 0, nk = 0;
  bool *need = arena_array(m->scratch, bool, nout + 1), more = true;
  memcpy(need, used, sizeof *need * (size_t)nout);
  if (l->cond) need_states(l, l->cond, need, &more);
  for (int i = 0; i < l->body.neffect; i++) need_states(l, l->body.effect[i], need, &more);
  while (more) {
    more = false;
    for (int k = 0; k < nout; k++)
      if (need[k]) need_states(l, l->body.out[k], need, &more);
  }
  Node **init = arena_array(m->scratch, Node *, nout), **param = arena_array(m->scratch, Node *, nout),
       **out = arena_array(m->scratch, Node *, nout);
  for (int k = 0; k < nout; k++) {
    if (!need[k]) continue;
    slot[k] = ns + nk;
    out[ns + nk] = l->body.out[k];
    if (k < l->nstate)
      init[ns] = l->init[k], param[ns++] = l->param[k];
    else
      nk++;
  }
  slot[nout] = ns + nk; /* the number of steps */
  if (ns + nk == nout) return n;
  Loop k = *l;
  k.nstate = ns;
  k.nstack = nk;
  k.init = init;
  k.param = param;
  k.body.nout = ns + nk;
  k.body.out = out;
  return nd_loop(m->g, &k);
}

/* The same for the results of a branch. */
static Node *prune_cond(Map *m, Node *n, const bool *used, int *slot) {
  Node **yes = arena_array(m->scratch, Node *, n->nres), **no = arena_array(m->scratch, Node *, n->nres);
  int k = 0;
  for (int i = 0; i < n->nres; i++) {
    if (!used[i]) continue;
    yes[k] = n->cond.yes.out[i];
    no[k] = n->cond.no.out[i];
    slot[i] = k++;
  }
  if (k == n->nres) return n;
  Region y = n->cond.yes, o = n->cond.no;
  y.nout = o.nout = k;
  y.out = yes;
  o.out = no;
  return nd_cond(m->g, n->cond.pred, &y, &o);
}

/* ---- The pass ---------------------------------------------------------------------------------------------------- */

static Node *simplify_node(Map *m, Node *n) {
  Graph *g = m->g;
  if (n->kind == ND_CUSTOM) return mapped(m, n->custom.primal);
  if (n->kind == ND_GET) {
    int *slot = m->slot[n->get.of->id];
    return simplify_get(g, nd_get(g, mapped(m, n->get.of), slot ? slot[n->get.index] : n->get.index));
  }
  Node *r = nd_renew(g, n, &(Renew){simplified_expr, mapped, m, m->scratch});
  switch (r->kind) {
  case ND_COMP:
    return simplify_comp(g, r);
  case ND_SCAN:
    return simplify_scan(g, r);
  case ND_SCATTER:
    return simplify_scatter(g, r);
  case ND_LOOP:
  case ND_COND:
    m->slot[n->id] = arena_array(m->scratch, int, n->nres);
    return r->kind == ND_LOOP ? prune_loop(m, r, m->used[n->id], m->slot[n->id])
                              : prune_cond(m, r, m->used[n->id], m->slot[n->id]);
  default:
    return r;
  }
}

static bool one_pass(Graph *g, int nroot, Node **root) {
  Node **order;
  int n = graph_topo(g, nroot, root, &order);
  Map m = {.g = g, .scratch = arena_new(), .cap = g->next_id};
  m.to = arena_array(m.scratch, Node *, m.cap);
  m.used = arena_array(m.scratch, bool *, m.cap);
  m.slot = arena_array(m.scratch, int *, m.cap);
  for (int i = 0; i < n; i++) {
    Node *x = order[i];
    if (x->kind == ND_LOOP || x->kind == ND_COND) m.used[x->id] = arena_array(m.scratch, bool, x->nres);
    if (x->kind == ND_GET && m.used[x->get.of->id]) m.used[x->get.of->id][x->get.index] = true;
  }
  Span outer = g->span;
  for (int i = 0; i < n; i++) {
    g->span = order[i]->span;
    m.to[order[i]->id] = simplify_node(&m, order[i]);
  }
  g->span = outer;
  bool changed = false;
  for (int i = 0; i < nroot; i++) {
    changed = changed || mapped(&m, root[i]) != root[i];
    root[i] = mapped(&m, root[i]);
  }
  arena_free(m.scratch);
  return changed;
}

void graph_simplify(Graph *g, Region *r) {
  int nroot = r->nout + r->neffect;
  Node **root = arena_array(g->arena, Node *, nroot);
  for (int i = 0; i < nroot; i++) root[i] = i < r->nout ? r->out[i] : r->effect[i - r->nout];
  while (merge_loops(g, nroot, root)) {}
  for (int pass = 0; pass < MAX_PASSES && one_pass(g, nroot, root); pass++) {}
  r->out = root;
  r->effect = root + r->nout;
}
