/* The kernel walker: see interp.h.
 *
 *   Ins   one distinct sub-expression; arguments before it. A stage runs its whole tape at every point
 *   Cell  a value: f for floats (f16, bf16, f32 kept rounded), i for integers and bool */
#include "codegen/interp.h"
#include "codegen/cpu/vmath.h"
#include "codegen/map.h"
#include "codegen/monoid.h"
#include "graph/scalar_eval.h"
#include <math.h>
#include <string.h>

enum { LANES = 16, ACCS = 4 };

typedef union {
  double f;
  int64_t i;
} Cell;

typedef struct Ins {
  uint8_t kind, op, dtype, from; /* from: dtype of the first argument */
  bool checked;
  int n, buf, mask, site; /* mask: instruction or -1 */
  const int *arg;
  const int64_t *coef;
  Cell num;
} Ins;

typedef struct IStage {
  Stage s;
  int nins, body, guard, x, y; /* x, y: factors of a fma chain, else -1 */
  Ins *ins;
  const int *at;
  int site;
} IStage;

typedef struct IBuf {
  uint8_t space, dtype;
  int rank, arg;
  const int64_t *dim, *stride;
  size_t offset;
} IBuf;

typedef struct Interp {
  Arena *a;
  int npar, nbuf, nstage, niter, maxins;
  int64_t *par;
  IBuf *buf;
  IStage *stage;
} Interp;

typedef struct Walk {
  const Interp *p;
  const KernelArgs *k;
  int64_t *it;
  Cell *cell;
  int64_t unit;
} Walk;

/* ---- Values ------------------------------------------------------------------------------------------------------ */
static bool is_f(uint8_t t) { return dt_is_float((DType)t); }

static int64_t to_int(uint8_t t, double v) {
  if (t == DT_BOOL) return v != 0;
  int64_t lo = dt_int_min((DType)t), hi = dt_int_max((DType)t);
  if (v != v) return 0;
  if (v <= (double)lo) return lo;
  return v >= (double)hi ? hi : (int64_t)v;
}

static Cell cast(uint8_t to, uint8_t from, Cell x) {
  Cell r;
  if (is_f(to) && is_f(from))
    r.f = sc_round_f((DType)to, x.f);
  else if (is_f(to))
    r.f = to == DT_F64 ? (double)x.i : sc_round_f((DType)to, (double)(float)x.i);
  else if (is_f(from))
    r.i = to_int(to, x.f);
  else
    r.i = to == DT_BOOL ? x.i != 0 : sc_wrap_i((DType)to, x.i);
  return r;
}

static void fault(Walk *w, int kind, int site, int64_t index, int64_t size) {
  KFault *f = w->k->fault;
  if (f->kind) return;
  *f = (KFault){kind, site, index, size, w->unit};
}

static double float_op(const Ins *e, const Cell *x) {
  double a[3] = {x[0].f, x[1].f, x[2].f};
  bool wide = e->dtype == DT_F64;
  if (vm_has((ScalarOp)e->op)) return vm_eval((ScalarOp)e->op, wide, a[0], e->n > 1 ? a[1] : 0);
  if (e->op == OP_FLOORDIV) return floor(wide ? a[0] / a[1] : (double)(float)(a[0] / a[1]));
  return sc_eval_f((ScalarOp)e->op, a);
}

static Cell scalar_op(Walk *w, const Ins *e, const Cell *cell) {
  Cell x[3] = {{0}, {0}, {0}}, r;
  for (int i = 0; i < e->n; i++) x[i] = cell[e->arg[i]];
  if (e->op == OP_SELECT) return x[0].i ? x[1] : x[2];
  if (e->op == OP_CAST) return cast(e->dtype, e->from, x[0]);
  if (is_f(e->from) && is_f(e->dtype)) {
    r.f = sc_round_f((DType)e->dtype, float_op(e, x));
  } else if (is_f(e->from)) {
    double a[3] = {x[0].f, x[1].f, x[2].f};
    r.i = sc_eval_f((ScalarOp)e->op, a) != 0;
  } else {
    int64_t a[3] = {x[0].i, x[1].i, x[2].i};
    if ((e->op == OP_FLOORDIV || e->op == OP_MOD) && a[1] == 0) {
      fault(w, KF_DIVZERO, e->site, 0, 0);
      r.i = 0;
      return r;
    }
    r.i = sc_wrap_i((DType)e->dtype, sc_eval_i((ScalarOp)e->op, a));
  }
  return r;
}

static char *buf_base(const Walk *w, const IBuf *b) {
  return b->space == SP_GLOBAL ? w->k->ptr[b->arg] : (char *)w->k->scratch + b->offset;
}

static Cell load(Walk *w, const Ins *e, const Cell *cell) {
  const IBuf *b = &w->p->buf[e->buf];
  Cell r = {.i = 0};
  int64_t at = 0;
  if (e->mask >= 0 && !cell[e->mask].i) {
    if (is_f(b->dtype)) r.f = 0;
    return r;
  }
  for (int d = 0; d < e->n; d++) {
    int64_t i = cell[e->arg[d]].i;
    if (e->checked && (i < 0 || i >= b->dim[d])) {
      fault(w, KF_INDEX, e->site, i, b->dim[d]);
      i = 0;
      if (!b->dim[d]) return r;
    }
    at += i * b->stride[d];
  }
  if (is_f(b->dtype))
    r.f = dt_get_f((DType)b->dtype, buf_base(w, b), at);
  else
    r.i = dt_get_i((DType)b->dtype, buf_base(w, b), at);
  return r;
}

static void run_tape(Walk *w, const IStage *s) {
  Cell *cell = w->cell;
  for (int i = 0; i < s->nins; i++) {
    const Ins *e = &s->ins[i];
    switch (e->kind) {
    case EX_CONST:
      cell[i] = e->num;
      break;
    case EX_ITER:
      cell[i].i = w->it[e->num.i];
      break;
    case EX_LIN: {
      uint64_t v = (uint64_t)e->num.i;
      for (int k = 0; k < e->n; k++) v += (uint64_t)e->coef[k] * (uint64_t)cell[e->arg[k]].i;
      cell[i].i = (int64_t)v;
      break;
    }
    case EX_LOAD:
      cell[i] = load(w, e, cell);
      break;
    default:
      cell[i] = scalar_op(w, e, cell);
      break;
    }
  }
}

/* Where a guard is false loads of the body might be out of bounds; the fuser has masked those, so the tape may run
 * first. */
static bool guarded(const Walk *w, const IStage *s) { return s->guard < 0 || w->cell[s->guard].i; }

/* ---- Reductions -------------------------------------------------------------------------------------------------- */
static Cell identity(uint8_t op, uint8_t t) {
  return is_f(t) ? (Cell){.f = monoid_start_f((Reduce)op)} : (Cell){.i = monoid_start_i((Reduce)op, (DType)t)};
}

static Cell combine(uint8_t op, uint8_t t, Cell a, Cell b) {
  ScalarOp by = monoid_op((Reduce)op);
  Cell r;
  if (is_f(t)) {
    double x[3] = {a.f, b.f, 0};
    r.f = sc_round_f((DType)t, sc_eval_f(by, x));
  } else {
    int64_t x[3] = {a.i, b.i, 0};
    r.i = sc_wrap_i((DType)t, sc_eval_i(by, x));
  }
  return r;
}

typedef struct Tree {
  Cell at[64];
  int n;
  int64_t count;
} Tree;

static void tree_push(Tree *t, uint8_t op, uint8_t dt, Cell c) {
  int64_t bits = t->count++;
  for (; bits & 1; bits >>= 1) c = combine(op, dt, t->at[--t->n], c);
  t->at[t->n++] = c;
}

static Cell tree_end(Tree *t, uint8_t op, uint8_t dt) {
  if (!t->n) return identity(op, dt);
  Cell c = t->at[--t->n];
  while (t->n) c = combine(op, dt, t->at[--t->n], c);
  return c;
}

static void decode(Walk *w, int first, int n, const int64_t *extent, int64_t flat) {
  for (int k = n - 1; k >= 0; k--) {
    w->it[first + k] = flat % extent[k];
    flat /= extent[k];
  }
}

static int64_t product(int n, const int64_t *x) {
  int64_t p = 1;
  for (int i = 0; i < n; i++) p *= x[i];
  return p;
}

static Cell chain(Walk *w, const IStage *s, int first, uint8_t acc) {
  int64_t total = product(s->s.nred, s->s.extent + s->s.nown), per_row, chunk = stage_chunk(&s->s, &per_row);
  uint8_t from = s->ins[s->body].dtype;
  Tree t = {.n = 0};
  for (int64_t lo = 0, hi; lo < total; lo = hi) {
    Cell a = identity(s->s.op, acc);
    hi = total - lo < chunk ? total : lo + chunk;
    for (int64_t f = lo; f < hi; f++) {
      decode(w, first, s->s.nred, s->s.extent + s->s.nown, f);
      run_tape(w, s);
      if (!guarded(w, s)) continue;
      if (s->s.fma && s->x >= 0) {
        double x = cast(acc, from, w->cell[s->x]).f, y = cast(acc, from, w->cell[s->y]).f;
        a.f = acc == DT_F64 ? fma(x, y, a.f) : (double)fmaf((float)x, (float)y, (float)a.f);
      } else {
        a = combine(s->s.op, acc, a, cast(acc, from, w->cell[s->body]));
      }
    }
    tree_push(&t, s->s.op, acc, a);
  }
  return tree_end(&t, s->s.op, acc);
}

static Cell lanes_end(uint8_t op, uint8_t t, Cell a[ACCS][LANES]) {
  Cell v[LANES];
  for (int l = 0; l < LANES; l++)
    v[l] = combine(op, t, combine(op, t, a[0][l], a[1][l]), combine(op, t, a[2][l], a[3][l]));
  for (int h = LANES / 2; h; h /= 2)
    for (int l = 0; l < h; l++) v[l] = combine(op, t, v[l], v[l + h]);
  return v[0];
}

static Cell lanes(Walk *w, const IStage *s, int first, uint8_t acc) {
  const int64_t *extent = s->s.extent + s->s.nown;
  int64_t inner = extent[s->s.nred - 1], total = product(s->s.nred, extent), per_row,
          chunk = stage_chunk(&s->s, &per_row);
  uint8_t from = s->ins[s->body].dtype;
  Tree t = {.n = 0};
  Cell a[ACCS][LANES];
  int64_t f = 0;
  while (f < total) {
    int64_t end = total - f < chunk ? total : f + chunk, row_end = (f / inner + 1) * inner;
    if (per_row && row_end < end) end = row_end;
    for (int i = 0; i < ACCS * LANES; i++) a[i / LANES][i % LANES] = identity(s->s.op, acc);
    for (; f < end; f++) {
      int64_t p = f % inner;
      decode(w, first, s->s.nred, extent, f);
      run_tape(w, s);
      if (!guarded(w, s)) continue;
      Cell *at = &a[p / LANES % ACCS][p % LANES];
      *at = combine(s->s.op, acc, *at, cast(acc, from, w->cell[s->body]));
    }
    tree_push(&t, s->s.op, acc, lanes_end(s->s.op, acc, a));
  }
  return tree_end(&t, s->s.op, acc);
}

static Cell arg_best(Walk *w, const IStage *s, int first) {
  int64_t total = product(s->s.nred, s->s.extent + s->s.nown);
  bool have = false, max = s->s.op == RED_ARGMAX, fl = is_f(s->ins[s->body].dtype);
  Cell best = {.i = 0}, at = {.i = 0};
  for (int64_t f = 0; f < total; f++) {
    decode(w, first, s->s.nred, s->s.extent + s->s.nown, f);
    run_tape(w, s);
    if (!guarded(w, s)) continue;
    Cell v = w->cell[s->body];
    bool better = fl    ? (best.f == best.f && (v.f != v.f || (max ? v.f > best.f : v.f < best.f)))
                  : max ? v.i > best.i
                        : v.i < best.i;
    if (have && !better) continue;
    have = true;
    best = v;
    at.i = f;
  }
  return at;
}

static Cell reduce(Walk *w, const IStage *s, int first, uint8_t out) {
  if (s->s.op == RED_ARGMAX || s->s.op == RED_ARGMIN) return arg_best(w, s, first);
  uint8_t acc = monoid_acc((DType)s->ins[s->body].dtype);
  Cell r = s->s.order == ORD_LANES ? lanes(w, s, first, acc) : chain(w, s, first, acc);
  return cast(out, acc, r);
}

/* ---- Stages ------------------------------------------------------------------------------------------------------ */
static void put(const Walk *w, const IBuf *b, int64_t at, Cell v) {
  if (is_f(b->dtype))
    dt_put_f((DType)b->dtype, buf_base(w, b), at, v.f);
  else
    dt_put_i((DType)b->dtype, buf_base(w, b), at, v.i);
}

static int64_t place(const Walk *w, const IStage *s, const IBuf *b) {
  int64_t at = 0;
  for (int d = 0; d < b->rank; d++)
    if (s->s.store[d] >= 0) at += w->it[s->s.store[d]] * b->stride[d];
  return at;
}

static Cell zero_of(uint8_t t) { return identity(RED_SUM, t); }

static void run_scan(Walk *w, const IStage *s, const IBuf *b) {
  int np = w->p->npar, nown = s->s.nown;
  int64_t len = s->s.extent[nown - 1], outer = product(nown - 1, s->s.extent);
  uint8_t from = s->ins[s->body].dtype, acc = monoid_acc((DType)from);
  for (int64_t o = 0; o < outer; o++) {
    Cell a = identity(s->s.op, acc);
    decode(w, np, nown - 1, s->s.extent, o);
    for (int64_t i = 0; i < len; i++) {
      w->it[np + nown - 1] = s->s.reverse ? len - 1 - i : i;
      run_tape(w, s);
      if (s->s.exclusive) put(w, b, place(w, s, b), cast(b->dtype, acc, a));
      if (guarded(w, s)) a = combine(s->s.op, acc, a, cast(acc, from, w->cell[s->body]));
      if (!s->s.exclusive) put(w, b, place(w, s, b), cast(b->dtype, acc, a));
    }
  }
}

static void run_scatter(Walk *w, const IStage *s, const IBuf *b) {
  static const Reduce by[] = {[SC_SET] = RED_NONE, [SC_ADD] = RED_SUM, [SC_MAX] = RED_MAX, [SC_MIN] = RED_MIN};
  int64_t n = product(s->s.nown, s->s.extent);
  for (int64_t o = 0; o < n; o++) {
    decode(w, w->p->npar, s->s.nown, s->s.extent, o);
    run_tape(w, s);
    if (!guarded(w, s)) continue;
    int64_t at = 0;
    bool in = true;
    for (int d = 0; d < b->rank; d++) {
      int64_t i = w->cell[s->at[d]].i;
      if (i < 0 || i >= b->dim[d]) {
        if (s->s.checked) fault(w, KF_INDEX, s->site, i, b->dim[d]);
        in = false;
        break;
      }
      at += i * b->stride[d];
    }
    if (!in) continue;
    Cell v = w->cell[s->body], old;
    char *base = buf_base(w, b);
    if (is_f(b->dtype))
      old.f = dt_get_f((DType)b->dtype, base, at);
    else
      old.i = dt_get_i((DType)b->dtype, base, at);
    put(w, b, at, s->s.how == SC_SET ? v : combine((uint8_t)by[s->s.how], b->dtype, old, v));
  }
}

static void run_stage(Walk *w, const IStage *s) {
  const IBuf *b = &w->p->buf[s->s.out];
  int np = w->p->npar;
  if (s->s.kind == ST_SCAN) {
    run_scan(w, s, b);
    return;
  }
  if (s->s.kind == ST_SCATTER) {
    run_scatter(w, s, b);
    return;
  }
  int64_t n = product(s->s.nown, s->s.extent);
  for (int64_t o = 0; o < n; o++) {
    Cell v;
    decode(w, np, s->s.nown, s->s.extent, o);
    if (s->s.kind == ST_MAP) {
      run_tape(w, s);
      v = guarded(w, s) ? w->cell[s->body] : zero_of(b->dtype);
    } else {
      v = reduce(w, s, np + s->s.nown, b->dtype);
    }
    put(w, b, place(w, s, b), v);
  }
}

static void interp_run(const KernelArgs *k) {
  const Interp *p = k->ctx;
  int64_t it[64];
  Arena *tmp = p->niter > 64 ? arena_new() : NULL;
  Walk w = {p, k, tmp ? arena_array(tmp, int64_t, p->niter) : it, k->scratch, 0};
  for (int64_t u = k->lo; u < k->hi; u++) {
    w.unit = u;
    decode(&w, 0, p->npar, p->par, u);
    for (int i = 0; i < p->nstage; i++) run_stage(&w, &p->stage[i]);
  }
  if (tmp) arena_free(tmp);
}

/* ---- Making ------------------------------------------------------------------------------------------------------ */
typedef struct Make {
  Interp *p;
  const Kernel *k;
  NumMap at;
  VEC(Ins) ins;
} Make;

static void make_ins(void *ctx, Expr *e) {
  Make *m = ctx;
  Arena *a = m->p->a;
  Ins s = {.kind = e->kind,
           .op = e->op,
           .dtype = e->dtype,
           .checked = e->checked,
           .n = e->n,
           .buf = -1,
           .mask = -1,
           .site = -1};
  s.from = e->kind == EX_OP && e->n ? e->arg[e->op == OP_SELECT ? 1 : 0]->dtype : e->dtype;
  int *arg = arena_array(a, int, e->n);
  for (int i = 0; i < e->n; i++) arg[i] = nummap_get(&m->at, e->arg[i]);
  s.arg = arg;
  if (e->kind == EX_CONST && is_f(e->dtype))
    s.num.f = e->num.f;
  else
    s.num.i = e->num.i;
  if (e->kind == EX_LIN) s.coef = arena_copy(a, e->coef, sizeof *e->coef * (size_t)e->n);
  if (e->kind == EX_LOAD) {
    const KBuf *b = kernel_buf(m->k, e->node);
    if (!b) bug("interp: a LOAD without a buffer");
    s.buf = (int)(b - m->k->buf);
    if (e->mask) s.mask = nummap_get(&m->at, e->mask);
    if (e->checked) s.site = kernel_site(m->k, e);
  }
  if (e->kind == EX_OP && (e->op == OP_FLOORDIV || e->op == OP_MOD) && !is_f(e->dtype) &&
      !(e->arg[1]->kind == EX_CONST && e->arg[1]->num.i != 0))
    s.site = kernel_site(m->k, e);
  nummap_put(&m->at, e, m->ins.n);
  vec_push(a, &m->ins, s);
}

/* ex_visit visits each call's distinct expressions; several roots share through `at`. */
static void make_new(void *ctx, Expr *e) {
  Make *m = ctx;
  if (nummap_get(&m->at, e) < 0) make_ins(m, e);
}

static int64_t *copy_i64(Arena *a, int n, const int64_t *x) { return arena_copy(a, x, sizeof *x * (size_t)n); }

static void make_stage(Interp *p, const Kernel *k, const Stage *s, IStage *t) {
  Make m = {p, k, {.arena = p->a}, {0}};
  const IBuf *out = &p->buf[s->out];
  t->s = *s;
  t->s.extent = copy_i64(p->a, s->nown + s->nred, s->extent);
  t->s.body = t->s.guard = NULL;
  t->s.at = NULL;
  t->x = t->y = t->guard = t->site = -1;
  if (s->kind == ST_SCATTER) {
    int *at = arena_array(p->a, int, out->rank);
    for (int d = 0; d < out->rank; d++) {
      ex_visit(s->at[d], make_new, &m);
      at[d] = nummap_get(&m.at, s->at[d]);
    }
    t->at = at;
    if (s->checked) t->site = kernel_site(k, NULL);
  } else {
    t->s.store = arena_copy(p->a, s->store, (size_t)out->rank);
  }
  if (s->guard) {
    ex_visit(s->guard, make_new, &m);
    t->guard = nummap_get(&m.at, s->guard);
  }
  ex_visit(s->body, make_new, &m);
  t->body = nummap_get(&m.at, s->body);
  if (s->fma && s->body->kind == EX_OP && s->body->op == OP_MUL) {
    t->x = nummap_get(&m.at, s->body->arg[0]);
    t->y = nummap_get(&m.at, s->body->arg[1]);
  }
  t->ins = m.ins.at;
  t->nins = m.ins.n;
  if (t->nins > p->maxins) p->maxins = t->nins;
  int niter = k->npar + s->nown + s->nred;
  if (niter > p->niter) p->niter = niter;
}

static void interp_drop(Code *c) { arena_free(((Interp *)c->own)->a); }

void interp_make(const Kernel *k, Code *out) {
  Arena *a = arena_new();
  Interp *p = arena_new_of(a, Interp);
  p->a = a;
  p->npar = k->npar;
  p->par = copy_i64(a, k->npar, k->par);
  p->nbuf = k->nbuf;
  p->buf = arena_array(a, IBuf, k->nbuf);
  p->nstage = k->nstage;
  p->stage = arena_array(a, IStage, k->nstage);
  size_t scratch = 0;
  for (int i = 0; i < k->nbuf; i++) {
    const KBuf *b = &k->buf[i];
    IBuf *t = &p->buf[i];
    *t = (IBuf){b->space, b->dtype, b->rank, b->arg, copy_i64(a, b->rank, b->dim), NULL, scratch};
    int64_t *stride = copy_i64(a, b->rank, b->stride), size = 1;
    if (b->space != SP_GLOBAL) {
      for (int d = b->rank - 1; d >= 0; d--) {
        stride[d] = b->par[d] >= 0 ? 0 : size;
        if (b->par[d] < 0) size *= b->dim[d];
      }
      scratch += ((size_t)size * (size_t)dt_bytes((DType)b->dtype) + 63) / 64 * 64;
    }
    t->stride = stride;
  }
  for (int i = 0; i < k->nstage; i++) make_stage(p, k, &k->stage[i], &p->stage[i]);
  double work = 0;
  for (int i = 0; i < p->nstage; i++) {
    const Stage *s = &p->stage[i].s;
    work += 8.0 * p->stage[i].nins * (double)product(s->nown + s->nred, s->extent);
  }
  for (int i = 0; i < k->nbuf; i++) p->buf[i].offset += (size_t)p->maxins * sizeof(Cell);
  out->nphase = 1;
  out->phase[0] = (Phase){interp_run, p, k->by_dest ? 1 : kernel_points(k), work};
  out->lane_bytes = (size_t)p->maxins * sizeof(Cell) + scratch + 64;
  out->shared_bytes = 0;
  out->drop = interp_drop;
  out->own = p;
}
