/* Conversions of f16 that code for a processor without F16C calls, under the names of compiler-rt: the library brings
 * its own, since it depends on libc and libm alone. A half travels in the low bits of an SSE register (System V ABI for
 * x86-64). */
#if defined(__x86_64__)
#include <emmintrin.h>
#include <stdint.h>
#include <string.h>

__m128i __truncsfhf2(float x);
__m128i __truncdfhf2(double x);
float __extendhfsf2(__m128i h);

/* Of a finite magnitude or infinity or nan with `fraction` bits of fraction and exponents biased by `bias`, to the
 * nearest half, ties to even. */
static uint16_t half_of(uint64_t bits, int fraction, int bias) {
  uint64_t mantissa = bits & (((uint64_t)1 << fraction) - 1);
  int top = 2 * bias + 1, e = (int)(bits >> fraction & (uint64_t)top);
  uint16_t sign = (uint16_t)(bits >> (fraction + (fraction == 23 ? 8 : 11)) << 15);
  if (e == top) return (uint16_t)(sign | 0x7c00 | (mantissa ? 0x200 | (mantissa >> (fraction - 10) & 0x3ff) : 0));
  int to = e - bias + 15, drop = fraction - 10;
  if (e) mantissa |= (uint64_t)1 << fraction;
  if (to >= 31) return (uint16_t)(sign | 0x7c00);
  if (to <= 0) drop += 1 - to, to = 1;
  if (drop > 62) return sign;
  uint64_t kept = mantissa >> drop, rest = mantissa & (((uint64_t)1 << drop) - 1), half = (uint64_t)1 << (drop - 1);
  kept += rest > half || (rest == half && (kept & 1));
  return (uint16_t)(sign | (((uint64_t)(to - 1) << 10) + kept)); /* the leading bit counts one into the exponent */
}

__m128i __truncsfhf2(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return _mm_cvtsi32_si128(half_of(u, 23, 127));
}

__m128i __truncdfhf2(double x) {
  uint64_t u;
  memcpy(&u, &x, sizeof u);
  return _mm_cvtsi32_si128(half_of(u, 52, 1023));
}

float __extendhfsf2(__m128i h) {
  uint32_t u = (uint32_t)_mm_cvtsi128_si32(h) & 0xffff, sign = u >> 15 << 31, e = u >> 10 & 31, m = u & 0x3ff;
  float f;
  if (e == 31)
    u = sign | 0x7f800000 | m << 13 | (m ? 0x400000 : 0);
  else if (e)
    u = sign | (e + 112) << 23 | m << 13;
  else { /* 0 and subnormal numbers: m * 2^-24 */
    f = (float)m * 0x1p-24f;
    memcpy(&u, &f, sizeof u);
    u |= sign;
  }
  memcpy(&f, &u, sizeof f);
  return f;
}
#else
typedef int lib_half_is_not_needed; /* a file is not empty */
#endif
