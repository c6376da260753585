/* Kernels with much of one thing: terms, reductions side by side, short axes. */
#include "codegen_support.h"
#include <criterion/criterion.h>

static void check(const char *text) {
  Prog p;
  char *error;
  cr_assert(prog_make(&p, text, true, &error), "%s", error);
  Tensor ref[16];
  Fault f = {0};
  EvalOptions o = {0};
  cr_assert(graph_eval(p.g, &p.r, p.nin, p.in, ref, &o, &f), "%s", f.msg);
  PlanRun run = prog_plan(&p, 2, -1, 1), walked = prog_plan(&p, 1, INFINITY, 1);
  cr_assert(run.ok && walked.ok, "%s", run.fault.msg);
  for (int i = 0; i < p.r.nout; i++) {
    cr_expect_leq(tensor_diff(&run.out[i], &ref[i]), 1e-5, "output %d", i);
    cr_expect(tensor_same(&run.out[i], &walked.out[i]), "output %d: compiled and walked differ", i);
    tensor_drop(&ref[i]);
  }
  run_free(&run);
  run_free(&walked);
  prog_free(&p);
}
static char text[60000];
static size_t len;
static void put(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void put(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  len += (size_t)vsnprintf(text + len, sizeof text - len, fmt, ap);
  va_end(ap);
}

/* One linear form of 120 loads, as a value and as a subscript. */
Test(cpu_large, many_terms) {
  len = 0;
  put("%%0 = input i64[150] \"k\" slot 0\n%%1 = input f32[4000] \"t\" slot 1\n%%2 = comp i64[30] for i0 30: (");
  for (int i = 0; i < 120; i++) put("%s%%0[(i0 + %d)]", i ? " + " : "", i);
  put(")\n%%3 = comp f32[30] for i0 30: %%1![(");
  for (int i = 0; i < 120; i++) put("%s%%0[(i0 + %d)]", i ? " + " : "", i);
  put(")]\nreturn (%%2, %%3)\n");
  check(text);
}
/* Fifteen sums of one tensor: more than one loop holds. */
Test(cpu_large, many_sums) {
  len = 0;
  put("%%0 = input f32[40, 100] \"x\" slot 0\n");
  for (int i = 1; i <= 15; i++)
    put("%%%d = comp f32[40] for i0 40 sum i1 100: (mul %%0[i0, i1] (add %%0[i0, i1] %d:f32))\n", i, i);
  put("return (%%1");
  for (int i = 2; i <= 15; i++) put(", %%%d", i);
  put(")\n");
  check(text);
}
/* Ten axes of extent 2, some reduced: unrolling stays bounded. */
Test(cpu_large, many_axes) {
  len = 0;
  put("%%0 = input f32[2, 2, 2, 2, 2, 2, 2, 2, 2, 2] \"x\" slot 0\n");
  put("%%1 = comp f32[2, 2, 2] for i0 2, i1 2, i2 2 sum i3 2, i4 2, i5 2, i6 2, i7 2, i8 2, i9 2: "
      "(exp %%0[i9, i3, i0, i4, i5, i1, i6, i2, i7, i8])\n");
  put("%%2 = comp f32[2, 2, 2, 2, 2, 2, 2, 2, 2, 2] for i0 2, i1 2, i2 2, i3 2, i4 2, i5 2, i6 2, i7 2, i8 2, i9 2: "
      "(tanh %%0[i9, i8, i7, i6, i5, i4, i3, i2, i1, i0])\nreturn (%%1, %%2)\n");
  check(text);
}
