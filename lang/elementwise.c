/* Element-wise scalar operations on any values: static folding, records and tuples leaf by leaf, tensors by
 * broadcasting. */
#include "lang/fold.h"
#include "lang/model.h"
#include <string.h>

static bool is_agg(const Value *v) { return v->kind == V_TUPLE || v->kind == V_RECORD; }
static bool is_numeric(const Value *v) {
  return v->kind == V_NUM || v->kind == V_BOOL || v->kind == V_RANGE || v->kind == V_TENSOR;
}

/* ---- records and tuples ---------------------------------------------------------------------------------------- */

static _Noreturn void fail_structure(Elab *E, const char *opname, Value *a, Value *b, Span whole) {
  diag_fail(E->d, T_TYPE, whole, "`%s` of %s and %s: their structures differ", opname, v_type_text(E, a),
            v_type_text(E, b));
}

/* The part of `v` beside leaf k of `like`: scalars and tensors meet every leaf. */
static Value *part(Elab *E, Value *like, Value *v, int k, const char *opname, Span whole) {
  if (!is_agg(v)) return v;
  if (v->kind != like->kind || v->agg.n != like->agg.n) fail_structure(E, opname, like, v, whole);
  if (v->kind == V_TUPLE) return v->agg.at[k];
  Value *out;
  if (!v_field(v, like->agg.key[k], &out)) fail_structure(E, opname, like, v, whole);
  return out;
}

static Value *rebuilt(Elab *E, Value *like, Value **kid) {
  return like->kind == V_TUPLE ? v_tuple(E, like->agg.n, kid) : v_record(E, like->agg.n, like->agg.key, kid);
}

static Value *map_op(Elab *E, ScalarOp op, int n, Value *const *v, const Span *at, Span whole) {
  Value *like = NULL;
  for (int k = 0; k < n && !like; k++)
    if (is_agg(v[k])) like = v[k];
  Value **kid = arena_array(E->a, Value *, like->agg.n);
  for (int i = 0; i < like->agg.n; i++) {
    Value *arg[3];
    for (int k = 0; k < n; k++) arg[k] = part(E, like, v[k], i, op_text(op), whole);
    kid[i] = tv_elementwise(E, op, n, arg, at, whole);
  }
  return rebuilt(E, like, kid);
}

/* ---- models ---------------------------------------------------------------------------------------------------- */

typedef struct ParamOp {
  ScalarOp op;
  const Span *at;
  Span whole;
} ParamOp;

static Value *op_param(Elab *E, void *ctx, int n, Value **arg) {
  ParamOp *p = ctx;
  return tv_elementwise(E, p->op, n, arg, p->at, p->whole);
}

static Value *select_param(Elab *E, void *ctx, int n, Value **arg) {
  (void)n;
  return tv_select(E, arg[0], arg[1], arg[2], ((ParamOp *)ctx)->whole);
}

static Value *map_params(Elab *E, ScalarOp op, int n, Value *const *v, const Span *at, Span whole) {
  ParamOp p = {op, at, whole};
  return model_arith(E, n, v, at, whole, op_text(op), op_param, &p);
}

/* ---- equality of static things --------------------------------------------------------------------------------- */

/* 1 equal, 0 different, -1: not decided while checking. Tuples of sizes, strings, dtypes. */
static int static_equal(const Value *a, const Value *b) {
  Num x, y;
  if (v_num(a, &x) && v_num(b, &y)) return x.is_float || y.is_float ? x.f == y.f : x.i == y.i;
  if (a->kind != b->kind) return is_numeric(a) || is_numeric(b) ? -1 : 0;
  switch (a->kind) {
  case V_STR:
    return a->str.narg || b->str.narg ? -1 : a->str.n == b->str.n && !memcmp(a->str.s, b->str.s, a->str.n);
  case V_DTYPE:
    return a->dtype == b->dtype;
  case V_NONE:
    return 1;
  case V_TUPLE: {
    if (a->agg.n != b->agg.n) return 0;
    int all = 1;
    for (int k = 0; k < a->agg.n; k++) {
      int e = static_equal(a->agg.at[k], b->agg.at[k]);
      if (e < 0) return -1;
      all &= e;
    }
    return all;
  }
  default:
    return -1;
  }
}

static Value *try_equality(Elab *E, ScalarOp op, Value *const *v) {
  if (op != OP_EQ && op != OP_NE) return NULL;
  if (v[0]->kind == V_NONE || v[1]->kind == V_NONE) return v_bool(E, (op == OP_EQ) == (v[0]->kind == v[1]->kind));
  bool plain = is_numeric(v[0]) && is_numeric(v[1]), agg = v[0]->kind == V_RECORD || v[1]->kind == V_RECORD;
  if (plain || agg) return NULL;
  int e = static_equal(v[0], v[1]);
  return e < 0 ? NULL : v_bool(E, (op == OP_EQ) == e);
}

/* ---- numbers and tensors --------------------------------------------------------------------------------------- */

static _Noreturn void fail_operands(Elab *E, ScalarOp op, int n, Value *const *v, const Span *at, Span whole) {
  Diag *g;
  if (n == 1)
    g = diag_add(E->d, T_TYPE, whole, "`%s` is not defined for %s", op_text(op), v_type_text(E, v[0]));
  else
    g = diag_add(E->d, T_TYPE, whole, "`%s` is not defined for %s and %s", op_text(op), v_type_text(E, v[0]),
                 v_type_text(E, v[1]));
  for (int k = 0; k < n; k++) {
    if (v[k]->kind == V_POISON) diag_unwind(E->d);
    if (is_numeric(v[k])) continue;
    diag_note(E->d, g, at[k], "this is %s", v_type_text(E, v[k]));
    if (v[k]->kind == V_STR && op == OP_ADD) diag_help(E->d, g, "strings are built by interpolation: \"{a}{b}\"");
    if (v[k]->kind == V_FUN && v[k]->fun->kind != FUN_LAMBDA)
      diag_help(E->d, g, "call the function, as in %s(...)", v[k]->fun->name);
  }
  elab_fail(E, g);
}

static _Noreturn void fail_logic(Elab *E, ScalarOp op, Value *v, Span at, Span whole) {
  Diag *g = diag_add(E->d, T_TYPE, whole, "`%s` needs bools, but this is %s", op_text(op), v_type_text(E, v));
  diag_note(E->d, g, at, "this is %s", v_type_text(E, v));
  diag_help(E->d, g, "compare first: x != 0");
  elab_fail(E, g);
}

/* The dtype in which op computes on these operands; its result is bool for comparisons and tests. */
static DType work_dtype(Elab *E, ScalarOp op, int n, Value *const *v, const Span *at, Span whole) {
  char typing = op_info[op].typing;
  if (typing == 'L') {
    for (int k = 0; k < n; k++)
      if (v[k]->kind != V_BOOL && !(v[k]->kind == V_TENSOR && v[k]->t.dtype == DT_BOOL))
        fail_logic(E, op, v[k], at[k], whole);
    return DT_BOOL;
  }
  DType t = tv_join(E, n, v, at, typing == 'F' || typing == 'P');
  if (t == DT_BOOL && typing == 'N' && op != OP_MAX && op != OP_MIN && op != OP_STOP) t = DT_I64;
  return t;
}

/* x ^ -1 of integers is not a whole number. */
static bool negative_power(ScalarOp op, Value *const *v) {
  int64_t p;
  return op == OP_POW && v_is_static_int(v[1], &p) && p < 0;
}

/* Rounding of integers changes nothing; keep their dtype and the expression. */
static bool is_identity(ScalarOp op, DType t) {
  return !dt_is_float(t) && (op == OP_FLOOR || op == OP_CEIL || op == OP_ROUND || op == OP_STOP);
}

Value *tv_elementwise(Elab *E, ScalarOp op, int n, Value *const *v, const Span *at, Span whole) {
  for (int k = 0; k < n; k++)
    if (v[k]->kind == V_POISON) diag_unwind(E->d);
  Value *r = n == 2 ? try_equality(E, op, v) : NULL;
  if (r) return r;
  for (int k = 0; k < n; k++)
    if (is_agg(v[k])) return map_op(E, op, n, v, at, whole);
  for (int k = 0; k < n; k++)
    if (v[k]->kind == V_MODEL) return map_params(E, op, n, v, at, whole);
  for (int k = 0; k < n; k++)
    if (!is_numeric(v[k])) fail_operands(E, op, n, v, at, whole);
  if ((r = fold_static(E, op, n, v, at, whole))) return r;

  Value *x[3];
  for (int k = 0; k < n; k++) {
    x[k] = v[k];
    if (v[k]->kind != V_RANGE) continue;
    TensorV *t = v_as_tensor(E, v[k], at[k], "a range");
    x[k] = v_tensor(E, t->dtype, t->rank, t->dim, t->e);
  }
  Span outer = E->g->span;
  E->g->span = user_span(E, whole); /* where its faults, and the first nan, are shown */
  DType t = work_dtype(E, op, n, x, at, whole);
  if (negative_power(op, x) && !dt_is_float(t)) t = DT_F32;
  Dim dim[TG_MAX_RANK];
  int rank = tv_broadcast(E, n, x, at, whole, op_text(op), dim);
  Expr *arg[3];
  for (int k = 0; k < n; k++) arg[k] = tv_at(E, x[k], t, rank, dim, at[k]);
  /* an arm that is not taken is computed all the same: its divisors must not fault */
  if ((op == OP_FLOORDIV || op == OP_MOD) && !dt_is_float(t) && E->guard && arg[1]->kind != EX_CONST)
    arg[1] = ex_select(E->g, E->guard, arg[1], ex_int(E->g, t, 1));
  Expr *e = is_identity(op, t) ? arg[0] : ex_op(E->g, op, n, arg);
  r = tv_seal(E, v_tensor(E, (DType)e->dtype, rank, dim, e));
  E->g->span = outer;
  return r;
}

/* ---- selection ------------------------------------------------------------------------------------------------- */

static Value *select_agg(Elab *E, Value *c, Value *a, Value *b, Span at) {
  Value *like = is_agg(a) ? a : b;
  Value **kid = arena_array(E->a, Value *, like->agg.n);
  for (int i = 0; i < like->agg.n; i++)
    kid[i] = tv_select(E, is_agg(c) ? part(E, like, c, i, "where", at) : c, part(E, like, a, i, "where", at),
                       part(E, like, b, i, "where", at), at);
  return rebuilt(E, like, kid);
}

Value *tv_select(Elab *E, Value *c, Value *a, Value *b, Span at) {
  double known;
  if (c->kind == V_BOOL && a->kind != V_TENSOR && b->kind != V_TENSOR) return c->b ? a : b;
  if (is_agg(a) || is_agg(b)) return select_agg(E, c, a, b, at);
  if (a->kind == V_MODEL || b->kind == V_MODEL) {
    Span three[3] = {at, at, at};
    ParamOp p = {OP_SELECT, three, at};
    return model_arith(E, 3, (Value *[]){c, a, b}, three, at, "where", select_param, &p);
  }
  if (!is_numeric(a) || !is_numeric(b)) {
    int e = static_equal(a, b);
    if (e == 1 || (a->kind == V_FUN && b->kind == V_FUN && a->fun == b->fun)) return a;
    diag_fail(E->d, T_TYPE, at, "the condition is known at run time only, so it cannot choose between %s and %s",
              v_type_text(E, a), v_type_text(E, b));
  }
  TensorV *ct = v_as_tensor(E, c, at, "the condition");
  if (ct->dtype != DT_BOOL) fail_logic(E, OP_SELECT, c, at, at);
  Value *cv = v_tensor(E, DT_BOOL, ct->rank, ct->dim, ct->e), *v[3] = {cv, a, b};
  for (int k = 1; k < 3; k++) {
    TensorV *t = v_as_tensor(E, v[k], at, "an operand");
    if (v[k]->kind == V_RANGE) v[k] = v_tensor(E, t->dtype, t->rank, t->dim, t->e);
  }
  Span where[3] = {at, at, at};
  DType t = tv_join(E, 2, v + 1, where, false);
  Dim dim[TG_MAX_RANK];
  int rank = tv_broadcast(E, 3, v, where, at, "where", dim);
  Expr *ce = tv_at(E, cv, DT_BOOL, rank, dim, at);
  Expr *x = tv_at(E, v[1], t, rank, dim, at), *y = tv_at(E, v[2], t, rank, dim, at);
  Expr *e = ex_is_const(ce, &known) ? (known != 0 ? x : y) : ex_select(E->g, ce, x, y);
  return tv_seal(E, v_tensor(E, t, rank, dim, e));
}
