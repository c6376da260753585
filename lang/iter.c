/* What loops and comprehensions walk over, and the moves between values over free indices and nodes over axes. */
#include "lang/model.h"
#include "lang/space.h"
#include <string.h>

Value *v_zip(Elab *E, int n, Value **at) {
  Value *v = v_tuple(E, n, at);
  v->kind = V_ZIP;
  return v;
}

/* ---- walks ------------------------------------------------------------------------------------------------------ */

static Expr *int_expr(Elab *E, Value *v, Span at) {
  int64_t i;
  if (v_is_static_int(v, &i)) return ex_int(E->g, DT_I64, i);
  if (v->kind == V_TENSOR && v->t.rank == 0 && dt_is_int(v->t.dtype)) return ex_cast(E->g, DT_I64, v->t.e);
  diag_fail(E->d, T_TYPE, at, "the ends of a range are integers, not %s", v_type_text(E, v));
}

static Walk walk_range(Elab *E, Value *v, Span at) {
  Walk w = {.kind = WALK_RANGE, .v = v, .lo = int_expr(E, v->range.lo, at)};
  Expr *hi = int_expr(E, v->range.hi, at), *n = ex_op2(E->g, OP_SUB, hi, w.lo);
  w.hi = hi, w.n = -1;
  int64_t lo, h;
  if (v_is_static_int(v->range.lo, &lo) && v_is_static_int(v->range.hi, &h)) {
    if (__builtin_sub_overflow(h, lo, &w.n)) diag_fail(E->d, V_OVERFLOW, at, "this range is too long");
    if (w.n < 0) w.n = 0;
    w.dim.from = v->range.hi->num.from;
  } else if (n->kind == EX_CONST)
    w.n = n->num.i < 0 ? 0 : n->num.i;
  w.dim.n = w.n;
  if (!w.dim.from && w.n >= 0) w.dim.from = origin_new(E, NULL, at, "%lld steps in this range", (long long)w.n);
  return w;
}

static bool has_tuple(const Value *z) {
  for (int k = 0; k < z->agg.n; k++)
    if (z->agg.at[k]->kind == V_TUPLE || (z->agg.at[k]->kind == V_ZIP && has_tuple(z->agg.at[k]))) return true;
  return false;
}

Walk walk_open(Elab *E, Value *v, Span at) {
  Walk w = {.v = v};
  switch (v->kind) {
  case V_RANGE:
    return walk_range(E, v, at);
  case V_TUPLE:
    w.kind = WALK_UNROLL, w.n = v->agg.n, w.dim.n = w.n;
    return w;
  case V_TENSOR:
    if (v->t.rank == 0)
      diag_fail(E->d, T_TYPE, at,
                "`in` walks over a range, a tensor's rows or a tuple, not over the scalar %s; 0..n is a range",
                v_type_text(E, v));
    w.kind = WALK_ROWS, w.n = v->t.dim[0].n, w.dim = v->t.dim[0];
    return w;
  case V_MODEL:
    if (!v->model->lead) {
      Diag *g = diag_add(E->d, T_TYPE, at, "`in` walks over a stack of models, not over %s", v_type_text(E, v));
      diag_help(E->d, g, "[M(...) for i in 0..n] is a stack");
      elab_fail(E, g);
    }
    w.kind = WALK_ROWS, w.n = v->model->dim[0].n, w.dim = v->model->dim[0];
    return w;
  case V_ZIP: {
    w.kind = has_tuple(v) ? WALK_UNROLL : WALK_ZIP;
    for (int k = 0; k < v->agg.n; k++) {
      Walk part = walk_open(E, v->agg.at[k], at);
      if (part.kind == WALK_RANGE && part.n < 0 && !E->trial)
        diag_fail(E->d, T_STATIC, at, "the length of a range in zip must be static");
      if (k == 0)
        w.n = part.n, w.dim = part.dim;
      else if (part.n >= 0 && w.n >= 0 && part.n != w.n) {
        Diag *g = diag_add(E->d, S_MISMATCH, at,
                           "zip walks over things of one length: the first has %lld, number %d has %lld",
                           (long long)w.n, k + 1, (long long)part.n);
        note_origin(E, g, w.dim);
        note_origin(E, g, part.dim);
        elab_fail(E, g);
      } else if (w.n < 0)
        w.n = part.n, w.dim = part.dim;
    }
    return w;
  }
  case V_NUM:
    if (!v->num.is_float) {
      Diag *g = diag_add(E->d, T_TYPE, at, "`in` walks over a range, a tensor's rows or a tuple, not over a number");
      diag_help(E->d, g, "0..%lld is the range of that length", (long long)v->num.i);
      elab_fail(E, g);
    } /* fall through */
  default:
    diag_fail(E->d, T_TYPE, at, "`in` walks over a range, a tensor's rows or a tuple, not over %s", v_type_text(E, v));
  }
}

Value *next_walk(Elab *E, const Walk *w, Expr *k, bool at_once) {
  switch (w->kind) {
  case WALK_RANGE:
    return v_scalar(E, ex_op2(E->g, OP_ADD, k, w->lo));
  case WALK_ROWS:
    if (w->v->kind == V_MODEL) {
      Value *row = model_row(E, w->v, k);
      next_rows_of(E, w->v, row, at_once ? k : NULL);
      return row;
    }
    return view_index(E, w->v, 0, k);
  case WALK_ZIP: {
    Value **at = arena_array(E->a, Value *, w->v->agg.n);
    for (int i = 0; i < w->v->agg.n; i++) {
      Walk part = walk_open(E, w->v->agg.at[i], E->g->span);
      at[i] = next_walk(E, &part, k, at_once);
    }
    return v_tuple(E, w->v->agg.n, at);
  }
  default:
    bug("a step of an unrolled walk");
  }
}

Value *walk_at(Elab *E, const Walk *w, Expr *k) { return next_walk(E, w, k, false); }

Value *walk_item(Elab *E, const Walk *w, int64_t k) {
  if (w->kind == WALK_UNROLL && w->v->kind == V_TUPLE) return w->v->agg.at[k];
  if (w->kind == WALK_UNROLL) {
    Value **at = arena_array(E->a, Value *, w->v->agg.n);
    for (int i = 0; i < w->v->agg.n; i++) {
      Walk part = walk_open(E, w->v->agg.at[i], E->g->span);
      at[i] = walk_item(E, &part, k);
    }
    return v_tuple(E, w->v->agg.n, at);
  }
  int64_t lo;
  if (w->kind == WALK_RANGE && v_is_static_int(w->v->range.lo, &lo)) return v_int(E, lo + k, NULL);
  return next_walk(E, w, ex_int(E->g, DT_I64, k), true);
}

/* ---- free indices to axes and back ------------------------------------------------------------------------------- */

typedef struct Shift {
  Graph *g;
  int64_t uid;
} Shift;
static Expr *shift_leaf(void *ctx, Expr *e) {
  Shift *s = ctx;
  if (e->kind == EX_ITER) return ex_iter(s->g, (int)e->num.i + 1);
  return e->kind == EX_VAR && e->num.i == s->uid ? ex_iter(s->g, 0) : NULL;
}
Expr *abstract_expr(Elab *E, Expr *e, const Index *i) {
  if (!e) return NULL;
  Shift s = {E->g, i->uid};
  return ex_map(E->g, e, shift_leaf, &s);
}

Value *abstract_index(Elab *E, Value *v, const Index *i, Span at) {
  Dim lead = {.n = i->extent, .from = i->from, .sym = i->sym};
  Num num;
  if (v_num(v, &num)) {
    DType t = num.is_bool ? DT_BOOL : num.is_float ? DT_F64 : DT_I64;
    Value *r = v_tensor(E, t, 1, &lead,
                        num.is_bool    ? ex_bool(E->g, num.i != 0)
                        : num.is_float ? ex_float(E->g, t, num.f)
                                       : ex_int(E->g, t, num.i));
    r->t.weak = !num.is_bool;
    return r;
  }
  switch (v->kind) {
  case V_TUPLE:
  case V_RECORD: {
    Value **kid = arena_array(E->a, Value *, v->agg.n);
    for (int k = 0; k < v->agg.n; k++) kid[k] = abstract_index(E, v->agg.at[k], i, at);
    return v->kind == V_TUPLE ? v_tuple(E, v->agg.n, kid) : v_record(E, v->agg.n, v->agg.key, kid);
  }
  case V_MODEL:
    return model_abstract(E, v, i, at);
  case V_RANGE: {
    TensorV *t = v_as_tensor(E, v, at, "the body of a comprehension");
    return abstract_index(E, v_tensor(E, t->dtype, t->rank, t->dim, t->e), i, at);
  }
  case V_TENSOR: {
    Dim dim[TG_MAX_RANK + 1];
    if (v->t.rank == TG_MAX_RANK) diag_fail(E->d, S_RANK, at, "more than %d axes", TG_MAX_RANK);
    dim[0] = lead;
    memcpy(dim + 1, v->t.dim, sizeof *dim * (size_t)v->t.rank);
    Value *r = v_tensor(E, v->t.dtype, v->t.rank + 1, dim, abstract_expr(E, v->t.e, i));
    r->t.weak = v->t.weak;
    return r;
  }
  default:
    diag_fail(E->d, T_TYPE, at, "a comprehension builds tensors; its body here is %s", v_type_text(E, v));
  }
}

typedef struct Union {
  Elab *E;
  int n;
  Index **set;
  Index *over; /* one too many: reported after the walk, which must not be left */
} Union;
static int depth_of(const Index *i) {
  int n = 0;
  for (; i->outer; i = i->outer) n++;
  return n;
}
static void union_var(void *ctx, Expr *e) {
  Union *u = ctx;
  if (e->kind != EX_VAR) return;
  for (int k = 0; k < u->n; k++)
    if (u->set[k]->uid == e->num.i) return;
  Index *i = u->E->index;
  while (i && i->uid != e->num.i) i = i->outer;
  if (!i) bug("index %lld escaped from its comprehension", (long long)e->num.i);
  if (u->n == TG_MAX_RANK) {
    u->over = i;
    return;
  }
  int at = u->n++;
  for (; at > 0 && depth_of(u->set[at - 1]) > depth_of(i); at--) u->set[at] = u->set[at - 1];
  u->set[at] = i;
}
int expr_free_union(Elab *E, Expr *e, int n, Index **set) {
  if (!e || !e->nvar) return n;
  Union u = {E, n, set, NULL};
  ex_visit(e, union_var, &u);
  if (u.over) diag_fail(E->d, S_RANK, u.over->span, "more than %d indices meet in one value", TG_MAX_RANK);
  return u.n;
}
int free_union(Elab *E, Value *v, int n, Index **set) {
  Value **leaf;
  int m = v_leaves(E, v, &leaf);
  for (int k = 0; k < m; k++)
    if (leaf[k]->kind == V_TENSOR) n = expr_free_union(E, leaf[k]->t.e, n, set);
  return n;
}

typedef struct Over {
  Graph *g;
  int n;
  Index *const *idx;
} Over;
static Expr *over_leaf(void *ctx, Expr *e) {
  Over *o = ctx;
  if (e->kind == EX_ITER) return ex_iter(o->g, (int)e->num.i + o->n);
  if (e->kind != EX_VAR) return NULL;
  for (int k = 0; k < o->n; k++)
    if (o->idx[k]->uid == e->num.i) return ex_iter(o->g, k);
  bug("index %lld is not among the axes", (long long)e->num.i);
}
Expr *expr_over(Elab *E, Expr *e, int n, Index *const *idx) {
  if (!n || !e) return e;
  Over o = {E->g, n, idx};
  return ex_map(E->g, e, over_leaf, &o);
}
Node *node_over(Elab *E, Value *v, int n, Index *const *idx) {
  v = tv_harden(E, v, E->g->span);
  if (v->kind != V_TENSOR) bug("node of %s", value_kind_text[v->kind]);
  int rank = n + v->t.rank;
  if (rank > TG_MAX_RANK)
    diag_fail(E->d, S_RANK, E->g->span, "%d indices and axes meet in one value; %d is the most", rank, TG_MAX_RANK);
  Dim dim[TG_MAX_RANK];
  int64_t extent[TG_MAX_RANK];
  for (int k = 0; k < n; k++) dim[k] = dim_of(idx[k]->extent);
  memcpy(dim + n, v->t.dim, sizeof *dim * (size_t)v->t.rank);
  tv_check_size(E, v->t.dtype, rank, dim, E->g->span);
  for (int k = 0; k < rank; k++) extent[k] = dim[k].n < 0 ? 1 : dim[k].n;
  Expr *e = expr_over(E, v->t.e, n, idx);
  return rank ? nd_comp(E->g, rank, 0, extent, RED_NONE, e, NULL) : nd_scalar(E->g, e);
}

Value *load_over(Elab *E, Node *node, int n, Index *const *idx, const Dim *dim) {
  Expr *at[TG_MAX_RANK];
  for (int k = 0; k < n; k++) at[k] = idx[k]->var;
  for (int k = n; k < node->rank; k++) at[k] = ex_iter(E->g, k - n);
  return v_tensor(E, (DType)node->dtype, node->rank - n, dim,
                  ex_load(E->g, node, node->rank, at, NULL, false, E->g->span));
}

/* ---- structure --------------------------------------------------------------------------------------------------- */

static bool is_number(const Value *v) {
  return v->kind == V_NUM || v->kind == V_BOOL || v->kind == V_TENSOR || v->kind == V_RANGE;
}

bool same_structure(const Value *a, const Value *b) {
  if (is_number(a) || is_number(b)) return is_number(a) && is_number(b);
  if (a->kind != b->kind) return false;
  if (a->kind == V_MODEL) return model_same_structure(a->model, b->model);
  if (a->kind != V_TUPLE && a->kind != V_RECORD && a->kind != V_ZIP) return value_same(a, b);
  if (a->agg.n != b->agg.n) return false;
  for (int k = 0; k < a->agg.n; k++) {
    if (a->kind == V_RECORD && a->agg.key[k] != b->agg.key[k]) return false;
    if (!same_structure(a->agg.at[k], b->agg.at[k])) return false;
  }
  return true;
}

bool value_same(const Value *a, const Value *b) {
  if (a == b) return true;
  if (a->kind != b->kind) return false;
  switch (a->kind) {
  case V_NONE:
    return a->ext == b->ext;
  case V_NUM:
    return a->num.is_float == b->num.is_float && a->num.i == b->num.i &&
           (a->num.f == b->num.f || (a->num.f != a->num.f && b->num.f != b->num.f));
  case V_BOOL:
    return a->b == b->b;
  case V_STR:
    return a->str.narg == 0 && b->str.narg == 0 && a->str.n == b->str.n && memcmp(a->str.s, b->str.s, a->str.n) == 0;
  case V_FUN:
    return a->fun == b->fun;
  case V_DTYPE:
    return a->dtype == b->dtype;
  case V_MODULE:
    return a->module == b->module;
  case V_TENSOR:
    if (a->t.e != b->t.e || a->t.weak != b->t.weak || a->t.rank != b->t.rank) return false;
    for (int k = 0; k < a->t.rank; k++)
      if (a->t.dim[k].n != b->t.dim[k].n) return false;
    return true;
  case V_RANGE:
    return value_same(a->range.lo, b->range.lo) && value_same(a->range.hi, b->range.hi);
  case V_TUPLE:
  case V_RECORD:
  case V_ZIP:
    if (a->agg.n != b->agg.n) return false;
    for (int k = 0; k < a->agg.n; k++)
      if ((a->kind == V_RECORD && a->agg.key[k] != b->agg.key[k]) || !value_same(a->agg.at[k], b->agg.at[k]))
        return false;
    return true;
  default:
    return a->ext == b->ext;
  }
}
