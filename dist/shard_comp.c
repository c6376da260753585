/* Comprehensions of one rank: the iterator over samples runs over the rank's own. Where a body uses it as a number, or
 * to load something replicated, it begins at the rank's first sample; sharded operands are loaded from their own
 * beginning.
 *
 * A sum over samples becomes one a node of the rank's part of the tree (shards.h), each cut at the same chunk, and the
 * join of these over the ranks. On one rank that is one sum over all. */
#include "dist/shard_pass.h"
#include <math.h>
#include <string.h>

/* ---- bodies ------------------------------------------------------------------------------------------------------ */

typedef struct Body {
  Pass *p;
  Known *x;
  Expr **by; /* of each iterator: the new one, with its beginning */
} Body;

static Expr *renew(const Body *b, Expr *e);
static Expr *shifted(Graph *g, Expr *e, int64_t by) { return ex_op2(g, OP_ADD, e, ex_int(g, DT_I64, by)); }

static Expr *renew_load(const Body *b, Expr *e) {
  Pass *p = b->p;
  Split s = split_of(p, e->node);
  bool own = several(p) && s.rows && reads_own(p, b->x, e);
  Expr *idx[TG_MAX_RANK];
  for (int d = 0; d < e->n; d++) idx[d] = renew(b, e->arg[d]);
  if (own) idx[s.axis] = shifted(p->g, idx[s.axis], -own_lo(p, s.rows) * s.unit);
  Node *t = own ? own_of(p, e->node) : whole_of(p, e->node);
  return ex_load(p->g, t, e->n, idx, renew(b, e->mask), e->checked, e->span);
}
static Expr *renew_leaf(void *ctx, Expr *e) {
  const Body *b = ctx;
  if (e->kind == EX_ITER) return b->by[e->num.i];
  return e->kind == EX_LOAD ? renew_load(b, e) : NULL;
}
static Expr *renew(const Body *b, Expr *e) { return e ? ex_map(b->p->g, e, renew_leaf, (void *)b) : NULL; }

/* A kernel's iterators: `count` samples beginning at sample `first`. */
static void iterators(Body *b, int64_t first, int64_t count, int64_t *extent) {
  Graph *g = b->p->g;
  const Comp *c = comp_of(b->x->n);
  const Sample by = b->x->by;
  int n = c->nout + c->nred;
  for (int k = 0; k < n; k++) extent[k] = c->extent[k], b->by[k] = ex_iter(g, k);
  if (!by.rows) return;
  extent[by.iter] = count * by.unit;
  b->by[by.iter] = shifted(g, b->by[by.iter], first * by.unit);
}

static Node *build_scatter(Pass *p, const Body *b, const int64_t *extent) {
  const Node *n = b->x->n;
  const Comp *c = &n->scatter.src;
  Split s = several(p) ? b->x->one : (Split){0};
  Expr **idx = arena_array(p->a, Expr *, n->rank);
  int64_t dim[TG_MAX_RANK];
  for (int d = 0; d < n->rank; d++) idx[d] = renew(b, n->scatter.idx[d]), dim[d] = n->dim[d];
  if (s.rows) {
    dim[s.axis] = (own_hi(p, s.rows) - own_lo(p, s.rows)) * s.unit;
    idx[s.axis] = shifted(p->g, idx[s.axis], -own_lo(p, s.rows) * s.unit);
  }
  Node *base = n->scatter.base ? part_of(p, n->scatter.base, s) : NULL;
  return nd_scatter(p->g, (DType)n->dtype, n->rank, dim, base, c->nout, extent, idx, renew(b, c->body),
                    renew(b, c->guard), n->scatter.how, n->scatter.checked);
}

Node *build_kernel(Pass *p, Known *x) {
  const Node *n = x->n;
  const Comp *c = comp_of(n);
  Body b = {p, x, arena_array(p->a, Expr *, c->nout + c->nred)};
  int64_t *extent = arena_array(p->a, int64_t, c->nout + c->nred), lo = own_lo(p, x->by.rows);
  iterators(&b, lo, own_hi(p, x->by.rows) - lo, extent);
  if (n->kind == ND_SCATTER) return build_scatter(p, &b, extent);
  Expr *body = renew(&b, c->body);
  if (n->kind == ND_SCAN) return nd_scan(p->g, c->nout, extent, c->op, body, c->reverse, c->exclusive);
  return nd_comp_cut(p->g, c->nout, c->nred, extent, c->op, body, renew(&b, c->guard), c->chunk);
}

/* ---- sums over samples ------------------------------------------------------------------------------------------- */

/* What is summed: types that can be joined, operations that JoinOp has. */
typedef struct Sum {
  Reduce op;
  DType type;
  Expr *body, *guard;
  Expr *none; /* over nothing */
} Sum;

void shard_join(const Comp *c, JoinOp *op, DType *type) {
  bool any = c->op == RED_ANY || c->op == RED_ALL;
  DType t = (DType)c->body->dtype;
  *op = any ? JOIN_OR : c->op == RED_MAX ? JOIN_MAX : c->op == RED_MIN ? JOIN_MIN : JOIN_SUM;
  *type = any ? t : !dt_is_float(t) ? DT_I64 : t == DT_F64 ? DT_F64 : DT_F32;
}

int64_t shard_bytes(const Node *sum) {
  JoinOp op;
  DType type;
  shard_join(&sum->comp, &op, &type);
  int64_t n = dt_bytes(type);
  for (int d = 0; d < sum->rank; d++) n *= sum->dim[d];
  return n;
}

static Sum sum_of(Pass *p, const Comp *c) {
  Graph *g = p->g;
  DType t = (DType)c->body->dtype;
  JoinOp join;
  bool is_float = dt_is_float(t), best = c->op == RED_MAX || c->op == RED_MIN;
  Sum s = {c->op, t, c->body, c->guard, NULL};
  shard_join(c, &join, &s.type);
  if (join == JOIN_OR) {
    s.op = RED_ANY, s.none = ex_bool(g, false);
    if (c->op == RED_ALL) s.body = ex_op1(g, OP_NOT, c->body);
    return s;
  }
  double worst = c->op == RED_MAX ? -INFINITY : INFINITY;
  int64_t least = c->op == RED_MAX ? dt_int_min(t) : dt_int_max(t);
  if (best && is_float) s.body = ex_op2(g, OP_ADD, s.body, ex_float(g, t, 0)); /* one zero: no order between two */
  if (best && !is_float && s.guard) s.body = ex_select(g, s.guard, s.body, ex_int(g, t, least)), s.guard = NULL;
  if (t != s.type) s.body = ex_cast(g, s.type, s.body);
  if (is_float)
    s.none = ex_float(g, s.type, best ? worst : -0.0);
  else
    s.none = ex_int(g, DT_I64, best ? least : 0);
  return s;
}

/* Flat positions of a chunk: those of a shard, halved while they are too many. */
static int64_t chunk_of(const Comp *c, Sample by) {
  enum { MANY = 4096 };
  int64_t inner = 1, row = (by.rows + TG_SHARDS - 1) / TG_SHARDS * by.unit;
  for (int k = c->nout; k < c->nout + c->nred; k++)
    if (k != by.iter) inner *= c->extent[k];
  while (row % 2 == 0 && row * inner > MANY) row /= 2;
  return row * inner;
}

/* The sum of `count` samples from `first` on. */
static Node *sum_part(Pass *p, Known *x, const Sum *s, int64_t first, int64_t count) {
  Graph *g = p->g;
  const Comp *c = &x->n->comp;
  int n = c->nout + c->nred, at = c->nout;
  Body b = {p, x, arena_array(p->a, Expr *, n)};
  int64_t *extent = arena_array(p->a, int64_t, n), *ordered = arena_array(p->a, int64_t, n);
  if (!count) return nd_comp(g, c->nout, 0, c->extent, RED_NONE, s->none, NULL);
  iterators(&b, first, count, extent);
  if (c->nout) memcpy(ordered, extent, sizeof *extent * (size_t)c->nout);
  ordered[at] = extent[x->by.iter]; /* samples outermost */
  b.by[x->by.iter] = shifted(g, ex_iter(g, at), first * x->by.unit);
  for (int k = c->nout; k < n; k++)
    if (k != x->by.iter) ordered[++at] = extent[k], b.by[k] = ex_iter(g, at);
  int64_t chunk = s->op == RED_SUM ? chunk_of(c, x->by) : 0;
  return nd_comp_cut(g, c->nout, c->nred, ordered, s->op, renew(&b, s->body), renew(&b, s->guard), chunk);
}

/* As the reduction gave it. */
static Node *finished(Pass *p, const Known *x, Node *t) {
  Graph *g = p->g;
  const Comp *c = &x->n->comp;
  if (c->op != RED_ALL && t->dtype == x->n->dtype) return t;
  Expr *e = ex_load_full(g, t, 0);
  e = c->op == RED_ALL ? ex_op1(g, OP_NOT, e) : ex_cast(g, (DType)x->n->dtype, e);
  return nd_comp(g, c->nout, 0, t->dim, RED_NONE, e, NULL);
}

Node *build_sum(Pass *p, Known *x) {
  Sum s = sum_of(p, &x->n->comp);
  if (dt_is_float(s.type)) return finished(p, x, sum_part(p, x, &s, 0, x->by.rows));
  x->by = (Sample){0};
  return build_kernel(p, x);
}

/* ---- over several ranks ------------------------------------------------------------------------------------------ */

static int own_nodes(const Pass *p, ShardNode node[TG_MAX_NODES]) {
  return shard_nodes(shard_of_rank(p->env->rank, p->env->nrank), shard_of_rank(p->env->rank + 1, p->env->nrank), node);
}
static void sum_nodes(Pass *p, Known *x, Node **part) {
  ShardNode node[TG_MAX_NODES];
  Sum s = sum_of(p, &x->n->comp);
  for (int k = 0, n = own_nodes(p, node); k < n; k++) {
    int64_t lo = shard_lo(x->by.rows, node[k].lo);
    part[k] = sum_part(p, x, &s, lo, shard_lo(x->by.rows, node[k].hi) - lo);
  }
}
static TensorType result_of(Pass *p, const Bucket *b, int i) {
  const Known *x = b->sum.at[i];
  int64_t *dim = arena_array(p->a, int64_t, x->n->rank);
  own_dims(p, x->n->rank, x->n->dim, x->one, dim);
  return (TensorType){b->type, x->n->rank, dim};
}
/* The result of sum number i of a bucket. */
static void build_wait(Pass *p, const Bucket *b, int i, Node *start, int npart, Node *const *part) {
  Graph *g = p->g;
  Known *x = b->sum.at[i];
  TensorType res = result_of(p, b, i);
  Node *arg[2 + TG_MAX_NODES] = {nd_get(g, start, 0), nd_get(g, start, 1 + i)};
  for (int k = 0; k < npart; k++) arg[2 + k] = part[k];
  x->start = start;
  x->wait = nd_call(g, p->env->wait, 0, NULL, 2 + npart, arg, 1, &res);
  x->own = finished(p, x, nd_get(g, x->wait, 0));
}

void build_bucket(Pass *p, const Bucket *b) {
  Graph *g = p->g;
  ShardNode node[TG_MAX_NODES];
  int n = b->sum.n, npart = own_nodes(p, node), total = n * npart;
  Node **part = arena_array(p->a, Node *, total);
  TensorType *res = arena_array(p->a, TensorType, 1 + n);
  res[0] = (TensorType){DT_I64, 0, NULL};
  for (int i = 0; i < n; i++) {
    Known *x = b->sum.at[i];
    g->span = x->n->span;
    sum_nodes(p, x, part + i * npart);
    res[1 + i] = result_of(p, b, i);
  }
  const Node *first = b->sum.at[0]->n;
  const char *name = shard_name(p, red_name(first->comp.op), first);
  if (n > 1) name = arena_printf(p->a, "%s and %d more", name, n - 1);
  int64_t rows = b->sum.at[0]->one.rows;
  Attr attr[3] = {{.s = name}, {.i = b->op, .f = b->op}, {.i = rows, .f = (double)rows}};
  g->span = first->span;
  Node *start = nd_call(g, p->env->start, b->sum.at[0]->dealt ? 3 : 2, attr, total, part, 1 + n, res);
  for (int i = 0; i < n; i++) {
    g->span = b->sum.at[i]->n->span;
    build_wait(p, b, i, start, npart, part + i * npart);
  }
}
