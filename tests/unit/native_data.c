/* Data sets from inside: numbers against strtod, permutations, stages against arrays, passes with and without a thread.
 */
#include "native_support.h"
#include "stdlib/native/csv_number.h"
#include "stdlib/native/data_csv.h"
#include "stdlib/native/data_pass.h"

/* Decimals of many kinds, with those that lie half-way between two floats or doubles. */
static void decimal_text(char *b, size_t n, uint64_t *s) {
  unsigned long long r = draw(s) >> draw(s) % 64, q = draw(s) >> draw(s) % 64;
  uint64_t bits = draw(s) & ~(UINT64_C(1) << 62);
  uint32_t half = (uint32_t)(bits >> 32);
  double d;
  float f, g;
  memcpy(&d, &bits, 8), memcpy(&f, &half, 4);
  half++;
  memcpy(&g, &half, 4);
  switch (draw(s) % 7) {
  case 0:
    snprintf(b, n, "%.17g", d);
    return;
  case 1:
    snprintf(b, n, "%.9g", (double)f);
    return;
  case 2:
    snprintf(b, n, "%s%llu.%llu", r & 1 ? "-" : "", r, q);
    return;
  case 3:
    snprintf(b, n, "%llue%d", r, (int)(q % 80) - 40);
    return;
  case 4:
    snprintf(b, n, q & 1 ? "%.17g" : "%.30f", ((double)f + (double)g) / 2);
    return;
  case 5:
    snprintf(b, n, "%llu%s", ((1ull << (q & 1 ? 53 : 24)) + 2 * (r % 1000000) + 1) << q % 9, q & 2 ? ".000" : "");
    return;
  default:
    snprintf(b, n, "0.%0*llu", (int)(q % 30), r);
    return;
  }
}

Test(native_data, numbers) {
  uint64_t s = 88172645463325252u;
  char b[512];
  for (int i = 0; i < 400000; i++) {
    decimal_text(b, sizeof b, &s);
    if (strpbrk(b, "ni")) continue; /* nan, inf */
    size_t n = strlen(b);
    double d, e;
    float f, g;
    char *end;
    e = strtod(b, &end), g = strtof(b, NULL);
    cr_assert(number_f64(b, b + n, &d) == end && !memcmp(&d, &e, sizeof d), "%s: %.17g %.17g", b, d, e);
    cr_assert(number_f32(b, b + n, &f) == end && !memcmp(&f, &g, sizeof f), "%s: %.9g %.9g", b, (double)f, (double)g);
  }
  static const char *const none[] = {"", "-", ".", "e5", "+.", "x"};
  for (size_t k = 0; k < sizeof none / sizeof *none; k++) {
    double d;
    cr_assert_null(number_f64(none[k], none[k] + strlen(none[k]), &d), "%s", none[k]);
  }
}

Test(native_data, integers) {
  static const struct {
    const char *s;
    bool ok;
    int64_t v;
  } rows[] = {{"0", true, 0},
              {"-9223372036854775808", true, INT64_MIN},
              {"9223372036854775807", true, INT64_MAX},
              {"9223372036854775808", false, 0},
              {"99999999999999999999", false, 0},
              {"00000000000000000000000012", true, 12},
              {"+7", true, 7},
              {"-", false, 0},
              {"", false, 0}};
  for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
    int64_t v = 0;
    const char *end = rows[k].s + strlen(rows[k].s), *p = number_i64(rows[k].s, end, &v);
    cr_assert((p == end) == rows[k].ok && (!rows[k].ok || v == rows[k].v), "%s", rows[k].s);
  }
}

/* All rows of an i64 set of one field, by passes of `size`, the last batch short. */
static int64_t read_rows(DataTable *t, int64_t id, int64_t key, const Tensor *x, int64_t size, int64_t skip,
                         int64_t *out) {
  Fault f = {0};
  DataPassRun *p = data_pass_new(data_set(t, id), size, skip, &key, x, &f);
  cr_assert_not_null(p, "%s", f.msg);
  int64_t n = 0, number, want = skip;
  for (int64_t ready; (ready = data_pass_ready(p, &f)) > 0; n += ready) {
    void *to = out + n;
    cr_assert(data_pass_take(p, ready, 0, ready, &to, &number, &f), "%s", f.msg);
    cr_assert_eq(number, want++);
    cr_assert_eq(data_pass_ready(p, &f) > 0 || ready <= size, 1);
  }
  cr_assert_eq(f.id, E_NONE, "%s", f.msg);
  data_pass_free(p);
  return n;
}

Test(native_data, permutations) {
  static const int64_t sizes[] = {1, 2, 3, 7, 1000, (1 << 20) + 3};
  for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
    int64_t n = sizes[k];
    DataTable *t = data_table_new(NULL);
    Tensor x = make(DT_I64, 1, &n);
    for (int64_t i = 0; i < n; i++) ((int64_t *)x.data)[i] = i;
    int64_t id = data_shuffle(t, data_rows(t, 1, &(DataField){.dtype = DT_I64}, n), 10);
    int64_t *a = malloc(sizeof *a * (size_t)n), *b = malloc(sizeof *b * (size_t)n), same = 0;
    char *seen = calloc(1, (size_t)n);
    cr_assert_eq(read_rows(t, id, 42, &x, 1000, 0, a), n);
    for (int64_t i = 0; i < n; i++) {
      cr_assert(a[i] >= 0 && a[i] < n && !seen[a[i]]++);
      same += a[i] == i;
    }
    cr_assert(n < 10 || same < 10);
    cr_assert_eq(read_rows(t, id, 42, &x, 7, 0, b), n); /* the order is the key's, not the batch's */
    cr_assert(!memcmp(a, b, sizeof *a * (size_t)n));
    cr_assert(read_rows(t, id, 43, &x, 1000, 0, b) == n && (n < 10 || memcmp(a, b, sizeof *a * (size_t)n)));
    int64_t m = read_rows(t, id, 42, &x, 7, 2, b); /* leaving batches out */
    cr_assert(m == (n > 14 ? n - 14 : 0) && !memcmp(a + 14, b, sizeof *b * (size_t)m));
    free(a), free(b), free(seen);

    data_table_free(t);
  }
}

/* ---- a rank's rows of each batch ---- */
static atomic_llong rows_read;
static bool gather_slowly(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  for (int64_t k = 0; k < n; k++) ((int64_t *)to[0])[k] = 10 * row[k];
  atomic_fetch_add(&rows_read, n);
  return true;
}

Test(native_data, windows) {
  enum { N = 40003, SIZE = 8 };
  static const DataOps ops = {.gather = gather_slowly};
  for (int slow = 0; slow < 2; slow++) {
    DataTable *t = data_table_new(NULL);
    Fault f = {0};
    DataSet *s = data_set_new(t, &ops, 1, &(DataField){.dtype = DT_I64}, 0, NULL);
    s->length = N, s->random = true, s->slow = slow, s->what = "rows";
    data_set_add(s);
    atomic_store(&rows_read, 0);
    DataPassRun *p = data_pass_new(s, SIZE, 2, NULL, NULL, &f);
    int64_t row[SIZE], number;
    void *to = row;
    for (int64_t b = 2; b < N / SIZE; b++) {
      int64_t lo = b < 4000 ? 3 : b % SIZE, hi = b < 4000 ? 5 : SIZE; /* another window, later one that changes */
      cr_assert(data_pass_take(p, SIZE, lo, hi, &to, &number, &f), "%s", f.msg);
      cr_assert_eq(number, b);
      for (int64_t k = lo; k < hi; k++) cr_assert_eq(row[k - lo], 10 * (SIZE * b + k));
      cr_assert(b != 3999 || atomic_load(&rows_read) < 20000);
    }
    cr_assert_eq(data_pass_ready(p, &f), N % SIZE);
    cr_assert(data_pass_take(p, N % SIZE, 1, 3, &to, &number, &f), "%s", f.msg);
    cr_assert(row[0] == 10 * (N - 2) && row[1] == 10 * (N - 1));
    cr_assert_eq(data_pass_ready(p, &f), 0);
    data_pass_free(p);
    data_table_free(t);
  }
}

/* A CSV is no random access: buffers, a thread, two readers at once. */
Test(native_data, streams, .fini = done) {
  enum { N = 30000 };
  FILE *out = fopen(file("s.csv"), "w");
  fputs("a\n", out);
  for (int i = 0; i < N; i++) fprintf(out, "%d\n", i);
  fclose(out);
  Fault f = {0};
  DataTable *t = data_table_new(NULL);
  int64_t id = data_csv(t, file("s.csv"), &(CsvOptions){0}, &f);
  cr_assert(id >= 0, "%s", f.msg);
  cr_assert_eq(data_csv(t, file("s.csv"), &(CsvOptions){0}, &f), id);
  static int64_t a[3 * N], b[3 * N];
  cr_assert_eq(read_rows(t, id, 0, NULL, 64, 0, a), N);
  for (int i = 0; i < N; i++) cr_assert_eq(a[i], i);
  cr_assert_eq(read_rows(t, id, 0, NULL, 64, 100, a), N - 6400);
  cr_assert_eq(a[0], 6400);
  cr_assert_eq(read_rows(t, data_take(t, data_skip(t, id, 10), 100), 0, NULL, 7, 0, a), 100);
  cr_assert(a[0] == 10 && a[99] == 109);
  cr_assert_eq(read_rows(t, data_repeat(t, id, 3), 0, NULL, 1000, 0, a), 3 * N);
  cr_assert(a[N] == 0 && a[3 * N - 1] == N - 1);
  int64_t sh = data_shuffle(t, id, 1000);
  cr_assert_eq(read_rows(t, sh, 5, NULL, 64, 0, a), N);
  static char seen[N];
  int64_t moved = 0;
  for (int i = 0; i < N; i++) {
    cr_assert(!seen[a[i]]++);
    moved += a[i] != i;
  }
  cr_assert(moved > N - 100);
  cr_assert_eq(read_rows(t, sh, 5, NULL, 100, 0, b), N);
  int64_t sample = data_sample(t, id, 50);
  cr_assert(!memcmp(a, b, sizeof *a * N));
  cr_assert(read_rows(t, sample, 9, NULL, 64, 0, a) == 50);
  int64_t cache = data_cache(t, id);
  cr_assert_eq(read_rows(t, cache, 0, NULL, 64, 0, a), N);
  remove(file("s.csv")); /* from memory now */
  cr_assert_eq(read_rows(t, cache, 0, NULL, 640, 0, b), N);
  cr_assert(!memcmp(a, b, sizeof *a * N));
  data_table_free(t);
}
