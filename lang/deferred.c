/* Deferred programs: a block elaborated and compiled while the program runs.
 *
 * The rows of the short last batch of a set of unknown length are known after the full ones have been read. The graph
 * holds a CALL of the native `deferred` in place of the block's nodes; its operands are what the block is made from.
 * When it runs, the host asks for the block on the rows there are (session_deferred), compiles it and keeps it by
 * (site, rows).
 *
 * So that mistakes are found before anything runs, the block is elaborated on one row and on one row less than a batch
 * while checking, and forgotten, except for which of the nodes that stood before it are read: these are the operands.
 */
#include "graph/ptrmap.h"
#include "lang/loop.h"
#include <string.h>

typedef struct Deferred {
  Tail tail;
  LoopForm form;
  Elab E;        /* as it was where the block stands */
  uint32_t mark; /* nodes below it stood before the block */
  VEC(Node *) given;
} Deferred;

/* ---- what a block reads ------------------------------------------------------------------------------------------ */

typedef struct Reach {
  Elab *E;
  PtrMap seen;
  uint32_t mark;
  VEC(Node *) todo, old;
} Reach;

static void reach(void *ctx, Node *n) {
  Reach *r = ctx;
  if (ptrmap_has(&r->seen, n)) return;
  ptrmap_put(&r->seen, n, n);
  if (n->kind == ND_CONST || n->kind == ND_INPUT) return;
  bool old = n->id < r->mark || (n->kind == ND_GET && n->get.of->id < r->mark);
  if (old)
    vec_push(r->E->a, &r->old, n);
  else
    vec_push(r->E->a, &r->todo, n);
}

/* The block's roots: next states, then effects. */
static Node **roots(Tail *t, int *n) {
  Elab *E = t->f->E;
  Value **leaf;
  int m = v_leaves(E, t->next, &leaf);
  Node **root = arena_array(E->a, Node *, m + t->effect.n);
  for (int k = 0; k < m; k++) root[k] = tv_closed(E, leaf[k]);
  for (int k = 0; k < t->effect.n; k++) root[m + k] = t->effect.at[k];
  *n = m + t->effect.n;
  return root;
}

/* Old nodes that the block reads first. */
static Reach reached(Deferred *d) {
  Reach r = {.E = d->tail.f->E, .seen = {.arena = d->tail.f->E->a}, .mark = d->mark};
  int n;
  Node **root = roots(&d->tail, &n);
  for (int k = 0; k < n; k++) reach(&r, root[k]);
  while (r.todo.n) {
    Node *x = r.todo.at[--r.todo.n];
    nd_each_input(x, reach, &r);
  }
  return r;
}

static bool is_given(const Deferred *d, const Node *n) {
  for (int k = 0; k < d->given.n; k++)
    if (d->given.at[k] == n) return true;
  return false;
}

/* ---- while checking ---------------------------------------------------------------------------------------------- */

static void try_rows(Deferred *d, int64_t rows) {
  Elab *E = d->form.E;
  d->tail.rows = rows;
  if (!tail_elaborate(&d->tail)) diag_unwind(E->d);
  Reach r = reached(d);
  for (int k = 0; k < r.old.n; k++)
    if (!is_given(d, r.old.at[k])) vec_push(E->a, &d->given, r.old.at[k]);
}

void deferred_tail(Tail *t, Expr *rows) {
  Elab *E = t->f->E;
  Session *s = E->session;
  int64_t size = t->f->data->shape.size;
  Deferred *d = arena_new_of(E->a, Deferred);
  d->tail = *t, d->form = *t->f, d->tail.f = &d->form;
  d->mark = E->g->next_id;
  Elab keep = *E;
  try_rows(d, size - 1);
  if (size > 2) try_rows(d, 1);
  *E = keep;
  d->E = keep;
  d->E.effect.n = d->E.effect.cap = 0, d->E.effect.at = NULL;
  const Native *fn = natives_find(E->natives, "deferred");
  if (!fn) diag_fail(E->d, R_NATIVE, t->f->ast->span, "this build can't run the last batch of a set of unknown length");
  int n = t->f->nleaf;
  TensorType *type = arena_array(E->a, TensorType, n);
  for (int k = 0; k < n; k++) {
    const StateLeaf *l = &t->f->leaf[k];
    int64_t *dim = arena_array(E->a, int64_t, l->rank);
    for (int a = 0; a < l->rank; a++) dim[a] = l->dim[a].n;
    type[k] = (TensorType){l->dtype, l->rank, dim};
  }
  Node **arg = arena_array(E->a, Node *, d->given.n + 1);
  arg[0] = nd_scalar(E->g, rows);
  for (int k = 0; k < d->given.n; k++) arg[k + 1] = d->given.at[k];
  Attr site = {.i = s->deferred.n, .f = (double)s->deferred.n};
  E->g->span = user_span(E, t->f->ast->span);
  Node *call = nd_call(E->g, fn, 1, &site, d->given.n + 1, arg, n, type);
  if (!E->trial) vec_push(s->opt.arena, &s->deferred, d);
  Value **leaf;
  v_leaves(E, t->state, &leaf);
  for (int k = 0; k < n; k++) leaf[k] = v_node(E, nd_get(E->g, call, k));
  t->next = v_with_leaves(E, t->state, leaf);
  vec_push(E->a, &t->effect, call);
  tail_lazy(t);
}

/* ---- while running ----------------------------------------------------------------------------------------------- */

typedef struct Ask {
  Deferred *d;
  int64_t rows, first;
  Region *out;
  Fault *fault;
  bool ok;
} Ask;

static void fail_like(Ask *a, const Diags *ds) {
  const Diag *g = ds->last;
  if (g)
    fault_set(a->fault, g->id, g->span, "the last batch has %lld rows: %s", (long long)a->rows, g->msg);
  else
    fault_set(a->fault, R_NATIVE, (Span){0}, "the last batch has %lld rows: it can't be compiled", (long long)a->rows);
}

/* The roots with the operands as inputs. Old nodes beyond them are computed from them, unless they are effects' results
 * or a loop's own. */
static bool bind(Ask *a) {
  Deferred *d = a->d;
  Elab *E = d->form.E;
  int n, m = d->given.n;
  Reach r = {.E = E, .seen = {.arena = E->a}, .mark = 0};
  Node **root = roots(&d->tail, &n), **to = arena_array(E->a, Node *, m);
  for (int k = 0; k < m; k++) {
    const Node *x = d->given.at[k];
    to[k] = nd_input(E->g, (DType)x->dtype, x->rank, x->dim, "given", a->first + 1 + k);
  }
  graph_rewrite(E->g, m, d->given.at, to, n, root);
  for (int k = 0; k < n; k++) reach(&r, root[k]);
  while (r.todo.n) {
    Node *x = r.todo.at[--r.todo.n];
    Node *const *param;
    if (x->kind == ND_CALL && x->call.fn->effect && x->id < d->mark) return false;
    if (x->id < d->mark && nd_free_params(x, &param)) return false;
    nd_each_input(x, reach, &r);
  }
  int nout = n - d->tail.effect.n;
  *a->out = (Region){nout, root, n - nout, root + nout};
  return true;
}

static void elaborate(Session *s, void *ctx) {
  Ask *a = ctx;
  Deferred *d = a->d;
  Elab keep = s->E;
  const char *low = s->E.stack_low;
  int errors = s->E.d->nerror;
  s->E = d->E;
  s->E.stack_low = low;
  d->tail.rows = a->rows;
  a->ok = tail_elaborate(&d->tail) && bind(a);
  if (!a->ok) fail_like(a, keep.d);
  s->E = keep;
  if (s->E.d->nerror > errors) diags_clear(s->E.d); /* the fault says it */
}

bool session_deferred(Session *s, int64_t site, int64_t rows, int64_t first, Region *out, Fault *f) {
  if (site < 0 || site >= s->deferred.n) bug("deferred program %lld", (long long)site);
  Ask a = {.d = s->deferred.at[site], .rows = rows, .first = first, .out = out, .fault = f};
  session_on_stack(s, elaborate, &a);
  return a.ok;
}
