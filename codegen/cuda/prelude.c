/* The text that every CUDA source begins with: types, conversions, integer operations, faults. The first part is what
 * CUDA alone can say (NVRTC defines __CUDACC__); tests/cuda_host/shim.h says the same in C. */
#include "codegen/cuda/emit.h"

/* clang-format off */
#define LINES(...) #__VA_ARGS__ "\n"
#define EXPANDED(...) LINES(__VA_ARGS__)

/* Rounded down; a zero divisor gives 0, its fault is recorded elsewhere. */
#define DIVISION(suffix, T, U) \
  TG_FN T tg_floordiv##suffix(T x, T y) { \
    if (y == 0) return 0; \
    if (y == -1) return (T)(0 - (U)x); \
    T q = x / y; \
    return q - (x - q * y != 0 && (x < 0) != (y < 0)); \
  } \
  TG_FN T tg_floormod##suffix(T x, T y) { \
    if (y == 0 || y == -1) return 0; \
    T r = x - x / y * y; \
    return r != 0 && (r < 0) != (y < 0) ? r + y : r; \
  }
#define REMAINDER(suffix, T, f) \
  TG_FN T tg_mod##suffix(T x, T y) { \
    T r = fmod##f(x, y); \
    if (r == 0) return copysign##f((T)0, y); \
    return (r < 0) != (y < 0) ? r + y : r; \
  }

const char cuda_prelude[] =
    "typedef unsigned char u8;\n"
    "typedef unsigned short u16;\n"
    "typedef unsigned int u32;\n"
    "typedef long long i64;\n"
    "typedef unsigned long long u64;\n"
    "#ifdef __CUDACC__\n"
    "#define TG_KERNEL(name, threads) extern \"C\" __global__ void __launch_bounds__(threads) name(const TgArgs A)\n"
    "/* One block a multiprocessor is enough: unless told so, ptxas spills to fit in as many as shared memory would allow */\n"
    "#define TG_TILES(name, threads) extern \"C\" __global__ void __launch_bounds__(threads, 1) name(const TgArgs A)\n"
    "#define TG_FN static __device__ __forceinline__\n"
    "#define tg_bits_f(x) __float_as_int(x)\n"
    "#define tg_bits_d(x) __double_as_longlong(x)\n"
    "#define tg_float_f(x) __int_as_float(x)\n"
    "#define tg_float_d(x) __longlong_as_double(x)\n"
    "#define tg_ballot(x) __ballot_sync(0xffffffffu, x)\n"
    "#define tg_lowest(x) (__ffs((int)(x)) - 1)\n"
    "#define tg_down(x, d) __shfl_down_sync(0xffffffffu, x, d)\n"
    "TG_FN u16 tg_to_f16(float x) { u16 r; asm(\"cvt.rn.f16.f32 %0, %1;\" : \"=h\"(r) : \"f\"(x)); return r; }\n"
    "TG_FN float tg_of_f16(u16 x) { float r; asm(\"cvt.f32.f16 %0, %1;\" : \"=f\"(r) : \"h\"(x)); return r; }\n"
    "/* D += A B of one warp: 16 x 8, K = 16 (f16, bf16). Fragments as PTX's m16n8k16 says */\n"
    "TG_FN void tg_mma_f16(float *d, const u32 *a, const u32 *b) {\n"
    "#if __CUDA_ARCH__ >= 800\n"
    "  asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\"\n"
    "    : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3]) : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[0]), \"r\"(b[1]));\n"
    "#else\n"
    "  asm volatile(\"mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};\"\n"
    "    : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3]) : \"r\"(a[0]), \"r\"(a[1]), \"r\"(b[0]));\n"
    "  asm volatile(\"mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};\"\n"
    "    : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3]) : \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[1]));\n"
    "#endif\n"
    "}\n"
    "#if __CUDA_ARCH__ >= 800\n"
    "TG_FN void tg_mma_bf16(float *d, const u32 *a, const u32 *b) {\n"
    "  asm volatile(\"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\"\n"
    "    : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3]) : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[0]), \"r\"(b[1]));\n"
    "}\n"
    "#else\n"
    "/* no such instruction: the lanes show each other their fragments. Not inlined: it is long */\n"
    "static __device__ __noinline__ void tg_mma_bf16(float *d, const u32 *a, const u32 *b) {\n"
    "  const int lane = threadIdx.x % 32;\n"
    "  for (int i = 0; i < 4; i++)\n"
    "    for (int k = 0; k < 16; k++) {\n"
    "      const u32 lo = __shfl_sync(0xffffffffu, i < 2 ? a[2 * (k / 8)] : a[1 + 2 * (k / 8)], lane / 4 * 4 + k % 8 / 2);\n"
    "      const u32 w = __shfl_sync(0xffffffffu, b[k / 8], (lane % 4 * 2 + i % 2) * 4 + k % 8 / 2);\n"
    "      d[i] = fmaf(__int_as_float((int)(k % 2 ? lo & 0xffff0000u : lo << 16)), __int_as_float((int)(k % 2 ? w & 0xffff0000u : w << 16)), d[i]);\n"
    "    }\n"
    "}\n"
    "#endif\n"
    "/* D += A B of one warp: 16 x 8, K = 8 (tf32) */\n"
    "#if __CUDA_ARCH__ >= 800\n"
    "TG_FN u32 tg_tf32(u32 x) { u32 r; asm(\"cvt.rna.tf32.f32 %0, %1;\" : \"=r\"(r) : \"f\"(__int_as_float((int)x))); return r; }\n"
    "TG_FN void tg_mma_tf32(float *d, const u32 *a, const u32 *b) {\n"
    "  asm volatile(\"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\"\n"
    "    : \"+f\"(d[0]), \"+f\"(d[1]), \"+f\"(d[2]), \"+f\"(d[3]) : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"r\"(b[0]), \"r\"(b[1]));\n"
    "}\n"
    "#else\n"
    "TG_FN u32 tg_tf32(u32 x) { return (x & 0x7f800000u) == 0x7f800000u ? x : (x + 0x1000u) & 0xffffe000u; }\n"
    "static __device__ __noinline__ void tg_mma_tf32(float *d, const u32 *a, const u32 *b) {\n"
    "  const int lane = threadIdx.x % 32;\n"
    "  for (int i = 0; i < 4; i++)\n"
    "    for (int k = 0; k < 8; k++) {\n"
    "      const u32 x = __shfl_sync(0xffffffffu, a[i / 2 + 2 * (k / 4)], lane / 4 * 4 + k % 4);\n"
    "      const u32 w = __shfl_sync(0xffffffffu, b[k / 4], (lane % 4 * 2 + i % 2) * 4 + k % 4);\n"
    "      d[i] = fmaf(__int_as_float((int)x), __int_as_float((int)w), d[i]);\n"
    "    }\n"
    "}\n"
    "#endif\n"
    "/* Copies to shared memory, zeros where not `live`; there after the thread's tg_copy_wait */\n"
    "#if __CUDA_ARCH__ >= 800\n"
    "#define TG_COPY(n, how) TG_FN void tg_copy##n(void *to, const void *from, int live) { asm volatile(\"cp.async.\" how \".shared.global [%0], [%1], \" #n \", %2;\" :: \"r\"((u32)__cvta_generic_to_shared(to)), \"l\"(from), \"r\"(live ? n : 0) : \"memory\"); }\n"
    "TG_COPY(4, \"ca\")\n"
    "TG_COPY(8, \"ca\")\n"
    "TG_COPY(16, \"cg\")\n"
    "TG_FN void tg_copy_wait() { asm volatile(\"cp.async.wait_all;\" ::: \"memory\"); }\n"
    "#else\n"
    "TG_FN void tg_copy4(void *to, const void *from, int live) { *(u32 *)to = live ? *(const u32 *)from : 0; }\n"
    "TG_FN void tg_copy8(void *to, const void *from, int live) { *(u64 *)to = live ? *(const u64 *)from : 0; }\n"
    "TG_FN void tg_copy16(void *to, const void *from, int live) { *(int4 *)to = live ? *(const int4 *)from : make_int4(0, 0, 0, 0); }\n"
    "TG_FN void tg_copy_wait() {}\n"
    "#endif\n"
    "#endif\n"
    EXPANDED(DIVISION(, i64, u64) DIVISION(_32, int, u32) REMAINDER(_f, float, f) REMAINDER(_d, double, ))
    LINES(
        typedef struct TgFault { int kind, site; i64 index, size, unit, minor; int lock, sealed; } TgFault;
        TG_FN float tg_of_bf16(u16 x) { return tg_float_f((int)((u32)x << 16)); }
        TG_FN u16 tg_to_bf16(float x) {
          u32 u = (u32)tg_bits_f(x);
          if (x != x) return (u16)(u >> 16 | 0x40);
          return (u16)((u + ((u >> 16 & 1) + 0x7fff)) >> 16);
        }
        TG_FN float tg_round_f16(float x) { return tg_of_f16(tg_to_f16(x)); }
        TG_FN float tg_round_bf16(float x) { return tg_of_bf16(tg_to_bf16(x)); }
        /* toward zero, to the nearest that fits, nan to 0 */
        TG_FN u8 tg_u8_d(double x) { return (u8)(x >= 255 ? 255 : x > 0 ? (int)x : 0); }
        TG_FN signed char tg_i8_d(double x) { return (signed char)(x >= 127 ? 127 : x <= -128 ? -128 : x == x ? (int)x : 0); }
        TG_FN short tg_i16_d(double x) { return (short)(x >= 32767 ? 32767 : x <= -32768 ? -32768 : x == x ? (int)x : 0); }
        TG_FN int tg_i32_d(double x) { return x >= 2147483647.0 ? 2147483647 : x <= -2147483648.0 ? -2147483647 - 1 : x == x ? (int)x : 0; }
        TG_FN i64 tg_i64_d(double x) {
          const i64 most = 0x7fffffffffffffffll;
          return x >= 9223372036854775808.0 ? most : x <= -9223372036854775808.0 ? -most - 1 : x == x ? (i64)x : 0;
        }
        TG_FN i64 tg_i64_f(float x) { return tg_i64_d((double)x); }
        TG_FN int tg_i32_f(float x) { return tg_i32_d((double)x); }
        TG_FN short tg_i16_f(float x) { return (short)(x >= 32767.0f ? 32767 : x <= -32768.0f ? -32768 : x == x ? (int)x : 0); }
        TG_FN signed char tg_i8_f(float x) { return (signed char)(x >= 127.0f ? 127 : x <= -128.0f ? -128 : x == x ? (int)x : 0); }
        TG_FN u8 tg_u8_f(float x) { return (u8)(x >= 255.0f ? 255 : x > 0.0f ? (int)x : 0); }
        TG_FN i64 tg_ipow(i64 x, i64 y) {
          if (y < 0) return x == 1 ? 1 : x == -1 ? ((y & 1) ? -1 : 1) : 0;
          u64 r = 1;
          u64 b = (u64)x;
          for (; y; y >>= 1) {
            if (y & 1) r *= b;
            b *= b;
          }
          return (i64)r;
        }
        TG_FN i64 tg_philox(i64 key, i64 at) {
          u32 k0 = (u32)(u64)key;
          u32 k1 = (u32)((u64)key >> 32);
          u32 c0 = (u32)(u64)at;
          u32 c1 = (u32)((u64)at >> 32);
          u32 c2 = 0;
          u32 c3 = 0;
          for (int round = 0; round < 10; round++) {
            u64 a = (u64)0xD2511F53u * c0;
            u64 b = (u64)0xCD9E8D57u * c2;
            c0 = (u32)(b >> 32) ^ c1 ^ k0;
            c1 = (u32)b;
            c2 = (u32)(a >> 32) ^ c3 ^ k1;
            c3 = (u32)a;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
          }
          return (i64)((u64)c0 | (u64)c1 << 32);
        }
        /* The least (unit, minor) stays; a lock, since a record is seven words */
        static __device__ __noinline__ void tg_fault(TgFault *f, int kind, int site, i64 index, i64 size, i64 unit, i64 minor) {
          volatile TgFault *v = f;
          int done = 0;
          while (!done) {
            if (atomicCAS(&f->lock, 0, 1) == 0) {
              __threadfence();
              if (!v->sealed && (!v->kind || unit < v->unit || (unit == v->unit && minor < v->minor))) {
                v->kind = kind;
                v->site = site;
                v->index = index;
                v->size = size;
                v->unit = unit;
                v->minor = minor;
              }
              __threadfence();
              atomicExch(&f->lock, 0);
              done = 1;
            }
          }
        }) "\n";
