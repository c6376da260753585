/* LLVM has a code generator for AArch64 (cross.h). */
#include "codegen/aot/cross.h"
#include <llvm-c/Target.h>

bool cross_start_aarch64(void) {
  LLVMInitializeAArch64TargetInfo();
  LLVMInitializeAArch64Target();
  LLVMInitializeAArch64TargetMC();
  LLVMInitializeAArch64AsmPrinter();
  return true;
}
