/* Which values are sharded. A fixpoint over the graph, optimistic: states of loops begin replicated, or as their first
 * value is, and become sharded when the next one is; those that can't make up their mind are replicated for good.
 *
 * A comprehension has one sample a point or none: that of the loads of sharded operands whose subscript tells it. An
 * output iterator is preferred, then the value is sharded; a reduction iterator makes a sum over samples. Other loads
 * of sharded operands read the whole.
 *
 * What is split by rows of a dealt sum is found after that, in the same way, among the values that belong to no sample:
 * so which sums are cut by samples does not depend on dealing, and one rank need not know of it. */
#include "dist/shard_pass.h"
#include "graph/affine.h"
#include <string.h>

int64_t batch_of(const Node *n) {
  if (n->kind != ND_CALL || strcmp(n->name, "data_next") || n->call.nattr != 2) return 0;
  int64_t rows = n->call.attr[1].i;
  return rows > 1 ? rows : 0;
}

/* ---- samples of subscripts --------------------------------------------------------------------------------------- */

static Sample bare_sample(const Comp *c, const Expr *e, Split of) {
  const Expr *i = e;
  int64_t unit = 1;
  if (e->kind == EX_OP && e->op == OP_FLOORDIV && e->arg[1]->kind == EX_CONST) i = e->arg[0], unit = e->arg[1]->num.i;
  if (i->kind != EX_ITER || i->num.i >= c->nout + c->nred || unit < 1) return (Sample){0};
  int64_t n = c->extent[i->num.i];
  if (n % unit || n / unit != of.rows) return (Sample){0};
  return (Sample){(int)i->num.i, unit, of.rows, of.dealt};
}

Sample sample_of(Pass *p, const Comp *c, Expr *idx, Split of) {
  enum { MOST = 64 };
  Expr *e = of.unit == 1 ? idx : ex_op2(p->g, OP_FLOORDIV, idx, ex_int(p->g, DT_I64, of.unit));
  Sample s = bare_sample(c, e, of);
  if (s.rows || e->kind == EX_ITER || e->kind == EX_CONST || e->kind == EX_LOAD || c->nout + c->nred > MOST) return s;
  Interval in[MOST];
  for (int k = 0; k < c->nout + c->nred; k++) {
    if (!c->extent[k]) return s;
    in[k] = (Interval){0, c->extent[k] - 1};
  }
  return bare_sample(c, ex_reduce(p->g, e, &(Box){.niter = c->nout + c->nred, .iter = in}, NULL), of);
}

static bool same_sample(Sample a, Sample b) {
  return a.rows && a.rows == b.rows && a.iter == b.iter && a.unit == b.unit && a.dealt == b.dealt;
}

static Sample load_sample(Pass *p, const Comp *c, const Expr *load) {
  Split s = split_of(p, load->node);
  return s.rows ? sample_of(p, c, load->arg[s.axis], s) : (Sample){0};
}
bool reads_own(Pass *p, const Known *x, const Expr *load) {
  return x->by.rows && same_sample(load_sample(p, comp_of(x->n), load), x->by);
}

/* ---- uses -------------------------------------------------------------------------------------------------------- */

typedef struct LoadUse {
  void (*fn)(void *ctx, Expr *load);
  void *ctx;
} LoadUse;
static void see_load(void *ctx, Expr *e) {
  const LoadUse *u = ctx;
  if (e->kind == EX_LOAD) u->fn(u->ctx, e);
}
void each_load(const Node *n, void (*fn)(void *ctx, Expr *load), void *ctx) {
  const Comp *c = comp_of(n);
  LoadUse u = {fn, ctx};
  for (int d = 0; n->kind == ND_SCATTER && d < n->scatter.nidx; d++) ex_visit(n->scatter.idx[d], see_load, &u);
  if (c->guard) ex_visit(c->guard, see_load, &u);
  ex_visit(c->body, see_load, &u);
}

static void region_uses(const Region *r, UseFn fn, void *ctx, int sub) {
  for (int i = 0; i < r->nout; i++) fn(ctx, r->out[i], sub);
  for (int i = 0; i < r->neffect; i++) fn(ctx, r->effect[i], sub);
}
typedef struct InputUse {
  UseFn fn;
  void *ctx;
} InputUse;
static void see_input(void *ctx, Node *in) {
  const InputUse *u = ctx;
  u->fn(u->ctx, in, -1);
}
void each_use(const Node *n, UseFn fn, void *ctx) {
  if (n->kind == ND_LOOP) {
    for (int k = 0; k < n->loop.nstate; k++) fn(ctx, n->loop.init[k], -1);
    if (n->loop.trip_node) fn(ctx, n->loop.trip_node, -1);
    if (n->loop.cond) fn(ctx, n->loop.cond, 0);
    region_uses(&n->loop.body, fn, ctx, 1);
  } else if (n->kind == ND_COND) {
    fn(ctx, n->cond.pred, -1);
    region_uses(&n->cond.yes, fn, ctx, 0);
    region_uses(&n->cond.no, fn, ctx, 1);
  } else {
    nd_each_input(n, see_input, &(InputUse){fn, ctx});
  }
}

typedef struct WholeUse {
  Pass *p;
  Known *x;
  UseFn fn;
  void *ctx;
} WholeUse;
static void whole_load(void *ctx, Expr *e) {
  const WholeUse *u = ctx;
  if (split_of(u->p, e->node).rows && !reads_own(u->p, u->x, e)) u->fn(u->ctx, e->node, -1);
}
/* `in` is wanted as `as`. */
static void whole_as(const WholeUse *u, Node *in, Split as, int sub) {
  Split s = in->nres ? (Split){0} : split_of(u->p, in);
  if (s.rows && !same_split(s, as)) u->fn(u->ctx, in, sub);
}
static void whole_any(void *ctx, Node *in, int sub) { whole_as(ctx, in, (Split){0}, sub); }

void each_whole(Pass *p, Known *x, UseFn fn, void *ctx) {
  WholeUse u = {p, x, fn, ctx};
  const Node *n = x->n;
  switch (n->kind) {
  case ND_GET:
  case ND_PARAM:
    return;
  case ND_COMP:
  case ND_SCAN:
    each_load(n, whole_load, &u);
    return;
  case ND_SCATTER:
    each_load(n, whole_load, &u);
    if (n->scatter.base) whole_as(&u, n->scatter.base, x->one, -1);
    return;
  case ND_LOOP: {
    const Loop *l = &n->loop;
    for (int k = 0; k < l->nstate; k++) {
      Split s = split_of(p, l->param[k]);
      whole_as(&u, l->init[k], s, -1);
      whole_as(&u, l->body.out[k], s, 1);
    }
    return;
  }
  case ND_COND:
    for (int k = 0; k < n->nres; k++) {
      whole_as(&u, n->cond.yes.out[k], x->split[k], 0);
      whole_as(&u, n->cond.no.out[k], x->split[k], 1);
    }
    return;
  default:
    each_use(n, whole_any, &u);
  }
}

/* ---- one node ---------------------------------------------------------------------------------------------------- */

typedef struct Pick {
  Pass *p;
  const Comp *c;
  int nout; /* output iterators that may run over samples */
  Sample out, red;
} Pick;
static bool is_float_sum(const Comp *c) { return c->op == RED_SUM && dt_is_float((DType)c->body->dtype); }
static void pick_load(void *ctx, Expr *e) {
  Pick *k = ctx;
  Sample s = load_sample(k->p, k->c, e);
  if (!s.rows) return;
  if (s.iter < k->nout) {
    if (!k->out.rows) k->out = s;
  } else if (s.iter >= k->c->nout && !k->red.rows && !(s.dealt && is_float_sum(k->c))) {
    k->red = s;
  }
}

/* Reductions whose partial results can be joined. */
static bool joins(const Comp *c) {
  switch (c->op) {
  case RED_SUM:
    return c->body->dtype != DT_BOOL;
  case RED_MAX:
  case RED_MIN:
  case RED_ANY:
  case RED_ALL:
    return true;
  default:
    return false;
  }
}

/* Found by samples: dealing does not change it. */
static bool by_samples(Sample s) { return s.rows && !s.dealt; }
static bool of_samples(Split s) { return s.rows && !s.dealt; }

static void find_comp(Pass *p, Known *x) {
  const Comp *c = &x->n->comp;
  if (p->deals && by_samples(x->by)) {
    x->dealt = x->sum && can_deal(p, x->n);
    if (x->dealt) x->one = (Split){0, 1, x->n->dim[0], true};
    return;
  }
  Pick k = {.p = p, .c = c, .nout = c->nout - (x->n->kind == ND_SCAN)};
  each_load(x->n, pick_load, &k);
  x->sum = !k.out.rows && k.red.rows && joins(c);
  x->by = x->sum ? k.red : k.out;
  x->one = k.out.rows ? (Split){k.out.iter, k.out.unit, k.out.rows, k.out.dealt} : (Split){0};
}

/* A scatter is sharded when the axis that it writes samples along is the one that it reads them by. */
typedef struct Target {
  Pass *p;
  const Node *n;
  Sample by;
  bool found;
  Split to;
} Target;
static void try_axis(Target *t, Sample by) {
  const Node *n = t->n;
  for (int d = 0; !t->found && d < n->rank; d++) {
    if (n->dim[d] < by.rows || n->dim[d] % by.rows) continue;
    int64_t unit = n->dim[d] / by.rows;
    Split to = {d, unit, by.rows, by.dealt};
    if (!same_sample(sample_of(t->p, &n->scatter.src, n->scatter.idx[d], to), by)) continue;
    t->found = true, t->by = by, t->to = to;
  }
}
static void target_load(void *ctx, Expr *e) {
  Target *t = ctx;
  Sample s = t->found ? (Sample){0} : load_sample(t->p, &t->n->scatter.src, e);
  if (s.rows) try_axis(t, s);
}
static void find_scatter(Pass *p, Known *x) {
  if (p->deals && by_samples(x->by)) return;
  const Node *n = x->n;
  Target t = {.p = p, .n = n};
  Split base = n->scatter.base ? split_of(p, n->scatter.base) : (Split){0};
  if (base.rows) { /* the base says which axis */
    t.by = sample_of(p, &n->scatter.src, n->scatter.idx[base.axis], base);
    t.found = t.by.rows != 0, t.to = base;
  } else {
    each_load(n, target_load, &t);
  }
  x->by = t.found ? t.by : (Sample){0};
  x->one = t.found ? t.to : (Split){0};
}

static bool find_loop(Pass *p, Known *x) {
  const Loop *l = &x->n->loop;
  bool again = false;
  for (int k = 0; k < l->nstate; k++) {
    Known *param = known(p, l->param[k]);
    if (p->deals && of_samples(param->one)) continue;
    Split now = param->one, next = split_of(p, l->body.out[k]), init = split_of(p, l->init[k]);
    if (!param->pinned) {
      if (now.rows)
        param->pinned = !same_split(now, next);
      else
        param->one = init.rows ? init : next;
      if (param->pinned) param->one = (Split){0};
      again |= !same_split(now, param->one);
    }
    x->split[k] = param->one;
  }
  for (int j = 0; j < l->nstack; j++) {
    Split s = split_of(p, l->body.out[l->nstate + j]);
    s.axis++;
    x->split[l->nstate + j] = s.rows ? s : (Split){0};
  }
  return again;
}

static Split either(Split a, Split b) {
  if (!a.rows) return b;
  return !b.rows || same_split(a, b) ? a : (Split){0};
}

static void find_call(Known *x) {
  int64_t rows = batch_of(x->n);
  for (int k = 0; rows && k < x->n->nres - 2; k++)
    if (x->n->res[k].rank && x->n->res[k].dim[0] == rows) x->split[k] = (Split){0, 1, rows, false};
}

/* True: something that stands before x has changed. */
static bool find_node(Pass *p, Known *x) {
  if (x->forced) return false;
  switch (x->n->kind) {
  case ND_COMP:
  case ND_SCAN:
    find_comp(p, x);
    return false;
  case ND_SCATTER:
    find_scatter(p, x);
    return false;
  case ND_LOOP:
    return find_loop(p, x);
  case ND_COND:
    for (int k = 0; k < x->n->nres; k++)
      if (!p->deals || !of_samples(x->split[k]))
        x->split[k] = either(split_of(p, x->n->cond.yes.out[k]), split_of(p, x->n->cond.no.out[k]));
    return false;
  case ND_CALL:
    find_call(x);
    return false;
  case ND_GET:
    x->one = known(p, x->n->get.of)->split[x->n->get.index];
    return false;
  default:
    return false;
  }
}

/* ---- tests of loops ---------------------------------------------------------------------------------------------- */

/* A test has no effects, so no collectives either: what it computes from the loop's states it computes from whole ones.
 * Loops and branches within it are whole with all that they read. */
static bool of_loop(const Loop *l, const Node *n) {
  Node *const *param;
  for (int i = nd_free_params(n, &param); i-- > 0;) {
    if (param[i] == l->counter) return true;
    for (int k = 0; k < l->nstate; k++)
      if (param[i] == l->param[k]) return true;
  }
  return false;
}
typedef struct Force {
  Pass *p;
  VEC(Node *) todo;
} Force;
static void force_use(void *ctx, Node *in) {
  Force *f = ctx;
  if (!known(f->p, in)->forced) vec_push(f->p->a, &f->todo, in);
}
static void force_all(Pass *p, Node *n) {
  Node **in;
  for (int i = graph_topo(p->g, 1, &n, &in); i-- > 0;) known(p, in[i])->forced = known(p, in[i])->pinned = true;
}
static void force_test(Pass *p, const Loop *l) {
  Force f = {p, {0}};
  force_use(&f, l->cond);
  while (f.todo.n) {
    Node *n = f.todo.at[--f.todo.n];
    if (known(p, n)->forced || !of_loop(l, n)) continue;
    if (n->kind == ND_LOOP || n->kind == ND_COND)
      force_all(p, n);
    else
      nd_each_input(n, force_use, &f);
    known(p, n)->forced = known(p, n)->pinned = true;
  }
}

/* ---- replicated values that are read by samples only ------------------------------------------------------------- */

/* How all readers of a node that were met so far want it. */
typedef struct Want {
  bool met, whole;
  Split as;
} Want;
typedef struct Spread {
  Pass *p;
  Known *x;
  Want *want; /* by position */
} Spread;
static void want(Spread *s, const Node *n, Split as) {
  Want *w = &s->want[known(s->p, n) - s->p->at];
  if (!as.rows || (w->met && !same_split(w->as, as))) w->whole = true;
  w->met = true, w->as = as;
}
static void want_load(void *ctx, Expr *e) {
  Spread *s = ctx;
  const Sample by = s->x->by;
  const Node *t = e->node;
  Split as = {0};
  for (int d = 0; by.rows && !as.rows && d < t->rank; d++) {
    if (t->dim[d] < by.rows || t->dim[d] % by.rows) continue;
    Split to = {d, t->dim[d] / by.rows, by.rows, by.dealt};
    if (same_sample(sample_of(s->p, comp_of(s->x->n), e->arg[d], to), by)) as = to;
  }
  want(s, t, as);
}
static void want_whole(void *ctx, Node *in, int sub) {
  (void)sub;
  want(ctx, in, (Split){0});
}
static void want_inputs(Spread *s) {
  const Node *n = s->x->n;
  if (is_kernel(n)) {
    each_load(n, want_load, s);
    if (n->kind == ND_SCATTER && n->scatter.base) want(s, n->scatter.base, s->x->one);
    return;
  }
  if (n->kind != ND_LOOP) {
    each_use(n, want_whole, s);
    return;
  }
  for (int k = 0; k < n->loop.nstate; k++) want(s, n->loop.init[k], split_of(s->p, n->loop.param[k]));
  if (n->loop.trip_node) want(s, n->loop.trip_node, (Split){0});
  if (n->loop.cond) want(s, n->loop.cond, (Split){0});
  region_uses(&n->loop.body, want_whole, s, 1);
}
/* A noise, a mask, a first state: each rank makes its own part. */
void shard_spread(Pass *p) {
  Spread s = {p, NULL, arena_array(p->a, Want, p->n)};
  for (int i = 0; i < p->r->nout; i++) want(&s, p->r->out[i], (Split){0});
  for (int i = p->n; i-- > 0;) {
    Known *x = &p->at[i];
    const Want *w = &s.want[i];
    bool free = w->met && !w->whole && !x->by.rows && !x->forced;
    if (free && (x->n->kind == ND_COMP || (x->n->kind == ND_SCAN && w->as.axis != x->n->comp.nout - 1)))
      x->one = w->as, x->by = (Sample){w->as.axis, w->as.unit, w->as.rows, w->as.dealt};
    s.x = x;
    want_inputs(&s);
  }
}

static void forget(Pass *p) {
  p->root = NULL;
  for (int i = 0; i < p->n; i++) {
    Known *x = &p->at[i];
    *x = (Known){.n = x->n, .split = x->n->nres ? arena_array(p->a, Split, x->n->nres) : &x->one};
  }
}

static void settle(Pass *p) {
  for (bool again = true; again;) {
    again = false;
    for (int i = 0; i < p->n; i++) again |= find_node(p, &p->at[i]);
  }
}

void shard_find(Pass *p) {
  forget(p);
  for (int i = 0; i < p->n; i++)
    if (p->at[i].n->kind == ND_LOOP && p->at[i].n->loop.cond) force_test(p, &p->at[i].n->loop);
  bool deals = p->deals;
  p->deals = false;
  settle(p);
  p->deals = deals;
  if (deals) settle(p);
}
