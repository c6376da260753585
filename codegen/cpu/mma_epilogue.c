/* Epilogues: what happens to the finished sums of a block (mma.h).
 *
 * The block's sums lie in cache, rows r by columns v. For each row, for each run of columns inside the innermost column axis, a
 * vector of sums becomes the value of the contraction's node, and the stages after it are evaluated and stored. */
#include "codegen/cpu/mma.h"
#include <stddef.h>
#include <string.h>

typedef struct Epi {
  Ir r;
  const MmaPlan *p;
  int w;
  LV table, it[CONTRACT_MAX_ITER];
} Epi;

static void decode(Epi *e, LV flat, int n, const int *axis) {
  for (int i = n - 1; i >= 0; i--) {
    int64_t x = e->p->ext[axis[i]] > 0 ? e->p->ext[axis[i]] : 1;
    e->it[axis[i]] = i ? ir_rem(&e->r, flat, x) : flat;
    if (i) flat = ir_div(&e->r, flat, x);
  }
}

/* acc-typed vector -> dtype as stored. */
static LV narrow(Epi *e, LV v, DType to) {
  Ir *r = &e->r;
  DType acc = e->p->c.acc;
  if (to == acc) return v;
  LLVMTypeRef t = ir_vec(ir_type(r, to), e->w);
  if (dt_is_float(to)) return LLVMBuildFPTrunc(r->b, v, t, "");
  return LLVMBuildTrunc(r->b, v, t, "");
}

/* Stores v where stage s stores at the current iterators, lanes along vit. */
static void store(Epi *e, const Stage *s, LV v, int vit, LV mask) {
  Ir *r = &e->r;
  const KBuf *b = &e->p->k->buf[s->out];
  LLVMTypeRef t = ir_type(r, b->dtype);
  LV off = ir_num(r, 0);
  int64_t step = 0;
  for (int d = 0; d < b->rank; d++) {
    if (s->store[d] < 0) continue;
    off = ir_add(r, off, ir_mul(r, e->it[s->store[d]], b->stride[d]));
    if (s->store[d] == vit) step = b->stride[d];
  }
  int al = dt_bytes(b->dtype);
  LV base = ir_gep(r, t, ir_load(r, r->ptr, ir_gep(r, r->ptr, e->table, ir_num(r, b->arg)), 8), off);
  if (step == 1 || vit < 0) {
    ir_store_vec(r, v, e->w, base, al, mask);
    return;
  }
  LV lanes[16];
  for (int l = 0; l < e->w; l++) lanes[l] = ir_num(r, step * l);
  LV index = LLVMConstVector(lanes, (unsigned)e->w), p = LLVMBuildGEP2(r->b, t, base, &index, 1, "");
  LV a = LLVMConstInt(r->i32, (unsigned)al, 0);
  ir_call(r, "llvm.masked.scatter", 2, (LLVMTypeRef[]){LLVMTypeOf(v), LLVMTypeOf(p)}, 4, (LV[]){v, p, a, mask});
}

bool mma_epilogue_build(Graph *g, LLVMModuleRef m, const char *name, const MmaPlan *p, const char **why) {
  Epi e = {.p = p, .w = ukr_lanes(p->c.acc)};
  if (p->k->nstage > 1) {
    *why = "epilogue";
    return false;
  }
  LLVMContextRef cx = LLVMGetModuleContext(m);
  LLVMTypeRef i64 = LLVMInt64TypeInContext(cx), ptr = LLVMPointerTypeInContext(cx, 0);
  e.r = ir_function(m, name, 8, (LLVMTypeRef[]){ptr, ptr, i64, i64, i64, i64, ptr, i64});
  Ir *r = &e.r;
  LV args = LLVMGetParam(r->fn, 0), loop = LLVMGetParam(r->fn, 1), r0 = LLVMGetParam(r->fn, 2), nr = LLVMGetParam(r->fn, 3);
  LV v0 = LLVMGetParam(r->fn, 4), nv = LLVMGetParam(r->fn, 5), c = LLVMGetParam(r->fn, 6), ldc = LLVMGetParam(r->fn, 7);
  LLVMTypeRef elem = ir_type(r, p->c.acc);
  e.table = ir_load(r, r->ptr, ir_gep(r, r->i8, args, ir_num(r, offsetof(KernelArgs, ptr))), 8);
  for (int k = 0; k < p->niter; k++) e.it[k] = ir_num(r, 0);
  for (int d = 0; d < p->nloop; d++) e.it[p->loop[d]] = ir_load(r, r->i64, ir_gep(r, r->i64, loop, ir_num(r, d)), 8);
  int vit = p->nv ? p->v[p->nv - 1] : -1;
  IrFor rows = ir_for(r, ir_num(r, 0), nr, ir_num(r, 1));
  decode(&e, ir_add(r, r0, rows.i), p->nr, p->r);
  LV crow = ir_gep(r, elem, c, LLVMBuildMul(r->b, rows.i, ldc, ""));
  IrFor runs = ir_for(r, ir_num(r, 0), nv, NULL);
  decode(&e, ir_add(r, v0, runs.i), p->nv, p->v);
  LV len = ir_sub(r, nv, runs.i), first = vit < 0 ? NULL : e.it[vit];
  if (vit >= 0) len = ir_min(r, len, ir_sub(r, ir_num(r, p->ext[vit]), first));
  runs.step = len;
  IrFor vecs = ir_for(r, ir_num(r, 0), len, ir_num(r, e.w));
  LV mask = ir_lanes_below(r, ir_sub(r, len, vecs.i), e.w);
  if (vit >= 0) e.it[vit] = ir_add(r, first, vecs.i);
  LV sum = ir_load_vec(r, elem, e.w, ir_gep(r, elem, crow, ir_add(r, runs.i, vecs.i)), dt_bytes(p->c.acc), mask);
  const Stage *s = &p->k->stage[0];
  store(&e, s, narrow(&e, sum, (DType)p->k->buf[s->out].dtype), vit, mask);
  ir_for_end(r, &vecs);
  ir_for_end(r, &runs);
  ir_for_end(r, &rows);
  ir_end(r);
  return true;
}
