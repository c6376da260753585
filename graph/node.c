/* Nodes: interning, and one maker a kind.
 *
 * A node's value is its key, a string of words that names everything it is made of (children by id); equal keys give
 * the same node. The unique kinds INPUT and PARAM, and calls with effects, are not looked up. Beside each node stand
 * the nodes it reads and the PARAMs it depends on, computed once here (NodeX). */
#include "graph/internal.h"
#include <stdlib.h>
#include <string.h>

typedef VEC(uint64_t) Key;
typedef VEC(Node *) Nodes;

/* A node under construction: its key, inputs, and free params so far. They begin in the buffers, and grow into the
 * graph's arena (few nodes do). */
typedef struct {
  Graph *g;
  Key key;
  Nodes in, free;
  Node n;
  uint64_t key_few[96];
  Node *in_few[32], *free_few[16];
} Make;

static void key(Make *m, uint64_t w) { vec_push(m->g->arena, &m->key, w); }
static void key_expr(Make *m, const Expr *e) { key(m, e ? e->id : 0); }

static void key_text(Make *m, const char *s) {
  size_t n = strlen(s);
  key(m, n);
  for (size_t i = 0; i < n; i += 8) {
    uint64_t w = 0;
    memcpy(&w, s + i, n - i < 8 ? n - i : 8);
    key(m, w);
  }
}

/* Sizes are the user's: a bad one unwinds to the front end. */
static void check_shape(Graph *g, DType t, int rank, const int64_t *dim) {
  size_t bytes;
  if (rank > TG_MAX_RANK)
    diag_fail(g->diags, S_RANK, g->span, "a tensor has at most %d axes, not %d", TG_MAX_RANK, rank);
  for (int i = 0; i < rank; i++)
    if (dim[i] < 0) diag_fail(g->diags, S_NEGATIVE, g->span, "axis %d would have size %lld", i, (long long)dim[i]);
  if (shape_bytes(t, rank, dim, &bytes)) return;
  VEC(char) text = {0};
  for (int i = 0; i < rank; i++)
    for (const char *s = arena_printf(g->arena, "%s%lld", i ? ", " : "", (long long)dim[i]); *s; s++)
      vec_push(g->arena, &text, *s);
  vec_push(g->arena, &text, '\0');
  diag_fail(g->diags, S_OVERFLOW, g->span, "%s[%s] does not fit in memory that 63 bits can address", dt_name(t),
            text.at);
}

static void start(Make *m, Graph *g, NodeKind kind, DType t, int rank, const int64_t *dim) {
  check_shape(g, t, rank, dim);
  m->g = g;
  m->n = (Node){.kind = (uint8_t)kind, .dtype = (uint8_t)t, .rank = rank, .dim = dim, .span = g->span};
  m->key.at = m->key_few, m->key.n = 0, m->key.cap = sizeof m->key_few / sizeof *m->key_few;
  m->in.at = m->in_few, m->in.n = 0, m->in.cap = sizeof m->in_few / sizeof *m->in_few;
  m->free.at = m->free_few, m->free.n = 0, m->free.cap = sizeof m->free_few / sizeof *m->free_few;
  key(m, (uint64_t)kind << 32 | (uint64_t)t << 16 | (uint64_t)rank);
  for (int i = 0; i < rank; i++) key(m, (uint64_t)dim[i]);
}

static bool has(Node *const *at, int n, const Node *x) {
  for (int i = 0; i < n; i++)
    if (at[i] == x) return true;
  return false;
}

/* Adds x's free params, except the `nbound` given, to the sorted set. */
static void join_free(Make *m, const Node *x, int nbound, Node *const *bound) {
  const NodeX *y = node_x(x);
  for (int i = 0; i < y->nfree; i++) {
    Node *p = y->free[i];
    if (has(bound, nbound, p)) continue;
    int lo = 0, hi = m->free.n;
    while (lo < hi) {
      int mid = (lo + hi) / 2;
      if (m->free.at[mid]->id < p->id)
        lo = mid + 1;
      else
        hi = mid;
    }
    if (lo < m->free.n && m->free.at[lo] == p) continue;
    vec_push(m->g->arena, &m->free, p);
    memmove(&m->free.at[lo + 1], &m->free.at[lo], sizeof(Node *) * (size_t)(m->free.n - 1 - lo));
    m->free.at[lo] = p;
  }
}

static void reads(Make *m, Node *x, int nbound, Node *const *bound) {
  vec_push(m->g->arena, &m->in, x);
  join_free(m, x, nbound, bound);
}
static void input(Make *m, Node *x) {
  key(m, x ? x->id : 0);
  if (x) reads(m, x, 0, NULL);
}

static void note_load(void *ctx, Expr *e) {
  if (e->kind == EX_LOAD) reads(ctx, e->node, 0, NULL);
}
static void expr_in(Make *m, Expr *e) {
  key_expr(m, e);
  if (e) ex_visit(e, note_load, m);
}

static int by_address(const void *a, const void *b) {
  uintptr_t x = (uintptr_t) * (Node *const *)a, y = (uintptr_t) * (Node *const *)b;
  return (x > y) - (x < y);
}

/* Distinct inputs in order of first occurrence, in the graph's arena. Sorting finds duplicates when there are many. */
static void keep_inputs(Make *m, NodeX *x) {
  Node **out = arena_array(m->g->arena, Node *, m->in.n), **sorted = NULL;
  int n = 0, ns = 0;
  uint8_t *taken = NULL;
  if (m->in.n > 32) {
    sorted = arena_copy(m->g->arena, m->in.at, sizeof(Node *) * (size_t)m->in.n);
    qsort(sorted, (size_t)m->in.n, sizeof *sorted, by_address);
    for (int i = 0; i < m->in.n; i++)
      if (!i || sorted[i] != sorted[i - 1]) sorted[ns++] = sorted[i];
    taken = arena_alloc(m->g->arena, (size_t)ns);
  }
  for (int i = 0; i < m->in.n; i++) {
    Node *in = m->in.at[i];
    if (sorted) {
      Node **at = bsearch(&in, sorted, (size_t)ns, sizeof *sorted, by_address);
      if (taken[at - sorted]++) continue;
    } else if (has(out, n, in))
      continue;
    out[n++] = in;
  }
  x->in = out;
  x->nin = n;
}

typedef struct {
  const Node *n;
  const uint64_t *key;
  int nkey;
} Probe;
typedef struct {
  NodeX x;
  const uint64_t *key;
  int nkey;
  size_t bytes;
} Kept; /* what the node table holds */

static bool kept_eq(const void *pa, const void *pb) {
  const Kept *a = pa;
  const Probe *b = pb;
  if (a->nkey != b->nkey || memcmp(a->key, b->key, sizeof *a->key * (size_t)a->nkey)) return false;
  return b->n->kind != ND_CONST || !a->bytes || !memcmp(a->x.n.data, b->n->data, a->bytes);
}

static void *copy(Graph *g, const void *p, size_t n) { return n ? arena_copy(g->arena, p, n) : NULL; }
#define COPY(g, p, n) copy(g, p, sizeof *(p) * (size_t)(n))

/* Interns (or, if `unique`, adds) the node. *fresh: it is new, and its arrays still point at the caller's. */
static Node *finish(Make *m, bool unique, bool *fresh) {
  Graph *g = m->g;
  size_t bytes = 0;
  uint64_t h = hash_bytes(1, m->key.at, sizeof *m->key.at * (size_t)m->key.n);
  if (m->n.kind == ND_CONST) {
    shape_bytes(m->n.dtype, m->n.rank, m->n.dim, &bytes);
    h = hash_bytes(h, m->n.data, bytes);
  }
  Probe probe = {&m->n, m->key.at, m->key.n};
  Kept *k = unique ? NULL : intern_find(g->nodes, h, &probe, kept_eq);
  *fresh = !k;
  if (!k) {
    k = arena_new_of(g->arena, Kept);
    k->x.n = m->n;
    k->x.n.id = g->next_id++;
    k->x.n.dim = COPY(g, m->n.dim, m->n.rank);
    k->x.hash = h;
    k->bytes = bytes;
    if (m->n.kind == ND_PARAM) {
      Node *self = &k->x.n;
      k->x.free = COPY(g, &self, 1);
      k->x.nfree = 1;
    } else {
      k->x.nfree = m->free.n;
      for (int i = 0; i < m->in.n && !k->x.free; i++) { /* share an input's set when it is the whole */
        const NodeX *in = node_x(m->in.at[i]);
        if (in->nfree == m->free.n && (!in->nfree || !memcmp(in->free, m->free.at, sizeof(Node *) * (size_t)in->nfree)))
          k->x.free = in->free;
      }
      if (!k->x.free) k->x.free = COPY(g, m->free.at, m->free.n);
    }
    keep_inputs(m, &k->x);
    if (!unique) {
      k->key = COPY(g, m->key.at, m->key.n);
      k->nkey = m->key.n;
      intern_add(g->arena, g->nodes, h, k);
    }
  }
  return &k->x.n;
}

/* ---- Leaves ------------------------------------------------------------------------------------------------------ */

Node *nd_input(Graph *g, DType t, int rank, const int64_t *dim, const char *name, int64_t slot) {
  Make m;
  bool fresh;
  start(&m, g, ND_INPUT, t, rank, dim);
  m.n.name = arena_strdup(g->arena, name ? name : "");
  m.n.slot = slot;
  return finish(&m, true, &fresh);
}

Node *nd_const(Graph *g, DType t, int rank, const int64_t *dim, const void *data) {
  Make m;
  bool fresh;
  start(&m, g, ND_CONST, t, rank, dim);
  m.n.data = data;
  Node *n = finish(&m, false, &fresh);
  size_t bytes = ((Kept *)n)->bytes;
  if (fresh) { /* 64-byte aligned, as vector code likes it */
    char *p = arena_alloc(g->arena, bytes + 64);
    p += -(uintptr_t)p & 63;
    if (bytes) memcpy(p, data, bytes);
    n->data = p;
  }
  return n;
}

Node *nd_param(Graph *g, DType t, int rank, const int64_t *dim, const char *name) {
  Make m;
  bool fresh;
  start(&m, g, ND_PARAM, t, rank, dim);
  m.n.name = arena_strdup(g->arena, name ? name : "");
  m.n.param.lo = 1; /* empty: unknown */
  m.n.param.hi = 0;
  return finish(&m, true, &fresh);
}

Node *nd_counter(Graph *g, int64_t lo, int64_t hi) {
  Node *n = nd_param(g, DT_I64, 0, NULL, "t");
  n->param.lo = lo;
  n->param.hi = hi;
  return n;
}

/* ---- Comprehensions ---------------------------------------------------------------------------------------------- */

static void check_comp(const char *what, const Expr *body, const Expr *guard) {
  if (guard && guard->dtype != DT_BOOL) bug("%s: guard of type %s", what, dt_name(guard->dtype));
  if (!body) bug("%s without a body", what);
}

static void comp_in(Make *m, const Comp *c) {
  key(m, (uint64_t)c->nout << 40 | (uint64_t)c->nred << 16 | (uint64_t)c->op << 8 | (uint64_t)c->reverse << 1 |
             c->exclusive);
  key(m, (uint64_t)c->chunk);
  for (int i = 0; i < c->nout + c->nred; i++) key(m, (uint64_t)c->extent[i]);
  expr_in(m, c->body);
  expr_in(m, c->guard);
}

Node *nd_scalar(Graph *g, Expr *closed) { return nd_comp(g, 0, 0, NULL, RED_NONE, closed, NULL); }

static Expr *true_is_null(Expr *guard) { return guard && guard->kind == EX_CONST && guard->num.i ? NULL : guard; }

Node *nd_comp(Graph *g, int nout, int nred, const int64_t *extent, Reduce op, Expr *body, Expr *guard) {
  return nd_comp_cut(g, nout, nred, extent, op, body, guard, 0);
}

/* 0 where the order of the reduction does not matter. */
static int64_t chunk_kept(int nout, int nred, const int64_t *extent, Reduce op, const Expr *body, int64_t chunk) {
  bool ordered = op == RED_SUM || op == RED_PROD || op == RED_MAX || op == RED_MIN; /* max(0, -0) is the later one */
  if (!chunk || !ordered || !dt_is_float((DType)body->dtype)) return 0;
  int64_t row = 1;
  for (int i = nout + 1; i < nout + nred; i++) row *= extent[i];
  if (row == 0) return 0;
  if (chunk < 0 || chunk % row) bug("comp: chunks of %lld in rows of %lld", (long long)chunk, (long long)row);
  return chunk;
}

Node *nd_comp_cut(Graph *g, int nout, int nred, const int64_t *extent, Reduce op, Expr *body, Expr *guard,
                  int64_t chunk) {
  Make m;
  bool fresh;
  guard = true_is_null(guard);
  check_comp("comp", body, guard);
  if ((op == RED_NONE) != (nred == 0)) bug("comp: %d reduction iterators with %s", nred, red_name(op));
  if ((op == RED_ANY || op == RED_ALL) && body->dtype != DT_BOOL) bug("%s of %s", red_name(op), dt_name(body->dtype));
  if (nred == 0 && !guard && body->kind == EX_LOAD && !body->mask && body->n == nout && !body->checked) {
    bool same = true;
    for (int i = 0; i < nout && same; i++)
      same = body->arg[i]->kind == EX_ITER && body->arg[i]->num.i == i && body->node->dim[i] == extent[i];
    if (same) return body->node;
  }
  if (nout > TG_MAX_RANK) check_shape(g, DT_BOOL, nout, extent);
  for (int64_t i = 0, n = 1; i < nout + nred; i++) { /* the iteration space must be countable too */
    if (extent[i] < 0)
      diag_fail(g->diags, S_NEGATIVE, g->span, "an index would have %lld values", (long long)extent[i]);
    if (extent[i] && (__builtin_mul_overflow(n, extent[i], &n) || n > INT64_C(1) << 62))
      diag_fail(g->diags, S_OVERFLOW, g->span, "the indices would take more than 2^62 values together");
  }
  start(&m, g, ND_COMP, op == RED_ARGMAX || op == RED_ARGMIN ? DT_I64 : body->dtype, nout, extent);
  m.n.comp = (Comp){.nout = nout, .nred = nred, .extent = extent, .op = op, .body = body, .guard = guard};
  m.n.comp.chunk = chunk_kept(nout, nred, extent, op, body, chunk);
  comp_in(&m, &m.n.comp);
  Node *n = finish(&m, false, &fresh);
  if (fresh) n->comp.extent = COPY(g, extent, nout + nred);
  return n;
}

Node *nd_scan(Graph *g, int nout, const int64_t *extent, Reduce op, Expr *body, bool reverse, bool exclusive) {
  Make m;
  bool fresh;
  check_comp("scan", body, NULL);
  if (nout < 1 || op == RED_NONE || op >= RED_ARGMAX) bug("scan of %s over %d iterators", red_name(op), nout);
  start(&m, g, ND_SCAN, body->dtype, nout, extent);
  m.n.comp = (Comp){.nout = nout, .extent = extent, .op = op, .body = body, .reverse = reverse, .exclusive = exclusive};
  comp_in(&m, &m.n.comp);
  Node *n = finish(&m, false, &fresh);
  if (fresh) n->comp.extent = COPY(g, extent, nout);
  return n;
}

Node *nd_scatter(Graph *g, DType t, int rank, const int64_t *dim, Node *base, int nsrc, const int64_t *extent,
                 Expr *const *idx, Expr *body, Expr *guard, Combine how, bool checked) {
  Make m;
  bool fresh;
  guard = true_is_null(guard);
  check_comp("scatter", body, guard);
  if (body->dtype != t) bug("scatter: body %s into %s", dt_name(body->dtype), dt_name(t));
  if (base &&
      ((DType)base->dtype != t || base->rank != rank || (rank && memcmp(base->dim, dim, sizeof *dim * (size_t)rank))))
    bug("scatter: base of another type");
  start(&m, g, ND_SCATTER, t, rank, dim);
  m.n.scatter.src = (Comp){.nout = nsrc, .extent = extent, .body = body, .guard = guard};
  m.n.scatter.base = base;
  m.n.scatter.nidx = rank;
  m.n.scatter.idx = idx;
  m.n.scatter.how = how;
  m.n.scatter.checked = checked;
  key(&m, (uint64_t)how << 1 | checked);
  input(&m, base);
  comp_in(&m, &m.n.scatter.src);
  for (int i = 0; i < rank; i++) {
    if (idx[i]->dtype != DT_I64) bug("scatter: subscript of type %s", dt_name(idx[i]->dtype));
    expr_in(&m, idx[i]);
  }
  Node *n = finish(&m, false, &fresh);
  if (fresh) {
    n->scatter.src.extent = COPY(g, extent, nsrc);
    n->scatter.idx = COPY(g, idx, rank);
  }
  return n;
}

/* ---- Regions: loops, branches, custom derivatives ---------------------------------------------------------------- */

static bool same_type(const Node *a, const Node *b) {
  return a->dtype == b->dtype && a->rank == b->rank &&
         (!a->rank || !memcmp(a->dim, b->dim, sizeof *a->dim * (size_t)a->rank));
}

static TensorType type_of(const Node *n) { return (TensorType){n->dtype, n->rank, n->dim}; }

static void region_in(Make *m, const Region *r, int nbound, Node *const *bound) {
  key(m, (uint64_t)r->nout << 32 | (uint64_t)r->neffect);
  for (int i = 0; i < r->nout + r->neffect; i++) {
    Node *x = i < r->nout ? r->out[i] : r->effect[i - r->nout];
    key(m, x->id);
    reads(m, x, nbound, bound);
  }
}

static void region_keep(Graph *g, Region *r) {
  r->out = COPY(g, r->out, r->nout);
  r->effect = COPY(g, r->effect, r->neffect);
}

/* A binder's params: part of the key and of the inputs, but not free. */
static void bind(Make *m, Node *p) {
  key(m, p ? p->id : 0);
  if (!p) return;
  if (p->kind != ND_PARAM) bug("only a PARAM can be bound");
  vec_push(m->g->arena, &m->in, p);
}

Node *nd_loop(Graph *g, const Loop *l) {
  Make m;
  bool fresh;
  int ns = l->nstate, nk = l->nstack;
  if (l->body.nout != ns + nk) bug("loop: %d outputs for %d states and %d stacks", l->body.nout, ns, nk);
  if (l->trip < 0) diag_fail(g->diags, S_NEGATIVE, g->span, "a loop over %lld steps", (long long)l->trip);
  for (int i = 0; i < nk; i++) {
    const Node *row = l->body.out[ns + i];
    int64_t dim[TG_MAX_RANK + 1] = {l->trip};
    if (row->rank) memcpy(dim + 1, row->dim, sizeof *dim * (size_t)row->rank);
    check_shape(g, row->dtype, row->rank + 1, dim);
  }
  start(&m, g, ND_LOOP, DT_I64, 0, NULL);
  Node **bound = arena_array(g->arena, Node *, ns + 1);
  for (int i = 0; i < ns; i++) {
    if (!same_type(l->init[i], l->param[i]) || !same_type(l->param[i], l->body.out[i]))
      bug("loop: state %d changes its type", i);
    input(&m, l->init[i]);
    bind(&m, bound[i] = l->param[i]);
  }
  bind(&m, l->counter);
  if (l->counter) bound[ns] = l->counter;
  int nbound = ns + (l->counter != NULL);
  key(&m, (uint64_t)l->trip);
  key(&m, (uint64_t)ns << 1 | l->reverse);
  input(&m, l->trip_node);
  key(&m, l->cond ? l->cond->id : 0);
  if (l->cond) reads(&m, l->cond, nbound, bound);
  region_in(&m, &l->body, nbound, bound);
  m.n.loop = *l;
  Node *n = finish(&m, false, &fresh);
  if (!fresh) return n;
  n->loop.init = COPY(g, l->init, ns);
  n->loop.param = COPY(g, l->param, ns);
  region_keep(g, &n->loop.body);
  TensorType *res = arena_array(g->arena, TensorType, ns + nk + 1);
  for (int i = 0; i < ns; i++) res[i] = type_of(l->param[i]);
  for (int i = 0; i < nk; i++) {
    const Node *row = l->body.out[ns + i];
    int64_t *dim = arena_array(g->arena, int64_t, row->rank + 1);
    dim[0] = l->trip;
    if (row->rank) memcpy(dim + 1, row->dim, sizeof *dim * (size_t)row->rank);
    res[ns + i] = (TensorType){row->dtype, row->rank + 1, dim};
  }
  res[ns + nk] = (TensorType){DT_I64, 0, NULL};
  n->res = res;
  n->nres = ns + nk + 1;
  return n;
}

Node *nd_cond(Graph *g, Node *pred, const Region *yes, const Region *no) {
  Make m;
  bool fresh;
  if (pred->dtype != DT_BOOL || pred->rank) bug("cond on %s of rank %d", dt_name(pred->dtype), pred->rank);
  if (yes->nout != no->nout) bug("cond: branches with %d and %d results", yes->nout, no->nout);
  start(&m, g, ND_COND, DT_BOOL, 0, NULL);
  input(&m, pred);
  region_in(&m, yes, 0, NULL);
  region_in(&m, no, 0, NULL);
  m.n.cond.pred = pred;
  m.n.cond.yes = *yes;
  m.n.cond.no = *no;
  for (int i = 0; i < yes->nout; i++)
    if (!same_type(yes->out[i], no->out[i])) bug("cond: result %d differs in type", i);
  Node *n = finish(&m, yes->neffect || no->neffect, &fresh);
  if (!fresh) return n;
  region_keep(g, &n->cond.yes);
  region_keep(g, &n->cond.no);
  TensorType *res = arena_array(g->arena, TensorType, yes->nout);
  for (int i = 0; i < yes->nout; i++) res[i] = type_of(yes->out[i]);
  n->res = res;
  n->nres = yes->nout;
  return n;
}

Node *nd_custom(Graph *g, Node *primal, int narg, Node *const *arg, Node *const *param, Node *const *adj) {
  Make m;
  bool fresh;
  start(&m, g, ND_CUSTOM, primal->dtype, primal->rank, primal->dim);
  input(&m, primal);
  key(&m, (uint64_t)narg);
  for (int i = 0; i < narg; i++) {
    if (!same_type(arg[i], param[i]) || !same_type(arg[i], adj[i]))
      bug("custom: argument %d and its adjoint differ in type", i);
    input(&m, arg[i]);
  }
  for (int i = 0; i < narg + 2; i++) bind(&m, param[i]);
  for (int i = 0; i < narg; i++) {
    key(&m, adj[i]->id);
    reads(&m, adj[i], narg + 2, param);
  }
  m.n.custom.primal = primal;
  m.n.custom.narg = narg;
  m.n.custom.nparam = narg + 2;
  Node *n = finish(&m, false, &fresh);
  if (!fresh) return n;
  n->custom.arg = COPY(g, arg, narg);
  n->custom.param = COPY(g, param, narg + 2);
  n->custom.adj = COPY(g, adj, narg);
  return n;
}

/* ---- Calls and their results ------------------------------------------------------------------------------------- */

Node *nd_call(Graph *g, const Native *fn, int nattr, const Attr *attr, int narg, Node *const *arg, int nres,
              const TensorType *res) {
  Make m;
  bool fresh;
  for (int i = 0; i < nres; i++) check_shape(g, res[i].dtype, res[i].rank, res[i].dim);
  start(&m, g, ND_CALL, DT_BOOL, 0, NULL);
  key_text(&m, fn->name);
  key(&m, (uint64_t)nattr << 32 | (uint64_t)narg);
  for (int i = 0; i < nattr; i++) {
    uint64_t bits;
    memcpy(&bits, &attr[i].f, 8);
    key(&m, attr[i].s != NULL);
    key(&m, (uint64_t)attr[i].i);
    key(&m, bits);
    if (attr[i].s) key_text(&m, attr[i].s);
  }
  for (int i = 0; i < narg; i++) input(&m, arg[i]);
  for (int i = 0; i < nres; i++) {
    key(&m, (uint64_t)res[i].dtype << 8 | (uint64_t)res[i].rank);
    for (int k = 0; k < res[i].rank; k++) key(&m, (uint64_t)res[i].dim[k]);
  }
  m.n.call.fn = fn;
  m.n.call.nattr = nattr;
  m.n.call.narg = narg;
  m.n.name = fn->name;
  m.n.nres = nres;
  Node *n = finish(&m, fn->effect, &fresh);
  if (!fresh) return n;
  Attr *kept = COPY(g, attr, nattr);
  for (int i = 0; i < nattr; i++)
    if (kept[i].s) kept[i].s = arena_strdup(g->arena, kept[i].s);
  TensorType *types = COPY(g, res, nres);
  for (int i = 0; i < nres; i++) types[i].dim = COPY(g, res[i].dim, res[i].rank);
  n->call.attr = kept;
  n->call.arg = COPY(g, arg, narg);
  n->res = types;
  return n;
}

Node *nd_get(Graph *g, Node *of, int index) {
  Make m;
  bool fresh;
  if (of->kind != ND_LOOP && of->kind != ND_COND && of->kind != ND_CALL) bug("get of a node that is no tuple");
  if (index < 0 || index >= of->nres) bug("get %d of %d results", index, of->nres);
  const TensorType *t = &of->res[index];
  start(&m, g, ND_GET, t->dtype, t->rank, t->dim);
  input(&m, of);
  key(&m, (uint64_t)index);
  m.n.get.of = of;
  m.n.get.index = index;
  return finish(&m, false, &fresh);
}

/* ---- Queries ----------------------------------------------------------------------------------------------------- */

const char *red_name(Reduce r) {
  static const char *const name[] = {"none", "sum", "prod", "max", "min", "any", "all", "argmax", "argmin"};
  return name[r];
}

int64_t nd_size(const Node *n) {
  int64_t size = 1;
  for (int i = 0; i < n->rank; i++) size *= n->dim[i];
  return size;
}

void nd_each_input(const Node *n, void (*fn)(void *ctx, Node *in), void *ctx) {
  const NodeX *x = node_x(n);
  for (int i = 0; i < x->nin; i++) fn(ctx, x->in[i]);
}

int nd_free_params(const Node *n, Node *const **param) {
  *param = node_x(n)->free;
  return node_x(n)->nfree;
}
