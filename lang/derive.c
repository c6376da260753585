/* Derivatives of functions: grad, value_grad, vjp, jvp, jacobian, hessian, custom_grad.
 *
 * The first argument's float leaves are replaced by stand-in PARAMs, f is elaborated on them, autodiff (through the
 * hooks) makes the derivative's graph, and graph_rewrite puts the actual arguments in. A stand-in, not the argument
 * itself: what f captures of the same tensor is a constant to it.
 *
 * Inside comprehensions stand-ins have the free indices as leading axes: row i of the result then depends on row i of
 * the stand-in alone, so one adjoint of all rows is the rows' adjoints. Which indices is found by elaborating f until
 * its result has no others. jacobian adds indices of its own, one for each axis of the result, and takes one-hot
 * cotangents. */
#include "lang/builtin.h"
#include "lang/model.h"
#include "lang/space.h"
#include <string.h>

typedef struct Trace {
  Elab *E;
  Value *f;
  Call call; /* arguments; the first is replaced */
  Value *x;  /* the first argument, hardened */
  int nleaf, nx;
  Value **leaf; /* of x */
  int *slot;    /* leaf -> stand-in, or -1 */
  Node **param, **actual;
  int nfree;
  Index *free[TG_MAX_RANK];
  bool track;       /* collect the next values of states */
  Value *in;        /* the first argument as f saw it */
  Value *y;         /* f's result on the stand-ins */
  int effects;      /* E->effect.n before */
  const Next *next; /* E->next before */
} Trace;

static const char *fun_name(const Value *f) { return f->kind == V_FUN && f->fun->name ? f->fun->name : "the function"; }

/* The differentiable form of a leaf: numbers and literal lists become floats of the dtype of the others, or f32. */
static Value *float_leaf(Elab *E, Value *v, DType t, Span at) {
  if (v->kind == V_NUM || (v->kind == V_TENSOR && v->t.weak)) return tv_cast(E, v, t, at);
  return v;
}

static bool is_float_tensor(const Value *v) { return v->kind == V_TENSOR && dt_is_float(v->t.dtype); }

static void trace_begin(Trace *t, Elab *E, Value *f, const Call *c, const char *what) {
  *t = (Trace){.E = E, .f = f, .call = *c, .next = E->next};
  if (c->n == 0)
    diag_fail(E->d, T_ARGS, c->span, "%s(f) takes f's arguments; the first is the one that it differentiates by", what);
  t->call.arg = arena_copy(E->a, c->arg, sizeof *c->arg * (size_t)c->n);
  t->call.fname = fun_name(f);
  Span at = c->arg[0].span;
  Value *x = c->arg[0].v;
  if (x->kind == V_RANGE) x = tv_harden(E, x, at);
  LeafKind *kind;
  t->nleaf = v_leaves(E, x, &t->leaf);
  v_leaf_kinds(E, x, &kind);
  t->slot = arena_array(E->a, int, t->nleaf);
  DType flt = DT_F32;
  for (int k = t->nleaf; k-- > 0;)
    if (t->leaf[k]->kind == V_TENSOR && !t->leaf[k]->t.weak && dt_is_float(t->leaf[k]->t.dtype))
      flt = t->leaf[k]->t.dtype;
  for (int k = 0; k < t->nleaf; k++) {
    if (kind[k] == LEAF_PLAIN) t->leaf[k] = float_leaf(E, t->leaf[k], flt, at);
    bool by = kind[k] == LEAF_PARAM || kind[k] == LEAF_PLAIN;
    t->slot[k] = by && is_float_tensor(t->leaf[k]) ? t->nx++ : -1;
    t->nfree = free_union(E, t->leaf[k], t->nfree, t->free);
  }
  if (t->nx == 0) {
    Diag *g = diag_add(E->d, T_TYPE, at, "%s differentiates by floats; the first argument is %s", what,
                       v_type_text(E, c->arg[0].v));
    if (c->arg[0].v->kind == V_TENSOR) diag_help(E->d, g, "f32(...) converts it");
    elab_fail(E, g);
  }
  t->x = v_with_leaves(E, x, t->leaf);
  t->param = arena_array(E->a, Node *, t->nx), t->actual = arena_array(E->a, Node *, t->nx);
}

/* Elaborates f on stand-ins over t->free and `fresh` more indices (already pushed, in t->free too). */
static void trace_once(Trace *t) {
  Elab *E = t->E;
  Value **at = arena_array(E->a, Value *, t->nleaf);
  E->g->span = t->call.span;
  t->effects = E->effect.n;
  for (int k = 0; k < t->nleaf; k++) {
    at[k] = t->leaf[k];
    if (t->slot[k] < 0) continue;
    Node *a = node_over(E, t->leaf[k], t->nfree, t->free);
    t->actual[t->slot[k]] = a;
    t->param[t->slot[k]] = nd_param(E->g, (DType)a->dtype, a->rank, a->dim, "x");
    at[k] = load_over(E, t->param[t->slot[k]], t->nfree, t->free, t->leaf[k]->t.dim);
  }
  t->in = v_with_leaves(E, t->x, at);
  if (t->track) t->in = next_track(E, t->in);
  t->call.arg[0].v = t->in;
  E->deriving++;
  t->y = call_value(E, t->f, &t->call);
  E->deriving--;
}

/* The value that is differentiated: f's result, or the first item when it is a tuple. */
static Value *target_of(const Trace *t) { return t->y->kind == V_TUPLE && t->y->agg.n ? t->y->agg.at[0] : t->y; }

/* Traces until the stand-ins have every index that `target` of the result depends on. Extra values' indices count too.
 */
static void trace(Trace *t, bool whole, Value *with) {
  Elab *E = t->E;
  if (with) t->nfree = free_union(E, with, t->nfree, t->free);
  for (;;) {
    Elab saved = *E;
    trace_once(t);
    int n = t->nfree;
    t->nfree = free_union(E, whole ? t->y : target_of(t), t->nfree, t->free);
    if (t->nfree == n) return;
    *E = saved;
  }
}

/* Puts the actual arguments in: into nodes, into the values' leaves, and into the effects of f. */
static Value *trace_put(Trace *t, int n, Node **node, Value *v) {
  Elab *E = t->E;
  Value **leaf;
  int m = v ? v_leaves(E, v, &leaf) : 0, neff = E->effect.n - t->effects, nroot = 0;
  Node **root = arena_array(E->a, Node *, n + m + neff);
  struct {
    int nfree;
    Index *free[TG_MAX_RANK];
    int root;
  } *at = arena_alloc(E->a, sizeof *at * (size_t)(m ? m : 1));
  for (int k = 0; k < n; k++) root[nroot++] = node[k];
  for (int k = 0; k < m; k++) {
    at[k].root = -1;
    if (leaf[k]->kind != V_TENSOR) continue;
    leaf[k] = tv_harden(E, leaf[k], t->call.span);
    at[k].root = nroot;
    root[nroot++] = tv_node(E, leaf[k], &at[k].nfree, at[k].free);
  }
  for (int k = 0; k < neff; k++) root[nroot++] = E->effect.at[t->effects + k];
  graph_rewrite(E->g, t->nx, t->param, t->actual, nroot, root);
  memcpy(node, root, sizeof *node * (size_t)n);
  for (int k = 0; k < neff; k++) E->effect.at[t->effects + k] = root[nroot - neff + k];
  if (!v) return NULL;
  for (int k = 0; k < m; k++)
    if (at[k].root >= 0) leaf[k] = load_over(E, root[at[k].root], at[k].nfree, at[k].free, leaf[k]->t.dim);
  return v_with_leaves(E, v, leaf);
}

/* The same; and the next values that f gave to states of models around it. */
static Value *trace_end(Trace *t, int n, Node **node, Value *v) {
  Elab *E = t->E;
  Change *change;
  int m = next_changes(E, t->next, &change);
  if (!m) {
    E->next = t->next;
    return trace_put(t, n, node, v);
  }
  Value **item = arena_array(E->a, Value *, m + 1);
  item[0] = v ? v : v_none(E);
  for (int k = 0; k < m; k++) item[k + 1] = change[k].v;
  Value *all = trace_put(t, n, node, v_tuple(E, m + 1, item));
  E->next = t->next;
  for (int k = 0; k < m; k++) next_write(E, change[k].id, all->agg.at[k + 1]);
  return v ? all->agg.at[0] : NULL;
}

static Value *zero_leaf(Elab *E, Value *v) {
  if (v->kind != V_TENSOR) return v->kind == V_BOOL ? v_bool(E, false) : v_int(E, 0, NULL);
  return v_tensor(E, v->t.dtype, v->t.rank, v->t.dim, ex_zero(E, v->t.dtype));
}

/* x's structure with derivatives dx[slot] in the place of its float leaves. */
static Value *gradient(Trace *t, Node *const *dx) {
  Elab *E = t->E;
  Value **at = arena_array(E->a, Value *, t->nleaf);
  for (int k = 0; k < t->nleaf; k++)
    at[k] =
        t->slot[k] < 0 ? zero_leaf(E, t->leaf[k]) : load_over(E, dx[t->slot[k]], t->nfree, t->free, t->leaf[k]->t.dim);
  return v_bare(E, v_with_leaves(E, t->x, at));
}

static Node *ones(Elab *E, const Node *like) {
  Expr *one = ex_num(E->g, (DType)like->dtype, 1);
  return like->rank ? nd_comp(E->g, like->rank, 0, like->dim, RED_NONE, one, NULL) : nd_scalar(E->g, one);
}

/* ---- grad, value_grad -------------------------------------------------------------------------------------------- */

static Value *call_grad(Elab *E, Fun *self, Call *c) {
  bool with_value = strcmp(self->name, "value_grad") == 0;
  Trace t;
  trace_begin(&t, E, self->data[0], c, self->name);
  t.track = with_value && v_has_model(t.x);
  trace(&t, false, NULL);
  Value *y = target_of(&t);
  if (y->kind == V_NUM) y = tv_cast(E, y, DT_F32, c->span);
  if (!is_float_tensor(y) || y->t.rank) {
    Diag *g = diag_add(E->d, T_TYPE, c->span, "%s needs a function that gives one float; `%s` gives %s", self->name,
                       fun_name(t.f), v_type_text(E, target_of(&t)));
    if (is_float_tensor(y)) diag_help(E->d, g, "reduce the result, as in sum(...) or mean(...), or use jacobian(f)");
    elab_fail(E, g);
  }
  Node **dx = arena_array(E->a, Node *, t.nx);
  if (E->trial)
    memcpy(dx, t.param, sizeof *dx * (size_t)t.nx); /* shapes are all that matters */
  else {
    Node *yn = node_over(E, y, t.nfree, t.free), *ct = ones(E, yn);
    E->hooks->vjp(E->g, E->natives, 1, &yn, &ct, t.nx, t.param, dx);
  }
  Value *next = t.track ? next_values(E, t.in) : v_none(E), *both = v_tuple(E, 2, (Value *[]){t.y, next});
  both = trace_end(&t, t.nx, dx, with_value ? both : NULL);
  Value *g = gradient(&t, dx);
  if (!with_value) return g;
  if (!t.track) return v_tuple(E, 2, (Value *[]){both->agg.at[0], g});
  return v_tuple(E, 3, (Value *[]){both->agg.at[0], g, next_state(E, t.x, both->agg.at[1])});
}

/* ---- vjp, jvp ---------------------------------------------------------------------------------------------------- */

/* The last argument of a call, taken off it: a cotangent or tangent. */
static Value *last_arg(Elab *E, Call *c, const char *name, const char *what, Span *at) {
  if (c->n < 2 || c->arg[c->n - 1].name)
    diag_fail(E->d, T_ARGS, c->span, "%s(f) takes f's arguments and then %s", name, what);
  *at = c->arg[c->n - 1].span;
  return c->arg[--c->n].v;
}

/* Leaves of v as nodes of the types of like's float leaves, over the trace's indices. */
static Node **matching_nodes(Trace *t, Value *v, Value *like, const char *what, Span at) {
  Elab *E = t->E;
  Value **a, **b;
  int n = v_leaves(E, like, &a), m = 0;
  if (!same_structure(like, v) || v_leaves(E, v, &b) != n)
    diag_fail(E->d, T_TYPE, at, "%s is %s, but it must be like %s", what, v_type_text(E, v), v_type_text(E, like));
  Node **out = arena_array(E->a, Node *, n);
  for (int k = 0; k < n; k++) {
    if (!is_float_tensor(a[k])) continue;
    TensorV *w = &a[k]->t;
    Value *x = tv_cast(E, b[k], w->dtype, at);
    bool ok = x->t.rank == w->rank;
    for (int d = 0; d < w->rank && ok; d++) ok = x->t.dim[d].n == w->dim[d].n || x->t.dim[d].n < 0 || w->dim[d].n < 0;
    if (!ok)
      diag_fail(E->d, S_MISMATCH, at, "%s is %s, but it must be like %s", what, v_type_text(E, x),
                v_type_text(E, a[k]));
    out[m++] = node_over(E, x, t->nfree, t->free);
  }
  return out;
}

static Value *harden_all(Elab *E, Value *v, Span at) {
  Value **leaf;
  int n = v_leaves(E, v, &leaf);
  for (int k = 0; k < n; k++)
    if (leaf[k]->kind == V_TENSOR) leaf[k] = tv_harden(E, leaf[k], at);
  return v_with_leaves(E, v, leaf);
}

static Value *call_vjp(Elab *E, Fun *self, Call *call) {
  Call c = *call;
  Span at;
  Value *ct = last_arg(E, &c, "vjp", "a cotangent like f's result", &at);
  Trace t;
  trace_begin(&t, E, self->data[0], &c, "vjp");
  trace(&t, true, ct);
  Value *y = harden_all(E, t.y, c.span), **leaf;
  int n = v_leaves(E, y, &leaf), ny = 0;
  Node **ctn = matching_nodes(&t, ct, y, "the cotangent", at), **yn = arena_array(E->a, Node *, n),
       **dx = arena_array(E->a, Node *, t.nx);
  for (int k = 0; k < n; k++)
    if (is_float_tensor(leaf[k])) yn[ny++] = node_over(E, leaf[k], t.nfree, t.free);
  if (E->trial)
    memcpy(dx, t.param, sizeof *dx * (size_t)t.nx);
  else
    E->hooks->vjp(E->g, E->natives, ny, yn, ctn, t.nx, t.param, dx);
  Value *value = trace_end(&t, t.nx, dx, y);
  return v_tuple(E, 2, (Value *[]){value, gradient(&t, dx)});
}

static Value *call_jvp(Elab *E, Fun *self, Call *call) {
  Call c = *call;
  Span at;
  Value *tangent = last_arg(E, &c, "jvp", "a tangent like its first argument", &at);
  Trace t;
  trace_begin(&t, E, self->data[0], &c, "jvp");
  trace(&t, true, tangent);
  Value *y = harden_all(E, t.y, c.span), **leaf;
  int n = v_leaves(E, y, &leaf), ny = 0;
  Node **tx = matching_nodes(&t, v_bare(E, tangent), v_bare(E, t.x), "the tangent", at),
       **yn = arena_array(E->a, Node *, n), **ty = arena_array(E->a, Node *, n);
  for (int k = 0; k < n; k++)
    if (is_float_tensor(leaf[k])) yn[ny++] = node_over(E, leaf[k], t.nfree, t.free);
  if (E->trial)
    memcpy(ty, yn, sizeof *ty * (size_t)ny);
  else
    E->hooks->jvp(E->g, E->natives, t.nx, t.param, tx, ny, yn, ty);
  Value *value = trace_end(&t, ny, ty, y), **dy = arena_array(E->a, Value *, n);
  for (int k = 0, j = 0; k < n; k++)
    dy[k] = is_float_tensor(leaf[k]) ? load_over(E, ty[j++], t.nfree, t.free, leaf[k]->t.dim) : zero_leaf(E, leaf[k]);
  return v_tuple(E, 2, (Value *[]){value, v_with_leaves(E, y, dy)});
}

/* ---- jacobian, hessian ------------------------------------------------------------------------------------------- */

/* The jacobian of float leaf `which` of f's result: x's structure, each leaf with the result leaf's axes in front. */
static Value *jacobian_leaf(Elab *E, Value *f, const Call *c, int which, const TensorV *like, const Trace *first) {
  Trace t;
  trace_begin(&t, E, f, c, "jacobian");
  t.nfree = first->nfree;
  memcpy(t.free, first->free, sizeof t.free);
  int outer = t.nfree, r = like->rank;
  Index *index = E->index;
  if (outer + r > TG_MAX_RANK)
    diag_fail(E->d, S_RANK, c->span, "more than %d indices and axes meet in one value", TG_MAX_RANK);
  for (int k = 0; k < r; k++)
    t.free[t.nfree++] = index_push(E, NULL, c->span, like->dim[k].n, 0, like->dim[k].from, like->dim[k].sym);
  trace_once(&t);
  Value **leaf;
  v_leaves(E, t.y, &leaf);
  Node *yn = node_over(E, tv_harden(E, leaf[which], c->span), t.nfree, t.free);
  Expr *on = NULL;
  for (int k = 0; k < r; k++)
    on = ex_and(E->g, on, ex_op2(E->g, OP_EQ, ex_iter(E->g, outer + k), ex_iter(E->g, t.nfree + k)));
  Expr *one = ex_num(E->g, (DType)yn->dtype, 1),
       *hot = on ? ex_select(E->g, on, one, ex_num(E->g, (DType)yn->dtype, 0)) : one;
  Node *ct = yn->rank ? nd_comp(E->g, yn->rank, 0, yn->dim, RED_NONE, hot, NULL) : nd_scalar(E->g, hot),
       **dx = arena_array(E->a, Node *, t.nx);
  if (E->trial)
    memcpy(dx, t.param, sizeof *dx * (size_t)t.nx);
  else
    E->hooks->vjp(E->g, E->natives, 1, &yn, &ct, t.nx, t.param, dx);
  E->next = t.next; /* `next` has no effect in a jacobian */
  trace_end(&t, t.nx, dx, NULL);
  Value *j = gradient(&t, dx);
  while (E->index != index) j = abstract_index(E, j, E->index, c->span), E->index = E->index->outer;
  return j;
}

static Value *call_jacobian(Elab *E, Fun *self, Call *c) {
  Value *f = self->data[0];
  Elab saved = *E;
  Trace t;
  trace_begin(&t, E, f, c, "jacobian");
  trace(&t, true, NULL);
  Value *y = harden_all(E, t.y, c->span), **leaf;
  int n = v_leaves(E, y, &leaf), some = 0;
  Value **out = arena_array(E->a, Value *, n);
  for (int k = 0; k < n; k++) {
    out[k] = v_none(E);
    if (!is_float_tensor(leaf[k])) continue;
    *E = saved; /* every leaf sees the draws and effects of one call */
    out[k] = jacobian_leaf(E, f, c, k, &leaf[k]->t, &t), some++;
  }
  if (!some)
    diag_fail(E->d, T_TYPE, c->span, "jacobian needs a function that gives floats; `%s` gives %s", fun_name(f),
              v_type_text(E, y));
  if (!v_has_model(y)) return v_with_leaves(E, y, out);
  const char **path; /* a model's parameters are tensors: a record by path */
  v_leaf_paths(E, y, &path);
  Name *key = arena_array(E->a, Name, n);
  some = 0;
  for (int k = 0; k < n; k++)
    if (out[k]->kind != V_NONE) key[some] = name_of(E->names, path[k], strlen(path[k])), out[some++] = out[k];
  return v_record(E, some, key, out);
}

static Fun *derived(Elab *E, const char *name, Value *(*fn)(Elab *, Fun *, Call *), int n, Value **data,
                    const char *doc) {
  Fun *f = arena_new_of(E->a, Fun);
  f->kind = FUN_DERIVED, f->name = name, f->derived = fn, f->ndata = n, f->doc = doc;
  f->data = arena_copy(E->a, data, sizeof *data * (size_t)n);
  return f;
}

static Value *call_hessian(Elab *E, Fun *self, Call *c) {
  Value *g = v_fun(E, derived(E, "grad", call_grad, 1, self->data, NULL));
  Fun j = *self;
  j.data = &g;
  return call_jacobian(E, &j, c);
}

/* ---- custom_grad ------------------------------------------------------------------------------------------------- */

static Value *call_custom(Elab *E, Fun *self, Call *c) {
  Value *f = self->data[0], *back = self->data[1], *args = NULL, **arg = arena_array(E->a, Value *, c->n);
  for (int k = 0; k < c->n; k++) {
    if (c->arg[k].name)
      diag_fail(E->d, T_ARGS, c->arg[k].span, "a function with its own adjoint takes its arguments by position");
    arg[k] = harden_all(E, c->arg[k].v, c->arg[k].span);
  }
  args = v_tuple(E, c->n, arg);
  Call inner = *c;
  inner.arg = arena_copy(E->a, c->arg, sizeof *c->arg * (size_t)c->n), inner.fname = fun_name(f);
  for (int k = 0; k < c->n; k++) inner.arg[k].v = arg[k];
  Value *y = tv_harden(E, call_value(E, f, &inner), c->span);
  if (!is_float_tensor(y))
    diag_fail(E->d, T_TYPE, c->span, "custom_grad needs a function that gives one float tensor; `%s` gives %s",
              fun_name(f), v_type_text(E, y));
  if (E->trial) return y;
  Value **leaf;
  LeafKind *kind;
  int n = v_leaves(E, args, &leaf), nx = 0, nfree = 0, nby = 0;
  v_leaf_kinds(E, args, &kind); /* of models, the parameters have adjoints */
  for (int k = 0; k < n; k++) nby += kind[k] == LEAF_PLAIN || kind[k] == LEAF_PARAM;
  Index *free[TG_MAX_RANK];
  nfree = free_union(E, args, free_union(E, y, 0, free), free);
  Node **node = arena_array(E->a, Node *, n), **param = arena_array(E->a, Node *, n + 2),
       **adj = arena_array(E->a, Node *, n);
  for (;;) {
    Elab saved = *E;
    Value **stand = arena_array(E->a, Value *, n);
    nx = 0;
    for (int k = 0; k < n; k++) {
      stand[k] = leaf[k];
      if (!is_float_tensor(leaf[k]) || (kind[k] != LEAF_PLAIN && kind[k] != LEAF_PARAM)) continue;
      node[nx] = node_over(E, leaf[k], nfree, free);
      param[nx] = nd_param(E->g, (DType)node[nx]->dtype, node[nx]->rank, node[nx]->dim, "arg");
      stand[k] = load_over(E, param[nx++], nfree, free, leaf[k]->t.dim);
    }
    Node *yn = node_over(E, y, nfree, free);
    for (int k = 0; k < 2; k++) param[nx + k] = nd_param(E->g, (DType)yn->dtype, yn->rank, yn->dim, k ? "dy" : "y");
    Value *with = v_with_leaves(E, args, stand), **ba = arena_array(E->a, Value *, c->n + 2);
    memcpy(ba, with->agg.at, sizeof *ba * (size_t)c->n);
    for (int k = 0; k < 2; k++) ba[c->n + k] = load_over(E, param[nx + k], nfree, free, y->t.dim);
    bool allowed = E->effects_allowed;
    const Next *next = E->next;
    E->effects_allowed = false;
    int effects = E->effect.n;
    Value *d = call_simple(E, back, c->n + 2, ba, c->span), **dl;
    E->effects_allowed = allowed, E->effect.n = effects,
    E->next = next; /* assertions on stand-ins have no place to run */
    bool one = c->n == 1 && !(d->kind == V_TUPLE && d->agg.n == 1 && arg[0]->kind != V_TUPLE);
    if (one) d = v_tuple(E, 1, &d);
    d = v_bare(E, d);
    if (!same_structure(v_bare(E, args), d) || v_leaves(E, d, &dl) != nby)
      diag_fail(E->d, T_TYPE, c->span, "the adjoint `%s` gives %s; it must give one adjoint for each argument: like %s",
                fun_name(back), v_type_text(E, d), v_type_text(E, args));
    int before = nfree;
    nfree = free_union(E, d, nfree, free);
    if (nfree != before) {
      *E = saved;
      continue;
    }
    int m = 0;
    for (int k = 0, by = 0; k < n; k++) {
      if (kind[k] != LEAF_PLAIN && kind[k] != LEAF_PARAM) continue;
      Value *adjoint = dl[by++];
      if (!is_float_tensor(leaf[k])) continue;
      TensorV *w = &leaf[k]->t;
      Value *v = tv_cast(E, adjoint, w->dtype, c->span);
      bool ok = v->t.rank == w->rank;
      for (int a = 0; a < w->rank && ok; a++) ok = v->t.dim[a].n == w->dim[a].n;
      if (!ok)
        diag_fail(E->d, S_MISMATCH, c->span, "the adjoint `%s` gives %s for an argument that is %s", fun_name(back),
                  v_type_text(E, v), v_type_text(E, leaf[k]));
      adj[m++] = node_over(E, v, nfree, free);
    }
    E->g->span = c->span;
    return load_over(E, nd_custom(E->g, yn, nx, node, param, adj), nfree, free, y->t.dim);
  }
}

/* ---- the functions that give functions --------------------------------------------------------------------------- */

typedef enum { D_GRAD, D_VALUE_GRAD, D_VJP, D_JVP, D_JACOBIAN, D_HESSIAN, D_CUSTOM } Derive;

static Value *b_derive(Elab *E, const Builtin *self, Call *c, Value **b) {
  static Value *(*const fn[])(Elab *, Fun *, Call *) = {call_grad,     call_grad,    call_vjp,   call_jvp,
                                                        call_jacobian, call_hessian, call_custom};
  int n = self->data == D_CUSTOM ? 2 : 1;
  for (int k = 0; k < n; k++)
    if (b[k]->kind != V_FUN && b[k]->kind != V_MODEL) {
      Diag *g =
          diag_add(E->d, T_TYPE, arg_span(c, b[k]), "%s takes a function, not %s", self->name, v_type_text(E, b[k]));
      if (k == 0 && n == 1) diag_help(E->d, g, "%s(f)(x): the function first, then its arguments", self->name);
      elab_fail(E, g);
    }
  return v_fun(E, derived(E, self->name, fn[self->data], n, b, self->doc));
}

const Builtin builtins_derive[] = {
    {"grad", "f", b_derive,
     "grad(f)(x, ...): the derivative of f by its first argument, with x's structure; f gives one float, or a tuple "
     "whose first item is one",
     D_GRAD},
    {"value_grad", "f", b_derive,
     "y, g = value_grad(f)(x, ...): f's result and grad(f)(x, ...); (l, aux), g when f gives a tuple", D_VALUE_GRAD},
    {"vjp", "f", b_derive, "y, dx = vjp(f)(x, ..., ct): f's result, and the cotangent ct of it carried back to x",
     D_VJP},
    {"jvp", "f", b_derive, "y, dy = jvp(f)(x, ..., t): f's result, and its derivative in the direction t of x", D_JVP},
    {"jacobian", "f", b_derive, "jacobian(f)(x, ...): all derivatives; the result's axes come first, then x's",
     D_JACOBIAN},
    {"hessian", "f", b_derive, "hessian(f)(x, ...): all second derivatives of a function that gives one float",
     D_HESSIAN},
    {"custom_grad", "f, b", b_derive,
     "custom_grad(f, b)(x, ...) is f(x, ...), with the adjoints b(x, ..., y, dy) of its arguments", D_CUSTOM},
    {0}};
