/* Tensors from sizes, and from other tensors' shapes: zeros, full, eye, onehot, linspace. */
#include "lang/builtin.h"
#include "lang/model.h"
#include "lang/space.h"
#include <string.h>

static DType dtype_arg(Elab *E, Value *v, Call *c, DType otherwise) {
  if (!v) return otherwise;
  if (v->kind != V_DTYPE)
    diag_fail(E->d, T_TYPE, arg_span(c, v), "dtype = takes a dtype such as f64, not %s", v_type_text(E, v));
  return v->dtype;
}

static Expr *one_of(Elab *E, DType t) { return t == DT_BOOL ? ex_bool(E->g, true) : ex_num(E->g, t, 1); }

static Value *made(Elab *E, DType t, int rank, const Dim *dim, Expr *e, Span at) {
  E->g->span = user_span(E, at);
  tv_check_size(E, t, rank, dim, at);
  return tv_seal(E, v_tensor(E, t, rank, dim, e));
}

static Value *b_zeros(Elab *E, const Builtin *self, Call *c, Value **b) {
  Dim dim[TG_MAX_RANK];
  int rank = read_shape(E, b[0], c, dim);
  DType t = dtype_arg(E, b[1], c, DT_F32);
  return made(E, t, rank, dim, self->data ? one_of(E, t) : ex_zero(E, t), c->span);
}

typedef struct Like {
  bool one, has_t;
  DType t;
  Span at;
} Like;
static Value *like(Elab *E, Value *x, bool one, DType t, bool has_t, Span at);

static Value *like_param(Elab *E, void *ctx, int n, Value **arg) {
  const Like *l = ctx;
  (void)n;
  return like(E, arg[0], l->one, l->t, l->has_t, l->at);
}

/* Of a model: its parameters alone, as its gradient is. */
static Value *like(Elab *E, Value *x, bool one, DType t, bool has_t, Span at) {
  if (x->kind == V_MODEL) {
    Value *bare = v_bare(E, x);
    return model_arith(E, 1, &bare, &at, at, "zeros_like", like_param, &(Like){one, has_t, t, at});
  }
  if (x->kind == V_TUPLE || x->kind == V_RECORD) {
    Value **kid = arena_array(E->a, Value *, x->agg.n);
    for (int k = 0; k < x->agg.n; k++) kid[k] = like(E, x->agg.at[k], one, t, has_t, at);
    return x->kind == V_TUPLE ? v_tuple(E, x->agg.n, kid) : v_record(E, x->agg.n, x->agg.key, kid);
  }
  if (x->kind == V_NUM && !has_t) return x->num.is_float ? v_float(E, one) : v_int(E, one, NULL);
  TensorV *v = v_as_tensor(E, x, at, "what is imitated");
  if (!has_t) t = v->dtype;
  Value *r = made(E, t, v->rank, v->dim, one ? one_of(E, t) : ex_zero(E, t), at);
  r->t.weak = v->weak && !has_t;
  return r;
}
static Value *b_like(Elab *E, const Builtin *self, Call *c, Value **b) {
  return like(E, b[0], self->data, dtype_arg(E, b[1], c, DT_F32), b[1] != NULL, arg_span(c, b[0]));
}

static Value *b_full(Elab *E, const Builtin *self, Call *c, Value **b) {
  Dim dim[TG_MAX_RANK];
  int rank = read_shape(E, b[0], c, dim);
  Span at = arg_span(c, b[1]);
  Num num;
  DType t;
  Value *v = b[1];
  if (v_num(v, &num))
    t = dtype_arg(E, b[2], c, num.is_bool ? DT_BOOL : num.is_float ? DT_F32 : DT_I64);
  else {
    v = tv_harden(E, v, at);
    if (v->kind != V_TENSOR || v->t.rank)
      diag_fail(E->d, T_TYPE, at, "full(size, value) takes a scalar value, not %s", v_type_text(E, v));
    t = dtype_arg(E, b[2], c, v->t.dtype);
    v = tv_cast(E, v, t, at);
  }
  return made(E, t, rank, dim, tv_at(E, v, t, 0, NULL, at), c->span);
}

static Value *b_eye(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *size[2] = {b[0], b[1] ? b[1] : b[0]};
  Dim dim[TG_MAX_RANK];
  read_shape(E, v_tuple(E, 2, size), c, dim);
  DType t = dtype_arg(E, b[2], c, DT_F32);
  Expr *on = ex_op2(E->g, OP_EQ, ex_iter(E->g, 0), ex_iter(E->g, 1));
  return made(E, t, 2, dim, ex_select(E->g, on, one_of(E, t), ex_zero(E, t)), c->span);
}

/* onehot(i, n): a new last axis of n, 1 at i. Out of range gives zeros. */
static Value *b_onehot(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *x = need_tensor(E, b[0], c, "the positions");
  Dim dim[TG_MAX_RANK + 1], last[TG_MAX_RANK];
  if (!dt_is_int(x->t.dtype))
    diag_fail(E->d, T_TYPE, arg_span(c, b[0]), "onehot takes integers, not %s", v_type_text(E, x));
  if (x->t.rank == TG_MAX_RANK) diag_fail(E->d, S_RANK, c->span, "more than %d axes", TG_MAX_RANK);
  read_shape(E, b[1], c, last);
  memcpy(dim, x->t.dim, sizeof *dim * (size_t)x->t.rank);
  dim[x->t.rank] = last[0];
  DType t = dtype_arg(E, b[2], c, DT_F32);
  Expr *on = ex_op2(E->g, OP_EQ, ex_cast(E->g, DT_I64, x->t.e), ex_iter(E->g, x->t.rank));
  return made(E, t, x->t.rank + 1, dim, ex_select(E->g, on, one_of(E, t), ex_zero(E, t)), c->span);
}

/* linspace(a, b, n): n numbers from a to b, both included. */
static Value *b_linspace(Elab *E, const Builtin *self, Call *c, Value **b) {
  DType t = dtype_arg(E, b[3], c, DT_F32);
  if (!dt_is_float(t)) diag_fail(E->d, T_TYPE, arg_span(c, b[3]), "linspace gives floats, not %s", dt_name(t));
  double lo = v_static_num(E, b[0], arg_span(c, b[0]), "the first number"),
         hi = v_static_num(E, b[1], arg_span(c, b[1]), "the last number");
  Dim dim[TG_MAX_RANK];
  read_shape(E, b[2], c, dim);
  Graph *g = E->g;
  double step = dim[0].n > 1 ? (hi - lo) / (double)(dim[0].n - 1) : 0;
  Expr *i = ex_iter(g, 0), *e = ex_op2(g, OP_ADD, ex_float(g, DT_F64, lo),
                                       ex_op2(g, OP_MUL, ex_cast(g, DT_F64, i), ex_float(g, DT_F64, step)));
  if (dim[0].n > 1) e = ex_select(g, ex_op2(g, OP_EQ, i, ex_int(g, DT_I64, dim[0].n - 1)), ex_float(g, DT_F64, hi), e);
  return made(E, t, 1, dim, ex_cast(g, t, e), c->span);
}

const Builtin builtins_make[] = {
    {"zeros", "*size; dtype=", b_zeros, "zeros(2, 3), zeros(x.shape): a tensor of zeros; dtype = f32 by default", 0},
    {"ones", "*size; dtype=", b_zeros, "ones(2, 3), ones(x.shape): a tensor of ones; dtype = f32 by default", 1},
    {"full", "size, value; dtype=", b_full, "full((2, 3), value): a tensor whose every element is value", 0},
    {"zeros_like", "x; dtype=", b_like,
     "zeros of the shape and dtype of x; records and tuples item by item, models by parameter", 0},
    {"ones_like", "x; dtype=", b_like,
     "ones of the shape and dtype of x; records and tuples item by item, models by parameter", 1},
    {"eye", "n, m=; dtype=", b_eye, "eye(n), eye(n, m): ones on the diagonal, zeros elsewhere", 0},
    {"onehot", "i, n; dtype=", b_onehot, "onehot(i, n): a new last axis of size n that is 1 at position i, 0 elsewhere",
     0},
    {"linspace", "a, b, n; dtype=", b_linspace, "linspace(a, b, n): n numbers from a to b, both included", 0},
    {0}};
