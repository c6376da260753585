/* Collectives as natives: what the sharding pass puts into a graph (shard.h), and what the host hands to every native.
 *
 *   coll_start   effect; a bucket of sums, or one that is dealt out
 *   coll_wait    one of its results
 *   coll_gather  effect; all blocks one after another
 *
 * What they take and give stands in shard.h.
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
