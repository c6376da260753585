/* Static numbers and their arithmetic (fold.c). */
#ifndef TG_LANG_FOLD_H
#define TG_LANG_FOLD_H
#include "lang/session.h"

typedef struct Num {
  bool is_float, is_bool;
  int64_t i;
  double f;
} Num; /* f is set for integers too */

bool v_num(const Value *v, Num *out); /* V_NUM and V_BOOL */
Value *num_value(Elab *E, Num n);
/* One scalar op on static numbers; V_OVERFLOW, V_DIVZERO. False where the row is not defined for them (`1 and 2`). */
bool fold_num(Elab *E, ScalarOp op, int n, const Num *v, Span at, Num *out);
/* The same on values: numbers, bools, literal lists. NULL when some operand is known at run time only. */
Value *fold_static(Elab *E, ScalarOp op, int n, Value *const *v, const Span *at, Span whole);
/* A literal list: weak i64 or f64, or bool. */
Value *num_list(Elab *E, int rank, const Dim *dim, int64_t count, const Num *num);
/* The constant under a weak tensor or a view of it, or NULL. */
const Node *weak_const(const TensorV *t);
const char *op_text(ScalarOp op); /* "+", "exp" */
#endif
