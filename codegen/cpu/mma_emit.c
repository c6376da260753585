/* Functions of the blocked driver written with emit.h: arguments, runs of flat points. See mma_emit.h. */
#include "codegen/cpu/mma_emit.h"
#include "codegen/cpu/mma_ir.h"
#include <stddef.h>
#include <stdio.h>
#include <string.h>

void call_open(Em *E, Graph *g, const Kernel *k, Arena *a, const Isa *isa, LLVMModuleRef m, const char *name,
               int width) {
  em_init(E, g, k, a, isa, m, width);
  em_function(E, arena_printf(a, "%s.body", name), false);
  E->fault = em_arg(E, offsetof(KernelArgs, fault), E->ptr);
  LLVMValueRef table = em_arg(E, offsetof(KernelArgs, ptr), E->ptr);
  for (int i = 0; i < k->nbuf; i++) {
    const KBuf *b = &k->buf[i];
    if (b->space != SP_GLOBAL) continue;
    LLVMValueRef at = em_int(E, b->arg);
    E->buf[i].base = LLVMBuildLoad2(E->b, E->ptr, LLVMBuildGEP2(E->b, E->ptr, table, &at, 1, ""), "");
    E->buf[i].stride = b->stride;
    E->buf[i].inner = b->out; /* it may be the memory of an operand of the same point: loads stay behind the loops */
  }
}

LLVMValueRef call_arg(Em *E, int i, LLVMTypeRef t) {
  LLVMValueRef p = em_arg(E, offsetof(KernelArgs, ctx), E->ptr), at = em_int(E, i);
  return LLVMBuildLoad2(E->b, t, LLVMBuildGEP2(E->b, E->i64, p, &at, 1, ""), "");
}

void call_close(Em *E, const char *name, int narg, const bool *is_ptr) {
  em_end(E);
  LLVMTypeRef arg[CALL_ARGS + 1] = {E->ptr};
  for (int i = 0; i < narg; i++) arg[i + 1] = is_ptr[i] ? E->ptr : E->i64;
  Ir r = ir_function(E->mod, name, narg + 1, arg);
  enum { WORDS = sizeof(KernelArgs) / 8 };
  LV copy = ir_slot(&r, r.i64, WORDS), rest = ir_slot(&r, r.i64, CALL_ARGS), args = LLVMGetParam(r.fn, 0);
  for (int i = 0; i < WORDS; i++) {
    LV at = ir_num(&r, i);
    ir_store(&r, ir_load(&r, r.i64, ir_gep(&r, r.i64, args, at), 8), ir_gep(&r, r.i64, copy, at), 8);
  }
  for (int i = 0; i < narg; i++)
    ir_store(&r, LLVMGetParam(r.fn, (unsigned)i + 1), ir_gep(&r, r.i64, rest, ir_num(&r, i)), 8);
  ir_store(&r, rest, ir_gep(&r, r.i8, copy, ir_num(&r, offsetof(KernelArgs, ctx))), 8);
  LLVMBuildCall2(r.b, LLVMGlobalGetValueType(E->fn), E->fn, &copy, 1, "");
  ir_end(&r);
  em_drop(E);
}

LLVMValueRef call_min(Em *E, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildSelect(E->b, LLVMBuildICmp(E->b, LLVMIntSLT, a, b, ""), a, b, "");
}
LLVMValueRef call_max(Em *E, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildSelect(E->b, LLVMBuildICmp(E->b, LLVMIntSGT, a, b, ""), a, b, "");
}

void call_bind(Em *E, LLVMValueRef flat, int naxis, const int *axis, const int64_t *ext) {
  for (int i = naxis - 1; i >= 0; i--) {
    LLVMValueRef x = flat, e = em_int(E, ext[axis[i]] > 0 ? ext[axis[i]] : 1);
    if (i) {
      x = LLVMBuildURem(E->b, flat, e, "");
      flat = LLVMBuildUDiv(E->b, flat, e, "");
    }
    em_bind(E, axis[i], x, E->depth, false, ext[axis[i]]);
  }
}

void call_runs_open(Em *E, LLVMValueRef first, LLVMValueRef n, int naxis, const int *axis, const int64_t *ext,
                    LLVMValueRef *at, LLVMValueRef *left) {
  int vit = axis[naxis - 1];
  LLVMValueRef e = em_int(E, ext[vit] > 0 ? ext[vit] : 1), one = em_int(E, 1), zero = em_int(E, 0);
  LLVMValueRef end = LLVMBuildAdd(E->b, first, n, "");
  LLVMValueRef q0 = LLVMBuildUDiv(E->b, first, e, "");
  LLVMValueRef q1 = LLVMBuildAdd(E->b, LLVMBuildUDiv(E->b, LLVMBuildSub(E->b, end, one, ""), e, ""), one, "");
  LLVMValueRef q = em_loop_open(E, q0, q1, 1, 0, NULL);
  call_bind(E, q, naxis - 1, axis, ext);
  LLVMValueRef row = LLVMBuildMul(E->b, q, e, "");
  LLVMValueRef lo = call_max(E, LLVMBuildSub(E->b, first, row, ""), zero),
               hi = call_min(E, LLVMBuildSub(E->b, end, row, ""), e);
  LLVMValueRef from = LLVMBuildSub(E->b, row, first, "");
  LLVMValueRef v = em_loop_open(E, lo, hi, E->width, 0, NULL);
  em_bind(E, vit, v, E->depth, true, ext[vit]);
  *left = LLVMBuildSub(E->b, hi, v, "");
  *at = LLVMBuildAdd(E->b, from, v, "");
  LLVMValueRef live = LLVMBuildTrunc(E->b, call_min(E, *left, em_int(E, E->width)), E->i32, "");
  E->mask = LLVMBuildICmp(E->b, LLVMIntULT, em_lanes(E, E->i32, 1), em_splat(E, live), "");
  E->mask_level = E->depth;
}
void call_runs_close(Em *E) {
  E->mask = NULL;
  em_loop_close(E, 0, NULL);
  em_loop_close(E, 0, NULL);
}
