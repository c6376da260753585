/* Classifies the test images of Fashion-MNIST (unpacked IDX files) with the library of fashion.tg:
 *   tg build fashion.tg -o libfashion.so && cc classify.c -I. -L. -lfashion -Wl,-rpath,. -o classify
 *   ./classify t10k-images-idx3-ubyte t10k-labels-idx1-ubyte */
#include "fashion.h"
#include <stdio.h>
#include <stdlib.h>

enum { N = 10000, PIXELS = 28 * 28 };

static unsigned char *read_body(const char *path, long skip, size_t bytes) {
  FILE *f = fopen(path, "rb");
  unsigned char *p = malloc(bytes);
  if (!f || !p || fseek(f, skip, SEEK_SET) || fread(p, 1, bytes, f) != bytes) return perror(path), exit(1), NULL;
  return fclose(f), p;
}

int main(int argc, char **argv) {
  if (argc != 3) return fprintf(stderr, "usage: classify IMAGES LABELS\n"), 2;
  unsigned char *images = read_body(argv[1], 16, N * PIXELS), *labels = read_body(argv[2], 8, N);
  float *x = malloc(sizeof *x * N * PIXELS), *p = malloc(sizeof *p * N * 10);
  for (int i = 0; i < N * PIXELS; i++) x[i] = images[i] / 255.0f;

  fashion_context *context;
  int status = fashion_create(NULL, &context);
  if (!status) status = fashion_predict(context, N, x, p);
  if (status) return fprintf(stderr, "%s\n", fashion_strerror(status)), 1;
  int right = 0;
  for (int i = 0; i < N; i++) {
    int best = 0;
    for (int k = 1; k < 10; k++)
      if (p[10 * i + k] > p[10 * i + best]) best = k;
    right += best == labels[i];
  }
  printf("%d of %d right\n", right, N);
  fashion_destroy(context);
  return free(images), free(labels), free(x), free(p), 0;
}
