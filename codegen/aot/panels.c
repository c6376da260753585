/* Weights of contractions packed when the library is built (mma.h, GEMM_GIVEN).
 *
 * A constant that a contraction reads as R, the same at all loop points, becomes a further constant: its panels, in the
 * order in which the micro-kernel reads them. The kernel has them as one more argument and packs nothing. What is read
 * in no other way is left out of the library. Only weights inside the library are packed, and only for one machine:
 * panels depend on its tiles. */
#include "codegen/aot/tables.h"
#include "codegen/cpu/mma.h"
#include <string.h>

const MmaGiven *panels_of(const Tables *t, const KernelStep *k, const LibSlot *slot) {
  const MmaGiven *g = t->l->weights == AOT_EMBED && t->one_machine ? mma_given(code_of(k->code)) : NULL;
  return g && slot[k->arg[g->arg]].kind == LS_CONST ? g : NULL;
}

int panels_constant(Tables *t, const MmaGiven *g, int from) {
  for (int i = 0; i < t->panel.n; i++) {
    MmaGiven same = t->panel.at[i].how;
    same.arg = g->arg; /* where the kernels have it does not matter */
    same.row = g->row;
    same.alone = g->alone;
    if (t->panel.at[i].from == from && !memcmp(&same, g, sizeof same)) return t->panel.at[i].konst;
  }
  KonstRow k = {.bytes = mma_given_bytes(g), .used = true};
  void *data = arena_alloc(t->a, k.bytes);
  if (!mma_given_pack(g, t->konst.at[from].data, data)) return -1;
  k.data = data;
  vec_push(t->a, &t->konst, k);
  vec_push(t->a, &t->panel, ((PanelRow){*g, from, t->konst.n - 1}));
  return t->konst.n - 1;
}

/* ---- Which constants are read as they are -------------------------------------------------------------------------- */
typedef struct Seen {
  const Tables *t;
  const LibSlot *slot;
  bool *is;
} Seen;

static void see(const Seen *s, int slot) {
  if (slot >= 0) s->is[slot] = true;
}

static void see_block(const Seen *s, const Block *b);
static void see_step(const Seen *s, const Step *x) {
  if (x->kind == STEP_KERNEL) {
    const MmaGiven *g = x->kernel.skip ? NULL : panels_of(s->t, &x->kernel, s->slot);
    for (int i = 0; i < x->kernel.narg; i++)
      if (!g || i != g->arg || !g->alone) see(s, x->kernel.arg[i]);
    see(s, x->kernel.init);
    see(s, x->kernel.dest);
  } else if (x->kind == STEP_CALL) {
    for (int i = 0; i < x->call.narg + x->call.nres; i++) see(s, x->call.value[i]);
  } else if (x->kind == STEP_COND) {
    see(s, x->cond.pred);
    for (int side = 0; side < 2; side++) {
      for (int i = 0; i < x->cond.nmove[side]; i++)
        see(s, x->cond.move[side][i].src), see(s, x->cond.move[side][i].dst);
      see_block(s, &x->cond.branch[side]);
    }
  } else {
    const LoopStep *l = &x->loop;
    int one[] = {l->trip_value, l->cond, l->counter, l->steps};
    for (int i = 0; i < 4; i++) see(s, one[i]);
    for (int i = 0; i < l->nstate; i++) {
      int of[] = {l->state[i].init, l->state[i].state, l->state[i].next, l->state[i].result, l->state[i].spare};
      for (int j = 0; j < 5; j++) see(s, of[j]);
    }
    for (int i = 0; i < l->nstack; i++) see(s, l->stack[i].stack), see(s, l->stack[i].row);
    see_block(s, &l->test);
    see_block(s, &l->body);
  }
}
static void see_block(const Seen *s, const Block *b) {
  for (int i = 0; i < b->nstep; i++) see_step(s, b->step[i]);
}

void panels_unread(Tables *t, const Plan *p, LibSlot *slot) {
  Seen s = {t, slot, arena_array(t->a, bool, p->nslot)};
  see_block(&s, &p->root);
  for (int i = 0; i < p->noutput; i++) see(&s, p->value[p->output[i]].slot);
  for (int i = 0; i < p->nslot; i++)
    if (slot[i].kind == LS_CONST && s.is[i]) t->konst.at[slot[i].number].used = true;
}
