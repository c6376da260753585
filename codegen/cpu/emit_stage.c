/* Loops, MAP, SCAN and SCATTER stages (stage.h). */
#include "codegen/cpu/stage.h"
#include "codegen/monoid.h"

#define B E->b
enum { UNROLL = 4, COPIES = 16 };

/* ---- loops ------------------------------------------------------------------------------------------------------- */
static LLVMValueRef plus(Em *E, LLVMValueRef base, LLVMValueRef x) {
  return base ? LLVMBuildNSWAdd(B, base, x, "") : x;
}

static void once(Em *E, int k, LLVMValueRef at, bool vec, int64_t extent, LLVMValueRef *carry, BodyFn body, void *ctx) {
  em_scope_open(E);
  em_bind(E, k, at, E->depth, vec, extent);
  E->it[k].aligned = vec && E->aligned;
  body(E, ctx, carry);
  em_scope_close(E);
}
static void loop(Em *E, int k, LLVMValueRef base, LLVMValueRef n, int64_t step, bool vec, int64_t extent, int nc,
                 LLVMValueRef *carry, BodyFn body, void *ctx) {
  LLVMValueRef iv = em_loop_open(E, em_int(E, 0), n, step, nc, carry);
  em_bind(E, k, plus(E, base, iv), E->depth, vec, extent);
  E->it[k].aligned = vec && E->aligned;
  body(E, ctx, carry);
  em_loop_close(E, nc, carry);
}
void em_for(Em *E, int k, LLVMValueRef base, int64_t n, LLVMValueRef nrt, int64_t extent, int nc, LLVMValueRef *carry,
            BodyFn body, void *ctx) {
  if (n == 0) return;
  if (n == 1 || (n > 0 && n <= UNROLL && n * E->copies <= COPIES)) {
    E->copies *= n;
    for (int64_t i = 0; i < n; i++) once(E, k, plus(E, base, em_int(E, i)), false, extent, carry, body, ctx);
    E->copies /= n;
  } else
    loop(E, k, base, n > 0 ? em_int(E, n) : nrt, 1, false, extent, nc, carry, body, ctx);
}

static LLVMValueRef lanes_below(Em *E, LLVMValueRef n) {
  return LLVMBuildICmp(B, LLVMIntULT, em_lanes(E, E->i32, 1), em_splat(E, LLVMBuildTrunc(B, n, E->i32, "")), "");
}
static void tail(Em *E, int k, LLVMValueRef at, LLVMValueRef left, int64_t extent, LLVMValueRef *carry, BodyFn body,
                 void *ctx) {
  em_scope_open(E);
  E->mask = lanes_below(E, left);
  E->live = left;
  em_bind(E, k, at, E->depth, true, extent);
  E->it[k].aligned = E->aligned;
  body(E, ctx, carry);
  E->mask = E->live = NULL;
  em_scope_close(E);
}
void em_vec_for(Em *E, int k, LLVMValueRef base, int64_t n, LLVMValueRef nrt, int64_t extent, int nc,
                LLVMValueRef *carry, BodyFn body, void *ctx) {
  int w = E->width;
  LLVMValueRef zero = em_int(E, 0);
  if (n == 0) return;
  int outer = E->vec_iter;
  E->vec_iter = k;
  E->aligned = w == 16 && (!base || base == E->unit_base); /* units begin at multiples of 64 */
  if (n > 0) {
    int64_t full = n / w * w;
    if (full == w)
      once(E, k, base ? base : zero, true, extent, carry, body, ctx);
    else if (full)
      loop(E, k, base, em_int(E, full), w, true, extent, nc, carry, body, ctx);
    if (n > full) tail(E, k, plus(E, base, em_int(E, full)), em_int(E, n - full), extent, carry, body, ctx);
    E->vec_iter = outer;
    return;
  }
  LLVMValueRef before[EM_CARRY], full = LLVMBuildAnd(B, nrt, em_int(E, -(int64_t)w), "");
  LLVMValueRef left = LLVMBuildSub(B, nrt, full, ""), at = plus(E, base, full);
  LLVMValueRef has_full = LLVMBuildICmp(B, LLVMIntNE, full, zero, ""),
               has_tail = LLVMBuildICmp(B, LLVMIntNE, left, zero, "");
  for (int i = 0; i < nc; i++) before[i] = carry[i];
  em_if_open(E, has_full);
  loop(E, k, base, full, w, true, extent, nc, carry, body, ctx);
  em_if_close(E, nc, carry, before);
  for (int i = 0; i < nc; i++) before[i] = carry[i];
  em_if_open(E, has_tail);
  tail(E, k, at, left, extent, carry, body, ctx);
  em_if_close(E, nc, carry, before);
  E->vec_iter = outer;
}

/* ---- one stage at one place -------------------------------------------------------------------------------------- */
void em_bind_zero(Em *E, uint64_t zero, int level) {
  for (int k = 0; zero; k++, zero >>= 1)
    if (zero & 1) em_bind(E, k, em_int(E, 0), level, false, 1);
}
void em_store_stage(Em *E, const Stage *st, Val x, DType from) {
  const KBuf *b = &E->k->buf[st->out];
  EmBuf *eb = &E->buf[st->out];
  DType t = (DType)b->dtype;
  if (b->space == SP_REG) {
    bool vec = !x.s;
    LLVMValueRef v = em_as(E, &x, vec);
    em_at(E, E->depth);
    eb->reg = em_val(E, em_cast(E, t, from, v), vec, E->depth);
    return;
  }
  Addr a;
  em_addr_init(&a);
  for (int d = 0; d < b->rank; d++)
    if (st->store[d] >= 0 && !(b->par && b->par[d] >= 0)) a.coef[st->store[d]] += eb->stride[d];
  em_store(E, st->out, &a, x, from, NULL, false);
}
void em_map_stage(Em *E, const Sched *s, const Stage *st) {
  DType t = (DType)st->body->dtype;
  Val x = em_expr(E, st->body);
  if (st->guard) {
    Val g = em_expr(E, st->guard);
    bool vec = !x.s || !g.s;
    LLVMValueRef c = em_as(E, &g, vec), v = em_as(E, &x, vec);
    int level = x.level > g.level ? x.level : g.level;
    em_at(E, level);
    x = em_val(E, LLVMBuildSelect(B, c, v, LLVMConstNull(LLVMTypeOf(v)), ""), vec, level);
  }
  em_store_stage(E, st, x, t);
  const KBuf *b = &E->k->buf[st->out];
  if (b->space != SP_REG && b->dtype == t) E->buf[st->out].fwd = x;
}
/* Whoever comes after the loop reads memory. */
static void forget(Em *E, const SGroup *g) {
  for (int i = 0; i < g->n; i++) E->buf[E->k->stage[g->first + i].out].fwd.gen = 0;
}
/* A REG value found in the stage's scope belongs to the point from now on. */
static void settle(Em *E, const SGroup *g) {
  for (int i = 0; i < g->n; i++) {
    int out = E->k->stage[g->first + i].out;
    EmBuf *b = &E->buf[out];
    if (E->k->buf[out].space != SP_REG || b->reg.level <= E->point_level) continue;
    b->reg.level = E->point_level;
    b->reg.gen = E->level[E->point_level].gen;
  }
}

/* ---- nests of own axes ------------------------------------------------------------------------------------------- */
typedef struct Nest {
  const Sched *s;
  const SGroup *g;
  int at;
  bool vec;
  const Stage *map; /* the group's maps */
} Nest;

static void scan_stage(Em *E, Nest *t);
static void nest_body(Em *E, Nest *t) {
  const Stage *st = &E->k->stage[t->g->first];
  if (st->kind == ST_SCAN)
    scan_stage(E, t);
  else if (t->g->reduces)
    em_reduce_group(E, t->s, t->g, t->vec || t->g->vec == VEC_POINT);
  else
    for (int i = 0; i < t->g->n; i++) em_map_stage(E, t->s, t->map + i);
}
static void nest_loop(Em *E, void *ctx, LLVMValueRef *carry);
/* The innermost loop of maps, along the lanes. */
static void map_loop(Em *E, Nest *t, const Axis *a) {
  int64_t cut[EM_CUTS + 1], from = 0;
  int n = em_cuts(E, t->map, t->g->n, a->iter, a->n, cut);
  const Stage *all = t->map;
  cut[n] = a->n;
  for (int i = 0; i <= n; from = cut[i++]) {
    Stage *piece = arena_array(E->arena, Stage, t->g->n);
    for (int j = 0; n && j < t->g->n; j++) piece[j] = em_piece(E, &all[j], a->iter, from, cut[i]);
    if (n) t->map = piece;
    em_vec_for(E, a->iter, from ? em_int(E, from) : NULL, cut[i] - from, NULL, a->n, 0, NULL, nest_loop, t);
  }
}
static void nest_loop(Em *E, void *ctx, LLVMValueRef *carry) {
  Nest *t = ctx;
  bool scan = E->k->stage[t->g->first].kind == ST_SCAN;
  if (t->at == t->g->nown - (scan ? 1 : 0)) {
    nest_body(E, t);
    return;
  }
  const Axis *a = &t->g->own[t->at];
  bool vec = t->g->vec == VEC_OWN && t->at == t->g->nown - 1;
  Nest in = {t->s, t->g, t->at + 1, t->vec || vec, t->map};
  int last = t->g->nown - (scan ? 2 : 1);
  if (vec && !t->g->reduces && !scan)
    map_loop(E, &in, a);
  else if (vec)
    em_vec_for(E, a->iter, NULL, a->n, NULL, a->n, 0, NULL, nest_loop, &in);
  else if (t->at == last && t->g->vec == VEC_POINT && !t->g->reduces && !scan)
    em_tiled_for(E, a->iter, NULL, a->n, NULL, a->n, 0, NULL, nest_loop, &in, &E->k->stage[t->g->first], t->g->n,
                 false);
  else
    em_for(E, a->iter, NULL, a->n, NULL, a->n, 0, NULL, nest_loop, &in);
}
void em_groups(Em *E, const Sched *s, int first) {
  for (int i = first; i < s->ngroup; i++) {
    const SGroup *g = &s->group[i];
    const Stage *st = &E->k->stage[g->first];
    if (!g->reduces && st->nown == 0) { /* values of the point */
      for (int j = 0; j < g->n; j++) em_map_stage(E, s, st + j);
      forget(E, g);
      continue;
    }
    em_scope_open(E);
    em_bind_zero(E, g->zero, E->depth);
    Nest t = {s, g, 0, false, st};
    nest_loop(E, &t, NULL);
    em_scope_close(E);
    forget(E, g);
    settle(E, g);
  }
}

/* ---- SCAN -------------------------------------------------------------------------------------------------------- */
typedef struct Run {
  const Stage *st;
  DType acc;
  bool vec;
} Run;

static void scan_step(Em *E, void *ctx, LLVMValueRef *carry) {
  Run *r = ctx;
  const Stage *st = r->st;
  DType t = (DType)st->body->dtype;
  Val x = em_expr(E, st->body), g;
  if (st->guard) g = em_expr(E, st->guard);
  LLVMValueRef v = em_as(E, &x, r->vec), c = st->guard ? em_as(E, &g, r->vec) : NULL, old = carry[0];
  em_at(E, E->depth);
  E->vec = r->vec;
  LLVMValueRef next = em_combine(E, (Reduce)st->op, r->acc, old, em_cast(E, r->acc, t, v));
  if (c) next = LLVMBuildSelect(B, c, next, old, "");
  carry[0] = next;
  em_store_stage(E, st, em_val(E, st->exclusive ? old : next, r->vec, E->depth), r->acc);
}
static void scan_stage(Em *E, Nest *t) {
  const Stage *st = &E->k->stage[t->g->first];
  const Axis *a = &t->g->own[t->g->nown - 1];
  Run r = {st, monoid_acc((DType)st->body->dtype), t->g->vec == VEC_POINT};
  em_at(E, E->depth);
  E->vec = r.vec;
  LLVMValueRef carry = em_identity(E, (Reduce)st->op, r.acc);
  em_tiled_for(E, a->iter, NULL, a->n, NULL, a->n, 1, &carry, scan_step, &r, st, 1, st->reverse);
}

/* ---- SCATTER ----------------------------------------------------------------------------------------------------- */
typedef struct Spread {
  const Kernel *k;
  int at, n;           /* loop under way over the source iterators first .. n */
  bool vec;            /* the last iterator is the last subscript: lanes write different places */
  LLVMValueRef lo, hi; /* by_dest: range of the first subscript */
} Spread;

static void scatter_point(Em *E, Spread *t) {
  const Kernel *k = t->k;
  const Stage *st = k->stage;
  const KBuf *b = &k->buf[st->out];
  const EmBuf *eb = &E->buf[st->out];
  DType dt = (DType)b->dtype, from = (DType)st->body->dtype;
  int level = E->depth;
  Val idx[TG_SCATTER_RANK], g;
  if (st->guard) g = em_expr(E, st->guard);
  for (int d = 0; d < b->rank; d++) idx[d] = em_expr(E, st->at[d]);
  LLVMValueRef go = st->guard ? em_as(E, &g, t->vec) : NULL;
  em_at(E, level);
  /* lanes that write: guarded in, subscripts inside, and (by_dest) in this call's range */
  LLVMTypeRef ct = t->vec ? em_vector(E, E->i1) : E->i1;
  if (!go) go = LLVMConstAllOnes(ct);
  if (st->checked) {
    LLVMValueRef inside = go;
    for (int d = 0; d < b->rank; d++) {
      int64_t lo, hi;
      if (em_range(E, st->at[d], &lo, &hi) && lo >= 0 && hi < b->dim[d]) continue;
      LLVMValueRef x = em_as(E, &idx[d], t->vec), n = em_int(E, b->dim[d]);
      em_at(E, level);
      LLVMValueRef out = LLVMBuildICmp(B, LLVMIntUGE, x, t->vec ? em_splat_const(E, n) : n, "");
      LLVMValueRef bad = LLVMBuildAnd(B, out, go, "");
      if (t->lo) { /* one lane reports */
        LLVMValueRef first = LLVMBuildICmp(B, LLVMIntEQ, t->lo, em_int(E, 0), "");
        bad = LLVMBuildAnd(B, bad, t->vec ? em_splat(E, first) : first, "");
      }
      em_fault_check(E, KF_INDEX, kernel_site(k, NULL), em_val(E, bad, t->vec, level), em_val(E, x, t->vec, level),
                     b->dim[d]);
      inside = LLVMBuildAnd(B, inside, LLVMBuildNot(B, out, ""), "");
    }
    go = inside;
  }
  if (t->lo) {
    LLVMValueRef x = em_as(E, &idx[0], t->vec), lo = t->lo, hi = t->hi;
    em_at(E, level);
    if (t->vec) lo = em_splat(E, lo), hi = em_splat(E, hi);
    go = LLVMBuildAnd(B, go, LLVMBuildICmp(B, LLVMIntSGE, x, lo, ""), "");
    go = LLVMBuildAnd(B, go, LLVMBuildICmp(B, LLVMIntSLT, x, hi, ""), "");
  }
  if (LLVMIsNull(go)) return; /* guarded out everywhere */
  bool always = LLVMIsConstant(go) && go == LLVMConstAllOnes(ct);
  LLVMValueRef some = t->vec ? em_any(E, E->mask ? LLVMBuildAnd(B, go, E->mask, "") : go) : go;
  if (!always) em_if_open(E, some);
  /* where */
  Addr a;
  em_addr_init(&a);
  LLVMValueRef off = NULL;
  int inner = E->depth;
  for (int d = 0; d < b->rank; d++) {
    if (t->vec && d == b->rank - 1) {
      em_addr_add(E, &a, st->at[d], eb->stride[d], -1);
      continue;
    }
    LLVMValueRef x = em_as(E, &idx[d], false);
    em_at(E, inner);
    x = LLVMBuildMul(B, x, em_int(E, eb->stride[d]), "");
    off = off ? LLVMBuildAdd(B, off, x, "") : x;
  }
  EmBuf *out = &E->buf[st->out];
  LLVMValueRef base = out->base;
  out->base_level = inner;
  em_at(E, inner);
  if (off) out->base = LLVMBuildGEP2(B, em_mem_type(E, dt), base, &off, 1, "");
  Val x = em_expr(E, st->body), goes = em_val(E, go, t->vec, level);
  Val *mask = t->vec && !always ? &goes : NULL;
  if (st->how != SC_SET) {
    static const uint8_t red[] = {RED_NONE, RED_SUM, RED_MAX, RED_MIN};
    /* the old value is read here and now: an earlier step may have written it */
    int keep = E->point_level;
    E->point_level = inner;
    bool was = out->inner;
    out->inner = true;
    Val old = em_load(E, st->out, &a, mask, 0);
    out->inner = was;
    E->point_level = keep;
    LLVMValueRef v = em_as(E, &x, t->vec), o = em_as(E, &old, t->vec);
    em_at(E, inner);
    E->vec = t->vec;
    DType acc = monoid_acc(dt);
    LLVMValueRef r = em_combine(E, (Reduce)red[st->how], acc, em_cast(E, acc, dt, o), em_cast(E, acc, from, v));
    x = em_val(E, r, t->vec, inner);
    from = acc;
  }
  em_store(E, st->out, &a, x, from, mask, false);
  out->base = base;
  out->base_level = 0;
  if (!always) em_if_close(E, 0, NULL, NULL);
}
static void scatter_loop(Em *E, void *ctx, LLVMValueRef *carry) {
  Spread *t = ctx;
  const Kernel *k = t->k;
  if (t->at == t->n) {
    scatter_point(E, t);
    return;
  }
  int iter = t->at;
  int64_t n = iter < k->npar ? k->par[iter] : k->stage->extent[iter - k->npar];
  Spread in = *t;
  in.at++;
  if (t->vec && in.at == t->n)
    em_vec_for(E, iter, NULL, n, NULL, n, 0, NULL, scatter_loop, &in);
  else
    em_for(E, iter, NULL, n, NULL, n, 0, NULL, scatter_loop, &in);
}
/* Lanes may run over the last source iterator when it is the last subscript and no other depends on it. */
static bool scatter_lanes(const Kernel *k) {
  const Stage *st = k->stage;
  const KBuf *b = &k->buf[st->out];
  int last = k->npar + st->nown - 1;
  if (st->nown == 0 || b->rank == 0 || b->stride[b->rank - 1] != 1) return false;
  const Expr *e = st->at[b->rank - 1];
  bool bare = e->kind == EX_ITER && e->num.i == last;
  if (e->kind == EX_LIN)
    for (int i = 0; i < e->n; i++) {
      if (e->arg[i]->kind == EX_ITER && e->arg[i]->num.i == last)
        bare = e->coef[i] == 1;
      else if (ex_uses_iter(e->arg[i], last))
        return false;
    }
  if (!bare || (st->guard && ex_uses_iter(st->guard, last))) return false;
  for (int d = 0; d + 1 < b->rank; d++)
    if (ex_uses_iter(st->at[d], last)) return false;
  return !(st->checked && ex_uses_iter(st->at[0], last) && b->rank > 1);
}

void em_scatter_function(Em *E, const Kernel *k, const Sched *s) {
  const Stage *st = k->stage;
  Spread t = {k, 0, k->npar + st->nown, scatter_lanes(k), NULL, NULL};
  for (int i = 0; i < st->nown; i++)
    if (st->extent[i] == 0) return;
  LLVMValueRef lo = em_arg(E, offsetof(KernelArgs, lo), E->i64), hi = em_arg(E, offsetof(KernelArgs, hi), E->i64);
  if (k->by_dest) {
    t.lo = lo;
    t.hi = hi;
    for (int i = 0; i < k->npar; i++)
      if (k->par[i] == 0) return;
    E->point_level = 0;
    em_scope_open(E);
    scatter_loop(E, &t, NULL);
    em_scope_close(E);
    return;
  }
  em_if_open(E, LLVMBuildICmp(B, LLVMIntSLT, lo, hi, ""));
  E->unit = em_loop_open(E, lo, hi, 1, 0, NULL);
  E->unit_level = E->depth;
  LLVMValueRef rest = E->unit;
  for (int i = k->npar - 1; i >= 0; i--) {
    LLVMValueRef n = em_int(E, k->par[i] ? k->par[i] : 1);
    em_bind(E, i, i ? LLVMBuildURem(B, rest, n, "") : rest, E->depth, false, k->par[i]);
    if (i) rest = LLVMBuildUDiv(B, rest, n, "");
  }
  E->point_level = E->depth;
  t.at = k->npar;
  scatter_loop(E, &t, NULL);
  em_loop_close(E, 0, NULL);
  em_if_close(E, 0, NULL, NULL);
}
