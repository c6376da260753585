/* Native routines: what a CALL node runs, and host tensors.
 *
 * A Native is a row of a registry that the composition root hands around; nothing here is global. Files, LAPACK, sort
 * and print are natives (stdlib/native/, repl/). They run on the host, on row-major tensors. */
#ifndef TG_GRAPH_NATIVE_H
#define TG_GRAPH_NATIVE_H
#include "graph.h"

#define TG_MAX_RANK 16

/* A host tensor: row-major, packed, `data` 64-byte aligned. `owner` counts references when the data is shared. */
typedef struct Tensor {
  DType dtype;
  int rank;
  int64_t dim[TG_MAX_RANK];
  void *data;
  struct TensorBuf *owner; /* NULL: borrowed */
} Tensor;
struct TensorBuf {
  int64_t refs;
  size_t bytes;
}; /* the data follows at 64 bytes */

bool tensor_alloc(Tensor *t, DType dt, int rank,
                  const int64_t *dim); /* false: out of memory or overflow; data not cleared */
Tensor tensor_ref(const Tensor *t);
void tensor_drop(Tensor *t);
int64_t tensor_count(const Tensor *t);
size_t tensor_bytes(const Tensor *t);
/* Product of dims times bytes; false on overflow or over 2^62. */
bool shape_bytes(DType t, int rank, const int64_t *dim, size_t *bytes);

/* A run-time fault: status, message, place. */
typedef struct Fault {
  ErrId id;
  Span span;
  char msg[512];
} Fault; /* id E_NONE: none */
void fault_set(Fault *f, ErrId id, Span at, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* The ranks that run one program together (dist/). What natives get as `ctx` begins with a NativeCtx, so that one
 * place, native_call, decides which rank runs a native and who else hears of it. */
typedef struct NativeRanks {
  int rank, nrank;
  void *self;
  /* Rank 0's bytes for every rank; false with *f when the group is broken. */
  bool (*broadcast)(void *self, const char *name, void *data, size_t bytes, Fault *f);
} NativeRanks;
typedef struct NativeCtx {
  const NativeRanks *ranks;
} NativeCtx; /* NULL: there is one rank */

typedef enum {
  RUN_ALL,        /* every rank runs it */
  RUN_FIRST,      /* rank 0; nobody waits for it. It has no results */
  RUN_FIRST_TELL, /* rank 0; the others take over its results, or its fault */
} NativeWho;

typedef struct Native {
  const char *name;
  bool effect;   /* ordered, run even if unused */
  bool commit;   /* the step around it may still be refused here: no state has been overwritten (codegen/commit.c) */
  NativeWho who; /* of several ranks */
  int own;       /* last axes of the first argument that the routine works on; it loops over those before, which all
                    arguments and results have alike. 0: no such promise */
  bool late;     /* waits for what others do: does not run before its result is needed */
  int over;      /* 1 + an argument as large as the only result, which may then lie where that argument does; 0: none */
  bool lends;    /* other ranks read its arguments where they lie: CodegenOptions.lend */
  /* in: arguments; out: results, already allocated. Returns false with *fault set. `ctx` is the host's (printing, ...)
   */
  bool (*run)(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out, Fault *fault);
  /* The same on a device: tensors have its addresses, work is queued. False without a fault: not now, `run` does it.
   * NULL: never */
  bool (*on_device)(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                    Fault *fault);
  /* Looks ahead: writes the first results of the next call with the same arguments, and says how many; 0: it can't. To
   * the program nothing happens. `claim` makes that call, for the results beyond those; false without a fault: it is
   * another one. */
  int (*ahead)(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out);
  bool (*claim)(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out, Fault *fault);
} Native;

/* Runs a native as its row says; all that execute a CALL go through this. */
bool native_call(const Native *n, void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout,
                 Tensor *out, Fault *f);

typedef struct Natives {
  VEC(const Native *) row;
  Arena *arena;
} Natives;
void natives_add(Natives *r, const Native *n);
const Native *natives_find(const Natives *r, const char *name);

/* The oracle: evaluates a region slowly, floats in f64 and integers in i64, no fusion, no reordering.
 * input[slot] gives INPUT nodes. Results are written in the node's dtype, or, with `wide`, floats as f64.
 * Effects run in order. */
typedef struct EvalOptions {
  bool wide;
  void *native_ctx;
  volatile int *interrupt;
} EvalOptions;
bool graph_eval(Graph *g, const Region *r, int ninput, const Tensor *input, Tensor *out, const EvalOptions *o,
                Fault *f);
#endif
