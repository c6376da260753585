/* Reductions and running reductions of whole tensors: sum(x), mean(x, axis = 0), cumsum(x). */
#include "lang/builtin.h"
#include "lang/space.h"
#include <string.h>

enum { MEAN = 100 };

/* The reduced axes, ascending; all of them when none is given. */
static int read_axes(Elab *E, Value *axis, int rank, const char *what, Call *c, int *out) {
  if (!axis || axis->kind == V_NONE) {
    for (int k = 0; k < rank; k++) out[k] = k;
    return rank;
  }
  Span at = arg_span(c, axis);
  int n = 0;
  bool seen[TG_MAX_RANK] = {0};
  if (axis->kind == V_TUPLE) {
    for (int k = 0; k < axis->agg.n; k++) {
      int a = read_axis(E, axis->agg.at[k], rank, what, at);
      if (seen[a]) diag_fail(E->d, T_ARGS, at, "axis %d is given twice", a);
      seen[a] = true;
    }
  } else
    seen[read_axis(E, axis, rank, what, at)] = true;
  for (int k = 0; k < rank; k++)
    if (seen[k]) out[n++] = k;
  return n;
}

/* Items of a tuple: scalars or tensors, element by element. */
static Value *reduce_items(Elab *E, const Builtin *self, Call *c, Value *x) {
  static const ScalarOp by[] = {[RED_SUM] = OP_ADD, [RED_PROD] = OP_MUL, [RED_MAX] = OP_MAX,
                                [RED_MIN] = OP_MIN, [RED_ANY] = OP_OR,   [RED_ALL] = OP_AND};
  int n = x->agg.n;
  Reduce op = self->data == MEAN ? RED_SUM : (Reduce)self->data;
  Span at = arg_span(c, x), two[2] = {at, at};
  if (op == RED_ARGMAX || op == RED_ARGMIN) {
    Span *sp = arena_array(E->a, Span, n);
    for (int k = 0; k < n; k++) sp[k] = at;
    if (n == 0) diag_fail(E->d, V_EMPTY, at, "%s over an empty tuple", self->name);
    return reduce_lead(E, op, false, join_stack(E, n, x->agg.at, 0, sp, at), 1, NULL, c->span);
  }
  if (n == 0) {
    if (op == RED_SUM && self->data != MEAN) return v_int(E, 0, NULL);
    if (op == RED_PROD) return v_int(E, 1, NULL);
    if (op == RED_ANY || op == RED_ALL) return v_bool(E, op == RED_ALL);
    diag_fail(E->d, V_EMPTY, at, "%s over an empty tuple", self->name);
  }
  Value *r = x->agg.at[0];
  for (int k = 1; k < n; k++) r = tv_elementwise(E, by[op], 2, (Value *[]){r, x->agg.at[k]}, two, at);
  return self->data == MEAN ? tv_elementwise(E, OP_DIV, 2, (Value *[]){r, v_int(E, n, NULL)}, two, at) : r;
}

static Value *reduce_whole(Elab *E, const Builtin *self, Call *c, Value *x, Value *axis, Value *keepdims) {
  bool keep = keepdims && v_static_bool(E, keepdims, arg_span(c, keepdims), "keepdims");
  if (x->kind == V_TUPLE && !axis) return reduce_items(E, self, c, x);
  x = need_tensor(E, x, c, "its argument");
  int axes[TG_MAX_RANK], perm[TG_MAX_RANK], n = read_axes(E, axis, x->t.rank, v_type_text(E, x), c, axes), at = n;
  bool reduced[TG_MAX_RANK] = {0};
  for (int k = 0; k < n; k++) perm[k] = axes[k], reduced[axes[k]] = true;
  for (int k = 0; k < x->t.rank; k++)
    if (!reduced[k]) perm[at++] = k;
  bool mean = self->data == MEAN;
  Reduce op = mean ? RED_SUM : (Reduce)self->data;
  if ((op == RED_ARGMAX || op == RED_ARGMIN) && n == 0) return v_scalar(E, ex_int(E->g, DT_I64, 0));
  Value *r = reduce_lead(E, op, mean, view_permute(E, x, perm), n, NULL, c->span);
  if (keep)
    for (int k = 0; k < n; k++) r = view_expand(E, r, axes[k], dim_of(1));
  return r;
}

static Value *b_reduce(Elab *E, const Builtin *self, Call *c, Value **b) {
  return reduce_whole(E, self, c, b[0], b[1], b[2]);
}

/* max(x) reduces; max(a, b) is element by element. */
static Value *b_extreme(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *rest = b[1];
  if (!rest->agg.n) return reduce_whole(E, self, c, b[0], b[2], b[3]);
  if (b[2] || b[3])
    diag_fail(E->d, T_ARGS, c->span, "%s of several values is element by element and takes no axis", self->name);
  Value *r = b[0];
  for (int k = 0; k < rest->agg.n; k++) {
    Value *two[2] = {r, rest->agg.at[k]};
    Span at[2] = {k ? c->span : arg_span(c, r), arg_span(c, two[1])};
    r = tv_elementwise(E, self->data == RED_MAX ? OP_MAX : OP_MIN, 2, two, at, c->span);
  }
  return r;
}

Value *scan_last(Elab *E, Value *x, Reduce op, bool reverse, bool exclusive) {
  Index *free[TG_MAX_RANK];
  int nfree = expr_free_union(E, x->t.e, 0, free), n = nfree + x->t.rank;
  if (n > TG_MAX_RANK)
    diag_fail(E->d, S_RANK, E->g->span, "more than %d indices and axes meet in one value", TG_MAX_RANK);
  int64_t extent[TG_MAX_RANK];
  for (int k = 0; k < n; k++) extent[k] = k < nfree ? free[k]->extent : x->t.dim[k - nfree].n;
  for (int k = 0; k < n; k++)
    if (extent[k] < 0) extent[k] = 1;
  Node *s = nd_scan(E->g, n, extent, op, expr_over(E, x->t.e, nfree, free), reverse, exclusive);
  return load_over(E, s, nfree, free, x->t.dim);
}

static Value *b_scan(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *x = need_tensor(E, b[0], c, "its argument");
  if (x->t.rank == 0) diag_fail(E->d, S_RANK, c->span, "%s of a scalar: there is no axis to run along", self->name);
  int axis = b[1] ? read_axis(E, b[1], x->t.rank, v_type_text(E, x), arg_span(c, b[1])) : x->t.rank - 1;
  bool reverse = b[2] && v_static_bool(E, b[2], arg_span(c, b[2]), "reverse");
  Reduce op = (Reduce)self->data;
  DType t = x->t.dtype, work = (op == RED_SUM || op == RED_PROD) && !dt_is_float(t) ? DT_I64 : t;
  if (t == DT_F16 || t == DT_BF16) work = DT_F32;
  if (work == DT_BOOL) diag_fail(E->d, T_TYPE, c->span, "%s of bools", self->name);
  E->g->span = user_span(E, c->span);
  if (work != t) x = tv_cast(E, x, work, c->span);
  Value *r = axis_back(E, scan_last(E, axis_last(E, x, axis), op, reverse, false), axis);
  return dt_is_float(t) && work != t ? tv_cast(E, r, t, c->span) : r;
}

const Builtin builtins_reduce[] = {
    {"sum", "x; axis=, keepdims=", b_reduce,
     "sum(x), sum(x, axis = 0, keepdims = true), sum(e for k if c): the sum; integers and bools give i64; over nothing "
     "0",
     RED_SUM},
    {"prod", "x; axis=, keepdims=", b_reduce, "prod(x), prod(x, axis = 0), prod(e for k): the product; over nothing 1",
     RED_PROD},
    {"mean", "x; axis=, keepdims=", b_reduce,
     "mean(x), mean(x, axis = 0), mean(e for k): the arithmetic mean; f32 for integers; over nothing nan", MEAN},
    {"max", "x, *rest; axis=, keepdims=", b_extreme,
     "max(x), max(x, axis = 0), max(e for k): the largest; nan if any is; max(a, b): element by element", RED_MAX},
    {"min", "x, *rest; axis=, keepdims=", b_extreme,
     "min(x), min(x, axis = 0), min(e for k): the smallest; nan if any is; min(a, b): element by element", RED_MIN},
    {"any", "x; axis=, keepdims=", b_reduce, "any(x), any(x, axis = 0), any(e for k): is some element true (not 0)?",
     RED_ANY},
    {"all", "x; axis=, keepdims=", b_reduce, "all(x), all(x, axis = 0), all(e for k): is every element true (not 0)?",
     RED_ALL},
    {"argmax", "x; axis=, keepdims=", b_reduce,
     "argmax(x, axis = -1), argmax(e for k): the position of the first largest; over several indices a tuple of "
     "positions",
     RED_ARGMAX},
    {"argmin", "x; axis=, keepdims=", b_reduce,
     "argmin(x, axis = -1), argmin(e for k): the position of the first smallest; over several indices a tuple of "
     "positions",
     RED_ARGMIN},
    {"cumsum", "x, axis=-1; reverse=", b_scan,
     "cumsum(x, axis = -1): running sums along an axis; reverse = true runs from the end", RED_SUM},
    {"cumprod", "x, axis=-1; reverse=", b_scan, "cumprod(x, axis = -1): running products along an axis", RED_PROD},
    {"cummax", "x, axis=-1; reverse=", b_scan, "cummax(x, axis = -1): running maxima along an axis", RED_MAX},
    {"cummin", "x, axis=-1; reverse=", b_scan, "cummin(x, axis = -1): running minima along an axis", RED_MIN},
    {0}};
