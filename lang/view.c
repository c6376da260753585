/* Views: slices, permutations, reshapes and new axes rewrite a value's expression and make no node.
 *
 * A value's ITER k is its own axis k, so a view is a substitution of iterators. The invariant of elab.h holds because a
 * substitution turns a load into a load. */
#include "lang/space.h"
#include <string.h>

Dim dim_of(int64_t n) { return (Dim){.n = n}; }

Expr *ex_zero(Elab *E, DType t) { return t == DT_BOOL ? ex_bool(E->g, false) : ex_num(E->g, t, 0); }

static Value *like(Elab *E, const TensorV *x, int rank, const Dim *dim, Expr *e) {
  Value *v = v_tensor(E, x->dtype, rank, dim, e);
  v->t.weak = x->weak;
  return v;
}

Value *view_index(Elab *E, Value *x, int axis, Expr *at) {
  const TensorV *t = &x->t;
  Expr *by[TG_MAX_RANK];
  Dim dim[TG_MAX_RANK];
  int n = 0;
  for (int k = 0; k < t->rank; k++) {
    if (k == axis) {
      by[k] = at;
      continue;
    }
    dim[n] = t->dim[k];
    by[k] = ex_iter(E->g, n++);
  }
  return like(E, t, n, dim, ex_subst_iters(E->g, t->e, t->rank, by));
}

Value *view_slice(Elab *E, Value *x, int axis, int64_t lo, int64_t n, int64_t step, const Origin *from) {
  const TensorV *t = &x->t;
  Expr *by[TG_MAX_RANK];
  Dim dim[TG_MAX_RANK];
  for (int k = 0; k < t->rank; k++) dim[k] = t->dim[k], by[k] = ex_iter(E->g, k);
  Expr *it = by[axis];
  by[axis] = ex_lin(E->g, lo, 1, &step, &it);
  dim[axis] = (Dim){.n = n, .from = from};
  return like(E, t, t->rank, dim, ex_subst_iters(E->g, t->e, t->rank, by));
}

/* Axis k of the result is axis perm[k] of x. */
Value *view_permute(Elab *E, Value *x, const int *perm) {
  const TensorV *t = &x->t;
  Expr *by[TG_MAX_RANK];
  Dim dim[TG_MAX_RANK];
  for (int k = 0; k < t->rank; k++) dim[k] = t->dim[perm[k]], by[perm[k]] = ex_iter(E->g, k);
  return like(E, t, t->rank, dim, ex_subst_iters(E->g, t->e, t->rank, by));
}

Value *view_expand(Elab *E, Value *x, int axis, Dim d) {
  const TensorV *t = &x->t;
  Expr *by[TG_MAX_RANK];
  Dim dim[TG_MAX_RANK];
  if (t->rank == TG_MAX_RANK) diag_fail(E->d, S_RANK, E->g->span, "more than %d axes", TG_MAX_RANK);
  for (int k = 0, n = 0; k <= t->rank; k++) {
    if (k == axis) {
      dim[k] = d;
      continue;
    }
    dim[k] = t->dim[n];
    by[n++] = ex_iter(E->g, k);
  }
  return like(E, t, t->rank + 1, dim, ex_subst_iters(E->g, t->e, t->rank, by));
}

/* Old axes [a0, a1) and new axes [b0, b1) hold the same elements: old subscripts from the new iterators. */
static void regroup(Elab *E, const TensorV *t, int a0, int a1, const Dim *dim, int b0, int b1, Expr **by) {
  Expr *atom[TG_MAX_RANK];
  int64_t coef[TG_MAX_RANK], stride = 1;
  int n = 0;
  for (int b = b1; b-- > b0;) {
    if (dim[b].n != 1) atom[n] = ex_iter(E->g, b), coef[n++] = stride;
    stride *= dim[b].n;
  }
  Expr *linear = ex_lin(E->g, 0, n, coef, atom);
  int64_t size = stride;
  stride = 1;
  for (int a = a1; a-- > a0;) {
    int64_t d = t->dim[a].n;
    if (d == 1) {
      by[a] = ex_int(E->g, DT_I64, 0);
      continue;
    }
    Expr *q = stride == 1 ? linear : ex_op2(E->g, OP_FLOORDIV, linear, ex_int(E->g, DT_I64, stride));
    stride *= d;
    by[a] = stride == size ? q : ex_op2(E->g, OP_MOD, q, ex_int(E->g, DT_I64, d));
  }
}

/* Walks both shapes from the left and cuts wherever the products agree: within a cut, splits are affine and merges give
 * // and %. The caller has checked that the numbers of elements are equal (or unknown, in trial). */
Value *view_reshape(Elab *E, Value *x, int rank, const Dim *dim, Span at) {
  const TensorV *t = &x->t;
  Expr *by[TG_MAX_RANK];
  bool unknown = false, empty = false;
  for (int k = 0; k < t->rank; k++) unknown |= t->dim[k].n < 0, empty |= t->dim[k].n == 0;
  for (int k = 0; k < rank; k++) unknown |= dim[k].n < 0, empty |= dim[k].n == 0;
  if (unknown || empty) {
    for (int k = 0; k < t->rank; k++) by[k] = ex_int(E->g, DT_I64, 0);
    Expr *e = empty && !unknown ? ex_zero(E, t->dtype) : ex_subst_iters(E->g, t->e, t->rank, by);
    return like(E, t, rank, dim, e);
  }
  int a = 0, b = 0;
  while (a < t->rank || b < rank) {
    int a0 = a, b0 = b;
    int64_t pa = 1, pb = 1;
    if (a < t->rank) pa = t->dim[a++].n;
    if (b < rank) pb = dim[b++].n;
    while (pa != pb) {
      if (pa < pb) {
        if (a == t->rank) bug("reshape of unequal sizes");
        pa *= t->dim[a++].n;
      } else {
        if (b == rank) bug("reshape of unequal sizes");
        pb *= dim[b++].n;
      }
    }
    regroup(E, t, a0, a, dim, b0, b, by);
  }
  return like(E, t, rank, dim, t->rank ? ex_subst_iters(E->g, t->e, t->rank, by) : t->e);
}
