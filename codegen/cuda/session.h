/* One CUDA device with its compiler, and kernels on it; or no device: kernels for libraries, for every architecture. */
#ifndef TG_CODEGEN_CUDA_SESSION_H
#define TG_CODEGEN_CUDA_SESSION_H
#include "codegen/cuda/cuda.h"
#include "codegen/cuda/nvrtc.h"
#include "codegen/rt/device.h"

typedef struct Cuda Cuda;

/* What a library carries: machine code for three generations, and PTX for what comes after them. */
typedef struct CudaTarget {
  int arch; /* compute capability, 10 * major + minor; PTX runs there and on all later ones */
  bool ptx;
} CudaTarget;
enum { CU_TARGETS = 4 };
extern const CudaTarget cuda_target[CU_TARGETS];

/* A kernel's code. It compiles while the caller goes on, and may be launched after cuda_ready. */
typedef struct CudaCode {
  CuKernel k; /* its source is NULL */
  char name[CU_MAX_LAUNCH][16];
  CudaJob *job[CU_TARGETS]; /* on a device one */
  bool matrix;              /* uses matrix instructions: the order inside 16 positions is the hardware's */
  RtModule *module;
  RtFunction *fn[CU_MAX_LAUNCH];
} CudaCode;

/* Device number `index`, as RtDeviceKind.open has it. NULL with what is missing in why: a driver, a device, NVRTC. */
Cuda *cuda_open(int index, int threads, const char *cache_dir, char *why, size_t nwhy);
/* For libraries, without a device: needs NVRTC alone. */
Cuda *cuda_open_collect(int threads, const char *cache_dir, char *why, size_t nwhy);
void cuda_close(Cuda *c);
RtDevice *cuda_device(const Cuda *c); /* NULL: none */

/* NULL with *why. tf32: as cuda_emit has it; not on a device whose matrix instructions know no tf32, which computes in
 * f32. */
CudaCode *cuda_compile(Cuda *c, Graph *g, const Kernel *k, bool tf32, const char **why);
/* Waits for the compiler and loads the code. False with *why, which lives until the next call. */
bool cuda_ready(Cuda *c, CudaCode *code, bool *from_disk, const char **why);
/* The image for cuda_target[i], after cuda_ready; it lives as long as the code. */
const void *cuda_image(const CudaCode *code, int i, size_t *bytes);
/* The image of a source of one's own, behind the prelude, for the device; it lives as long as the session. NULL with
 * *why. */
const void *cuda_image_of(Cuda *c, const char *source, const char **why);
void cuda_code_free(Cuda *c, CudaCode *code);
#endif
