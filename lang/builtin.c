/* The tables of builtins together, and what they share: reading shapes and axes, calling natives. */
#include "lang/builtin.h"
#include "lang/space.h"
#include <string.h>

static const Builtin *const tables[] = {builtins_core,    builtins_scalar, builtins_files,  builtins_reduce,
                                        builtins_make,    builtins_shape,  builtins_order,  builtins_random,
                                        builtins_derive,  builtins_train,  builtins_linalg, builtins_data,
                                        builtins_sources, builtins_fit,    builtins_model};

const Builtin *builtin_find(const char *name) {
  for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
    for (const Builtin *b = tables[t]; b->name; b++)
      if (strcmp(b->name, name) == 0) return b;
  return NULL;
}
const Builtin *builtin_at(int i) {
  for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
    for (const Builtin *b = tables[t]; b->name; b++)
      if (i-- == 0) return b;
  return NULL;
}
int builtin_count(void) {
  int n = 0;
  while (builtin_at(n)) n++;
  return n;
}

Span arg_span(const Call *c, const Value *v) {
  for (int k = 0; k < c->n; k++)
    if (c->arg[k].v == v) return c->arg[k].span;
  return c->span;
}

int read_shape(Elab *E, Value *rest, Call *c, Dim *dim) {
  if (rest->kind == V_TUPLE && rest->agg.n == 1 && rest->agg.at[0]->kind == V_TUPLE) rest = rest->agg.at[0];
  Value *one[1] = {rest};
  int n = rest->kind == V_TUPLE ? rest->agg.n : 1;
  Value **at = rest->kind == V_TUPLE ? rest->agg.at : one;
  if (n > TG_MAX_RANK) diag_fail(E->d, S_RANK, c->span, "%d axes; %d is the most", n, TG_MAX_RANK);
  for (int k = 0; k < n; k++) {
    Span sp = arg_span(c, at[k]);
    int64_t i = v_static_int(E, at[k], sp, "a size");
    const Origin *from = at[k]->kind == V_NUM ? at[k]->num.from : NULL;
    dim[k] = (Dim){
        .n = i,
        .from = from ? from : origin_new(E, NULL, c->span, "%lld is axis %d of what is made here", (long long)i, k)};
    if (i < 0 && !(i == -1 && E->trial))
      diag_fail(E->d, S_NEGATIVE, sp, "axis %d would have the size %lld", k, (long long)i);
  }
  return n;
}

int read_axis(Elab *E, Value *v, int rank, const char *what, Span at) {
  int64_t a = v_static_int(E, v, at, "an axis"), k = a < 0 ? a + rank : a;
  if (k < 0 || k >= rank)
    diag_fail(E->d, S_RANK, at, "axis %lld of %s, which has %d %s", (long long)a, what, rank,
              rank == 1 ? "axis" : "axes");
  return (int)k;
}

Value *need_tensor(Elab *E, Value *v, Call *c, const char *what) {
  Span at = arg_span(c, v);
  if (v->kind == V_TUPLE) {
    Span *sp = arena_array(E->a, Span, v->agg.n);
    for (int k = 0; k < v->agg.n; k++) sp[k] = at;
    if (pieces_stack(E, v->agg.n, v->agg.at)) v = join_stack(E, v->agg.n, v->agg.at, 0, sp, at);
  }
  v = tv_harden(E, v, at);
  if (v->kind != V_TENSOR)
    diag_fail(E->d, T_TYPE, at, "%s takes a tensor as %s, not %s", c->fname, what, v_type_text(E, v));
  return v;
}

static Value *move_axis(Elab *E, Value *x, int from, int to) {
  int perm[TG_MAX_RANK], n = 0;
  for (int k = 0; k < x->t.rank; k++)
    if (k != from) perm[n++] = k;
  for (int k = x->t.rank - 1; k > to; k--) perm[k] = perm[k - 1];
  perm[to] = from;
  return from == to ? x : view_permute(E, x, perm);
}
Value *axis_last(Elab *E, Value *x, int axis) { return move_axis(E, x, axis, x->t.rank - 1); }
Value *axis_back(Elab *E, Value *x, int axis) { return move_axis(E, x, x->t.rank - 1, axis); }

Value *call_native(Elab *E, const char *name, int nattr, const Attr *attr, int narg, Value **arg, int nres,
                   const DType *dt, const int *rank, const Dim (*dim)[TG_MAX_RANK], Span at) {
  const Native *fn = natives_find(E->natives, name);
  if (!fn) diag_fail(E->d, R_NATIVE, at, "this build has no routine `%s`", name);
  Index *free[TG_MAX_RANK];
  int nfree = 0;
  for (int k = 0; k < narg; k++) nfree = free_union(E, arg[k], nfree, free);
  Node **in = arena_array(E->a, Node *, narg);
  E->g->span = user_span(E, at);
  for (int k = 0; k < narg; k++) in[k] = node_over(E, arg[k], nfree, free);
  TensorType *res = arena_array(E->a, TensorType, nres);
  for (int k = 0; k < nres; k++) {
    Dim all[TG_MAX_RANK];
    int n = nfree + rank[k];
    if (n > TG_MAX_RANK) diag_fail(E->d, S_RANK, at, "more than %d indices and axes meet in one value", TG_MAX_RANK);
    for (int a = 0; a < n; a++) all[a] = a < nfree ? dim_of(free[a]->extent) : dim[k][a - nfree];
    tv_check_size(E, dt[k], n, all, at);
    int64_t *d = arena_array(E->a, int64_t, n);
    for (int a = 0; a < n; a++) d[a] = all[a].n < 0 ? 1 : all[a].n;
    res[k] = (TensorType){dt[k], n, d};
  }
  Node *call = nd_call(E->g, fn, nattr, attr, narg, in, nres, res);
  Value **out = arena_array(E->a, Value *, nres);
  for (int k = 0; k < nres; k++) out[k] = load_over(E, nd_get(E->g, call, k), nfree, free, dim[k]);
  return nres == 1 ? out[0] : v_tuple(E, nres, out);
}
