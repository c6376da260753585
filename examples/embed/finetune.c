/* Trains the net of finetune.tg on the first images of an IDX file, in C:
 *   tg build finetune.tg -o libfinetune.so && cc finetune.c -I. -L. -lfinetune -Wl,-rpath,. -o finetune
 *   ./finetune IMAGES LABELS STEPS */
#include "finetune.h"
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 64, PIXELS = 784 };

int main(int argc, char **argv) {
  FILE *images = argc == 4 ? fopen(argv[1], "rb") : NULL, *labels = argc == 4 ? fopen(argv[2], "rb") : NULL;
  if (!images || !labels) return fprintf(stderr, "usage: finetune IMAGES LABELS STEPS\n"), 2;
  fseek(images, 16, SEEK_SET), fseek(labels, 8, SEEK_SET);
  static unsigned char pixel[BATCH * PIXELS], label[BATCH];
  static float x[BATCH * PIXELS];
  int64_t guess[BATCH];
  int32_t y[BATCH];
  float loss;

  finetune_context *context;
  int status = finetune_create(NULL, &context), right = 0;
  for (int k = 0; k < atoi(argv[3]) && !status; k++) {
    if (fread(pixel, 1, sizeof pixel, images) != sizeof pixel || fread(label, 1, BATCH, labels) != BATCH) break;
    for (int i = 0; i < BATCH * PIXELS; i++) x[i] = pixel[i] / 255.0f;
    for (int i = 0; i < BATCH; i++) y[i] = label[i];
    status = finetune_step(context, x, y, &loss);
    printf("%.9g\n", loss);
  }
  if (!status) status = finetune_classify(context, BATCH, x, guess);
  for (int i = 0; i < BATCH && !status; i++) right += guess[i] == y[i];
  if (status) return fprintf(stderr, "%s\n", finetune_strerror(status)), 1;
  printf("%d of the last %d right\n", right, BATCH);
  finetune_destroy(context);
  return 0;
}
