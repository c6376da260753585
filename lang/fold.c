/* Static arithmetic: numbers, bools, and literal lists, computed while checking.
 *
 * Integers are exact 64-bit (V_OVERFLOW, V_DIVZERO), decimals are f64 until they meet a dtype. A literal list
 * ([1, 2, 3], weak) is folded element by element by the same rules, so it stays a literal: [1, 2] * 2 fits u8. */
#include "graph/scalar_eval.h"
#include "lang/fold.h"
#include <math.h>
#include <string.h>

static const struct {
  ScalarOp op;
  const char *text;
} symbols[] = {
    {OP_ADD, "+"}, {OP_SUB, "-"}, {OP_MUL, "*"}, {OP_DIV, "/"}, {OP_FLOORDIV, "//"}, {OP_MOD, "%"}, {OP_POW, "^"},
    {OP_EQ, "=="}, {OP_NE, "!="}, {OP_LT, "<"},  {OP_LE, "<="}, {OP_GT, ">"},        {OP_GE, ">="}, {OP_NEG, "-"},
};

const char *op_text(ScalarOp op) {
  for (size_t k = 0; k < sizeof symbols / sizeof *symbols; k++)
    if (symbols[k].op == op) return symbols[k].text;
  return op_info[op].name;
}

static _Noreturn void fail_overflow(Elab *E, ScalarOp op, int64_t x, int64_t y, Span at) {
  if (op_info[op].arity == 1)
    diag_fail(E->d, V_OVERFLOW, at, "%s(%lld) does not fit in 64 bits", op_info[op].name, (long long)x);
  diag_fail(E->d, V_OVERFLOW, at, "%lld %s %lld does not fit in 64 bits", (long long)x, op_text(op), (long long)y);
}

static Num num_i(int64_t i) { return (Num){.i = i, .f = (double)i}; }
static Num num_f(double f) { return (Num){.is_float = true, .f = f}; }
static Num num_b(bool b) { return (Num){.is_bool = true, .i = b, .f = b}; }

static int64_t pow_checked(Elab *E, int64_t x, int64_t y, Span at) {
  int64_t r = 1, b = x;
  for (int64_t n = y; n;) {
    if ((n & 1) && __builtin_mul_overflow(r, b, &r)) fail_overflow(E, OP_POW, x, y, at);
    n >>= 1;
    if (n && __builtin_mul_overflow(b, b, &b)) {
      if (b == 0) bug("overflow to zero");
      fail_overflow(E, OP_POW, x, y, at);
    }
  }
  return r;
}

static bool compare(ScalarOp op, Num x, Num y) {
  bool flt = x.is_float || y.is_float;
  int lt = flt ? x.f < y.f : x.i < y.i, eq = flt ? x.f == y.f : x.i == y.i, gt = flt ? x.f > y.f : x.i > y.i;
  switch (op) {
  case OP_EQ:
    return eq;
  case OP_NE:
    return !eq;
  case OP_LT:
    return lt;
  case OP_LE:
    return lt || eq;
  case OP_GT:
    return gt;
  default:
    return gt || eq;
  }
}

static Num fold_int(Elab *E, ScalarOp op, int64_t x, int64_t y, Span at) {
  int64_t r;
  switch (op) {
  case OP_ADD:
    if (__builtin_add_overflow(x, y, &r)) fail_overflow(E, op, x, y, at);
    return num_i(r);
  case OP_SUB:
    if (__builtin_sub_overflow(x, y, &r)) fail_overflow(E, op, x, y, at);
    return num_i(r);
  case OP_MUL:
    if (__builtin_mul_overflow(x, y, &r)) fail_overflow(E, op, x, y, at);
    return num_i(r);
  case OP_NEG:
  case OP_ABS:
    if (x == INT64_MIN) fail_overflow(E, op, x, y, at);
    return num_i(op == OP_ABS && x >= 0 ? x : -x);
  case OP_FLOORDIV:
  case OP_MOD:
  case OP_DIV:
    if (y == 0) diag_fail(E->d, V_DIVZERO, at, "%lld %s 0: division by zero", (long long)x, op_text(op));
    if (op == OP_DIV) return num_f((double)x / (double)y);
    if (op == OP_FLOORDIV && x == INT64_MIN && y == -1) fail_overflow(E, op, x, y, at);
    return num_i(op == OP_MOD ? tg_floormod(x, y) : tg_floordiv(x, y));
  case OP_POW:
    if (y < 0) return num_f(pow((double)x, (double)y));
    if (x == 0 || x == 1) return num_i(y == 0 ? 1 : x);
    if (x == -1) return num_i(y & 1 ? -1 : 1);
    return num_i(pow_checked(E, x, y, at));
  default:
    return num_i(sc_eval_i(op, (int64_t[]){x, y, 0}));
  }
}

bool fold_num(Elab *E, ScalarOp op, int n, const Num *v, Span at, Num *out) {
  Num x = v[0], y = n > 1 ? v[1] : num_i(0);
  bool flt = x.is_float || (n > 1 && y.is_float), bools = x.is_bool && (n < 2 || y.is_bool);
  switch (op_info[op].typing) {
  case 'L':
    if (!bools) return false;
    return *out = num_b(sc_eval_i(op, (int64_t[]){x.i, y.i, 0}) != 0), true;
  case 'C':
    return *out = num_b(compare(op, x, y)), true;
  case 'P':
    return *out = num_b(sc_eval_f(op, (double[]){x.f, 0, 0}) != 0), true;
  case 'F':
    if (op == OP_DIV && !flt) return *out = fold_int(E, op, x.i, y.i, at), true;
    return *out = num_f(sc_eval_f(op, (double[]){x.f, y.f, 0})), true;
  case 'N':
    if (op == OP_STOP) return *out = x, true;
    if (bools && (op == OP_MAX || op == OP_MIN)) return *out = num_b(op == OP_MAX ? x.i | y.i : x.i & y.i), true;
    if (!flt) return *out = fold_int(E, op, x.i, y.i, at), true;
    return *out = num_f(sc_eval_f(op, (double[]){x.f, y.f, 0})), true;
  default:
    return false;
  }
}

/* ---- values ---------------------------------------------------------------------------------------------------- */

bool v_num(const Value *v, Num *out) {
  if (v->kind == V_NUM) return *out = v->num.is_float ? num_f(v->num.f) : num_i(v->num.i), true;
  if (v->kind == V_BOOL) return *out = num_b(v->b), true;
  return false;
}

Value *num_value(Elab *E, Num n) {
  return n.is_bool ? v_bool(E, n.i != 0) : n.is_float ? v_float(E, n.f) : v_int(E, n.i, NULL);
}

const Node *weak_const(const TensorV *t) {
  if (!t->weak || t->e->kind != EX_LOAD || t->e->mask || t->e->node->kind != ND_CONST) return NULL;
  return t->e->node;
}

/* A weak list that is exactly its constant, axis by axis. */
static const Node *plain_list(const Value *v) {
  if (v->kind != V_TENSOR) return NULL;
  const Node *c = weak_const(&v->t);
  if (!c || c->rank != v->t.rank) return NULL;
  for (int k = 0; k < c->rank; k++)
    if (v->t.e->arg[k]->kind != EX_ITER || v->t.e->arg[k]->num.i != k) return NULL;
  return c;
}

static Num const_at(const Node *c, int64_t i) {
  DType t = (DType)c->dtype;
  return dt_is_float(t) ? num_f(dt_get_f(t, c->data, i)) : num_i(dt_get_i(t, c->data, i));
}

Value *num_list(Elab *E, int rank, const Dim *dim, int64_t count, const Num *num) {
  bool flt = false, bools = count > 0;
  for (int64_t i = 0; i < count; i++) flt |= num[i].is_float, bools &= num[i].is_bool;
  DType t = flt ? DT_F64 : bools ? DT_BOOL : DT_I64;
  char *data = arena_alloc(E->a, (size_t)(count ? count : 1) * (size_t)dt_bytes(t));
  int64_t d[TG_MAX_RANK];
  for (int k = 0; k < rank; k++) d[k] = dim[k].n;
  for (int64_t i = 0; i < count; i++) {
    if (flt)
      dt_put_f(t, data, i, num[i].f);
    else
      dt_put_i(t, data, i, num[i].i);
  }
  Value *v = v_tensor(E, t, rank, dim, ex_load_full(E->g, nd_const(E->g, t, rank, d, data), 0));
  v->t.weak = t != DT_BOOL;
  return v;
}

/* Element-wise over literal lists and static numbers; NULL when some operand is neither, or shapes do not broadcast
 * (the general path reports that). */
static Value *fold_lists(Elab *E, ScalarOp op, int n, Value *const *v, const Span *at, Span whole) {
  const Node *c[3] = {0};
  Num num[3];
  bool any = false;
  for (int k = 0; k < n; k++) {
    if (v_num(v[k], &num[k])) continue;
    c[k] = plain_list(v[k]);
    if (!c[k]) return NULL;
    any = true;
  }
  if (!any) return NULL;
  Dim dim[TG_MAX_RANK];
  int rank = tv_broadcast(E, n, v, at, whole, op_text(op), dim);
  int64_t count = 1;
  for (int k = 0; k < rank; k++) count *= dim[k].n; /* no larger than the largest operand */
  Num *out = arena_array(E->a, Num, count);
  for (int64_t i = 0; i < count; i++) {
    for (int k = 0; k < n; k++) {
      if (!c[k]) continue;
      int64_t off = 0, rest = i, stride = 1;
      for (int a = rank - 1, b = c[k]->rank - 1; b >= 0; a--, b--) {
        if (c[k]->dim[b] > 1) off += rest % dim[a].n * stride;
        rest /= dim[a].n, stride *= c[k]->dim[b];
      }
      num[k] = const_at(c[k], off);
    }
    if (!fold_num(E, op, n, num, whole, &out[i])) return NULL;
  }
  return num_list(E, rank, dim, count, out);
}

Value *fold_static(Elab *E, ScalarOp op, int n, Value *const *v, const Span *at, Span whole) {
  Num num[3], out;
  for (int k = 0; k < n; k++)
    if (!v_num(v[k], &num[k])) return fold_lists(E, op, n, v, at, whole);
  if (!fold_num(E, op, n, num, whole, &out)) return NULL;
  Value *r = num_value(E, out);
  /* A size computed from one size keeps its history: H - 2. */
  if (r->kind == V_NUM && !r->num.is_float)
    for (int k = 0; k < n && !r->num.from; k++)
      if (v[k]->kind == V_NUM && v[k]->num.from)
        r->num.from = origin_new(E, v[k]->num.from, whole, "%lld is computed here", (long long)r->num.i);
  return r;
}
