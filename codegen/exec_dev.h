/* Running a plan's steps on a device: memory, kernels, native calls. exec.c walks the plan and comes here when the
 * session has a device; slots then have device addresses (Plan.addr), which the host never follows.
 *
 * Work is queued; the host waits only where it needs a number (a loop's condition, a native's argument) and at the end.
 * There it also learns of faults in kernels: what was queued behind a fault has run, on memory that the failing run
 * gives up.
 *
 * All functions give false with *fault set. */
#ifndef TG_CODEGEN_EXEC_DEV_H
#define TG_CODEGEN_EXEC_DEV_H
#include "codegen/plan.h"

bool dev_prepare(Plan *p, Fault *fault); /* once: device memory, constants */
void dev_free(Plan *p);
bool dev_begin(Plan *p, int ninput, const Tensor *input, Fault *fault); /* Plan.addr; inputs on their way */
bool dev_end(Plan *p, Tensor *out, Fault *fault);                       /* waits; outputs are in out[].data */

/* Kernel steps from number i of b on, as many as follow each other; the number of the step after them, -1 on failure. A
 * sequence that comes back with the same addresses is recorded and replayed. */
int dev_kernels(Plan *p, const Block *b, int i, Fault *fault);
bool dev_call(Plan *p, CallStep *c, void *native_ctx, Fault *fault);

bool dev_copy(Plan *p, int dst, int src, size_t bytes, Fault *fault); /* slot to slot */
bool dev_copy_at(Plan *p, void *dst, int src, size_t bytes, Fault *fault);
bool dev_zero(Plan *p, void *dst, size_t bytes, Fault *fault);
bool dev_read(Plan *p, int slot, void *to, size_t bytes, Fault *fault);
bool dev_write(Plan *p, int slot, const void *from, size_t bytes, Fault *fault);
void dev_exchange(Plan *p, int a, int b); /* beside the exchange of addresses */
void dev_moved(Plan *p, int slot);        /* slot has a new address, or new bytes */
#endif
