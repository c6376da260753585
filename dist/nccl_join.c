/* The kernels of exact joins between GPUs: one a type and operation, the tree of the group's nodes written out as one
 * expression, so that every element is joined in the order of shards.h, whatever the number of ranks. */
#include "dist/nccl_rank.h"
#include <stdio.h>
#include <string.h>

/* As join (shards.c) has them. Sums of integers wrap. */
static const char functions[] =
    "typedef struct TgArgs { const char *part[8]; char *out; i64 n, step, nparts; } TgArgs;\n"
    "#define SUM(x, y) ((x) + (y))\n"
    "#define OR(x, y) ((x) | (y))\n"
    "#define BEST(name, T, cmp) TG_FN T name(T x, T y) { return x cmp y || x != x ? x : y; }\n"
    "BEST(max_f32, float, >)\nBEST(min_f32, float, <)\nBEST(max_f64, double, >)\nBEST(min_f64, double, <)\n"
    "TG_FN u64 max_i64(u64 x, u64 y) { return (i64)x > (i64)y ? x : y; }\n"
    "TG_FN u64 min_i64(u64 x, u64 y) { return (i64)x > (i64)y ? y : x; }\n"
    "#define JOIN(name, T, f) TG_KERNEL(name, 256) { \\\n"
    "  for (i64 i = blockIdx.x * 256ll + threadIdx.x; i < A.n; i += A.step) ((T *)A.out)[i] = TREE(f, T); }\n"
    "#define IN_ROW(name, T) TG_KERNEL(name, 256) { \\\n"
    "  for (i64 i = blockIdx.x * 256ll + threadIdx.x; i < A.n; i += A.step) { \\\n"
    "    T x = ((const T *)A.part[0])[i]; \\\n"
    "    for (i64 k = 1; k < A.nparts; k++) x = x + ((const T *)A.part[k])[i]; \\\n"
    "    ((T *)A.out)[i] = x; } }\n"
    "#define P(k, T) ((const T *)A.part[k])[i]\n";

typedef struct Row {
  JoinOp op;
  JoinType type;
  const char *name, *text, *fn;
} Row;
static const Row row[] = {
    {JOIN_SUM, JOIN_F32, "join_sum_f32", "float", "SUM"},
    {JOIN_MAX, JOIN_F32, "join_max_f32", "float", "max_f32"},
    {JOIN_MIN, JOIN_F32, "join_min_f32", "float", "min_f32"},
    {JOIN_SUM, JOIN_F64, "join_sum_f64", "double", "SUM"},
    {JOIN_MAX, JOIN_F64, "join_max_f64", "double", "max_f64"},
    {JOIN_MIN, JOIN_F64, "join_min_f64", "double", "min_f64"},
    {JOIN_SUM, JOIN_I64, "join_sum_i64", "u64", "SUM"},
    {JOIN_MAX, JOIN_I64, "join_max_i64", "u64", "max_i64"},
    {JOIN_MIN, JOIN_I64, "join_min_i64", "u64", "min_i64"},
    {JOIN_OR, JOIN_I64, "join_or_i64", "u64", "OR"},
    {JOIN_OR, JOIN_U8, "join_or_u8", "u8", "OR"},
};
enum { NROW = sizeof row / sizeof *row };

typedef struct Tree {
  const ShardNode *node;
  int nnode;
  char *to, *end;
} Tree;
static void put(Tree *t, const char *text) { t->to += snprintf(t->to, (size_t)(t->end - t->to), "%s", text); }
/* The value of [lo, hi) in terms of f, T and the parts. */
static void write_tree(Tree *t, int lo, int hi) {
  char part[24];
  for (int k = 0; k < t->nnode; k++)
    if (t->node[k].lo == lo && t->node[k].hi == hi) {
      snprintf(part, sizeof part, "P(%d, T)", k);
      put(t, part);
      return;
    }
  int mid = (lo + hi) / 2;
  put(t, "f(");
  write_tree(t, lo, mid);
  put(t, ", ");
  write_tree(t, mid, hi);
  put(t, ")");
}

static void write_source(const Nccl *n, char *to, size_t room) {
  ShardNode node[NCCL_MAX_PARTS];
  Tree t = {node, 0, to, to + room};
  for (int r = 0; r < n->c->nrank; r++) t.nnode += comm_nodes(n->c, r, node + t.nnode);
  put(&t, functions);
  put(&t, "#define TREE(f, T) ");
  write_tree(&t, 0, TG_SHARDS);
  put(&t, "\n");
  for (int k = 0; k < NROW; k++)
    t.to += snprintf(t.to, (size_t)(t.end - t.to), "JOIN(%s, %s, %s)\n", row[k].name, row[k].text, row[k].fn);
  put(&t, "IN_ROW(sum_f32, float)\nIN_ROW(sum_f64, double)\n");
}

bool nccl_kernels(Nccl *n, const NcclEnv *env) {
  char source[8192], why[512];
  const RtDeviceOps *op = n->d->op;
  write_source(n, source, sizeof source);
  const void *image = env->compile(env->ctx, source, why, sizeof why);
  if (!image) {
    snprintf(n->d->why, sizeof n->d->why, "the kernel that joins could not be compiled: %.200s", why);
    return nccl_device_ok(n, false);
  }
  bool ok = op->load(n->d, image, &n->module);
  for (int k = 0; k < NROW && ok; k++)
    ok = op->function(n->d, n->module, row[k].name, &n->join[row[k].op][row[k].type]);
  ok = ok && op->function(n->d, n->module, "sum_f32", &n->sum[JOIN_F32]) &&
       op->function(n->d, n->module, "sum_f64", &n->sum[JOIN_F64]);
  return nccl_device_ok(n, ok);
}

bool nccl_launch(Nccl *n, RtFunction *f, NcclArgs *a) {
  int64_t blocks = (a->n + 255) / 256;
  if (blocks > 4096) blocks = 4096;
  a->step = blocks * 256;
  return a->n == 0 || nccl_device_ok(n, n->d->op->launch(n->d, f, (uint32_t)blocks, 256, a));
}
