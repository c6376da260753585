/* Cut loops: a map whose body compares the loop's own iterator with constants runs in pieces between the points where
 * a comparison flips. In each piece the comparisons are decided: the parts of a concatenation, or of a gradient of
 * slices, are then computed without masks and without each other. The values are the same, so bits do not change. */
#include "codegen/cpu/stage.h"
#include "graph/affine.h"

typedef struct Cuts {
  Em *E;
  int iter, n;
  int64_t extent, at[EM_CUTS];
  bool full;
} Cuts;

/* a - b = *c + *s * iter */
static bool line(const Cuts *k, const Expr *e, int64_t *s, int64_t *c) {
  int64_t coef[2][EM_ITERS], cc[2];
  for (int i = 0; i < 2; i++) {
    Expr *rest;
    if (dt_is_float((DType)e->arg[i]->dtype) || !ex_affine(k->E->g, e->arg[i], EM_ITERS, coef[i], &cc[i], &rest))
      return false;
  }
  for (int d = 0; d < EM_ITERS; d++)
    if (d != k->iter && coef[0][d] != coef[1][d]) return false;
  *s = coef[0][k->iter] - coef[1][k->iter];
  return !__builtin_sub_overflow(cc[0], cc[1], c) && *c > INT64_MIN;
}

static void cut(Cuts *k, int64_t at) {
  int i = 0;
  if (at <= 0 || at >= k->extent) return;
  while (i < k->n && k->at[i] < at) i++;
  if (i < k->n && k->at[i] == at) return;
  if (k->n == EM_CUTS) {
    k->full = true;
    return;
  }
  for (int j = k->n++; j > i; j--) k->at[j] = k->at[j - 1];
  k->at[i] = at;
}

static void see(void *ctx, Expr *e) {
  Cuts *k = ctx;
  int64_t s, c;
  if (e->kind != EX_OP || (e->op != OP_LT && e->op != OP_LE && e->op != OP_GT && e->op != OP_GE)) return;
  if (!line(k, e, &s, &c) || (s != 1 && s != -1)) return;
  bool reaches = e->op == OP_LT || e->op == OP_GE; /* flips where a - b becomes 0 from below; else where it leaves 0 */
  if (s == 1)
    cut(k, -c + !reaches);
  else
    cut(k, c + reaches);
}

int em_cuts(Em *E, const Stage *st, int nst, int iter, int64_t extent, int64_t *at) {
  Cuts k = {.E = E, .iter = iter, .extent = extent};
  int64_t from = 0;
  if (!E->g || E->k->nsite) return 0; /* sites of faults are known by their expressions */
  for (int i = 0; i < nst; i++) {
    ex_visit(st[i].body, see, &k);
    if (st[i].guard) ex_visit(st[i].guard, see, &k);
  }
  for (int i = 0; i <= k.n; i++) {
    int64_t to = i < k.n ? k.at[i] : extent;
    if (to - from < 2 * E->width) return 0; /* pieces too short to pay */
    from = to;
    if (i < k.n) at[i] = to;
  }
  return k.full ? 0 : k.n;
}

Stage em_piece(Em *E, const Stage *st, int iter, int64_t lo, int64_t hi) {
  Interval it[EM_ITERS];
  for (int i = 0; i < EM_ITERS; i++) it[i] = (Interval){0, INT64_MAX};
  it[iter] = (Interval){lo, hi - 1};
  Box box = {EM_ITERS, it, NULL, NULL};
  Stage s = *st;
  s.body = ex_reduce(E->g, st->body, &box, NULL);
  if (st->guard) s.guard = ex_reduce(E->g, st->guard, &box, NULL);
  return s;
}
