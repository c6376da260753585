/* What natives get as `ctx`: the host's side of a run. Made by the composition root; may be NULL for pure natives. */
#ifndef TG_STDLIB_NATIVE_HOST_H
#define TG_STDLIB_NATIVE_HOST_H
#include "graph/native.h"
#include <stdio.h>

struct DataTable;
struct Progress;

struct TrainFiles;

typedef struct NativeHost {
  NativeCtx base;            /* the ranks of the program */
  FILE *out;                 /* where print writes; not flushed by natives */
  int width;                 /* columns of the terminal; <= 0: 80 */
  const char *root;          /* folder that relative paths start from; NULL: the working folder */
  struct TrainFiles *train;  /* made by natives that need it; to be freed by train_files_free (checkpoint.h) */
  struct DataTable *data;    /* the session's data sets (data.h); NULL: none can be read */
  struct Progress *progress; /* what fit shows (progress.h); NULL: nothing */
  void *host;                /* who made this; for natives of the composition root */
} NativeHost;

/* Adds every native of this folder to the registry; their conventions are in README.md. */
void native_register_all(Natives *r);
#endif
