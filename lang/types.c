/* Annotations: matching values against types, solving dimension variables, and types as text.
 *
 * A dim is an integer, a variable, or + - * // of them. A variable is, in this order: one that this signature has
 * bound, an own parameter, a parameter or variable of an enclosing def, else fresh: then the argument's size solves it.
 * A dim with several unknowns waits (Sig.later) until the other parameters have bound them. */
#include "lang/model.h"
#include <string.h>

/* ---- text ------------------------------------------------------------------------------------------------------ */

char *span_text(Elab *E, Span at) {
  if (!at.file) return arena_strdup(E->a, "...");
  const Source *s = E->d->source.at[at.file - 1];
  size_t n = at.hi - at.lo;
  char *t = arena_strndup(E->a, s->text + at.lo, n < 60 ? n : 60);
  char *nl = strchr(t, '\n');
  if (nl) *nl = 0;
  return nl || n > 60 ? arena_printf(E->a, "%s ...", t) : t;
}

char *expr_text(Elab *E, const Ast *e) { return span_text(E, e->span); }

char *type_text(Elab *E, const Ast *type) { return expr_text(E, type); }

/* ---- dims ------------------------------------------------------------------------------------------------------ */

/* a * var + c; var NULL: known. ok false: several unknowns, or an unknown below // or a product. */
typedef struct Linear {
  bool ok;
  Name var;
  int64_t a, c;
  const Origin *from;
} Linear;

static Value *find_dim(Elab *E, Sig *s, Name name, bool *own) {
  *own = false;
  for (const Env *e = s->env; e != s->outer; e = e->up)
    if (e->name == name && e->sig) return e->v;
  for (int k = 0; k < s->nown; k++)
    if (s->own[k] == name) return *own = true, s->own_value[k];
  for (const Env *e = s->outer ? s->outer->sigs : NULL; e; e = e->up ? e->up->sigs : NULL) {
    int64_t i;
    if (e->name == name && v_is_static_int(e->v, &i)) return e->v;
  }
  return NULL;
}

static Linear dim_eval(Elab *E, Sig *s, Ast *e);

static Linear dim_name(Elab *E, Sig *s, Ast *e) {
  bool own;
  Value *v = find_dim(E, s, e->name, &own);
  if (!v) return own ? (Linear){0} : (Linear){.ok = true, .var = e->name, .a = 1};
  Linear r = {.ok = true, .c = v_static_int(E, v, e->span, arena_printf(E->a, "the size `%s`", e->name))};
  r.from = v->kind == V_NUM ? v->num.from : NULL;
  return r;
}

static Linear dim_binary(Elab *E, Sig *s, Ast *e) {
  Linear x = dim_eval(E, s, e->a), y = dim_eval(E, s, e->b), r = {.ok = true};
  if (!x.ok || !y.ok || (x.var && y.var)) return (Linear){0};
  r.var = x.var ? x.var : y.var, r.from = x.from ? x.from : y.from;
  bool over = false;
  switch (e->op) {
  case BIN_ADD:
    over = __builtin_add_overflow(x.c, y.c, &r.c), r.a = x.var ? x.a : y.a;
    break;
  case BIN_SUB:
    over = __builtin_sub_overflow(x.c, y.c, &r.c), r.a = x.var ? x.a : -y.a;
    break;
  case BIN_MUL:
    over = __builtin_mul_overflow(x.c, y.c, &r.c);
    if (r.var) over |= __builtin_mul_overflow(x.var ? x.a : y.a, x.var ? y.c : x.c, &r.a);
    break;
  case BIN_FLOORDIV:
    if (r.var) return (Linear){0};
    if (y.c == 0) diag_fail(E->d, V_DIVZERO, e->span, "the size %s divides by zero", expr_text(E, e));
    over = x.c == INT64_MIN && y.c == -1;
    if (!over) r.c = x.c / y.c - (x.c % y.c != 0 && (x.c < 0) != (y.c < 0));
    break;
  default:
    diag_fail(E->d, T_TYPE, e->span, "a dimension is made of integers, names, + - * and //");
  }
  if (over) diag_fail(E->d, V_OVERFLOW, e->span, "the size %s does not fit in 64 bits", expr_text(E, e));
  return r;
}

static Linear dim_eval(Elab *E, Sig *s, Ast *e) {
  switch (e->kind) {
  case AST_INT:
    return (Linear){.ok = true, .c = e->ival};
  case AST_NAME:
    return dim_name(E, s, e);
  case AST_BINARY:
    return dim_binary(E, s, e);
  default:
    diag_fail(E->d, T_TYPE, e->span, "a dimension is made of integers, names, + - * and //");
  }
}

static void note_variables(Elab *E, Sig *s, Diag *g, const Ast *e) {
  if (e->kind == AST_BINARY) {
    note_variables(E, s, g, e->a);
    note_variables(E, s, g, e->b);
  }
  if (e->kind != AST_NAME) return;
  bool own;
  Value *v = find_dim(E, s, e->name, &own);
  int64_t i;
  if (!v || !v_is_static_int(v, &i)) return;
  if (v->kind == V_NUM && v->num.from)
    note_origin(E, g, (Dim){.n = i, .from = v->num.from});
  else
    diag_note(E->d, g, e->span, "%s is %lld", e->name, (long long)i);
}

static char *dim_value_text(Elab *E, const Ast *e, int64_t v) {
  return e->kind == AST_INT ? arena_printf(E->a, "%lld", (long long)v)
                            : arena_printf(E->a, "%s = %lld", expr_text(E, e), (long long)v);
}

/* Would the argument's transpose fit the annotation? */
static bool transpose_fits(Elab *E, Sig *s, const Later *l) {
  int r = l->v->t.rank, n = l->type->nkid;
  if (r < 2 || n < 2 || l->axis < r - 2) return false;
  for (int k = 1; k <= 2; k++) {
    Ast *dim = l->type->kid[n - k];
    if (dim->kind == AST_ELLIPSIS) return false;
    Linear d = dim_eval(E, s, dim);
    if (!d.ok || (!d.var && d.c != l->v->t.dim[r - (3 - k)].n)) return false;
  }
  return true;
}

static _Noreturn void fail_dim(Elab *E, Sig *s, const Later *l, int64_t wanted) {
  const char *got = l->got.sym ? l->got.sym : arena_printf(E->a, "%lld", (long long)l->got.n);
  Diag *g = diag_add(E->d, S_MISMATCH, l->at, "%s is %s, but `%s` needs %s: axis %d is %s, not %s", l->what,
                     v_type_text(E, l->v), s->fname, type_text(E, l->type), l->axis, got,
                     s->symbolic ? expr_text(E, l->dim) : dim_value_text(E, l->dim, wanted));
  note_clash(E, g, l->got, (Dim){.n = wanted, .sym = l->dim->kind == AST_NAME ? l->dim->name : NULL});
  note_variables(E, s, g, l->dim);
  note_origin(E, g, l->got);
  if (transpose_fits(E, s, l)) diag_help(E->d, g, "its transpose fits: .t swaps the last two axes");
  elab_fail(E, g);
}

static void bind_dim(Elab *E, Sig *s, Ast *e, Name var, int64_t n, const Later *l) {
  const char *size =
      s->symbolic ? arena_printf(E->a, "%s is", var) : arena_printf(E->a, "%s = %lld from", var, (long long)n);
  const Origin *o = origin_new(E, l->got.from, l->at, "%s axis %d of %s", size, l->axis, l->what);
  s->env = env_bind_sig(E, s->env, var, v_int(E, n, o), e->span);
}

/* False: it must wait. */
static bool match_dim(Elab *E, Sig *s, const Later *l) {
  Linear d = dim_eval(E, s, l->dim);
  if (!d.ok) return false;
  if (l->got.n < 0) {
    if (d.var) bind_dim(E, s, l->dim, d.var, -1, l);
    return true;
  }
  if (!d.var) {
    if (d.c != l->got.n) fail_dim(E, s, l, d.c);
    return true;
  }
  int64_t rest;
  bool fits = d.a != 0 && !__builtin_sub_overflow(l->got.n, d.c, &rest) && rest % d.a == 0 && rest / d.a >= 0;
  if (!fits) {
    Diag *g = diag_add(E->d, S_MISMATCH, l->at, "axis %d of %s is %lld, which is not %s for any size %s", l->axis,
                       l->what, (long long)l->got.n, expr_text(E, l->dim), d.var);
    note_origin(E, g, l->got);
    elab_fail(E, g);
  }
  bind_dim(E, s, l->dim, d.var, rest / d.a, l);
  return true;
}

/* ---- shapes ---------------------------------------------------------------------------------------------------- */

static _Noreturn void fail_rank(Elab *E, Sig *s, Ast *type, Value *v, const char *what, Span at) {
  Diag *g =
      diag_add(E->d, S_RANK, at, "%s is %s, but `%s` needs %s", what, v_type_text(E, v), s->fname, type_text(E, type));
  diag_note(E->d, g, type->span, "the annotation is here");
  elab_fail(E, g);
}

static void match_rest(Elab *E, Sig *s, Ast *type, Value *v, int from, int n, const char *what, Span at) {
  const Dim *d = v->t.dim + from;
  if (!s->has_rest) {
    s->has_rest = true, s->nrest = n, s->rest_from = what, s->rest_at = at;
    memcpy(s->rest, d, sizeof *d * (size_t)n);
    return;
  }
  bool same = n == s->nrest;
  for (int k = 0; k < n && same; k++) same = d[k].n == s->rest[k].n || d[k].n < 0 || s->rest[k].n < 0;
  if (same) return;
  Diag *g = diag_add(E->d, S_MISMATCH, at, "`...` is %s in %s but %s in %s", shape_text(E, n, d), what,
                     shape_text(E, s->nrest, s->rest), s->rest_from);
  if (s->rest_at.file) diag_note(E->d, g, s->rest_at, "%s is here", s->rest_from);
  elab_fail(E, g);
}

/* v is a tensor; returns it with sizes that remember this signature. */
static Value *match_shape(Elab *E, Sig *s, Ast *type, Value *v, const char *what, Span at) {
  int rest = -1, fixed = 0;
  for (int k = 0; k < type->nkid; k++) {
    if (type->kid[k]->kind != AST_ELLIPSIS)
      fixed++;
    else if (rest >= 0)
      diag_fail(E->d, T_TYPE, type->kid[k]->span, "a shape has at most one `...`");
    else
      rest = k;
  }
  int nrest = v->t.rank - fixed;
  if (rest < 0 ? nrest != 0 : nrest < 0) fail_rank(E, s, type, v, what, at);
  Value *r = v_tensor(E, v->t.dtype, v->t.rank, v->t.dim, v->t.e);
  r->t.weak = v->t.weak, r->t.id = v->t.id;
  if (rest >= 0) match_rest(E, s, type, v, rest, nrest, what, at);
  for (int k = 0, axis = 0; k < type->nkid; k++) {
    if (k == rest) {
      axis += nrest;
      continue;
    }
    Later l = {type->kid[k], v->t.dim[axis], what, axis, at, type, v};
    if (!match_dim(E, s, &l)) vec_push(E->a, &s->later, l);
    Dim *d = &r->t.dim[axis];
    if (l.dim->kind == AST_NAME) {
      if (d->n >= 0 && !s->symbolic)
        d->from = origin_new(E, d->from, at, "%lld is %s, axis %d of %s", (long long)d->n, l.dim->name, axis, what);
      if (s->symbolic) {
        d->sym = l.dim->name;
        d->from = origin_new(E, d->from, l.dim->span, "%s is axis %d of %s", d->sym, axis, what);
      }
    }
    axis++;
  }
  return r;
}

/* ---- types ----------------------------------------------------------------------------------------------------- */

static _Noreturn void fail_type(Elab *E, Sig *s, Ast *type, Value *v, const char *what, Span at, DType to) {
  if (v->kind == V_POISON) diag_unwind(E->d);
  bool mix = v->kind == V_TENSOR && dt_is_float(v->t.dtype) && to != DT_COUNT && dt_is_float(to);
  Diag *g = diag_add(E->d, mix ? T_DTYPE : T_TYPE, at, "%s is %s, but `%s` needs %s", what, v_type_text(E, v), s->fname,
                     type_text(E, type));
  if (mix && !type->name && s->flt_value && s->flt_at.file)
    diag_note(E->d, g, s->flt_at, "the floats of this signature are %s because of this", dt_name(to));
  else
    diag_note(E->d, g, type->span, "the annotation is here");
  if (to != DT_COUNT && (v->kind == V_TENSOR || v->kind == V_RANGE || v->kind == V_NUM))
    diag_help(E->d, g, "%s(...) converts it", dt_name(to));
  elab_fail(E, g);
}

static bool is_scalar_name(Ast *type, const char *name) { return !type->ival && name_is(type->name, name); }

static Value *match_scalar_word(Elab *E, Sig *s, Ast *type, Value *v, const char *what, Span at, bool *known) {
  *known = true;
  int64_t i;
  if (is_scalar_name(type, "int")) {
    bool ok = v_is_static_int(v, &i) || (v->kind == V_TENSOR && v->t.rank == 0 && dt_is_int(v->t.dtype));
    if (!ok) fail_type(E, s, type, v, what, at, DT_COUNT);
    return v;
  }
  if (is_scalar_name(type, "float")) {
    bool ok = v->kind == V_NUM || (v->kind == V_TENSOR && v->t.rank == 0 && dt_is_float(v->t.dtype));
    if (!ok) fail_type(E, s, type, v, what, at, DT_F32);
    return v->kind == V_NUM && !v->num.is_float ? v_float(E, v->num.f) : v;
  }
  static const struct {
    const char *name;
    ValueKind kind;
  } words[] = {{"string", V_STR}, {"function", V_FUN}, {"model", V_MODEL}, {"dtype", V_DTYPE}, {"range", V_RANGE}};
  for (size_t k = 0; k < sizeof words / sizeof *words; k++) {
    if (!is_scalar_name(type, words[k].name)) continue;
    if (v->kind != words[k].kind) fail_type(E, s, type, v, what, at, DT_COUNT);
    return v;
  }
  *known = false;
  return v;
}

static Value *match_tensor(Elab *E, Sig *s, Ast *type, Value *v, const char *what, Span at) {
  bool any_float = !type->name, any_int = name_is(type->name, "int");
  DType want = DT_COUNT;
  Value *model = !any_float && !type->ival ? name_lookup(E, s->outer, type->name) : NULL;
  if (model && model->kind == V_FUN && model->fun->kind == FUN_MODEL) { /* a model's name: one made by it */
    if (v->kind != V_MODEL || v->model->def != model->fun) fail_type(E, s, type, v, what, at, DT_COUNT);
    return v;
  }
  if (!any_float && !any_int && !dt_by_name(type->name, (int)strlen(type->name), &want)) {
    Diag *g = diag_add(E->d, N_UNKNOWN, type->at.file ? type->at : type->span, "unknown type `%s`", type->name);
    diag_help(E->d, g, "types: dtypes such as f32[N], [N] (any float), int[N], int, float, bool, string, function");
    elab_fail(E, g);
  }
  bool number = v->kind == V_NUM || v->kind == V_BOOL;
  if (!number && v->kind != V_TENSOR && v->kind != V_RANGE) fail_type(E, s, type, v, what, at, DT_COUNT);
  if (want == DT_BOOL && v->kind == V_BOOL && !type->nkid) return v;
  TensorV *t = v_as_tensor(E, v, at, what);
  Value *x = v->kind == V_TENSOR ? v : v_tensor(E, t->dtype, t->rank, t->dim, t->e);
  x->t.weak |= v->kind == V_NUM;
  DType to = x->t.dtype;
  if (any_float) {
    to = s->has_flt ? s->flt : x->t.weak || !dt_is_float(to) ? DT_F32 : to;
    if (x->t.weak ? x->t.dtype == DT_BOOL : x->t.dtype != to) fail_type(E, s, type, v, what, at, to);
  } else if (any_int) {
    if (!dt_is_int(to)) fail_type(E, s, type, v, what, at, DT_I64);
  } else {
    bool adapts = x->t.weak && (dt_is_float(want) || (!dt_is_float(x->t.dtype) && want != DT_BOOL));
    if (!adapts && (x->t.dtype != want || x->t.weak)) fail_type(E, s, type, v, what, at, want);
    to = want;
  }
  if (x->t.weak) x = tv_cast(E, x, to, at);
  if (any_float && !s->has_flt) s->has_flt = true, s->flt = to, s->flt_value = x, s->flt_at = at;
  return match_shape(E, s, type, x, what, at);
}

static Value *match_tuple(Elab *E, Sig *s, Ast *type, Value *v, const char *what, Span at) {
  if (v->kind != V_TUPLE || v->agg.n != type->nkid) fail_type(E, s, type, v, what, at, DT_COUNT);
  Value **kid = arena_array(E->a, Value *, v->agg.n);
  for (int k = 0; k < v->agg.n; k++)
    kid[k] = sig_match(E, s, type->kid[k], v->agg.at[k], arena_printf(E->a, "item %d of %s", k, what), at);
  return v_tuple(E, v->agg.n, kid);
}

/* Fields beyond the annotation's are allowed. */
static Value *match_record(Elab *E, Sig *s, Ast *type, Value *v, const char *what, Span at) {
  if (v->kind != V_RECORD) fail_type(E, s, type, v, what, at, DT_COUNT);
  Value **kid = arena_array(E->a, Value *, v->agg.n);
  memcpy(kid, v->agg.at, sizeof *kid * (size_t)v->agg.n);
  for (int k = 0; k < type->nkid; k++) {
    Ast *f = type->kid[k];
    int j = 0;
    while (j < v->agg.n && v->agg.key[j] != f->name) j++;
    if (j == v->agg.n) fail_type(E, s, type, v, what, at, DT_COUNT);
    kid[j] = sig_match(E, s, f->type, kid[j], arena_printf(E->a, "field `%s` of %s", f->name, what), at);
  }
  return v_record(E, v->agg.n, v->agg.key, kid);
}

Value *sig_match(Elab *E, Sig *s, Ast *type, Value *v, const char *what, Span at) {
  if (type->kind == AST_TTUPLE) return match_tuple(E, s, type, v, what, at);
  if (type->kind == AST_TRECORD) return match_record(E, s, type, v, what, at);
  bool known;
  Value *r = match_scalar_word(E, s, type, v, what, at, &known);
  return known ? r : match_tensor(E, s, type, v, what, at);
}

void sig_float(Elab *E, Sig *s, Ast *type, Value *v, const char *what, Span at) {
  if (s->has_flt || !v) return;
  if (type->kind == AST_TTUPLE && v->kind == V_TUPLE)
    for (int k = 0; k < type->nkid && k < v->agg.n; k++) sig_float(E, s, type->kid[k], v->agg.at[k], what, at);
  Value *field;
  if (type->kind == AST_TRECORD)
    for (int k = 0; k < type->nkid; k++)
      if (v_field(v, type->kid[k]->name, &field)) sig_float(E, s, type->kid[k]->type, field, what, at);
  if (type->kind != AST_TYPE || type->name || v->kind != V_TENSOR || v->t.weak || !dt_is_float(v->t.dtype)) return;
  s->has_flt = true, s->flt = v->t.dtype, s->flt_value = v, s->flt_at = at;
}

void sig_finish(Elab *E, Sig *s) {
  bool progress = true;
  while (s->later.n && progress) {
    progress = false;
    int n = 0;
    for (int k = 0; k < s->later.n; k++) {
      Later l = s->later.at[k];
      if (match_dim(E, s, &l))
        progress = true;
      else
        s->later.at[n++] = l;
    }
    s->later.n = n;
  }
  if (!s->later.n) return;
  const Later *l = &s->later.at[0];
  Diag *g = diag_add(E->d, T_STATIC, l->dim->span, "the sizes in %s cannot be solved from the arguments",
                     expr_text(E, l->dim));
  diag_help(E->d, g, "let each variable stand alone in some parameter, or be an `int` parameter");
  elab_fail(E, g);
}

void sig_begin(Elab *E, Sig *s, const Env *env, const char *fname) {
  (void)E;
  memset(s, 0, sizeof *s);
  s->env = s->outer = env, s->fname = fname;
}

/* ---- sizes of what is made, not matched ------------------------------------------------------------------------- */

/* `name` may be bound to something that is no integer: a network's input, given to a layer in place of its size. */
static void unknown_size(Elab *E, const Sig *s, const Ast *e, const char *name, const char *what) {
  Diag *g = diag_add(E->d, N_UNKNOWN, e->span, "unknown size `%s` of `%s`", name, what);
  const Env *bound = e->kind == AST_NAME ? env_find(s->env, e->name) : NULL;
  bool tensor = bound && bound->v->kind == V_TENSOR;
  if (tensor)
    diag_help(E->d, g,
              "`%s` is given %s: layers are made of sizes and then applied to their input, as in x |> Dense(_, 10)",
              name, v_type_text(E, bound->v));
  else
    diag_help(E->d, g, "sizes are made of numbers, the model's arguments and its members above");
  elab_fail(E, g);
}

int sig_shape(Elab *E, Sig *s, Ast *type, const char *what, Dim *dim) {
  if (type->nkid > TG_MAX_RANK) diag_fail(E->d, S_RANK, type->span, "%d axes; %d is the most", type->nkid, TG_MAX_RANK);
  for (int k = 0; k < type->nkid; k++) {
    Ast *e = type->kid[k];
    if (e->kind == AST_ELLIPSIS) diag_fail(E->d, T_TYPE, e->span, "`%s` needs all its sizes: `...` has none", what);
    Linear d = dim_eval(E, s, e);
    if (!d.ok || d.var) { unknown_size(E, s, e, d.var ? d.var : expr_text(E, e), what); }
    if (d.c < 0) {
      Diag *g =
          diag_add(E->d, S_NEGATIVE, e->span, "axis %d of `%s` would have the size %lld", k, what, (long long)d.c);
      note_variables(E, s, g, e);
      elab_fail(E, g);
    }
    dim[k] =
        (Dim){.n = d.c, .from = origin_new(E, d.from, e->span, "%lld is axis %d of `%s`", (long long)d.c, k, what)};
  }
  return type->nkid;
}

static void assign_names(Elab *E, Sig *s, Ast *e, int64_t (*size)(void *ctx, int nth), void *ctx, int *nth) {
  bool own;
  if (e->kind == AST_BINARY) {
    assign_names(E, s, e->a, size, ctx, nth);
    assign_names(E, s, e->b, size, ctx, nth);
  }
  if (e->kind == AST_NAME && !find_dim(E, s, e->name, &own) && !own)
    s->env = env_bind_sig(E, s->env, e->name, v_int(E, size(ctx, (*nth)++), NULL), e->span);
}

void sig_assign(Elab *E, Sig *s, Ast *type, int64_t (*size)(void *ctx, int nth), void *ctx, int *nth) {
  for (int k = 0; k < type->nkid; k++) assign_names(E, s, type->kid[k], size, ctx, nth);
}
