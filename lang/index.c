/* Subscripts: x[i, 1:3, ..., none, table], as NumPy's, and the proof that none leaves its axis.
 *
 * A subscript selects a Place: for each axis of x an i64 expression over the selection's own axes and the free indices.
 * Reading a place substitutes those into x's expression (a view); x.at[...].set(v) scatters to it.
 *   proved from the ranges alone               plain
 *   proved with the guards in force            the load is masked by the conjuncts that the proof needs
 *   index arithmetic that is not proved        X_BOUNDS with the corner that leaves
 *   data                                       checked when it runs, masked by the guards in force */
#include "lang/space.h"
#include <string.h>

/* ---- proofs ------------------------------------------------------------------------------------------------------ */

typedef struct Sight {
  bool data, other;
} Sight;
static bool is_counter(const Expr *e) {
  return e->kind == EX_LOAD && e->node->kind == ND_PARAM && e->node->rank == 0 && e->node->dtype == DT_I64 &&
         e->node->param.lo <= e->node->param.hi;
}
static void sight(void *ctx, Expr *e) {
  Sight *s = ctx;
  if (e->kind == EX_LOAD) *(is_counter(e) ? &s->other : &s->data) = true;
  if (e->kind == EX_OP) s->other = true;
}
static bool reads_data(Expr *e) {
  Sight s = {0};
  if (e) ex_visit(e, sight, &s);
  return s.data;
}

/* Linear in indices, own axes and loop counters. */
static bool is_affine(const Expr *e) {
  if (e->kind == EX_CONST || e->kind == EX_VAR || e->kind == EX_ITER || is_counter(e)) return true;
  if (e->kind != EX_LIN) return false;
  for (int k = 0; k < e->n; k++)
    if (e->arg[k]->kind != EX_VAR && e->arg[k]->kind != EX_ITER && !is_counter(e->arg[k])) return false;
  return true;
}

static bool inside(Interval in, int64_t n) { return in.lo > in.hi || (in.lo >= 0 && in.hi < n); }

enum { MAX_CONJUNCT = 32 };
static int conjuncts(Expr *e, Expr **out, int n) {
  if (e->kind == EX_OP && e->op == OP_AND) return conjuncts(e->arg[1], out, conjuncts(e->arg[0], out, n));
  if (n < MAX_CONJUNCT) out[n] = e;
  return n + 1;
}

/* The part of the guard that the proof needs: conjuncts are left out one by one while it still holds. */
static Expr *needed_guard(Elab *E, Expr *sub, int64_t n, const Box *box) {
  Expr *c[MAX_CONJUNCT];
  int m = conjuncts(E->guard, c, 0);
  if (m > MAX_CONJUNCT) return E->guard;
  bool keep[MAX_CONJUNCT];
  memset(keep, 1, sizeof keep);
  for (int k = 0; k < m; k++) {
    Expr *rest = NULL;
    keep[k] = false;
    for (int j = 0; j < m; j++)
      if (keep[j]) rest = ex_and(E->g, rest, c[j]);
    if (!inside(ex_interval(E->g, sub, box, rest), n)) keep[k] = true;
  }
  Expr *mask = NULL;
  for (int k = 0; k < m; k++)
    if (keep[k]) mask = ex_and(E->g, mask, c[k]);
  return mask;
}

/* "i = 2, k = 0 gives x[3]": the corner of the box where the affine sub is least or largest. */
static _Noreturn void fail_bounds(Elab *E, Expr *sub, Dim dim, int nown, const Interval *own, Span at, Ast *base,
                                  int axis) {
  Box box = space_box(E, nown, own);
  Interval all = ex_interval(E->g, sub, &box, NULL);
  bool low = all.lo < 0;
  const char *name = base ? expr_text(E, base) : "the tensor", *text = "";
  int n = sub->kind == EX_LIN ? sub->n : sub->kind == EX_CONST ? 0 : 1;
  for (int k = 0; k < n; k++) {
    Expr *a = sub->kind == EX_LIN ? sub->arg[k] : sub;
    int64_t coef = sub->kind == EX_LIN ? sub->coef[k] : 1;
    Interval in = ex_interval(E->g, a, &box, NULL);
    int64_t v = (coef > 0) == low ? in.lo : in.hi;
    const Index *i = a->kind == EX_VAR ? index_find(E, a->num.i) : NULL;
    const char *what = i ? (i->name ? i->name : "...") : a->kind == EX_ITER ? NULL : "the loop's counter";
    if (i) v += i->lo;
    if (what) text = arena_printf(E->a, "%s%s%s = %lld", text, *text ? ", " : "", what, (long long)v);
  }
  int64_t value = low ? all.lo : all.hi;
  Diag *g;
  if (*text)
    g = diag_add(E->d, X_BOUNDS, at, "this subscript can leave axis %d of `%s`: %s gives %lld, but its size is %lld",
                 axis, name, text, (long long)value, (long long)dim.n);
  else
    g = diag_add(E->d, X_BOUNDS, at, "this subscript leaves axis %d of `%s`: %lld of size %lld", axis, name,
                 (long long)value, (long long)dim.n);
  note_origin(E, g, dim);
  if (sub->kind != EX_CONST)
    diag_help(E->d, g, "pad the tensor first, give a smaller range by `in`, or guard it: `... if c else 0`");
  elab_fail(E, g);
}

/* Is the subscript at `at` written with an operator? x[t + i] is not bare where t is 0, so it means the same for every
 * t. */
static bool is_computed(const Ast *index, Span at) {
  for (int k = 0; k < index->nkid; k++) {
    const Ast *sub = index->kid[k];
    if (sub->kind == AST_BINARY && sub->span.lo == at.lo && sub->span.hi == at.hi) return true;
  }
  return false;
}

static void record(Elab *E, Expr *sub, Dim dim, Span at, bool part) {
  Constraint c = {.sub = sub, .dim = dim, .span = at, .guard = E->guard, .part = part};
  vec_push(E->a, &E->constraint, c);
}

Proof prove_inside(Elab *E, Expr *sub, Dim dim, int nown, const Interval *own, Span at, Ast *base, int axis,
                   bool computed) {
  Proof p = {0};
  if (E->trial) {
    if (!sub->nvar) return p;
    Expr *by[2][TG_MAX_RANK]; /* both ends of the own axes stand for the whole */
    bool swept = false;
    for (int k = 0; k < nown; k++) {
      bool used = ex_uses_iter(sub, k), empty = own[k].lo > own[k].hi;
      if (used && empty) return p; /* no such subscript is ever read; one that does not sweep it still says its range */
      swept |= used;
      by[0][k] = ex_int(E->g, DT_I64, own[k].lo), by[1][k] = ex_int(E->g, DT_I64, own[k].hi);
    }
    record(E, ex_subst_iters(E->g, sub, nown, by[0]), dim, at, swept || computed);
    if (swept) record(E, ex_subst_iters(E->g, sub, nown, by[1]), dim, at, true);
    return p;
  }
  Box box = space_box(E, nown, own);
  if (inside(ex_interval(E->g, sub, &box, NULL), dim.n)) return p;
  if (E->guard && inside(ex_interval(E->g, sub, &box, E->guard), dim.n)) {
    p.mask = needed_guard(E, sub, dim.n, &box);
    return p;
  }
  if (is_affine(sub) && !reads_data(E->guard)) fail_bounds(E, sub, dim, nown, own, at, base, axis);
  p.checked = true, p.mask = E->guard;
  return p;
}

/* ---- subscripts to a place --------------------------------------------------------------------------------------- */

typedef struct Item {
  enum { ITEM_AT, ITEM_SLICE, ITEM_NEW, ITEM_GATHER } kind;
  Span at;
  Expr *lo;        /* AT: the subscript; SLICE: first element */
  bool inside;     /* known to be inside */
  int64_t n, step; /* SLICE: elements (-1 unknown, trial) */
  Dim dim;         /* SLICE: the same as a size */
  Value *data;     /* GATHER */
  int axis;        /* of x */
} Item;

typedef struct Subs {
  Elab *E;
  const TensorV *x;
  Ast *base;
  int n;
  Item at[2 * TG_MAX_RANK];
  int axis;
} Subs;

static Item *add_item(Subs *s, int kind, Span at) {
  if (s->n == 2 * TG_MAX_RANK) diag_fail(s->E->d, S_RANK, at, "too many subscripts");
  Item *i = &s->at[s->n++];
  *i = (Item){.kind = kind, .at = at};
  if (kind != ITEM_NEW) i->axis = s->axis++;
  return i;
}

static void add_full(Subs *s, Span at) {
  Item *i = add_item(s, ITEM_SLICE, at);
  i->dim = s->x->dim[i->axis], i->n = i->dim.n, i->step = 1, i->inside = true;
  i->lo = ex_int(s->E->g, DT_I64, 0);
}

static void add_at(Subs *s, Expr *e, Span at) { add_item(s, ITEM_AT, at)->lo = e; }

static void add_static(Subs *s, int64_t v, Span at) {
  Elab *E = s->E;
  Item *i = add_item(s, ITEM_AT, at);
  Dim d = s->x->dim[i->axis];
  int64_t k = v < 0 && d.n >= 0 ? v + d.n : v;
  i->inside = true;
  if (d.n >= 0 && (k < 0 || k >= d.n)) {
    Diag *g = diag_add(E->d, X_BOUNDS, at, "%lld is outside axis %d of `%s`, whose size is %lld", (long long)v, i->axis,
                       expr_text(E, s->base), (long long)d.n);
    note_origin(E, g, d);
    elab_fail(E, g);
  }
  i->lo = ex_int(E->g, DT_I64, k < 0 ? 0 : k);
}

static Expr *end_expr(Elab *E, Value *v, Span at) {
  int64_t i;
  if (v_is_static_int(v, &i)) return ex_int(E->g, DT_I64, i);
  if (v->kind == V_TENSOR && v->t.rank == 0 && dt_is_int(v->t.dtype)) return ex_cast(E->g, DT_I64, v->t.e);
  diag_fail(E->d, T_TYPE, at, "the ends of a slice are integers, not %s", v_type_text(E, v));
}

/* How many elements lo, lo + step, ... lie before end. */
static int64_t slice_count(int64_t lo, int64_t end, int64_t step) {
  if (step > 0) return lo < end ? (end - lo - 1) / step + 1 : 0;
  return lo > end ? (lo - end - 1) / -step + 1 : 0;
}

static int64_t clamp(int64_t v, int64_t n, int64_t lo, int64_t hi) {
  if (v < 0) v = v < -n ? lo : v + n;
  return v < lo ? lo : v > hi ? hi : v;
}

static void add_slice(Subs *s, const Env *env, Ast *e) {
  Elab *E = s->E;
  Value *lo = e->a ? elab_expr(E, env, e->a) : NULL, *hi = e->b ? elab_expr(E, env, e->b) : NULL;
  int64_t step = e->c ? v_static_int(E, elab_expr(E, env, e->c), e->c->span, "a slice's step") : 1, a = 0, b = 0;
  if (step == 0) diag_fail(E->d, V_DIVZERO, e->c->span, "a slice's step is not 0");
  if (lo && lo->kind == V_NONE) lo = NULL;
  if (hi && hi->kind == V_NONE) hi = NULL;
  Item *i = add_item(s, ITEM_SLICE, e->span);
  Dim d = s->x->dim[i->axis];
  i->step = step;
  if ((!lo || v_is_static_int(lo, &a)) && (!hi || v_is_static_int(hi, &b))) {
    i->inside = true;
    if (d.n < 0) {
      i->n = -1, i->lo = ex_int(E->g, DT_I64, 0);
      if (lo && hi && a >= 0 && b >= 0 && step > 0) i->n = slice_count(a, b, step);
    } else {
      int64_t from = step > 0 ? 0 : d.n - 1, to = step > 0 ? d.n : -1;
      if (lo) from = clamp(a, d.n, step > 0 ? 0 : -1, step > 0 ? d.n : d.n - 1);
      if (hi) to = clamp(b, d.n, step > 0 ? 0 : -1, step > 0 ? d.n : d.n - 1);
      i->n = slice_count(from, to, step), i->lo = ex_int(E->g, DT_I64, i->n ? from : 0);
    }
    i->dim = i->n == d.n && step == 1 ? d
                                      : (Dim){.n = i->n,
                                              .from = origin_new(E, d.from, e->span, "this slice takes %lld of %lld",
                                                                 (long long)i->n, (long long)d.n)};
    return;
  }
  Expr *x = lo ? end_expr(E, lo, e->a->span) : ex_int(E->g, DT_I64, 0);
  if (x->kind == EX_CONST && x->num.i < 0) {
    if (d.n >= 0) x = ex_int(E->g, DT_I64, x->num.i + d.n);
  }
  Expr *y = hi ? end_expr(E, hi, e->b->span) : ex_int(E->g, DT_I64, d.n < 0 ? 0 : d.n);
  if (y->kind == EX_CONST && y->num.i < 0 && d.n >= 0) y = ex_int(E->g, DT_I64, y->num.i + d.n);
  Expr *len = ex_op2(E->g, OP_SUB, y, x);
  if (len->kind != EX_CONST || step < 0) {
    Diag *g = diag_add(E->d, T_STATIC, e->span, "the length of a slice must be known before anything runs");
    diag_help(E->d, g,
              "x[i:i+8] has a static length; a sum over part of an axis is a guarded one: sum(x[k] for k if k < n)");
    elab_fail(E, g);
  }
  i->lo = x, i->n = slice_count(0, len->num.i, step);
  i->dim = (Dim){.n = i->n, .from = origin_new(E, NULL, e->span, "this slice takes %lld", (long long)i->n)};
}

static void add_range(Subs *s, Value *v, Span at) {
  Elab *E = s->E;
  Walk w = walk_open(E, v, at);
  if (w.n < 0) diag_fail(E->d, T_STATIC, at, "the length of a range used as a subscript must be static");
  Item *i = add_item(s, ITEM_SLICE, at);
  i->lo = w.lo, i->n = w.n, i->step = 1, i->dim = w.dim;
}

static void add_value(Subs *s, Value *v, Span at) {
  Elab *E = s->E;
  int64_t k;
  if (v_is_static_int(v, &k)) {
    add_static(s, k, at);
    return;
  }
  switch (v->kind) {
  case V_NONE:
    add_item(s, ITEM_NEW, at);
    return;
  case V_RANGE:
    add_range(s, v, at);
    return;
  case V_TENSOR:
    if (v->t.dtype == DT_BOOL) {
      Diag *g = diag_add(E->d, v->t.rank ? X_MASK : T_TYPE, at,
                         "a subscript of bools selects a number of elements that is not static");
      diag_help(E->d, g, "where(c, a, b) keeps the shape; sum(x[i] for i if c[i]) reduces what is selected");
      elab_fail(E, g);
    }
    if (!dt_is_int(v->t.dtype)) {
      Diag *g = diag_add(E->d, T_TYPE, at, "a subscript is an integer, not %s", v_type_text(E, v));
      diag_help(E->d, g, "i64(...) converts, towards zero");
      elab_fail(E, g);
    }
    if (v->t.rank == 0)
      add_at(s, ex_cast(E->g, DT_I64, v->t.e), at);
    else
      add_item(s, ITEM_GATHER, at)->data = v;
    return;
  default:
    diag_fail(E->d, T_TYPE, at, "a subscript is an integer, a slice, a range, none or a tensor of integers, not %s",
              v_type_text(E, v));
  }
}

/* The `...` of an enclosing comprehension, if this text is inside one. */
static Dots *dots_here(Elab *E, const Env *env) {
  const Env *b = env_find(env, name_of(E->names, "...", 3));
  return b ? b->v->ext : NULL;
}

static void read_subs(Subs *s, const Env *env, Ast *e) {
  Elab *E = s->E;
  int used = 0, dots = -1, rank = s->x->rank;
  Value **val = arena_array(E->a, Value *, e->nkid);
  for (int k = 0; k < e->nkid; k++) {
    Ast *sub = e->kid[k];
    if (sub->kind == AST_ELLIPSIS) {
      if (dots >= 0) diag_fail(E->d, T_TYPE, sub->span, "`...` stands once in a subscript");
      dots = k;
      continue;
    }
    val[k] = sub->kind == AST_SLICE ? NULL : elab_expr(E, env, sub);
    if (!val[k] || val[k]->kind != V_NONE) used++;
  }
  Dots *d = dots >= 0 ? dots_here(E, env) : NULL;
  if (d && d->n < 0 && rank >= used) d->n = rank - used;
  if (used > rank || (d && used + d->n != rank)) {
    Diag *g;
    if (d)
      g = diag_add(E->d, S_RANK, e->at, "`%s` has %d axes; `...` is %d of them here, and %d are subscripted",
                   expr_text(E, e->a), rank, d->n, used);
    else
      g = diag_add(E->d, S_RANK, e->at, "`%s` is %s: %d subscripts for %d %s", expr_text(E, e->a),
                   v_type_text(E, &(Value){.kind = V_TENSOR, .t = *s->x}), used, rank, rank == 1 ? "axis" : "axes");
    for (int k = 0; k < rank; k++)
      if (s->x->dim[k].from) {
        note_origin(E, g, s->x->dim[k]);
        break;
      }
    elab_fail(E, g);
  }
  for (int k = 0; k < e->nkid; k++) {
    Ast *sub = e->kid[k];
    if (k == dots) {
      if (d)
        for (int j = 0; j < d->n; j++) add_at(s, d->ix[j]->var, sub->span);
      else
        for (int j = 0; j < rank - used; j++) add_full(s, sub->span);
    } else if (sub->kind == AST_SLICE)
      add_slice(s, env, sub);
    else
      add_value(s, val[k], sub->span);
  }
  while (s->axis < rank) add_full(s, e->at);
}

/* Subscripts broadcast as in NumPy: both of two may stretch, since what they select is plain to see. */
static int join_shapes(Elab *E, int n, Value *const *v, const Span *at, Span whole, Dim *out) {
  int rank = 0;
  for (int k = 0; k < n; k++) rank = v[k]->t.rank > rank ? v[k]->t.rank : rank;
  for (int a = 0; a < rank; a++) out[a] = dim_of(1);
  for (int k = 0; k < n; k++)
    for (int b = 0; b < v[k]->t.rank; b++) {
      Dim d = v[k]->t.dim[b], *o = &out[b + rank - v[k]->t.rank];
      if (o->n == 1 || (o->n < 0 && d.n > 1))
        *o = d;
      else if (d.n != 1 && d.n != o->n && d.n >= 0 && o->n >= 0) {
        Diag *g = diag_add(E->d, S_MISMATCH, whole, "these subscripts do not go together: sizes %lld and %lld",
                           (long long)o->n, (long long)d.n);
        for (int j = 0; j < n; j++) diag_note(E->d, g, at[j], "this is %s", v_type_text(E, v[j]));
        elab_fail(E, g);
      }
    }
  return rank;
}

/* Where NumPy puts the axes of the tensors that subscript: in the first one's place when they are adjacent (scalars
 * count when there is a tensor), else in front. */
static int gather_place(const Subs *s) {
  int first = -1, last = -1, runs = 0;
  for (int k = 0; k < s->n; k++) {
    bool adv = s->at[k].kind == ITEM_GATHER || s->at[k].kind == ITEM_AT;
    if (!adv) continue;
    if (first < 0) first = k;
    if (last != k - 1 || runs == 0) runs++;
    last = k;
  }
  return runs > 1 ? -1 : first;
}

Place place_of(Elab *E, const Env *env, const TensorV *x, Ast *index) {
  Subs s = {.E = E, .x = x, .base = index->a};
  read_subs(&s, env, index);
  Place p = {.naxis = x->rank};
  Value *data[TG_MAX_RANK];
  Span data_at[TG_MAX_RANK];
  Dim shape[TG_MAX_RANK];
  int ndata = 0, rank = 0;
  for (int k = 0; k < s.n; k++)
    if (s.at[k].kind == ITEM_GATHER) data[ndata] = s.at[k].data, data_at[ndata++] = s.at[k].at;
  if (ndata) rank = join_shapes(E, ndata, data, data_at, index->at, shape);
  int where = ndata ? gather_place(&s) : -2, first = 0; /* -1: in front */
  int64_t count = 0;
  for (int k = 0; k < s.n; k++) count += s.at[k].kind == ITEM_SLICE || s.at[k].kind == ITEM_NEW;
  if (count + rank > TG_MAX_RANK)
    diag_fail(E->d, S_RANK, index->at, "the result would have more than %d axes", TG_MAX_RANK);
  if (where == -1) {
    first = 0, p.rank = rank;
    memcpy(p.dim, shape, sizeof *shape * (size_t)rank);
  }
  for (int k = 0; k < s.n; k++) {
    Item *i = &s.at[k];
    if (k == where) {
      first = p.rank;
      memcpy(p.dim + p.rank, shape, sizeof *shape * (size_t)rank);
      p.rank += rank;
    }
    if (i->kind == ITEM_NEW) p.dim[p.rank++] = dim_of(1);
    if (i->kind == ITEM_SLICE) {
      Expr *it = ex_iter(E->g, p.rank), *terms[2] = {i->lo, it};
      int64_t coef[2] = {1, i->step};
      p.idx[i->axis] = ex_lin(E->g, 0, 2, coef, terms);
      p.dim[p.rank++] = i->dim;
    }
    if (i->kind == ITEM_AT) p.idx[i->axis] = i->lo;
  }
  Expr *by[TG_MAX_RANK];
  for (int k = 0; k < rank; k++) by[k] = ex_iter(E->g, first + k);
  for (int k = 0; k < s.n; k++) {
    if (s.at[k].kind != ITEM_GATHER) continue;
    Expr *e =
        ex_cast(E->g, DT_I64,
                tv_at(E, s.at[k].data, s.at[k].data->t.weak ? DT_I64 : s.at[k].data->t.dtype, rank, shape, s.at[k].at));
    p.idx[s.at[k].axis] = ex_subst_iters(E->g, e, rank, by);
  }
  Interval own[TG_MAX_RANK];
  for (int k = 0; k < p.rank; k++) own[k] = p.dim[k].n < 0 ? (Interval){0, 0} : (Interval){0, p.dim[k].n - 1};
  for (int k = 0; k < s.n; k++) {
    Item *i = &s.at[k];
    if (i->kind == ITEM_NEW || i->inside) continue;
    Proof f = prove_inside(E, p.idx[i->axis], x->dim[i->axis], p.rank, own, i->at, index->a, i->axis,
                           is_computed(index, i->at));
    p.mask = ex_and(E->g, p.mask, f.mask);
    p.axis_checked[i->axis] = f.checked, p.checked |= f.checked;
  }
  return p;
}

/* ---- reading a place --------------------------------------------------------------------------------------------- */

/* May the back end's check of node axes stand for a check of own axis a? Then some subscript is a itself, over the same
 * size, and nothing else holds a. */
static bool axis_is_bare(const TensorV *x, int a) {
  Expr *e = x->e;
  if (e->kind != EX_LOAD || (e->mask && ex_uses_iter(e->mask, a))) return false;
  int hits = 0;
  for (int k = 0; k < e->n; k++) {
    if (!ex_uses_iter(e->arg[k], a)) continue;
    if (e->arg[k]->kind != EX_ITER || e->node->dim[k] != x->dim[a].n) return false;
    hits++;
  }
  return hits == 1;
}

Value *place_read(Elab *E, Value *v, const Place *p, Span at) {
  for (int a = 0; a < p->naxis && !E->trial; a++) {
    if (!p->axis_checked[a] || axis_is_bare(&v->t, a)) continue;
    /* the run-time check is against a node's axes: give the view a node of its own */
    Index *free[TG_MAX_RANK];
    int nfree;
    Node *n = tv_node(E, v, &nfree, free);
    v = load_over(E, n, nfree, free, v->t.dim);
    break;
  }
  const TensorV *x = &v->t;
  Expr *e = x->rank ? ex_subst_iters(E->g, x->e, x->rank, p->idx) : x->e;
  if (e->kind == EX_LOAD && (p->mask || p->checked)) {
    e = ex_under(E->g, e, p->mask);
    if (e->kind == EX_LOAD)
      e = ex_load(E->g, e->node, e->n, e->arg, e->mask, e->checked || p->checked, user_span(E, at));
  }
  Value *r = v_tensor(E, x->dtype, p->rank, p->dim, e);
  r->t.weak = x->weak;
  return r;
}

Value *index_axis(Elab *E, Value *x, int axis, Expr *at, Span span) {
  Place p = {.naxis = x->t.rank};
  for (int a = 0; a < x->t.rank; a++) {
    if (a == axis) {
      p.idx[a] = at;
      continue;
    }
    p.dim[p.rank] = x->t.dim[a], p.idx[a] = ex_iter(E->g, p.rank++);
  }
  Proof f = prove_inside(E, at, x->t.dim[axis], 0, NULL, span, NULL, axis, false);
  p.mask = f.mask, p.axis_checked[axis] = f.checked, p.checked = f.checked;
  return place_read(E, x, &p, span);
}

static Value *index_tuple(Elab *E, const Env *env, Value *v, Ast *e) {
  if (e->nkid != 1) diag_fail(E->d, S_RANK, e->at, "a tuple has one axis, but there are %d subscripts", e->nkid);
  Ast *sub = e->kid[0];
  int64_t n = v->agg.n;
  if (sub->kind == AST_SLICE) {
    TensorV x = {.dtype = DT_I64, .rank = 1, .dim = {dim_of(n)}};
    Subs s = {.E = E, .x = &x, .base = e->a};
    add_slice(&s, env, sub);
    if (s.at[0].lo->kind != EX_CONST) diag_fail(E->d, T_STATIC, sub->span, "a slice of a tuple must be static");
    Value **at = arena_array(E->a, Value *, s.at[0].n);
    for (int64_t k = 0; k < s.at[0].n; k++) at[k] = v->agg.at[s.at[0].lo->num.i + k * s.at[0].step];
    return v_tuple(E, (int)s.at[0].n, at);
  }
  int64_t i = v_static_int(E, elab_expr(E, env, sub), sub->span, "a subscript of a tuple"), k = i < 0 ? i + n : i;
  if (k < 0 || k >= n)
    diag_fail(E->d, X_BOUNDS, sub->span, "%lld is outside a tuple of %lld", (long long)i, (long long)n);
  return v->agg.at[k];
}

Value *elab_index(Elab *E, const Env *env, Ast *e) {
  Value *v = elab_expr(E, env, e->a);
  if (v->kind == V_TUPLE) return index_tuple(E, env, v, e);
  if (v->kind != V_TENSOR && v->kind != V_RANGE) {
    Diag *g = diag_add(E->d, T_TYPE, e->at, "%s can't be subscripted", v_type_text(E, v));
    if (v->kind == V_RECORD) diag_help(E->d, g, "a field is r.name");
    elab_fail(E, g);
  }
  if (v->kind == V_RANGE) {
    TensorV *t = v_as_tensor(E, v, e->a->span, "what is subscripted");
    v = v_tensor(E, t->dtype, t->rank, t->dim, t->e);
  }
  Place p = place_of(E, env, &v->t, e);
  return place_read(E, v, &p, e->span);
}

/* ---- changed copies ---------------------------------------------------------------------------------------------- */

Value *elab_at_update(Elab *E, const Env *env, Ast *call) {
  Ast *member = call->a, *index = member->a, *at = index->a;
  bool add = strcmp(member->name, "add") == 0;
  if (!add && strcmp(member->name, "set") != 0)
    diag_fail(E->d, N_FIELD, member->at, "x.at[...] has .set(v) and .add(v), not .%s", member->name);
  if (call->nkid != 1 || call->ival || call->kid[0]->kind != AST_ARG || call->kid[0]->name)
    diag_fail(E->d, T_ARGS, call->at, "x.at[...].%s takes one value", member->name);
  Value *x = tv_harden(E, elab_expr(E, env, at->a), at->a->span), *v = elab_expr(E, env, call->kid[0]->a);
  Span vs = call->kid[0]->span;
  if (x->kind != V_TENSOR) diag_fail(E->d, T_TYPE, at->span, "x.at[...] changes a tensor, not %s", v_type_text(E, x));
  Ast whole = *index;
  whole.a = at->a;
  Place p = place_of(E, env, &x->t, &whole);
  /* the value takes x's dtype; the shape of the place stretches it */
  Num num;
  if (!v_num(v, &num)) {
    TensorV *t = v_as_tensor(E, v, vs, "the value");
    DType joined;
    if (!t->weak && t->dtype != x->t.dtype && (!dt_join(t->dtype, x->t.dtype, &joined) || joined != x->t.dtype)) {
      Diag *g = diag_add(E->d, T_DTYPE, vs, "%s does not go into %s", v_type_text(E, v), v_type_text(E, x));
      diag_help(E->d, g, "%s(...) converts the value", dt_name(x->t.dtype));
      elab_fail(E, g);
    }
    bool ok = t->rank <= p.rank;
    for (int k = 0; k < t->rank && ok; k++) {
      int64_t a = t->dim[k].n, b = p.dim[k + p.rank - t->rank].n;
      ok = a == 1 || a == b || a < 0 || b < 0;
    }
    if (!ok) {
      Diag *g = diag_add(E->d, S_MISMATCH, vs, "the place has the shape %s, the value is %s",
                         shape_text(E, p.rank, p.dim), v_type_text(E, v));
      for (int k = 0; k < t->rank; k++) note_origin(E, g, t->dim[k]);
      elab_fail(E, g);
    }
  }
  Graph *g = E->g;
  g->span = user_span(E, call->span);
  Expr *body = tv_at(E, v, x->t.dtype, p.rank, p.dim, vs), *guard = p.mask;
  Index *free[TG_MAX_RANK];
  int nfree = expr_free_union(E, x->t.e, 0, free);
  nfree = expr_free_union(E, body, nfree, free), nfree = expr_free_union(E, guard, nfree, free);
  for (int a = 0; a < p.naxis; a++) nfree = expr_free_union(E, p.idx[a], nfree, free);
  int rank = nfree + x->t.rank, nsrc = nfree + p.rank;
  if (rank > TG_MAX_RANK || nsrc > TG_MAX_RANK)
    diag_fail(E->d, S_RANK, call->span, "more than %d indices and axes meet in one value", TG_MAX_RANK);
  Node *base = node_over(E, x, nfree, free);
  int64_t dim[TG_MAX_RANK], extent[TG_MAX_RANK];
  Expr *idx[TG_MAX_RANK];
  for (int k = 0; k < rank; k++) dim[k] = base->dim[k];
  for (int k = 0; k < nfree; k++) extent[k] = free[k]->extent < 0 ? 1 : free[k]->extent, idx[k] = ex_iter(g, k);
  for (int k = 0; k < p.rank; k++) extent[nfree + k] = p.dim[k].n < 0 ? 1 : p.dim[k].n;
  for (int a = 0; a < p.naxis; a++) idx[nfree + a] = expr_over(E, p.idx[a], nfree, free);
  Node *n = nd_scatter(g, x->t.dtype, rank, dim, base, nsrc, extent, idx, expr_over(E, body, nfree, free),
                       expr_over(E, guard, nfree, free), add ? SC_ADD : SC_SET, p.checked);
  return load_over(E, n, nfree, free, x->t.dim);
}
