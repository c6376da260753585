/* Inside codegen/cuda/: expressions, stages, and what they share.
 *
 *   Cu     one kernel's source: functions so far, helpers wanted, names of what expressions have been computed
 *
 * Registers: f16, bf16 and f32 are `float`, bool is `int` 0 or 1, the rest C's types. Memory: f16 and bf16 are their bits
 * (u16), bool is u8. Iterators of the stage at hand are C variables i0, i1, ..; buffers b0, b1, .. */
#ifndef TG_CODEGEN_CUDA_EMIT_H
#define TG_CODEGEN_CUDA_EMIT_H
#include "codegen/text.h"
#include "codegen/cuda/cuda.h"
#include "codegen/map.h"

typedef enum {
  SCHED_POINT,  /* one thread a point of P; inner buffers are its registers and local arrays */
  SCHED_BLOCK,  /* one block a point of P; inner buffers in shared memory, or the block's slice of the scratch */
  SCHED_SPREAD, /* one launch or more a stage, over all points; inner buffers in the scratch */
  SCHED_TILE,   /* a contraction in tiles, its epilogue at every element of the tile */
  SCHED_SCATTER /* a scatter over points of P, or over slices of the destination */
} SchedKind;

enum { CU_SHARED = 48 << 10 /* bytes that a block may declare */ };

typedef struct CuBuf {
  int64_t *stride; /* in elements; of P axes too where the buffer holds all points */
  int64_t elems;   /* of inner buffers: one point's, or all points' in the scratch */
  bool scratch;    /* at `offset` in the scratch */
  size_t offset;
  int64_t per_block; /* BLOCK: elements a block in the scratch; 0: shared by none */
  bool wide;         /* addresses need 64 bits */
} CuBuf;

typedef struct Cu {
  Arena *a;
  Graph *g;
  const Kernel *k;
  bool tf32; /* f32 contractions by matrix instructions, their factors rounded to tf32 */
  SchedKind sched;
  int block; /* threads a block, of BLOCK */
  CuBuf *buf;
  size_t scratch;        /* bytes so far */
  int64_t shared;        /* of BLOCK: bytes of shared memory so far, below CU_SHARED */
  Text *t;               /* where lines go */
  Text body, math;       /* functions of the kernel; elementary functions */
  uint64_t math_have[2]; /* by ScalarOp: f32, f64 */
  NumMap memo;           /* Expr -> number of its variable, in the scope at hand */
  int nvar, nred;        /* names used up */
  const Stage *st;       /* the stage at hand */
  const char *minor;     /* C expression ordering faults inside a unit */
  CuKernel *out;
} Cu;

extern const char cuda_prelude[];
const char *cu_reg(DType t); /* C type of a register, of memory */
const char *cu_mem(DType t);
int cu_reg_bytes(DType t);                    /* of the type of a register: what partial results take */
const char *cu_num(Cu *c, DType t, double v); /* a constant of a register */
const char *cu_int(Cu *c, DType t, int64_t v);
const char *cu_round(Cu *c, DType t, const char *x);
const char *cu_cast(Cu *c, DType to, DType from, const char *x);
const char *cu_to_mem(Cu *c, DType t, const char *x);
const char *cu_from_mem(Cu *c, DType t, const char *x);
/* One scalar operation on named arguments; a C expression. */
const char *cu_op(Cu *c, const Expr *e, const char **arg);
const char *cu_combine(Cu *c, Reduce op, DType t, const char *x, const char *y);
const char *cu_identity(Cu *c, Reduce op, DType t);
void cu_math(Cu *c, ScalarOp op, bool wide); /* makes tg_NAME_f or tg_NAME_d be there */

/* ---- expr.c */
void cu_scope(Cu *c);                                   /* forgets what has been computed: a new scope begins */
const char *cu_expr(Cu *c, const Expr *e);              /* the name of e's value; emits what it needs */
const char *cu_place(Cu *c, const Stage *s);            /* subscript of the element that stage s stores to */
const char *cu_index(Cu *c, int buf, Expr *const *idx); /* flat subscript of unchecked coordinates */
void cu_store(Cu *c, int buf, const char *at, const char *value); /* value: register of the buffer's dtype */
const char *cu_acc_type(Cu *c, const Stage *s, DType *acc);

/* ---- stage.c: a stage by the thread or the block of its point, or by launches of its own */
void cu_decode(Cu *c, const char *flat, int first, int n, const int64_t *extent); /* declares i<first>.. from flat */
int64_t cu_product(int n, const int64_t *x);
void cu_stage_point(Cu *c, const Stage *s);
void cu_stage_block(Cu *c, const Stage *s);
void cu_stage_spread(Cu *c, const Stage *s);
/* Bytes of the scratch, aligned; their offset. */
size_t cu_scratch(Cu *c, double bytes);

/* ---- scatter.c */
void cu_scatter(Cu *c, const Stage *s);

/* ---- reduce.c */
int64_t cu_chunks(const Stage *s); /* pieces of the work that are joined by a tree: an argmax is one */
/* Declares `name` as the partial sum of chunk number `chunk` of the outputs at hand, by one thread. */
void cu_chunk_serial(Cu *c, const Stage *s, const char *chunk, const char *name);
/* The same by 64 threads (`t` counts them, `red` is their shared memory); valid in thread t == 0. All threads of the
 * block come here equally often; `live` is a C expression, false: no chunk. again: it is in a loop, and red is written
 * anew. */
void cu_chunk_group(Cu *c, const Stage *s, const char *chunk, const char *live, const char *name, bool again);
/* Emits the aligned pairwise tree over n partial results: `fetch` is a C expression of partial number q. */
void cu_tree(Cu *c, const Stage *s, const char *n, const char *fetch, const char *name);
bool cu_is_arg(const Stage *s);
/* Stores an accumulator as stage s's result at the outputs at hand. */
void cu_finish(Cu *c, const Stage *s, const char *acc);
void cu_reduce_point(Cu *c, const Stage *s); /* all of it, by one thread */

/* ---- kernel.c */
void cu_open(Cu *c, int64_t grid, int block); /* begins a launch's function, with its arguments by name */
void cu_close(Cu *c);
void cu_place_buffers(Cu *c); /* by the schedule */

/* ---- tile.c: true if it emitted the whole kernel. */
bool cu_tile(Cu *c);
#endif
