/* One comprehension as a kernel of one stage, compiled by a JIT of one's choice and run. */
#ifndef TG_TESTS_CPU_SUPPORT_H
#define TG_TESTS_CPU_SUPPORT_H
#include "codegen/cpu/jit.h"
#include "codegen_support.h"

typedef struct OneKernel {
  Kernel k;
  Code code;
  char *text;
  bool ok, from_disk;
  const char *why;
} OneKernel;

typedef struct OneLoads {
  Arena *a;
  VEC(const Node *) node;
} OneLoads;
static inline void one_load(void *ctx, Expr *e) {
  OneLoads *l = ctx;
  if (e->kind != EX_LOAD) return;
  for (int i = 0; i < l->node.n; i++)
    if (l->node.at[i] == e->node) return;
  vec_push(l->a, &l->node, (const Node *)e->node);
}
static inline KBuf one_buf(Arena *a, const Node *n, int arg, bool out) {
  int64_t *stride = arena_array(a, int64_t, n->rank), s = 1;
  for (int d = n->rank; d-- > 0; s *= n->dim[d]) stride[d] = s;
  return (KBuf){.space = SP_GLOBAL,
                .dtype = n->dtype,
                .in = !out,
                .out = out,
                .node = n,
                .rank = n->rank,
                .dim = n->dim,
                .stride = stride,
                .arg = arg};
}
/* Output iterators are P. The loads' nodes in order of meeting are the arguments, the result is the last. */
static inline void one_kernel(OneKernel *o, Arena *a, const Node *n, RedOrder order) {
  memset(o, 0, sizeof *o);
  const Comp *c = &n->comp;
  OneLoads l = {.a = a};
  ex_visit(c->body, one_load, &l);
  if (c->guard) ex_visit(c->guard, one_load, &l);
  Kernel *k = &o->k;
  k->npar = c->nout;
  k->par = c->extent;
  k->nbuf = k->narg = l.node.n + 1;
  k->buf = arena_array(a, KBuf, k->nbuf);
  for (int i = 0; i < l.node.n; i++) k->buf[i] = one_buf(a, l.node.at[i], i, false);
  k->buf[l.node.n] = one_buf(a, n, l.node.n, true);
  k->nstage = 1;
  k->stage = arena_new_of(a, Stage);
  int8_t *store = arena_array(a, int8_t, n->rank);
  for (int d = 0; d < n->rank; d++) store[d] = (int8_t)d;
  *k->stage = (Stage){.kind = c->nred ? ST_REDUCE : ST_MAP,
                      .op = c->op,
                      .order = order,
                      .nred = c->nred,
                      .extent = c->extent + c->nout,
                      .body = c->body,
                      .guard = c->guard,
                      .out = l.node.n,
                      .store = store};
  kernel_sites(k, a);
  o->text = kernel_print(k, a);
}
static inline bool one_compile(OneKernel *o, Jit *j, Graph *g) {
  o->ok = cpu_compile(j, g, &o->k, o->text, &o->code, &o->from_disk, &o->why);
  return o->ok;
}
/* Runs all phases on one lane, in `pieces` calls a phase. */
static inline KFault one_run(const OneKernel *o, void *const *ptr, int pieces) {
  void *scratch = aligned_alloc(64, (o->code.lane_bytes + 127) / 64 * 64),
       *shared = aligned_alloc(64, (o->code.shared_bytes + 127) / 64 * 64);
  KFault f = {0};
  for (int p = 0; p < o->code.nphase; p++) {
    const Phase *ph = &o->code.phase[p];
    for (int i = 0; i < pieces; i++) {
      KernelArgs a = {.ptr = ptr,
                      .lo = ph->units * i / pieces,
                      .hi = ph->units * (i + 1) / pieces,
                      .scratch = scratch,
                      .shared = shared,
                      .fault = &f,
                      .ctx = ph->ctx};
      ph->fn(&a);
    }
  }
  free(scratch);
  free(shared);
  return f;
}
#endif
