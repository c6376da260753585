/* Schedule of a kernel on the CPU: decided from extents and accesses alone, before any LLVM.
 *
 *   points   P axes after dropping those of extent 1 and merging neighbours that every access walks as one. Units of the
 *            kernel are points, or (vp >= 0) pieces of `chunk` points along axis vp for each point of the other axes
 *   vp       P axis whose points lie side by side in the lanes of vectors: all stages run for `width` points at once and
 *            own and reduction axes are scalar loops. -1: points one by one, each stage finds a vector axis inside
 *   group    consecutive stages over the same own/reduction axes whose loops are one: a map and the reductions that
 *            follow it at the same place
 *
 * Iterators that were dropped or merged away are 0; the last of merged ones runs over the product. */
#ifndef TG_CODEGEN_CPU_SCHED_H
#define TG_CODEGEN_CPU_SCHED_H
#include "codegen/cpu/emit.h"

enum { LANE = 16, NACC = 4, MAX_RED = 12 /* reductions in one loop */ };

typedef struct Axis {
  int iter;
  int64_t n;
} Axis;

typedef enum { VEC_NONE, VEC_POINT, VEC_OWN, VEC_INNER } VecPlace;

typedef struct SGroup {
  int first, n;   /* stages */
  VecPlace vec;   /* where the lanes are: points, last own axis, innermost reduction axis */
  int nown, nred; /* axes after merging; own of a MAP is listed as reduction when it shares a reduction's loop */
  Axis own[EM_ITERS], red[EM_ITERS];
  uint64_t zero; /* iterators of these stages bound to 0 */
  bool reduces;
} SGroup;

typedef struct Sched {
  int naxis;
  Axis axis[EM_ITERS]; /* merged P axes */
  uint64_t zero;       /* P iterators bound to 0 */
  int vp;              /* index into axis, or -1 */
  int64_t chunk, nchunk, units;
  int tile; /* P axis along which strided accesses are neighbours: runs inside vp, in blocks; or -1 */
  int64_t tile_block, ntile;
  bool column; /* group 0 is a chain over rows of contiguous points: rows outside, the unit's points inside,
                * accumulators in memory */
  int ngroup;
  SGroup *group;
  int64_t **stride;           /* by buffer: ROW strides (elements) a dim */
  size_t *row_off, *part_off; /* lane scratch: ROW buffers; partial results by stage */
  size_t lane_bytes;
  double cost; /* ns a unit */
  /* A long first reduction over few units: phase 0 runs units * nparts chunks, whose values go to shared memory; phase
   * 1 joins them and does the rest. part_bytes: shared memory of a unit */
  bool split;
  size_t shared_bytes, part_bytes;
  int64_t nparts;
  double cost0;
} Sched;

void sched_kernel(const Kernel *k, const Isa *isa, Arena *a, int width, Sched *s);
bool sched_ordered(const Stage *s); /* a reduction whose order shows in the bits */
#endif
