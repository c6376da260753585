/* What both kinds of `tg bench` share. */
#ifndef TG_REPL_TIMING_H
#define TG_REPL_TIMING_H
#include "codegen/rt/clock.h"

/* For qsort of doubles, ascending. */
static inline int timing_order(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}
#endif
