/* libFuzzer: the safetensors reader (and the JSON reader below it): header, checksum, data. */
#include "fuzz_file.h"
#include "stdlib/native/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  MemFile m = mem_file(data, n);
  Arena *a = arena_new();
  Fault f = {0};
  StFile s;
  bool ok = st_list(a, m.path, &s, &f);
  if (ok != (f.id == E_NONE)) abort();
  for (int k = 0; ok && k < s.n && k < 4; k++) {
    const StTensor *t = &s.tensor[k];
    Tensor x;
    if (t->at + t->bytes > n) abort();
    if (!t->known || !small_result(&x, &t->type)) continue;
    fuzz_native(a, "load_safetensors")
        ->run(NULL, 3, (Attr[]){{.s = m.path}, {.i = 0}, {.s = t->name}}, 0, NULL, 1, &x, &f);
    tensor_drop(&x);
  }
  arena_free(a);
  close(m.fd);
  return 0;
}
