/* One tile of a factor into shared memory.
 *
 * A plain load is copied: asynchronously where the device can (tg_copy*, prelude.c), 16 bytes at once where neighbours
 * in the tile are neighbours in memory. Anything else, inlined maps and conversions and checked subscripts, is
 * evaluated. */
#include "codegen/cuda/tile.h"
#include <inttypes.h>

typedef struct Side {
  Expr *factor;
  int wide, nside, nother, ld;
  const int *side, *other;
  const char *name, *base;
  int64_t size;
} Side;

static Side side_of(const Tile *t, bool first) {
  const Contract *q = &t->q;
  if (first) return (Side){q->a, t->bm, q->nm, q->nn, t->lda, q->m, q->n, "As", "m0", q->nM};
  return (Side){q->b, t->bn, q->nn, q->nm, t->ldb, q->n, q->m, "Bs", "n0", q->nN};
}

/* ---- How a load moves with an iterator --------------------------------------------------------------------------- */
static int64_t coefficient(const Expr *e, int iter) {
  if (e->kind == EX_ITER) return e->num.i == iter;
  for (int i = 0; e->kind == EX_LIN && i < e->n; i++)
    if (e->arg[i]->kind == EX_ITER && e->arg[i]->num.i == iter) return e->coef[i];
  return 0;
}

static int64_t load_step(const Kernel *k, const Expr *e, int iter) {
  const KBuf *b = kernel_buf(k, e->node);
  int64_t step = 0;
  for (int d = 0; b && d < e->n; d++) step += coefficient(e->arg[d], iter) * b->stride[d];
  return step;
}

typedef struct Near {
  const Kernel *k;
  int iter;
  bool found;
} Near;
static void near_visit(void *ctx, Expr *e) {
  Near *n = ctx;
  if (e->kind != EX_LOAD) return;
  int64_t step = load_step(n->k, e, n->iter);
  if (step == 1 || step == -1) n->found = true;
}

/* Do neighbours of K lie side by side in memory? Then neighbouring threads take neighbours of K. */
static bool k_is_near(const Cu *c, const Tile *t, Expr *factor) {
  if (!t->q.nk) return false;
  Near n = {c->k, t->q.k[t->q.nk - 1], false};
  ex_visit(factor, near_visit, &n);
  return n.found;
}

/* ---- Copies ------------------------------------------------------------------------------------------------------ */
/* Bytes of an element if the factor is a load that can be copied as it is; else 0. */
static int plain_bytes(const Cu *c, const Tile *t, const Expr *e) {
  if (e->kind != EX_LOAD || e->checked) return 0;
  const KBuf *b = kernel_buf(c->k, e->node);
  DType want = t->step == STEP_FMA ? t->acc : t->q.prod;
  if (!b || b->space != SP_GLOBAL || (DType)b->dtype != want) return 0;
  for (int d = 0; d < b->rank; d++)
    if (b->dim[d] <= 0) return 0;
  return dt_bytes(want);
}

static bool affine(const Expr *e) {
  if (e->kind == EX_CONST || e->kind == EX_ITER) return true;
  for (int i = 0; e->kind == EX_LIN && i < e->n; i++)
    if (e->arg[i]->kind != EX_ITER) return false;
  return e->kind == EX_LIN;
}

/* Elements that one 16-byte copy may take: they lie side by side in the tile and in memory, and so aligned, relative to
 * the buffer, that all are inside or none is. 0: no such copies. */
static int vector(const Cu *c, const Tile *t, const Side *s, int bytes) {
  const Expr *e = s->factor;
  int n = t->step == STEP_FMA ? s->nside : t->q.nk, v = bytes ? 16 / bytes : 0;
  if (!v || !n || e->mask) return 0;
  int it = t->step == STEP_FMA ? s->side[n - 1] : t->q.k[n - 1];
  const KBuf *b = kernel_buf(c->k, e->node);
  int64_t start = 0;
  for (int d = 0; d < e->n; d++) {
    if (!affine(e->arg[d])) return 0;
    if (e->arg[d]->kind != EX_ITER) start += e->arg[d]->num.i * b->stride[d];
  }
  bool fits = start % v == 0 && cu_tile_extent(c, it) % v == 0 && (t->chunks == 1 || t->chunk % v == 0) &&
              load_step(c->k, e, it) == 1;
  for (int i = 0; i < c->k->npar + c->st->nred && fits; i++) fits = i == it || load_step(c->k, e, i) % v == 0;
  return fits ? v : 0;
}

/* Binds kk and at for v elements at once, and the iterators; opens the block in which the element is inside the factor.
 */
static void open_place(Cu *c, const Tile *t, const Side *s, bool by_k, int v) {
  int n = by_k ? t->bk : s->wide;
  const char *times = v > 1 ? arena_printf(c->a, " * %d", v) : "";
  text_line(c->t, "for (int e = threadIdx.x; e < %d; e += %d) {", s->wide * t->bk / v, t->threads);
  text_line(c->t, "const int kk = e %s %d%s;", by_k ? "%" : "/", n / v, by_k ? times : "");
  text_line(c->t, "const int at = e %s %d%s;", by_k ? "/" : "%", n / v, by_k ? "" : times);
}
static void open_inside(Cu *c, const Tile *t, const Side *s) {
  text_line(c->t, "if (%s + at < %" PRId64 "ll && kk < kn) {", s->base, s->size);
  cu_tile_decode(c, arena_printf(c->a, "%s + at", s->base), s->nside, s->side);
  cu_tile_decode(c, "k1 + kk", t->q.nk, t->q.k);
  cu_scope(c);
}
static const char *place(Cu *c, const Tile *t, const Side *s) {
  if (t->step == STEP_FMA) return arena_printf(c->a, "kk * %d + at", s->ld);
  return arena_printf(c->a, "at * %d + kk", t->step == STEP_TF32 ? s->ld : 2 * s->ld);
}

static void copy(Cu *c, const Tile *t, const Side *s, bool by_k, int v, int bytes) {
  const Expr *e = s->factor;
  int at = (int)(kernel_buf(c->k, e->node) - c->k->buf);
  open_place(c, t, s, by_k, v);
  text_line(c->t, "int live = 0;");
  text_line(c->t, "const %s *from = b%d;", cu_mem((DType)c->k->buf[at].dtype), at);
  open_inside(c, t, s);
  if (e->mask) text_line(c->t, "if (%s) {", cu_expr(c, e->mask));
  text_line(c->t, "live = 1;");
  text_line(c->t, "from = b%d + (%s);", at, cu_index(c, at, e->arg));
  if (e->mask) text_line(c->t, "}");
  text_line(c->t, "}");
  text_line(c->t, "tg_copy%d(to + %s, from, live);", v * bytes, place(c, t, s));
  text_line(c->t, "}");
}

static void evaluate(Cu *c, const Tile *t, const Side *s, bool by_k) {
  bool half = t->step == STEP_F16 || t->step == STEP_BF16;
  DType from = (DType)s->factor->dtype;
  open_place(c, t, s, by_k, 1);
  text_line(c->t, "%s value = 0;", half ? "u16" : t->type);
  open_inside(c, t, s);
  cu_tile_unit(c, s->nother, s->other);
  c->minor = "k1 + kk";
  const char *x = cu_expr(c, s->factor);
  text_line(c->t, "value = %s;", half ? cu_to_mem(c, from, x) : cu_cast(c, t->acc, from, x));
  text_line(c->t, "}");
  text_line(c->t, "to[%s] = value;", place(c, t, s));
  text_line(c->t, "}");
}

void cu_tile_bring(Cu *c, const Tile *t, bool first) {
  Side s = side_of(t, first);
  bool near = k_is_near(c, t, s.factor), half = t->step == STEP_F16 || t->step == STEP_BF16;
  int bytes = plain_bytes(c, t, s.factor), v = vector(c, t, &s, bytes);
  const char *type = half ? "u16" : t->type;
  text_line(c->t, "{");
  text_line(c->t, "%s *const to = (%s *)(%s + turn * %d);", type, type, s.name, first ? t->size_a : t->size_b);
  if (v) {
    text_line(c->t, "if (((u64)b%d & 15) == 0) {", (int)(kernel_buf(c->k, s.factor->node) - c->k->buf));
    copy(c, t, &s, t->step != STEP_FMA, v, bytes);
    text_line(c->t, "} else {");
  }
  if (bytes >= 4)
    copy(c, t, &s, near, 1, bytes);
  else
    evaluate(c, t, &s, near);
  if (v) text_line(c->t, "}");
  text_line(c->t, "}");
}
