/* What a loop's steps keep for the loop in the other direction.
 *
 * The adjoint of a step reads values of the step itself. Maps of what is at hand are computed again; contractions and other
 * reductions, scans, scatters and calls never are: some value on every way from them to the adjoint is stacked by the forward
 * loop. Which values is a minimum cut, by bytes:
 *
 *   source --> PARAMs and what is not computed again     (infinite)
 *   v_in --> v_out                                       bytes of v; infinite if v can't be stacked
 *   u_out --> v_in     where v reads u                   (infinite)
 *   v_out --> sink     where the adjoint reads v         (infinite)
 *
 * over the nodes that depend on the step's PARAMs but on no cotangent. Of cuts of equal size the one next to the source: its
 * values are in memory anyway. A cut of more than MOST_BYTES in all steps is given up: then only carries are stacked. */
#include "internal.h"
#include <string.h>

static const int64_t MOST_BYTES = (int64_t)4 << 30, INFINITE = INT64_MAX / 4;
enum { FEW_TERMS = 8 }; /* reductions of fewer terms are as cheap as maps */

typedef struct Arc {
  int to;
  int64_t room;
} Arc; /* arc i and its reverse, i ^ 1 */
typedef struct Net {
  Arena *a;
  PtrMap at;        /* Node -> Vertex */
  VEC(Node *) node; /* vertices 2i + 2, 2i + 3: in and out of node i; 0 the source, 1 the sink */
  VEC(Arc) arc;
  VEC(int) next; /* of the same vertex's arcs; -1 ends */
  VEC(int) first;
} Net;
/* inside: depends on the step's PARAMs. tainted: on cotangents. inner: belongs to a loop in the step. eager: computed
 * whatever branches are taken. */
typedef struct Vertex {
  int i;
  bool inside, tainted, inner, eager;
} Vertex;

static void add_half(Net *w, int from, int to, int64_t room) {
  vec_push(w->a, &w->arc, ((Arc){to, room}));
  vec_push(w->a, &w->next, w->first.at[from]);
  w->first.at[from] = w->arc.n - 1;
}
static void add_arc(Net *w, int from, int to, int64_t room) {
  add_half(w, from, to, room);
  add_half(w, to, from, 0);
}

static bool is_dear(const Node *n) {
  int64_t terms = 1;
  switch (n->kind) {
  case ND_COMP:
    for (int k = 0; k < n->comp.nred; k++) terms *= n->comp.extent[n->comp.nout + k];
    return n->comp.nred && terms >= FEW_TERMS;
  case ND_SCAN:
  case ND_SCATTER:
  case ND_LOOP:
  case ND_COND:
  case ND_CALL:
    return true;
  default:
    return false;
  }
}

static int64_t bytes_of(const Node *n, const Vertex *v) {
  size_t bytes;
  bool stackable =
      v->eager && !v->inner && n->nres == 0 && n->rank < TG_MAX_RANK && shape_bytes(n->dtype, n->rank, n->dim, &bytes);
  return stackable && (int64_t)bytes < INFINITE ? (int64_t)bytes : INFINITE;
}

typedef struct Reads {
  Net *w;
  Vertex *v;
  bool wire;
} Reads;
static void read_one(void *ctx, Node *in) {
  Reads *r = ctx;
  Vertex *u = ptrmap_get(&r->w->at, in);
  if (!u) return;
  if (!r->wire) {
    r->v->inside |= u->inside;
    r->v->tainted |= u->tainted;
  } else if (u->inside && !u->tainted) {
    add_arc(r->w, 2 * u->i + 3, r->v->tainted ? 1 : 2 * r->v->i + 2, INFINITE);
  }
}

static void want(void *ctx, Node *in) {
  Vertex *u = ptrmap_get(ctx, in);
  if (u) u->eager = true;
}
static void find_eager(Net *w, const SaveSpec *s) {
  for (int i = 0; i < s->nroot; i++) want(&w->at, s->root[i]);
  for (int i = w->node.n; i-- > 0;) {
    Node *x = w->node.at[i];
    const Vertex *v = ptrmap_get(&w->at, x);
    if (!v->eager) continue;
    if (x->kind == ND_COND)
      want(&w->at, x->cond.pred);
    else
      nd_each_input(x, want, &w->at);
  }
}

/* Sends what the shortest free way takes; false when there is none. `via`: the arc by which each vertex was reached. */
static bool augment(Net *w, int *via, int *queue) {
  int nq = 0;
  for (int v = 0; v < w->first.n; v++) via[v] = -1;
  via[0] = -2;
  queue[nq++] = 0;
  for (int q = 0; q < nq && via[1] == -1; q++)
    for (int i = w->first.at[queue[q]]; i >= 0; i = w->next.at[i]) {
      const Arc *c = &w->arc.at[i];
      if (c->room <= 0 || via[c->to] != -1) continue;
      via[c->to] = i;
      queue[nq++] = c->to;
    }
  if (via[1] == -1) return false;
  int64_t room = INFINITE;
  for (int v = 1; v; v = w->arc.at[via[v] ^ 1].to)
    if (w->arc.at[via[v]].room < room) room = w->arc.at[via[v]].room;
  for (int v = 1; v; v = w->arc.at[via[v] ^ 1].to) w->arc.at[via[v]].room -= room, w->arc.at[via[v] ^ 1].room += room;
  return room < INFINITE; /* an endless way: no cut at all */
}

int ad_saved(Graph *g, Arena *a, const SaveSpec *s, Node ***out) {
  Net w = {.a = a, .at = {.arena = a}};
  Node **order;
  int n = graph_topo(g, s->nroot, s->root, &order), nsaved = 0;
  PtrMap mine = {.arena = a}, bound = {.arena = a};
  *out = NULL;
  for (int i = 0; i < s->nparam; i++) ptrmap_put(&mine, s->param[i], s->param[i]);
  ptrmap_put(&mine, s->counter, s->counter);
  for (int i = 0; i < n; i++) { /* what loops inside the step bind */
    Node *x = order[i];
    int np = x->kind == ND_LOOP ? x->loop.nstate : x->kind == ND_CUSTOM ? x->custom.nparam : 0;
    for (int k = 0; k < np; k++) {
      Node *p = x->kind == ND_LOOP ? x->loop.param[k] : x->custom.param[k];
      ptrmap_put(&bound, p, p);
    }
    if (x->kind == ND_LOOP && x->loop.counter) ptrmap_put(&bound, x->loop.counter, x->loop.counter);
  }
  vec_push(a, &w.first, -1);
  vec_push(a, &w.first, -1);
  for (int i = 0; i < n; i++) {
    Vertex *v = arena_new_of(a, Vertex);
    Reads r = {&w, v, false};
    Node *const *free_param;
    v->i = i;
    v->inside = ptrmap_has(&mine, order[i]);
    for (int k = 0; k < s->ntaint; k++) v->tainted |= s->taint[k] == order[i];
    nd_each_input(order[i], read_one, &r);
    for (int k = nd_free_params(order[i], &free_param); k-- > 0;) v->inner |= ptrmap_has(&bound, free_param[k]);
    ptrmap_put(&w.at, order[i], v);
    vec_push(a, &w.node, order[i]);
    vec_push(a, &w.first, -1);
    vec_push(a, &w.first, -1);
  }
  find_eager(&w, s);
  for (int i = 0; i < n; i++) {
    Vertex *v = ptrmap_get(&w.at, order[i]);
    Reads r = {&w, v, true};
    if (!v->inside) continue;
    nd_each_input(order[i], read_one, &r);
    if (v->tainted) continue;
    bool given = ptrmap_has(&mine, order[i]);
    add_arc(&w, 2 * i + 2, 2 * i + 3, order[i] == s->counter ? INFINITE : bytes_of(order[i], v));
    if ((given && order[i] != s->counter) || (!given && v->eager && !v->inner && is_dear(order[i])))
      add_arc(&w, 0, 2 * i + 2, INFINITE);
  }
  for (int i = 0; i < s->nroot; i++) {
    Vertex *v = ptrmap_get(&w.at, s->root[i]);
    if (v->inside && !v->tainted) add_arc(&w, 2 * v->i + 3, 1, INFINITE);
  }
  int *via = arena_array(a, int, w.first.n), *queue = arena_array(a, int, w.first.n);
  while (augment(&w, via, queue)) {}
  if (via[1] != -1) return 0;
  Node **saved = arena_array(a, Node *, n);
  int64_t bytes = 0;
  for (int i = 0; i < n; i++) {
    const Vertex *v = ptrmap_get(&w.at, order[i]);
    if (!v->inside || v->tainted || via[2 * i + 2] == -1 || via[2 * i + 3] != -1 || ptrmap_has(&mine, order[i]))
      continue;
    saved[nsaved++] = order[i];
    bytes += bytes_of(order[i], v);
  }
  *out = saved;
  return s->trip > 0 && bytes <= MOST_BYTES / s->trip ? nsaved : 0;
}
