/* What `_` stands for, and the sub-models of short forms: found by calling `apply` on stand-ins.
 *
 * The stand-ins have the annotated types. Sizes that an annotation leaves open are tried under several assignments; the
 * first that `apply` accepts decides, and a second one must find the same sizes. Nothing of such a call is kept but the
 * sub-models that it made: these are built in the context of the construction, so their initial values do not depend on
 * where in `apply` they are called. */
#include "lang/model.h"
#include "lang/space.h"
#include <string.h>

/* ---- `_` ------------------------------------------------------------------------------------------------------- */

/* Runs in the context of a construction; the result does not see what surrounds the call. */
static Value *build_apart(Elab *E, Build *b, const Stream *stream, const char *path, Fun *def, Call *c, int n,
                          Value **value, Span *at) {
  Elab keep = *E;
  E->stream = *stream, E->path = path, E->build = b;
  E->index = b ? (Index *)b->index : NULL, E->guard = NULL, E->trial = false, E->effects_allowed = true;
  E->next = NULL;
  Value *v = model_build(E, def, c, n, value, at);
  keep.effect = E->effect;
  *E = keep;
  return v;
}

static bool is_literal(const Ast *e) {
  return e->kind == AST_INT || e->kind == AST_FLOAT || e->kind == AST_TRUE || e->kind == AST_FALSE ||
         e->kind == AST_NONE || e->kind == AST_STRING;
}

Value *hole_solve(Elab *E, Hole *h, Call *c) {
  if (h->solved) return h->solved;
  Ast *ast = h->def->ast, *apply = NULL;
  int napply = ast->nkid2;
  Ast **param = ast->kid2;
  if (!ast->ival) {
    for (int k = 0; k < ast->a->nkid; k++)
      if (ast->a->kid[k]->kind == AST_DEF && name_is(ast->a->kid[k]->name, "apply")) apply = ast->a->kid[k];
    if (!apply) diag_fail(E->d, T_MODEL, c->span, "`%s` has no method `apply`, so it cannot be called", h->def->name);
    napply = apply->nkid, param = apply->kid;
  }
  Sig s;
  sig_begin(E, &s, fun_env(h->def), h->def->name);
  for (int k = 0; k < h->n; k++) {
    Value *v = h->value[k];
    if (v && v->kind == V_HOLE) continue;
    if (!v && is_literal(ast->kid[k]->a)) v = elab_expr(E, s.env, ast->kid[k]->a);
    if (v) s.env = env_bind_sig(E, s.env, ast->kid[k]->name, v, h->at[k].file ? h->at[k] : ast->kid[k]->span);
  }
  for (int k = 0; k < napply && k < c->n && !c->arg[k].name; k++)
    if (param[k]->type)
      sig_match(E, &s, param[k]->type, c->arg[k].v, arena_printf(E->a, "`%s`", param[k]->name), c->arg[k].span);
  Value **value = arena_copy(E->a, h->value, sizeof *value * (size_t)h->n);
  for (int k = 0; k < h->n; k++) {
    if (!value[k] || value[k]->kind != V_HOLE) continue;
    const Env *e = s.env;
    while (e != s.outer && !(e->sig && e->name == ast->kid[k]->name)) e = e->up;
    if (e != s.outer) {
      value[k] = e->v;
      continue;
    }
    Diag *g = diag_add(E->d, T_MODEL, h->at[k], "the input of `%s` does not say what `_` is", h->def->name);
    diag_note(E->d, g, ast->at, "its size `%s` does not stand alone in the type of its input", ast->kid[k]->name);
    diag_help(E->d, g, "give the size of `%s`", ast->kid[k]->name);
    elab_fail(E, g);
  }
  Span *at = arena_copy(E->a, h->at, sizeof *at * (size_t)h->n);
  return h->solved = build_apart(E, h->build, &h->stream, h->path, h->def, &h->call, h->n, value, at);
}

/* v with solved models in the place of those with holes. */
static Value *fill(Elab *E, Value *v) {
  if (v->kind == V_MODEL && v->model->hole) {
    Hole *h = v->model->hole;
    if (h->solved) return fill(E, h->solved);
    int k = 0;
    while (!h->value[k] || h->value[k]->kind != V_HOLE) k++;
    Diag *g =
        diag_add(E->d, T_MODEL, h->at[k], "nothing says what `_` is: `apply` never calls this `%s`", h->def->name);
    diag_help(E->d, g, "give the size of `%s`", h->def->ast->kid[k]->name);
    elab_fail(E, g);
  }
  if (v->kind == V_MODEL)
    for (int k = 0; k < v->model->n; k++) v->model->at[k].v = fill(E, v->model->at[k].v);
  if (v->kind == V_TUPLE || v->kind == V_RECORD)
    for (int k = 0; k < v->agg.n; k++) v->agg.at[k] = fill(E, v->agg.at[k]);
  return v;
}

/* ---- stand-ins ------------------------------------------------------------------------------------------------- */

enum { NSIZES = 4, EXAMPLE = NSIZES, NREST = 3 };
static const int64_t sizes[NSIZES + 1][4] = {
    {4, 64, 48, 32}, {3, 8, 6, 10}, {2, 224, 192, 160}, {2, 1, 1, 1}, {1, 64, 64, 64}};
static const int rests[NREST] = {1, 0, 2};

typedef struct Guess {
  int size, rest;
  bool open; /* some size or `...` was guessed at all */
  bool dots;
} Guess;

static int64_t guess_size(void *ctx, int nth) {
  Guess *g = ctx;
  g->open = true;
  return nth < 4 ? sizes[g->size][nth] : sizes[g->size][3] + nth;
}

static Value *stand_in(Elab *E, Sig *s, Guess *g, Ast *type, Name name, int *nth) {
  if (type->kind != AST_TYPE) {
    bool rec = type->kind == AST_TRECORD;
    Value **kid = arena_array(E->a, Value *, type->nkid);
    Name *key = arena_array(E->a, Name, type->nkid);
    for (int k = 0; k < type->nkid; k++) {
      key[k] = type->kid[k]->name;
      kid[k] = stand_in(E, s, g, rec ? type->kid[k]->type : type->kid[k], name, nth);
      if (!kid[k]) return NULL;
    }
    return rec ? v_record(E, type->nkid, key, kid) : v_tuple(E, type->nkid, kid);
  }
  DType dt = DT_F32;
  bool plain = !type->ival;
  if (plain && name_is(type->name, "int")) return v_int(E, 1, NULL);
  if (plain && name_is(type->name, "bool")) return v_bool(E, false);
  if (plain && name_is(type->name, "float")) return v_float(E, 0.5);
  if (name_is(type->name, "int"))
    dt = DT_I64;
  else if (type->name && !dt_by_name(type->name, (int)strlen(type->name), &dt))
    return NULL;
  sig_assign(E, s, type, guess_size, g, nth);
  Ast fixed = *type;
  fixed.nkid = 0, fixed.kid = arena_array(E->a, Ast *, type->nkid);
  int rest = -1;
  for (int k = 0; k < type->nkid; k++)
    if (type->kid[k]->kind == AST_ELLIPSIS)
      rest = fixed.nkid;
    else
      fixed.kid[fixed.nkid++] = type->kid[k];
  Dim dim[TG_MAX_RANK];
  int rank = sig_shape(E, s, &fixed, name, dim), more = rest >= 0 ? rests[g->rest] : 0;
  if (rank + more > TG_MAX_RANK) diag_fail(E->d, S_RANK, type->span, "more than %d axes", TG_MAX_RANK);
  if (rest >= 0) {
    g->open = g->dots = true;
    memmove(dim + rest + more, dim + rest, sizeof *dim * (size_t)(rank - rest));
    for (int k = 0; k < more; k++) dim[rest + k] = (Dim){.n = sizes[g->size][0] + k};
  }
  int64_t n[TG_MAX_RANK];
  for (int k = 0; k < rank + more; k++) n[k] = dim[k].n;
  tv_check_size(E, dt, rank + more, dim, type->span);
  return v_tensor(E, dt, rank + more, dim, ex_load_full(E->g, nd_param(E->g, dt, rank + more, n, name), 0));
}

bool model_call_example(Elab *E, Value *model, Call *c) {
  const ModelV *m = model->model;
  Ast *apply = model_apply(E, m);
  c->arg = arena_array(E->a, Arg, apply->nkid);
  for (int rest = 0; rest < NREST; rest++) {
    Elab keep = *E;
    const bool quiet = E->d->quiet;
    volatile bool ok = false;
    Guess g = {.size = EXAMPLE, .rest = rest};
    E->d->quiet = true;
    DIAG_TRY(E->d) {
      Sig s;
      int nth = 0;
      sig_begin(E, &s, model_env(E, model), m->def->name);
      c->n = 0;
      for (int k = 0; k < apply->nkid; k++) {
        Ast *p = apply->kid[k];
        Value *v = p->type ? stand_in(E, &s, &g, p->type, p->name, &nth) : NULL;
        if (v) c->arg[c->n++] = (Arg){p->name, v, p->at};
      }
      model_call(E, model, c);
      ok = true;
    }
    DIAG_CAUGHT(E->d) { E->d->quiet = quiet; }
    DIAG_END(E->d);
    E->d->quiet = quiet;
    if (ok) return true;
    *E = keep;
    if (!g.dots) break;
  }
  return false;
}

/* ---- one call of apply ----------------------------------------------------------------------------------------- */

static void call_apply(Elab *E, Build *b, Value *self, Guess *g) {
  Ast *apply = model_apply(E, b->m);
  Call c = {
      .span = apply->at, .callee = apply->at, .fname = b->m->def->name, .arg = arena_array(E->a, Arg, apply->nkid)};
  Sig s;
  sig_begin(E, &s, b->env, b->m->def->name);
  int nth = 0;
  for (int k = 0; k < apply->nkid; k++) {
    Ast *p = apply->kid[k];
    Value *v = p->type ? stand_in(E, &s, g, p->type, p->name, &nth) : NULL;
    if (!v && p->a) continue;
    if (!v) {
      Diag *d = diag_add(E->d, T_MODEL, p->type ? p->type->span : p->span,
                         p->type ? "no stand-in can be made for this type, and `%s` needs one to find its sub-models"
                                 : "`%s` needs the type of its input to find its sub-models and the sizes `_`",
                         b->m->def->name);
      if (!p->type) diag_help(E->d, d, "annotate it: %s: [..., 784]", p->name);
      elab_fail(E, d);
    }
    c.arg[c.n++] = (Arg){p->name, v, p->at};
  }
  b->m->build = b;
  for (int mode = 0; mode < 2; mode++) { /* a branch on `training` is taken in one of them */
    Value *m = v_with_mode(E, self, mode == 1);
    model_call(E, m, &c);
  }
  b->m->build = NULL;
}

/* Everything but what the call made is as before. False (and quiet) when it failed. */
static bool try_apply(Elab *E, Build *b, Value *self, Guess *g, bool loud) {
  Elab keep = *E;
  const bool quiet = E->d->quiet;
  volatile bool ok = false;
  E->index = (Index *)b->index, E->guard = NULL, E->trial = false, E->effects_allowed = true;
  E->effect.n = E->effect.cap = 0, E->effect.at = NULL, E->next = NULL, E->build = NULL;
  if (loud) {
    call_apply(E, b, self, g);
    ok = true;
  } else {
    E->d->quiet = true;
    DIAG_TRY(E->d) {
      call_apply(E, b, self, g);
      ok = true;
    }
    DIAG_CAUGHT(E->d) { E->d->quiet = quiet; }
    DIAG_END(E->d);
  }
  E->d->quiet = quiet;
  *E = keep;
  return ok;
}

/* ---- the sub-models of a short form ---------------------------------------------------------------------------- */

static Fun *constructor(Elab *E, const Env *env, const Ast *callee) {
  Value *v = NULL;
  if (callee->kind == AST_NAME) {
    v = name_lookup(E, env, callee->name);
  } else if (callee->kind == AST_MEMBER && callee->a->kind == AST_NAME) {
    v = name_lookup(E, env, callee->a->name);
    v = v && v->kind == V_MODULE ? module_member(E, v->module, callee->name) : NULL;
  }
  return v && v->kind == V_FUN && v->fun->kind == FUN_MODEL ? v->fun : NULL;
}

/* Constructor calls below e, in the order of the text. */
static void find_sites(Elab *E, Build *b, Ast *e) {
  if (!e) return;
  if (e->kind == AST_CALL && constructor(E, b->env, e->a)) vec_push(E->a, &b->site, ((Site){e, -1}));
  find_sites(E, b, e->a);
  for (int k = 0; k < e->nkid2; k++) find_sites(E, b, e->kid2[k]);
  if (e->kind == AST_COND || e->kind == AST_LOOP) { /* c: else, while */
    find_sites(E, b, e->kind == AST_COND ? e->b : e->c);
    find_sites(E, b, e->kind == AST_COND ? e->c : e->b);
  } else {
    find_sites(E, b, e->b);
    find_sites(E, b, e->c);
  }
  for (int k = 0; k < e->nkid; k++) find_sites(E, b, e->kid[k]);
}

/* "dense2": the model's name in small letters and its number among the calls of that name. */
static Name site_name(Elab *E, const Build *b, int site) {
  const Ast *callee = b->site.at[site].call->a;
  int nth = 0;
  for (int k = 0; k <= site; k++) nth += b->site.at[k].call->a->name == callee->name;
  char *s = arena_printf(E->a, "%s%d", callee->name, nth);
  for (char *p = s; *p; p++)
    if (*p >= 'A' && *p <= 'Z') *p = (char)(*p + 32);
  return name_of(E->names, s, strlen(s));
}

static Value *construct_site(Elab *E, const Env *env, Build *b, int site, Fun *def, Ast *call);

Value *elab_construct(Elab *E, const Env *env, Fun *def, Ast *call, Call *c) {
  const Env *found = env_find(env, name_of(E->names, "self", 4));
  const ModelV *m = found && found->v->kind == V_MODEL && found->v->model->def->ast->ival ? found->v->model : NULL;
  for (int k = 0; m && k < m->nsite; k++)
    if (m->site[k].call == call) return m->at[m->site[k].member].v;
  if (m && m->build)
    for (int k = 0; k < m->build->site.n; k++)
      if (m->build->site.at[k].call == call)
        return v_with_mode(E, construct_site(E, env, m->build, k, def, call), m->training);
  c->arg = arena_array(E->a, Arg, call->nkid), c->n = 0;
  for (int k = 0; k < call->nkid; k++) {
    Ast *a = call->kid[k];
    Value *v;
    if (a->a->kind == AST_NAME && name_is(a->a->name, "_")) {
      v = arena_new_of(E->a, Value);
      v->kind = V_HOLE;
    } else
      v = elab_expr(E, env, a->a);
    c->arg[c->n++] = (Arg){a->name, v, a->span};
  }
  return model_construct(E, def, c);
}

static Value *construct_site(Elab *E, const Env *env, Build *b, int site, Fun *def, Ast *call) {
  int at = b->site.at[site].member;
  if (at >= 0) return b->made.at[at].v;
  Name name = site_name(E, b, site);
  Elab keep = *E;
  E->build = b, E->stream = stream_member(&b->stream, name);
  E->path = path_join(E, b->m->path, name);
  E->index = (Index *)b->index, E->guard = NULL, E->next = NULL;
  Ast plain = *call; /* not a site of itself */
  Call c = {.span = call->span, .callee = call->a->span, .fname = def->name, .ast = call};
  Value *v = elab_construct(E, env, def, &plain, &c);
  keep.effect = E->effect;
  *E = keep;
  b->site.at[site].member = b->made.n;
  vec_push(E->a, &b->made, ((Member){.name = name, .kind = MEM_VALUE, .v = v, .span = call->span}));
  return v;
}

/* ---- solving --------------------------------------------------------------------------------------------------- */

/* Back to what was declared. */
static void forget(Build *b) {
  b->made.n = 0, b->hole.n = b->declared;
  for (int k = 0; k < b->site.n; k++) b->site.at[k].member = -1;
  for (int k = 0; k < b->hole.n; k++) b->hole.at[k]->solved = NULL;
}

/* Sub-models become members in the order of the text. */
static void add_sites(Elab *E, Build *b) {
  ModelV *m = b->m;
  Member *all = arena_array(E->a, Member, m->n + b->made.n);
  if (m->n) memcpy(all, m->at, sizeof *all * (size_t)m->n);
  m->at = all, m->site = arena_array(E->a, Site, b->site.n);
  for (int k = 0; k < b->site.n; k++) {
    int at = b->site.at[k].member;
    if (at < 0) continue;
    m->site[m->nsite++] = (Site){b->site.at[k].call, m->n};
    m->at[m->n++] = b->made.at[at];
  }
}

typedef struct Solution {
  int n;
  Hole **hole;
  Value **solved;
} Solution;

static Solution solution_of(Elab *E, const Build *b) {
  Solution s = {
      .n = b->hole.n, .hole = arena_array(E->a, Hole *, b->hole.n), .solved = arena_array(E->a, Value *, b->hole.n)};
  for (int k = 0; k < s.n; k++) s.hole[k] = b->hole.at[k], s.solved[k] = b->hole.at[k]->solved;
  return s;
}

/* What both solutions solve must be of one size. */
static void compare(Elab *E, const Build *b, const Solution *x, const Solution *y) {
  for (int i = 0; i < x->n; i++)
    for (int j = 0; j < y->n; j++) {
      const Hole *h = x->hole[i];
      if (h->call.span.lo != y->hole[j]->call.span.lo ||
          strcmp(h->path ? h->path : "", y->hole[j]->path ? y->hole[j]->path : ""))
        continue;
      if (!x->solved[i] || !y->solved[j]) continue;
      for (int k = 0; k < h->n; k++) {
        int64_t n, m;
        if (!h->value[k] || h->value[k]->kind != V_HOLE) continue;
        if (!v_is_static_int(x->solved[i]->model->at[k].v, &n) || !v_is_static_int(y->solved[j]->model->at[k].v, &m))
          continue;
        if (n == m) continue;
        Ast *apply = model_apply(E, b->m);
        Diag *g = diag_add(E->d, T_MODEL, h->at[k], "the size `_` depends on a size that the input of `%s` leaves open",
                           b->m->def->name);
        if (apply->nkid && apply->kid[0]->type)
          diag_note(E->d, g, apply->kid[0]->type->span,
                    "the type of the input: for two inputs of it `_` is %lld and %lld", (long long)n, (long long)m);
        diag_help(E->d, g, "write that size as a number in the type");
        elab_fail(E, g);
      }
    }
}

/* Assignments of the open sizes in the order in which they are tried; false after the last. */
static bool next_guess(Guess *g) {
  if (g->open && ++g->size < NSIZES) return true;
  g->size = 0;
  return g->dots && ++g->rest < NREST;
}

/* Models in models try in turn: an outermost one has so many calls for all of them. */
enum { MAX_TRIES = 300 };

static bool solve_under(Elab *E, Build *b, Value *self, Guess *g) {
  do {
    forget(b);
    if (*E->tries >= MAX_TRIES) return false;
    ++*E->tries;
    if (try_apply(E, b, self, g, false)) return true;
  } while (next_guess(g));
  return false;
}

void build_solve(Elab *E, Build *b, Value *self) {
  if (!model_apply(E, b->m)) {
    Hole *h = b->hole.at[0];
    diag_fail(E->d, T_MODEL, h->call.span, "`_` is found by calling `apply`, which `%s` does not have",
              b->m->def->name);
  }
  if (b->m->def->ast->ival) find_sites(E, b, b->m->def->ast->a);
  b->declared = b->hole.n;
  Guess g = {0}, other;
  int *outer = E->tries;
  if (!outer) E->tries = arena_new_of(E->a, int);
  if (!solve_under(E, b, self, &g)) { /* say why the first failed */
    if (E->d->quiet) diag_unwind(E->d);
    forget(b);
    g = (Guess){0};
    try_apply(E, b, self, &g, true);
  }
  bool nested = b->up && b->up->m->build;
  other = g;
  if (b->hole.n && !nested && g.open && next_guess(&other)) {
    Solution first = solution_of(E, b);
    if (solve_under(E, b, self, &other)) {
      Solution second = solution_of(E, b);
      compare(E, b, &first, &second);
    }
    forget(b);
    try_apply(E, b, self, &g, true);
  }
  E->tries = outer;
  add_sites(E, b);
  fill(E, self);
}
