/* Pack functions as LLVM IR. Two ways through an operand, whichever reads memory in longer runs:
 *
 *   copying       lanes along the innermost panel axis. For each panel, for each run of it inside that axis, for each k:
 *                 one or two vectors are evaluated and stored under the run's mask. Rows of an image, of a row-major B.
 *   transposing   lanes along the innermost k axis. For each panel, for each group of w panel points, for each run of k:
 *                 w vectors are evaluated, transposed in registers and stored. A row-major A, images in a weight gradient.
 *
 * Panel points beyond np: zeros (copying), or the last point again (transposing); their sums are never stored. */
#include "codegen/cpu/pack.h"
#include "codegen/cpu/mma_ukr.h"
#include <stddef.h>
#include <string.h>

enum { MAX_LANES = 16, NFORM = PACK_MAX_COND + 1 }; /* forms: 0 the offset, 1 + i condition i */

typedef struct Pack {
  Ir r;
  const Operand *o;
  DType acc;
  int w, width, es;
  LLVMTypeRef elem;
  LV buf, loop, p0, np, k0, nk, dst;
  LV slot, square;          /* transposing: forms of w points; w vectors */
  LV ld;                    /* what a coefficient AT_RUN_TIME is */
  LV it[CONTRACT_MAX_ITER]; /* current values; NULL: not set */
} Pack;

/* Coefficient of an axis whose step is an argument of the function. */
#define AT_RUN_TIME INT64_MIN

/* ---- Linear forms ------------------------------------------------------------------------------------------------ */

static const Lin *form(const Pack *p, int f) { return f ? &p->o->cond[f - 1].l : &p->o->at; }

/* Part of form f over the given iterators. */
static LV lin_over(Pack *p, int f, int n, const int *axis) {
  LV v = ir_num(&p->r, 0);
  for (int i = 0; i < n; i++) {
    int64_t c = form(p, f)->coef[axis[i]];
    LV x = p->it[axis[i]];
    v = ir_add(&p->r, v, c == AT_RUN_TIME ? LLVMBuildMul(p->r.b, x, p->ld, "") : ir_mul(&p->r, x, c));
  }
  return v;
}

/* Lanes [lo, hi) of n, as bits of <n x i1>; 0 <= lo, hi <= n (lo > hi: none). */
static LV interval(Pack *p, LV lo, LV hi, int n) {
  Ir *r = &p->r;
  LLVMTypeRef bits = LLVMIntTypeInContext(r->cx, (unsigned)n);
  LV one = ir_num(r, 1), below_hi = ir_sub(r, LLVMBuildShl(r->b, one, hi, ""), one);
  LV below_lo = ir_sub(r, LLVMBuildShl(r->b, one, lo, ""), one);
  LV m = LLVMBuildAnd(r->b, below_hi, LLVMBuildNot(r->b, below_lo, ""), "");
  return LLVMBuildBitCast(r->b, LLVMBuildTrunc(r->b, m, bits, ""), ir_vec(r->i1, n), "");
}

static LV lanes_of(Pack *p, int64_t step) { /* <0, step, 2 step, ...> */
  LV c[MAX_LANES];
  for (int l = 0; l < p->w; l++) c[l] = ir_num(&p->r, (int64_t)((uint64_t)step * (uint64_t)l));
  return LLVMConstVector(c, (unsigned)p->w);
}

static LV shuffle_even(Pack *p, LV a, LV b) {
  LV c[MAX_LANES];
  for (int l = 0; l < p->w; l++) c[l] = LLVMConstInt(p->r.i32, (unsigned)(2 * l), 0);
  return LLVMBuildShuffleVector(p->r.b, a, b, LLVMConstVector(c, (unsigned)p->w), "");
}

/* Vector of the plain load where forms have the values f[] at lane 0 and lanes go along iterator vit; `live` lanes
 * count (i64, any value; NULL: all), live_mask is their mask. Borders, which are conditions of step -1, 0 or 1 along
 * vit, shrink the interval of lanes that are read. */
static LV load_plain(Pack *p, LV *f, int vit, LV live, LV live_mask) {
  Ir *r = &p->r;
  const Operand *o = p->o;
  int w = p->w;
  LV zero = ir_num(r, 0), lo = NULL, hi = live ? ir_min(r, live, ir_num(r, w)) : NULL, odd = NULL;
  for (int i = 0; i < o->ncond; i++) {
    int64_t step = vit < 0 ? 0 : o->cond[i].l.coef[vit];
    LV x = f[1 + i];
    if (o->cond[i].is == COND_GE && step >= -1 && step <= 1) {
      LV end = hi ? hi : ir_num(r, w);
      if (step == 1) {
        LV from = ir_sub(r, zero, x);
        lo = lo ? LLVMBuildSelect(r->b, ir_lt(r, lo, from), from, lo, "") : from;
      } else if (step) {
        hi = ir_min(r, end, ir_add(r, x, ir_num(r, 1)));
      } else {
        hi = LLVMBuildSelect(r->b, ir_lt(r, x, zero), zero, end, "");
      }
      continue;
    }
    LV v = ir_splat(r, x, w);
    if (step) v = LLVMBuildAdd(r->b, v, lanes_of(p, step), "");
    LLVMIntPredicate is = o->cond[i].is == COND_GE ? LLVMIntSGE : o->cond[i].is == COND_EQ ? LLVMIntEQ : LLVMIntNE;
    LV c = LLVMBuildICmp(r->b, is, v, LLVMConstNull(LLVMTypeOf(v)), "");
    odd = odd ? LLVMBuildAnd(r->b, odd, c, "") : c;
  }
  if (hi) hi = LLVMBuildSelect(r->b, ir_lt(r, hi, zero), zero, hi, "");
  if (lo) {
    lo = LLVMBuildSelect(r->b, ir_lt(r, lo, zero), zero, lo, "");
    lo = ir_min(r, lo, ir_num(r, w));
  }
  LV mask = !o->ncond    ? live_mask
            : !hi && !lo ? NULL
            : !lo        ? ir_lanes_below(r, hi, w)
                         : interval(p, lo, hi ? hi : ir_num(r, w), w);
  if (odd) mask = mask ? LLVMBuildAnd(r->b, mask, odd, "") : odd;
  int64_t step = vit < 0 ? 0 : o->at.coef[vit];
  int al = dt_bytes(o->from);
  LLVMTypeRef t = ir_type(r, o->from);
  LV v;
  if (step == 1) {
    v = ir_load_vec(r, t, w, ir_gep(r, t, p->buf, f[0]), al, mask);
  } else if (step == 0 && !mask) {
    v = ir_splat(r, ir_load(r, t, ir_gep(r, t, p->buf, f[0]), al), w);
  } else if (step == 2 && !odd) { /* two vectors, every other element; nothing beyond the last live lane is read */
    LV at = ir_gep(r, t, p->buf, f[0]), from = lo ? lo : zero, to = hi ? hi : ir_num(r, w);
    LV first = ir_mul(r, from, 2), end = ir_sub(r, ir_mul(r, to, 2), ir_num(r, 1));
    LV none = LLVMBuildICmp(r->b, LLVMIntSGE, from, to, "");
    LV both = interval(p, first, LLVMBuildSelect(r->b, none, zero, end, ""), 2 * w);
    LV half[2];
    for (int h = 0; h < 2; h++) {
      LV c[MAX_LANES];
      for (int l = 0; l < w; l++) c[l] = LLVMConstInt(r->i32, (unsigned)(h * w + l), 0);
      LV m = LLVMBuildShuffleVector(r->b, both, LLVMGetPoison(LLVMTypeOf(both)), LLVMConstVector(c, (unsigned)w), "");
      half[h] = ir_load_vec(r, t, w, ir_gep(r, t, at, ir_num(r, (int64_t)h * w)), al, m);
    }
    v = shuffle_even(p, half[0], half[1]);
  } else {
    v = ir_gather(r, t, w, p->buf, LLVMBuildAdd(r->b, ir_splat(r, f[0], w), lanes_of(p, step), ""), al, mask);
  }
  return ir_widen(r, v, w, o->from, p->acc);
}

/* ---- Iterators --------------------------------------------------------------------------------------------------- */

static void decode(Pack *p, LV flat, int n, const int *axis) {
  for (int i = n - 1; i >= 0; i--) {
    int64_t e = p->o->ext[axis[i]];
    if (e < 1) e = 1;
    p->it[axis[i]] = i ? ir_rem(&p->r, flat, e) : flat;
    if (i) flat = ir_div(&p->r, flat, e);
  }
}

static int innermost(int n, const int *axis) { return n ? axis[n - 1] : -1; }

/* ---- Copying ----------------------------------------------------------------------------------------------------- */

/* Steps k0 .. k0 + nk at `out` (+ k * width), nvec vectors with live[] lanes (NULL: all); pre: forms without their k
 * part. */
static void copy_k(Pack *p, LV *pre, int vit, LV out, int nvec, LV *live) {
  Ir *r = &p->r;
  const Operand *o = p->o;
  LV mask[2];
  for (int v = 0; v < nvec; v++) mask[v] = live[v] ? ir_lanes_below(r, live[v], p->w) : NULL;
  decode(p, p->k0, o->nk, o->kk);
  LLVMBasicBlockRef from = LLVMGetInsertBlock(r->b), head = ir_block(r, "k"), done = ir_block(r, "k.done");
  LLVMBuildCondBr(r->b, ir_lt(r, ir_num(r, 0), p->nk), head, done);
  ir_at(r, head);
  LV left = LLVMBuildPhi(r->b, r->i64, ""), at = LLVMBuildPhi(r->b, r->ptr, ""), ki[CONTRACT_MAX_ITER],
     next[CONTRACT_MAX_ITER];
  for (int i = 0; i < o->nk; i++) {
    LV first = p->it[o->kk[i]];
    ki[i] = p->it[o->kk[i]] = LLVMBuildPhi(r->b, r->i64, "");
    LLVMAddIncoming(ki[i], &first, &from, 1);
  }
  LV kpart[NFORM];
  for (int f = 0; f <= o->ncond; f++) kpart[f] = lin_over(p, f, o->nk, o->kk);
  for (int v = 0; v < nvec; v++) {
    LV f[NFORM];
    for (int i = 0; i <= o->ncond; i++) {
      f[i] = ir_add(r, pre[i], kpart[i]);
      if (vit >= 0) f[i] = ir_add(r, f[i], ir_num(r, form(p, i)->coef[vit] * v * p->w));
    }
    LV x = load_plain(p, f, vit, live[v], mask[v]);
    ir_store_vec(r, x, p->w, ir_gep(r, p->elem, at, ir_num(r, (int64_t)v * p->w)), p->es, mask[v]);
  }
  LV carry = NULL;
  for (int i = o->nk - 1; i >= 0; i--) {
    LV one = carry ? LLVMBuildZExt(r->b, carry, r->i64, "") : ir_num(r, 1);
    next[i] = LLVMBuildAdd(r->b, ki[i], one, "");
    if (!i) break;
    carry = LLVMBuildICmp(r->b, LLVMIntEQ, next[i], ir_num(r, o->ext[o->kk[i]]), "");
    next[i] = LLVMBuildSelect(r->b, carry, ir_num(r, 0), next[i], "");
  }
  LV nat = ir_gep(r, p->elem, at, ir_num(r, p->width)), nleft = ir_sub(r, left, ir_num(r, 1));
  LLVMBasicBlockRef end = LLVMGetInsertBlock(r->b);
  LLVMBuildCondBr(r->b, ir_lt(r, ir_num(r, 0), nleft), head, done);
  for (int i = 0; i < o->nk; i++) LLVMAddIncoming(ki[i], &next[i], &end, 1);
  LLVMAddIncoming(left, (LV[]){p->nk, nleft}, (LLVMBasicBlockRef[]){from, end}, 2);
  LLVMAddIncoming(at, (LV[]){out, nat}, (LLVMBasicBlockRef[]){from, end}, 2);
  ir_at(r, done);
}

static void zero_columns(Pack *p, LV panel, LV from) { /* columns from .. width of all steps */
  Ir *r = &p->r;
  IrFor k = ir_for(r, ir_num(r, 0), p->nk, ir_num(r, 1));
  LV row = ir_gep(r, p->elem, panel, ir_mul(r, k.i, p->width));
  for (int c = 0; c < p->width; c += p->w) {
    LV before = ir_lanes_below(r, ir_sub(r, from, ir_num(r, c)), p->w);
    LV mask = LLVMBuildNot(r->b, before, "");
    if (p->width - c < p->w) mask = LLVMBuildAnd(r->b, mask, ir_lanes_below(r, ir_num(r, p->width - c), p->w), "");
    ir_store_vec(r, LLVMConstNull(ir_vec(p->elem, p->w)), p->w, ir_gep(r, p->elem, row, ir_num(r, c)), p->es, mask);
  }
  ir_for_end(r, &k);
}

static void copying(Pack *p, int nloop, const int *loop_iter) {
  Ir *r = &p->r;
  const Operand *o = p->o;
  int vit = innermost(o->np, o->p);
  IrFor panels = ir_for(r, ir_num(r, 0), p->np, ir_num(r, p->width));
  LV panel = ir_gep(r, p->elem, p->dst, LLVMBuildMul(r->b, panels.i, p->nk, ""));
  LV end = ir_min(r, ir_num(r, p->width), ir_sub(r, p->np, panels.i));
  IrFor runs = ir_for(r, ir_num(r, 0), end, NULL);
  decode(p, ir_add(r, ir_add(r, p->p0, panels.i), runs.i), o->np, o->p);
  LV len = ir_sub(r, end, runs.i);
  if (vit >= 0) len = ir_min(r, len, ir_sub(r, ir_num(r, o->ext[vit]), p->it[vit]));
  runs.step = len;
  LV pre[NFORM];
  for (int f = 0; f <= o->ncond; f++) {
    pre[f] = ir_add(r, ir_num(r, form(p, f)->c), lin_over(p, f, nloop, loop_iter));
    pre[f] = ir_add(r, pre[f], lin_over(p, f, o->np, o->p));
  }
  int pair = p->width > p->w ? 2 : 1;
  IrFor vecs = ir_for(r, ir_num(r, 0), len, ir_num(r, (int64_t)pair * p->w));
  LV at[NFORM], left = ir_sub(r, len, vecs.i);
  for (int f = 0; f <= o->ncond; f++)
    at[f] = vit < 0 ? pre[f] : ir_add(r, pre[f], ir_mul(r, vecs.i, form(p, f)->coef[vit]));
  LV out = ir_gep(r, p->elem, panel, ir_add(r, runs.i, vecs.i));
  if (pair == 2) {
    IrIf two = ir_if(r, ir_lt(r, ir_num(r, p->w), left));
    copy_k(p, at, vit, out, 2, (LV[]){NULL, ir_sub(r, left, ir_num(r, p->w))});
    ir_else(r, &two);
    copy_k(p, at, vit, out, 1, &left);
    ir_if_end(r, &two);
  } else {
    copy_k(p, at, vit, out, 1, &left);
  }
  ir_for_end(r, &vecs);
  ir_for_end(r, &runs);
  IrIf partial = ir_if(r, ir_lt(r, end, ir_num(r, p->width)));
  zero_columns(p, panel, end);
  ir_if_end(r, &partial);
  ir_for_end(r, &panels);
}

/* ---- Transposing ------------------------------------------------------------------------------------------------- */

/* nrow <= w panel points from column `col` (i64) of the panel at panel point pp. Loops over vectors, not unrolled code:
 * LLVM takes its time over shuffles. */
static void transpose_group(Pack *p, int nloop, const int *loop_iter, LV panel, LV pp, LV col, int nrow) {
  Ir *r = &p->r;
  const Operand *o = p->o;
  int w = p->w, q = w / 4, vit = innermost(o->nk, o->kk);
  LV last = ir_sub(r, p->np, ir_num(r, 1)), zero = ir_num(r, 0), one = ir_num(r, 1);
  IrFor points = ir_for(r, zero, ir_num(r, w), one);
  LV point = ir_min(r, ir_add(r, pp, ir_add(r, points.i, col)), last);
  decode(p, ir_add(r, p->p0, point), o->np, o->p);
  for (int f = 0; f <= o->ncond; f++) {
    LV pre = ir_add(r, ir_num(r, form(p, f)->c), lin_over(p, f, nloop, loop_iter));
    pre = ir_add(r, pre, lin_over(p, f, o->np, o->p));
    ir_store(r, pre, ir_gep(r, r->i64, p->slot, ir_add(r, points.i, ir_num(r, (int64_t)f * MAX_LANES))), 8);
  }
  ir_for_end(r, &points);

  IrFor runs = ir_for(r, zero, p->nk, NULL);
  decode(p, ir_add(r, p->k0, runs.i), o->nk, o->kk);
  LV len = ir_min(r, ir_num(r, w), ir_sub(r, p->nk, runs.i));
  if (vit >= 0) len = ir_min(r, len, ir_sub(r, ir_num(r, o->ext[vit]), p->it[vit]));
  runs.step = len;
  LV kpart[NFORM], v[4], mask = ir_lanes_below(r, len, w), full = LLVMBuildICmp(r->b, LLVMIntEQ, len, ir_num(r, w), "");
  for (int f = 0; f <= o->ncond; f++) kpart[f] = lin_over(p, f, o->nk, o->kk);
  bool single = p->width == 1;
  IrFor groups = ir_for(r, zero, ir_num(r, single ? 1 : 4), one);
  for (int i = 0; i < (single ? 1 : q); i++) {
    LV f[NFORM], row = ir_add(r, ir_mul(r, groups.i, q), ir_num(r, i));
    for (int j = 0; j <= o->ncond; j++) {
      LV at = ir_gep(r, r->i64, p->slot, ir_add(r, row, ir_num(r, j * MAX_LANES)));
      f[j] = ir_add(r, ir_load(r, r->i64, at, 8), kpart[j]);
    }
    v[i] = load_plain(p, f, vit, len, mask);
  }
  if (single) { /* one point: its panel is its row */
    ir_store_vec(r, v[0], w, ir_gep(r, p->elem, panel, runs.i), p->es, mask);
    ir_for_end(r, &groups);
    ir_for_end(r, &runs);
    return;
  }
  ir_transpose_rows(r, w, v);
  for (int i = 0; i < q; i++)
    ir_store(r, v[i], ir_gep(r, p->elem, p->square, ir_mul(r, ir_add(r, ir_mul(r, groups.i, q), ir_num(r, i)), w)),
             p->es);
  ir_for_end(r, &groups);
  LV out = ir_gep(r, p->elem, panel, ir_add(r, ir_mul(r, runs.i, p->width), col));
  IrFor cols = ir_for(r, zero, ir_num(r, q), one);
  for (int g = 0; g < 4; g++)
    v[g] = ir_load_vec(r, p->elem, w, ir_gep(r, p->elem, p->square, ir_mul(r, ir_add(r, cols.i, ir_num(r, g * q)), w)),
                       p->es, NULL);
  ir_transpose_units(r, w, v);
  LV columns = nrow < w ? ir_lanes_below(r, ir_num(r, nrow), w) : NULL, to[4], k[4];
  for (int u = 0; u < 4; u++) { /* step qu + j */
    k[u] = ir_add(r, cols.i, ir_num(r, u * q));
    to[u] = ir_gep(r, p->elem, out, ir_mul(r, k[u], p->width));
  }
  IrIf all = ir_if(r, full);
  for (int u = 0; u < 4; u++) ir_store_vec(r, v[u], w, to[u], p->es, columns);
  ir_else(r, &all);
  for (int u = 0; u < 4; u++) {
    LV live = LLVMBuildSelect(r->b, ir_lt(r, k[u], len), ir_num(r, nrow), zero, "");
    ir_store_vec(r, v[u], w, to[u], p->es, ir_lanes_below(r, live, w));
  }
  ir_if_end(r, &all);
  ir_for_end(r, &cols);
  ir_for_end(r, &runs);
}

static void transposing(Pack *p, int nloop, const int *loop_iter) {
  Ir *r = &p->r;
  int whole = p->width / p->w, rest = p->width % p->w;
  p->slot = ir_slot(r, r->i64, NFORM * MAX_LANES);
  p->square = ir_slot(r, p->elem, p->w * p->w);
  IrFor panels = ir_for(r, ir_num(r, 0), p->np, ir_num(r, p->width));
  LV panel = ir_gep(r, p->elem, p->dst, LLVMBuildMul(r->b, panels.i, p->nk, ""));
  if (whole) {
    IrFor groups = ir_for(r, ir_num(r, 0), ir_num(r, (int64_t)whole * p->w), ir_num(r, p->w));
    transpose_group(p, nloop, loop_iter, panel, panels.i, groups.i, p->w);
    ir_for_end(r, &groups);
  }
  if (rest) transpose_group(p, nloop, loop_iter, panel, panels.i, ir_num(r, (int64_t)whole * p->w), rest);
  ir_for_end(r, &panels);
}

/* ---- Choice ------------------------------------------------------------------------------------------------------ */

static int64_t run_length(const Operand *o, int it, int w) {
  if (it < 0 || o->at.coef[it] < 1 || o->at.coef[it] > 2) return 0;
  return (o->ext[it] < w ? o->ext[it] : w) * 2 / o->at.coef[it];
}

void pack_build(LLVMModuleRef m, const char *name, const Operand *o, DType acc, int width, int nloop,
                const int *loop_iter) {
  Pack p = {.o = o, .acc = acc, .w = ukr_lanes(acc), .width = width, .es = dt_bytes(acc)};
  LLVMContextRef cx = LLVMGetModuleContext(m);
  LLVMTypeRef i64 = LLVMInt64TypeInContext(cx), ptr = LLVMPointerTypeInContext(cx, 0);
  p.r = ir_function(m, name, 7, (LLVMTypeRef[]){ptr, ptr, i64, i64, i64, i64, ptr});
  Ir *r = &p.r;
  p.elem = ir_type(r, acc);
  LV args = LLVMGetParam(r->fn, 0);
  p.loop = LLVMGetParam(r->fn, 1);
  p.p0 = LLVMGetParam(r->fn, 2);
  p.np = LLVMGetParam(r->fn, 3);
  p.k0 = LLVMGetParam(r->fn, 4);
  p.nk = LLVMGetParam(r->fn, 5);
  p.dst = LLVMGetParam(r->fn, 6);
  LV table = ir_load(r, r->ptr, ir_gep(r, r->i8, args, ir_num(r, offsetof(KernelArgs, ptr))), 8);
  p.buf = ir_load(r, r->ptr, ir_gep(r, r->ptr, table, ir_num(r, o->buf->arg)), 8);
  if (o->row) {
    LV row = ir_load(r, r->i64, ir_load(r, r->ptr, ir_gep(r, r->ptr, table, ir_num(r, o->row->arg)), 8), 8);
    p.buf = ir_gep(r, ir_type(r, o->from), p.buf, ir_mul(r, row, o->row_step));
  }
  for (int d = 0; d < nloop; d++) p.it[loop_iter[d]] = ir_load(r, r->i64, ir_gep(r, r->i64, p.loop, ir_num(r, d)), 8);
  int64_t along_p = run_length(o, innermost(o->np, o->p), p.w), along_k = run_length(o, innermost(o->nk, o->kk), p.w);
  if (o->nk && along_k * 2 > along_p * 3)
    transposing(&p, nloop, loop_iter);
  else
    copying(&p, nloop, loop_iter);
  ir_end(r);
}

void pack_matrix_build(LLVMModuleRef m, const char *name, DType from, DType acc, int width, bool transposed) {
  Operand o = {
      .niter = 2, .ext = {INT64_MAX, INT64_MAX}, .np = 1, .nk = 1, .p = {0}, .kk = {1}, .plain = true, .from = from};
  o.at.coef[transposed ? 1 : 0] = 1;
  o.at.coef[transposed ? 0 : 1] = AT_RUN_TIME;
  Pack p = {.o = &o, .acc = acc, .w = ukr_lanes(acc), .width = width, .es = dt_bytes(acc)};
  LLVMContextRef cx = LLVMGetModuleContext(m);
  LLVMTypeRef i64 = LLVMInt64TypeInContext(cx), ptr = LLVMPointerTypeInContext(cx, 0);
  p.r = ir_function(m, name, 5, (LLVMTypeRef[]){ptr, i64, i64, i64, ptr});
  p.elem = ir_type(&p.r, acc);
  p.buf = LLVMGetParam(p.r.fn, 0);
  p.ld = LLVMGetParam(p.r.fn, 1);
  p.np = LLVMGetParam(p.r.fn, 2);
  p.nk = LLVMGetParam(p.r.fn, 3);
  p.dst = LLVMGetParam(p.r.fn, 4);
  p.p0 = p.k0 = ir_num(&p.r, 0);
  if (transposed)
    transposing(&p, 0, NULL);
  else
    copying(&p, 0, NULL);
  ir_end(&p.r);
}
