/* Natives of a plan on a device.
 *
 * One that can work on the device's own memory (collectives, with NCCL) is queued there. Of the others
 * arguments come to pinned memory, unless the host has their bytes; results go from there to the device while the host
 * goes on.
 *
 * A native that can look ahead (Native.ahead: the next batch of a data set) does so when the host is about to wait for
 * what comes behind its last call: the results of its next call are read into a second piece of pinned memory, and go
 * to the device on a second stream, beside the work in hand. The next call then finds them there. */
#include "codegen/dev_plan.h"
#include <stdlib.h>
#include <string.h>

enum { FAULT_ROOM = 64 };
_Static_assert(sizeof(CuFault) <= FAULT_ROOM, "room for the fault record");

struct CallMemory {
  CallMemory *next;
  CallStep *call;
  char *pinned;  /* the fault record, arguments, then results */
  char *results; /* of the last run: in `pinned`, or in `more` */
  char *spare;   /* the other of the two; NULL: there is none */
  size_t bytes, nresult;
  RtMark *mark; /* behind the copies of its results */
  /* looking ahead */
  char *more;      /* pinned: room for results */
  void *staged;    /* on the device: results that are known ahead */
  RtMark *arrived; /* behind the copies there */
  int known;       /* as many results lie in spare and staged; 0: none */
  bool blind;      /* there was no memory for it */
};

static size_t up(size_t n) { return (n + 63) / 64 * 64; }

/* ---- Memory ------------------------------------------------------------------------------------------------------ */
static CallMemory *call_memory(DevPlan *v, CallStep *c) {
  for (CallMemory *m = v->calls; m; m = m->next)
    if (m->call == c) return m;
  CallMemory *m = calloc(1, sizeof *m);
  if (!m) return NULL;
  m->call = c;
  m->bytes = FAULT_ROOM;
  for (int i = 0; i < c->narg; i++) m->bytes += up(tensor_bytes(&c->tensor[i]));
  size_t first = m->bytes;
  for (int i = c->narg; i < c->narg + c->nres; i++) m->bytes += up(tensor_bytes(&c->tensor[i]));
  m->nresult = m->bytes - first;
  void *at;
  if (!v->d->op->pin(v->d, m->bytes, &at)) {
    free(m);
    return NULL;
  }
  m->pinned = at;
  m->results = m->pinned + first;
  m->next = v->calls;
  v->calls = m;
  return m;
}

void dev_calls_free(DevPlan *v) {
  for (CallMemory *m = v->calls, *next; m; m = next) {
    next = m->next;
    if (m->mark) v->d->op->drop_mark(v->d, m->mark);
    if (m->arrived) v->d->op->drop_mark(v->d, m->arrived);
    v->d->op->unpin(v->d, m->pinned);
    v->d->op->unpin(v->d, m->more);
    v->d->op->release(v->d, m->staged);
    free(m);
  }
  v->calls = NULL;
}

/* What slots know through this memory ends here. */
static void forget(Plan *p, const char *at, size_t bytes) {
  for (int s = 0; s < p->nslot; s++) {
    const char *h = p->dev->host[s];
    if (h && h >= at && h < at + bytes + 1) p->dev->host[s] = NULL;
  }
}

static void place_results(CallStep *c, Tensor *t, char *at) {
  for (int i = c->narg; i < c->narg + c->nres; i++) {
    t[i].data = at;
    at += up(tensor_bytes(&t[i]));
  }
}

/* ---- Looking ahead ----------------------------------------------------------------------------------------------- */
static bool room_ahead(DevPlan *v, CallMemory *m) {
  void *at;
  if (m->more || m->blind) return !m->blind;
  m->blind = true;
  if (!v->d->op->pin(v->d, m->nresult, &at)) return false;
  m->spare = m->more = at;
  if (!v->d->op->alloc(v->d, m->nresult, &m->staged)) return false;
  m->blind = false;
  return true;
}

/* Failures leave the next call to do the work itself; of a device that is lost it will hear. */
void dev_look_ahead(Plan *p) {
  DevPlan *v = p->dev;
  CallMemory *m = v->ahead;
  v->ahead = NULL;
  if (!m || !room_ahead(v, m)) return;
  CallStep *c = m->call;
  Tensor *t = malloc(sizeof *t * (size_t)(c->narg + c->nres));
  if (!t || !v->d->op->wait_mark(v->d, m->mark)) { /* both pieces and staged are free to be written */
    free(t);
    return;
  }
  memcpy(t, c->tensor, sizeof *t * (size_t)(c->narg + c->nres));
  forget(p, m->spare, m->nresult);
  place_results(c, t, m->spare);
  int known = c->fn->ahead(v->native_ctx, c->nattr, c->attr, c->narg, t, c->nres, t + c->narg);
  bool ok = known > 0;
  for (int i = c->narg; i < c->narg + known && ok; i++)
    ok = v->d->op->put_ahead(v->d, (char *)m->staged + ((char *)t[i].data - m->spare), t[i].data, tensor_bytes(&t[i]));
  if (ok && v->d->op->mark_ahead(v->d, &m->arrived)) m->known = known;
  free(t);
}

/* The call that was looked at: *held, or things have changed and it must be run. */
static bool take_known(Plan *p, CallMemory *m, void *native_ctx, bool *held, Fault *fault) {
  DevPlan *v = p->dev;
  CallStep *c = m->call;
  int known = m->known;
  m->known = 0;
  *held = false;
  place_results(c, c->tensor, m->spare);
  if (!c->fn->claim(native_ctx, c->nattr, c->attr, c->narg, c->tensor, c->nres, c->tensor + c->narg, fault))
    return fault->id == E_NONE;
  *held = true;
  char *t = m->results;
  m->results = m->spare;
  m->spare = t;
  bool ok = v->d->op->join(v->d, m->arrived);
  for (int i = c->narg; i < c->narg + c->nres && ok; i++) {
    size_t bytes = tensor_bytes(&c->tensor[i]);
    char *h = c->tensor[i].data;
    ok = i < c->narg + known ? v->d->op->copy(v->d, p->addr[c->value[i]], (char *)m->staged + (h - m->results), bytes)
                             : v->d->op->put_async(v->d, p->addr[c->value[i]], h, bytes);
  }
  return ok || dev_failed(v, fault);
}

/* ---- A call ------------------------------------------------------------------------------------------------------ */
/* Waits where the host has not got the bytes, which it then keeps. *fetched: it had not. */
static bool take_arguments(Plan *p, CallMemory *m, bool *fetched, Fault *fault) {
  DevPlan *v = p->dev;
  CallStep *c = m->call;
  char *at = m->pinned + FAULT_ROOM;
  bool ok = true, waits = false;
  *fetched = false;
  for (int i = 0; i < c->narg && ok; i++) {
    size_t bytes = tensor_bytes(&c->tensor[i]);
    const char *h = v->host[c->value[i]];
    bool own = h && h >= m->pinned && h < m->pinned + m->bytes && h != at;
    if (h && !own) {
      c->tensor[i].data = (void *)(uintptr_t)h;
    } else {
      c->tensor[i].data = at;
      if (bytes) forget(p, at, bytes - 1);
      if (h)
        memmove(at, h, bytes); /* a result of this call's last run: arguments lie before results */
      else if (bytes)
        ok = v->d->op->get_async(v->d, at, p->addr[c->value[i]], bytes), waits = true;
      *fetched = true;
    }
    at += up(bytes);
  }
  if (ok && v->unchecked) {
    ok = v->d->op->get_async(v->d, m->pinned, v->record, sizeof(CuFault));
    waits = true;
  }
  if (ok && waits) {
    dev_look_ahead(p);
    ok = v->d->op->wait(v->d);
  }
  if (!ok) return dev_failed(v, fault);
  if (v->unchecked && !dev_no_fault(v, (const CuFault *)(const void *)m->pinned, fault)) return false;
  for (int i = 0; i < c->narg; i++)
    if (tensor_bytes(&c->tensor[i])) v->host[c->value[i]] = c->tensor[i].data;
  return true;
}

static bool run(Plan *p, CallMemory *m, void *native_ctx, Fault *fault) {
  DevPlan *v = p->dev;
  CallStep *c = m->call;
  bool ok = !m->mark || v->d->op->wait_mark(v->d, m->mark);
  if (!ok) return dev_failed(v, fault);
  place_results(c, c->tensor, m->results);
  if (!native_call(c->fn, native_ctx, c->nattr, c->attr, c->narg, c->tensor, c->nres, c->tensor + c->narg, fault))
    return false;
  for (int i = c->narg; i < c->narg + c->nres && ok; i++)
    ok = v->d->op->put_async(v->d, p->addr[c->value[i]], c->tensor[i].data, tensor_bytes(&c->tensor[i]));
  return ok || dev_failed(v, fault);
}

/* Where the device's memory will do (Native.on_device): the host need not wait. */
static bool call_there(Plan *p, CallStep *c, void *native_ctx, bool *there, Fault *fault) {
  *there = false;
  if (!c->fn->on_device) return true;
  for (int i = 0; i < c->narg + c->nres; i++) c->tensor[i].data = p->addr[c->value[i]];
  *there = c->fn->on_device(native_ctx, c->nattr, c->attr, c->narg, c->tensor, c->nres, c->tensor + c->narg, fault);
  for (int i = c->narg; i < c->narg + c->nres && *there; i++) p->dev->host[c->value[i]] = NULL;
  return *there || fault->id == E_NONE;
}

bool dev_call(Plan *p, CallStep *c, void *native_ctx, Fault *fault) {
  DevPlan *v = p->dev;
  bool held = false, fetched, there;
  v->native_ctx = native_ctx;
  if (!call_there(p, c, native_ctx, &there, fault)) return false;
  if (there) return true;
  CallMemory *m = call_memory(v, c);
  if (!m) return dev_failed(v, fault);
  if (!take_arguments(p, m, &fetched, fault)) return false;
  if (v->ahead == m) v->ahead = NULL;
  if (m->known && !fetched && !take_known(p, m, native_ctx, &held, fault)) return false;
  m->known = 0;
  forget(p, m->results, m->nresult);
  if (!held && !run(p, m, native_ctx, fault)) return false;
  for (int i = c->narg; i < c->narg + c->nres; i++) v->host[c->value[i]] = c->tensor[i].data;
  if (c->nres && !v->d->op->mark(v->d, &m->mark)) return dev_failed(v, fault);
  const NativeCtx *ctx = native_ctx;
  if (c->fn->ahead && !(ctx && ctx->ranks)) v->ahead = m;
  return true;
}
