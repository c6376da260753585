/* Contractions in tiles: C[b, m, n] = sum over k of A[b, m, k] * B[b, n, k], and the rest of the kernel at each
 * element.
 *
 *   block     bm x bn outputs of one batch point and one chunk of K. While bk positions of both factors are multiplied,
 *             the next bk come into the other buffers of shared memory, through their index maps (tile_bring.c): one
 *             barrier a step
 *   FMA       tm x tn accumulators a thread in registers: f32 and f64 by one fma a product, k ascending, the contract's
 *             chain
 *   matrix    f16, bf16 and, on request, tf32: warps by matrix instructions (tg_mma_*), whose order inside 16 (8)
 *             positions is the hardware's
 *   epilogue  accumulators go through shared memory, so that neighbours write neighbours and its code stands once
 *
 * K beyond one chunk: partial sums to the scratch, a second launch joins them by the tree. f32 and f64 may run
 * otherwise (one thread an output) with the same bits, and do when M or N is small; matrix instructions take all their
 * contractions, so that a row of a batch has the bits of the row alone. */
#include "codegen/cuda/tile.h"
#include <inttypes.h>

/* ---- Choice ------------------------------------------------------------------------------------------------------ */
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static void fma_shape(Tile *t, int bm, int bn, int tm, int tn, int bk) {
  t->bm = bm, t->bn = bn, t->tm = tm, t->tn = tn, t->bk = bk;
  t->ty = bm / tm, t->tx = bn / tn;
  t->threads = t->ty * t->tx;
  t->lda = bm + TILE_PAD, t->ldb = bn + TILE_PAD;
  t->size_a = bk * t->lda, t->size_b = bk * t->ldb;
}

static void matrix_shape(Tile *t, int warps_m, int warps_n, int tm, int tn) {
  t->bm = warps_m * tm * 16, t->bn = warps_n * tn * 8, t->tm = tm, t->tn = tn;
  t->bk = t->step == STEP_TF32 ? TILE_WORDS : 2 * TILE_WORDS;
  t->ty = warps_m, t->tx = warps_n;
  t->threads = warps_m * warps_n * 32;
  t->lda = t->ldb = TILE_WORDS + TILE_PAD;
  t->size_a = t->bm * t->lda, t->size_b = t->bn * t->ldb;
}

static bool choose(const Cu *c, Tile *t) {
  const Kernel *k = c->k;
  const Stage *s = &k->stage[0];
  int nout = k->npar;
  int64_t extent[64], per_row;
  if (nout + s->nred > 32 || s->nown) return false;
  for (int i = 0; i < nout; i++) extent[i] = k->par[i];
  for (int i = 0; i < s->nred; i++) extent[nout + i] = s->extent[i];
  if (!s->fma || !contract_find(nout, s->nred, extent, (Reduce)s->op, s->body, s->guard, &t->q)) return false;
  const Contract *q = &t->q;
  t->acc = q->acc;
  if ((t->acc != DT_F32 && t->acc != DT_F64) || !q->nK) return false;
  t->type = cu_reg(t->acc);
  t->step = q->prod == DT_F16                                  ? STEP_F16
            : q->prod == DT_BF16                               ? STEP_BF16
            : c->tf32 && q->prod == DT_F32 && t->acc == DT_F32 ? STEP_TF32
                                                               : STEP_FMA;
  t->chunk = stage_chunk(s, &per_row);
  t->chunks = ceil_div(q->nK, t->chunk);
  bool large = q->nM >= 96 && q->nN >= 96 && ceil_div(q->nM, 128) * ceil_div(q->nN, 128) * q->nB * t->chunks >= 64;
  if (t->step != STEP_FMA) {
    large ? matrix_shape(t, 2, 4, 4, 4) : matrix_shape(t, 2, 2, 2, 4);
  } else {
    if (q->nM < 4 || q->nN < 4 || q->nM * q->nN < 64) return false;
    if (large && t->acc == DT_F32)
      fma_shape(t, 128, 128, 8, 8, 8);
    else if (q->nM < 32)
      fma_shape(t, 16, 64, 4, 4, 16);
    else if (q->nN < 32)
      fma_shape(t, 64, 16, 4, 4, 16);
    else
      fma_shape(t, 64, 64, 4, 4, 16);
  }
  t->mt = ceil_div(q->nM, t->bm);
  t->nt = ceil_div(q->nN, t->bn);
  return true;
}

/* ---- Iterators --------------------------------------------------------------------------------------------------- */
int64_t cu_tile_extent(const Cu *c, int iter) {
  return iter < c->k->npar ? c->k->par[iter] : c->st->extent[iter - c->k->npar];
}

void cu_tile_decode(Cu *c, const char *flat, int n, const int *iter) {
  int d = c->nvar++;
  if (n) text_line(c->t, "i64 d%d = %s;", d, flat);
  for (int i = n - 1; i >= 0; i--) {
    int64_t x = cu_tile_extent(c, iter[i]);
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

void cu_tile_unit(Cu *c, int nother, const int *other) {
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

/* ---- The products ------------------------------------------------------------------------------------------------ */
static void fma_step(Cu *c, const Tile *t) {
  text_line(c->t, "%s x[%d], y[%d];", t->type, t->tm, t->tn);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int i = 0; i < %d; i++) x[i] = at[kk * %d + ty * 4 + i %% 4 + %d * (i / 4)];", t->tm, t->lda,
            4 * t->ty);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int j = 0; j < %d; j++) y[j] = bt[kk * %d + tx * 4 + j %% 4 + %d * (j / 4)];", t->tn, t->ldb,
            4 * t->tx);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int i = 0; i < %d; i++) {", t->tm);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int j = 0; j < %d; j++) acc[i][j] = fma%s(x[i], y[j], acc[i][j]);", t->tn,
            t->acc == DT_F64 ? "" : "f");
  text_line(c->t, "}");
}

static void multiply_fma(Cu *c, const Tile *t) {
  text_line(c->t, "const i64 kn = k_end - k0;");
  text_line(c->t, "if (kn >= %d) {", t->bk);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int kk = 0; kk < %d; kk++) {", t->bk);
  fma_step(c, t);
  text_line(c->t, "}");
  text_line(c->t, "}");
  text_line(c->t, "if (kn < %d) {", t->bk);
  text_line(c->t, "for (int kk = 0; kk < (int)kn; kk++) {");
  fma_step(c, t);
  text_line(c->t, "}");
  text_line(c->t, "}");
}

/* A warp's tm x tn products of 16 x 8, 8 words of each row at once: fragments as m16n8k16 (tf32: m16n8k8) wants them.
 * Positions beyond K are zeros. */
static void multiply_matrix(Cu *c, const Tile *t) {
  static const char *const call[] = {
      [STEP_F16] = "tg_mma_f16", [STEP_BF16] = "tg_mma_bf16", [STEP_TF32] = "tg_mma_tf32"};
  const char *in = t->step == STEP_TF32 ? "tg_tf32" : "";
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int kk = 0; kk < %d; kk += 8) {", TILE_WORDS);
  text_line(c->t, "u32 fa[%d][4], fb[%d][2];", t->tm, t->tn);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int i = 0; i < %d; i++) {", t->tm);
  text_line(c->t, "const u32 *const p = at + (ty * %d + i * 16 + lane / 4) * %d + kk + lane %% 4;", t->tm * 16, t->lda);
  text_line(c->t, "fa[i][0] = %s(p[0]);", in);
  text_line(c->t, "fa[i][1] = %s(p[%d]);", in, 8 * t->lda);
  text_line(c->t, "fa[i][2] = %s(p[4]);", in);
  text_line(c->t, "fa[i][3] = %s(p[%d]);", in, 8 * t->lda + 4);
  text_line(c->t, "}");
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int j = 0; j < %d; j++) {", t->tn);
  text_line(c->t, "const u32 *const p = bt + (tx * %d + j * 8 + lane / 4) * %d + kk + lane %% 4;", t->tn * 8, t->ldb);
  text_line(c->t, "fb[j][0] = %s(p[0]);", in);
  text_line(c->t, "fb[j][1] = %s(p[4]);", in);
  text_line(c->t, "}");
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int i = 0; i < %d; i++) {", t->tm);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int j = 0; j < %d; j++) %s(acc[i][j], fa[i], fb[j]);", t->tn, call[t->step]);
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
    text_line(c->t,
              "((%s *)(A.scratch + %zull))[((chunk * %" PRId64 "ll + batch) * %" PRId64 "ll + em) * %" PRId64
              "ll + en] = value;",
              t->type, part, q->nB, q->nM, q->nN);
  } else {
    cu_tile_decode(c, "em", q->nm, q->m);
    cu_tile_decode(c, "en", q->nn, q->n);
    cu_tile_unit(c, 0, NULL);
    declare_inner(c);
    c->st = &c->k->stage[0];
    cu_finish(c, c->st, "value");
    stages_after(c);
  }
  text_line(c->t, "}");
}

/* Rows of one strip: FMA one of each thread, matrix steps 16 of each warp. */
static int strip_rows(const Tile *t) { return t->step == STEP_FMA ? t->ty : 16 * t->ty; }

/* Strip by strip: the rows whose accumulators are number s of their threads. */
static void epilogue(Cu *c, const Tile *t, size_t part) {
  bool fma = t->step == STEP_FMA;
  int ld = t->bn + TILE_PAD;
  text_line(c->t, "for (int s = 0; s < %d; s++) {", t->tm);
  text_line(c->t, "__syncthreads(); /* the pool may be written */");
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int i = 0; i < %d; i++) {", t->tm);
  text_line(c->t, "if (i == s) {");
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int j = 0; j < %d; j++) {", t->tn);
  if (fma) {
    text_line(c->t, "Cs[ty * %d + tx * 4 + j %% 4 + %d * (j / 4)] = acc[i][j];", ld, 4 * t->tx);
  } else {
    text_line(c->t, "#pragma unroll");
    text_line(c->t,
              "for (int r = 0; r < 4; r++) Cs[(ty * 16 + lane / 4 + 8 * (r / 2)) * %d + tx * %d + j * 8 + lane %% 4 * "
              "2 + r %% 2] = acc[i][j][r];",
              ld, t->tn * 8);
  }
  text_line(c->t, "}");
  text_line(c->t, "}");
  text_line(c->t, "}");
  text_line(c->t, "__syncthreads(); /* the strip is there */");
  text_line(c->t, "for (int e = threadIdx.x; e < %d; e += %d) {", strip_rows(t) * t->bn, t->threads);
  text_line(c->t, "const %s value = Cs[e / %d * %d + e %% %d];", t->type, t->bn, ld, t->bn);
  const char *row = fma ? arena_printf(c->a, "(e / %d * 4 + s %% 4 + %d * (s / 4))", t->bn, 4 * t->ty)
                        : arena_printf(c->a, "(e / %d * %d + s * 16 + e / %d %% 16)", 16 * t->bn, 16 * t->tm, t->bn);
  element(c, t, row, arena_printf(c->a, "e %% %d", t->bn), part);
  text_line(c->t, "}");
  text_line(c->t, "}");
}

/* ---- The kernel -------------------------------------------------------------------------------------------------- */
static void declare_tiles(Cu *c, const Tile *t) {
  bool fma = t->step == STEP_FMA;
  int strip = strip_rows(t) * (t->bn + TILE_PAD), pool = 2 * (t->size_a + t->size_b);
  const char *type = fma ? t->type : "u32";
  text_line(c->t, "__shared__ __align__(16) %s pool[%d];", type, pool > strip ? pool : strip);
  text_line(c->t, "%s *const As = pool;", type);
  text_line(c->t, "%s *const Bs = pool + %d;", type, 2 * t->size_a);
  text_line(c->t, "%s *const Cs = (%s *)pool;", t->type, t->type);
  if (fma) {
    text_line(c->t, "const int tx = threadIdx.x %% %d, ty = threadIdx.x / %d;", t->tx, t->tx);
    text_line(c->t, "%s acc[%d][%d];", t->type, t->tm, t->tn);
    text_line(c->t, "#pragma unroll");
    text_line(c->t, "for (int i = 0; i < %d; i++) acc[i / %d][i %% %d] = 0;", t->tm * t->tn, t->tn, t->tn);
    return;
  }
  text_line(c->t, "const int lane = threadIdx.x %% 32, tx = threadIdx.x / 32 %% %d, ty = threadIdx.x / %d;", t->tx,
            32 * t->tx);
  text_line(c->t, "float acc[%d][%d][4];", t->tm, t->tn);
  text_line(c->t, "#pragma unroll");
  text_line(c->t, "for (int i = 0; i < %d; i++) acc[i / %d][i / 4 %% %d][i %% 4] = 0.0f;", t->tm * t->tn * 4, t->tn * 4,
            t->tn);
}

static void tile_kernel(Cu *c, const Tile *t, size_t part) {
  const Contract *q = &t->q;
  c->st = &c->k->stage[0];
  cu_open(c, q->nB * t->mt * t->nt * t->chunks, t->threads);
  declare_tiles(c, t);
  text_line(c->t, "i64 block = blockIdx.x;");
  text_line(c->t, "const i64 n0 = block %% %" PRId64 "ll * %d;", t->nt, t->bn);
  text_line(c->t, "block /= %" PRId64 "ll;", t->nt);
  text_line(c->t, "const i64 m0 = block %% %" PRId64 "ll * %d;", t->mt, t->bm);
  text_line(c->t, "block /= %" PRId64 "ll;", t->mt);
  text_line(c->t, "const i64 chunk = block %% %" PRId64 "ll;", t->chunks);
  text_line(c->t, "const i64 batch = block / %" PRId64 "ll;", t->chunks);
  cu_tile_decode(c, "batch", q->nbatch, q->batch);
  text_line(c->t, "const i64 k_from = chunk * %" PRId64 "ll;", t->chunk);
  text_line(c->t, "const i64 k_end = k_from + %" PRId64 "ll < %" PRId64 "ll ? k_from + %" PRId64 "ll : %" PRId64 "ll;",
            t->chunk, q->nK, t->chunk, q->nK);
  /* k0: what is multiplied; k1: what comes in meanwhile, into the buffers of `turn` */
  text_line(c->t, "int turn = 0;");
  text_line(c->t, "for (i64 k0 = k_from - %d; k0 < k_end; k0 += %d) {", t->bk, t->bk);
  text_line(c->t, "const i64 k1 = k0 + %d;", t->bk);
  text_line(c->t, "tg_copy_wait();");
  text_line(c->t, "__syncthreads(); /* k0 is there, the other buffers are free */");
  text_line(c->t, "if (k1 < k_end) {");
  text_line(c->t, "const int kn = k_end - k1 < %d ? (int)(k_end - k1) : %d;", t->bk, t->bk);
  cu_tile_bring(c, t, true);
  cu_tile_bring(c, t, false);
  text_line(c->t, "}");
  text_line(c->t, "turn ^= 1;");
  text_line(c->t, "if (k0 >= k_from) {");
  text_line(c->t, "const %s *const at = As + turn * %d;", t->step == STEP_FMA ? t->type : "u32", t->size_a);
  text_line(c->t, "const %s *const bt = Bs + turn * %d;", t->step == STEP_FMA ? t->type : "u32", t->size_b);
  t->step == STEP_FMA ? multiply_fma(c, t) : multiply_matrix(c, t);
  text_line(c->t, "}");
  text_line(c->t, "}");
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
  text_line(c->t,
            "const i64 en = flat %% %" PRId64 "ll, em = flat / %" PRId64 "ll %% %" PRId64 "ll, batch = flat / %" PRId64
            "ll;",
            q->nN, q->nN, q->nM, q->nN * q->nM);
  cu_tile_decode(c, "batch", q->nbatch, q->batch);
  cu_tile_decode(c, "em", q->nm, q->m);
  cu_tile_decode(c, "en", q->nn, q->n);
  cu_tile_unit(c, 0, NULL);
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
  if (!choose(c, &t)) return false;
  for (int i = 1; i < c->k->nstage; i++)
    if (c->k->stage[i].kind != ST_MAP || c->k->stage[i].nown) return false;
  int64_t most = (int64_t)1 << 31;
  if (t.q.nM >= most || t.q.nN >= most || t.q.nK >= most || t.q.nB >= most) return false;
  cu_place_buffers(c);
  size_t part =
      t.chunks > 1
          ? cu_scratch(c, (double)t.chunks * (double)t.q.nB * (double)t.q.nM * (double)t.q.nN * cu_reg_bytes(t.acc))
          : 0;
  tile_kernel(c, &t, part);
  if (t.chunks > 1) join_kernel(c, &t, part);
  c->out->contraction = true;
  return true;
}
