/* IDX plain and gzipped, and where Fashion-MNIST is looked for. */
#include "native_support.h"

static const DType storable[] = {DT_U8, DT_I8, DT_I16, DT_I32, DT_F32, DT_F64};

Test(native_idx, round_trip, .fini = done) {
  Fault f;
  static const struct {
    int rank;
    int64_t dim[3];
  } shapes[] = {{0, {0}}, {1, {0}}, {1, {7}}, {2, {3, 4}}, {3, {2, 3, 5000}}};
  for (size_t t = 0; t < sizeof storable / sizeof *storable; t++)
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
      for (int gz = 0; gz < 2; gz++) {
        Tensor x = make(storable[t], shapes[s].rank, shapes[s].dim);
        for (int64_t i = 0; i < tensor_count(&x); i++)
          put(&x, i, (double)(i % 101) * (dt_is_float(storable[t]) ? 0.3 : 1));
        const char *path = file(gz ? "x-idx-ubyte.gz" : "x.idx");
        cr_assert_eq(file_kind(path), FILE_IDX);
        cr_assert(call("save_idx", NULL, PATH_ATTR(path), 1, &x, 0, NULL, &f), "%s", f.msg);
        FileTensor h;
        cr_assert(idx_header(path, &h, &f), "%s", f.msg);
        cr_assert(h.dtype == x.dtype && h.rank == x.rank && !memcmp(h.dim, x.dim, sizeof h.dim[0] * (size_t)h.rank));
        Tensor y = make(h.dtype, h.rank, h.dim);
        cr_assert(call("load_idx", NULL, PATH_ATTR(path), 0, NULL, 1, &y, &f), "%s", f.msg);
        cr_assert(!memcmp(x.data, y.data, tensor_bytes(&x)));
        uint8_t magic[2];
        read_bytes(path, magic, 2);
        cr_assert(gz ? magic[0] == 0x1f && magic[1] == 0x8b : magic[0] == 0 && magic[1] == 0);
      }
}

Test(native_idx, known_bytes, .fini = done) {
  Fault f;
  Tensor x = of(DT_I16, DIMS(1, 2), (double[]){258, -2});
  cr_assert(call("save_idx", NULL, PATH_ATTR(file("x.idx")), 1, &x, 0, NULL, &f));
  uint8_t got[32];
  static const uint8_t want[] = {0, 0, 0x0b, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 0xff, 0xfe};
  cr_assert(read_bytes(file("x.idx"), got, sizeof got) == sizeof want && !memcmp(got, want, sizeof want));
}

static bool whole(const char *path) {
  Fault f = {0};
  FileTensor h;
  if (!idx_header(path, &h, &f)) {
    cr_assert_eq(f.id, M_FILE);
    return false;
  }
  Tensor y;
  if (!tensor_alloc(&y, h.dtype, h.rank, h.dim)) return false;
  bool ok = call("load_idx", NULL, PATH_ATTR(path), 0, NULL, 1, &y, &f);
  tensor_drop(&y);
  return ok;
}

Test(native_idx, damage, .fini = done) {
  Fault f;
  Tensor x = make(DT_I32, DIMS(3, 5));
  for (int gz = 0; gz < 2; gz++) {
    const char *path = file(gz ? "x.idx.gz" : "x.idx");
    cr_assert(call("save_idx", NULL, PATH_ATTR(path), 1, &x, 0, NULL, &f));
    uint8_t buf[512];
    size_t n = read_bytes(path, buf, sizeof buf);
    cr_assert(whole(path));
    for (size_t cut = 0; cut < n; cut++) {
      write_bytes(file("cut"), buf, cut);
      cr_assert_not(whole(file("cut")), "accepted after %zu of %zu bytes", cut, n);
    }
    write_bytes(file("cut"), buf, n);
    cr_assert_eq(run_shell("printf x >> '%s'", file("cut")), 0);
    if (!gz) cr_assert_not(whole(file("cut")), "accepted with a byte too many");
    for (size_t i = 0; i < n; i++)
      for (int bit = 0; bit < 8; bit++) {
        buf[i] ^= (uint8_t)(1 << bit);
        write_bytes(file("cut"), buf, n);
        whole(file("cut"));
        buf[i] ^= (uint8_t)(1 << bit);
      }
  }
}

Test(native_idx, refusals, .fini = done) {
  static const uint8_t big[] = {0, 0, 0x0e, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
  static const uint8_t axes[] = {0, 0, 0x08, 17};
  Fault f = {0};
  FileTensor h;
  write_bytes(file("a"), big, sizeof big), write_bytes(file("b"), axes, sizeof axes);
  cr_assert(!idx_header(file("a"), &h, &f) && strstr(f.msg, "too large"), "%s", f.msg);
  cr_assert(!idx_header(file("b"), &h, &f) && strstr(f.msg, "axes"));
  cr_assert(!idx_header(file("c"), &h, &f) && strstr(f.msg, "no such file"));
  static const uint8_t promise[] = {0, 0, 0x08, 2, 0, 1,
                                    0, 0, 0,    1, 0, 0}; /* 4 GB in 12 bytes: refused before any memory */
  write_bytes(file("d"), promise, sizeof promise);
  cr_assert(!idx_header(file("d"), &h, &f) && strstr(f.msg, "truncated"));
  Tensor i = make(DT_I64, DIMS(2));
  cr_assert(!call("save_idx", NULL, PATH_ATTR(file("i.idx")), 1, &i, 0, NULL, &f) && strstr(f.msg, "i64"));
}

Test(native_idx, kinds) {
  cr_assert(file_kind("a.npy") == FILE_NPY && file_kind("A.NPZ") == FILE_NPZ && file_kind("x/y.csv") == FILE_CSV);
  cr_assert(file_kind("a.csv.gz") == FILE_CSV && file_kind("train-images-idx3-ubyte.gz") == FILE_IDX);
  cr_assert(file_kind("a") == FILE_UNKNOWN && file_kind("") == FILE_UNKNOWN && file_kind(".gz") == FILE_UNKNOWN);
}

Test(native_idx, fashion_mnist, .fini = done) {
  Fault f = {0};
  Arena *a = arena_new();
  FashionFiles p;
  cr_assert_eq(run_shell("mkdir -p '%s/fashion-mnist' && cd '%s/fashion-mnist' && touch train-images-idx3-ubyte "
                         "train-labels-idx1-ubyte.gz "
                         "t10k-images-idx3-ubyte.gz",
                         file(""), folder),
               0);
  cr_assert_eq(setenv("TG_DATA_DIR", folder, 1), 0);
  bool system_wide = access("/usr/share/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz", R_OK) == 0;
  bool found = fashion_mnist_find(a, folder, &p, &f); /* three of four: not this folder */
  cr_assert_eq(found, system_wide);
  if (!found) cr_assert(f.id == M_FILE && strstr(f.msg, "dataset-fashion-mnist"));
  cr_assert_eq(run_shell("touch '%s/fashion-mnist/t10k-labels-idx1-ubyte.gz'", folder), 0);
  cr_assert(fashion_mnist_find(a, NULL, &p, &f));
  cr_assert(strstr(p.train_x, folder) && !strstr(p.train_x, ".gz") && strstr(p.test_y, "t10k-labels-idx1-ubyte.gz"));
  unsetenv("TG_DATA_DIR");
  cr_assert(fashion_mnist_find(a, folder, &p, &f) && strstr(p.train_y, folder));
  arena_free(a);
}

Test(native_idx, fashion_mnist_itself) {
  Fault f = {0};
  Arena *a = arena_new();
  FashionFiles p;
  unsetenv("TG_DATA_DIR");
  if (!fashion_mnist_find(a, NULL, &p, &f)) cr_skip_test("dataset-fashion-mnist is not installed");
  FileTensor h, hy;
  cr_assert(idx_header(p.test_x, &h, &f) && h.dtype == DT_U8 && h.rank == 3 && h.dim[0] == 10000 && h.dim[1] == 28 &&
            h.dim[2] == 28);
  cr_assert(idx_header(p.test_y, &hy, &f) && hy.rank == 1 && hy.dim[0] == 10000);
  Tensor x = make(h.dtype, h.rank, h.dim), y = make(hy.dtype, hy.rank, hy.dim);
  cr_assert(call("load_idx", NULL, PATH_ATTR(p.test_x), 0, NULL, 1, &x, &f) &&
            call("load_idx", NULL, PATH_ATTR(p.test_y), 0, NULL, 1, &y, &f));
  int64_t count[10] = {0};
  for (int i = 0; i < 10000; i++) count[((uint8_t *)y.data)[i]]++;
  for (int k = 0; k < 10; k++) cr_assert_eq(count[k], 1000);
  arena_free(a);
}
