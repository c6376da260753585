/* Levels, loops and small values of the function under construction (emit.h). */
#include "codegen/cpu/emit.h"
#include <string.h>

void em_init(Em *E, Graph *g, const Kernel *k, Arena *a, const Isa *isa, LLVMModuleRef m, int width) {
  memset(E, 0, sizeof *E);
  E->g = g, E->k = k, E->arena = a, E->isa = isa, E->mod = m, E->width = width;
  E->cx = LLVMGetModuleContext(m);
  E->b = LLVMCreateBuilderInContext(E->cx);
  E->i1 = LLVMInt1TypeInContext(E->cx), E->i8 = LLVMInt8TypeInContext(E->cx), E->i16 = LLVMInt16TypeInContext(E->cx);
  E->i32 = LLVMInt32TypeInContext(E->cx), E->i64 = LLVMInt64TypeInContext(E->cx);
  E->f16 = LLVMHalfTypeInContext(E->cx), E->f32 = LLVMFloatTypeInContext(E->cx),
  E->f64 = LLVMDoubleTypeInContext(E->cx);
  E->ptr = LLVMPointerTypeInContext(E->cx, 0);
  E->buf = arena_array(a, EmBuf, k ? k->nbuf : 0);
  E->memo.arena = a;
}
void em_drop(Em *E) { LLVMDisposeBuilder(E->b); }

static void attribute(Em *E, LLVMValueRef fn, const char *name, const char *value) {
  LLVMAddAttributeAtIndex(
      fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex,
      LLVMCreateStringAttribute(E->cx, name, (unsigned)strlen(name), value, (unsigned)strlen(value)));
}
void em_function_flag(Em *E, LLVMValueRef fn, const char *name) {
  unsigned id = LLVMGetEnumAttributeKindForName(name, strlen(name));
  LLVMAddAttributeAtIndex(fn, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, LLVMCreateEnumAttribute(E->cx, id, 0));
}

void em_function_flags(Em *E, LLVMValueRef fn) {
  em_function_flag(E, fn, "nounwind");
  attribute(E, fn, "prefer-vector-width", E->isa->vector_bits == 512 ? "512" : "256");
}

static LLVMBasicBlockRef block(Em *E) { return LLVMAppendBasicBlockInContext(E->cx, E->fn, ""); }

void em_function(Em *E, const char *name, bool external) {
  LLVMTypeRef t = LLVMFunctionType(LLVMVoidTypeInContext(E->cx), &E->ptr, 1, 0);
  E->fn = LLVMAddFunction(E->mod, name, t);
  LLVMSetLinkage(E->fn, external ? LLVMExternalLinkage : LLVMInternalLinkage);
  em_function_flags(E, E->fn);
  E->depth = 0;
  E->entry = block(E);
  E->level[0] = (Level){.cur = E->entry, .gen = ++E->gens};
  E->memo.n = 0;
  E->memo.cap = 0;
  E->val.n = 0;
  E->mask = E->live = NULL;
  E->vec_iter = -1;
  E->copies = 1;
  E->unit = NULL;
  E->ntile = 0;
  E->point_level = 0;
  E->vec = false;
  em_at(E, 0);
  LLVMTypeRef at = LLVMArrayType2(E->i8, 64);
  E->zeros = LLVMAddGlobal(E->mod, at, "zeros");
  LLVMSetInitializer(E->zeros, LLVMConstNull(at));
  LLVMSetGlobalConstant(E->zeros, 1);
  LLVMSetLinkage(E->zeros, LLVMInternalLinkage);
  LLVMSetAlignment(E->zeros, 64);
}
void em_end(Em *E) {
  if (E->depth != 0) bug("em_end: %d levels open", E->depth);
  em_at(E, 0);
  LLVMBuildRetVoid(E->b);
}
LLVMValueRef em_arg(Em *E, size_t offset, LLVMTypeRef t) {
  em_at(E, 0);
  LLVMValueRef off = em_int(E, (int64_t)offset);
  return LLVMBuildLoad2(E->b, t, LLVMBuildInBoundsGEP2(E->b, E->i8, LLVMGetParam(E->fn, 0), &off, 1, ""), "");
}

/* ---- levels ------------------------------------------------------------------------------------------------------ */
void em_at(Em *E, int level) { LLVMPositionBuilderAtEnd(E->b, E->level[level].cur); }

static Level *push(Em *E) {
  if (E->depth + 1 >= EM_LEVELS) bug("loops nested too deeply");
  Level *l = &E->level[++E->depth];
  LLVMBasicBlockRef at = block(E);
  l->cur = l->entry = at;
  l->gen = ++E->gens;
  l->loop = false;
  l->iv = l->hi = l->cond = NULL;
  l->ncarry = 0;
  em_at(E, E->depth);
  return l;
}
int em_scope_open(Em *E) {
  push(E);
  return E->depth;
}
void em_scope_close(Em *E) {
  Level *l = &E->level[E->depth], *up = l - 1;
  em_at(E, E->depth - 1);
  LLVMBuildBr(E->b, l->entry);
  up->cur = l->cur; /* goes on where the scope ended */
  E->depth--;
  em_at(E, E->depth);
}

LLVMValueRef em_loop_open(Em *E, LLVMValueRef lo, LLVMValueRef hi, int64_t step, int n, LLVMValueRef *carry) {
  Level *l = push(E);
  if (n + 1 > EM_CARRY) bug("too many values carried");
  l->loop = true;
  l->step = step;
  l->hi = hi;
  l->ncarry = n;
  l->iv = LLVMBuildPhi(E->b, E->i64, "");
  l->init[n] = lo;
  for (int i = 0; i < n; i++) {
    l->init[i] = carry[i];
    carry[i] = l->carry[i] = LLVMBuildPhi(E->b, LLVMTypeOf(carry[i]), "");
  }
  return l->iv;
}
void em_loop_close(Em *E, int n, LLVMValueRef *carry) {
  Level *l = &E->level[E->depth], *up = l - 1;
  if (!l->loop || n != l->ncarry) bug("em_loop_close");
  em_at(E, E->depth);
  LLVMValueRef next = LLVMBuildNSWAdd(E->b, l->iv, em_int(E, l->step), "");
  LLVMBasicBlockRef cont = block(E);
  LLVMBuildCondBr(E->b, LLVMBuildICmp(E->b, LLVMIntSLT, next, l->hi, ""), l->entry, cont);
  em_at(E, E->depth - 1);
  LLVMBuildBr(E->b, l->entry);
  LLVMBasicBlockRef from[2] = {up->cur, l->cur};
  LLVMAddIncoming(l->iv, (LLVMValueRef[]){l->init[n], next}, from, 2);
  for (int i = 0; i < n; i++) LLVMAddIncoming(l->carry[i], (LLVMValueRef[]){l->init[i], carry[i]}, from, 2);
  up->cur = cont;
  E->depth--;
  em_at(E, E->depth);
}

void em_if_open(Em *E, LLVMValueRef cond) { push(E)->cond = cond; }
void em_if_close(Em *E, int n, LLVMValueRef *carry, LLVMValueRef *else_) {
  Level *l = &E->level[E->depth], *up = l - 1;
  LLVMBasicBlockRef cont = block(E);
  em_at(E, E->depth);
  LLVMBuildBr(E->b, cont);
  em_at(E, E->depth - 1);
  LLVMBuildCondBr(E->b, l->cond, l->entry, cont);
  LLVMBasicBlockRef from[2] = {l->cur, up->cur};
  up->cur = cont;
  E->depth--;
  em_at(E, E->depth);
  for (int i = 0; i < n; i++) {
    LLVMValueRef phi = LLVMBuildPhi(E->b, LLVMTypeOf(carry[i]), "");
    LLVMAddIncoming(phi, (LLVMValueRef[]){carry[i], else_[i]}, from, 2);
    carry[i] = phi;
  }
}
void em_bind(Em *E, int k, LLVMValueRef s, int level, bool vec, int64_t extent) {
  if (k >= EM_ITERS) bug("too many iterators");
  E->it[k] = (It){s, level, E->level[level].gen, vec, false, extent};
}

Rare em_rare_begin(Em *E, int level, LLVMValueRef cond) {
  Rare r = {E->level[level].cur, block(E), block(E), level};
  em_at(E, level);
  LLVMBuildCondBr(E->b, cond, r.then, r.cont);
  LLVMPositionBuilderAtEnd(E->b, r.then);
  return r;
}
void em_rare_end(Em *E, Rare *r) {
  r->then = LLVMGetInsertBlock(E->b);
  LLVMBuildBr(E->b, r->cont);
  E->level[r->level].cur = r->cont;
  em_at(E, r->level);
}

/* ---- small values ------------------------------------------------------------------------------------------------ */
LLVMValueRef em_alloca(Em *E, LLVMTypeRef t, int64_t n) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(E->b);
  LLVMValueRef first = LLVMGetFirstInstruction(E->entry);
  if (first)
    LLVMPositionBuilderBefore(E->b, first);
  else
    LLVMPositionBuilderAtEnd(E->b, E->entry);
  LLVMValueRef a = LLVMBuildArrayAlloca(E->b, t, em_int(E, n), "");
  LLVMSetAlignment(a, 64);
  LLVMPositionBuilderAtEnd(E->b, here);
  return a;
}
LLVMValueRef em_int(Em *E, int64_t v) { return LLVMConstInt(E->i64, (uint64_t)v, 1); }
LLVMTypeRef em_reg_type(Em *E, DType t) {
  switch (t) {
  case DT_BOOL:
    return E->i1;
  case DT_U8:
  case DT_I8:
    return E->i8;
  case DT_I16:
    return E->i16;
  case DT_I32:
    return E->i32;
  case DT_I64:
    return E->i64;
  case DT_F64:
    return E->f64;
  default:
    return E->f32;
  }
}
LLVMTypeRef em_mem_type(Em *E, DType t) {
  return t == DT_BOOL ? E->i8 : t == DT_F16 ? E->f16 : t == DT_BF16 ? E->i16 : em_reg_type(E, t);
}
LLVMTypeRef em_vector(Em *E, LLVMTypeRef t) { return LLVMVectorType(t, (unsigned)E->width); }
LLVMTypeRef em_wide(Em *E, LLVMTypeRef t) { return E->vec ? em_vector(E, t) : t; }
LLVMValueRef em_splat_const(Em *E, LLVMValueRef c) {
  LLVMValueRef all[64];
  for (int i = 0; i < E->width; i++) all[i] = c;
  return LLVMConstVector(all, (unsigned)E->width);
}
LLVMValueRef em_splat(Em *E, LLVMValueRef s) {
  if (LLVMIsConstant(s)) return em_splat_const(E, s);
  LLVMTypeRef vt = em_vector(E, LLVMTypeOf(s));
  LLVMValueRef one = LLVMBuildInsertElement(E->b, LLVMGetPoison(vt), s, em_int(E, 0), "");
  return LLVMBuildShuffleVector(E->b, one, LLVMGetPoison(vt), LLVMConstNull(em_vector(E, E->i32)), "");
}
LLVMValueRef em_lanes(Em *E, LLVMTypeRef t, int64_t step) {
  LLVMValueRef all[64];
  for (int i = 0; i < E->width; i++) all[i] = LLVMConstInt(t, (uint64_t)step * (uint64_t)i, 1);
  return LLVMConstVector(all, (unsigned)E->width);
}
LLVMValueRef em_call(Em *E, const char *intrinsic, int ntype, LLVMTypeRef *type, int n, LLVMValueRef *arg) {
  unsigned id = LLVMLookupIntrinsicID(intrinsic, strlen(intrinsic));
  if (!id) bug("no intrinsic %s", intrinsic);
  LLVMValueRef f = LLVMGetIntrinsicDeclaration(E->mod, id, type, (size_t)ntype);
  return LLVMBuildCall2(E->b, LLVMGlobalGetValueType(f), f, arg, (unsigned)n, "");
}
LLVMValueRef em_shuffle(Em *E, LLVMValueRef a, LLVMValueRef b, int n, const int *lane) {
  LLVMValueRef idx[64];
  for (int i = 0; i < n; i++) idx[i] = LLVMConstInt(E->i32, (unsigned)lane[i], 0);
  return LLVMBuildShuffleVector(E->b, a, b ? b : LLVMGetPoison(LLVMTypeOf(a)), LLVMConstVector(idx, (unsigned)n), "");
}
LLVMValueRef em_any(Em *E, LLVMValueRef mask) {
  LLVMTypeRef bits = LLVMIntTypeInContext(E->cx, LLVMGetVectorSize(LLVMTypeOf(mask)));
  return LLVMBuildICmp(E->b, LLVMIntNE, LLVMBuildBitCast(E->b, mask, bits, ""), LLVMConstNull(bits), "");
}
