/* How compiled code is called: the one interface between machine code and whoever runs a plan (codegen/exec.c, and the
 * walker of a library, lib_run.c).
 *
 * A kernel runs as phases with a barrier between them (most have one). In a phase units [0, units) are spread over the
 * lanes in ranges, each range a call; any partition gives the same bits. Examples: units = points of P; a whole
 * reduction: phase 0 units = chunks (partials into shared), phase 1 one unit (tree, then the later stages); a blocked
 * contraction: phase 0 packs, phase 1 runs tiles. */
#ifndef TG_CODEGEN_RT_KERNEL_H
#define TG_CODEGEN_RT_KERNEL_H
#include <stdint.h>

enum { KF_NONE, KF_INDEX, KF_DIVZERO, KF_MEMORY };
typedef struct KFault {
  /* the first in this call; later ones are ignored. After one, reads use index 0, quotients are 0 */
  int32_t kind, site;
  int64_t index, size, unit;
} KFault;

typedef struct KernelArgs {
  void *const *ptr; /* GLOBAL buffers */
  int64_t lo, hi;   /* units of the phase to run */
  void *scratch;    /* Code.lane_bytes of this lane, 64-byte aligned, contents undefined */
  void *shared;     /* Code.shared_bytes for all lanes; lives from phase 0 to the end of the kernel */
  KFault *fault;    /* of this lane; kind KF_NONE on entry of the kernel */
  const void *ctx;  /* Phase.ctx */
} KernelArgs;
typedef void (*KernelFn)(const KernelArgs *a);

typedef struct Phase {
  KernelFn fn;
  const void *ctx;
  int64_t units;
  double cost; /* rough nanoseconds a unit on one lane: the executor's threshold for going parallel */
} Phase;

/* Phases of a contraction; ctx is its Gemm (gemm.h). */
#define RT_GEMM_PHASES(X)                                                                                              \
  X(rt_gemm_pack)    /* panels of R, before any of the others */                                                       \
  X(rt_gemm_columns) /* panels of V, before any of the following */                                                    \
  X(rt_gemm_phase)                                                                                                     \
  X(rt_gemm_chunks)                                                                                                    \
  X(rt_gemm_join)
#define RT_GEMM_DECLARE(name) void name(const KernelArgs *a);
RT_GEMM_PHASES(RT_GEMM_DECLARE)
#undef RT_GEMM_DECLARE
#endif
