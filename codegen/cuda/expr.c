/* Expressions as C statements: each distinct sub-expression is one variable of the scope at hand. Addresses are formed
 * modulo 2^32 where the buffer is smaller (the sum is right whatever its parts do), else modulo 2^64. */
#include "codegen/cuda/emit.h"
#include <inttypes.h>

void cu_scope(Cu *c) { c->memo = (NumMap){.arena = c->a}; }

static const char *name_of(Cu *c, int v) { return arena_printf(c->a, "v%d", v); }

static const char *let(Cu *c, const Expr *e, const char *type, const char *value) {
  int v = c->nvar++;
  text_line(c->t, "const %s v%d = %s;", type, v, value);
  if (e) nummap_put(&c->memo, e, v);
  return name_of(c, v);
}

static int64_t extent_of(const Cu *c, int64_t iter) {
  return iter < c->k->npar ? c->k->par[iter] : c->st->extent[iter - c->k->npar];
}

/* ---- Linear forms ------------------------------------------------------------------------------------------------ */
typedef struct Sum {
  Text t;
  const char *u; /* unsigned type of the arithmetic */
  bool wide, any;
} Sum;

static void sum_init(Cu *c, Sum *s, bool wide) {
  text_init(&s->t, c->a);
  s->wide = wide;
  s->u = wide ? "u64" : "u32";
  s->any = false;
}
static void sum_const(Sum *s, int64_t v) {
  uint64_t u = s->wide ? (uint64_t)v : (uint32_t)v;
  if (!u) return;
  text_put(&s->t, "%s%" PRIu64 "%s", s->any ? " + " : "", u, s->wide ? "ull" : "u");
  s->any = true;
}
static void sum_term(Sum *s, int64_t coef, const char *x) {
  uint64_t u = s->wide ? (uint64_t)coef : (uint32_t)coef;
  if (!u) return;
  text_put(&s->t, "%s", s->any ? " + " : "");
  if (u != 1) text_put(&s->t, "%" PRIu64 "%s * ", u, s->wide ? "ull" : "u");
  text_put(&s->t, "(%s)%s", s->u, x);
  s->any = true;
}
static const char *sum_end(Sum *s) { return s->any ? s->t.at : s->wide ? "0ull" : "0u"; }

static const char *iter_name(Cu *c, const Expr *e) { return arena_printf(c->a, "i%" PRId64, e->num.i); }

/* Adds stride * e, taking linear forms apart. */
static void sum_expr(Cu *c, Sum *s, const Expr *e, int64_t stride) {
  if (!stride) return;
  switch (e->kind) {
  case EX_CONST:
    sum_const(s, (int64_t)((uint64_t)stride * (uint64_t)e->num.i));
    break;
  case EX_ITER:
    sum_term(s, stride, iter_name(c, e));
    break;
  case EX_LIN:
    if (nummap_get(&c->memo, e) >= 0) {
      sum_term(s, stride, cu_expr(c, e));
      break;
    }
    sum_const(s, (int64_t)((uint64_t)stride * (uint64_t)e->num.i));
    for (int i = 0; i < e->n; i++) {
      int64_t k = (int64_t)((uint64_t)stride * (uint64_t)e->coef[i]);
      if (e->arg[i]->kind == EX_ITER)
        sum_term(s, k, iter_name(c, e->arg[i]));
      else
        sum_term(s, k, cu_expr(c, e->arg[i]));
    }
    break;
  default:
    sum_term(s, stride, cu_expr(c, e));
  }
}

const char *cu_index(Cu *c, int buf, Expr *const *idx) {
  const KBuf *b = &c->k->buf[buf];
  Sum s;
  sum_init(c, &s, c->buf[buf].wide);
  for (int d = 0; d < b->rank; d++) sum_expr(c, &s, idx[d], c->buf[buf].stride[d]);
  return sum_end(&s);
}

const char *cu_place(Cu *c, const Stage *st) {
  const KBuf *b = &c->k->buf[st->out];
  Sum s;
  sum_init(c, &s, c->buf[st->out].wide);
  for (int d = 0; d < b->rank; d++)
    if (st->store[d] >= 0) sum_term(&s, c->buf[st->out].stride[d], arena_printf(c->a, "i%d", st->store[d]));
  return sum_end(&s);
}

void cu_store(Cu *c, int buf, const char *at, const char *value) {
  text_line(c->t, "b%d[%s] = %s;", buf, at, cu_to_mem(c, (DType)c->k->buf[buf].dtype, value));
}

/* ---- Loads ------------------------------------------------------------------------------------------------------- */
static bool inside(const Cu *c, const Expr *e, int64_t size) {
  if (e->kind == EX_CONST) return e->num.i >= 0 && e->num.i < size;
  return e->kind == EX_ITER && extent_of(c, e->num.i) <= size;
}

static const char *load(Cu *c, const Expr *e) {
  const KBuf *b = kernel_buf(c->k, e->node);
  if (!b) bug("cuda: a LOAD without a buffer");
  int at = (int)(b - c->k->buf);
  DType t = (DType)b->dtype;
  const char *mask = e->mask ? cu_expr(c, e->mask) : NULL, *zero = cu_num(c, t, 0);
  Sum s;
  sum_init(c, &s, c->buf[at].wide);
  for (int d = 0; d < e->n; d++) {
    if (b->dim[d] == 0) return let(c, e, cu_reg(t), zero); /* nothing to read: never run, or masked */
    if (!e->checked || inside(c, e->arg[d], b->dim[d])) {
      sum_expr(c, &s, e->arg[d], c->buf[at].stride[d]);
      continue;
    }
    const char *x = cu_expr(c, e->arg[d]);
    int v = c->nvar++;
    text_line(c->t, "i64 v%d = %s;", v, x);
    text_line(c->t, "if ((u64)v%d >= %" PRId64 "ull) {", v, b->dim[d]);
    text_line(c->t, "%s%s%stg_fault(A.fault, %d, (int)A.site + %d, v%d, %" PRId64 "ll, unit, %s);", mask ? "if (" : "",
              mask ? mask : "", mask ? ") " : "", KF_INDEX, kernel_site(c->k, e), v, b->dim[d], c->minor);
    text_line(c->t, "v%d = 0;", v);
    text_line(c->t, "}");
    sum_term(&s, c->buf[at].stride[d], name_of(c, v));
  }
  const char *x = cu_from_mem(c, t, arena_printf(c->a, "b%d[%s]", at, sum_end(&s)));
  return let(c, e, cu_reg(t), mask ? arena_printf(c->a, "%s ? %s : %s", mask, x, zero) : x);
}

/* ---- Operations -------------------------------------------------------------------------------------------------- */
static const char *operation(Cu *c, const Expr *e) {
  const char *arg[3] = {NULL, NULL, NULL};
  if (e->n > 3) bug("cuda: an operation of %d operands", e->n);
  for (int i = 0; i < e->n; i++) arg[i] = cu_expr(c, e->arg[i]);
  bool divides = (e->op == OP_FLOORDIV || e->op == OP_MOD) && dt_is_int((DType)e->dtype);
  if (divides && !(e->arg[1]->kind == EX_CONST && e->arg[1]->num.i != 0))
    text_line(c->t, "if (%s == 0) tg_fault(A.fault, %d, (int)A.site + %d, 0, 0, unit, %s);", arg[1], KF_DIVZERO,
              kernel_site(c->k, e), c->minor);
  return let(c, e, cu_reg((DType)e->dtype), cu_op(c, e, arg));
}

const char *cu_expr(Cu *c, const Expr *e) {
  int v = nummap_get(&c->memo, e);
  if (v >= 0) return name_of(c, v);
  switch (e->kind) {
  case EX_CONST:
    return dt_is_float((DType)e->dtype) ? cu_num(c, (DType)e->dtype, e->num.f) : cu_int(c, (DType)e->dtype, e->num.i);
  case EX_ITER:
    return arena_printf(c->a, "(i64)%s", iter_name(c, e));
  case EX_LIN: {
    Sum s;
    sum_init(c, &s, true);
    sum_expr(c, &s, e, 1);
    return let(c, e, "i64", arena_printf(c->a, "(i64)(%s)", sum_end(&s)));
  }
  case EX_LOAD:
    return load(c, e);
  case EX_OP:
    return operation(c, e);
  default:
    bug("cuda: expression kind %d", e->kind);
  }
}
