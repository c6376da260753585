/* The runtime's object (codegen/rt, compiled apart and joined by the linker) inside the program, so that an installed
 * tg needs no source tree. RT_OBJECT is its path when tg is built. */
#include "codegen/aot/aot.h"

__asm__(".section .rodata\n"
        ".balign 16\n"
        ".globl tg_rt_object, tg_rt_object_end\n"
        "tg_rt_object:\n"
        ".incbin \"" RT_OBJECT "\"\n"
        "tg_rt_object_end:\n"
        ".byte 0\n"
        ".text\n");
extern const char tg_rt_object[], tg_rt_object_end[];

const char *aot_runtime(size_t *n) {
  *n = (size_t)(tg_rt_object_end - tg_rt_object);
  return tg_rt_object;
}
