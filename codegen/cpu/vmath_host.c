/* The host builder of vmath.h: evaluates while expanding. VmV.u holds the bits of f32 or f64, an integer, or 0/1. */
#include "codegen/cpu/vmath.h"
#include <math.h>
#include <string.h>

static float as_f(uint64_t u) {
  uint32_t w = (uint32_t)u;
  float f;
  memcpy(&f, &w, 4);
  return f;
}
static double as_d(uint64_t u) {
  double d;
  memcpy(&d, &u, 8);
  return d;
}
static VmV of_f(float f) {
  uint32_t w;
  memcpy(&w, &f, 4);
  return (VmV){.u = w};
}
static VmV of_d(double d) {
  VmV v;
  memcpy(&v.u, &d, 8);
  return v;
}
static VmV of_u(bool wide, uint64_t u) { return (VmV){.u = wide ? u : (uint32_t)u}; }

/* The same for f32 and f64: T, its maker, and the suffix of C's functions. */
#define OPS(NAME, T, OF, SUFFIX)                                                                                       \
  static VmV NAME(VmOp op, T a, T b, T c) {                                                                            \
    switch (op) {                                                                                                      \
    case VM_ADD:                                                                                                       \
      return OF(a + b);                                                                                                \
    case VM_SUB:                                                                                                       \
      return OF(a - b);                                                                                                \
    case VM_MUL:                                                                                                       \
      return OF(a * b);                                                                                                \
    case VM_DIV:                                                                                                       \
      return OF(a / b);                                                                                                \
    case VM_FMA:                                                                                                       \
      return OF(fma##SUFFIX(a, b, c));                                                                                 \
    case VM_RINT:                                                                                                      \
      return OF(rint##SUFFIX(a));                                                                                      \
    case VM_FLOOR:                                                                                                     \
      return OF(floor##SUFFIX(a));                                                                                     \
    case VM_ABS:                                                                                                       \
      return OF(fabs##SUFFIX(a));                                                                                      \
    case VM_NEG:                                                                                                       \
      return OF(-a);                                                                                                   \
    case VM_COPYSIGN:                                                                                                  \
      return OF(copysign##SUFFIX(a, b));                                                                               \
    case VM_LT:                                                                                                        \
      return (VmV){.u = a < b};                                                                                        \
    case VM_LE:                                                                                                        \
      return (VmV){.u = a <= b};                                                                                       \
    default:                                                                                                           \
      return (VmV){.u = a == b};                                                                                       \
    }                                                                                                                  \
  }
OPS(op_f, float, of_f, f)
OPS(op_d, double, of_d, )
#undef OPS

static VmV host_op(void *ctx, VmOp op, bool wide, VmV a, VmV b, VmV c) {
  switch (op) {
  case VM_SEL:
  case VM_ISEL:
    return a.u ? b : c;
  case VM_AND:
    return (VmV){.u = a.u & b.u};
  case VM_OR:
    return (VmV){.u = a.u | b.u};
  case VM_NOT:
    return (VmV){.u = !a.u};
  case VM_BITS:
  case VM_FLOAT:
    return a;
  case VM_IADD:
    return of_u(wide, a.u + b.u);
  case VM_ISUB:
    return of_u(wide, a.u - b.u);
  case VM_IAND:
    return of_u(wide, a.u & b.u);
  case VM_IXOR:
    return of_u(wide, a.u ^ b.u);
  case VM_ISHL:
    return of_u(wide, a.u << b.u);
  case VM_ISHR:
    return of_u(wide, a.u >> b.u);
  case VM_ISAR:
    return wide ? of_u(true, (uint64_t)((int64_t)a.u >> b.u)) : of_u(false, (uint64_t)((int32_t)a.u >> b.u));
  case VM_ITOF:
    return wide ? of_d((double)(int64_t)a.u) : of_f((float)(int32_t)a.u);
  case VM_SCALE:
    return wide ? of_d(ldexp(as_d(a.u), (int)(int64_t)c.u)) : of_f(ldexpf(as_f(a.u), (int32_t)(uint32_t)c.u));
  case VM_INE0:
    return (VmV){.u = a.u != 0};
  case VM_WIDEN:
    return of_d((double)as_f(a.u));
  case VM_NARROW:
    return of_f((float)as_d(a.u));
  default:
    return wide ? op_d(op, as_d(a.u), as_d(b.u), as_d(c.u)) : op_f(op, as_f(a.u), as_f(b.u), as_f(c.u));
  }
}
static VmV host_num(void *ctx, bool wide, double v) { return wide ? of_d(v) : of_f((float)v); }
static VmV host_bits(void *ctx, bool wide, int64_t v) { return of_u(wide, (uint64_t)v); }
static VmV host_slow(void *ctx, ScalarOp op, VmV x, VmV where, VmV fast) {
  if (!where.u) return fast;
  double v = as_d(x.u);
  return of_d(op == OP_SIN ? sin(v) : op == OP_COS ? cos(v) : tan(v));
}

double vm_eval(ScalarOp op, bool wide, double x, double y) {
  VmB b = {NULL, host_op, host_num, host_bits, host_slow};
  VmV r = vm_expand(&b, op, wide, host_num(NULL, wide, x), host_num(NULL, wide, y));
  return wide ? as_d(r.u) : as_f(r.u);
}
