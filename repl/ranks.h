/* A program on several ranks: started here by --ranks, or one of those that mpirun started. */
#ifndef TG_REPL_RANKS_H
#define TG_REPL_RANKS_H
#include "repl/host.h"

/* Runs fn on every rank, with the options of that rank, and returns the exit code of the whole. With one rank it is
 * just called. fn makes its own Host. */
typedef int (*RanksMain)(const HostOptions *o, void *ctx);
int ranks_run(const HostOptions *o, RanksMain fn, void *ctx);

/* Of a host on a rank that is not the first: are the diagnostics it holds those that rank 0 shows, too? */
bool ranks_repeat(Host *h);
#endif
