/* Expressions to LLVM values: memoised, each at the outermost level that knows its parts; loads and stores with their
 * addresses, masks and checks (emit.h). */
#include "codegen/cpu/emit.h"
#include <stdlib.h>
#include <string.h>

#define B E->b

/* ---- values ------------------------------------------------------------------------------------------------------ */
bool em_live(const Em *E, const Val *x) { return x->level <= E->depth && E->level[x->level].gen == x->gen; }
Val em_val(Em *E, LLVMValueRef x, bool vec, int level) {
  return (Val){vec ? NULL : x, vec ? x : NULL, level, E->level[level].gen};
}
LLVMValueRef em_vec(Em *E, Val *x) {
  if (!x->v) {
    em_at(E, x->level);
    x->v = em_splat(E, x->s);
  }
  return x->v;
}
LLVMValueRef em_as(Em *E, Val *x, bool vec) {
  if (!vec && !x->s) bug("emit: a vector where a scalar was expected");
  return vec ? em_vec(E, x) : x->s;
}
static int max2(int a, int b) { return a > b ? a : b; }

/* ---- ranges and addresses ---------------------------------------------------------------------------------------- */
bool em_range(const Em *E, Expr *e, int64_t *lo, int64_t *hi) {
  const int64_t big = (int64_t)1 << 60;
  switch (e->kind) {
  case EX_CONST:
    *lo = *hi = e->num.i;
    return !dt_is_float((DType)e->dtype);
  case EX_ITER:
    *lo = 0, *hi = E->it[e->num.i].extent - 1;
    return *hi >= 0;
  case EX_LIN:
    *lo = *hi = e->num.i;
    for (int i = 0; i < e->n; i++) {
      int64_t a, b, x, y;
      if (!em_range(E, e->arg[i], &a, &b) || __builtin_mul_overflow(a, e->coef[i], &x) ||
          __builtin_mul_overflow(b, e->coef[i], &y) || __builtin_add_overflow(*lo, x < y ? x : y, lo) ||
          __builtin_add_overflow(*hi, x < y ? y : x, hi))
        return false;
    }
    return *lo > -big && *hi < big;
  case EX_OP:
    if ((e->op == OP_FLOORDIV || e->op == OP_MOD) && e->arg[1]->kind == EX_CONST && e->arg[1]->num.i > 0 &&
        !dt_is_float((DType)e->dtype)) {
      int64_t c = e->arg[1]->num.i;
      if (!em_range(E, e->arg[0], lo, hi)) {
        *lo = 0, *hi = c - 1;
        return e->op == OP_MOD;
      }
      if (e->op == OP_FLOORDIV)
        *lo = *lo >= 0 ? *lo / c : -((-*lo + c - 1) / c), *hi = *hi >= 0 ? *hi / c : -((-*hi + c - 1) / c);
      else if (*lo < 0 || *hi >= c)
        *lo = 0, *hi = c - 1;
      return true;
    }
    return false;
  default:
    return false;
  }
}

void em_addr_init(Addr *a) {
  a->c = 0;
  a->natom = 0;
  for (int i = 0; i < EM_ITERS; i++) a->coef[i] = 0;
}
static void add_atom(Addr *a, int64_t coef, Expr *e, int64_t size) {
  if (a->natom == EM_TERMS) bug("emit: an address of more than %d parts", EM_TERMS);
  a->atom[a->natom++] = (Atom){coef, e, size};
}
void em_addr_add(const Em *E, Addr *a, Expr *idx, int64_t stride, int64_t size) {
  int64_t lo, hi;
  if (size >= 0 && !(em_range(E, idx, &lo, &hi) && lo >= 0 && hi < size)) {
    add_atom(a, stride, idx, size);
    return;
  }
  switch (idx->kind) {
  case EX_CONST:
    a->c += stride * idx->num.i;
    break;
  case EX_ITER:
    a->coef[idx->num.i] += stride;
    break;
  case EX_LIN:
    if (a->natom + idx->n > EM_TERMS - 16) { /* room for the other dims: the rest is computed as a number */
      add_atom(a, stride, idx, -1);
      break;
    }
    a->c += stride * idx->num.i;
    for (int i = 0; i < idx->n; i++) {
      if (idx->arg[i]->kind == EX_ITER)
        a->coef[idx->arg[i]->num.i] += stride * idx->coef[i];
      else
        add_atom(a, stride * idx->coef[i], idx->arg[i], -1);
    }
    break;
  default:
    add_atom(a, stride, idx, -1);
  }
}

typedef struct Term {
  LLVMValueRef x;
  int64_t coef;
  int level;
} Term;
static int by_level(const void *a, const void *b) { return ((const Term *)a)->level - ((const Term *)b)->level; }

/* c + sum of coef * x over uniform terms, each partial sum at its level. Stable within a level. */
static Val sum_terms(Em *E, int n, Term *t, int64_t c) {
  qsort(t, (size_t)n, sizeof *t, by_level);
  LLVMValueRef s = NULL;
  int level = 0;
  for (int i = 0; i < n; i++) {
    level = max2(level, t[i].level);
    em_at(E, level);
    LLVMValueRef x = t[i].coef == 1 ? t[i].x : LLVMBuildMul(B, t[i].x, em_int(E, t[i].coef), "");
    s = s ? LLVMBuildAdd(B, s, x, "") : x;
  }
  em_at(E, level);
  if (!s)
    s = em_int(E, c);
  else if (c)
    s = LLVMBuildAdd(B, s, em_int(E, c), "");
  return em_val(E, s, false, level);
}

void em_fault_check(Em *E, int kind, int site, Val bad, Val index, int64_t size) {
  bool vec = bad.v && !bad.s;
  if (!vec && LLVMIsConstant(bad.s) && LLVMIsNull(bad.s)) return;
  E->faults = true;
  int level = bad.level;
  LLVMValueRef b = vec ? bad.v : bad.s;
  em_at(E, level);
  if (vec && E->mask) b = LLVMBuildAnd(B, b, E->mask, "");
  LLVMTypeRef arg[6] = {E->ptr, E->i32, E->i32, E->i64, E->i64, E->i64};
  LLVMTypeRef ft = LLVMFunctionType(LLVMVoidTypeInContext(E->cx), arg, 6, 0);
  LLVMValueRef f = LLVMGetNamedFunction(E->mod, "fault");
  if (!f) f = LLVMAddFunction(E->mod, "fault", ft); /* defined by em_fault_function */
  Rare r = em_rare_begin(E, level, vec ? em_any(E, b) : b);
  LLVMValueRef i = em_int(E, 0);
  if (index.s)
    i = index.s;
  else if (index.v) {
    LLVMTypeRef bits = LLVMIntTypeInContext(E->cx, (unsigned)E->width);
    LLVMValueRef first = em_call(E, "llvm.cttz", 1, &bits, 2,
                                 (LLVMValueRef[]){LLVMBuildBitCast(B, b, bits, ""), LLVMConstInt(E->i1, 0, 0)});
    i = LLVMBuildExtractElement(B, index.v, first, "");
  }
  LLVMValueRef args[6] = {E->fault,
                          LLVMConstInt(E->i32, (unsigned)kind, 0),
                          LLVMConstInt(E->i32, (unsigned)site, 0),
                          i,
                          em_int(E, size),
                          E->unit && level >= E->unit_level ? E->unit : em_int(E, 0)};
  LLVMBuildCall2(B, ft, f, args, 6, "");
  em_rare_end(E, &r);
}

/* idx, or 0 where it is outside [0, size), which is recorded. */
static Val checked_index(Em *E, Val idx, int64_t size, Val *mask, int site) {
  bool vec = !idx.s || (mask && !mask->s);
  int level = max2(idx.level, mask ? mask->level : 0);
  if (vec && mask && !idx.v) em_vec(E, &idx);
  LLVMValueRef x = em_as(E, &idx, vec), m = mask ? em_as(E, mask, vec) : NULL;
  em_at(E, level);
  E->vec = vec;
  LLVMValueRef n = vec ? em_splat_const(E, em_int(E, size)) : em_int(E, size);
  LLVMValueRef out = LLVMBuildICmp(B, LLVMIntUGE, x, n, "");
  LLVMValueRef bad = m ? LLVMBuildAnd(B, out, m, "") : out;
  LLVMValueRef safe = LLVMBuildSelect(B, out, LLVMConstNull(LLVMTypeOf(x)), x, "");
  em_fault_check(E, KF_INDEX, site, em_val(E, bad, vec, level), em_val(E, x, vec, level), size);
  return em_val(E, safe, vec, level);
}

static LLVMValueRef lane_offsets(Em *E, const int64_t *lane) {
  LLVMValueRef x[16];
  for (int l = 0; l < 16; l++) x[l] = em_int(E, lane[l]);
  return LLVMConstVector(x, 16);
}

Ptr em_pointer(Em *E, int buf, const Addr *a, Val *mask, int site) {
  const EmBuf *eb = &E->buf[buf];
  int64_t scale = eb->lanes ? E->width : 1;
  Term t[EM_ITERS + EM_TERMS];
  LLVMValueRef irregular = NULL;
  int n = 0, vlevel = 0;
  int64_t step = eb->lanes ? 1 : 0;
  for (int k = 0; k < EM_ITERS; k++) {
    if (!a->coef[k]) continue;
    if (!E->it[k].s) bug("emit: iterator %d is not bound", k);
    t[n++] = (Term){E->it[k].s, a->coef[k] * scale, E->it[k].level};
    if (E->it[k].vec) step += a->coef[k] * scale, vlevel = max2(vlevel, E->it[k].level);
  }
  int64_t lane[16] = {0};
  bool fixed = false;
  for (int i = 0; i < a->natom; i++) {
    int64_t digit[16];
    Val x;
    if (a->atom[i].size < 0 && em_digit(E, a->atom[i].e, &x, digit)) {
      t[n++] = (Term){x.s, a->atom[i].coef * scale, x.level};
      for (int l = 0; l < 16; l++) lane[l] += digit[l] * a->atom[i].coef * scale, fixed |= digit[l] != 0;
      continue;
    }
    x = em_expr(E, a->atom[i].e);
    if (a->atom[i].size >= 0) x = checked_index(E, x, a->atom[i].size, mask, site);
    if (x.s) {
      t[n++] = (Term){x.s, a->atom[i].coef * scale, x.level};
      continue;
    }
    vlevel = max2(vlevel, x.level);
    em_at(E, vlevel);
    LLVMValueRef c = em_splat_const(E, em_int(E, a->atom[i].coef * scale));
    LLVMValueRef part = a->atom[i].coef * scale == 1 ? x.v : LLVMBuildMul(B, x.v, c, "");
    irregular = irregular ? LLVMBuildAdd(B, irregular, part, "") : part;
  }
  Val sum = sum_terms(E, n, t, 0);
  LLVMTypeRef mt = em_mem_type(E, (DType)E->k->buf[buf].dtype);
  if (sum.level < eb->base_level) sum.level = eb->base_level;
  em_at(E, sum.level);
  LLVMValueRef p = n ? LLVMBuildGEP2(B, mt, eb->base, &sum.s, 1, "") : eb->base;
  LLVMValueRef c = em_int(E, a->c * scale);
  if (a->c) p = LLVMBuildGEP2(B, mt, p, &c, 1, "");
  Ptr r = {.p = p, .level = max2(sum.level, vlevel), .step = step};
  bool even = true; /* the digits may add up to steps */
  for (int l = 0; l < 16 && fixed; l++) lane[l] += step * l, even &= lane[l] == l * lane[1];
  if (fixed && even && lane[0] == 0 && !irregular) {
    r.step = lane[1];
  } else if (fixed) {
    memcpy(r.lane, lane, sizeof lane);
    r.fixed = !irregular;
    r.step = 0;
    if (irregular) {
      em_at(E, r.level);
      r.off = LLVMBuildAdd(B, irregular, lane_offsets(E, lane), "");
    }
  } else if (irregular) {
    em_at(E, r.level);
    r.off = step ? LLVMBuildAdd(B, irregular, em_lanes(E, E->i64, step), "") : irregular;
  }
  return r;
}

static LLVMValueRef both(Em *E, LLVMValueRef a, LLVMValueRef b) { return !a ? b : !b ? a : LLVMBuildAnd(B, a, b, ""); }
static LLVMValueRef align_of(Em *E, DType t) { return LLVMConstInt(E->i32, (unsigned)dt_bytes(t), 0); }

/* One element for all lanes. Where a uniform mask is false it comes from the zeros. */
static Val load_one(Em *E, DType t, Ptr p, Val *mask, int level) {
  LLVMTypeRef mt = em_mem_type(E, t);
  bool vmask = mask && !mask->s;
  level = max2(level, max2(p.level, mask ? mask->level : 0));
  em_at(E, level);
  LLVMValueRef m = NULL, at = p.p;
  if (mask) {
    m = vmask ? both(E, mask->v, E->mask) : mask->s;
    at = LLVMBuildSelect(B, vmask ? em_any(E, m) : m, p.p, E->zeros, "");
  }
  LLVMValueRef x = LLVMBuildLoad2(B, mt, at, "");
  LLVMSetAlignment(x, (unsigned)dt_bytes(t));
  Val r = em_val(E, em_from_mem(E, t, x), false, level);
  if (!vmask) return r;
  LLVMValueRef v = em_vec(E, &r);
  em_at(E, level);
  return em_val(E, LLVMBuildSelect(B, m, v, LLVMConstNull(LLVMTypeOf(v)), ""), true, level);
}
static LLVMValueRef reversed(Em *E, LLVMValueRef x) {
  int lane[64];
  for (int i = 0; i < E->width; i++) lane[i] = E->width - 1 - i;
  return em_shuffle(E, x, NULL, E->width, lane);
}

/* Lanes `step` elements apart, 2 .. 8: whole vectors and shuffles. Nothing beyond the last live lane's element is read.
 */
static LLVMValueRef load_apart(Em *E, DType t, LLVMValueRef p, int step) {
  LLVMTypeRef mt = em_mem_type(E, t), vt = em_vector(E, mt), types[2] = {vt, E->ptr};
  LLVMValueRef last = NULL, r = NULL; /* last: first element not to be read */
  int w = E->width;
  if (E->live) {
    last = LLVMBuildMul(B, LLVMBuildSub(B, E->live, em_int(E, 1), ""), em_int(E, step), "");
    last = LLVMBuildTrunc(B, LLVMBuildAdd(B, last, em_int(E, 1), ""), E->i32, "");
    last = em_splat(E, last);
  }
  for (int q = 0; q < step; q++) {
    LLVMValueRef off = em_int(E, (int64_t)q * w), at = LLVMBuildGEP2(B, mt, p, &off, 1, ""), lane[64], x;
    for (int l = 0; l < w; l++) lane[l] = LLVMConstInt(E->i32, (unsigned)(q * w + l), 0);
    LLVMValueRef number = LLVMConstVector(lane, (unsigned)w), m = NULL;
    if (last)
      m = LLVMBuildICmp(B, LLVMIntULT, number, last, "");
    else if (q == step - 1) {
      for (int l = 0; l < w; l++) lane[l] = LLVMConstInt(E->i1, q * w + l <= (w - 1) * step, 0);
      m = LLVMConstVector(lane, (unsigned)w);
    }
    if (m) {
      x = em_call(E, "llvm.masked.load", 2, types, 4, (LLVMValueRef[]){at, align_of(E, t), m, LLVMConstNull(vt)});
    } else {
      x = LLVMBuildLoad2(B, vt, at, "");
      LLVMSetAlignment(x, (unsigned)dt_bytes(t));
    }
    int pick[64]; /* lane l is element l * step: here when it lies in part q, else what we have */
    for (int l = 0; l < w; l++) pick[l] = l * step / w == q ? w + l * step % w : l;
    r = r ? em_shuffle(E, r, x, w, pick) : x;
    if (q == 0) {
      for (int l = 0; l < w; l++) pick[l] = l * step / w == 0 ? l * step : l;
      r = em_shuffle(E, x, NULL, w, pick);
    }
  }
  return r;
}

/* Lanes at fixed elements lane[l] from p, all within two vectors: whole loads and a shuffle. Only elements of live
 * lanes are read. */
static bool few_vectors(const Ptr *p, int64_t *first, int *nvec) {
  int64_t lo = p->lane[0], hi = lo;
  for (int l = 1; l < 16; l++) lo = p->lane[l] < lo ? p->lane[l] : lo, hi = p->lane[l] > hi ? p->lane[l] : hi;
  *first = lo;
  *nvec = hi - lo < 16 ? 1 : 2;
  return hi - lo < 32;
}
static LLVMValueRef load_fixed(Em *E, DType t, const Ptr *p, int64_t first, int nvec) {
  LLVMTypeRef mt = em_mem_type(E, t), vt = em_vector(E, mt), types[2] = {vt, E->ptr};
  LLVMValueRef x[2] = {NULL, NULL}, live = NULL;
  if (E->live) live = em_splat(E, LLVMBuildTrunc(B, E->live, E->i32, ""));
  for (int q = 0; q < nvec; q++) {
    LLVMValueRef by[16], at = em_int(E, first + 16 * q);
    for (int i = 0; i < 16; i++) {
      int l = 0; /* the first lane that wants element i */
      while (l < 16 && p->lane[l] != first + 16 * q + i) l++;
      by[i] = E->live ? LLVMConstInt(E->i32, l < 16 ? (unsigned)l : INT32_MAX, 0) : LLVMConstInt(E->i1, l < 16, 0);
    }
    LLVMValueRef m = LLVMConstVector(by, 16);
    if (E->live) m = LLVMBuildICmp(B, LLVMIntULT, m, live, "");
    at = LLVMBuildGEP2(B, mt, p->p, &at, 1, "");
    x[q] = em_call(E, "llvm.masked.load", 2, types, 4, (LLVMValueRef[]){at, align_of(E, t), m, LLVMConstNull(vt)});
  }
  int pick[16];
  for (int l = 0; l < 16; l++) pick[l] = (int)(p->lane[l] - first);
  return em_shuffle(E, x[0], x[1], 16, pick);
}

Val em_load(Em *E, int buf, const Addr *a, Val *mask, int site) { return em_load_safe(E, buf, a, mask, site, false); }
Val em_load_safe(Em *E, int buf, const Addr *a, Val *mask, int site, bool safe) {
  DType t = (DType)E->k->buf[buf].dtype;
  int floor_level = E->buf[buf].inner ? E->point_level : 0;
  if (mask && mask->s && LLVMIsConstant(mask->s) && !LLVMIsNull(mask->s)) { /* true in this round of an unrolled loop */
    floor_level = max2(floor_level, mask->level);
    mask = NULL;
  }
  Ptr p = em_pointer(E, buf, a, mask, site);
  if (!p.off && !p.fixed && p.step == 0) return load_one(E, t, p, mask, floor_level);
  int level = max2(floor_level, max2(p.level, mask ? mask->level : 0));
  LLVMTypeRef mt = em_mem_type(E, t), vt = em_vector(E, mt);
  LLVMValueRef m = mask ? em_vec(E, mask) : NULL;
  em_at(E, level);
  if (!E->buf[buf].lanes) m = both(E, m, E->mask);
  LLVMValueRef x, zero = LLVMConstNull(vt);
  int64_t first;
  int nvec;
  if (p.fixed && (safe || !mask) && !E->buf[buf].lanes && few_vectors(&p, &first, &nvec) && (!E->mask || E->live)) {
    x = load_fixed(E, t, &p, first, nvec);
    if (mask) x = LLVMBuildSelect(B, em_vec(E, mask), x, zero, "");
    return em_val(E, em_from_mem(E, t, x), true, level);
  }
  if (p.fixed) p.off = lane_offsets(E, p.lane);
  if (!p.off && (p.step == 1 || p.step == -1)) {
    LLVMValueRef at = p.p, back = em_int(E, 1 - E->width);
    if (p.step < 0) at = LLVMBuildGEP2(B, mt, at, &back, 1, "");
    if (m) {
      LLVMTypeRef types[2] = {vt, E->ptr};
      LLVMValueRef mm = p.step < 0 ? reversed(E, m) : m;
      x = em_call(E, "llvm.masked.load", 2, types, 4, (LLVMValueRef[]){at, align_of(E, t), mm, zero});
    } else {
      x = LLVMBuildLoad2(B, vt, at, "");
      LLVMSetAlignment(x, (unsigned)dt_bytes(t));
    }
    if (p.step < 0) x = reversed(E, x);
  } else if (!p.off && !mask && p.step >= 2 && p.step <= 8) {
    x = load_apart(E, t, p.p, (int)p.step);
  } else {
    LLVMValueRef off = p.off ? p.off : em_lanes(E, E->i64, p.step);
    LLVMValueRef ptrs = LLVMBuildGEP2(B, mt, p.p, &off, 1, "");
    LLVMTypeRef types[2] = {vt, LLVMTypeOf(ptrs)};
    if (!m) m = em_splat_const(E, LLVMConstInt(E->i1, 1, 0));
    x = em_call(E, "llvm.masked.gather", 2, types, 4, (LLVMValueRef[]){ptrs, align_of(E, t), m, zero});
  }
  return em_val(E, em_from_mem(E, t, x), true, level);
}

void em_store(Em *E, int buf, const Addr *a, Val x, DType from, Val *mask, bool stream) {
  DType t = (DType)E->k->buf[buf].dtype;
  for (int i = 0; i < E->ntile; i++) {
    const Tile *ti = &E->tile[i];
    if (ti->load || ti->buf != buf) continue;
    LLVMTypeRef vt = em_vector(E, em_mem_type(E, t));
    LLVMValueRef v = em_as(E, &x, true);
    em_at(E, E->depth);
    v = em_to_mem(E, t, em_cast(E, t, from, v));
    LLVMSetAlignment(LLVMBuildStore(B, v, LLVMBuildGEP2(B, vt, ti->mem, &E->tile_row, 1, "")), 16);
    return;
  }
  Ptr p = em_pointer(E, buf, a, NULL, 0);
  if (p.fixed) p.off = lane_offsets(E, p.lane);
  bool vec = p.off || p.step;
  LLVMValueRef v = em_as(E, &x, vec), m = mask ? em_as(E, mask, vec) : NULL;
  int level = E->depth; /* stores stay where they are */
  em_at(E, level);
  v = em_to_mem(E, t, em_cast(E, t, from, v));
  if (vec && !E->buf[buf].lanes) m = both(E, m, E->mask);
  LLVMTypeRef mt = em_mem_type(E, t), vt = em_vector(E, mt);
  if (!vec) {
    Rare r = {0};
    if (m) r = em_rare_begin(E, level, m);
    LLVMSetAlignment(LLVMBuildStore(B, v, p.p), (unsigned)dt_bytes(t));
    if (m) em_rare_end(E, &r);
  } else if (!p.off && p.step == 1) {
    if (m) {
      LLVMTypeRef types[2] = {vt, E->ptr};
      em_call(E, "llvm.masked.store", 2, types, 4, (LLVMValueRef[]){v, p.p, align_of(E, t), m});
    } else {
      LLVMValueRef st = LLVMBuildStore(B, v, p.p);
      LLVMSetAlignment(st, stream ? 64 : (unsigned)dt_bytes(t));
      if (stream) {
        LLVMMetadataRef one = LLVMValueAsMetadata(LLVMConstInt(E->i32, 1, 0));
        LLVMValueRef node = LLVMMetadataAsValue(E->cx, LLVMMDNodeInContext2(E->cx, &one, 1));
        LLVMSetMetadata(st, LLVMGetMDKindIDInContext(E->cx, "nontemporal", 11), node);
      }
    }
  } else {
    LLVMValueRef off = p.off ? p.off : em_lanes(E, E->i64, p.step);
    LLVMValueRef ptrs = LLVMBuildGEP2(B, mt, p.p, &off, 1, "");
    LLVMTypeRef types[2] = {vt, LLVMTypeOf(ptrs)};
    if (!m) m = em_splat_const(E, LLVMConstInt(E->i1, 1, 0));
    em_call(E, "llvm.masked.scatter", 2, types, 4, (LLVMValueRef[]){v, ptrs, align_of(E, t), m});
  }
}

/* ---- expressions ------------------------------------------------------------------------------------------------- */
static Val const_val(Em *E, const Expr *e) {
  LLVMTypeRef t = em_reg_type(E, (DType)e->dtype);
  LLVMValueRef c = dt_is_float((DType)e->dtype) ? LLVMConstReal(t, e->num.f) : LLVMConstInt(t, (uint64_t)e->num.i, 1);
  return em_val(E, c, false, 0);
}
static Val lin_val(Em *E, const Expr *e) {
  Term few[EM_TERMS], *t = e->n <= EM_TERMS ? few : arena_array(E->arena, Term, e->n);
  int n = 0, vlevel = 0;
  int64_t step = 0;
  LLVMValueRef v = NULL;
  for (int i = 0; i < e->n; i++) {
    Expr *x = e->arg[i];
    if (x->kind == EX_ITER && E->it[x->num.i].vec) {
      const It *it = &E->it[x->num.i];
      t[n++] = (Term){it->s, e->coef[i], it->level};
      step += e->coef[i];
      vlevel = max2(vlevel, it->level);
      continue;
    }
    Val y = em_expr(E, x);
    if (y.s) {
      t[n++] = (Term){y.s, e->coef[i], y.level};
      continue;
    }
    vlevel = max2(vlevel, y.level);
    em_at(E, vlevel);
    LLVMValueRef part = e->coef[i] == 1 ? y.v : LLVMBuildMul(B, y.v, em_splat_const(E, em_int(E, e->coef[i])), "");
    v = v ? LLVMBuildAdd(B, v, part, "") : part;
  }
  Val s = sum_terms(E, n, t, e->num.i);
  if (!v && !step) return s;
  LLVMValueRef sv = em_vec(E, &s);
  vlevel = max2(vlevel, s.level);
  em_at(E, vlevel);
  if (step) sv = LLVMBuildAdd(B, sv, em_lanes(E, E->i64, step), "");
  if (v) sv = LLVMBuildAdd(B, sv, v, "");
  return em_val(E, sv, true, vlevel);
}
static Val iter_val(Em *E, const Expr *e) {
  const It *it = &E->it[e->num.i];
  if (!it->s) bug("emit: iterator %d is not bound", (int)e->num.i);
  if (!it->vec) return em_val(E, it->s, false, it->level);
  em_at(E, it->level);
  return em_val(E, LLVMBuildAdd(B, em_splat(E, it->s), em_lanes(E, E->i64, 1), ""), true, it->level);
}
/* The current row of a tile. */
static Val tile_load(Em *E, const Tile *t) {
  DType dt = (DType)E->k->buf[t->buf].dtype;
  LLVMTypeRef vt = em_vector(E, em_mem_type(E, dt));
  em_at(E, E->depth);
  LLVMValueRef x = LLVMBuildLoad2(B, vt, LLVMBuildGEP2(B, vt, t->mem, &E->tile_row, 1, ""), "");
  LLVMSetAlignment(x, 16);
  return em_val(E, em_from_mem(E, dt, x), true, E->depth);
}
static Val load_val(Em *E, Expr *e) {
  const KBuf *kb = kernel_buf(E->k, e->node);
  if (!kb) bug("emit: node %u has no buffer", e->node->id);
  int buf = (int)(kb - E->k->buf);
  EmBuf *eb = &E->buf[buf];
  bool fwd = eb->fwd.gen && em_live(E, &eb->fwd);
  for (int i = 0; i < E->ntile; i++)
    if (E->tile[i].load == e) return tile_load(E, &E->tile[i]);
  Val mask, *m = NULL;
  if (e->mask) mask = em_expr(E, e->mask), m = &mask;
  if (fwd || kb->space == SP_REG) {
    Val r = fwd ? eb->fwd : eb->reg;
    if (!em_live(E, &r)) bug("emit: buffer %d is read before it is written", buf);
    if (!m) return r;
    bool vec = !r.s || !m->s;
    LLVMValueRef c = em_as(E, m, vec), x = em_as(E, &r, vec);
    int level = max2(r.level, m->level);
    em_at(E, level);
    return em_val(E, LLVMBuildSelect(B, c, x, LLVMConstNull(LLVMTypeOf(x)), ""), vec, level);
  }
  Addr a;
  em_addr_init(&a);
  for (int d = 0; d < e->n; d++) {
    if (kb->par && kb->par[d] >= 0) continue;
    em_addr_add(E, &a, e->arg[d], eb->stride[d], e->checked ? kb->dim[d] : -1);
  }
  bool safe = m != NULL && !e->checked;
  for (int d = 0; d < e->n && safe; d++) {
    int64_t lo, hi;
    safe = em_range(E, e->arg[d], &lo, &hi) && lo >= 0 && hi < kb->dim[d];
  }
  return em_load_safe(E, buf, &a, m, e->checked ? kernel_site(E->k, e) : 0, safe);
}
static Val op_val(Em *E, Expr *e) {
  int64_t lane[16];
  Val base;
  if (em_digit(E, e, &base, lane)) {
    bool zero = true;
    for (int l = 0; l < 16; l++) zero &= lane[l] == 0;
    if (zero) return base;
    LLVMValueRef v = em_vec(E, &base);
    em_at(E, base.level);
    return em_val(E, LLVMBuildAdd(B, v, lane_offsets(E, lane), ""), true, base.level);
  }
  Val a[3];
  LLVMValueRef x[3];
  bool vec = false;
  int level = 0;
  for (int i = 0; i < e->n; i++) {
    a[i] = em_expr(E, e->arg[i]);
    if (!a[i].s) vec = true;
    level = max2(level, a[i].level);
  }
  for (int i = 0; i < e->n; i++) x[i] = em_as(E, &a[i], vec);
  DType t = (DType)e->dtype;
  bool divides = (e->op == OP_FLOORDIV || e->op == OP_MOD) && !dt_is_float(t);
  bool by_const = divides && e->arg[1]->kind == EX_CONST && e->arg[1]->num.i != 0;
  if (divides && !by_const) {
    em_at(E, level);
    LLVMValueRef is0 = LLVMBuildICmp(B, LLVMIntEQ, x[1], LLVMConstNull(LLVMTypeOf(x[1])), "");
    em_fault_check(E, KF_DIVZERO, kernel_site(E->k, e), em_val(E, is0, vec, level), (Val){0}, 0);
  }
  em_at(E, level);
  E->vec = vec;
  int64_t lo, hi;
  if (by_const && vec && t == DT_I64 && e->arg[1]->num.i > 0 && e->arg[1]->num.i < INT32_MAX &&
      em_range(E, e->arg[0], &lo, &hi) && lo >= 0 && hi < INT32_MAX) { /* 32-bit division has a vector form */
    LLVMTypeRef small = em_vector(E, E->i32);
    LLVMValueRef n = LLVMBuildTrunc(B, x[0], small, ""),
                 d = em_splat_const(E, LLVMConstInt(E->i32, (uint64_t)e->arg[1]->num.i, 0));
    LLVMValueRef q = e->op == OP_MOD ? LLVMBuildURem(B, n, d, "") : LLVMBuildUDiv(B, n, d, "");
    return em_val(E, LLVMBuildZExt(B, q, em_vector(E, E->i64), ""), true, level);
  }
  return em_val(E, em_op(E, e, x), vec, level);
}

Val em_expr(Em *E, Expr *e) {
  if (e->kind == EX_CONST) return const_val(E, e);
  int at = nummap_get(&E->memo, e);
  if (at >= 0 && em_live(E, &E->val.at[at])) return E->val.at[at];
  Val r;
  switch (e->kind) {
  case EX_ITER:
    r = iter_val(E, e);
    break;
  case EX_LIN:
    r = lin_val(E, e);
    break;
  case EX_LOAD:
    r = load_val(E, e);
    break;
  case EX_OP:
    r = op_val(E, e);
    break;
  default:
    bug("emit: expression kind %d", e->kind);
  }
  if (at < 0) {
    at = E->val.n;
    vec_push(E->arena, &E->val, r);
    nummap_put(&E->memo, e, at);
  }
  return E->val.at[at] = r;
}
