/* Linear forms over i64, and floor division and remainder by constants.
 *
 *   ex_lin   c + sum a_k * atom_k, atoms neither LIN nor CONST, ascending by id, coefficients non-zero
 *
 * Sums are taken modulo 2^64, which is the ring the machine computes in, so normalising never changes a value. Rules
 * for // and % use the order of the integers; they are applied to *index* expressions only (ExprX.index: iterators,
 * counters and constants), whose values are far from overflow, and only while the coefficients are small (SMALL).
 *
 *   (c*q + r) // c   = q + r // c            (c*q + r) % c    = r % c           q the multiples of c, exactly
 *   (g*x + r) // g*c = (x + r//g) // c       (g*x + r) % g*c  = g*((x + r//g) % c) + r % g
 *   (x // a + r) // b = (x + a*r) // (a*b)   (b*(x % m*c)) % c = (b*x) % c
 *   (x % c*m) // c   = (x // c) % m          c*(x // c) + x % c = x
 *   x // c = 0, x % c = x  when x in 0..c follows from its own form
 *
 * So a subscript through any chain of reshapes ends in one form: k*((x // a) % b) with x linear. */
#include "graph/internal.h"
#include "graph/scalar_eval.h"
#include <stdlib.h>
#include <string.h>

/* A linear form of more terms is not flattened further: the rest hangs below as an opaque sum. Keeps long chains
 * linear in size. */
enum { MAX_TERMS = 48, CAPACITY = 2 * MAX_TERMS + 8 };
#define SMALL (INT64_C(1) << 40)

typedef struct {
  int64_t coef;
  Expr *atom;
} Term;
typedef struct {
  int64_t c;
  int n;
  Term t[CAPACITY];
} Lin;

static void lin_init(Lin *l, int64_t c) {
  l->c = c;
  l->n = 0;
}

static int64_t wadd(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }
static int64_t wmul(int64_t a, int64_t b) { return (int64_t)((uint64_t)a * (uint64_t)b); }

/* Adds coef * atom, keeping ids ascending. */
static void lin_atom(Lin *l, int64_t coef, Expr *atom) {
  int lo = 0, hi = l->n;
  while (lo < hi) {
    int mid = (lo + hi) / 2;
    if (l->t[mid].atom->id < atom->id)
      lo = mid + 1;
    else
      hi = mid;
  }
  if (lo < l->n && l->t[lo].atom == atom) {
    if (!(l->t[lo].coef = wadd(l->t[lo].coef, coef)))
      memmove(&l->t[lo], &l->t[lo + 1], sizeof(Term) * (size_t)(--l->n - lo));
    return;
  }
  if (!coef) return;
  if (l->n == CAPACITY) bug("linear form too long");
  memmove(&l->t[lo + 1], &l->t[lo], sizeof(Term) * (size_t)(l->n++ - lo));
  l->t[lo] = (Term){coef, atom};
}

/* e as one atom: a linear form hides in an opaque sum. */
static Expr *opaque(Graph *g, Expr *e) {
  return e->kind == EX_LIN ? ex_raw_op(g, OP_ADD, DT_I64, 2, (Expr *[]){e, ex_int(g, DT_I64, 0)}) : e;
}

static void lin_add(Graph *g, Lin *l, int64_t coef, Expr *e) {
  if (e->dtype != DT_I64) bug("linear form over %s", dt_name(e->dtype));
  if (e->kind == EX_CONST)
    l->c = wadd(l->c, wmul(coef, e->num.i));
  else if (e->kind == EX_LIN && l->n + e->n < CAPACITY) {
    l->c = wadd(l->c, wmul(coef, e->num.i));
    for (int i = 0; i < e->n; i++) lin_atom(l, wmul(coef, e->coef[i]), e->arg[i]);
  } else
    lin_atom(l, coef, opaque(g, e));
}

static int find(const Lin *l, const Expr *atom) {
  for (int i = 0; i < l->n; i++)
    if (l->t[i].atom == atom) return i;
  return -1;
}

static bool is_op(const Expr *e, ScalarOp op) { return e->kind == EX_OP && e->op == op; }
/* x // c or x % c with a positive constant c, of an index expression. */
static bool is_split(const Expr *e, ScalarOp op) {
  return is_op(e, op) && e->dtype == DT_I64 && e->arg[1]->kind == EX_CONST && e->arg[1]->num.i > 0 &&
         expr_x(e->arg[0])->index;
}

/* k*(x % c) + k*c*(x // c) -> k*x, once; true when something changed. */
static bool join_split(Graph *g, Lin *l) {
  for (int i = 0; i < l->n; i++) {
    Expr *m = l->t[i].atom;
    if (!is_split(m, OP_MOD)) continue;
    int64_t k = l->t[i].coef, c = m->arg[1]->num.i, kc;
    if (__builtin_mul_overflow(k, c, &kc)) continue;
    Expr *q = ex_floordiv_const(g, m->arg[0], c);
    int j = find(l, q);
    if (j < 0 || l->t[j].coef != kc || l->n + m->arg[0]->n >= CAPACITY) continue;
    lin_atom(l, -k, m);
    lin_atom(l, -kc, q);
    lin_add(g, l, k, m->arg[0]);
    return true;
  }
  return false;
}

static Expr *lin_make(Graph *g, Lin *l) {
  while (join_split(g, l)) {}
  if (!l->n) return ex_int(g, DT_I64, l->c);
  if (l->n == 1 && l->t[0].coef == 1 && l->c == 0) return l->t[0].atom;
  int64_t coef[CAPACITY];
  Expr *arg[CAPACITY];
  for (int i = 0; i < l->n; i++) coef[i] = l->t[i].coef, arg[i] = l->t[i].atom;
  return intern_expr(g, &(Expr){.kind = EX_LIN, .dtype = DT_I64, .n = l->n, .arg = arg, .coef = coef, .num.i = l->c});
}

Expr *ex_lin(Graph *g, int64_t c, int n, const int64_t *coef, Expr *const *atom) {
  Lin l;
  lin_init(&l, c);
  for (int i = 0; i < n; i++) {
    int more = atom[i]->kind == EX_LIN ? atom[i]->n : 1;
    if (l.n + more > MAX_TERMS && l.n > 1) { /* close what there is: one opaque atom */
      int64_t k = l.c;
      l.c = 0;
      Expr *head = opaque(g, lin_make(g, &l));
      lin_init(&l, k);
      lin_atom(&l, 1, head);
    }
    lin_add(g, &l, coef[i], atom[i]);
  }
  return lin_make(g, &l);
}

bool ex_local_bounds(const Expr *e, int64_t *lo, int64_t *hi) {
  if (e->kind == EX_CONST && e->dtype == DT_I64) return *lo = *hi = e->num.i, true;
  if (e->kind == EX_LOAD && e->node->kind == ND_PARAM && e->node->rank == 0 && e->node->param.lo <= e->node->param.hi &&
      !e->mask)
    return *lo = e->node->param.lo, *hi = e->node->param.hi, true;
  if (is_op(e, OP_MOD) && e->dtype == DT_I64 && e->arg[1]->kind == EX_CONST && e->arg[1]->num.i > 0)
    return *lo = 0, *hi = e->arg[1]->num.i - 1, true;
  if (e->kind != EX_LIN) return false;
  *lo = *hi = e->num.i;
  for (int i = 0; i < e->n; i++) {
    int64_t a, b, p, q;
    if (!ex_local_bounds(e->arg[i], &a, &b)) return false;
    if (__builtin_mul_overflow(e->coef[i], a, &p) || __builtin_mul_overflow(e->coef[i], b, &q)) return false;
    if (__builtin_add_overflow(*lo, p < q ? p : q, lo) || __builtin_add_overflow(*hi, p < q ? q : p, hi)) return false;
  }
  return true;
}

static int64_t gcd(int64_t a, int64_t b) {
  a = a < 0 ? -a : a;
  while (b) {
    int64_t t = a % b;
    a = b;
    b = t;
  }
  return a;
}

/* Splits x = c*q + rest, rest without multiples of c and with a constant in 0..c. False when the rules do not apply. */
static bool split_multiples(Graph *g, Expr *x, int64_t c, Lin *q, Lin *rest) {
  if (!expr_x(x)->index || c > SMALL) return false;
  Lin l;
  lin_init(q, 0);
  lin_init(rest, 0);
  lin_init(&l, 0);
  lin_add(g, &l, 1, x);
  if (l.c > SMALL || l.c < -SMALL) return false;
  for (int i = 0; i < l.n; i++) {
    if (l.t[i].coef > SMALL || l.t[i].coef < -SMALL) return false;
    if (l.t[i].coef % c == 0)
      lin_atom(q, l.t[i].coef / c, l.t[i].atom);
    else
      lin_atom(rest, l.t[i].coef, l.t[i].atom);
  }
  q->c = tg_floordiv(l.c, c);
  rest->c = tg_floormod(l.c, c);
  return true;
}

/* Divides rest and c by the gcd of c and rest's coefficients; returns the gcd, and the constant's remainder. */
static int64_t cancel(Lin *rest, int64_t *c, int64_t *left) {
  int64_t k = *c;
  for (int i = 0; i < rest->n; i++) k = gcd(rest->t[i].coef, k);
  *left = rest->c % k;
  rest->c /= k;
  *c /= k;
  for (int i = 0; i < rest->n; i++) rest->t[i].coef /= k;
  return k;
}

static bool inside(const Expr *x, int64_t c) {
  int64_t lo, hi;
  return ex_local_bounds(x, &lo, &hi) && lo >= 0 && hi < c;
}

static Expr *raw_split(Graph *g, ScalarOp op, Expr *x, int64_t c) {
  return ex_raw_op(g, op, DT_I64, 2, (Expr *[]){x, ex_int(g, DT_I64, c)});
}

Expr *ex_floordiv_const(Graph *g, Expr *x, int64_t c) {
  Lin q, rest;
  int64_t left, m;
  if (c == 1) return x;
  if (x->kind == EX_CONST) return ex_int(g, DT_I64, tg_floordiv(x->num.i, c));
  if (!split_multiples(g, x, c, &q, &rest)) return raw_split(g, OP_FLOORDIV, x, c);
  if (!rest.n) return lin_make(g, &q);
  cancel(&rest, &c, &left);
  Expr *r = NULL;
  if (rest.n == 1 && rest.t[0].coef == 1) {
    Expr *a = rest.t[0].atom;
    if (is_split(a, OP_FLOORDIV) && !__builtin_mul_overflow(a->arg[1]->num.i, c, &m) && m <= SMALL) {
      Lin in;
      lin_init(&in, rest.c * a->arg[1]->num.i);
      lin_add(g, &in, 1, a->arg[0]);
      r = ex_floordiv_const(g, lin_make(g, &in), m);
    } else if (is_split(a, OP_MOD) && rest.c == 0 && a->arg[1]->num.i % c == 0)
      r = ex_mod_const(g, ex_floordiv_const(g, a->arg[0], c), a->arg[1]->num.i / c);
  }
  if (!r) {
    Expr *e = lin_make(g, &rest);
    r = inside(e, c) ? ex_int(g, DT_I64, 0) : raw_split(g, OP_FLOORDIV, e, c);
  }
  lin_add(g, &q, 1, r);
  return lin_make(g, &q);
}

Expr *ex_mod_const(Graph *g, Expr *x, int64_t c) {
  Lin q, rest;
  int64_t left;
  if (c == 1) return ex_int(g, DT_I64, 0);
  if (x->kind == EX_CONST) return ex_int(g, DT_I64, tg_floormod(x->num.i, c));
  if (!split_multiples(g, x, c, &q, &rest)) return raw_split(g, OP_MOD, x, c);
  if (!rest.n) return ex_int(g, DT_I64, rest.c);
  int64_t k = cancel(&rest, &c, &left);
  Lin in;
  lin_init(&in, rest.c);
  bool peeled = false; /* (b * (y % m*c)) % c = (b*y) % c */
  for (int i = 0; i < rest.n; i++) {
    Expr *a = rest.t[i].atom;
    bool peel = is_split(a, OP_MOD) && a->arg[1]->num.i % c == 0 && in.n + rest.n + a->arg[0]->n < CAPACITY;
    peeled |= peel;
    lin_add(g, &in, rest.t[i].coef, peel ? a->arg[0] : a);
  }
  Expr *e = lin_make(g, &in), *r;
  if (peeled)
    r = ex_mod_const(g, e, c);
  else
    r = inside(e, c) ? e : raw_split(g, OP_MOD, e, c);
  Lin out;
  lin_init(&out, left);
  lin_add(g, &out, k, r);
  return lin_make(g, &out);
}
