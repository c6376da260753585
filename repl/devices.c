/* `tg devices`: what programs can run on, and what is missing for the rest. */
#include "cli.h"
#include "codegen/cuda/session.h"
#include "dist/nccl_api.h"
#include <unistd.h>

/* The newest CUDA that its driver knows, or 0. */
static int show_device(FILE *out, int index) {
  char why[1024];
  RtDevice *d = rt_cuda.open(index, why, sizeof why);
  if (!d) {
    fprintf(out, "cuda %d   %s\n", index, why);
    return 0;
  }
  int driver = d->driver;
  fprintf(out, "cuda %d   %s, compute capability %d.%d, %.1f GiB; driver for CUDA %d.%d\n", index, d->name,
          d->arch / 10, d->arch % 10, (double)d->memory / (1 << 30), driver / 1000, driver % 1000 / 10);
  d->op->close(d);
  return driver;
}

static void show_nvrtc(FILE *out, int driver) {
  char why[1024];
  int major, minor;
  CudaBuild *b = cuda_build_new(75, driver, 1, NULL, why, sizeof why);
  if (!b) {
    fprintf(out, "nvrtc    none: %s\n", why);
    return;
  }
  cuda_build_version(b, &major, &minor);
  fprintf(out, "nvrtc    %d.%d, %s\n", major, minor, cuda_build_library(b));
  cuda_build_free(b);
}

static void show_nccl(FILE *out) {
  char why[1024];
  NcclLib n = {0};
  if (!nccl_find(&n, why, sizeof why)) {
    fprintf(out, "nccl     none: %s\n", why);
    return;
  }
  fprintf(out, "nccl     %d.%d.%d, %s\n", n.version / 10000, n.version / 100 % 100, n.version % 100, nccl_path(&n));
}

void devices_run(FILE *out) {
  char why[1024];
  int n = rt_cuda.count(why, sizeof why), driver = 0;
  fprintf(out, "cpu      %ld processors\n", sysconf(_SC_NPROCESSORS_ONLN));
  for (int i = 0; i < n; i++) {
    int knows = show_device(out, i);
    if (knows) driver = knows;
  }
  if (n < 0) fprintf(out, "cuda     none: %s\n", why);
  if (!n) fprintf(out, "cuda     none: the driver shows no device\n");
  show_nvrtc(out, driver);
  show_nccl(out);
}
