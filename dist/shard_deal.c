/* Whether large sums over samples are dealt out: each rank gets some rows of the sum instead of all of it.
 *
 * What is computed from it point by point, such as an optimiser's step, is then sharded by these rows, and so are the
 * states of loops that it becomes. Each rank does its part of the work and keeps its part of the states; a parameter is
 * gathered where it is read whole, once a step. That is as many bytes as the join of all rows (a reduce-scatter and an
 * all-gather: optimiser states sharded as in ZeRO, Rajbhandari et al. 2020), and hardly a byte more is wanted: where
 * the program reads such values whole in other ways too (a step that saves its moments each time, an optimiser that
 * multiplies matrices), nothing is dealt out.
 *
 * The rows are cut as a batch is, by shards. A float sum over them (a norm, a product with the parameter) is not: it
 * has the order that it has elsewhere in the program and on one rank, and reads the whole. So one rank's graph is as if
 * there were no dealing, and several decide alike since they look at the program's graph only. */
#include "dist/shard_pass.h"

/* Rows: fewer would be shared out too unevenly. MORE: bytes that may be sent beside, as norms and flags are, and what
 * is read whole in the end. */
enum { LEAST_ROWS = 64 };
static const double MORE = 1.1;

bool can_deal(const Pass *p, const Node *n) {
  bool sum = n->kind == ND_COMP && n->comp.op == RED_SUM && dt_is_float((DType)n->comp.body->dtype) && n->rank;
  bool large = sum && n->dim[0] >= LEAST_ROWS && shard_bytes(n) >= SHARD_SMALL;
  return p->env->deal == DEAL_ALL ? sum && n->dim[0] > 0 : p->env->deal == DEAL_LARGE && large;
}

static double bytes_of(const Node *n) {
  double bytes = dt_bytes((DType)n->dtype);
  for (int d = 0; d < n->rank; d++) bytes *= (double)n->dim[d];
  return bytes;
}
/* What the collectives of the program send, all its steps together, in parts of (N - 1) / N. */
static double sent(Pass *p) {
  double bytes = 0;
  shard_sites(p);
  for (int i = 0; i < p->n; i++) {
    const Known *x = &p->at[i];
    if (x->sum && x->site) bytes += x->site->times * (double)shard_bytes(x->n) * (x->dealt ? 1 : 2);
    if (x->whole_site) bytes += x->whole_site->times * bytes_of(x->n);
  }
  return bytes;
}

void shard_deal(Pass *p) {
  bool any = false;
  p->deals = false;
  shard_find(p);
  for (int i = 0; several(p) && i < p->n; i++) any |= p->at[i].sum && can_deal(p, p->at[i].n);
  if (any) {
    double all = sent(p);
    p->deals = true;
    shard_find(p);
    p->deals = p->env->deal == DEAL_ALL || sent(p) <= MORE * all;
  }
  if (any) shard_find(p); /* forgets the sites, too: spreading values changes them */
}
