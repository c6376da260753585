/* LLVM has no code generator for AArch64 (cross.h). */
#include "codegen/aot/cross.h"

bool cross_start_aarch64(void) { return false; }
