/* Elements of data sets: raw fields read by ordered natives, and the mapped functions over them. */
#include "lang/data.h"
#include "lang/space.h"
#include <string.h>

DataTable *data_table(Elab *E, Span at) {
  if (!E->hooks->data) diag_fail(E->d, M_FILE, at, "there are no data sets here: this program runs without files");
  return E->hooks->data;
}

DataShape data_shape(Elab *E, const Value *v) {
  const DataV *d = data_of(v);
  DataInfo info = data_info(E->hooks->data, d->id);
  DataShape s = {d->size, -1, d->size && !d->drop_last ? -1 : 0};
  if (info.length < 0) {
    if (info.length == DATA_ENDLESS) s.tail = 0;
    return s;
  }
  s.full = d->size ? info.length / d->size : info.length;
  s.tail = d->size && !d->drop_last ? info.length % d->size : 0;
  return s;
}

bool data_is_endless(Elab *E, const Value *v) {
  return data_info(E->hooks->data, data_of(v)->id).length == DATA_ENDLESS;
}

/* ---- forms ------------------------------------------------------------------------------------------------------ */

Value *data_row_value(Elab *E, const DataForm *f, Value **leaf, int *next) {
  switch (f->kind) {
  case FORM_LEAVES: {
    Value *v = v_with_leaves(E, f->like, leaf + *next);
    *next += f->n;
    return v;
  }
  case FORM_PARTS: {
    Value **kid = arena_array(E->a, Value *, f->n);
    for (int k = 0; k < f->n; k++) kid[k] = data_row_value(E, f->of[k], leaf, next);
    return f->like->kind == V_RECORD ? v_record(E, f->n, f->like->agg.key, kid) : v_tuple(E, f->n, kid);
  }
  case FORM_MAP: {
    Value *x = data_row_value(E, f->of[0], leaf, next);
    return call_simple(E, f->f, 1, &x, f->at);
  }
  default:
    bug("a batch's form in a row's");
  }
}

static bool has_map(const DataForm *f) {
  if (f->kind == FORM_MAP) return true;
  for (int k = 0; f->kind == FORM_PARTS && k < f->n; k++)
    if (has_map(f->of[k])) return true;
  return false;
}

/* Every leaf a node of its own, so that a function is not computed again for each use of its result. */
static Value *sealed(Elab *E, Value *v) {
  Value **leaf;
  int n = v_leaves(E, v, &leaf);
  Value **to = arena_array(E->a, Value *, n);
  for (int k = 0; k < n; k++) to[k] = leaf[k]->kind == V_TENSOR ? tv_seal(E, leaf[k]) : leaf[k];
  return v_with_leaves(E, v, to);
}

/* The element of raw fields [rows, ...]: mapped functions over an index b of rows, which becomes the leading axis. */
Value *data_over_rows(Elab *E, const DataForm *f, Value **raw, int nfield, Dim rows, Span at) {
  int next = 0;
  if (!has_map(f)) return data_row_value(E, f, raw, &next);
  Index *b = index_push(E, name_of(E->names, "b", 1), at, rows.n, 0, rows.from, NULL);
  bool allowed = E->effects_allowed;
  E->effects_allowed = false;
  Value **leaf = arena_array(E->a, Value *, nfield);
  for (int k = 0; k < nfield; k++) leaf[k] = view_index(E, raw[k], 0, b->var);
  Value *v = data_row_value(E, f, leaf, &next);
  E->effects_allowed = allowed;
  if (E->index != b) bug("indices are not nested");
  v = abstract_index(E, v, b, at);
  E->index = b->outer;
  return sealed(E, v);
}

static Value *batch_value(Elab *E, const DataForm *f, Value *batch, Expr *pos) {
  switch (f->kind) {
  case FORM_BATCH:
    return batch;
  case FORM_POS:
    return v_scalar(E, ex_op2(E->g, OP_SUB, pos, ex_int(E->g, DT_I64, f->first)));
  case FORM_PARTS: {
    Value **kid = arena_array(E->a, Value *, f->n);
    for (int k = 0; k < f->n; k++) kid[k] = batch_value(E, f->of[k], batch, pos);
    return f->like->kind == V_RECORD ? v_record(E, f->n, f->like->agg.key, kid) : v_tuple(E, f->n, kid);
  }
  case FORM_MAP: {
    Value *x = batch_value(E, f->of[0], batch, pos);
    return call_simple(E, f->f, 1, &x, f->at);
  }
  default:
    bug("a row's form in a batch's");
  }
}

/* ---- the natives ------------------------------------------------------------------------------------------------ */

static Node *call(Elab *E, const char *name, int nattr, const Attr *attr, int narg, Node **arg, int nres,
                  const TensorType *res, Span at) {
  const Native *fn = natives_find(E->natives, name);
  if (!fn) bug("no native `%s`", name);
  E->g->span = user_span(E, at);
  Node *n = nd_call(E->g, fn, nattr, attr, narg, arg, nres, res);
  if (fn->effect && !E->trial) vec_push(E->a, &E->effect, n);
  return n;
}

static Expr *scalar_of(Elab *E, Node *call, int k) {
  return ex_load(E->g, nd_get(E->g, call, k), 0, NULL, NULL, false, E->g->span);
}

static Node *scalar_node(Elab *E, Expr *e, Span at) {
  if (e->nvar)
    diag_fail(E->d, T_EFFECT, at, "a data set inside a comprehension; a loop has an order: for b in d { ... }");
  return nd_scalar(E->g, e);
}

static int add_given(Elab *E, const DataV *d, Node **arg, int n, bool keys, Span at) {
  for (int k = 0; keys && k < d->nkey; k++) arg[n++] = scalar_node(E, d->key[k]->t.e, at);
  for (int k = 0; k < d->ntensor; k++) arg[n++] = tv_closed(E, d->tensor[k]);
  return n;
}

Expr *data_open(Elab *E, Value *v, Expr *skip, Span at, Expr **more) {
  const DataV *d = data_of(v);
  effect_allowed(E, "walking a data set", at);
  Node **arg = arena_array(E->a, Node *, 1 + d->nkey + d->ntensor);
  arg[0] = scalar_node(E, skip ? skip : ex_int(E->g, DT_I64, 0), at);
  int n = add_given(E, d, arg, 1, true, at);
  Attr attr[2] = {{.i = d->id, .f = (double)d->id}, {.i = d->size, .f = (double)d->size}};
  TensorType res[2] = {{DT_I64, 0, NULL}, {DT_BOOL, 0, NULL}};
  Node *c = call(E, "data_open", 2, attr, n, arg, 2, res, at);
  *more = scalar_of(E, c, 1);
  return scalar_of(E, c, 0);
}

/* The fields as values [lead..., ...], and their types. */
static TensorType *field_types(Elab *E, const DataInfo *info, int nlead, const int64_t *lead, int extra, Span at) {
  TensorType *res = arena_array(E->a, TensorType, info->nfield + extra);
  for (int k = 0; k < info->nfield; k++) {
    const DataField *f = &info->field[k];
    int rank = nlead + f->rank;
    if (rank > TG_MAX_RANK) diag_fail(E->d, S_RANK, at, "a batch would have more than %d axes", TG_MAX_RANK);
    int64_t *dim = arena_array(E->a, int64_t, rank);
    Dim all[TG_MAX_RANK];
    for (int a = 0; a < rank; a++) dim[a] = a < nlead ? lead[a] : f->dim[a - nlead], all[a] = dim_of(dim[a]);
    tv_check_size(E, f->dtype, rank, all, at);
    res[k] = (TensorType){f->dtype, rank, dim};
  }
  return res;
}

/* The element of what a pass gives: raw fields [rows, ...]. */
static Value *element(Elab *E, const DataV *d, Value **leaf, int m, Dim lead, Expr *pos, Span at) {
  if (d->size) {
    Value *batch = data_over_rows(E, d->form, leaf, m, lead, at);
    return d->after ? sealed(E, batch_value(E, d->after, batch, pos)) : batch;
  }
  for (int k = 0; k < m; k++) leaf[k] = view_index(E, leaf[k], 0, ex_int(E->g, DT_I64, 0));
  int next = 0;
  bool allowed = E->effects_allowed;
  E->effects_allowed = false;
  Value *row = data_row_value(E, d->form, leaf, &next);
  E->effects_allowed = allowed;
  return row;
}

Value *data_next(Elab *E, Value *v, Expr *handle, int64_t rows, Span at, Expr **more, Expr **pos) {
  const DataV *d = data_of(v);
  DataInfo info = data_info(E->hooks->data, d->id);
  effect_allowed(E, "walking a data set", at);
  int64_t n = d->size ? rows : 1;
  int m = info.nfield;
  TensorType *res = field_types(E, &info, 1, &n, 2, at);
  res[m] = (TensorType){DT_BOOL, 0, NULL}, res[m + 1] = (TensorType){DT_I64, 0, NULL};
  Node **arg = arena_array(E->a, Node *, 1 + d->ntensor);
  arg[0] = scalar_node(E, handle, at);
  int narg = add_given(E, d, arg, 1, false, at);
  Attr attr[2] = {{.i = d->id, .f = (double)d->id}, {.i = n, .f = (double)n}};
  Node *c = call(E, "data_next", 2, attr, narg, arg, m + 2, res, at);
  *more = scalar_of(E, c, m), *pos = scalar_of(E, c, m + 1);
  Value **leaf = arena_array(E->a, Value *, m);
  Dim lead = {
      .n = n,
      .from = origin_new(E, NULL, d->at,
                         n == d->size ? "%lld is the size of the batches made here" : "%lld rows are in the last batch",
                         (long long)n)};
  for (int k = 0; k < m; k++) {
    leaf[k] = v_node(E, nd_get(E->g, c, k));
    leaf[k]->t.dim[0] = lead;
  }
  /* draws of mapped functions: by the batch's number, apart from those of the loop's body */
  Stream stream = E->stream;
  E->stream.ordinal += 1 << 20;
  E->stream = stream_loop(E, *pos);
  Value *x = element(E, d, leaf, m, lead, *pos, at);
  E->stream = stream;
  return x;
}

Expr *data_rest(Elab *E, Value *v, Expr *handle, Span at) {
  const DataV *d = data_of(v);
  Attr attr = {.i = d->id, .f = (double)d->id};
  TensorType res = {DT_I64, 0, NULL};
  Node *arg = scalar_node(E, handle, at);
  return scalar_of(E, call(E, "data_rest", 1, &attr, 1, &arg, 1, &res, at), 0);
}

void data_close(Elab *E, Value *v, Expr *handle, Span at) {
  const DataV *d = data_of(v);
  Attr attr = {.i = d->id, .f = (double)d->id};
  Node *arg = scalar_node(E, handle, at);
  call(E, "data_close", 1, &attr, 1, &arg, 0, NULL, at);
}

/* ---- rows by number --------------------------------------------------------------------------------------------- */

/* Rows by an i64 tensor of rank 0 or 1 (its elements are not checked here). */
static Value *gather(Elab *E, Value *v, Value *idx, Span at) {
  const DataV *d = data_of(v);
  DataInfo info = data_info(E->hooks->data, d->id);
  Index *free[TG_MAX_RANK];
  int nfree = free_union(E, idx, 0, free), rank = idx->t.rank, m = info.nfield;
  Node **arg = arena_array(E->a, Node *, 1 + d->nkey + d->ntensor);
  E->g->span = user_span(E, at);
  arg[0] = node_over(E, idx, nfree, free);
  int narg = add_given(E, d, arg, 1, true, at);
  Attr attr = {.i = d->id, .f = (double)d->id};
  TensorType *res = field_types(E, &info, arg[0]->rank, arg[0]->dim, 0, at);
  Node *c = call(E, "data_gather", 1, &attr, narg, arg, m, res, at);
  Value **leaf = arena_array(E->a, Value *, m);
  for (int k = 0; k < m; k++) {
    Dim dim[TG_MAX_RANK];
    for (int a = 0; a < rank; a++) dim[a] = idx->t.dim[a];
    for (int a = 0; a < info.field[k].rank; a++) dim[rank + a] = dim_of(info.field[k].dim[a]);
    leaf[k] = load_over(E, nd_get(E->g, c, k), nfree, free, dim);
  }
  if (rank) return data_over_rows(E, d->form, leaf, m, idx->t.dim[0], at);
  int next = 0;
  bool allowed = E->effects_allowed;
  E->effects_allowed = false;
  Value *row = data_row_value(E, d->form, leaf, &next);
  E->effects_allowed = allowed;
  return row;
}

static _Noreturn void outside(Elab *E, const DataV *d, int64_t i, int64_t length, Span at) {
  Diag *g = diag_add(E->d, X_BOUNDS, at, "row %lld of a data set of %lld", (long long)i, (long long)length);
  diag_note(E->d, g, d->at, "the set is made here");
  elab_fail(E, g);
}

static int64_t end_of(Elab *E, const Env *env, Ast *e, int64_t otherwise, int64_t length) {
  if (!e) return otherwise;
  int64_t i = v_static_int(E, elab_expr(E, env, e), e->span, "an end of a slice of a data set");
  if (i >= 0) return i;
  if (length < 0)
    diag_fail(E->d, T_STATIC, e->span,
              "how many rows this data set has is known after reading it only, so %lld from its end "
              "can't be found",
              (long long)-i);
  return i + length < 0 ? 0 : i + length;
}

static Value *rows_from(Elab *E, Value *v, int64_t lo, int64_t n, int64_t step, Span at) {
  Expr *it = ex_iter(E->g, 0);
  Dim dim = {.n = n, .from = origin_new(E, NULL, at, "%lld rows are taken here", (long long)n)};
  return gather(E, v, v_tensor(E, DT_I64, 1, &dim, ex_lin(E->g, lo, 1, &step, &it)), at);
}

Value *data_index(Elab *E, const Env *env, Value *v, Ast *e) {
  const DataV *d = data_of(v);
  if (d->size) {
    Diag *g = diag_add(E->d, T_TYPE, e->at, "batches have no number; rows do");
    diag_help(E->d, g, "subscript before batch(%lld)", (long long)d->size);
    elab_fail(E, g);
  }
  if (e->nkid != 1)
    diag_fail(E->d, S_RANK, e->at,
              "a data set takes one subscript, its rows; the fields' axes come after: d[0..9].x[:, 0]");
  Ast *sub = e->kid[0];
  int64_t length = data_info(E->hooks->data, d->id).length, i;
  if (sub->kind == AST_ELLIPSIS) diag_fail(E->d, T_TYPE, sub->span, "a data set takes one subscript, its rows");
  if (sub->kind == AST_SLICE) {
    int64_t step = sub->c ? v_static_int(E, elab_expr(E, env, sub->c), sub->c->span, "a step") : 1;
    if (step < 1) diag_fail(E->d, T_TYPE, sub->span, "the step of a slice of a data set is 1 or more");
    int64_t lo = end_of(E, env, sub->a, 0, length), hi = end_of(E, env, sub->b, length, length);
    if (hi < 0)
      diag_fail(E->d, T_STATIC, sub->span,
                "how many rows this data set has is known after reading it only: give an end");
    if (length >= 0 && hi > length) hi = length;
    return rows_from(E, v, lo, hi > lo ? (hi - lo + step - 1) / step : 0, step, e->span);
  }
  Value *x = elab_expr(E, env, sub);
  if (v_is_static_int(x, &i)) {
    if (length >= 0 && (i < -length || i >= length)) outside(E, d, i, length, sub->span);
    if (i < 0 && length < 0) end_of(E, env, sub, 0, length);
    return gather(E, v, v_scalar(E, ex_int(E->g, DT_I64, i < 0 ? i + length : i)), e->span);
  }
  if (x->kind == V_RANGE) {
    int64_t lo, hi;
    if (v_is_static_int(x->range.lo, &lo) && v_is_static_int(x->range.hi, &hi)) {
      if (lo < 0) outside(E, d, lo, length, sub->span);
      if (length >= 0 && hi > length && hi > lo) outside(E, d, hi - 1, length, sub->span);
      return rows_from(E, v, lo, hi > lo ? hi - lo : 0, 1, e->span);
    }
  }
  TensorV *t = v_as_tensor(E, x, sub->span, "a subscript of a data set");
  if (!dt_is_int(t->dtype) || t->rank > 1)
    diag_fail(E->d, T_TYPE, sub->span, "a data set is subscripted by row numbers, int or int[N], not by %s",
              v_type_text(E, x));
  return gather(E, v, v_tensor(E, DT_I64, t->rank, t->dim, ex_cast(E->g, DT_I64, t->e)), e->span);
}

/* d.x: the column of all rows. */
Value *data_member(Elab *E, Value *v, Name name, Span at) {
  const DataV *d = data_of(v);
  Value *field;
  if (d->row->kind != V_RECORD) return NULL;
  if (v_field(d->row, name, &field)) {
    int64_t length = data_info(E->hooks->data, d->id).length;
    if (d->size) diag_fail(E->d, T_TYPE, at, "a column is taken before batch(%lld)", (long long)d->size);
    if (length < 0) {
      Diag *g = diag_add(E->d, T_STATIC, at,
                         "how many rows this data set has is known after reading it only, and sizes must be static");
      diag_help(E->d, g, "d[0..1000].%s reads the first 1000", name);
      elab_fail(E, g);
    }
    return v_field(rows_from(E, v, 0, length, 1, at), name, &field) ? field : NULL;
  }
  if (strcmp(name, "fields") != 0) return NULL;
  Value **key = arena_array(E->a, Value *, d->row->agg.n);
  for (int k = 0; k < d->row->agg.n; k++) key[k] = v_str(E, d->row->agg.key[k], strlen(d->row->agg.key[k]));
  return v_tuple(E, d->row->agg.n, key);
}
