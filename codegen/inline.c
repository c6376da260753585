/* Inlining: maps into their readers.
 *
 * A map (COMP without reduction) disappears into whoever loads it when computing it again at every reader costs less
 * than writing it once and reading it back. Movement (a single LOAD) and maps that load nothing always do. Costs are
 * counted in vector additions an element; a stream of loads or stores counts COST_LOAD.
 *
 * Facts that the numeric contract needs (order of reductions, fma) are taken here from the normal form, before any
 * body changes: so no fusion decision, thread count or batch size can change bits. */
#include "codegen/contract.h"
#include "codegen/fuse.h"
#include "graph/affine.h"
#include <string.h>

enum { COST_LOAD = 4, COST_STORE = 6, COST_MAX = 2000 };

/* ---- Masks ------------------------------------------------------------------------------------------------------- */
typedef struct Mask {
  Graph *g;
  Expr *mask;
  const Box *box;
} Mask;

static bool inside(Mask *m, const Expr *load) {
  if (!m->box || load->checked) return false;
  for (int d = 0; d < load->n; d++) {
    Interval r = ex_interval(m->g, load->arg[d], m->box, load->mask);
    if (r.lo < 0 || r.hi >= load->node->dim[d]) return false;
  }
  return true;
}

static Expr *mask_leaf(void *ctx, Expr *e) {
  Mask *m = ctx;
  if (e->kind == EX_LOAD) {
    bool in = inside(m, e);
    Expr **at = arena_array(m->g->arena, Expr *, e->n);
    for (int d = 0; d < e->n; d++) at[d] = ex_map(m->g, e->arg[d], mask_leaf, m);
    Expr *mask = e->mask ? ex_map(m->g, e->mask, mask_leaf, m) : NULL;
    return ex_load(m->g, e->node, e->n, at, in ? mask : ex_and(m->g, m->mask, mask), e->checked, e->span);
  }
  if (e->kind == EX_OP && (e->op == OP_FLOORDIV || e->op == OP_MOD) && dt_is_int((DType)e->dtype) &&
      e->arg[1]->kind != EX_CONST) {
    Expr *x = ex_map(m->g, e->arg[0], mask_leaf, m), *y = ex_map(m->g, e->arg[1], mask_leaf, m);
    return ex_op2(m->g, (ScalarOp)e->op, x, ex_select(m->g, m->mask, y, ex_int(m->g, (DType)y->dtype, 1)));
  }
  return NULL;
}

Expr *fuse_mask(Graph *g, Expr *e, Expr *mask, int niter, const int64_t *extent) {
  Interval *iter = arena_array(g->arena, Interval, niter);
  for (int k = 0; k < niter; k++) iter[k] = (Interval){0, extent[k] - 1};
  Box box = {niter, iter, NULL, NULL};
  Mask m = {g, mask, niter ? &box : NULL};
  return ex_map(g, e, mask_leaf, &m);
}

/* e where mask, else 0. */
static Expr *masked(Graph *g, Expr *e, Expr *mask) {
  Expr *r = fuse_mask(g, e, mask, 0, NULL);
  if (r->kind == EX_LOAD) return r;
  return ex_select(g, mask, r, ex_num(g, (DType)e->dtype, 0));
}

/* ---- Costs ------------------------------------------------------------------------------------------------------- */
static double op_cost(const Expr *e) {
  switch (e->op) {
  case OP_DIV:
  case OP_SQRT:
    return 4;
  case OP_EXP:
  case OP_SIGMOID:
    return 8;
  case OP_EXPM1:
  case OP_LOG:
  case OP_LOG1P:
  case OP_TANH:
  case OP_ERF:
    return 12;
  case OP_SIN:
  case OP_COS:
  case OP_TAN:
    return 15;
  case OP_POW:
    return 25;
  case OP_PHILOX:
    return 40;
  case OP_FLOORDIV:
  case OP_MOD:
    return dt_is_int((DType)e->dtype) ? 20 : 5;
  case OP_STOP:
    return 0;
  default:
    return 1;
  }
}

typedef struct Cost {
  double ops, loads;
  int nload;
  bool data;
} Cost;

static bool is_data(const Expr *e) {
  if (e->kind == EX_LOAD) return true;
  for (int i = 0; i < e->n; i++)
    if (is_data(e->arg[i])) return true;
  return false;
}

static void cost_visit(void *ctx, Expr *e) {
  Cost *c = ctx;
  if (e->kind == EX_OP) c->ops += op_cost(e);
  if (e->kind != EX_LOAD) return;
  bool fixed = true;
  c->nload++;
  for (int d = 0; d < e->n; d++) {
    if (e->arg[d]->kind != EX_CONST) fixed = false;
    if (is_data(e->arg[d])) c->data = true;
  }
  c->loads += fixed ? 0 : COST_LOAD;
  if (e->mask) c->ops += 1;
}

static Cost cost_of(Expr *body, Expr *guard) {
  Cost c = {0};
  ex_visit(body, cost_visit, &c);
  if (guard) ex_visit(guard, cost_visit, &c);
  return c;
}

/* ---- What readers want ------------------------------------------------------------------------------------------- */
typedef struct Want {
  Fusion *f;
  FNode *by;
} Want;

/* The axes of what a checked load reads that it may leave. */
static uint32_t unproved_dims(Want *w, const Expr *load) {
  const Comp *c = w->by->def->kind == ND_SCATTER ? &w->by->def->scatter.src : &w->by->def->comp;
  int n = c->nout + c->nred;
  Interval *iter = arena_array(w->f->a, Interval, n);
  for (int k = 0; k < n; k++) iter[k] = (Interval){0, c->extent[k] - 1};
  Box box = {n, iter, NULL, NULL};
  uint32_t set = 0;
  for (int d = 0; d < load->n; d++) {
    Interval r = ex_interval(w->f->g, load->arg[d], &box, NULL);
    if (r.lo < 0 || r.hi >= load->node->dim[d]) set |= 1u << d;
  }
  return set;
}

static void want_load(void *ctx, Expr *e) {
  Want *w = ctx;
  if (e->kind != EX_LOAD) return;
  FNode *x = fuse_node(w->f, e->node), *by = w->by;
  double times = by->home == x->home || x->home->times <= 0 ? 1 : by->home->times / x->home->times;
  x->wanted += by->points * times;
  if (x->reader != by) x->nreader++;
  x->reader = by;
  if (e->checked) x->unproved |= unproved_dims(w, e);
  bool straight = by->n->kind == ND_COMP && by->def->comp.nout >= x->n->rank && !e->mask;
  for (int d = 0; d < e->n && straight; d++) straight = e->arg[d]->kind == EX_ITER && e->arg[d]->num.i == d;
  if (!straight) x->straight = false;
}

static void pin(void *ctx, Node *in, int sub) { fuse_node(ctx, in)->pinned = true; }

/* ---- Order of a reduction (README.md, numeric contract) --------------------------------------------------------- */
typedef struct Inner {
  int iter, nload;
  bool stride1;
  Graph *g;
  int niter;
} Inner;

static void inner_visit(void *ctx, Expr *e) {
  Inner *s = ctx;
  if (e->kind != EX_LOAD) return;
  bool used = false, bare = false;
  for (int d = 0; d < e->n; d++) {
    if (!ex_uses_iter(e->arg[d], s->iter)) continue;
    int64_t *coef = arena_array(s->g->arena, int64_t, s->niter), c;
    Expr *rest = NULL;
    ex_affine(s->g, e->arg[d], s->niter, coef, &c, &rest);
    bare = !used && d == e->n - 1 && coef[s->iter] == 1 && !(rest && ex_uses_iter(rest, s->iter));
    used = true;
  }
  s->nload += used;
  if (bare) s->stride1 = true;
}

static bool has_iter_load(const Expr *e, int lo, int hi) {
  if (e->kind == EX_LOAD)
    for (int k = lo; k < hi; k++)
      if (ex_uses_iter(e, k)) return true;
  for (int i = 0; i < e->n; i++)
    if (has_iter_load(e->arg[i], lo, hi)) return true;
  return false;
}

/* A product of two different factors that both load by reduction iterators. */
static bool is_product(const Comp *c) {
  if (c->op != RED_SUM || c->body->kind != EX_OP || c->body->op != OP_MUL || !dt_is_float((DType)c->body->dtype))
    return false;
  Expr *x = c->body->arg[0], *y = c->body->arg[1];
  int lo = c->nout, hi = c->nout + c->nred;
  return x != y && has_iter_load(x, lo, hi) && has_iter_load(y, lo, hi);
}

static void classify(Fusion *f, FNode *x) {
  const Comp *c = &x->def->comp;
  if (x->def->kind != ND_COMP || !c->nred) return;
  x->product = is_product(c);
  if (x->product) {
    Contract k;
    x->order = ORD_CHAIN;
    x->contract =
        x->points > 0 && contract_find(c->nout, c->nred, c->extent, c->op, c->body, c->guard, &k) && k.nm + k.nn > 0;
    return;
  }
  Inner s = {c->nout + c->nred - 1, 0, false, f->g, c->nout + c->nred};
  ex_visit(c->body, inner_visit, &s);
  bool samples = c->chunk && c->nred == 1; /* whose number here is no property of the program */
  x->order = !samples && c->extent[s.iter] >= 16 && (s.stride1 || !s.nload) ? ORD_LANES : ORD_CHAIN;
}

/* ---- Checks under inlining -----------------------------------------------------------------------------------------
 * A checked load of x faults where a subscript leaves x. When x is inlined, the loads of its body fault in its stead:
 * each that uses an unproved axis of x must be bare in it, on an axis of the same size, and be made always; one at
 * least must. */
typedef struct Checks {
  Fusion *f;
  const FNode *x;
  uint32_t met;
  bool ok;
  Span span;
} Checks;

static bool uses_unproved(const Expr *e, uint32_t set) {
  for (int k = 0; set >> k; k++)
    if ((set >> k & 1) && ex_uses_iter(e, k)) return true;
  return false;
}

static void check_met(void *ctx, Expr *e) {
  Checks *c = ctx;
  uint32_t set = c->x->unproved;
  if (e->kind != EX_LOAD || !uses_unproved(e, set)) return;
  if (e->mask) c->ok = false;
  for (int d = 0; d < e->n; d++) {
    const Expr *a = e->arg[d];
    if (!uses_unproved(a, set)) continue;
    if (a->kind == EX_ITER && e->node->dim[d] == c->x->n->dim[a->num.i])
      c->met |= 1u << a->num.i;
    else
      c->ok = false;
  }
}

static bool checks_survive(Fusion *f, const FNode *x) {
  Checks c = {f, x, 0, true, {0}};
  if (!x->unproved) return true;
  ex_visit(x->body, check_met, &c);
  return c.ok && c.met == x->unproved && !x->guard;
}

static Expr *check_leaf(void *ctx, Expr *e) {
  Checks *c = ctx;
  if (e->kind != EX_LOAD || e->checked || !uses_unproved(e, c->x->unproved)) return NULL;
  Expr **at = arena_array(c->f->a, Expr *, e->n);
  for (int d = 0; d < e->n; d++) at[d] = ex_map(c->f->g, e->arg[d], check_leaf, c);
  return ex_load(c->f->g, e->node, e->n, at, NULL, true, c->span);
}

/* ---- Rewriting bodies -------------------------------------------------------------------------------------------- */
static Expr *inline_leaf(void *ctx, Expr *e) {
  Fusion *f = ctx;
  if (e->kind != EX_LOAD) return NULL;
  FNode *x = fuse_node(f, e->node);
  if (!x->inlined) return NULL;
  Expr **at = arena_array(f->a, Expr *, e->n);
  for (int d = 0; d < e->n; d++) at[d] = ex_map(f->g, e->arg[d], inline_leaf, f);
  Checks c = {f, x, 0, true, e->span};
  Expr *r = ex_subst_iters(f->g, e->checked && x->unproved ? ex_map(f->g, x->body, check_leaf, &c) : x->body, e->n, at);
  return e->mask ? masked(f->g, r, ex_map(f->g, e->mask, inline_leaf, f)) : r;
}

typedef struct Any {
  Fusion *f;
  bool yes;
} Any;
static void any_inlined(void *ctx, Expr *e) {
  Any *a = ctx;
  if (e->kind == EX_LOAD && fuse_node(a->f, e->node)->inlined) a->yes = true;
}

static Expr *rewrite(Fusion *f, Expr *e) {
  if (!e) return NULL;
  Any any = {f, false};
  ex_visit(e, any_inlined, &any);
  return any.yes ? ex_map(f->g, e, inline_leaf, f) : e;
}

/* A SCATTER's source iterator is bare if it alone, linearly, is some subscript: its different values have different
 * destinations. Bare ones of the destination's trailing dims go last (contiguous inner loops), the other bare ones
 * first (parallel axes); the rest stay in order between them. That does not change the order in which one destination
 * meets its terms, for which the bare ones are fixed. */
static bool bare_in(const Expr *e, int k) {
  if (e->kind == EX_LIN && e->n == 1) e = e->arg[0];
  return e->kind == EX_ITER && e->num.i == k;
}

static void permute_scatter(Fusion *f, FNode *x) {
  enum { LEAD, REST, TAIL };
  const Comp *c = &x->def->scatter.src;
  int n = c->nout, nidx = x->def->scatter.nidx, at = 0;
  Expr **by = arena_array(f->a, Expr *, n), *const *idx = x->def->scatter.idx;
  int64_t *extent = arena_array(f->a, int64_t, n);
  int *part = arena_array(f->a, int, n);
  bool trailing = true;
  for (int k = 0; k < n; k++) part[k] = REST;
  for (int d = nidx - 1; d >= 0; d--) {
    int k = 0;
    while (k < n && !bare_in(idx[d], k)) k++;
    if (k == n)
      trailing = false;
    else if (part[k] == REST)
      part[k] = trailing ? TAIL : LEAD;
  }
  for (int p = LEAD; p <= TAIL; p++)
    for (int k = 0; k < n; k++) {
      if ((int)part[k] != p) continue;
      extent[at] = c->extent[k];
      by[k] = ex_iter(f->g, at++);
      if (p == LEAD) x->nlead++;
      if (p == REST) x->nrest++;
    }
  x->extent = extent;
  x->at = arena_array(f->a, Expr *, nidx);
  for (int d = 0; d < nidx; d++) x->at[d] = ex_subst_iters(f->g, idx[d], n, by);
  x->body = ex_subst_iters(f->g, c->body, n, by);
  x->guard = c->guard ? ex_subst_iters(f->g, c->guard, n, by) : NULL;
}

static void take(Fusion *f, FNode *x) {
  const Comp *c = x->def->kind == ND_SCATTER ? &x->def->scatter.src : &x->def->comp;
  int niter = c->nout + c->nred;
  if (x->def->kind == ND_SCATTER) {
    permute_scatter(f, x);
    for (int d = 0; d < x->def->scatter.nidx; d++) {
      if (x->guard) x->at[d] = fuse_mask(f->g, x->at[d], x->guard, niter, x->extent);
      x->at[d] = rewrite(f, x->at[d]);
    }
  } else {
    x->extent = c->extent;
    x->body = c->body;
    x->guard = c->guard;
  }
  Expr *body = x->guard ? fuse_mask(f->g, x->body, x->guard, niter, x->extent) : x->body;
  Expr *inlined = rewrite(f, body);
  x->body = inlined;
  x->guard = rewrite(f, x->guard);
}

/* ---- Decision ---------------------------------------------------------------------------------------------------- */
typedef struct Private {
  Fusion *f;
  FNode *of;
  bool yes;
} Private;

static void private_visit(void *ctx, Expr *e) {
  Private *p = ctx;
  if (e->kind != EX_LOAD || e->n != p->of->n->rank) return;
  FNode *c = fuse_node(p->f, e->node);
  if (c->inlined || c->pinned || c->nreader != 1 || !fuse_is_kernel(c->def) || c->n->rank != p->of->n->rank) return;
  if (c->def->kind == ND_SCATTER) return;
  for (int d = 0; d < e->n; d++)
    if (e->arg[d]->kind != EX_ITER || e->arg[d]->num.i != d) return;
  p->yes = true;
}

/* x reads, at its own points, a materialised result that no one else reads: x can be that kernel's epilogue. */
static bool can_be_epilogue(Fusion *f, FNode *x) {
  Private p = {f, x, false};
  ex_visit(x->body, private_visit, &p);
  return p.yes;
}

static void decide(Fusion *f, FNode *x) {
  if (x->def->kind != ND_COMP || x->def->comp.nred || (!x->nreader && !x->pinned)) return;
  Cost c = cost_of(x->body, x->guard);
  bool movement = x->body->kind == EX_LOAD && (!x->guard || x->body->mask);
  bool free = !c.nload && c.ops <= COST_LOAD;
  x->cost = c.ops + c.loads;
  if (x->pinned && !free) {
    x->why = "its value is wanted in memory";
    return;
  }
  if (c.ops > COST_MAX) {
    x->why = "its body is long";
    return;
  }
  if (!checks_survive(f, x)) {
    x->why = "what reads it is checked against its sizes";
    return;
  }
  bool into_contract = x->nreader == 1 && x->reader->contract;
  double again = x->wanted * x->cost, once = x->points * (x->cost + COST_STORE) + x->wanted * COST_LOAD;
  if (movement && c.data) {
    if (again > once || into_contract) {
      x->why = "a gather read many times";
      return;
    }
  } else if (!movement && !free) {
    if (again > once) {
      x->why = "computing it again costs more than reading it";
      return;
    }
    bool once_each = x->nreader == 1 && x->straight;
    if (!once_each && can_be_epilogue(f, x)) {
      x->why = "epilogue of its operand";
      return;
    }
    if (into_contract && !x->straight && c.ops > 4) {
      x->why = "operand of a contraction";
      return;
    }
  }
  x->inlined = true;
  if (x->guard) {
    x->body = masked(f->g, x->body, x->guard);
    x->guard = NULL;
  }
}

/* Would the fma chain of a product lose its outermost MUL? Then the operands stay in memory. */
static void keep_product(Fusion *f, FNode *x) {
  if (!x->product || (x->body->kind == EX_OP && x->body->op == OP_MUL)) return;
  x->body = x->def->comp.body;
  x->guard = x->def->comp.guard;
  if (x->guard) x->body = fuse_mask(f->g, x->body, x->guard, x->def->comp.nout + x->def->comp.nred, x->extent);
}

static void restore(void *ctx, Expr *e) {
  Fusion *f = ctx;
  FNode *x = fuse_node(f, e->node);
  if (x->inlined) x->pinned = true; /* materialised beside its inlining */
}

typedef struct Each {
  void (*fn)(void *ctx, Expr *load);
  void *ctx;
} Each;
static void each_visit(void *ctx, Expr *e) {
  Each *v = ctx;
  if (e->kind == EX_LOAD) v->fn(v->ctx, e);
}

void fuse_each_load(const FNode *n, void (*fn)(void *ctx, Expr *load), void *ctx) {
  Each v = {fn, ctx};
  if (n->def->kind == ND_SCATTER)
    for (int d = 0; d < n->def->scatter.nidx; d++) ex_visit(n->at[d], each_visit, &v);
  if (n->guard) ex_visit(n->guard, each_visit, &v);
  ex_visit(n->body, each_visit, &v);
}

void fuse_inline(Fusion *f) {
  for (int i = 0; i < f->node.n; i++) {
    FNode *x = f->node.at[i];
    x->straight = true;
    if (!fuse_is_kernel(x->def)) continue;
    const Comp *c = x->def->kind == ND_SCATTER ? &x->def->scatter.src : &x->def->comp;
    x->points = 1;
    for (int k = 0; k < c->nout + c->nred; k++) x->points *= (double)c->extent[k];
    classify(f, x);
  }
  for (int i = 0; i < f->node.n; i++) {
    FNode *x = f->node.at[i];
    if (!fuse_is_kernel(x->def)) {
      fuse_each_use(x->def, pin, f);
      continue;
    }
    if (x->def->kind == ND_SCATTER && x->def->scatter.base) pin(f, x->def->scatter.base, -1);
    Want w = {f, x};
    if (x->def->kind == ND_SCATTER) {
      for (int d = 0; d < x->def->scatter.nidx; d++) ex_visit(x->def->scatter.idx[d], want_load, &w);
      if (x->def->scatter.src.guard) ex_visit(x->def->scatter.src.guard, want_load, &w);
      ex_visit(x->def->scatter.src.body, want_load, &w);
    } else {
      if (x->def->comp.guard) ex_visit(x->def->comp.guard, want_load, &w);
      ex_visit(x->def->comp.body, want_load, &w);
    }
  }
  for (int i = 0; i < f->node.n; i++) {
    FNode *x = f->node.at[i];
    if (!fuse_is_kernel(x->def)) continue;
    take(f, x);
    keep_product(f, x);
    if (x->product) fuse_each_load(x, restore, f);
    decide(f, x);
    Cost c = cost_of(x->body, x->guard);
    x->cost = c.ops + c.loads;
  }
}
