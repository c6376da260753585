/* Order: sort, argsort, topk, by the natives sort and argsort along the last axis. */
#include "lang/builtin.h"
#include "lang/space.h"

Value *sorted(Elab *E, Value *x, const char *native, bool descending, Span at) {
  Attr attr = {.i = descending, .f = descending};
  bool arg = native[0] == 'a';
  DType t = arg ? DT_I64 : x->t.dtype;
  int rank = x->t.rank;
  Dim dim[1][TG_MAX_RANK];
  for (int a = 0; a < rank; a++) dim[0][a] = x->t.dim[a];
  return call_native(E, native, 1, &attr, 1, &x, 1, &t, &rank, (const Dim(*)[TG_MAX_RANK])dim, at);
}

static Value *vector_arg(Elab *E, Value **b, Call *c, int *axis) {
  Value *x = need_tensor(E, b[0], c, "its argument");
  if (x->t.rank == 0) diag_fail(E->d, S_RANK, c->span, "a scalar has no order");
  *axis = b[1] ? read_axis(E, b[1], x->t.rank, v_type_text(E, x), arg_span(c, b[1])) : x->t.rank - 1;
  return x;
}

static Value *b_sort(Elab *E, const Builtin *self, Call *c, Value **b) {
  int axis;
  Value *x = vector_arg(E, b, c, &axis);
  bool down = b[2] && v_static_bool(E, b[2], arg_span(c, b[2]), "descending");
  return axis_back(E, sorted(E, axis_last(E, x, axis), self->name, down, c->span), axis);
}

/* topk(x, k): the k largest along an axis, largest first, and their positions. */
static Value *b_topk(Elab *E, const Builtin *self, Call *c, Value **b) {
  int axis;
  Value *x = vector_arg(E, (Value *[]){b[0], b[2]}, c, &axis);
  int64_t k = v_static_int(E, b[1], arg_span(c, b[1]), "k");
  Dim d = x->t.dim[axis];
  if (k < 0 || (d.n >= 0 && k > d.n)) {
    Diag *g = diag_add(E->d, S_MISMATCH, arg_span(c, b[1]), "topk takes %lld of %lld", (long long)k, (long long)d.n);
    note_origin(E, g, d);
    elab_fail(E, g);
  }
  Value *y = axis_last(E, x, axis);
  int last = y->t.rank - 1;
  const Origin *from = origin_new(E, NULL, c->span, "the %lld largest are taken here", (long long)k);
  Value *at = view_slice(E, sorted(E, y, "argsort", true, c->span), last, 0, k, 1, from);
  Expr *by[TG_MAX_RANK];
  for (int a = 0; a < last; a++) by[a] = ex_iter(E->g, a);
  by[last] = at->t.e;
  Value *v = v_tensor(E, y->t.dtype, y->t.rank, at->t.dim, ex_subst_iters(E->g, y->t.e, y->t.rank, by));
  Value *pair[2] = {axis_back(E, v, axis), axis_back(E, at, axis)};
  return v_tuple(E, 2, pair);
}

const Builtin builtins_order[] = {
    {"sort", "x, axis=-1; descending=false", b_sort, "sort(x, axis = -1): in ascending order along an axis, nan last",
     0},
    {"argsort", "x, axis=-1; descending=false", b_sort,
     "argsort(x, axis = -1): the positions that sort x; equal elements keep their order", 0},
    {"topk", "x, k; axis=-1", b_topk, "v, i = topk(x, k, axis = -1): the k largest, largest first, and their positions",
     0},
    {0}};
