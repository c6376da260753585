/* The CUDA driver's entry points that tg uses, declared here since no CUDA header is needed to build: DRIVER(name,
 * parameters). Names with _v2 are those that the driver exports for the current interface. */
#ifndef TG_CODEGEN_RT_DEV_CUDA_API_H
#define TG_CODEGEN_RT_DEV_CUDA_API_H
#include <stddef.h>

typedef int CuResult; /* 0: success */
typedef unsigned long long CuPtr;

enum {
  CU_MAJOR = 75,
  CU_MINOR = 76,
  CU_STREAM_NON_BLOCKING = 1,
  CU_EVENT_DISABLE_TIMING = 2,
  CU_CAPTURE_THREAD_LOCAL = 1,
  CU_NOT_READY = 600
};
typedef struct CuUuid {
  unsigned char byte[16];
} CuUuid;

#define CUDA_DRIVER(X)                                                                                                 \
  X(cuInit, (unsigned flags))                                                                                          \
  X(cuDriverGetVersion, (int *version))                                                                                \
  X(cuDeviceGetCount, (int *n))                                                                                        \
  X(cuDeviceGet, (int *dev, int index))                                                                                \
  X(cuDeviceGetName, (char *name, int n, int dev))                                                                     \
  X(cuDeviceGetAttribute, (int *value, int what, int dev))                                                             \
  X(cuDeviceTotalMem_v2, (size_t * bytes, int dev))                                                                    \
  X(cuDeviceGetUuid_v2, (CuUuid * uuid, int dev))                                                                      \
  X(cuDevicePrimaryCtxRetain, (void **ctx, int dev))                                                                   \
  X(cuDevicePrimaryCtxRelease_v2, (int dev))                                                                           \
  X(cuCtxPushCurrent_v2, (void *ctx))                                                                                  \
  X(cuCtxPopCurrent_v2, (void **ctx))                                                                                  \
  X(cuMemAlloc_v2, (CuPtr * p, size_t n))                                                                              \
  X(cuMemFree_v2, (CuPtr p))                                                                                           \
  X(cuMemHostAlloc, (void **p, size_t n, unsigned flags))                                                              \
  X(cuMemFreeHost, (void *p))                                                                                          \
  X(cuMemcpyHtoDAsync_v2, (CuPtr dst, const void *src, size_t n, void *stream))                                        \
  X(cuMemcpyDtoHAsync_v2, (void *dst, CuPtr src, size_t n, void *stream))                                              \
  X(cuMemcpyDtoDAsync_v2, (CuPtr dst, CuPtr src, size_t n, void *stream))                                              \
  X(cuMemsetD8Async, (CuPtr dst, unsigned char v, size_t n, void *stream))                                             \
  X(cuStreamCreate, (void **stream, unsigned flags))                                                                   \
  X(cuStreamDestroy_v2, (void *stream))                                                                                \
  X(cuStreamSynchronize, (void *stream))                                                                               \
  X(cuStreamQuery, (void *stream))                                                                                     \
  X(cuModuleLoadData, (void **module, const void *image))                                                              \
  X(cuModuleUnload, (void *module))                                                                                    \
  X(cuModuleGetFunction, (void **f, void *module, const char *name))                                                   \
  X(cuLaunchKernel, (void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,            \
                     unsigned shared, void *stream, void **param, void **extra))                                       \
  X(cuEventCreate, (void **event, unsigned flags))                                                                     \
  X(cuEventRecord, (void *event, void *stream))                                                                        \
  X(cuEventSynchronize, (void *event))                                                                                 \
  X(cuEventQuery, (void *event))                                                                                       \
  X(cuEventDestroy_v2, (void *event))                                                                                  \
  X(cuStreamWaitEvent, (void *stream, void *event, unsigned flags))                                                    \
  X(cuStreamBeginCapture_v2, (void *stream, int mode))                                                                 \
  X(cuStreamEndCapture, (void *stream, void **graph))                                                                  \
  X(cuGraphInstantiateWithFlags, (void **exec, void *graph, unsigned long long flags))                                 \
  X(cuGraphLaunch, (void *exec, void *stream))                                                                         \
  X(cuGraphExecDestroy, (void *exec))                                                                                  \
  X(cuGraphDestroy, (void *graph))                                                                                     \
  X(cuGetErrorName, (CuResult r, const char **s))                                                                      \
  X(cuGetErrorString, (CuResult r, const char **s))

typedef struct CudaDriver {
#define FIELD(name, params) CuResult(*name) params;
  CUDA_DRIVER(FIELD)
#undef FIELD
} CudaDriver;
#endif
