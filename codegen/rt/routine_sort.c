/* The routines sort and argsort: stable, along the last axis, nan last in both directions.
 *
 * Every element becomes an unsigned key whose order is the wanted one (floats by the usual sign trick on their bits,
 * nan mapped to the greatest key; descending order inverts all keys but nan's), so one radix sort serves all dtypes.
 * Keys of short rows are sorted by insertion. -0.0 and 0.0 compare equal, so they get one key and keep their order. */
#include "codegen/rt/routine.h"
#include <stdio.h>
#include <string.h>

typedef struct Item {
  uint64_t key;
  int64_t at;
} Item;
enum { INSERTION = 24 };

typedef struct Kind {
  uint8_t bytes, is_signed, is_float;
  uint64_t inf; /* bits of infinity */
} Kind;
static const Kind kind_of[] = {
    [LD_BOOL] = {1, 0, 0, 0},         [LD_U8] = {1, 0, 0, 0},
    [LD_I8] = {1, 1, 0, 0},           [LD_I16] = {2, 1, 0, 0},
    [LD_I32] = {4, 1, 0, 0},          [LD_I64] = {8, 1, 0, 0},
    [LD_F16] = {2, 0, 1, 0x7c00},     [LD_BF16] = {2, 0, 1, 0x7f80},
    [LD_F32] = {4, 0, 1, 0x7f800000}, [LD_F64] = {8, 0, 1, 0x7ff0000000000000},
};

static uint64_t bits_at(const void *p, int bytes, int64_t i) {
  uint8_t a;
  uint16_t b;
  uint32_t c;
  uint64_t d;
  const char *at = (const char *)p + i * bytes;
  switch (bytes) {
  case 1:
    return memcpy(&a, at, 1), a;
  case 2:
    return memcpy(&b, at, 2), b;
  case 4:
    return memcpy(&c, at, 4), c;
  default:
    return memcpy(&d, at, 8), d;
  }
}

static uint64_t key_of(const RtTensor *t, int64_t i, int descending) {
  const Kind *k = &kind_of[t->dtype];
  uint64_t u = bits_at(t->data, k->bytes, i), sign = (uint64_t)1 << (8 * k->bytes - 1), all = sign | (sign - 1);
  if (k->is_float) {
    uint64_t size = u & ~sign;
    if (size > k->inf) return UINT64_MAX;
    u = size && (u & sign) ? ~u & all : size | sign;
  } else if (k->is_signed) {
    u ^= sign;
  }
  return descending ? ~u : u;
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

static void sort_row(const RtTensor *in, const RtTensor *out, int64_t row, int64_t n, Item *a, Item *b, int descending,
                     int positions) {
  size_t size = kind_of[in->dtype].bytes;
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

static int sort_rows(RtCall *c, const char *name, int positions) {
  const RtTensor *in = c->in, *out = c->out;
  if (c->nin != 1 || c->nout != 1 || in->rank < 1 || in->rank != out->rank ||
      memcmp(in->dim, out->dim, sizeof *in->dim * (size_t)in->rank) || out->dtype != (positions ? LD_I64 : in->dtype)) {
    snprintf(c->message, sizeof c->message, "%s: one tensor of rank 1 or more, and a result of its shape", name);
    return RT_ROUTINE;
  }
  int64_t n = in->dim[in->rank - 1], total = 1;
  for (int d = 0; d < in->rank; d++) total *= in->dim[d];
  if (c->measure) {
    c->work_bytes = total ? 2 * sizeof(Item) * (size_t)n : 0;
    if (!total || (uint64_t)n <= SIZE_MAX / (4 * sizeof(Item))) return RT_OK;
    snprintf(c->message, sizeof c->message, "%s: no memory to sort rows of %lld", name, (long long)n);
    return RT_NO_MEMORY;
  }
  Item *a = (Item *)(void *)c->work;
  for (int64_t row = 0; row < total; row += n) sort_row(in, out, row, n, a, a + n, c->option != 0, positions);
  return RT_OK;
}

/* sort(x [..., N]) -> [..., N]; argsort(x [..., N]) -> i64 [..., N]: positions in that order. */
static int run_sort(RtCall *c) { return sort_rows(c, "sort", 0); }
static int run_argsort(RtCall *c) { return sort_rows(c, "argsort", 1); }

const RtRoutine rt_routine_sort = {.name = "sort", .run = run_sort};
const RtRoutine rt_routine_argsort = {.name = "argsort", .run = run_argsort};
