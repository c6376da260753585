/* Blocked driver of contractions; see gemm.h.
 *
 * A block is rows [r0, r1) and columns [v0, v1) at one loop point:
 *
 *   for each chunk of 4096 k          into C, or into a slot of the tree's stack (or, split, into a place of its own)
 *     for each block of kb k          V block packed once (or in place)
 *       for each row block            R block packed: it stays in L2
 *         for each column panel       the V panel stays in L1
 *           for each row panel        micro-kernel
 *
 * Several row blocks share a V block when C is the output itself and K fits one chunk, or when it is small (keeps_v). R
 * may have been packed before, as panels over all K: then no block of it is; and so may V, all of it, for all row
 * blocks at once, where packing is work of its own (columns that are gathered: rt_gemm_columns). */
#include "codegen/rt/gemm.h"
#include <stdbool.h>
#include <string.h>

enum { WHOLE_R = 384 << 10 };
enum { SLOTS = 52 }; /* K < 2^63 has fewer than 2^51 chunks */

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t up(int64_t n, int64_t d) { return (n + d - 1) / d; }
static size_t align64(size_t n) { return (n + 63) & ~(size_t)63; }

int64_t gemm_units(const Gemm *g) {
  int64_t n = up(g->R, g->rb) * up(g->V, g->vb);
  for (int d = 0; d < g->nloop; d++) n *= g->loop[d];
  return n;
}

int64_t gemm_chunks(const Gemm *g) { return up(g->K, g->chunk); }

static int depth(const Gemm *g) { /* slots of the tree beyond C */
  int64_t n = up(g->K, g->chunk);
  int d = 0;
  while (n > 1) d++, n >>= 1;
  return d;
}
static int64_t block_rows(const Gemm *g) { return min64(up(g->R, g->mr) * g->mr, g->rb); }
static int64_t block_cols(const Gemm *g) { return min64(up(g->V, g->nr) * g->nr, g->vb); }
int gemm_keeps_r(const Gemm *g) { return g->R <= g->rb && block_rows(g) * min64(g->chunk, g->K) * g->esize <= WHOLE_R; }
static size_t r_bytes(const Gemm *g) {
  if (g->panels) return 0;
  int64_t k = min64(gemm_keeps_r(g) ? g->chunk : g->kb, g->K);
  return align64((size_t)(block_rows(g) * k + 16) * (size_t)g->esize);
}
static int packs_v(const Gemm *g) { return !g->in_place && !g->columns; }
/* Several row blocks need the same V block: it is packed for a whole chunk, if it is small, and kept. */
static int keeps_v(const Gemm *g) {
  return packs_v(g) && g->R > g->rb && block_cols(g) * min64(g->chunk, g->K) * g->esize <= GEMM_WHOLE_V;
}
static size_t v_bytes(const Gemm *g) {
  int64_t k = min64(keeps_v(g) ? g->chunk : g->kb, g->K);
  return packs_v(g) ? align64((size_t)(block_cols(g) * k + 16) * (size_t)g->esize) : 0;
}
static size_t c_bytes(const Gemm *g) { return align64((size_t)(block_rows(g) * block_cols(g)) * (size_t)g->esize); }

/* The micro-kernel's stack: a tile of every level of its tree below the root. */
static size_t stack_bytes(const Gemm *g) {
  int d = 0;
  if (g->part)
    while (g->part << d < min64(g->chunk, g->K)) d++;
  return align64((size_t)(g->mr * g->nr) * (size_t)g->esize * (size_t)d);
}

size_t gemm_scratch(const Gemm *g) {
  return r_bytes(g) + v_bytes(g) + stack_bytes(g) + c_bytes(g) * (size_t)(depth(g) + (g->epilogue != NULL));
}

typedef struct Mat {
  char *at;
  int64_t ld;
} Mat;

static char *place(const Gemm *g, const GemmPlace *p, void *const *ptr, const int64_t *loop) {
  int64_t off = p->base + (p->row_step ? *(const int64_t *)ptr[p->row] * p->row_step : 0);
  for (int d = 0; loop && d < g->nloop; d++) off += loop[d] * p->step[d];
  return (char *)ptr[p->arg] + off * p->esize;
}

static void pack(const Gemm *g, const GemmSide *s, const void *args, void *const *ptr, const int64_t *loop, int64_t p0,
                 int64_t np, int64_t k0, int64_t nk, void *dst) {
  if (!s->matrix) {
    s->fn(args, loop, p0, np, k0, nk, dst);
    return;
  }
  int64_t i = s->by_k ? k0 : p0, j = s->by_k ? p0 : k0;
  s->matrix(place(g, &s->at, ptr, loop) + (i * s->at.ld + j) * s->at.esize, s->at.ld, np, nk, dst);
}

static void add_rows(const Gemm *g, Mat to, Mat from, int64_t nr, int64_t nv) { /* to = to + from */
  for (int64_t i = 0; i < nr; i++) {
    char *t = to.at + i * to.ld * g->esize;
    const char *f = from.at + i * from.ld * g->esize;
    if (g->acc == 0)
      for (int64_t j = 0; j < nv; j++) ((float *)t)[j] = ((float *)t)[j] + ((const float *)f)[j];
    else if (g->acc == 1)
      for (int64_t j = 0; j < nv; j++) ((double *)t)[j] = ((double *)t)[j] + ((const double *)f)[j];
    else
      for (int64_t j = 0; j < nv; j++) ((uint64_t *)t)[j] += ((const uint64_t *)f)[j];
  }
}

/* All tiles of packed rows [0, nr) against columns [v0, v0 + nv); c is the block's corner. load, stack: for the
 * micro-kernel. */
static void tiles(const Gemm *g, int64_t kc, const char *a, int64_t a_panel, const char *b, int64_t b_panel,
                  int64_t ldb, Mat c, int64_t nr, int64_t nv, int64_t load, char *stack) {
  int64_t es = g->esize;
  for (int64_t j = 0; j < nv; j += g->nr, b += b_panel) {
    int64_t cols = min64(g->nr, nv - j);
    GemmUkr ukr = cols < g->nr ? g->edge : g->ukr;
    const char *ap = a;
    for (int64_t i = 0; i < nr; i += g->mr, ap += a_panel)
      ukr(kc, ap, b, ldb, c.at + (i * c.ld + j) * es, c.ld, min64(g->mr, nr - i), cols, load, stack);
  }
}

typedef struct Block {
  const int64_t *loop;
  int64_t at, r0, r1, v0, v1;
} Block; /* at: flat loop point */

/* A lane's scratch; which (loop point, chunk) of R and which (loop point, column block, chunk) of V lie packed in it,
 * -1 none. panels, columns: of R and V, packed before; NULL none. */
typedef struct Lane {
  char *scratch;
  int64_t held_r, held_v;
  const char *panels, *columns;
} Lane;

static size_t panels_bytes(const Gemm *g) { return g->panels == GEMM_SHARED ? align64(gemm_panel_bytes(g)) : 0; }
static int64_t column_panels(const Gemm *g) { return up(g->V, g->nr); }
static size_t columns_bytes(const Gemm *g) {
  if (!g->columns) return 0;
  size_t n = (size_t)(column_panels(g) * g->nr * g->K);
  for (int d = 0; d < g->nloop; d++) n *= (size_t)g->loop[d];
  return align64(n * (size_t)g->esize);
}
/* Step k of panel j of V at flat loop point `at`. */
static int64_t column_place(const Gemm *g, int64_t at, int64_t j, int64_t k) {
  return ((at * column_panels(g) + j) * g->K + k) * g->nr * g->esize;
}

static Lane lane_of(const Gemm *g, void *const *ptr, void *scratch, void *shared) {
  Lane l = {scratch, -1, -1, NULL, NULL};
  if (g->panels == GEMM_SHARED) l.panels = shared;
  if (g->panels == GEMM_GIVEN) l.panels = place(g, &g->panel, ptr, NULL);
  if (g->columns) l.columns = (const char *)shared + panels_bytes(g);
  return l;
}

/* Columns as the micro-kernel reads them: rows ld elements apart, panels `panel` bytes. */
typedef struct Columns {
  const char *at;
  int64_t ld, panel;
} Columns;

/* Steps [k0, k0 + kc) of the V block; packed into bbuf, unless that or another place holds them. */
static Columns v_block(const Gemm *g, const void *args, void *const *ptr, const Block *k, int64_t c0, int64_t k0,
                       int64_t kc, char *bbuf, bool held, const Lane *lane) {
  int64_t nv = k->v1 - k->v0, es = g->esize;
  if (g->in_place)
    return (Columns){place(g, &g->v.at, ptr, k->loop) + (k->v0 + k0 * g->v.at.ld) * es, g->v.at.ld, g->nr * es};
  if (lane->columns)
    return (Columns){lane->columns + column_place(g, k->at, k->v0 / g->nr, k0), g->nr, g->nr * g->K * es};
  if (keeps_v(g)) bbuf += (k0 - c0) * up(nv, g->nr) * g->nr * es;
  if (!held) pack(g, &g->v, args, ptr, k->loop, k->v0, nv, k0, kc, bbuf);
  return (Columns){bbuf, g->nr, g->nr * kc * es};
}

/* c = the sum over one chunk of k. */
static void chunk_sum(const Gemm *g, const void *args, void *const *ptr, const Block *k, int64_t chunk, Mat c,
                      Lane *lane) {
  int64_t es = g->esize, nv = k->v1 - k->v0, c0 = chunk * g->chunk, c1 = min64(c0 + g->chunk, g->K);
  char *abuf = lane->scratch, *bbuf = abuf + r_bytes(g), *stack = bbuf + v_bytes(g);
  bool keeps = !lane->panels && gemm_keeps_r(g);
  int64_t at = k->at * gemm_chunks(g) + chunk, column = at * up(g->V, g->vb) + k->v0 / g->vb;
  bool held_v = keeps_v(g) && lane->held_v == column;
  if (keeps && lane->held_r != at) pack(g, &g->r, args, ptr, k->loop, k->r0, k->r1 - k->r0, c0, c1 - c0, abuf);
  lane->held_r = at;
  lane->held_v = column;
  for (int64_t k0 = c0; k0 < c1; k0 += g->kb) {
    int64_t kc = min64(g->kb, c1 - k0);
    Columns b = v_block(g, args, ptr, k, c0, k0, kc, bbuf, held_v, lane);
    for (int64_t r = k->r0; r < k->r1; r += g->rb) {
      int64_t nr = min64(g->rb, k->r1 - r), steps = kc;
      const char *a = abuf;
      if (lane->panels)
        a = lane->panels + (r * g->K + k0 * g->mr) * es, steps = g->K;
      else if (keeps)
        a += (k0 - c0) * g->mr * es, steps = c1 - c0;
      else
        pack(g, &g->r, args, ptr, k->loop, r, nr, k0, kc, abuf);
      tiles(g, kc, a, g->mr * steps * es, b.at, b.panel, b.ld, (Mat){c.at + (r - k->r0) * c.ld * es, c.ld}, nr, nv,
            g->part ? g->part : k0 > c0, stack);
    }
  }
}

/* Joins the slots of a finished chunk: aligned halves at once, the rest from the right after the last chunk. */
static int join(const Gemm *g, Mat *slot, int used, int64_t chunk, int64_t nr, int64_t nv) {
  for (int64_t n = chunk + 1; n % 2 == 0; n /= 2, used--) add_rows(g, slot[used - 2], slot[used - 1], nr, nv);
  if ((chunk + 1) * g->chunk >= g->K)
    for (; used > 1; used--) add_rows(g, slot[used - 2], slot[used - 1], nr, nv);
  return used;
}

/* Where the block's sums end, and the tree's further slots. */
static void slots(const Gemm *g, void *const *ptr, const Block *k, char *cbuf, Mat *slot) {
  int64_t cols = block_cols(g);
  if (g->epilogue) {
    slot[0] = (Mat){cbuf, cols};
    cbuf += c_bytes(g);
  } else {
    slot[0] = (Mat){place(g, &g->c, ptr, k->loop) + (k->r0 * g->c.ld + k->v0) * g->esize, g->c.ld};
  }
  for (int d = depth(g), i = 1; i <= d; i++) slot[i] = (Mat){cbuf + c_bytes(g) * (size_t)(i - 1), cols};
}

static void block(const Gemm *g, const void *args, void *const *ptr, const Block *k, Lane *lane) {
  int64_t nr = k->r1 - k->r0, nv = k->v1 - k->v0;
  Mat slot[SLOTS];
  int used = 0;
  slots(g, ptr, k, lane->scratch + r_bytes(g) + v_bytes(g) + stack_bytes(g), slot);
  for (int64_t chunk = 0; chunk * g->chunk < g->K; chunk++) {
    chunk_sum(g, args, ptr, k, chunk, slot[used], lane);
    used = join(g, slot, used + 1, chunk, nr, nv);
  }
  if (g->K <= 0)
    for (int64_t i = 0; i < nr; i++) memset(slot[0].at + i * slot[0].ld * g->esize, 0, (size_t)(nv * g->esize));
  if (g->epilogue) g->epilogue(args, k->loop, k->r0, nr, k->v0, nv, slot[0].at, slot[0].ld);
}

/* Block number u of all; n row blocks from it on. */
static Block block_at(const Gemm *g, int64_t u, int64_t n, int64_t *loop) {
  int64_t nrb = up(g->R, g->rb), nvb = up(g->V, g->vb);
  int64_t rb = u % nrb, rest = u / nrb, vb = rest % nvb, at = rest / nvb;
  for (int64_t d = g->nloop - 1, left = at; d >= 0; d--) loop[d] = left % g->loop[d], left /= g->loop[d];
  return (Block){loop, at, rb * g->rb, min64((rb + n) * g->rb, g->R), vb * g->vb, min64((vb + 1) * g->vb, g->V)};
}

void gemm_run(const Gemm *g, const void *args, void *const *ptr, int64_t lo, int64_t hi, void *scratch, void *shared) {
  int64_t nrb = up(g->R, g->rb), loop[GEMM_MAX_LOOP];
  int64_t together = g->epilogue || g->K > g->chunk ? 1 : nrb; /* row blocks that share a V block */
  Lane lane = lane_of(g, ptr, scratch, shared);
  for (int64_t u = lo; u < hi;) {
    int64_t n = min64(min64(nrb - u % nrb, hi - u), together);
    Block k = block_at(g, u, n, loop);
    block(g, args, ptr, &k, &lane);
    u += n;
  }
}

/* ---- Panels made before ------------------------------------------------------------------------------------------ */

int64_t gemm_panels(const Gemm *g) { return up(g->R, g->mr); }
size_t gemm_panel_bytes(const Gemm *g) { return (size_t)(gemm_panels(g) * g->mr * g->K * g->esize); }

size_t gemm_shared(const Gemm *g, int split) {
  return panels_bytes(g) + columns_bytes(g) + (split ? c_bytes(g) * (size_t)(gemm_units(g) * gemm_chunks(g)) : 0);
}

void gemm_pack(const Gemm *g, const void *args, void *const *ptr, int64_t lo, int64_t hi, void *shared) {
  const int64_t loop[GEMM_MAX_LOOP] = {0};
  int64_t r0 = lo * g->mr, nr = min64(hi * g->mr, g->R) - r0;
  if (nr > 0) pack(g, &g->r, args, ptr, loop, r0, nr, 0, g->K, (char *)shared + r0 * g->K * g->esize);
}

/* Steps of a piece: it stays in L2 while it is packed, and there are enough pieces for the lanes. */
static int64_t piece_steps(const Gemm *g) { return min64(g->kb, g->K); }

int64_t gemm_column_pieces(const Gemm *g) {
  int64_t n = column_panels(g) * up(g->K, piece_steps(g));
  for (int d = 0; d < g->nloop; d++) n *= g->loop[d];
  return n;
}

void gemm_pack_columns(const Gemm *g, const void *args, void *const *ptr, int64_t lo, int64_t hi, void *shared) {
  int64_t steps = piece_steps(g), npiece = up(g->K, steps), npanel = column_panels(g), loop[GEMM_MAX_LOOP];
  char *to = (char *)shared + panels_bytes(g);
  for (int64_t i = lo; i < hi; i++) {
    int64_t k0 = i % npiece * steps, j = i / npiece % npanel, at = i / npiece / npanel, v0 = j * g->nr;
    for (int64_t d = g->nloop - 1, left = at; d >= 0; d--) loop[d] = left % g->loop[d], left /= g->loop[d];
    pack(g, &g->v, args, ptr, loop, v0, min64(g->nr, g->V - v0), k0, min64(steps, g->K - k0),
         to + column_place(g, at, j, k0));
  }
}

/* ---- Split over chunks ------------------------------------------------------------------------------------------- */

static Mat partial(const Gemm *g, void *shared, int64_t chunk, int64_t u) {
  char *at = (char *)shared + panels_bytes(g) + columns_bytes(g);
  return (Mat){at + c_bytes(g) * (size_t)(chunk * gemm_units(g) + u), block_cols(g)};
}

void gemm_run_chunks(const Gemm *g, const void *args, void *const *ptr, int64_t lo, int64_t hi, void *scratch,
                     void *shared) {
  int64_t units = gemm_units(g), loop[GEMM_MAX_LOOP];
  Lane lane = lane_of(g, ptr, scratch, shared);
  for (int64_t i = lo; i < hi; i++) {
    Block k = block_at(g, i % units, 1, loop);
    chunk_sum(g, args, ptr, &k, i / units, partial(g, shared, i / units, i % units), &lane);
  }
}

void gemm_join_chunks(const Gemm *g, const void *args, void *const *ptr, int64_t lo, int64_t hi, void *scratch,
                      void *shared) {
  int64_t loop[GEMM_MAX_LOOP];
  for (int64_t u = lo; u < hi; u++) {
    Block k = block_at(g, u, 1, loop);
    int64_t nr = k.r1 - k.r0, nv = k.v1 - k.v0;
    Mat slot[SLOTS], end[SLOTS];
    int used = 0;
    for (int64_t chunk = 0; chunk < gemm_chunks(g); chunk++) {
      slot[used++] = partial(g, shared, chunk, u);
      used = join(g, slot, used, chunk, nr, nv);
    }
    if (g->epilogue) {
      g->epilogue(args, k.loop, k.r0, nr, k.v0, nv, slot[0].at, slot[0].ld);
      continue;
    }
    slots(g, ptr, &k, scratch, end);
    for (int64_t i = 0; i < nr; i++)
      memcpy(end[0].at + i * end[0].ld * g->esize, slot[0].at + i * slot[0].ld * g->esize, (size_t)(nv * g->esize));
  }
}
