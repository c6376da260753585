/* What an operand of a contraction is: merged axes, linear forms (pack.h). */
#include "codegen/cpu/pack.h"
#include "graph/affine.h"
#include <string.h>

/* An i64 scalar in memory: the counter of the loop around a kernel. */
static const KBuf *scalar_of(const Kernel *k, const Expr *e) {
  if (e->kind != EX_LOAD || e->n || e->mask || e->dtype != DT_I64) return NULL;
  const KBuf *b = kernel_buf(k, e->node);
  return b && b->space == SP_GLOBAL && !b->out ? b : NULL;
}

/* Offset of a load's element in its buffer, in elements; one subscript may be a scalar in memory alone (a row of a
 * stack). False when a subscript is neither. */
static bool load_lin(Graph *g, const Kernel *k, const KBuf *b, Expr *load, int niter, Lin *out, const KBuf **row,
                     int64_t *row_step) {
  memset(out, 0, sizeof *out);
  *row = NULL;
  *row_step = 0;
  for (int d = 0; d < load->n; d++) {
    Lin l = {0};
    Expr *rest;
    if (!ex_affine(g, load->arg[d], niter, l.coef, &l.c, &rest)) {
      const KBuf *s = rest == load->arg[d] ? scalar_of(k, rest) : NULL;
      if (!s || *row) return false;
      *row = s;
      *row_step = b->stride[d];
      continue;
    }
    out->c += l.c * b->stride[d];
    for (int k = 0; k < niter; k++) out->coef[k] += l.coef[k] * b->stride[d];
  }
  return true;
}

/* ---- SPLIT: ITER k under // c or % c becomes c * q + r ----------------------------------------------------------- */

typedef struct Split {
  Graph *g;
  const Operand *o;
  int k;
  int64_t c;
  int q, r;
} Split;

static bool is_split(const Expr *e, int *k, int64_t *c) {
  if (e->kind != EX_OP || (e->op != OP_FLOORDIV && e->op != OP_MOD) || e->dtype != DT_I64) return false;
  if (e->arg[0]->kind != EX_ITER || e->arg[1]->kind != EX_CONST || e->arg[1]->num.i < 1) return false;
  *k = (int)e->arg[0]->num.i;
  *c = e->arg[1]->num.i;
  return true;
}
static bool on_axis(const Operand *o, int k) {
  for (int i = 0; i < o->np; i++)
    if (o->p[i] == k) return true;
  for (int i = 0; i < o->nk; i++)
    if (o->kk[i] == k) return true;
  return false;
}
static void see_split(void *ctx, Expr *e) { /* the coarsest divisor first */
  Split *s = ctx;
  int k;
  int64_t c;
  if (is_split(e, &k, &c) && c > s->c && on_axis(s->o, k) && (c >= s->o->ext[k] || s->o->ext[k] % c == 0))
    s->k = k, s->c = c;
}
static Expr *by_split(void *ctx, Expr *e) {
  Split *s = ctx;
  int k;
  int64_t c;
  if (is_split(e, &k, &c) && k == s->k && c == s->c) return ex_iter(s->g, e->op == OP_FLOORDIV ? s->q : s->r);
  if (e->kind != EX_ITER || e->num.i != s->k) return NULL;
  return ex_lin(s->g, 0, 2, (int64_t[]){s->c, 1}, (Expr *[]){ex_iter(s->g, s->q), ex_iter(s->g, s->r)});
}
static bool put_pair(int *n, int *axis, int k, int q, int r) {
  for (int i = 0; i < *n; i++)
    if (axis[i] == k) {
      memmove(axis + i + 2, axis + i + 1, (size_t)(*n - i - 1) * sizeof *axis);
      axis[i] = q;
      axis[i + 1] = r;
      (*n)++;
      return true;
    }
  return false;
}
static void split_axes(Graph *g, Operand *o) {
  for (int round = 0; round < 8 && o->niter + 2 <= CONTRACT_MAX_ITER; round++) {
    Split s = {g, o, -1, 0, o->niter, o->niter + 1};
    ex_visit(o->e, see_split, &s);
    if (s.k < 0) return;
    int64_t n = o->ext[s.k];
    o->ext[s.q] = s.c >= n ? 1 : n / s.c; /* c >= n: q is always 0 */
    o->ext[s.r] = s.c >= n ? n : s.c;
    o->e = ex_map(g, o->e, by_split, &s);
    if (!put_pair(&o->np, o->p, s.k, s.q, s.r)) put_pair(&o->nk, o->kk, s.k, s.q, s.r);
    o->niter += 2;
  }
}

/* ---- Merging ----------------------------------------------------------------------------------------------------- */

/* Every load of e walks iterators (a, b) as the one iterator a * ext[b] + b, and nothing else uses them. */
static bool walks_as_one(Graph *g, const Operand *o, Expr *e, int a, int b) {
  if (!ex_uses_iter(e, a) && !ex_uses_iter(e, b)) return true;
  if (e->kind == EX_ITER || e->kind == EX_LIN) return false;
  if (e->kind == EX_LOAD) {
    const KBuf *buf = kernel_buf(o->k, e->node);
    if (!buf || buf->space != SP_GLOBAL || e->checked) return false;
    if (e->mask && (ex_uses_iter(e->mask, a) || ex_uses_iter(e->mask, b))) return false;
    Lin l;
    const KBuf *row;
    int64_t step;
    return load_lin(g, o->k, buf, e, o->niter, &l, &row, &step) && l.coef[a] == l.coef[b] * o->ext[b];
  }
  for (int i = 0; i < e->n; i++)
    if (!walks_as_one(g, o, e->arg[i], a, b)) return false;
  return true;
}

/* walks_as_one recurses without a memo: only expressions that are small as trees. */
static bool is_small(const Expr *e, int *budget) {
  if (--*budget < 0) return false;
  for (int i = 0; i < e->n; i++)
    if (!is_small(e->arg[i], budget)) return false;
  return true;
}

static void set_zero(Graph *g, Operand *o, int a) {
  Expr *by[CONTRACT_MAX_ITER];
  for (int k = 0; k < o->niter; k++) by[k] = k == a ? ex_int(g, DT_I64, 0) : ex_iter(g, k);
  o->e = ex_subst_iters(g, o->e, o->niter, by);
}

static void merge_axes(Graph *g, Operand *o, int *n, int *axis) {
  for (int i = 0; i < *n;) {
    int a = axis[i], drop = -1;
    if (o->ext[a] == 1 && *n > 1) {
      drop = i;
    } else if (i + 1 < *n && o->ext[a] > 0 && walks_as_one(g, o, o->e, a, axis[i + 1])) {
      drop = i;
      o->ext[axis[i + 1]] *= o->ext[a];
    }
    if (drop < 0) {
      i++;
      continue;
    }
    set_zero(g, o, a);
    o->ext[a] = 1;
    memmove(axis + i, axis + i + 1, (size_t)(*n - i - 1) * sizeof *axis);
    (*n)--;
    if (i) i--;
  }
}

static bool add_cond(Graph *g, Operand *o, Expr *c) {
  if (c->kind != EX_OP) return false;
  if (c->op == OP_AND) return add_cond(g, o, c->arg[0]) && add_cond(g, o, c->arg[1]);
  if (o->ncond == PACK_MAX_COND) return false;
  Cond *to = &o->cond[o->ncond];
  memset(to, 0, sizeof *to);
  ScalarOp is = ex_affine_cond(g, c, o->niter, to->l.coef, &to->l.c);
  if (is == OP_COUNT) return false;
  to->is = is == OP_EQ ? COND_EQ : is == OP_NE ? COND_NE : COND_GE;
  o->ncond++;
  return true;
}

static Expr *below_casts(Expr *e) { /* exact widenings of a load */
  while (e->kind == EX_OP && e->op == OP_CAST) {
    DType to = e->dtype, from = e->arg[0]->dtype;
    bool exact = to == from || (from == DT_BOOL && to != DT_BOOL) || (to == DT_I64 && dt_is_int(from)) ||
                 to == DT_F64 || (to == DT_F32 && (dt_is_float(from) ? from != DT_F64 : dt_bytes(from) <= 2));
    if (to == DT_F64 && from == DT_I64) exact = false;
    if (!exact) return e;
    e = e->arg[0];
  }
  return e;
}

void operand_make(Graph *g, const Kernel *k, Expr *e, int niter, const int64_t *extent, int np, const int *p, int nk,
                  const int *kk, Operand *out) {
  memset(out, 0, sizeof *out);
  out->k = k;
  out->e = e;
  out->niter = niter;
  memcpy(out->ext, extent, (size_t)niter * sizeof *extent);
  out->np = np;
  out->nk = nk;
  memcpy(out->p, p, (size_t)np * sizeof *p);
  memcpy(out->kk, kk, (size_t)nk * sizeof *kk);
  split_axes(g, out);
  niter = out->niter;
  int budget = 400;
  if (is_small(e, &budget)) {
    merge_axes(g, out, &out->np, out->p);
    merge_axes(g, out, &out->nk, out->kk);
  }
  Expr *load = below_casts(out->e);
  if (load->kind != EX_LOAD || load->checked) return;
  out->buf = kernel_buf(k, load->node);
  if (!out->buf || out->buf->space != SP_GLOBAL) return;
  if (!load_lin(g, k, out->buf, load, niter, &out->at, &out->row, &out->row_step)) return;
  if (load->mask && !add_cond(g, out, load->mask)) return;
  out->from = load->dtype;
  out->plain = true;
}

/* Coefficient of the flat index over axes, if they walk as one. */
static bool flat_step(const Operand *o, int n, const int *axis, int64_t *step) {
  *step = 0;
  if (n == 0) return true;
  if (n > 1) return false; /* operand_make has merged what walks as one */
  *step = o->at.coef[axis[0]];
  return true;
}

bool operand_matrix(const Operand *o, int64_t *ip, int64_t *ik) {
  return o->plain && !o->ncond && flat_step(o, o->np, o->p, ip) && flat_step(o, o->nk, o->kk, ik);
}
