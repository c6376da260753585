/* Linear algebra: `@`, einsum, and the calls of LAPACK that linalg.tg wraps. */
#include "lang/builtin.h"
#include "lang/space.h"
#include <ctype.h>
#include <string.h>

/* ---- products -------------------------------------------------------------------------------------------------- */

/* x in dtype t with its axes at the iterators it[]. */
static Expr *factor(Elab *E, Value *x, DType t, const int *it, const Dim *all, Span at) {
  Value *v = x->t.dtype == t && !x->t.weak ? x : tv_cast(E, x, t, at);
  Expr *by[TG_MAX_RANK];
  for (int a = 0; a < v->t.rank; a++)
    by[a] = v->t.dim[a].n == 1 && all[it[a]].n != 1 ? ex_int(E->g, DT_I64, 0) : ex_iter(E->g, it[a]);
  return v->t.rank ? ex_subst_iters(E->g, v->t.e, v->t.rank, by) : v->t.e;
}

/* sum over the last nred of `all` of a * b. */
static Value *product(Elab *E, Value *a, Value *b, const int *ia, const int *ib, int nout, int nred, const Dim *all,
                      Span sa, Span sb, Span at) {
  Value *two[2] = {a, b};
  Span sp[2] = {sa, sb};
  DType t = tv_join(E, 2, two, sp, false);
  if (!dt_is_float(t)) t = DT_I64;
  E->g->span = user_span(E, at);
  Expr *e = ex_op2(E->g, OP_MUL, factor(E, a, t, ia, all, sa), factor(E, b, t, ib, all, sb));
  tv_check_size(E, t, nout, all, at);
  int64_t red[2 * TG_MAX_RANK];
  for (int k = 0; k < nred; k++) red[k] = all[nout + k].n;
  if (nred == 0) return tv_seal(E, v_tensor(E, t, nout, all, e));
  return tv_reduce(E, RED_SUM, nout, all, nred, red, e, NULL, t);
}

/* The operand that stands there, transposed: in parentheses where it is more than names, calls and brackets. */
static const char *transposed(Elab *E, Span at) {
  const char *text = span_text(E, at);
  int depth = 0;
  bool bare = true;
  for (const char *c = text; *c; c++) {
    if (strchr(")]}", *c)) depth--;
    bare &= depth > 0 || isalnum((unsigned char)*c) || strchr("_.()[]{}", *c);
    if (strchr("([{", *c)) depth++;
  }
  return arena_printf(E->a, bare ? "%s.t" : "(%s).t", text);
}

static _Noreturn void fail_matmul(Elab *E, Value *a, Value *b, Span sa, Span sb, Span at, Dim ka, Dim kb, int axis_b) {
  Diag *g = diag_add(E->d, S_MISMATCH, at,
                     "`@` of %s and %s: the last axis on the left is %lld, axis %d on the right is %lld",
                     v_type_text(E, a), v_type_text(E, b), (long long)ka.n, axis_b, (long long)kb.n);
  note_clash(E, g, ka, kb);
  diag_note(E->d, g, sa, "left: %s", v_type_text(E, a));
  diag_note(E->d, g, sb, "right: %s", v_type_text(E, b));
  note_origin(E, g, ka);
  note_origin(E, g, kb);
  const TensorV *x = &a->t, *y = &b->t;
  if (y->rank >= 2 && y->dim[y->rank - 1].n == ka.n)
    diag_help(E->d, g, "transpose the right operand: %s @ %s", span_text(E, sa), transposed(E, sb));
  else if (x->rank >= 2 && x->dim[x->rank - 2].n == kb.n)
    diag_help(E->d, g, "transpose the left operand: %s @ %s", transposed(E, sa), span_text(E, sb));
  elab_fail(E, g);
}

static Value *operand(Elab *E, Value *v, Span at) {
  v = tv_harden(E, v, at);
  if (v->kind != V_TENSOR) diag_fail(E->d, T_TYPE, at, "`@` multiplies tensors, not %s", v_type_text(E, v));
  if (v->t.rank == 0) {
    Diag *g = diag_add(E->d, S_RANK, at, "`@` multiplies vectors and matrices, not scalars");
    diag_help(E->d, g, "`*` multiplies by a scalar");
    elab_fail(E, g);
  }
  return v;
}

/* NumPy's: a vector on the left is a row, on the right a column, whose axis is dropped; axes before the last two are
 * batch axes. */
Value *elab_matmul(Elab *E, Value *a, Value *b, Span sa, Span sb, Span at) {
  /* literal lists take the other side's dtype */
  if (a->kind == V_TENSOR && b->kind == V_TENSOR && (a->t.weak || b->t.weak)) {
    DType t = tv_join(E, 2, (Value *[]){a, b}, (Span[]){sa, sb}, false);
    a = tv_cast(E, a, t, sa), b = tv_cast(E, b, t, sb);
  }
  a = operand(E, a, sa), b = operand(E, b, sb);
  int ra = a->t.rank, rb = b->t.rank, nba = ra > 2 ? ra - 2 : 0, nbb = rb > 2 ? rb - 2 : 0, nb = nba > nbb ? nba : nbb;
  Dim ka = a->t.dim[ra - 1], kb = b->t.dim[rb > 1 ? rb - 2 : 0], all[TG_MAX_RANK + 3];
  if (ka.n >= 0 && kb.n >= 0 && ka.n != kb.n) fail_matmul(E, a, b, sa, sb, at, ka, kb, rb > 1 ? rb - 2 : 0);
  if (nba || nbb) {
    Value *batch[2] = {v_tensor(E, a->t.dtype, nba, a->t.dim, ex_zero(E, a->t.dtype)),
                       v_tensor(E, b->t.dtype, nbb, b->t.dim, ex_zero(E, b->t.dtype))};
    Span sp[2] = {sa, sb};
    tv_broadcast(E, 2, batch, sp, at, "@", all);
  }
  int nout = nb, ia[TG_MAX_RANK], ib[TG_MAX_RANK], m = -1, n = -1;
  if (ra > 1) m = nout, all[nout++] = a->t.dim[ra - 2];
  if (rb > 1) n = nout, all[nout++] = b->t.dim[rb - 1];
  if (nout > TG_MAX_RANK) diag_fail(E->d, S_RANK, at, "more than %d axes", TG_MAX_RANK);
  all[nout] = ka.n < 0 ? kb : ka;
  for (int k = 0; k < nba; k++) ia[k] = k + nb - nba;
  for (int k = 0; k < nbb; k++) ib[k] = k + nb - nbb;
  if (ra > 1) ia[ra - 2] = m;
  if (rb > 1) ib[rb - 1] = n;
  ia[ra - 1] = nout, ib[rb > 1 ? rb - 2 : 0] = nout;
  return product(E, a, b, ia, ib, nout, 1, all, sa, sb, at);
}

/* ---- einsum ------------------------------------------------------------------------------------------------------ */

/* The labels of one operand or of the result: letters, and axes of `...` as 128, 129, .. from the right. */
typedef struct Labels {
  int n;
  int at[TG_MAX_RANK];
  bool dots;
  int dots_at;
} Labels;

static const char *read_labels(Elab *E, const char *s, Labels *l, Span at) {
  *l = (Labels){0};
  for (; *s && *s != ',' && strncmp(s, "->", 2) != 0; s++) {
    if (*s == ' ') continue;
    if (strncmp(s, "...", 3) == 0) {
      if (l->dots) diag_fail(E->d, T_ARGS, at, "einsum: `...` stands once in an operand");
      l->dots = true, l->dots_at = l->n, s += 2;
      continue;
    }
    bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');
    if (!letter) diag_fail(E->d, T_ARGS, at, "einsum: `%c` is no label; labels are letters, as in \"ij,jk->ik\"", *s);
    if (l->n == TG_MAX_RANK) diag_fail(E->d, S_RANK, at, "einsum: more than %d labels", TG_MAX_RANK);
    l->at[l->n++] = *s;
  }
  return s;
}

static void expand_dots(Elab *E, Labels *l, int n, Span at) {
  if (!l->dots) return;
  if (l->n + n > TG_MAX_RANK) diag_fail(E->d, S_RANK, at, "einsum: more than %d axes", TG_MAX_RANK);
  memmove(l->at + l->dots_at + n, l->at + l->dots_at, sizeof *l->at * (size_t)(l->n - l->dots_at));
  for (int k = 0; k < n; k++) l->at[l->dots_at + k] = 128 + n - 1 - k;
  l->n += n;
}

static bool has_label(const Labels *l, int c) {
  for (int k = 0; k < l->n; k++)
    if (l->at[k] == c) return true;
  return false;
}

typedef struct Sizes {
  Dim dim[160];
  bool set[160];
} Sizes;

static void add_label(Labels *l, int c) {
  if (!has_label(l, c)) l->at[l->n++] = c;
}

/* Contracts x (labels lx) with y (or alone when y is NULL) to the labels `out`. */
static Value *contract(Elab *E, Value *x, const Labels *lx, Value *y, const Labels *ly, const Labels *out,
                       const Sizes *size, Span at) {
  int place[160];
  Dim dim[3 * TG_MAX_RANK];
  int n = 0;
  for (int k = 0; k < out->n; k++) place[out->at[k]] = n, dim[n++] = size->dim[out->at[k]];
  int red[2 * TG_MAX_RANK], nred = 0;
  for (int s = 0; s < 2; s++) {
    const Labels *l = s ? ly : lx;
    for (int k = 0; l && k < l->n; k++) {
      bool seen = has_label(out, l->at[k]);
      for (int j = 0; j < nred; j++) seen |= red[j] == l->at[k];
      if (!seen) red[nred++] = l->at[k], place[l->at[k]] = n, dim[n++] = size->dim[l->at[k]];
    }
  }
  if (out->n + nred > TG_MAX_RANK) diag_fail(E->d, S_RANK, at, "einsum: more than %d labels meet", TG_MAX_RANK);
  int ix[TG_MAX_RANK], iy[TG_MAX_RANK];
  for (int k = 0; k < lx->n; k++) ix[k] = place[lx->at[k]];
  for (int k = 0; ly && k < ly->n; k++) iy[k] = place[ly->at[k]];
  if (y) return product(E, x, y, ix, iy, out->n, nred, dim, at, at, at);
  DType t = x->t.dtype;
  if (nred && !dt_is_float(t)) t = DT_I64;
  Expr *e = factor(E, x, t, ix, dim, at);
  int64_t r[TG_MAX_RANK];
  for (int k = 0; k < nred; k++) r[k] = dim[out->n + k].n;
  tv_check_size(E, t, out->n, dim, at);
  if (!nred) return tv_seal(E, v_tensor(E, t, out->n, dim, e));
  return tv_reduce(E, RED_SUM, out->n, dim, nred, r, e, NULL, t);
}

static Value *b_einsum(Elab *E, const Builtin *self, Call *c, Value **b) {
  Span at = arg_span(c, b[0]);
  const char *s = v_static_str(E, b[0], at, "the labels of einsum");
  int n = b[1]->agg.n;
  if (n == 0 || n > 16) diag_fail(E->d, T_ARGS, c->span, "einsum takes 1 to 16 tensors");
  Labels l[16], out = {0};
  Value *x[16];
  int dots = 0;
  for (int k = 0; k < n; k++) {
    s = read_labels(E, s, &l[k], at);
    if (*s == ',' && k < n - 1)
      s++;
    else if (k < n - 1 || *s == ',')
      diag_fail(E->d, T_ARGS, at, "einsum: the labels are for another number of tensors than %d", n);
    x[k] = need_tensor(E, b[1]->agg.at[k], c, "an operand");
    if (l[k].dots && x[k]->t.rank - l[k].n > dots) dots = x[k]->t.rank - l[k].n;
  }
  bool arrow = strncmp(s, "->", 2) == 0;
  if (arrow) {
    s = read_labels(E, s + 2, &out, at);
    if (*s) diag_fail(E->d, T_ARGS, at, "einsum: one result after ->");
  }
  Sizes size = {0};
  for (int k = 0; k < n; k++) {
    int own = x[k]->t.rank - l[k].n;
    if (own < 0 || (own > 0 && !l[k].dots))
      diag_fail(E->d, S_RANK, arg_span(c, b[1]->agg.at[k]), "einsum: %d labels for %s", l[k].n, v_type_text(E, x[k]));
    expand_dots(E, &l[k], own, at);
    for (int a = 0; a < l[k].n; a++) {
      int q = l[k].at[a];
      Dim d = x[k]->t.dim[a];
      bool stretch = q >= 128;
      if (!size.set[q] || size.dim[q].n < 0 || (stretch && size.dim[q].n == 1))
        size.set[q] = true, size.dim[q] = d;
      else if (d.n >= 0 && d.n != size.dim[q].n && !(stretch && d.n == 1)) {
        Diag *g = q < 128 ? diag_add(E->d, S_MISMATCH, at, "einsum: `%c` is %lld and %lld", q, (long long)size.dim[q].n,
                                     (long long)d.n)
                          : diag_add(E->d, S_MISMATCH, at, "einsum: an axis of `...` is %lld and %lld",
                                     (long long)size.dim[q].n, (long long)d.n);
        note_origin(E, g, size.dim[q]);
        note_origin(E, g, d);
        elab_fail(E, g);
      }
    }
  }
  if (arrow)
    expand_dots(E, &out, dots, at);
  else { /* NumPy's implicit result: `...`, then the labels that occur once, in alphabetical order */
    for (int k = dots; k-- > 0;) add_label(&out, 128 + k);
    for (int q = 'A'; q <= 'z'; q++) {
      int count = 0;
      for (int k = 0; k < n; k++)
        for (int a = 0; a < l[k].n; a++) count += l[k].at[a] == q;
      if (count == 1) {
        if (out.n == TG_MAX_RANK) diag_fail(E->d, S_RANK, at, "einsum: more than %d axes", TG_MAX_RANK);
        add_label(&out, q);
      }
    }
  }
  for (int k = 0; k < out.n; k++) {
    if (!size.set[out.at[k]]) diag_fail(E->d, T_ARGS, at, "einsum: `%c` of the result is in no operand", out.at[k]);
    for (int j = 0; j < k; j++)
      if (out.at[j] == out.at[k]) diag_fail(E->d, T_ARGS, at, "einsum: `%c` is twice in the result", out.at[k]);
  }
  if (n == 1) return contract(E, x[0], &l[0], NULL, NULL, &out, &size, c->span);
  for (int k = 1; k < n; k++) { /* left to right; a label is summed as soon as nothing later needs it */
    Labels keep = {0};
    if (k == n - 1)
      keep = out;
    else
      for (int side = 0; side < 2; side++) {
        const Labels *from = side ? &l[k] : &l[0];
        for (int a = 0; a < from->n; a++) {
          bool needed = has_label(&out, from->at[a]);
          for (int j = k + 1; j < n; j++) needed |= has_label(&l[j], from->at[a]);
          if (needed && keep.n == TG_MAX_RANK)
            diag_fail(E->d, S_RANK, at, "einsum: more than %d labels meet", TG_MAX_RANK);
          if (needed) add_label(&keep, from->at[a]);
        }
      }
    x[0] = contract(E, x[0], &l[0], x[k], &l[k], &keep, &size, c->span);
    l[0] = keep;
  }
  return x[0];
}

/* ---- LAPACK ------------------------------------------------------------------------------------------------------ */

typedef enum { LA_SOLVE, LA_INV, LA_DET, LA_SLOGDET, LA_CHOLESKY, LA_QR, LA_SVD, LA_EIGH, LA_LSTSQ } Lapack;

static Value *la_operand(Elab *E, Value *v, Call *c, int least) {
  Value *x = need_tensor(E, v, c, "its argument");
  Span at = arg_span(c, v);
  if (!dt_is_float(x->t.dtype)) x = tv_cast(E, x, DT_F32, at);
  if (dt_bytes(x->t.dtype) < 4) {
    Diag *g = diag_add(E->d, T_DTYPE, at, "%s works on f32 and f64, not %s", c->fname, v_type_text(E, x));
    diag_help(E->d, g, "f32(...) converts");
    elab_fail(E, g);
  }
  if (x->t.rank < least)
    diag_fail(E->d, S_RANK, at, "%s takes %s, not %s", c->fname, least == 2 ? "matrices" : "vectors or matrices",
              v_type_text(E, x));
  return x;
}

static Value *with_batch(Elab *E, Value *x, int own, int nbatch, const Dim *batch) {
  int have = x->t.rank - own;
  Dim dim[TG_MAX_RANK];
  for (int k = have; k < nbatch; k++) x = view_expand(E, x, 0, batch[nbatch - 1 - k]);
  memcpy(dim, x->t.dim, sizeof *dim * (size_t)x->t.rank);
  Expr *by[TG_MAX_RANK];
  for (int a = 0; a < x->t.rank; a++) {
    by[a] = ex_iter(E->g, a);
    if (a < nbatch && dim[a].n == 1) dim[a] = batch[a], by[a] = ex_int(E->g, DT_I64, 0);
  }
  return v_tensor(E, x->t.dtype, x->t.rank, dim, ex_subst_iters(E->g, x->t.e, x->t.rank, by));
}

static Value *b_lapack(Elab *E, const Builtin *self, Call *c, Value **b) {
  static const char *const name[] = {"solve", "inv", "det", "slogdet", "cholesky", "qr", "svd", "eigh", "lstsq"};
  Lapack op = (Lapack)self->data;
  bool two = op == LA_SOLVE || op == LA_LSTSQ, square = op != LA_QR && op != LA_SVD && op != LA_LSTSQ;
  Value *arg[2] = {la_operand(E, b[0], c, 2), NULL};
  int nb = arg[0]->t.rank - 2, own_b = 0;
  Dim batch[TG_MAX_RANK], m = arg[0]->t.dim[nb], n = arg[0]->t.dim[nb + 1];
  memcpy(batch, arg[0]->t.dim, sizeof *batch * (size_t)nb);
  if (square && m.n >= 0 && n.n >= 0 && m.n != n.n) {
    Diag *g = diag_add(E->d, S_MISMATCH, c->span, "%s takes square matrices, not %s", c->fname, v_type_text(E, arg[0]));
    note_origin(E, g, m);
    note_origin(E, g, n);
    elab_fail(E, g);
  }
  if (two) {
    arg[1] = la_operand(E, b[1], c, 1);
    Value *both[2] = {arg[0], arg[1]};
    Span sp[2] = {arg_span(c, b[0]), arg_span(c, b[1])};
    DType t = tv_join(E, 2, both, sp, true);
    for (int k = 0; k < 2; k++) arg[k] = arg[k]->t.dtype == t ? arg[k] : tv_cast(E, arg[k], t, sp[k]);
    own_b = arg[1]->t.rank == 1 || arg[1]->t.rank == arg[0]->t.rank - 1 ? 1 : 2;
    int nbb = arg[1]->t.rank - own_b;
    Dim rows = arg[1]->t.dim[nbb];
    if (rows.n >= 0 && m.n >= 0 && rows.n != m.n) {
      Diag *g = diag_add(E->d, S_MISMATCH, c->span, "%s of %s and %s: %lld rows on the left, %lld on the right",
                         c->fname, v_type_text(E, arg[0]), v_type_text(E, arg[1]), (long long)m.n, (long long)rows.n);
      note_origin(E, g, m);
      note_origin(E, g, rows);
      elab_fail(E, g);
    }
    Value *lead[2] = {v_tensor(E, t, nb, arg[0]->t.dim, ex_zero(E, t)),
                      v_tensor(E, t, nbb, arg[1]->t.dim, ex_zero(E, t))};
    nb = tv_broadcast(E, 2, lead, sp, c->span, c->fname, batch);
    arg[0] = with_batch(E, arg[0], 2, nb, batch), arg[1] = with_batch(E, arg[1], own_b, nb, batch);
  }
  Dim k = m.n <= n.n ? m : n, dim[3][TG_MAX_RANK];
  int rank[3] = {nb, nb, nb}, nres = 1;
  for (int r = 0; r < 3; r++) memcpy(dim[r], batch, sizeof *batch * (size_t)nb);
#define AXIS(r, d) dim[r][rank[r]++] = (d)
  switch (op) {
  case LA_SOLVE:
  case LA_LSTSQ:
    AXIS(0, n);
    if (own_b == 2) AXIS(0, arg[1]->t.dim[nb + 1]);
    break;
  case LA_INV:
  case LA_CHOLESKY:
    AXIS(0, n);
    AXIS(0, n);
    break;
  case LA_DET:
    break;
  case LA_SLOGDET:
    nres = 2;
    break;
  case LA_QR:
    nres = 2;
    AXIS(0, m);
    AXIS(0, k);
    AXIS(1, k);
    AXIS(1, n);
    break;
  case LA_SVD:
    nres = 3;
    AXIS(0, m);
    AXIS(0, k);
    AXIS(1, k);
    AXIS(2, k);
    AXIS(2, n);
    break;
  case LA_EIGH:
    nres = 2;
    AXIS(0, n);
    AXIS(1, n);
    AXIS(1, n);
    break;
  }
#undef AXIS
  DType t = arg[0]->t.dtype, dt[3] = {t, t, t};
  return call_native(E, name[op], 0, NULL, two ? 2 : 1, arg, nres, dt, rank, (const Dim(*)[TG_MAX_RANK])dim, c->span);
}

const Builtin builtins_linalg[] = {
    {"einsum", "labels, *xs", b_einsum,
     "einsum(\"ij,jk->ik\", a, b): products summed over the labels that the result does not have", 0},
    {"lapack_solve", "a, b", b_lapack, "the x of a @ x = b", LA_SOLVE},
    {"lapack_inv", "a", b_lapack, "the inverse of a", LA_INV},
    {"lapack_det", "a", b_lapack, "the determinant of a", LA_DET},
    {"lapack_slogdet", "a", b_lapack, "sign and logarithm of the absolute value of the determinant", LA_SLOGDET},
    {"lapack_cholesky", "a", b_lapack, "the lower triangular l with l @ l.t = a", LA_CHOLESKY},
    {"lapack_qr", "a", b_lapack, "q, r with q @ r = a", LA_QR},
    {"lapack_svd", "a", b_lapack, "u, s, vh with (u * s) @ vh = a", LA_SVD},
    {"lapack_eigh", "a", b_lapack, "eigenvalues, ascending, and eigenvectors (columns) of a symmetric a", LA_EIGH},
    {"lapack_lstsq", "a, b", b_lapack, "the x of least |a @ x - b|", LA_LSTSQ},
    {0}};
