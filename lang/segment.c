/* Segmented reductions: `[sum(x[n, d] for n if a[n] == k) for k, d]` is one pass that adds x[n, d] at row a[n], not one
 * pass for each k.
 *
 * A guard conjunct `data == k`, with k a free index and data depending on the reduction's iterators, fixes k: put data
 * for k everywhere and store at data. Points whose data is no k take no part, and neither do other conjuncts' false
 * points. */
#include "lang/space.h"
#include <math.h>

enum { MAX_CONJUNCT = 64 };
static int conjuncts(Expr *e, Expr **out, int n) {
  if (e->kind == EX_OP && e->op == OP_AND) return conjuncts(e->arg[1], out, conjuncts(e->arg[0], out, n));
  if (n < MAX_CONJUNCT) out[n] = e;
  return n + 1;
}

typedef struct Look {
  int first;
  int64_t uid;
  bool load, red, var;
} Look;
static void look(void *ctx, Expr *e) {
  Look *l = ctx;
  if (e->kind == EX_LOAD) l->load = true;
  if (e->kind == EX_ITER && e->num.i >= l->first) l->red = true;
  if (e->kind == EX_VAR && e->num.i == l->uid) l->var = true;
}

/* e is VAR + c: the index and c. */
static Index *shifted_index(Elab *E, const Expr *e, int64_t *c) {
  const Expr *v = e;
  *c = 0;
  if (e->kind == EX_LIN && e->n == 1 && e->coef[0] == 1) v = e->arg[0], *c = e->num.i;
  if (v->kind != EX_VAR) return NULL;
  for (Index *i = E->index; i; i = i->outer)
    if (i->uid == v->num.i) return i;
  return NULL;
}

typedef struct Put {
  Graph *g;
  Index *key;          /* replaced by data, which is over the old iterators */
  Expr *data, *inside; /* over the new iterators; inside: data is some k */
  int nfree;           /* free indices before the iterators */
  Index **free;
} Put;
/* Old iterators and free indices to the source's; first pass, for everything that does not hold the key. */
static Expr *put_leaf(void *ctx, Expr *e) {
  Put *p = ctx;
  if (e->kind == EX_ITER) return ex_iter(p->g, (int)e->num.i + p->nfree);
  if (e->kind == EX_VAR) {
    if (p->key && e->num.i == p->key->uid) return p->data;
    for (int k = 0; k < p->nfree; k++)
      if (p->free[k]->uid == e->num.i) return ex_iter(p->g, k);
    bug("index %lld is not free here", (long long)e->num.i);
  }
  if (e->kind == EX_LOAD && p->key &&
      e->nvar) { /* a load at k becomes one at data: read it only where data is some k */
    Look l = {.uid = p->key->uid, .first = 0};
    ex_visit(e, look, &l);
    if (!l.var) return NULL;
    Expr **arg = arena_array(p->g->arena, Expr *, e->n);
    for (int k = 0; k < e->n; k++) arg[k] = ex_map(p->g, e->arg[k], put_leaf, p);
    Expr *mask = e->mask ? ex_map(p->g, e->mask, put_leaf, p) : NULL;
    return ex_load(p->g, e->node, e->n, arg, ex_and(p->g, p->inside, mask), e->checked, e->span);
  }
  return NULL;
}

Value *segment_reduce(Elab *E, Reduce op, int nout, const Dim *out, int nred, const int64_t *red, Expr *e, Expr *guard,
                      DType t) {
  if (E->trial || (op != RED_SUM && op != RED_MAX && op != RED_MIN)) return NULL;
  Expr *conj[MAX_CONJUNCT];
  int n = conjuncts(guard, conj, 0), hit = -1;
  if (n > MAX_CONJUNCT) return NULL;
  Index *key = NULL;
  Expr *data = NULL;
  int64_t c = 0;
  for (int k = 0; k < n && hit < 0; k++) {
    if (conj[k]->kind != EX_OP || conj[k]->op != OP_EQ || conj[k]->arg[0]->dtype != DT_I64) continue;
    for (int side = 0; side < 2 && hit < 0; side++) {
      key = shifted_index(E, conj[k]->arg[side], &c);
      if (!key || key->extent < 0) continue;
      data = conj[k]->arg[1 - side];
      Look l = {.first = nout, .uid = key->uid};
      ex_visit(data, look, &l);
      if (l.load && l.red && !l.var) hit = k;
    }
  }
  if (hit < 0) return NULL;
  Graph *g = E->g;
  DType work = t == DT_F16 || t == DT_BF16 ? DT_F32 : t;
  e = ex_cast(g, work, e);
  /* axes of the result: every free index, outermost first, then the own axes */
  Index *all[TG_MAX_RANK], *free[TG_MAX_RANK];
  int nall = expr_free_union(E, guard, expr_free_union(E, e, 0, all), all), nfree = 0;
  for (int k = 0; k < nall; k++)
    if (all[k] != key) free[nfree++] = all[k];
  if (nall + nout > TG_MAX_RANK || nfree + nout + nred > TG_MAX_RANK) return NULL;
  int64_t dim[TG_MAX_RANK], extent[TG_MAX_RANK];
  for (int k = 0; k < nall; k++) dim[k] = all[k]->extent;
  for (int k = 0; k < nout; k++) dim[nall + k] = out[k].n;
  for (int k = 0; k < nfree; k++) extent[k] = free[k]->extent;
  for (int k = 0; k < nout; k++) extent[nfree + k] = out[k].n;
  for (int k = 0; k < nred; k++) extent[nfree + nout + k] = red[k];
  Put p = {.g = g, .nfree = nfree, .free = free};
  p.data = ex_op2(g, OP_SUB, ex_map(g, data, put_leaf, &p), ex_int(g, DT_I64, c));
  p.inside = ex_and(g, ex_op2(g, OP_GE, p.data, ex_int(g, DT_I64, 0)),
                    ex_op2(g, OP_LT, p.data, ex_int(g, DT_I64, key->extent)));
  p.key = key;
  Expr *where = p.inside;
  for (int k = 0; k < n; k++)
    if (k != hit) where = ex_and(g, where, ex_map(g, conj[k], put_leaf, &p));
  Expr *body = ex_map(g, e, put_leaf, &p), *idx[TG_MAX_RANK], *at[TG_MAX_RANK];
  for (int k = 0, f = 0; k < nall; k++) idx[k] = all[k] == key ? p.data : ex_iter(g, f++);
  for (int k = 0; k < nout; k++) idx[nall + k] = ex_iter(g, nfree + k);
  Node *base = NULL;
  if (op != RED_SUM) {
    bool max = op == RED_MAX;
    Expr *id = dt_is_float(work) ? ex_float(g, work, max ? -INFINITY : INFINITY)
                                 : ex_int(g, work, max ? dt_int_min(work) : dt_int_max(work));
    base = nd_comp(g, nall + nout, 0, dim, RED_NONE, id, NULL);
  }
  Node *s = nd_scatter(g, work, nall + nout, dim, base, nfree + nout + nred, extent, idx, body, where,
                       op == RED_SUM   ? SC_ADD
                       : op == RED_MAX ? SC_MAX
                                       : SC_MIN,
                       false);
  for (int k = 0; k < nall; k++) at[k] = all[k]->var;
  for (int k = 0; k < nout; k++) at[nall + k] = ex_iter(g, k);
  Value *v = v_tensor(E, work, nout, out, ex_load(g, s, nall + nout, at, NULL, false, g->span));
  return work == t ? v : tv_cast(E, v, t, g->span);
}
