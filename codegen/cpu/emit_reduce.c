/* Reductions in the orders of kernel.h (stage.h).
 *
 *   rotating   lanes over the innermost axis: vectors of 16 positions go to accumulators 0 1 2 3 0 1 .. The accumulators are
 *              carried values that rotate, so that the loop has one body; afterwards they are turned back
 *   chain      one accumulator, positions one by one; it is a vector when the lanes are points or own outputs
 *   column     the rows of the reduction outside, a unit's points inside, one accumulator a point in memory: long walks along
 *              contiguous operands instead of one column of vectors after the other
 *   memory     the 64 accumulators of ORD_LANES for each of `width` points, on the stack
 *
 * Parts: a reduction longer than a chunk leaves one value a chunk in an array, which the pairwise tree then joins in
 * place: at distance 1, 2, 4, .. every element meets its right neighbour if there is one. */
#include "codegen/cpu/stage.h"
#include "codegen/monoid.h"
#include <math.h>

#define B E->b
enum { PSEUDO = EM_ITERS - 1 }; /* PSEUDO: iterator number of loops over chunks and rows */

typedef enum { RM_ROTATE, RM_CHAIN, RM_MEMORY, RM_COLUMN } RedMode;
typedef struct Red {
  const Stage *st;
  Reduce op;
  DType body, acc;
  RedMode mode;
  bool arg;                        /* value and position */
  int slot, nacc;                  /* in the carried values; arg: positions follow the values */
  LLVMValueRef memory;             /* RM_MEMORY: nacc vectors */
  LLVMValueRef parts, index_parts; /* arrays of the chunks' values */
} Red;

typedef struct Ctx {
  const Sched *s;
  const SGroup *g;
  bool vec, inner; /* accumulators are vectors: over points or own outputs; over the innermost axis */
  int nred, nc;
  Red red[MAX_RED];
  Axis last; /* innermost axis */
  int nouter;
  int64_t rows, nchunk, chunk, per_row; /* of the stages, as stage_chunk says */
  bool lanes;
  int at; /* nested rows: axis under way */
} Ctx;

static LLVMValueRef wide(Em *E, LLVMValueRef c) { return E->vec ? em_splat_const(E, c) : c; }
LLVMValueRef em_identity(Em *E, Reduce op, DType t) {
  if (dt_is_float(t)) return em_num(E, t, monoid_start_f(op));
  return wide(E, LLVMConstInt(em_reg_type(E, t), (uint64_t)monoid_start_i(op, t), 1));
}
LLVMValueRef em_combine(Em *E, Reduce op, DType t, LLVMValueRef a, LLVMValueRef b) {
  return em_binary(E, monoid_op(op), t, a, b);
}

/* ---- argmax and argmin ------------------------------------------------------------------------------------------- */
static LLVMValueRef beats(Em *E, const Red *r, LLVMValueRef x, LLVMValueRef y) { /* x strictly before y in value */
  bool up = r->op == RED_ARGMAX;
  if (dt_is_float(r->acc)) {
    LLVMValueRef xn = LLVMBuildFCmp(B, LLVMRealUNO, x, x, ""), yn = LLVMBuildFCmp(B, LLVMRealUNO, y, y, "");
    LLVMValueRef c = LLVMBuildOr(B, xn, LLVMBuildFCmp(B, up ? LLVMRealOGT : LLVMRealOLT, x, y, ""), "");
    return LLVMBuildAnd(B, c, LLVMBuildNot(B, yn, ""), "");
  }
  bool is_unsigned = r->acc == DT_U8 || r->acc == DT_BOOL;
  return LLVMBuildICmp(B, up ? (is_unsigned ? LLVMIntUGT : LLVMIntSGT) : (is_unsigned ? LLVMIntULT : LLVMIntSLT), x, y,
                       "");
}
typedef struct Pair {
  LLVMValueRef v, i;
} Pair; /* i < 0: nothing yet */
/* The better of two; equal values: the smaller position. */
static Pair better(Em *E, const Red *r, Pair a, Pair b) {
  LLVMValueRef zero = LLVMConstNull(LLVMTypeOf(a.i));
  LLVMValueRef none = LLVMBuildICmp(B, LLVMIntSLT, a.i, zero, ""), some = LLVMBuildICmp(B, LLVMIntSGE, b.i, zero, "");
  LLVMValueRef wins = beats(E, r, b.v, a.v), loses = beats(E, r, a.v, b.v);
  LLVMValueRef tie = LLVMBuildAnd(B, LLVMBuildNot(B, loses, ""), LLVMBuildICmp(B, LLVMIntSLT, b.i, a.i, ""), "");
  LLVMValueRef take = LLVMBuildOr(B, none, LLVMBuildOr(B, wins, tie, ""), "");
  take = LLVMBuildAnd(B, take, some, "");
  return (Pair){LLVMBuildSelect(B, take, b.v, a.v, ""), LLVMBuildSelect(B, take, b.i, a.i, "")};
}
/* Row-major position in the reduction space, at the current point. */
static LLVMValueRef position(Em *E, Ctx *c, bool vec) {
  LLVMValueRef p = em_int(E, 0);
  for (int i = 0; i < c->g->nred; i++) {
    const Axis *a = &c->g->red[i];
    p = LLVMBuildAdd(B, LLVMBuildMul(B, p, em_int(E, a->n), ""), E->it[a->iter].s, "");
  }
  if (!vec) return p;
  p = em_splat(E, p);
  return c->inner ? LLVMBuildAdd(B, p, em_lanes(E, E->i64, 1), "") : p;
}

/* The column accumulators of the current vector of points. */
static LLVMValueRef column_at(Em *E, Ctx *c, Red *r, LLVMValueRef memory) {
  LLVMValueRef i = E->it[E->vec_iter].s;
  if (E->unit_base) i = LLVMBuildSub(B, i, E->unit_base, "");
  return LLVMBuildGEP2(B, em_reg_type(E, r->acc), memory, &i, 1, "");
}

/* ---- one position ------------------------------------------------------------------------------------------------ */
static void accumulate(Em *E, Ctx *c, Red *r, LLVMValueRef *carry) {
  bool vec = c->vec || c->inner;
  const Stage *st = r->st;
  Val x, y, g;
  LLVMValueRef vx, vy = NULL, live = NULL;
  if (st->fma) {
    x = em_expr(E, st->body->arg[0]);
    y = em_expr(E, st->body->arg[1]);
    vy = em_as(E, &y, vec);
  } else {
    x = em_expr(E, st->body);
  }
  vx = em_as(E, &x, vec);
  if (st->guard) {
    g = em_expr(E, st->guard);
    live = em_as(E, &g, vec);
  }
  em_at(E, E->depth);
  E->vec = vec;
  if (c->inner && E->mask) live = live ? LLVMBuildAnd(B, live, E->mask, "") : E->mask;
  LLVMValueRef old, at = NULL, next;
  LLVMTypeRef t = em_wide(E, em_reg_type(E, r->acc));
  if (r->mode == RM_MEMORY) {
    LLVMValueRef slot = LLVMBuildAnd(B, E->it[c->last.iter].s, em_int(E, NACC * LANE - 1), "");
    at = LLVMBuildGEP2(B, t, r->memory, &slot, 1, "");
    old = LLVMBuildLoad2(B, t, at, "");
  } else if (r->mode == RM_COLUMN) {
    at = column_at(E, c, r, r->memory);
    old = LLVMBuildLoad2(B, t, at, "");
    LLVMSetAlignment(old, 8);
  } else {
    old = carry[r->slot];
  }
  if (r->arg) {
    Pair a = {old, carry[r->slot + r->nacc]}, b = {em_cast(E, r->acc, r->body, vx), position(E, c, vec)};
    LLVMValueRef none = LLVMBuildICmp(B, LLVMIntSLT, a.i, LLVMConstNull(LLVMTypeOf(a.i)), "");
    LLVMValueRef take = LLVMBuildOr(B, none, beats(E, r, b.v, a.v), "");
    if (live) take = LLVMBuildAnd(B, take, live, "");
    carry[r->slot] = LLVMBuildSelect(B, take, b.v, a.v, "");
    carry[r->slot + r->nacc] = LLVMBuildSelect(B, take, b.i, a.i, "");
    return;
  }
  vx = em_cast(E, r->acc, st->fma ? (DType)st->body->arg[0]->dtype : r->body, vx);
  if (vy) {
    vy = em_cast(E, r->acc, (DType)st->body->arg[1]->dtype, vy);
    next = dt_is_float(r->acc) ? em_fma(E, vx, vy, old) : LLVMBuildAdd(B, old, LLVMBuildMul(B, vx, vy, ""), "");
  } else {
    next = em_combine(E, r->op, r->acc, old, vx);
  }
  if (live) next = LLVMBuildSelect(B, live, next, old, "");
  if (r->mode == RM_MEMORY || r->mode == RM_COLUMN) {
    LLVMValueRef put = LLVMBuildStore(B, next, at);
    if (r->mode == RM_COLUMN) LLVMSetAlignment(put, 8);
    return;
  }
  if (r->mode == RM_ROTATE) {
    for (int i = 0; i + 1 < r->nacc; i++) carry[r->slot + i] = carry[r->slot + i + 1];
    carry[r->slot + r->nacc - 1] = next;
  } else {
    carry[r->slot] = next;
  }
}
static void step(Em *E, void *ctx, LLVMValueRef *carry) {
  Ctx *c = ctx;
  Red *r = c->red;
  for (int i = 0; i < c->g->n; i++) {
    const Stage *st = &E->k->stage[c->g->first + i];
    if (st->kind == ST_MAP)
      em_map_stage(E, c->s, st);
    else
      accumulate(E, c, r++, carry);
  }
}

static void column_identity(Em *E, void *ctx, LLVMValueRef *carry) {
  Ctx *c = ctx;
  Red *r = &c->red[0];
  em_at(E, E->depth);
  E->vec = true;
  LLVMSetAlignment(LLVMBuildStore(B, em_identity(E, r->op, r->acc), column_at(E, c, r, r->memory)), 8);
}
static void along_points(Em *E, Ctx *c, BodyFn body) {
  const Axis *a = &c->s->axis[c->s->vp];
  em_vec_for(E, a->iter, E->unit_base, E->unit_count, E->unit_count_rt, a->n, 0, NULL, body, c);
}
static void column_step(Em *E, void *ctx, LLVMValueRef *carry) { along_points(E, ctx, step); }

/* ---- the innermost axis ------------------------------------------------------------------------------------------ */
/* After `steps` rotations the accumulator at place i is number (steps + i) mod nacc. */
static void turn_back(Em *E, Red *r, int64_t n, LLVMValueRef nrt, LLVMValueRef *carry) {
  LLVMValueRef old[NACC];
  if (r->mode != RM_ROTATE || r->nacc == 1) return;
  for (int i = 0; i < r->nacc; i++) old[i] = carry[r->slot + i];
  if (n >= 0) {
    int steps = (int)((n + LANE - 1) / LANE % r->nacc);
    for (int i = 0; i < r->nacc; i++) carry[r->slot + (steps + i) % r->nacc] = old[i];
    return;
  }
  LLVMValueRef steps = LLVMBuildUDiv(B, LLVMBuildAdd(B, nrt, em_int(E, LANE - 1), ""), em_int(E, LANE), "");
  steps = LLVMBuildURem(B, steps, em_int(E, r->nacc), "");
  for (int s = 1; s < r->nacc; s++) {
    LLVMValueRef is = LLVMBuildICmp(B, LLVMIntEQ, steps, em_int(E, s), "");
    for (int i = 0; i < r->nacc; i++) {
      int at = r->slot + (s + i) % r->nacc;
      carry[at] = LLVMBuildSelect(B, is, old[i], carry[at], "");
    }
  }
}
static void run_inner(Em *E, Ctx *c, LLVMValueRef base, int64_t n, LLVMValueRef nrt, LLVMValueRef *carry) {
  if (c->red[0].mode == RM_COLUMN) {
    em_for(E, c->last.iter, base, n, nrt, c->last.n, c->nc, carry, column_step, c);
    return;
  }
  if (!c->inner) {
    em_tiled_for(E, c->last.iter, base, n, nrt, c->last.n, c->nc, carry, step, c, &E->k->stage[c->g->first], c->g->n,
                 false);
    return;
  }
  em_vec_for(E, c->last.iter, base, n, nrt, c->last.n, c->nc, carry, step, c);
  em_at(E, E->depth);
  for (int i = 0; i < c->nred; i++) turn_back(E, &c->red[i], n, nrt, carry);
}
static void nested_rows(Em *E, void *ctx, LLVMValueRef *carry) {
  Ctx *c = ctx;
  if (c->at == c->nouter) {
    run_inner(E, c, NULL, c->last.n, NULL, carry);
    return;
  }
  const Axis *a = &c->g->red[c->at++];
  em_for(E, a->iter, NULL, a->n, NULL, a->n, c->nc, carry, nested_rows, c);
  c->at--;
}

/* ---- chunks ------------------------------------------------------------------------------------------------------ */
static LLVMValueRef min_of(Em *E, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildSelect(B, LLVMBuildICmp(B, LLVMIntSLT, a, b, ""), a, b, "");
}
static LLVMValueRef max_of(Em *E, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildSelect(B, LLVMBuildICmp(B, LLVMIntSLT, a, b, ""), b, a, "");
}
static void bind_row(Em *E, Ctx *c, LLVMValueRef row) {
  for (int i = c->nouter - 1; i >= 0; i--) {
    const Axis *a = &c->g->red[i];
    em_bind(E, a->iter, i ? LLVMBuildURem(B, row, em_int(E, a->n), "") : row, E->depth, false, a->n);
    if (i) row = LLVMBuildUDiv(B, row, em_int(E, a->n), "");
  }
}
typedef struct Rows {
  Ctx *c;
  LLVMValueRef f0, f1;
} Rows; /* CHAIN: flat range of the chunk */
static void chunk_row(Em *E, void *ctx, LLVMValueRef *carry) {
  Rows *t = ctx;
  Ctx *c = t->c;
  LLVMValueRef row = E->it[PSEUDO].s;
  em_at(E, E->depth);
  bind_row(E, c, row);
  if (!t->f0) {
    run_inner(E, c, NULL, c->last.n, NULL, carry);
    return;
  }
  LLVMValueRef start = LLVMBuildMul(B, row, em_int(E, c->last.n), "");
  LLVMValueRef lo = max_of(E, em_int(E, 0), LLVMBuildSub(B, t->f0, start, ""));
  LLVMValueRef hi = min_of(E, em_int(E, c->last.n), LLVMBuildSub(B, t->f1, start, ""));
  run_inner(E, c, lo, -1, LLVMBuildSub(B, hi, lo, ""), carry);
}
/* Accumulates chunk number `chunk`. */
static void run_chunk(Em *E, Ctx *c, LLVMValueRef chunk, LLVMValueRef *carry) {
  int64_t n = c->last.n, size = c->chunk;
  if (c->per_row) {
    LLVMValueRef pieces = em_int(E, c->per_row);
    bind_row(E, c, LLVMBuildUDiv(B, chunk, pieces, ""));
    LLVMValueRef base = LLVMBuildMul(B, LLVMBuildURem(B, chunk, pieces, ""), em_int(E, size), "");
    bool even = n % size == 0;
    LLVMValueRef left = even ? NULL : min_of(E, em_int(E, size), LLVMBuildSub(B, em_int(E, n), base, ""));
    run_inner(E, c, base, even ? size : -1, left, carry);
    return;
  }
  Rows t = {c, NULL, NULL};
  if (c->rows > 1 && size % n == 0) { /* whole rows */
    int64_t per = size / n;
    LLVMValueRef row = LLVMBuildMul(B, chunk, em_int(E, per), "");
    bool even = c->rows % per == 0;
    LLVMValueRef left = even ? NULL : min_of(E, em_int(E, per), LLVMBuildSub(B, em_int(E, c->rows), row, ""));
    em_for(E, PSEUDO, row, even ? per : -1, left, 0, c->nc, carry, chunk_row, &t);
    return;
  }
  int64_t total = c->rows * n;
  t.f0 = LLVMBuildMul(B, chunk, em_int(E, size), "");
  t.f1 = min_of(E, LLVMBuildAdd(B, t.f0, em_int(E, size), ""), em_int(E, total));
  if (c->rows == 1) {
    bind_row(E, c, em_int(E, 0));
    run_inner(E, c, t.f0, total % size ? -1 : size, LLVMBuildSub(B, t.f1, t.f0, ""), carry);
    return;
  }
  LLVMValueRef r0 = LLVMBuildUDiv(B, t.f0, em_int(E, n), "");
  LLVMValueRef r1 = LLVMBuildUDiv(B, LLVMBuildSub(B, t.f1, em_int(E, 1), ""), em_int(E, n), "");
  LLVMValueRef nrow = LLVMBuildAdd(B, LLVMBuildSub(B, r1, r0, ""), em_int(E, 1), "");
  em_for(E, PSEUDO, r0, -1, nrow, 0, c->nc, carry, chunk_row, &t);
}

static void start(Em *E, Ctx *c, LLVMValueRef *carry) {
  em_at(E, E->depth);
  E->vec = c->vec || c->inner;
  for (int i = 0; i < c->nred; i++) {
    Red *r = &c->red[i];
    LLVMValueRef id = r->arg ? LLVMConstNull(em_wide(E, em_reg_type(E, r->acc))) : em_identity(E, r->op, r->acc);
    if (r->mode == RM_COLUMN) {
      along_points(E, c, column_identity);
      continue;
    }
    if (r->mode == RM_MEMORY) {
      for (int m = 0; m < r->nacc; m++) {
        LLVMValueRef at = em_int(E, m);
        LLVMBuildStore(B, id, LLVMBuildGEP2(B, LLVMTypeOf(id), r->memory, &at, 1, ""));
      }
      continue;
    }
    for (int m = 0; m < r->nacc; m++) carry[r->slot + m] = id;
    if (r->arg) carry[r->slot + r->nacc] = wide(E, em_int(E, -1));
  }
}

/* ---- results ----------------------------------------------------------------------------------------------------- */
static Pair fold_lanes(Em *E, Red *r, Pair p) {
  for (int d = LANE / 2; d; d /= 2) {
    int lane[LANE];
    for (int i = 0; i < LANE; i++) lane[i] = i ^ d;
    Pair q = {em_shuffle(E, p.v, NULL, LANE, lane), p.i ? em_shuffle(E, p.i, NULL, LANE, lane) : NULL};
    if (r->arg)
      p = better(E, r, p, q);
    else
      p.v = em_combine(E, r->op, r->acc, p.v, q.v);
  }
  p.v = LLVMBuildExtractElement(B, p.v, em_int(E, 0), "");
  if (p.i) p.i = LLVMBuildExtractElement(B, p.i, em_int(E, 0), "");
  return p;
}
static Pair from_memory(Em *E, Red *r) {
  LLVMTypeRef t = em_wide(E, em_reg_type(E, r->acc));
  LLVMValueRef lane[LANE] = {NULL};
  for (int l = 0; l < LANE; l++) {
    LLVMValueRef v[NACC] = {NULL};
    for (int a = 0; a < NACC && a * LANE + l < r->nacc; a++) {
      LLVMValueRef at = em_int(E, a * LANE + l);
      v[a] = LLVMBuildLoad2(B, t, LLVMBuildGEP2(B, t, r->memory, &at, 1, ""), "");
    }
    LLVMValueRef low = v[1] ? em_combine(E, r->op, r->acc, v[0], v[1]) : v[0];
    LLVMValueRef high = v[3] ? em_combine(E, r->op, r->acc, v[2], v[3]) : v[2];
    lane[l] = high ? em_combine(E, r->op, r->acc, low, high) : low;
  }
  for (int d = LANE / 2; d; d /= 2)
    for (int l = 0; l < d; l++)
      if (lane[l + d]) lane[l] = em_combine(E, r->op, r->acc, lane[l], lane[l + d]);
  return (Pair){lane[0], NULL};
}
/* Value of the chunk just accumulated: a vector if c->vec, else a scalar. */
static Pair finish(Em *E, Ctx *c, Red *r, LLVMValueRef *carry) {
  E->vec = c->vec || c->inner;
  if (r->mode == RM_MEMORY) return from_memory(E, r);
  Pair p = {carry[r->slot], r->arg ? carry[r->slot + r->nacc] : NULL};
  if (r->mode == RM_CHAIN) return p;
  LLVMValueRef *a = carry + r->slot;
  if (r->nacc > 1) p.v = em_combine(E, r->op, r->acc, a[0], a[1]);
  if (r->nacc == 3) p.v = em_combine(E, r->op, r->acc, p.v, a[2]);
  if (r->nacc == 4) p.v = em_combine(E, r->op, r->acc, p.v, em_combine(E, r->op, r->acc, a[2], a[3]));
  return fold_lanes(E, r, p);
}
static void deliver(Em *E, Ctx *c, Red *r, Pair p) {
  DType from = r->acc;
  LLVMValueRef x = p.v;
  E->vec = c->vec;
  if (r->arg) {
    x = LLVMBuildSelect(B, LLVMBuildICmp(B, LLVMIntSLT, p.i, LLVMConstNull(LLVMTypeOf(p.i)), ""),
                        LLVMConstNull(LLVMTypeOf(p.i)), p.i, "");
    from = DT_I64;
  }
  em_store_stage(E, r->st, em_val(E, x, c->vec, E->depth), from);
}

/* ---- parts ------------------------------------------------------------------------------------------------------- */
static LLVMTypeRef part_type(Em *E, Ctx *c, LLVMTypeRef t) {
  if (t == E->i1) t = E->i8;
  return c->vec ? em_vector(E, t) : t;
}
static LLVMValueRef part_at(Em *E, LLVMTypeRef t, LLVMValueRef base, LLVMValueRef i) {
  return LLVMBuildGEP2(B, t, base, &i, 1, "");
}
static void put_part(Em *E, Ctx *c, Red *r, LLVMValueRef i, Pair p) {
  LLVMTypeRef t = part_type(E, c, em_reg_type(E, r->acc)), it = part_type(E, c, E->i64);
  LLVMValueRef v = r->acc == DT_BOOL ? LLVMBuildZExt(B, p.v, t, "") : p.v;
  LLVMSetAlignment(LLVMBuildStore(B, v, part_at(E, t, r->parts, i)), 1);
  if (r->arg) LLVMSetAlignment(LLVMBuildStore(B, p.i, part_at(E, it, r->index_parts, i)), 1);
}
static Pair get_part(Em *E, Ctx *c, Red *r, LLVMValueRef i) {
  LLVMTypeRef t = part_type(E, c, em_reg_type(E, r->acc)), it = part_type(E, c, E->i64);
  Pair p = {LLVMBuildLoad2(B, t, part_at(E, t, r->parts, i), ""), NULL};
  LLVMSetAlignment(p.v, 1);
  if (r->acc == DT_BOOL) p.v = LLVMBuildICmp(B, LLVMIntNE, p.v, LLVMConstNull(t), "");
  if (r->arg) {
    p.i = LLVMBuildLoad2(B, it, part_at(E, it, r->index_parts, i), "");
    LLVMSetAlignment(p.i, 1);
  }
  return p;
}
/* Distance 2^l in round l; run-time loops, since there may be many rounds and they are not hot. */
static LLVMValueRef tree_open(Em *E, int64_t n, LLVMValueRef *distance) {
  int64_t rounds = 0;
  while (((int64_t)1 << rounds) < n) rounds++;
  LLVMValueRef l = em_loop_open(E, em_int(E, 0), em_int(E, rounds), 1, 0, NULL);
  LLVMValueRef w = LLVMBuildShl(B, em_int(E, 1), l, ""), w2 = LLVMBuildShl(B, w, em_int(E, 1), "");
  LLVMValueRef last = LLVMBuildSub(B, em_int(E, n - 1), w, ""); /* the last element with a neighbour, at most */
  LLVMValueRef pairs = LLVMBuildAdd(B, LLVMBuildUDiv(B, last, w2, ""), em_int(E, 1), "");
  LLVMValueRef t = em_loop_open(E, em_int(E, 0), pairs, 1, 0, NULL);
  *distance = w;
  return LLVMBuildMul(B, t, w2, "");
}
static void tree_close(Em *E) {
  em_loop_close(E, 0, NULL);
  em_loop_close(E, 0, NULL);
}
static Pair tree(Em *E, Ctx *c, Red *r, int64_t n) {
  if (n > 1) {
    LLVMValueRef w, i = tree_open(E, n, &w);
    E->vec = c->vec;
    Pair a = get_part(E, c, r, i), b = get_part(E, c, r, LLVMBuildAdd(B, i, w, ""));
    if (r->arg)
      a = better(E, r, a, b);
    else
      a.v = em_combine(E, r->op, r->acc, a.v, b.v);
    put_part(E, c, r, i, a);
    tree_close(E);
  }
  return get_part(E, c, r, em_int(E, 0));
}
static void chunk_body(Em *E, void *ctx, LLVMValueRef *none) {
  Ctx *c = ctx;
  LLVMValueRef carry[EM_CARRY], chunk = E->it[PSEUDO].s;
  start(E, c, carry);
  run_chunk(E, c, chunk, carry);
  em_at(E, E->depth);
  for (int i = 0; i < c->nred; i++) put_part(E, c, &c->red[i], chunk, finish(E, c, &c->red[i], carry));
}

/* ---- the group --------------------------------------------------------------------------------------------------- */
/* Where the chunks' values of a stage go: the lane's scratch, or for a split reduction the unit's shared memory, where
 * each vector of points has its own piece. */
static LLVMValueRef part_base(Em *E, const Sched *s, int stage) {
  if (!E->split || stage != 0) {
    LLVMValueRef off = em_int(E, (int64_t)s->part_off[stage]);
    return LLVMBuildGEP2(B, E->i8, E->scratch, &off, 1, "");
  }
  if (s->vp < 0 || s->column) return E->shared;
  LLVMValueRef i = E->it[s->axis[s->vp].iter].s;
  if (E->unit_base) i = LLVMBuildSub(B, i, E->unit_base, "");
  i = LLVMBuildMul(B, i, em_int(E, s->nparts * 8), "");
  return LLVMBuildGEP2(B, E->i8, E->shared, &i, 1, "");
}
static void set_up(Em *E, const Sched *s, const SGroup *g, bool vec, Ctx *c) {
  *c = (Ctx){.s = s, .g = g, .vec = vec, .inner = g->vec == VEC_INNER, .rows = 1};
  if (g->nred)
    c->last = g->red[g->nred - 1];
  else
    c->last = (Axis){PSEUDO - 1, 1};
  c->nouter = g->nred ? g->nred - 1 : 0;
  for (int i = 0; i < c->nouter; i++) c->rows *= g->red[i].n;
  for (int i = 0; i < g->n; i++) {
    const Stage *st = &E->k->stage[g->first + i];
    if (st->kind == ST_MAP) continue;
    if (c->nred == MAX_RED) bug("emit: too many reductions in one loop");
    Red *r = &c->red[c->nred++];
    *r = (Red){.st = st, .op = (Reduce)st->op, .body = (DType)st->body->dtype, .slot = c->nc};
    r->acc = monoid_acc(r->body);
    r->arg = r->op == RED_ARGMAX || r->op == RED_ARGMIN;
    c->lanes = st->order == ORD_LANES;
    r->mode = c->inner ? RM_ROTATE : c->lanes && sched_ordered(st) ? RM_MEMORY : RM_CHAIN;
    int64_t full = (c->last.n + LANE - 1) / LANE, all = c->last.n;
    r->nacc = r->mode == RM_ROTATE && sched_ordered(st) ? (int)(full < NACC ? full : NACC) : 1;
    if (r->nacc < 1) r->nacc = 1;
    if (r->mode == RM_MEMORY) {
      r->nacc = (int)(all < NACC * LANE ? all : NACC * LANE);
      E->vec = vec;
      r->memory = em_alloca(E, em_wide(E, em_reg_type(E, r->acc)), NACC * LANE);
    } else {
      c->nc += r->nacc + (r->arg ? 1 : 0);
    }
    r->parts = part_base(E, s, g->first + i);
  }
  c->chunk = stage_chunk(c->red[0].st, &c->per_row);
  c->nchunk = stage_chunks(c->red[0].st);
  for (int i = 0; i < c->nred; i++) {
    int64_t split = (int64_t)s->part_bytes / 2, half = (c->nchunk * 8 * E->width + 63) & ~(int64_t)63;
    LLVMValueRef off = em_int(E, E->split && g->first == 0 ? split : half);
    c->red[i].index_parts = LLVMBuildGEP2(B, E->i8, c->red[i].parts, &off, 1, "");
  }
}
static void join(Em *E, Ctx *c) {
  for (int i = 0; i < c->nred; i++) {
    Pair p = tree(E, c, &c->red[i], c->nchunk);
    em_at(E, E->depth);
    deliver(E, c, &c->red[i], p);
  }
}
void em_first_chunk(Em *E, const Sched *s) {
  Ctx c;
  const SGroup *g = &s->group[0];
  em_scope_open(E);
  em_bind_zero(E, g->zero, E->depth);
  set_up(E, s, g, g->vec == VEC_POINT, &c);
  em_bind(E, PSEUDO, E->part, E->depth, false, 0);
  chunk_body(E, &c, NULL);
  em_scope_close(E);
}

/* ---- columns ----------------------------------------------------------------------------------------------------- */
/* Accumulators of chunk number `chunk`: rows of s->chunk values. */
static LLVMValueRef column_row(Em *E, Ctx *c, LLVMValueRef base, LLVMValueRef chunk) {
  int64_t n = (c->s->chunk + E->width - 1) / E->width * E->width;
  LLVMValueRef off = LLVMBuildMul(B, chunk, em_int(E, n), "");
  return LLVMBuildGEP2(B, em_reg_type(E, c->red[0].acc), base, &off, 1, "");
}
static void column_chunk(Em *E, void *ctx, LLVMValueRef *carry) {
  Ctx *c = ctx;
  LLVMValueRef chunk = E->it[PSEUDO].s;
  c->red[0].memory = column_row(E, c, c->red[0].parts, chunk);
  start(E, c, carry);
  if (c->nchunk == 1)
    nested_rows(E, c, carry);
  else
    run_chunk(E, c, chunk, carry);
}
static void column_set_up(Em *E, const Sched *s, Ctx *c) {
  set_up(E, s, &s->group[0], true, c);
  c->red[0].mode = RM_COLUMN;
  c->nc = 0;
}
void em_column_pass(Em *E, const Sched *s) {
  Ctx c;
  LLVMValueRef none[EM_CARRY];
  em_scope_open(E);
  E->point_level = E->depth;
  em_bind_zero(E, s->group[0].zero, E->depth);
  column_set_up(E, s, &c);
  if (c.rows == 0 || c.last.n == 0) {
    c.red[0].memory = c.red[0].parts;
    along_points(E, &c, column_identity);
  } else if (E->split == SPLIT_CHUNKS) {
    em_bind(E, PSEUDO, E->part, E->depth, false, 0);
    column_chunk(E, &c, none);
  } else {
    em_for(E, PSEUDO, NULL, c.nchunk, NULL, 0, 0, none, column_chunk, &c);
  }
  em_scope_close(E);
}
static LLVMValueRef column_load(Em *E, Ctx *c, LLVMValueRef chunk) {
  Red *r = &c->red[0];
  LLVMValueRef x = LLVMBuildLoad2(B, em_vector(E, em_reg_type(E, r->acc)),
                                  column_at(E, c, r, column_row(E, c, r->parts, chunk)), "");
  LLVMSetAlignment(x, 8);
  return x;
}
void em_column_value(Em *E, const Sched *s) {
  Ctx c;
  em_at(E, E->depth);
  column_set_up(E, s, &c);
  Red *r = &c.red[0];
  if (c.nchunk > 1) {
    LLVMValueRef w, i = tree_open(E, c.nchunk, &w);
    E->vec = true;
    LLVMValueRef x = em_combine(E, r->op, r->acc, column_load(E, &c, i), column_load(E, &c, LLVMBuildAdd(B, i, w, "")));
    LLVMSetAlignment(LLVMBuildStore(B, x, column_at(E, &c, r, column_row(E, &c, r->parts, i))), 8);
    tree_close(E);
  }
  em_at(E, E->depth);
  em_store_stage(E, r->st, em_val(E, column_load(E, &c, em_int(E, 0)), true, E->depth), r->acc);
}

void em_reduce_group(Em *E, const Sched *s, const SGroup *g, bool vec) {
  Ctx c;
  em_at(E, E->depth);
  set_up(E, s, g, vec, &c);
  if (c.rows == 0 || c.last.n == 0 || c.nchunk == 1) {
    LLVMValueRef carry[EM_CARRY];
    start(E, &c, carry);
    if (c.rows && c.last.n) {
      if (!g->nred) em_bind(E, c.last.iter, em_int(E, 0), E->depth, false, 1);
      nested_rows(E, &c, carry);
    }
    em_at(E, E->depth);
    for (int i = 0; i < c.nred; i++) {
      bool empty = c.last.n == 0 && c.red[i].mode == RM_MEMORY;
      E->vec = c.vec;
      Pair p = empty ? (Pair){em_identity(E, c.red[i].op, c.red[i].acc), NULL} : finish(E, &c, &c.red[i], carry);
      deliver(E, &c, &c.red[i], p);
    }
    return;
  }
  if (!E->split || g->first) em_for(E, PSEUDO, NULL, c.nchunk, NULL, 0, 0, NULL, chunk_body, &c);
  em_at(E, E->depth);
  join(E, &c);
}
