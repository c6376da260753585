/* Every rule against finite differences: graphs built by hand, f64, through the oracle. For y = f(x) the test takes the
 * vjp with random cotangents and compares it with central differences of <ct, f(x)>; then the jvp with the vjp. */
#include "autodiff/autodiff.h"
#include "stdlib/native/host.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct T {
  Arena *a;
  Graph *g;
  Natives nat;
  Tensor in[4];
  Node *x[4];
  int nx;
  uint64_t seed;
} T;

static double next(T *t) {
  t->seed = t->seed * 6364136223846793005u + 1442695040888963407u;
  return (double)(t->seed >> 33) / (double)(1u << 31) * 2 - 1;
}
static T *setup(void) {
  Arena *a = arena_new();
  T *t = arena_new_of(a, T);
  t->a = a, t->g = graph_new(a, diags_new(a)), t->seed = 7;
  t->nat.arena = a;
  native_register_all(&t->nat);
  return t;
}
static Node *input(T *t, int rank, const int64_t *dim) {
  int k = t->nx++;
  cr_assert(tensor_alloc(&t->in[k], DT_F64, rank, dim));
  for (int64_t i = 0; i < tensor_count(&t->in[k]); i++) ((double *)t->in[k].data)[i] = next(t);
  return t->x[k] = nd_input(t->g, DT_F64, rank, dim, "x", k);
}
static Tensor eval(T *t, Node *n) {
  Fault f = {0};
  Tensor out = {0};
  Region r = {.nout = 1, .out = &n};
  graph_verify(t->g, &r);
  cr_assert(graph_eval(t->g, &r, t->nx, t->in, &out, NULL, &f), "fault: %s", f.msg);
  return out;
}
static double dot(const Tensor *a, const double *w) {
  double s = 0;
  for (int64_t i = 0; i < tensor_count(a); i++) s += ((double *)a->data)[i] * w[i];
  return s;
}

static void check(T *t, Node *y) {
  Graph *g = t->g;
  Tensor y0 = eval(t, y);
  int64_t n = tensor_count(&y0);
  double *w = calloc((size_t)n + 1, sizeof *w);
  for (int64_t i = 0; i < n; i++) w[i] = next(t);
  Node *ct = nd_const(g, DT_F64, y->rank, y->dim, w), *dx[4], *ty[1], *tx[4];
  ad_vjp(g, &t->nat, 1, &y, &ct, t->nx, t->x, dx);
  double directional = 0;
  for (int k = 0; k < t->nx; k++) {
    Tensor d = eval(t, dx[k]);
    double *x = t->in[k].data, *v = calloc((size_t)tensor_count(&d) + 1, sizeof *v);
    for (int64_t i = 0; i < tensor_count(&d); i++) {
      double keep = x[i], eps = 1e-6;
      x[i] = keep + eps;
      Tensor hi = eval(t, y);
      x[i] = keep - eps;
      Tensor lo = eval(t, y);
      x[i] = keep;
      double fd = (dot(&hi, w) - dot(&lo, w)) / (2 * eps), got = ((double *)d.data)[i];
      cr_assert(fabs(fd - got) <= 1e-6 * fmax(1, fabs(fd)) + 1e-8, "x%d[%d]: finite difference %.10g, adjoint %.10g", k,
                (int)i, fd, got);
      tensor_drop(&hi), tensor_drop(&lo);
      v[i] = next(t);
      directional += v[i] * got;
    }
    tx[k] = nd_const(g, DT_F64, t->x[k]->rank, t->x[k]->dim, v);
    free(v);
    tensor_drop(&d);
  }
  ad_jvp(g, &t->nat, t->nx, t->x, tx, 1, &y, ty);
  Tensor tan = eval(t, ty[0]);
  cr_assert(fabs(dot(&tan, w) - directional) <= 1e-9 * fmax(1, fabs(directional)), "jvp %.12g, vjp %.12g", dot(&tan, w),
            directional);
  tensor_drop(&tan), tensor_drop(&y0);
  free(w);
}
static void done(T *t) {
  for (int k = 0; k < t->nx; k++) tensor_drop(&t->in[k]);
  arena_free(t->a);
}

#define DIMS(...)                                                                                                      \
  (int64_t[]) { __VA_ARGS__ }
static Expr *it(T *t, int k) { return ex_iter(t->g, k); }
static Expr *lin(T *t, int64_t c, int n, const int64_t *coef, Expr *const *at) { return ex_lin(t->g, c, n, coef, at); }
static Expr *load(T *t, Node *x, int n, Expr *const *at) {
  return ex_load(t->g, x, n, at, NULL, false, (Span){0, 0, 0});
}
static Expr *mul(T *t, Expr *a, Expr *b) { return ex_op2(t->g, OP_MUL, a, b); }
static Expr *un(T *t, ScalarOp op, Expr *a) { return ex_op1(t->g, op, a); }

Test(vjp, matmul) {
  T *t = setup();
  Node *a = input(t, 2, DIMS(3, 5)), *b = input(t, 2, DIMS(5, 2));
  Expr *body = mul(t, load(t, a, 2, (Expr *[]){it(t, 0), it(t, 2)}), load(t, b, 2, (Expr *[]){it(t, 2), it(t, 1)}));
  check(t, nd_comp(t->g, 2, 1, DIMS(3, 2, 5), RED_SUM, body, NULL));
  done(t);
}
/* out[o, y] = sum_{c, r} x[c, s*y + d*r] w[o, c, r] */
static void conv(int64_t stride, int64_t dil, int64_t h, int64_t r) {
  T *t = setup();
  int64_t oh = (h - 1 - dil * (r - 1)) / stride + 1;
  Node *x = input(t, 2, DIMS(2, h)), *w = input(t, 3, DIMS(3, 2, r));
  Expr *pos = lin(t, 0, 2, DIMS(stride, dil), (Expr *[]){it(t, 1), it(t, 3)});
  Expr *body =
      mul(t, load(t, x, 2, (Expr *[]){it(t, 2), pos}), load(t, w, 3, (Expr *[]){it(t, 0), it(t, 2), it(t, 3)}));
  check(t, nd_comp(t->g, 2, 2, DIMS(3, oh, 2, r), RED_SUM, body, NULL));
  done(t);
}
Test(vjp, conv_stride1) { conv(1, 1, 9, 3); }
Test(vjp, conv_stride2) { conv(2, 1, 9, 3); }
Test(vjp, conv_stride2_even) { conv(2, 1, 10, 2); }
Test(vjp, conv_stride3) { conv(3, 1, 17, 5); }
Test(vjp, conv_dilated) { conv(1, 2, 11, 3); }
Test(vjp, conv_stride2_dilated3) { conv(2, 3, 15, 3); }
Test(vjp, conv_stride4_short_window) { conv(4, 1, 13, 2); }

Test(vjp, pooling_max) {
  for (int64_t size = 2; size <= 3; size++) {
    T *t = setup();
    Node *x = input(t, 1, DIMS(11));
    Expr *pos = lin(t, 0, 2, DIMS(2, 1), (Expr *[]){it(t, 0), it(t, 1)});
    check(t, nd_comp(t->g, 1, 1, DIMS((11 - size) / 2 + 1, size), RED_MAX, load(t, x, 1, &pos), NULL));
    done(t);
  }
}
Test(vjp, softmax) {
  T *t = setup();
  Graph *g = t->g;
  Node *x = input(t, 2, DIMS(3, 4));
  Node *m = nd_comp(g, 1, 1, DIMS(3, 4), RED_MAX, ex_load_full(g, x, 0), NULL);
  Expr *i0 = it(t, 0);
  Node *e = nd_comp(g, 2, 0, DIMS(3, 4), RED_NONE,
                    un(t, OP_EXP, ex_op2(g, OP_SUB, ex_load_full(g, x, 0), load(t, m, 1, &i0))), NULL);
  Node *s = nd_comp(g, 1, 1, DIMS(3, 4), RED_SUM, ex_load_full(g, e, 0), NULL);
  check(t, nd_comp(g, 2, 0, DIMS(3, 4), RED_NONE, ex_op2(g, OP_DIV, ex_load_full(g, e, 0), load(t, s, 1, &i0)), NULL));
  done(t);
}
Test(vjp, product_and_minimum) {
  T *t = setup();
  Node *x = input(t, 3, DIMS(2, 3, 2));
  ((double *)t->in[0].data)[1] = 0; /* a zero factor */
  check(t, nd_comp(t->g, 1, 2, DIMS(2, 3, 2), RED_PROD, ex_load_full(t->g, x, 0), NULL));
  check(t, nd_comp(t->g, 1, 2, DIMS(2, 3, 2), RED_MIN, ex_load_full(t->g, x, 0), NULL));
  done(t);
}
Test(vjp, diagonal_and_reverse) {
  T *t = setup();
  Node *x = input(t, 2, DIMS(4, 4));
  Expr *i = it(t, 0), *back = lin(t, 3, 1, DIMS(-1), &i);
  check(t, nd_comp(t->g, 1, 0, DIMS(4), RED_NONE, load(t, x, 2, (Expr *[]){i, i}), NULL));
  check(t, nd_comp(t->g, 1, 0, DIMS(4), RED_NONE, load(t, x, 2, (Expr *[]){back, i}), NULL));
  done(t);
}
Test(vjp, reshapes) {
  T *t = setup();
  Graph *g = t->g;
  Node *x = input(t, 2, DIMS(4, 6));
  Expr *i = it(t, 0);
  Expr *merged[2] = {ex_op2(g, OP_FLOORDIV, i, ex_int(g, DT_I64, 6)), ex_op2(g, OP_MOD, i, ex_int(g, DT_I64, 6))};
  check(t, nd_comp(g, 1, 0, DIMS(24), RED_NONE, un(t, OP_SIN, load(t, x, 2, merged)), NULL));
  Expr *split[2] = {it(t, 0), lin(t, 0, 2, DIMS(3, 1), (Expr *[]){it(t, 1), it(t, 2)})};
  check(t, nd_comp(g, 3, 0, DIMS(4, 2, 3), RED_NONE, un(t, OP_SIN, load(t, x, 2, split)), NULL));
  /* [4, 6] -> [3, 8]: the divisors do not divide each other */
  Expr *pos = lin(t, 0, 2, DIMS(8, 1), (Expr *[]){it(t, 0), it(t, 1)});
  Expr *cross[2] = {ex_op2(g, OP_FLOORDIV, pos, ex_int(g, DT_I64, 6)), ex_op2(g, OP_MOD, pos, ex_int(g, DT_I64, 6))};
  check(t, nd_comp(g, 2, 0, DIMS(3, 8), RED_NONE, un(t, OP_SIN, load(t, x, 2, cross)), NULL));
  done(t);
}
Test(vjp, gather_and_scatter) {
  T *t = setup();
  Graph *g = t->g;
  Node *x = input(t, 2, DIMS(5, 3));
  int64_t where[6] = {4, 0, 4, 2, 0, 4};
  Node *idx = nd_const(g, DT_I64, 1, DIMS(6), where);
  Expr *i = it(t, 0), *at = load(t, idx, 1, &i);
  Expr *body = ex_load(g, x, 2, (Expr *[]){at, it(t, 1)}, NULL, true, (Span){0, 0, 0});
  check(t, nd_comp(g, 2, 0, DIMS(6, 3), RED_NONE, un(t, OP_EXP, body), NULL));
  Node *src = input(t, 2, DIMS(6, 3));
  Expr *to[2] = {at, it(t, 1)};
  for (int how = SC_SET; how <= SC_MIN; how++)
    check(t, nd_scatter(g, DT_F64, 2, DIMS(5, 3), x, 2, DIMS(6, 3), to, un(t, OP_SIN, ex_load_full(g, src, 0)), NULL,
                        (Combine)how, true));
  done(t);
}
Test(vjp, segmented_sum) {
  T *t = setup();
  Graph *g = t->g;
  Node *x = input(t, 2, DIMS(7, 2));
  int64_t cls[7] = {0, 2, 2, 1, 0, 2, 1};
  Node *a = nd_const(g, DT_I64, 1, DIMS(7), cls);
  Expr *n = it(t, 2);
  Expr *guard = ex_op2(g, OP_EQ, load(t, a, 1, &n), it(t, 0));
  check(t, nd_comp(g, 2, 1, DIMS(3, 2, 7), RED_SUM, un(t, OP_EXP, load(t, x, 2, (Expr *[]){n, it(t, 1)})), guard));
  done(t);
}
Test(vjp, running_reductions) {
  Reduce ops[] = {RED_SUM, RED_PROD, RED_MAX, RED_MIN};
  for (int k = 0; k < 16; k++) {
    T *t = setup();
    Node *x = input(t, 2, DIMS(2, 5));
    bool exclusive = k & 8;
    if (exclusive && ops[k & 3] >= RED_MAX) {
      done(t);
      continue;
    } /* starts at -inf: no finite difference */
    check(t, nd_scan(t->g, 2, DIMS(2, 5), ops[k & 3], un(t, OP_SIN, ex_load_full(t->g, x, 0)), k & 4, exclusive));
    done(t);
  }
}
Test(vjp, untaken_arm_is_zero_not_nan) {
  T *t = setup();
  Graph *g = t->g;
  Node *x = input(t, 1, DIMS(3));
  double *v = t->in[0].data;
  v[0] = 0, v[1] = 4, v[2] = -1;
  Node *root = nd_comp(g, 1, 0, DIMS(3), RED_NONE, un(t, OP_SQRT, ex_load_full(g, x, 0)), NULL);
  Expr *pos = ex_op2(g, OP_GT, ex_load_full(g, x, 0), ex_float(g, DT_F64, 0));
  Node *y =
      nd_comp(g, 1, 0, DIMS(3), RED_NONE, ex_select(g, pos, ex_load_full(g, root, 0), ex_float(g, DT_F64, 0)), NULL);
  Node *ct = nd_comp(g, 1, 0, DIMS(3), RED_NONE, ex_float(g, DT_F64, 1), NULL), *dx;
  ad_vjp(g, &t->nat, 1, &y, &ct, 1, &x, &dx);
  Tensor d = eval(t, dx);
  double want[3] = {0, 0.25, 0};
  for (int i = 0; i < 3; i++)
    cr_assert(fabs(((double *)d.data)[i] - want[i]) < 1e-15, "%d: %g", i, ((double *)d.data)[i]);
  tensor_drop(&d);
  done(t);
}

/* s = tanh(s @ w + x[t]); stacked and final states are both used; w is the frontier, whose adjoint splits off. */
static Node *rnn(T *t, int64_t steps, bool with_while) {
  Graph *g = t->g;
  Node *w = input(t, 2, DIMS(3, 3)), *x = input(t, 2, DIMS(steps, 3)), *s0 = input(t, 1, DIMS(3));
  Node *s = nd_param(g, DT_F64, 1, DIMS(3), "s"), *c = nd_counter(g, 0, steps - 1);
  Expr *k = it(t, 1);
  Node *prod =
      nd_comp(g, 1, 1, DIMS(3, 3), RED_SUM, mul(t, load(t, s, 1, &k), load(t, w, 2, (Expr *[]){k, it(t, 0)})), NULL);
  Expr *row = load(t, x, 2, (Expr *[]){load(t, c, 0, NULL), it(t, 0)});
  Node *next =
      nd_comp(g, 1, 0, DIMS(3), RED_NONE, un(t, OP_TANH, ex_op2(g, OP_ADD, ex_load_full(g, prod, 0), row)), NULL);
  Node *norm = nd_comp(g, 0, 1, DIMS(3), RED_SUM, mul(t, ex_load_full(g, s, 0), ex_load_full(g, s, 0)), NULL);
  Node *outs[2] = {next, next};
  Loop l = {.nstate = 1,
            .init = &s0,
            .param = &s,
            .counter = c,
            .trip = steps,
            .body = {.nout = 2, .out = outs},
            .nstack = 1};
  if (with_while)
    l.cond = nd_comp(g, 0, 0, NULL, RED_NONE, ex_op2(g, OP_LT, load(t, norm, 0, NULL), ex_float(g, DT_F64, 1.2)), NULL);
  Node *loop = nd_loop(g, &l), *fin = nd_get(g, loop, 0), *all = nd_get(g, loop, 1);
  Expr *i = it(t, 1);
  return nd_comp(g, 2, 0, DIMS(steps, 3), RED_NONE, mul(t, ex_load_full(g, all, 0), load(t, fin, 1, &i)), NULL);
}
Test(vjp, loop) {
  T *t = setup();
  check(t, rnn(t, 4, false));
  done(t);
}
Test(vjp, loop_with_while) {
  T *t = setup();
  check(t, rnn(t, 6, true));
  done(t);
}
Test(vjp, second_order_through_a_loop) {
  T *t = setup();
  Graph *g = t->g;
  Node *y = rnn(t, 3, false), *ct = nd_comp(g, 2, 0, DIMS(3, 3), RED_NONE, ex_float(g, DT_F64, 1), NULL), *dx[3];
  ad_vjp(g, &t->nat, 1, &y, &ct, 3, t->x, dx);
  check(t, dx[0]);
  check(t, dx[2]);
  done(t);
}
Test(vjp, branch) {
  T *t = setup();
  Graph *g = t->g;
  Node *x = input(t, 1, DIMS(3));
  Node *sum = nd_comp(g, 0, 1, DIMS(3), RED_SUM, ex_load_full(g, x, 0), NULL);
  for (int side = 0; side < 2; side++) {
    Node *pred = nd_comp(g, 0, 0, NULL, RED_NONE,
                         ex_op2(g, side ? OP_LT : OP_GE, load(t, sum, 0, NULL), ex_float(g, DT_F64, 100)), NULL);
    Node *a = nd_comp(g, 1, 0, DIMS(3), RED_NONE, un(t, OP_EXP, ex_load_full(g, x, 0)), NULL);
    Node *b = nd_comp(g, 1, 0, DIMS(3), RED_NONE, un(t, OP_COS, ex_load_full(g, x, 0)), NULL);
    Region yes = {.nout = 1, .out = &a}, no = {.nout = 1, .out = &b};
    check(t, nd_get(g, nd_cond(g, pred, &yes, &no), 0));
  }
  done(t);
}

/* ---- calls: on well conditioned matrices a + 3 I ---------------------------------------------------------------- */
static Node *shifted(T *t, Node *a, double by) {
  Graph *g = t->g;
  Expr *eye = ex_select(g, ex_op2(g, OP_EQ, it(t, 0), it(t, 1)), ex_float(g, DT_F64, by), ex_float(g, DT_F64, 0));
  return nd_comp(g, 2, 0, a->dim, RED_NONE, ex_op2(g, OP_ADD, ex_load_full(g, a, 0), eye), NULL);
}
static Node *gram(T *t, Node *a) { /* a a^T */
  Expr *body = mul(t, load(t, a, 2, (Expr *[]){it(t, 0), it(t, 2)}), load(t, a, 2, (Expr *[]){it(t, 1), it(t, 2)}));
  return nd_comp(t->g, 2, 1, DIMS(a->dim[0], a->dim[0], a->dim[1]), RED_SUM, body, NULL);
}
static Node *native(T *t, const char *name, int nin, Node **in, int nres, const TensorType *res) {
  const Native *fn = natives_find(&t->nat, name);
  cr_assert(fn, "%s", name);
  return nd_call(t->g, fn, 0, NULL, nin, in, nres, res);
}
#define TYPE(rank, ...) ((TensorType){DT_F64, rank, DIMS(__VA_ARGS__)})
Test(vjp, solve_inv_det) {
  T *t = setup();
  Node *a = shifted(t, input(t, 2, DIMS(3, 3)), 3), *b = input(t, 2, DIMS(3, 2)), *v = input(t, 1, DIMS(3));
  check(t, nd_get(t->g, native(t, "solve", 2, (Node *[]){a, b}, 1, &TYPE(2, 3, 2)), 0));
  check(t, nd_get(t->g, native(t, "solve", 2, (Node *[]){a, v}, 1, &TYPE(1, 3)), 0));
  check(t, nd_get(t->g, native(t, "inv", 1, &a, 1, &TYPE(2, 3, 3)), 0));
  TensorType s[2] = {{DT_F64, 0, NULL}, {DT_F64, 0, NULL}};
  check(t, nd_get(t->g, native(t, "det", 1, &a, 1, s), 0));
  check(t, nd_get(t->g, native(t, "slogdet", 1, &a, 2, s), 1));
  done(t);
}
Test(vjp, cholesky_eigh) {
  T *t = setup();
  Node *m = gram(t, input(t, 2, DIMS(3, 5)));
  check(t, nd_get(t->g, native(t, "cholesky", 1, &m, 1, &TYPE(2, 3, 3)), 0));
  TensorType r[2] = {TYPE(1, 3), TYPE(2, 3, 3)};
  Node *e = native(t, "eigh", 1, &m, 2, r), *w = nd_get(t->g, e, 0), *v = nd_get(t->g, e, 1);
  check(t, w);
  check(t, gram(t, v)); /* signs of vectors are free: use what does not depend on them */
  Expr *vij = ex_load_full(t->g, v, 0);
  check(t, nd_comp(t->g, 2, 0, DIMS(3, 3), RED_NONE, mul(t, vij, vij), NULL));
  done(t);
}
static void qr_svd(int64_t m, int64_t n) {
  int64_t k = m < n ? m : n;
  T *t = setup();
  Node *a = input(t, 2, DIMS(m, n));
  TensorType qr[2] = {TYPE(2, m, k), TYPE(2, k, n)};
  for (int i = 0; i < 2; i++) check(t, nd_get(t->g, native(t, "qr", 1, &a, 2, qr), i));
  TensorType svd[3] = {TYPE(2, m, k), TYPE(1, k), TYPE(2, k, n)};
  Node *d = native(t, "svd", 1, &a, 3, svd);
  for (int i = 0; i < 3; i++) {
    Node *y = nd_get(t->g, d, i);
    Expr *e = ex_load_full(t->g, y, 0);
    check(t, nd_comp(t->g, y->rank, 0, y->dim, RED_NONE, mul(t, e, e), NULL));
  }
  done(t);
}
Test(vjp, qr_svd_square) { qr_svd(3, 3); }
Test(vjp, qr_svd_tall) { qr_svd(4, 2); }
Test(vjp, qr_svd_wide) { qr_svd(2, 4); }
Test(vjp, lstsq) {
  for (int wide = 0; wide < 2; wide++) {
    T *t = setup();
    int64_t m = wide ? 2 : 5, n = wide ? 4 : 3;
    Node *a = input(t, 2, DIMS(m, n)), *b = input(t, 1, DIMS(m)), *c = input(t, 2, DIMS(m, 2));
    check(t, nd_get(t->g, native(t, "lstsq", 2, (Node *[]){a, b}, 1, &TYPE(1, n)), 0));
    check(t, nd_get(t->g, native(t, "lstsq", 2, (Node *[]){a, c}, 1, &TYPE(2, n, 2)), 0));
    done(t);
  }
}
Test(vjp, sort) {
  T *t = setup();
  Node *a = input(t, 2, DIMS(2, 6));
  check(t, nd_get(t->g, native(t, "sort", 1, &a, 1, &TYPE(2, 2, 6)), 0));
  done(t);
}
