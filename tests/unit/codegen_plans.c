/* Plans: what fuses, what memory they take, and that their values are the oracle's whoever computes them. */
#include "codegen_support.h"
#include <criterion/criterion.h>

#define RELU                                                                                                           \
  "%0 = input f32[64, 16] \"a\" slot 0\n"                                                                              \
  "%1 = input f32[16, 33] \"b\" slot 1\n"                                                                              \
  "%2 = input f32[33] \"c\" slot 2\n"                                                                                  \
  "%3 = comp f32[64, 33] for i0 64, i1 33 sum i2 16: (mul %0[i0, i2] %1[i2, i1])\n"                                    \
  "%4 = comp f32[64, 33] for i0 64, i1 33: (max (add %3[i0, i1] %2[i1]) 0:f32)\n"                                      \
  "return (%4)\n"
#define SOFTMAX                                                                                                        \
  "%0 = input f32[100, 70] \"x\" slot 0\n"                                                                             \
  "%1 = comp f32[100] for i0 100 max i1 70: %0[i0, i1]\n"                                                              \
  "%2 = comp f32[100, 70] for i0 100, i1 70: (exp (sub %0[i0, i1] %1[i0]))\n"                                          \
  "%3 = comp f32[100] for i0 100 sum i1 70: %2[i0, i1]\n"                                                              \
  "%4 = comp f32[100, 70] for i0 100, i1 70: (div %2[i0, i1] %3[i0])\n"                                                \
  "return (%4)\n"
#define LAYER_NORM                                                                                                     \
  "%0 = input f32[19, 5000] \"x\" slot 0\n"                                                                            \
  "%1 = input f32[5000] \"g\" slot 1\n"                                                                                \
  "%2 = comp f32[19] for i0 19 sum i1 5000: %0[i0, i1]\n"                                                              \
  "%3 = comp f32[19] for i0 19: (div %2[i0] 5000:f32)\n"                                                               \
  "%4 = comp f32[19, 5000] for i0 19, i1 5000: (sub %0[i0, i1] %3[i0])\n"                                              \
  "%5 = comp f32[19] for i0 19 sum i1 5000: (mul %4[i0, i1] %4[i0, i1])\n"                                             \
  "%6 = comp f32[19] for i0 19: (sqrt (add (div %5[i0] 5000:f32) 1e-5:f32))\n"                                         \
  "%7 = comp f32[19, 5000] for i0 19, i1 5000: (mul (div %4[i0, i1] %6[i0]) %1[i1])\n"                                 \
  "return (%7)\n"
#define GRAM                                                                                                           \
  "%0 = input f32[50, 37] \"a\" slot 0\n"                                                                              \
  "%1 = comp f32[37, 50] for i0 37, i1 50: %0[i1, i0]\n"                                                               \
  "%2 = comp f32[37, 37] for i0 37, i1 37 sum i2 50: (mul %1[i0, i2] %0[i2, i1])\n"                                    \
  "return (%2)\n"
#define RNN                                                                                                            \
  "%0 = input f32[5, 5] \"a\" slot 0\n"                                                                                \
  "%1 = input f32[5] \"x\" slot 1\n"                                                                                   \
  "%2 = param f32[5] \"s\"\n"                                                                                          \
  "%3 = param i64[] \"t\" in 0..9\n"                                                                                   \
  "%4 = comp f32[5] for i0 5 sum i1 5: (mul %0[i0, i1] %2[i1])\n"                                                      \
  "%5 = comp f32[5] for i0 5: (tanh (add %4[i0] (cast:f32 %3[])))\n"                                                   \
  "%6 = loop states (%2 = %1) counter %3 trip 10 next (%5) stack (%4, %5) effects ()\n"                                \
  "%7 = get f32[5] %6 0\n%8 = get f32[10, 5] %6 1\n%9 = get f32[10, 5] %6 2\n%10 = get i64[] %6 3\n"                   \
  "return (%7, %8, %9, %10)\n"
#define ROTATE /* a, b = b, a + 1 */                                                                                   \
  "%0 = input f32[5] \"a\" slot 0\n%1 = input f32[5] \"b\" slot 1\n"                                                   \
  "%2 = param f32[5] \"s\"\n%3 = param f32[5] \"t\"\n"                                                                 \
  "%4 = comp f32[5] for i0 5: (add %2[i0] 1:f32)\n"                                                                    \
  "%5 = loop states (%2 = %0, %3 = %1) trip 7 next (%3, %4) stack () effects ()\n"                                     \
  "%6 = get f32[5] %5 0\n%7 = get f32[5] %5 1\n"                                                                       \
  "%8 = comp f32[5] for i0 5: (add %6[i0] %7[i0])\n"                                                                   \
  "return (%6, %7, %8)\n"
#define UPDATE /* rows of a state set and added to, one a step */                                                      \
  "%0 = input f32[10] \"x\" slot 0\n%1 = input i64[5] \"k\" slot 1\n"                                                  \
  "%2 = param f32[10] \"s\"\n%3 = param i64[] \"t\" in 0..4\n"                                                         \
  "%4 = scatter f32[10] %2 for i0 1 set checked: at [%1[%3[]]] (add %2[%3[]] 1:f32)\n"                                 \
  "%5 = comp f32[10] for i0 10: (mul 2:f32 %4[i0])\n"                                                                  \
  "%6 = scatter f32[10] %5 for i0 1 add checked: at [%3[]] 5:f32\n"                                                    \
  "%7 = loop states (%2 = %0) counter %3 trip 5 next (%6) stack () effects ()\n"                                       \
  "%8 = get f32[10] %7 0\n"                                                                                            \
  "return (%8)\n"
#define KMEANS                                                                                                         \
  "%0 = input i64[50] \"k\" slot 0\n%1 = input f32[50, 3] \"x\" slot 1\n"                                              \
  "%2 = comp f32[7, 3] for i0 7, i1 3 sum i2 50: %1[i2, i1] if (eq %0[i2] i0)\n"                                       \
  "%3 = comp i64[7] for i0 7 sum i1 50: 1 if (eq %0[i1] i0)\n"                                                         \
  "%4 = comp f32[7, 3] for i0 7, i1 3: (div %2[i0, i1] (cast:f32 (max %3[i0] 1)))\n"                                   \
  "return (%4)\n"
#define WHILE                                                                                                          \
  "%0 = input f32[6] \"x\" slot 0\n%1 = param f32[6] \"s\"\n%2 = param f32[] \"e\"\n"                                  \
  "%3 = comp f32[6] for i0 6: (mul %1[i0] 0.5:f32)\n"                                                                  \
  "%4 = comp f32[] for sum i0 6: (abs %3[i0])\n"                                                                       \
  "%5 = comp bool[] for: (gt %2[] 0.01:f32)\n"                                                                         \
  "%6 = comp f32[] for: 100:f32\n"                                                                                     \
  "%7 = loop states (%1 = %0, %2 = %6) trip 50 while %5 next (%3, %4) stack (%4) effects ()\n"                         \
  "%8 = get f32[6] %7 0\n%9 = get f32[50] %7 2\n%10 = get i64[] %7 3\n"                                                \
  "return (%8, %9, %10)\n"
#define WHOLE_SUMS                                                                                                     \
  "%0 = input f32[300, 401] \"x\" slot 0\n"                                                                            \
  "%1 = comp f32[] for sum i0 300, i1 401: %0[i0, i1]\n"                                                               \
  "%2 = comp f32[] for: (div %1[] 120300:f32)\n"                                                                       \
  "%3 = comp f32[401] for i0 401 sum i1 300: %0[i1, i0]\n"                                                             \
  "%4 = comp f32[] for max i0 300, i1 401: %0[i0, i1]\n"                                                               \
  "%5 = comp i64[] for argmax i0 300, i1 401: %0[i0, i1]\n"                                                            \
  "%6 = comp f32[] for sum i0 401: (mul %3[i0] %0[0, i0])\n"                                                           \
  "return (%2, %3, %4, %5, %6)\n"
#define GATHER                                                                                                         \
  "%0 = input f32[7, 20] \"t\" slot 0\n%1 = input i64[9] \"k\" slot 1\n"                                               \
  "%2 = comp f32[9, 20] for i0 9, i1 20: %0![%1[i0], i1]\n"                                                            \
  "%3 = comp f32[9, 20] for i0 9, i1 20: (exp %2[i0, i1])\n"                                                           \
  "%4 = scatter f32[7, 20] zeros for i0 9, i1 20 add checked: at [%1[i0], i1] %3[i0, i1]\n"                            \
  "return (%3, %4)\n"
/* An optimiser's step: a gradient that is scaled by its norm and dies, two moments, what they make of the parameters. */
#define ADAM                                                                                                           \
  "%0 = input f32[300, 40] \"w\" slot 0\n%1 = input f32[300, 40] \"x\" slot 1\n"                                       \
  "%2 = comp f32[300, 40] for i0 300, i1 40: 0:f32\n%3 = comp f32[300, 40] for i0 300, i1 40: 1:f32\n"                 \
  "%4 = param f32[300, 40] \"w\"\n%5 = param f32[300, 40] \"m\"\n%6 = param f32[300, 40] \"v\"\n"                      \
  "%7 = comp f32[300] for i0 300 sum i1 40: (mul %4[i0, i1] %1[i0, i1])\n"                                             \
  "%8 = comp f32[300, 40] for i0 300, i1 40: (exp (mul %7[i0] %1[i0, i1]))\n"                                          \
  "%9 = comp f32[] for sum i0 300, i1 40: %8[i0, i1]\n"                                                                \
  "%10 = comp f32[300, 40] for i0 300, i1 40: (div %8[i0, i1] %9[])\n"                                                 \
  "%11 = comp f32[300, 40] for i0 300, i1 40: (add (mul 0.9:f32 %5[i0, i1]) %10[i0, i1])\n"                            \
  "%12 = comp f32[300, 40] for i0 300, i1 40: (add (mul 0.9:f32 %6[i0, i1]) (mul %10[i0, i1] %10[i0, i1]))\n"          \
  "%13 = comp f32[300, 40] for i0 300, i1 40: (sub %4[i0, i1] (div %11[i0, i1] (sqrt %12[i0, i1])))\n"                 \
  "%14 = loop states (%4 = %0, %5 = %2, %6 = %3) trip 9 next (%13, %11, %12) stack () effects ()\n"                    \
  "%15 = get f32[300, 40] %14 0\nreturn (%15)\n"

#define TWINS /* two loops over one body; the second stacks more; the third is fed by the first */                     \
  "%0 = input f32[5] \"x\" slot 0\n%1 = param f32[5] \"s\"\n%2 = param i64[] \"t\" in 0..5\n"                          \
  "%3 = comp f32[5] for i0 5: (tanh (add %1[i0] (cast:f32 %2[])))\n"                                                   \
  "%4 = loop states (%1 = %0) counter %2 trip 6 next (%3) stack () effects ()\n"                                       \
  "%5 = loop states (%1 = %0) counter %2 trip 6 next (%3) stack (%1) effects ()\n"                                     \
  "%6 = get f32[5] %4 0\n%7 = get f32[6, 5] %5 1\n"                                                                    \
  "%8 = loop states (%1 = %6) counter %2 trip 6 next (%3) stack () effects ()\n"                                       \
  "%9 = get f32[5] %8 0\n"                                                                                             \
  "%10 = comp f32[5] for i0 5 sum i1 6: (add %7[i1, i0] (add %6[i0] %9[i0]))\n"                                        \
  "return (%10)\n"

/* Two maps that read the same, but between which a third kernel stands, made of an early and a late part. */
#define CROSSED                                                                                                        \
  "%0 = input f32[64, 700] \"x\" slot 0\n"                                                                             \
  "%1 = input f32[5] \"v\" slot 1\n"                                                                                   \
  "%2 = input f32[5, 6] \"w\" slot 2\n"                                                                                \
  "%3 = comp f32[5] for i0 5: (exp %1[i0])\n"                                                                          \
  "%4 = comp f32[6] for i0 6 sum i1 5: (mul %3[i1] %2[i1, i0])\n"                                                      \
  "%5 = comp f32[64, 700] for i0 64, i1 700: (tanh (add %0[i0, i1] %4[3]))\n"                                          \
  "%6 = comp f32[64, 700] for i0 64, i1 700: (exp %0[i0, i1])\n"                                                       \
  "%7 = comp f32[] for sum i0 5: (add %3[i0] %6[0, 0])\n"                                                              \
  "return (%5, %6, %7)\n"

static const char *const programs[] = {RELU,   SOFTMAX, LAYER_NORM, GRAM,   RNN,   ROTATE,  UPDATE,
                                       KMEANS, WHILE,   WHOLE_SUMS, GATHER, TWINS, CROSSED, ADAM};

/* Oracle, walker, compiled on 1, 2, 3, 8 threads. */
Test(codegen_plans, values_and_bits) {
  for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
    Prog p;
    char *error = NULL;
    cr_assert(prog_make(&p, programs[i], true, &error), "program %zu: %s", i, error);
    Tensor ref[16];
    Fault f = {0};
    EvalOptions o = {0};
    cr_assert(graph_eval(p.g, &p.r, p.nin, p.in, ref, &o, &f), "%s", f.msg);
    PlanRun walked = prog_plan(&p, 1, INFINITY, 2);
    cr_assert(walked.ok, "program %zu: %s", i, walked.fault.msg);
    for (int k = 0; k < p.r.nout; k++)
      cr_expect_leq(tensor_diff(&walked.out[k], &ref[k]), 1e-5, "program %zu output %d", i, k);
    static const int threads[] = {1, 2, 3, 8};
    for (int t = 0; t < 4; t++) {
      PlanRun run = prog_plan(&p, threads[t], -1, 3);
      cr_assert(run.ok, "program %zu: %s", i, run.fault.msg);
      for (int k = 0; k < p.r.nout; k++)
        cr_expect(tensor_same(&run.out[k], &walked.out[k]), "program %zu output %d on %d threads: %g off", i, k,
                  threads[t], tensor_diff(&run.out[k], &walked.out[k]));
      run_free(&run);
    }
    run_free(&walked);
    for (int k = 0; k < p.r.nout; k++) tensor_drop(&ref[k]);
    prog_free(&p);
  }
}

static PlanRun planned(const char *text) {
  Prog p;
  char *error = NULL;
  cr_assert(prog_make(&p, text, true, &error), "%s", error);
  PlanRun r = prog_plan(&p, 1, -1, 1);
  cr_assert(r.ok, "%s", r.fault.msg);
  prog_free(&p);
  return r;
}

static void expect_structure(const char *text, int kernels, int buffers) {
  PlanRun r = planned(text);
  cr_expect_eq(r.stats.kernels, kernels, "%d kernels\n%s", r.stats.kernels, r.fuse);
  cr_expect_eq(r.stats.buffers, buffers, "%d buffers\n%s", r.stats.buffers, r.fuse);
  run_free(&r);
}

Test(codegen_plans, one_kernel_no_memory_between) {
  expect_structure(RELU, 1, 1);
  expect_structure(SOFTMAX, 1, 1);
  expect_structure(LAYER_NORM, 1, 1);
  expect_structure(GRAM, 1, 1); /* the transpose is an index map */
}

Test(codegen_plans, state_in_place) {
  PlanRun r = planned(UPDATE);
  cr_expect(strstr(r.fuse, "state") && strstr(r.fuse, " in place"), "%s", r.fuse);
  cr_expect_not(strstr(r.fuse, "copied"), "%s", r.fuse);
  run_free(&r);
}

Test(codegen_plans, optimisers_states_in_place) {
  PlanRun r = planned(ADAM);
  cr_expect(strstr(r.fuse, "loop 9\n"), "%s", r.fuse);
  cr_expect_not(strstr(r.fuse, "copied") || strstr(r.fuse, "exchanged"), "%s", r.fuse);
  run_free(&r);
}

/* Little arithmetic, but 4.4 MB to read: in parts for all lanes. */
Test(codegen_plans, long_sums_in_parts) {
  PlanRun r = planned("%0 = input f32[1100, 1000] \"x\" slot 0\n"
                      "%1 = comp f32[] for sum i0 1100, i1 1000: %0[i0, i1]\nreturn (%1)\n");
  cr_expect(strstr(r.fuse, " phase 1: 1 units"), "%s", r.fuse);
  run_free(&r);
}

Test(codegen_plans, twin_loops_run_once) {
  PlanRun r = planned(TWINS);
  int loops = 0;
  for (const char *at = strstr(r.fuse, "kernels: "); (at = strstr(at, "\nloop 6\n")); at++) loops++;
  cr_expect_eq(loops, 2, "%s", r.fuse);
  run_free(&r);
}

Test(codegen_plans, long_chain) {
  char text[32768];
  int n = snprintf(text, sizeof text, "%%0 = input f32[1000] \"x\" slot 0\n");
  for (int i = 1; i <= 200; i++)
    n += snprintf(text + n, sizeof text - (size_t)n, "%%%d = comp f32[1000] for i0 1000: (%s %%%d[i0] %d.5:f32)\n", i,
                  i % 3 ? "add" : "mul", i - 1, i % 7);
  snprintf(text + n, sizeof text - (size_t)n, "return (%%200)\n");
  expect_structure(text, 1, 1);
}

/* A chain whose links all are wanted twice keeps one more buffer at most. */
Test(codegen_plans, arena_is_reused) {
  char text[65536];
  int n = snprintf(text, sizeof text, "%%0 = input f32[64, 64] \"x\" slot 0\n");
  for (int i = 1; i <= 40; i++)
    n += snprintf(text + n, sizeof text - (size_t)n,
                  "%%%d = comp f32[64, 64] for i0 64, i1 64 sum i2 64: (mul %%%d[i0, i2] %%%d[i2, i1])\n", i, i - 1,
                  i - 1);
  snprintf(text + n, sizeof text - (size_t)n, "return (%%40)\n");
  PlanRun r = planned(text);
  cr_expect_leq(r.stats.arena_bytes, 2 * 64 * 64 * 4, "%s", r.fuse);
  run_free(&r);
}

Test(codegen_plans, equal_kernels_compile_once) {
  CodegenOptions o = {.threads = 1, .interpret_below = -1};
  Codegen *c = codegen_new(&o);
  for (int i = 0; i < 50; i++) {
    Prog p;
    char *error = NULL;
    Fault f;
    cr_assert(prog_make(&p, SOFTMAX, true, &error));
    Plan *plan = codegen_plan(c, p.g, &p.r, &f);
    cr_assert(plan);
    plan_free(plan);
    prog_free(&p);
  }
  cr_expect_eq(codegen_stats(c).kernels_compiled, 1);
  cr_expect_eq(codegen_stats(c).kernels_from_memory, 49);
  codegen_free(c);
}

Test(codegen_plans, index_fault) {
  Prog p;
  char *error = NULL;
  cr_assert(prog_make(&p, GATHER, true, &error));
  for (int mode = 0; mode < 2; mode++) {
    dt_put_i(DT_I64, p.in[1].data, 4, mode ? 7 : -3);
    for (int threads = 1; threads <= 3; threads += 2) {
      PlanRun r = prog_plan(&p, threads, mode ? -1 : INFINITY, 1);
      cr_expect(!r.ok && r.fault.id == R_INDEX);
      cr_expect(strstr(r.fault.msg, mode ? "index 7 " : "index -3 ") && strstr(r.fault.msg, "size 7"), "%s",
                r.fault.msg);
      run_free(&r);
    }
  }
  prog_free(&p);
}

/* A branch not taken and a loop without steps read nothing out of range. */
Test(codegen_plans, no_fault_where_nothing_runs) {
  static const char text[] =
      "%0 = input f32[7] \"t\" slot 0\n%1 = input i64[1] \"k\" slot 1\n%2 = input i64[] \"n\" slot 2\n"
      "%3 = comp bool[] for: (gt %2[] 0)\n"
      "%4 = comp f32[3] for i0 3: (exp %0![(add %1[0] i0)])\n"
      "%5 = comp f32[3] for i0 3: 1:f32\n"
      "%6 = cond %3 then (%4) effects () else (%5) effects ()\n%7 = get f32[3] %6 0\n"
      "%8 = param f32[3] \"s\"\n"
      "%9 = comp f32[3] for i0 3: (tanh %0![(add %1[0] i0)])\n"
      "%10 = comp f32[3] for i0 3: (add %8[i0] %9[i0])\n"
      "%11 = loop states (%8 = %7) trip 5 upto %2 next (%10) stack () effects ()\n%12 = get f32[3] %11 0\n"
      "return (%12)\n";
  Prog p;
  char *error = NULL;
  cr_assert(prog_make(&p, text, true, &error), "%s", error);
  for (int mode = 0; mode < 2; mode++)
    for (int n = 0; n < 2; n++) {
      dt_put_i(DT_I64, p.in[1].data, 0, 6);
      dt_put_i(DT_I64, p.in[2].data, 0, n);
      PlanRun r = prog_plan(&p, 1, mode ? -1 : INFINITY, 1);
      cr_expect_eq(r.ok, n == 0, "%s", r.fault.msg);
      if (!r.ok) cr_expect_eq(r.fault.id, R_INDEX);
      run_free(&r);
    }
  prog_free(&p);
}

Test(codegen_plans, division_fault) {
  static const char text[] =
      "%0 = input i64[40] \"x\" slot 0\n%1 = comp i64[40] for i0 40: (floordiv 7 %0[i0])\nreturn (%1)\n";
  Prog p;
  char *error = NULL;
  cr_assert(prog_make(&p, text, true, &error), "%s", error);
  for (int mode = 0; mode < 2; mode++) {
    PlanRun r = prog_plan(&p, 1, mode ? -1 : INFINITY, 1); /* inputs 0..6 hold zeros */
    cr_expect(!r.ok && r.fault.id == R_DIVZERO);
    run_free(&r);
  }
  for (int i = 0; i < 40; i++) dt_put_i(DT_I64, p.in[0].data, i, i % 2 ? -2 : 2);
  PlanRun r = prog_plan(&p, 1, -1, 1);
  cr_assert(r.ok);
  cr_expect_eq(dt_get_i(DT_I64, r.out[0].data, 1), -4);
  run_free(&r);
  prog_free(&p);
}

Test(codegen_plans, interrupt) {
  volatile int flag = 1;
  CodegenOptions o = {.threads = 2, .interrupt = &flag};
  Codegen *c = codegen_new(&o);
  Prog p;
  char *error = NULL;
  Fault f;
  Tensor out[4];
  cr_assert(prog_make(&p, RNN, true, &error));
  Plan *plan = codegen_plan(c, p.g, &p.r, &f);
  cr_assert(plan);
  cr_expect(!plan_run(plan, p.nin, p.in, out, NULL, &f) && f.id == R_INTERRUPT);
  flag = 0;
  cr_expect(plan_run(plan, p.nin, p.in, out, NULL, &f));
  for (int k = 0; k < 4; k++) tensor_drop(&out[k]);
  plan_free(plan);
  codegen_free(c);
  prog_free(&p);
}
