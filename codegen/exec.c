/* Running a plan: steps in order, kernels over the lanes of the pool, loops, branches, natives.
 *
 * A step that takes less than PARALLEL_NS stays on the calling lane. In a phase every lane gets one range of units,
 * walked in pieces of about PIECE_NS, between which the interrupt flag is read. Which lane runs what never changes a
 * bit: units are independent. The fault reported is that of the lowest lane, hence of the first unit. */
#include "codegen/exec_dev.h"
#include "codegen/rt/clock.h"
#include "codegen/rt/trace.h"
#include "codegen/plan.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static const double PARALLEL_NS = 12e3, PIECE_NS = 3e6;

typedef struct Run {
  Plan *p;
  void **addr;
  void *native_ctx;
  volatile int *interrupt;
  Fault *fault;
} Run;

static bool run_block(Run *r, const Block *b);

static const Span NO_SPAN = {0, 0, 0};

static bool interrupted(Run *r) {
  if (!r->interrupt || !*r->interrupt) return false;
  fault_set(r->fault, R_INTERRUPT, NO_SPAN, "interrupted");
  return true;
}

/* ---- Kernels ----------------------------------------------------------------------------------------------------- */
typedef struct Task {
  const Phase *phase;
  KernelArgs args;
  char *lanes;
  size_t lane_bytes;
  KFault *fault;
  volatile int *interrupt;
  const Codegen *session;
} Task;

static void run_range(const Task *t, int lane, int64_t lo, int64_t hi) {
  KernelArgs a = t->args;
  double piece = t->phase->cost > 0 ? PIECE_NS / t->phase->cost : 1e9;
  int64_t step = piece < 1 ? 1 : piece > 1e15 ? (int64_t)1e15 : (int64_t)piece;
  a.scratch = t->lanes + t->lane_bytes * (size_t)lane;
  a.fault = &t->fault[lane];
  while (lo < hi) {
    a.lo = lo;
    a.hi = hi - lo > step ? lo + step : hi;
    t->phase->fn(&a);
    lo = a.hi;
    if (a.fault->kind || (t->interrupt && *t->interrupt)) return;
    if (lane == 0) codegen_between(t->session);
  }
}

static void run_lane(void *ctx, int lane, int nlane) {
  const Task *t = ctx;
  int64_t n = t->phase->units;
  run_range(t, lane, rt_lane_lo(n, lane, nlane), rt_lane_lo(n, lane + 1, nlane));
}

static bool report(Run *r, const KernelStep *k, int nlane) {
  for (int l = 0; l < nlane; l++) {
    const KFault *f = &r->p->fault[l];
    if (!f->kind) continue;
    Span at = f->site >= 0 && f->site < k->nsite ? k->site[f->site] : NO_SPAN;
    if (f->kind == KF_INDEX)
      fault_set(r->fault, R_INDEX, at, "index %lld is out of range for size %lld", (long long)f->index,
                (long long)f->size);
    else if (f->kind == KF_DIVZERO)
      fault_set(r->fault, R_DIVZERO, at, "integer division by zero");
    else
      fault_set(r->fault, R_MEMORY, at, "out of memory in a kernel");
    for (int i = 0; i < nlane; i++) r->p->fault[i].kind = KF_NONE;
    return false;
  }
  return true;
}

/* Empty tensors may have no address. */
static void move(void *dst, const void *src, size_t bytes) {
  if (bytes && dst != src) memcpy(dst, src, bytes);
}

static bool run_phases(Run *r, const KernelStep *k) {
  Plan *p = r->p;
  const Code *c = code_of(k->code);
  for (int i = 0; i < k->narg; i++) p->ptr[i] = r->addr[k->arg[i]];
  if (k->init == -2)
    memset(r->addr[k->dest], 0, k->dest_bytes);
  else if (k->init >= 0)
    move(r->addr[k->dest], r->addr[k->init], k->dest_bytes);
  Task t = {.args = {.ptr = p->ptr, .shared = p->shared},
            .lanes = p->lanes,
            .lane_bytes = p->lane_bytes,
            .fault = p->fault,
            .interrupt = r->interrupt,
            .session = p->cg};
  int used = 1;
  for (int i = 0; i < c->nphase; i++) {
    t.phase = &c->phase[i];
    t.args.ctx = t.phase->ctx;
    double cost = t.phase->cost * (double)t.phase->units;
    RtPool *pool = cost >= PARALLEL_NS && t.phase->units > 1 ? codegen_pool(p->cg) : NULL;
    if (pool) {
      rt_pool_run(pool, run_lane, &t);
      used = codegen_lanes(p->cg);
    } else {
      run_range(&t, 0, 0, t.phase->units);
    }
    if (!report(r, k, used)) return false;
    if (cost > PIECE_NS && interrupted(r)) return false;
  }
  return true;
}

static bool run_kernel(Run *r, KernelStep *k) {
  if (k->skip) return true;
  struct RtTrace *trace = codegen_trace(r->p->cg);
  if (!codegen_profile(r->p->cg) && !trace) return run_phases(r, k);
  double start = rt_seconds();
  bool ok = run_phases(r, k);
  double took = rt_seconds() - start;
  k->seconds += took;
  rt_trace_add(trace, TRACE_KERNELS, k->brief, start, took, -1);
  if (!k->runs++ || took < k->least) k->least = took;
  return ok;
}

/* ---- Calls, loops, branches ------------------------------------------------------------------------------------- */
static void drop_snapshot(Plan *p) {
  for (int i = 0; p->snapshot && i < p->refused->ngiven; i++) tensor_drop(&p->snapshot[i]);
  free(p->snapshot);
  p->snapshot = NULL;
  p->refused = NULL;
}

/* Copies what the refused step began with. Without memory for it nothing is kept. */
static void take_snapshot(Run *r, const CallStep *c) {
  Plan *p = r->p;
  p->snapshot = calloc((size_t)c->ngiven + 1, sizeof *p->snapshot);
  if (!p->snapshot) return;
  p->refused = c;
  for (int i = 0; i < c->ngiven; i++) {
    const Tensor *t = &c->found[i];
    if (!tensor_alloc(&p->snapshot[i], t->dtype, t->rank, t->dim)) {
      drop_snapshot(p);
      return;
    }
    Fault later; /* the step's own fault is the one to tell */
    if (!p->dev)
      move(p->snapshot[i].data, r->addr[c->found_value[i]], tensor_bytes(t));
    else if (!dev_read(p, c->found_value[i], p->snapshot[i].data, tensor_bytes(t), &later)) {
      drop_snapshot(p);
      return;
    }
  }
}

bool plan_refused(const Plan *p, PlanRefusal *out) {
  if (!p->refused) return false;
  *out = (PlanRefusal){p->refused->node, p->refused->ngiven, p->refused->given, p->snapshot};
  return true;
}

static bool call_native(Run *r, CallStep *c) {
  for (int i = 0; i < c->narg + c->nres; i++) c->tensor[i].data = r->addr[c->value[i]];
  struct RtTrace *trace = codegen_trace(r->p->cg);
  double start = trace ? rt_seconds() : 0;
  bool ok =
      native_call(c->fn, r->native_ctx, c->nattr, c->attr, c->narg, c->tensor, c->nres, c->tensor + c->narg, r->fault);
  if (trace) rt_trace_add(trace, TRACE_CALLS, c->fn->name, start, rt_seconds() - start, -1);
  return ok;
}

static bool run_call(Run *r, CallStep *c) {
  if (r->p->dev) {
    if (dev_call(r->p, c, r->native_ctx, r->fault)) return true;
  } else if (call_native(r, c)) {
    return true;
  }
  if (r->fault->id == E_NONE) fault_set(r->fault, R_NATIVE, c->span, "%s failed", c->fn->name);
  if (c->fn->commit) take_snapshot(r, c);
  if (!r->fault->span.file) r->fault->span = c->span;
  return false;
}

static void exchange(Run *r, int a, int b) {
  void *t = r->addr[a];
  r->addr[a] = r->addr[b];
  r->addr[b] = t;
  if (r->p->dev) dev_exchange(r->p, a, b);
}

/* On the host or the device. */
static bool move_slot(Run *r, int dst, int src, size_t bytes) {
  if (r->p->dev) return dev_copy(r->p, dst, src, bytes, r->fault);
  move(r->addr[dst], r->addr[src], bytes);
  return true;
}
static bool move_row(Run *r, void *dst, int src, size_t bytes) {
  if (r->p->dev) return dev_copy_at(r->p, dst, src, bytes, r->fault);
  move(dst, r->addr[src], bytes);
  return true;
}
static bool zero(Run *r, void *dst, size_t bytes) {
  if (r->p->dev) return dev_zero(r->p, dst, bytes, r->fault);
  if (bytes) memset(dst, 0, bytes);
  return true;
}
static bool read_slot(Run *r, int slot, void *to, size_t bytes) {
  if (r->p->dev) return dev_read(r->p, slot, to, bytes, r->fault);
  memcpy(to, r->addr[slot], bytes);
  return true;
}
static bool write_slot(Run *r, int slot, const void *from, size_t bytes) {
  if (r->p->dev) return dev_write(r->p, slot, from, bytes, r->fault);
  memcpy(r->addr[slot], from, bytes);
  return true;
}

static bool next_states(Run *r, const LoopStep *l) {
  for (int k = 0; k < l->nstate; k++) {
    const LoopState *s = &l->state[k];
    if (!s->in_place && s->spare >= 0 && !move_slot(r, s->spare, s->next, s->bytes)) return false;
  }
  for (int k = 0; k < l->nstate; k++) {
    const LoopState *s = &l->state[k];
    if (!s->in_place) exchange(r, s->state, s->spare >= 0 ? s->spare : s->next);
  }
  return true;
}

static bool run_loop(Run *r, const LoopStep *l) {
  int64_t trip = l->trip, steps = 0;
  if (l->trip_value >= 0) {
    int64_t n = 0;
    if (!read_slot(r, l->trip_value, &n, sizeof n)) return false;
    trip = n < 0 ? 0 : n < trip ? n : trip;
  }
  for (int k = 0; k < l->nstate; k++) {
    const LoopState *s = &l->state[k];
    if (!move_slot(r, s->state, s->init, s->bytes)) return false;
  }
  if (l->trip_value >= 0 || l->cond >= 0)
    for (int k = 0; k < l->nstack; k++)
      if (!zero(r, r->addr[l->stack[k].stack], l->stack[k].bytes * (size_t)l->trip)) return false;
  for (; steps < trip; steps++) {
    int64_t at = l->reverse ? trip - 1 - steps : steps;
    if (interrupted(r)) return false;
    unsigned char go = 1;
    if (l->counter >= 0 && !write_slot(r, l->counter, &at, sizeof at)) return false;
    if (!run_block(r, &l->test)) return false;
    if (l->cond >= 0 && !read_slot(r, l->cond, &go, 1)) return false;
    if (!go) break;
    for (int k = 0; k < l->nstack; k++)
      if (l->stack[k].direct) {
        r->addr[l->stack[k].row] = (char *)r->addr[l->stack[k].stack] + l->stack[k].bytes * (size_t)at;
        if (r->p->dev) dev_moved(r->p, l->stack[k].row);
      }
    if (!run_block(r, &l->body)) return false;
    for (int k = 0; k < l->nstack; k++)
      if (!l->stack[k].direct && !move_row(r, (char *)r->addr[l->stack[k].stack] + l->stack[k].bytes * (size_t)at,
                                           l->stack[k].row, l->stack[k].bytes))
        return false;
    if (!next_states(r, l)) return false;
  }
  for (int k = 0; r->p->dev && k < l->nstack; k++)
    dev_moved(r->p, l->stack[k].stack); /* rows were written one by one */
  return write_slot(r, l->steps, &steps, sizeof steps);
}

static bool run_cond(Run *r, const CondStep *c) {
  unsigned char pred = 0;
  if (!read_slot(r, c->pred, &pred, 1)) return false;
  int side = pred ? 0 : 1;
  if (!run_block(r, &c->branch[side])) return false;
  for (int k = 0; k < c->nmove[side]; k++) {
    const Move *m = &c->move[side][k];
    if (!move_slot(r, m->dst, m->src, m->bytes)) return false;
  }
  return true;
}

static bool run_block(Run *r, const Block *b) {
  for (int i = 0; i < b->nstep; i++) {
    Step *s = b->step[i];
    bool ok = true;
    switch (s->kind) {
    case STEP_KERNEL:
      if (!r->p->dev) {
        ok = run_kernel(r, &s->kernel);
      } else {
        i = dev_kernels(r->p, b, i, r->fault) - 1;
        ok = i >= 0;
      }
      break;
    case STEP_LOOP:
      ok = run_loop(r, &s->loop);
      break;
    case STEP_COND:
      ok = run_cond(r, &s->cond);
      break;
    case STEP_CALL:
      ok = run_call(r, &s->call);
      break;
    }
    if (!ok) return false;
  }
  return true;
}

/* ---- Memory of a plan ------------------------------------------------------------------------------------------- */
static size_t page_up(size_t n) { return (n + 4095) / 4096 * 4096; }

/* Once: the arena, the lanes' scratch and the shared scratch in one mapping, what is lent there, too, or in memory that
 * other ranks read; the table of addresses. */
static bool prepare(Plan *p, Fault *fault) {
  int nlane = codegen_lanes(p->cg);
  if (p->addr) return true;
  size_t lane = page_up(p->lane_bytes), want;
  p->lane_bytes = lane;
  if (p->lent_bytes && !p->lent) p->lent = codegen_lend(p->cg, p->lent_bytes);
  size_t here = p->lent ? 0 : page_up(p->lent_bytes);
  want = page_up(p->arena_bytes) + lane * (size_t)nlane + page_up(p->shared_bytes) + here + 4096;
  p->arena = mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p->arena == MAP_FAILED) {
    p->arena = NULL;
    fault_set(fault, R_MEMORY, NO_SPAN, "out of memory: the program needs %zu MiB at once", want >> 20);
    return false;
  }
  p->map_bytes = want;
  if (want >= (size_t)4 << 20) madvise(p->arena, want, MADV_HUGEPAGE);
  p->lanes = p->arena + page_up(p->arena_bytes);
  p->shared = p->lanes + lane * (size_t)nlane;
  char *lent = p->lent ? p->lent : p->shared + page_up(p->shared_bytes);
  p->addr = calloc((size_t)(2 * p->nslot + p->max_arg + 1), sizeof *p->addr);
  p->fault = calloc((size_t)nlane, sizeof *p->fault);
  if (!p->addr || !p->fault) {
    fault_set(fault, R_MEMORY, NO_SPAN, "out of memory");
    return false;
  }
  p->fixed = p->addr + p->nslot;
  p->ptr = p->fixed + p->nslot;
  for (int i = 0; i < p->nslot; i++) {
    const Slot *s = &p->slot[i];
    if (s->into >= 0) continue;
    if (s->kind == SL_ARENA) p->fixed[i] = (s->lent ? lent : p->arena) + s->offset;
    if (s->kind == SL_CONST) p->fixed[i] = s->data;
  }
  return true;
}

static void bind_input(Run *r, const Value *v, const Slot *s, int ninput, const Tensor *input) {
  if (s->number < 0 || s->number >= ninput) bug("plan_run: input %lld is missing", (long long)s->number);
  const Tensor *t = &input[s->number];
  bool same = t->dtype == v->dtype && t->rank == v->rank;
  for (int d = 0; same && d < v->rank; d++) same = t->dim[d] == v->dim[d];
  if (!same) bug("plan_run: input %lld is not of the planned type", (long long)s->number);
  r->addr[v->slot] = t->data;
}

bool plan_run(Plan *p, int ninput, const Tensor *input, Tensor *out, void *native_ctx, Fault *fault) {
  drop_snapshot(p);
  fault->id = E_NONE;
  fault->span = NO_SPAN;
  if (!(codegen_device(p->cg) ? dev_prepare(p, fault) : prepare(p, fault))) return false;
  Run r = {p, p->addr, native_ctx, codegen_interrupt(p->cg), fault};
  memcpy(p->addr, p->fixed, sizeof *p->addr * (size_t)p->nslot);
  int made = 0;
  bool ok = !interrupted(&r);
  for (; ok && made < p->noutput; made++) {
    const Value *v = &p->value[p->output[made]];
    ok = tensor_alloc(&out[made], (DType)v->dtype, v->rank, v->dim);
    if (!ok)
      fault_set(fault, R_MEMORY, NO_SPAN, "out of memory: %zu bytes were refused", v->bytes);
    else if (!p->dev && p->slot[v->slot].kind == SL_OUT && p->slot[v->slot].number == made)
      p->addr[v->slot] = out[made].data;
    if (!ok) break;
  }
  if (ok && p->dev) {
    ok = dev_begin(p, ninput, input, fault) && run_block(&r, &p->root) && dev_end(p, out, fault);
  } else if (ok) {
    for (int i = 0; i < p->ninput; i++)
      bind_input(&r, &p->value[p->input[i]], &p->slot[p->value[p->input[i]].slot], ninput, input);
    ok = run_block(&r, &p->root);
  }
  for (int i = 0; ok && !p->dev && i < p->noutput; i++) {
    const Value *v = &p->value[p->output[i]];
    move(out[i].data, p->addr[v->slot], v->bytes);
  }
  if (!ok)
    for (int i = 0; i < made; i++) tensor_drop(&out[i]);
  return ok;
}

void plan_free(Plan *p) {
  if (!p) return;
  dev_free(p);
  drop_snapshot(p);
  if (p->arena) munmap(p->arena, p->map_bytes);
  if (p->lent) codegen_take_back(p->cg, p->lent);
  free(p->addr);
  free(p->fault);
  arena_free(p->mem);
  free(p);
}
