/* Intervals of index expressions, decisions about conditions, affine forms.
 *
 * An interval holds the value that the machine computes: where i64 arithmetic could wrap, the answer is everything.
 * Bounds of iterators come from the box. Conjuncts of the guard are linear constraints a <= b; they are used twice:
 *   propagation   the interval of every atom in a constraint is cut by the intervals of the others (three rounds)
 *   elimination   a linear form s is bounded by s - l*(a - b) for the l >= 0 that cancels one atom (Fourier-Motzkin)
 * Only constraints whose two sides cannot wrap count. A constraint that cannot hold makes everything empty. */
#include "graph/affine.h"
#include "graph/internal.h"
#include "graph/scalar_eval.h"
#include <string.h>

typedef __int128 Wide;
enum { MAX_CON = 24, MAX_ATOM = 48, MAX_DEPTH = 24, BUDGET = 4000, ROUNDS = 3, SMALL_CONST = 4096 };
#define COEF_MAX (INT64_C(1) << 48) /* sums of MAX terms of such coefficients and any i64 fit in 128 bits */
#define EMPTY ((Interval){INT64_MAX, INT64_MIN})

/* diff + less <= 0 holds; `ne`: diff != 0 instead. */
typedef struct {
  Expr *diff;
  int64_t less;
  bool ne;
} Con;
typedef struct {
  Expr *atom;
  Interval iv;
} Known;
typedef struct Ctx {
  Graph *g;
  const Box *box;
  int ncon, nknown, depth, budget;
  bool infeasible;
  Con con[MAX_CON];
  Known known[MAX_ATOM];
} Ctx;

static void begin(Ctx *x, Graph *g, const Box *b, Expr *guard);
static Interval range(Ctx *x, Expr *e);
static int decide(Ctx *x, Expr *c);

static bool empty(Interval v) { return v.lo > v.hi; }
static bool all(Interval v) { return v.lo == INT64_MIN && v.hi == INT64_MAX; }
static Interval of(Wide lo, Wide hi) {
  return (Interval){lo < INT64_MIN   ? INT64_MIN
                    : lo > INT64_MAX ? INT64_MAX
                                     : (int64_t)lo,
                    hi > INT64_MAX   ? INT64_MAX
                    : hi < INT64_MIN ? INT64_MIN
                                     : (int64_t)hi};
}
/* What a machine operation with these mathematical bounds gives: anything once it can wrap. */
static Interval machine(Wide lo, Wide hi) { return lo < INT64_MIN || hi > INT64_MAX ? INTERVAL_ALL : of(lo, hi); }
static Interval meet(Interval a, Interval b) {
  Interval r = {a.lo > b.lo ? a.lo : b.lo, a.hi < b.hi ? a.hi : b.hi};
  return empty(r) ? EMPTY : r;
}
static Interval hull(Interval a, Interval b) {
  if (empty(a)) return b;
  if (empty(b)) return a;
  return (Interval){a.lo < b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi};
}
static Interval of_type(DType t) { return dt_is_float(t) ? INTERVAL_ALL : (Interval){dt_int_min(t), dt_int_max(t)}; }
static Wide wide_floordiv(Wide a, Wide b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

/* ---- Linear forms as seen by constraints ------------------------------------------------------------------------- */

typedef struct {
  Wide c;
  int n;
  bool ok;
  struct {
    Wide coef;
    Expr *atom;
  } t[2 * MAX_ATOM];
} Form;

static void form_init(Form *f) {
  f->c = 0;
  f->n = 0;
  f->ok = true;
}

static void form_add(Form *f, Wide k, Expr *e) {
  if (e->kind == EX_CONST) {
    f->c += k * e->num.i;
    return;
  }
  int n = e->kind == EX_LIN ? e->n : 1;
  if (e->kind == EX_LIN) f->c += k * e->num.i;
  for (int i = 0; i < n; i++) {
    Expr *atom = e->kind == EX_LIN ? e->arg[i] : e;
    Wide coef = k * (e->kind == EX_LIN ? e->coef[i] : 1);
    int j = 0;
    while (j < f->n && f->t[j].atom != atom) j++;
    if (j == f->n) {
      if (f->n == 2 * MAX_ATOM) {
        f->ok = false;
        return;
      }
      f->t[f->n].atom = atom;
      f->t[f->n++].coef = 0;
    }
    f->t[j].coef += coef;
    if (f->t[j].coef > COEF_MAX || f->t[j].coef < -COEF_MAX) f->ok = false;
  }
  if (f->c > (Wide)INT64_MAX * COEF_MAX || f->c < (Wide)INT64_MIN * COEF_MAX) f->ok = false;
}

/* Mathematical bounds of a form; false when some atom is empty or the form is out of reach. */
static bool form_bounds(Ctx *x, const Form *f, Wide *lo, Wide *hi) {
  *lo = *hi = f->c;
  if (!f->ok) return false;
  for (int i = 0; i < f->n; i++) {
    if (!f->t[i].coef) continue;
    Interval v = range(x, f->t[i].atom);
    if (empty(v)) return x->infeasible = true, false;
    Wide a = f->t[i].coef * v.lo, b = f->t[i].coef * v.hi;
    *lo += a < b ? a : b;
    *hi += a < b ? b : a;
  }
  return true;
}

/* Bounds of e tightened by eliminating one atom with each constraint. */
static void eliminate(Ctx *x, Expr *e, Wide *lo, Wide *hi) {
  for (int c = 0; c < x->ncon; c++) {
    const Con *con = &x->con[c];
    if (con->ne) continue;
    Form d, s;
    form_init(&d);
    form_init(&s);
    form_add(&d, 1, con->diff);
    form_add(&s, 1, e);
    d.c += con->less;
    if (!d.ok || !s.ok) continue;
    for (int i = 0; i < s.n; i++)
      for (int j = 0; j < d.n; j++) {
        if (s.t[i].atom != d.t[j].atom || !d.t[j].coef || !s.t[i].coef) continue;
        Wide p = d.t[j].coef < 0 ? -d.t[j].coef : d.t[j].coef, q = s.t[i].coef < 0 ? -s.t[i].coef : s.t[i].coef, l, h;
        bool same = (d.t[j].coef < 0) == (s.t[i].coef < 0);
        Form m; /* p*s -+ q*(d), d <= 0 */
        form_init(&m);
        m.c = p * s.c + (same ? -q : q) * d.c;
        for (int k = 0; k < s.n; k++) m.t[m.n].atom = s.t[k].atom, m.t[m.n++].coef = p * s.t[k].coef;
        for (int k = 0; k < d.n; k++) {
          int at = 0;
          while (at < m.n && m.t[at].atom != d.t[k].atom) at++;
          if (at == m.n && at == 2 * MAX_ATOM) {
            m.ok = false;
            break;
          }
          if (at == m.n) m.t[m.n].atom = d.t[k].atom, m.t[m.n++].coef = 0;
          m.t[at].coef += (same ? -q : q) * d.t[k].coef;
          if (m.t[at].coef > COEF_MAX || m.t[at].coef < -COEF_MAX) m.ok = false;
        }
        if (!form_bounds(x, &m, &l, &h)) continue;
        if (same) {
          if ((h = wide_floordiv(h, p)) < *hi) *hi = h;
        } else if ((l = -wide_floordiv(-l, p)) > *lo)
          *lo = l;
      }
  }
}

/* ---- Intervals --------------------------------------------------------------------------------------------------- */

static Interval const_range(const Node *n) {
  int64_t size = nd_size(n);
  if (dt_is_float(n->dtype) || size > SMALL_CONST) return of_type(n->dtype);
  Interval r = EMPTY;
  for (int64_t i = 0; i < size; i++) {
    int64_t v = dt_get_i(n->dtype, n->data, i);
    r = hull(r, (Interval){v, v});
  }
  return r;
}

/* Values of a comp of integers: its body's over its own iteration space. */
static Interval comp_range(Ctx *x, const Node *n) {
  const Comp *c = &n->comp;
  Wide points = 1;
  for (int i = 0; i < c->nred; i++) points *= c->extent[c->nout + i];
  if (c->op == RED_ARGMAX || c->op == RED_ARGMIN) return points ? of(0, points - 1) : (Interval){0, 0};
  if ((c->op != RED_NONE && c->op != RED_MAX && c->op != RED_MIN) || c->nout + c->nred > 2 * TG_MAX_RANK)
    return of_type(n->dtype);
  if (c->nred && (c->guard || !points)) return of_type(n->dtype);
  Interval iter[2 * TG_MAX_RANK];
  for (int i = 0; i < c->nout + c->nred; i++) iter[i] = (Interval){0, c->extent[i] - 1};
  Box box = {.niter = c->nout + c->nred, .iter = iter};
  Ctx inner;
  begin(&inner, x->g, &box, NULL);
  inner.depth = x->depth + 8;
  inner.budget = x->budget / 2;
  Interval r = range(&inner, c->body);
  x->budget -= x->budget / 2 - inner.budget;
  return c->guard ? hull(r, (Interval){0, 0}) : r;
}

static Interval load_range(Ctx *x, const Expr *e) {
  const Node *n = e->node;
  Interval r = of_type(n->dtype);
  if (n->kind == ND_PARAM && n->rank == 0 && n->param.lo <= n->param.hi)
    r = (Interval){n->param.lo, n->param.hi};
  else if (n->kind == ND_CONST)
    r = const_range(n);
  else if (n->kind == ND_COMP && !dt_is_float(n->dtype) && x->depth < MAX_DEPTH)
    r = comp_range(x, n);
  return e->mask ? hull(r, (Interval){0, 0}) : r;
}

static Interval lin_range(Ctx *x, Expr *e) {
  Form f;
  Wide lo, hi;
  form_init(&f);
  form_add(&f, 1, e);
  if (!form_bounds(x, &f, &lo, &hi)) return x->infeasible ? EMPTY : INTERVAL_ALL;
  if (lo < INT64_MIN || hi > INT64_MAX) return INTERVAL_ALL;
  eliminate(x, e, &lo, &hi);
  return lo > hi ? EMPTY : of(lo, hi);
}

static Interval product(Interval a, Interval b) {
  Wide v[4] = {(Wide)a.lo * b.lo, (Wide)a.lo * b.hi, (Wide)a.hi * b.lo, (Wide)a.hi * b.hi}, lo = v[0], hi = v[0];
  for (int i = 1; i < 4; i++) {
    if (v[i] < lo) lo = v[i];
    if (v[i] > hi) hi = v[i];
  }
  return machine(lo, hi);
}

static Interval quotient(Interval a, Interval b) {
  if (b.lo <= 0) return INTERVAL_ALL;
  int64_t v[4] = {tg_floordiv(a.lo, b.lo), tg_floordiv(a.lo, b.hi), tg_floordiv(a.hi, b.lo), tg_floordiv(a.hi, b.hi)};
  Interval r = {v[0], v[0]};
  for (int i = 1; i < 4; i++) r = hull(r, (Interval){v[i], v[i]});
  return r;
}

static Interval remainder_(Interval a, Interval b) {
  if (b.lo <= 0) return INTERVAL_ALL;
  if (b.lo == b.hi && tg_floordiv(a.lo, b.lo) == tg_floordiv(a.hi, b.lo))
    return (Interval){tg_floormod(a.lo, b.lo), tg_floormod(a.hi, b.lo)};
  return (Interval){0, a.lo >= 0 && a.hi < b.hi - 1 ? a.hi : b.hi - 1};
}

static void assume(Ctx *x, Expr *c, bool truth);
static void propagate(Ctx *x);

/* Both arms, each under its condition. */
static Interval select_range(Ctx *x, const Expr *e) {
  int d = decide(x, e->arg[0]);
  if (d >= 0) return range(x, e->arg[d ? 1 : 2]);
  Interval r = EMPTY;
  for (int arm = 1; arm <= 2; arm++) {
    if (x->depth > 6) {
      r = hull(r, range(x, e->arg[arm]));
      continue;
    }
    Ctx inner = *x;
    inner.depth = x->depth + 2;
    assume(&inner, e->arg[0], arm == 1);
    propagate(&inner);
    Interval v = inner.infeasible ? EMPTY : range(&inner, e->arg[arm]);
    x->budget = inner.budget;
    r = hull(r, v);
  }
  return r;
}

static Interval op_range(Ctx *x, Expr *e) {
  Interval type = of_type(e->dtype), a, b, r = type;
  if (e->dtype == DT_BOOL) {
    int d = decide(x, e);
    return d < 0 ? type : (Interval){d, d};
  }
  if (dt_is_float(e->dtype)) return type;
  if (e->op == OP_SELECT) return select_range(x, e);
  if (e->op == OP_CAST && dt_is_float(e->arg[0]->dtype)) return type;
  if (e->op == OP_SIGN) return (Interval){-1, 1};
  if (e->op == OP_PHILOX || e->op == OP_POW || e->op == OP_XOR) return type;
  a = range(x, e->arg[0]);
  b = e->n > 1 ? range(x, e->arg[1]) : a;
  if (empty(a) || empty(b)) return EMPTY;
  switch (e->op) {
  case OP_ADD:
    r = machine((Wide)a.lo + b.lo, (Wide)a.hi + b.hi);
    break;
  case OP_SUB:
    r = machine((Wide)a.lo - b.hi, (Wide)a.hi - b.lo);
    break;
  case OP_NEG:
    r = machine(-(Wide)a.hi, -(Wide)a.lo);
    break;
  case OP_MUL:
    r = product(a, b);
    break;
  case OP_FLOORDIV:
    r = quotient(a, b);
    break;
  case OP_MOD:
    r = remainder_(a, b);
    break;
  case OP_MAX:
    return (Interval){a.lo > b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi};
  case OP_MIN:
    return (Interval){a.lo < b.lo ? a.lo : b.lo, a.hi < b.hi ? a.hi : b.hi};
  case OP_ABS:
    r = a.lo >= 0 ? a : machine(a.hi < 0 ? -(Wide)a.hi : 0, -(Wide)a.lo > a.hi ? -(Wide)a.lo : a.hi);
    break;
  case OP_CAST:
  case OP_STOP:
    r = a;
    break;
  case OP_BAND:
    if (b.lo >= 0)
      r = (Interval){0, b.hi};
    else if (a.lo >= 0)
      r = (Interval){0, a.hi};
    break;
  case OP_SHR:
    if (b.lo == b.hi && b.lo > 0 && b.lo < 64)
      r = a.lo >= 0 ? (Interval){a.lo >> b.lo, a.hi >> b.lo} : (Interval){0, (int64_t)(UINT64_MAX >> b.lo)};
    break;
  default:
    break;
  }
  return r.lo < type.lo || r.hi > type.hi ? type : r; /* out of the dtype: it wraps */
}

static Interval range(Ctx *x, Expr *e) {
  if (e->kind == EX_CONST) return dt_is_float(e->dtype) ? INTERVAL_ALL : (Interval){e->num.i, e->num.i};
  Interval known = INTERVAL_ALL, r = of_type(e->dtype);
  for (int i = 0; i < x->nknown; i++)
    if (x->known[i].atom == e) {
      known = x->known[i].iv;
      break;
    }
  if (x->depth >= MAX_DEPTH || x->budget <= 0) return meet(known, r);
  x->depth++;
  x->budget--;
  switch (e->kind) {
  case EX_ITER:
    r = e->num.i < x->box->niter ? x->box->iter[e->num.i] : INTERVAL_ALL;
    break;
  case EX_VAR:
    r = x->box->var ? x->box->var(x->box->ctx, e->num.i) : INTERVAL_ALL;
    break;
  case EX_LOAD:
    r = load_range(x, e);
    break;
  case EX_LIN:
    r = lin_range(x, e);
    break;
  case EX_OP:
    r = op_range(x, e);
    break;
  default:
    break;
  }
  x->depth--;
  return empty(r) ? EMPTY : meet(known, r);
}

/* ---- Constraints ------------------------------------------------------------------------------------------------- */

static bool wraps(Ctx *x, Expr *side) { return side->kind == EX_LIN && all(range(x, side)); }

/* Adds lo <= hi - less (or lo != hi) over integers of any dtype. */
static void constrain(Ctx *x, Expr *lo, Expr *hi, int64_t less, bool ne) {
  if (x->ncon == MAX_CON || lo->dtype == DT_BOOL || dt_is_float(lo->dtype)) return;
  lo = ex_cast(x->g, DT_I64, lo);
  hi = ex_cast(x->g, DT_I64, hi);
  if (wraps(x, lo) || wraps(x, hi)) return;
  x->con[x->ncon++] = (Con){ex_op2(x->g, OP_SUB, lo, hi), less, ne};
}

static void assume(Ctx *x, Expr *c, bool truth) {
  ScalarOp both = truth ? OP_AND : OP_OR;
  for (; c->kind == EX_OP && c->op == both; c = c->arg[0]) assume(x, c->arg[1], truth); /* chains lean to the left */
  if (c->kind == EX_CONST) {
    if ((c->num.i != 0) != truth) x->infeasible = true;
    return;
  }
  if (c->kind != EX_OP) return;
  Expr *a = c->arg[0], *b = c->n > 1 ? c->arg[1] : NULL;
  switch (c->op) {
  case OP_NOT:
    assume(x, a, !truth);
    break;
  case OP_LT:
    truth ? constrain(x, a, b, 1, false) : constrain(x, b, a, 0, false);
    break;
  case OP_LE:
    truth ? constrain(x, a, b, 0, false) : constrain(x, b, a, 1, false);
    break;
  case OP_GT:
    truth ? constrain(x, b, a, 1, false) : constrain(x, a, b, 0, false);
    break;
  case OP_GE:
    truth ? constrain(x, b, a, 0, false) : constrain(x, a, b, 1, false);
    break;
  case OP_EQ:
  case OP_NE:
    if ((c->op == OP_EQ) == truth) {
      constrain(x, a, b, 0, false);
      constrain(x, b, a, 0, false);
    } else
      constrain(x, a, b, 0, true);
    break;
  default:
    break;
  }
}

static void learn(Ctx *x, Expr *atom, Interval v) {
  int i = 0;
  while (i < x->nknown && x->known[i].atom != atom) i++;
  if (i == x->nknown) {
    if (x->nknown == MAX_ATOM) return;
    x->known[x->nknown++] = (Known){atom, INTERVAL_ALL};
  }
  x->known[i].iv = meet(x->known[i].iv, v);
  if (empty(x->known[i].iv)) x->infeasible = true;
}

/* Cuts the interval of each atom of each constraint by the others'. */
static void propagate(Ctx *x) {
  for (int round = 0; round < ROUNDS && !x->infeasible; round++)
    for (int c = 0; c < x->ncon && !x->infeasible; c++) {
      const Con *con = &x->con[c];
      Form f;
      form_init(&f);
      form_add(&f, 1, con->diff);
      f.c += con->less;
      if (!f.ok) continue;
      Wide lo, hi;
      if (!f.n) { /* no atoms: holds or not */
        if (con->ne ? f.c == 0 : f.c > 0) x->infeasible = true;
        continue;
      }
      for (int i = 0; i < f.n && !x->infeasible; i++) {
        Wide a = f.t[i].coef;
        f.t[i].coef = 0;
        bool known = a && form_bounds(x, &f, &lo, &hi);
        f.t[i].coef = a;
        if (!known) continue;
        Interval v = range(x, f.t[i].atom);
        if (con->ne) { /* a*t + rest != 0 with rest fixed: cut an end */
          if (lo != hi || lo % a) continue;
          Wide out = -lo / a;
          if (out == v.lo && v.lo < v.hi)
            v.lo++;
          else if (out == v.hi && v.lo < v.hi)
            v.hi--;
          else if (out == v.lo && out == v.hi)
            v = EMPTY;
        } else if (a > 0) { /* a*t <= -lo */
          Wide top = wide_floordiv(-lo, a);
          if (top < v.lo)
            v = EMPTY;
          else if (top < v.hi)
            v.hi = (int64_t)top;
        } else { /* t >= lo / -a, rounded up */
          Wide low = -wide_floordiv(-lo, -a);
          if (low > v.hi)
            v = EMPTY;
          else if (low > v.lo)
            v.lo = (int64_t)low;
        }
        learn(x, f.t[i].atom, v);
      }
    }
}

static int negate(int d) { return d < 0 ? d : !d; }

/* a <= b - less on the whole box: 1, nowhere: 0, else -1. */
static int decide_le(Ctx *x, Expr *a, Expr *b, int64_t less) {
  Interval p = range(x, a), q = range(x, b);
  if (empty(p) || empty(q)) return -1;
  if ((Wide)p.hi + less <= q.lo) return 1;
  if ((Wide)p.lo + less > q.hi) return 0;
  if (a->dtype != DT_I64 || wraps(x, a) || wraps(x, b)) return -1;
  Expr *d = ex_op2(x->g, OP_SUB, a, b);
  Form f;
  form_init(&f);
  form_add(&f, 1, d);
  Wide lo, hi;
  if (!form_bounds(x, &f, &lo, &hi)) return -1;
  eliminate(x, d, &lo, &hi);
  return hi + less <= 0 ? 1 : lo + less > 0 ? 0 : -1;
}

static int decide(Ctx *x, Expr *c) {
  if (c->kind == EX_CONST) return c->num.i != 0;
  if (c->kind != EX_OP || x->depth >= MAX_DEPTH || x->budget <= 0) return -1;
  Expr *a = c->arg[0], *b = c->n > 1 ? c->arg[1] : NULL;
  int p, q, r = -1;
  bool ints = !dt_is_float(a->dtype) && a->dtype != DT_BOOL;
  x->depth++;
  x->budget--;
  switch (c->op) {
  case OP_NOT:
    r = negate(decide(x, a));
    break;
  case OP_AND:
    p = decide(x, a);
    q = p == 0 ? 0 : decide(x, b);
    r = p == 0 || q == 0 ? 0 : p == 1 && q == 1 ? 1 : -1;
    break;
  case OP_OR:
    p = decide(x, a);
    q = p == 1 ? 1 : decide(x, b);
    r = p == 1 || q == 1 ? 1 : p == 0 && q == 0 ? 0 : -1;
    break;
  case OP_LT:
    r = ints ? decide_le(x, a, b, 1) : -1;
    break;
  case OP_LE:
    r = ints ? decide_le(x, a, b, 0) : -1;
    break;
  case OP_GT:
    r = ints ? decide_le(x, b, a, 1) : -1;
    break;
  case OP_GE:
    r = ints ? decide_le(x, b, a, 0) : -1;
    break;
  case OP_EQ:
  case OP_NE:
    if (!ints) break;
    p = decide_le(x, a, b, 0);
    q = decide_le(x, b, a, 0);
    r = p == 0 || q == 0 ? 0 : p == 1 && q == 1 ? 1 : -1;
    for (int i = 0; i < x->ncon && r < 0; i++) /* a != b assumed as such */
      if (x->con[i].ne && a->dtype == DT_I64 &&
          (x->con[i].diff == ex_op2(x->g, OP_SUB, a, b) || x->con[i].diff == ex_op2(x->g, OP_SUB, b, a)))
        r = 0;
    if (c->op == OP_NE) r = negate(r);
    break;
  case OP_SELECT:
    p = decide(x, a);
    if (p >= 0) r = decide(x, c->arg[p ? 1 : 2]);
    break;
  default:
    break;
  }
  x->depth--;
  return r;
}

static void begin(Ctx *x, Graph *g, const Box *b, Expr *guard) {
  x->g = g; /* not the tables: they are long, and empty by their counts */
  x->box = b;
  x->ncon = x->nknown = x->depth = 0;
  x->budget = BUDGET;
  x->infeasible = false;
  for (int i = 0; i < b->niter; i++)
    if (empty(b->iter[i])) x->infeasible = true;
  if (!guard || x->infeasible) return;
  assume(x, guard, true);
  propagate(x);
  if (x->ncon > 1 && !x->infeasible) { /* sides that seemed to wrap may be bounded now */
    x->ncon = 0;
    assume(x, guard, true);
    propagate(x);
  }
}

/* ---- Public ------------------------------------------------------------------------------------------------------ */

Interval ex_interval(Graph *g, Expr *e, const Box *b, Expr *guard) {
  Ctx x;
  begin(&x, g, b, guard);
  if (x.infeasible) return EMPTY;
  return range(&x, e);
}

int ex_decide_under(Graph *g, Expr *cond, const Box *b, Expr *guard) {
  Ctx x;
  begin(&x, g, b, guard);
  return x.infeasible ? -1 : decide(&x, cond);
}

int ex_decide(Graph *g, Expr *cond, const Box *b) { return ex_decide_under(g, cond, b, NULL); }

bool ex_affine(Graph *g, Expr *e, int niter, int64_t *coef, int64_t *c, Expr **rest) {
  memset(coef, 0, sizeof *coef * (size_t)niter);
  *c = 0;
  *rest = NULL;
  if (e->kind == EX_CONST) return *c = e->num.i, true;
  bool lin = e->kind == EX_LIN;
  int n = lin ? e->n : 1, left = 0;
  if (lin) *c = e->num.i;
  for (int i = 0; i < n; i++) {
    Expr *a = lin ? e->arg[i] : e;
    if (a->kind == EX_ITER && a->num.i < niter)
      coef[a->num.i] = lin ? e->coef[i] : 1;
    else
      left++;
  }
  if (!left) return true;
  if (!lin) return *rest = e, false;
  Expr *r = ex_int(g, DT_I64, 0);
  for (int i = 0; i < n; i++)
    if (e->arg[i]->kind != EX_ITER || e->arg[i]->num.i >= niter)
      r = ex_lin(g, 0, 2, (int64_t[]){1, e->coef[i]}, (Expr *[]){r, e->arg[i]});
  *rest = r;
  return false;
}

ScalarOp ex_affine_cond(Graph *g, Expr *cond, int niter, int64_t *coef, int64_t *c) {
  int64_t sub;
  Expr *rest;
  if (cond->kind != EX_OP || cond->op < OP_EQ || cond->op > OP_GE || cond->arg[0]->dtype != DT_I64) return OP_COUNT;
  bool less = cond->op == OP_LT || cond->op == OP_LE, strict = cond->op == OP_LT || cond->op == OP_GT;
  Expr *from = cond->arg[less], *take = cond->arg[!less]; /* the condition is from - take - strict against 0 */
  int64_t *with = arena_array(g->arena, int64_t, niter ? niter : 1);
  if (!ex_affine(g, from, niter, coef, c, &rest) || !ex_affine(g, take, niter, with, &sub, &rest)) return OP_COUNT;
  bool over = __builtin_sub_overflow(*c, sub, c) || __builtin_sub_overflow(*c, (int64_t)strict, c);
  for (int k = 0; k < niter; k++) over |= __builtin_sub_overflow(coef[k], with[k], &coef[k]);
  if (over) return OP_COUNT;
  return cond->op == OP_EQ || cond->op == OP_NE ? cond->op : OP_GE;
}
