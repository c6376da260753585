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
 * Operands that lie in a rank's *window* (comm_lend), where all others can read them, are not staged: of a gathering or
 * a sum that is dealt out each rank reads the others' where they lie, once all have said so (`opened`), and is done
 * when all have read. So the bytes cross from core to core once.
 *
 * A slot is free again when all have collected what was in it. Counters only grow, have one writer and one cache line
 * each: no locks, and a step never waits: comm_progress takes what steps can be taken and returns. The join happens
 * once, at the owner of the share; so a rank reads 2 (N - 1) / N of the data from others, the least there is.
 *
 * Signs of life: a thread a rank stamps the segment (a stopped process stops it too); processes that ended are seen by
 * kill(2) or marked by the launcher. */
#include "dist/shared_rank.h"
#include "codegen/rt/clock.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { BEAT_MS = 100 };
/* Bytes of address space that a rank may lend from. What is not touched takes no memory. */
#define WINDOW ((size_t)4 << 30)

/* ---- the segment ------------------------------------------------------------------------------------------------- */
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
static size_t slots_end(int nrank) { return header_bytes(nrank) + slot_bytes(nrank) * SLOTS * (size_t)nrank; }
size_t comm_segment_bytes(int nrank, bool windows) { return slots_end(nrank) + (windows ? WINDOW * (size_t)nrank : 0); }

void comm_segment_init(CommSegment *s, int nrank, bool windows) {
  s->nrank = nrank, s->maxnode = max_nodes(nrank), s->slot_bytes = slot_bytes(nrank);
  s->slots = header_bytes(nrank), s->windows = slots_end(nrank), s->window = windows ? WINDOW : 0;
  for (int r = 0; r < nrank; r++) atomic_store(&s->rank[r].beat, rt_milliseconds());
}
CommSegment *comm_segment_new(int nrank) {
  for (int windows = 1; windows >= 0; windows--) { /* a limit of the address space may forbid them */
    CommSegment *s = mmap(NULL, comm_segment_bytes(nrank, windows), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s == MAP_FAILED) continue;
    comm_segment_init(s, nrank, windows);
    return s;
  }
  return NULL;
}
void comm_segment_drop(CommSegment *s) {
  if (s) munmap(s, comm_segment_bytes(s->nrank, s->window > 0));
}

/* cause: the rank because of which this one fails, itself as a rule. */
static bool mark_failed(CommSegment *s, int rank, int cause, const char *why) {
  RankBlock *b = &s->rank[rank];
  int state = atomic_load(&b->state), none = 0;
  if ((state == RANK_LEFT && !atomic_load(&b->silent)) || atomic_exchange(&b->told, 1)) return false;
  snprintf(b->why, sizeof b->why, "%s", why);
  atomic_compare_exchange_strong(&s->culprit, &none, cause + 1);
  atomic_store(&b->state, RANK_FAILED);
  return true;
}
void comm_segment_mark_dead(CommSegment *s, int rank, const char *how) {
  if (mark_failed(s, rank, rank, how)) atomic_store(&s->died, 1);
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

/* ---- the interface ----------------------------------------------------------------------------------------------- */
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
  shared_open(s, op);
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
    if (r != c->rank && !rank_well(s, r, f)) return false;
  return true;
}

/* ---- signs of life ----------------------------------------------------------------------------------------------- */

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
    now = rt_milliseconds();
    atomic_store(&s->seg->rank[s->base.rank].beat, now);
    int silent = watch_look(&s->watch, now) ? silent_rank(s) : -1;
    if (silent >= 0 && !give_up) give_up = now + 1000 * COMM_GRACE;
    if (silent >= 0 && now > give_up && atomic_load(&s->guarded)) end_process(s, silent);
    now += BEAT_MS;
  } while (sem_clockwait(&s->stop, CLOCK_MONOTONIC, &(struct timespec){now / 1000, now % 1000 * 1000000}) != 0);
  return NULL;
}
void comm_shared_guard(Comm *c) { atomic_store(&((Shared *)c)->guarded, true); }
static void shared_fail(Comm *c, int cause, const char *msg) { mark_failed(((Shared *)c)->seg, c->rank, cause, msg); }
static bool shared_failed_with(Comm *c, int rank, char *msg, size_t room) {
  RankBlock *b = &((Shared *)c)->seg->rank[rank];
  if (atomic_load(&b->state) != RANK_FAILED) return false;
  snprintf(msg, room, "%s", b->why);
  return true;
}

static void *shared_lend(Comm *c, size_t bytes) { return lent_take(&((Shared *)c)->lent, bytes); }
static void shared_take_back(Comm *c, void *at) { lent_give(&((Shared *)c)->lent, at); }

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
  static const CommOps ops = {.kind = "shared memory",
                              .start = shared_start,
                              .progress = shared_progress,
                              .done = shared_done,
                              .check = shared_check,
                              .fail = shared_fail,
                              .failed_with = shared_failed_with,
                              .lend = shared_lend,
                              .take_back = shared_take_back,
                              .free = shared_free};
  if (seg->nrank > COMM_MAX_RANKS) return NULL;
  Shared *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  s->base = (Comm){.ops = &ops, .rank = rank, .nrank = seg->nrank};
  s->seg = seg;
  if (seg->window) s->lent = (Lent){.base = shared_window(s, rank), .bytes = seg->window};
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
  atomic_store(&me->beat, rt_milliseconds());
  watch_begin(&s->watch, rt_milliseconds());
  atomic_store(&me->state, RANK_RUNS);
  s->has_heart = ok && pthread_create(&s->heart, NULL, heart, s) == 0;
  if (s->has_heart) return &s->base;
  shared_free(&s->base);
  return NULL;
}
