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

/* How R lies in memory, for packing it when it is a constant of a library: element (row, p, k) of its argument is at
 * base + row * row_step + sum of p's digits (row-major over pext) times pstep + the same of k. */
typedef struct MmaGiven {
  int64_t rows; /* of the stack that a counter walks; else 1. 0: R cannot be given */
  int64_t R, K, base, row_step;
  int64_t pext[CONTRACT_MAX_ITER], pstep[CONTRACT_MAX_ITER], kext[CONTRACT_MAX_ITER], kstep[CONTRACT_MAX_ITER];
  int np, nk, mr, esize, arg, row; /* arg: of the kernel; row: that of the counter, or -1 */
  bool alone;                      /* nothing else in the kernel reads the argument */
} MmaGiven;
void mma_given_make(const MmaPlan *p, MmaGiven *out);
/* NULL: c is no contraction, or R must be packed when it runs (not a plain load, or not the same at all loop points).
 */
const MmaGiven *mma_given(const Code *c);
size_t mma_given_bytes(const MmaGiven *g);                             /* of the panels of all rows */
bool mma_given_pack(const MmaGiven *g, const void *data, void *panel); /* false: no memory */

/* False: not worth a contraction's machinery (or not of its form); a plain reduction gives the same bits. */
bool mma_plan(Graph *g, const Kernel *k, const Isa *isa, MmaPlan *p);

/* Builds `void name(args, loop, r0, nr, v0, nv, c, ldc)` (GemmEpilogue): the stages after the contraction at every
 * point of the block, the contraction's value read from c. */
bool mma_epilogue_build(Graph *g, const Isa *isa, LLVMModuleRef m, const char *name, const MmaPlan *p, Arena *a);
#endif
