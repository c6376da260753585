/* Thread pool: hand-out, waiting, barrier. See pool.h for the contract.
 *
 * `epoch` counts runs. The starter writes `fn` and `ctx`, sets `pending` to the number of helpers, and releases the
 * next epoch; a helper that sees it change acquires, works, and takes itself off `pending`; the starter acquires its 0.
 *
 * Each lane but the starter's is claimed for an epoch, as a rule by its helper. What is not claimed by the time that
 * the starter is through with its own lane it claims itself: a helper that has no core then (other processes, a virtual
 * machine's host) or still wakes up holds nobody up. A lane is in epoch e - 1 when e begins, so a helper that slept
 * through runs finds its lane taken.
 *
 * Waiting is the same everywhere (wait_change): spin with pause, then announce oneself in a count of sleepers and sleep
 * on the word by futex. Whoever changes the word then looks at the count. Both sides use sequentially consistent order,
 * so either the sleeper sees the new word or the changer sees the sleeper: no wake-up is lost. */
#include "codegen/rt/pool.h"
#include "codegen/rt/float_mode.h"
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LINE 64               /* bytes of a cache line: what different threads write lies apart */
#define STACK_BYTES (2 << 20) /* tasks keep their scratch in the plan's memory, not on the stack */
enum { SPINS_PER_LOOK = 32, SPINS_CROWDED = 64, YIELDS_CROWDED = 16 };

typedef struct Word { /* a 32-bit word that threads wait on */
  _Alignas(LINE) _Atomic uint32_t value;
  _Alignas(LINE) _Atomic uint32_t sleepers;
} Word;

typedef struct Helper {
  RtPool *pool;
  pthread_t thread;
  int lane;
  _Alignas(LINE) _Atomic uint32_t taken; /* the last epoch for which the lane was claimed */
} Helper;

struct RtPool {
  int nlane;
  int crowded; /* more lanes than processors: do not spin for long */
  volatile int *cancel;
  atomic_int busy, stop;
  RtLaneFn fn;
  void *ctx;
  Word epoch;
  Word pending;
  Word gate;                            /* generation of the barrier */
  _Alignas(LINE) _Atomic uint32_t here; /* lanes that have come to the barrier */
  Helper helper[];
};

#if defined(__x86_64__) || defined(__i386__)
static inline void relax(void) { __builtin_ia32_pause(); }
#elif defined(__aarch64__)
static inline void relax(void) { __asm__ volatile("yield"); }
#else
static inline void relax(void) { atomic_signal_fence(memory_order_seq_cst); }
#endif

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void futex_wait(Word *w, uint32_t seen) {
  syscall(SYS_futex, &w->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void wake_sleepers(Word *w) {
  if (atomic_load(&w->sleepers)) syscall(SYS_futex, &w->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static int changed(Word *w, uint32_t seen) { return atomic_load_explicit(&w->value, memory_order_acquire) != seen; }

static int spin(const RtPool *p, Word *w, uint32_t seen) {
  if (p->crowded) {
    for (int i = 0; i < SPINS_CROWDED; i++, relax())
      if (changed(w, seen)) return 1;
    for (int i = 0; i < YIELDS_CROWDED; i++, sched_yield())
      if (changed(w, seen)) return 1;
    return 0;
  }
  for (int64_t end = 0;;) {
    for (int i = 0; i < SPINS_PER_LOOK; i++, relax())
      if (changed(w, seen)) return 1;
    int64_t t = now_ns();
    if (!end) end = t + RT_SPIN_NS;
    if (t >= end) return 0;
  }
}

/* Returns when w no longer holds `seen`, with what its changer wrote before visible. */
static void wait_change(const RtPool *p, Word *w, uint32_t seen) {
  if (spin(p, w, seen)) return;
  atomic_fetch_add(&w->sleepers, 1);
  while (atomic_load(&w->value) == seen) futex_wait(w, seen);
  atomic_fetch_sub(&w->sleepers, 1);
}

static int claim(Helper *h, uint32_t epoch) {
  uint32_t before = epoch - 1;
  return atomic_compare_exchange_strong(&h->taken, &before, epoch);
}

static void *helper_main(void *arg) {
  Helper *h = arg;
  RtPool *p = h->pool;
  rt_float_mode_default(); /* not the starter's, as it happens to be */
  for (uint32_t seen = 0;;) {
    wait_change(p, &p->epoch, seen);
    seen = atomic_load_explicit(&p->epoch.value, memory_order_acquire); /* before `stop`, whose epoch is none's */
    if (atomic_load_explicit(&p->stop, memory_order_relaxed)) return NULL;
    if (!claim(h, seen)) continue;
    p->fn(p->ctx, h->lane, p->nlane);
    atomic_fetch_sub(&p->pending.value, 1);
    wake_sleepers(&p->pending);
  }
}

int rt_pool_processors(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  long n = sysconf(_SC_NPROCESSORS_ONLN); /* more processors than cpu_set_t holds */
  return n > 0 && n < INT_MAX ? (int)n : 1;
}

/* Helpers take no signals: Ctrl-C is the starter's. */
static int start_helpers(RtPool *p, int want) {
  sigset_t all, old;
  pthread_attr_t attr;
  if (pthread_attr_init(&attr)) return 0;
  pthread_attr_setstacksize(&attr, STACK_BYTES);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int n = 0;
  for (; n < want; n++) {
    p->helper[n].pool = p, p->helper[n].lane = n + 1;
    atomic_init(&p->helper[n].taken, 0);
    if (pthread_create(&p->helper[n].thread, &attr, helper_main, &p->helper[n])) break;
  }
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  pthread_attr_destroy(&attr);
  return n;
}

static int clamp_lanes(int nlane) { return nlane < 1 ? 1 : nlane > RT_MAX_LANES ? RT_MAX_LANES : nlane; }

size_t rt_pool_bytes(int nlane) {
  size_t bytes = sizeof(RtPool) + (size_t)(clamp_lanes(nlane) - 1) * sizeof(Helper);
  return (bytes + LINE - 1) / LINE * LINE;
}

RtPool *rt_pool_start(void *memory, int nlane) {
  RtPool *p = memory;
  nlane = clamp_lanes(nlane);
  p->nlane = 1;
  p->crowded = nlane > rt_pool_processors();
  p->cancel = NULL;
  p->fn = NULL, p->ctx = NULL;
  atomic_init(&p->busy, 0), atomic_init(&p->stop, 0), atomic_init(&p->here, 0);
  Word *words[] = {&p->epoch, &p->pending, &p->gate};
  for (int i = 0; i < 3; i++) atomic_init(&words[i]->value, 0), atomic_init(&words[i]->sleepers, 0);
  p->nlane = 1 + start_helpers(p, nlane - 1); /* read by helpers after the first epoch only */
  return p;
}

RtPool *rt_pool_new(int nlane) {
  void *memory = aligned_alloc(LINE, rt_pool_bytes(nlane));
  return memory ? rt_pool_start(memory, nlane) : NULL;
}

static void release_epoch(RtPool *p) {
  atomic_fetch_add(&p->epoch.value, 1);
  wake_sleepers(&p->epoch);
}

void rt_pool_stop(RtPool *p) {
  atomic_store_explicit(&p->stop, 1, memory_order_relaxed);
  release_epoch(p);
  for (int i = 0; i < p->nlane - 1; i++) pthread_join(p->helper[i].thread, NULL);
}

void rt_pool_free(RtPool *p) {
  if (!p) return;
  rt_pool_stop(p);
  free(p);
}

int rt_pool_lanes(const RtPool *p) { return p->nlane; }
void rt_pool_cancel_flag(RtPool *p, volatile int *flag) { p->cancel = flag; }
int rt_pool_cancelled(const RtPool *p) { return p->cancel && __atomic_load_n(p->cancel, __ATOMIC_RELAXED); }

void rt_pool_run(RtPool *p, RtLaneFn fn, void *ctx) {
  if (p->nlane == 1 || atomic_exchange_explicit(&p->busy, 1, memory_order_acquire)) {
    fn(ctx, 0, 1);
    return;
  }
  p->fn = fn, p->ctx = ctx;
  atomic_store_explicit(&p->pending.value, (uint32_t)(p->nlane - 1), memory_order_relaxed);
  release_epoch(p);
  uint32_t epoch = atomic_load_explicit(&p->epoch.value, memory_order_relaxed);
  fn(ctx, 0, p->nlane);
  for (int i = 0; i < p->nlane - 1; i++) {
    if (!claim(&p->helper[i], epoch)) continue;
    fn(ctx, i + 1, p->nlane);
    atomic_fetch_sub(&p->pending.value, 1);
  }
  for (uint32_t left; (left = atomic_load_explicit(&p->pending.value, memory_order_acquire));)
    wait_change(p, &p->pending, left);
  atomic_store_explicit(&p->busy, 0, memory_order_release);
}

typedef struct TaskRun {
  RtPool *pool;
  RtTaskFn fn;
  void *ctx;
  int64_t ntask;
  atomic_int stopped;
} TaskRun;

static void task_lane(void *ctx, int lane, int nlane) {
  TaskRun *r = ctx;
  int64_t hi = rt_lane_lo(r->ntask, lane + 1, nlane);
  for (int64_t t = rt_lane_lo(r->ntask, lane, nlane); t < hi; t++) {
    if (rt_pool_cancelled(r->pool)) {
      atomic_store_explicit(&r->stopped, 1, memory_order_relaxed);
      return;
    }
    r->fn(r->ctx, t, lane);
  }
}

RtStatus rt_pool_for(RtPool *p, int64_t ntask, RtTaskFn fn, void *ctx) {
  TaskRun r = {.pool = p, .fn = fn, .ctx = ctx, .ntask = ntask};
  if (ntask == 1)
    task_lane(&r, 0, 1); /* no need to wake anybody */
  else if (ntask > 1)
    rt_pool_run(p, task_lane, &r);
  return atomic_load_explicit(&r.stopped, memory_order_relaxed) ? RT_INTERRUPTED : RT_OK;
}

void rt_pool_barrier(RtPool *p, int nlane) {
  if (nlane == 1) return;
  uint32_t gen = atomic_load_explicit(&p->gate.value, memory_order_relaxed);
  if (atomic_fetch_add_explicit(&p->here, 1, memory_order_acq_rel) + 1 == (uint32_t)nlane) {
    atomic_store_explicit(&p->here, 0, memory_order_relaxed);
    atomic_fetch_add(&p->gate.value, 1);
    wake_sleepers(&p->gate);
  } else {
    wait_change(p, &p->gate, gen);
  }
}
