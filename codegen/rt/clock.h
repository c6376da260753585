/* Time for measuring and for deadlines, and letting it pass. */
#ifndef TG_CODEGEN_RT_CLOCK_H
#define TG_CODEGEN_RT_CLOCK_H
#include <sched.h>
#include <stdint.h>
#include <time.h>

/* Seconds of a clock that never steps back; its zero means nothing. */
static inline double rt_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline int64_t rt_milliseconds(void) { return (int64_t)(1e3 * rt_seconds()); }

/* Between two looks at what has not come yet: at once, then after others had the core, then after 20 us. */
static inline void rt_wait_longer(int *tries) {
  if (*tries > 1000)
    nanosleep(&(struct timespec){0, 20000}, NULL);
  else if (++*tries > 100)
    sched_yield();
}
#endif
