/* Sessions: units in, regions out; what the prompt keeps, shows, completes and documents. */
#include "lang/data.h"
#include "lang/model.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

Session *session_new(const SessionOptions *o) {
  Session *s = arena_new_of(o->arena, Session);
  s->opt = *o;
  Elab *E = &s->E;
  E->session = s, E->d = o->diags, E->a = o->arena;
  E->g = graph_new(o->arena, o->diags);
  E->names = names_new(o->arena);
  E->hooks = o->hooks, E->natives = o->natives, E->interrupt = o->interrupt;
  E->effects_allowed = true;
  s->main = module_new(s, name_of(E->names, "main", 4), "", false);
  E->module = s->main;
  return s;
}

Graph *session_graph(Session *s) { return s->E.g; }
Names *session_names(Session *s) { return s->E.names; }

/* ---- a stack of our own ---------------------------------------------------------------------------------------- */

/* Elaboration recurses with the program: 1,000 calls of 1,000 nested expressions. It runs on a thread whose stack is as
 * large as the system grants, and stops with a diagnostic 256 KB before its end. */
typedef struct Job {
  Session *s;
  void (*fn)(Session *s, void *ctx);
  void *ctx;
  size_t stack;
} Job;

enum { STACK_RESERVE = 256 << 10 };

static void *job_main(void *p) {
  Job *j = p;
  j->s->E.stack_low = (const char *)__builtin_frame_address(0) - j->stack + STACK_RESERVE;
  j->fn(j->s, j->ctx);
  return NULL;
}

void session_on_stack(Session *s, void (*fn)(Session *s, void *ctx), void *ctx) {
  for (size_t mb = 512; mb >= 1; mb /= 2) {
    Job j = {s, fn, ctx, mb << 20};
    pthread_attr_t attr;
    pthread_t t;
    if (pthread_attr_init(&attr)) break;
    bool ok = !pthread_attr_setstacksize(&attr, j.stack) && !pthread_create(&t, &attr, job_main, &j);
    pthread_attr_destroy(&attr);
    if (!ok) continue;
    pthread_join(t, NULL);
    return;
  }
  Job j = {s, fn, ctx, 1 << 20}; /* no thread to be had: the caller's stack, of which a part is used already */
  job_main(&j);
}

/* ---- units ----------------------------------------------------------------------------------------------------- */

typedef struct Unit {
  uint32_t file;
  UnitKind kind;
  Region *out;
  bool ok;
} Unit;

static void check_args_used(Session *s) {
  for (int k = 0; k + 1 < s->opt.narg; k += 2) {
    bool used = false;
    for (int j = 0; j < s->arg_used.n; j++) used |= !strcmp(s->arg_used.at[j], s->opt.arg[k]);
    if (used) continue;
    Diag *g = diag_add(s->E.d, U_USAGE, (Span){0}, "--%s: the program declares no such argument", s->opt.arg[k]);
    const char *near = closest_name(s->opt.arg[k], s->arg_used.n, s->arg_used.at);
    if (near) diag_help(s->E.d, g, "did you mean --%s?", near);
  }
}

static void begin(Session *s, uint32_t file) {
  Elab *E = &s->E;
  E->effect.n = E->constraint.n = E->tried.n = 0;
  E->effects_allowed = true, E->depth = 0, E->frame = NULL;
  s->main->dir = source_dir(E, file);
  s->entry_top = s->main->top, s->entry_stream = E->stream;
  s->pending.n = s->redefined.n = s->hoisted.n = 0;
}

static void find_pending(Session *s);

static void run_unit(Session *s, void *ctx) {
  Unit *u = ctx;
  Elab *E = &s->E;
  int errors = E->d->nerror;
  begin(s, u->file);
  s->saved.n = s->loaded.n = 0;
  Ast *file = parse_file(E->d, E->a, E->names, u->file);
  u->ok = E->d->nerror == errors && module_run(E, s->main, file, u->kind == UNIT_ENTRY);
  if (u->ok && u->kind == UNIT_SCRIPT) check_args_used(s);
  u->ok = E->d->nerror == errors;
  if (!u->ok) {
    session_abandon(s);
    return;
  }
  if (u->kind == UNIT_ENTRY) find_pending(s);
  *u->out = (Region){.neffect = E->effect.n, .effect = E->effect.at};
  E->effect.n = E->effect.cap = 0, E->effect.at = NULL;
}

bool session_unit(Session *s, uint32_t file, UnitKind kind, Region *out) {
  *out = (Region){0};
  Unit u = {.file = file, .kind = kind, .out = out};
  session_on_stack(s, run_unit, &u);
  return u.ok;
}

/* ---- what the prompt keeps ------------------------------------------------------------------------------------- */

typedef struct Walk {
  Session *s;
  VEC(const void *) seen;
} Walk;

static bool first_visit(Walk *w, const void *p) {
  for (int k = 0; k < w->seen.n; k++)
    if (w->seen.at[k] == p) return false;
  vec_push(w->s->opt.arena, &w->seen, p);
  return true;
}

/* A view of something that exists already needs no run. */
static bool is_kept(const TensorV *t) {
  const Expr *e = t->e;
  if (e->kind == EX_CONST || e->kind == EX_ITER || e->kind == EX_LIN) return true;
  return e->kind == EX_LOAD && (e->node->kind == ND_INPUT || e->node->kind == ND_CONST) && !e->checked;
}

static void walk_value(Walk *w, Value *v);

static void walk_env(Walk *w, const Env *env) {
  for (; env && env != w->s->entry_top && first_visit(w, env); env = env->up)
    if (env->v) walk_value(w, env->v);
}

static void walk_form(Walk *w, const DataForm *f) {
  if (!f) return;
  if (f->f) walk_value(w, f->f);
  for (int k = 0; f->of && k < f->n; k++) walk_form(w, f->of[k]);
}

/* What a set's passes are given, and what its mapped functions see. */
static void walk_data(Walk *w, const DataV *d) {
  for (int k = 0; k < d->nkey; k++) walk_value(w, d->key[k]);
  for (int k = 0; k < d->ntensor; k++) walk_value(w, d->tensor[k]);
  walk_form(w, d->form), walk_form(w, d->after);
}

static void walk_value(Walk *w, Value *v) {
  switch (v->kind) {
  case V_TENSOR:
    if (is_kept(&v->t) || v->t.e->nvar || !first_visit(w, v)) return;
    vec_push(w->s->opt.arena, &w->s->pending, v);
    return;
  case V_TUPLE:
  case V_RECORD:
  case V_ZIP:
    if (first_visit(w, v))
      for (int k = 0; k < v->agg.n; k++) walk_value(w, v->agg.at[k]);
    return;
  case V_RANGE:
    walk_value(w, v->range.lo), walk_value(w, v->range.hi);
    return;
  case V_DATA:
    if (first_visit(w, v)) walk_data(w, data_of(v));
    return;
  case V_MODEL:
    if (!first_visit(w, v->model)) return;
    for (int k = 0; k < v->model->n; k++)
      if (v->model->at[k].kind != MEM_DERIVED) walk_value(w, v->model->at[k].v);
    return;
  case V_FUN:
    if (!first_visit(w, v->fun)) return;
    if (v->fun->kind != FUN_BUILTIN && v->fun->kind != FUN_DERIVED) walk_env(w, v->fun->env);
    for (int k = 0; k < v->fun->ndata; k++) walk_value(w, v->fun->data[k]);
    return;
  default:
    return;
  }
}

static void find_pending(Session *s) {
  Walk w = {.s = s};
  walk_env(&w, s->main->top);
}

int session_pending(Session *s, Node ***out) {
  *out = arena_array(s->opt.arena, Node *, s->pending.n);
  for (int k = 0; k < s->pending.n; k++) (*out)[k] = tv_closed(&s->E, s->pending.at[k]);
  return s->pending.n;
}

void session_commit(Session *s, const int64_t *slot) {
  Elab *E = &s->E;
  for (int k = 0; k < s->pending.n; k++) {
    TensorV *t = &s->pending.at[k]->t;
    int64_t dim[TG_MAX_RANK];
    for (int a = 0; a < t->rank; a++) dim[a] = t->dim[a].n;
    t->dtype = tv_hard_dtype(t), t->weak = false; /* t->id stays: it is the parameter still */
    t->e = ex_load_full(E->g, nd_input(E->g, t->dtype, t->rank, dim, NULL, slot[k]), 0);
  }
  s->pending.n = s->redefined.n = s->hoisted.n = 0;
}

void session_abandon(Session *s) {
  s->main->top = s->entry_top;
  s->E.stream = s->entry_stream;
  for (int k = 0; k < s->hoisted.n; k++) map_put(s->opt.arena, &s->main->def, s->hoisted.at[k], NULL);
  for (int k = s->redefined.n - 1; k >= 0; k--) *s->redefined.at[k].fun = s->redefined.at[k].old;
  s->pending.n = s->redefined.n = s->hoisted.n = 0;
}

/* ---- asking without running ------------------------------------------------------------------------------------ */

typedef struct Query {
  uint32_t file;
  Arena *a;
  char *text;
  Ast *expr;
  Value *v;
} Query;

static void eval_query(Elab *E, void *ctx) {
  Query *q = ctx;
  q->v = elab_expr(E, E->session->main->top, q->expr);
}

static void run_type(Session *s, void *ctx) {
  Query *q = ctx;
  Elab *E = &s->E;
  int errors = E->d->nerror;
  Ast *file = parse_file(E->d, E->a, E->names, q->file);
  if (E->d->nerror > errors) return;
  if (file->nkid != 1 || file->kid[0]->kind != AST_EXPR) {
    diag_add(E->d, P_SYNTAX, file->span, ":t takes one expression");
    return;
  }
  q->expr = file->kid[0]->a;
  Elab keep = *E; /* nothing of this is kept: effects, draws */
  E->effects_allowed = true, E->effect.n = E->effect.cap = 0, E->effect.at = NULL;
  E->module = s->main;
  bool ok = elab_guarded(E, eval_query, q);
  *E = keep;
  if (!ok) return;
  Value *v = q->v;
  const char *t = v_type_text(E, v);
  if (v->kind == V_NUM) t = arena_printf(E->a, "static %s", t + strlen("the number "));
  if (v->kind == V_BOOL) t = arena_printf(E->a, "static %s", t);
  q->text = arena_strdup(q->a, t);
}

char *session_type(Session *s, uint32_t file, Arena *a) {
  Query q = {.file = file, .a = a};
  session_on_stack(s, run_type, &q);
  return q.text;
}

/* ---- completion and documentation ------------------------------------------------------------------------------ */

typedef struct Found {
  Arena *a;
  const char *prefix, *keep;
  size_t n;
  VEC(const char *) at;
} Found;

static void offer(Found *f, const char *name) {
  if (!name || (name[0] == '_' && f->prefix[0] != '_') || strncmp(name, f->prefix, f->n)) return;
  const char *full = arena_printf(f->a, "%s%s", f->keep, name);
  for (int k = 0; k < f->at.n; k++)
    if (!strcmp(f->at.at[k], full)) return;
  vec_push(f->a, &f->at, full);
}

static void offer_module(Found *f, const Module *m) {
  for (int k = 0; k < m->def.cap; k++)
    if (m->def.key[k] && m->def.val[k]) offer(f, m->def.key[k]);
  for (const Env *b = m->top; b; b = b->up) offer(f, b->name);
}

static Value *path_member(const ModelV *m, Name name) {
  for (int k = 0; k < m->n; k++)
    if (m->at[k].name == name) return m->at[k].v;
  return NULL;
}

/* The value of a path of plain names, a.b.c; NULL when it is anything else. */
static Value *path_value(Session *s, const char *path, size_t n) {
  Elab *E = &s->E;
  Value *v = NULL;
  for (size_t i = 0, j; i < n; i = j + 1) {
    for (j = i; j < n && path[j] != '.'; j++) {}
    Name name = name_of(E->names, path + i, j - i);
    if (i == 0) {
      const Env *b = env_find(s->main->top, name);
      v = b ? b->v : name_lookup(E, NULL, name);
    } else if (v->kind == V_RECORD) {
      if (!v_field(v, name, &v)) return NULL;
    } else if (v->kind == V_MODULE)
      v = module_member(E, v->module, name);
    else if (v->kind == V_MODEL)
      v = path_member(v->model, name);
    else
      return NULL;
    if (!v || v->kind == V_POISON) return NULL;
  }
  return v;
}

static void offer_members(Found *f, Session *s, Value *v) {
  static const char *const attr[] = {"shape", "dtype", "rank", "t", "at"};
  if (v->kind == V_RECORD)
    for (int k = 0; k < v->agg.n; k++) offer(f, v->agg.key[k]);
  if (v->kind == V_MODULE) offer_module(f, v->module);
  if (v->kind == V_MODEL) {
    for (int k = 0; k < v->model->n; k++) offer(f, v->model->at[k].name);
    for (int k = 0; k < v->model->nmethod; k++) offer(f, v->model->method[k]->name);
    offer(f, "train"), offer(f, "eval");
  }
  if (v->kind == V_TENSOR)
    for (size_t k = 0; k < sizeof attr / sizeof *attr; k++) offer(f, attr[k]);
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

typedef struct Complete {
  const char *prefix;
  Found f;
} Complete;

static void run_complete(Session *s, void *ctx) {
  static const char *const words[] = {"def",  "model",  "fold", "scan",   "for", "in",   "if",
                                      "else", "while",  "and",  "or",     "not", "true", "false",
                                      "none", "import", "arg",  "export", "inf", "nan",  "pi"};
  Complete *c = ctx;
  Found *f = &c->f;
  const char *dot = strrchr(c->prefix, '.');
  s->E.module = s->main;
  if (dot) {
    f->keep = arena_strndup(f->a, c->prefix, (size_t)(dot - c->prefix) + 1);
    f->prefix = dot + 1, f->n = strlen(dot + 1);
    Value *v = path_value(s, c->prefix, (size_t)(dot - c->prefix));
    if (v) offer_members(f, s, v);
  } else {
    f->keep = "", f->prefix = c->prefix, f->n = strlen(c->prefix);
    offer_module(f, s->main);
    for (int k = 0; k < builtin_count(); k++) offer(f, builtin_at(k)->name);
    for (int k = 0; k < DT_COUNT; k++) offer(f, dt_name((DType)k));
    for (size_t k = 0; k < sizeof words / sizeof *words; k++) offer(f, words[k]);
    for (int k = 0; k < SCOPE_MODULES; k++) offer_module(f, module_scope(s, k));
  }
  if (f->at.n) qsort(f->at.at, (size_t)f->at.n, sizeof *f->at.at, by_text);
}

int session_complete(Session *s, const char *prefix, const char ***out, Arena *a) {
  Complete c = {.prefix = prefix, .f = {.a = a}};
  session_on_stack(s, run_complete, &c);
  *out = c.f.at.at;
  return c.f.at.n;
}

typedef struct Doc {
  const char *name;
  Arena *a;
  char *text;
} Doc;

static void run_doc(Session *s, void *ctx) {
  Doc *d = ctx;
  Elab *E = &s->E;
  E->module = s->main;
  Value *v = path_value(s, d->name, strlen(d->name));
  if (!v) return;
  if (v->kind != V_FUN) {
    d->text = arena_strdup(d->a, v_type_text(E, v));
    return;
  }
  const char *doc = v->fun->doc;
  d->text = arena_printf(d->a, "%s%s%s", fun_signature(E, v->fun), doc ? "\n" : "", doc ? doc : "");
}

char *session_doc(Session *s, const char *name, Arena *a) {
  Doc d = {.name = name, .a = a};
  session_on_stack(s, run_doc, &d);
  return d.text;
}
