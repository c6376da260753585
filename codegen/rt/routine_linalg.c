/* Batched linear algebra over LAPACK, in f32 and f64, with NumPy's conventions of order and sign.
 *
 * A Job is one call of a routine: its checked shapes, LAPACK's table for its dtype, and work space. Each routine is a
 * shape check, a function that does one matrix, and a row at the end; `each` is the loop over the batch. Matrices are
 * turned to column-major scratch and back, as NumPy does: the same LAPACK routine on the same bytes gives NumPy's
 * signs. A matrix that holds nan or inf never reaches LAPACK (some routines would not return): its results are nan. */
#include "codegen/rt/lapack.h"
#include "codegen/rt/routine.h"
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct Job {
  RtCall *call;
  const char *name;
  const Lapack *la;
  bool f64;
  size_t size; /* bytes of an element */
  const RtTensor *in, *out;
  int nbatch;     /* leading dims */
  int64_t batch;  /* their product */
  int m, n, r, k; /* rows, columns, right-hand sides, min(m, n) */
  size_t used;    /* bytes of the work space */
  int status;
} Job;

/* ---- errors and work space ------------------------------------------------------------------------------------ */
static bool refuse(Job *j, const char *what) {
  snprintf(j->call->message, sizeof j->call->message, "%s: %s", j->name, what);
  j->status = RT_ROUTINE;
  return false;
}

static bool refuse_matrix(Job *j, int64_t b, const char *what, int at) {
  char where[48] = "";
  if (j->nbatch) snprintf(where, sizeof where, " %lld of the batch", (long long)b);
  snprintf(j->call->message, sizeof j->call->message, "%s: matrix%s %s %d)", j->name, where, what, at);
  j->status = RT_ROUTINE;
  return false;
}

/* Room for rows x cols elements of `size`; NULL when that is no number of bytes. While measuring the pointer is not to
 * be followed. */
static void *room(Job *j, int64_t rows, int64_t cols, size_t size) {
  size_t bytes, at = j->used;
  if (!__builtin_mul_overflow((size_t)rows, (size_t)cols, &bytes) && !__builtin_mul_overflow(bytes, size, &bytes) &&
      !__builtin_add_overflow(bytes, 127, &bytes) && !__builtin_add_overflow(at, bytes & ~(size_t)63, &j->used))
    return j->call->measure ? j->call->message : j->call->work + at;
  snprintf(j->call->message, sizeof j->call->message, "%s: no memory for the work space", j->name);
  j->status = RT_NO_MEMORY;
  return NULL;
}
static void *room_reals(Job *j, int64_t rows, int64_t cols) { return room(j, rows, cols, j->size); }

/* After the last room, and before tensors are looked at. */
static bool measured(Job *j) {
  if (j->call->measure) j->call->work_bytes = j->used;
  return j->call->measure;
}

/* ---- elements ------------------------------------------------------------------------------------------------- */
static double get(const Job *j, const void *p, int64_t i) {
  return j->f64 ? ((const double *)p)[i] : ((const float *)p)[i];
}
static void set(const Job *j, void *p, int64_t i, double v) {
  if (j->f64)
    ((double *)p)[i] = v;
  else
    ((float *)p)[i] = (float)v;
}
static void fill(const Job *j, void *p, int64_t n, double v) {
  for (int64_t i = 0; i < n; i++) set(j, p, i, v);
}
static void *at(const Job *j, const void *p, int64_t i) { return (char *)(uintptr_t)p + (size_t)i * j->size; }

/* to[c * ld + r] = from[r * cols + c], and back. */
static void to_columns(const Job *j, void *to, int64_t ld, const void *from, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < cols; c++)
      if (j->f64)
        ((double *)to)[c * ld + r] = ((const double *)from)[r * cols + c];
      else
        ((float *)to)[c * ld + r] = ((const float *)from)[r * cols + c];
}
static void to_rows(const Job *j, void *to, const void *from, int64_t ld, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < cols; c++)
      if (j->f64)
        ((double *)to)[r * cols + c] = ((const double *)from)[c * ld + r];
      else
        ((float *)to)[r * cols + c] = ((const float *)from)[c * ld + r];
}

static bool all_finite(const Job *j, const void *p, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(get(j, p, i))) return false;
  return true;
}
static bool lower_finite(const Job *j, const void *p, int64_t n) {
  for (int64_t r = 0; r < n; r++)
    if (!all_finite(j, at(j, p, r * n), r + 1)) return false;
  return true;
}

/* ---- shapes --------------------------------------------------------------------------------------------------- */
/* t = batch dims of j, then the given own dims. */
static bool shaped(const Job *j, const RtTensor *t, int own, int64_t d0, int64_t d1) {
  if (t->dtype != j->in[0].dtype || t->rank != j->nbatch + own) return false;
  if (memcmp(t->dim, j->in[0].dim, sizeof t->dim[0] * (size_t)j->nbatch)) return false;
  return (own < 1 || t->dim[j->nbatch] == d0) && (own < 2 || t->dim[j->nbatch + 1] == d1);
}

/* Starts a job on matrices in[0] [..., M, N]. */
static bool start(Job *j, RtCall *c, const char *name, bool square, int want_in, int want_out) {
  const RtTensor *in = c->in;
  *j = (Job){.call = c, .name = name, .in = in, .out = c->out, .batch = 1};
  c->work_bytes = c->measure ? 0 : c->work_bytes;
  if (c->nin != want_in || c->nout != want_out) return refuse(j, "wrong number of arguments or results");
  if (in->dtype != LD_F32 && in->dtype != LD_F64) return refuse(j, "only f32 and f64 matrices");
  if (in->rank < 2) return refuse(j, "a matrix has two axes");
  j->f64 = in->dtype == LD_F64, j->size = j->f64 ? 8 : 4;
  j->nbatch = in->rank - 2;
  for (int d = 0; d < j->nbatch; d++) j->batch *= in->dim[d];
  int64_t m = in->dim[in->rank - 2], n = in->dim[in->rank - 1];
  if (m > INT_MAX / 4 || n > INT_MAX / 4) return refuse(j, "the matrix is too large for LAPACK");
  if (square && m != n) return refuse(j, "the matrix is not square");
  j->m = (int)m, j->n = (int)n, j->k = j->m < j->n ? j->m : j->n;
  j->la = c->lapack ? &c->lapack[j->f64] : NULL;
  return j->la ? true : refuse(j, LAPACK_MISSING);
}

/* The right-hand sides in[1]: [..., M, R], or [..., M] with R = 1; the result: the same with N rows. */
static bool start_rhs(Job *j) {
  const RtTensor *b = &j->in[1];
  bool vector = b->rank == j->nbatch + 1;
  int64_t r = vector ? 1 : b->rank ? b->dim[b->rank - 1] : 0;
  if (r > INT_MAX / 4) return refuse(j, "too many right-hand sides for LAPACK");
  j->r = (int)r;
  int own = vector ? 1 : 2;
  if (!shaped(j, b, own, j->m, r) || !shaped(j, &j->out[0], own, j->n, r))
    return refuse(j, "the right-hand side does not fit the matrix");
  return true;
}

static bool wrong_result(Job *j) { return refuse(j, "a result has the wrong type"); }

static bool bug_info(Job *j, int info) {
  snprintf(j->call->message, sizeof j->call->message, "%s: LAPACK refused argument %d", j->name, -info);
  j->status = RT_ROUTINE;
  return false;
}

static int leading(int n) { return n > 1 ? n : 1; }
/* The optimal work space that a query left in its first element. */
static int work_size(const Job *j, const void *first) {
  double v = get(j, first, 0);
  return v < 1 ? 1 : v > INT_MAX - 64 ? INT_MAX - 64 : (int)v + (j->f64 ? 0 : 32); /* f32 may have rounded it down */
}

/* ---- solve, inv ----------------------------------------------------------------------------------------------- */
static bool solve_batch(Job *j, bool inverse) {
  int n = j->n, r = inverse ? n : j->r, lda = leading(n), info = 0;
  if (n == 0 || r == 0) return true;
  void *a = room_reals(j, n, n), *b = a ? room_reals(j, n, r) : NULL;
  int *pivot = b ? room(j, n, 1, sizeof(int)) : NULL;
  if (!pivot) return false;
  if (measured(j)) return true;
  for (int64_t i = 0; i < j->batch; i++) {
    const void *src = at(j, j->in[0].data, i * n * n);
    void *dst = at(j, j->out[0].data, i * n * r);
    if (!all_finite(j, src, (int64_t)n * n)) {
      fill(j, dst, (int64_t)n * r, NAN);
      continue;
    }
    to_columns(j, a, n, src, n, n);
    if (inverse) {
      fill(j, b, (int64_t)n * n, 0);
      for (int64_t d = 0; d < n; d++) set(j, b, d * n + d, 1);
    } else {
      to_columns(j, b, n, at(j, j->in[1].data, i * n * r), n, r);
    }
    j->la->gesv(&n, &r, a, &lda, pivot, b, &lda, &info);
    if (info < 0) return bug_info(j, info);
    if (info > 0) return refuse_matrix(j, i, "is singular (zero pivot", info);
    to_rows(j, dst, b, n, n, r);
  }
  return true;
}

static int run_solve(RtCall *c) {
  Job j;
  bool ok = start(&j, c, "solve", true, 2, 1) && start_rhs(&j) && solve_batch(&j, false);
  return ok ? RT_OK : j.status;
}

static int run_inv(RtCall *c) {
  Job j;
  bool ok = start(&j, c, "inv", true, 1, 1) && (shaped(&j, &j.out[0], 2, j.n, j.n) || wrong_result(&j)) &&
            solve_batch(&j, true);
  return ok ? RT_OK : j.status;
}

/* ---- det, slogdet --------------------------------------------------------------------------------------------- */
typedef struct SignLog {
  double sign, log, det;
} SignLog;

/* The product of the diagonal of U, with the sign of the permutation. */
static SignLog diagonal(const Job *j, const void *lu, const int *pivot) {
  SignLog r = {1, 0, 1};
  for (int64_t d = 0; d < j->n; d++) {
    double v = get(j, lu, d * j->n + d);
    if (pivot[d] != d + 1) r.sign = -r.sign, r.det = -r.det;
    if (v < 0) r.sign = -r.sign;
    r.log += log(fabs(v));
    r.det *= v;
  }
  return r;
}

static bool determinants(Job *j, bool logs) {
  int n = j->n, lda = leading(n), info = 0;
  void *a = room_reals(j, n, n);
  int *pivot = a ? room(j, n, 1, sizeof(int)) : NULL;
  if (!pivot) return false;
  if (measured(j)) return true;
  for (int64_t i = 0; i < j->batch; i++) {
    const void *src = at(j, j->in[0].data, i * n * n);
    SignLog r = {NAN, NAN, NAN};
    if (all_finite(j, src, (int64_t)n * n)) {
      to_columns(j, a, n, src, n, n);
      if (n) j->la->getrf(&n, &n, a, &lda, pivot, &info);
      if (info < 0) return bug_info(j, info);
      r = info > 0 ? (SignLog){0, -INFINITY, 0} : diagonal(j, a, pivot);
    }
    set(j, j->out[0].data, i, logs ? r.sign : r.det);
    if (logs) set(j, j->out[1].data, i, r.log);
  }
  return true;
}

static int run_det(RtCall *c) {
  Job j;
  bool ok = start(&j, c, "det", true, 1, 1) && (shaped(&j, &j.out[0], 0, 0, 0) || wrong_result(&j)) &&
            determinants(&j, false);
  return ok ? RT_OK : j.status;
}

static int run_slogdet(RtCall *c) {
  Job j;
  bool ok = start(&j, c, "slogdet", true, 1, 2) &&
            ((shaped(&j, &j.out[0], 0, 0, 0) && shaped(&j, &j.out[1], 0, 0, 0)) || wrong_result(&j)) &&
            determinants(&j, true);
  return ok ? RT_OK : j.status;
}

/* ---- cholesky ------------------------------------------------------------------------------------------------- */
static bool factor_spd(Job *j) {
  int n = j->n, lda = leading(n), info = 0;
  if (n == 0) return true;
  void *a = room_reals(j, n, n);
  if (!a) return false;
  if (measured(j)) return true;
  for (int64_t i = 0; i < j->batch; i++) {
    const void *src = at(j, j->in[0].data, i * n * n);
    void *dst = at(j, j->out[0].data, i * n * n);
    if (!lower_finite(j, src, n)) {
      fill(j, dst, (int64_t)n * n, NAN);
      continue;
    }
    to_columns(j, a, n, src, n, n);
    j->la->potrf("L", &n, a, &lda, &info, 1);
    if (info < 0) return bug_info(j, info);
    if (info > 0) return refuse_matrix(j, i, "is not positive definite (leading minor of order", info);
    for (int64_t c = 1; c < n; c++) fill(j, at(j, a, c * n), c, 0); /* the triangle above */
    to_rows(j, dst, a, n, n, n);
  }
  return true;
}

static int run_cholesky(RtCall *c) {
  Job j;
  bool ok = start(&j, c, "cholesky", true, 1, 1) && (shaped(&j, &j.out[0], 2, j.n, j.n) || wrong_result(&j)) &&
            factor_spd(&j);
  return ok ? RT_OK : j.status;
}

/* ---- qr ------------------------------------------------------------------------------------------------------- */
static bool factor_qr(Job *j) {
  int m = j->m, n = j->n, k = j->k, lda = leading(m), info = 0, query = -1;
  if (k == 0) return true; /* q and r are empty */
  double first[2] = {0, 0};
  void *a = room_reals(j, m, n), *tau = a ? room_reals(j, k, 1) : NULL;
  if (!tau) return false;
  j->la->geqrf(&m, &n, a, &lda, tau, &first[0], &query, &info);
  j->la->orgqr(&m, &k, &k, a, &lda, tau, &first[1], &query, &info);
  int w0 = work_size(j, &first[0]), w1 = work_size(j, &first[1]), lwork = w0 > w1 ? w0 : w1;
  void *work = room_reals(j, lwork, 1);
  if (!work) return false;
  if (measured(j)) return true;
  for (int64_t i = 0; i < j->batch; i++) {
    const void *src = at(j, j->in[0].data, i * m * n);
    void *q = at(j, j->out[0].data, i * m * k), *r = at(j, j->out[1].data, i * k * n);
    if (!all_finite(j, src, (int64_t)m * n)) {
      fill(j, q, (int64_t)m * k, NAN), fill(j, r, (int64_t)k * n, NAN);
      continue;
    }
    to_columns(j, a, m, src, m, n);
    j->la->geqrf(&m, &n, a, &lda, tau, work, &lwork, &info);
    if (info < 0) return bug_info(j, info);
    for (int64_t row = 0; row < k; row++)
      for (int64_t c = 0; c < n; c++) set(j, r, row * n + c, row <= c ? get(j, a, c * m + row) : 0);
    j->la->orgqr(&m, &k, &k, a, &lda, tau, work, &lwork, &info);
    if (info < 0) return bug_info(j, info);
    to_rows(j, q, a, m, m, k);
  }
  return true;
}

static int run_qr(RtCall *c) {
  Job j;
  bool ok = start(&j, c, "qr", false, 1, 2) &&
            ((shaped(&j, &j.out[0], 2, j.m, j.k) && shaped(&j, &j.out[1], 2, j.k, j.n)) || wrong_result(&j)) &&
            factor_qr(&j);
  return ok ? RT_OK : j.status;
}

/* ---- svd ------------------------------------------------------------------------------------------------------ */
static bool factor_svd(Job *j) {
  int m = j->m, n = j->n, k = j->k, lda = leading(m), ldk = leading(k), info = 0, query = -1;
  if (k == 0) return true;
  double first = 0;
  void *a = room_reals(j, m, n), *u = a ? room_reals(j, m, k) : NULL, *vt = u ? room_reals(j, k, n) : NULL;
  void *s = vt ? room_reals(j, k, 1) : NULL;
  int *iwork = s ? room(j, 8, k, sizeof(int)) : NULL;
  if (!iwork) return false;
  j->la->gesdd("S", &m, &n, a, &lda, s, u, &lda, vt, &ldk, &first, &query, iwork, &info, 1);
  int lwork = work_size(j, &first);
  void *work = room_reals(j, lwork, 1);
  if (!work) return false;
  if (measured(j)) return true;
  for (int64_t i = 0; i < j->batch; i++) {
    const void *src = at(j, j->in[0].data, i * m * n);
    void *ou = at(j, j->out[0].data, i * m * k), *os = at(j, j->out[1].data, i * k),
         *ov = at(j, j->out[2].data, i * k * n);
    if (!all_finite(j, src, (int64_t)m * n)) {
      fill(j, ou, (int64_t)m * k, NAN), fill(j, os, k, NAN), fill(j, ov, (int64_t)k * n, NAN);
      continue;
    }
    to_columns(j, a, m, src, m, n);
    j->la->gesdd("S", &m, &n, a, &lda, s, u, &lda, vt, &ldk, work, &lwork, iwork, &info, 1);
    if (info < 0) return bug_info(j, info);
    if (info > 0) return refuse_matrix(j, i, "has no converged singular values (code", info);
    memcpy(os, s, (size_t)k * j->size);
    to_rows(j, ou, u, m, m, k), to_rows(j, ov, vt, k, k, n);
  }
  return true;
}

static int run_svd(RtCall *c) {
  Job j;
  bool ok =
      start(&j, c, "svd", false, 1, 3) &&
      ((shaped(&j, &j.out[0], 2, j.m, j.k) && shaped(&j, &j.out[1], 1, j.k, 0) && shaped(&j, &j.out[2], 2, j.k, j.n)) ||
       wrong_result(&j)) &&
      factor_svd(&j);
  return ok ? RT_OK : j.status;
}

/* ---- eigh ----------------------------------------------------------------------------------------------------- */
static bool factor_eigh(Job *j) {
  int n = j->n, lda = leading(n), info = 0, query = -1, liwork = 0;
  if (n == 0) return true;
  double first = 0;
  void *a = room_reals(j, n, n), *w = a ? room_reals(j, n, 1) : NULL;
  if (!w) return false;
  j->la->syevd("V", "L", &n, a, &lda, w, &first, &query, &liwork, &query, &info, 1, 1);
  int lwork = work_size(j, &first);
  void *work = room_reals(j, lwork, 1);
  int *iwork = work ? room(j, liwork, 1, sizeof(int)) : NULL;
  if (!iwork) return false;
  if (measured(j)) return true;
  for (int64_t i = 0; i < j->batch; i++) {
    const void *src = at(j, j->in[0].data, i * n * n);
    void *ow = at(j, j->out[0].data, i * n), *ov = at(j, j->out[1].data, i * n * n);
    if (!lower_finite(j, src, n)) {
      fill(j, ow, n, NAN), fill(j, ov, (int64_t)n * n, NAN);
      continue;
    }
    to_columns(j, a, n, src, n, n);
    j->la->syevd("V", "L", &n, a, &lda, w, work, &lwork, iwork, &liwork, &info, 1, 1);
    if (info < 0) return bug_info(j, info);
    if (info > 0) return refuse_matrix(j, i, "has no converged eigenvalues (code", info);
    memcpy(ow, w, (size_t)n * j->size);
    to_rows(j, ov, a, n, n, n);
  }
  return true;
}

static int run_eigh(RtCall *c) {
  Job j;
  bool ok = start(&j, c, "eigh", true, 1, 2) &&
            ((shaped(&j, &j.out[0], 1, j.n, 0) && shaped(&j, &j.out[1], 2, j.n, j.n)) || wrong_result(&j)) &&
            factor_eigh(&j);
  return ok ? RT_OK : j.status;
}

/* ---- lstsq ---------------------------------------------------------------------------------------------------- */
/* Singular values below eps * max(M, N) of the greatest count as zero, as NumPy's rcond = None. */
static bool least_squares(Job *j) {
  int m = j->m, n = j->n, r = j->r, lda = leading(m), ldb = leading(m > n ? m : n), info = 0, query = -1, rank,
      liwork = 1;
  if (n == 0 || r == 0) return true;
  if (m == 0) {
    if (measured(j)) return true;
    fill(j, j->out[0].data, j->batch * n * r, 0);
    return true;
  }
  double first = 0, rcond_f64 = 2.220446049250313e-16 * (m > n ? m : n);
  float rcond_f32 = 1.1920929e-07f * (float)(m > n ? m : n);
  const void *rcond = j->f64 ? (const void *)&rcond_f64 : &rcond_f32;
  void *a = room_reals(j, m, n), *b = a ? room_reals(j, ldb, r) : NULL, *s = b ? room_reals(j, j->k, 1) : NULL;
  if (!s) return false;
  j->la->gelsd(&m, &n, &r, a, &lda, b, &ldb, s, rcond, &rank, &first, &query, &liwork, &info);
  int lwork = work_size(j, &first);
  void *work = room_reals(j, lwork, 1);
  int *iwork = work ? room(j, liwork, 1, sizeof(int)) : NULL;
  if (!iwork) return false;
  if (measured(j)) return true;
  for (int64_t i = 0; i < j->batch; i++) {
    const void *sa = at(j, j->in[0].data, i * m * n), *sb = at(j, j->in[1].data, i * m * r);
    void *dst = at(j, j->out[0].data, i * n * r);
    if (!all_finite(j, sa, (int64_t)m * n) || !all_finite(j, sb, (int64_t)m * r)) {
      fill(j, dst, (int64_t)n * r, NAN);
      continue;
    }
    to_columns(j, a, m, sa, m, n), to_columns(j, b, ldb, sb, m, r);
    j->la->gelsd(&m, &n, &r, a, &lda, b, &ldb, s, rcond, &rank, work, &lwork, iwork, &info);
    if (info < 0) return bug_info(j, info);
    if (info > 0) return refuse_matrix(j, i, "has no converged singular values (code", info);
    to_rows(j, dst, b, ldb, n, r);
  }
  return true;
}

static int run_lstsq(RtCall *c) {
  Job j;
  bool ok = start(&j, c, "lstsq", false, 2, 1) && start_rhs(&j) && least_squares(&j);
  return ok ? RT_OK : j.status;
}

/* ---- rows ----------------------------------------------------------------------------------------------------- */
const RtRoutine rt_routine_solve = {"solve", run_solve, lapack_open};
const RtRoutine rt_routine_inv = {"inv", run_inv, lapack_open};
const RtRoutine rt_routine_det = {"det", run_det, lapack_open};
const RtRoutine rt_routine_slogdet = {"slogdet", run_slogdet, lapack_open};
const RtRoutine rt_routine_cholesky = {"cholesky", run_cholesky, lapack_open};
const RtRoutine rt_routine_qr = {"qr", run_qr, lapack_open};
const RtRoutine rt_routine_svd = {"svd", run_svd, lapack_open};
const RtRoutine rt_routine_eigh = {"eigh", run_eigh, lapack_open};
const RtRoutine rt_routine_lstsq = {"lstsq", run_lstsq, lapack_open};
