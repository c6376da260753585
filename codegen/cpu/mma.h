/* Contractions on the CPU: how one is blocked, and its functions.
 *
 *   MmaPlan   roles of the iterators, blocks, tiles: from the kernel and the ISA alone
 *
 * The side whose innermost axis the output stores contiguously is read by vectors (V), the other is broadcast (R);
 * batch axes, and outer axes of V or R that the output does not walk as one with the inner ones, are loop axes. */
#ifndef TG_CODEGEN_CPU_MMA_H
#define TG_CODEGEN_CPU_MMA_H
#include "codegen/contract.h"
#include "codegen/cpu/jit.h"
#include "codegen/cpu/mma_ukr.h"
#include "codegen/cpu/pack.h"
#include "codegen/rt/gemm.h"

typedef struct MmaPlan {
  const Kernel *k;
  Contract c;
  int niter;
  int64_t ext[CONTRACT_MAX_ITER];
  int nloop, loop[CONTRACT_MAX_ITER]; /* iterators */
  int nr, r[CONTRACT_MAX_ITER], nv, v[CONTRACT_MAX_ITER];
  Operand R, V;
  bool r_matrix, v_matrix; /* packed by a function of all matrices */
  bool swapped;            /* R is the N side */
  bool direct;             /* the sums are the output: no epilogue */
  bool steady;             /* R is the same at all loop points */
  bool split;              /* phases over chunks of K, then their tree */
  UkrSpec ukr, edge;
  bool has_edge;
  Gemm gemm;   /* without function pointers */
  double cost; /* nanoseconds a unit */
} MmaPlan;

/* False: not worth a contraction's machinery (or not of its form); a plain reduction gives the same bits. */
bool mma_plan(Graph *g, const Kernel *k, const Isa *isa, MmaPlan *p);

/* Builds `void name(args, loop, r0, nr, v0, nv, c, ldc)` (GemmEpilogue): the stages after the contraction at every
 * point of the block, the contraction's value read from c. */
bool mma_epilogue_build(Graph *g, const Isa *isa, LLVMModuleRef m, const char *name, const MmaPlan *p, Arena *a);
#endif
