/* Products of gathered rows: of each row of the table once, then gathered.
 *
 *   [sum(table[ids[b, t], i] * w[i, k] for i) for b, t, k]   =   p = table @ w, [p[ids[b, t], k] for b, t, k]
 *
 * An embedding under a dense layer multiplies the same few rows again and again. Here each row is multiplied once, and
 * since this is done before derivatives are taken, their two products become as small. Each element is the same sum in
 * the same order, so no bit changes; a row that no one asks for may overflow, but is not read. */
#include "graph/internal.h"
#include <string.h>

enum { LEAST_WORK = 1 << 18 }; /* multiply-adds: below, an operation more costs what it saves */

typedef struct Gathered {
  Graph *g;
  const Comp *c;
  Expr *load, *other; /* the factors: of the table, and what it is multiplied with */
  int nrow, nkept;    /* subscripts that choose rows; output iterators that `other` reads */
  int kept[TG_MAX_RANK];
} Gathered;

static void see_load(void *ctx, Expr *e) {
  if (e->kind == EX_LOAD) *(bool *)ctx = true;
}
static bool reads_data(Expr *e) {
  bool data = false;
  ex_visit(e, see_load, &data);
  return data;
}
static bool uses_reduction(const Comp *c, const Expr *e) {
  for (int k = c->nout; k < c->nout + c->nred; k++)
    if (ex_uses_iter(e, k)) return true;
  return false;
}

/* Every subscript is a reduction iterator, each once, or chooses rows; some row by data. A mask is for all or none. */
static bool is_gather(Gathered *p, Expr *load) {
  const Comp *c = p->c;
  bool data = false;
  int seen = 0, each = 0;
  if (load->kind != EX_LOAD || c->nred > 30) return false;
  for (int k = 0; load->mask && k < c->nout + c->nred; k++)
    if (ex_uses_iter(load->mask, k)) return false;
  for (int d = 0; d < load->n; d++) {
    Expr *s = load->arg[d];
    if (!uses_reduction(c, s)) {
      data |= reads_data(s);
      p->nrow++;
      continue;
    }
    if (s->kind != EX_ITER || load->node->dim[d] != c->extent[s->num.i]) return false;
    seen |= 1 << (s->num.i - c->nout), each++;
  }
  return data && each == c->nred && seen == (1 << c->nred) - 1;
}

static bool find(Gathered *p, Graph *g, const Comp *c) {
  for (int side = 0; side < 2; side++) {
    *p = (Gathered){.g = g, .c = c, .load = c->body->arg[side], .other = c->body->arg[!side]};
    if (!is_gather(p, p->load)) continue;
    for (int k = 0; k < c->nout; k++)
      if (ex_uses_iter(p->other, k)) p->kept[p->nkept++] = k;
    if (p->nrow + p->nkept <= TG_MAX_RANK && reads_data(p->other)) return true;
  }
  return false;
}

/* Elements of the product over the table, at most half of those of the sum itself? */
static bool worth(const Gathered *p) {
  double rows = 1, all = 1, work = 1;
  for (int d = 0; d < p->load->n; d++)
    if (!uses_reduction(p->c, p->load->arg[d])) rows *= (double)p->load->node->dim[d];
  for (int k = 0; k < p->nkept; k++) rows *= (double)p->c->extent[p->kept[k]];
  for (int k = 0; k < p->c->nout; k++) all *= (double)p->c->extent[k];
  for (int k = p->c->nout; k < p->c->nout + p->c->nred; k++) work *= (double)p->c->extent[k];
  return 2 * rows <= all && all * work >= LEAST_WORK;
}

/* [rows.., kept outputs..; the reduction as it was] */
static Node *product(const Gathered *p) {
  Graph *g = p->g;
  const Comp *c = p->c;
  int n = p->nrow + p->nkept, row = 0;
  int64_t *extent = arena_array(g->arena, int64_t, n + c->nred);
  Expr **by = arena_array(g->arena, Expr *, c->nout + c->nred), **at = arena_array(g->arena, Expr *, p->load->n);
  for (int k = 0; k < c->nout; k++) by[k] = ex_int(g, DT_I64, 0); /* those that nothing reads */
  for (int k = 0; k < p->nkept; k++) {
    extent[p->nrow + k] = c->extent[p->kept[k]];
    by[p->kept[k]] = ex_iter(g, p->nrow + k);
  }
  for (int r = 0; r < c->nred; r++) {
    extent[n + r] = c->extent[c->nout + r];
    by[c->nout + r] = ex_iter(g, n + r);
  }
  for (int d = 0; d < p->load->n; d++) {
    if (uses_reduction(c, p->load->arg[d])) {
      at[d] = ex_subst_iters(g, p->load->arg[d], c->nout + c->nred, by);
    } else {
      extent[row] = p->load->node->dim[d];
      at[d] = ex_iter(g, row++);
    }
  }
  Expr *table = ex_load(g, p->load->node, p->load->n, at, NULL, false, p->load->span);
  Expr *other = ex_subst_iters(g, p->other, c->nout + c->nred, by);
  return nd_comp(g, n, c->nred, extent, RED_SUM, ex_op2(g, OP_MUL, table, other), NULL);
}

Node *nd_gathered(Graph *g, Node *n) {
  const Comp *c = &n->comp;
  Gathered p;
  if (n->kind != ND_COMP || c->op != RED_SUM || c->guard || c->chunk || c->body->kind != EX_OP ||
      c->body->op != OP_MUL || !dt_is_float((DType)c->body->dtype) || !find(&p, g, c) || !worth(&p))
    return n;
  Node *rows = product(&p);
  Expr **at = arena_array(g->arena, Expr *, rows->rank);
  int row = 0;
  for (int d = 0; d < p.load->n; d++)
    if (!uses_reduction(c, p.load->arg[d])) at[row++] = p.load->arg[d];
  for (int k = 0; k < p.nkept; k++) at[p.nrow + k] = ex_iter(g, p.kept[k]);
  return nd_comp(g, c->nout, 0, c->extent, RED_NONE,
                 ex_load(g, rows, rows->rank, at, p.load->mask, p.load->checked, p.load->span), NULL);
}
