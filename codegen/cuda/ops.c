/* The rows of scalar.def as C expressions over named registers (emit.h); constants, conversions, monoids. One operation
 * is one rounding: sources are compiled without contraction and without fast-math. */
#include "codegen/cpu/vmath.h"
#include "codegen/cuda/emit.h"
#include "codegen/monoid.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

const char *cu_reg(DType t) {
  static const char *const name[] = {
      [DT_BOOL] = "int", [DT_U8] = "u8",     [DT_I8] = "signed char", [DT_I16] = "short", [DT_I32] = "int",
      [DT_I64] = "i64",  [DT_F16] = "float", [DT_BF16] = "float",     [DT_F32] = "float", [DT_F64] = "double"};
  return name[t];
}
const char *cu_mem(DType t) {
  static const char *const name[] = {
      [DT_BOOL] = "u8", [DT_U8] = "u8",   [DT_I8] = "signed char", [DT_I16] = "short", [DT_I32] = "int",
      [DT_I64] = "i64", [DT_F16] = "u16", [DT_BF16] = "u16",       [DT_F32] = "float", [DT_F64] = "double"};
  return name[t];
}

int cu_reg_bytes(DType t) { return t == DT_BOOL || t == DT_F16 || t == DT_BF16 ? 4 : dt_bytes(t); }

/* ---- Constants --------------------------------------------------------------------------------------------------- */
const char *cu_num(Cu *c, DType t, double v) {
  bool wide = t == DT_F64;
  if (!dt_is_float(t)) return cu_int(c, t, (int64_t)v);
  if (v != v) return wide ? "tg_float_d(0x7ff8000000000000ll)" : "tg_float_f(0x7fc00000)";
  if (isinf(v)) {
    if (wide) return v > 0 ? "tg_float_d(0x7ff0000000000000ll)" : "(-tg_float_d(0x7ff0000000000000ll))";
    return v > 0 ? "tg_float_f(0x7f800000)" : "(-tg_float_f(0x7f800000))";
  }
  const char *f = wide ? "" : "f";
  if (v == floor(v) && fabs(v) < 1e6) return arena_printf(c->a, signbit(v) ? "(%.1f%s)" : "%.1f%s", v, f);
  return arena_printf(c->a, signbit(v) ? "(%a%s)" : "%a%s", wide ? v : (double)(float)v, f);
}
const char *cu_int(Cu *c, DType t, int64_t v) {
  if (t == DT_I64) {
    if (v == INT64_MIN) return "(-0x7fffffffffffffffll - 1)";
    return arena_printf(c->a, v < 0 ? "(%" PRId64 "ll)" : "%" PRId64 "ll", v);
  }
  if (v == INT32_MIN) return "(-0x7fffffff - 1)";
  return arena_printf(c->a, v < 0 ? "(%" PRId64 ")" : "%" PRId64, v);
}

/* ---- Conversions ------------------------------------------------------------------------------------------------- */
const char *cu_round(Cu *c, DType t, const char *x) {
  if (t == DT_F16) return arena_printf(c->a, "tg_round_f16(%s)", x);
  return t == DT_BF16 ? arena_printf(c->a, "tg_round_bf16(%s)", x) : x;
}
const char *cu_to_mem(Cu *c, DType t, const char *x) {
  if (t == DT_F16) return arena_printf(c->a, "tg_to_f16(%s)", x);
  if (t == DT_BF16) return arena_printf(c->a, "tg_to_bf16(%s)", x);
  return t == DT_BOOL ? arena_printf(c->a, "(u8)(%s)", x) : x;
}
const char *cu_from_mem(Cu *c, DType t, const char *x) {
  if (t == DT_F16) return arena_printf(c->a, "tg_of_f16(%s)", x);
  if (t == DT_BF16) return arena_printf(c->a, "tg_of_bf16(%s)", x);
  return t == DT_BOOL ? arena_printf(c->a, "(%s != 0)", x) : x;
}
const char *cu_cast(Cu *c, DType to, DType from, const char *x) {
  if (to == from) return x;
  bool ff = dt_is_float(from), tf = dt_is_float(to);
  if (to == DT_BOOL) return arena_printf(c->a, "(%s != 0)", x);
  if (ff && tf) {
    if (to == DT_F64) return arena_printf(c->a, "(double)%s", x);
    return cu_round(c, to, from == DT_F64 ? arena_printf(c->a, "(float)%s", x) : x);
  }
  if (ff) return arena_printf(c->a, "tg_%s_%c(%s)", dt_name(to), from == DT_F64 ? 'd' : 'f', x);
  if (tf) return cu_round(c, to, arena_printf(c->a, "(%s)%s", cu_reg(to), x));
  return arena_printf(c->a, "(%s)%s", cu_reg(to), x);
}

/* ---- Operations -------------------------------------------------------------------------------------------------- */
static const char *float_op(Cu *c, const Expr *e, DType t, const char **a) {
  Arena *m = c->a;
  const char *x = a[0], *f = t == DT_F64 ? "" : "f";
  char w = t == DT_F64 ? 'd' : 'f';
  switch (e->op) {
  case OP_ADD:
    return arena_printf(m, "%s + %s", x, a[1]);
  case OP_SUB:
    return arena_printf(m, "%s - %s", x, a[1]);
  case OP_MUL:
    return arena_printf(m, "%s * %s", x, a[1]);
  case OP_DIV:
    return arena_printf(m, "%s / %s", x, a[1]);
  case OP_FLOORDIV:
    return arena_printf(m, "floor%s(%s / %s)", f, x, a[1]);
  case OP_MOD:
    return arena_printf(m, "tg_mod_%c(%s, %s)", w, x, a[1]);
  case OP_MAX:
    return arena_printf(m, "(%s > %s || %s != %s ? %s : %s)", x, a[1], x, x, x, a[1]);
  case OP_MIN:
    return arena_printf(m, "(%s < %s || %s != %s ? %s : %s)", x, a[1], x, x, x, a[1]);
  case OP_NEG:
    return arena_printf(m, "-%s", x);
  case OP_ABS:
    return arena_printf(m, "fabs%s(%s)", f, x);
  case OP_SIGN:
    return arena_printf(m, "(%s > 0 ? %s : %s < 0 ? %s : %s != %s ? %s : %s)", x, cu_num(c, t, 1), x, cu_num(c, t, -1),
                        x, x, x, cu_num(c, t, 0));
  case OP_FLOOR:
    return arena_printf(m, "floor%s(%s)", f, x);
  case OP_CEIL:
    return arena_printf(m, "ceil%s(%s)", f, x);
  case OP_ROUND:
    return arena_printf(m, "rint%s(%s)", f, x);
  case OP_SQRT:
    return arena_printf(m, "sqrt%s(%s)", f, x);
  case OP_STOP:
    return x;
  case OP_POW: {
    double y;
    if (ex_is_const(e->arg[1], &y)) {
      if (y == 0) return cu_num(c, t, 1);
      if (y == 1) return x;
      if (y == 2) return arena_printf(m, "%s * %s", x, x);
      if (y == 3) return arena_printf(m, "%s * %s * %s", x, x, x);
      if (y == -1) return arena_printf(m, "%s / %s", cu_num(c, t, 1), x);
    }
    cu_math(c, OP_POW, t == DT_F64);
    return arena_printf(m, "tg_pow_%c(%s, %s)", w, x, a[1]);
  }
  default:
    if (!vm_has((ScalarOp)e->op)) bug("cuda: no code for %s on floats", op_info[e->op].name);
    cu_math(c, (ScalarOp)e->op, t == DT_F64);
    return arena_printf(m, "tg_%s_%c(%s)", op_info[e->op].name, w, x);
  }
}

/* Sums and products wrap: they are formed without signs. */
static const char *int_op(Cu *c, const Expr *e, DType t, const char **a) {
  Arena *m = c->a;
  const char *r = cu_reg(t), *u = t == DT_I64 ? "u64" : "u32", *x = a[0];
  bool is32 = t != DT_I64;
  switch (e->op) {
  case OP_ADD:
    return arena_printf(m, "(%s)((%s)%s + (%s)%s)", r, u, x, u, a[1]);
  case OP_SUB:
    return arena_printf(m, "(%s)((%s)%s - (%s)%s)", r, u, x, u, a[1]);
  case OP_MUL:
    return arena_printf(m, "(%s)((%s)%s * (%s)%s)", r, u, x, u, a[1]);
  case OP_FLOORDIV:
    return arena_printf(m, "(%s)tg_floordiv%s(%s, %s)", r, is32 ? "_32" : "", x, a[1]);
  case OP_MOD:
    return arena_printf(m, "(%s)tg_floormod%s(%s, %s)", r, is32 ? "_32" : "", x, a[1]);
  case OP_POW:
    return arena_printf(m, "(%s)tg_ipow(%s, %s)", r, x, a[1]);
  case OP_MAX:
    return arena_printf(m, "(%s > %s ? %s : %s)", x, a[1], x, a[1]);
  case OP_MIN:
    return arena_printf(m, "(%s < %s ? %s : %s)", x, a[1], x, a[1]);
  case OP_NEG:
    return arena_printf(m, "(%s)(0 - (%s)%s)", r, u, x);
  case OP_ABS:
    return arena_printf(m, "(%s < 0 ? (%s)(0 - (%s)%s) : %s)", x, r, u, x, x);
  case OP_SIGN:
    return arena_printf(m, "(%s)((%s > 0) - (%s < 0))", r, x, x);
  case OP_FLOOR:
  case OP_CEIL:
  case OP_ROUND:
  case OP_STOP:
    return x;
  case OP_PHILOX:
    return arena_printf(m, "tg_philox(%s, %s)", x, a[1]);
  case OP_SHR:
    return arena_printf(m, "(i64)((u64)%s >> (%s & 63))", x, a[1]);
  case OP_XOR:
    return arena_printf(m, "%s ^ %s", x, a[1]);
  case OP_BAND:
    return arena_printf(m, "%s & %s", x, a[1]);
  default:
    bug("cuda: no code for %s on integers", op_info[e->op].name);
  }
}

static const char *bool_op(Cu *c, const Expr *e, const char **a) {
  Arena *m = c->a;
  const char *x = a[0];
  switch (bool_op_of((ScalarOp)e->op)) {
  case BOOL_AND:
    return arena_printf(m, "%s & %s", x, a[1]);
  case BOOL_OR:
    return arena_printf(m, "%s | %s", x, a[1]);
  case BOOL_XOR:
    return arena_printf(m, "%s ^ %s", x, a[1]);
  case BOOL_NOT:
    return arena_printf(m, "%s ^ 1", x);
  case BOOL_OR_NOT:
    return arena_printf(m, "%s | (%s ^ 1)", x, a[1]);
  case BOOL_FALSE:
    return "0";
  case BOOL_SAME:
    return x;
  default:
    bug("cuda: no code for %s on bool", op_info[e->op].name);
  }
}

const char *cu_op(Cu *c, const Expr *e, const char **a) {
  static const char *const sign[] = {"==", "!=", "<", "<=", ">", ">="};
  DType t = (DType)e->arg[0]->dtype, to = (DType)e->dtype;
  switch (e->op) {
  case OP_EQ:
  case OP_NE:
  case OP_LT:
  case OP_LE:
  case OP_GT:
  case OP_GE:
    return arena_printf(c->a, "(%s %s %s)", a[0], sign[e->op - OP_EQ], a[1]);
  case OP_SELECT:
    return arena_printf(c->a, "(%s ? %s : %s)", a[0], a[1], a[2]);
  case OP_CAST:
    return cu_cast(c, to, t, a[0]);
  case OP_ISNAN:
    return arena_printf(c->a, "(%s != %s)", a[0], a[0]);
  case OP_ISFINITE:
    return arena_printf(c->a, "(fabs%s(%s) < %s)", t == DT_F64 ? "" : "f", a[0], cu_num(c, t, INFINITY));
  default:
    break;
  }
  if (dt_is_float(t)) return cu_round(c, to, float_op(c, e, t, a));
  return t == DT_BOOL ? bool_op(c, e, a) : int_op(c, e, t, a);
}

/* ---- Monoids ----------------------------------------------------------------------------------------------------- */
const char *cu_combine(Cu *c, Reduce op, DType t, const char *x, const char *y) {
  Expr arg = {.kind = EX_ITER, .dtype = (uint8_t)t}, *args[2] = {&arg, &arg};
  Expr e = {.kind = EX_OP, .dtype = (uint8_t)t, .op = (uint8_t)monoid_op(op), .n = 2, .arg = args};
  return cu_op(c, &e, (const char *[]){x, y});
}

const char *cu_identity(Cu *c, Reduce op, DType t) {
  return dt_is_float(t) ? cu_num(c, t, monoid_start_f(op)) : cu_int(c, t, monoid_start_i(op, t));
}
