/* Lowering: a kernel group to a Kernel. Members become stages in topological order (a contraction first: none of the
 * others comes before it), their values buffers: GLOBAL when something outside the group reads them, else REG when all
 * their dims are parallel, else ROW. */
#include "codegen/lower.h"
#include <string.h>

typedef struct Lower {
  Fusion *f;
  Group *g;
  Kernel *k;
  VEC(KBuf) buf;
} Lower;

typedef struct Outside {
  Fusion *f;
  const Group *reader;
} Outside;

static void outside_load(void *ctx, Expr *e) {
  Outside *o = ctx;
  FNode *x = fuse_node(o->f, e->node);
  if (x->group != o->reader) x->pinned = true;
}

void lower_prepare(Fusion *f) {
  for (int i = 0; i < f->group.n; i++) {
    Group *g = f->group.at[i];
    if (g->into || g->op) continue;
    Outside o = {f, g};
    for (int k = 0; k < g->member.n; k++) fuse_each_load(g->member.at[k], outside_load, &o);
  }
}

static int64_t *row_major(Arena *a, const Node *n) {
  int64_t *stride = arena_array(a, int64_t, n->rank), s = 1;
  for (int d = n->rank - 1; d >= 0; d--) {
    stride[d] = s;
    s *= n->dim[d] > 0 ? n->dim[d] : 1;
  }
  return stride;
}

static int find_buf(const Lower *l, const Node *n) {
  for (int i = 0; i < l->buf.n; i++)
    if (l->buf.at[i].node == n) return i;
  return -1;
}

static int add_buf(Lower *l, const Node *n, Space space, bool in, bool out) {
  Arena *a = l->f->a;
  KBuf b = {.space = (uint8_t)space,
            .dtype = n->dtype,
            .in = in,
            .out = out,
            .node = n,
            .rank = n->rank,
            .dim = n->dim,
            .arg = -1};
  if (space == SP_GLOBAL) {
    b.stride = row_major(a, n);
    b.arg = l->k->narg++;
  } else {
    int8_t *par = arena_array(a, int8_t, n->rank);
    for (int d = 0; d < n->rank; d++) par[d] = (int8_t)(d < l->k->npar ? d : -1);
    b.stride = arena_array(a, int64_t, n->rank);
    b.par = par;
  }
  vec_push(a, &l->buf, b);
  return l->buf.n - 1;
}

static void load_buf(void *ctx, Expr *e) {
  Lower *l = ctx;
  if (find_buf(l, e->node) < 0) add_buf(l, e->node, SP_GLOBAL, true, false);
}

static void lower_scatter(Lower *l, FNode *x, Stage *s) {
  const Node *n = x->def;
  s->kind = ST_SCATTER;
  s->at = x->at;
  s->how = (uint8_t)n->scatter.how;
  s->checked = n->scatter.checked;
  s->span = n->span;
}

static void lower_member(Lower *l, FNode *x, Stage *s) {
  Fusion *f = l->f;
  int np = l->k->npar;
  const Comp *c = x->def->kind == ND_SCATTER ? &x->def->scatter.src : &x->def->comp;
  s->extent = x->extent + np;
  s->nown = c->nout - np;
  s->nred = c->nred;
  s->op = RED_NONE;
  s->body = x->body;
  s->guard = x->guard;
  if (x->def->kind == ND_SCATTER) {
    lower_scatter(l, x, s);
  } else if (x->def->kind == ND_SCAN) {
    s->kind = ST_SCAN;
    s->op = (uint8_t)c->op;
    s->reverse = c->reverse;
    s->exclusive = c->exclusive;
  } else if (c->nred) {
    s->kind = x->contract && l->g->contract && l->g->member.at[0] == x ? ST_CONTRACT : ST_REDUCE;
    s->op = (uint8_t)c->op;
    s->order = x->order;
    s->fma = x->product;
    s->chunk = c->chunk;
  } else {
    s->kind = ST_MAP;
  }
  fuse_each_load(x, load_buf, l);
  int at = find_buf(l, x->n);
  bool rmw = s->kind == ST_SCATTER;
  if (at >= 0) bug("lower: node %u is read before it is written", x->n->id);
  at = add_buf(l, x->n, x->pinned || rmw ? SP_GLOBAL : x->n->rank <= np ? SP_REG : SP_ROW, rmw, true);
  s->out = at;
  if (rmw) return;
  int8_t *store = arena_array(f->a, int8_t, x->n->rank);
  for (int d = 0; d < x->n->rank; d++) store[d] = (int8_t)d;
  s->store = store;
}

/* Lanes of a scatter: over the iterators that are bare and leading, if these have enough points; else, when there is
 * work enough, over ranges of the destination. */
static void scatter_axes(Lower *l, FNode *x) {
  enum { MANY_POINTS = 16, MUCH_WORK = 50000 };
  int n = x->def->scatter.src.nout;
  double points = 1;
  l->k->npar = x->nrest || !n ? x->nlead : n - 1; /* all bare: the last one stays inside, for the vectors */
  for (int i = 0; i < l->k->npar; i++) points *= (double)x->extent[i];
  if (points >= MANY_POINTS || x->points < MUCH_WORK || !x->n->rank || x->n->dim[0] < 2) return;
  l->k->npar = 0;
  l->k->by_dest = true;
}

Kernel *lower_group(Fusion *f, Group *g) {
  Kernel *k = arena_new_of(f->a, Kernel);
  Lower l = {f, g, k, {0}};
  for (int i = 0; g->contract && i < g->member.n; i++)
    if (g->member.at[i]->contract) {
      FNode *first = g->member.at[i];
      memmove(g->member.at + 1, g->member.at, sizeof *g->member.at * (size_t)i);
      g->member.at[0] = first;
      break;
    }
  k->npar = g->np;
  if (g->scatter) scatter_axes(&l, g->member.at[0]);
  k->par = g->member.at[0]->extent;
  k->nstage = g->member.n;
  k->stage = arena_array(f->a, Stage, k->nstage);
  for (int i = 0; i < g->member.n; i++) lower_member(&l, g->member.at[i], &k->stage[i]);
  k->buf = l.buf.at;
  k->nbuf = l.buf.n;
  kernel_sites(k, f->a);
  return k;
}
