/* NVRTC's entry points: the source, behind shim.h, goes through a C compiler; the image is the library's bytes
 * (fake.h). */
#include "tests/cuda_host/fake.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Program {
  char *source, *image;
  size_t n;
  char log[4096];
} Program;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the driver's counters */

static int fails(const char *call) {
  pthread_mutex_lock(&lock);
  int r = fake_fails(call);
  pthread_mutex_unlock(&lock);
  return r;
}

static bool racing(void) {
  const char *s = getenv("TG_FAKE_RACE");
  return s && *s == '1';
}

int nvrtcVersion(int *major, int *minor) {
  int r = fails("nvrtcVersion");
  const char *s = getenv("TG_FAKE_NVRTC");
  *major = s ? atoi(s) : 0, *minor = racing() ? 2 : 1; /* images on disk are told apart */
  return r;
}
int nvrtcGetNumSupportedArchs(int *n) {
  *n = 3;
  return fails("nvrtcGetNumSupportedArchs");
}
int nvrtcGetSupportedArchs(int *arch) {
  arch[0] = 75, arch[1] = 80, arch[2] = 90;
  return fails("nvrtcGetSupportedArchs");
}

int nvrtcCreateProgram(void **p, const char *src, const char *name, int nheader, const char *const *header,
                       const char *const *names) {
  int r = fails("nvrtcCreateProgram");
  if (r) return r;
  Program *x = calloc(1, sizeof *x);
  x->source = strdup(src);
  *p = x;
  return 0;
}
int nvrtcDestroyProgram(void **p) {
  Program *x = *p;
  free(x->source);
  free(x->image);
  free(x);
  *p = NULL;
  return fails("nvrtcDestroyProgram");
}

/* By this number the source's barriers can be taken out. */
static uint64_t number_of(const char *source) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char *s = source; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001b3u;
  return h;
}

static void keep(const char *source) {
  const char *folder = getenv("TG_FAKE_KEEP");
  char path[4096];
  if (!folder) return;
  snprintf(path, sizeof path, "%s/%016llx.cu", folder, (unsigned long long)number_of(source));
  FILE *f = fopen(path, "w");
  if (!f) return;
  fputs(source, f);
  fclose(f);
}

static bool read_image(Program *x, const char *path) {
  struct stat st;
  FILE *f = fopen(path, "rb");
  if (!f) return false;
  bool ok = fstat(fileno(f), &st) == 0;
  if (ok) {
    uint64_t n = (uint64_t)st.st_size;
    x->n = n + 16;
    x->image = calloc(1, x->n);
    memcpy(x->image, "TGSO", 4);
    memcpy(x->image + 8, &n, 8);
    ok = fread(x->image + 16, 1, n, f) == n;
  }
  fclose(f);
  return ok;
}

/* Bytes of the scratch, by what the source says; of one that is not a kernel's: any. */
static unsigned long long scratch_of(const char *source) {
  static const char says[] = "char *scratch; /* ";
  const char *at = strstr(source, says);
  return at ? strtoull(at + strlen(says), NULL, 10) : 0xffffffffu;
}

int nvrtcCompileProgram(void *p, int noption, const char *const *option) {
  int r = fails("nvrtcCompileProgram");
  if (r) return r;
  Program *x = p;
  const char *cc = getenv("TG_FAKE_CC");
  char dir[] = "/tmp/tgfakeXXXXXX", src[64], so[64], log[64], cmd[2048];
  if (!mkdtemp(dir)) return 1;
  snprintf(src, sizeof src, "%s/k.c", dir);
  snprintf(so, sizeof so, "%s/k.so", dir);
  snprintf(log, sizeof log, "%s/log", dir);
  keep(x->source);
  bool waits = strstr(x->source, "__syncthreads") || strstr(x->source, "tg_down(") || strstr(x->source, "tg_mma_");
  const char *body = strstr(x->source, "typedef struct TgArgs"); /* behind the prelude, which names them all */
  if (body) waits = strstr(body, "__syncthreads") || strstr(body, "tg_down(") || strstr(body, "tg_mma_");
  FILE *f = fopen(src, "w");
  fprintf(f,
          "#include \"%s\"\n#line 1 \"kernel.cu\"\n%s\nconst unsigned long long tg_about[5] = {sizeof(TgArgs), %d, %d, "
          "0x%llxu, %llu};\n",
          TG_SHIM, x->source, waits, racing(), (unsigned long long)number_of(x->source), scratch_of(x->source));
  fclose(f);
  if (racing()) /* linked without the run time: shim.h has its own */
    snprintf(cmd, sizeof cmd,
             "gcc -O1 -fPIC -w -fsanitize=thread -c -o %s/k.o %s >%s 2>&1 && gcc -shared -o %s %s/k.o -lm >>%s 2>&1; "
             "rm -f %s/k.o",
             dir, src, log, so, dir, log, dir);
  else
    snprintf(cmd, sizeof cmd, "%s -shared -fPIC -w -o %s %s -lm >%s 2>&1", cc && *cc ? cc : "tcc", so, src, log);
  r = system(cmd) ? 6 : 0;
  if (!r && !read_image(x, so)) r = 6;
  f = fopen(log, "r");
  if (f) {
    size_t got = fread(x->log, 1, sizeof x->log - 1, f);
    x->log[got] = 0;
    fclose(f);
  }
  unlink(src), unlink(so), unlink(log), rmdir(dir);
  return r;
}
int nvrtcGetProgramLogSize(void *p, size_t *n) {
  *n = strlen(((Program *)p)->log) + 1;
  return fails("nvrtcGetProgramLogSize");
}
int nvrtcGetProgramLog(void *p, char *log) {
  strcpy(log, ((Program *)p)->log);
  return fails("nvrtcGetProgramLog");
}
int nvrtcGetCUBINSize(void *p, size_t *n) {
  *n = ((Program *)p)->n;
  return fails("nvrtcGetCUBINSize");
}
int nvrtcGetCUBIN(void *p, char *image) {
  memcpy(image, ((Program *)p)->image, ((Program *)p)->n);
  return fails("nvrtcGetCUBIN");
}
int nvrtcGetPTXSize(void *p, size_t *n) {
  *n = ((Program *)p)->n;
  return fails("nvrtcGetPTXSize");
}
int nvrtcGetPTX(void *p, char *image) {
  memcpy(image, ((Program *)p)->image, ((Program *)p)->n);
  return fails("nvrtcGetPTX");
}
const char *nvrtcGetErrorString(int r) {
  return r == 6 ? "NVRTC_ERROR_COMPILATION" : r == 2 ? "NVRTC_ERROR_OUT_OF_MEMORY" : "NVRTC_ERROR";
}
