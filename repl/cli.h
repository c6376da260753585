/* The command line: `tg ...` from arguments to exit code. */
#ifndef TG_REPL_CLI_H
#define TG_REPL_CLI_H
#include "host.h"

int tg_main(int argc, char **argv);
void devices_run(FILE *out);                            /* devices.c: `tg devices` */
int prompt_run(Host *h);                                /* prompt.c: the interactive session; its exit code */
int bench_run(const HostOptions *o, const char *path);  /* bench.c: `tg bench` */
int test_run(const HostOptions *o, int n, char **file); /* doctest.c: `tg test` */
int doc_run(const HostOptions *o, const char *what);    /* doc.c: `tg doc`; what: a name, module, file or NULL */
int inspect_run(const char *path);                      /* inspect.c: `tg inspect` */
#endif
