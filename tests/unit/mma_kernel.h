/* A contraction kernel made by hand from one comprehension, and its reference: for tests and benchmarks. */
#ifndef TG_TESTS_MMA_KERNEL_H
#define TG_TESTS_MMA_KERNEL_H
#include "codegen/cpu/jit.h"
#include "codegen/cpu/mma.h"
#include "codegen/kernel.h"
#include "graph/native.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct MmaCase {
  Arena *arena;
  Diags *diags;
  Graph *g;
  int nin;
  Node *in[8];
  Tensor t[8];
} MmaCase;

static inline MmaCase mma_case(void) {
  MmaCase c = {.arena = arena_new()};
  c.diags = diags_new(c.arena);
  c.g = graph_new(c.arena, c.diags);
  return c;
}
static inline void mma_case_free(MmaCase *c) {
  for (int i = 0; i < c->nin; i++) tensor_drop(&c->t[i]);
  arena_free(c->arena);
}

/* An input of small random values (a fixed sequence a case). Integers: -9..9. */
static inline Node *mma_input(MmaCase *c, DType t, int rank, const int64_t *dim) {
  Node *n = nd_input(c->g, t, rank, dim, "x", c->nin);
  Tensor *x = &c->t[c->nin];
  if (!tensor_alloc(x, t, rank, dim)) abort();
  uint64_t s = 88172645463325252u + (uint64_t)c->nin;
  for (int64_t i = 0, e = tensor_count(x); i < e; i++) {
    s ^= s << 13, s ^= s >> 7, s ^= s << 17;
    if (dt_is_float(t))
      dt_put_f(t, x->data, i, (double)(int64_t)(s >> 11) / 9007199254740992.0 * 2 - 1);
    else
      dt_put_i(t, x->data, i,
               t == DT_BOOL ? (int64_t)(s >> 40 & 1)
               : t == DT_U8 ? (int64_t)(s >> 33) % 10
                            : (int64_t)(s >> 33) % 19 - 9);
  }
  c->in[c->nin++] = n;
  return n;
}

static inline int64_t *mma_strides(Arena *a, int rank, const int64_t *dim) {
  int64_t *s = arena_array(a, int64_t, rank), n = 1;
  for (int d = rank - 1; d >= 0; d--) s[d] = n, n *= dim[d];
  return s;
}

/* The kernel of comp `n` alone: buffers 0.. are the case's inputs, the last is n. */
static inline Kernel *mma_kernel_of(MmaCase *c, Node *n) {
  Arena *a = c->arena;
  Kernel *k = arena_new_of(a, Kernel);
  const Comp *q = &n->comp;
  k->npar = q->nout;
  k->par = q->extent;
  k->nbuf = k->narg = c->nin + 1;
  k->buf = arena_array(a, KBuf, k->nbuf);
  for (int i = 0; i <= c->nin; i++) {
    Node *b = i < c->nin ? c->in[i] : n;
    k->buf[i] = (KBuf){
        SP_GLOBAL, b->dtype, i < c->nin, i == c->nin, b, b->rank, b->dim, mma_strides(a, b->rank, b->dim), NULL, i};
  }
  k->nstage = 1;
  k->stage = arena_new_of(a, Stage);
  int8_t *st = arena_array(a, int8_t, q->nout);
  for (int i = 0; i < q->nout; i++) st[i] = (int8_t)i;
  *k->stage = (Stage){.kind = ST_CONTRACT,
                      .op = (uint8_t)q->op,
                      .order = ORD_CHAIN,
                      .fma = true,
                      .nred = q->nred,
                      .chunk = q->chunk,
                      .extent = q->extent + q->nout,
                      .body = q->body,
                      .guard = q->guard,
                      .out = c->nin,
                      .store = st};
  kernel_sites(k, a);
  return k;
}

/* Runs all units in ranges of `step` units (0: all at once). out is allocated. False: declined or failed. */
static inline bool mma_run_code(const Code *code, MmaCase *c, Node *n, Tensor *out, int64_t step) {
  if (!tensor_alloc(out, n->dtype, n->rank, n->dim)) return false;
  memset(out->data, 0xff, tensor_bytes(out));
  void *ptr[16];
  for (int i = 0; i < c->nin; i++) ptr[i] = c->t[i].data;
  ptr[c->nin] = out->data;
  KFault fault = {0};
  void *scratch = aligned_alloc(64, (code->lane_bytes + 64) & ~(size_t)63);
  memset(scratch, 0xff, code->lane_bytes);
  void *shared = aligned_alloc(64, (code->shared_bytes + 64) & ~(size_t)63);
  memset(shared, 0xff, code->shared_bytes);
  for (int p = 0; p < code->nphase; p++) {
    int64_t units = code->phase[p].units, by = step > 0 ? step : units > 0 ? units : 1;
    for (int64_t u = 0; u < units; u += by) {
      KernelArgs a = {ptr, u, u + by < units ? u + by : units, scratch, shared, &fault, code->phase[p].ctx};
      code->phase[p].fn(&a);
    }
  }
  free(scratch);
  free(shared);
  return fault.kind == KF_NONE;
}

/* A factor at all points of the iterators that it depends on, by the oracle, and its step along each iterator (0: not
 * dependent). */
typedef struct MmaFactor {
  Node *node;
  int64_t step[CONTRACT_MAX_ITER];
} MmaFactor;
static inline MmaFactor mma_factor(MmaCase *c, const Comp *q, Expr *e, DType acc) {
  MmaFactor f = {0};
  int nit = q->nout + q->nred, n = 0;
  int64_t ext[CONTRACT_MAX_ITER], size = 1;
  Expr *by[CONTRACT_MAX_ITER];
  for (int k = 0; k < nit; k++) {
    by[k] = ex_int(c->g, DT_I64, 0);
    if (!ex_uses_iter(e, k)) continue;
    ext[n] = q->extent[k];
    by[k] = ex_iter(c->g, n++);
  }
  for (int k = nit - 1; k >= 0; k--)
    if (ex_uses_iter(e, k)) f.step[k] = size, size *= q->extent[k];
  e = ex_subst_iters(c->g, e, nit, by);
  f.node = nd_comp(c->g, n, 0, ext, RED_NONE, e->dtype == acc ? e : ex_cast(c->g, acc, e), NULL);
  return f;
}
static inline int64_t mma_at(const MmaFactor *f, const Comp *q, int lo, int hi,
                             int64_t flat) { /* offset of a flat point of iterators lo.. */
  int64_t at = 0;
  for (int k = hi - 1; k >= lo; k--) at += flat % q->extent[k] * f->step[k], flat /= q->extent[k];
  return at;
}

typedef union {
  double d;
  int64_t i;
} MmaSum;
static inline MmaSum mma_add(DType acc, MmaSum x, MmaSum y) {
  if (acc == DT_I64) return (MmaSum){.i = (int64_t)((uint64_t)x.i + (uint64_t)y.i)};
  return (MmaSum){.d = acc == DT_F32 ? (float)x.d + (float)y.d : x.d + y.d};
}
static inline MmaSum mma_fma(const Contract *con, const void *a, int64_t i, const void *b, int64_t j, MmaSum s) {
  if (con->acc == DT_F32) return (MmaSum){.d = fmaf(((const float *)a)[i], ((const float *)b)[j], (float)s.d)};
  if (con->acc == DT_F64) return (MmaSum){.d = fma(((const double *)a)[i], ((const double *)b)[j], s.d)};
  int64_t p = (int64_t)((uint64_t)((const int64_t *)a)[i] * (uint64_t)((const int64_t *)b)[j]);
  return mma_add(DT_I64, s, (MmaSum){.i = con->prod == DT_I32 ? (int32_t)p : p});
}

/* The contract's own arithmetic: factors by the oracle, then chains of fused multiply-adds in chunks (of 4096, or the
 * comp's own) and the tree. */
static inline bool mma_reference(MmaCase *c, Node *n, Tensor *out) {
  const Comp *q = &n->comp;
  Contract con;
  if (!contract_find_node(n, &con)) return false;
  MmaFactor a = mma_factor(c, q, con.a, con.acc), b = mma_factor(c, q, con.b, con.acc);
  Tensor v[2];
  Fault fault = {0};
  Region r = {2, (Node *[]){a.node, b.node}, 0, NULL};
  if (!graph_eval(c->g, &r, c->nin, c->t, v, &(EvalOptions){0}, &fault)) return false;
  if (!tensor_alloc(out, n->dtype, n->rank, n->dim)) return false;
  int64_t K = con.nK, size = q->chunk ? q->chunk : 4096, *ka = malloc(sizeof *ka * (size_t)(K + 1)),
          *kb = malloc(sizeof *kb * (size_t)(K + 1));
  for (int64_t k = 0; k < K; k++) {
    ka[k] = mma_at(&a, q, q->nout, q->nout + q->nred, k);
    kb[k] = mma_at(&b, q, q->nout, q->nout + q->nred, k);
  }
  for (int64_t i = 0, e = tensor_count(out); i < e; i++) {
    int64_t ia = mma_at(&a, q, 0, q->nout, i), ib = mma_at(&b, q, 0, q->nout, i);
    MmaSum slot[64] = {{0}};
    int used = 0;
    for (int64_t k0 = 0, chunk = 0; k0 < K; k0 += size, chunk++) {
      MmaSum s = con.acc == DT_I64 ? (MmaSum){.i = 0} : (MmaSum){.d = 0};
      for (int64_t k = k0; k < K && k < k0 + size; k++)
        s = mma_fma(&con, v[0].data, ia + ka[k], v[1].data, ib + kb[k], s);
      slot[used++] = s;
      for (int64_t m = chunk + 1; m % 2 == 0; m /= 2, used--)
        slot[used - 2] = mma_add(con.acc, slot[used - 2], slot[used - 1]);
    }
    for (; used > 1; used--) slot[used - 2] = mma_add(con.acc, slot[used - 2], slot[used - 1]);
    if (con.acc == DT_I64)
      dt_put_i(n->dtype, out->data, i, slot[0].i);
    else
      dt_put_f(n->dtype, out->data, i, slot[0].d);
  }
  free(ka);
  free(kb);
  tensor_drop(&v[0]);
  tensor_drop(&v[1]);
  return true;
}
#endif
