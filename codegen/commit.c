/* The commit point of a step.
 *
 * A native with `commit` (the check of a training step for non-finite numbers) says: until I have run, the step may
 * still be refused, and then the state must be what it was before. So nothing that it does not need shares a kernel
 * with, or runs before, what it needs: a state is overwritten in place by the kernels of the update, and those come
 * after it. Inside a loop whose body has effects the kernels that can fault come before the others, too.
 *
 * `early` numbers the nodes of a place by the first commit point, in order, that needs them; 0: none does. */
#include "codegen/fuse.h"
#include "graph/native.h"

typedef struct Early {
  Fusion *f;
  Place *home;
  int number;
  VEC(FNode *) todo;
  NumMap seen;
} Early;

static void early_use(void *ctx, Node *in, int sub) {
  (void)sub;
  Early *e = ctx;
  if (nummap_get(&e->seen, in) >= 0) return;
  nummap_put(&e->seen, in, 0);
  vec_push(e->f->a, &e->todo, fuse_node(e->f, in));
}

/* Marks what x needs in its own place, seen also through the loops and branches between. */
static void mark_early(Fusion *f, FNode *x, int number) {
  Early e = {f, x->home, number, {0}, {.arena = f->a}};
  vec_push(f->a, &e.todo, x);
  while (e.todo.n) {
    FNode *y = e.todo.at[--e.todo.n];
    if (y->home == e.home) {
      if (y->early) continue; /* so is what it needs */
      y->early = number;
    }
    fuse_each_use(y->def, early_use, &e);
  }
}

static void mark_region(Fusion *f, const Region *r) {
  int number = 0;
  for (int i = 0; i < r->neffect; i++) {
    FNode *x = fuse_node(f, r->effect[i]);
    if (x->n->kind == ND_CALL && x->n->call.fn->commit) mark_early(f, x, ++number);
  }
}

void fuse_commit(Fusion *f) {
  mark_region(f, &f->region);
  for (int i = 0; i < f->node.n; i++) {
    const Node *n = f->node.at[i]->n;
    if (n->kind == ND_LOOP) mark_region(f, &n->loop.body);
    if (n->kind == ND_COND) mark_region(f, &n->cond.yes), mark_region(f, &n->cond.no);
  }
}

/* ---- what a step is made of -------------------------------------------------------------------------------------- */

typedef struct Leaves {
  Fusion *f;
  const Place *home;
  NumMap seen;
  VEC(Node *) todo, leaf;
} Leaves;

static void leaf_use(void *ctx, Node *in, int sub) {
  (void)sub;
  Leaves *l = ctx;
  if (nummap_get(&l->seen, in) >= 0) return;
  nummap_put(&l->seen, in, 0);
  vec_push(l->f->a, &l->todo, in);
}

/* Is p the place `home` or one around it? */
static bool encloses(const Place *p, const Place *home) {
  while (home && home != p) home = home->up;
  return home == p;
}

/* A param of a loop around `home`, not of one within. */
static bool bound_outside(const FNode *x, const Place *home) {
  for (const Place *p = home; p; p = p->up)
    for (int i = 0; p->loop >= 0 && i < x->varies.n; i++)
      if (x->varies.at[i] == p->loop) return true;
  return false;
}

/* Is x a value that the step finds rather than makes? */
static bool is_given(const FNode *x, const Place *home) {
  const FNode *of = x;
  switch (x->n->kind) {
  case ND_INPUT:
    return true;
  case ND_CONST:
    return false;
  case ND_PARAM:
    return bound_outside(x, home);
  case ND_LOOP:
  case ND_COND:
  case ND_CALL:
    return false;
  default:
    break;
  }
  return x->home != home && encloses(x->home, home) && (of->group || x->n->kind == ND_GET);
}

int fuse_given(Fusion *f, FNode *call, Node ***out) {
  Leaves l = {f, call->home, {.arena = f->a}, {0}, {0}};
  fuse_each_use(call->n, leaf_use, &l);
  while (l.todo.n) {
    Node *n = l.todo.at[--l.todo.n];
    FNode *x = fuse_node(f, n);
    bool effect = n->kind == ND_GET && fuse_node(f, n->get.of)->effect;
    if (effect || is_given(x, call->home))
      vec_push(f->a, &l.leaf, n);
    else
      fuse_each_use(n, leaf_use, &l);
  }
  *out = l.leaf.at;
  return l.leaf.n;
}

bool fuse_apart(const Group *a, const Group *b) { return a->member.at[0]->early != b->member.at[0]->early; }

/* ---- order ------------------------------------------------------------------------------------------------------- */

static bool has_effects(const Place *p) { return p->kind == PL_BODY && p->owner->n->loop.body.neffect > 0; }

/* Runs first in its place, with what it needs: an effect, or what can fault where a step has effects. */
bool fuse_first(const Group *g) {
  const FNode *lead = g->member.at[0];
  if (lead->effect) return true;
  if (!has_effects(g->home) || (lead->n->kind == ND_CALL && lead->n->call.fn->late)) return false;
  for (int i = 0; i < g->member.n; i++)
    if (g->op || fuse_can_fault(g->member.at[i]->def)) return true;
  return false;
}
