/* Where a number of a refused training step became nan or inf first.
 *
 * The commit point's node stands for the step: what it depends on is computed once more, as a region of its own in
 * which the values that the step began with are inputs. For every node of it a kernel says whether it holds a number
 * that is not finite. The first in order whose operands were finite is looked at element by element: its expression is
 * walked at the point that went wrong. If that is a loop, the first of its steps that goes wrong is taken apart in the
 * same way. */
#include "repl/nonfinite.h"
#include "graph/ptrmap.h"
#include "graph/scalar_eval.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_POINTS = 1 << 22, MAX_DEPTH = 3, MAX_NODES = 2000 };

typedef struct Why {
  Host *h;
  Graph *g;
  Fault *fault;
  int depth;
  const char *what; /* the message as it was */
} Why;

/* ---- running parts of the step ----------------------------------------------------------------------------------- */

static bool compute(Why *w, int n, Node *const *node, Tensor *out) {
  Node **copy = arena_copy(w->g->arena, node, sizeof *node * (size_t)n);
  Region r = {n, copy, 0, NULL};
  Fault fault = {0};
  return host_compute(w->h, w->g, &r, out, &fault);
}

static void drop(int n, Tensor *t) {
  for (int i = 0; i < n; i++) tensor_drop(&t[i]);
  free(t);
}

/* any(not isfinite(n)), rank 0. */
static Node *bad_node(Graph *g, Node *n) {
  Expr *e = ex_op1(g, OP_NOT, ex_op1(g, OP_ISFINITE, ex_load_full(g, n, 0)));
  return n->rank ? nd_comp(g, 0, n->rank, n->dim, RED_ANY, e, NULL) : nd_scalar(g, e);
}

/* ---- one point --------------------------------------------------------------------------------------------------- */

typedef struct Given {
  int n;
  Node **node;
  Tensor *value;
} Given;

typedef struct Point {
  const Given *given;
  const int64_t *it;
  const Expr *culprit; /* the first operation found */
  double arg[3], result;
} Point;

typedef union Cell {
  double f;
  int64_t i;
} Cell;

static bool flt(const Expr *e) { return dt_is_float((DType)e->dtype); }
static Cell eval(Point *p, const Expr *e);

static Cell eval_load(Point *p, const Expr *e) {
  Cell zero = {.i = 0};
  if (flt(e)) zero.f = 0;
  if (e->mask && !eval(p, e->mask).i) return zero;
  const Tensor *t = NULL;
  for (int k = 0; k < p->given->n && !t; k++)
    if (p->given->node[k] == e->node) t = &p->given->value[k];
  if (!t) return zero;
  int64_t at = 0;
  for (int d = 0; d < e->n; d++) {
    int64_t i = eval(p, e->arg[d]).i;
    if (i < 0 || i >= t->dim[d]) return zero;
    at = at * t->dim[d] + i;
  }
  Cell c;
  if (flt(e))
    c.f = dt_get_f(t->dtype, t->data, at);
  else
    c.i = dt_get_i(t->dtype, t->data, at);
  return c;
}

/* Both domains of an operation's row; a select evaluates the arm it takes. */
static Cell eval_op(Point *p, const Expr *e) {
  if (e->op == OP_SELECT) return eval(p, e->arg[eval(p, e->arg[0]).i ? 1 : 2]);
  Cell x[3] = {{.i = 0}, {.i = 0}, {.i = 0}}, r;
  double f[3] = {0, 0, 0};
  int64_t i[3] = {0, 0, 0};
  bool from = e->n && flt(e->arg[0]), finite = true;
  for (int k = 0; k < e->n && k < 3; k++) {
    x[k] = eval(p, e->arg[k]);
    f[k] = flt(e->arg[k]) ? x[k].f : (double)x[k].i, i[k] = x[k].i;
    finite = finite && isfinite(f[k]);
  }
  if (e->op == OP_CAST && flt(e))
    r.f = sc_round_f((DType)e->dtype, f[0]);
  else if (e->op == OP_CAST)
    r.i = from ? (isfinite(f[0]) ? (int64_t)f[0] : 0) : sc_wrap_i((DType)e->dtype, i[0]);
  else if (flt(e))
    r.f = sc_round_f((DType)e->dtype, sc_eval_f((ScalarOp)e->op, f));
  else if (from)
    r.i = sc_eval_f((ScalarOp)e->op, f) != 0;
  else
    r.i = sc_wrap_i((DType)e->dtype, sc_eval_i((ScalarOp)e->op, i));
  if (flt(e) && !isfinite(r.f) && finite && !p->culprit) {
    p->culprit = e, p->result = r.f;
    memcpy(p->arg, f, sizeof f);
  }
  return r;
}

static Cell eval(Point *p, const Expr *e) {
  Cell c = {.i = 0};
  switch (e->kind) {
  case EX_CONST:
    if (flt(e))
      c.f = e->num.f;
    else
      c.i = e->num.i;
    return c;
  case EX_ITER:
    c.i = p->it[e->num.i];
    return c;
  case EX_LIN:
    c.i = e->num.i;
    for (int k = 0; k < e->n; k++) c.i += e->coef[k] * eval(p, e->arg[k]).i;
    return c;
  case EX_LOAD:
    return eval_load(p, e);
  case EX_OP:
    return eval_op(p, e);
  default:
    return c;
  }
}

static void decode(int n, const int64_t *extent, int64_t flat, int64_t *it) {
  for (int k = n; k-- > 0;) it[k] = flat % extent[k], flat /= extent[k];
}

/* ---- the message ------------------------------------------------------------------------------------------------- */

static void number(char *s, size_t n, double v) { snprintf(s, n, "%.6g", v != v ? NAN : v); }

static void say_op(Why *w, const Point *p, Span otherwise) {
  static const struct {
    ScalarOp op;
    const char *sign;
  } infix[] = {{OP_ADD, "+"}, {OP_SUB, "-"}, {OP_MUL, "*"}, {OP_DIV, "/"}, {OP_POW, "^"}};
  const Expr *e = p->culprit;
  char a[3][32], r[32], text[160] = "";
  for (int k = 0; k < 3; k++) number(a[k], sizeof a[k], p->arg[k]);
  number(r, sizeof r, p->result);
  for (size_t k = 0; k < sizeof infix / sizeof *infix; k++)
    if (infix[k].op == e->op && e->n == 2) snprintf(text, sizeof text, "%s %s %s", a[0], infix[k].sign, a[1]);
  if (!*text)
    snprintf(text, sizeof text, "%s(%s%s%s)", op_info[e->op].name, a[0], e->n > 1 ? ", " : "", e->n > 1 ? a[1] : "");
  fault_set(w->fault, R_NAN, e->span.file ? e->span : otherwise, "%s: it began here, with %s = %s", w->what, text, r);
}

static void say_node(Why *w, const Node *n, const char *what) {
  if (n->span.file) fault_set(w->fault, R_NAN, n->span, "%s: it began here, %s", w->what, what);
}

/* ---- a comprehension that went wrong ----------------------------------------------------------------------------- */

static void collect_load(void *ctx, Expr *e) {
  Given *g = ctx;
  if (e->kind != EX_LOAD) return;
  for (int k = 0; k < g->n; k++)
    if (g->node[k] == e->node) return;
  g->node[g->n++] = e->node;
}
static void count_load(void *ctx, Expr *e) { *(int *)ctx += e->kind == EX_LOAD; }

static int64_t first_bad(const Tensor *t) {
  int64_t n = tensor_count(t), inf = -1;
  for (int64_t k = 0; k < n; k++) {
    double v = dt_get_f(t->dtype, t->data, k);
    if (v != v) return k;
    if (inf < 0 && !isfinite(v)) inf = k;
  }
  return inf;
}

/* Walks the body where its result is not finite. True when an operation was found. */
static bool look_at(Why *w, Node *n) {
  const Comp *c = n->kind == ND_SCATTER ? &n->scatter.src : &n->comp;
  int loads = 1;
  ex_visit(c->body, count_load, &loads);
  if (c->guard) ex_visit(c->guard, count_load, &loads);
  Given g = {.node = arena_array(w->g->arena, Node *, loads)};
  g.node[g.n++] = n;
  ex_visit(c->body, collect_load, &g);
  if (c->guard) ex_visit(c->guard, collect_load, &g);
  g.value = calloc((size_t)g.n, sizeof *g.value);
  if (!g.value) return false;
  bool ok = compute(w, g.n, g.node, g.value);
  int64_t at = ok ? first_bad(&g.value[0]) : -1, it[2 * TG_MAX_RANK + 2] = {0}, inner = 1;
  Point p = {.given = &g, .it = it};
  bool point = n->kind == ND_COMP; /* an element comes from its own points; else from any */
  int first = point ? c->nout : 0, most = c->nout + c->nred;
  if (most <= 2 * TG_MAX_RANK && at >= 0) {
    if (point) decode(c->nout, c->extent, at, it);
    for (int k = first; k < most; k++)
      inner = inner > MAX_POINTS / (c->extent[k] ? c->extent[k] : 1) ? MAX_POINTS : inner * c->extent[k];
    for (int64_t f = 0; f < inner && !p.culprit; f++) {
      decode(most - first, c->extent + first, f, it + first);
      if (c->guard && !eval(&p, c->guard).i) continue;
      eval(&p, c->body);
    }
  }
  if (p.culprit)
    say_op(w, &p, n->span);
  else if (at >= 0 && c->nred && c->op == RED_SUM)
    say_node(w, n, "with a sum of finite numbers that is too large");
  drop(g.n, g.value);
  return p.culprit || (at >= 0 && c->nred && c->op == RED_SUM);
}

/* ---- the step, a loop's step ------------------------------------------------------------------------------------- */

static bool search(Why *w, int n, Node *const *root);

/* The first step of the loop with a state or row that is not finite, with the loop's values bound. */
static bool enter_loop(Why *w, Node *n) {
  Loop l = n->loop;
  Graph *g = w->g;
  if (l.body.neffect || w->depth >= MAX_DEPTH || l.trip <= 0) return false;
  int nout = l.body.nout, nflag = 0, ns = l.nstate;
  Node **out = arena_array(g->arena, Node *, nout + nout);
  memcpy(out, l.body.out, sizeof *out * (size_t)ns);
  for (int k = 0; k < nout; k++)
    if (dt_is_float((DType)l.body.out[k]->dtype)) out[ns + nflag++] = bad_node(g, l.body.out[k]);
  l.nstack = nflag, l.body.nout = ns + nflag, l.body.out = out;
  Node *flags = nd_loop(g, &l), **get = arena_array(g->arena, Node *, nflag + 1);
  for (int k = 0; k < nflag; k++) get[k] = nd_get(g, flags, ns + k);
  Tensor *t = calloc((size_t)nflag + 1, sizeof *t);
  int64_t step = -1;
  if (t && nflag && compute(w, nflag, get, t)) {
    for (int64_t s = 0; s < l.trip && step < 0; s++)
      for (int k = 0; k < nflag && step < 0; k++)
        if (((const bool *)t[k].data)[l.reverse ? l.trip - 1 - s : s]) step = s;
    drop(nflag, t);
  } else
    free(t);
  if (step < 0) return false;
  /* the states before that step, as nodes: the loop cut off there */
  Loop before = n->loop;
  Node **from = arena_array(g->arena, Node *, ns + 1), **to = arena_array(g->arena, Node *, ns + 1),
       **root = arena_array(g->arena, Node *, nout);
  int nfrom = 0;
  before.trip = step, before.trip_node = NULL, before.nstack = 0, before.body.nout = ns;
  if (before.reverse && before.counter) { /* counts down from the whole length */
    Expr *shift = ex_op2(g, OP_ADD, ex_load(g, before.counter, 0, NULL, NULL, false, n->span),
                         ex_int(g, DT_I64, n->loop.trip - step));
    Node *moved = nd_scalar(g, shift), **body = arena_copy(g->arena, before.body.out, sizeof *body * (size_t)ns);
    Node *fresh = nd_counter(g, 0, step > 0 ? step - 1 : 0), *old = before.counter;
    graph_rewrite(g, 1, &old, &fresh, 1, &moved);
    graph_rewrite(g, 1, &old, &moved, ns, body);
    before.counter = fresh, before.body.out = body;
  }
  Node *cut = step > 0 ? nd_loop(g, &before) : NULL;
  for (int k = 0; k < ns; k++) from[nfrom] = n->loop.param[k], to[nfrom++] = cut ? nd_get(g, cut, k) : n->loop.init[k];
  if (n->loop.counter)
    from[nfrom] = n->loop.counter,
    to[nfrom++] = nd_scalar(g, ex_int(g, DT_I64, n->loop.reverse ? n->loop.trip - 1 - step : step));
  memcpy(root, n->loop.body.out, sizeof *root * (size_t)nout);
  graph_rewrite(g, nfrom, from, to, nout, root);
  w->depth++;
  return search(w, nout, root);
}

typedef struct Operands {
  PtrMap *bad;
  bool any;
} Operands;
static void operand(void *ctx, Node *in) {
  Operands *o = ctx;
  if (ptrmap_get(o->bad, in)) o->any = true;
}

/* The nodes on which the roots depend, in order; the first that went wrong by itself gets looked at, then the next. */
static bool search(Why *w, int n, Node *const *root) {
  Graph *g = w->g;
  Node **order, **node = arena_array(g->arena, Node *, MAX_NODES), **flag = arena_array(g->arena, Node *, MAX_NODES);
  int all = graph_topo(g, n, root, &order), m = 0;
  for (int k = 0; k < all && m < MAX_NODES; k++) {
    Node *const *param, *x = order[k];
    if (x->nres || !dt_is_float((DType)x->dtype) || x->kind == ND_CONST || nd_free_params(x, &param)) continue;
    node[m] = x, flag[m++] = bad_node(g, x);
  }
  Tensor *t = calloc((size_t)m + 1, sizeof *t);
  if (!t) return false;
  bool found = false;
  if (compute(w, m, flag, t)) {
    PtrMap bad = {.arena = g->arena};
    for (int k = 0; k < m && !found; k++) {
      if (!*(const bool *)t[k].data) continue;
      Node *x = node[k];
      Operands o = {&bad, false};
      if (x->kind == ND_GET)
        nd_each_input(x->get.of, operand, &o);
      else
        nd_each_input(x, operand, &o);
      ptrmap_put(&bad, x, x);
      if (o.any) continue;
      if (x->kind == ND_GET && x->get.of->kind == ND_LOOP)
        found = enter_loop(w, x->get.of);
      else if (x->kind == ND_COMP || x->kind == ND_SCAN || x->kind == ND_SCATTER)
        found = look_at(w, x);
      else if (x->kind == ND_INPUT)
        continue;
      if (!found && x->kind != ND_COMP) say_node(w, x, "in the result of this"), found = x->span.file != 0;
      if (!found) ptrmap_put(&bad, x, NULL); /* an infinity that was written, as in a mask, is no mistake */
    }
    drop(m, t);
  } else
    free(t);
  return found;
}

void nonfinite_explain(Host *h, Graph *g, const PlanRefusal *r, Fault *fault) {
  Why w = {.h = h, .g = g, .fault = fault, .what = arena_strdup(g->arena, fault->msg)};
  int slots = h->slot.n, n = r->call->call.narg;
  PlanStats last = h->last;
  Node **to = arena_array(g->arena, Node *, r->n),
       **root = arena_copy(g->arena, r->call->call.arg, sizeof *root * (size_t)n);
  for (int k = 0; k < r->n; k++) {
    const Tensor *t = &r->value[k];
    vec_push(h->arena, &h->slot, *t);
    to[k] = nd_input(g, t->dtype, t->rank, t->dim, "given", h->slot.n - 1);
  }
  graph_rewrite(g, r->n, r->node, to, n, root);
  search(&w, n, root);
  h->slot.n = slots; /* the values are the plan's */
  h->last = last;
}
