/* From exported functions to a library: the public face of codegen/aot.
 *
 * The caller (repl/build.c) has elaborated the exports, computed what does not depend on their inputs, and gives the
 * rest as regions; here they are planned like any other region, and what would be run is written instead. */
#ifndef TG_CODEGEN_AOT_H
#define TG_CODEGEN_AOT_H
#include "codegen/codegen.h"

typedef struct AotTensor {
  const char *name;
  DType dtype;
  int rank;
  const int64_t *dim; /* dim[0] of a batched tensor means nothing */
  bool batched;
} AotTensor;

/* A region that computes an export. Its INPUT nodes: slot k of the export's inputs is first_input + k, others are
 * constants'. */
typedef struct AotVariant {
  int64_t rows; /* 0: the export has no run-time batch */
  Region region;
} AotVariant;

typedef struct AotGolden {
  int64_t rows;
  bool failed; /* the call faulted when the library was built */
  const void *const *out;
} AotGolden;

typedef struct AotExport {
  const char *name, *doc, *signature, *batch;
  int nin, nout;
  AotTensor *in, *out;
  int nnext;       /* states that change: values that the regions give after the results */
  const int *next; /* which */
  int nvariant;    /* by ascending rows */
  bool listed;     /* rows meet: no other numbers of them than the variants' */
  AotVariant *variant;
  const AotGolden *golden; /* NULL: none */
  /* of a call, a row when batched: floating-point operations; tensors and constants read and written */
  double flops, bytes;
} AotExport;

typedef struct AotConst {
  const char *name; /* NULL: the program has no name for it */
  int64_t slot;     /* of INPUT nodes */
  const Tensor *t;
} AotConst;

typedef enum { AOT_EMBED, AOT_FILE, AOT_CALLER } AotWeights;

typedef struct AotLibrary {
  const char *name;   /* prefix of every symbol */
  const char *source; /* of the script, for comments */
  int64_t first_input;
  int nexport, nconst;
  AotExport *export;
  AotConst *konst;
  int nstate;
  int64_t first_state; /* INPUT slot of state 0 */
  AotConst *state;     /* as the script left them */
  AotWeights weights;
  const char *weights_file; /* FILE: where the library looks unless told otherwise */
  int threads;              /* that plans are made for */
  bool cuda;                /* for a GPU: kernels by NVRTC */
  const char *cache_dir;    /* of compiled kernels; NULL: none */
} AotLibrary;

/* Can a library call the native of this name? */
bool aot_routine(const char *name);
/* Would a function of this name be taken for one of the library's own? */
bool aot_reserved(const char *name);

/* "native", "x86-64-v3", "x86-64-v4", "portable", "aarch64"; NULL name ends the table. */
typedef struct AotTarget {
  const char *name, *what;
} AotTarget;
extern const AotTarget aot_targets[];

typedef struct AotOutput {
  char *object; /* malloc'd: relocatable object, LLVM IR or assembly */
  size_t nobject;
  char *header, *manifest, *pc, *python; /* in the arena given */
  size_t memory;                         /* bytes of a context with the library's default of threads, as printed */
  int kernels;
} AotOutput;

/* what: "obj", "llvm", "asm". False with *fault (no place: the message names the export). */
bool aot_emit(const AotLibrary *l, Graph *g, const Diags *d, const char *target, const char *what, Arena *a,
              AotOutput *out, Fault *fault);

/* Does row b of every result depend on row b of the batched inputs alone? *why is a phrase when not, *at its place. */
typedef struct RowsAnswer {
  const char *why;
  Span at;
} RowsAnswer;
bool rows_independent(Arena *a, Graph *g, const Region *r, int nin, Node *const *in, const bool *batched, int64_t batch,
                      bool *out_batched, RowsAnswer *no);
/* Are the regions the same but for extents that are multiples of their batches? */
bool rows_same_program(Arena *a, const Region *x, int64_t bx, const Region *y, int64_t by);

/* Makes the shared library `path` from an object and the runtime. False: *why, one line or more. Temporary files are
 * removed. */
bool aot_link(Arena *a, const char *path, bool cross, const char *object, size_t nobject, const char *rt, size_t nrt,
              const char **why);
/* The exports' graphs, for Graphviz. */
char *aot_dot(Arena *a, const AotLibrary *l, Graph *g);
/* The runtime's relocatable object for this machine. */
const char *aot_runtime(size_t *n);
/* Is the target of another kind than this machine? Then the runtime's object comes from a compiler for that kind, in
 * the arena; *no_compiler: there is none, but the sources can be had in a folder. */
bool aot_is_cross(const char *target);
bool aot_cross_runtime(Arena *a, char **object, size_t *n, bool *no_compiler, const char **why);
bool aot_write_sources(Arena *a, const char *dir, const char **why);
#endif
