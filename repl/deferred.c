/* Running deferred programs: blocks that lang/deferred.c elaborates while a unit runs. Each is compiled once for a site
 * and a number of rows. */
#include "repl/deferred.h"
#include "repl/nonfinite.h"
#include <stdlib.h>
#include <string.h>

typedef struct HostDeferred {
  int64_t site, rows, first; /* slot `first` + k is operand k */
  Region region;
  Plan *plan; /* NULL on the oracle */
} HostDeferred;

void deferred_drop(Host *h) {
  for (int k = 0; k < h->deferred.n; k++) plan_free(h->deferred.at[k]->plan);
  h->deferred.n = 0;
}

static HostDeferred *find(Host *h, int64_t site, int64_t rows, Fault *f) {
  for (int k = 0; k < h->deferred.n; k++)
    if (h->deferred.at[k]->site == site && h->deferred.at[k]->rows == rows) return h->deferred.at[k];
  HostDeferred *d = arena_new_of(h->arena, HostDeferred);
  *d = (HostDeferred){.site = site, .rows = rows, .first = h->slot.n};
  if (!session_deferred(h->session, site, rows, d->first, &d->region, f)) return NULL;
  if (!h->o.oracle && !(d->plan = host_plan(h, session_graph(h->session), &d->region, f))) return NULL;
  vec_push(h->arena, &h->deferred, d);
  return d;
}

/* deferred(rows, operands...), attribute 0.i the site: the block's next states. */
static bool run_deferred(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                         Fault *f) {
  NativeHost *nh = ctx;
  Host *h = nh->host;
  HostDeferred *d = find(h, attr[0].i, *(const int64_t *)in[0].data, f);
  if (!d) return false;
  Tensor *slot = calloc((size_t)d->first + (size_t)nin, sizeof *slot), *got = calloc((size_t)nout + 1, sizeof *got);
  bool ok = slot && got;
  if (!ok) fault_set(f, R_MEMORY, (Span){0}, "out of memory");
  if (ok) {
    if (d->first) memcpy(slot, h->slot.at, sizeof *slot * (size_t)d->first);
    memcpy(slot + d->first, in, sizeof *in * (size_t)nin);
    int n = (int)d->first + nin;
    Graph *g = session_graph(h->session);
    EvalOptions eo = {.native_ctx = nh, .interrupt = &host_interrupt};
    PlanRefusal refusal;
    ok = d->plan ? plan_run(d->plan, n, slot, got, nh, f) : graph_eval(g, &d->region, n, slot, got, &eo, f);
    if (!ok && d->plan && plan_refused(d->plan, &refusal)) nonfinite_explain(h, g, &refusal, f);
  }
  for (int k = 0; ok && k < nout; k++) {
    memcpy(out[k].data, got[k].data, tensor_bytes(&out[k]));
    tensor_drop(&got[k]);
  }
  free(slot);
  free(got);
  return ok;
}

const Native deferred_native = {.name = "deferred", .effect = true, .run = run_deferred};
