/* Many compilations at once through a CudaBuild, for ThreadSanitizer (tests/check/cuda_runs): good and bad sources,
 * waited for in another order than started, some never; twice, so that the second time images come from disk. Usage:
 * parallel CACHE_FOLDER; prints what differs. */
#include "codegen/cuda/nvrtc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JOBS = 40, BAD = 7, WAITED = 30 };

static int failures;
#define CHECK(c) ((c) ? (void)0 : (void)(failures++, printf("line %d: %s\n", __LINE__, #c)))

static void round_of(const char *cache, bool known) {
  char why[512] = "", source[400];
  CudaBuild *b = cuda_build_new(80, 0, 6, cache, why, sizeof why);
  CudaJob *job[JOBS];
  if (!b) {
    printf("%s\n", why);
    exit(1);
  }
  for (int i = 0; i < JOBS; i++) {
    snprintf(source, sizeof source,
             "typedef struct TgArgs { int *p; } TgArgs;\nTG_KERNEL(k%d, 32) { %s A.p[threadIdx.x] = %d; }\n", i,
             i == BAD ? "no such thing;" : "", i);
    job[i] = cuda_build_start(b, source);
    CHECK(job[i]);
  }
  for (int i = WAITED; i-- > 0;) {
    size_t bytes = 0;
    bool from_disk;
    const char *said = "";
    const void *image = cuda_build_wait(job[i], &bytes, &from_disk, &said);
    CHECK((image != NULL) == (i != BAD));
    CHECK(i != BAD || strstr(said, "NVRTC"));
    CHECK(i == BAD || (bytes > 100 && from_disk == known));
    if (i % 3) cuda_build_release(job[i]);
  }
  cuda_build_free(b);
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  round_of(argv[1], false);
  round_of(argv[1], true);
  return failures != 0;
}
