/* Compiling a comprehension as a contraction and comparing all bits with the numeric contract's own arithmetic. */
#ifndef TG_TESTS_MMA_CHECK_H
#define TG_TESTS_MMA_CHECK_H
#include "tests/unit/mma_forms.h"
#include <criterion/criterion.h>

typedef struct Tally {
  int ran, declined;
} Tally;

static inline Jit **jit_used(void) { /* one LLVM a test process */
  static Jit *jit;
  return &jit;
}
static inline Jit *the_jit(void) {
  if (!*jit_used()) *jit_used() = jit_new(NULL);
  return *jit_used();
}

/* Runs code whole and in ranges of one and of three units, and compares all bits with the reference. */
static inline void check_code(MmaCase *c, Node *n, const Code *code, const Tensor *ref, const char *what,
                              const char *emitter) {
  static const int64_t steps[] = {0, 1, 3};
  size_t size = (size_t)dt_bytes(n->dtype);
  for (int i = 0; i < 3; i++) {
    Tensor out;
    cr_assert(mma_run_code(code, c, n, &out, steps[i]), "%s: %s", what, emitter);
    for (int64_t j = 0, e = tensor_count(ref); j < e; j++)
      cr_assert(!memcmp((char *)ref->data + (size_t)j * size, (char *)out.data + (size_t)j * size, size),
                "%s, %s, units by %lld: element %lld is %.9g, not %.9g", what, emitter, (long long)steps[i],
                (long long)j, dt_get_f(n->dtype, out.data, j), dt_get_f(n->dtype, ref->data, j));
    tensor_drop(&out);
  }
}

/* Comp n by the contraction's emitter, or if that declines (and in every third case anyway) as a plain reduction. */
static inline void check(MmaCase *c, Node *n, Tally *t, const char *what) {
  Kernel *k = mma_kernel_of(c, n);
  Code code;
  bool disk, declined;
  const char *why = "", *text = kernel_print(k, c->arena);
  Tensor ref;
  cr_assert(mma_reference(c, n, &ref));
  if (mma_compile(the_jit(), c->g, k, text, &code, &disk, &declined, &why)) {
    t->ran++;
    check_code(c, n, &code, &ref, what, "contraction");
    code.drop(&code);
  } else {
    cr_assert(declined, "%s: %s", what, why);
    t->declined++;
  }
  if (declined || (t->ran + t->declined) % 3 == 0) {
    cr_assert(cpu_compile(the_jit(), c->g, k, text, &code, &disk, &why), "%s: %s", what, why);
    check_code(c, n, &code, &ref, what, "reduction");
    code.drop(&code);
  }
  tensor_drop(&ref);
  mma_case_free(c);
}
#endif
