/* Derivatives of one body: a reverse sweep over the scalar DAG, by the adjoint columns of scalar.def.
 *
 * The adjoint of a sub-expression is a list of (condition, value) pairs, the conditions disjoint or added: a select
 * adds a condition, a product touches the value only, and the two meet at the loads. So `sqrt(x) if x > 0 else 0` gives
 * select(x > 0, d / (2 sqrt x), 0), which is 0 and not nan at x = 0. */
#include "internal.h"

#define ADD(a, b) ex_op2(g, OP_ADD, a, b)
#define SUB(a, b) ex_op2(g, OP_SUB, a, b)
#define MUL(a, b) ex_op2(g, OP_MUL, a, b)
#define DIV(a, b) ex_op2(g, OP_DIV, a, b)
#define POW(a, b) ex_op2(g, OP_POW, a, b)
#define NEG(a) ex_op1(g, OP_NEG, a)
#define f(op, a) ex_op1(g, OP_##op, a)
#define NUM(c) ex_num(g, D->dtype, c)
#define SEL(c, a, b) ex_select(g, c, a, b)
#define GE(a, b) ex_op2(g, OP_GE, a, b)
#define GT(a, b) ex_op2(g, OP_GT, a, b)
#define LT(a, b) ex_op2(g, OP_LT, a, b)
#define EQ(a, b) ex_op2(g, OP_EQ, a, b)
#define ZERO NULL

static Expr *adjoint(Graph *g, int op, int k, Expr *X, Expr *Y, Expr *R, Expr *D) {
  switch (op) {
#define OP(id, name, arity, typing, fval, ival, prim, ax, ay, doc)                                                     \
  case id:                                                                                                             \
    return k == 0 ? (ax) : (ay);
#include "graph/scalar.def"
#undef OP
  }
  return NULL;
}

typedef struct Term {
  Expr *cond, *val;
} Term;
typedef VEC(Term) Terms;

typedef struct Local {
  Sweep *s;
  PtrMap index; /* Expr -> 1 + position in order */
  VEC(Expr *) order;
  bool *live; /* an active load lies below */
  Terms *adj;
} Local;

static void collect(void *ctx, Expr *e) {
  Local *l = ctx;
  vec_push(l->s->a, &l->order, e);
  ptrmap_put(&l->index, e, (void *)(intptr_t)l->order.n);
}
static int at(const Local *l, Expr *e) { return (int)(intptr_t)ptrmap_get(&l->index, e) - 1; }
static bool is_zero(const Expr *e) {
  double v;
  return ex_is_const(e, &v) && v == 0;
}

/* Adds cond ? val : 0, peeling selects against 0 off val. */
static void push(Local *l, Expr *to, Expr *cond, Expr *val) {
  Graph *g = l->s->g;
  int k = at(l, to);
  if (!val || !l->live[k] || is_zero(val)) return;
  while (val->kind == EX_OP && val->op == OP_SELECT) {
    if (is_zero(val->arg[2]))
      cond = ex_and(g, cond, val->arg[0]), val = val->arg[1];
    else if (is_zero(val->arg[1]))
      cond = ex_and(g, cond, ex_op1(g, OP_NOT, val->arg[0])), val = val->arg[2];
    else
      break;
  }
  Terms *t = &l->adj[k];
  for (int i = 0; i < t->n; i++)
    if (t->at[i].cond == cond) {
      t->at[i].val = ADD(t->at[i].val, val);
      return;
    }
  vec_push(l->s->a, t, ((Term){cond, val}));
}

static void sweep_op(Local *l, Expr *e, Term t) {
  Graph *g = l->s->g;
  if (e->op == OP_SELECT) {
    push(l, e->arg[1], ex_and(g, t.cond, e->arg[0]), t.val);
    push(l, e->arg[2], ex_and(g, t.cond, ex_op1(g, OP_NOT, e->arg[0])), t.val);
  } else if (e->op == OP_CAST) {
    if (dt_is_float(e->arg[0]->dtype)) push(l, e->arg[0], t.cond, ex_cast(g, e->arg[0]->dtype, t.val));
  } else if (dt_is_float(e->dtype) && e->op != OP_STOP) {
    for (int k = 0; k < e->n; k++)
      if (dt_is_float(e->arg[k]->dtype) && l->live[at(l, e->arg[k])])
        push(l, e->arg[k], t.cond, adjoint(g, e->op, k, e->arg[0], e->n > 1 ? e->arg[1] : NULL, e, t.val));
  }
}

int ad_partials(Sweep *s, Expr *body, Expr *seed, Partial **out) {
  Graph *g = s->g;
  Local l = {.s = s, .index = {.arena = s->a}};
  ex_visit(body, collect, &l);
  l.live = arena_array(s->a, bool, l.order.n);
  l.adj = arena_array(s->a, Terms, l.order.n);
  for (int i = 0; i < l.order.n; i++) {
    Expr *e = l.order.at[i];
    if (e->kind == EX_LOAD)
      l.live[i] = dt_is_float(e->dtype) && sw_active(s, e->node);
    else if (e->kind == EX_OP && dt_is_float(e->dtype) && e->op != OP_STOP)
      for (int k = 0; k < e->n; k++) l.live[i] |= dt_is_float(e->arg[k]->dtype) && l.live[at(&l, e->arg[k])];
  }
  VEC(Partial) found = {0};
  push(&l, body, NULL, seed);
  for (int i = l.order.n; i-- > 0;) {
    Expr *e = l.order.at[i];
    for (int k = 0; k < l.adj[i].n; k++) {
      Term t = l.adj[i].at[k];
      if (e->kind == EX_OP) sweep_op(&l, e, t);
    }
    if (e->kind != EX_LOAD || !l.adj[i].n) continue;
    /* One partial a load: the terms' sum; a single term keeps its condition apart. */
    Term t = l.adj[i].at[0];
    if (l.adj[i].n > 1) {
      Expr *sum = NULL;
      for (int k = 0; k < l.adj[i].n; k++) {
        Term u = l.adj[i].at[k];
        Expr *v = u.cond ? SEL(u.cond, u.val, ex_num(g, u.val->dtype, 0)) : u.val;
        sum = sum ? ADD(sum, v) : v;
      }
      t = (Term){NULL, sum};
    }
    vec_push(s->a, &found, ((Partial){e, t.val, t.cond}));
  }
  *out = found.at;
  return found.n;
}

/* ---- arms -------------------------------------------------------------------------------------------------------- */
/* A condition on indices alone (padding, causal masks) is left as it is: its arms are defined everywhere, and
 * contractions stay recognisable. */
static void note_load(void *ctx, Expr *e) { *(bool *)ctx |= e->kind == EX_LOAD; }
static bool is_data(Expr *cond) {
  bool loads = false;
  if (cond) ex_visit(cond, note_load, &loads);
  return loads;
}
typedef struct Arms {
  Sweep *s;
  bool inside;
} Arms;
static Expr *expand(void *ctx, Expr *e);
static Expr *expand_in(Sweep *s, Expr *e, bool inside) {
  Arms a = {s, inside};
  return ex_map(s->g, e, expand, &a);
}
static Expr *expand(void *ctx, Expr *e) {
  Arms *a = ctx;
  Graph *g = a->s->g;
  if (e->kind == EX_OP && e->op == OP_SELECT && !a->inside && is_data(e->arg[0]))
    return ex_select(g, e->arg[0], expand_in(a->s, e->arg[1], true), expand_in(a->s, e->arg[2], true));
  if (e->kind != EX_LOAD || !sw_active(a->s, e->node) || ptrmap_has(&a->s->cut, e->node) ||
      !(a->inside || is_data(e->mask)))
    return NULL;
  const Node *n = e->node;
  if (ptrmap_has(&a->s->cut, n)) return NULL; /* an x of this sweep: what lies below it does not count */
  if (n->kind != ND_COMP || n->comp.nred || n->comp.guard || e->checked || n->comp.body->kind == EX_LOAD) return NULL;
  Expr *in = ex_subst_iters(g, n->comp.body, e->n, e->arg);
  if (e->mask) in = ex_select(g, e->mask, ex_under(g, in, e->mask), ex_num(g, in->dtype, 0));
  return expand_in(a->s, in, true);
}
Expr *ad_expand_arms(Sweep *s, Expr *body) { return expand_in(s, body, false); }
