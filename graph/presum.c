/* Sums inside products.
 *
 *   sum(a[i, k, l] * b[k, j] for k, l)   ->   a' = sum(a[i, k, l] for l), sum(a'[i, k] * b[k, j] for k)
 *
 * A reduction iterator that only one factor has is summed out of that factor first: the contraction is smaller by its
 * extent. Factors without any reduction iterator are the scheduler's to hoist. The sums round differently from the
 * sum of products, but always the same way: the rule looks at which iterators occur where, never at sizes. Not for
 * f16 and bf16, whose intermediate would be rounded. */
#include "graph/internal.h"

enum { MAX_FACTOR = 8 };
typedef struct {
  Expr *at[MAX_FACTOR];
  int n;
  bool full;
} Factors;

static void factors(Factors *f, Expr *e, int depth) {
  if (e->kind == EX_OP && e->op == OP_MUL && depth < MAX_FACTOR) {
    factors(f, e->arg[0], depth + 1);
    factors(f, e->arg[1], depth + 1);
  } else if (f->n == MAX_FACTOR)
    f->full = true;
  else
    f->at[f->n++] = e;
}

static bool same_product(const Expr *e, const Factors *f, int *next) {
  if (e->kind == EX_OP && e->op == OP_MUL && *next < f->n && f->at[*next] != e)
    return same_product(e->arg[0], f, next) && same_product(e->arg[1], f, next);
  return *next < f->n && f->at[(*next)++] == e;
}

/* The product with factor k replaced, multiplied in the same order. */
static Expr *product(Graph *g, Expr *e, const Factors *f, int k, Expr *by, int *next) {
  if (f->at[*next] == e) return (*next)++ == k ? by : e;
  Expr *a = product(g, e->arg[0], f, k, by, next);
  return ex_op2(g, OP_MUL, a, product(g, e->arg[1], f, k, by, next));
}

/* Factor f summed over the reduction iterators in `own`, as a load over w's iterators. */
static Expr *summed(Work *w, Expr *f, const bool *own) {
  Graph *g = w->g;
  Expr *by[WORK_ITER], *idx[WORK_ITER];
  int64_t extent[WORK_ITER];
  int n = w->nout + w->nred, nout = 0, k = 0;
  for (int i = 0; i < n; i++)
    if (!own[i] && ex_uses_iter(f, i)) idx[nout++] = ex_iter(g, i);
  if (nout > TG_MAX_RANK) return NULL;
  int nred = nout;
  for (int i = 0; i < n; i++) {
    by[i] = ex_iter(g, 0); /* of iterators that f does not have */
    if (own[i]) {
      extent[nred] = w->extent[i];
      by[i] = ex_iter(g, nred++);
    } else if (ex_uses_iter(f, i)) {
      extent[k] = w->extent[i];
      by[i] = ex_iter(g, k++);
    }
  }
  Node *t = nd_comp(g, nout, nred - nout, extent, RED_SUM, ex_subst_iters(g, f, n, by), NULL);
  return ex_load(g, t, nout, idx, NULL, false, (Span){0});
}

void work_presum(Work *w) {
  Factors f = {0};
  DType t = w->body->dtype;
  if (w->op != RED_SUM || w->nred < 2 || w->guard || w->fixed_outputs || t == DT_F16 || t == DT_BF16) return;
  factors(&f, w->body, 0);
  int check = 0;
  if (f.full || f.n < 2 || !same_product(w->body, &f, &check) || check != f.n) return;
  for (int k = 0; k < f.n; k++) {
    bool own[WORK_ITER] = {0};
    int nown = 0;
    for (int i = w->nout; i < w->nout + w->nred; i++) {
      own[i] = ex_uses_iter(f.at[k], i);
      for (int j = 0; j < f.n && own[i]; j++) own[i] = j == k || !ex_uses_iter(f.at[j], i);
      nown += own[i];
    }
    if (!nown || nown == w->nred) continue;
    Expr *by = summed(w, f.at[k], own);
    if (!by) continue;
    int next = 0;
    w->body = product(w->g, w->body, &f, k, by, &next);
    for (int i = w->nout + w->nred; i-- > w->nout;)
      if (own[i]) work_drop(w, i);
    work_presum(w); /* another factor */
    return;
  }
}
