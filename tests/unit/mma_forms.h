/* The comprehensions that contraction tests and benchmarks run: products, convolutions, their adjoints, attention.
 * Subscripts are written as linear forms of iterators. */
#ifndef TG_TESTS_MMA_FORMS_H
#define TG_TESTS_MMA_FORMS_H
#include "tests/unit/mma_kernel.h"

static inline Expr *it_(MmaCase *c, int k) { return ex_iter(c->g, k); }
/* c0 + sum of coef * ITER: pairs (coef, iterator), n of them. */
static inline Expr *lin_(MmaCase *c, int64_t c0, int n, const int64_t *pair) {
  int64_t coef[8];
  Expr *atom[8];
  for (int i = 0; i < n; i++) coef[i] = pair[2 * i], atom[i] = it_(c, (int)pair[2 * i + 1]);
  return ex_lin(c->g, c0, n, coef, atom);
}
#define LIN(c, c0, ...) lin_(c, c0, (int)(sizeof((int64_t[]){__VA_ARGS__}) / 16), (int64_t[]){__VA_ARGS__})
#define LOAD(c, node, mask, ...)                                                                                       \
  ex_load((c)->g, node, (int)(sizeof((Expr *[]){__VA_ARGS__}) / sizeof(Expr *)), (Expr *[]){__VA_ARGS__}, mask, false, \
          (Span){0})
#define DIMS(...)                                                                                                      \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]) { __VA_ARGS__ }

static inline Expr *wide_(MmaCase *c, DType t, Expr *x) {
  return t == DT_I32 || t == DT_U8 ? ex_cast(c->g, DT_I64, x) : x;
}

/* [sum(a[m, k] * b[k, n] for k) for m, n]; ta: a[k, m]; tb: b[n, k]. Integers: products in i64. */
static inline Node *form_matmul(MmaCase *c, DType t, int64_t M, int64_t N, int64_t K, bool ta, bool tb) {
  Node *a = ta ? mma_input(c, t, DIMS(K, M)) : mma_input(c, t, DIMS(M, K));
  Node *b = tb ? mma_input(c, t, DIMS(N, K)) : mma_input(c, t, DIMS(K, N));
  Expr *m = it_(c, 0), *n = it_(c, 1), *k = it_(c, 2);
  Expr *x = ta ? LOAD(c, a, NULL, k, m) : LOAD(c, a, NULL, m, k),
       *y = tb ? LOAD(c, b, NULL, n, k) : LOAD(c, b, NULL, k, n);
  return nd_comp(c->g, 2, 1, (int64_t[]){M, N, K}, RED_SUM, ex_op2(c->g, OP_MUL, wide_(c, t, x), wide_(c, t, y)), NULL);
}
static inline Node *form_vecmat(MmaCase *c, DType t, int64_t N, int64_t K, bool tb) { /* x[k] * b[k, n] */
  Node *a = mma_input(c, t, DIMS(K)), *b = tb ? mma_input(c, t, DIMS(N, K)) : mma_input(c, t, DIMS(K, N));
  Expr *n = it_(c, 0), *k = it_(c, 1);
  Expr *y = tb ? LOAD(c, b, NULL, n, k) : LOAD(c, b, NULL, k, n);
  return nd_comp(c->g, 1, 1, (int64_t[]){N, K}, RED_SUM, ex_op2(c->g, OP_MUL, LOAD(c, a, NULL, k), y), NULL);
}
static inline Node *form_batched(MmaCase *c, DType t, int64_t B, int64_t M, int64_t N, int64_t K, bool tb) {
  Node *a = mma_input(c, t, DIMS(B, M, K)), *b = tb ? mma_input(c, t, DIMS(B, N, K)) : mma_input(c, t, DIMS(B, K, N));
  Expr *s = it_(c, 0), *m = it_(c, 1), *n = it_(c, 2), *k = it_(c, 3);
  Expr *y = tb ? LOAD(c, b, NULL, s, n, k) : LOAD(c, b, NULL, s, k, n);
  return nd_comp(c->g, 3, 1, (int64_t[]){B, M, N, K}, RED_SUM, ex_op2(c->g, OP_MUL, LOAD(c, a, NULL, s, m, k), y),
                 NULL);
}

/* The same sum in chunks of `chunk` flat positions. */
static inline Node *form_cut(MmaCase *c, const Node *n, int64_t chunk) {
  const Comp *q = &n->comp;
  return nd_comp_cut(c->g, q->nout, q->nred, q->extent, q->op, q->body, q->guard, chunk);
}

typedef struct ConvShape {
  int64_t n, c, o, h, w, r, s, stride, pad;
} ConvShape;
static inline int64_t conv_out(int64_t h, int64_t r, int64_t stride, int64_t pad) {
  return (h + 2 * pad - r) / stride + 1;
}
static inline Expr *in_range(MmaCase *c, Expr *x, int64_t n) {
  return ex_and(c->g, ex_op2(c->g, OP_GE, x, ex_int(c->g, DT_I64, 0)), ex_op2(c->g, OP_LT, x, ex_int(c->g, DT_I64, n)));
}

/* out[n, o, y, z] = sum over c, r, s of x[n, c, stride*y + r - pad, stride*z + s - pad] * w[o, c, r, s] */
static inline Node *form_conv(MmaCase *c, DType t, const ConvShape *q) {
  Node *x = mma_input(c, t, DIMS(q->n, q->c, q->h, q->w)), *w = mma_input(c, t, DIMS(q->o, q->c, q->r, q->s));
  int64_t oh = conv_out(q->h, q->r, q->stride, q->pad), ow = conv_out(q->w, q->s, q->stride, q->pad);
  Expr *iy = LIN(c, -q->pad, q->stride, 2, 1, 5), *ix = LIN(c, -q->pad, q->stride, 3, 1, 6);
  Expr *mask = q->pad ? ex_and(c->g, in_range(c, iy, q->h), in_range(c, ix, q->w)) : NULL;
  Expr *body = ex_op2(c->g, OP_MUL, LOAD(c, x, mask, it_(c, 0), it_(c, 4), iy, ix),
                      LOAD(c, w, NULL, it_(c, 1), it_(c, 4), it_(c, 5), it_(c, 6)));
  return nd_comp(c->g, 4, 3, (int64_t[]){q->n, q->o, oh, ow, q->c, q->r, q->s}, RED_SUM, body, NULL);
}
/* dw[o, c, r, s] = sum over n, y, z of dy[n, o, y, z] * x[n, c, stride*y + r, stride*z + s] (pad 0) */
static inline Node *form_conv_dw(MmaCase *c, DType t, const ConvShape *q) {
  int64_t oh = conv_out(q->h, q->r, q->stride, 0), ow = conv_out(q->w, q->s, q->stride, 0);
  Node *dy = mma_input(c, t, DIMS(q->n, q->o, oh, ow)), *x = mma_input(c, t, DIMS(q->n, q->c, q->h, q->w));
  Expr *iy = LIN(c, 0, q->stride, 5, 1, 2), *ix = LIN(c, 0, q->stride, 6, 1, 3);
  Expr *body = ex_op2(c->g, OP_MUL, LOAD(c, dy, NULL, it_(c, 4), it_(c, 0), it_(c, 5), it_(c, 6)),
                      LOAD(c, x, NULL, it_(c, 4), it_(c, 1), iy, ix));
  return nd_comp(c->g, 4, 3, (int64_t[]){q->o, q->c, q->r, q->s, q->n, oh, ow}, RED_SUM, body, NULL);
}
/* dx[n, c, y, z] = sum over o, r, s of dy[n, o, y - r, z - s] * w[o, c, r, s], masked (stride 1, pad 0) */
static inline Node *form_conv_dx(MmaCase *c, DType t, const ConvShape *q) {
  int64_t oh = conv_out(q->h, q->r, 1, 0), ow = conv_out(q->w, q->s, 1, 0);
  Node *dy = mma_input(c, t, DIMS(q->n, q->o, oh, ow)), *w = mma_input(c, t, DIMS(q->o, q->c, q->r, q->s));
  Expr *iy = LIN(c, 0, 1, 2, -1, 5), *ix = LIN(c, 0, 1, 3, -1, 6);
  Expr *mask = ex_and(c->g, in_range(c, iy, oh), in_range(c, ix, ow));
  Expr *body = ex_op2(c->g, OP_MUL, LOAD(c, dy, mask, it_(c, 0), it_(c, 4), iy, ix),
                      LOAD(c, w, NULL, it_(c, 4), it_(c, 1), it_(c, 5), it_(c, 6)));
  return nd_comp(c->g, 4, 3, (int64_t[]){q->n, q->c, q->h, q->w, q->o, q->r, q->s}, RED_SUM, body, NULL);
}
/* q[b, t, h, d] of qkv[b, t, 3*h*d], scores[b, h, i, j] = sum over d of q[b, i, h, d] * k[b, j, h, d]: after SPLIT,
 * affine */
static inline Node *form_scores(MmaCase *c, DType t, int64_t B, int64_t T, int64_t H, int64_t D) {
  Node *qkv = mma_input(c, t, DIMS(B, T, 3 * H * D));
  Expr *q = LOAD(c, qkv, NULL, it_(c, 0), it_(c, 2), LIN(c, 0, D, 1, 1, 4));
  Expr *k = LOAD(c, qkv, NULL, it_(c, 0), it_(c, 3), LIN(c, H * D, D, 1, 1, 4));
  return nd_comp(c->g, 4, 1, (int64_t[]){B, H, T, T, D}, RED_SUM, ex_op2(c->g, OP_MUL, q, k), NULL);
}
/* out[b, i, h*d] = sum over j of p[b, h, i, j] * v[b, j, h, d], written as [b, i, h, d] */
static inline Node *form_attend(MmaCase *c, DType t, int64_t B, int64_t T, int64_t H, int64_t D) {
  Node *p = mma_input(c, t, DIMS(B, H, T, T)), *qkv = mma_input(c, t, DIMS(B, T, 3 * H * D));
  Expr *w = LOAD(c, p, NULL, it_(c, 0), it_(c, 2), it_(c, 1), it_(c, 4));
  Expr *v = LOAD(c, qkv, NULL, it_(c, 0), it_(c, 4), LIN(c, 2 * H * D, D, 2, 1, 3));
  return nd_comp(c->g, 4, 1, (int64_t[]){B, T, H, D, T}, RED_SUM, ex_op2(c->g, OP_MUL, w, v), NULL);
}
#endif
