/* Tells processes that are stopped from slow ones. */
#include "dist/watch.h"
#include "dist/comm.h"
#include <stdio.h>
#include <string.h>

void watch_begin(Watch *w, int64_t now) { *w = (Watch){.awake = now, .looked = now}; }

bool watch_look(Watch *w, int64_t now) {
  if (now - w->looked < WATCH_EVERY_MS) return false;
  if (now - w->looked > 1000 * COMM_NAP) w->awake = now;
  w->looked = now;
  return true;
}

bool process_is_stopped(int pid) {
  char path[40], text[512] = "";
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *f = pid > 0 ? fopen(path, "r") : NULL;
  size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
  if (f) fclose(f);
  text[n] = 0;
  const char *name_end = strrchr(text, ')');
  return name_end && name_end[1] == ' ' && (name_end[2] == 'T' || name_end[2] == 't');
}

bool watch_is_silent(Watch *w, int rank, int64_t now, int64_t beat, int pid) {
  struct WatchStopped *s = &w->stopped[rank];
  int64_t silent = now - beat;
  /* A machine with more work than cores may leave a process without its turn for seconds; that is no fault. */
  if (silent > 1000 * COMM_PATIENCE_ALIVE && now - w->awake > 1000 * COMM_PATIENCE) return true;
  if (silent < WATCH_QUIET_MS || !process_is_stopped(pid)) {
    s->looks = 0;
    return false;
  }
  if (s->looks++ == 0) s->since = now;
  return s->looks >= WATCH_LOOKS && silent > 1000 * COMM_PATIENCE_STOPPED &&
         now - s->since > 1000 * COMM_PATIENCE_STOPPED - WATCH_QUIET_MS;
}
