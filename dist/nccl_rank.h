/* Inside dist/: an Nccl, its errors (nccl.c), its collectives (nccl_coll.c) and their kernels (nccl_join.c). */
#ifndef TG_DIST_NCCL_RANK_H
#define TG_DIST_NCCL_RANK_H
#include "dist/nccl.h"
#include "dist/nccl_api.h"

enum { NCCL_UNDER_WAY = 64, NCCL_MAX_PARTS = TG_SHARDS };

/* A collective under way. */
typedef struct NcclOp {
  RtMark *mark; /* behind it, on the stream; kept for the next one here */
  int nout;
  const void *out[COLL_PIECES];
  double start;
  int64_t bytes;
  char name[56];
} NcclOp;

/* What the kernels take. */
typedef struct NcclArgs {
  const void *part[NCCL_MAX_PARTS];
  void *out;
  int64_t n, step, nparts; /* step: threads in all */
} NcclArgs;

/* Device memory that grows. */
typedef struct NcclRoom {
  char *at;
  size_t bytes;
} NcclRoom;

struct Nccl {
  Comm *c;
  RtDevice *d;
  NcclLib lib;
  NcclComm comm; /* NULL: not made yet, or aborted */
  RtStream *stream;
  RtMark *ready; /* in the first stream, before the collective that is being started */
  RtModule *module;
  RtFunction *join[JOIN_COUNT][JOIN_TYPES]; /* by the tree; NULL: there is no such join */
  RtFunction *sum[JOIN_TYPES];              /* of one rank's nodes, one after another */
  NcclRoom came, packed, result;            /* others' nodes of the own share; own nodes of a bucket; its result */
  NcclOp op[NCCL_UNDER_WAY];                /* [first, next) modulo their number are under way, in order */
  uint64_t first, next;
  double doubt; /* since when another rank seems to have failed; 0: none does */
  double looked;
  bool failed; /* with fault */
  CommFault fault;
  NcclStats stats;
};

/* A call's result: false with the fault "CALL failed on rank R: ..", which stays. */
bool nccl_ok(Nccl *n, int result, const char *call);
bool nccl_device_ok(Nccl *n, bool ok); /* the same for the device */
/* How the communicator is with `call`; false: it failed. */
bool nccl_state(Nccl *n, const char *call, int *state);
/* Waits until the communicator is no longer in progress with `call`. */
bool nccl_settled(Nccl *n, const char *call);
void nccl_abort(Nccl *n); /* what is queued ends then, with results of no meaning */
bool nccl_kernels(Nccl *n, const NcclEnv *env);
/* n elements by a kernel that takes NcclArgs. */
bool nccl_launch(Nccl *n, RtFunction *f, NcclArgs *a);
#endif
