/* What the prelude of CUDA sources (codegen/cuda/prelude.c) leaves to CUDA, said in C: a kernel's text behind this compiles into a
 * library that runs on the host. The threads of a block are fibers of the fake driver, which fills in tg_shim. */
typedef struct TgDim { unsigned x, y, z; } TgDim;
typedef struct TgShim {
  TgDim thread, block;
  void (*sync)(int line);
  void *(*down)(const void *x, int size, int by);
  void (*mma)(float *d, const unsigned *a, const unsigned *b, int bf16);
  unsigned short (*to_f16)(float x);
  float (*of_f16)(unsigned short x);
} TgShim;
TgShim *tg_shim;

#define threadIdx (tg_shim->thread)
#define blockIdx (tg_shim->block)
#define __syncthreads() tg_shim->sync(__LINE__)
#define __shared__ static
#define __device__
#define __align__(n) __attribute__((aligned(n)))
#define __noinline__
#define TG_FN static
#define TG_KERNEL(name, threads) void name(const TgArgs *A_)
#define A (*A_)
#define tg_down(x, by) (*(__typeof__(x) *)tg_shim->down(&(__typeof__(x)){x}, sizeof(x), by))
#define tg_to_f16(x) tg_shim->to_f16(x)
#define tg_of_f16(x) tg_shim->of_f16(x)
#define tg_mma_f16(d, a, b) tg_shim->mma(d, a, b, 0)
#define tg_mma_bf16(d, a, b) tg_shim->mma(d, a, b, 1)
#define __threadfence() ((void)0)

static int tg_bits_f(float x) { union { float f; int i; } u; u.f = x; return u.i; }
static long long tg_bits_d(double x) { union { double f; long long i; } u; u.f = x; return u.i; }
static float tg_float_f(int x) { union { float f; int i; } u; u.i = x; return u.f; }
static double tg_float_d(long long x) { union { double f; long long i; } u; u.i = x; return u.f; }
static int atomicCAS(int *p, int old, int by) { int v = *p; if (v == old) *p = by; return v; }
static int atomicExch(int *p, int by) { int v = *p; *p = by; return v; }

float fmaf(float, float, float), fmodf(float, float), floorf(float), ceilf(float), rintf(float), fabsf(float), sqrtf(float), copysignf(float, float);
double fma(double, double, double), fmod(double, double), floor(double), ceil(double), rint(double), fabs(double), sqrt(double), copysign(double, double),
    sin(double), cos(double), tan(double);
