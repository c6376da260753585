/* Names: persistent environments, what a name means, and the closest known name for a suggestion. */
#include "lang/session.h"
#include <math.h>
#include <string.h>

bool name_is(Name n, const char *s) { return n && strcmp(n, s) == 0; }

/* ---- maps ------------------------------------------------------------------------------------------------------ */

static unsigned slot_of(Name key, int cap) {
  return (unsigned)(((uintptr_t)key >> 3) * 2654435761u) & (unsigned)(cap - 1);
}

void *map_get(const NameMap *m, Name key) {
  if (!m->cap) return NULL;
  for (unsigned h = slot_of(key, m->cap); m->key[h]; h = (h + 1) & (unsigned)(m->cap - 1))
    if (m->key[h] == key) return m->val[h];
  return NULL;
}

void map_put(Arena *a, NameMap *m, Name key, void *val) {
  if (2 * (m->n + 1) > m->cap) {
    NameMap big = {.cap = m->cap ? 2 * m->cap : 32};
    big.key = arena_array(a, Name, big.cap), big.val = arena_array(a, void *, big.cap);
    for (int k = 0; k < m->cap; k++)
      if (m->key[k]) map_put(a, &big, m->key[k], m->val[k]);
    *m = big;
  }
  unsigned h = slot_of(key, m->cap);
  while (m->key[h] && m->key[h] != key) h = (h + 1) & (unsigned)(m->cap - 1);
  m->n += m->key[h] == NULL;
  m->key[h] = key, m->val[h] = val;
}

/* ---- environments ---------------------------------------------------------------------------------------------- */

const Env *env_bind(Elab *E, const Env *env, Name name, Value *v, Span span) {
  Env *e = arena_new_of(E->a, Env);
  *e = (Env){.name = name, .v = v, .span = span, .up = env, .sigs = env ? env->sigs : NULL};
  NameMap *ever = &E->session->ever_bound;
  if (!map_get(ever, name)) map_put(E->session->opt.arena, ever, name, (void *)name);
  return e;
}

const Env *env_bind_sig(Elab *E, const Env *env, Name name, Value *v, Span span) {
  Env *e = (Env *)env_bind(E, env, name, v, span);
  e->sig = true, e->sigs = e;
  return e;
}

const Env *env_find(const Env *env, Name name) {
  for (; env; env = env->up)
    if (env->name == name) return env;
  return NULL;
}

static const struct {
  const char *name;
  double v;
} constants[] = {{"inf", INFINITY}, {"nan", NAN}, {"pi", 3.14159265358979323846}};

/* Builtins, dtypes and constants; found ones are kept in the session's table. */
static Value *find_builtin(Elab *E, Name name) {
  Session *s = E->session;
  Value *v = map_get(&s->builtin, name);
  if (v) return v;
  const Builtin *b = builtin_find(name);
  DType t;
  if (b)
    v = v_builtin(E, b);
  else if (dt_by_name(name, (int)strlen(name), &t))
    v = v_dtype(E, t);
  else
    for (size_t k = 0; k < sizeof constants / sizeof *constants; k++)
      if (name_is(name, constants[k].name)) v = v_float(E, constants[k].v);
  if (v) map_put(s->opt.arena, &s->builtin, name, v);
  return v;
}

Value *name_lookup(Elab *E, const Env *env, Name name) {
  const Env *b = map_get(&E->session->ever_bound, name) ? env_find(env, name) : NULL;
  Value *v = b ? b->v : NULL;
  if (!v && E->module) v = map_get(&E->module->def, name);
  bool inner = name[0] == '_' && name[1] && E->module && !E->module->library &&
               !E->session->opt.inner; /* the library's own business */
  if (!v && !inner) v = find_builtin(E, name);
  for (int k = 0; !v && !inner && k < SCOPE_MODULES; k++) {
    Module *p = module_scope(E->session, k);
    if (p != E->module) v = module_member(E, p, name);
  }
  if (v && v->kind == V_POISON) diag_unwind(E->d);
  return v;
}

/* ---- suggestions ----------------------------------------------------------------------------------------------- */

/* Damerau-Levenshtein (optimal string alignment) on words of up to 40 letters; case changes cost nothing. */
static int distance(const char *a, const char *b) {
  enum { MAX = 40 };
  int na = (int)strlen(a), nb = (int)strlen(b);
  if (na > MAX || nb > MAX) return MAX;
  int d[3][MAX + 1];
  for (int j = 0; j <= nb; j++) d[1][j] = j;
  for (int i = 1; i <= na; i++) {
    int *now = d[(i + 1) % 3], *up = d[i % 3], *up2 = d[(i + 2) % 3];
    now[0] = i;
    for (int j = 1; j <= nb; j++) {
      int ca = a[i - 1] | 32, cb = b[j - 1] | 32;
      int best = up[j - 1] + (ca != cb);
      if (up[j] + 1 < best) best = up[j] + 1;
      if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
      if (i > 1 && j > 1 && ca == (b[j - 2] | 32) && (a[i - 2] | 32) == cb && up2[j - 2] + 1 < best)
        best = up2[j - 2] + 1;
      now[j] = best;
    }
  }
  return d[(na + 1) % 3][nb];
}

typedef struct Best {
  const char *name, *found;
  int dist;
} Best;

static void consider(Best *b, const char *cand) {
  if (!cand || (cand[0] == '_' && (b->name[0] != '_' || !cand[1])) || !strcmp(cand, b->name)) return;
  int d = distance(b->name, cand);
  if (d < b->dist) b->dist = d, b->found = cand;
}

static Best best_new(const char *name) {
  int n = (int)strlen(name);
  return (Best){name, NULL, n <= 2 ? 1 : n <= 5 ? 2 : 3}; /* strictly below */
}

const char *closest_name(const char *name, int n, const char *const *cand) {
  Best b = best_new(name);
  for (int k = 0; k < n; k++) consider(&b, cand[k]);
  return b.found;
}

static void consider_module(Best *b, const Module *m) {
  for (int k = 0; k < m->def.cap; k++) consider(b, m->def.key[k]);
}

const char *name_suggest(Elab *E, const Env *env, Name name) {
  Best b = best_new(name);
  for (const Env *e = env; e; e = e->up) consider(&b, e->name);
  if (E->module) consider_module(&b, E->module);
  for (int k = 0; k < builtin_count(); k++) consider(&b, builtin_at(k)->name);
  for (int k = 0; k < SCOPE_MODULES; k++) consider_module(&b, module_scope(E->session, k));
  for (int k = 0; k < DT_COUNT; k++) consider(&b, dt_name((DType)k));
  return b.found;
}
