/* Guards that need no visit of every point.
 *
 *   equality      sum(e for k, .. if k == f)     ->   e with f for k, where 0 <= f < extent. k is a reduction iterator,
 *                                                     f is free of it, possibly data: a one-hot sum becomes a gather.
 *   triangle      sum(e for k if k <= j)         ->   a running sum along j (SCAN), when e is free of j. Also k < j and
 *                                                     the reversed two; sum prod max min any all.
 *
 * What a sum's body is exactly 0 without is as good as a guard, sum(select(c, e, 0)) = sum(e if c), and is made one
 * where one of these rules follows. Exactly: in x?(k == j) * y[k] it is not, for y may be infinite. */
#include "graph/affine.h"
#include "graph/internal.h"
#include <math.h>

static bool is_op(const Expr *e, ScalarOp op) { return e->kind == EX_OP && e->op == op; }

typedef struct {
  Work *w;
  Expr *mask;
  Box box;
} Push;

static bool inside(const Push *p, const Expr *e) {
  if (e->checked) return false;
  for (int d = 0; d < e->n; d++) {
    Interval v = ex_interval(p->w->g, e->arg[d], &p->box, e->mask);
    if (v.lo < 0 || v.hi >= e->node->dim[d]) return false;
  }
  return true;
}

static Expr *mask_one(void *ctx, Expr *e) {
  Push *p = ctx;
  Graph *g = p->w->g;
  if (e->kind == EX_LOAD && !inside(p, e))
    return ex_load(g, e->node, e->n, e->arg, ex_and(g, e->mask, p->mask), e->checked, e->span);
  if (e->kind == EX_OP && (e->op == OP_FLOORDIV || e->op == OP_MOD) && !dt_is_float(e->dtype) &&
      e->arg[1]->kind != EX_CONST)
    return ex_op2(g, e->op, e->arg[0], ex_select(g, p->mask, e->arg[1], ex_int(g, e->arg[1]->dtype, 1)));
  return e;
}

Expr *work_push_mask(Work *w, Expr *e, Expr *c) {
  Interval iter[WORK_ITER];
  for (int i = 0; i < w->nout + w->nred; i++) iter[i] = (Interval){0, w->extent[i] - 1};
  Push p = {w, c, {.niter = w->nout + w->nred, .iter = iter}};
  return c ? ex_rebuild(w->g, e, &(Rebuild){.post = mask_one, .ctx = &p}) : e;
}

/* ---- Conjuncts --------------------------------------------------------------------------------------------------- */

void conj_take(Conj *c, Expr *e) {
  for (; e && is_op(e, OP_AND) && !c->full; e = e->arg[0]) conj_take(c, e->arg[1]); /* chains lean to the left */
  if (!e) return;
  if (c->n == MAX_CONJ)
    c->full = true;
  else
    c->at[c->n++] = e;
}

Expr *conj_without(Graph *g, const Conj *c, int drop) {
  Expr *r = NULL;
  for (int i = 0; i < c->n; i++)
    if (i != drop) r = ex_and(g, r, c->at[i]);
  return r;
}

static bool conj_has(const Conj *c, const Expr *e) {
  for (int i = 0; i < c->n; i++)
    if (c->at[i] == e) return true;
  return false;
}

static bool is_zero(const Expr *e) {
  double v;
  return ex_is_const(e, &v) && v == 0;
}

static bool is_finite(const Expr *e) {
  double v;
  return ex_is_const(e, &v) && isfinite(v);
}

enum { MAX_PRODUCT = 8 }; /* how deep factors are looked for */

static void zero_unless(Conj *z, Expr *e, int depth) {
  if (e->kind == EX_LOAD) conj_take(z, e->mask);
  if (e->kind != EX_OP || depth > MAX_PRODUCT) return;
  switch (e->op) {
  case OP_NEG:
  case OP_STOP:
    zero_unless(z, e->arg[0], depth + 1);
    break;
  case OP_CAST:
    if (e->arg[0]->dtype != DT_BOOL) zero_unless(z, e->arg[0], depth + 1);
    break;
  case OP_SELECT:
    if (!is_zero(e->arg[2])) break;
    conj_take(z, e->arg[0]);
    zero_unless(z, e->arg[1], depth + 1);
    break;
  case OP_MUL: {
    Conj a = {0}, b = {0};
    zero_unless(&a, e->arg[0], depth + 1);
    zero_unless(&b, e->arg[1], depth + 1);
    for (int i = 0; i < a.n; i++)
      if (is_finite(e->arg[1]) || conj_has(&b, a.at[i])) conj_take(z, a.at[i]);
    break;
  }
  default:
    break;
  }
}

void conj_zero_unless(Conj *z, Expr *e) { zero_unless(z, e, 0); }

/* e where the conditions `known` hold, which conj_zero_unless found: without them. */
static Expr *strip(Graph *g, Expr *e, const Conj *known, int depth) {
  Conj c = {0};
  Expr *rest = NULL;
  if (depth > MAX_PRODUCT) return e;
  if (e->kind == EX_LOAD && e->mask) {
    conj_take(&c, e->mask);
    for (int i = 0; i < c.n; i++)
      if (!conj_has(known, c.at[i])) rest = ex_and(g, rest, c.at[i]);
    return c.full ? e : ex_load(g, e->node, e->n, e->arg, rest, e->checked, e->span);
  }
  if (is_op(e, OP_NEG) || is_op(e, OP_STOP)) return ex_op1(g, e->op, strip(g, e->arg[0], known, depth + 1));
  if (is_op(e, OP_CAST) && e->arg[0]->dtype != DT_BOOL)
    return ex_cast(g, e->dtype, strip(g, e->arg[0], known, depth + 1));
  if (is_op(e, OP_MUL))
    return ex_op2(g, OP_MUL, strip(g, e->arg[0], known, depth + 1), strip(g, e->arg[1], known, depth + 1));
  if (is_op(e, OP_SELECT) && is_zero(e->arg[2])) {
    conj_take(&c, e->arg[0]);
    for (int i = 0; i < c.n; i++)
      if (!conj_has(known, c.at[i])) rest = ex_and(g, rest, c.at[i]);
    if (c.full) return e;
    Expr *in = strip(g, e->arg[1], known, depth + 1);
    return rest ? ex_select(g, rest, in, e->arg[2]) : in;
  }
  return e;
}

/* Solves a == b for a reduction iterator with coefficient 1 or -1. Returns it, and its value in *f; -1: none. */
static int solve(Work *w, const Expr *e, Expr **f) {
  if (!is_op(e, OP_EQ) || e->arg[0]->dtype != DT_I64) return -1;
  Expr *d = ex_op2(w->g, OP_SUB, e->arg[0], e->arg[1]);
  if (d->kind != EX_LIN && d->kind != EX_ITER) return -1;
  for (int k = w->nout + w->nred; k-- > w->nout;) {
    Expr *it = ex_iter(w->g, k);
    int64_t a = d == it ? 1 : 0;
    for (int i = 0; d->kind == EX_LIN && i < d->n; i++)
      if (d->arg[i] == it) a = d->coef[i];
    if (a != 1 && a != -1) continue;
    Expr *rest = ex_lin(w->g, 0, 2, (int64_t[]){-a, 1}, (Expr *[]){d, it}); /* k - a*d = f */
    if (ex_uses_iter(rest, k)) continue;
    *f = rest;
    return k;
  }
  return -1;
}

/* ---- Equality ---------------------------------------------------------------------------------------------------- */

Expr *ex_over_nothing(Graph *g, Reduce op, DType t) {
  switch (op) {
  case RED_NONE:
    return ex_num(g, t, 0);
  case RED_SUM:
    return ex_num(g, t, 0);
  case RED_PROD:
    return ex_num(g, t, 1);
  case RED_ANY:
    return ex_bool(g, false);
  case RED_ALL:
    return ex_bool(g, true);
  case RED_MAX:
    return dt_is_float(t) ? ex_float(g, t, -INFINITY) : NULL;
  case RED_MIN:
    return dt_is_float(t) ? ex_float(g, t, INFINITY) : NULL;
  default:
    return NULL;
  }
}

/* Reduction iterator k has this value, over the others. *also, which may be NULL and does not use k, follows. */
static void drop_iter(Work *w, int k, Expr *value, Expr **also) {
  int n = w->nout + w->nred;
  Expr *by[WORK_ITER], *f;
  for (int i = 0; i < n; i++) by[i] = ex_iter(w->g, i < k ? i : i - (i > k));
  f = value ? ex_subst_iters(w->g, value, n, by) : NULL;
  if (f) by[k] = f;
  work_subst(w, by);
  if (*also) *also = ex_subst_iters(w->g, *also, n, by);
  for (int i = k; i + 1 < n; i++) w->extent[i] = w->extent[i + 1];
  w->nred--;
}

static bool substitute_one(Work *w) {
  Conj c = {0};
  Expr *f = NULL;
  Graph *g = w->g;
  conj_take(&c, w->guard);
  if (c.full || w->op >= RED_ARGMAX || w->nred < 1 || w->fixed_outputs || !ex_over_nothing(g, w->op, w->body->dtype))
    return false;
  for (int i = 0; i < c.n; i++) {
    int k = solve(w, c.at[i], &f);
    if (k < 0) continue;
    Expr *in =
        ex_and(g, ex_op2(g, OP_GE, f, ex_int(g, DT_I64, 0)), ex_op2(g, OP_LT, f, ex_int(g, DT_I64, w->extent[k])));
    w->guard = conj_without(g, &c, i);
    drop_iter(w, k, f, &in);
    if (w->guard) w->guard = work_push_mask(w, w->guard, in); /* its other conditions read places of k */
    w->guard = ex_and(g, in, w->guard);
    work_reduce(w);
    if (w->nred) return true;
    Expr *none = ex_over_nothing(g, w->op, w->body->dtype);
    if (w->guard) w->body = ex_select(g, w->guard, work_push_mask(w, w->body, w->guard), none);
    w->guard = NULL;
    w->op = RED_NONE;
    return false;
  }
  return false;
}

static int triangle(Work *w, const Expr *e, bool *reverse, bool *exclusive);

static int triangle(Work *w, const Expr *e, bool *reverse, bool *exclusive);

void work_guards(Work *w) {
  Expr *before = w->body, *f;
  Conj zero = {0}, lifted = {0};
  bool r, x;
  if (w->op == RED_SUM && !w->fixed_outputs) conj_zero_unless(&zero, w->body);
  for (int i = 0; i < zero.n; i++)
    if (!conj_has(&lifted, zero.at[i]) &&
        (solve(w, zero.at[i], &f) >= 0 || (w->nred == 1 && triangle(w, zero.at[i], &r, &x) >= 0)))
      conj_take(&lifted, zero.at[i]);
  if (lifted.n) {
    w->body = strip(w->g, w->body, &lifted, 0);
    w->guard = ex_and(w->g, w->guard, conj_without(w->g, &lifted, -1));
  }
  while (w->guard && substitute_one(w)) {}
  if (w->guard && w->body != before)
    w->body = work_push_mask(w, w->body, w->guard); /* readers may evaluate before they test */
}

/* ---- Triangles --------------------------------------------------------------------------------------------------- */

/* e as k <= j (inclusive) or k < j, or the reverse, for the one reduction iterator k and an output iterator j. */
static int triangle(Work *w, const Expr *e, bool *reverse, bool *exclusive) {
  if (e->kind != EX_OP || e->op < OP_LT || e->op > OP_GE || e->arg[0]->dtype != DT_I64) return -1;
  bool flip = e->op == OP_GT || e->op == OP_GE; /* a > b is b < a */
  Expr *d = ex_op2(w->g, OP_SUB, e->arg[flip], e->arg[!flip]);
  int64_t c = e->op == OP_LT || e->op == OP_GT, a[2] = {0, 0}; /* d + c <= 0 */
  int j = -1;
  if (d->kind != EX_LIN || d->n != 2) return -1;
  c += d->num.i;
  for (int i = 0; i < 2; i++) {
    if (d->arg[i]->kind != EX_ITER || (d->coef[i] != 1 && d->coef[i] != -1)) return -1;
    if (d->arg[i]->num.i == w->nout)
      a[0] = d->coef[i];
    else {
      a[1] = d->coef[i];
      j = (int)d->arg[i]->num.i;
    }
  }
  if (a[0] != -a[1] || !a[0] || j < 0 || w->extent[j] != w->extent[w->nout] || (c != 0 && c != 1)) return -1;
  *reverse = a[0] < 0;
  *exclusive = c == 1;
  return j;
}

bool work_scan(Work *w, Node **out) {
  Conj c = {0};
  bool reverse = false, exclusive = false;
  Graph *g = w->g;
  conj_take(&c, w->guard);
  if (c.full || w->nred != 1 || w->op >= RED_ARGMAX || w->fixed_outputs) return false;
  int at = -1, j = -1;
  for (int i = 0; i < c.n && j < 0; i++)
    if ((j = triangle(w, c.at[i], &reverse, &exclusive)) >= 0) at = i;
  if (j < 0 || ex_uses_iter(w->body, j)) return false;
  Expr *rest = conj_without(g, &c, at), *none = ex_over_nothing(g, w->op, w->body->dtype), *body = w->body;
  if (!none || (rest && ex_uses_iter(rest, j))) return false;
  if (rest) body = ex_select(g, rest, work_push_mask(w, body, rest), none);
  /* New outputs: the others in order, then k in j's place, last. */
  int n = w->nout;
  Expr *by[WORK_ITER], *idx[WORK_ITER];
  int64_t extent[WORK_ITER];
  for (int i = 0, p = 0; i < n; i++)
    if (i != j) {
      extent[p] = w->extent[i];
      by[i] = ex_iter(g, p);
      idx[p++] = ex_iter(g, i);
    }
  by[j] = by[n] = ex_iter(g, n - 1);
  extent[n - 1] = w->extent[j];
  idx[n - 1] = ex_iter(g, j);
  Node *scan = nd_scan(g, n, extent, w->op, ex_subst_iters(g, body, n + 1, by), reverse, exclusive);
  *out = nd_comp(g, n, 0, w->extent, RED_NONE, ex_load(g, scan, n, idx, NULL, false, (Span){0}), NULL);
  return true;
}
