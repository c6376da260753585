/* The graph again, as one rank runs it: what is sharded has the rank's own places, loops and branches carry them, and
 * collectives stand among the effects. Children first; what nothing changes below is kept. */
#include "dist/shard_pass.h"
#include <string.h>

int64_t own_lo(const Pass *p, int64_t rows) { return shard_row(rows, p->env->rank, p->env->nrank); }
int64_t own_hi(const Pass *p, int64_t rows) { return shard_row(rows, p->env->rank + 1, p->env->nrank); }

static const char *type_text(Pass *p, DType t, int rank, const int64_t *dim) {
  const char *s = arena_printf(p->a, "%s[", dt_name(t));
  for (int i = 0; i < rank; i++) s = arena_printf(p->a, "%s%s%lld", s, i ? ", " : "", (long long)dim[i]);
  return arena_printf(p->a, "%s]", s);
}
const char *shard_name(Pass *p, const char *what, const Node *n) {
  const char *file = NULL, *type = n->nres || n->kind == ND_CALL ? "" : type_text(p, (DType)n->dtype, n->rank, n->dim);
  int line, col;
  const char *name = arena_printf(p->a, "%s%s%s", what, *type ? " " : "", type);
  if (n->span.file && p->g->diags) span_position(p->g->diags, n->span, &file, &line, &col);
  return file ? arena_printf(p->a, "%s, %s:%d", name, file, line) : name;
}

/* ---- parts and wholes -------------------------------------------------------------------------------------------- */

void own_dims(const Pass *p, int rank, const int64_t *dim, Split s, int64_t *out) {
  if (rank) memcpy(out, dim, sizeof *dim * (size_t)rank);
  if (s.rows) out[s.axis] = (own_hi(p, s.rows) - own_lo(p, s.rows)) * s.unit;
}

/* t with its axes in another order: axis d of the result is axis from[d] of t. */
static Node *reorder(Graph *g, Node *t, const int *from) {
  Expr *idx[TG_MAX_RANK];
  int64_t dim[TG_MAX_RANK];
  for (int d = 0; d < t->rank; d++) dim[d] = t->dim[from[d]], idx[from[d]] = ex_iter(g, d);
  return nd_comp(g, t->rank, 0, dim, RED_NONE, ex_load(g, t, t->rank, idx, NULL, false, (Span){0}), NULL);
}

static Node *gather(Pass *p, Known *x) {
  Graph *g = p->g;
  Split s = x->one;
  int to_front[TG_MAX_RANK], back[TG_MAX_RANK], rank = x->n->rank;
  int64_t dim[TG_MAX_RANK], row = 1;
  for (int d = 0; d < rank; d++) to_front[d] = d == 0 ? s.axis : d <= s.axis ? d - 1 : d;
  for (int d = 0; d < rank; d++) back[to_front[d]] = d;
  for (int d = 0; d < rank; d++) dim[d] = x->n->dim[to_front[d]], row *= d ? dim[d] : 1;
  int nrank = p->env->nrank;
  Attr *attr = arena_array(p->a, Attr, nrank + 1);
  attr[0].s = shard_name(p, "gathered", x->n);
  for (int r = 0; r < nrank; r++) {
    int64_t rows = shard_row(s.rows, r + 1, nrank) - shard_row(s.rows, r, nrank);
    attr[r + 1].i = rows * s.unit * row, attr[r + 1].f = (double)attr[r + 1].i;
  }
  g->span = x->n->span;
  Node *block = reorder(g, x->own, to_front);
  TensorType t = {(DType)x->n->dtype, rank, dim};
  x->gather = nd_call(g, p->env->gather, nrank + 1, attr, 1, &block, 1, &t);
  return reorder(g, nd_get(g, x->gather, 0), back);
}

Node *own_of(Pass *p, Node *n) { return known(p, n)->own; }
Node *whole_of(Pass *p, Node *n) {
  Known *x = known(p, n);
  if (!x->whole) x->whole = x->one.rows && several(p) ? gather(p, x) : x->own;
  return x->whole;
}
Node *part_of(Pass *p, Node *n, Split s) {
  if (!s.rows || !several(p)) return whole_of(p, n);
  if (same_split(known(p, n)->one, s)) return own_of(p, n);
  Graph *g = p->g;
  Node *t = whole_of(p, n);
  Expr *idx[TG_MAX_RANK];
  int64_t dim[TG_MAX_RANK];
  own_dims(p, n->rank, n->dim, s, dim);
  for (int d = 0; d < n->rank; d++) idx[d] = ex_iter(g, d);
  idx[s.axis] = ex_op2(g, OP_ADD, idx[s.axis], ex_int(g, DT_I64, own_lo(p, s.rows) * s.unit));
  return nd_comp(g, n->rank, 0, dim, RED_NONE, ex_load(g, t, n->rank, idx, NULL, false, (Span){0}), NULL);
}

/* ---- regions ----------------------------------------------------------------------------------------------------- */

/* A rank without samples may need no result of a collective that it takes part in. The result arrives all the same, so
 * it is waited for, last in its region. */
static void wait_for_all(Pass *p, const Site *s, Region *r) {
  if (!several(p) || !s->key.n) return;
  int n = r->nout + r->neffect, neffect = r->neffect;
  Node **root = arena_array(p->a, Node *, n), **effect = arena_array(p->a, Node *, neffect + s->key.n), **order;
  if (r->nout) memcpy(root, r->out, sizeof *root * (size_t)r->nout);
  memcpy(root + r->nout, r->effect, sizeof *root * (size_t)neffect);
  memcpy(effect, r->effect, sizeof *root * (size_t)neffect);
  n = graph_topo(p->g, n, root, &order);
  uint8_t *reached = arena_alloc(p->a, p->g->next_id);
  for (int i = 0; i < n; i++) reached[order[i]->id] = 1;
  for (int i = 0; i < s->key.n; i++) {
    Node *wait = s->key.at[i].gather || s->key.at[i].region ? NULL : s->key.at[i].of->wait;
    if (wait && !reached[wait->id]) effect[neffect++] = wait, reached[wait->id] = 1;
  }
  r->effect = effect, r->neffect = neffect;
}

static Node *build_effect(Pass *p, const Effect *e) {
  Known *x = e->old ? known(p, e->old) : e->key.of;
  if (!e->old && e->key.gather) whole_of(p, x->n); /* also when nothing on this rank reads it: the others take part */
  Node *n = e->old || e->key.region ? x->own : e->key.gather ? x->gather : x->start;
  if (!n) bug("sharding: node %u has no collective", x->n->id);
  return n;
}

/* `split` says how each output is wanted (NULL: whole). */
static Region build_region(Pass *p, const Region *r, Site *s, const Split *split) {
  Region to = {.nout = r->nout};
  Node **out = arena_array(p->a, Node *, r->nout);
  for (int i = 0; i < r->nout; i++) out[i] = part_of(p, r->out[i], split ? split[i] : (Split){0});
  to.neffect = s ? s->norder : r->neffect;
  Node **effect = arena_array(p->a, Node *, to.neffect);
  for (int i = 0; i < to.neffect; i++) effect[i] = s ? build_effect(p, &s->order[i]) : own_of(p, r->effect[i]);
  to.out = out, to.effect = effect;
  wait_for_all(p, s, &to);
  return to;
}

static Node *build_loop(Pass *p, Known *x) {
  Loop l = x->n->loop;
  int nout = l.nstate + l.nstack;
  Node **init = arena_array(p->a, Node *, l.nstate), **param = arena_array(p->a, Node *, l.nstate);
  Split *split = arena_array(p->a, Split, nout);
  for (int k = 0; k < l.nstate; k++) {
    split[k] = split_of(p, x->n->loop.param[k]);
    init[k] = part_of(p, l.init[k], split[k]);
    param[k] = own_of(p, l.param[k]);
  }
  for (int j = l.nstate; j < nout; j++) split[j] = split_of(p, l.body.out[j]);
  l.init = init, l.param = param;
  if (l.counter) l.counter = own_of(p, l.counter);
  if (l.trip_node) l.trip_node = whole_of(p, l.trip_node);
  if (l.cond) l.cond = whole_of(p, l.cond);
  l.body = build_region(p, &x->n->loop.body, x->sub[1], split);
  return nd_loop(p->g, &l);
}

static Node *build_call(Pass *p, Known *x) {
  const Node *n = x->n;
  Node **arg = arena_array(p->a, Node *, n->call.narg);
  for (int i = 0; i < n->call.narg; i++) arg[i] = whole_of(p, n->call.arg[i]);
  int64_t rows = several(p) ? batch_of(n) : 0;
  Attr attr[4];
  if (!rows) return nd_call(p->g, n->call.fn, n->call.nattr, n->call.attr, n->call.narg, arg, n->nres, n->res);
  TensorType *res = arena_copy(p->a, n->res, sizeof *n->res * (size_t)n->nres);
  for (int k = 0; k < n->nres; k++) {
    int64_t *dim = arena_array(p->a, int64_t, n->res[k].rank);
    own_dims(p, n->res[k].rank, n->res[k].dim, x->split[k], dim);
    res[k].dim = dim;
  }
  memcpy(attr, n->call.attr, 2 * sizeof *attr);
  int64_t at[2] = {own_lo(p, rows), own_hi(p, rows)};
  for (int i = 0; i < 2; i++) attr[2 + i] = (Attr){.i = at[i], .f = (double)at[i]};
  return nd_call(p->g, n->call.fn, 4, attr, n->call.narg, arg, n->nres, res);
}

static Node *build_param(Pass *p, const Known *x) {
  const Node *n = x->n;
  int64_t dim[TG_MAX_RANK];
  own_dims(p, n->rank, n->dim, several(p) ? x->one : (Split){0}, dim);
  Node *to = nd_param(p->g, (DType)n->dtype, n->rank, dim, n->name);
  to->param.lo = n->param.lo, to->param.hi = n->param.hi;
  return to;
}

static Node *build_node(Pass *p, Known *x) {
  const Node *n = x->n;
  switch (n->kind) {
  case ND_PARAM:
    return build_param(p, x);
  case ND_COMP:
  case ND_SCAN:
  case ND_SCATTER:
    return x->sum ? build_sum(p, x) : build_kernel(p, x);
  case ND_LOOP:
    return build_loop(p, x);
  case ND_COND: {
    Region yes = build_region(p, &n->cond.yes, x->sub[0], x->split);
    Region no = build_region(p, &n->cond.no, x->sub[1], x->split);
    return nd_cond(p->g, whole_of(p, n->cond.pred), &yes, &no);
  }
  case ND_CALL:
    return build_call(p, x);
  case ND_GET:
    return nd_get(p->g, own_of(p, n->get.of), n->get.index);
  default:
    bug("sharding: node kind %d", n->kind);
  }
}

/* ---- what changes ------------------------------------------------------------------------------------------------ */

static bool begins_change(const Pass *p, const Known *x) {
  if (x->sum) return several(p) || dt_is_float((DType)x->n->dtype);
  return several(p) && (x->one.rows || batch_of(x->n));
}
typedef struct Changed {
  Pass *p;
  bool yes;
} Changed;
static void input_changed(void *ctx, Node *in) {
  Changed *c = ctx;
  c->yes |= known(c->p, in)->changed;
}
/* The params of a changed loop are made anew, and so change what lies inside. */
static bool renew_params(Pass *p, const Loop *l) {
  bool again = false;
  for (int k = 0; k <= l->nstate; k++) {
    Node *n = k < l->nstate ? l->param[k] : l->counter;
    if (!n || known(p, n)->changed) continue;
    again = known(p, n)->changed = true;
  }
  return again;
}
static bool mark_changed(Pass *p) {
  bool any = false;
  for (bool again = true; again;) {
    again = false;
    for (int i = 0; i < p->n; i++) {
      Known *x = &p->at[i];
      Changed c = {p, x->changed || begins_change(p, x)};
      if (!c.yes) nd_each_input(x->n, input_changed, &c);
      x->changed = c.yes;
      any |= c.yes;
      if (c.yes && x->n->kind == ND_LOOP) again |= renew_params(p, &x->n->loop);
    }
  }
  return any;
}

/* ---- in which order ---------------------------------------------------------------------------------------------- */

enum { NEW, ENTERED, LEFT };
static void walk_input(void *ctx, Node *in) {
  Walk *w = ctx;
  Known *x = known(w->p, in);
  uint8_t state = w->state[x - w->p->at];
  if (state == ENTERED) bug("sharding: node %u needs itself", in->id);
  if (state == NEW) vec_push(w->p->a, &w->todo, x);
}
void shard_walk(Walk *w, Known *x) {
  vec_push(w->p->a, &w->todo, x);
  while (w->todo.n) {
    x = w->todo.at[w->todo.n - 1];
    uint8_t *state = &w->state[x - w->p->at];
    if (*state == NEW) {
      *state = ENTERED;
      int n = w->buckets && x->bucket ? x->bucket->sum.n : 1;
      for (int k = 0; k < n; k++) nd_each_input(n > 1 ? x->bucket->sum.at[k]->n : x->n, walk_input, w);
      continue;
    }
    w->todo.n--;
    if (*state == ENTERED) w->leave(w->ctx, x);
    *state = LEFT;
  }
}

static void build_own(void *ctx, Known *x) {
  Pass *p = ctx;
  if (x->own) return; /* with others of its bucket */
  p->g->span = x->n->span;
  if (x->bucket)
    build_bucket(p, x->bucket);
  else
    x->own = x->changed ? build_node(p, x) : x->n;
}

bool shard_build(Pass *p, Region *r) {
  Span outer = p->g->span;
  if (!mark_changed(p)) return false;
  Walk walk = {.p = p, .state = arena_alloc(p->a, (size_t)p->n), .buckets = true, .leave = build_own, .ctx = p};
  for (int i = 0; i < p->n; i++) shard_walk(&walk, &p->at[i]);
  *r = build_region(p, r, p->root, NULL);
  r->out = arena_copy(p->g->arena, r->out, sizeof *r->out * (size_t)r->nout);
  r->effect = arena_copy(p->g->arena, r->effect, sizeof *r->effect * (size_t)r->neffect);
  p->g->span = outer;
  return true;
}
