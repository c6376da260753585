/* What the training functions of the library (stdlib/train.tg) are made of beside tg itself: calls by the names of a
 * record's fields, metrics, and the effects of a step. Names begin with `_`: only library modules see them. */
#include "lang/builtin.h"
#include "lang/loop.h"
#include "lang/model.h"
#include "lang/session.h"
#include <string.h>

/* ---- calls by field ---------------------------------------------------------------------------------------------- */

static char *fields_text(Elab *E, const Value *row) {
  char *s = arena_strdup(E->a, "");
  for (int k = 0; k < row->agg.n; k++)
    s = arena_printf(E->a, "%s%s%s: %s", s, k ? ", " : "", row->agg.key[k], v_type_text(E, row->agg.at[k]));
  return s;
}

static _Noreturn void fail_field(Elab *E, const Ast *def, const char *name, const Value *row, const char *what,
                                 Span at) {
  Diag *g = diag_add(E->d, T_ARGS, user_span(E, at), "%s takes `%s`, which is no field of the data", what, name);
  diag_note(E->d, g, def->at.file ? def->at : def->span, "it is defined here");
  diag_note(E->d, g, (Span){0}, "the data's records have %s", fields_text(E, row));
  const char **cand = arena_array(E->a, const char *, row->agg.n);
  for (int k = 0; k < row->agg.n; k++) cand[k] = row->agg.key[k];
  const char *near = closest_name(name, row->agg.n, cand);
  if (near) diag_help(E->d, g, "did you mean `%s`?", near);
  elab_fail(E, g);
}

/* The definition with the parameters that f is called with: a function's, or a model's `apply`. NULL: not known. */
static const Ast *signature_of(Elab *E, const Value *f) {
  if (f->kind == V_MODEL) return model_apply(E, f->ext);
  return f->kind == V_FUN && (f->fun->kind == FUN_DEF || f->fun->kind == FUN_LAMBDA) ? f->fun->ast : NULL;
}

/* f of a row or batch: of a record those fields that its parameters name. */
static Value *apply_row(Elab *E, Value *f, Value *row, const char *what, Span at) {
  const Ast *def = signature_of(E, f);
  if (row->kind != V_RECORD || !def) return call_simple(E, f, 1, &row, at);
  Call c = {.span = at, .callee = at, .fname = what, .arg = arena_array(E->a, Arg, def->nkid)};
  for (int k = 0; k < def->nkid; k++) {
    const Ast *p = def->kid[k];
    Value *v;
    if (p->name && v_field(row, p->name, &v))
      c.arg[c.n++] = (Arg){NULL, v, at};
    else if (!p->a)
      fail_field(E, def, p->name ? p->name : "(...)", row, what, at);
    else
      break;
  }
  return call_value(E, f, &c);
}

static bool names(const Ast *def, int from, Name name) {
  for (int k = from; k < def->nkid; k++)
    if (def->kid[k]->name == name) return true;
  return false;
}

/* Does f take what the model gives rather than the model: fields, but none that the model itself is applied to, and can
 * the model be applied to fields? */
static bool takes_output(Elab *E, const Value *f, const Value *net, const Value *row) {
  const Ast *def = signature_of(E, f), *apply = net->kind == V_MODEL ? signature_of(E, net) : NULL;
  if (!def || !apply || row->kind != V_RECORD) return false;
  int fields = 0;
  Value *v;
  for (int k = 0; k < apply->nkid; k++)
    if (!apply->kid[k]->a && !(apply->kid[k]->name && v_field(row, apply->kid[k]->name, &v))) return false;
  for (int k = 0; k < row->agg.n; k++) {
    if (!names(def, 1, row->agg.key[k])) continue;
    fields++;
    if (names(apply, 0, row->agg.key[k])) return false;
  }
  return fields > 0;
}

/* f(net, the fields that its other parameters name); rows that are no records follow net by position. */
static Value *with_fields(Elab *E, Value *fv, Value *net, Value *row, const char *what, Span at) {
  if (fv->kind != V_FUN)
    diag_fail(E->d, T_TYPE, user_span(E, at), "%s is a function of the model and the data's fields, not %s", what,
              v_type_text(E, fv));
  const Ast *def = signature_of(E, fv);
  bool record = row->kind == V_RECORD, many = record || row->kind == V_TUPLE, named = record && def;
  int most = 1 + (many ? row->agg.n : 1);
  if (named && def->nkid > most) most = def->nkid;
  Call c = {
      .span = at, .callee = at, .fname = fv->fun->name ? fv->fun->name : what, .arg = arena_array(E->a, Arg, most)};
  if (takes_output(E, fv, net, row)) net = apply_row(E, net, row, "the model", at);
  c.arg[c.n++] = (Arg){NULL, net, at};
  if (named) {
    for (int k = 1; k < def->nkid; k++) {
      const Ast *p = def->kid[k];
      Value *v;
      if (p->name && v_field(row, p->name, &v)) /* a lambda has no defaults: its arguments are all here, in order */
        c.arg[c.n++] = (Arg){fv->fun->kind == FUN_LAMBDA ? NULL : p->name, v, at};
      else if (!p->a)
        fail_field(E, def, p->name ? p->name : "(...)", row, what, at);
    }
  } else if (many)
    for (int k = 0; k < row->agg.n; k++) c.arg[c.n++] = (Arg){NULL, row->agg.at[k], at};
  else
    c.arg[c.n++] = (Arg){NULL, row, at};
  return call_value(E, fv, &c);
}

static Value *b_with_fields(Elab *E, const Builtin *self, Call *c, Value **b) {
  return with_fields(E, b[0], b[1], b[2], v_static_str(E, b[3], c->span, "what"), c->span);
}

/* ---- metrics ----------------------------------------------------------------------------------------------------- */

static const char *metric_name(Elab *E, const Value *metrics, int k) {
  return metrics->kind == V_RECORD ? arena_printf(E->a, "the metric `%s`", metrics->agg.key[k]) : "the metric";
}

/* metrics: a record of functions, or one function. f(k-th function, its name) in the same structure. */
static Value *each_metric(Elab *E, Value *metrics, Span at,
                          Value *(*fn)(Elab *E, Value *f, const char *what, void *ctx), void *ctx) {
  if (metrics->kind == V_FUN) return fn(E, metrics, "the metric", ctx);
  if (metrics->kind != V_RECORD) {
    Diag *g =
        diag_add(E->d, T_TYPE, user_span(E, at), "metrics are a record of functions, not %s", v_type_text(E, metrics));
    diag_help(E->d, g, "metrics = {accuracy}");
    elab_fail(E, g);
  }
  Value **out = arena_array(E->a, Value *, metrics->agg.n);
  for (int k = 0; k < metrics->agg.n; k++) out[k] = fn(E, metrics->agg.at[k], metric_name(E, metrics, k), ctx);
  return v_record(E, metrics->agg.n, metrics->agg.key, out);
}

typedef struct Metric {
  Value *net, *row;
  Span at;
} Metric;

/* The leaves of what a metric gives, as f64: they are summed over batches. */
static Value *metric_value(Elab *E, Value *f, const char *what, void *ctx) {
  Metric *m = ctx;
  Value *v = with_fields(E, f, m->net, m->row, what, m->at), **leaf;
  int n = v_leaves(E, v, &leaf);
  for (int k = 0; k < n; k++) leaf[k] = tv_cast(E, leaf[k], DT_F64, m->at);
  return v_with_leaves(E, v, leaf);
}

/* _metrics(metrics, net, row): each metric of one batch. */
static Value *b_metrics(Elab *E, const Builtin *self, Call *c, Value **b) {
  Metric m = {b[1], b[2], c->span};
  return each_metric(E, b[0], c->span, metric_value, &m);
}

/* _metric_zeros(metrics, net, data): zeros of the types that the metrics of a batch have. Nothing is read. */
static Value *b_metric_zeros(Elab *E, const Builtin *self, Call *c, Value **b) {
  DataShape s = data_shape(E, b[2]);
  Elab saved = *E;
  E->trial = true;
  Expr *more, *pos, *handle = data_open(E, b[2], NULL, c->span, &more);
  Metric m = {b[1], data_next(E, b[2], handle, s.size, c->span, &more, &pos), c->span};
  Value *v = each_metric(E, b[0], c->span, metric_value, &m), **leaf;
  *E = saved;
  int n = v_leaves(E, v, &leaf);
  for (int k = 0; k < n; k++) {
    if (leaf[k]->kind != V_TENSOR) leaf[k] = tv_cast(E, leaf[k], DT_F64, c->span);
    leaf[k] = v_tensor(E, DT_F64, leaf[k]->t.rank, leaf[k]->t.dim, ex_zero(E, DT_F64));
  }
  return v_with_leaves(E, v, leaf);
}

/* _mean(total, rows): every leaf of a sum over rows divided, in f32. */
static Value *b_mean(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value **leaf;
  Value *rows = tv_cast(E, b[1], DT_F64, c->span);
  Span two[2] = {c->span, c->span};
  int n = v_leaves(E, b[0], &leaf);
  for (int k = 0; k < n; k++) {
    Value *v = tv_elementwise(E, OP_DIV, 2, (Value *[]){leaf[k], rows}, two, c->span);
    leaf[k] = tv_cast(E, v, DT_F32, c->span);
  }
  return v_with_leaves(E, b[0], leaf);
}

/* _named(prefix, v, otherwise): v as a record whose keys begin with the prefix; a value that is none under its own name
 * or `otherwise`. */
static Value *b_named(Elab *E, const Builtin *self, Call *c, Value **b) {
  const char *prefix = v_static_str(E, b[0], c->span, "prefix"), *one = v_static_str(E, b[2], c->span, "otherwise");
  bool rec = b[1]->kind == V_RECORD;
  if (b[1]->kind == V_FUN && b[1]->fun->kind == FUN_DEF) one = b[1]->fun->name;
  int n = rec ? b[1]->agg.n : 1;
  Name *key = arena_array(E->a, Name, n);
  for (int k = 0; k < n; k++) {
    const char *s = arena_printf(E->a, "%s%s", prefix, rec ? b[1]->agg.key[k] : one);
    key[k] = name_of(E->names, s, strlen(s));
  }
  return v_record(E, n, key, rec ? b[1]->agg.at : &b[1]);
}

/* ---- data -------------------------------------------------------------------------------------------------------- */

/* _rows(batch): its number of rows. */
static Value *b_rows(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value **leaf;
  int n = v_leaves(E, b[0], &leaf);
  if (n == 0 || leaf[0]->kind != V_TENSOR || leaf[0]->t.rank == 0)
    diag_fail(E->d, T_TYPE, user_span(E, c->span), "a batch is made of tensors, not %s", v_type_text(E, b[0]));
  return v_int(E, leaf[0]->t.dim[0].n < 0 ? 1 : leaf[0]->t.dim[0].n, leaf[0]->t.dim[0].from);
}

/* _from(data, k): the same without its first k batches, an i64 scalar. */
static Value *b_from(Elab *E, const Builtin *self, Call *c, Value **b) {
  DataV *d = arena_copy(E->a, data_of(b[0]), sizeof *d);
  Value *k = tv_cast(E, b[1], DT_I64, c->span), *v = v_tuple(E, 0, NULL);
  d->skip = k->t.e;
  v->kind = V_DATA, v->ext = d;
  return v;
}

static Value *b_endless(Elab *E, const Builtin *self, Call *c, Value **b) {
  return v_bool(E, data_is_endless(E, b[0]));
}

/* _shape_of(data): (rows a batch, 0: single rows; full batches or -1; rows of the short batch or -1). */
static Value *b_shape_of(Elab *E, const Builtin *self, Call *c, Value **b) {
  DataShape s = data_shape(E, b[0]);
  Value *v[3] = {v_int(E, s.size, NULL), v_int(E, s.full, NULL), v_int(E, s.tail, NULL)};
  return v_tuple(E, 3, v);
}

/* _is(v, "data" | "function" | "model" | "none" | "tensor" | "record" | "number" | "tuple"): the kind of a value. */
static Value *b_is(Elab *E, const Builtin *self, Call *c, Value **b) {
  static const struct {
    const char *name;
    ValueKind kind;
  } kinds[] = {{"data", V_DATA},     {"function", V_FUN},  {"model", V_MODEL}, {"none", V_NONE},
               {"tensor", V_TENSOR}, {"record", V_RECORD}, {"number", V_NUM},  {"tuple", V_TUPLE}};
  const char *s = v_static_str(E, b[1], c->span, "kind");
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
    if (!strcmp(kinds[k].name, s)) return v_bool(E, b[0]->kind == kinds[k].kind);
  bug("_is: no kind `%s`", s);
}

/* _fail(message, help): a mistake in the user's call. */
static Value *b_fail(Elab *E, const Builtin *self, Call *c, Value **b) {
  Diag *g = diag_add(E->d, T_ARGS, user_span(E, c->span), "%s", v_static_str(E, b[0], c->span, "message"));
  if (b[1]) diag_help(E->d, g, "%s", v_static_str(E, b[1], c->span, "help"));
  elab_fail(E, g);
}

/* An optimiser is a record of the functions init and update. */
static Value *b_check_optimiser(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *f;
  bool ok = b[0]->kind == V_RECORD && v_field(b[0], name_of(E->names, "init", 4), &f) && f->kind == V_FUN &&
            v_field(b[0], name_of(E->names, "update", 6), &f) && f->kind == V_FUN;
  if (ok) return v_none(E);
  Diag *g = diag_add(E->d, T_TYPE, user_span(E, c->span),
                     "the optimiser is a record of functions {init, update}, not %s", v_type_text(E, b[0]));
  diag_help(E->d, g, "opt.adam(1e-3), after `import opt`");
  elab_fail(E, g);
}

/* _text(v): the type of a value, for messages. */
static Value *b_text(Elab *E, const Builtin *self, Call *c, Value **b) {
  const char *s = v_type_text(E, b[0]);
  return v_str(E, s, strlen(s));
}

/* ---- models and structures --------------------------------------------------------------------------------------- */

static Value *b_has_model(Elab *E, const Builtin *self, Call *c, Value **b) { return v_bool(E, v_has_model(b[0])); }

/* _mode(v, training): all models in v; what holds none stays. */
static Value *b_mode(Elab *E, const Builtin *self, Call *c, Value **b) {
  return v_has_model(b[0]) ? v_with_mode(E, b[0], v_static_bool(E, b[1], c->span, "training")) : b[0];
}

/* _first(v): the first of a tuple; else v. */
static Value *b_first(Elab *E, const Builtin *self, Call *c, Value **b) {
  return b[0]->kind == V_TUPLE && b[0]->agg.n ? b[0]->agg.at[0] : b[0];
}

/* _map2(f, a, b): f of every two leaves of a and b, which have equally many; in a's structure. */
static Value *b_map2(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value **x, **y;
  int n = v_leaves(E, b[1], &x);
  if (v_leaves(E, b[2], &y) != n)
    diag_fail(E->d, T_TYPE, c->span, "%s and %s", v_type_text(E, b[1]), v_type_text(E, b[2]));
  for (int k = 0; k < n; k++) x[k] = call_simple(E, b[0], 2, (Value *[]){x[k], y[k]}, c->span);
  return v_with_leaves(E, b[1], x);
}

/* _apply(f, row): f of a batch; of a record's fields those that its parameters name. */
static Value *b_apply(Elab *E, const Builtin *self, Call *c, Value **b) {
  return apply_row(E, b[0], b[1], "what predict calls", c->span);
}

/* The first two axes of every leaf of a stack of batches made one. */
static Value *merged(Elab *E, Value *v, Span at) {
  if (v->kind != V_TENSOR || v->t.rank < 2)
    diag_fail(E->d, S_RANK, user_span(E, at), "predict stacks rows, and a batch gives %s", v_type_text(E, v));
  Dim dim[TG_MAX_RANK];
  int rank = v->t.rank - 1;
  for (int a = 1; a < rank; a++) dim[a] = v->t.dim[a + 1];
  dim[0] = dim_of(v->t.dim[0].n * v->t.dim[1].n);
  return view_reshape(E, v, rank, dim, at);
}

/* _merge_rows(head, rest): [batches, rows, ...] leaves as [batches * rows, ...], and those of rest after them. */
static Value *b_merge_rows(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value **x, **y = NULL;
  Span two[2] = {c->span, c->span};
  int n = v_leaves(E, b[0], &x);
  if (b[1]->kind != V_NONE) v_leaves(E, b[1], &y);
  for (int k = 0; k < n; k++) {
    x[k] = merged(E, x[k], c->span);
    if (y) x[k] = join_concat(E, 2, (Value *[]){x[k], merged(E, y[k], c->span)}, 0, two, c->span);
  }
  return v_with_leaves(E, b[0], x);
}

/* ---- effects of a step ------------------------------------------------------------------------------------------- */

static Node *native_node(Elab *E, const char *native, int nattr, const Attr *attr, int narg, Node *const *arg, int nres,
                         const TensorType *res, Span at) {
  const Native *fn = natives_find(E->natives, native);
  if (!fn) bug("no native `%s`", native);
  E->g->span = user_span(E, at);
  return nd_call(E->g, fn, nattr, attr, narg, arg, nres, res);
}

static Node *effect_node(Elab *E, const char *native, int nattr, const Attr *attr, int narg, Node *const *arg, int nres,
                         const TensorType *res, Span at) {
  effect_allowed(E, "training", user_span(E, at));
  Node *n = native_node(E, native, nattr, attr, narg, arg, nres, res, at);
  if (!E->trial) vec_push(E->a, &E->effect, n);
  return n;
}

static Node *scalar_arg(Elab *E, Value *v, DType t, Span at) {
  Value *x = tv_cast(E, v, t, at);
  if (x->kind != V_TENSOR || x->t.rank)
    diag_fail(E->d, T_TYPE, user_span(E, at), "this is a scalar, not %s", v_type_text(E, v));
  return tv_closed(E, x);
}

/* Is no element nan or inf? Rank-0 bool over the float leaves of v. */
static Value *all_finite(Elab *E, Value *v, Span at) {
  Value **leaf, *all = v_bool(E, true);
  int n = v_leaves(E, v, &leaf);
  Span two[2] = {at, at};
  for (int k = 0; k < n; k++) {
    if (leaf[k]->kind != V_TENSOR || !dt_is_float(leaf[k]->t.dtype)) continue;
    Value *f = leaf[k];
    if (f->t.rank) { /* the largest magnitude: nan wins */
      Value *mag = tv_elementwise(E, OP_ABS, 1, &f, two, at);
      f = reduce_lead(E, RED_MAX, false, mag, mag->t.rank, NULL, at);
    }
    Value *ok = tv_elementwise(E, OP_ISFINITE, 1, &f, two, at);
    all = tv_elementwise(E, OP_AND, 2, (Value *[]){all, ok}, two, at);
  }
  return all;
}

/* _finite(loss, gradient, epoch, step): the commit point of a step: a run-time error when a number is nan or inf. */
static Value *b_finite(Elab *E, const Builtin *self, Call *c, Value **b) {
  Span at = c->span;
  Node *arg[5] = {scalar_arg(E, all_finite(E, b[0], at), DT_BOOL, at),
                  scalar_arg(E, all_finite(E, b[1], at), DT_BOOL, at), scalar_arg(E, b[0], DT_F32, at),
                  scalar_arg(E, b[2], DT_I64, at), scalar_arg(E, b[3], DT_I64, at)};
  effect_node(E, "fit_finite", 0, NULL, 5, arg, 0, NULL, at);
  return v_none(E);
}

static Attr int_attr(int64_t i) { return (Attr){.i = i, .f = (double)i}; }

/* _begin(epochs, steps, batches): progress starts; each -1 where unknown. */
static Value *b_begin(Elab *E, const Builtin *self, Call *c, Value **b) {
  Attr a[3];
  for (int k = 0; k < 3; k++) a[k] = int_attr(v_static_int(E, b[k], c->span, "a count"));
  effect_node(E, "fit_begin", 3, a, 0, NULL, 0, NULL, c->span);
  return v_none(E);
}

/* _step(epoch, at, step, loss, rows): shows it; gives true, or false after Ctrl-C: the fit is to end here. */
static Value *b_step(Elab *E, const Builtin *self, Call *c, Value **b) {
  Node *arg[5];
  for (int k = 0; k < 5; k++) arg[k] = scalar_arg(E, b[k], k == 3 ? DT_F32 : DT_I64, c->span);
  TensorType t = {DT_BOOL, 0, NULL};
  Node *n = effect_node(E, "fit_step", 0, NULL, 5, arg, 1, &t, c->span);
  return v_node(E, nd_get(E->g, n, 0));
}

/* _epoch(epoch, values): the line of an epoch. values: a record of scalars. */
static Value *b_epoch(Elab *E, const Builtin *self, Call *c, Value **b) {
  const Value *rec = b[1];
  Node **arg = arena_array(E->a, Node *, 1 + rec->agg.n);
  Attr *a = arena_array(E->a, Attr, rec->agg.n);
  int n = 0;
  arg[0] = scalar_arg(E, b[0], DT_I64, c->span);
  for (int k = 0; k < rec->agg.n; k++) {
    if (rec->agg.at[k]->kind == V_TENSOR && rec->agg.at[k]->t.rank) continue;
    a[n] = (Attr){.s = rec->agg.key[k]};
    arg[++n] = scalar_arg(E, rec->agg.at[k], DT_F32, c->span);
  }
  effect_node(E, "fit_epoch", n, a, 1 + n, arg, 0, NULL, c->span);
  return v_none(E);
}

/* _end(step): progress ends. Ctrl-C stops the program again. */
static Value *b_end(Elab *E, const Builtin *self, Call *c, Value **b) {
  Node *arg = scalar_arg(E, b[0], DT_I64, c->span);
  effect_node(E, "fit_end", 0, NULL, 1, &arg, 0, NULL, c->span);
  return v_none(E);
}

/* _untrained(): is fit to give its net as it is? */
static Value *b_untrained(Elab *E, const Builtin *self, Call *c, Value **b) {
  return v_bool(E, E->session->opt.no_fit);
}

/* _unfitted(history): of the same types, with the values of a fit that was left out. */
static Value *b_unfitted(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value **leaf;
  int n = v_leaves(E, b[0], &leaf);
  TensorType *type = arena_array(E->a, TensorType, n);
  for (int k = 0; k < n; k++) {
    int64_t *dim = arena_array(E->a, int64_t, leaf[k]->t.rank);
    for (int d = 0; d < leaf[k]->t.rank; d++) dim[d] = leaf[k]->t.dim[d].n;
    type[k] = (TensorType){DT_F32, leaf[k]->t.rank, dim};
  }
  Node *call = native_node(E, "fit_unfitted", 0, NULL, 0, NULL, n, type, c->span);
  for (int k = 0; k < n; k++) leaf[k] = v_node(E, nd_get(E->g, call, k));
  return v_with_leaves(E, b[0], leaf);
}

const Builtin builtins_fit[] = {{"_with_fields", "f, net, row, what", b_with_fields, "", 0},
                                {"_metrics", "metrics, net, row", b_metrics, "", 0},
                                {"_metric_zeros", "metrics, net, data", b_metric_zeros, "", 0},
                                {"_mean", "total, rows", b_mean, "", 0},
                                {"_named", "prefix, v, otherwise", b_named, "", 0},
                                {"_rows", "batch", b_rows, "", 0},
                                {"_from", "data, k", b_from, "", 0},
                                {"_endless", "data", b_endless, "", 0},
                                {"_untrained", "", b_untrained, "", 0},
                                {"_unfitted", "history", b_unfitted, "", 0},
                                {"_shape_of", "data", b_shape_of, "", 0},
                                {"_is", "v, kind", b_is, "", 0},
                                {"_fail", "message, help=", b_fail, "", 0},
                                {"_check_optimiser", "o", b_check_optimiser, "", 0},
                                {"_text", "v", b_text, "", 0},
                                {"_has_model", "v", b_has_model, "", 0},
                                {"_mode", "v, training", b_mode, "", 0},
                                {"_first", "v", b_first, "", 0},
                                {"_map2", "f, a, b", b_map2, "", 0},
                                {"_apply", "f, row", b_apply, "", 0},
                                {"_merge_rows", "head, rest", b_merge_rows, "", 0},
                                {"_finite", "loss, gradient, epoch, step", b_finite, "", 0},
                                {"_begin", "epochs, steps, batches", b_begin, "", 0},
                                {"_step", "epoch, at, step, loss, rows", b_step, "", 0},
                                {"_epoch", "epoch, values", b_epoch, "", 0},
                                {"_end", "step", b_end, "", 0},
                                {0}};
