/* Stages of a kernel as loop nests (inside the emitters of kernels). */
#ifndef TG_CODEGEN_CPU_STAGE_H
#define TG_CODEGEN_CPU_STAGE_H
#include "codegen/cpu/sched.h"

/* A loop's body: reads and replaces the carried values. May be called several times (main part, tail). */
typedef void (*BodyFn)(Em *E, void *ctx, LLVMValueRef *carry);

/* iterator k runs over base .. base + n (n < 0: nrt, a run-time count of at least 1; base NULL: 0), one by one or as
 * vectors with a masked tail. extent: of the iterator, for proofs. n == 0: nothing is emitted. */
void em_for(Em *E, int k, LLVMValueRef base, int64_t n, LLVMValueRef nrt, int64_t extent, int nc, LLVMValueRef *carry,
            BodyFn body, void *ctx);
void em_vec_for(Em *E, int k, LLVMValueRef base, int64_t n, LLVMValueRef nrt, int64_t extent, int nc,
                LLVMValueRef *carry, BodyFn body, void *ctx);

/* em_for whose strided accesses by the lanes (in the stages st[0..nst)) go through transposed blocks where they can.
 * `down`: from the last position to the first; n must be static then. */
void em_tiled_for(Em *E, int k, LLVMValueRef base, int64_t n, LLVMValueRef nrt, int64_t extent, int nc,
                  LLVMValueRef *carry, BodyFn body, void *ctx, const Stage *st, int nst, bool down);

/* Everything at one point (or vector of points), the builder being at E->depth == E->point_level. */
void em_groups(Em *E, const Sched *s, int first);
/* Iterators of the group that are 0. */
void em_bind_zero(Em *E, uint64_t zero, int level);
/* Body of a stage, guard and casts included; stores. */
void em_map_stage(Em *E, const Sched *s, const Stage *st);
void em_store_stage(Em *E, const Stage *st, Val x, DType from);
void em_scatter_function(Em *E, const Kernel *k, const Sched *s);
enum { TG_SCATTER_RANK = 32 };

/* ---- emit_cut.c: loops in pieces --------------------------------------------------------------------------------- */
enum { EM_CUTS = 7 };
/* Where the maps st[0..nst), in a loop over 0 .. extent of iterator iter, should be cut: ascending; returns how many.
 */
int em_cuts(Em *E, const Stage *st, int nst, int iter, int64_t extent, int64_t *at);
/* st for lo <= iter < hi. */
Stage em_piece(Em *E, const Stage *st, int iter, int64_t lo, int64_t hi);

/* ---- reduce.c ---------------------------------------------------------------------------------------------------- */
/* The reductions (and maps between them) of a group, at the current own point. `vec`: accumulators are vectors over
 * points or own outputs. Results go to the stages' buffers. */
void em_reduce_group(Em *E, const Sched *s, const SGroup *g, bool vec);
/* Column schedule (sched.h): the first reduction for all points of the unit, into memory; then its value at the current
 * vector of points goes to the stage's buffer. */
void em_column_pass(Em *E, const Sched *s);
void em_column_value(Em *E, const Sched *s);
/* Phase 0 of a split reduction: chunk E->part at the current point(s), into shared memory. */
void em_first_chunk(Em *E, const Sched *s);
LLVMValueRef em_identity(Em *E, Reduce op, DType t); /* of the width E->vec */
LLVMValueRef em_combine(Em *E, Reduce op, DType t, LLVMValueRef a, LLVMValueRef b);
#endif
