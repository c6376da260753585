/* Builders of small graphs that the rules share. */
#include "internal.h"
#include <string.h>

Node *bd_zeros(Graph *g, DType t, int rank, const int64_t *dim) {
  return nd_comp(g, rank, 0, dim, RED_NONE, ex_num(g, t, 0), NULL);
}
Node *bd_zeros_like(Graph *g, const Node *n) { return bd_zeros(g, n->dtype, n->rank, n->dim); }

Node *bd_sum(Graph *g, int n, Node *const *part) {
  if (n == 1) return part[0];
  Expr *body = ex_load_full(g, part[0], 0);
  for (int i = 1; i < n; i++) body = ex_op2(g, OP_ADD, body, ex_load_full(g, part[i], 0));
  return nd_comp(g, part[0]->rank, 0, part[0]->dim, RED_NONE, body, NULL);
}

Node *bd_map(Graph *g, ScalarOp op, Node *x, Node *y) {
  Expr *body = y ? ex_op2(g, op, ex_load_full(g, x, 0), ex_load_full(g, y, 0)) : ex_op1(g, op, ex_load_full(g, x, 0));
  return nd_comp(g, x->rank, 0, x->dim, RED_NONE, body, NULL);
}
Node *bd_scale(Graph *g, Node *x, double c) {
  Expr *body = ex_op2(g, OP_MUL, ex_load_full(g, x, 0), ex_num(g, x->dtype, c));
  return nd_comp(g, x->rank, 0, x->dim, RED_NONE, body, NULL);
}

Expr *bd_load_at(Graph *g, Node *t, int n, Expr *const *at) { return ex_load(g, t, n, at, NULL, false, t->span); }

Node *bd_matmul(Graph *g, Node *a, bool ta, Node *b, bool tb) {
  int r = a->rank, lead = r - 2;
  int64_t *e = arena_array(g->arena, int64_t, r + 1);
  Expr **ia = arena_array(g->arena, Expr *, r), **ib = arena_array(g->arena, Expr *, r);
  for (int i = 0; i < lead; i++) e[i] = a->dim[i], ia[i] = ib[i] = ex_iter(g, i);
  e[lead] = a->dim[lead + ta], e[lead + 1] = b->dim[lead + !tb], e[lead + 2] = a->dim[lead + !ta];
  ia[lead + ta] = ex_iter(g, lead), ia[lead + !ta] = ex_iter(g, lead + 2);
  ib[lead + !tb] = ex_iter(g, lead + 1), ib[lead + tb] = ex_iter(g, lead + 2);
  Expr *body = ex_op2(g, OP_MUL, bd_load_at(g, a, r, ia), bd_load_at(g, b, r, ib));
  return nd_comp(g, r, 1, e, RED_SUM, body, NULL);
}

Node *bd_transpose(Graph *g, Node *a) {
  int r = a->rank;
  int64_t *e = arena_array(g->arena, int64_t, r);
  Expr **ix = arena_array(g->arena, Expr *, r);
  for (int i = 0; i < r; i++) e[i] = a->dim[i], ix[i] = ex_iter(g, i);
  e[r - 1] = a->dim[r - 2], e[r - 2] = a->dim[r - 1];
  ix[r - 1] = ex_iter(g, r - 2), ix[r - 2] = ex_iter(g, r - 1);
  return nd_comp(g, r, 0, e, RED_NONE, bd_load_at(g, a, r, ix), NULL);
}

Node *bd_dot(Graph *g, Node *a, Node *b) {
  Expr *body = ex_op2(g, OP_MUL, ex_load_full(g, a, 0), ex_load_full(g, b, 0));
  return nd_comp(g, 0, a->rank, a->dim, a->rank ? RED_SUM : RED_NONE, body, NULL);
}
