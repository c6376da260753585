/* Accuracy of the elementary functions against long double libm, over all bit patterns' ranges and at special values.
 */
#include "codegen/cpu/vmath.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static uint64_t rnd(uint64_t *s) {
  *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
  return *s;
}
static long double truth(ScalarOp op, long double x, long double y) {
  switch (op) {
  case OP_EXP:
    return expl(x);
  case OP_EXPM1:
    return expm1l(x);
  case OP_LOG:
    return logl(x);
  case OP_LOG1P:
    return log1pl(x);
  case OP_SIN:
    return sinl(x);
  case OP_COS:
    return cosl(x);
  case OP_TAN:
    return tanl(x);
  case OP_TANH:
    return tanhl(x);
  case OP_SIGMOID:
    return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x));
  case OP_ERF:
    return erfl(x);
  default:
    return powl(x, y);
  }
}
static double ulps(bool wide, double got, long double want) {
  long double w = wide ? (long double)(double)want : (long double)(float)want;
  if (isnan(want)) return isnan(got) ? 0 : INFINITY;
  if (isinf(w)) return (long double)got == w ? 0 : INFINITY;
  if (!isfinite(got)) return INFINITY;
  int e, digits = wide ? 53 : 24, least = wide ? -1021 : -125;
  frexpl(want, &e);
  if (want == 0 || e < least) e = least;
  return (double)(fabsl((long double)got - want) / ldexpl(1, e - digits));
}
static const ScalarOp ops[] = {OP_EXP, OP_EXPM1, OP_LOG,     OP_LOG1P, OP_SIN, OP_COS,
                               OP_TAN, OP_TANH,  OP_SIGMOID, OP_ERF,   OP_POW};
enum { NOP = sizeof ops / sizeof *ops };

static void wide_range(bool wide) {
  static const double limit[NOP] = {1.2, 2, 1, 1.7, 1, 1, 2.3, 2.6, 2.6, 1.3, 1.8};
  for (int k = 0; k < NOP; k++) {
    uint64_t s = 42 + (uint64_t)k;
    double worst = 0, at = 0, at_y = 0;
    for (int i = 0; i < 60000; i++) {
      uint64_t bits = rnd(&s);
      double unit = (double)(int64_t)rnd(&s) * 0x1p-63, x, y = 0;
      float f;
      uint32_t low = (uint32_t)bits;
      memcpy(&f, &low, 4);
      memcpy(&x, &bits, 8);
      if (i % 4 == 0)
        x = wide ? x : f; /* any bit pattern */
      else if (i % 4 == 1)
        x = unit * 4;
      else if (i % 4 == 2)
        x = unit * (wide ? 740 : 100);
      else
        x = unit * exp2((double)(rnd(&s) % 60) - 30);
      if (ops[k] == OP_POW) {
        y = (double)(int64_t)rnd(&s) * 0x1p-63 * exp2((double)(rnd(&s) % 20) - 8);
        if (i % 3) x = fabs(x);
      }
      if (!wide) x = (float)x, y = (float)y;
      double e = ulps(wide, vm_eval(ops[k], wide, x, y), truth(ops[k], x, y));
      if (e > worst) worst = e, at = x, at_y = y;
    }
    cr_expect_leq(worst, limit[k], "%s %s: %g ulp at %.17g, %.17g", wide ? "f64" : "f32", op_info[ops[k]].name, worst,
                  at, at_y);
  }
}
Test(cpu_vmath, f32) { wide_range(false); }
Test(cpu_vmath, f64) { wide_range(true); }

Test(cpu_vmath, special) {
  static const double v[] = {0.0,    -0.0,    INFINITY, -INFINITY, NAN,    1,      -1,     2,     -2,     0.5,  -0.5,
                             1e-310, -1e-310, 5e-324,   1e-45,     1e-40,  3e38,   -3e38,  1e300, -1e300, 88.7, 89,
                             -87,    -103,    -104,     709.7,     709.8,  -745,   -746,   3,     -3,     1e22, 1e-20,
                             100,    1e15,    0.7,      1.5,       0x1p45, 0x1p44, 0x1p60, 0x1p53};
  enum { N = sizeof v / sizeof *v };
  for (int wide = 0; wide < 2; wide++)
    for (int k = 0; k < NOP; k++)
      for (int i = 0; i < (ops[k] == OP_POW ? N * N : N); i++) {
        double x = wide ? v[i % N] : (float)v[i % N], y = wide ? v[i / N] : (float)v[i / N];
        if (ops[k] != OP_POW) y = 0;
        double got = vm_eval(ops[k], wide, x, y);
        long double want = truth(ops[k], x, y);
        bool sign = got != 0 || want != 0 || !signbit(got) == !signbit(want);
        cr_expect(ulps(wide, got, want) <= 3 && sign, "%s %s(%g, %g) = %g, want %Lg", wide ? "f64" : "f32",
                  op_info[ops[k]].name, x, y, got, want);
      }
}
