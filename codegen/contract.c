/* Recognition of contractions: the normal form, and the grouping of iterators by support. See contract.h.
 *
 * contract_normal takes a body apart:
 *
 *   x * y, -x, stop(x), select(c, x, 0)   into factors, a sign, and conjuncts of a guard
 *   factors free of reduction iterators   into `post`, which multiplies the sum (f32, f64, i64)
 *   the others                            into two groups by support: equal supports join, a subset joins the first
 *                                         superset, and while more than two are left the pair that shares the fewest
 *                                         output iterators with the rest is kept apart
 *   conjuncts                             into the masks of the loads of every factor that has their iterators
 *
 * A conjunct must lie in a factor because a point that it excludes takes no part: a masked load gives 0 there, and 0 *
 * y is 0 unless y is inf or nan. So a conjunct that reads data must be expressible in both factors; one that only
 * compares iterators (a border, a triangle) may lie in one. A conjunct over output iterators alone becomes a select
 * around the sum. */
#include "codegen/contract.h"
#include "codegen/monoid.h"
#include "graph/affine.h"
#include <string.h>

typedef uint64_t Support; /* bit k: depends on ITER k */

enum { MAX_FACTOR = 16, MAX_CONJ = 32 };

static void see_iter(void *ctx, Expr *e) {
  if (e->kind == EX_ITER && e->num.i >= 0 && e->num.i < CONTRACT_MAX_ITER) *(Support *)ctx |= (Support)1 << e->num.i;
}
static Support support(Expr *e) {
  Support s = 0;
  if (e) ex_visit(e, see_iter, &s);
  return s;
}
static void see_load(void *ctx, Expr *e) {
  if (e->kind == EX_LOAD) *(bool *)ctx = true;
}
static bool has_load(Expr *e) {
  bool any = false;
  if (e) ex_visit(e, see_load, &any);
  return any;
}
static Support bits(int lo, int hi) { /* ITER lo .. hi-1 */
  Support s = 0;
  for (int k = lo; k < hi; k++) s |= (Support)1 << k;
  return s;
}

/* ---- Classification ---------------------------------------------------------------------------------------------- */

/* The product inside a body: a MUL, or for integers a cast to i64 of an i32 MUL. */
static Expr *product_of(Expr *body) {
  if (body->kind != EX_OP) return NULL;
  if (body->op == OP_MUL && (dt_is_float(body->dtype) || body->dtype == DT_I64)) return body;
  if (body->op != OP_CAST || body->dtype != DT_I64) return NULL;
  Expr *in = body->arg[0];
  return in->kind == EX_OP && in->op == OP_MUL && in->dtype == DT_I32 ? in : NULL;
}

static int64_t group(int *at, int *n, Support s, int lo, int hi, const int64_t *extent) {
  int64_t size = 1;
  *n = 0;
  for (int k = lo; k < hi; k++)
    if (s >> k & 1) {
      at[(*n)++] = k;
      if (__builtin_mul_overflow(size, extent[k], &size)) size = INT64_MAX;
    }
  return size;
}

bool contract_find(int nout, int nred, const int64_t *extent, Reduce op, Expr *body, Expr *guard, Contract *c) {
  memset(c, 0, sizeof *c);
  if (op != RED_SUM || guard || nred < 1 || nout + nred > CONTRACT_MAX_ITER) return false;
  Expr *p = product_of(body);
  if (!p) return false;
  Support red = bits(nout, nout + nred), out = bits(0, nout);
  Expr *x = p->arg[0], *y = p->arg[1];
  Support sx = support(x), sy = support(y);
  if (!(sx & red) || !(sy & red) || !has_load(x) || !has_load(y)) return false;
  Support both = sx & sy & out, one = (sx ^ sy) & out, none = out & ~(sx | sy);
  /* N is the side of the innermost iterator that has a side. */
  bool swap = false;
  for (int k = nout - 1; k >= 0; k--)
    if (one >> k & 1) {
      swap = sx >> k & 1;
      break;
    }
  c->a = swap ? y : x;
  c->b = swap ? x : y;
  Support m = (swap ? sy : sx) & one, n = (swap ? sx : sy) & one;
  if (nout && none >> (nout - 1) & 1) n |= (Support)1 << (nout - 1);
  m |= none & ~n;
  c->prod = p->dtype;
  c->acc = monoid_acc(body->dtype);
  c->nB = group(c->batch, &c->nbatch, both, 0, nout, extent);
  c->nM = group(c->m, &c->nm, m, 0, nout, extent);
  c->nN = group(c->n, &c->nn, n, 0, nout, extent);
  c->nK = group(c->k, &c->nk, red, nout, nout + nred, extent);
  return true;
}

bool contract_find_node(const Node *n, Contract *out) {
  if (n->kind != ND_COMP) return false;
  const Comp *c = &n->comp;
  return contract_find(c->nout, c->nred, c->extent, c->op, c->body, c->guard, out);
}

char *contract_text(Arena *a, const Contract *c) {
  return arena_printf(a, "contraction: M = %lld N = %lld K = %lld batch = %lld", (long long)c->nM, (long long)c->nN,
                      (long long)c->nK, (long long)c->nB);
}

/* ---- Normal form ------------------------------------------------------------------------------------------------- */

typedef struct Parts {
  Graph *g;
  Expr *factor[MAX_FACTOR];
  int nfactor;
  Expr *conj[MAX_CONJ];
  int nconj;
  bool negative, full; /* full: more parts than fit */
} Parts;

static void add_conj(Parts *p, Expr *c) {
  if (!c) return;
  if (c->kind == EX_OP && c->op == OP_AND) {
    add_conj(p, c->arg[0]);
    add_conj(p, c->arg[1]);
  } else if (p->nconj == MAX_CONJ) {
    p->full = true;
  } else {
    p->conj[p->nconj++] = c;
  }
}

static bool is_zero(const Expr *e) {
  double v;
  return ex_is_const(e, &v) && v == 0;
}

static void take_apart(Parts *p, Expr *e) {
  if (e->kind == EX_OP && e->op == OP_MUL) {
    take_apart(p, e->arg[0]);
    take_apart(p, e->arg[1]);
  } else if (e->kind == EX_OP && e->op == OP_NEG) {
    p->negative = !p->negative;
    take_apart(p, e->arg[0]);
  } else if (e->kind == EX_OP && e->op == OP_STOP) {
    take_apart(p, e->arg[0]);
  } else if (e->kind == EX_OP && e->op == OP_SELECT && is_zero(e->arg[2])) {
    add_conj(p, e->arg[0]);
    take_apart(p, e->arg[1]);
  } else if (e->kind == EX_OP && e->op == OP_SELECT && is_zero(e->arg[1])) {
    add_conj(p, ex_op1(p->g, OP_NOT, e->arg[0]));
    take_apart(p, e->arg[2]);
  } else if (p->nfactor == MAX_FACTOR) {
    p->full = true;
  } else {
    p->factor[p->nfactor++] = e;
  }
}

static Expr *times(Graph *g, Expr *a, Expr *b) { return !a ? b : !b ? a : ex_op2(g, OP_MUL, a, b); }

/* One factor with all its loads masked by `cond`, and 0 where it is false. */
static Expr *masked(Graph *g, Expr *f, Expr *cond) {
  if (!cond) return f;
  Expr *e = ex_under(g, f, cond);
  return f->kind == EX_LOAD ? e : ex_select(g, cond, e, ex_num(g, f->dtype, 0));
}

/* Every unchecked load lies inside its node on the whole box, or where its mask is true. */
typedef struct {
  Graph *g;
  const Box *box;
  bool ok;
} Inside;
static void see_inside(void *ctx, Expr *e) {
  Inside *s = ctx;
  if (e->kind != EX_LOAD || e->checked) return;
  for (int d = 0; d < e->n; d++) {
    Interval v = ex_interval(s->g, e->arg[d], s->box, e->mask);
    if (v.lo <= v.hi && (v.lo < 0 || v.hi >= e->node->dim[d])) s->ok = false;
  }
}
static bool loads_inside(Graph *g, Expr *e, const Comp *c) {
  int n = c->nout + c->nred;
  Interval it[CONTRACT_MAX_ITER];
  for (int k = 0; k < n; k++) it[k] = (Interval){0, c->extent[k] - 1};
  Inside s = {g, &(Box){n, it, NULL, NULL}, true};
  if (e) ex_visit(e, see_inside, &s);
  return s.ok;
}

/* Joins factor j to factor i. */
static void join(Graph *g, Expr **f, Support *s, int *n, int i, int j) {
  int lo = i < j ? i : j, hi = i < j ? j : i;
  f[lo] = times(g, f[lo], f[hi]);
  s[lo] |= s[hi];
  for (int k = hi; k + 1 < *n; k++) {
    f[k] = f[k + 1];
    s[k] = s[k + 1];
  }
  (*n)--;
}

/* Brings n > 2 factors down to two. False when all of them are one by support (then they are left as first and rest).
 */
static void pair_up(Graph *g, Expr **f, Support *s, int *n, Support out) {
  for (int i = 0; i<*n && * n> 2; i++) /* equal supports */
    for (int j = i + 1; j<*n && * n> 2; j++)
      if (s[i] == s[j]) join(g, f, s, n, i, j--);
  for (bool again = true; again && *n > 2;) { /* subsets, and factors that load nothing */
    again = false;
    for (int j = 0; j < *n && !again && *n > 2; j++)
      for (int i = 0; i < *n && !again; i++)
        if (i != j && !(s[j] & ~s[i])) {
          join(g, f, s, n, i, j);
          again = true;
        }
  }
  while (*n > 2) { /* join the pair whose product shares the fewest output iterators with the others */
    int bi = 0, bj = 1, best = 1 << 30;
    for (int i = 0; i < *n; i++)
      for (int j = i + 1; j < *n; j++) {
        Support rest = 0;
        for (int k = 0; k < *n; k++)
          if (k != i && k != j) rest |= s[k];
        int cost = __builtin_popcountll((s[i] | s[j]) & rest & out);
        if (cost < best) best = cost, bi = i, bj = j;
      }
    join(g, f, s, n, bi, bj);
  }
}

Node *contract_normal(Graph *g, Node *n) {
  if (n->kind != ND_COMP || n->comp.op != RED_SUM) return n;
  const Comp *c = &n->comp;
  Contract found;
  if (contract_find_node(n, &found)) {
    /* Already two factors: still apart when one of them is itself a product or a select to be cleaned. */
    Expr *p = product_of(c->body);
    bool plain = true;
    for (int i = 0; i < 2; i++) {
      const Expr *x = p->arg[i];
      if (x->kind == EX_OP && (x->op == OP_MUL || x->op == OP_NEG || x->op == OP_SELECT || x->op == OP_STOP))
        plain = false;
    }
    if (plain) return n;
  }
  int nit = c->nout + c->nred;
  if (nit > CONTRACT_MAX_ITER || c->nred < 1) return n;
  Parts p = {.g = g};
  add_conj(&p, c->guard);
  Expr *body = c->body;
  bool widen = false; /* cast to i64 of an i32 product */
  while (body->kind == EX_OP && body->op == OP_SELECT && (is_zero(body->arg[1]) || is_zero(body->arg[2]))) {
    bool second = is_zero(body->arg[2]);
    add_conj(&p, second ? body->arg[0] : ex_op1(g, OP_NOT, body->arg[0]));
    body = body->arg[second ? 1 : 2];
  }
  if (body->kind == EX_OP && body->op == OP_CAST && body->dtype == DT_I64 && body->arg[0]->dtype == DT_I32) {
    widen = true;
    body = body->arg[0];
  }
  DType t = body->dtype;
  if (!dt_is_float(t) && t != DT_I64 && !widen) return n;
  take_apart(&p, body);
  if (p.full) return n;

  Support red = bits(c->nout, nit), out = bits(0, c->nout);
  bool hoist = t == DT_F32 || t == DT_F64 || t == DT_I64;
  Expr *post = NULL, *loose = NULL;
  Expr *f[MAX_FACTOR];
  Support s[MAX_FACTOR];
  int nf = 0, nloaded = 0;
  for (int i = 0; i < p.nfactor; i++) {
    Support si = support(p.factor[i]);
    if (!(si & red)) {
      if (hoist)
        post = times(g, post, p.factor[i]);
      else
        loose = times(g, loose, p.factor[i]);
    } else {
      nloaded += has_load(p.factor[i]);
      f[nf] = p.factor[i];
      s[nf++] = si;
    }
  }
  if (nloaded < 2) return n;
  if (loose) { /* f16, bf16, i32: the accumulator's dtype is not the body's, so it stays inside */
    Support sl = support(loose);
    int at = 0;
    for (int i = nf - 1; i >= 0; i--)
      if (!(sl & out & ~s[i])) at = i;
    f[at] = times(g, f[at], loose);
    s[at] |= sl;
  }
  pair_up(g, f, s, &nf, out);
  if (nf != 2) return n;
  if (p.negative) f[0] = ex_op1(g, OP_NEG, f[0]);

  /* Conjuncts: to every factor that has their iterators; over outputs alone: around the sum. */
  Expr *of[2] = {NULL, NULL}, *around = NULL, *late[2] = {NULL, NULL};
  for (int i = 0; i < p.nconj; i++) {
    Support sc = support(p.conj[i]);
    bool in0 = !(sc & ~s[0]), in1 = !(sc & ~s[1]);
    if (!(sc & red)) {
      around = ex_and(g, around, p.conj[i]);
      if (in0) late[0] = ex_and(g, late[0], p.conj[i]);
      if (in1) late[1] = ex_and(g, late[1], p.conj[i]);
      continue;
    }
    if (has_load(p.conj[i]) && !(in0 && in1)) return n;
    if (!in0 &&
        !in1) { /* the factor that it makes share fewest output iterators with the other; none may become shared */
      int to = !(sc & out & s[1]) ? 0 : !(sc & out & s[0]) ? 1 : -1;
      if (to < 0) return n;
      s[to] |= sc;
      in0 = to == 0;
      in1 = to == 1;
    }
    if (in0) of[0] = ex_and(g, of[0], p.conj[i]);
    if (in1) of[1] = ex_and(g, of[1], p.conj[i]);
  }
  for (int i = 0; i < 2; i++) {
    f[i] = masked(g, f[i], of[i]);
    if ((p.nconj || of[i]) && !loads_inside(g, f[i], c)) {
      f[i] = masked(g, f[i], late[i]);
      if (!loads_inside(g, f[i], c)) return n; /* valid only under the whole guard */
    }
    if (!(support(f[i]) & red) || !has_load(f[i])) return n; /* the masks folded it away */
  }
  if (post && around) {
    post = masked(g, post, around);
    if (!loads_inside(g, post, c)) return n;
  }
  Expr *prod = ex_op2(g, OP_MUL, f[0], f[1]);
  if (widen) prod = ex_cast(g, DT_I64, prod);
  Contract check;
  if (!contract_find(c->nout, c->nred, c->extent, RED_SUM, prod, NULL, &check)) return n;
  Node *sum = nd_comp_cut(g, c->nout, c->nred, c->extent, RED_SUM, prod, NULL, c->chunk);
  if (!post && !around) return sum;
  Expr *e = ex_load_full(g, sum, 0);
  if (post) e = ex_op2(g, OP_MUL, e, post);
  if (around) e = ex_select(g, around, e, ex_num(g, e->dtype, 0));
  return nd_comp(g, c->nout, 0, c->extent, RED_NONE, e, NULL);
}
