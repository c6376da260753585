/* Random programs: plans against the oracle, compiled against walked, one thread against several. */
#include "codegen_random.h"
#include <criterion/criterion.h>

static void compare(uint64_t seed, bool compile) {
  Prog p;
  gen_prog(&p, seed);
  Tensor ref[16];
  Fault f = {0};
  EvalOptions o = {0};
  cr_assert(graph_eval(p.g, &p.r, p.nin, p.in, ref, &o, &f), "seed %llu: %s", (unsigned long long)seed, f.msg);
  PlanRun walked = prog_plan(&p, 1, INFINITY, 2);
  cr_assert(walked.ok, "seed %llu: %s", (unsigned long long)seed, walked.fault.msg);
  for (int k = 0; k < p.r.nout; k++) {
    double diff = tensor_diff(&walked.out[k], &ref[k]), limit = ref[k].dtype == DT_F64 ? 1e-11 : 2e-4;
    cr_expect_leq(diff, limit, "seed %llu output %d: %g off", (unsigned long long)seed, k, diff);
  }
  for (int threads = 1; compile && threads <= 3; threads += 2) {
    PlanRun run = prog_plan(&p, threads, -1, 2);
    cr_assert(run.ok, "seed %llu: %s", (unsigned long long)seed, run.fault.msg);
    for (int k = 0; k < p.r.nout; k++)
      cr_expect(tensor_same(&run.out[k], &walked.out[k]), "seed %llu output %d on %d threads: %g off",
                (unsigned long long)seed, k, threads, tensor_diff(&run.out[k], &walked.out[k]));
    run_free(&run);
  }
  run_free(&walked);
  for (int k = 0; k < p.r.nout; k++) tensor_drop(&ref[k]);
  prog_free(&p);
}

Test(codegen_random, walked) {
  for (uint64_t seed = 0; seed < 600; seed++) compare(seed, false);
}

Test(codegen_random, compiled) {
  for (uint64_t seed = 1000; seed < 1100; seed++) compare(seed, true);
}
