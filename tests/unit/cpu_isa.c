/* The same kernels for three kinds of x86 give the same bits, however the units are cut. */
#include "cpu_support.h"
#include <criterion/criterion.h>

static const char *const cpu[3][2] = {{"", ""}, {"haswell", "+avx,+avx2,+fma,+f16c,+bmi,+bmi2"}, {"x86-64", "+sse2"}};

static bool runs_here(const char *features) { /* the host has what the features name */
  Jit *j = jit_new(NULL);
  bool all = true;
  char want[100], *p;
  snprintf(want, sizeof want, "%s", features);
  for (p = strtok(want, ","); p; p = strtok(NULL, ",")) all = all && strstr(jit_isa(j)->features, p);
  jit_free(j);
  return all;
}
static void same_bits(const char *text, RedOrder order) {
  Prog p;
  char *error;
  cr_assert(prog_make(&p, text, false, &error), "%s: %s", text, error);
  Node *n = p.r.out[0];
  Tensor out[3];
  for (int i = 0; i < 3; i++) {
    if (!runs_here(cpu[i][1])) continue;
    Jit *j = i ? jit_new_for(NULL, cpu[i][0], cpu[i][1]) : jit_new(NULL);
    OneKernel o;
    one_kernel(&o, p.a, n, order);
    cr_assert(one_compile(&o, j, p.g), "%s on %s: %s", text, cpu[i][0], o.why);
    tensor_alloc(&out[i], (DType)n->dtype, n->rank, n->dim);
    memset(out[i].data, 0x55, tensor_bytes(&out[i]));
    void *ptr[17];
    for (int b = 0; b + 1 < o.k.narg; b++) ptr[b] = p.in[o.k.buf[b].node->slot].data;
    ptr[o.k.narg - 1] = out[i].data;
    KFault f = one_run(&o, ptr, 1 + 2 * i);
    cr_expect_eq(f.kind, KF_NONE);
    if (i)
      cr_expect(tensor_same(&out[0], &out[i]), "%s: %s differs by %g", text, cpu[i][0], tensor_diff(&out[i], &out[0]));
    if (i) tensor_drop(&out[i]);
    o.code.drop(&o.code);
    jit_free(j);
  }
  tensor_drop(&out[0]);
  prog_free(&p);
}
#define HEAD "%0 = input f32[33, 70] \"x\" slot 0\n"
Test(cpu_isa, maps) {
  same_bits(HEAD "%1 = comp f32[33, 70] for i0 33, i1 70: (mul (tanh %0[i0, i1]) (exp %0[i0, i1]))\nreturn (%1)\n",
            ORD_CHAIN);
  same_bits(HEAD "%1 = comp f32[70, 33] for i0 70, i1 33: (erf %0[i1, i0])\nreturn (%1)\n", ORD_CHAIN);
  same_bits(HEAD "%1 = comp f32[33, 35] for i0 33, i1 35: (log1p (abs %0[i0, (2*i1)]))\nreturn (%1)\n", ORD_CHAIN);
  same_bits(
      "%0 = input f64[201] \"x\" slot 0\n%1 = comp f64[201] for i0 201: (pow (abs %0[i0]) (sin %0[i0]))\nreturn (%1)\n",
      ORD_CHAIN);
  same_bits(
      "%0 = input f16[50, 30] \"x\" slot 0\n%1 = comp f16[30, 50] for i0 30, i1 50: (exp %0[i1, i0])\nreturn (%1)\n",
      ORD_CHAIN);
  same_bits(
      "%0 = input bf16[201] \"x\" slot 0\n%1 = comp bf16[201] for i0 201: (sigmoid %0[(200 - i0)])\nreturn (%1)\n",
      ORD_CHAIN);
  same_bits("%0 = input i64[201] \"x\" slot 0\n%1 = comp i64[201] for i0 201: (philox %0[i0] i0)\nreturn (%1)\n",
            ORD_CHAIN);
  same_bits(
      "%0 = input f32[99] \"x\" slot 0\n%1 = comp i32[99] for i0 99: (cast:i32 (mul %0[i0] 1e9:f32))\nreturn (%1)\n",
      ORD_CHAIN);
}
Test(cpu_isa, sums) {
  const char *rows = HEAD "%1 = comp f32[33] for i0 33 sum i1 70: %0[i0, i1]\nreturn (%1)\n";
  const char *cols = HEAD "%1 = comp f32[70] for i0 70 sum i1 33: %0[i1, i0]\nreturn (%1)\n";
  const char *all =
      "%0 = input f64[3, 9000] \"x\" slot 0\n%1 = comp f64[] for sum i0 3, i1 9000: %0[i0, i1]\nreturn (%1)\n";
  for (int order = 0; order < 2; order++) {
    same_bits(rows, (RedOrder)order);
    same_bits(cols, (RedOrder)order);
    same_bits(all, (RedOrder)order);
  }
  same_bits(HEAD "%1 = comp i64[33] for i0 33 argmax i1 70: %0[i0, i1]\nreturn (%1)\n", ORD_LANES);
}
