/* Contractions in tiles: C[b, m, n] = sum over k of A[b, m, k] * B[b, n, k], and the rest of the kernel at each element.
 *
 *   block     bm x bn outputs of one batch point and one chunk of K. Each step brings bk positions of both factors into
 *             shared memory, evaluated through their index maps (loads, masks, whatever was inlined)
 *   thread    tm x tn accumulators in registers: f32 and f64 by one fma a product, k ascending, the contract's chain
 *   warp      f16 and bf16: 32 x 32 by matrix instructions (tg_mma_*), whose order inside 16 positions is the hardware's
 *   epilogue  accumulators go through shared memory, so that neighbours write neighbours and its code stands once
 *
 * K beyond one chunk of 4096: partial sums to the scratch, a second launch joins them by the tree. f32 and f64 may run
 * otherwise (one thread an output) with the same bits, and do when M or N is small; f16 and bf16 always come here, so that
 * a row of a batch has the bits of the row alone. */
#include "codegen/contract.h"
#include "codegen/cuda/emit.h"
#include <inttypes.h>

enum { CHUNK = 4096, PAD = 4, MMA_TILE = 64, MMA_K = 32, MMA_PAD = 8, MMA_THREADS = 128 };

typedef struct Tile {
  Contract q;
  DType acc;
  const char *type;
  bool mma;
  int bm, bn, tm, tn, bk, threads, ty, tx; /* ty x tx threads */
  int64_t mt, nt, chunks;
} Tile;

/* ---- Choice ------------------------------------------------------------------------------------------------------ */
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static void shape(Tile *t, int bm, int bn, int tm, int tn, int bk) {
  t->bm = bm, t->bn = bn, t->tm = tm, t->tn = tn, t->bk = bk;
  t->ty = bm / tm, t->tx = bn / tn;
  t->threads = t->ty * t->tx;
}

static bool choose(const Kernel *k, Tile *t) {
  const Stage *s = &k->stage[0];
  int nout = k->npar;
  int64_t extent[64];
  if (nout + s->nred > 32 || s->nown) return false;
  for (int i = 0; i < nout; i++) extent[i] = k->par[i];
  for (int i = 0; i < s->nred; i++) extent[nout + i] = s->extent[i];
  if (!s->fma || !contract_find(nout, s->nred, extent, (Reduce)s->op, s->body, s->guard, &t->q)) return false;
  const Contract *q = &t->q;
  t->acc = q->acc;
  if ((t->acc != DT_F32 && t->acc != DT_F64) || !q->nK) return false;
  t->type = cu_reg(t->acc);
  t->mma = q->prod == DT_F16 || q->prod == DT_BF16;
  t->chunks = ceil_div(q->nK, CHUNK);
  if (t->mma) {
    shape(t, MMA_TILE, MMA_TILE, 4, 8, MMA_K);
    t->threads = MMA_THREADS;
  } else {
    bool large = q->nM >= 96 && q->nN >= 96 && t->acc == DT_F32 && ceil_div(q->nM, 128) * ceil_div(q->nN, 128) * q->nB * t->chunks >= 64;
    if (q->nM < 4 || q->nN < 4 || q->nM * q->nN < 64) return false;
    if (large)
      shape(t, 128, 128, 8, 8, 8);
    else if (q->nM < 32)
      shape(t, 16, 64, 4, 4, 16);
    else if (q->nN < 32)
      shape(t, 64, 16, 4, 4, 16);
    else
      shape(t, 64, 64, 4, 4, 16);
  }
  t->mt = ceil_div(q->nM, t->bm);
  t->nt = ceil_div(q->nN, t->bn);
  return true;
}

/* ---- Iterators --------------------------------------------------------------------------------------------------- */
static int64_t extent_of(const Cu *c, int iter) { return iter < c->k->npar ? c->k->par[iter] : c->st->extent[iter - c->k->npar]; }

/* Declares the iterators of a list from their flat position. */
static void decode_list(Cu *c, const char *flat, int n, const int *iter) {
  int d = c->nvar++;
  if (n) text_line(c->t, "i64 d%d = %s;", d, flat);
  for (int i = n - 1; i >= 0; i--) {
    int64_t x = extent_of(c, iter[i]);
    if (i)
      text_line(c->t, "const int i%d = (int)((u32)d%d %% %" PRId64 "u);", iter[i], d, x);
    else
      text_line(c->t, "const int i%d = (int)d%d;", iter[i], d);
    if (i) text_line(c->t, "d%d = (u32)d%d / %" PRId64 "u;", d, d, x);
  }
}

static bool in_list(int x, int n, const int *list) {
  for (int i = 0; i < n; i++)
    if (list[i] == x) return true;
  return false;
}

/* Number of the least point that needs an element of a factor: the other side's iterators are 0. For faults. */
static void declare_unit(Cu *c, int nother, const int *other) {
  if (!c->k->nsite) return;
  Text t;
  text_init(&t, c->a);
  int64_t stride = 1;
  text_put(&t, "0");
  for (int i = c->k->npar - 1; i >= 0; i--) {
    if (!in_list(i, nother, other)) text_put(&t, " + %" PRId64 "ll * i%d", stride, i);
    stride *= c->k->par[i];
  }
  text_line(c->t, "const i64 unit = %s;", t.at);
}

/* ---- Bringing a factor in ---------------------------------------------------------------------------------------- */
static int64_t coefficient(const Expr *e, int iter) {
  if (e->kind == EX_ITER) return e->num.i == iter;
  for (int i = 0; e->kind == EX_LIN && i < e->n; i++)
    if (e->arg[i]->kind == EX_ITER && e->arg[i]->num.i == iter) return e->coef[i];
  return 0;
}

typedef struct Near {
  const Kernel *k;
  int iter;
  bool found;
} Near;
static void near_visit(void *ctx, Expr *e) {
  Near *n = ctx;
  if (e->kind != EX_LOAD) return;
  const KBuf *b = kernel_buf(n->k, e->node);
  int64_t step = 0;
  for (int d = 0; d < e->n; d++) step += coefficient(e->arg[d], n->iter) * (b ? b->stride[d] : 0);
  if (step == 1 || step == -1) n->found = true;
}

/* Do neighbours of K lie side by side in memory? Then neighbouring threads take neighbours of K. */
static bool k_is_near(const Cu *c, const Tile *t, Expr *factor) {
  if (!t->q.nk) return false;
  Near n = {c->k, t->q.k[t->q.nk - 1], false};
  ex_visit(factor, near_visit, &n);
  return n.found;
}

static void bring(Cu *c, const Tile *t, bool first) {
  const Contract *q = &t->q;
  Expr *factor = first ? q->a : q->b;
  int wide = first ? t->bm : t->bn, nside = first ? q->nm : q->nn, nother = first ? q->nn : q->nm;
  const int *side = first ? q->m : q->n, *other = first ? q->n : q->m;
  const char *name = first ? "As" : "Bs", *base = first ? "m0" : "n0";
  int64_t size = first ? q->nM : q->nN;
  bool near = k_is_near(c, t, factor);
  text_line(c->t, "for (int e = threadIdx.x; e < %d; e += %d) {", wide * t->bk, t->threads);
  text_line(c->t, "const int kk = e %s %d;", near ? "%" : "/", near ? t->bk : wide);
  text_line(c->t, "const int at = e %s %d;", near ? "/" : "%", near ? t->bk : wide);
  text_line(c->t, "%s value = 0;", t->mma ? "u16" : t->type);
  text_line(c->t, "if (%s + at < %" PRId64 "ll && kk < kn) {", base, size);
  decode_list(c, arena_printf(c->a, "%s + at", base), nside, side);
  decode_list(c, "k0 + kk", q->nk, q->k);
  declare_unit(c, nother, other);
  c->minor = "k0 + kk";
  cu_scope(c);
  const char *x = cu_expr(c, factor);
  text_line(c->t, "value = %s;", t->mma ? cu_to_mem(c, (DType)factor->dtype, x) : cu_cast(c, t->acc, (DType)factor->dtype, x));
  text_line(c->t, "}");
  if (t->mma)
    text_line(c->t, "%s[at * %d + kk] = value;", name, t->bk + MMA_PAD);
  else
    text_line(c->t, "%s[kk * %d + at] = value;", name, wide + PAD);
  text_line(c->t, "}");
}

/* ---- The products ------------------------------------------------------------------------------------------------ */
static void fma_step(Cu *c, const Tile *t) {
  text_line(c->t, "%s x[%d], y[%d];", t->type, t->tm, t->tn);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int i = 0; i < %d; i++) x[i] = As[kk * %d + ty * 4 + i %% 4 + %d * (i / 4)];", t->tm, t->bm + PAD, 4 * t->ty);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int j = 0; j < %d; j++) y[j] = Bs[kk * %d + tx * 4 + j %% 4 + %d * (j / 4)];", t->tn, t->bn + PAD, 4 * t->tx);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int i = 0; i < %d; i++) {", t->tm);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int j = 0; j < %d; j++) acc[i][j] = fma%s(x[i], y[j], acc[i][j]);", t->tn, t->acc == DT_F64 ? "" : "f");
  text_line(c->t, "}");
}

static void multiply(Cu *c, const Tile *t) {
  text_line(c->t, "if (kn == %d) {", t->bk);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int kk = 0; kk < %d; kk++) {", t->bk);
  fma_step(c, t);
  text_line(c->t, "}");
  text_line(c->t, "}");
  text_line(c->t, "if (kn < %d) {", t->bk);
  text_line(c->t, "for (int kk = 0; kk < kn; kk++) {");
  fma_step(c, t);
  text_line(c->t, "}");
  text_line(c->t, "}");
}

/* A warp's 32 x 32 as 2 x 4 products of 16 x 8; fragments as m16n8k16 wants them. Positions beyond K are zeros. */
static void multiply_mma(Cu *c, const Tile *t) {
  int ld = t->bk + MMA_PAD;
  const char *call = t->q.prod == DT_F16 ? "tg_mma_f16" : "tg_mma_bf16";
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int kk = 0; kk < %d; kk += 16) {", t->bk);
  text_line(c->t, "u32 fa[2][4], fb[4][2];");
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int i = 0; i < 2; i++) {");
  text_line(c->t, "const u32 *const p = (const u32 *)(As + (warp / 2 * 32 + i * 16 + lane / 4) * %d + kk) + lane %% 4;", ld);
  text_line(c->t, "fa[i][0] = p[0];");
  text_line(c->t, "fa[i][1] = p[%d];", 8 * ld / 2);
  text_line(c->t, "fa[i][2] = p[4];");
  text_line(c->t, "fa[i][3] = p[%d];", 8 * ld / 2 + 4);
  text_line(c->t, "}");
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int j = 0; j < 4; j++) {");
  text_line(c->t, "const u32 *const p = (const u32 *)(Bs + (warp %% 2 * 32 + j * 8 + lane / 4) * %d + kk) + lane %% 4;", ld);
  text_line(c->t, "fb[j][0] = p[0];");
  text_line(c->t, "fb[j][1] = p[4];");
  text_line(c->t, "}");
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int i = 0; i < 2; i++) {");
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int j = 0; j < 4; j++) %s(acc[i][j], fa[i], fb[j]);", call);
  text_line(c->t, "}");
  text_line(c->t, "}");
}

/* ---- The epilogue ------------------------------------------------------------------------------------------------ */
static void declare_inner(Cu *c) {
  for (int i = 0; i < c->k->nbuf; i++) {
    const KBuf *b = &c->k->buf[i];
    if (b->space != SP_GLOBAL) text_line(c->t, "%s b%d[1];", cu_mem((DType)b->dtype), i);
  }
}

static void stages_after(Cu *c) {
  c->minor = "0";
  for (int i = 1; i < c->k->nstage; i++) cu_stage_point(c, &c->k->stage[i]);
}

/* What is done with the finished sum `value` of (mm, nn): a partial sum, or stage 0's result and the other stages. */
static void element(Cu *c, const Tile *t, const char *mm, const char *nn, size_t part) {
  const Contract *q = &t->q;
  text_line(c->t, "const i64 em = m0 + %s;", mm);
  text_line(c->t, "const i64 en = n0 + %s;", nn);
  text_line(c->t, "if (em < %" PRId64 "ll && en < %" PRId64 "ll) {", q->nM, q->nN);
  if (t->chunks > 1) {
    text_line(c->t, "((%s *)(A.scratch + %zull))[((chunk * %" PRId64 "ll + batch) * %" PRId64 "ll + em) * %" PRId64 "ll + en] = value;", t->type, part, q->nB, q->nM,
              q->nN);
  } else {
    decode_list(c, "em", q->nm, q->m);
    decode_list(c, "en", q->nn, q->n);
    declare_unit(c, 0, NULL);
    declare_inner(c);
    c->st = &c->k->stage[0];
    cu_finish(c, c->st, "value");
    stages_after(c);
  }
  text_line(c->t, "}");
}

/* Strip by strip: the rows whose accumulators are number s of their threads. */
static void epilogue(Cu *c, const Tile *t, size_t part) {
  text_line(c->t, "for (int s = 0; s < %d; s++) {", t->tm);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int i = 0; i < %d; i++) {", t->tm);
  text_line(c->t, "if (i == s) {");
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int j = 0; j < %d; j++) Cs[ty * %d + tx * 4 + j %% 4 + %d * (j / 4)] = acc[i][j];", t->tn, t->bn + PAD, 4 * t->tx);
  text_line(c->t, "}");
  text_line(c->t, "}");
  text_line(c->t, "__syncthreads();");
  text_line(c->t, "for (int e = threadIdx.x; e < %d; e += %d) {", t->ty * t->bn, t->threads);
  text_line(c->t, "const %s value = Cs[e / %d * %d + e %% %d];", t->type, t->bn, t->bn + PAD, t->bn);
  element(c, t, arena_printf(c->a, "(e / %d * 4 + s %% 4 + %d * (s / 4))", t->bn, 4 * t->ty), arena_printf(c->a, "e %% %d", t->bn), part);
  text_line(c->t, "}");
  text_line(c->t, "__syncthreads();");
  text_line(c->t, "}");
}

static void epilogue_mma(Cu *c, const Tile *t, size_t part) {
  int ld = t->bn + PAD;
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int i = 0; i < 2; i++) {");
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int j = 0; j < 4; j++) {");
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int r = 0; r < 4; r++)");
  text_line(c->t, "  Cs[(warp / 2 * 32 + i * 16 + lane / 4 + 8 * (r / 2)) * %d + warp %% 2 * 32 + j * 8 + lane %% 4 * 2 + r %% 2] = acc[i][j][r];", ld);
  text_line(c->t, "}");
  text_line(c->t, "}");
  text_line(c->t, "__syncthreads();");
  text_line(c->t, "for (int e = threadIdx.x; e < %d; e += %d) {", t->bm * t->bn, t->threads);
  text_line(c->t, "const float value = Cs[e / %d * %d + e %% %d];", t->bn, ld, t->bn);
  element(c, t, arena_printf(c->a, "e / %d", t->bn), arena_printf(c->a, "e %% %d", t->bn), part);
  text_line(c->t, "}");
}

/* ---- The kernel -------------------------------------------------------------------------------------------------- */
static void declare_tiles(Cu *c, const Tile *t) {
  if (t->mma) {
    text_line(c->t, "__shared__ __align__(16) u16 As[%d];", t->bm * (t->bk + MMA_PAD));
    text_line(c->t, "__shared__ __align__(16) u16 Bs[%d];", t->bn * (t->bk + MMA_PAD));
    text_line(c->t, "__shared__ float Cs[%d];", t->bm * (t->bn + PAD));
    text_line(c->t, "const int warp = threadIdx.x / 32, lane = threadIdx.x %% 32;");
    text_line(c->t, "float acc[2][4][4];");
    text_line(c->t, "#pragma unroll");
    text_line(c->t, "for (int i = 0; i < 32; i++) acc[i / 16][i / 4 %% 4][i %% 4] = 0.0f;");
    return;
  }
  text_line(c->t, "__shared__ __align__(16) %s As[%d];", t->type, t->bk * (t->bm + PAD));
  text_line(c->t, "__shared__ __align__(16) %s Bs[%d];", t->type, t->bk * (t->bn + PAD));
  text_line(c->t, "__shared__ %s Cs[%d];", t->type, t->ty * (t->bn + PAD));
  text_line(c->t, "const int tx = threadIdx.x %% %d, ty = threadIdx.x / %d;", t->tx, t->tx);
  text_line(c->t, "%s acc[%d][%d];", t->type, t->tm, t->tn);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int i = 0; i < %d; i++) acc[i / %d][i %% %d] = 0;", t->tm * t->tn, t->tn, t->tn);
}

static void tile_kernel(Cu *c, const Tile *t, size_t part) {
  const Contract *q = &t->q;
  c->st = &c->k->stage[0];
  cu_open(c, q->nB * t->mt * t->nt * t->chunks, t->threads);
  text_line(c->t, "/* tiles */");
  declare_tiles(c, t);
  text_line(c->t, "i64 block = blockIdx.x;");
  text_line(c->t, "const i64 n0 = block %% %" PRId64 "ll * %d;", t->nt, t->bn);
  text_line(c->t, "block /= %" PRId64 "ll;", t->nt);
  text_line(c->t, "const i64 m0 = block %% %" PRId64 "ll * %d;", t->mt, t->bm);
  text_line(c->t, "block /= %" PRId64 "ll;", t->mt);
  text_line(c->t, "const i64 chunk = block %% %" PRId64 "ll;", t->chunks);
  text_line(c->t, "const i64 batch = block / %" PRId64 "ll;", t->chunks);
  decode_list(c, "batch", q->nbatch, q->batch);
  text_line(c->t, "const i64 k_end = (chunk + 1) * %d < %" PRId64 "ll ? (chunk + 1) * %d : %" PRId64 "ll;", CHUNK, q->nK, CHUNK, q->nK);
  text_line(c->t, "for (i64 k0 = chunk * %d; k0 < k_end; k0 += %d) {", CHUNK, t->bk);
  text_line(c->t, "const int kn = k_end - k0 < %d ? (int)(k_end - k0) : %d;", t->bk, t->bk);
  bring(c, t, true);
  bring(c, t, false);
  text_line(c->t, "__syncthreads();");
  if (t->mma)
    multiply_mma(c, t);
  else
    multiply(c, t);
  text_line(c->t, "__syncthreads();");
  text_line(c->t, "}");
  if (t->mma)
    epilogue_mma(c, t, part);
  else
    epilogue(c, t, part);
  cu_close(c);
}

/* One thread an output: the tree over its chunks, then the epilogue. */
static void join_kernel(Cu *c, const Tile *t, size_t part) {
  enum { BLOCK = 128 };
  const Contract *q = &t->q;
  int64_t points = q->nB * q->nM * q->nN;
  c->st = &c->k->stage[0];
  cu_open(c, ceil_div(points, BLOCK), BLOCK);
  text_line(c->t, "const i64 flat = (i64)blockIdx.x * %d + threadIdx.x;", BLOCK);
  text_line(c->t, "if (flat < %" PRId64 "ll) {", points);
  text_line(c->t, "const i64 en = flat %% %" PRId64 "ll, em = flat / %" PRId64 "ll %% %" PRId64 "ll, batch = flat / %" PRId64 "ll;", q->nN, q->nN, q->nM, q->nN * q->nM);
  decode_list(c, "batch", q->nbatch, q->batch);
  decode_list(c, "em", q->nm, q->m);
  decode_list(c, "en", q->nn, q->n);
  declare_unit(c, 0, NULL);
  declare_inner(c);
  cu_tree(c, c->st, arena_printf(c->a, "%" PRId64 "ll", t->chunks),
          arena_printf(c->a, "((%s *)(A.scratch + %zull))[q * %" PRId64 "ll + flat]", t->type, part, points), "value");
  cu_finish(c, c->st, "value");
  stages_after(c);
  text_line(c->t, "}");
  cu_close(c);
}

bool cu_tile(Cu *c) {
  Tile t = {0};
  c->sched = SCHED_TILE;
  c->st = &c->k->stage[0];
  if (!choose(c->k, &t)) return false;
  for (int i = 1; i < c->k->nstage; i++)
    if (c->k->stage[i].kind != ST_MAP || c->k->stage[i].nown) return false;
  int64_t most = (int64_t)1 << 31;
  if (t.q.nM >= most || t.q.nN >= most || t.q.nK >= most || t.q.nB >= most) return false;
  cu_place_buffers(c);
  size_t part = t.chunks > 1 ? cu_scratch(c, (double)t.chunks * (double)t.q.nB * (double)t.q.nM * (double)t.q.nN * dt_bytes(t.acc)) : 0;
  tile_kernel(c, &t, part);
  if (t.chunks > 1) join_kernel(c, &t, part);
  c->out->contraction = true;
  return true;
}
