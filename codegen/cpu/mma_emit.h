/* What a contraction evaluates by emit.h: operands that are not plain loads, and epilogues. */
#ifndef TG_CODEGEN_CPU_MMA_EMIT_H
#define TG_CODEGEN_CPU_MMA_EMIT_H
#include "codegen/cpu/emit.h"
#include "codegen/cpu/mma.h"

/* A function under construction that the driver calls as name(args, x0, x1, ...): its body takes KernelArgs whose ctx
 * points to the further arguments, 8 bytes each. */
enum { CALL_ARGS = 8 };
void call_open(Em *E, Graph *g, const Kernel *k, Arena *a, const Isa *isa, LLVMModuleRef m, const char *name,
               int width);
LLVMValueRef call_arg(Em *E, int i, LLVMTypeRef t);                     /* at level 0 */
void call_close(Em *E, const char *name, int narg, const bool *is_ptr); /* ends the body, builds the entry function */

/* min and max of i64, at the builder's place */
LLVMValueRef call_min(Em *E, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef call_max(Em *E, LLVMValueRef a, LLVMValueRef b);

/* Opens two loops over the flat points [first, first + n), n >= 1, row-major over axes: whole runs of the innermost
 * axis, and vectors of a run. All axes are bound, the innermost as the vector iterator; E->mask tells the live lanes.
 * *at: flat position of lane 0 minus first; *left: lanes left in the run. Needs naxis >= 1. */
void call_runs_open(Em *E, LLVMValueRef first, LLVMValueRef n, int naxis, const int *axis, const int64_t *ext,
                    LLVMValueRef *at, LLVMValueRef *left);
void call_runs_close(Em *E);
/* Binds axes to the flat point at the current level. */
void call_bind(Em *E, LLVMValueRef flat, int naxis, const int *axis, const int64_t *ext);

bool pack_expr_build(Graph *g, const Isa *isa, LLVMModuleRef m, const char *name, const Operand *o, DType acc,
                     int width, int nloop, const int *loop_iter, Arena *a);
#endif
