/* The compiler session as the rest of the room sees it (codegen.c). */
#ifndef TG_CODEGEN_SESSION_H
#define TG_CODEGEN_SESSION_H
#include "codegen/codegen.h"
#include "codegen/kernel.h"
#include "codegen/rt/pool.h"

typedef struct CodeEntry CodeEntry;

/* The code of a kernel, compiled if its text is new. work: scalar operations in one run of the plan, which decides
 * whether it is worth compiling. The entry lives as long as the Codegen. NULL with *fault. */
CodeEntry *codegen_kernel(Codegen *c, Graph *g, const Kernel *k, double work, Fault *fault);
const Code *code_of(const CodeEntry *e);
const char *code_text(const CodeEntry *e);

Jit *codegen_jit(Codegen *c, Fault *fault); /* NULL with *fault */
/* The device that plans run on; NULL: the host. Its code of a kernel. */
struct RtDevice *codegen_device(const Codegen *c);
struct DevTensors *
codegen_tensors(Codegen *c); /* what lies there between runs; made at the first call, NULL: out of memory */
struct CudaCode *code_device(const CodeEntry *e);
bool codegen_ready(Codegen *c, Fault *fault); /* waits for kernels that are still being compiled */
RtPool *codegen_pool(Codegen *c);             /* made at the first call; NULL: one lane */
int codegen_lanes(const Codegen *c);
bool codegen_profile(const Codegen *c);
bool codegen_tf32(const Codegen *c);
volatile int *codegen_interrupt(const Codegen *c);
void codegen_between(const Codegen *c);  /* lets others go on (CodegenOptions.between) */
bool codegen_may_lend(const Codegen *c); /* CodegenOptions.lend; never on a device */
void *codegen_lend(const Codegen *c, size_t bytes);
void codegen_take_back(const Codegen *c, void *at);
struct RtTrace *codegen_trace(const Codegen *c);
void codegen_planned(Codegen *c);
#endif
