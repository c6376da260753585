/* Finds ranks of the same run that are stopped, by the environment that their launcher gave them. */
#include "dist/siblings.h"
#include "dist/comm.h"
#include "dist/watch.h"
#include "codegen/rt/clock.h"
#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_MS = 200 };

/* Variables with the name of the run, and with the rank in it. */
typedef struct Launcher {
  const char *run, *rank;
} Launcher;
struct Siblings {
  Launcher by;
  char run[128]; /* of this process */
  pthread_t thread;
  sem_t stop;
  int64_t begin;
  Watch watch;
};

/* A variable of an environment: strings one after another, `n` bytes in all, with a NUL behind them. */
static const char *variable(const char *env, size_t n, const char *name) {
  size_t len = strlen(name);
  for (const char *at = env; at < env + n; at += strlen(at) + 1)
    if (!strncmp(at, name, len) && at[len] == '=') return at + len + 1;
  return NULL;
}

/* The rank of a process of the same run, -1: of none, or it is not to be seen. */
static int rank_of(const Siblings *s, int pid) {
  enum { MOST = 1 << 20 };
  char path[40];
  snprintf(path, sizeof path, "/proc/%d/environ", pid);
  FILE *f = fopen(path, "r");
  char *env = f ? malloc(MOST + 1) : NULL;
  size_t n = env ? fread(env, 1, MOST, f) : 0;
  if (f) fclose(f);
  if (env) env[n] = 0;
  const char *run = n ? variable(env, n, s->by.run) : NULL, *rank = n ? variable(env, n, s->by.rank) : NULL;
  int r = run && rank && !strcmp(run, s->run) ? atoi(rank) : -1;
  free(env);
  return r;
}

static void look(Siblings *s) {
  bool seen[WATCH_MOST] = {false};
  DIR *d = opendir("/proc");
  for (struct dirent *e; d && (e = readdir(d));) {
    int pid = atoi(e->d_name), rank = -1;
    if (pid > 0 && pid != (int)getpid() && process_is_stopped(pid)) rank = rank_of(s, pid);
    if (rank < 0 || rank >= WATCH_MOST || seen[rank]) continue;
    seen[rank] = true;
    if (!watch_is_silent(&s->watch, rank, s->watch.looked, s->begin, pid)) continue;
    dprintf(2, "tg: rank %d (process %d) is stopped, and the ranks can't start without it\n", rank, pid);
    _exit(1);
  }
  if (d) closedir(d);
  for (int r = 0; r < WATCH_MOST; r++)
    if (!seen[r]) s->watch.stopped[r].looks = 0;
}

static void *thread(void *p) {
  Siblings *s = p;
  for (int64_t next = s->begin;;) {
    next += LOOK_MS;
    if (!sem_clockwait(&s->stop, CLOCK_MONOTONIC, &(struct timespec){next / 1000, next % 1000 * 1000000})) return NULL;
    int64_t now = rt_milliseconds();
    if (next < now) next = now;
    if (now - s->begin > WATCH_QUIET_MS && watch_look(&s->watch, now)) look(s);
  }
}

Siblings *siblings_watch(void) {
  static const Launcher by[] = {{"PMIX_NAMESPACE", "PMIX_RANK"}, {"OMPI_MCA_ess_base_jobid", "OMPI_COMM_WORLD_RANK"}};
  Siblings *s = calloc(1, sizeof *s);
  for (size_t k = 0; s && k < sizeof by / sizeof *by && !*s->run; k++) {
    const char *run = getenv(by[k].run);
    if (run && strlen(run) < sizeof s->run) s->by = by[k], strcpy(s->run, run);
  }
  if (s) s->begin = rt_milliseconds(), watch_begin(&s->watch, s->begin), sem_init(&s->stop, 0, 0);
  if (s && *s->run && pthread_create(&s->thread, NULL, thread, s) == 0) return s;
  free(s);
  return NULL;
}
void siblings_free(Siblings *s) {
  if (!s) return;
  sem_post(&s->stop);
  pthread_join(s->thread, NULL);
  sem_destroy(&s->stop);
  free(s);
}
