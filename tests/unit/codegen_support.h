/* Plans against the oracle: a program given as graph text is run by graph_eval and by plans (walked, compiled, on
 * several threads); values must agree to rounding, and the plans among themselves bit for bit. */
#ifndef TG_TESTS_CODEGEN_SUPPORT_H
#define TG_TESTS_CODEGEN_SUPPORT_H
#include "codegen/codegen.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Prog {
  Arena *a;
  Graph *g;
  Region r;
  int nin;
  Tensor in[32];
} Prog;

static inline uint64_t prog_rand(uint64_t *s) { /* xorshift64* */
  *s ^= *s >> 12, *s ^= *s << 25, *s ^= *s >> 27;
  return *s * 0x2545F4914F6CDD1Du;
}

/* Inputs: floats in -2..2, bools, integers in 0..6 (so that they can serve as subscripts). */
static inline void prog_fill(Tensor *t, uint64_t seed) {
  uint64_t s = seed * 0x9E3779B97F4A7C15u + 1;
  for (int64_t i = 0; i < tensor_count(t); i++) {
    uint64_t r = prog_rand(&s) >> 11;
    if (dt_is_float(t->dtype))
      dt_put_f(t->dtype, t->data, i, (double)r / (double)(1ull << 53) * 4 - 2);
    else
      dt_put_i(t->dtype, t->data, i, (int64_t)(r % (t->dtype == DT_BOOL ? 2 : 7)));
  }
}

/* Makes and fills the inputs that the region reaches. */
static inline void prog_inputs(Prog *p, uint64_t seed) {
  Node **order, **root = arena_array(p->a, Node *, p->r.nout);
  for (int i = 0; i < p->r.nout; i++) root[i] = p->r.out[i];
  int n = graph_topo(p->g, p->r.nout, root, &order);
  for (int i = 0; i < n; i++) {
    if (order[i]->kind != ND_INPUT || order[i]->slot >= 32) continue;
    Tensor *t = &p->in[order[i]->slot];
    tensor_alloc(t, (DType)order[i]->dtype, order[i]->rank, order[i]->dim);
    prog_fill(t, seed * 16 + (uint64_t)order[i]->slot + 1);
    if (order[i]->slot >= p->nin) p->nin = (int)order[i]->slot + 1;
  }
}

static inline bool prog_make(Prog *p, const char *text, bool simplify, char **error) {
  memset(p, 0, sizeof *p);
  p->a = arena_new();
  p->g = graph_new(p->a, diags_new(p->a));
  if (!graph_parse(p->g, text, &p->r, error)) return false;
  if (simplify) graph_simplify(p->g, &p->r);
  prog_inputs(p, 0);
  return true;
}

static inline void prog_free(Prog *p) {
  for (int i = 0; i < p->nin; i++)
    if (p->in[i].data) tensor_drop(&p->in[i]);
  arena_free(p->a);
}

/* Greatest difference relative to the greatest magnitude (at least 1); integers must be equal, nans must meet. */
static inline double tensor_diff(const Tensor *x, const Tensor *y) {
  double scale = 1, worst = 0;
  if (x->dtype != y->dtype || tensor_count(x) != tensor_count(y)) return INFINITY;
  for (int64_t i = 0; i < tensor_count(x); i++) {
    if (!dt_is_float(x->dtype)) {
      if (dt_get_i(x->dtype, x->data, i) != dt_get_i(y->dtype, y->data, i)) return INFINITY;
      continue;
    }
    double a = dt_get_f(x->dtype, x->data, i), b = dt_get_f(y->dtype, y->data, i);
    if (a == b || (a != a && b != b)) continue;
    if (isfinite(b) && fabs(b) > scale) scale = fabs(b);
    double d = fabs(a - b);
    if (!(d <= worst)) worst = d;
  }
  return worst / scale;
}

static inline bool tensor_same(const Tensor *x, const Tensor *y) {
  return tensor_bytes(x) == tensor_bytes(y) && (!tensor_bytes(x) || !memcmp(x->data, y->data, tensor_bytes(x)));
}

typedef struct PlanRun {
  bool ok;
  Fault fault;
  Tensor out[16];
  int nout;
  PlanStats stats;
  char *fuse;
} PlanRun;

static inline PlanRun prog_plan(Prog *p, int threads, double interpret, int times) {
  PlanRun r = {.nout = p->r.nout};
  CodegenOptions o = {.threads = threads, .interpret_below = interpret};
  Codegen *c = codegen_new(&o);
  Plan *plan = codegen_plan(c, p->g, &p->r, &r.fault);
  if (plan) {
    size_t n;
    FILE *f = open_memstream(&r.fuse, &n);
    plan_dump(plan, "fuse", f);
    plan_dump(plan, "plan", f);
    fclose(f);
    r.stats = plan_stats(plan);
    for (int i = 0; i < times; i++) {
      if (r.ok)
        for (int k = 0; k < r.nout; k++) tensor_drop(&r.out[k]);
      r.ok = plan_run(plan, p->nin, p->in, r.out, NULL, &r.fault);
    }
    plan_free(plan);
  }
  codegen_free(c);
  return r;
}

static inline void run_free(PlanRun *r) {
  if (r->ok)
    for (int i = 0; i < r->nout; i++) tensor_drop(&r->out[i]);
  free(r->fuse);
}
#endif
