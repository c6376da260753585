/* Index spaces and subscripts: what comp.c, range.c, index.c, reduce.c, loop.c and derive.c share. Internal to lang/.
 */
#ifndef TG_LANG_SPACE_H
#define TG_LANG_SPACE_H
#include "lang/fold.h"
#include "lang/session.h"

/* ---- ranges (range.c) ---- */
/* A new innermost index; extent -1: to be found. Pushes it onto E->index (and E->tried in trial elaboration). */
Index *index_push(Elab *E, Name name, Span at, int64_t extent, int64_t lo, const Origin *from, const char *sym);
/* Extents of those of idx[0..n) that are still -1, from E->constraint[first..]: bare subscripts, then affine ones with
 * one unknown index. What can't be found stays -1. With `report`, two sizes for one index are an error (X_SIZES). */
void range_solve(Elab *E, int first, int n, Index *const *idx, bool report);
/* X_RANGE for an index whose extent was not found; says which subscripts did not help. */
_Noreturn void range_fail(Elab *E, const Index *i);
/* The box of the indices in force; own[k] is the interval of ITER k. */
Box space_box(Elab *E, int nown, const Interval *own);
Index *index_find(Elab *E, int64_t uid); /* in force or tried; NULL otherwise */

/* `...` of a comprehension, bound to the name "..." in its scope as V_NONE with ext = Dots. */
typedef struct Dots {
  int n; /* -1: rank not known yet */
  Index *ix[TG_MAX_RANK];
  Span span;
} Dots;

/* ---- subscripts (index.c) ---- */
/* What subscripts select of x: own axis a is read at idx[a], an i64 expression over the selection's own axes (ITER) and
 * free indices. `mask`: where false nothing may be read; `checked`: some subscript is data and may be out of range. */
typedef struct Place {
  int rank;
  Dim dim[TG_MAX_RANK];
  int naxis;
  Expr *idx[TG_MAX_RANK];
  bool axis_checked[TG_MAX_RANK];
  Expr *mask;
  bool checked;
} Place;
Place place_of(Elab *E, const Env *env, const TensorV *x, Ast *index);
Value *place_read(Elab *E, Value *x, const Place *p, Span at);
/* Is 0 <= sub < n at every point in force? Fills mask and checked of *p; X_BOUNDS. In trial: records the constraint.
 * own[]: ITERs. computed: the subscript is written with an operator, so it fixes no range as a bare one does. */
typedef struct Proof {
  Expr *mask;
  bool checked;
} Proof;
Proof prove_inside(Elab *E, Expr *sub, Dim dim, int nown, const Interval *own, Span at, Ast *base, int axis,
                   bool computed);
/* x[at] on `axis` for any rank-0 i64 expression: proof, mask or check included. */
Value *index_axis(Elab *E, Value *x, int axis, Expr *at, Span span);

/* ---- reductions (reduce.c) ---- */
/* Reduces the first nlead own axes of every leaf of v. guard: over ITER 0..nlead-1 and free indices, or NULL. */
Value *reduce_lead(Elab *E, Reduce op, bool mean, Value *v, int nlead, Expr *guard, Span at);
/* The scatter that a sum guarded by data == free index is, or NULL when it is none (segment.c). */
Value *segment_reduce(Elab *E, Reduce op, int nout, const Dim *out, int nred, const int64_t *red, Expr *e, Expr *guard,
                      DType t);

/* ---- walking (iter.c) ---- */
/* What `in` walks over. */
typedef struct Walk {
  enum { WALK_RANGE, WALK_ROWS, WALK_ZIP, WALK_UNROLL } kind;
  Value *v;  /* ROWS: the tensor; ZIP, UNROLL: V_ZIP or V_TUPLE */
  Expr *lo;  /* RANGE: first value */
  int64_t n; /* number of steps; -1: known at run time only (RANGE) or not yet (trial) */
  Expr *hi;  /* RANGE with n == -1 */
  Dim dim;   /* the same as a size with its origin */
} Walk;
Walk walk_open(Elab *E, Value *v, Span at);
/* Element number k (an i64 expression that is inside by construction). Not for UNROLL. */
Value *walk_at(Elab *E, const Walk *w, Expr *k);
/* The same; next values of the states of rows of a stack (model.h) are written at once, else the caller collects them.
 */
Value *next_walk(Elab *E, const Walk *w, Expr *k, bool at_once);
Value *walk_item(Elab *E, const Walk *w, int64_t k); /* static position; UNROLL too */

/* ---- small things on values (iter.c) ---- */
/* v over one more leading own axis: VAR i becomes ITER 0. Numbers become weak constants. Every leaf; T_TYPE for the
 * rest. */
Value *abstract_index(Elab *E, Value *v, const Index *i, Span at);
Expr *abstract_expr(Elab *E, Expr *e, const Index *i);
/* comp over exactly idx[0..n) and own axes, present in the value or not. v: tensor or number, hardened. */
Node *node_over(Elab *E, Value *v, int n, Index *const *idx);
/* e over (idx, own axes): VAR k to ITER k, ITER a to ITER n + a. */
Expr *expr_over(Elab *E, Expr *e, int n, Index *const *idx);
/* The load of a node over (idx, own axes): its value where the indices are in force. */
Value *load_over(Elab *E, Node *node, int n, Index *const *idx, const Dim *dim);
/* Adds the free indices of v's leaves to set[0..n), outermost first; returns the new count (at most TG_MAX_RANK). */
int free_union(Elab *E, Value *v, int n, Index **set);
int expr_free_union(Elab *E, Expr *e, int n, Index **set);
/* Pieces joined along a new axis `axis` (all of one shape), and along an existing one. */
Value *join_stack(Elab *E, int n, Value **piece, int axis, const Span *at, Span whole);
Value *join_concat(Elab *E, int n, Value **piece, int axis, const Span *at, Span whole);
/* Could the pieces be stacked: tensors of one shape, or structures of such? */
bool pieces_stack(Elab *E, int n, Value *const *v);
/* The two arms of a condition known at run time, leaf by leaf (cond.c). */
Value *select_value(Elab *E, Value *c, Value *a, Value *b, Span at);
/* The random stream inside a loop's body at step `count`, an i64 expression (random.c). */
Stream stream_loop(Elab *E, Expr *count);
/* A number that tells this place in the program, and its seed, from all others. */
Expr *stream_identity(Elab *E);
/* A draw of 64 bits as an i64 scalar, for natives that make their own of it. */
Value *draw_key(Elab *E);
bool same_structure(const Value *a, const Value *b);
bool value_same(const Value *a, const Value *b); /* equal static values; tensors: the same expression */
Dim dim_of(int64_t n);
Expr *ex_zero(Elab *E, DType t);
Value *v_zip(Elab *E, int n, Value **at);
#endif
