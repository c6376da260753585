/* The natives sort and argsort: stable, along the last axis, nan last in both directions.
 *
 * Every element becomes an unsigned key whose order is the wanted one (floats by the usual sign trick, nan mapped to
 * the greatest key; descending order inverts all keys but nan's), so one radix sort serves all dtypes. Keys of short
 * rows are sorted by insertion. -0.0 and 0.0 compare equal, so they get one key and keep their order. */
#include "stdlib/native/sort.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Item {
  uint64_t key;
  int64_t at;
} Item;
enum { INSERTION = 24 };

static uint64_t float_key(double v) {
  if (isnan(v)) return UINT64_MAX;
  if (v == 0) v = 0; /* -0.0 */
  uint64_t u;
  memcpy(&u, &v, sizeof u);
  return u >> 63 ? ~u : u | (1ull << 63);
}

static uint64_t key_of(const Tensor *t, int64_t i, bool descending) {
  if (dt_is_float(t->dtype)) {
    uint64_t k = float_key(dt_get_f(t->dtype, t->data, i));
    return descending && k != UINT64_MAX ? ~k : k;
  }
  uint64_t k = (uint64_t)dt_get_i(t->dtype, t->data, i) ^ (1ull << 63);
  return descending ? ~k : k;
}

static void insertion_sort(Item *a, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    Item x = a[i];
    int64_t j = i;
    for (; j > 0 && a[j - 1].key > x.key; j--) a[j] = a[j - 1];
    a[j] = x;
  }
}

/* Least significant byte first; bytes equal in all keys are skipped. The result is in *a, *b is scratch. */
static void radix_sort(Item **a, Item **b, int64_t n) {
  uint64_t differ = 0;
  for (int64_t i = 1; i < n; i++) differ |= (*a)[i].key ^ (*a)[0].key;
  for (int shift = 0; shift < 64; shift += 8) {
    if (!(differ >> shift & 255)) continue;
    int64_t start[257] = {0};
    for (int64_t i = 0; i < n; i++) start[((*a)[i].key >> shift & 255) + 1]++;
    for (int k = 0; k < 256; k++) start[k + 1] += start[k];
    for (int64_t i = 0; i < n; i++) (*b)[start[(*a)[i].key >> shift & 255]++] = (*a)[i];
    Item *swap = *a;
    *a = *b, *b = swap;
  }
}

static bool same_shape(const Tensor *a, const Tensor *b) {
  return a->rank == b->rank && !memcmp(a->dim, b->dim, sizeof a->dim[0] * (size_t)a->rank);
}

static bool run_rows(const char *name, const Attr *attr, int nattr, int nin, const Tensor *in, int nout, Tensor *out,
                     bool positions, Fault *f) {
  if (nin != 1 || nout != 1 || in->rank < 1 || !same_shape(in, out) || out->dtype != (positions ? DT_I64 : in->dtype)) {
    fault_set(f, R_NATIVE, (Span){0}, "%s: one tensor of rank 1 or more, and a result of its shape", name);
    return false;
  }
  bool descending = nattr > 0 && attr[0].i;
  int64_t total = tensor_count(in);
  if (total == 0) return true;
  int64_t n = in->dim[in->rank - 1];
  Item *space = (uint64_t)n <= SIZE_MAX / (2 * sizeof(Item)) ? malloc(2 * sizeof(Item) * (size_t)n) : NULL;
  if (!space) {
    fault_set(f, R_MEMORY, (Span){0}, "%s: no memory to sort rows of %lld", name, (long long)n);
    return false;
  }
  size_t size = (size_t)dt_bytes(in->dtype);
  for (int64_t row = 0; row < total; row += n) {
    Item *a = space, *b = space + n;
    for (int64_t i = 0; i < n; i++) a[i] = (Item){key_of(in, row + i, descending), i};
    if (n <= INSERTION)
      insertion_sort(a, n);
    else
      radix_sort(&a, &b, n);
    for (int64_t i = 0; i < n; i++) {
      if (positions)
        ((int64_t *)out->data)[row + i] = a[i].at;
      else
        memcpy((char *)out->data + (size_t)(row + i) * size, (const char *)in->data + (size_t)(row + a[i].at) * size,
               size);
    }
  }
  free(space);
  return true;
}

/* sort(x [..., N]) -> [..., N], attribute 0.i: descending. Faults: wrong shapes, memory. */
static bool run_sort(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  return run_rows("sort", attr, nattr, nin, in, nout, out, false, f);
}

/* argsort(x [..., N]) -> i64 [..., N]: positions in the order of sort, attribute 0.i: descending. */
static bool run_argsort(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                        Fault *f) {
  return run_rows("argsort", attr, nattr, nin, in, nout, out, true, f);
}

const Native native_sort = {.name = "sort", .has_batch = true, .run = run_sort};
const Native native_argsort = {.name = "argsort", .has_batch = true, .run = run_argsort};
