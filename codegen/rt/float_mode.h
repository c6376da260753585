/* The processor's floating-point mode. Results are those of IEEE 754's default (to nearest, denormal numbers kept),
 * whatever the thread that calls a library has set; a library linked with -ffast-math is known to set it for others. */
#ifndef TG_CODEGEN_RT_FLOAT_MODE_H
#define TG_CODEGEN_RT_FLOAT_MODE_H
#include <stdint.h>

/* Sets the default; returns what was set, for rt_float_mode_back. */
static inline uint64_t rt_float_mode_default(void) {
  uint64_t was = 0;
#if defined(__SSE__)
  enum { MASKED = 0x1f80 }; /* no exception traps */
  was = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(MASKED);
#elif defined(__aarch64__)
  __asm__ volatile("mrs %0, fpcr" : "=r"(was));
  __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
#endif
  return was;
}
static inline void rt_float_mode_back(uint64_t was) {
#if defined(__SSE__)
  __builtin_ia32_ldmxcsr((unsigned)was);
#elif defined(__aarch64__)
  __asm__ volatile("msr fpcr, %0" : : "r"(was));
#else
  (void)was;
#endif
}
#endif
