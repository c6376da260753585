/* What the prelude of CUDA sources (codegen/cuda/prelude.c) leaves to CUDA, said in C: a kernel's text behind this
 * compiles into a library that runs on the host. The threads of a block are fibers of the fake driver, which fills in
 * tg_shim. */
#include "twin.h"
TgShim *tg_shim;

/* gcc -fsanitize=thread calls these at every access to memory; the run time that it expects is not linked. */
#ifdef __SANITIZE_THREAD__
#define TG_UNSEEN __attribute__((no_sanitize_thread, noinline))
#define TG_TOUCH(n)                                                                                                    \
  TG_UNSEEN void __tsan_read##n(void *at) { tg_shim->touch(at, n, 0); }                                                \
  TG_UNSEEN void __tsan_write##n(void *at) { tg_shim->touch(at, n, 1); }                                               \
  TG_UNSEEN void __tsan_volatile_read##n(void *at) { tg_shim->touch(at, n, 0); }                                       \
  TG_UNSEEN void __tsan_volatile_write##n(void *at) { tg_shim->touch(at, n, 1); }
TG_TOUCH(1)
TG_TOUCH(2)
TG_TOUCH(4)
TG_TOUCH(8)
TG_TOUCH(16)
TG_UNSEEN void __tsan_init(void) {}
TG_UNSEEN void __tsan_func_entry(void *from) {}
TG_UNSEEN void __tsan_func_exit(void) {}
#else
#define TG_UNSEEN
#endif

#define threadIdx (tg_shim->thread)
#define blockIdx (tg_shim->block)
#define __syncthreads() tg_shim->sync(__LINE__)
#define __shared__ static
#define __device__
#define __align__(n) __attribute__((aligned(n)))
#define __noinline__ TG_UNSEEN
#define TG_FN static
#define TG_KERNEL(name, threads) void name(const TgArgs *A_)
#define TG_TILES TG_KERNEL
#define A (*A_)
#define tg_down(x, by) (*(__typeof__(x) *)tg_shim->down(&(__typeof__(x)){x}, sizeof(x), by))
#define tg_to_f16(x) tg_shim->to_f16(x)
#define tg_of_f16(x) tg_shim->of_f16(x)
#define tg_ballot(x) tg_shim->ballot(x)
#define tg_mma_f16(d, a, b) tg_shim->mma(d, a, b, TG_MMA_F16)
#define tg_mma_bf16(d, a, b) tg_shim->mma(d, a, b, TG_MMA_BF16)
#define tg_mma_tf32(d, a, b) tg_shim->mma(d, a, b, TG_MMA_TF32)
#define tg_copy4(to, from, live) tg_shim->copy(to, from, 4, live)
#define tg_copy8(to, from, live) tg_shim->copy(to, from, 8, live)
#define tg_copy16(to, from, live) tg_shim->copy(to, from, 16, live)
#define tg_copy_wait() tg_shim->copy_wait()
#define __threadfence() ((void)0)

static int tg_bits_f(float x) {
  union {
    float f;
    int i;
  } u;
  u.f = x;
  return u.i;
}
static long long tg_bits_d(double x) {
  union {
    double f;
    long long i;
  } u;
  u.f = x;
  return u.i;
}
static float tg_float_f(int x) {
  union {
    float f;
    int i;
  } u;
  u.i = x;
  return u.f;
}
static double tg_float_d(long long x) {
  union {
    double f;
    long long i;
  } u;
  u.i = x;
  return u.f;
}
static unsigned tg_tf32(unsigned x) { return (x & 0x7f800000u) == 0x7f800000u ? x : (x + 0x1000u) & 0xffffe000u; }
static int tg_lowest(unsigned x) {
  int n = 0;
  for (; !(x & 1); x >>= 1) n++;
  return n;
}
/* Of tg_fault alone, whose record lies behind the scratch: unseen, as tg_fault is. */
TG_UNSEEN static int atomicCAS(int *p, int old, int by) {
  int v = *p;
  if (v == old) *p = by;
  return v;
}
TG_UNSEEN static int atomicExch(int *p, int by) {
  int v = *p;
  *p = by;
  return v;
}

float fmaf(float, float, float), fmodf(float, float), floorf(float), ceilf(float), rintf(float), fabsf(float),
    sqrtf(float), copysignf(float, float);
double fma(double, double, double), fmod(double, double), floor(double), ceil(double), rint(double), fabs(double),
    sqrt(double), copysign(double, double), sin(double), cos(double), tan(double);
