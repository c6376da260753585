/* The thread pool: every task once, happens-before, nesting, barrier, cancellation, more lanes than processors, threads
 * without a core. */
#include "codegen/rt/pool.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const int lanes[] = {1, 2, 3, 8};
enum { NLANES = sizeof lanes / sizeof *lanes };

Test(rt_pool, split_covers_and_ascends) {
  static const int64_t sizes[] = {0, 1, 2, 7, 8, 9, 1000, INT64_MAX};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
    for (int n = 1; n <= 9; n++) {
      cr_assert_eq(rt_lane_lo(sizes[s], 0, n), 0);
      cr_assert_eq(rt_lane_lo(sizes[s], n, n), sizes[s]);
      for (int l = 0; l < n; l++) {
        int64_t lo = rt_lane_lo(sizes[s], l, n), hi = rt_lane_lo(sizes[s], l + 1, n);
        cr_assert(lo <= hi && hi - lo - 1 <= sizes[s] / n && hi - lo >= sizes[s] / n);
        if (sizes[s] < 10000) cr_assert_eq(lo, sizes[s] * l / n);
      }
    }
}

typedef struct Seen {
  int64_t n;
  int nlane;
  int64_t last[16];
  int hits[10000];
  int bad;
} Seen;
static void note_task(void *ctx, int64_t t, int lane) {
  Seen *s = ctx;
  s->hits[t]++; /* its own element */
  if (t <= s->last[lane]) s->bad = 1;
  s->last[lane] = t;
  if (t < rt_lane_lo(s->n, lane, s->nlane) || t >= rt_lane_lo(s->n, lane + 1, s->nlane)) s->bad = 1;
}

Test(rt_pool, every_task_once_in_its_lane) {
  static Seen s;
  for (int k = 0; k < NLANES; k++) {
    RtPool *p = rt_pool_new(lanes[k]);
    cr_assert_eq(rt_pool_lanes(p), lanes[k]);
    for (int64_t n = 0; n <= 10000; n = n * 3 + 1) {
      memset(&s, 0, sizeof s);
      memset(s.last, -1, sizeof s.last);
      s.n = n, s.nlane = n == 1 ? 1 : lanes[k];
      cr_assert_eq(rt_pool_for(p, n, note_task, &s), RT_OK);
      for (int64_t t = 0; t < n; t++) cr_assert_eq(s.hits[t], 1);
      cr_assert_not(s.bad);
    }
    rt_pool_free(p);
  }
}

typedef struct Chain {
  RtPool *pool;
  int64_t value[8];
  int bad;
} Chain;
static void add_neighbour(void *ctx, int lane, int nlane) {
  Chain *c = ctx; /* reads what another lane wrote in the previous run */
  int64_t mine = c->value[(lane + 1) % nlane];
  rt_pool_barrier(c->pool, nlane);
  c->value[lane] = mine + 1;
}

Test(rt_pool, runs_happen_one_after_another) {
  for (int k = 0; k < NLANES; k++) {
    Chain c = {.pool = rt_pool_new(lanes[k])};
    for (int i = 0; i < 500; i++) rt_pool_run(c.pool, add_neighbour, &c);
    for (int l = 0; l < lanes[k]; l++) cr_assert_eq(c.value[l], 500);
    rt_pool_free(c.pool);
  }
}

static void rounds(void *ctx, int lane, int nlane) {
  Chain *c = ctx;
  for (int i = 1; i <= 300; i++) {
    c->value[lane] = i;
    rt_pool_barrier(c->pool, nlane);
    for (int l = 0; l < nlane; l++)
      if (c->value[l] != i) __atomic_store_n(&c->bad, 1, __ATOMIC_RELAXED);
    rt_pool_barrier(c->pool, nlane);
  }
}

Test(rt_pool, barrier_separates) {
  for (int k = 0; k < NLANES; k++) {
    Chain c = {.pool = rt_pool_new(lanes[k])};
    rt_pool_run(c.pool, rounds, &c);
    cr_assert_not(c.bad);
    rt_pool_free(c.pool);
  }
}

typedef struct Nest {
  RtPool *pool;
  int64_t sum[64];
  int inner_lanes;
} Nest;
static void inner(void *ctx, int64_t t, int lane) { *(int64_t *)ctx += t + 1000 * lane; }
static void inner_lane(void *ctx, int lane, int nlane) { *(int *)ctx = lane == 0 ? nlane : -1; }
static void outer(void *ctx, int64_t t, int lane) {
  Nest *n = ctx;
  rt_pool_for(n->pool, 10, inner, &n->sum[t]);
  int got = 0;
  rt_pool_run(n->pool, inner_lane, &got);
  if (got != 1) __atomic_store_n(&n->inner_lanes, got, __ATOMIC_RELAXED);
}

Test(rt_pool, nested_runs_are_inline) {
  for (int k = 1; k < NLANES; k++) {
    Nest n = {.pool = rt_pool_new(lanes[k]), .inner_lanes = 1};
    cr_assert_eq(rt_pool_for(n.pool, 64, outer, &n), RT_OK);
    for (int t = 0; t < 64; t++) cr_assert_eq(n.sum[t], 45);
    cr_assert_eq(n.inner_lanes, 1);
    rt_pool_free(n.pool);
  }
}

typedef struct Stop {
  volatile int flag;
  int64_t ran;
} Stop;
static void stop_at_ten(void *ctx, int64_t t, int lane) {
  Stop *s = ctx;
  if (__atomic_add_fetch(&s->ran, 1, __ATOMIC_RELAXED) == 10) __atomic_store_n(&s->flag, 1, __ATOMIC_RELAXED);
}

Test(rt_pool, cancellation_stops_and_pool_lives_on) {
  for (int k = 0; k < NLANES; k++) {
    RtPool *p = rt_pool_new(lanes[k]);
    Stop s = {0};
    rt_pool_cancel_flag(p, &s.flag);
    cr_assert_eq(rt_pool_for(p, 1000000, stop_at_ten, &s), RT_INTERRUPTED);
    cr_assert(s.ran >= 10 && s.ran < 1000000);
    cr_assert(rt_pool_cancelled(p));
    s.flag = 0, s.ran = 100;
    cr_assert_eq(rt_pool_for(p, 100, stop_at_ten, &s), RT_OK);
    cr_assert_eq(s.ran, 200);
    rt_pool_free(p);
  }
}

typedef struct Foreign {
  RtPool *pool;
  int64_t hits[40];
} Foreign;
static void hit(void *ctx, int64_t t, int lane) { ((Foreign *)ctx)->hits[t]++; }
static void *hammer(void *arg) {
  Foreign *f = arg;
  for (int i = 0; i < 300; i++) rt_pool_for(f->pool, 40, hit, f);
  return NULL;
}

Test(rt_pool, two_threads_start_runs) {
  RtPool *p = rt_pool_new(3);
  Foreign a = {.pool = p}, b = {.pool = p};
  pthread_t t;
  cr_assert_eq(pthread_create(&t, NULL, hammer, &a), 0);
  hammer(&b);
  pthread_join(t, NULL);
  for (int i = 0; i < 40; i++) cr_assert(a.hits[i] == 300 && b.hits[i] == 300);
  rt_pool_free(p);
}

Test(rt_pool, wakes_after_sleep) {
  RtPool *p = rt_pool_new(4);
  Chain c = {.pool = p};
  for (int i = 0; i < 10; i++) {
    nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL); /* far over the spin time */
    rt_pool_run(p, add_neighbour, &c);
  }
  for (int l = 0; l < 4; l++) cr_assert_eq(c.value[l], 10);
  rt_pool_free(p);
}

typedef struct Who {
  pthread_t caller;
  int64_t hits[4], by_caller; /* of lanes 1 to 3 */
  _Atomic int begun;
} Who;
static void note_who(void *ctx, int lane, int nlane) {
  Who *w = ctx;
  (void)nlane;
  w->hits[lane]++;
  if (lane && pthread_equal(pthread_self(), w->caller)) w->by_caller++; /* no other thread writes it */
}
static void wait_for_all(void *ctx, int lane, int nlane) {
  Who *w = ctx;
  w->begun++;
  while (lane == 0 && w->begun < nlane) sched_yield();
  note_who(ctx, lane, nlane);
}

/* All threads on one core: who begins there has it to itself for longer than a run takes. */
Test(rt_pool, lanes_of_threads_without_a_core_run_on_the_caller) {
  enum { RUNS = 5000 };
  Who w = {.caller = pthread_self()};
  cpu_set_t all, one;
  RtPool *p = rt_pool_new(4);
  cr_assert_eq(sched_getaffinity(0, sizeof all, &all), 0);
  CPU_ZERO(&one);
  for (int c = 0; c < CPU_SETSIZE; c++)
    if (CPU_ISSET(c, &all) && !CPU_COUNT(&one)) CPU_SET(c, &one);
  DIR *d = opendir("/proc/self/task");
  for (struct dirent *e; d && (e = readdir(d));)
    if (atoi(e->d_name)) sched_setaffinity(atoi(e->d_name), sizeof one, &one);
  if (d) closedir(d);
  for (int k = 0; k < RUNS; k++) rt_pool_run(p, note_who, &w);
  for (int l = 0; l < 4; l++) cr_assert_eq(w.hits[l], RUNS);
  cr_assert_gt(w.by_caller, 0);
  w = (Who){.caller = pthread_self()};
  rt_pool_run(p, wait_for_all, &w);
  for (int l = 0; l < 4; l++) cr_assert_eq(w.hits[l], 1);
  cr_assert_eq(w.by_caller, 0, "the caller was not through with its own lane");
  rt_pool_free(p);
}

Test(rt_pool, odd_sizes_are_clamped) {
  RtPool *p = rt_pool_new(0);
  cr_assert_eq(rt_pool_lanes(p), 1);
  rt_pool_free(p);
  p = rt_pool_new(-5);
  cr_assert_eq(rt_pool_lanes(p), 1);
  rt_pool_free(p);
  rt_pool_free(NULL);
}

Test(rt_status, every_code_has_a_text) {
  for (int s = RT_OK; s <= RT_ROUTINE; s++) cr_assert_str_neq(rt_status_text(s), rt_status_text(-1));
  cr_assert_str_eq(rt_status_text(99), "unknown status");
}
