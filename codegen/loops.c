/* One binder a PARAM. Derivatives give a LOOP a twin that stacks more of the same iteration, over the same PARAMs and body.
 * Twins become one LOOP that stacks for both: the forward pass runs once. Where that can't be (one feeds the other, or
 * they iterate differently), the later gets a body and PARAMs of its own. */
#include "codegen/fuse.h"
#include <string.h>

typedef struct Pair { Node *a, *b; } Pair; /* a before b; both bind one PARAM */

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

typedef struct Reach { Arena *tmp; NumMap seen; VEC(Node *) todo; uint32_t least; } Reach;
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

static bool twins(Arena *tmp, const Pair *p) {
  const Loop *a = &p->a->loop, *b = &p->b->loop;
  return a->nstate == b->nstate && a->counter == b->counter && a->trip == b->trip && a->trip_node == b->trip_node &&
         a->cond == b->cond && a->reverse == b->reverse && !a->body.neffect && !b->body.neffect &&
         same_nodes(a->nstate, a->init, b->init) && same_nodes(a->nstate, a->param, b->param) &&
         same_nodes(a->nstate, a->body.out, b->body.out) && !feeds(tmp, p);
}

/* Both as one loop; results move from GETs of a and b to GETs of it. */
static void merge(Graph *g, const Pair *p, int n, Node *const *order, int nroot, Node **root) {
  const Loop *a = &p->a->loop, *b = &p->b->loop;
  int ns = a->nstate, na = a->nstack, nb = b->nstack, nfrom = 0;
  Loop l = *a;
  Node **out = arena_array(g->arena, Node *, ns + na + nb);
  memcpy(out, a->body.out, sizeof *out * (size_t)(ns + na));
  int *at = arena_array(g->arena, int, nb); /* where b's stacks went */
  l.nstack = na;
  for (int k = 0; k < nb; k++) {
    Node *row = b->body.out[ns + k];
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
  for (;;) {
    Arena *tmp = arena_new();
    Pair p;
    int n = graph_topo(g, nroot, root, &order);
    bool found = first_pair(tmp, n, order, &p);
    bool same = found && twins(tmp, &p);
    arena_free(tmp);
    if (!found) break;
    if (same) merge(g, &p, n, order, nroot, root);
    else clone(g, &p, n, order, nroot, root);
  }
  return (Region){r->nout, root, r->neffect, root + r->nout};
}
