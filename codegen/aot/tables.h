/* Plans and the library's description as tables of rt/lib.h, inside an image. */
#ifndef TG_CODEGEN_AOT_TABLES_H
#define TG_CODEGEN_AOT_TABLES_H
#include "codegen/aot/aot.h"
#include "codegen/aot/image.h"
#include "codegen/plan.h"
#include "codegen/rt/lib.h"

/* Everything constant: the exports' weights, then what plans hold themselves; equal contents once. */
typedef struct KonstRow {
  const char *name;
  const void *data;
  size_t bytes;
  DType dtype;
  int rank;
  const int64_t *dim;
  bool weight; /* comes from elsewhere when the library's weights do */
} KonstRow;

typedef struct Tables {
  const AotLibrary *l;
  const Diags *d;
  Arena *a;
  Image image;
  VEC(KonstRow) konst;
  VEC(const char *) function; /* names of compiled functions that tables point to */
  Fault *fault;
} Tables;

/* A plan's tables; the place of its LibPlan. False with the fault: a native cannot be in a library. */
bool tables_plan(Tables *t, const AotExport *e, const Plan *p, int64_t rows, size_t *at);
/* The Lib. plan[e][isa * nvariant + v]: places; isa: nisa numbers of LibIsa. */
size_t tables_library(Tables *t, int nisa, const int *isa, size_t *const *plan, const char *manifest);
const char *konst_symbol(Arena *a, int i);
#endif
