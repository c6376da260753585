/* The LLVM builder of vmath.h. */
#include "codegen/cpu/emit.h"
#include "codegen/cpu/vmath.h"
#include <math.h>

typedef struct Build {
  Em *E;
  int level;
} Build;

static LLVMValueRef call(Em *E, const char *name, int n, LLVMValueRef *a) {
  LLVMTypeRef t = LLVMTypeOf(a[0]);
  return em_call(E, name, 1, &t, n, a);
}
/* 2^n as a float, by its exponent field. */
static LLVMValueRef pow2(Em *E, bool wide, LLVMValueRef n) {
  LLVMTypeRef t = LLVMTypeOf(n), ft = em_wide(E, wide ? E->f64 : E->f32);
  LLVMValueRef bias = em_int_of(E, t, wide ? 1023 : 127), shift = em_int_of(E, t, wide ? 52 : 23);
  return LLVMBuildBitCast(E->b, LLVMBuildShl(E->b, LLVMBuildAdd(E->b, n, bias, ""), shift, ""), ft, "");
}
/* x * 2^n with one rounding: an instruction of AVX-512, elsewhere two factors, of which the first is exact (x is about
 * 1). */
static LLVMValueRef scale(Em *E, bool wide, LLVMValueRef x, LLVMValueRef f, LLVMValueRef n) {
  LLVMBuilderRef b = E->b;
  if (!E->vec || E->isa->vector_bits < 512 || E->width != 16) {
    LLVMValueRef half = LLVMBuildAShr(b, n, em_int_of(E, LLVMTypeOf(n), 1), ""), rest = LLVMBuildSub(b, n, half, "");
    return LLVMBuildFMul(b, LLVMBuildFMul(b, x, pow2(E, wide, half), ""), pow2(E, wide, rest), "");
  }
  LLVMValueRef now = LLVMConstInt(E->i32, 4, 0); /* the current rounding mode */
  if (!wide) {
    LLVMValueRef all = LLVMConstInt(E->i16, 0xffff, 0);
    return em_call(E, "llvm.x86.avx512.mask.scalef.ps.512", 0, NULL, 5, (LLVMValueRef[]){x, f, x, all, now});
  }
  LLVMValueRef half[2], all = LLVMConstInt(E->i8, 0xff, 0);
  int lane[16];
  for (int h = 0; h < 2; h++) {
    for (int i = 0; i < 8; i++) lane[i] = 8 * h + i;
    LLVMValueRef xh = em_shuffle(E, x, NULL, 8, lane), fh = em_shuffle(E, f, NULL, 8, lane);
    half[h] = em_call(E, "llvm.x86.avx512.mask.scalef.pd.512", 0, NULL, 5, (LLVMValueRef[]){xh, fh, xh, all, now});
  }
  for (int i = 0; i < 16; i++) lane[i] = i;
  return em_shuffle(E, half[0], half[1], 16, lane);
}
static VmV op(void *ctx, VmOp o, bool wide, VmV va, VmV vb, VmV vc) {
  Em *E = ((Build *)ctx)->E;
  LLVMBuilderRef b = E->b;
  LLVMValueRef x = va.p, y = vb.p, z = vc.p, r;
  LLVMTypeRef ft = em_wide(E, wide ? E->f64 : E->f32), it = em_wide(E, wide ? E->i64 : E->i32);
  LLVMValueRef a[3] = {x, y, z};
  switch (o) {
  case VM_ADD:
    r = LLVMBuildFAdd(b, x, y, "");
    break;
  case VM_SUB:
    r = LLVMBuildFSub(b, x, y, "");
    break;
  case VM_MUL:
    r = LLVMBuildFMul(b, x, y, "");
    break;
  case VM_DIV:
    r = LLVMBuildFDiv(b, x, y, "");
    break;
  case VM_FMA:
    r = call(E, "llvm.fma", 3, a);
    break;
  case VM_RINT:
    r = call(E, "llvm.roundeven", 1, a);
    break;
  case VM_FLOOR:
    r = call(E, "llvm.floor", 1, a);
    break;
  case VM_ABS:
    r = call(E, "llvm.fabs", 1, a);
    break;
  case VM_NEG:
    r = LLVMBuildFNeg(b, x, "");
    break;
  case VM_COPYSIGN:
    r = call(E, "llvm.copysign", 2, a);
    break;
  case VM_LT:
    r = LLVMBuildFCmp(b, LLVMRealOLT, x, y, "");
    break;
  case VM_LE:
    r = LLVMBuildFCmp(b, LLVMRealOLE, x, y, "");
    break;
  case VM_EQ:
    r = LLVMBuildFCmp(b, LLVMRealOEQ, x, y, "");
    break;
  case VM_SEL:
  case VM_ISEL:
    r = LLVMBuildSelect(b, x, y, z, "");
    break;
  case VM_AND:
    r = LLVMBuildAnd(b, x, y, "");
    break;
  case VM_OR:
    r = LLVMBuildOr(b, x, y, "");
    break;
  case VM_NOT:
    r = LLVMBuildNot(b, x, "");
    break;
  case VM_BITS:
    r = LLVMBuildBitCast(b, x, it, "");
    break;
  case VM_FLOAT:
    r = LLVMBuildBitCast(b, x, ft, "");
    break;
  case VM_IADD:
    r = LLVMBuildAdd(b, x, y, "");
    break;
  case VM_ISUB:
    r = LLVMBuildSub(b, x, y, "");
    break;
  case VM_IAND:
    r = LLVMBuildAnd(b, x, y, "");
    break;
  case VM_IXOR:
    r = LLVMBuildXor(b, x, y, "");
    break;
  case VM_ISHL:
    r = LLVMBuildShl(b, x, y, "");
    break;
  case VM_ISHR:
    r = LLVMBuildLShr(b, x, y, "");
    break;
  case VM_ISAR:
    r = LLVMBuildAShr(b, x, y, "");
    break;
  case VM_ITOF:
    r = LLVMBuildSIToFP(b, x, ft, "");
    break;
  case VM_SCALE:
    r = scale(E, wide, x, y, z);
    break;
  case VM_INE0:
    r = LLVMBuildICmp(b, LLVMIntNE, x, LLVMConstNull(LLVMTypeOf(x)), "");
    break;
  case VM_WIDEN:
    r = LLVMBuildFPExt(b, x, em_wide(E, E->f64), "");
    break;
  case VM_NARROW:
    r = LLVMBuildFPTrunc(b, x, em_wide(E, E->f32), "");
    break;
  default:
    bug("vmath: primitive %d", o);
  }
  return (VmV){.p = r};
}
static VmV num(void *ctx, bool wide, double v) {
  Em *E = ((Build *)ctx)->E;
  return (VmV){.p = em_num(E, wide ? DT_F64 : DT_F32, wide ? v : (double)(float)v)};
}
static VmV bits(void *ctx, bool wide, int64_t v) {
  Em *E = ((Build *)ctx)->E;
  return (VmV){.p = em_int_of(E, em_wide(E, wide ? E->i64 : E->i32), v)};
}
/* All lanes take libm's value when one needs it, and the select keeps it where it is needed. */
static VmV slow(void *ctx, ScalarOp o, VmV vx, VmV where, VmV fast) {
  Build *t = ctx;
  Em *E = t->E;
  LLVMBuilderRef b = E->b;
  const char *name = o == OP_SIN ? "sin" : o == OP_COS ? "cos" : "tan";
  LLVMTypeRef ft = LLVMFunctionType(E->f64, &E->f64, 1, 0);
  LLVMValueRef f = LLVMGetNamedFunction(E->mod, name), x = vx.p, r;
  if (!f) f = LLVMAddFunction(E->mod, name, ft);
  Rare rare = em_rare_begin(E, t->level, E->vec ? em_any(E, where.p) : where.p);
  if (!E->vec) {
    r = LLVMBuildCall2(b, ft, f, &x, 1, "");
  } else {
    r = fast.p;
    LLVMBasicBlockRef head = LLVMAppendBasicBlockInContext(E->cx, E->fn, "");
    LLVMBasicBlockRef done = LLVMAppendBasicBlockInContext(E->cx, E->fn, ""), from = LLVMGetInsertBlock(b);
    LLVMBuildBr(b, head);
    LLVMPositionBuilderAtEnd(b, head);
    LLVMValueRef i = LLVMBuildPhi(b, E->i64, ""), acc = LLVMBuildPhi(b, LLVMTypeOf(r), "");
    LLVMValueRef xi = LLVMBuildExtractElement(b, x, i, "");
    LLVMValueRef next = LLVMBuildInsertElement(b, acc, LLVMBuildCall2(b, ft, f, &xi, 1, ""), i, "");
    LLVMValueRef i1 = LLVMBuildAdd(b, i, em_int(E, 1), "");
    LLVMBuildCondBr(b, LLVMBuildICmp(b, LLVMIntULT, i1, em_int(E, E->width), ""), head, done);
    LLVMBasicBlockRef in[2] = {from, head};
    LLVMAddIncoming(i, (LLVMValueRef[]){em_int(E, 0), i1}, in, 2);
    LLVMAddIncoming(acc, (LLVMValueRef[]){r, next}, in, 2);
    LLVMPositionBuilderAtEnd(b, done);
    r = LLVMBuildSelect(b, where.p, next, fast.p, "");
  }
  em_rare_end(E, &rare);
  LLVMValueRef phi = LLVMBuildPhi(b, LLVMTypeOf(fast.p), "");
  LLVMAddIncoming(phi, (LLVMValueRef[]){r, fast.p}, (LLVMBasicBlockRef[]){rare.then, rare.from}, 2);
  return (VmV){.p = phi};
}

LLVMValueRef em_vmath(Em *E, ScalarOp o, bool wide, LLVMValueRef x, LLVMValueRef y, int level) {
  Build t = {E, level};
  VmB vb = {&t, op, num, bits, slow};
  return vm_expand(&vb, o, wide, (VmV){.p = x}, (VmV){.p = y}).p;
}
