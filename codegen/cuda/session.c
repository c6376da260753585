/* One CUDA device with its compiler, and kernels on it. */
#include "codegen/cuda/session.h"
#include <stdlib.h>
#include <string.h>

struct Cuda {
  RtDevice *dev;
  CudaBuild *build;
  char why[256]; /* the last refusal */
};

Cuda *cuda_open(int index, int threads, const char *cache_dir, char *why, size_t nwhy) {
  Cuda *c = calloc(1, sizeof *c);
  if (!c) {
    snprintf(why, nwhy, "out of memory");
    return NULL;
  }
  c->dev = rt_cuda.open(index, why, nwhy);
  if (c->dev) c->build = cuda_build_new(c->dev->arch, threads, cache_dir, why, nwhy);
  if (c->build) return c;
  cuda_close(c);
  return NULL;
}

void cuda_close(Cuda *c) {
  if (!c) return;
  cuda_build_free(c->build);
  if (c->dev) c->dev->op->close(c->dev);
  free(c);
}

RtDevice *cuda_device(const Cuda *c) { return c->dev; }
CudaBuild *cuda_builder(const Cuda *c) { return c->build; }

CudaCode *cuda_compile(Cuda *c, Graph *g, const Kernel *k, const char **why) {
  Arena *tmp = arena_new();
  CudaCode *code = calloc(1, sizeof *code);
  const char *reason = "out of memory";
  bool ok = code && cuda_emit(tmp, g, k, &code->k, &reason) && (code->job = cuda_build_start(c->build, code->k.source));
  if (!ok) {
    snprintf(c->why, sizeof c->why, "%s", reason);
    *why = c->why;
    free(code);
    code = NULL;
  } else {
    code->k.source = NULL; /* tmp's; the job has its own */
    for (int i = 0; i < code->k.nlaunch; i++) {
      snprintf(code->name[i], sizeof code->name[i], "%s", code->k.launch[i].name);
      code->k.launch[i].name = code->name[i];
    }
  }
  arena_free(tmp);
  return code;
}

bool cuda_ready(Cuda *c, CudaCode *code, bool *from_disk, const char **why) {
  size_t bytes;
  *from_disk = false;
  if (code->module) return true;
  const void *image = cuda_build_wait(code->job, &bytes, from_disk, why);
  if (!image) return false;
  bool ok = c->dev->op->load(c->dev, image, &code->module);
  for (int i = 0; ok && i < code->k.nlaunch; i++) ok = c->dev->op->function(c->dev, code->module, code->name[i], &code->fn[i]);
  if (ok) {
    cuda_build_release(code->job);
    return true;
  }
  *why = c->dev->why;
  if (code->module) c->dev->op->unload(c->dev, code->module);
  code->module = NULL;
  return false;
}

void cuda_code_free(Cuda *c, CudaCode *code) {
  if (!code) return;
  if (code->module) c->dev->op->unload(c->dev, code->module);
  free(code);
}
