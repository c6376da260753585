/* A library whose plans run on a GPU (`tg build --device cuda`): what its tables have more, and the functions that
 * stand in for those of the processor. A library for the processor has none of them: Lib.device is NULL and the linker
 * leaves them out. */
#ifndef TG_CODEGEN_RT_LIB_DEVICE_H
#define TG_CODEGEN_RT_LIB_DEVICE_H
#include "codegen/rt/lib.h"

/* One kernel's code for several architectures (10 * major + minor): machine code runs on its own generation from that
 * minor number on, PTX on all devices from that architecture on. */
typedef struct LibImage {
  const void *data;
  int32_t arch, ptx /* truth */;
} LibImage;

typedef struct LibModule {
  const LibImage *image;
  int64_t nimage;
} LibModule;

typedef struct LibLaunch {
  const char *name; /* of the function in its module */
  int32_t module;
  uint32_t grid, block; /* blocks, threads a block */
  int32_t unused;
} LibLaunch;

typedef struct LibDeviceOps LibDeviceOps;
typedef struct LibDevice {
  const LibDeviceOps *op;
  const LibModule *module;
  const LibLaunch *launch; /* kernels name ranges of them */
  const char *const *site; /* places of faults, numbered through the library */
  int32_t nmodule, nlaunch, nsite, unused;
} LibDevice;

/* All give an RtStatus, with a message in the context. Pointers to states are the device's. */
struct LibDeviceOps {
  size_t (*memory)(const Lib *lib); /* of the host, besides the context */
  int (*create)(
      LibContext *c); /* c->device: a device, code, constants, memory; states have places, but no values yet */
  void (*destroy)(LibContext *c);
  /* in and out: the caller's tensors are the host's, states' the device's. */
  int (*run)(LibContext *c, const LibExport *e, const LibPlan *p, void *const *in, void *const *out);
  int (*put)(LibContext *c, void *state, const void *data, size_t bytes);
  int (*get)(LibContext *c, void *data, const void *state, size_t bytes);
};
extern const LibDeviceOps lib_cuda;
#endif
