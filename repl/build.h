/* `tg build` and what goes with it. */
#ifndef TG_REPL_BUILD_H
#define TG_REPL_BUILD_H
#include "host.h"

typedef struct BuildOptions {
  const char *output;  /* NULL: libNAME.so in the working folder, NAME from the script */
  const char *emit;    /* "so", "obj", "llvm", "asm", "dot" */
  const char *target;  /* a row of aot_targets */
  const char *weights; /* NULL: embedded; "caller"; else a file */
  const char *batch;   /* more sizes of plans of a run-time batch: "3,32"; NULL: none */
  bool python;
  bool no_fit; /* fit gives its net as it is */
  bool cuda;   /* for a GPU */
} BuildOptions;

/* `tg bench` of a library (bench_lib.c), told from a script by its name. */
bool is_library(const char *path);
int bench_lib(const HostOptions *o, const char *path);
/* After a successful unit, for `tg check`: the mistakes of its exports that `tg build` finds before it runs the script,
 * as diagnostics. An exit code. */
int build_check(Host *h, const char *path, const char *batch);
int build_run(const HostOptions *ho, const BuildOptions *o, const char *path);
#endif
