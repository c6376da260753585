/* What the tables of builtins share. */
#ifndef TG_LANG_BUILTIN_H
#define TG_LANG_BUILTIN_H
#include "lang/elab.h"

/* The span of the argument that has this value; the call's own when none has. */
Span arg_span(const Call *c, const Value *v);
/* Sizes `2, 3` or one tuple of them, as a rest argument (a tuple). Returns the rank. */
int read_shape(Elab *E, Value *rest, Call *c, Dim *dim);
/* An axis argument in 0..rank; negative counts from the end. */
int read_axis(Elab *E, Value *v, int rank, const char *what, Span at);
/* x as a hardened tensor. */
Value *need_tensor(Elab *E, Value *v, Call *c, const char *what);
/* The axis moved to the end (or from the end back to where it was). */
Value *axis_last(Elab *E, Value *x, int axis);
Value *axis_back(Elab *E, Value *x, int axis);
/* Running reduction along the last own axis. */
Value *scan_last(Elab *E, Value *x, Reduce op, bool reverse, bool exclusive);
/* The natives sort and argsort along the last own axis. */
Value *sorted(Elab *E, Value *x, const char *native, bool descending, Span at);
/* A pure native over leading axes: every argument gets all free indices of all of them in front. Results as values. */
Value *call_native(Elab *E, const char *name, int nattr, const Attr *attr, int narg, Value **arg, int nres,
                   const DType *dt, const int *rank, const Dim (*dim)[TG_MAX_RANK], Span at);
extern const Builtin builtins_random[], builtins_derive[], builtins_make[], builtins_shape[], builtins_reduce[],
    builtins_order[], builtins_train[], builtins_linalg[], builtins_data[], builtins_sources[], builtins_fit[],
    builtins_model[];
#endif
