/* Scheduling of kernels (sched.h). */
#include "codegen/cpu/sched.h"
#include "codegen/cpu/vmath.h"
#include <string.h>

typedef struct Access {
  int buf;
  bool store;
  Addr a;
  uint64_t atoms, rough;
} Access; /* atoms: iterators inside the data parts; rough: those along which lanes need a gather */
typedef struct Use {
  uint64_t value;
  double ops;
  int nacc;
  Access *acc;
} Use; /* of a stage; value: iterators used as numbers */
typedef struct Find {
  const Kernel *k;
  Em fake;            /* extents only */
  NumMap seen, below; /* visited; index into mask of the iterators below */
  VEC(uint64_t) mask;
  uint64_t value;
  double ops;
  VEC(Access) acc;
  int64_t **stride;
  Arena *arena;
} Find;

static uint64_t bit(int k) { return (uint64_t)1 << k; }

static double weight(const Expr *e) {
  DType t = (DType)(e->n ? e->arg[0]->dtype : e->dtype);
  double wide = t == DT_F64 || t == DT_I64 ? 2 : 1;
  if (vm_has((ScalarOp)e->op) && !(e->op == OP_POW && e->arg[1]->kind == EX_CONST))
    return wide * (e->op == OP_SIN || e->op == OP_COS || e->op == OP_TAN ? 40 : e->op == OP_POW ? 90 : 22);
  switch (e->op) {
  case OP_DIV:
  case OP_SQRT:
    return 6 * wide;
  case OP_FLOORDIV:
  case OP_MOD:
    return e->arg[1]->kind == EX_CONST ? 6 * wide : 30 * wide;
  case OP_PHILOX:
    return 120;
  default:
    return wide;
  }
}

/* Iterators anywhere below e. */
static uint64_t below(Find *f, Expr *e) {
  if (e->kind == EX_ITER) return bit((int)e->num.i);
  int at = nummap_get(&f->below, e);
  if (at >= 0) return f->mask.at[at];
  uint64_t m = e->kind == EX_LOAD && e->mask ? below(f, e->mask) : 0;
  for (int i = 0; i < e->n; i++) m |= below(f, e->arg[i]);
  nummap_put(&f->below, e, f->mask.n);
  vec_push(f->arena, &f->mask, m);
  return m;
}
static void find(Find *f, Expr *e);
static void find_load(Find *f, Expr *e) {
  const KBuf *b = kernel_buf(f->k, e->node);
  if (!b) bug("schedule: node %u has no buffer", e->node->id);
  int buf = (int)(b - f->k->buf);
  if (e->mask) find(f, e->mask);
  if (b->space == SP_REG) return;
  Access x = {.buf = buf};
  em_addr_init(&x.a);
  for (int d = 0; d < e->n; d++) {
    if (b->par && b->par[d] >= 0) continue;
    Expr *i = e->arg[d];
    em_addr_add(&f->fake, &x.a, i, f->stride[buf][d], e->checked ? b->dim[d] : -1);
    if (e->checked || i->kind == EX_LOAD || i->kind == EX_OP)
      find(f, i);
    else if (i->kind == EX_LIN)
      for (int n = 0; n < i->n; n++)
        if (i->arg[n]->kind != EX_ITER) find(f, i->arg[n]);
  }
  for (int i = 0; i < x.a.natom; i++) {
    uint64_t m = below(f, x.a.atom[i].e);
    x.atoms |= m;
    for (int k = 0; k < EM_ITERS; k++)
      if ((m & bit(k)) && !em_digit_form(x.a.atom[i].e, k)) x.rough |= bit(k);
  }
  vec_push(f->arena, &f->acc, x);
}
/* Visits each expression once; the iterators of loads' affine subscripts are not values. */
static void find(Find *f, Expr *e) {
  if (e->kind == EX_ITER) {
    f->value |= bit((int)e->num.i);
    return;
  }
  if (nummap_get(&f->seen, e) >= 0) return;
  nummap_put(&f->seen, e, 1);
  if (e->kind == EX_LOAD) {
    find_load(f, e);
    return;
  }
  for (int i = 0; i < e->n; i++) find(f, e->arg[i]);
  if (e->kind == EX_OP) f->ops += weight(e);
  if (e->kind == EX_LIN) f->ops += 1;
}

static Use stage_use(const Kernel *k, const Stage *s, int64_t **stride, Arena *a) {
  Find f = {.k = k, .seen = {.arena = a}, .below = {.arena = a}, .stride = stride, .arena = a};
  Use u = {0};
  for (int i = 0; i < k->npar; i++) f.fake.it[i].extent = k->par[i];
  for (int i = 0; i < s->nown + s->nred; i++) f.fake.it[k->npar + i].extent = s->extent[i];
  find(&f, s->body);
  if (s->guard) find(&f, s->guard);
  const KBuf *b = &k->buf[s->out];
  if (s->kind != ST_SCATTER && b->space != SP_REG) {
    Access x = {.buf = s->out, .store = true};
    em_addr_init(&x.a);
    for (int d = 0; d < b->rank; d++)
      if (s->store[d] >= 0 && !(b->par && b->par[d] >= 0)) x.a.coef[s->store[d]] += stride[s->out][d];
    vec_push(a, &f.acc, x);
  }
  u.value = f.value;
  u.ops = f.ops + 0.5;
  u.nacc = f.acc.n;
  u.acc = f.acc.at;
  return u;
}

/* ---- axes -------------------------------------------------------------------------------------------------------- */
/* Drops axes of extent 1 and merges neighbours (iterators first .. first + n) that all accesses of the stages walk as
 * one. */
static int merge_axes(const Use *u, int nuse, int first, int n, const int64_t *extent, bool merge, Axis *out,
                      uint64_t *zero) {
  int m = 0;
  for (int i = 0; i < n; i++) {
    int b = first + i;
    if (extent[i] == 1) {
      *zero |= bit(b);
      continue;
    }
    bool join = merge && m > 0;
    int a = join ? out[m - 1].iter : 0;
    for (int s = 0; join && s < nuse; s++) {
      if (u[s].value & (bit(a) | bit(b))) join = false;
      for (int j = 0; join && j < u[s].nacc; j++)
        join = u[s].acc[j].a.coef[a] == u[s].acc[j].a.coef[b] * extent[i] && !(u[s].acc[j].atoms & (bit(a) | bit(b)));
    }
    if (join) {
      *zero |= bit(a);
      out[m - 1] = (Axis){b, out[m - 1].n * extent[i]};
    } else {
      out[m++] = (Axis){b, extent[i]};
    }
  }
  return m;
}

bool sched_ordered(const Stage *s) {
  return (s->kind == ST_REDUCE || s->kind == ST_CONTRACT) && dt_is_float((DType)s->body->dtype) &&
         (s->op == RED_SUM || s->op == RED_PROD || s->op == RED_MAX || s->op == RED_MIN);
}

/* ---- groups ------------------------------------------------------------------------------------------------------ */
static bool is_reduce(const Stage *s) { return s->kind == ST_REDUCE || s->kind == ST_CONTRACT; }

typedef struct Fits {
  const Kernel *k;
  const Stage *by;
  int first;
  bool ok;
} Fits;
static void fits_load(void *ctx, Expr *e) {
  Fits *f = ctx;
  if (e->kind != EX_LOAD) return;
  for (int s = f->first; &f->k->stage[s] < f->by; s++) {
    const Stage *p = &f->k->stage[s];
    if (f->k->buf[p->out].node != e->node) continue;
    if (is_reduce(p) || e->checked) f->ok = false;
    for (int d = 0; f->ok && d < e->n; d++) {
      int it = p->store[d];
      f->ok = it < 0 ? e->arg[d]->kind == EX_CONST && e->arg[d]->num.i == 0
                     : e->arg[d]->kind == EX_ITER && e->arg[d]->num.i == it;
    }
  }
}
/* Can stage j join the loop of the group that starts at `first`? *red: a reduction of the group, so far. */
static bool joins(const Kernel *k, int first, int j, const Stage **red) {
  const Stage *a = &k->stage[first], *s = &k->stage[j];
  if (s->kind == ST_SCAN || s->kind == ST_SCATTER || a->kind == ST_SCAN || a->kind == ST_SCATTER) return false;
  int n = a->nown + a->nred;
  if (n == 0 || s->nown + s->nred != n) return false;
  if ((is_reduce(a) && a->nown) || (is_reduce(s) && s->nown)) return false;
  for (int i = 0; i < n; i++)
    if (s->extent[i] != a->extent[i]) return false;
  if (is_reduce(s) && *red && (s->order != (*red)->order || s->chunk != (*red)->chunk)) return false;
  Fits f = {k, s, first, true};
  ex_visit(s->body, fits_load, &f);
  if (s->guard) ex_visit(s->guard, fits_load, &f);
  if (!f.ok) return false;
  if (is_reduce(s)) *red = s;
  return true;
}

static double lanes_of(int64_t n, int width) { return n <= 0 ? 1 : (double)n / (double)((n + width - 1) / width); }
/* Cost of one execution of the stage's innermost body when iterator v runs along the lanes (-1: scalar code). loop:
 * bits of the iterators of the loops inside (or beside) it, along which blocks can be transposed; n: their extents. */
static double body_cost(const Use *u, int v, uint64_t loop, int64_t n, bool reduces) {
  double c = v < 0 ? u->ops * 0.7 : u->ops;
  for (int i = 0; i < u->nacc; i++) {
    const Access *x = &u->acc[i];
    if (x->store && reduces) continue; /* once, after the loop */
    int64_t step = v < 0 ? 0 : x->a.coef[v];
    bool irregular = v >= 0 && (x->rough & bit(v)), digits = v >= 0 && (x->atoms & bit(v)), tiled = false;
    for (int k = 0; k < EM_ITERS && !tiled; k++)
      tiled = (loop & bit(k)) && em_tiles(step, x->a.coef[k], n, x->store) && !x->a.natom;
    c += irregular                             ? 24
         : digits                              ? 3
         : step == 0                           ? (x->store && v >= 0 ? 16 : 0.6)
         : step == 1                           ? 1
         : step == -1                          ? 2
         : tiled                               ? 6
         : step >= 2 && step <= 8 && !x->store ? (double)step + 1
                                               : 24;
  }
  return c;
}
static double prod_axes(const Axis *a, int n) {
  double p = 1;
  for (int i = 0; i < n; i++) p *= (double)a[i].n;
  return p;
}
/* Vector operations a point (VEC_POINT: a vector of points). own_lanes: a reduction whose order is free runs its lanes
 * along the last own axis. */
static double cost_with(const Kernel *k, const Use *u, SGroup *g, int vp_iter, uint64_t beside, int width,
                        bool own_lanes) {
  double own = prod_axes(g->own, g->nown), red = prod_axes(g->red, g->nred), lanes = 1, extra = 0;
  int v = vp_iter;
  g->vec = VEC_POINT;
  const Stage *last = &k->stage[g->first + g->n - 1];
  bool chain = false;
  for (int i = 0; i < g->n; i++) chain = chain || (sched_ordered(last - i) && last[-i].order == ORD_CHAIN);
  if (vp_iter < 0) {
    g->vec = VEC_NONE;
    if (last->kind == ST_SCAN) {
      extra = 3;
    } else if (g->reduces && !chain && !own_lanes) {
      if (g->nred) g->vec = VEC_INNER, v = g->red[g->nred - 1].iter, lanes = lanes_of(g->red[g->nred - 1].n, width);
    } else if (g->nown) {
      g->vec = VEC_OWN, v = g->own[g->nown - 1].iter, lanes = lanes_of(g->own[g->nown - 1].n, width);
    }
  } else if (g->reduces && !chain) {
    extra = 4;
  }
  double c = extra;
  uint64_t loop = vp_iter < 0 ? 0 : beside;
  int64_t n = 16;
  const Axis *in = g->nred ? &g->red[g->nred - 1] : g->nown ? &g->own[g->nown - 1] : NULL;
  if (vp_iter >= 0 && in) loop = bit(in->iter), n = in->n;
  for (int i = 0; i < g->n; i++) c += body_cost(&u[g->first + i], v, loop, n, is_reduce(&k->stage[g->first + i]));
  if (chain && c < 8) c = 8;
  if (!g->reduces) return own / lanes * c + 4;
  double after = 4; /* per own point: joining accumulators, storing */
  if (vp_iter >= 0) after += chain ? 0 : 200;
  for (int i = 0; i < g->n && vp_iter >= 0; i++)
    for (int j = 0; j < u[g->first + i].nacc; j++) {
      const Access *x = &u[g->first + i].acc[j];
      if (x->store && x->a.coef[vp_iter] != 1) after += 24;
    }
  if (g->vec == VEC_INNER) after += 30;
  return g->vec == VEC_OWN ? own / lanes * (red * c + after) : own * (red / lanes * c + after);
}
static double group_cost(const Kernel *k, const Use *u, SGroup *g, int vp_iter, uint64_t beside, int width) {
  double c = cost_with(k, u, g, vp_iter, beside, width, false);
  bool free = g->reduces && g->nown && vp_iter < 0;
  for (int i = 0; i < g->n; i++) free = free && !sched_ordered(&k->stage[g->first + i]);
  if (!free) return c;
  VecPlace vec = g->vec;
  double other = cost_with(k, u, g, vp_iter, beside, width, true);
  if (other < c) return other;
  g->vec = vec;
  return c;
}

/* P axes beside vp along which a kernel without loops of its own may transpose. */
static uint64_t beside(const Kernel *k, const Sched *s, int vp) {
  uint64_t m = 0;
  for (int i = 0; i < k->nstage; i++)
    if (k->stage[i].nown + k->stage[i].nred) return 0;
  for (int i = 0; i < s->naxis; i++)
    if (i != vp && s->axis[i].n >= 4) m |= bit(s->axis[i].iter);
  return m;
}
static double kernel_cost(const Kernel *k, const Use *u, Sched *s, int vp, int width) {
  double c = 0, points = prod_axes(s->axis, s->naxis);
  uint64_t m = vp < 0 ? 0 : beside(k, s, vp);
  for (int i = 0; i < s->ngroup; i++) c += group_cost(k, u, &s->group[i], vp < 0 ? -1 : s->axis[vp].iter, m, width);
  return vp < 0 ? c * points : c * points / lanes_of(s->axis[vp].n, width);
}
static int tile_axis(const Kernel *k, const Use *u, const Sched *s) {
  uint64_t m = beside(k, s, s->vp);
  for (int a = 0; a < s->naxis; a++) {
    if (!(m & bit(s->axis[a].iter))) continue;
    for (int i = 0; i < k->nstage; i++)
      for (int j = 0; j < u[i].nacc; j++) {
        const Access *x = &u[i].acc[j];
        if (!x->a.natom && em_tiles(x->a.coef[s->axis[s->vp].iter], x->a.coef[s->axis[a].iter], s->axis[a].n, x->store))
          return a;
      }
  }
  return -1;
}
/* Rows outside, points inside: a plain chain whose operands lie along the points. */
static bool is_column(const Kernel *k, const Use *u, const Sched *s) {
  const SGroup *g = &s->group[0];
  if (s->vp < 0 || !g->reduces || g->n != 1 || g->nown) return false;
  const Stage *st = &k->stage[0];
  if (st->order != ORD_CHAIN || st->op == RED_ARGMAX || st->op == RED_ARGMIN || st->body->dtype == DT_BOOL)
    return false;
  if (prod_axes(g->red, g->nred) < 16 || s->axis[s->vp].n < 64) return false;
  bool contiguous = false;
  for (int j = 0; j < u[0].nacc; j++) {
    const Access *x = &u[0].acc[j];
    if (x->store) continue;
    int64_t step = x->a.coef[s->axis[s->vp].iter];
    if (step != 0 && step != 1) return false;
    if (x->atoms & bit(s->axis[s->vp].iter)) return false;
    contiguous = contiguous || step == 1;
  }
  return contiguous && u[0].ops < 12;
}

static void make_groups(const Kernel *k, const Use *u, Arena *a, Sched *s) {
  s->group = arena_array(a, SGroup, k->nstage);
  for (int i = 0; i < k->nstage; s->ngroup++) {
    SGroup *g = &s->group[s->ngroup];
    const Stage *first = &k->stage[i], *red = is_reduce(first) ? first : NULL;
    int j = i + 1;
    while (j < k->nstage && j - i < MAX_RED && joins(k, i, j, &red)) j++;
    bool reduces = red != NULL;
    *g = (SGroup){.first = i, .n = j - i, .reduces = reduces};
    /* the shared loop of maps and reductions is the reductions' */
    int nown = reduces && first->kind == ST_MAP ? 0 : first->nown, n = first->nown + first->nred;
    bool scan = first->kind == ST_SCAN || first->kind == ST_SCATTER;
    g->nown = merge_axes(u + i, j - i, k->npar, nown, first->extent, !scan, g->own, &g->zero);
    if (scan && nown && (g->zero & bit(k->npar + nown - 1))) { /* the running axis stays, even of extent 1 */
      g->zero &= ~bit(k->npar + nown - 1);
      g->own[g->nown++] = (Axis){k->npar + nown - 1, first->extent[nown - 1]};
    }
    bool lanes = reduces && red->order == ORD_LANES;
    if (lanes) { /* rows may not merge with the inner axis */
      int inner = n - nown - 1;
      g->nred = merge_axes(u + i, j - i, k->npar + nown, inner, first->extent + nown, true, g->red, &g->zero);
      g->red[g->nred++] = (Axis){k->npar + nown + inner, first->extent[n - 1]};
    } else {
      g->nred = merge_axes(u + i, j - i, k->npar + nown, n - nown, first->extent + nown, true, g->red, &g->zero);
    }
    i = j;
  }
}

static size_t align64(size_t n) { return (n + 63) & ~(size_t)63; }

static void place_rows(const Kernel *k, Arena *a, Sched *s) {
  s->stride = arena_array(a, int64_t *, k->nbuf);
  for (int i = 0; i < k->nbuf; i++) {
    const KBuf *b = &k->buf[i];
    s->stride[i] = arena_array(a, int64_t, b->rank);
    int64_t n = 1;
    for (int d = b->rank; d-- > 0;) {
      if (b->space == SP_GLOBAL)
        s->stride[i][d] = b->stride[d];
      else if (b->par[d] < 0)
        s->stride[i][d] = n, n *= b->dim[d];
    }
  }
}
/* Elements of a buffer, or of what a point has of one. */
static int64_t elems(const KBuf *b) {
  int64_t n = 1;
  for (int d = 0; d < b->rank; d++)
    if (!b->par || b->par[d] < 0) n *= b->dim[d];
  return n;
}

/* What fills more than half of the second cache comes from beyond it, which takes longer than a light kernel computes.
 * A buffer of which only a part is loaded counts as often as it is loaded. */
static double stream_ns(const Kernel *k, const Use *u, const Isa *isa, double points) {
  const double ns_per_byte = 0.04;
  double bytes = 0;
  for (int i = 0; i < k->nbuf; i++) {
    const KBuf *b = &k->buf[i];
    double all = (double)elems(b), loads = 0;
    for (int j = 0; j < k->nstage; j++) {
      double times = points;
      for (int d = 0; d < k->stage[j].nown + k->stage[j].nred; d++) times *= (double)k->stage[j].extent[d];
      for (int l = 0; l < u[j].nacc; l++) loads += u[j].acc[l].buf == i ? times : 0;
    }
    if (b->space == SP_GLOBAL) bytes += (loads < all ? loads : all) * dt_bytes((DType)b->dtype);
  }
  return bytes > (double)isa->l2 / 2 ? bytes * ns_per_byte : 0;
}

void sched_kernel(const Kernel *k, const Isa *isa, Arena *a, int width, Sched *s) {
  memset(s, 0, sizeof *s);
  place_rows(k, a, s);
  Use *u = arena_array(a, Use, k->nstage);
  for (int i = 0; i < k->nstage; i++) u[i] = stage_use(k, &k->stage[i], s->stride, a);
  s->naxis = merge_axes(u, k->nstage, 0, k->npar, k->par, true, s->axis, &s->zero);
  make_groups(k, u, a, s);
  double row_bytes = 0;
  for (int i = 0; i < k->nbuf; i++)
    if (k->buf[i].space == SP_ROW) row_bytes += (double)elems(&k->buf[i]) * dt_bytes((DType)k->buf[i].dtype);
  s->vp = -1;
  double best = kernel_cost(k, u, s, -1, width);
  for (int v = s->naxis - 1; v >= 0; v--) {
    double c = kernel_cost(k, u, s, v, width);
    if (row_bytes * width > 200e3) c *= 3;
    if (c < best) best = c, s->vp = v;
  }
  kernel_cost(k, u, s, s->vp, width); /* sets the groups' vec */

  const double ns = 0.22;
  double points = prod_axes(s->axis, s->naxis), per_point = best * ns / (points > 1 ? points : 1);
  s->tile = -1;
  s->chunk = s->nchunk = s->ntile = s->tile_block = 1;
  s->units = (int64_t)points;
  if (s->vp >= 0) {
    int64_t n = s->axis[s->vp].n, chunk = 64;
    s->tile = tile_axis(k, u, s);
    s->column = is_column(k, u, s);
    int64_t outer = n ? (int64_t)(points / (double)n) : 0;
    if (s->tile >= 0) {
      int64_t nt = s->axis[s->tile].n;
      s->tile_block = nt < 384 ? nt : 256;
      s->ntile = nt ? (nt + s->tile_block - 1) / s->tile_block : 0;
      outer = nt ? outer / nt * s->ntile : 0;
      per_point *= (double)s->tile_block;
    }
    while (chunk < n && (double)chunk * per_point < 8000) chunk *= 2;
    if (s->column) chunk = n >= 4096 ? 512 : n >= 1024 ? 256 : 64;
    if (chunk + chunk / 2 >= n) chunk = n;
    s->chunk = chunk;
    s->nchunk = n ? (n + chunk - 1) / chunk : 0;
    s->units = outer * s->nchunk;
  }
  double least = stream_ns(k, u, isa, points), all = best * ns;
  if (all < least) all = least;
  s->cost = s->units ? all / (double)s->units : 0;

  /* lane scratch */
  int lanes = s->vp >= 0 ? width : 1;
  s->row_off = arena_array(a, size_t, k->nbuf);
  s->part_off = arena_array(a, size_t, k->nstage);
  size_t at = 0;
  for (int i = 0; i < k->nbuf; i++) {
    const KBuf *b = &k->buf[i];
    if (b->space != SP_ROW) continue;
    s->row_off[i] = at;
    at += align64((size_t)elems(b) * (size_t)dt_bytes((DType)b->dtype) * (size_t)lanes);
  }
  for (int i = 0; i < s->ngroup; i++) {
    SGroup *g = &s->group[i];
    if (!g->reduces) continue;
    for (int j = 0; j < g->n; j++) {
      const Stage *st = &k->stage[g->first + j];
      if (!is_reduce(st)) continue;
      int64_t parts = stage_chunks(st);
      int64_t wide = i == 0 && s->column ? (s->chunk + width - 1) / width * width : width; /* values side by side */
      s->part_off[g->first + j] = at;
      if (i == 0 && g->n == 1 && g->nown == 0 && parts > 1 && s->units < 32 && s->cost * (double)s->units > 30e3) {
        s->split = true;
        s->nparts = parts;
        int64_t all = s->vp >= 0 ? (s->chunk + width - 1) / width * width : 1;
        s->part_bytes = align64((size_t)(parts * all * 8)) * 2;
        s->shared_bytes = s->part_bytes * (size_t)s->units;
        s->cost0 = s->cost / (double)parts;
        s->cost = 20 + 0.3 * (double)(parts * all) + s->cost * 0.01;
      } else if (parts > 1 || (i == 0 && s->column)) {
        at += align64((size_t)(parts * 8 * wide)) * 2;
      }
    }
  }
  s->lane_bytes = at;
}
