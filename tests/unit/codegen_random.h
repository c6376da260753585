/* Random well-typed graphs for comparing plans with the oracle. Everything is drawn from one seed.
 *
 * A pool of nodes grows by random constructions: element-wise maps with broadcasting, reductions (guarded, windows,
 * products), movement (transposed, sliced, padded, flipped, strided), gathers and scatters by data, scans, loops and
 * branches over nodes of the pool. Values stay bounded (tanh after growth), so that relative errors mean something;
 * float comparisons happen on inputs only. */
#ifndef TG_TESTS_CODEGEN_RANDOM_H
#define TG_TESTS_CODEGEN_RANDOM_H
#include "codegen_support.h"

#ifndef GEN_STEPS
#define GEN_STEPS 14 /* constructions a program, at most */
#endif

typedef struct Gen {
  Graph *g;
  uint64_t s;
  DType t; /* of all floats of this program */
  VEC(Node *) pool;
  int nin;
  int depth;
} Gen;

static inline int gen_int(Gen *r, int n) { return (int)(prog_rand(&r->s) >> 33) % n; }
static inline int64_t gen_dim(Gen *r) {
  static const int64_t dims[] = {1, 2, 3, 5, 7, 17, 33};
  int k = gen_int(r, 60);
  return k == 0 ? 0 : dims[k % 7];
}
static inline bool gen_float(const Node *n) { return dt_is_float((DType)n->dtype); }

static inline Node *gen_input(Gen *r, DType t, int rank, const int64_t *dim) {
  Node *n = nd_input(r->g, t, rank, dim, "x", r->nin++);
  vec_push(r->g->arena, &r->pool, n);
  return n;
}

static inline Node *gen_pick(Gen *r) {
  for (int tries = 0; tries < 60; tries++) {
    Node *n = r->pool.at[r->pool.n - 1 - gen_int(r, r->pool.n < 8 || gen_int(r, 3) == 0 ? r->pool.n : 8)];
    if (gen_float(n)) return n;
  }
  for (int i = 0; i < r->pool.n; i++)
    if (gen_float(r->pool.at[i])) return r->pool.at[i];
  abort();
}

/* A float node whose shape is a subset, in order, of dims[0..rank); loaded by bare iterators. NULL: none found. */
static inline Expr *gen_operand(Gen *r, int rank, const int64_t *dim) {
  for (int tries = 0; tries < 12; tries++) {
    Node *n = gen_pick(r);
    Expr *at[16];
    int d = 0;
    for (int k = 0; k < rank && d < n->rank; k++)
      if (n->dim[d] == dim[k] && (n->rank == rank || gen_int(r, 3))) at[d++] = ex_iter(r->g, k);
    if (d == n->rank) return ex_load(r->g, n, d, at, NULL, false, (Span){0, 0, 0});
  }
  return ex_float(r->g, r->t, gen_int(r, 9) * 0.25 - 1);
}

static inline Expr *gen_value(Gen *r, int rank, const int64_t *dim, int depth) {
  Graph *g = r->g;
  if (depth == 0 || gen_int(r, 4) == 0) {
    int k = gen_int(r, 8);
    if (k == 0 && rank) return ex_cast(g, r->t, ex_op2(g, OP_MOD, ex_iter(g, gen_int(r, rank)), ex_int(g, DT_I64, 3)));
    return gen_operand(r, rank, dim);
  }
  Expr *x = gen_value(r, rank, dim, depth - 1);
  switch (gen_int(r, 10)) {
  case 0:
  case 1:
    return ex_op2(g, OP_ADD, x, gen_value(r, rank, dim, depth - 1));
  case 2:
    return ex_op2(g, OP_SUB, x, gen_value(r, rank, dim, depth - 1));
  case 3:
  case 4:
    return ex_op1(g, OP_TANH, ex_op2(g, OP_MUL, x, gen_value(r, rank, dim, depth - 1)));
  case 5:
    return ex_op2(g, OP_MAX, x, gen_value(r, rank, dim, depth - 1));
  case 6:
    return ex_op1(g, OP_SIGMOID, x);
  case 7:
    return ex_op1(g, OP_ABS, x);
  case 8:
    return ex_op2(g, OP_DIV, x,
                  ex_op2(g, OP_ADD, ex_op1(g, OP_ABS, gen_value(r, rank, dim, depth - 1)), ex_float(g, r->t, 1)));
  default:
    return rank ? ex_select(g, ex_op2(g, OP_LT, ex_iter(g, gen_int(r, rank)), ex_int(g, DT_I64, 2)), x,
                            gen_value(r, rank, dim, depth - 1))
                : ex_op1(g, OP_NEG, x);
  }
}

static inline Node *gen_map(Gen *r) {
  Node *like = gen_pick(r);
  Expr *guard = NULL;
  if (like->rank && gen_int(r, 6) == 0) {
    Expr *i = ex_iter(r->g, gen_int(r, like->rank)), *two = ex_int(r->g, DT_I64, 2);
    guard = ex_op2(r->g, OP_EQ, ex_op2(r->g, OP_MOD, i, two), ex_int(r->g, DT_I64, gen_int(r, 2)));
  }
  return nd_comp(r->g, like->rank, 0, like->dim, RED_NONE, gen_value(r, like->rank, like->dim, 1 + gen_int(r, 3)),
                 guard);
}

/* A third of the reductions are cut after some of their first iterator's values. */
static inline int64_t gen_chunk(Gen *r, int nred, const int64_t *extent) {
  int64_t row = 1;
  for (int k = 1; k < nred; k++) row *= extent[k];
  return gen_int(r, 3) ? 0 : row * (1 + gen_int(r, 5));
}

/* Integers and bools: keys compared, counted, divided, reduced; back to floats at the end. */
static inline Node *gen_ints(Gen *r) {
  static const Reduce op[] = {RED_SUM, RED_PROD, RED_MAX, RED_MIN, RED_ARGMAX, RED_ARGMIN};
  Graph *g = r->g;
  int64_t extent[] = {1 + gen_dim(r), 1 + gen_dim(r)};
  Node *k = gen_input(r, gen_int(r, 2) ? DT_I64 : DT_I32, 2, extent);
  DType t = (DType)k->dtype;
  Expr *i = ex_load_full(g, k, 0), *three = ex_int(g, t, 3);
  Expr *e =
      ex_op2(g, OP_SUB, ex_op2(g, gen_int(r, 2) ? OP_FLOORDIV : OP_MOD, ex_op2(g, OP_SUB, i, ex_int(g, t, 4)), three),
             ex_op2(g, OP_MUL, i, three));
  if (gen_int(r, 2)) e = ex_op2(g, OP_FLOORDIV, e, ex_op2(g, OP_ADD, i, ex_int(g, t, 1)));
  Node *n;
  if (gen_int(r, 3) == 0) {
    n = nd_comp(g, 1, 1, extent, gen_int(r, 2) ? RED_ANY : RED_ALL, ex_op2(g, OP_GT, e, ex_int(g, t, -9)), NULL);
  } else {
    Reduce o = op[gen_int(r, 6)];
    if (o == RED_PROD) e = ex_op2(g, OP_MOD, e, three);
    if (o == RED_SUM && t == DT_I32) e = ex_cast(g, DT_I64, e);
    n = nd_comp(g, 1, 1, extent, o, e, NULL);
  }
  Node *f = nd_comp(g, 1, 0, extent, RED_NONE, ex_cast(g, r->t, ex_load_full(g, n, 0)), NULL);
  return nd_comp(g, 1, 0, extent, RED_NONE, ex_op1(g, OP_TANH, ex_load_full(g, f, 0)), NULL);
}

/* Bounded again: what grew by a sum. */
static inline Node *gen_bound(Gen *r, Node *n) {
  if (!gen_float(n) || gen_int(r, 4) == 0) return n;
  return nd_comp(r->g, n->rank, 0, n->dim, RED_NONE, ex_op1(r->g, OP_TANH, ex_load_full(r->g, n, 0)), NULL);
}

static inline Node *gen_reduce(Gen *r) {
  static const Reduce op[] = {RED_SUM, RED_SUM, RED_SUM, RED_MAX, RED_MIN, RED_PROD};
  Node *x = gen_pick(r);
  Graph *g = r->g;
  if (x->rank == 0) return gen_map(r);
  int64_t extent[16];
  Expr *at[16];
  int axis = gen_int(r, x->rank), both = x->rank > 1 && gen_int(r, 4) == 0 ? (axis + 1) % x->rank : axis, nout = 0,
      n = 0;
  for (int d = 0; d < x->rank; d++)
    if (d != axis && d != both) at[d] = ex_iter(g, n), extent[n++] = x->dim[d], nout++;
  for (int d = 0; d < x->rank; d++)
    if (d == axis || d == both) at[d] = ex_iter(g, n), extent[n++] = x->dim[d];
  Expr *e = ex_load(g, x, x->rank, at, NULL, false, (Span){0, 0, 0});
  Reduce o = op[gen_int(r, 6)];
  int form = gen_int(r, 6);
  if (form == 0) e = ex_op2(g, OP_MUL, e, gen_value(r, n, extent, 1));
  if (form == 1) e = ex_op1(g, OP_SIGMOID, e);
  if (form == 2) e = ex_op2(g, OP_MUL, e, e);
  if (o == RED_PROD)
    e = ex_op2(g, OP_ADD, ex_float(g, r->t, 1), ex_op2(g, OP_MUL, ex_float(g, r->t, 0.1), ex_op1(g, OP_TANH, e)));
  Expr *guard = gen_int(r, 5) ? NULL : ex_op2(g, OP_LE, ex_iter(g, n - 1), nout ? ex_iter(g, 0) : ex_int(g, DT_I64, 3));
  Node *y = nd_comp_cut(g, nout, n - nout, extent, o, e, guard, gen_chunk(r, n - nout, extent + nout));
  if (o == RED_MAX || o == RED_MIN) /* over nothing: infinite */
    y = nd_comp(
        g, nout, 0, y->dim, RED_NONE,
        ex_op2(g, OP_MAX, ex_op2(g, OP_MIN, ex_load_full(g, y, 0), ex_float(g, r->t, 9)), ex_float(g, r->t, -9)), NULL);
  return gen_bound(r, y);
}

static inline Node *gen_matmul(Gen *r) {
  Node *a = gen_pick(r), *b = gen_pick(r);
  Graph *g = r->g;
  for (int tries = 0; tries < 30; tries++, b = gen_pick(r)) {
    for (int i = 0; i < a->rank; i++)
      for (int j = 0; j < b->rank; j++) {
        if (a->dim[i] != b->dim[j] || a->rank + b->rank > 5) continue;
        int64_t extent[16];
        Expr *x[16], *y[16];
        int n = 0, batch = -1;
        for (int d = 0; d < a->rank; d++)
          if (d != i) x[d] = ex_iter(g, n), extent[n++] = a->dim[d];
        if (i > 0 && j > 0 && a->dim[0] == b->dim[0] && gen_int(r, 2)) batch = 0;
        for (int d = 0; d < b->rank; d++)
          if (d != j) {
            if (d == batch)
              y[d] = ex_iter(g, 0);
            else
              y[d] = ex_iter(g, n), extent[n++] = b->dim[d];
          }
        extent[n] = a->dim[i];
        x[i] = y[j] = ex_iter(g, n);
        Expr *e = ex_op2(g, OP_MUL, ex_load(g, a, a->rank, x, NULL, false, (Span){0, 0, 0}),
                         ex_load(g, b, b->rank, y, NULL, false, (Span){0, 0, 0}));
        return gen_bound(r, nd_comp_cut(g, n, 1, extent, RED_SUM, e, NULL, gen_chunk(r, 1, extent + n)));
      }
  }
  return gen_map(r);
}

static inline Node *gen_move(Gen *r) {
  Node *x = gen_pick(r);
  Graph *g = r->g;
  int64_t extent[16];
  Expr *at[16], *mask = NULL;
  int perm[16];
  if (x->rank == 0) return gen_map(r);
  for (int d = 0; d < x->rank; d++) perm[d] = d;
  for (int d = x->rank - 1; d > 0; d--) {
    int k = gen_int(r, d + 1), t = perm[d];
    perm[d] = perm[k], perm[k] = t;
  }
  for (int d = 0; d < x->rank; d++) {
    int64_t n = x->dim[d], c, m;
    Expr *i = ex_iter(g, perm[d]), *one = ex_int(g, DT_I64, 1);
    switch (gen_int(r, 5)) {
    case 0: /* flip */
      c = n - 1, m = -1;
      extent[perm[d]] = n;
      at[d] = ex_lin(g, c, 1, &m, &i);
      break;
    case 1: /* pad by one at either end */
      c = -1, m = 1;
      extent[perm[d]] = n + 2;
      at[d] = ex_lin(g, c, 1, &m, &i);
      mask = ex_and(g, mask, ex_and(g, ex_op2(g, OP_GE, i, one), ex_op2(g, OP_LE, i, ex_int(g, DT_I64, n))));
      break;
    case 2: /* every second */
      c = 0, m = 2;
      extent[perm[d]] = (n + 1) / 2;
      at[d] = ex_lin(g, c, 1, &m, &i);
      break;
    case 3: /* without the first */
      if (n > 1) {
        c = 1, m = 1;
        extent[perm[d]] = n - 1;
        at[d] = ex_lin(g, c, 1, &m, &i);
        break;
      } /* fall through */
    default:
      extent[perm[d]] = n;
      at[d] = i;
    }
  }
  return nd_comp(g, x->rank, 0, extent, RED_NONE, ex_load(g, x, x->rank, at, mask, false, (Span){0, 0, 0}), NULL);
}

/* An i64 node of rank 1 with values 0..6 (an input). */
static inline Node *gen_keys(Gen *r, int64_t n) { return gen_input(r, DT_I64, 1, &n); }

static inline Expr *gen_key(Gen *r, Node *keys, Expr *i, int64_t size) {
  return ex_op2(r->g, OP_MOD, ex_load(r->g, keys, 1, &i, NULL, false, (Span){0, 0, 0}), ex_int(r->g, DT_I64, size));
}

static inline Node *gen_gather(Gen *r) {
  Node *x = gen_pick(r);
  Graph *g = r->g;
  if (x->rank == 0 || x->dim[0] == 0) return gen_map(r);
  int64_t extent[16], n = 1 + gen_int(r, 9);
  Expr *at[16];
  extent[0] = n;
  at[0] = gen_key(r, gen_keys(r, n), ex_iter(g, 0), x->dim[0]);
  for (int d = 1; d < x->rank; d++) extent[d] = x->dim[d], at[d] = ex_iter(g, d);
  return nd_comp(g, x->rank, 0, extent, RED_NONE, ex_load(g, x, x->rank, at, NULL, gen_int(r, 2), (Span){0, 0, 0}),
                 NULL);
}

static inline Node *gen_scatter(Gen *r) {
  static const Combine how[] = {SC_SET, SC_ADD, SC_ADD, SC_MAX, SC_MIN};
  Node *x = gen_pick(r), *base = gen_pick(r);
  Graph *g = r->g;
  if (x->rank == 0 || x->rank > 4) return gen_map(r);
  int64_t dim[16];
  Expr *at[16];
  for (int d = 0; d < x->rank; d++) dim[d] = x->dim[d], at[d] = ex_iter(g, d);
  dim[0] = 1 + gen_int(r, 7);
  at[0] = gen_key(r, gen_keys(r, x->dim[0]), ex_iter(g, 0), dim[0]);
  bool fits = base->rank == x->rank;
  for (int d = 0; fits && d < base->rank; d++) fits = base->dim[d] == dim[d];
  Expr *guard = gen_int(r, 4) ? NULL : ex_op2(g, OP_GT, ex_iter(g, 0), ex_int(g, DT_I64, 1));
  return gen_bound(r, nd_scatter(g, r->t, x->rank, dim, fits ? base : NULL, x->rank, x->dim, at, ex_load_full(g, x, 0),
                                 guard, how[gen_int(r, 5)], gen_int(r, 2)));
}

static inline Node *gen_segments(Gen *r) { /* sum(x[n, d] for n if key[n] == k) */
  Node *x = gen_pick(r);
  Graph *g = r->g;
  if (x->rank != 2) return gen_reduce(r);
  int64_t extent[] = {1 + gen_int(r, 7), x->dim[1], x->dim[0]};
  Expr *n = ex_iter(g, 2), *at[] = {n, ex_iter(g, 1)};
  Expr *guard =
      ex_op2(g, OP_EQ, ex_load(g, gen_keys(r, x->dim[0]), 1, &n, NULL, false, (Span){0, 0, 0}), ex_iter(g, 0));
  return gen_bound(r, nd_comp(g, 2, 1, extent, RED_SUM, ex_load(g, x, 2, at, NULL, false, (Span){0, 0, 0}), guard));
}

static inline Node *gen_scan(Gen *r) {
  Node *x = gen_pick(r);
  if (x->rank == 0) return gen_map(r);
  return gen_bound(r, nd_scan(r->g, x->rank, x->dim, RED_SUM, ex_load_full(r->g, x, 0), gen_int(r, 2), gen_int(r, 2)));
}

static inline Node *gen_argmax(Gen *r) { /* of an input, as a float again */
  int64_t extent[] = {gen_dim(r), 1 + gen_dim(r)};
  Node *x = gen_input(r, r->t, 2, extent),
       *y = nd_comp(r->g, 1, 1, extent, gen_int(r, 2) ? RED_ARGMAX : RED_ARGMIN, ex_load_full(r->g, x, 0), NULL);
  return nd_comp(r->g, 1, 0, extent, RED_NONE, ex_cast(r->g, r->t, ex_load_full(r->g, y, 0)), NULL);
}

static inline void gen_step(Gen *r);

/* A node computed over the pool and `p` of p's type. */
static inline Node *gen_next(Gen *r, Node *p) {
  int from = r->pool.n;
  vec_push(r->g->arena, &r->pool, p);
  for (int i = gen_int(r, 4); i > 0; i--) gen_step(r);
  Expr *e = gen_value(r, p->rank, p->dim, 2);
  Node *n = nd_comp(r->g, p->rank, 0, p->dim, RED_NONE,
                    ex_op1(r->g, OP_TANH, ex_op2(r->g, OP_ADD, e, ex_load_full(r->g, p, 0))), NULL);
  r->pool.n = from; /* what depends on p stays inside */
  return n;
}

static inline Node *gen_loop(Gen *r) {
  Node *x = gen_pick(r), *y = gen_pick(r);
  Graph *g = r->g;
  if (r->depth > 1) return gen_map(r);
  r->depth++;
  Node *p = nd_param(g, r->t, x->rank, x->dim, "p"), *q = nd_param(g, r->t, y->rank, y->dim, "q");
  Node *counter = gen_int(r, 2) ? nd_counter(g, 0, 4) : NULL;
  int keep = r->pool.n;
  vec_push(g->arena, &r->pool, q);
  if (counter) {
    Expr *c = ex_cast(g, r->t, ex_load(g, counter, 0, NULL, NULL, false, (Span){0, 0, 0}));
    vec_push(g->arena, &r->pool, nd_comp(g, 0, 0, NULL, RED_NONE, ex_op1(g, OP_SIGMOID, c), NULL));
  }
  Node *pn = gen_next(r, p), *qn = gen_int(r, 3) ? gen_next(r, q) : q;
  if (gen_int(r, 4) == 0 && x->rank == y->rank) {
    bool same = true;
    for (int d = 0; d < x->rank; d++) same = same && x->dim[d] == y->dim[d];
    if (same) qn = p; /* a, b = f(b), a */
  }
  r->pool.n = keep;
  Node *init[] = {x, y}, *param[] = {p, q}, *out[] = {pn, qn, gen_int(r, 2) ? pn : qn, pn};
  Loop l = {.nstate = 2,
            .init = init,
            .param = param,
            .counter = counter,
            .trip = gen_int(r, 5),
            .body = {4, out, 0, NULL},
            .nstack = 2,
            .reverse = gen_int(r, 2)};
  Node *loop = nd_loop(g, &l);
  r->depth--;
  for (int k = gen_int(r, 2); k < 4; k++) vec_push(g->arena, &r->pool, nd_get(g, loop, k));
  return nd_get(g, loop, 0);
}

static inline Node *gen_cond(Gen *r) {
  Node *x = gen_pick(r), *a = gen_next(r, x), *b = gen_next(r, x);
  Graph *g = r->g;
  int64_t none = 0;
  Node *pin = gen_input(r, r->t, 0, &none);
  Node *pred =
      nd_comp(g, 0, 0, NULL, RED_NONE,
              ex_op2(g, OP_LT, ex_load(g, pin, 0, NULL, NULL, false, (Span){0, 0, 0}), ex_float(g, r->t, 0)), NULL);
  Node *yes[] = {a, x}, *no[] = {gen_int(r, 3) ? b : x, b};
  Region ry = {2, yes, 0, NULL}, rn = {2, no, 0, NULL};
  Node *c = nd_cond(g, pred, &ry, &rn);
  vec_push(g->arena, &r->pool, nd_get(g, c, 1));
  return nd_get(g, c, 0);
}

static inline void gen_step(Gen *r) {
  Node *n;
  if (r->nin > 12)
    n = gen_map(r);
  else
    switch (gen_int(r, 19)) {
    case 0:
    case 1:
    case 2:
    case 3:
      n = gen_map(r);
      break;
    case 4:
    case 5:
    case 6:
      n = gen_reduce(r);
      break;
    case 7:
    case 8:
      n = gen_matmul(r);
      break;
    case 9:
    case 10:
      n = gen_move(r);
      break;
    case 11:
      n = gen_gather(r);
      break;
    case 12:
      n = gen_scatter(r);
      break;
    case 13:
      n = gen_segments(r);
      break;
    case 14:
      n = gen_scan(r);
      break;
    case 15:
      n = r->depth ? gen_map(r) : gen_argmax(r);
      break;
    case 16:
      n = gen_loop(r);
      break;
    case 17:
      n = gen_ints(r);
      break;
    default:
      n = gen_cond(r);
      break;
    }
  if (nd_size(n) <= 4000 && n->rank <= 6) vec_push(r->g->arena, &r->pool, n);
}

/* A program of the given seed: simplified, with inputs filled. */
static inline void gen_prog(Prog *p, uint64_t seed) {
  memset(p, 0, sizeof *p);
  p->a = arena_new();
  p->g = graph_new(p->a, diags_new(p->a));
  Gen r = {.g = p->g, .s = seed * 0x9E3779B97F4A7C15u + 12345};
  for (int i = 0; i < 8; i++) prog_rand(&r.s);
  r.t = gen_int(&r, 3) ? DT_F64 : DT_F32;
  int64_t d[3] = {gen_dim(&r), gen_dim(&r), gen_dim(&r)};
  gen_input(&r, r.t, 2, d);
  gen_input(&r, r.t, 1, d + gen_int(&r, 2));
  if (gen_int(&r, 2))
    gen_input(&r, r.t, 3, d);
  else
    gen_input(&r, r.t, 2, d + 1);
  int n = 1 + gen_int(&r, GEN_STEPS);
  for (int i = 0; i < n; i++) gen_step(&r);
  int nout = 1 + gen_int(&r, 4);
  Node **out = arena_array(p->a, Node *, nout);
  out[0] = r.pool.at[r.pool.n - 1];
  for (int i = 1; i < nout; i++) out[i] = r.pool.at[gen_int(&r, r.pool.n)];
  p->r = (Region){nout, out, 0, NULL};
  graph_verify(p->g, &p->r);
  graph_simplify(p->g, &p->r);
  prog_inputs(p, seed);
}
#endif
