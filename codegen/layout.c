/* Layout: copies of operands that contractions read better than the operands.
 *
 * Turned. A contraction reads the operand of its vector side along the output's innermost axis. Where k is the
 * contiguous axis of that operand instead, every run transposes it into panels. If the operand does not change in the
 * loop around, a copy with the axis in front of k's place, made once outside the loop, is read in place by every step:
 * the weights in the adjoint of a recurrent layer, u @ w.t.
 *
 * Bordered. A window that reaches over the border of an image reads it under a mask, every element as often as the
 * window covers it, and working out masks costs more than reading. A copy with the border's zeros in it is read
 * without: convolutions with padding, and the gradients of those without.
 *
 * Copies hold the same values, so bits do not change. Runs after places.c (homes are known) and before inline.c: a copy
 * is pinned, or it would be inlined as movement. */
#include "codegen/contract.h"
#include "codegen/fuse.h"
#include "graph/affine.h"
#include <string.h>

enum {
  MIN_WIDTH = 16,  /* points of the vector side: a vector */
  MIN_SIZE = 4096, /* elements of the operand: below, copying is nothing */
  MAX_OTHER = 128, /* points of the other side: above, transposing is little beside the products */
  MIN_TIMES = 4,   /* steps that share the copy */
  MIN_IMAGE = 256, /* elements of a bordered image */
  MIN_COVER = 2    /* reads of each */
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

/* Contraction x with loads of o replaced by loads of the copy. */
typedef struct Swap {
  Graph *g;
  const Expr *load;
  Node *copy;
  const int *to;         /* dimension of the copy; NULL: the same */
  const int64_t *origin; /* where the copy begins; NULL: at 0 */
} Swap;

static Expr *moved_by(Graph *g, Expr *e, int64_t by) { return ex_lin(g, by, 1, (int64_t[]){1}, &e); }

static Expr *swap_leaf(void *ctx, Expr *e) {
  Swap *s = ctx;
  if (e != s->load) return NULL;
  Expr **at = arena_array(s->g->arena, Expr *, e->n);
  for (int d = 0; d < e->n; d++)
    at[s->to ? s->to[d] : d] = s->origin ? moved_by(s->g, e->arg[d], -s->origin[d]) : e->arg[d];
  return ex_load(s->g, s->copy, e->n, at, NULL, false, e->span);
}

static void read_copy(FNode *x, Swap s) {
  const Comp *c = &x->def->comp;
  x->def = nd_comp(s.g, c->nout, c->nred, c->extent, c->op, ex_map(s.g, c->body, swap_leaf, &s), NULL);
}

/* ---- Turned ------------------------------------------------------------------------------------------------------ */

static void turn(Fusion *f, FNode *x) {
  Operand o;
  if (x->home->kind != PL_BODY || !find_operand(x, &o)) return;
  const FNode *w = fuse_node(f, o.load->node);
  Place *p = outside(x, w);
  if (x->home->times < MIN_TIMES * p->times) return;
  int *to = arena_array(f->a, int, o.load->n);
  Node *copy = moved(f->g, o.load->node, o.axis, to);
  if (place_copy(f, copy, w, x, p)) read_copy(x, (Swap){f->g, o.load, copy, to, NULL});
}

/* ---- Bordered ---------------------------------------------------------------------------------------------------- */

typedef struct Form { /* c + sum coef[k] * ITER k, over a comp's iterators */
  int64_t coef[CONTRACT_MAX_ITER], c;
} Form;

/* Per dimension of a load: its subscript, all the places that it comes to, and those of them that the mask leaves. */
typedef struct Window {
  Form *at;
  int64_t *lo, *hi, *first, *last;
} Window;

static bool form_of(Graph *g, Expr *e, int niter, Form *f) {
  Expr *rest;
  memset(f, 0, sizeof *f);
  return ex_affine(g, e, niter, f->coef, &f->c, &rest);
}

/* A condition on one subscript alone: a bound of what is read. */
static bool take_bound(Graph *g, const Window *w, int n, int niter, Expr *c) {
  Form up; /* the condition is up >= 0 */
  if (ex_affine_cond(g, c, niter, up.coef, &up.c) != OP_GE) return false;
  for (int d = 0; d < n; d++) {
    const Form *s = &w->at[d];
    bool same = true, opposite = true, any = false;
    for (int k = 0; k < niter; k++) {
      same &= up.coef[k] == s->coef[k];
      opposite &= up.coef[k] == -s->coef[k];
      any |= up.coef[k] != 0;
    }
    if (!any) return false;
    if (same && s->c - up.c > w->first[d]) w->first[d] = s->c - up.c;
    if (opposite && s->c + up.c < w->last[d]) w->last[d] = s->c + up.c;
    if (same || opposite) return true;
  }
  return false;
}

static bool take_bounds(Graph *g, const Window *w, int n, int niter, Expr *c) {
  if (c->kind == EX_OP && c->op == OP_AND)
    return take_bounds(g, w, n, niter, c->arg[0]) && take_bounds(g, w, n, niter, c->arg[1]);
  return take_bound(g, w, n, niter, c);
}

/* Points at which the comp evaluates e. */
static double reads_of(const Comp *c, const Expr *e) {
  double reads = 1;
  for (int k = 0; k < c->nout + c->nred; k++)
    if (ex_uses_iter(e, k)) reads *= (double)c->extent[k];
  return reads;
}

/* Is e a load whose mask is a box of its tensor, and which reads most elements more than once? */
static bool is_windowed(const Fusion *f, const Comp *c, Expr *e, Window *w) {
  int niter = c->nout + c->nred;
  if (e->kind != EX_LOAD || !e->mask || e->checked || niter > CONTRACT_MAX_ITER) return false;
  *w = (Window){arena_array(f->a, Form, e->n), arena_array(f->a, int64_t, e->n), arena_array(f->a, int64_t, e->n),
                arena_array(f->a, int64_t, e->n), arena_array(f->a, int64_t, e->n)};
  double size = 1;
  for (int d = 0; d < e->n; d++) {
    if (!form_of(f->g, e->arg[d], niter, &w->at[d])) return false;
    w->lo[d] = w->hi[d] = w->at[d].c;
    for (int k = 0; k < niter; k++) {
      int64_t step = w->at[d].coef[k], reach;
      if (__builtin_mul_overflow(step, c->extent[k] - 1, &reach) ||
          __builtin_add_overflow(step < 0 ? w->lo[d] : w->hi[d], reach, step < 0 ? &w->lo[d] : &w->hi[d]))
        return false;
    }
    w->first[d] = 0;
    w->last[d] = e->node->dim[d] - 1;
    size *= (double)w->hi[d] - (double)w->lo[d] + 1;
  }
  return size >= MIN_IMAGE && reads_of(c, e) >= MIN_COVER * size && take_bounds(f->g, w, e->n, niter, e->mask);
}

/* What the window comes to, zeros where the mask leaves nothing. */
static Node *bordered(Graph *g, const Expr *load, const Window *w) {
  int n = load->n;
  int64_t *dim = arena_array(g->arena, int64_t, n);
  Expr **at = arena_array(g->arena, Expr *, n), *mask = NULL;
  for (int d = 0; d < n; d++) {
    dim[d] = w->hi[d] - w->lo[d] + 1;
    at[d] = moved_by(g, ex_iter(g, d), w->lo[d]);
    if (w->lo[d] < w->first[d]) mask = ex_and(g, mask, ex_op2(g, OP_GE, at[d], ex_int(g, DT_I64, w->first[d])));
    if (w->hi[d] > w->last[d]) mask = ex_and(g, mask, ex_op2(g, OP_LE, at[d], ex_int(g, DT_I64, w->last[d])));
  }
  return nd_comp(g, n, 0, dim, RED_NONE, ex_load(g, load->node, n, at, mask, false, load->span), NULL);
}

/* The node that e loads, if it is such a copy by itself and is read as often: somebody's `pad`. */
static FNode *border_read(const Fusion *f, const Comp *c, Expr *e) {
  if (e->kind != EX_LOAD || e->mask || e->checked) return NULL;
  FNode *y = fuse_node(f, e->node);
  if (y->def->kind != ND_COMP || y->def->comp.nred) return NULL;
  const Expr *body = y->def->comp.body;
  if (body->kind != EX_LOAD || !body->mask || body->checked) return NULL;
  double size = 1;
  for (int d = 0; d < e->node->rank; d++) size *= (double)e->node->dim[d];
  return size >= MIN_IMAGE && reads_of(c, e) >= MIN_COVER * size ? y : NULL;
}

static void add_border(Fusion *f, FNode *x) {
  Contract c;
  if (x->def->kind != ND_COMP || !contract_find_node(x->def, &c)) return;
  Expr *side[2] = {c.a, c.b};
  for (int i = 0; i < 2; i++) {
    Window w;
    FNode *pad = border_read(f, &x->def->comp, side[i]);
    if (pad) pad->pinned = true;
    if (!is_windowed(f, &x->def->comp, side[i], &w)) continue;
    const FNode *image = fuse_node(f, side[i]->node);
    Node *copy = bordered(f->g, side[i], &w);
    if (place_copy(f, copy, image, x, outside(x, image))) read_copy(x, (Swap){f->g, side[i], copy, NULL, w.lo});
  }
}

void fuse_layout(Fusion *f) {
  for (int i = 0; i < f->node.n; i++) { /* x moves on when a copy is put before it */
    FNode *x = f->node.at[i];
    turn(f, x);
    add_border(f, x);
    i = x->pos;
  }
}
