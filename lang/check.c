/* Checking a definition by itself: an annotated one is elaborated on stand-in arguments.
 *
 * Sizes must be numbers while elaborating, so each dimension variable gets a trial size of its own, and the whole is
 * tried under several assignments: primes (nothing agrees by accident), growing and falling (a window fits into one of
 * them), highly composite numbers (splits and strides come out even), large ones. Only what fails with the same code at
 * the same place under every assignment is an error of the definition; and of two sizes that clash, one of them
 * computed (N // 3 and M), only if they are always as far apart (N - 1 and N): other arguments could make them equal.
 * An assignment that its own `where` refuses, or
 * that makes a size negative or too large, does not count. Definitions with parameters that have neither annotation nor
 * default are checked at each call. */
#include "lang/session.h"
#include <string.h>

enum { NTRIAL = 4 };
static const int64_t sizes[NTRIAL][6] = {
    {5, 7, 11, 13, 17, 19}, {480, 240, 192, 144, 96, 48}, {61, 53, 43, 37, 31, 29}, {127, 251, 509, 1009, 2003, 4001}};
static const int64_t numbers[NTRIAL] = {3, 2, 1, 4}; /* `int` parameters */
static const int rests[NTRIAL] = {1, 2, 0, 1};       /* axes of `...` */

typedef struct Trial {
  int which;
  VEC(Name) var; /* dimension variables in order of appearance */
  Ast *def;
  bool hopeless; /* no stand-in for some type, or a size below zero */
} Trial;

static int64_t trial_size(Elab *E, Trial *t, Name var) {
  for (int k = 0; k < t->def->nkid; k++)
    if (t->def->kid[k]->name == var) return numbers[t->which];
  int k = 0;
  while (k < t->var.n && t->var.at[k] != var) k++;
  if (k == t->var.n) vec_push(E->a, &t->var, var);
  return sizes[t->which][k % 6] + (k / 6) * 30;
}

static int64_t dim_size(Elab *E, Trial *t, const Ast *e) {
  if (e->kind == AST_INT) return e->ival;
  if (e->kind == AST_NAME) return trial_size(E, t, e->name);
  if (e->kind != AST_BINARY) return t->hopeless = true, 0;
  int64_t x = dim_size(E, t, e->a), y = dim_size(E, t, e->b), r = 0;
  bool over = false;
  switch (e->op) {
  case BIN_ADD:
    over = __builtin_add_overflow(x, y, &r);
    break;
  case BIN_SUB:
    over = __builtin_sub_overflow(x, y, &r);
    break;
  case BIN_MUL:
    over = __builtin_mul_overflow(x, y, &r);
    break;
  case BIN_FLOORDIV:
    over = y <= 0;
    if (!over) r = x / y;
    break;
  default:
    over = true;
  }
  t->hopeless |= over;
  return r;
}

static Value *tensor_stand_in(Elab *E, Trial *t, Ast *type, DType dt, Name name) {
  Dim dim[TG_MAX_RANK];
  int64_t n[TG_MAX_RANK];
  int rank = 0;
  for (int k = 0; k < type->nkid; k++) {
    bool rest = type->kid[k]->kind == AST_ELLIPSIS;
    for (int j = 0; j < (rest ? rests[t->which] : 1); j++) {
      if (rank == TG_MAX_RANK) return t->hopeless = true, NULL;
      n[rank] = rest ? 2 + j : dim_size(E, t, type->kid[k]);
      if (n[rank] < 0) return t->hopeless = true, NULL;
      dim[rank] = (Dim){.n = n[rank], .sym = type->kid[k]->kind == AST_NAME ? type->kid[k]->name : NULL};
      rank++;
    }
  }
  size_t bytes;
  if (t->hopeless || !shape_bytes(dt, rank, n, &bytes)) return t->hopeless = true, NULL;
  return v_tensor(E, dt, rank, dim, ex_load_full(E->g, nd_param(E->g, dt, rank, n, name), 0));
}

static Value *stand_in(Elab *E, Trial *t, Ast *type, Name name) {
  DType dt = DT_F32;
  if (type->kind == AST_TTUPLE || type->kind == AST_TRECORD) {
    Value **kid = arena_array(E->a, Value *, type->nkid);
    Name *key = arena_array(E->a, Name, type->nkid);
    bool rec = type->kind == AST_TRECORD;
    for (int k = 0; k < type->nkid; k++) {
      key[k] = rec ? type->kid[k]->name : NULL;
      kid[k] = stand_in(E, t, rec ? type->kid[k]->type : type->kid[k], name);
      if (!kid[k]) return NULL;
    }
    return rec ? v_record(E, type->nkid, key, kid) : v_tuple(E, type->nkid, kid);
  }
  if (name_is(type->name, "int") && !type->ival) return v_int(E, numbers[t->which], NULL);
  if (name_is(type->name, "bool") && !type->ival) return v_bool(E, t->which % 2 == 0);
  if (name_is(type->name, "string")) return v_str(E, "text", 4);
  if (name_is(type->name, "float")) return v_float(E, 0.5);
  if (name_is(type->name, "int"))
    dt = DT_I64;
  else if (type->name && !dt_by_name(type->name, (int)strlen(type->name), &dt)) {
    static const char *const words[] = {"function", "model", "dtype", "range"};
    for (size_t k = 0; k < sizeof words / sizeof *words; k++)
      if (name_is(type->name, words[k])) return t->hopeless = true, NULL;
    return v_int(E, 0, NULL); /* unknown type: the match reports it */
  }
  return tensor_stand_in(E, t, type, dt, name);
}

/* ---- one trial ------------------------------------------------------------------------------------------------- */

typedef struct Attempt {
  Fun *fun;
  Trial *t;
} Attempt;

static void attempt(Elab *E, void *ctx) {
  Attempt *a = ctx;
  Ast *d = a->t->def;
  Call c = {.span = {0}, .arg = arena_array(E->a, Arg, d->nkid)};
  for (int k = 0; k < d->nkid; k++) {
    Ast *p = d->kid[k];
    if (!p->type) continue;
    Value *v = stand_in(E, a->t, p->type, p->name);
    if (!v) return;
    c.arg[c.n++] = (Arg){p->name, v, p->at};
  }
  call_value(E, v_fun(E, a->fun), &c);
}

/* Diagnostics made since `before`, taken off the list. */
static Diag *take_since(Diags *d, Diag *before, int nerror, int nwarning) {
  Diag *g = before ? before->next : d->first;
  if (before)
    before->next = NULL;
  else
    d->first = NULL;
  d->last = before, d->nerror = nerror, d->nwarning = nwarning;
  return g;
}

static Diag *first_error(Diag *g) {
  while (g && g->warning) g = g->next;
  return g;
}

void note_clash(Elab *E, Diag *g, Dim a, Dim b) {
  g->open = E->checking && (!a.sym || !b.sym);
  g->apart = a.n - b.n;
}

void def_check(Elab *E, Fun *f) {
  Ast *def = f->ast;
  for (int k = 0; k < def->nkid; k++)
    if (!def->kid[k]->type && !def->kid[k]->a) return;
  Diags *d = E->d;
  Diag *verdict = NULL;
  int met = 0;
  for (int w = 0; w < NTRIAL; w++) {
    Trial t = {.which = w, .def = def};
    Attempt a = {f, &t};
    Elab keep = *E;
    Diag *before = d->last;
    int nerror = d->nerror, nwarning = d->nwarning;
    E->checking = true;
    E->effects_allowed = true;
    bool ok = elab_guarded(E, attempt, &a);
    *E = keep;
    Diag *g = first_error(take_since(d, before, nerror, nwarning));
    if (t.hopeless || (g && (g->id == T_WHERE || g->id == S_NEGATIVE || g->id == S_OVERFLOW))) continue;
    if (ok || !g) return;
    if (verdict && (verdict->id != g->id || verdict->span.lo != g->span.lo || verdict->span.file != g->span.file))
      return;
    if (verdict && g->open && verdict->apart != g->apart) return;
    if (!verdict) verdict = g;
    met++;
    if (def->nkid == 0) break; /* nothing to vary */
  }
  if (!verdict || (verdict->open && met < 2)) return;
  for (Diag *g = d->first; g; g = g->next)
    if (g->id == verdict->id && g->span.file == verdict->span.file && g->span.lo == verdict->span.lo) return;
  verdict->next = NULL;
  if (d->last)
    d->last->next = verdict;
  else
    d->first = verdict;
  d->last = verdict, d->nerror++;
}
