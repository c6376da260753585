/* Unused bindings: a syntactic pass over blocks, so that a definition elaborated ten times is judged once.
 *
 * Statements are read from the last to the first with the set of names that later ones mention; a mention under an
 * inner binding of the same name counts too, which may miss a warning but never gives a false one. */
#include "lang/session.h"

typedef struct Unused {
  Name name;
  Span at;
} Unused;
typedef struct Lint {
  Elab *E;
  NameMap *live;
  VEC(Unused) found;
} Lint;

static void set(Lint *l, Name n, bool on) { map_put(l->E->a, l->live, n, on ? (void *)n : NULL); }

/* Marks every name mentioned below e. */
static void mention(Lint *l, Ast *e) {
  if (!e) return;
  if (e->kind == AST_NAME || (e->kind == AST_FIELD && !e->a && !e->type)) set(l, e->name, true);
  mention(l, e->a);
  mention(l, e->b);
  mention(l, e->c);
  mention(l, e->type);
  for (int k = 0; k < e->nkid; k++) mention(l, e->kid[k]);
  for (int k = 0; k < e->nkid2; k++) mention(l, e->kid2[k]);
}

static void judge(Lint *l, Ast *target) {
  for (int k = 0; k < target->nkid; k++) judge(l, target->kid[k]);
  if (!target->name || name_is(target->name, "_")) return;
  if (!map_get(l->live, target->name)) vec_push(l->E->a, &l->found, ((Unused){target->name, target->span}));
  set(l, target->name, false);
}

static void lint_block(Elab *E, Ast *block) {
  NameMap live = {0};
  Lint l = {.E = E, .live = &live};
  for (int k = block->nkid - 1; k >= 0; k--) {
    Ast *s = block->kid[k];
    if (s->kind == AST_BIND)
      for (int j = s->nkid - 1; j >= 0; j--) judge(&l, s->kid[j]);
    if (s->kind == AST_DEF) {
      if (!map_get(&live, s->name)) vec_push(E->a, &l.found, ((Unused){s->name, s->at}));
      set(&l, s->name, false);
    }
    mention(&l, s->kind == AST_BIND ? s->b : s);
  }
  for (int k = l.found.n - 1; k >= 0; k--) {
    Diag *g = diag_warn(E->d, N_UNUSED, l.found.at[k].at, "nothing uses `%s`", l.found.at[k].name);
    diag_help(E->d, g, "remove it, or discard the value: _ = ...");
  }
}

/* Every block below e, outermost first. */
static void find_blocks(Elab *E, Ast *e) {
  if (!e) return;
  if (e->kind == AST_BLOCK) lint_block(E, e);
  find_blocks(E, e->a);
  find_blocks(E, e->b);
  find_blocks(E, e->c);
  for (int k = 0; k < e->nkid; k++) find_blocks(E, e->kid[k]);
  for (int k = 0; k < e->nkid2; k++) find_blocks(E, e->kid2[k]);
}

void lint_unused(Elab *E, Ast *item) { find_blocks(E, item); }
