/* Digits of a vector iterator: x // c and x % c by a constant c, where x = u + lane and u, uniform, is known to begin a period.
 *
 *   c a multiple of 16, u of 16      all lanes have the quotient u // c; lane l the remainder u % c + l
 *   c a divisor of 16, u of c        lane l has the quotient u // c + l // c, and the remainder l % c
 *
 * So merged axes (h * 96 + e), pooling windows and phases need no division by lane and no gather. */
#include "codegen/cpu/emit.h"

#define B E->b

static int64_t gcd(int64_t a, int64_t b) {
  if (a < 0) a = -a;
  if (b < 0) b = -b;
  while (b) {
    int64_t r = a % b;
    a = b;
    b = r;
  }
  return a;
}

static bool is_digit(const Expr *e, int64_t *c) {
  if (e->kind != EX_OP || (e->op != OP_FLOORDIV && e->op != OP_MOD) || e->dtype != DT_I64) return false;
  if (e->arg[1]->kind != EX_CONST || (e->arg[0]->kind != EX_ITER && e->arg[0]->kind != EX_LIN)) return false;
  *c = e->arg[1]->num.i;
  return *c > 1 && (*c % 16 == 0 || 16 % *c == 0);
}

/* x % c along iter, c a multiple of 16: it runs like the iterator itself through any 16 lanes. */
static bool is_run(const Expr *e, int iter) {
  int64_t c;
  return is_digit(e, &c) && e->op == OP_MOD && c % 16 == 0 && em_digit_form(e, iter);
}

bool em_digit_form(const Expr *e, int iter) {
  int64_t c;
  if (!is_digit(e, &c)) return false;
  const Expr *x = e->arg[0];
  int n = x->kind == EX_LIN ? x->n : 1;
  int64_t period = c % 16 ? c : 16, step = 0;
  if (x->kind == EX_LIN && x->num.i % period) return false;
  for (int i = 0; i < n; i++) {
    const Expr *a = x->kind == EX_LIN ? x->arg[i] : x;
    int64_t coef = x->kind == EX_LIN ? x->coef[i] : 1;
    if ((a->kind == EX_ITER && a->num.i == iter) || is_run(a, iter))
      step = coef;
    else if (coef % period || ex_uses_iter(a, iter))
      return false;
  }
  return step == 1;
}

/* x at lane 0, if x has step 1 along the lanes of one aligned iterator and there is a multiple of `period`. */
static bool first_lane(Em *E, Expr *x, int64_t period, Val *out) {
  int n = x->kind == EX_LIN ? x->n : 1, level = 0, nvec = 0;
  int64_t c = x->kind == EX_LIN ? x->num.i : 0, whole = gcd(16, c);
  for (int i = 0; i < n; i++) {
    const Expr *a = x->kind == EX_LIN ? x->arg[i] : x;
    int64_t coef = x->kind == EX_LIN ? x->coef[i] : 1;
    const It *it = a->kind == EX_ITER ? &E->it[a->num.i] : NULL;
    if (it && it->vec) {
      if (!it->aligned || coef != 1 || nvec++) return false;
    } else if (a->kind == EX_OP && E->vec_iter >= 0 && is_run(a, E->vec_iter)) {
      if (coef != 1 || nvec++) return false;
    } else {
      whole = gcd(whole, coef);
    }
  }
  if (nvec != 1 || whole % period) return false;
  LLVMValueRef term[EM_TERMS];
  if (n > EM_TERMS) return false;
  for (int i = 0; i < n; i++) {
    Expr *a = x->kind == EX_LIN ? x->arg[i] : x;
    const It *it = a->kind == EX_ITER ? &E->it[a->num.i] : NULL;
    int64_t lane[16];
    Val y;
    if (it && it->vec)
      y = em_val(E, it->s, false, it->level);
    else if (a->kind != EX_OP || E->vec_iter < 0 || !is_run(a, E->vec_iter))
      y = em_expr(E, a);
    else if (!em_digit(E, a, &y, lane))
      return false;
    if (!y.s) return false;
    term[i] = y.s;
    if (y.level > level) level = y.level;
  }
  em_at(E, level);
  LLVMValueRef sum = em_int(E, c);
  for (int i = 0; i < n; i++) {
    int64_t coef = x->kind == EX_LIN ? x->coef[i] : 1;
    sum = LLVMBuildAdd(B, sum, coef == 1 ? term[i] : LLVMBuildMul(B, term[i], em_int(E, coef), ""), "");
  }
  *out = em_val(E, sum, false, level);
  return true;
}

bool em_digit(Em *E, Expr *e, Val *base, int64_t *lane) {
  int64_t c;
  if (E->width != 16 || !is_digit(e, &c)) return false;
  bool quotient = e->op == OP_FLOORDIV, small = c < 16;
  if (!first_lane(E, e->arg[0], small ? c : 16, base)) return false;
  for (int l = 0; l < 16; l++) lane[l] = quotient ? (small ? l / c : 0) : small ? l % c : l;
  em_at(E, base->level);
  E->vec = false;
  if (small && !quotient)
    *base = em_val(E, em_int(E, 0), false, base->level);
  else
    *base = em_val(E, em_op(E, e, (LLVMValueRef[]){base->s, em_int(E, c)}), false, base->level);
  return true;
}
