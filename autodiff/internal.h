/* What the files of autodiff/ share: the sweep's state, builders, and one rule a kind of node. Reading order: local.c
 * (one body), invert.c (index maps), reverse.c (the sweep and the comprehension), loop.c, call.c, forward.c. */
#ifndef TG_AUTODIFF_INTERNAL_H
#define TG_AUTODIFF_INTERNAL_H
#include "autodiff.h"
#include "graph/affine.h"
#include "graph/ptrmap.h"

typedef VEC(Node *) NodeVec;

/* One reverse sweep. Contributions to a node's adjoint are collected and added once, in the order they came. */
typedef struct Sweep {
  Graph *g;
  Arena *a; /* the graph's: a rule may unwind (a call without derivative) */
  const Natives *natives;
  PtrMap cut;     /* the x themselves: adjoints stop there */
  PtrMap active;  /* Node -> non-NULL: depends on some x */
  PtrMap contrib; /* Node -> NodeVec*: contributions (of a GET: to that result) */
  PtrMap gets;    /* tuple node -> NodeVec* of its GETs met in the sweep */
} Sweep;

bool sw_active(const Sweep *s, Node *n);
void sw_add(Sweep *s, Node *to, Node *contribution);       /* ignores NULL and inactive or integer targets */
Node *sw_adjoint(Sweep *s, Node *n);                       /* sum of what came, or NULL */
Node *sw_result_adjoint(Sweep *s, Node *tuple, int index); /* of result `index`, or NULL */

/* ---- builders (build.c) ---- */
Node *bd_zeros(Graph *g, DType t, int rank, const int64_t *dim);
Node *bd_zeros_like(Graph *g, const Node *n);
Node *bd_sum(Graph *g, int n, Node *const *part);      /* element-wise, one comp */
Node *bd_map(Graph *g, ScalarOp op, Node *x, Node *y); /* same shapes; y NULL for unary */
Node *bd_scale(Graph *g, Node *x, double c);
Node *bd_matmul(Graph *g, Node *a, bool ta, Node *b, bool tb);  /* over the last two axes, leading axes equal */
Node *bd_transpose(Graph *g, Node *a);                          /* last two axes */
Node *bd_dot(Graph *g, Node *a, Node *b);                       /* sum of all products: rank 0 */
Expr *bd_load_at(Graph *g, Node *t, int n, Expr *const *first); /* t[first..., ITER..]: rank n only */

/* ---- local.c ---- */
typedef struct Partial {
  Expr *load, *p, *cond;
} Partial; /* p: d body / d load times the seed, valid where cond (NULL: all) */
/* Partials of `body` with respect to each distinct load of an active node, for cotangent `seed`. Conditions of selects
 * stay outside the products, so an arm that is not taken contributes 0 and never 0 * inf. */
int ad_partials(Sweep *s, Expr *body, Expr *seed, Partial **out);
/* Inlines active element-wise comps loaded inside arms of selects, so that their derivatives fall under the condition.
 */
Expr *ad_expand_arms(Sweep *s, Expr *body);

/* ---- invert.c ---- */
typedef struct Space {
  int n;
  const int64_t *extent;
  Expr *const *f;
  Expr *p, *cond;
  bool checked;
  Span span;
} Space;
/* The tensor t' of t's type with t'[f(i)] = sum over the points i of the space where cond: p(i). */
Node *ad_gather(Graph *g, Arena *a, const Node *t, const Space *s);

/* ---- save.c ---- */
/* A step and its adjoint: `root` is the adjoint, over the step's PARAMs, the counter (NULL: none) and `taint`, the
 * nodes that stand for cotangents. */
typedef struct SaveSpec {
  int nparam;
  Node *const *param;
  Node *counter;
  int ntaint;
  Node *const *taint;
  int nroot;
  Node *const *root;
  int64_t trip;
} SaveSpec;
/* The nodes, other than PARAMs, that the forward loop should stack for the adjoint. */
int ad_saved(Graph *g, Arena *a, const SaveSpec *s, Node ***out);

/* ---- rules: add contributions to the inputs of n, given its adjoint(s) in the sweep ---- */
void rule_comp(Sweep *s, Node *n, Node *w);
void rule_body(Sweep *s, int niter, const int64_t *extent, Expr *body, Expr *guard, Expr *seed, Span span);
void rule_scan(Sweep *s, Node *n, Node *w);
void rule_scatter(Sweep *s, Node *n, Node *w);
void rule_loop(Sweep *s, Node *n);
void rule_cond(Sweep *s, Node *n);
void rule_call(Sweep *s, Node *n);
void rule_custom(Sweep *s, Node *n, Node *w);
#endif
