/* The memory plan: values to slots, slots to offsets in one arena.
 *
 * Every value starts with a slot of its own. Walking the steps in order, a slot changes hands instead when its value
 * dies where another of the same size is born: in-place kernels and calls, a loop's initial state, a loop's state, a
 * branch's results. `heir` of a slot is the value that holds it at the time of the walk. What is left gets offsets
 * (offsets.c). */
#include "codegen/plan.h"
#include <stdlib.h>
#include <string.h>

typedef struct Memory {
  Planner *p;
  VEC(int) heir;
  int *becomes; /* by value: the state of a loop around it whose next value it is, else -1 */
} Memory;

static int root_of(const Planner *p, int s) {
  while (p->slot.at[s].into >= 0) s = p->slot.at[s].into;
  return s;
}

static int slot_of(const Planner *p, int v) { return root_of(p, p->value.at[v].slot); }

static void ring_join(Planner *p, int a, int b) {
  for (int s = p->slot.at[a].ring; s != a; s = p->slot.at[s].ring)
    if (s == b) return;
  int t = p->slot.at[a].ring;
  p->slot.at[a].ring = p->slot.at[b].ring;
  p->slot.at[b].ring = t;
}

/* a takes over b, a slot that is in no ring. */
static void slot_merge(Memory *m, int a, int b, int heir) {
  Planner *p = m->p;
  Slot *x = &p->slot.at[a], *y = &p->slot.at[b];
  if (a == b) return;
  if (y->ring != b || (x->kind == SL_OUT && y->kind == SL_OUT)) bug("plan: slots can't merge");
  if (y->kind == SL_OUT) {
    x->kind = SL_OUT;
    x->number = y->number;
  }
  if (y->start < x->start) x->start = y->start;
  if (y->end > x->end) x->end = y->end;
  y->into = a;
  m->heir.at[a] = heir;
}

/* ---- In-place kernels -------------------------------------------------------------------------------------------- */
typedef struct Reads {
  const Kernel *k;
  const Node *n;
  bool same;
  int last;
  int stage;
} Reads;

static void read_visit(void *ctx, Expr *e) {
  Reads *r = ctx;
  if (e->kind != EX_LOAD || e->node != r->n) return;
  r->last = r->stage;
  for (int d = 0; d < e->n; d++)
    if (e->arg[d]->kind != EX_ITER || e->arg[d]->num.i != d) r->same = false;
}

/* May `out` be written where `in` lies? Every load of `in` reads the element of its own point, in the stage that
 * writes `out` or before. A contraction may keep partial sums in its output: no. A scatter that reads elsewhere: no. */
static bool harmless(const Kernel *k, int in, int out) {
  const KBuf *x = &k->buf[in], *y = &k->buf[out];
  Reads r = {k, x->node, true, -1, 0};
  int writer = -1;
  if (k->stage[0].kind == ST_CONTRACT || k->stage[0].kind == ST_SCATTER) return false;
  if (x->dtype != y->dtype || x->rank != y->rank) return false;
  for (int d = 0; d < x->rank; d++)
    if (x->dim[d] != y->dim[d]) return false;
  for (int i = 0; i < k->nstage; i++) {
    const Stage *s = &k->stage[i];
    r.stage = i;
    if (s->guard) ex_visit(s->guard, read_visit, &r);
    ex_visit(s->body, read_visit, &r);
    if (s->out == out) writer = i;
    if (s->kind == ST_SCAN && s->reverse && r.last == i) r.same = false;
  }
  return r.same && r.last <= writer;
}

typedef struct BaseRead {
  const Node *n;
  const Stage *s;
  bool same;
} BaseRead;

static void base_visit(void *ctx, Expr *e) {
  BaseRead *r = ctx;
  if (e->kind != EX_LOAD || e->node != r->n) return;
  for (int d = 0; d < e->n; d++)
    if (e->arg[d] != r->s->at[d]) r->same = false;
}

/* May a scatter that also reads its base change it in place? Yes if it has one point; or if every point reads only the
 * element that it alone writes. */
static bool harmless_scatter(const Kernel *k, const Node *base) {
  const Stage *s = &k->stage[0];
  int64_t own = 1, points = kernel_points(k);
  BaseRead r = {base, s, true};
  if (!kernel_buf(k, base)) return true;
  for (int i = 0; i < s->nown; i++) own *= s->extent[i];
  if (own * points == 1) return true;
  if (own != 1) return false;
  for (int d = 0; d < k->buf[s->out].rank; d++) ex_visit(s->at[d], base_visit, &r);
  if (s->guard) ex_visit(s->guard, base_visit, &r);
  ex_visit(s->body, base_visit, &r);
  return r.same;
}

/* The value dies at this time, and the slot is the plan's to write. */
static bool dies(Memory *m, int v, int time) {
  Planner *p = m->p;
  int s = slot_of(p, v);
  return p->slot.at[s].kind == SL_ARENA && m->heir.at[s] == v && p->value.at[v].last <= time;
}

static void over_init(Memory *m, const Step *step, int v) {
  Planner *p = m->p;
  int init = step->kernel.init;
  if (!harmless_scatter(step->kernel.kernel, p->value.at[init].n) || !dies(m, init, step->time)) return;
  int s = slot_of(p, init), t = slot_of(p, v);
  if (s != t && p->slot.at[t].ring == t) slot_merge(m, s, t, v);
}

/* Output buffer o over input buffer i. */
static bool over_input(Memory *m, const Step *step, int o, int i) {
  Planner *p = m->p;
  const KernelStep *ks = &step->kernel;
  const Kernel *k = ks->kernel;
  const KBuf *ib = &k->buf[i];
  if (ib->space != SP_GLOBAL || ib->out || !ib->in) return false;
  int v = ks->arg[k->buf[o].arg], x = ks->arg[ib->arg], s = slot_of(p, x), t = slot_of(p, v);
  if (s == t || p->slot.at[t].ring != t || p->slot.at[s].bytes != p->slot.at[t].bytes) return false;
  if (!dies(m, x, step->time) || !harmless(k, i, o)) return false;
  slot_merge(m, s, t, v);
  return true;
}

/* What a state becomes goes where the state lies, or it would have to be copied there; only then the others choose. */
static void kernel_in_place(Memory *m, Step *step) {
  const KernelStep *ks = &step->kernel;
  const Kernel *k = ks->kernel;
  bool *done = arena_array(m->p->a, bool, k->nbuf);
  if (ks->skip) return;
  for (int o = 0; o < k->nbuf; o++) {
    const KBuf *b = &k->buf[o];
    done[o] = b->space != SP_GLOBAL || !b->out;
    if (!done[o] && ks->init >= 0) done[o] = true, over_init(m, step, ks->arg[b->arg]);
    for (int i = 0; i < k->nbuf && !done[o]; i++)
      done[o] = k->buf[i].space == SP_GLOBAL && m->becomes[ks->arg[b->arg]] == ks->arg[k->buf[i].arg] &&
                over_input(m, step, o, i);
  }
  for (int o = 0; o < k->nbuf; o++)
    for (int i = 0; i < k->nbuf && !done[o]; i++) done[o] = over_input(m, step, o, i);
}

static void call_in_place(Memory *m, const Step *step) {
  Planner *p = m->p;
  const CallStep *c = &step->call;
  if (!c->fn->over) return;
  int x = c->value[c->fn->over - 1], v = c->value[c->narg], s = slot_of(p, x), t = slot_of(p, v);
  if (s == t || p->slot.at[t].ring != t || p->slot.at[s].bytes != p->slot.at[t].bytes) return;
  if (dies(m, x, step->time)) slot_merge(m, s, t, v);
}

/* ---- Loops ------------------------------------------------------------------------------------------------------- */
static void loop_start(Memory *m, LoopStep *l, int time) {
  Planner *p = m->p;
  for (int k = 0; k < l->nstate; k++) {
    int x = l->state[k].init, v = l->state[k].state;
    m->becomes[l->state[k].next] = v;
    if (dies(m, x, time)) slot_merge(m, slot_of(p, x), slot_of(p, v), v);
  }
}

/* Is the slot of value v the body's own, so that its address may be set anew in every step? */
static bool own_slot(const Planner *p, const LoopStep *l, int v, int start, const FNode *of) {
  const Value *x = &p->value.at[v];
  int s = slot_of(p, v);
  if (!x->fresh || (x->home != of->sub[0] && x->home != of->sub[1])) return false;
  if (p->slot.at[s].kind != SL_ARENA || p->slot.at[s].start <= start) return false;
  for (int k = 0; k < l->nstate; k++)
    if (slot_of(p, l->state[k].state) == s) return false;
  return true;
}

static void span_life(Planner *p, int s, int from, int to) {
  if (p->slot.at[s].start > from) p->slot.at[s].start = from;
  if (p->slot.at[s].end < to) p->slot.at[s].end = to;
}

static void loop_end(Memory *m, const Event *e) {
  Planner *p = m->p;
  LoopStep *l = &e->step->loop;
  for (int k = 0; k < l->nstate; k++) {
    LoopState *st = &l->state[k];
    int s = slot_of(p, st->state), n = slot_of(p, st->next);
    st->in_place = s == n && m->heir.at[s] == st->next;
    if (s == n && !st->in_place && st->next == st->state) st->in_place = true; /* a state that never changes */
    span_life(p, s, e->start, e->time);
    if (st->in_place) continue;
    bool taken = false;
    for (int j = 0; j < k && !taken; j++) taken = slot_of(p, l->state[j].next) == n;
    if (taken || !own_slot(p, l, st->next, e->start, e->of) || p->slot.at[n].bytes != p->slot.at[s].bytes) {
      st->spare = planner_slot(p, SL_ARENA, st->bytes);
      vec_push(p->a, &m->heir, -1);
      n = st->spare;
    }
    span_life(p, n, e->start, e->time);
    ring_join(p, s, n);
  }
  for (int k = 0; k < l->nstack; k++) {
    int v = l->stack[k].row, s = slot_of(p, v);
    bool next = false;
    for (int j = 0; j < l->nstate && !next; j++) next = slot_of(p, l->state[j].next) == s;
    if (next || p->slot.at[s].ring != s || !own_slot(p, l, v, e->start, e->of) || m->heir.at[s] != v) continue;
    p->slot.at[s].kind = SL_ROW;
    l->stack[k].direct = true;
  }
  for (int k = 0; k < l->nstate; k++)
    slot_merge(m, slot_of(p, l->state[k].state), slot_of(p, l->state[k].result), l->state[k].result);
}

/* ---- Branches ---------------------------------------------------------------------------------------------------- */
static void cond_end(Memory *m, const Event *e) {
  Planner *p = m->p;
  CondStep *c = &e->step->cond;
  for (int side = 0; side < 2; side++)
    for (int k = 0; k < c->nmove[side]; k++) {
      int v = c->move[side][k].src, r = slot_of(p, c->move[side][k].dst), s = slot_of(p, v);
      const Value *x = &p->value.at[v];
      if (s == r || !x->fresh || x->home != e->of->sub[side] || m->heir.at[s] != v) continue;
      if (p->slot.at[s].kind != SL_ARENA || p->slot.at[s].start <= e->start || p->slot.at[s].ring != s) continue;
      slot_merge(m, r, s, c->move[side][k].dst);
    }
}

/* ---- What is lent ------------------------------------------------------------------------------------------------ */
static void lend_arguments(Planner *p, const CallStep *c) {
  for (int i = 0; i < c->narg; i++) {
    int first = slot_of(p, c->value[i]), s = first;
    do p->slot.at[s].lent = true;
    while ((s = p->slot.at[s].ring) != first);
  }
}

/* ---- From values to slots in the steps --------------------------------------------------------------------------- */
static void finish_block(Planner *p, Block *b) {
  for (int i = 0; i < b->nstep; i++) {
    Step *s = b->step[i];
    switch (s->kind) {
    case STEP_KERNEL: {
      KernelStep *k = &s->kernel;
      for (int j = 0; j < k->narg; j++) k->arg[j] = slot_of(p, k->arg[j]);
      if (k->dest >= 0) k->dest = slot_of(p, k->dest);
      if (k->init >= 0) k->init = slot_of(p, k->init);
      k->kernel = NULL;
      break;
    }
    case STEP_CALL:
      for (int j = 0; j < s->call.narg + s->call.nres; j++) s->call.value[j] = slot_of(p, s->call.value[j]);
      for (int j = 0; j < s->call.ngiven; j++) s->call.found_value[j] = slot_of(p, s->call.found_value[j]);
      break;
    case STEP_LOOP: {
      LoopStep *l = &s->loop;
      int *one[] = {&l->trip_value, &l->cond, &l->counter, &l->steps};
      for (int j = 0; j < 4; j++)
        if (*one[j] >= 0) *one[j] = slot_of(p, *one[j]);
      for (int j = 0; j < l->nstate; j++) {
        LoopState *st = &l->state[j];
        st->init = slot_of(p, st->init);
        st->state = slot_of(p, st->state);
        st->next = slot_of(p, st->next);
        st->result = slot_of(p, st->result);
      }
      for (int j = 0; j < l->nstack; j++) {
        l->stack[j].stack = slot_of(p, l->stack[j].stack);
        l->stack[j].row = slot_of(p, l->stack[j].row);
      }
      finish_block(p, &l->test);
      finish_block(p, &l->body);
      break;
    }
    case STEP_COND:
      s->cond.pred = slot_of(p, s->cond.pred);
      for (int side = 0; side < 2; side++) {
        for (int j = 0; j < s->cond.nmove[side]; j++) {
          s->cond.move[side][j].dst = slot_of(p, s->cond.move[side][j].dst);
          s->cond.move[side][j].src = slot_of(p, s->cond.move[side][j].src);
        }
        finish_block(p, &s->cond.branch[side]);
      }
      break;
    }
  }
}

void plan_memory(Planner *p) {
  Memory m = {.p = p, .becomes = arena_array(p->a, int, p->value.n)};
  for (int s = 0; s < p->slot.n; s++) vec_push(p->a, &m.heir, -1);
  for (int v = 0; v < p->value.n; v++) {
    Value *x = &p->value.at[v];
    m.heir.at[x->slot] = v, m.becomes[v] = -1;
    p->slot.at[x->slot].start = x->def;
    p->slot.at[x->slot].end = x->last;
  }
  for (int i = 0; i < p->p->noutput; i++) {
    Value *x = &p->value.at[p->p->output[i]];
    if (!x->fresh || p->slot.at[x->slot].kind != SL_ARENA) continue;
    p->slot.at[x->slot].kind = SL_OUT;
    p->slot.at[x->slot].number = i;
  }
  for (int i = 0; i < p->event.n; i++) {
    const Event *e = &p->event.at[i];
    if (e->kind == EV_KERNEL) kernel_in_place(&m, e->step);
    if (e->kind == EV_CALL) call_in_place(&m, e->step);
    if (e->kind == EV_LOOP) loop_start(&m, &e->step->loop, e->start);
    if (e->kind == EV_LOOP_END) loop_end(&m, e);
    if (e->kind == EV_COND_END) cond_end(&m, e);
  }
  for (int s = 0; s < p->slot.n; s++) { /* slots that exchange addresses live equally long */
    if (p->slot.at[s].into >= 0) continue;
    for (int t = p->slot.at[s].ring; t != s; t = p->slot.at[t].ring)
      span_life(p, s, p->slot.at[t].start, p->slot.at[t].end);
  }
  for (int i = 0; codegen_may_lend(p->p->cg) && i < p->event.n; i++) {
    const Event *e = &p->event.at[i];
    if (e->kind == EV_CALL && e->step->call.fn->lends) lend_arguments(p, &e->step->call);
  }
  plan_offsets(p);
  finish_block(p, &p->p->root);
  Plan *plan = p->p;
  plan->nslot = p->slot.n;
  plan->slot = arena_copy(plan->mem, p->slot.at, sizeof *p->slot.at * (size_t)p->slot.n);
  for (int v = 0; v < p->value.n; v++) p->value.at[v].slot = slot_of(p, v);
  plan->nvalue = p->value.n;
  plan->value = arena_copy(plan->mem, p->value.at, sizeof *p->value.at * (size_t)p->value.n);
}
