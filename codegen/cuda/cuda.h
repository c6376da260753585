/* Kernels as CUDA C: from a Kernel (../kernel.h) to source text and the launches that run it.
 *
 * The text needs no header and compiles as CUDA C++ (NVRTC, sm_75 and later) and, after tests/cuda_host/shim.h, as
 * plain C: that is how it is run and tested where no GPU is at hand. Everything that only one of the two can say is a
 * named function or macro of the prelude (prelude.c).
 *
 * Bits: the orders of the numeric contract are kept exactly, elementary functions are the programs of cpu/vmath.h, and
 * NVRTC is told not to contract (--fmad=false): results are the CPU's, bit for bit, but for contractions through tensor
 * cores (f16 and bf16 operands, f32 ones on request), whose order is the hardware's. */
#ifndef TG_CODEGEN_CUDA_CUDA_H
#define TG_CODEGEN_CUDA_CUDA_H
#include "codegen/kernel.h"
#include "codegen/rt/dev_fault.h"

enum { CU_MAX_LAUNCH = 24, CU_MAX_ARGS = 440 /* of 4 KiB of parameters */ };

typedef struct CuLaunch {
  const char *name; /* of the function in the source */
  int64_t grid;     /* blocks, at least 1 and below 2^31 */
  int block;        /* threads a block */
} CuLaunch;

/* What runs one kernel: launches, in order. Each takes one parameter, a struct of pointers: the GLOBAL buffers by
 * argument number, the fault record, the scratch memory, and the number of the kernel's first fault site in the plan.
 */
typedef struct CuKernel {
  const char *source;
  int nlaunch;
  CuLaunch launch[CU_MAX_LAUNCH];
  int narg;
  bool faults;          /* may write the fault record */
  bool contraction;     /* holds a tiled contraction: its registers are worth a look */
  size_t scratch_bytes; /* device memory that one run needs besides its arguments */
} CuKernel;

/* Source and launches of k. tf32: factors of f32 contractions are rounded to tf32 (10 bits of mantissa), for the matrix
 * instructions. Texts live in a. False with *why: too many arguments or too large. */
bool cuda_emit(Arena *a, Graph *g, const Kernel *k, bool tf32, CuKernel *out, const char **why);
#endif
