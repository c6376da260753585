/* `tg devices`: what programs can run on, and what is missing for the rest. */
#include "cli.h"
#include "codegen/cuda/session.h"
#include <unistd.h>

static void show_device(FILE *out, int index) {
  char why[1024];
  RtDevice *d = rt_cuda.open(index, why, sizeof why);
  if (!d) {
    fprintf(out, "cuda %d   %s\n", index, why);
    return;
  }
  fprintf(out, "cuda %d   %s, compute capability %d.%d, %.1f GiB; driver for CUDA %d.%d\n", index, d->name,
          d->arch / 10, d->arch % 10, (double)d->memory / (1 << 30), d->driver / 1000, d->driver % 1000 / 10);
  d->op->close(d);
}

void devices_run(FILE *out) {
  char why[1024];
  int n = rt_cuda.count(why, sizeof why), major, minor;
  fprintf(out, "cpu      %ld processors\n", sysconf(_SC_NPROCESSORS_ONLN));
  for (int i = 0; i < n; i++) show_device(out, i);
  if (n < 0) fprintf(out, "cuda     none: %s\n", why);
  if (!n) fprintf(out, "cuda     none: the driver shows no device\n");
  CudaBuild *b = cuda_build_new(75, 1, NULL, why, sizeof why);
  if (!b) {
    fprintf(out, "nvrtc    none: %s\n", why);
    return;
  }
  cuda_build_version(b, &major, &minor);
  fprintf(out, "nvrtc    %d.%d, %s\n", major, minor, cuda_build_library(b));
  cuda_build_free(b);
}
