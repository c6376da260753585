/* Writing LLVM IR for the contraction's functions: types, integer arithmetic that folds, counted loops, lane masks. */
#ifndef TG_CODEGEN_CPU_MMA_IR_H
#define TG_CODEGEN_CPU_MMA_IR_H
#include "graph/dtype.h"
#include <llvm-c/Core.h>
#include <stdbool.h>
#include <stdint.h>

typedef LLVMValueRef Val;

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
Val ir_num(Ir *r, int64_t v);        /* i64 */
Val ir_add(Ir *r, Val a, Val b);     /* i64; folds constants, as do the next */
Val ir_sub(Ir *r, Val a, Val b);
Val ir_mul(Ir *r, Val a, int64_t c);
Val ir_min(Ir *r, Val a, Val b);
Val ir_div(Ir *r, Val a, int64_t c); /* a >= 0, c > 0 */
Val ir_rem(Ir *r, Val a, int64_t c);
Val ir_lt(Ir *r, Val a, Val b);      /* i1 */
Val ir_gep(Ir *r, LLVMTypeRef t, Val p, Val i);
Val ir_load(Ir *r, LLVMTypeRef t, Val p, int align);
void ir_store(Ir *r, Val v, Val p, int align);
Val ir_splat(Ir *r, Val x, int w);
Val ir_lanes(Ir *r, LLVMTypeRef t, int w); /* <0, 1, ...> of an integer type */
Val ir_lanes_below(Ir *r, Val n, int w);   /* <w x i1>: lane < n (i64, any value) */
Val ir_call(Ir *r, const char *intrinsic, int nover, LLVMTypeRef *over, int narg, Val *arg);
/* mask NULL: all lanes. Masked-off lanes load 0. */
Val ir_load_vec(Ir *r, LLVMTypeRef t, int w, Val p, int align, Val mask);
void ir_store_vec(Ir *r, Val v, int w, Val p, int align, Val mask);
Val ir_gather(Ir *r, LLVMTypeRef t, int w, Val base, Val index, int align, Val mask); /* base[index], index <w x i64> */
/* Value or vector of dtype `from` as in memory -> float or integer type of acc (f32, f64, i64). */
Val ir_widen(Ir *r, Val v, int w, DType from, DType acc);

LLVMBasicBlockRef ir_block(Ir *r, const char *name);
void ir_at(Ir *r, LLVMBasicBlockRef b);

/* for (i = lo; i < hi; i += step) { ... }: i = ir_for(...); body; ir_for_end(...). Loops nest. */
typedef struct IrFor { LLVMBasicBlockRef head, body, done; Val i, step; } IrFor;
IrFor ir_for(Ir *r, Val lo, Val hi, Val step);
void ir_for_end(Ir *r, IrFor *f);
/* if (c) { ... }, optionally else. */
typedef struct IrIf { LLVMBasicBlockRef other, done; bool has_else; } IrIf;
IrIf ir_if(Ir *r, Val c);
void ir_else(Ir *r, IrIf *f);
void ir_if_end(Ir *r, IrIf *f);
Val ir_slot(Ir *r, LLVMTypeRef t, int n); /* n elements on the stack, made in the entry block */
#endif
