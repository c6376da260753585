/* Linear forms and intervals of index expressions: what bounds proofs, derivatives, fusion and schedules ask. */
#ifndef TG_GRAPH_AFFINE_H
#define TG_GRAPH_AFFINE_H
#include "graph.h"

typedef struct {
  int64_t lo, hi;
} Interval; /* closed; lo > hi: empty */
#define INTERVAL_ALL ((Interval){INT64_MIN, INT64_MAX})

/* Known intervals of iterators: iter[k] for EX_ITER k, and a callback for EX_VAR (NULL: all). */
typedef struct Box {
  int niter;
  const Interval *iter;
  Interval (*var)(void *ctx, int64_t uid);
  void *ctx;
} Box;

/* Interval of an i64 (or any integer) expression over the box, clamped by the conjuncts of `guard` (may be NULL) that
 * have the same linear part, and by one Fourier-Motzkin step; saturating. */
Interval ex_interval(Graph *g, Expr *e, const Box *b, Expr *guard);
/* true/false when the condition is decided on the whole box (where `guard` holds, which may be NULL), else -1. */
int ex_decide(Graph *g, Expr *cond, const Box *b);
int ex_decide_under(Graph *g, Expr *cond, const Box *b, Expr *guard);
/* e rewritten by what holds on the box where guard holds: // and % that stay in one period or split off terms below
 * the divisor, decided comparisons, masks, min and max. Equal to e at every such point. */
Expr *ex_reduce(Graph *g, Expr *e, const Box *b, Expr *guard);

/* e as c + sum a[k] * ITER k + (other atoms). Fills coef[0..niter); returns false when an atom besides the iterators
 * remains, then *rest holds those atoms' sum (without c), else NULL. */
bool ex_affine(Graph *g, Expr *e, int niter, int64_t *coef, int64_t *c, Expr **rest);
/* A comparison of integers that is one of such a form with 0: OP_GE, OP_EQ or OP_NE, the form in coef[0..niter) and c;
 * OP_COUNT where cond is something else. */
ScalarOp ex_affine_cond(Graph *g, Expr *cond, int niter, int64_t *coef, int64_t *c);
#endif
