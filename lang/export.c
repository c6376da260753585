/* Exports: a definition elaborated on INPUT nodes of its annotated types (export.h). */
#include "lang/export.h"
#include "lang/model.h"
#include <string.h>

typedef struct Make {
  int which;
  int64_t batch;
  Export *out;
  VEC(ExportTensor) in, result;
  Ast *def;
  Name open; /* the run-time size */
} Make;

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
              type->name);
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
  if (v->kind == V_TUPLE || v->kind == V_RECORD) {
    for (int k = 0; k < v->agg.n; k++) {
      const char *key = v->kind == V_RECORD ? v->agg.key[k] : arena_printf(E->a, "%d", k);
      bool top = v->kind == V_RECORD && !strcmp(name, "out");
      result_of(E, m, v->agg.at[k], top ? key : arena_printf(E->a, "%s_%s", name, key), at);
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
  j->ok = elab_guarded(E, elaborate, &j->m);
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
  return j.ok;
}

typedef struct Named {
  Session *s;
  const Node *n;
  const char *name;
} Named;

static bool is_load_of(const Value *v, const Node *n) { return v->kind == V_TENSOR && v->t.e->kind == EX_LOAD && v->t.e->node == n; }

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
