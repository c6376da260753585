/* From groups to steps: values, times, loops and branches. Memory comes after (memory.c). */
#include "codegen/lower.h"
#include "codegen/plan.h"
#include <stdlib.h>
#include <string.h>

/* ---- Values ------------------------------------------------------------------------------------------------------ */
int planner_slot(Planner *p, SlotKind kind, size_t bytes) {
  Slot s = {.kind = (uint8_t)kind, .bytes = bytes, .start = INT32_MAX, .end = -1, .into = -1, .ring = p->slot.n};
  vec_push(p->a, &p->slot, s);
  return p->slot.n - 1;
}

static int value_new(Planner *p, const Node *n, DType t, int rank, const int64_t *dim, const Place *home,
                     SlotKind kind) {
  Value v = {.n = n, .home = home, .dtype = (uint8_t)t, .rank = rank, .def = p->time, .last = p->time};
  if (!shape_bytes(t, rank, dim, &v.bytes)) bug("plan: the size of node %u overflows", n ? n->id : 0);
  v.dim = arena_copy(p->p->mem, dim, sizeof *dim * (size_t)rank);
  v.slot = planner_slot(p, kind, v.bytes);
  vec_push(p->a, &p->value, v);
  if (n) nummap_put(&p->value_of, n, p->value.n - 1);
  return p->value.n - 1;
}

static int value_of_node(Planner *p, const Node *n, const Place *home) {
  return value_new(p, n, (DType)n->dtype, n->rank, n->dim, home, SL_ARENA);
}

static int value_of(Planner *p, const Node *n) {
  int v = nummap_get(&p->value_of, n);
  if (v >= 0) return v;
  switch (n->kind) {
  case ND_INPUT:
    v = value_new(p, n, (DType)n->dtype, n->rank, n->dim, p->f->root, SL_INPUT);
    p->slot.at[p->value.at[v].slot].number = n->slot;
    return v;
  case ND_CONST:
    v = value_new(p, n, (DType)n->dtype, n->rank, n->dim, p->f->root, SL_CONST);
    p->slot.at[p->value.at[v].slot].data = arena_copy(p->p->mem, n->data, p->value.at[v].bytes);
    return v;
  case ND_PARAM:
    bug("plan: PARAM %u (%s) is not bound", n->id, n->name ? n->name : "");
  default:
    bug("plan: node %u has no value yet", n->id);
  }
}

/* Reads v now. Loops around that v comes from outside of read it until they end. */
static int use_value(Planner *p, int v) {
  Value *x = &p->value.at[v];
  if (x->last < p->time) x->last = p->time;
  for (int i = p->loop.n - 1; i >= 0; i--) {
    if (x->home->depth >= p->loop.at[i]->test->depth) break;
    vec_push(p->a, &p->loop.at[i]->captured, v);
  }
  return v;
}

static int use_node(Planner *p, const Node *n) { return use_value(p, value_of(p, n)); }

/* ---- Steps ------------------------------------------------------------------------------------------------------- */
static Step *step_new(Planner *p, Block *b, StepKind kind) {
  Step *s = arena_new_of(p->p->mem, Step);
  s->kind = (uint8_t)kind;
  s->time = p->time;
  if (b->nstep == b->cap) {
    b->cap = b->cap ? 2 * b->cap : 8;
    Step **more = arena_array(p->p->mem, Step *, b->cap);
    if (b->nstep) memcpy(more, b->step, sizeof *more * (size_t)b->nstep);
    b->step = more;
  }
  b->step[b->nstep++] = s;
  return s;
}

static void event(Planner *p, EventKind kind, Step *s, int start, FNode *of) {
  Event e = {(uint8_t)kind, p->time, start, s, of};
  vec_push(p->a, &p->event, e);
}

static bool plan_kernel(Planner *p, Block *b, Group *g) {
  Kernel *k = lower_group(p->f, g);
  Step *s = step_new(p, b, STEP_KERNEL);
  KernelStep *ks = &s->kernel;
  ks->kernel = k;
  ks->init = ks->dest = -1;
  ks->narg = k->narg;
  ks->arg = arena_array(p->p->mem, int, k->narg);
  ks->writes = arena_array(p->p->mem, bool, k->narg);
  ks->skip = true;
  for (int i = 0; i < k->nbuf; i++)
    if (k->buf[i].space == SP_GLOBAL && k->buf[i].in && !k->buf[i].out)
      ks->arg[k->buf[i].arg] = use_node(p, k->buf[i].node);
  if (g->scatter) {
    Node *base = g->member.at[0]->def->scatter.base;
    ks->init = base ? use_node(p, base) : -2;
  }
  for (int i = 0; i < k->nbuf; i++) {
    const KBuf *kb = &k->buf[i];
    if (kb->space != SP_GLOBAL || !kb->out) continue;
    int v = value_of_node(p, kb->node, g->home);
    p->value.at[v].fresh = true;
    ks->arg[kb->arg] = v;
    ks->writes[kb->arg] = true;
    if (p->value.at[v].bytes) ks->skip = false;
    if (g->scatter) {
      ks->dest = v;
      ks->dest_bytes = p->value.at[v].bytes;
    }
  }
  ks->nsite = k->nsite;
  ks->site = arena_copy(p->p->mem, k->site, sizeof *k->site * (size_t)k->nsite);
  if (ks->narg > p->p->max_arg) p->p->max_arg = ks->narg;
  event(p, EV_KERNEL, s, p->time, NULL);
  if (ks->skip) return true;
  double work = 0;
  for (int i = 0; i < g->member.n; i++) work += g->member.at[i]->points * (g->member.at[i]->cost + 1) * g->home->times;
  ks->code = codegen_kernel(p->p->cg, p->f->g, k, work, p->fault);
  if (!ks->code) return false;
  const Code *c = code_of(ks->code);
  if (c->lane_bytes > p->p->lane_bytes) p->p->lane_bytes = c->lane_bytes;
  if (c->shared_bytes > p->p->shared_bytes) p->p->shared_bytes = c->shared_bytes;
  p->p->nkernel++;
  ks->note = arena_strdup(p->p->mem, group_notes(p->a, g));
  ks->brief = kernel_brief(p->p->mem, k);
  return true;
}

/* The value of result `index` of op; made now, also when no one reads it. */
static int result_value(Planner *p, FNode *op, int index) {
  int at = nummap_get(&p->gets_of, op->n);
  Node *get = at >= 0 ? p->gets.at[at][index] : NULL;
  const TensorType *t = &op->n->res[index];
  return value_new(p, get, t->dtype, t->rank, t->dim, op->home, SL_ARENA);
}

static bool plan_block(Planner *p, Block *b, Place *place);

static const Attr *copy_attrs(Planner *p, int n, const Attr *attr) {
  Attr *to = arena_copy(p->p->mem, attr, sizeof *attr * (size_t)n);
  for (int i = 0; i < n; i++)
    if (to[i].s) to[i].s = arena_strdup(p->p->mem, to[i].s);
  return to;
}

static void set_tensor(Planner *p, Tensor *t, const Value *v) {
  if (v->rank > TG_MAX_RANK) bug("plan: rank %d of a native's operand", v->rank);
  t->dtype = (DType)v->dtype;
  t->rank = v->rank;
  memcpy(t->dim, v->dim, sizeof *v->dim * (size_t)v->rank);
}

static void plan_call(Planner *p, Block *b, FNode *x) {
  Step *s = step_new(p, b, STEP_CALL);
  CallStep *c = &s->call;
  const Node *n = x->n;
  c->fn = n->call.fn;
  c->nattr = n->call.nattr;
  c->attr = copy_attrs(p, n->call.nattr, n->call.attr);
  c->narg = n->call.narg;
  c->nres = n->nres;
  c->span = n->span;
  c->tensor = arena_array(p->p->mem, Tensor, c->narg + c->nres);
  c->value = arena_array(p->p->mem, int, c->narg + c->nres);
  for (int i = 0; i < c->narg + c->nres; i++) {
    c->value[i] = i < c->narg ? use_node(p, n->call.arg[i]) : result_value(p, x, i - c->narg);
    if (i >= c->narg) p->value.at[c->value[i]].fresh = true;
    set_tensor(p, &c->tensor[i], &p->value.at[c->value[i]]);
  }
  event(p, EV_CALL, s, p->time, NULL);
  if (!c->fn->commit) return;
  Node **given;
  c->node = n;
  c->ngiven = fuse_given(p->f, x, &given);
  c->given = arena_copy(p->p->mem, given, sizeof *given * (size_t)c->ngiven);
  c->found = arena_array(p->p->mem, Tensor, c->ngiven);
  c->found_value = arena_array(p->p->mem, int, c->ngiven);
  for (int i = 0; i < c->ngiven; i++) {
    c->found_value[i] = use_node(p, given[i]);
    set_tensor(p, &c->found[i], &p->value.at[c->found_value[i]]);
  }
}

static size_t row_bytes(const Value *stack, int64_t trip) { return trip > 0 ? stack->bytes / (size_t)trip : 0; }

static bool plan_loop(Planner *p, Block *b, FNode *x) {
  const Loop *l = &x->n->loop;
  Step *s = step_new(p, b, STEP_LOOP);
  LoopStep *ls = &s->loop;
  int start = p->time;
  ls->trip = l->trip;
  ls->reverse = l->reverse;
  ls->nstate = l->nstate;
  ls->nstack = l->nstack;
  ls->state = arena_array(p->p->mem, LoopState, l->nstate);
  ls->stack = arena_array(p->p->mem, LoopStack, l->nstack);
  ls->trip_value = l->trip_node ? use_node(p, l->trip_node) : -1;
  for (int k = 0; k < l->nstate; k++) ls->state[k].init = use_node(p, l->init[k]);
  ls->counter = l->counter ? value_of_node(p, l->counter, x->sub[0]) : -1;
  for (int k = 0; k < l->nstate; k++) {
    ls->state[k].state = value_of_node(p, l->param[k], x->sub[0]);
    ls->state[k].bytes = p->value.at[ls->state[k].state].bytes;
    ls->state[k].spare = -1;
  }
  event(p, EV_LOOP, s, start, x);
  p->time++;

  OpenLoop open = {.test = x->sub[0]};
  vec_push(p->a, &p->loop, &open);
  if (!plan_block(p, &ls->test, x->sub[0])) return false;
  ls->cond = l->cond ? use_node(p, l->cond) : -1;
  p->time++;
  if (!plan_block(p, &ls->body, x->sub[1])) return false;
  for (int k = 0; k < l->nstate; k++) ls->state[k].next = use_node(p, l->body.out[k]);
  for (int k = 0; k < l->nstack; k++) ls->stack[k].row = use_node(p, l->body.out[l->nstate + k]);
  p->loop.n--;
  for (int i = 0; i < open.captured.n; i++) {
    Value *v = &p->value.at[open.captured.at[i]];
    if (v->last < p->time) v->last = p->time;
  }
  if (ls->counter >= 0) p->value.at[ls->counter].last = p->time;
  for (int k = 0; k < l->nstack; k++) {
    ls->stack[k].stack = result_value(p, x, l->nstate + k);
    Value *v = &p->value.at[ls->stack[k].stack];
    v->def = start;
    v->fresh = true;
    ls->stack[k].bytes = row_bytes(v, l->trip);
  }
  for (int k = 0; k < l->nstate; k++) {
    ls->state[k].result = result_value(p, x, k);
    p->value.at[ls->state[k].result].fresh = true;
  }
  event(p, EV_LOOP_END, s, start, x);
  ls->steps = result_value(p, x, l->nstate + l->nstack);
  p->value.at[ls->steps].fresh = true;
  return true;
}

static bool plan_cond(Planner *p, Block *b, FNode *x) {
  Step *s = step_new(p, b, STEP_COND);
  CondStep *c = &s->cond;
  const Region *r[2] = {&x->n->cond.yes, &x->n->cond.no};
  int start = p->time;
  c->pred = use_node(p, x->n->cond.pred);
  p->time++;
  for (int side = 0; side < 2; side++) {
    if (!plan_block(p, &c->branch[side], x->sub[side])) return false;
    c->nmove[side] = r[side]->nout;
    c->move[side] = arena_array(p->p->mem, Move, r[side]->nout);
    for (int k = 0; k < r[side]->nout; k++) c->move[side][k].src = use_node(p, r[side]->out[k]);
    p->time++;
  }
  for (int k = 0; k < x->n->nres; k++) {
    int v = result_value(p, x, k);
    p->value.at[v].fresh = true;
    p->value.at[v].def = start;
    for (int side = 0; side < 2; side++) {
      c->move[side][k].dst = v;
      c->move[side][k].bytes = p->value.at[v].bytes;
    }
  }
  event(p, EV_COND_END, s, start, x);
  return true;
}

static bool plan_block(Planner *p, Block *b, Place *place) {
  for (int i = 0; i < place->order.n; i++) {
    Group *g = place->order.at[i];
    bool ok = true;
    if (!g->op)
      ok = plan_kernel(p, b, g);
    else if (g->member.at[0]->n->kind == ND_CALL)
      plan_call(p, b, g->member.at[0]);
    else if (g->member.at[0]->n->kind == ND_LOOP)
      ok = plan_loop(p, b, g->member.at[0]);
    else
      ok = plan_cond(p, b, g->member.at[0]);
    if (!ok) return false;
    p->time++;
  }
  return true;
}

static void find_gets(Planner *p) {
  for (int i = 0; i < p->f->node.n; i++) {
    Node *n = p->f->node.at[i]->n;
    if (n->kind != ND_GET) continue;
    Node *of = n->get.of;
    int at = nummap_get(&p->gets_of, of);
    if (at < 0) {
      at = p->gets.n;
      vec_push(p->a, &p->gets, arena_array(p->a, Node *, of->nres));
      nummap_put(&p->gets_of, of, at);
    }
    p->gets.at[at][n->get.index] = n;
  }
}

/* Beyond any machine's memory; below it sums of sizes can't overflow. */
static bool sizes_fit(Planner *p) {
  const size_t most = (size_t)1 << 46;
  for (int i = 0; i < p->slot.n; i++)
    if (p->slot.at[i].bytes > most) {
      fault_set(p->fault, R_MEMORY, (Span){0, 0, 0}, "out of memory: a tensor of %zu GiB", p->slot.at[i].bytes >> 30);
      return false;
    }
  return true;
}

Plan *codegen_plan(Codegen *c, Graph *g, const Region *r, Fault *fault) {
  Arena *scratch = arena_new();
  Plan *plan = calloc(1, sizeof *plan);
  if (!plan) {
    fault_set(fault, R_MEMORY, (Span){0, 0, 0}, "out of memory");
    arena_free(scratch);
    return NULL;
  }
  plan->cg = c;
  plan->mem = arena_new();
  Planner p = {.p = plan, .a = scratch, .fault = fault};
  p.value_of.arena = p.gets_of.arena = scratch;
  p.f = fuse(scratch, g, r);
  lower_prepare(p.f);
  find_gets(&p);
  bool ok = plan_block(&p, &plan->root, p.f->root) && sizes_fit(&p) && (!codegen_device(c) || codegen_ready(c, fault));
  if (ok) {
    int *out = arena_array(plan->mem, int, r->nout);
    plan->noutput = r->nout;
    plan->output = out;
    for (int i = 0; i < r->nout; i++) out[i] = use_node(&p, p.f->region.out[i]);
    int *in = arena_array(plan->mem, int, p.value.n);
    plan->input = in;
    for (int v = 0; v < p.value.n; v++)
      if (p.slot.at[p.value.at[v].slot].kind == SL_INPUT) in[plan->ninput++] = v;
    plan_memory(&p);
    codegen_planned(c);
    plan_texts(plan, p.f);
  }
  arena_free(scratch);
  if (!ok) {
    plan_free(plan);
    return NULL;
  }
  return plan;
}
