/* Kernels: what both the fuser (above) and the emitters (below: cpu/, later cuda/) see.
 *
 * A Kernel is a fused group of comprehensions:
 *
 *     for every point p of the parallel axes P              (any order, any lane; lanes get sub-ranges of flat points)
 *       stage 0; stage 1; ...                               (in this order at every point)
 *
 * and each Stage is one loop nest over its own axes below P. Kernels know loops, references, operations and monoids,
 * never names of layers. Examples (P before the bar, then own output axes, then reduction axes after `;`):
 *
 *   relu(a @ b + c)      P = m 64, n 32 |  %0 CONTRACT ; k 16  sum a[i0,i2] * b[i2,i1]      -> REG
 *                                          %1 MAP              max(%0 + c[i1], 0)           -> GLOBAL
 *   softmax over rows    P = m 64       |  %0 REDUCE ; j 99    max x[i0,i1]                 -> REG
 *                                          %1 MAP j 99         exp(x[i0,i1] - %0[i0])       -> ROW
 *                                          %2 REDUCE ; j 99    sum %1[i0,i1]                -> REG
 *                                          %3 MAP j 99         %1[i0,i1] / %2[i0]           -> GLOBAL
 *   x + 1                P = i 7, j 3   |  %0 MAP              x[i0,i1] + 1                 -> GLOBAL
 *
 * Iterators of a stage's expressions: EX_ITER k, k counting [P axes, own output axes, reduction axes]. LOADs name
 * graph Nodes; the kernel's buffer table says where each lives. An extent may be 0 anywhere.
 *
 * Everything here lives in the arena of the compilation (the graph's); compiled code (Code) outlives it.
 *
 * Numeric contract (README.md): which order a sum takes is decided by the fuser from the normal form, before fusion,
 * and stands in Stage.order. Emitters obey it and decide everything else (vector axis, tiles, unrolling, merging of
 * adjacent stages' loops), so results have the same bits for any thread count, fusion or batch size. */
#ifndef TG_CODEGEN_KERNEL_H
#define TG_CODEGEN_KERNEL_H
#include "codegen/rt/kernel.h"
#include "graph/graph.h"

/* ---- Buffers -------------------------------------------------------------------------------------------------- */
typedef enum {
  SP_GLOBAL, /* memory of the plan: pointer KernelArgs.ptr[arg] */
  SP_ROW,    /* scratch of the lane: one row per point of P (or per block of points, as the emitter likes): the node's
              * dims that are P axes take no storage. Emitters choose the layout and report the bytes */
  SP_REG     /* one scalar per point of P: every dim of the node is a P axis */
} Space;

typedef struct KBuf {
  uint8_t space, dtype;
  bool in, out;     /* GLOBAL: read before any stage wrote it; written (SCATTER destination: both) */
  const Node *node; /* the node whose LOADs this buffer serves. Unique in the table */
  int rank;         /* node's rank, extents; strides in elements (GLOBAL: always set; others: 0) */
  const int64_t *dim, *stride;
  const int8_t *par; /* ROW, REG: dim d is P axis par[d], or -1: a dim of the row itself. NULL for GLOBAL.
                      * LOADs of ROW and REG nodes subscript such a dim by exactly ITER par[d] */
  int arg;           /* GLOBAL: position in KernelArgs.ptr; else -1 */
} KBuf;

/* GLOBAL pointers are aligned to their element only (a row of a stack, a caller's slice), usually to 64 bytes.
 *
 * Two GLOBAL buffers may be the same memory only when the planner proved it harmless: the operand is read at exactly
 * the element that the same point writes, before the write. So: an emitter loads all operands of a vector before it
 * stores the vector, and says nothing about aliasing to LLVM. */

/* ---- Stages --------------------------------------------------------------------------------------------------- */
typedef enum {
  ST_MAP,      /* own output axes; no reduction. Where guard is false the value is 0 */
  ST_REDUCE,   /* own output axes, then reduction axes */
  ST_CONTRACT, /* a REDUCE (sum, ORD_CHAIN) that contract.h recognised; has no own output axes: they are all in P. Only
                * stage 0 of a kernel; what follows is its epilogue: MAPs without own axes. An emitter may run it as a
                * REDUCE: same bits */
  ST_SCAN,     /* own output axes; the running reduction goes along the last own axis, strictly in order */
  ST_SCATTER   /* own axes: the source iterators that are not in P, in their order; ascending */
} StageKind;

/* How a REDUCE is ordered. Flat position f: row-major in the reduction space; extents r0..rn, inner = rn.
 *
 * ORD_CHAIN  f ascending, one accumulator: acc = monoid(acc, body); with Stage.fma (a sum that was one of products x * y
 *            before anything was inlined; body is then a MUL): acc = fma(x, y, acc), x and y first cast to the
 *            accumulator's dtype. Without Stage.fma no fma, even if the body is a MUL now.
 *            Cut at flat positions 4096, 8192, ...
 * ORD_LANES  position p of the inner axis goes to lane p % 16 of accumulator (p / 16) % 4, whatever the machine's width
 *            and the dtype; a chunk is 4096 positions of one row when inner >= 4096, else max(1, 4096 / inner) whole
 *            rows, which continue in the same accumulators, every row from lane 0. No fma: acc = acc + body. Then
 *            a = (a0 + a1) + (a2 + a3) per lane, and the butterfly over 16 lanes: l += l ^ 8, l ^ 4, l ^ 2, l ^ 1
 *            (lower lane on the left: v[l] = v[l] + v[l + 8], ...).
 *
 * With Stage.chunk (Comp.chunk, graph.h) a chunk is that many flat positions instead: whole rows in ORD_LANES, each
 * from lane 0, in the same accumulators, also when inner >= 4096. Then extents[0] counts samples and has no say in the
 * order: a reduction over samples alone is ORD_CHAIN.
 *
 * Both: every accumulator starts at the identity (sum 0, prod 1, max -inf, min inf; integers: their bounds); where the
 * guard is false the accumulator stays as it is. Chunks, in order, are joined by the aligned pairwise tree: chunk
 * ranges [i * 2^k, (i+1) * 2^k) meet as soon as both halves are there; at the end the leftovers join from the right:
 * ((big, (mid, small))). Integer, bool, any/all/arg reductions may take any order that gives the same value (ARGMAX:
 * first best; nan is best). Accumulator dtype: f32 for f16 and bf16; else the body's. Result cast to the buffer's dtype. */
typedef enum { ORD_CHAIN, ORD_LANES } RedOrder;
enum { STAGE_CHUNK = 4096 };

typedef struct Stage {
  uint8_t kind, op;        /* StageKind, Reduce (ST_MAP, ST_SCATTER: RED_NONE) */
  uint8_t order;           /* RedOrder */
  bool fma;                /* ORD_CHAIN sums of products, always set for ST_CONTRACT of floats */
  bool reverse, exclusive; /* ST_SCAN */
  int nown, nred;
  const int64_t *extent; /* nown + nred */
  int64_t chunk;         /* REDUCE, CONTRACT: Comp.chunk; 0: of STAGE_CHUNK, as above */
  Expr *body, *guard;    /* guard: bool or NULL */
  int out;               /* buffer written */
  /* Where it stores: subscript of dim d of the out buffer. Not SCATTER: dim d is the iterator store[d] (of P or own),
   * a bijection onto [P, own] for stages in full position; a dim of extent 1 may also be -1: subscript 0. */
  const int8_t *store;
  Expr *const *at; /* SCATTER: subscripts, one a dim; over [P, own] */
  uint8_t how;     /* SCATTER: Combine */
  bool checked;    /* SCATTER: subscripts may be out of range: fault; else the planner proved them inside */
  Span span;       /* for the fault of a checked scatter */
} Stage;

/* Of a reduction: flat positions of a chunk, and chunks of a row where a chunk is part of one (else 0); number of
 * chunks (0 if there is nothing to reduce). */
int64_t stage_chunk(const Stage *s, int64_t *per_row);
int64_t stage_chunks(const Stage *s);

/* A SCATTER kernel has one stage. `by_dest` false: different points of P write different places. `by_dest` true: P is
 * empty and units are ranges of dim 0 of the destination: a lane walks all source points, computes the subscript first
 * and does only those whose dim-0 subscript is in its [lo, hi) (the lane with lo == 0 reports checked subscripts). */

typedef struct Kernel {
  int npar;
  const int64_t *par; /* extents of P; the flat points are row-major over them */
  int nbuf, narg;     /* narg: GLOBAL buffers, numbered in order */
  KBuf *buf;
  int nstage;
  Stage *stage;
  bool by_dest;
  int nsite; /* places that can fault; numbered 0.. in order of first meeting in the stages by kernel_sites */
  Span *site;
} Kernel;

const KBuf *kernel_buf(const Kernel *k, const Node *n); /* NULL: not in the table */
/* Fault site of a checked LOAD, an integer division/modulo (`e`), or a checked SCATTER (e NULL): equal across equal
 * texts. */
int kernel_site(const Kernel *k, const Expr *e);
void kernel_sites(Kernel *k, Arena *a); /* fills nsite and site */
int64_t kernel_points(const Kernel *k);
/* Canonical text: equal for kernels that compile to equal code (buffers by number, expressions in SSA by order of
 * meeting, no node ids, no names). The key of the caches; and what "fuse" dumps show. */
char *kernel_print(const Kernel *k, Arena *a);

/* ---- Compiled code -------------------------------------------------------------------------------------------- */
/* KFault, KernelArgs, KernelFn, Phase: rt/kernel.h, since a library has them too. A kernel runs as phases with a
 * barrier between them (most have one). */
enum { MAX_PHASE = 4 };

typedef struct Code {
  int nphase;
  Phase phase[MAX_PHASE];
  size_t lane_bytes, shared_bytes;
  void (*drop)(struct Code *); /* frees what `own` holds; NULL: nothing */
  void *own;
} Code;

/* ---- Emitters: cpu/emit_kernel.c and cpu/mma.c ---------------------------------------------------------------- */
typedef struct Jit Jit; /* cpu/jit.h: LLVM, lazily started; the object cache on disk */
/* Compile k, whose canonical text is `text` (key part). Sets *from_disk. False: out of memory or LLVM failed, *why says
 * (static or in the graph's arena). g: for rewriting expressions. */
bool cpu_compile(Jit *j, Graph *g, const Kernel *k, const char *text, Code *out, bool *from_disk, const char **why);
/* Stage 0 is ST_CONTRACT. `declined` set (and false returned): let cpu_compile run it as a plain reduction. */
bool mma_compile(Jit *j, Graph *g, const Kernel *k, const char *text, Code *out, bool *from_disk, bool *declined,
                 const char **why);
/* LLVM IR / assembly of k for people. */
bool cpu_dump(Jit *j, Graph *g, const Kernel *k, const char *what, FILE *out);
#endif
