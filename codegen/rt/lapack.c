/* Finding LAPACK at run time (lapack.h). */
#include "codegen/rt/lapack.h"
#include <dlfcn.h>
#include <string.h>

/* A function pointer through dlsym, as POSIX has it: object and function pointers have one representation. */
static int find(void *lib, const char *name, void *slot) {
  void *p = dlsym(lib, name);
  memcpy(slot, &p, sizeof p);
  return p != NULL;
}

static int find_all(void *lib, Lapack *s, Lapack *d) {
  int ok = 1;
#define ROUTINE(r) ok &= find(lib, "s" #r "_", &s->r) & find(lib, "d" #r "_", &d->r)
  ROUTINE(gesv);
  ROUTINE(getrf);
  ROUTINE(potrf);
  ROUTINE(geqrf);
  ROUTINE(orgqr);
  ROUTINE(gesdd);
  ROUTINE(syevd);
  ROUTINE(gelsd);
#undef ROUTINE
  find(lib, "openblas_get_num_threads", &s->get_threads);
  find(lib, "openblas_set_num_threads", &s->set_threads);
  d->get_threads = s->get_threads, d->set_threads = s->set_threads;
  return ok;
}

int lapack_open(Lapack two[2]) {
  static const char *const names[] = {"libopenblas.so.0", "liblapack.so.3", "libopenblas.so", "liblapack.so"};
  int found = 0;
  for (size_t i = 0; i < sizeof names / sizeof *names && !found; i++) {
    void *lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    found = lib && find_all(lib, &two[0], &two[1]);
    if (lib) dlclose(lib);
  }
  return found;
}
