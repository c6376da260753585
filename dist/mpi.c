/* Finds out whether mpirun started us, and loads the MPI module then. */
#include "dist/mpi.h"
#include "dist/siblings.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int number(const char *name) {
  const char *s = getenv(name);
  return s && *s ? atoi(s) : 0;
}

bool mpi_environment(int *nrank, int *nlocal) {
  static const struct {
    const char *size, *local;
  } by[] = {{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"}, {"PMI_SIZE", "MPI_LOCALNRANKS"}};
  for (size_t k = 0; k < sizeof by / sizeof *by; k++) {
    *nrank = number(by[k].size);
    if (*nrank <= 0) continue;
    *nlocal = number(by[k].local);
    if (*nlocal <= 0) *nlocal = *nrank;
    return true;
  }
  return false;
}

/* Beside the program. */
static bool module_path(char *path, size_t room) {
  ssize_t n = readlink("/proc/self/exe", path, room - 1);
  if (n <= 0) return false;
  path[n] = 0;
  char *slash = strrchr(path, '/');
  size_t at = slash ? (size_t)(slash + 1 - path) : 0;
  if (at + sizeof MPI_MODULE_FILE > room) return false;
  memcpy(path + at, MPI_MODULE_FILE, sizeof MPI_MODULE_FILE);
  return true;
}

bool mpi_join(MpiModule *m, char *why, size_t room) {
  char path[4096];
  if (!module_path(path, sizeof path)) {
    snprintf(why, room, "the folder of the program is unknown");
    return false;
  }
  void *so = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* MPI's own plug-ins look for its symbols */
  if (!so) {
    snprintf(why, room, "%s",
             access(path, F_OK) ? "this tg was built without MPI (" MPI_MODULE_FILE " is missing)" : dlerror());
    return false;
  }
  MpiOpen *open = (MpiOpen *)dlsym(so, MPI_MODULE_OPEN);
  m->close = (MpiClose *)dlsym(so, MPI_MODULE_CLOSE);
  if (!open || !m->close) {
    snprintf(why, room, "%s is of another version of tg", path);
    return false;
  }
  Siblings *s = siblings_watch();
  m->comm = open(why, room);
  siblings_free(s);
  return m->comm != NULL;
}
