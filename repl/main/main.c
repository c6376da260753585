/* The program: runs tg_main on a stack large enough for the deepest program that the parser and the elaborator allow.
 */
#include "repl/cli.h"
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* LLVM cannot go on without memory: C++'s std::set_new_handler, by its name in the object, ends the program in order.
 */
typedef void (*NewHandler)(void);
NewHandler _ZSt15set_new_handlerPFvvE(NewHandler handler);
static void no_memory(void) {
  static const char text[] = "error[R003]: out of memory while compiling a kernel\n";
  (void)!write(2, text, sizeof text - 1);
  _exit(EXIT_RUN);
}

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
  pthread_attr_init(&attr);
  /* Address space only: pages are touched as they are used. Under a tight limit a smaller stack must do. */
  for (size_t mb = 256; mb >= 8; mb /= 2) {
    pthread_attr_setstacksize(&attr, mb << 20);
    if (pthread_create(&thread, &attr, run, &m) == 0) {
      pthread_join(thread, NULL);
      return m.code;
    }
  }
  run(&m);
  return m.code;
}
