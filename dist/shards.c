/* Intervals of shards, their nodes, and the tree's arithmetic. */
#include "dist/shards.h"
#include <string.h>

int64_t shard_lo(int64_t rows, int s) {
  int64_t each = rows / TG_SHARDS + (rows % TG_SHARDS != 0);
  return each && s > rows / each ? rows : s * each;
}
int shard_of_rank(int rank, int nrank) { return (int)((int64_t)rank * TG_SHARDS / nrank); }

int shard_nodes(int lo, int hi, ShardNode node[TG_MAX_NODES]) {
  int n = 0;
  while (lo < hi) {
    int size = 1; /* the largest node that begins here and stays inside */
    while (lo % (2 * size) == 0 && lo + 2 * size <= hi) size *= 2;
    node[n++] = (ShardNode){lo, lo + size};
    lo += size;
  }
  return n;
}

int join_bytes(JoinType t) {
  static const int bytes[JOIN_TYPES] = {4, 8, 8, 1};
  return bytes[t];
}

/* One loop a type and operation; the compiler turns each into vectors. Sums of integers wrap, as in tg. */
#define LOOP(T, EXPR)                                                                                                  \
  do {                                                                                                                 \
    const T *x = a, *y = b;                                                                                            \
    T *z = out;                                                                                                        \
    for (int64_t i = 0; i < n; i++) z[i] = (EXPR);                                                                     \
  } while (0)
/* As scalar.def: nan counts as best, of equal ones the later part. */
#define BEST(T, CMP) LOOP(T, x[i] CMP y[i] || x[i] != x[i] ? x[i] : y[i])
#define ORDERED(T)                                                                                                     \
  do {                                                                                                                 \
    if (op == JOIN_MAX)                                                                                                \
      BEST(T, >);                                                                                                      \
    else                                                                                                               \
      BEST(T, <);                                                                                                      \
  } while (0)
void join(JoinOp op, JoinType t, int64_t n, const void *a, const void *b, void *out) {
  switch (t) {
  case JOIN_F32:
    if (op == JOIN_SUM)
      LOOP(float, x[i] + y[i]);
    else
      ORDERED(float);
    return;
  case JOIN_F64:
    if (op == JOIN_SUM)
      LOOP(double, x[i] + y[i]);
    else
      ORDERED(double);
    return;
  case JOIN_I64:
    if (op == JOIN_SUM)
      LOOP(int64_t, (int64_t)((uint64_t)x[i] + (uint64_t)y[i]));
    else if (op == JOIN_OR)
      LOOP(int64_t, x[i] | y[i]);
    else
      LOOP(int64_t, (op == JOIN_MAX) == (x[i] > y[i]) ? x[i] : y[i]);
    return;
  default:
    LOOP(uint8_t, (uint8_t)(x[i] | y[i]));
    return;
  }
}

typedef struct Tree {
  JoinOp op;
  JoinType type;
  int64_t n;
  int nnode;
  const ShardNode *node;
  const void *const *part;
  char *scratch;
} Tree;

/* Where the values of node [lo, hi) lie: a part, or `to` after joining both halves there. */
static const void *value_of(const Tree *t, int lo, int hi, int depth, void *to) {
  for (int k = 0; k < t->nnode; k++)
    if (t->node[k].lo == lo && t->node[k].hi == hi) return t->part[k];
  int mid = (lo + hi) / 2;
  char *mine = t->scratch + (int64_t)depth * t->n * join_bytes(t->type);
  const void *a = value_of(t, lo, mid, depth + 1, to);
  const void *b = value_of(t, mid, hi, depth + 1, mine);
  join(t->op, t->type, t->n, a, b, to);
  return to;
}

void join_tree(JoinOp op, JoinType type, int64_t n, int nnode, const ShardNode *node, const void *const *part,
               void *out, void *scratch) {
  Tree t = {op, type, n, nnode, node, part, scratch};
  const void *v = value_of(&t, 0, TG_SHARDS, 0, out);
  if (v != out) memcpy(out, v, (size_t)n * (size_t)join_bytes(type));
}

void join_node(JoinOp op, JoinType type, int64_t n, ShardNode at, const void *const *part, void *out, void *scratch) {
  ShardNode leaf[TG_SHARDS];
  for (int s = at.lo; s < at.hi; s++) leaf[s - at.lo] = (ShardNode){s, s + 1};
  Tree t = {op, type, n, at.hi - at.lo, leaf, part, scratch};
  const void *v = value_of(&t, at.lo, at.hi, 0, out);
  if (v != out) memcpy(out, v, (size_t)n * (size_t)join_bytes(type));
}

int64_t shard_share(int64_t n, int r, int nrank, int bytes) {
  int64_t line = 64 / bytes, lines = (n + line - 1) / line, lo = lines * r / nrank * line;
  return lo > n ? n : lo;
}
