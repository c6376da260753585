/* Faults of kernels on a device: one record in its memory. Equal to TgFault in codegen/cuda/prelude.c. */
#ifndef TG_CODEGEN_RT_DEV_FAULT_H
#define TG_CODEGEN_RT_DEV_FAULT_H
#include <stdint.h>

/* kind: KF_INDEX, KF_DIVZERO (kernel.h). The least (unit, minor) of one kernel wins; a sealed record keeps what it has.
 * Sites are numbered in the plan, or in the library. */
typedef struct CuFault {
  int32_t kind, site;
  int64_t index, size, unit, minor;
  int32_t lock, sealed;
} CuFault;
#endif
