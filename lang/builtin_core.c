/* Builtins on values of any kind: printing, assertions, static evaluation, lengths, walking together. */
#include "lang/data.h"
#include "lang/fold.h"
#include "lang/model.h"
#include "lang/model.h"
#include <string.h>

/* ---- print, assert --------------------------------------------------------------------------------------------- */

/* print(a, b, ...): one line, values apart by sep; a single tensor as a table. */
static Value *print_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Template t = {0};
  const Value *all = bound[0];
  const char *sep = bound[1] ? v_static_str(E, bound[1], c->span, "sep") : " ";
  for (int k = 0; k < all->agg.n; k++) {
    Value *v = all->agg.at[k];
    if (k) template_text(E, &t, sep, strlen(sep));
    template_value(E, &t, v, NULL, c->arg[k].span, all->agg.n > 1 && v->kind != V_STR);
  }
  template_print(E, &t, c->span);
  return v_none(E);
}

static Value *assert_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Span at = c->arg[0].span;
  TensorV *t = v_as_tensor(E, bound[0], at, "the condition of assert");
  if (t->dtype != DT_BOOL)
    diag_fail(E->d, T_TYPE, at, "the condition of assert must be bool, but it is %s", v_type_text(E, bound[0]));
  Template msg = {0};
  if (bound[1])
    template_value(E, &msg, bound[1], NULL, c->span, false);
  else {
    const Source *s = E->d->source.at[at.file - 1];
    size_t n = at.hi - at.lo;
    template_text(E, &msg, s->text + at.lo, n < 200 ? n : 200);
  }
  vec_push(E->a, &msg.text, 0);
  /* operand 0 is the condition: the message's operands move up by one */
  Node **arg = arena_array(E->a, Node *, msg.arg.n + 1);
  const char *text = msg.text.at;
  if (msg.arg.n) {
    Template up = {0};
    Value *cond = v_tensor(E, DT_BOOL, t->rank, t->dim, t->e), *s = v_str(E, text, strlen(text));
    vec_push(E->a, &up.arg, cond);
    s->str.narg = msg.arg.n, s->str.arg = msg.arg.at;
    template_value(E, &up, s, NULL, c->span, false);
    vec_push(E->a, &up.text, 0);
    text = up.text.at, msg = up;
  } else
    vec_push(E->a, &msg.arg, v_tensor(E, DT_BOOL, t->rank, t->dim, t->e));
  effect_allowed(E, "assert", c->span);
  for (int k = 0; k < msg.arg.n; k++) arg[k] = tv_closed(E, msg.arg.at[k]);
  Attr a = {.s = text};
  effect_call(E, "assert", 1, &a, msg.arg.n, arg, c->span);
  return v_none(E);
}

/* ---- static ---------------------------------------------------------------------------------------------------- */

/* Does anything outside a loop's or adjoint's own body stand for a value that only a run knows? */
static bool has_free_param(Elab *E, int n, Node *const *root) {
  Node **order;
  int count = graph_topo(E->g, n, root, &order);
  VEC(Node *) bound = {0};
  for (int k = 0; k < count; k++) {
    const Node *x = order[k];
    if (x->kind == ND_LOOP) {
      for (int j = 0; j < x->loop.nstate; j++) vec_push(E->a, &bound, x->loop.param[j]);
      if (x->loop.counter) vec_push(E->a, &bound, x->loop.counter);
    }
    if (x->kind == ND_CUSTOM)
      for (int j = 0; j < x->custom.nparam; j++) vec_push(E->a, &bound, x->custom.param[j]);
  }
  for (int k = 0; k < count; k++) {
    bool known = order[k]->kind != ND_PARAM;
    for (int j = 0; j < bound.n && !known; j++) known = bound.at[j] == order[k];
    if (!known) return true;
  }
  return false;
}

static Value *of_tensor(Elab *E, const Tensor *t) {
  if (t->rank == 0 && t->dtype == DT_BOOL) return v_bool(E, dt_get_i(DT_BOOL, t->data, 0) != 0);
  if (t->rank == 0 && t->dtype == DT_I64) return v_int(E, dt_get_i(DT_I64, t->data, 0), NULL);
  if (t->rank == 0) {
    bool flt = dt_is_float(t->dtype);
    return v_scalar(E, flt ? ex_float(E->g, t->dtype, dt_get_f(t->dtype, t->data, 0))
                           : ex_int(E->g, t->dtype, dt_get_i(t->dtype, t->data, 0)));
  }
  return v_node(E, nd_const(E->g, t->dtype, t->rank, t->dim, t->data));
}

static Value *static_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Value **leaf;
  int n = v_leaves(E, bound[0], &leaf), nrun = 0;
  Node **out = arena_array(E->a, Node *, n);
  Value **result = arena_array(E->a, Value *, n);
  int *of = arena_array(E->a, int, n);
  for (int k = 0; k < n; k++) {
    result[k] = leaf[k];
    if (leaf[k]->kind != V_TENSOR || leaf[k]->t.weak) continue;
    if (leaf[k]->t.rank == 0 && leaf[k]->t.e->kind == EX_CONST) continue;
    if (leaf[k]->t.e->nvar)
      diag_fail(E->d, T_STATIC, c->span, "static(...) depends on an index of the comprehension around it");
    Node *node = tv_closed(E, leaf[k]);
    Value *known = map_get(&E->session->computed, (Name)(const void *)node);
    if (known)
      result[k] = known;
    else
      of[nrun] = k, out[nrun++] = node;
  }
  if (nrun == 0) return v_with_leaves(E, bound[0], result);
  if (has_free_param(E, nrun, out)) {
    if (E->checking) diag_unwind(E->d); /* a stand-in: nothing more can be said before a call */
    diag_fail(E->d, T_STATIC, c->span,
              "static(...) depends on the state of a loop or on an argument that is differentiated");
  }
  Region r = {.nout = nrun, .out = out};
  Tensor *t = arena_array(E->a, Tensor, nrun);
  Fault f = {0};
  if (!E->hooks->run(E->hooks->ctx, E->g, &r, t, &f))
    diag_fail(E->d, f.id, f.span.file ? f.span : c->span, "%s", f.msg);
  for (int k = 0; k < nrun; k++) {
    result[of[k]] = of_tensor(E, &t[k]);
    map_put(E->session->opt.arena, &E->session->computed, (Name)(const void *)out[k], result[of[k]]);
    tensor_drop(&t[k]);
  }
  return v_with_leaves(E, bound[0], result);
}

/* ---- lengths and walking together ------------------------------------------------------------------------------ */

static int64_t length_of(Elab *E, Value *v, Span at, const char *what, const Origin **from) {
  *from = NULL;
  switch (v->kind) {
  case V_TUPLE:
  case V_RECORD:
    return v->agg.n;
  case V_DATA:
    return data_len(E, v, at);
  case V_MODEL:
    return model_len(E, v, at, what, from);
  case V_ZIP:
    return length_of(E, v->agg.at[0], at, what, from);
  case V_STR:
    v_static_str(E, v, at, what);
    return (int64_t)v->str.n;
  default: {
    TensorV *t = v_as_tensor(E, v, at, what);
    if (t->rank == 0) diag_fail(E->d, T_TYPE, at, "%s is a scalar: it has no length", what);
    *from = t->dim[0].from;
    return t->dim[0].n;
  }
  }
}

static Value *len_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  const Origin *from;
  int64_t n = length_of(E, bound[0], c->arg[0].span, "the argument of len", &from);
  return v_int(E, n, from);
}

/* Tuples alone give a tuple of tuples; else the iterables stand side by side for a loop or comprehension to walk. */
static Value *zipped(Elab *E, int n, Value **v, const Span *at, Span whole) {
  const Origin *from, *from0 = NULL;
  int64_t len0 = 0;
  bool tuples = n > 0;
  for (int k = 0; k < n; k++) {
    tuples &= v[k]->kind == V_TUPLE;
    int64_t len = length_of(E, v[k], at[k], "what zip walks", &from);
    if (k == 0) len0 = len, from0 = from;
    if (len == len0 || len < 0 || len0 < 0) continue;
    Diag *g = diag_add(E->d, S_MISMATCH, whole, "zip of lengths %lld and %lld", (long long)len0, (long long)len);
    note_origin(E, g, (Dim){.n = len0, .from = from0});
    note_origin(E, g, (Dim){.n = len, .from = from});
    elab_fail(E, g);
  }
  if (!tuples) {
    Value *z = v_tuple(E, n, v);
    z->kind = V_ZIP;
    return z;
  }
  Value **row = arena_array(E->a, Value *, len0), **cell = arena_array(E->a, Value *, n);
  for (int64_t i = 0; i < len0; i++) {
    for (int k = 0; k < n; k++) cell[k] = v[k]->agg.at[i];
    row[i] = v_tuple(E, n, cell);
  }
  return v_tuple(E, (int)len0, row);
}

static Value *zip_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  int n = bound[0]->agg.n;
  if (n == 0) diag_fail(E->d, T_ARGS, c->span, "zip needs something to walk");
  Value *parts = n == 1 ? bound[0]->agg.at[0] : bound[0]; /* zip({x: a, y: b}): rows are records */
  bool sets = parts->kind == V_TUPLE || parts->kind == V_RECORD, some = false;
  for (int k = 0; sets && k < parts->agg.n; k++) some |= parts->agg.at[k]->kind == V_DATA;
  if (some) return data_zipped(E, parts, c->span);
  Span *at = arena_array(E->a, Span, n);
  for (int k = 0; k < n; k++) at[k] = c->arg[k].span;
  return zipped(E, n, bound[0]->agg.at, at, c->span);
}

static Value *enumerate_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  const Origin *from;
  if (bound[0]->kind == V_DATA) return data_enumerated(E, bound[0], c->span);
  Span at[2] = {c->arg[0].span, c->arg[0].span};
  int64_t n = length_of(E, bound[0], at[0], "the argument of enumerate", &from);
  Value *v[2] = {v_range(E, v_int(E, 0, NULL), v_int(E, n, from)), bound[0]};
  if (bound[0]->kind == V_TUPLE) {
    Value **i = arena_array(E->a, Value *, n);
    for (int64_t k = 0; k < n; k++) i[k] = v_int(E, k, NULL);
    v[0] = v_tuple(E, (int)n, i);
  }
  return zipped(E, 2, v, at, c->span);
}

/* ---- structures ------------------------------------------------------------------------------------------------ */

/* _each(f, x): f of every tensor in x, in x's structure; of a model, of its parameters. */
typedef struct Each {
  Value *f;
  Span at;
} Each;
static Value *each_param(Elab *E, void *ctx, int n, Value **arg) {
  const Each *e = ctx;
  return call_simple(E, e->f, n, arg, e->at);
}
static Value *each(Elab *E, Value *x, Each *e) {
  if (x->kind == V_MODEL) return model_arith(E, 1, &x, &e->at, e->at, "_each", each_param, e);
  if (x->kind != V_TUPLE && x->kind != V_RECORD) return call_simple(E, e->f, 1, &x, e->at);
  Value **kid = arena_array(E->a, Value *, x->agg.n);
  for (int k = 0; k < x->agg.n; k++) kid[k] = each(E, x->agg.at[k], e);
  return x->kind == V_TUPLE ? v_tuple(E, x->agg.n, kid) : v_record(E, x->agg.n, x->agg.key, kid);
}
static Value *each_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  return each(E, bound[1], &(Each){bound[0], c->span});
}

static Value *map_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Value *f = bound[0], *x = bound[1];
  if (f->kind != V_FUN && f->kind != V_DTYPE && (x->kind == V_FUN || x->kind == V_DTYPE))
    f = bound[1], x = bound[0]; /* x |> map(f) */
  if (x->kind == V_DATA) return data_map(E, x, f, c->span);
  if (x->kind == V_MODEL) return each(E, x, &(Each){f, c->span});
  if (x->kind != V_TUPLE && x->kind != V_RECORD) {
    Diag *g = diag_add(E->d, T_TYPE, c->span, "map walks tuples, records, models and data sets, but this is %s",
                       v_type_text(E, x));
    if (x->kind == V_TENSOR || x->kind == V_RANGE)
      diag_help(E->d, g, "a comprehension walks a tensor: [f(r) for r in x]");
    elab_fail(E, g);
  }
  Value **kid = arena_array(E->a, Value *, x->agg.n);
  for (int k = 0; k < x->agg.n; k++) kid[k] = call_simple(E, f, 1, &x->agg.at[k], c->span);
  return x->kind == V_TUPLE ? v_tuple(E, x->agg.n, kid) : v_record(E, x->agg.n, x->agg.key, kid);
}

static Value *leaves_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Value **leaf;
  int n = v_leaves(E, bound[0], &leaf);
  return v_tuple(E, n, leaf);
}

const Builtin builtins_core[] = {
    {"print", "*values; sep=\" \"", print_fn,
     "Prints its values on one line, in program order; a single tensor as a table.", 0},
    {"assert", "c, message=", assert_fn, "Stops the program (R002) when c, or some element of it, is false.", 0},
    {"static", "e", static_fn, "Computes e now, during checking, so that sizes may depend on it.", 0},
    {"len", "x", len_fn, "The length of x: its first axis, items, fields, bytes, rows or batches. Static.", 0},
    {"zip", "*xs", zip_fn, "Walks several things of one length together: for (a, b) in zip(x, y).", 0},
    {"enumerate", "x", enumerate_fn, "Walks x with the position: for (i, a) in enumerate(x).", 0},
    {"map", "f, x", map_fn,
     "f of each item of a tuple or record, parameter of a model, or row of a data set: d |> map(r -> ...).", 0},
    {"leaves", "x", leaves_fn, "The tensors in a record or tuple, in order, as a tuple.", 0},
    {"_each", "f, x", each_fn, "", 0},
    {0},
};
