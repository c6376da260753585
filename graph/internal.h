/* Shared by the files of graph/ alone: interning, and what a maker computes once beside each Expr and Node.
 *
 * ExprX and NodeX begin with the public struct, so a pointer to one is a pointer to the other; every Expr and Node is
 * allocated by intern_expr / intern_node as such. */
#ifndef TG_GRAPH_INTERNAL_H
#define TG_GRAPH_INTERNAL_H
#include "graph/native.h"

/* Open-addressing set of pointers with their hashes; capacity is a power of two, at most 2/3 full. In the arena. */
typedef struct Interner {
  uint32_t cap, n;
  void **item;
  uint64_t *hash;
} Interner;
typedef bool (*InternEq)(const void *a, const void *b);
void *intern_find(const Interner *t, uint64_t hash, const void *key, InternEq eq);
void intern_add(Arena *a, Interner *t, uint64_t hash, void *item);
static inline uint64_t hash_mix(uint64_t h, uint64_t v) {
  h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
  return h ^ h >> 29;
}
uint64_t hash_bytes(uint64_t h, const void *p, size_t n);

typedef struct ExprX {
  Expr e;
  uint64_t hash;
  const int64_t *var; /* the e.nvar distinct uids below, ascending; shared between expressions */
  uint64_t iters;     /* bit k: ITER k occurs below (masks included); bit 63: some k >= 63 does */
  bool index; /* i64 built of ITER, VAR, constants and loop counters alone: arithmetic on it does not overflow */
} ExprX;
static inline const ExprX *expr_x(const Expr *e) { return (const ExprX *)e; }

typedef struct NodeX {
  Node n;
  uint64_t hash;
  int nin, nfree;
  Node *const *in;   /* distinct nodes read directly (nd_each_input), in order of first occurrence */
  Node *const *free; /* PARAMs the value depends on that no node at or below this one binds; ascending ids */
} NodeX;
static inline const NodeX *node_x(const Node *n) { return (const NodeX *)n; }

/* Interns a fully filled temporary. Its arg, coef arrays are copied when it is new. */
Expr *intern_expr(Graph *g, const Expr *tmp);
/* An operation as it is, without simplification. */
Expr *ex_raw_op(Graph *g, ScalarOp op, DType t, int n, Expr *const *arg);
/* ex_load of subscripts whose loads are under the mask already. */
Expr *ex_raw_load(Graph *g, Node *t, int n, Expr *const *idx, Expr *mask, bool checked, Span span);
/* i64 x // c and x % c for a constant c > 0. */
Expr *ex_floordiv_const(Graph *g, Expr *x, int64_t c);
Expr *ex_mod_const(Graph *g, Expr *x, int64_t c);
/* Interval of an i64 expression from what it says itself (constants, % c, counters); false when unknown. */
bool ex_local_bounds(const Expr *e, int64_t *lo, int64_t *hi);
/* The rewriter behind ex_map: `leaf` is asked first (a non-NULL answer replaces the sub-expression and is not
 * entered), `node` replaces loads' nodes, `post` sees each rebuilt sub-expression and may answer with a better one.
 * Each may be NULL. */
typedef struct Rebuild {
  ExprFn leaf;
  Node *(*node)(void *ctx, Node *n);
  ExprFn post;
  void *ctx;
} Rebuild;
Expr *ex_rebuild(Graph *g, Expr *e, const Rebuild *how);
/* n over other inputs: `expr` gives the replacement of each expression, `node` of each node (they may answer the
 * same). */
typedef struct Renew {
  Expr *(*expr)(void *ctx, Expr *e);
  Node *(*node)(void *ctx, Node *n);
  void *ctx;
  Arena *scratch;
} Renew;
Node *nd_renew(Graph *g, Node *n, const Renew *how);

/* A comprehension (or the source of a scatter) taken apart by the simplifier. */
enum { WORK_ITER = 24 };
typedef struct Work {
  Graph *g;
  int nout, nred, nidx; /* nidx: subscripts of a scatter */
  int64_t extent[WORK_ITER];
  Reduce op;
  Expr *body, *guard; /* guard may be NULL */
  Expr *idx[TG_MAX_RANK];
  Expr *back[WORK_ITER]; /* output k of the new form as an expression of the old output iterators */
  Expr *mask;            /* over the old output iterators: where false the value is 0; NULL: nowhere */
  bool changed;          /* the new outputs are not the old ones */
  bool fixed_outputs;    /* a scatter: all iterators are sources, none is an axis of the result */
} Work;
/* Replaces every iterator: by[k] for each old one, in terms of the new. The extents are the caller's to set. */
void work_subst(Work *w, Expr *const *by);
void work_reduce(Work *w);      /* ex_reduce of all parts */
void work_split(Work *w);       /* SPLIT (split.c) */
void work_guards(Work *w);      /* equality guards (guards.c) */
void work_drop(Work *w, int k); /* removes iterator k, which nothing uses */
void work_presum(Work *w);      /* sums inside products (presum.c) */
void work_narrow(Work *w);      /* iterators shrink to where the body is not 0 (narrow.c) */
/* A scatter whose places are affine as a comprehension, or NULL (narrow.c). */
Node *scatter_as_comp(Graph *g, Node *n);
bool work_scan(Work *w, Node **out); /* a triangular reduction as SCAN (guards.c); *out has the new outputs' type */
/* The conjuncts of a condition. `full`: there were more. */
enum { MAX_CONJ = 32 };
typedef struct Conj {
  Expr *at[MAX_CONJ];
  int n;
  bool full;
} Conj;
void conj_take(Conj *c, Expr *cond);                   /* adds; NULL is true */
Expr *conj_without(Graph *g, const Conj *c, int drop); /* their conjunction, all but one; NULL: true */
/* Conditions outside of any of which e is exactly 0, not 0 times something that may be infinite. */
void conj_zero_unless(Conj *z, Expr *e);
/* The value of a reduction over no point (RED_NONE: where the guard is false); NULL when there is none: integers'
 * max, argmax. */
Expr *ex_over_nothing(Graph *g, Reduce op, DType t);
/* e, safe to evaluate where c is false: loads that could leave their tensors or be checked are masked by c, and integer
 * divisors are 1 there. The box is that of w's extents. */
Expr *work_push_mask(Work *w, Expr *e, Expr *c);
/* merge.c: loops of the same steps become one; true when something changed. */
bool merge_loops(Graph *g, int nroot, Node **root);
#endif
