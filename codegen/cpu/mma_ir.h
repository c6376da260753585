/* Writing LLVM IR for the contraction's functions: types, integer arithmetic that folds, counted loops, lane masks. */
#ifndef TG_CODEGEN_CPU_MMA_IR_H
#define TG_CODEGEN_CPU_MMA_IR_H
#include "graph/dtype.h"
#include <llvm-c/Core.h>
#include <stdbool.h>
#include <stdint.h>

typedef LLVMValueRef LV;

typedef struct Ir {
  LLVMModuleRef m;
  LLVMContextRef cx;
  LLVMBuilderRef b;
  LLVMTypeRef i1, i8, i16, i32, i64, f32, f64, ptr;
  LLVMValueRef fn;
} Ir;

/* Opens `void name(arg...)` and places the builder in its entry block. */
Ir ir_function(LLVMModuleRef m, const char *name, int narg, const LLVMTypeRef *arg);
Ir ir_types(LLVMModuleRef m); /* without a function or builder */
void ir_end(Ir *r);           /* returns void, drops the builder */

LLVMTypeRef ir_type(Ir *r, DType t); /* in memory: bool and u8 are i8, f16 half, bf16 bfloat */
LLVMTypeRef ir_vec(LLVMTypeRef t, int w);
LV ir_num(Ir *r, int64_t v);  /* i64 */
LV ir_add(Ir *r, LV a, LV b); /* i64; folds constants, as do the next */
LV ir_sub(Ir *r, LV a, LV b);
LV ir_mul(Ir *r, LV a, int64_t c);
LV ir_min(Ir *r, LV a, LV b);
LV ir_div(Ir *r, LV a, int64_t c); /* a >= 0, c > 0 */
LV ir_rem(Ir *r, LV a, int64_t c);
LV ir_lt(Ir *r, LV a, LV b); /* i1 */
LV ir_gep(Ir *r, LLVMTypeRef t, LV p, LV i);
LV ir_load(Ir *r, LLVMTypeRef t, LV p, int align);
void ir_store(Ir *r, LV v, LV p, int align);
LV ir_splat(Ir *r, LV x, int w);
LV ir_lanes(Ir *r, LLVMTypeRef t, int w); /* <0, 1, ...> of an integer type */
LV ir_lanes_below(Ir *r, LV n, int w);    /* <w x i1>: lane < n (i64, any value) */
LV ir_call(Ir *r, const char *intrinsic, int nover, LLVMTypeRef *over, int narg, LV *arg);
/* mask NULL: all lanes. Masked-off lanes load 0. */
LV ir_load_vec(Ir *r, LLVMTypeRef t, int w, LV p, int align, LV mask);
void ir_store_vec(Ir *r, LV v, int w, LV p, int align, LV mask);
LV ir_gather(Ir *r, LLVMTypeRef t, int w, LV base, LV index, int align, LV mask); /* base[index], index <w x i64> */
/* Value or vector of dtype `from` as in memory -> float or integer type of acc (f32, f64, i64). */
LV ir_widen(Ir *r, LV v, int w, DType from, DType acc);

LLVMBasicBlockRef ir_block(Ir *r, const char *name);
void ir_at(Ir *r, LLVMBasicBlockRef b);

/* for (i = lo; i < hi; i += step) { ... }: i = ir_for(...); body; ir_for_end(...). Loops nest. */
typedef struct IrFor {
  LLVMBasicBlockRef head, body, done;
  LV i, step;
} IrFor;
IrFor ir_for(Ir *r, LV lo, LV hi, LV step);
void ir_for_end(Ir *r, IrFor *f);
/* if (c) { ... }, optionally else. */
typedef struct IrIf {
  LLVMBasicBlockRef other, done;
  bool has_else;
} IrIf;
IrIf ir_if(Ir *r, LV c);
void ir_else(Ir *r, IrIf *f);
void ir_if_end(Ir *r, IrIf *f);
LV ir_slot(Ir *r, LLVMTypeRef t, int n); /* n elements on the stack, made in the entry block */
/* Transposing w vectors of w lanes (w = 4q, q 2 or 4) in two steps, on single shuffles of 128-bit units of q lanes:
 *   rows   of vectors gq .. gq + q: afterwards vector gq + j has in unit L the elements (gq .. gq + q - 1, column qL + j)
 *   units  of vectors j, q + j, 2q + j, 3q + j: afterwards the L-th of them is column qL + j */
void ir_transpose_rows(Ir *r, int w, LV *row);
void ir_transpose_units(Ir *r, int w, LV *vec);
#endif
