/* libFuzzer: PNG and JPEG: the headers here, and what goes on to libpng and libturbojpeg (not instrumented). */
#include "fuzz_file.h"
#include "stdlib/native/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  MemFile m = mem_file(data, n);
  Fault f = {0};
  int64_t w, h;
  int channels;
  bool ok = image_info(m.path, &w, &h, &channels, &f);
  if (ok != (f.id == E_NONE)) abort();
  if (ok && w * h <= 1 << 16) { /* larger ones are slow to fill */
    int want = 1 + (int)(n % 4);
    uint8_t *px = malloc((size_t)(w * h) * (size_t)want);
    if (!px) abort();
    image_read(m.path, w, h, want, px, &f);
    free(px);
  }
  close(m.fd);
  return 0;
}
