/* Packing: an operand of a contraction, given as an expression over (loop, panel, k) iterators, evaluated into panels.
 *
 * An Operand is the expression with its iterators sorted into panel axes p and k axes, adjacent axes merged wherever
 * every load walks them as one, and, if it is a single load with affine subscripts, its linear form: element offset and
 * mask as sums of coefficients times iterators. Everything else (a fused prologue, gathers) is evaluated by emit_expr.
 */
#ifndef TG_CODEGEN_CPU_PACK_H
#define TG_CODEGEN_CPU_PACK_H
#include "codegen/contract.h"
#include "codegen/cpu/mma_ir.h"
#include "codegen/kernel.h"

enum { PACK_MAX_COND = 12 };

typedef struct Lin {
  int64_t c, coef[CONTRACT_MAX_ITER];
} Lin;
typedef struct Cond {
  Lin l;
  enum { COND_GE, COND_EQ, COND_NE } is;
} Cond; /* l >= 0, == 0, != 0 */

typedef struct Operand {
  const Kernel *k;
  Expr *e;
  int niter;
  int64_t ext[CONTRACT_MAX_ITER];
  int np, nk, p[CONTRACT_MAX_ITER], kk[CONTRACT_MAX_ITER]; /* outermost first; flat index = row-major over them */
  bool plain;                                              /* a load with affine subscripts: the rest is set */
  const KBuf *buf;
  DType from;      /* dtype in memory */
  Lin at;          /* element offset into buf, */
  const KBuf *row; /* plus this i64 scalar (a loop's counter) times row_step; NULL: none */
  int64_t row_step;
  int ncond;
  Cond cond[PACK_MAX_COND]; /* all must hold, else 0 */
} Operand;

/* Axes: iterator numbers; extents of all niter iterators. */
void operand_make(Graph *g, const Kernel *k, Expr *e, int niter, const int64_t *extent, int np, const int *p, int nk,
                  const int *kk, Operand *out);
/* A matrix: plain, no mask: element (loop, i of p, j of k) is at base + step(loop) + i * *ip + j * *ik. */
bool operand_matrix(const Operand *o, int64_t *ip, int64_t *ik);

/* Builds `void name(args, loop, p0, np, k0, nk, dst)` (GemmPack) of a plain operand; of any other: pack_expr_build
 * (mma_emit.h). loop[d] of the call is iterator loop_iter[d]. */
void pack_build(LLVMModuleRef m, const char *name, const Operand *o, DType acc, int width, int nloop,
                const int *loop_iter);
/* Builds `void name(base, ld, np, nk, dst)` (GemmPackMatrix) for matrices of any size: steps (ip, ik) = (1, ld), or
 * transposed (ld, 1). */
void pack_matrix_build(LLVMModuleRef m, const char *name, DType from, DType acc, int width, bool transposed);
#endif
