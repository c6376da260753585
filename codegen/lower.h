/* Lowering: a kernel group to a Kernel. */
#ifndef TG_CODEGEN_LOWER_H
#define TG_CODEGEN_LOWER_H
#include "codegen/fuse.h"

/* In f's arena. Kernel.buf[i].node names the node of every buffer; GLOBAL ones in order of `arg`. */
Kernel *lower_group(Fusion *f, Group *g);
/* Marks members that someone outside their group loads as pinned. Once, after fuse and before lower_group. */
void lower_prepare(Fusion *f);
#endif
