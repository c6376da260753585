/* Decimal numbers: digits into an integer of 64 bits, scaled in the x87's (or a wider) format, whose 64 bits of
 * mantissa leave room to see whether rounding to 53 or 24 bits could go wrong; then, and for more than 19 digits or
 * large exponents, the C library decides.
 *
 * Why it is exact: m < 2^64 and 10^k with k <= 27 (5^27 < 2^63) are long doubles without error, so m * 10^k or m / 10^k
 * is the true value rounded once to 64 bits. Rounding that again to fewer bits differs from rounding the true value
 * only if it lies exactly half-way between two of their values, which is seen in its bits. */
#include "stdlib/native/csv_number.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Decimal {
  uint64_t m; /* the digits, the first 19 of them */
  int exp;    /* of 10 */
  bool minus, many;
  const char *from, *to;
} Decimal;

static bool digit(char c) { return (unsigned char)(c - '0') < 10; }

/* Eight digits at once (after D. Lemire): false if one of p's bytes is none. */
static bool eight(const char *p, uint64_t *m) {
  uint64_t v;
  memcpy(&v, p, 8);
  uint64_t a = v + UINT64_C(0x4646464646464646), b = v - UINT64_C(0x3030303030303030);
  if ((a | b) & UINT64_C(0x8080808080808080)) return false;
  v = b * 10 + (b >> 8);
  v = ((v & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x000F424000000064) +
       (v >> 16 & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x0000271000000001)) >>
      32;
  *m = *m * 100000000 + (uint32_t)v;
  return true;
}

static const char *digits(const char *p, const char *end, uint64_t *m) {
  const uint32_t one = 1;
  bool little = *(const uint8_t *)&one;
  while (little && end - p >= 8 && eight(p, m)) p += 8;
  while (p < end && digit(*p)) *m = *m * 10 + (uint64_t)(*p++ - '0');
  return p;
}

static bool decimal(const char *p, const char *end, Decimal *d) {
  *d = (Decimal){.from = p};
  if (p < end && (*p == '-' || *p == '+')) d->minus = *p++ == '-';
  const char *first = p, *dot = NULL;
  p = digits(p, end, &d->m);
  int64_t n = p - first;
  if (p < end && *p == '.') {
    dot = ++p;
    p = digits(p, end, &d->m);
    n += p - dot;
    d->exp = dot - p < -100000 ? -100000 : (int)(dot - p);
  }
  if (!n) return false;
  if (n > 19) { /* leading zeros do not count */
    const char *s = first;
    while (s < p && (*s == '0' || *s == '.')) n -= *s == '0', s++;
    d->many = n > 19;
  }
  if (p < end && (*p | 32) == 'e') {
    const char *e = p + 1;
    bool down = e < end && *e == '-';
    if (e < end && (*e == '-' || *e == '+')) e++;
    if (e < end && digit(*e)) {
      int x = 0;
      for (; e < end && digit(*e); e++)
        if (x < 100000) x = x * 10 + (*e - '0');
      d->exp += down ? -x : x;
      p = e;
    }
  }
  d->to = p;
  return true;
}

/* The C library on a copy, which ends where the number ends. */
static double slow(const Decimal *d, bool single) {
  char buf[64], *s = buf;
  size_t n = (size_t)(d->to - d->from);
  if (n >= sizeof buf && !(s = malloc(n + 1))) return NAN; /* the field is refused */
  memcpy(s, d->from, n), s[n] = 0;
  double v = single ? (double)strtof(s, NULL) : strtod(s, NULL);
  if (s != buf) free(s);
  return v;
}

#if LDBL_MANT_DIG >= 64
enum { EXACT_POWER = 27 };
#else
enum { EXACT_POWER = -1 }; /* no wider format here: the C library reads all */
#endif

static const long double power[28] = {1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L,
                                      1e10L, 1e11L, 1e12L, 1e13L, 1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L,
                                      1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L};

/* Is x (normal) half-way between two numbers of `bits` bits? */
static bool halfway(long double x, int bits) {
  int e;
  long double m = frexpl(x, &e); /* 0.5 <= m < 1 */
  long double scaled = ldexpl(m, bits + 1);
  return scaled == floorl(scaled) && fmodl(scaled, 2) != 0;
}

/* Small cases need no wide format: m and 10^k are doubles. */
static const double small[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static bool wide(const Decimal *d, long double *x) {
  if (d->many || d->exp > EXACT_POWER || d->exp < -EXACT_POWER) return false;
  *x = d->exp < 0 ? (long double)d->m / power[-d->exp] : (long double)d->m * power[d->exp];
  return true;
}

const char *number_f64(const char *p, const char *end, double *v) {
  Decimal d;
  if (!decimal(p, end, &d)) return NULL;
  double x;
  long double w;
  if (!d.many && d.m <= UINT64_C(1) << 53 && d.exp >= -22 && d.exp <= 22)
    x = d.exp < 0 ? (double)d.m / small[-d.exp] : (double)d.m * small[d.exp];
  else if (wide(&d, &w) && !halfway(w, 53))
    x = (double)w;
  else
    return *v = slow(&d, false), d.to; /* with its sign */
  *v = d.minus ? -x : x;
  return d.to;
}

const char *number_f32(const char *p, const char *end, float *v) {
  Decimal d;
  if (!decimal(p, end, &d)) return NULL;
  if (!d.many && d.m <= UINT64_C(1) << 53 && d.exp >= -22 && d.exp <= 22) {
    double x = d.exp < 0 ? (double)d.m / small[-d.exp] : (double)d.m * small[d.exp];
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    /* x is rounded already: a second rounding errs at a half-way point only; subnormal floats have fewer bits */
    if ((bits & 0x1FFFFFFF) != 0x10000000 && (x >= 0x1p-126 || x == 0)) return *v = (float)(d.minus ? -x : x), d.to;
  }
  long double w;
  if (wide(&d, &w) && w >= 0x1p-126L && !halfway(w, 24))
    *v = (float)(d.minus ? -w : w);
  else
    *v = (float)slow(&d, true);
  return d.to;
}

const char *number_i64(const char *p, const char *end, int64_t *v) {
  bool minus = p < end && *p == '-';
  if (p < end && (*p == '-' || *p == '+')) p++;
  const char *first = p;
  uint64_t m = 0;
  p = digits(p, end, &m);
  if (p == first) return NULL;
  while (p - first > 18 && *first == '0') first++;
  if (p - first > 19 || m > (uint64_t)INT64_MAX + minus) return NULL;
  *v = minus ? (int64_t)(0 - m) : (int64_t)m;
  return p;
}
