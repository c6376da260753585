/* The elaborator's own data: values, environments, contexts. Internal to lang/.
 *
 *   Value    what an expression evaluates to while checking; immutable
 *   TensorV  a tensor value: shape, dtype, and an Expr over its own axes and the free indices around it
 *   Env      a persistent list of bindings (a closure keeps the pointer to its head)
 *   Elab     one elaboration: graph, diagnostics, indices in force, effects so far
 *
 * TensorV.e is an expression whose EX_ITER k is own axis k (k < rank), and whose EX_VARs are indices of enclosing
 * comprehensions, [b] below. Views (slices, transposes, reshapes, x[b]) only rewrite e and make no node. Any
 * arithmetic on a tensor of rank > 0 is *sealed*: it becomes a comp over (free indices in order of nesting, own axes), and the
 * value is a load of it. So inside `[f(x[b]) for b]` the body of f is batched over b without knowing. Rank-0
 * arithmetic stays an expression (it is fused by construction into whatever comp it ends in).
 * Invariant for rank > 0: e is a LOAD (possibly masked, any subscripts), a constant, or index arithmetic.
 *
 * Weak values: a static number (V_NUM), a literal list ([1, 2.5]) or arithmetic of those only takes the other operand's dtype;
 * `weak` tensors are stored as i64 or f64 and harden to i64 or f32 when they meet no dtype. */
#ifndef TG_LANG_ELAB_H
#define TG_LANG_ELAB_H
#include "graph/affine.h"
#include "lang/lang.h"

typedef struct Value Value;
typedef struct Elab Elab;
typedef struct Env Env;
typedef struct Fun Fun;
typedef struct Module Module;
typedef struct Index Index;
typedef struct Builtin Builtin;

/* Where a size came from, for notes: "4 is K of `a` (line 3)". A chain by `via`. */
typedef struct Origin {
  const char *text;
  Span span;
  const struct Origin *via;
} Origin;
typedef struct Dim {
  int64_t n;
  const Origin *from;
  const char *sym; /* its name while a signature is checked by itself, e.g. "K" */
} Dim;
/* n < 0: not known yet. Occurs in trial elaboration only (see Elab.trial); every check treats it as agreeing. */

typedef struct TensorV {
  DType dtype;
  bool weak;
  int rank;
  Dim dim[TG_MAX_RANK];
  Expr *e;
  const void *id; /* a model's parameter or state itself, by its identity (model.h); NULL for all that is computed */
} TensorV;

typedef enum {
  V_NONE,
  V_NUM,
  V_BOOL,
  V_STR,
  V_TUPLE,
  V_RECORD,
  V_RANGE,
  V_FUN,
  V_TENSOR,
  V_DTYPE,
  V_MODULE,
  V_MODEL,
  V_DATA,
  V_HOLE,  /* `_` as a constructor's argument: a size that the model's first call gives */
  V_ZIP,   /* zip(a, b), enumerate(a): agg.at are iterables of one length (ranges, tensors, tuples), walked together */
  V_POISON /* what a failed top-level binding is bound to: using it unwinds without a further message */
} ValueKind;
extern const char *const value_kind_text[]; /* "none", "a number", "a string", ... for messages */

struct Value {
  ValueKind kind;
  union {
    struct {
      bool is_float;
      int64_t i;
      double f;
      const Origin *from;
    } num;  /* static, no dtype yet */
    bool b; /* static */
    /* narg == 0: the text. Else a template of the native `print` with run-time operands: {0}, {1:.4}, {{ for a brace */
    struct {
      const char *s;
      size_t n;
      int narg;
      Value **arg;
    } str;
    struct {
      int n;
      Value **at;
      Name *key;
    } agg; /* TUPLE (key NULL), RECORD, ZIP */
    struct {
      Value *lo, *hi;
    } range; /* ints: V_NUM, or rank-0 integer tensors */
    Fun *fun;
    TensorV t;
    DType dtype;
    Module *module;
    struct ModelV *model; /* model.h */
    void *ext;            /* DATA: later rooms */
  };
};

/* ---- values.c: makers and views of values ---- */
Value *v_none(Elab *E);
Value *v_int(Elab *E, int64_t i, const Origin *from);
Value *v_float(Elab *E, double f);
Value *v_bool(Elab *E, bool b);
Value *v_str(Elab *E, const char *s, size_t n);
Value *v_tuple(Elab *E, int n, Value **at);
Value *v_record(Elab *E, int n, Name *key, Value **at);
Value *v_range(Elab *E, Value *lo, Value *hi);
Value *v_dtype(Elab *E, DType t);
Value *v_builtin(Elab *E, const struct Builtin *b);
Value *v_tensor(Elab *E, DType t, int rank, const Dim *dim, Expr *e);
Value *v_scalar(Elab *E, Expr *e);          /* rank 0 */
Value *v_node(Elab *E, Node *n);            /* closed: load of n over all its axes */
char *v_type_text(Elab *E, const Value *v); /* "f32[3, 4]", "{w: f32[3], b: f32[]}", "a function f(x, y)" */
bool v_field(const Value *rec, Name key, Value **out);
/* A value as a tensor (numbers, bools, ranges, lists, nested tuples are not): fails T_TYPE at `at`. `what` names it in
 * the message. */
TensorV *v_as_tensor(Elab *E, Value *v, Span at, const char *what);
/* Static readers; fail T_STATIC / T_TYPE with a message naming `what`. */
int64_t v_static_int(Elab *E, Value *v, Span at, const char *what);
double v_static_num(Elab *E, Value *v, Span at, const char *what);
bool v_static_bool(Elab *E, Value *v, Span at, const char *what);
const char *v_static_str(Elab *E, Value *v, Span at, const char *what);
bool v_is_static_int(const Value *v, int64_t *out);

/* ---- tensors.c: dtype, broadcasting, sealing ---- */
/* Hardens a weak tensor; converts to t (exactly as a literal would; T_LITERAL when it does not fit) */
Value *tv_cast(Elab *E, Value *v, DType t,
               Span at); /* explicit conversion f32(x): any dtype to any; numbers too; element-wise */
DType tv_hard_dtype(const TensorV *t);
/* The common dtype of operands (weak ones adapt); T_DTYPE on two floats. want_float: ints become f32. */
DType tv_join(Elab *E, int n, Value *const *v, const Span *at, bool want_float);
/* The NumPy broadcast of shapes with tg's restriction (S_BROADCAST, S_MISMATCH with both shapes and origins). Returns
 * rank. */
int tv_broadcast(Elab *E, int n, Value *const *v, const Span *at, Span op, const char *opname, Dim *out);
/* v (a tensor or number) as an Expr of dtype t over the result's own axes 0..rank-1 (broadcast from the right). */
Expr *tv_at(Elab *E, Value *v, DType t, int rank, const Dim *dim, Span at);
/* Element-wise scalar op on any values; records, tuples and models map; static operands fold to static. */
Value *tv_elementwise(Elab *E, ScalarOp op, int n, Value *const *v, const Span *at, Span whole);
Value *tv_select(Elab *E, Value *c, Value *a, Value *b, Span at);
/* A weak tensor or static number takes its default dtype (i64, f32); anything else is returned as it is. */
Value *tv_harden(Elab *E, Value *v, Span at);
/* `@` on tensors (builtin_linalg.c). */
Value *elab_matmul(Elab *E, Value *a, Value *b, Span sa, Span sb, Span at);
/* Makes the value a comp over its free indices and own axes, unless it is a plain view already (or rank 0). */
Value *tv_seal(Elab *E, Value *v);
/* The node whose axes are (free indices of v, outermost first, own axes); *nfree of them, written to free_index[],
 * which has room for TG_MAX_RANK. Makes a comp if needed. */
Node *tv_node(Elab *E, Value *v, int *nfree, Index **free_index);
/* A closed value's node (no free indices: else bug). */
Node *tv_closed(Elab *E, Value *v);
/* A comp with the given reduction iterators over body: reduce the last nred own axes of `v`-shaped expression e. */
Value *tv_reduce(Elab *E, Reduce op, int nout, const Dim *out, int nred, const int64_t *red, Expr *e, Expr *guard,
                 DType t);
void tv_check_size(Elab *E, DType t, int rank, const Dim *dim, Span at); /* S_OVERFLOW, S_NEGATIVE */

/* ---- env ---- */
/* `sig`: a parameter or dimension variable of an enclosing def: the only bindings that a dim name in a signature can
 * mean. */
struct Env {
  Name name;
  Value *v;
  Span span;
  bool sig;
  const Env *up, *sigs; /* the nearest with sig, from this one on */
};
const Env *env_bind(Elab *E, const Env *env, Name name, Value *v, Span span);
const Env *env_find(const Env *env, Name name);

/* ---- functions ---- */
typedef struct Arg {
  Name name;
  Value *v;
  Span span;
} Arg; /* name NULL: positional */
typedef struct Call {
  Span span, callee;
  const char *fname;
  int n;
  Arg *arg;
  Ast *ast;
} Call;
typedef struct Builtin {
  const char *name;
  const char
      *params; /* "x, axis=, keepdims=": positional names in order; `=` optional; `*` rest; keyword-only after `;` */
  Value *(*fn)(Elab *E, const struct Builtin *self, Call *c,
               Value **bound); /* bound[i]: params in order, NULL when not given; rest as a tuple */
  const char *doc;
  int64_t data; /* e.g. a ScalarOp or Reduce for table-driven rows */
} Builtin;
struct Fun {
  enum {
    FUN_DEF,
    FUN_LAMBDA,
    FUN_BUILTIN,
    FUN_DERIVED,
    FUN_MODEL /* a model's name: calling it constructs one */
  } kind;
  const char *name;
  Ast *ast; /* DEF, LAMBDA, MODEL */
  const Env *env;
  Module *module; /* whose top level it sees */
  const Builtin *builtin;
  Value *(*derived)(Elab *E, Fun *self, Call *c); /* grad(f), custom_grad(f, b): keeps its own data in `data` */
  Value **data;
  int ndata;
  const struct ModelV *model; /* a method: of which model; or NULL */
  const char *doc;
};
/* The definitions being elaborated, innermost first: notes of a diagnostic, and trip over V_RECURSION. In the arena. */
typedef struct Frame {
  const char *fname;
  Span call;
  const struct Frame *up;
} Frame;
/* Says of a clash of the sizes a and b whether other sizes of the arguments could settle it: one of them is computed.
 */
void note_clash(Elab *E, Diag *g, Dim a, Dim b);
/* Where a fault when the program runs is shown: `at`, or the user's call of the library that `at` is in. */
Span user_span(Elab *E, Span at);
Value *call_value(Elab *E, Value *f, Call *c);                      /* any callable; T_TYPE otherwise */
Value *call_simple(Elab *E, Value *f, int n, Value **arg, Span at); /* positional */

/* ---- indices in force ---- */
struct Index {
  int64_t uid;
  Name name;
  Span span;
  int64_t extent;     /* -1: not known yet (trial) */
  int64_t lo;         /* value = VAR + lo */
  const Origin *from; /* what fixed the extent */
  const char *sym;    /* the extent's symbol while a signature is checked by itself, or NULL */
  Expr *var;
  Index *outer;
  const struct Next *next; /* Elab.next when it was pushed */
};

/* A linear constraint met while trying: subscript `sub` of an axis of size n (X_RANGE, X_SIZES, X_BOUNDS material). */
typedef struct Constraint {
  Expr *sub;
  Dim dim;
  Span span;
  Expr *guard;
  bool part; /* an end of a slice: bare or not, it fixes nothing alone */
} Constraint;

/* How often each callee was called so far in this definition: a trie on the name's hash, persistent, so that saving a
 * Stream saves it. Names are interned. */
typedef struct StreamCount {
  const char *name;
  uint32_t n;
  const struct StreamCount *kid[4];
} StreamCount;
/* Random streams: the key of the chain of calls so far and the ordinal of the next draw in this definition. */
typedef struct Stream {
  uint64_t key;
  Expr *dyn; /* loop counters mixed in, or NULL */
  uint32_t ordinal;
  const struct StreamCount *count;
  const Index *from; /* this index and those around it take no part: seeded(k, f) draws the same anywhere */
} Stream;

struct Elab {
  Session *session;
  Diags *d;
  Arena *a;
  Graph *g;
  Names *names;
  const Hooks *hooks;
  const Natives *natives;
  Module *module; /* being elaborated */
  Index *index;   /* innermost */
  Expr *guard;    /* conjunction in force: comprehension guards and lazy arms; NULL true */
  bool trial;     /* finding ranges: no bounds proofs, unknown sizes agree, constraints recorded, nothing kept */
  VEC(Constraint) constraint;
  VEC(Index *) tried;   /* every index made in trial elaboration, also those out of scope by now */
  VEC(Node *) effect;   /* of the region being built */
  bool effects_allowed; /* false inside a comprehension that is not unrolled */
  int depth;            /* calls; V_RECURSION at 1,000 */
  const Frame *frame;
  volatile int *interrupt; /* may be NULL */
  const char *stack_low;   /* elaboration below this address would overflow the C stack: P_DEPTH or V_RECURSION */
  Stream stream;
  bool checking;               /* a definition by itself, on stand-in arguments (check.c) */
  const struct Next *next;     /* next values of states that an enclosing value_grad collects (model.h) */
  struct Build *build;         /* the model being constructed, or NULL */
  const struct Record *record; /* calls of layers, while a summary is made; else NULL (model_text.c) */
  int *tries;                  /* calls on stand-ins so far, of the outermost model that makes some; else NULL */
  double repeat;               /* ... how often the loops around run what is elaborated */
  const char *path;            /* where in it: "blocks.qkv"; NULL outside */
  int deriving;                /* > 0 inside a function that is being differentiated */
  int unrolled;                /* > 0 inside an unrolled comprehension */
};

/* ---- the walker: eval.c (expressions), block.c (statements, defs, items), call.c (signatures), types.c ---- */
Value *elab_expr(Elab *E, const Env *env, Ast *e);
Value *elab_block(Elab *E, const Env *env, Ast *block);
/* Binds targets (names, nested tuples) to v; T_TYPE when the structure differs. */
const Env *elab_bind(Elab *E, const Env *env, int ntarget, Ast **target, Value *v);

/* ---- subscripts and comprehensions: index.c, comp.c, range.c ---- */
Value *elab_index(Elab *E, const Env *env, Ast *e);        /* AST_INDEX, of tensors and of tuples */
Value *elab_at_update(Elab *E, const Env *env, Ast *call); /* x.at[i].set(v), x.at[i].add(v): the AST_CALL */
Value *elab_comp(Elab *E, const Env *env, Ast *comp, Reduce op,
                 const Call *red); /* AST_COMP; op RED_NONE builds, else reduces */
Value *elab_mean_comp(Elab *E, const Env *env, Ast *comp);
bool reduce_by_name(Name n, Reduce *op); /* "sum" -> RED_SUM ... ("mean" apart) */
/* Slices one own axis etc. for builtins: view makers. */
Value *view_index(Elab *E, Value *x, int axis, Expr *at); /* drops the axis; the caller has proved the bounds */
Value *view_slice(Elab *E, Value *x, int axis, int64_t lo, int64_t n, int64_t step, const Origin *from);
Value *view_permute(Elab *E, Value *x, const int *perm);
Value *view_reshape(Elab *E, Value *x, int rank, const Dim *dim, Span at);
Value *view_expand(Elab *E, Value *x, int axis, Dim d); /* a new axis, broadcast */

/* ---- loops, derivatives, random, builtins: loop.c, derive.c, random.c, builtin_*.c ---- */
Value *elab_loop(Elab *E, const Env *env, Ast *e); /* AST_LOOP */
Value *elab_cond(Elab *E, const Env *env, Ast *e); /* AST_COND and AST_IFELSE */
/* Every leaf tensor of a value, in order; and the value rebuilt with other leaves. */
int v_leaves(Elab *E, Value *v, Value ***out);
Value *v_with_leaves(Elab *E, Value *like, Value *const *leaf);
const Builtin *builtin_find(const char *name); /* all tables */
extern const Builtin builtins_core[], builtins_scalar[],
    builtins_files[]; /* tables, each ended by a row with name NULL */
int builtin_count(void);
const Builtin *builtin_at(int i);
#endif
