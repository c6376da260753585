/* What a plan looks like, for people and for structure tests. */
#include "codegen/cuda/emit.h"
#include "codegen/contract.h"
#include "codegen/lower.h"
#include "codegen/plan.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Runs while the graph is still there: what later dumps can't know. */
void plan_texts(Plan *p, Fusion *f) {
  char *text = arena_strdup(f->a, "");
  for (int i = 0; i < f->node.n; i++) {
    const FNode *x = f->node.at[i];
    Contract c;
    if (x->def->kind != ND_COMP || !x->def->comp.nred || !contract_find_node(x->def, &c)) continue;
    text = arena_printf(f->a, "%s%s\n", text, contract_text(f->a, &c));
  }
  p->classify_text = arena_strdup(p->mem, text);
}

/* Why the members of g stand in memory, and why no more joined. */
const char *group_notes(Arena *a, const Group *g) {
  char *s = arena_strdup(a, "");
  for (int i = 0; i < g->member.n; i++)
    if (g->member.at[i]->why)
      s = arena_printf(a, "%s  node %u is not inlined: %s\n", s, g->member.at[i]->n->id, g->member.at[i]->why);
  for (int i = 0; i < g->note.n; i++) s = arena_printf(a, "%s  %s\n", s, g->note.at[i]);
  return s;
}

static void indent(FILE *out, int depth) { fprintf(out, "%*s", 2 * depth, ""); }

static void put_text(FILE *out, int depth, const char *text) {
  while (*text) {
    const char *end = strchr(text, '\n');
    size_t n = end ? (size_t)(end - text) : strlen(text);
    indent(out, depth);
    fprintf(out, "%.*s\n", (int)n, text);
    text += n + (end != NULL);
  }
}

static void fuse_block(FILE *out, const Block *b, int depth, int *number) {
  for (int i = 0; i < b->nstep; i++) {
    const Step *s = b->step[i];
    if (s->kind == STEP_KERNEL && !s->kernel.skip) {
      indent(out, depth);
      fprintf(out, "# kernel %d\n", (*number)++);
      put_text(out, depth, code_text(s->kernel.code));
      put_text(out, depth, s->kernel.note);
    } else if (s->kind == STEP_CALL) {
      indent(out, depth);
      fprintf(out, "call %s\n", s->call.fn->name);
    } else if (s->kind == STEP_LOOP) {
      indent(out, depth);
      fprintf(out, "loop %" PRId64 "\n", s->loop.trip);
      fuse_block(out, &s->loop.test, depth + 1, number);
      fuse_block(out, &s->loop.body, depth + 1, number);
    } else if (s->kind == STEP_COND) {
      for (int side = 0; side < 2; side++) {
        indent(out, depth);
        fprintf(out, "%s\n", side ? "else" : "if");
        fuse_block(out, &s->cond.branch[side], depth + 1, number);
      }
    }
  }
}

static void put_slots(FILE *out, const char *label, int n, const int *slot) {
  fprintf(out, "%s", label);
  for (int i = 0; i < n; i++) fprintf(out, "%s%d", i ? " " : "", slot[i]);
}

static void plan_block_text(FILE *out, const Block *b, int depth) {
  for (int i = 0; i < b->nstep; i++) {
    const Step *s = b->step[i];
    indent(out, depth);
    switch (s->kind) {
    case STEP_KERNEL:
      fprintf(out, "kernel%s", s->kernel.skip ? " (empty)" : "");
      put_slots(out, " slots ", s->kernel.narg, s->kernel.arg);
      if (s->kernel.init == -2) fprintf(out, " zeroed %d", s->kernel.dest);
      if (s->kernel.init >= 0 && s->kernel.init != s->kernel.dest)
        fprintf(out, " copied %d -> %d", s->kernel.init, s->kernel.dest);
      if (s->kernel.init >= 0 && s->kernel.init == s->kernel.dest) fprintf(out, " in place");
      if (!s->kernel.skip) {
        const Code *c = code_of(s->kernel.code);
        for (int k = 0; k < c->nphase; k++)
          fprintf(out, " phase %d: %" PRId64 " units of %.3g ns", k, c->phase[k].units, c->phase[k].cost);
      }
      fprintf(out, "\n");
      break;
    case STEP_CALL:
      fprintf(out, "call %s", s->call.fn->name);
      put_slots(out, " slots ", s->call.narg + s->call.nres, s->call.value);
      fprintf(out, "\n");
      break;
    case STEP_LOOP:
      fprintf(out, "loop %" PRId64 "%s", s->loop.trip, s->loop.reverse ? " reverse" : "");
      for (int k = 0; k < s->loop.nstate; k++) {
        const LoopState *st = &s->loop.state[k];
        fprintf(out, " state %d <- %d%s", st->state, st->next,
                st->in_place     ? " in place"
                : st->spare >= 0 ? " copied"
                                 : " exchanged");
      }
      for (int k = 0; k < s->loop.nstack; k++)
        fprintf(out, " stack %d <- %d%s", s->loop.stack[k].stack, s->loop.stack[k].row,
                s->loop.stack[k].direct ? " in place" : " copied");
      fprintf(out, "\n");
      plan_block_text(out, &s->loop.test, depth + 1);
      plan_block_text(out, &s->loop.body, depth + 1);
      break;
    case STEP_COND:
      fprintf(out, "if %d\n", s->cond.pred);
      plan_block_text(out, &s->cond.branch[0], depth + 1);
      indent(out, depth);
      fprintf(out, "else\n");
      plan_block_text(out, &s->cond.branch[1], depth + 1);
      break;
    }
  }
}

static const char *const slot_kind[] = {"arena", "input", "const", "output", "row"};

static void plan_text(const Plan *p, FILE *out) {
  PlanStats st = plan_stats(p);
  fprintf(out, "kernels: %d\nbuffers: %d\narena: %zu bytes, scratch: %zu bytes\nalive at a time: %zu bytes\n",
          st.kernels, st.buffers, st.arena_bytes, st.scratch_bytes, p->live_bytes);
  plan_block_text(out, &p->root, 0);
  for (int i = 0; i < p->nslot; i++) {
    const Slot *s = &p->slot[i];
    if (s->into >= 0) continue;
    fprintf(out, "slot %d: %s %zu bytes, life %d..%d", i, slot_kind[s->kind], s->bytes, s->start, s->end);
    if (s->kind == SL_ARENA) fprintf(out, ", offset %zu", s->offset);
    if (s->kind == SL_INPUT || s->kind == SL_OUT) fprintf(out, ", number %" PRId64, s->number);
    if (s->ring != i) fprintf(out, ", exchanges with %d", s->ring);
    fprintf(out, "\n");
  }
}

/* ---- Profile ----------------------------------------------------------------------------------------------------- */
const char *kernel_brief(Arena *a, const Kernel *k) {
  static const char *const kind[] = {"map", "reduce", "contract", "scan", "scatter"};
  char *s = arena_strdup(a, "[");
  for (int i = 0; i < k->npar; i++) s = arena_printf(a, "%s%s%" PRId64, s, i ? " " : "", k->par[i]);
  s = arena_printf(a, "%s]", s);
  for (int i = 0; i < k->nstage; i++) {
    const Stage *st = &k->stage[i];
    s = arena_printf(a, "%s %s", s, kind[st->kind]);
    for (int j = 0; j < st->nown + st->nred; j++)
      s = arena_printf(a, "%s%s%" PRId64, s, j == st->nown ? ";" : j ? "," : " ", st->extent[j]);
  }
  return s;
}

typedef struct Timed {
  const KernelStep *k;
  int number;
} Timed;
typedef struct Profile {
  Timed *at;
  int n;
  double seconds;
} Profile;

static int by_seconds(const void *a, const void *b) {
  double x = ((const Timed *)a)->k->seconds, y = ((const Timed *)b)->k->seconds;
  return (x < y) - (x > y);
}

static void profile_block(Profile *p, const Block *b) {
  for (int i = 0; i < b->nstep; i++) {
    const Step *s = b->step[i];
    if (s->kind == STEP_KERNEL && !s->kernel.skip) {
      p->at[p->n] = (Timed){&s->kernel, p->n};
      p->n++;
      p->seconds += s->kernel.seconds;
    } else if (s->kind == STEP_LOOP) {
      profile_block(p, &s->loop.test);
      profile_block(p, &s->loop.body);
    } else if (s->kind == STEP_COND) {
      profile_block(p, &s->cond.branch[0]);
      profile_block(p, &s->cond.branch[1]);
    }
  }
}

static void put_profile(const Plan *plan, FILE *out) {
  Arena *a = arena_new();
  Profile p = {arena_array(a, Timed, plan->nkernel), 0, 0};
  profile_block(&p, &plan->root);
  qsort(p.at, (size_t)p.n, sizeof *p.at, by_seconds);
  fprintf(out, "kernels: %.3f ms\n      ms  share     runs   us a run      least  kernel\n", p.seconds * 1e3);
  for (int i = 0; i < p.n; i++) {
    const KernelStep *k = p.at[i].k;
    if (k->runs)
      fprintf(out, "%8.3f %5.1f%% %8" PRId64 " %10.2f %10.2f  %d %s%s\n", k->seconds * 1e3,
              100 * k->seconds / p.seconds, k->runs, k->seconds * 1e6 / (double)k->runs, k->least * 1e6, p.at[i].number,
              k->brief, code_of(k->code)->drop ? "" : " (walked)");
  }
  arena_free(a);
}

bool plan_dump(Plan *p, const char *what, FILE *out) {
  int number = 0;
  if (!strcmp(what, "classify"))
    fputs(p->classify_text, out);
  else if (!strcmp(what, "fuse")) {
    fprintf(out, "kernels: %d\n", p->nkernel);
    fuse_block(out, &p->root, 0, &number);
  } else if (!strcmp(what, "plan"))
    plan_text(p, out);
  else if (!strcmp(what, "profile") && codegen_profile(p->cg))
    put_profile(p, out);
  else
    return false;
  return true;
}

PlanStats plan_stats(const Plan *p) {
  PlanStats s = {.kernels = p->nkernel, .arena_bytes = p->arena_bytes};
  s.scratch_bytes = p->lane_bytes * (size_t)codegen_lanes(p->cg) + p->shared_bytes;
  for (int i = 0; i < p->nslot; i++)
    if (p->slot[i].into < 0 && (p->slot[i].kind == SL_ARENA || p->slot[i].kind == SL_OUT) && p->slot[i].bytes)
      s.buffers++;
  return s;
}

/* Without the prelude, which is the same for all. */
static bool dump_cuda(Graph *g, const Region *r, bool tf32, FILE *out) {
  Arena *scratch = arena_new();
  Fusion *f = fuse(scratch, g, r);
  lower_prepare(f);
  for (int i = 0; i < f->group.n; i++) {
    if (f->group.at[i]->into || f->group.at[i]->op) continue;
    CuKernel k;
    const char *why = "";
    if (!cuda_emit(scratch, g, lower_group(f, f->group.at[i]), tf32, &k, &why)) {
      fprintf(out, "/* %s */\n\n", why);
      continue;
    }
    for (int j = 0; j < k.nlaunch; j++)
      fprintf(out, "/* %s: %" PRId64 " blocks of %d threads */\n", k.launch[j].name, k.launch[j].grid,
              k.launch[j].block);
    fprintf(out, "%s\n", k.source + strlen(cuda_prelude));
  }
  arena_free(scratch);
  return true;
}

/* Machine code exists for the whole session but its IR does not: the region is lowered anew. */
bool codegen_dump(Codegen *c, Graph *g, const Region *r, const char *what, FILE *out) {
  Fault fault = {0};
  if (!strcmp(what, "cuda")) return dump_cuda(g, r, codegen_tf32(c), out);
  Jit *jit = codegen_jit(c, &fault);
  if (!jit || (strcmp(what, "llvm") && strcmp(what, "asm"))) return false;
  Arena *scratch = arena_new();
  Fusion *f = fuse(scratch, g, r);
  lower_prepare(f);
  bool ok = true;
  for (int i = 0; i < f->group.n && ok; i++)
    if (!f->group.at[i]->into && !f->group.at[i]->op) ok = cpu_dump(jit, g, lower_group(f, f->group.at[i]), what, out);
  arena_free(scratch);
  return ok;
}
