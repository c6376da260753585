/* What the processor has, asked when a context is made: no constructor runs before main. By cpuid itself: the
 * compiler's helpers would be one more library. */
#include "codegen/rt/lib.h"

#if defined(__x86_64__)
#include <cpuid.h>

static int has(unsigned reg, unsigned bits) { return (reg & bits) == bits; }

/* The system saves the registers named by these bits of XCR0. */
static int saved(unsigned bits) {
  unsigned lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return has(lo, bits);
}

int lib_isa_here(int isa) {
  unsigned a, b, c, d, b7 = 0, c7, d7;
  if (isa == LI_ANY || isa == LI_X86_64) return 1;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C | bit_MOVBE)) return 0;
  if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7) || !has(b7, bit_AVX2 | bit_BMI | bit_BMI2)) return 0;
  if (isa == LI_X86_64_V3) return saved(0x6);
  return isa == LI_X86_64_V4 && saved(0xe6) &&
         has(b7, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL | bit_AVX512CD);
}
#elif defined(__aarch64__)
int lib_isa_here(int isa) { return isa == LI_ANY || isa == LI_AARCH64; }
#else
int lib_isa_here(int isa) { return isa == LI_ANY; }
#endif
