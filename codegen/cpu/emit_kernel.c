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
  LLVMBasicBlockRef put = LLVMAppendBasicBlockInContext(E->cx, f, ""), out = LLVMAppendBasicBlockInContext(E->cx, f, "");
  LLVMPositionBuilderAtEnd(B, entry);
  LLVMValueRef at = LLVMGetParam(f, 0);
  LLVMValueRef old = LLVMBuildLoad2(B, E->i32, at, "");
  LLVMBuildCondBr(B, LLVMBuildICmp(B, LLVMIntEQ, old, LLVMConstNull(E->i32), ""), put, out);
  LLVMPositionBuilderAtEnd(B, put);
  static const size_t field[] = {offsetof(KFault, kind), offsetof(KFault, site), offsetof(KFault, index), offsetof(KFault, size),
                                 offsetof(KFault, unit)};
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

typedef struct Points { const Kernel *k; const Sched *s; } Points;
static void at_point(Em *E, void *ctx, LLVMValueRef *carry) {
  Points *p = ctx;
  E->point_level = E->depth;
  em_groups(E, p->s, 0);
}
static void points_function(Em *E, const Kernel *k, const Sched *s) {
  LLVMValueRef lo = em_arg(E, offsetof(KernelArgs, lo), E->i64), hi = em_arg(E, offsetof(KernelArgs, hi), E->i64);
  em_if_open(E, LLVMBuildICmp(B, LLVMIntSLT, lo, hi, ""));
  em_bind_zero(E, s->zero, E->depth);
  E->unit = em_loop_open(E, lo, hi, 1, 0, NULL);
  LLVMValueRef rest = E->unit, piece = NULL;
  if (s->nchunk > 1) {
    piece = s->naxis > 1 ? LLVMBuildURem(B, rest, em_int(E, s->nchunk), "") : rest;
    rest = LLVMBuildUDiv(B, rest, em_int(E, s->nchunk), "");
  }
  int left = s->naxis - (s->vp >= 0 ? 1 : 0);
  for (int i = s->naxis - 1; i >= 0; i--) {
    if (i == s->vp) continue;
    const Axis *a = &s->axis[i];
    left--;
    em_bind(E, a->iter, left ? LLVMBuildURem(B, rest, em_int(E, a->n), "") : rest, E->depth, false, a->n);
    if (left) rest = LLVMBuildUDiv(B, rest, em_int(E, a->n), "");
  }
  Points p = {k, s};
  if (s->vp < 0) {
    at_point(E, &p, NULL);
  } else {
    const Axis *a = &s->axis[s->vp];
    LLVMValueRef base = NULL, n = NULL;
    int64_t fixed = a->n;
    if (piece) {
      base = LLVMBuildMul(B, piece, em_int(E, s->chunk), "");
      fixed = a->n % s->chunk ? -1 : s->chunk;
      LLVMValueRef rem = LLVMBuildSub(B, em_int(E, a->n), base, ""), full = em_int(E, s->chunk);
      n = LLVMBuildSelect(B, LLVMBuildICmp(B, LLVMIntSLT, rem, full, ""), rem, full, "");
    }
    em_vec_for(E, a->iter, base, fixed, n, a->n, 0, NULL, at_point, &p);
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
  if (is_scatter(k)) {
    double own_points = 1;
    for (int i = 0; i < k->stage[0].nown; i++) own_points *= (double)k->stage[0].extent[i];
    int64_t points = kernel_points(k);
    out->phase[0].units = k->by_dest ? k->buf[k->stage[0].out].dim[0] : points;
    out->phase[0].cost = 3 * own_points * (k->by_dest ? (double)points / (double)(out->phase[0].units + 1) : 1);
  }
}
static LLVMModuleRef build(Jit *j, Graph *g, const Kernel *k, const Sched *s, Arena *a, const char **why) {
  LLVMModuleRef m = jit_module(j, why);
  if (!m) return NULL;
  Em em, *E = &em;
  em_init(E, g, k, a, jit_isa(j), m, WIDTH);
  em_function(E, "p0", true);
  bind_buffers(E, k, s);
  if (is_scatter(k)) em_scatter_function(E, k, s);
  else points_function(E, k, s);
  em_end(E);
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
  out->phase[0].fn = (KernelFn)(uintptr_t)jit_symbol(c, "p0");
  if (!out->phase[0].fn) {
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
