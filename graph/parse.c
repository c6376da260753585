/* Reads the text of text.c back into a graph. What it builds goes through the makers, so a printed graph comes back as
 * itself; text written by hand is normalised. Malformed text gives an error with its line, never a bug(). */
#include "graph/internal.h"
#include "graph/scalar_eval.h"
#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NEST = 400 };

typedef struct In {
  Graph *g;
  Arena *a; /* the graph's: what is parsed stays */
  const char *p;
  int line, depth;
  VEC(Node *) node;
  VEC(Expr *) let;
  char *error;
  jmp_buf out;
} In;

static _Noreturn void fail(In *in, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static _Noreturn void fail(In *in, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  char *msg = arena_vprintf(in->a, fmt, ap);
  va_end(ap);
  in->error = arena_printf(in->a, "line %d: %s near `%.20s`", in->line, msg, in->p);
  longjmp(in->out, 1);
}

/* ---- Tokens ------------------------------------------------------------------------------------------------------ */

static void blank(In *in) {
  while (*in->p == ' ' || *in->p == '\t' || *in->p == '\r') in->p++;
}

static bool eat(In *in, const char *s) {
  blank(in);
  size_t n = strlen(s);
  if (strncmp(in->p, s, n)) return false;
  if (isalpha((unsigned char)*s) && (isalnum((unsigned char)in->p[n]) || in->p[n] == '_')) return false;
  in->p += n;
  return true;
}

static void expect(In *in, const char *s) {
  if (!eat(in, s)) fail(in, "expected `%s`", s);
}

static int64_t integer(In *in) {
  blank(in);
  char *end;
  errno = 0;
  if (*in->p != '-' && !isdigit((unsigned char)*in->p)) fail(in, "expected a number");
  long long v = strtoll(in->p, &end, 10);
  if (end == in->p || errno) fail(in, "expected a number");
  in->p = end;
  return v;
}

static double real(In *in) {
  blank(in);
  char *end;
  double v = strtod(in->p, &end);
  if (end == in->p) fail(in, "expected a number");
  in->p = end;
  return v;
}

static char *string(In *in) {
  expect(in, "\"");
  VEC(char) s = {0};
  while (*in->p != '"') {
    char c = *in->p++;
    if (!c || c == '\n') fail(in, "string does not end");
    if (c == '\\' && *in->p == 'x') {
      char hex[3] = {in->p[1], in->p[1] ? in->p[2] : 0};
      c = (char)strtol(hex, NULL, 16);
      in->p += hex[0] && hex[1] ? 3 : 1;
    } else if (c == '\\' && *in->p)
      c = *in->p++;
    vec_push(in->a, &s, c);
  }
  in->p++;
  vec_push(in->a, &s, '\0');
  return s.at;
}

static DType dtype(In *in) {
  blank(in);
  DType t;
  int n = 0;
  while (isalnum((unsigned char)in->p[n])) n++;
  if (!dt_by_name(in->p, n, &t)) fail(in, "expected a dtype");
  in->p += n;
  return t;
}

static TensorType type(In *in) {
  TensorType t = {.dtype = dtype(in)};
  VEC(int64_t) dim = {0};
  size_t bytes;
  expect(in, "[");
  if (!eat(in, "]")) {
    do vec_push(in->a, &dim, integer(in));
    while (eat(in, ","));
    expect(in, "]");
  }
  t.rank = dim.n;
  t.dim = dim.at;
  if (t.rank > TG_MAX_RANK || !shape_bytes(t.dtype, t.rank, t.dim, &bytes)) fail(in, "impossible shape");
  return t;
}

static Node *node(In *in) {
  expect(in, "%");
  int64_t k = integer(in);
  if (k < 0 || k >= in->node.n) fail(in, "node %%%lld comes later or never", (long long)k);
  return in->node.at[k];
}

typedef VEC(Node *) Nodes;
static Nodes nodes(In *in) {
  Nodes v = {0};
  expect(in, "(");
  if (eat(in, ")")) return v;
  do vec_push(in->a, &v, node(in));
  while (eat(in, ","));
  expect(in, ")");
  return v;
}

static Nodes nodes_if(In *in, const char *word) { return eat(in, word) ? nodes(in) : (Nodes){0}; }

/* ---- Expressions ------------------------------------------------------------------------------------------------- */

static Expr *expr(In *in);

static Expr *typed(In *in, Expr *e, DType t) {
  if ((DType)e->dtype != t) fail(in, "%s where %s is needed", dt_name(e->dtype), dt_name(t));
  return e;
}

static Expr *load(In *in) {
  Node *n = node(in);
  bool checked = eat(in, "!");
  VEC(Expr *) idx = {0};
  Expr *mask = NULL;
  if (n->nres) fail(in, "load of a tuple");
  expect(in, "[");
  if (!eat(in, "]")) {
    do vec_push(in->a, &idx, typed(in, expr(in), DT_I64));
    while (eat(in, ","));
    expect(in, "]");
  }
  if (idx.n != n->rank) fail(in, "%d subscripts for rank %d", idx.n, n->rank);
  if (eat(in, "?")) mask = typed(in, expr(in), DT_BOOL);
  return ex_load(in->g, n, idx.n, idx.at, mask, checked, (Span){0});
}

/* After `(`: terms of a linear form. */
static Expr *linear(In *in) {
  VEC(int64_t) coef = {0};
  VEC(Expr *) atom = {0};
  uint64_t c = 0;
  bool minus = eat(in, "-");
  do {
    blank(in);
    uint64_t k = 1;
    bool number = isdigit((unsigned char)*in->p);
    if (number) {
      char *end;
      k = strtoull(in->p, &end, 10);
      in->p = end;
    }
    if (minus) k = -k;
    if (number && !eat(in, "*"))
      c += k;
    else {
      vec_push(in->a, &coef, (int64_t)k);
      vec_push(in->a, &atom, typed(in, expr(in), DT_I64));
    }
    minus = eat(in, "-");
  } while (minus || eat(in, "+"));
  expect(in, ")");
  return ex_lin(in->g, (int64_t)c, atom.n, coef.at, atom.at);
}

static bool operands_fit(ScalarOp op, Expr *const *x, int n) {
  DType t = x[0]->dtype;
  bool f = dt_is_float(t), same = n < 2 || x[1]->dtype == x[0]->dtype;
  switch (op_info[op].typing) {
  case 'F':
    return same && f;
  case 'N':
    return same && (t != DT_BOOL || op == OP_STOP || op == OP_MAX || op == OP_MIN);
  case 'I':
    return same && !f && t != DT_BOOL;
  case 'P':
    return f;
  case 'L':
    return same && t == DT_BOOL;
  case 'B':
    return same && t == DT_I64;
  case 'S':
    return t == DT_BOOL && x[1]->dtype == x[2]->dtype;
  default:
    return same;
  }
}

/* After `(`: an operation, or NULL when no operation's name follows. */
static Expr *operation(In *in) {
  blank(in);
  int n = 0;
  while (isalnum((unsigned char)in->p[n])) n++;
  for (int op = 0; op < OP_COUNT; op++) {
    if ((int)strlen(op_info[op].name) != n || strncmp(op_info[op].name, in->p, (size_t)n)) continue;
    in->p += n;
    DType to = DT_F32;
    if (op == OP_CAST) {
      expect(in, ":");
      to = dtype(in);
    }
    Expr *x[3];
    for (int i = 0; i < op_info[op].arity; i++) x[i] = expr(in);
    expect(in, ")");
    if (op == OP_CAST) return ex_cast(in->g, to, x[0]);
    if (!operands_fit((ScalarOp)op, x, op_info[op].arity)) fail(in, "%s does not take these dtypes", op_info[op].name);
    return ex_op(in->g, (ScalarOp)op, op_info[op].arity, x);
  }
  return NULL;
}

static Expr *number(In *in) {
  blank(in);
  const char *start = in->p;
  char *end;
  strtod(in->p, &end);
  if (end == in->p) fail(in, "expected an expression");
  in->p = end;
  if (!eat(in, ":")) {
    in->p = start;
    return ex_int(in->g, DT_I64, integer(in));
  }
  DType t = dtype(in);
  const char *after = in->p;
  in->p = start;
  Expr *e;
  if (dt_is_float(t))
    e = ex_float(in->g, t, real(in));
  else {
    int64_t v = integer(in);
    if (v < dt_int_min(t) || v > dt_int_max(t)) fail(in, "%lld does not fit in %s", (long long)v, dt_name(t));
    e = ex_int(in->g, t, v);
  }
  in->p = after;
  return e;
}

static Expr *expr(In *in) {
  Expr *e;
  if (++in->depth > MAX_NEST) fail(in, "nested too deeply");
  blank(in);
  if (*in->p == '%')
    e = load(in);
  else if (eat(in, "(")) {
    e = operation(in);
    if (!e) e = linear(in);
  } else if (eat(in, "true"))
    e = ex_bool(in->g, true);
  else if (eat(in, "false"))
    e = ex_bool(in->g, false);
  else if ((*in->p == 'i' || *in->p == 'v' || *in->p == '$') && isdigit((unsigned char)in->p[1])) {
    char c = *in->p++;
    int64_t k = integer(in);
    if (c == '$' && k >= in->let.n) fail(in, "$%lld is not bound", (long long)k);
    if (k > INT32_MAX && c == 'i') fail(in, "iterator out of range");
    e = c == 'i' ? ex_iter(in->g, (int)k) : c == 'v' ? ex_var(in->g, k) : in->let.at[k];
  } else
    e = number(in);
  in->depth--;
  return e;
}

static void lets(In *in) {
  in->let.n = 0;
  if (!eat(in, "let")) return;
  do {
    expect(in, "$");
    if (integer(in) != in->let.n) fail(in, "names count up");
    expect(in, "=");
    Expr *e = expr(in);
    vec_push(in->a, &in->let, e);
  } while (eat(in, ","));
  expect(in, "in");
}

/* ---- Nodes ------------------------------------------------------------------------------------------------------- */

typedef VEC(int64_t) Sizes;

/* `i0 4, i1 5`, continuing at iterator number v->n. */
static void iterators(In *in, Sizes *v) {
  blank(in);
  if (*in->p != 'i' || !isdigit((unsigned char)in->p[1])) return;
  do {
    blank(in);
    if (*in->p != 'i') fail(in, "expected an iterator");
    in->p++;
    if (integer(in) != v->n) fail(in, "iterators count up");
    int64_t n = integer(in);
    if (n < 0) fail(in, "negative extent");
    vec_push(in->a, v, n);
  } while (eat(in, ","));
}

static Expr *guard(In *in) { return eat(in, "if") ? typed(in, expr(in), DT_BOOL) : NULL; }

/* `cut 24`: whole rows of the reduction space's first axis. */
static int64_t cut(In *in, int nred, const int64_t *extent) {
  int64_t row = 1;
  if (!eat(in, "cut")) return 0;
  int64_t chunk = integer(in);
  for (int i = 1; i < nred; i++)
    if (extent[i] && __builtin_mul_overflow(row, extent[i], &row)) fail(in, "iteration space too large");
  if (chunk <= 0 || chunk % row) fail(in, "a chunk is a multiple of %lld here", (long long)row);
  return chunk;
}

static Node *comp(In *in, const TensorType *t, bool scan) {
  Sizes extent = {0};
  expect(in, "for");
  iterators(in, &extent);
  int nout = extent.n;
  Reduce op = RED_NONE;
  for (int r = RED_SUM; r <= RED_ARGMIN && !op; r++)
    if (eat(in, red_name((Reduce)r))) op = (Reduce)r;
  if (op && !scan) iterators(in, &extent);
  int64_t chunk = op && !scan ? cut(in, extent.n - nout, extent.at + nout) : 0;
  bool reverse = scan && eat(in, "reverse"), exclusive = scan && eat(in, "exclusive");
  expect(in, ":");
  lets(in);
  Expr *body = expr(in), *g = guard(in);
  int nred = extent.n - nout;
  size_t bytes;
  bool arg = op == RED_ARGMAX || op == RED_ARGMIN;
  if (nout != t->rank || (nout && memcmp(extent.at, t->dim, sizeof *t->dim * (size_t)nout)))
    fail(in, "type and iterators differ");
  if (!arg)
    typed(in, body, t->dtype);
  else if (t->dtype != DT_I64)
    fail(in, "%s gives i64", red_name(op));
  if ((op == RED_ANY || op == RED_ALL) && body->dtype != DT_BOOL)
    fail(in, "%s of %s", red_name(op), dt_name(body->dtype));
  if (!shape_bytes(DT_BOOL, extent.n, extent.at, &bytes)) fail(in, "iteration space too large");
  if (!scan && !op != !nred) fail(in, "a reduction and its iterators go together");
  if (!scan) return nd_comp_cut(in->g, nout, nred, extent.at, op, body, g, chunk);
  if (!nout || !op || arg || g) fail(in, "malformed scan");
  return nd_scan(in->g, nout, extent.at, op, body, reverse, exclusive);
}

static Node *scatter(In *in, const TensorType *t) {
  static const char *const how[] = {"set", "add", "max", "min"};
  Sizes extent = {0};
  Node *base = eat(in, "zeros") ? NULL : node(in);
  if (base && (base->nres || (DType)base->dtype != t->dtype || base->rank != t->rank ||
               (t->rank && memcmp(base->dim, t->dim, sizeof *t->dim * (size_t)t->rank))))
    fail(in, "base of another type");
  expect(in, "for");
  iterators(in, &extent);
  int k = 0;
  while (k < 4 && !eat(in, how[k])) k++;
  if (k == 4) fail(in, "expected set, add, max or min");
  bool checked = eat(in, "checked");
  expect(in, ":");
  lets(in);
  expect(in, "at");
  expect(in, "[");
  VEC(Expr *) idx = {0};
  if (!eat(in, "]")) {
    do vec_push(in->a, &idx, typed(in, expr(in), DT_I64));
    while (eat(in, ","));
    expect(in, "]");
  }
  if (idx.n != t->rank) fail(in, "%d subscripts for rank %d", idx.n, t->rank);
  Expr *body = typed(in, expr(in), t->dtype), *g = guard(in);
  return nd_scatter(in->g, t->dtype, t->rank, t->dim, base, extent.n, extent.at, idx.at, body, g, (Combine)k, checked);
}

static bool fits(const Node *a, const Node *b) {
  return !a->nres && !b->nres && a->dtype == b->dtype && a->rank == b->rank &&
         (!a->rank || !memcmp(a->dim, b->dim, sizeof *a->dim * (size_t)a->rank));
}

static Node *bound(In *in, Node *n) {
  if (n->kind != ND_PARAM) fail(in, "only a param can be bound");
  return n;
}

static Node *loop(In *in) {
  Loop l = {0};
  Nodes param = {0}, init = {0};
  expect(in, "states");
  expect(in, "(");
  if (!eat(in, ")")) {
    do {
      vec_push(in->a, &param, bound(in, node(in)));
      expect(in, "=");
      vec_push(in->a, &init, node(in));
    } while (eat(in, ","));
    expect(in, ")");
  }
  if (eat(in, "counter")) l.counter = bound(in, node(in));
  expect(in, "trip");
  l.trip = integer(in);
  if (l.trip < 0) fail(in, "negative trip count");
  l.reverse = eat(in, "reverse");
  if (eat(in, "upto")) l.trip_node = node(in);
  if (eat(in, "while")) l.cond = node(in);
  expect(in, "next");
  Nodes out = nodes(in);
  if (out.n != param.n) fail(in, "%d states but %d next ones", param.n, out.n);
  for (int i = 0; i < param.n; i++)
    if (!fits(param.at[i], init.at[i]) || !fits(param.at[i], out.at[i])) fail(in, "state %d changes its type", i);
  expect(in, "stack");
  Nodes stack = nodes(in), effect = nodes_if(in, "effects");
  for (int i = 0; i < stack.n; i++) vec_push(in->a, &out, stack.at[i]);
  l.nstate = param.n;
  l.init = init.at;
  l.param = param.at;
  l.nstack = stack.n;
  l.body = (Region){out.n, out.at, effect.n, effect.at};
  return nd_loop(in->g, &l);
}

static Node *cond(In *in) {
  Node *pred = node(in);
  if (pred->nres || pred->dtype != DT_BOOL || pred->rank) fail(in, "a condition is bool[]");
  expect(in, "then");
  Nodes yes = nodes(in), yes_fx = nodes_if(in, "effects");
  expect(in, "else");
  Nodes no = nodes(in), no_fx = nodes_if(in, "effects");
  if (yes.n != no.n) fail(in, "branches differ");
  for (int i = 0; i < yes.n; i++)
    if (!fits(yes.at[i], no.at[i])) fail(in, "branches differ in type");
  return nd_cond(in->g, pred, &(Region){yes.n, yes.at, yes_fx.n, yes_fx.at}, &(Region){no.n, no.at, no_fx.n, no_fx.at});
}

static Node *call(In *in) {
  char *name = string(in);
  bool effect = eat(in, "effect");
  VEC(Attr) attr = {0};
  VEC(TensorType) res = {0};
  const Native *fn = in->g->natives ? natives_find(in->g->natives, name) : NULL;
  if (!fn) {
    Native *stub = arena_new_of(in->a, Native);
    stub->name = name;
    stub->effect = effect;
    fn = stub;
  }
  if (eat(in, "attrs")) {
    expect(in, "(");
    do {
      Attr a = {0};
      blank(in);
      if (*in->p == '"') a.s = string(in);
      a.i = integer(in);
      a.f = eat(in, "/") ? real(in) : (double)a.i;
      vec_push(in->a, &attr, a);
    } while (eat(in, ","));
    expect(in, ")");
  }
  Nodes arg = nodes(in);
  expect(in, "->");
  expect(in, "(");
  if (!eat(in, ")")) {
    do vec_push(in->a, &res, type(in));
    while (eat(in, ","));
    expect(in, ")");
  }
  return nd_call(in->g, fn, attr.n, attr.at, arg.n, arg.at, res.n, res.at);
}

static Node *constant(In *in, const TensorType *t) {
  size_t bytes;
  shape_bytes(t->dtype, t->rank, t->dim, &bytes);
  int64_t n = (int64_t)(bytes / (size_t)dt_bytes(t->dtype));
  void *data = arena_alloc(in->a, bytes);
  expect(in, "{");
  for (int64_t i = 0; i < n; i++) {
    if (i) expect(in, ",");
    if (dt_is_float(t->dtype))
      dt_put_f(t->dtype, data, i, real(in));
    else
      dt_put_i(t->dtype, data, i, integer(in));
  }
  expect(in, "}");
  return nd_const(in->g, t->dtype, t->rank, t->dim, data);
}

static Node *custom(In *in) {
  Node *primal = node(in);
  expect(in, "args");
  Nodes arg = nodes(in);
  expect(in, "params");
  Nodes param = nodes(in);
  expect(in, "adjoints");
  Nodes adj = nodes(in);
  if (param.n != arg.n + 2 || adj.n != arg.n) fail(in, "malformed custom");
  for (int i = 0; i < param.n; i++) bound(in, param.at[i]);
  for (int i = 0; i < arg.n; i++)
    if (!fits(arg.at[i], param.at[i]) || !fits(arg.at[i], adj.at[i])) fail(in, "argument %d changes its type", i);
  return nd_custom(in->g, primal, arg.n, arg.at, param.at, adj.at);
}

static Node *statement(In *in) {
  TensorType t;
  if (eat(in, "loop")) return loop(in);
  if (eat(in, "cond")) return cond(in);
  if (eat(in, "call")) return call(in);
  static const char *const word[] = {"input", "const", "param", "comp", "scan", "scatter", "get", "custom"};
  int k = 0;
  while (k < 8 && !eat(in, word[k])) k++;
  if (k == 8) fail(in, "expected a kind of node");
  t = type(in);
  Node *n;
  switch (k) {
  case 0: {
    char *name = string(in);
    expect(in, "slot");
    return nd_input(in->g, t.dtype, t.rank, t.dim, name, integer(in));
  }
  case 1:
    return constant(in, &t);
  case 2: {
    n = nd_param(in->g, t.dtype, t.rank, t.dim, string(in));
    if (eat(in, "in")) {
      n->param.lo = integer(in);
      expect(in, "..");
      n->param.hi = integer(in);
    }
    return n;
  }
  case 3:
    return comp(in, &t, false);
  case 4:
    return comp(in, &t, true);
  case 5:
    return scatter(in, &t);
  case 6: {
    Node *of = node(in);
    int64_t i = integer(in);
    if (i < 0 || i >= of->nres) fail(in, "no such result");
    return nd_get(in->g, of, (int)i);
  }
  default:
    return custom(in);
  }
}

bool graph_parse(Graph *g, const char *text, Region *out, char **error) {
  In *in = arena_new_of(g->arena, In); /* not a local: it changes between setjmp and longjmp */
  *in = (In){.g = g, .a = g->arena, .p = text, .line = 1};
  *error = NULL;
  if (setjmp(in->out)) {
    *error = in->error;
    return false;
  }
  for (;; in->line++, in->p += *in->p == '\n') {
    blank(in);
    if (*in->p == '\n' || *in->p == '#') {
      in->p += strcspn(in->p, "\n");
      if (*in->p) continue;
    }
    if (!*in->p) fail(in, "the text ends without `return`");
    if (eat(in, "return")) break;
    expect(in, "%");
    if (integer(in) != in->node.n) fail(in, "nodes count up");
    expect(in, "=");
    Node *n = statement(in);
    vec_push(in->a, &in->node, n);
    blank(in);
    if (*in->p != '\n') fail(in, "expected the end of the line");
  }
  Nodes o = nodes(in), fx = nodes_if(in, "effects");
  *out = (Region){o.n, o.at, fx.n, fx.at};
  return true;
}
