/* The sharding pass: its steps in order, and what it says about them. */
#include "dist/shard_pass.h"
#include <string.h>

/* ---- notes ------------------------------------------------------------------------------------------------------- */

typedef struct Notes {
  Pass *p;
  Known *x;
} Notes;
static const char *what(const Node *n) {
  switch (n->kind) {
  case ND_COMP:
    return n->comp.nred ? red_name(n->comp.op) : "map";
  case ND_SCAN:
    return "scan";
  case ND_SCATTER:
    return "scatter";
  case ND_LOOP:
    return "loop";
  case ND_COND:
    return "branch";
  case ND_CALL:
    return n->name;
  case ND_GET:
    return n->get.of->kind == ND_CALL ? n->get.of->name : what(n->get.of);
  case ND_PARAM:
    return n->name;
  default:
    return "value";
  }
}
static const char *reason(const Node *n) {
  switch (n->kind) {
  case ND_COMP:
    return n->comp.op == RED_PROD || n->comp.op >= RED_ARGMAX ? "cannot be joined" : "sample not in the subscript";
  case ND_SCAN:
    return "runs along the samples, or sample not in the subscript";
  case ND_SCATTER:
    return "writes elsewhere than the sample";
  case ND_LOOP:
    return "the state is not sharded in every step, or tested";
  case ND_COND:
    return "branches differ";
  default:
    return "a native wants all";
  }
}
static void note_whole(void *ctx, Node *in, int sub) {
  (void)sub;
  const Notes *s = ctx;
  Pass *p = s->p;
  fprintf(p->env->notes, "# gather %s for %s: %s\n", shard_name(p, what(in), in), shard_name(p, what(s->x->n), s->x->n),
          s->x->forced ? "the test of a loop" : reason(s->x->n));
}
static void notes(Pass *p) {
  FILE *f = p->env->notes;
  for (int i = 0; i < p->n; i++) {
    Known *x = &p->at[i];
    int64_t rows = batch_of(x->n);
    if (rows)
      fprintf(f, "# batch of %lld, %d shards of %lld\n", (long long)rows, TG_SHARDS, (long long)shard_lo(rows, 1));
  }
  for (int i = 0; i < p->n; i++) each_whole(p, &p->at[i], note_whole, &(Notes){p, &p->at[i]});
  for (int i = 0; i < p->r->nout; i++)
    if (split_of(p, p->r->out[i]).rows)
      fprintf(f, "# gather %s for the result\n", shard_name(p, what(p->r->out[i]), p->r->out[i]));
  for (int i = 0; i < p->n; i++)
    if (p->at[i].sum)
      fprintf(f, "# %s %s\n", p->at[i].dealt ? "deal" : "join", shard_name(p, what(p->at[i].n), p->at[i].n));
}

/* ---- the pass ---------------------------------------------------------------------------------------------------- */

static void number_nodes(Pass *p, int n, Node *const *order) {
  p->n = n, p->cap = p->g->next_id;
  p->at = arena_array(p->a, Known, n), p->index = arena_array(p->a, int, p->cap);
  for (int i = 0; i < n; i++) {
    Known *x = &p->at[i];
    x->n = order[i];
    p->index[order[i]->id] = i + 1;
  }
}

bool shard_region(Graph *g, Region *r, const ShardEnv *env) {
  Pass p = {.g = g, .a = arena_new(), .env = env, .r = r};
  Node **root = arena_array(p.a, Node *, r->nout + r->neffect), **order;
  if (r->nout) memcpy(root, r->out, sizeof *root * (size_t)r->nout);
  if (r->neffect) memcpy(root + r->nout, r->effect, sizeof *root * (size_t)r->neffect);
  int n = graph_topo(g, r->nout + r->neffect, root, &order);
  bool changed = false, any = false;
  for (int i = 0; i < n && !any; i++) any = batch_of(order[i]) != 0;
  if (any) {
    number_nodes(&p, n, order);
    shard_deal(&p);
    if (several(&p)) shard_spread(&p);
    if (env->notes) notes(&p);
    if (several(&p)) shard_sites(&p), shard_order(&p);
    Region old = *r;
    p.r = &old;
    changed = shard_build(&p, r);
  }
  arena_free(p.a);
  return changed;
}
