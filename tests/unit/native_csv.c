/* CSV: columns and their types, quotes and line ends, faults with their lines, writing and reading back. */
#include "native_support.h"

static Arena *arena;
static void start(void) { arena = arena_new(); }
static void stop(void) { arena_free(arena), done(); }

static const char *csv_of(const char *text) {
  const char *path = file("t.csv");
  write_bytes(path, text, strlen(text));
  return path;
}
static CsvInfo info_of(const char *text) {
  Fault f;
  CsvInfo c;
  cr_assert(csv_header(arena, csv_of(text), &c, &f), "%s", f.msg);
  return c;
}
static Tensor column(const char *text, int k) {
  Fault f;
  CsvInfo c = info_of(text);
  cr_assert(k < c.ncol);
  Tensor x = make(c.col[k].dtype, DIMS(c.nrow));
  Attr attr[] = {{.s = file("t.csv")}, {.i = k}};
  cr_assert(call("load_csv", NULL, 2, attr, 0, NULL, 1, &x, &f), "%s", f.msg);
  return x;
}
static void fails(const char *text, const char *why) {
  Fault f;
  CsvInfo c;
  cr_assert_not(csv_header(arena, csv_of(text), &c, &f), "accepted: %s", text);
  cr_assert(f.id == M_FILE && strstr(f.msg, why), "%s: %s", text, f.msg);
}

Test(native_csv, types, .init = start, .fini = stop) {
  CsvInfo c = info_of("id,x,ok,name,mixed,void\n1,0.5,true,anna,1,\n-2,,FALSE,bob,2.5,\n3,1e3,True,7,,\n");
  cr_assert(c.ncol == 6 && c.nrow == 3 && c.header && c.sep == ',');
  static const DType want[] = {DT_I64, DT_F32, DT_BOOL, DT_F32, DT_F32, DT_F32};
  for (int k = 0; k < 6; k++) {
    cr_assert_eq(c.col[k].text, k == 3);
    if (k != 3) cr_assert_eq(c.col[k].dtype, want[k], "column %d", k);
  }
  cr_assert_str_eq(c.col[4].name, "mixed");
  Tensor id = column("id,x\n1,0.5\n-2,\n9223372036854775807,1e3\n", 0), x = column("id,x\n1,0.5\n-2,\n3,1e3\n", 1);
  cr_assert(((int64_t *)id.data)[1] == -2 && ((int64_t *)id.data)[2] == INT64_MAX);
  cr_assert(get(&x, 0) == 0.5 && isnan(get(&x, 1)) && get(&x, 2) == 1000);
  Tensor b = column("b\ntrue\nFalse\n", 0);
  cr_assert(b.dtype == DT_BOOL && get(&b, 0) == 1 && get(&b, 1) == 0);
  Tensor e = column("a,b\n1,\n2,\n", 1);
  cr_assert(e.dtype == DT_F32 && isnan(get(&e, 0)));
  c = info_of("big\n9223372036854775808\n");
  cr_assert_eq(c.col[0].dtype, DT_F32);
  c = info_of("p,q\nNA,inf\n3,-Infinity\n");
  cr_assert(c.header && c.col[0].dtype == DT_F32 && c.col[1].dtype == DT_F32);
}

Test(native_csv, header, .init = start, .fini = stop) {
  CsvInfo c = info_of("1,2\n3,4\n");
  cr_assert(!c.header && c.nrow == 2);
  cr_assert_str_eq(c.col[1].name, "c1");
  c = info_of("sepal length (cm),2nd,x,x,,a:f64,b:i32,c:what,%\n1,2,3,4,5,6,7,8,9\n");
  static const char *const names[] = {"sepal_length_cm", "c2nd", "x", "x_2", "c4", "a", "b", "c_what", "c8"};
  for (int k = 0; k < 9; k++) cr_assert_str_eq(c.col[k].name, names[k]);
  cr_assert(c.header);
  cr_assert(c.col[5].dtype == DT_F64 && c.col[6].dtype == DT_I32 && c.col[7].dtype == DT_I64);
  Tensor d = column("a:f64,b:u8\n0.1,255\n", 0), u = column("a:f64,b:u8\n0.1,255\n", 1);
  cr_assert(d.dtype == DT_F64 && get(&d, 0) == 0.1 && u.dtype == DT_U8 && get(&u, 0) == 255);
  c = info_of("only,names\n");
  cr_assert(c.header && c.nrow == 0 && c.ncol == 2);
  cr_assert_eq(tensor_count(&(Tensor){.rank = 1, .dim = {c.nrow}}), 0);
}

Test(native_csv, shapes_of_text, .init = start, .fini = stop) {
  static const char *const same[] = {
      "a,b\n1,2\n3,4\n",      "a,b\r\n1,2\r\n3,4\r\n",       "a,b\r1,2\r3,4",
      "a,b\n1,2\n3,4",        "\357\273\277a,b\n1,2\n3,4\n", "a;b\n1;2\n3;4\n",
      "a\tb\n1\t2\n3\t4\n",   "\n\na,b\n\n1,2\n  \n3,4\n\n", "\"a\",\"b\"\n\"1\",2\n3,\"4\"\n",
      "a,b\n 1 ,+2\n3\t,4 \n"};
  for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
    CsvInfo c = info_of(same[i]);
    cr_assert(c.ncol == 2 && c.nrow == 2 && c.header, "text %zu", i);
    cr_assert(!strcmp(c.col[0].name, "a") && !strcmp(c.col[1].name, "b"));
    Tensor a = column(same[i], 0), b = column(same[i], 1);
    cr_assert(a.dtype == DT_I64 && get(&a, 0) == 1 && get(&a, 1) == 3 && get(&b, 0) == 2 && get(&b, 1) == 4, "text %zu",
              i);
  }
  CsvInfo c = info_of("name,n\n\"two\nlines, \"\"quoted\"\"\",5\n\"\",6\n");
  cr_assert(c.nrow == 2 && c.col[0].text && c.col[1].dtype == DT_I64);
  Tensor n = column("name,n\n\"two\nlines, \"\"quoted\"\"\",5\n\"\",6\n", 1);
  cr_assert(get(&n, 0) == 5 && get(&n, 1) == 6);
  c = info_of("x\n\"\"\n1\n"); /* a quoted nothing is a row, a blank line is none */
  cr_assert_eq(c.nrow, 2);
}

Test(native_csv, faults, .init = start, .fini = stop) {
  fails("", "is empty");
  fails("\n\n", "is empty");
  fails("a,b\n1,2\n3\n", "line 3: 1 field, expected 2");
  fails("a,b\n1,2\n\n3,4,5\n", "line 4: 3 fields, expected 2");
  fails("a,b\r\n1,2\r\n3\r\n", "line 3: 1 field");
  fails("a,b\n1,\"2\n", "line 2: the quoted field does not end");
  fails("a,b\n1,\"2\"x\n", "line 2: text behind a closing quote");
  write_bytes(file("nul.csv"), "a,b\n1,\0\n", 8);
  Fault f;
  CsvInfo c;
  cr_assert(!csv_header(arena, file("nul.csv"), &c, &f) && strstr(f.msg, "line 2: a NUL"), "%s", f.msg);
  cr_assert(!csv_header(arena, file("nosuch.csv"), &c, &f) && strstr(f.msg, "no such file"));
}

/* What misfits beyond the first 1,000 rows names its line and column. */
Test(native_csv, a_late_misfit_names_its_line, .init = start, .fini = stop) {
  static const struct {
    const char *early, *late, *dtype;
  } rows[] = {{"1", "2.5", "i64"},
              {"1", "", "i64"},
              {"0.5", "x", "f32"},
              {"true", "2", "bool"},
              {"1", "99999999999999999999", "i64"}};
  for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
    FILE *out = fopen(file("late.csv"), "w");
    fprintf(out, "a,b\n");
    for (int i = 0; i < 1500; i++) fprintf(out, "%d,%s\n", i, i == 1200 ? rows[k].late : rows[k].early);
    fclose(out);
    Fault f;
    CsvInfo c;
    cr_assert(csv_header(arena, file("late.csv"), &c, &f), "%s", f.msg);
    cr_assert(c.nrow == 1500 && !strcmp(dt_name(c.col[1].dtype), rows[k].dtype));
    Tensor x = make(c.col[1].dtype, DIMS(c.nrow)), y = make(c.col[0].dtype, DIMS(c.nrow));
    cr_assert_not(call("load_csv", NULL, 2, (Attr[]){{.s = file("late.csv")}, {.i = 1}}, 0, NULL, 1, &x, &f));
    char want[64];
    snprintf(want, sizeof want, "line 1202, column 2: \"%s\" is no %s", rows[k].late, rows[k].dtype);
    cr_assert(f.id == R_NATIVE && strstr(f.msg, want), "%s", f.msg);
    cr_assert(call("load_csv", NULL, 2, (Attr[]){{.s = file("late.csv")}, {.i = 0}}, 0, NULL, 1, &y, &f), "%s", f.msg);
    for (int i = 0; i < 1500; i++) cr_assert_eq(get(&y, i), i);
  }
}

Test(native_csv, wrong_calls_are_faults, .init = start, .fini = stop) {
  Fault f;
  const char *path = csv_of("a,b\n1,2\n3,4\n");
  Tensor x = make(DT_I64, DIMS(2)), y = make(DT_I64, DIMS(3)), u = make(DT_I8, DIMS(2));
  cr_assert(
      call("load_csv", NULL, 2, (Attr[]){{.s = path}, {.i = 1}}, 0, NULL, 1, &u, &f)); /* any dtype that holds them */
  cr_assert_not(call("load_csv", NULL, 2, (Attr[]){{.s = path}, {.i = 2}}, 0, NULL, 1, &x, &f));
  cr_assert_not(call("load_csv", NULL, 2, (Attr[]){{.s = path}, {.i = -1}}, 0, NULL, 1, &x, &f));
  cr_assert_not(call("load_csv", NULL, 2, (Attr[]){{.s = path}, {.i = 0}}, 0, NULL, 1, &y, &f));
  cr_assert(strstr(f.msg, "changed"), "%s", f.msg);
  cr_assert_not(call("load_csv", NULL, 1, (Attr[]){{.s = path}}, 0, NULL, 1, &x, &f));
  cr_assert_not(call("save_csv", NULL, 1, (Attr[]){{.s = path}}, 2, (Tensor[]){x, y}, 0, NULL, &f));
  cr_assert_not(call("save_csv", NULL, 2, (Attr[]){{.s = path}, {.s = "a"}}, 2, (Tensor[]){x, x}, 0, NULL, &f));
}

Test(native_csv, values_out_of_range_are_faults, .init = start, .fini = stop) {
  static const struct {
    const char *type, *value;
    DType t;
  } rows[] = {{"u8", "256", DT_U8},     {"u8", "-1", DT_U8},           {"i8", "-129", DT_I8},
              {"i16", "32768", DT_I16}, {"i32", "2147483648", DT_I32}, {"bool", "2", DT_BOOL}};
  for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
    char text[64];
    snprintf(text, sizeof text, "a:%s\n1\n%s\n", rows[k].type, rows[k].value);
    CsvInfo c = info_of(text);
    cr_assert_eq(c.col[0].dtype, rows[k].t);
    Fault f;
    Tensor x = make(rows[k].t, DIMS(2));
    cr_assert_not(call("load_csv", NULL, 2, (Attr[]){{.s = file("t.csv")}, {.i = 0}}, 0, NULL, 1, &x, &f), "%s", text);
    cr_assert(strstr(f.msg, "line 3"), "%s", f.msg);
  }
}

Test(native_csv, written_files_read_back_exactly, .init = start, .fini = stop) {
  uint64_t seed = 77;
  Fault f;
  enum { N = 400 };
  Tensor a = make(DT_F32, DIMS(N)), b = make(DT_I64, DIMS(N)), c = make(DT_BOOL, DIMS(N)), d = make(DT_F64, DIMS(N));
  for (int i = 0; i < N; i++) {
    uint64_t bits = draw(&seed);
    float s;
    memcpy(&s, &bits, 4);
    put(&a, i,
        i == 3   ? NAN
        : i == 4 ? -INFINITY
                 : s),
        put(&c, i, (double)(bits & 1)), put(&d, i, uniform(&seed) * 1e10);
    ((int64_t *)b.data)[i] = (int64_t)bits;
  }
  const char *path = file("out.csv");
  Attr attr[] = {{.s = path}, {.s = "a:f32"}, {.s = "the \"b\", quoted"}, {.s = "c"}, {.s = "d:f64"}};
  cr_assert(call("save_csv", NULL, 5, attr, 4, (Tensor[]){a, b, c, d}, 0, NULL, &f), "%s", f.msg);
  CsvInfo info;
  cr_assert(csv_header(arena, path, &info, &f) && info.nrow == N && info.header, "%s", f.msg);
  cr_assert_str_eq(info.col[1].name, "the_b_quoted");
  Tensor in[] = {a, b, c, d};
  for (int k = 0; k < 4; k++) {
    cr_assert_eq(info.col[k].dtype, in[k].dtype);
    Tensor x = make(in[k].dtype, DIMS(N));
    cr_assert(call("load_csv", NULL, 2, (Attr[]){{.s = path}, {.i = k}}, 0, NULL, 1, &x, &f), "%s", f.msg);
    for (int i = 0; i < N; i++) {
      size_t size = (size_t)dt_bytes(x.dtype), at = size * (size_t)i;
      bool nan = dt_is_float(x.dtype) && isnan(get(&x, i)) && isnan(get(&in[k], i));
      cr_assert(nan || !memcmp((char *)x.data + at, (char *)in[k].data + at, size), "column %d, row %d", k, i);
    }
  }
  Tensor m = of(DT_F32, DIMS(2, 3), (double[]){1, 2.5, 3, 4, 5, 6});
  cr_assert(call("save_csv", NULL, 1, (Attr[]){{.s = path}}, 1, &m, 0, NULL, &f));
  char buf[100];
  size_t n = read_bytes(path, buf, sizeof buf);
  cr_assert(n == 24 && !memcmp(buf, "1.0,2.5,3.0\n4.0,5.0,6.0\n", 24));
}

Test(native_csv, gzip_and_long_rows, .init = start, .fini = stop) {
  Fault f;
  CsvInfo c;
  cr_assert_eq(run_shell("printf 'a,b\\n1,2\\n' | gzip > '%s'", file("z.csv.gz")), 0);
  cr_assert(csv_header(arena, file("z.csv.gz"), &c, &f) && c.ncol == 2 && c.nrow == 1);
  FILE *out = fopen(file("wide.csv"), "w"); /* longer than a block of the reader */
  for (int r = 0; r < 3; r++)
    for (int k = 0; k < 30000; k++) fprintf(out, "%d%c", k + r, k == 29999 ? '\n' : ',');
  fclose(out);
  cr_assert(csv_header(arena, file("wide.csv"), &c, &f) && c.ncol == 30000 && c.nrow == 3 && !c.header, "%s", f.msg);
  Tensor x = make(DT_I64, DIMS(3));
  cr_assert(call("load_csv", NULL, 2, (Attr[]){{.s = file("wide.csv")}, {.i = 29999}}, 0, NULL, 1, &x, &f));
  cr_assert(get(&x, 0) == 29999 && get(&x, 2) == 30001);
}

/* Cut anywhere and with any byte changed: an answer or a fault, no crash. */
Test(native_csv, damage, .init = start, .fini = stop) {
  char text[] = "a,\"b\"\"c\",d\n1,2.5,true\r\n-3,\"4\",false\n\n5,,true\n";
  for (size_t cut = 0; cut < sizeof text; cut++)
    for (int c = 0; c < 256; c += 3) {
      char was = text[cut];
      text[cut] = (char)c;
      for (int whole = 0; whole < 2; whole++) {
        write_bytes(file("d.csv"), text, whole ? sizeof text - 1 : cut);
        Fault f;
        CsvInfo info;
        if (!csv_header(arena, file("d.csv"), &info, &f)) {
          cr_assert_eq(f.id, M_FILE);
          continue;
        }
        for (int k = 0; k < info.ncol; k++) {
          if (info.col[k].text) continue;
          Tensor x = make(info.col[k].dtype, DIMS(info.nrow));
          cr_assert(call("load_csv", NULL, 2, (Attr[]){{.s = file("d.csv")}, {.i = k}}, 0, NULL, 1, &x, &f), "%s",
                    f.msg);
          tensor_drop(&x);
        }
      }
      text[cut] = was;
    }
}
