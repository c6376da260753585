/* Steps of the collectives of one host (shared.c says how they work together). */
#include "dist/shared_rank.h"
#include <stdio.h>
#include <string.h>

static char *slot_of(CommSegment *s, int rank, uint64_t chunk) {
  return (char *)s + s->slots + ((size_t)rank * SLOTS + chunk % SLOTS) * s->slot_bytes;
}
static char *staged_node(CommSegment *s, int rank, uint64_t chunk, int node) {
  return slot_of(s, rank, chunk) + (size_t)node * CHUNK;
}
static char *result_of(CommSegment *s, int rank, uint64_t chunk) {
  return slot_of(s, rank, chunk) + (size_t)s->maxnode * CHUNK;
}

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

/* What rank r says of op number k. */
static const Open *open_of(const Shared *s, int r, uint64_t k) { return &s->seg->rank[r].open[k % (2 * QUEUE)]; }

static bool labels_agree(Shared *s, const Op *op, uint64_t k) {
  for (int r = 0; r < s->base.nrank; r++) {
    const CollLabel *l = &open_of(s, r, k)->label;
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
  if (q == op->first && !labels_agree(s, op, s->at[REDUCE])) return false;
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

/* ---- without staging --------------------------------------------------------------------------------------------- */

/* Bytes of the result below which copies cost less than waiting for all to have read. */
enum { DIRECT = 64 << 10 };

/* Where the operands of this rank lie in its window. */
static bool reach(const Shared *s, const Op *op, Open *o) {
  size_t bytes = (size_t)join_bytes(op->what.type);
  bool deals = coll_deals(&op->what);
  for (int k = 0; k < (deals ? s->nnode[s->base.rank] : 1); k++) {
    const char *at = deals ? op->what.piece[0].node[k] : op->what.in;
    size_t n = bytes * (size_t)(deals ? op->count : op->block[s->base.rank]);
    if (n && !lent_has(&s->lent, at, n)) return false;
    o->at[k] = n ? (size_t)(at - s->lent.base) : 0;
  }
  return true;
}

void shared_open(Shared *s, Op *op) {
  Open *o = &s->seg->rank[s->base.rank].open[s->nop % (2 * QUEUE)];
  bool could = s->seg->window && op->what.block && op->count * join_bytes(op->what.type) >= DIRECT;
  op->mode = could ? OP_OPEN : OP_STAGED;
  o->label = op->label;
  o->reachable = could && reach(s, op, o);
  publish(&s->seg->rank[s->base.rank].opened, s->nop + 1);
}

/* Now that all have opened op number k. */
static bool choose_mode(Shared *s, Op *op, uint64_t k) {
  if (!labels_agree(s, op, k)) return false;
  op->mode = OP_DIRECT;
  for (int r = 0; r < s->base.nrank; r++)
    if (!open_of(s, r, k)->reachable) op->mode = OP_STAGED;
  s->base.stats.direct += op->mode == OP_DIRECT;
  return true;
}

static void join_direct(Shared *s, const Op *op, uint64_t k) {
  const void *part[TG_SHARDS];
  int bytes = join_bytes(op->what.type), me = s->base.rank;
  int64_t lo = op->start[me], n = op->block[me], most = BLOCK / bytes;
  for (int64_t i = 0; i < n; i += most) {
    int npart = 0;
    for (int r = 0; r < s->base.nrank; r++)
      for (int j = 0; j < s->nnode[r]; j++)
        part[npart++] = shared_window(s, r) + open_of(s, r, k)->at[j] + (lo + i) * bytes;
    join_tree(op->what.op, op->what.type, n - i < most ? n - i : most, npart, s->node, part,
              (char *)op->what.piece[0].out + i * bytes, s->scratch);
  }
  s->base.stats.bytes += (op->count - n) * bytes * s->nnode[me];
}
static void gather_direct(Shared *s, const Op *op, uint64_t k) {
  int bytes = join_bytes(op->what.type), me = s->base.rank;
  for (int r = 0; r < s->base.nrank; r++) {
    const char *from = shared_window(s, r) + open_of(s, r, k)->at[0];
    char *to = (char *)op->what.out + op->start[r] * bytes;
    if (op->block[r] && to != from) memcpy(to, from, (size_t)(op->block[r] * bytes));
  }
  s->base.stats.bytes += op->block[me] * bytes * (s->base.nrank - 1);
}

/* One step of an op without staging: all of its chunks at once. */
static bool step_direct(Shared *s, const Op *op, int kind) {
  RankBlock *me = &s->seg->rank[s->base.rank];
  uint64_t end = op->first + op->nchunk;
  if (kind == STAGE) {
    publish(&me->staged, end);
  } else if (kind == REDUCE) { /* that all have opened it is known */
    if (coll_deals(&op->what))
      join_direct(s, op, s->at[REDUCE]);
    else
      gather_direct(s, op, s->at[REDUCE]);
    publish(&me->reduced, end);
  } else {
    if (least(s, offsetof(RankBlock, reduced)) < end) return false; /* somebody still reads this rank's operands */
    publish(&me->collected, end);
  }
  s->chunk[kind] = end;
  return true;
}

/* Takes one step of a kind if it can be taken. */
static bool step(Shared *s, int kind) {
  while (s->at[kind] < s->nop) {
    Op *op = &s->op[s->at[kind] % QUEUE];
    if (s->chunk[kind] < op->first + op->nchunk) break;
    s->at[kind]++;
  }
  if (s->at[kind] == s->nop || s->base.broken) return false;
  Op *op = &s->op[s->at[kind] % QUEUE];
  RankBlock *me = &s->seg->rank[s->base.rank];
  uint64_t q = s->chunk[kind];
  if (op->mode == OP_OPEN) {
    if (least(s, offsetof(RankBlock, opened)) < s->at[kind] + 1 || !choose_mode(s, op, s->at[kind])) return false;
  }
  if (op->mode == OP_DIRECT) return (kind == STAGE || s->chunk[STAGE] > q) && step_direct(s, op, kind);
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
bool shared_progress(Comm *c) {
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
