/* The library's one module: machine code of all kernels, tables, constants, and the functions that callers see. */
#ifndef TG_CODEGEN_AOT_EMIT_H
#define TG_CODEGEN_AOT_EMIT_H
#include "codegen/aot/tables.h"

/* Machines that a target stands for, by ascending demand. */
typedef struct Machine {
  int isa; /* LibIsa */
  const char *triple, *cpu, *features;
} Machine;
enum { MAX_MACHINE = 4 };
int target_machines(const char *target, Machine *out); /* 0: no such target */

/* wrappers.c: the public functions. */
void wrappers_emit(LLVMModuleRef m, const AotLibrary *l, LLVMValueRef lib);

/* texts.c */
char *header_text(Arena *a, const Tables *t);
char *manifest_text(Arena *a, const Tables *t);
char *pc_text(Arena *a, const AotLibrary *l);
char *python_text(Arena *a, const AotLibrary *l);
#endif
