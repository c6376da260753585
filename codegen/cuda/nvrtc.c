/* See nvrtc.h. */
#include "codegen/cuda/nvrtc.h"
#include "codegen/cpu/cache.h"
#include "codegen/rt/search.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 64 };

/* One operation is one rounding; no shortcuts for subnormals. The log tells registers and spills. */
#define OPTIONS                                                                                                        \
  "--std=c++17", "--fmad=false", "--prec-div=true", "--prec-sqrt=true", "--ftz=false", "--ptxas-options=-v"
enum { NOPTION = sizeof(const char *[]){OPTIONS} / sizeof(const char *) };

/* ---- The library's interface ------------------------------------------------------------------------------------- */
#define NVRTC(X)                                                                                                       \
  X(nvrtcVersion, (int *major, int *minor))                                                                            \
  X(nvrtcGetNumSupportedArchs, (int *n))                                                                               \
  X(nvrtcGetSupportedArchs, (int *arch))                                                                               \
  X(nvrtcCreateProgram,                                                                                                \
    (void **p, const char *src, const char *name, int nheader, const char *const *header, const char *const *names))   \
  X(nvrtcDestroyProgram, (void **p))                                                                                   \
  X(nvrtcCompileProgram, (void *p, int noption, const char *const *option))                                            \
  X(nvrtcGetProgramLogSize, (void *p, size_t *n))                                                                      \
  X(nvrtcGetProgramLog, (void *p, char *log))                                                                          \
  X(nvrtcGetCUBINSize, (void *p, size_t *n))                                                                           \
  X(nvrtcGetCUBIN, (void *p, char *image))                                                                             \
  X(nvrtcGetPTXSize, (void *p, size_t *n))                                                                             \
  X(nvrtcGetPTX, (void *p, char *image))

typedef struct Nvrtc {
#define FIELD(name, params) int(*name) params;
  NVRTC(FIELD)
#undef FIELD
  const char *(*nvrtcGetErrorString)(int r);
} Nvrtc;

struct CudaJob {
  CudaBuild *b;
  CudaJob *next, *all; /* in the queue; of the build */
  char *source, *log, *why;
  char *image;
  size_t bytes;
  bool finished, from_disk;
};

struct CudaBuild {
  Nvrtc rt;
  void *lib;
  char name[512];
  char *cache_dir;
  int major, minor, arch, driver;
  char newer[600]; /* a library that the driver is too old for */
  bool native;     /* the library makes machine code for arch; else PTX for `arch` */
  pthread_mutex_t lock;
  pthread_cond_t work, ready;
  pthread_t thread[MAX_THREADS];
  int nthread, max_thread, idle;
  bool end;
  CudaJob *first, **last, *all;
};

/* ---- Finding the library ----------------------------------------------------------------------------------------- */
static bool entries(Nvrtc *rt, void *lib) {
  struct {
    const char *name;
    void **at;
  } entry[] = {
#define ENTRY(name, params) {#name, (void **)(void *)&rt->name},
      NVRTC(ENTRY)
#undef ENTRY
          {"nvrtcGetErrorString", (void **)(void *)&rt->nvrtcGetErrorString},
  };
  for (size_t i = 0; i < sizeof entry / sizeof *entry; i++)
    if (!(*entry[i].at = dlsym(lib, entry[i].name))) return false;
  return true;
}

static bool try_library(void *ctx, const char *path) {
  CudaBuild *b = ctx;
  void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!lib) return false;
  if (entries(&b->rt, lib) && !b->rt.nvrtcVersion(&b->major, &b->minor)) {
    if (!b->driver || b->major <= b->driver / 1000) {
      b->lib = lib;
      snprintf(b->name, sizeof b->name, "%s", path);
      return true;
    }
    snprintf(b->newer, sizeof b->newer, "%s, of CUDA %d.%d", path, b->major, b->minor);
  }
  dlclose(lib);
  return false;
}

/* The folders of toolkits and of Python's packages. */
static const char *const folders[] = {"%s/lib/python3*/site-packages/nvidia/cu*/lib/libnvrtc.so.1[0-9]",
                                      "%s/lib/python3*/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.1[0-9]",
                                      "/usr/local/cuda/lib64/libnvrtc.so",
                                      "/usr/local/cuda-*/lib64/libnvrtc.so",
                                      "/opt/cuda/lib64/libnvrtc.so",
                                      "/usr/lib/x86_64-linux-gnu/libnvrtc.so.1[0-9]*"};

static bool find_library(CudaBuild *b, char *why, size_t nwhy) {
  static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"};
  const char *given = getenv("TG_NVRTC");
  if (given && *given) {
    b->driver = 0; /* whoever names it knows better */
    if (try_library(b, given)) return true;
    const char *text = dlerror();
    snprintf(why, nwhy, "TG_NVRTC does not name NVRTC, CUDA's compiler library: %s", text ? text : given);
    return false;
  }
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (try_library(b, names[i])) return true;
  if (rt_search(sizeof folders / sizeof *folders, folders, try_library, b)) return true;
  int major = b->driver / 1000;
  if (*b->newer)
    snprintf(why, nwhy,
             "%s, is too new for the driver, of CUDA %d.%d; install a newer driver, or an older library (pip install "
             "nvidia-cuda-nvrtc-cu%d)",
             b->newer, major, b->driver % 1000 / 10, major < 12 ? major : 12);
  else
    snprintf(why, nwhy,
             "libnvrtc, CUDA's compiler library, was not found (libnvrtc.so.13, .12 or .11.2, in CUDA's and Python's "
             "folders); install it (pip install nvidia-cuda-nvrtc-cu12) or name it by TG_NVRTC");
  return false;
}

/* Machine code for the newest architecture that the library knows and the device runs: its own; else PTX, which the
 * driver translates. */
static bool choose_arch(CudaBuild *b, int arch, char *why, size_t nwhy) {
  int n = 0, known[256];
  if (b->rt.nvrtcGetNumSupportedArchs(&n) || n < 1 || n > 256 || b->rt.nvrtcGetSupportedArchs(known)) {
    snprintf(why, nwhy, "%s does not say which architectures it knows", b->name);
    return false;
  }
  b->arch = 0;
  for (int i = 0; i < n; i++)
    if (known[i] <= arch && known[i] > b->arch) b->arch = known[i];
  b->native = b->arch == arch;
  if (b->arch >= 75) return true;
  snprintf(why, nwhy, "%s (%d.%d) knows no architecture for compute capability %d.%d", b->name, b->major, b->minor,
           arch / 10, arch % 10);
  return false;
}

CudaBuild *cuda_build_new(int arch, int driver, int threads, const char *cache_dir, char *why, size_t nwhy) {
  CudaBuild *b = calloc(1, sizeof *b);
  if (!b) {
    snprintf(why, nwhy, "out of memory");
    return NULL;
  }
  b->last = &b->first;
  b->driver = driver;
  b->max_thread = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
  pthread_mutex_init(&b->lock, NULL);
  pthread_cond_init(&b->work, NULL);
  pthread_cond_init(&b->ready, NULL);
  if (cache_dir) b->cache_dir = strdup(cache_dir);
  if (find_library(b, why, nwhy) && choose_arch(b, arch, why, nwhy)) return b;
  cuda_build_free(b);
  return NULL;
}

void cuda_build_as_ptx(CudaBuild *b) { b->native = false; }
const char *cuda_build_library(const CudaBuild *b) { return b->name; }
void cuda_build_version(const CudaBuild *b, int *major, int *minor) { *major = b->major, *minor = b->minor; }

/* ---- One compilation --------------------------------------------------------------------------------------------- */
static char *format(const char *fmt, const char *a, const char *c) {
  char *s = NULL;
  return asprintf(&s, fmt, a, c) < 0 ? NULL : s;
}

static void take_log(Nvrtc *rt, void *program, CudaJob *j) {
  size_t n = 0;
  if (rt->nvrtcGetProgramLogSize(program, &n) || n < 1 || n > (size_t)1 << 26) return;
  j->log = malloc(n + 1);
  if (!j->log) return;
  j->log[n] = 0;
  if (rt->nvrtcGetProgramLog(program, j->log)) j->log[0] = 0;
}

static int take_image(CudaBuild *b, void *program, CudaJob *j) {
  Nvrtc *rt = &b->rt;
  int r = b->native ? rt->nvrtcGetCUBINSize(program, &j->bytes) : rt->nvrtcGetPTXSize(program, &j->bytes);
  if (r) return r;
  j->image = malloc(j->bytes + 1);
  if (!j->image) return 1; /* NVRTC's own number for out of memory */
  j->image[j->bytes] = 0;
  r = b->native ? rt->nvrtcGetCUBIN(program, j->image) : rt->nvrtcGetPTX(program, j->image);
  if (r) {
    free(j->image);
    j->image = NULL;
  }
  return r;
}

/* Everything that the image depends on. NULL: no cache, or no memory. */
static char *key_of(const CudaBuild *b, const char *arch, const char *source) {
  static const char *const option[] = {OPTIONS};
  char head[400];
  int n = snprintf(head, sizeof head, "cuda %d.%d %s", b->major, b->minor, arch);
  for (int i = 0; i < NOPTION; i++) n += snprintf(head + n, sizeof head - (size_t)n, " %s", option[i]);
  return b->cache_dir ? format("%s\n%s", head, source) : NULL;
}

/* A copy: the driver reads images where they lie, as aligned as its own are. */
static bool take_from_disk(CudaBuild *b, const char *key, CudaJob *j) {
  CacheEntry e;
  if (!cache_get(b->cache_dir, key, &e)) return false;
  j->image = malloc(e.nobject + 1);
  if (j->image) memcpy(j->image, e.object, e.nobject);
  j->bytes = e.nobject;
  j->from_disk = true;
  free(e.block);
  return true;
}

static void compile(CudaBuild *b, CudaJob *j) {
  char arch[48];
  snprintf(arch, sizeof arch, "--gpu-architecture=%s_%d", b->native ? "sm" : "compute", b->arch);
  char *key = key_of(b, arch, j->source);
  if (key && take_from_disk(b, key, j)) {
    free(key);
    return;
  }
  const char *const option[] = {arch, OPTIONS};
  void *program = NULL;
  int r = b->rt.nvrtcCreateProgram(&program, j->source, "kernel.cu", 0, NULL, NULL);
  if (!r) {
    r = b->rt.nvrtcCompileProgram(program, 1 + NOPTION, option);
    take_log(&b->rt, program, j);
  }
  if (!r) r = take_image(b, program, j);
  if (program) b->rt.nvrtcDestroyProgram(&program);
  if (r) j->why = format("NVRTC: %s\n%s", b->rt.nvrtcGetErrorString(r), j->log ? j->log : "");
  if (!r && key) cache_put(b->cache_dir, key, "", 0, j->image, j->bytes);
  free(key);
}

/* ---- Workers ----------------------------------------------------------------------------------------------------- */
static void *work(void *ctx) {
  CudaBuild *b = ctx;
  pthread_mutex_lock(&b->lock);
  for (;;) {
    b->idle++;
    while (!b->first && !b->end) pthread_cond_wait(&b->work, &b->lock);
    b->idle--;
    if (!b->first) break;
    CudaJob *j = b->first;
    b->first = j->next;
    if (!b->first) b->last = &b->first;
    pthread_mutex_unlock(&b->lock);
    compile(b, j);
    pthread_mutex_lock(&b->lock);
    j->finished = true;
    pthread_cond_broadcast(&b->ready);
  }
  pthread_mutex_unlock(&b->lock);
  return NULL;
}

CudaJob *cuda_build_start(CudaBuild *b, const char *source) {
  CudaJob *j = calloc(1, sizeof *j);
  if (j) j->source = strdup(source);
  if (!j || !j->source) {
    free(j);
    return NULL;
  }
  j->b = b;
  pthread_mutex_lock(&b->lock);
  j->all = b->all;
  b->all = j;
  *b->last = j;
  b->last = &j->next;
  if (!b->idle && b->nthread < b->max_thread && !pthread_create(&b->thread[b->nthread], NULL, work, b)) b->nthread++;
  bool alone = b->nthread == 0; /* the system refuses threads: here and now */
  if (alone) {
    b->first = NULL;
    b->last = &b->first;
  }
  pthread_cond_signal(&b->work);
  pthread_mutex_unlock(&b->lock);
  if (alone) {
    compile(b, j);
    j->finished = true;
  }
  return j;
}

const void *cuda_build_wait(CudaJob *j, size_t *bytes, bool *from_disk, const char **why) {
  CudaBuild *b = j->b;
  pthread_mutex_lock(&b->lock);
  while (!j->finished) pthread_cond_wait(&b->ready, &b->lock);
  pthread_mutex_unlock(&b->lock);
  *bytes = j->bytes;
  *from_disk = j->from_disk;
  if (!j->image) *why = j->why ? j->why : "out of memory";
  return j->image;
}

const char *cuda_build_log(CudaJob *j) { return j->log ? j->log : ""; }

void cuda_build_release(CudaJob *j) {
  free(j->image);
  free(j->log);
  free(j->source);
  j->image = j->log = j->source = NULL;
}

void cuda_build_free(CudaBuild *b) {
  if (!b) return;
  pthread_mutex_lock(&b->lock);
  b->end = true;
  pthread_cond_broadcast(&b->work);
  pthread_mutex_unlock(&b->lock);
  for (int i = 0; i < b->nthread; i++) pthread_join(b->thread[i], NULL);
  for (CudaJob *j = b->all, *next; j; j = next) {
    next = j->all;
    cuda_build_release(j);
    free(j->why);
    free(j);
  }
  pthread_mutex_destroy(&b->lock);
  pthread_cond_destroy(&b->work);
  pthread_cond_destroy(&b->ready);
  if (b->lib) dlclose(b->lib);
  free(b->cache_dir);
  free(b);
}
