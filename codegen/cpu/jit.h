/* Machine code at run time: LLVM's ORC JIT through its C API, and the caches before it.
 *
 *   Jit      one session: the host's ISA, LLVM (started when the first module or object needs it), the object cache
 *   JitCode  the loaded code of one module and its meta bytes; counted references; freed from memory at the last drop
 *
 * A key is a text that determines the code; the emitters' version, the program's own build and the CPU are added here.
 * Equal keys are compiled once: jit_find looks in memory, then on disk. Not thread-safe; the code itself may run
 * anywhere.
 *
 *   JitCode *c = jit_find(j, key, &from_disk);
 *   if (!c) { LLVMModuleRef m = jit_module(j); ...define functions "p0", "p1"...; c = jit_add(j, key, m, &opt, &why); }
 *   KernelFn fn = (KernelFn)jit_symbol(c, "p0"); ... jit_drop(c); */
#ifndef TG_CODEGEN_CPU_JIT_H
#define TG_CODEGEN_CPU_JIT_H
#include "codegen/kernel.h"
#include <llvm-c/Core.h>

typedef struct JitCode JitCode;

typedef struct Isa {
  int vector_bits; /* 512, 256 or 128: the widest registers that code should use */
  bool fma, f16c;  /* fused multiply-add and f16 conversions in hardware */
  const char *cpu, *features;
  size_t l1, l2, l3; /* bytes; 0 unknown */
  int lanes;         /* that will share a kernel's units, for their size alone; 0 unknown */
} Isa;

Jit *jit_new(const char *cache_dir); /* NULL: no disk cache. Cheap: does not start LLVM. NULL on lack of memory */
/* The same for another CPU of this machine's kind (LLVM's names), for tests: code must run here and give the same bits.
 */
Jit *jit_new_for(const char *cache_dir, const char *cpu, const char *features);
/* Collects instead of running: modules live in cx (the caller's), are optimised for the given machine and kept.
 * jit_symbol then gives the function's name in its module, as text, in place of an address; it lives as long as j. For
 * codegen/aot. */
Jit *jit_new_collect(LLVMContextRef cx, const char *triple, const char *cpu, const char *features);
/* The modules collected, at most cap; the caller owns them from now on. Returns how many there were. */
int jit_take_modules(Jit *j, LLVMModuleRef *out, int cap);
void jit_free(Jit *j); /* all codes must have been dropped */
const Isa *jit_isa(Jit *j);
void jit_set_lanes(Jit *j, int lanes);

/* A fresh module in a context of its own, with the host's triple and data layout. False/NULL: LLVM could not start. */
LLVMModuleRef jit_module(Jit *j, const char **why);
void jit_module_drop(LLVMModuleRef m); /* disposes module and context: for the failure path */

typedef struct JitOptions {
  const char *passes; /* LLVM pass pipeline; NULL: the default one for kernels; "" none */
  int level;          /* code generator 0..3 */
  const void *meta;   /* kept beside the code, also on disk */
  size_t nmeta;
} JitOptions;

JitCode *jit_find(Jit *j, const char *key, bool *from_disk);
/* Compiles and loads; consumes m and its context in every case. External functions of m become private to the key.
 * NULL: *why says. */
JitCode *jit_add(Jit *j, const char *key, LLVMModuleRef m, const JitOptions *o, const char **why);
void *jit_symbol(JitCode *c, const char *name); /* address of an external function of the module; NULL: none */
const void *jit_meta(const JitCode *c, size_t *n);
void jit_drop(JitCode *c);
/* Prints m for people: "llvm" after the passes, "asm". Consumes m. */
bool jit_print(Jit *j, LLVMModuleRef m, const JitOptions *o, const char *what, FILE *out);
int jit_started(const Jit *j); /* for tests: has LLVM been started */
#endif
