/* What all communicators share: waiting, faults, helpers; and the group of one. */
#include "dist/comm.h"
#include "dist/nccl.h"
#include "codegen/rt/clock.h"
#include "codegen/rt/hash.h"
#include "codegen/rt/trace.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int comm_rank(const Comm *c) { return c->rank; }
int comm_size(const Comm *c) { return c->nrank; }
const char *comm_kind(const Comm *c) { return c->ops->kind; }
CommStats comm_stats(const Comm *c) { return c->stats; }

int comm_nodes(const Comm *c, int rank, ShardNode node[TG_MAX_NODES]) {
  return shard_nodes(shard_of_rank(rank, c->nrank), shard_of_rank(rank + 1, c->nrank), node);
}

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

int64_t coll_count(const Coll *w, int nrank) {
  int64_t n = 0;
  for (int k = 0; k < w->npiece; k++) n += w->piece[k].count;
  for (int r = 0; w->kind == COLL_GATHER && r < nrank; r++) n += w->block[r];
  return n;
}

int64_t coll_share(const Coll *w, int r, int nrank) {
  int64_t n = 0;
  if (!coll_deals(w)) return shard_share(coll_count(w, nrank), r, nrank, join_bytes(w->type));
  for (int k = 0; k < r; k++) n += w->block[k];
  return n;
}

/* The part of piece p that lies in [lo, lo + n), the piece beginning at `at`: from *from on. */
static int64_t overlap(const CollPiece *p, int64_t at, int64_t lo, int64_t n, int64_t *from) {
  int64_t end = at + p->count < lo + n ? at + p->count : lo + n;
  *from = lo > at ? lo - at : 0;
  return end - at - *from;
}
void coll_take(const Coll *w, int node, int64_t lo, int64_t n, void *to) {
  int64_t at = 0, from, bytes = join_bytes(w->type);
  for (int k = 0; k < w->npiece && at < lo + n; at += w->piece[k++].count) {
    int64_t m = overlap(&w->piece[k], at, lo, n, &from);
    if (m > 0)
      memcpy((char *)to + (at + from - lo) * bytes, (const char *)w->piece[k].node[node] + from * bytes,
             (size_t)(m * bytes));
  }
}
const void *coll_at(const Coll *w, int node, int64_t lo, int64_t n, void *room) {
  int64_t at = 0;
  int k = 0;
  while (k + 1 < w->npiece && at + w->piece[k].count <= lo) at += w->piece[k++].count;
  if (lo + n <= at + w->piece[k].count) return (const char *)w->piece[k].node[node] + (lo - at) * join_bytes(w->type);
  coll_take(w, node, lo, n, room);
  return room;
}
void coll_put(const Coll *w, int64_t lo, int64_t n, const void *data) {
  int64_t at = 0, from, bytes = join_bytes(w->type);
  if (coll_deals(w)) {
    if (n) memcpy((char *)w->piece[0].out + (lo - w->before) * bytes, data, (size_t)(n * bytes));
    return;
  }
  for (int k = 0; k < w->npiece && at < lo + n; at += w->piece[k++].count) {
    int64_t m = overlap(&w->piece[k], at, lo, n, &from);
    if (m > 0)
      memcpy((char *)w->piece[k].out + from * bytes, (const char *)data + (at + from - lo) * bytes,
             (size_t)(m * bytes));
  }
}
void coll_keep(Coll *to, const Coll *what, CollPiece *room) {
  *to = *what;
  if (!what->npiece) return;
  memcpy(room, what->piece, sizeof *room * (size_t)what->npiece);
  to->piece = room;
}

CollLabel coll_label(const Coll *w, int nrank) {
  static const char *const type[JOIN_TYPES] = {"f32", "f64", "i64", "u8"};
  static const char *const join[JOIN_COUNT] = {"sum", "max", "min", "or"};
  CollLabel l;
  int64_t size = coll_count(w, nrank);
  int fact[] = {(int)w->kind, (int)w->type, w->kind == COLL_JOIN ? (int)w->op : 0};
  l.hash = rt_hash(RT_HASH, w->name, strlen(w->name));
  l.hash = rt_hash(rt_hash(l.hash, fact, sizeof fact), &size, sizeof size);
  if (w->block) l.hash = rt_hash(l.hash, w->block, sizeof *w->block * (size_t)nrank);
  for (int k = 0; k < w->npiece; k++) l.hash = rt_hash(l.hash, &w->piece[k].count, sizeof w->piece[k].count);
  snprintf(l.text, sizeof l.text, "%s of %.48s %s[%lld]", w->kind == COLL_JOIN ? join[w->op] : "gathering", w->name,
           type[w->type], (long long)size);
  return l;
}

void comm_choose(Comm *c, const CommChoices *choices) { c->how = *choices; }

/* ---- what the trace is told ---- */
static void trace_start(Comm *c, const Coll *what, double start) {
  if (!c->how.trace || c->ntraced == COMM_TRACED) return;
  CommTraced *t = &c->traced[c->ntraced++];
  *t = (CommTraced){.ticket = c->last, .start = start, .bytes = coll_count(what, c->nrank) * join_bytes(what->type)};
  snprintf(t->name, sizeof t->name, "%s", what->name);
}
static void trace_done(Comm *c) {
  for (int k = 0; k < c->ntraced;) {
    const CommTraced *t = &c->traced[k];
    if (!c->ops->done(c, t->ticket)) {
      k++;
      continue;
    }
    rt_trace_add(c->how.trace, TRACE_COLLECTIVES, t->name, t->start, rt_seconds() - t->start, t->bytes);
    memmove(&c->traced[k], &c->traced[k + 1], sizeof *t * (size_t)(--c->ntraced - k));
  }
}

/* ---- life of a collective ---- */

#define COMM_ASK 0.02  /* seconds of waiting between two questions whether the others are well */
#define COMM_DOZE 1e-3 /* seconds of waiting in vain after which a rank leaves its core to others for good */

bool comm_sums_fast(const Comm *c, const Coll *w) {
  return c->how.fast && c->nrank > 1 && w->kind == COLL_JOIN && !w->block && w->op == JOIN_SUM &&
         coll_count(w, c->nrank) <= INT32_MAX && (w->type == JOIN_F32 || w->type == JOIN_F64);
}
/* The rank's nodes in one: the sum stands in `out`. */
static void sum_own(const Comm *c, JoinType type, CollPiece *p) {
  ShardNode node[TG_MAX_NODES];
  int n = comm_nodes(c, c->rank, node);
  size_t bytes = (size_t)(p->count * join_bytes(type));
  if (bytes && n) memcpy(p->out, p->node[0], bytes);
  if (bytes && !n) memset(p->out, 0, bytes);
  for (int k = 1; k < n; k++) join(JOIN_SUM, type, p->count, p->out, p->node[k], p->out);
  p->node[0] = p->out;
}
void comm_count(Comm *c, const Coll *w) {
  if (w->kind != COLL_JOIN) return;
  c->stats.buckets++, c->stats.sums += w->npiece;
  c->stats.held += coll_count(w, c->nrank) * join_bytes(w->type);
}

uint64_t comm_start(Comm *c, const Coll *what) {
  if (c->broken) return c->last;
  Coll w;
  CollPiece piece[COLL_PIECES];
  coll_keep(&w, what, piece);
  if (coll_deals(&w)) w.before = coll_share(&w, c->rank, c->nrank);
  double start = c->how.trace ? rt_seconds() : 0;
  for (int k = 0; comm_sums_fast(c, &w) && k < w.npiece; k++) sum_own(c, w.type, &piece[k]);
  c->stats.collectives++;
  comm_count(c, &w);
  c->last = c->ops->start(c, &w);
  trace_start(c, &w, start);
  if (c->how.no_overlap) {
    CommFault later; /* stays in the group for the collective's own wait */
    comm_wait(c, c->last, &later);
  }
  return c->last;
}
void comm_progress(Comm *c) {
  if (!c->broken && c->ops->progress(c) && c->ntraced) trace_done(c);
}
bool comm_done(Comm *c, uint64_t ticket) {
  comm_progress(c);
  return c->broken || c->ops->done(c, ticket);
}

/* A rank that has waited so long gives up its core: to who is runnable, later for a 32nd of what it has waited. Many
 * ranks on few cores, all yielding, take most of the time from the one that works. */
static void rest(double waited) {
  if (waited < COMM_DOZE) {
    sched_yield();
    return;
  }
  double nap = waited / 32 < 5e-4 ? waited / 32 : 5e-4;
  nanosleep(&(struct timespec){0, (long)(1e9 * nap)}, NULL);
}

/* Spins, then rests. The group's health is asked for by the clock, and never on the fast path: where processes queue
 * for a core, one turn of this loop takes as long as the queue. */
bool comm_wait(Comm *c, uint64_t ticket, CommFault *f) {
  enum { SPIN = 200 };
  double began = 0, quiet = 0, ask_at = 0; /* when waiting began, when something last advanced, when to ask */
  for (int64_t idle = 0; !c->broken && !c->ops->done(c, ticket);) {
    if (c->ops->progress(c)) {
      idle = 0;
      continue;
    }
    if (idle == 0) quiet = rt_seconds();
    if (began == 0) began = quiet;
    if (idle++ < SPIN) continue;
    double now = rt_seconds();
    rest(now - quiet);
    if (c->nccl) nccl_progress(c->nccl);
    if (ask_at == 0) ask_at = now + COMM_ASK;
    if (now < ask_at) continue;
    ask_at = now + COMM_ASK;
    CommFault why = {.rank = -1};
    if (!c->ops->check(c, &why)) comm_give_up(c, &why);
  }
  if (c->ntraced) trace_done(c);
  if (began > 0) c->stats.waited += rt_seconds() - began;
  if (c->broken) *f = c->fault;
  return !c->broken;
}
bool comm_wait_all(Comm *c, CommFault *f) { return comm_wait(c, c->last, f); }
void comm_give_up(Comm *c, const CommFault *f) {
  c->fault = *f;
  c->broken = true;
  c->ops->fail(c, f->rank, c->fault.msg);
}
void comm_fail(Comm *c, const char *msg) {
  if (!c->broken) c->ops->fail(c, c->rank, msg);
  c->broken = true;
}
bool comm_fail_alike(Comm *c, const char *msg) {
  char its[COMM_WHY], ours[COMM_WHY];
  bool was_broken = c->broken;
  comm_fail(c, msg);
  if (c->rank == 0 || was_broken) return false;
  snprintf(ours, sizeof ours, "%s", msg);
  for (int k = 0; k < 100; k++) {
    if (c->ops->failed_with(c, 0, its, sizeof its)) return !strcmp(its, ours);
    nanosleep(&(struct timespec){0, 10000000}, NULL);
  }
  return false;
}
void *comm_lend(Comm *c, size_t bytes) { return c->ops->lend ? c->ops->lend(c, bytes) : NULL; }
void comm_take_back(Comm *c, void *at) {
  if (at) c->ops->take_back(c, at);
}
void comm_free(Comm *c) {
  if (c) c->ops->free(c);
}

static bool gather_from(Comm *c, int root, const void *in, void *out, int64_t bytes, const char *name, CommFault *f) {
  int64_t *block = calloc((size_t)c->nrank, sizeof *block);
  if (!block) {
    *f = (CommFault){c->rank, "out of memory"};
    return false;
  }
  if (root >= 0) block[root] = bytes;
  Coll what = {.kind = COLL_GATHER, .name = name, .type = JOIN_U8, .block = block, .in = in, .out = out};
  uint64_t ticket = comm_start(c, &what);
  free(block);
  return comm_wait(c, ticket, f);
}
bool comm_barrier(Comm *c, CommFault *f) { return gather_from(c, -1, NULL, NULL, 0, "barrier", f); }
bool comm_broadcast(Comm *c, int root, void *data, int64_t bytes, const char *name, CommFault *f) {
  return gather_from(c, root, data, data, bytes, name, f);
}

/* ---- one rank ---------------------------------------------------------------------------------------------------- */
static uint64_t alone_start(Comm *c, const Coll *what) {
  /* one rank owns all shards: its only node is the root */
  size_t bytes = (size_t)join_bytes(what->type);
  for (int k = 0; k < what->npiece; k++) {
    const CollPiece *p = &what->piece[k];
    if (p->count && p->node[0] != p->out) memcpy(p->out, p->node[0], (size_t)p->count * bytes);
  }
  int64_t n = what->kind == COLL_GATHER ? what->block[0] : 0;
  if (n && what->in != what->out) memcpy(what->out, what->in, (size_t)n * bytes);
  return c->last + 1;
}
static bool alone_progress(Comm *c) {
  (void)c;
  return false;
}
static bool alone_done(const Comm *c, uint64_t ticket) { return ticket <= c->last; }
static bool alone_check(Comm *c, CommFault *f) {
  (void)c, (void)f;
  return true;
}
static void alone_fail(Comm *c, int cause, const char *msg) { (void)c, (void)cause, (void)msg; }
static bool alone_failed_with(Comm *c, int rank, char *msg, size_t room) {
  (void)c, (void)rank, (void)msg, (void)room;
  return false;
}
static void alone_free(Comm *c) { free(c); }

Comm *comm_alone(void) {
  static const CommOps ops = {.kind = "alone",
                              .start = alone_start,
                              .progress = alone_progress,
                              .done = alone_done,
                              .check = alone_check,
                              .fail = alone_fail,
                              .failed_with = alone_failed_with,
                              .free = alone_free};
  Comm *c = calloc(1, sizeof *c);
  if (c) c->ops = &ops, c->nrank = 1;
  return c;
}
