/* The rows of scalar.def as LLVM instructions, scalar or vector alike (E->vec), and conversions between dtypes,
 * registers and memory. Floats: one instruction is one rounding; no fast-math flag is ever set. Integers wrap. */
#include "codegen/cpu/emit.h"
#include "codegen/cpu/vmath.h"
#include "codegen/monoid.h"
#include <math.h>

#define B E->b
static LLVMValueRef wide_const(Em *E, LLVMValueRef c) { return E->vec ? em_splat_const(E, c) : c; }
static LLVMValueRef sel(Em *E, LLVMValueRef c, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildSelect(B, c, a, b, "");
}
static LLVMValueRef fcmp(Em *E, LLVMRealPredicate p, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildFCmp(B, p, a, b, "");
}
static LLVMValueRef icmp(Em *E, LLVMIntPredicate p, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildICmp(B, p, a, b, "");
}

LLVMValueRef em_num(Em *E, DType t, double v) {
  LLVMTypeRef r = em_reg_type(E, t);
  return wide_const(E, dt_is_float(t) ? LLVMConstReal(r, v) : LLVMConstInt(r, (uint64_t)(int64_t)v, 1));
}
LLVMValueRef em_fma(Em *E, LLVMValueRef x, LLVMValueRef y, LLVMValueRef z) {
  LLVMTypeRef t = LLVMTypeOf(x);
  return em_call(E, "llvm.fma", 1, &t, 3, (LLVMValueRef[]){x, y, z});
}
static LLVMValueRef unary(Em *E, const char *name, LLVMValueRef x) {
  LLVMTypeRef t = LLVMTypeOf(x);
  return em_call(E, name, 1, &t, 1, &x);
}

/* ---- memory forms ------------------------------------------------------------------------------------------------ */
static LLVMTypeRef like(Em *E, LLVMValueRef x, LLVMTypeRef elem) {
  LLVMTypeRef t = LLVMTypeOf(x);
  return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMVectorType(elem, LLVMGetVectorSize(t)) : elem;
}
static LLVMValueRef konst(LLVMTypeRef t, uint64_t v) {
  if (LLVMGetTypeKind(t) != LLVMVectorTypeKind) return LLVMConstInt(t, v, 1);
  LLVMValueRef all[64], c = LLVMConstInt(LLVMGetElementType(t), v, 1);
  unsigned n = LLVMGetVectorSize(t);
  for (unsigned i = 0; i < n; i++) all[i] = c;
  return LLVMConstVector(all, n);
}
LLVMValueRef em_int_of(Em *E, LLVMTypeRef t, int64_t v) { return konst(t, (uint64_t)v); }

/* f32 -> bf16 bits, to nearest even; nan stays nan. */
static LLVMValueRef bf16_bits(Em *E, LLVMValueRef x) {
  LLVMTypeRef it = like(E, x, E->i32);
  LLVMValueRef u = LLVMBuildBitCast(B, x, it, "");
  LLVMValueRef odd = LLVMBuildAnd(B, LLVMBuildLShr(B, u, konst(it, 16), ""), konst(it, 1), "");
  LLVMValueRef r =
      LLVMBuildLShr(B, LLVMBuildAdd(B, u, LLVMBuildAdd(B, odd, konst(it, 0x7fff), ""), ""), konst(it, 16), "");
  LLVMValueRef quiet = LLVMBuildOr(B, LLVMBuildLShr(B, u, konst(it, 16), ""), konst(it, 0x40), "");
  return sel(E, fcmp(E, LLVMRealUNO, x, x), quiet, r);
}
LLVMValueRef em_to_mem(Em *E, DType t, LLVMValueRef x) {
  switch (t) {
  case DT_BOOL:
    return LLVMBuildZExt(B, x, like(E, x, E->i8), "");
  case DT_F16:
    return LLVMBuildFPTrunc(B, x, like(E, x, E->f16), "");
  case DT_BF16:
    return LLVMBuildTrunc(B, bf16_bits(E, x), like(E, x, E->i16), "");
  default:
    return x;
  }
}
LLVMValueRef em_from_mem(Em *E, DType t, LLVMValueRef x) {
  switch (t) {
  case DT_BOOL:
    return icmp(E, LLVMIntNE, x, LLVMConstNull(LLVMTypeOf(x)));
  case DT_F16:
    return LLVMBuildFPExt(B, x, like(E, x, E->f32), "");
  case DT_BF16: {
    LLVMTypeRef it = like(E, x, E->i32);
    LLVMValueRef u = LLVMBuildShl(B, LLVMBuildZExt(B, x, it, ""), konst(it, 16), "");
    return LLVMBuildBitCast(B, u, like(E, x, E->f32), "");
  }
  default:
    return x;
  }
}
LLVMValueRef em_round(Em *E, DType t, LLVMValueRef x) {
  return t == DT_F16 || t == DT_BF16 ? em_from_mem(E, t, em_to_mem(E, t, x)) : x;
}

/* ---- conversions ------------------------------------------------------------------------------------------------- */
LLVMValueRef em_cast(Em *E, DType to, DType from, LLVMValueRef x) {
  if (to == from) return x;
  LLVMTypeRef t = like(E, x, em_reg_type(E, to)), f = LLVMTypeOf(x);
  bool ff = dt_is_float(from), tf = dt_is_float(to);
  if (ff && tf) {
    if (from == DT_F64)
      x = LLVMBuildFPTrunc(B, x, like(E, x, E->f32), "");
    else if (to == DT_F64)
      return LLVMBuildFPExt(B, x, t, "");
    return em_round(E, to, x);
  }
  if (ff) {
    if (to == DT_BOOL) return fcmp(E, LLVMRealUNE, x, LLVMConstNull(f));
    LLVMTypeRef types[2] = {t, f};
    return em_call(E, to == DT_U8 ? "llvm.fptoui.sat" : "llvm.fptosi.sat", 2, types, 1, &x);
  }
  bool is_unsigned = from == DT_BOOL || from == DT_U8;
  if (tf) {
    if (to == DT_F16 || to == DT_BF16) t = like(E, x, E->f32);
    x = is_unsigned ? LLVMBuildUIToFP(B, x, t, "") : LLVMBuildSIToFP(B, x, t, "");
    return em_round(E, to, x);
  }
  if (to == DT_BOOL) return icmp(E, LLVMIntNE, x, LLVMConstNull(f));
  unsigned a = LLVMGetIntTypeWidth(em_reg_type(E, from)), b = LLVMGetIntTypeWidth(em_reg_type(E, to));
  if (a == b) return x;
  if (a > b) return LLVMBuildTrunc(B, x, t, "");
  return is_unsigned ? LLVMBuildZExt(B, x, t, "") : LLVMBuildSExt(B, x, t, "");
}

/* ---- floats ------------------------------------------------------------------------------------------------------ */
static LLVMValueRef larger(Em *E, LLVMRealPredicate p, LLVMValueRef x, LLVMValueRef y) {
  LLVMValueRef m = sel(E, fcmp(E, p, x, y), x, y);
  return sel(E, fcmp(E, LLVMRealUNO, x, x), x, m);
}
/* x mod y with the sign of y, exact. Small quotients: x - floor(x / y) * y is exact up to a step of y; the rest by
 * libm. */
static LLVMValueRef float_mod(Em *E, DType t, LLVMValueRef x, LLVMValueRef y, int level) {
  LLVMTypeRef ft = LLVMTypeOf(x);
  LLVMValueRef zero = LLVMConstNull(ft);
  LLVMValueRef q = LLVMBuildFDiv(B, x, y, ""), n = unary(E, "llvm.floor", q);
  LLVMValueRef r = em_fma(E, LLVMBuildFNeg(B, n, ""), y, x);
  LLVMValueRef wrong = LLVMBuildXor(B, fcmp(E, LLVMRealOLT, r, zero), fcmp(E, LLVMRealOLT, y, zero), "");
  wrong = LLVMBuildAnd(B, wrong, fcmp(E, LLVMRealONE, r, zero), "");
  r = sel(E, wrong, LLVMBuildFAdd(B, r, y, ""), r);
  r = sel(E, fcmp(E, LLVMRealOEQ, r, zero), em_call(E, "llvm.copysign", 1, &ft, 2, (LLVMValueRef[]){zero, y}), r);
  LLVMValueRef lim = em_num(E, t, t == DT_F64 ? 0x1p50 : 0x1p21), inf = em_num(E, t, INFINITY);
  LLVMValueRef easy = LLVMBuildAnd(B, fcmp(E, LLVMRealOLT, unary(E, "llvm.fabs", q), lim),
                                   fcmp(E, LLVMRealOLT, unary(E, "llvm.fabs", y), inf), "");
  LLVMValueRef hard = LLVMBuildNot(B, easy, "");
  Rare rare = em_rare_begin(E, level, E->vec ? em_any(E, hard) : hard);
  LLVMValueRef slow = LLVMBuildFRem(B, x, y, ""), other;
  other = LLVMBuildXor(B, fcmp(E, LLVMRealOLT, slow, zero), fcmp(E, LLVMRealOLT, y, zero), "");
  slow = sel(E, other, LLVMBuildFAdd(B, slow, y, ""), slow);
  LLVMValueRef at0 = em_call(E, "llvm.copysign", 1, &ft, 2, (LLVMValueRef[]){zero, y});
  LLVMValueRef rem = LLVMBuildFRem(B, x, y, "");
  slow = sel(E, fcmp(E, LLVMRealOEQ, rem, zero), at0, slow);
  slow = sel(E, hard, slow, r);
  em_rare_end(E, &rare);
  LLVMValueRef phi = LLVMBuildPhi(B, ft, "");
  LLVMAddIncoming(phi, (LLVMValueRef[]){slow, r}, (LLVMBasicBlockRef[]){rare.then, rare.from}, 2);
  return phi;
}
static LLVMValueRef float_op(Em *E, const Expr *e, DType t, LLVMValueRef *a, int level) {
  LLVMTypeRef ft = LLVMTypeOf(a[0]);
  LLVMValueRef x = a[0], zero = LLVMConstNull(ft);
  switch (e->op) {
  case OP_ADD:
    return LLVMBuildFAdd(B, x, a[1], "");
  case OP_SUB:
    return LLVMBuildFSub(B, x, a[1], "");
  case OP_MUL:
    return LLVMBuildFMul(B, x, a[1], "");
  case OP_DIV:
    return LLVMBuildFDiv(B, x, a[1], "");
  case OP_FLOORDIV:
    return unary(E, "llvm.floor", LLVMBuildFDiv(B, x, a[1], ""));
  case OP_MOD:
    return float_mod(E, t, x, a[1], level);
  case OP_MAX:
    return larger(E, LLVMRealOGT, x, a[1]);
  case OP_MIN:
    return larger(E, LLVMRealOLT, x, a[1]);
  case OP_NEG:
    return LLVMBuildFNeg(B, x, "");
  case OP_ABS:
    return unary(E, "llvm.fabs", x);
  case OP_SIGN: {
    LLVMValueRef rest = sel(E, fcmp(E, LLVMRealUNO, x, x), x, zero);
    LLVMValueRef down = sel(E, fcmp(E, LLVMRealOLT, x, zero), em_num(E, t, -1), rest);
    return sel(E, fcmp(E, LLVMRealOGT, x, zero), em_num(E, t, 1), down);
  }
  case OP_FLOOR:
    return unary(E, "llvm.floor", x);
  case OP_CEIL:
    return unary(E, "llvm.ceil", x);
  case OP_ROUND:
    return unary(E, "llvm.roundeven", x);
  case OP_SQRT:
    return unary(E, "llvm.sqrt", x);
  case OP_STOP:
    return x;
  case OP_POW: {
    double y;
    if (ex_is_const(e->arg[1], &y)) {
      if (y == 0) return em_num(E, t, 1);
      if (y == 1) return x;
      if (y == 2) return LLVMBuildFMul(B, x, x, "");
      if (y == 3) return LLVMBuildFMul(B, LLVMBuildFMul(B, x, x, ""), x, "");
      if (y == -1) return LLVMBuildFDiv(B, em_num(E, t, 1), x, "");
    }
    return em_vmath(E, OP_POW, t == DT_F64, x, a[1], level);
  }
  default:
    if (vm_has((ScalarOp)e->op)) return em_vmath(E, (ScalarOp)e->op, t == DT_F64, x, NULL, level);
    bug("no code for %s on floats", op_info[e->op].name);
  }
}

/* ---- integers ---------------------------------------------------------------------------------------------------- */
/* Rounded down; a zero divisor gives 0 (its fault is recorded elsewhere). */
static LLVMValueRef int_floor(Em *E, bool mod, DType t, LLVMValueRef x, LLVMValueRef y) {
  LLVMTypeRef it = LLVMTypeOf(x);
  LLVMValueRef zero = LLVMConstNull(it), one = konst(it, 1);
  LLVMValueRef is0 = icmp(E, LLVMIntEQ, y, zero);
  if (t == DT_U8) {
    LLVMValueRef safe = sel(E, is0, one, y);
    LLVMValueRef r = mod ? LLVMBuildURem(B, x, safe, "") : LLVMBuildUDiv(B, x, safe, "");
    return sel(E, is0, zero, r);
  }
  LLVMValueRef minus = icmp(E, LLVMIntEQ, y, LLVMConstAllOnes(it));
  LLVMValueRef safe = sel(E, LLVMBuildOr(B, is0, minus, ""), one, y);
  LLVMValueRef q = LLVMBuildSDiv(B, x, safe, ""), r = LLVMBuildSub(B, x, LLVMBuildMul(B, q, safe, ""), "");
  LLVMValueRef down =
      LLVMBuildAnd(B, icmp(E, LLVMIntNE, r, zero), icmp(E, LLVMIntSLT, LLVMBuildXor(B, r, safe, ""), zero), "");
  if (mod) return sel(E, LLVMBuildOr(B, is0, minus, ""), zero, sel(E, down, LLVMBuildAdd(B, r, safe, ""), r));
  q = sel(E, down, LLVMBuildSub(B, q, one, ""), q);
  return sel(E, is0, zero, sel(E, minus, LLVMBuildNeg(B, x, ""), q));
}
/* x ^ y by squaring, wrapping; the loop ends when no lane has bits left. */
static LLVMValueRef int_pow(Em *E, DType t, LLVMValueRef x, LLVMValueRef y, int level) {
  LLVMTypeRef it = LLVMTypeOf(x);
  LLVMValueRef zero = LLVMConstNull(it), one = konst(it, 1);
  LLVMBasicBlockRef from = E->level[level].cur, head = LLVMAppendBasicBlockInContext(E->cx, E->fn, "");
  LLVMBasicBlockRef cont = LLVMAppendBasicBlockInContext(E->cx, E->fn, "");
  bool is_signed = t != DT_U8;
  LLVMValueRef neg = is_signed ? icmp(E, LLVMIntSLT, y, zero) : LLVMConstNull(like(E, x, E->i1));
  LLVMValueRef start = sel(E, neg, zero, y);
  LLVMBuildBr(B, head);
  LLVMPositionBuilderAtEnd(B, head);
  LLVMValueRef n = LLVMBuildPhi(B, it, ""), r = LLVMBuildPhi(B, it, ""), b = LLVMBuildPhi(B, it, "");
  LLVMValueRef odd = icmp(E, LLVMIntNE, LLVMBuildAnd(B, n, one, ""), zero);
  LLVMValueRef r2 = sel(E, odd, LLVMBuildMul(B, r, b, ""), r), b2 = LLVMBuildMul(B, b, b, "");
  LLVMValueRef n2 = LLVMBuildLShr(B, n, one, ""), more = icmp(E, LLVMIntNE, n2, zero);
  LLVMBuildCondBr(B, E->vec ? em_any(E, more) : more, head, cont);
  LLVMBasicBlockRef in[2] = {from, head};
  LLVMAddIncoming(n, (LLVMValueRef[]){start, n2}, in, 2);
  LLVMAddIncoming(r, (LLVMValueRef[]){one, r2}, in, 2);
  LLVMAddIncoming(b, (LLVMValueRef[]){x, b2}, in, 2);
  E->level[level].cur = cont;
  em_at(E, level);
  if (!is_signed) return r2;
  LLVMValueRef is1 = icmp(E, LLVMIntEQ, x, one), ism = icmp(E, LLVMIntEQ, x, LLVMConstAllOnes(it));
  LLVMValueRef odd_y = icmp(E, LLVMIntNE, LLVMBuildAnd(B, y, one, ""), zero);
  LLVMValueRef inv = sel(E, is1, one, sel(E, ism, sel(E, odd_y, LLVMConstAllOnes(it), one), zero));
  return sel(E, neg, inv, r2);
}
static LLVMValueRef philox(Em *E, LLVMValueRef x, LLVMValueRef y) {
  LLVMTypeRef t = LLVMTypeOf(x);
  LLVMValueRef low = konst(t, 0xffffffffu), sh = konst(t, 32);
  LLVMValueRef k0 = LLVMBuildAnd(B, x, low, ""), k1 = LLVMBuildLShr(B, x, sh, "");
  LLVMValueRef c0 = LLVMBuildAnd(B, y, low, ""), c1 = LLVMBuildLShr(B, y, sh, "");
  LLVMValueRef c2 = LLVMConstNull(t), c3 = LLVMConstNull(t);
  for (int round = 0; round < 10; round++) {
    LLVMValueRef a = LLVMBuildMul(B, konst(t, 0xD2511F53u), c0, ""), b = LLVMBuildMul(B, konst(t, 0xCD9E8D57u), c2, "");
    c0 = LLVMBuildXor(B, LLVMBuildXor(B, LLVMBuildLShr(B, b, sh, ""), c1, ""), k0, "");
    c1 = LLVMBuildAnd(B, b, low, "");
    c2 = LLVMBuildXor(B, LLVMBuildXor(B, LLVMBuildLShr(B, a, sh, ""), c3, ""), k1, "");
    c3 = LLVMBuildAnd(B, a, low, "");
    k0 = LLVMBuildAnd(B, LLVMBuildAdd(B, k0, konst(t, 0x9E3779B9u), ""), low, "");
    k1 = LLVMBuildAnd(B, LLVMBuildAdd(B, k1, konst(t, 0xBB67AE85u), ""), low, "");
  }
  return LLVMBuildOr(B, c0, LLVMBuildShl(B, c1, sh, ""), "");
}
static LLVMValueRef int_op(Em *E, const Expr *e, DType t, LLVMValueRef *a, int level) {
  LLVMTypeRef it = LLVMTypeOf(a[0]);
  LLVMValueRef x = a[0], zero = LLVMConstNull(it);
  bool is_signed = t != DT_U8;
  switch (e->op) {
  case OP_ADD:
    return LLVMBuildAdd(B, x, a[1], "");
  case OP_SUB:
    return LLVMBuildSub(B, x, a[1], "");
  case OP_MUL:
    return LLVMBuildMul(B, x, a[1], "");
  case OP_FLOORDIV:
  case OP_MOD:
    return int_floor(E, e->op == OP_MOD, t, x, a[1]);
  case OP_POW:
    return int_pow(E, t, x, a[1], level);
  case OP_MAX:
    return sel(E, icmp(E, is_signed ? LLVMIntSGT : LLVMIntUGT, x, a[1]), x, a[1]);
  case OP_MIN:
    return sel(E, icmp(E, is_signed ? LLVMIntSLT : LLVMIntULT, x, a[1]), x, a[1]);
  case OP_NEG:
    return LLVMBuildNeg(B, x, "");
  case OP_ABS:
    return is_signed ? sel(E, icmp(E, LLVMIntSLT, x, zero), LLVMBuildNeg(B, x, ""), x) : x;
  case OP_SIGN: {
    LLVMValueRef pos = sel(E, icmp(E, is_signed ? LLVMIntSGT : LLVMIntUGT, x, zero), konst(it, 1), zero);
    return is_signed ? sel(E, icmp(E, LLVMIntSLT, x, zero), LLVMConstAllOnes(it), pos) : pos;
  }
  case OP_FLOOR:
  case OP_CEIL:
  case OP_ROUND:
  case OP_STOP:
    return x;
  case OP_PHILOX:
    return philox(E, x, a[1]);
  case OP_SHR:
    return LLVMBuildLShr(B, x, LLVMBuildAnd(B, a[1], konst(it, 63), ""), "");
  case OP_XOR:
    return LLVMBuildXor(B, x, a[1], "");
  case OP_BAND:
    return LLVMBuildAnd(B, x, a[1], "");
  default:
    bug("no code for %s on integers", op_info[e->op].name);
  }
}
static LLVMValueRef bool_op(Em *E, const Expr *e, LLVMValueRef *a) {
  LLVMValueRef x = a[0];
  switch (bool_op_of((ScalarOp)e->op)) {
  case BOOL_AND:
    return LLVMBuildAnd(B, x, a[1], "");
  case BOOL_OR:
    return LLVMBuildOr(B, x, a[1], "");
  case BOOL_XOR:
    return LLVMBuildXor(B, x, a[1], "");
  case BOOL_NOT:
    return LLVMBuildNot(B, x, "");
  case BOOL_OR_NOT:
    return LLVMBuildOr(B, x, LLVMBuildNot(B, a[1], ""), "");
  case BOOL_FALSE:
    return LLVMConstNull(LLVMTypeOf(x));
  case BOOL_SAME:
    return x;
  default:
    bug("no code for %s on bool", op_info[e->op].name);
  }
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */
static LLVMValueRef compare(Em *E, ScalarOp op, DType t, LLVMValueRef x, LLVMValueRef y) {
  static const LLVMRealPredicate real[] = {LLVMRealOEQ, LLVMRealUNE, LLVMRealOLT,
                                           LLVMRealOLE, LLVMRealOGT, LLVMRealOGE};
  static const LLVMIntPredicate sint[] = {LLVMIntEQ, LLVMIntNE, LLVMIntSLT, LLVMIntSLE, LLVMIntSGT, LLVMIntSGE};
  static const LLVMIntPredicate uint[] = {LLVMIntEQ, LLVMIntNE, LLVMIntULT, LLVMIntULE, LLVMIntUGT, LLVMIntUGE};
  int i = (int)op - OP_EQ;
  if (dt_is_float(t)) return fcmp(E, real[i], x, y);
  return icmp(E, t == DT_BOOL || t == DT_U8 ? uint[i] : sint[i], x, y);
}
static int level_here(Em *E) {
  LLVMBasicBlockRef at = LLVMGetInsertBlock(B);
  for (int i = E->depth; i >= 0; i--)
    if (E->level[i].cur == at) return i;
  bug("emit: the builder is at no open level");
}
LLVMValueRef em_op(Em *E, const Expr *e, LLVMValueRef *arg) {
  DType t = (DType)e->arg[0]->dtype, to = (DType)e->dtype;
  switch (e->op) {
  case OP_EQ:
  case OP_NE:
  case OP_LT:
  case OP_LE:
  case OP_GT:
  case OP_GE:
    return compare(E, (ScalarOp)e->op, t, arg[0], arg[1]);
  case OP_SELECT:
    return sel(E, arg[0], arg[1], arg[2]);
  case OP_CAST:
    return em_cast(E, to, t, arg[0]);
  case OP_ISNAN:
    return fcmp(E, LLVMRealUNO, arg[0], arg[0]);
  case OP_ISFINITE:
    return fcmp(E, LLVMRealOLT, unary(E, "llvm.fabs", arg[0]), em_num(E, t, INFINITY));
  default:
    break;
  }
  int level = level_here(E);
  if (dt_is_float(t)) return em_round(E, to, float_op(E, e, t, arg, level));
  if (t == DT_BOOL) return bool_op(E, e, arg);
  return int_op(E, e, t, arg, level);
}
LLVMValueRef em_binary(Em *E, ScalarOp op, DType t, LLVMValueRef x, LLVMValueRef y) {
  Expr arg = {.dtype = (uint8_t)t}, *args[2] = {&arg, &arg};
  Expr e = {.kind = EX_OP, .dtype = (uint8_t)t, .op = (uint8_t)op, .n = 2, .arg = args};
  return em_op(E, &e, (LLVMValueRef[]){x, y});
}
