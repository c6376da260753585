/* Branches: `if c { } else { }` and `a if c else b`.
 *
 *   static condition        only the branch taken is elaborated
 *   scalar, nothing free    a COND node: lazy; effects of a branch are its own. Cheap scalars become a select instead
 *   inside comprehensions   a select; the condition joins the guard of each arm, so loads of the arm not taken are masked
 *   tensor                  a select for each element */
#include "lang/model.h"
#include "lang/space.h"
#include <string.h>

typedef struct Arm {
  Value *v;
  VEC(Node *) effect;
  int nchange; /* states of models that it gives next values (model.h) */
  Change *change;
} Arm;

/* Elaborates one branch where `guard` holds. Own region of effects when `region`, else effects are an error. */
static Arm elab_arm(Elab *E, const Env *env, Ast *e, Expr *guard, bool region) {
  Arm a = {0};
  Expr *saved_guard = E->guard;
  bool allowed = E->effects_allowed;
  int n = E->effect.n;
  const Next *mark = E->next;
  E->guard = ex_and(E->g, E->guard, guard);
  if (!region) E->effects_allowed = false;
  a.v = e ? elab_expr(E, env, e) : v_none(E);
  for (int k = n; k < E->effect.n; k++) vec_push(E->a, &a.effect, E->effect.at[k]);
  E->effect.n = n;
  a.nchange = next_changes(E, mark, &a.change), E->next = mark;
  E->guard = saved_guard, E->effects_allowed = allowed;
  return a;
}

static _Noreturn void fail_structure(Elab *E, Value *a, Value *b, Span sa, Span sb, Span at) {
  Diag *g = diag_add(E->d, T_TYPE, at,
                     "the branches give %s and %s; which one is decided at run time, so they must have one structure",
                     v_type_text(E, a), v_type_text(E, b));
  diag_note(E->d, g, sa, "this is %s", v_type_text(E, a));
  diag_note(E->d, g, sb, "this is %s", v_type_text(E, b));
  elab_fail(E, g);
}

static bool number_like(const Value *v) {
  return v->kind == V_TENSOR || v->kind == V_NUM || v->kind == V_BOOL || v->kind == V_RANGE;
}

Value *select_value(Elab *E, Value *c, Value *a, Value *b, Span at) {
  if (value_same(a, b)) return a;
  if (number_like(a) && number_like(b)) return tv_select(E, c, a, b, at);
  if (!same_structure(a, b)) fail_structure(E, a, b, at, at, at);
  if (a->kind == V_MODEL) {
    Value **x, **y;
    int n = v_leaves(E, a, &x);
    if (v_leaves(E, b, &y) != n) fail_structure(E, a, b, at, at, at);
    for (int k = 0; k < n; k++) x[k] = select_value(E, c, x[k], y[k], at);
    return v_with_leaves(E, a, x);
  }
  Value **kid = arena_array(E->a, Value *, a->agg.n);
  for (int k = 0; k < a->agg.n; k++) kid[k] = select_value(E, c, a->agg.at[k], b->agg.at[k], at);
  return a->kind == V_RECORD ? v_record(E, a->agg.n, a->agg.key, kid) : v_tuple(E, a->agg.n, kid);
}

/* Costs next to nothing and can't fault: element-wise work on inputs, a few steps deep. */
enum { CHEAP_DEPTH = 3 };
typedef struct Cost {
  int depth;
  bool cheap;
} Cost;
static void costs(void *ctx, Expr *e) {
  Cost *c = ctx;
  if (e->kind == EX_OP && (e->op == OP_FLOORDIV || e->op == OP_MOD) && !dt_is_float(e->dtype) &&
      e->arg[1]->kind != EX_CONST)
    c->cheap = false;
  if (e->kind != EX_LOAD || !c->cheap) return;
  const Node *n = e->node;
  if (n->kind == ND_INPUT || n->kind == ND_CONST || n->kind == ND_PARAM)
    c->cheap = !e->checked;
  else if (n->kind != ND_COMP || n->comp.nred || e->checked || c->depth == CHEAP_DEPTH)
    c->cheap = false;
  else {
    Cost below = {c->depth + 1, true};
    ex_visit(n->comp.body, costs, &below);
    if (n->comp.guard) ex_visit(n->comp.guard, costs, &below);
    c->cheap = below.cheap;
  }
}
static bool is_cheap(Elab *E, Value *v) {
  Value **leaf;
  int n = v_leaves(E, v, &leaf);
  Cost c = {0, true};
  for (int k = 0; k < n; k++) {
    if (leaf[k]->kind != V_TENSOR) continue;
    if (leaf[k]->t.rank) return false;
    ex_visit(leaf[k]->t.e, costs, &c);
  }
  return c.cheap;
}

/* The lazy form: leaves of both arms, made of one type, are the regions' outputs. */
static Value *lazy(Elab *E, Value *c, Arm *yes, Arm *no, Span sy, Span sn, Span at) {
  if (!same_structure(yes->v, no->v)) fail_structure(E, yes->v, no->v, sy, sn, at);
  Value **a, **b;
  int n = v_leaves(E, yes->v, &a), m = 0;
  if (v_leaves(E, no->v, &b) != n) fail_structure(E, yes->v, no->v, sy, sn, at); /* a range against a tensor */
  Value **out = arena_array(E->a, Value *, n);
  Node **ya = arena_array(E->a, Node *, n), **na = arena_array(E->a, Node *, n);
  int *which = arena_array(E->a, int, n);
  Span sp[2] = {sy, sn};
  for (int k = 0; k < n; k++) {
    which[k] = -1, out[k] = a[k];
    if (value_same(a[k], b[k])) continue;
    Value *two[2] = {a[k], b[k]};
    DType t = tv_join(E, 2, two, sp, false);
    Dim dim[TG_MAX_RANK];
    int rank = tv_broadcast(E, 2, two, sp, at, "if", dim);
    Node **to[2] = {ya, na};
    for (int s = 0; s < 2; s++)
      to[s][m] = tv_closed(E, v_tensor(E, t, rank, dim, tv_at(E, two[s], t, rank, dim, sp[s])));
    out[k] = v_tensor(E, t, rank, dim, NULL);
    which[k] = m++;
  }
  if (m == 0 && !yes->effect.n && !no->effect.n) return yes->v;
  Region ry = {m, ya, yes->effect.n, yes->effect.at}, rn = {m, na, no->effect.n, no->effect.at};
  E->g->span = user_span(E, at);
  Node *node = nd_cond(E->g, tv_closed(E, c), &ry, &rn);
  if (yes->effect.n || no->effect.n) vec_push(E->a, &E->effect, node);
  for (int k = 0; k < n; k++)
    if (which[k] >= 0) out[k] = load_over(E, nd_get(E->g, node, which[k]), 0, NULL, out[k]->t.dim);
  return v_with_leaves(E, yes->v, out);
}

/* The arm's value with what it makes of each state in id[]. */
static void with_changes(Elab *E, Arm *a, int n, const void **id) {
  Value **item = arena_array(E->a, Value *, n + 1);
  item[0] = a->v;
  for (int k = 0; k < n; k++) {
    item[k + 1] = next_value(E, id[k], NULL);
    for (int j = 0; j < a->nchange; j++)
      if (a->change[j].id == id[k]) item[k + 1] = a->change[j].v;
  }
  a->v = v_tuple(E, n + 1, item);
}

/* States that either arm changes are chosen as its value is. */
static int changed_states(Elab *E, const Arm *yes, const Arm *no, const void ***out) {
  VEC(const void *) id = {0};
  for (int k = 0; k < yes->nchange; k++) vec_push(E->a, &id, yes->change[k].id);
  for (int k = 0; k < no->nchange; k++) {
    bool known = false;
    for (int j = 0; j < yes->nchange && !known; j++) known = yes->change[j].id == no->change[k].id;
    if (!known) vec_push(E->a, &id, no->change[k].id);
  }
  *out = id.at;
  return id.n;
}

static Value *choose(Elab *E, Ast *e, Value *c, Arm *yes, Arm *no, bool region) {
  Span sy = e->b->span, sn = e->c ? e->c->span : e->span;
  yes->v = v_bare_like(E, yes->v, no->v), no->v = v_bare_like(E, no->v, yes->v);
  bool cheap = !region || (!yes->effect.n && !no->effect.n && is_cheap(E, yes->v) && is_cheap(E, no->v));
  if (!cheap) return lazy(E, c, yes, no, sy, sn, e->span);
  if (!same_structure(yes->v, no->v)) fail_structure(E, yes->v, no->v, sy, sn, e->span);
  return select_value(E, c, yes->v, no->v, e->span);
}

static Value *choose_all(Elab *E, Ast *e, Value *c, Arm *yes, Arm *no, bool region) {
  const void **id;
  int n = changed_states(E, yes, no, &id);
  if (!n) return choose(E, e, c, yes, no, region);
  with_changes(E, yes, n, id), with_changes(E, no, n, id);
  Value *r = choose(E, e, c, yes, no, region);
  for (int k = 0; k < n; k++) next_write(E, id[k], r->agg.at[k + 1]);
  return r->agg.at[0];
}

Value *elab_cond(Elab *E, const Env *env, Ast *e) {
  Ast *ya = e->b, *na = e->c;
  Value *c = elab_expr(E, env, e->a);
  if (c->kind == V_BOOL) {
    Ast *taken = c->b ? ya : na;
    return taken ? elab_expr(E, env, taken) : v_none(E);
  }
  if (c->kind != V_TENSOR || c->t.dtype != DT_BOOL) {
    Diag *g = diag_add(E->d, T_TYPE, e->a->span, "a condition is a bool, not %s", v_type_text(E, c));
    if (c->kind == V_TENSOR || c->kind == V_NUM) diag_help(E->d, g, "compare it: ... != 0");
    elab_fail(E, g);
  }
  if (c->t.rank) {
    Arm yes = elab_arm(E, env, ya, NULL, false), no = elab_arm(E, env, na, NULL, false);
    if (yes.nchange || no.nchange)
      diag_fail(E->d, T_MODEL, e->span, "a condition for each element cannot choose a state's next value");
    return choose(E, e, c, &yes, &no, false);
  }
  Expr *p = c->t.e;
  bool region = !E->index && !p->nvar;
  Arm yes = elab_arm(E, env, ya, p, region), no = elab_arm(E, env, na, ex_op1(E->g, OP_NOT, p), region);
  if (!na && yes.v->kind != V_NONE && !yes.effect.n)
    diag_fail(E->d, T_TYPE, e->span, "this `if` gives a value, so it needs an `else`");
  if (!na) yes.v = v_none(E); /* for its effects */
  return choose_all(E, e, c, &yes, &no, region);
}
