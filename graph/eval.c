/* The oracle: evaluates a region one element at a time, floats in f64 and integers in i64, as the definitions in graph.h
 * say and nothing cleverer. Every kernel and pass is tested against it, so it shares no code with them beyond the value
 * column of scalar.def.
 *
 *   Frame   values of nodes while one region runs once: the root, one loop step, one branch
 *   Tape    the distinct sub-expressions of a body, children first; run once a point
 *
 * A node's value lives in the innermost frame that binds a PARAM it depends on, so what a loop body does not change is
 * computed once. Branches are lazy: their nodes are evaluated when the branch is entered. Masks are what makes eager
 * evaluation of both arms of a select safe: a masked load reads nothing. */
#include "native.h"
#include "ptrmap.h"
#include "scalar_eval.h"
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

typedef union {
  double f;
  int64_t i;
} Cell;
typedef struct Data {
  bool is_f;
  int64_t n;
  Cell *at;
  struct Data *res;
  int nres;
} Data; /* tuple kinds: res[nres] */

typedef struct Frame {
  struct Frame *up;
  PtrMap bound; /* PARAM -> Data */
  PtrMap value; /* Node -> Data */
  Arena *arena; /* of the values */
} Frame;

typedef struct Eval {
  Graph *g;
  const Tensor *input;
  int ninput;
  const EvalOptions *o;
  Fault *fault;
  Arena *arena;       /* of this evaluation: tapes, sets */
  PtrMap free_params; /* Node -> ParamSet */
  VEC(Arena *) open;  /* arenas of steps and nodes under way, freed after a fault */
  jmp_buf stop;       /* a fault ends the evaluation */
} Eval;

typedef struct ParamSet {
  int n;
  Node **at;
} ParamSet;

static void eval_region(Eval *ev, Frame *fr, const Region *r);

static _Noreturn void stop(Eval *ev) { longjmp(ev->stop, 1); }
static void check_interrupt(Eval *ev) {
  if (ev->o->interrupt && *ev->o->interrupt) {
    fault_set(ev->fault, R_INTERRUPT, (Span){0, 0, 0}, "interrupted");
    stop(ev);
  }
}
static void out_of_memory(void *ctx, size_t wanted) {
  Eval *ev = ctx;
  fault_set(ev->fault, R_MEMORY, (Span){0, 0, 0}, "out of memory: %zu bytes were refused", wanted);
  stop(ev);
}

/* memcpy that takes NULL for nothing. */
static void copy(void *to, const void *from, size_t bytes) {
  if (bytes) memcpy(to, from, bytes);
}
static Arena *open_arena(Eval *ev) {
  Arena *a = arena_new();
  arena_on_oom(a, out_of_memory, ev);
  vec_push(ev->arena, &ev->open, a);
  return a;
}
static void close_arena(Eval *ev) { arena_free(ev->open.at[--ev->open.n]); }

/* ---- free parameters -------------------------------------------------------------------------------------------- */
static bool set_has(const ParamSet *s, const Node *p) {
  for (int i = 0; i < s->n; i++)
    if (s->at[i] == p) return true;
  return false;
}
static void set_add(Arena *a, ParamSet *s, const ParamSet *more, int nskip, Node *const *skip, const Node *skip2) {
  for (int i = 0; i < more->n; i++) {
    Node *p = more->at[i];
    bool drop = p == skip2 || set_has(s, p);
    for (int k = 0; k < nskip && !drop; k++) drop = skip[k] == p;
    if (drop) continue;
    Node **bigger = arena_array(a, Node *, s->n + 1);
    copy(bigger, s->at, sizeof *bigger * (size_t)s->n);
    bigger[s->n] = p;
    s->at = bigger, s->n++;
  }
}

typedef struct Walk {
  Eval *ev;
  ParamSet *into;
  int nskip;
  Node *const *skip;
  const Node *skip2;
} Walk;
static void add_input(void *ctx, Node *in) {
  Walk *w = ctx;
  const ParamSet *s = ptrmap_get(&w->ev->free_params, in);
  if (s) set_add(w->ev->arena, w->into, s, w->nskip, w->skip, w->skip2);
}
/* What a loop's body does in every step, also in a branch, depends on its counter, or else on a state, whether it reads
 * them or not. */
static void pin_effects(PtrMap *pinned, const Region *r, Node *to) {
  for (int i = 0; to && i < r->neffect; i++) ptrmap_put(pinned, r->effect[i], to);
}
static void pin_node(PtrMap *pinned, const Node *n) {
  const Loop *l = &n->loop;
  if (n->kind == ND_LOOP) pin_effects(pinned, &l->body, l->counter ? l->counter : l->nstate ? l->param[0] : NULL);
  if (n->kind != ND_COND) return;
  pin_effects(pinned, &n->cond.yes, ptrmap_get(pinned, n));
  pin_effects(pinned, &n->cond.no, ptrmap_get(pinned, n));
}
/* graph_topo lists children first, so one sweep fills the sets. */
static void find_free_params(Eval *ev, const Region *r) {
  Node **root = arena_array(ev->arena, Node *, r->nout + r->neffect);
  copy(root, r->out, sizeof *root * (size_t)r->nout);
  copy(root + r->nout, r->effect, sizeof *root * (size_t)r->neffect);
  Node **order;
  int n = graph_topo(ev->g, r->nout + r->neffect, root, &order);
  PtrMap pinned = {.arena = ev->arena};
  for (int i = n - 1; i >= 0; i--) pin_node(&pinned, order[i]);
  for (int i = 0; i < n; i++) {
    Node *nd = order[i];
    ParamSet *s = arena_new_of(ev->arena, ParamSet);
    Node *pin = ptrmap_get(&pinned, nd);
    if (pin) {
      Node **one = arena_array(ev->arena, Node *, 1);
      one[0] = pin;
      *s = (ParamSet){.n = 1, .at = one};
    }
    if (nd->kind == ND_PARAM) {
      s->n = 1, s->at = arena_array(ev->arena, Node *, 1), s->at[0] = nd;
    } else {
      Walk w = {ev, s, 0, NULL, NULL};
      if (nd->kind == ND_LOOP) w.nskip = nd->loop.nstate, w.skip = nd->loop.param, w.skip2 = nd->loop.counter;
      if (nd->kind == ND_CUSTOM) w.nskip = nd->custom.nparam, w.skip = nd->custom.param;
      nd_each_input(nd, add_input, &w);
    }
    ptrmap_put(&ev->free_params, nd, s);
  }
}
static Frame *home(Eval *ev, Frame *fr, Node *n) {
  const ParamSet *s = ptrmap_get(&ev->free_params, n);
  for (; fr->up; fr = fr->up)
    for (int i = 0; s && i < s->n; i++)
      if (ptrmap_has(&fr->bound, s->at[i])) return fr;
  return fr;
}

/* ---- data ------------------------------------------------------------------------------------------------------- */
static Data *data_new(Arena *a, DType t, int64_t n) {
  Data *d = arena_new_of(a, Data);
  size_t bytes;
  if (__builtin_mul_overflow((size_t)n, sizeof(Cell), &bytes)) bytes = SIZE_MAX / 2;
  d->is_f = dt_is_float(t), d->n = n, d->at = arena_alloc(a, bytes ? bytes : 1);
  return d;
}
static Data *data_from(Arena *a, DType t, int64_t n, const void *raw) {
  Data *d = data_new(a, t, n);
  for (int64_t i = 0; i < n; i++)
    if (d->is_f)
      d->at[i].f = dt_get_f(t, raw, i);
    else
      d->at[i].i = dt_get_i(t, raw, i);
  return d;
}
static void data_to(const Data *d, DType t, void *raw) {
  for (int64_t i = 0; i < d->n; i++)
    if (dt_is_float(t))
      dt_put_f(t, raw, i, d->at[i].f);
    else
      dt_put_i(t, raw, i, d->at[i].i);
}
/* Integers are kept as their dtype stores them. */
static int64_t wrap(DType t, int64_t v) {
  switch (t) {
  case DT_BOOL:
    return v != 0;
  case DT_U8:
    return (uint8_t)v;
  case DT_I8:
    return (int8_t)v;
  case DT_I16:
    return (int16_t)v;
  case DT_I32:
    return (int32_t)v;
  default:
    return v;
  }
}
/* float -> integer: towards zero, saturating, nan to 0 (llvm.fptosi.sat). */
static int64_t to_int(DType t, double v) {
  if (v != v) return 0;
  double lo = (double)dt_int_min(t), hi = (double)dt_int_max(t);
  if (v <= lo) return dt_int_min(t);
  if (v >= hi) return dt_int_max(t);
  return (int64_t)v;
}

/* ---- tapes ------------------------------------------------------------------------------------------------------ */
typedef struct Tape {
  int n;
  Expr **ex;
  int **arg;  /* slots of the arguments */
  int *mask;  /* slot, or -1 */
  Data **src; /* LOAD */
  Cell *val;
} Tape;
typedef struct Slots {
  Arena *a;
  PtrMap slot;
  VEC(Expr *) order;
} Slots;
static void add_slot(void *ctx, Expr *e) {
  Slots *s = ctx;
  if (ptrmap_has(&s->slot, e)) return;
  vec_push(s->a, &s->order, e);
  ptrmap_put(&s->slot, e, (void *)(intptr_t)s->order.n);
}
static int slot_of(const Slots *s, Expr *e) { return (int)(intptr_t)ptrmap_get(&s->slot, e) - 1; }

static Data *find_value(Eval *ev, Frame *fr, Node *n) { return ptrmap_get(&home(ev, fr, n)->value, n); }

static Tape *tape_new(Eval *ev, Frame *fr, Arena *a, int nroot, Expr *const *root, int *root_slot) {
  Slots s = {.a = a, .slot = {.arena = a}};
  for (int i = 0; i < nroot; i++)
    if (root[i]) ex_visit(root[i], add_slot, &s);
  Tape *t = arena_new_of(a, Tape);
  t->n = s.order.n, t->ex = s.order.at;
  t->arg = arena_array(a, int *, t->n), t->mask = arena_array(a, int, t->n);
  t->src = arena_array(a, Data *, t->n), t->val = arena_array(a, Cell, t->n);
  for (int i = 0; i < t->n; i++) {
    Expr *e = t->ex[i];
    t->arg[i] = arena_array(a, int, e->n);
    for (int k = 0; k < e->n; k++) t->arg[i][k] = slot_of(&s, e->arg[k]);
    t->mask[i] = e->kind == EX_LOAD && e->mask ? slot_of(&s, e->mask) : -1;
    if (e->kind == EX_LOAD) t->src[i] = find_value(ev, fr, e->node);
  }
  for (int i = 0; i < nroot; i++) root_slot[i] = root[i] ? slot_of(&s, root[i]) : -1;
  return t;
}

static Cell load_cell(Eval *ev, const Tape *t, int k, const Expr *e) {
  int64_t at = 0;
  for (int d = 0; d < e->n; d++) {
    int64_t i = t->val[t->arg[k][d]].i, size = e->node->dim[d];
    if (i < 0 || i >= size) {
      if (!e->checked)
        bug("oracle: unchecked load of %%%u leaves axis %d: %lld of %lld", e->node->id, d, (long long)i,
            (long long)size);
      fault_set(ev->fault, R_INDEX, e->span, "index %lld is out of range for axis %d of size %lld", (long long)i, d,
                (long long)size);
      stop(ev);
    }
    at = at * size + i;
  }
  return t->src[k]->at[at];
}
static Cell op_cell(Eval *ev, const Tape *t, int k, const Expr *e) {
  Cell r = {0};
  const int *arg = t->arg[k];
  DType from = e->arg[0]->dtype, to = e->dtype;
  if (e->op == OP_CAST) {
    Cell x = t->val[arg[0]];
    if (dt_is_float(from) && dt_is_float(to))
      r = x;
    else if (dt_is_float(from))
      r.i = to == DT_BOOL ? x.f != 0 : to_int(to, x.f);
    else if (dt_is_float(to))
      r.f = (double)x.i;
    else
      r.i = wrap(to, x.i);
    return r;
  }
  if (e->op == OP_SELECT) return t->val[arg[0]].i ? t->val[arg[1]] : t->val[arg[2]];
  if (dt_is_float(from)) {
    double x[3] = {0};
    for (int i = 0; i < e->n; i++) x[i] = t->val[arg[i]].f;
    double v = sc_eval_f(e->op, x);
    if (dt_is_float(to))
      r.f = v;
    else
      r.i = v != 0;
    return r;
  }
  int64_t x[3] = {0};
  for (int i = 0; i < e->n; i++) x[i] = t->val[arg[i]].i;
  if ((e->op == OP_FLOORDIV || e->op == OP_MOD) && x[1] == 0) {
    fault_set(ev->fault, R_DIVZERO, e->span, "integer division by zero");
    stop(ev);
  }
  r.i = wrap(to, sc_eval_i(e->op, x));
  return r;
}
static void tape_run(Eval *ev, Tape *t, const int64_t *iter) {
  for (int k = 0; k < t->n; k++) {
    const Expr *e = t->ex[k];
    Cell c = {0};
    switch (e->kind) {
    case EX_CONST:
      if (dt_is_float(e->dtype))
        c.f = e->num.f;
      else
        c.i = e->num.i;
      break;
    case EX_ITER:
      c.i = iter[e->num.i];
      break;
    case EX_LIN: {
      uint64_t v = (uint64_t)e->num.i;
      for (int i = 0; i < e->n; i++) v += (uint64_t)e->coef[i] * (uint64_t)t->val[t->arg[k][i]].i;
      c.i = (int64_t)v;
      break;
    }
    case EX_LOAD:
      if (t->mask[k] < 0 || t->val[t->mask[k]].i) c = load_cell(ev, t, k, e);
      break;
    case EX_OP:
      c = op_cell(ev, t, k, e);
      break;
    default:
      bug("oracle: expression kind %d", e->kind);
    }
    t->val[k] = c;
  }
}
/* Next point of a row-major space; false after the last. */
static bool next_point(int n, const int64_t *extent, int64_t *it) {
  for (int d = n; d-- > 0;) {
    if (++it[d] < extent[d]) return true;
    it[d] = 0;
  }
  return false;
}
static int64_t space_size(int n, const int64_t *extent) {
  int64_t s = 1;
  for (int i = 0; i < n; i++) s *= extent[i];
  return s;
}

/* ---- kinds ------------------------------------------------------------------------------------------------------ */
typedef struct Acc {
  Cell v;
  int64_t best;
  bool any;
} Acc;
static Acc acc_start(Reduce op, bool is_f, DType t) {
  Acc a = {.best = 0};
  if (is_f)
    a.v.f = op == RED_PROD ? 1 : op == RED_MAX ? -INFINITY : op == RED_MIN ? INFINITY : 0;
  else
    a.v.i = op == RED_PROD || op == RED_ALL ? 1 : op == RED_MAX ? dt_int_min(t) : op == RED_MIN ? dt_int_max(t) : 0;
  return a;
}
static void acc_add(Acc *a, Reduce op, bool is_f, DType t, Cell x, int64_t pos) {
  switch (op) {
  case RED_SUM:
    if (is_f)
      a->v.f += x.f;
    else
      a->v.i = wrap(t, (int64_t)((uint64_t)a->v.i + (uint64_t)x.i));
    break;
  case RED_PROD:
    if (is_f)
      a->v.f *= x.f;
    else
      a->v.i = wrap(t, (int64_t)((uint64_t)a->v.i * (uint64_t)x.i));
    break;
  case RED_MAX:
    if (is_f)
      a->v.f = x.f > a->v.f || x.f != x.f ? x.f : a->v.f;
    else if (x.i > a->v.i)
      a->v = x;
    break;
  case RED_MIN:
    if (is_f)
      a->v.f = x.f < a->v.f || x.f != x.f ? x.f : a->v.f;
    else if (x.i < a->v.i)
      a->v = x;
    break;
  case RED_ANY:
    a->v.i |= x.i != 0;
    break;
  case RED_ALL:
    a->v.i &= x.i != 0;
    break;
  case RED_ARGMAX:
  case RED_ARGMIN: {
    bool up = op == RED_ARGMAX;
    bool nan_before = is_f && a->any && a->v.f != a->v.f;
    bool better = !a->any || (!nan_before && (is_f ? x.f != x.f || (up ? x.f > a->v.f : x.f < a->v.f)
                                              : up ? x.i > a->v.i
                                                   : x.i < a->v.i));
    if (better) a->v = x, a->best = pos;
    a->any = true;
    break;
  }
  default:
    bug("oracle: reduction %d", op);
  }
}

static void eval_comp(Eval *ev, Frame *fr, Node *n, Data *out, Arena *scratch) {
  const Comp *c = &n->comp;
  Expr *root[2] = {c->body, c->guard};
  int slot[2];
  Tape *t = tape_new(ev, fr, scratch, 2, root, slot);
  bool is_f = dt_is_float(c->body->dtype);
  int64_t it[64] = {0}, red = space_size(c->nred, c->extent + c->nout), at = 0;
  if (c->nout + c->nred > 64) bug("oracle: %d iterators", c->nout + c->nred);
  if (out->n == 0) return;
  do {
    if ((at & 1023) == 0) check_interrupt(ev);
    Acc acc = acc_start(c->op, is_f, c->body->dtype);
    memset(it + c->nout, 0, sizeof *it * (size_t)c->nred);
    for (int64_t pos = 0; pos < red; pos++) {
      tape_run(ev, t, it);
      if (slot[1] < 0 || t->val[slot[1]].i) {
        if (c->op == RED_NONE)
          acc.v = t->val[slot[0]];
        else
          acc_add(&acc, c->op, is_f, c->body->dtype, t->val[slot[0]], pos);
      }
      next_point(c->nred, c->extent + c->nout, it + c->nout);
    }
    out->at[at] = acc.v;
    if (c->op == RED_ARGMAX || c->op == RED_ARGMIN) out->at[at].i = acc.best;
    at++;
  } while (next_point(c->nout, c->extent, it));
}

static void eval_scan(Eval *ev, Frame *fr, Node *n, Data *out, Arena *scratch) {
  const Comp *c = &n->comp;
  int slot[2];
  Expr *root[2] = {c->body, c->guard};
  Tape *t = tape_new(ev, fr, scratch, 2, root, slot);
  bool is_f = dt_is_float(c->body->dtype);
  int64_t it[64] = {0}, len = c->extent[c->nout - 1], at = 0;
  if (out->n == 0) return;
  do {
    check_interrupt(ev);
    Acc acc = acc_start(c->op, is_f, c->body->dtype);
    for (int64_t k = 0; k < len; k++) {
      int64_t p = c->reverse ? len - 1 - k : k;
      it[c->nout - 1] = p;
      tape_run(ev, t, it);
      if (c->exclusive) out->at[at + p] = acc.v;
      if (slot[1] < 0 || t->val[slot[1]].i) acc_add(&acc, c->op, is_f, c->body->dtype, t->val[slot[0]], k);
      if (!c->exclusive) out->at[at + p] = acc.v;
    }
    at += len;
  } while (next_point(c->nout - 1, c->extent, it));
}

static void eval_scatter(Eval *ev, Frame *fr, Node *n, Data *out, Arena *scratch) {
  const Comp *c = &n->scatter.src;
  int nidx = n->scatter.nidx;
  Expr *root[66];
  int slot[66];
  root[0] = c->body, root[1] = c->guard;
  for (int i = 0; i < nidx; i++) root[2 + i] = n->scatter.idx[i];
  Tape *t = tape_new(ev, fr, scratch, 2 + nidx, root, slot);
  bool is_f = dt_is_float(n->dtype);
  if (n->scatter.base) copy(out->at, find_value(ev, fr, n->scatter.base)->at, sizeof(Cell) * (size_t)out->n);
  int64_t it[64] = {0};
  if (space_size(c->nout, c->extent) == 0) return;
  do {
    tape_run(ev, t, it);
    if (slot[1] >= 0 && !t->val[slot[1]].i) continue;
    int64_t at = 0;
    for (int d = 0; d < nidx; d++) {
      int64_t i = t->val[slot[2 + d]].i;
      if (i < 0 || i >= n->dim[d]) {
        if (!n->scatter.checked)
          bug("oracle: unchecked scatter %%%u leaves axis %d: %lld of %lld", n->id, d, (long long)i,
              (long long)n->dim[d]);
        fault_set(ev->fault, R_INDEX, n->span, "index %lld is out of range for axis %d of size %lld", (long long)i, d,
                  (long long)n->dim[d]);
        stop(ev);
      }
      at = at * n->dim[d] + i;
    }
    Acc acc = {.v = out->at[at]};
    switch (n->scatter.how) {
    case SC_SET:
      out->at[at] = t->val[slot[0]];
      continue;
    case SC_ADD:
      acc_add(&acc, RED_SUM, is_f, n->dtype, t->val[slot[0]], 0);
      break;
    case SC_MAX:
      acc_add(&acc, RED_MAX, is_f, n->dtype, t->val[slot[0]], 0);
      break;
    case SC_MIN:
      acc_add(&acc, RED_MIN, is_f, n->dtype, t->val[slot[0]], 0);
      break;
    }
    out->at[at] = acc.v;
  } while (next_point(c->nout, c->extent, it));
}

static Data *result_new(Arena *a, const Node *n) {
  Data *d = arena_new_of(a, Data);
  d->nres = n->nres, d->res = arena_array(a, Data, n->nres);
  for (int i = 0; i < n->nres; i++) {
    int64_t size = space_size(n->res[i].rank, n->res[i].dim);
    d->res[i] = *data_new(a, n->res[i].dtype, size);
  }
  return d;
}
static void data_copy(Data *to, const Data *from) { copy(to->at, from->at, sizeof(Cell) * (size_t)to->n); }

static void eval_loop(Eval *ev, Frame *fr, Node *n, Data *out) {
  const Loop *l = &n->loop;
  int64_t trip = l->trip, steps = 0;
  if (l->trip_node) {
    trip = find_value(ev, fr, l->trip_node)->at[0].i;
    if (trip < 0) trip = 0;
    if (trip > l->trip) trip = l->trip;
  }
  for (int k = 0; k < l->nstate; k++) data_copy(&out->res[k], find_value(ev, fr, l->init[k]));
  for (; steps < trip; steps++) {
    check_interrupt(ev);
    Arena *step = open_arena(ev);
    Frame in = {.up = fr, .bound = {.arena = step}, .value = {.arena = step}, .arena = step};
    int64_t counter = l->reverse ? trip - 1 - steps : steps;
    for (int k = 0; k < l->nstate; k++) {
      ptrmap_put(&in.bound, l->param[k], l->param[k]);
      ptrmap_put(&in.value, l->param[k], &out->res[k]);
    }
    if (l->counter) {
      Data *c = data_new(step, DT_I64, 1);
      c->at[0].i = counter;
      ptrmap_put(&in.bound, l->counter, l->counter);
      ptrmap_put(&in.value, l->counter, c);
    }
    if (l->cond) {
      eval_region(ev, &in, &(Region){.nout = 1, .out = &l->cond});
      if (!find_value(ev, &in, l->cond)->at[0].i) {
        close_arena(ev);
        break;
      }
    }
    eval_region(ev, &in, &l->body);
    /* All next states are read before any is overwritten. */
    Data *next = arena_array(step, Data, l->nstate);
    for (int k = 0; k < l->nstate; k++) {
      next[k] = *data_new(step, l->init[k]->dtype, out->res[k].n);
      data_copy(&next[k], find_value(ev, &in, l->body.out[k]));
    }
    for (int j = 0; j < l->nstack; j++) {
      const Data *v = find_value(ev, &in, l->body.out[l->nstate + j]);
      copy(out->res[l->nstate + j].at + counter * v->n, v->at, sizeof(Cell) * (size_t)v->n);
    }
    for (int k = 0; k < l->nstate; k++) data_copy(&out->res[k], &next[k]);
    close_arena(ev);
  }
  out->res[l->nstate + l->nstack].at[0].i = steps;
}

static void eval_cond(Eval *ev, Frame *fr, Node *n, Data *out) {
  const Region *r = find_value(ev, fr, n->cond.pred)->at[0].i ? &n->cond.yes : &n->cond.no;
  eval_region(ev, fr, r);
  for (int i = 0; i < r->nout; i++) data_copy(&out->res[i], find_value(ev, fr, r->out[i]));
}

/* Natives see their own dtypes; wide evaluation hands f64 to pure ones, so that LAPACK is as exact as the rest. */
static void eval_call(Eval *ev, Frame *fr, Node *n, Data *out) {
  int nin = n->call.narg;
  bool wide = ev->o->wide && !n->call.fn->effect;
  Tensor *in = arena_array(ev->arena, Tensor, nin), *res = arena_array(ev->arena, Tensor, n->nres);
  bool ok = true;
  for (int i = 0; i < nin && ok; i++) {
    const Node *a = n->call.arg[i];
    DType t = wide && dt_is_float(a->dtype) ? DT_F64 : a->dtype;
    ok = tensor_alloc(&in[i], t, a->rank, a->dim);
    if (ok) data_to(find_value(ev, fr, n->call.arg[i]), t, in[i].data);
  }
  for (int i = 0; i < n->nres && ok; i++)
    ok = tensor_alloc(&res[i], wide && dt_is_float(n->res[i].dtype) ? DT_F64 : n->res[i].dtype, n->res[i].rank,
                      n->res[i].dim);
  if (!ok) fault_set(ev->fault, R_MEMORY, n->span, "out of memory");
  ok = ok && native_call(n->call.fn, ev->o->native_ctx, n->call.nattr, n->call.attr, nin, in, n->nres, res, ev->fault);
  if (!ok && !ev->fault->span.file) ev->fault->span = n->span;
  for (int i = 0; i < n->nres && ok; i++) {
    Data *d = data_from(ev->arena, res[i].dtype, out->res[i].n, res[i].data);
    data_copy(&out->res[i], d);
  }
  for (int i = 0; i < nin; i++) tensor_drop(&in[i]);
  for (int i = 0; i < n->nres; i++) tensor_drop(&res[i]);
  if (!ok) stop(ev);
}

static void eval_node(Eval *ev, Frame *fr, Node *n) {
  Frame *at = home(ev, fr, n);
  check_interrupt(ev);
  Data *d = NULL;
  Arena *scratch = open_arena(ev);
  if (n->nres)
    d = result_new(at->arena, n);
  else if (n->kind != ND_INPUT && n->kind != ND_CONST && n->kind != ND_GET && n->kind != ND_CUSTOM)
    d = data_new(at->arena, n->dtype, nd_size(n));
  switch (n->kind) {
  case ND_INPUT:
    if (n->slot < 0 || n->slot >= ev->ninput) bug("oracle: input slot %lld", (long long)n->slot);
    d = data_from(at->arena, n->dtype, nd_size(n), ev->input[n->slot].data);
    break;
  case ND_CONST:
    d = data_from(at->arena, n->dtype, nd_size(n), n->data);
    break;
  case ND_PARAM:
    bug("oracle: unbound parameter %%%u (%s)", n->id, n->name ? n->name : "counter");
  case ND_COMP:
    eval_comp(ev, at, n, d, scratch);
    break;
  case ND_SCAN:
    eval_scan(ev, at, n, d, scratch);
    break;
  case ND_SCATTER:
    eval_scatter(ev, at, n, d, scratch);
    break;
  case ND_LOOP:
    eval_loop(ev, at, n, d);
    break;
  case ND_COND:
    eval_cond(ev, at, n, d);
    break;
  case ND_CALL:
    eval_call(ev, at, n, d);
    break;
  case ND_GET:
    d = &find_value(ev, at, n->get.of)->res[n->get.index];
    break;
  case ND_CUSTOM:
    d = find_value(ev, at, n->custom.primal);
    break;
  default:
    bug("oracle: node kind %d", n->kind);
  }
  close_arena(ev);
  ptrmap_put(&at->value, n, d);
}

/* What must be known before a node is evaluated: regions evaluate their own. */
typedef struct Todo {
  Eval *ev;
  Frame *fr;
  VEC(Node *) stack;
} Todo;
static void want(void *ctx, Node *n) {
  Todo *t = ctx;
  if (!find_value(t->ev, t->fr, n)) vec_push(t->ev->arena, &t->stack, n);
}
static void want_inputs(Todo *t, Node *n) {
  switch (n->kind) {
  case ND_LOOP:
    for (int i = 0; i < n->loop.nstate; i++) want(t, n->loop.init[i]);
    if (n->loop.trip_node) want(t, n->loop.trip_node);
    break;
  case ND_COND:
    want(t, n->cond.pred);
    break;
  case ND_CUSTOM:
    want(t, n->custom.primal);
    break;
  default:
    nd_each_input(n, want, t);
  }
}
static void eval_root(Eval *ev, Frame *fr, Node *root) {
  Todo t = {.ev = ev, .fr = fr};
  want(&t, root);
  while (t.stack.n) {
    Node *n = t.stack.at[t.stack.n - 1];
    int before = t.stack.n;
    if (find_value(ev, fr, n)) {
      t.stack.n--;
      continue;
    }
    want_inputs(&t, n);
    if (t.stack.n > before) continue;
    t.stack.n--;
    eval_node(ev, fr, n);
  }
}
static void eval_region(Eval *ev, Frame *fr, const Region *r) {
  for (int i = 0; i < r->neffect; i++) eval_root(ev, fr, r->effect[i]);
  for (int i = 0; i < r->nout; i++) eval_root(ev, fr, r->out[i]);
}

bool graph_eval(Graph *g, const Region *r, int ninput, const Tensor *input, Tensor *out, const EvalOptions *o,
                Fault *f) {
  static const EvalOptions none = {0};
  Arena *arena = arena_new();
  Eval *ev = arena_new_of(arena, Eval);
  *ev = (Eval){.g = g,
               .input = input,
               .ninput = ninput,
               .o = o ? o : &none,
               .fault = f,
               .arena = arena,
               .free_params = {.arena = arena}};
  f->id = E_NONE;
  bool ok = false;
  if (!setjmp(ev->stop)) {
    arena_on_oom(arena, out_of_memory, ev);
    find_free_params(ev, r);
    Frame root = {.bound = {.arena = arena}, .value = {.arena = arena}, .arena = arena};
    eval_region(ev, &root, r);
    ok = true;
    for (int i = 0; i < r->nout && ok; i++) {
      const Node *n = r->out[i];
      DType t = ev->o->wide && dt_is_float(n->dtype) ? DT_F64 : n->dtype;
      ok = tensor_alloc(&out[i], t, n->rank, n->dim);
      if (ok)
        data_to(find_value(ev, &root, r->out[i]), t, out[i].data);
      else {
        fault_set(f, R_MEMORY, n->span, "out of memory");
        while (i-- > 0) tensor_drop(&out[i]);
        break;
      }
    }
  }
  while (ev->open.n) close_arena(ev);
  arena_free(arena);
  return ok;
}
