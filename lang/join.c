/* Joining: pieces stacked along a new axis or concatenated along an old one, as one comprehension that selects the
 * piece.
 *
 * The choice is a balanced tree of comparisons on the axis's iterator, so n pieces cost log n selects an element. Loads
 * of a concatenated piece are masked to its part of the axis, outside of which their subscripts leave the piece. */
#include "lang/model.h"
#include "lang/space.h"
#include <string.h>

/* Pieces [lo, hi): piece k answers for start[k] <= ITER axis < start[k + 1]. */
static Expr *choose(Elab *E, int axis, int lo, int hi, Expr *const *e, const int64_t *start, bool mask, Expr *path) {
  if (hi - lo == 1) return mask ? ex_under(E->g, e[lo], path) : e[lo];
  int mid = (lo + hi) / 2;
  Expr *left = ex_op2(E->g, OP_LT, ex_iter(E->g, axis), ex_int(E->g, DT_I64, start[mid]));
  Expr *right = ex_op2(E->g, OP_GE, ex_iter(E->g, axis), ex_int(E->g, DT_I64, start[mid]));
  Expr *a = choose(E, axis, lo, mid, e, start, mask, ex_and(E->g, path, left));
  Expr *b = choose(E, axis, mid, hi, e, start, mask, ex_and(E->g, path, right));
  return ex_select(E->g, left, a, b);
}

static Value *joined(Elab *E, DType t, bool weak, int rank, const Dim *dim, Expr *e) {
  Value *v = v_tensor(E, t, rank, dim, e);
  v->t.weak = weak;
  return tv_seal(E, v);
}

/* Structures of tensors join leaf by leaf. */
static Value *join_agg(Elab *E, int n, Value **piece, int axis, const Span *at, Span whole,
                       Value *(*join)(Elab *, int, Value **, int, const Span *, Span)) {
  Value *first = piece[0];
  Value **kid = arena_array(E->a, Value *, first->agg.n), **row = arena_array(E->a, Value *, n);
  for (int k = 1; k < n; k++)
    if (!same_structure(first, piece[k]))
      diag_fail(E->d, T_TYPE, at[k], "%s can't be joined with %s: another structure", v_type_text(E, piece[k]),
                v_type_text(E, first));
  for (int j = 0; j < first->agg.n; j++) {
    for (int k = 0; k < n; k++) row[k] = piece[k]->agg.at[j];
    kid[j] = join(E, n, row, axis, at, whole);
  }
  return first->kind == V_RECORD ? v_record(E, first->agg.n, first->agg.key, kid) : v_tuple(E, first->agg.n, kid);
}

bool pieces_stack(Elab *E, int n, Value *const *v) {
  Num num;
  if (n == 0) return false;
  if (v[0]->kind == V_MODEL) return model_pieces_stack(E, n, v);
  if (v[0]->kind == V_TUPLE || v[0]->kind == V_RECORD) {
    for (int k = 1; k < n; k++)
      if (!same_structure(v[0], v[k])) return false;
    Value **col = arena_array(E->a, Value *, n);
    for (int j = 0; j < v[0]->agg.n; j++) {
      for (int k = 0; k < n; k++) col[k] = v[k]->agg.at[j];
      if (!pieces_stack(E, n, col)) return false;
    }
    return true;
  }
  for (int k = 0; k < n; k++) {
    if (v[k]->kind != V_TENSOR && !v_num(v[k], &num)) return false;
    int r0 = v[0]->kind == V_TENSOR ? v[0]->t.rank : 0, r = v[k]->kind == V_TENSOR ? v[k]->t.rank : 0;
    if (r != r0) return false;
    for (int a = 0; a < r; a++)
      if (v[k]->t.dim[a].n != v[0]->t.dim[a].n && v[k]->t.dim[a].n >= 0 && v[0]->t.dim[a].n >= 0) return false;
  }
  return true;
}

static bool all_weak(int n, Value *const *piece) {
  for (int k = 0; k < n; k++)
    if (piece[k]->kind != V_NUM && !(piece[k]->kind == V_TENSOR && piece[k]->t.weak)) return false;
  return true;
}

static void as_tensors(Elab *E, int n, Value **piece, const Span *at, const char *what) {
  for (int k = 0; k < n; k++) {
    Num num;
    if (piece[k]->kind == V_TENSOR || v_num(piece[k], &num)) continue;
    TensorV *t = v_as_tensor(E, piece[k], at[k], what);
    piece[k] = v_tensor(E, t->dtype, t->rank, t->dim, t->e);
  }
}

static int rank_of(const Value *v) { return v->kind == V_TENSOR ? v->t.rank : 0; }

static DType join_dtype(Elab *E, int n, Value **piece, const Span *at) {
  if (!all_weak(n, piece)) return tv_join(E, n, piece, at, false);
  for (int k = 0; k < n; k++)
    if (piece[k]->kind == V_NUM ? piece[k]->num.is_float : dt_is_float(piece[k]->t.dtype)) return DT_F64;
  return DT_I64;
}

Value *join_stack(Elab *E, int n, Value **piece, int axis, const Span *at, Span whole) {
  if (n == 0) diag_fail(E->d, T_TYPE, whole, "nothing to stack: the shape and dtype of an empty stack are unknown");
  if (piece[0]->kind == V_TUPLE || piece[0]->kind == V_RECORD)
    return join_agg(E, n, piece, axis, at, whole, join_stack);
  if (piece[0]->kind == V_MODEL && axis == 0) return model_join(E, n, piece, at, whole);
  piece = arena_copy(E->a, piece, sizeof *piece * (size_t)n);
  as_tensors(E, n, piece, at, "a stacked value");
  int rank = rank_of(piece[0]);
  if (axis < 0) axis += rank + 1;
  if (axis < 0 || axis > rank) diag_fail(E->d, S_RANK, whole, "a stack of rank %d has no axis %d", rank + 1, axis);
  if (rank == TG_MAX_RANK) diag_fail(E->d, S_RANK, whole, "more than %d axes", TG_MAX_RANK);
  Num *num = arena_array(E->a, Num, n);
  bool fixed = true;
  for (int k = 0; k < n && fixed; k++) fixed = v_num(piece[k], &num[k]);
  Dim lead = {.n = n, .from = origin_new(E, NULL, whole, "%d pieces stacked here", n)};
  if (fixed) return num_list(E, 1, &lead, n, num);
  Dim dim[TG_MAX_RANK + 1];
  for (int a = 0; a < rank; a++) dim[a + (a >= axis)] = piece[0]->t.dim[a];
  dim[axis] = lead;
  for (int k = 1; k < n; k++) {
    bool ok = rank_of(piece[k]) == rank;
    for (int a = 0; a < rank && ok; a++) {
      Dim d = piece[k]->t.dim[a], *to = &dim[a + (a >= axis)];
      if (to->n < 0) *to = d;
      ok = d.n < 0 || d.n == to->n;
    }
    if (ok) continue;
    Diag *g = diag_add(E->d, S_MISMATCH, at[k], "stacked tensors have one shape: %s is not %s",
                       v_type_text(E, piece[k]), v_type_text(E, piece[0]));
    diag_note(E->d, g, at[0], "this is %s", v_type_text(E, piece[0]));
    elab_fail(E, g);
  }
  bool weak = all_weak(n, piece);
  DType t = join_dtype(E, n, piece, at);
  Expr **e = arena_array(E->a, Expr *, n), *by[TG_MAX_RANK];
  int64_t *start = arena_array(E->a, int64_t, n + 1);
  for (int a = 0; a < rank; a++) by[a] = ex_iter(E->g, a + (a >= axis));
  Dim own[TG_MAX_RANK];
  for (int a = 0; a < rank; a++) own[a] = dim[a + (a >= axis)];
  for (int k = 0; k < n; k++) {
    e[k] = tv_at(E, piece[k], t, rank, own, at[k]);
    if (rank) e[k] = ex_subst_iters(E->g, e[k], rank, by);
    start[k] = k;
  }
  return joined(E, t, weak, rank + 1, dim, choose(E, axis, 0, n, e, start, false, NULL));
}

Value *join_concat(Elab *E, int n, Value **piece, int axis, const Span *at, Span whole) {
  if (n == 0) diag_fail(E->d, T_TYPE, whole, "nothing to concatenate");
  if (piece[0]->kind == V_TUPLE || piece[0]->kind == V_RECORD)
    return join_agg(E, n, piece, axis, at, whole, join_concat);
  piece = arena_copy(E->a, piece, sizeof *piece * (size_t)n);
  as_tensors(E, n, piece, at, "a concatenated value");
  int rank = rank_of(piece[0]);
  if (rank == 0) {
    Diag *g = diag_add(E->d, S_RANK, at[0], "a scalar has no axis to concatenate along");
    diag_help(E->d, g, "stack(...) makes a new axis");
    elab_fail(E, g);
  }
  if (axis < 0) axis += rank;
  if (axis < 0 || axis >= rank) diag_fail(E->d, S_RANK, whole, "%s has no axis %d", v_type_text(E, piece[0]), axis);
  Dim dim[TG_MAX_RANK];
  memcpy(dim, piece[0]->t.dim, sizeof *dim * (size_t)rank);
  int64_t *start = arena_array(E->a, int64_t, n + 1), total = 0;
  bool unknown = false;
  for (int k = 0; k < n; k++) {
    bool ok = rank_of(piece[k]) == rank;
    for (int a = 0; a < rank && ok; a++) {
      Dim d = piece[k]->t.dim[a];
      if (a == axis) continue;
      if (dim[a].n < 0) dim[a] = d;
      ok = d.n < 0 || d.n == dim[a].n;
    }
    if (!ok) {
      Diag *g = diag_add(E->d, S_MISMATCH, at[k],
                         "concatenated tensors agree in all axes but axis %d: %s does not go with %s", axis,
                         v_type_text(E, piece[k]), v_type_text(E, piece[0]));
      diag_note(E->d, g, at[0], "this is %s", v_type_text(E, piece[0]));
      elab_fail(E, g);
    }
    int64_t d = piece[k]->t.dim[axis].n;
    unknown |= d < 0;
    start[k] = total;
    if (!unknown && __builtin_add_overflow(total, d, &total))
      diag_fail(E->d, S_OVERFLOW, whole, "the result is too large");
  }
  start[n] = total;
  dim[axis] = (Dim){.n = unknown ? -1 : total,
                    .from = origin_new(E, NULL, whole, "%lld after concatenating here", (long long)total)};
  bool weak = all_weak(n, piece);
  DType t = join_dtype(E, n, piece, at);
  Expr **e = arena_array(E->a, Expr *, n), *by[TG_MAX_RANK];
  int64_t *from = arena_array(E->a, int64_t, n + 1);
  int m = 0;
  for (int k = 0; k < n; k++) {
    if (piece[k]->t.dim[axis].n == 0 && n > 1 && !(m == 0 && k == n - 1))
      continue; /* an empty piece answers for nothing */
    Expr *x = tv_at(E, piece[k], t, rank, piece[k]->t.dim, at[k]);
    for (int a = 0; a < rank; a++) by[a] = ex_iter(E->g, a);
    int64_t one = 1;
    by[axis] = ex_lin(E->g, -start[k], 1, &one, &by[axis]);
    from[m] = start[k];
    e[m++] = ex_subst_iters(E->g, x, rank, by);
  }
  return joined(E, t, weak, rank, dim, choose(E, axis, 0, m, e, from, true, NULL));
}
