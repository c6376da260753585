/* npy and npz: round trips, NumPy's own files, other versions and orders, every truncation, every flipped byte. */
#include "native_support.h"
#include "stdlib/native/zip.h"
#include <signal.h>
#include <sys/resource.h>

static const DType storable[] = {DT_BOOL, DT_U8, DT_I8, DT_I16, DT_I32, DT_I64, DT_F16, DT_F32, DT_F64};
enum { NSTORABLE = sizeof storable / sizeof *storable };

static Tensor sample(DType t, int rank, const int64_t *dim) {
  Tensor x = make(t, rank, dim);
  for (int64_t i = 0; i < tensor_count(&x); i++)
    put(&x, i, t == DT_BOOL ? (double)(i % 3 == 1) : (double)(i % 100) * (dt_is_float(t) ? 0.25 : 1));
  return x;
}
static void same(const Tensor *a, const Tensor *b) {
  cr_assert(a->dtype == b->dtype && a->rank == b->rank && !memcmp(a->dim, b->dim, sizeof a->dim[0] * (size_t)a->rank));
  cr_assert(!memcmp(a->data, b->data, tensor_bytes(a)));
}
static Tensor like(const FileTensor *t) { return make(t->dtype, t->rank, t->dim); }

static const struct {
  int rank;
  int64_t dim[3];
} shapes[] = {{0, {0}}, {1, {0}}, {1, {5}}, {2, {3, 4}}, {2, {0, 4}}, {3, {2, 3, 5}}, {3, {1, 1, 1}}};
enum { NSHAPES = sizeof shapes / sizeof *shapes };

Test(native_npy, round_trip, .fini = done) {
  Fault f;
  for (int t = 0; t < NSTORABLE; t++)
    for (int s = 0; s < NSHAPES; s++) {
      Tensor x = sample(storable[t], shapes[s].rank, shapes[s].dim);
      const char *path = file("x.npy");
      cr_assert(call("save_npy", NULL, PATH_ATTR(path), 1, &x, 0, NULL, &f), "%s", f.msg);
      FileTensor h;
      cr_assert(npy_header(path, &h, &f), "%s", f.msg);
      Tensor y = like(&h);
      cr_assert(call("load_npy", NULL, PATH_ATTR(path), 0, NULL, 1, &y, &f), "%s", f.msg);
      same(&x, &y);
    }
  cr_assert_eq(run_shell("test $(ls '%s' | wc -l) = 1", folder), 0, "a temporary file was left");
}

Test(native_npy, known_bytes, .fini = done) {
  Fault f;
  Tensor x = VALUES(DT_I16, 3, 1, -2, 300);
  cr_assert(call("save_npy", NULL, PATH_ATTR(file("x.npy")), 1, &x, 0, NULL, &f));
  char got[256], want[512];
  size_t n = read_bytes(file("x.npy"), got, sizeof got);
  int h = snprintf(want, sizeof want, "%s", "\x93NUMPY\x01");
  want[h] = 0, want[h + 1] = 118, want[h + 2] = 0; /* minor version, header length */
  snprintf(want + 10, 200, "%-117s\n", "{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }");
  memcpy(want + 128, "\x01\x00\xfe\xff\x2c\x01", 6);
  cr_assert_eq(n, 134);
  cr_assert(!memcmp(got, want, 134));
}

Test(native_npy, numpy_reads_ours_and_we_read_numpys, .fini = done) {
  Fault f;
  Attr attr[1 + NSTORABLE] = {{.s = file("ours.npz")}};
  Tensor x[NSTORABLE];
  for (int t = 0; t < NSTORABLE; t++)
    x[t] = sample(storable[t], 2, (int64_t[]){3, 5}), attr[1 + t].s = dt_name(storable[t]);
  cr_assert(call("save_npz", NULL, 1 + NSTORABLE, attr, NSTORABLE, x, 0, NULL, &f), "%s", f.msg);
  cr_assert(call("save_npy", NULL, PATH_ATTR(file("f32.npy")), 1, &x[7], 0, NULL, &f));
  numpy("import numpy as np, zipfile\n"
        "assert zipfile.ZipFile('ours.npz').testzip() is None\n"
        "d = np.load('ours.npz')\n"
        "kinds = dict(bool='bool', u8='uint8', i8='int8', i16='int16', i32='int32', i64='int64', f16='float16', "
        "f32='float32', f64='float64')\n"
        "assert sorted(d.files) == sorted(kinds), d.files\n"
        "for name, k in kinds.items():\n"
        "  i = np.arange(15)\n"
        "  want = (i % 3 == 1) if name == 'bool' else i * (0.25 if name[0] == 'f' else 1)\n"
        "  assert d[name].dtype == k and (d[name] == want.reshape(3, 5)).all(), name\n"
        "assert (np.load('f32.npy') == d['f32']).all()\n"
        "np.savez('plain.npz', **{k: d[k] for k in d.files}, scalar=np.float32(2.5), none=np.zeros((0, 3)))\n"
        "np.savez_compressed('packed.npz', **{k: d[k] for k in d.files}, big=np.arange(100000) // 7)\n"
        "np.save('fortran.npy', np.asfortranarray(np.arange(24).reshape(2, 3, 4)))\n"
        "for v in 1, 2, 3:\n"
        "  np.lib.format.write_array(open('v%d.npy' % v, 'wb'), np.arange(6.0).reshape(2, 3), version=(v, 0))\n");
  for (int z = 0; z < 2; z++) {
    Arena *a = arena_new();
    const char *path = file(z ? "packed.npz" : "plain.npz");
    NpzMember *m;
    int n;
    cr_assert(npz_list(a, path, &n, &m, &f), "%s", f.msg);
    cr_assert_eq(n, NSTORABLE + (z ? 1 : 2));
    for (int t = 0; t < NSTORABLE; t++) {
      Attr at[] = {{.s = path}, {.s = m[t].name}};
      Tensor y = like(&m[t].type);
      cr_assert(call("load_npz", NULL, 2, at, 0, NULL, 1, &y, &f), "%s", f.msg);
      same(&x[t], &y);
    }
    if (z) {
      Tensor big = like(&m[NSTORABLE].type);
      cr_assert(call("load_npz", NULL, 2, (Attr[]){{.s = path}, {.s = "big"}}, 0, NULL, 1, &big, &f), "%s", f.msg);
      cr_assert_eq(tensor_count(&big), 100000);
      for (int i = 0; i < 100000; i++) cr_assert_eq(((int64_t *)big.data)[i], i / 7);
    }
    arena_free(a);
  }
  FileTensor h;
  cr_assert(npy_header(file("fortran.npy"), &h, &f) && h.rank == 3 && h.dim[0] == 2 && h.dim[2] == 4);
  Tensor y = like(&h);
  cr_assert(call("load_npy", NULL, PATH_ATTR(file("fortran.npy")), 0, NULL, 1, &y, &f));
  for (int i = 0; i < 24; i++) cr_assert_eq(((int64_t *)y.data)[i], i);
  for (int v = 1; v <= 3; v++) {
    char name[32];
    snprintf(name, sizeof name, "v%d.npy", v);
    Tensor w = make(DT_F64, DIMS(2, 3));
    cr_assert(call("load_npy", NULL, PATH_ATTR(file(name)), 0, NULL, 1, &w, &f), "%s", f.msg);
    for (int i = 0; i < 6; i++) cr_assert_eq(get(&w, i), i);
  }
}

/* A version-1 file with this dict and this many data bytes. */
static const char *with_dict(const char *dict, size_t data) {
  char buf[4096] = "\x93NUMPY\x01";
  size_t n = strlen(dict);
  buf[8] = (char)n, buf[9] = (char)(n >> 8);
  memcpy(buf + 10, dict, n);
  const char *path = file("dict.npy");
  write_bytes(path, buf, 10 + n + data);
  return path;
}

Test(native_npy, headers_refused_with_a_reason, .fini = done) {
  static const struct {
    const char *dict;
    size_t data;
    const char *why;
  } rows[] = {
      {"{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", 8, "big-endian"},
      {"{'descr': '<V2', 'fortran_order': False, 'shape': (2,), }", 4, "bf16"},
      {"{'descr': '|V2', 'fortran_order': False, 'shape': (2,), }", 4, "bf16"},
      {"{'descr': '<u4', 'fortran_order': False, 'shape': (2,), }", 8, "astype('int64')"},
      {"{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }", 16, "no counterpart"},
      {"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", 16, "no counterpart"},
      {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", 8, "structured"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 8, "truncated"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 2), }", 8, "too large"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 8, "too large"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807, 4), }", 8, "too large"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", 8, "malformed"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", 8, "malformed"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1), }", 8, "16 axes"},
      {"{'descr': '<f4', 'fortran_order': 3, 'shape': (2,), }", 8, "malformed"},
      {"{'descr': '<f4', 'shape': (2,), }", 8, "malformed"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", 8, "malformed"},
      {"{'descr': '<f4', 'fortran_order': False, 'shape': (2", 8, "malformed"},
      {"{'descr': '<f4", 0, "malformed"},
      {"", 0, "malformed"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    Fault f = {0};
    FileTensor h;
    cr_assert_not(npy_header(with_dict(rows[i].dict, rows[i].data), &h, &f), "%s", rows[i].dict);
    cr_assert(f.id == M_FILE && strstr(f.msg, rows[i].why), "%s: %s", rows[i].dict, f.msg);
  }
  Fault f = {0};
  FileTensor h;
  cr_assert(npy_header(with_dict("{ \"shape\" :( 2 , 3L ) ,\n'fortran_order':False,'descr':'f4'}", 24), &h, &f), "%s",
            f.msg);
  cr_assert(h.rank == 2 && h.dim[1] == 3 && h.dtype == DT_F32);
}

Test(native_npy, missing_and_odd_files, .fini = done) {
  Fault f = {0};
  FileTensor h;
  cr_assert(!npy_header(file("nosuch.npy"), &h, &f) && f.id == M_FILE && strstr(f.msg, "no such file"));
  cr_assert(!npy_header("/", &h, &f) && strstr(f.msg, "folder"));
  cr_assert(!npy_header("/dev/zero", &h, &f) && strstr(f.msg, "regular"));
  Tensor x = VALUES(DT_F32, 2, 1, 2), b = make(DT_BF16, DIMS(2));
  cr_assert(!call("save_npy", NULL, PATH_ATTR(file("no/such/folder.npy")), 1, &x, 0, NULL, &f) && f.id == R_NATIVE);
  cr_assert(!call("save_npy", NULL, PATH_ATTR(file("b.npy")), 1, &b, 0, NULL, &f) && strstr(f.msg, "f32(x)"), "%s",
            f.msg);
  cr_assert(!call("save_npy", NULL, PATH_ATTR("/"), 1, &x, 0, NULL, &f));
  cr_assert(call("save_npy", NULL, PATH_ATTR(file("x.npy")), 1, &x, 0, NULL, &f));
  Tensor other = make(DT_F32, DIMS(3)), wide = make(DT_F64, DIMS(2)), ints = make(DT_I32, DIMS(2));
  cr_assert(!call("load_npy", NULL, PATH_ATTR(file("x.npy")), 0, NULL, 1, &other, &f) && strstr(f.msg, "changed"));
  cr_assert(!call("load_npy", NULL, PATH_ATTR(file("x.npy")), 0, NULL, 1, &ints, &f));
  cr_assert(call("load_npy", NULL, PATH_ATTR(file("x.npy")), 0, NULL, 1, &wide, &f)); /* the oracle's wide mode */
  cr_assert(get(&wide, 0) == 1 && get(&wide, 1) == 2);
  NativeHost host = {.root = folder};
  cr_assert(call("load_npy", &host, PATH_ATTR("x.npy"), 0, NULL, 1, &wide, &f), "%s", f.msg);
}

Test(native_npy, a_full_disk_leaves_the_old_file, .fini = done) {
  Fault f;
  Tensor x = VALUES(DT_F32, 2, 1, 2), y = make(DT_F32, DIMS(2));
  cr_assert(call("save_npy", NULL, PATH_ATTR(file("x.npy")), 1, &x, 0, NULL, &f));
  cr_assert_not(call("save_npy", NULL, PATH_ATTR("/dev/full"), 1, &x, 0, NULL, &f));
  cr_assert_eq(f.id, R_NATIVE);
  cr_assert_eq(run_shell("chmod 600 '%s'", file("x.npy")), 0);
  put(&x, 0, 5);
  cr_assert(call("save_npy", NULL, PATH_ATTR(file("x.npy")), 1, &x, 0, NULL, &f));
  cr_assert_eq(run_shell("test $(stat -c %%a '%s') = 600", file("x.npy")), 0, "the file's rights were kept");
  cr_assert(call("load_npy", NULL, PATH_ATTR(file("x.npy")), 0, NULL, 1, &y, &f) && get(&y, 0) == 5);
}

/* Writing fails half-way: the old file is as it was, and no temporary one is left. */
Test(native_npy, a_write_that_fails_changes_nothing, .fini = done) {
  Fault f;
  Tensor x = VALUES(DT_F32, 2, 1, 2), y = make(DT_F32, DIMS(2)), big = make(DT_F32, DIMS(100000));
  Attr npz[] = {{.s = file("x.npy")}, {.s = "x"}};
  static const char *const names[] = {"save_npy", "save_npz", "save_csv", "save_idx"};
  cr_assert(call("save_npy", NULL, PATH_ATTR(file("x.npy")), 1, &x, 0, NULL, &f));
  signal(SIGXFSZ, SIG_IGN);
  struct rlimit old, small;
  cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
  small = old, small.rlim_cur = 50000;
  for (int k = 0; k < 4; k++) {
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    bool ok = call(names[k], NULL, k == 1 ? 2 : 1, npz, 1, &big, 0, NULL, &f);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    cr_assert(!ok && f.id == R_NATIVE && strstr(f.msg, "cannot be written"), "%s: %s", names[k], f.msg);
    cr_assert(call("load_npy", NULL, PATH_ATTR(file("x.npy")), 0, NULL, 1, &y, &f) && get(&y, 1) == 2, "%s", f.msg);
  }
  cr_assert_eq(run_shell("test $(ls '%s' | wc -l) = 1", folder), 0, "a temporary file was left");
}

/* Cut at every length: refused, by the header or when the data are read. */
static void every_truncation(const char *path, bool (*whole)(const char *)) {
  static uint8_t buf[20000];
  size_t n = read_bytes(path, buf, sizeof buf);
  cr_assert(n > 0 && n < sizeof buf && whole(path));
  for (size_t cut = 0; cut < n; cut++) {
    write_bytes(file("cut"), buf, cut);
    cr_assert_not(whole(file("cut")), "accepted after %zu of %zu bytes", cut, n);
  }
  for (size_t i = 0; i < n; i++) /* a flipped byte may be accepted, and does no harm */
    for (int bit = 0; bit < 8; bit += 7) {
      buf[i] ^= (uint8_t)(1 << bit);
      write_bytes(file("cut"), buf, n);
      whole(file("cut"));
      buf[i] ^= (uint8_t)(1 << bit);
    }
}

static bool read_npy(const char *path) {
  Fault f = {0};
  FileTensor h;
  if (!npy_header(path, &h, &f)) {
    cr_assert_eq(f.id, M_FILE);
    return false;
  }
  Tensor y = like(&h);
  bool ok = call("load_npy", NULL, PATH_ATTR(path), 0, NULL, 1, &y, &f);
  tensor_drop(&y);
  return ok;
}
static bool read_npz(const char *path) {
  Fault f = {0};
  Arena *a = arena_new();
  NpzMember *m;
  int n;
  bool ok = npz_list(a, path, &n, &m, &f);
  for (int k = 0; ok && k < n; k++) {
    Tensor y = like(&m[k].type);
    ok = call("load_npz", NULL, 2, (Attr[]){{.s = path}, {.s = m[k].name}}, 0, NULL, 1, &y, &f);
    tensor_drop(&y);
  }
  arena_free(a);
  return ok;
}

Test(native_npy, damaged_npy, .fini = done) {
  Fault f;
  Tensor x = sample(DT_F32, 2, (int64_t[]){3, 4});
  cr_assert(call("save_npy", NULL, PATH_ATTR(file("x.npy")), 1, &x, 0, NULL, &f));
  every_truncation(file("x.npy"), read_npy);
}

Test(native_npy, damaged_npz, .fini = done) {
  Fault f;
  Tensor x = sample(DT_F32, 2, (int64_t[]){3, 4}), y = sample(DT_U8, 1, (int64_t[]){30});
  cr_assert(call("save_npz", NULL, 3, (Attr[]){{.s = file("x.npz")}, {.s = "x"}, {.s = "y"}}, 2, (Tensor[]){x, y}, 0,
                 NULL, &f));
  every_truncation(file("x.npz"), read_npz);
}

/* A deflated member without NumPy: made by zlib's own program, gzip being absent of zip. */
Test(native_npy, damaged_deflated_npz, .fini = done) {
  numpy("import numpy as np\nnp.savez_compressed('x.npz', x=np.arange(1000) % 17, y=np.zeros((2, 3), 'f4'))\n");
  every_truncation(file("x.npz"), read_npz);
}

Test(native_npy, npz_faults, .fini = done) {
  Fault f;
  Tensor x = sample(DT_F32, 1, (int64_t[]){4});
  const char *path = file("x.npz");
  cr_assert_not(
      call("save_npz", NULL, 3, (Attr[]){{.s = path}, {.s = "x"}, {.s = "x"}}, 2, (Tensor[]){x, x}, 0, NULL, &f));
  cr_assert(strstr(f.msg, "two arrays"));
  cr_assert(access(path, F_OK) != 0);
  cr_assert(call("save_npz", NULL, 2, (Attr[]){{.s = path}, {.s = "x"}}, 1, &x, 0, NULL, &f));
  cr_assert_not(call("load_npz", NULL, 2, (Attr[]){{.s = path}, {.s = "y"}}, 0, NULL, 1, &x, &f));
  cr_assert(strstr(f.msg, "no array 'y'"), "%s", f.msg);
  cr_assert_not(call("load_npz", NULL, 1, (Attr[]){{.s = path}}, 0, NULL, 1, &x, &f));
  cr_assert_not(call("save_npz", NULL, 2, (Attr[]){{.s = path}, {.i = 3}}, 1, &x, 0, NULL, &f));
  /* a checksum that does not fit */
  static uint8_t buf[4096];
  size_t n = read_bytes(path, buf, sizeof buf);
  for (size_t i = 0; i + 16 <= n; i++)
    if (!memcmp(buf + i, x.data, 16)) buf[i] ^= 1;
  write_bytes(path, buf, n);
  cr_assert_not(call("load_npz", NULL, 2, (Attr[]){{.s = path}, {.s = "x"}}, 0, NULL, 1, &x, &f));
  cr_assert(strstr(f.msg, "checksum"), "%s", f.msg);
}

/* zip64 records, forced early by a low limit, are read by us and by Python. */
Test(native_npy, zip64, .fini = done) {
  Fault f = {0};
  Arena *a = arena_new();
  Out o;
  cr_assert(out_open(&o, file("big.zip"), &f));
  ZipWriter z;
  zip_begin(&z, &o, a);
  z.limit = 40;
  char data[100];
  for (int i = 0; i < 100; i++) data[i] = (char)i;
  zip_add(&z, "small", data, 5, data, 6);
  zip_add(&z, "large", data, 50, data, 50);
  zip_end(&z);
  cr_assert(out_commit(&o));
  char raw[2000];
  size_t bytes = read_bytes(file("big.zip"), raw, sizeof raw);
  cr_assert(memmem(raw, bytes, "PK\6\6", 4) && memmem(raw, bytes, "PK\6\7", 4), "no zip64 end record");
  In in;
  ZipEntry *e;
  int n;
  cr_assert(in_open(&in, file("big.zip"), &f) && zip_list(a, &in, &n, &e), "%s", f.msg);
  cr_assert(n == 2 && e[0].size == 11 && e[1].size == 100 && !strcmp(e[1].name, "large"));
  ZipReader *r = zip_open(&in, &e[1]);
  char back[100];
  cr_assert(r && zip_read(r, back, 60) && zip_read(r, back + 60, 40), "%s", f.msg);
  cr_assert(!memcmp(back, data, 50) && !memcmp(back + 50, data, 50));
  cr_assert_not(zip_read(r, back, 1));
  zip_close(r);
  in_close(&in);
  arena_free(a);
  cr_assert_eq(
      run_shell("cd '%s' && python3 -c \"import zipfile; z = zipfile.ZipFile('big.zip'); assert z.testzip() is None; "
                "assert z.read('large') == bytes(range(50)) * 2\"",
                folder),
      0);
}
