/* Shots of exports, what they read, and whether a size can be left open (exports.h). */
#include "exports.h"
#include "codegen/aot/aot.h"
#include <stdlib.h>
#include <string.h>

static const int64_t block_rows[NBLOCK] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 32, 64, 256};
enum { PROBE_A = 61, PROBE_B = 67, GOLDEN_ROWS = 5, MOST_ROWS = 1 << 20, STAND_IN_SLOT = EXPORT_SLOT / 2 };

static void insert_rows(int *n, int64_t *rows, int64_t x) {
  int at = 0;
  while (at < *n && rows[at] < x) at++;
  if (at < *n && rows[at] == x) return;
  memmove(rows + at + 1, rows + at, sizeof *rows * (size_t)(*n - at));
  rows[at] = x;
  ++*n;
}

bool exports_rows(Exports *x, const char *list) {
  for (const char *p = list; p && *p;) {
    char *end;
    long long n = strtoll(p, &end, 10);
    if (end == p || n < 1 || n > MOST_ROWS || (*end && *end != ',') || x->nlisted == MORE_BLOCKS) {
      fprintf(stderr, "tg: --batch is up to %d numbers of rows such as 3,32, not %s\n", MORE_BLOCKS, list);
      return false;
    }
    insert_rows(&x->nlisted, x->listed, n);
    p = *end ? end + 1 : end;
  }
  for (int i = 0; i < NBLOCK; i++) insert_rows(&x->nrows, x->rows, block_rows[i]);
  for (int i = 0; i < x->nlisted; i++) insert_rows(&x->nrows, x->rows, x->listed[i]);
  return true;
}

/* ---- Shots ------------------------------------------------------------------------------------------------------- */
static bool take_shot(Exports *x, int k, int64_t rows, Shot *s) {
  s->rows = rows;
  if (!session_export(x->h->session, k, rows, &s->x)) return false;
  s->nout = s->x.nout + s->x.nnext;
  s->out = arena_array(x->a, Node *, s->nout);
  for (int i = 0; i < s->nout; i++) s->out[i] = i < s->x.nout ? s->x.out[i].node : s->x.next[i - s->x.nout];
  return true;
}

static bool take_probes(Exports *x, int k) {
  Made *m = &x->made[k];
  if (!take_shot(x, k, PROBE_A, &m->probe[0])) return false;
  const Export *e = &m->probe[0].x;
  if (aot_reserved(e->name)) {
    Diag *g = diag_add(x->h->diags, T_EXPORT, e->span, "a library has a function `%s_%s` of its own", x->name, e->name);
    diag_help(x->h->diags, g, "give the export another name");
    return false;
  }
  m->kind = e->batch ? ROWS_ANY : ROWS_FIXED;
  return m->kind == ROWS_FIXED || take_shot(x, k, PROBE_B, &m->probe[1]);
}

/* With --no-fit: the place of a history that stands in for a fit's, among what the nodes are computed from. */
static const Node *unfitted(Exports *x, int nroot, Node *const *root) {
  Node **order;
  int n = graph_topo(x->g, nroot, root, &order);
  for (int i = 0; i < n; i++)
    if (order[i]->kind == ND_CALL && !strcmp(order[i]->call.fn->name, "fit_unfitted")) return order[i];
  return NULL;
}

static bool check_unfitted(Exports *x, Span at, const char *name, int nroot, Node *const *root) {
  const Node *n = x->h->o.no_fit ? unfitted(x, nroot, root) : NULL;
  if (!n) return true;
  Diag *g = diag_add(x->h->diags, T_EXPORT, at, "`%s` needs the history of a fit that --no-fit leaves out", name);
  diag_note(x->h->diags, g, n->span, "the fit");
  diag_help(x->h->diags, g, "build without --no-fit; a fit with a checkpoint finds its finished run");
  return false;
}

bool exports_shoot(Exports *x) {
  for (int k = 0; k < x->n; k++) {
    Made *m = &x->made[k];
    const int64_t *rows = m->kind == ROWS_LISTED ? x->listed : x->rows;
    m->nplan = m->kind == ROWS_LISTED ? x->nlisted : m->kind == ROWS_ANY ? x->nrows : 1;
    m->shot = arena_array(x->a, Shot, m->nplan + 1);
    for (int i = 0; i < m->nplan; i++)
      if (!take_shot(x, k, rows[i], &m->shot[i])) return false;
    Shot *golden = &m->shot[m->nplan];
    if (!take_shot(x, k, m->kind == ROWS_ANY ? GOLDEN_ROWS : rows[0], golden)) return false;
    if (!check_unfitted(x, golden->x.span, golden->x.name, golden->nout, golden->out)) return false;
  }
  for (int i = 0; i < x->nstate; i++)
    if (!check_unfitted(x, x->made[0].shot[0].x.span, x->state[i].name, 1, &x->state[i].init)) return false;
  return true;
}

/* ---- What does not depend on inputs ------------------------------------------------------------------------------ */
typedef struct Deps {
  uint8_t *is; /* by node id: depends on an input */
  bool any;
} Deps;
static void look(void *ctx, Node *in) {
  Deps *d = ctx;
  d->any |= d->is[in->id];
}

typedef struct Mark {
  Exports *x;
  Deps *d;
  uint8_t *seen, *inside; /* by node id: looked at; of a loop's body and entered */
} Mark;
/* Copies of one value along some axis: the value is the constant, or there would be one a number of rows. */
static bool repeats(const Node *n) {
  if (n->kind != ND_COMP || n->comp.nred || n->comp.guard || n->comp.body->kind != EX_LOAD) return false;
  for (int i = 0; i < n->comp.nout; i++)
    if (!ex_uses_iter(n->comp.body, i)) return true;
  return false;
}

static void mark(void *ctx, Node *n) {
  Mark *m = ctx;
  Node *const *param;
  if (m->d->is[n->id] || m->seen[n->id]) return;
  bool value =
      n->kind == ND_COMP || n->kind == ND_SCAN || n->kind == ND_SCATTER || n->kind == ND_GET || n->kind == ND_CUSTOM;
  if (!value || nd_free_params(n, &param)) return;
  if (n->kind == ND_COMP && !n->comp.nred && n->comp.body->kind == EX_CONST) return; /* cheaper to write than to read */
  m->seen[n->id] = 1;
  if (repeats(n)) {
    nd_each_input(n, mark, m);
    return;
  }
  vec_push(m->x->a, &m->x->frontier, n);
}

static void mark_loop(Mark *m, const Node *n);

/* Inside a loop that runs in the library, what is read by nodes that change from step to step. What does not change is
 * not entered: behind it lies, among others, the training. */
static void mark_body(void *ctx, Node *n) {
  Mark *m = ctx;
  Node *const *param;
  if (!nd_free_params(n, &param)) {
    mark(m, n);
    return;
  }
  if (m->inside[n->id]) return;
  m->inside[n->id] = 1;
  if (n->kind == ND_LOOP) mark_loop(m, n);
  nd_each_input(n, mark_body, m);
}

static void mark_loop(Mark *m, const Node *n) {
  const Loop *l = &n->loop;
  for (int k = 0; k < l->body.nout; k++) mark_body(m, l->body.out[k]);
  if (l->cond) mark_body(m, l->cond);
}

bool exports_input(const Node *n) { return n->kind == ND_INPUT && n->slot >= EXPORT_SLOT; }

void exports_frontier(Exports *x, int nshot, Shot *const *shot) {
  VEC(Node *) root = {0};
  Node **order;
  for (int s = 0; s < nshot; s++)
    for (int i = 0; i < shot[s]->nout; i++) vec_push(x->a, &root, shot[s]->out[i]);
  int n = graph_topo(x->g, root.n, root.at, &order);
  size_t ids = x->g->next_id + 1;
  Deps d = {arena_alloc(x->a, ids), false};
  Mark m = {x, &d, arena_alloc(x->a, ids), arena_alloc(x->a, ids)};
  x->frontier.n = 0;
  for (int i = 0; i < n; i++) {
    d.any = exports_input(order[i]);
    nd_each_input(order[i], look, &d);
    d.is[order[i]->id] = d.any;
  }
  for (int i = 0; i < n; i++) {
    if (!d.is[order[i]->id]) continue;
    nd_each_input(order[i], mark, &m);
    if (order[i]->kind == ND_LOOP) mark_loop(&m, order[i]);
  }
  for (int i = 0; i < root.n; i++) mark(&m, root.at[i]);
}

/* ---- The open size ----------------------------------------------------------------------------------------------- */
/* The probes' regions, with stand-ins for what will be constants. */
static void simplify_probes(Exports *x, Made *m) {
  Shot *const probe[2] = {&m->probe[0], &m->probe[1]};
  int nprobe = m->kind == ROWS_FIXED ? 1 : 2;
  exports_frontier(x, nprobe, probe);
  int n = x->frontier.n;
  Node **to = arena_array(x->a, Node *, n);
  for (int i = 0; i < n; i++) {
    const Node *t = x->frontier.at[i];
    to[i] = nd_input(x->g, (DType)t->dtype, t->rank, t->dim, "", STAND_IN_SLOT + i);
  }
  for (int s = 0; s < nprobe; s++) {
    graph_rewrite(x->g, n, x->frontier.at, to, probe[s]->nout, probe[s]->out);
    probe[s]->r = (Region){.nout = probe[s]->nout, .out = probe[s]->out};
    graph_simplify(x->g, &probe[s]->r);
  }
}

/* A native that a library cannot call; NULL: none. */
static const Node *foreign_call(Exports *x, const Region *r) {
  Node **order;
  int n = graph_topo(x->g, r->nout, r->out, &order);
  for (int i = 0; i < n; i++) {
    const Node *v = order[i], *found = NULL;
    if (v->kind == ND_CALL && !aot_routine(v->call.fn->name)) return v;
    if (v->kind == ND_LOOP) found = foreign_call(x, &v->loop.body);
    if (v->kind == ND_COND && !(found = foreign_call(x, &v->cond.yes))) found = foreign_call(x, &v->cond.no);
    if (found) return found;
  }
  return NULL;
}

static bool check_calls(Exports *x, Made *m) {
  const Node *c = foreign_call(x, &m->probe[0].r);
  if (!c) return true;
  Diag *g = diag_add(x->h->diags, T_EXPORT, c->span, "`%s` calls the routine `%s`, which is not part of a library",
                     m->probe[0].x.name, c->call.fn->name);
  diag_note(x->h->diags, g, m->probe[0].x.span, "the export");
  return false;
}

static bool rows_apart(Exports *x, Made *m, RowsAnswer *no) {
  const Export *e = &m->probe[0].x;
  Node **in = arena_array(x->a, Node *, e->nin);
  bool *batched = arena_array(x->a, bool, e->nin);
  for (int i = 0; i < e->nin; i++) in[i] = e->in[i].node, batched[i] = e->in[i].batched;
  if (!rows_independent(x->a, x->g, &m->probe[0].r, e->nin, in, batched, PROBE_A, m->out_batched, no)) return false;
  if (rows_same_program(x->a, &m->probe[0].r, PROBE_A, &m->probe[1].r, PROBE_B)) return true;
  *no = (RowsAnswer){.why = arena_printf(x->a, "the number %s itself is used", e->batch), .at = e->span};
  return false;
}

/* For listed numbers of rows, results may depend on all of them, but their shapes only in the first size. */
static bool shapes_follow(Exports *x, Made *m) {
  const Export *a = &m->probe[0].x, *b = &m->probe[1].x;
  for (int i = 0; i < a->nout; i++) {
    const ExportTensor *s = &a->out[i], *t = &b->out[i];
    bool same = a->nout == b->nout && s->rank == t->rank;
    m->out_batched[i] = same && s->rank && s->dim[0] == PROBE_A && t->dim[0] == PROBE_B;
    for (int d = m->out_batched[i] ? 1 : 0; same && d < s->rank; d++) same = s->dim[d] == t->dim[d];
    if (same) continue;
    Diag *g = diag_add(x->h->diags, T_EXPORT, a->span,
                       "%s of `%s` cannot be left open: the shape of a result depends on it, and not as its first size",
                       a->batch, a->name);
    diag_help(x->h->diags, g, "write a number in place of %s", a->batch);
    return false;
  }
  return true;
}

static bool check_open(Exports *x, Made *m) {
  const Export *e = &m->probe[0].x;
  RowsAnswer no = {0};
  m->out_batched = arena_array(x->a, bool, e->nout);
  simplify_probes(x, m);
  if (!check_calls(x, m)) return false;
  if (m->kind == ROWS_FIXED || (!e->nnext && rows_apart(x, m, &no))) return true;
  m->kind = ROWS_LISTED;
  if (x->nlisted) return shapes_follow(x, m);
  Diag *g = e->nnext ? diag_add(x->h->diags, T_EXPORT, e->span, "`%s` changes a state, so %s cannot be left open",
                                e->name, e->batch)
                     : diag_add(x->h->diags, T_EXPORT, no.at.file ? no.at : e->span,
                                "%s of `%s` cannot be left open: %s", e->batch, e->name, no.why);
  if (!e->nnext && no.at.file) diag_note(x->h->diags, g, e->span, "the export");
  diag_help(x->h->diags, g,
            "write a number in place of %s, or name the numbers of rows that the library is to run: --batch=8,64",
            e->batch);
  return false;
}

bool exports_check(Exports *x) {
  bool ok = session_export_states(x->h->session, &x->nstate, &x->state);
  x->n = session_exports(x->h->session);
  x->made = arena_array(x->a, Made, x->n);
  if (!ok) return false;
  for (int k = 0; k < x->n; k++) ok = take_probes(x, k) && check_open(x, &x->made[k]) && ok;
  return ok;
}
