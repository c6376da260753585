/* See tables.h. Each function fills one structure of rt/lib.h: reserve, write the numbers, link the pointers. */
#include "codegen/aot/tables.h"
#include "codegen/rt/gemm.h"
#include "codegen/rt/routine.h"
#include <string.h>

#define FIELD(at, type, field) ((at) + offsetof(type, field))

const char *konst_symbol(Arena *a, int i) { return arena_printf(a, "tg_const_%d", i); }

/* ---- Kernels ----------------------------------------------------------------------------------------------------- */
static const char *gemm_phase(uintptr_t fn) {
#define NAME(name)                                                                                                     \
  if (fn == (uintptr_t)name) return #name;
  RT_GEMM_PHASES(NAME)
#undef NAME
  return NULL;
}

/* A compiled function, as the collecting JIT names it (jit.h), or one of the runtime. */
static void link_function(Tables *t, size_t at, uintptr_t fn) {
  if (!fn) return;
  const char *name = gemm_phase(fn);
  if (!name) {
    name = (const char *)fn;
    vec_push(t->a, &t->function, name);
  }
  image_symbol(&t->image, at, name);
}

/* Gemm holds function pointers, which are names here. given: argument `arg` holds the panels of R. */
static size_t put_gemm(Tables *t, const Gemm *g, const MmaGiven *given, int arg) {
  Gemm copy = *g;
  if (given) {
    copy.panels = GEMM_GIVEN;
    copy.panel = (GemmPlace){.arg = arg, .esize = copy.esize};
    if (given->row >= 0) {
      copy.panel.row = given->row;
      copy.panel.row_step = (int64_t)mma_given_bytes(given) / given->rows / copy.esize;
    }
  }
  copy.ukr = copy.edge = NULL;
  copy.r.fn = copy.v.fn = NULL;
  copy.r.matrix = copy.v.matrix = NULL;
  copy.epilogue = NULL;
  size_t at = image_put(&t->image, &copy, sizeof copy);
  link_function(t, FIELD(at, Gemm, ukr), (uintptr_t)g->ukr);
  link_function(t, FIELD(at, Gemm, edge), (uintptr_t)g->edge);
  link_function(t, FIELD(at, Gemm, v.fn), (uintptr_t)g->v.fn);
  link_function(t, FIELD(at, Gemm, v.matrix), (uintptr_t)g->v.matrix);
  link_function(t, FIELD(at, Gemm, epilogue), (uintptr_t)g->epilogue);
  if (given) return at;
  link_function(t, FIELD(at, Gemm, r.fn), (uintptr_t)g->r.fn);
  link_function(t, FIELD(at, Gemm, r.matrix), (uintptr_t)g->r.matrix);
  return at;
}

static size_t put_ints(Tables *t, int n, const int *v) {
  size_t at = image_room(&t->image, (size_t)n * 4);
  for (int i = 0; i < n; i++) ((int32_t *)image_at(&t->image, at))[i] = v[i];
  return at;
}

static size_t put_site(Tables *t, Span site) {
  const char *file = "", *text = "?";
  int line, col;
  if (site.file) {
    span_position(t->d, site, &file, &line, &col);
    text = arena_printf(t->a, "%s:%d:%d", file, line, col);
  }
  return image_text(&t->image, text);
}

size_t tables_sites(Tables *t, int n, const Span *site) {
  size_t at = image_room(&t->image, (size_t)n * 8);
  for (int i = 0; i < n; i++) image_point(&t->image, at + (size_t)i * 8, put_site(t, site[i]));
  return at;
}

static size_t put_device_kernel(Tables *t, const KernelStep *k) {
  LibKernel made;
  images_kernel(t, k, code_device(k->code), &made);
  size_t at = image_put(&t->image, &made, sizeof made);
  image_point(&t->image, FIELD(at, LibKernel, arg), put_ints(t, k->narg, k->arg));
  return at;
}

/* The kernel's arguments, and when R is given, its panels. */
static size_t put_args(Tables *t, const KernelStep *k, int panels) {
  size_t at = image_room(&t->image, (size_t)(k->narg + 1) * 4);
  int32_t *to = image_at(&t->image, at);
  for (int i = 0; i < k->narg; i++) to[i] = k->arg[i];
  to[k->narg] = panels;
  return at;
}

static int panel_slot(Tables *t, const MmaGiven *g, int from) {
  LibSlot *slot = image_at(&t->image, t->plan_slots);
  int konst = panels_constant(t, g, slot[from].number);
  slot[t->nslot] = (LibSlot){.kind = LS_CONST, .number = konst};
  return konst < 0 ? -1 : t->nslot++;
}

static void need(size_t *most, size_t bytes) {
  if (bytes > *most) *most = bytes;
}

static size_t put_kernel(Tables *t, const KernelStep *k) {
  Image *m = &t->image;
  const Code *c = code_of(k->code);
  if (code_device(k->code)) return put_device_kernel(t, k);
  const MmaGiven *given = panels_of(t, k, image_at(m, t->plan_slots));
  int panels = given ? panel_slot(t, given, k->arg[given->arg]) : -1;
  if (panels < 0) given = NULL;
  bool drop = given && c->phase[0].fn == rt_gemm_pack;
  size_t at = image_room(m, sizeof(LibKernel)), phase = image_room(m, sizeof(Phase) * (size_t)c->nphase);
  *(LibKernel *)image_at(m, at) = (LibKernel){.dest_bytes = k->dest_bytes,
                                              .nphase = c->nphase - drop,
                                              .narg = k->narg + (given != NULL),
                                              .nsite = k->nsite,
                                              .init = k->init,
                                              .dest = k->dest};
  image_point(m, FIELD(at, LibKernel, phase), phase);
  for (int i = drop; i < c->nphase; i++) {
    const Phase *p = &c->phase[i];
    size_t one = phase + sizeof(Phase) * (size_t)(i - drop);
    *(Phase *)image_at(m, one) = (Phase){.units = p->units, .cost = p->cost};
    link_function(t, FIELD(one, Phase, fn), (uintptr_t)p->fn);
    if (gemm_phase((uintptr_t)p->fn))
      image_point(m, FIELD(one, Phase, ctx), put_gemm(t, p->ctx, given, k->narg));
    else if (p->ctx)
      bug("tables: a phase with a context of its own");
  }
  size_t lane = c->lane_bytes, shared = c->shared_bytes;
  if (given) {
    Gemm g = *(const Gemm *)c->phase[c->nphase - 1].ctx;
    g.panels = GEMM_GIVEN;
    lane = gemm_scratch(&g);
    shared = gemm_shared(&g, c->phase[c->nphase - 1].fn == rt_gemm_join);
  }
  need(&t->lane_bytes, lane);
  need(&t->shared_bytes, shared);
  image_point(m, FIELD(at, LibKernel, arg), put_args(t, k, panels));
  image_point(m, FIELD(at, LibKernel, site), tables_sites(t, k->nsite, k->site));
  return at;
}

/* ---- Steps ------------------------------------------------------------------------------------------------------- */
static bool put_block(Tables *t, const AotExport *e, const Block *b, size_t to);

static bool put_loop(Tables *t, const AotExport *e, const LoopStep *l, size_t *out) {
  Image *m = &t->image;
  size_t at = image_room(m, sizeof(LibLoop)), state = image_room(m, sizeof(LibState) * (size_t)l->nstate);
  size_t stack = image_room(m, sizeof(LibStack) * (size_t)l->nstack);
  *(LibLoop *)image_at(m, at) = (LibLoop){.trip = l->trip,
                                          .nstate = l->nstate,
                                          .nstack = l->nstack,
                                          .reverse = l->reverse,
                                          .trip_value = l->trip_value,
                                          .cond = l->cond,
                                          .counter = l->counter,
                                          .steps = l->steps};
  for (int i = 0; i < l->nstate; i++) {
    const LoopState *s = &l->state[i];
    ((LibState *)image_at(m, state))[i] =
        (LibState){s->bytes, s->init, s->state, s->next, s->result, s->spare, s->in_place};
  }
  for (int i = 0; i < l->nstack; i++) {
    const LoopStack *s = &l->stack[i];
    ((LibStack *)image_at(m, stack))[i] = (LibStack){s->bytes, s->stack, s->row, s->direct, 0};
  }
  image_point(m, FIELD(at, LibLoop, state), state);
  image_point(m, FIELD(at, LibLoop, stack), stack);
  *out = at;
  return put_block(t, e, &l->test, FIELD(at, LibLoop, test)) && put_block(t, e, &l->body, FIELD(at, LibLoop, body));
}

static bool put_cond(Tables *t, const AotExport *e, const CondStep *c, size_t *out) {
  Image *m = &t->image;
  size_t at = image_room(m, sizeof(LibCond));
  *(LibCond *)image_at(m, at) = (LibCond){.pred = c->pred, .nmove = {c->nmove[0], c->nmove[1]}};
  *out = at;
  for (int side = 0; side < 2; side++) {
    size_t move = image_room(m, sizeof(LibMove) * (size_t)c->nmove[side]);
    for (int i = 0; i < c->nmove[side]; i++) {
      const Move *v = &c->move[side][i];
      ((LibMove *)image_at(m, move))[i] = (LibMove){v->bytes, v->dst, v->src};
    }
    image_point(m, FIELD(at, LibCond, move) + 8 * (size_t)side, move);
    if (!put_block(t, e, &c->branch[side], FIELD(at, LibCond, branch) + sizeof(LibBlock) * (size_t)side)) return false;
  }
  return true;
}

bool aot_routine(const char *name) { return rt_routine_find(name) != NULL; }

bool tables_need_lapack(const Tables *t) {
  for (int i = 0; i < t->routine.n; i++)
    if (rt_routine_find(t->routine.at[i] + strlen("rt_routine_"))->open) return true;
  return false;
}

static bool put_call(Tables *t, const AotExport *e, const CallStep *c, size_t *out) {
  Image *m = &t->image;
  int n = c->narg + c->nres;
  if (!rt_routine_find(c->fn->name) || t->l->cuda || n > RT_ROUTINE_MOST_TENSORS) {
    fault_set(t->fault, T_EXPORT, c->span, "`%s` calls the routine `%s`, which is not part of a library%s", e->name,
              c->fn->name, t->l->cuda ? " for a GPU" : "");
    return false;
  }
  const char *symbol = arena_printf(t->a, "rt_routine_%s", c->fn->name);
  size_t at = image_room(m, sizeof(LibCallStep)), tensor = image_room(m, sizeof(RtTensor) * (size_t)n);
  *(LibCallStep *)image_at(m, at) =
      (LibCallStep){.option = c->nattr ? c->attr[0].i : 0, .nin = c->narg, .nout = c->nres};
  for (int i = 0; i < n; i++) {
    const Tensor *x = &c->tensor[i];
    size_t one = tensor + sizeof(RtTensor) * (size_t)i;
    *(RtTensor *)image_at(m, one) = (RtTensor){.dtype = (int32_t)x->dtype, .rank = x->rank};
    image_point(m, FIELD(one, RtTensor, dim), image_put(m, x->dim, sizeof *x->dim * (size_t)x->rank));
  }
  image_symbol(m, FIELD(at, LibCallStep, fn), symbol);
  image_point(m, FIELD(at, LibCallStep, tensor), tensor);
  image_point(m, FIELD(at, LibCallStep, slot), put_ints(t, n, c->value));
  image_point(m, FIELD(at, LibCallStep, site), put_site(t, c->span));
  vec_push(t->a, &t->call, at);
  vec_push(t->a, &t->routine, symbol);
  *out = at;
  return true;
}

static bool put_block(Tables *t, const AotExport *e, const Block *b, size_t to) {
  Image *m = &t->image;
  int n = 0;
  for (int i = 0; i < b->nstep; i++) n += !(b->step[i]->kind == STEP_KERNEL && b->step[i]->kernel.skip);
  size_t at = image_room(m, sizeof(LibStep) * (size_t)n);
  ((LibBlock *)image_at(m, to))->n = n;
  image_point(m, FIELD(to, LibBlock, step), at);
  for (int i = 0; i < b->nstep; i++) {
    const Step *s = b->step[i];
    size_t of = 0;
    if (s->kind == STEP_KERNEL && s->kernel.skip) continue;
    if (s->kind == STEP_KERNEL)
      of = put_kernel(t, &s->kernel);
    else if (s->kind == STEP_CALL) {
      if (!put_call(t, e, &s->call, &of)) return false;
    } else if (s->kind == STEP_LOOP ? !put_loop(t, e, &s->loop, &of) : !put_cond(t, e, &s->cond, &of))
      return false;
    static const int kind[] = {
        [STEP_KERNEL] = LK_KERNEL, [STEP_LOOP] = LK_LOOP, [STEP_COND] = LK_COND, [STEP_CALL] = LK_CALL};
    ((LibStep *)image_at(m, at))->kind = kind[s->kind];
    image_point(m, FIELD(at, LibStep, of), of);
    at += sizeof(LibStep);
  }
  return true;
}

/* ---- Plans ------------------------------------------------------------------------------------------------------- */
static int konst_of(Tables *t, const Slot *s) {
  for (int i = 0; i < t->konst.n; i++) {
    const KonstRow *k = &t->konst.at[i];
    if (k->bytes == s->bytes && (k->data == s->data || !memcmp(k->data, s->data, s->bytes))) return i;
  }
  KonstRow k = {.data = s->data, .bytes = s->bytes};
  vec_push(t->a, &t->konst, k);
  return t->konst.n - 1;
}

static LibSlot lib_slot(Tables *t, const AotExport *e, const Slot *s) {
  static const int32_t kind[] = {
      [SL_ARENA] = LS_ARENA, [SL_INPUT] = LS_INPUT, [SL_CONST] = LS_CONST, [SL_OUT] = LS_OUT, [SL_ROW] = LS_ROW};
  LibSlot r = {.kind = kind[s->kind], .number = -1, .offset = s->offset};
  if (s->into >= 0) return (LibSlot){.kind = LS_ROW}; /* merged: no step names it */
  if (s->kind == SL_OUT) r.number = (int32_t)s->number;
  if (s->kind == SL_CONST) r.number = konst_of(t, s);
  if (s->kind != SL_INPUT) return r;
  int64_t in = s->number - t->l->first_input;
  r.number = (int32_t)in;
  if (in >= 0 && in < e->nin) return r;
  int64_t state = s->number - t->l->first_state;
  r.number = (int32_t)(e->nin + state);
  if (state >= 0 && state < t->l->nstate) return r;
  for (int i = 0; i < t->l->nconst; i++)
    if (t->l->konst[i].slot == s->number) return (LibSlot){.kind = LS_CONST, .number = i};
  bug("tables: INPUT slot %lld is neither an input nor a constant", (long long)s->number);
}

/* Sorting takes some 20 ns an element; factoring the elements of an N x N matrix N/4 ns each. */
static double call_cost(const CallStep *c) {
  const Tensor *x = &c->tensor[0];
  double each = c->fn->own == 1 ? 20 : x->rank ? 0.25 * (double)x->dim[x->rank - 1] : 1;
  return 500 + each * (double)tensor_count(x);
}

static double block_cost(const Block *b) {
  double c = 0;
  for (int i = 0; i < b->nstep; i++) {
    const Step *s = b->step[i];
    if (s->kind == STEP_LOOP)
      c += (block_cost(&s->loop.test) + block_cost(&s->loop.body)) * (double)(s->loop.trip > 0 ? s->loop.trip : 1);
    if (s->kind == STEP_COND) c += block_cost(&s->cond.branch[0]) + block_cost(&s->cond.branch[1]);
    if (s->kind == STEP_CALL) c += call_cost(&s->call);
    if (s->kind != STEP_KERNEL || s->kernel.skip) continue;
    const Code *code = code_of(s->kernel.code);
    c += code_device(s->kernel.code) ? images_cost(code_device(s->kernel.code)) : 100;
    for (int k = 0; k < code->nphase; k++) c += code->phase[k].cost * (double)code->phase[k].units;
  }
  return c;
}

/* ns to read the constants once: what many small plans pay again and again. 75 GB/s is a core's share of L3. */
static double constants_cost(const Tables *t, const LibSlot *slot, int n) {
  double bytes = 0;
  for (int i = 0; i < n; i++)
    if (slot[i].kind == LS_CONST) bytes += (double)t->konst.at[slot[i].number].bytes;
  return bytes / 75;
}

bool tables_plan(Tables *t, const AotExport *e, const Plan *p, int64_t rows, size_t *out) {
  Image *m = &t->image;
  size_t at = image_room(m, sizeof(LibPlan)), slot = image_room(m, sizeof(LibSlot) * (size_t)(p->nslot + p->nkernel));
  size_t result = image_room(m, sizeof(LibMove) * (size_t)p->noutput);
  for (int i = 0; i < p->nslot; i++) {
    LibSlot s = lib_slot(t, e, &p->slot[i]);
    ((LibSlot *)image_at(m, slot))[i] = s;
  }
  for (int i = 0; i < p->noutput; i++) {
    const Value *v = &p->value[p->output[i]];
    ((LibMove *)image_at(m, result))[i] = (LibMove){v->bytes, i, v->slot};
  }
  panels_unread(t, p, image_at(m, slot));
  *(LibPlan *)image_at(m, at) = (LibPlan){.rows = rows,
                                          .cost = block_cost(&p->root) + constants_cost(t, image_at(m, slot), p->nslot),
                                          .arena_bytes = p->arena_bytes,
                                          .nresult = p->noutput,
                                          .max_arg = p->max_arg + 1,
                                          .nkernel = p->nkernel};
  image_point(m, FIELD(at, LibPlan, slot), slot);
  image_point(m, FIELD(at, LibPlan, result), result);
  *out = at;
  t->scratch = t->lane_bytes = t->shared_bytes = 0;
  t->plan_slots = slot;
  t->nslot = p->nslot;
  if (!put_block(t, e, &p->root, FIELD(at, LibPlan, root))) return false;
  LibPlan *made = image_at(m, at);
  made->nslot = t->nslot;
  made->lane_bytes = (t->lane_bytes + 63) & ~(size_t)63;
  made->shared_bytes = t->l->cuda ? t->scratch : t->shared_bytes;
  return true;
}

/* ---- The library ------------------------------------------------------------------------------------------------- */
static void put_tensor(Tables *t, size_t at, const AotTensor *x) {
  Image *m = &t->image;
  int lead = x->batched ? 1 : 0;
  uint64_t bytes = (uint64_t)dt_bytes(x->dtype);
  for (int d = lead; d < x->rank; d++) bytes *= (uint64_t)x->dim[d];
  *(LibTensor *)image_at(m, at) = (LibTensor){
      .bytes = bytes, .dtype = (int32_t)x->dtype, .rank = x->rank, .batched = x->batched, .esize = dt_bytes(x->dtype)};
  image_point(m, FIELD(at, LibTensor, name), image_text(m, x->name));
  image_point(m, FIELD(at, LibTensor, dim), image_put(m, x->dim + lead, sizeof *x->dim * (size_t)(x->rank - lead)));
}

static size_t put_golden(Tables *t, const AotExport *e) {
  Image *m = &t->image;
  const AotGolden *g = e->golden;
  size_t at = image_room(m, sizeof(LibGolden)), out = image_room(m, 8 * (size_t)e->nout);
  *(LibGolden *)image_at(m, at) = (LibGolden){.rows = g->rows, .status = g->failed};
  image_point(m, FIELD(at, LibGolden, out), out);
  for (int i = 0; i < e->nout && !g->failed; i++) {
    const AotTensor *x = &e->out[i];
    size_t bytes = (size_t)dt_bytes(x->dtype);
    for (int d = 0; d < x->rank; d++) bytes *= (size_t)(d == 0 && x->batched ? g->rows : x->dim[d]);
    image_point(m, out + 8 * (size_t)i, image_put(m, g->out[i], bytes));
  }
  return at;
}

static void put_export(Tables *t, size_t at, const AotExport *e, int nisa, const size_t *plan) {
  Image *m = &t->image;
  size_t tensor = image_room(m, sizeof(LibTensor) * (size_t)(e->nin + e->nout));
  size_t plans = image_room(m, 8 * (size_t)(nisa * e->nvariant));
  LibExport x = {.nin = e->nin,
                 .nout = e->nout,
                 .nplan = e->nvariant,
                 .batched = e->batch != NULL,
                 .nnext = e->nnext,
                 .listed = e->listed};
  memcpy(image_at(m, at), &x, sizeof x);
  image_point(m, FIELD(at, LibExport, name), image_text(m, e->name));
  image_point(m, FIELD(at, LibExport, tensor), tensor);
  image_point(m, FIELD(at, LibExport, plan), plans);
  image_point(m, FIELD(at, LibExport, next), put_ints(t, e->nnext, e->next));
  if (e->golden) image_point(m, FIELD(at, LibExport, golden), put_golden(t, e));
  for (int i = 0; i < nisa * e->nvariant; i++) image_point(m, plans + 8 * (size_t)i, plan[i]);
  for (int i = 0; i < e->nin + e->nout; i++)
    put_tensor(t, tensor + sizeof(LibTensor) * (size_t)i, i < e->nin ? &e->in[i] : &e->out[i - e->nin]);
}

/* States begin with theirs. */
bool tables_left_out(const Tables *t, int i) {
  bool state = i >= t->l->nconst && i < t->l->nconst + t->l->nstate;
  return t->l->weights == AOT_EMBED && !state && !t->konst.at[i].used;
}

static void put_konst(Tables *t, size_t at, int i) {
  Image *m = &t->image;
  const KonstRow *k = &t->konst.at[i];
  if (tables_left_out(t, i)) return; /* no bytes */
  *(LibConst *)image_at(m, at) = (LibConst){.bytes = k->bytes, .dtype = (int32_t)k->dtype, .rank = k->rank};
  image_point(m, FIELD(at, LibConst, name), image_text(m, k->name ? k->name : ""));
  image_point(m, FIELD(at, LibConst, dim), image_put(m, k->dim, sizeof *k->dim * (size_t)k->rank));
  if (!k->weight || t->l->weights == AOT_EMBED) image_symbol(m, FIELD(at, LibConst, data), konst_symbol(t->a, i));
}

size_t tables_library(Tables *t, int nisa, const int *isa, size_t *const *plan, const char *manifest) {
  Image *m = &t->image;
  const AotLibrary *l = t->l;
  size_t at = image_room(m, sizeof(Lib)), export = image_room(m, sizeof(LibExport) * (size_t)l->nexport);
  size_t konst = image_room(m, sizeof(LibConst) * (size_t)t->konst.n);
  *(Lib *)image_at(m, at) = (Lib){.abi = LIB_ABI,
                                  .nexport = l->nexport,
                                  .nconst = t->konst.n,
                                  .nisa = nisa,
                                  .weights = (int32_t)l->weights,
                                  .nstate = l->nstate,
                                  .first_state = l->nconst,
                                  .ncall = t->call.n};
  image_point(m, FIELD(at, Lib, name), image_text(m, l->name));
  image_point(m, FIELD(at, Lib, manifest), image_text(m, manifest));
  image_point(m, FIELD(at, Lib, export), export);
  image_point(m, FIELD(at, Lib, konst), konst);
  image_point(m, FIELD(at, Lib, isa), put_ints(t, nisa, isa));
  size_t call = image_room(m, 8 * (size_t)t->call.n);
  for (int i = 0; i < t->call.n; i++) image_point(m, call + 8 * (size_t)i, t->call.at[i]);
  image_point(m, FIELD(at, Lib, call), call);
  if (l->cuda) image_point(m, FIELD(at, Lib, device), images_device(t));
  image_point(m, FIELD(at, Lib, file), image_text(m, l->weights_file ? l->weights_file : ""));
  for (int i = 0; i < l->nexport; i++)
    put_export(t, export + sizeof(LibExport) * (size_t)i, &l->export[i], nisa, plan[i]);
  for (int i = 0; i < t->konst.n; i++) put_konst(t, konst + sizeof(LibConst) * (size_t)i, i);
  return at;
}
