/* Which GPU a rank has, and how the ranks' GPUs meet. */
#include "repl/ranks.h"
#include "codegen/cuda/session.h"
#include "dist/nccl.h"
#include <stdio.h>

static bool several(const Host *h) { return h->o.comm && comm_size(h->o.comm) > 1; }
static bool broken(const CommFault *f, Fault *fault) {
  fault_set(fault, R_RANK, (Span){0}, "%s", f->msg);
  return false;
}

/* Where a rank sees one GPU only (CUDA_VISIBLE_DEVICES), that one. */
bool ranks_gpu(Host *h, int *index, Fault *fault) {
  int local = 0;
  CommFault f;
  *index = 0;
  if (!several(h)) return true;
  if (!nccl_local_rank(h->o.comm, &local, &f)) return broken(&f, fault);
  *index = -1 - local; /* more ranks than GPUs share them */
  return true;
}

static const void *compile(void *ctx, const char *source, char *why, size_t nwhy) {
  const char *reason = NULL;
  const void *image = cuda_image_of(ctx, source, &reason);
  if (!image) snprintf(why, nwhy, "%s", reason);
  return image;
}

bool ranks_meet_gpus(Host *h, struct Cuda *cuda, Fault *fault) {
  CommFault f;
  h->gpus_met = true;
  if (!several(h)) return true;
  NcclEnv env = {h->o.comm, cuda ? cuda_device(cuda) : NULL, compile, cuda};
  return nccl_open(&env, &h->nccl, h->no_nccl, sizeof h->no_nccl, &f) || broken(&f, fault);
}

void ranks_gpu_stats(const Host *h) {
  if (*h->no_nccl) fprintf(stderr, "collectives of the GPUs go through the host's memory: %s\n", h->no_nccl);
  if (!h->nccl) return;
  int v = nccl_version(h->nccl);
  NcclStats s = nccl_stats(h->nccl);
  fprintf(stderr, "NCCL %d.%d.%d: %lld collectives of GPUs, %lld bytes from rank 0 to others\n", v / 10000,
          v / 100 % 100, v % 100, (long long)s.collectives, (long long)s.bytes);
}
