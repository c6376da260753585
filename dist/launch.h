/* `tg run --ranks N`: N processes of this program on one host, over one shared segment.
 *
 * The parent forks before anything else is started (no threads, no compiler), so that a child is the program itself. It
 * watches: when a rank dies, fails or stops answering, it says which, gives the others COMM_GRACE seconds to end by
 * themselves and kills what is left. No child outlives the parent (PR_SET_PDEATHSIG). Standard output of ranks other
 * than 0 is discarded, their standard error is shown line by line behind "[rank N] ". */
#ifndef TG_DIST_LAUNCH_H
#define TG_DIST_LAUNCH_H
#include "dist/comm.h"

enum { LAUNCH_MAX = 64 };

typedef int (*RankMain)(void *ctx, Comm *comm); /* returns the rank's exit code */
/* Runs all ranks to their end. Returns 0 when all returned 0; else the code of the first rank that failed (1 for one
 * that was killed or silent), its name on standard error. */
int launch(int nrank, RankMain fn, void *ctx);
#endif
