/* Statements: bindings, local definitions, unused values; and hoisted definitions' functions. */
#include "lang/model.h"
#include <string.h>

/* ---- targets --------------------------------------------------------------------------------------------------- */

static const Env *bind_one(Elab *E, const Env *env, Ast *t, Value *v) {
  if (t->name) return name_is(t->name, "_") ? env : env_bind(E, env, t->name, v, t->span);
  return elab_bind(E, env, t->nkid, t->kid, v);
}

/* Item k of n of something that can be taken apart. */
static Value *item(Elab *E, Value *v, int k) {
  if (v->kind == V_TUPLE) return v->agg.at[k];
  return view_index(E, v, 0, ex_int(E->g, DT_I64, k));
}

const Env *elab_bind(Elab *E, const Env *env, int ntarget, Ast **target, Value *v) {
  if (ntarget == 1 && target[0]->name) return bind_one(E, env, target[0], v);
  if (v->kind == V_POISON) diag_unwind(E->d);
  /* one nested target, for (a, b) in ...: it is the whole */
  if (ntarget == 1) return elab_bind(E, env, target[0]->nkid, target[0]->kid, v);
  bool tuple = v->kind == V_TUPLE, rows = v->kind == V_TENSOR && v->t.rank > 0;
  int64_t have = tuple ? v->agg.n : rows ? v->t.dim[0].n : -1;
  if (have != ntarget) {
    Span at = span_join(target[0]->span, target[ntarget - 1]->span);
    if (!tuple && !rows)
      diag_fail(E->d, T_TYPE, at, "%d names take a tuple apart, but this is %s", ntarget, v_type_text(E, v));
    Diag *g = diag_add(E->d, T_TYPE, at, "%d names for %lld values", ntarget, (long long)have);
    diag_note(E->d, g, at, "the value is %s", v_type_text(E, v));
    if (have > ntarget) diag_help(E->d, g, "`_` discards a value");
    elab_fail(E, g);
  }
  for (int k = 0; k < ntarget; k++) env = bind_one(E, env, target[k], item(E, v, k));
  return env;
}

/* ---- definitions ----------------------------------------------------------------------------------------------- */

Fun *fun_def(Elab *E, Ast *def, const Env *env) {
  Fun *f = arena_new_of(E->a, Fun);
  f->kind = FUN_DEF, f->name = def->name, f->ast = def, f->env = env, f->module = E->module, f->doc = def->doc;
  return f;
}

/* A local definition sees itself. */
static const Env *local_def(Elab *E, const Env *env, Ast *e) {
  Fun *f = fun_def(E, e, NULL);
  env = env_bind(E, env, e->name, v_fun(E, f), e->at);
  f->env = env;
  return env;
}

/* Sizes that begin in the bound expression are remembered by the name that it gets: "4 is axis 0 of `b`". */
static Value *named(Elab *E, Value *v, Ast *target, Ast *rhs) {
  if (v->kind != V_TENSOR || !target->name || !v->t.rank) return v;
  Value *r = NULL;
  for (int k = 0; k < v->t.rank; k++) {
    const Origin *o = v->t.dim[k].from;
    bool here =
        o && !o->via && o->span.file == rhs->span.file && rhs->span.lo <= o->span.lo && o->span.hi <= rhs->span.hi;
    if (!here) continue;
    if (!r) {
      r = v_tensor(E, v->t.dtype, v->t.rank, v->t.dim, v->t.e);
      r->t.weak = v->t.weak;
    }
    r->t.dim[k].from =
        origin_new(E, NULL, o->span, "%lld is axis %d of `%s`", (long long)v->t.dim[k].n, k, target->name);
  }
  return r ? r : v;
}

static const Env *bind_stmt(Elab *E, const Env *env, Ast *e) {
  Value *v = elab_expr(E, env, e->b);
  if (e->nkid == 1) v = named(E, v, e->kid[0], e->b);
  return elab_bind(E, env, e->nkid, e->kid, v);
}

/* ---- statements ------------------------------------------------------------------------------------------------ */

const Env *elab_stmt(Elab *E, const Env *env, Ast *e) {
  switch (e->kind) {
  case AST_BIND:
    return bind_stmt(E, env, e);
  case AST_DEF:
    return local_def(E, env, e);
  case AST_EXPR:
    elab_expr(E, env, e->a);
    return env;
  case AST_NEXT:
    return elab_next(E, env, e);
  case AST_MODEL:
    diag_fail(E->d, T_TYPE, e->at, "a model is defined at the top level");
  default:
    diag_fail(E->d, P_SYNTAX, e->span, "this belongs at the top level");
  }
}

static void refuse_unused(Elab *E, Ast *e, Value *v) {
  if (v->kind == V_NONE || (v->kind == V_TUPLE && v->agg.n == 0)) return;
  Diag *g = diag_add(E->d, T_UNUSED, e->span, "nothing uses this value, %s", v_type_text(E, v));
  if (e->a->kind == AST_BINARY && e->a->op == BIN_EQ)
    diag_help(E->d, g, "a binding is written with one =");
  else
    diag_help(E->d, g, "bind it, as in `_ = ...`, or make it the block's last expression");
  elab_fail(E, g);
}

Value *elab_block(Elab *E, const Env *env, Ast *block) {
  for (int k = 0; k < block->nkid; k++) {
    Ast *e = block->kid[k];
    if (e->kind != AST_EXPR) {
      env = elab_stmt(E, env, e);
      continue;
    }
    Value *v = elab_expr(E, env, e->a);
    if (k == block->nkid - 1) return v;
    refuse_unused(E, e, v);
  }
  return v_none(E);
}
