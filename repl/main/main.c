/* The program: runs tg_main on a stack large enough for the deepest program that the parser and the elaborator allow. */
#include "repl/cli.h"
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* LLVM cannot go on without memory: the handlers of C++'s new and of LLVM's own malloc, by their names in the object
 * (std::set_new_handler, llvm::install_bad_alloc_error_handler), end the program in order. */
typedef void (*NewHandler)(void);
typedef void (*BadAllocHandler)(void *ctx, const char *reason, bool crash_diagnostics);
NewHandler _ZSt15set_new_handlerPFvvE(NewHandler handler);
void _ZN4llvm31install_bad_alloc_error_handlerEPFvPvPKcbES0_(BadAllocHandler handler, void *ctx);
static void no_memory(void) {
  static const char text[] = "error[R003]: out of memory while compiling a kernel\n";
  (void)!write(2, text, sizeof text - 1);
  _exit(EXIT_RUN);
}
static void llvm_has_no_memory(void *ctx, const char *reason, bool crash_diagnostics) {
  (void)ctx, (void)reason, (void)crash_diagnostics;
  no_memory();
}

enum { SMALLEST_STACK = 8 }; /* MiB */

typedef struct Main {
  int argc;
  char **argv;
  int code;
} Main;
static void *run(void *ctx) {
  Main *m = ctx;
  m->code = tg_main(m->argc, m->argv);
  return NULL;
}

int main(int argc, char **argv) {
  Main m = {argc, argv, EXIT_RUN};
  pthread_attr_t attr;
  pthread_t thread;
  /* Large tensors come and go: memory once faulted in is kept (a page fault costs more than the page's copy). */
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  _ZSt15set_new_handlerPFvvE(no_memory);
  _ZN4llvm31install_bad_alloc_error_handlerEPFvPvPKcbES0_(llvm_has_no_memory, NULL);
  pthread_attr_init(&attr);
  /* Address space only: pages are touched as they are used. Under a tight limit a smaller stack must do. */
  for (size_t mb = 256; mb >= SMALLEST_STACK; mb /= 2) {
    pthread_attr_setstacksize(&attr, mb << 20);
    if (pthread_create(&thread, &attr, run, &m) == 0) {
      pthread_join(thread, NULL);
      return m.code;
    }
  }
  /* No thread may be made: on this one, whose stack grows as long as there is memory. */
  void *room = malloc((size_t)SMALLEST_STACK << 20);
  if (!room) {
    fprintf(stderr, "tg: out of memory (a stack of %d MiB wanted)\n", SMALLEST_STACK);
    return EXIT_RUN;
  }
  free(room);
  run(&m);
  return m.code;
}
