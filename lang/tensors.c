/* Tensors: dtype joins, casts, broadcasting, and sealing expressions into comprehensions. Element-wise operations on
 * any values are in elementwise.c. */
#include "lang/fold.h"
#include "lang/model.h"
#include <math.h>
#include <string.h>

/* ---- dtypes ---------------------------------------------------------------------------------------------------- */

DType tv_hard_dtype(const TensorV *t) { return t->weak && dt_is_float(t->dtype) ? DT_F32 : t->dtype; }

static bool int_fits(DType t, int64_t v) { return v >= dt_int_min(t) && v <= dt_int_max(t); }

/* Is the decimal v representable up to rounding (not overflowing to infinity)? */
static bool float_fits(Elab *E, DType t, double v) { return !isfinite(v) || isfinite(ex_float(E->g, t, v)->num.f); }

static _Noreturn void fail_literal(Elab *E, DType t, Num v, Span at) {
  if (v.is_float) diag_fail(E->d, T_LITERAL, at, "%s does not fit %s", num_text(E->a, v.f), dt_name(t));
  if (!dt_is_int(t)) diag_fail(E->d, T_LITERAL, at, "%lld does not fit %s", (long long)v.i, dt_name(t));
  diag_fail(E->d, T_LITERAL, at, "%lld does not fit %s (%lld to %lld)", (long long)v.i, dt_name(t),
            (long long)dt_int_min(t), (long long)dt_int_max(t));
}

/* A literal in dtype t. A decimal becomes an integer by truncation, which only an explicit conversion asks for. */
static Num lit_num(Elab *E, DType t, Num v, Span at) {
  if (dt_is_float(t)) {
    if (!float_fits(E, t, v.f)) fail_literal(E, t, v, at);
    return (Num){.is_float = true, .f = v.f};
  }
  if (t == DT_BOOL) return (Num){.is_bool = true, .i = v.is_float ? v.f != 0 : v.i != 0};
  if (v.is_float) {
    double w = trunc(v.f);
    if (!(w >= -0x1p63 && w < 0x1p63) || !int_fits(t, (int64_t)w)) fail_literal(E, t, v, at);
    return (Num){.i = (int64_t)w};
  }
  if (!int_fits(t, v.i)) fail_literal(E, t, v, at);
  return (Num){.i = v.i};
}

static Expr *lit_expr(Elab *E, DType t, Num v, Span at) {
  Num w = lit_num(E, t, v, at);
  if (dt_is_float(t)) return ex_float(E->g, t, w.f);
  return t == DT_BOOL ? ex_bool(E->g, w.i != 0) : ex_int(E->g, t, w.i);
}

/* The constant below a literal list in dtype t, each element as a literal. */
static Node *cast_const(Elab *E, const Node *c, DType t, Span at) {
  int64_t n = nd_size(c);
  DType from = (DType)c->dtype;
  char *data = arena_alloc(E->a, (size_t)(n ? n : 1) * (size_t)dt_bytes(t));
  for (int64_t i = 0; i < n; i++) {
    Num v = {.is_float = dt_is_float(from)};
    if (v.is_float)
      v.f = dt_get_f(from, c->data, i);
    else
      v.i = dt_get_i(from, c->data, i), v.f = (double)v.i;
    v = lit_num(E, t, v, at);
    if (dt_is_float(t))
      dt_put_f(t, data, i, v.f);
    else
      dt_put_i(t, data, i, v.i);
  }
  return nd_const(E->g, t, c->rank, c->dim, data);
}

static Expr *cast_expr(Elab *E, const TensorV *x, DType t, Span at) {
  const Node *c = weak_const(x);
  if (c && x->dtype != t)
    return ex_load(E->g, cast_const(E, c, t, at), x->e->n, x->e->arg, NULL, x->e->checked, x->e->span);
  if (x->weak && x->e->kind == EX_CONST) {
    Num v = {.is_float = dt_is_float(x->dtype)};
    if (v.is_float)
      v.f = x->e->num.f;
    else
      v.i = x->e->num.i, v.f = (double)v.i;
    return lit_expr(E, t, v, at);
  }
  return ex_cast(E->g, t, x->e);
}

typedef struct CastModel {
  DType t;
  Span at;
} CastModel;

/* Floats become t; counters and masks stay what they are. */
static Value *cast_leaf(Elab *E, void *ctx, Value *leaf, LeafKind kind) {
  const CastModel *c = ctx;
  return kind == LEAF_PARAM || dt_is_float(leaf->t.dtype) ? tv_cast(E, leaf, c->t, c->at) : leaf;
}

Value *tv_cast(Elab *E, Value *v, DType t, Span at) {
  Num num;
  if (v_num(v, &num)) return v_scalar(E, lit_expr(E, t, num, at));
  if (v->kind == V_TUPLE || v->kind == V_RECORD) {
    Value **kid = arena_array(E->a, Value *, v->agg.n);
    for (int k = 0; k < v->agg.n; k++) kid[k] = tv_cast(E, v->agg.at[k], t, at);
    return v->kind == V_TUPLE ? v_tuple(E, v->agg.n, kid) : v_record(E, v->agg.n, v->agg.key, kid);
  }
  if (v->kind == V_MODEL) {
    CastModel c = {t, at};
    LeafMap map = {.fn = cast_leaf, .ctx = &c};
    return model_map(E, v, &map);
  }
  if (v->kind != V_TENSOR && v->kind != V_RANGE)
    diag_fail(E->d, T_TYPE, at, "%s(...) converts numbers and tensors, not %s", dt_name(t), v_type_text(E, v));
  TensorV *x = v_as_tensor(E, v, at, dt_name(t));
  if (x->dtype == t && !x->weak) return v->kind == V_TENSOR ? v : v_tensor(E, t, x->rank, x->dim, x->e);
  return tv_seal(E, v_tensor(E, t, x->rank, x->dim, cast_expr(E, x, t, at)));
}

Value *tv_harden(Elab *E, Value *v, Span at) {
  Num num;
  if (v_num(v, &num)) return tv_cast(E, v, num.is_bool ? DT_BOOL : num.is_float ? DT_F32 : DT_I64, at);
  if (v->kind == V_TENSOR && v->t.weak) return tv_cast(E, v, tv_hard_dtype(&v->t), at);
  if (v->kind == V_RANGE) return tv_cast(E, v, DT_I64, at);
  return v;
}

static _Noreturn void fail_join(Elab *E, Value *a, Value *b, Span at_a, Span at_b) {
  Diag *g = diag_add(E->d, T_DTYPE, span_join(at_a, at_b), "%s and %s do not mix: two different float dtypes",
                     v_type_text(E, a), v_type_text(E, b));
  diag_note(E->d, g, at_a, "this is %s", v_type_text(E, a));
  diag_note(E->d, g, at_b, "this is %s", v_type_text(E, b));
  bool narrow_a = dt_bytes(a->t.dtype) > dt_bytes(b->t.dtype);
  DType to = narrow_a ? b->t.dtype : a->t.dtype;
  diag_help(E->d, g, "%s(...) around the %s operand converts it", dt_name(to), narrow_a ? "first" : "second");
  elab_fail(E, g);
}

DType tv_join(Elab *E, int n, Value *const *v, const Span *at, bool want_float) {
  bool any = false, weak_float = false, weak_int = false;
  DType t = DT_BOOL;
  int first = 0;
  for (int k = 0; k < n; k++) {
    Num num;
    if (v_num(v[k], &num) && !num.is_bool) {
      weak_float |= num.is_float, weak_int |= !num.is_float;
      continue;
    }
    DType u = v[k]->kind == V_BOOL ? DT_BOOL : v[k]->kind == V_RANGE ? DT_I64 : v[k]->t.dtype;
    if (v[k]->kind == V_TENSOR && v[k]->t.weak) {
      weak_float |= dt_is_float(u), weak_int |= !dt_is_float(u);
      continue;
    }
    if (!any) {
      any = true, t = u, first = k;
      continue;
    }
    DType joined;
    if (!dt_join(t, u, &joined)) fail_join(E, v[first], v[k], at[first], at[k]);
    if (joined != t) first = k;
    t = joined;
  }
  if (weak_float && !dt_is_float(t)) t = DT_F32;
  if (weak_int && t == DT_BOOL) t = DT_I64;
  if (want_float && !dt_is_float(t)) t = DT_F32;
  return t;
}

/* ---- shapes ---------------------------------------------------------------------------------------------------- */

static bool shape_of(const Value *v, int *rank, const Dim **dim) {
  *rank = 0, *dim = NULL;
  if (v->kind == V_TENSOR) *rank = v->t.rank, *dim = v->t.dim;
  return *rank > 0;
}

/* Where a size comes from; when nobody knows, at least which operand has it. */
static void note_size(Elab *E, Diag *g, const Value *v, Dim d, Span at) {
  if (d.from)
    note_origin(E, g, d);
  else
    diag_note(E->d, g, at, "this is %s", v_type_text(E, v));
}

static const char *dim_text(Elab *E, Dim d) { return d.sym ? d.sym : arena_printf(E->a, "%lld", (long long)d.n); }

/* Would transposing operand k make the shapes equal? */
static bool transposed_fits(const TensorV *a, const TensorV *b) {
  if (a->rank != b->rank || a->rank < 2) return false;
  int r = a->rank;
  for (int k = 0; k < r; k++) {
    int from = k == r - 1 ? r - 2 : k == r - 2 ? r - 1 : k;
    if (a->dim[k].n != b->dim[from].n) return false;
  }
  return true;
}

static _Noreturn void fail_mismatch(Elab *E, Value *const *v, const Span *at, Span op, const char *opname, int a, int b,
                                    int axis_a, int axis_b) {
  const TensorV *x = &v[a]->t, *y = &v[b]->t;
  bool two = a == 0 && b == 1;
  const char *left = two ? " on the left" : "", *right = two ? " on the right" : "";
  Diag *g = diag_add(E->d, S_MISMATCH, op, "`%s` of %s and %s: axis %d is %s%s, axis %d is %s%s", opname,
                     shape_text(E, x->rank, x->dim), shape_text(E, y->rank, y->dim), axis_a,
                     dim_text(E, x->dim[axis_a]), left, axis_b, dim_text(E, y->dim[axis_b]), right);
  note_clash(E, g, x->dim[axis_a], y->dim[axis_b]);
  note_size(E, g, v[a], x->dim[axis_a], at[a]);
  note_size(E, g, v[b], y->dim[axis_b], at[b]);
  if (transposed_fits(x, y)) diag_help(E->d, g, "transpose one of them: .t swaps the last two axes");
  elab_fail(E, g);
}

/* The operand as written when it is a name, else a name that stands for it. */
static const char *operand_text(Elab *E, Span at, const char *other) {
  if (!at.file || at.hi - at.lo > 30) return other;
  char *s = arena_strndup(E->a, E->d->source.at[at.file - 1]->text + at.lo, at.hi - at.lo);
  for (const char *p = s; *p; p++)
    if (!(*p == '_' || *p == '.' || (*p >= '0' && *p <= '9') || ((*p | 32) >= 'a' && (*p | 32) <= 'z'))) return other;
  return s;
}

/* Subscripts of a stretched operand in the outer form over i, j. */
static const char *outer_sub(const TensorV *t) {
  if (t->rank == 1) return "j";
  return t->dim[0].n == 1 ? t->dim[1].n == 1 ? "0, 0" : "0, j" : "i, 0";
}

static _Noreturn void fail_stretch(Elab *E, int n, Value *const *v, const Span *at, Span op, const char *opname,
                                   int rank, const Dim *dim) {
  const TensorV *x = NULL, *y = NULL;
  for (int k = 0; k < n; k++)
    if (v[k]->kind == V_TENSOR && v[k]->t.rank) *(x ? &y : &x) = &v[k]->t;
  Diag *g = diag_add(E->d, S_BROADCAST, op, "`%s` of %s and %s would stretch both to %s", opname,
                     shape_text(E, x->rank, x->dim), shape_text(E, y->rank, y->dim), shape_text(E, rank, dim));
  for (int k = 0; k < n; k++)
    if (v[k]->kind == V_TENSOR && v[k]->t.rank) diag_note(E->d, g, at[k], "this is %s", v_type_text(E, v[k]));
  if (n == 2 && rank == 2)
    diag_help(E->d, g, "write the outer form: [%s[%s] %s %s[%s] for i, j]", operand_text(E, at[0], "a"), outer_sub(x),
              opname, operand_text(E, at[1], "b"), outer_sub(y));
  else
    diag_help(E->d, g, "write the outer form as a comprehension, as in [a[i] %s b[j] for i, j]", opname);
  elab_fail(E, g);
}

int tv_broadcast(Elab *E, int n, Value *const *v, const Span *at, Span op, const char *opname, Dim *out) {
  int rank = 0, who[TG_MAX_RANK];
  const Dim *dim;
  for (int k = 0; k < n; k++) {
    int r;
    if (shape_of(v[k], &r, &dim) && r > rank) rank = r;
  }
  for (int a = 0; a < rank; a++) out[a] = (Dim){.n = 1}, who[a] = -1;
  bool unknown = false;
  for (int k = 0; k < n; k++) {
    int r;
    if (!shape_of(v[k], &r, &dim)) continue;
    for (int b = 0; b < r; b++) {
      int a = b + rank - r;
      unknown |= dim[b].n < 0;
      if (dim[b].n == 1 && who[a] >= 0) continue;
      if (who[a] < 0 || out[a].n == 1 || (out[a].n < 0 && dim[b].n > 1))
        out[a] = dim[b], who[a] = k;
      else if (out[a].n != dim[b].n && out[a].n >= 0 && dim[b].n >= 0)
        fail_mismatch(E, v, at, op, opname, who[a], k, a - (rank - v[who[a]]->t.rank), b);
      else if (!out[a].from)
        out[a].from = dim[b].from;
    }
  }
  if (unknown || rank == 0) return rank;
  bool whole = false; /* does one operand have the result's shape? then nothing is stretched against another */
  for (int k = 0; k < n && !whole; k++) {
    int r;
    whole = shape_of(v[k], &r, &dim) && r == rank;
    for (int a = 0; a < rank && whole; a++) whole = dim[a].n == out[a].n;
  }
  if (!whole) fail_stretch(E, n, v, at, op, opname, rank, out);
  return rank;
}

void tv_check_size(Elab *E, DType t, int rank, const Dim *dim, Span at) {
  bool zero = false;
  int64_t d[TG_MAX_RANK];
  if (rank > TG_MAX_RANK)
    diag_fail(E->d, S_RANK, at, "this tensor would have %d axes; %d is the most", rank, TG_MAX_RANK);
  for (int k = 0; k < rank; k++) {
    if (dim[k].n == -1 && E->trial) return;
    if (dim[k].n < 0) {
      Diag *g = diag_add(E->d, S_NEGATIVE, at, "axis %d would have the size %lld", k, (long long)dim[k].n);
      note_origin(E, g, dim[k]);
      elab_fail(E, g);
    }
    zero |= dim[k].n == 0, d[k] = dim[k].n;
  }
  size_t bytes;
  if (!zero && !shape_bytes(t, rank, d, &bytes))
    diag_fail(E->d, S_OVERFLOW, at, "%s%s is too large: its size in bytes does not fit in 63 bits", dt_name(t),
              shape_text(E, rank, dim));
}

/* ---- as expressions over a result's axes ----------------------------------------------------------------------- */

Expr *tv_at(Elab *E, Value *v, DType t, int rank, const Dim *dim, Span at) {
  Num num;
  if (v_num(v, &num)) return lit_expr(E, t, num, at);
  TensorV *x = v_as_tensor(E, v, at, "an operand");
  Expr *e = x->weak ? cast_expr(E, x, t, at) : x->e;
  if (x->rank) {
    Expr *by[TG_MAX_RANK];
    for (int k = 0; k < x->rank; k++) {
      int a = k + rank - x->rank;
      if (a < 0) bug("operand of rank %d over %d axes", x->rank, rank);
      by[k] = x->dim[k].n == 1 && dim[a].n != 1 ? ex_int(E->g, DT_I64, 0) : ex_iter(E->g, a);
    }
    e = ex_subst_iters(E->g, e, x->rank, by);
  }
  return x->weak ? e : ex_cast(E->g, t, e);
}

/* ---- sealing --------------------------------------------------------------------------------------------------- */

typedef struct FreeVars {
  Elab *E;
  int n;
  Index *at[TG_MAX_RANK], *over; /* over: one too many */
} FreeVars;

static void collect_var(void *ctx, Expr *e) {
  FreeVars *f = ctx;
  if (e->kind != EX_VAR) return;
  for (int k = 0; k < f->n; k++)
    if (f->at[k]->uid == e->num.i) return;
  for (Index *i = f->E->index; i; i = i->outer) {
    if (i->uid != e->num.i) continue;
    if (f->n == TG_MAX_RANK)
      f->over = i; /* the walk must not be left: it owns memory */
    else
      f->at[f->n++] = i;
    return;
  }
  bug("index %lld escaped from its comprehension", (long long)e->num.i);
}

/* How deep an index is nested: the outermost has 0. */
static int depth_of(const Index *i) {
  int n = 0;
  for (; i->outer; i = i->outer) n++;
  return n;
}

/* The free indices of e and of guard (may be NULL), outermost first. */
static int free_vars(Elab *E, Expr *e, Expr *guard, Index **out) {
  FreeVars f = {.E = E};
  if (e->nvar) ex_visit(e, collect_var, &f);
  if (guard && guard->nvar) ex_visit(guard, collect_var, &f);
  if (f.over) diag_fail(E->d, S_RANK, f.over->span, "more than %d indices and axes meet in one value", TG_MAX_RANK);
  for (int k = 1; k < f.n; k++) /* insertion sort: a handful */
    for (int j = k; j > 0 && depth_of(f.at[j - 1]) > depth_of(f.at[j]); j--) {
      Index *t = f.at[j];
      f.at[j] = f.at[j - 1], f.at[j - 1] = t;
    }
  memcpy(out, f.at, sizeof *out * (size_t)f.n);
  return f.n;
}

typedef struct Bind {
  Graph *g;
  int nfree, rank;
  Index **free;
} Bind;

static Expr *bind_leaf(void *ctx, Expr *e) {
  Bind *b = ctx;
  if (e->kind == EX_ITER) return ex_iter(b->g, (int)e->num.i + b->nfree);
  if (e->kind != EX_VAR) return NULL;
  for (int k = 0; k < b->nfree; k++)
    if (b->free[k]->uid == e->num.i) return ex_iter(b->g, k);
  bug("index %lld is not free here", (long long)e->num.i);
}

/* While ranges are being found a size may be unknown; nothing made then is kept, so any size will do. */
static int64_t known(int64_t n) { return n < 0 ? 1 : n; }

/* comp{free..., out...; red...}; body and guard over (out, red) iterators and VARs. */
static Node *make_comp(Elab *E, int nfree, Index **free, int nout, const Dim *out, int nred, const int64_t *red,
                       Reduce op, Expr *body, Expr *guard) {
  int64_t extent[3 * TG_MAX_RANK];
  int n = 0;
  for (int k = 0; k < nfree; k++) extent[n++] = known(free[k]->extent);
  for (int k = 0; k < nout; k++) extent[n++] = known(out[k].n);
  for (int k = 0; k < nred; k++) extent[n++] = known(red[k]);
  Bind b = {E->g, nfree, nout + nred, free};
  if (nfree) {
    body = ex_map(E->g, body, bind_leaf, &b);
    if (guard) guard = ex_map(E->g, guard, bind_leaf, &b);
  }
  return nd_comp(E->g, nfree + nout, nred, extent, op, body, guard);
}

static Value *load_comp(Elab *E, Node *n, int nfree, Index **free, int rank, const Dim *dim) {
  Expr *idx[2 * TG_MAX_RANK];
  for (int k = 0; k < nfree; k++) idx[k] = free[k]->var;
  for (int k = 0; k < rank; k++) idx[nfree + k] = ex_iter(E->g, k);
  Expr *e = ex_load(E->g, n, nfree + rank, idx, NULL, false, E->g->span);
  return v_tensor(E, (DType)n->dtype, rank, dim, e);
}

static void check_axes(Elab *E, int n, Span at) {
  if (n > TG_MAX_RANK)
    diag_fail(E->d, S_RANK, at, "%d indices and axes meet in one value; %d is the most", n, TG_MAX_RANK);
}

/* Views and index arithmetic stay as they are. */
static bool is_plain(const Expr *e) {
  return e->kind == EX_LOAD || e->kind == EX_CONST || e->kind == EX_ITER || e->kind == EX_LIN || e->kind == EX_VAR;
}

Value *tv_seal(Elab *E, Value *v) {
  if (v->kind != V_TENSOR || v->t.rank == 0 || is_plain(v->t.e)) return v;
  Index *free[TG_MAX_RANK];
  int nfree = free_vars(E, v->t.e, NULL, free);
  check_axes(E, nfree + v->t.rank, E->g->span);
  tv_check_size(E, v->t.dtype, v->t.rank, v->t.dim, E->g->span);
  Node *n = make_comp(E, nfree, free, v->t.rank, v->t.dim, 0, NULL, RED_NONE, v->t.e, NULL);
  Value *r = load_comp(E, n, nfree, free, v->t.rank, v->t.dim);
  r->t.weak = v->t.weak;
  return r;
}

Node *tv_node(Elab *E, Value *v, int *nfree, Index **free) {
  v = tv_harden(E, v, E->g->span);
  if (v->kind != V_TENSOR) bug("node of %s", value_kind_text[v->kind]);
  *nfree = free_vars(E, v->t.e, NULL, free);
  check_axes(E, *nfree + v->t.rank, E->g->span);
  tv_check_size(E, v->t.dtype, v->t.rank, v->t.dim, E->g->span);
  if (*nfree == 0 && v->t.rank == 0) return nd_scalar(E->g, v->t.e);
  return make_comp(E, *nfree, free, v->t.rank, v->t.dim, 0, NULL, RED_NONE, v->t.e, NULL);
}

Node *tv_closed(Elab *E, Value *v) {
  Index *free[TG_MAX_RANK];
  int nfree;
  Node *n = tv_node(E, v, &nfree, free);
  if (nfree) bug("a closed value was expected");
  return n;
}

Value *tv_reduce(Elab *E, Reduce op, int nout, const Dim *out, int nred, const int64_t *red, Expr *e, Expr *guard,
                 DType t) {
  Index *free[TG_MAX_RANK];
  if (op != RED_ARGMAX && op != RED_ARGMIN) e = ex_cast(E->g, t, e);
  int nfree = free_vars(E, e, guard, free);
  check_axes(E, nfree + nout, E->g->span);
  check_axes(E, nout + nred, E->g->span);
  Node *n = make_comp(E, nfree, free, nout, out, nred, red, nred ? op : RED_NONE, e, guard);
  if (op == RED_SUM) n = nd_gathered(E->g, n);
  return load_comp(E, n, nfree, free, nout, out);
}
