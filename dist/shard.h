/* Sharding: a program's graph as one rank of several runs it. After graph_simplify, before codegen.
 *
 * What a call of `data_next` gives has B samples along axis 0 of its fields (all results but the last two). Wherever
 * the sample that a value belongs to can be read off its index, the value is *sharded*: SHARDED(axis, unit, B) says
 * that axis has B * unit places, and that place i belongs to sample i // unit. Everything else is *replicated*: the
 * same on all ranks. What reads samples in any other way (a scatter over them, a sort, x[b + 1]) is replicated too, and
 * its sharded operands are *gathered* before.
 *
 * On any number of ranks, one included: a float sum over samples is cut by shards (nd_comp_cut), the samples being its
 * outermost iterator, so that its bits are those of TG_SHARDS partial sums joined by the tree (dist/shards.h).
 *
 * On several ranks, rank r of N keeps of a sharded value the places of its samples [lo, hi): those of shards
 * shard_of_rank(r, N) .. shard_of_rank(r + 1, N). Three natives, and two attributes of data_next, do the rest:
 *
 *   data_next    attributes 2.i = lo, 3.i = hi are added; its fields have hi - lo rows. It reads on over the other rows
 *                of the batch; its last two results are those of the whole batch.
 *   coll_start   effect: a bucket of sums. Attributes: 0.s a name for people, 1.i a JoinOp, 2.i (when it is dealt out)
 *                rows of the only sum. In: of each sum the partial
 *                results of the rank's nodes (shard_nodes, ascending; none for a rank without shards), each of the
 *                result's type. Out: 0 the ticket, i64; then a buffer for each sum's result, filled later: all of it,
 *                or the rank's own rows of one that is dealt out.
 *                Types: f32, f64, i64 and bool; the pass casts others before and after.
 *   coll_wait    no effect; one a sum. In: ticket, the sum's buffer, its partial results again (they must live until
 *                here). Out: the result, which may lie in the buffer.
 *   coll_gather  effect. Attributes: 0.s a name, then one .i a rank: the elements that it gives. In: own block, the
 *                samples' axis first: [own * unit, ...]. Out: [B * unit, ...], all blocks in rank order.
 *
 * A large sum may be *dealt out* (shard_deal.c): its value is sharded by its own axis 0, as if that were the samples.
 *
 * Small sums that do not need each other travel in a bucket, in the order in which they are ready (shard_order.c).
 *
 * Collectives are effects of the region where their operand is evaluated. Their order follows from the unsharded graph
 * alone, so all ranks start the same ones in the same order; a start stands as early as its operands allow, before the
 * first effect that needs the result. */
#ifndef TG_DIST_SHARD_H
#define TG_DIST_SHARD_H
#include "graph/native.h"
#include <stdio.h>

/* Which float sums over samples are dealt out: large ones where that pays, none, or all that have an axis (for tests).
 */
typedef enum { DEAL_LARGE, DEAL_NONE, DEAL_ALL } Deal;
typedef struct ShardEnv {
  int rank, nrank;
  Deal deal;                           /* alike on all ranks, and for all numbers of ranks */
  const Native *start, *wait, *gather; /* not looked at when nrank is 1 */
  FILE *notes;                         /* NULL, or where `# ` lines say what was cut, sharded and gathered, and why */
} ShardEnv;

/* Rewrites *r, whose arrays become the graph's. True when it changed. */
bool shard_region(Graph *g, Region *r, const ShardEnv *env);
#endif
