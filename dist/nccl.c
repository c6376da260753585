/* An Nccl's life: agreeing on it, starting it, its errors, its end. */
#include "dist/nccl_rank.h"
#include "codegen/rt/clock.h"
#include "codegen/rt/hash.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Seconds between two looks at the others; that another rank's failure may still be this one's, too, before it is told;
 * that a rank takes leave of NCCL. */
static const double LOOK = 0.002, DOUBT = 0.3, LEAVE = 1;

/* ---- faults ------------------------------------------------------------------------------------------------------ */
static bool fails(Nccl *n, int rank, const char *msg) {
  if (n->failed) return false;
  n->failed = true;
  n->fault.rank = rank;
  snprintf(n->fault.msg, sizeof n->fault.msg, "%s", msg);
  return false;
}

bool nccl_ok(Nccl *n, int result, const char *call) {
  char msg[320];
  if (result == NCCL_SUCCESS || result == NCCL_IN_PROGRESS) return true;
  const char *more = n->lib.ncclGetLastError(n->comm);
  snprintf(msg, sizeof msg, "%s failed on rank %d: %.80s%s%.120s; TG_NCCL=none sends through the host's memory", call,
           n->c->rank, n->lib.ncclGetErrorString(result), more && *more ? ": " : "", more ? more : "");
  return fails(n, n->c->rank, msg);
}

bool nccl_device_ok(Nccl *n, bool ok) {
  char msg[320];
  if (ok || n->failed) return ok && !n->failed;
  snprintf(msg, sizeof msg, "collectives on the GPU of rank %d: %.250s", n->c->rank, n->d->why);
  return fails(n, n->c->rank, msg);
}

void nccl_abort(Nccl *n) {
  if (n->comm) n->lib.ncclCommAbort(n->comm);
  n->comm = NULL;
}

/* What waits is not fair to others that failed alike and say so a little later: hence DOUBT. */
static bool others_live(Nccl *n) {
  CommFault f = {.rank = -1};
  double now = rt_seconds();
  if (now - n->looked < LOOK) return true;
  n->looked = now;
  n->c->beside = true; /* more is under way than the Comm knows */
  bool well = !n->c->broken && n->c->ops->check(n->c, &f);
  n->c->beside = false;
  if (n->c->broken) f = n->c->fault;
  if (well) {
    n->doubt = 0;
    return true;
  }
  if (n->doubt == 0) n->doubt = now;
  if (now - n->doubt < DOUBT && !n->c->broken) return true;
  if (!n->c->broken) comm_give_up(n->c, &f);
  return fails(n, f.rank, f.msg);
}

static bool nccl_look(void *ctx, char *why, size_t nwhy) {
  Nccl *n = ctx;
  if (n->first == n->next && !n->failed) return true;
  comm_progress(n->c);
  nccl_progress(n);
  if (!n->failed && others_live(n)) return true;
  nccl_abort(n);
  snprintf(why, nwhy, "%s", n->fault.msg);
  return false;
}

bool nccl_state(Nccl *n, const char *call, int *state) {
  return nccl_ok(n, n->lib.ncclCommGetAsyncError(n->comm, state), "ncclCommGetAsyncError") && nccl_ok(n, *state, call);
}

bool nccl_settled(Nccl *n, const char *call) {
  int state = NCCL_IN_PROGRESS;
  int tries = 0;
  while (n->comm) {
    if (!nccl_state(n, call, &state)) break;
    if (state == NCCL_SUCCESS) return true;
    if (!others_live(n)) break;
    rt_wait_longer(&tries);
  }
  nccl_abort(n);
  return false;
}

/* ---- agreeing ---------------------------------------------------------------------------------------------------- */
/* What each rank tells the others. */
typedef struct Hello {
  uint64_t host, unit; /* of the host, of the GPU there */
  int version;         /* of NCCL; 0: there is none */
  bool device;
  char why[240];
} Hello;

static uint64_t number_of_host(void) {
  char text[320] = "";
  gethostname(text, 256);
  size_t n = strnlen(text, 256);
  FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r"); /* names need not differ */
  if (f) n += fread(text + n, 1, sizeof text - 1 - n, f);
  if (f) fclose(f);
  return rt_hash(RT_HASH, text, n);
}

static bool tell_all(Comm *c, const char *name, const void *own, int64_t bytes, void *all, CommFault *f) {
  int64_t block[COMM_MAX_RANKS];
  for (int r = 0; r < c->nrank; r++) block[r] = bytes;
  Coll what = {.kind = COLL_GATHER, .name = name, .type = JOIN_U8, .block = block, .in = own, .out = all};
  return comm_wait(c, comm_start(c, &what), f);
}

bool nccl_local_rank(Comm *c, int *local, CommFault *f) {
  uint64_t own = number_of_host(), all[COMM_MAX_RANKS];
  *local = c->rank;
  if (c->nrank > COMM_MAX_RANKS) return true;
  if (!tell_all(c, "the hosts", &own, sizeof own, all, f)) return false;
  *local = 0;
  for (int r = 0; r < c->rank; r++) *local += all[r] == own;
  return true;
}

/* Can all ranks use NCCL? The same answer everywhere. */
static bool all_can(const Comm *c, const Hello *h, char *why, size_t nwhy) {
  for (int r = 0; r < c->nrank; r++)
    if (!h[r].device) return snprintf(why, nwhy, "rank %d has no GPU", r), false;
  for (int r = 0; r < c->nrank; r++)
    for (int q = 0; q < r; q++)
      if (h[r].host == h[q].host && h[r].unit == h[q].unit)
        return snprintf(why, nwhy, "ranks %d and %d share a GPU", q, r), false;
  for (int r = 0; r < c->nrank; r++)
    if (!h[r].version) return snprintf(why, nwhy, "%s", h[r].why), false;
  for (int r = 1; r < c->nrank; r++)
    if (h[r].version != h[0].version)
      return snprintf(why, nwhy, "rank 0 has NCCL %d, rank %d has %d", h[0].version, r, h[r].version), false;
  return true;
}

static bool agree(Nccl *n, bool *can, char *why, size_t nwhy, CommFault *f) {
  Hello own = {.host = number_of_host()}, *all = calloc((size_t)n->c->nrank, sizeof *all);
  *can = false;
  if (!all) {
    *f = (CommFault){n->c->rank, "out of memory"};
    return false;
  }
  own.device = n->d != NULL;
  if (n->d) own.unit = n->d->unit;
  if (nccl_find(&n->lib, own.why, sizeof own.why)) own.version = n->lib.version;
  bool ok = tell_all(n->c, "the GPUs", &own, sizeof own, all, f);
  if (ok) *can = all_can(n->c, all, why, nwhy);
  free(all);
  return ok;
}

/* ---- starting ---------------------------------------------------------------------------------------------------- */
/* Rank 0 makes the id, or says why not. */
static bool share_id(Nccl *n, NcclId *id, CommFault *f) {
  struct {
    NcclId id;
    bool ok;
    char why[320];
  } m = {.ok = true};
  if (n->c->rank == 0) m.ok = nccl_ok(n, n->lib.ncclGetUniqueId(&m.id), "ncclGetUniqueId");
  if (n->failed) memcpy(m.why, n->fault.msg, sizeof m.why);
  if (!comm_broadcast(n->c, 0, &m, sizeof m, "NCCL's id", f)) return fails(n, f->rank, f->msg);
  *id = m.id;
  return m.ok || fails(n, 0, m.why);
}

static bool join_group(Nccl *n, CommFault *f) {
  NcclId id;
  NcclConfig config = {sizeof config, NCCL_MAGIC, NCCL_OLDEST, 0, INT_MIN};
  if (!share_id(n, &id, f)) return false;
  int r = n->lib.ncclCommInitRankConfig(&n->comm, n->c->nrank, id, n->c->rank, &config);
  if (!nccl_ok(n, r, "ncclCommInitRankConfig")) {
    nccl_abort(n);
    return false;
  }
  return nccl_settled(n, "ncclCommInitRankConfig");
}

static Nccl *nccl_new(const NcclEnv *env) {
  Nccl *n = calloc(1, sizeof *n);
  if (n) n->c = env->comm, n->d = env->device;
  return n;
}

static void nccl_free(Nccl *n) {
  const RtDeviceOps *op = n->d ? n->d->op : NULL;
  nccl_abort(n);
  for (int k = 0; k < NCCL_UNDER_WAY && op; k++)
    if (n->op[k].mark) op->drop_mark(n->d, n->op[k].mark);
  if (op && n->ready) op->drop_mark(n->d, n->ready);
  if (op && n->module) op->unload(n->d, n->module);
  for (int k = 0; k < 3 && op; k++) op->release(n->d, (&n->came)[k].at);
  if (op && n->stream) op->drop_stream(n->d, n->stream);
  if (n->d) n->d->watch = (RtWatch){.given_up = n->d->watch.given_up};
  if (n->lib.lib) dlclose(n->lib.lib);
  free(n);
}

bool nccl_open(const NcclEnv *env, Nccl **out, char *why, size_t nwhy, CommFault *f) {
  bool can;
  *out = NULL;
  if (env->comm->nrank > COMM_MAX_RANKS) return snprintf(why, nwhy, "more than %d ranks", COMM_MAX_RANKS), true;
  Nccl *n = nccl_new(env);
  if (!n) {
    *f = (CommFault){env->comm->rank, "out of memory"};
    return false;
  }
  bool ok = agree(n, &can, why, nwhy, f);
  if (!ok || !can) {
    nccl_free(n);
    return ok;
  }
  n->d->watch = (RtWatch){nccl_look, n, false};
  ok = nccl_kernels(n, env) && nccl_device_ok(n, n->d->op->stream(n->d, &n->stream)) && join_group(n, f);
  if (ok) {
    env->comm->nccl = *out = n;
    return true;
  }
  *f = n->fault;
  nccl_free(n);
  return false;
}

/* All collectives are done, so the others may be gone, in order or not: that is nobody's fault, nor waited for long. What
 * is left of the communicator then gets aborted. */
static bool leaves(Nccl *n) {
  int state = NCCL_IN_PROGRESS, tries = 0;
  double until = rt_seconds() + LEAVE;
  if (!nccl_ok(n, n->lib.ncclCommFinalize(n->comm), "ncclCommFinalize")) return false;
  while (state == NCCL_IN_PROGRESS && rt_seconds() < until) {
    if (!nccl_state(n, "ncclCommFinalize", &state)) return false;
    rt_wait_longer(&tries);
  }
  return state == NCCL_SUCCESS && nccl_ok(n, n->lib.ncclCommDestroy(n->comm), "ncclCommDestroy");
}

void nccl_close(Nccl *n) {
  if (!n) return;
  n->c->nccl = NULL;
  n->d->op->enter(n->d);
  bool well = !n->failed && !n->c->broken;
  if (!well) nccl_abort(n); /* else what is queued may wait for those that are gone */
  well = n->d->op->wait(n->d) && well;
  if (well && n->comm && leaves(n)) n->comm = NULL;
  if (n->failed && well) fprintf(stderr, "tg: %s\n", n->fault.msg);
  nccl_free(n);
}

int nccl_version(const Nccl *n) { return n->lib.version; }
NcclStats nccl_stats(const Nccl *n) { return n->stats; }
