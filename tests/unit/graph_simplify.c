/* The simplifier: what each rule must reach, and equal values on random graphs. */
#include "graph/affine.h"
#include "graph/internal.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static Arena *arena;
static Graph *g;
static void up(void) {
  arena = arena_new();
  g = graph_new(arena, diags_new(arena));
}
static void down(void) { arena_free(arena); }
TestSuite(graph_simplify, .init = up, .fini = down);

#define DIMS(...)                                                                                                      \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]) { __VA_ARGS__ }
#define EXT(...)                                                                                                       \
  (int64_t[]) { __VA_ARGS__ }
static Expr *I(int64_t v) { return ex_int(g, DT_I64, v); }
static Expr *D(double v) { return ex_float(g, DT_F64, v); }
static Expr *it(int k) { return ex_iter(g, k); }
static Expr *op(ScalarOp o, Expr *a, Expr *b) { return ex_op2(g, o, a, b); }
static Expr *mul(Expr *a, Expr *b) { return op(OP_MUL, a, b); }
static Expr *add(Expr *a, Expr *b) { return op(OP_ADD, a, b); }
static Expr *at(Node *n, int k, Expr *const *idx) { return ex_load(g, n, k, idx, NULL, false, (Span){0}); }
#define AT(n, ...) at(n, (int)(sizeof((Expr *[]){__VA_ARGS__}) / sizeof(Expr *)), (Expr *[]){__VA_ARGS__})
static Node *in64(int slot, int rank, const int64_t *dim) { return nd_input(g, DT_F64, rank, dim, "x", slot); }
static Node *map_(int n, const int64_t *extent, Expr *body) { return nd_comp(g, n, 0, extent, RED_NONE, body, NULL); }

/* x with another shape: what a front end makes of reshape. */
static Node *reshape(Node *x, int rank, const int64_t *dim) {
  Expr *flat = I(0), *idx[TG_MAX_RANK];
  for (int d = 0; d < rank; d++) flat = add(mul(flat, I(dim[d])), it(d));
  for (int d = x->rank; d-- > 0;) {
    idx[d] = d ? op(OP_MOD, flat, I(x->dim[d])) : flat;
    if (x->dim[d]) flat = op(OP_FLOORDIV, flat, I(x->dim[d]));
  }
  return map_(rank, dim, at(x, x->rank, idx));
}

static uint64_t rng = 88172645463325252u;
static int64_t rnd(int64_t lo, int64_t hi) {
  rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
  return lo + (int64_t)(rng % (uint64_t)(hi - lo + 1));
}

/* Simplifies, verifies, and compares the values of both on random inputs. Returns the text of the simplified graph. */
static const char *check(int nout, Node *const *out, int ninput, Node *const *input) {
  Region before = {nout, out, 0, NULL}, after = before;
  graph_verify(g, &before);
  graph_simplify(g, &after);
  if (getenv("TG_SHOW"))
    fprintf(stderr, "%s---\n%s===\n", graph_print(g, arena, &before), graph_print(g, arena, &after));
  graph_verify(g, &after);
  char *text = graph_print(g, arena, &after), *old = graph_print(g, arena, &before);
  Tensor in[8], a[8], b[8];
  for (int i = 0; i < ninput; i++) {
    cr_assert(tensor_alloc(&in[i], (DType)input[i]->dtype, input[i]->rank, input[i]->dim));
    for (int64_t k = 0; k < tensor_count(&in[i]); k++)
      if (dt_is_float(in[i].dtype))
        dt_put_f(in[i].dtype, in[i].data, k, (double)rnd(-8, 8) / 4);
      else
        dt_put_i(in[i].dtype, in[i].data, k, rnd(0, 2));
  }
  Fault f = {0};
  EvalOptions o = {0};
  cr_assert(graph_eval(g, &before, ninput, in, a, &o, &f), "%s\n%s", f.msg, old);
  cr_assert(graph_eval(g, &after, ninput, in, b, &o, &f), "%s\n%s\nbefore\n%s", f.msg, text, old);
  for (int i = 0; i < nout; i++) {
    cr_assert(a[i].dtype == b[i].dtype && a[i].rank == b[i].rank &&
              !memcmp(a[i].dim, b[i].dim, sizeof(int64_t) * (size_t)a[i].rank));
    for (int64_t k = 0; k < tensor_count(&a[i]); k++) {
      double x = dt_get_f(a[i].dtype, a[i].data, k), y = dt_get_f(b[i].dtype, b[i].data, k);
      cr_assert(x == y || fabs(x - y) <= 1e-12 * (1 + fabs(x)) || (x != x && y != y),
                "output %d[%ld]: %g, simplified %g\n%s\nbefore\n%s", i, (long)k, x, y, text, old);
    }
    tensor_drop(&a[i]);
    tensor_drop(&b[i]);
  }
  for (int i = 0; i < ninput; i++) tensor_drop(&in[i]);
  return text;
}
#define HAS(text, s) cr_assert(strstr(text, s), "no `%s` in\n%s", s, text)
#define HASNT(text, s) cr_assert_not(strstr(text, s), "`%s` in\n%s", s, text)

Test(graph_simplify, movement_vanishes) {
  Node *x = in64(0, DIMS(6, 4));
  Node *t = map_(2, EXT(4, 6), AT(x, it(1), it(0))), *s = map_(2, EXT(2, 6), AT(t, add(it(0), I(1)), it(1)));
  Node *y = map_(2, EXT(6, 2), ex_op1(g, OP_NEG, AT(s, it(1), it(0))));
  HAS(check(1, &y, 1, &x), "for i0 6, i1 2: (neg %0[i0, (i1 + 1)])");
  Node *z = map_(2, EXT(6, 4), mul(AT(x, it(0), it(1)), AT(map_(1, EXT(4), D(2)), it(1))));
  HAS(check(1, &z, 1, &x), "(mul %0[i0, i1] 2:f64)");
}

Test(graph_simplify, reshapes_there_and_back_vanish) {
  Node *x = in64(0, DIMS(6, 4)), *y = reshape(reshape(reshape(x, DIMS(24)), DIMS(2, 3, 4)), DIMS(6, 4)), *r = y;
  Region reg = {1, &r, 0, NULL};
  graph_simplify(g, &reg);
  cr_assert_eq(reg.out[0], x);
  (void)y;
}

Test(graph_simplify, heads_of_attention_become_affine) {
  enum { T = 5, H = 3, K = 4 };
  Node *qkv = in64(0, DIMS(T, 3 * H * K)), *w = in64(1, DIMS(H * K, 7)), *in[] = {qkv, w}, *head[3];
  for (int p = 0; p < 3; p++) { /* qkv[:, p*H*K:].reshape(T, H, K) transposed to [H, T, K] */
    Node *s = reshape(map_(2, EXT(T, H * K), AT(qkv, it(0), add(it(1), I(p * H * K)))), DIMS(T, H, K));
    head[p] = map_(3, EXT(H, T, K), AT(s, it(1), it(0), it(2)));
  }
  Node *score = nd_comp(g, 3, 1, EXT(H, T, T, K), RED_SUM,
                        mul(AT(head[0], it(0), it(1), it(3)), AT(head[1], it(0), it(2), it(3))), NULL);
  Node *o = nd_comp(g, 3, 1, EXT(H, T, K, T), RED_SUM,
                    mul(AT(score, it(0), it(1), it(3)), AT(head[2], it(0), it(3), it(2))), NULL);
  Node *merged = reshape(map_(3, EXT(T, H, K), AT(o, it(1), it(0), it(2))), DIMS(T, H * K));
  Node *y = nd_comp(g, 2, 1, EXT(T, 7, H * K), RED_SUM, mul(AT(merged, it(0), it(2)), AT(w, it(2), it(1))), NULL);
  const char *text = check(1, &y, 2, in);
  HASNT(text, "floordiv");
  HASNT(text, "(mod");
  HAS(text, "%0[i1, (4*i0 + i3)]");
  HAS(text, "%0[i2, (4*i0 + i3 + 12)]");
  HAS(text, "sum i2 3, i3 4"); /* K of the output projection is (h, d) */
}

Test(graph_simplify, contiguous_merges_are_left) {
  Node *x = in64(0, DIMS(5, 3, 4)), *w = in64(1, DIMS(12, 2)), *in[] = {x, w};
  Node *flat = reshape(x, DIMS(5, 12));
  Node *y = nd_comp(g, 2, 1, EXT(5, 2, 12), RED_SUM, mul(AT(flat, it(0), it(2)), AT(w, it(2), it(1))), NULL);
  HAS(check(1, &y, 2, in), "sum i2 12");
}

Test(graph_simplify, split_outputs_keep_the_shape) {
  Node *x = in64(0, DIMS(3, 5, 4)), *t = map_(3, EXT(5, 3, 4), AT(x, it(1), it(0), it(2)));
  Node *y = map_(2, EXT(5, 12), ex_op1(g, OP_EXP, AT(reshape(t, DIMS(5, 12)), it(0), it(1))));
  const char *text = check(1, &y, 1, &x);
  HAS(text, "for i0 5, i1 3, i2 4: (exp %0[i1, i0, i2])");
}

Test(graph_simplify, gathers_keep_their_checks) {
  Node *x = in64(0, DIMS(7, 4)), *k = nd_input(g, DT_I64, DIMS(5), "k", 1), *in[] = {x, k};
  Node *part = map_(2, EXT(3, 4), AT(x, it(0), it(1))); /* x[0:3]: an index of 3 must stay an error */
  Node *perm = map_(2, EXT(4, 7), AT(x, it(1), it(0))); /* x.t: the check survives */
  Expr *ki = AT(k, it(0));
  Expr *a = ex_load(g, part, 2, (Expr *[]){ki, it(1)}, NULL, true, (Span){0}),
       *b = ex_load(g, perm, 2, (Expr *[]){it(1), ki}, NULL, true, (Span){0});
  Node *y = map_(2, EXT(5, 4), add(a, b));
  const char *text = check(1, &y, 2, in);
  HAS(text, "%1![$0, i1]");
  HAS(text, "%2![$0, i1]");
  HAS(text, "comp f64[3, 4]");
}

Test(graph_simplify, equalities_substitute) {
  Node *x = in64(0, DIMS(9)), *k = nd_input(g, DT_I64, DIMS(5), "k", 1), *in[] = {x, k};
  /* sum(x[n] for n if n == 2*i) */
  Node *a = nd_comp(g, 1, 1, EXT(5, 9), RED_SUM, AT(x, it(1)), op(OP_EQ, it(1), mul(it(0), I(2))));
  HAS(check(1, &a, 2, in), "for i0 5: %0[(2*i0)]");
  /* sum(select(n == k[i], x[n], 0)) is a gather; the range is not known */
  Node *b =
      nd_comp(g, 1, 1, EXT(5, 9), RED_SUM, ex_select(g, op(OP_EQ, it(1), AT(k, it(0))), AT(x, it(1)), D(0)), NULL);
  const char *text = check(1, &b, 2, in);
  HASNT(text, "sum");
  HAS(text, "let $0 = %0[i0] in %1[$0]?(and (ge $0 0) (lt $0 9))"); /* k is read once, inside whatever it holds */
  /* both factors are 0 elsewhere: a product of gathers. One alone is not enough, 0 * inf is nan */
  Expr *cond = op(OP_EQ, it(1), AT(k, it(0))), *hot = ex_select(g, cond, AT(x, it(1)), D(0)),
       *rev = AT(x, op(OP_SUB, I(8), it(1)));
  Node *c = nd_comp(g, 1, 1, EXT(5, 9), RED_SUM, mul(hot, ex_select(g, cond, rev, D(0))), NULL);
  HASNT(check(1, &c, 2, in), "sum");
  c = nd_comp(g, 1, 1, EXT(5, 9), RED_SUM, mul(hot, rev), NULL);
  HAS(check(1, &c, 2, in), "sum");
  /* over two iterators one stays; out of range at an end */
  Node *d = nd_comp(g, 1, 2, EXT(5, 9, 9), RED_SUM, mul(AT(x, it(1)), AT(x, it(2))),
                    op(OP_EQ, add(it(1), it(2)), add(it(0), I(3))));
  text = check(1, &d, 2, in);
  HAS(text, "sum i1 8:");
  Node *e = nd_comp(g, 1, 1, EXT(5, 9), RED_MAX, AT(x, it(1)), op(OP_EQ, it(1), add(it(0), I(6))));
  HASNT(check(1, &e, 2, in), "max i1");
  Node *p = nd_comp(g, 1, 1, EXT(5, 9), RED_ARGMAX, AT(x, it(1)), op(OP_EQ, it(1), it(0)));
  HAS(check(1, &p, 2, in), "argmax");
}

Test(graph_simplify, triangles_become_scans) {
  Node *x = in64(0, DIMS(6, 8)), *q;
  struct {
    ScalarOp o;
    bool flip;
    const char *want;
  } row[] = {{OP_LE, false, "sum: %"},
             {OP_LT, false, "sum exclusive"},
             {OP_GE, false, "sum reverse: "},
             {OP_GT, false, "sum reverse exclusive"},
             {OP_GE, true, "sum: %"}};
  for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
    Expr *cond = row[i].flip ? op(row[i].o, it(1), it(2)) : op(row[i].o, it(2), it(1));
    Node *y = nd_comp(g, 2, 1, EXT(6, 8, 8), RED_SUM, AT(x, it(0), it(2)), cond);
    const char *text = check(1, &y, 1, &x);
    HAS(text, "scan");
    HAS(text, row[i].want);
  }
  /* along the first axis, max, with a further condition on a sum */
  q = nd_comp(g, 2, 1, EXT(6, 8, 6), RED_MAX, AT(x, it(2), it(1)), op(OP_LE, it(2), it(0)));
  HAS(check(1, &q, 1, &x), "scan f64[8, 6]");
  q = nd_comp(g, 2, 1, EXT(6, 8, 8), RED_SUM, AT(x, it(0), it(2)),
              ex_and(g, op(OP_LE, it(2), it(1)), op(OP_GT, AT(x, it(0), it(2)), D(0))));
  HAS(check(1, &q, 1, &x), "scan");
  q = nd_comp(g, 2, 1, EXT(6, 8, 8), RED_SUM, ex_select(g, op(OP_LE, it(2), it(1)), AT(x, it(0), it(2)), D(0)), NULL);
  HAS(check(1, &q, 1, &x), "scan");
  /* the body depends on j: no scan */
  q = nd_comp(g, 2, 1, EXT(6, 8, 8), RED_SUM, mul(AT(x, it(0), it(2)), AT(x, it(0), it(1))), op(OP_LE, it(2), it(1)));
  HASNT(check(1, &q, 1, &x), "scan");
}

Test(graph_simplify, pieces_are_computed_on_their_own_space) {
  Node *x = in64(0, DIMS(6, 7)), *y = in64(1, DIMS(7, 3)), *in[] = {x, y};
  Expr *c = ex_and(g, op(OP_GE, it(0), I(2)), op(OP_LT, it(0), I(5)));
  Expr *a = ex_select(g, c, AT(x, op(OP_SUB, it(0), I(2)), it(2)), D(0)),
       *b = ex_select(g, c, AT(y, it(2), it(1)), D(0));
  a = ex_load(g, x, 2, (Expr *[]){op(OP_SUB, it(0), I(2)), it(2)}, c, false, (Span){0});
  Node *p = nd_comp(g, 2, 1, EXT(6, 3, 7), RED_SUM, mul(a, b), NULL);
  const char *text = check(1, &p, 2, in);
  HAS(text, "comp f64[3, 3] for i0 3, i1 3 sum i2 7: (mul %0[i0, i2] %1[i2, i1])");
  HAS(text, "[(i0 - 2), i1]?(and (ge i0 2) (l");
  Node *q = nd_comp(g, 2, 1, EXT(6, 3, 7), RED_SUM, mul(a, AT(y, it(2), it(1))), NULL); /* 0 * y may be nan */
  HAS(check(1, &q, 2, in), "f64[6, 3]");
  Node *r = nd_comp(g, 1, 1, EXT(6, 7), RED_SUM, AT(x, it(0), it(1)), op(OP_GE, it(1), I(3)));
  HAS(check(1, &r, 2, in), "sum i1 4: %0[i0, (i1 + 3)]");
}

Test(graph_simplify, scatters_to_affine_places_are_comprehensions) {
  Node *x = in64(0, DIMS(6, 8)), *y = in64(1, DIMS(10, 2, 4)), *in[] = {x, y}, *n;
  Expr *v = AT(x, it(0), it(1)), *q = op(OP_FLOORDIV, it(1), I(4)), *r = op(OP_MOD, it(1), I(4));
  const char *text;
  n = nd_scatter(g, DT_F64, DIMS(6, 2, 4), NULL, DIMS(6, 8), (Expr *[]){it(0), q, r}, v, NULL, SC_ADD, false);
  text = check(1, &n, 1, in);
  HASNT(text, "scatter");
  n = nd_scatter(g, DT_F64, DIMS(2, 4), NULL, DIMS(6, 8), (Expr *[]){q, r}, v, op(OP_LT, it(0), it(1)), SC_ADD, false);
  text = check(1, &n, 1, in);
  HASNT(text, "scatter");
  HAS(text, "sum i2 6");
  n = nd_scatter(g, DT_F64, y->rank, y->dim, y, DIMS(6, 8), (Expr *[]){op(OP_SUB, I(8), it(0)), q, r}, v, NULL, SC_ADD,
                 false);
  HASNT(check(1, &n, 2, in), "scatter");
  n = nd_scatter(g, DT_F64, y->rank, y->dim, y, DIMS(4), (Expr *[]){I(3), I(1), it(0)}, AT(x, I(2), it(0)), NULL,
                 SC_SET, false);
  HASNT(check(1, &n, 2, in), "scatter");
  n = nd_scatter(g, DT_F64, DIMS(6, 6), NULL, DIMS(6), (Expr *[]){it(0), it(0)}, AT(x, it(0), I(1)), NULL, SC_ADD,
                 false); /* a diagonal */
  HAS(check(1, &n, 1, in), "scatter");
  n = nd_scatter(g, DT_F64, DIMS(6), NULL, DIMS(6, 8), (Expr *[]){it(0)}, v, NULL, SC_SET,
                 false); /* the last one wins */
  HAS(check(1, &n, 1, in), "scatter");
}

Test(graph_simplify, unused_iterators_are_dropped) {
  Node *x = in64(0, DIMS(6)), *y = in64(1, DIMS(4, 6)), *in[] = {x, y};
  Node *b = map_(2, EXT(4, 6), ex_op1(g, OP_EXP, AT(x, it(1))));
  Node *z = map_(2, EXT(4, 6), add(AT(b, it(0), it(1)), AT(y, it(0), it(1))));
  HAS(check(1, &z, 2, in), "comp f64[6] for i0 6: (exp %0[i0])");
  Node *m = nd_comp(g, 2, 1, EXT(4, 1, 6), RED_MAX, AT(y, it(0), it(2)), NULL); /* keepdims */
  Node *s = map_(2, EXT(4, 6), op(OP_SUB, AT(y, it(0), it(1)), AT(m, it(0), I(0))));
  HAS(check(1, &s, 2, in), "comp f64[4] for i0 4 max i1 6");
  Node *w = nd_comp(g, 0, 2, EXT(6, 5), RED_MAX, AT(x, it(0)), NULL);
  HAS(check(1, &w, 2, in), "max i0 6:");
  Node *c = nd_comp(g, 0, 2, EXT(6, 5), RED_SUM, op(OP_MOD, it(0), I(4)), NULL);
  HAS(check(1, &c, 2, in), "sum i0 6");
  Node *f = nd_comp(g, 0, 2, EXT(6, 5), RED_SUM, AT(x, it(0)), NULL); /* floats: the sum's bits would change */
  HAS(check(1, &f, 2, in), "i1 5");
}

Test(graph_simplify, products_are_summed_inside_first) {
  Node *x = in64(0, DIMS(4, 5, 6)), *y = in64(1, DIMS(5, 3)), *in[] = {x, y};
  Node *z = nd_comp(g, 2, 2, EXT(4, 3, 5, 6), RED_SUM, mul(AT(x, it(0), it(2), it(3)), AT(y, it(2), it(1))), NULL);
  const char *text = check(1, &z, 2, in);
  HAS(text, "comp f64[4, 5] for i0 4, i1 5 sum i2 6: %0[i0, i1, i2]");
  HAS(text, "for i0 4, i1 3 sum i2 5: (mul %");
  z = nd_comp(g, 0, 3, EXT(5, 6, 3), RED_SUM,
              mul(mul(AT(x, I(0), it(0), it(1)), AT(y, I(1), it(2))), AT(y, I(2), it(2))), NULL);
  text = check(1, &z, 2, in); /* no iterator is shared between x and the rest */
  HAS(text, "sum i0 5, i1 6: %0[0, i0, i1]");
  z = nd_comp(g, 2, 1, EXT(4, 3, 5), RED_SUM, mul(AT(x, it(0), it(2), I(0)), AT(y, it(2), it(1))), NULL);
  HAS(check(1, &z, 2, in), "sum i2 5: (mul %0[i0, i2, 0] %1[i2, i1])");
}

Test(graph_simplify, leftovers_of_derivatives_go) {
  Node *x = in64(0, DIMS(6)), *p[3];
  for (int i = 0; i < 3; i++) p[i] = nd_param(g, DT_F64, DIMS(6), "p");
  Node *adj = map_(1, EXT(6), mul(AT(p[0], it(0)), AT(p[2], it(0))));
  Node *y = nd_custom(g, map_(1, EXT(6), ex_op1(g, OP_EXP, ex_op1(g, OP_STOP, AT(x, it(0))))), 1, &x, p, &adj);
  const char *text = check(1, &y, 1, &x);
  HASNT(text, "custom");
  HASNT(text, "stop");
}

Test(graph_simplify, loops_lose_what_nobody_reads) {
  Node *x = in64(0, DIMS(10)), *init[3], *s[3], *next[6], *out[2];
  Node *t = nd_counter(g, 0, 9);
  for (int i = 0; i < 3; i++) {
    init[i] = nd_scalar(g, D(i));
    s[i] = nd_param(g, DT_F64, 0, NULL, "s");
  }
  Expr *v[3], *xt = AT(x, at(t, 0, NULL));
  for (int i = 0; i < 3; i++) v[i] = at(s[i], 0, NULL);
  next[0] = nd_scalar(g, add(v[0], mul(v[1], xt))); /* needs 1 */
  next[1] = nd_scalar(g, add(v[1], D(1)));
  next[2] = nd_scalar(g, mul(v[2], D(2))); /* read by nobody */
  next[3] = nd_scalar(g, ex_op1(g, OP_EXP, v[2]));
  next[4] = nd_scalar(g, ex_op1(g, OP_NEG, v[1]));
  next[5] = nd_scalar(g, ex_op1(g, OP_SIN, v[0]));
  Node *l = nd_loop(
      g, &(Loop){
             .nstate = 3, .init = init, .param = s, .counter = t, .trip = 10, .nstack = 3, .body = {6, next, 0, NULL}});
  out[0] = nd_get(g, l, 0);
  out[1] = nd_get(g, l, 4);
  const char *text = check(2, out, 1, &x);
  HASNT(text, "exp");
  HASNT(text, "sin");
  HAS(text, "neg");
  out[0] = nd_get(g, l, 6); /* steps alone */
  HAS(check(1, out, 1, &x), "states ()");
  Node *none = nd_loop(
      g,
      &(Loop){.nstate = 3, .init = init, .param = s, .counter = t, .trip = 0, .nstack = 3, .body = {6, next, 0, NULL}});
  out[0] = nd_get(g, none, 1);
  out[1] = nd_get(g, none, 4);
  HASNT(check(2, out, 1, &x), "loop");
}

Test(graph_simplify, branches) {
  Node *x = in64(0, DIMS(3)), *a = map_(1, EXT(3), ex_op1(g, OP_EXP, AT(x, it(0)))),
       *b = map_(1, EXT(3), ex_op1(g, OP_SIN, AT(x, it(0))));
  Node *yes[] = {a, b}, *no[] = {b, a};
  Node *c = nd_cond(g, nd_scalar(g, ex_bool(g, true)), &(Region){2, yes, 0, NULL}, &(Region){2, no, 0, NULL}),
       *y = nd_get(g, c, 1);
  const char *text = check(1, &y, 1, &x);
  HASNT(text, "cond");
  HAS(text, "sin");
  Node *p = nd_scalar(g, op(OP_GT, AT(x, I(0)), D(0)));
  c = nd_cond(g, p, &(Region){2, yes, 0, NULL}, &(Region){2, no, 0, NULL});
  y = nd_get(g, c, 1);
  HAS(check(1, &y, 1, &x), "then (%");
  HASNT(check(1, &y, 1, &x), ", %");
}

/* What an unrolled loop over scalars can build: nothing may recurse along it. */
Test(graph_simplify, deep_bodies_do_not_recurse) {
  Node *x = in64(0, DIMS(4)), *y = in64(1, DIMS(4)), *root[2];
  Expr *p = AT(x, it(0)), *c = op(OP_GT, p, D(0)), *s = p;
  for (int k = 0; k < 50000; k++) {
    p = mul(p, AT(y, it(0)));
    c = op(OP_AND, c, op(OP_LT, AT(x, it(0)), D(k)));
    s = ex_select(g, op(OP_GT, s, D(k)), op(OP_SUB, s, D(1)), s);
  }
  root[0] = nd_comp(g, 0, 2, EXT(4, 4), RED_SUM, mul(p, AT(y, it(1))), NULL);
  root[1] = nd_comp(g, 0, 1, EXT(4), RED_SUM, ex_select(g, c, s, D(0)), c);
  Region r = {2, root, 0, NULL}, back;
  char *error;
  graph_simplify(g, &r);
  graph_verify(g, &r);
  cr_assert(graph_parse(g, graph_print(g, arena, &r), &back, &error), "%s", error);
  Interval iter[] = {{0, 3}};
  ex_decide_under(g, c, &(Box){.niter = 1, .iter = iter}, c);
}

Test(graph_simplify, empty_axes) {
  Node *x = in64(0, DIMS(0, 4)), *y = nd_comp(g, 1, 1, EXT(4, 0), RED_SUM, AT(x, it(1), it(0)), NULL);
  check(1, &y, 1, &x);
  Node *z = map_(2, EXT(0, 8), ex_op1(g, OP_EXP, AT(x, it(0), op(OP_FLOORDIV, it(1), I(2)))));
  check(1, &z, 1, &x);
  Node *never = nd_comp(g, 1, 1, EXT(4, 5), RED_SUM, D(1), op(OP_GT, it(1), I(7)));
  HAS(check(1, &never, 1, &x), "for i0 4: 0:f64");
}

/* ---- Random graphs ----------------------------------------------------------------------------------------------- */

static Node *random_view(Node *x) {
  int64_t dim[4];
  switch (rnd(0, 4)) {
  case 0: { /* transpose */
    if (x->rank < 2) return x;
    Expr *idx[TG_MAX_RANK];
    int rot = (int)rnd(1, x->rank - 1);
    int64_t d[TG_MAX_RANK];
    for (int i = 0; i < x->rank; i++) d[(i + rot) % x->rank] = x->dim[i], idx[i] = it((i + rot) % x->rank);
    return map_(x->rank, d, at(x, x->rank, idx));
  }
  case 1:
  case 2: { /* reshape to up to three axes */
    int64_t n = nd_size(x);
    int r = 0;
    while (r < 2 && n > 1) {
      int64_t f = rnd(2, 6);
      if (n % f == 0)
        dim[r++] = f, n /= f;
      else if (rnd(0, 3) == 0)
        break;
    }
    dim[r++] = n;
    return reshape(x, r, dim);
  }
  case 3: { /* slice */
    if (!x->rank) return x;
    Expr *idx[TG_MAX_RANK];
    int64_t d[TG_MAX_RANK];
    for (int i = 0; i < x->rank; i++) {
      int64_t lo = rnd(0, x->dim[i] / 3);
      d[i] = x->dim[i] - lo;
      idx[i] = rnd(0, 2) ? add(it(i), I(lo)) : op(OP_SUB, I(x->dim[i] - 1), it(i));
    }
    return map_(x->rank, d, at(x, x->rank, idx));
  }
  default: { /* pad by one in front of the last axis */
    if (!x->rank) return x;
    Expr *idx[TG_MAX_RANK];
    int64_t d[TG_MAX_RANK];
    int last = x->rank - 1;
    for (int i = 0; i < x->rank; i++) d[i] = x->dim[i], idx[i] = it(i);
    d[last]++;
    idx[last] = op(OP_SUB, it(last), I(1));
    return map_(x->rank, d, ex_load(g, x, x->rank, idx, op(OP_GT, it(last), I(0)), false, (Span){0}));
  }
  }
}

static Node *random_reduce(Node *x) {
  static const Reduce ops[] = {RED_SUM, RED_SUM, RED_MAX, RED_MIN, RED_PROD, RED_ARGMAX};
  if (!x->rank) return x;
  int n = x->rank, nred = (int)rnd(1, n), nout = n - nred;
  Reduce r = ops[rnd(0, 5)];
  if (r == RED_PROD && nred > 1) r = RED_SUM;
  Expr *guard = NULL, *body = ex_load_full(g, x, 0);
  if (nout && rnd(0, 1)) {
    static const ScalarOp cmp[] = {OP_LE, OP_LT, OP_GE, OP_GT, OP_EQ};
    guard = op(cmp[rnd(0, 4)], it(nout), add(it((int)rnd(0, nout - 1)), I(rnd(-1, 1))));
  } else if (rnd(0, 3) == 0)
    guard = op(OP_EQ, it(nout), I(rnd(0, 3)));
  if (rnd(0, 3) == 0 && r == RED_SUM && guard) body = ex_select(g, guard, body, D(0)), guard = NULL;
  if (rnd(0, 3) == 0) body = mul(body, ex_cast(g, DT_F64, op(OP_MOD, it(n - 1), I(3))));
  Node *y = nd_comp(g, nout, nred, x->dim, r, body, guard);
  if (y->dtype == DT_F64) {
    Expr *e = ex_load_full(g, y, 0); /* keep infinities of empty reductions from meeting each other */
    return map_(y->rank, y->dim, ex_select(g, ex_op1(g, OP_ISFINITE, e), e, D(3)));
  }
  return map_(y->rank, y->dim, ex_cast(g, DT_F64, ex_load_full(g, y, 0)));
}

static Node *random_binary(Node *x) {
  if (!x->rank) return x;
  Node *y = random_view(x);
  if (!nd_size(y)) return x;
  Expr *idx[TG_MAX_RANK], *e = ex_load_full(g, x, 0);
  for (int i = 0; i < y->rank; i++) idx[i] = op(OP_MOD, x->rank > i ? it(i) : I(i), I(y->dim[i]));
  Expr *z = at(y, y->rank, idx);
  return map_(x->rank, x->dim,
              rnd(0, 1) ? add(e, z) : ex_select(g, op(OP_LT, it(0), I(x->dim[0] / 2)), mul(e, z), op(OP_SUB, e, D(1))));
}

/* [x at lo..lo+n of axis 0, else 0]: how adjoints place pieces; as both factors of a product, or as a sum's body. */
static Node *random_piece(Node *x) {
  if (!x->rank || x->rank > 3) return x;
  Expr *idx[TG_MAX_RANK], *i0 = it(0);
  int64_t d[TG_MAX_RANK], lo = rnd(0, 5), n = x->dim[0] + lo + rnd(0, 4);
  for (int i = 0; i < x->rank; i++) d[i] = x->dim[i], idx[i] = it(i);
  idx[0] = op(OP_SUB, i0, I(lo));
  Expr *mask = ex_and(g, op(OP_GE, idx[0], I(0)), op(OP_LT, i0, I(lo + x->dim[0])));
  d[0] = n;
  Expr *e = ex_load(g, x, x->rank, idx, mask, false, (Span){0});
  switch (rnd(0, 2)) {
  case 0:
    return map_(x->rank, d, e);
  case 1:
    return nd_comp(g, x->rank - 1, 1, d, RED_SUM, mul(e, e), rnd(0, 1) ? mask : NULL);
  default:
    return x->rank < 2 ? map_(1, d, e)
                       : nd_comp(g, 1, x->rank - 1, d, RED_SUM, ex_select(g, mask, mul(e, D(3)), D(0)), NULL);
  }
}

static Node *random_scatter(Node *x) {
  if (!x->rank || x->rank > 2) return x;
  Expr *place[3], *v = ex_load_full(g, x, 0);
  int64_t last = x->dim[x->rank - 1], c = rnd(1, 4), dim[3];
  int r = 0;
  if (x->rank == 2 && rnd(0, 2)) { /* the first axis: kept, reversed, or summed away */
    place[r] = rnd(0, 1) ? it(0) : op(OP_SUB, I(x->dim[0]), it(0));
    dim[r++] = x->dim[0] + 1;
  }
  Expr *i = it(x->rank - 1);
  switch (rnd(0, 3)) {
  case 0:
    place[r] = op(OP_FLOORDIV, i, I(c)), dim[r++] = (last + c - 1) / c, place[r] = op(OP_MOD, i, I(c)), dim[r++] = c;
    break;
  case 1:
    place[r] = add(mul(i, I(c)), I(1)), dim[r++] = last * c + 2;
    break;
  case 2:
    place[r] = op(OP_MOD, i, I(c)), dim[r++] = c;
    break;
  default:
    place[r] = I(c), dim[r++] = c + 2;
    break;
  }
  Expr *guard = rnd(0, 3) ? NULL : op(OP_LT, it(0), I(2));
  static const Combine how[] = {SC_ADD, SC_ADD, SC_SET, SC_MAX};
  Node *base = rnd(0, 1) ? map_(r, dim, ex_cast(g, DT_F64, op(OP_SUB, it(0), I(1)))) : NULL;
  return nd_scatter(g, DT_F64, r, dim, base, x->rank, x->dim, place, v, guard, how[rnd(0, 3)], false);
}

/* sum over t of a state times row t, with a stack of the states. */
static Node *random_loop(Node *x) {
  if (x->rank != 2 || !x->dim[1]) return x;
  Node *t = nd_counter(g, 0, x->dim[0] - 1), *s = nd_param(g, DT_F64, 1, &x->dim[1], "s"),
       *u = nd_param(g, DT_F64, 0, NULL, "u");
  Expr *row = AT(x, at(t, 0, NULL), it(0));
  Node *next = map_(1, &x->dim[1], add(mul(AT(s, it(0)), D(0.5)), row));
  Node *sum = nd_comp(g, 0, 1, &x->dim[1], RED_SUM, AT(s, it(0)), NULL),
       *grow = nd_scalar(g, add(at(u, 0, NULL), at(sum, 0, NULL)));
  Node *init[] = {map_(1, &x->dim[1], D(0)), nd_scalar(g, D(1))}, *param[] = {s, u}, *out[] = {next, grow, next};
  Node *l = nd_loop(g, &(Loop){.nstate = 2,
                               .init = init,
                               .param = param,
                               .counter = t,
                               .trip = x->dim[0],
                               .nstack = 1,
                               .reverse = rnd(0, 1),
                               .body = {3, out, 0, NULL}});
  return nd_get(g, l, (int)rnd(0, 2));
}

static Node *random_scan(Node *x) {
  if (!x->rank) return x;
  static const Reduce ops[] = {RED_SUM, RED_MAX, RED_MIN};
  Node *y = nd_scan(g, x->rank, x->dim, ops[rnd(0, 2)], ex_load_full(g, x, 0), rnd(0, 1), rnd(0, 1));
  Expr *e = ex_load_full(g, y, 0);
  return map_(y->rank, y->dim, ex_select(g, ex_op1(g, OP_ISFINITE, e), e, D(3)));
}

Test(graph_simplify, random_graphs_keep_their_values) {
  const char *more = getenv("TG_ROUNDS"), *seed = getenv("TG_SEED");
  if (seed) rng ^= strtoull(seed, NULL, 10) * UINT64_C(0x9E3779B97F4A7C15);
  for (int round = 0; round < (more ? atoi(more) : 800); round++) {
    if (round % 200 == 199) down(), up();
    Node *x = in64(0, DIMS(rnd(1, 6), rnd(1, 6), rnd(1, 6))), *n = x, *out[2] = {x, x};
    int steps = (int)rnd(2, 8);
    for (int k = 0; k < steps; k++) {
      static Node *(*const kind[])(Node *) = {random_view,    random_view,   random_view,   random_view,  random_binary,
                                              random_binary,  random_reduce, random_reduce, random_piece, random_piece,
                                              random_scatter, random_loop,   random_scan};
      n = kind[rnd(0, 12)](n);
      if (nd_size(n) > 2000)
        n = map_(0, NULL, at(nd_comp(g, 0, n->rank, n->dim, RED_MAX, ex_load_full(g, n, 0), NULL), 0, NULL));
      if (k == steps / 2) out[1] = n;
    }
    out[0] = n;
    check(2, out, 1, &x);
  }
}
