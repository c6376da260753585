/* Collectives as messages between ranks of several hosts.
 *
 * A collective takes two rounds. First every rank sends every other one what that one is to join: its nodes' share of
 * the elements (of a gathering: its block, and that is all). Whoever has all of them joins by the tree and sends the
 * result to all, unless it is dealt out. That is 2 (N - 1) / N of the data, the least there is, and the same bits as
 * any other communicator. The messages of a collective carry its number as their tag; those of the first round begin
 * with its label.
 *
 * All messages are whole blocks of UNIT bytes, so that sizes fit MPI's int. MPI is entered by one thread at a time
 * (`lock`): the rank's own, and the heart, which tells the others that this rank lives, or why it gives up. */
#include "dist/mpi/group.h"
#include "codegen/rt/clock.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNIT = 64, QUEUE = 64, TAGS = 8192, HEAD = 128, BEAT_MS = 250 };
typedef enum { SAYS_ALIVE, SAYS_FAILED, SAYS_LEFT } Says;
typedef struct Note {
  int says;
  char why[COMM_WHY];
} Note;

typedef struct Op {
  Coll what;
  CollPiece piece[COLL_PIECES];
  int64_t count; /* elements of the result */
  int64_t *block;
  CollLabel label;
  int tag;
  bool done, joined, placed; /* placed: the results stand in their pieces */
  bool whole;                /* `result` is to be all of it: --reduce=fast */
  int came;                  /* messages of the first round that have come */
  /* one a rank: what is sent, what came (first round), the result's shares (second round) */
  char **out, **in, **share;      /* of a join in[own rank] is what it would send itself */
  MPI_Request *sent, *told, *got; /* sent in the first round, in the second; what comes in the second */
  char *result;                   /* own share, joined; or all */
} Op;

typedef struct Peer {
  double heard;
  int says;
  char why[COMM_WHY];
  MPI_Request beat; /* the last note to it, on its way */
  Note note;
} Peer;

typedef struct Group {
  Comm base;
  MPI_Comm data, beats;
  MPI_Datatype unit;
  pthread_mutex_t lock;
  Op op[QUEUE];
  uint64_t nop, oldest; /* ops begun; those before `oldest` are done */
  int nnode[COMM_MAX_RANKS], first_node[COMM_MAX_RANKS], total_node;
  ShardNode node[TG_SHARDS];
  Peer *peer;
  Note own;     /* what this rank says */
  double awake; /* since when this process has run without being stopped itself; behind the lock */
  char *scratch;
  pthread_t heart;
  bool has_heart;
  atomic_bool stop;
} Group;

static int units(int64_t bytes) { return (int)((bytes + UNIT - 1) / UNIT); }
static char *room_for(int64_t bytes) { return malloc((size_t)units(bytes) * UNIT + UNIT); }

static bool breaks(Group *g, int rank, const char *msg) {
  g->base.broken = true, g->base.fault.rank = rank;
  snprintf(g->base.fault.msg, sizeof g->base.fault.msg, "%s", msg);
  return false;
}

/* Elements of rank r's share, or of its block. */
static int64_t share_of(const Group *g, const Op *op, int r) {
  if (op->what.kind == COLL_GATHER) return op->block[r];
  return coll_share(&op->what, r + 1, g->base.nrank) - coll_share(&op->what, r, g->base.nrank);
}
/* Bytes of the first message from rank `from` to rank `to`. */
static int64_t first_bytes(const Group *g, const Op *op, int from, int to) {
  int64_t n = op->what.kind == COLL_GATHER ? op->block[from] : share_of(g, op, to) * g->nnode[from];
  return HEAD + n * join_bytes(op->what.type);
}

/* ---- the first round --------------------------------------------------------------------------------------------- */

static void pack(const Group *g, const Op *op, int to, char *at) {
  int bytes = join_bytes(op->what.type), me = g->base.rank;
  memset(at, 0, HEAD);
  memcpy(at, &op->label, sizeof op->label);
  at += HEAD;
  if (op->what.kind == COLL_GATHER) {
    if (op->block[me]) memcpy(at, op->what.in, (size_t)(op->block[me] * bytes));
    return;
  }
  int64_t n = share_of(g, op, to), lo = coll_share(&op->what, to, g->base.nrank);
  for (int k = 0; k < g->nnode[me]; k++) coll_take(&op->what, k, lo, n, at + k * n * bytes);
}

static bool send_first(Group *g, Op *op) {
  for (int r = 0; r < g->base.nrank; r++) {
    bool own = r == g->base.rank;
    if (own && op->what.kind == COLL_GATHER) continue;
    int64_t bytes = first_bytes(g, op, g->base.rank, r);
    char **to = own ? &op->in[r] : &op->out[r];
    if (!(*to = room_for(bytes))) return breaks(g, g->base.rank, "out of memory for a message");
    pack(g, op, r, *to);
    if (own) continue;
    g->base.stats.bytes += bytes - HEAD;
    MPI_Isend(op->out[r], units(bytes), g->unit, r, op->tag, g->data, &op->sent[r]);
  }
  return true;
}

static bool disagree(Group *g, const Op *op, int r, const CollLabel *l) {
  char msg[320];
  snprintf(msg, sizeof msg, "the ranks do not agree: rank %d is at %s, rank %d at %.*s", g->base.rank, op->label.text,
           r, (int)sizeof l->text - 1, l->text);
  return breaks(g, r, msg);
}

/* Takes what has come for the op; false: the group is broken. */
static bool receive_first(Group *g, Op *op, bool *any) {
  for (int r = 0; r < g->base.nrank; r++) {
    int here = 0, n = 0;
    MPI_Message message;
    MPI_Status status;
    if (r == g->base.rank || op->in[r]) continue;
    if (MPI_Improbe(r, op->tag, g->data, &here, &message, &status) != MPI_SUCCESS || !here) continue;
    MPI_Get_count(&status, g->unit, &n);
    if (!(op->in[r] = room_for((int64_t)n * UNIT))) return breaks(g, g->base.rank, "out of memory for a message");
    MPI_Mrecv(op->in[r], n, g->unit, &message, MPI_STATUS_IGNORE);
    CollLabel l;
    memcpy(&l, op->in[r], sizeof l);
    if (l.hash != op->label.hash || n != units(first_bytes(g, op, r, g->base.rank))) return disagree(g, op, r, &l);
    op->came++, *any = true;
  }
  return true;
}

/* ---- the second -------------------------------------------------------------------------------------------------- */

static void unpack_blocks(Group *g, Op *op) {
  int bytes = join_bytes(op->what.type), me = g->base.rank;
  char *to = op->what.out;
  for (int r = 0; r < g->base.nrank; r++) {
    size_t n = (size_t)(op->block[r] * bytes);
    const char *from = r == me ? op->what.in : op->in[r] + HEAD;
    if (n && from != to) memmove(to, from, n);
    to += n;
  }
}

static bool join_share(Group *g, Op *op) {
  int bytes = join_bytes(op->what.type), me = g->base.rank, n = g->base.nrank;
  int64_t mine = share_of(g, op, me);
  if (!(op->result = room_for(mine * bytes))) return breaks(g, me, "out of memory for a message");
  enum { BLOCK = 2048 };
  for (int64_t i = 0; i < mine; i += BLOCK / bytes) {
    int64_t m = mine - i < BLOCK / bytes ? mine - i : BLOCK / bytes;
    const void *part[TG_SHARDS];
    for (int r = 0; r < n; r++)
      for (int k = 0; k < g->nnode[r]; k++) part[g->first_node[r] + k] = op->in[r] + HEAD + (k * mine + i) * bytes;
    join_tree(op->what.op, op->what.type, m, g->total_node, g->node, part, op->result + i * bytes, g->scratch);
  }
  for (int r = 0; r < n; r++) {
    if (r == me || coll_deals(&op->what)) continue;
    int64_t theirs = share_of(g, op, r) * bytes;
    if (!(op->share[r] = room_for(theirs))) return breaks(g, me, "out of memory for a message");
    MPI_Irecv(op->share[r], units(theirs), g->unit, r, op->tag + 1, g->data, &op->got[r]);
    MPI_Isend(op->result, units(mine * bytes), g->unit, r, op->tag + 1, g->data, &op->told[r]);
    g->base.stats.bytes += mine * bytes;
  }
  return true;
}

static void place_results(Group *g, Op *op) {
  op->placed = true;
  if (op->whole) {
    coll_put(&op->what, 0, op->count, op->result);
    return;
  }
  int me = g->base.rank, n = g->base.nrank;
  for (int r = 0; r < n; r++) {
    const char *from = r == me ? op->result : op->share[r];
    if (from) coll_put(&op->what, coll_share(&op->what, r, n), share_of(g, op, r), from);
  }
}

static void drop(Group *g, Op *op) {
  for (int r = 0; r < g->base.nrank; r++) {
    free(op->out[r]), free(op->in[r]), free(op->share[r]);
    op->out[r] = op->in[r] = op->share[r] = NULL;
  }
  free(op->result);
  op->result = NULL;
}

/* One step of one op; *any when something happened. */
static bool advance(Group *g, Op *op, bool *any) {
  int others = g->base.nrank - 1, flag = 0;
  if (op->came < others && !receive_first(g, op, any)) return false;
  if (op->came < others) return true;
  if (!op->joined) {
    op->joined = *any = true;
    if (op->what.kind == COLL_GATHER)
      unpack_blocks(g, op);
    else if (!join_share(g, op))
      return false;
  }
  MPI_Testall(g->base.nrank, op->got, &flag, MPI_STATUSES_IGNORE);
  if (!flag) return true;
  if (op->what.kind == COLL_JOIN && !op->placed) place_results(g, op);
  MPI_Testall(g->base.nrank, op->sent, &flag, MPI_STATUSES_IGNORE);
  if (flag) MPI_Testall(g->base.nrank, op->told, &flag, MPI_STATUSES_IGNORE);
  if (!flag) return true;
  drop(g, op);
  op->done = *any = true;
  return true;
}

static bool group_progress(Comm *c) {
  Group *g = (Group *)c;
  bool any = false;
  pthread_mutex_lock(&g->lock);
  for (uint64_t k = g->oldest; k < g->nop && !c->broken; k++) {
    Op *op = &g->op[k % QUEUE];
    if (!op->done) advance(g, op, &any);
    if (op->done && k == g->oldest) g->oldest++;
  }
  pthread_mutex_unlock(&g->lock);
  return any;
}
static bool group_done(const Comm *c, uint64_t ticket) {
  const Group *g = (const Group *)c;
  return ticket <= g->oldest || g->op[(ticket - 1) % QUEUE].done;
}

/* --reduce=fast: MPI's own all-reduce, which counts as an op whose messages have come. */
static bool sum_by_mpi(Group *g, Op *op) {
  MPI_Datatype type = op->what.type == JOIN_F64 ? MPI_DOUBLE : MPI_FLOAT;
  op->came = g->base.nrank - 1, op->joined = op->whole = true;
  if (!(op->result = room_for(op->count * join_bytes(op->what.type))))
    return breaks(g, g->base.rank, "out of memory for a message");
  coll_take(&op->what, 0, 0, op->count, op->result);
  MPI_Iallreduce(MPI_IN_PLACE, op->result, (int)op->count, type, MPI_SUM, g->data, &op->got[0]);
  return true;
}

static uint64_t group_start(Comm *c, const Coll *what) {
  Group *g = (Group *)c;
  CommFault f;
  while (g->nop - g->oldest >= QUEUE)
    if (!comm_wait(c, g->oldest + 1, &f)) return c->last;
  Op *op = &g->op[g->nop % QUEUE];
  coll_keep(&op->what, what, op->piece);
  op->count = coll_count(what, c->nrank);
  op->done = op->joined = op->placed = op->whole = false, op->came = 0;
  for (int r = 0; r < c->nrank; r++) {
    op->sent[r] = op->told[r] = op->got[r] = MPI_REQUEST_NULL;
    op->block[r] = what->block ? what->block[r] : 0;
  }
  if (what->block) op->what.block = op->block;
  op->label = coll_label(&op->what, c->nrank);
  op->tag = (int)(g->nop % TAGS) * 2;
  g->nop++;
  pthread_mutex_lock(&g->lock);
  if (comm_sums_fast(c, what))
    sum_by_mpi(g, op);
  else
    send_first(g, op);
  pthread_mutex_unlock(&g->lock);
  group_progress(c);
  return g->nop;
}

/* ---- signs of life ----------------------------------------------------------------------------------------------- */

/* To each rank that has taken the last one: nothing piles up before a rank that does not listen. */
static void send_notes(Group *g) {
  for (int r = 0; r < g->base.nrank; r++) {
    Peer *p = &g->peer[r];
    int free_again = 1;
    if (r == g->base.rank) continue;
    if (p->beat != MPI_REQUEST_NULL) MPI_Test(&p->beat, &free_again, MPI_STATUS_IGNORE);
    if (!free_again) continue;
    p->note = g->own;
    MPI_Isend(&p->note, (int)sizeof p->note, MPI_BYTE, r, 0, g->beats, &p->beat);
  }
}
static void hear_notes(Group *g) {
  for (int here = 1; here;) {
    MPI_Status s;
    Note n;
    if (MPI_Iprobe(MPI_ANY_SOURCE, 0, g->beats, &here, &s) != MPI_SUCCESS || !here) return;
    MPI_Recv(&n, (int)sizeof n, MPI_BYTE, s.MPI_SOURCE, 0, g->beats, MPI_STATUS_IGNORE);
    Peer *p = &g->peer[s.MPI_SOURCE];
    p->heard = rt_seconds();
    if (p->says == SAYS_ALIVE && n.says != SAYS_ALIVE) {
      n.why[COMM_WHY - 1] = 0;
      memcpy(p->why, n.why, sizeof p->why);
      p->says = n.says;
    }
  }
}
static void *heart(void *ctx) {
  Group *g = ctx;
  for (double last = rt_seconds(); !atomic_load(&g->stop);) {
    pthread_mutex_lock(&g->lock);
    double t = rt_seconds();
    if (t - last > COMM_NAP) g->awake = t;
    last = t;
    send_notes(g);
    hear_notes(g);
    pthread_mutex_unlock(&g->lock);
    nanosleep(&(struct timespec){0, BEAT_MS * 1000000}, NULL);
  }
  return NULL;
}

static bool group_check(Comm *c, CommFault *f) {
  Group *g = (Group *)c;
  double t = rt_seconds();
  bool well = true;
  pthread_mutex_lock(&g->lock);
  hear_notes(g);
  for (int r = 0; r < c->nrank && well; r++) {
    const Peer *p = &g->peer[r];
    if (r == c->rank) continue;
    f->rank = r, well = false;
    if (p->says == SAYS_FAILED)
      snprintf(f->msg, sizeof f->msg, "rank %d: %s", r, p->why);
    else if (p->says == SAYS_ALIVE && t - p->heard > COMM_PATIENCE && t - g->awake > COMM_PATIENCE)
      snprintf(f->msg, sizeof f->msg, "rank %d does not answer for %.0f s", r, t - p->heard);
    else
      well = true; /* one that left has sent all it had to */
  }
  pthread_mutex_unlock(&g->lock);
  return well;
}

static void say(Group *g, Says says, const char *why) {
  pthread_mutex_lock(&g->lock);
  if (g->own.says == SAYS_ALIVE) {
    g->own.says = says;
    snprintf(g->own.why, sizeof g->own.why, "%s", why);
  }
  pthread_mutex_unlock(&g->lock);
  for (int k = 0; k < 10; k++) { /* until every one that listens has been told */
    pthread_mutex_lock(&g->lock);
    send_notes(g);
    pthread_mutex_unlock(&g->lock);
    nanosleep(&(struct timespec){0, 20000000}, NULL);
  }
}
static void group_fail(Comm *c, int cause, const char *msg) {
  (void)cause; /* mpirun names no rank */
  say((Group *)c, SAYS_FAILED, msg);
}
static bool group_failed_with(Comm *c, int rank, char *msg, size_t room) {
  Group *g = (Group *)c;
  pthread_mutex_lock(&g->lock);
  hear_notes(g);
  bool failed = g->peer[rank].says == SAYS_FAILED;
  if (failed) snprintf(msg, room, "%s", g->peer[rank].why);
  pthread_mutex_unlock(&g->lock);
  return failed;
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void release(Group *g) {
  for (int k = 0; k < QUEUE; k++) {
    Op *op = &g->op[k];
    if (op->out && op->in && op->share) drop(g, op);
    free(op->out), free(op->in), free(op->share), free(op->sent), free(op->told), free(op->got), free(op->block);
  }
  free(g->peer), free(g->scratch), free(g);
}
static void group_free(Comm *c) {
  Group *g = (Group *)c;
  if (!c->broken && c->nrank > 1) say(g, SAYS_LEFT, "");
  atomic_store(&g->stop, true);
  if (g->has_heart) pthread_join(g->heart, NULL);
  if (c->broken) return; /* messages may still be on their way out of this memory; the process ends */
  release(g);
}

static bool make_ops(Group *g) {
  size_t n = (size_t)g->base.nrank;
  bool ok = true;
  for (int k = 0; k < QUEUE; k++) {
    Op *op = &g->op[k];
    op->out = calloc(n, sizeof *op->out), op->in = calloc(n, sizeof *op->in), op->share = calloc(n, sizeof *op->share);
    op->sent = calloc(n, sizeof *op->sent), op->got = calloc(n, sizeof *op->got),
    op->told = calloc(n, sizeof *op->told);
    op->block = calloc(n, sizeof *op->block);
    ok = ok && op->out && op->in && op->share && op->sent && op->told && op->got && op->block;
  }
  return ok;
}

Comm *mpi_messages(MPI_Comm world) {
  static const CommOps ops = {.kind = "mpi",
                              .start = group_start,
                              .progress = group_progress,
                              .done = group_done,
                              .check = group_check,
                              .fail = group_fail,
                              .failed_with = group_failed_with,
                              .free = group_free};
  Group *g = calloc(1, sizeof *g);
  if (!g) return NULL;
  g->base.ops = &ops;
  MPI_Comm_rank(world, &g->base.rank);
  MPI_Comm_size(world, &g->base.nrank);
  int n = g->base.nrank;
  g->peer = calloc((size_t)n, sizeof *g->peer), g->scratch = malloc(TG_SHARD_DEPTH * 2048);
  pthread_mutex_init(&g->lock, NULL);
  g->awake = rt_seconds();
  if (n > COMM_MAX_RANKS || !g->peer || !g->scratch || !make_ops(g)) {
    release(g);
    return NULL;
  }
  for (int r = 0; r < n; r++) {
    g->first_node[r] = g->total_node;
    g->nnode[r] = comm_nodes(&g->base, r, g->node + g->total_node);
    g->total_node += g->nnode[r];
    g->peer[r].heard = rt_seconds(), g->peer[r].beat = MPI_REQUEST_NULL;
  }
  MPI_Comm_dup(world, &g->data);
  MPI_Comm_dup(world, &g->beats);
  MPI_Comm_set_errhandler(g->data, MPI_ERRORS_RETURN);
  MPI_Comm_set_errhandler(g->beats, MPI_ERRORS_RETURN);
  MPI_Type_contiguous(UNIT, MPI_BYTE, &g->unit);
  MPI_Type_commit(&g->unit);
  g->has_heart = pthread_create(&g->heart, NULL, heart, g) == 0;
  if (g->has_heart) return &g->base;
  release(g);
  return NULL;
}
