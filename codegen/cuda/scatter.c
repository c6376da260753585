/* Scatters, without atomic additions: each place of the destination has one thread, which meets its terms in ascending
 * order.
 *
 * An own iterator that is a subscript by itself is bare: its values write different places, each by a thread of its
 * own. The others are the source points, walked in order. Two ways:
 *
 *   plain  a thread a point of P and value of the bare iterators; by destination, some rows of it in place of P
 *
 *   rows   by destination with many source points, where the first subscript is free of bare iterators: a launch finds
 *          the row of every source point; then each block looks through all of them, 256 at once, for its rows, and
 *          its threads, one a value of the bare iterators, take those terms */
#include "codegen/cuda/emit.h"
#include <inttypes.h>

enum { PLAIN_BLOCK = 128, ROWS_BLOCK = 256, MANY_POINTS = 128, MOST_BLOCKS = 1024, MOST_READ = 1 << 24 };
static const Reduce combine_by[] = {[SC_SET] = RED_NONE, [SC_ADD] = RED_SUM, [SC_MAX] = RED_MAX, [SC_MIN] = RED_MIN};

static bool bare(const Cu *c, const Stage *s, int own) {
  for (int d = 0; d < c->k->buf[s->out].rank; d++)
    if (s->at[d]->kind == EX_ITER && s->at[d]->num.i == c->k->npar + own) return true;
  return false;
}

/* Extents and numbers of the bare iterators, or of the others; their product. */
static int64_t own_list(const Cu *c, const Stage *s, bool want, int *n, int64_t *extent, int *iter) {
  int64_t all = 1;
  *n = 0;
  for (int i = 0; i < s->nown; i++)
    if (bare(c, s, i) == want) {
      extent[*n] = s->extent[i];
      iter[(*n)++] = c->k->npar + i;
      all *= s->extent[i];
    }
  return all;
}

/* Declares the iterators of a list from their flat position. */
static void decode(Cu *c, const char *flat, int n, const int64_t *extent, const int *iter) {
  int d = c->nvar++;
  if (n) text_line(c->t, "i64 d%d = %s;", d, flat);
  for (int i = n - 1; i >= 0; i--) {
    text_line(c->t, "const i64 i%d = d%d %% %" PRId64 "ll;", iter[i], d, extent[i] > 0 ? extent[i] : 1);
    if (i) text_line(c->t, "d%d /= %" PRId64 "ll;", d, extent[i] > 0 ? extent[i] : 1);
  }
}

/* C expression of a source point's place in the ascending order, bare iterators counted or taken as 0: what orders
 * faults. */
static const char *position(Cu *c, const Stage *s, bool with_bare) {
  Text t;
  text_init(&t, c->a);
  int64_t stride = 1;
  text_put(&t, "(0");
  for (int i = s->nown - 1; i >= 0; i--) {
    if (with_bare || !bare(c, s, i)) text_put(&t, " + %" PRId64 "ll * i%d", stride, c->k->npar + i);
    stride *= s->extent[i];
  }
  text_put(&t, ")");
  return t.at;
}

/* Clears `in` if subscript d is outside, which is a fault of `unit` where subscripts are checked. */
static void check_subscript(Cu *c, const Stage *s, int d, const char *at, const char *when, const char *unit) {
  const KBuf *b = &c->k->buf[s->out];
  text_line(c->t, "if (in && (u64)(%s) >= %" PRId64 "ull) {", at, b->dim[d]);
  if (s->checked)
    text_line(c->t, "%stg_fault(A.fault, %d, (int)A.site + %d, %s, %" PRId64 "ll, %s, %s);", when, KF_INDEX,
              kernel_site(c->k, NULL), at, b->dim[d], unit, c->minor);
  text_line(c->t, "in = 0;");
  text_line(c->t, "}");
}

static void term(Cu *c, const Stage *s) {
  DType t = (DType)c->k->buf[s->out].dtype;
  const char *v = cu_expr(c, s->body), *place = cu_index(c, s->out, s->at);
  if (s->how != SC_SET) {
    int old = c->nvar++;
    text_line(c->t, "const %s v%d = %s;", cu_reg(t), old,
              cu_from_mem(c, t, arena_printf(c->a, "b%d[%s]", s->out, place)));
    v = cu_combine(c, combine_by[s->how], t, arena_printf(c->a, "v%d", old), v);
  }
  cu_store(c, s->out, place, v);
}

/* ---- Plain ------------------------------------------------------------------------------------------------------- */
static void plain(Cu *c, const Stage *s) {
  enum { MOST_WALKED = 1 << 27 };
  const KBuf *b = &c->k->buf[s->out];
  int nbare, iter[64];
  int64_t extent[64], units = kernel_points(c->k), rows = 1, others = own_list(c, s, true, &nbare, extent, iter);
  if (c->k->by_dest) { /* all threads walk all source points: not too many of them */
    double work = (double)cu_product(s->nown, s->extent) * (double)b->dim[0];
    rows = work <= MOST_WALKED                       ? 1
           : work / MOST_WALKED >= (double)b->dim[0] ? b->dim[0]
                                                     : (int64_t)(work / MOST_WALKED) + 1;
    units = (b->dim[0] + rows - 1) / rows;
  }
  cu_open(c, (units * others + PLAIN_BLOCK - 1) / PLAIN_BLOCK, PLAIN_BLOCK);
  text_line(c->t, "const i64 flat = (i64)blockIdx.x * %d + threadIdx.x;", PLAIN_BLOCK);
  text_line(c->t, "if (flat < %" PRId64 "ll) {", units * others);
  decode(c, "flat", nbare, extent, iter);
  text_line(c->t, "const i64 part = flat / %" PRId64 "ll;", others > 0 ? others : 1);
  text_line(c->t, "const i64 unit = %s;", c->k->by_dest ? "0" : "part"); /* of faults: those of the source */
  if (!c->k->by_dest) cu_decode(c, "part", 0, c->k->npar, c->k->par);
  int loops = 0;
  for (int i = 0; i < s->nown; i++)
    if (!bare(c, s, i)) {
      int it = c->k->npar + i;
      text_line(c->t, "for (i64 i%d = 0; i%d < %" PRId64 "ll; i%d++) {", it, it, s->extent[i], it);
      loops++;
    }
  c->minor = position(c, s, true);
  cu_scope(c);
  const char *g = s->guard ? cu_expr(c, s->guard) : NULL, *at[64];
  for (int d = 0; d < b->rank; d++) at[d] = cu_expr(c, s->at[d]);
  text_line(c->t, "int in = %s;", g ? g : "1");
  for (int d = 0; d < b->rank; d++) check_subscript(c, s, d, at[d], c->k->by_dest ? "if (part == 0) " : "", "unit");
  if (c->k->by_dest) text_line(c->t, "in = in && %s / %" PRId64 "ll == part;", at[0], rows);
  text_line(c->t, "if (in) {");
  term(c, s);
  text_line(c->t, "}");
  while (loops--) text_line(c->t, "}");
  text_line(c->t, "}");
  cu_close(c);
}

/* ---- Rows -------------------------------------------------------------------------------------------------------- */
/* The row of every source point, or -1. */
static void find_rows(Cu *c, const Stage *s, int64_t points, int n, const int64_t *extent, const int *iter,
                      size_t where) {
  cu_open(c, (points + PLAIN_BLOCK - 1) / PLAIN_BLOCK, PLAIN_BLOCK);
  text_line(c->t, "const i64 flat = (i64)blockIdx.x * %d + threadIdx.x, unit = 0;", PLAIN_BLOCK);
  text_line(c->t, "if (flat < %" PRId64 "ll) {", points);
  decode(c, "flat", n, extent, iter);
  c->minor = position(c, s, false);
  cu_scope(c);
  text_line(c->t, "int in = %s;", s->guard ? cu_expr(c, s->guard) : "1");
  const char *at = cu_expr(c, s->at[0]);
  check_subscript(c, s, 0, at, "", "unit");
  text_line(c->t, "((i64 *)(A.scratch + %zull))[flat] = in ? %s : -1;", where, at);
  text_line(c->t, "}");
  cu_close(c);
}

static void take_rows(Cu *c, const Stage *s, int64_t points, int n, const int64_t *extent, const int *iter,
                      size_t where) {
  const KBuf *b = &c->k->buf[s->out];
  int nbare, bare_iter[64];
  int64_t bare_extent[64], others = own_list(c, s, true, &nbare, bare_extent, bare_iter);
  int64_t slices = (others + ROWS_BLOCK - 1) / ROWS_BLOCK, most = MOST_READ / points / slices;
  if (most > MOST_BLOCKS) most = MOST_BLOCKS;
  int64_t rows = (b->dim[0] + most) / (most + 1);
  int64_t blocks = (b->dim[0] + rows - 1) / rows;
  cu_open(c, blocks * slices, ROWS_BLOCK);
  text_line(c->t, "__shared__ u32 found[%d];", ROWS_BLOCK / 32);
  text_line(c->t, "const i64 *const row = (const i64 *)(A.scratch + %zull);", where);
  text_line(c->t,
            "const i64 q = (i64)blockIdx.x %% %" PRId64 "ll * %d + threadIdx.x, part = blockIdx.x / %" PRId64
            "ll, unit = 0;",
            slices, ROWS_BLOCK, slices);
  decode(c, "q", nbare, bare_extent, bare_iter);
  text_line(c->t, "for (i64 base = 0; base < %" PRId64 "ll; base += %d) {", points, ROWS_BLOCK);
  text_line(c->t, "const i64 mine = base + threadIdx.x < %" PRId64 "ll ? row[base + threadIdx.x] : -1;", points);
  text_line(c->t, "const u32 votes = tg_ballot(mine >= part * %" PRId64 "ll && mine < (part + 1) * %" PRId64 "ll);",
            rows, rows);
  text_line(c->t, "if (threadIdx.x %% 32 == 0) found[threadIdx.x / 32] = votes;");
  text_line(c->t, "__syncthreads(); /* votes */");
  text_line(c->t, "for (int w = 0; w < %d && q < %" PRId64 "ll; w++) {", ROWS_BLOCK / 32, others);
  text_line(c->t, "for (u32 bits = found[w]; bits; bits &= bits - 1) {");
  text_line(c->t, "const i64 flat = base + w * 32 + tg_lowest(bits);");
  decode(c, "flat", n, extent, iter);
  c->minor = position(c, s, true);
  cu_scope(c);
  text_line(c->t, "int in = 1;");
  for (int d = 1; d < b->rank; d++) check_subscript(c, s, d, cu_expr(c, s->at[d]), "", "unit");
  text_line(c->t, "if (in) {");
  term(c, s);
  text_line(c->t, "}");
  text_line(c->t, "}");
  text_line(c->t, "}");
  text_line(c->t, "__syncthreads(); /* votes are counted */");
  text_line(c->t, "}");
  cu_close(c);
}

static bool free_of_bare(const Cu *c, const Stage *s, const Expr *e) {
  for (int i = 0; e && i < s->nown; i++)
    if (bare(c, s, i) && ex_uses_iter(e, c->k->npar + i)) return false;
  return true;
}

void cu_scatter(Cu *c, const Stage *s) {
  int n, iter[64];
  int64_t extent[64], points = own_list(c, s, false, &n, extent, iter);
  if (c->k->buf[s->out].rank > 64) bug("cuda: a scatter of rank %d", c->k->buf[s->out].rank);
  c->st = s;
  bool empty = !cu_product(s->nown, s->extent) || !c->k->buf[s->out].dim[0];
  if (!c->k->by_dest || empty || points < MANY_POINTS || !free_of_bare(c, s, s->at[0]) ||
      !free_of_bare(c, s, s->guard)) {
    plain(c, s);
    return;
  }
  size_t where = cu_scratch(c, (double)points * sizeof(int64_t));
  find_rows(c, s, points, n, extent, iter, where);
  take_rows(c, s, points, n, extent, iter, where);
}
