/* Graph traversal and replacement. Orders are computed with explicit stacks: a chain of 100,000 nodes is fine. */
#include "graph/internal.h"
#include <stdlib.h>
#include <string.h>

typedef VEC(Node *) Nodes;

/* Children first; among the inputs of one node, in their order. `seen` is indexed by id. */
int graph_topo(Graph *g, int nroot, Node *const *root, Node ***order) {
  Arena *scratch = arena_new();
  typedef struct {
    Node *n;
    int next;
  } Frame;
  VEC(Frame) stack = {0};
  Nodes out = {0};
  uint8_t *seen = arena_alloc(scratch, g->next_id);
  for (int r = 0; r < nroot; r++) {
    if (seen[root[r]->id]) continue;
    seen[root[r]->id] = 1;
    vec_push(scratch, &stack, ((Frame){root[r], 0}));
    while (stack.n) {
      Frame *f = &stack.at[stack.n - 1];
      const NodeX *x = node_x(f->n);
      if (f->next == x->nin) {
        vec_push(scratch, &out, f->n);
        stack.n--;
        continue;
      }
      Node *in = x->in[f->next++];
      if (seen[in->id]) continue;
      seen[in->id] = 1;
      vec_push(scratch, &stack, ((Frame){in, 0}));
    }
  }
  *order = arena_array(g->arena, Node *, out.n);
  if (out.n) memcpy(*order, out.at, sizeof(Node *) * (size_t)out.n);
  arena_free(scratch);
  return out.n;
}

/* Replacement of nodes, by id of the old one. */
typedef struct {
  Graph *g;
  Arena *scratch;
  Node **to;
  uint32_t cap;
} Map;

static Node *mapped(void *ctx, Node *n) {
  const Map *m = ctx;
  return n && n->id < m->cap && m->to[n->id] ? m->to[n->id] : n;
}

static Expr *mapped_expr(void *ctx, Expr *e) {
  Map *m = ctx;
  return ex_rebuild(m->g, e, &(Rebuild){.node = mapped, .ctx = m});
}

static Node *fresh_param(Graph *g, const Node *p) {
  Node *n = nd_param(g, p->dtype, p->rank, p->dim, p->name);
  n->param.lo = p->param.lo;
  n->param.hi = p->param.hi;
  return n;
}

static Node *node1(const Renew *m, Node *n) { return n ? m->node(m->ctx, n) : NULL; }
static Expr *expr1(const Renew *m, Expr *e) { return e ? m->expr(m->ctx, e) : NULL; }
static Node **node_all(const Renew *m, Node *const *from, int n) {
  Node **to = arena_array(m->scratch, Node *, n);
  for (int i = 0; i < n; i++) to[i] = node1(m, from[i]);
  return to;
}
static Region region_all(const Renew *m, const Region *r) {
  return (Region){r->nout, node_all(m, r->out, r->nout), r->neffect, node_all(m, r->effect, r->neffect)};
}

Node *nd_renew(Graph *g, Node *n, const Renew *m) {
  switch (n->kind) {
  case ND_COMP: {
    const Comp *c = &n->comp;
    return nd_comp_cut(g, c->nout, c->nred, c->extent, c->op, expr1(m, c->body), expr1(m, c->guard), c->chunk);
  }
  case ND_SCAN:
    return nd_scan(g, n->comp.nout, n->comp.extent, n->comp.op, expr1(m, n->comp.body), n->comp.reverse,
                   n->comp.exclusive);
  case ND_SCATTER: {
    const Comp *c = &n->scatter.src;
    Expr **idx = arena_array(m->scratch, Expr *, n->rank);
    for (int i = 0; i < n->rank; i++) idx[i] = expr1(m, n->scatter.idx[i]);
    return nd_scatter(g, n->dtype, n->rank, n->dim, node1(m, n->scatter.base), c->nout, c->extent, idx,
                      expr1(m, c->body), expr1(m, c->guard), n->scatter.how, n->scatter.checked);
  }
  case ND_LOOP: {
    Loop l = n->loop;
    l.init = node_all(m, l.init, l.nstate);
    l.param = node_all(m, l.param, l.nstate);
    l.counter = node1(m, l.counter);
    l.trip_node = node1(m, l.trip_node);
    l.cond = node1(m, l.cond);
    l.body = region_all(m, &n->loop.body);
    return nd_loop(g, &l);
  }
  case ND_COND: {
    Region yes = region_all(m, &n->cond.yes), no = region_all(m, &n->cond.no);
    return nd_cond(g, node1(m, n->cond.pred), &yes, &no);
  }
  case ND_CALL:
    return nd_call(g, n->call.fn, n->call.nattr, n->call.attr, n->call.narg, node_all(m, n->call.arg, n->call.narg),
                   n->nres, n->res);
  case ND_GET:
    return nd_get(g, node1(m, n->get.of), n->get.index);
  case ND_CUSTOM:
    return nd_custom(g, node1(m, n->custom.primal), n->custom.narg, node_all(m, n->custom.arg, n->custom.narg),
                     node_all(m, n->custom.param, n->custom.nparam), node_all(m, n->custom.adj, n->custom.narg));
  default:
    return n;
  }
}

static bool any_input(const Node *n, const uint8_t *changed) {
  const NodeX *x = node_x(n);
  for (int i = 0; i < x->nin; i++)
    if (changed[x->in[i]->id]) return true;
  return false;
}

/* A changed LOOP or CUSTOM gets its own PARAMs, since the old one may live on; they change what lies inside, which may
 * change nested binders, hence the repetition (at most once a nesting level). */
static bool refresh_params(Map *m, const Node *n, uint8_t *changed) {
  Node *const *param = n->kind == ND_LOOP ? n->loop.param : n->custom.param;
  int np = n->kind == ND_LOOP ? n->loop.nstate : n->custom.nparam;
  bool again = false;
  for (int i = 0; i <= np; i++) {
    Node *p = i < np ? param[i] : n->kind == ND_LOOP ? n->loop.counter : NULL;
    if (!p || changed[p->id]) continue;
    m->to[p->id] = fresh_param(m->g, p);
    changed[p->id] = 1;
    again = true;
  }
  return again;
}

/* ---- Replacement -------------------------------------------------------------------------------------------------
 *
 * A replacement may stand inside a loop that changes because of it, and so gets fresh PARAMs: then the replacement follows them.
 * What it shares with the rest of the graph must stay shared: a loop or an effect that were copied once for the graph and once
 * for each replacement would be run as often. So there are two maps:
 *   by_param   nodes as the fresh PARAMs change them; what the replacements are rebuilt by
 *   to         nodes as the replacements and the fresh PARAMs change them: by_param's, unless a replaced node is below */
typedef struct {
  Map to, by_param;
  int count, n;
  Node **order; /* of the roots, and of replacements that follow PARAMs */
  Node *const *from, *const *with;
  uint8_t *changed, *pchanged; /* differs in `to`, in by_param */
} Rewrite;

static Map map_new(Graph *g, Arena *scratch) {
  Map m = {.g = g, .scratch = scratch, .cap = g->next_id};
  m.to = arena_array(scratch, Node *, m.cap);
  return m;
}

/* Marks what changes; changed binders get fresh PARAMs, which change more. */
static void mark_changed(Rewrite *w) {
  for (bool again = true; again;) {
    again = false;
    for (int i = 0; i < w->count; i++) {
      Node *x = w->order[i];
      bool binder = x->kind == ND_LOOP || x->kind == ND_CUSTOM;
      if (!w->to.to[x->id] && any_input(x, w->changed)) {
        w->changed[x->id] = 1;
        if (binder) again |= refresh_params(&w->to, x, w->changed);
      }
    }
  }
}

/* The PARAMs that were made afresh, into by_param; marks what they change there. */
static bool mark_by_param(Rewrite *w) {
  bool any = false;
  for (int i = 0; i < w->count; i++) {
    Node *x = w->order[i];
    bool given = false;
    for (int k = 0; k < w->n && x->kind == ND_PARAM; k++) given |= w->from[k] == x;
    if (x->kind == ND_PARAM && !given && w->to.to[x->id]) {
      w->by_param.to[x->id] = w->to.to[x->id];
      w->pchanged[x->id] = 1;
      any = true;
    } else if (any_input(x, w->pchanged)) {
      w->pchanged[x->id] = 1;
    }
  }
  return any;
}

static bool reads_fresh(const Rewrite *w, const Node *n) {
  Node *const *param;
  for (int k = nd_free_params(n, &param); k-- > 0;)
    if (param[k]->id < w->by_param.cap && w->by_param.to[param[k]->id]) return true;
  return false;
}

/* Adds the replacements that read fresh PARAMs to the order and rebuilds them. Binders in them may get fresh PARAMs in
 * turn. */
static void follow_params(Rewrite *w, int nroot, Node *const *root) {
  Graph *g = w->to.g;
  Arena *a = w->to.scratch;
  if (!mark_by_param(w)) return;
  Node **all = arena_array(a, Node *, nroot + w->n);
  int nall = 0;
  for (int i = 0; i < w->n; i++)
    if (reads_fresh(w, w->with[i])) all[nall++] = w->with[i];
  if (!nall) return;
  if (nroot) memcpy(all + nall, root, sizeof *root * (size_t)nroot);
  w->count = graph_topo(g, nall + nroot, all, &w->order);
  for (bool again = true; again;) {
    again = false;
    mark_by_param(w);
    for (int i = 0; i < w->count; i++) {
      Node *x = w->order[i];
      if (w->pchanged[x->id] && (x->kind == ND_LOOP || x->kind == ND_CUSTOM))
        again |= refresh_params(&w->to, x, w->changed);
    }
    for (int i = 0; i < w->n; i++) /* also one that is replaced by itself: its readers follow it */
      if (reads_fresh(w, w->with[i])) w->changed[w->from[i]->id] = 1;
    mark_changed(w);
  }
  mark_by_param(w);
  Renew how = {mapped_expr, mapped, &w->by_param, a};
  for (int i = 0; i < w->count; i++) {
    Node *x = w->order[i];
    if (w->by_param.to[x->id] || !w->pchanged[x->id]) continue;
    g->span = x->span;
    w->by_param.to[x->id] = nd_renew(g, x, &how);
  }
  for (int i = 0; i < w->n; i++) w->to.to[w->from[i]->id] = mapped(&w->by_param, w->with[i]);
}

void graph_rewrite(Graph *g, int n, Node *const *from, Node *const *to, int nroot, Node **root) {
  Arena *scratch = arena_new();
  Rewrite w = {.to = map_new(g, scratch), .by_param = map_new(g, scratch), .n = n, .from = from, .with = to};
  uint32_t cap = w.to.cap;
  uint8_t *replaced = arena_alloc(scratch, cap); /* or reads one that is */
  w.count = graph_topo(g, nroot, root, &w.order);
  w.changed = arena_alloc(scratch, cap), w.pchanged = arena_alloc(scratch, cap);
  for (int i = 0; i < n; i++) {
    w.to.to[from[i]->id] = to[i];
    w.changed[from[i]->id] = replaced[from[i]->id] = to[i] != from[i];
  }
  Span outer = g->span;
  mark_changed(&w);
  follow_params(&w, nroot, root);
  for (int i = 0; i < w.count; i++) replaced[w.order[i]->id] |= any_input(w.order[i], replaced);
  Renew how = {mapped_expr, mapped, &w.to, scratch};
  for (int i = 0; i < w.count; i++) {
    Node *x = w.order[i];
    if (w.to.to[x->id] || !w.changed[x->id]) continue;
    g->span = x->span;
    Node *shared = replaced[x->id] ? NULL : w.by_param.to[x->id];
    w.to.to[x->id] = shared ? shared : nd_renew(g, x, &how);
  }
  g->span = outer;
  for (int i = 0; i < nroot; i++) root[i] = mapped(&w.to, root[i]);
  arena_free(scratch);
}
