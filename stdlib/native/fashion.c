/* Kinds of files by name, and where Fashion-MNIST lies. */
#include "stdlib/native/io.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- kinds ---------------------------------------------------------------------------------------------------- */
static bool ends_with(const char *s, size_t n, const char *tail) {
  size_t t = strlen(tail);
  return n >= t && !strncasecmp(s + n - t, tail, t);
}

FileKind file_kind(const char *path) {
  size_t n = strlen(path);
  if (ends_with(path, n, ".npy")) return FILE_NPY;
  if (ends_with(path, n, ".npz")) return FILE_NPZ;
  if (ends_with(path, n, ".safetensors")) return FILE_SAFETENSORS;
  if (ends_with(path, n, ".gz")) n -= 3;
  if (ends_with(path, n, ".csv")) return FILE_CSV;
  if (ends_with(path, n, ".idx") || ends_with(path, n, "-ubyte")) return FILE_IDX;
  return FILE_UNKNOWN;
}

/* ---- Fashion-MNIST -------------------------------------------------------------------------------------------- */
static const char *const names[4] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                                     "t10k-labels-idx1-ubyte"};

static bool all_in(Arena *a, const char *folder, FashionFiles *out) {
  const char *found[4];
  for (int k = 0; k < 4; k++) {
    found[k] = arena_printf(a, "%s/%s", folder, names[k]);
    if (access(found[k], R_OK) == 0) continue;
    found[k] = arena_printf(a, "%s.gz", found[k]);
    if (access(found[k], R_OK) != 0) return false;
  }
  *out = (FashionFiles){found[0], found[1], found[2], found[3]};
  return true;
}

bool fashion_mnist_find(Arena *a, const char *beside, FashionFiles *out, Fault *f) {
  const char *data = getenv("TG_DATA_DIR");
  if (data && *data && all_in(a, arena_printf(a, "%s/fashion-mnist", data), out)) return true;
  if (beside && (all_in(a, arena_printf(a, "%s/fashion-mnist", beside), out) || all_in(a, beside, out))) return true;
  if (all_in(a, "/usr/share/datasets/fashion-mnist", out)) return true;
  fault_set(
      f, M_FILE, (Span){0},
      "Fashion-MNIST is not installed; on Debian: apt install dataset-fashion-mnist, or set TG_DATA_DIR to the folder "
      "that holds fashion-mnist/%s.gz and its three companions",
      names[0]);
  return false;
}
