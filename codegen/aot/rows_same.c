/* Are two regions, the same program at two numbers of rows, equal but for extents that are multiples of the number?
 * Then no value in them depends on the number itself. Both are in one graph, where equal nodes are one: only what
 * differs is walked. */
#include "codegen/aot/aot.h"
#include "codegen/map.h"
#include "graph/native.h"
#include <string.h>

typedef struct Pair {
  Arena *a;
  int64_t bx, by;
  NumMap node, expr; /* of x -> index into the lists: what it was paired with */
  VEC(const Node *) ny;
  VEC(const Expr *) ey;
} Pair;

static bool same_node(Pair *p, const Node *x, const Node *y);

static bool same_extent(const Pair *p, int64_t x, int64_t y) {
  return x == y || (x % p->bx == 0 && y % p->by == 0 && x / p->bx == y / p->by);
}
static bool same_extents(const Pair *p, int n, const int64_t *x, const int64_t *y) {
  for (int i = 0; i < n; i++)
    if (!same_extent(p, x[i], y[i])) return false;
  return true;
}

static bool same_expr(Pair *p, const Expr *x, const Expr *y) {
  if (x == y) return true;
  if (!x || !y || x->kind != y->kind || x->dtype != y->dtype || x->op != y->op || x->n != y->n ||
      x->checked != y->checked)
    return false;
  int at = nummap_get(&p->expr, x);
  if (at >= 0) return p->ey.at[at] == y;
  if (x->kind == EX_CONST || x->kind == EX_ITER || x->kind == EX_VAR) return false; /* interned: they differ */
  if (x->kind == EX_LIN) {
    if (x->num.i != y->num.i) return false;
    for (int k = 0; k < x->n; k++)
      if (x->coef[k] != y->coef[k]) return false;
  }
  if (x->kind == EX_LOAD && (!same_node(p, x->node, y->node) || !same_expr(p, x->mask, y->mask))) return false;
  for (int k = 0; k < x->n; k++)
    if (!same_expr(p, x->arg[k], y->arg[k])) return false;
  nummap_put(&p->expr, x, p->ey.n);
  vec_push(p->a, &p->ey, y);
  return true;
}

static bool same_comp(Pair *p, const Comp *x, const Comp *y) {
  return x->nout == y->nout && x->nred == y->nred && x->op == y->op && x->chunk == y->chunk &&
         x->reverse == y->reverse && x->exclusive == y->exclusive &&
         same_extents(p, x->nout + x->nred, x->extent, y->extent) && same_expr(p, x->body, y->body) &&
         same_expr(p, x->guard, y->guard);
}

static bool same_nodes(Pair *p, int n, Node *const *x, Node *const *y) {
  for (int i = 0; i < n; i++)
    if (!same_node(p, x[i], y[i])) return false;
  return true;
}
static bool same_maybe(Pair *p, const Node *x, const Node *y) { return x && y ? same_node(p, x, y) : x == y; }

static void pair_node(Pair *p, const Node *x, const Node *y) {
  nummap_put(&p->node, x, p->ny.n);
  vec_push(p->a, &p->ny, y);
}

static bool same_loop(Pair *p, const Loop *x, const Loop *y) {
  if (x->nstate != y->nstate || x->nstack != y->nstack || x->trip != y->trip || x->reverse != y->reverse) return false;
  if (!same_nodes(p, x->nstate, x->init, y->init) || !same_maybe(p, x->trip_node, y->trip_node)) return false;
  if (!x->counter != !y->counter) return false;
  if (x->counter && x->counter != y->counter) pair_node(p, x->counter, y->counter);
  for (int k = 0; k < x->nstate; k++) {
    const Node *a = x->param[k], *b = y->param[k];
    if (a->dtype != b->dtype || a->rank != b->rank || !same_extents(p, a->rank, a->dim, b->dim)) return false;
    if (a != b) pair_node(p, a, b);
  }
  return same_maybe(p, x->cond, y->cond) && same_nodes(p, x->nstate + x->nstack, x->body.out, y->body.out);
}

static bool same_call(Pair *p, const Node *x, const Node *y) {
  if (x->call.fn != y->call.fn || x->call.fn->effect || x->call.nattr != y->call.nattr || x->call.narg != y->call.narg)
    return false;
  for (int i = 0; i < x->call.nattr; i++) {
    const Attr *s = &x->call.attr[i], *t = &y->call.attr[i];
    if (s->i != t->i || memcmp(&s->f, &t->f, sizeof s->f) ||
        (s->s || t->s ? !s->s || !t->s || strcmp(s->s, t->s) : false))
      return false;
  }
  for (int i = 0; i < x->nres; i++) {
    const TensorType *s = &x->res[i], *t = &y->res[i];
    if (s->dtype != t->dtype || s->rank != t->rank || !same_extents(p, s->rank, s->dim, t->dim)) return false;
  }
  return same_nodes(p, x->call.narg, x->call.arg, y->call.arg);
}

static bool same_payload(Pair *p, const Node *x, const Node *y) {
  switch (x->kind) {
  case ND_INPUT:
    return x->slot == y->slot;
  case ND_COMP:
  case ND_SCAN:
    return same_comp(p, &x->comp, &y->comp);
  case ND_SCATTER:
    if (x->scatter.how != y->scatter.how || x->scatter.checked != y->scatter.checked ||
        !same_comp(p, &x->scatter.src, &y->scatter.src))
      return false;
    for (int d = 0; d < x->rank; d++)
      if (!same_expr(p, x->scatter.idx[d], y->scatter.idx[d])) return false;
    return same_maybe(p, x->scatter.base, y->scatter.base);
  case ND_LOOP:
    return same_loop(p, &x->loop, &y->loop);
  case ND_COND:
    return same_node(p, x->cond.pred, y->cond.pred) && same_nodes(p, x->nres, x->cond.yes.out, y->cond.yes.out) &&
           same_nodes(p, x->nres, x->cond.no.out, y->cond.no.out);
  case ND_GET:
    return x->get.index == y->get.index && same_node(p, x->get.of, y->get.of);
  case ND_CALL:
    return same_call(p, x, y);
  default:
    return false; /* CONST, PARAM: equal ones are one node, or paired by their loop */
  }
}

static bool same_node(Pair *p, const Node *x, const Node *y) {
  if (x == y) return true;
  int at = nummap_get(&p->node, x);
  if (at >= 0) return p->ny.at[at] == y;
  if (x->kind != y->kind || x->dtype != y->dtype || x->rank != y->rank || x->nres != y->nres) return false;
  if (!same_extents(p, x->rank, x->dim, y->dim) || !same_payload(p, x, y)) return false;
  pair_node(p, x, y);
  return true;
}

bool rows_same_program(Arena *a, const Region *x, int64_t bx, const Region *y, int64_t by) {
  Pair p = {.a = a, .bx = bx, .by = by, .node = {.arena = a}, .expr = {.arena = a}};
  return x->nout == y->nout && same_nodes(&p, x->nout, x->out, y->out);
}
