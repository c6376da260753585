/* A program on several ranks. */
#include "repl/ranks.h"
#include "dist/launch.h"
#include "dist/mpi.h"
#include <sched.h>
#include <stdlib.h>
#include <string.h>
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

/* ---- started by mpirun ------------------------------------------------------------------------------------------- */

/* Standard error of a rank, each line behind its name. */
typedef struct Prefixed {
  int rank;
  bool within; /* a line has begun */
} Prefixed;
static ssize_t write_prefixed(void *cookie, const char *text, size_t n) {
  Prefixed *p = cookie;
  char line[4200];
  for (size_t at = 0; at < n;) {
    const char *end = memchr(text + at, '\n', n - at);
    size_t m = end ? (size_t)(end - text) + 1 - at : n - at;
    if (m > 4096) m = 4096;
    int k = p->within ? 0 : snprintf(line, 64, "[rank %d] ", p->rank);
    memcpy(line + k, text + at, m);
    if (write(2, line, (size_t)k + m) < 0) return 0;
    p->within = text[at + m - 1] != '\n';
    at += m;
  }
  return (ssize_t)n;
}
static void be_quiet(int rank) {
  static Prefixed prefixed; /* as long as stderr */
  prefixed.rank = rank;
  FILE *f = fopencookie(&prefixed, "w", (cookie_io_functions_t){.write = write_prefixed});
  if (f) setvbuf(f, NULL, _IOLBF, BUFSIZ), stderr = f;
  if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "r", stdin)) return;
}

static int under_mpi(const HostOptions *o, int nlocal, RanksMain fn, void *ctx) {
  char why[512];
  MpiModule m;
  if (!mpi_join(&m, why, sizeof why)) {
    fprintf(stderr, "tg: cannot join the ranks that mpirun started: %s\n", why);
    return EXIT_RUN;
  }
  HostOptions of = *o;
  int bound = threads_of(o, 1), shared = (int)sysconf(_SC_NPROCESSORS_ONLN) / nlocal;
  of.comm = m.comm;
  of.threads = o->threads > 0 || getenv("TG_THREADS") ? o->threads : bound < shared ? bound : shared < 1 ? 1 : shared;
  if (comm_rank(m.comm) > 0) {
    of.stats = of.profile = false;
    be_quiet(comm_rank(m.comm));
  }
  int code = fn(&of, ctx);
  if (code) comm_fail(m.comm, "it ended with an error");
  m.close(m.comm, code == 0);
  if (!code) return 0;
  fflush(NULL); /* without MPI's leave: mpirun notices, and ends the other ranks */
  _exit(code);
}

int ranks_run(const HostOptions *o, RanksMain fn, void *ctx) {
  int nrank, nlocal;
  if (o->ranks == 0 && mpi_environment(&nrank, &nlocal) && nrank > 1) return under_mpi(o, nlocal, fn, ctx);
  if (o->ranks <= 1) return fn(o, ctx);
  return launch(o->ranks, rank_main, &(Start){o, fn, ctx});
}

bool ranks_repeat(Host *h) {
  Comm *c = h->o.comm;
  if (!c || comm_size(c) == 1) return false;
  if (!h->diags->nerror) return comm_rank(c) > 0;
  return comm_fail_alike(c, h->diags->last->msg);
}
