/* Thread pool: a fixed set of lanes that walk the same work together.
 *
 * A pool of L lanes is the calling thread (lane 0) and L - 1 threads that live as long as the pool. Between runs they
 * spin (RT_SPIN_NS) and then sleep; a run started while they spin costs well under a microsecond to hand out. When
 * there are more lanes than processors they yield and sleep early instead of spinning.
 *
 * Results must not depend on the number of lanes: that is the caller's duty, kept by letting every task write its own
 * elements and by fixing the order of every reduction beforehand. The pool does its part: the split below is static.
 *
 * One run at a time: a call made while a run is in progress (from inside a task, or from another thread) does its work
 * inline on the calling thread, as lane 0 of 1. A task must not block on another task except through rt_pool_barrier.
 */
#ifndef TG_CODEGEN_RT_POOL_H
#define TG_CODEGEN_RT_POOL_H
#include "codegen/rt/status.h"
#include <stddef.h>
#include <stdint.h>

/* Longer than lanes wait for each other within a step, also for one that was off its core for a while: to wake a lane
 * that sleeps costs more than most kernels take, on a virtual machine 50 to 200 us. */
#define RT_SPIN_NS 5000000

typedef struct RtPool RtPool;
typedef void (*RtLaneFn)(void *ctx, int lane, int nlane);
typedef void (*RtTaskFn)(void *ctx, int64_t task, int lane);

/* nlane is clamped to 1..RT_MAX_LANES; when the system refuses threads the pool has fewer lanes. NULL: no memory. */
#define RT_MAX_LANES 1024
RtPool *rt_pool_new(int nlane);
/* Ends and joins the threads. No run may be in progress. NULL is allowed. */
void rt_pool_free(RtPool *p);
/* The same in the caller's memory, rt_pool_bytes of it, aligned to 64 bytes. stop: ends and joins the threads. */
size_t rt_pool_bytes(int nlane);
RtPool *rt_pool_start(void *memory, int nlane);
void rt_pool_stop(RtPool *p);
int rt_pool_processors(void); /* that this process may use */
int rt_pool_lanes(const RtPool *p);

/* Where a Ctrl-C handler leaves its mark: non-zero asks rt_pool_for to start no further task. NULL: never. The handler
 * writes it as an int (use __atomic_store_n for one that other threads read). Not to be called during a run. */
void rt_pool_cancel_flag(RtPool *p, volatile int *flag);
int rt_pool_cancelled(const RtPool *p);

/* Calls fn(ctx, lane, nlane) once for every lane, concurrently, and returns when all have returned; a lane whose thread
 * has not begun when the caller is through with lane 0 runs on the caller. What was written before the call is seen by
 * the lanes, and what they wrote is seen after it. */
void rt_pool_run(RtPool *p, RtLaneFn fn, void *ctx);

/* fn(ctx, t, lane) for t in 0..ntask; lane l of L gets the tasks rt_lane_lo(ntask, l, L) .. rt_lane_lo(ntask, l + 1, L)
 * in ascending order. RT_INTERRUPTED: the flag was set, and some tasks were not run. */
RtStatus rt_pool_for(RtPool *p, int64_t ntask, RtTaskFn fn, void *ctx);

/* Inside a lane function, called by all nlane lanes: none leaves before all have come. */
void rt_pool_barrier(RtPool *p, int nlane);

/* floor(n * l / L) without overflow; n >= 0, 0 <= l <= L. */
static inline int64_t rt_lane_lo(int64_t n, int lane, int nlane) {
  int64_t q = n / nlane, r = n % nlane;
  return q * lane + r * lane / nlane;
}
#endif
