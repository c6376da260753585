/* Plans of a library on a CUDA device (lib_device.h): the twin of lib_run.c. Needs the driver alone, found when a
 * context is made.
 *
 * One block of device memory a context: arena, scratch, fault record, constants, states, and room for the tensors of
 * the largest call. A call copies its inputs there, queues the plan, waits where it needs a number (a loop's condition)
 * and at the end, when the results are copied back. Between calls nothing is queued. */
#include "codegen/rt/dev_fault.h"
#include "codegen/rt/device.h"
#include "codegen/rt/lib_device.h"
#include <string.h>

enum { DEVICE_ALIGN = 256 };

_Static_assert(sizeof(void *) == 8, "tables of pointers and of numbers lie one after the other");

struct LibCuda {
  RtDevice *d;
  size_t bytes; /* of this, with what follows it */
  RtModule **module;
  RtFunction **launch;
  void **konst;
  uint64_t *args;
  char *base, *arena, *scratch, *record, *tensors;
  int unchecked; /* a kernel that can fault has been queued since the record was read */
};

static size_t up(size_t n) { return (n + DEVICE_ALIGN - 1) / DEVICE_ALIGN * DEVICE_ALIGN; }
static size_t most(size_t a, size_t b) { return a > b ? a : b; }

static int failed(LibContext *c) { return lib_fail(c, RT_DEVICE, "%s", c->device->d->why); }

/* ---- Sizes ------------------------------------------------------------------------------------------------------- */
typedef struct Sizes {
  size_t arena, scratch, record, konst, state, tensors, all, args;
} Sizes;

static size_t tensor_bytes(const LibTensor *t, int64_t rows) { return t->bytes * (t->batched ? (size_t)rows : 1); }

static Sizes sizes_of(const Lib *lib) {
  Sizes s = {.record = up(sizeof(CuFault))};
  for (int k = 0; k < lib->nexport; k++) {
    const LibExport *e = &lib->export[k];
    for (int i = 0; i < e->nplan; i++) {
      const LibPlan *p = e->plan[i];
      size_t n = 0;
      for (int j = 0; j < e->nin + e->nout; j++) n += up(tensor_bytes(&e->tensor[j], p->rows));
      s.arena = most(s.arena, p->arena_bytes);
      s.scratch = most(s.scratch, p->shared_bytes);
      s.args = most(s.args, (size_t)p->max_arg + 3);
      s.tensors = most(s.tensors, n);
    }
  }
  for (int i = 0; i < lib->nconst; i++) {
    int is_state = i >= lib->first_state && i < lib->first_state + lib->nstate;
    if (is_state)
      s.state += 2 * up(lib->konst[i].bytes);
    else
      s.konst += up(lib->konst[i].bytes);
  }
  s.arena = up(s.arena), s.scratch = up(s.scratch);
  s.all = s.arena + s.scratch + s.record + s.konst + s.state + s.tensors;
  return s;
}

/* ---- Making a context -------------------------------------------------------------------------------------------- */
/* Machine code of the device's own generation first. */
static const void *image_for(const LibModule *m, int arch) {
  const LibImage *best = NULL;
  for (int i = 0; i < m->nimage; i++) {
    const LibImage *x = &m->image[i];
    int runs = x->arch <= arch && (x->ptx || x->arch / 10 == arch / 10);
    if (runs && (!best || best->ptx > x->ptx || (best->ptx == x->ptx && best->arch < x->arch))) best = x;
  }
  return best ? best->data : NULL;
}

static int load_code(LibContext *c) {
  const LibDevice *t = c->lib->device;
  struct LibCuda *v = c->device;
  for (int i = 0; i < t->nmodule; i++) {
    const void *image = image_for(&t->module[i], v->d->arch);
    if (!image)
      return lib_fail(c, RT_NO_DEVICE, "%s: the library has no code for compute capability %d.%d", v->d->name,
                      v->d->arch / 10, v->d->arch % 10);
    if (!v->d->op->load(v->d, image, &v->module[i])) return failed(c);
  }
  for (int i = 0; i < t->nlaunch; i++)
    if (!v->d->op->function(v->d, v->module[t->launch[i].module], t->launch[i].name, &v->launch[i])) return failed(c);
  return RT_OK;
}

/* Constants go to the device; states get places there. */
static int place_constants(LibContext *c, char *at) {
  const Lib *lib = c->lib;
  struct LibCuda *v = c->device;
  for (int i = 0; i < lib->nconst; i++) {
    size_t bytes = lib->konst[i].bytes;
    int state = i - lib->first_state;
    if (state >= 0 && state < lib->nstate) {
      c->state[state] = at;
      c->spare[state] = at + up(bytes);
      at += 2 * up(bytes);
      continue;
    }
    v->konst[i] = at;
    if (bytes && !v->d->op->put(v->d, at, c->konst[i], bytes)) return failed(c);
    at += up(bytes);
  }
  v->tensors = at;
  return v->d->op->wait(v->d) ? RT_OK : failed(c);
}

static int fill(LibContext *c) {
  struct LibCuda *v = c->device;
  Sizes s = sizes_of(c->lib);
  void *base;
  if (!v->d->op->alloc(v->d, s.all, &base)) return lib_fail(c, RT_NO_MEMORY, "%s", v->d->why);
  v->base = v->arena = base;
  v->scratch = v->base + s.arena;
  v->record = v->scratch + s.scratch;
  int status = load_code(c);
  return status ? status : place_constants(c, v->record + s.record);
}

/* LibCuda and its tables, one after the other. */
static size_t cuda_memory(const Lib *lib) {
  const LibDevice *t = lib->device;
  return up(sizeof(struct LibCuda)) +
         8 * ((size_t)t->nmodule + (size_t)t->nlaunch + (size_t)lib->nconst + sizes_of(lib).args);
}

static int cuda_create(LibContext *c) {
  const Lib *lib = c->lib;
  const LibDevice *t = lib->device;
  size_t bytes = cuda_memory(lib);
  char *m = c->o.alloc(c->o.user, bytes, 64);
  if (!m) return RT_NO_MEMORY;
  memset(m, 0, bytes);
  struct LibCuda *v = c->device = (struct LibCuda *)(void *)m;
  *v = (struct LibCuda){.bytes = bytes};
  v->module = (RtModule **)(void *)(m + up(sizeof *v));
  v->launch = (RtFunction **)(void *)(v->module + t->nmodule);
  v->konst = (void **)(void *)(v->launch + t->nlaunch);
  v->args = (uint64_t *)(void *)(v->konst + lib->nconst);
  if (rt_cuda.count(c->message, sizeof c->message) < 0) return RT_NO_DRIVER;
  v->d = rt_cuda.open(0, c->message, sizeof c->message);
  if (!v->d) return RT_NO_DEVICE;
  int status = fill(c);
  v->d->op->leave(v->d);
  return status;
}

static void empty_device(LibContext *c) {
  struct LibCuda *v = c->device;
  v->d->op->wait(v->d); /* a call that failed may have left work */
  for (int i = 0; i < c->lib->device->nmodule; i++) v->d->op->unload(v->d, v->module[i]);
  v->d->op->release(v->d, v->base);
}

static void cuda_destroy(LibContext *c) {
  struct LibCuda *v = c->device;
  if (!v) return;
  if (v->d) {
    /* A refusal may be of the moment: memory of the host was short. Refused again, nobody gets into the context any
     * more, so nobody can free what lies in it; it goes with the context, of which `close` gives up our hold. */
    if (v->d->op->enter(v->d) || v->d->op->enter(v->d)) empty_device(c);
    v->d->op->close(v->d);
  }
  c->o.release(c->o.user, v, v->bytes);
  c->device = NULL;
}

static int cuda_put(LibContext *c, void *state, const void *data, size_t bytes) {
  RtDevice *d = c->device->d;
  if (!d->op->enter(d)) return failed(c);
  int ok = d->op->put(d, state, data, bytes) && d->op->wait(d);
  d->op->leave(d);
  return ok ? RT_OK : failed(c);
}
static int cuda_get(LibContext *c, void *data, const void *state, size_t bytes) {
  RtDevice *d = c->device->d;
  if (!d->op->enter(d)) return failed(c);
  int ok = d->op->get(d, data, state, bytes);
  d->op->leave(d);
  return ok ? RT_OK : failed(c);
}

/* ---- Steps ------------------------------------------------------------------------------------------------------- */
static int done(LibContext *c, bool ok) { return ok ? RT_OK : failed(c); }

static int check(LibContext *c) {
  struct LibCuda *v = c->device;
  CuFault r;
  if (!v->unchecked) return RT_OK;
  v->unchecked = 0;
  if (!v->d->op->get(v->d, &r, v->record, sizeof r)) return failed(c);
  if (!r.kind) return RT_OK;
  const LibDevice *t = c->lib->device;
  const char *at = r.site >= 0 && r.site < t->nsite ? t->site[r.site] : "";
  if (r.kind == KF_INDEX)
    return lib_fail(c, RT_BAD_INDEX, "%s: index %lld is out of range for size %lld", at, (long long)r.index,
                    (long long)r.size);
  return lib_fail(c, RT_DIV_ZERO, "%s: integer division by zero", at);
}

/* Waits. */
static int read_slot(LibContext *c, int slot, void *to, size_t bytes) {
  RtDevice *d = c->device->d;
  int status = done(c, d->op->get(d, to, c->addr[slot], bytes));
  return status ? status : check(c);
}
static int move(LibContext *c, void *dst, const void *src, uint64_t bytes) {
  RtDevice *d = c->device->d;
  return !bytes || dst == src ? RT_OK : done(c, d->op->copy(d, dst, src, bytes));
}

static int run_kernel(LibContext *c, const LibKernel *k) {
  struct LibCuda *v = c->device;
  RtDevice *d = v->d;
  bool ok = true;
  if (k->init == -2)
    ok = d->op->zero(d, c->addr[k->dest], k->dest_bytes);
  else if (k->init >= 0 && c->addr[k->dest] != c->addr[k->init])
    ok = d->op->copy(d, c->addr[k->dest], c->addr[k->init], k->dest_bytes);
  for (int i = 0; i < k->narg; i++) v->args[i] = (uint64_t)(uintptr_t)c->addr[k->arg[i]];
  v->args[k->narg] = (uint64_t)(uintptr_t)v->record;
  v->args[k->narg + 1] = (uint64_t)(uintptr_t)v->scratch;
  v->args[k->narg + 2] = (uint64_t)k->site0;
  for (int i = k->launch; ok && i < k->launch + k->nlaunch; i++) {
    const LibLaunch *l = &c->lib->device->launch[i];
    ok = d->op->launch(d, v->launch[i], l->grid, l->block, v->args);
  }
  /* sealed = kind: what comes behind does not replace this kernel's fault */
  if (ok && k->faults) {
    ok = d->op->copy(d, v->record + offsetof(CuFault, sealed), v->record + offsetof(CuFault, kind), sizeof(int32_t));
    v->unchecked = 1;
  }
  return done(c, ok);
}

static int run_block(LibContext *c, const LibBlock *b);

static void exchange(void **addr, int a, int b) {
  void *t = addr[a];
  addr[a] = addr[b];
  addr[b] = t;
}

static int next_states(LibContext *c, const LibLoop *l) {
  int status = RT_OK;
  for (int k = 0; !status && k < l->nstate; k++) {
    const LibState *s = &l->state[k];
    if (!s->in_place && s->spare >= 0) status = move(c, c->addr[s->spare], c->addr[s->next], s->bytes);
  }
  for (int k = 0; k < l->nstate; k++) {
    const LibState *s = &l->state[k];
    if (!s->in_place) exchange(c->addr, s->state, s->spare >= 0 ? s->spare : s->next);
  }
  return status;
}

static char *row_at(LibContext *c, const LibStack *s, int64_t at) {
  return (char *)c->addr[s->stack] + s->bytes * (uint64_t)at;
}

/* *go: the step was made. */
static int run_step(LibContext *c, const LibLoop *l, int64_t at, unsigned char *go) {
  RtDevice *d = c->device->d;
  *go = 1;
  int status = l->counter >= 0 ? done(c, d->op->put(d, c->addr[l->counter], &at, sizeof at)) : RT_OK;
  if (!status) status = run_block(c, &l->test);
  if (!status && l->cond >= 0) status = read_slot(c, l->cond, go, 1);
  if (status || !*go) return status;
  for (int k = 0; k < l->nstack; k++)
    if (l->stack[k].direct) c->addr[l->stack[k].row] = row_at(c, &l->stack[k], at);
  status = run_block(c, &l->body);
  for (int k = 0; !status && k < l->nstack; k++)
    if (!l->stack[k].direct) status = move(c, row_at(c, &l->stack[k], at), c->addr[l->stack[k].row], l->stack[k].bytes);
  return status ? status : next_states(c, l);
}

static int run_loop(LibContext *c, const LibLoop *l) {
  RtDevice *d = c->device->d;
  int64_t trip = l->trip, steps = 0;
  int status = RT_OK;
  unsigned char go = 1;
  if (l->trip_value >= 0) {
    int64_t n = 0;
    status = read_slot(c, l->trip_value, &n, sizeof n);
    trip = n < 0 ? 0 : n < trip ? n : trip;
  }
  for (int k = 0; !status && k < l->nstate; k++)
    status = move(c, c->addr[l->state[k].state], c->addr[l->state[k].init], l->state[k].bytes);
  for (int k = 0; !status && k < l->nstack; k++)
    if (l->trip_value >= 0 || l->cond >= 0)
      status = done(c, d->op->zero(d, c->addr[l->stack[k].stack], l->stack[k].bytes * (uint64_t)l->trip));
  for (; !status && steps < trip; steps += go) {
    status = run_step(c, l, l->reverse ? trip - 1 - steps : steps, &go);
    if (!go) break;
  }
  return status ? status : done(c, d->op->put(d, c->addr[l->steps], &steps, sizeof steps));
}

static int run_cond(LibContext *c, const LibCond *k) {
  unsigned char pred = 0;
  int status = read_slot(c, k->pred, &pred, 1), side = pred ? 0 : 1;
  if (!status) status = run_block(c, &k->branch[side]);
  for (int i = 0; !status && i < k->nmove[side]; i++)
    status = move(c, c->addr[k->move[side][i].dst], c->addr[k->move[side][i].src], k->move[side][i].bytes);
  return status;
}

static int run_block(LibContext *c, const LibBlock *b) {
  int status = RT_OK;
  for (int64_t i = 0; i < b->n && !status; i++) {
    const LibStep *s = &b->step[i];
    status = s->kind == LK_KERNEL ? run_kernel(c, s->of) : s->kind == LK_LOOP ? run_loop(c, s->of) : run_cond(c, s->of);
  }
  return status;
}

/* ---- A call ------------------------------------------------------------------------------------------------------ */
/* Addresses of slots; inputs on their way. The caller's tensors lie one after the other, inputs first. */
static int begin(LibContext *c, const LibExport *e, const LibPlan *p, void *const *in, void *const *out) {
  struct LibCuda *v = c->device;
  char *place[2 * LIB_MAX_TENSOR], *at = v->tensors;
  for (int i = 0; i < e->nin + e->nout; i++) {
    place[i] = at;
    at += up(tensor_bytes(&e->tensor[i], p->rows));
  }
  for (int i = 0; i < e->nin; i++) {
    size_t bytes = tensor_bytes(&e->tensor[i], p->rows);
    if (bytes && !v->d->op->put(v->d, place[i], in[i], bytes)) return failed(c);
  }
  for (int i = 0; i < p->nslot; i++) {
    const LibSlot *s = &p->slot[i];
    c->addr[i] = s->kind == LS_ARENA   ? v->arena + s->offset
                 : s->kind == LS_INPUT ? (s->number < e->nin ? place[s->number] : in[s->number])
                 : s->kind == LS_CONST ? v->konst[s->number]
                 : s->kind == LS_OUT   ? (s->number < e->nout ? place[e->nin + s->number] : out[s->number])
                                       : NULL;
  }
  v->unchecked = 0;
  return done(c, v->d->op->zero(v->d, v->record, sizeof(CuFault)));
}

/* LibPlan.result names every output; a state's next value may be in its place already. */
static int fetch(LibContext *c, const LibExport *e, const LibPlan *p, void *const *out) {
  RtDevice *d = c->device->d;
  for (int i = 0; i < p->nresult; i++) {
    const LibMove *m = &p->result[i];
    int status = m->dst >= e->nout ? move(c, out[m->dst], c->addr[m->src], m->bytes)
                                   : done(c, d->op->get_async(d, out[m->dst], c->addr[m->src], m->bytes));
    if (status) return status;
  }
  return RT_OK;
}

static int cuda_run(LibContext *c, const LibExport *e, const LibPlan *p, void *const *in, void *const *out) {
  RtDevice *d = c->device->d;
  if (!d->op->enter(d)) return failed(c);
  int status = begin(c, e, p, in, out);
  if (!status) status = run_block(c, &p->root);
  if (!status) status = check(c);
  if (!status) status = fetch(c, e, p, out);
  bool waited = d->op->wait(d); /* also after a failure: what is queued knows the caller's memory */
  if (!status && !waited) status = failed(c);
  d->op->leave(d);
  return status;
}

const LibDeviceOps lib_cuda = {cuda_memory, cuda_create, cuda_destroy, cuda_run, cuda_put, cuda_get};
