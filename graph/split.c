/* SPLIT: the rule that removes // and % of iterators from a comprehension.
 *
 *   x[i // 3, j, i % 3], i in 0..12      ->      x[q, j, r], q in 0..4, r in 0..3        i = 3*q + r
 *
 * Merged axes (reshape) leave such subscripts in their readers; after SPLIT they are affine and contractions are
 * recognised. Largest divisor first, so that one iterator under // 12, // 4 % 3 and % 4 becomes three. The order of a
 * reduction does not change: (q, r) in lexicographic order is i ascending. A split output axis changes the result's
 * shape; Work.back then says how the old shape reads the new one.
 *
 * Not split: an iterator whose divisor does not divide its extent (the reader copes, or somebody materialises); one
 * whose loads are contiguous anyway, i.e. where sum stride_d * subscript_d is affine in it. */
#include "graph/affine.h"
#include "graph/internal.h"

static int64_t gcd(int64_t a, int64_t b) {
  while (b) {
    int64_t t = a % b;
    a = b;
    b = t;
  }
  return a;
}

static bool is_split(const Expr *e) {
  return e->kind == EX_OP && (e->op == OP_FLOORDIV || e->op == OP_MOD) && e->dtype == DT_I64 &&
         e->arg[1]->kind == EX_CONST && e->arg[1]->num.i > 1 && expr_x(e)->index;
}

typedef struct {
  const Work *w;
  int iter;
  int64_t step;
  bool wanted[WORK_ITER], scattered[WORK_ITER];
} Find;

/* The step at which e cuts iterator k: the least s > 0 with coef * s a multiple of the divisor; 0: not at all. */
static int64_t step_of(const Expr *e, int k) {
  const Expr *x = e->arg[0];
  int64_t c = e->arg[1]->num.i, a = 0;
  if (x->kind == EX_ITER)
    a = x->num.i == k;
  else if (x->kind == EX_LIN)
    for (int i = 0; i < x->n; i++)
      if (x->arg[i]->kind == EX_ITER && x->arg[i]->num.i == k) a = x->coef[i];
  if (!a || a == INT64_MIN) return 0;
  return c / gcd(a < 0 ? -a : a, c);
}

static void note_iters(void *ctx, Expr *e) {
  Find *f = ctx;
  if (is_split(e))
    for (int k = 0; k < f->w->nout + f->w->nred; k++)
      if (ex_uses_iter(e, k)) f->scattered[k] = true;
}

/* Marks the iterators that a load has under // or %, unless the load is contiguous in them. */
static void note_load(void *ctx, Expr *e) {
  Find *f = ctx;
  if (e->kind != EX_LOAD || !e->n) return;
  Graph *g = f->w->g;
  Find in = {.w = f->w}, flat = {.w = f->w};
  for (int d = 0; d < e->n; d++) ex_visit(e->arg[d], note_iters, &in);
  int64_t stride = 1, c = 0;
  Expr *at = ex_int(g, DT_I64, 0);
  for (int d = e->n; d-- > 0;) {
    at = ex_lin(g, c, 2, (int64_t[]){1, stride}, (Expr *[]){at, e->arg[d]});
    stride *= e->node->dim[d];
  }
  ex_visit(at, note_iters, &flat);
  bool computed =
      e->node->kind == ND_COMP && e->node->comp.op == RED_NONE; /* may be inlined: then there are no strides */
  for (int k = 0; k < f->w->nout + f->w->nred; k++)
    if (flat.scattered[k] || (computed && k >= f->w->nout && in.scattered[k])) f->wanted[k] = true;
}

static void note_step(void *ctx, Expr *e) {
  Find *f = ctx;
  if (!is_split(e)) return;
  for (int k = 0; k < f->w->nout + f->w->nred; k++) {
    if (!f->wanted[k] || !ex_uses_iter(e, k)) continue;
    int64_t s = step_of(e, k);
    if (s > f->step && s < f->w->extent[k] && f->w->extent[k] % s == 0) f->iter = k, f->step = s;
  }
}

static void each(Work *w, void (*fn)(void *ctx, Expr *e), Find *f) {
  ex_visit(w->body, fn, f);
  if (w->guard) ex_visit(w->guard, fn, f);
  for (int i = 0; i < w->nidx; i++) ex_visit(w->idx[i], fn, f);
}

static void split(Work *w, int k, int64_t step) {
  Graph *g = w->g;
  int n = w->nout + w->nred;
  Expr *by[WORK_ITER];
  for (int i = 0; i < n; i++) by[i] = ex_iter(g, i < k ? i : i + 1);
  by[k] = ex_lin(g, 0, 2, (int64_t[]){step, 1}, (Expr *[]){ex_iter(g, k), ex_iter(g, k + 1)});
  work_subst(w, by);
  for (int i = n; i > k + 1; i--) w->extent[i] = w->extent[i - 1];
  w->extent[k + 1] = step;
  w->extent[k] /= step;
  if (k >= w->nout) {
    w->nred++;
    return;
  }
  for (int i = w->nout; i > k + 1; i--) w->back[i] = w->back[i - 1];
  w->back[k + 1] = ex_mod_const(g, w->back[k], step);
  w->back[k] = ex_floordiv_const(g, w->back[k], step);
  w->nout++;
  w->changed = true;
}

void work_split(Work *w) {
  for (;;) {
    Find f = {.w = w, .iter = -1};
    each(w, note_load, &f);
    for (int i = 0; i < w->nidx; i++) { /* places of a scatter: wanted affine */
      Find in = {.w = w};
      ex_visit(w->idx[i], note_iters, &in);
      for (int k = 0; k < w->nout; k++) f.wanted[k] |= in.scattered[k];
    }
    each(w, note_step, &f);
    if (f.iter < 0 || w->nout + w->nred == WORK_ITER || (f.iter < w->nout && w->nout == TG_MAX_RANK)) return;
    split(w, f.iter, f.step);
    work_reduce(w);
  }
}
