/* Reductions in the orders of the numeric contract (kernel.h): chunks by one thread or by a group of 64, the pairwise
 * tree.
 *
 * ORD_LANES has 64 accumulators by position; a group gives each thread one, so that neighbours read neighbours, and
 * joins them as the contract says. ORD_CHAIN is one thread's loop. */
#include "codegen/cuda/emit.h"
#include "codegen/monoid.h"
#include <inttypes.h>

bool cu_is_arg(const Stage *s) { return s->op == RED_ARGMAX || s->op == RED_ARGMIN; }

const char *cu_acc_type(Cu *c, const Stage *s, DType *acc) {
  *acc = monoid_acc((DType)s->body->dtype);
  return cu_reg(*acc);
}

static const int64_t *red(const Stage *s) { return s->extent + s->nown; }
static int64_t inner(const Stage *s) { return s->nred ? red(s)[s->nred - 1] : 1; }

int64_t cu_chunks(const Stage *s) {
  int64_t n = stage_chunks(s);
  return n && cu_is_arg(s) ? 1 : n;
}

static int first_red(const Cu *c, const Stage *s) { return c->k->npar + s->nown; }

/* acc = acc (+) body at the iterators at hand. */
static void step(Cu *c, const Stage *s, const char *acc) {
  DType t;
  const char *type = cu_acc_type(c, s, &t);
  (void)type;
  cu_scope(c);
  if (s->guard) text_line(c->t, "if (%s) {", cu_expr(c, s->guard));
  if (s->fma && s->body->kind == EX_OP && s->body->op == OP_MUL && dt_is_float(t)) {
    DType from = (DType)s->body->dtype;
    const char *x = cu_cast(c, t, from, cu_expr(c, s->body->arg[0])),
               *y = cu_cast(c, t, from, cu_expr(c, s->body->arg[1]));
    text_line(c->t, "%s = fma%s(%s, %s, %s);", acc, t == DT_F64 ? "" : "f", x, y, acc);
  } else {
    const char *x = cu_cast(c, t, (DType)s->body->dtype, cu_expr(c, s->body));
    text_line(c->t, "%s = %s;", acc, cu_combine(c, (Reduce)s->op, t, acc, x));
  }
  if (s->guard) text_line(c->t, "}");
}

/* Takes position `flat` apart into the reduction's iterators; the last one is `last` when it is known. */
static void decode_red(Cu *c, const Stage *s, const char *flat) {
  cu_decode(c, flat, first_red(c, s), s->nred, red(s));
}

/* ---- argmax and argmin: the first best, nan is best ------------------------------------------------------------- */
static const char *better(Cu *c, const Stage *s, const char *x, const char *best) {
  const char *sign = s->op == RED_ARGMAX ? ">" : "<";
  if (!dt_is_float((DType)s->body->dtype)) return arena_printf(c->a, "%s %s %s", x, sign, best);
  return arena_printf(c->a, "(%s == %s && (%s != %s || %s %s %s))", best, best, x, x, x, sign, best);
}

/* Declares NAME (the position) over positions from..total by `by`; NAMEv the value, NAMEh whether there is one. */
static void arg_scan(Cu *c, const Stage *s, const char *name, const char *from, const char *by) {
  int64_t total = cu_product(s->nred, red(s));
  const char *type = cu_reg((DType)s->body->dtype);
  text_line(c->t, "i64 %s = 0;", name);
  text_line(c->t, "%s %sv = 0;", type, name);
  text_line(c->t, "int %sh = 0;", name);
  text_line(c->t, "for (i64 f = %s; f < %" PRId64 "ll; f += %s) {", from, total, by);
  decode_red(c, s, "f");
  cu_scope(c);
  if (s->guard) text_line(c->t, "if (%s) {", cu_expr(c, s->guard));
  const char *x = cu_expr(c, s->body);
  text_line(c->t, "if (!%sh || %s) {", name, better(c, s, x, arena_printf(c->a, "%sv", name)));
  text_line(c->t, "%s = f;", name);
  text_line(c->t, "%sv = %s;", name, x);
  text_line(c->t, "%sh = 1;", name);
  text_line(c->t, "}");
  if (s->guard) text_line(c->t, "}");
  text_line(c->t, "}");
}

static void arg_group(Cu *c, const Stage *s, const char *live, const char *name, bool again) {
  int r = c->nred++;
  const char *type = cu_reg((DType)s->body->dtype), *v = arena_printf(c->a, "q%d", r);
  text_line(c->t, "%s *const val%d = (%s *)red_;", type, r, type);
  text_line(c->t, "i64 %s = 0;", name);
  text_line(c->t, "if (%s) {", live);
  arg_scan(c, s, v, "t", "64");
  text_line(c->t, "argat_[threadIdx.x] = %s;", v);
  text_line(c->t, "val%d[threadIdx.x] = %sv;", r, v);
  text_line(c->t, "arghas_[threadIdx.x] = (u8)%sh;", v);
  text_line(c->t, "}");
  text_line(c->t, "__syncthreads(); /* bests */");
  text_line(c->t, "if (%s && t == 0) {", live);
  text_line(c->t, "int h = 0;");
  text_line(c->t, "%s v = 0;", type);
  text_line(c->t, "for (u32 j = threadIdx.x; j < threadIdx.x + 64; j++) {");
  text_line(c->t, "const %s x = val%d[j];", type, r);
  bool f = dt_is_float((DType)s->body->dtype);
  const char *same = f ? "(x == v || (x != x && v != v))" : "x == v";
  text_line(c->t, "if (arghas_[j] && (!h || %s || (%s && argat_[j] < %s))) {", better(c, s, "x", "v"), same, name);
  text_line(c->t, "h = 1;");
  text_line(c->t, "v = x;");
  text_line(c->t, "%s = argat_[j];", name);
  text_line(c->t, "}");
  text_line(c->t, "}");
  text_line(c->t, "}");
  if (again) text_line(c->t, "__syncthreads(); /* bests are read */");
}

/* ---- chunks ------------------------------------------------------------------------------------------------------ */
/* Declares lo and hi: the flat positions of chunk number `chunk`. */
static void chunk_range(Cu *c, const Stage *s, const char *chunk) {
  int64_t per_row, size = stage_chunk(s, &per_row), n = inner(s), total = cu_product(s->nred, red(s));
  if (per_row) {
    text_line(c->t,
              "const i64 lo = (i64)(%s) / %" PRId64 " * %" PRId64 "ll + (i64)(%s) %% %" PRId64 " * %" PRId64 "ll;",
              chunk, per_row, n, chunk, per_row, size);
    text_line(c->t, "const i64 row_end = ((i64)(%s) / %" PRId64 " + 1) * %" PRId64 "ll;", chunk, per_row, n);
    text_line(c->t, "const i64 hi = lo + %" PRId64 "ll < row_end ? lo + %" PRId64 "ll : row_end;", size, size);
  } else {
    text_line(c->t, "const i64 lo = (i64)(%s) * %" PRId64 "ll;", chunk, size);
    text_line(c->t, "const i64 hi = lo + %" PRId64 "ll < %" PRId64 "ll ? lo + %" PRId64 "ll : %" PRId64 "ll;", size,
              total, size, total);
  }
}

/* The 64 accumulators of ARRAY, joined into NAME (declared by the caller). */
static void join_serial(Cu *c, const Stage *s, const char *array, const char *name) {
  DType t;
  const char *type = cu_acc_type(c, s, &t);
  Reduce op = (Reduce)s->op;
  Arena *m = c->a;
  text_line(c->t, "for (int l = 0; l < 16; l++) {");
  text_line(c->t, "const %s p = %s;", type,
            cu_combine(c, op, t, arena_printf(m, "%s[l]", array), arena_printf(m, "%s[l + 16]", array)));
  text_line(c->t, "const %s q = %s;", type,
            cu_combine(c, op, t, arena_printf(m, "%s[l + 32]", array), arena_printf(m, "%s[l + 48]", array)));
  text_line(c->t, "%s[l] = %s;", array, cu_combine(c, op, t, "p", "q"));
  text_line(c->t, "}");
  text_line(c->t, "for (int h = 8; h; h /= 2)");
  text_line(c->t, "  for (int l = 0; l < h; l++) %s[l] = %s;", array,
            cu_combine(c, op, t, arena_printf(m, "%s[l]", array), arena_printf(m, "%s[l + h]", array)));
  text_line(c->t, "%s = %s[0];", name, array);
}

void cu_chunk_serial(Cu *c, const Stage *s, const char *chunk, const char *name) {
  DType t;
  const char *type = cu_acc_type(c, s, &t), *id = cu_identity(c, (Reduce)s->op, t);
  bool lanes = s->order == ORD_LANES;
  int r = c->nred++;
  const char *acc = lanes ? arena_printf(c->a, "acc%d[f %% %" PRId64 "ll %% 64]", r, inner(s)) : name;
  text_line(c->t, "%s %s = %s;", type, name, id);
  text_line(c->t, "{");
  chunk_range(c, s, chunk);
  if (lanes) {
    text_line(c->t, "%s acc%d[64];", type, r);
    text_line(c->t, "for (int l = 0; l < 64; l++) acc%d[l] = %s;", r, id);
  }
  text_line(c->t, "for (i64 f = lo; f < hi; f++) {");
  decode_red(c, s, "f");
  step(c, s, acc);
  text_line(c->t, "}");
  if (lanes) join_serial(c, s, arena_printf(c->a, "acc%d", r), name);
  text_line(c->t, "}");
}

/* A group's threads walk whole rows 64 apart, each in its own accumulator. */
void cu_chunk_group(Cu *c, const Stage *s, const char *chunk, const char *live, const char *name, bool again) {
  if (cu_is_arg(s)) {
    arg_group(c, s, live, name, again);
    return;
  }
  DType t;
  const char *type = cu_acc_type(c, s, &t), *id = cu_identity(c, (Reduce)s->op, t);
  Reduce op = (Reduce)s->op;
  Arena *m = c->a;
  int r = c->nred++;
  int64_t n = inner(s);
  text_line(c->t, "%s *const red%d = (%s *)red_;", type, r, type);
  text_line(c->t, "%s %s = %s;", type, name, id);
  text_line(c->t, "if (%s) {", live);
  chunk_range(c, s, chunk);
  int last = first_red(c, s) + s->nred - 1;
  text_line(c->t, "for (i64 row = lo / %" PRId64 "ll; row * %" PRId64 "ll < hi; row++) {", n, n);
  cu_decode(c, "row", first_red(c, s), s->nred - 1, red(s));
  text_line(c->t, "const i64 from = lo > row * %" PRId64 "ll ? lo - row * %" PRId64 "ll : 0;", n, n);
  text_line(c->t, "const i64 to = hi < (row + 1) * %" PRId64 "ll ? hi - row * %" PRId64 "ll : %" PRId64 "ll;", n, n, n);
  text_line(c->t, "for (i64 i%d = from + t; i%d < to; i%d += 64) {", last, last, last);
  step(c, s, name);
  text_line(c->t, "}");
  text_line(c->t, "}");
  text_line(c->t, "}");
  text_line(c->t, "red%d[threadIdx.x] = %s;", r, name);
  text_line(c->t, "__syncthreads(); /* sums */");
  text_line(c->t, "if (t < 32) {"); /* whole warps */
  text_line(c->t, "const u32 l = threadIdx.x - t + t %% 16;");
  text_line(c->t, "const %s p = %s;", type,
            cu_combine(c, op, t, arena_printf(m, "red%d[l]", r), arena_printf(m, "red%d[l + 16]", r)));
  text_line(c->t, "const %s q = %s;", type,
            cu_combine(c, op, t, arena_printf(m, "red%d[l + 32]", r), arena_printf(m, "red%d[l + 48]", r)));
  text_line(c->t, "%s = %s;", name, cu_combine(c, op, t, "p", "q"));
  const char *shuffled = t == DT_BOOL || dt_is_float(t) || t == DT_I32 || t == DT_I64 ? "" : "(int)";
  text_line(c->t, "for (int h = 8; h; h /= 2) {");
  text_line(c->t, "const %s w = (%s)tg_down(%s%s, h);", type, type, shuffled, name);
  text_line(c->t, "%s = %s;", name, cu_combine(c, op, t, name, "w"));
  text_line(c->t, "}");
  text_line(c->t, "}");
  if (again) text_line(c->t, "__syncthreads(); /* sums are read */");
}

/* Chunk ranges meet as soon as both halves are there; leftovers join from the right. Between the two, text that
 * declares `x`, the result of chunk number q; NAME is declared. */
static void tree_begin(Cu *c, const char *type, const char *n) {
  text_line(c->t, "{");
  text_line(c->t, "%s part[48];", type);
  text_line(c->t, "int top = 0;");
  text_line(c->t, "for (i64 q = 0; q < %s; q++) {", n);
}
static void tree_end(Cu *c, Reduce op, DType t, const char *name) {
  text_line(c->t, "for (i64 bits = q; bits & 1; bits >>= 1) {");
  text_line(c->t, "top--;");
  text_line(c->t, "x = %s;", cu_combine(c, op, t, "part[top]", "x"));
  text_line(c->t, "}");
  text_line(c->t, "part[top] = x;");
  text_line(c->t, "top++;");
  text_line(c->t, "}");
  text_line(c->t, "if (top) {");
  text_line(c->t, "%s = part[--top];", name);
  text_line(c->t, "while (top) {");
  text_line(c->t, "top--;");
  text_line(c->t, "%s = %s;", name, cu_combine(c, op, t, "part[top]", name));
  text_line(c->t, "}");
  text_line(c->t, "}");
  text_line(c->t, "}");
}

void cu_tree(Cu *c, const Stage *s, const char *n, const char *fetch, const char *name) {
  DType t;
  const char *type = cu_acc_type(c, s, &t);
  text_line(c->t, "%s %s = %s;", type, name, cu_identity(c, (Reduce)s->op, t));
  tree_begin(c, type, n);
  text_line(c->t, "%s x = %s;", type, fetch);
  tree_end(c, (Reduce)s->op, t, name);
}

void cu_finish(Cu *c, const Stage *s, const char *acc) {
  DType t = DT_I64, out = (DType)c->k->buf[s->out].dtype;
  if (!cu_is_arg(s)) cu_acc_type(c, s, &t);
  cu_store(c, s->out, cu_place(c, s), cu_cast(c, out, t, acc));
}

void cu_reduce_point(Cu *c, const Stage *s) {
  const char *name = arena_printf(c->a, "r%d", c->nred++);
  int64_t chunks = cu_chunks(s);
  DType t;
  const char *type = cu_acc_type(c, s, &t);
  if (cu_is_arg(s)) {
    arg_scan(c, s, name, "0", "1");
  } else if (chunks == 1) {
    cu_chunk_serial(c, s, "0", name);
  } else if (!chunks) {
    text_line(c->t, "const %s %s = %s;", type, name, cu_identity(c, (Reduce)s->op, t));
  } else {
    /* the tree with each chunk summed where it is fetched */
    text_line(c->t, "%s %s = %s;", type, name, cu_identity(c, (Reduce)s->op, t));
    tree_begin(c, type, arena_printf(c->a, "%" PRId64 "ll", chunks));
    cu_chunk_serial(c, s, "q", "x");
    tree_end(c, (Reduce)s->op, t, name);
  }
  cu_finish(c, s, name);
}
