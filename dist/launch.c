/* Forks ranks, shows their words, notices their ends. */
#include "dist/launch.h"
#include "dist/watch.h"
#include "codegen/rt/clock.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct Rank {
  pid_t pid;
  int err; /* read end of its standard error, -1: closed or not piped */
  bool ended;
  char line[4096];
  size_t n;
} Rank;

typedef struct Launch {
  int nrank, live, code, first; /* first: the rank that failed first, -1 */
  double give_up;               /* when what is left gets killed; 0: all is well */
  char verdict[160];
  CommSegment *seg;
  Watch watch;
  Rank rank[LAUNCH_MAX];
} Launch;

static void say(int rank, const char *text, size_t n) { fprintf(stderr, "[rank %d] %.*s\n", rank, (int)n, text); }
/* Passes on whole lines; a line that is too long is passed on in pieces. */
static void listen_to(Launch *l, int r) {
  Rank *k = &l->rank[r];
  ssize_t got = read(k->err, k->line + k->n, sizeof k->line - k->n);
  if (got < 0 && errno == EINTR) return;
  if (got <= 0) {
    if (k->n) say(r, k->line, k->n);
    close(k->err);
    k->err = -1, k->n = 0;
    return;
  }
  k->n += (size_t)got;
  char *end;
  while ((end = memchr(k->line, '\n', k->n))) {
    size_t n = (size_t)(end - k->line);
    say(r, k->line, n);
    memmove(k->line, end + 1, k->n -= n + 1);
  }
  if (k->n == sizeof k->line) say(r, k->line, k->n), k->n = 0;
}

static void failed(Launch *l, int r, int code, const char *how) {
  comm_segment_mark_dead(l->seg, r, how);
  if (l->first >= 0) return;
  l->first = r, l->code = code;
  int cause = comm_segment_culprit(l->seg); /* a rank that ends because of another is not the one to name */
  if (cause >= 0 && cause != r)
    snprintf(l->verdict, sizeof l->verdict, "rank %d failed", cause);
  else
    snprintf(l->verdict, sizeof l->verdict, "rank %d %s", r, how);
  l->give_up = rt_seconds() + COMM_GRACE;
}

/* Takes note of ended children. */
static void reap(Launch *l) {
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    int r = 0;
    while (r < l->nrank && l->rank[r].pid != pid) r++;
    if (r == l->nrank) continue;
    l->rank[r].ended = true, l->live--;
    char how[96];
    if (WIFSIGNALED(status)) {
      snprintf(how, sizeof how, "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
      failed(l, r, 1, how);
    } else if (WEXITSTATUS(status)) {
      snprintf(how, sizeof how, "ended with exit code %d", WEXITSTATUS(status));
      failed(l, r, WEXITSTATUS(status), how);
    }
  }
}

static void watch_silence(Launch *l) {
  if (!watch_look(&l->watch, rt_milliseconds())) return;
  for (int r = 0; r < l->nrank; r++) {
    Rank *k = &l->rank[r];
    if (k->ended || !comm_segment_is_silent(l->seg, &l->watch, r, k->pid)) continue;
    failed(l, r, 1, comm_segment_why(l->seg, r));
    kill(k->pid, SIGKILL); /* once it is named; it can't end by itself */
  }
}
static void kill_rest(Launch *l) {
  for (int r = 0; r < l->nrank; r++)
    if (!l->rank[r].ended) kill(l->rank[r].pid, SIGKILL);
}

/* Ctrl-C reaches every process of the terminal's group: the ranks act on it, the parent waits for them. What another
 * process sends to the parent alone is passed on. */
static volatile sig_atomic_t forward;
static void on_interrupt(int sig, siginfo_t *info, void *context) {
  (void)sig, (void)context;
  if (info->si_code == SI_USER) forward = 1;
}

static void watch(Launch *l) {
  while (l->live > 0) {
    struct pollfd p[LAUNCH_MAX];
    int who[LAUNCH_MAX], n = 0;
    for (int r = 0; r < l->nrank; r++)
      if (l->rank[r].err >= 0) p[n].fd = l->rank[r].err, p[n].events = POLLIN, who[n++] = r;
    if (poll(p, (nfds_t)n, 50) > 0)
      for (int k = 0; k < n; k++)
        if (p[k].revents) listen_to(l, who[k]);
    reap(l);
    if (forward) {
      forward = 0;
      for (int r = 0; r < l->nrank; r++)
        if (!l->rank[r].ended) kill(l->rank[r].pid, SIGINT);
    }
    watch_silence(l);
    if (l->give_up > 0 && rt_seconds() > l->give_up) kill_rest(l);
  }
  for (int r = 0; r < l->nrank; r++)
    while (l->rank[r].err >= 0) listen_to(l, r);
  /* What all met alike (a mistake in the program, Ctrl-C) rank 0 has shown. */
  if (l->first >= 0 && !comm_segment_alike(l->seg)) fprintf(stderr, "tg: %s; the other ranks are ended\n", l->verdict);
}

/* In the child; does not return. */
_Noreturn static void child(Launch *l, int r, int err, pid_t parent, RankMain fn, void *ctx) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  if (r > 0) {
    if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "r", stdin)) _exit(1);
    dup2(err, 2);
    close(err);
    setvbuf(stderr, NULL, _IOLBF, 0);
  }
  for (int k = 0; k < r; k++)
    if (l->rank[k].err >= 0) close(l->rank[k].err);
  Comm *c = comm_shared(l->seg, r);
  if (!c) {
    fprintf(stderr, "tg: rank %d cannot start: out of memory\n", r);
    _exit(1);
  }
  int code = fn(ctx, c);
  if (code) comm_fail(c, "it ended with an error");
  comm_free(c);
  fflush(NULL);
  _exit(code);
}

static bool start(Launch *l, int r, RankMain fn, void *ctx) {
  int fd[2] = {-1, -1};
  pid_t parent = getpid();
  if (r > 0 && pipe(fd)) return false;
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    if (fd[0] >= 0) close(fd[0]);
    child(l, r, fd[1], parent, fn, ctx);
  }
  if (fd[1] >= 0) close(fd[1]);
  l->rank[r] = (Rank){.pid = pid, .err = fd[0], .ended = pid < 0};
  if (pid > 0) l->live++;
  return pid > 0;
}

int launch(int nrank, RankMain fn, void *ctx) {
  Launch *l = calloc(1, sizeof *l);
  CommSegment *seg = nrank < 1 || nrank > LAUNCH_MAX ? NULL : comm_segment_new(nrank);
  if (!l || !seg) {
    fprintf(stderr, "tg: cannot start %d ranks: %s\n", nrank,
            nrank > LAUNCH_MAX ? "at most 64 on a host" : strerror(errno));
    free(l);
    comm_segment_drop(seg);
    return 1;
  }
  l->nrank = nrank, l->first = -1, l->seg = seg;
  watch_begin(&l->watch, rt_milliseconds());
  for (int r = 0; r < nrank; r++)
    if (!start(l, r, fn, ctx)) failed(l, r, 1, "cannot be started");
  struct sigaction wait_for_ranks = {.sa_sigaction = on_interrupt, .sa_flags = SA_SIGINFO | SA_RESTART}, old;
  sigaction(SIGINT, &wait_for_ranks, &old);
  watch(l);
  sigaction(SIGINT, &old, NULL);
  int code = l->code;
  comm_segment_drop(seg);
  free(l);
  return code;
}
