/* The micro-kernel of a contraction: C[mr, nv * w] (+)= A[mr, kc] * B[kc, nv * w], accumulators in registers. */
#ifndef TG_CODEGEN_CPU_MMA_UKR_H
#define TG_CODEGEN_CPU_MMA_UKR_H
#include "graph/dtype.h"
#include <llvm-c/Core.h>

typedef struct UkrSpec {
  DType acc;   /* f32, f64 or i64: element type of A, B and C in memory */
  bool wrap32; /* acc i64: each product wraps to i32 before it is added */
  int mr, nv;  /* rows; vectors a row */
  bool edge;   /* the last column tile: columns beyond ncols are neither read (B, C) nor written (C) */
  bool tree;   /* sums in parts, joined while they are in registers or in a small stack */
} UkrSpec;

/* Lanes of a vector of t: 16 of f32, 8 of f64 and i64, on every machine (LLVM splits what the machine lacks). */
int ukr_lanes(DType t);
/* Largest tile whose accumulators stay in registers of vbytes (64, 32, 16) for `rows` rows: *mr, *nv. `tree`: somewhat
 * smaller, so that a part's sums are joined while the next part begins. */
void ukr_tile(DType acc, int vbytes, int64_t rows, int64_t cols, bool tree, int *mr, int *nv);

/* void name(i64 kc, T *a, T *b, i64 ldb, T *c, i64 ldc, i64 nrows, i64 ncols, i64 load, T *stack)
 *   a: packed [kc][mr]; b: rows of nv * w elements, ldb elements apart; c: rows ldc elements apart
 *   nrows <= mr: rows stored; ncols: columns valid (edge kernels; else nv * w); load: continue from C, else from +0.
 * Every element is one chain of fused multiply-adds over ascending k. No alignment is assumed. kc >= 1.
 *
 * With `tree` there is one chain every `load` steps (from +0; the last may be shorter), and the aligned pairwise tree
 * joins them; stack: room for a tile of each level below the root, 64-byte aligned. Else stack is not used. */
LLVMValueRef ukr_build(LLVMModuleRef m, const UkrSpec *s, const char *name);
#endif
