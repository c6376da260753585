/* sort and argsort against a slow stable sort, for all dtypes, both directions, sizes around the radix sort's
 * threshold. */
#include "native_support.h"

/* x before y? nan last in both directions. */
static bool before(double x, double y, bool descending) {
  if (isnan(x) || isnan(y)) return !isnan(x) && isnan(y);
  return descending ? x > y : x < y;
}

static void check(DType t, int64_t rows, int64_t n, bool descending, uint64_t *seed) {
  Tensor x = make(t, 2, (int64_t[]){rows, n}), y = make(t, 2, x.dim), p = make(DT_I64, 2, x.dim);
  for (int64_t i = 0; i < rows * n; i++) {
    uint64_t r = draw(seed);
    double v = (double)(int64_t)(r % 40) - (t == DT_U8 ? 0 : 20); /* many ties */
    if (t == DT_BOOL) v = (double)(r & 1);
    if (dt_is_float(t))
      v = r % 11 == 0 ? NAN : r % 13 == 0 ? -0.0 : r % 17 == 0 ? INFINITY : r % 19 == 0 ? -INFINITY : v / 4;
    put(&x, i, v);
  }
  Fault f;
  Attr attr = {.i = descending};
  cr_assert(call("sort", NULL, 1, &attr, 1, &x, 1, &y, &f) && call("argsort", NULL, 1, &attr, 1, &x, 1, &p, &f));
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < n; i++) {
      int64_t at = ((int64_t *)p.data)[r * n + i], place = 0;
      cr_assert(at >= 0 && at < n);
      size_t size = (size_t)dt_bytes(t); /* the very bytes: -0.0 stays -0.0 */
      cr_assert(
          !memcmp((char *)y.data + (size_t)(r * n + i) * size, (char *)x.data + (size_t)(r * n + at) * size, size));
      double v = get(&x, r * n + at);
      for (int64_t k = 0; k < n; k++) { /* the place that a stable sort gives */
        double w = get(&x, r * n + k);
        place += before(w, v, descending) || (k < at && !before(v, w, descending));
      }
      cr_assert_eq(place, i, "%s n %d: element %d is at %d, expected %d", dt_name(t), (int)n, (int)at, (int)i,
                   (int)place);
    }
  tensor_drop(&x), tensor_drop(&y), tensor_drop(&p);
}

Test(native_sort, all_dtypes_and_sizes) {
  static const int64_t sizes[] = {0, 1, 2, 3, 5, 7, 17, 24, 25, 33, 150};
  uint64_t seed = 1234567;
  for (int t = 0; t < DT_COUNT; t++)
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
      for (int d = 0; d < 2; d++) check((DType)t, 3, sizes[s], d, &seed);
}

Test(native_sort, extreme_values) {
  Fault f;
  Tensor x = make(DT_I64, DIMS(30)), y = make(DT_I64, DIMS(30));
  int64_t *v = x.data, *w = y.data;
  for (int i = 0; i < 30; i++) v[i] = i % 3 == 0 ? INT64_MIN + i : i % 3 == 1 ? INT64_MAX - i : i - 15;
  cr_assert(call("sort", NULL, 0, NULL, 1, &x, 1, &y, &f));
  for (int i = 1; i < 30; i++) cr_assert(w[i - 1] <= w[i]);
  cr_assert_eq(w[0], INT64_MIN);
  cr_assert_eq(w[29], INT64_MAX - 1);
  Tensor d = VALUES(DT_F64, 4, 5e-324, -5e-324, 1.7976931348623157e308, -1.7976931348623157e308),
         e = make(DT_F64, DIMS(4));
  cr_assert(call("sort", NULL, 0, NULL, 1, &d, 1, &e, &f));
  cr_assert(get(&e, 0) == -1.7976931348623157e308 && get(&e, 1) == -5e-324 && get(&e, 2) == 5e-324);
}

Test(native_sort, wrong_calls_are_faults) {
  Fault f;
  Tensor s = scalar(DT_F32, 1), x = make(DT_F32, DIMS(3)), y = make(DT_F32, DIMS(4)), z = make(DT_F64, DIMS(3));
  cr_assert_not(call("sort", NULL, 0, NULL, 1, &s, 1, &s, &f));
  cr_assert_not(call("sort", NULL, 0, NULL, 1, &x, 1, &y, &f));
  cr_assert_not(call("sort", NULL, 0, NULL, 1, &x, 1, &z, &f));
  cr_assert_not(call("argsort", NULL, 0, NULL, 1, &x, 1, &x, &f));
  cr_assert_eq(f.id, R_NATIVE);
}
