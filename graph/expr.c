/* Expressions: interning and the makers of leaves and loads. Arithmetic is in fold.c, linear forms in linear.c. */
#include "graph/internal.h"
#include "graph/scalar_eval.h"
#include <string.h>

/* ---- Interning --------------------------------------------------------------------------------------------------- */

static uint64_t bits_of(const Expr *e) { return (uint64_t)e->num.i; } /* floats by bit pattern: -0 and 0 differ */

static uint64_t expr_hash(const Expr *e) {
  uint64_t h = hash_mix(e->kind, (uint64_t)e->dtype << 16 | (uint64_t)e->op << 8 | e->checked);
  h = hash_mix(h, bits_of(e));
  for (int i = 0; i < e->n; i++) h = hash_mix(h, e->arg[i]->id);
  if (e->kind == EX_LIN)
    for (int i = 0; i < e->n; i++) h = hash_mix(h, (uint64_t)e->coef[i]);
  if (e->node) h = hash_mix(h, e->node->id);
  if (e->mask) h = hash_mix(h, e->mask->id);
  return h;
}

static bool expr_eq(const void *pa, const void *pb) {
  const Expr *a = pa, *b = pb;
  if (a->kind != b->kind || a->dtype != b->dtype || a->op != b->op || a->checked != b->checked || a->n != b->n ||
      a->node != b->node || a->mask != b->mask || bits_of(a) != bits_of(b))
    return false;
  if (a->n && memcmp(a->arg, b->arg, sizeof *a->arg * (size_t)a->n)) return false;
  return a->kind != EX_LIN || !a->n || !memcmp(a->coef, b->coef, sizeof *a->coef * (size_t)a->n);
}

/* Joins the uids below argument `e` into x's; arrays are shared when one contains the other. */
static void join_vars(Graph *g, ExprX *x, const Expr *e) {
  const ExprX *y = expr_x(e);
  x->iters |= y->iters;
  int n = x->e.nvar, m = e->nvar, k = 0;
  if (!m || x->var == y->var) return;
  if (!n) {
    x->var = y->var;
    x->e.nvar = m;
    return;
  }
  int common = 0;
  for (int i = 0, j = 0; i < n && j < m;) {
    if (x->var[i] == y->var[j])
      common++, i++, j++;
    else if (x->var[i] < y->var[j])
      i++;
    else
      j++;
  }
  if (common == m) return;
  if (common == n) {
    x->var = y->var;
    x->e.nvar = m;
    return;
  }
  int64_t *u = arena_array(g->arena, int64_t, n + m - common);
  for (int i = 0, j = 0; i < n || j < m;) {
    if (j == m || (i < n && x->var[i] < y->var[j]))
      u[k++] = x->var[i++];
    else {
      if (i < n && x->var[i] == y->var[j]) i++;
      u[k++] = y->var[j++];
    }
  }
  x->var = u;
  x->e.nvar = k;
}

static bool is_index(const Expr *e) {
  if (e->dtype != DT_I64) return false;
  switch (e->kind) {
  case EX_CONST:
  case EX_ITER:
  case EX_VAR:
    return true;
  case EX_LOAD:
    return e->node->kind == ND_PARAM && e->node->rank == 0 && e->node->param.lo <= e->node->param.hi;
  case EX_LIN:
    break;
  default:
    if (e->op != OP_FLOORDIV && e->op != OP_MOD && e->op != OP_MIN && e->op != OP_MAX && e->op != OP_MUL) return false;
  }
  for (int i = 0; i < e->n; i++)
    if (!expr_x(e->arg[i])->index) return false;
  return true;
}

Expr *intern_expr(Graph *g, const Expr *tmp) {
  uint64_t h = expr_hash(tmp);
  Expr *old = intern_find(g->exprs, h, tmp, expr_eq);
  if (old) return old;
  ExprX *x = arena_new_of(g->arena, ExprX);
  x->e = *tmp;
  x->hash = h;
  x->e.nvar = 0;
  if (tmp->n) {
    x->e.arg = arena_copy(g->arena, tmp->arg, sizeof *tmp->arg * (size_t)tmp->n);
    if (tmp->kind == EX_LIN) x->e.coef = arena_copy(g->arena, tmp->coef, sizeof *tmp->coef * (size_t)tmp->n);
  }
  for (int i = 0; i < tmp->n; i++) join_vars(g, x, tmp->arg[i]);
  if (tmp->mask) join_vars(g, x, tmp->mask);
  if (tmp->kind == EX_ITER) x->iters = UINT64_C(1) << (tmp->num.i < 63 ? tmp->num.i : 63);
  if (tmp->kind == EX_VAR) {
    x->var = arena_copy(g->arena, &tmp->num.i, sizeof tmp->num.i);
    x->e.nvar = 1;
  }
  x->index = is_index(&x->e);
  x->e.id = g->next_id++;
  intern_add(g->arena, g->exprs, h, x);
  return &x->e;
}

Graph *graph_new(Arena *unit, Diags *d) {
  Graph *g = arena_new_of(unit, Graph);
  g->arena = unit;
  g->diags = d;
  g->next_id = 1;
  g->exprs = arena_new_of(unit, Interner);
  g->nodes = arena_new_of(unit, Interner);
  return g;
}

/* ---- Leaves ------------------------------------------------------------------------------------------------------ */

Expr *ex_int(Graph *g, DType t, int64_t v) {
  if (dt_is_float(t)) bug("ex_int of %s", dt_name(t));
  if (v < dt_int_min(t) || v > dt_int_max(t)) bug("%lld does not fit in %s", (long long)v, dt_name(t));
  return intern_expr(g, &(Expr){.kind = EX_CONST, .dtype = (uint8_t)t, .num.i = v});
}

Expr *ex_float(Graph *g, DType t, double v) {
  if (!dt_is_float(t)) bug("ex_float of %s", dt_name(t));
  v = v != v ? NAN : sc_round_f(t, v); /* one nan, so that equal constants are one */
  return intern_expr(g, &(Expr){.kind = EX_CONST, .dtype = (uint8_t)t, .num.f = v});
}

Expr *ex_num(Graph *g, DType t, double v) {
  if (dt_is_float(t)) return ex_float(g, t, v);
  return ex_int(g, t, t == DT_BOOL ? v != 0 : (int64_t)v);
}

Expr *ex_bool(Graph *g, bool v) { return ex_int(g, DT_BOOL, v); }

Expr *ex_iter(Graph *g, int k) {
  if (k < 0) bug("iterator %d", k);
  return intern_expr(g, &(Expr){.kind = EX_ITER, .dtype = DT_I64, .num.i = k});
}

Expr *ex_var(Graph *g, int64_t uid) { return intern_expr(g, &(Expr){.kind = EX_VAR, .dtype = DT_I64, .num.i = uid}); }

typedef struct {
  Graph *g;
  Expr *mask;
} Under;
/* New conditions stand last, so that what has them already is seen by ex_and. Subscripts and mask are done before. */
static Expr *under_mask(void *ctx, Expr *e) {
  const Under *u = ctx;
  if (e->kind != EX_LOAD || e->n == 0) return e;
  Expr *mask = ex_and(u->g, e->mask, u->mask);
  return mask == e->mask ? e : ex_raw_load(u->g, e->node, e->n, e->arg, mask, e->checked, e->span);
}

Expr *ex_under(Graph *g, Expr *e, Expr *mask) {
  return e && mask ? ex_rebuild(g, e, &(Rebuild){.post = under_mask, .ctx = &(Under){g, mask}}) : e;
}

Expr *ex_raw_load(Graph *g, Node *t, int n, Expr *const *idx, Expr *mask, bool checked, Span span) {
  if (n != t->rank) bug("load with %d subscripts of a tensor of rank %d", n, t->rank);
  if (t->nres) bug("load of a tuple node");
  for (int i = 0; i < n; i++)
    if (idx[i]->dtype != DT_I64) bug("subscript of type %s", dt_name(idx[i]->dtype));
  if (mask && mask->dtype != DT_BOOL) bug("mask of type %s", dt_name(mask->dtype));
  if (mask && mask->kind == EX_CONST) {
    if (!mask->num.i) return ex_num(g, t->dtype, 0);
    mask = NULL;
  }
  if (n == 0) checked = false; /* nothing to be out of range */
  return intern_expr(g, &(Expr){.kind = EX_LOAD,
                                .dtype = t->dtype,
                                .checked = checked,
                                .n = n,
                                .arg = idx,
                                .node = t,
                                .mask = mask,
                                .span = span});
}

static bool over_iterators(const Expr *e) {
  for (int i = 0; i < e->n; i++)
    if (e->arg[i]->kind != EX_ITER) return false;
  return true;
}
/* A load at iterators alone is inside wherever it is computed; that one stays itself keeps expressions small. */
static Expr *under_unless_inside(void *ctx, Expr *e) {
  return e->kind == EX_LOAD && !e->mask && !e->checked && over_iterators(e) ? e : under_mask(ctx, e);
}

Expr *ex_load(Graph *g, Node *t, int n, Expr *const *idx, Expr *mask, bool checked, Span span) {
  Expr *at[TG_MAX_RANK];
  if (!mask || mask->kind == EX_CONST || n > TG_MAX_RANK) return ex_raw_load(g, t, n, idx, mask, checked, span);
  const Rebuild how = {.post = under_unless_inside, .ctx = &(Under){g, mask}};
  for (int i = 0; i < n; i++)
    at[i] = idx[i]->kind == EX_ITER || idx[i]->kind == EX_CONST ? idx[i] : ex_rebuild(g, idx[i], &how);
  return ex_raw_load(g, t, n, at, mask, checked, span);
}

Expr *ex_load_full(Graph *g, Node *t, int first) {
  Expr *idx[TG_MAX_RANK];
  if (t->rank > TG_MAX_RANK) bug("rank %d", t->rank);
  for (int i = 0; i < t->rank; i++) idx[i] = ex_iter(g, first + i);
  return ex_load(g, t, t->rank, idx, NULL, false, (Span){0});
}

bool ex_is_const(const Expr *e, double *v) {
  if (e->kind != EX_CONST) return false;
  *v = dt_is_float(e->dtype) ? e->num.f : (double)e->num.i;
  return true;
}

bool ex_uses_iter(const Expr *e, int k) {
  if (k < 63) return expr_x(e)->iters >> k & 1;
  if (!(expr_x(e)->iters >> 63)) return false;
  if (e->kind == EX_ITER) return e->num.i == k;
  for (int i = 0; i < e->n; i++)
    if (ex_uses_iter(e->arg[i], k)) return true;
  return e->mask && ex_uses_iter(e->mask, k);
}
