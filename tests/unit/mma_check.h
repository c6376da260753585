/* Compiling a comprehension as a contraction and comparing all bits with the numeric contract's own arithmetic. */
#ifndef TG_TESTS_MMA_CHECK_H
#define TG_TESTS_MMA_CHECK_H
#include "tests/unit/mma_forms.h"
#include <criterion/criterion.h>

typedef struct Tally { int ran, declined; } Tally;

static inline Jit *the_jit(void) { /* one LLVM a test process */
  static Jit *jit;
  if (!jit) jit = jit_new(NULL);
  return jit;
}

/* Compiles and runs comp n as a contraction, whole and unit by unit, and compares all bits with the reference. */
static inline void check(MmaCase *c, Node *n, Tally *t, const char *what) {
  Kernel *k = mma_kernel_of(c, n);
  Code code;
  bool disk, declined;
  const char *why = "";
  if (!mma_compile(the_jit(), c->g, k, kernel_print(k, c->arena), &code, &disk, &declined, &why)) {
    cr_assert(declined, "%s: %s", what, why);
    t->declined++;
    mma_case_free(c);
    return;
  }
  t->ran++;
  Tensor ref, out;
  cr_assert(mma_reference(c, n, &ref));
  for (int step = 0; step < 2; step++) {
    cr_assert(mma_run_code(&code, c, n, &out, step));
    int64_t e = tensor_count(&ref);
    for (int64_t i = 0; i < e; i++) {
      bool same = !memcmp((char *)ref.data + i * dt_bytes(n->dtype), (char *)out.data + i * dt_bytes(n->dtype), (size_t)dt_bytes(n->dtype));
      cr_assert(same, "%s, units %s: element %lld is %.9g, not %.9g", what, step ? "one by one" : "together", (long long)i,
                dt_get_f(n->dtype, out.data, i), dt_get_f(n->dtype, ref.data, i));
    }
    tensor_drop(&out);
  }
  tensor_drop(&ref);
  code.drop(&code);
  mma_case_free(c);
}
#endif
