/* Shapes: reshape, transpose, joining, splitting, padding, moving. Most are views; padding, rolling and triangles are
 * comprehensions. */
#include "lang/builtin.h"
#include "lang/data.h"
#include "lang/space.h"
#include <string.h>

/* x as a tensor that keeps its weakness: views do not decide a dtype. */
static Value *tensor_arg(Elab *E, Value *v, Call *c) {
  if (v->kind == V_TENSOR) return v;
  return need_tensor(E, v, c, "its argument");
}

static const char *text_of(Elab *E, Value *x) { return v_type_text(E, x); }

static Value *reshape_to(Elab *E, Value *x, int rank, Dim *dim, Call *c) {
  int64_t have = 1, want = 1;
  int open = -1;
  bool unknown = false;
  for (int k = 0; k < x->t.rank; k++) {
    unknown |= x->t.dim[k].n < 0;
    if (!unknown && __builtin_mul_overflow(have, x->t.dim[k].n, &have))
      diag_fail(E->d, S_OVERFLOW, c->span, "%s is too large", text_of(E, x));
  }
  for (int k = 0; k < rank; k++) {
    if (dim[k].n == -1) {
      if (open >= 0 && !E->trial) diag_fail(E->d, T_ARGS, c->span, "only one size of reshape can be -1");
      open = k;
      continue;
    }
    if (__builtin_mul_overflow(want, dim[k].n, &want))
      diag_fail(E->d, S_OVERFLOW, c->span, "the new shape is too large");
  }
  bool ok = unknown || (open >= 0 ? want != 0 && have % want == 0 : have == want);
  if (!ok) {
    Diag *g = diag_add(E->d, S_MISMATCH, c->span, "%s has %lld elements; the shape %s has %s%lld", text_of(E, x),
                       (long long)have, shape_text(E, rank, dim), open >= 0 ? "a multiple of " : "", (long long)want);
    note_clash(E, g, (Dim){.n = have}, (Dim){.n = want});
    for (int k = 0; k < x->t.rank; k++) note_origin(E, g, x->t.dim[k]);
    for (int k = 0; k < rank; k++)
      if (dim[k].n != -1) note_origin(E, g, dim[k]);
    elab_fail(E, g);
  }
  if (open >= 0 && !unknown)
    dim[open] =
        (Dim){.n = have / want,
              .from = origin_new(E, NULL, c->span, "%lld is what -1 stands for here", (long long)(have / want))};
  E->g->span = user_span(E, c->span);
  return view_reshape(E, x, rank, dim, c->span);
}

/* read_shape, with one -1. */
static int read_reshape(Elab *E, Value *rest, Call *c, Dim *dim) {
  if (rest->agg.n == 1 && rest->agg.at[0]->kind == V_TUPLE) rest = rest->agg.at[0];
  int n = rest->agg.n;
  Value **at = arena_array(E->a, Value *, n);
  for (int k = 0; k < n; k++) {
    int64_t i;
    at[k] = v_is_static_int(rest->agg.at[k], &i) && i == -1 ? v_int(E, 0, NULL) : rest->agg.at[k];
  }
  read_shape(E, v_tuple(E, n, at), c, dim);
  for (int k = 0; k < n; k++) {
    int64_t i;
    if (v_is_static_int(rest->agg.at[k], &i) && i == -1) dim[k] = dim_of(-1);
  }
  return n;
}

static Value *b_reshape(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *x = tensor_arg(E, b[0], c);
  Dim dim[TG_MAX_RANK];
  int rank = read_reshape(E, b[1], c, dim);
  return reshape_to(E, x, rank, dim, c);
}

/* flatten merges the last three axes; fewer all of them. */
static Value *b_flatten(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *x = tensor_arg(E, b[0], c);
  Dim dim[TG_MAX_RANK];
  int keep = x->t.rank > 3 ? x->t.rank - 3 : 0;
  int64_t n = 1;
  for (int k = 0; k < x->t.rank; k++) {
    if (k < keep)
      dim[k] = x->t.dim[k];
    else if (x->t.dim[k].n < 0 || n < 0)
      n = -1;
    else if (__builtin_mul_overflow(n, x->t.dim[k].n, &n))
      diag_fail(E->d, S_OVERFLOW, c->span, "the merged axis is too large");
  }
  dim[keep] = (Dim){.n = n, .from = origin_new(E, NULL, c->span, "%lld elements are merged here", (long long)n)};
  return view_reshape(E, x, keep + 1, dim, c->span);
}

static Value *b_transpose(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *x = tensor_arg(E, b[0], c), *rest = b[1];
  int perm[TG_MAX_RANK], rank = x->t.rank;
  bool seen[TG_MAX_RANK] = {0};
  if (rest->agg.n == 1 && rest->agg.at[0]->kind == V_TUPLE) rest = rest->agg.at[0];
  if (rest->agg.n == 0) {
    for (int k = 0; k < rank; k++) perm[k] = rank - 1 - k;
    return view_permute(E, x, perm);
  }
  if (rest->agg.n != rank)
    diag_fail(E->d, S_RANK, c->span, "transpose of %s takes its %d axes in the new order, or none", text_of(E, x),
              rank);
  for (int k = 0; k < rank; k++) {
    perm[k] = read_axis(E, rest->agg.at[k], rank, text_of(E, x), arg_span(c, rest->agg.at[k]));
    if (seen[perm[k]]) diag_fail(E->d, T_ARGS, c->span, "axis %d is given twice", perm[k]);
    seen[perm[k]] = true;
  }
  return view_permute(E, x, perm);
}

/* ---- joining and splitting ------------------------------------------------------------------------------------- */

static Value *b_join(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *rest = b[0];
  if (rest->agg.n == 1 && rest->agg.at[0]->kind == V_TUPLE) rest = rest->agg.at[0];
  int axis = b[1] ? (int)v_static_int(E, b[1], arg_span(c, b[1]), "an axis") : 0, n = rest->agg.n;
  Span *at = arena_array(E->a, Span, n);
  for (int k = 0; k < n; k++) at[k] = arg_span(c, rest->agg.at[k]);
  E->g->span = user_span(E, c->span);
  return self->data ? join_stack(E, n, rest->agg.at, axis, at, c->span)
                    : join_concat(E, n, rest->agg.at, axis, at, c->span);
}

/* split(x, 3): three equal parts; split(x, (2, 5)): parts of these sizes. A tuple. */
static Value *b_split(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *x = tensor_arg(E, b[0], c);
  Span ps = arg_span(c, b[1]);
  int axis = b[2] ? read_axis(E, b[2], x->t.rank, text_of(E, x), arg_span(c, b[2])) : 0;
  if (x->t.rank == 0) diag_fail(E->d, S_RANK, c->span, "a scalar can't be split");
  Dim d = x->t.dim[axis];
  int64_t lo = 0;
  if (b[1]->kind == V_TUPLE) {
    int n = b[1]->agg.n;
    Dim part[TG_MAX_RANK];
    Value **out = arena_array(E->a, Value *, n);
    for (int k = 0; k < n; k++) {
      read_shape(E, b[1]->agg.at[k], c, part);
      out[k] = view_slice(E, x, axis, lo, part[0].n, 1, part[0].from);
      if (__builtin_add_overflow(lo, part[0].n, &lo)) diag_fail(E->d, S_OVERFLOW, ps, "these parts are too large");
    }
    if (lo != d.n && d.n >= 0) {
      Diag *g = diag_add(E->d, S_MISMATCH, ps, "these parts have %lld in all, axis %d of %s has %lld", (long long)lo,
                         axis, text_of(E, x), (long long)d.n);
      note_clash(E, g, (Dim){.n = lo}, (Dim){.n = d.n});
      note_origin(E, g, d);
      elab_fail(E, g);
    }
    return v_tuple(E, n, out);
  }
  int64_t n = v_static_int(E, b[1], ps, "the number of parts");
  if (n < 1 || n > 4096) diag_fail(E->d, T_ARGS, ps, "split makes 1 to 4096 parts, not %lld", (long long)n);
  if (d.n >= 0 && d.n % n) {
    Diag *g = diag_add(E->d, S_MISMATCH, ps, "axis %d of %s, of size %lld, has no %lld equal parts", axis,
                       text_of(E, x), (long long)d.n, (long long)n);
    note_clash(E, g, (Dim){.n = d.n}, (Dim){.n = n});
    note_origin(E, g, d);
    elab_fail(E, g);
  }
  int64_t size = d.n < 0 ? -1 : d.n / n;
  const Origin *from = origin_new(E, d.from, c->span, "%lld is one of %lld equal parts", (long long)size, (long long)n);
  Value **out = arena_array(E->a, Value *, n);
  for (int64_t k = 0; k < n; k++) out[k] = view_slice(E, x, axis, size < 0 ? 0 : k * size, size, 1, from);
  return v_tuple(E, (int)n, out);
}

/* ---- padding and moving ---------------------------------------------------------------------------------------- */

static Value *made(Elab *E, Value *x, const Dim *dim, Expr *e, Span at) {
  E->g->span = user_span(E, at);
  tv_check_size(E, x->t.dtype, x->t.rank, dim, at);
  Value *r = v_tensor(E, x->t.dtype, x->t.rank, dim, e);
  r->t.weak = x->t.weak;
  return tv_seal(E, r);
}

/* One width: n for both ends or (lo, hi). */
static void read_width(Elab *E, Value *v, Span at, int64_t *lo, int64_t *hi) {
  if (v->kind == V_TUPLE) {
    if (v->agg.n != 2) diag_fail(E->d, T_ARGS, at, "a width is a number or (before, after), not %s", v_type_text(E, v));
    *lo = v_static_int(E, v->agg.at[0], at, "a width"), *hi = v_static_int(E, v->agg.at[1], at, "a width");
  } else
    *lo = *hi = v_static_int(E, v, at, "a width");
  if (*lo < 0 || *hi < 0) diag_fail(E->d, S_NEGATIVE, at, "a width of padding is 0 or more");
}

static Value *b_pad(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *x = tv_harden(E, tensor_arg(E, b[0], c), c->span);
  int rank = x->t.rank;
  Span at = arg_span(c, b[1]);
  int64_t lo[TG_MAX_RANK] = {0}, hi[TG_MAX_RANK] = {0};
  bool pairs = b[1]->kind == V_TUPLE && b[1]->agg.n && b[1]->agg.at[0]->kind == V_TUPLE;
  bool some[TG_MAX_RANK] = {0};
  if (b[2]) {
    Value *axes = b[2]->kind == V_TUPLE ? b[2] : v_tuple(E, 1, &b[2]);
    if (pairs && b[1]->agg.n != axes->agg.n)
      diag_fail(E->d, T_ARGS, at, "%d widths for %d axes", b[1]->agg.n, axes->agg.n);
    for (int k = 0; k < axes->agg.n; k++) {
      int a = read_axis(E, axes->agg.at[k], rank, text_of(E, x), arg_span(c, b[2]));
      some[a] = true;
      read_width(E, pairs ? b[1]->agg.at[k] : b[1], at, &lo[a], &hi[a]);
    }
  } else {
    if (pairs && b[1]->agg.n != rank)
      diag_fail(E->d, T_ARGS, at, "%d widths for the %d axes of %s", b[1]->agg.n, rank, text_of(E, x));
    for (int a = 0; a < rank; a++) some[a] = true, read_width(E, pairs ? b[1]->agg.at[a] : b[1], at, &lo[a], &hi[a]);
  }
  Graph *g = E->g;
  Expr *by[TG_MAX_RANK], *in = NULL;
  Dim dim[TG_MAX_RANK];
  for (int a = 0; a < rank; a++) {
    by[a] = ex_iter(g, a), dim[a] = x->t.dim[a];
    if (!some[a] || (!lo[a] && !hi[a])) continue;
    int64_t n = dim[a].n, total;
    by[a] = ex_op2(g, OP_SUB, by[a], ex_int(g, DT_I64, lo[a]));
    if (lo[a]) in = ex_and(g, in, ex_op2(g, OP_GE, ex_iter(g, a), ex_int(g, DT_I64, lo[a])));
    if (n < 0) continue;
    if (__builtin_add_overflow(n, lo[a], &total) || __builtin_add_overflow(total, hi[a], &total))
      diag_fail(E->d, S_OVERFLOW, at, "this padding is too large");
    if (hi[a]) in = ex_and(g, in, ex_op2(g, OP_LT, ex_iter(g, a), ex_int(g, DT_I64, n + lo[a])));
    dim[a] = (Dim){.n = total,
                   .from = origin_new(E, dim[a].from, c->span, "%lld after padding by %lld and %lld", (long long)total,
                                      (long long)lo[a], (long long)hi[a])};
  }
  if (!in) return x;
  Expr *e = ex_under(g, rank ? ex_subst_iters(g, x->t.e, rank, by) : x->t.e, in);
  Value *fill = b[3] ? tv_cast(E, b[3], x->t.dtype, arg_span(c, b[3])) : NULL;
  if (fill && fill->t.rank) diag_fail(E->d, S_RANK, arg_span(c, b[3]), "padding takes a scalar value");
  e = ex_select(g, in, e, fill ? fill->t.e : ex_zero(E, x->t.dtype));
  Value *r = made(E, x, dim, e, c->span);
  if (r->t.e->kind != EX_LOAD || !r->t.e->mask) return r;
  /* the padded tensor is a node of its own, so that what reads it reads unmasked */
  Index *free[TG_MAX_RANK];
  int nfree;
  Node *n = tv_node(E, r, &nfree, free);
  return load_over(E, n, nfree, free, dim);
}

/* repeat: each element n times in a row (NumPy's); tile: the whole n times. */
static Value *b_repeat(Elab *E, const Builtin *self, Call *c, Value **b) {
  if (b[0]->kind == V_DATA && !b[2])
    return data_repeated(E, b[0], b[1] ? v_static_int(E, b[1], arg_span(c, b[1]), "a count") : -1, c->span);
  if (!b[1]) diag_fail(E->d, T_ARGS, c->span, "%s needs a count", self->name);
  Value *x = tensor_arg(E, b[0], c);
  int64_t n = v_static_int(E, b[1], arg_span(c, b[1]), "a count"), total;
  if (n < 0) diag_fail(E->d, S_NEGATIVE, arg_span(c, b[1]), "a count is 0 or more");
  if (x->t.rank == 0) x = view_expand(E, x, 0, dim_of(1));
  int axis = b[2] ? read_axis(E, b[2], x->t.rank, text_of(E, x), arg_span(c, b[2])) : 0, rank = x->t.rank;
  if (!b[2] && rank > 1) diag_fail(E->d, T_ARGS, c->span, "%s of %s needs axis =", self->name, text_of(E, x));
  Dim dim[TG_MAX_RANK], d = x->t.dim[axis];
  memcpy(dim, x->t.dim, sizeof *dim * (size_t)rank);
  if (__builtin_mul_overflow(d.n < 0 ? 0 : d.n, n, &total))
    diag_fail(E->d, S_OVERFLOW, c->span, "the result is too large");
  dim[axis] = (Dim){.n = d.n < 0 ? -1 : total,
                    .from = origin_new(E, d.from, c->span, "%lld repeated %lld times", (long long)d.n, (long long)n)};
  Graph *g = E->g;
  Expr *by[TG_MAX_RANK];
  for (int a = 0; a < rank; a++) by[a] = ex_iter(g, a);
  if (total == 0)
    by[axis] = ex_int(g, DT_I64, 0);
  else
    by[axis] = ex_op2(g, self->data ? OP_MOD : OP_FLOORDIV, by[axis], ex_int(g, DT_I64, self->data ? d.n : n));
  return made(E, x, dim, total == 0 && d.n >= 0 ? ex_zero(E, x->t.dtype) : ex_subst_iters(g, x->t.e, rank, by),
              c->span);
}

static Value *b_roll(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *x = tensor_arg(E, b[0], c);
  int rank = x->t.rank, axis = b[2] ? read_axis(E, b[2], rank, text_of(E, x), arg_span(c, b[2])) : 0;
  if (rank == 0) diag_fail(E->d, S_RANK, c->span, "a scalar can't be rolled");
  if (!b[2] && rank > 1) diag_fail(E->d, T_ARGS, c->span, "roll of %s needs axis =", text_of(E, x));
  int64_t n = x->t.dim[axis].n, k;
  if (n <= 0) return x;
  Span ks = arg_span(c, b[1]);
  Graph *g = E->g;
  Expr *by[TG_MAX_RANK], *shift;
  if (v_is_static_int(b[1], &k))
    shift = ex_int(g, DT_I64, k % n);
  else {
    if (b[1]->kind != V_TENSOR || b[1]->t.rank || !dt_is_int(b[1]->t.dtype))
      diag_fail(E->d, T_TYPE, ks, "roll shifts by an integer, not by %s", text_of(E, b[1]));
    shift = ex_op2(g, OP_MOD, ex_cast(g, DT_I64, b[1]->t.e), ex_int(g, DT_I64, n));
  }
  for (int a = 0; a < rank; a++) by[a] = ex_iter(g, a);
  by[axis] = ex_op2(g, OP_MOD, ex_op2(g, OP_SUB, by[axis], shift), ex_int(g, DT_I64, n));
  return made(E, x, x->t.dim, ex_subst_iters(g, x->t.e, rank, by), c->span);
}

static Value *b_flip(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *x = tensor_arg(E, b[0], c);
  for (int a = 0; a < x->t.rank; a++) {
    bool hit = !b[1];
    Value *axes = !b[1] ? NULL : b[1]->kind == V_TUPLE ? b[1] : v_tuple(E, 1, &b[1]);
    for (int k = 0; axes && k < axes->agg.n; k++)
      hit |= read_axis(E, axes->agg.at[k], x->t.rank, text_of(E, x), arg_span(c, b[1])) == a;
    Dim d = x->t.dim[a];
    if (hit && d.n > 0) {
      x = view_slice(E, x, a, d.n - 1, d.n, -1, d.from);
      x->t.dim[a] = d;
    }
  }
  return x;
}

static Value *b_triangle(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *x = tensor_arg(E, b[0], c);
  int rank = x->t.rank;
  if (rank < 2) diag_fail(E->d, S_RANK, c->span, "%s takes matrices, not %s", self->name, text_of(E, x));
  int64_t k = b[1] ? v_static_int(E, b[1], arg_span(c, b[1]), "a diagonal") : 0;
  Graph *g = E->g;
  Expr *edge = ex_op2(g, OP_ADD, ex_iter(g, rank - 2), ex_int(g, DT_I64, k));
  Expr *in = ex_op2(g, self->data ? OP_GE : OP_LE, ex_iter(g, rank - 1), edge);
  return made(E, x, x->t.dim, ex_select(g, in, x->t.e, ex_zero(E, x->t.dtype)), c->span);
}

/* diag of a vector is a matrix; of a matrix its diagonal. */
static Value *b_diag(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *x = tensor_arg(E, b[0], c);
  Graph *g = E->g;
  if (x->t.rank == 2) {
    Dim d = x->t.dim[0].n <= x->t.dim[1].n ? x->t.dim[0] : x->t.dim[1];
    Expr *by[2] = {ex_iter(g, 0), ex_iter(g, 0)};
    Value *r = v_tensor(E, x->t.dtype, 1, &d, ex_subst_iters(g, x->t.e, 2, by));
    r->t.weak = x->t.weak;
    return r;
  }
  if (x->t.rank != 1) diag_fail(E->d, S_RANK, c->span, "diag takes a vector or a matrix, not %s", text_of(E, x));
  Value *wide = view_expand(E, x, 1, x->t.dim[0]);
  Expr *on = ex_op2(g, OP_EQ, ex_iter(g, 0), ex_iter(g, 1));
  return made(E, wide, wide->t.dim, ex_select(g, on, wide->t.e, ex_zero(E, x->t.dtype)), c->span);
}

/* take(x, n), skip(x, n): the first n rows, the rows after them; of tuples too. */
static Value *b_part(Elab *E, const Builtin *self, Call *c, Value **b) {
  int64_t k = v_static_int(E, b[1], arg_span(c, b[1]), "a count");
  if (k < 0) diag_fail(E->d, S_NEGATIVE, arg_span(c, b[1]), "a count is 0 or more");
  if (b[0]->kind == V_DATA) return data_part(E, b[0], k, self->data != 0, c->span);
  if (b[0]->kind == V_TUPLE) {
    int n = b[0]->agg.n, m = k < n ? (int)k : n;
    return self->data ? v_tuple(E, n - m, b[0]->agg.at + m) : v_tuple(E, m, b[0]->agg.at);
  }
  Value *x = tensor_arg(E, b[0], c);
  if (x->t.rank == 0) diag_fail(E->d, S_RANK, c->span, "a scalar has no rows");
  Dim d = x->t.dim[0];
  if (d.n < 0) return view_slice(E, x, 0, 0, -1, 1, d.from);
  int64_t m = k < d.n ? k : d.n, n = self->data ? d.n - m : m;
  return view_slice(E, x, 0, self->data ? m : 0, n, 1,
                    origin_new(E, d.from, c->span, "%lld of %lld rows are taken here", (long long)n, (long long)d.n));
}

const Builtin builtins_shape[] = {
    {"reshape", "x, *size", b_reshape,
     "x.reshape(2, 3), x.reshape(n, -1): the same elements, row-major, in another shape", 0},
    {"flatten", "x", b_flatten, "the last three axes of x merged into one; of fewer axes, all", 0},
    {"transpose", "x, *axes", b_transpose,
     "x.transpose(1, 0, 2): the axes in another order; without axes reversed. x.t swaps the last two", 0},
    {"concat", "*xs; axis=0", b_join, "concat(a, b, axis = 0): joined along an axis; also of one tuple", 0},
    {"stack", "*xs; axis=0", b_join, "stack(a, b, axis = 0): joined along a new axis; also of one tuple", 1},
    {"split", "x, parts; axis=0", b_split,
     "split(x, 3, axis = 0): a tuple of equal parts; split(x, (2, 5)): parts of these sizes", 0},
    {"pad", "x, width; axis=, value=0", b_pad,
     "pad(x, 1), pad(x, (0, 2), axis = -1), pad(x, ((1, 1), (0, 2))): x with value (0) around it", 0},
    {"repeat", "x, n=; axis=", b_repeat,
     "repeat(x, n, axis = 0): each element n times in a row; of a data set: its rows n times over, without n for ever",
     0},
    {"tile", "x, n; axis=", b_repeat, "tile(x, n, axis = 0): the whole n times", 1},
    {"roll", "x, k; axis=", b_roll,
     "roll(x, k, axis = 0): moved by k places; what leaves at one end enters at the other", 0},
    {"flip", "x; axis=", b_flip, "flip(x, axis = 0): in reverse order along an axis, a tuple of axes, or all", 0},
    {"tril", "x, k=0", b_triangle, "the lower triangle of matrices (column <= row + k), zeros elsewhere", 0},
    {"triu", "x, k=0", b_triangle, "the upper triangle of matrices (column >= row + k), zeros elsewhere", 1},
    {"diag", "x", b_diag, "diag(v): the matrix with diagonal v; diag(a): the diagonal of a", 0},
    {"take", "x, n", b_part, "take(x, n): the first n rows of x, items of a tuple, rows or batches of a data set", 0},
    {"skip", "x, n", b_part, "skip(x, n): x without its first n rows, items or batches", 1},
    {0}};
