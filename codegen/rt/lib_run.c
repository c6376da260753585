/* Walks a plan's tables (lib.h): the runtime twin of codegen/exec.c, for a library. Steps in order, kernels over the
 * lanes of the pool, loops, branches. */
#include "codegen/rt/lib.h"
#include "codegen/rt/pool.h"
#include <string.h>

static const double PARALLEL_NS = 12e3; /* less work stays on the calling lane */

typedef struct Run {
  LibContext *c;
  const LibPlan *p;
} Run;

typedef struct Task {
  const Phase *phase;
  KernelArgs args;
  char *lane;
  size_t lane_bytes;
  KFault *fault;
} Task;

static void run_lane(void *ctx, int lane, int nlane) {
  const Task *t = ctx;
  KernelArgs a = t->args;
  a.lo = rt_lane_lo(t->phase->units, lane, nlane);
  a.hi = rt_lane_lo(t->phase->units, lane + 1, nlane);
  a.scratch = t->lane + t->lane_bytes * (size_t)lane;
  a.fault = &t->fault[lane];
  if (a.lo < a.hi) t->phase->fn(&a);
}

/* The fault of the lowest lane, hence of the first unit. */
static int report(LibContext *c, const LibKernel *k) {
  int status = RT_OK;
  for (int l = 0; l < c->lanes; l++) {
    KFault *f = &c->fault[l];
    if (f->kind && !status) {
      const char *at = f->site >= 0 && f->site < k->nsite ? k->site[f->site] : "";
      if (f->kind == KF_INDEX)
        status = lib_fail(c, RT_BAD_INDEX, "%s: index %lld is out of range for size %lld", at, (long long)f->index,
                          (long long)f->size);
      else if (f->kind == KF_DIVZERO)
        status = lib_fail(c, RT_DIV_ZERO, "%s: integer division by zero", at);
      else
        status = lib_fail(c, RT_NO_MEMORY, "%s: out of memory in a kernel", at);
    }
    f->kind = KF_NONE;
  }
  return status;
}

/* Empty tensors may have no address. */
static void move(void *dst, const void *src, uint64_t bytes) {
  if (bytes && dst != src) memcpy(dst, src, bytes);
}

static int run_kernel(Run *r, const LibKernel *k) {
  LibContext *c = r->c;
  for (int i = 0; i < k->narg; i++) c->ptr[i] = c->addr[k->arg[i]];
  if (k->init == -2)
    memset(c->addr[k->dest], 0, k->dest_bytes);
  else if (k->init >= 0)
    move(c->addr[k->dest], c->addr[k->init], k->dest_bytes);
  Task t = {
      .args = {.ptr = c->ptr, .shared = c->shared}, .lane = c->lane, .lane_bytes = r->p->lane_bytes, .fault = c->fault};
  for (int i = 0; i < k->nphase; i++) {
    t.phase = &k->phase[i];
    t.args.ctx = t.phase->ctx;
    int wide = c->lanes > 1 && t.phase->units > 1 && t.phase->cost * (double)t.phase->units >= PARALLEL_NS;
    if (wide)
      rt_pool_run(c->pool, run_lane, &t);
    else
      run_lane(&t, 0, 1);
    if (!k->nsite) continue;
    int status = report(c, k);
    if (status) return status;
  }
  return RT_OK;
}

static int run_block(Run *r, const LibBlock *b);

static void exchange(void **addr, int a, int b) {
  void *t = addr[a];
  addr[a] = addr[b];
  addr[b] = t;
}

static void next_states(void **addr, const LibLoop *l) {
  for (int k = 0; k < l->nstate; k++) {
    const LibState *s = &l->state[k];
    if (!s->in_place && s->spare >= 0) move(addr[s->spare], addr[s->next], s->bytes);
  }
  for (int k = 0; k < l->nstate; k++) {
    const LibState *s = &l->state[k];
    if (!s->in_place) exchange(addr, s->state, s->spare >= 0 ? s->spare : s->next);
  }
}

static int run_loop(Run *r, const LibLoop *l) {
  void **addr = r->c->addr;
  int64_t trip = l->trip, steps = 0;
  if (l->trip_value >= 0) {
    int64_t n = *(const int64_t *)addr[l->trip_value];
    trip = n < 0 ? 0 : n < trip ? n : trip;
  }
  for (int k = 0; k < l->nstate; k++) move(addr[l->state[k].state], addr[l->state[k].init], l->state[k].bytes);
  if (l->trip_value >= 0 || l->cond >= 0)
    for (int k = 0; k < l->nstack; k++)
      if (l->stack[k].bytes) memset(addr[l->stack[k].stack], 0, l->stack[k].bytes * (uint64_t)l->trip);
  for (; steps < trip; steps++) {
    int64_t at = l->reverse ? trip - 1 - steps : steps;
    if (l->counter >= 0) *(int64_t *)addr[l->counter] = at;
    int status = run_block(r, &l->test);
    if (status) return status;
    if (l->cond >= 0 && !*(const unsigned char *)addr[l->cond]) break;
    for (int k = 0; k < l->nstack; k++)
      if (l->stack[k].direct)
        addr[l->stack[k].row] = (char *)addr[l->stack[k].stack] + l->stack[k].bytes * (uint64_t)at;
    status = run_block(r, &l->body);
    if (status) return status;
    for (int k = 0; k < l->nstack; k++)
      if (!l->stack[k].direct)
        move((char *)addr[l->stack[k].stack] + l->stack[k].bytes * (uint64_t)at, addr[l->stack[k].row],
             l->stack[k].bytes);
    next_states(addr, l);
  }
  *(int64_t *)addr[l->steps] = steps;
  return RT_OK;
}

static int run_cond(Run *r, const LibCond *c) {
  void **addr = r->c->addr;
  int side = *(const unsigned char *)addr[c->pred] ? 0 : 1;
  int status = run_block(r, &c->branch[side]);
  for (int k = 0; !status && k < c->nmove[side]; k++)
    move(addr[c->move[side][k].dst], addr[c->move[side][k].src], c->move[side][k].bytes);
  return status;
}

static int run_block(Run *r, const LibBlock *b) {
  int status = RT_OK;
  for (int64_t i = 0; i < b->n && !status; i++) {
    const LibStep *s = &b->step[i];
    if (s->kind == LK_KERNEL)
      status = run_kernel(r, s->of);
    else if (s->kind == LK_LOOP)
      status = run_loop(r, s->of);
    else if (s->kind == LK_CALL)
      status = lib_run_call(r->c, s->of);
    else
      status = run_cond(r, s->of);
  }
  return status;
}

int lib_run_plan(LibContext *c, const LibPlan *p, void *const *in, void *const *out) {
  Run r = {c, p};
  for (int i = 0; i < p->nslot; i++) {
    const LibSlot *s = &p->slot[i];
    c->addr[i] = s->kind == LS_ARENA   ? c->arena + s->offset
                 : s->kind == LS_INPUT ? in[s->number]
                 : s->kind == LS_CONST ? (void *)(uintptr_t)c->konst[s->number]
                 : s->kind == LS_OUT   ? out[s->number]
                                       : NULL;
  }
  int status = run_block(&r, &p->root);
  for (int i = 0; !status && i < p->nresult; i++)
    move(out[p->result[i].dst], c->addr[p->result[i].src], p->result[i].bytes);
  return status;
}
