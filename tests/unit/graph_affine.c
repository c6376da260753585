/* Intervals, decisions, affine forms: every bounds proof that the front end needs, and soundness against enumeration.
 * */
#include "graph/affine.h"
#include "graph/internal.h"
#include "graph/scalar_eval.h"
#include <criterion/criterion.h>

static Arena *arena;
static Graph *g;
static void up(void) {
  arena = arena_new();
  g = graph_new(arena, diags_new(arena));
}
static void down(void) { arena_free(arena); }
TestSuite(graph_affine, .init = up, .fini = down);

static Expr *I(int64_t v) { return ex_int(g, DT_I64, v); }
static Expr *it(int k) { return ex_iter(g, k); }
static Expr *op(ScalarOp o, Expr *a, Expr *b) { return ex_op2(g, o, a, b); }
static Expr *add(Expr *a, Expr *b) { return op(OP_ADD, a, b); }
static Expr *mul(Expr *a, Expr *b) { return op(OP_MUL, a, b); }

/* Is e inside 0..n for iterators of these extents, under the guard? */
static bool proved(Expr *e, int64_t n, Expr *guard, int niter, const int64_t *extent) {
  Interval iter[8];
  for (int i = 0; i < niter; i++) iter[i] = (Interval){0, extent[i] - 1};
  Interval v = ex_interval(g, e, &(Box){.niter = niter, .iter = iter}, guard);
  return v.lo >= 0 && v.hi < n;
}
#define BOX(...)                                                                                                       \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]) { __VA_ARGS__ }

Test(graph_affine, bounds_of_windows) {
  Expr *y = it(0), *r = it(1);
  cr_assert(proved(add(y, r), 28, NULL, BOX(26, 3)));
  cr_assert_not(proved(add(y, r), 27, NULL, BOX(26, 3)));
  cr_assert(proved(add(mul(y, I(2)), I(1)), 9, NULL, BOX(4)));
  cr_assert_not(proved(add(mul(y, I(2)), I(1)), 9, NULL, BOX(5)));
  cr_assert(proved(add(mul(y, I(64)), r), 640, NULL, BOX(10, 64)));
  cr_assert(proved(op(OP_SUB, I(9), y), 10, NULL, BOX(10)));
}

Test(graph_affine, bounds_under_guards) {
  Expr *i = it(0), *j = it(1), *prev = op(OP_SUB, i, I(1));
  cr_assert(proved(prev, 10, op(OP_GT, i, I(0)), BOX(10)));
  cr_assert(proved(prev, 10, op(OP_NE, i, I(0)), BOX(10)));
  cr_assert(proved(prev, 10, ex_op1(g, OP_NOT, op(OP_EQ, i, I(0))), BOX(10)));
  cr_assert_not(proved(prev, 10, NULL, BOX(10)));
  cr_assert(proved(op(OP_SUB, i, j), 10, op(OP_LE, j, i), BOX(10, 10)));
  cr_assert_not(proved(op(OP_SUB, i, j), 10, op(OP_LT, i, j), BOX(10, 10)));
  Expr *two = ex_and(g, op(OP_GT, i, I(0)), op(OP_GT, j, I(0)));
  cr_assert(proved(op(OP_SUB, add(i, j), I(2)), 17, two, BOX(10, 10)));
  Expr *in = op(OP_SUB, add(i, j), I(1)); /* pad by 1 */
  Expr *pad = ex_and(g, op(OP_GE, in, I(0)), op(OP_LT, in, I(10)));
  cr_assert(proved(in, 10, pad, BOX(10, 3)));
  cr_assert_not(proved(in, 10, NULL, BOX(10, 3)));
  cr_assert(proved(add(i, j), 10, op(OP_LT, add(add(i, j), I(5)), I(15)), BOX(10, 10)));
  cr_assert(proved(op(OP_SUB, mul(i, I(2)), j), 20, op(OP_LE, j, mul(i, I(2))), BOX(10, 30)));
}

Test(graph_affine, bounds_of_divisions) {
  Expr *i = it(0), *j = it(1);
  Expr *q = op(OP_FLOORDIV, add(mul(i, I(3)), j), I(3));
  cr_assert(proved(q, 10, NULL, BOX(10, 3)));
  cr_assert(proved(op(OP_MOD, i, I(7)), 7, NULL, BOX(100)));
  cr_assert(proved(op(OP_FLOORDIV, i, I(8)), 13, NULL, BOX(100)));
  cr_assert_not(proved(op(OP_FLOORDIV, i, I(8)), 12, NULL, BOX(100)));
  cr_assert(proved(op(OP_MIN, add(i, I(5)), I(9)), 10, NULL, BOX(100)));
  cr_assert(proved(op(OP_MAX, op(OP_SUB, i, I(5)), I(0)), 95, NULL, BOX(100)));
  cr_assert(proved(ex_select(g, op(OP_GT, i, I(0)), op(OP_SUB, i, I(1)), I(0)), 99, NULL, BOX(100)));
  cr_assert(proved(op(OP_MOD, op(OP_SUB, i, I(1)), I(100)), 100, NULL, BOX(100)));
}

Test(graph_affine, bounds_of_counters_and_data) {
  Node *t = nd_counter(g, 0, 9), *tab = nd_const(g, DT_I32, 1, (int64_t[]){3}, (int32_t[]){2, 0, 5});
  Expr *c = ex_load(g, t, 0, NULL, NULL, false, (Span){0}), *i = it(0);
  cr_assert(proved(add(mul(c, I(64)), i), 640, NULL, BOX(64)));
  Expr *k = ex_cast(g, DT_I64, ex_load(g, tab, 1, &i, NULL, false, (Span){0}));
  cr_assert(proved(k, 6, NULL, BOX(3)));
  cr_assert_not(proved(k, 5, NULL, BOX(3)));
  Node *u = nd_input(g, DT_I64, 1, (int64_t[]){3}, "u", 0);
  Expr *d = ex_load(g, u, 1, &i, NULL, false, (Span){0});
  cr_assert_not(proved(d, 5, NULL, BOX(3)));
  Expr *ok = ex_and(g, op(OP_GE, d, I(0)), op(OP_LT, d, I(5)));
  cr_assert(proved(d, 5, ok, BOX(3)));
  /* d + 1 may wrap, so d + 1 < 5 says nothing about d without a lower bound that is safe */
  cr_assert_not(proved(add(d, I(1)), 5, ex_and(g, op(OP_GE, d, I(0)), op(OP_LT, add(d, I(1)), I(5))), BOX(3)) &&
                !proved(d, 5, op(OP_GE, d, I(0)), BOX(3)));
  Node *m = nd_comp(g, 1, 0, (int64_t[]){3}, RED_NONE, op(OP_MOD, d, I(4)), NULL);
  cr_assert(proved(ex_load(g, m, 1, &i, NULL, false, (Span){0}), 4, NULL, BOX(3)));
  Node *a = nd_comp(g, 0, 1, (int64_t[]){3}, RED_ARGMAX, d, NULL);
  cr_assert(proved(ex_load(g, a, 0, NULL, NULL, false, (Span){0}), 3, NULL, BOX(3)));
}

Test(graph_affine, decisions) {
  Interval iter[] = {{0, 9}, {0, 4}};
  Box b = {.niter = 2, .iter = iter};
  cr_assert_eq(ex_decide(g, op(OP_LT, it(0), I(10)), &b), 1);
  cr_assert_eq(ex_decide(g, op(OP_GT, it(0), I(9)), &b), 0);
  cr_assert_eq(ex_decide(g, op(OP_LT, it(0), I(9)), &b), -1);
  cr_assert_eq(ex_decide(g, op(OP_EQ, it(0), I(10)), &b), 0);
  cr_assert_eq(ex_decide(g, op(OP_LE, it(1), add(it(0), I(4))), &b), 1);
  cr_assert_eq(ex_decide_under(g, op(OP_GT, it(0), I(0)), &b, op(OP_GT, it(0), it(1))), 1);
  cr_assert_eq(ex_decide_under(g, op(OP_EQ, it(0), I(4)), &b, op(OP_NE, it(0), I(4))), 0);
}

Test(graph_affine, affine_forms) {
  int64_t coef[3], c;
  Expr *rest;
  Expr *e = add(add(mul(it(0), I(3)), mul(it(2), I(-1))), I(7));
  cr_assert(ex_affine(g, e, 3, coef, &c, &rest));
  cr_assert(coef[0] == 3 && coef[1] == 0 && coef[2] == -1 && c == 7 && !rest);
  Expr *f = add(e, op(OP_MOD, it(1), I(4)));
  cr_assert_not(ex_affine(g, f, 3, coef, &c, &rest));
  cr_assert(coef[0] == 3 && c == 7 && rest == op(OP_MOD, it(1), I(4)));
  cr_assert(ex_affine(g, it(1), 3, coef, &c, &rest) && coef[1] == 1);
}

Test(graph_affine, reshapes_reduce_to_affine) {
  Interval iter[] = {{0, 4}, {0, 2}, {0, 3}}; /* a 5, b 3, c 4 */
  Box box = {.niter = 3, .iter = iter};
  Expr *flat = add(add(mul(it(0), I(12)), mul(it(1), I(4))), it(2));
  cr_assert_eq(ex_reduce(g, op(OP_FLOORDIV, flat, I(12)), &box, NULL), it(0));
  cr_assert_eq(ex_reduce(g, op(OP_MOD, op(OP_FLOORDIV, flat, I(4)), I(3)), &box, NULL), it(1));
  cr_assert_eq(ex_reduce(g, op(OP_MOD, flat, I(4)), &box, NULL), it(2));
  cr_assert_eq(ex_reduce(g, op(OP_FLOORDIV, flat, I(24)), &box, NULL), op(OP_FLOORDIV, it(0), I(2)));
  cr_assert_eq(ex_reduce(g, op(OP_MOD, flat, I(24)), &box, NULL),
               add(add(mul(op(OP_MOD, it(0), I(2)), I(12)), mul(it(1), I(4))), it(2)));
}

/* Random conditions and forms: the interval must hold every value that occurs, and ex_reduce must keep them. */
static uint64_t rng = 88172645463325252u;
static int64_t rnd(int64_t lo, int64_t hi) {
  rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
  return lo + (int64_t)(rng % (uint64_t)(hi - lo + 1));
}
static int64_t eval(const Expr *e, const int64_t *at) {
  int64_t r, x[3];
  switch (e->kind) {
  case EX_CONST:
    return e->num.i;
  case EX_ITER:
    return at[e->num.i];
  case EX_LIN:
    r = e->num.i;
    for (int i = 0; i < e->n; i++) r += e->coef[i] * eval(e->arg[i], at);
    return r;
  default:
    for (int i = 0; i < e->n; i++) x[i] = eval(e->arg[i], at);
    return sc_eval_i(e->op, x);
  }
}
static Expr *random_cond(int depth);
static Expr *random_form(int depth) {
  if (depth == 0) return it((int)rnd(0, 2));
  Expr *a = random_form(depth - 1), *b = random_form(depth - 1);
  switch (rnd(0, 7)) {
  case 0:
  case 1:
  case 2:
    return add(mul(a, I(rnd(-5, 8))), add(b, I(rnd(-5, 5))));
  case 3:
    return op(OP_FLOORDIV, a, I(rnd(1, 9)));
  case 4:
    return op(OP_MOD, a, I(rnd(1, 9)));
  case 5:
    return op(rnd(0, 1) ? OP_MIN : OP_MAX, a, b);
  case 6:
    return ex_select(g, random_cond(1), a, b);
  default:
    return mul(a, b);
  }
}
static Expr *random_cond(int depth) {
  static const ScalarOp cmp[] = {OP_LT, OP_LE, OP_GT, OP_GE, OP_EQ, OP_NE};
  if (depth == 0 || rnd(0, 2) == 0)
    return op(cmp[rnd(0, 5)], random_form(1), rnd(0, 1) ? I(rnd(-3, 9)) : random_form(1));
  Expr *a = random_cond(depth - 1), *b = random_cond(depth - 1);
  int k = (int)rnd(0, 3);
  return k == 0 ? op(OP_OR, a, b) : k == 1 ? ex_op1(g, OP_NOT, a) : op(OP_AND, a, b);
}

Test(graph_affine, sound_against_enumeration) {
  int tight = 0, total = 0;
  for (int round = 0; round < 4000; round++) {
    int64_t n[3] = {rnd(1, 6), rnd(1, 5), rnd(1, 4)}, at[3];
    Interval iter[3] = {{0, n[0] - 1}, {0, n[1] - 1}, {0, n[2] - 1}};
    Box box = {.niter = 3, .iter = iter};
    Expr *guard = rnd(0, 3) ? random_cond(2) : NULL, *e = random_form((int)rnd(1, 3)), *c = random_cond(1);
    Interval v = ex_interval(g, e, &box, guard);
    int d = ex_decide_under(g, c, &box, guard);
    Expr *r = ex_reduce(g, e, &box, guard), *rc = ex_reduce(g, c, &box, guard);
    int64_t lo = INT64_MAX, hi = INT64_MIN;
    for (at[0] = 0; at[0] < n[0]; at[0]++)
      for (at[1] = 0; at[1] < n[1]; at[1]++)
        for (at[2] = 0; at[2] < n[2]; at[2]++) {
          if (guard && !eval(guard, at)) continue;
          int64_t x = eval(e, at);
          if (x < lo) lo = x;
          if (x > hi) hi = x;
          cr_assert(x >= v.lo && x <= v.hi, "round %d: %ld outside %ld..%ld", round, (long)x, (long)v.lo, (long)v.hi);
          cr_assert_eq(eval(r, at), x, "round %d: reduced", round);
          cr_assert_eq(eval(rc, at), eval(c, at), "round %d: reduced condition", round);
          if (d >= 0) cr_assert_eq(eval(c, at), d, "round %d: decided", round);
        }
    total++;
    tight += lo > hi || (v.lo == lo && v.hi == hi);
  }
  cr_assert_gt(tight, total * 6 / 10); /* sound alone is easy */
}
