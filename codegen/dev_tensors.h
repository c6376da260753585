/* Tensors on the device between runs: what a run was given or gave is there for the next one.
 *
 *   DevTensors  all of them; belongs to the session (codegen.c)
 *   DevTensor   the device's copy of one host tensor, found by the tensor's owner, which it keeps alive. A tensor with
 * an owner does not change after a run has seen it. Borrowed tensors are copied for one run
 *
 * Copies of tensors that nobody else holds are released at the next run; when memory is short, also those that no run
 * is using, the one used longest ago first. One thread. */
#ifndef TG_CODEGEN_DEV_TENSORS_H
#define TG_CODEGEN_DEV_TENSORS_H
#include "codegen/rt/device.h"
#include "graph/native.h"

typedef struct DevTensors DevTensors;
typedef struct DevTensor DevTensor;

DevTensors *dev_tensors_new(RtDevice *d); /* NULL: out of memory */
void dev_tensors_free(DevTensors *s);     /* nothing queued uses them */

/* Device memory; other tensors make room for it. False with the device's `why`. */
bool dev_room(DevTensors *s, size_t bytes, void **p);

/* The copy of t, made if there is none: its bytes are on their way. It stays until dev_tensor_leave. NULL with
 * `why`; *no_room: for want of memory. */
DevTensor *dev_tensor_use(DevTensors *s, const Tensor *t, bool *no_room);
void *dev_tensor_at(const DevTensor *x);
void dev_tensor_leave(DevTensors *s, DevTensor *x); /* nothing queued uses it for this user */
/* p, from dev_room, holds t's bytes; it is no longer the caller's. */
void dev_tensor_give(DevTensors *s, const Tensor *t, void *p);
void dev_tensors_sweep(DevTensors *s); /* releases what only this still holds */
#endif
