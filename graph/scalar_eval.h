/* Values of the scalar operations on the host: the functions that scalar.def's value columns call, and evaluation of
 * one row. Constant folding and the oracle both use these, so they cannot disagree.
 *
 * Conversions: float to integer goes toward zero, to the nearest representable value when out of range, and nan to 0;
 * to bool it is `x != 0`; integer to a narrower integer keeps the low bits. Integer arithmetic wraps. */
#ifndef TG_GRAPH_SCALAR_EVAL_H
#define TG_GRAPH_SCALAR_EVAL_H
#include "graph/graph.h"
#include <math.h>

/* Rounded down. A zero divisor is a run-time fault that the caller has checked; here it gives 0. */
static inline int64_t tg_floordiv(int64_t x, int64_t y) {
  if (y == 0) return 0;
  if (y == -1) return (int64_t)(-(uint64_t)x);
  int64_t q = x / y;
  return q - (x % y != 0 && (x < 0) != (y < 0));
}

/* x - y * floordiv(x, y): the sign of y. */
static inline int64_t tg_floormod(int64_t x, int64_t y) {
  if (y == 0 || y == -1) return 0;
  int64_t r = x % y;
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

/* x ^ y, wrapping; a negative y gives the exact value where it is whole (1, -1), else 0. */
static inline int64_t tg_ipow(int64_t x, int64_t y) {
  if (y < 0) return x == 1 ? 1 : x == -1 ? (y & 1 ? -1 : 1) : 0;
  uint64_t r = 1, b = (uint64_t)x;
  for (; y; y >>= 1, b *= b)
    if (y & 1) r *= b;
  return (int64_t)r;
}

/* nan if either is; of +0 and -0, y. */
static inline double tg_fmax(double x, double y) { return x > y || x != x ? x : y; }
static inline double tg_fmin(double x, double y) { return x < y || x != x ? x : y; }

/* Remainder with the sign of y; exact. */
static inline double tg_fmod(double x, double y) {
  double r = fmod(x, y);
  if (r == 0) return copysign(0, y);
  return (r < 0) != (y < 0) ? r + y : r;
}

/* Philox4x32-10 (Salmon et al. 2011): key x (low word first), counter (lo y, hi y, 0, 0); words 0 and 1 of the
 * result. */
static inline int64_t tg_philox(int64_t x, int64_t y) {
  uint32_t k0 = (uint32_t)(uint64_t)x, k1 = (uint32_t)((uint64_t)x >> 32);
  uint32_t c0 = (uint32_t)(uint64_t)y, c1 = (uint32_t)((uint64_t)y >> 32), c2 = 0, c3 = 0;
  for (int round = 0; round < 10; round++) {
    uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
    c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)b;
    c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)a;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return (int64_t)((uint64_t)c0 | (uint64_t)c1 << 32);
}

/* The row's value. Comparisons and tests give 0 or 1; select takes args[0] as a truth value; cast gives its argument.
 * sc_eval_f works in f64 whatever the dtype; the caller rounds. bug() for a row without a value in that domain. */
double sc_eval_f(ScalarOp op, const double *args);
int64_t sc_eval_i(ScalarOp op, const int64_t *args);
/* v as dtype t holds it: wrapped integers, rounded floats. */
int64_t sc_wrap_i(DType t, int64_t v);
double sc_round_f(DType t, double v);
#endif
