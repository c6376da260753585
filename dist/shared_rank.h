/* Inside dist/: a rank of one host's group (shared.c) and its collectives (shared_steps.c). */
#ifndef TG_DIST_SHARED_RANK_H
#define TG_DIST_SHARED_RANK_H
#include "dist/comm.h"
#include "dist/lent.h"
#include "dist/watch.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

enum { SLOTS = 4, CHUNK = 256 << 10, LINE = 64, QUEUE = 64 };
/* Bytes of each node that are joined at a time: the tree's intermediate values stay in the first cache. */
enum { BLOCK = 4096 };
enum { STAGE, REDUCE, COLLECT }; /* the steps of a chunk */
typedef enum { RANK_ABSENT, RANK_RUNS, RANK_LEFT, RANK_FAILED } RankState;

typedef struct Counter {
  _Alignas(LINE) _Atomic uint64_t n;
} Counter;

/* What a rank says of a collective that it has begun: written before `opened`. Twice as many as a rank has under way:
 * by then all have read it. */
typedef struct Open {
  CollLabel label;
  bool reachable;          /* its operands lie in its window */
  size_t at[TG_MAX_NODES]; /* there: its nodes, or its block */
} Open;

typedef struct RankBlock {
  Counter opened;                     /* collectives */
  Counter staged, reduced, collected; /* chunks */
  _Alignas(LINE) _Atomic int state;
  _Atomic int64_t beat; /* milliseconds, CLOCK_MONOTONIC */
  _Atomic int pid;
  _Atomic int told;   /* somebody writes `why`, or has */
  _Atomic int silent; /* it failed because it does not answer; known before its state */
  char why[COMM_WHY]; /* written before state becomes RANK_FAILED */
  Open open[2 * QUEUE];
} RankBlock;

struct CommSegment {
  int nrank, maxnode;
  size_t slot_bytes;     /* of one slot of one rank: maxnode chunks staged, one result */
  size_t slots, windows; /* where they begin, from here */
  size_t window;         /* bytes of a rank's window, 0: there are none */
  _Atomic int culprit;   /* 1 + the rank that failed first, 0: none. Others fail because of it, and say its name */
  _Atomic int died;      /* one ended without a word of its own */
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
  enum { OP_OPEN, OP_STAGED, OP_DIRECT } mode; /* OPEN: not known before all have begun it */
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
  Lent lent;   /* its window */
  Watch watch; /* the heart's */
  _Atomic bool guarded;
} Shared;

/* The collective behind op number s->nop, which is filled in but for `mode`, begins. */
void shared_open(Shared *s, Op *op);
bool shared_progress(Comm *c);
/* A rank's window. */
static inline char *shared_window(const Shared *s, int rank) {
  return (char *)s->seg + s->seg->windows + (size_t)rank * s->seg->window;
}
#endif
