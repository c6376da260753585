/* Lowering to LLVM, shared by the emitters of this room.
 *
 * Em      one function under construction
 * Level   one open scope of it: level 0 is the entry, each loop or branch opens the next. The block `cur` of every open level
 *         stays without terminator until the level is closed, so code may be appended to any of them: that is how what
 *         does not depend on an inner loop is computed outside it. Code of level L dominates all that is appended to
 *         the levels above L afterwards, and to L itself.
 * Val     the value of an expression: uniform over the lanes (s), or a vector of `width` lanes (v), or both (a splat).
 *         It belongs to the level where it was built and dies with it (gen).
 *
 * Loops run at least once (bottom-tested): the caller leaves out empty ones, or wraps them in em_if_open.
 *
 * Registers: bool is i1, f16 and bf16 are f32 holding values of their dtype (every operation rounds), the others as in
 * memory, where bool is one byte. A vector iterator has the value s + lane. In the tail of a vector loop `mask` tells the live
 * lanes: loads and stores of the others do not happen, what they compute is ignored. */
#ifndef TG_CODEGEN_CPU_EMIT_H
#define TG_CODEGEN_CPU_EMIT_H
#include "codegen/cpu/jit.h"
#include "codegen/map.h"

enum { EM_ITERS = 64, EM_LEVELS = 48, EM_CARRY = 80, EM_TERMS = 48 };

typedef struct Val {
  LLVMValueRef s, v;
  int level;
  uint32_t gen;
} Val;

typedef struct Level {
  LLVMBasicBlockRef cur, entry; /* entry: where the level begins (a loop's header) */
  uint32_t gen;
  LLVMValueRef iv, hi, cond; /* loop: counter and its end; branch: condition */
  int64_t step;
  bool loop;
  int ncarry;
  LLVMValueRef carry[EM_CARRY], init[EM_CARRY]; /* phis (loop), values on entry */
} Level;

typedef struct It {
  LLVMValueRef s;
  int level;
  uint32_t gen;
  bool vec, aligned;
  int64_t extent;
} It; /* aligned: vec, and s is a multiple of 16. extent: for ranges; 0 unknown */

/* What a buffer is in this function. */
typedef struct EmBuf {
  LLVMValueRef base;     /* GLOBAL, ROW: pointer */
  int base_level;        /* where it is known; 0 but for scatters */
  const int64_t *stride; /* a dim, in elements; ROW in lanes-of-points layout: times width, lane innermost */
  bool lanes;            /* ROW holding `width` points side by side */
  bool inner;            /* written by an earlier stage of this kernel: no load of it moves out of the points */
  Val reg;               /* REG: current value */
  Val fwd;               /* ROW, GLOBAL: the value just stored at the current point of a merged loop; gen 0: none */
} EmBuf;

/* A strided access turned through a square buffer (emit_tile.c). */
typedef struct Tile {
  const Expr *load; /* NULL: the stores of buffer buf */
  int buf;
  LLVMValueRef mem; /* `width` rows of `width` elements: row = position along the loop, lanes side by side */
} Tile;
enum { EM_TILES = 12 };

typedef struct Em {
  Graph *g; /* for rewriting; may be NULL */
  const Kernel *k;
  Arena *arena;
  const Isa *isa;
  LLVMModuleRef mod;
  LLVMContextRef cx;
  LLVMBuilderRef b;
  LLVMValueRef fn;
  LLVMBasicBlockRef entry;
  LLVMTypeRef i1, i8, i16, i32, i64, f16, f32, f64, ptr;
  int width; /* lanes of a vector */
  int depth; /* innermost open level */
  Level level[EM_LEVELS];
  uint32_t gens;
  It it[EM_ITERS];
  EmBuf *buf;  /* by kernel buffer */
  NumMap memo; /* Expr -> index into val */
  VEC(Val) val;
  LLVMValueRef mask; /* live lanes of the tail, or NULL: all. Built at `mask_level` */
  int mask_level;
  LLVMValueRef live; /* number of live lanes where mask is set (i64) */
  int64_t copies;    /* of the code being built, by unrolled loops around it */
  int vec_iter;      /* iterator that runs along the lanes, or -1 */
  bool aligned;      /* vector loops being opened begin at a multiple of 16 */
  int ntile;         /* active tiles and the row they are at */
  Tile tile[EM_TILES];
  LLVMValueRef tile_row;
  /* Reduction of group 0 in two phases (sched.h) */
  enum { SPLIT_NONE, SPLIT_CHUNKS, SPLIT_JOIN } split;
  LLVMValueRef part, shared; /* chunk to run; the unit's shared memory */
  /* Points of the unit along axis vp: base NULL: 0; count < 0: count_rt */
  LLVMValueRef unit_base, unit_count_rt;
  int64_t unit_count;
  int point_level;          /* level of the points of P: loads of inner buffers stay at or above */
  bool vec;                 /* width of the operation being built: vector or scalar */
  LLVMValueRef fault, unit; /* KFault pointer (level 0) and the unit being run, known at unit_level */
  int unit_level;
  LLVMValueRef scratch; /* the lane's, level 0 */
  LLVMValueRef zeros;   /* 64 zero bytes: where masked-off scalars read */
  bool faults;          /* some site was emitted */
} Em;

/* ---- emit.c: functions, levels, small values --------------------------------------------------------------------- */
void em_init(Em *E, Graph *g, const Kernel *k, Arena *a, const Isa *isa, LLVMModuleRef m, int width);
void em_drop(Em *E);                                      /* the builder; not the module */
void em_function(Em *E, const char *name, bool external); /* KernelFn; opens level 0 */
void em_function_flags(Em *E, LLVMValueRef fn);           /* what every function of a module has */
void em_function_flag(Em *E, LLVMValueRef fn, const char *name);
void em_end(Em *E);                                       /* returns from the function; closes level 0 */
LLVMValueRef em_arg(Em *E, size_t offset, LLVMTypeRef t); /* a field of KernelArgs, at level 0 */

void em_at(Em *E, int level); /* build at the end of that level */
int em_scope_open(Em *E);     /* a level of straight code */
void em_scope_close(Em *E);
/* Carried values: `carry` holds the values on entry and is overwritten with what the body sees; for close, with those
 * of the next round, and is overwritten with those after the loop. */
LLVMValueRef em_loop_open(Em *E, LLVMValueRef lo, LLVMValueRef hi, int64_t step, int n, LLVMValueRef *carry);
void em_loop_close(Em *E, int n, LLVMValueRef *carry);
void em_if_open(Em *E, LLVMValueRef cond);
/* carry: in: values at the end of the branch; else_: those when it was not taken; out (in carry): merged. */
void em_if_close(Em *E, int n, LLVMValueRef *carry, LLVMValueRef *else_);
void em_bind(Em *E, int k, LLVMValueRef s, int level, bool vec, int64_t extent);

LLVMValueRef em_alloca(Em *E, LLVMTypeRef t, int64_t n); /* in the entry block, 64-byte aligned */
LLVMValueRef em_int(Em *E, int64_t v);                   /* i64 constant */
LLVMTypeRef em_reg_type(Em *E, DType t);                 /* scalar register type */
LLVMTypeRef em_mem_type(Em *E, DType t);
LLVMTypeRef em_wide(Em *E, LLVMTypeRef t); /* t or its vector, by E->vec */
LLVMTypeRef em_vector(Em *E, LLVMTypeRef t);
LLVMValueRef em_splat_const(Em *E, LLVMValueRef c);        /* vector of a constant */
LLVMValueRef em_splat(Em *E, LLVMValueRef s);              /* at the builder's place */
LLVMValueRef em_lanes(Em *E, LLVMTypeRef t, int64_t step); /* <0, step, 2 step, ..> */
LLVMValueRef em_call(Em *E, const char *intrinsic, int ntype, LLVMTypeRef *type, int n, LLVMValueRef *arg);
LLVMValueRef em_shuffle(Em *E, LLVMValueRef a, LLVMValueRef b, int n, const int *lane);
LLVMValueRef em_any(Em *E, LLVMValueRef mask); /* i1 of a vector of i1 */
/* In-line branch at a level, for rare work: begin returns the block of the rare path with the builder in it; end comes
 * back. */
typedef struct Rare {
  LLVMBasicBlockRef from, then, cont;
  int level;
} Rare;
Rare em_rare_begin(Em *E, int level, LLVMValueRef cond);
void em_rare_end(Em *E, Rare *r);

/* ---- emit_expr.c: expressions ------------------------------------------------------------------------------------ */
/* An address as a linear form over iterators and atoms, in elements. */
typedef struct Atom {
  int64_t coef;
  Expr *e;
  int64_t size;
} Atom; /* size >= 0: check 0 <= e < size */
typedef struct Addr {
  int64_t c, coef[EM_ITERS];
  int natom;
  Atom atom[EM_TERMS];
} Addr;
void em_addr_init(Addr *a);
/* Adds stride * idx. size >= 0: idx is to be checked at run time unless the iterators' extents prove it. */
void em_addr_add(const Em *E, Addr *a, Expr *idx, int64_t stride, int64_t size);
bool em_range(const Em *E, Expr *e, int64_t *lo,
              int64_t *hi); /* of an affine expression over the bound iterators' extents */

Val em_expr(Em *E, Expr *e);
LLVMValueRef em_vec(Em *E, Val *x); /* as a vector, splat at its level */
LLVMValueRef em_as(Em *E, Val *x, bool vec);
bool em_live(const Em *E, const Val *x); /* its level is still open */
Val em_val(Em *E, LLVMValueRef x, bool vec, int level);
/* Where an Addr leads: the pointer of lane 0 and how the lanes lie. */
typedef struct Ptr {
  LLVMValueRef p;   /* uniform part */
  int level;        /* where the address is known */
  int64_t step;     /* off NULL: elements from lane to lane; 0: one element for all lanes */
  LLVMValueRef off; /* irregular: vector of i64 element offsets from p */
  bool fixed;       /* off is NULL, step 0: lane l is at element lane[l] from p */
  int64_t lane[16];
} Ptr;
/* mask: reads and checks happen where it is true (NULL: everywhere). site: fault site of the atoms' checks. */
Ptr em_pointer(Em *E, int buf, const Addr *a, Val *mask, int site);
/* Register form of the element(s). */
Val em_load(Em *E, int buf, const Addr *a, Val *mask, int site);
/* safe: the elements are there also where the mask is false. */
Val em_load_safe(Em *E, int buf, const Addr *a, Val *mask, int site, bool safe);
/* Stores x (register form of dtype `from`, cast to the buffer's) at a. mask: further condition, or NULL. stream:
 * non-temporal. */
void em_store(Em *E, int buf, const Addr *a, Val x, DType from, Val *mask, bool stream);
/* Defines `fault`, which em_fault_check calls, if it was called: once a module, after its functions. Leaves the builder
 * anywhere. */
void em_fault_function(Em *E);
/* Records a fault where bad is true; index as i64 (or NULL s and v). */
void em_fault_check(Em *E, int kind, int site, Val bad, Val index, int64_t size);

/* ---- emit_digit.c: // and % by constants along the lanes */
/* Lanes of x // c or x % c (e; i64), x affine with step 1 along aligned lanes, c a divisor or a multiple of 16: lane l
 * holds *base + lane[l]; base is uniform. False: another form. */
bool em_digit(Em *E, Expr *e, Val *base, int64_t *lane);
bool em_digit_form(const Expr *e, int iter); /* might em_digit know e when iterator iter runs along the lanes? */

/* ---- emit_tile.c */
/* Would a load or store of a loop of n rounds with these coefficients along the lanes and along the loop be tiled? */
bool em_tiles(int64_t lane_step, int64_t loop_step, int64_t n, bool store);

/* ---- emit_ops.c: rows of scalar.def at the builder's place, E->vec telling the width ----------------------------- */
LLVMValueRef em_op(Em *E, const Expr *e, LLVMValueRef *arg); /* all args of the width E->vec. No faults */
LLVMValueRef em_cast(Em *E, DType to, DType from, LLVMValueRef x);
LLVMValueRef em_round(Em *E, DType t, LLVMValueRef x); /* f32 to a value of f16 or bf16; others as they are */
LLVMValueRef em_binary(Em *E, ScalarOp op, DType t, LLVMValueRef x, LLVMValueRef y);
LLVMValueRef em_fma(Em *E, LLVMValueRef x, LLVMValueRef y, LLVMValueRef z);
LLVMValueRef em_to_mem(Em *E, DType t, LLVMValueRef x); /* register -> memory form and back, of any width */
LLVMValueRef em_from_mem(Em *E, DType t, LLVMValueRef x);
LLVMValueRef em_int_of(Em *E, LLVMTypeRef t, int64_t v); /* constant of an integer type or a vector of them */
LLVMValueRef em_num(Em *E, DType t, double v);           /* register constant of the width E->vec */
/* ---- emit_vmath.c ------------------------------------------------------------------------------------------------ */
LLVMValueRef em_vmath(Em *E, ScalarOp op, bool wide, LLVMValueRef x, LLVMValueRef y, int level);
#endif
