/* Ranges: what each index runs over when the program does not say.
 *
 * Trial elaboration records a constraint 0 <= sub < n for every subscript that holds a free index. A bare subscript fixes its
 * index. Then, round by round, affine subscripts with one index unknown give "from 0, the largest that stays inside":
 *   a > 0   extent = floor((n - 1 - c - max(rest)) / a) + 1
 *   a < 0   extent = floor((c + min(rest)) / -a) + 1
 * and the smallest over a round's constraints wins. Whether subscripts then stay inside is proved afterwards (index.c). */
#include "lang/space.h"
#include "graph/scalar_eval.h"

Index *index_push(Elab *E, Name name, Span at, int64_t extent, int64_t lo, const Origin *from, const char *sym) {
  Index *i = arena_new_of(E->a, Index);
  *i = (Index){.uid = names_next_id(E->names),
               .name = name,
               .span = at,
               .extent = extent,
               .lo = lo,
               .from = from,
               .sym = sym,
               .outer = E->index,
               .next = E->next};
  i->var = ex_var(E->g, i->uid);
  E->index = i;
  if (E->trial) vec_push(E->a, &E->tried, i);
  return i;
}

Index *index_find(Elab *E, int64_t uid) {
  for (Index *i = E->index; i; i = i->outer)
    if (i->uid == uid) return i;
  for (int k = E->tried.n; k-- > 0;)
    if (E->tried.at[k]->uid == uid) return E->tried.at[k];
  return NULL;
}

static Interval var_interval(void *ctx, int64_t uid) {
  Index *i = index_find(ctx, uid);
  return i && i->extent >= 0 ? (Interval){0, i->extent - 1} : INTERVAL_ALL;
}
Box space_box(Elab *E, int nown, const Interval *own) {
  return (Box){.niter = nown, .iter = own, .var = var_interval, .ctx = E};
}

/* While solving, an index without values counts as 0: what it subscripts with is never read, but others need a range.
 */
static Interval solve_interval(void *ctx, int64_t uid) {
  Interval in = var_interval(ctx, uid);
  return in.lo > in.hi ? (Interval){0, 0} : in;
}

/* The unknown index of a linear subscript, its coefficient, and the rest; NULL unless there is exactly one. */
static Index *one_unknown(Elab *E, Expr *sub, int64_t *coef, Expr **rest) {
  if (sub->kind == EX_VAR) {
    Index *i = index_find(E, sub->num.i);
    *coef = 1, *rest = ex_int(E->g, DT_I64, 0);
    return i && i->extent < 0 ? i : NULL;
  }
  if (sub->kind != EX_LIN) return NULL;
  Index *found = NULL;
  for (int k = 0; k < sub->n; k++) {
    if (sub->arg[k]->kind != EX_VAR) {
      if (sub->arg[k]->nvar) { /* an index under // or %, or in data: no help while it is unknown */
        Interval in = ex_interval(E->g, sub->arg[k], &(Box){.var = solve_interval, .ctx = E}, NULL);
        if (in.lo == INT64_MIN || in.hi == INT64_MAX) return NULL;
      }
      continue;
    }
    Index *i = index_find(E, sub->arg[k]->num.i);
    if (!i || i->extent >= 0) continue;
    if (found) return NULL;
    found = i, *coef = sub->coef[k];
  }
  if (!found) return NULL;
  int64_t minus = -*coef;
  *rest = ex_op2(E->g, OP_ADD, sub, ex_lin(E->g, 0, 1, &minus, &found->var));
  return found;
}

static bool among(const Index *i, int n, Index *const *idx) {
  for (int k = 0; k < n; k++)
    if (idx[k] == i) return true;
  return false;
}

static void take_dim(Elab *E, Index *i, const Constraint *c) {
  i->extent = c->dim.n, i->sym = c->dim.sym;
  i->from = c->dim.from ? c->dim.from
                        : origin_new(E, NULL, c->span, "`%s` runs over an axis of size %lld here", i->name,
                                     (long long)c->dim.n);
}

static _Noreturn void two_sizes(Elab *E, const Index *i, const Constraint *a, const Constraint *b) {
  Diag *g =
      diag_add(E->d, X_SIZES, b->span, "index `%s` subscripts an axis of size %lld here and one of size %lld elsewhere",
               i->name, (long long)b->dim.n, (long long)a->dim.n);
  note_clash(E, g, a->dim, b->dim);
  diag_note(E->d, g, a->span, "`%s` runs over %lld here", i->name, (long long)a->dim.n);
  note_origin(E, g, a->dim);
  note_origin(E, g, b->dim);
  diag_help(E->d, g, "give the range: `%s in 0..%lld`", i->name,
            (long long)(a->dim.n < b->dim.n ? a->dim.n : b->dim.n));
  elab_fail(E, g);
}

void range_solve(Elab *E, int first, int n, Index *const *idx, bool report) {
  const Constraint **by = arena_array(E->a, const Constraint *, n);
  for (int c = first; c < E->constraint.n; c++) {
    const Constraint *k = &E->constraint.at[c];
    if (k->sub->kind != EX_VAR || k->dim.n < 0 || k->part) continue;
    for (int j = 0; j < n; j++) {
      if (idx[j]->uid != k->sub->num.i) continue;
      if (idx[j]->extent < 0)
        take_dim(E, idx[j], k), by[j] = k;
      else if (by[j] && report && idx[j]->extent != k->dim.n)
        two_sizes(E, idx[j], by[j], k);
    }
  }
  for (bool progress = true; progress;) {
    progress = false;
    int64_t *best = arena_array(E->a, int64_t, n);
    const Constraint **why = arena_array(E->a, const Constraint *, n);
    for (int c = first; c < E->constraint.n; c++) {
      const Constraint *k = &E->constraint.at[c];
      int64_t a;
      Expr *rest;
      if (k->dim.n < 0) continue;
      Index *i = one_unknown(E, k->sub, &a, &rest);
      if (!i || !among(i, n, idx)) continue;
      Box box = {.var = solve_interval, .ctx = E};
      Interval in = ex_interval(E->g, rest, &box, k->guard);
      if (in.lo == INT64_MIN || in.hi == INT64_MAX) continue; /* data */
      if (in.lo > in.hi) continue;                            /* never reached */
      int64_t room, extent;
      if (a > 0 ? __builtin_sub_overflow(k->dim.n - 1, in.hi, &room) : (room = in.lo, false)) continue;
      extent = tg_floordiv(room, a > 0 ? a : -a) + 1;
      for (int j = 0; j < n; j++)
        if (idx[j] == i && (!why[j] || extent < best[j])) best[j] = extent, why[j] = k;
    }
    for (int j = 0; j < n; j++) {
      if (!why[j]) continue;
      if (best[j] < 0) {
        if (!report) continue;
        Diag *g = diag_add(E->d, S_NEGATIVE, why[j]->span,
                           "no value of `%s` keeps this subscript inside the axis of size %lld", idx[j]->name,
                           (long long)why[j]->dim.n);
        note_origin(E, g, why[j]->dim);
        diag_help(E->d, g, "pad the tensor first");
        elab_fail(E, g);
      }
      idx[j]->extent = best[j];
      idx[j]->from =
          origin_new(E, why[j]->dim.from, why[j]->span,
                     "`%s` takes %lld values: the most that keep this subscript inside its axis of size %lld",
                     idx[j]->name, (long long)best[j], (long long)why[j]->dim.n);
      progress = true;
    }
  }
}

void range_fail(Elab *E, const Index *i) {
  Diag *g = diag_add(E->d, X_RANGE, i->span, "nothing says what `%s` runs over", i->name);
  for (int c = 0; c < E->constraint.n; c++) {
    const Constraint *k = &E->constraint.at[c];
    if (!k->sub->nvar || k->sub->kind != EX_LIN) continue;
    const Index *other = NULL;
    bool mine = false;
    for (int j = 0; j < k->sub->n; j++) {
      if (k->sub->arg[j]->kind != EX_VAR) continue;
      const Index *v = index_find(E, k->sub->arg[j]->num.i);
      if (v == i)
        mine = true;
      else if (v && v->extent < 0)
        other = v;
    }
    if (!mine || !other) continue;
    diag_note(E->d, g, k->span, "this subscript has two unknown indices, `%s` and `%s`", i->name, other->name);
    break;
  }
  diag_help(E->d, g, "give its range: `%s in 0..n`", i->name);
  elab_fail(E, g);
}
