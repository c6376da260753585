/* The sharding pass: programs over batches have the same bits on any number of ranks, one included.
 *
 * Ranks are threads over shared memory, each with its own graph of the same text. Random programs read a batch in a
 * loop (a `data_next` of this file), do anything with it (codegen_random.h and the constructions below), carry states
 * from step to step, stack values, and show some to a native with an effect; what all ranks end with must be one rank's
 * bytes. One rank's values must be those of the oracle on the graph before the pass. */
#include "codegen/rt/hash.h"
#include "codegen_random.h"
#include "dist/natives.h"
#include "dist/shard.h"
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>

/* ---- natives ----------------------------------------------------------------------------------------------------- */

typedef struct Ctx {
  NativeCtx base;
  uint64_t seen; /* hash of all that was shown, in order */
} Ctx;

static bool next_rows(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                      Fault *f) {
  int64_t rows = attr[1].i, lo = nattr == 4 ? attr[2].i : 0, hi = nattr == 4 ? attr[3].i : rows;
  int64_t step = *(const int64_t *)in[0].data;
  for (int k = 0; k < nout - 2; k++) {
    Tensor *t = &out[k], row = *t;
    int64_t n = 1;
    if (t->dim[0] != hi - lo) return fault_set(f, R_NATIVE, (Span){0}, "data_next: %d rows", (int)t->dim[0]), false;
    for (int d = 1; d < t->rank; d++) n *= t->dim[d];
    row.rank = 1, row.dim[0] = n;
    for (int64_t b = lo; b < hi; b++) {
      row.data = (char *)t->data + (size_t)((b - lo) * n) * (size_t)dt_bytes(t->dtype);
      prog_fill(&row, (uint64_t)((step * 1000 + b) * 16 + k + 1));
    }
  }
  *(bool *)out[nout - 2].data = true;
  *(int64_t *)out[nout - 1].data = step;
  return true;
}
static bool show(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out, Fault *f) {
  Ctx *c = ctx;
  for (int k = 0; k < nin; k++) c->seen = rt_hash(c->seen, in[k].data, tensor_bytes(&in[k]));
  return true;
}
static const Native native_next = {.name = "data_next", .effect = true, .run = next_rows};
static const Native native_show = {.name = "show", .effect = true, .run = show};

static Graph *new_graph(Arena *a) {
  Graph *g = graph_new(a, diags_new(a));
  Natives *all = arena_new_of(a, Natives);
  all->arena = a;
  const Native *const row[] = {&native_next, &native_show, &native_coll_start, &native_coll_wait, &native_coll_gather};
  for (size_t i = 0; i < sizeof row / sizeof *row; i++) natives_add(all, row[i]);
  g->natives = all;
  return g;
}

/* ---- ranks ------------------------------------------------------------------------------------------------------- */

enum { MOST_OUT = 40, MOST_RANKS = 16 };
typedef struct Outcome {
  bool ok;
  int nout;
  Tensor out[MOST_OUT];
  uint64_t seen;
  char why[600];
} Outcome;
typedef struct Rank {
  const char *text;
  CommSegment *seg;
  int rank, nrank, nin;
  const Tensor *in;
  double interpret_below;
  Deal deal;
  pthread_mutex_t *compiling;
  Outcome o;
} Rank;

static void *lend(void *ctx, size_t bytes) { return comm_lend(ctx, bytes); }
static void take_back(void *ctx, void *at) { comm_take_back(ctx, at); }
static void run_region(Rank *r, Graph *g, Region *region, Ctx *ctx) {
  Fault fault = {0};
  pthread_mutex_lock(r->compiling);
  Codegen *c = codegen_new(&(CodegenOptions){.threads = 1,
                                             .interpret_below = r->interpret_below,
                                             .lend = lend,
                                             .take_back = take_back,
                                             .lend_ctx = ctx->base.ranks->self});
  Plan *p = codegen_plan(c, g, region, &fault);
  pthread_mutex_unlock(r->compiling);
  r->o.ok = p && plan_run(p, r->nin, r->in, r->o.out, ctx, &fault);
  r->o.nout = region->nout, r->o.seen = ctx->seen;
  if (!r->o.ok) snprintf(r->o.why, sizeof r->o.why, "rank %d of %d: %s", r->rank, r->nrank, fault.msg);
  if (p) plan_free(p);
  codegen_free(c);
}
static void *run_rank(void *arg) {
  Rank *r = arg;
  Arena *a = arena_new();
  Graph *g = new_graph(a);
  Region region;
  char *error;
  if (!graph_parse(g, r->text, &region, &error)) {
    snprintf(r->o.why, sizeof r->o.why, "%s", error);
    arena_free(a);
    return NULL;
  }
  graph_simplify(g, &region);
  ShardEnv env = {r->rank, r->nrank, r->deal, &native_coll_start, &native_coll_wait, &native_coll_gather, NULL};
  shard_region(g, &region, &env);
  graph_verify(g, &region);
  Comm *comm = r->nrank > 1 ? comm_shared(r->seg, r->rank) : comm_alone();
  NativeRanks ranks = ranks_of_comm(comm);
  Ctx ctx = {{&ranks}, 0};
  run_region(r, g, &region, &ctx);
  if (!r->o.ok) comm_fail(comm, r->o.why);
  comm_free(comm);
  arena_free(a);
  return NULL;
}
static void drop(Outcome *o) {
  for (int i = 0; o->ok && i < o->nout; i++) tensor_drop(&o->out[i]);
}

/* Runs the program on nrank ranks; rank r's outcome into o[r]. */
static void run_ranks(const char *text, int nrank, int nin, const Tensor *in, double interpret_below, Deal deal,
                      Outcome *o) {
  CommSegment *seg = comm_segment_new(nrank);
  cr_assert(seg != NULL);
  pthread_mutex_t compiling = PTHREAD_MUTEX_INITIALIZER;
  pthread_t t[MOST_RANKS];
  Rank *rank = calloc(MOST_RANKS, sizeof *rank);
  for (int r = 0; r < nrank; r++) {
    rank[r] = (Rank){text, seg, r, nrank, nin, in, interpret_below, deal, &compiling, {0}};
    cr_assert_eq(pthread_create(&t[r], NULL, run_rank, &rank[r]), 0);
  }
  for (int r = 0; r < nrank; r++) pthread_join(t[r], NULL);
  for (int r = 0; r < nrank; r++) o[r] = rank[r].o;
  free(rank);
  comm_segment_drop(seg);
}

static bool same_bytes(const Outcome *x, const Outcome *y) {
  if (!x->ok || !y->ok || x->nout != y->nout || x->seen != y->seen) return false;
  for (int i = 0; i < x->nout; i++)
    if (tensor_bytes(&x->out[i]) != tensor_bytes(&y->out[i]) ||
        memcmp(x->out[i].data, y->out[i].data, tensor_bytes(&x->out[i])))
      return false;
  return true;
}

/* One rank's outcome against that of several: 0, or the number of ranks where it differs (printed). */
static int compare_ranks(const char *text, int nin, const Tensor *in, double interpret_below, Deal deal, int n,
                         const int *nrank, const char *name) {
  Outcome *one = calloc(1, sizeof *one), *o = calloc(MOST_RANKS, sizeof *o);
  int bad = 0;
  run_ranks(text, 1, nin, in, interpret_below, deal, one);
  if (!one->ok) bad = 1, fprintf(stderr, "%s: %s\n", name, one->why);
  for (int k = 0; k < n && !bad; k++) {
    run_ranks(text, nrank[k], nin, in, interpret_below, deal, o);
    for (int r = 0; r < nrank[k]; r++) {
      if (!bad && !same_bytes(one, &o[r]))
        bad = nrank[k], fprintf(stderr, "%s: rank %d of %d differs; %s\n", name, r, nrank[k], o[r].why);
      drop(&o[r]);
    }
  }
  drop(one);
  free(one), free(o);
  return bad;
}

/* ---- random programs over a batch -------------------------------------------------------------------------------- */

static Node *as_float(Gen *r, Node *n) {
  Node *f = nd_comp(r->g, n->rank, 0, n->dim, RED_NONE, ex_cast(r->g, r->t, ex_load_full(r->g, n, 0)), NULL);
  return nd_comp(r->g, n->rank, 0, n->dim, RED_NONE, ex_op1(r->g, OP_TANH, ex_load_full(r->g, f, 0)), NULL);
}

/* The first two axes as one, and back. */
static Node *gen_flatten(Gen *r) {
  Node *x = gen_pick(r);
  Graph *g = r->g;
  int64_t dim[16];
  Expr *at[16];
  if (x->rank < 2 || x->rank > 4 || !x->dim[1]) return gen_map(r);
  Expr *i = ex_iter(g, 0), *inner = ex_int(g, DT_I64, x->dim[1]);
  dim[0] = x->dim[0] * x->dim[1];
  at[0] = ex_op2(g, OP_FLOORDIV, i, inner), at[1] = ex_op2(g, OP_MOD, i, inner);
  for (int d = 2; d < x->rank; d++) dim[d - 1] = x->dim[d], at[d] = ex_iter(g, d - 1);
  return nd_comp(g, x->rank - 1, 0, dim, RED_NONE, ex_load(g, x, x->rank, at, NULL, false, (Span){0}), NULL);
}
static Node *gen_unflatten(Gen *r, int64_t rows) {
  Node *x = gen_pick(r);
  Graph *g = r->g;
  int64_t dim[16];
  Expr *at[16];
  if (x->rank < 1 || x->rank > 3 || x->dim[0] <= rows || x->dim[0] % rows) return gen_map(r);
  dim[0] = rows, dim[1] = x->dim[0] / rows;
  at[0] = ex_lin(g, 0, 2, (int64_t[]){dim[1], 1}, (Expr *[]){ex_iter(g, 0), ex_iter(g, 1)});
  for (int d = 1; d < x->rank; d++) dim[d + 1] = x->dim[d], at[d] = ex_iter(g, d + 1);
  return nd_comp(g, x->rank + 1, 0, dim, RED_NONE, ex_load(g, x, x->rank, at, NULL, false, (Span){0}), NULL);
}
/* A draw for each place of some value: counters made of iterators. */
static Node *gen_noise(Gen *r) {
  Node *x = gen_pick(r);
  Graph *g = r->g;
  Expr *c = ex_int(g, DT_I64, 17), *k = ex_int(g, DT_I64, 99);
  for (int d = 0; d < x->rank; d++)
    c = ex_op2(g, OP_ADD, ex_op2(g, OP_MUL, c, ex_int(g, DT_I64, x->dim[d] + 1)), ex_iter(g, d));
  Expr *u = ex_op2(g, OP_MOD, ex_op2(g, OP_PHILOX, k, c), ex_int(g, DT_I64, 7));
  Node *n = nd_comp(g, x->rank, 0, x->dim, RED_NONE, ex_cast(g, r->t, u), NULL);
  Expr *e = ex_op2(g, OP_MUL, ex_load_full(g, x, 0), ex_load_full(g, n, 0));
  return nd_comp(g, x->rank, 0, x->dim, RED_NONE, ex_op1(g, OP_TANH, e), NULL);
}
/* Rows of a table by the batch's own integers; the adjoint; a mark in each sample's row. */
static Node *gen_keyed(Gen *r, Node *keys) {
  Graph *g = r->g;
  Node *x = gen_pick(r);
  Expr *b = ex_iter(g, 0), *key = ex_load(g, keys, 1, &b, NULL, false, (Span){0});
  int64_t rows = keys->dim[0], dim[16];
  Expr *at[16];
  switch (gen_int(r, 3)) {
  case 0: /* x[key[b], ..] */
    if (x->rank < 1 || x->rank > 3 || x->dim[0] < 7) return gen_noise(r);
    dim[0] = rows, at[0] = key;
    for (int d = 1; d < x->rank; d++) dim[d] = x->dim[d], at[d] = ex_iter(g, d);
    return nd_comp(g, x->rank, 0, dim, RED_NONE, ex_load(g, x, x->rank, at, NULL, true, (Span){0}), NULL);
  case 1: /* rows of the batch added by key */
    if (x->rank < 1 || x->rank > 3 || x->dim[0] != rows) return gen_noise(r);
    dim[0] = 7, at[0] = key;
    for (int d = 1; d < x->rank; d++) dim[d] = x->dim[d], at[d] = ex_iter(g, d);
    return gen_bound(
        r, nd_scatter(g, r->t, x->rank, dim, NULL, x->rank, x->dim, at, ex_load_full(g, x, 0), NULL, SC_ADD, true));
  default: /* one place of each row; in what is there already, or in zeros */
    dim[0] = rows, dim[1] = 7, at[0] = b, at[1] = key;
    bool base = x->rank == 2 && x->dim[0] == rows && x->dim[1] == 7;
    return nd_scatter(g, r->t, 2, dim, base ? x : NULL, 1, dim, at, ex_float(g, r->t, -0.25), NULL, SC_ADD, true);
  }
}
/* Over samples: best ones and conditions, by any type. */
static Node *gen_over_batch(Gen *r, Node *ints) {
  static const Reduce op[] = {RED_SUM, RED_MAX, RED_MIN, RED_ANY, RED_ALL, RED_ARGMAX};
  static const DType type[] = {DT_I64, DT_I32, DT_U8, DT_F16, DT_BF16, DT_F32, DT_F64};
  Graph *g = r->g;
  Reduce o = op[gen_int(r, 6)];
  Expr *e = ex_cast(g, type[gen_int(r, 7)], ex_load_full(g, ints, 0)), *guard = NULL;
  if (o == RED_ANY || o == RED_ALL) e = ex_op2(g, OP_GT, ex_load_full(g, ints, 0), ex_int(g, DT_I64, gen_int(r, 7)));
  if (gen_int(r, 2)) guard = ex_op2(g, OP_GT, ex_load_full(g, ints, 0), ex_int(g, DT_I64, 2));
  if (e->dtype == DT_U8 && o == RED_SUM) e = ex_cast(g, DT_I64, e);
  Node *n = as_float(r, nd_comp(g, 0, 1, ints->dim, o, e, guard));
  Expr *clip = ex_op2(g, OP_MAX, ex_op2(g, OP_MIN, ex_load_full(g, n, 0), ex_float(g, r->t, 1)), ex_float(g, r->t, -1));
  return nd_scalar(g, clip);
}
/* A loop that is tested by a value of its state. */
static Node *gen_until(Gen *r) {
  Graph *g = r->g;
  Node *x = gen_pick(r);
  Node *p = nd_param(g, r->t, x->rank, x->dim, "p");
  Expr *half = ex_op2(g, OP_MUL, ex_load_full(g, p, 0), ex_float(g, r->t, 0.5 + 0.001 * gen_int(r, 100)));
  Node *next = nd_comp(g, x->rank, 0, x->dim, RED_NONE, half, NULL);
  Node *most =
      nd_comp(g, 0, x->rank, x->dim, x->rank ? RED_MAX : RED_NONE, ex_op1(g, OP_ABS, ex_load_full(g, p, 0)), NULL);
  Node *test =
      nd_comp(g, 0, 0, NULL, RED_NONE, ex_op2(g, OP_GT, ex_load_full(g, most, 0), ex_float(g, r->t, 0.3)), NULL);
  Loop l = {.nstate = 1, .init = &x, .param = &p, .trip = 6, .cond = test, .body = {1, &next, 0, NULL}};
  return nd_get(g, nd_loop(g, &l), 0);
}
static Node *gen_batch_step(Gen *r, int64_t rows, Node *ints) {
  switch (gen_int(r, 14)) {
  case 0:
    return gen_flatten(r);
  case 1:
    return gen_unflatten(r, rows);
  case 2:
    return gen_noise(r);
  case 3:
    return gen_keyed(r, ints);
  case 4:
    return gen_over_batch(r, ints);
  case 5:
    return gen_until(r);
  case 6:
  case 7:
    return gen_reduce(r);
  case 8:
  case 9:
    return gen_matmul(r);
  default:
    return NULL;
  }
}

typedef struct Program {
  Prog p;
  char *text;
} Program;
/* A loop of three steps over batches; its states, and rows that it stacks. */
static void make_program(Program *out, uint64_t seed, int64_t rows) {
  Prog *p = &out->p;
  memset(out, 0, sizeof *out);
  p->a = arena_new();
  Graph *g = p->g = new_graph(p->a);
  Gen r = {.g = g, .s = seed * 0x9E3779B97F4A7C15u + 54321};
  for (int i = 0; i < 8; i++) prog_rand(&r.s);
  r.t = gen_int(&r, 3) ? DT_F32 : DT_F64;
  int64_t d[3] = {rows, 1 + gen_int(&r, 20), 1 + gen_int(&r, 6)}, w[2] = {d[1], d[2]};
  Node *counter = nd_counter(g, 0, 2), *init[4], *param[4], *next[8];
  bool more = true;
  for (int k = 0; k < 3; k++) init[k] = gen_input(&r, r.t, k == 2 ? 1 : 2, k == 1 ? d : w);
  for (int k = 0; k < 3; k++) param[k] = nd_param(g, r.t, init[k]->rank, init[k]->dim, "w");
  init[3] = nd_const(g, DT_BOOL, 0, NULL, &more), param[3] = nd_param(g, DT_BOOL, 0, NULL, "more");
  TensorType res[] = {{r.t, 3, d}, {r.t, 2, d}, {DT_I64, 1, d}, {DT_BOOL, 0, NULL}, {DT_I64, 0, NULL}};
  Attr attr[2] = {{.i = 7, .f = 7}, {.i = rows, .f = (double)rows}};
  Node *data = nd_call(g, &native_next, 2, attr, 1, &counter, 5, res), *ints = nd_get(g, data, 2);
  for (int k = 0; k < 3; k++) vec_push(g->arena, &r.pool, param[k]);
  for (int k = 0; k < 2; k++) vec_push(g->arena, &r.pool, nd_get(g, data, k));
  for (int i = 2 + gen_int(&r, 18); i > 0; i--) {
    Node *n = gen_batch_step(&r, rows, ints);
    if (n && nd_size(n) <= 6000 && n->rank <= 5) vec_push(g->arena, &r.pool, n);
    if (!n) gen_step(&r);
  }
  for (int k = 0; k < 3; k++) {
    Expr *e = ex_op2(g, OP_ADD, gen_value(&r, param[k]->rank, param[k]->dim, 3), ex_load_full(g, param[k], 0));
    next[k] = nd_comp(g, param[k]->rank, 0, param[k]->dim, RED_NONE, ex_op1(g, OP_TANH, e), NULL);
  }
  next[3] = nd_get(g, data, 3);
  Node *shown[2] = {gen_pick(&r), gen_pick(&r)}, *effect[3] = {data};
  int nstack = gen_int(&r, 4), neffect = 1;
  for (int k = gen_int(&r, 3); k > 0; k--) effect[neffect++] = nd_call(g, &native_show, 0, NULL, k, shown, 0, NULL);
  for (int k = 0; k < nstack; k++) next[4 + k] = gen_pick(&r);
  Loop l = {.nstate = 4, .init = init, .param = param, .counter = counter, .trip = 3, .nstack = nstack};
  if (gen_int(&r, 2)) l.cond = param[3];
  l.body = (Region){4 + nstack, next, neffect, effect};
  Node *loop = nd_loop(g, &l), **result = arena_array(p->a, Node *, 8);
  for (int k = 0; k < 4 + nstack; k++) result[k] = nd_get(g, loop, k);
  Node **top = arena_array(p->a, Node *, 1);
  top[0] = loop;
  p->r = (Region){4 + nstack, result, 1, top};
  graph_verify(g, &p->r);
  prog_inputs(p, seed);
  out->text = graph_print(g, p->a, &p->r);
}

/* One rank with the oracle, on the graph as it was. */
static bool meets_oracle(Program *x, Deal deal, const char *name) {
  Outcome one = {0};
  Tensor want[MOST_OUT];
  Fault fault = {0};
  Ctx ctx = {0};
  run_ranks(x->text, 1, x->p.nin, x->p.in, INFINITY, deal, &one);
  EvalOptions o = {.native_ctx = &ctx};
  bool ok = graph_eval(x->p.g, &x->p.r, x->p.nin, x->p.in, want, &o, &fault);
  if (ok != one.ok) fprintf(stderr, "%s: %s, but the oracle: %s\n", name, one.ok ? "runs" : one.why, fault.msg);
  bool good = ok == one.ok;
  for (int i = 0; ok && good && i < one.nout; i++) {
    double d = tensor_diff(&one.out[i], &want[i]);
    if (!(d < (want[i].dtype == DT_F32 ? 2e-3 : 1e-6)))
      good = false, fprintf(stderr, "%s: result %d is off by %g\n", name, i, d);
  }
  for (int i = 0; ok && i < one.nout; i++) tensor_drop(&want[i]);
  drop(&one);
  return good;
}

static const int64_t batches[] = {1, 2, 7, 13, 64, 3, 8, 20, 100, 9};
static const int groups[] = {2, 3, 5, 8, 11};
enum { NBATCH = sizeof batches / sizeof *batches, NGROUP = sizeof groups / sizeof *groups };

static void random_programs(uint64_t from, int n, double interpret_below) {
  int bad = 0;
  const char *only = getenv("SHARD_SEED"), *show_text = getenv("SHARD_TEXT");
  if (only) from = strtoull(only, NULL, 10), n = 1;
  for (uint64_t seed = from; seed < from + (uint64_t)n; seed++) {
    Program x;
    char name[64];
    int64_t rows = batches[seed % NBATCH];
    Deal deal = seed / NBATCH % 2 ? DEAL_LARGE : DEAL_ALL;
    snprintf(name, sizeof name, "seed %llu, batch %lld", (unsigned long long)seed, (long long)rows);
    make_program(&x, seed, rows);
    if (show_text) fputs(x.text, stderr);
    bool ok = interpret_below < 0 || meets_oracle(&x, deal, name);
    ok = ok &&
         !compare_ranks(x.text, x.p.nin, x.p.in, interpret_below, deal, only ? NGROUP : 2,
                        only ? groups : (int[]){groups[seed % NGROUP], groups[(seed / NGROUP + 1) % NGROUP]}, name);
    bad += !ok;
    prog_free(&x.p);
  }
  cr_assert_eq(bad, 0, "%d of %d programs", bad, n);
}

static int many(int n) {
  const char *s = getenv("TG_LONG");
  return s && !strcmp(s, "1") ? 10 * n : n;
}
Test(shard, random_programs_walked, .timeout = 600) { random_programs(1, many(150), INFINITY); }
Test(shard, random_programs_compiled, .timeout = 600) { random_programs(100001, many(12), -1); }

/* ---- programs by hand -------------------------------------------------------------------------------------------- */

/* Two layers behind a normalisation over the batch of 13; `mean` makes %8, by sample or for all. */
#define STEP(mean, at)                                                                                                 \
  "%0 = input f32[12, 20] \"w\" slot 0\n%1 = param f32[12, 20] \"w\"\n%2 = input f32[20, 7] \"v\" slot 1\n"            \
  "%3 = param f32[20, 7] \"v\"\n%4 = param i64[] \"t\" in 0..2\n"                                                      \
  "%5 = call \"data_next\" effect attrs (7, 13) (%4) -> (f32[13, 12], f32[13, 7], i64[13], bool[], i64[])\n"           \
  "%6 = get f32[13, 12] %5 0\n" mean "%9 = comp f32[13, 12] for i0 13, i1 12: (sub %6[i0, i1] %8[" at "])\n"           \
  "%10 = comp f32[13, 20] for i0 13, i1 20 sum i2 12: (mul %9[i0, i2] %1[i2, i1])\n"                                   \
  "%11 = comp f32[13, 20] for i0 13, i1 20: (tanh %10[i0, i1])\n"                                                      \
  "%12 = comp f32[13, 7] for i0 13, i1 7 sum i2 20: (mul %11[i0, i2] %3[i2, i1])\n"                                    \
  "%13 = get f32[13, 7] %5 1\n%14 = comp f32[13, 7] for i0 13, i1 7: (sub %12[i0, i1] %13[i0, i1])\n"                  \
  "%15 = comp f32[20, 7] for i0 20, i1 7 sum i2 13: (mul %11[i2, i0] %14[i2, i1])\n"                                   \
  "%16 = comp f32[13, 20] for i0 13, i1 20 sum i2 7: (mul %14[i0, i2] %3[i1, i2])\n"                                   \
  "%17 = comp f32[13, 20] for i0 13, i1 20: (mul %16[i0, i1] (sub 1:f32 (mul %11[i0, i1] %11[i0, i1])))\n"             \
  "%18 = comp f32[12, 20] for i0 12, i1 20 sum i2 13: (mul %9[i2, i0] %17[i2, i1])\n"                                  \
  "%19 = comp f32[12, 20] for i0 12, i1 20: (sub %1[i0, i1] (mul %18[i0, i1] 0.01:f32))\n"                             \
  "%20 = comp f32[20, 7] for i0 20, i1 7: (sub %3[i0, i1] (mul %15[i0, i1] 0.01:f32))\n"                               \
  "%21 = call \"show\" effect (%18, %15) -> ()\n"                                                                      \
  "%22 = loop states (%1 = %0, %3 = %2) counter %4 trip 3 next (%19, %20) stack () effects (%5, %21)\n"                \
  "%23 = get f32[12, 20] %22 0\n%24 = get f32[20, 7] %22 1\nreturn (%23, %24) effects (%22)\n"
static const char whole_mean[] =
    STEP("%7 = comp f32[12] for i0 12 sum i1 13: %6[i1, i0]\n%8 = comp f32[12] for i0 12: (div %7[i0] 13:f32)\n", "i1");
/* What a rank of two would take for the mean if it looked at its own samples: 0 to 7, 8 to 12. */
static const char plain_mean[] =
    STEP("%7 = comp f32[13, 12] for i0 13, i1 12 sum i2 13: %6[i2, i1] if (or (and (lt i0 8) (lt i2 8)) (and (ge i0 8) "
         "(ge i2 8)))\n%8 = comp f32[13, 12] for i0 13, i1 12: (div %7[i0, i1] (select (lt i0 8) 8:f32 5:f32))\n",
         "i0, i1");

static void step_inputs(Tensor in[2]) {
  tensor_alloc(&in[0], DT_F32, 2, (int64_t[]){12, 20});
  tensor_alloc(&in[1], DT_F32, 2, (int64_t[]){20, 7});
  for (int k = 0; k < 2; k++) prog_fill(&in[k], (uint64_t)k + 5);
}

Test(shard, statistics_are_of_the_whole_batch, .timeout = 120) {
  Tensor in[2];
  step_inputs(in);
  cr_assert_eq(compare_ranks(whole_mean, 2, in, INFINITY, DEAL_LARGE, NGROUP, groups, "whole mean"), 0);
  cr_assert_eq(compare_ranks(plain_mean, 2, in, INFINITY, DEAL_LARGE, NGROUP, groups, "plain mean"), 0);
  Outcome *o = calloc(2, sizeof *o);
  run_ranks(whole_mean, 1, 2, in, INFINITY, DEAL_LARGE, &o[0]);
  run_ranks(plain_mean, 1, 2, in, INFINITY, DEAL_LARGE, &o[1]);
  cr_assert(o[0].ok && o[1].ok && !same_bytes(&o[0], &o[1]), "statistics of a rank's own samples go unnoticed");
  drop(&o[0]), drop(&o[1]), free(o);
  tensor_drop(&in[0]), tensor_drop(&in[1]);
}

/* A rank's part of a program; its notes in *notes (the caller frees them). */
static void part(Arena *a, const char *text, int rank, int nrank, Graph **g, Region *r, char **notes) {
  char *error = NULL;
  size_t n;
  FILE *f = open_memstream(notes, &n);
  *g = new_graph(a);
  cr_assert(graph_parse(*g, text, r, &error), "%s", error);
  graph_simplify(*g, r);
  ShardEnv env = {rank, nrank, DEAL_LARGE, &native_coll_start, &native_coll_wait, &native_coll_gather, f};
  cr_assert(shard_region(*g, r, &env));
  graph_verify(*g, r);
  fclose(f);
}

Test(shard, gradients_are_joined_and_sent_early) {
  Arena *a = arena_new();
  Graph *g;
  Region r;
  char *notes, *plan;
  size_t n;
  part(a, whole_mean, 0, 2, &g, &r, &notes);
  cr_assert(strstr(notes, "# batch of 13, 8 shards of 2") && strstr(notes, "# join sum f32[12, 20]") &&
                strstr(notes, "# join sum f32[20, 7]") && strstr(notes, "# join sum f32[12]"),
            "%s", notes);
  cr_assert(!strstr(notes, "gather"), "%s", notes);
  Codegen *c = codegen_new(&(CodegenOptions){.threads = 1, .interpret_below = INFINITY});
  Fault fault = {0};
  Plan *p = codegen_plan(c, g, &r, &fault);
  FILE *f = open_memstream(&plan, &n);
  cr_assert(p && plan_dump(p, "plan", f));
  fclose(f);
  const char *mean = strstr(plan, "call coll_start"), *first = mean ? strstr(mean + 1, "call coll_start") : NULL;
  const char *last = first ? strstr(first + 1, "call coll_start") : NULL,
             *kernel = first ? strstr(first, "kernel slots") : NULL;
  const char *wait = first ? strstr(first, "call coll_wait") : NULL;
  cr_assert(last && kernel && wait && kernel < last && wait > last, "%s", plan);
  plan_free(p), codegen_free(c), free(notes), free(plan), arena_free(a);
}

Test(shard, what_is_gathered_is_said) {
  static const char text[] =
      "%0 = param i64[] \"t\" in 0..2\n%1 = input f32[7, 5] \"w\" slot 0\n%2 = param f32[7, 5] \"w\"\n"
      "%3 = call \"data_next\" effect attrs (7, 13) (%0) -> (f32[13, 5], i64[13], bool[], i64[])\n"
      "%4 = get f32[13, 5] %3 0\n%5 = get i64[13] %3 1\n"
      "%6 = scatter f32[7, 5] %2 for i0 13, i1 5 add checked: at [%5[i0], i1] %4[i0, i1]\n"
      "%7 = comp f32[5] for i0 5 prod i1 13: %4[i1, i0]\n"
      "%8 = comp f32[7, 5] for i0 7, i1 5: (tanh (add %6[i0, i1] %7[i1]))\n"
      "%9 = loop states (%2 = %1) counter %0 trip 3 next (%8) stack () effects (%3)\n"
      "%10 = get f32[7, 5] %9 0\nreturn (%10)\n";
  Arena *a = arena_new();
  Graph *g;
  Region r;
  char *notes;
  part(a, text, 1, 3, &g, &r, &notes);
  cr_assert(strstr(notes, "# gather data_next f32[13, 5] for scatter f32[7, 5]: writes elsewhere than the sample") &&
                strstr(notes, "for prod f32[5]: cannot be joined") && !strstr(notes, "# join"),
            "%s", notes);
  free(notes), arena_free(a);
}

static int count_of(const char *text, const char *what) {
  int n = 0;
  for (; (text = strstr(text, what)); text++) n++;
  return n;
}

/* Rank 7 of 8 has none of the 13 samples, so it needs few results; what arrives must have its place all the same. */
Test(shard, every_start_has_its_wait) {
  for (int rank = 0; rank < 8; rank++) {
    Arena *a = arena_new();
    Graph *g;
    Region r;
    char *notes;
    part(a, whole_mean, rank, 8, &g, &r, &notes);
    const char *text = graph_print(g, a, &r);
    cr_assert(count_of(text, "call \"coll_start\"") == 3 && count_of(text, "call \"coll_wait\"") == 3, "%s", text);
    free(notes), arena_free(a);
  }
}

/* `n` sums f32[3] over a batch of 13 in every step of a loop; each needs the one before it, or none does. */
static char *many_sums(int n, bool chain) {
  char *text;
  size_t size;
  FILE *f = open_memstream(&text, &size);
  fprintf(f, "%%0 = input f32[3] \"w\" slot 0\n%%1 = param f32[3] \"w\"\n%%2 = param i64[] \"t\" in 0..2\n"
             "%%3 = call \"data_next\" effect attrs (7, 13) (%%2) -> (f32[13, 3], i64[13], bool[], i64[])\n"
             "%%4 = get f32[13, 3] %%3 0\n");
  for (int k = 0; k < n; k++) {
    fprintf(f, "%%%d = comp f32[3] for i0 3 sum i1 13: (tanh (mul %%4[i1, i0] ", 5 + k);
    if (chain)
      fprintf(f, "%%%d[i0]))\n", k ? 4 + k : 1);
    else
      fprintf(f, "%d:f32))\n", k + 1);
  }
  for (int k = 0; k < n; k++)
    fprintf(f, "%%%d = comp f32[3] for i0 3: (tanh (sub %%%d[i0] %%%d[i0]))\n", 5 + n + k, 5 + k, k ? 4 + n + k : 1);
  fprintf(f,
          "%%%d = loop states (%%1 = %%0) counter %%2 trip 3 next (%%%d) stack () effects (%%3)\n"
          "%%%d = get f32[3] %%%d 0\nreturn (%%%d)\n",
          5 + 2 * n, 4 + 2 * n, 6 + 2 * n, 5 + 2 * n, 6 + 2 * n);
  fclose(f);
  return text;
}

/* As many collectives as there must be: 4 parts, or more where a bucket is full; one each where they need each other.
 * All ranks alike, also those without samples; and the bits of one rank. */
Test(shard, tiny_sums_travel_in_buckets, .timeout = 120) {
  static const struct {
    int n;
    bool chain;
    int starts;
  } cases[] = {{40, false, 4}, {300, false, 5}, {3, false, 1}, {12, true, 12}};
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    char *text = many_sums(cases[k].n, cases[k].chain), *notes;
    for (int rank = 0; rank < 11; rank += 5) {
      Arena *a = arena_new();
      Graph *g;
      Region r;
      part(a, text, rank, 11, &g, &r, &notes);
      const char *graph = graph_print(g, a, &r);
      cr_assert_eq(count_of(graph, "call \"coll_start\""), cases[k].starts, "%s", graph);
      cr_assert_eq(count_of(graph, "call \"coll_wait\""), cases[k].n, "%s", graph);
      free(notes), arena_free(a);
    }
    Tensor in;
    tensor_alloc(&in, DT_F32, 1, (int64_t[]){3});
    prog_fill(&in, 9);
    cr_assert_eq(compare_ranks(text, 1, &in, INFINITY, DEAL_LARGE, 4, (int[]){2, 3, 8, 11}, "many sums"), 0);
    tensor_drop(&in), free(text);
  }
}

/* Momentum on a matrix of 784 rows, of which the best of all places scales the step; `shown` sees the moments. */
static char *momentum(const char *shown) {
  char *text;
  size_t size;
  FILE *f = open_memstream(&text, &size);
  fprintf(
      f,
      "%%0 = input f32[784, 32] \"w\" slot 0\n%%1 = param f32[784, 32] \"w\"\n"
      "%%2 = input f32[784, 32] \"m\" slot 1\n%%3 = param f32[784, 32] \"m\"\n%%4 = param i64[] \"t\" in 0..119\n"
      "%%5 = call \"data_next\" effect attrs (7, 13) (%%4) -> (f32[13, 784], f32[13, 32], bool[], i64[])\n"
      "%%6 = get f32[13, 784] %%5 0\n%%7 = get f32[13, 32] %%5 1\n"
      "%%8 = comp f32[13, 32] for i0 13, i1 32 sum i2 784: (mul %%6[i0, i2] %%1[i2, i1])\n"
      "%%9 = comp f32[13, 32] for i0 13, i1 32: (tanh (sub %%8[i0, i1] %%7[i0, i1]))\n"
      "%%10 = comp f32[784, 32] for i0 784, i1 32 sum i2 13: (mul %%6[i2, i0] %%9[i2, i1])\n"
      "%%11 = comp f32[] for max i0 784, i1 32: (mul %%10[i0, i1] %%10[i0, i1])\n"
      "%%12 = comp f32[784, 32] for i0 784, i1 32: (add (mul 0.9:f32 %%3[i0, i1]) (div %%10[i0, i1] (add 1:f32 "
      "%%11[])))\n"
      "%%13 = comp f32[784, 32] for i0 784, i1 32: (sub %%1[i0, i1] %%12[i0, i1])\n"
      "%%14 = call \"show\" effect (%s) -> ()\n"
      "%%15 = loop states (%%1 = %%0, %%3 = %%2) counter %%4 trip 120 next (%%13, %%12) stack () effects (%%5, %%14)\n"
      "%%16 = get f32[784, 32] %%15 0\n%%17 = get f32[784, 32] %%15 1\nreturn (%%16, %%17) effects (%%15)\n",
      shown);
  fclose(f);
  return text;
}

/* Rows of a large sum and of the states that it becomes; where the program reads them whole in each step, it is joined.
 */
Test(shard, large_sums_are_dealt_out, .timeout = 120) {
  static const struct {
    const char *shown, *said;
    int rows; /* of the moments on one of two ranks */
  } cases[] = {{"%11", "# deal sum f32[784, 32]", 392}, {"%12", "# join sum f32[784, 32]", 784}};
  Tensor in[2];
  for (int k = 0; k < 2; k++) tensor_alloc(&in[k], DT_F32, 2, (int64_t[]){784, 32}), prog_fill(&in[k], (uint64_t)k + 5);
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    char *text = momentum(cases[k].shown), *notes;
    Arena *a = arena_new();
    Graph *g;
    Region r;
    for (int nrank = 2; nrank <= 5; nrank++) { /* all decide alike */
      part(a, text, 0, nrank, &g, &r, &notes);
      cr_assert(strstr(notes, cases[k].said), "%s", notes);
      free(notes);
    }
    part(a, text, 1, 2, &g, &r, &notes);
    char state[64];
    snprintf(state, sizeof state, "param f32[%d, 32] \"m\"", cases[k].rows);
    cr_assert(strstr(graph_print(g, a, &r), state), "%s", graph_print(g, a, &r));
    free(notes), arena_free(a);
    cr_assert_eq(compare_ranks(text, 2, in, -1, DEAL_LARGE, NGROUP, groups, "momentum"), 0);
    free(text);
  }
  tensor_drop(&in[0]), tensor_drop(&in[1]);
}
