/* The maker of operations: dtype rules, constant folding, exact identities.
 *
 * Exact means: for every argument, bit for bit (nan payloads aside). So x * 1 and x - 0 and x + -0.0 go, but not x +
 * 0.0 (-0.0 + 0.0 is 0.0), nor x * 0 or x - x of floats. The one agreed exception is pow by a small whole number, which
 * becomes multiplications. i64 sums and differences become linear forms (linear.c). */
#include "graph/internal.h"
#include "graph/scalar_eval.h"
#include <string.h>

static bool is_const(const Expr *e) { return e->kind == EX_CONST; }
static bool is_num(const Expr *e, double v) {
  if (e->kind != EX_CONST) return false;
  return dt_is_float(e->dtype) ? e->num.f == v && signbit(e->num.f) == signbit(v) : e->num.i == (int64_t)v;
}
static bool is_op(const Expr *e, ScalarOp op) { return e->kind == EX_OP && e->op == op; }

Expr *ex_raw_op(Graph *g, ScalarOp op, DType t, int n, Expr *const *arg) {
  return intern_expr(
      g, &(Expr){.kind = EX_OP, .dtype = (uint8_t)t, .op = (uint8_t)op, .n = n, .arg = arg, .span = g->span});
}

/* The dtype of the result; bug() when the operands break the row's rule. */
static DType result_type(ScalarOp op, int n, Expr *const *arg) {
  const OpInfo *o = &op_info[op];
  if (n != o->arity) bug("%s with %d operands", o->name, n);
  DType t = arg[0]->dtype;
  bool f = dt_is_float(t), same = n < 2 || arg[1]->dtype == t;
  bool ok = same;
  switch (o->typing) {
  case 'F':
    ok = same && f;
    break;
  case 'N':
    ok = same && (f || t != DT_BOOL || op == OP_STOP || op == OP_MAX || op == OP_MIN);
    break;
  case 'I':
    ok = same && !f && t != DT_BOOL;
    break;
  case 'C':
    return ok ? DT_BOOL : (bug("%s of %s and %s", o->name, dt_name(t), dt_name(arg[1]->dtype)), DT_BOOL);
  case 'P':
    ok = f;
    t = DT_BOOL;
    break;
  case 'L':
    ok = same && t == DT_BOOL;
    break;
  case 'B':
    ok = same && t == DT_I64;
    break;
  case 'S':
    ok = t == DT_BOOL && arg[1]->dtype == arg[2]->dtype;
    t = arg[1]->dtype;
    break;
  default:
    bug("%s needs ex_cast", o->name);
  }
  if (!ok)
    bug("%s of %s%s%s", o->name, dt_name(arg[0]->dtype), n > 1 ? " and " : "", n > 1 ? dt_name(arg[1]->dtype) : "");
  return t;
}

/* All operands constant; NULL when the value is a run-time fault (integer division by zero). */
static Expr *evaluate(Graph *g, ScalarOp op, DType t, int n, Expr *const *arg) {
  DType in = arg[0]->dtype;
  if (dt_is_float(in)) {
    double x[3];
    for (int i = 0; i < n; i++) x[i] = arg[i]->num.f;
    double v = sc_eval_f(op, x);
    return dt_is_float(t) ? ex_float(g, t, v) : ex_bool(g, v != 0);
  }
  if ((op == OP_FLOORDIV || op == OP_MOD) && arg[1]->num.i == 0) return NULL;
  int64_t x[3];
  for (int i = 0; i < n; i++) x[i] = arg[i]->num.i;
  return ex_int(g, t, sc_wrap_i(t, sc_eval_i(op, x)));
}

/* i64 arithmetic that is linear. */
static Expr *linear(Graph *g, ScalarOp op, Expr *x, Expr *y) {
  switch (op) {
  case OP_ADD:
    return ex_lin(g, 0, 2, (int64_t[]){1, 1}, (Expr *[]){x, y});
  case OP_SUB:
    return ex_lin(g, 0, 2, (int64_t[]){1, -1}, (Expr *[]){x, y});
  case OP_NEG:
    return ex_lin(g, 0, 1, (int64_t[]){-1}, &x);
  case OP_MUL:
    if (is_const(y)) return ex_lin(g, 0, 1, &y->num.i, &x);
    return is_const(x) ? ex_lin(g, 0, 1, &x->num.i, &y) : NULL;
  case OP_FLOORDIV:
    return is_const(y) && y->num.i > 0 ? ex_floordiv_const(g, x, y->num.i) : NULL;
  case OP_MOD:
    return is_const(y) && y->num.i > 0 ? ex_mod_const(g, x, y->num.i) : NULL;
  default:
    return NULL;
  }
}

/* Comparisons of integers that the difference decides: i < i + 1. */
static Expr *compare(Graph *g, ScalarOp op, Expr *x, Expr *y) {
  bool f = dt_is_float(x->dtype);
  if (x == y && !f) return ex_bool(g, op == OP_EQ || op == OP_LE || op == OP_GE);
  if (f || !expr_x(x)->index || !expr_x(y)->index) return NULL;
  Expr *d = ex_op2(g, OP_SUB, x, y);
  if (is_const(d)) return ex_bool(g, sc_eval_i(op, (int64_t[]){d->num.i, 0}) != 0);
  /* q // c >= k is q >= k*c, and so on */
  Expr *at = d->kind == EX_LIN && d->n == 1 ? d->arg[0] : d;
  int64_t a = d->kind == EX_LIN ? d->coef[0] : 1, k = d->kind == EX_LIN ? d->num.i : 0, c, kc;
  if (op == OP_EQ || op == OP_NE || !is_op(at, OP_FLOORDIV) || !is_const(at->arg[1]) || (a != 1 && a != -1) ||
      (d->kind == EX_LIN && d->n != 1))
    return NULL;
  if ((c = at->arg[1]->num.i) <= 0) return NULL;
  if (a < 0)
    op = op == OP_LT ? OP_GT : op == OP_GT ? OP_LT : op == OP_LE ? OP_GE : OP_LE; /* of -q + k and 0: q and k */
  else
    k = -k;
  bool strict = op == OP_GT || op == OP_LE; /* q > k is q >= k + 1; q <= k is q < k + 1 */
  if (__builtin_mul_overflow(k + strict, c, &kc)) return NULL;
  return ex_op2(g, op == OP_GT || op == OP_GE ? OP_GE : OP_LT, at->arg[0], ex_int(g, DT_I64, kc));
}

static Expr *power(Graph *g, Expr *x, Expr *y) {
  if (!is_const(y)) return NULL;
  double k = dt_is_float(y->dtype) ? y->num.f : (double)y->num.i;
  if (k == 0) return ex_num(g, x->dtype, 1);
  if (k == 1) return x;
  Expr *sq = k == 2 || k == 3 || k == 4 ? ex_op2(g, OP_MUL, x, x) : NULL;
  if (k == 2) return sq;
  if (k == 3) return ex_op2(g, OP_MUL, sq, x);
  if (k == 4) return ex_op2(g, OP_MUL, sq, sq);
  return k == -1 && dt_is_float(x->dtype) ? ex_op2(g, OP_DIV, ex_num(g, x->dtype, 1), x) : NULL;
}

static Expr *identity(Graph *g, ScalarOp op, Expr *x, Expr *y) {
  bool f = dt_is_float(x->dtype);
  switch (op) {
  case OP_ADD:
    if (is_num(y, f ? -0.0 : 0.0)) return x;
    return is_num(x, f ? -0.0 : 0.0) ? y : NULL;
  case OP_SUB:
    if (is_num(y, 0)) return x;
    return x == y && !f ? ex_int(g, x->dtype, 0) : NULL;
  case OP_MUL:
    if (is_num(y, 1)) return x;
    if (is_num(x, 1)) return y;
    if (f && is_num(y, -1)) return ex_op1(g, OP_NEG, x);
    if (f && is_num(x, -1)) return ex_op1(g, OP_NEG, y);
    return !f && (is_num(x, 0) || is_num(y, 0)) ? ex_int(g, x->dtype, 0) : NULL;
  case OP_DIV:
    return is_num(y, 1) ? x : is_num(y, -1) ? ex_op1(g, OP_NEG, x) : NULL;
  case OP_FLOORDIV:
    return !f && is_num(y, 1) ? x : NULL;
  case OP_MOD:
    return !f && is_num(y, 1) ? ex_int(g, x->dtype, 0) : NULL;
  case OP_POW:
    return power(g, x, y);
  case OP_MAX:
  case OP_MIN:
    return x == y ? x : NULL;
  case OP_NEG:
    return is_op(x, OP_NEG) ? x->arg[0] : NULL;
  case OP_ABS:
    return is_op(x, OP_ABS) ? x : f && is_op(x, OP_NEG) ? ex_op1(g, OP_ABS, x->arg[0]) : NULL;
  case OP_FLOOR:
  case OP_CEIL:
  case OP_ROUND:
    return !f || is_op(x, OP_FLOOR) || is_op(x, OP_CEIL) || is_op(x, OP_ROUND) ? x : NULL;
  case OP_EQ:
  case OP_NE:
  case OP_LT:
  case OP_LE:
  case OP_GT:
  case OP_GE:
    return compare(g, op, x, y);
  case OP_AND:
    if (is_const(x)) return x->num.i ? y : x;
    if (is_const(y)) return y->num.i ? x : y;
    return x == y ? x : NULL;
  case OP_OR:
    if (is_const(x)) return x->num.i ? x : y;
    if (is_const(y)) return y->num.i ? y : x;
    return x == y ? x : NULL;
  case OP_NOT:
    if (is_op(x, OP_NOT)) return x->arg[0];
    if (x->kind == EX_OP && x->n == 2 &&
        !dt_is_float(x->arg[0]->dtype)) { /* of floats, nan forbids it but for == and != */
      static const struct {
        ScalarOp op, inverse;
      } inv[] = {{OP_LT, OP_GE}, {OP_GE, OP_LT}, {OP_GT, OP_LE}, {OP_LE, OP_GT}};
      for (int i = 0; i < 4; i++)
        if (x->op == inv[i].op) return ex_op2(g, inv[i].inverse, x->arg[0], x->arg[1]);
    }
    if (is_op(x, OP_EQ) || is_op(x, OP_NE)) return ex_op2(g, x->op == OP_EQ ? OP_NE : OP_EQ, x->arg[0], x->arg[1]);
    return NULL;
  case OP_STOP:
    return is_const(x) || is_op(x, OP_STOP) || !f ? x : NULL;
  case OP_SHR:
  case OP_XOR:
    return is_num(y, 0) ? x : NULL;
  case OP_BAND:
    return is_num(y, -1) ? x : NULL;
  default:
    return NULL;
  }
}

static bool is_conjunct(const Expr *e, const Expr *of) {
  if (e == of) return true;
  while (of && is_op(of, OP_AND)) {
    if (of->arg[1] == e || of->arg[0] == e) return true;
    of = of->arg[0];
  }
  return false;
}

static Expr *select_(Graph *g, Expr *c, Expr *a, Expr *b) {
  if (is_const(c)) return c->num.i ? a : b;
  if (a == b) return a;
  if (is_op(c, OP_NOT)) return ex_select(g, c->arg[0], b, a);
  if (a->dtype == DT_BOOL) { /* conditions stay conditions */
    if (is_const(a)) return a->num.i ? ex_op2(g, OP_OR, c, b) : ex_op2(g, OP_AND, ex_op1(g, OP_NOT, c), b);
    if (is_const(b)) return b->num.i ? ex_op2(g, OP_OR, ex_op1(g, OP_NOT, c), a) : ex_op2(g, OP_AND, c, a);
  }
  /* The mask lives in the load: a load that is not read is 0. */
  if (a->kind == EX_LOAD && is_num(b, 0))
    return is_conjunct(c, a->mask) ? a : ex_load(g, a->node, a->n, a->arg, ex_and(g, a->mask, c), a->checked, a->span);
  if (is_op(a, OP_SELECT) && a->arg[0] == c) return ex_select(g, c, a->arg[1], b);
  if (is_op(b, OP_SELECT) && b->arg[0] == c) return ex_select(g, c, a, b->arg[2]);
  return NULL;
}

Expr *ex_op(Graph *g, ScalarOp op, int n, Expr *const *arg) {
  DType t = result_type(op, n, arg);
  bool all = true;
  for (int i = 0; i < n; i++) all = all && is_const(arg[i]);
  Expr *r = NULL;
  if (op == OP_SELECT)
    r = select_(g, arg[0], arg[1], arg[2]);
  else if (all)
    r = evaluate(g, op, t, n, arg);
  if (!r && arg[0]->dtype == DT_I64 && t == DT_I64 && op != OP_SELECT) r = linear(g, op, arg[0], n > 1 ? arg[1] : NULL);
  if (!r && op != OP_SELECT) r = identity(g, op, arg[0], n > 1 ? arg[1] : NULL);
  if (r) return r;
  if ((op == OP_ADD || op == OP_MUL || op == OP_EQ || op == OP_NE) && is_const(arg[0])) /* constants on the right */
    return ex_raw_op(g, op, t, 2, (Expr *[]){arg[1], arg[0]});
  return ex_raw_op(g, op, t, n, arg);
}

Expr *ex_op1(Graph *g, ScalarOp op, Expr *x) { return ex_op(g, op, 1, &x); }
Expr *ex_op2(Graph *g, ScalarOp op, Expr *x, Expr *y) { return ex_op(g, op, 2, (Expr *[]){x, y}); }
Expr *ex_select(Graph *g, Expr *c, Expr *a, Expr *b) { return ex_op(g, OP_SELECT, 3, (Expr *[]){c, a, b}); }

Expr *ex_and(Graph *g, Expr *a, Expr *b) {
  Expr *r = !a ? b : !b ? a : is_conjunct(b, a) ? a : ex_op2(g, OP_AND, a, b);
  return r && is_const(r) && r->num.i ? NULL : r;
}

/* Every value of t is a value of u. */
static bool contains(DType u, DType t) {
  if (t == u || t == DT_BOOL) return true;
  if (dt_is_float(t)) return dt_is_float(u) && (u == DT_F64 || (u == DT_F32 && t != DT_F64));
  if (!dt_is_float(u)) return u != DT_BOOL && dt_int_min(u) <= dt_int_min(t) && dt_int_max(u) >= dt_int_max(t);
  int digits = u == DT_F64 ? 53 : u == DT_F32 ? 24 : u == DT_F16 ? 11 : 8;
  return 8 * dt_bytes(t) - (t != DT_U8) <= digits;
}

Expr *ex_cast(Graph *g, DType t, Expr *x) {
  if (t == (DType)x->dtype) return x;
  if (is_const(x)) {
    int64_t cell = 0;
    if (dt_is_float(x->dtype))
      dt_put_f(t, &cell, 0, x->num.f);
    else
      dt_put_i(t, &cell, 0, x->num.i);
    return dt_is_float(t) ? ex_float(g, t, dt_get_f(t, &cell, 0)) : ex_int(g, t, dt_get_i(t, &cell, 0));
  }
  if (is_op(x, OP_CAST) && contains(x->dtype, x->arg[0]->dtype)) return ex_cast(g, t, x->arg[0]);
  return ex_raw_op(g, OP_CAST, t, 1, &x);
}
