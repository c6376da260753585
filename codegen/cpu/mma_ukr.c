/* Micro-kernels as LLVM IR: phi accumulators over k, one broadcast of A a row, nv vectors of B.
 *
 *   entry:  acc = load ? C : 0
 *   k:      a step (small tiles: four, then the rest one by one)
 *   (tree: the sum of a part; tiles of finished siblings come off the stack and are added, then it goes there itself)
 *   out:    C = acc, rows in descending order: a row beyond nrows has the address of the last valid one, which is
 * written after it
 *
 * With AVX-512 the 14 x 2 tile keeps 28 accumulators, 2 vectors of B and 1 broadcast in the 32 registers; 16 x 2
 * spills. */
#include "codegen/cpu/mma_ukr.h"
#include "codegen/cpu/mma_ir.h"

enum { MAX_ROWS = 16, MAX_VECS = 16, UNROLL = 4, FULL = 8 };

int ukr_lanes(DType t) { return t == DT_F32 ? 16 : 8; }

void ukr_tile(DType acc, int vbytes, int64_t rows, int64_t cols, bool tree, int *mr, int *nv) {
  int w = ukr_lanes(acc), split = w * dt_bytes(acc) / vbytes; /* machine registers a vector */
  int64_t vecs = (cols + w - 1) / w;
  if (vecs < 1) vecs = 1;
  if (rows < 1) rows = 1;
  int regs = vbytes == 64 ? (tree ? 22 : 28) : 12;
  if (split < 1) split = 1;
  int cap = regs / split; /* accumulators, in vectors of w lanes */
  if (cap < 2) cap = 2;
  int maxr = vbytes == 64 ? regs / 2 : cap, wide = vbytes == 64 ? 2 : 1;
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
  Ir r;
  const UkrSpec *s;
  LLVMTypeRef elem, vec;
  LV mask[MAX_VECS]; /* NULL: all lanes */
  int w, align;
} Ukr;

static LV num(Ukr *u, int64_t v) { return ir_num(&u->r, v); }
static LV at(Ukr *u, LV p, LV i) { return ir_gep(&u->r, u->elem, p, i); }
static LV load_vec(Ukr *u, LV p, int j) { return ir_load_vec(&u->r, u->elem, u->w, p, u->align, u->mask[j]); }
static LV mul_add(Ukr *u, LV x, LV y, LV acc) {
  if (u->s->acc != DT_I64) return ir_call(&u->r, "llvm.fma", 1, &u->vec, 3, (LV[]){x, y, acc});
  LV p = LLVMBuildMul(u->r.b, x, y, "");
  if (u->s->wrap32) {
    LV c[16];
    for (int i = 0; i < u->w; i++) c[i] = num(u, 32);
    LV by = LLVMConstVector(c, (unsigned)u->w);
    p = LLVMBuildAShr(u->r.b, LLVMBuildShl(u->r.b, p, by, ""), by, "");
  }
  return LLVMBuildAdd(u->r.b, acc, p, "");
}

/* One step of k: acc[i * nv + j] += A[i] * B[j]. */
static void step(Ukr *u, LV a, LV b, LV *acc) {
  int mr = u->s->mr, nv = u->s->nv;
  LV bv[MAX_VECS];
  for (int j = 0; j < nv; j++) bv[j] = load_vec(u, at(u, b, num(u, (int64_t)j * u->w)), j);
  for (int i = 0; i < mr; i++) {
    LV x = ir_load(&u->r, u->elem, at(u, a, num(u, i)), u->align);
    LV xs = ir_splat(&u->r, x, u->w);
    for (int j = 0; j < nv; j++) acc[i * nv + j] = mul_add(u, xs, bv[j], acc[i * nv + j]);
  }
}

/* for (left = n / unroll or n % unroll; left > 0; left--) `unroll` steps. Leaves the builder behind the loop; a, b, acc
 * are updated. */
static void k_loop(Ukr *u, LV n, int unroll, LV *a, LV *b, LV ldb, LV *acc) {
  int mr = u->s->mr, nacc = mr * u->s->nv;
  LLVMBasicBlockRef from = LLVMGetInsertBlock(u->r.b);
  LLVMBasicBlockRef head = ir_block(&u->r, "k");
  LLVMBasicBlockRef done = ir_block(&u->r, "k.done");
  LLVMBuildCondBr(u->r.b, LLVMBuildICmp(u->r.b, LLVMIntSGT, n, num(u, 0), ""), head, done);
  LLVMPositionBuilderAtEnd(u->r.b, head);
  LV left = LLVMBuildPhi(u->r.b, u->r.i64, ""), pa = LLVMBuildPhi(u->r.b, u->r.ptr, ""),
     pb = LLVMBuildPhi(u->r.b, u->r.ptr, "");
  LV phi[MAX_ROWS * MAX_VECS], cur[MAX_ROWS * MAX_VECS];
  for (int i = 0; i < nacc; i++) cur[i] = phi[i] = LLVMBuildPhi(u->r.b, u->vec, "");
  LV bb = pb;
  for (int t = 0; t < unroll; t++) {
    step(u, at(u, pa, num(u, (int64_t)t * mr)), bb, cur);
    bb = at(u, bb, ldb);
  }
  LV na = at(u, pa, num(u, (int64_t)unroll * mr)), nleft = LLVMBuildSub(u->r.b, left, num(u, 1), "");
  LLVMBuildCondBr(u->r.b, LLVMBuildICmp(u->r.b, LLVMIntSGT, nleft, num(u, 0), ""), head, done);
  LLVMBasicBlockRef pre[2] = {from, head};
  LLVMAddIncoming(left, (LV[]){n, nleft}, pre, 2);
  LLVMAddIncoming(pa, (LV[]){*a, na}, pre, 2);
  LLVMAddIncoming(pb, (LV[]){*b, bb}, pre, 2);
  for (int i = 0; i < nacc; i++) LLVMAddIncoming(phi[i], (LV[]){acc[i], cur[i]}, pre, 2);
  LLVMPositionBuilderAtEnd(u->r.b, done);
  LV oa = LLVMBuildPhi(u->r.b, u->r.ptr, ""), ob = LLVMBuildPhi(u->r.b, u->r.ptr, "");
  LLVMAddIncoming(oa, (LV[]){*a, na}, pre, 2);
  LLVMAddIncoming(ob, (LV[]){*b, bb}, pre, 2);
  for (int i = 0; i < nacc; i++) {
    LV o = LLVMBuildPhi(u->r.b, u->vec, "");
    LLVMAddIncoming(o, (LV[]){acc[i], cur[i]}, pre, 2);
    acc[i] = o;
  }
  *a = oa;
  *b = ob;
}

/* kc steps from a and b, acc to begin with. */
static void steps(Ukr *u, LV kc, LV *a, LV *b, LV ldb, LV *acc) {
  if (u->s->mr * u->s->nv >=
      FULL) { /* a step takes longer than the loop's own work: unrolling would only cost compile time */
    k_loop(u, kc, 1, a, b, ldb, acc);
    return;
  }
  k_loop(u, LLVMBuildSDiv(u->r.b, kc, num(u, UNROLL), ""), UNROLL, a, b, ldb, acc);
  k_loop(u, LLVMBuildSRem(u->r.b, kc, num(u, UNROLL), ""), 1, a, b, ldb, acc);
}

/* acc = C where load, else 0; then one chain. */
static void one_chain(Ukr *u, LV kc, LV a, LV b, LV ldb, LV load, const LV *row, LV *acc) {
  LV old[MAX_ROWS * MAX_VECS];
  int nv = u->s->nv, nacc = u->s->mr * nv;
  LLVMBasicBlockRef entry = LLVMGetInsertBlock(u->r.b), again = ir_block(&u->r, "again"), go = ir_block(&u->r, "go");
  LLVMBuildCondBr(u->r.b, LLVMBuildICmp(u->r.b, LLVMIntNE, load, num(u, 0), ""), again, go);
  LLVMPositionBuilderAtEnd(u->r.b, again);
  for (int i = 0; i < nacc; i++) old[i] = load_vec(u, at(u, row[i / nv], num(u, (int64_t)(i % nv) * u->w)), i % nv);
  LLVMBuildBr(u->r.b, go);
  LLVMPositionBuilderAtEnd(u->r.b, go);
  for (int i = 0; i < nacc; i++) {
    acc[i] = LLVMBuildPhi(u->r.b, u->vec, "");
    LLVMAddIncoming(acc[i], (LV[]){LLVMConstNull(u->vec), old[i]}, (LLVMBasicBlockRef[]){entry, again}, 2);
  }
  steps(u, kc, &a, &b, ldb, acc);
}

static LV stacked(Ukr *u, LV tile, int i) { return at(u, tile, num(u, (int64_t)i * u->w)); }

/* acc joins the `count` uppermost tiles of the stack, uppermost first; returns where the stack ends then. */
static LV pop(Ukr *u, LV count, LV top, LV *acc) {
  Ir *r = &u->r;
  int nacc = u->s->mr * u->s->nv;
  LLVMBasicBlockRef from = LLVMGetInsertBlock(r->b), head = ir_block(r, "join"), body = ir_block(r, "joins"),
                    done = ir_block(r, "joined");
  LLVMBuildBr(r->b, head);
  LLVMPositionBuilderAtEnd(r->b, head);
  LV left = LLVMBuildPhi(r->b, r->i64, ""), tile = LLVMBuildPhi(r->b, r->ptr, ""), sum[MAX_ROWS * MAX_VECS];
  for (int i = 0; i < nacc; i++) sum[i] = LLVMBuildPhi(r->b, u->vec, "");
  LLVMBuildCondBr(r->b, LLVMBuildICmp(r->b, LLVMIntSGT, left, num(u, 0), ""), body, done);
  LLVMPositionBuilderAtEnd(r->b, body);
  LV below = at(u, tile, num(u, -(int64_t)nacc * u->w)), less = LLVMBuildSub(r->b, left, num(u, 1), "");
  LLVMBasicBlockRef pre[2] = {from, body};
  for (int i = 0; i < nacc; i++) {
    LV old = ir_load(r, u->vec, stacked(u, below, i), 64);
    LV both = u->s->acc == DT_I64 ? LLVMBuildAdd(r->b, old, sum[i], "") : LLVMBuildFAdd(r->b, old, sum[i], "");
    LLVMAddIncoming(sum[i], (LV[]){acc[i], both}, pre, 2);
  }
  LLVMBuildBr(r->b, head);
  LLVMAddIncoming(left, (LV[]){count, less}, pre, 2);
  LLVMAddIncoming(tile, (LV[]){top, below}, pre, 2);
  LLVMPositionBuilderAtEnd(r->b, done);
  for (int i = 0; i < nacc; i++) acc[i] = sum[i];
  return tile;
}

/* Parts of `part` steps. Part number q (from 0) closes as many subtrees as q has trailing ones; the last one all that
 * are on the stack, as many as q has ones. */
static void tree_of_chains(Ukr *u, LV kc, LV a, LV b, LV ldb, LV part, LV stack, LV *acc) {
  Ir *r = &u->r;
  int nacc = u->s->mr * u->s->nv;
  LLVMBasicBlockRef from = LLVMGetInsertBlock(r->b), head = ir_block(r, "part"), push = ir_block(r, "push"),
                    done = ir_block(r, "sum");
  LLVMBuildBr(r->b, head);
  LLVMPositionBuilderAtEnd(r->b, head);
  LV left = LLVMBuildPhi(r->b, r->i64, ""), q = LLVMBuildPhi(r->b, r->i64, ""), top = LLVMBuildPhi(r->b, r->ptr, ""),
     pa = LLVMBuildPhi(r->b, r->ptr, ""), pb = LLVMBuildPhi(r->b, r->ptr, "");
  LV na = pa, nb = pb, nleft = LLVMBuildSub(r->b, left, part, ""), nq = LLVMBuildAdd(r->b, q, num(u, 1), "");
  for (int i = 0; i < nacc; i++) acc[i] = LLVMConstNull(u->vec);
  steps(u, ir_min(r, left, part), &na, &nb, ldb, acc);
  LV more = LLVMBuildICmp(r->b, LLVMIntSGT, nleft, num(u, 0), "");
  LV closed = ir_call(r, "llvm.cttz", 1, &r->i64, 2, (LV[]){nq, LLVMConstInt(r->i1, 1, 0)}),
     all = ir_call(r, "llvm.ctpop", 1, &r->i64, 1, &q);
  LV tile = pop(u, LLVMBuildSelect(r->b, more, closed, all, ""), top, acc);
  LLVMBuildCondBr(r->b, more, push, done);
  LLVMPositionBuilderAtEnd(r->b, push);
  for (int i = 0; i < nacc; i++) ir_store(r, acc[i], stacked(u, tile, i), 64);
  LV above = at(u, tile, num(u, (int64_t)nacc * u->w));
  LLVMBuildBr(r->b, head);
  LLVMBasicBlockRef pre[2] = {from, push};
  LLVMAddIncoming(left, (LV[]){kc, nleft}, pre, 2);
  LLVMAddIncoming(q, (LV[]){num(u, 0), nq}, pre, 2);
  LLVMAddIncoming(top, (LV[]){stack, above}, pre, 2);
  LLVMAddIncoming(pa, (LV[]){a, na}, pre, 2);
  LLVMAddIncoming(pb, (LV[]){b, nb}, pre, 2);
  LLVMPositionBuilderAtEnd(r->b, done);
}

LV ukr_build(LLVMModuleRef m, const UkrSpec *s, const char *name) {
  Ukr u = {.s = s, .w = ukr_lanes(s->acc), .align = dt_bytes(s->acc)};
  LLVMTypeRef i64 = LLVMInt64TypeInContext(LLVMGetModuleContext(m)),
              ptr = LLVMPointerTypeInContext(LLVMGetModuleContext(m), 0);
  u.r = ir_function(m, name, 10, (LLVMTypeRef[]){i64, ptr, ptr, i64, ptr, i64, i64, i64, i64, ptr});
  u.elem = ir_type(&u.r, s->acc);
  u.vec = ir_vec(u.elem, u.w);
  LV kc = LLVMGetParam(u.r.fn, 0), a = LLVMGetParam(u.r.fn, 1), b = LLVMGetParam(u.r.fn, 2),
     ldb = LLVMGetParam(u.r.fn, 3);
  LV c = LLVMGetParam(u.r.fn, 4), ldc = LLVMGetParam(u.r.fn, 5), nrows = LLVMGetParam(u.r.fn, 6);
  LV ncols = LLVMGetParam(u.r.fn, 7), load = LLVMGetParam(u.r.fn, 8);
  if (s->edge)
    for (int j = 0; j < s->nv; j++)
      u.mask[j] = ir_lanes_below(&u.r, ir_sub(&u.r, ncols, num(&u, (int64_t)j * u.w)), u.w);
  LV row[MAX_ROWS], last = LLVMBuildSub(u.r.b, nrows, num(&u, 1), ""), acc[MAX_ROWS * MAX_VECS];
  for (int i = 0; i < s->mr; i++) {
    LV over = LLVMBuildICmp(u.r.b, LLVMIntSLT, last, num(&u, i), "");
    LV r = LLVMBuildSelect(u.r.b, over, last, num(&u, i), "");
    row[i] = at(&u, c, LLVMBuildMul(u.r.b, r, ldc, ""));
  }
  if (s->tree)
    tree_of_chains(&u, kc, a, b, ldb, load, LLVMGetParam(u.r.fn, 9), acc);
  else
    one_chain(&u, kc, a, b, ldb, load, row, acc);
  for (int i = s->mr - 1; i >= 0; i--)
    for (int j = 0; j < s->nv; j++)
      ir_store_vec(&u.r, acc[i * s->nv + j], u.w, at(&u, row[i], num(&u, (int64_t)j * u.w)), u.align, u.mask[j]);
  ir_end(&u.r);
  return u.r.fn;
}
