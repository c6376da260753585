/* See session.h. */
#include "codegen/cuda/session.h"
#include "codegen/cuda/emit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_TF32 = 80 }; /* compute capability */

struct Cuda {
  RtDevice *dev;
  CudaBuild *build[CU_TARGETS];
  int nbuild;
  char why[256]; /* the last refusal */
};

Cuda *cuda_open(int index, int threads, const char *cache_dir, char *why, size_t nwhy) {
  Cuda *c = calloc(1, sizeof *c);
  if (!c) {
    snprintf(why, nwhy, "out of memory");
    return NULL;
  }
  c->dev = rt_cuda.open(index, why, nwhy);
  if (c->dev) c->build[0] = cuda_build_new(c->dev->arch, c->dev->driver, threads, cache_dir, why, nwhy);
  c->nbuild = 1;
  if (c->build[0]) return c;
  cuda_close(c);
  return NULL;
}

const CudaTarget cuda_target[CU_TARGETS] = {{75, false}, {80, false}, {90, false}, {90, true}};

Cuda *cuda_open_collect(int threads, const char *cache_dir, char *why, size_t nwhy) {
  Cuda *c = calloc(1, sizeof *c);
  if (!c) {
    snprintf(why, nwhy, "out of memory");
    return NULL;
  }
  for (; c->nbuild < CU_TARGETS; c->nbuild++) {
    const CudaTarget *t = &cuda_target[c->nbuild];
    CudaBuild *b = c->build[c->nbuild] =
        cuda_build_new(t->arch, 0, (threads + CU_TARGETS - 1) / CU_TARGETS, cache_dir, why, nwhy);
    if (!b) {
      cuda_close(c);
      return NULL;
    }
    if (t->ptx) cuda_build_as_ptx(b);
  }
  return c;
}

void cuda_close(Cuda *c) {
  if (!c) return;
  for (int i = 0; i < c->nbuild; i++) cuda_build_free(c->build[i]);
  if (c->dev) c->dev->op->close(c->dev);
  free(c);
}

RtDevice *cuda_device(const Cuda *c) { return c->dev; }

/* The prelude defines them all; a kernel's own text begins with its arguments. */
static bool uses_matrix(const char *source) {
  const char *own = strstr(source, "typedef struct TgArgs");
  return own && strstr(own, "tg_mma_");
}

static bool start_jobs(Cuda *c, CudaCode *code) {
  for (int i = 0; i < c->nbuild; i++)
    if (!(code->job[i] = cuda_build_start(c->build[i], code->k.source))) return false;
  return true;
}

CudaCode *cuda_compile(Cuda *c, Graph *g, const Kernel *k, bool tf32, const char **why) {
  Arena *tmp = arena_new();
  CudaCode *code = calloc(1, sizeof *code);
  const char *reason = "out of memory";
  bool ok = code && cuda_emit(tmp, g, k, tf32 && (!c->dev || c->dev->arch >= FIRST_TF32), &code->k, &reason);
  if (ok) {
    reason = "out of memory";
    ok = start_jobs(c, code);
  }
  if (!ok) {
    snprintf(c->why, sizeof c->why, "%s", reason);
    *why = c->why;
    free(code);
    code = NULL;
  } else {
    code->matrix = uses_matrix(code->k.source);
    code->k.source = NULL; /* tmp's; the jobs have their own */
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
  for (int i = 1; i < c->nbuild; i++)
    if (!cuda_build_wait(code->job[i], &bytes, from_disk, why)) return false;
  const void *image = cuda_build_wait(code->job[0], &bytes, from_disk, why);
  if (!image || !c->dev) return image != NULL;
  bool ok = c->dev->op->load(c->dev, image, &code->module);
  for (int i = 0; ok && i < code->k.nlaunch; i++)
    ok = c->dev->op->function(c->dev, code->module, code->name[i], &code->fn[i]);
  if (ok) {
    cuda_build_release(code->job[0]);
    return true;
  }
  *why = c->dev->why;
  if (code->module) c->dev->op->unload(c->dev, code->module);
  code->module = NULL;
  return false;
}

const void *cuda_image(const CudaCode *code, int i, size_t *bytes) {
  bool from_disk;
  const char *why;
  return cuda_build_wait(code->job[i], bytes, &from_disk, &why);
}

const void *cuda_image_of(Cuda *c, const char *source, const char **why) {
  char *text = NULL;
  size_t bytes;
  bool from_disk;
  CudaJob *job = asprintf(&text, "%s%s", cuda_prelude, source) < 0 ? NULL : cuda_build_start(c->build[0], text);
  free(text);
  *why = "out of memory";
  return job ? cuda_build_wait(job, &bytes, &from_disk, why) : NULL;
}

void cuda_code_free(Cuda *c, CudaCode *code) {
  if (!code) return;
  if (code->module) c->dev->op->unload(c->dev, code->module);
  free(code);
}
