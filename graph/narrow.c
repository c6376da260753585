/* Pieces: what is 0 but in a range, and scatters to affine places.
 *
 *   [sum(a?(i >= 4) * b?(i >= 4) ..) for i in 0..6]    ->    [t[i - 4]?(i >= 4)] of t = [sum(a * b ..) for i in 0..2]
 *   scatter base at [i + 4] add e, i in 0..2           ->    base[j] + e?(4 <= j < 6)
 *
 * Adjoints of slices, pads and concatenations come as such pieces; here each is computed on its own space alone and
 * placed by a masked load, which its reader fuses. */
#include "graph/affine.h"
#include "graph/internal.h"

static Expr *between(Graph *g, Expr *e, int64_t lo, int64_t hi, int64_t size) {
  Expr *c = NULL;
  if (lo > 0) c = ex_op2(g, OP_GE, e, ex_int(g, DT_I64, lo));
  return hi < size - 1 ? ex_and(g, c, ex_op2(g, OP_LE, e, ex_int(g, DT_I64, hi))) : c;
}

/* Iterator k over lo..hi only. */
static void shrink(Work *w, int k, int64_t lo, int64_t hi) {
  Graph *g = w->g;
  Expr *by[WORK_ITER];
  for (int i = 0; i < w->nout + w->nred; i++) by[i] = ex_iter(g, i);
  by[k] = ex_op2(g, OP_ADD, by[k], ex_int(g, DT_I64, lo));
  work_subst(w, by);
  if (k < w->nout) {
    w->mask = ex_and(g, w->mask, between(g, w->back[k], lo, hi, w->extent[k]));
    w->back[k] = ex_op2(g, OP_SUB, w->back[k], ex_int(g, DT_I64, lo));
    w->changed = true;
  }
  w->extent[k] = hi - lo + 1;
}

void work_narrow(Work *w) {
  Conj zero = {0};
  if (w->op != RED_SUM || !w->nred || w->fixed_outputs) return;
  conj_zero_unless(&zero, w->body);
  Expr *cond = ex_and(w->g, w->guard, conj_without(w->g, &zero, -1));
  if (!cond) return;
  int n = w->nout + w->nred;
  Interval iter[WORK_ITER], v[WORK_ITER];
  for (int i = 0; i < n; i++) iter[i] = (Interval){0, w->extent[i] - 1};
  Box b = {.niter = n, .iter = iter};
  for (int i = 0; i < n; i++) v[i] = ex_interval(w->g, ex_iter(w->g, i), &b, cond);
  bool any = false;
  for (int i = 0; i < n; i++) {
    if (v[i].lo > v[i].hi) return; /* nowhere: left to the reader of the guard */
    if (v[i].lo <= 0 && v[i].hi >= w->extent[i] - 1) continue;
    int64_t size = v[i].hi - v[i].lo + 1; /* an output must shrink by a quarter to be worth being placed */
    if (i < w->nout && size > w->extent[i] - w->extent[i] / 4) continue;
    shrink(w, i, v[i].lo, v[i].hi);
    any = true;
  }
  if (any) work_reduce(w);
}

/* e = a * ITER k + c with a = 1 or -1, or e = c (then *k = -1). */
static bool bare(const Expr *e, int *k, int64_t *a, int64_t *c) {
  *k = -1;
  *a = 1;
  *c = 0;
  if (e->kind == EX_CONST) return *c = e->num.i, true;
  const Expr *it = e;
  if (e->kind == EX_LIN) {
    if (e->n != 1 || (e->coef[0] != 1 && e->coef[0] != -1)) return false;
    *a = e->coef[0];
    *c = e->num.i;
    it = e->arg[0];
  }
  if (it->kind != EX_ITER) return false;
  *k = (int)it->num.i;
  return true;
}

Node *scatter_as_comp(Graph *g, Node *n) {
  const Comp *s = &n->scatter.src;
  Combine how = n->scatter.how;
  Node *base = n->scatter.base;
  int axis[WORK_ITER], used = 0; /* axis[k]: dimension of the result that source iterator k runs over, or -1 */
  int64_t a[TG_MAX_RANK], c[TG_MAX_RANK];
  int of[TG_MAX_RANK];
  if (n->scatter.checked || s->nout > WORK_ITER || (how != SC_ADD && how != SC_SET)) return NULL;
  for (int k = 0; k < s->nout; k++) axis[k] = -1;
  for (int d = 0; d < n->rank; d++) {
    if (!bare(n->scatter.idx[d], &of[d], &a[d], &c[d])) return NULL;
    if (of[d] < 0) continue;
    if (axis[of[d]] >= 0) return NULL;
    axis[of[d]] = d;
    used++;
  }
  if (how == SC_SET && (used < s->nout || s->guard)) return NULL; /* the last of several, or none: order matters */
  /* The pieces on its own space: outputs are the axes' iterators in the order of the result's axes. */
  Expr *by[WORK_ITER], *back[TG_MAX_RANK], *mask = NULL;
  int64_t extent[WORK_ITER];
  int p = 0, r = used;
  for (int d = 0; d < n->rank; d++) {
    int64_t lo = c[d], hi = c[d];
    if (of[d] >= 0) {
      int64_t last = s->extent[of[d]] - 1;
      lo = a[d] > 0 ? c[d] : c[d] - last;
      hi = lo + last;
      extent[p] = s->extent[of[d]];
      by[of[d]] = ex_iter(g, p);
      back[p++] = ex_lin(g, -a[d] * c[d], 1, &a[d], (Expr *[]){ex_iter(g, d)}); /* j = a*i + c, so i = a*(j - c) */
    }
    if (lo < 0 || hi >= n->dim[d]) return NULL; /* not provably inside: the scatter's business */
    mask = ex_and(g, mask, between(g, ex_iter(g, d), lo, hi, n->dim[d]));
  }
  for (int k = 0; k < s->nout; k++)
    if (axis[k] < 0) {
      extent[r] = s->extent[k];
      by[k] = ex_iter(g, r++);
    }
  Expr *body = ex_subst_iters(g, s->body, s->nout, by),
       *guard = s->guard ? ex_subst_iters(g, s->guard, s->nout, by) : NULL;
  Node *t = nd_comp(g, used, r - used, extent, r > used ? RED_SUM : RED_NONE, body, guard);
  Expr *v = ex_load(g, t, used, back, mask, false, (Span){0});
  if (base) {
    Expr *old = ex_load_full(g, base, 0);
    if (how == SC_ADD) v = ex_op2(g, OP_ADD, old, v);
    v = mask ? ex_select(g, mask, v, old) : v;
  }
  return nd_comp(g, n->rank, 0, n->dim, RED_NONE, v, NULL);
}
