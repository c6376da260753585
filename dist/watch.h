/* Whose silence is a fault: what one watcher (the thread of a rank that gives its signs of life, or the launcher) has
 * seen of the processes of its host.
 *
 * A process that the system calls stopped at every look for COMM_PATIENCE_STOPPED seconds is at fault. Looks are
 * counted: a watcher that sleeps (on a full machine, or stopped itself) learns nothing meanwhile, but forgets nothing
 * either, so its naps don't put off the end; and after one long nap it has not yet looked often enough to judge. Any
 * other process is only slow: it has COMM_PATIENCE_ALIVE seconds. */
#ifndef TG_DIST_WATCH_H
#define TG_DIST_WATCH_H
#include <stdbool.h>
#include <stdint.h>

enum { WATCH_MOST = 64, WATCH_LOOKS = 10, WATCH_EVERY_MS = 50, WATCH_QUIET_MS = 500 };
typedef struct Watch {
  int64_t awake, looked; /* milliseconds: since when the watcher has watched without a nap; its last look */
  struct WatchStopped {
    int64_t since; /* first of the looks in a row at which the process was stopped */
    int looks;     /* their number */
  } stopped[WATCH_MOST];
} Watch;

/* `now`: milliseconds of a monotonic clock, here and below. */
void watch_begin(Watch *w, int64_t now);
/* Begins a look at all ranks, unless the last one was less than WATCH_EVERY_MS ago. */
bool watch_look(Watch *w, int64_t now);
/* In each look, for each rank: is its silence since `beat` a fault? Asks the system after WATCH_QUIET_MS. pid 0: not
 * known. */
bool watch_is_silent(Watch *w, int rank, int64_t now, int64_t beat, int pid);
/* Stopped by a signal or a debugger, as the system says. */
bool process_is_stopped(int pid);
#endif
