/* `tg build`: a script's exports as a library (codegen/aot).
 *
 *   1  the script is checked; every export is elaborated on stand-ins, at the numbers of rows that its plans will have
 * (exports.h) 2  what the exports read and does not depend on their inputs (the *frontier*: weights) is computed,
 * together with the script's effects, as when the script is run; it becomes the library's constants 3  the exports'
 * regions, with constants in place, are planned and written 4  the same regions are run here on made-up inputs: the
 * library's golden calls */
#include "build.h"
#include "exports.h"
#include "codegen/aot/aot.h"
#include "codegen/rt/lib.h"
#include "stdlib/native/safetensors.h"
#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { GOLDEN_BYTES = 1 << 20 };

typedef struct Konsts {
  AotConst *at;
  int n, cap;
} Konsts;

typedef struct Build {
  Host *h;
  const BuildOptions *o;
  Exports x;
  Graph *g;
  Arena *a;
  AotGolden *golden;   /* by export */
  int64_t *state_slot; /* where the script's value of each is kept */
  AotLibrary lib;
} Build;

/* ---- 2: what does not depend on inputs --------------------------------------------------------------------------- */
static int64_t keep(Build *b, Tensor t) {
  vec_push(b->h->arena, &b->h->slot, t);
  return b->h->slot.n - 1;
}

/* Every shot that will become code or a golden call. */
static int all_shots(Build *b, Shot ***out) {
  VEC(Shot *) all = {0};
  for (int k = 0; k < b->x.n; k++)
    for (int i = 0; i <= b->x.made[k].nplan; i++) vec_push(b->a, &all, &b->x.made[k].shot[i]);
  *out = all.at;
  return all.n;
}

/* Runs the script: its effects, and the frontier; puts the results in the frontier's place. */
static bool run_script(Build *b, Fault *fault) {
  Exports *x = &b->x;
  Shot **shot;
  int nshot = all_shots(b, &shot);
  exports_frontier(x, nshot, shot);
  int n = x->frontier.n;
  for (int i = 0; i < x->nstate; i++)
    vec_push(b->a, &x->frontier, x->state[i].init); /* beyond n: computed, not replaced */
  Tensor *out = arena_array(b->a, Tensor, x->frontier.n);
  Node **to = arena_array(b->a, Node *, n);
  Region r = {x->frontier.n, x->frontier.at, x->unit.neffect, x->unit.effect};
  if ((r.nout || r.neffect) && !host_run(b->h, b->g, &r, out, fault)) return false;
  b->state_slot = arena_array(b->a, int64_t, x->nstate);
  for (int i = 0; i < x->nstate; i++) b->state_slot[i] = keep(b, out[n + i]);
  for (int i = 0; i < n; i++) {
    const Node *f = x->frontier.at[i];
    to[i] = nd_input(b->g, (DType)f->dtype, f->rank, f->dim, session_tensor_name(b->h->session, f), keep(b, out[i]));
  }
  for (int i = 0; i < nshot; i++) {
    Shot *t = shot[i];
    graph_rewrite(b->g, n, x->frontier.at, to, t->nout, t->out);
    t->r = (Region){.nout = t->nout, .out = t->out};
    graph_simplify(b->g, &t->r);
  }
  return true;
}

/* A parameter's name in C and Python: no keyword, and none that the function has already. */
static const char *safe_name(Build *b, const char *name, const char *batch, int n, const AotTensor *taken) {
  static const char *const words[] = {
      "alignas",  "alignof", "and",      "as",       "asm",      "assert",    "async",   "auto",      "await",
      "bool",     "break",   "case",     "catch",    "char",     "class",     "const",   "constexpr", "context",
      "continue", "def",     "default",  "del",      "delete",   "do",        "double",  "elif",      "else",
      "enum",     "except",  "explicit", "export",   "extern",   "false",     "finally", "float",     "for",
      "friend",   "from",    "global",   "goto",     "if",       "import",    "in",      "inline",    "int",
      "is",       "lambda",  "len",      "long",     "mutable",  "namespace", "new",     "noexcept",  "none",
      "nonlocal", "not",     "np",       "nullptr",  "operator", "or",        "pass",    "private",   "protected",
      "public",   "raise",   "register", "restrict", "return",   "self",      "short",   "signed",    "sizeof",
      "static",   "struct",  "switch",   "template", "this",     "throw",     "true",    "try",       "typedef",
      "typename", "typeof",  "union",    "unsigned", "using",    "virtual",   "void",    "volatile",  "while",
      "with",     "xor",     "yield",    "ctypes",   "None",     "True",      "False"};
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
    if (order[i]->kind != ND_INPUT || exports_input(order[i])) continue;
    bool known = false;
    for (int j = 0; j < konst->n && !known; j++) known = konst->at[j].slot == order[i]->slot;
    AotConst c = {.name = order[i]->name, .slot = order[i]->slot};
    if (!known) vec_push(b->a, konst, c);
  }
}

/* ---- Cost, for the manifest -------------------------------------------------------------------------------------- */
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

/* ---- 4: golden calls --------------------------------------------------------------------------------------------- */
static const AotGolden *golden_call(Build *b, int k, const AotExport *x) {
  const Made *m = &b->x.made[k];
  const Shot *s = &m->shot[m->nplan];
  int64_t rows = m->kind == ROWS_FIXED ? 1 : s->rows;
  double size = 0;
  for (int i = 0; i < x->nout; i++) size += tensor_size(&x->out[i], rows);
  if (size > GOLDEN_BYTES) return NULL;
  int nfrom = x->nin + b->x.nstate;
  Node **from = arena_array(b->a, Node *, nfrom), **to = arena_array(b->a, Node *, nfrom);
  for (int i = 0; i < x->nin; i++) {
    const ExportTensor *e = &s->x.in[i];
    Tensor t;
    if (!tensor_alloc(&t, e->dtype, e->rank, e->dim)) return NULL;
    lib_golden_fill((int)e->dtype, (uint64_t)(i + 1) << 32, tensor_count(&t), t.data);
    from[i] = e->node;
    to[i] = nd_input(b->g, e->dtype, e->rank, e->dim, e->name, keep(b, t));
  }
  for (int i = 0; i < b->x.nstate; i++) {
    const Node *n = b->x.state[i].input;
    from[x->nin + i] = b->x.state[i].input;
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
  b->golden[k] = (AotGolden){.rows = rows, .failed = !ok, .out = data};
  return &b->golden[k];
}

/* ---- The library ------------------------------------------------------------------------------------------------- */
static void make_export(Build *b, int k, AotExport *x) {
  const Made *m = &b->x.made[k];
  const Export *e = &m->shot[0].x;
  *x = (AotExport){.name = e->name,
                   .doc = e->doc,
                   .signature = e->signature,
                   .batch = e->batch,
                   .nin = e->nin,
                   .nout = e->nout,
                   .nvariant = m->nplan,
                   .listed = m->kind == ROWS_LISTED};
  AotTensor *all = arena_array(b->a, AotTensor, e->nin + e->nout);
  x->in = all;
  x->out = all + e->nin;
  x->nnext = e->nnext, x->next = e->next_state;
  x->variant = arena_array(b->a, AotVariant, m->nplan);
  for (int i = 0; i < e->nin + e->nout; i++) {
    all[i] = i < e->nin ? aot_tensor(b, &e->in[i], e->in[i].batched)
                        : aot_tensor(b, &e->out[i - e->nin], m->out_batched[i - e->nin]);
    all[i].name = safe_name(b, all[i].name, e->batch, i, all);
  }
  for (int i = 0; i < m->nplan; i++)
    x->variant[i] = (AotVariant){m->kind == ROWS_FIXED ? 0 : m->shot[i].rows, m->shot[i].r};
  const Shot *large = &m->shot[m->nplan - 1];
  int64_t rows = m->kind == ROWS_FIXED ? 1 : large->rows;
  x->flops = region_flops(b, &large->r) / (double)rows;
  for (int i = 0; i < e->nin; i++) x->bytes += tensor_size(&x->in[i], 1);
  for (int i = 0; i < e->nout; i++) x->bytes += tensor_size(&x->out[i], 1);
}

static void make_library(Build *b) {
  AotLibrary *l = &b->lib;
  Konsts konst = {0};
  l->first_input = EXPORT_SLOT;
  l->threads = b->h->o.threads;
  l->cuda = b->o->cuda;
  l->cache_dir = host_cache_dir(b->h);
  l->nexport = b->x.n;
  l->export = arena_array(b->a, AotExport, b->x.n);
  b->golden = arena_array(b->a, AotGolden, b->x.n);
  for (int k = 0; k < b->x.n; k++) {
    make_export(b, k, &l->export[k]);
    for (int i = 0; i < b->x.made[k].nplan; i++) collect_constants(b, &b->x.made[k].shot[i].r, &konst);
    l->export[k].golden = golden_call(b, k, &l->export[k]);
  }
  for (int i = 0; i < konst.n; i++) {
    konst.at[i].t = &b->h->slot.at[konst.at[i].slot];
    if (!konst.at[i].name || !*konst.at[i].name) konst.at[i].name = arena_printf(b->a, "const_%d", i);
    for (int j = 0; j < i; j++)
      if (!strcmp(konst.at[i].name, konst.at[j].name))
        konst.at[i].name = arena_printf(b->a, "%s_%d", konst.at[i].name, i);
  }
  l->nconst = konst.n, l->konst = konst.at;
  l->nstate = b->x.nstate;
  l->first_state = EXPORT_STATE_SLOT;
  l->state = arena_array(b->a, AotConst, b->x.nstate);
  for (int i = 0; i < b->x.nstate; i++)
    l->state[i] = (AotConst){b->x.state[i].name, b->state_slot[i], &b->h->slot.at[b->state_slot[i]]};
  const char *w = b->o->weights;
  l->weights = !w ? AOT_EMBED : !strcmp(w, "caller") ? AOT_CALLER : AOT_FILE;
  if (l->weights == AOT_FILE) l->weights_file = w; /* relative: beside the library */
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

/* ---- Files ------------------------------------------------------------------------------------------------------- */
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

/* "dir/libfashion.so" -> "fashion". False: it can be no prefix of C functions. */
static bool name_of_path(Arena *a, const char *path, char **name) {
  const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
  if (!strncmp(base, "lib", 3)) base += 3;
  *name = arena_strdup(a, base);
  char *dot = strrchr(*name, '.');
  if (dot) *dot = 0;
  bool ok = isalpha((unsigned char)**name) || **name == '_';
  for (char *p = *name; *p; p++) {
    if (*p == '-' || *p == '.') *p = '_';
    ok = ok && (isalnum((unsigned char)*p) || *p == '_');
  }
  return ok;
}

static int write_all(Build *b, const char *path, const char *dir, const AotOutput *o) {
  const char *emit = b->o->emit, *name = b->lib.name, *why;
  char *stem = arena_printf(b->a, "%s%s", dir, name);
  bool ok;
  if (!strcmp(emit, "llvm") || !strcmp(emit, "asm"))
    return write_text(path, o->object, o->nobject) ? EXIT_OK : EXIT_RUN;
  bool cross = aot_is_cross(b->o->target), obj = !strcmp(emit, "obj"), no_compiler = false;
  char *made = NULL;
  size_t nrt = 0;
  const char *rt = cross ? NULL : aot_runtime(&nrt);
  if (cross && aot_cross_runtime(b->a, &made, &nrt, &no_compiler, &why)) rt = made;
  if (obj && no_compiler) {
    ok = write_text(path, o->object, o->nobject) && aot_write_sources(b->a, arena_printf(b->a, "%s_rt", stem), &why);
    if (ok)
      fprintf(stderr,
              "tg: there is no compiler for %s: the runtime's source is in %s_rt (compile codegen/rt/*.c with -I. "
              "-D_GNU_SOURCE)\n",
              b->o->target, stem);
  } else if (obj && rt) {
    ok = write_text(path, o->object, o->nobject) && write_text(arena_printf(b->a, "%s_rt.o", stem), rt, nrt);
  } else {
    ok = rt && aot_link(b->a, path, cross, o->object, o->nobject, rt, nrt, &why);
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
  fprintf(stderr, "%s: %d kernels; a context of %d threads takes %zu bytes; calls allocate nothing\n", path, o->kernels,
          lo.threads, bytes);
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
    out = arena_printf(b->a, "%s%.*s%s", so ? "lib" : "", n, base,
                       so                           ? ".so"
                       : !strcmp(b->o->emit, "obj") ? ".o"
                       : !strcmp(b->o->emit, "asm") ? ".s"
                       : !strcmp(b->o->emit, "dot") ? ".dot"
                                                    : ".ll");
  }
  const char *slash = strrchr(out, '/');
  dir = slash ? arena_strndup(b->a, out, (size_t)(slash - out) + 1) : "";
  if (!name_of_path(b->a, out, &name)) {
    fprintf(stderr, "tg: `%s` cannot be the prefix of C functions; give a name by -o libNAME.so\n", name);
    return EXIT_USAGE;
  }
  if (!exports_rows(&b->x, b->o->batch)) return EXIT_USAGE;
  b->lib.name = name;
  b->lib.source = path;
  b->x.name = name;
  bool ok = session_unit(h->session, diag_source(h->diags, path, text, len), UNIT_SCRIPT, &b->x.unit);
  ok = ok && exports_check(&b->x) && exports_shoot(&b->x);
  host_report(h);
  if (!ok) return EXIT_COMPILE;
  if (!b->x.n) {
    fprintf(stderr, "tg: %s exports nothing; write `export name(x: [B, 784]) = ...`\n", path);
    return EXIT_COMPILE;
  }
  if (!run_script(b, &fault)) return fault_code(b, &fault);
  make_library(b);
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
  if (code == EXIT_OK && h->o.stats && !strcmp(b->o->emit, "so") && !aot_is_cross(b->o->target))
    print_memory(b, out, &o);
  return code;
}

int build_check(Host *h, const char *path, const char *batch) {
  Exports x = {.h = h, .g = session_graph(h->session), .a = h->arena};
  char *name;
  if (!session_exports(h->session)) return EXIT_OK;
  if (!exports_rows(&x, batch)) return EXIT_USAGE;
  name_of_path(h->arena, path, &name);
  x.name = name;
  return exports_check(&x) ? EXIT_OK : EXIT_COMPILE;
}

int build_run(const HostOptions *ho, const BuildOptions *o, const char *path) {
  size_t len;
  char *text = host_read_file(path, &len);
  if (!text) return EXIT_USAGE;
  HostOptions untrained = *ho;
  untrained.no_fit = o->no_fit;
  Host *h = host_new(&untrained);
  host_catch_interrupt();
  Graph *g = session_graph(h->session);
  Build b = {.h = h, .o = o, .x = {.h = h, .g = g, .a = h->arena}, .g = g, .a = h->arena};
  int code = build_unit(&b, path, text, len);
  host_free(h);
  free(text);
  return code;
}
