/* Shards, their tree, and the communicators: the same bits for every number of ranks; faults name a rank and end in
 * time. */
#include "dist/launch.h"
#include "dist/lent.h"
#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const int sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 11};
enum { NSIZES = sizeof sizes / sizeof *sizes };

Test(dist, shards_cover_the_batch) {
  static const int64_t rows[] = {0, 1, 2, 7, 8, 9, 64, 1000, INT64_MAX};
  for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
    cr_assert_eq(shard_lo(rows[k], 0), 0);
    cr_assert_eq(shard_lo(rows[k], TG_SHARDS), rows[k]);
    for (int s = 0; s < TG_SHARDS; s++) cr_assert(shard_lo(rows[k], s) <= shard_lo(rows[k], s + 1));
    if (rows[k] < 10000)
      for (int s = 0; s <= TG_SHARDS; s++) {
        int64_t each = (rows[k] + TG_SHARDS - 1) / TG_SHARDS;
        cr_assert_eq(shard_lo(rows[k], s), s * each < rows[k] ? s * each : rows[k]);
      }
  }
}

Test(dist, nodes_are_complete_and_maximal) {
  for (int lo = 0; lo <= TG_SHARDS; lo++)
    for (int hi = lo; hi <= TG_SHARDS; hi++) {
      ShardNode node[TG_MAX_NODES];
      int n = shard_nodes(lo, hi, node), at = lo;
      cr_assert(n <= TG_MAX_NODES);
      for (int k = 0; k < n; k++) {
        int size = node[k].hi - node[k].lo;
        cr_assert(node[k].lo == at && size > 0 && (size & (size - 1)) == 0 && at % size == 0);
        int up = at / (2 * size) * (2 * size); /* the parent is not inside */
        cr_assert(up < lo || up + 2 * size > hi);
        at = node[k].hi;
      }
      cr_assert_eq(at, hi);
    }
}

/* ---- a group of threads ------------------------------------------------------------------------------------------ */
typedef void (*RankFn)(Comm *c, void *ctx);
typedef struct Member {
  CommSegment *seg;
  int rank;
  RankFn fn;
  void *ctx;
} Member;
static void *member(void *p) {
  Member *m = p;
  Comm *c = comm_shared(m->seg, m->rank);
  cr_assert(c != NULL);
  m->fn(c, m->ctx);
  comm_free(c);
  return NULL;
}
static void group(int nrank, RankFn fn, void *ctx) {
  CommSegment *seg = comm_segment_new(nrank);
  cr_assert(seg != NULL);
  pthread_t t[16];
  Member m[16];
  for (int r = 0; r < nrank; r++) {
    m[r] = (Member){seg, r, fn, ctx};
    cr_assert_eq(pthread_create(&t[r], NULL, member, &m[r]), 0);
  }
  for (int r = 0; r < nrank; r++) pthread_join(t[r], NULL);
  comm_segment_drop(seg);
}

/* Value i of shard s: magnitudes differ so much that another order gives other bits. Every seventh shard is empty. */
static float value(int s, int64_t i) {
  if ((s + i) % 7 == 6) return -0.0f;
  uint32_t h = (uint32_t)(i * 2654435761u) ^ (uint32_t)(s * 40503u + 77);
  h ^= h >> 15, h *= 0x2c1b3c6du, h ^= h >> 12;
  return ldexpf((float)(int32_t)h * 0x1p-31f, (int)(h % 19) - 9);
}
static void fill_nodes(const Comm *c, int64_t n, float *in) {
  ShardNode node[TG_MAX_NODES];
  int k = comm_nodes(c, comm_rank(c), node);
  float *part = malloc(sizeof(float) * (size_t)n * TG_SHARDS + 1),
        *scratch = malloc(sizeof(float) * (size_t)n * TG_SHARD_DEPTH + 1);
  for (int j = 0; j < k; j++) {
    const void *at[TG_SHARDS];
    for (int s = node[j].lo; s < node[j].hi; s++) {
      at[s - node[j].lo] = part + n * s;
      for (int64_t i = 0; i < n; i++) part[n * s + i] = value(s, i);
    }
    join_node(JOIN_SUM, JOIN_F32, n, node[j], at, in + n * j, scratch);
  }
  free(part), free(scratch);
}
/* A sum of the rank's nodes, which lie one after another. Valid until the next call. */
static const Coll *join_of(const char *name, int64_t count, const float *in, float *out) {
  static _Thread_local Coll what;
  static _Thread_local CollPiece piece;
  what = (Coll){.kind = COLL_JOIN, .name = name, .type = JOIN_F32, .npiece = 1, .piece = &piece};
  piece = (CollPiece){.count = count, .out = out};
  for (int k = 0; k < TG_MAX_NODES; k++) piece.node[k] = in + k * count;
  return &what;
}

/* The tree, written out. */
static float tree(int64_t i) {
  float v[TG_SHARDS];
  for (int s = 0; s < TG_SHARDS; s++) v[s] = value(s, i);
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

static void join_sizes(Comm *c, void *ctx) {
  static const int64_t count[] = {0, 1, 15, 1000, 65536, 65537, 300001};
  enum { N = sizeof count / sizeof *count };
  float *in[N], *out[N];
  uint64_t ticket[N];
  for (int k = 0; k < N; k++) {
    in[k] = malloc(sizeof(float) * (size_t)(count[k] + 1) * TG_MAX_NODES),
    out[k] = malloc(sizeof(float) * (size_t)(count[k] + 1));
    fill_nodes(c, count[k], in[k]);
    ticket[k] = comm_start(c, join_of("w", count[k], in[k], out[k]));
  }
  CommFault f;
  for (int k = N - 1; k >= 0; k--) {
    cr_assert(comm_wait(c, ticket[k], &f), "%s", f.msg);
    for (int64_t i = 0; i < count[k]; i++) {
      float want = tree(i);
      cr_assert(memcmp(&want, &out[k][i], 4) == 0, "%d ranks, element %lld", comm_size(c), (long long)i);
    }
    free(in[k]), free(out[k]);
  }
}
Test(dist, joins_have_the_trees_bits) {
  for (int k = 0; k < NSIZES; k++) group(sizes[k], join_sizes, NULL);
  Comm *alone = comm_alone();
  join_sizes(alone, NULL);
  comm_free(alone);
}

/* Dealt out, unevenly; some ranks get nothing. */
static void deal_sizes(Comm *c, void *ctx) {
  static const int64_t count[] = {0, 1, 15, 1000, 65537, 600001};
  for (size_t k = 0; k < sizeof count / sizeof *count; k++) {
    int64_t block[16], n = comm_size(c), me = comm_rank(c), before = 0, left = count[k];
    for (int r = 0; r < n; r++) {
      block[r] = r % 3 == 1 ? 0 : r == n - 1 ? left : left / 2;
      left -= block[r], before += r < me ? block[r] : 0;
    }
    int64_t all = count[k] - left, own = block[me];
    float *in = malloc(sizeof(float) * (size_t)(all + 1) * TG_MAX_NODES),
          *out = malloc(sizeof(float) * (size_t)(block[me] + 1));
    fill_nodes(c, all, in);
    Coll what = *join_of("w", all, in, out);
    what.block = block;
    uint64_t ticket = comm_start(c, &what);
    memset(block, 0, sizeof block); /* copied */
    CommFault f;
    cr_assert(comm_wait(c, ticket, &f), "%s", f.msg);
    for (int64_t i = 0; i < own; i++) {
      float want = tree(before + i);
      cr_assert(memcmp(&want, &out[i], 4) == 0, "%d ranks, element %lld", comm_size(c), (long long)i);
    }
    free(in), free(out);
  }
}
Test(dist, what_is_dealt_out_has_the_trees_bits) {
  for (int k = 0; k < NSIZES; k++) group(sizes[k], deal_sizes, NULL);
  Comm *alone = comm_alone();
  deal_sizes(alone, NULL);
  comm_free(alone);
}

/* From memory that the ranks lend: dealt out, then gathered again. One rank (ctx) has its operands elsewhere; -1: none.
 */
static void lent_rounds(Comm *c, void *ctx) {
  int other = *(const int *)ctx, n = comm_size(c), me = comm_rank(c);
  enum { N = 300007, ROUNDS = 6 };
  ShardNode node[TG_MAX_NODES];
  int64_t block[16];
  size_t bytes = sizeof(float) * N * (size_t)(comm_nodes(c, me, node) + 1);
  for (int r = 0; r < n; r++) block[r] = shard_share(N, r + 1, n, 4) - shard_share(N, r, n, 4);
  float *lent = comm_lend(c, bytes), *own = malloc(bytes), *out = malloc(sizeof(float) * N);
  cr_assert(lent != NULL);
  float *in = me == other ? own : lent, *mine = in + (bytes / sizeof(float) - N);
  CommFault f;
  for (int k = 0; k < ROUNDS; k++) { /* each overwrites what the others may still read, if they were not waited for */
    fill_nodes(c, N, in);
    Coll deal = *join_of("w", N, in, mine);
    deal.block = block;
    cr_assert(comm_wait(c, comm_start(c, &deal), &f), "%s", f.msg);
    for (int64_t i = 0; i < block[me]; i++) mine[i] += (float)k;
    memset(in, k, (size_t)((char *)mine - (char *)in));
    Coll again = {.kind = COLL_GATHER, .name = "w", .type = JOIN_F32, .block = block, .in = mine, .out = out};
    cr_assert(comm_wait(c, comm_start(c, &again), &f), "%s", f.msg);
    for (int64_t i = 0; i < N; i++)
      cr_assert_eq(out[i], tree(i) + (float)k, "%d ranks, round %d, element %lld", n, k, (long long)i);
  }
  double sent = (double)comm_stats(c).bytes / ROUNDS, want = 2.0 * (n - 1) / n * sizeof(float) * N;
  if (8 % n == 0) cr_assert(fabs(sent - want) < 0.01 * want, "%g bytes", sent);
  cr_assert_eq(comm_stats(c).direct, other < 0 ? 2 * ROUNDS : 0);
  comm_take_back(c, lent);
  cr_assert_eq(comm_lend(c, bytes), (void *)lent);
  free(own), free(out);
}
Test(dist, lent_operands_are_read_where_they_lie) {
  for (int k = 1; k < NSIZES; k++) group(sizes[k], lent_rounds, &(int){-1});
  group(3, lent_rounds, &(int){1});
}

/* Pieces of a window: first fit, whole pages, zeroed. */
Test(dist, windows_lend_pieces) {
  enum { PAGE = 4096 };
  char *base = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  cr_assert(base != MAP_FAILED);
  Lent l = {.base = base, .bytes = 8 * PAGE}, none = {0};
  char *a = lent_take(&l, 1), *b = lent_take(&l, 2 * PAGE + 1), *c = lent_take(&l, PAGE);
  cr_assert(a == base && b == base + PAGE && c == base + 4 * PAGE);
  cr_assert(!lent_take(&l, 4 * PAGE) && !lent_take(&l, 0) && !lent_take(&l, SIZE_MAX) && !lent_take(&none, 1));
  b[PAGE] = 7;
  lent_give(&l, b);
  cr_assert_eq(lent_take(&l, 3 * PAGE), (void *)b);
  cr_assert_eq(b[PAGE], 0);
  cr_assert(lent_has(&l, b, 7 * PAGE) && !lent_has(&l, b, 7 * PAGE + 1) && !lent_has(&l, base - 1, 1));
  lent_give(&l, a), lent_give(&l, b), lent_give(&l, c);
  cr_assert_eq(l.n, 0);
  for (int k = 0; k < 8; k++) cr_assert_eq(lent_take(&l, PAGE), (void *)(base + PAGE * k));
  munmap(base, 8 * PAGE);
}

/* A bucket: pieces of all sizes in memory of their own, over several chunks of the group; none longer than `longest`.
 */
typedef struct Pieces {
  int n;
  CollPiece piece[COLL_PIECES];
  float *in[COLL_PIECES], *out[COLL_PIECES];
} Pieces;
static int64_t piece_count(int k) {
  static const int64_t ragged[] = {3, 0, 17, 1, 1000, 16, 70001, 5, 64, 130000, 1, 0};
  return ragged[k * 5 % 12] / (k < 12 ? 1 : 100);
}
static void make_pieces(Comm *c, Pieces *p) {
  p->n = COLL_PIECES;
  for (int k = 0; k < p->n; k++) {
    int64_t count = piece_count(k);
    p->in[k] = malloc(sizeof(float) * (size_t)(count + 1) * TG_MAX_NODES);
    p->out[k] = malloc(sizeof(float) * (size_t)(count + 1));
    fill_nodes(c, count, p->in[k]);
    p->piece[k] = (CollPiece){.count = count, .out = p->out[k]};
    for (int j = 0; j < TG_MAX_NODES; j++) p->piece[k].node[j] = p->in[k] + j * count;
  }
}
static void free_pieces(Pieces *p) {
  for (int k = 0; k < p->n; k++) free(p->in[k]), free(p->out[k]);
}
static void bucket(Comm *c, void *ctx) {
  const bool *fast = ctx;
  Pieces p;
  CommFault f;
  make_pieces(c, &p);
  Coll what = {.kind = COLL_JOIN, .name = "b", .type = JOIN_F32, .npiece = p.n, .piece = p.piece};
  comm_choose(c, &(CommChoices){.fast = *fast});
  uint64_t ticket = comm_start(c, &what);
  memset(p.piece, 0, sizeof p.piece); /* they are copied */
  cr_assert(comm_wait(c, ticket, &f), "%s", f.msg);
  int64_t held = 0;
  for (int k = 0; k < p.n; k++) {
    int64_t count = piece_count(k);
    held += 4 * count;
    for (int64_t i = 0; i < count; i++) {
      float want = tree(i);
      bool well = *fast ? fabsf(p.out[k][i] - want) <= 1e-2f : memcmp(&want, &p.out[k][i], 4) == 0;
      cr_assert(well, "%d ranks, piece %d, element %lld", comm_size(c), k, (long long)i);
    }
  }
  CommStats s = comm_stats(c);
  cr_assert(s.buckets == 1 && s.sums == p.n && s.held == held);
  free_pieces(&p);
}
Test(dist, buckets_have_the_trees_bits) {
  for (int k = 0; k < NSIZES; k++) group(sizes[k], bucket, &(bool){false});
  group(3, bucket, &(bool){true});
  Comm *alone = comm_alone();
  bucket(alone, &(bool){false});
  comm_free(alone);
}

/* As many elements, cut into other pieces: not the same bucket. */
static void cut_apart(Comm *c, void *ctx) {
  float in[TG_MAX_NODES * 8] = {0}, out[8];
  int64_t first = comm_rank(c) == 1 ? 3 : 5;
  CollPiece piece[2] = {{.count = first, .out = out}, {.count = 8 - first, .out = out + first}};
  for (int k = 0; k < TG_MAX_NODES; k++) piece[0].node[k] = in + 8 * k, piece[1].node[k] = in + 8 * k + first;
  CommFault f = {0};
  comm_start(c, &(Coll){.kind = COLL_JOIN, .name = "b", .type = JOIN_F32, .npiece = 2, .piece = piece});
  cr_assert(!comm_wait_all(c, &f));
}
Test(dist, buckets_of_other_pieces_differ) { group(2, cut_apart, NULL); }

static void gather_blocks(Comm *c, void *ctx) {
  int n = comm_size(c), me = comm_rank(c);
  int64_t block[16], total = 0, at = 0;
  for (int r = 0; r < n; r++) block[r] = r % 3 == 1 ? 0 : 50000 * r + 3, total += block[r];
  int64_t *in = malloc(sizeof *in * (size_t)(block[me] + 1)), *out = malloc(sizeof *out * (size_t)(total + 1));
  for (int64_t i = 0; i < block[me]; i++) in[i] = me * 1000000 + i;
  CommFault f;
  uint64_t t = comm_start(
      c, &(Coll){.kind = COLL_GATHER, .name = "rows", .type = JOIN_I64, .block = block, .in = in, .out = out});
  cr_assert(comm_wait(c, t, &f), "%s", f.msg);
  for (int r = 0; r < n; r++)
    for (int64_t i = 0; i < block[r]; i++) cr_assert_eq(out[at++], r * 1000000 + i);
  char text[100] = "";
  if (me == n - 1) strcpy(text, "from the last rank");
  cr_assert(comm_broadcast(c, n - 1, text, sizeof text, "text", &f));
  cr_assert_str_eq(text, "from the last rank");
  for (int k = 0; k < 200; k++) cr_assert(comm_barrier(c, &f));
  free(in), free(out);
}
Test(dist, gathers_broadcasts_barriers) {
  for (int k = 0; k < NSIZES; k++) group(sizes[k], gather_blocks, NULL);
}

/* More collectives than may be under way, finished in any order, between other work. */
static void many(Comm *c, void *ctx) {
  enum { N = 300, LEN = 64 };
  static _Thread_local float in[N][TG_MAX_NODES * LEN], out[N][LEN];
  uint64_t t[N];
  for (int k = 0; k < N; k++) {
    fill_nodes(c, LEN, in[k]);
    t[k] = comm_start(c, join_of("g", LEN, in[k], out[k]));
    if (k % 5 == comm_rank(c) % 5) comm_progress(c);
  }
  CommFault f;
  cr_assert(comm_wait_all(c, &f), "%s", f.msg);
  for (int k = 0; k < N; k++) {
    cr_assert(comm_done(c, t[k]));
    for (int i = 0; i < LEN; i++) cr_assert_eq(out[k][i], tree(i));
  }
}
Test(dist, many_under_way) { group(3, many, NULL); }

static void counted(Comm *c, void *ctx) {
  enum { N = 100000 };
  static _Thread_local float in[N * TG_MAX_NODES], out[N];
  fill_nodes(c, N, in);
  CommFault f;
  comm_start(c, join_of("w", N, in, out));
  cr_assert(comm_wait_all(c, &f));
  double want = 2.0 * (comm_size(c) - 1) / comm_size(c) * sizeof(float) * N;
  cr_assert(fabs((double)comm_stats(c).bytes - want) < 0.01 * want, "%lld bytes", (long long)comm_stats(c).bytes);
}
Test(dist, bytes_are_the_least_there_are) {
  group(2, counted, NULL);
  group(4, counted, NULL);
  group(8, counted, NULL);
}

static void disagree(Comm *c, void *ctx) {
  float in[TG_MAX_NODES * 8] = {0}, out[8];
  CommFault f = {0};
  const char *name = comm_rank(c) == 2 ? "conv.w" : "dense.w";
  comm_start(c, join_of(name, 8, in, out));
  cr_assert(!comm_wait_all(c, &f));
  if (comm_rank(c) == 2) return;
  bool own = strstr(f.msg, "dense.w") && strstr(f.msg, "conv.w"), other = strstr(f.msg, "rank ") == f.msg;
  cr_assert(own || other, "%s", f.msg);
}
Test(dist, a_mismatch_shows_both) { group(3, disagree, NULL); }

/* ---- processes --------------------------------------------------------------------------------------------------- */
typedef enum { WELL, EXITS, CRASHES, STOPS, FAULTS } How;
typedef struct Case {
  How how;
  int who, step;
} Case;
static int train(void *ctx, Comm *c) {
  const Case *k = ctx;
  float in[TG_MAX_NODES * 1000] = {0}, out[1000];
  CommFault f;
  for (int step = 0; step < 20; step++) {
    if (comm_rank(c) == k->who && step == k->step) {
      if (k->how == EXITS) return 3;
      if (k->how == CRASHES) kill(getpid(), SIGKILL);
      if (k->how == STOPS) kill(getpid(), SIGSTOP);
      if (k->how == FAULTS) {
        comm_fail(c, "index 7 is outside an axis of size 5");
        return 1;
      }
    }
    comm_start(c, join_of("w", 1000, in, out));
    if (!comm_wait_all(c, &f)) {
      fprintf(stderr, "%s\n", f.msg);
      return 1;
    }
  }
  return 0;
}
static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static void one_case(How how, int nrank, int who, int want) {
  Case k = {how, who, 7};
  double t0 = seconds();
  int code = launch(nrank, train, &k);
  cr_assert(want < 0 ? code != 0 : code == want, "code %d", code);
  cr_assert(seconds() - t0 < 10, "%.1f s", seconds() - t0);
}
Test(dist, ranks_end_well) { one_case(WELL, 4, -1, 0); }
Test(dist, a_rank_exits) { one_case(EXITS, 3, 1, -1); }
Test(dist, a_rank_is_killed) { one_case(CRASHES, 3, 0, 1); }
Test(dist, a_rank_has_a_fault) { one_case(FAULTS, 3, 2, 1); }
Test(dist, a_rank_is_stopped, .timeout = 20) { one_case(STOPS, 2, 1, 1); }
