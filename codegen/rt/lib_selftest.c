/* Golden calls: what each export gave when the library was built must come out again, bit for bit. */
#include "codegen/rt/lib.h"
#include <string.h>

static uint64_t mix(uint64_t x) { /* splitmix64 */
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

/* k / 64 with |k| <= 64 as f16. */
static uint16_t half_of(int k) {
  uint16_t sign = k < 0 ? 0x8000 : 0;
  unsigned m = (unsigned)(k < 0 ? -k : k), e = 15 - 6 + 10;
  if (!m) return sign;
  for (; m < 1024; m <<= 1) e--;
  return (uint16_t)(sign | e << 10 | (m & 1023));
}

void lib_golden_fill(int dtype, uint64_t seed, int64_t count, void *data) {
  static const uint8_t size[] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
  memset(data, 0, (size_t)count * size[dtype]);
  for (int64_t i = 0; i < count; i++) {
    uint64_t h = mix(seed + (uint64_t)i);
    int k = (int)(h >> 57) - 64;
    float f = (float)k / 64;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (dtype == LD_F32) ((float *)data)[i] = (float)(int32_t)(h >> 40) / 8388608.0f - 1;
    if (dtype == LD_F64) ((double *)data)[i] = (double)(int64_t)(h >> 11) / 4503599627370496.0 - 1;
    if (dtype == LD_F16) ((uint16_t *)data)[i] = half_of(k);
    if (dtype == LD_BF16) ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
  }
}

static int64_t elements(const LibTensor *t, int64_t rows) {
  return (int64_t)(t->bytes / (uint64_t)t->esize) * (t->batched ? rows : 1);
}

static int test_export(const Lib *lib, LibContext *c, int k) {
  const LibExport *e = &lib->export[k];
  const LibGolden *g = e->golden;
  if (!g) return RT_OK;
  size_t bytes = 0;
  char *p[LIB_MAX_TENSOR * 2];
  for (int i = 0; i < e->nin + e->nout; i++)
    bytes += (size_t)elements(&e->tensor[i], g->rows) * (size_t)e->tensor[i].esize + 64;
  char *memory = c->o.alloc(c->o.user, bytes + 64, 64);
  if (!memory) return RT_NO_MEMORY;
  size_t at = 0;
  for (int i = 0; i < e->nin + e->nout; i++) {
    const LibTensor *t = &e->tensor[i];
    p[i] = memory + at;
    at += ((size_t)elements(t, g->rows) * (size_t)t->esize + 63) / 64 * 64;
    if (i < e->nin) lib_golden_fill(t->dtype, (uint64_t)(i + 1) << 32, elements(t, g->rows), p[i]);
  }
  int status = lib_call(lib, c, k, g->rows, (const void *const *)p, (void *const *)(p + e->nin));
  if (status == g->status) {
    status = RT_OK;
    for (int i = 0; i < e->nout && !g->status && !status; i++) {
      const LibTensor *t = &e->tensor[e->nin + i];
      if (memcmp(p[e->nin + i], g->out[i], (size_t)elements(t, g->rows) * (size_t)t->esize))
        status = lib_fail(c, RT_DIFFERS, "%s: %s differs from what the build computed", e->name, t->name);
    }
  } else if (!status) {
    status = lib_fail(c, RT_DIFFERS, "%s succeeds, though it failed in the build", e->name);
  }
  c->o.release(c->o.user, memory, bytes + 64);
  return status;
}

/* The states, to (or from) one piece of memory. */
static int copy_states(const Lib *lib, LibContext *c, char *memory, int back) {
  size_t at = 0;
  int status = RT_OK;
  for (int i = 0; memory && i < lib->nstate && !status; i++) {
    status = lib_state_copy(c, i, back ? NULL : memory + at, back ? memory + at : NULL);
    at += lib->konst[lib->first_state + i].bytes;
  }
  return status;
}

int lib_selftest(const Lib *lib, LibContext *c) {
  if (!c || c->lib != lib) return RT_BAD_ARGUMENT;
  int status = RT_OK;
  size_t bytes = 0;
  for (int i = 0; i < lib->nstate; i++) bytes += lib->konst[lib->first_state + i].bytes;
  char *states = bytes ? c->o.alloc(c->o.user, bytes, 64) : NULL;
  if (bytes && !states) return RT_NO_MEMORY;
  status = copy_states(lib, c, states, 0);
  for (int k = 0; k < lib->nexport && !status; k++) {
    if (lib->nstate) status = lib_reset(lib, c);
    if (!status) status = test_export(lib, c, k);
  }
  int back = copy_states(lib, c, states, 1);
  if (!status) status = back;
  if (states) c->o.release(c->o.user, states, bytes);
  return status;
}
