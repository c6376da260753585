/* The numeric contract under batching: row b of a program over a leading batch axis has the bits of the program run on
 * row b alone. The batched program is made from the single one, for random programs of comprehensions, scans, scatters.
 */
#include "codegen_random.h"
#include "codegen/map.h"
#include <criterion/criterion.h>

static void copy_dims(int64_t *to, const int64_t *from, size_t bytes) {
  if (bytes) memcpy(to, from, bytes);
}

typedef struct Batch {
  Graph *g;
  NumMap index;
  VEC(Node *) made;
  int64_t n;
  int shift;
  bool fail;
} Batch;

static Node *batched(Batch *b, Node *n) {
  int i = nummap_get(&b->index, n);
  return i < 0 ? NULL : b->made.at[i];
}

static Expr *batch_leaf(void *ctx, Expr *e) {
  Batch *b = ctx;
  if (e->kind == EX_ITER) return ex_iter(b->g, (int)e->num.i + 1);
  if (e->kind != EX_LOAD) return NULL;
  Node *to = batched(b, e->node);
  Expr *at[32];
  int n = 0;
  if (to) at[n++] = ex_iter(b->g, 0);
  for (int d = 0; d < e->n; d++) at[n++] = ex_map(b->g, e->arg[d], batch_leaf, b);
  Expr *mask = e->mask ? ex_map(b->g, e->mask, batch_leaf, b) : NULL;
  return ex_load(b->g, to ? to : e->node, n, at, mask, e->checked, e->span);
}

static Expr *lift(Batch *b, Expr *e) { return e ? ex_map(b->g, e, batch_leaf, b) : NULL; }

typedef struct Uses {
  Batch *b;
  bool yes;
} Uses;
static void uses_visit(void *ctx, Node *in) {
  Uses *u = ctx;
  if (batched(u->b, in)) u->yes = true;
}

static void remember(Batch *b, Node *from, Node *to) {
  nummap_put(&b->index, from, b->made.n);
  vec_push(b->g->arena, &b->made, to);
}

static void batch_node(Batch *b, Node *n) {
  Uses u = {b, false};
  nd_each_input(n, uses_visit, &u);
  if (!u.yes) return;
  int64_t extent[32], dim[32];
  const Comp *c = n->kind == ND_SCATTER ? &n->scatter.src : &n->comp;
  if (n->kind != ND_COMP && n->kind != ND_SCAN && n->kind != ND_SCATTER) {
    b->fail = true;
    return;
  }
  extent[0] = dim[0] = b->n;
  copy_dims(extent + 1, c->extent, sizeof *extent * (size_t)(c->nout + c->nred));
  copy_dims(dim + 1, n->dim, sizeof *dim * (size_t)n->rank);
  Expr *body = lift(b, c->body), *guard = lift(b, c->guard);
  Node *to;
  if (n->kind == ND_COMP) {
    to = nd_comp_cut(b->g, c->nout + 1, c->nred, extent, c->op, body, guard, c->chunk);
  } else if (n->kind == ND_SCAN) {
    to = nd_scan(b->g, c->nout + 1, extent, c->op, body, c->reverse, c->exclusive);
  } else {
    Expr *at[32] = {ex_iter(b->g, 0)};
    for (int d = 0; d < n->rank; d++) at[d + 1] = lift(b, n->scatter.idx[d]);
    Node *base = n->scatter.base ? batched(b, n->scatter.base) : NULL;
    if (n->scatter.base && !base) { /* the same base for every row */
      Expr *load[32];
      for (int d = 0; d < n->rank; d++) load[d] = ex_iter(b->g, d + 1);
      base = nd_comp(b->g, n->rank + 1, 0, dim, RED_NONE,
                     ex_load(b->g, n->scatter.base, n->rank, load, NULL, false, n->span), NULL);
    }
    to = nd_scatter(b->g, (DType)n->dtype, n->rank + 1, dim, base, c->nout + 1, extent, at, body, guard, n->scatter.how,
                    n->scatter.checked);
  }
  remember(b, n, to);
}

Test(codegen_batch, rows_have_the_bits_of_single_runs) {
  enum { N = 5 };
  int done = 0, differ = 0;
  for (uint64_t seed = 1; seed <= 220 && done < 100; seed++) {
    Prog p;
    gen_prog(&p, seed);
    Node **order, **root = arena_array(p.a, Node *, p.r.nout), *x = NULL;
    for (int i = 0; i < p.r.nout; i++) root[i] = p.r.out[i];
    int n = graph_topo(p.g, p.r.nout, root, &order);
    for (int i = 0; i < n && !x; i++)
      if (order[i]->kind == ND_INPUT && gen_float(order[i])) x = order[i];
    Batch b = {.g = p.g, .index = {.arena = p.a}, .n = N};
    if (x) {
      int64_t dim[17] = {N};
      copy_dims(dim + 1, x->dim, sizeof *dim * (size_t)x->rank);
      Node *bx = nd_input(p.g, (DType)x->dtype, x->rank + 1, dim, "batch", x->slot);
      remember(&b, x, bx);
      for (int i = 0; i < n && !b.fail; i++)
        if (order[i] != x) batch_node(&b, order[i]);
    }
    Node *out[16];
    int source[16], nout = 0;
    for (int i = 0; x && !b.fail && i < p.r.nout; i++)
      if (batched(&b, p.r.out[i]) && p.r.out[i] != x) source[nout] = i, out[nout++] = batched(&b, p.r.out[i]);
    if (nout) {
      Prog q = p;
      Tensor *one = &p.in[x->slot], many;
      q.r = (Region){nout, out, 0, NULL};
      graph_simplify(q.g, &q.r);
      int64_t dim[17] = {N};
      copy_dims(dim + 1, x->dim, sizeof *dim * (size_t)x->rank);
      tensor_alloc(&many, (DType)x->dtype, x->rank + 1, dim);
      prog_fill(&many, seed + 999);
      q.in[x->slot] = many;
      PlanRun all = prog_plan(&q, 2, -1, 1);
      cr_assert(all.ok, "seed %llu: %s", (unsigned long long)seed, all.fault.msg);
      for (int r = 0; r < N; r++) {
        if (tensor_bytes(one)) memcpy(one->data, (char *)many.data + (size_t)r * tensor_bytes(one), tensor_bytes(one));
        PlanRun single = prog_plan(&p, 1, r % 2 ? INFINITY : -1, 1);
        cr_assert(single.ok);
        for (int k = 0; k < nout; k++) {
          const Tensor *s = &single.out[source[k]];
          size_t bytes = tensor_bytes(s);
          if (bytes && memcmp((char *)all.out[k].data + (size_t)r * bytes, s->data, bytes)) {
            differ++;
            cr_expect(false, "seed %llu, row %d, output %d differs", (unsigned long long)seed, r, source[k]);
          }
        }
        run_free(&single);
      }
      run_free(&all);
      tensor_drop(&many);
      done++;
    }
    prog_free(&p);
  }
  cr_expect_geq(done, 60);
  cr_expect_eq(differ, 0);
}
