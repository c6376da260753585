/* Faults in compiled code: which index, of which size, at which site; and that nothing outside is read. */
#include "cpu_support.h"
#include <criterion/criterion.h>
#include <sys/mman.h>
#include <unistd.h>

static KFault run(const char *text, int64_t at, int64_t value, int which) {
  Prog p;
  char *error;
  cr_assert(prog_make(&p, text, false, &error), "%s: %s", text, error);
  for (int i = 0; i < p.nin; i++)
    for (int64_t e = 0; e < tensor_count(&p.in[i]) && !dt_is_float(p.in[i].dtype); e++)
      dt_put_i(p.in[i].dtype, p.in[i].data, e, e % 3 + 1);
  if (at >= 0) dt_put_i(p.in[which].dtype, p.in[which].data, at, value);
  Jit *j = jit_new(NULL);
  OneKernel o;
  one_kernel(&o, p.a, p.r.out[0], ORD_CHAIN);
  cr_assert(one_compile(&o, j, p.g), "%s", o.why);
  void *ptr[17];
  Tensor out;
  Node *n = p.r.out[0];
  tensor_alloc(&out, (DType)n->dtype, n->rank, n->dim);
  for (int b = 0; b + 1 < o.k.narg; b++) ptr[b] = p.in[o.k.buf[b].node->slot].data;
  ptr[o.k.narg - 1] = out.data;
  KFault f = one_run(&o, ptr, 1);
  tensor_drop(&out);
  o.code.drop(&o.code);
  jit_free(j);
  prog_free(&p);
  return f;
}
#define GATHER                                                                                                         \
  "%0 = input f32[9, 5] \"t\" slot 0\n%1 = input i64[40] \"k\" slot 1\n%2 = comp f32[40, 5] for i0 40, i1 5: "         \
  "%0![%1[i0], i1]\nreturn (%2)\n"
#define LANES                                                                                                          \
  "%0 = input f32[9] \"t\" slot 0\n%1 = input i64[40] \"k\" slot 1\n%2 = comp f32[40] for i0 40: %0![%1[i0]]\nreturn " \
  "(%2)\n"
#define MASKED                                                                                                         \
  "%0 = input f32[9] \"t\" slot 0\n%1 = input i64[40] \"k\" slot 1\n%2 = comp f32[40] for i0 40: %0![%1[i0]]?(lt "     \
  "%1[i0] 9)\nreturn (%2)\n"
#define DIVIDE                                                                                                         \
  "%0 = input i32[40] \"x\" slot 0\n%1 = input i32[40] \"y\" slot 1\n%2 = comp i32[40] for i0 40: (floordiv %0[i0] "   \
  "%1[i0])\nreturn (%2)\n"

Test(cpu_fault, index) {
  static const int64_t bad[] = {9, -1, INT64_MAX, INT64_MIN, 1000000};
  const char *text[] = {GATHER, LANES};
  for (int t = 0; t < 2; t++) {
    cr_expect_eq(run(text[t], -1, 0, 0).kind, KF_NONE);
    for (int i = 0; i < 5; i++)
      for (int at = 3; at < 40; at += 18) { /* whole vectors and the tail */
        KFault f = run(text[t], at, bad[i], 1);
        cr_expect(f.kind == KF_INDEX && f.index == bad[i] && f.size == 9 && f.site == 0, "kind %d index %lld size %lld",
                  f.kind, (long long)f.index, (long long)f.size);
      }
  }
}
Test(cpu_fault, masked_off_is_none) { cr_expect_eq(run(MASKED, 5, 77, 1).kind, KF_NONE); }
Test(cpu_fault, masked_on) { cr_expect_eq(run(MASKED, 5, -7, 1).index, -7); }
Test(cpu_fault, zero_divisor) {
  cr_expect_eq(run(DIVIDE, -1, 0, 0).kind, KF_NONE);
  for (int at = 0; at < 40; at += 13) cr_expect_eq(run(DIVIDE, at, 0, 1).kind, KF_DIVZERO);
}

/* A tensor that ends where its page ends, the next being forbidden. */
static void at_the_edge(const char *text) {
  Prog p;
  char *error;
  cr_assert(prog_make(&p, text, false, &error), "%s: %s", text, error);
  Jit *j = jit_new(NULL);
  OneKernel o;
  one_kernel(&o, p.a, p.r.out[0], ORD_CHAIN);
  cr_assert(one_compile(&o, j, p.g), "%s", o.why);
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  void *ptr[17];
  for (int b = 0; b < o.k.narg; b++) {
    const KBuf *kb = &o.k.buf[b];
    size_t n = (size_t)nd_size(kb->node) * (size_t)dt_bytes((DType)kb->dtype), all = (n + page - 1) / page * page;
    char *m = mmap(NULL, all + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(m, page, PROT_NONE);
    mprotect(m + page + all, page, PROT_NONE);
    ptr[b] = m + page + (b % 2 ? 0 : all - n); /* odd ones begin at the edge */
  }
  cr_expect_eq(one_run(&o, ptr, 1).kind, KF_NONE);
  o.code.drop(&o.code);
  jit_free(j);
  prog_free(&p);
}
Test(cpu_fault, nothing_outside_is_touched) {
  static const int n[] = {1, 3, 16, 17, 33};
  for (int i = 0; i < 5; i++) {
    char text[500];
    snprintf(text, sizeof text,
             "%%0 = input f32[%d, 7] \"x\" slot 0\n%%1 = comp f32[7, %d] for i0 7, i1 %d: %%0[i1, i0]\nreturn (%%1)\n",
             n[i], n[i], n[i]);
    at_the_edge(text);
    snprintf(
        text, sizeof text,
        "%%0 = input f32[%d, 11] \"x\" slot 0\n%%1 = comp f32[%d] for i0 %d sum i1 11: %%0[i0, i1]\nreturn (%%1)\n",
        n[i], n[i], n[i]);
    at_the_edge(text);
    for (int step = 2; step < 6; step++) {
      snprintf(text, sizeof text,
               "%%0 = input u8[%d] \"x\" slot 0\n%%1 = comp u8[%d] for i0 %d: %%0[(%d*i0)]\nreturn (%%1)\n",
               (n[i] - 1) * step + 1, n[i], n[i], step);
      at_the_edge(text);
    }
    snprintf(text, sizeof text,
             "%%0 = input f64[%d] \"x\" slot 0\n%%1 = comp f64[%d] for i0 %d: %%0[(%d - i0)]\nreturn (%%1)\n", n[i],
             n[i], n[i], n[i] - 1);
    at_the_edge(text);
    snprintf(text, sizeof text,
             "%%0 = input i16[%d] \"x\" slot 0\n%%1 = comp i16[%d] for i0 %d: %%0[(i0 - 2)]?(ge i0 2)\nreturn (%%1)\n",
             n[i], n[i] + 2, n[i] + 2);
    at_the_edge(text);
  }
}
