/* Simplification of expressions by the intervals of their iterators (ex_reduce).
 *
 * Beyond deciding comparisons, the rule that makes reshapes disappear: let x = G*A + r with G a divisor of c, every
 * term of A a multiple of G, and r in 0..G on the box. Then x // c = A // (c/G) and x % c = G*(A % (c/G)) + r. */
#include "graph/affine.h"
#include "graph/internal.h"
#include "graph/scalar_eval.h"

typedef struct {
  Graph *g;
  const Box *box;
  Expr *guard;
} Ctx;

static bool is_op(const Expr *e, ScalarOp op) { return e->kind == EX_OP && e->op == op; }

static int64_t gcd(int64_t a, int64_t b) {
  uint64_t x = a < 0 ? -(uint64_t)a : (uint64_t)a, y = (uint64_t)b;
  while (y) {
    uint64_t t = x % y;
    x = y;
    y = t;
  }
  return (int64_t)x;
}

/* x // c or x % c, c > 0, both already rebuilt; NULL when nothing is known. */
static Expr *split(Ctx *k, Expr *e) {
  Graph *g = k->g;
  Expr *x = e->arg[0];
  int64_t c = e->arg[1]->num.i;
  bool div = e->op == OP_FLOORDIV;
  Interval v = ex_interval(g, x, k->box, k->guard);
  if (v.lo > v.hi) return NULL;
  int64_t q = tg_floordiv(v.lo, c);
  if (q == tg_floordiv(v.hi, c))
    return div ? ex_int(g, DT_I64, q) : ex_lin(g, (int64_t) - ((uint64_t)c * (uint64_t)q), 1, (int64_t[]){1}, &x);
  bool wraps = v.lo == INT64_MIN && v.hi == INT64_MAX && !expr_x(x)->index; /* of data: the rule is for true integers */
  if (x->kind != EX_LIN || wraps) return NULL;
  for (int64_t best = c;;) { /* candidates: gcd(coefficient, c), descending */
    int64_t G = 1;
    for (int i = 0; i < x->n; i++) {
      int64_t d = gcd(x->coef[i], c);
      if (d < best && d > G) G = d;
    }
    if (G == 1) return NULL;
    best = G;
    Expr *A = ex_int(g, DT_I64, tg_floordiv(x->num.i, G)), *r = ex_int(g, DT_I64, tg_floormod(x->num.i, G));
    for (int i = 0; i < x->n; i++) {
      bool whole = x->coef[i] % G == 0;
      Expr **to = whole ? &A : &r;
      *to = ex_lin(g, 0, 2, (int64_t[]){1, whole ? x->coef[i] / G : x->coef[i]}, (Expr *[]){*to, x->arg[i]});
    }
    v = ex_interval(g, r, k->box, k->guard);
    if (v.lo < 0 || v.hi >= G) continue;
    Expr *inner = ex_op2(g, div ? OP_FLOORDIV : OP_MOD, A, ex_int(g, DT_I64, c / G));
    if (is_op(inner, OP_FLOORDIV) || is_op(inner, OP_MOD)) {
      Expr *more = inner->arg[1]->kind == EX_CONST && inner->arg[1]->num.i > 0 ? split(k, inner) : NULL;
      if (more) inner = more;
    }
    return div ? inner : ex_lin(g, 0, 2, (int64_t[]){G, 1}, (Expr *[]){inner, r});
  }
}

static Expr *improve(void *ctx, Expr *e) {
  Ctx *k = ctx;
  if (e->kind == EX_LOAD && e->mask) {
    int d = ex_decide_under(k->g, e->mask, k->box, k->guard);
    if (d == 0) return ex_num(k->g, e->dtype, 0);
    if (d == 1) return ex_load(k->g, e->node, e->n, e->arg, NULL, e->checked, e->span);
    Expr *m = e->mask;
    if (is_op(m, OP_AND) && ex_decide_under(k->g, m->arg[1], k->box, k->guard) == 1)
      return improve(ctx, ex_load(k->g, e->node, e->n, e->arg, m->arg[0], e->checked, e->span));
    return e;
  }
  if (e->kind != EX_OP || dt_is_float(e->arg[0]->dtype)) return e;
  if (e->op == OP_SELECT) {
    int d = ex_decide_under(k->g, e->arg[0], k->box, k->guard);
    return d < 0 ? e : e->arg[d ? 1 : 2];
  }
  if (e->dtype == DT_BOOL) {
    if (op_info[e->op].typing != 'C' || e->arg[0]->dtype == DT_BOOL) return e;
    int d = ex_decide_under(k->g, e, k->box, k->guard);
    return d < 0 ? e : ex_bool(k->g, d);
  }
  if (e->dtype != DT_I64) return e;
  if ((e->op == OP_FLOORDIV || e->op == OP_MOD) && e->arg[1]->kind == EX_CONST && e->arg[1]->num.i > 0) {
    Expr *r = split(k, e);
    return r ? r : e;
  }
  if (e->op == OP_MIN || e->op == OP_MAX) {
    Expr *less = ex_op2(k->g, OP_LE, e->arg[0], e->arg[1]);
    int d = ex_decide_under(k->g, less, k->box, k->guard);
    return d < 0 ? e : e->arg[(e->op == OP_MIN) == (d == 1) ? 0 : 1];
  }
  return e;
}

Expr *ex_reduce(Graph *g, Expr *e, const Box *b, Expr *guard) {
  for (int i = 0; i < b->niter; i++)
    if (b->iter[i].lo > b->iter[i].hi) return e; /* no points: nothing to gain */
  Ctx k = {g, b, guard};
  return ex_rebuild(g, e, &(Rebuild){.post = improve, .ctx = &k});
}
