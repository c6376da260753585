/* Expressions: folding, exactness of identities, linear normal form, traversal of deep DAGs. */
#include "graph/internal.h"
#include "graph/scalar_eval.h"
#include <criterion/criterion.h>
#include <string.h>

static Arena *arena;
static Graph *g;
static void up(void) {
  arena = arena_new();
  g = graph_new(arena, diags_new(arena));
}
static void down(void) { arena_free(arena); }
TestSuite(graph_expr, .init = up, .fini = down);

static Expr *I(int64_t v) { return ex_int(g, DT_I64, v); }
static Expr *F(double v) { return ex_float(g, DT_F32, v); }
static Expr *it(int k) { return ex_iter(g, k); }
static Expr *add(Expr *a, Expr *b) { return ex_op2(g, OP_ADD, a, b); }
static Expr *mul(Expr *a, Expr *b) { return ex_op2(g, OP_MUL, a, b); }
static Expr *fdiv_(Expr *a, int64_t c) { return ex_op2(g, OP_FLOORDIV, a, I(c)); }
static Expr *mod(Expr *a, int64_t c) { return ex_op2(g, OP_MOD, a, I(c)); }
static Expr *x32(void) {
  static const int64_t dim[] = {100};
  Expr *i = it(0);
  static Node *n; /* one input for the whole graph of a test */
  static Graph *of;
  if (of != g) n = nd_input(g, DT_F32, 1, dim, "x", 0), of = g;
  return ex_load(g, n, 1, &i, NULL, false, (Span){0});
}

Test(graph_expr, interned) {
  cr_assert_eq(add(it(0), I(1)), add(I(1), it(0)));
  cr_assert_eq(F(1), F(1));
  cr_assert_neq(F(0.0), F(-0.0));
  cr_assert_eq(F(NAN), F(-NAN));
  cr_assert_neq(F(1), ex_float(g, DT_F64, 1));
}

Test(graph_expr, folds_in_the_dtype) {
  cr_assert_eq(add(F(16777216), F(1)), F(16777216));
  cr_assert_eq(ex_op1(g, OP_EXP, F(1))->num.f, (double)(float)exp(1.0));
  cr_assert_eq(ex_op2(g, OP_ADD, ex_int(g, DT_U8, 200), ex_int(g, DT_U8, 100)), ex_int(g, DT_U8, 44));
  cr_assert_eq(ex_op1(g, OP_ABS, ex_int(g, DT_I8, -128)), ex_int(g, DT_I8, -128));
  cr_assert_eq(ex_op2(g, OP_ADD, I(INT64_MAX), I(1)), I(INT64_MIN));
  cr_assert_eq(ex_op2(g, OP_MUL, I(INT64_MIN), I(-1)), I(INT64_MIN));
  cr_assert_eq(ex_op2(g, OP_FLOORDIV, I(-7), I(2)), I(-4));
  cr_assert_eq(ex_op2(g, OP_MOD, I(-7), I(2)), I(1));
  cr_assert_eq(ex_op2(g, OP_FLOORDIV, I(7), I(0))->kind, EX_OP);
  cr_assert_eq(ex_op2(g, OP_LT, F(NAN), F(1)), ex_bool(g, false));
  cr_assert_eq(ex_op1(g, OP_ISNAN, F(NAN)), ex_bool(g, true));
  cr_assert_eq(ex_op2(g, OP_MAX, F(NAN), F(1)), F(NAN));
  cr_assert_eq(ex_op2(g, OP_MAX, F(1), F(NAN)), F(NAN));
}

Test(graph_expr, identities_are_exact) {
  Expr *x = x32();
  cr_assert_eq(mul(x, F(1)), x);
  cr_assert_eq(ex_op2(g, OP_SUB, x, F(0)), x);
  cr_assert_eq(add(x, F(-0.0)), x);
  cr_assert_neq(add(x, F(0)), x);
  cr_assert_neq(mul(x, F(0)), F(0));
  cr_assert_neq(ex_op2(g, OP_SUB, x, x), F(0));
  cr_assert_neq(ex_op2(g, OP_EQ, x, x), ex_bool(g, true));
  cr_assert_eq(ex_op2(g, OP_POW, x, F(2)), mul(x, x));
  cr_assert_eq(ex_op2(g, OP_POW, x, F(3)), mul(mul(x, x), x));
  cr_assert_eq(ex_op2(g, OP_POW, x, F(0)), F(1));
  cr_assert_eq(ex_op1(g, OP_NEG, ex_op1(g, OP_NEG, x)), x);
  cr_assert_eq(add(F(2), x)->arg[1], F(2));
}

Test(graph_expr, selects_and_masks) {
  Expr *x = x32(), *c = ex_op2(g, OP_LT, it(0), I(3)), *d = ex_op2(g, OP_GT, it(0), I(1));
  cr_assert_eq(ex_select(g, c, x, x), x);
  cr_assert_eq(ex_select(g, ex_bool(g, true), x, F(1)), x);
  Expr *fl = ex_op2(g, OP_LT, x, F(1));
  cr_assert_eq(ex_op1(g, OP_NOT, fl)->op, OP_NOT); /* nan */
  cr_assert_eq(ex_select(g, ex_op1(g, OP_NOT, fl), x, F(1)), ex_select(g, fl, F(1), x));
  Expr *m = ex_select(g, c, x, F(0));
  cr_assert(m->kind == EX_LOAD && m->mask == c);
  cr_assert_eq(ex_select(g, c, m, F(0)), m);
  cr_assert_eq(ex_select(g, d, m, F(0))->mask, ex_and(g, c, d));
  cr_assert_eq(ex_select(g, c, x, F(-0.0))->kind, EX_OP); /* -0.0 is not what a masked load gives */
  cr_assert_null(ex_and(g, NULL, NULL));
  cr_assert_eq(ex_and(g, c, NULL), c);
  cr_assert_eq(ex_and(g, ex_and(g, c, d), c), ex_and(g, c, d));
  cr_assert_eq(ex_op1(g, OP_NOT, c), ex_op2(g, OP_GE, it(0), I(3)));
}

Test(graph_expr, casts) {
  Expr *x = x32();
  cr_assert_eq(ex_cast(g, DT_F32, x), x);
  cr_assert_eq(ex_cast(g, DT_F32, ex_cast(g, DT_F64, x)), x);
  cr_assert_neq(ex_cast(g, DT_F32, ex_cast(g, DT_F16, x)), x);
  cr_assert_eq(ex_cast(g, DT_I8, F(300.7)), ex_int(g, DT_I8, 127));
  cr_assert_eq(ex_cast(g, DT_I8, F(NAN)), ex_int(g, DT_I8, 0));
  cr_assert_eq(ex_cast(g, DT_U8, I(-1)), ex_int(g, DT_U8, 255));
  cr_assert_eq(ex_cast(g, DT_F32, I(16777217)), F(16777216));
  cr_assert_eq(ex_cast(g, DT_BOOL, F(0.5)), ex_bool(g, true));
}

Test(graph_expr, linear_normal_form) {
  Expr *i = it(0), *j = it(1);
  Expr *e = add(mul(add(i, j), I(3)), ex_op2(g, OP_SUB, I(2), mul(I(3), j)));
  cr_assert_eq(e, add(mul(i, I(3)), I(2)));
  cr_assert_eq(e->kind, EX_LIN);
  cr_assert_eq(ex_op2(g, OP_SUB, e, e), I(0));
  cr_assert_eq(mul(i, j)->op, OP_MUL);
  cr_assert_eq(ex_op2(g, OP_LT, i, add(i, I(1))), ex_bool(g, true));
  cr_assert_eq(ex_op2(g, OP_EQ, add(i, I(2)), add(I(1), add(i, I(1)))), ex_bool(g, true));
}

Test(graph_expr, floor_division_splits_multiples) {
  Expr *i = it(0), *j = it(1);
  cr_assert_eq(fdiv_(add(mul(i, I(3)), j), 3), add(i, fdiv_(j, 3)));
  cr_assert_eq(mod(add(mul(i, I(3)), j), 3), mod(j, 3));
  cr_assert_eq(fdiv_(add(mul(i, I(4)), I(6)), 4), add(i, I(1)));
  cr_assert_eq(mod(add(mul(i, I(4)), I(6)), 4), I(2));
  cr_assert_eq(fdiv_(mul(i, I(4)), 6), fdiv_(mul(i, I(2)), 3));
  cr_assert_eq(mod(mul(i, I(4)), 6), mul(mod(mul(i, I(2)), 3), I(2)));
  cr_assert_eq(fdiv_(fdiv_(i, 3), 5), fdiv_(i, 15));
  cr_assert_eq(mod(mod(i, 12), 4), mod(i, 4));
  cr_assert_eq(fdiv_(mod(i, 12), 4), mod(fdiv_(i, 4), 3));
  cr_assert_eq(add(mul(fdiv_(i, 4), I(4)), mod(i, 4)), i);
  Expr *parts = add(add(mul(fdiv_(i, 12), I(12)), mul(mod(fdiv_(i, 4), 3), I(4))), mod(i, 4));
  cr_assert_eq(parts, i);
  cr_assert_eq(fdiv_(add(mul(i, I(4)), mod(j, 4)), 4), i);
  cr_assert_eq(mod(add(mul(i, I(4)), mod(j, 4)), 4), mod(j, 4));
}

/* Every rule of linear.c against arithmetic: random forms evaluated at random points, negative ones too. */
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

static uint64_t rng = 88172645463325252u;
static int64_t rnd(int64_t lo, int64_t hi) {
  rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
  return lo + (int64_t)(rng % (uint64_t)(hi - lo + 1));
}

/* Builds the expression and, beside it, its value at each point. */
enum { POINTS = 8 };
static Expr *random_form(int depth, int64_t at[POINTS][4], int64_t *val) {
  int64_t v[POINTS], w[POINTS], c;
  if (depth == 0) {
    int k = (int)rnd(0, 3);
    for (int p = 0; p < POINTS; p++) val[p] = at[p][k];
    return it(k);
  }
  Expr *a = random_form(depth - 1, at, v), *b, *r;
  switch (rnd(0, 4)) {
  case 0:
  case 1:
    b = random_form(depth - 1, at, w);
    c = rnd(-6, 12);
    r = ex_lin(g, c, 2, (int64_t[]){c, 1}, (Expr *[]){a, b});
    for (int p = 0; p < POINTS; p++) val[p] = c + c * v[p] + w[p];
    return r;
  case 2:
    c = rnd(1, 12);
    for (int p = 0; p < POINTS; p++) val[p] = tg_floordiv(v[p], c);
    return fdiv_(a, c);
  case 3:
    c = rnd(1, 12);
    for (int p = 0; p < POINTS; p++) val[p] = tg_floormod(v[p], c);
    return mod(a, c);
  default:
    c = rnd(-12, 12);
    for (int p = 0; p < POINTS; p++) val[p] = v[p] * c;
    return mul(a, I(c));
  }
}

Test(graph_expr, normalising_keeps_values) {
  for (int round = 0; round < 20000; round++) {
    int64_t at[POINTS][4], val[POINTS];
    for (int p = 0; p < POINTS; p++)
      for (int k = 0; k < 4; k++) at[p][k] = rnd(-40, 40);
    Expr *e = random_form((int)rnd(1, 5), at, val);
    for (int p = 0; p < POINTS; p++) cr_assert_eq(eval(e, at[p]), val[p], "round %d", round);
  }
}

Test(graph_expr, long_sums_stay_linear_in_size) {
  Node *n = nd_input(g, DT_I64, 1, (int64_t[]){100000}, "x", 0);
  Expr *e = I(0);
  for (int k = 0; k < 20000; k++) {
    Expr *at = I(k);
    e = add(e, ex_load(g, n, 1, &at, NULL, false, (Span){0}));
  }
  cr_assert_lt(arena_bytes(arena), 200u << 20);
  Expr *f = ex_subst_iters(g, e, 1, (Expr *[]){I(0)});
  cr_assert_eq(e, f);
}

static void count(void *ctx, Expr *e) { ++*(int *)ctx; }

Test(graph_expr, deep_chains_do_not_recurse) {
  Expr *e = x32();
  for (int k = 0; k < 100000; k++) e = add(mul(e, F(1.5)), ex_op1(g, OP_SIN, e));
  int n = 0;
  ex_visit(e, count, &n);
  cr_assert_gt(n, 300000);
  Expr *f = ex_subst_iters(g, e, 1, (Expr *[]){it(3)});
  cr_assert(ex_uses_iter(f, 3) && !ex_uses_iter(f, 0));
  cr_assert_eq(ex_subst_iters(g, f, 4, (Expr *[]){it(0), it(1), it(2), it(0)}), e);
}

Test(graph_expr, variables_are_counted_once) {
  Expr *a = ex_var(g, 7), *b = ex_var(g, 3);
  Expr *e = mul(add(a, b), mul(a, b));
  cr_assert_eq(e->nvar, 2);
  cr_assert_eq(add(a, a)->nvar, 1);
  cr_assert_eq(ex_map(g, e, NULL, NULL), e);
}

Test(graph_expr, philox_is_the_published_one) {
  cr_assert_eq((uint64_t)tg_philox(0, 0), UINT64_C(0xe169c58d6627e8d5)); /* Random123, kat_vectors */
}

Test(graph_expr, half_floats_round_to_nearest_even) {
  for (uint32_t h = 0; h < 65536; h++)
    for (DType t = DT_F16; t <= DT_BF16; t++) {
      uint16_t in = (uint16_t)h, out;
      double v = dt_get_f(t, &in, 0);
      if (v != v) continue;
      dt_put_f(t, &out, 0, v);
      cr_assert_eq(in, out, "%s %x", dt_name(t), h);
      uint16_t up = (uint16_t)(h + 1);
      double w = dt_get_f(t, &up, 0);
      if ((h & 0x7fff) == 0x7fff || !isfinite(v) || !isfinite(w)) continue;
      dt_put_f(t, &out, 0, (v + w) / 2); /* exactly half-way: to the even one */
      cr_assert_eq(out, h & 1 ? up : in, "%s half above %x", dt_name(t), h);
    }
  uint16_t out;
  dt_put_f(DT_F16, &out, 0, 65519.99);
  cr_assert_eq(out, 0x7bff);
  dt_put_f(DT_F16, &out, 0, 65520);
  cr_assert_eq(out, 0x7c00);
}
