/* Long reductions in both orders, in every shape that has a schedule of its own (rows, columns, whole, strided,
 * windows, few points): compiled code has the bits of the walker, which follows the orders' definition step by step;
 * any number of threads. */
#include "codegen_support.h"
#include <criterion/criterion.h>

static void check(const char *text) {
  Prog p;
  char *error;
  cr_assert(prog_make(&p, text, true, &error), "%s: %s", text, error);
  PlanRun walked = prog_plan(&p, 1, INFINITY, 1);
  cr_assert(walked.ok, "%s", walked.fault.msg);
  static const int threads[] = {1, 2, 3, 8};
  for (int t = 0; t < 4; t++) {
    PlanRun run = prog_plan(&p, threads[t], -1, 1);
    cr_assert(run.ok, "%s", run.fault.msg);
    for (int i = 0; i < p.r.nout; i++)
      cr_expect(tensor_same(&run.out[i], &walked.out[i]), "%s output %d on %d threads: off by %g\n%s", text, i,
                threads[t], tensor_diff(&run.out[i], &walked.out[i]), t ? "" : run.fuse);
    run_free(&run);
  }
  run_free(&walked);
  prog_free(&p);
}
static void shape(const char *dtype, const char *op, int rows, int cols) {
  char text[600];
  const char *out = !strncmp(op, "arg", 3) ? "i64" : dtype;
  snprintf(text, sizeof text,
           "%%0 = input %s[%d, %d] \"x\" slot 0\n%%1 = comp %s[%d] for i0 %d %s i1 %d: %%0[i0, i1]\nreturn (%%1)\n",
           dtype, rows, cols, out, rows, rows, op, cols);
  check(text);
  snprintf(text, sizeof text,
           "%%0 = input %s[%d, %d] \"x\" slot 0\n%%1 = comp %s[%d] for i0 %d %s i1 %d: %%0[i1, i0]\nreturn (%%1)\n",
           dtype, rows, cols, out, cols, cols, op, rows);
  check(text);
  snprintf(text, sizeof text,
           "%%0 = input %s[%d, %d] \"x\" slot 0\n%%1 = comp %s[] for %s i0 %d, i1 %d: %%0[i0, i1]\nreturn (%%1)\n",
           dtype, rows, cols, out, op, rows, cols);
  check(text);
}
Test(cpu_reduce, shapes) {
  static const int size[][2] = {{1, 1},     {3, 17},    {17, 3},   {70, 33},  {5, 4097},
                                {4100, 70}, {9, 12345}, {9000, 5}, {300, 100}};
  for (unsigned i = 0; i < sizeof size / sizeof *size; i++) {
    shape("f32", "sum", size[i][0], size[i][1]);
    if (i % 2) shape("f64", "sum", size[i][0], size[i][1]);
    if (i % 3 == 0) shape("f32", "argmax", size[i][0], size[i][1]);
    if (i % 3 == 1) shape("f16", "sum", size[i][0], size[i][1]);
    if (i % 3 == 2) shape("i64", "max", size[i][0], size[i][1]);
  }
}
Test(cpu_reduce, few_points_many_terms) {
  shape("f32", "sum", 3, 400000);
  shape("f32", "max", 400000, 3);
  shape("f32", "argmin", 2, 300000);
  check("%0 = input f32[200000] \"x\" slot 0\n%1 = input f32[200000] \"y\" slot 1\n"
        "%2 = comp f32[] for sum i0 200000: (mul %0[i0] %1[i0])\nreturn (%2)\n");
  check("%0 = input f32[90, 70, 80] \"x\" slot 0\n%1 = comp f32[70] for i0 70 sum i1 90, i2 80: %0[i1, i0, i2]\nreturn "
        "(%1)\n");
  check("%0 = input f32[90, 70, 80] \"x\" slot 0\n%1 = comp f32[80] for i0 80 sum i1 90, i2 70: %0[i1, i2, i0]\n"
        "%2 = comp f32[80] for i0 80: (exp (mul %1[i0] 0.01:f32))\nreturn (%2)\n");
}
Test(cpu_reduce, guards_and_windows) {
  check("%0 = input f32[20, 33, 37] \"x\" slot 0\n"
        "%1 = comp f32[20, 16, 18] for i0 20, i1 16, i2 18 max i3 2, i4 2: %0[i0, (2*i1 + i3), (2*i2 + i4)]\nreturn "
        "(%1)\n");
  check("%0 = input f32[33, 5000] \"x\" slot 0\n%1 = comp f32[33] for i0 33 sum i1 5000: %0[i0, i1] if (lt %0[i0, i1] "
        "1:f32)\nreturn (%1)\n");
  check("%0 = input f32[5000, 33] \"x\" slot 0\n%1 = comp f32[33] for i0 33 prod i1 5000: %0[i1, i0] if (lt (abs "
        "%0[i1, i0]) 0.001:f32)\nreturn (%1)\n");
  check("%0 = input bool[100, 333] \"x\" slot 0\n%1 = comp bool[100] for i0 100 any i1 333: %0[i0, i1]\n"
        "%2 = comp bool[333] for i0 333 all i1 100: %0[i1, i0]\nreturn (%1, %2)\n");
}
Test(cpu_reduce, strided_walks) {
  check(
      "%0 = input f32[100, 70] \"x\" slot 0\n%1 = scan f32[100, 70] for i0 100, i1 70 sum: %0[i0, i1]\nreturn (%1)\n");
  check("%0 = input f32[100, 70] \"x\" slot 0\n%1 = scan f32[100, 70] for i0 100, i1 70 sum reverse exclusive: %0[i0, "
        "i1]\nreturn (%1)\n");
  check("%0 = input f64[37, 70] \"x\" slot 0\n%1 = scan f64[37, 70] for i0 37, i1 70 max reverse: %0[i0, i1]\nreturn "
        "(%1)\n");
  check("%0 = input u8[300, 500] \"x\" slot 0\n%1 = comp u8[500, 300] for i0 500, i1 300: %0[i1, i0]\nreturn (%1)\n");
  check("%0 = input f64[300, 77] \"x\" slot 0\n%1 = comp f64[77, 300] for i0 77, i1 300: %0[i1, i0]\nreturn (%1)\n");
  check("%0 = input f32[300, 77, 3] \"x\" slot 0\n%1 = comp f32[3, 300, 77] for i0 3, i1 300, i2 77: %0[i1, i2, "
        "i0]\nreturn (%1)\n");
  check("%0 = input f32[700, 11] \"x\" slot 0\n%1 = comp f32[700] for i0 700 max i1 11: %0[i0, i1]\n"
        "%2 = comp f32[700, 11] for i0 700, i1 11: (exp (sub %0[i0, i1] %1[i0]))\n%3 = comp f32[700] for i0 700 sum i1 "
        "11: %2[i0, i1]\n"
        "%4 = comp f32[700, 11] for i0 700, i1 11: (div %2[i0, i1] %3[i0])\nreturn (%4)\n");
}
