/* Loops that run the same steps become one.
 *
 * The adjoint of a loop runs it again with its carries stacked: the same PARAMs, inits, test and next states, more stacks. Two
 * loops that bind the same PARAMs and agree in those are replaced by one that stacks what either does. A stack that reads more
 * than the loops' shared steps could depend on the other loop's results; such loops are left apart. */
#include "graph/internal.h"
#include <string.h>

static bool same_steps(const Loop *a, const Loop *b) {
  if (a->nstate != b->nstate || a->counter != b->counter || a->trip != b->trip || a->trip_node != b->trip_node || a->cond != b->cond ||
      a->reverse != b->reverse || a->body.neffect || b->body.neffect)
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

bool merge_loops(Graph *g, int nroot, Node **root) {
  Node **order;
  int n = graph_topo(g, nroot, root, &order), nloop = 0, nfrom = 0;
  Node **loop = arena_array(g->arena, Node *, n), **joint = arena_array(g->arena, Node *, n);
  Node **from = arena_array(g->arena, Node *, n), **to = arena_array(g->arena, Node *, n);
  bool any = false;
  for (int i = 0; i < n; i++)
    if (order[i]->kind == ND_LOOP) loop[nloop] = joint[nloop] = order[i], nloop++;
  for (int i = 1; i < nloop; i++)
    for (int k = 0; k < i; k++) {
      if (!same_steps(&joint[k]->loop, &loop[i]->loop)) continue;
      if (!stacks_nothing_new(g, &loop[i]->loop, &joint[k]->loop) && !stacks_nothing_new(g, &joint[k]->loop, &loop[i]->loop)) continue;
      Node *u = unite(g, joint[k], loop[i]), *was = joint[k];
      for (int m = 0; m <= i; m++)
        if (joint[m] == was) joint[m] = u;
      joint[i] = u;
      any = true;
      break;
    }
  if (!any) return false;
  for (int i = 0; i < n; i++) {
    Node *get = order[i];
    if (get->kind != ND_GET || get->get.of->kind != ND_LOOP) continue;
    for (int k = 0; k < nloop; k++)
      if (loop[k] == get->get.of && joint[k] != loop[k]) from[nfrom] = get, to[nfrom++] = nd_get(g, joint[k], result_in(loop[k], joint[k], get->get.index));
  }
  graph_rewrite(g, nfrom, from, to, nroot, root);
  return nfrom > 0;
}
