/* Plans and the library's description as tables of rt/lib.h, inside an image. */
#ifndef TG_CODEGEN_AOT_TABLES_H
#define TG_CODEGEN_AOT_TABLES_H
#include "codegen/aot/aot.h"
#include "codegen/aot/image.h"
#include "codegen/cpu/mma.h"
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
  bool used;   /* some plan reads it as it is */
} KonstRow;

/* Constant `konst` holds the panels of constant `from` (panels.c). */
typedef struct PanelRow {
  MmaGiven how;
  int from, konst;
} PanelRow;

/* Of a library for a GPU (images.c). */
struct CudaCode;
typedef struct DeviceModule {
  const struct CudaCode *code;
  size_t images; /* place */
  int launch;    /* its first */
} DeviceModule;
typedef struct DeviceLaunch {
  const char *name;
  int module;
  uint32_t grid, block;
} DeviceLaunch;

typedef struct Tables {
  const AotLibrary *l;
  const Diags *d;
  Arena *a;
  Image image;
  VEC(KonstRow) konst;
  VEC(const char *) function; /* names of compiled functions that tables point to */
  VEC(size_t) call;           /* places of the LibCallSteps */
  VEC(const char *) routine;  /* symbols that they point to */
  Fault *fault;
  VEC(PanelRow) panel;
  bool one_machine;
  size_t plan_slots;               /* of the plan at work: place of its LibSlots, */
  int nslot;                       /* their number so far, */
  size_t lane_bytes, shared_bytes; /* and what its kernels need */
  VEC(DeviceModule) module;
  VEC(DeviceLaunch) launch;
  VEC(Span) site;
  size_t scratch; /* of the plan at work */
  bool inexact;   /* the export's bits on a GPU are not the processor's */
} Tables;

/* A plan's tables; the place of its LibPlan. False with the fault: a native cannot be in a library. */
bool tables_plan(Tables *t, const AotExport *e, const Plan *p, int64_t rows, size_t *at);
bool tables_need_lapack(const Tables *t);
/* The Lib. plan[e][isa * nvariant + v]: places; isa: nisa numbers of LibIsa. */
size_t tables_library(Tables *t, int nisa, const int *isa, size_t *const *plan, const char *manifest);
size_t tables_sites(Tables *t, int n, const Span *site); /* their texts */

/* R of this kernel is a constant whose panels can be given; NULL: it is not. */
const MmaGiven *panels_of(const Tables *t, const KernelStep *k, const LibSlot *slot);
int panels_constant(Tables *t, const MmaGiven *g, int from); /* that of the panels; -1: no memory */
void panels_unread(Tables *t, const Plan *p, LibSlot *slot); /* sets `used` of what the plan reads as it is */

/* A kernel compiled for a GPU; what a run costs, in ns; the library's LibDevice. */
void images_kernel(Tables *t, const KernelStep *k, const struct CudaCode *c, LibKernel *out);
double images_cost(const struct CudaCode *c);
size_t images_device(Tables *t);
bool tables_left_out(const Tables *t, int konst); /* no plan reads it as it is */
const char *konst_symbol(Arena *a, int i);
#endif
