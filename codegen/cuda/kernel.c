/* A kernel's source: which schedule, where inner buffers lie, the functions around the stages. */
#include "codegen/cuda/emit.h"
#include <inttypes.h>

/* ROW_BYTES of shared memory for rows; the rest is for the reductions' accumulators and partial results. */
enum { ROW_BYTES = 36 << 10, POINT_BLOCK = 128, LOCAL_ELEMS = 32 };

static double stage_work(const Stage *s) {
  double n = 1;
  for (int i = 0; i < s->nown + s->nred; i++) n *= (double)s->extent[i];
  return n;
}

/* Lanes' reductions and long rows want a block a point; few points with much work each want launches of their own. */
static SchedKind choose(const Kernel *k) {
  double points = (double)kernel_points(k), work = 0;
  int64_t chunks = 0;
  bool rows = false;
  if (k->stage[0].kind == ST_SCATTER) return SCHED_SCATTER;
  for (int i = 0; i < k->nstage; i++) {
    const Stage *s = &k->stage[i];
    bool reduces = s->kind == ST_REDUCE || s->kind == ST_CONTRACT;
    double w = stage_work(s);
    if (w > work) work = w;
    if (reduces && (s->order == ORD_LANES || (cu_is_arg(s) && w >= 64))) rows = true;
    if (s->kind != ST_SCAN && cu_product(s->nown, s->extent) >= 32) rows = true;
    if (reduces && cu_chunks(s) > chunks) chunks = cu_chunks(s);
  }
  for (int i = 0; i < k->nbuf; i++) {
    int64_t n = 1;
    for (int d = 0; d < k->buf[i].rank && k->buf[i].space == SP_ROW; d++)
      if (k->buf[i].par[d] < 0) n *= k->buf[i].dim[d];
    if (n > LOCAL_ELEMS) rows = true;
  }
  bool fits = 2 * k->nstage <= CU_MAX_LAUNCH;
  if (!rows) return points < 4096 && chunks > 1 && fits ? SCHED_SPREAD : SCHED_POINT;
  return points < 64 && work > 16384 && fits ? SCHED_SPREAD : SCHED_BLOCK;
}

static int block_size(const Kernel *k) {
  double work = 0;
  for (int i = 0; i < k->nstage; i++)
    if (stage_work(&k->stage[i]) > work) work = stage_work(&k->stage[i]);
  return work <= 512 ? 64 : work <= 4096 ? 128 : 256;
}

/* ---- Buffers ----------------------------------------------------------------------------------------------------- */
void cu_place_buffers(Cu *c) {
  const Kernel *k = c->k;
  int64_t points = kernel_points(k);
  c->buf = arena_array(c->a, CuBuf, k->nbuf);
  for (int i = 0; i < k->nbuf; i++) {
    const KBuf *b = &k->buf[i];
    CuBuf *x = &c->buf[i];
    int64_t all = 1;
    x->stride = arena_copy(c->a, b->stride, sizeof *b->stride * (size_t)b->rank);
    for (int d = 0; d < b->rank; d++) all *= b->dim[d] > 0 ? b->dim[d] : 1;
    x->wide = all > INT32_MAX;
    if (b->space == SP_GLOBAL) continue;
    bool full = c->sched == SCHED_SPREAD;
    int64_t n = 1;
    for (int d = b->rank - 1; d >= 0; d--) {
      bool kept = full || b->par[d] < 0;
      x->stride[d] = kept ? n : 0;
      if (kept) n *= b->dim[d] > 0 ? b->dim[d] : 1;
    }
    x->elems = n;
    int64_t bytes = n * dt_bytes((DType)b->dtype);
    if (full) {
      x->scratch = true;
      x->offset = cu_scratch(c, (double)n * dt_bytes((DType)b->dtype));
    } else if (c->sched == SCHED_BLOCK && c->shared + bytes > ROW_BYTES) {
      x->scratch = true;
      x->per_block = n;
      x->offset = cu_scratch(c, (double)n * dt_bytes((DType)b->dtype) * (double)points);
    } else {
      c->shared += (bytes + 15) / 16 * 16;
    }
  }
}

static void declare_inner(Cu *c, const char *storage) {
  for (int i = 0; i < c->k->nbuf; i++) {
    const KBuf *b = &c->k->buf[i];
    const CuBuf *x = &c->buf[i];
    const char *t = cu_mem((DType)b->dtype);
    if (b->space == SP_GLOBAL || x->scratch) continue;
    text_line(c->t, "%s%s b%d[%" PRId64 "];", storage, t, i, x->elems);
  }
}

/* ---- Functions --------------------------------------------------------------------------------------------------- */
static const char *const schedule_name[] = {"a thread a point", "a block a point", "a stage a launch", "tiles",
                                            "scatter"};

void cu_open(Cu *c, int64_t grid, int block) {
  CuKernel *o = c->out;
  if (o->nlaunch == CU_MAX_LAUNCH) bug("cuda: more than %d launches", CU_MAX_LAUNCH);
  CuLaunch *l = &o->launch[o->nlaunch];
  *l = (CuLaunch){arena_printf(c->a, "k%d", o->nlaunch), grid > 0 ? grid : 1, block};
  o->nlaunch++;
  c->t = &c->body;
  text_line(c->t, "%s(%s, %d) {", c->sched == SCHED_TILE ? "TG_TILES" : "TG_KERNEL", l->name, block);
  text_line(c->t, "/* %s */", schedule_name[c->sched]);
  for (int i = 0; i < c->k->nbuf; i++) {
    const KBuf *b = &c->k->buf[i];
    const CuBuf *x = &c->buf[i];
    const char *t = cu_mem((DType)b->dtype), *con = b->space == SP_GLOBAL && !b->out ? "const " : "";
    if (b->space == SP_GLOBAL)
      text_line(c->t, "%s%s *const b%d = (%s%s *)A.p%d;", con, t, i, con, t, b->arg);
    else if (x->scratch && x->per_block)
      text_line(c->t, "%s *const b%d = (%s *)(A.scratch + %zull) + (i64)blockIdx.x * %" PRId64 "ll;", t, i, t,
                x->offset, x->per_block);
    else if (x->scratch)
      text_line(c->t, "%s *const b%d = (%s *)(A.scratch + %zull);", t, i, t, x->offset);
  }
  bool groups = false, args = false;
  for (int i = 0; i < c->k->nstage; i++) {
    const Stage *s = &c->k->stage[i];
    if (s->kind != ST_REDUCE && s->kind != ST_CONTRACT) continue;
    if (s->order == ORD_LANES) groups = true;
    if (cu_is_arg(s)) args = true;
  }
  if (c->sched != SCHED_BLOCK && c->sched != SCHED_SPREAD) return;
  if (groups || args) text_line(c->t, "__shared__ double red_[%d];", block);
  c->shared += (groups || args ? 8 : 0) * block + (args ? 9 : 0) * block;
  if (args) {
    text_line(c->t, "__shared__ i64 argat_[%d];", block);
    text_line(c->t, "__shared__ u8 arghas_[%d];", block);
  }
}

void cu_close(Cu *c) {
  text_line(c->t, "}");
  text_put(c->t, "\n");
}

static void point_kernel(Cu *c) {
  int64_t points = kernel_points(c->k);
  cu_open(c, (points + POINT_BLOCK - 1) / POINT_BLOCK, POINT_BLOCK);
  text_line(c->t, "const i64 unit = (i64)blockIdx.x * %d + threadIdx.x;", POINT_BLOCK);
  text_line(c->t, "if (unit < %" PRId64 "ll) {", points);
  cu_decode(c, "unit", 0, c->k->npar, c->k->par);
  declare_inner(c, "");
  for (int i = 0; i < c->k->nstage; i++) cu_stage_point(c, &c->k->stage[i]);
  text_line(c->t, "}");
  cu_close(c);
}

static void block_kernel(Cu *c) {
  c->block = block_size(c->k);
  cu_open(c, kernel_points(c->k), c->block);
  text_line(c->t, "const i64 unit = blockIdx.x;");
  cu_decode(c, "unit", 0, c->k->npar, c->k->par);
  declare_inner(c, "__shared__ ");
  for (int i = 0; i < c->k->nstage; i++) cu_stage_block(c, &c->k->stage[i]);
  cu_close(c);
}

static const char *whole(Cu *c) {
  Text t;
  text_init(&t, c->a);
  text_put(&t, "%s", cuda_prelude);
  text_put(&t, "typedef struct TgArgs {\n");
  for (int i = 0; i < c->k->narg; i++) text_put(&t, "  char *p%d;\n", i);
  text_put(&t, "  TgFault *fault;\n  char *scratch; /* %zu bytes */\n  i64 site;\n} TgArgs;\n\n%s\n%s", c->scratch,
           c->math.at, c->body.at);
  return t.at;
}

bool cuda_emit(Arena *a, Graph *g, const Kernel *k, bool tf32, CuKernel *out, const char **why) {
  Cu c = {.a = a, .g = g, .k = k, .tf32 = tf32, .out = out, .minor = "0"};
  *out = (CuKernel){.narg = k->narg, .faults = k->nsite > 0};
  if (k->narg > CU_MAX_ARGS) {
    *why = arena_printf(a, "a kernel of %d arguments; %d fit into a CUDA launch", k->narg, CU_MAX_ARGS);
    return false;
  }
  text_init(&c.body, a);
  text_init(&c.math, a);
  c.t = &c.body;
  if (k->stage[0].kind != ST_CONTRACT || !cu_tile(&c)) {
    c.sched = choose(k);
    cu_place_buffers(&c);
    if (c.sched == SCHED_POINT)
      point_kernel(&c);
    else if (c.sched == SCHED_BLOCK)
      block_kernel(&c);
    else if (c.sched == SCHED_SCATTER)
      cu_scatter(&c, &k->stage[0]);
    else
      for (int i = 0; i < k->nstage; i++) cu_stage_spread(&c, &k->stage[i]);
  }
  out->scratch_bytes = c.scratch;
  out->source = whole(&c);
  for (int i = 0; i < out->nlaunch; i++)
    if (out->launch[i].grid > INT32_MAX) {
      *why = "a kernel of more than 2^31 blocks";
      return false;
    }
  if (out->scratch_bytes > (size_t)1 << 45) {
    *why = "a kernel whose intermediate results do not fit into memory";
    return false;
  }
  return true;
}
