/* Epilogues: what happens to the finished sums of a block (mma.h).
 *
 * The block's sums lie in cache, rows r by columns v. For each row, for each run of columns inside the innermost column
 * axis, a vector of sums becomes the value of the contraction's buffer, and the stages after it are evaluated and
 * stored. */
#include "codegen/cpu/mma_emit.h"
#include <string.h>

/* x, of dtype t, is what stage s computed at the current point: kept for later stages, stored if the buffer is memory.
 */
static void finish(Em *E, const Stage *s, Val x, DType t) {
  const KBuf *b = &E->k->buf[s->out];
  EmBuf *eb = &E->buf[s->out];
  if (b->space == SP_GLOBAL) {
    Addr a;
    em_addr_init(&a);
    for (int d = 0; d < b->rank; d++)
      if (s->store[d] >= 0) a.coef[s->store[d]] += b->stride[d];
    em_store(E, s->out, &a, x, t, NULL, false);
  }
  bool vec = !x.s;
  LLVMValueRef v = em_as(E, &x, vec);
  em_at(E, E->depth);
  E->vec = vec;
  Val kept = em_val(E, em_cast(E, (DType)b->dtype, t, v), vec, E->depth);
  if (b->space == SP_GLOBAL)
    eb->fwd = kept;
  else
    eb->reg = kept;
}

bool mma_epilogue_build(Graph *g, const Isa *isa, LLVMModuleRef m, const char *name, const MmaPlan *p, Arena *a) {
  const Kernel *k = p->k;
  for (int i = 0; i < k->nstage; i++)
    if ((i && k->stage[i].kind != ST_MAP) || k->stage[i].nown || k->buf[k->stage[i].out].space == SP_ROW) return false;
  Em E;
  DType acc = p->c.acc;
  call_open(&E, g, k, a, isa, m, name, ukr_lanes(acc));
  LLVMTypeRef elem = acc == DT_F32 ? E.f32 : acc == DT_F64 ? E.f64 : E.i64;
  LLVMValueRef loop = call_arg(&E, 0, E.ptr), r0 = call_arg(&E, 1, E.i64), nr = call_arg(&E, 2, E.i64),
               v0 = call_arg(&E, 3, E.i64);
  LLVMValueRef nv = call_arg(&E, 4, E.i64), c = call_arg(&E, 5, E.ptr), ldc = call_arg(&E, 6, E.i64);
  for (int i = 0; i < p->niter; i++) em_bind(&E, i, em_int(&E, 0), 0, false, 1);
  for (int d = 0; d < p->nloop; d++) {
    LLVMValueRef i = em_int(&E, d), x = LLVMBuildLoad2(E.b, E.i64, LLVMBuildGEP2(E.b, E.i64, loop, &i, 1, ""), "");
    em_bind(&E, p->loop[d], x, 0, false, p->ext[p->loop[d]]);
  }
  LLVMValueRef i = em_loop_open(&E, em_int(&E, 0), nr, 1, 0, NULL);
  call_bind(&E, LLVMBuildAdd(E.b, r0, i, ""), p->nr, p->r, p->ext);
  LLVMValueRef off = LLVMBuildMul(E.b, i, ldc, ""), row = LLVMBuildGEP2(E.b, elem, c, &off, 1, ""), sum;
  if (p->nv) {
    LLVMValueRef at, left;
    call_runs_open(&E, v0, nv, p->nv, p->v, p->ext, &at, &left);
    LLVMTypeRef vt = em_vector(&E, elem);
    sum = em_call(&E, "llvm.masked.load", 2, (LLVMTypeRef[]){vt, E.ptr}, 4,
                  (LLVMValueRef[]){LLVMBuildGEP2(E.b, elem, row, &at, 1, ""),
                                   LLVMConstInt(E.i32, (unsigned)dt_bytes(acc), 0), E.mask, LLVMConstNull(vt)});
  } else {
    sum = LLVMBuildLoad2(E.b, elem, row, "");
  }
  finish(&E, &k->stage[0], em_val(&E, sum, p->nv > 0, E.depth), acc);
  for (int s = 1; s < k->nstage; s++) {
    const Stage *st = &k->stage[s];
    Expr *body = st->body;
    if (st->guard) body = ex_select(g, st->guard, body, ex_num(g, (DType)body->dtype, 0));
    finish(&E, st, em_expr(&E, body), (DType)body->dtype);
  }
  if (p->nv) call_runs_close(&E);
  em_loop_close(&E, 0, NULL);
  call_close(&E, name, 7, (bool[]){true, false, false, false, false, true, false});
  return true;
}
