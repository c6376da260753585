/* See exec_dev.h: memory, kernels, copies. What a plan has on a device is in dev_plan.h, its natives are in dev_call.c.
 */
#include "codegen/dev_plan.h"
#include "codegen/cuda/session.h"
#include <stdlib.h>
#include <string.h>

enum { RECORD_AT = 3, MIN_RECORDED = 2 };

static const Span NO_SPAN = {0, 0, 0};

bool dev_failed(DevPlan *v, Fault *fault) {
  fault_set(fault, v->d->watch.given_up ? R_RANK : R_DEVICE, NO_SPAN, "%s", v->d->why);
  return false;
}
static bool done(DevPlan *v, bool ok, Fault *fault) { return ok || dev_failed(v, fault); }

/* ---- Memory ------------------------------------------------------------------------------------------------------ */
static size_t align_up(size_t n) { return (n + 255) / 256 * 256; }

typedef struct Needs {
  size_t scratch;
  int nsite, max_arg, kernels, max_key;
} Needs;

/* Largest needs of the kernel steps; gives each its first fault site. */
static void needs_of(const Block *b, Needs *n) {
  int run = 0;
  for (int i = 0; i < b->nstep; i++) {
    Step *s = b->step[i];
    if (s->kind == STEP_KERNEL && !s->kernel.skip) {
      CudaCode *c = code_device(s->kernel.code);
      if (c->k.scratch_bytes > n->scratch) n->scratch = c->k.scratch_bytes;
      if (s->kernel.narg > n->max_arg) n->max_arg = s->kernel.narg;
      s->kernel.site0 = n->nsite;
      n->nsite += s->kernel.nsite;
    }
    run = s->kind == STEP_KERNEL ? run + s->kernel.narg + 2 : 0;
    if (run > n->max_key) n->max_key = run;
    if (s->kind == STEP_LOOP) needs_of(&s->loop.test, n), needs_of(&s->loop.body, n);
    if (s->kind == STEP_COND) needs_of(&s->cond.branch[0], n), needs_of(&s->cond.branch[1], n);
  }
}

static void sites_of(const Block *b, Span *site) {
  for (int i = 0; i < b->nstep; i++) {
    const Step *s = b->step[i];
    if (s->kind == STEP_KERNEL && !s->kernel.skip && s->kernel.nsite)
      memcpy(site + s->kernel.site0, s->kernel.site, sizeof *site * (size_t)s->kernel.nsite);
    if (s->kind == STEP_LOOP) sites_of(&s->loop.test, site), sites_of(&s->loop.body, site);
    if (s->kind == STEP_COND) sites_of(&s->cond.branch[0], site), sites_of(&s->cond.branch[1], site);
  }
}

static bool no_memory(Fault *fault) {
  fault_set(fault, R_MEMORY, NO_SPAN, "out of memory");
  return false;
}

static size_t mib(size_t bytes) { return (bytes + (1 << 20) - 1) >> 20; }

/* What was wanted, and what all of the plan wants. */
static bool refused(Plan *p, size_t scratch, Fault *fault) {
  size_t constants = 0, tensors = 0;
  for (int i = 0; i < p->nslot; i++) {
    const Slot *s = &p->slot[i];
    if (s->into >= 0) continue;
    if (s->kind == SL_CONST) constants += s->bytes;
    if (s->kind == SL_INPUT || s->kind == SL_OUT) tensors += s->bytes;
  }
  fault_set(fault, R_MEMORY, NO_SPAN,
            "out of device memory: %s; the program needs %zu MiB at once for intermediate results, %zu for constants, "
            "%zu for inputs and results",
            p->dev->d->why, mib(p->arena_bytes + scratch), mib(constants), mib(tensors));
  return false;
}

static bool take_block(Plan *p, size_t scratch, Fault *fault) {
  DevPlan *v = p->dev;
  size_t at = align_up(p->arena_bytes), total = at;
  for (int i = 0; i < p->nslot; i++)
    if (p->slot[i].into < 0 && p->slot[i].kind == SL_CONST) total += align_up(p->slot[i].bytes + 1);
  void *base;
  if (!dev_room(v->tensors, total + align_up(scratch) + align_up(sizeof(CuFault)), &base))
    return refused(p, scratch, fault);
  v->base = v->arena = base;
  v->scratch = v->base + total;
  v->record = v->scratch + align_up(scratch);
  v->scratch_bytes = scratch;
  for (int i = 0; i < p->nslot; i++) {
    const Slot *s = &p->slot[i];
    if (s->into >= 0) continue;
    if (s->kind == SL_ARENA) p->fixed[i] = v->arena + s->offset;
    if (s->kind != SL_CONST) continue;
    p->fixed[i] = v->base + at;
    at += align_up(s->bytes + 1);
    if (!done(v, v->d->op->put(v->d, p->fixed[i], s->data, s->bytes), fault)) return false;
  }
  return true;
}

static bool take_outputs(Plan *p, Fault *fault) {
  DevPlan *v = p->dev;
  for (int i = 0; i < p->nslot; i++)
    if (p->slot[i].into < 0 && p->slot[i].kind == SL_OUT && !dev_room(v->tensors, p->slot[i].bytes, &p->fixed[i]))
      return refused(p, v->scratch_bytes, fault);
  return true;
}

bool dev_prepare(Plan *p, Fault *fault) {
  if (p->dev) return true;
  DevPlan *v = p->dev = calloc(1, sizeof *v);
  if (!v) return no_memory(fault);
  v->d = codegen_device(p->cg);
  v->tensors = codegen_tensors(p->cg);
  Needs n = {0};
  needs_of(&p->root, &n);
  v->max_key = n.max_key;
  v->nsite = n.nsite;
  p->addr = calloc((size_t)(2 * p->nslot + 1), sizeof *p->addr);
  v->host = calloc((size_t)p->nslot + 1, sizeof *v->host);
  v->args = calloc((size_t)n.max_arg + 3, sizeof *v->args);
  v->key = calloc((size_t)n.max_key + 1, sizeof *v->key);
  v->site = calloc((size_t)n.nsite + 1, sizeof *v->site);
  v->input = calloc((size_t)p->ninput + 1, sizeof *v->input);
  v->output = calloc((size_t)p->noutput + 1, sizeof *v->output);
  if (!v->tensors || !p->addr || !v->host || !v->args || !v->key || !v->site || !v->input || !v->output)
    return no_memory(fault);
  sites_of(&p->root, v->site);
  p->fixed = p->addr + p->nslot;
  return take_block(p, n.scratch, fault) && take_outputs(p, fault);
}

static void leave_inputs(Plan *p) {
  DevPlan *v = p->dev;
  for (int i = 0; v->input && i < p->ninput; i++) {
    if (v->input[i]) dev_tensor_leave(v->tensors, v->input[i]);
    v->input[i] = NULL;
  }
}

/* The memory of results goes to the session, as the copies of what the last run gave. */
static void leave_outputs(Plan *p) {
  DevPlan *v = p->dev;
  if (!v->output || !p->fixed) return;
  for (int i = 0; i < p->noutput; i++) {
    int slot = p->value[p->output[i]].slot;
    if (!v->output[i].owner) continue;
    if (p->fixed[slot]) dev_tensor_give(v->tensors, &v->output[i], p->fixed[slot]);
    p->fixed[slot] = NULL;
    tensor_drop(&v->output[i]);
  }
  for (int i = 0; i < p->nslot; i++)
    if (p->slot[i].into < 0 && p->slot[i].kind == SL_OUT) v->d->op->release(v->d, p->fixed[i]);
}

void dev_free(Plan *p) {
  DevPlan *v = p->dev;
  if (!v) return;
  v->d->op->wait(v->d); /* what is queued uses what is freed here */
  leave_inputs(p);
  leave_outputs(p);
  for (Segment *s = v->segments, *next; s; s = next) {
    next = s->next;
    for (int i = 0; i < s->ntape; i++) {
      if (s->taped[i].tape) v->d->op->drop_tape(v->d, s->taped[i].tape);
      free(s->taped[i].key);
    }
    free(s);
  }
  dev_calls_free(v);
  v->d->op->release(v->d, v->base);
  free(v->host);
  free(v->args);
  free(v->key);
  free(v->site);
  free(v->input);
  free(v->output);
  free(v);
  p->dev = NULL;
}

/* ---- Faults ------------------------------------------------------------------------------------------------------ */
bool dev_no_fault(DevPlan *v, const CuFault *r, Fault *fault) {
  v->unchecked = false;
  if (!r->kind) return true;
  Span at = r->site >= 0 && r->site < v->nsite ? v->site[r->site] : NO_SPAN;
  if (r->kind == KF_INDEX)
    fault_set(fault, R_INDEX, at, "index %lld is out of range for size %lld", (long long)r->index, (long long)r->size);
  else
    fault_set(fault, R_DIVZERO, at, "integer division by zero");
  return false;
}

/* Waits, if a kernel that can fault has been queued. */
static bool check(Plan *p, Fault *fault) {
  DevPlan *v = p->dev;
  CuFault r;
  if (!v->unchecked) return true;
  dev_look_ahead(p);
  return done(v, v->d->op->get(v->d, &r, v->record, sizeof r), fault) && dev_no_fault(v, &r, fault);
}

/* ---- Copies ------------------------------------------------------------------------------------------------------ */
bool dev_copy_at(Plan *p, void *dst, int src, size_t bytes, Fault *fault) {
  DevPlan *v = p->dev;
  return dst == p->addr[src] || done(v, v->d->op->copy(v->d, dst, p->addr[src], bytes), fault);
}
bool dev_copy(Plan *p, int dst, int src, size_t bytes, Fault *fault) {
  if (dst == src || p->addr[dst] == p->addr[src]) return true;
  p->dev->host[dst] = p->dev->host[src];
  return dev_copy_at(p, p->addr[dst], src, bytes, fault);
}
bool dev_zero(Plan *p, void *dst, size_t bytes, Fault *fault) {
  DevPlan *v = p->dev;
  return done(v, v->d->op->zero(v->d, dst, bytes), fault);
}
bool dev_read(Plan *p, int slot, void *to, size_t bytes, Fault *fault) {
  DevPlan *v = p->dev;
  if (v->host[slot]) {
    memcpy(to, v->host[slot], bytes);
    return true;
  }
  dev_look_ahead(p);
  return done(v, v->d->op->get(v->d, to, p->addr[slot], bytes), fault) && check(p, fault);
}
bool dev_write(Plan *p, int slot, const void *from, size_t bytes, Fault *fault) {
  DevPlan *v = p->dev;
  v->host[slot] = NULL;
  return done(v, v->d->op->put(v->d, p->addr[slot], from, bytes), fault);
}
void dev_exchange(Plan *p, int a, int b) {
  const void *t = p->dev->host[a];
  p->dev->host[a] = p->dev->host[b];
  p->dev->host[b] = t;
}
void dev_moved(Plan *p, int slot) { p->dev->host[slot] = NULL; }

/* ---- Kernels ----------------------------------------------------------------------------------------------------- */
static bool queue_kernel(Plan *p, const KernelStep *k) {
  DevPlan *v = p->dev;
  CudaCode *c = code_device(k->code);
  bool ok = true;
  if (k->init == -2)
    ok = v->d->op->zero(v->d, p->addr[k->dest], k->dest_bytes);
  else if (k->init >= 0 && p->addr[k->dest] != p->addr[k->init])
    ok = v->d->op->copy(v->d, p->addr[k->dest], p->addr[k->init], k->dest_bytes);
  for (int i = 0; i < k->narg; i++) v->args[i] = (uint64_t)(uintptr_t)p->addr[k->arg[i]];
  v->args[k->narg] = (uint64_t)(uintptr_t)v->record;
  v->args[k->narg + 1] = (uint64_t)(uintptr_t)v->scratch;
  v->args[k->narg + 2] = (uint64_t)k->site0;
  for (int i = 0; ok && i < c->k.nlaunch; i++)
    ok = v->d->op->launch(v->d, c->fn[i], (uint32_t)c->k.launch[i].grid, (uint32_t)c->k.launch[i].block, v->args);
  /* sealed = kind: what comes behind does not replace this kernel's fault */
  if (ok && c->k.faults)
    ok = v->d->op->copy(v->d, v->record + offsetof(CuFault, sealed), v->record + offsetof(CuFault, kind),
                        sizeof(int32_t));
  return ok;
}

static bool queue_all(Plan *p, const Block *b, int from, int to) {
  for (int i = from; i < to; i++)
    if (!b->step[i]->kernel.skip && !queue_kernel(p, &b->step[i]->kernel)) return false;
  return true;
}

/* The addresses that steps from..to use; what the host has of the slots they write is out of date. */
static int key_of(Plan *p, const Block *b, int from, int to) {
  DevPlan *v = p->dev;
  int n = 0;
  for (int i = from; i < to; i++) {
    const KernelStep *k = &b->step[i]->kernel;
    if (k->skip) continue;
    for (int j = 0; j < k->narg; j++) v->key[n++] = p->addr[k->arg[j]];
    if (k->init >= 0) v->key[n++] = p->addr[k->init];
    for (int j = 0; j < k->narg; j++)
      if (k->writes[j]) v->host[k->arg[j]] = NULL;
    if (k->nsite) v->unchecked = true;
  }
  return n;
}

static Segment *segment_at(DevPlan *v, const Block *b, int from, int to, int nkey) {
  for (Segment *s = v->segments; s; s = s->next)
    if (s->block == b && s->from == from) return s;
  Segment *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  *s = (Segment){.next = v->segments, .block = b, .from = from, .to = to, .nkey = nkey};
  v->segments = s;
  return s;
}

static Taped *taped_at(DevPlan *v, Segment *s) {
  size_t bytes = sizeof *v->key * (size_t)s->nkey;
  for (int i = 0; i < s->ntape; i++)
    if (!memcmp(s->taped[i].key, v->key, bytes)) return &s->taped[i];
  if (s->ntape == MAX_TAPES) return NULL;
  void **key = malloc(bytes + 1);
  if (!key) return NULL;
  memcpy(key, v->key, bytes);
  Taped *t = &s->taped[s->ntape++];
  *t = (Taped){.key = key};
  return t;
}

/* Steps from..to as *tape. False, and no tape: one of them was refused, whatever the recording itself says. */
static bool recorded(Plan *p, const Block *b, int from, int to, RtTape **tape) {
  RtDevice *d = p->dev->d;
  if (!d->op->record(d)) return false;
  bool queued = queue_all(p, b, from, to);
  if (d->op->recorded(d, tape) && queued) return true;
  if (*tape) d->op->drop_tape(d, *tape);
  *tape = NULL;
  return false;
}

int dev_kernels(Plan *p, const Block *b, int i, Fault *fault) {
  DevPlan *v = p->dev;
  int to = i, kernels = 0;
  for (; to < b->nstep && b->step[to]->kind == STEP_KERNEL; to++) kernels += !b->step[to]->kernel.skip;
  int nkey = key_of(p, b, i, to);
  Segment *s = kernels >= MIN_RECORDED ? segment_at(v, b, i, to, nkey) : NULL;
  Taped *t = s && !s->never ? taped_at(v, s) : NULL;
  if (t && ++t->seen == RECORD_AT && !recorded(p, b, i, to, &t->tape))
    s->never = true; /* directly then; a lost device says so again */
  bool ok = t && t->tape ? v->d->op->replay(v->d, t->tape) : queue_all(p, b, i, to);
  if (ok) return to;
  dev_failed(v, fault);
  return -1;
}

/* ---- A run ------------------------------------------------------------------------------------------------------- */
static bool use_inputs(Plan *p, int ninput, const Tensor *input, Fault *fault) {
  DevPlan *v = p->dev;
  for (int i = 0; i < p->ninput; i++) {
    const Value *x = &p->value[p->input[i]];
    int64_t n = p->slot[x->slot].number;
    if (n < 0 || n >= ninput) bug("plan_run: input %lld is missing", (long long)n);
    if (tensor_bytes(&input[n]) != x->bytes) bug("plan_run: input %lld is not of the planned size", (long long)n);
    bool no_room;
    v->input[i] = dev_tensor_use(v->tensors, &input[n], &no_room);
    if (!v->input[i]) return no_room ? refused(p, v->scratch_bytes, fault) : dev_failed(v, fault);
    p->addr[x->slot] = dev_tensor_at(v->input[i]);
    v->host[x->slot] = input[n].data;
  }
  return true;
}

bool dev_begin(Plan *p, int ninput, const Tensor *input, Fault *fault) {
  DevPlan *v = p->dev;
  bool left = false; /* by a run that failed */
  for (int i = 0; i < p->ninput; i++) left |= v->input[i] != NULL;
  if (left && !done(v, v->d->op->wait(v->d), fault)) return false;
  leave_inputs(p);
  dev_tensors_sweep(v->tensors);
  for (int i = 0; i < p->noutput; i++) tensor_drop(&v->output[i]);
  memcpy(p->addr, p->fixed, sizeof *p->addr * (size_t)p->nslot);
  for (int i = 0; i < p->nslot; i++)
    v->host[i] = p->slot[i].kind == SL_CONST && p->slot[i].into < 0 ? p->slot[i].data : NULL;
  v->unchecked = false;
  v->ahead = NULL;
  return use_inputs(p, ninput, input, fault) && done(v, v->d->op->zero(v->d, v->record, sizeof(CuFault)), fault);
}

bool dev_end(Plan *p, Tensor *out, Fault *fault) {
  DevPlan *v = p->dev;
  if (!check(p, fault)) return false;
  for (int i = 0; i < p->noutput; i++) {
    const Value *x = &p->value[p->output[i]];
    const void *h = v->host[x->slot];
    if (h && x->bytes)
      memcpy(out[i].data, h, x->bytes);
    else if (x->bytes && !v->d->op->get_async(v->d, out[i].data, p->addr[x->slot], x->bytes))
      return dev_failed(v, fault);
  }
  if (!v->d->op->wait(v->d)) return dev_failed(v, fault);
  leave_inputs(p);
  for (int i = 0; i < p->noutput; i++) {
    const Value *x = &p->value[p->output[i]];
    const Slot *s = &p->slot[x->slot];
    if (s->kind == SL_OUT && s->number == i && p->addr[x->slot] == p->fixed[x->slot])
      v->output[i] = tensor_ref(&out[i]);
  }
  return true;
}
