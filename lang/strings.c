/* Text: interpolation, the template of the native `print`, and the texts of static numbers.
 *
 * A string whose pieces are all static is a plain V_STR. Otherwise it is a template with run-time operands, which `print`
 * and `assert` take over as they are. Static decimals go into templates as operands too, so that one formatter prints
 * them all; only where a string must be static (a path) are they written here. */
#include "lang/fold.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

char *num_text(Arena *a, double v) {
  float f = (float)v;
  bool narrow = isfinite(f) == isfinite(v) && (f != 0) == (v != 0); /* it prints as the f32 that it becomes */
  if (isnan(v)) return arena_strdup(a, "nan");
  if (isinf(v)) return arena_strdup(a, v < 0 ? "-inf" : "inf");
  char buf[40];
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(buf, sizeof buf, "%.*g", digits, narrow ? (double)f : v);
    if (narrow ? strtof(buf, NULL) == f : strtod(buf, NULL) == v) break;
  }
  return strpbrk(buf, ".e") ? arena_strdup(a, buf) : arena_printf(a, "%s.0", buf);
}

/* ---- templates ------------------------------------------------------------------------------------------------- */

static void put(Elab *E, Template *t, const char *s, size_t n) {
  for (size_t i = 0; i < n; i++) vec_push(E->a, &t->text, s[i]);
}

void template_text(Elab *E, Template *t, const char *s, size_t n) {
  for (size_t i = 0; i < n; i++) {
    put(E, t, s + i, 1);
    if (s[i] == '{' || s[i] == '}') put(E, t, s + i, 1);
  }
}

static void put_str(Elab *E, Template *t, const char *s) { put(E, t, s, strlen(s)); }
static void text_str(Elab *E, Template *t, const char *s) { template_text(E, t, s, strlen(s)); }

static void put_operand(Elab *E, Template *t, Value *v, const char *fmt) {
  put_str(E, t, arena_printf(E->a, fmt ? "{%d:%s}" : "{%d}", t->arg.n, fmt));
  vec_push(E->a, &t->arg, v);
}

/* The operands of a string's template, renumbered. */
static void put_template(Elab *E, Template *t, const Value *s) {
  for (size_t i = 0; i < s->str.n; i++) {
    char c = s->str.s[i];
    bool brace = c == '{' || c == '}';
    if (!brace || (i + 1 < s->str.n && s->str.s[i + 1] == c)) {
      put(E, t, &s->str.s[i], brace ? 2 : 1);
      i += brace;
      continue;
    }
    char *rest;
    long k = strtol(s->str.s + i + 1, &rest, 10);
    const char *end = strchr(rest, '}');
    if (k < 0 || k >= s->str.narg || !end) bug("template `%s`", s->str.s);
    put_operand(E, t, s->str.arg[k], *rest == ':' ? arena_strndup(E->a, rest + 1, (size_t)(end - rest - 1)) : NULL);
    i = (size_t)(end - s->str.s);
  }
}

/* A static decimal as an operand, in f32 unless it does not fit there. */
static Value *num_operand(Elab *E, double v) {
  bool narrow = isfinite((float)v) == isfinite(v) && ((float)v != 0) == (v != 0);
  return v_scalar(E, ex_float(E->g, narrow ? DT_F32 : DT_F64, v));
}

static bool all_inline(const Value *v) {
  if (v->kind == V_TENSOR) return v->t.rank == 0;
  if (v->kind == V_RANGE) return true;
  if (v->kind != V_TUPLE && v->kind != V_RECORD) return true;
  for (int k = 0; k < v->agg.n; k++)
    if (!all_inline(v->agg.at[k])) return false;
  return true;
}

static void put_agg(Elab *E, Template *t, Value *v, const char *fmt, Span at) {
  bool rec = v->kind == V_RECORD;
  put_str(E, t, rec ? "{{" : "(");
  for (int k = 0; k < v->agg.n; k++) {
    if (k) put_str(E, t, ", ");
    if (rec) put_str(E, t, arena_printf(E->a, "%s: ", v->agg.key[k]));
    template_value(E, t, v->agg.at[k], fmt, at, true);
  }
  put_str(E, t, rec ? "}}" : v->agg.n == 1 ? ",)" : ")");
}

/* Items on lines of their own, each tensor below its name. */
static void put_lines(Elab *E, Template *t, Value *v, const char *prefix, Span at) {
  for (int k = 0; k < v->agg.n; k++) {
    Value *x = v->agg.at[k];
    const char *name = v->kind == V_RECORD ? arena_printf(E->a, "%s%s%s", prefix, *prefix ? "." : "", v->agg.key[k])
                                           : arena_printf(E->a, "%s[%d]", prefix, k);
    if (k) put_str(E, t, "\n");
    bool agg = x->kind == V_TUPLE || x->kind == V_RECORD;
    if (agg && x->agg.n && !all_inline(x)) {
      put_lines(E, t, x, name, at);
      continue;
    }
    text_str(E, t, name);
    put_str(E, t, x->kind == V_TENSOR && x->t.rank ? ":\n" : ": ");
    template_value(E, t, x, NULL, at, x->kind != V_TENSOR);
  }
}

void template_value(Elab *E, Template *t, Value *v, const char *fmt, Span at, bool nested) {
  switch (v->kind) {
  case V_POISON: diag_unwind(E->d);
  case V_NONE: text_str(E, t, "none"); return;
  case V_BOOL:
    if (fmt) put_operand(E, t, v_scalar(E, ex_bool(E->g, v->b)), fmt);
    else text_str(E, t, v->b ? "true" : "false");
    return;
  case V_NUM:
    if (v->num.is_float) put_operand(E, t, num_operand(E, v->num.f), fmt);
    else if (fmt) put_operand(E, t, v_scalar(E, ex_int(E->g, DT_I64, v->num.i)), fmt);
    else text_str(E, t, arena_printf(E->a, "%lld", (long long)v->num.i));
    return;
  case V_STR:
    if (nested) text_str(E, t, "\"");
    if (v->str.narg) put_template(E, t, v);
    else template_text(E, t, v->str.s, v->str.n);
    if (nested) text_str(E, t, "\"");
    return;
  case V_DTYPE: text_str(E, t, dt_name(v->dtype)); return;
  case V_TENSOR: put_operand(E, t, tv_harden(E, v, at), fmt); return;
  case V_RANGE: {
    template_value(E, t, v->range.lo, fmt, at, true);
    put_str(E, t, "..");
    template_value(E, t, v->range.hi, fmt, at, true);
    return;
  }
  case V_TUPLE:
  case V_RECORD:
    if (!nested && !fmt && !all_inline(v)) put_lines(E, t, v, "", at);
    else put_agg(E, t, v, fmt, at);
    return;
  default: text_str(E, t, v_type_text(E, v)); return;
  }
}

/* ---- the effect ------------------------------------------------------------------------------------------------ */

void effect_allowed(Elab *E, const char *what, Span at) {
  if (E->effects_allowed) return;
  Diag *g = diag_add(E->d, T_EFFECT, at, "%s inside a comprehension", what);
  diag_help(E->d, g, "a loop has an order: for i in 0..n { ... }");
  elab_fail(E, g);
}

void effect_call(Elab *E, const char *native, int nattr, const Attr *attr, int narg, Node *const *arg, Span at) {
  const Native *fn = natives_find(E->natives, native);
  if (!fn) bug("no native `%s`", native);
  Node *n = nd_call(E->g, fn, nattr, attr, narg, arg, 0, NULL);
  if (E->trial) return;
  vec_push(E->a, &E->effect, n);
}

void template_print(Elab *E, Template *t, Span at) {
  effect_allowed(E, "print", at);
  Node **arg = arena_array(E->a, Node *, t->arg.n);
  for (int k = 0; k < t->arg.n; k++) arg[k] = tv_closed(E, t->arg.at[k]);
  vec_push(E->a, &t->text, 0);
  Attr a = {.s = t->text.at};
  effect_call(E, "print", 1, &a, t->arg.n, arg, at);
}

/* ---- interpolation --------------------------------------------------------------------------------------------- */

/* The subset of Python's format language that print.h reads: is it well formed at all? What it means for a dtype is checked by
 * the native. */
static void check_format(Elab *E, const char *f, Span at) {
  const char *p = f;
  if (*p && p[1] && strchr("<>^=", p[1])) p += 2;
  else if (*p && strchr("<>^=", *p)) p++;
  if (*p && strchr("+- ", *p)) p++;
  while (*p >= '0' && *p <= '9') p++;
  if (*p == ',') p++;
  if (*p == '.') {
    p++;
    if (*p < '0' || *p > '9') p = "?";
    while (*p >= '0' && *p <= '9') p++;
  }
  if (*p && strchr("dfFeEgG%xXbo", *p)) p++;
  if (*p || strlen(f) > 30)
    diag_fail(E->d, P_SYNTAX, at, "`:%s` is not a format: write [width][,][.digits][d f e g %% x b o], as in {x:.4} or {x:8.2f}", f);
}

Value *elab_string(Elab *E, const Env *env, Ast *e) {
  Template t = {0};
  VEC(char) plain = {0};
  bool is_static = true;
  for (int k = 0; k < e->nkid; k++) {
    Ast *p = e->kid[k];
    if (p->kind == AST_STR) {
      template_text(E, &t, p->name, (size_t)p->ival);
      for (int64_t i = 0; i < p->ival; i++) vec_push(E->a, &plain, p->name[i]);
      continue;
    }
    if (p->name) check_format(E, p->name, p->span);
    Value *v = elab_expr(E, env, p->a);
    template_value(E, &t, v, p->name, p->a->span, false);
    char *s = NULL;
    if (v->kind == V_STR && v->str.narg == 0) s = arena_strndup(E->a, v->str.s, v->str.n);
    else if (v->kind == V_NUM && !p->name)
      s = v->num.is_float ? num_text(E->a, v->num.f) : arena_printf(E->a, "%lld", (long long)v->num.i);
    else if (v->kind == V_BOOL && !p->name) s = arena_strdup(E->a, v->b ? "true" : "false");
    else is_static = false;
    for (; s && *s; s++) vec_push(E->a, &plain, *s);
  }
  if (is_static) return v_str(E, plain.at ? plain.at : "", (size_t)plain.n);
  vec_push(E->a, &t.text, 0);
  Value *v = v_str(E, t.text.at, (size_t)t.text.n - 1);
  v->str.narg = t.arg.n, v->str.arg = t.arg.at;
  if (t.arg.n == 0) bug("a template without operands");
  return v;
}
