/* LAPACK natives: residuals for many sizes in both precisions, conventions, faults, nan, batches. */
#include "native_support.h"

static const int64_t sizes[] = {0, 1, 2, 3, 5, 7, 17, 33};
enum { NSIZES = sizeof sizes / sizeof *sizes, BATCH = 3 };
static double tolerance(DType t) { return t == DT_F64 ? 1e-11 : 2e-3; }

static Tensor mat(DType t, int64_t m, int64_t n) { return make(t, 3, (int64_t[]){BATCH, m, n}); }
static Tensor random_mat(DType t, int64_t m, int64_t n, uint64_t *seed) {
  Tensor x = mat(t, m, n);
  for (int64_t i = 0; i < tensor_count(&x); i++) put(&x, i, uniform(seed));
  return x;
}
/* Element (r, c) of matrix b. */
static double el(const Tensor *x, int64_t b, int64_t r, int64_t c) {
  return get(x, (b * x->dim[1] + r) * x->dim[2] + c);
}
/* (a^T or a) * c at one place. */
static double dot(const Tensor *a, bool at, const Tensor *b, bool bt, int64_t batch, int64_t r, int64_t c) {
  int64_t k = at ? a->dim[1] : a->dim[2];
  double s = 0;
  for (int64_t i = 0; i < k; i++)
    s += (at ? el(a, batch, i, r) : el(a, batch, r, i)) * (bt ? el(b, batch, c, i) : el(b, batch, i, c));
  return s;
}
static Tensor product(const Tensor *a, bool at, const Tensor *b, bool bt) {
  Tensor x = mat(DT_F64, at ? a->dim[2] : a->dim[1], bt ? b->dim[1] : b->dim[2]);
  for (int64_t i = 0, q = 0; i < BATCH; i++)
    for (int64_t r = 0; r < x.dim[1]; r++)
      for (int64_t c = 0; c < x.dim[2]; c++) put(&x, q++, dot(a, at, b, bt, i, r, c));
  return x;
}
static void near(const Tensor *a, const Tensor *b, double tol, const char *what) {
  cr_assert_eq(tensor_count(a), tensor_count(b));
  for (int64_t i = 0; i < tensor_count(a); i++)
    cr_assert(fabs(get(a, i) - get(b, i)) <= tol, "%s, element %d: %g, expected %g", what, (int)i, get(a, i),
              get(b, i));
}
static void orthonormal(const Tensor *q, double tol, const char *what) { /* columns */
  Tensor g = product(q, true, q, false);
  for (int64_t b = 0; b < BATCH; b++)
    for (int64_t r = 0; r < g.dim[1]; r++)
      for (int64_t c = 0; c < g.dim[2]; c++) cr_assert(fabs(el(&g, b, r, c) - (r == c)) <= tol, "%s", what);
  tensor_drop(&g);
}
static Tensor spd(DType t, int64_t n, uint64_t *seed) { /* a a^T + n */
  Tensor a = random_mat(t, n, n, seed), p = product(&a, false, &a, true), x = mat(t, n, n);
  for (int64_t i = 0; i < tensor_count(&x); i++) put(&x, i, get(&p, i) + ((i / n) % n == i % n ? (double)n : 0));
  return x;
}
#define EACH_SIZE(t, n)                                                                                                \
  for (int t = DT_F32; t <= DT_F64; t++)                                                                               \
    for (int s_ = 0, n = 0; s_ < NSIZES && (n = (int)sizes[s_], true); s_++)

Test(native_linalg, solve_inv_det) {
  uint64_t seed = 42;
  Fault f;
  EACH_SIZE(t, n) {
    DType dt = (DType)t;
    Tensor a = spd(dt, n, &seed), b = random_mat(dt, n, 2, &seed), x = mat(dt, n, 2), inv = mat(dt, n, n);
    if (n > 1) put(&a, 1, 0.3); /* not symmetric */
    cr_assert(call("solve", NULL, 0, NULL, 2, (Tensor[]){a, b}, 1, &x, &f));
    Tensor ax = product(&a, false, &x, false);
    near(&ax, &b, tolerance(dt), "solve");
    Tensor v = make(dt, 2, (int64_t[]){BATCH, n}), y = make(dt, 2, v.dim);
    for (int64_t i = 0; i < tensor_count(&v); i++) put(&v, i, get(&b, 2 * i));
    cr_assert(call("solve", NULL, 0, NULL, 2, (Tensor[]){a, v}, 1, &y, &f));
    for (int64_t i = 0; i < tensor_count(&y); i++) cr_assert(fabs(get(&y, i) - get(&x, 2 * i)) < tolerance(dt));
    cr_assert(call("inv", NULL, 0, NULL, 1, &a, 1, &inv, &f));
    Tensor one = product(&a, false, &inv, false);
    for (int64_t i = 0; i < tensor_count(&one); i++)
      cr_assert(fabs(get(&one, i) - ((i / n) % n == i % n)) < tolerance(dt));
    Tensor det = make(dt, DIMS(BATCH)), sign = make(dt, DIMS(BATCH)), logdet = make(dt, DIMS(BATCH));
    cr_assert(call("det", NULL, 0, NULL, 1, &a, 1, &det, &f));
    cr_assert(call("slogdet", NULL, 0, NULL, 1, &a, 2, (Tensor[]){sign, logdet}, &f));
    for (int64_t i = 0; i < BATCH; i++) {
      double d = get(&det, i);
      if (n == 0) cr_assert(d == 1 && get(&sign, i) == 1 && get(&logdet, i) == 0);
      if (isfinite(d)) cr_assert(fabs(get(&sign, i) * exp(get(&logdet, i)) / d - 1) < 1e-3 * (dt == DT_F64 ? 1e-8 : 1));
    }
  }
}

Test(native_linalg, determinant_by_hand) {
  Fault f;
  Tensor a = of(DT_F64, DIMS(4, 2, 2), (double[]){1, 2, 3, 4, 0, 1, 1, 0, 1, 2, 2, 4, -2, 0, 0, -3});
  Tensor det = make(DT_F64, DIMS(4)), sign = make(DT_F64, DIMS(4)), logs = make(DT_F64, DIMS(4));
  cr_assert(call("det", NULL, 0, NULL, 1, &a, 1, &det, &f));
  cr_assert(call("slogdet", NULL, 0, NULL, 1, &a, 2, (Tensor[]){sign, logs}, &f));
  const double want[] = {-2, -1, 0, 6};
  for (int i = 0; i < 4; i++) cr_assert(fabs(get(&det, i) - want[i]) < 1e-14);
  cr_assert(get(&sign, 0) == -1 && get(&sign, 1) == -1 && get(&sign, 2) == 0 && get(&sign, 3) == 1);
  cr_assert(get(&logs, 2) == -INFINITY && fabs(get(&logs, 3) - log(6)) < 1e-14);
}

Test(native_linalg, cholesky) {
  uint64_t seed = 7;
  Fault f;
  EACH_SIZE(t, n) {
    DType dt = (DType)t;
    Tensor a = spd(dt, n, &seed), l = mat(dt, n, n);
    cr_assert(call("cholesky", NULL, 0, NULL, 1, &a, 1, &l, &f));
    Tensor p = product(&l, false, &l, true);
    near(&p, &a, tolerance(dt) * (n + 1), "cholesky");
    for (int64_t b = 0; b < BATCH; b++)
      for (int64_t r = 0; r < n; r++)
        for (int64_t c = r; c < n; c++) cr_assert(c == r ? el(&l, b, r, c) > 0 : el(&l, b, r, c) == 0);
  }
  /* the upper triangle is not read */
  Tensor a = of(DT_F64, DIMS(2, 2), (double[]){4, NAN, 2, 5}), l = make(DT_F64, DIMS(2, 2));
  cr_assert(call("cholesky", NULL, 0, NULL, 1, &a, 1, &l, &f));
  cr_assert(get(&l, 0) == 2 && get(&l, 1) == 0 && get(&l, 2) == 1 && get(&l, 3) == 2);
}

Test(native_linalg, qr_svd_lstsq_of_all_shapes) {
  uint64_t seed = 99;
  Fault f;
  for (int t = DT_F32; t <= DT_F64; t++)
    for (int i = 0; i < NSIZES; i++)
      for (int j = 0; j < NSIZES; j++) {
        DType dt = (DType)t;
        int64_t m = sizes[i], n = sizes[j], k = m < n ? m : n;
        Tensor a = random_mat(dt, m, n, &seed), q = mat(dt, m, k), r = mat(dt, k, n);
        cr_assert(call("qr", NULL, 0, NULL, 1, &a, 2, (Tensor[]){q, r}, &f));
        Tensor qr = product(&q, false, &r, false);
        if (k) near(&qr, &a, tolerance(dt), "qr");
        orthonormal(&q, tolerance(dt), "q");
        for (int64_t b = 0; b < BATCH; b++)
          for (int64_t x = 0; x < k; x++)
            for (int64_t c = 0; c < x; c++) cr_assert_eq(el(&r, b, x, c), 0);
        Tensor u = mat(dt, m, k), s = make(dt, 2, (int64_t[]){BATCH, k}), vh = mat(dt, k, n);
        cr_assert(call("svd", NULL, 0, NULL, 1, &a, 3, (Tensor[]){u, s, vh}, &f));
        orthonormal(&u, tolerance(dt), "u");
        Tensor us = mat(DT_F64, m, k), v = mat(DT_F64, n, k);
        for (int64_t b = 0; b < BATCH; b++)
          for (int64_t c = 0; c < k; c++) {
            double sc = get(&s, b * k + c);
            cr_assert(sc >= 0 && (c == 0 || sc <= get(&s, b * k + c - 1)));
            for (int64_t x = 0; x < m; x++) put(&us, (b * m + x) * k + c, el(&u, b, x, c) * sc);
            for (int64_t x = 0; x < n; x++) put(&v, (b * n + x) * k + c, el(&vh, b, c, x));
          }
        orthonormal(&v, tolerance(dt), "v");
        Tensor usv = product(&us, false, &vh, false);
        if (k) near(&usv, &a, tolerance(dt), "svd");
        Tensor y = random_mat(dt, m, 2, &seed), x = mat(dt, n, 2);
        cr_assert(call("lstsq", NULL, 0, NULL, 2, (Tensor[]){a, y}, 1, &x, &f));
        Tensor ax = product(&a, false, &x, false); /* a^T (a x - y) = 0 */
        if (m)
          for (int64_t e = 0; e < tensor_count(&ax); e++) put(&ax, e, get(&ax, e) - get(&y, e));
        Tensor g = product(&a, true, &ax, false);
        for (int64_t e = 0; e < tensor_count(&g); e++)
          cr_assert(fabs(get(&g, e)) < tolerance(dt) * 10, "lstsq %d %d", (int)m, (int)n);
        if (m == 0)
          for (int64_t e = 0; e < tensor_count(&x); e++) cr_assert_eq(get(&x, e), 0);
        Tensor *all[] = {&a, &q, &r, &qr, &u, &s, &vh, &us, &v, &usv, &y, &x, &ax, &g};
        for (size_t e = 0; e < sizeof all / sizeof *all; e++) tensor_drop(all[e]);
      }
}

Test(native_linalg, eigh) {
  uint64_t seed = 5;
  Fault f;
  EACH_SIZE(t, n) {
    DType dt = (DType)t;
    Tensor a = spd(dt, n, &seed), w = make(dt, 2, (int64_t[]){BATCH, n}), v = mat(dt, n, n);
    cr_assert(call("eigh", NULL, 0, NULL, 1, &a, 2, (Tensor[]){w, v}, &f));
    orthonormal(&v, tolerance(dt), "eigenvectors");
    Tensor av = product(&a, false, &v, false);
    for (int64_t b = 0; b < BATCH; b++)
      for (int64_t c = 0; c < n; c++) {
        cr_assert(c == 0 || get(&w, b * n + c) >= get(&w, b * n + c - 1));
        for (int64_t r = 0; r < n; r++)
          cr_assert(fabs(el(&av, b, r, c) - el(&v, b, r, c) * get(&w, b * n + c)) < tolerance(dt) * (n + 1));
      }
  }
}

Test(native_linalg, lstsq_of_low_rank_has_least_norm) {
  Fault f;
  Tensor a = of(DT_F64, DIMS(3, 2), (double[]){1, 1, 1, 1, 1, 1}), b = VALUES(DT_F64, 3, 1, 2, 3),
         x = make(DT_F64, DIMS(2));
  cr_assert(call("lstsq", NULL, 0, NULL, 2, (Tensor[]){a, b}, 1, &x, &f));
  cr_assert(fabs(get(&x, 0) - 1) < 1e-14 && fabs(get(&x, 1) - 1) < 1e-14);
}

Test(native_linalg, faults_say_what_and_where) {
  Fault f;
  Tensor a = of(DT_F64, DIMS(2, 2, 2), (double[]){1, 0, 0, 1, 1, 2, 2, 4}), x = make(DT_F64, DIMS(2, 2, 2));
  cr_assert_not(call("inv", NULL, 0, NULL, 1, &a, 1, &x, &f));
  cr_assert(f.id == R_NATIVE && !strcmp(f.msg, "inv: matrix 1 of the batch is singular (zero pivot 2)"), "%s", f.msg);
  cr_assert_not(call("solve", NULL, 0, NULL, 2, (Tensor[]){a, a}, 1, &x, &f));
  Tensor b = of(DT_F32, DIMS(2, 2), (double[]){1, 2, 2, 1}), y = make(DT_F32, DIMS(2, 2));
  cr_assert_not(call("cholesky", NULL, 0, NULL, 1, &b, 1, &y, &f));
  cr_assert_str_eq(f.msg, "cholesky: matrix is not positive definite (leading minor of order 2)");
}

Test(native_linalg, wrong_calls_are_faults) {
  Fault f;
  Tensor i = make(DT_I64, DIMS(2, 2)), v = make(DT_F32, DIMS(2)), r = make(DT_F32, DIMS(2, 3)),
         a = make(DT_F32, DIMS(2, 2));
  Tensor d = make(DT_F64, DIMS(2, 2)), z = make(DT_F32, DIMS(0)), s = scalar(DT_F32, 0);
  static const char *const one[] = {"inv", "cholesky", "det"};
  for (int k = 0; k < 3; k++) {
    cr_assert_not(call(one[k], NULL, 0, NULL, 1, &i, 1, &i, &f));
    cr_assert_not(call(one[k], NULL, 0, NULL, 1, &v, 1, &v, &f));
    cr_assert_not(call(one[k], NULL, 0, NULL, 1, &r, 1, &r, &f));
    cr_assert_not(call(one[k], NULL, 0, NULL, 1, &a, 1, &d, &f));
    cr_assert_not(call(one[k], NULL, 0, NULL, 0, NULL, 1, &d, &f));
  }
  cr_assert_not(call("solve", NULL, 0, NULL, 2, (Tensor[]){a, d}, 1, &a, &f));
  cr_assert_not(call("solve", NULL, 0, NULL, 2, (Tensor[]){a, s}, 1, &s, &f));
  cr_assert_not(call("solve", NULL, 0, NULL, 2, (Tensor[]){a, z}, 1, &z, &f));
  cr_assert_not(call("svd", NULL, 0, NULL, 1, &a, 3, (Tensor[]){a, a, a}, &f));
  cr_assert_not(call("qr", NULL, 0, NULL, 1, &r, 2, (Tensor[]){a, a}, &f));
  cr_assert_not(call("eigh", NULL, 0, NULL, 1, &a, 2, (Tensor[]){a, v}, &f));
}

/* nan and inf: nan results for that matrix, the others of the batch as if alone; nothing hangs. */
Test(native_linalg, nan_stays_in_its_matrix, .timeout = 60) {
  static const struct {
    const char *name;
    int nin, nout;
  } call_of[] = {{"solve", 2, 1}, {"inv", 1, 1},  {"cholesky", 1, 1}, {"qr", 1, 2},
                 {"svd", 1, 3},   {"eigh", 1, 2}, {"lstsq", 2, 1}};
  uint64_t seed = 3;
  Fault f;
  for (int t = DT_F32; t <= DT_F64; t++)
    for (size_t c = 0; c < sizeof call_of / sizeof *call_of; c++)
      for (int bad = 0; bad < 2; bad++) {
        int64_t n = 40;
        DType dt = (DType)t;
        Tensor a = spd(dt, n, &seed), clean = mat(dt, n, n), b = random_mat(dt, n, n, &seed), in[] = {a, b},
               in2[] = {clean, b};
        memcpy(clean.data, a.data, tensor_bytes(&a));
        put(&a, n * n + 5 * n + 3, bad ? INFINITY : NAN); /* below the diagonal of matrix 1 */
        int64_t dims[] = {BATCH, n};
        bool vector_first = !strcmp(call_of[c].name, "eigh"), vector_second = !strcmp(call_of[c].name, "svd");
        Tensor out[3], ref[3];
        for (int k = 0; k < 3; k++) {
          bool vec = (vector_first && k == 0) || (vector_second && k == 1);
          out[k] = vec ? make(dt, 2, dims) : mat(dt, n, n), ref[k] = vec ? make(dt, 2, dims) : mat(dt, n, n);
        }
        cr_assert(call(call_of[c].name, NULL, 0, NULL, call_of[c].nin, in, call_of[c].nout, out, &f), "%s: %s",
                  call_of[c].name, f.msg);
        cr_assert(call(call_of[c].name, NULL, 0, NULL, call_of[c].nin, in2, call_of[c].nout, ref, &f));
        for (int k = 0; k < call_of[c].nout; k++) {
          int64_t each = tensor_count(&out[k]) / BATCH;
          size_t bytes = tensor_bytes(&out[k]) / BATCH;
          for (int64_t i = each; i < 2 * each; i++) cr_assert(isnan(get(&out[k], i)), "%s", call_of[c].name);
          cr_assert(!memcmp(out[k].data, ref[k].data, bytes)); /* bit for bit: a row of a batch is the row alone */
          cr_assert(!memcmp((char *)out[k].data + 2 * bytes, (char *)ref[k].data + 2 * bytes, bytes));
        }
      }
}

/* Signs and order against NumPy itself. */
Test(native_linalg, as_numpy, .fini = done) {
  uint64_t seed = 11;
  Fault f;
  int64_t m = 6, n = 4;
  Tensor a = random_mat(DT_F64, m, n, &seed), q = mat(DT_F64, m, n), r = mat(DT_F64, n, n), u = mat(DT_F64, m, n);
  Tensor s = make(DT_F64, DIMS(BATCH, 4)), vh = mat(DT_F64, n, n), p = spd(DT_F64, n, &seed),
         w = make(DT_F64, DIMS(BATCH, 4));
  Tensor v = mat(DT_F64, n, n);
  cr_assert(call("qr", NULL, 0, NULL, 1, &a, 2, (Tensor[]){q, r}, &f));
  cr_assert(call("svd", NULL, 0, NULL, 1, &a, 3, (Tensor[]){u, s, vh}, &f));
  cr_assert(call("eigh", NULL, 0, NULL, 1, &p, 2, (Tensor[]){w, v}, &f));
  Tensor all[] = {a, q, r, u, s, vh, p, w, v};
  Attr attr[] = {{.s = file("all.npz")},
                 {.s = "a"},
                 {.s = "q"},
                 {.s = "r"},
                 {.s = "u"},
                 {.s = "s"},
                 {.s = "vh"},
                 {.s = "p"},
                 {.s = "w"},
                 {.s = "v"}};
  cr_assert(call("save_npz", NULL, 10, attr, 9, all, 0, NULL, &f), "%s", f.msg);
  numpy("import numpy as np\nd = np.load('all.npz')\n"
        "for i in range(3):\n"
        "  q, r = np.linalg.qr(d['a'][i])\n"
        "  u, s, vh = np.linalg.svd(d['a'][i], full_matrices=False)\n"
        "  w, v = np.linalg.eigh(d['p'][i])\n"
        "  for name, x in dict(q=q, r=r, u=u, s=s, vh=vh, w=w, v=v).items():\n"
        "    assert np.allclose(d[name][i], x, rtol=1e-10, atol=1e-10), name\n");
}
