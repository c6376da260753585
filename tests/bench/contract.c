/* Speed of contractions beside OpenBLAS and the machine's measured multiply-add peak; 2 threads by default.
 *
 *   bench_contract [threads [filter]]        BENCH_BEST=1: least times instead of medians, with one
 *                                          thread its processor time: for a busy machine
 *
 * Products: medians of rounds of tg's kernel and of cblas in turn. Convolutions: GFLOP/s as a share of the peak, which
 * is the best rate of a loop of independent fused multiply-adds on the same threads. */
#include "codegen/rt/pool.h"
#include "tests/unit/mma_forms.h"
#include <cblas.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

void openblas_set_num_threads(int n);

static clockid_t clock_id = CLOCK_MONOTONIC;
static double seconds(void) {
  struct timespec t;
  clock_gettime(clock_id, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
typedef struct Run {
  const Code *code;
  void **ptr;
  char *scratch;
  size_t lane;
  void *shared;
  RtPool *pool;
} Run;
static void lane_fn(void *ctx, int lane, int nlane) {
  Run *r = ctx;
  KFault f = {0};
  for (int p = 0; p < r->code->nphase; p++) {
    const Phase *ph = &r->code->phase[p];
    if (p) rt_pool_barrier(r->pool, nlane);
    KernelArgs a = {r->ptr,
                    rt_lane_lo(ph->units, lane, nlane),
                    rt_lane_lo(ph->units, lane + 1, nlane),
                    r->scratch + r->lane * (size_t)lane,
                    r->shared,
                    &f,
                    ph->ctx};
    if (a.lo < a.hi) ph->fn(&a);
  }
}

/* Peak: a micro-kernel whose panels stay in L1. */
typedef struct Peak {
  GemmUkr ukr;
  int mr, nr;
  int64_t reps;
} Peak;
enum { PEAK_K = 128 };
static void peak_lane(void *ctx, int lane, int nlane) {
  Peak *p = ctx;
  float *a = aligned_alloc(64, sizeof(float) * PEAK_K * 16), *b = aligned_alloc(64, sizeof(float) * PEAK_K * 32);
  float *c = aligned_alloc(64, sizeof(float) * 16 * 32);
  for (int i = 0; i < PEAK_K * 16; i++) a[i] = 1;
  for (int i = 0; i < PEAK_K * 32; i++) b[i] = 1;
  for (int64_t i = 0; i < p->reps; i++) p->ukr(PEAK_K, a, b, p->nr, c, 32, p->mr, p->nr, 0, NULL);
  free(a), free(b), free(c);
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}
static double median(double *t, int n) {
  if (!n) return 0;
  qsort(t, (size_t)n, sizeof *t, by_value);
  return t[n / 2];
}

static double least(double *t, int n) {
  median(t, n);
  return n ? t[0] : 0;
}

typedef struct Bench {
  bool best;
  Jit *jit;
  RtPool *pool;
  int threads;
  double peak;
  const char *filter;
} Bench;

typedef struct Blas {
  bool on, f64, ta, tb;
  int64_t m, n, k;
} Blas;
static void blas(const Blas *b, const MmaCase *c, void *out) {
  CBLAS_TRANSPOSE ta = b->ta ? CblasTrans : CblasNoTrans, tb = b->tb ? CblasTrans : CblasNoTrans;
  int m = (int)b->m, n = (int)b->n, k = (int)b->k, lda = b->ta ? m : k, ldb = b->tb ? k : n;
  if (b->f64)
    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, 1, c->t[0].data, lda, c->t[1].data, ldb, 0, out, n);
  else
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, 1, c->t[0].data, lda, c->t[1].data, ldb, 0, out, n);
}

/* One kernel with its memory and times. */
enum { MAX = 400, ROUNDS = 5 };
typedef struct Side {
  Code code;
  Run run;
  Tensor out;
  void *ptr[16];
  double t[MAX], compile;
  int n;
} Side;
static bool side_open(Bench *B, const char *name, MmaCase *c, Node *n, Side *s) {
  bool disk, declined;
  const char *why = "";
  double t0 = seconds();
  Kernel *k = mma_kernel_of(c, n);
  memset(s, 0, sizeof *s);
  if (!mma_compile(B->jit, c->g, k, kernel_print(k, c->arena), &s->code, &disk, &declined, &why)) {
    printf("%-28s %s %s\n", name, declined ? "declined" : "failed", why);
    return false;
  }
  s->compile = seconds() - t0;
  if (!tensor_alloc(&s->out, n->dtype, n->rank, n->dim)) abort();
  memset(s->out.data, 0, tensor_bytes(&s->out));
  for (int i = 0; i < c->nin; i++) s->ptr[i] = c->t[i].data;
  s->ptr[c->nin] = s->out.data;
  size_t lane = (s->code.lane_bytes + 4095) & ~(size_t)4095;
  s->run = (Run){&s->code,
                 s->ptr,
                 aligned_alloc(4096, lane * (size_t)B->threads),
                 lane,
                 aligned_alloc(64, (s->code.shared_bytes + 64) & ~(size_t)63),
                 B->pool};
  return true;
}
static void side_close(Side *s) {
  free(s->run.scratch);
  free(s->run.shared);
  tensor_drop(&s->out);
  s->code.drop(&s->code);
}
/* A round of runs, the first of which wakes the workers and does not count. */
static void side_round(const Bench *B, Side *s) {
  double begin = seconds();
  for (int i = 0; i < MAX / ROUNDS && s->n < MAX && (i < 3 || seconds() - begin < 0.08); i++) {
    double a = seconds();
    rt_pool_run(B->pool, lane_fn, &s->run);
    if (i) s->t[s->n++] = seconds() - a;
  }
}
static double flops(const Node *n) {
  Contract con;
  contract_find_node(n, &con);
  return 2.0 * (double)con.nB * (double)con.nM * (double)con.nN * (double)con.nK;
}

static void bench(Bench *B, const char *name, MmaCase *c, Node *n, Blas ref) {
  Side s;
  if ((B->filter && !strstr(name, B->filter)) || !side_open(B, name, c, n, &s)) {
    mma_case_free(c);
    return;
  }
  double flop = flops(n), theirs[MAX];
  Tensor other;
  if (!tensor_alloc(&other, n->dtype, n->rank, n->dim)) abort();
  memset(other.data, 0, tensor_bytes(&other));
  /* In rounds, with a pause before each side: idle workers of the other library spin for a while. */
  int others = 0;
  for (int round = 0; round < ROUNDS; round++) {
    if (ref.on) usleep(60000);
    side_round(B, &s);
    if (!ref.on) continue;
    usleep(60000);
    double begin = seconds();
    for (int i = 0; i < MAX / ROUNDS && (i < 3 || seconds() - begin < 0.08); i++) {
      double a = seconds();
      blas(&ref, c, other.data);
      if (i) theirs[others++] = seconds() - a;
    }
  }
  double t = B->best ? least(s.t, s.n) : median(s.t, s.n), u = B->best ? least(theirs, others) : median(theirs, others);
  printf("%-28s %9.3f ms %7.1f GFLOP/s %5.2f of peak", name, t * 1e3, flop / t * 1e-9,
         flop / t / B->peak / (n->dtype == DT_F64 ? 0.5 : 1));
  if (ref.on) printf("  OpenBLAS %9.3f ms, ratio %.2f", u * 1e3, u / t);
  printf("  (compile %.1f ms)\n", s.compile * 1e3);
  fflush(stdout);
  tensor_drop(&other);
  side_close(&s);
  mma_case_free(c);
}

/* What it costs that a gradient is summed in shards of the batch, in chunks of `chunk` steps: beside the same product
 * in one chain, run in turn. */
static void bench_cut(Bench *B, const char *name, MmaCase *c, Node *n, int64_t chunk) {
  Side plain, cut;
  if (B->filter && !strstr(name, B->filter)) {
    mma_case_free(c);
    return;
  }
  if (side_open(B, name, c, n, &plain)) {
    if (side_open(B, name, c, form_cut(c, n, chunk), &cut)) {
      for (int round = 0; round < ROUNDS * 4; round++) {
        side_round(B, &plain);
        side_round(B, &cut);
      }
      double t = B->best ? least(plain.t, plain.n) : median(plain.t, plain.n);
      double u = B->best ? least(cut.t, cut.n) : median(cut.t, cut.n);
      printf("%-28s %9.3f ms %7.1f GFLOP/s %5.2f of peak  in chunks of %lld %9.3f ms, ratio %.2f\n", name, t * 1e3,
             flops(n) / t * 1e-9, flops(n) / t / B->peak, (long long)chunk, u * 1e3, u / t);
      fflush(stdout);
      side_close(&cut);
    }
    side_close(&plain);
  }
  mma_case_free(c);
}
static void gradient(Bench *B, int64_t m, int64_t n, int64_t batch, int64_t steps) {
  char name[64];
  snprintf(name, sizeof name, "dW %lldx%lld batch %lldx%lld", (long long)m, (long long)n, (long long)batch,
           (long long)steps);
  if (B->filter && !strstr(name, B->filter)) return;
  MmaCase c = mma_case();
  bench_cut(B, name, &c, form_matmul(&c, DT_F32, m, n, batch * steps, true, false), (batch + 7) / 8 * steps);
}
static void conv_gradient(Bench *B, const char *name, ConvShape q) {
  if (B->filter && !strstr(name, B->filter)) return;
  MmaCase c = mma_case();
  Node *n = form_conv_dw(&c, DT_F32, &q);
  int64_t shard = (q.n + 7) / 8, row = n->comp.extent[5] * n->comp.extent[6];
  while (shard * row > 4096 && shard % 2 == 0) shard /= 2;
  bench_cut(B, name, &c, n, shard * row);
}

static void product(Bench *B, DType t, int64_t m, int64_t n, int64_t k, bool ta, bool tb) {
  char name[64];
  snprintf(name, sizeof name, "%s %lldx%lldx%lld%s%s", dt_name(t), (long long)m, (long long)n, (long long)k,
           ta ? " a.t" : "", tb ? " b.t" : "");
  if (B->filter && !strstr(name, B->filter)) return;
  MmaCase c = mma_case();
  bench(B, name, &c, form_matmul(&c, t, m, n, k, ta, tb), (Blas){true, t == DT_F64, ta, tb, m, n, k});
}
static void conv(Bench *B, const char *name, int form, ConvShape q) {
  if (B->filter && !strstr(name, B->filter)) return;
  MmaCase c = mma_case();
  Node *n = form == 0   ? form_conv(&c, DT_F32, &q)
            : form == 1 ? form_conv_dw(&c, DT_F32, &q)
                        : form_conv_dx(&c, DT_F32, &q);
  bench(B, name, &c, n, (Blas){0});
}

int main(int argc, char **argv) {
  Bench B = {.threads = argc > 1 ? atoi(argv[1]) : 2, .filter = argc > 2 ? argv[2] : NULL};
  B.best = getenv("BENCH_BEST") != NULL;
  if (B.best && B.threads == 1) clock_id = CLOCK_THREAD_CPUTIME_ID;
  B.jit = jit_new(NULL);
  B.pool = rt_pool_new(B.threads);
  openblas_set_num_threads(B.threads);
  const char *why = "";
  LLVMModuleRef m = jit_module(B.jit, &why);
  if (!m) return printf("%s\n", why), 1;
  Peak p = {.reps = 4000};
  int nv;
  ukr_tile(DT_F32, jit_isa(B.jit)->vector_bits / 8, 4096, 4096, false, &p.mr, &nv);
  p.nr = nv * ukr_lanes(DT_F32);
  ukr_build(m, &(UkrSpec){DT_F32, false, p.mr, nv, false, false}, "peak");
  JitCode *pc = jit_add(B.jit, "peak", m, &(JitOptions){.passes = "", .level = 2}, &why);
  if (!pc) return printf("%s\n", why), 1;
  p.ukr = (GemmUkr)(uintptr_t)jit_symbol(pc, "peak");
  for (int i = 0; i < 20; i++) {
    double a = seconds();
    rt_pool_run(B.pool, peak_lane, &p);
    double rate = 2.0 * p.mr * p.nr * PEAK_K * (double)p.reps * B.threads / (seconds() - a);
    if (rate > B.peak) B.peak = rate;
  }
  printf("threads %d, multiply-add peak %.1f GFLOP/s (f32)\n", B.threads, B.peak * 1e-9);
  static const int64_t square[] = {32, 64, 100, 256, 512, 1024, 2048};
  for (int i = 0; i < 7; i++) product(&B, DT_F32, square[i], square[i], square[i], false, false);
  product(&B, DT_F32, 512, 512, 512, true, false);
  product(&B, DT_F32, 512, 512, 512, false, true);
  product(&B, DT_F64, 512, 512, 512, false, false);
  product(&B, DT_F32, 64, 512, 784, false, false);
  product(&B, DT_F32, 32, 1024, 256, false, false); /* an LSTM's step and its adjoint */
  product(&B, DT_F32, 32, 256, 1024, false, true);
  product(&B, DT_F32, 512, 784, 64, true, false);
  product(&B, DT_F32, 60000, 10, 784, false, false);
  product(&B, DT_F32, 784, 10, 60000, true, false);
  product(&B, DT_F32, 1, 4096, 4096, false, false);
  product(&B, DT_F32, 1, 4096, 4096, false, true);
  product(&B, DT_F32, 8, 4096, 4096, false, false);
  product(&B, DT_F32, 8, 4096, 4096, false, true);
  ConvShape q = {8, 64, 64, 58, 58, 3, 3, 1, 0};
  conv(&B, "conv 64->64 3x3 56x56 b8", 0, q);
  conv(&B, "conv dW", 1, q);
  conv(&B, "conv dX (masked)", 2, q);
  conv(&B, "conv padded", 0, (ConvShape){8, 64, 64, 56, 56, 3, 3, 1, 1});
  conv(&B, "conv stride 2", 0, (ConvShape){8, 64, 64, 58, 58, 3, 3, 2, 0});
  conv(&B, "conv 1x1", 0, (ConvShape){8, 64, 64, 56, 56, 1, 1, 1, 0});
  conv(&B, "conv 1->32 3x3 28x28 b64", 0, (ConvShape){64, 1, 32, 28, 28, 3, 3, 1, 0});
  conv(&B, "conv 32->64 3x3 13x13 b64", 0, (ConvShape){64, 32, 64, 13, 13, 3, 3, 1, 0});
  conv(&B, "conv 256->256 3x3 7x7 b16", 0, (ConvShape){16, 256, 256, 9, 9, 3, 3, 1, 0});
  gradient(&B, 784, 256, 64, 1);
  gradient(&B, 784, 512, 64, 1);
  gradient(&B, 512, 256, 64, 1);
  gradient(&B, 256, 10, 64, 1);
  gradient(&B, 784, 512, 256, 1);
  gradient(&B, 784, 512, 20, 1);
  gradient(&B, 128, 384, 16, 128);
  gradient(&B, 256, 1024, 32, 64);
  conv_gradient(&B, "conv dW 1->32 28x28 b64", (ConvShape){64, 1, 32, 28, 28, 3, 3, 1, 0});
  conv_gradient(&B, "conv dW 32->64 13x13 b64", (ConvShape){64, 32, 64, 13, 13, 3, 3, 1, 0});
  conv_gradient(&B, "conv dW 64->64 58x58 b8", (ConvShape){8, 64, 64, 58, 58, 3, 3, 1, 0});
  conv_gradient(&B, "conv dW 256->256 9x9 b16", (ConvShape){16, 256, 256, 9, 9, 3, 3, 1, 0});
  jit_drop(pc);
  rt_pool_free(B.pool);
  jit_free(B.jit);
  return 0;
}
