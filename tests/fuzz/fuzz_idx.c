/* libFuzzer: the idx reader, header and data. */
#include "fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  MemFile m = mem_file(data, n);
  Fault f = {0};
  FileTensor h;
  Tensor x;
  if (idx_header(m.path, &h, &f) && small_result(&x, &h)) {
    Arena *a = arena_new();
    fuzz_native(a, "load_idx")->run(NULL, 1, (Attr[]){{.s = m.path}}, 0, NULL, 1, &x, &f);
    arena_free(a);
    tensor_drop(&x);
  }
  close(m.fd);
  return 0;
}
