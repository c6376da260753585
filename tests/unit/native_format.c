/* Scalars and tensors as text. */
#include "native_support.h"
#include "stdlib/native/effects.h"
#include "stdlib/native/print.h"

static const struct {
  DType t;
  double v;
  const char *fmt, *want;
} rows[] = {
    /* plain */
    {DT_F64, 0.1, NULL, "0.1"},
    {DT_F32, 0.1, NULL, "0.1"},
    {DT_F64, 3, NULL, "3.0"},
    {DT_F32, -3, "", "-3.0"},
    {DT_F64, 0.1f, NULL, "0.10000000149011612"},
    {DT_F32, 16777216, NULL, "16777216.0"},
    {DT_F64, 1e16, NULL, "1e+16"},
    {DT_F64, 1e15, NULL, "1000000000000000.0"},
    {DT_F64, 0.0001, NULL, "0.0001"},
    {DT_F64, 0.00001, NULL, "1e-05"},
    {DT_F64, 1.5e-7, NULL, "1.5e-07"},
    {DT_F64, -0.0, NULL, "-0.0"},
    {DT_F64, INFINITY, NULL, "inf"},
    {DT_F32, -INFINITY, NULL, "-inf"},
    {DT_F64, NAN, NULL, "nan"},
    {DT_F64, 1.7976931348623157e308, NULL, "1.7976931348623157e+308"},
    {DT_F64, 5e-324, NULL, "5e-324"},
    {DT_F16, 0.1, NULL, "0.1"},
    {DT_BF16, 0.1, NULL, "0.1"},
    {DT_F16, 65504, NULL, "65500.0"},
    {DT_F32, 1.0f / 3, NULL, "0.33333334"},
    {DT_F64, 1.0 / 3, NULL, "0.3333333333333333"},
    {DT_BOOL, 1, NULL, "true"},
    {DT_BOOL, 0, NULL, "false"},
    {DT_I8, -128, NULL, "-128"},
    {DT_U8, 255, NULL, "255"},
    {DT_I64, -9223372036854775807.0 - 1, NULL, "-9223372036854775808"},
    /* general form with digits */
    {DT_F32, 0.123456, ".4", "0.1235"},
    {DT_F64, 2, ".4", "2.0"},
    {DT_F64, 12345, ".4", "1.234e+04"},
    {DT_F64, 1234, ".4", "1.234e+03"},
    {DT_F64, 123.45, ".4", "123.5"},
    {DT_F64, 0.00001234, ".3", "1.23e-05"},
    {DT_F64, 100, ".10", "100.0"},
    {DT_F64, NAN, ".4", "nan"},
    {DT_F64, 0, ".4", "0.0"},
    {DT_F64, 0.99999, ".3", "1.0"},
    /* types */
    {DT_F64, 3.14159, ".2f", "3.14"},
    {DT_F64, 2.5, ".0f", "2"},
    {DT_F64, 1234.5, ".1e", "1.2e+03"},
    {DT_F64, 0.25, "%", "25.000000%"},
    {DT_F64, 0.973, ".1%", "97.3%"},
    {DT_F64, 1234567, "g", "1.23457e+06"},
    {DT_F64, INFINITY, "F", "INF"},
    {DT_I64, 1234567, ",", "1,234,567"},
    {DT_I64, -1234, ",d", "-1,234"},
    {DT_F64, 1234567.891, ",.2f", "1,234,567.89"},
    {DT_I32, 255, "x", "ff"},
    {DT_I32, -255, "X", "-FF"},
    {DT_I32, 5, "b", "101"},
    {DT_I32, 8, "o", "10"},
    {DT_I32, 7, ".3f", "7.000"},
    {DT_I64, 42, ".4", "42"},
    {DT_BOOL, 1, "d", "1"},
    /* width, alignment, sign */
    {DT_I64, 42, "6", "    42"},
    {DT_I64, 42, "<6", "42    "},
    {DT_I64, 42, "^6", "  42  "},
    {DT_I64, 42, "*>6", "****42"},
    {DT_I64, -42, "06", "-00042"},
    {DT_I64, 42, "+", "+42"},
    {DT_I64, 42, " ", " 42"},
    {DT_I64, -42, "*=6", "-***42"},
    {DT_I64, 1234, "010,", "00,001,234"},
    {DT_I64, 1, "2", " 1"},
    {DT_BOOL, 0, "7", "  false"},
    {DT_F64, 1.5, "08.2f", "00001.50"},
};

Test(native_format, table) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    Tensor x = scalar(rows[i].t, rows[i].v);
    char buf[400];
    size_t n = format_scalar(buf, sizeof buf, rows[i].t, x.data, rows[i].fmt);
    cr_assert_str_eq(buf, rows[i].want, "row %zu (%s): '%s', expected '%s'", i, rows[i].fmt, buf, rows[i].want);
    cr_assert_eq(n, strlen(buf));
    cr_assert_null(format_check(rows[i].t, rows[i].fmt));
    char small[4] = "###";
    cr_assert_eq(format_scalar(small, 3, rows[i].t, x.data, rows[i].fmt),
                 n); /* truncates, tells the length, no overrun */
    cr_assert(!strncmp(small, buf, n < 2 ? n : 2) && small[3] == 0);
    tensor_drop(&x);
  }
}

Test(native_format, plain_text_reads_back) {
  uint64_t seed = 88172645463325252u;
  char buf[64];
  for (int i = 0; i < 20000; i++) {
    uint64_t bits = draw(&seed);
    double d;
    float s;
    memcpy(&d, &bits, 8), memcpy(&s, &bits, 4);
    format_scalar(buf, sizeof buf, DT_F64, &d, NULL);
    cr_assert(isnan(d) ? !strcmp(buf, "nan") : strtod(buf, NULL) == d, "%s", buf);
    format_scalar(buf, sizeof buf, DT_F32, &s, NULL);
    cr_assert(isnan(s) ? !strcmp(buf, "nan") : strtof(buf, NULL) == s, "%s", buf);
  }
  for (int t = DT_F16; t <= DT_BF16; t++)
    for (unsigned bits = 0; bits < 65536; bits += 7) {
      uint16_t h = (uint16_t)bits, back;
      format_scalar(buf, sizeof buf, (DType)t, &h, NULL);
      dt_put_f((DType)t, &back, 0, strtod(buf, NULL));
      cr_assert(isnan(dt_get_f((DType)t, &h, 0)) || back == h, "%s %04x %s", dt_name((DType)t), bits, buf);
    }
}

Test(native_format, formats_are_checked) {
  static const char *const bad[] = {"q", ".", ".f", "5.", "2000", ".200f", ",x", "5 ", "+-", "d5", "{", "<<<", "f."};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    cr_assert_not_null(format_check(DT_I64, bad[i]), "'%s'", bad[i]);
  cr_assert_not_null(format_check(DT_F32, "d"));
  cr_assert_null(format_check(DT_F32, NULL));
}

/* ---- tensors -------------------------------------------------------------------------------------------------- */
static char *shown(const Tensor *t, int width) {
  char *s;
  size_t n;
  FILE *m = open_memstream(&s, &n);
  print_tensor(m, t, width);
  fclose(m);
  return s;
}
#define SHOWS(t, width, want)                                                                                          \
  do {                                                                                                                 \
    char *got_ = shown(&(t), width);                                                                                   \
    cr_assert_str_eq(got_, want, "got\n%s", got_);                                                                     \
    free(got_);                                                                                                        \
  } while (0)

static Tensor counting(DType t, int rank, const int64_t *dim, double scale) {
  Tensor x = make(t, rank, dim);
  for (int64_t i = 0; i < tensor_count(&x); i++) put(&x, i, (double)i * scale);
  return x;
}

Test(native_print, small) {
  Tensor x = of(DT_I64, DIMS(2, 3), (double[]){0, 1, 2, 10, 11, 12});
  SHOWS(x, 80, "i64[2, 3]\n   0   1   2\n  10  11  12\n");
  Tensor s = scalar(DT_F32, 0.5);
  SHOWS(s, 80, "0.5\n");
  Tensor v = VALUES(DT_F32, 4, 0.5, -1.25, NAN, INFINITY);
  SHOWS(v, 80, "f32[4]\n   0.50  -1.25    nan    inf\n");
  Tensor w = VALUES(DT_F64, 3, 1, -0.0, 20);
  SHOWS(w, 80, "f64[3]\n   1.0  -0.0  20.0\n");
  Tensor f = VALUES(DT_F32, 2, 1.0 / 3, 100);
  SHOWS(f, 80, "f32[2]\n    0.3333  100.0000\n");
  Tensor tiny = VALUES(DT_F32, 2, 1.5e-6, 0);
  SHOWS(tiny, 80, "f32[2]\n  1.500e-06  0.000e+00\n");
  Tensor huge = VALUES(DT_F64, 2, 1.5e10, -1);
  SHOWS(huge, 80, "f64[2]\n   1.500e+10  -1.000e+00\n");
  Tensor b = VALUES(DT_BOOL, 2, 1, 0);
  SHOWS(b, 80, "bool[2]\n   true  false\n");
  Tensor none = make(DT_F32, DIMS(0, 3));
  SHOWS(none, 80, "f32[0, 3]\n");
  Tensor none1 = make(DT_F32, DIMS(0));
  SHOWS(none1, 80, "f32[0]\n");
  Tensor c = counting(DT_I32, DIMS(2, 1, 2), 1);
  SHOWS(c, 80, "i32[2, 1, 2]\n[0, :, :]\n  0  1\n[1, :, :]\n  2  3\n");
  Tensor e = make(DT_I32, DIMS(2, 0, 2));
  SHOWS(e, 80, "i32[2, 0, 2]\n");
}

Test(native_print, fits_the_width) {
  Tensor v = counting(DT_I64, DIMS(12), 1);
  SHOWS(v, 20, "i64[12]\n   0   1   2   3   4\n   5   6   7   8   9\n  10  11\n");
  Tensor m = counting(DT_I64, DIMS(2, 12), 1);
  SHOWS(m, 25, "i64[2, 12]\n   0   1   2  ...  10  11\n  12  13  14  ...  22  23\n");
  SHOWS(m, 1, "i64[2, 12]\n   0  ...\n  12  ...\n");
  SHOWS(m, 0,
        "i64[2, 12]\n   0   1   2   3   4   5   6   7   8   9  10  11\n  12  13  14  15  16  17  18  19  20  21  22  "
        "23\n");
  for (int width = 1; width < 100; width++) { /* never wider than asked, beyond one column */
    char *s = shown(&m, width);
    for (char *line = strtok(s, "\n"); line; line = strtok(NULL, "\n"))
      cr_assert(strlen(line) <= (size_t)(width < 10 ? 10 : width), "%d: %s", width, line);
    free(s);
  }
}

Test(native_print, long_ones_are_summarised) {
  Tensor v = counting(DT_I64, DIMS(1001), 1);
  SHOWS(v, 80, "i64[1001]\n     0     1     2   ...   998   999  1000\n");
  Tensor w = make(DT_U8, DIMS(2000));
  SHOWS(w, 80, "u8[2000]\n  0  0  0 ..  0  0  0\n");
  Tensor m = counting(DT_I64, DIMS(1000, 2), 1);
  SHOWS(m, 80,
        "i64[1000, 2]\n     0     1\n     2     3\n     4     5\n  ...\n  1994  1995\n  1996  1997\n  1998  1999\n");
  Tensor c = counting(DT_I64, DIMS(7, 1, 143), 1);
  SHOWS(c, 80,
        "i64[7, 1, 143]\n[0, :, :]\n     0     1     2  ...   140   141   142\n[1, :, :]\n   143   144   145  ...   "
        "283   284   285\n"
        "[2, :, :]\n   286   287   288  ...   426   427   428\n...\n[4, :, :]\n   572   573   574  ...   712   713   "
        "714\n"
        "[5, :, :]\n   715   716   717  ...   855   856   857\n[6, :, :]\n   858   859   860  ...   998   999  1000\n");
}

/* ---- print and assert ----------------------------------------------------------------------------------------- */
static char *printed(const char *text, int nin, const Tensor *in, Fault *f) {
  char *s;
  size_t n;
  NativeHost host = {.out = open_memstream(&s, &n), .width = 80};
  call("print", &host, 1, (Attr[]){{.s = text}}, nin, in, 0, NULL, f);
  fclose(host.out);
  return s;
}
#define PRINTS(text, nin, in, want)                                                                                    \
  do {                                                                                                                 \
    char *got_ = printed(text, nin, in, &f);                                                                           \
    cr_assert(f.id == E_NONE, "%s", f.msg);                                                                            \
    cr_assert_str_eq(got_, want);                                                                                      \
    free(got_);                                                                                                        \
  } while (0)

Test(native_effects, print) {
  Fault f;
  Tensor in[] = {scalar(DT_F32, 0.123456), scalar(DT_I64, 7), VALUES(DT_I64, 3, 1, 2, 3), scalar(DT_BOOL, 1),
                 of(DT_F32, DIMS(2, 2), (double[]){0.5, 1, 2, 3})};
  PRINTS("", 0, NULL, "\n");
  PRINTS("loss {0:.4} at {1}", 5, in, "loss 0.1235 at 7\n");
  PRINTS("{{{1}}}", 5, in, "{7}\n");
  PRINTS("x = {2}, {3}", 5, in, "x = [1, 2, 3], true\n");
  PRINTS("{2}", 5, in, "i64[3]\n  1  2  3\n");
  PRINTS("a\n{2}\nb", 5, in, "a\ni64[3]\n  1  2  3\nb\n");
  PRINTS("{4:.2f}", 5, in, "[[0.50, 1.00], [2.00, 3.00]]\n");
  PRINTS("{4}!", 5, in, "[[0.5, 1.0], [2.0, 3.0]]!\n");
  PRINTS("{1:>5}|{1:<5}|", 5, in, "    7|7    |\n");
  static const char *const bad[] = {"{9}", "{", "}", "{a}", "{0:q}", "{0", "{0:.4", "{}", "{0:d}", "{99999999999999}"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    free(printed(bad[i], 5, in, &f));
    cr_assert_eq(f.id, R_NATIVE, "%s", bad[i]);
  }
}

Test(native_effects, print_reports_a_full_disk) {
  Fault f;
  NativeHost host = {.out = fopen("/dev/full", "w")};
  if (!host.out) cr_skip_test("no /dev/full");
  setvbuf(host.out, NULL, _IONBF, 0);
  cr_assert_not(call("print", &host, 1, (Attr[]){{.s = "x"}}, 0, NULL, 0, NULL, &f));
  cr_assert_eq(f.id, R_NATIVE);
  fclose(host.out);
}

Test(native_effects, assert) {
  Fault f;
  Tensor yes = scalar(DT_BOOL, 1), no = scalar(DT_BOOL, 0), none = make(DT_BOOL, DIMS(0, 3));
  Tensor some = of(DT_BOOL, DIMS(2, 3), (double[]){1, 1, 1, 1, 0, 0}), seven = scalar(DT_I32, 7);
  cr_assert(call("assert", NULL, 0, NULL, 1, &yes, 0, NULL, &f));
  cr_assert(call("assert", NULL, 0, NULL, 1, &none, 0, NULL, &f));
  cr_assert_not(call("assert", NULL, 0, NULL, 1, &no, 0, NULL, &f));
  cr_assert(f.id == R_ASSERT && !strcmp(f.msg, "assertion failed"), "%s", f.msg);
  cr_assert_not(call("assert", NULL, 1, (Attr[]){{.s = ""}}, 1, &some, 0, NULL, &f));
  cr_assert_str_eq(f.msg, "assertion failed at [1, 1]");
  cr_assert_not(call("assert", NULL, 1, (Attr[]){{.s = "n is {1}"}}, 2, (Tensor[]){no, seven}, 0, NULL, &f));
  cr_assert(f.id == R_ASSERT && !strcmp(f.msg, "assertion failed: n is 7"), "%s", f.msg);
  cr_assert_not(call("assert", NULL, 0, NULL, 1, &seven, 0, NULL, &f));
  cr_assert_eq(f.id, R_NATIVE);
}
