/* Roles, loop axes, tiles and blocks of a contraction (mma.h). Nothing here changes a bit of the result.
 *
 * Blocks follow the caches: a V panel of kb steps stays in L1, an R block of rb rows in half of L2, a V block of vb
 * columns in L2/L3. Measured on Zen 4 (L1 32 KB, L2 1 MB): kb 384..512, rb about 240, vb 512..1024 within 3 % of each
 * other. */
#include "codegen/cpu/mma.h"
#include <string.h>

enum { SHARED_COLUMNS = 8 << 20 }; /* bytes */
enum { KB = 512, IN_PLACE_KB = 128, STREAM_PARTS = 64, SHORT = 32, MANY_TILES = 512, MIN_RUN = 96 };
static const double NS_PER_BYTE = 0.02; /* from the caches beyond the first: what a product of few rows costs */

static int64_t up(int64_t n, int64_t d) { return (n + d - 1) / d; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t product(const MmaPlan *p, int n, const int *axis) {
  int64_t s = 1;
  for (int i = 0; i < n; i++) s *= p->ext[axis[i]];
  return s;
}

static void drop_ones(const MmaPlan *p, int *n, int *axis) {
  int m = 0;
  for (int i = 0; i < *n; i++)
    if (p->ext[axis[i]] != 1) axis[m++] = axis[i];
  *n = m;
}

/* First of the trailing axes that a buffer with these steps walks as one. */
static int one_walk(const MmaPlan *p, int n, const int *axis, const int64_t *step) {
  int i = n - 1;
  while (i > 0 && step[axis[i - 1]] == step[axis[i]] * p->ext[axis[i]]) i--;
  return i < 0 ? 0 : i;
}

static void to_loops(MmaPlan *p, int *n, int *axis, int count) {
  for (int i = 0; i < count; i++) p->loop[p->nloop++] = axis[i];
  memmove(axis, axis + count, (size_t)(*n - count) * sizeof *axis);
  *n -= count;
}

/* Steps of the iterators in the buffer that stage s writes. */
static void out_steps(const Kernel *k, const Stage *s, int64_t *step) {
  memset(step, 0, CONTRACT_MAX_ITER * sizeof *step);
  const KBuf *b = &k->buf[s->out];
  for (int d = 0; d < b->rank; d++)
    if (s->store[d] >= 0) step[s->store[d]] = b->stride[d];
}

static bool short_chunks(const Gemm *m) { return m->chunk < m->K && m->chunk <= SHORT; }

/* Steps of a block of chunks. A large result is not walked twice where a longer block spares it. */
static int64_t packed_parts(const Gemm *m) {
  int64_t kb = KB * 4 / m->esize, tiles = up(m->R, m->mr) * up(m->V, m->nr);
  return m->K <= 2 * kb && tiles >= MANY_TILES ? 2 * kb : kb;
}

/* Chunks that are short are joined by the micro-kernel, as many as make a block of at most `limit` steps. */
static void join_in_tiles(MmaPlan *p, int64_t limit) {
  Gemm *m = &p->gemm;
  int64_t n = m->chunk;
  while (n < m->K && 2 * n <= limit) n *= 2;
  if (n == m->chunk) return;
  m->part = m->chunk;
  m->chunk = n;
  m->kb = min64(n, m->K);
  p->ukr.tree = p->edge.tree = true;
}

/* R is the same at all loop points. */
static bool steady(const MmaPlan *p) {
  for (int d = 0; d < p->nloop; d++)
    if (ex_uses_iter(p->R.e, p->loop[d])) return false;
  return true;
}

/* Few columns, or columns that are gathered (a convolution's): packing R again for every block of them would be felt.
 */
static bool few_columns(const MmaPlan *p) { return !p->v_matrix || p->gemm.V < 512; }

/* R gets a phase of its own when each of its blocks would be packed several times. */
static void share_panels(MmaPlan *p) {
  Gemm *m = &p->gemm;
  int64_t uses = product(p, p->nloop, p->loop) * up(m->V, m->vb);
  if (p->steady && few_columns(p) && uses >= 2 && m->vb <= 256 && m->K > 0 && !gemm_keeps_r(m)) m->panels = GEMM_SHARED;
}

/* V gets one when it is gathered, as a convolution's images are, and several blocks of rows would gather it again. */
static void share_columns(MmaPlan *p) {
  Gemm *m = &p->gemm;
  if (p->v_matrix || m->in_place || m->K == 0 || m->R <= m->rb) return;
  double bytes = (double)product(p, p->nloop, p->loop) * (double)up(m->V, m->nr) * m->nr * (double)m->K * m->esize;
  m->columns = bytes <= SHARED_COLUMNS;
}

static void blocks(MmaPlan *p, const Isa *isa) {
  Gemm *m = &p->gemm;
  int w = ukr_lanes(p->c.acc), mr, nvec;
  ukr_tile(p->c.acc, isa->vector_bits / 8, m->R, m->V, short_chunks(m), &mr, &nvec);
  bool once = !m->in_place && m->R <= mr; /* each V panel is used once: packed just before, and small */
  if (once && nvec > 2) nvec = mr == 1 && nvec > 4 ? 4 : 2;
  m->mr = mr;
  m->nr = nvec * w;
  int64_t cols = m->V % m->nr, l2 = (int64_t)isa->l2;
  p->ukr = (UkrSpec){p->c.acc, p->c.prod == DT_I32, mr, nvec, false, false};
  p->edge = (UkrSpec){p->c.acc, p->c.prod == DT_I32, mr, (int)up(cols ? cols : 1, w), true, false};
  p->has_edge = cols != 0;
  m->kb = KB * 4 / m->esize;
  if (m->kb > m->K)
    m->kb = max64(m->K, 1);
  else
    m->kb = up(up(min64(m->K, m->chunk), up(min64(m->K, m->chunk), m->kb)), 4) * 4; /* equal blocks */
  if (m->in_place && m->R <= 2 * mr)
    m->kb = min64(m->kb, 16); /* V streams once: few rows of k, long in v */
  else if (m->in_place)
    m->kb = min64(m->kb, IN_PLACE_KB);

  join_in_tiles(p, m->in_place ? m->R <= 2 * mr ? STREAM_PARTS : IN_PLACE_KB : packed_parts(m));

  /* Enough units for the lanes, each long enough to be worth handing out: 4 M multiply-adds or so. */
  int64_t rb = max64(l2 / 2 / (m->kb * m->esize) / mr, 1) * mr, vb = max64(1024 / m->nr, 1) * m->nr;
  if (m->in_place) vb = max64(up(m->V, 2 * m->nr), 1) * m->nr;
  if (once) vb = min64(vb, max64(256 / m->nr, 1) * m->nr);
  if (p->steady && few_columns(p) && !m->in_place && m->R > rb && m->K > 0) /* row blocks share a packed V block */
    vb = min64(vb, max64(GEMM_WHOLE_V / (min64(m->K, m->chunk) * m->esize) / m->nr, 1) * m->nr);
  rb = min64(rb, up(max64(m->R, 1), mr) * mr);
  vb = min64(vb, up(max64(m->V, 1), m->nr) * m->nr);
  int64_t loops = product(p, p->nloop, p->loop), want = isa->lanes ? min64(4 * isa->lanes, 32) : 16;
  int64_t whole = loops * up(m->R, rb) * up(m->V, vb), chunks = up(m->K, m->chunk);
  if (chunks > 1 && whole > 0 && whole < want &&
      (double)(loops * m->R) * (double)m->V * (double)chunks * m->esize < 64e6) {
    p->split = true;
    want = up(want, chunks);
  }
  while (loops > 0 && loops * up(m->R, rb) * up(m->V, vb) < want) {
    double work = (double)rb * (double)vb * (double)max64(m->K, 1);
    if (work < 400e3) break;
    /* Halve the side whose packing is the cheaper to repeat. */
    if (vb >= rb && vb > m->nr)
      vb = up(up(vb, 2), m->nr) * m->nr;
    else if (rb > mr)
      rb = up(up(rb, 2), mr) * mr;
    else if (vb > m->nr)
      vb = up(up(vb, 2), m->nr) * m->nr;
    else
      break;
  }
  /* Even out: as many blocks as that, of equal size. */
  if (m->R)
    m->rb = up(up(m->R, up(m->R, rb)), mr) * mr;
  else
    m->rb = rb;
  if (m->V)
    m->vb = up(up(m->V, up(m->V, vb)), m->nr) * m->nr;
  else
    m->vb = vb;
  double rb_used = (double)min64(m->rb, m->R), vb_used = (double)min64(m->vb, m->V), k = (double)m->K;
  double compute = rb_used * vb_used * k / w * 0.3, read = (rb_used + vb_used) * k * m->esize * NS_PER_BYTE;
  p->cost = (compute > read ? compute : read) + 50; /* few rows: the matrix streams by */
}

/* Few columns fill a fraction of a vector: then M, if it is long, is the better vector side, and the output is stored
 * by columns. */
static bool rows_are_vectors(const Contract *c) {
  int64_t w = ukr_lanes(c->acc);
  if (c->nN == 1) return c->nM > 1;
  if (c->nN >= w || c->nM < 4 * w || c->nK < 64) return false;
  return (double)up(c->nM, w) * (double)c->nN * 1.2 < (double)c->nM;
}

/* A side that is a matrix with step 1 one way is packed by a function of all such matrices. */
static bool side_matrix(const MmaPlan *p, const Operand *o, GemmSide *s) {
  int64_t ip, ik;
  if (!operand_matrix(o, &ip, &ik) || (ip != 1 && ik != 1)) return false;
  s->by_k = ip == 1;
  s->at = (GemmPlace){.arg = o->buf->arg, .esize = dt_bytes(o->from), .base = o->at.c, .ld = ip == 1 ? ik : ip};
  if (o->row) {
    s->at.row = o->row->arg;
    s->at.row_step = o->row_step;
  }
  for (int d = 0; d < p->nloop; d++) s->at.step[d] = o->at.coef[p->loop[d]];
  return true;
}

bool mma_plan(Graph *g, const Kernel *k, const Isa *isa, MmaPlan *p) {
  memset(p, 0, sizeof *p);
  const Stage *s = &k->stage[0];
  p->k = k;
  p->niter = k->npar + s->nred;
  if (s->nown || p->niter > CONTRACT_MAX_ITER) return false;
  memcpy(p->ext, k->par, (size_t)k->npar * sizeof *k->par);
  memcpy(p->ext + k->npar, s->extent, (size_t)s->nred * sizeof *s->extent);
  if (!contract_find(k->npar, s->nred, p->ext, (Reduce)s->op, s->body, s->guard, &p->c)) return false;
  Contract *c = &p->c;
  if (c->nM == 1 && c->nN == 1) return false; /* dot products: lanes over the batch */

  memcpy(p->loop, c->batch, sizeof c->batch);
  p->nloop = c->nbatch;
  p->swapped = rows_are_vectors(c);
  memcpy(p->r, p->swapped ? c->n : c->m, sizeof c->m);
  p->nr = p->swapped ? c->nn : c->nm;
  memcpy(p->v, p->swapped ? c->m : c->n, sizeof c->n);
  p->nv = p->swapped ? c->nm : c->nn;
  drop_ones(p, &p->nloop, p->loop);
  drop_ones(p, &p->nr, p->r);
  drop_ones(p, &p->nv, p->v);

  /* Axes that the output does not walk as one become loops when what is left is long enough. */
  int64_t step[CONTRACT_MAX_ITER];
  const Stage *last = &k->stage[k->nstage - 1];
  out_steps(k, last, step);
  int iv = one_walk(p, p->nv, p->v, step), ir = one_walk(p, p->nr, p->r, step);
  if (iv && product(p, p->nv - iv, p->v + iv) >= MIN_RUN) to_loops(p, &p->nv, p->v, iv);
  if (ir && product(p, p->nr - ir, p->r + ir) >= MIN_RUN) to_loops(p, &p->nr, p->r, ir);
  if (p->nloop > GEMM_MAX_LOOP) return false;

  Gemm *m = &p->gemm;
  m->esize = dt_bytes(c->acc);
  m->acc = c->acc == DT_F32 ? 0 : c->acc == DT_F64 ? 1 : 2;
  m->chunk = s->chunk ? s->chunk : STAGE_CHUNK;
  m->R = product(p, p->nr, p->r);
  m->V = product(p, p->nv, p->v);
  m->K = c->nK;
  m->nloop = p->nloop;
  for (int d = 0; d < p->nloop; d++) m->loop[d] = p->ext[p->loop[d]];

  const KBuf *out = &k->buf[s->out];
  p->direct = k->nstage == 1 && out->space == SP_GLOBAL && out->dtype == c->acc;
  if (p->direct) {
    p->direct = (p->nv == 0 || (one_walk(p, p->nv, p->v, step) == 0 && step[p->v[p->nv - 1]] == 1)) &&
                (p->nr == 0 || one_walk(p, p->nr, p->r, step) == 0);
    m->c.arg = out->arg;
    m->c.esize = m->esize;
    m->c.ld = p->nr ? step[p->r[p->nr - 1]] : 0;
    for (int d = 0; d < p->nloop; d++) m->c.step[d] = step[p->loop[d]];
  }

  operand_make(g, k, p->swapped ? c->b : c->a, p->niter, p->ext, p->nr, p->r, c->nk, c->k, &p->R);
  operand_make(g, k, p->swapped ? c->a : c->b, p->niter, p->ext, p->nv, p->v, c->nk, c->k, &p->V);
  p->r_matrix = side_matrix(p, &p->R, &m->r);
  p->v_matrix = side_matrix(p, &p->V, &m->v);
  int mr, nvec;
  ukr_tile(c->acc, isa->vector_bits / 8, m->R, m->V, short_chunks(m), &mr, &nvec);
  /* In place when a panel is used a few times only: once from memory, then from L1 where its rows must not collide. */
  bool in_place = p->v_matrix && p->V.from == c->acc && m->v.by_k;
  in_place = in_place && (m->R <= 4 * mr || (m->R <= 8 * mr && (m->v.at.ld * m->esize) % 1024 != 0));
  if (in_place) {
    m->in_place = 1;
  } else {
    /* One row: packing costs more than it saves, unless the vectors must be transposed anyway. */
    int inner_k = p->V.nk ? p->V.kk[p->V.nk - 1] : -1;
    bool k_runs = p->V.plain && inner_k >= 0 && p->V.at.coef[inner_k] == 1 && p->V.ext[inner_k] >= 8;
    if (m->R == 1 && !k_runs) return false;
  }
  p->steady = steady(p);
  blocks(p, isa);
  share_panels(p);
  share_columns(p);
  return true;
}
