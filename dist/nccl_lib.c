/* Finding NCCL. */
#include "dist/nccl_api.h"
#include "codegen/rt/search.h"
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* False with the reason when it is NCCL, but none that can be used. */
static bool try_library(NcclLib *n, const char *path, char *why, size_t nwhy) {
  struct {
    const char *name;
    void **at;
  } entry[] = {
#define ENTRY(result, name, params) {#name, (void **)(void *)&n->name},
      NCCL(ENTRY)
#undef ENTRY
  };
  void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE); /* it may leave threads behind */
  if (!lib) return false;
  bool ok = true;
  for (size_t i = 0; ok && i < sizeof entry / sizeof *entry; i++) {
    ok = (*entry[i].at = dlsym(lib, entry[i].name)) != NULL;
    if (!ok) snprintf(why, nwhy, "%s has no %s; NCCL 2.14 or later is needed", path, entry[i].name);
  }
  if (ok) {
    int r = n->ncclGetVersion(&n->version);
    ok = r == NCCL_SUCCESS && n->version >= NCCL_OLDEST;
    if (r) snprintf(why, nwhy, "ncclGetVersion of %s failed: %s", path, n->ncclGetErrorString(r));
    if (!r && !ok) snprintf(why, nwhy, "%s is too old: NCCL 2.14 or later is needed", path);
  }
  if (ok)
    n->lib = lib;
  else
    dlclose(lib);
  return ok;
}

typedef struct Search {
  NcclLib *n;
  char *why;
  size_t nwhy;
} Search;
static bool take(void *ctx, const char *path) {
  Search *s = ctx;
  return try_library(s->n, path, s->why, s->nwhy);
}

bool nccl_find(NcclLib *n, char *why, size_t nwhy) {
  static const char *const folders[] = {"%s/lib/python3*/site-packages/nvidia/nccl/lib/libnccl.so.2",
                                        "/usr/local/cuda/lib64/libnccl.so.2", "/usr/lib/x86_64-linux-gnu/libnccl.so.2"};
  const char *given = getenv("TG_NCCL");
  *why = 0;
  if (given && !strcmp(given, "none")) {
    snprintf(why, nwhy, "TG_NCCL=none");
    return false;
  }
  if (given && *given) {
    if (try_library(n, given, why, nwhy)) return true;
    const char *text = *why ? NULL : dlerror();
    if (!*why) snprintf(why, nwhy, "TG_NCCL does not name NCCL: %s", text ? text : given);
    return false;
  }
  Search s = {n, why, nwhy};
  if (take(&s, "libnccl.so.2") || rt_search(sizeof folders / sizeof *folders, folders, take, &s)) return true;
  if (!*why)
    snprintf(why, nwhy,
             "libnccl.so.2 was not found in CUDA's and Python's folders; install it (pip install nvidia-nccl-cu12) or "
             "name it by TG_NCCL");
  return false;
}

const char *nccl_path(const NcclLib *n) {
  Dl_info about;
  return dladdr((const void *)(uintptr_t)n->ncclGetVersion, &about) && about.dli_fname ? about.dli_fname
                                                                                       : "libnccl.so.2";
}
