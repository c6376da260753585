/* Groups: materialised nodes that become one kernel.
 *
 * Every kernel node starts as a group of its own with all its output iterators parallel. In topological order each
 * tries to join the groups of the operands that it loads, largest saving first; then groups that read the same operand
 * over equal parallel axes join as siblings. A merge is legal when
 *
 *   - both are in the same place, and no path leaves one and enters the other through a third group;
 *   - some prefix of np iterators fits: equal extents, and members' loads of members subscript it by bare iterators;
 *   - the rows kept between stages fit in the cache, and enough parallel points are left for the lanes.
 *
 * A contraction stays the first stage of its group, with all of its iterators parallel: only maps over exactly its
 * output points join (the epilogue). Every refusal leaves its reason in Group.note. */
#include "codegen/fuse.h"
#include <string.h>

enum {
  ROW_BYTES = 384 << 10, /* scratch rows of one point: under half of L2 */
  FEW_POINTS = 16,       /* fewer parallel points than this, and a stage's row must be light: */
  LIGHT_ROW = 30000,     /* vector additions: some microseconds on one lane */
  MAX_MEMBERS = 24,
  MAX_COST = 3000
};

static Group *live(Group *g) {
  while (g->into) g = g->into;
  return g;
}

static Group *group_new(Fusion *f, FNode *x) {
  Group *g = arena_new_of(f->a, Group);
  g->id = f->group.n;
  g->home = x->home;
  g->lo = g->hi = x->pos;
  vec_push(f->a, &g->member, x);
  vec_push(f->a, &f->group, g);
  x->group = g;
  return g;
}

/* ---- Dependences ------------------------------------------------------------------------------------------------- */
typedef struct Dep {
  Fusion *f;
  Place *at;
  Group *self;
  FNode *by;
} Dep;

/* The group that produces x's value, seen from a use at place p: the group itself if it runs in p or above. */
static FNode *producer(Fusion *f, const Node *n) {
  FNode *x = fuse_node(f, n);
  while (x->n->kind == ND_GET) x = fuse_node(f, x->n->get.of);
  return x;
}

/* What runs at x's own place on behalf of a use at p: the use's group when p is that place, else the LOOP or COND
 * around p. */
static Group *user_at(Group *user, Place *p, const Place *home) {
  while (p != home) {
    user = p->owner->group;
    p = p->kind == PL_BODY ? p->up->up : p->up;
    if (p == NULL) bug("codegen: a use outside its value's place");
  }
  return user;
}

static void add_dep(Fusion *f, Group *user, Place *at, const Node *in) {
  FNode *x = producer(f, in);
  if (!x->group) return;
  /* A body's use of what its test computes needs no edge: the test runs first. */
  for (Place *p = at; p; p = p->up)
    if (p == x->home) {
      if (p->kind == PL_TEST && at != p) {
        Place *q = at;
        while (q->up != p) q = q->up;
        if (q->kind == PL_BODY) return;
      }
      break;
    }
  Group *u = user_at(user, at, x->home);
  if (u == x->group) return;
  for (int i = 0; i < u->dep.n; i++)
    if (u->dep.at[i] == x->group) return;
  vec_push(f->a, &u->dep, x->group);
}

static void dep_load(void *ctx, Expr *e) {
  Dep *d = ctx;
  add_dep(d->f, d->self, d->at, e->node);
}

static void dep_use(void *ctx, Node *in, int sub) {
  Dep *d = ctx;
  FNode *x = producer(d->f, in);
  Place *at = sub < 0 ? d->by->home : d->by->sub[sub];
  if (at == d->by->home)
    add_dep(d->f, d->self, at, in);
  else if (x->home != at)
    add_dep(d->f, d->self, at, in); /* a region's output from outside it */
}

/* Effects of one region run in their order: an effect before what the next one needs, so that a gradient is sent while
 * the others are computed. */
static void chain_effects(Fusion *f, const Region *r) {
  for (int i = 1; i < r->neffect; i++) {
    Group *g = fuse_node(f, r->effect[i])->group;
    vec_push(f->a, &g->dep, NULL);
    memmove(g->dep.at + 1, g->dep.at, sizeof *g->dep.at * (size_t)(g->dep.n - 1));
    g->dep.at[0] = fuse_node(f, r->effect[i - 1])->group;
  }
}

static void find_deps(Fusion *f) {
  for (int i = 0; i < f->node.n; i++) {
    FNode *x = f->node.at[i];
    if (!x->group) continue;
    Dep d = {f, x->home, x->group, x};
    if (x->group->op) {
      fuse_each_use(x->def, dep_use, &d);
      if (x->n->kind == ND_LOOP) chain_effects(f, &x->n->loop.body);
      if (x->n->kind == ND_COND) {
        chain_effects(f, &x->n->cond.yes);
        chain_effects(f, &x->n->cond.no);
      }
    } else {
      fuse_each_load(x, dep_load, &d);
      if (x->def->kind == ND_SCATTER && x->def->scatter.base) add_dep(f, x->group, x->home, x->def->scatter.base);
    }
  }
  chain_effects(f, &f->region);
}

/* g depends on something at position `to`: so does whoever depends on g. */
static void raise_reach(Fusion *f, Group *g, int to) {
  VEC(Group *) todo = {0};
  if (g->reach >= to) return;
  g->reach = to;
  vec_push(f->a, &todo, g);
  while (todo.n) {
    Group *d = todo.at[--todo.n];
    for (int i = 0; i < d->user.n; i++) {
      Group *u = live(d->user.at[i]);
      if (u->reach >= to) continue;
      u->reach = to;
      vec_push(f->a, &todo, u);
    }
  }
}

static void find_users(Fusion *f) {
  for (int i = 0; i < f->group.n; i++) f->group.at[i]->reach = f->group.at[i]->hi;
  for (int i = 0; i < f->group.n; i++) {
    Group *g = f->group.at[i];
    for (int k = 0; k < g->dep.n; k++) vec_push(f->a, &g->dep.at[k]->user, g);
  }
  for (int i = 0; i < f->group.n; i++) {
    Group *g = f->group.at[i];
    for (int k = 0; k < g->dep.n; k++) raise_reach(f, g, g->dep.at[k]->reach);
  }
}

/* Is `target` reached from `from` by dependences through some third group? */
static bool reaches(Fusion *f, Group *from, Group *target) {
  VEC(Group *) todo = {0};
  int mark = ++f->mark;
  for (int i = 0; i < from->dep.n; i++) {
    Group *g = live(from->dep.at[i]);
    if (g != target && g != from) vec_push(f->a, &todo, g);
  }
  while (todo.n) {
    Group *g = todo.at[--todo.n];
    if (g->mark == mark || g->reach < target->lo) continue;
    g->mark = mark;
    for (int i = 0; i < g->dep.n; i++) {
      Group *d = live(g->dep.at[i]);
      if (d == target) return true;
      vec_push(f->a, &todo, d);
    }
  }
  return false;
}

/* ---- Merging ----------------------------------------------------------------------------------------------------- */
static int nout_of(const FNode *x) { return x->def->comp.nout; } /* COMP, SCAN */
static int max_np(const FNode *x) { return nout_of(x) - (x->def->kind == ND_SCAN); }
static bool is_map(const FNode *x) { return x->def->kind == ND_COMP && !x->def->comp.nred; }

typedef struct Prefix {
  Fusion *f;
  Group *a, *b;
  int np;
  int nload;
} Prefix;

static void prefix_load(void *ctx, Expr *e) {
  Prefix *p = ctx;
  FNode *x = fuse_node(p->f, e->node);
  if (!x->group || (live(x->group) != p->a && live(x->group) != p->b)) return;
  p->nload++;
  int k = 0;
  while (k < e->n && e->arg[k]->kind == EX_ITER && e->arg[k]->num.i == k) k++;
  if (k < p->np) p->np = k;
}

static double own_points(const FNode *x, int np) { /* per point of P, reductions included */
  double n = 1;
  for (int k = np; k < nout_of(x) + x->def->comp.nred; k++) n *= (double)x->extent[k];
  return n;
}

static double row_bytes(const FNode *x, int np) {
  double n = dt_bytes((DType)x->n->dtype);
  for (int k = np; k < x->n->rank; k++) n *= (double)x->n->dim[k];
  return n;
}

static void note(Fusion *f, Group *b, Group *a, const char *why) {
  vec_push(f->a, &b->note, arena_printf(f->a, "not with node %u: %s", a->member.at[a->member.n - 1]->n->id, why));
}

/* Members with more work a point than LIGHT_ROW; position of the first. */
static int heavy(const Group *g, int np, int *nlong) {
  int first = -1;
  for (int i = 0; i < g->member.n; i++) {
    if (own_points(g->member.at[i], np) * (1 + g->member.at[i]->cost) > LIGHT_ROW) {
      ++*nlong;
      if (first < 0) first = g->member.at[i]->pos;
    }
  }
  return first;
}

/* Why a and b (b later) can't be one kernel; NULL: they can, with *np axes. */
static const char *refusal(Fusion *f, Group *a, Group *b, bool siblings, int *np) {
  if (a->op || b->op) return "not a kernel";
  if (a->home != b->home) return "another place";
  if (fuse_apart(a, b)) return "the commit point stands between";
  if (a->scatter || b->scatter) return "a scatter runs alone";
  if (b->contract) return "a contraction is a first stage";
  if (a->member.n + b->member.n > MAX_MEMBERS) return "the kernel would be long";
  Prefix p = {f, a, b, INT32_MAX, 0};
  double cost = 0;
  for (int s = 0; s < 2; s++) {
    Group *g = s ? b : a;
    for (int i = 0; i < g->member.n; i++) {
      FNode *x = g->member.at[i];
      if (max_np(x) < p.np) p.np = max_np(x);
      cost += x->cost;
    }
  }
  int most = p.np;
  for (int s = 0; s < 2; s++) {
    Group *g = s ? b : a;
    for (int i = 0; i < g->member.n; i++) fuse_each_load(g->member.at[i], prefix_load, &p);
  }
  if (cost > MAX_COST) return "the kernel would be long";
  FNode *lead = a->member.at[0];
  for (int s = 0; s < 2; s++) {
    Group *g = s ? b : a;
    for (int i = 0; i < g->member.n; i++)
      for (int k = 0; k < p.np; k++)
        if (g->member.at[i]->extent[k] != lead->extent[k]) p.np = k;
  }
  if (a->contract) {
    if (p.np < max_np(lead)) return "not over exactly the contraction's points";
    for (int i = 0; i < b->member.n; i++)
      if (!is_map(b->member.at[i]) || b->member.at[i]->n->rank != lead->n->rank) return "an epilogue is made of maps";
  }
  if (siblings && (p.np < a->np || p.np < b->np)) return "fewer axes in common";
  double points = 1, rows = 0;
  for (int k = 0; k < p.np; k++) points *= (double)lead->extent[k];
  int nlong = 0, first = heavy(a, p.np, &nlong), second = heavy(b, p.np, &nlong);
  if (points < FEW_POINTS && nlong) {
    bool whole = nlong == 1 && second < 0 && first == a->lo && !is_map(lead) && lead->def->kind == ND_COMP &&
                 p.np == nout_of(lead);
    if (!whole) return p.np == 0 ? "no parallel axis in common" : "too few parallel points in common";
  }
  for (int s = 0; s < 2; s++) {
    Group *g = s ? b : a;
    for (int i = 0; i < g->member.n; i++)
      if (g->member.at[i]->n->rank > p.np && !g->member.at[i]->pinned) rows += row_bytes(g->member.at[i], p.np);
  }
  if (rows > ROW_BYTES && p.np < most) return "the rows between the stages don't fit in the cache";
  if (reaches(f, b, a) || reaches(f, a, b)) return "a third kernel stands between";
  *np = p.np;
  return NULL;
}

static void merge(Fusion *f, Group *a, Group *b, int np) {
  VEC(FNode *) all = {0};
  for (int i = 0, j = 0; i < a->member.n || j < b->member.n;) {
    bool left = j == b->member.n || (i < a->member.n && a->member.at[i]->pos < b->member.at[j]->pos);
    vec_push(f->a, &all, left ? a->member.at[i++] : b->member.at[j++]);
  }
  a->member.at = all.at;
  a->member.n = all.n;
  a->member.cap = all.cap;
  for (int i = 0; i < b->dep.n; i++) vec_push(f->a, &a->dep, b->dep.at[i]);
  for (int i = 0; i < b->note.n; i++) vec_push(f->a, &a->note, b->note.at[i]);
  if (b->lo < a->lo) a->lo = b->lo;
  if (b->hi > a->hi) a->hi = b->hi;
  int reach = a->reach > b->reach ? a->reach : b->reach;
  for (int i = 0; i < b->user.n; i++) vec_push(f->a, &a->user, b->user.at[i]);
  a->np = np;
  b->into = a;
  for (int i = 0; i < b->member.n; i++) b->member.at[i]->group = a;
  a->reach = b->reach = -1; /* the users of either may have to be raised */
  raise_reach(f, a, reach);
}

typedef struct Ops {
  Fusion *f;
  FNode *x;
  VEC(FNode *) op;
} Ops;

static void operand(void *ctx, Expr *e) {
  Ops *o = ctx;
  FNode *y = fuse_node(o->f, e->node);
  for (int i = 0; i < o->op.n; i++)
    if (o->op.at[i] == y) return;
  vec_push(o->f->a, &o->op, y);
}

/* Bytes that need not be written, or not be read, when x joins y. */
static double saving(const FNode *x, const FNode *y) {
  double bytes = row_bytes(y, 0);
  return y->nreader == 1 && !y->pinned ? 2 * bytes : bytes;
}

static void join_operands(Fusion *f, FNode *x) {
  Ops o = {f, x, {0}};
  fuse_each_load(x, operand, &o);
  for (int i = 1; i < o.op.n; i++)
    for (int j = i; j > 0 && saving(x, o.op.at[j]) > saving(x, o.op.at[j - 1]); j--) {
      FNode *t = o.op.at[j];
      o.op.at[j] = o.op.at[j - 1];
      o.op.at[j - 1] = t;
    }
  for (int i = 0; i < o.op.n; i++) {
    if (!o.op.at[i]->group || o.op.at[i]->group->op) continue;
    Group *a = live(o.op.at[i]->group), *b = live(x->group);
    int np;
    if (a == b) continue;
    const char *why = refusal(f, a, b, false, &np);
    if (why)
      note(f, b, a, why);
    else
      merge(f, a, b, np);
  }
}

/* Siblings: kernels of equal shape that read the same memory. Each operand offers its last few readers. */
enum { RECENT = 6 };
typedef struct Recent {
  Group *at[RECENT];
  int n;
} Recent;

static void join_siblings(Fusion *f) {
  NumMap of = {.arena = f->a};
  VEC(Recent *) list = {0};
  for (int i = 0; i < f->node.n; i++) {
    FNode *x = f->node.at[i];
    if (!x->group || x->group->op) continue;
    Ops o = {f, x, {0}};
    fuse_each_load(x, operand, &o);
    for (int k = 0; k < o.op.n; k++) {
      if (o.op.at[k]->n->rank == 0) continue;
      int at = nummap_get(&of, o.op.at[k]);
      if (at < 0) {
        nummap_put(&of, o.op.at[k], at = list.n);
        vec_push(f->a, &list, arena_new_of(f->a, Recent));
      }
      Recent *r = list.at[at];
      for (int j = r->n < RECENT ? r->n - 1 : RECENT - 1; j >= 0; j--) {
        Group *a = live(r->at[j]), *b = live(x->group);
        int np;
        if (a == b || a->contract || b->contract) continue;
        if (a->lo > b->lo) {
          Group *t = a;
          a = b;
          b = t;
        }
        if (!refusal(f, a, b, true, &np)) merge(f, a, b, np);
      }
      r->at[r->n++ % RECENT] = live(x->group);
    }
  }
}

/* ---- Order ------------------------------------------------------------------------------------------------------- */

/* Depth first over dependences, in order of first position: values die soon after they are made. Iterative. */
static void place_group(Fusion *f, Group *root) {
  VEC(Group *) stack = {0};
  vec_push(f->a, &stack, root);
  while (stack.n) {
    Group *g = stack.at[stack.n - 1];
    if (g->state == 2) {
      stack.n--;
      continue;
    }
    if (g->state == 1) {
      g->state = 2;
      stack.n--;
      vec_push(f->a, &g->home->order, g);
      continue;
    }
    g->state = 1;
    for (int i = g->dep.n - 1; i >= 0; i--) {
      Group *d = live(g->dep.at[i]);
      if (d == g || d->state == 2) continue;
      if (d->state == 1) bug("codegen: groups depend on each other");
      vec_push(f->a, &stack, d);
    }
  }
}

void fuse_groups(Fusion *f) {
  for (int i = 0; i < f->node.n; i++) {
    FNode *x = f->node.at[i];
    bool op = x->n->kind == ND_LOOP || x->n->kind == ND_COND || x->n->kind == ND_CALL;
    if (op) {
      group_new(f, x)->op = true;
    } else if (fuse_is_kernel(x->def) && (!x->inlined || x->pinned)) {
      Group *g = group_new(f, x);
      g->scatter = x->def->kind == ND_SCATTER;
      g->contract = x->contract;
      g->np = g->scatter ? x->nlead : max_np(x);
    }
  }
  find_deps(f);
  find_users(f);
  for (int i = 0; i < f->node.n; i++)
    if (f->node.at[i]->group && !f->node.at[i]->group->op) join_operands(f, f->node.at[i]);
  join_siblings(f);
  for (int i = 0; i < f->group.n; i++)
    if (!f->group.at[i]->into && fuse_first(f->group.at[i])) place_group(f, f->group.at[i]);
  for (int i = 0; i < f->group.n; i++)
    if (!f->group.at[i]->into) place_group(f, f->group.at[i]);
}

Fusion *fuse(Arena *a, Graph *g, const Region *r) {
  Fusion *f = arena_new_of(a, Fusion);
  f->a = a;
  f->g = g;
  f->region = fuse_loops(g, r);
  f->index.arena = a;
  fuse_places(f);
  fuse_layout(f);
  fuse_commit(f);
  fuse_inline(f);
  fuse_groups(f);
  return f;
}
