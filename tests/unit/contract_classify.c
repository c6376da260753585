/* Recognition of contractions: classification of every form and its adjoints, and the normal form of sums of products.
 */
#include "tests/unit/mma_forms.h"
#include <criterion/criterion.h>

static void expect(MmaCase *c, Node *n, const char *text) {
  Contract con;
  cr_assert(contract_find_node(n, &con), "not found: %s", text);
  cr_expect_str_eq(contract_text(c->arena, &con), text);
  mma_case_free(c);
}

Test(contract, products) {
  MmaCase c = mma_case();
  expect(&c, form_matmul(&c, DT_F32, 4, 5, 6, false, false), "contraction: M = 4 N = 5 K = 6 batch = 1");
  c = mma_case();
  expect(&c, form_matmul(&c, DT_F32, 4, 5, 6, true, true), "contraction: M = 4 N = 5 K = 6 batch = 1");
  c = mma_case();
  expect(&c, form_matmul(&c, DT_I32, 4, 5, 6, false, true), "contraction: M = 4 N = 5 K = 6 batch = 1");
  c = mma_case();
  expect(&c, form_batched(&c, DT_F64, 3, 4, 5, 6, true), "contraction: M = 4 N = 5 K = 6 batch = 3");
  c = mma_case();
  expect(&c, form_vecmat(&c, DT_F32, 5, 6, false), "contraction: M = 1 N = 5 K = 6 batch = 1");
}

Test(contract, products_with_swapped_output) { /* [sum(a[m, k] * b[k, n]) for n, m]: N is the innermost axis, here m */
  MmaCase c = mma_case();
  Node *a = mma_input(&c, DT_F32, DIMS(4, 6)), *b = mma_input(&c, DT_F32, DIMS(6, 5));
  Expr *body =
      ex_op2(c.g, OP_MUL, LOAD(&c, a, NULL, it_(&c, 1), it_(&c, 2)), LOAD(&c, b, NULL, it_(&c, 2), it_(&c, 0)));
  expect(&c, nd_comp(c.g, 2, 1, (int64_t[]){5, 4, 6}, RED_SUM, body, NULL), "contraction: M = 5 N = 4 K = 6 batch = 1");
}

Test(contract, gram) { /* A.t @ A: one tensor twice */
  MmaCase c = mma_case();
  Node *a = mma_input(&c, DT_F32, DIMS(9, 6));
  Expr *body =
      ex_op2(c.g, OP_MUL, LOAD(&c, a, NULL, it_(&c, 2), it_(&c, 0)), LOAD(&c, a, NULL, it_(&c, 2), it_(&c, 1)));
  expect(&c, nd_comp(c.g, 2, 1, (int64_t[]){6, 6, 9}, RED_SUM, body, NULL), "contraction: M = 6 N = 6 K = 9 batch = 1");
}

Test(contract, convolutions_and_adjoints) {
  static const ConvShape q = {8, 64, 32, 58, 58, 3, 3, 1, 0}, strided = {2, 3, 16, 31, 31, 5, 5, 2, 0},
                         padded = {2, 3, 16, 30, 30, 3, 3, 1, 1};
  MmaCase c = mma_case();
  expect(&c, form_conv(&c, DT_F32, &q), "contraction: M = 32 N = 25088 K = 576 batch = 1");
  c = mma_case();
  expect(&c, form_conv_dw(&c, DT_F32, &q), "contraction: M = 32 N = 576 K = 25088 batch = 1");
  c = mma_case();
  expect(&c, form_conv_dx(&c, DT_F32, &q), "contraction: M = 64 N = 26912 K = 288 batch = 1");
  c = mma_case();
  expect(&c, form_conv(&c, DT_F32, &strided), "contraction: M = 16 N = 392 K = 75 batch = 1");
  c = mma_case();
  expect(&c, form_conv_dw(&c, DT_F32, &strided), "contraction: M = 16 N = 75 K = 392 batch = 1");
  c = mma_case();
  expect(&c, form_conv(&c, DT_F32, &padded), "contraction: M = 16 N = 1800 K = 27 batch = 1");
}

Test(contract, grouped_convolution) { /* out[n, g, o, y, z] = sum of x[n, g, c, y+r, z+s] * w[g, o, c, r, s] */
  MmaCase c = mma_case();
  Node *x = mma_input(&c, DT_F32, DIMS(2, 4, 3, 10, 10)), *w = mma_input(&c, DT_F32, DIMS(4, 6, 3, 3, 3));
  Expr *lx = LOAD(&c, x, NULL, it_(&c, 0), it_(&c, 1), it_(&c, 5), LIN(&c, 0, 1, 3, 1, 6), LIN(&c, 0, 1, 4, 1, 7));
  Expr *lw = LOAD(&c, w, NULL, it_(&c, 1), it_(&c, 2), it_(&c, 5), it_(&c, 6), it_(&c, 7));
  Node *n = nd_comp(c.g, 5, 3, (int64_t[]){2, 4, 6, 8, 8, 3, 3, 3}, RED_SUM, ex_op2(c.g, OP_MUL, lx, lw), NULL);
  expect(&c, n, "contraction: M = 6 N = 128 K = 27 batch = 4");
}

Test(contract, depthwise_has_no_m) {
  MmaCase c = mma_case();
  Node *x = mma_input(&c, DT_F32, DIMS(2, 4, 10, 10)), *w = mma_input(&c, DT_F32, DIMS(4, 3, 3));
  Expr *lx = LOAD(&c, x, NULL, it_(&c, 0), it_(&c, 1), LIN(&c, 0, 1, 2, 1, 4), LIN(&c, 0, 1, 3, 1, 5));
  Expr *lw = LOAD(&c, w, NULL, it_(&c, 1), it_(&c, 4), it_(&c, 5));
  Node *n = nd_comp(c.g, 4, 2, (int64_t[]){2, 4, 8, 8, 3, 3}, RED_SUM, ex_op2(c.g, OP_MUL, lx, lw), NULL);
  expect(&c, n, "contraction: M = 1 N = 128 K = 9 batch = 4");
}

Test(contract, attention_with_reshapes) {
  MmaCase c = mma_case();
  expect(&c, form_scores(&c, DT_F32, 2, 16, 3, 8), "contraction: M = 16 N = 16 K = 8 batch = 6");
  c = mma_case();
  expect(&c, form_attend(&c, DT_F32, 2, 16, 3, 8), "contraction: M = 16 N = 8 K = 16 batch = 6");
  /* The merge before the output projection splits K in (h, d): out[b, t, e] = sum over h, d of o[b, h, t, d] * w[h*D +
   * d, e] */
  c = mma_case();
  Node *o = mma_input(&c, DT_F32, DIMS(2, 3, 16, 8)), *w = mma_input(&c, DT_F32, DIMS(24, 20));
  Expr *lo = LOAD(&c, o, NULL, it_(&c, 0), it_(&c, 3), it_(&c, 1), it_(&c, 4));
  Expr *lw = LOAD(&c, w, NULL, LIN(&c, 0, 8, 3, 1, 4), it_(&c, 2));
  Node *n = nd_comp(c.g, 3, 2, (int64_t[]){2, 16, 20, 3, 8}, RED_SUM, ex_op2(c.g, OP_MUL, lo, lw), NULL);
  expect(&c, n, "contraction: M = 32 N = 20 K = 24 batch = 1");
}

Test(contract, what_is_none) {
  MmaCase c = mma_case();
  Node *x = mma_input(&c, DT_F32, DIMS(4, 6));
  Expr *l = LOAD(&c, x, NULL, it_(&c, 0), it_(&c, 1));
  Contract con;
  cr_expect_not(contract_find_node(nd_comp(c.g, 1, 1, (int64_t[]){4, 6}, RED_SUM, l, NULL), &con));
  cr_expect_not(
      contract_find_node(nd_comp(c.g, 1, 1, (int64_t[]){4, 6}, RED_MAX, ex_op2(c.g, OP_MUL, l, l), NULL), &con));
  Node *half = nd_comp(c.g, 1, 1, (int64_t[]){4, 6}, RED_SUM, ex_op2(c.g, OP_MUL, l, ex_float(c.g, DT_F32, 0.5)), NULL);
  cr_expect_not(contract_find_node(half, &con));
  cr_expect_eq(contract_normal(c.g, half), half);
  mma_case_free(&c);
}

/* ---- Normal form ------------------------------------------------------------------------------------------------- */

/* The sum inside a node in normal form. */
static Node *inner_sum(Node *n) {
  Contract con;
  if (contract_find_node(n, &con)) return n;
  Expr *e = n->comp.body;
  while (e->kind != EX_LOAD)
    e = e->kind == EX_OP ? (e->op == OP_SELECT ? e->arg[1] : e->arg[0]->kind == EX_LOAD ? e->arg[0] : e->arg[1]) : e;
  return e->node;
}

/* n in normal form has a contraction of this text and the same values. */
static void expect_normal(MmaCase *c, Node *n, const char *text) {
  Node *m = contract_normal(c->g, n);
  Contract con;
  cr_assert(contract_find_node(inner_sum(m), &con), "no normal form: %s", text);
  cr_expect_str_eq(contract_text(c->arena, &con), text);
  Tensor v[2];
  Fault fault = {0};
  cr_assert(
      graph_eval(c->g, &(Region){2, (Node *[]){n, m}, 0, NULL}, c->nin, c->t, v, &(EvalOptions){.wide = true}, &fault),
      "%s", fault.msg);
  for (int64_t i = 0; i < tensor_count(&v[0]); i++)
    cr_assert_float_eq(((double *)v[0].data)[i], ((double *)v[1].data)[i], 1e-5, "element %lld", (long long)i);
  tensor_drop(&v[0]);
  tensor_drop(&v[1]);
  cr_expect_eq(contract_normal(c->g, inner_sum(m)), inner_sum(m)); /* idempotent */
  mma_case_free(c);
}

typedef struct Abc {
  Node *a, *b, *s;
  Expr *la, *lb, *ls;
} Abc; /* a[m, k], b[k, n], s[k] */
static Abc abc(MmaCase *c, DType t) {
  Abc x = {mma_input(c, t, DIMS(4, 6)), mma_input(c, t, DIMS(6, 5)), mma_input(c, t, DIMS(6)), 0, 0, 0};
  x.la = LOAD(c, x.a, NULL, it_(c, 0), it_(c, 2));
  x.lb = LOAD(c, x.b, NULL, it_(c, 2), it_(c, 1));
  x.ls = LOAD(c, x.s, NULL, it_(c, 2));
  return x;
}
#define MNK ((int64_t[]){4, 5, 6})
static const char mnk[] = "contraction: M = 4 N = 5 K = 6 batch = 1";

Test(contract, normal_hoists_scale_and_sign) {
  MmaCase c = mma_case();
  Abc x = abc(&c, DT_F32);
  Expr *e = ex_op2(c.g, OP_MUL, ex_op2(c.g, OP_MUL, x.la, ex_float(c.g, DT_F32, 0.125)), ex_op1(c.g, OP_NEG, x.lb));
  expect_normal(&c, nd_comp(c.g, 2, 1, MNK, RED_SUM, e, NULL), mnk);
}
Test(contract, normal_keeps_scale_inside_for_f16) {
  MmaCase c = mma_case();
  Abc x = abc(&c, DT_F16);
  Expr *e = ex_op2(c.g, OP_MUL, ex_op2(c.g, OP_MUL, x.la, ex_float(c.g, DT_F16, 0.125)), x.lb);
  Node *n = nd_comp(c.g, 2, 1, MNK, RED_SUM, e, NULL), *m = contract_normal(c.g, n);
  Contract con;
  cr_assert(contract_find_node(m, &con));
  cr_expect_eq(con.acc, DT_F32);
  mma_case_free(&c);
}
Test(contract, normal_three_factors) {
  for (int order = 0; order < 3; order++) {
    MmaCase c = mma_case();
    Abc x = abc(&c, DT_F64);
    Expr *f[3] = {x.la, x.lb, x.ls};
    Expr *e = ex_op2(c.g, OP_MUL, ex_op2(c.g, OP_MUL, f[order], f[(order + 1) % 3]), f[(order + 2) % 3]);
    expect_normal(&c, nd_comp(c.g, 2, 1, MNK, RED_SUM, e, NULL), mnk);
  }
}
Test(contract, normal_guard_becomes_a_mask) { /* k <= m */
  MmaCase c = mma_case();
  Abc x = abc(&c, DT_F32);
  Expr *le = ex_op2(c.g, OP_LE, it_(&c, 2), it_(&c, 0));
  expect_normal(&c, nd_comp(c.g, 2, 1, MNK, RED_SUM, ex_op2(c.g, OP_MUL, x.la, x.lb), le), mnk);
}
Test(contract, normal_select_of_a_product) {
  MmaCase c = mma_case();
  Abc x = abc(&c, DT_F32);
  Expr *lt = ex_op2(c.g, OP_LT, it_(&c, 2), it_(&c, 1));
  Expr *e = ex_select(c.g, lt, ex_op2(c.g, OP_MUL, x.la, x.lb), ex_float(c.g, DT_F32, 0));
  expect_normal(&c, nd_comp(c.g, 2, 1, MNK, RED_SUM, e, NULL), mnk);
}
Test(contract, normal_guard_over_outputs_goes_around) {
  MmaCase c = mma_case();
  Abc x = abc(&c, DT_F32);
  Expr *lt = ex_op2(c.g, OP_LE, it_(&c, 1), it_(&c, 0));
  expect_normal(&c, nd_comp(c.g, 2, 1, MNK, RED_SUM, ex_op2(c.g, OP_MUL, x.la, x.lb), lt), mnk);
}
Test(contract,
     normal_data_guard) { /* over k alone: in both factors; over (m, k): b may be infinite where a is masked */
  MmaCase c = mma_case();
  Abc x = abc(&c, DT_F32);
  Expr *zero = ex_float(c.g, DT_F32, 0);
  expect_normal(&c, nd_comp(c.g, 2, 1, MNK, RED_SUM, ex_op2(c.g, OP_MUL, x.la, x.lb), ex_op2(c.g, OP_GT, x.ls, zero)),
                mnk);
  c = mma_case();
  x = abc(&c, DT_F32);
  zero = ex_float(c.g, DT_F32, 0);
  Node *n = nd_comp(c.g, 2, 1, MNK, RED_SUM, ex_op2(c.g, OP_MUL, x.la, x.lb), ex_op2(c.g, OP_GT, x.la, zero));
  cr_expect_eq(contract_normal(c.g, n), n);
  mma_case_free(&c);
}
Test(contract,
     normal_guard_that_bounds_a_load) { /* b has 3 rows, k runs to 6 and k < 3: the mask stays with the load of b */
  MmaCase c = mma_case();
  Abc x = abc(&c, DT_F32);
  Node *small = mma_input(&c, DT_F32, DIMS(3, 5));
  Expr *lt = ex_op2(c.g, OP_LT, it_(&c, 2), ex_int(c.g, DT_I64, 3));
  Expr *ls = LOAD(&c, small, lt, it_(&c, 2), it_(&c, 1));
  expect_normal(&c, nd_comp(c.g, 2, 1, MNK, RED_SUM, ex_op2(c.g, OP_MUL, x.la, ls), lt), mnk);
}
Test(contract, normal_integer_product_in_32_bits) {
  MmaCase c = mma_case();
  Abc x = abc(&c, DT_I32);
  Expr *e = ex_cast(c.g, DT_I64, ex_op2(c.g, OP_MUL, x.la, x.lb));
  Node *n = nd_comp(c.g, 2, 1, MNK, RED_SUM, e, NULL);
  Contract con;
  cr_assert(contract_find_node(contract_normal(c.g, n), &con));
  cr_expect_eq(con.prod, DT_I32);
  cr_expect_eq(con.acc, DT_I64);
  mma_case_free(&c);
}
