/* Loops that run the same steps become one.
 *
 * The adjoint of a loop runs it again with its carries stacked: the same PARAMs, inits, test and next states, more
 * stacks. Two loops that bind the same PARAMs and agree in those are replaced by one that stacks what either does. A
 * stack that reads more than the loops' shared steps could depend on the other loop's results; such loops are left
 * apart. */
#include "graph/internal.h"
#include <string.h>

static bool same_steps(const Loop *a, const Loop *b) {
  if (a->nstate != b->nstate || a->counter != b->counter || a->trip != b->trip || a->trip_node != b->trip_node ||
      a->cond != b->cond || a->reverse != b->reverse || a->body.neffect || b->body.neffect)
    return false;
  for (int k = 0; k < a->nstate; k++)
    if (a->param[k] != b->param[k] || a->init[k] != b->init[k] || a->body.out[k] != b->body.out[k]) return false;
  return a->nstate > 0 || a->counter;
}
static int find_stack(const Loop *l, int n, Node *const *out, const Node *want) {
  for (int j = 0; j < n; j++)
    if (out[l->nstate + j] == want) return j;
  return -1;
}
/* Every stack of `extra` is a PARAM, or something that base computes anyway. */
static bool stacks_nothing_new(Graph *g, const Loop *extra, const Loop *base) {
  Node **order;
  int n = graph_topo(g, base->body.nout, base->body.out, &order);
  for (int j = 0; j < extra->nstack; j++) {
    const Node *s = extra->body.out[extra->nstate + j];
    bool known = s->kind == ND_PARAM;
    for (int i = 0; i < n && !known; i++) known = order[i] == s;
    if (!known) return false;
  }
  return true;
}

/* The loop with b's stacks added to a's. */
static Node *unite(Graph *g, Node *a, const Node *b) {
  Loop l = a->loop;
  const Loop *o = &b->loop;
  Node **out = arena_array(g->arena, Node *, l.nstate + l.nstack + o->nstack);
  memcpy(out, l.body.out, sizeof *out * (size_t)(l.nstate + l.nstack));
  for (int j = 0; j < o->nstack; j++) {
    Node *s = o->body.out[o->nstate + j];
    if (find_stack(&l, l.nstack, out, s) < 0) out[l.nstate + l.nstack++] = s;
  }
  l.body.out = out, l.body.nout = l.nstate + l.nstack;
  g->span = a->span;
  return nd_loop(g, &l);
}
/* Result k of `old` in `joint`. */
static int result_in(const Node *old, const Node *joint, int k) {
  const Loop *l = &old->loop, *j = &joint->loop;
  if (k < l->nstate) return k;
  if (k == l->nstate + l->nstack) return j->nstate + j->nstack;
  return j->nstate + find_stack(j, j->nstack, j->body.out, l->body.out[k]);
}

/* One pair a call: what replaces the results of one loop may lie below the results of another that is merged as well,
 * and graph_rewrite replaces nothing inside a replacement. */
bool merge_loops(Graph *g, int nroot, Node **root) {
  Node **order, *old[2] = {NULL, NULL}, *joint = NULL;
  int n = graph_topo(g, nroot, root, &order), nfrom = 0;
  for (int i = 0; i < n && !joint; i++)
    for (int k = 0; k < i && !joint && order[i]->kind == ND_LOOP; k++) {
      if (order[k]->kind != ND_LOOP || !same_steps(&order[k]->loop, &order[i]->loop)) continue;
      if (!stacks_nothing_new(g, &order[i]->loop, &order[k]->loop) &&
          !stacks_nothing_new(g, &order[k]->loop, &order[i]->loop))
        continue;
      joint = unite(g, old[0] = order[k], old[1] = order[i]);
    }
  if (!joint) return false;
  Node **from = arena_array(g->arena, Node *, n), **to = arena_array(g->arena, Node *, n);
  for (int i = 0; i < n; i++) {
    Node *get = order[i];
    if (get->kind != ND_GET || (get->get.of != old[0] && get->get.of != old[1]) || get->get.of == joint) continue;
    from[nfrom] = get, to[nfrom++] = nd_get(g, joint, result_in(get->get.of, joint, get->get.index));
  }
  graph_rewrite(g, nfrom, from, to, nroot, root);
  return nfrom > 0;
}
