/* Micro-kernels as LLVM IR: phi accumulators over k, one broadcast of A a row, nv vectors of B.
 *
 *   entry:  acc = load ? C : 0
 *   k:      a step (small tiles: four, then the rest one by one)
 *   out:    C = acc, rows in descending order: a row beyond nrows has the address of the last valid one, which is
 * written after it
 *
 * With AVX-512 the 14 x 2 tile keeps 28 accumulators, 2 vectors of B and 1 broadcast in the 32 registers; 16 x 2
 * spills. */
#include "codegen/cpu/mma_ukr.h"
#include <stdio.h>
#include <string.h>

enum { MAX_ROWS = 16, MAX_VECS = 16, UNROLL = 4, FULL = 8 };

int ukr_lanes(DType t) { return t == DT_F32 ? 16 : 8; }

void ukr_tile(DType acc, int vbytes, int64_t rows, int64_t cols, int *mr, int *nv) {
  int w = ukr_lanes(acc), split = w * dt_bytes(acc) / vbytes; /* machine registers a vector */
  int64_t vecs = (cols + w - 1) / w;
  if (vecs < 1) vecs = 1;
  if (rows < 1) rows = 1;
  int regs = vbytes == 64 ? 28 : 12;
  if (split < 1) split = 1;
  int cap = regs / split; /* accumulators, in vectors of w lanes */
  if (cap < 2) cap = 2;
  int maxr = vbytes == 64 ? 14 : cap, wide = vbytes == 64 ? 2 : 1;
  if (vecs == 1) wide = 1;
  if (rows <= maxr / 2) { /* few rows: wide tiles hide the latency of the chains */
    *mr = (int)rows;
    *nv = cap / (int)rows < 8 ? cap / (int)rows : 8;
    if (*nv * *mr == cap && *nv > 2) (*nv)--; /* room for B */
    if (*nv > vecs) *nv = (int)vecs;
    return;
  }
  *nv = wide;
  int64_t best = INT64_MAX;
  for (int r = maxr; r >= (maxr + 1) / 2 && r >= 1; r--) { /* fewest padded rows; the taller tile on a near tie */
    int64_t padded = (rows + r - 1) / r * r;
    int64_t cost = padded * 64 + padded * 64 / (r * 4);
    if (cost < best) best = cost, *mr = r;
  }
}

typedef struct Ukr {
  LLVMModuleRef m;
  LLVMContextRef cx;
  LLVMBuilderRef b;
  const UkrSpec *s;
  LLVMTypeRef elem, vec, i64, ptr;
  LLVMValueRef fn, mask[MAX_VECS];
  int w;
} Ukr;

static LLVMValueRef num(Ukr *u, int64_t v) { return LLVMConstInt(u->i64, (unsigned long long)v, 1); }

static LLVMValueRef call(Ukr *u, const char *name, LLVMTypeRef *over, int nover, LLVMValueRef *arg, int narg) {
  unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
  LLVMValueRef f = LLVMGetIntrinsicDeclaration(u->m, id, over, (size_t)nover);
  return LLVMBuildCall2(u->b, LLVMIntrinsicGetType(u->cx, id, over, (size_t)nover), f, arg, (unsigned)narg, "");
}
static LLVMValueRef align_const(Ukr *u) {
  return LLVMConstInt(LLVMInt32TypeInContext(u->cx), (unsigned)dt_bytes(u->s->acc), 0);
}
static LLVMValueRef load_vec(Ukr *u, LLVMValueRef p, int j) {
  if (u->mask[j])
    return call(u, "llvm.masked.load", (LLVMTypeRef[]){u->vec, u->ptr}, 2,
                (LLVMValueRef[]){p, align_const(u), u->mask[j], LLVMConstNull(u->vec)}, 4);
  LLVMValueRef v = LLVMBuildLoad2(u->b, u->vec, p, "");
  LLVMSetAlignment(v, (unsigned)dt_bytes(u->s->acc));
  return v;
}
static void store_vec(Ukr *u, LLVMValueRef v, LLVMValueRef p, int j) {
  if (u->mask[j])
    call(u, "llvm.masked.store", (LLVMTypeRef[]){u->vec, u->ptr}, 2, (LLVMValueRef[]){v, p, align_const(u), u->mask[j]},
         4);
  else
    LLVMSetAlignment(LLVMBuildStore(u->b, v, p), (unsigned)dt_bytes(u->s->acc));
}
static LLVMValueRef at(Ukr *u, LLVMValueRef p, LLVMValueRef i) { return LLVMBuildGEP2(u->b, u->elem, p, &i, 1, ""); }
static LLVMValueRef splat(Ukr *u, LLVMValueRef x) {
  LLVMValueRef v =
      LLVMBuildInsertElement(u->b, LLVMGetUndef(u->vec), x, LLVMConstInt(LLVMInt32TypeInContext(u->cx), 0, 0), "");
  LLVMValueRef zero = LLVMConstNull(LLVMVectorType(LLVMInt32TypeInContext(u->cx), (unsigned)u->w));
  return LLVMBuildShuffleVector(u->b, v, LLVMGetUndef(u->vec), zero, "");
}
static LLVMValueRef lanes_below(Ukr *u, LLVMValueRef n) { /* <w x i1>: lane < n */
  LLVMValueRef lane[16], s;
  for (int i = 0; i < u->w; i++) lane[i] = num(u, i);
  LLVMTypeRef vi = LLVMVectorType(u->i64, (unsigned)u->w);
  s = LLVMBuildInsertElement(u->b, LLVMGetUndef(vi), n, LLVMConstInt(LLVMInt32TypeInContext(u->cx), 0, 0), "");
  s = LLVMBuildShuffleVector(u->b, s, LLVMGetUndef(vi),
                             LLVMConstNull(LLVMVectorType(LLVMInt32TypeInContext(u->cx), (unsigned)u->w)), "");
  return LLVMBuildICmp(u->b, LLVMIntSLT, LLVMConstVector(lane, (unsigned)u->w), s, "");
}
static LLVMValueRef mul_add(Ukr *u, LLVMValueRef x, LLVMValueRef y, LLVMValueRef acc) {
  if (u->s->acc != DT_I64) return call(u, "llvm.fma", &u->vec, 1, (LLVMValueRef[]){x, y, acc}, 3);
  LLVMValueRef p = LLVMBuildMul(u->b, x, y, "");
  if (u->s->wrap32) {
    LLVMValueRef c[16];
    for (int i = 0; i < u->w; i++) c[i] = num(u, 32);
    LLVMValueRef by = LLVMConstVector(c, (unsigned)u->w);
    p = LLVMBuildAShr(u->b, LLVMBuildShl(u->b, p, by, ""), by, "");
  }
  return LLVMBuildAdd(u->b, acc, p, "");
}

/* One step of k: acc[i * nv + j] += A[i] * B[j]. */
static void step(Ukr *u, LLVMValueRef a, LLVMValueRef b, LLVMValueRef *acc) {
  int mr = u->s->mr, nv = u->s->nv;
  LLVMValueRef bv[MAX_VECS];
  for (int j = 0; j < nv; j++) bv[j] = load_vec(u, at(u, b, num(u, (int64_t)j * u->w)), j);
  for (int i = 0; i < mr; i++) {
    LLVMValueRef x = LLVMBuildLoad2(u->b, u->elem, at(u, a, num(u, i)), "");
    LLVMSetAlignment(x, (unsigned)dt_bytes(u->s->acc));
    LLVMValueRef xs = splat(u, x);
    for (int j = 0; j < nv; j++) acc[i * nv + j] = mul_add(u, xs, bv[j], acc[i * nv + j]);
  }
}

/* for (left = n / unroll or n % unroll; left > 0; left--) `unroll` steps. Leaves the builder behind the loop; a, b, acc
 * are updated. */
static void k_loop(Ukr *u, LLVMValueRef n, int unroll, LLVMValueRef *a, LLVMValueRef *b, LLVMValueRef ldb,
                   LLVMValueRef *acc) {
  int mr = u->s->mr, nacc = mr * u->s->nv;
  LLVMBasicBlockRef from = LLVMGetInsertBlock(u->b);
  LLVMBasicBlockRef head = LLVMAppendBasicBlockInContext(u->cx, u->fn, "k");
  LLVMBasicBlockRef done = LLVMAppendBasicBlockInContext(u->cx, u->fn, "k.done");
  LLVMBuildCondBr(u->b, LLVMBuildICmp(u->b, LLVMIntSGT, n, num(u, 0), ""), head, done);
  LLVMPositionBuilderAtEnd(u->b, head);
  LLVMValueRef left = LLVMBuildPhi(u->b, u->i64, ""), pa = LLVMBuildPhi(u->b, u->ptr, ""),
               pb = LLVMBuildPhi(u->b, u->ptr, "");
  LLVMValueRef phi[MAX_ROWS * MAX_VECS], cur[MAX_ROWS * MAX_VECS];
  for (int i = 0; i < nacc; i++) cur[i] = phi[i] = LLVMBuildPhi(u->b, u->vec, "");
  LLVMValueRef bb = pb;
  for (int t = 0; t < unroll; t++) {
    step(u, at(u, pa, num(u, (int64_t)t * mr)), bb, cur);
    bb = at(u, bb, ldb);
  }
  LLVMValueRef na = at(u, pa, num(u, (int64_t)unroll * mr)), nleft = LLVMBuildSub(u->b, left, num(u, 1), "");
  LLVMBuildCondBr(u->b, LLVMBuildICmp(u->b, LLVMIntSGT, nleft, num(u, 0), ""), head, done);
  LLVMBasicBlockRef pre[2] = {from, head};
  LLVMAddIncoming(left, (LLVMValueRef[]){n, nleft}, pre, 2);
  LLVMAddIncoming(pa, (LLVMValueRef[]){*a, na}, pre, 2);
  LLVMAddIncoming(pb, (LLVMValueRef[]){*b, bb}, pre, 2);
  for (int i = 0; i < nacc; i++) LLVMAddIncoming(phi[i], (LLVMValueRef[]){acc[i], cur[i]}, pre, 2);
  LLVMPositionBuilderAtEnd(u->b, done);
  LLVMValueRef oa = LLVMBuildPhi(u->b, u->ptr, ""), ob = LLVMBuildPhi(u->b, u->ptr, "");
  LLVMAddIncoming(oa, (LLVMValueRef[]){*a, na}, pre, 2);
  LLVMAddIncoming(ob, (LLVMValueRef[]){*b, bb}, pre, 2);
  for (int i = 0; i < nacc; i++) {
    LLVMValueRef o = LLVMBuildPhi(u->b, u->vec, "");
    LLVMAddIncoming(o, (LLVMValueRef[]){acc[i], cur[i]}, pre, 2);
    acc[i] = o;
  }
  *a = oa;
  *b = ob;
}

LLVMValueRef ukr_build(LLVMModuleRef m, const UkrSpec *s, const char *name) {
  Ukr u = {.m = m, .cx = LLVMGetModuleContext(m), .s = s, .w = ukr_lanes(s->acc)};
  u.b = LLVMCreateBuilderInContext(u.cx);
  u.i64 = LLVMInt64TypeInContext(u.cx);
  u.ptr = LLVMPointerTypeInContext(u.cx, 0);
  u.elem = s->acc == DT_F32 ? LLVMFloatTypeInContext(u.cx) : s->acc == DT_F64 ? LLVMDoubleTypeInContext(u.cx) : u.i64;
  u.vec = LLVMVectorType(u.elem, (unsigned)u.w);
  LLVMTypeRef sig =
      LLVMFunctionType(LLVMVoidTypeInContext(u.cx),
                       (LLVMTypeRef[]){u.i64, u.ptr, u.ptr, u.i64, u.ptr, u.i64, u.i64, u.i64, u.i64}, 9, 0);
  u.fn = LLVMAddFunction(m, name, sig);
  LLVMBasicBlockRef entry = LLVMAppendBasicBlockInContext(u.cx, u.fn, "entry");
  LLVMPositionBuilderAtEnd(u.b, entry);
  LLVMValueRef kc = LLVMGetParam(u.fn, 0), a = LLVMGetParam(u.fn, 1), b = LLVMGetParam(u.fn, 2),
               ldb = LLVMGetParam(u.fn, 3);
  LLVMValueRef c = LLVMGetParam(u.fn, 4), ldc = LLVMGetParam(u.fn, 5), nrows = LLVMGetParam(u.fn, 6);
  LLVMValueRef ncols = LLVMGetParam(u.fn, 7), load = LLVMGetParam(u.fn, 8);
  int nacc = s->mr * s->nv;
  if (s->edge)
    for (int j = 0; j < s->nv; j++)
      u.mask[j] = lanes_below(&u, LLVMBuildSub(u.b, ncols, num(&u, (int64_t)j * u.w), ""));
  LLVMValueRef row[MAX_ROWS], last = LLVMBuildSub(u.b, nrows, num(&u, 1), "");
  for (int i = 0; i < s->mr; i++) {
    LLVMValueRef over = LLVMBuildICmp(u.b, LLVMIntSLT, last, num(&u, i), "");
    LLVMValueRef r = LLVMBuildSelect(u.b, over, last, num(&u, i), "");
    row[i] = at(&u, c, LLVMBuildMul(u.b, r, ldc, ""));
  }

  LLVMValueRef acc[MAX_ROWS * MAX_VECS], old[MAX_ROWS * MAX_VECS];
  LLVMBasicBlockRef again = LLVMAppendBasicBlockInContext(u.cx, u.fn, "again"),
                    go = LLVMAppendBasicBlockInContext(u.cx, u.fn, "go");
  LLVMBuildCondBr(u.b, LLVMBuildICmp(u.b, LLVMIntNE, load, num(&u, 0), ""), again, go);
  LLVMPositionBuilderAtEnd(u.b, again);
  for (int i = 0; i < s->mr; i++)
    for (int j = 0; j < s->nv; j++) old[i * s->nv + j] = load_vec(&u, at(&u, row[i], num(&u, (int64_t)j * u.w)), j);
  LLVMBuildBr(u.b, go);
  LLVMPositionBuilderAtEnd(u.b, go);
  for (int i = 0; i < nacc; i++) {
    acc[i] = LLVMBuildPhi(u.b, u.vec, "");
    LLVMAddIncoming(acc[i], (LLVMValueRef[]){LLVMConstNull(u.vec), old[i]}, (LLVMBasicBlockRef[]){entry, again}, 2);
  }
  if (nacc >= FULL) { /* a step takes longer than the loop's own work: unrolling would only cost compile time */
    k_loop(&u, kc, 1, &a, &b, ldb, acc);
  } else {
    k_loop(&u, LLVMBuildSDiv(u.b, kc, num(&u, UNROLL), ""), UNROLL, &a, &b, ldb, acc);
    k_loop(&u, LLVMBuildSRem(u.b, kc, num(&u, UNROLL), ""), 1, &a, &b, ldb, acc);
  }
  for (int i = s->mr - 1; i >= 0; i--)
    for (int j = 0; j < s->nv; j++) store_vec(&u, acc[i * s->nv + j], at(&u, row[i], num(&u, (int64_t)j * u.w)), j);
  LLVMBuildRetVoid(u.b);
  LLVMDisposeBuilder(u.b);
  return u.fn;
}
