/* Where nodes are evaluated, and so their collectives.
 *
 * A node's site is the deepest region that encloses all its uses, moved out of every loop that it does not depend on,
 * as the compiler does (codegen/places.c); out of loops that may make no step nothing is moved, since it could fault.
 * A test of a loop has no effects; what it needs without depending on the loop stands before the loop. */
#include "dist/shard_pass.h"

enum { LOOP_BITS = 63 }; /* loops by number; the last bit: all beyond */
/* Guesses: steps of a loop whose number is not known; runs of a region with a branch, for one run of the branch (what
 * saves, logs or reports). */
enum { UNKNOWN_TRIPS = 64, SELDOM = 32 };

static uint64_t loop_bit(int number) { return UINT64_C(1) << (number < LOOP_BITS ? number : LOOP_BITS); }

/* ---- what varies in which loop, and depth ------------------------------------------------------------------------ */

typedef struct Join {
  Pass *p;
  Known *x;
} Join;
static void join_use(void *ctx, Node *in) {
  const Join *j = ctx;
  const Known *y = known(j->p, in);
  j->x->varies |= y->varies;
  if (j->x->level <= y->level) j->x->level = y->level + 1;
}
static void mark_loop(Pass *p, const Loop *l, uint64_t bit) {
  for (int k = 0; k < l->nstate; k++) known(p, l->param[k])->varies |= bit;
  if (l->counter) known(p, l->counter)->varies |= bit;
  for (int i = 0; i < l->body.neffect; i++) known(p, l->body.effect[i])->varies |= bit;
}
static void find_varying(Pass *p) {
  int nloop = 0;
  for (int i = 0; i < p->n; i++)
    if (p->at[i].n->kind == ND_LOOP) mark_loop(p, &p->at[i].n->loop, loop_bit(nloop++));
  nloop = 0;
  for (int i = 0; i < p->n; i++) {
    Known *x = &p->at[i];
    uint64_t own = x->varies;
    nd_each_input(x->n, join_use, &(Join){p, x});
    if (x->n->kind == ND_LOOP && nloop++ < LOOP_BITS) x->varies = (x->varies & ~loop_bit(nloop - 1)) | own;
  }
}

/* ---- sites ------------------------------------------------------------------------------------------------------- */

static Site *site_new(Pass *p, Site *up, SiteKind kind, int loop, bool may_skip) {
  Site *s = arena_new_of(p->a, Site);
  *s = (Site){.up = up, .kind = kind, .depth = up ? up->depth + 1 : 0, .loop = loop, .may_skip = may_skip};
  s->times = up ? up->times : 1;
  return s;
}
static Site *common(Site *a, Site *b) {
  if (!a || !b) return a ? a : b;
  while (a != b)
    if (a->depth >= b->depth)
      a = a->up;
    else
      b = b->up;
  return a;
}
static Site *settled(Site *s, const Known *x) {
  for (;; s = s->up) {
    bool test = s->kind == SITE_TEST, body = s->kind == SITE_BODY && !s->may_skip;
    if ((!test && !body) || x->varies & loop_bit(s->loop)) return s;
  }
}
static void pin_effects(Pass *p, const Region *r, Site *s) {
  for (int i = 0; i < r->neffect; i++) {
    Known *x = known(p, r->effect[i]);
    x->site = s, x->effect = true;
  }
}
static void use_site(void *ctx, Node *in, int sub) {
  const Join *j = ctx;
  Known *y = known(j->p, in);
  if (!y->effect) y->site = common(y->site, sub < 0 ? j->x->site : j->x->sub[sub]);
}
static void use_whole(void *ctx, Node *in, int sub) {
  const Join *j = ctx;
  Known *y = known(j->p, in);
  y->whole_site = common(y->whole_site, sub < 0 ? j->x->site : j->x->sub[sub]);
}
static void open_regions(Pass *p, Known *x, int number) {
  const Node *n = x->n;
  if (n->kind == ND_LOOP) {
    x->sub[0] = site_new(p, x->site, SITE_TEST, number, true);
    x->sub[1] = site_new(p, x->sub[0], SITE_BODY, number, n->loop.trip_node || n->loop.cond || !n->loop.trip);
    x->sub[1]->times *= n->loop.trip > 0 ? (double)n->loop.trip : UNKNOWN_TRIPS;
    pin_effects(p, &n->loop.body, x->sub[1]);
    for (int k = 0; k < n->loop.nstate; k++)
      known(p, n->loop.param[k])->site = x->sub[0]; /* also those that nobody reads */
    if (n->loop.counter) known(p, n->loop.counter)->site = x->sub[0];
  } else if (n->kind == ND_COND) {
    x->sub[0] = site_new(p, x->site, SITE_BRANCH, -1, false);
    x->sub[1] = site_new(p, x->site, SITE_BRANCH, -1, false);
    for (int k = 0; k < 2; k++) x->sub[k]->times /= SELDOM;
    pin_effects(p, &n->cond.yes, x->sub[0]);
    pin_effects(p, &n->cond.no, x->sub[1]);
  }
}
static void add_key(Pass *p, Site *s, Known *x, bool gather) {
  if (s->kind == SITE_TEST) bug("sharding: a collective in a test");
  vec_push(p->a, &s->key, ((Key){x, gather, false}));
}
/* Regions that hold collectives, inner ones first: all ranks enter them, also one that has no use for what they
 * compute. */
static void add_regions(Pass *p) {
  for (int i = 0; i < p->n; i++) {
    Known *x = &p->at[i];
    if ((x->n->kind != ND_LOOP && x->n->kind != ND_COND) || x->effect || !x->site || x->site->kind == SITE_TEST)
      continue;
    x->region = x->sub[0]->key.n > 0 || x->sub[1]->key.n > 0;
    if (x->region) vec_push(p->a, &x->site->key, ((Key){x, false, true}));
  }
}

void shard_sites(Pass *p) {
  int number = 0;
  find_varying(p);
  for (int i = 0; i < p->n; i++) number += p->at[i].n->kind == ND_LOOP;
  Site *root = p->root = site_new(p, NULL, SITE_ROOT, -1, false);
  pin_effects(p, p->r, root);
  for (int i = 0; i < p->r->nout; i++) {
    Known *x = known(p, p->r->out[i]);
    x->site = root;
    if (x->one.rows) x->whole_site = root;
  }
  for (int i = p->n; i-- > 0;) { /* readers first */
    Known *x = &p->at[i];
    if (x->whole_site) x->whole_site = settled(x->whole_site, x);
    if (!x->effect) x->site = settled(common(x->site, x->whole_site), x);
    open_regions(p, x, x->n->kind == ND_LOOP ? --number : -1);
    each_use(x->n, use_site, &(Join){p, x});
    each_whole(p, x, use_whole, &(Join){p, x});
    if (x->sum) add_key(p, x->site, x, false);
    if (x->whole_site) add_key(p, x->whole_site, x, true);
  }
  add_regions(p);
}
