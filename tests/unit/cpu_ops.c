/* Every scalar operation on every dtype it takes, as compiled code: values against the oracle, bits against the walker,
 * at sizes that meet whole vectors, tails and nothing at all. */
#include "codegen_support.h"
#include <criterion/criterion.h>

static const int64_t sizes[] = {0, 1, 2, 3, 5, 7, 17, 33};
enum { NSIZE = sizeof sizes / sizeof *sizes };

/* Ordinary values with the troublesome ones strewn in. `whole`: divisors and shifts, never 0. */
static void fill(Tensor *t, int which, bool nonzero) {
  static const double odd[] = {0,  -0.0, INFINITY, -INFINITY, NAN, 1,  -1,    0.5, 2,
                               -3, 1e30, -1e-30,   88,        -90, 20, 1e-42, 700};
  uint64_t s = 77 + (uint64_t)which * 1000;
  for (int64_t i = 0; i < tensor_count(t); i++) {
    uint64_t r = prog_rand(&s) >> 11;
    if (dt_is_float(t->dtype)) {
      double v = (double)r / (double)(1ull << 53) * 8 - 4;
      if (r % 3 == 0) v = odd[(r / 3) % (sizeof odd / sizeof *odd)];
      dt_put_f(t->dtype, t->data, i, v);
    } else {
      int64_t lo = dt_int_min(t->dtype), v = (int64_t)(r % 23) - (lo < 0 ? 11 : 0);
      if (t->dtype == DT_BOOL)
        v = (int64_t)(r & 1);
      else if (r % 7 == 0)
        v = lo;
      else if (r % 7 == 1)
        v = dt_int_max(t->dtype);
      if (nonzero && v == 0) v = 1;
      dt_put_i(t->dtype, t->data, i, v);
    }
  }
}

/* Distance in units of the dtype's last place. */
static double ulps(DType t, double a, double b) {
  if (a == b || (a != a && b != b)) return 0;
  if (!isfinite(a) || !isfinite(b)) return INFINITY;
  int digits = t == DT_F64   ? 53
               : t == DT_F32 ? 24
               : t == DT_F16 ? 11
                             : 8,
      least = t == DT_F64   ? -1021
              : t == DT_F16 ? -13
                            : -125,
      e;
  frexp(b, &e);
  if (e < least) e = least;
  return fabs(a - b) / ldexp(1, e - digits);
}

static void check(const char *text, double limit, bool nonzero) {
  Prog p;
  char *error;
  cr_assert(prog_make(&p, text, false, &error), "%s: %s", text, error);
  for (int i = 0; i < p.nin; i++) fill(&p.in[i], i, nonzero && i == 1);
  Tensor ref[16];
  Fault f = {0};
  EvalOptions o = {0};
  cr_assert(graph_eval(p.g, &p.r, p.nin, p.in, ref, &o, &f), "%s: %s", text, f.msg);
  PlanRun run = prog_plan(&p, 1, -1, 1), walked = prog_plan(&p, 1, INFINITY, 1);
  cr_assert(run.ok && walked.ok, "%s: %s", text, run.fault.msg);
  const Tensor *x = &run.out[0], *y = &ref[0];
  for (int64_t i = 0; i < tensor_count(x); i++) {
    if (dt_is_float(x->dtype)) {
      double a = dt_get_f(x->dtype, x->data, i), b = dt_get_f(y->dtype, y->data, i);
      if (ulps(x->dtype, a, b) > limit) {
        double u = dt_is_float(p.in[0].dtype) ? dt_get_f(p.in[0].dtype, p.in[0].data, i)
                                              : (double)dt_get_i(p.in[0].dtype, p.in[0].data, i);
        cr_expect(false, "%s at [%d] of %.17g: %.17g, want %.17g", text, (int)i, u, a, b);
      }
    } else {
      cr_expect_eq(dt_get_i(x->dtype, x->data, i), dt_get_i(y->dtype, y->data, i), "%s at [%d]", text, (int)i);
    }
  }
  for (int64_t i = 0; i < tensor_count(x); i++) {
    int n = dt_bytes(x->dtype);
    const char *a = (char *)x->data + i * n, *b = (char *)walked.out[0].data + i * n;
    bool nans = dt_is_float(x->dtype) && isnan(dt_get_f(x->dtype, x->data, i)) &&
                isnan(dt_get_f(x->dtype, walked.out[0].data, i));
    cr_expect(nans || !memcmp(a, b, (size_t)n), "%s at [%d]: compiled and walked differ", text, (int)i);
  }
  run_free(&run);
  run_free(&walked);
  tensor_drop(&ref[0]);
  prog_free(&p);
}

static void one(ScalarOp op, DType in, DType out, double limit) {
  const OpInfo *info = &op_info[op];
  bool divides = (op == OP_FLOORDIV || op == OP_MOD) && !dt_is_float(in);
  for (int s = 0; s < NSIZE; s++) {
    char text[800], body[300];
    int n = (int)sizes[s];
    if (op == OP_CAST)
      snprintf(body, sizeof body, "(cast:%s %%0[i0])", dt_name(out));
    else if (op == OP_SELECT)
      snprintf(body, sizeof body, "(select (lt %%0[i0] %%1[i0]) %%0[i0] %%1[i0])");
    else if (info->arity == 1)
      snprintf(body, sizeof body, "(%s %%0[i0])", info->name);
    else
      snprintf(body, sizeof body, "(%s %%0[i0] %%1[i0])", info->name);
    bool two = op == OP_SELECT || info->arity == 2;
    snprintf(text, sizeof text, "%%0 = input %s[%d] \"x\" slot 0\n", dt_name(in), n);
    if (two)
      snprintf(text + strlen(text), sizeof text - strlen(text), "%%1 = input %s[%d] \"y\" slot 1\n", dt_name(in), n);
    snprintf(text + strlen(text), sizeof text - strlen(text), "%%%d = comp %s[%d] for i0 %d: %s\nreturn (%%%d)\n",
             two ? 2 : 1, dt_name(out), n, n, body, two ? 2 : 1);
    check(text, limit, divides);
  }
}

static const DType floats[] = {DT_F32, DT_F64, DT_F16, DT_BF16}, ints[] = {DT_I64, DT_I32, DT_I16, DT_I8, DT_U8};

/* floordiv of floats takes the floor of a rounded quotient, which near a whole number is not the oracle's: see below.
 */
static double limit_of(ScalarOp op, DType t) {
  if (op == OP_FLOORDIV) return INFINITY;
  if (t == DT_F16 || t == DT_BF16) return op_info[op].prim ? 0.5 : 1;
  return op_info[op].prim ? 0.5 : 3;
}

#define IS(c) (op_info[op].typing == (c))
Test(cpu_ops, floats) {
  for (int op = 0; op < OP_COUNT; op++)
    for (int i = 0; i < 4; i++) {
      if (IS('F') || (IS('N') && op_info[op].on_float) || IS('S'))
        one((ScalarOp)op, floats[i], floats[i], limit_of((ScalarOp)op, floats[i]));
      if (IS('C') || IS('P')) one((ScalarOp)op, floats[i], DT_BOOL, 0);
    }
}
Test(cpu_ops, integers) {
  for (int op = 0; op < OP_COUNT; op++)
    for (int i = 0; i < 5; i++) {
      if ((IS('N') && op_info[op].on_int) || IS('I') || IS('S')) one((ScalarOp)op, ints[i], ints[i], 0);
      if (IS('C')) one((ScalarOp)op, ints[i], DT_BOOL, 0);
      if (IS('B') && ints[i] == DT_I64) one((ScalarOp)op, DT_I64, DT_I64, 0);
    }
}
Test(cpu_ops, truth) {
  for (int op = 0; op < OP_COUNT; op++) {
    if (IS('L') || IS('C')) one((ScalarOp)op, DT_BOOL, DT_BOOL, 0);
  }
}
Test(cpu_ops, casts) {
  for (int a = 0; a < DT_COUNT; a++)
    for (int b = 0; b < DT_COUNT; b++)
      if (a != b) one(OP_CAST, (DType)a, (DType)b, 0.5);
}
/* Exponents that become products, and the others. */
Test(cpu_ops, powers) {
  static const char *const exponent[] = {"0", "1", "2", "3", "-1", "0.5", "4", "-2", "2.5"};
  for (int i = 0; i < 9; i++)
    for (int t = 0; t < 2; t++) {
      char text[300];
      const char *dt = dt_name(floats[t]);
      snprintf(text, sizeof text,
               "%%0 = input %s[33] \"x\" slot 0\n%%1 = comp %s[33] for i0 33: (pow %%0[i0] %s:%s)\nreturn (%%1)\n", dt,
               dt, exponent[i], dt);
      check(text, 3, false);
    }
}
/* Signed zeros and remainders: x = y floor(x / y) + x mod y, with the sign of y. */
Test(cpu_ops, float_mod_far) {
  check("%0 = input f64[33] \"x\" slot 0\n%1 = comp f64[33] for i0 33: (mod (mul %0[i0] 1e18:f64) 0.7:f64)\nreturn "
        "(%1)\n",
        0, false);
  check("%0 = input f32[33] \"x\" slot 0\n%1 = comp f32[33] for i0 33: (mod %0[i0] 0.7:f32)\nreturn (%1)\n", 0.5,
        false);
}
