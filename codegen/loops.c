/* One binder a PARAM. Derivatives give a LOOP a twin that stacks more of the same iteration, often over the same PARAMs
 * and body. Twins become one LOOP that stacks for both: the forward pass runs once. Where that can't be (one feeds the
 * other, or they iterate differently) and PARAMs are shared, the later loop gets a body and PARAMs of its own. */
#include "codegen/fuse.h"
#include <string.h>

typedef struct Pair {
  Node *a, *b;
} Pair; /* a before b; both bind one PARAM */

static bool first_pair(Arena *tmp, int n, Node *const *order, Pair *p) {
  NumMap owner = {.arena = tmp};
  for (int i = 0; i < n; i++) {
    if (order[i]->kind != ND_LOOP) continue;
    const Loop *l = &order[i]->loop;
    for (int k = -1; k < l->nstate; k++) {
      Node *param = k < 0 ? l->counter : l->param[k];
      if (!param) continue;
      int at = nummap_get(&owner, param);
      if (at >= 0 && order[at] != order[i]) {
        *p = (Pair){order[at], order[i]};
        return true;
      }
      nummap_put(&owner, param, i);
    }
  }
  return false;
}

static bool same_nodes(int n, Node *const *a, Node *const *b) { return !n || !memcmp(a, b, sizeof *a * (size_t)n); }

typedef struct Reach {
  Arena *tmp;
  NumMap seen;
  VEC(Node *) todo;
  uint32_t least;
} Reach;
static void reach_use(void *ctx, Node *in, int sub) {
  Reach *r = ctx;
  if (in->id < r->least || nummap_get(&r->seen, in) >= 0) return;
  nummap_put(&r->seen, in, 0);
  vec_push(r->tmp, &r->todo, in);
}

/* Does either loop's body, or what feeds it, use a result of a or b? */
static bool feeds(Arena *tmp, const Pair *p) {
  Reach r = {.tmp = tmp, .seen = {.arena = tmp}};
  r.least = p->a->id < p->b->id ? p->a->id : p->b->id;
  fuse_each_use(p->a, reach_use, &r);
  fuse_each_use(p->b, reach_use, &r);
  while (r.todo.n) {
    Node *n = r.todo.at[--r.todo.n];
    if (n == p->a || n == p->b) return true;
    fuse_each_use(n, reach_use, &r);
  }
  return false;
}

/* Do a and b iterate alike? Then *rows are b's stacked values over a's PARAMs. PARAMs may differ: b's body is rewritten
 * to a's, and interning makes equal bodies the same nodes (unless they hold loops of their own). */
static bool twins(Graph *g, Arena *tmp, const Pair *p, Node ***rows) {
  const Loop *a = &p->a->loop, *b = &p->b->loop;
  int ns = a->nstate, nfrom = 0;
  if (ns != b->nstate || !a->counter != !b->counter || a->trip != b->trip || a->trip_node != b->trip_node ||
      !a->cond != !b->cond || a->reverse != b->reverse || a->body.neffect || b->body.neffect ||
      !same_nodes(ns, a->init, b->init))
    return false;
  Node **from = arena_array(tmp, Node *, ns + 1), **to = arena_array(tmp, Node *, ns + 1);
  Node **out = arena_array(g->arena, Node *, b->body.nout + 1);
  for (int k = 0; k < b->body.nout; k++) out[k] = b->body.out[k];
  if (b->cond) out[b->body.nout] = b->cond;
  for (int k = -1; k < ns; k++) {
    Node *x = k < 0 ? b->counter : b->param[k], *y = k < 0 ? a->counter : a->param[k];
    if (x == y) continue;
    from[nfrom] = x;
    to[nfrom++] = y;
  }
  if (feeds(tmp, p)) return false;
  if (nfrom) graph_rewrite(g, nfrom, from, to, b->body.nout + (b->cond != NULL), out);
  *rows = out + ns;
  return same_nodes(ns, a->body.out, out) && (!a->cond || a->cond == out[b->body.nout]);
}

static bool twin_pair(Graph *g, Arena *tmp, int n, Node *const *order, Pair *p, Node ***rows) {
  VEC(Node *) loop = {0};
  for (int i = 0; i < n; i++)
    if (order[i]->kind == ND_LOOP) vec_push(tmp, &loop, order[i]);
  for (int j = 1; j < loop.n; j++)
    for (int i = 0; i < j; i++) {
      *p = (Pair){loop.at[i], loop.at[j]};
      if (twins(g, tmp, p, rows)) return true;
    }
  return false;
}

/* Both as one loop; results move from GETs of a and b to GETs of it. */
static void merge(Graph *g, const Pair *p, Node *const *rows, int n, Node *const *order, int nroot, Node **root) {
  const Loop *a = &p->a->loop, *b = &p->b->loop;
  int ns = a->nstate, na = a->nstack, nb = b->nstack, nfrom = 0;
  Loop l = *a;
  Node **out = arena_array(g->arena, Node *, ns + na + nb);
  memcpy(out, a->body.out, sizeof *out * (size_t)(ns + na));
  int *at = arena_array(g->arena, int, nb); /* where b's stacks went */
  l.nstack = na;
  for (int k = 0; k < nb; k++) {
    Node *row = rows[k];
    int found = -1;
    for (int j = 0; j < l.nstack && found < 0; j++)
      if (out[ns + j] == row) found = j;
    if (found < 0) out[ns + (found = l.nstack++)] = row;
    at[k] = found;
  }
  l.body = (Region){ns + l.nstack, out, 0, NULL};
  Node *m = nd_loop(g, &l), **from = arena_array(g->arena, Node *, n), **to = arena_array(g->arena, Node *, n);
  for (int i = 0; i < n; i++) {
    if (order[i]->kind != ND_GET || (order[i]->get.of != p->a && order[i]->get.of != p->b)) continue;
    int k = order[i]->get.index, mine = order[i]->get.of == p->a ? na : nb;
    int index = k < ns ? k : k == ns + mine ? ns + l.nstack : order[i]->get.of == p->a ? k : ns + at[k - ns];
    from[nfrom] = order[i];
    to[nfrom++] = nd_get(g, m, index);
  }
  graph_rewrite(g, nfrom, from, to, nroot, root);
}

/* b with PARAMs and a body of its own. */
static void clone(Graph *g, const Pair *p, int n, Node *const *order, int nroot, Node **root) {
  Loop l = p->b->loop;
  Node **from = arena_array(g->arena, Node *, n + l.nstate + 1), **to = arena_array(g->arena, Node *, n + l.nstate + 1);
  Node **param = arena_array(g->arena, Node *, l.nstate);
  int nfrom = 0;
  for (int i = 0; i < n; i++) /* other loops keep theirs */
    if (order[i]->kind == ND_LOOP && order[i]->id < p->b->id) {
      bool binds = order[i]->loop.counter && order[i]->loop.counter == l.counter;
      for (int k = 0; k < order[i]->loop.nstate && !binds; k++)
        for (int j = 0; j < l.nstate && !binds; j++) binds = order[i]->loop.param[k] == l.param[j];
      if (binds) from[nfrom] = to[nfrom] = order[i], nfrom++;
    }
  for (int k = 0; k < l.nstate; k++) {
    from[nfrom] = l.param[k];
    to[nfrom++] = param[k] = nd_param(g, (DType)l.param[k]->dtype, l.param[k]->rank, l.param[k]->dim, l.param[k]->name);
  }
  if (l.counter) {
    from[nfrom] = l.counter;
    to[nfrom++] = nd_counter(g, l.counter->param.lo, l.counter->param.hi);
    l.counter = to[nfrom - 1];
  }
  int nout = l.body.nout, neffect = l.body.neffect;
  Node **inner = arena_array(g->arena, Node *, nout + neffect + 1);
  for (int i = 0; i < nout; i++) inner[i] = l.body.out[i];
  for (int i = 0; i < neffect; i++) inner[nout + i] = l.body.effect[i];
  inner[nout + neffect] = l.cond;
  graph_rewrite(g, nfrom, from, to, nout + neffect + (l.cond != NULL), inner);
  l.param = param;
  l.cond = l.cond ? inner[nout + neffect] : NULL;
  l.body = (Region){nout, inner, neffect, inner + nout};
  Node *b = p->b, *own = nd_loop(g, &l);
  graph_rewrite(g, 1, &b, &own, nroot, root);
}

Region fuse_loops(Graph *g, const Region *r) {
  int nroot = r->nout + r->neffect;
  Node **root = arena_array(g->arena, Node *, nroot), **order;
  for (int i = 0; i < nroot; i++) root[i] = i < r->nout ? r->out[i] : r->effect[i - r->nout];
  for (bool again = true; again;) {
    Arena *tmp = arena_new();
    Pair p;
    Node **rows;
    int n = graph_topo(g, nroot, root, &order);
    again = true;
    if (twin_pair(g, tmp, n, order, &p, &rows))
      merge(g, &p, rows, n, order, nroot, root);
    else if (first_pair(tmp, n, order, &p))
      clone(g, &p, n, order, nroot, root);
    else
      again = false;
    arena_free(tmp);
  }
  return (Region){r->nout, root, r->neffect, root + r->nout};
}
