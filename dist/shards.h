/* Shards of a global batch, and the tree that joins what is summed over them.
 *
 * A batch of B samples is always cut into TG_SHARDS shards, whatever the number of ranks: shard s holds samples
 * s * L up to (s + 1) * L with L = ceil(B / V), as far as there are any: kernels cut equal shards cheaply. A sum over
 * the batch is one partial sum a shard, joined by the aligned binary tree ((0 1)(2 3))((4 5)(6 7)). So the tree's
 * shape, and with it every bit of the result, depends on the program only.
 *
 * A rank owns consecutive shards. It sends the *maximal complete nodes* of the tree within them: what it could join
 * already without changing the tree. Rank 1 of 3 owns shards 2..4 and sends the nodes [2, 4) and [4, 5). An empty
 * shard's partial sum is -0.0, the identity of IEEE addition, so that ragged batches need no special case. */
#ifndef TG_DIST_SHARDS_H
#define TG_DIST_SHARDS_H
#include <stdbool.h>
#include <stdint.h>

enum { TG_SHARDS = 8, TG_MAX_NODES = 6 }; /* nodes of one rank: at most two a level */

/* First sample of shard s of a batch of `rows`; s = TG_SHARDS gives rows. */
int64_t shard_lo(int64_t rows, int s);
/* First shard of a rank; rank = nrank gives TG_SHARDS. Ranks beyond TG_SHARDS own none. */
int shard_of_rank(int rank, int nrank);

/* First of `rows` rows that belong to a rank: those of its shards; rank = nrank gives rows. */
static inline int64_t shard_row(int64_t rows, int rank, int nrank) {
  return shard_lo(rows, shard_of_rank(rank, nrank));
}

/* Node [lo, hi) of the tree: hi - lo is a power of two that divides lo. */
typedef struct ShardNode {
  int lo, hi;
} ShardNode;
/* The maximal complete nodes within shards [lo, hi), ascending; returns their number. */
int shard_nodes(int lo, int hi, ShardNode node[TG_MAX_NODES]);

/* What is joined. Sums of floats are the ones whose order matters; the others are exact in any order. */
typedef enum { JOIN_SUM, JOIN_MAX, JOIN_MIN, JOIN_OR, JOIN_COUNT } JoinOp;
typedef enum { JOIN_F32, JOIN_F64, JOIN_I64, JOIN_U8, JOIN_TYPES } JoinType;
int join_bytes(JoinType t);
/* out[i] = a[i] op b[i], n of them; out may be a or b. */
void join(JoinOp op, JoinType t, int64_t n, const void *a, const void *b, void *out);
/* Joins nodes that cover [0, TG_SHARDS) (part[k]: the n values of node[k]) by the tree into out, which is none of them.
 * scratch: room for n values times shard_depth. */
void join_tree(JoinOp op, JoinType t, int64_t n, int nnode, const ShardNode *node, const void *const *part, void *out,
               void *scratch);
/* The same inside one rank: joins the partials of shards [node.lo, node.hi), part[0] being node.lo's. */
void join_node(JoinOp op, JoinType t, int64_t n, ShardNode node, const void *const *part, void *out, void *scratch);
enum { TG_SHARD_DEPTH = 3 };
/* Where rank r's share of n elements begins that it joins for all: whole cache lines; r = nrank gives n. */
int64_t shard_share(int64_t n, int r, int nrank, int bytes);
#endif
