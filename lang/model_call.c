/* Members and calls of models: what names mean in a method, fields, modes, `net(x)`. */
#include "lang/model.h"
#include "lang/space.h"
#include <string.h>

const char *model_label(Elab *E, const ModelV *m) {
  enum { LONGEST = 80 };
  size_t n = strlen(m->path);
  if (n > LONGEST) return arena_printf(E->a, "...%s", m->path + n - LONGEST);
  return n ? m->path : m->def->name;
}

/* The arguments that are static and not the defaults: "Dense(784, 10)". */
static char *signature(Elab *E, const ModelV *m) {
  const Ast *def = m->def->ast;
  char *s = arena_strdup(E->a, m->def->name);
  bool some = false, skipped = false;
  for (int k = 0; k < m->n && k < def->nkid && m->at[k].kind == MEM_ARG; k++) {
    const Value *v = m->at[k].v;
    const Ast *p = def->kid[k];
    int64_t i;
    char *text = NULL;
    if (v_is_static_int(v, &i))
      text = p->a && p->a->kind == AST_INT && p->a->ival == i ? NULL : arena_printf(E->a, "%lld", (long long)i);
    else if (v->kind == V_NUM)
      text = p->a && p->a->kind == AST_FLOAT && p->a->fval == v->num.f ? NULL : num_text(E->a, v->num.f);
    else if (v->kind == V_BOOL)
      text = p->a && p->a->kind == (v->b ? AST_TRUE : AST_FALSE) ? NULL : arena_strdup(E->a, v->b ? "true" : "false");
    if (!text) {
      skipped = true;
      continue;
    }
    const char *name = skipped ? arena_printf(E->a, "%s = ", p->name) : "";
    s = arena_printf(E->a, "%s%s%s%s", s, some ? ", " : "(", name, text);
    some = true;
  }
  return some ? arena_printf(E->a, "%s)", s) : s;
}

char *model_text(Elab *E, const ModelV *m) {
  if (m->hole) return arena_printf(E->a, "a model %s with an unknown size", m->def->name);
  char *s = signature(E, m);
  if (m->bare) s = arena_printf(E->a, "the parameters of %s", s);
  if (!m->lead && m->bare) return s;
  if (!m->lead) return arena_printf(E->a, "a model %s", s);
  char *n = arena_strdup(E->a, "");
  for (int k = 0; k < m->lead; k++) n = arena_printf(E->a, "%s%lld x ", n, (long long)m->dim[k].n);
  return arena_printf(E->a, "a stack of %s%s", n, s);
}

/* ---- what names mean ------------------------------------------------------------------------------------------- */

static Value *fresh_copy(Elab *E, Value *v, const void *id) {
  if (v->kind != V_TENSOR) return v;
  Value *r = arena_copy(E->a, v, sizeof *v);
  r->t.id = id;
  return r;
}

static Value *member_value(Elab *E, const Member *x, const Env *env) {
  switch (x->kind) {
  case MEM_PARAM:
    return fresh_copy(E, x->v, x->id);
  case MEM_STATE:
    return x->v->kind == V_NONE ? x->v : fresh_copy(E, next_value(E, x->id, x->v), x->id);
  case MEM_DERIVED: {
    Stream s = E->stream;
    E->stream = x->stream;
    Value *v = elab_expr(E, env, x->ast->b);
    E->stream = s;
    return v;
  }
  default:
    return x->v;
  }
}

static Value *method_value(Elab *E, const ModelV *m, Ast *def, const Env *env) {
  Fun *f = fun_def(E, def, env);
  f->module = m->def->module, f->model = m;
  const char *label = model_label(E, m), *name = def->name;
  char *full = strcmp(name, "apply") ? arena_printf(E->a, "%s.%s", label, name) : arena_strdup(E->a, label);
  f->name = name_of(E->names, full, strlen(full));
  return v_fun(E, f);
}

/* Arguments and the first n members. */
static const Env *members_env(Elab *E, const ModelV *m, int n) {
  const Env *env = fun_env(m->def);
  Module *module = E->module;
  if (m->def->module) E->module = m->def->module;
  for (int k = 0; k < n; k++) {
    const Member *x = &m->at[k];
    Value *v = member_value(E, x, env);
    int64_t size;
    bool dim = x->kind == MEM_ARG || (x->kind == MEM_VALUE && v_is_static_int(v, &size));
    env = dim ? env_bind_sig(E, env, x->name, v, x->span) : env_bind(E, env, x->name, v, x->span);
  }
  E->module = module;
  return env;
}

const Env *model_env(Elab *E, Value *model) {
  const ModelV *m = model->model;
  const Env *env = members_env(E, m, m->n);
  Value **method = arena_array(E->a, Value *, m->nmethod);
  for (int k = 0; k < m->nmethod; k++) {
    method[k] = method_value(E, m, m->method[k], NULL);
    env = env_bind(E, env, m->method[k]->name, method[k], m->method[k]->at);
  }
  env = env_bind(E, env, name_of(E->names, "training", 8), v_bool(E, m->training), m->def->ast->at);
  env = env_bind(E, env, name_of(E->names, "self", 4), model, m->def->ast->at);
  for (int k = 0; k < m->nmethod; k++) method[k]->fun->env = env;
  return env;
}

Ast *model_apply(Elab *E, const ModelV *m) {
  (void)E;
  for (int k = 0; k < m->nmethod; k++)
    if (name_is(m->method[k]->name, "apply")) return m->method[k];
  return NULL;
}

static Value *method_of(Elab *E, Value *model, Ast *def) {
  const Env *env = env_find(model_env(E, model), def->name);
  return env->v;
}

/* ---- fields ---------------------------------------------------------------------------------------------------- */

Value *model_member(Elab *E, Value *model, Name name, Span at) {
  const ModelV *m = model->model;
  for (int k = m->n; k-- > 0;) {
    const Member *x = &m->at[k];
    if (x->name != name) continue;
    if (x->v->kind == V_NONE && m->bare && x->kind != MEM_ARG)
      diag_fail(E->d, T_MODEL, at, "%s holds parameters only, as gradients do: it has no `%s`", model_text(E, m), name);
    if (x->kind == MEM_DERIVED && m->lead)
      diag_fail(E->d, T_MODEL, at, "`%s` is computed from parameters of one model; this is %s", name, model_text(E, m));
    return member_value(E, x, x->kind == MEM_DERIVED ? members_env(E, m, k) : NULL);
  }
  if (name_is(name, "train")) return v_with_mode(E, model, true);
  if (name_is(name, "eval")) return v_with_mode(E, model, false);
  for (int k = 0; k < m->nmethod; k++)
    if (m->method[k]->name == name) {
      if (m->lead || m->hole) return method_value(E, m, m->method[k], NULL); /* its call says why not */
      return method_of(E, model, m->method[k]);
    }
  return NULL;
}

const char *model_suggest(Elab *E, const ModelV *m, Name name) {
  VEC(const char *) all = {0};
  for (int k = 0; k < m->n; k++) vec_push(E->a, &all, m->at[k].name);
  for (int k = 0; k < m->nmethod; k++) vec_push(E->a, &all, m->method[k]->name);
  vec_push(E->a, &all, "train");
  vec_push(E->a, &all, "eval");
  return closest_name(name, all.n, all.at);
}

/* ---- calls ----------------------------------------------------------------------------------------------------- */

Value *model_call(Elab *E, Value *model, Call *c) {
  ModelV *m = model->model;
  if (m->lead) {
    Diag *g = diag_add(E->d, T_MODEL, c->span, "%s is called; one of its models is wanted", model_text(E, m));
    diag_help(E->d, g, "fold x = x for b in stack { b(x) } runs them in turn; stack[0] is the first");
    elab_fail(E, g);
  }
  if (m->hole) model = v_with_mode(E, hole_solve(E, m->hole, c), m->training), m = model->model;
  Ast *apply = model_apply(E, m);
  if (!apply) {
    Diag *g = diag_add(E->d, T_MODEL, c->span, "%s has no method `apply`, so it cannot be called", model_text(E, m));
    diag_note(E->d, g, m->def->ast->at, "`%s` is defined here", m->def->name);
    if (m->nmethod) diag_help(E->d, g, "it has the method `%s`", m->method[0]->name);
    elab_fail(E, g);
  }
  return call_value(E, method_of(E, model, apply), c);
}
