/* Random draws: Philox bits in expressions.
 *
 *   key      PHILOX(dyn, k). k: the chain of calls and the draw's ordinal, mixed while checking. dyn: the seed, and inside loops
 *            their counters, PHILOX(PHILOX(dyn, the loop's k), counter); a constant outside of loops
 *   counter  the element's row-major number over the indices in force and the draw's own axes
 * So a draw is a pure function of where it stands: the same on any device, thread count and order of evaluation. An index
 * without a name (jacobian's) takes no part: every row of a jacobian sees the same draws. */
#include "lang/builtin.h"
#include "lang/space.h"
#include <math.h>

static uint64_t mix(uint64_t a, uint64_t b) { /* splitmix64's finaliser */
  uint64_t h = a ^ (b + UINT64_C(0x9E3779B97F4A7C15) + (a << 6) + (a >> 2));
  h = (h ^ h >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  h = (h ^ h >> 27) * UINT64_C(0x94D049BB133111EB);
  return h ^ h >> 31;
}

static Expr *key_const(Elab *E, uint64_t k) { return ex_int(E->g, DT_I64, (int64_t)k); }

static Expr *seed_expr(Elab *E, Expr *seed) {
  return ex_op2(E->g, OP_PHILOX, key_const(E, UINT64_C(0x73656564)), seed);
}

/* What the chain so far is keyed by at run time: a seed and loop counters; a program begins with seed 0. */
static Expr *dynamic_key(Elab *E) { return E->stream.dyn ? E->stream.dyn : seed_expr(E, ex_int(E->g, DT_I64, 0)); }

Stream stream_loop(Elab *E, Expr *count) {
  uint64_t key = mix(mix(E->stream.key, UINT64_C(0x6C6F6F70)), E->stream.ordinal);
  Expr *loop = ex_op2(E->g, OP_PHILOX, dynamic_key(E), key_const(E, key));
  return (Stream){.key = key, .dyn = ex_op2(E->g, OP_PHILOX, loop, count), .from = E->stream.from};
}

Expr *stream_identity(Elab *E) {
  return ex_op2(E->g, OP_PHILOX, dynamic_key(E), key_const(E, mix(E->stream.key, UINT64_C(0x6964656E))));
}

/* 64 random bits for each element of dim[0..rank) (ITER k) and of each index in force. Takes the next ordinal. */
static Expr *draw_bits(Elab *E, int rank, const Dim *dim) {
  Expr *key = ex_op2(E->g, OP_PHILOX, dynamic_key(E), key_const(E, mix(E->stream.key, E->stream.ordinal++)));
  VEC(Expr *) atom = {0};
  VEC(int64_t) coef = {0};
  uint64_t stride = 1; /* wraps: the counter is 64 bits */
  for (int a = rank; a-- > 0;) {
    vec_push(E->a, &atom, ex_iter(E->g, a));
    vec_push(E->a, &coef, (int64_t)stride);
    stride *= (uint64_t)(dim[a].n < 0 ? 1 : dim[a].n);
  }
  for (const Index *i = E->index; i && i != E->stream.from; i = i->outer) {
    if (!i->name || i->extent < 0) continue; /* unknown: trial, what is drawn does not matter */
    vec_push(E->a, &atom, i->var);
    vec_push(E->a, &coef, (int64_t)stride);
    stride *= (uint64_t)i->extent;
  }
  return ex_op2(E->g, OP_PHILOX, key, ex_lin(E->g, 0, atom.n, coef.at, atom.at));
}

static Expr *bits_field(Elab *E, Expr *bits, int shift) {
  return ex_op2(E->g, OP_SHR, bits, ex_int(E->g, DT_I64, shift));
}

Value *draw_key(Elab *E) {
  return v_scalar(E, ex_op2(E->g, OP_PHILOX, dynamic_key(E), key_const(E, mix(E->stream.key, E->stream.ordinal++))));
}

/* Uniform in [0, 1): multiples of 2^-24, or of 2^-53 for f64. */
static Expr *uniform01(Elab *E, Expr *bits, DType t) {
  if (t == DT_F64) return ex_op2(E->g, OP_MUL, ex_cast(E->g, t, bits_field(E, bits, 11)), ex_float(E->g, t, 0x1p-53));
  return ex_op2(E->g, OP_MUL, ex_cast(E->g, DT_F32, bits_field(E, bits, 40)), ex_float(E->g, DT_F32, 0x1p-24));
}

/* Box-Muller: the upper half gives the radius (never log 0), the lower the angle. */
static Expr *normal01(Elab *E, Expr *bits, DType t) {
  Graph *g = E->g;
  Expr *hi = ex_cast(g, t, bits_field(E, bits, 32)),
       *lo = ex_cast(g, t, ex_op2(g, OP_BAND, bits, ex_int(g, DT_I64, 0xFFFFFFFF)));
  Expr *u = ex_op2(g, OP_MUL, ex_op2(g, OP_ADD, hi, ex_float(g, t, 0.5)), ex_float(g, t, 0x1p-32));
  Expr *r = ex_op1(g, OP_SQRT, ex_op2(g, OP_MUL, ex_float(g, t, -2), ex_op1(g, OP_LOG, u)));
  Expr *angle = ex_op2(g, OP_MUL, lo, ex_float(g, t, 2 * M_PI * 0x1p-32));
  return ex_op2(g, OP_MUL, r, ex_op1(g, OP_COS, angle));
}

static Value *finish(Elab *E, Expr *e, DType t, int rank, const Dim *dim, Span at) {
  E->g->span = at;
  tv_check_size(E, t, rank, dim, at);
  return tv_seal(E, v_tensor(E, t, rank, dim, ex_cast(E->g, t, e)));
}

static DType float_arg(Elab *E, Value *v, Call *c, const char *what) {
  if (!v) return DT_F32;
  if (v->kind != V_DTYPE || !dt_is_float(v->dtype))
    diag_fail(E->d, T_TYPE, arg_span(c, v), "%s draws f16, bf16, f32 or f64, not %s", what, v_type_text(E, v));
  return v->dtype;
}

enum { DRAW_UNIFORM, DRAW_NORMAL };
static Value *b_draw(Elab *E, const Builtin *self, Call *c, Value **b) {
  Dim dim[TG_MAX_RANK];
  int rank = read_shape(E, b[0], c, dim);
  DType t = float_arg(E, b[1], c, self->name), work = t == DT_F64 ? DT_F64 : DT_F32;
  Expr *bits = draw_bits(E, rank, dim);
  return finish(E, self->data == DRAW_NORMAL ? normal01(E, bits, work) : uniform01(E, bits, work), t, rank, dim,
                c->span);
}

/* bernoulli(p): a bool for each element of p; bernoulli(p, 3, 4): of that shape. */
static Value *b_bernoulli(Elab *E, const Builtin *self, Call *c, Value **b) {
  Dim dim[TG_MAX_RANK];
  Span ps = arg_span(c, b[0]);
  Value *p = tv_harden(E, b[0], ps);
  TensorV *t = v_as_tensor(E, p, ps, "a probability");
  if (!dt_is_float(t->dtype)) p = tv_cast(E, p, DT_F32, ps), t = &p->t;
  int rank = t->rank;
  if (b[1] && b[1]->agg.n) {
    if (t->rank) diag_fail(E->d, S_RANK, ps, "with sizes, the probability is a scalar, not %s", v_type_text(E, p));
    rank = read_shape(E, b[1], c, dim);
  } else
    for (int a = 0; a < rank; a++) dim[a] = t->dim[a];
  DType work = t->dtype == DT_F64 ? DT_F64 : DT_F32;
  Expr *u = uniform01(E, draw_bits(E, rank, dim), work);
  Expr *e = ex_op2(E->g, OP_LT, u, ex_cast(E->g, work, tv_at(E, p, t->dtype, rank, dim, ps)));
  return finish(E, e, DT_BOOL, rank, dim, c->span);
}

/* choice(p): an index along the last axis, drawn with probabilities proportional to p. */
static Value *b_choice(Elab *E, const Builtin *self, Call *c, Value **b) {
  Span ps = arg_span(c, b[0]);
  Value *p = tv_harden(E, b[0], ps);
  TensorV *t = v_as_tensor(E, p, ps, "probabilities");
  if (t->rank == 0) diag_fail(E->d, S_RANK, ps, "choice takes a vector of probabilities, not a scalar");
  DType work = t->dtype == DT_F64 ? DT_F64 : DT_F32;
  p = tv_cast(E, p, work, ps), t = &p->t;
  int rank = t->rank - 1;
  Dim last = t->dim[rank];
  if (last.n == 0) {
    Diag *g = diag_add(E->d, V_EMPTY, ps, "choice among nothing");
    note_origin(E, g, last);
    elab_fail(E, g);
  }
  Value *cum = scan_last(E, p, RED_SUM, false, false);
  int64_t n = last.n < 0 ? 1 : last.n;
  Value *total = view_index(E, cum, rank, ex_int(E->g, DT_I64, n - 1));
  Expr *u = ex_op2(E->g, OP_MUL, uniform01(E, draw_bits(E, rank, t->dim), work), total->t.e);
  /* the number of partial sums that u has reached; rounding can not pass the last with positive probability */
  Expr *reached = ex_op2(E->g, OP_LE, cum->t.e, u);
  Value *k = tv_reduce(E, RED_SUM, rank, t->dim, 1, &n, ex_cast(E->g, DT_I64, reached), NULL, DT_I64);
  Expr *e = ex_op2(E->g, OP_MIN, k->t.e, ex_int(E->g, DT_I64, n - 1));
  return finish(E, e, DT_I64, rank, t->dim, c->span);
}

/* permutation(n): 0..n in random order; permutation(x): the rows of x so. */
static Value *b_permutation(Elab *E, const Builtin *self, Call *c, Value **b) {
  int64_t n;
  Dim dim = {0};
  Value *rows = NULL;
  if (v_is_static_int(b[0], &n))
    dim.n = n, dim.from = b[0]->kind == V_NUM ? b[0]->num.from : NULL;
  else if (b[0]->kind == V_TENSOR && b[0]->t.rank)
    rows = b[0], dim = rows->t.dim[0];
  else
    dim.n = v_static_int(E, b[0], arg_span(c, b[0]), "the length of a permutation");
  tv_check_size(E, DT_I64, 1, &dim, c->span);
  Value *key = finish(E, draw_bits(E, 1, &dim), DT_I64, 1, &dim, c->span);
  Value *perm = sorted(E, key, "argsort", false, c->span);
  if (!rows) return perm;
  Expr *by[TG_MAX_RANK];
  for (int a = 0; a < rows->t.rank; a++) by[a] = ex_iter(E->g, a);
  by[0] = perm->t.e;
  Value *r = v_tensor(E, rows->t.dtype, rows->t.rank, rows->t.dim, ex_subst_iters(E->g, rows->t.e, rows->t.rank, by));
  r->t.weak = rows->t.weak;
  return r;
}

/* The key of a seed: a constant for a static one, so both kinds draw the same. */
static Expr *seed_key(Elab *E, Value *v, Call *c) {
  int64_t k;
  Expr *e;
  if (v_is_static_int(v, &k))
    e = ex_int(E->g, DT_I64, k);
  else if (v->kind == V_TENSOR && v->t.rank == 0 && dt_is_int(v->t.dtype))
    e = ex_cast(E->g, DT_I64, v->t.e);
  else
    diag_fail(E->d, T_TYPE, arg_span(c, v), "a seed is an integer, not %s", v_type_text(E, v));
  return seed_expr(E, e);
}

static Value *b_seed(Elab *E, const Builtin *self, Call *c, Value **b) {
  Expr *key = seed_key(E, b[0], c);
  if (key->kind != EX_CONST)
    diag_fail(E->d, T_STATIC, arg_span(c, b[0]), "seed takes a static integer; seeded(k, () -> e) takes any");
  if (E->frame || E->index)
    diag_fail(E->d, T_EFFECT, c->span,
              "seed(n) stands at top level; inside, seeded(k, () -> e) draws from its own seed");
  E->stream = (Stream){.dyn = key};
  return v_none(E);
}

static Value *b_seeded(Elab *E, const Builtin *self, Call *c, Value **b) {
  Stream saved = E->stream;
  E->stream = (Stream){.dyn = seed_key(E, b[0], c), .from = E->index};
  Value *v = call_simple(E, b[1], 0, NULL, c->span);
  E->stream = saved;
  return v;
}

const Builtin builtins_random[] = {
    {"rand", "*size; dtype=", b_draw, "rand(2, 3), rand(x.shape): uniform draws in [0, 1); dtype = f32 by default",
     DRAW_UNIFORM},
    {"randn", "*size; dtype=", b_draw, "randn(2, 3), randn(x.shape): standard normal draws; dtype = f32 by default",
     DRAW_NORMAL},
    {"bernoulli", "p, *size", b_bernoulli,
     "bernoulli(p): true with probability p, for each element of p; bernoulli(p, 2, 3): of that shape", 0},
    {"choice", "p", b_choice, "choice(p): an index drawn along the last axis with probabilities proportional to p", 0},
    {"permutation", "n", b_permutation,
     "permutation(n): the integers 0..n in random order; permutation(x): the rows of x in random order", 0},
    {"seed", "n", b_seed, "seed(n): draws that follow are keyed by n (0 at the beginning); at top level", 0},
    {"seeded", "k, f", b_seeded, "seeded(k, () -> e): e, with draws keyed by k", 0},
    {0}};
