/* Host tensors, faults, and the registry of natives. */
#include "graph/native.h"
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

bool shape_bytes(DType t, int rank, const int64_t *dim, size_t *bytes) {
  int64_t size = dt_bytes(t);
  bool empty = false;
  for (int i = 0; i < rank; i++) {
    if (dim[i] < 0) return false;
    if (dim[i] == 0)
      empty = true; /* the other sizes must still fit: strides are made of them */
    else if (__builtin_mul_overflow(size, dim[i], &size) || size > INT64_C(1) << 62)
      return false;
  }
  *bytes = empty ? 0 : (size_t)size;
  return true;
}

bool tensor_alloc(Tensor *t, DType dt, int rank, const int64_t *dim) {
  size_t bytes;
  *t = (Tensor){.dtype = dt, .rank = rank};
  if (rank < 0 || rank > TG_MAX_RANK || !shape_bytes(dt, rank, dim, &bytes)) return false;
  size_t head = (sizeof(struct TensorBuf) + ALIGN - 1) / ALIGN * ALIGN;
  if (bytes > SIZE_MAX - head - ALIGN) return false;
  t->owner = aligned_alloc(ALIGN, (head + bytes + ALIGN - 1) / ALIGN * ALIGN);
  if (!t->owner) return false;
  t->owner->refs = 1;
  t->owner->bytes = bytes;
  t->data = (char *)t->owner + head;
  if (rank) memcpy(t->dim, dim, sizeof *dim * (size_t)rank);
  return true;
}

Tensor tensor_ref(const Tensor *t) {
  if (t->owner) t->owner->refs++;
  return *t;
}

void tensor_drop(Tensor *t) {
  if (t->owner && --t->owner->refs == 0) free(t->owner);
  t->owner = NULL;
  t->data = NULL;
}

int64_t tensor_count(const Tensor *t) {
  int64_t n = 1;
  for (int i = 0; i < t->rank; i++) n *= t->dim[i];
  return n;
}

size_t tensor_bytes(const Tensor *t) { return (size_t)tensor_count(t) * (size_t)dt_bytes(t->dtype); }

void fault_set(Fault *f, ErrId id, Span at, const char *fmt, ...) {
  f->id = id;
  f->span = at;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(f->msg, sizeof f->msg, fmt, ap);
  va_end(ap);
}

void natives_add(Natives *r, const Native *n) {
  if (natives_find(r, n->name)) bug("native %s registered twice", n->name);
  vec_push(r->arena, &r->row, n);
}

const Native *natives_find(const Natives *r, const char *name) {
  for (int i = 0; i < r->row.n; i++)
    if (!strcmp(r->row.at[i]->name, name)) return r->row.at[i];
  return NULL;
}

/* ---- natives of several ranks ------------------------------------------------------------------------------------ */

/* One message: whether it went well, and the results; after a fault a second with the fault. */
static bool tell(const NativeRanks *g, const Native *n, bool ok, int nout, Tensor *out, Fault *f) {
  size_t bytes = 1, at = 1;
  for (int k = 0; k < nout; k++) bytes += tensor_bytes(&out[k]);
  char *note = calloc(bytes, 1);
  if (!note) {
    fault_set(f, R_MEMORY, (Span){0, 0, 0}, "out of memory: %zu bytes were refused", bytes);
    return false;
  }
  note[0] = ok;
  for (int k = 0; k < nout && ok && g->rank == 0; k++) {
    if (tensor_bytes(&out[k])) memcpy(note + at, out[k].data, tensor_bytes(&out[k]));
    at += tensor_bytes(&out[k]);
  }
  Fault broken = {0}, first = *f;
  bool told = g->broadcast(g->self, n->name, note, bytes, &broken);
  ok = note[0] == 1;
  if (told && !ok) told = g->broadcast(g->self, n->name, &first, sizeof first, &broken);
  at = 1;
  for (int k = 0; k < nout && told && ok && g->rank > 0; k++) {
    if (tensor_bytes(&out[k])) memcpy(out[k].data, note + at, tensor_bytes(&out[k]));
    at += tensor_bytes(&out[k]);
  }
  free(note);
  if (!ok && told) *f = first;
  if (!told && (ok || g->rank > 0)) *f = broken;
  return told && ok;
}

bool native_call(const Native *n, void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout,
                 Tensor *out, Fault *f) {
  const NativeRanks *g = ctx && n->who != RUN_ALL ? ((const NativeCtx *)ctx)->ranks : NULL;
  if (!g || g->nrank == 1) return n->run(ctx, nattr, attr, nin, in, nout, out, f);
  if (n->who == RUN_FIRST) return g->rank > 0 || n->run(ctx, nattr, attr, nin, in, nout, out, f);
  return tell(g, n, g->rank > 0 || n->run(ctx, nattr, attr, nin, in, nout, out, f), nout, out, f);
}
