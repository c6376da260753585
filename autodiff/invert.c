/* Index maps turned around: from "add p(i) at f(i)" for all i to "t'[j] is the sum of p over the i with f(i) = j".
 *
 *   1 split     an iterator i under `i // c` or `i % c` becomes c*q + r; then every subscript must be affine, else scatter
 *   2 solve     while an equation f_d(i) = j_d holds an open iterator:
 *                 digits    the open terms are a mixed radix (each coefficient a multiple of all that lies below):
 *                           every iterator is a digit of the rest; covers reshapes, pooling, plain strides
 *                 unit      pivot = the iterator of largest extent * |coefficient|; with coefficient +-1 substitute
 *                 phases    coefficient m > 1: j_d = m*q + r, one piece a residue r, in which the one other
 *                           iterator not divisible by m has a fixed residue too; no point is visited in vain
 *   3 guards    what is left on j alone is a condition; an iterator solved to a data expression is bounded
 *   4 build     iterators still open are summed over; loads that may now leave their tensor are masked by the guard
 *
 * Expressions in a Problem are over ITER 0..D-1 = j and ITER D+k = i_k. More than MAX_PIECES phases: scatter. */
#include "internal.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_PIECES = 64, MAX_ITERS = 62 };

typedef struct Problem {
  Graph *g;
  Arena *a;
  int nj, ni; /* axes of the result (a piece), iterators */
  int64_t jext[MAX_ITERS], iext[MAX_ITERS];
  Expr *solved[MAX_ITERS]; /* i_k as an expression, or NULL: open */
  Expr *eq[MAX_ITERS];     /* f_d - j_d, to be 0; NULL: used up */
  Expr *p, *cond;
  Expr *first, *first_cond; /* p and cond over the iterators before any was solved; NULL: not to be had */
  int place[MAX_ITERS];     /* iterators in the order of the subscripts they are in, outermost first */
  Expr *places;             /* of cond: what was required of solved iterators and of j */
  DType dtype;
  Span span;
} Problem;

static Node *solve(Problem *P, int pieces);

static Box box_of(const Problem *P, Interval *iv) {
  for (int d = 0; d < P->nj; d++) iv[d] = (Interval){0, P->jext[d] - 1};
  for (int k = 0; k < P->ni; k++) iv[P->nj + k] = (Interval){0, P->iext[k] - 1};
  return (Box){.niter = P->nj + P->ni, .iter = iv};
}

/* ---- substitution of iterators everywhere, with // and % of small intervals resolved ------------------------ */
/* The box is of the new iterators: all that change their meaning are replaced in one pass, or intervals would lie. */
typedef struct Subst {
  Problem *P;
  int n, iter[2];
  Expr *by[2];
  const Box *box;
} Subst;
static Expr *subst_leaf(void *ctx, Expr *e) {
  Subst *s = ctx;
  Graph *g = s->P->g;
  if (e->kind == EX_ITER) {
    for (int i = 0; i < s->n; i++)
      if (e->num.i == s->iter[i]) return s->by[i];
    return e;
  }
  if (e->kind != EX_OP || (e->op != OP_FLOORDIV && e->op != OP_MOD) || e->dtype != DT_I64) return NULL;
  Expr *x = ex_map(g, e->arg[0], subst_leaf, s), *y = ex_map(g, e->arg[1], subst_leaf, s);
  Expr *r = ex_op2(g, e->op, x, y);
  if (r->kind == EX_OP && (r->op == OP_FLOORDIV || r->op == OP_MOD) && r->arg[1]->kind == EX_CONST &&
      r->arg[1]->num.i > 0) {
    Interval v = ex_interval(g, r->arg[0], s->box, NULL);
    if (v.lo >= 0 && v.hi < r->arg[1]->num.i) return r->op == OP_MOD ? r->arg[0] : ex_int(g, DT_I64, 0);
  }
  return r;
}
static void subst_each(Problem *P, int n, const int *iter, Expr *const *by) {
  Interval iv[2 * MAX_ITERS];
  Box box = box_of(P, iv);
  Subst s = {.P = P, .n = n, .box = &box};
  for (int i = 0; i < n; i++) s.iter[i] = iter[i], s.by[i] = by[i];
  for (int d = 0; d < P->nj; d++)
    if (P->eq[d]) P->eq[d] = ex_map(P->g, P->eq[d], subst_leaf, &s);
  for (int k = 0; k < P->ni; k++)
    if (P->solved[k]) P->solved[k] = ex_map(P->g, P->solved[k], subst_leaf, &s);
  P->p = ex_map(P->g, P->p, subst_leaf, &s);
  if (P->cond) P->cond = ex_map(P->g, P->cond, subst_leaf, &s);
  if (P->places) P->places = ex_map(P->g, P->places, subst_leaf, &s);
}
static void subst_all(Problem *P, int iter, Expr *by) { subst_each(P, 1, &iter, &by); }
static void require(Problem *P, Expr *c) {
  P->cond = ex_and(P->g, P->cond, c);
  P->places = ex_and(P->g, P->places, c);
}
static Expr *lit(Problem *P, int64_t v) { return ex_int(P->g, DT_I64, v); }
static void require_range(Problem *P, Expr *e, int64_t extent) {
  Interval iv[2 * MAX_ITERS];
  Box box = box_of(P, iv);
  Interval v = ex_interval(P->g, e, &box, NULL);
  if (v.lo < 0) require(P, ex_op2(P->g, OP_GE, e, lit(P, 0)));
  if (v.hi >= extent) require(P, ex_op2(P->g, OP_LT, e, lit(P, extent)));
}

/* ---- 1 split ---------------------------------------------------------------------------------------------------- */
typedef struct FindSplit {
  int iter;
  int64_t c;
  int first;
} FindSplit;
static void find_split(void *ctx, Expr *e) {
  FindSplit *f = ctx;
  if (e->kind != EX_OP || (e->op != OP_FLOORDIV && e->op != OP_MOD) || e->dtype != DT_I64) return;
  Expr *x = e->arg[0], *c = e->arg[1];
  if (x->kind == EX_ITER && x->num.i >= f->first && c->kind == EX_CONST && c->num.i > 1 && c->num.i > f->c)
    f->iter = (int)x->num.i, f->c = c->num.i; /* coarse to fine */
}
static bool split_once(Problem *P) {
  FindSplit f = {-1, 1, P->nj};
  for (int d = 0; d < P->nj; d++) ex_visit(P->eq[d], find_split, &f);
  if (f.iter < 0 || P->ni + 1 > MAX_ITERS) return false;
  int k = f.iter - P->nj, r = P->ni++;
  int64_t e = P->iext[k], q = (e + f.c - 1) / f.c;
  P->iext[k] = q, P->iext[r] = f.c, P->solved[r] = NULL;
  Expr *at[2] = {ex_iter(P->g, f.iter), ex_iter(P->g, P->nj + r)};
  Expr *by = ex_lin(P->g, 0, 2, (int64_t[]){f.c, 1}, at);
  subst_all(P, f.iter, by);
  if (e % f.c) require(P, ex_op2(P->g, OP_LT, by, lit(P, e)));
  return true;
}

/* ---- 2 solve ---------------------------------------------------------------------------------------------------- */
typedef struct Terms {
  int n;
  int k[MAX_ITERS];
  int64_t coef[MAX_ITERS];
  Expr *rest;
} Terms; /* sum coef * i_k + rest = 0 */

/* The open iterators of equation d; false when one of them is inside something that is not affine. */
static bool terms_of(Problem *P, int d, Terms *t) {
  int64_t coef[2 * MAX_ITERS], c;
  Expr *rest;
  ex_affine(P->g, P->eq[d], P->nj + P->ni, coef, &c, &rest);
  t->n = 0;
  Expr *sum = rest ? rest : lit(P, 0);
  sum = ex_op2(P->g, OP_ADD, sum, lit(P, c));
  for (int j = 0; j < P->nj; j++)
    if (coef[j]) sum = ex_op2(P->g, OP_ADD, sum, ex_op2(P->g, OP_MUL, ex_iter(P->g, j), lit(P, coef[j])));
  for (int k = 0; k < P->ni; k++) {
    if (rest && ex_uses_iter(rest, P->nj + k)) return false;
    if (coef[P->nj + k]) t->k[t->n] = k, t->coef[t->n++] = coef[P->nj + k];
  }
  t->rest = sum;
  return true;
}
static void settle(Problem *P, int k, Expr *value) {
  P->solved[k] = value;
  subst_all(P, P->nj + k, value);
  P->solved[k] = value;
  require_range(P, value, P->iext[k]);
}

static void sort_terms(const Problem *P, Terms *t) {
  for (int i = 1; i < t->n; i++)
    for (int j = i; j > 0 && (llabs(t->coef[j]) < llabs(t->coef[j - 1]) ||
                              (llabs(t->coef[j]) == llabs(t->coef[j - 1]) && P->iext[t->k[j]] < P->iext[t->k[j - 1]]));
         j--) {
      int64_t c = t->coef[j];
      int k = t->k[j];
      t->coef[j] = t->coef[j - 1], t->k[j] = t->k[j - 1];
      t->coef[j - 1] = c, t->k[j - 1] = k;
    }
}
static bool is_mixed_radix(const Problem *P, const Terms *t) {
  for (int i = 0; i < t->n; i++) {
    if ((t->coef[i] > 0) != (t->coef[0] > 0)) return false;
    if (i + 1 == t->n) break;
    int64_t a = llabs(t->coef[i]), b = llabs(t->coef[i + 1]), span;
    if (__builtin_mul_overflow(a, P->iext[t->k[i]], &span) || span > b || b % a) return false;
  }
  return true;
}
static void solve_digits(Problem *P, int d, Terms *t) {
  Graph *g = P->g;
  Expr *v = t->coef[0] > 0 ? ex_op1(g, OP_NEG, t->rest) : t->rest; /* sum |coef| i = v */
  int64_t a = llabs(t->coef[0]);
  P->eq[d] = NULL;
  if (a > 1) {
    require(P, ex_op2(g, OP_EQ, ex_op2(g, OP_MOD, v, lit(P, a)), lit(P, 0)));
    v = ex_op2(g, OP_FLOORDIV, v, lit(P, a));
  }
  for (int i = 0; i < t->n; i++) {
    if (i + 1 == t->n) {
      settle(P, t->k[i], v);
      return;
    }
    int64_t radix = llabs(t->coef[i + 1]) / llabs(t->coef[i]);
    Expr *digit = ex_op2(g, OP_MOD, v, lit(P, radix));
    v = ex_op2(g, OP_FLOORDIV, v, lit(P, radix));
    settle(P, t->k[i], digit);
  }
}
static int pivot_of(const Problem *P, const Terms *t) {
  int best = 0;
  for (int i = 1; i < t->n; i++)
    if ((double)llabs(t->coef[i]) * (double)P->iext[t->k[i]] >
        (double)llabs(t->coef[best]) * (double)P->iext[t->k[best]])
      best = i;
  return best;
}
static void solve_unit(Problem *P, int d, const Terms *t, int i) {
  /* coef = +-1: i_k = -coef * (rest + others) */
  Graph *g = P->g;
  Expr *sum = t->rest;
  for (int j = 0; j < t->n; j++)
    if (j != i) sum = ex_op2(g, OP_ADD, sum, ex_op2(g, OP_MUL, ex_iter(g, P->nj + t->k[j]), lit(P, t->coef[j])));
  P->eq[d] = NULL;
  settle(P, t->k[i], t->coef[i] > 0 ? ex_op1(g, OP_NEG, sum) : sum);
}

static int64_t gcd(int64_t a, int64_t b) {
  a = llabs(a), b = llabs(b);
  while (b) {
    int64_t r = a % b;
    a = b, b = r;
  }
  return a;
}
/* Divides an equation whose coefficients and constant share a factor; false when it has no solution. */
static bool reduce_equation(Problem *P, int d) {
  int64_t coef[2 * MAX_ITERS], c, f = 0;
  Expr *rest;
  if (!ex_affine(P->g, P->eq[d], P->nj + P->ni, coef, &c, &rest)) return true;
  for (int i = 0; i < P->nj + P->ni; i++) f = gcd(f, coef[i]);
  if (f <= 1) return true;
  if (c % f) return false;
  Expr *it[2 * MAX_ITERS];
  for (int i = 0; i < P->nj + P->ni; i++) coef[i] /= f, it[i] = ex_iter(P->g, i);
  P->eq[d] = ex_lin(P->g, c / f, P->nj + P->ni, coef, it);
  return true;
}

/* The equation as a*j_d + coef*i_pivot (divisible by m) + b*i_other + c: splits j_d and i_other by residues mod m.
 * NULL when it has another form. */
static Node *solve_phases(Problem *P, int d, const Terms *t, int pivot, int pieces) {
  Graph *g = P->g;
  int64_t m = llabs(t->coef[pivot]), coef[2 * MAX_ITERS], c;
  int other = -1;
  Expr *rest;
  for (int i = 0; i < t->n; i++)
    if (t->coef[i] % m) {
      if (other >= 0) return NULL;
      other = i;
    }
  if (other < 0 || gcd(t->coef[other], m) != 1 || pieces * m > MAX_PIECES) return NULL;
  if (!ex_affine(g, P->eq[d], P->nj + P->ni, coef, &c, &rest)) return NULL;
  int axis = -1;
  for (int j = 0; j < P->nj; j++)
    if (coef[j]) {
      if (axis >= 0 || llabs(coef[j]) != 1) return NULL;
      axis = j;
    }
  if (axis < 0 || P->jext[axis] < 1) return NULL;
  int ko = t->k[other];
  int64_t b = t->coef[other], full = P->jext[axis];
  Node *piece[MAX_PIECES];
  for (int64_t r = 0; r < m; r++) {
    Problem *Q = arena_new_of(P->a, Problem);
    *Q = *P;
    Q->first = NULL;
    int64_t ro = 0; /* b * ro + coef_j * r + c = 0 mod m */
    while (((b * ro + coef[axis] * r + c) % m + m) % m) ro++;
    Q->jext[axis] = (full - r + m - 1) / m;
    Q->iext[ko] = P->iext[ko] > ro ? (P->iext[ko] - ro + m - 1) / m : 0;
    if (Q->jext[axis] < 0) Q->jext[axis] = 0;
    if (Q->iext[ko] == 0 || Q->jext[axis] == 0) { /* no point has this residue; intervals over nothing prove anything */
      piece[r] = bd_zeros(g, P->dtype, P->nj, Q->jext);
      continue;
    }
    Expr *ji = ex_iter(g, axis), *oi = ex_iter(g, P->nj + ko);
    Expr *joint = ex_lin(g, r, 1, &m, &ji), *oint = ex_lin(g, ro, 1, &m, &oi);
    subst_each(Q, 2, (int[]){axis, P->nj + ko}, (Expr *[]){joint, oint});
    if (!reduce_equation(Q, d)) bug("phase without solution");
    piece[r] = solve(Q, pieces * (int)m);
    if (!piece[r]) return NULL;
  }
  /* out[.., j, ..] = piece[j % m][.., j // m, ..] */
  Expr *at[MAX_ITERS];
  for (int j = 0; j < P->nj; j++) at[j] = ex_iter(g, j);
  Expr *j = at[axis], *res = ex_op2(g, OP_MOD, j, lit(P, m)), *body = ex_num(g, P->dtype, 0);
  at[axis] = ex_op2(g, OP_FLOORDIV, j, lit(P, m));
  for (int64_t r = m; r-- > 0;) {
    if (r >= full) continue;
    Expr *is = ex_op2(g, OP_EQ, res, lit(P, r));
    body = ex_select(g, is, ex_load(g, piece[r], P->nj, at, is, false, P->span), body);
  }
  return nd_comp(g, P->nj, 0, P->jext, RED_NONE, body, NULL);
}

/* ---- 3, 4 build ------------------------------------------------------------------------------------------------- */
typedef struct Guarded {
  Problem *P;
  const Box *box;
  Expr *guard;
} Guarded;
static Expr *mask_loads(void *ctx, Expr *e) {
  Guarded *m = ctx;
  Graph *g = m->P->g;
  if (e->kind != EX_LOAD) return NULL;
  Expr *at[MAX_ITERS];
  bool safe = !e->checked;
  for (int d = 0; d < e->n; d++) {
    at[d] = ex_map(g, e->arg[d], mask_loads, m);
    Interval v = ex_interval(g, at[d], m->box, e->mask);
    safe &= v.lo >= 0 && v.hi < e->node->dim[d];
  }
  Expr *mask = e->mask ? ex_map(g, e->mask, mask_loads, m) : NULL;
  return ex_load(g, e->node, e->n, at, safe ? mask : ex_and(g, m->guard, mask), e->checked, e->span);
}
static bool implies(const Expr *mask, const Expr *guard) {
  if (mask == guard) return true;
  return mask && mask->kind == EX_OP && mask->op == OP_AND &&
         (implies(mask->arg[0], guard) || implies(mask->arg[1], guard));
}
typedef struct Zero {
  Graph *g;
  Expr *guard;
} Zero;
static Expr *loads_to_zero(void *ctx, Expr *e) {
  Zero *z = ctx;
  return e->kind == EX_LOAD && implies(e->mask, z->guard) ? ex_num(z->g, e->dtype, 0) : NULL;
}
/* A conjunct `i_k == e` (e free of i_k and of other open iterators) fixes an open iterator. */
static bool use_equality(Problem *P, Expr *cond) {
  if (!cond) return false;
  if (cond->kind == EX_OP && cond->op == OP_AND) return use_equality(P, cond->arg[0]) || use_equality(P, cond->arg[1]);
  if (cond->kind != EX_OP || cond->op != OP_EQ || cond->arg[0]->dtype == DT_BOOL || dt_is_float(cond->arg[0]->dtype))
    return false;
  for (int side = 0; side < 2; side++) {
    Expr *x = cond->arg[side], *v = cond->arg[!side];
    if (x->kind == EX_OP && x->op == OP_CAST) x = x->arg[0];
    if (x->kind != EX_ITER || x->num.i < P->nj || P->solved[x->num.i - P->nj] || ex_uses_iter(v, (int)x->num.i))
      continue;
    bool open = false;
    for (int k = 0; k < P->ni; k++) open |= !P->solved[k] && ex_uses_iter(v, P->nj + k);
    if (open) continue;
    settle(P, (int)x->num.i - P->nj, ex_cast(P->g, DT_I64, v));
    return true;
  }
  return false;
}

static void find_load(void *ctx, Expr *e) { *(bool *)ctx |= e->kind == EX_LOAD; }
static void split_guard(Graph *g, Expr *c, Expr **bounds, Expr **data) {
  bool loads = false;
  if (!c) return;
  if (c->kind == EX_OP && c->op == OP_AND) {
    split_guard(g, c->arg[0], bounds, data);
    split_guard(g, c->arg[1], bounds, data);
    return;
  }
  ex_visit(c, find_load, &loads);
  Expr **to = loads ? data : bounds;
  *to = ex_and(g, *to, c);
}

/* Loads of *p and of conditions that may be outside where cond is false are masked by it. The guard that is then still
 * needed. */
static Expr *safe_under(Problem *P, const Box *box, Expr *cond, Expr **p) {
  Graph *g = P->g;
  /* Bounds first: what the other conditions load may be outside where the bounds fail. */
  Expr *bounds = NULL, *data = NULL;
  split_guard(g, cond, &bounds, &data);
  Guarded m = {P, box, bounds};
  if (data) data = ex_map(g, data, mask_loads, &m);
  Expr *guard = m.guard = ex_and(g, bounds, data);
  *p = ex_map(g, *p, mask_loads, &m);
  /* A masked product is 0 where the guard is false: then the guard is not needed, and contractions stay products. */
  Zero z = {g, guard};
  double v;
  if (guard && !data && ex_is_const(ex_map(g, *p, loads_to_zero, &z), &v) && v == 0) guard = NULL;
  return guard;
}

/* When the points of the space are fewer than the elements of the result (slices, digits with gaps): the sums over the
 * points themselves, then moved to their places, so that no element outside is computed. NULL: not this form. */
static Node *build_then_move(Problem *P) {
  Graph *g = P->g;
  double points = 1, elements = 1;
  int nsolved = 0, nopen = 0;
  if (!P->first) return NULL;
  for (int j = 0; j < P->nj; j++) elements *= (double)P->jext[j];
  for (int k = 0; k < P->ni; k++) {
    if (!P->solved[k]) {
      nopen++;
      continue;
    }
    nsolved++;
    points *= (double)P->iext[k];
    for (int o = 0; o < P->ni; o++)
      if (!P->solved[o] && ex_uses_iter(P->solved[k], P->nj + o)) return NULL;
  }
  if (!nopen || points >= elements) return NULL;
  int64_t extent[MAX_ITERS];
  Expr *by[2 * MAX_ITERS], *at[MAX_ITERS];
  int ns = 0, no = nsolved;
  for (int j = 0; j < P->nj; j++) by[j] = lit(P, 0); /* occurs in neither */
  for (int i = 0; i < P->ni; i++) {
    int k = P->place[i], to = P->solved[k] ? ns++ : no++;
    extent[to] = P->iext[k];
    by[P->nj + k] = ex_iter(g, to);
    if (P->solved[k]) at[to] = P->solved[k];
  }
  Expr *p = ex_subst_iters(g, P->first, P->nj + P->ni, by);
  Expr *guard = P->first_cond ? ex_subst_iters(g, P->first_cond, P->nj + P->ni, by) : NULL;
  Interval iv[MAX_ITERS];
  for (int i = 0; i < nsolved + nopen; i++) iv[i] = (Interval){0, extent[i] - 1};
  guard = safe_under(P, &(Box){.niter = nsolved + nopen, .iter = iv}, guard, &p);
  Node *sum = nd_comp(g, nsolved, nopen, extent, RED_SUM, p, guard);
  return nd_comp(g, P->nj, 0, P->jext, RED_NONE, ex_load(g, sum, nsolved, at, P->places, false, P->span), NULL);
}

static Node *build(Problem *P) {
  Graph *g = P->g;
  for (int d = 0; d < P->nj; d++)
    if (P->eq[d]) {
      require(P, ex_op2(g, OP_EQ, P->eq[d], lit(P, 0)));
      P->eq[d] = NULL;
    }
  while (use_equality(P, P->cond)) P->first = NULL;
  Interval iv[2 * MAX_ITERS];
  Box box = box_of(P, iv);
  if (P->cond) {
    int known = ex_decide(g, P->cond, &box);
    if (known == 1) P->cond = NULL;
    if (known == 0) return nd_comp(g, P->nj, 0, P->jext, RED_NONE, ex_num(g, P->dtype, 0), NULL);
  }
  Node *moved = build_then_move(P);
  if (moved) return moved;
  Expr *p = P->p, *guard = safe_under(P, &box, P->cond, &p);
  int64_t extent[2 * MAX_ITERS];
  Expr *by[2 * MAX_ITERS];
  int n = P->nj;
  for (int j = 0; j < P->nj; j++) extent[j] = P->jext[j], by[j] = ex_iter(g, j);
  for (int k = 0; k < P->ni; k++) {
    by[P->nj + k] = ex_iter(g, n);
    if (!P->solved[k])
      extent[n++] = P->iext[k];
    else
      by[P->nj + k] = NULL;
  }
  for (int k = 0; k < P->ni; k++)
    if (!by[P->nj + k]) by[P->nj + k] = lit(P, 0); /* solved: occurs no more */
  p = ex_subst_iters(g, p, P->nj + P->ni, by);
  if (guard) guard = ex_subst_iters(g, guard, P->nj + P->ni, by);
  if (n == P->nj) {
    if (guard) p = ex_select(g, guard, p, ex_num(g, P->dtype, 0));
    return nd_comp(g, n, 0, extent, RED_NONE, p, NULL);
  }
  return nd_comp(g, P->nj, n - P->nj, extent, RED_SUM, p, guard);
}

/* NULL: no gather form. */
static Node *solve(Problem *P, int pieces) {
  for (;;) {
    int best = -1;
    bool open = false;
    Terms t, bt;
    /* digits before unit pivots; phases last */
    for (int pass = 0; pass < 2 && best < 0; pass++)
      for (int d = 0; d < P->nj && best < 0; d++) {
        if (!P->eq[d]) continue;
        if (!terms_of(P, d, &t)) return NULL;
        if (!t.n) continue;
        open = true;
        sort_terms(P, &t);
        if (pass == 0 ? is_mixed_radix(P, &t) : llabs(t.coef[pivot_of(P, &t)]) == 1) best = d, bt = t;
      }
    if (!open) return build(P);
    if (best >= 0) {
      if (is_mixed_radix(P, &bt))
        solve_digits(P, best, &bt);
      else
        solve_unit(P, best, &bt, pivot_of(P, &bt));
      continue;
    }
    for (int d = 0; d < P->nj; d++) {
      if (!P->eq[d] || !terms_of(P, d, &t) || !t.n) continue;
      Node *n = solve_phases(P, d, &t, pivot_of(P, &t), pieces);
      if (n) return n;
      for (int i = 0; i < t.n; i++) /* any unit coefficient will do, at the cost of points visited in vain */
        if (llabs(t.coef[i]) == 1) {
          solve_unit(P, d, &t, i);
          best = d;
          break;
        }
      if (best >= 0) break;
    }
    if (best < 0) return NULL;
  }
}

/* Sums over the iterators that are in no subscript before anything is scattered. */
static Node *scatter(Graph *g, Arena *a, const Node *t, const Space *s) {
  Expr **by = arena_array(a, Expr *, s->n), **f = arena_array(a, Expr *, t->rank), *p = s->p, *cond = s->cond;
  int64_t *extent = arena_array(a, int64_t, s->n);
  int nused = 0, at = 0;
  for (int pass = 0; pass < 2; pass++)
    for (int k = 0; k < s->n; k++) {
      bool used = cond && ex_uses_iter(cond, k);
      for (int d = 0; d < t->rank; d++) used |= ex_uses_iter(s->f[d], k);
      if (used != !pass) continue;
      nused += used;
      extent[at] = s->extent[k];
      by[k] = ex_iter(g, at++);
    }
  memcpy(f, s->f, sizeof *f * (size_t)t->rank);
  if (nused < s->n && s->n < MAX_ITERS) {
    for (int d = 0; d < t->rank; d++) f[d] = ex_subst_iters(g, f[d], s->n, by);
    p = ex_subst_iters(g, p, s->n, by);
    if (cond) cond = ex_subst_iters(g, cond, s->n, by);
    Interval iv[MAX_ITERS];
    Problem P = {.g = g, .a = a};
    for (int k = 0; k < s->n; k++) iv[k] = (Interval){0, extent[k] - 1};
    Expr *guard = safe_under(&P, &(Box){.niter = s->n, .iter = iv}, cond, &p);
    p = ex_load_full(g, nd_comp(g, nused, s->n - nused, extent, RED_SUM, p, guard), 0);
  } else {
    extent = (int64_t *)s->extent;
    nused = s->n;
  }
  return nd_scatter(g, t->dtype, t->rank, t->dim, NULL, nused, extent, f, p, cond, SC_ADD, s->checked);
}

static void order_places(Problem *P) {
  bool placed[MAX_ITERS] = {false};
  Terms t;
  int n = 0;
  for (int d = 0; d < P->nj; d++) {
    if (!terms_of(P, d, &t)) continue;
    sort_terms(P, &t);
    for (int i = t.n; i-- > 0;)
      if (!placed[t.k[i]]) placed[P->place[n++] = t.k[i]] = true;
  }
  for (int k = 0; k < P->ni; k++)
    if (!placed[k]) P->place[n++] = k;
}

Node *ad_gather(Graph *g, Arena *a, const Node *t, const Space *s) {
  Problem *P = arena_new_of(a, Problem);
  *P = (Problem){.g = g, .a = a, .nj = t->rank, .ni = s->n, .dtype = t->dtype, .span = s->span};
  bool fits = s->n + t->rank < MAX_ITERS / 2, zero = false;
  for (int k = 0; k < s->n; k++) zero |= s->extent[k] == 0;
  if (zero) return bd_zeros(g, t->dtype, t->rank, t->dim);
  if (fits && !s->checked) {
    Expr *shift[MAX_ITERS];
    for (int k = 0; k < s->n; k++) shift[k] = ex_iter(g, t->rank + k), P->iext[k] = s->extent[k];
    for (int d = 0; d < t->rank; d++) {
      P->jext[d] = t->dim[d];
      P->eq[d] = ex_op2(g, OP_SUB, ex_subst_iters(g, s->f[d], s->n, shift), ex_iter(g, d));
    }
    P->p = ex_subst_iters(g, s->p, s->n, shift);
    P->cond = s->cond ? ex_subst_iters(g, s->cond, s->n, shift) : NULL;
    while (split_once(P)) {}
    order_places(P);
    P->first = P->p;
    P->first_cond = P->cond;
    P->places = NULL;
    Node *n = solve(P, 1);
    if (n) return n;
  }
  return scatter(g, a, t, s);
}
