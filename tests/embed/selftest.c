/* The self-test of any library, whose header is included on the command line and whose prefix is NAME: on one thread
 * and on two, in two threads at once, and with arguments that are refused. Prints what is wrong. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define JOIN(a, b) a##_##b
#define OF(n, f) JOIN(n, f)
#define FN(f) OF(NAME, f)
#define CHECK(c) ((c) ? (void)0 : (void)(failures++, printf("line %d: %s\n", __LINE__, #c)))
static int failures;

/* Whole contexts, one after another. */
static void *run(void *arg) {
  const FN(options) *o = arg;
  FN(context) *c = NULL;
  for (int k = 0; k < 8; k++) {
    if (FN(create)(o, &c)) return "create";
    if (FN(selftest)(c)) {
      printf("%s\n", FN(message)(c));
      return "selftest";
    }
    FN(destroy)(c);
  }
  return NULL;
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0); /* a sanitizer that finds something at the end drops what is buffered */
  FN(options) o[2] = {{.size = sizeof *o, .threads = 1}, {.size = sizeof *o, .threads = 2}};
  pthread_t t[2];
  for (int i = 0; i < 2; i++) CHECK(run(&o[i]) == NULL);
  for (int i = 0; i < 2; i++) CHECK(pthread_create(&t[i], NULL, run, &o[i]) == 0);
  for (int i = 0; i < 2; i++) {
    void *wrong;
    CHECK(pthread_join(t[i], &wrong) == 0 && wrong == NULL);
  }
  FN(context) *c = NULL;
  CHECK(FN(selftest)(NULL) != 0 && FN(reset)(NULL) != 0 && FN(get_state)(NULL, "x", o) != 0);
  CHECK(FN(create)(o, &c) == 0);
  CHECK(FN(get_state)(c, "no such state", o) != 0 && FN(get_state)(c, NULL, o) != 0 &&
        FN(set_state)(c, "x", NULL) != 0);
  CHECK(strlen(FN(message)(c)) > 0);
  FN(destroy)(c);
  return failures != 0;
}
