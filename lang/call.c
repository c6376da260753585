/* Calls: arguments to parameters, signatures applied, the body followed. Every call of a definition is elaborated anew,
 * so sizes, dtypes and static values are those of this call. */
#include "lang/model.h"
#include <string.h>

enum { MAX_CALLS = 1000 };

/* ---- builtins' parameters ---------------------------------------------------------------------------------------- */

enum { MAX_PARAM = 16 };
typedef struct BParam {
  char name[32], deflt[16];
  bool optional, rest, keyword;
} BParam;

/* Reads "x, axis=, keepdims=" once a call: the mini-language beside Builtin.params. */
static int parse_params(const Builtin *b, BParam *out) {
  int n = 0;
  bool keyword = false;
  for (const char *p = b->params; *p;) {
    while (*p == ' ' || *p == ',') p++;
    if (*p == ';') {
      keyword = true, p++;
      continue;
    }
    if (!*p) break;
    if (n == MAX_PARAM) bug("builtin %s has too many parameters", b->name);
    BParam *q = &out[n++];
    memset(q, 0, sizeof *q);
    if (*p == '*') q->rest = true, p++;
    size_t len = strcspn(p, ",;= *");
    if (len >= sizeof q->name) bug("builtin %s: parameter name too long", b->name);
    memcpy(q->name, p, len);
    p += len;
    if (*p == '*') q->rest = true, p++;
    if (*p == '=') {
      q->optional = true;
      size_t end = strcspn(p, ",;"); /* a default is written for the reader */
      if (end - 1 < sizeof q->deflt) memcpy(q->deflt, p + 1, end - 1);
      p += end;
    }
    q->keyword = keyword;
  }
  return n;
}

static char *builtin_text(Elab *E, const Builtin *b) {
  BParam p[MAX_PARAM];
  int n = parse_params(b, p);
  char *s = arena_printf(E->a, "%s(", b->name);
  for (int k = 0; k < n; k++)
    s = arena_printf(E->a, "%s%s%s%s%s%s", s, k ? ", " : "", p[k].rest ? "*" : "", p[k].name,
                     p[k].optional ? " = " : "", p[k].optional ? (*p[k].deflt ? p[k].deflt : "...") : "");
  return arena_printf(E->a, "%s)", s);
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

static char *params_text(Elab *E, int n, Ast *const *param) {
  char *s = arena_strdup(E->a, "");
  for (int k = 0; k < n; k++) {
    const Ast *p = param[k];
    s = arena_printf(E->a, "%s%s%s", s, k ? ", " : "", p->name ? p->name : "(...)");
    if (p->type) s = arena_printf(E->a, "%s: %s", s, type_text(E, p->type));
    if (p->a) s = arena_printf(E->a, "%s = %s", s, expr_text(E, p->a));
  }
  return s;
}

char *fun_signature(Elab *E, const Fun *f) {
  switch (f->kind) {
  case FUN_DEF: {
    char *s = arena_printf(E->a, "%s(%s)", f->name, params_text(E, f->ast->nkid, f->ast->kid));
    if (f->ast->type) s = arena_printf(E->a, "%s -> %s", s, type_text(E, f->ast->type));
    if (f->ast->c) s = arena_printf(E->a, "%s where %s", s, expr_text(E, f->ast->c));
    return s;
  }
  case FUN_MODEL:
    return arena_printf(E->a, "%s(%s)", f->name, params_text(E, f->ast->nkid, f->ast->kid));
  case FUN_LAMBDA:
    return arena_printf(E->a, "(%s) -> ...", params_text(E, f->ast->nkid, f->ast->kid));
  case FUN_BUILTIN:
    return builtin_text(E, f->builtin);
  default:
    return arena_printf(E->a, "%s(...)", f->name);
  }
}

static _Noreturn void fail_args(Elab *E, const Fun *f, Span at, const char *msg) {
  Diag *g = diag_add(E->d, T_ARGS, at, "%s", msg);
  if ((f->kind == FUN_DEF || f->kind == FUN_MODEL) && f->ast->span.file)
    diag_note(E->d, g, f->ast->at, "it is %s", fun_signature(E, f));
  else
    diag_note(E->d, g, (Span){0}, "it is %s", fun_signature(E, f));
  elab_fail(E, g);
}

/* ---- builtins ------------------------------------------------------------------------------------------------- */

static Value *call_builtin(Elab *E, Fun *f, Call *c) {
  BParam p[MAX_PARAM];
  int n = parse_params(f->builtin, p), next = 0;
  Value **bound = arena_array(E->a, Value *, n + 1), **rest = arena_array(E->a, Value *, c->n);
  int nrest = 0, rest_at = -1;
  for (int k = 0; k < n; k++)
    if (p[k].rest) rest_at = k;
  for (int k = 0; k < c->n; k++) {
    Arg *a = &c->arg[k];
    int j = 0;
    if (a->name) {
      while (j < n && (p[j].rest || strcmp(p[j].name, a->name))) j++;
      if (j == n) fail_args(E, f, a->span, arena_printf(E->a, "`%s` has no parameter `%s`", f->name, a->name));
      if (bound[j]) fail_args(E, f, a->span, arena_printf(E->a, "`%s` is given twice", a->name));
      bound[j] = a->v;
      continue;
    }
    while (next < n && (p[next].keyword || (!p[next].rest && bound[next]))) next++;
    if (next == n) {
      const char *msg = arena_printf(E->a, "`%s` takes %d argument%s by position, and this is one more", f->name, k,
                                     k == 1 ? "" : "s");
      int kw = 0;
      while (kw < n && !p[kw].keyword) kw++;
      if (kw < n) msg = arena_printf(E->a, "%s; `%s` is given by name: %s = ...", msg, p[kw].name, p[kw].name);
      fail_args(E, f, a->span, msg);
    }
    if (p[next].rest)
      rest[nrest++] = a->v;
    else
      bound[next++] = a->v;
  }
  if (rest_at >= 0) bound[rest_at] = v_tuple(E, nrest, rest);
  for (int k = 0; k < n; k++)
    if (!bound[k] && !p[k].optional)
      fail_args(E, f, c->span, arena_printf(E->a, "`%s` needs the argument `%s`", f->name, p[k].name));
  return f->builtin->fn(E, f->builtin, c, bound);
}

/* ---- random streams -------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t a, uint64_t b) { /* splitmix64's finaliser over both */
  uint64_t z = a + 0x9E3779B97F4A7C15u * (b + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

static uint64_t hash_text(const char *s) {
  uint64_t h = 0xCBF29CE484222325u;
  for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001B3u;
  return h;
}

/* The trie with one call more of `name`; *n: how many there were. Path copying: the old trie stays. */
static const StreamCount *count_call(Elab *E, const StreamCount *at, const char *name, uint64_t hash, uint32_t *n) {
  StreamCount *c = at ? arena_copy(E->a, at, sizeof *at) : arena_new_of(E->a, StreamCount);
  if (!at) c->name = name;
  if (c->name == name)
    *n = c->n++;
  else
    c->kid[hash & 3] = count_call(E, c->kid[hash & 3], name, hash >> 2, n);
  return c;
}

/* The stream inside the next call of `name` here: keyed by the definition and how often it was called in this one, so
 * other calls and draws beside it do not move its numbers. */
static Stream stream_enter(Elab *E, const char *name) {
  uint32_t n = 0;
  uint64_t hash = hash_text(name);
  E->stream.count = count_call(E, E->stream.count, name, mix(hash, 0), &n);
  Stream inner = E->stream;
  inner.key = mix(mix(inner.key, hash), n), inner.ordinal = 0, inner.count = NULL;
  return inner;
}

/* ---- definitions ----------------------------------------------------------------------------------------------- */

void stream_skip(Elab *E, const char *name) { stream_enter(E, name); }

Stream stream_member(const Stream *base, const char *name) {
  return (Stream){.key = mix(base->key, hash_text(name)), .dyn = base->dyn, .from = base->from};
}

Saved call_enter(Elab *E, Fun *f, const char *name, Span at) {
  if (++E->depth > MAX_CALLS) {
    Diag *g = diag_add(E->d, V_RECURSION, at, "`%s` is %d calls deep: recursion needs a static bound", name, MAX_CALLS);
    if (f->ast) diag_note(E->d, g, f->ast->at, "`%s` is defined here", name);
    elab_fail(E, g);
  }
  Saved s = {.module = E->module, .frame = E->frame};
  Frame *fr = arena_new_of(E->a, Frame);
  *fr = (Frame){name, at, E->frame};
  Stream inner = stream_enter(E, name);
  s.stream = E->stream;
  E->stream = inner, E->frame = fr;
  if (f->module) E->module = f->module;
  return s;
}

void call_leave(Elab *E, const Saved *s) {
  E->depth--;
  E->stream = s->stream, E->module = s->module, E->frame = s->frame;
}

/* Arguments by parameter; NULL where the default is wanted. */
void call_assign(Elab *E, Fun *f, Call *c, Value **value, Span *at) {
  Ast *d = f->ast;
  int next = 0;
  for (int k = 0; k < c->n; k++) {
    Arg *a = &c->arg[k];
    int j = next;
    if (a->name) {
      for (j = 0; j < d->nkid && d->kid[j]->name != a->name;) j++;
      if (j == d->nkid) {
        VEC(const char *) all = {0};
        for (int i = 0; i < d->nkid; i++) vec_push(E->a, &all, d->kid[i]->name);
        const char *s = closest_name(a->name, all.n, all.at);
        const char *msg = arena_printf(E->a, "`%s` has no parameter `%s`", f->name, a->name);
        if (s) msg = arena_printf(E->a, "%s; did you mean `%s`?", msg, s);
        fail_args(E, f, a->span, msg);
      }
    } else {
      while (next < d->nkid && value[next]) next++;
      if ((j = next) == d->nkid)
        fail_args(E, f, a->span,
                  arena_printf(E->a, "`%s` takes %d argument%s, but the call gives %d", f->name, d->nkid,
                               d->nkid == 1 ? "" : "s", c->n));
    }
    if (value[j]) fail_args(E, f, a->span, arena_printf(E->a, "`%s` is given twice", d->kid[j]->name));
    value[j] = a->v, at[j] = a->span;
  }
  for (int j = 0; j < d->nkid; j++)
    if (!value[j] && !d->kid[j]->a)
      fail_args(E, f, c->span, arena_printf(E->a, "`%s` needs the argument `%s`", f->name, d->kid[j]->name));
}

/* `bias: [N] = none`: an argument that may be left out is not matched when it is. */
static bool left_out(const Ast *p, const Value *v) { return v->kind == V_NONE && p->a && p->a->kind == AST_NONE; }

static bool has_dims(const Ast *type) { return type->kind != AST_TYPE || type->nkid > 0 || !type->name; }

/* Sizes read from parameters are remembered as such: "4 is axis 0 of `x`". */
static const char *param_what(Elab *E, const Ast *p) { return arena_printf(E->a, "`%s`", p->name); }

static void check_where(Elab *E, Fun *f, Sig *s, Span at) {
  Value *v = elab_expr(E, s->env, f->ast->c);
  if (v_static_bool(E, v, f->ast->c->span, "a `where` condition")) return;
  Diag *g = diag_add(E->d, T_WHERE, at, "`%s` requires %s", f->name, expr_text(E, f->ast->c));
  for (const Env *e = s->env; e != s->outer; e = e->up) {
    int64_t i;
    if (!e->sig || !v_is_static_int(e->v, &i)) continue;
    if (e->v->kind == V_NUM && e->v->num.from)
      note_origin(E, g, (Dim){.n = i, .from = e->v->num.from});
    else
      diag_note(E->d, g, e->span, "%s is %lld", e->name, (long long)i);
  }
  diag_note(E->d, g, f->ast->c->span, "required here");
  elab_fail(E, g);
}

/* Where a definition sees names from: one that is called above its place sees what is bound so far. */
const Env *fun_env(const Fun *f) { return f->env ? f->env : f->module->top; }

void call_params(Elab *E, Fun *f, Call *c, Sig *s, Value **value, Span *at) {
  Ast *d = f->ast;
  Name *own = arena_array(E->a, Name, d->nkid);
  for (int j = 0; j < d->nkid; j++) own[j] = d->kid[j]->name;
  s->nown = d->nkid, s->own = own, s->own_value = value;
  for (int j = 0; j < d->nkid; j++)
    if (d->kid[j]->type) sig_float(E, s, d->kid[j]->type, value[j], param_what(E, d->kid[j]), at[j]);
  /* Scalars first: an `int` parameter may be a size of another. */
  for (int pass = 0; pass < 2; pass++)
    for (int j = 0; j < d->nkid; j++) {
      Ast *p = d->kid[j];
      if (!value[j] || !p->type || left_out(p, value[j]) || has_dims(p->type) != (pass == 1)) continue;
      value[j] = sig_match(E, s, p->type, value[j], param_what(E, p), at[j]);
    }
  for (int j = 0; j < d->nkid; j++) {
    Ast *p = d->kid[j];
    if (!value[j]) {
      at[j] = p->a->span;
      value[j] = elab_expr(E, s->env, p->a);
      if (p->type && !left_out(p, value[j])) value[j] = sig_match(E, s, p->type, value[j], param_what(E, p), at[j]);
    }
    s->env = env_bind_sig(E, s->env, p->name, value[j], at[j]);
  }
  sig_finish(E, s);
}

static Value *call_def(Elab *E, Fun *f, Call *c) {
  Ast *d = f->ast;
  Value **value = arena_array(E->a, Value *, d->nkid);
  Span *at = arena_array(E->a, Span, d->nkid);
  call_assign(E, f, c, value, at);
  Saved saved = call_enter(E, f, f->name, c->span);
  Sig s;
  sig_begin(E, &s, fun_env(f), f->name);
  s.symbolic = E->checking && !c->span.file; /* the stand-in call itself */
  call_params(E, f, c, &s, value, at);
  if (d->c) check_where(E, f, &s, c->span);
  const struct Record *before = E->record;
  Value *r = elab_expr(E, s.env, d->a);
  if (d->type) {
    r = sig_match(E, &s, d->type, r, arena_printf(E->a, "the result of `%s`", f->name), d->a->span);
    sig_finish(E, &s);
  }
  if (E->record && f->model) model_record(E, f->model, c, r, before);
  call_leave(E, &saved);
  return r;
}

static Value *call_lambda(Elab *E, Fun *f, Call *c) {
  Ast *l = f->ast;
  for (int k = 0; k < c->n; k++)
    if (c->arg[k].name) fail_args(E, f, c->arg[k].span, "a lambda's arguments have no names");
  if (c->n != l->nkid)
    fail_args(E, f, c->span,
              arena_printf(E->a, "this function takes %d argument%s, but the call gives %d", l->nkid,
                           l->nkid == 1 ? "" : "s", c->n));
  Saved saved = call_enter(E, f, f->name, c->span);
  const Env *env = f->env;
  for (int k = 0; k < c->n; k++) env = elab_bind(E, env, 1, &l->kid[k], c->arg[k].v);
  Value *r = elab_expr(E, env, l->a);
  call_leave(E, &saved);
  return r;
}

/* ---- callables ------------------------------------------------------------------------------------------------- */

static Value *call_dtype(Elab *E, Value *f, Call *c) {
  if (c->n != 1 || c->arg[0].name) {
    Diag *g =
        diag_add(E->d, T_ARGS, c->span, "%s(x) converts one value, but the call gives %d", dt_name(f->dtype), c->n);
    if (c->n > 1) diag_help(E->d, g, "a list makes a tensor: %s([a, b])", dt_name(f->dtype));
    elab_fail(E, g);
  }
  return tv_cast(E, c->arg[0].v, f->dtype, c->arg[0].span);
}

Value *call_value(Elab *E, Value *f, Call *c) {
  for (int k = 0; k < c->n; k++)
    if (c->arg[k].v->kind == V_POISON) diag_unwind(E->d);
  if (f->kind == V_DTYPE) return call_dtype(E, f, c);
  if (f->kind == V_POISON) diag_unwind(E->d);
  if (f->kind == V_MODEL) return model_call(E, f, c);
  if (f->kind != V_FUN) {
    Diag *g = diag_add(E->d, T_TYPE, c->callee, "this is not a function but %s", v_type_text(E, f));
    if (f->kind == V_TENSOR) diag_help(E->d, g, "subscripts are written x[i]");
    elab_fail(E, g);
  }
  switch (f->fun->kind) {
  case FUN_BUILTIN:
    return call_builtin(E, f->fun, c);
  case FUN_DERIVED:
    return f->fun->derived(E, f->fun, c);
  case FUN_LAMBDA:
    return call_lambda(E, f->fun, c);
  case FUN_DEF:
    return call_def(E, f->fun, c);
  case FUN_MODEL:
    return model_construct(E, f->fun, c);
  }
  bug("function kind %d", f->fun->kind);
}

Value *call_simple(Elab *E, Value *f, int n, Value **arg, Span at) {
  Call c = {.span = at, .callee = at, .fname = f->kind == V_FUN ? f->fun->name : "the function", .n = n};
  c.arg = arena_array(E->a, Arg, n);
  for (int k = 0; k < n; k++) c.arg[k] = (Arg){.v = arg[k], .span = at};
  return call_value(E, f, &c);
}
