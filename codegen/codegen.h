/* From a region of the graph to a plan, and running it: all that the rest of tg sees of the compiler.
 *
 *   Codegen  the session's compiler: JIT, kernel caches (memory, disk), thread pool
 *   Plan     one compiled region: kernels, their order, byte offsets into one arena; nested plans for loops and branches
 *
 * A Plan outlives the Graph it came from (it copies what it needs) and may be run many times, not by two threads at once. */
#ifndef TG_CODEGEN_CODEGEN_H
#define TG_CODEGEN_CODEGEN_H
#include "graph/native.h"

typedef struct Codegen Codegen;
typedef struct Plan Plan;

typedef struct CodegenOptions {
  int threads;             /* >= 1 */
  const char *cache_dir;   /* compiled kernels on disk; NULL: none */
  volatile int *interrupt; /* non-zero: stop at the next chunk of work with R_INTERRUPT; may be NULL */
  double interpret_below; /* kernels of less work than this (scalar operations, loops counted) run without machine code;
                           * 0: a good default; < 0: none; INFINITY: all. Same bits either way */
  void (*between)(void *ctx); /* called between pieces of work by the thread that runs the plan; NULL: nothing */
  void *between_ctx;
  /* Memory that other ranks can read, for arguments of natives that lend them; lend may refuse (NULL), then they lie
   * anywhere. NULL: there is none. A plan gives its memory back with itself. */
  void *(*lend)(void *ctx, size_t bytes);
  void (*take_back)(void *ctx, void *at);
  void *lend_ctx;
  struct RtTrace *trace; /* takes every kernel and call (rt/trace.h); NULL: nothing is noted. Not owned */
  bool profile;          /* plans keep the time of each kernel, for the dump "profile" */
  bool tf32;             /* on a GPU: f32 contractions may round their factors to tf32 for the matrix instructions */
  struct Cuda *cuda; /* plans run on this device (cuda/session.h), which the session takes over; NULL: on the host */
  struct Jit
      *collect; /* kernels are not run but collected here for a library (aot/), with interpret_below < 0; not owned */
} CodegenOptions;

typedef struct CodegenStats {
  int64_t kernels_compiled, kernels_from_memory, kernels_from_disk, plans;
} CodegenStats;

Codegen *codegen_new(const CodegenOptions *o); /* cheap: LLVM starts with the first kernel */
void codegen_free(Codegen *c);
CodegenStats codegen_stats(const Codegen *c);
/* How often a plan made from now on will be run, as far as the caller knows: 1 lets much larger kernels run without
 * machine code, since compiling one costs as much as walking some 100,000 operations. 0: unknown. Not with
 * interpret_below set. */
void codegen_expect_runs(Codegen *c, int runs);

/* Compiles. The region has been simplified and holds no CUSTOM. NULL with *fault on failure (memory). */
Plan *codegen_plan(Codegen *c, Graph *g, const Region *r, Fault *fault);
void plan_free(Plan *p);

/* Runs: input[slot] gives INPUT nodes; out[i] is allocated here (caller drops). Effects run in order, `native_ctx` is
 * handed to natives. false with *fault on a run-time fault; nothing is left allocated then. */
bool plan_run(Plan *p, int ninput, const Tensor *input, Tensor *out, void *native_ctx, Fault *fault);

/* After a run that a commit point refused (Native.commit): that node, and the values that its step began with. */
typedef struct PlanRefusal {
  const Node *call;
  int n;
  Node *const *node;
  const Tensor *value;
} PlanRefusal;
bool plan_refused(const Plan *p, PlanRefusal *out);

/* Dumps for people and structure tests: "classify" (one line a contraction: `contraction: M = .. N = .. K = .. batch =
 * ..`), "profile" (time and runs of each kernel so far, most expensive first; numbers as in "fuse"; sessions that ask
 * for it), "fuse" (groups with their stages and the reason for each boundary), "plan" (steps, buffers, arena). The
 * first line of "fuse" is `kernels: N`. False: no such dump. */
bool plan_dump(Plan *p, const char *what, FILE *out);
/* "llvm" or "asm" of every kernel of the region; compiles them anew, since a Plan keeps no IR. */
bool codegen_dump(Codegen *c, Graph *g, const Region *r, const char *what, FILE *out);
typedef struct PlanStats {
  int kernels;
  size_t arena_bytes, scratch_bytes;
  int buffers;
} PlanStats;
PlanStats plan_stats(const Plan *p);
#endif
