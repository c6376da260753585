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

bool fuse_apart(const Group *a, const Group *b) { return a->member.at[0]->early != b->member.at[0]->early; }

/* ---- order ------------------------------------------------------------------------------------------------------- */

static bool has_effects(const Place *p) { return p->kind == PL_BODY && p->owner->n->loop.body.neffect > 0; }

/* Runs first in its place, with what it needs: an effect, or what can fault where a step has effects. */
bool fuse_first(const Group *g) {
  const FNode *lead = g->member.at[0];
  if (lead->effect) return true;
  if (!has_effects(g->home)) return false;
  for (int i = 0; i < g->member.n; i++)
    if (g->op || fuse_can_fault(g->member.at[i]->def)) return true;
  return false;
}
