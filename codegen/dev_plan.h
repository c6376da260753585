/* What a plan has on a device, for exec_dev.c and dev_call.c.
 *
 *   DevPlan     one block of device memory: arena, constants, scratch, the fault record. Inputs are the session's
 *               (dev_tensors.h), outputs have memory of their own, which becomes the session's when the plan ends
 *   host[s]     where the host has the bytes of slot s (an input, a constant, what a native just made), or NULL. A kernel
 *               that writes the slot ends it
 *   Segment     a sequence of kernel steps, with its recordings by the addresses that it ran on
 *   CallMemory  what one native step keeps on the host between its runs (dev_call.c) */
#ifndef TG_CODEGEN_DEV_PLAN_H
#define TG_CODEGEN_DEV_PLAN_H
#include "codegen/dev_tensors.h"
#include "codegen/exec_dev.h"
#include "codegen/rt/dev_fault.h"

enum { MAX_TAPES = 4 };

typedef struct Taped {
  void **key;
  int seen;
  RtTape *tape;
} Taped;

typedef struct Segment {
  struct Segment *next;
  const Block *block;
  int from, to, nkey, ntape;
  bool never; /* the driver refused to record it */
  Taped taped[MAX_TAPES];
} Segment;

typedef struct CallMemory CallMemory;

struct DevPlan {
  RtDevice *d;
  DevTensors *tensors; /* the session's */
  size_t scratch_bytes;
  char *base, *arena, *scratch, *record;
  const void **host;
  uint64_t *args; /* of a launch: pointers, fault record, scratch, site */
  void **key;
  int max_key;
  Span *site; /* of all kernel steps */
  int nsite;
  bool unchecked; /* a kernel that can fault has been queued since the record was read */
  CallMemory *calls;
  CallMemory *ahead; /* a native has run that can look ahead while the host waits */
  void *native_ctx;  /* of the run */
  Segment *segments;
  DevTensor **input; /* by input of the plan: in use since dev_begin */
  Tensor *output;    /* by output of the plan: what the last run gave, if it lies in memory of its own */
};

bool dev_failed(DevPlan *v, Fault *fault);                     /* false, with the device's reason */
bool dev_no_fault(DevPlan *v, const CuFault *r, Fault *fault); /* what the record, now read, says of kernels */
void dev_look_ahead(Plan *p);    /* before the host waits: what a native can do meanwhile */
void dev_calls_free(DevPlan *v); /* nothing is queued */
#endif
