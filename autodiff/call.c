/* Adjoints of native routines: a table from name to rule. Each is a small graph of products, solves and maps over the
 * last two axes, batched over leading axes.
 *
 * Sources: M. Giles, "Collected matrix derivative results for forward and reverse mode AD" (2008); J. Townsend,
 * "Differentiating the singular value decomposition" (2016); I. Murray, "Differentiation of the Cholesky decomposition"
 * (2016); K. Walter, L. Lehmann for QR (2010), in the form of Liao et al. (2019). */
#include "internal.h"
#include <string.h>

typedef struct Rule {
  Sweep *s;
  Graph *g;
  Node *n;
  Node **in;
} Rule;

static Node *result(Rule *r, int i) { return nd_get(r->g, r->n, i); }
/* Adjoint of result i, zeros when nothing came. */
static Node *adj(Rule *r, int i) {
  Node *w = sw_result_adjoint(r->s, r->n, i);
  return w ? w : bd_zeros_like(r->g, result(r, i));
}
static Node *call(Rule *r, const char *name, int nin, Node **in, const Node *like) {
  const Native *fn = natives_find(r->s->natives, name);
  if (!fn) bug("native %s is not registered", name);
  TensorType t = {like->dtype, like->rank, like->dim};
  return nd_get(r->g, nd_call(r->g, fn, 0, NULL, nin, in, 1, &t), 0);
}
static Node *solve(Rule *r, Node *a, Node *b) { return call(r, "solve", 2, (Node *[]){a, b}, b); }
static Node *inverse(Rule *r, Node *a) { return call(r, "inv", 1, (Node *[]){a}, a); }
static Node *mm(Rule *r, Node *a, Node *b) { return bd_matmul(r->g, a, false, b, false); }
static Node *tmm(Rule *r, Node *a, Node *b) { return bd_matmul(r->g, a, true, b, false); }
static Node *mmt(Rule *r, Node *a, Node *b) { return bd_matmul(r->g, a, false, b, true); }
static Node *t(Rule *r, Node *a) { return bd_transpose(r->g, a); }
static Node *add(Rule *r, Node *a, Node *b) { return bd_map(r->g, OP_ADD, a, b); }
static Node *sub(Rule *r, Node *a, Node *b) { return bd_map(r->g, OP_SUB, a, b); }
static Node *neg(Rule *r, Node *a) { return bd_map(r->g, OP_NEG, a, NULL); }
static Node *symmetric(Rule *r, Node *a) { return bd_scale(r->g, add(r, a, t(r, a)), 0.5); }

/* element-wise on the last two axes i, j */
static Expr *row(Rule *r, const Node *a) { return ex_iter(r->g, a->rank - 2); }
static Expr *col(Rule *r, const Node *a) { return ex_iter(r->g, a->rank - 1); }
static Node *entries(Rule *r, const Node *like, Expr *body) {
  return nd_comp(r->g, like->rank, 0, like->dim, RED_NONE, body, NULL);
}
static Expr *sel(Rule *r, ScalarOp rel, const Node *a, Expr *yes, Expr *no) {
  return ex_select(r->g, ex_op2(r->g, rel, row(r, a), col(r, a)), yes, no);
}
static Expr *num(Rule *r, const Node *a, double v) { return ex_num(r->g, a->dtype, v); }
static Expr *full(Rule *r, Node *a) { return ex_load_full(r->g, a, 0); }
/* vector v [.., n] read at axis i or j of a matrix of the given rank */
static Expr *along(Rule *r, Node *v, int rank, int axis) {
  Expr **at = arena_array(r->s->a, Expr *, v->rank);
  for (int d = 0; d + 1 < v->rank; d++) at[d] = ex_iter(r->g, d);
  at[v->rank - 1] = ex_iter(r->g, rank - 2 + axis);
  return bd_load_at(r->g, v, v->rank, at);
}
static Node *scaled(Rule *r, Node *a, Expr *by) { return entries(r, a, ex_op2(r->g, OP_MUL, full(r, a), by)); }
static Node *unscaled(Rule *r, Node *a, Expr *by) { return entries(r, a, ex_op2(r->g, OP_DIV, full(r, a), by)); }
/* w [...] as a factor of a matrix [..., n, m] */
static Node *times_scalar(Rule *r, Node *a, Node *w) {
  Expr **at = arena_array(r->s->a, Expr *, w->rank);
  for (int d = 0; d < w->rank; d++) at[d] = ex_iter(r->g, d);
  return scaled(r, a, bd_load_at(r->g, w, w->rank, at));
}
static Node *diagonal(Rule *r, Node *v, const Node *like) {
  return entries(r, like, sel(r, OP_EQ, like, along(r, v, like->rank, 1), num(r, like, 0)));
}

/* A right-hand side of rank one less is a matrix of one column. */
static Node *as_columns(Rule *r, Node *b, bool vector) {
  if (!vector) return b;
  int64_t *e = arena_array(r->s->a, int64_t, b->rank + 1);
  memcpy(e, b->dim, sizeof *e * (size_t)b->rank);
  e[b->rank] = 1;
  return nd_comp(r->g, b->rank + 1, 0, e, RED_NONE, full(r, b), NULL);
}
static Node *as_vector(Rule *r, Node *b, bool vector) {
  if (!vector) return b;
  Expr **at = arena_array(r->s->a, Expr *, b->rank);
  for (int d = 0; d + 1 < b->rank; d++) at[d] = ex_iter(r->g, d);
  at[b->rank - 1] = ex_int(r->g, DT_I64, 0);
  return nd_comp(r->g, b->rank - 1, 0, b->dim, RED_NONE, bd_load_at(r->g, b, b->rank, at), NULL);
}

static void rule_solve(Rule *r) { /* x = a^-1 b: db = a^-T dx, da = -db x^T */
  bool vector = r->in[1]->rank < r->in[0]->rank;
  Node *db = solve(r, t(r, r->in[0]), adj(r, 0));
  sw_add(r->s, r->in[1], db);
  sw_add(r->s, r->in[0], neg(r, mmt(r, as_columns(r, db, vector), as_columns(r, result(r, 0), vector))));
}
static void rule_inv(Rule *r) {
  Node *x = result(r, 0);
  sw_add(r->s, r->in[0], neg(r, mmt(r, tmm(r, x, adj(r, 0)), x)));
}
static void rule_det(Rule *r) {
  Node *w = bd_map(r->g, OP_MUL, adj(r, 0), result(r, 0));
  sw_add(r->s, r->in[0], times_scalar(r, t(r, inverse(r, r->in[0])), w));
}
static void rule_slogdet(Rule *r) { sw_add(r->s, r->in[0], times_scalar(r, t(r, inverse(r, r->in[0])), adj(r, 1))); }

static void rule_cholesky(Rule *r) {
  Node *l = result(r, 0), *m = tmm(r, l, adj(r, 0));
  Expr *half = ex_op2(r->g, OP_MUL, full(r, m), num(r, m, 0.5));
  Node *phi = entries(r, m, sel(r, OP_GT, m, full(r, m), sel(r, OP_EQ, m, half, num(r, m, 0))));
  Node *lt = t(r, l), *y = solve(r, lt, phi); /* L^-T phi */
  Node *z = t(r, solve(r, lt, t(r, y)));      /* L^-T phi L^-1 */
  sw_add(r->s, r->in[0], symmetric(r, z));
}

/* square or tall q, r */
static Node *qr_tall(Rule *r, Node *q, Node *rr, Node *dq, Node *dr) {
  Node *m = sub(r, mmt(r, rr, dr), tmm(r, dq, q)), *mt = t(r, m);
  Node *c = entries(r, m, sel(r, OP_GE, m, full(r, m), full(r, mt))); /* lower triangle, mirrored */
  Node *b = add(r, dq, mm(r, q, c));
  return t(r, solve(r, rr, t(r, b))); /* b R^-T */
}
/* columns lo .. lo+n-1 of a, over the last axis */
static Node *columns(Rule *r, Node *a, int64_t lo, int64_t n) {
  int64_t *e = arena_array(r->s->a, int64_t, a->rank);
  Expr **at = arena_array(r->s->a, Expr *, a->rank);
  for (int d = 0; d < a->rank; d++) e[d] = a->dim[d], at[d] = ex_iter(r->g, d);
  e[a->rank - 1] = n;
  at[a->rank - 1] = ex_op2(r->g, OP_ADD, at[a->rank - 1], ex_int(r->g, DT_I64, lo));
  return nd_comp(r->g, a->rank, 0, e, RED_NONE, bd_load_at(r->g, a, a->rank, at), NULL);
}
static void rule_qr(Rule *r) {
  Node *a = r->in[0], *q = result(r, 0), *rr = result(r, 1), *dq = adj(r, 0), *dr = adj(r, 1);
  int64_t m = a->dim[a->rank - 2], n = a->dim[a->rank - 1];
  if (m >= n) {
    sw_add(r->s, a, qr_tall(r, q, rr, dq, dr));
    return;
  }
  /* wide: A = [X Y], R = [U V], X = Q U, V = Q^T Y */
  Node *y = columns(r, a, m, n - m), *dv = columns(r, dr, m, n - m);
  Node *dx = qr_tall(r, q, columns(r, rr, 0, m), add(r, dq, mmt(r, y, dv)), columns(r, dr, 0, m)), *dy = mm(r, q, dv);
  Expr **at = arena_array(r->s->a, Expr *, a->rank);
  for (int d = 0; d < a->rank; d++) at[d] = ex_iter(r->g, d);
  Expr *j = at[a->rank - 1], *left = ex_op2(r->g, OP_LT, j, ex_int(r->g, DT_I64, m)),
       *right = ex_op1(r->g, OP_NOT, left);
  Expr *lx = ex_load(r->g, dx, a->rank, at, left, false, a->span);
  at[a->rank - 1] = ex_op2(r->g, OP_SUB, j, ex_int(r->g, DT_I64, m));
  Expr *ly = ex_load(r->g, dy, a->rank, at, right, false, a->span);
  sw_add(r->s, a, entries(r, a, ex_select(r->g, left, lx, ly)));
}

/* a_ij / (f(j) - f(i)) off the diagonal, 0 on it */
static Node *over_gaps(Rule *r, Node *a, Node *v, bool squared) {
  Expr *vi = along(r, v, a->rank, 0), *vj = along(r, v, a->rank, 1);
  if (squared) vi = ex_op2(r->g, OP_MUL, vi, vi), vj = ex_op2(r->g, OP_MUL, vj, vj);
  Expr *same = ex_op2(r->g, OP_EQ, row(r, a), col(r, a));
  Expr *gap = ex_select(r->g, same, num(r, a, 1), ex_op2(r->g, OP_SUB, vj, vi));
  return entries(r, a, ex_select(r->g, same, num(r, a, 0), ex_op2(r->g, OP_DIV, full(r, a), gap)));
}
static void rule_eigh(Rule *r) { /* dA = V (diag dw + F o V^T dV) V^T */
  Node *v = result(r, 1), *k = over_gaps(r, tmm(r, v, adj(r, 1)), result(r, 0), false);
  Node *mid = add(r, k, diagonal(r, adj(r, 0), k));
  sw_add(r->s, r->in[0], symmetric(r, mmt(r, mm(r, v, mid), v)));
}
static void rule_svd(Rule *r) {
  Node *u = result(r, 0), *sv = result(r, 1), *vh = result(r, 2), *du = adj(r, 0), *ds = adj(r, 1), *dvh = adj(r, 2);
  Node *utu = tmm(r, u, du), *vtv = mmt(r, vh, dvh);
  int rank = utu->rank;
  Expr *si = along(r, sv, rank, 0), *sj = along(r, sv, rank, 1);
  Node *j = scaled(r, over_gaps(r, sub(r, utu, t(r, utu)), sv, true), sj);
  Node *k = scaled(r, over_gaps(r, sub(r, vtv, t(r, vtv)), sv, true), si);
  Node *mid = add(r, add(r, j, k), diagonal(r, ds, utu));
  sw_add(r->s, r->in[0], mm(r, mm(r, u, mid), vh));
  /* What leaves the column space of u, the row space of vh. */
  Node *du_out = sub(r, du, mm(r, u, utu)), *dv_out = sub(r, dvh, mm(r, mmt(r, dvh, vh), vh));
  sw_add(r->s, r->in[0], mm(r, unscaled(r, du_out, along(r, sv, rank, 1)), vh));
  sw_add(r->s, r->in[0], mm(r, u, unscaled(r, dv_out, along(r, sv, rank, 0))));
}
static void rule_lstsq(Rule *r) {
  Node *a = r->in[0], *b = r->in[1];
  bool vector = b->rank < a->rank;
  int64_t m = a->dim[a->rank - 2], n = a->dim[a->rank - 1];
  Node *x = as_columns(r, result(r, 0), vector), *w = as_columns(r, adj(r, 0), vector), *bc = as_columns(r, b, vector),
       *da, *db;
  if (m >= n) { /* x = (A^T A)^-1 A^T b, z = (A^T A)^-1 w: db = A z, dA = (b - A x) z^T - A z x^T */
    Node *z = solve(r, bd_matmul(r->g, a, true, a, false), w), *az = mm(r, a, z);
    da = sub(r, mmt(r, sub(r, bc, mm(r, a, x)), z), mmt(r, az, x)), db = az;
  } else { /* x = A^T y, y = (A A^T)^-1 b, z = (A A^T)^-1 A w: db = z, dA = y w^T - z x^T - y (A^T z)^T */
    Node *aat = mmt(r, a, a), *y = solve(r, aat, bc), *z = solve(r, aat, mm(r, a, w));
    da = sub(r, sub(r, mmt(r, y, w), mmt(r, z, x)), mmt(r, y, tmm(r, a, z))), db = z;
  }
  sw_add(r->s, a, da);
  sw_add(r->s, b, as_vector(r, db, vector));
}
static void rule_sort(Rule *r) { /* x[argsort(x)] */
  Node *x = r->in[0], *w = sw_result_adjoint(r->s, r->n, 0);
  const Native *fn = natives_find(r->s->natives, "argsort");
  if (!fn) bug("native argsort is not registered");
  TensorType ty = {DT_I64, x->rank, x->dim};
  Node *place = nd_get(r->g, nd_call(r->g, fn, r->n->call.nattr, r->n->call.attr, 1, &x, 1, &ty), 0);
  Expr **at = arena_array(r->s->a, Expr *, x->rank);
  for (int d = 0; d < x->rank; d++) at[d] = ex_iter(r->g, d);
  at[x->rank - 1] = full(r, place);
  Expr *body = ex_load(r->g, x, x->rank, at, NULL, true, r->n->span);
  rule_body(r->s, x->rank, x->dim, body, NULL, full(r, w), r->n->span);
}

static const struct {
  const char *name;
  void (*rule)(Rule *);
} rules[] = {
    {"solve", rule_solve},       {"inv", rule_inv},   {"det", rule_det}, {"slogdet", rule_slogdet},
    {"cholesky", rule_cholesky}, {"qr", rule_qr},     {"svd", rule_svd}, {"eigh", rule_eigh},
    {"lstsq", rule_lstsq},       {"sort", rule_sort},
};

void rule_call(Sweep *s, Node *n) {
  Rule r = {s, s->g, n, arena_array(s->a, Node *, n->call.narg)};
  memcpy(r.in, n->call.arg, sizeof *r.in * (size_t)n->call.narg);
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
    if (!strcmp(rules[i].name, n->call.fn->name)) {
      rules[i].rule(&r);
      return;
    }
  diag_fail(s->g->diags, T_TYPE, n->span, "%s has no derivative; stop(x) says that none should flow", n->call.fn->name);
}
