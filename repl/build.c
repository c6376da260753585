/* `tg build`: a script's exports as a library (codegen/aot).
 *
 *   1  the script is checked; every export is elaborated on stand-ins, at the numbers of rows that its plans will have
 *   2  what the exports read and does not depend on their inputs (the *frontier*: weights) is computed, together with the
 *      script's effects, as when the script is run; it becomes the library's constants
 *   3  the exports' regions, with constants in place, are planned and written
 *   4  the same regions are run here on made-up inputs: the library's golden calls */
#include "build.h"
#include "codegen/aot/aot.h"
#include "codegen/rt/lib.h"
#include "lang/export.h"
#include "stdlib/native/safetensors.h"
#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Rows of the plans of a run-time batch; a probe at two sizes shows whether rows are independent. */
static const int64_t block_rows[] = {1, 2, 4, 8, 16, 64, 256};
enum { NBLOCK = sizeof block_rows / sizeof *block_rows, MORE_BLOCKS = 16, PROBE_A = 61, PROBE_B = 67, GOLDEN_ROWS = 5, GOLDEN_BYTES = 1 << 20 };

/* An export at one number of rows. */
typedef struct Shot {
  int64_t rows;
  Export x;
  int nout;   /* the export's results, then the next values of states */
  Node **out; /* values, rewritten as constants take their place */
  Region r;
} Shot;

typedef struct Made {
  int n;      /* plans' shots first, then the two probes when batched, then the golden one */
  int nplan;
  Shot *shot;
  bool batched;
  bool *out_batched;
  AotGolden golden;
} Made;

typedef struct Konsts {
  AotConst *at;
  int n, cap;
} Konsts;

typedef struct Build {
  Host *h;
  const BuildOptions *o;
  Graph *g;
  Arena *a;
  Region unit;
  int nrows;           /* of the plans of a run-time batch, ascending */
  int64_t rows[NBLOCK + MORE_BLOCKS];
  int n;
  Made *made;
  VEC(Node *) frontier;
  int nstate;
  ExportState *state;
  int64_t *state_slot; /* where the script's value of each is kept */
  AotLibrary lib;
} Build;

/* Block sizes and those asked for by --batch. */
static bool choose_rows(Build *b) {
  for (int i = 0; i < NBLOCK; i++) b->rows[b->nrows++] = block_rows[i];
  for (const char *p = b->o->batch; p && *p;) {
    char *end;
    long long n = strtoll(p, &end, 10);
    if (end == p || n < 1 || n > 1 << 20 || (*end && *end != ',') || b->nrows == NBLOCK + MORE_BLOCKS) {
      fprintf(stderr, "tg: --batch is up to %d numbers of rows such as 3,32, not %s\n", MORE_BLOCKS, b->o->batch);
      return false;
    }
    int at = 0;
    while (at < b->nrows && b->rows[at] < n) at++;
    if (at == b->nrows || b->rows[at] != n) {
      memmove(b->rows + at + 1, b->rows + at, sizeof *b->rows * (size_t)(b->nrows - at));
      b->rows[at] = n;
      b->nrows++;
    }
    p = *end ? end + 1 : end;
  }
  return true;
}

/* ---- 1: elaboration ------------------------------------------------------------------------------------------------ */
static bool take_shot(Build *b, int k, int64_t rows, Shot *s) {
  s->rows = rows;
  if (!session_export(b->h->session, k, rows, &s->x)) return false;
  s->nout = s->x.nout + s->x.nnext;
  s->out = arena_array(b->a, Node *, s->nout);
  for (int i = 0; i < s->nout; i++) s->out[i] = i < s->x.nout ? s->x.out[i].node : s->x.next[i - s->x.nout];
  return true;
}

static bool take_shots(Build *b, int k) {
  Made *m = &b->made[k];
  m->shot = arena_array(b->a, Shot, b->nrows + 3);
  if (!take_shot(b, k, b->rows[0], &m->shot[0])) return false;
  const Export *x = &m->shot[0].x;
  if (aot_reserved(x->name)) {
    Diag *g = diag_add(b->h->diags, T_EXPORT, x->span, "a library has a function `%s_%s` of its own", b->lib.name, x->name);
    diag_help(b->h->diags, g, "give the export another name");
    return false;
  }
  m->batched = m->shot[0].x.batch != NULL;
  m->nplan = m->batched ? b->nrows : 1;
  if (m->batched && x->nnext) {
    Diag *g = diag_add(b->h->diags, T_EXPORT, x->span, "`%s` changes a state, so %s cannot be left open", x->name, x->batch);
    diag_help(b->h->diags, g, "write a number in place of %s", x->batch);
    return false;
  }
  m->n = 1;
  for (int i = 1; i < m->nplan; i++)
    if (!take_shot(b, k, b->rows[i], &m->shot[m->n++])) return false;
  if (m->batched)
    for (int i = 0; i < 2; i++)
      if (!take_shot(b, k, i ? PROBE_B : PROBE_A, &m->shot[m->n++])) return false;
  return take_shot(b, k, GOLDEN_ROWS, &m->shot[m->n++]);
}

/* ---- 2: what does not depend on inputs ------------------------------------------------------------------------------ */
typedef struct Deps {
  uint8_t *is; /* by node id: depends on an input */
  bool any;
} Deps;
static void look(void *ctx, Node *in) {
  Deps *d = ctx;
  d->any |= d->is[in->id];
}

typedef struct Mark {
  Build *b;
  Deps *d;
  uint8_t *seen;
} Mark;
static void mark(void *ctx, Node *n) {
  Mark *m = ctx;
  Node *const *param;
  if (m->d->is[n->id] || m->seen[n->id]) return;
  bool value = n->kind == ND_COMP || n->kind == ND_SCAN || n->kind == ND_SCATTER || n->kind == ND_GET || n->kind == ND_CUSTOM;
  if (!value || nd_free_params(n, &param)) return;
  if (n->kind == ND_COMP && !n->comp.nred && n->comp.body->kind == EX_CONST) return; /* cheaper to write than to read */
  m->seen[n->id] = 1;
  vec_push(m->b->a, &m->b->frontier, n);
}

/* Inside a loop that runs in the library, what is read by nodes that change from step to step. */
static void mark_body(Mark *m, const Loop *l) {
  VEC(Node *) root = {0};
  Node **order, *const *param;
  for (int k = 0; k < l->body.nout; k++) vec_push(m->b->a, &root, l->body.out[k]);
  if (l->cond) vec_push(m->b->a, &root, l->cond);
  int n = graph_topo(m->b->g, root.n, root.at, &order);
  for (int i = 0; i < n; i++)
    if (nd_free_params(order[i], &param)) nd_each_input(order[i], mark, m);
}

static bool is_input(const Node *n) { return n->kind == ND_INPUT && n->slot >= EXPORT_SLOT; }

static void find_frontier(Build *b) {
  VEC(Node *) root = {0};
  Node **order;
  for (int k = 0; k < b->n; k++)
    for (int s = 0; s < b->made[k].n; s++)
      for (int i = 0; i < b->made[k].shot[s].nout; i++) vec_push(b->a, &root, b->made[k].shot[s].out[i]);
  int n = graph_topo(b->g, root.n, root.at, &order);
  Deps d = {arena_alloc(b->a, b->g->next_id + 1), false};
  Mark m = {b, &d, arena_alloc(b->a, b->g->next_id + 1)};
  for (int i = 0; i < n; i++) {
    d.any = is_input(order[i]);
    nd_each_input(order[i], look, &d);
    d.is[order[i]->id] = d.any;
  }
  for (int i = 0; i < n; i++) {
    if (!d.is[order[i]->id]) continue;
    nd_each_input(order[i], mark, &m);
    if (order[i]->kind == ND_LOOP) mark_body(&m, &order[i]->loop);
  }
  for (int i = 0; i < root.n; i++) mark(&m, root.at[i]);
}

static int64_t keep(Build *b, Tensor t) {
  vec_push(b->h->arena, &b->h->slot, t);
  return b->h->slot.n - 1;
}

/* Runs the script: its effects, and the frontier; puts the results in the frontier's place. */
static bool run_script(Build *b, Fault *fault) {
  int n = b->frontier.n;
  for (int i = 0; i < b->nstate; i++) vec_push(b->a, &b->frontier, b->state[i].init); /* beyond n: computed, not replaced */
  Tensor *out = arena_array(b->a, Tensor, b->frontier.n);
  Node **to = arena_array(b->a, Node *, n);
  Region r = {b->frontier.n, b->frontier.at, b->unit.neffect, b->unit.effect};
  if ((r.nout || r.neffect) && !host_run(b->h, b->g, &r, out, fault)) return false;
  for (int i = 0; i < b->nstate; i++) b->state_slot[i] = keep(b, out[n + i]);
  for (int i = 0; i < n; i++) {
    const Node *x = b->frontier.at[i];
    to[i] = nd_input(b->g, (DType)x->dtype, x->rank, x->dim, session_tensor_name(b->h->session, x), keep(b, out[i]));
  }
  for (int k = 0; k < b->n; k++)
    for (int s = 0; s < b->made[k].n; s++) {
      Shot *t = &b->made[k].shot[s];
      graph_rewrite(b->g, n, b->frontier.at, to, t->nout, t->out);
      t->r = (Region){.nout = t->nout, .out = t->out};
      graph_simplify(b->g, &t->r);
    }
  return true;
}

/* ---- 3: the batch ---------------------------------------------------------------------------------------------------- */
static bool check_batch(Build *b, int k) {
  Made *m = &b->made[k];
  Shot *p = &m->shot[m->nplan], *q = p + 1;
  int nin = p->x.nin;
  Node **in = arena_array(b->a, Node *, nin);
  bool *batched = arena_array(b->a, bool, nin);
  RowsAnswer no = {0};
  m->out_batched = arena_array(b->a, bool, p->x.nout);
  if (!m->batched) return true;
  for (int i = 0; i < nin; i++) in[i] = p->x.in[i].node, batched[i] = p->x.in[i].batched;
  bool ok = rows_independent(b->a, &p->r, nin, in, batched, PROBE_A, m->out_batched, &no);
  if (ok && !rows_same_program(b->a, &p->r, PROBE_A, &q->r, PROBE_B)) {
    ok = false;
    no = (RowsAnswer){.why = arena_printf(b->a, "the number %s itself is used", p->x.batch), .at = p->x.span};
  }
  if (ok) return true;
  Diag *g = diag_add(b->h->diags, T_EXPORT, no.at.file ? no.at : p->x.span, "%s of `%s` cannot be left open: %s", p->x.batch, p->x.name, no.why);
  if (no.at.file) diag_note(b->h->diags, g, p->x.span, "the export");
  diag_help(b->h->diags, g, "write a number in place of %s: a library runs any number of rows when no row of a result depends on another row", p->x.batch);
  return false;
}

/* A parameter's name in C and Python: no keyword, and none that the function has already. */
static const char *safe_name(Build *b, const char *name, const char *batch, int n, const AotTensor *taken) {
  static const char *const words[] = {
      "alignas", "alignof", "and", "as", "asm", "assert", "async", "auto", "await", "bool", "break", "case", "catch", "char", "class",
      "const", "constexpr", "context", "continue", "def", "default", "del", "delete", "do", "double", "elif", "else", "enum", "except",
      "explicit", "export", "extern", "false", "finally", "float", "for", "friend", "from", "global", "goto", "if", "import", "in",
      "inline", "int", "is", "lambda", "len", "long", "mutable", "namespace", "new", "noexcept", "none", "nonlocal", "not", "np",
      "nullptr", "operator", "or", "pass", "private", "protected", "public", "raise", "register", "restrict", "return", "self", "short",
      "signed", "sizeof", "static", "struct", "switch", "template", "this", "throw", "true", "try", "typedef", "typename", "typeof",
      "union", "unsigned", "using", "virtual", "void", "volatile", "while", "with", "xor", "yield", "ctypes", "None", "True", "False"};
  bool bad = batch && !strcmp(name, batch);
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) bad |= !strcmp(name, words[i]);
  for (int i = 0; i < n; i++) bad |= !strcmp(name, taken[i].name);
  return bad ? safe_name(b, arena_printf(b->a, "%s_", name), batch, n, taken) : name;
}

static AotTensor aot_tensor(Build *b, const ExportTensor *t, bool batched) {
  return (AotTensor){t->name, t->dtype, t->rank, arena_copy(b->a, t->dim, sizeof *t->dim * (size_t)t->rank), batched};
}

/* The nodes that a variant reads as constants. */
static void collect_constants(Build *b, const Region *r, Konsts *konst) {
  Node **order;
  int n = graph_topo(b->g, r->nout, r->out, &order);
  for (int i = 0; i < n; i++) {
    if (order[i]->kind != ND_INPUT || is_input(order[i])) continue;
    bool known = false;
    for (int j = 0; j < konst->n && !known; j++) known = konst->at[j].slot == order[i]->slot;
    AotConst c = {.name = order[i]->name, .slot = order[i]->slot};
    if (!known) vec_push(b->a, konst, c);
  }
}

/* ---- Cost, for the manifest ------------------------------------------------------------------------------------------ */
typedef struct Count {
  double ops;
} Count;
static void count_op(void *ctx, Expr *e) {
  if (e->kind == EX_OP && dt_is_float((DType)e->dtype) && e->op != OP_CAST && e->op != OP_SELECT) ((Count *)ctx)->ops++;
}

static double runs_of(const double *times, const Node *n) {
  Node *const *param;
  double t = 1;
  int k = nd_free_params(n, &param);
  for (int i = 0; i < k; i++)
    if (times[param[i]->id] > t) t = times[param[i]->id];
  return t;
}

/* Floating-point operations of a region, loops counted in full. */
static double region_flops(Build *b, const Region *r) {
  Node **order;
  int n = graph_topo(b->g, r->nout, r->out, &order);
  double *times = arena_array(b->a, double, b->g->next_id + 1), sum = 0;
  for (int i = n; i-- > 0;) { /* outer loops first */
    const Node *x = order[i];
    if (x->kind != ND_LOOP) continue;
    double t = runs_of(times, x) * (double)x->loop.trip;
    for (int k = 0; k < x->loop.nstate; k++) times[x->loop.param[k]->id] = t;
    if (x->loop.counter) times[x->loop.counter->id] = t;
  }
  for (int i = 0; i < n; i++) {
    const Node *x = order[i];
    if (x->kind != ND_COMP && x->kind != ND_SCAN && x->kind != ND_SCATTER) continue;
    const Comp *c = x->kind == ND_SCATTER ? &x->scatter.src : &x->comp;
    Count count = {0};
    ex_visit(c->body, count_op, &count);
    if (dt_is_float((DType)x->dtype) && (c->nred || x->kind == ND_SCAN)) count.ops++;
    double points = 1;
    for (int d = 0; d < c->nout + c->nred; d++) points *= (double)c->extent[d];
    sum += points * count.ops * runs_of(times, x);
  }
  return sum;
}

static double tensor_size(const AotTensor *t, int64_t rows) {
  double n = dt_bytes(t->dtype);
  for (int d = 0; d < t->rank; d++) n *= d == 0 && t->batched ? (double)rows : (double)t->dim[d];
  return n;
}

/* ---- 4: golden calls --------------------------------------------------------------------------------------------------- */
static const AotGolden *golden_call(Build *b, Made *m, const AotExport *x) {
  Shot *s = &m->shot[m->n - 1];
  int64_t rows = m->batched ? GOLDEN_ROWS : 1;
  double size = 0;
  for (int i = 0; i < x->nout; i++) size += tensor_size(&x->out[i], rows);
  if (size > GOLDEN_BYTES) return NULL;
  int nfrom = x->nin + b->nstate;
  Node **from = arena_array(b->a, Node *, nfrom), **to = arena_array(b->a, Node *, nfrom);
  for (int i = 0; i < x->nin; i++) {
    const ExportTensor *e = &s->x.in[i];
    Tensor t;
    if (!tensor_alloc(&t, e->dtype, e->rank, e->dim)) return NULL;
    lib_golden_fill((int)e->dtype, (uint64_t)(i + 1) << 32, tensor_count(&t), t.data);
    from[i] = e->node;
    to[i] = nd_input(b->g, e->dtype, e->rank, e->dim, e->name, keep(b, t));
  }
  for (int i = 0; i < b->nstate; i++) {
    const Node *n = b->state[i].input;
    from[x->nin + i] = b->state[i].input;
    to[x->nin + i] = nd_input(b->g, (DType)n->dtype, n->rank, n->dim, n->name, b->state_slot[i]);
  }
  Node **root = arena_copy(b->a, s->r.out, sizeof *root * (size_t)x->nout);
  graph_rewrite(b->g, nfrom, from, to, x->nout, root);
  Region r = {.nout = x->nout, .out = root};
  Tensor *out = arena_array(b->a, Tensor, x->nout);
  const void **data = arena_array(b->a, const void *, x->nout);
  Fault fault = {0};
  HostOptions keep_options = b->h->o;
  memset(b->h->o.dump, 0, sizeof b->h->o.dump);
  bool ok = host_run(b->h, b->g, &r, out, &fault);
  b->h->o = keep_options;
  for (int i = 0; ok && i < x->nout; i++) {
    data[i] = out[i].data;
    keep(b, out[i]);
  }
  m->golden = (AotGolden){.rows = rows, .failed = !ok, .out = data};
  return &m->golden;
}

/* ---- The library --------------------------------------------------------------------------------------------------------- */
static void make_export(Build *b, int k, AotExport *x) {
  Made *m = &b->made[k];
  const Export *e = &m->shot[0].x;
  *x = (AotExport){.name = e->name, .doc = e->doc, .signature = e->signature, .batch = e->batch, .nin = e->nin, .nout = e->nout, .nvariant = m->nplan};
  AotTensor *all = arena_array(b->a, AotTensor, e->nin + e->nout);
  x->in = all;
  x->out = all + e->nin;
  x->nnext = e->nnext, x->next = e->next_state;
  x->variant = arena_array(b->a, AotVariant, m->nplan);
  for (int i = 0; i < e->nin + e->nout; i++) {
    all[i] = i < e->nin ? aot_tensor(b, &e->in[i], e->in[i].batched) : aot_tensor(b, &e->out[i - e->nin], m->out_batched[i - e->nin]);
    all[i].name = safe_name(b, all[i].name, e->batch, i, all);
  }
  for (int i = 0; i < m->nplan; i++) x->variant[i] = (AotVariant){m->batched ? m->shot[i].rows : 0, m->shot[i].r};
  const Shot *large = &m->shot[m->nplan - 1];
  int64_t rows = m->batched ? large->rows : 1;
  x->flops = region_flops(b, &large->r) / (double)rows;
  for (int i = 0; i < e->nin; i++) x->bytes += tensor_size(&x->in[i], 1);
  for (int i = 0; i < e->nout; i++) x->bytes += tensor_size(&x->out[i], 1);
}

static bool make_library(Build *b) {
  AotLibrary *l = &b->lib;
  Konsts konst = {0};
  l->first_input = EXPORT_SLOT;
  l->threads = b->h->o.threads;
  l->nexport = b->n;
  l->export = arena_array(b->a, AotExport, b->n);
  for (int k = 0; k < b->n; k++)
    if (!check_batch(b, k)) return false;
  for (int k = 0; k < b->n; k++) {
    make_export(b, k, &l->export[k]);
    for (int i = 0; i < b->made[k].nplan; i++) collect_constants(b, &b->made[k].shot[i].r, &konst);
    l->export[k].golden = golden_call(b, &b->made[k], &l->export[k]);
  }
  for (int i = 0; i < konst.n; i++) {
    konst.at[i].t = &b->h->slot.at[konst.at[i].slot];
    if (!konst.at[i].name || !*konst.at[i].name) konst.at[i].name = arena_printf(b->a, "const_%d", i);
    for (int j = 0; j < i; j++)
      if (!strcmp(konst.at[i].name, konst.at[j].name)) konst.at[i].name = arena_printf(b->a, "%s_%d", konst.at[i].name, i);
  }
  l->nconst = konst.n, l->konst = konst.at;
  l->nstate = b->nstate;
  l->first_state = EXPORT_STATE_SLOT;
  l->state = arena_array(b->a, AotConst, b->nstate);
  for (int i = 0; i < b->nstate; i++) l->state[i] = (AotConst){b->state[i].name, b->state_slot[i], &b->h->slot.at[b->state_slot[i]]};
  const char *w = b->o->weights;
  l->weights = !w ? AOT_EMBED : !strcmp(w, "caller") ? AOT_CALLER : AOT_FILE;
  if (l->weights == AOT_FILE) l->weights_file = w; /* relative: beside the library */
  return true;
}

static bool write_weights(Build *b, const char *dir, Fault *fault) {
  const AotLibrary *l = &b->lib;
  int n = l->nconst + l->nstate;
  const char **name = arena_array(b->a, const char *, n);
  Tensor *t = arena_array(b->a, Tensor, n);
  if (l->weights != AOT_FILE) return true;
  for (int i = 0; i < n; i++) {
    const AotConst *k = i < l->nconst ? &l->konst[i] : &l->state[i - l->nconst];
    name[i] = k->name, t[i] = *k->t;
  }
  const char *path = *l->weights_file == '/' ? l->weights_file : arena_printf(b->a, "%s%s", dir, l->weights_file);
  return st_write(path, n, name, t, 0, NULL, fault);
}

/* ---- Files --------------------------------------------------------------------------------------------------------------- */
static bool write_text(const char *path, const char *data, size_t n) {
  char *tmp;
  if (asprintf(&tmp, "%s.tmp.%d", path, (int)getpid()) < 0) return false;
  FILE *f = fopen(tmp, "wb");
  bool ok = f && fwrite(data, 1, n, f) == n && fflush(f) == 0 && fsync(fileno(f)) == 0;
  if (f) ok = fclose(f) == 0 && ok;
  ok = ok && rename(tmp, path) == 0;
  if (!ok) {
    fprintf(stderr, "tg: cannot write %s: %s\n", path, strerror(errno));
    unlink(tmp);
  }
  free(tmp);
  return ok;
}

/* "dir/libfashion.so" -> "dir/" and "fashion". */
static bool name_of_path(Build *b, const char *path, char **dir, char **name) {
  const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
  *dir = slash ? arena_strndup(b->a, path, (size_t)(slash - path) + 1) : "";
  if (!strncmp(base, "lib", 3)) base += 3;
  *name = arena_strdup(b->a, base);
  char *dot = strrchr(*name, '.');
  if (dot) *dot = 0;
  bool ok = isalpha((unsigned char)**name) || **name == '_';
  for (char *p = *name; *p; p++) {
    if (*p == '-' || *p == '.') *p = '_';
    ok = ok && (isalnum((unsigned char)*p) || *p == '_');
  }
  if (!ok) fprintf(stderr, "tg: `%s` cannot be the prefix of C functions; give a name by -o libNAME.so\n", *name);
  return ok;
}

static int write_all(Build *b, const char *path, const char *dir, const AotOutput *o) {
  const char *emit = b->o->emit, *name = b->lib.name, *why;
  char *stem = arena_printf(b->a, "%s%s", dir, name);
  bool ok;
  if (!strcmp(emit, "llvm") || !strcmp(emit, "asm"))
    return write_text(path, o->object, o->nobject) ? EXIT_OK : EXIT_RUN;
  if (!strcmp(emit, "obj")) {
    size_t nrt;
    const char *rt = aot_runtime(&nrt);
    ok = write_text(path, o->object, o->nobject) && write_text(arena_printf(b->a, "%s_rt.o", stem), rt, nrt);
  } else {
    ok = aot_link(b->a, path, o->object, o->nobject, &why);
    if (!ok) fprintf(stderr, "tg: %s cannot be linked: %s\n", path, why);
  }
  ok = ok && write_text(arena_printf(b->a, "%s.h", stem), o->header, strlen(o->header));
  ok = ok && write_text(arena_printf(b->a, "%s.json", stem), o->manifest, strlen(o->manifest));
  ok = ok && write_text(arena_printf(b->a, "%s.pc", stem), o->pc, strlen(o->pc));
  if (b->o->python) ok = ok && write_text(arena_printf(b->a, "%s.py", stem), o->python, strlen(o->python));
  return ok ? EXIT_OK : EXIT_RUN;
}

static int fault_code(Build *b, const Fault *f) {
  host_report_fault(b->h, f);
  return f->id == R_INTERRUPT ? EXIT_INTERRUPT : f->id == T_EXPORT ? EXIT_COMPILE : EXIT_RUN;
}

/* --stats: what the library itself says of its needs. */
static void print_memory(Build *b, const char *path, const AotOutput *o) {
  void *so = dlopen(strchr(path, '/') ? path : arena_printf(b->a, "./%s", path), RTLD_NOW | RTLD_LOCAL);
  void *f = so ? dlsym(so, arena_printf(b->a, "%s_memory", b->lib.name)) : NULL;
  LibOptions lo = {.size = sizeof lo, .threads = b->h->o.threads};
  size_t bytes = f ? ((size_t(*)(const LibOptions *))(uintptr_t)f)(&lo) : 0;
  fprintf(stderr, "%s: %d kernels; a context of %d threads takes %zu bytes; calls allocate nothing\n", path, o->kernels, lo.threads, bytes);
  if (so) dlclose(so);
}

static int build_unit(Build *b, const char *path, const char *text, size_t len) {
  Host *h = b->h;
  Fault fault = {0};
  char *dir, *name;
  const char *out = b->o->output;
  if (!out) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path, *dot = strrchr(base, '.');
    int n = dot ? (int)(dot - base) : (int)strlen(base);
    bool so = !strcmp(b->o->emit, "so");
    out = arena_printf(b->a, "%s%.*s%s", so ? "lib" : "", n, base, so ? ".so" : !strcmp(b->o->emit, "obj") ? ".o" : !strcmp(b->o->emit, "asm") ? ".s" : !strcmp(b->o->emit, "dot") ? ".dot" : ".ll");
  }
  if (!name_of_path(b, out, &dir, &name)) return EXIT_USAGE;
  if (!choose_rows(b)) return EXIT_USAGE;
  b->lib.name = name;
  b->lib.source = path;
  bool ok = session_unit(h->session, diag_source(h->diags, path, text, len), UNIT_SCRIPT, &b->unit);
  b->n = ok ? session_exports(h->session) : 0;
  b->made = arena_array(b->a, Made, b->n);
  ok = ok && session_export_states(h->session, &b->nstate, &b->state);
  b->state_slot = arena_array(b->a, int64_t, b->nstate);
  for (int k = 0; ok && k < b->n; k++) ok = take_shots(b, k);
  host_report(h);
  if (!ok) return EXIT_COMPILE;
  if (!b->n) {
    fprintf(stderr, "tg: %s exports nothing; write `export name(x: [B, 784]) = ...`\n", path);
    return EXIT_COMPILE;
  }
  find_frontier(b);
  if (!run_script(b, &fault)) return fault_code(b, &fault);
  ok = make_library(b);
  host_report(h);
  if (!ok) return EXIT_COMPILE;
  if (!strcmp(b->o->emit, "dot")) {
    char *dot = aot_dot(b->a, &b->lib, b->g);
    return write_text(out, dot, strlen(dot)) ? EXIT_OK : EXIT_RUN;
  }
  AotOutput o;
  const char *what = !strcmp(b->o->emit, "so") ? "obj" : b->o->emit;
  if (!aot_emit(&b->lib, b->g, h->diags, b->o->target, what, b->a, &o, &fault)) return fault_code(b, &fault);
  bool weights = write_weights(b, dir, &fault);
  int code = weights ? write_all(b, out, dir, &o) : fault_code(b, &fault);
  free(o.object);
  if (code == EXIT_OK && h->o.stats && !strcmp(b->o->emit, "so")) print_memory(b, out, &o);
  return code;
}

int build_run(const HostOptions *ho, const BuildOptions *o, const char *path) {
  size_t len;
  char *text = host_read_file(path, &len);
  if (!text) return EXIT_USAGE;
  Host *h = host_new(ho);
  host_catch_interrupt();
  Build b = {.h = h, .o = o, .g = session_graph(h->session), .a = h->arena};
  int code = build_unit(&b, path, text, len);
  host_free(h);
  free(text);
  return code;
}
