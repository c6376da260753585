/* Sums of products that a loop's steps compute from the counter alone are computed before the loop, for all steps at once.
 *
 *   scan h for t in 0..T { tanh(x[t] @ wx + h @ wh) }
 *
 * x[t] @ wx of one step is a small product; [x[t] @ wx for t] is one large one, and its adjoint is one too. The body reads row t of
 * it. Each element is the same sum in the same order, so no bit changes.
 *
 * Requires: all steps run (no test, no run-time number of steps) and have no effects, so that nothing is computed, and no fault
 * raised, that would not be in the loop. */
#include "graph/internal.h"
#include "graph/native.h"
#include "graph/ptrmap.h"
#include <string.h>

static const double MOST_BYTES = 256e6, MOST_WORK = 64e6; /* of all steps' results; multiply-adds of one step */

typedef struct Lift {
  Graph *g;
  int64_t trip;
  Node *counter;
  PtrMap lifted; /* node of the body -> the same for all steps, or itself: can't be lifted */
  const Node *now;
  bool inside, ok;
} Lift;

static void see_input(void *ctx, Node *in) {
  Lift *f = ctx;
  Node *to = ptrmap_get(&f->lifted, in);
  f->inside |= in == f->counter || to != NULL;
  f->ok &= to != in;
}

/* e with a further first iterator, the step. */
static Expr *lift_leaf(void *ctx, Expr *e) {
  Lift *f = ctx;
  if (e->kind == EX_ITER) return ex_iter(f->g, (int)e->num.i + 1);
  if (e->kind != EX_LOAD) return NULL;
  if (e->node == f->counter) return ex_iter(f->g, 0);
  Node *to = ptrmap_get(&f->lifted, e->node);
  Expr **at = arena_array(f->g->arena, Expr *, e->n + 1);
  at[0] = ex_iter(f->g, 0);
  for (int d = 0; d < e->n; d++) at[d + 1] = ex_map(f->g, e->arg[d], lift_leaf, f);
  Expr *mask = e->mask ? ex_map(f->g, e->mask, lift_leaf, f) : NULL;
  return to ? ex_load(f->g, to, e->n + 1, at, mask, e->checked, e->span)
            : ex_load(f->g, e->node, e->n, at + 1, mask, e->checked, e->span);
}

static Node *lift(Lift *f, const Node *n) {
  const Comp *c = &n->comp;
  int k = c->nout + c->nred;
  int64_t *extent = arena_array(f->g->arena, int64_t, k + 1);
  extent[0] = f->trip;
  if (k) memcpy(extent + 1, c->extent, sizeof *extent * (size_t)k);
  Expr *body = ex_map(f->g, c->body, lift_leaf, f), *guard = c->guard ? ex_map(f->g, c->guard, lift_leaf, f) : NULL;
  f->g->span = n->span;
  return nd_comp_cut(f->g, c->nout + 1, c->nred, extent, c->op, body, guard, c->chunk);
}

static void see_load(void *ctx, Expr *e) {
  if (e->kind == EX_LOAD) *(bool *)ctx = true;
}
/* A sum of a product of two tensors, small enough. */
static bool worth(const Lift *f, const Node *n) {
  const Comp *c = &n->comp;
  const Expr *b = c->body;
  size_t bytes;
  double work = 1;
  if (c->op != RED_SUM || b->kind != EX_OP || b->op != OP_MUL || !dt_is_float((DType)b->dtype)) return false;
  for (int i = 0; i < 2; i++) {
    bool loads = false;
    ex_visit(b->arg[i], see_load, &loads);
    if (!loads) return false;
  }
  for (int i = 0; i < c->nout + c->nred; i++) work *= (double)c->extent[i];
  return work <= MOST_WORK && shape_bytes((DType)n->dtype, n->rank, n->dim, &bytes) &&
         (double)bytes * (double)f->trip <= MOST_BYTES;
}

static Node *row(Lift *f, Node *all, const Node *like) {
  Graph *g = f->g;
  Expr **at = arena_array(g->arena, Expr *, like->rank + 1);
  at[0] = ex_load(g, f->counter, 0, NULL, NULL, false, like->span);
  for (int i = 0; i < like->rank; i++) at[i + 1] = ex_iter(g, i);
  return nd_comp(g, like->rank, 0, like->dim, RED_NONE, ex_load(g, all, like->rank + 1, at, NULL, false, like->span),
                 NULL);
}

/* Marks what the steps compute whatever branches they take. */
static void want(void *ctx, Node *in) { ptrmap_put(ctx, in, in); }
static void find_eager(PtrMap *eager, const Loop *l, int n, Node *const *order) {
  for (int i = 0; i < l->body.nout; i++) want(eager, l->body.out[i]);
  for (int i = n; i-- > 0;) {
    if (!ptrmap_has(eager, order[i])) continue;
    if (order[i]->kind == ND_COND)
      want(eager, order[i]->cond.pred);
    else
      nd_each_input(order[i], want, eager);
  }
}

void loop_hoist(Graph *g, Loop *l) {
  if (!l->counter || l->trip < 2 || l->trip_node || l->cond || l->body.neffect) return;
  Node **order, *const *param;
  int n = graph_topo(g, l->body.nout, l->body.out, &order), nfrom = 0;
  Arena *scratch = arena_new();
  Lift f = {.g = g, .trip = l->trip, .counter = l->counter, .lifted = {.arena = scratch}};
  PtrMap inner = {.arena = scratch}, eager = {.arena = scratch};
  Node **from = arena_array(scratch, Node *, n), **to = arena_array(scratch, Node *, n);
  Span outer = g->span;
  for (int k = 0; k < l->nstate; k++) ptrmap_put(&inner, l->param[k], l->param[k]);
  for (int i = 0; i < n; i++) {
    Node *x = order[i];
    if (x->kind == ND_LOOP) {
      for (int k = 0; k < x->loop.nstate; k++) ptrmap_put(&inner, x->loop.param[k], x->loop.param[k]);
      if (x->loop.counter) ptrmap_put(&inner, x->loop.counter, x->loop.counter);
    } else if (x->kind == ND_CUSTOM) {
      for (int k = 0; k < x->custom.nparam; k++) ptrmap_put(&inner, x->custom.param[k], x->custom.param[k]);
    }
  }
  find_eager(&eager, l, n, order);
  for (int i = 0; i < n; i++) {
    Node *x = order[i];
    f.inside = false, f.ok = x->kind == ND_COMP && x->rank < TG_MAX_RANK && ptrmap_has(&eager, x);
    if (x == l->counter) continue;
    nd_each_input(x, see_input, &f);
    for (int k = nd_free_params(x, &param); k-- > 0;) f.ok &= !ptrmap_has(&inner, param[k]);
    if (!f.inside) continue;
    Node *all = f.ok ? lift(&f, x) : x;
    ptrmap_put(&f.lifted, x, all);
    if (all != x && worth(&f, x)) {
      from[nfrom] = x;
      to[nfrom++] = row(&f, all, x);
    }
  }
  g->span = outer;
  if (nfrom) {
    Node **out = arena_array(g->arena, Node *, l->body.nout);
    memcpy(out, l->body.out, sizeof *out * (size_t)l->body.nout);
    graph_rewrite(g, nfrom, from, to, l->body.nout, out);
    l->body.out = out;
  }
  arena_free(scratch);
}
