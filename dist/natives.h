/* Collectives as natives: what the sharding pass puts into a graph (shard.h), and what the host hands to every native.
 *
 *   coll_start   effect; attributes 0.s a name for people, 1.i a JoinOp; in: the rank's nodes of the tree, ascending
 *                (comm_nodes; none for a rank without shards), all of the result's type; out: the result's buffer,
 * which is filled later, and a ticket i64 coll_wait    in: ticket, buffer, the nodes again (they must live until here);
 * out: the result coll_gather  effect; attributes 0.s name, then for each rank the elements it gives; in: own block;
 * out: all blocks one after another
 *
 * Types: f32 f64 i64 bool u8 are joined; anything is gathered. A broken group is the fault R_RANK. */
#ifndef TG_DIST_NATIVES_H
#define TG_DIST_NATIVES_H
#include "dist/comm.h"
#include "graph/native.h"

extern const Native native_coll_start, native_coll_wait, native_coll_gather;

/* The ranks as natives see them. The Comm stays the caller's. */
NativeRanks ranks_of_comm(Comm *c);
#endif
