/* Time for measuring and for deadlines. */
#ifndef TG_CODEGEN_RT_CLOCK_H
#define TG_CODEGEN_RT_CLOCK_H
#include <time.h>

/* Seconds of a clock that never steps back; its zero means nothing. */
static inline double rt_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
#endif
