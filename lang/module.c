/* Modules: a file's top level, item by item, each under its own error boundary; imports; the prelude. */
#include "lang/session.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the boundary ---------------------------------------------------------------------------------------------- */

static bool same_place(const Diag *a, const Diag *b) {
  return a->id == b->id && a->warning == b->warning && a->span.file == b->span.file && a->span.lo == b->span.lo &&
         a->span.hi == b->span.hi;
}

/* A definition that is wrong fails in each call: the first report is enough. */
static void drop_repeat(Diags *d) {
  Diag *prev = NULL;
  bool repeat = false;
  for (Diag *g = d->first; g && g != d->last; prev = g, g = g->next) repeat |= same_place(g, d->last);
  if (!repeat || !prev) return;
  if (d->last->warning)
    d->nwarning--;
  else
    d->nerror--;
  prev->next = NULL, d->last = prev;
}

static bool covers(Span a, Span b) { return a.file == b.file && a.lo <= b.lo && b.hi <= a.hi; }

static bool in_library(Elab *E, Span at) {
  const Session *s = E->session;
  for (int k = 0; k < s->library_file.n; k++)
    if (s->library_file.at[k] == at.file) return true;
  return false;
}

Span user_span(Elab *E, Span at) {
  if (!E->frame || !in_library(E, at)) return at;
  for (const Frame *f = E->frame; f; f = f->up)
    if (f->call.file && !in_library(E, f->call)) return f->call;
  return at;
}

/* What goes wrong inside the library is shown at the user's call of it; the calls around the place follow, innermost
 * first. */
static void note_calls(Elab *E, const Frame *inner, const Frame *outer) {
  int n = 0, shown = 3;
  Diag *g = E->d->last;
  if (in_library(E, g->span)) {
    while (inner && inner != outer && (!inner->call.file || in_library(E, inner->call))) inner = inner->up;
    if (inner && inner != outer) {
      diag_note(E->d, g, g->span, "raised here, in the library's `%s`", inner->fname);
      g->span = inner->call;
      inner = inner->up;
    }
  }
  for (const Frame *f = inner; f && f != outer; f = f->up)
    if (f->call.file && !in_library(E, f->call) && !covers(f->call, g->span) && n++ < shown)
      diag_note(E->d, g, f->call, "in this call of `%s`", f->fname);
  if (n > shown) diag_note(E->d, g, (Span){0}, "... and %d calls more around it", n - shown);
}

bool elab_guarded(Elab *E, void (*fn)(Elab *E, void *ctx), void *ctx) {
  const Elab keep = *E; /* the arena keeps what its vectors pointed to */
  const bool quiet = E->d->quiet;
  Diag *const before = E->d->last;
  const Span span = E->g->span;
  volatile bool ok = false;
  DIAG_TRY(E->d) {
    fn(E, ctx);
    ok = true;
  }
  DIAG_CAUGHT(E->d) {
    E->d->quiet = quiet;
    if (E->d->last != before && !quiet) {
      note_calls(E, E->frame, keep.frame);
      drop_repeat(E->d);
    }
    *E = keep;
    E->g->span = span;
  }
  DIAG_END(E->d);
  return ok;
}

/* ---- modules --------------------------------------------------------------------------------------------------- */

Module *module_new(Session *s, Name name, const char *dir, bool library) {
  Arena *a = s->opt.arena;
  Module *m = arena_new_of(a, Module);
  m->name = name, m->dir = dir, m->library = library;
  m->top = arena_new_of(a, Env);
  return m;
}

Value *module_member(Elab *E, Module *m, Name name) {
  (void)E;
  const Env *b = env_find(m->top, name);
  return b ? b->v : map_get(&m->def, name);
}

const char *source_dir(Elab *E, uint32_t file) {
  const char *name = E->d->source.at[file - 1]->name, *slash = strrchr(name, '/');
  return slash ? arena_strndup(E->a, name, (size_t)(slash - name) + 1) : "";
}

static bool read_file(Elab *E, const char *path, char **text, size_t *len, Span at) {
  FILE *f = fopen(path, "rb");
  if (!f) {
    if (errno != ENOENT) diag_fail(E->d, M_IMPORT, at, "cannot read %s: %s", path, strerror(errno));
    return false;
  }
  VEC(char) buf = {0};
  char chunk[4096];
  size_t n;
  while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
    for (size_t i = 0; i < n; i++) vec_push(E->a, &buf, chunk[i]);
  bool bad = ferror(f) != 0;
  fclose(f);
  if (bad) diag_fail(E->d, M_IMPORT, at, "cannot read %s", path);
  *text = buf.at ? buf.at : "", *len = (size_t)buf.n;
  return true;
}

/* Parses and runs a module's text in a state of its own; its effects join the unit's, in order. */
static bool module_load(Elab *E, Module *m, const char *source, const char *text, size_t len) {
  Elab keep = *E;
  bool quiet = E->d->quiet;
  E->d->quiet = false;
  E->index = NULL, E->guard = NULL, E->trial = false, E->effects_allowed = true;
  E->constraint.n = E->constraint.cap = 0, E->constraint.at = NULL;
  E->tried.n = E->tried.cap = 0, E->tried.at = NULL;
  E->unrolled = 0, E->module = m, E->stream = (Stream){0};
  int errors = E->d->nerror;
  m->loading = true;
  uint32_t id = diag_source(E->d, source, text, len);
  if (m->library) vec_push(E->session->opt.arena, &E->session->library_file, id);
  Ast *file = parse_file(E->d, E->a, E->names, id);
  bool ok = E->d->nerror == errors && module_run(E, m, file, false);
  m->loading = false;
  keep.effect.at = E->effect.at, keep.effect.n = E->effect.n, keep.effect.cap = E->effect.cap;
  *E = keep;
  E->d->quiet = quiet;
  return ok;
}

static const char *const scope_name[SCOPE_MODULES] = {"prelude", "nn", "train"};

bool session_in_scope(const char *module) {
  for (int k = 0; k < SCOPE_MODULES; k++)
    if (!strcmp(scope_name[k], module)) return true;
  return false;
}

Module *module_scope(Session *s, int k) {
  if (s->scope[k]) return s->scope[k];
  Arena *a = s->opt.arena;
  size_t len;
  const Hooks *h = s->opt.hooks;
  const char *text = h->library ? h->library(h->ctx, scope_name[k], &len) : NULL;
  char *source = arena_printf(a, "stdlib/%s.tg", scope_name[k]);
  Name key = name_of(s->E.names, source, strlen(source));
  Module *m = map_get(&s->module, key); /* `import nn` may have come first */
  s->scope[k] = m ? m : module_new(s, name_of(s->E.names, scope_name[k], strlen(scope_name[k])), NULL, true);
  if (m || !text) return s->scope[k];
  map_put(a, &s->module, key, s->scope[k]);
  module_load(&s->E, s->scope[k], source, text, len);
  return s->scope[k];
}

/* ---- import ---------------------------------------------------------------------------------------------------- */

static _Noreturn void fail_import(Elab *E, Ast *e, const char *path) {
  Diag *g = diag_add(E->d, M_IMPORT, e->span, "no module `%s`", e->name);
  static const char *const known[] = {"data", "linalg", "ml", "nn", "opt", "models", "onnx"};
  const char *s = closest_name(e->name, (int)(sizeof known / sizeof *known), known);
  if (path) diag_note(E->d, g, (Span){0}, "neither %s nor the library has it", path);
  if (s) diag_help(E->d, g, "did you mean `%s`?", s);
  elab_fail(E, g);
}

static Module *import_one(Elab *E, Ast *e) {
  Session *s = E->session;
  char *text = NULL;
  size_t len = 0;
  const char *dir = E->module->dir, *path = dir ? arena_printf(E->a, "%s%s.tg", dir, e->name) : NULL;
  bool own = path && read_file(E, path, &text, &len, e->span);
  const char *source = own ? path : arena_printf(E->a, "stdlib/%s.tg", e->name);
  Name key = name_of(E->names, source, strlen(source));
  Module *m = map_get(&s->module, key);
  if (m && m->loading)
    diag_fail(E->d, M_CYCLE, e->span, "`%s` is being imported already: modules import each other", e->name);
  if (m && m->file) return m;
  if (!own && s->opt.hooks->library) text = (char *)s->opt.hooks->library(s->opt.hooks->ctx, e->name, &len);
  if (!text) fail_import(E, e, path);
  m = module_new(s, e->name, own ? dir : NULL, !own);
  map_put(s->opt.arena, &s->module, key, m);
  if (!module_load(E, m, source, text, len)) {
    m->file = NULL; /* a later import tries again */
    diag_unwind(E->d);
  }
  return m;
}

const Env *elab_import(Elab *E, const Env *env, Ast *e) {
  for (int k = 0; k < e->nkid; k++) {
    Ast *i = e->kid[k];
    Value *v = arena_new_of(E->a, Value);
    v->kind = V_MODULE, v->module = import_one(E, i);
    env = env_bind(E, env, i->a ? i->a->name : i->name, v, i->span);
  }
  return env;
}

/* ---- arg ------------------------------------------------------------------------------------------------------- */

static Value *parse_arg(Elab *E, Ast *e, Value *like, const char *text) {
  char *end;
  bool want_int = like ? like->kind == V_NUM && !like->num.is_float : e->type && name_is(e->type->name, "int");
  bool want_str = like ? like->kind == V_STR : e->type && name_is(e->type->name, "string");
  bool want_bool = like ? like->kind == V_BOOL : e->type && name_is(e->type->name, "bool");
  DType t;
  if (!like && e->type && e->type->name && dt_by_name(e->type->name, (int)strlen(e->type->name), &t))
    want_int |= dt_is_int(t);
  bool open = !like && !e->type; /* neither default nor annotation: what it looks like */
  if (want_str) return v_str(E, text, strlen(text));
  if ((want_bool || open) && !strcmp(text, "true")) return v_bool(E, true);
  if ((want_bool || open) && !strcmp(text, "false")) return v_bool(E, false);
  errno = 0;
  long long i = strtoll(text, &end, 10);
  bool whole = *text && !*end && !errno;
  if (whole && !want_bool)
    return want_int || open || (like && !like->num.is_float) ? v_int(E, i, NULL) : v_float(E, (double)i);
  double f = strtod(text, &end);
  if (*text && !*end && !want_int && !want_bool) return v_float(E, f);
  if (open) return v_str(E, text, strlen(text));
  diag_fail(E->d, U_USAGE, e->span, "--%s %s: %s is expected", e->name, text,
            want_int    ? "an integer"
            : want_bool ? "true or false"
                        : "a number");
}

static const Env *elab_arg(Elab *E, const Env *env, Ast *e) {
  Session *s = E->session;
  vec_push(s->opt.arena, &s->arg_used, e->name);
  Value *v = e->a ? elab_expr(E, env, e->a) : NULL;
  const char *given = NULL;
  for (int k = 0; k + 1 < s->opt.narg; k += 2)
    if (!strcmp(s->opt.arg[k], e->name)) given = s->opt.arg[k + 1];
  if (given) v = parse_arg(E, e, v, given);
  if (!v) {
    Diag *g = diag_add(E->d, U_USAGE, e->span, "the argument --%s is missing", e->name);
    diag_help(E->d, g, "give a value on the command line, --%s VALUE, or a default: arg %s = ...", e->name, e->name);
    elab_fail(E, g);
  }
  if (e->type) {
    Sig sig;
    sig_begin(E, &sig, env, e->name);
    v = sig_match(E, &sig, e->type, v, arena_printf(E->a, "`%s`", e->name), e->span);
  }
  return env_bind(E, env, e->name, v, e->at);
}

/* ---- items ----------------------------------------------------------------------------------------------------- */

static Ast *def_of(Ast *item) {
  return item->kind == AST_EXPORT ? item->a : item->kind == AST_DEF || item->kind == AST_MODEL ? item : NULL;
}

static void hoist(Elab *E, Module *m, Ast *item) {
  Ast *def = def_of(item);
  if (!def) return;
  Session *s = E->session;
  Value *known = map_get(&m->def, def->name);
  Fun *f = fun_def(E, def, NULL);
  f->module = m;
  if (def->kind == AST_MODEL) f->kind = FUN_MODEL;
  if (known && known->kind == V_FUN) { /* callers hold on to the Fun */
    vec_push(s->opt.arena, &s->redefined, ((Redefined){known->fun, *known->fun}));
    *known->fun = *f;
    return;
  }
  Value *v = v_fun(E, f);
  if (m == s->main && !known) vec_push(s->opt.arena, &s->hoisted, def->name);
  map_put(s->opt.arena, &m->def, def->name, v);
}

/* Is item k's name defined above it? Then it is reported and left out. */
static bool defined_twice(Elab *E, Ast *file, int k) {
  Ast *a = def_of(file->kid[k]);
  for (int j = 0; a && j < k; j++) {
    Ast *b = def_of(file->kid[j]);
    if (!b || a->name != b->name) continue;
    Diag *g = diag_add(E->d, N_TWICE, a->at, "`%s` is defined twice", a->name);
    diag_note(E->d, g, b->at, "the first definition is here");
    return true;
  }
  return false;
}

typedef struct Run {
  Module *m;
  Ast *item;
  bool show, entry;
} Run;

static bool hidden(Elab *E, Ast *e) { /* a `;` after the expression silences the prompt */
  const Source *s = E->d->source.at[e->span.file - 1];
  size_t i = e->span.hi;
  while (i < s->len && (s->text[i] == ' ' || s->text[i] == '\t')) i++;
  return i < s->len && s->text[i] == ';';
}

static void show_value(Elab *E, Module *m, Ast *e, Value *v) {
  if (v->kind == V_NONE) return;
  m->top = env_bind(E, m->top, name_of(E->names, "ans", 3), v, e->span);
  if (hidden(E, e)) return;
  Template t = {0};
  template_value(E, &t, v, NULL, e->span, v->kind == V_STR && !v->str.narg);
  template_print(E, &t, e->span);
}

static void run_item(Elab *E, void *ctx) {
  Run *r = ctx;
  Module *m = r->m;
  Ast *e = r->item;
  switch (e->kind) {
  case AST_IMPORT:
    m->top = elab_import(E, m->top, e);
    return;
  case AST_ARGDECL:
    m->top = elab_arg(E, m->top, e);
    return;
  case AST_DEF:
  case AST_EXPORT:
  case AST_MODEL: {
    Ast *def = def_of(e);
    Value *v = map_get(&m->def, def->name);
    if (v->kind == V_FUN && v->fun->ast == def) v->fun->env = m->top;
    m->top = env_bind(E, m->top, def->name, v, def->at);
    return;
  }
  case AST_EXPR: {
    int effects = E->effect.n;
    Value *v = elab_expr(E, m->top, e->a);
    if (r->show)
      show_value(E, m, e, v);
    else if (E->effect.n == effects && v->kind != V_NONE && !(v->kind == V_TUPLE && v->agg.n == 0) && !r->entry) {
      Diag *g = diag_warn(E->d, N_UNUSED, e->span, "nothing uses this value, %s", v_type_text(E, v));
      diag_help(E->d, g, "print(...) shows it");
    }
    return;
  }
  default:
    m->top = elab_stmt(E, m->top, e);
    return;
  }
}

static void poison_targets(Elab *E, Module *m, int n, Ast *const *target) {
  for (int k = 0; k < n; k++) {
    if (!target[k]->name) {
      poison_targets(E, m, target[k]->nkid, target[k]->kid);
      continue;
    }
    Value *v = arena_new_of(E->a, Value);
    v->kind = V_POISON;
    m->top = env_bind(E, m->top, target[k]->name, v, target[k]->span);
  }
}

static void poison_item(Elab *E, Module *m, Ast *e) {
  if (e->kind == AST_BIND) poison_targets(E, m, e->nkid, e->kid);
  if (e->kind == AST_ARGDECL) poison_targets(E, m, 1, &e);
  if (e->kind == AST_IMPORT)
    for (int k = 0; k < e->nkid; k++) poison_targets(E, m, 1, e->kid[k]->a ? &e->kid[k]->a : &e->kid[k]);
}

static void check_item(Elab *E, void *ctx) {
  Ast *item = ctx, *def = def_of(item);
  lint_unused(E, item);
  Value *v = def ? map_get(&E->module->def, def->name) : NULL;
  if (v && v->kind == V_FUN && v->fun->ast == def && v->fun->kind == FUN_DEF) def_check(E, v->fun);
}

static bool interrupted(const Elab *E) { return E->interrupt && *E->interrupt; }

bool module_run(Elab *E, Module *m, Ast *file, bool show) {
  int errors = E->d->nerror;
  m->file = file;
  E->module = m;
  for (int k = 0; k < file->nkid; k++)
    if (!defined_twice(E, file, k)) hoist(E, m, file->kid[k]);
  for (int k = 0; k < file->nkid && !interrupted(E); k++) {
    Run r = {m, file->kid[k], show && k == file->nkid - 1, show};
    if (!elab_guarded(E, run_item, &r)) poison_item(E, m, file->kid[k]);
  }
  for (int k = 0; k < file->nkid && !m->library && !interrupted(E); k++) elab_guarded(E, check_item, file->kid[k]);
  return E->d->nerror == errors;
}
