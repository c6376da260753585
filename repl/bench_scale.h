/* `tg bench scale [--ranks 1,2,4]`. */
#ifndef TG_REPL_BENCH_SCALE_H
#define TG_REPL_BENCH_SCALE_H
#include "repl/host.h"
/* ranks: numbers separated by commas; NULL: 1,2,4. Returns an exit code. */
int bench_scale(const HostOptions *o, const char *ranks);
#endif
