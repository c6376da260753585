/* Finding LAPACK at run time. */
#include "stdlib/native/lapack.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Written once under pthread_once, constant afterwards. */
static struct {
  Lapack f32, f64;
  const char *why;
} table;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A function pointer through dlsym, as POSIX has it: object and function pointers have one representation. */
static int find(void *lib, const char *name, void *slot) {
  void *p = dlsym(lib, name);
  memcpy(slot, &p, sizeof p);
  return p != NULL;
}

static int find_all(void *lib, Lapack *s, Lapack *d) {
  int ok = 1;
#define ROUTINE(r) ok &= find(lib, "s" #r "_", &s->r) & find(lib, "d" #r "_", &d->r);
  ROUTINE(gesv)
  ROUTINE(getrf) ROUTINE(potrf) ROUTINE(geqrf) ROUTINE(orgqr) ROUTINE(gesdd) ROUTINE(syevd) ROUTINE(gelsd)
#undef ROUTINE
      return ok;
}

static void load(void) {
  static const char *const names[] = {"libopenblas.so.0", "liblapack.so.3", "libopenblas.so", "liblapack.so"};
  /* OpenBLAS starts its threads while it is loaded; this keeps it from starting any. */
  int ours = setenv("OPENBLAS_NUM_THREADS", "1", 0) == 0;
  void *lib = NULL;
  for (size_t i = 0; i < sizeof names / sizeof *names && !lib; i++) {
    lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (lib && !find_all(lib, &table.f32, &table.f64)) dlclose(lib), lib = NULL;
  }
  if (ours) unsetenv("OPENBLAS_NUM_THREADS");
  if (!lib) {
    table.why = "LAPACK is not installed; on Debian: apt install libopenblas0";
    return;
  }
  void (*set_threads)(int);
  if (find(lib, "openblas_set_num_threads", &set_threads)) set_threads(1);
}

const Lapack *lapack_get(int f64, const char **why) {
  pthread_once(&once, load);
  *why = table.why;
  return table.why ? NULL : f64 ? &table.f64 : &table.f32;
}
