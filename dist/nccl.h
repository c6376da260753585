/* Collectives between GPUs by NCCL, found at run time: the same joins as a Comm's, of tensors in device memory.
 *
 *   Nccl   one rank's end, beside its Comm, which stays for all else: values of the host, faults, signs of life
 *
 * Exact joins keep the tree of shards: each rank sends its nodes of every share to the share's owner, which joins them
 * by a kernel in the tree's order; then the shares travel back. --reduce=fast sums by ncclAllReduce.
 *
 * All work goes to a stream of its own, behind a mark in the first one; nccl_wait makes the first stream wait, not the
 * host. All ranks start the same collectives in the same order. The communicator does not block: whoever waits, here or
 * in RtDevice.watch, asks the Comm whether the others live, and aborts when not. One thread. */
#ifndef TG_DIST_NCCL_H
#define TG_DIST_NCCL_H
#include "codegen/rt/device.h"
#include "dist/comm.h"

typedef struct Nccl Nccl;
typedef struct NcclEnv {
  Comm *comm;       /* outlives the Nccl */
  RtDevice *device; /* NULL: this rank has none. Outlives the Nccl, which sets its watch */
  /* The image of a kernel in CUDA C, behind the prelude of codegen/cuda. It is used at once. NULL with the reason. */
  const void *(*compile)(void *ctx, const char *source, char *why, size_t nwhy);
  void *ctx;
} NcclEnv;

/* The rank's number among those on its host. False when the group is broken. */
bool nccl_local_rank(Comm *c, int *local, CommFault *f);
/* All ranks together. True with *out, which Comm.nccl points to from here on; or with NULL and the reason why NCCL
 * can't be had, the same on all ranks: then collectives go through the host's memory. False: NCCL failed, or the group
 * is broken. */
bool nccl_open(const NcclEnv *env, Nccl **out, char *why, size_t nwhy, CommFault *f);
/* In order with all ranks, or, when the group is broken, at once. */
void nccl_close(Nccl *n);

/* `what` as in comm_start, with device addresses; they belong to the collective until nccl_wait. */
bool nccl_start(Nccl *n, const Coll *what, CommFault *f);
/* What is queued behind it finds the result of the collective that goes to `from`, and its bytes at `to`. */
bool nccl_wait(Nccl *n, const void *from, void *to, size_t bytes, CommFault *f);
/* Notes what has ended, for the trace, and errors of NCCL, which the next call tells. */
void nccl_progress(Nccl *n);

int nccl_version(const Nccl *n); /* 22304 is 2.23.4 */
typedef struct NcclStats {
  int64_t collectives, bytes; /* bytes that this rank sent to others */
} NcclStats;
NcclStats nccl_stats(const Nccl *n);
#endif
