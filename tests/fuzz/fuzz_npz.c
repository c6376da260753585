/* libFuzzer: the npz reader: the archive's directory, the members' headers and data. */
#include "fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  MemFile m = mem_file(data, n);
  Arena *a = arena_new();
  Fault f = {0};
  NpzMember *member;
  int count;
  bool ok = npz_list(a, m.path, &count, &member, &f);
  for (int k = 0; ok && k < count && k < 4; k++) {
    Tensor x;
    if (!small_result(&x, &member[k].type)) continue;
    fuzz_native(a, "load_npz")->run(NULL, 2, (Attr[]){{.s = m.path}, {.s = member[k].name}}, 0, NULL, 1, &x, &f);
    tensor_drop(&x);
  }
  arena_free(a);
  close(m.fd);
  return 0;
}
