/* The messages of dist/mpi/, started by mpirun: `group joins` compares joins, buckets, gatherings and their bytes with
 * what they must be; `group differ` starts a collective under another name on the last rank; `group fail` fails on rank
 * 1 and `group stop` stops there; the others must name it and say after how long. `group end` stops rank 1 within
 * MPI_Finalize, where only the threads that give signs of life are left to end the others. `group time` prints the
 * microseconds of joins by what ranks of one host use (shared memory), of MPI_Allreduce, and of joins by messages. */
#include "codegen/rt/clock.h"
#include "dist/mpi.h"
#include "dist/mpi/group.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

MpiOpen tg_mpi_open; /* dist/mpi/module.c */
MpiClose tg_mpi_close;

static int bad(const char *what) {
  printf("wrong: %s\n", what);
  fflush(stdout);
  _exit(1);
}

/* Value i of shard s: magnitudes differ so much that another order gives other bits. Every seventh shard is empty. */
static float value(int s, int64_t i) {
  if ((s + i) % 7 == 6) return -0.0f;
  return (float)((s * 37 + i * 11) % 100 - 50) * powf(10, (float)((s * 5 + i) % 9 - 4));
}
static float node_value(int lo, int hi, int64_t i) {
  if (hi - lo == 1) return value(lo, i);
  int mid = (lo + hi) / 2;
  return node_value(lo, mid, i) + node_value(mid, hi, i);
}

/* A sum of one piece; the rank's nodes lie one after another. */
static Coll join_of(Comm *c, const char *name, int64_t n, float *in, float *out, CollPiece *piece) {
  ShardNode node[TG_MAX_NODES];
  int k = comm_nodes(c, comm_rank(c), node);
  *piece = (CollPiece){.count = n, .out = out};
  for (int j = 0; j < k; j++) {
    piece->node[j] = in + j * n;
    for (int64_t i = 0; i < n; i++) in[j * n + i] = node_value(node[j].lo, node[j].hi, i);
  }
  return (Coll){.kind = COLL_JOIN, .name = name, .type = JOIN_F32, .npiece = 1, .piece = piece};
}
static float *room(int64_t n) { return malloc(sizeof(float) * (size_t)(n + 1)); }

static void joins(Comm *c) {
  static const int64_t size[] = {0, 1, 15, 16, 17, 1000, 65537, 300001};
  enum { N = sizeof size / sizeof *size };
  float *in[N], *out[N];
  uint64_t ticket[N];
  CommFault f;
  for (int k = 0; k < N; k++) {
    in[k] = room(size[k] * TG_MAX_NODES), out[k] = room(size[k]);
    CollPiece piece;
    Coll what = join_of(c, "w", size[k], in[k], out[k], &piece);
    ticket[k] = comm_start(c, &what);
  }
  for (int k = N - 1; k >= 0; k--) {
    if (!comm_wait(c, ticket[k], &f)) bad(f.msg);
    for (int64_t i = 0; i < size[k]; i++) {
      float want = node_value(0, TG_SHARDS, i);
      if (memcmp(&want, &out[k][i], sizeof want)) bad("a join's bits");
    }
    free(in[k]), free(out[k]);
  }
}

/* Dealt out unevenly and gathered again: a join's bits. */
static void deals(Comm *c) {
  enum { N = 100003 };
  int n = comm_size(c), me = comm_rank(c);
  int64_t block[64], left = N;
  for (int r = 0; r < n; r++) block[r] = r == n - 1 ? left : r % 3 == 1 ? 0 : left / 3, left -= block[r];
  float *in = room((int64_t)N * TG_MAX_NODES), *own = room(block[me]), *out = room(N);
  CollPiece piece;
  Coll what = join_of(c, "dealt", N, in, own, &piece);
  what.block = block;
  CommFault f;
  if (!comm_wait(c, comm_start(c, &what), &f)) bad(f.msg);
  what = (Coll){.kind = COLL_GATHER, .name = "again", .type = JOIN_F32, .block = block, .in = own, .out = out};
  if (!comm_wait(c, comm_start(c, &what), &f)) bad(f.msg);
  for (int64_t i = 0; i < N; i++) {
    float want = node_value(0, TG_SHARDS, i);
    if (memcmp(&want, &out[i], sizeof want)) bad("the bits of what is dealt out");
  }
  free(in), free(own), free(out);
}

/* A bucket of ragged pieces; fast: in MPI's order of additions. */
static void bucket(Comm *c, bool fast) {
  enum { N = COLL_PIECES };
  CollPiece piece[N];
  float *in[N], *out[N];
  int64_t count[N];
  CommFault f;
  for (int k = 0; k < N; k++) {
    count[k] = k % 7 == 3 ? 0 : k == 20 ? 70001 : 1 + k * k % 97;
    in[k] = room(count[k] * TG_MAX_NODES), out[k] = room(count[k]);
    join_of(c, "", count[k], in[k], out[k], &piece[k]);
  }
  Coll what = {.kind = COLL_JOIN, .name = "bucket", .type = JOIN_F32, .npiece = N, .piece = piece};
  comm_choose(c, &(CommChoices){.fast = fast});
  if (!comm_wait(c, comm_start(c, &what), &f)) bad(f.msg);
  comm_choose(c, &(CommChoices){0});
  for (int k = 0; k < N; k++) {
    for (int64_t i = 0; i < count[k]; i++) {
      float want = node_value(0, TG_SHARDS, i);
      bool well = fast ? fabsf(want - out[k][i]) < 1 : memcmp(&want, &out[k][i], sizeof want) == 0;
      if (!well) bad("a bucket's sums");
    }
    free(in[k]), free(out[k]);
  }
}

static void gathers(Comm *c) {
  int n = comm_size(c), me = comm_rank(c);
  int64_t block[64], total = 0, at = 0;
  for (int r = 0; r < n; r++) block[r] = r % 3 == 1 ? 0 : 5000 * r + 3, total += block[r];
  int64_t *in = malloc(sizeof *in * (size_t)(block[me] + 1)), *out = malloc(sizeof *out * (size_t)(total + 1));
  for (int64_t i = 0; i < block[me]; i++) in[i] = me * 1000000 + i;
  CommFault f;
  Coll what = {.kind = COLL_GATHER, .name = "rows", .type = JOIN_I64, .block = block, .in = in, .out = out};
  if (!comm_wait(c, comm_start(c, &what), &f)) bad(f.msg);
  for (int r = 0; r < n; r++)
    for (int64_t i = 0; i < block[r]; i++)
      if (out[at++] != r * 1000000 + i) bad("a gathering");
  char text[32] = "";
  if (me == n - 1) strcpy(text, "from the last");
  if (!comm_broadcast(c, n - 1, text, sizeof text, "text", &f) || strcmp(text, "from the last")) bad("a broadcast");
  for (int k = 0; k < 300; k++)
    if (!comm_barrier(c, &f)) bad(f.msg);
  free(in), free(out);
}

static void counted(Comm *c) {
  enum { N = 1 << 18 };
  float *in = room(N * TG_MAX_NODES), *out = room(N);
  int64_t before = comm_stats(c).bytes;
  CommFault f;
  CollPiece piece;
  Coll what = join_of(c, "w", N, in, out, &piece);
  if (!comm_wait(c, comm_start(c, &what), &f)) bad(f.msg);
  int n = comm_size(c);
  double want = 2.0 * (n - 1) / n * sizeof(float) * N, got = (double)(comm_stats(c).bytes - before);
  if ((n == 2 || n == 4 || n == 8) && fabs(got - want) > 0.01 * want) bad("the number of bytes");
  free(in), free(out);
}

static int faulty(Comm *c, const char *how) {
  float *in = room(8 * TG_MAX_NODES), *out = room(8);
  CommFault f;
  double well = rt_seconds();
  for (int step = 0; step < 1000; step++) {
    bool culprit = comm_rank(c) == 1 && step == 20;
    if (culprit && !strcmp(how, "fail")) {
      comm_fail(c, "index 7 is outside an axis of size 5");
      _exit(1);
    }
    if (culprit && !strcmp(how, "stop")) kill(getpid(), SIGSTOP);
    CollPiece piece;
    Coll what = join_of(c, culprit && !strcmp(how, "differ") ? "conv.w" : "dense.w", 8, in, out, &piece);
    if (comm_wait(c, comm_start(c, &what), &f)) {
      well = rt_seconds();
      continue;
    }
    fprintf(stderr, "rank %d: %s (%.1f s after all was well)\n", comm_rank(c), f.msg, rt_seconds() - well);
    usleep(300000); /* the others say theirs */
    _exit(1);
  }
  return 0;
}

/* ---- times ------------------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}
static double median(double *t, int n) {
  qsort(t, (size_t)n, sizeof *t, by_value);
  return t[n / 2];
}
static double seconds_of_join(Comm *c, const Coll *what, int times) {
  CommFault f;
  MPI_Barrier(MPI_COMM_WORLD);
  double t = MPI_Wtime();
  for (int k = 0; k < times; k++)
    if (!comm_wait(c, comm_start(c, what), &f)) bad(f.msg);
  return (MPI_Wtime() - t) / times;
}
static double seconds_of_mpi(const float *in, float *out, int64_t n, int times) {
  MPI_Barrier(MPI_COMM_WORLD);
  double t = MPI_Wtime();
  for (int k = 0; k < times; k++) MPI_Allreduce(in, out, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  return (MPI_Wtime() - t) / times;
}
/* Medians of joins of n floats by what ranks of one host use and by messages, and of MPI_Allreduce of as many, in turn.
 */
static void timed(Comm *here, Comm *messages) {
  static const int64_t bytes[] = {4 << 10, 256 << 10, 4 << 20, 64 << 20};
  enum { RUNS = 21, MOST = 4 << 20 };
  for (int k = 0; k < 4; k++) {
    int64_t n = bytes[k] / 4;
    int times = bytes[k] >= MOST ? 1 : bytes[k] * 200 <= MOST ? 200 : (int)(MOST / bytes[k]);
    float *in = room(n * TG_MAX_NODES), *out = room(n);
    double t[3][RUNS];
    CollPiece piece;
    Coll what = join_of(here, "w", n, in, out, &piece);
    for (int run = -2; run < RUNS; run++) {
      double of[3] = {seconds_of_join(here, &what, times), seconds_of_mpi(in, out, n, times),
                      seconds_of_join(messages, &what, times)};
      for (int j = 0; j < 3 && run >= 0; j++) t[j][run] = of[j];
    }
    if (comm_rank(here) == 0)
      printf("%8lld bytes: %s %.1f us, MPI_Allreduce %.1f us, messages %.1f us\n", (long long)bytes[k], comm_kind(here),
             1e6 * median(t[0], RUNS), 1e6 * median(t[1], RUNS), 1e6 * median(t[2], RUNS));
    free(in), free(out);
  }
}

/* MPI lets programs stand in front of its functions. */
int MPI_Finalize(void) {
  const char *rank = getenv("OMPI_COMM_WORLD_RANK");
  if (getenv("TG_STOP_IN_FINALIZE") && rank && atoi(rank) == 1) kill(getpid(), SIGSTOP);
  return PMPI_Finalize();
}
static int end_all(void) {
  char why[256];
  Comm *c = tg_mpi_open(why, sizeof why);
  if (!c) bad(why);
  setenv("TG_STOP_IN_FINALIZE", "1", 1);
  tg_mpi_close(c, true);
  return 0;
}
static int time_all(void) {
  char why[256];
  Comm *here = tg_mpi_open(why, sizeof why);
  if (!here) bad(why);
  Comm *messages = mpi_messages(MPI_COMM_WORLD);
  if (!messages) bad("no group");
  timed(here, messages);
  MPI_Barrier(MPI_COMM_WORLD);
  comm_free(messages);
  tg_mpi_close(here, true);
  return 0;
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "joins";
  int got;
  if (!strcmp(what, "time")) return time_all();
  if (!strcmp(what, "end")) return end_all();
  MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &got);
  Comm *c = mpi_messages(MPI_COMM_WORLD);
  if (!c) bad("no group");
  if (!strcmp(what, "joins")) {
    joins(c), deals(c), bucket(c, false), bucket(c, true), gathers(c), counted(c), joins(c);
  } else {
    return faulty(c, what);
  }
  CommFault f;
  if (!comm_barrier(c, &f)) bad(f.msg);
  comm_free(c);
  MPI_Finalize();
  return 0;
}
