/* Layout: operands that a loop's contraction reads in every step.
 *
 * A contraction reads the operand of its vector side along the output's innermost axis. Where k is the contiguous axis
 * of that operand instead, every run transposes it into panels. If the operand does not change in the loop, a copy with
 * the axis in front of k's place, made once outside the loop, is read in place by every step: the weights in the
 * adjoint of a recurrent layer, u @ w.t. The copy holds the same values, so bits do not change.
 *
 * Runs after places.c (homes are known) and before inline.c: the copy is pinned, or it would be inlined as movement. */
#include "codegen/contract.h"
#include "codegen/fuse.h"

enum {
  MIN_WIDTH = 16,  /* points of the vector side: a vector */
  MIN_SIZE = 4096, /* elements of the operand: below, copying is nothing */
  MAX_OTHER = 128, /* points of the other side: above, transposing is little beside the products */
  MIN_TIMES = 4    /* steps that share the copy */
};

/* An operand that is read with k innermost, over bare iterators; axis: its dimension that should be innermost. */
typedef struct Operand {
  Expr *load;
  int axis;
} Operand;

static bool reads_along_k(const Comp *c, Expr *e, int inner, Operand *o) {
  uint64_t seen = 0;
  if (e->kind != EX_LOAD || e->mask || e->checked || e->n < 2) return false;
  o->axis = -1;
  o->load = e;
  for (int d = 0; d < e->n; d++) {
    if (e->arg[d]->kind != EX_ITER || (seen >> e->arg[d]->num.i & 1)) return false;
    int k = (int)e->arg[d]->num.i;
    seen |= (uint64_t)1 << k;
    if (k == inner) o->axis = d;
    if (e->node->dim[d] != c->extent[k]) return false;
  }
  return o->axis >= 0 && e->arg[e->n - 1]->num.i >= c->nout;
}

/* The operand that x's vectors should run along, but do not. */
static bool find_operand(const FNode *x, Operand *o) {
  Contract c;
  if (x->def->kind != ND_COMP || !contract_find_node(x->def, &c)) return false;
  bool swap = c.nN < MIN_WIDTH;
  int64_t width = swap ? c.nM : c.nN, other = swap ? c.nN : c.nM;
  int n = swap ? c.nm : c.nn;
  const int *axis = swap ? c.m : c.n;
  if (!n || width < MIN_WIDTH || other > MAX_OTHER || width * c.nK < MIN_SIZE) return false;
  return reads_along_k(&x->def->comp, swap ? c.a : c.b, axis[n - 1], o);
}

/* Outside every loop around x that leaves w as it is. */
static Place *outside(const FNode *x, const FNode *w) {
  Place *p = x->home;
  while (p->kind == PL_BODY && !fuse_varies(w, p->loop)) p = p->up->up;
  return p;
}

/* w with `axis` moved to the end, as dimension d of w is dimension to[d] of the copy. */
static Node *moved(Graph *g, Node *w, int axis, int *to) {
  int64_t *dim = arena_array(g->arena, int64_t, w->rank);
  Expr **at = arena_array(g->arena, Expr *, w->rank);
  for (int d = 0; d < w->rank; d++) {
    to[d] = d == axis ? w->rank - 1 : d > axis ? d - 1 : d;
    dim[to[d]] = w->dim[d];
    at[d] = ex_iter(g, to[d]);
  }
  return nd_comp(g, w->rank, 0, dim, RED_NONE, ex_load(g, w, w->rank, at, NULL, false, (Span){0, 0, 0}), NULL);
}

static void insert(Fusion *f, FNode *x, int pos) {
  vec_push(f->a, &f->node, x);
  for (int i = f->node.n - 1; i > pos; i--) f->node.at[i] = f->node.at[i - 1];
  f->node.at[pos] = x;
  for (int i = pos; i < f->node.n; i++) {
    f->node.at[i]->pos = i;
    nummap_put(&f->index, f->node.at[i]->n, i);
  }
}

/* The copy as a node of the region, evaluated at p before x; false: it is there already, elsewhere. */
static bool place_copy(Fusion *f, Node *copy, const FNode *w, const FNode *x, Place *p) {
  int at = nummap_get(&f->index, copy);
  if (at >= 0) {
    f->node.at[at]->pinned |= f->node.at[at]->home == p && at < x->pos;
    return f->node.at[at]->home == p && at < x->pos;
  }
  FNode *y = arena_new_of(f->a, FNode);
  y->n = y->def = copy;
  y->home = p;
  y->pinned = true;
  for (int i = 0; i < w->varies.n; i++) vec_push(f->a, &y->varies, w->varies.at[i]);
  insert(f, y, x->pos);
  return true;
}

typedef struct Swap {
  Graph *g;
  const Expr *load;
  Node *copy;
  const int *to;
} Swap;

static Expr *swap_leaf(void *ctx, Expr *e) {
  Swap *s = ctx;
  if (e != s->load) return NULL;
  Expr **at = arena_array(s->g->arena, Expr *, e->n);
  for (int d = 0; d < e->n; d++) at[s->to[d]] = e->arg[d];
  return ex_load(s->g, s->copy, e->n, at, NULL, false, e->span);
}

static void lay_out(Fusion *f, FNode *x) {
  Operand o;
  if (x->home->kind != PL_BODY || !find_operand(x, &o)) return;
  const FNode *w = fuse_node(f, o.load->node);
  Place *p = outside(x, w);
  if (x->home->times < MIN_TIMES * p->times) return;
  int *to = arena_array(f->a, int, o.load->n);
  Node *copy = moved(f->g, o.load->node, o.axis, to);
  if (!place_copy(f, copy, w, x, p)) return;
  const Comp *c = &x->def->comp;
  Swap s = {f->g, o.load, copy, to};
  x->def = nd_comp(f->g, c->nout, c->nred, c->extent, c->op, ex_map(f->g, c->body, swap_leaf, &s), NULL);
}

void fuse_layout(Fusion *f) {
  for (int i = 0; i < f->node.n; i++) { /* x moves on when a copy is put before it */
    FNode *x = f->node.at[i];
    lay_out(f, x);
    i = x->pos;
  }
}
