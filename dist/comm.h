/* Communicators: what a group of ranks does together.
 *
 *   Comm   one rank's end of the group
 *   Coll   one collective: a bucket of sums over shards, which are joined, and go to all ranks or are dealt out to them
 *          (reduce-scatter), or a gathering of blocks (broadcast and barrier are gatherings)
 *
 * All ranks start the same collectives in the same order; `name`, type and size are compared on the way, and a mismatch
 * is a fault that shows both. A collective is asynchronous: comm_start returns at once, `in` and `out` belong to it
 * until comm_done says so, and it advances whenever comm_progress (or any wait) is called: the executor calls it
 * between kernels, so that gradients travel while the backward pass goes on.
 *
 * Every result is the same on all ranks and for every number of ranks (dist/shards.h).
 *
 * Faults: a rank that failed, left or stopped answering makes every later wait of the others fail within COMM_PATIENCE
 * seconds, naming it. One thread a Comm. */
#ifndef TG_DIST_COMM_H
#define TG_DIST_COMM_H
#include "dist/shards.h"
#include <stddef.h>

typedef struct Comm Comm;

typedef enum { COLL_JOIN, COLL_GATHER } CollKind;
enum { COLL_PIECES = 64, COMM_MAX_RANKS = 64 };
/* One sum of a bucket. */
typedef struct CollPiece {
  int64_t count;
  const void *node[TG_MAX_NODES]; /* the rank's nodes (comm_nodes), `count` elements each */
  void *out;                      /* none of the nodes, unless there is one rank */
} CollPiece;
typedef struct Coll {
  CollKind kind;
  const char *name; /* of the tensor or bucket: shown in faults; outlives the collective */
  JoinType type;
  JoinOp op;              /* JOIN */
  int npiece;             /* JOIN: 1 to COLL_PIECES, in any memory, joined as if they lay one after another */
  const CollPiece *piece; /* copied */
  /* GATHER: elements that each rank gives; out holds them one after another in rank order. JOIN: NULL, or it is dealt
   * out: elements that each rank gets, in rank order, of its only piece; then the piece's `out` holds the own ones.
   * Copied */
  const int64_t *block;
  const void *in; /* GATHER: own block; may be its place in `out` */
  void *out;      /* GATHER */
  int64_t before; /* of a JOIN that is dealt out: elements of the ranks before this one; comm_start sees to it */
} Coll;
int64_t coll_count(const Coll *what, int nrank); /* elements of the result */
static inline bool coll_deals(const Coll *what) { return what->kind == COLL_JOIN && what->block; }
/* The element of a JOIN's result from which on rank r joins, and gets it when it is dealt out; r = nrank: all. */
int64_t coll_share(const Coll *what, int r, int nrank);
/* For communicators: elements [lo, lo + n) of a JOIN's pieces in a row. */
void coll_take(const Coll *what, int node, int64_t lo, int64_t n, void *to);
void coll_put(const Coll *what, int64_t lo, int64_t n, const void *from);
/* The same elements where they lie, or, when they lie in several pieces, copied into `room`. */
const void *coll_at(const Coll *what, int node, int64_t lo, int64_t n, void *room);
/* *to is *what; its pieces are copied into `room`, of COLL_PIECES. */
void coll_keep(Coll *to, const Coll *what, CollPiece *room);

/* What a rank believes a collective to be: equal labels, equal collectives. */
typedef struct CollLabel {
  uint64_t hash;
  char text[96];
} CollLabel;
CollLabel coll_label(const Coll *what, int nrank);

typedef struct CommFault {
  int rank; /* the rank at fault, -1 unknown */
  char msg[320];
} CommFault;

typedef struct CommStats {
  int64_t collectives, bytes;  /* bytes that this rank made others read */
  int64_t buckets, sums, held; /* JOINs among the collectives, their pieces, bytes of their results */
  int64_t direct;              /* whose operands were not copied for the others, but lent (comm_lend) */
  double waited;               /* seconds in comm_wait */
} CommStats;

/* How a run wants its collectives; alike on all ranks, before the first of them. */
typedef struct CommChoices {
  bool no_overlap;       /* comm_start waits for the end */
  bool fast;             /* sums of floats in the order that is cheapest: their bits depend on the number of ranks */
  struct RtTrace *trace; /* takes every collective (codegen/rt/trace.h); NULL: nothing is noted */
} CommChoices;
void comm_choose(Comm *c, const CommChoices *choices);

/* Seconds without a sign of life: of a process that is stopped; of one of which no more is known; of one that the
 * system says is alive, only very slow. Seconds after which a watcher knows that it slept itself. Seconds that a rank
 * has to end by itself once another's fault is known. Bytes of a reason kept. */
enum {
  COMM_PATIENCE_STOPPED = 3,
  COMM_PATIENCE = 6,
  COMM_PATIENCE_ALIVE = 60,
  COMM_NAP = 2,
  COMM_GRACE = 2,
  COMM_WHY = 256
};

int comm_rank(const Comm *c);
int comm_size(const Comm *c);
const char *comm_kind(const Comm *c); /* "alone", "shared memory", "mpi" */
/* The nodes of the tree that `rank` sends in a JOIN, ascending; returns their number (0 for ranks beyond TG_SHARDS). */
int comm_nodes(const Comm *c, int rank, ShardNode node[TG_MAX_NODES]);

/* Begins a collective; returns its ticket. Blocks only when too many are under way. After a fault it does nothing. */
uint64_t comm_start(Comm *c, const Coll *what);
void comm_progress(Comm *c);
bool comm_done(Comm *c, uint64_t ticket);
/* False with *f when the group is broken: then nothing of later collectives is defined, and the rank should end. */
bool comm_wait(Comm *c, uint64_t ticket, CommFault *f);
bool comm_wait_all(Comm *c, CommFault *f);
CommStats comm_stats(const Comm *c);
/* Breaks the group: another rank is at fault. */
void comm_give_up(Comm *c, const CommFault *f);
/* Tells the others why this rank gives up. */
void comm_fail(Comm *c, const char *msg);
/* The same, for a fault that every rank may have met at the same place of the program: true when rank 0 fails with the
 * same words, so that it alone need say them. Waits for rank 0 for a second. */
bool comm_fail_alike(Comm *c, const char *msg);
/* Leaves the group in order. */
void comm_free(Comm *c);

/* ---- helpers over the two ---- */
bool comm_barrier(Comm *c, CommFault *f);
bool comm_broadcast(Comm *c, int root, void *data, int64_t bytes, const char *name, CommFault *f);

/* ---- memory that others read ---- */
/* Memory in which operands of collectives need not be copied for the others to read them: sums that are dealt out,
 * gatherings. NULL: there is none (left). Given back by comm_take_back, when no collective uses it any more, or with
 * the Comm. */
void *comm_lend(Comm *c, size_t bytes);
void comm_take_back(Comm *c, void *at);

/* ---- makers ---- */
Comm *comm_alone(void); /* one rank */
/* Shared memory of one host: threads or processes. The segment is made once (by a launcher, or by rank 0) and handed to
 * all. */
typedef struct CommSegment CommSegment;
/* windows: ranks may lend memory (comm_lend). */
size_t comm_segment_bytes(int nrank, bool windows);
/* Prepares zeroed shared memory of that size. */
void comm_segment_init(CommSegment *s, int nrank, bool windows);
/* One for the threads of this process and those that it forks, with windows where that is possible; NULL: no memory. */
CommSegment *comm_segment_new(int nrank);
void comm_segment_drop(CommSegment *s);
/* NULL: no memory, no thread, or more than 64 ranks. The segment outlives the Comm. */
Comm *comm_shared(CommSegment *s, int rank);
/* For a launcher: tells the group that a rank's process ended. */
void comm_segment_mark_dead(CommSegment *s, int rank, const char *how);
/* The rank that failed first, -1: none has. */
int comm_segment_culprit(const CommSegment *s);
/* Have all ranks failed with the same words? Then each met it by itself. */
bool comm_segment_alike(const CommSegment *s);
/* In each look of a watcher: has this rank been silent for too long (since comm_segment_init when it has given no
 * sign)? Then the group is told. pid 0: the rank's own word. */
struct Watch; /* dist/watch.h */
bool comm_segment_is_silent(CommSegment *s, struct Watch *w, int rank, int pid);
/* Why a rank failed; "" when it has not. */
const char *comm_segment_why(const CommSegment *s, int rank);
/* For ranks of one host that no launcher of ours watches: from now on the rank's thread that gives signs of life ends
 * the process, with the name of a rank that does not answer, when the rank itself has not done so COMM_GRACE seconds
 * after that is known. Whoever leaves the group then kills the ranks that are stopped: no one else may be able to. */
void comm_shared_guard(Comm *c);

void comm_count(Comm *c, const Coll *what); /* in the statistics of buckets, whoever joins them */
/* Is this a sum in any order? Then each piece has one node, node[0]. */
bool comm_sums_fast(const Comm *c, const Coll *what);

/* What a kind of communicator implements; comm.c does the rest. */
typedef struct CommOps {
  const char *kind;
  uint64_t (*start)(Comm *c, const Coll *what);
  bool (*progress)(Comm *c); /* true: something advanced */
  bool (*done)(const Comm *c, uint64_t ticket);
  bool (*check)(Comm *c, CommFault *f);              /* false: the group is broken; asked now and then while waiting */
  void (*fail)(Comm *c, int cause, const char *msg); /* cause: the rank because of which this one gives up, or itself */
  bool (*failed_with)(Comm *c, int rank, char *msg, size_t room); /* that rank has failed; why */
  void *(*lend)(Comm *c, size_t bytes);                           /* NULL: never */
  void (*take_back)(Comm *c, void *at);
  void (*free)(Comm *c);
} CommOps;
enum { COMM_TRACED = 64 };
/* A collective under way, for the trace. */
typedef struct CommTraced {
  uint64_t ticket;
  double start;
  int64_t bytes;
  char name[56];
} CommTraced;
struct Comm {
  const CommOps *ops;
  CommChoices how;
  CommTraced traced[COMM_TRACED];
  int ntraced;
  int rank, nrank;
  uint64_t last; /* ticket of the last collective */
  bool broken;
  CommFault fault;
  CommStats stats;
  struct Nccl *nccl; /* does the collectives of tensors on GPUs (nccl.h); NULL: they go through the host's memory */
  bool beside;       /* for `check`: more is under way than this communicator knows, so all ranks are needed */
};
#endif
