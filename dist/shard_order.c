/* Where collectives stand among the effects of a region, and which of its sums travel together.
 *
 * A sum is joined as soon as its last partial result can be there. Small ones that become ready one after the other
 * form a *bucket*, one collective: a message between hosts takes 10 to 50 us, however short. A bucket starts where its
 * last sum is ready, and is closed before the first effect or collective that needs one of its sums. So its sums do
 * not need each other, neither directly nor through another collective.
 *
 * All of it follows from the unsharded graph, so all ranks decide alike. */
#include "dist/comm.h"
#include "dist/shard_pass.h"
#include <stdlib.h>

/* Bytes. A bucket is closed at FULL bytes, or at one of
 * PARTS equal parts of the region's small sums: the first are to travel while the last are computed. Sums of less than
 * LEAST in all are never worth a message. */
enum { FULL = 1 << 20, PARTS = 4, LEAST = 64 };

/* ---- what effects need ------------------------------------------------------------------------------------------- */

typedef struct Reach {
  Pass *p;
  const Site *site;
  uint8_t *seen; /* by position */
  VEC(Known *) todo;
  VEC(Key) ready;
  uint8_t *listed; /* by position: 1 its sum, 2 its gathering, 4 itself */
} Reach;
static void reach(Reach *r, Known *x) {
  if (r->seen[x - r->p->at]) return;
  r->seen[x - r->p->at] = 1;
  vec_push(r->p->a, &r->todo, x);
}
static void reach_use(void *ctx, Node *in) {
  Reach *r = ctx;
  reach(r, known(r->p, in));
}
static void list_key(Reach *r, Key k) {
  uint8_t bit = k.region ? 4 : k.gather ? 2 : 1, *l = &r->listed[k.of - r->p->at];
  if (*l & bit) return;
  *l |= bit;
  vec_push(r->p->a, &r->ready, k);
}
static void reach_whole(void *ctx, Node *in, int sub) {
  (void)sub;
  Reach *r = ctx;
  Known *y = known(r->p, in);
  if (y->whole_site == r->site) list_key(r, (Key){y, true, false});
}
/* Lists the collectives of the site that x needs. */
static void reach_from(Reach *r, Known *x) {
  reach(r, x);
  while (r->todo.n) {
    Known *y = r->todo.at[--r->todo.n];
    if (y->sum && y->site == r->site) list_key(r, (Key){y, false, false});
    if (y->region && y->site == r->site) list_key(r, (Key){y, false, true});
    each_whole(r->p, y, reach_whole, r);
    nd_each_input(y->n, reach_use, r);
  }
}

/* By depth, so as soon as what they need can be there; a block is gathered right after its value. */
static int64_t rank_of(const Key *k) { return 2 * (int64_t)k->of->level + k->gather; }
static int by_level(const void *pa, const void *pb) {
  const Key *a = pa, *b = pb;
  int64_t x = rank_of(a), y = rank_of(b);
  if (x != y) return x < y ? -1 : 1;
  return (a->of > b->of) - (a->of < b->of); /* by position */
}

/* ---- buckets ----------------------------------------------------------------------------------------------------- */

typedef struct Order {
  Reach reach;
  VEC(Effect) list;
  int nbucket;
  int *needs;   /* by position: the last bucket of this site that a node needs; 0: none */
  Walk walk;    /* over those of which that is known */
  Bucket *open; /* NULL, or the last bucket, which may grow; stands at list.at[open_at] */
  int open_at;
  int64_t part; /* bytes at which a bucket is closed */
} Order;

static bool is_small(const Known *x) { return shard_bytes(x->n) < SHARD_SMALL; }

typedef struct Most {
  const Order *o;
  int n;
} Most;
static void most_needed(void *ctx, Node *in) {
  Most *m = ctx;
  const Known *y = known(m->o->reach.p, in);
  int own = y->sum && y->site == m->o->reach.site ? y->bucket->number : 0, below = m->o->needs[y - m->o->reach.p->at];
  if (m->n < own) m->n = own;
  if (m->n < below) m->n = below;
}
/* What x needs was listed before it, so has its bucket. */
static void note_needs(void *ctx, Known *x) {
  const Order *o = ctx;
  Most m = {o, 0};
  nd_each_input(x->n, most_needed, &m);
  o->needs[x - o->reach.p->at] = m.n;
}
static bool needs_open(Order *o, Known *x) {
  if (!o->open) return false;
  shard_walk(&o->walk, x);
  return o->needs[x - o->reach.p->at] == o->open->number;
}

static Bucket *new_bucket(Order *o, JoinOp op, DType type) {
  Bucket *b = arena_new_of(o->reach.p->a, Bucket);
  *b = (Bucket){.number = ++o->nbucket, .op = op, .type = type};
  return b;
}
static void list_effect(Order *o, Effect e) { vec_push(o->reach.p->a, &o->list, e); }

static void list_sum(Order *o, Key k) {
  JoinOp op;
  DType type;
  Known *x = k.of;
  bool small = is_small(x) && !x->dealt; /* what is dealt out travels alone */
  shard_join(&x->n->comp, &op, &type);
  Bucket *b = o->open;
  if (small && b && b->op == op && b->type == type) { /* its place is now here */
    for (int i = o->open_at; i + 1 < o->list.n; i++) o->list.at[i] = o->list.at[i + 1];
    o->list.n--, k.of = b->sum.at[0];
  } else {
    b = new_bucket(o, op, type);
  }
  x->bucket = b, b->bytes += shard_bytes(x->n);
  vec_push(o->reach.p->a, &b->sum, x);
  list_effect(o, (Effect){NULL, k});
  if (small) o->open = b->bytes < o->part && b->sum.n < COLL_PIECES ? b : NULL, o->open_at = o->list.n - 1;
}

static void flush(Order *o) {
  Reach *r = &o->reach;
  if (r->ready.n) qsort(r->ready.at, (size_t)r->ready.n, sizeof *r->ready.at, by_level);
  for (int i = 0; i < r->ready.n; i++) {
    Key k = r->ready.at[i];
    if (needs_open(o, k.of)) o->open = NULL;
    if (k.gather || k.region)
      list_effect(o, (Effect){NULL, k});
    else
      list_sum(o, k);
  }
  r->ready.n = 0, o->open = NULL;
}

static int64_t part_bytes(const Site *s) {
  int64_t n = 0;
  for (int i = 0; i < s->key.n; i++) {
    const Key *k = &s->key.at[i];
    if (!k->gather && !k->region && is_small(k->of)) n += shard_bytes(k->of->n);
  }
  n /= PARTS;
  return n < LEAST ? LEAST : n > FULL ? FULL : n;
}

static void order_site(Pass *p, Site *s, const Region *r) {
  Order o = {.reach = {.p = p, .site = s}, .part = part_bytes(s)};
  bool own = s->key.n > 0;
  if (own) {
    size_t n = (size_t)p->n;
    o.reach.seen = arena_alloc(p->a, n), o.reach.listed = arena_alloc(p->a, n);
    o.needs = arena_array(p->a, int, p->n);
    o.walk = (Walk){.p = p, .state = arena_alloc(p->a, n), .leave = note_needs, .ctx = &o};
  }
  for (int i = 0; i < r->neffect; i++) {
    if (own) {
      reach_from(&o.reach, known(p, r->effect[i]));
      flush(&o);
    }
    list_effect(&o, (Effect){.old = r->effect[i]});
  }
  for (int i = 0; i < s->key.n; i++) list_key(&o.reach, s->key.at[i]);
  flush(&o);
  s->order = o.list.at, s->norder = o.list.n;
}

void shard_order(Pass *p) {
  order_site(p, p->root, p->r);
  for (int i = 0; i < p->n; i++) {
    const Known *x = &p->at[i];
    if (x->n->kind == ND_LOOP) order_site(p, x->sub[1], &x->n->loop.body);
    if (x->n->kind == ND_COND) order_site(p, x->sub[0], &x->n->cond.yes), order_site(p, x->sub[1], &x->n->cond.no);
  }
}
