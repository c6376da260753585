/* Places: where each node of a region is evaluated.
 *
 * Nodes belong to no region in the graph. A node's place is the deepest one that encloses all its uses, then moved out
 * of every loop whose parameters it does not depend on. Uses are walked from the outputs down, so a LOOP's own place
 * is known before its inner nodes ask for theirs. */
#include "codegen/fuse.h"
#include "graph/native.h"

typedef struct ExprUse {
  UseFn fn;
  void *ctx;
} ExprUse;

static void use_load(void *ctx, Expr *e) {
  ExprUse *u = ctx;
  if (e->kind == EX_LOAD) u->fn(u->ctx, e->node, -1);
}

bool fuse_is_kernel(const Node *n) { return n->kind == ND_COMP || n->kind == ND_SCAN || n->kind == ND_SCATTER; }

static void use_region(const Region *r, UseFn fn, void *ctx, int sub) {
  for (int i = 0; i < r->nout; i++) fn(ctx, r->out[i], sub);
  for (int i = 0; i < r->neffect; i++) fn(ctx, r->effect[i], sub);
}

void fuse_each_use(const Node *n, UseFn fn, void *ctx) {
  ExprUse u = {fn, ctx};
  switch (n->kind) {
  case ND_COMP:
  case ND_SCAN:
    if (n->comp.guard) ex_visit(n->comp.guard, use_load, &u);
    ex_visit(n->comp.body, use_load, &u);
    break;
  case ND_SCATTER:
    if (n->scatter.base) fn(ctx, n->scatter.base, -1);
    for (int d = 0; d < n->scatter.nidx; d++) ex_visit(n->scatter.idx[d], use_load, &u);
    if (n->scatter.src.guard) ex_visit(n->scatter.src.guard, use_load, &u);
    ex_visit(n->scatter.src.body, use_load, &u);
    break;
  case ND_LOOP:
    for (int i = 0; i < n->loop.nstate; i++) fn(ctx, n->loop.init[i], -1);
    if (n->loop.trip_node) fn(ctx, n->loop.trip_node, -1);
    if (n->loop.cond) fn(ctx, n->loop.cond, 0);
    use_region(&n->loop.body, fn, ctx, 1);
    break;
  case ND_COND:
    fn(ctx, n->cond.pred, -1);
    use_region(&n->cond.yes, fn, ctx, 0);
    use_region(&n->cond.no, fn, ctx, 1);
    break;
  case ND_CALL:
    for (int i = 0; i < n->call.narg; i++) fn(ctx, n->call.arg[i], -1);
    break;
  case ND_GET:
    fn(ctx, n->get.of, -1);
    break;
  case ND_CUSTOM:
    bug("codegen: a CUSTOM node is left");
  default:
    break;
  }
}

FNode *fuse_node(const Fusion *f, const Node *n) {
  int i = nummap_get(&f->index, n);
  if (i < 0) bug("codegen: node %u is not of the region", n->id);
  return f->node.at[i];
}

/* ---- Topological order, iterative: chains may be 100,000 nodes deep --------------------------------------------- */
typedef struct Todo {
  Node *n, *def;
} Todo; /* def: set when the uses have been pushed */
typedef struct Stack {
  Arena *a;
  VEC(Todo) todo;
} Stack;

static void push_use(void *ctx, Node *in, int sub) {
  Stack *s = ctx;
  vec_push(s->a, &s->todo, ((Todo){in, NULL}));
}

static void topo(Fusion *f) {
  Stack s = {.a = f->a};
  for (int i = f->region.neffect - 1; i >= 0; i--) push_use(&s, f->region.effect[i], -1);
  for (int i = f->region.nout - 1; i >= 0; i--) push_use(&s, f->region.out[i], -1);
  while (s.todo.n) {
    Todo *t = &s.todo.at[s.todo.n - 1];
    Node *n = t->n;
    if (nummap_get(&f->index, n) >= 0) {
      s.todo.n--;
      continue;
    }
    if (t->def) {
      FNode *x = arena_new_of(f->a, FNode);
      x->n = n;
      x->def = t->def;
      s.todo.n--;
      x->pos = f->node.n;
      nummap_put(&f->index, n, x->pos);
      vec_push(f->a, &f->node, x);
      continue;
    }
    Node *def = t->def = n->kind == ND_COMP ? fuse_normal(f->g, n) : n;
    int from = s.todo.n;
    fuse_each_use(def, push_use, &s);
    for (int i = from, j = s.todo.n - 1; i < j; i++, j--) { /* first use first */
      Todo swap = s.todo.at[i];
      s.todo.at[i] = s.todo.at[j];
      s.todo.at[j] = swap;
    }
  }
}

/* ---- Which loops a node varies in -------------------------------------------------------------------------------- */
typedef struct Vary {
  Fusion *f;
  FNode *x;
  int loop;
  bool yes;
} Vary;

bool fuse_varies(const FNode *x, int loop) {
  for (int i = x->varies.n - 1; i >= 0; i--)
    if (x->varies.at[i] == loop) return true;
  return false;
}

static void vary_use(void *ctx, Node *in, int sub) {
  Vary *v = ctx;
  FNode *x = fuse_node(v->f, in);
  if (fuse_varies(x, v->loop)) v->yes = true;
}

static void fault_visit(void *ctx, Expr *e) {
  bool div = e->kind == EX_OP && (e->op == OP_FLOORDIV || e->op == OP_MOD) && dt_is_int((DType)e->dtype);
  if ((e->kind == EX_LOAD && e->checked) || (div && !(e->arg[1]->kind == EX_CONST && e->arg[1]->num.i != 0)))
    *(bool *)ctx = true;
}

bool fuse_can_fault(const Node *n) {
  bool yes = n->kind == ND_CALL || (n->kind == ND_SCATTER && n->scatter.checked);
  const Comp *c = n->kind == ND_SCATTER ? &n->scatter.src : &n->comp;
  if (yes || !fuse_is_kernel(n)) return yes;
  ex_visit(c->body, fault_visit, &yes);
  if (c->guard) ex_visit(c->guard, fault_visit, &yes);
  for (int d = 0; n->kind == ND_SCATTER && d < n->scatter.nidx; d++) ex_visit(n->scatter.idx[d], fault_visit, &yes);
  return yes;
}

/* Marks what depends on the params of the LOOP x, or on what its body does in every step. Positions lie between the
 * first param and the LOOP, since whatever depends on a param comes after it and only the LOOP's own regions reach it.
 * What can fault must not run when a loop makes no step, so it counts as varying in loops that may make none. */
static void mark_varying(Fusion *f, FNode *loop, int number) {
  const Loop *l = &loop->n->loop;
  int first = loop->pos;
  for (int i = -1; i < l->nstate; i++) {
    Node *p = i < 0 ? l->counter : l->param[i];
    int at = p ? nummap_get(&f->index, p) : -1;
    if (at < 0) continue;
    vec_push(f->a, &f->node.at[at]->varies, number);
    if (at < first) first = at;
  }
  for (int i = 0; i < l->body.neffect; i++) {
    FNode *x = fuse_node(f, l->body.effect[i]);
    if (x->pos < first) first = x->pos;
    vec_push(f->a, &x->varies, number);
  }
  bool may_skip = l->trip_node || l->cond || l->trip == 0;
  for (int i = may_skip ? 0 : first; i < loop->pos; i++) {
    FNode *x = f->node.at[i];
    if (fuse_varies(x, number)) continue;
    Vary v = {f, x, number, may_skip && fuse_can_fault(x->def)};
    if (!v.yes) fuse_each_use(x->def, vary_use, &v);
    if (v.yes) vec_push(f->a, &x->varies, number);
  }
}

/* ---- Places ------------------------------------------------------------------------------------------------------ */
static Place *place_new(Fusion *f, Place *up, FNode *owner, PlaceKind kind, int loop, double times) {
  Place *p = arena_new_of(f->a, Place);
  p->up = up;
  p->owner = owner;
  p->kind = (uint8_t)kind;
  p->depth = up ? up->depth + 1 : 0;
  p->loop = loop;
  p->times = times;
  return p;
}

static Place *common(Place *a, Place *b) {
  if (!a) return b;
  while (a != b)
    if (a->depth >= b->depth)
      a = a->up;
    else
      b = b->up;
  return a;
}

/* A region's effects run in it, and nowhere else. */
static void pin_effects(Fusion *f, const Region *r, Place *p) {
  for (int i = 0; i < r->neffect; i++) {
    FNode *x = fuse_node(f, r->effect[i]);
    x->home = p;
    x->effect = true;
  }
}

typedef struct Used {
  Fusion *f;
  FNode *by;
} Used;

static void use_home(void *ctx, Node *in, int sub) {
  Used *u = ctx;
  FNode *x = fuse_node(u->f, in);
  if (x->effect) return;
  x->home = common(x->home, sub < 0 ? u->by->home : u->by->sub[sub]);
}

static void settle(Fusion *f, FNode *x) {
  if (!x->effect)
    while (x->home->loop >= 0 && !fuse_varies(x, x->home->loop)) {
      Place *p = x->home;
      x->home = p->kind == PL_BODY ? p->up->up : p->up;
    }
  if (x->n->kind == ND_LOOP) {
    double trip = x->n->loop.trip > 0 ? (double)x->n->loop.trip : 1;
    int number = f->nloop++;
    x->sub[0] = place_new(f, x->home, x, PL_TEST, number, x->home->times * trip);
    x->sub[1] = place_new(f, x->sub[0], x, PL_BODY, number, x->home->times * trip);
    mark_varying(f, x, number);
    pin_effects(f, &x->n->loop.body, x->sub[1]);
  } else if (x->n->kind == ND_COND) {
    x->sub[0] = place_new(f, x->home, x, PL_YES, -1, x->home->times / 2);
    x->sub[1] = place_new(f, x->home, x, PL_NO, -1, x->home->times / 2);
    pin_effects(f, &x->n->cond.yes, x->sub[0]);
    pin_effects(f, &x->n->cond.no, x->sub[1]);
  }
}

void fuse_places(Fusion *f) {
  topo(f);
  f->root = place_new(f, NULL, NULL, PL_ROOT, -1, 1);
  pin_effects(f, &f->region, f->root);
  for (int i = 0; i < f->region.nout; i++) {
    FNode *x = fuse_node(f, f->region.out[i]);
    x->home = f->root;
    x->pinned = true;
  }
  for (int i = f->node.n - 1; i >= 0; i--) {
    FNode *x = f->node.at[i];
    if (!x->home) bug("codegen: node %u has no use", x->n->id);
    settle(f, x);
    Used u = {f, x};
    fuse_each_use(x->def, use_home, &u);
  }
}
