/* Stages as loops: by one thread at a point of P, by one block, or spread over launches of their own (emit.h). */
#include "codegen/cuda/emit.h"
#include <inttypes.h>

int64_t cu_product(int n, const int64_t *x) {
  int64_t p = 1;
  for (int i = 0; i < n; i++) p *= x[i];
  return p;
}

void cu_decode(Cu *c, const char *flat, int first, int n, const int64_t *extent) {
  int64_t all = 1;
  for (int i = 0; i < n; i++) all *= extent[i] > 0 ? extent[i] : 1;
  bool small = all < INT32_MAX;
  int d = c->nvar++;
  if (n) text_line(c->t, small ? "u32 d%d = (u32)(%s);" : "i64 d%d = %s;", d, flat);
  for (int i = n - 1; i >= 0; i--) {
    int64_t x = extent[i] > 0 ? extent[i] : 1;
    const char *type = x < INT32_MAX ? "int" : "i64";
    if (x == 1) {
      text_line(c->t, "const int i%d = 0;", first + i);
    } else if (i == 0) {
      text_line(c->t, "const %s i%d = (%s)d%d;", type, first, type, d);
    } else {
      text_line(c->t, "const %s i%d = (%s)(d%d %% %" PRId64 "%s);", type, first + i, type, d, x, small ? "u" : "ll");
      text_line(c->t, "d%d /= %" PRId64 "%s;", d, x, small ? "u" : "ll");
    }
  }
}

size_t cu_scratch(Cu *c, double bytes) {
  size_t at = c->scratch;
  if (bytes > (double)((size_t)1 << 46)) bytes = (double)((size_t)1 << 46); /* refused by cuda_emit */
  c->scratch += ((size_t)bytes + 255) / 256 * 256;
  return at;
}

static int64_t own_count(const Stage *s) { return cu_product(s->nown, s->extent); }
static void decode_own(Cu *c, const Stage *s, const char *flat) { cu_decode(c, flat, c->k->npar, s->nown, s->extent); }

/* ---- The work at one output, by one thread ----------------------------------------------------------------------- */
static void map_here(Cu *c, const Stage *s) {
  DType t = (DType)c->k->buf[s->out].dtype;
  cu_scope(c);
  if (!s->guard) {
    const char *v = cu_expr(c, s->body);
    cu_store(c, s->out, cu_place(c, s), v);
    return;
  }
  const char *g = cu_expr(c, s->guard);
  int v = c->nvar++;
  text_line(c->t, "%s v%d = %s;", cu_reg(t), v, cu_num(c, t, 0));
  text_line(c->t, "if (%s) {", g);
  text_line(c->t, "v%d = %s;", v, cu_expr(c, s->body));
  text_line(c->t, "}");
  cu_store(c, s->out, cu_place(c, s), arena_printf(c->a, "v%d", v));
}

/* The running reduction along the last own axis; the iterators of the others are bound. */
static void scan_here(Cu *c, const Stage *s) {
  DType t, out = (DType)c->k->buf[s->out].dtype;
  const char *type = cu_acc_type(c, s, &t), *acc = arena_printf(c->a, "r%d", c->nred++);
  int last = c->k->npar + s->nown - 1;
  int64_t n = s->extent[s->nown - 1];
  text_line(c->t, "%s %s = %s;", type, acc, cu_identity(c, (Reduce)s->op, t));
  if (s->reverse)
    text_line(c->t, "for (i64 i%d = %" PRId64 "ll; i%d >= 0; i%d--) {", last, n - 1, last, last);
  else
    text_line(c->t, "for (i64 i%d = 0; i%d < %" PRId64 "ll; i%d++) {", last, last, n, last);
  cu_scope(c);
  const char *g = s->guard ? cu_expr(c, s->guard) : NULL;
  const char *x = cu_cast(c, t, (DType)s->body->dtype, cu_expr(c, s->body));
  /* the place may be the element just read (in place): the value is in a register by now */
  int v = c->nvar++;
  text_line(c->t, "const %s v%d = %s;", type, v, x);
  x = arena_printf(c->a, "v%d", v);
  if (s->exclusive) cu_store(c, s->out, cu_place(c, s), cu_cast(c, out, t, acc));
  text_line(c->t, "%s%s%s%s = %s;", g ? "if (" : "", g ? g : "", g ? ") " : "", acc,
            cu_combine(c, (Reduce)s->op, t, acc, x));
  if (!s->exclusive) cu_store(c, s->out, cu_place(c, s), cu_cast(c, out, t, acc));
  text_line(c->t, "}");
}

static void here(Cu *c, const Stage *s) {
  if (s->kind == ST_MAP)
    map_here(c, s);
  else if (s->kind == ST_SCAN)
    scan_here(c, s);
  else
    cu_reduce_point(c, s);
}

/* Outputs that one thread walks one by one: a scan's last axis is its own affair. */
static int walked(const Stage *s) { return s->kind == ST_SCAN ? s->nown - 1 : s->nown; }

/* ---- POINT ------------------------------------------------------------------------------------------------------- */
void cu_stage_point(Cu *c, const Stage *s) {
  int n = walked(s);
  c->st = s;
  text_line(c->t, "{");
  c->minor = "0";
  if (n) {
    text_line(c->t, "for (i64 o = 0; o < %" PRId64 "ll; o++) {", cu_product(n, s->extent));
    cu_decode(c, "o", c->k->npar, n, s->extent);
  }
  here(c, s);
  if (n) text_line(c->t, "}");
  text_line(c->t, "}");
}

/* ---- BLOCK ------------------------------------------------------------------------------------------------------- */
static int number_of(const Cu *c, const Stage *s) { return (int)(s - c->k->stage); }

/* Partial results of a stage: in shared memory when few, else the block's part of the scratch. Declares partN. */
static void declare_parts(Cu *c, const Stage *s, int64_t n) {
  DType t;
  const char *type = cu_acc_type(c, s, &t);
  int at = number_of(c, s);
  int64_t bytes = (n * cu_reg_bytes(t) + 15) / 16 * 16;
  if (n <= 256 && c->shared + bytes <= CU_SHARED) {
    c->shared += bytes;
    text_line(c->t, "__shared__ %s part%d[%" PRId64 "];", type, at, n);
    return;
  }
  size_t off = cu_scratch(c, (double)n * cu_reg_bytes(t) * (double)kernel_points(c->k));
  text_line(c->t, "%s *const part%d = (%s *)(A.scratch + %zull) + (i64)blockIdx.x * %" PRId64 "ll;", type, at, type,
            off, n);
}

static void join_parts(Cu *c, const Stage *s, int64_t chunks) {
  const char *r = arena_printf(c->a, "r%d", c->nred++);
  text_line(c->t, "__syncthreads(); /* all chunks */");
  text_line(c->t, "for (i64 o = threadIdx.x; o < %" PRId64 "ll; o += %d) {", own_count(s), c->block);
  decode_own(c, s, "o");
  cu_tree(c, s, arena_printf(c->a, "%" PRId64 "ll", chunks),
          arena_printf(c->a, "part%d[o * %" PRId64 "ll + q]", number_of(c, s), chunks), r);
  cu_finish(c, s, r);
  text_line(c->t, "}");
}

static bool by_groups(const Stage *s) { return s->order == ORD_LANES || cu_is_arg(s); }

static void reduce_block(Cu *c, const Stage *s) {
  int64_t chunks = cu_chunks(s), own = own_count(s), tasks = own * chunks, groups = c->block / 64;
  const char *r = arena_printf(c->a, "r%d", c->nred++);
  bool tree = chunks > 1;
  if (chunks && by_groups(s)) {
    if (tree) declare_parts(c, s, tasks);
    text_line(c->t, "const int t = threadIdx.x %% 64;");
    text_line(c->t, "for (i64 base = 0; base < %" PRId64 "ll; base += %" PRId64 ") {", tasks, groups);
    text_line(c->t, "const i64 task = base + threadIdx.x / 64;");
    text_line(c->t, "const int live = task < %" PRId64 "ll;", tasks);
    decode_own(c, s, arena_printf(c->a, "live ? task / %" PRId64 "ll : 0", chunks));
    cu_chunk_group(c, s, arena_printf(c->a, "(task %% %" PRId64 "ll)", chunks), "live", r, tasks > groups);
    text_line(c->t, "if (live && t == 0) {");
    if (tree)
      text_line(c->t, "part%d[task] = %s;", number_of(c, s), r);
    else
      cu_finish(c, s, r);
    text_line(c->t, "}");
    text_line(c->t, "}");
    if (tree) join_parts(c, s, chunks);
    return;
  }
  if (tree && own < c->block) {
    declare_parts(c, s, tasks);
    text_line(c->t, "for (i64 task = threadIdx.x; task < %" PRId64 "ll; task += %d) {", tasks, c->block);
    decode_own(c, s, arena_printf(c->a, "task / %" PRId64 "ll", chunks));
    cu_chunk_serial(c, s, arena_printf(c->a, "(task %% %" PRId64 "ll)", chunks), r);
    text_line(c->t, "part%d[task] = %s;", number_of(c, s), r);
    text_line(c->t, "}");
    join_parts(c, s, chunks);
    return;
  }
  text_line(c->t, "for (i64 o = threadIdx.x; o < %" PRId64 "ll; o += %d) {", own, c->block);
  decode_own(c, s, "o");
  cu_reduce_point(c, s);
  text_line(c->t, "}");
}

void cu_stage_block(Cu *c, const Stage *s) {
  int n = walked(s), at = number_of(c, s);
  c->st = s;
  c->minor = arena_printf(c->a, "((i64)%d << 48)", at);
  text_line(c->t, "{");
  if (s->kind == ST_REDUCE || s->kind == ST_CONTRACT) {
    reduce_block(c, s);
  } else {
    c->minor = arena_printf(c->a, "((i64)%d << 48) + o", at);
    text_line(c->t, "for (i64 o = threadIdx.x; o < %" PRId64 "ll; o += %d) {", cu_product(n, s->extent), c->block);
    cu_decode(c, "o", c->k->npar, n, s->extent);
    here(c, s);
    text_line(c->t, "}");
  }
  text_line(c->t, "}");
  if (at + 1 < c->k->nstage) text_line(c->t, "__syncthreads(); /* the stage */");
}

/* ---- SPREAD ------------------------------------------------------------------------------------------------------ */
enum { SPREAD_BLOCK = 256 };

/* Opens a launch of `total` threads; flat is the thread's number. */
static void open_flat(Cu *c, int64_t total) {
  cu_open(c, (total + SPREAD_BLOCK - 1) / SPREAD_BLOCK, SPREAD_BLOCK);
  text_line(c->t, "const i64 flat = (i64)blockIdx.x * %d + threadIdx.x;", SPREAD_BLOCK);
  text_line(c->t, "if (flat < %" PRId64 "ll) {", total);
}

/* Binds unit, o and the iterators from a number of an output; n own axes are walked. */
static void bind_output(Cu *c, const Stage *s, const char *flat, int n) {
  int64_t own = cu_product(n, s->extent);
  text_line(c->t, "const i64 unit = (%s) / %" PRId64 "ll;", flat, own > 0 ? own : 1);
  text_line(c->t, "const i64 o = (%s) %% %" PRId64 "ll;", flat, own > 0 ? own : 1);
  cu_decode(c, "unit", 0, c->k->npar, c->k->par);
  cu_decode(c, "o", c->k->npar, n, s->extent);
}

static void spread_chunks(Cu *c, const Stage *s, int64_t tasks, int64_t chunks, const char *part) {
  const char *r = arena_printf(c->a, "r%d", c->nred++), *q = arena_printf(c->a, "(task %% %" PRId64 "ll)", chunks);
  if (by_groups(s)) {
    c->block = SPREAD_BLOCK;
    cu_open(c, (tasks + 3) / 4, SPREAD_BLOCK);
    text_line(c->t, "const int t = threadIdx.x %% 64;");
    text_line(c->t, "const i64 task = (i64)blockIdx.x * 4 + threadIdx.x / 64;");
    text_line(c->t, "const int live = task < %" PRId64 "ll;", tasks);
    bind_output(c, s, arena_printf(c->a, "live ? task / %" PRId64 "ll : 0", chunks), s->nown);
    cu_chunk_group(c, s, q, "live", r, false);
    text_line(c->t, "if (live && t == 0) {");
  } else {
    open_flat(c, tasks);
    text_line(c->t, "const i64 task = flat;");
    bind_output(c, s, arena_printf(c->a, "task / %" PRId64 "ll", chunks), s->nown);
    cu_chunk_serial(c, s, q, r);
  }
  if (part)
    text_line(c->t, "(%s)[task] = %s;", part, r);
  else
    cu_finish(c, s, r);
  text_line(c->t, "}");
  cu_close(c);
}

void cu_stage_spread(Cu *c, const Stage *s) {
  int n = walked(s);
  int64_t outputs = kernel_points(c->k) * cu_product(n, s->extent), chunks = 0;
  c->st = s;
  c->minor = arena_printf(c->a, "((i64)%d << 48) + o", number_of(c, s));
  if (s->kind == ST_REDUCE || s->kind == ST_CONTRACT) chunks = cu_chunks(s);
  if (chunks == 0 || (chunks == 1 && !by_groups(s))) {
    open_flat(c, outputs);
    bind_output(c, s, "flat", n);
    here(c, s);
    text_line(c->t, "}");
    cu_close(c);
    return;
  }
  if (chunks == 1) {
    spread_chunks(c, s, outputs, 1, NULL);
    return;
  }
  DType t;
  const char *type = cu_acc_type(c, s, &t), *r = arena_printf(c->a, "r%d", c->nred++);
  size_t off = cu_scratch(c, (double)outputs * (double)chunks * cu_reg_bytes(t));
  const char *part = arena_printf(c->a, "(%s *)(A.scratch + %zull)", type, off);
  spread_chunks(c, s, outputs * chunks, chunks, part);
  open_flat(c, outputs);
  bind_output(c, s, "flat", n);
  cu_tree(c, s, arena_printf(c->a, "%" PRId64 "ll", chunks),
          arena_printf(c->a, "(%s)[flat * %" PRId64 "ll + q]", part, chunks), r);
  cu_finish(c, s, r);
  text_line(c->t, "}");
  cu_close(c);
}
