/* Finding NCCL. */
#include "dist/nccl_api.h"
#include <dlfcn.h>
#include <glob.h>
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

/* Those of Python's packages, the user's and the system's and of a virtual environment. */
static bool try_folders(NcclLib *n, char *why, size_t nwhy) {
  const char *home = getenv("HOME"), *venv = getenv("VIRTUAL_ENV"), *conda = getenv("CONDA_PREFIX");
  char local[512], pattern[1024];
  snprintf(local, sizeof local, "%s/.local", home ? home : "");
  const char *root[] = {venv, conda, home ? local : NULL, "/usr/local", "/usr"};
  bool found = false;
  for (size_t i = 0; !found && i < sizeof root / sizeof *root; i++) {
    glob_t g;
    if (!root[i]) continue;
    snprintf(pattern, sizeof pattern, "%s/lib/python3*/site-packages/nvidia/nccl/lib/libnccl.so.2", root[i]);
    if (glob(pattern, 0, NULL, &g)) continue;
    for (size_t k = g.gl_pathc; k-- > 0 && !found;) found = try_library(n, g.gl_pathv[k], why, nwhy);
    globfree(&g);
  }
  return found;
}

bool nccl_find(NcclLib *n, char *why, size_t nwhy) {
  static const char *const names[] = {"libnccl.so.2", "/usr/local/cuda/lib64/libnccl.so.2",
                                      "/usr/lib/x86_64-linux-gnu/libnccl.so.2"};
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
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (try_library(n, names[i], why, nwhy)) return true;
  if (try_folders(n, why, nwhy)) return true;
  if (!*why)
    snprintf(why, nwhy,
             "libnccl.so.2 was not found in CUDA's and Python's folders; install it (pip install nvidia-nccl-cu12) or "
             "name it by TG_NCCL");
  return false;
}
