/* The scalar-op table as data, and evaluation of its rows. */
#include "graph/scalar_eval.h"

/* Domains by typing: F and P are of floats; I, L and B of integers (bool counts as one); the rest of both. */
#define ON_FLOAT(t) ((t) != 'I' && (t) != 'L' && (t) != 'B')
#define ON_INT(t) ((t) != 'F' && (t) != 'P')
enum { F = 'F', N = 'N', I = 'I', C = 'C', P = 'P', L = 'L', B = 'B', S = 'S', K = 'K' };

const OpInfo op_info[OP_COUNT] = {
#define OP(id, name, arity, typing, fval, ival, prim, ax, ay, doc)                                                     \
  [id] = {name, arity, typing, prim, ON_FLOAT(typing), ON_INT(typing), doc},
#include "graph/scalar.def"
#undef OP
};

#define M(f) f
#define NA (bug("no such value"), 0)

double sc_eval_f(ScalarOp op, const double *args) {
  double x = args[0], y = op_info[op].arity > 1 ? args[1] : 0, z = op_info[op].arity > 2 ? args[2] : 0;
  (void)y, (void)z;
  switch (op) {
#define OP(id, name, arity, typing, fval, ival, prim, ax, ay, doc)                                                     \
  case id:                                                                                                             \
    return fval;
#include "graph/scalar.def"
#undef OP
  default:
    bug("scalar op %d", op);
  }
}

int64_t sc_eval_i(ScalarOp op, const int64_t *args) {
  int64_t x = args[0], y = op_info[op].arity > 1 ? args[1] : 0, z = op_info[op].arity > 2 ? args[2] : 0;
  (void)y, (void)z;
  switch (op) {
#define OP(id, name, arity, typing, fval, ival, prim, ax, ay, doc)                                                     \
  case id:                                                                                                             \
    return ival;
#include "graph/scalar.def"
#undef OP
  default:
    bug("scalar op %d", op);
  }
}

int64_t sc_wrap_i(DType t, int64_t v) {
  int64_t cell = 0;
  dt_put_i(t, &cell, 0, v);
  return dt_get_i(t, &cell, 0);
}

double sc_round_f(DType t, double v) {
  double cell = 0;
  dt_put_f(t, &cell, 0, v);
  return dt_get_f(t, &cell, 0);
}
