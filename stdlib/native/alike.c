/* Ranks that begin a training compare what they begin with: by a hash of every tensor. */
#include "stdlib/native/alike.h"
#include <stdlib.h>
#include <string.h>

/* 64 bits, eight bytes at a time; each step is a bijection of the state, so no single change goes unseen. */
static uint64_t hash_bytes(const void *data, size_t n) {
  uint64_t h = UINT64_C(0x9E3779B97F4A7C15) ^ n, w;
  const char *p = data;
  for (; n; p += w, n -= w) {
    uint64_t v = 0;
    w = n < 8 ? n : 8;
    memcpy(&v, p, w);
    h = (h ^ v) * UINT64_C(0xD6E8FEB86659FD93);
    h ^= h >> 32;
  }
  return h;
}

static bool run_alike(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                      Fault *f) {
  const NativeRanks *g = ctx ? ((const NativeCtx *)ctx)->ranks : NULL;
  if (!g || g->nrank == 1) return true;
  uint64_t *own = malloc(sizeof *own * (2 * (size_t)nin + 1)), *first = own + nin;
  if (!own) return fault_set(f, R_MEMORY, (Span){0}, "out of memory"), false;
  for (int k = 0; k < nin; k++) own[k] = first[k] = hash_bytes(in[k].data, tensor_bytes(&in[k]));
  bool ok = g->broadcast(g->self, "what the training begins with", first, sizeof *first * (size_t)nin, f);
  for (int k = 0; ok && k < nin; k++) {
    ok = own[k] == first[k];
    if (!ok)
      fault_set(f, R_RANK, (Span){0}, "this rank begins with another `%s` than rank 0: do all read the same files?",
                k < nattr && attr[k].s ? attr[k].s : "value");
  }
  free(own);
  return ok;
}

const Native native_alike = {.name = "alike", .effect = true, .run = run_alike};
