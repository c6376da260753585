/* Exports: a definition elaborated on INPUT nodes of its annotated types (export.h). */
#include "lang/export.h"
#include "lang/model.h"
#include <string.h>

/* A top-level name that exports assign. While an export is elaborated its binding holds `as_input`, so that the export
 * and every definition that it calls read the state as it is when the library is called. */
typedef struct Stated {
  Name name;
  Env *at; /* its binding */
  Value *init, *as_input;
  int first, n; /* its tensors among the session's states */
} Stated;

typedef struct ExportMake {
  int which;
  int64_t batch;
  Export *out;
  VEC(ExportTensor) in, result;
  Ast *def;
  Name open; /* the run-time size */
  VEC(Node *) next;
  VEC(int) next_state;
} ExportMake;
typedef ExportMake Make;

/* The names, kept in the session's arena from session_export_states on. */
struct ExportStates {
  int n;
  Stated at[];
};

static Ast *export_at(Session *s, int i) {
  Ast *file = s->main->file;
  for (int k = 0; file && k < file->nkid; k++)
    if (file->kid[k]->kind == AST_EXPORT && i-- == 0) return file->kid[k]->a;
  return NULL;
}

int session_exports(Session *s) {
  int n = 0;
  while (export_at(s, n)) n++;
  return n;
}

/* ---- states ---------------------------------------------------------------------------------------------------- */

typedef VEC(Ast *) Asts;
static void find_next(Arena *a, Ast *e, Asts *out) {
  if (!e) return;
  if (e->kind == AST_NEXT) vec_push(a, out, e);
  find_next(a, e->a, out), find_next(a, e->b, out), find_next(a, e->c, out);
  for (int k = 0; k < e->nkid; k++) find_next(a, e->kid[k], out);
  for (int k = 0; k < e->nkid2; k++) find_next(a, e->kid2[k], out);
}

static Value *hard_leaf(Elab *E, Value *v, Span at) {
  v = tv_harden(E, v, at);
  if (v->kind == V_TENSOR) return v;
  TensorV *t = v_as_tensor(E, v, at, "a state");
  return v_tensor(E, t->dtype, t->rank, t->dim, t->e);
}

typedef struct States {
  Asts next;
  VEC(ExportState) state;
  VEC(Stated) name;
  bool ok;
} States;

static void state_of(Elab *E, States *s, Ast *e) {
  Module *m = E->session->main;
  for (int k = 0; k < s->name.n; k++)
    if (s->name.at[k].name == e->name) return;
  const Env *b = env_find(m->top, e->name);
  if (!b || !b->v)
    diag_fail(E->d, N_UNKNOWN, e->span,
              "`%s` is not bound at the top level: `next` in an export changes what the library holds", e->name);
  Value **leaf, **input;
  const char **path;
  Stated x = {.name = e->name, .at = (Env *)(uintptr_t)b, .init = b->v, .first = s->state.n};
  x.n = v_leaves(E, b->v, &leaf);
  v_leaf_paths(E, b->v, &path);
  input = arena_array(E->a, Value *, x.n);
  for (int k = 0; k < x.n; k++) {
    Value *v = hard_leaf(E, leaf[k], e->span);
    int64_t dim[TG_MAX_RANK];
    for (int d = 0; d < v->t.rank; d++) dim[d] = v->t.dim[d].n;
    const char *name = *path[k] ? arena_printf(E->a, "%s.%s", e->name, path[k]) : e->name;
    ExportState t = {name, tv_closed(E, v),
                     nd_input(E->g, v->t.dtype, v->t.rank, dim, name, EXPORT_STATE_SLOT + s->state.n)};
    vec_push(E->a, &s->state, t);
    input[k] = v_node(E, t.input);
  }
  if (!x.n)
    diag_fail(E->d, T_EXPORT, e->span, "`%s` holds no tensors that could change: it is %s", e->name,
              v_type_text(E, b->v));
  x.as_input = v_with_leaves(E, b->v, input);
  vec_push(E->a, &s->name, x);
}

static void find_states(Elab *E, void *ctx) {
  States *s = ctx;
  for (int k = 0; k < s->next.n; k++) state_of(E, s, s->next.at[k]);
}

static void run_states(Session *s, void *ctx) {
  States *t = ctx;
  Elab *E = &s->E;
  Ast *def;
  for (int i = 0; (def = export_at(s, i)); i++) find_next(E->a, def->a, &t->next);
  Elab keep = *E;
  E->module = s->main;
  t->ok = elab_guarded(E, find_states, t);
  *E = keep;
  s->stated = arena_alloc(E->a, sizeof *s->stated + sizeof(Stated) * (size_t)t->name.n);
  s->stated->n = t->name.n;
  if (t->name.n) memcpy(s->stated->at, t->name.at, sizeof(Stated) * (size_t)t->name.n);
}

bool session_export_states(Session *s, int *n, ExportState **out) {
  States t = {0};
  session_on_stack(s, run_states, &t);
  *n = t.state.n, *out = t.state.at;
  return t.ok;
}

/* The bindings of all states exchange their values with what is kept beside. */
static void exchange_states(Session *s) {
  for (int k = 0; s->stated && k < s->stated->n; k++) {
    Stated *x = &s->stated->at[k];
    Value *v = x->at->v;
    x->at->v = x->as_input, x->as_input = v;
  }
}

static _Noreturn void fail_next(Elab *E, Ast *e, Value *v, Value *old) {
  Diag *g = diag_add(E->d, T_EXPORT, e->b->span, "the next value of `%s` is %s, but it is %s", e->name,
                     v_type_text(E, v), v_type_text(E, old));
  diag_help(E->d, g, "a state keeps its structure, shapes and dtypes");
  elab_fail(E, g);
}

const Env *export_next(Elab *E, const Env *env, Ast *e) {
  const Env *b = env_find(E->session->main->top, e->name);
  if (!b || !b->v) {
    Diag *g =
        diag_add(E->d, T_MODEL, e->span,
                 "`next` gives a state its next value: of a model, in its methods; of a top-level name, in an export");
    elab_fail(E, g);
  }
  Value *v = elab_expr(E, env, e->b), **leaf, **old;
  int n = v_leaves(E, v, &leaf), m = v_leaves(E, b->v, &old);
  if (n != m || (v->kind != b->v->kind && n != 1)) fail_next(E, e, v, b->v);
  Make *make = E->session->exporting;
  const Stated *x = NULL;
  for (int k = 0; make && k < E->session->stated->n; k++)
    if (E->session->stated->at[k].name == e->name) x = &E->session->stated->at[k];
  for (int k = 0; k < n; k++) {
    Value *to = hard_leaf(E, old[k], e->span), *from = leaf[k];
    bool weak = from->kind != V_TENSOR || from->t.weak;
    if (weak) from = tv_cast(E, hard_leaf(E, from, e->span), to->t.dtype, e->b->span);
    bool same = from->t.dtype == to->t.dtype && from->t.rank == to->t.rank;
    for (int d = 0; same && d < to->t.rank; d++)
      same = from->t.dim[d].n == to->t.dim[d].n || from->t.dim[d].n < 0 || to->t.dim[d].n < 0;
    if (!same) fail_next(E, e, v, b->v);
    if (!x || E->trial) continue;
    Node *const *param;
    if (E->index)
      diag_fail(E->d, T_EXPORT, e->span, "`next %s` stands in a comprehension; it belongs outside", e->name);
    Node *node = tv_closed(E, from);
    if (nd_free_params(node, &param))
      diag_fail(E->d, T_EXPORT, e->span, "`next %s` stands in a loop; it belongs after it", e->name);
    int at = 0;
    while (at < make->next.n && make->next_state.at[at] != x->first + k) at++;
    if (at < make->next.n) {
      make->next.at[at] = node;
    } else {
      vec_push(E->a, &make->next, node);
      vec_push(E->a, &make->next_state, x->first + k);
    }
  }
  return env;
}

/* ---- parameters ------------------------------------------------------------------------------------------------ */

static _Noreturn void fail_dim(Elab *E, Make *m, Ast *dim, const char *why) {
  Diag *g = diag_add(E->d, T_EXPORT, dim->span, "%s", why);
  diag_help(E->d, g, "write numbers: one size may be left open, the first of a tensor, as B in `x: [B, 784]`");
  (void)m;
  elab_fail(E, g);
}

static int64_t dim_value(Elab *E, Make *m, Ast *e, bool first) {
  if (e->kind == AST_INT) return e->ival;
  if (e->kind == AST_ELLIPSIS) fail_dim(E, m, e, "the axes of an exported tensor are fixed");
  if (e->kind == AST_NAME) {
    if (!first) fail_dim(E, m, e, arena_printf(E->a, "the size %s is not known", e->name));
    if (m->open && m->open != e->name)
      fail_dim(E, m, e, arena_printf(E->a, "%s and %s are both left open", m->open, e->name));
    m->open = e->name;
    return m->batch;
  }
  if (e->kind != AST_BINARY) fail_dim(E, m, e, "this size is not a number");
  int64_t x = dim_value(E, m, e->a, false), y = dim_value(E, m, e->b, false), r = 0;
  bool bad = false;
  if (e->op == BIN_ADD)
    bad = __builtin_add_overflow(x, y, &r);
  else if (e->op == BIN_SUB)
    bad = __builtin_sub_overflow(x, y, &r);
  else if (e->op == BIN_MUL)
    bad = __builtin_mul_overflow(x, y, &r);
  else if (e->op == BIN_FLOORDIV && y > 0)
    r = x / y;
  else
    bad = true;
  if (bad || r < 0) fail_dim(E, m, e, "this size is not a number");
  return r;
}

static Value *input_of(Elab *E, Make *m, Ast *type, const char *name);

static Value *input_group(Elab *E, Make *m, Ast *type, const char *name) {
  bool rec = type->kind == AST_TRECORD;
  Value **kid = arena_array(E->a, Value *, type->nkid);
  Name *key = arena_array(E->a, Name, type->nkid);
  for (int k = 0; k < type->nkid; k++) {
    Ast *t = rec ? type->kid[k]->type : type->kid[k];
    key[k] = rec ? type->kid[k]->name : NULL;
    kid[k] = input_of(E, m, t, rec ? arena_printf(E->a, "%s_%s", name, key[k]) : arena_printf(E->a, "%s_%d", name, k));
  }
  return rec ? v_record(E, type->nkid, key, kid) : v_tuple(E, type->nkid, kid);
}

static Value *input_of(Elab *E, Make *m, Ast *type, const char *name) {
  if (type->kind == AST_TTUPLE || type->kind == AST_TRECORD) return input_group(E, m, type, name);
  DType dt = DT_F32;
  if (name_is(type->name, "int"))
    dt = DT_I64;
  else if (type->name && !name_is(type->name, "float") && !dt_by_name(type->name, (int)strlen(type->name), &dt))
    diag_fail(E->d, T_EXPORT, type->span, "a tensor is needed here: an exported function's caller has no `%s`",
              type_text(E, type));
  ExportTensor t = {.name = name, .dtype = dt, .rank = type->nkid};
  Dim dim[TG_MAX_RANK];
  if (t.rank > TG_MAX_RANK) diag_fail(E->d, S_RANK, type->span, "more than %d axes", TG_MAX_RANK);
  for (int d = 0; d < t.rank; d++) {
    t.dim[d] = dim_value(E, m, type->kid[d], d == 0);
    dim[d] = (Dim){.n = t.dim[d]};
  }
  t.batched = t.rank && type->kid[0]->kind == AST_NAME;
  tv_check_size(E, dt, t.rank, dim, type->span);
  t.node = nd_input(E->g, dt, t.rank, t.dim, name, EXPORT_SLOT + m->in.n);
  vec_push(E->a, &m->in, t);
  return v_node(E, t.node);
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static void result_of(Elab *E, Make *m, Value *v, const char *name, Span at) {
  if (!name) bug("export: a result without a name");
  if (v->kind == V_TUPLE || v->kind == V_RECORD) {
    for (int k = 0; k < v->agg.n; k++) {
      const char *part = arena_printf(E->a, "%s_%d", name, k);
      if (v->kind == V_RECORD)
        part = strcmp(name, "out") ? arena_printf(E->a, "%s_%s", name, v->agg.key[k]) : v->agg.key[k];
      result_of(E, m, v->agg.at[k], part, at);
    }
    return;
  }
  if (v->kind == V_MODEL) { /* its leaves */
    Value **leaf;
    int n = v_leaves(E, v, &leaf);
    for (int k = 0; k < n; k++) result_of(E, m, leaf[k], arena_printf(E->a, "%s_%d", name, k), at);
    return;
  }
  if (v->kind != V_TENSOR && v->kind != V_NUM && v->kind != V_BOOL)
    diag_fail(E->d, T_EXPORT, at, "an exported function gives tensors; this one gives %s", v_type_text(E, v));
  v = tv_harden(E, v, at);
  if (v->kind != V_TENSOR) {
    TensorV *t = v_as_tensor(E, v, at, "the result");
    v = v_tensor(E, t->dtype, t->rank, t->dim, t->e);
  }
  ExportTensor t = {.name = name, .dtype = v->t.dtype, .rank = v->t.rank, .node = tv_closed(E, v)};
  for (int d = 0; d < t.rank; d++) t.dim[d] = v->t.dim[d].n;
  vec_push(E->a, &m->result, t);
}

static void elaborate(Elab *E, void *ctx) {
  Make *m = ctx;
  Ast *d = m->def;
  Fun *f = ((Value *)map_get(&E->module->def, d->name))->fun;
  Call c = {.span = d->at, .callee = d->at, .fname = d->name, .arg = arena_array(E->a, Arg, d->nkid)};
  for (int k = 0; k < d->nkid; k++) {
    Ast *p = d->kid[k];
    if (!p->type && p->a) continue; /* its default */
    if (!p->type) {
      Diag *g = diag_add(E->d, T_EXPORT, p->span, "the exported parameter `%s` has no type", p->name);
      diag_help(E->d, g, "%s: [B, 784] is a float tensor of B rows, %s: i32[3] three integers", p->name, p->name);
      elab_fail(E, g);
    }
    c.arg[c.n++] = (Arg){p->name, input_of(E, m, p->type, p->name), p->at};
  }
  Value *v = call_value(E, v_fun(E, f), &c);
  if (E->effect.n)
    diag_fail(E->d, T_EXPORT, d->at, "an exported function cannot print, read or write files: `%s` does", d->name);
  result_of(E, m, v, "out", d->at);
  m->out->signature = fun_signature(E, f);
}

typedef struct Job {
  Make m;
  bool ok;
} Job;

static void run(Session *s, void *ctx) {
  Job *j = ctx;
  Elab *E = &s->E;
  Elab keep = *E; /* nothing of this is kept: effects, draws */
  E->effects_allowed = true, E->effect.n = E->effect.cap = 0, E->effect.at = NULL;
  E->module = s->main;
  exchange_states(s);
  s->exporting = s->stated ? &j->m : NULL;
  j->ok = elab_guarded(E, elaborate, &j->m);
  s->exporting = NULL;
  exchange_states(s);
  *E = keep;
}

bool session_export(Session *s, int i, int64_t batch, Export *out) {
  Ast *def = export_at(s, i);
  if (!def) bug("session_export: no export %d", i);
  *out = (Export){.name = def->name, .doc = def->doc, .span = def->at};
  Job j = {.m = {.which = i, .batch = batch, .out = out, .def = def}};
  session_on_stack(s, run, &j);
  out->batch = j.m.open;
  out->nin = j.m.in.n, out->in = j.m.in.at;
  out->nout = j.m.result.n, out->out = j.m.result.at;
  out->nnext = j.m.next.n, out->next = j.m.next.at, out->next_state = j.m.next_state.at;
  return j.ok;
}

typedef struct Named {
  Session *s;
  const Node *n;
  const char *name;
} Named;

static bool is_load_of(const Value *v, const Node *n) {
  return v->kind == V_TENSOR && v->t.e->kind == EX_LOAD && v->t.e->node == n;
}

static void find_name(Session *s, void *ctx) {
  Named *x = ctx;
  Elab *E = &s->E;
  for (const Env *b = s->main->top; b && !x->name; b = b->up) {
    if (!b->v || !b->name) continue;
    if (is_load_of(b->v, x->n)) x->name = b->name;
    if (b->v->kind != V_TUPLE && b->v->kind != V_RECORD && b->v->kind != V_MODEL) continue;
    Value **leaf;
    const char **path;
    int n = v_leaves(E, b->v, &leaf), m = v_leaf_paths(E, b->v, &path);
    for (int k = 0; k < n && k < m && !x->name; k++)
      if (is_load_of(leaf[k], x->n)) x->name = arena_printf(E->a, "%s.%s", b->name, path[k]);
  }
}

const char *session_tensor_name(Session *s, const Node *n) {
  Named x = {s, n, NULL};
  session_on_stack(s, find_name, &x);
  return x.name;
}
