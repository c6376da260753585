/* IR helpers of the contraction's functions; see mma_ir.h. Integer helpers fold by hand, so that no clean-up pass is
 * needed for the many additions of 0 and multiplications by 1 that index maps produce. */
#include "codegen/cpu/mma_ir.h"
#include <string.h>

Ir ir_types(LLVMModuleRef m) {
  Ir r = {.m = m, .cx = LLVMGetModuleContext(m)};
  r.i1 = LLVMInt1TypeInContext(r.cx);
  r.i8 = LLVMInt8TypeInContext(r.cx);
  r.i16 = LLVMInt16TypeInContext(r.cx);
  r.i32 = LLVMInt32TypeInContext(r.cx);
  r.i64 = LLVMInt64TypeInContext(r.cx);
  r.f32 = LLVMFloatTypeInContext(r.cx);
  r.f64 = LLVMDoubleTypeInContext(r.cx);
  r.ptr = LLVMPointerTypeInContext(r.cx, 0);
  return r;
}

Ir ir_function(LLVMModuleRef m, const char *name, int narg, const LLVMTypeRef *arg) {
  Ir r = ir_types(m);
  LLVMTypeRef copy[16];
  memcpy(copy, arg, (size_t)narg * sizeof *arg);
  r.fn = LLVMAddFunction(m, name, LLVMFunctionType(LLVMVoidTypeInContext(r.cx), copy, (unsigned)narg, 0));
  r.b = LLVMCreateBuilderInContext(r.cx);
  ir_at(&r, ir_block(&r, "entry"));
  return r;
}

void ir_end(Ir *r) {
  LLVMBuildRetVoid(r->b);
  LLVMDisposeBuilder(r->b);
}

LLVMTypeRef ir_type(Ir *r, DType t) {
  switch (t) {
  case DT_BOOL:
  case DT_U8:
  case DT_I8:
    return r->i8;
  case DT_I16:
    return r->i16;
  case DT_I32:
    return r->i32;
  case DT_I64:
    return r->i64;
  case DT_F16:
    return LLVMHalfTypeInContext(r->cx);
  case DT_BF16:
    return LLVMBFloatTypeInContext(r->cx);
  case DT_F64:
    return r->f64;
  default:
    return r->f32;
  }
}

LLVMTypeRef ir_vec(LLVMTypeRef t, int w) { return LLVMVectorType(t, (unsigned)w); }
LV ir_num(Ir *r, int64_t v) { return LLVMConstInt(r->i64, (unsigned long long)v, 1); }

static bool known(LV v, int64_t *c) {
  if (!LLVMIsAConstantInt(v)) return false;
  *c = LLVMConstIntGetSExtValue(v);
  return true;
}

LV ir_add(Ir *r, LV a, LV b) {
  int64_t x, y;
  bool kx = known(a, &x), ky = known(b, &y);
  if (kx && x == 0) return b;
  if (ky && y == 0) return a;
  if (kx && ky) return ir_num(r, (int64_t)((uint64_t)x + (uint64_t)y));
  return LLVMBuildAdd(r->b, a, b, "");
}
LV ir_sub(Ir *r, LV a, LV b) {
  int64_t x, y;
  bool kx = known(a, &x), ky = known(b, &y);
  if (ky && y == 0) return a;
  if (kx && ky) return ir_num(r, (int64_t)((uint64_t)x - (uint64_t)y));
  return LLVMBuildSub(r->b, a, b, "");
}
LV ir_mul(Ir *r, LV a, int64_t c) {
  int64_t x;
  if (c == 0) return ir_num(r, 0);
  if (c == 1) return a;
  if (known(a, &x)) return ir_num(r, (int64_t)((uint64_t)x * (uint64_t)c));
  return LLVMBuildMul(r->b, a, ir_num(r, c), "");
}
LV ir_lt(Ir *r, LV a, LV b) { return LLVMBuildICmp(r->b, LLVMIntSLT, a, b, ""); }
LV ir_min(Ir *r, LV a, LV b) {
  int64_t x, y;
  if (known(a, &x) && known(b, &y)) return x < y ? a : b;
  return LLVMBuildSelect(r->b, ir_lt(r, a, b), a, b, "");
}
LV ir_div(Ir *r, LV a, int64_t c) {
  int64_t x;
  if (c == 1) return a;
  if (known(a, &x)) return ir_num(r, x / c);
  return LLVMBuildUDiv(r->b, a, ir_num(r, c), "");
}
LV ir_rem(Ir *r, LV a, int64_t c) {
  int64_t x;
  if (c == 1) return ir_num(r, 0);
  if (known(a, &x)) return ir_num(r, x % c);
  return LLVMBuildURem(r->b, a, ir_num(r, c), "");
}
LV ir_gep(Ir *r, LLVMTypeRef t, LV p, LV i) {
  int64_t x;
  return known(i, &x) && x == 0 ? p : LLVMBuildGEP2(r->b, t, p, &i, 1, "");
}
LV ir_load(Ir *r, LLVMTypeRef t, LV p, int align) {
  LV v = LLVMBuildLoad2(r->b, t, p, "");
  LLVMSetAlignment(v, (unsigned)align);
  return v;
}
void ir_store(Ir *r, LV v, LV p, int align) { LLVMSetAlignment(LLVMBuildStore(r->b, v, p), (unsigned)align); }

LV ir_splat(Ir *r, LV x, int w) {
  LLVMTypeRef t = ir_vec(LLVMTypeOf(x), w);
  LV v = LLVMBuildInsertElement(r->b, LLVMGetPoison(t), x, LLVMConstInt(r->i32, 0, 0), "");
  return LLVMBuildShuffleVector(r->b, v, LLVMGetPoison(t), LLVMConstNull(ir_vec(r->i32, w)), "");
}
LV ir_lanes(Ir *r, LLVMTypeRef t, int w) {
  LV c[64];
  for (int i = 0; i < w; i++) c[i] = LLVMConstInt(t, (unsigned long long)i, 0);
  return LLVMConstVector(c, (unsigned)w);
}
LV ir_lanes_below(Ir *r, LV n, int w) {
  /* Clamped to 0..w first: then 32-bit lanes do, half as many registers as 64-bit ones. */
  LV lo = LLVMBuildSelect(r->b, ir_lt(r, n, ir_num(r, 0)), ir_num(r, 0), n, "");
  LV s = LLVMBuildTrunc(r->b, ir_min(r, lo, ir_num(r, w)), r->i32, "");
  return LLVMBuildICmp(r->b, LLVMIntULT, ir_lanes(r, r->i32, w), ir_splat(r, s, w), "");
}

LV ir_call(Ir *r, const char *name, int nover, LLVMTypeRef *over, int narg, LV *arg) {
  unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
  LV f = LLVMGetIntrinsicDeclaration(r->m, id, over, (size_t)nover);
  return LLVMBuildCall2(r->b, LLVMIntrinsicGetType(r->cx, id, over, (size_t)nover), f, arg, (unsigned)narg, "");
}

LV ir_load_vec(Ir *r, LLVMTypeRef t, int w, LV p, int align, LV mask) {
  LLVMTypeRef vt = ir_vec(t, w);
  if (!mask) return ir_load(r, vt, p, align);
  LV al = LLVMConstInt(r->i32, (unsigned)align, 0);
  return ir_call(r, "llvm.masked.load", 2, (LLVMTypeRef[]){vt, r->ptr}, 4, (LV[]){p, al, mask, LLVMConstNull(vt)});
}
void ir_store_vec(Ir *r, LV v, int w, LV p, int align, LV mask) {
  if (!mask) {
    ir_store(r, v, p, align);
    return;
  }
  LV al = LLVMConstInt(r->i32, (unsigned)align, 0);
  ir_call(r, "llvm.masked.store", 2, (LLVMTypeRef[]){LLVMTypeOf(v), r->ptr}, 4, (LV[]){v, p, al, mask});
}
LV ir_gather(Ir *r, LLVMTypeRef t, int w, LV base, LV index, int align, LV mask) {
  LLVMTypeRef vt = ir_vec(t, w);
  LV p = LLVMBuildGEP2(r->b, t, base, &index, 1, ""), al = LLVMConstInt(r->i32, (unsigned)align, 0);
  if (!mask) mask = LLVMConstAllOnes(ir_vec(r->i1, w));
  return ir_call(r, "llvm.masked.gather", 2, (LLVMTypeRef[]){vt, ir_vec(r->ptr, w)}, 4,
                 (LV[]){p, al, mask, LLVMConstNull(vt)});
}

LV ir_widen(Ir *r, LV v, int w, DType from, DType acc) {
  if (from == acc) return v;
  LLVMTypeRef to = ir_type(r, acc);
  if (w > 1) to = ir_vec(to, w);
  if (dt_is_float(from)) return LLVMBuildFPExt(r->b, v, to, "");
  bool is_signed = from != DT_BOOL && from != DT_U8;
  if (acc == DT_I64) return is_signed ? LLVMBuildSExt(r->b, v, to, "") : LLVMBuildZExt(r->b, v, to, "");
  return is_signed ? LLVMBuildSIToFP(r->b, v, to, "") : LLVMBuildUIToFP(r->b, v, to, "");
}

LLVMBasicBlockRef ir_block(Ir *r, const char *name) { return LLVMAppendBasicBlockInContext(r->cx, r->fn, name); }
void ir_at(Ir *r, LLVMBasicBlockRef b) { LLVMPositionBuilderAtEnd(r->b, b); }

IrFor ir_for(Ir *r, LV lo, LV hi, LV step) {
  IrFor f = {ir_block(r, "for"), ir_block(r, "do"), ir_block(r, "done"), NULL, step};
  LLVMBasicBlockRef from = LLVMGetInsertBlock(r->b);
  LLVMBuildBr(r->b, f.head);
  ir_at(r, f.head);
  f.i = LLVMBuildPhi(r->b, r->i64, "");
  LLVMAddIncoming(f.i, &lo, &from, 1);
  LLVMBuildCondBr(r->b, ir_lt(r, f.i, hi), f.body, f.done);
  ir_at(r, f.body);
  return f;
}
void ir_for_end(Ir *r, IrFor *f) {
  LV next = LLVMBuildAdd(r->b, f->i, f->step, "");
  LLVMBasicBlockRef from = LLVMGetInsertBlock(r->b);
  LLVMAddIncoming(f->i, &next, &from, 1);
  LLVMBuildBr(r->b, f->head);
  ir_at(r, f->done);
}

IrIf ir_if(Ir *r, LV c) {
  IrIf f = {ir_block(r, "else"), ir_block(r, "fi"), false};
  LLVMBasicBlockRef then = ir_block(r, "then");
  LLVMBuildCondBr(r->b, c, then, f.other);
  ir_at(r, then);
  return f;
}
void ir_else(Ir *r, IrIf *f) {
  LLVMBuildBr(r->b, f->done);
  ir_at(r, f->other);
  f->has_else = true;
}
void ir_if_end(Ir *r, IrIf *f) {
  LLVMBuildBr(r->b, f->done);
  if (!f->has_else) {
    ir_at(r, f->other);
    LLVMBuildBr(r->b, f->done);
  }
  ir_at(r, f->done);
}

LV ir_slot(Ir *r, LLVMTypeRef t, int n) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(r->b), entry = LLVMGetEntryBasicBlock(r->fn);
  LLVMValueRef first = LLVMGetFirstInstruction(entry);
  if (first)
    LLVMPositionBuilderBefore(r->b, first);
  else
    ir_at(r, entry);
  LV v = LLVMBuildArrayAlloca(r->b, t, LLVMConstInt(r->i32, (unsigned)n, 0), "");
  LLVMSetAlignment(v, 64);
  ir_at(r, here);
  return v;
}

/* ---- Transpose --------------------------------------------------------------------------------------------------- */

static LV shuffle(Ir *r, int w, LV a, LV b, const int *at) {
  LV c[16];
  for (int i = 0; i < w; i++) c[i] = LLVMConstInt(r->i32, (unsigned)at[i], 0);
  return LLVMBuildShuffleVector(r->b, a, b, LLVMConstVector(c, (unsigned)w), "");
}

/* Interleaves groups of `g` elements inside 128-bit units of q elements: low or high half of a and b. */
static LV unpack(Ir *r, int w, LV a, LV b, int q, int g, int high) {
  int at[16] = {0};
  for (int u = 0; u < w; u += q)
    for (int i = 0; i < q; i++) {
      int pos = i / g, from = (pos / 2) * g + i % g + (high ? q / 2 : 0);
      at[u + i] = u + from + (pos % 2 ? w : 0);
    }
  return shuffle(r, w, a, b, at);
}

/* 128-bit units {odd, odd + 2} of a, then of b. */
static LV units(Ir *r, int w, LV a, LV b, int q, int odd) {
  int at[16] = {0};
  for (int i = 0; i < w; i++) {
    int u = i / q, from = (u % 2) * 2 + odd;
    at[i] = from * q + i % q + (u >= 2 ? w : 0);
  }
  return shuffle(r, w, a, b, at);
}

void ir_transpose_rows(Ir *r, int w, LV *row) {
  int q = w / 4;
  LV t[4];
  for (int g = 1; g < q; g *= 2) { /* q = 4: pairs, then pairs of pairs; q = 2: pairs */
    for (int i = 0; i < q; i += 2 * g)
      for (int j = 0; j < g; j++) {
        t[i + 2 * j] = unpack(r, w, row[i + j], row[i + g + j], q, g, 0);
        t[i + 2 * j + 1] = unpack(r, w, row[i + j], row[i + g + j], q, g, 1);
      }
    memcpy(row, t, sizeof *t * (size_t)q);
  }
}

void ir_transpose_units(Ir *r, int w, LV *u) {
  int q = w / 4;
  LV even01 = units(r, w, u[0], u[1], q, 0), odd01 = units(r, w, u[0], u[1], q, 1);
  LV even23 = units(r, w, u[2], u[3], q, 0), odd23 = units(r, w, u[2], u[3], q, 1);
  u[0] = units(r, w, even01, even23, q, 0);
  u[1] = units(r, w, odd01, odd23, q, 0);
  u[2] = units(r, w, even01, even23, q, 1);
  u[3] = units(r, w, odd01, odd23, q, 1);
}
