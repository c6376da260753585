/* Contractions compiled for this machine give exactly the contract's bits: every form, at sizes that expose tails. */
#include "tests/unit/mma_check.h"
#include <criterion/criterion.h>

static const int64_t sizes[] = {0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 100};
enum { NSIZE = sizeof sizes / sizeof *sizes };

Test(mma, matmul_sizes) {
  Tally t = {0};
  for (int i = 0; i < NSIZE; i++)
    for (int j = 0; j < NSIZE; j++) {
      int64_t M = sizes[i], N = sizes[j], K = sizes[(i * 5 + j * 7) % NSIZE];
      MmaCase c = mma_case();
      check(&c, form_matmul(&c, DT_F32, M, N, K, (i + j) & 1, (i ^ j) >> 1 & 1), &t,
            arena_printf(c.arena, "matmul %lld %lld %lld ta %d tb %d", (long long)M, (long long)N, (long long)K,
                         (i + j) & 1, (i ^ j) >> 1 & 1));
    }
  cr_assert_geq(t.ran, 60);
}

Test(mma, layouts_and_dtypes) {
  static const DType dt[] = {DT_F32, DT_F64, DT_I64, DT_I32, DT_U8, DT_F16, DT_BF16};
  Tally t = {0};
  for (int d = 0; d < 7; d++)
    for (int f = 0; f < 4; f++) {
      MmaCase c = mma_case();
      check(&c, form_matmul(&c, dt[d], 37, 45, 29, f & 1, f >> 1), &t,
            arena_printf(c.arena, "%s layout %d", dt_name(dt[d]), f));
    }
  cr_assert_eq(t.ran, 28);
}

Test(mma, long_k) { /* chunks of 4096 and their tree, blocks inside chunks */
  static const int64_t K[] = {4095, 4096, 4097, 8192, 12289, 20481};
  Tally t = {0};
  for (int i = 0; i < 6; i++)
    for (int f = 0; f < 4; f++) {
      MmaCase c = mma_case();
      check(&c, form_matmul(&c, f & 1 ? DT_F64 : DT_F32, 3, 5, K[i], f >> 1, f & 1), &t, "long k");
    }
  cr_assert_eq(t.ran, 24);
}

Test(mma, cut) { /* chunks of their own: joined by micro-kernels, in blocks of them, one by one, split over phases */
  static const int64_t q[][4] = {{784, 40, 64, 8},    {33, 70, 20, 3},     {14, 32, 7, 1},       {100, 100, 65, 9},
                                 {1, 50, 64, 8},      {5, 1000, 100, 13},  {30, 17, 600, 75},    {29, 65, 2048, 256},
                                 {20, 30, 5000, 700}, {3, 5, 20481, 1600}, {200, 1, 70, 9},      {64, 10, 64, 8},
                                 {40, 50, 9, 100},    {50, 33, 4097, 1},   {16, 16, 30000, 4090}};
  Tally t = {0};
  for (int i = 0; i < 15; i++)
    for (int f = 0; f < 4; f++) {
      MmaCase c = mma_case();
      Node *n = form_matmul(&c, (i + f) % 5 ? DT_F32 : DT_F64, q[i][0], q[i][1], q[i][2], f & 1, f >> 1);
      check(&c, form_cut(&c, n, q[i][3]), &t, arena_printf(c.arena, "cut %d, layout %d", i, f));
    }
  cr_assert_geq(t.ran, 56);
}

static void cut_for(const char *cpu, const char *features) { /* the tree's tiles on narrower machines */
  *jit_used() = jit_new_for(NULL, cpu, features);
  Tally t = {0};
  for (int f = 0; f < 8; f++) {
    MmaCase c = mma_case();
    Node *n = form_matmul(&c, f & 4 ? DT_F64 : DT_F32, f & 1 ? 3 : 30, 37, 45, f & 1, f >> 1 & 1);
    check(&c, form_cut(&c, n, 6), &t, arena_printf(c.arena, "cut for %s, form %d", cpu, f));
  }
  cr_assert_eq(t.ran, 8);
}
Test(mma, cut_avx2) {
  Jit *here = jit_new(NULL);
  bool runs = strstr(jit_isa(here)->features, "+avx2") && strstr(jit_isa(here)->features, "+fma");
  jit_free(here);
  if (runs) cut_for("haswell", "+avx,+avx2,+fma,+f16c,+bmi,+bmi2");
}
Test(mma, cut_sse2) { cut_for("x86-64", "+sse2"); }

Test(mma, cut_gradients) { /* of convolutions: chunks of whole images */
  static const ConvShape q[] = {{2, 3, 5, 9, 11, 3, 3, 1, 0},
                                {9, 1, 8, 8, 8, 3, 3, 1, 0},
                                {3, 4, 16, 17, 33, 3, 2, 2, 0},
                                {16, 8, 9, 5, 5, 3, 3, 1, 0}};
  Tally t = {0};
  for (int i = 0; i < 4; i++) {
    MmaCase c = mma_case();
    Node *n = form_conv_dw(&c, i == 2 ? DT_F64 : DT_F32, &q[i]);
    check(&c, form_cut(&c, n, (q[i].n + 7) / 8 * n->comp.extent[5] * n->comp.extent[6]), &t,
          arena_printf(c.arena, "cut convolution %d", i));
  }
  cr_assert_eq(t.ran, 4);
}

Test(mma, tall_and_narrow) { /* the vector side is M; long K is split over chunks */
  static const int64_t q[][3] = {{200, 1, 70},    {130, 10, 65}, {1000, 3, 100}, {100, 10, 9000},
                                 {20, 30, 13000}, {70, 2, 4097}, {64, 1, 8193}};
  Tally t = {0};
  for (int i = 0; i < 7; i++)
    for (int f = 0; f < 4; f++) {
      MmaCase c = mma_case();
      check(&c, form_matmul(&c, DT_F32, q[i][0], q[i][1], q[i][2], f & 1, f >> 1), &t,
            arena_printf(c.arena, "tall %d, layout %d", i, f));
    }
  cr_assert_eq(t.ran, 28);
}

Test(mma, vector_matrix) {
  Tally t = {0};
  for (int i = 0; i < NSIZE; i++)
    for (int f = 0; f < 2; f++) {
      MmaCase c = mma_case();
      check(&c, form_vecmat(&c, DT_F32, sizes[i], sizes[(i * 5 + 3) % NSIZE] * 7, f), &t, "vector times matrix");
    }
  cr_assert_geq(t.ran, 12);
}

Test(mma, batched) {
  Tally t = {0};
  for (int i = 1; i < NSIZE; i++)
    for (int f = 0; f < 2; f++) {
      MmaCase c = mma_case();
      check(&c, form_batched(&c, DT_F32, 3, sizes[i], sizes[NSIZE - i], sizes[(i * 3) % NSIZE], f), &t, "batched");
    }
  cr_assert_geq(t.ran, 16);
}

Test(mma, convolutions) {
  static const ConvShape q[] = {{2, 3, 5, 9, 11, 3, 3, 1, 0},    {2, 3, 5, 9, 11, 3, 3, 1, 1},
                                {1, 4, 16, 17, 33, 3, 2, 2, 0},  {3, 2, 7, 12, 12, 5, 5, 2, 2},
                                {2, 8, 9, 7, 7, 1, 1, 1, 0},     {1, 1, 33, 28, 28, 3, 3, 1, 0},
                                {2, 17, 15, 20, 20, 3, 3, 1, 1}, {1, 3, 4, 40, 40, 7, 7, 4, 3}};
  Tally t = {0};
  for (int i = 0; i < 8; i++)
    for (int f = 0; f < 3; f++) {
      MmaCase c = mma_case();
      DType d = i == 2 ? DT_F64 : DT_F32;
      if (f == 2 && q[i].stride > 1) continue;
      Node *n = f == 0 ? form_conv(&c, d, &q[i]) : f == 1 ? form_conv_dw(&c, d, &q[i]) : form_conv_dx(&c, d, &q[i]);
      check(&c, n, &t, arena_printf(c.arena, "convolution %d, form %d", i, f));
    }
  cr_assert_geq(t.ran, 20);
}

Test(mma, attention) {
  static const int64_t T[] = {1, 5, 16, 33};
  Tally t = {0};
  for (int i = 0; i < 4; i++)
    for (int f = 0; f < 2; f++) {
      MmaCase c = mma_case();
      check(&c, f ? form_scores(&c, DT_F32, 2, T[i], 3, 8) : form_attend(&c, DT_F32, 2, T[i], 3, 8), &t,
            f ? "scores" : "attend");
    }
  cr_assert_geq(t.ran, 6);
}
