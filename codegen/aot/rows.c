/* Does each row of the results depend on the same row of the inputs alone? (aot.h)
 *
 * Every node gets one of three answers:
 *   fixed     it does not depend on the batched inputs. `same` has a bit for each axis along which its values are equal
 *   rows      dim `axis` is batch * factor: positions b*factor .. b*factor + factor-1 are computed from row b alone
 *   mixed     neither: the answer is no
 *
 * A comprehension is in rows along output iterator i with factor g when i has extent batch * g and every load of a
 * node in rows (axis, f) subscripts that axis so that floor(subscript / f) = floor(i / g), and i is used nowhere else
 * but as i % m with m a divisor of g. So a reduction over the batch, a reversed batch, a row's number used as a value
 * (also by random draws) are all refused.
 *
 * Loops: a state in rows stays so in the same axis; it may begin as a fixed value that is the same in all rows. */
#include "codegen/aot/aot.h"
#include "codegen/map.h"
#include "graph/affine.h"
#include <string.h>

typedef enum { R_FIXED, R_ROWS, R_MIXED } Kind;
typedef struct Answer {
  uint8_t kind;
  int axis;
  int64_t factor;
  uint32_t same; /* FIXED */
} Answer;

typedef struct Rows {
  Arena *a;
  Graph *g;
  int64_t batch;
  NumMap of; /* node -> answer */
  VEC(Answer) answer;
  RowsAnswer *no;
} Rows;

static Answer mixed(Rows *r, const Node *n, const char *why) {
  if (!r->no->why) *r->no = (RowsAnswer){why, n->span};
  return (Answer){.kind = R_MIXED};
}

static Answer answer_of(Rows *r, const Node *n) {
  int at = nummap_get(&r->of, n);
  return at >= 0 ? r->answer.at[at] : (Answer){.kind = R_FIXED};
}
static void set_answer(Rows *r, const Node *n, Answer a) {
  int at = nummap_get(&r->of, n);
  if (at >= 0) {
    r->answer.at[at] = a;
    return;
  }
  vec_push(r->a, &r->answer, a);
  nummap_put(&r->of, n, r->answer.n - 1);
}

/* ---- Subscripts -------------------------------------------------------------------------------------------------- */
typedef struct Space {
  Rows *r;
  const Comp *c;
  int iter;       /* the batch's iterator; -1 not found yet */
  int64_t factor; /* g */
  const char *why;
  VEC(Expr *) row; /* subscripts that were proved to be in the row: uses of the iterator inside them are fine */
} Space;

/* The iterator and divisor of an atom i or i // m. */
static bool batch_atom(const Space *s, const Expr *e, int *iter, int64_t *div) {
  *div = 1;
  if (e->kind == EX_OP && e->op == OP_FLOORDIV && e->arg[1]->kind == EX_CONST && e->arg[1]->num.i > 0) {
    *div = e->arg[1]->num.i;
    e = e->arg[0];
  }
  if (e->kind != EX_ITER) return false;
  *iter = (int)e->num.i;
  return s->c->extent[*iter] % s->r->batch == 0 && s->c->extent[*iter] >= s->r->batch;
}

static bool agree(Space *s, int iter, int64_t factor) {
  if (s->c->extent[iter] != s->r->batch * factor) return false;
  if (iter >= s->c->nout) return s->why = "rows of the batch are reduced together", false;
  if (s->iter >= 0 && (s->iter != iter || s->factor != factor)) return false;
  s->iter = iter;
  s->factor = factor;
  return true;
}

/* The interval of e without its term k, over the comprehension's extents. */
static Interval rest_interval(const Space *s, const Expr *e, int k) {
  Arena *a = s->r->a;
  const Comp *c = s->c;
  int niter = c->nout + c->nred, n = 0;
  int64_t *coef = arena_array(a, int64_t, e->n);
  Expr **atom = arena_array(a, Expr *, e->n);
  Interval *iter = arena_array(a, Interval, niter);
  for (int i = 0; i < niter; i++) iter[i] = (Interval){0, c->extent[i] - 1};
  for (int j = 0; j < e->n; j++)
    if (j != k) coef[n] = e->coef[j], atom[n++] = e->arg[j];
  return ex_interval(s->r->g, ex_lin(s->r->g, e->num.i, n, coef, atom), &(Box){.niter = niter, .iter = iter}, NULL);
}

/* floor(e / f) = floor(i / g) for an iterator i of extent batch * g: e = coef * (i // m) + rest with 0 <= rest < coef,
 * and either m = 1 and g = f / coef, or coef = f and g = m. */
static bool row_subscript(Space *s, Expr *e, int64_t f) {
  int iter;
  int64_t m;
  vec_push(s->r->a, &s->row, e);
  if (batch_atom(s, e, &iter, &m)) return m == 1 ? agree(s, iter, f) : f == 1 && agree(s, iter, m);
  if (e->kind != EX_LIN) return false;
  for (int k = 0; k < e->n; k++) {
    int64_t coef = e->coef[k];
    if (coef <= 0 || f % coef || !batch_atom(s, e->arg[k], &iter, &m) || (m != 1 && coef != f)) continue;
    Interval rest = rest_interval(s, e, k);
    if (rest.lo >= 0 && rest.hi < coef && agree(s, iter, m == 1 ? f / coef : m)) return true;
  }
  return false;
}

static void find_rows(void *ctx, Expr *e) {
  Space *s = ctx;
  if (e->kind != EX_LOAD || s->why) return;
  Answer x = answer_of(s->r, e->node);
  if (x.kind == R_MIXED) s->why = "it reads such a value";
  if (x.kind == R_ROWS && !row_subscript(s, e->arg[x.axis], x.factor) && !s->why)
    s->why = "a row reads other rows of the batch";
}

/* ---- Uses of the iterator ---------------------------------------------------------------------------------------- */
typedef struct Uses {
  Space *s;
  NumMap seen;
  bool bad;
} Uses;
static void uses(Uses *u, Expr *e) {
  Space *s = u->s;
  if (u->bad || !ex_uses_iter(e, s->iter)) return;
  if (e->kind == EX_ITER) {
    u->bad = true;
    return;
  }
  if (nummap_get(&u->seen, e) >= 0) return;
  nummap_put(&u->seen, e, 1);
  if (e->kind == EX_OP && e->op == OP_MOD && e->arg[0]->kind == EX_ITER && e->arg[1]->kind == EX_CONST &&
      e->arg[1]->num.i > 0 && s->factor % e->arg[1]->num.i == 0)
    return;
  Answer x = e->kind == EX_LOAD ? answer_of(s->r, e->node) : (Answer){0};
  if (e->kind == EX_LOAD && e->mask) uses(u, e->mask);
  for (int k = 0; k < e->n; k++) {
    if (e->kind == EX_LOAD && x.kind == R_ROWS && k == x.axis) continue;        /* row_subscript has seen it */
    if (e->kind == EX_LOAD && x.kind == R_FIXED && (x.same >> k & 1)) continue; /* any row of it is the same */
    uses(u, e->arg[k]);
  }
}

/* Bits of the output axes along which a fixed comprehension's values are equal. */
static uint32_t same_axes(Rows *r, const Comp *c) {
  uint32_t same = 0;
  for (int i = 0; i < c->nout; i++) {
    Space s = {.r = r, .c = c, .iter = i, .factor = 1};
    Uses u = {&s, {.arena = r->a}, false};
    uses(&u, c->body);
    if (c->guard) uses(&u, c->guard);
    if (!u.bad) same |= 1u << i;
  }
  return same;
}

static Answer comp_rows(Rows *r, const Node *n, const Comp *c, Space *s) {
  *s = (Space){.r = r, .c = c, .iter = -1};
  ex_visit(c->body, find_rows, s);
  if (c->guard) ex_visit(c->guard, find_rows, s);
  if (s->why) return mixed(r, n, s->why);
  if (s->iter < 0) return (Answer){.kind = R_FIXED, .same = same_axes(r, c)};
  Uses u = {s, {.arena = r->a}, false};
  uses(&u, c->body);
  if (c->guard) uses(&u, c->guard);
  if (u.bad) return mixed(r, n, "the number of a row in the batch is used as a value");
  return (Answer){.kind = R_ROWS, .axis = s->iter, .factor = s->factor};
}

static Answer scan_rows(Rows *r, const Node *n) {
  Space s;
  Answer x = comp_rows(r, n, &n->comp, &s);
  if (x.kind == R_FIXED) x.same &= ~(1u << (n->rank - 1));
  if (x.kind == R_ROWS && x.axis == n->rank - 1) return mixed(r, n, "a running reduction goes along the batch");
  return x;
}

static Answer scatter_rows(Rows *r, const Node *n) {
  const Comp *c = &n->scatter.src;
  Answer base = n->scatter.base ? answer_of(r, n->scatter.base) : (Answer){.kind = R_FIXED, .same = ~0u};
  Space s;
  Answer x = comp_rows(r, n, c, &s);
  if (base.kind == R_MIXED || x.kind == R_MIXED) return mixed(r, n, "it reads such a value");
  for (int d = 0; d < n->rank; d++) ex_visit(n->scatter.idx[d], find_rows, &s);
  if (s.why) return mixed(r, n, s.why);
  if (s.iter < 0)
    return base.kind == R_FIXED ? (Answer){.kind = R_FIXED} : mixed(r, n, "fixed places of the batch are changed");
  for (int axis = 0; axis < n->rank; axis++) {
    const Expr *e = n->scatter.idx[axis];
    if (e->kind != EX_ITER || e->num.i != s.iter || n->dim[axis] != r->batch * s.factor) continue;
    bool fits = base.kind == R_ROWS ? base.axis == axis && base.factor == s.factor : (base.same >> axis & 1);
    Uses u = {&s, {.arena = r->a}, false};
    for (int d = 0; d < n->rank; d++)
      if (d != axis) uses(&u, n->scatter.idx[d]);
    if (fits && !u.bad) return (Answer){.kind = R_ROWS, .axis = axis, .factor = s.factor};
  }
  return mixed(r, n, "rows are written to places that depend on other rows");
}

/* ---- Regions ----------------------------------------------------------------------------------------------------- */
/* x may stand where like does: the same rows, or a fixed value that is the same in every row. */
static bool stands_for(Answer x, Answer like) {
  if (x.kind == R_MIXED) return false;
  if (like.kind == R_FIXED) return x.kind == R_FIXED;
  if (x.kind == R_FIXED) return x.same >> like.axis & 1;
  return x.axis == like.axis && x.factor == like.factor;
}

static bool rows_region(Rows *r, const Region *g);

static Answer loop_rows(Rows *r, const Node *n) {
  const Loop *l = &n->loop;
  if ((l->trip_node && answer_of(r, l->trip_node).kind != R_FIXED))
    return mixed(r, n, "the number of steps depends on the batch");
  Answer *state = arena_array(r->a, Answer, l->nstate);
  for (int k = 0; k < l->nstate; k++) state[k] = answer_of(r, l->init[k]);
  bool again = true;
  while (again) { /* a fixed state may turn out to be in rows, or to be the same along fewer axes than it began */
    again = false;
    for (int k = 0; k < l->nstate; k++) set_answer(r, l->param[k], state[k]);
    if (!rows_region(r, &l->body) || (l->cond && !rows_region(r, &(Region){1, &l->cond, 0, NULL})))
      return mixed(r, n, "it reads such a value");
    for (int k = 0; k < l->nstate; k++) {
      Answer next = answer_of(r, l->body.out[k]);
      if (state[k].kind == R_FIXED && next.kind == R_ROWS) {
        if (!stands_for(state[k], next))
          return mixed(r, n, "a loop's state begins with values of its own for each row");
        state[k] = next;
        again = true;
      } else if (state[k].kind == R_FIXED && next.kind == R_FIXED && (state[k].same & ~next.same)) {
        state[k].same &= next.same;
        again = true;
      }
    }
  }
  for (int k = 0; k < l->nstate; k++)
    if (!stands_for(answer_of(r, l->body.out[k]), state[k])) return mixed(r, n, "a loop's state moves between rows");
  if (l->cond && answer_of(r, l->cond).kind != R_FIXED) return mixed(r, n, "a `while` looks at the whole batch");
  return (Answer){.kind = R_FIXED};
}

static Answer get_rows(Rows *r, const Node *n) {
  const Node *of = n->get.of;
  int k = n->get.index;
  if (answer_of(r, of).kind == R_MIXED) return (Answer){.kind = R_MIXED};
  if (of->kind == ND_LOOP) {
    const Loop *l = &of->loop;
    if (k < l->nstate) { return answer_of(r, l->param[k]); }
    if (k == l->nstate + l->nstack) return (Answer){.kind = R_FIXED};
    Answer x = answer_of(r, l->body.out[k]);
    if (x.kind == R_ROWS) x.axis++;
    x.same = x.same << 1;
    return x;
  }
  if (of->kind == ND_COND) {
    Answer yes = answer_of(r, of->cond.yes.out[k]), no = answer_of(r, of->cond.no.out[k]);
    if (stands_for(yes, no)) return no.kind == R_FIXED ? (Answer){.kind = R_FIXED, .same = yes.same & no.same} : no;
    if (stands_for(no, yes)) return yes;
    return mixed(r, n, "the branches differ in how they treat rows");
  }
  return answer_of(r, of); /* of a CALL: alike in all results */
}

/* A routine loops over the axes before its own: rows along one of them in an argument are rows of the results. */
static Answer call_rows(Rows *r, const Node *n) {
  Answer rows = {.kind = R_FIXED};
  for (int k = 0; k < n->call.narg; k++) {
    Answer x = answer_of(r, n->call.arg[k]);
    if (x.kind == R_MIXED) return mixed(r, n, "it reads such a value");
    if (x.kind == R_ROWS) rows = x;
  }
  if (rows.kind == R_FIXED) return rows;
  bool before = n->call.fn->own && rows.axis < n->call.arg[0]->rank - n->call.fn->own;
  for (int k = 0; before && k < n->call.narg; k++) before = stands_for(answer_of(r, n->call.arg[k]), rows);
  return before ? rows : mixed(r, n, "a library routine works on the whole batch");
}

static Answer node_rows(Rows *r, const Node *n) {
  Space s;
  switch (n->kind) {
  case ND_COMP:
    return comp_rows(r, n, &n->comp, &s);
  case ND_SCAN:
    return scan_rows(r, n);
  case ND_SCATTER:
    return scatter_rows(r, n);
  case ND_LOOP:
    return loop_rows(r, n);
  case ND_COND:
    if (answer_of(r, n->cond.pred).kind != R_FIXED) return mixed(r, n, "a condition looks at the whole batch");
    return rows_region(r, &n->cond.yes) && rows_region(r, &n->cond.no) ? (Answer){.kind = R_FIXED}
                                                                       : (Answer){.kind = R_MIXED};
  case ND_GET:
    return get_rows(r, n);
  case ND_CALL:
    return call_rows(r, n);
  default:
    return answer_of(r, n); /* INPUT, CONST, PARAM */
  }
}

typedef struct Walk {
  Rows *r;
  VEC(const Node *) stack;
  NumMap done; /* in this region's pass */
} Walk;
static void push(void *ctx, Node *n) {
  Walk *w = ctx;
  if (nummap_get(&w->done, n) < 0) vec_push(w->r->a, &w->stack, n);
}

/* Nodes of the region in dependency order; what a loop or branch holds inside is walked by itself. Loops are walked
 * again until their states settle. */
static bool rows_region(Rows *r, const Region *g) {
  Walk w = {.r = r, .done = {.arena = r->a}};
  for (int k = 0; k < g->nout; k++) {
    push(&w, g->out[k]);
    while (w.stack.n) {
      const Node *n = w.stack.at[w.stack.n - 1];
      int before = w.stack.n;
      if (nummap_get(&w.done, n) >= 0) {
        w.stack.n--;
        continue;
      }
      if (n->kind == ND_LOOP) {
        for (int i = 0; i < n->loop.nstate; i++) push(&w, n->loop.init[i]);
        if (n->loop.trip_node) push(&w, n->loop.trip_node);
      } else if (n->kind == ND_COND) {
        push(&w, n->cond.pred);
      } else {
        nd_each_input(n, push, &w);
      }
      if (w.stack.n > before) continue;
      w.stack.n--;
      set_answer(r, n, node_rows(r, n));
      nummap_put(&w.done, n, 1);
    }
    if (answer_of(r, g->out[k]).kind == R_MIXED) return false;
  }
  return true;
}

bool rows_independent(Arena *a, Graph *graph, const Region *g, int nin, Node *const *in, const bool *batched,
                      int64_t batch, bool *out_batched, RowsAnswer *no) {
  Rows r = {.a = a, .g = graph, .batch = batch, .of = {.arena = a}, .no = no};
  *no = (RowsAnswer){0};
  for (int i = 0; i < nin; i++)
    if (batched[i]) set_answer(&r, in[i], (Answer){.kind = R_ROWS, .axis = 0, .factor = 1});
  if (!rows_region(&r, g)) return false;
  for (int i = 0; i < g->nout; i++) {
    const Node *n = g->out[i];
    Answer x = answer_of(&r, n);
    bool all_same = x.kind == R_FIXED && n->rank && n->dim[0] == batch && (x.same & 1);
    out_batched[i] = (x.kind == R_ROWS && x.axis == 0 && x.factor == 1) || all_same;
    if (x.kind == R_ROWS && !out_batched[i]) {
      mixed(&r, n, "a result does not have the batch as its first axis");
      return false;
    }
  }
  return true;
}
