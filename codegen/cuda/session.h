/* One CUDA device with its compiler, and kernels on it. */
#ifndef TG_CODEGEN_CUDA_SESSION_H
#define TG_CODEGEN_CUDA_SESSION_H
#include "codegen/cuda/cuda.h"
#include "codegen/cuda/nvrtc.h"
#include "codegen/rt/device.h"

typedef struct Cuda Cuda;

/* A kernel's code. It compiles while the caller goes on, and may be launched after cuda_ready. */
typedef struct CudaCode {
  CuKernel k; /* its source is NULL */
  char name[CU_MAX_LAUNCH][16];
  CudaJob *job;
  RtModule *module;
  RtFunction *fn[CU_MAX_LAUNCH];
} CudaCode;

/* Device number `index`. NULL with what is missing in why: a driver, a device, NVRTC. */
Cuda *cuda_open(int index, int threads, const char *cache_dir, char *why, size_t nwhy);
void cuda_close(Cuda *c);
RtDevice *cuda_device(const Cuda *c);
CudaBuild *cuda_builder(const Cuda *c);

CudaCode *cuda_compile(Cuda *c, Graph *g, const Kernel *k, const char **why); /* NULL with *why */
/* Waits for the compiler and loads the code. False with *why, which lives until the next call. */
bool cuda_ready(Cuda *c, CudaCode *code, bool *from_disk, const char **why);
void cuda_code_free(Cuda *c, CudaCode *code);
#endif
