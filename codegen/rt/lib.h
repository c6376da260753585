/* What a library made by `tg build` is at run time: constant tables, and the functions that walk them.
 *
 *   Lib        one library: exports, constants, plans. Read-only, written by codegen/aot, position independent
 *   LibExport  one exported function: its tensors, and its plans by number of rows
 *   LibPlan    a plan (codegen/plan.h) without what only the compiler needs
 *   LibContext what a caller creates: memory for the largest call, threads, the last message. One thread at a time
 *
 * The run-time batch. An export whose rows do not meet (aot/rows.c proves it) has plans for a few numbers of rows,
 * e.g. 1, 8, 64, 256, and a call of B rows is cut into them; what is left over runs in a plan that is too large, on
 * copies padded with the last row, when that is cheaper than smaller plans. So a call of any B needs the memory of the
 * largest plan, and no sizes are computed at run time. Bits do not depend on the cut (codegen/README.md).
 *
 * Nothing is allocated after lib_create. Nothing here is global, writes to a file descriptor, ends the process or
 * touches signals. All functions return an RtStatus; a message with details is kept in the context. */
#ifndef TG_CODEGEN_RT_LIB_H
#define TG_CODEGEN_RT_LIB_H
#include "codegen/rt/kernel.h"
#include "codegen/rt/routine.h"
#include "codegen/rt/status.h"
#include <stddef.h>

enum { LIB_ABI = 1, LIB_MAX_RANK = 16, LIB_MAX_TENSOR = 256 };

/* ---- Tables ------------------------------------------------------------------------------------------------------ */
typedef enum { LS_ARENA, LS_INPUT, LS_CONST, LS_OUT, LS_ROW /* set by its loop */ } LibSlotKind;
typedef struct LibSlot {
  int32_t kind, number; /* INPUT: of the export, from nin on: states; OUT: of the export; CONST: of the library */
  uint64_t offset;      /* ARENA */
} LibSlot;

struct LibStep;
typedef struct LibBlock {
  int64_t n;
  const struct LibStep *step;
} LibBlock;

/* Numbers named int32_t without comment are slots; -1 none. */
typedef struct LibKernel {
  const Phase *phase;
  const int32_t *arg;
  uint64_t dest_bytes;
  const char *const *site;     /* places of faults, "file.tg:3:7" */
  int32_t nphase, narg, nsite; /* counts */
  int32_t init, dest;          /* init -2: zeros */
  /* on a device (lib_device.h), in place of phases: number, count, number, truth */
  int32_t launch, nlaunch, site0, faults;
} LibKernel;

typedef struct LibState {
  uint64_t bytes;
  int32_t init, state, next, result, spare, in_place /* truth */;
} LibState;
typedef struct LibStack {
  uint64_t bytes;
  int32_t stack, row, direct /* truth */, unused;
} LibStack;
typedef struct LibLoop {
  LibBlock test, body;
  int64_t trip;
  const LibState *state;
  const LibStack *stack;
  int32_t nstate, nstack, reverse; /* counts, truth */
  int32_t trip_value, cond, counter, steps;
} LibLoop;

typedef struct LibMove {
  uint64_t bytes;
  int32_t dst, src;
} LibMove;
typedef struct LibCond {
  LibBlock branch[2];
  const LibMove *move[2];
  int32_t nmove[2]; /* counts */
  int32_t pred, unused;
} LibCond;

/* A routine (routine.h). */
typedef struct LibCallStep {
  const RtRoutine *fn;
  const RtTensor *tensor; /* nin arguments, then nout results, without data */
  const int32_t *slot;    /* of each */
  const char *site;       /* "file.tg:3:7" */
  int64_t option;
  int32_t nin, nout; /* counts */
} LibCallStep;

typedef enum { LK_KERNEL, LK_LOOP, LK_COND, LK_CALL } LibStepKind;
typedef struct LibStep {
  int64_t kind;
  const void *of;
} LibStep;

typedef struct LibPlan {
  LibBlock root;
  const LibSlot *slot;
  const LibMove *result; /* of each output. src: slot, whose address may be the output's already; dst: number */
  int64_t rows;          /* of the batch; 0: the export has none */
  double cost;           /* rough ns on one lane */
  uint64_t arena_bytes, lane_bytes, shared_bytes;
  int32_t nslot, nresult, max_arg, nkernel; /* counts */
} LibPlan;

typedef struct LibTensor {
  const char *name;
  const int64_t *dim;                  /* of a batched tensor: without the leading, run-time size */
  uint64_t bytes;                      /* of a batched tensor: of a row */
  int32_t dtype, rank, batched, esize; /* dtype: order of graph/dtype.h; rank counts the batch */
} LibTensor;

typedef struct LibGolden { /* a call and what it gave when the library was built; inputs by lib_golden_fill */
  int64_t rows;
  int64_t status;
  const void *const *out; /* one an output */
} LibGolden;

typedef struct LibExport {
  const char *name;
  const LibTensor *tensor;    /* nin inputs, then nout outputs */
  const LibPlan *const *plan; /* nisa groups of nplan, by ascending rows */
  const LibGolden *golden;
  const int32_t *next;               /* states that outputs nout .. nout + nnext are the next values of */
  int32_t nin, nout, nplan, batched; /* batched: truth */
  int32_t nnext, listed; /* listed, truth: rows meet, so that no plan stands for other numbers of rows than its own */
} LibExport;

typedef struct LibConst {
  const char *name; /* of weights that may come from elsewhere; "" for others */
  const void *data; /* embedded, or NULL */
  const int64_t *dim;
  uint64_t bytes;
  int32_t dtype, rank;
} LibConst;

typedef enum { LW_EMBEDDED, LW_FILE, LW_CALLER } LibWeights;
typedef enum { LI_ANY, LI_X86_64, LI_X86_64_V3, LI_X86_64_V4, LI_AARCH64 } LibIsa;

struct LibDevice;
typedef struct Lib {
  const char *name, *manifest;
  const LibExport *export;
  const LibConst *konst;
  const int32_t *isa;             /* LibIsa by ascending demand; the last that the machine has is used */
  const struct LibDevice *device; /* NULL: the processor */
  const LibCallStep *const *call; /* all of the plans' */
  const char *file;               /* FILE: safetensors, beside the library unless the caller names another */
  int32_t abi, nexport, nconst, nisa, weights;
  int32_t nstate, first_state, ncall; /* states begin as constants first_state .. first_state + nstate */
} Lib;

/* ---- Calls ------------------------------------------------------------------------------------------------------- */
typedef struct LibContext LibContext;

/* As printed in a library's header; `size` tells later versions what the caller knows. */
typedef struct LibOptions {
  size_t size;
  int threads; /* 0: one a processor */
  void *(*alloc)(void *user, size_t bytes, size_t align);
  void (*release)(void *user, void *p, size_t bytes);
  void *user;
  const char *weights_file;
  const void *const *weights; /* CALLER: in the manifest's order, each aligned to 64 bytes */
} LibOptions;

int lib_create(const Lib *lib, const LibOptions *o, LibContext **out);
void lib_destroy(const Lib *lib, LibContext *c);
const char *lib_message(const Lib *lib, const LibContext *c);
size_t lib_memory(const Lib *lib, const LibOptions *o); /* bytes that lib_create asks for, threads' stacks apart */
/* All states as they began; a state's value, named as in the manifest. */
int lib_reset(const Lib *lib, LibContext *c);
int lib_get_state(const Lib *lib, LibContext *c, const char *name, void *data);
int lib_set_state(const Lib *lib, LibContext *c, const char *name, const void *data);
int lib_selftest(const Lib *lib, LibContext *c);
const char *lib_manifest(const Lib *lib); /* JSON */
const char *lib_strerror(const Lib *lib, int status);
int lib_abi(const Lib *lib);
/* Packed row-major tensors, aligned to their elements; rows ignored without a batch. Outputs overlap nothing. */
int lib_call(const Lib *lib, LibContext *c, int export, int64_t rows, const void *const *in, void *const *out);

/* DLPack (github.com/dmlc/dlpack, ABI of version 0.x and the tensor of 1.x) */
typedef struct DLDevice {
  int32_t device_type, device_id;
} DLDevice;
typedef struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
} DLDataType;
typedef struct DLTensor {
  void *data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape, *strides; /* strides in elements; NULL: packed */
  uint64_t byte_offset;
} DLTensor;
typedef struct DLManagedTensor {
  DLTensor dl_tensor;
  void *manager_ctx;
  void (*deleter)(struct DLManagedTensor *self);
} DLManagedTensor;

/* Any strides, also negative or 0 for inputs. Shapes, dtypes and devices are checked. */
int lib_call_dl(const Lib *lib, LibContext *c, int export, const DLTensor *const *in, int nin,
                const DLTensor *const *out, int nout);
/* The same, outputs allocated: *out[i] is the caller's, to be released by its deleter. */
int lib_call_dlpack(const Lib *lib, LibContext *c, int export, DLManagedTensor *const *in, int nin,
                    DLManagedTensor **out, int nout);

/* ---- Inside (lib*.c) --------------------------------------------------------------------------------------------- */
struct RtPool;
struct LibCuda;
struct LibContext {
  const Lib *lib;
  LibOptions o;
  size_t bytes;
  int lanes, isa;
  int busy; /* a call is under way: atomic */
  struct RtPool *pool;
  void *pool_memory;
  size_t pool_bytes;
  void **addr, **ptr;
  KFault *fault;
  char *arena, *lane, *shared, *stage;
  void **in, **out;      /* of the call under way */
  char **state, **spare; /* by state: its value, and room for the next */
  const void **konst;    /* by constant: where it lies */
  Lapack lapack[2];      /* of routines that need it, when it was found */
  int has_lapack;
  char *work; /* of routines */
  size_t work_bytes;
  void *map; /* FILE */
  size_t map_bytes;
  struct LibCuda *device; /* lib_cuda.c; NULL: the processor */
  char message[256];
};

/* Runs p on tensors of p->rows rows. */
int lib_run_plan(LibContext *c, const LibPlan *p, void *const *in, void *const *out);
int lib_fail(LibContext *c, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int lib_open_routines(const Lib *lib, Lapack two[2]); /* truth: LAPACK is needed and there (lib_routine.c) */
size_t lib_work_bytes(const Lib *lib, const Lapack *two /* NULL: there is none */);
int lib_run_call(LibContext *c, const LibCallStep *s);
int lib_isa_here(int isa); /* truth: this processor has it (lib_isa.c) */
/* A state's value to `to`, or from `from` where that is NULL. */
int lib_state_copy(LibContext *c, int i, void *to, const void *from);
int lib_map_weights(LibContext *c, const char *path); /* lib_weights.c */
void lib_unmap_weights(LibContext *c);
/* Deterministic inputs: floats in [-1, 1), integers and bools 0. */
void lib_golden_fill(int dtype, uint64_t seed, int64_t count, void *data);

#endif
