/* Kernels without machine code: a walker over the stages for computations so small that starting LLVM would cost more
 * than running them. It keeps the numeric contract to the bit (elementary functions through vmath.h's host builder), so
 * it is also what compiled kernels are compared with in the tests. */
#ifndef TG_CODEGEN_INTERP_H
#define TG_CODEGEN_INTERP_H
#include "codegen/kernel.h"

/* Copies what it needs from k. The code has one phase whose units are the points of P (1 for by_dest). */
void interp_make(const Kernel *k, Code *out);
#endif
