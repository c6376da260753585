/* The verifier: what every pass may rely on, checked after each pass in debug builds.
 *
 *   - inputs have smaller ids; no PARAM is free at the root; no EX_VAR is left
 *   - iterators are those of the node; subscripts, masks, guards have their dtypes; sizes agree
 *   - an unchecked subscript is not outside its tensor at every point (what can be proved wrong is reported; the
 *     proof that it is right was the front end's) */
#include "graph/affine.h"
#include "graph/internal.h"
#include <string.h>

typedef struct {
  Graph *g;
  const Node *n;
  int niter;
  Box box;
  Expr *guard;
} Check;

#define require(ok, ...) ((ok) ? (void)0 : bug(__VA_ARGS__))

static bool same_type(const Node *a, const Node *b) {
  return a->dtype == b->dtype && a->rank == b->rank &&
         (!a->rank || !memcmp(a->dim, b->dim, sizeof *a->dim * (size_t)a->rank));
}

static void check_load(const Check *c, const Expr *e) {
  const Node *t = e->node;
  require(t->id < c->n->id, "node %u loads the later node %u", c->n->id, t->id);
  require(!t->nres && t->kind != ND_LOOP && t->kind != ND_COND && t->kind != ND_CALL, "node %u loads a tuple",
          c->n->id);
  require(e->n == t->rank && e->dtype == t->dtype, "node %u: load of node %u with another rank or dtype", c->n->id,
          t->id);
  require(!e->mask || e->mask->dtype == DT_BOOL, "node %u: mask is not bool", c->n->id);
  for (int i = 0; i < e->n; i++) {
    require(e->arg[i]->dtype == DT_I64, "node %u: subscript is not i64", c->n->id);
    if (e->checked || e->mask || c->guard || !expr_x(e->arg[i])->index) continue;
    Interval v = ex_interval(c->g, e->arg[i], &c->box, NULL);
    require(v.lo > v.hi || (v.hi >= 0 && v.lo < t->dim[i]),
            "node %u: subscript %d of node %u is %lld..%lld, its size %lld", c->n->id, i, t->id, (long long)v.lo,
            (long long)v.hi, (long long)t->dim[i]);
  }
}

static void check_op(const Check *c, const Expr *e) {
  const OpInfo *o = &op_info[e->op];
  DType t = e->arg[0]->dtype;
  bool f = dt_is_float(t), same = e->n < 2 || e->arg[1]->dtype == t, ok = e->n == o->arity;
  switch (o->typing) {
  case 'F':
    ok = ok && same && f && e->dtype == t;
    break;
  case 'N':
  case 'I':
    ok = ok && same && e->dtype == t;
    break;
  case 'C':
    ok = ok && same && e->dtype == DT_BOOL;
    break;
  case 'P':
    ok = ok && f && e->dtype == DT_BOOL;
    break;
  case 'L':
    ok = ok && same && t == DT_BOOL && e->dtype == DT_BOOL;
    break;
  case 'B':
    ok = ok && same && t == DT_I64 && e->dtype == DT_I64;
    break;
  case 'S':
    ok = ok && t == DT_BOOL && e->arg[1]->dtype == e->dtype && e->arg[2]->dtype == e->dtype;
    break;
  default:
    break;
  }
  require(ok, "node %u: %s with wrong dtypes", c->n->id, o->name);
}

static void check_expr(void *ctx, Expr *e) {
  const Check *c = ctx;
  for (int i = 0; i < e->n; i++)
    require(e->arg[i]->id < e->id, "node %u: an operand is younger than its expression", c->n->id);
  switch (e->kind) {
  case EX_CONST:
    break;
  case EX_ITER:
    require(e->num.i < c->niter, "node %u: iterator %lld of %d", c->n->id, (long long)e->num.i, c->niter);
    break;
  case EX_VAR:
    bug("node %u: free iterator %lld", c->n->id, (long long)e->num.i);
  case EX_LIN:
    require(e->dtype == DT_I64 && e->n > 0, "node %u: malformed linear form", c->n->id);
    for (int i = 0; i < e->n; i++)
      require(e->coef[i] && e->arg[i]->kind != EX_LIN && e->arg[i]->kind != EX_CONST &&
                  (!i || e->arg[i - 1]->id < e->arg[i]->id),
              "node %u: linear form not in normal form", c->n->id);
    break;
  case EX_LOAD:
    check_load(c, e);
    break;
  case EX_OP:
    check_op(c, e);
    break;
  default:
    bug("node %u: expression kind %d", c->n->id, e->kind);
  }
}

static void check_comp(Graph *g, const Node *n, const Comp *k, int nidx, Expr *const *idx) {
  int niter = k->nout + k->nred;
  Interval *iter = arena_array(g->arena, Interval, niter);
  for (int i = 0; i < niter; i++) {
    require(k->extent[i] >= 0, "node %u: negative extent", n->id);
    iter[i] = (Interval){0, k->extent[i] - 1};
  }
  Check c = {g, n, niter, {.niter = niter, .iter = iter}, k->guard};
  if (k->guard) {
    require(k->guard->dtype == DT_BOOL, "node %u: guard is not bool", n->id);
    ex_visit(k->guard, check_expr, &c);
  }
  ex_visit(k->body, check_expr, &c);
  for (int i = 0; i < nidx; i++) ex_visit(idx[i], check_expr, &c);
}

static void check_region(const Node *n, const Region *r) {
  for (int i = 0; i < r->neffect; i++)
    require(r->effect[i]->kind == ND_CALL || r->effect[i]->kind == ND_COND || r->effect[i]->kind == ND_LOOP ||
                r->effect[i]->kind == ND_GET,
            "node %u: an effect that is no call, branch or loop", n->id);
  for (int i = 0; i < r->nout; i++) require(!r->out[i]->nres, "node %u: a region's output is a tuple", n->id);
}

static void check_node(Graph *g, const Node *n) {
  const NodeX *x = node_x(n);
  for (int i = 0; i < x->nin; i++)
    require(x->in[i]->id < n->id, "node %u reads the later node %u", n->id, x->in[i]->id);
  switch (n->kind) {
  case ND_COMP: {
    const Comp *c = &n->comp;
    bool arg = c->op == RED_ARGMAX || c->op == RED_ARGMIN;
    require((c->op == RED_NONE) == (c->nred == 0), "node %u: reduction without iterators or the reverse", n->id);
    require(n->rank == c->nout && (!n->rank || !memcmp(n->dim, c->extent, sizeof *c->extent * (size_t)n->rank)),
            "node %u: shape and extents differ", n->id);
    require(n->dtype == (arg ? DT_I64 : (DType)c->body->dtype), "node %u: dtype is not its body's", n->id);
    require((c->op != RED_ANY && c->op != RED_ALL) || n->dtype == DT_BOOL, "node %u: any or all of numbers", n->id);
    require(!c->reverse && !c->exclusive, "node %u: a comp that runs", n->id);
    require(!c->chunk || (c->chunk > 0 && dt_is_float((DType)n->dtype) && c->op >= RED_SUM && c->op <= RED_MIN),
            "node %u: a cut where none counts", n->id);
    check_comp(g, n, c, 0, NULL);
    break;
  }
  case ND_SCAN:
    require(n->comp.nred == 0 && n->comp.nout == n->rank && n->rank > 0 && n->comp.op > RED_NONE &&
                n->comp.op < RED_ARGMAX && !n->comp.guard,
            "node %u: malformed scan", n->id);
    require(n->dtype == n->comp.body->dtype, "node %u: dtype is not its body's", n->id);
    check_comp(g, n, &n->comp, 0, NULL);
    break;
  case ND_SCATTER:
    require(n->scatter.nidx == n->rank && n->dtype == n->scatter.src.body->dtype, "node %u: malformed scatter", n->id);
    require(!n->scatter.base || same_type(n->scatter.base, n), "node %u: base of another type", n->id);
    check_comp(g, n, &n->scatter.src, n->rank, n->scatter.idx);
    break;
  case ND_LOOP: {
    const Loop *l = &n->loop;
    require(l->body.nout == l->nstate + l->nstack && n->nres == l->nstate + l->nstack + 1, "node %u: malformed loop",
            n->id);
    for (int i = 0; i < l->nstate; i++)
      require(l->param[i]->kind == ND_PARAM && same_type(l->param[i], l->init[i]) &&
                  same_type(l->param[i], l->body.out[i]),
              "node %u: state %d", n->id, i);
    require(!l->counter || (l->counter->kind == ND_PARAM && l->counter->dtype == DT_I64 && !l->counter->rank),
            "node %u: counter", n->id);
    require(!l->cond || (l->cond->dtype == DT_BOOL && !l->cond->rank && !l->cond->nres), "node %u: while", n->id);
    require(!l->trip_node || (l->trip_node->dtype == DT_I64 && !l->trip_node->rank), "node %u: trip count", n->id);
    check_region(n, &l->body);
    break;
  }
  case ND_COND:
    require(n->cond.pred->dtype == DT_BOOL && !n->cond.pred->rank, "node %u: condition", n->id);
    require(n->nres == n->cond.yes.nout && n->nres == n->cond.no.nout, "node %u: branches", n->id);
    for (int i = 0; i < n->nres; i++)
      require(same_type(n->cond.yes.out[i], n->cond.no.out[i]), "node %u: branch result %d", n->id, i);
    check_region(n, &n->cond.yes);
    check_region(n, &n->cond.no);
    break;
  case ND_GET:
    require(n->get.index < n->get.of->nres, "node %u: no such result", n->id);
    break;
  case ND_CUSTOM:
    require(n->custom.nparam == n->custom.narg + 2 && same_type(n, n->custom.primal), "node %u: malformed custom",
            n->id);
    break;
  case ND_CALL:
    require(n->call.fn && n->call.fn->name, "node %u: call of nothing", n->id);
    break;
  default:
    break;
  }
}

void graph_verify(Graph *g, const Region *r) {
  int nroot = r->nout + r->neffect;
  Node **root = arena_array(g->arena, Node *, nroot), **order;
  for (int i = 0; i < nroot; i++) root[i] = i < r->nout ? r->out[i] : r->effect[i - r->nout];
  int n = graph_topo(g, nroot, root, &order);
  for (int i = 0; i < n; i++) check_node(g, order[i]);
  for (int i = 0; i < nroot; i++) {
    Node *const *p;
    if (nd_free_params(root[i], &p))
      bug("output %d depends on param %u (%s) outside the loop that binds it", i, p[0]->id, p[0]->name);
  }
}
