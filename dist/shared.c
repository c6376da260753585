/* The communicator of one host: threads or processes over one piece of shared memory.
 *
 * A collective is cut into chunks, numbered through the life of the group; chunk q uses slot q % SLOTS of every rank.
 * For each chunk a rank takes three steps, each published by a counter that only it writes:
 *
 *   stage    copies its nodes of the others' shares (or its block) into its slot
 *   reduce   joins its share of the chunk, once all have staged it, by the tree of shards, into its slot's result and
 *            its own result
 *   collect  copies the others' results out, once all have reduced it; nothing when the result is dealt out, for then
 *            each rank joins the share that it gets
 *
 * A slot is free again when all have collected what was in it. Counters only grow, have one writer and one cache line
 * each: no locks, and a step never waits: comm_progress takes what steps can be taken and returns. The join happens
 * once, at the owner of the share; so a rank reads 2 (N - 1) / N of the data from others, the least there is.
 *
 * Signs of life: a thread a rank stamps the segment (a stopped process stops it too); processes that ended are seen by
 * kill(2) or marked by the launcher. */
#include "dist/comm.h"
#include "dist/watch.h"
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 4, CHUNK = 256 << 10, LINE = 64, QUEUE = 64, BEAT_MS = 100 };
/* Bytes of each node that are joined at a time: the tree's intermediate values stay in the first cache. */
enum { BLOCK = 4096 };
typedef enum { RANK_ABSENT, RANK_RUNS, RANK_LEFT, RANK_FAILED } RankState;

typedef struct Counter {
  _Alignas(LINE) _Atomic uint64_t n;
} Counter;

typedef struct RankBlock {
  Counter staged, reduced, collected; /* chunks */
  _Alignas(LINE) _Atomic int state;
  _Atomic int64_t beat; /* milliseconds, CLOCK_MONOTONIC */
  _Atomic int pid;
  _Atomic int told;       /* somebody writes `why`, or has */
  _Atomic int silent;     /* it failed because it does not answer; known before its state */
  char why[COMM_WHY];     /* written before state becomes RANK_FAILED */
  CollLabel label[SLOTS]; /* written before `staged`, compared by everybody after it */
} RankBlock;

struct CommSegment {
  int nrank, maxnode;
  size_t slot_bytes;   /* of one slot of one rank: maxnode chunks staged, one result */
  _Atomic int culprit; /* 1 + the rank that failed first, 0: none. Others fail because of it, and say its name */
  _Atomic int died;    /* one ended without a word of its own */
  _Alignas(LINE) RankBlock rank[];
};

/* A collective under way, seen from this rank. */
typedef struct Op {
  Coll what;
  CollPiece piece[COLL_PIECES];
  int64_t count;          /* elements of the result */
  int64_t *block, *start; /* GATHER, dealt JOIN: elements of each rank, where they go or come from */
  uint64_t first, nchunk;
  int64_t per_chunk; /* elements of the result (JOIN) or of each block (GATHER, dealt JOIN) in a chunk */
  CollLabel label;
} Op;

typedef struct Shared {
  Comm base;
  CommSegment *seg;
  Op op[QUEUE];        /* op k at k % QUEUE; tickets are k + 1 */
  uint64_t nop;        /* begun */
  uint64_t at[3];      /* op in which the next chunk to stage, reduce, collect lies */
  uint64_t chunk[3];   /* that chunk's number */
  uint64_t next_chunk; /* of the next collective */
  int nnode[COMM_MAX_RANKS];
  ShardNode node[TG_SHARDS];
  int total_node;
  char *scratch, *room; /* room: blocks of own nodes whose elements lie in several pieces */
  pthread_t heart;
  bool has_heart;
  sem_t stop;  /* posted when the heart is to end */
  Watch watch; /* the heart's */
  _Atomic bool guarded;
} Shared;

static int64_t clock_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the segment ---------------------------------------------------------------------------------------------------
 */
static int max_nodes(int nrank) {
  int most = 1;
  ShardNode node[TG_MAX_NODES];
  for (int r = 0; r < nrank; r++) {
    int n = shard_nodes(shard_of_rank(r, nrank), shard_of_rank(r + 1, nrank), node);
    if (n > most) most = n;
  }
  return most;
}
static size_t header_bytes(int nrank) {
  size_t n = sizeof(CommSegment) + sizeof(RankBlock) * (size_t)nrank;
  return (n + 4095) / 4096 * 4096;
}
static size_t slot_bytes(int nrank) { return (size_t)(max_nodes(nrank) + 1) * CHUNK; }
size_t comm_segment_bytes(int nrank) { return header_bytes(nrank) + slot_bytes(nrank) * SLOTS * (size_t)nrank; }

void comm_segment_init(CommSegment *s, int nrank) {
  s->nrank = nrank, s->maxnode = max_nodes(nrank), s->slot_bytes = slot_bytes(nrank);
  for (int r = 0; r < nrank; r++) atomic_store(&s->rank[r].beat, clock_ms());
}
static char *slot_of(CommSegment *s, int rank, uint64_t chunk) {
  return (char *)s + header_bytes(s->nrank) + ((size_t)rank * SLOTS + chunk % SLOTS) * s->slot_bytes;
}
static char *staged_node(CommSegment *s, int rank, uint64_t chunk, int node) {
  return slot_of(s, rank, chunk) + (size_t)node * CHUNK;
}
static char *result_of(CommSegment *s, int rank, uint64_t chunk) {
  return slot_of(s, rank, chunk) + (size_t)s->maxnode * CHUNK;
}

static bool mark_failed(CommSegment *s, int rank, const char *why) {
  RankBlock *b = &s->rank[rank];
  int state = atomic_load(&b->state), none = 0;
  if ((state == RANK_LEFT && !atomic_load(&b->silent)) || atomic_exchange(&b->told, 1)) return false;
  snprintf(b->why, sizeof b->why, "%s", why);
  atomic_compare_exchange_strong(&s->culprit, &none, rank + 1);
  atomic_store(&b->state, RANK_FAILED);
  return true;
}
void comm_segment_mark_dead(CommSegment *s, int rank, const char *how) {
  if (mark_failed(s, rank, how)) atomic_store(&s->died, 1);
}
int comm_segment_culprit(const CommSegment *s) { return atomic_load(&((CommSegment *)s)->culprit) - 1; }

bool comm_segment_alike(const CommSegment *s) {
  if (atomic_load(&((CommSegment *)s)->died)) return false;
  for (int r = 0; r < s->nrank; r++) {
    const RankBlock *b = &s->rank[r];
    if (atomic_load(&((RankBlock *)b)->state) != RANK_FAILED || strcmp(b->why, s->rank[0].why) != 0) return false;
  }
  return true;
}

const char *comm_segment_why(const CommSegment *s, int rank) {
  RankBlock *b = &((CommSegment *)s)->rank[rank];
  if (atomic_load(&b->state) == RANK_FAILED) return b->why;
  return atomic_load(&b->silent) ? "does not answer" : ""; /* somebody is about to write more */
}

bool comm_segment_is_silent(CommSegment *s, Watch *w, int rank, int pid) {
  RankBlock *b = &s->rank[rank];
  int state = atomic_load(&b->state);
  int64_t now = w->looked, beat = atomic_load(&b->beat), oldest = now - 1000 * COMM_PATIENCE_ALIVE;
  if (!pid) pid = atomic_load(&b->pid);
  if (state == RANK_FAILED) return atomic_load(&b->silent);
  if (state == RANK_LEFT && beat < oldest) beat = oldest; /* it has no signs to give, but may be stopped */
  if (!watch_is_silent(w, rank, now, beat, pid)) return false;
  char how[COMM_WHY], where[48] = "";
  if (w->stopped[rank].looks) snprintf(where, sizeof where, " (process %d is stopped)", pid);
  snprintf(how, sizeof how, "does not answer for %.0f s%s", 1e-3 * (double)(now - beat), where);
  atomic_store(&b->silent, 1);
  comm_segment_mark_dead(s, rank, how);
  return true;
}

/* ---- steps ---------------------------------------------------------------------------------------------------------
 */
enum { STAGE, REDUCE, COLLECT };

static uint64_t least(const Shared *s, size_t counter) {
  uint64_t m = UINT64_MAX;
  for (int r = 0; r < s->base.nrank; r++) {
    const char *b = (const char *)&s->seg->rank[r];
    uint64_t n = atomic_load_explicit(&((const Counter *)(b + counter))->n, memory_order_acquire);
    if (n < m) m = n;
  }
  return m;
}
static void publish(Counter *c, uint64_t n) { atomic_store_explicit(&c->n, n, memory_order_release); }

/* Elements [*lo, *lo + n) of a block of `count` in the op's chunk number k. */
static int64_t part_of(const Op *op, uint64_t k, int64_t count, int64_t *lo) {
  *lo = (int64_t)k * op->per_chunk;
  int64_t n = count - *lo;
  return n < 0 ? 0 : n > op->per_chunk ? op->per_chunk : n;
}
static int nodes_of(const Shared *s, const Op *op, int r) {
  return comm_sums_fast(&s->base, &op->what) ? 1 : s->nnode[r];
}
/* What a rank joins of a chunk: elements [lo, lo + n) of the result, from element `at` of each slot on. */
typedef struct Share {
  int64_t lo, n, at;
} Share;
static Share share_of(const Shared *s, const Op *op, uint64_t q, int r) {
  int bytes = join_bytes(op->what.type), nrank = s->base.nrank;
  int64_t lo, n;
  if (coll_deals(&op->what)) {
    n = part_of(op, q - op->first, op->block[r], &lo);
    return (Share){op->start[r] + lo, n, r * op->per_chunk};
  }
  n = part_of(op, q - op->first, op->count, &lo);
  int64_t a = shard_share(n, r, nrank, bytes), b = shard_share(n, r + 1, nrank, bytes);
  return (Share){lo + a, b - a, a};
}

static void stage(Shared *s, const Op *op, uint64_t q) {
  int bytes = join_bytes(op->what.type), me = s->base.rank, nnode = nodes_of(s, op, me);
  int64_t lo, n;
  s->seg->rank[me].label[q % SLOTS] = op->label;
  if (op->what.kind == COLL_GATHER) {
    n = part_of(op, q - op->first, op->block[me], &lo);
    if (n) memcpy(staged_node(s->seg, me, q, 0), (const char *)op->what.in + lo * bytes, (size_t)(n * bytes));
    s->base.stats.bytes += n * bytes * (s->base.nrank - 1);
    return;
  }
  for (int r = 0; r < s->base.nrank; r++) { /* the own share is joined where it lies */
    Share h = r == me ? (Share){0} : share_of(s, op, q, r);
    for (int k = 0; k < nnode && h.n; k++)
      coll_take(&op->what, k, h.lo, h.n, staged_node(s->seg, me, q, k) + h.at * bytes);
    s->base.stats.bytes += h.n * bytes * nnode;
  }
}

static bool labels_agree(Shared *s, const Op *op, uint64_t q) {
  for (int r = 0; r < s->base.nrank; r++) {
    const CollLabel *l = &s->seg->rank[r].label[q % SLOTS];
    if (l->hash == op->label.hash) continue;
    s->base.broken = true, s->base.fault.rank = r;
    snprintf(s->base.fault.msg, sizeof s->base.fault.msg, "the ranks do not agree: rank %d is at %s, rank %d at %.*s",
             s->base.rank, op->label.text, r, (int)sizeof l->text - 1, l->text);
    return false;
  }
  return true;
}

static void sum_ranks(JoinType type, int64_t n, int nrank, const void *const *part, void *to) {
  memcpy(to, part[0], (size_t)(n * join_bytes(type)));
  for (int r = 1; r < nrank; r++) join(JOIN_SUM, type, n, to, part[r], to);
}

/* Joins elements of chunk q: of all of them, or for itself only. */
static void join_block(Shared *s, const Op *op, uint64_t q, Share h) {
  const void *part[COMM_MAX_RANKS]; /* more than there are shards */
  int bytes = join_bytes(op->what.type), me = s->base.rank, npart = 0;
  bool deals = coll_deals(&op->what);
  char *to = deals ? (char *)op->what.piece[0].out + (h.lo - op->what.before) * bytes
                   : result_of(s->seg, me, q) + h.at * bytes;
  for (int r = 0; r < s->base.nrank; r++)
    for (int k = 0; k < nodes_of(s, op, r); k++)
      part[npart++] =
          r == me ? coll_at(&op->what, k, h.lo, h.n, s->room + k * BLOCK) : staged_node(s->seg, r, q, k) + h.at * bytes;
  if (comm_sums_fast(&s->base, &op->what))
    sum_ranks(op->what.type, h.n, s->base.nrank, part, to);
  else
    join_tree(op->what.op, op->what.type, h.n, s->total_node, s->node, part, to, s->scratch);
  if (!deals) coll_put(&op->what, h.lo, h.n, to);
}

static bool reduce(Shared *s, const Op *op, uint64_t q) {
  if (!labels_agree(s, op, q)) return false;
  if (op->what.kind == COLL_GATHER) return true;
  int bytes = join_bytes(op->what.type);
  Share h = share_of(s, op, q, s->base.rank);
  for (int64_t i = 0; i < h.n; i += BLOCK / bytes)
    join_block(s, op, q, (Share){h.lo + i, h.n - i < BLOCK / bytes ? h.n - i : BLOCK / bytes, h.at + i});
  if (!coll_deals(&op->what)) s->base.stats.bytes += h.n * bytes * (s->base.nrank - 1);
  return true;
}

static void collect(Shared *s, const Op *op, uint64_t q) {
  int bytes = join_bytes(op->what.type);
  int64_t lo, n;
  if (op->what.kind == COLL_GATHER) {
    for (int r = 0; r < s->base.nrank; r++) {
      n = part_of(op, q - op->first, op->block[r], &lo);
      char *to = (char *)op->what.out + (op->start[r] + lo) * bytes;
      if (n && !(r == s->base.rank && to == (const char *)op->what.in + lo * bytes))
        memcpy(to, staged_node(s->seg, r, q, 0), (size_t)(n * bytes));
    }
    return;
  }
  for (int r = 0; r < s->base.nrank && !coll_deals(&op->what); r++) {
    Share h = share_of(s, op, q, r);
    if (h.n && r != s->base.rank) coll_put(&op->what, h.lo, h.n, result_of(s->seg, r, q) + h.at * bytes);
  }
}

/* Takes one step of a kind if it can be taken. */
static bool step(Shared *s, int kind) {
  while (s->at[kind] < s->nop) {
    Op *op = &s->op[s->at[kind] % QUEUE];
    if (s->chunk[kind] < op->first + op->nchunk) break;
    s->at[kind]++;
  }
  if (s->at[kind] == s->nop || s->base.broken) return false;
  const Op *op = &s->op[s->at[kind] % QUEUE];
  RankBlock *me = &s->seg->rank[s->base.rank];
  uint64_t q = s->chunk[kind];
  if (kind == STAGE) {
    if (q >= SLOTS && least(s, offsetof(RankBlock, collected)) < q - SLOTS + 1) return false;
    stage(s, op, q);
    publish(&me->staged, q + 1);
  } else if (kind == REDUCE) {
    if (least(s, offsetof(RankBlock, staged)) < q + 1 || !reduce(s, op, q)) return false;
    publish(&me->reduced, q + 1);
  } else {
    /* what is dealt out is there once this rank has joined it */
    if (coll_deals(&op->what) ? s->chunk[REDUCE] < q + 1 : least(s, offsetof(RankBlock, reduced)) < q + 1) return false;
    collect(s, op, q);
    publish(&me->collected, q + 1);
  }
  s->chunk[kind]++;
  return true;
}
static bool shared_progress(Comm *c) {
  Shared *s = (Shared *)c;
  bool any = false;
  for (bool more = true; more && !c->broken;) {
    more = step(s, COLLECT);
    more |= step(s, REDUCE);
    more |= step(s, STAGE);
    any |= more;
  }
  return any;
}

/* ---- the interface -------------------------------------------------------------------------------------------------
 */
static bool shared_done(const Comm *c, uint64_t ticket) {
  const Shared *s = (const Shared *)c;
  if (!ticket) return true;
  if (ticket + QUEUE <= s->nop) return true; /* its place was taken by a later one */
  const Op *op = &s->op[(ticket - 1) % QUEUE];
  return s->chunk[COLLECT] >= op->first + op->nchunk;
}

static uint64_t shared_start(Comm *c, const Coll *what) {
  Shared *s = (Shared *)c;
  CommFault f;
  if (s->nop >= QUEUE && !comm_wait(c, s->nop - QUEUE + 1, &f)) return c->last;
  Op *op = &s->op[s->nop % QUEUE];
  int64_t *block = op->block, *start = op->start;
  coll_keep(&op->what, what, op->piece);
  int64_t most = op->count = coll_count(what, c->nrank);
  op->per_chunk = CHUNK / join_bytes(what->type);
  if (what->block) {
    int64_t at = 0;
    most = 0;
    for (int r = 0; r < c->nrank; r++) {
      block[r] = what->block[r], start[r] = at, at += block[r];
      if (block[r] > most) most = block[r];
    }
    op->what.block = block;
  }
  if (coll_deals(what)) op->per_chunk = CHUNK / c->nrank / LINE * LINE / join_bytes(what->type);
  op->first = s->next_chunk;
  op->nchunk = most > op->per_chunk ? (uint64_t)((most + op->per_chunk - 1) / op->per_chunk) : 1;
  s->next_chunk += op->nchunk;
  op->label = coll_label(&op->what, c->nrank);
  s->nop++;
  shared_progress(c);
  return s->nop;
}

/* How a rank is; false with *f when it will not answer any more. */
static bool rank_well(Shared *s, int r, CommFault *f) {
  RankBlock *b = &s->seg->rank[r];
  int state = atomic_load(&b->state), pid = atomic_load(&b->pid);
  f->rank = r;
  /* it had done all that this rank began */
  bool all_done = !s->base.beside && atomic_load(&b->collected.n) >= s->next_chunk;
  if (state == RANK_FAILED && (!all_done || atomic_load(&b->silent)))
    snprintf(f->msg, sizeof f->msg, "rank %d: %s", r, b->why);
  else if (state == RANK_LEFT) {
    if (all_done) return true;
    snprintf(f->msg, sizeof f->msg, "rank %d has ended while others still wait for it", r);
  } else if (pid && kill(pid, 0) && errno == ESRCH)
    snprintf(f->msg, sizeof f->msg, "rank %d (process %d) is gone", r, pid);
  else
    return true;
  return false;
}
static bool shared_check(Comm *c, CommFault *f) {
  Shared *s = (Shared *)c;
  int first = atomic_load(&s->seg->culprit) - 1;
  if (first >= 0 && first != c->rank && !rank_well(s, first, f)) return false;
  for (int r = 0; r < c->nrank; r++)
    if (r != c->rank && !rank_well(s, r, f)) {
      int none = 0; /* this rank's own end, which follows, is not the cause */
      atomic_compare_exchange_strong(&s->seg->culprit, &none, r + 1);
      return false;
    }
  return true;
}

/* ---- signs of life -------------------------------------------------------------------------------------------------
 */

static void kill_stopped(const Shared *s) {
  for (int r = 0; r < s->base.nrank; r++) {
    RankBlock *b = &s->seg->rank[r];
    int pid = atomic_load(&b->pid);
    if (atomic_load(&b->silent) && pid != (int)getpid() && process_is_stopped(pid)) kill(pid, SIGKILL);
  }
}
/* The rank is busy elsewhere, or waits in a call of MPI. */
_Noreturn static void end_process(const Shared *s, int silent) {
  dprintf(2, "tg: rank %d %s; rank %d is ended\n", silent, comm_segment_why(s->seg, silent), s->base.rank);
  kill_stopped(s);
  _exit(1);
}

/* Looks at all other ranks; one that is silent for too long, -1: none. */
static int silent_rank(Shared *s) {
  int silent = -1;
  for (int r = 0; r < s->base.nrank; r++)
    if (r != s->base.rank && comm_segment_is_silent(s->seg, &s->watch, r, 0)) silent = r;
  return silent;
}
static void *heart(void *p) {
  Shared *s = p;
  int64_t now, give_up = 0;
  do {
    now = clock_ms();
    atomic_store(&s->seg->rank[s->base.rank].beat, now);
    int silent = watch_look(&s->watch, now) ? silent_rank(s) : -1;
    if (silent >= 0 && !give_up) give_up = now + 1000 * COMM_GRACE;
    if (silent >= 0 && now > give_up && atomic_load(&s->guarded)) end_process(s, silent);
    now += BEAT_MS;
  } while (sem_clockwait(&s->stop, CLOCK_MONOTONIC, &(struct timespec){now / 1000, now % 1000 * 1000000}) != 0);
  return NULL;
}
void comm_shared_guard(Comm *c) { atomic_store(&((Shared *)c)->guarded, true); }
static void shared_fail(Comm *c, const char *msg) { mark_failed(((Shared *)c)->seg, c->rank, msg); }
static bool shared_failed_with(Comm *c, int rank, char *msg, size_t room) {
  RankBlock *b = &((Shared *)c)->seg->rank[rank];
  if (atomic_load(&b->state) != RANK_FAILED) return false;
  snprintf(msg, room, "%s", b->why);
  return true;
}

static void shared_free(Comm *c) {
  Shared *s = (Shared *)c;
  sem_post(&s->stop);
  if (s->has_heart) pthread_join(s->heart, NULL);
  sem_destroy(&s->stop);
  if (atomic_load(&s->guarded)) kill_stopped(s);
  int runs = RANK_RUNS;
  atomic_compare_exchange_strong(&s->seg->rank[c->rank].state, &runs, RANK_LEFT);
  for (int k = 0; k < QUEUE; k++) free(s->op[k].block);
  free(s->scratch);
  free(s);
}

Comm *comm_shared(CommSegment *seg, int rank) {
  static const CommOps ops = {"shared memory", shared_start, shared_progress,    shared_done,
                              shared_check,    shared_fail,  shared_failed_with, shared_free};
  if (seg->nrank > COMM_MAX_RANKS) return NULL;
  Shared *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->base = (Comm){.ops = &ops, .rank = rank, .nrank = seg->nrank};
  s->seg = seg;
  sem_init(&s->stop, 0, 0);
  s->scratch = malloc((TG_SHARD_DEPTH + TG_MAX_NODES) * BLOCK);
  s->room = s->scratch ? s->scratch + TG_SHARD_DEPTH * BLOCK : NULL;
  bool ok = s->scratch != NULL;
  for (int k = 0; k < QUEUE; k++) {
    int64_t *both = calloc(2 * (size_t)seg->nrank, sizeof *both);
    s->op[k].block = both, s->op[k].start = both ? both + seg->nrank : NULL;
    ok &= both != NULL;
  }
  for (int r = 0; r < seg->nrank; r++) {
    s->nnode[r] = comm_nodes(&s->base, r, s->node + s->total_node);
    s->total_node += s->nnode[r];
  }
  RankBlock *me = &seg->rank[rank];
  atomic_store(&me->pid, (int)getpid());
  atomic_store(&me->beat, clock_ms());
  watch_begin(&s->watch, clock_ms());
  atomic_store(&me->state, RANK_RUNS);
  s->has_heart = ok && pthread_create(&s->heart, NULL, heart, s) == 0;
  if (s->has_heart) return &s->base;
  shared_free(&s->base);
  return NULL;
}
