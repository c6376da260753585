/* Compiles CUDA sources by the real NVRTC and reads the compiler's log: a contraction in tiles that spills registers
 * has failed. Usage: check_nvrtc LIST, a file of lines `ARCH PATH`: 75, 80 or 90 and a source. Closing line: N passed,
 * N failed; or `skipped: REASON` where there is no NVRTC. */
#include "codegen/cuda/nvrtc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *read_file(const char *path) {
  FILE *f = fopen(path, "rb");
  char *s = NULL;
  size_t n = 0;
  if (!f) return NULL;
  if (getdelim(&s, &n, 0, f) < 0) s[0] = 0;
  fclose(f);
  return s;
}

typedef struct Tally {
  int passed, failed, most_registers, spills;
} Tally;

/* ptxas: "N bytes spill stores" and "Used N registers" for each function. */
static bool log_is_good(Tally *t, const char *log, bool tiled) {
  bool good = true;
  for (const char *s = log; (s = strstr(s, "bytes stack frame, ")); s++) {
    int n = atoi(s + strlen("bytes stack frame, "));
    if (n && tiled) good = false;
    t->spills += n != 0;
  }
  for (const char *s = log; (s = strstr(s, "Used ")); s++)
    if (atoi(s + 5) > t->most_registers) t->most_registers = atoi(s + 5);
  return good;
}

static void check(Tally *t, int arch, const char *name, const char *source, CudaJob *j) {
  size_t bytes;
  bool from_disk;
  const char *why = "";
  bool ok = cuda_build_wait(j, &bytes, &from_disk, &why) != NULL;
  if (!ok) printf("FAIL %s, sm_%d: %s\n", name, arch, why);
  if (ok && !log_is_good(t, cuda_build_log(j), strstr(source, "/* tiles */") != NULL)) {
    ok = false;
    printf("FAIL %s, sm_%d: a contraction spills\n%s\n", name, arch, cuda_build_log(j));
  }
  ok ? t->passed++ : t->failed++;
  cuda_build_release(j);
}

typedef struct Source {
  int arch;
  const char *name;
  char *text;
  CudaJob *job;
} Source;

/* The sources of the list; it is taken apart. */
static int read_list(char *list, Source *to) {
  int n = 0;
  for (char *s = strtok(list, "\n"); s; s = strtok(NULL, "\n")) {
    char *name = strchr(s, ' ');
    if (name && (to[n].text = read_file(name + 1))) {
      to[n].arch = atoi(s);
      to[n++].name = name + 1;
    }
  }
  return n;
}

int main(int argc, char **argv) {
  static const int arch[] = {75, 80, 90};
  char *list = argc == 2 ? read_file(argv[1]) : NULL, why[1024];
  if (!list) return 2;
  size_t lines = 1;
  for (const char *s = list; *s; s++) lines += *s == '\n';
  Source *source = calloc(lines, sizeof *source);
  int n = read_list(list, source);
  Tally t = {0};
  for (int a = 0; a < 3; a++) {
    CudaBuild *b = cuda_build_new(arch[a], 0, (int)sysconf(_SC_NPROCESSORS_ONLN), NULL, why, sizeof why);
    if (!b) {
      printf("skipped: %s\n", why);
      return 0;
    }
    for (Source *x = source; x < source + n; x++)
      if (x->arch == arch[a]) x->job = cuda_build_start(b, x->text);
    for (Source *x = source; x < source + n; x++)
      if (x->arch == arch[a]) check(&t, x->arch, x->name, x->text, x->job);
    cuda_build_free(b);
  }
  for (int i = 0; i < n; i++) free(source[i].text);
  free(source), free(list);
  printf("most registers %d; functions that spill %d\n%d passed, %d failed\n", t.most_registers, t.spills, t.passed,
         t.failed);
  return t.failed != 0 || !t.passed;
}
