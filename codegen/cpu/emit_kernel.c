/* From a Kernel to machine code: the function around the stages, phases, and the entry points of this room. */
#include "codegen/cpu/stage.h"
#include <stdlib.h>
#include <string.h>

#define B E->b
enum { WIDTH = 16 };

/* void fault(KFault *f, kind, site, index, size, unit): the first one stays. */
void em_fault_function(Em *E) {
  LLVMValueRef f = LLVMGetNamedFunction(E->mod, "fault");
  if (!f) return;
  LLVMSetLinkage(f, LLVMInternalLinkage);
  const char *flags[] = {"cold", "noinline", "nounwind"};
  for (int i = 0; i < 3; i++) {
    unsigned id = LLVMGetEnumAttributeKindForName(flags[i], strlen(flags[i]));
    LLVMAddAttributeAtIndex(f, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, LLVMCreateEnumAttribute(E->cx, id, 0));
  }
  LLVMBasicBlockRef entry = LLVMAppendBasicBlockInContext(E->cx, f, "");
  LLVMBasicBlockRef put = LLVMAppendBasicBlockInContext(E->cx, f, ""),
                    out = LLVMAppendBasicBlockInContext(E->cx, f, "");
  LLVMPositionBuilderAtEnd(B, entry);
  LLVMValueRef at = LLVMGetParam(f, 0);
  LLVMValueRef old = LLVMBuildLoad2(B, E->i32, at, "");
  LLVMBuildCondBr(B, LLVMBuildICmp(B, LLVMIntEQ, old, LLVMConstNull(E->i32), ""), put, out);
  LLVMPositionBuilderAtEnd(B, put);
  static const size_t field[] = {offsetof(KFault, kind), offsetof(KFault, site), offsetof(KFault, index),
                                 offsetof(KFault, size), offsetof(KFault, unit)};
  for (int i = 0; i < 5; i++) {
    LLVMValueRef off = em_int(E, (int64_t)field[i]);
    LLVMBuildStore(B, LLVMGetParam(f, (unsigned)i + 1), LLVMBuildGEP2(B, E->i8, at, &off, 1, ""));
  }
  LLVMBuildBr(B, out);
  LLVMPositionBuilderAtEnd(B, out);
  LLVMBuildRetVoid(B);
}

static void bind_buffers(Em *E, const Kernel *k, const Sched *s) {
  LLVMValueRef table = em_arg(E, offsetof(KernelArgs, ptr), E->ptr);
  E->scratch = em_arg(E, offsetof(KernelArgs, scratch), E->ptr);
  E->fault = em_arg(E, offsetof(KernelArgs, fault), E->ptr);
  for (int i = 0; i < k->nbuf; i++) {
    const KBuf *b = &k->buf[i];
    EmBuf *e = &E->buf[i];
    *e = (EmBuf){.stride = s->stride[i], .lanes = b->space == SP_ROW && s->vp >= 0};
    for (int j = 0; j < k->nstage; j++) e->inner = e->inner || k->stage[j].out == i;
    if (b->space == SP_GLOBAL) {
      LLVMValueRef at = em_int(E, b->arg);
      e->base = LLVMBuildLoad2(B, E->ptr, LLVMBuildGEP2(B, E->ptr, table, &at, 1, ""), "");
    } else if (b->space == SP_ROW) {
      LLVMValueRef at = em_int(E, (int64_t)s->row_off[i]);
      e->base = LLVMBuildGEP2(B, E->i8, E->scratch, &at, 1, "");
    }
  }
}

static void groups_here(Em *E, void *ctx, LLVMValueRef *carry) {
  const Sched *s = ctx;
  E->point_level = E->depth;
  if (s->column && E->split != SPLIT_CHUNKS) {
    em_column_value(E, s);
    em_groups(E, s, 1);
  } else if (E->split == SPLIT_CHUNKS) {
    em_first_chunk(E, s);
  } else {
    em_groups(E, s, 0);
  }
}
typedef struct Block {
  const Sched *s;
  LLVMValueRef base, count;
} Block;
/* A vector of points along vp, for a block of the tile axis. */
static void tile_points(Em *E, void *ctx, LLVMValueRef *carry) {
  Block *t = ctx;
  const Sched *s = t->s;
  const Axis *a = &s->axis[s->tile];
  bool even = a->n % s->tile_block == 0;
  em_tiled_for(E, a->iter, t->base,
               s->ntile == 1 ? a->n
               : even        ? s->tile_block
                             : -1,
               t->count, a->n, 0, NULL, groups_here, (void *)s, E->k->stage, E->k->nstage, false);
}
static LLVMValueRef min_of(Em *E, LLVMValueRef a, LLVMValueRef b) {
  return LLVMBuildSelect(B, LLVMBuildICmp(B, LLVMIntSLT, a, b, ""), a, b, "");
}
/* Splits the low digit off a unit's number. */
static LLVMValueRef digit(Em *E, LLVMValueRef *rest, int64_t n, bool last) {
  if (n == 1) return em_int(E, 0);
  if (last) return *rest;
  LLVMValueRef d = LLVMBuildURem(B, *rest, em_int(E, n), "");
  *rest = LLVMBuildUDiv(B, *rest, em_int(E, n), "");
  return d;
}
static void points_function(Em *E, const Kernel *k, const Sched *s) {
  LLVMValueRef lo = em_arg(E, offsetof(KernelArgs, lo), E->i64), hi = em_arg(E, offsetof(KernelArgs, hi), E->i64);
  LLVMValueRef shared = s->split ? em_arg(E, offsetof(KernelArgs, shared), E->ptr) : NULL;
  em_if_open(E, LLVMBuildICmp(B, LLVMIntSLT, lo, hi, ""));
  em_bind_zero(E, s->zero, E->depth);
  LLVMValueRef rest = em_loop_open(E, lo, hi, 1, 0, NULL), piece = NULL;
  int left = 1 + s->naxis; /* digits to come */
  if (E->split == SPLIT_CHUNKS) E->part = digit(E, &rest, s->nparts, false);
  E->unit = rest;
  E->unit_level = E->depth;
  if (s->split) {
    LLVMValueRef off = LLVMBuildMul(B, rest, em_int(E, (int64_t)s->part_bytes), "");
    E->shared = LLVMBuildGEP2(B, E->i8, shared, &off, 1, "");
  }
  if (s->vp >= 0) piece = digit(E, &rest, s->nchunk, s->naxis == 1);
  Block t = {s, NULL, NULL};
  left = s->naxis - (s->vp >= 0 ? 1 : 0);
  for (int i = s->naxis - 1; i >= 0; i--) {
    if (i == s->vp) continue;
    const Axis *a = &s->axis[i];
    left--;
    if (i != s->tile) {
      em_bind(E, a->iter, digit(E, &rest, a->n, left == 0), E->depth, false, a->n);
      continue;
    }
    LLVMValueRef blk = digit(E, &rest, s->ntile, left == 0);
    t.base = LLVMBuildMul(B, blk, em_int(E, s->tile_block), "");
    t.count = min_of(E, em_int(E, s->tile_block), LLVMBuildSub(B, em_int(E, a->n), t.base, ""));
  }
  if (s->vp < 0) {
    groups_here(E, (void *)s, NULL);
  } else {
    const Axis *a = &s->axis[s->vp];
    E->unit_base = NULL;
    E->unit_count = a->n;
    E->unit_count_rt = NULL;
    if (s->nchunk > 1) {
      E->unit_base = LLVMBuildMul(B, piece, em_int(E, s->chunk), "");
      E->unit_count = a->n % s->chunk ? -1 : s->chunk;
      E->unit_count_rt = min_of(E, em_int(E, s->chunk), LLVMBuildSub(B, em_int(E, a->n), E->unit_base, ""));
    }
    if (s->column && E->split != SPLIT_JOIN) em_column_pass(E, s);
    if (!(s->column && E->split == SPLIT_CHUNKS))
      em_vec_for(E, a->iter, E->unit_base, E->unit_count, E->unit_count_rt, a->n, 0, NULL,
                 s->tile >= 0 ? tile_points : groups_here, s->tile >= 0 ? (void *)&t : (void *)s);
  }
  em_loop_close(E, 0, NULL);
  em_if_close(E, 0, NULL, NULL);
}

static void own(Code *out, JitCode *c);
static void drop(Code *c) { jit_drop(c->own); }
static void own(Code *out, JitCode *c) {
  out->own = c;
  out->drop = drop;
}

static bool is_scatter(const Kernel *k) { return k->nstage == 1 && k->stage[0].kind == ST_SCATTER; }
static void fill(const Kernel *k, const Sched *s, Code *out) {
  *out = (Code){.nphase = 1, .lane_bytes = s->lane_bytes};
  out->phase[0] = (Phase){.units = s->units, .cost = s->cost};
  if (s->split) {
    out->nphase = 2;
    out->shared_bytes = s->shared_bytes;
    out->phase[1] = out->phase[0];
    out->phase[0] = (Phase){.units = s->units * s->nparts, .cost = s->cost0};
  }
  if (is_scatter(k)) {
    double own_points = 1;
    for (int i = 0; i < k->stage[0].nown; i++) own_points *= (double)k->stage[0].extent[i];
    int64_t points = kernel_points(k);
    out->phase[0].units = k->by_dest ? k->buf[k->stage[0].out].dim[0] : points;
    out->phase[0].cost = 3 * own_points * (k->by_dest ? (double)points / (double)(out->phase[0].units + 1) : 1);
  }
}
static const char *const phase_name[] = {"p0", "p1"};
static void function(Em *E, const Kernel *k, const Sched *s, int phase) {
  em_function(E, phase_name[phase], true);
  E->split = !s->split ? SPLIT_NONE : phase == 0 ? SPLIT_CHUNKS : SPLIT_JOIN;
  bind_buffers(E, k, s);
  if (is_scatter(k))
    em_scatter_function(E, k, s);
  else
    points_function(E, k, s);
  em_end(E);
}
static LLVMModuleRef build(Jit *j, Graph *g, const Kernel *k, const Sched *s, Arena *a, const char **why) {
  LLVMModuleRef m = jit_module(j, why);
  if (!m) return NULL;
  Em em, *E = &em;
  em_init(E, g, k, a, jit_isa(j), m, WIDTH);
  function(E, k, s, 0);
  if (s->split) function(E, k, s, 1);
  em_fault_function(E);
  em_drop(E);
  return m;
}
static const JitOptions options = {.level = 1};

bool cpu_compile(Jit *j, Graph *g, const Kernel *k, const char *text, Code *out, bool *from_disk, const char **why) {
  Arena *a = arena_new();
  Sched s;
  sched_kernel(k, jit_isa(j), a, WIDTH, &s);
  fill(k, &s, out);
  JitCode *c = jit_find(j, text, from_disk);
  if (!c) {
    LLVMModuleRef m = build(j, g, k, &s, a, why);
    if (m) c = jit_add(j, text, m, &options, why);
  }
  arena_free(a);
  if (!c) return false;
  for (int i = 0; i < out->nphase; i++) {
    out->phase[i].fn = (KernelFn)(uintptr_t)jit_symbol(c, phase_name[i]);
    if (out->phase[i].fn) continue;
    *why = "the compiled kernel could not be linked";
    jit_drop(c);
    return false;
  }
  own(out, c);
  return true;
}

bool cpu_dump(Jit *j, Graph *g, const Kernel *k, const char *what, FILE *out) {
  Arena *a = arena_new();
  Sched s;
  const char *why;
  sched_kernel(k, jit_isa(j), a, WIDTH, &s);
  LLVMModuleRef m = build(j, g, k, &s, a, &why);
  bool good = m && jit_print(j, m, &options, what, out);
  arena_free(a);
  return good;
}
