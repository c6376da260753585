/* The program's LAPACK: looked up once. */
#include "stdlib/native/lapack.h"
#include <pthread.h>
#include <stdlib.h>

/* Written once under pthread_once, constant afterwards. */
static struct {
  Lapack two[2];
  int found;
} table;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void) {
  /* OpenBLAS starts its threads while it is loaded; this keeps it from starting any. */
  int ours = setenv("OPENBLAS_NUM_THREADS", "1", 0) == 0;
  table.found = lapack_open(table.two);
  if (ours) unsetenv("OPENBLAS_NUM_THREADS");
  if (table.found && table.two->set_threads) table.two->set_threads(1);
}

const Lapack *lapack_get(void) {
  pthread_once(&once, load);
  return table.found ? table.two : NULL;
}
