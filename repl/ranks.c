/* A program on several ranks. */
#include "repl/ranks.h"
#include "dist/launch.h"
#include "dist/mpi.h"
#include "codegen/rt/trace.h"
#include <errno.h>
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
  if (comm_rank(comm) > 0) o.profile = false;
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
    of.profile = false;
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

/* ---- of a host --------------------------------------------------------------------------------------------------- */

void ranks_begin(Host *h) {
  if (h->o.trace) h->trace = rt_trace_new();
  if (!h->o.comm) return;
  h->ranks = ranks_of_comm(h->o.comm), h->nh.base.ranks = &h->ranks;
  comm_choose(h->o.comm, &(CommChoices){.no_overlap = h->o.no_overlap, .fast = h->o.fast_reduce, .trace = h->trace});
}

/* Blocks of bytes of all ranks, in rank order: malloc'd on every rank; size[r] of each. NULL: the group is broken. */
static char *gather(Comm *c, const char *name, const void *own, int64_t bytes, int64_t *size, CommFault *f) {
  int64_t one[64], total = 0;
  for (int r = 0; r < comm_size(c); r++) one[r] = 1;
  Coll sizes = {.kind = COLL_GATHER, .name = name, .type = JOIN_I64, .block = one, .in = &bytes, .out = size};
  if (!comm_wait(c, comm_start(c, &sizes), f)) return NULL;
  for (int r = 0; r < comm_size(c); r++) total += size[r];
  char *all = malloc((size_t)total + 1);
  Coll what = {.kind = COLL_GATHER, .name = name, .type = JOIN_U8, .block = size, .in = own, .out = all};
  if (all && comm_wait(c, comm_start(c, &what), f)) return all;
  free(all);
  return NULL;
}

static bool write_trace(const char *path, const char *text, const int64_t *size, int n) {
  FILE *f = fopen(path, "wb");
  bool ok = f && fputs("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n", f) >= 0;
  for (int r = 0; ok && r < n; r++) {
    if (r) fputs(",\n", f);
    ok = fwrite(text, 1, (size_t)size[r], f) == (size_t)size[r];
    text += size[r];
  }
  ok = ok && fputs("\n]}\n", f) >= 0;
  if (f) ok = fclose(f) == 0 && ok;
  if (!ok) fprintf(stderr, "tg: cannot write the trace %s: %s\n", path, strerror(errno));
  return ok;
}

static bool end_trace(Host *h, CommFault *f) {
  Comm *c = h->o.comm;
  size_t len = 0;
  char *own = h->trace ? rt_trace_text(h->trace, c ? comm_rank(c) : 0, &len) : NULL, *all = own;
  int64_t size[64] = {(int64_t)len};
  bool ok = true;
  if (c) ok = (all = gather(c, "the trace", own ? own : "", (int64_t)len, size, f)) != NULL;
  if (ok && all && (!c || comm_rank(c) == 0)) ok = write_trace(h->o.trace, all, size, c ? comm_size(c) : 1);
  if (all != own) free(all);
  free(own);
  return ok;
}

typedef struct RankTimes {
  double seconds;
  CommStats did;
} RankTimes;
static double worked(const RankTimes *t) { return t->seconds - t->did.waited; }
static int shards_of(const Comm *c, int r) {
  return shard_of_rank(r + 1, comm_size(c)) - shard_of_rank(r, comm_size(c));
}

/* Work that one rank does for a shard beside what another does; what it waited is not work. Said where the others lost
 * a tenth of the run by it. */
static void warn_of_slow(const Comm *c, const RankTimes *t) {
  int slow = 0, fast = 0;
  double least = 0, most = 0;
  for (int r = 0; r < comm_size(c); r++) {
    if (!shards_of(c, r)) continue;
    double work = worked(&t[r]) / shards_of(c, r);
    if (r == 0 || work < least) least = work, fast = r;
    if (r == 0 || work > most) most = work, slow = r;
  }
  double lost = (most - least) * shards_of(c, slow);
  if (t[0].seconds > 5 && most > 1.3 * least && lost > 0.1 * t[0].seconds)
    fprintf(stderr,
            "tg: warning: rank %d worked %.1f s for a share for which rank %d worked %.1f s; the others wait for the "
            "slowest\n",
            slow, worked(&t[slow]), fast, worked(&t[fast]) * shards_of(c, slow) / shards_of(c, fast));
}

static bool end_times(Host *h, CommFault *f) {
  Comm *c = h->o.comm;
  RankTimes own = {h->times.run, comm_stats(c)};
  int64_t size[64];
  RankTimes *t = (RankTimes *)(void *)gather(c, "the times", &own, sizeof own, size, f);
  if (!t) return false;
  if (comm_rank(c) == 0) warn_of_slow(c, t);
  for (int r = 0; h->o.stats && comm_rank(c) == 0 && r < comm_size(c); r++) {
    const CommStats *s = &t[r].did;
    fprintf(stderr,
            "rank %d: %lld collectives over %s, %lld bytes to others, waited %.3f of %.3f s; %lld buckets with %lld "
            "sums of %lld bytes\n",
            r, (long long)s->collectives, comm_kind(c), (long long)s->bytes, s->waited, t[r].seconds,
            (long long)s->buckets, (long long)s->sums, (long long)s->held);
  }
  free(t);
  return true;
}

int ranks_end(Host *h, int code) {
  CommFault f = {0};
  Comm *c = h->o.comm && comm_size(h->o.comm) > 1 ? h->o.comm : NULL;
  if (c && code) return code; /* the group is no more */
  bool ok = !c || end_times(h, &f);
  if (ok && h->o.trace) ok = end_trace(h, &f);
  if (!ok && *f.msg) fprintf(stderr, "tg: %s\n", f.msg);
  return ok ? code : EXIT_RUN;
}

/* All ranks refused the same step; what made the first nan only the rank knows that has its rows. */
void ranks_agree(Host *h, Fault *f) {
  Comm *c = h->o.comm;
  if (!c || comm_size(c) == 1 || c->broken || f->id != R_NAN) return;
  int64_t size[64];
  CommFault why;
  Fault *all = (Fault *)(void *)gather(c, "what is not finite", f, sizeof *f, size, &why);
  for (int r = 0; all && r < comm_size(c); r++)
    if (strlen(all[r].msg) > strlen(f->msg) || (r == 0 && strlen(all[r].msg) == strlen(f->msg))) *f = all[r];
  free(all);
}

bool ranks_repeat(Host *h) {
  Comm *c = h->o.comm;
  if (!c || comm_size(c) == 1) return false;
  if (!h->diags->nerror) return comm_rank(c) > 0;
  return comm_fail_alike(c, h->diags->last->msg);
}
