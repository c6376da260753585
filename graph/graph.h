/* The graph of comprehensions: expressions, nodes, and their makers.
 *
 *   Expr   a scalar DAG: what is computed at one point of an iteration space
 *   Node   a tensor: what is computed at all points; a comprehension (ND_COMP) or one of the few kinds beside it
 *   Graph  owns both; interns them (equal value = equal pointer, so CSE is `==`); ordered by id: children first
 *
 * Every Node and Expr is immutable and made by one maker below, which also normalises. Two nodes are never equal by
 * value and different by pointer, except the kinds that are unique by nature: INPUT, PARAM.
 *
 * Iterators are positional. In a comprehension with nout outputs and nred reductions, EX_ITER k is output iterator k for
 * k < nout and reduction iterator k - nout otherwise; extents live in the node. There are no nested binders: an inner
 * reduction is a node of its own, whose outputs are its free iterators.
 *
 *   [sum(a[m, k] * b[k, n] for k) for m, n]   =  comp{m 4, n 5; k 3; sum; a[i0, i2] * b[i2, i1]}  : f32[4, 5]
 *   [x[i] + 1 for i]                          =  comp{i 7; ; none; x[i0] + 1}                     : f32[7]
 *
 * Dtype rules the makers check (bug() otherwise): operands of N/F/C rows have equal dtypes; subscripts, ITER, VAR and
 * LIN are i64; a comp's dtype is its body's, except argmax/argmin: i64 (the front end casts i32 bodies to i64 before
 * a sum). f16/bf16 sums: the back ends accumulate in f32 and round at the end.
 *
 * Ownership: everything lives in the Graph's arena (unit lifetime). Not thread-safe. */
#ifndef TG_GRAPH_GRAPH_H
#define TG_GRAPH_GRAPH_H
#include "diag.h"
#include "dtype.h"

typedef struct Expr Expr;
typedef struct Node Node;
typedef struct Graph Graph;

typedef enum {
#define OP(id, ...) id,
#include "scalar.def"
#undef OP
  OP_COUNT
} ScalarOp;
typedef struct {
  const char *name;
  int arity;
  char typing;
  bool prim, on_float, on_int;
  const char *doc;
} OpInfo;
extern const OpInfo op_info[OP_COUNT];

/* ---- Expressions ---------------------------------------------------------------------------------------------- */
typedef enum {
  EX_CONST, /* num.i (bool, ints) or num.f (floats: already rounded to dtype) */
  EX_ITER,  /* positional iterator num.i */
  EX_VAR,   /* free iterator num.i of a comprehension still being elaborated; the verifier refuses it inside a node */
  EX_LIN,   /* num.i + sum coef[k] * arg[k], i64; args are non-LIN, non-CONST atoms sorted by id, coefs non-zero */
  EX_LOAD,  /* node[arg...]; mask (bool or NULL): where false the value is 0 and nothing is read */
  EX_OP     /* scalar.def row `op` over arg */
} ExprKind;

struct Expr {
  uint8_t kind, dtype, op;
  bool checked; /* LOAD: some subscript is data and may be out of range: back ends check, fault R_INDEX */
  int nvar;     /* number of distinct EX_VARs below (0: closed) */
  uint32_t id;  /* creation order; arguments have smaller ids */
  int n;        /* arguments */
  Expr *const *arg;
  union {
    int64_t i;
    double f;
  } num;
  const int64_t *coef; /* LIN */
  Node *node;          /* LOAD */
  Expr *mask;          /* LOAD */
  /* CHECKED loads and operations: where the user wrote it (of equal ones the first). Not part of the value */
  Span span;
};

/* Makers. All fold constants and apply exact identities (x + 0 only where exact: not for -0.0). */
Expr *ex_int(Graph *g, DType t, int64_t v); /* v must fit: else bug */
Expr *ex_float(Graph *g, DType t, double v);
Expr *ex_num(Graph *g, DType t, double v); /* int or float by t */
Expr *ex_bool(Graph *g, bool v);
Expr *ex_iter(Graph *g, int k);
Expr *ex_var(Graph *g, int64_t uid);
Expr *ex_lin(Graph *g, int64_t c, int n, const int64_t *coef, Expr *const *atom); /* normalises; atoms may be any i64 */
/* Where the mask is false nothing is read: loads in the subscripts come under it too, but for those at iterators alone,
 * which are inside wherever they are computed. */
Expr *ex_load(Graph *g, Node *t, int n, Expr *const *idx, Expr *mask, bool checked, Span span);
/* e with every load in it under `mask` as well, those in its loads' masks and subscripts too: masks are values, computed
 * whatever stands before them in an `and`. NULL masks nothing; e NULL stays. */
Expr *ex_under(Graph *g, Expr *e, Expr *mask);
/* i64 add/sub/neg/mul-by-constant become LIN. floordiv/mod by a positive constant of a LIN split off multiples. */
Expr *ex_op(Graph *g, ScalarOp op, int n, Expr *const *arg);
Expr *ex_op1(Graph *g, ScalarOp op, Expr *x);
Expr *ex_op2(Graph *g, ScalarOp op, Expr *x, Expr *y);
Expr *ex_select(Graph *g, Expr *c, Expr *a, Expr *b);
Expr *ex_cast(Graph *g, DType t, Expr *x);
Expr *ex_and(Graph *g, Expr *a, Expr *b); /* NULL means true, on either side and as the result */
bool ex_is_const(const Expr *e, double *v);
/* The one rewriter: rebuilds e bottom-up through the makers, memoised. `leaf` is asked first at every sub-expression:
 * a non-NULL answer replaces it. Loads' nodes are kept (use graph_rewrite to replace nodes). */
typedef Expr *(*ExprFn)(void *ctx, Expr *e);
Expr *ex_map(Graph *g, Expr *e, ExprFn leaf, void *ctx);
Expr *ex_subst_iters(Graph *g, Expr *e, int n, Expr *const *by); /* ITER k -> by[k] for k < n */
void ex_visit(Expr *e, void (*fn)(void *ctx, Expr *e),
              void *ctx); /* each distinct sub-expression (and masks) once, children first */
bool ex_uses_iter(const Expr *e, int k);

/* ---- Nodes ---------------------------------------------------------------------------------------------------- */
typedef enum {
  RED_NONE,
  RED_SUM,
  RED_PROD,
  RED_MAX,
  RED_MIN,
  RED_ANY,
  RED_ALL,
  RED_ARGMAX,
  RED_ARGMIN /* i64: row-major position in the reduction space of the first best; nan counts as best */
} Reduce;
const char *red_name(Reduce r);

typedef enum {
  ND_INPUT,   /* a buffer handed in when the unit runs; unique */
  ND_CONST,   /* data known now; interned by content */
  ND_PARAM,   /* value bound by an enclosing LOOP or CUSTOM body, or a stand-in during differentiation; unique */
  ND_COMP,    /* the comprehension */
  ND_SCAN,    /* running reduction along the last output iterator (cumsum and its kin) */
  ND_SCATTER, /* base, changed at data-dependent (or affine) places, in ascending order of the source iterators */
  ND_LOOP,    /* fold and scan; results by GET */
  ND_COND,    /* a branch on a rank-0 bool, lazy; results by GET */
  ND_CALL,    /* native routine (graph/native.h): LAPACK, sort, files; results by GET; effects too */
  ND_GET,     /* result `index` of LOOP, COND or CALL */
  ND_CUSTOM   /* identity of `primal` with the user's own adjoint; removed after differentiation */
} NodeKind;

typedef struct {
  DType dtype;
  int rank;
  const int64_t *dim;
} TensorType;
typedef struct {
  const char *s;
  int64_t i;
  double f;
} Attr; /* s if non-NULL, else i (f for floats: both always set) */

typedef struct Comp { /* also the payload of SCAN (nred = 0) and SCATTER (nout = source iterators, nred = 0) */
  int nout, nred;
  const int64_t *extent; /* nout + nred of them */
  Reduce op;             /* RED_NONE iff nred == 0 (COMP) */
  Expr *body, *guard; /* guard: bool or NULL; points where it is false take no part (outputs without reduction: 0). The
                         body may be evaluated there all the same: its loads are inside their tensors, or masked */
  bool reverse, exclusive; /* SCAN */
  int64_t chunk;           /* COMP, a float sum, prod, max or min: see nd_comp_cut. Else 0 */
} Comp;

typedef enum { SC_SET, SC_ADD, SC_MAX, SC_MIN } Combine;

/* A region is evaluated lazily: its outputs, and its effects (CALLs with native->effect, in order). Nodes belong to no
 * region; one is evaluated inside a loop body because it depends on the loop's PARAMs, inside a branch because only
 * that branch's outputs reach it. */
typedef struct Region {
  int nout;
  Node *const *out;
  int neffect;
  Node *const *effect;
} Region;

typedef struct Loop {
  int nstate;
  Node *const *init, *const *param; /* body.out[0..nstate) is the next state */
  Node *counter;                    /* PARAM i64 rank 0: 0, 1, ..; or NULL */
  int64_t trip;                     /* static trip count, or its upper bound when trip_node */
  Node *trip_node;                  /* i64 rank 0, or NULL */
  Node *cond;                       /* bool rank 0 over the params, tested before each step; or NULL */
  Region body;                      /* outputs: nstate next states, then nstack values to stack */
  int nstack;
  bool reverse; /* counter runs trip-1 .. 0; stacked rows are placed by counter */
} Loop; /* GET k: k < nstate final states; nstate + j: stacked [trip, ...] (rows of steps not run: 0); nstate + nstack:
           i64 steps run */

struct Node {
  uint8_t kind, dtype;
  int rank; /* tuple kinds LOOP, COND, CALL: rank 0, see nres */
  const int64_t *dim;
  uint32_t id;
  Span span;        /* first place in the source it answers for. Not part of the value */
  const char *name; /* INPUT, PARAM: for dumps. CALL: the native's name */
  union {
    Comp comp; /* COMP, SCAN */
    struct {
      Comp src;
      Node *base;
      int nidx;
      Expr *const *idx;
      Combine how;
      bool checked;
    } scatter; /* base NULL: zeros; nidx = rank */
    Loop loop;
    struct {
      Node *pred;
      Region yes, no;
    } cond;
    struct {
      const struct Native *fn;
      int nattr;
      const Attr *attr;
      int narg;
      Node *const *arg;
    } call;
    struct {
      Node *of;
      int index;
    } get;
    struct {
      Node *primal;
      int narg;
      Node *const *arg;
      int nparam;
      Node *const *param;
      Node *const *adj;
    } custom; /* params: args..., y, dy; adj[i] for arg i */
    struct {
      int64_t lo, hi;
    } param;          /* PARAM i64 rank 0: known interval, lo > hi if none */
    const void *data; /* CONST: packed row-major, dt_bytes each */
    int64_t slot;     /* INPUT: the caller's number for the buffer */
  };
  int nres; /* LOOP, COND, CALL: number and types of results */
  const TensorType *res;
};

struct Graph {
  Arena *arena;
  Diags *diags; /* for spans and bug messages */
  uint32_t next_id;
  struct Interner *exprs, *nodes; /* hash sets */
  Span span;                      /* where new nodes are attributed to; set by the front end as it goes */
  const struct Natives *natives;  /* what graph_parse looks natives up in; NULL: calls parse by name and cannot run */
};

Graph *graph_new(Arena *unit, Diags *d);

Node *nd_input(Graph *g, DType t, int rank, const int64_t *dim, const char *name, int64_t slot);
Node *nd_const(Graph *g, DType t, int rank, const int64_t *dim, const void *data); /* data copied */
Node *nd_scalar(Graph *g, Expr *closed); /* rank-0 comp of an expression without iterators */
Node *nd_param(Graph *g, DType t, int rank, const int64_t *dim, const char *name);
Node *nd_counter(Graph *g, int64_t lo, int64_t hi); /* i64 rank-0 PARAM with a known closed interval */
/* Returns the loaded node itself when the comp is the identity on it. */
Node *nd_comp(Graph *g, int nout, int nred, const int64_t *extent, Reduce op, Expr *body, Expr *guard);
/* A reduction whose outermost iterator runs over the samples of a batch, and whose order must not depend on how many of
 * them stand here: it is cut at flat positions chunk, 2 * chunk, .. (chunk > 0, a multiple of the product of the other
 * reduction extents, so whole samples), and the parts are joined by the aligned pairwise tree (codegen/kernel.h states
 * the order of each). So the sum of a complete node of that tree has the bits of a comp of its samples alone, with the
 * same chunk. The simplifier leaves its iterators alone. Kept for float sums, products, maxima and minima, also when
 * all is one chunk; else order does not matter, and this is nd_comp. */
Node *nd_comp_cut(Graph *g, int nout, int nred, const int64_t *extent, Reduce op, Expr *body, Expr *guard,
                  int64_t chunk);
Node *nd_scan(Graph *g, int nout, const int64_t *extent, Reduce op, Expr *body, bool reverse, bool exclusive);
Node *nd_scatter(Graph *g, DType t, int rank, const int64_t *dim, Node *base, int nsrc, const int64_t *extent,
                 Expr *const *idx, Expr *body, Expr *guard, Combine how, bool checked);
Node *nd_loop(Graph *g, const Loop *l); /* arrays copied */
/* hoist.c: changes the body so that products of what the counter alone decides are computed before the loop. Before any
 * derivative. */
void loop_hoist(Graph *g, Loop *l);
/* gathered.c: an equal node, bit for bit, if n is a large sum of products of gathered rows; else n. Before any
 * derivative. */
Node *nd_gathered(Graph *g, Node *n);
Node *nd_cond(Graph *g, Node *pred, const Region *yes, const Region *no);
Node *nd_call(Graph *g, const struct Native *fn, int nattr, const Attr *attr, int narg, Node *const *arg, int nres,
              const TensorType *res); /* effects are never interned */
Node *nd_get(Graph *g, Node *of, int index);
Node *nd_custom(Graph *g, Node *primal, int narg, Node *const *arg, Node *const *param, Node *const *adj);

Expr *ex_load_full(Graph *g, Node *t, int first); /* t[ITER first, ITER first+1, ...] */
int64_t nd_size(const Node *n);                   /* elements */
/* Every node that n reads directly: loads' nodes, call arguments, loop inits, captured nodes of regions... */
void nd_each_input(const Node *n, void (*fn)(void *ctx, Node *in), void *ctx);
/* The PARAMs n's value depends on and that nothing at or below n binds, by ascending id; returns their number. */
int nd_free_params(const Node *n, Node *const **param);
/* Rebuilds what reaches `out` with some nodes replaced (from[i] -> to[i], same type); memoised; loops and regions are
 * rebuilt with fresh PARAMs when something inside changes. Writes the new roots to out. */
void graph_rewrite(Graph *g, int n, Node *const *from, Node *const *to, int nroot, Node **root);
/* Reachable nodes, children first (regions' inner nodes included). */
int graph_topo(Graph *g, int nroot, Node *const *root, Node ***order);

/* ---- Text, verifier, simplifier, oracle (text.c, verify.c, simplify.c, eval.c) --------------------------------- */
char *graph_print(Graph *g, Arena *a, const Region *r); /* one line a node; parses back */
bool graph_parse(Graph *g, const char *text, Region *out,
                 char **error);               /* natives are looked up in the registry given by native.h */
void graph_verify(Graph *g, const Region *r); /* bug() on the first violation */
void graph_simplify(Graph *g, Region *r);     /* and dce: what is not reachable is not printed or run */
#endif
