/* Collectives between GPUs (dist/nccl.h), beside what they must give: `group RANKS [fast]`. Every operation and type,
 * buckets and single tensors of ragged sizes, many under way at once, gatherings of equal and of other blocks, an empty
 * one; with fast, sums by ncclAllReduce. On as many GPUs as ranks; with one rank on any machine with a GPU and NCCL;
 * with others through the fakes (fake_nccl/). */
#include "codegen/cuda/session.h"
#include "dist/launch.h"
#include "dist/nccl.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Gpu {
  Comm *c;
  Cuda *cuda;
  RtDevice *d;
  Nccl *n;
  bool fast;
} Gpu;

static void bad(const char *what, const char *why) {
  fprintf(stderr, "wrong: %s: %s\n", what, why);
  exit(1);
}
static void must(Gpu *g, bool ok, const char *what) {
  if (!ok) bad(what, g->d->why);
}
static void *on_gpu(Gpu *g, const void *from, size_t bytes) {
  void *at;
  must(g, g->d->op->alloc(g->d, bytes + 1, &at), "memory");
  if (from) must(g, g->d->op->put(g->d, at, from, bytes), "a copy");
  return at;
}

/* Value i of shard s. Floats are of very different magnitudes, some nan, -0 or infinite where order must not matter. */
static void value(JoinOp op, JoinType t, int s, int64_t i, void *to) {
  int64_t k = (s * 7919 + i * 104729 + 13) % 1000;
  double x = (double)(k - 500) * pow(10, (double)((s * 5 + i) % 9 - 4));
  if (op == JOIN_SUM && (s + i) % 7 == 6) x = -0.0;
  if (op != JOIN_SUM && k % 50 == 0) x = k % 100 ? NAN : -INFINITY;
  if (t == JOIN_F32) *(float *)to = (float)x;
  if (t == JOIN_F64) *(double *)to = x;
  if (t == JOIN_I64) *(int64_t *)to = (k - 500) * ((int64_t)1 << (i % 50));
  if (t == JOIN_U8) *(uint8_t *)to = k % 5 == 0;
}

typedef struct Sum {
  JoinOp op;
  JoinType type;
  int64_t count;
  char *leaf[TG_SHARDS];
  void *node[TG_MAX_NODES], *out; /* on the GPU */
} Sum;

static void sum_make(Gpu *g, Sum *s) {
  ShardNode node[TG_MAX_NODES];
  size_t bytes = (size_t)(s->count * join_bytes(s->type));
  const void *leaf[TG_SHARDS];
  for (int k = 0; k < TG_SHARDS; k++) {
    leaf[k] = s->leaf[k] = malloc(bytes + 1);
    for (int64_t i = 0; i < s->count; i++) value(s->op, s->type, k, i, s->leaf[k] + i * join_bytes(s->type));
  }
  int n = comm_nodes(g->c, comm_rank(g->c), node);
  char *scratch = malloc(bytes * TG_SHARD_DEPTH + 1), *own = malloc(bytes + 1);
  for (int k = 0; k < n; k++) {
    join_node(s->op, s->type, s->count, node[k], leaf + node[k].lo, own, scratch);
    s->node[k] = on_gpu(g, own, bytes);
  }
  s->out = on_gpu(g, NULL, bytes);
  free(scratch), free(own);
}

static bool alike(const Gpu *g, const Sum *s, const void *want, const void *got) {
  if (!g->fast || s->op != JOIN_SUM || s->type > JOIN_F64)
    return !memcmp(want, got, (size_t)(s->count * join_bytes(s->type)));
  for (int64_t i = 0; i < s->count; i++) {
    double a = s->type == JOIN_F32 ? ((const float *)want)[i] : ((const double *)want)[i], all = 0;
    double b = s->type == JOIN_F32 ? ((const float *)got)[i] : ((const double *)got)[i];
    for (int k = 0; k < TG_SHARDS; k++)
      all += fabs(s->type == JOIN_F32 ? ((const float *)(const void *)s->leaf[k])[i]
                                      : ((const double *)(const void *)s->leaf[k])[i]);
    if (!(fabs(a - b) <= 1e-5 * all)) return false;
  }
  return true;
}
static void sum_check(Gpu *g, Sum *s, const void *found) {
  size_t bytes = (size_t)(s->count * join_bytes(s->type));
  char *want = malloc(bytes + 1), *got = malloc(bytes + 1), *scratch = malloc(bytes * TG_SHARD_DEPTH + 1);
  const void *leaf[TG_SHARDS];
  for (int k = 0; k < TG_SHARDS; k++) leaf[k] = s->leaf[k];
  join_node(s->op, s->type, s->count, (ShardNode){0, TG_SHARDS}, leaf, want, scratch);
  must(g, g->d->op->get(g->d, got, found, bytes), "a copy");
  char name[64];
  snprintf(name, sizeof name, "join %d of type %d, %lld elements", (int)s->op, (int)s->type, (long long)s->count);
  if (!alike(g, s, want, got)) bad(name, "other bits");
  for (int k = 0; k < TG_SHARDS; k++) free(s->leaf[k]);
  for (int k = 0; k < TG_MAX_NODES; k++) g->d->op->release(g->d, s->node[k]);
  g->d->op->release(g->d, s->out);
  free(want), free(got), free(scratch);
}

static void start(Gpu *g, Sum *s, int n) {
  CollPiece piece[COLL_PIECES];
  CommFault f;
  for (int i = 0; i < n; i++) {
    piece[i] = (CollPiece){.count = s[i].count, .out = s[i].out};
    memcpy(piece[i].node, s[i].node, sizeof piece[i].node);
  }
  Coll what = {.kind = COLL_JOIN, .name = "w", .type = s->type, .op = s->op, .npiece = n, .piece = piece};
  if (!nccl_start(g->n, &what, &f)) bad("a start", f.msg);
}
static void finish(Gpu *g, Sum *s) {
  CommFault f;
  size_t bytes = (size_t)(s->count * join_bytes(s->type));
  void *to = on_gpu(g, NULL, bytes);
  if (!nccl_wait(g->n, s->out, to, bytes, &f)) bad("a wait", f.msg);
  sum_check(g, s, to);
  g->d->op->release(g->d, to);
}

static void joins(Gpu *g) {
  static const struct {
    JoinOp op;
    JoinType type;
  } row[] = {{JOIN_SUM, JOIN_F32}, {JOIN_MAX, JOIN_F32}, {JOIN_MIN, JOIN_F32}, {JOIN_SUM, JOIN_F64},
             {JOIN_MAX, JOIN_F64}, {JOIN_MIN, JOIN_F64}, {JOIN_SUM, JOIN_I64}, {JOIN_MAX, JOIN_I64},
             {JOIN_MIN, JOIN_I64}, {JOIN_OR, JOIN_I64},  {JOIN_OR, JOIN_U8}};
  static const int64_t size[] = {1, 0, 16, 17, 2003};
  enum { N = sizeof size / sizeof *size };
  for (size_t r = 0; r < sizeof row / sizeof *row; r++) {
    Sum alone[N], bucket[N];
    for (int k = 0; k < N; k++) {
      alone[k] = bucket[k] = (Sum){.op = row[r].op, .type = row[r].type, .count = size[k]};
      sum_make(g, &alone[k]), sum_make(g, &bucket[k]);
    }
    for (int k = 0; k < N; k++) start(g, &alone[k], 1);
    start(g, bucket, N);
    for (int k = N - 1; k >= 0; k--) finish(g, &alone[k]), finish(g, &bucket[k]);
  }
}

/* Dealt out unevenly and gathered again: a join. */
static void deals(Gpu *g) {
  Sum s = {.op = JOIN_SUM, .type = JOIN_F32, .count = 2003};
  int n = comm_size(g->c), me = comm_rank(g->c);
  int64_t block[64], left = s.count;
  for (int r = 0; r < n; r++) block[r] = r == n - 1 ? left : r % 3 == 1 ? 0 : left / 3, left -= block[r];
  sum_make(g, &s);
  size_t bytes = sizeof(float) * (size_t)block[me];
  void *own = on_gpu(g, NULL, bytes), *from = on_gpu(g, NULL, bytes);
  CollPiece piece = {.count = s.count, .out = own};
  memcpy(piece.node, s.node, sizeof piece.node);
  Coll deal = {
      .kind = COLL_JOIN, .name = "w", .type = s.type, .op = s.op, .npiece = 1, .piece = &piece, .block = block};
  Coll again = {.kind = COLL_GATHER, .name = "w", .type = s.type, .block = block, .in = from, .out = s.out};
  CommFault f;
  if (!nccl_start(g->n, &deal, &f) || !nccl_wait(g->n, own, from, bytes, &f)) bad("dealing out", f.msg);
  if (!nccl_start(g->n, &again, &f) || !nccl_wait(g->n, s.out, s.out, 0, &f)) bad("a gathering", f.msg);
  bool fast = g->fast;
  g->fast = false; /* what is dealt out is exact */
  sum_check(g, &s, s.out);
  g->fast = fast;
  g->d->op->release(g->d, own), g->d->op->release(g->d, from);
}

/* More under way than an Nccl keeps account of. */
static void many(Gpu *g) {
  enum { N = 90 };
  static Sum s[N];
  for (int k = 0; k < N; k++) {
    s[k] = (Sum){.op = JOIN_SUM, .type = JOIN_F32, .count = 3 + k};
    sum_make(g, &s[k]);
  }
  for (int k = 0; k < N; k++) start(g, &s[k], 1);
  for (int k = 0; k < N; k++) finish(g, &s[k]);
}

static void gathers(Gpu *g, bool equal) {
  int n = comm_size(g->c), me = comm_rank(g->c);
  int64_t block[64], total = 0, at = 0;
  for (int r = 0; r < n; r++) block[r] = equal ? 700 : r % 3 == 1 ? 0 : 500 * r + 3, total += block[r];
  int64_t *in = malloc(sizeof *in * (size_t)(block[me] + 1)), *out = malloc(sizeof *out * (size_t)(total + 1));
  for (int64_t i = 0; i < block[me]; i++) in[i] = me * 1000000 + i;
  void *from = on_gpu(g, in, sizeof *in * (size_t)block[me]), *to = on_gpu(g, NULL, sizeof *out * (size_t)total);
  CommFault f;
  Coll what = {.kind = COLL_GATHER, .name = "rows", .type = JOIN_I64, .block = block, .in = from, .out = to};
  if (!nccl_start(g->n, &what, &f) || !nccl_wait(g->n, to, to, 0, &f)) bad("a gathering", f.msg);
  must(g, g->d->op->get(g->d, out, to, sizeof *out * (size_t)total), "a copy");
  for (int r = 0; r < n; r++)
    for (int64_t i = 0; i < block[r]; i++)
      if (out[at++] != r * 1000000 + i) bad("a gathering", "other rows");
  g->d->op->release(g->d, from), g->d->op->release(g->d, to);
  free(in), free(out);
}

/* Of one node a rank 2 (N - 1) / N of the bytes go out. */
static void counted(Gpu *g) {
  int n = comm_size(g->c);
  Sum s = {.op = JOIN_SUM, .type = JOIN_F32, .count = 1 << 14};
  sum_make(g, &s);
  int64_t before = nccl_stats(g->n).bytes;
  start(g, &s, 1);
  finish(g, &s);
  if ((n & (n - 1)) == 0 && nccl_stats(g->n).bytes - before != 2 * (n - 1) * s.count * 4 / n)
    bad("bytes", "another number");
}

static const void *compile(void *ctx, const char *source, char *why, size_t nwhy) {
  const char *reason = NULL;
  const void *image = cuda_image_of(ctx, source, &reason);
  if (!image) snprintf(why, nwhy, "%s", reason);
  return image;
}

static int rank_main(void *ctx, Comm *c) {
  char why[1024] = "";
  Gpu g = {.c = c, .fast = *(bool *)ctx};
  CommFault f;
  int local;
  if (!nccl_local_rank(c, &local, &f) || local != comm_rank(c)) bad("the local rank", f.msg);
  g.cuda = cuda_open(local, 1, getenv("TG_CACHE_DIR"), why, sizeof why);
  if (!g.cuda) bad("the GPU", why);
  g.d = cuda_device(g.cuda);
  comm_choose(c, &(CommChoices){.fast = g.fast});
  NcclEnv env = {c, g.d, compile, g.cuda};
  if (!nccl_open(&env, &g.n, why, sizeof why, &f)) bad("NCCL", f.msg);
  if (!g.n) bad("NCCL", why);
  joins(&g), deals(&g), many(&g), gathers(&g, true), gathers(&g, false), counted(&g);
  int version = nccl_version(g.n);
  nccl_close(g.n);
  if (comm_rank(c) == 0) printf("NCCL %d, %d ranks on %s: right\n", version, comm_size(c), g.d->name);
  cuda_close(g.cuda);
  return 0;
}

int main(int argc, char **argv) {
  int n = argc > 1 ? atoi(argv[1]) : 1;
  bool fast = argc > 2 && !strcmp(argv[2], "fast");
  return launch(n, rank_main, &fast);
}
