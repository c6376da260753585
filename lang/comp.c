/* Comprehensions: [e for i, j], sum(e for k), and their two passes.
 *
 *   pass 1  only when some index has no `in`: the body is elaborated once in trial mode, subscripts leave constraints, and
 *           range_solve finds the extents. Nothing else of it is kept.
 *   pass 2  elaborates with known extents; every subscript is proved to stay inside.
 *
 * Clauses are taken one inside the other. A clause over n values pushes an index, elaborates what is inside, and turns the
 * index into a leading axis of the result; a clause over a tuple elaborates what is inside for each item and stacks. So the
 * result's axes are the clauses' in order, then the body's own. A reduction reduces the leading axes. A trial inside a trial
 * does not happen: an inner comprehension is elaborated once there, and what its own subscripts say is solved on the way out. */
#include "lang/model.h"
#include "lang/space.h"
#include <math.h>
#include <string.h>

typedef struct Form {
  Elab *E;
  Ast *ast;
  Reduce op;
  bool reduces, mean;
  bool nested_trial;
  VEC(Index *) own; /* indices without `in`, in order of creation; Dots' too */
  VEC(Dots *) dots;
  VEC(int64_t) found; /* pass 2: their extents from pass 1, in the same order */
  VEC(const Origin *) from;
  VEC(const char *) sym;
  VEC(int) ndots;
  int next, next_dots;
  int depth;       /* leading axes opened so far */
  VEC(int64_t) lo; /* of the result's leading axes: what an argmax adds */
} Form;

/* What a clause gives to the one around it. */
typedef struct Part {
  Value *v;
  Expr *guard;
  int lead;
  bool done; /* reduced already (inside an unrolled clause) */
} Part;

static Part clause(Form *f, const Env *env, int c, bool unrolled);

/* ---- the innermost: guard and body ------------------------------------------------------------------------------- */

static Part body(Form *f, const Env *env, bool unrolled) {
  Elab *E = f->E;
  Part p = {0};
  Ast *ast = f->ast;
  Expr *saved_guard = E->guard;
  bool allowed = E->effects_allowed;
  if (!unrolled) E->effects_allowed = false;
  if (ast->b) {
    Value *g = elab_expr(E, env, ast->b);
    if (g->kind == V_BOOL && unrolled && !g->b) { /* this item is left out */
      E->effects_allowed = allowed;
      return (Part){.v = v_none(E), .guard = ex_bool(E->g, false)};
    }
    if (g->kind == V_BOOL)
      p.guard = g->b && unrolled ? NULL : ex_bool(E->g, g->b);
    else if (g->kind == V_TENSOR && g->t.rank == 0 && g->t.dtype == DT_BOOL)
      p.guard = g->t.e;
    else
      diag_fail(E->d, T_TYPE, ast->b->span, "a guard is a scalar bool, not %s", v_type_text(E, g));
    if (!f->reduces && p.guard) {
      Diag *d = diag_add(E->d, X_GUARD, ast->b->span,
                         "a guard selects a number of elements that is not known before the program runs");
      diag_help(E->d, d, "guards go with reductions (sum(... if c)); `a if c else b` keeps the shape");
      elab_fail(E, d);
    }
    E->guard = ex_and(E->g, E->guard, p.guard);
  }
  p.v = elab_expr(E, env, ast->a);
  E->guard = saved_guard;
  E->effects_allowed = allowed;
  return p;
}

/* ---- clauses ----------------------------------------------------------------------------------------------------- */

/* What a fresh index of pass 2 got in pass 1. */
static Index *own_index(Form *f, Name name, Span at) {
  Elab *E = f->E;
  Index *i = index_push(E, name, at, -1, 0, NULL, NULL);
  if (f->nested_trial || E->trial) {
    vec_push(E->a, &f->own, i);
    return i;
  }
  if (f->next >= f->found.n) bug("pass 2 met another index than pass 1");
  int k = f->next++;
  i->extent = f->found.at[k], i->from = f->from.at[k], i->sym = f->sym.at[k];
  return i;
}

/* Index i becomes the leading axis of everything inside. */
static Part close_index(Form *f, Part p, Index *i, bool keep_guard) {
  Elab *E = f->E;
  if (E->index != i) bug("indices are not nested");
  next_close(E, i->next, i, p.guard, f->ast->a->span);
  p.v = abstract_index(E, p.v, i, f->ast->a->span);
  if (keep_guard) p.guard = abstract_expr(E, p.guard, i);
  p.lead++;
  E->index = i->outer;
  return p;
}

static void solve_own(Form *f, int first_constraint, int first_own) {
  if (f->E->trial) range_solve(f->E, first_constraint, f->own.n - first_own, f->own.at + first_own, false);
}

static void push_lo(Form *f, int lead, int64_t lo) {
  while (f->lo.n <= lead) vec_push(f->E->a, &f->lo, 0);
  f->lo.at[lead] = lo;
}

static Part free_clause(Form *f, const Env *env, int c, bool unrolled) {
  Elab *E = f->E;
  Ast *cl = f->ast->kid[c];
  int first = E->constraint.n, own = f->own.n;
  if (cl->a->kind == AST_ELLIPSIS) {
    Dots *d = arena_new_of(E->a, Dots);
    d->span = cl->span, d->n = -1;
    int n = TG_MAX_RANK;
    if (!E->trial) n = d->n = f->ndots.at[f->next_dots++];
    for (int k = 0; k < n; k++) d->ix[k] = own_index(f, "...", cl->span);
    vec_push(E->a, &f->dots, d);
    Value *v = v_none(E);
    v->ext = d;
    f->depth += d->n < 0 ? 0 : d->n;
    Part p = clause(f, env_bind(E, env, name_of(E->names, "...", 3), v, cl->span), c + 1, false);
    f->depth -= E->trial || d->n < 0 ? 0 : d->n;
    solve_own(f, first, own);
    for (int k = n; k-- > 0;) {
      if (k < d->n)
        p = close_index(f, p, d->ix[k], true);
      else
        E->index = d->ix[k]->outer; /* trial: one too many */
    }
    return p;
  }
  if (!cl->a->name) diag_fail(E->d, X_RANGE, cl->span, "several names are bound by `for (a, b) in zip(x, y)`");
  Index *i = own_index(f, cl->a->name, cl->a->span);
  f->depth++;
  Part p = clause(f, env_bind(E, env, cl->a->name, v_scalar(E, i->var), cl->a->span), c + 1, false);
  f->depth--;
  solve_own(f, first, own);
  return close_index(f, p, i, true);
}

static Value *combine(Elab *E, Reduce op, Value *a, Value *b, Span at) {
  static const ScalarOp by[] = {[RED_SUM] = OP_ADD, [RED_PROD] = OP_MUL, [RED_MAX] = OP_MAX,
                                [RED_MIN] = OP_MIN, [RED_ANY] = OP_OR,   [RED_ALL] = OP_AND};
  Span two[2] = {at, at};
  return tv_elementwise(E, by[op], 2, (Value *[]){a, b}, two, at);
}

/* The value of a reduction over no items at all. */
static Value *neutral(Elab *E, Reduce op, bool is_float, Span at) {
  if (is_float && (op == RED_MAX || op == RED_MIN)) return v_float(E, op == RED_MAX ? -INFINITY : INFINITY);
  switch (op) {
  case RED_SUM:
    return v_int(E, 0, NULL);
  case RED_PROD:
    return v_int(E, 1, NULL);
  case RED_ANY:
    return v_bool(E, false);
  case RED_ALL:
    return v_bool(E, true);
  default:
    diag_fail(E->d, V_EMPTY, at, "%s over an empty tuple", red_name(op));
  }
}

/* A clause over a tuple: what is inside is elaborated for each item. */
static Part unroll_clause(Form *f, const Env *env, int c, const Walk *w, bool unrolled) {
  Elab *E = f->E;
  Ast *cl = f->ast->kid[c];
  int n = (int)w->n, m = 0;
  bool piecewise = f->reduces && !f->mean && f->op != RED_ARGMAX && f->op != RED_ARGMIN;
  Value **v = arena_array(E->a, Value *, n);
  Span *at = arena_array(E->a, Span, n);
  Expr **guard = arena_array(E->a, Expr *, n);
  bool guarded = false;
  int lead = 0;
  f->depth++;
  E->unrolled++;
  for (int k = 0; k < n; k++) {
    Part p = clause(f, elab_bind(E, env, 1, &cl->a, walk_item(E, w, k)), c + 1, unrolled);
    if (p.guard && p.guard->kind == EX_CONST && !p.guard->num.i && p.lead == 0 && !p.done)
      continue; /* a static guard that is false */
    if (piecewise && !p.done)
      p.v = reduce_lead(E, f->op, false, p.v, p.lead, p.guard && p.lead == 0 ? NULL : p.guard, f->ast->span),
      p.done = true;
    if (piecewise && p.guard && p.lead == 0)
      p.v =
          tv_select(E, v_scalar(E, p.guard), p.v,
                    neutral(E, f->op, p.v->kind == V_TENSOR && dt_is_float(p.v->t.dtype), f->ast->span), f->ast->span),
      p.guard = NULL;
    lead = p.lead, guard[m] = p.guard, guarded |= p.guard != NULL, at[m] = f->ast->a->span, v[m++] = p.v;
  }
  E->unrolled--, f->depth--;
  Part p = {.done = piecewise, .lead = piecewise ? 0 : lead + 1};
  if (piecewise) {
    p.v = m ? v[0] : neutral(E, f->op, false, f->ast->span);
    for (int k = 1; k < m; k++) p.v = combine(E, f->op, p.v, v[k], f->ast->span);
    return p;
  }
  if (m == 0) {
    if (f->reduces)
      diag_fail(E->d, V_EMPTY, f->ast->span, "%s over an empty tuple", f->mean ? "mean" : red_name(f->op));
    p.v = v_tuple(E, 0, v);
    return p;
  }
  if (!f->reduces && !pieces_stack(E, m, v)) { /* shapes differ, or strings, functions: a tuple of the results */
    p.v = v_tuple(E, m, v), p.lead = lead;
    return p;
  }
  p.v = join_stack(E, m, v, 0, at, f->ast->span);
  if (guarded) {
    Value **g = arena_array(E->a, Value *, m);
    Dim dim[TG_MAX_RANK];
    const Value *leaf = p.v;
    while (leaf->kind == V_TUPLE || leaf->kind == V_RECORD) leaf = leaf->agg.at[0];
    const Dim *front = leaf->kind == V_MODEL ? leaf->model->dim : leaf->t.dim;
    for (int a = 0; a < lead; a++) dim[a] = front[a + 1];
    for (int k = 0; k < m; k++) g[k] = v_tensor(E, DT_BOOL, lead, dim, guard[k] ? guard[k] : ex_bool(E->g, true));
    p.guard = join_stack(E, m, g, 0, at, f->ast->span)->t.e;
  }
  return p;
}

static Part clause(Form *f, const Env *env, int c, bool unrolled) {
  Elab *E = f->E;
  if (c == f->ast->nkid) return body(f, env, unrolled);
  Ast *cl = f->ast->kid[c];
  if (!cl->b) return free_clause(f, env, c, unrolled);
  Value *in = elab_expr(E, env, cl->b);
  Walk w = walk_open(E, in, cl->b->span);
  if (w.kind == WALK_UNROLL) {
    int64_t n = w.n;
    if (n > 4096) diag_fail(E->d, S_OVERFLOW, cl->b->span, "a tuple of %lld items is too long to unroll", (long long)n);
    return unroll_clause(f, env, c, &w, unrolled);
  }
  if (w.kind == WALK_RANGE && w.n < 0) {
    Diag *d = diag_add(E->d, T_STATIC, cl->b->span, "the length of this range must be known before anything runs");
    diag_help(E->d, d, "take the largest range and a guard: sum(e for k in 0..n if k < m)");
    elab_fail(E, d);
  }
  int64_t lo = w.kind == WALK_RANGE && w.lo->kind == EX_CONST ? w.lo->num.i : 0;
  Name name = cl->a->kind == AST_TARGET && cl->a->name ? cl->a->name : "_";
  Index *i = index_push(E, name, cl->a->span, w.n, lo, w.dim.from, w.dim.sym);
  bool saved = E->effects_allowed;
  E->effects_allowed = false;
  int axis = f->depth++;
  Part p = clause(f, elab_bind(E, env, 1, &cl->a, walk_at(E, &w, i->var)), c + 1, false);
  E->effects_allowed = saved, f->depth--;
  if (lo) push_lo(f, axis, lo);
  return close_index(f, p, i, true);
}

/* ---- the two passes ---------------------------------------------------------------------------------------------- */

static bool needs_trial(const Ast *ast) {
  for (int c = 0; c < ast->nkid; c++)
    if (!ast->kid[c]->b) return true;
  return false;
}

/* A trial is undone by putting a copy of E back: arrays that grew have left their old storage as it was. */
static bool all_found(const Form *f) {
  for (int k = 0; k < f->dots.n; k++)
    if (f->dots.at[k]->n < 0) return false;
  for (int k = 0; k < f->own.n; k++) {
    bool spare = false;
    for (int d = 0; d < f->dots.n; d++)
      for (int j = f->dots.at[d]->n < 0 ? 0 : f->dots.at[d]->n; j < TG_MAX_RANK; j++)
        spare |= f->dots.at[d]->ix[j] == f->own.at[k];
    if (!spare && f->own.at[k]->extent < 0) return false;
  }
  return true;
}

static bool is_spare(const Form *f, const Index *i) {
  for (int d = 0; d < f->dots.n; d++)
    for (int j = f->dots.at[d]->n; j < TG_MAX_RANK; j++)
      if (f->dots.at[d]->ix[j] == i) return true;
  return false;
}

/* One trial; afterwards E is as before but for what the trial met (constraint, tried). Loud: mistakes are reported. */
static void try_once(Elab *E, const Env *env, Form *f, bool loud) {
  Elab saved = *E;
  bool was_quiet = E->d->quiet;
  E->trial = true, E->constraint.n = E->constraint.cap = 0, E->constraint.at = NULL;
  E->tried.n = E->tried.cap = 0, E->tried.at = NULL;
  if (loud)
    clause(f, env, 0, true);
  else {
    E->d->quiet = true;
    DIAG_TRY(E->d) { clause(f, env, 0, true); }
    DIAG_CAUGHT(E->d) { E->trial = true; }
    DIAG_END(E->d);
    E->d->quiet = was_quiet;
  }
  saved.constraint.at = E->constraint.at, saved.constraint.n = E->constraint.n,
  saved.constraint.cap = E->constraint.cap;
  saved.tried.at = E->tried.at, saved.tried.n = E->tried.n, saved.tried.cap = E->tried.cap;
  *E = saved;
}

/* Own indices first and loudly (X_SIZES); inner comprehensions' indices take part, and report in their own turn. */
static void solve_all(Elab *E, Form *f) {
  for (int k = 0; k < f->own.n; k++) f->own.at[k]->extent = -1;
  range_solve(E, 0, f->own.n, f->own.at, true);
  VEC(Index *) unknown = {0};
  for (int k = 0; k < E->tried.n; k++)
    if (E->tried.at[k]->extent < 0) vec_push(E->a, &unknown, E->tried.at[k]);
  range_solve(E, 0, unknown.n, unknown.at, false);
}

static void find_ranges(Elab *E, const Env *env, Form *f) {
  Elab saved = *E;
  Form t = *f;
  try_once(E, env, &t, false);
  solve_all(E, &t);
  if (!all_found(&t)) { /* say why: the mistake that stopped the trial, or the index that nothing fixes */
    *E = saved, t = *f;
    try_once(E, env, &t, true);
    solve_all(E, &t);
    for (int d = 0; d < t.dots.n; d++)
      if (t.dots.at[d]->n < 0)
        diag_fail(E->d, X_RANGE, t.dots.at[d]->span, "no subscript says how many axes `...` stands for");
    for (int k = 0; k < t.own.n; k++)
      if (t.own.at[k]->extent < 0 && !is_spare(&t, t.own.at[k])) range_fail(E, t.own.at[k]);
    bug("a trial that found its ranges the second time only");
  }
  for (int k = 0; k < t.own.n; k++) {
    Index *i = t.own.at[k];
    if (is_spare(&t, i)) continue;
    vec_push(E->a, &f->found, i->extent);
    vec_push(E->a, &f->from, i->from);
    vec_push(E->a, &f->sym, i->sym);
  }
  for (int d = 0; d < t.dots.n; d++) vec_push(E->a, &f->ndots, t.dots.at[d]->n);
  *E = saved;
}

static Value *build(Elab *E, Value *v, Span at) {
  Value **leaf;
  int n = v_leaves(E, v, &leaf);
  Value **to = arena_array(E->a, Value *, n);
  for (int k = 0; k < n; k++) {
    to[k] = leaf[k];
    if (leaf[k]->kind != V_TENSOR) continue;
    tv_check_size(E, leaf[k]->t.dtype, leaf[k]->t.rank, leaf[k]->t.dim, at);
    to[k] = tv_seal(E, leaf[k]);
  }
  return v_with_leaves(E, v, to);
}

/* Row-major positions over several axes as a tuple of indices. */
static Value *positions(Elab *E, const Form *f, Value *v, int lead, const Dim *dim, Span at) {
  if (v->kind != V_TENSOR) {
    Value **kid = arena_array(E->a, Value *, v->agg.n);
    for (int k = 0; k < v->agg.n; k++) kid[k] = positions(E, f, v->agg.at[k], lead, dim, at);
    return v->kind == V_TUPLE ? v_tuple(E, v->agg.n, kid) : v_record(E, v->agg.n, v->agg.key, kid);
  }
  Value **out = arena_array(E->a, Value *, lead);
  int64_t stride = 1;
  for (int k = lead; k-- > 0;) {
    int64_t n = dim[k].n < 0 ? 1 : dim[k].n, lo = k < f->lo.n ? f->lo.at[k] : 0;
    Expr *e = v->t.e;
    if (stride > 1) e = ex_op2(E->g, OP_FLOORDIV, e, ex_int(E->g, DT_I64, stride));
    if (k > 0) e = ex_op2(E->g, OP_MOD, e, ex_int(E->g, DT_I64, n ? n : 1));
    e = ex_op2(E->g, OP_ADD, e, ex_int(E->g, DT_I64, lo));
    out[k] = tv_seal(E, v_tensor(E, DT_I64, v->t.rank, v->t.dim, e));
    stride *= n ? n : 1;
  }
  return lead == 1 ? out[0] : v_tuple(E, lead, out);
}

static const Dim *lead_dims(const Value *v) {
  while (v->kind == V_TUPLE || v->kind == V_RECORD) {
    if (v->agg.n == 0) return NULL;
    v = v->agg.at[0];
  }
  if (v->kind == V_MODEL) return v->model->lead ? v->model->dim : NULL;
  return v->kind == V_TENSOR ? v->t.dim : NULL;
}

static Value *elab_form(Elab *E, const Env *env, Ast *ast, Reduce op, bool mean) {
  Form f = {.E = E, .ast = ast, .op = op, .reduces = mean || op != RED_NONE, .mean = mean, .nested_trial = E->trial};
  if (!E->trial && needs_trial(ast)) find_ranges(E, env, &f);
  bool allowed = E->effects_allowed;
  Part p = clause(&f, env, 0, allowed);
  E->effects_allowed = allowed;
  E->g->span = user_span(E, ast->span);
  if (!f.reduces) return p.lead ? build(E, p.v, ast->span) : p.v;
  if (p.done) return p.v;
  const Dim *dim = lead_dims(p.v);
  if (!dim && p.lead) diag_fail(E->d, T_TYPE, ast->a->span, "%s has nothing to reduce", v_type_text(E, p.v));
  Value *r = reduce_lead(E, op, mean, p.v, p.lead, p.guard, ast->span);
  return op == RED_ARGMAX || op == RED_ARGMIN ? positions(E, &f, r, p.lead, dim, ast->span) : r;
}

Value *elab_comp(Elab *E, const Env *env, Ast *comp, Reduce op, const Call *red) {
  return elab_form(E, env, comp, op, false);
}
Value *elab_mean_comp(Elab *E, const Env *env, Ast *comp) { return elab_form(E, env, comp, RED_NONE, true); }
