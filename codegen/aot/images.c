/* Kernels of a library for a GPU: their images, launches and places of faults (rt/lib_device.h).
 *
 * A kernel that several plans use is one module. Images are copied as they come, since the compiler's session ends
 * before the tables are written. */
#include "codegen/aot/tables.h"
#include "codegen/cuda/session.h"
#include "codegen/rt/lib_device.h"

#define FIELD(at, type, field) ((at) + offsetof(type, field))

static size_t place_images(Tables *t, const CudaCode *c) {
  Image *m = &t->image;
  size_t at = image_room(m, sizeof(LibImage) * CU_TARGETS);
  for (int i = 0; i < CU_TARGETS; i++) {
    size_t bytes, one = at + sizeof(LibImage) * (size_t)i;
    const void *data = cuda_image(c, i, &bytes);
    while (m->bytes.n % 64) image_room(m, 8); /* the driver reads them where they lie */
    size_t image = image_put(m, data, bytes);
    *(LibImage *)image_at(m, one) = (LibImage){.arch = cuda_target[i].arch, .ptx = cuda_target[i].ptx};
    image_point(m, FIELD(one, LibImage, data), image);
  }
  return at;
}

static const DeviceModule *module_of(Tables *t, const CudaCode *c) {
  for (int i = 0; i < t->module.n; i++)
    if (t->module.at[i].code == c) return &t->module.at[i];
  DeviceModule m = {.code = c, .images = place_images(t, c), .launch = t->launch.n};
  for (int i = 0; i < c->k.nlaunch; i++) {
    const CuLaunch *l = &c->k.launch[i];
    DeviceLaunch x = {arena_strdup(t->a, l->name), t->module.n, (uint32_t)l->grid, (uint32_t)l->block};
    vec_push(t->a, &t->launch, x);
  }
  vec_push(t->a, &t->module, m);
  return &t->module.at[t->module.n - 1];
}

void images_kernel(Tables *t, const KernelStep *k, const CudaCode *c, LibKernel *out) {
  *out = (LibKernel){.dest_bytes = k->dest_bytes, .narg = k->narg, .init = k->init, .dest = k->dest};
  out->launch = module_of(t, c)->launch;
  out->nlaunch = c->k.nlaunch;
  out->site0 = t->site.n;
  out->faults = c->k.faults;
  for (int i = 0; i < k->nsite; i++) vec_push(t->a, &t->site, k->site[i]);
  if (c->k.scratch_bytes > t->scratch) t->scratch = c->k.scratch_bytes;
  t->inexact |= c->matrix;
}

/* Rough, for choosing between plans only: a launch, and threads over a middling device. */
double images_cost(const CudaCode *c) {
  double ns = 0;
  for (int i = 0; i < c->k.nlaunch; i++) ns += 3000 + 0.02 * (double)c->k.launch[i].grid * c->k.launch[i].block;
  return ns;
}

size_t images_device(Tables *t) {
  Image *m = &t->image;
  size_t at = image_room(m, sizeof(LibDevice)), module = image_room(m, sizeof(LibModule) * (size_t)t->module.n);
  size_t launch = image_room(m, sizeof(LibLaunch) * (size_t)t->launch.n);
  *(LibDevice *)image_at(m, at) = (LibDevice){.nmodule = t->module.n, .nlaunch = t->launch.n, .nsite = t->site.n};
  image_symbol(m, FIELD(at, LibDevice, op), "lib_cuda");
  image_point(m, FIELD(at, LibDevice, module), module);
  image_point(m, FIELD(at, LibDevice, launch), launch);
  image_point(m, FIELD(at, LibDevice, site), tables_sites(t, t->site.n, t->site.at));
  for (int i = 0; i < t->module.n; i++) {
    size_t one = module + sizeof(LibModule) * (size_t)i;
    *(LibModule *)image_at(m, one) = (LibModule){.nimage = CU_TARGETS};
    image_point(m, FIELD(one, LibModule, image), t->module.at[i].images);
  }
  for (int i = 0; i < t->launch.n; i++) {
    const DeviceLaunch *x = &t->launch.at[i];
    size_t one = launch + sizeof(LibLaunch) * (size_t)i;
    *(LibLaunch *)image_at(m, one) = (LibLaunch){.module = x->module, .grid = x->grid, .block = x->block};
    image_point(m, FIELD(one, LibLaunch, name), image_text(m, x->name));
  }
  return at;
}
