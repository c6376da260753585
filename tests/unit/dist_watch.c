/* Who is stopped and who is only slow, by a clock that the test turns. */
#include "dist/watch.h"
#include "dist/comm.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A process that waits for signals; stopped: until the system says so. */
static int process(void) {
  int pid = fork();
  cr_assert(pid >= 0);
  while (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pause();
  }
  return pid;
}
static void stop(int pid) {
  kill(pid, SIGSTOP);
  while (!process_is_stopped(pid)) usleep(1000);
}
static void go_on(int pid) {
  kill(pid, SIGCONT);
  while (process_is_stopped(pid)) usleep(1000);
}
static void end(int pid) {
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
}

/* Looks every `step` milliseconds in (from, to]; the time of the first look that judges, 0: none does. The last sign of
 * life was at 0. */
static int64_t judged(Watch *w, int pid, int64_t from, int64_t to, int64_t step) {
  for (int64_t now = from + step; now <= to; now += step)
    if (watch_look(w, now) && watch_is_silent(w, 1, now, 0, pid)) return now;
  return 0;
}

Test(dist, a_stopped_process_is_soon_known) {
  int pid = process();
  Watch w;
  stop(pid);
  watch_begin(&w, 0);
  int64_t at = judged(&w, pid, 0, 20000, 100);
  cr_assert(at > 2900 && at < 3500, "%lld ms", (long long)at);
  end(pid);
}

Test(dist, a_slow_process_is_not_stopped) {
  int pid = process();
  Watch w;
  watch_begin(&w, 0);
  cr_assert_eq(judged(&w, pid, 0, 60000, 100), 0);
  cr_assert_eq(judged(&w, pid, 60000, 70000, 100), 60100);
  cr_assert_eq(judged(&w, 0, 0, 50000, 100), 0, "nothing is known of it");
  end(pid);
}

/* Where nobody gets his turn for seconds, the end of a stopped one is not put off by as many again. */
Test(dist, a_watchers_naps_put_nothing_off) {
  int pid = process();
  Watch w;
  stop(pid);
  watch_begin(&w, 0);
  cr_assert_eq(judged(&w, pid, 0, 1500, 100), 0);
  int64_t at = judged(&w, pid, 4000, 20000, 100);
  cr_assert(at > 4000 && at < 4500, "%lld ms", (long long)at);
  watch_begin(&w, 0);
  at = judged(&w, pid, 0, 20000, 600);
  cr_assert(at > 0 && at <= 600 * (WATCH_LOOKS + 1), "%lld ms", (long long)at);
  end(pid);
}

/* Ctrl-Z stops all, and `fg` wakes them one after the other. */
Test(dist, who_was_stopped_too_does_not_judge_at_once) {
  int pid = process();
  Watch w;
  stop(pid);
  watch_begin(&w, 0);
  cr_assert_eq(judged(&w, pid, 0, 600, 100), 0);
  cr_assert_eq(judged(&w, pid, 3600000, 3600000 + 200, 100), 0);
  go_on(pid);
  cr_assert_eq(judged(&w, pid, 3600200, 3600000 + 1000 * COMM_PATIENCE, 100), 0);
  end(pid);
}

Test(dist, looks_too_close_do_not_count) {
  Watch w;
  watch_begin(&w, 1000);
  cr_assert(!watch_look(&w, 1000 + WATCH_EVERY_MS - 1));
  cr_assert(watch_look(&w, 1000 + WATCH_EVERY_MS));
}

/* The group is told once, and whoever waits learns the name and the reason. */
Test(dist, signs_of_life_of_the_group) {
  int pid = process();
  CommSegment *seg = comm_segment_new(2);
  cr_assert(seg != NULL);
  Comm *c = comm_shared(seg, 0);
  Watch w;
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  int64_t start = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
  stop(pid);
  watch_begin(&w, start);
  int64_t now = start;
  while (now < start + 20000 && !(watch_look(&w, now += 100) && comm_segment_is_silent(seg, &w, 1, pid))) {}
  cr_assert(now > start + 2900 && now < start + 3700, "%lld ms", (long long)(now - start));
  cr_assert_eq(comm_segment_culprit(seg), 1);
  char want[80];
  snprintf(want, sizeof want, "does not answer for 3 s (process %d is stopped)", pid);
  cr_assert_str_eq(comm_segment_why(seg, 1), want);
  CommFault f;
  cr_assert(!comm_barrier(c, &f) && f.rank == 1 && strstr(f.msg, "rank 1: does not answer for 3 s"), "%s", f.msg);
  comm_free(c);
  comm_segment_drop(seg);
  end(pid);
}
