/* Values: makers, static readers, their types as text, and notes about where sizes come from. */
#include "lang/data.h"
#include "lang/model.h"
#include <math.h>
#include <string.h>

const char *const value_kind_text[] = {"nothing",       "a number", "a bool",     "a string",           "a tuple",
                                       "a record",      "a range",  "a function", "a tensor",           "a dtype",
                                       "a module",      "a model",  "a data set", "a size to be found", "zipped values",
                                       "a failed value"};

static Value *v_make(Elab *E, ValueKind kind) {
  Value *v = arena_new_of(E->a, Value);
  v->kind = kind;
  return v;
}

Value *v_none(Elab *E) { return v_make(E, V_NONE); }

Value *v_int(Elab *E, int64_t i, const Origin *from) {
  Value *v = v_make(E, V_NUM);
  v->num.i = i, v->num.f = (double)i, v->num.from = from;
  return v;
}

Value *v_float(Elab *E, double f) {
  Value *v = v_make(E, V_NUM);
  v->num.is_float = true, v->num.f = f;
  return v;
}

Value *v_bool(Elab *E, bool b) {
  Value *v = v_make(E, V_BOOL);
  v->b = b;
  return v;
}

Value *v_str(Elab *E, const char *s, size_t n) {
  Value *v = v_make(E, V_STR);
  v->str.s = arena_strndup(E->a, s, n), v->str.n = n;
  return v;
}

Value *v_tuple(Elab *E, int n, Value **at) {
  Value *v = v_make(E, V_TUPLE);
  v->agg.n = n, v->agg.at = arena_copy(E->a, at, sizeof *at * (size_t)n);
  return v;
}

Value *v_record(Elab *E, int n, Name *key, Value **at) {
  Value *v = v_make(E, V_RECORD);
  v->agg.n = n, v->agg.at = arena_copy(E->a, at, sizeof *at * (size_t)n);
  v->agg.key = arena_copy(E->a, key, sizeof *key * (size_t)n);
  return v;
}

Value *v_range(Elab *E, Value *lo, Value *hi) {
  Value *v = v_make(E, V_RANGE);
  v->range.lo = lo, v->range.hi = hi;
  return v;
}

Value *v_dtype(Elab *E, DType t) {
  Value *v = v_make(E, V_DTYPE);
  v->dtype = t;
  return v;
}

Value *v_fun(Elab *E, Fun *f) {
  Value *v = v_make(E, V_FUN);
  v->fun = f;
  return v;
}

Value *v_builtin(Elab *E, const Builtin *b) {
  Fun *f = arena_new_of(E->a, Fun);
  f->kind = FUN_BUILTIN, f->name = b->name, f->builtin = b, f->doc = b->doc;
  return v_fun(E, f);
}

Value *v_tensor(Elab *E, DType t, int rank, const Dim *dim, Expr *e) {
  if (rank > TG_MAX_RANK) bug("a value of rank %d", rank);
  Value *v = v_make(E, V_TENSOR);
  v->t.dtype = t, v->t.rank = rank, v->t.e = e;
  if (rank) memcpy(v->t.dim, dim, sizeof *dim * (size_t)rank);
  return v;
}

Value *v_scalar(Elab *E, Expr *e) { return v_tensor(E, e->dtype, 0, NULL, e); }

Value *v_node(Elab *E, Node *n) {
  Dim dim[TG_MAX_RANK] = {0};
  if (n->rank > TG_MAX_RANK) bug("a node of rank %d as a value", n->rank);
  for (int k = 0; k < n->rank; k++) dim[k].n = n->dim[k];
  return v_tensor(E, n->dtype, n->rank, dim, ex_load_full(E->g, n, 0));
}

bool v_field(const Value *rec, Name key, Value **out) {
  if (rec->kind != V_RECORD) return false;
  for (int k = 0; k < rec->agg.n; k++)
    if (rec->agg.key[k] == key) return *out = rec->agg.at[k], true;
  return false;
}

/* ---- as tensors ------------------------------------------------------------------------------------------------ */

static Value *range_tensor(Elab *E, Value *r, Span at, const char *what) {
  Value *lo = r->range.lo, *hi = r->range.hi;
  int64_t a, b;
  Dim d = {0};
  if (v_is_static_int(lo, &a) && v_is_static_int(hi, &b)) {
    int64_t n;
    if (__builtin_sub_overflow(b, a, &n)) diag_fail(E->d, S_OVERFLOW, at, "the range's length does not fit in 64 bits");
    d.n = n < 0 ? 0 : n;
    d.from = hi->kind == V_NUM ? hi->num.from : NULL;
    int64_t one = 1;
    Expr *it = ex_iter(E->g, 0);
    return v_tensor(E, DT_I64, 1, &d, ex_lin(E->g, a, 1, &one, &it));
  }
  Expr *elo = v_as_tensor(E, lo, at, "a range's start")->e, *ehi = v_as_tensor(E, hi, at, "a range's end")->e;
  elo = ex_cast(E->g, DT_I64, elo), ehi = ex_cast(E->g, DT_I64, ehi);
  Expr *len = ex_op2(E->g, OP_SUB, ehi, elo);
  double n;
  if (!ex_is_const(len, &n))
    diag_fail(E->d, T_STATIC, at, "%s: the length of this range is known at run time only, and sizes must be static",
              what);
  d.n = n < 0 ? 0 : (int64_t)n;
  return v_tensor(E, DT_I64, 1, &d, ex_op2(E->g, OP_ADD, elo, ex_iter(E->g, 0)));
}

TensorV *v_as_tensor(Elab *E, Value *v, Span at, const char *what) {
  Value *t = NULL;
  switch (v->kind) {
  case V_TENSOR:
    return &v->t;
  case V_NUM:
    t = v_scalar(E, v->num.is_float ? ex_float(E->g, DT_F64, v->num.f) : ex_int(E->g, DT_I64, v->num.i));
    t->t.weak = true;
    return &t->t;
  case V_BOOL:
    return &v_scalar(E, ex_bool(E->g, v->b))->t;
  case V_RANGE:
    return &range_tensor(E, v, at, what)->t;
  case V_POISON:
    diag_unwind(E->d);
  default:
    diag_fail(E->d, T_TYPE, at, "%s must be a tensor, but it is %s", what, v_type_text(E, v));
  }
}

/* ---- static readers -------------------------------------------------------------------------------------------- */

/* A rank-0 tensor whose value the graph knows is as static as a literal: u8(3), an unrolled index. */
static bool const_expr(const Value *v, double *f, int64_t *i) {
  if (v->kind != V_TENSOR || v->t.rank || v->t.e->kind != EX_CONST) return false;
  bool flt = dt_is_float((DType)v->t.e->dtype);
  *f = flt ? v->t.e->num.f : (double)v->t.e->num.i;
  *i = flt ? 0 : v->t.e->num.i;
  return true;
}

bool v_is_static_int(const Value *v, int64_t *out) {
  double f;
  if (v->kind == V_NUM && !v->num.is_float) return *out = v->num.i, true;
  return v->kind == V_TENSOR && dt_is_int(v->t.dtype) && const_expr(v, &f, out);
}

static _Noreturn void fail_static(Elab *E, Value *v, Span at, const char *what, const char *wanted) {
  if (v->kind == V_POISON) diag_unwind(E->d);
  if (v->kind == V_TENSOR && v->t.rank == 0) {
    Diag *g = diag_add(E->d, T_STATIC, at, "%s must be static, but this %s is known at run time only", what,
                       dt_name(v->t.dtype));
    diag_help(E->d, g, "static(...) computes a value during checking");
    elab_fail(E, g);
  }
  diag_fail(E->d, T_TYPE, at, "%s must be %s, but it is %s", what, wanted, v_type_text(E, v));
}

int64_t v_static_int(Elab *E, Value *v, Span at, const char *what) {
  int64_t i;
  if (v_is_static_int(v, &i)) return i;
  if (v->kind == V_NUM)
    diag_fail(E->d, T_TYPE, at, "%s must be an integer, but it is %s", what, num_text(E->a, v->num.f));
  if (v->kind == V_TENSOR && v->t.rank == 0 && dt_is_float(v->t.dtype))
    diag_fail(E->d, T_TYPE, at, "%s must be an integer, but it is %s", what, v_type_text(E, v));
  fail_static(E, v, at, what, "an integer");
}

double v_static_num(Elab *E, Value *v, Span at, const char *what) {
  double f;
  int64_t i;
  if (v->kind == V_NUM) return v->num.is_float ? v->num.f : (double)v->num.i;
  if (const_expr(v, &f, &i)) return f;
  fail_static(E, v, at, what, "a number");
}

bool v_static_bool(Elab *E, Value *v, Span at, const char *what) {
  double f;
  int64_t i;
  if (v->kind == V_BOOL) return v->b;
  if (v->kind == V_TENSOR && v->t.dtype == DT_BOOL && const_expr(v, &f, &i)) return i != 0;
  fail_static(E, v, at, what, "a bool");
}

const char *v_static_str(Elab *E, Value *v, Span at, const char *what) {
  if (v->kind == V_STR && v->str.narg == 0) return v->str.s;
  if (v->kind == V_STR)
    diag_fail(E->d, T_STATIC, at, "%s must be static, but it holds values that are known at run time only", what);
  fail_static(E, v, at, what, "a string");
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

char *shape_text(Elab *E, int rank, const Dim *dim) {
  char *s = arena_strdup(E->a, "[");
  for (int k = 0; k < rank; k++) {
    const char *sep = k ? ", " : "";
    if (dim[k].sym)
      s = arena_printf(E->a, "%s%s%s", s, sep, dim[k].sym);
    else if (dim[k].n < 0)
      s = arena_printf(E->a, "%s%s?", s, sep);
    else
      s = arena_printf(E->a, "%s%s%lld", s, sep, (long long)dim[k].n);
  }
  return arena_printf(E->a, "%s]", s);
}

static char *agg_text(Elab *E, const Value *v, int depth);

static char *type_text_at(Elab *E, const Value *v, int depth) {
  switch (v->kind) {
  case V_NUM:
    return v->num.is_float ? arena_printf(E->a, "the number %s", num_text(E->a, v->num.f))
                           : arena_printf(E->a, "the number %lld", (long long)v->num.i);
  case V_BOOL:
    return arena_strdup(E->a, v->b ? "true" : "false");
  case V_TUPLE:
  case V_RECORD:
    return agg_text(E, v, depth);
  case V_FUN:
    return arena_printf(E->a, "a function %s", fun_signature(E, v->fun));
  case V_TENSOR:
    if (v->t.rank == 0) return arena_strdup(E->a, dt_name(tv_hard_dtype(&v->t)));
    return arena_printf(E->a, "%s%s", dt_name(tv_hard_dtype(&v->t)), shape_text(E, v->t.rank, v->t.dim));
  case V_DTYPE:
    return arena_printf(E->a, "the dtype %s", dt_name(v->dtype));
  case V_MODULE:
    return arena_printf(E->a, "the module %s", v->module->name);
  case V_MODEL:
    return model_text(E, v->model);
  case V_DATA:
    return data_text(E, v);
  default:
    return arena_strdup(E->a, value_kind_text[v->kind]);
  }
}

static char *agg_text(Elab *E, const Value *v, int depth) {
  bool rec = v->kind == V_RECORD;
  if (depth > 3) return arena_strdup(E->a, rec ? "{...}" : "(...)");
  char *s = arena_strdup(E->a, rec ? "{" : "(");
  for (int k = 0; k < v->agg.n; k++) {
    if (k == 12) {
      s = arena_printf(E->a, "%s, ...", s);
      break;
    }
    char *t = type_text_at(E, v->agg.at[k], depth + 1);
    if (!strncmp(t, "the number ", 11)) t += 11;
    if (rec)
      s = arena_printf(E->a, "%s%s%s: %s", s, k ? ", " : "", v->agg.key[k], t);
    else
      s = arena_printf(E->a, "%s%s%s", s, k ? ", " : "", t);
  }
  return arena_printf(E->a, "%s%s", s, rec ? "}" : v->agg.n == 1 ? ",)" : ")");
}

char *v_type_text(Elab *E, const Value *v) { return type_text_at(E, v, 0); }

/* ---- origins of sizes ------------------------------------------------------------------------------------------ */

const Origin *origin_new(Elab *E, const Origin *via, Span at, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  Origin *o = arena_new_of(E->a, Origin);
  o->text = arena_vprintf(E->a, fmt, ap);
  va_end(ap);
  o->span = at, o->via = via;
  return o;
}

void note_origin(Elab *E, Diag *g, Dim d) {
  int n = 0;
  for (const Origin *o = d.from; o && n < 4; o = o->via) {
    if (!o->text) continue;
    diag_note(E->d, g, o->span, "%s", o->text);
    n++;
  }
}
