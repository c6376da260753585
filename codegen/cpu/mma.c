/* Compiling a contraction kernel: its pack functions and epilogue in one module, the micro-kernels in modules of their
 * own, which all contractions of equal tiles share. What runs is the blocked driver (rt/gemm.c) over these. */
#include "codegen/cpu/mma_emit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OWN, UKR, EDGE, MATRIX_R, MATRIX_V, PARTS };

typedef struct MmaCode {
  Gemm gemm;
  JitCode *code[PARTS];
  MmaGiven given;
} MmaCode;

static void drop(Code *c) {
  MmaCode *m = c->own;
  for (int i = 0; i < PARTS; i++)
    if (m->code[i]) jit_drop(m->code[i]);
  free(m);
  c->own = NULL;
}

const MmaGiven *mma_given(const Code *c) {
  if (c->drop != drop) return NULL;
  const MmaCode *m = c->own;
  return m->given.rows ? &m->given : NULL;
}

/* The micro-kernel of s, from the cache or compiled. */
static JitCode *micro_kernel(Jit *j, const UkrSpec *s, bool *from_disk, const char **why) {
  char key[96];
  snprintf(key, sizeof key, "mma %s%s %dx%d%s%s", dt_name(s->acc), s->wrap32 ? " wrap32" : "", s->mr, s->nv,
           s->edge ? " edge" : "", s->tree ? " tree" : "");
  JitCode *c = jit_find(j, key, from_disk);
  if (c) return c;
  LLVMModuleRef m = jit_module(j, why);
  if (!m) return NULL;
  ukr_build(m, s, "ukr");
  return jit_add(j, key, m, &(JitOptions){.passes = "", .level = 2}, why);
}

/* Packing takes a few per cent of the time, so quick code is good enough until a run takes longer than the compiler. */
static int code_level(const MmaPlan *p) {
  return (double)p->c.nB * (double)p->c.nM * (double)p->c.nN * (double)p->c.nK < 10e6 ? 0 : 1;
}

/* The pack function of all matrices of this dtype and direction. */
static JitCode *matrix_pack(Jit *j, const Operand *o, DType acc, int width, bool transposed, int level, bool *from_disk,
                            const char **why) {
  char key[96];
  snprintf(key, sizeof key, "mma pack %s %s %d%s level %d", dt_name(o->from), dt_name(acc), width,
           transposed ? " transposed" : "", level);
  JitCode *c = jit_find(j, key, from_disk);
  if (c) return c;
  LLVMModuleRef m = jit_module(j, why);
  if (!m) return NULL;
  pack_matrix_build(m, "pack", o->from, acc, width, transposed);
  return jit_add(j, key, m, &(JitOptions){.level = level}, why);
}

static bool pack(Jit *j, Graph *g, const MmaPlan *p, LLVMModuleRef m, const char *name, const Operand *o, int width,
                 Arena *a) {
  if (!o->plain) return pack_expr_build(g, jit_isa(j), m, name, o, p->c.acc, width, p->nloop, p->loop, a);
  pack_build(m, name, o, p->c.acc, width, p->nloop, p->loop);
  return true;
}

/* The kernel's own functions. */
static JitCode *functions(Jit *j, Graph *g, const MmaPlan *p, const char *text, bool *from_disk, bool *declined,
                          const char **why) {
  Arena *a = arena_new();
  char *key = arena_printf(a, "mma functions\n%s", text);
  int level = code_level(p);
  JitCode *c = jit_find(j, key, from_disk);
  if (!c) {
    LLVMModuleRef m = jit_module(j, why);
    if (m) {
      bool ok = (p->r_matrix || pack(j, g, p, m, "pack_r", &p->R, p->gemm.mr, a)) &&
                (p->v_matrix || pack(j, g, p, m, "pack_v", &p->V, p->gemm.nr, a)) &&
                (p->direct || mma_epilogue_build(g, jit_isa(j), m, "epilogue", p, a));
      if (ok) {
        Em E;
        em_init(&E, g, p->k, a, jit_isa(j), m, 1);
        em_fault_function(&E);
        em_drop(&E);
        c = jit_add(j, key, m, &(JitOptions){.level = level}, why);
      } else {
        jit_module_drop(m);
        *declined = true;
      }
    }
  }
  arena_free(a);
  return c;
}

bool mma_compile(Jit *j, Graph *g, const Kernel *k, const char *text, Code *out, bool *from_disk, bool *declined,
                 const char **why) {
  MmaPlan p;
  *declined = false;
  *from_disk = false;
  if (!mma_plan(g, k, jit_isa(j), &p)) {
    *declined = true;
    return false;
  }
  MmaCode *m = calloc(1, sizeof *m);
  if (!m) {
    *why = "out of memory";
    return false;
  }
  memset(out, 0, sizeof *out);
  out->own = m;
  bool disk[PARTS] = {true, true, true, true, true}, ok = true;
  Gemm *gm = &m->gemm;
  *gm = p.gemm;
  mma_given_make(&p, &m->given);
  if (!p.r_matrix || !p.v_matrix || !p.direct) {
    m->code[OWN] = functions(j, g, &p, text, &disk[OWN], declined, why);
    ok = m->code[OWN] != NULL;
    if (ok) {
      gm->r.fn = (GemmPack)(uintptr_t)jit_symbol(m->code[OWN], "pack_r");
      gm->v.fn = (GemmPack)(uintptr_t)jit_symbol(m->code[OWN], "pack_v");
      gm->epilogue = (GemmEpilogue)(uintptr_t)jit_symbol(m->code[OWN], "epilogue");
    }
  }
  if (ok && p.r_matrix) {
    m->code[MATRIX_R] = matrix_pack(j, &p.R, p.c.acc, gm->mr, !gm->r.by_k, code_level(&p), &disk[MATRIX_R], why);
    ok = m->code[MATRIX_R] != NULL;
    if (ok) gm->r.matrix = (GemmPackMatrix)(uintptr_t)jit_symbol(m->code[MATRIX_R], "pack");
  }
  if (ok && p.v_matrix && !gm->in_place) {
    m->code[MATRIX_V] = matrix_pack(j, &p.V, p.c.acc, gm->nr, !gm->v.by_k, code_level(&p), &disk[MATRIX_V], why);
    ok = m->code[MATRIX_V] != NULL;
    if (ok) gm->v.matrix = (GemmPackMatrix)(uintptr_t)jit_symbol(m->code[MATRIX_V], "pack");
  }
  if (ok) {
    m->code[UKR] = micro_kernel(j, &p.ukr, &disk[UKR], why);
    ok = m->code[UKR] != NULL;
    if (ok) gm->ukr = (GemmUkr)(uintptr_t)jit_symbol(m->code[UKR], "ukr");
  }
  if (ok && p.has_edge) {
    m->code[EDGE] = micro_kernel(j, &p.edge, &disk[EDGE], why);
    ok = m->code[EDGE] != NULL;
    if (ok) gm->edge = (GemmUkr)(uintptr_t)jit_symbol(m->code[EDGE], "ukr");
  }
  if (!ok) {
    drop(out);
    return false;
  }
  *from_disk = disk[OWN] && disk[UKR] && disk[EDGE] && disk[MATRIX_R] && disk[MATRIX_V];
  int64_t units = gemm_units(gm);
  out->nphase = 0;
  if (gm->panels == GEMM_SHARED)
    out->phase[out->nphase++] = (Phase){rt_gemm_pack, gm, gemm_panels(gm), 50 + 0.3 * (double)(gm->mr * gm->K)};
  if (gm->columns) {
    double piece = (double)(gm->nr * (gm->kb < gm->K ? gm->kb : gm->K));
    out->phase[out->nphase++] = (Phase){rt_gemm_columns, gm, gemm_column_pieces(gm), 50 + 0.3 * piece};
  }
  if (p.split) {
    int64_t chunks = gemm_chunks(gm);
    out->phase[out->nphase++] = (Phase){rt_gemm_chunks, gm, units * chunks, p.cost / (double)chunks};
    out->phase[out->nphase++] = (Phase){rt_gemm_join, gm, units, 50 + 0.1 * (double)(gm->rb * gm->vb * chunks)};
  } else {
    out->phase[out->nphase++] = (Phase){rt_gemm_phase, gm, units, p.cost};
  }
  out->shared_bytes = gemm_shared(gm, p.split);
  out->lane_bytes = gemm_scratch(&m->gemm);
  out->drop = drop;
  return true;
}
