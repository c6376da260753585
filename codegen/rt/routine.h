/* Routines: what a plan calls that is no kernel, sorting and linear algebra. One code for the program (stdlib/native)
 * and for libraries made by `tg build` (lib_routine.c), so that both give the same bits.
 *
 * A routine runs twice: first with `measure`, when it only adds up the work space that it needs; then in that space. It
 * allocates nothing itself. */
#ifndef TG_CODEGEN_RT_ROUTINE_H
#define TG_CODEGEN_RT_ROUTINE_H
#include "codegen/rt/lapack.h"
#include "codegen/rt/status.h"
#include <stddef.h>
#include <stdint.h>

/* dtype numbers, as in graph/dtype.h (checked there by codegen/aot). */
enum { LD_BOOL, LD_U8, LD_I8, LD_I16, LD_I32, LD_I64, LD_F16, LD_BF16, LD_F32, LD_F64 };

typedef struct RtTensor { /* row-major, packed */
  const int64_t *dim;
  void *data;
  int32_t dtype, rank;
} RtTensor;

typedef struct RtCall {
  const RtTensor *in, *out; /* data is not looked at while measuring */
  int nin, nout;
  int64_t option;       /* sort, argsort: descending */
  const Lapack *lapack; /* [2]: f32, f64; for those that ask for it */
  int measure;
  size_t work_bytes; /* measured; else of `work` */
  char *work;        /* aligned to 64 bytes */
  char message[160]; /* of an error, beginning with the routine's name */
} RtCall;

enum { RT_ROUTINE_MOST_TENSORS = 8 };

typedef struct RtRoutine {
  const char *name;
  int (*run)(RtCall *c); /* an RtStatus */
  /* Of those that need LAPACK: finds it. NULL for others, so that a library without them knows nothing of it. */
  int (*open)(Lapack *two);
} RtRoutine;

/* By name, or NULL (routine_table.c: not in libraries, which name their own). */
const RtRoutine *rt_routine_find(const char *name);
extern const RtRoutine rt_routine_sort, rt_routine_argsort, rt_routine_solve, rt_routine_inv, rt_routine_det,
    rt_routine_slogdet, rt_routine_cholesky, rt_routine_qr, rt_routine_svd, rt_routine_eigh, rt_routine_lstsq;
#endif
