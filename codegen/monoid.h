/* What every way to compute a kernel (interp.c, cpu/, cuda/) has to agree on: monoids of reductions, and what
 * operations mean on truth values. */
#ifndef TG_CODEGEN_MONOID_H
#define TG_CODEGEN_MONOID_H
#include "graph/graph.h"
#include <math.h>

/* The accumulator of a reduction over values of dtype t. */
static inline DType monoid_acc(DType t) { return t == DT_F16 || t == DT_BF16 ? DT_F32 : t; }

/* The operation that joins two partial results. */
static inline ScalarOp monoid_op(Reduce op) {
  static const ScalarOp by[] = {[RED_SUM] = OP_ADD, [RED_PROD] = OP_MUL, [RED_MAX] = OP_MAX,
                                [RED_MIN] = OP_MIN, [RED_ANY] = OP_OR,   [RED_ALL] = OP_AND};
  return by[op];
}

/* What an accumulator of dtype t starts at: floats, the rest. */
static inline double monoid_start_f(Reduce op) {
  return op == RED_PROD ? 1 : op == RED_MAX ? -INFINITY : op == RED_MIN ? INFINITY : 0;
}
static inline int64_t monoid_start_i(Reduce op, DType t) {
  if (op == RED_MAX) return t == DT_BOOL ? 0 : dt_int_min(t);
  if (op == RED_MIN) return t == DT_BOOL ? 1 : dt_int_max(t);
  return op == RED_PROD || op == RED_ALL;
}

/* Truth values are numbers 0 and 1, and a result other than 0 is true: operations of numbers are these. */
typedef enum { BOOL_AND, BOOL_OR, BOOL_XOR, BOOL_NOT, BOOL_OR_NOT, BOOL_FALSE, BOOL_SAME, BOOL_NONE } BoolOp;
static inline BoolOp bool_op_of(ScalarOp op) {
  switch (op) {
  case OP_AND:
  case OP_MUL:
  case OP_MIN:
  case OP_BAND:
  case OP_FLOORDIV:
    return BOOL_AND;
  case OP_OR:
  case OP_ADD:
  case OP_MAX:
    return BOOL_OR;
  case OP_SUB:
  case OP_XOR:
    return BOOL_XOR;
  case OP_NOT:
    return BOOL_NOT;
  case OP_POW:
    return BOOL_OR_NOT;
  case OP_MOD:
    return BOOL_FALSE;
  case OP_NEG:
  case OP_ABS:
  case OP_SIGN:
  case OP_FLOOR:
  case OP_CEIL:
  case OP_ROUND:
  case OP_STOP:
    return BOOL_SAME;
  default:
    return BOOL_NONE;
  }
}
#endif
