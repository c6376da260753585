/* Pack functions of operands that are not plain loads: fused prologues, gathers, any expression (see pack.h and pack.c,
 * whose two ways these are). Transposing goes row by row through a square on the stack, so that the expression is
 * emitted once. */
#include "codegen/cpu/mma_emit.h"
#include "graph/affine.h"
#include <string.h>

typedef struct Score {
  Graph *g;
  const Operand *o;
  int64_t p, k;
  int w;
} Score;
static void see(void *ctx, Expr *e) { /* lanes that a contiguous load fills, along p and along k */
  Score *s = ctx;
  const Operand *o = s->o;
  if (e->kind != EX_LOAD) return;
  const KBuf *b = kernel_buf(o->k, e->node);
  int64_t step[CONTRACT_MAX_ITER] = {0};
  for (int d = 0; d < e->n; d++) {
    int64_t coef[CONTRACT_MAX_ITER] = {0}, c;
    Expr *rest;
    ex_affine(s->g, e->arg[d], o->niter, coef, &c, &rest);
    for (int i = 0; i < o->niter; i++) step[i] += coef[i] * b->stride[d];
  }
  int ip = o->np ? o->p[o->np - 1] : -1, ik = o->nk ? o->kk[o->nk - 1] : -1;
  if (ip >= 0 && step[ip] == 1) s->p += o->ext[ip] < s->w ? o->ext[ip] : s->w;
  if (ik >= 0 && step[ik] == 1) s->k += o->ext[ik] < s->w ? o->ext[ik] : s->w;
}

typedef struct Panel {
  const Operand *o;
  DType acc;
  int width;
  LLVMTypeRef elem;
  LLVMValueRef p0, np, k0, nk, dst;
} Panel;

static LLVMValueRef at(Em *E, const Panel *p, LLVMValueRef base, LLVMValueRef i) {
  return LLVMBuildGEP2(E->b, p->elem, base, &i, 1, "");
}

/* The operand at the current iterators as a vector of acc, at the innermost level. */
static LLVMValueRef value(Em *E, const Panel *p) {
  Val x = em_expr(E, p->o->e);
  LLVMValueRef v = em_as(E, &x, true);
  em_at(E, E->depth);
  E->vec = true;
  return em_cast(E, p->acc, (DType)p->o->e->dtype, v);
}

static void store(Em *E, const Panel *p, LLVMValueRef v, LLVMValueRef to, LLVMValueRef mask) {
  LLVMValueRef align = LLVMConstInt(E->i32, (unsigned)dt_bytes(p->acc), 0);
  em_call(E, "llvm.masked.store", 2, (LLVMTypeRef[]){LLVMTypeOf(v), E->ptr}, 4, (LLVMValueRef[]){v, to, align, mask});
}

/* Columns end .. width of all steps become zeros. */
static void zero_columns(Em *E, const Panel *p, LLVMValueRef panel, LLVMValueRef end) {
  LLVMValueRef width = em_int(E, p->width), zero = p->acc == DT_I64 ? em_int(E, 0) : LLVMConstReal(p->elem, 0);
  em_if_open(E, LLVMBuildICmp(E->b, LLVMIntSLT, end, width, ""));
  LLVMValueRef k = em_loop_open(E, em_int(E, 0), p->nk, 1, 0, NULL);
  LLVMValueRef row = at(E, p, panel, LLVMBuildMul(E->b, k, width, ""));
  LLVMValueRef c = em_loop_open(E, end, width, 1, 0, NULL);
  LLVMBuildStore(E->b, zero, at(E, p, row, c));
  em_loop_close(E, 0, NULL);
  em_loop_close(E, 0, NULL);
  em_if_close(E, 0, NULL, NULL);
}

static void copying(Em *E, const Panel *p) {
  const Operand *o = p->o;
  LLVMValueRef width = em_int(E, p->width), zero = em_int(E, 0);
  LLVMValueRef pp = em_loop_open(E, zero, p->np, p->width, 0, NULL);
  LLVMValueRef panel = at(E, p, p->dst, LLVMBuildMul(E->b, pp, p->nk, ""));
  LLVMValueRef end = call_min(E, width, LLVMBuildSub(E->b, p->np, pp, ""));
  LLVMValueRef col, left;
  call_runs_open(E, LLVMBuildAdd(E->b, p->p0, pp, ""), end, o->np, o->p, o->ext, &col, &left);
  LLVMValueRef out = at(E, p, panel, col), mask = E->mask;
  /* An odometer over k: no division in the inner loop. */
  LLVMValueRef it[CONTRACT_MAX_ITER], flat = p->k0;
  for (int i = o->nk - 1; i >= 0; i--) {
    LLVMValueRef e = em_int(E, o->ext[o->kk[i]] > 0 ? o->ext[o->kk[i]] : 1);
    it[i] = i ? LLVMBuildURem(E->b, flat, e, "") : flat;
    if (i) flat = LLVMBuildUDiv(E->b, flat, e, "");
  }
  LLVMValueRef k = em_loop_open(E, zero, p->nk, 1, o->nk, it);
  for (int i = 0; i < o->nk; i++) em_bind(E, o->kk[i], it[i], E->depth, false, o->ext[o->kk[i]]);
  LLVMValueRef v = value(E, p);
  store(E, p, v, at(E, p, out, LLVMBuildMul(E->b, k, width, "")), mask);
  LLVMValueRef carry = NULL;
  for (int i = o->nk - 1; i >= 0; i--) {
    it[i] = LLVMBuildAdd(E->b, it[i], carry ? LLVMBuildZExt(E->b, carry, E->i64, "") : em_int(E, 1), "");
    if (!i) break;
    carry = LLVMBuildICmp(E->b, LLVMIntEQ, it[i], em_int(E, o->ext[o->kk[i]]), "");
    it[i] = LLVMBuildSelect(E->b, carry, zero, it[i], "");
  }
  em_loop_close(E, o->nk, it);
  call_runs_close(E);
  zero_columns(E, p, panel, end);
  em_loop_close(E, 0, NULL);
}

static LLVMValueRef mul_add(Em *E, LLVMValueRef x, LLVMValueRef by, int64_t plus) {
  return LLVMBuildAdd(E->b, LLVMBuildMul(E->b, x, by, ""), em_int(E, plus), "");
}

static void transposing(Em *E, const Panel *p, LLVMValueRef square) {
  const Operand *o = p->o;
  int w = E->width, q = w / 4;
  Ir r = ir_types(E->mod);
  r.b = E->b;
  r.fn = E->fn;
  LLVMValueRef width = em_int(E, p->width), zero = em_int(E, 0), vw = em_int(E, w);
  LLVMValueRef pp = em_loop_open(E, zero, p->np, p->width, 0, NULL);
  LLVMValueRef panel = at(E, p, p->dst, LLVMBuildMul(E->b, pp, p->nk, ""));
  LLVMValueRef last = LLVMBuildSub(E->b, p->np, em_int(E, 1), "");
  for (int g = 0; g < p->width; g += w) {
    int nrow = p->width - g < w ? p->width - g : w;
    LLVMValueRef k, left;
    call_runs_open(E, p->k0, p->nk, o->nk, o->kk, o->ext, &k, &left);
    LLVMValueRef row = em_loop_open(E, zero, em_int(E, nrow), 1, 0, NULL);
    LLVMValueRef point = call_min(E, LLVMBuildAdd(E->b, LLVMBuildAdd(E->b, pp, em_int(E, g), ""), row, ""), last);
    call_bind(E, LLVMBuildAdd(E->b, p->p0, point, ""), o->np, o->p, o->ext);
    LLVMValueRef v = value(E, p);
    LLVMSetAlignment(LLVMBuildStore(E->b, v, at(E, p, square, LLVMBuildMul(E->b, row, vw, ""))),
                     (unsigned)dt_bytes(p->acc));
    em_loop_close(E, 0, NULL);
    LLVMTypeRef vt = em_vector(E, p->elem);
    LLVMValueRef u[4], by[2] = {em_int(E, w), em_int(E, (int64_t)q * w)};
    LLVMValueRef group = em_loop_open(E, zero, em_int(E, 4), 1, 0, NULL);
    for (int i = 0; i < q; i++)
      u[i] = ir_load(&r, vt, at(E, p, square, mul_add(E, group, by[1], (int64_t)i * w)), dt_bytes(p->acc));
    ir_transpose_rows(&r, w, u);
    for (int i = 0; i < q; i++)
      ir_store(&r, u[i], at(E, p, square, mul_add(E, group, by[1], (int64_t)i * w)), dt_bytes(p->acc));
    em_loop_close(E, 0, NULL);
    LLVMValueRef out = at(E, p, panel, LLVMBuildAdd(E->b, LLVMBuildMul(E->b, k, width, ""), em_int(E, g), ""));
    LLVMValueRef j = em_loop_open(E, zero, em_int(E, q), 1, 0, NULL);
    for (int i = 0; i < 4; i++)
      u[i] = ir_load(&r, vt, at(E, p, square, mul_add(E, j, by[0], (int64_t)i * q * w)), dt_bytes(p->acc));
    ir_transpose_units(&r, w, u);
    for (int i = 0; i < 4; i++) { /* step qi + j, if the run has it */
      LLVMValueRef step = LLVMBuildAdd(E->b, j, em_int(E, i * q), "");
      LLVMValueRef live =
          LLVMBuildSelect(E->b, LLVMBuildICmp(E->b, LLVMIntSLT, step, left, ""), em_int(E, nrow), zero, "");
      store(E, p, u[i], at(E, p, out, LLVMBuildMul(E->b, step, width, "")), ir_lanes_below(&r, live, w));
    }
    em_loop_close(E, 0, NULL);
    call_runs_close(E);
  }
  em_loop_close(E, 0, NULL);
}

bool pack_expr_build(Graph *g, const Isa *isa, LLVMModuleRef m, const char *name, const Operand *o, DType acc,
                     int width, int nloop, const int *loop_iter, Arena *a) {
  if (!o->nk) return false;
  Em E;
  int w = ukr_lanes(acc);
  call_open(&E, g, o->k, a, isa, m, name, w);
  Panel p = {.o = o, .acc = acc, .width = width, .elem = acc == DT_F32 ? E.f32 : acc == DT_F64 ? E.f64 : E.i64};
  LLVMValueRef square = LLVMBuildArrayAlloca(E.b, p.elem, LLVMConstInt(E.i32, (unsigned)(w * w), 0), "");
  LLVMSetAlignment(square, 64);
  LLVMValueRef loop = call_arg(&E, 0, E.ptr);
  p.p0 = call_arg(&E, 1, E.i64);
  p.np = call_arg(&E, 2, E.i64);
  p.k0 = call_arg(&E, 3, E.i64);
  p.nk = call_arg(&E, 4, E.i64);
  p.dst = call_arg(&E, 5, E.ptr);
  for (int i = 0; i < o->niter; i++) em_bind(&E, i, em_int(&E, 0), 0, false, 1);
  for (int d = 0; d < nloop; d++) {
    LLVMValueRef i = em_int(&E, d), x = LLVMBuildLoad2(E.b, E.i64, LLVMBuildGEP2(E.b, E.i64, loop, &i, 1, ""), "");
    em_bind(&E, loop_iter[d], x, 0, false, o->ext[loop_iter[d]]);
  }
  Score s = {g, o, 0, 0, w};
  ex_visit(o->e, see, &s);
  if (!o->np || s.k * 2 > s.p * 3)
    transposing(&E, &p, square);
  else
    copying(&E, &p);
  call_close(&E, name, 6, (bool[]){true, false, false, false, false, true});
  return true;
}
