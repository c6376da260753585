/* Reductions of leading axes: the common end of `sum(e for k)` and `sum(x, axis = 0)`.
 *
 * dtypes: integer and bool sums and products are i64; any and all are bool; positions are i64; means of integers are
 * f32, and means of f16 and bf16 are summed and divided in f32. */
#include "lang/model.h"
#include "lang/space.h"
#include <math.h>
#include <string.h>

bool reduce_by_name(Name n, Reduce *op) {
  static const struct {
    const char *name;
    Reduce op;
  } row[] = {{"sum", RED_SUM}, {"prod", RED_PROD}, {"max", RED_MAX},       {"min", RED_MIN},
             {"any", RED_ANY}, {"all", RED_ALL},   {"argmax", RED_ARGMAX}, {"argmin", RED_ARGMIN}};
  for (size_t k = 0; k < sizeof row / sizeof *row; k++)
    if (strcmp(n, row[k].name) == 0) {
      *op = row[k].op;
      return true;
    }
  return false;
}

/* The dtype in which a reduction works on elements of dtype t. max and min of bools are any and all. */
static DType work_dtype(Reduce *op, bool mean, DType t) {
  if (mean) return dt_is_float(t) && dt_bytes(t) >= 4 ? t : DT_F32;
  switch (*op) {
  case RED_SUM:
  case RED_PROD:
    return dt_is_float(t) ? t : DT_I64;
  case RED_ANY:
  case RED_ALL:
    return DT_BOOL;
  case RED_MAX:
  case RED_MIN:
    if (t == DT_BOOL) *op = *op == RED_MAX ? RED_ANY : RED_ALL;
    return t;
  default:
    return t == DT_BOOL ? DT_U8 : t;
  }
}

static Expr *lead_last_leaf(Elab *E, Expr *e, int nlead, int nown) {
  Expr *by[2 * TG_MAX_RANK];
  for (int k = 0; k < nlead; k++) by[k] = ex_iter(E->g, nown + k);
  for (int k = 0; k < nown; k++) by[nlead + k] = ex_iter(E->g, k);
  return ex_subst_iters(E->g, e, nlead + nown, by);
}

/* A guard may leave nothing, which an integer maximum or a position can't stand for: an assertion looks when the
 * program runs. Points that an outer guard leaves out do not count. */
static void assert_some(Elab *E, Reduce op, int nred, const int64_t *red, Expr *guard, Span at) {
  const Native *fn = natives_find(E->natives, "assert");
  if (!fn) bug("no native `assert`");
  Value *count = segment_reduce(E, RED_SUM, 0, NULL, nred, red, ex_int(E->g, DT_I64, 1), guard, DT_I64);
  Expr *ok = count ? ex_op2(E->g, OP_GT, count->t.e, ex_int(E->g, DT_I64, 0))
                   : tv_reduce(E, RED_ANY, 0, NULL, nred, red, guard, NULL, DT_BOOL)->t.e;
  if (E->guard) ok = ex_op2(E->g, OP_OR, ok, ex_op1(E->g, OP_NOT, E->guard));
  Index *free[TG_MAX_RANK];
  int n = expr_free_union(E, ok, 0, free);
  Node *all = node_over(E, v_scalar(E, ok), n, free);
  Attr a = {.s = arena_printf(E->a, "%s over nothing: the guard lets no element through", red_name(op))};
  E->g->span = user_span(E, at);
  vec_push(E->a, &E->effect, nd_call(E->g, fn, 1, &a, 1, &all, 0, NULL));
}

static Value *reduce_tensor(Elab *E, Reduce op, bool mean, TensorV *x, int nlead, Expr *guard, Span at) {
  DType t = work_dtype(&op, mean, x->dtype);
  int nown = x->rank - nlead;
  int64_t red[TG_MAX_RANK], count = 1;
  bool unknown = false;
  for (int k = 0; k < nlead; k++) {
    red[k] = x->dim[k].n;
    unknown |= red[k] < 0;
    if (!unknown && __builtin_mul_overflow(count, red[k], &count))
      diag_fail(E->d, S_OVERFLOW, at, "this reduction runs over too many elements");
  }
  bool no_identity = op == RED_ARGMAX || op == RED_ARGMIN || ((op == RED_MAX || op == RED_MIN) && !dt_is_float(t));
  if (!unknown && count == 0 && no_identity && !mean) {
    Diag *g = diag_add(E->d, V_EMPTY, at, "%s over nothing", red_name(op));
    for (int k = 0; k < nlead; k++)
      if (red[k] == 0) note_origin(E, g, x->dim[k]);
    elab_fail(E, g);
  }
  E->g->span = user_span(E, at);
  Expr *e = lead_last_leaf(E, ex_cast(E->g, t, x->e), nlead, nown);
  if (guard) guard = lead_last_leaf(E, guard, nlead, nown);
  if (guard && no_identity && !mean && !E->trial) {
    Expr *by[2 * TG_MAX_RANK]; /* the guard has no own axes */
    for (int k = 0; k < nown; k++) by[k] = ex_iter(E->g, k);
    for (int k = 0; k < nlead; k++) by[nown + k] = ex_iter(E->g, k);
    assert_some(E, op, nlead, red, ex_subst_iters(E->g, guard, nown + nlead, by), at);
    E->g->span = user_span(E, at);
  }
  const Dim *out = x->dim + nlead;
  Reduce how = mean ? RED_SUM : op;
  Value *r = guard && nlead ? segment_reduce(E, how, nown, out, nlead, red, e, guard, t) : NULL;
  if (!r) r = tv_reduce(E, how, nown, out, nlead, red, e, guard, t);
  if (!mean) return r;
  Value *n;
  if (guard) {
    Expr *one = ex_num(E->g, t, 1);
    /* the guard's reduction iterators start after the own axes: move them to the front */
    Expr *by[2 * TG_MAX_RANK];
    for (int k = 0; k < nown; k++) by[k] = ex_iter(E->g, k);
    for (int k = 0; k < nlead; k++) by[nown + k] = ex_iter(E->g, k);
    Expr *alone = ex_subst_iters(E->g, guard, nown + nlead, by);
    n = segment_reduce(E, RED_SUM, 0, NULL, nlead, red, one, alone, t);
    if (!n) n = tv_reduce(E, RED_SUM, 0, NULL, nlead, red, one, alone, t);
  } else
    n = v_scalar(E, ex_num(E->g, t, unknown ? 1 : (double)count));
  Span two[2] = {at, at};
  r = tv_elementwise(E, OP_DIV, 2, (Value *[]){r, n}, two, at);
  return dt_is_float(x->dtype) && x->dtype != t && !x->weak ? tv_cast(E, r, x->dtype, at) : r;
}

typedef struct ReduceModel {
  Reduce op;
  bool mean;
  int nlead;
  Expr *guard;
  Span at;
} ReduceModel;

static Value *reduce_leaf(Elab *E, void *ctx, Value *leaf, LeafKind kind) {
  (void)kind;
  const ReduceModel *r = ctx;
  return reduce_lead(E, r->op, r->mean, leaf, r->nlead, r->guard, r->at);
}

static bool not_stacked(void *ctx, const ModelV *m) { return m->lead < ((ReduceModel *)ctx)->nlead; }

Value *reduce_lead(Elab *E, Reduce op, bool mean, Value *v, int nlead, Expr *guard, Span at) {
  if (v->kind == V_MODEL && v->model->lead >= nlead) {
    ReduceModel r = {op, mean, nlead, guard, at};
    LeafMap map = {.fn = reduce_leaf, .keep = not_stacked, .ctx = &r, .lead = -nlead};
    return model_map(E, v, &map);
  }
  if (v->kind == V_TUPLE || v->kind == V_RECORD) {
    Value **kid = arena_array(E->a, Value *, v->agg.n);
    for (int k = 0; k < v->agg.n; k++) kid[k] = reduce_lead(E, op, mean, v->agg.at[k], nlead, guard, at);
    return v->kind == V_TUPLE ? v_tuple(E, v->agg.n, kid) : v_record(E, v->agg.n, v->agg.key, kid);
  }
  v = tv_harden(E, v, at);
  return reduce_tensor(E, op, mean, v_as_tensor(E, v, at, "what is reduced"), nlead, guard, at);
}
