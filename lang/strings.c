/* Text: interpolation, the template of the native `print`, and the texts of static numbers.
 *
 * Static pieces are folded into the text, by the formatter that prints run-time values. A string whose pieces are all
 * static is a plain V_STR; otherwise it is a template with run-time operands, which `print` and `assert` take over as
 * they are. */
#include "lang/fold.h"
#include "lang/model.h"
#include "stdlib/native/print.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A static number in a format (NULL: plain): integers as i64, decimals as the f32 that they become, or as f64 where
 * that would overflow or vanish. */
static char *format_num(Arena *a, Num v, const char *fmt) {
  char buf[2048];
  float f = (float)v.f;
  uint8_t b = v.i != 0;
  bool narrow = isfinite(f) == isfinite(v.f) && (f != 0) == (v.f != 0);
  if (v.is_bool)
    format_scalar(buf, sizeof buf, DT_BOOL, &b, fmt);
  else if (!v.is_float)
    format_scalar(buf, sizeof buf, DT_I64, &v.i, fmt);
  else
    format_scalar(buf, sizeof buf, narrow ? DT_F32 : DT_F64, narrow ? (void *)&f : (void *)&v.f, fmt);
  return arena_strdup(a, buf);
}

char *num_text(Arena *a, double v) { return format_num(a, (Num){.is_float = true, .f = v}, NULL); }

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

static void check_format(Elab *E, DType t, const char *fmt, Span at) {
  const char *why = fmt ? strlen(fmt) > 60 ? "it is too long" : format_check(t, fmt) : NULL;
  if (why) diag_fail(E->d, T_TYPE, at, "the format `:%s` does not suit %s: %s", fmt, dt_name(t), why);
}

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
  bool numbers = v->kind == V_NUM || v->kind == V_BOOL || v->kind == V_TENSOR || v->kind == V_RANGE ||
                 v->kind == V_TUPLE || v->kind == V_RECORD;
  if (fmt && !numbers)
    diag_fail(E->d, T_TYPE, at, "the format `:%s` is for numbers, but this is %s", fmt, v_type_text(E, v));
  switch (v->kind) {
  case V_POISON:
    diag_unwind(E->d);
  case V_NONE:
    text_str(E, t, "none");
    return;
  case V_BOOL:
  case V_NUM: {
    Num num;
    v_num(v, &num);
    check_format(E, num.is_bool ? DT_BOOL : num.is_float ? DT_F32 : DT_I64, fmt, at);
    text_str(E, t, format_num(E->a, num, fmt));
    return;
  }
  case V_STR:
    if (nested) text_str(E, t, "\"");
    if (v->str.narg)
      put_template(E, t, v);
    else
      template_text(E, t, v->str.s, v->str.n);
    if (nested) text_str(E, t, "\"");
    return;
  case V_DTYPE:
    text_str(E, t, dt_name(v->dtype));
    return;
  case V_TENSOR:
    check_format(E, tv_hard_dtype(&v->t), fmt, at);
    put_operand(E, t, tv_harden(E, v, at), fmt);
    return;
  case V_RANGE: {
    template_value(E, t, v->range.lo, fmt, at, true);
    put_str(E, t, "..");
    template_value(E, t, v->range.hi, fmt, at, true);
    return;
  }
  case V_TUPLE:
  case V_RECORD:
    if (!nested && !fmt && !all_inline(v))
      put_lines(E, t, v, "", at);
    else
      put_agg(E, t, v, fmt, at);
    return;
  case V_MODEL:
    text_str(E, t, nested ? v_type_text(E, v) : model_tree(E, v->model));
    return;
  default:
    text_str(E, t, v_type_text(E, v));
    return;
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

Value *elab_string(Elab *E, const Env *env, Ast *e) {
  Template t = {0};
  VEC(char) plain = {0};
  for (int k = 0; k < e->nkid; k++) {
    Ast *p = e->kid[k];
    if (p->kind == AST_STR)
      template_text(E, &t, p->name, (size_t)p->ival);
    else
      template_value(E, &t, elab_expr(E, env, p->a), p->name, p->a->span, false);
  }
  if (t.arg.n == 0) { /* no operands: the template with its braces single again is the text */
    for (int i = 0; i < t.text.n; i++) {
      vec_push(E->a, &plain, t.text.at[i]);
      i += t.text.at[i] == '{' || t.text.at[i] == '}';
    }
    return v_str(E, plain.at ? plain.at : "", (size_t)plain.n);
  }
  vec_push(E->a, &t.text, 0);
  Value *v = v_str(E, t.text.at, (size_t)t.text.n - 1);
  v->str.narg = t.arg.n, v->str.arg = t.arg.at;
  return v;
}
