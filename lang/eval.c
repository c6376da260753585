/* Expressions: one small function a kind of syntax, and their dispatch. Subscripts, comprehensions, loops and
 * conditions live in rooms of their own; so do calls (call.c), blocks (block.c) and strings (strings.c). */
#include "lang/data.h"
#include "lang/fold.h"
#include "lang/model.h"
#include <string.h>

_Noreturn void elab_fail(Elab *E, Diag *g) {
  (void)g;
  diag_unwind(E->d);
}

/* ---- names, literals, structures ------------------------------------------------------------------------------- */

static Value *eval_name(Elab *E, const Env *env, Ast *e) {
  Value *v = name_lookup(E, env, e->name);
  if (v) return v;
  Diag *g = diag_add(E->d, N_UNKNOWN, e->at, "unknown name `%s`", e->name);
  const char *s = name_suggest(E, env, e->name);
  const Env *below = E->module ? env_find(E->module->top, e->name) : NULL;
  if (below) {
    diag_note(E->d, g, below->span, "`%s` is bound here, below the definition that uses it", e->name);
    diag_help(E->d, g, "a definition sees the bindings above it: move this one up");
  } else if (name_is(e->name, "range"))
    diag_help(E->d, g, "a range is written 0..n");
  else if (name_is(e->name, "self"))
    diag_help(E->d, g, "self exists in a model's methods");
  else if (s)
    diag_help(E->d, g, "did you mean `%s`?", s);
  elab_fail(E, g);
}

static Value *eval_tuple(Elab *E, const Env *env, Ast *e) {
  Value **kid = arena_array(E->a, Value *, e->nkid);
  for (int k = 0; k < e->nkid; k++) kid[k] = elab_expr(E, env, e->kid[k]);
  return v_tuple(E, e->nkid, kid);
}

/* Static numbers, or literal lists of one shape, make a literal list of one more axis; NULL otherwise. */
static Value *literal_list(Elab *E, Ast *e, int n, Value **kid) {
  Num one;
  if (n == 0) return num_list(E, 1, &(Dim){.n = 0}, 0, NULL);
  if (v_num(kid[0], &one)) {
    Num *num = arena_array(E->a, Num, n);
    bool bools = one.is_bool;
    for (int k = 0; k < n; k++)
      if (!v_num(kid[k], &num[k]) || num[k].is_bool != bools) return NULL;
    return num_list(E, 1, &(Dim){.n = n}, n, num);
  }
  const Node *first = kid[0]->kind == V_TENSOR ? weak_const(&kid[0]->t) : NULL;
  if (!first) return NULL;
  int64_t each = nd_size(first), count = each * n, at = 0; /* as many as the source has numbers */
  Num *num = arena_array(E->a, Num, count);
  for (int k = 0; k < n; k++) {
    const Node *c = kid[k]->kind == V_TENSOR ? weak_const(&kid[k]->t) : NULL;
    if (!c || kid[k]->t.e != ex_load_full(E->g, (Node *)c, 0) || c->rank != first->rank) return NULL;
    for (int a = 0; a < c->rank; a++)
      if (c->dim[a] != first->dim[a]) {
        Diag *g = diag_add(E->d, S_MISMATCH, e->span, "the rows of this list differ in size: %s and %s",
                           shape_text(E, kid[0]->t.rank, kid[0]->t.dim), shape_text(E, kid[k]->t.rank, kid[k]->t.dim));
        diag_note(E->d, g, e->kid[k]->span, "this row has %lld", (long long)c->dim[a]);
        elab_fail(E, g);
      }
    DType t = (DType)c->dtype;
    for (int64_t i = 0; i < each; i++, at++) {
      num[at].is_float = dt_is_float(t);
      if (num[at].is_float)
        num[at].f = dt_get_f(t, c->data, i);
      else
        num[at].i = dt_get_i(t, c->data, i), num[at].f = (double)num[at].i;
    }
  }
  Dim dim[TG_MAX_RANK];
  if (first->rank + 1 > TG_MAX_RANK) diag_fail(E->d, S_RANK, e->span, "a list nested more than %d deep", TG_MAX_RANK);
  dim[0] = (Dim){.n = n};
  for (int a = 0; a < first->rank; a++) dim[a + 1] = (Dim){.n = first->dim[a]};
  return num_list(E, first->rank + 1, dim, count, num);
}

static Value *eval_list(Elab *E, const Env *env, Ast *e) {
  Value **kid = arena_array(E->a, Value *, e->nkid);
  for (int k = 0; k < e->nkid; k++) {
    kid[k] = elab_expr(E, env, e->kid[k]);
    ValueKind t = kid[k]->kind;
    if (t == V_NUM || t == V_BOOL || t == V_TENSOR || t == V_RANGE || t == V_TUPLE || t == V_RECORD || t == V_MODEL)
      continue;
    Diag *g = diag_add(E->d, T_TYPE, e->kid[k]->span, "a list holds numbers and tensors, but this is %s",
                       v_type_text(E, kid[k]));
    diag_help(E->d, g, "a tuple holds anything: (a, b)");
    elab_fail(E, g);
  }
  Value *v = literal_list(E, e, e->nkid, kid);
  if (!v) {
    Value *items = v_tuple(E, e->nkid, kid), *stack = name_lookup(E, NULL, name_of(E->names, "stack", 5));
    v = call_simple(E, stack, 1, &items, e->span);
  }
  if (v->kind == V_TENSOR && v->t.rank && !v->t.dim[0].from)
    v->t.dim[0].from = origin_new(E, NULL, e->span, "%lld is the length of this list", (long long)v->t.dim[0].n);
  return v;
}

static Value *eval_record(Elab *E, const Env *env, Ast *e) {
  VEC(Name) key = {0};
  VEC(Value *) at = {0};
  for (int k = 0; k < e->nkid; k++) {
    Ast *f = e->kid[k];
    Value *from = f->kind == AST_SPREAD ? elab_expr(E, env, f->a) : NULL;
    if (from && from->kind != V_RECORD)
      diag_fail(E->d, T_TYPE, f->span, "`...` copies the fields of a record, but this is %s", v_type_text(E, from));
    int n = from ? from->agg.n : 1;
    for (int i = 0; i < n; i++) {
      Name name = from ? from->agg.key[i] : f->name;
      Value *v = from ? from->agg.at[i] : NULL;
      if (!from) {
        Ast ref = {.kind = AST_NAME, .span = f->span, .at = f->at, .name = f->name};
        v = f->a ? elab_expr(E, env, f->a) : eval_name(E, env, &ref);
      }
      int j = 0;
      while (j < key.n && key.at[j] != name) j++;
      if (j < key.n)
        at.at[j] = v;
      else {
        vec_push(E->a, &key, name);
        vec_push(E->a, &at, v);
      }
    }
  }
  return v_record(E, key.n, key.at, at.at);
}

static Value *eval_lambda(Elab *E, const Env *env, Ast *e) {
  Fun *f = arena_new_of(E->a, Fun);
  f->kind = FUN_LAMBDA, f->name = "a function", f->ast = e, f->env = env, f->module = E->module;
  return v_fun(E, f);
}

/* ---- operators ------------------------------------------------------------------------------------------------- */

static const ScalarOp binary_op[] = {
    [BIN_ADD] = OP_ADD, [BIN_SUB] = OP_SUB, [BIN_MUL] = OP_MUL, [BIN_DIV] = OP_DIV, [BIN_FLOORDIV] = OP_FLOORDIV,
    [BIN_MOD] = OP_MOD, [BIN_POW] = OP_POW, [BIN_EQ] = OP_EQ,   [BIN_NE] = OP_NE,   [BIN_LT] = OP_LT,
    [BIN_LE] = OP_LE,   [BIN_GT] = OP_GT,   [BIN_GE] = OP_GE,   [BIN_AND] = OP_AND, [BIN_OR] = OP_OR,
};

static Value *eval_range(Elab *E, const Env *env, Ast *e) {
  Value *end[2];
  for (int k = 0; k < 2; k++) {
    Ast *a = k ? e->b : e->a;
    Value *v = end[k] = elab_expr(E, env, a);
    bool ok =
        (v->kind == V_NUM && !v->num.is_float) || (v->kind == V_TENSOR && v->t.rank == 0 && dt_is_int(v->t.dtype));
    if (!ok) diag_fail(E->d, T_TYPE, a->span, "a range's ends are integers, but this is %s", v_type_text(E, v));
  }
  return v_range(E, end[0], end[1]);
}

static Value *eval_pipe(Elab *E, const Env *env, Ast *e);

static Value *eval_binary(Elab *E, const Env *env, Ast *e) {
  if (e->op == BIN_RANGE) return eval_range(E, env, e);
  if (e->op == BIN_PIPE) return eval_pipe(E, env, e);
  Value *v[2];
  v[0] = elab_expr(E, env, e->a);
  if (v[0]->kind == V_BOOL && ((e->op == BIN_AND && !v[0]->b) || (e->op == BIN_OR && v[0]->b))) return v[0];
  v[1] = elab_expr(E, env, e->b);
  Span at[2] = {e->a->span, e->b->span};
  if (e->op == BIN_MATMUL) return elab_matmul(E, v[0], v[1], at[0], at[1], e->at);
  return tv_elementwise(E, binary_op[e->op], 2, v, at, e->span);
}

static Value *eval_unary(Elab *E, const Env *env, Ast *e) {
  Value *v = elab_expr(E, env, e->a);
  if (e->op == UN_NOT) return tv_elementwise(E, OP_NOT, 1, &v, &e->a->span, e->span);
  Value *r = tv_elementwise(E, OP_NEG, 1, &v, &e->a->span, e->span);
  return e->op == UN_POS ? v : r; /* +x checks that x is numeric */
}

/* ---- members --------------------------------------------------------------------------------------------------- */

static Value *tensor_shape(Elab *E, const TensorV *t) {
  Value *d[TG_MAX_RANK];
  for (int k = 0; k < t->rank; k++) d[k] = v_int(E, t->dim[k].n, t->dim[k].from);
  return v_tuple(E, t->rank, d);
}

static Value *swap_last(Elab *E, Value *v, Span at) {
  if (v->t.rank < 2) {
    Diag *g = diag_add(E->d, S_RANK, at, ".t swaps the last two axes, but %s has %s", v_type_text(E, v),
                       v->t.rank ? "one" : "none");
    if (v->t.rank == 1) diag_help(E->d, g, "x[:, none] makes a column of it");
    elab_fail(E, g);
  }
  int perm[TG_MAX_RANK];
  for (int k = 0; k < v->t.rank; k++) perm[k] = k;
  perm[v->t.rank - 1] = v->t.rank - 2, perm[v->t.rank - 2] = v->t.rank - 1;
  return view_permute(E, v, perm);
}

/* The member of v called `name`, or NULL: fields, module members, and the attributes of tensors. */
static Value *member(Elab *E, Value *v, Name name, Span at) {
  Value *out;
  switch (v->kind) {
  case V_POISON:
    diag_unwind(E->d);
  case V_RECORD:
    return v_field(v, name, &out) ? out : NULL;
  case V_MODULE:
    return module_member(E, v->module, name);
  case V_MODEL:
    return model_member(E, v, name, at);
  case V_DATA:
    return data_member(E, v, name, at);
  case V_NUM:
  case V_BOOL:
  case V_RANGE:
  case V_TENSOR: {
    if (name_is(name, "shape")) return tensor_shape(E, v_as_tensor(E, v, at, "this"));
    if (name_is(name, "rank")) return v_int(E, v_as_tensor(E, v, at, "this")->rank, NULL);
    if (name_is(name, "dtype")) return v_dtype(E, tv_hard_dtype(v_as_tensor(E, v, at, "this")));
    if (!name_is(name, "t")) return NULL;
    TensorV *t = v_as_tensor(E, v, at, "this");
    return swap_last(E, v->kind == V_TENSOR ? v : v_tensor(E, t->dtype, t->rank, t->dim, t->e), at);
  }
  default:
    return NULL;
  }
}

static const char *member_suggest(Elab *E, Value *v, Name name) {
  static const char *const attr[] = {"shape", "dtype", "t", "rank", "at"};
  if (v->kind == V_RECORD) return closest_name(name, v->agg.n, v->agg.key);
  if (v->kind == V_MODEL) return model_suggest(E, v->model, name);
  if (v->kind == V_DATA && data_of(v)->row->kind == V_RECORD)
    return closest_name(name, data_of(v)->row->agg.n, data_of(v)->row->agg.key);
  if (v->kind == V_TENSOR) return closest_name(name, 5, attr);
  if (v->kind != V_MODULE) return NULL;
  VEC(const char *) all = {0};
  for (int k = 0; k < v->module->def.cap; k++)
    if (v->module->def.key[k]) vec_push(E->a, &all, v->module->def.key[k]);
  for (const Env *b = v->module->top; b; b = b->up)
    if (b->name) vec_push(E->a, &all, b->name);
  return closest_name(name, all.n, all.at);
}

static _Noreturn void fail_member(Elab *E, const Env *env, Value *v, Ast *e, bool called) {
  Diag *g = diag_add(E->d, N_FIELD, e->at, "%s has no %s `%s`", v_type_text(E, v),
                     v->kind == V_RECORD ? "field"
                     : called            ? "field or method"
                                         : "member",
                     e->name);
  const char *s = member_suggest(E, v, e->name);
  Value *f = v->kind == V_MODULE ? NULL : name_lookup(E, env, e->name);
  if (s)
    diag_help(E->d, g, "did you mean `%s`?", s);
  else if (f && f->kind == V_FUN && !called)
    diag_help(E->d, g, "`%s` is a function: call it as .%s(...)", e->name, e->name);
  else if (name_is(e->name, "T"))
    diag_help(E->d, g, "the transpose is .t");
  elab_fail(E, g);
}

static Value *eval_member(Elab *E, const Env *env, Ast *e) {
  Value *v = elab_expr(E, env, e->a), *m = member(E, v, e->name, e->span);
  if (m && m->kind == V_POISON) diag_unwind(E->d);
  if (!m) fail_member(E, env, v, e, false);
  return m;
}

/* ---- calls ----------------------------------------------------------------------------------------------------- */

/* What is called, and the receiver to put before the arguments when `x.f(a)` means f(x, a) (else NULL). */
static Value *callee_of(Elab *E, const Env *env, Ast *f, Value **receiver) {
  *receiver = NULL;
  if (f->kind != AST_MEMBER) return elab_expr(E, env, f);
  Value *v = elab_expr(E, env, f->a), *m = member(E, v, f->name, f->span);
  if (m && (m->kind == V_FUN || m->kind == V_DTYPE || m->kind == V_MODEL || v->kind == V_MODULE ||
            v->kind == V_RECORD || v->kind == V_MODEL))
    return m;
  Value *g = v->kind == V_MODULE ? NULL : name_lookup(E, env, f->name);
  if (!g) fail_member(E, env, v, f, true);
  return *receiver = v, g;
}

static bool is_at_update(const Ast *call) {
  const Ast *m = call->a;
  return m->kind == AST_MEMBER && (name_is(m->name, "set") || name_is(m->name, "add")) && m->a->kind == AST_INDEX &&
         m->a->a->kind == AST_MEMBER && name_is(m->a->a->name, "at");
}

/* f(e for k): a reduction by name, else f of the list. `piped` comes first when given. */
static Value *call_comp(Elab *E, const Env *env, Ast *e, Value *f, Value *receiver, Value *piped, Call *c) {
  Ast *comp = e->kid[0];
  if (comp->kind == AST_ARG) comp = comp->a;
  Reduce op;
  bool builtin = f->kind == V_FUN && f->fun->kind == FUN_BUILTIN && !receiver && !piped;
  if (builtin && name_is(f->fun->name, "mean")) return elab_mean_comp(E, env, comp);
  if (builtin && reduce_by_name(f->fun->name, &op)) return elab_comp(E, env, comp, op, c);
  c->arg = arena_array(E->a, Arg, 3), c->n = 0;
  if (receiver) c->arg[c->n++] = (Arg){.v = receiver, .span = e->a->span};
  if (piped) c->arg[c->n++] = (Arg){.v = piped, .span = c->span};
  c->arg[c->n++] = (Arg){.v = elab_comp(E, env, comp, RED_NONE, NULL), .span = comp->span};
  return call_value(E, f, c);
}

static const char *callee_name(const Ast *f) {
  return f->kind == AST_NAME || f->kind == AST_MEMBER ? f->name : "the function";
}

static Value *eval_call_with(Elab *E, const Env *env, Ast *e, Value *piped, Span piped_at) {
  if (!piped && is_at_update(e)) return elab_at_update(E, env, e);
  Value *receiver, *f = callee_of(E, env, e->a, &receiver);
  Call c = {.span = e->span, .callee = e->a->span, .fname = callee_name(e->a), .ast = e};
  if (f->kind == V_FUN && f->fun->kind == FUN_MODEL && !receiver && e->ival != 1) {
    f = elab_construct(E, env, f->fun, e, &c);
    if (!piped) return f;
    c.arg = arena_array(E->a, Arg, 1), c.n = 1;
    c.arg[0] = (Arg){.v = piped, .span = piped_at};
    return call_value(E, f, &c);
  }
  if (e->ival == 1) return call_comp(E, env, e, f, receiver, piped, &c);
  c.arg = arena_array(E->a, Arg, e->nkid + 2);
  if (receiver) c.arg[c.n++] = (Arg){.v = receiver, .span = e->a->a->span};
  if (piped) c.arg[c.n++] = (Arg){.v = piped, .span = piped_at};
  for (int k = 0; k < e->nkid; k++)
    c.arg[c.n++] = (Arg){e->kid[k]->name, elab_expr(E, env, e->kid[k]->a), e->kid[k]->span};
  return call_value(E, f, &c);
}

static Value *eval_pipe(Elab *E, const Env *env, Ast *e) {
  Value *x = elab_expr(E, env, e->a);
  if (e->b->kind == AST_CALL) return eval_call_with(E, env, e->b, x, e->a->span);
  Value *receiver, *f = callee_of(E, env, e->b, &receiver);
  if (f->kind == V_FUN && f->fun->kind == FUN_MODEL) {
    Diag *g = diag_add(E->d, T_MODEL, e->b->span, "`%s` makes a model; it is not one yet", f->fun->name);
    diag_help(E->d, g, "x |> %s(...) makes one and applies it", f->fun->name);
    elab_fail(E, g);
  }
  Call c = {.span = e->span, .callee = e->b->span, .fname = callee_name(e->b), .ast = e};
  c.arg = arena_array(E->a, Arg, 2);
  if (receiver) c.arg[c.n++] = (Arg){.v = receiver, .span = e->b->span};
  c.arg[c.n++] = (Arg){.v = x, .span = e->a->span};
  return call_value(E, f, &c);
}

/* ---- subscripts of records ------------------------------------------------------------------------------------- */

/* d[0..100] of a record of tensors: each field's rows. The subscripts are elaborated for each field, from the same
 * point of the random stream, so d[permutation(n)] permutes all fields alike. */
static Value *index_fields(Elab *E, const Env *env, Ast *e, Value *v) {
  Ast base = {.kind = AST_NAME, .span = e->a->span, .at = e->a->at, .name = name_of(E->names, "this field", 10)},
      sub = *e;
  Stream start = E->stream;
  Value **kid = arena_array(E->a, Value *, v->agg.n);
  sub.a = &base;
  for (int k = 0; k < v->agg.n; k++) {
    Value *f = v->agg.at[k];
    const Env *inner = env_bind(E, env, base.name, f, e->a->span);
    E->stream = start;
    kid[k] = f->kind == V_RECORD ? index_fields(E, inner, e, f) : elab_index(E, inner, &sub);
  }
  return v_record(E, v->agg.n, v->agg.key, kid);
}

static bool is_path(const Ast *e) { return e->kind == AST_NAME || (e->kind == AST_MEMBER && is_path(e->a)); }

static Value *eval_index(Elab *E, const Env *env, Ast *e) {
  Value *v = elab_expr(E, env, e->a);
  if (v->kind == V_RECORD) return index_fields(E, env, e, v);
  if (v->kind == V_MODEL) return model_index(E, env, v, e);
  if (v->kind == V_DATA) return data_index(E, env, v, e);
  if (is_path(e->a)) return elab_index(E, env, e); /* reading a name twice costs nothing */
  Ast base = {.kind = AST_NAME, .span = e->a->span, .at = e->a->at, .name = name_of(E->names, "the tensor", 10)},
      sub = *e;
  sub.a = &base;
  return elab_index(E, env_bind(E, env, base.name, v, e->a->span), &sub);
}

/* ---- dispatch -------------------------------------------------------------------------------------------------- */

static _Noreturn void fail_depth(Elab *E, Span at) {
  if (E->depth > 50)
    diag_fail(E->d, V_RECURSION, at, "`%s` calls itself too deeply (%d calls are open): recursion needs a static bound",
              E->frame ? E->frame->fname : "?", E->depth);
  diag_fail(E->d, P_DEPTH, at, "this expression is nested too deeply");
}

static Value *dispatch(Elab *E, const Env *env, Ast *e) {
  switch ((AstKind)e->kind) {
  case AST_NAME:
    return eval_name(E, env, e);
  case AST_INT:
    return v_int(E, e->ival, NULL);
  case AST_FLOAT:
    return v_float(E, e->fval);
  case AST_STRING:
    return elab_string(E, env, e);
  case AST_TRUE:
    return v_bool(E, true);
  case AST_FALSE:
    return v_bool(E, false);
  case AST_NONE:
    return v_none(E);
  case AST_TUPLE:
    return eval_tuple(E, env, e);
  case AST_LIST:
    return eval_list(E, env, e);
  case AST_COMP:
    return elab_comp(E, env, e, RED_NONE, NULL);
  case AST_RECORD:
    return eval_record(E, env, e);
  case AST_BLOCK:
    return elab_block(E, env, e);
  case AST_LOOP:
    return elab_loop(E, env, e);
  case AST_COND:
  case AST_IFELSE:
    return elab_cond(E, env, e);
  case AST_LAMBDA:
    return eval_lambda(E, env, e);
  case AST_BINARY:
    return eval_binary(E, env, e);
  case AST_UNARY:
    return eval_unary(E, env, e);
  case AST_CALL:
    return eval_call_with(E, env, e, NULL, e->span);
  case AST_MEMBER:
    return eval_member(E, env, e);
  case AST_INDEX:
    return eval_index(E, env, e);
  case AST_SLICE:
  case AST_ELLIPSIS:
    diag_fail(E->d, P_SYNTAX, e->span, "this belongs between the brackets of a subscript");
  default:
    bug("syntax kind %d as an expression", e->kind);
  }
}

Value *elab_expr(Elab *E, const Env *env, Ast *e) {
  if ((const char *)__builtin_frame_address(0) < E->stack_low) fail_depth(E, e->span);
  if (E->interrupt && *E->interrupt) diag_fail(E->d, R_INTERRUPT, e->span, "interrupted while checking");
  Span outer = E->g->span;
  E->g->span = user_span(E, e->span);
  Value *v = dispatch(E, env, e);
  E->g->span = outer;
  return v;
}
