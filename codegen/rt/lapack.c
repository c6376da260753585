/* Finding LAPACK at run time (lapack.h). */
#include "codegen/rt/lapack.h"
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

/* A function pointer through dlsym, as POSIX has it: object and function pointers have one representation. */
static int find(void *lib, const char *name, void *slot) {
  void *p = dlsym(lib, name);
  memcpy(slot, &p, sizeof p);
  return p != NULL;
}

/* OpenBLAS has one number of threads for the whole process, on which its bits depend. It is 1 from the first caller's
 * entry to the last one's leaving, then again what the process had set. */
static struct {
  pthread_mutex_t lock;
  int inside, before;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void enter(const Lapack *la) {
  pthread_mutex_lock(&gate.lock);
  if (!gate.inside++) gate.before = la->get_threads();
  if (la->get_threads() != 1) la->set_threads(1);
  pthread_mutex_unlock(&gate.lock);
}

static void leave(const Lapack *la) {
  pthread_mutex_lock(&gate.lock);
  if (!--gate.inside && gate.before != 1) la->set_threads(gate.before);
  pthread_mutex_unlock(&gate.lock);
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
  int counts =
      find(lib, "openblas_get_num_threads", &s->get_threads) & find(lib, "openblas_set_num_threads", &s->set_threads);
  s->enter = counts ? enter : NULL, s->leave = counts ? leave : NULL;
  return ok;
}

int lapack_open(Lapack two[2]) {
  static const char *const names[] = {"libopenblas.so.0", "liblapack.so.3", "libopenblas.so", "liblapack.so"};
  int found = 0;
  for (size_t i = 0; i < sizeof names / sizeof *names && !found; i++) {
    void *theirs = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    void *lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    found = lib && find_all(lib, &two[0], &two[1]);
    if (found && !theirs && two->set_threads) two->set_threads(1); /* nobody else's: for good */
    if (lib) dlclose(lib);
    if (theirs) dlclose(theirs);
  }
  return found;
}
