/* Compiles CUDA sources by the real NVRTC and reads what it says and makes: a contraction in tiles that spills
 * registers has failed; in PTX every operation on floating-point numbers is one correctly rounded step. Usage:
 * check_nvrtc LIST, a file of lines `ARCH PATH`: 75, 80 or 90, or 90p for PTX, and a source. Closing line: N passed, N
 * failed; or `skipped: REASON` where there is no NVRTC. */
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

/* CUDA's own fmod, and sin, cos and tan of huge numbers, work with approximations inside. */
static bool calls_inexact(const char *source) {
  static const char *const call[] = {"tg_mod_", " sin(", " cos(", " tan("};
  const char *own = strstr(source, "typedef struct TgArgs");
  for (size_t i = 0; own && i < sizeof call / sizeof *call; i++)
    if (strstr(own, call[i])) return true;
  return false;
}

/* No rounding but to the nearest, no number of its own for zero (ftz), nothing that ptxas may join into a fused
 * operation: add, sub and mul with .rn stay as they are. At the operation's name; false: one that is not so. */
static bool exact(const char *op, size_t n, bool inexact) {
  static const char *const rounded[] = {"add", "sub", "mul", "fma", "div", "sqrt", "rcp"};
  char name[64];
  if (n >= sizeof name) return true;
  memcpy(name, op, n);
  name[n] = 0;
  if (!strstr(name, ".f32") && !strstr(name, ".f64")) return true;
  if (inexact && (strstr(name, ".approx") || !strcmp(name, "fma.rz.f32"))) return true;
  if (strstr(name, ".ftz") || strstr(name, ".approx") || strstr(name, ".full")) return false;
  for (size_t i = 0; i < sizeof rounded / sizeof *rounded; i++) {
    size_t m = strlen(rounded[i]);
    if (!strncmp(name, rounded[i], m) && name[m] == '.') return !strncmp(name + m, ".rn.", 4);
  }
  return true;
}
static bool ptx_is_exact(const char *ptx, bool inexact, char *what, size_t nwhat) {
  for (const char *s = ptx; s; s = strchr(s, '\n')) {
    s += strspn(s, "\n\t ");
    if (*s == '@') s += strcspn(s, " \n"), s += strspn(s, " ");
    size_t n = strcspn(s, " \t;\n");
    if (exact(s, n, inexact)) continue;
    snprintf(what, nwhat, "%.*s", (int)n, s);
    return false;
  }
  return true;
}

static void check_ptx(Tally *t, const char *name, const char *source, CudaJob *j) {
  size_t bytes;
  bool from_disk;
  const char *why = "";
  char what[80] = "";
  const char *ptx = cuda_build_wait(j, &bytes, &from_disk, &why);
  bool ok = ptx && ptx_is_exact(ptx, calls_inexact(source), what, sizeof what);
  if (!ok) printf("FAIL %s, PTX: %s\n", name, ptx ? what : why);
  ok ? t->passed++ : t->failed++;
  cuda_build_release(j);
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
  bool ptx;
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
      to[n].ptx = name[-1] == 'p';
      to[n++].name = name + 1;
    }
  }
  return n;
}

/* All sources for one target; false: there is no NVRTC. */
static bool check_target(Tally *t, int arch, bool ptx, int n, Source *source, char *why, size_t nwhy) {
  CudaBuild *b = cuda_build_new(arch, 0, (int)sysconf(_SC_NPROCESSORS_ONLN), NULL, why, nwhy);
  if (!b) return false;
  if (ptx) cuda_build_as_ptx(b);
  for (Source *x = source; x < source + n; x++)
    if (x->arch == arch && x->ptx == ptx) x->job = cuda_build_start(b, x->text);
  for (Source *x = source; x < source + n; x++) {
    if (x->arch != arch || x->ptx != ptx) continue;
    ptx ? check_ptx(t, x->name, x->text, x->job) : check(t, arch, x->name, x->text, x->job);
  }
  cuda_build_free(b);
  return true;
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
  for (int a = 0; a < 6; a++)
    if (!check_target(&t, arch[a / 2], a % 2, n, source, why, sizeof why)) {
      printf("skipped: %s\n", why);
      return 0;
    }
  for (int i = 0; i < n; i++) free(source[i].text);
  free(source), free(list);
  printf("most registers %d; functions that spill %d\n%d passed, %d failed\n", t.most_registers, t.spills, t.passed,
         t.failed);
  return t.failed != 0 || !t.passed;
}
