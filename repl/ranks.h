/* A program on several ranks: started here by --ranks, or one of those that mpirun started. */
#ifndef TG_REPL_RANKS_H
#define TG_REPL_RANKS_H
#include "repl/host.h"

/* Runs fn on every rank, with the options of that rank, and returns the exit code of the whole. With one rank it is
 * just called. fn makes its own Host. */
typedef int (*RanksMain)(const HostOptions *o, void *ctx);
int ranks_run(const HostOptions *o, RanksMain fn, void *ctx);

/* The host's part in its group: when it is made, and after its unit, which ended with `code`. The
 * latter is a collective: it writes the trace, shows the statistics, warns of ranks that are slower than others.
 * Returns the exit code. */
void ranks_begin(Host *h);
int ranks_end(Host *h, int code);

/* Of a fault that all ranks have met: the words of the one that knows most. */
void ranks_agree(Host *h, Fault *f);

/* Of a host on a rank that is not the first: are the diagnostics it holds those that rank 0 shows, too? */
bool ranks_repeat(Host *h);

/* ---- GPUs (ranks_gpu.c); both are collectives ---- */
/* This rank's GPU, as cuda_open counts them. False with *fault when the group is broken. */
bool ranks_gpu(Host *h, int *index, Fault *fault);
/* Starts NCCL where all ranks can use it; Host.no_nccl has the reason where not. False with *fault: it failed. cuda:
 * the rank's device, or NULL. */
bool ranks_meet_gpus(Host *h, struct Cuda *cuda, Fault *fault);
void ranks_gpu_stats(const Host *h); /* of rank 0, on standard error */
#endif
