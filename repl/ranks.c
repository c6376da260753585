/* A program on several ranks. */
#include "repl/ranks.h"
#include "dist/launch.h"
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct Start {
  const HostOptions *o;
  RanksMain fn;
  void *ctx;
} Start;

/* Cores are shared out, unless the user says how many threads a rank has. */
static int threads_of(const HostOptions *o, int ranks_here) {
  if (o->threads > 0 || getenv("TG_THREADS")) return o->threads;
  cpu_set_t set;
  int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
  return cores > ranks_here ? cores / ranks_here : 1;
}

static int rank_main(void *ctx, Comm *comm) {
  const Start *s = ctx;
  HostOptions o = *s->o;
  o.comm = comm, o.threads = threads_of(&o, comm_size(comm));
  if (comm_rank(comm) > 0) o.stats = o.profile = false;
  return s->fn(&o, s->ctx);
}

int ranks_run(const HostOptions *o, RanksMain fn, void *ctx) {
  if (o->ranks <= 1) return fn(o, ctx);
  return launch(o->ranks, rank_main, &(Start){o, fn, ctx});
}

bool ranks_repeat(Host *h) {
  Comm *c = h->o.comm;
  if (!c || comm_size(c) == 1) return false;
  if (!h->diags->nerror) return comm_rank(c) > 0;
  return comm_fail_alike(c, h->diags->last->msg);
}
