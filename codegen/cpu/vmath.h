/* Elementary functions as straight-line programs over primitive operations: one definition, several emitters.
 *
 * vm_expand asks a builder for each primitive in turn and returns the value of the function. The LLVM emitter builds
 * vector or scalar instructions, the host builder (vm_eval) computes; a text emitter would print. All primitives are
 * exact or correctly rounded (FMA is one operation), so every emitter gives the same bits.
 *
 * Functions: exp expm1 log log1p sin cos tan tanh sigmoid erf pow, in f32 (wide = false) and f64 (wide = true). Worst
 * error measured by tests/unit/cpu_vmath.c: 2.5 ulp (tanh, sigmoid, tan), 1.8 the others. Sine, cosine and tangent
 * beyond 2^45 go lane by lane to libm (`slow`). */
#ifndef TG_CODEGEN_CPU_VMATH_H
#define TG_CODEGEN_CPU_VMATH_H
#include "graph/graph.h"

typedef union VmV {
  void *p;
  uint64_t u;
} VmV; /* the builder's value: float, integer of the same width, or truth value */

typedef enum {
  VM_ADD,
  VM_SUB,
  VM_MUL,
  VM_DIV,
  VM_FMA, /* floats; FMA a * b + c with one rounding */
  VM_RINT,
  VM_FLOOR,
  VM_ABS,
  VM_NEG,      /* floats; RINT to even */
  VM_COPYSIGN, /* magnitude of a, sign of b */
  VM_LT,
  VM_LE,
  VM_EQ,  /* floats -> truth; false on nan */
  VM_SEL, /* truth ? b : c (floats) */
  VM_AND,
  VM_OR,
  VM_NOT, /* truth */
  VM_BITS,
  VM_FLOAT, /* reinterpret: float -> integer of the same width, and back */
  VM_IADD,
  VM_ISUB,
  VM_IAND,
  VM_IXOR,
  VM_ISHL,
  VM_ISHR,
  VM_ISAR,  /* integers; shift by a constant b */
  VM_ITOF,  /* integer -> float, value */
  VM_INE0,  /* integer != 0 -> truth */
  VM_ISEL,  /* truth ? b : c (integers) */
  VM_SCALE, /* a * 2^b with one rounding; b a whole float, c the same as an integer; |b| < 2^12 */
  VM_WIDEN,
  VM_NARROW /* f32 -> f64 (wide = true), f64 -> f32 (wide = false) */
} VmOp;

typedef struct VmB {
  void *ctx;
  VmV (*op)(void *ctx, VmOp op, bool wide, VmV a, VmV b, VmV c);
  VmV (*num)(void *ctx, bool wide, double v);   /* float constant */
  VmV (*bits)(void *ctx, bool wide, int64_t v); /* integer constant */
  /* libm's f64 function of x (f64) where `where` is true, else fast */
  VmV (*slow)(void *ctx, ScalarOp op, VmV x, VmV where, VmV fast);
} VmB;

bool vm_has(ScalarOp op);
/* y: pow only. */
VmV vm_expand(const VmB *b, ScalarOp op, bool wide, VmV x, VmV y);
/* The same value computed on the host; wide false: x, y and the result are f32 values. */
double vm_eval(ScalarOp op, bool wide, double x, double y);
#endif
