/* Compiles the CUDA sources of a folder by the real NVRTC for sm_75, sm_80 and sm_90, and reads the compiler's log: a contraction in
 * tiles that spills registers has failed. Usage: check_nvrtc FOLDER [STRIDE [FIRST]]: every STRIDE-th source. Closing line: N passed, N failed; or
 * `skipped: REASON` where there is no NVRTC. */
#include "codegen/cuda/nvrtc.h"
#include <dirent.h>
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

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

typedef struct Tally { int passed, failed, most_registers, spills; } Tally;

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

int main(int argc, char **argv) {
  enum { MOST = 100000 };
  static const int arch[] = {75, 80, 90};
  if (argc < 2) return 2;
  DIR *d = opendir(argv[1]);
  char **name = calloc(MOST, sizeof *name), **source = calloc(MOST, sizeof *source), path[4096], why[1024];
  CudaJob **job = calloc(MOST, sizeof *job);
  int n = 0, stride = argc > 2 ? atoi(argv[2]) : 1, first = argc > 3 ? atoi(argv[3]) : 0;
  for (struct dirent *e; d && (e = readdir(d)) && n < MOST;)
    if (strstr(e->d_name, ".cu")) name[n++] = strdup(e->d_name);
  if (!d || !n || stride < 1) return 2;
  closedir(d);
  qsort(name, (size_t)n, sizeof *name, by_name);
  Tally t = {0};
  for (int a = 0; a < 3; a++) {
    CudaBuild *b = cuda_build_new(arch[a], (int)sysconf(_SC_NPROCESSORS_ONLN), NULL, why, sizeof why);
    if (!b) {
      printf("skipped: %s\n", why);
      return 0;
    }
    for (int i = (first + a) % stride; i < n; i += stride) {
      snprintf(path, sizeof path, "%s/%s", argv[1], name[i]);
      if (!source[i]) source[i] = read_file(path);
      job[i] = cuda_build_start(b, source[i]);
    }
    for (int i = (first + a) % stride; i < n; i += stride) check(&t, arch[a], name[i], source[i], job[i]);
    cuda_build_free(b);
  }
  for (int i = 0; i < n; i++) free(name[i]), free(source[i]);
  free(name), free(source), free(job);
  printf("most registers %d; functions with a stack frame that spill %d\n%d passed, %d failed\n", t.most_registers, t.spills, t.passed, t.failed);
  return t.failed != 0;
}
