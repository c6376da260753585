/* Safetensors: what is written is read, and nothing but that is accepted. */
#include "native_support.h"
#include "stdlib/native/safetensors.h"
#include <stdio.h>
#include <zlib.h>

static const DType all[] = {DT_BOOL, DT_U8, DT_I8, DT_I16, DT_I32, DT_I64, DT_F16, DT_BF16, DT_F32, DT_F64};
enum { NDTYPE = sizeof all / sizeof *all };

/* Every dtype with every rank and with empty axes, in one file, in and out through the natives. */
Test(native_safetensors, round_trip, .fini = done) {
  static const struct {
    int rank;
    int64_t dim[3];
  } shape[] = {{0, {0}}, {1, {0}}, {1, {7}}, {2, {3, 4}}, {3, {2, 0, 5}}, {3, {2, 3, 41}}};
  enum { NSHAPE = sizeof shape / sizeof *shape, N = NDTYPE * NSHAPE };
  static Tensor x[N], y[N];
  static char name[N][64];
  Attr attr[N + 2] = {{.s = file("x.safetensors")}, {.s = ""}};
  uint64_t seed = 1;
  for (int k = 0; k < N; k++) {
    x[k] = make(all[k / NSHAPE], shape[k % NSHAPE].rank, shape[k % NSHAPE].dim);
    y[k] = make(all[k / NSHAPE], shape[k % NSHAPE].rank, shape[k % NSHAPE].dim);
    for (int64_t i = 0; i < tensor_count(&x[k]); i++)
      put(&x[k], i, x[k].dtype == DT_BOOL ? draw(&seed) % 2 : (double)(draw(&seed) % 100));
    snprintf(name[k], sizeof name[k], k % 3 ? "layer%d.\"w\"\t\\" : "l\xc3\xa4yer.%d", k);
    attr[k + 2].s = name[k];
  }
  Fault f;
  cr_assert(call("save_safetensors", NULL, N + 2, attr, N, x, 0, NULL, &f), "%s", f.msg);
  attr[1] = (Attr){.i = 1};
  cr_assert(call("load_safetensors", NULL, N + 2, attr, 0, NULL, N, y, &f), "%s", f.msg);
  for (int k = 0; k < N; k++) cr_assert(!memcmp(x[k].data, y[k].data, tensor_bytes(&x[k])), "%s", name[k]);
  Arena *a = arena_new();
  StFile s;
  cr_assert(st_list(a, attr[0].s, &s, &f));
  cr_assert(s.n == N && s.crc_at && s.data_at % 8 == 0);
  for (int k = 0; k < N; k++) {
    cr_assert_str_eq(s.tensor[k].name, name[k]);                     /* in the order given, */
    cr_assert(s.tensor[k].at % (uint64_t)dt_bytes(x[k].dtype) == 0); /* aligned */
  }
  arena_free(a);
}

/* A file with this header text and `data` bytes of data; the answer of the reader. */
static bool accepted(const char *header, size_t data, Fault *f) {
  char buf[4096] = {0};
  size_t n = strlen(header);
  for (int k = 0; k < 8; k++) buf[k] = (char)(n >> 8 * k);
  memcpy(buf + 8, header, n);
  const char *path = file("h.safetensors");
  write_bytes(path, buf, 8 + n + data);
  Arena *a = arena_new();
  StFile s;
  *f = (Fault){0};
  bool ok = st_list(a, path, &s, f);
  arena_free(a);
  cr_assert_eq(ok, f->id == E_NONE);
  return ok;
}

#define T(name, dtype, shape, offsets)                                                                                 \
  "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

Test(native_safetensors, headers, .fini = done) {
  static const struct {
    const char *text;
    size_t data;
    const char *fault; /* NULL: fine */
  } row[] = {
      {"{}", 0, NULL},
      {"{" T("a", "F32", "[2]", "[0,8]") "}", 8, NULL},
      {"{" T("a", "F32", "[2]", "[0,8]") "}   ", 8, NULL},
      {"{ \"a\" : { \"data_offsets\" : [ 0 , 8 ] , \"shape\" : [ 2 ] , \"dtype\" : \"F32\" } }", 8, NULL},
      {"{" T("b", "F32", "[]", "[8,12]") "," T("a", "I64", "[1]", "[0,8]") "}", 12, NULL},
      {"{" T("a", "F32", "[0,3]", "[0,0]") "," T("b", "U8", "[1]", "[0,1]") "}", 1, NULL},
      {"{" T("a", "F32", "[0,9223372036854775807,9]", "[0,0]") "}", 0, NULL},
      {"{\"__metadata__\":{\"k\":\"\\u00e4\\ud83d\\ude00\"}," T("a", "U8", "[1]", "[0,1]") "}", 1, NULL},
      {"{" T("a", "F8_E4M3", "[3]", "[0,3]") "}", 3, NULL}, /* listed, not read */
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"more\":[{\"x\":null},-1.5e3]}}", 1, NULL},
      {"", 0, "malformed"},
      {"[]", 0, "not a safetensors file"},
      {"{", 0, "malformed"},
      {"{}}", 0, "malformed"},
      {"{" T("a", "F32", "[2]", "[0,8]") ",}", 8, "malformed"},
      {"{" T("a", "F32", "[2]", "[0,8]") "}", 7, "ends beyond the file"},
      {"{" T("a", "F32", "[2]", "[0,8]") "}", 9, "1 bytes that belong to no tensor"},
      {"{" T("a", "F32", "[3]", "[0,8]") "}", 8, "its shape does not fit its bytes"},
      {"{" T("a", "F32", "[-2]", "[0,8]") "}", 8, "malformed"},
      {"{" T("a", "F32", "[2.0]", "[0,8]") "}", 8, "malformed"},
      {"{" T("a", "F32", "[02]", "[0,8]") "}", 8, "malformed"},
      {"{" T("a", "F32", "[2]", "[8,0]") "}", 8, "ends beyond"},
      {"{" T("a", "F32", "[2]", "[0,8,8]") "}", 8, "malformed"},
      {"{" T("a", "F32", "[4611686018427387904,4]", "[0,0]") "}", 0, "its shape does not fit"},
      {"{" T("a", "F32", "[99999999999999999999]", "[0,0]") "}", 0, "malformed"},
      {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "more than 16 axes"},
      {"{" T("a", "U8", "[4]", "[0,4]") "," T("b", "U8", "[4]", "[2,6]") "}", 6, "overlap before `b`"},
      {"{" T("a", "U8", "[4]", "[0,4]") "," T("b", "U8", "[4]", "[5,9]") "}", 9, "hole before `b`"},
      {"{" T("a", "U8", "[4]", "[0,4]") "," T("a", "U8", "[4]", "[4,8]") "}", 8, "has `a` twice"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "malformed"},
      {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "malformed"},
      {"{\"__metadata__\":{\"k\":1}}", 0, "malformed"},
      {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "malformed"},
      {"{\"__metadata__\":{\"tg.crc32\":\"123\"}}", 0, "malformed"},
      {"{\"__metadata__\":{\"tg.crc32\":\"\\u0031234567\"}}", 0, "malformed"},
      {"{\"\xff\":{}}", 0, "malformed"},
      {"{\"\\ud800\":{}}", 0, "malformed"},
      {"{\"\\u0000\":{}}", 0, "malformed"},
      {"{\"a\nb\":{}}", 0, "malformed"},
  };
  Fault f;
  for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
    bool ok = accepted(row[k].text, row[k].data, &f);
    cr_expect(ok == !row[k].fault && (ok || strstr(f.msg, row[k].fault)), "row %zu: %s\n%s", k, row[k].text, f.msg);
  }
}

Test(native_safetensors, damage, .fini = done) {
  Fault f;
  Tensor x = VALUES(DT_F32, 5, 1, 2, 3, 4, 5), y = make(DT_F32, DIMS(5));
  const char *path = file("x.safetensors"), *cut = file("cut.safetensors");
  Attr attr[] = {{.s = path}, {.s = ""}, {.s = "w"}};
  cr_assert(call("save_safetensors", NULL, 3, attr, 1, &x, 0, NULL, &f));
  char buf[4096];
  size_t n = read_bytes(path, buf, sizeof buf);
  attr[0].s = cut, attr[1] = (Attr){.i = 1};
  for (size_t k = 0; k < n; k++) { /* every prefix */
    write_bytes(cut, buf, k);
    cr_assert(!call("load_safetensors", NULL, 3, attr, 0, NULL, 1, &y, &f));
    cr_assert_eq(f.id, R_NATIVE);
  }
  for (size_t k = 0; k < n * 8; k++) { /* every bit */
    buf[k / 8] ^= (char)(1 << k % 8);
    write_bytes(cut, buf, n);
    cr_assert(!call("load_safetensors", NULL, 3, attr, 0, NULL, 1, &y, &f), "bit %zu", k);
    buf[k / 8] ^= (char)(1 << k % 8);
  }
  write_bytes(cut, buf, n);
  cr_assert(call("load_safetensors", NULL, 3, attr, 0, NULL, 1, &y, &f) && get(&y, 4) == 5);
}

/* The lines that say what does not fit. */
Test(native_safetensors, differences) {
  Arena *a = arena_new();
  StTensor t[] = {{.name = "dense1.w", .known = true, .code = "F32", .type = {DT_F32, 2, {784, 128}}},
                  {.name = "dense1.bias", .known = true, .code = "F32", .type = {DT_F32, 1, {128}}},
                  {.name = "old", .known = false, .code = "U32", .type = {DT_BOOL, 1, {2}}}};
  StFile s = {.n = 3, .tensor = t};
  const char *name[] = {"dense1.w", "dense1.b", "old"}, *const * line;
  FileTensor want[] = {{DT_F32, 2, {784, 256}}, {DT_F32, 1, {128}}, {DT_I32, 1, {2}}};
  int n = st_compare(a, &s, 3, name, want, true, "the model", &line);
  cr_assert_eq(n, 4);
  cr_assert_str_eq(line[0], "`dense1.w` is f32[784, 128] in the file and f32[784, 256] in the model");
  cr_assert_str_eq(line[1], "`dense1.b` is missing in the file, which has `dense1.bias`");
  cr_assert_str_eq(line[2], "`old` is U32[2] in the file and i32[2] in the model");
  cr_assert_str_eq(line[3], "`dense1.bias` of the file is unknown to the model");
  cr_assert_eq(st_compare(a, &s, 1, name, &t[0].type, false, "the model", &line), 0);
  arena_free(a);
}
