/* Strided accesses through transposed blocks.
 *
 * The lanes of a vector are `width` points whose elements lie a stride apart, but along an inner loop the elements are
 * neighbours. So the loop is cut into blocks of `width` rounds: before a block, `width` vectors are loaded along the
 * loop, one a lane, transposed into a buffer on the stack, and each round reads its row of the buffer. Stores go the
 * other way after the block. The operations and their order are those of the plain loop.
 *
 * Lanes beyond the live ones read lane 0's elements again and are not stored; rounds beyond the last are masked. */
#include "codegen/cpu/stage.h"

#define B E->b

bool em_tiles(int64_t lane_step, int64_t loop_step, int64_t n, bool store) {
  if (lane_step == 0 || lane_step == 1 || lane_step == -1 || loop_step != 1 || n < 4) return false;
  return store || n >= 8 || lane_step > 8 || lane_step < 0;
}

/* Keeps LLVM from looking through the shuffles above, which takes it most of the compile time and gains nothing. */
static void fence(Em *E, LLVMValueRef *r) {
  LLVMTypeRef t = LLVMTypeOf(r[0]), e = LLVMGetElementType(t), ft = em_vector(E, E->f32);
  if (e == E->f64 || e == E->i64)
    ft = em_vector(E, E->f64);
  else if (e != E->f32 && e != E->i32)
    return;
  for (int i = 0; i < E->width; i++) {
    LLVMValueRef x = LLVMBuildBitCast(B, r[i], ft, "");
    r[i] = LLVMBuildBitCast(B, em_call(E, "llvm.arithmetic.fence", 1, &ft, 1, &x), t, "");
  }
}

/* 16 x 16 of 4-byte elements: unpack 32, unpack 64, then 128-bit quarters twice; each shuffle is one instruction. */
static void transpose4(Em *E, LLVMValueRef *r) {
  LLVMValueRef t[16], u[16];
  int lo[16], hi[16], dlo[16], dhi[16], even[16], odd[16];
  for (int q = 0; q < 4; q++) {
    int unpack[4] = {0, 16, 1, 17}, pair[4] = {0, 1, 16, 17};
    for (int i = 0; i < 4; i++) {
      lo[4 * q + i] = 4 * q + unpack[i];
      hi[4 * q + i] = 4 * q + 2 + unpack[i];
      dlo[4 * q + i] = 4 * q + pair[i];
      dhi[4 * q + i] = 4 * q + 2 + pair[i];
      int from = q < 2 ? 0 : 16, k = q % 2;
      even[4 * q + i] = from + 4 * (2 * k) + i;
      odd[4 * q + i] = from + 4 * (2 * k + 1) + i;
    }
  }
  for (int i = 0; i < 16; i += 2) {
    t[i] = em_shuffle(E, r[i], r[i + 1], 16, lo);
    t[i + 1] = em_shuffle(E, r[i], r[i + 1], 16, hi);
  }
  for (int g = 0; g < 16; g += 4) { /* u[g + c]: quarter q holds column 4q + c of rows g .. g + 3 */
    u[g] = em_shuffle(E, t[g], t[g + 2], 16, dlo);
    u[g + 1] = em_shuffle(E, t[g], t[g + 2], 16, dhi);
    u[g + 2] = em_shuffle(E, t[g + 1], t[g + 3], 16, dlo);
    u[g + 3] = em_shuffle(E, t[g + 1], t[g + 3], 16, dhi);
  }
  fence(E, u);
  for (int c = 0; c < 4; c++) {
    LLVMValueRef a = em_shuffle(E, u[c], u[4 + c], 16, even), b = em_shuffle(E, u[c], u[4 + c], 16, odd);
    LLVMValueRef d = em_shuffle(E, u[8 + c], u[12 + c], 16, even), e = em_shuffle(E, u[8 + c], u[12 + c], 16, odd);
    r[c] = em_shuffle(E, a, d, 16, even);
    r[4 + c] = em_shuffle(E, b, e, 16, even);
    r[8 + c] = em_shuffle(E, a, d, 16, odd);
    r[12 + c] = em_shuffle(E, b, e, 16, odd);
  }
}
/* Any element: exchange the off-diagonal halves, quarters, .. */
static void transpose(Em *E, LLVMValueRef *r) {
  int w = E->width;
  for (int s = w / 2; s; s /= 2) {
    if (s == w / 8) fence(E, r);
    for (int i = 0; i < w; i++) {
      if (i & s) continue;
      int up[64], down[64];
      for (int l = 0; l < w; l++) {
        up[l] = l & s ? w + l - s : l;
        down[l] = l & s ? w + l : l + s;
      }
      LLVMValueRef a = r[i], b = r[i + s];
      r[i] = em_shuffle(E, a, b, w, up);
      r[i + s] = em_shuffle(E, a, b, w, down);
    }
  }
}

typedef struct Found {
  Em *E;
  const Stage *st; /* the stages of the loop */
  int nst;
  Tile tile[EM_TILES];
  Addr addr[EM_TILES];
  int n, loop;
  int64_t count;
} Found;

/* A buffer that one stage of the loop writes and another reads stays out of tiles: a block is loaded before the loop's
 * rounds and stored after them. */
typedef struct Reads {
  const Kernel *k;
  int buf;
  bool found;
} Reads;
static void note_read(void *ctx, Expr *e) {
  Reads *r = ctx;
  const KBuf *kb = e->kind == EX_LOAD ? kernel_buf(r->k, e->node) : NULL;
  r->found |= kb && kb - r->k->buf == r->buf;
}
static bool is_read(const Found *f, int buf) {
  Reads r = {f->E->k, buf, false};
  for (int i = 0; i < f->nst; i++) {
    ex_visit(f->st[i].body, note_read, &r);
    if (f->st[i].guard) ex_visit(f->st[i].guard, note_read, &r);
  }
  return r.found;
}
static bool is_written(const Found *f, int buf) {
  for (int i = 0; i < f->nst; i++)
    if (f->st[i].out == buf) return true;
  return false;
}

static void consider(void *ctx, Expr *e) {
  Found *f = ctx;
  Em *E = f->E;
  if (e->kind != EX_LOAD || e->mask || e->checked || f->n == EM_TILES) return;
  const KBuf *kb = kernel_buf(E->k, e->node);
  int buf = (int)(kb - E->k->buf);
  if (!kb || kb->space != SP_GLOBAL || E->buf[buf].inner || is_written(f, buf)) return;
  for (int i = 0; i < f->n; i++)
    if (f->tile[i].load == e) return;
  Addr *a = &f->addr[f->n];
  em_addr_init(a);
  for (int d = 0; d < e->n; d++) em_addr_add(E, a, e->arg[d], E->buf[buf].stride[d], -1);
  if (a->natom || !em_tiles(a->coef[E->vec_iter], a->coef[f->loop], f->count, false)) return;
  f->tile[f->n++] = (Tile){e, buf, NULL};
}
static void consider_store(Found *f, const Stage *st) {
  Em *E = f->E;
  const KBuf *kb = &E->k->buf[st->out];
  if (kb->space != SP_GLOBAL || f->n == EM_TILES || is_read(f, st->out)) return;
  Addr *a = &f->addr[f->n];
  em_addr_init(a);
  for (int d = 0; d < kb->rank; d++)
    if (st->store[d] >= 0) a->coef[st->store[d]] += E->buf[st->out].stride[d];
  if (em_tiles(a->coef[E->vec_iter], a->coef[f->loop], f->count, true)) f->tile[f->n++] = (Tile){NULL, st->out, NULL};
}

/* void tile_load_T / tile_store_T(lanes' first element, elements from lane to lane, live lanes, rounds, buffer): one of
 * each a module, called from every block, because the shuffles are what takes LLVM's time. */
static LLVMValueRef block_function(Em *E, DType dt, bool store) {
  char name[40];
  snprintf(name, sizeof name, "tile_%s_%s", store ? "store" : "load", dt_name(dt));
  LLVMValueRef f = LLVMGetNamedFunction(E->mod, name);
  if (f) return f;
  LLVMTypeRef arg[5] = {E->ptr, E->i64, E->i64, E->i64, E->ptr};
  f = LLVMAddFunction(E->mod, name, LLVMFunctionType(LLVMVoidTypeInContext(E->cx), arg, 5, 0));
  LLVMSetLinkage(f, LLVMInternalLinkage);
  em_function_flags(E, f);
  em_function_flag(E, f, "noinline");
  LLVMBasicBlockRef here = LLVMGetInsertBlock(B);
  LLVMPositionBuilderAtEnd(B, LLVMAppendBasicBlockInContext(E->cx, f, ""));
  LLVMTypeRef mt = em_mem_type(E, dt), vt = em_vector(E, mt), types[2] = {vt, E->ptr};
  LLVMValueRef p = LLVMGetParam(f, 0), step = LLVMGetParam(f, 1), live = LLVMGetParam(f, 2), mem = LLVMGetParam(f, 4);
  LLVMValueRef align = LLVMConstInt(E->i32, (unsigned)dt_bytes(dt), 0), row[64],
               none = LLVMConstNull(em_vector(E, E->i1));
  LLVMValueRef count = em_splat(E, LLVMBuildTrunc(B, LLVMGetParam(f, 3), E->i32, ""));
  LLVMValueRef mask = LLVMBuildICmp(B, LLVMIntULT, em_lanes(E, E->i32, 1), count, "");
  int w = E->width;
  for (int pass = 0; pass < 2; pass++) {
    bool outside = (pass == 1) == store; /* this pass touches the tensor, the other the buffer */
    for (int l = 0; l < w; l++) {
      LLVMValueRef i = em_int(E, l), at = LLVMBuildGEP2(B, vt, mem, &i, 1, ""), m = mask;
      if (outside) {
        LLVMValueRef on = LLVMBuildICmp(B, LLVMIntSGT, live, i, "");
        LLVMValueRef off = LLVMBuildSelect(B, on, LLVMBuildMul(B, step, i, ""), em_int(E, 0), "");
        at = LLVMBuildGEP2(B, mt, p, &off, 1, "");
        if (store) m = LLVMBuildSelect(B, on, mask, none, "");
      }
      if (pass == 0 && outside) {
        row[l] = em_call(E, "llvm.masked.load", 2, types, 4, (LLVMValueRef[]){at, align, m, LLVMConstNull(vt)});
      } else if (pass == 0) {
        row[l] = LLVMBuildLoad2(B, vt, at, "");
        LLVMSetAlignment(row[l], 16);
      } else if (outside) {
        em_call(E, "llvm.masked.store", 2, types, 4, (LLVMValueRef[]){row[l], at, align, m});
      } else {
        LLVMSetAlignment(LLVMBuildStore(B, row[l], at), 16);
      }
    }
    if (pass == 0 && w == 16 && dt_bytes(dt) == 4)
      transpose4(E, row);
    else if (pass == 0)
      transpose(E, row);
  }
  LLVMBuildRetVoid(B);
  LLVMPositionBuilderAtEnd(B, here);
  return f;
}
static void block(Em *E, const Tile *t, const Addr *a, LLVMValueRef rounds) {
  DType dt = (DType)E->k->buf[t->buf].dtype;
  Ptr p = em_pointer(E, t->buf, a, NULL, 0);
  em_at(E, E->depth);
  LLVMValueRef f = block_function(E, dt, !t->load), live = E->mask ? E->live : em_int(E, E->width);
  LLVMBuildCall2(B, LLVMGlobalGetValueType(f), f, (LLVMValueRef[]){p.p, em_int(E, p.step), live, rounds, t->mem}, 5,
                 "");
}

typedef struct Down {
  int k;
  int64_t last;
  BodyFn body;
  void *ctx;
} Down;
static void down_step(Em *E, void *ctx, LLVMValueRef *carry) {
  Down *d = ctx;
  em_at(E, E->depth);
  E->it[d->k].s = LLVMBuildSub(B, em_int(E, d->last), E->it[d->k].s, "");
  d->body(E, d->ctx, carry);
}

void em_tiled_for(Em *E, int k, LLVMValueRef base, int64_t n, LLVMValueRef nrt, int64_t extent, int nc,
                  LLVMValueRef *carry, BodyFn body, void *ctx, const Stage *st, int nst, bool down) {
  Found f = {.E = E, .st = st, .nst = nst, .loop = k, .count = n < 0 ? 64 : n};
  int w = E->width;
  if (E->vec_iter >= 0 && E->ntile == 0 && n != 0 && (n < 0 || n >= 4)) {
    for (int i = 0; i < nst; i++) {
      ex_visit(st[i].body, consider, &f);
      if (st[i].guard) ex_visit(st[i].guard, consider, &f);
      consider_store(&f, &st[i]);
    }
  }
  if (f.n == 0) {
    Down d = {k, n - 1, body, ctx};
    if (down)
      em_for(E, k, base, n, nrt, extent, nc, carry, down_step, &d);
    else
      em_for(E, k, base, n, nrt, extent, nc, carry, body, ctx);
    return;
  }
  for (int i = 0; i < f.n; i++)
    f.tile[i].mem = em_alloca(E, em_vector(E, em_mem_type(E, (DType)E->k->buf[f.tile[i].buf].dtype)), w);
  LLVMValueRef all = n >= 0 ? em_int(E, n) : nrt;
  LLVMValueRef start = em_loop_open(E, em_int(E, 0), all, w, nc, carry);
  if (down) start = LLVMBuildSub(B, em_int(E, (n - 1) / w * w), start, "");
  LLVMValueRef at = base ? LLVMBuildNSWAdd(B, base, start, "") : start, rounds = em_int(E, w);
  if (n < 0 || n % w) {
    LLVMValueRef left = LLVMBuildSub(B, all, start, "");
    rounds = LLVMBuildSelect(B, LLVMBuildICmp(B, LLVMIntSLT, left, rounds, ""), left, rounds, "");
  }
  em_bind(E, k, at, E->depth, false, extent);
  int block_level = E->depth;
  for (int i = 0; i < f.n; i++)
    if (f.tile[i].load) block(E, &f.tile[i], &f.addr[i], rounds);
  LLVMValueRef j = em_loop_open(E, em_int(E, 0), rounds, 1, nc, carry);
  if (down) j = LLVMBuildSub(B, LLVMBuildSub(B, rounds, em_int(E, 1), ""), j, "");
  em_bind(E, k, LLVMBuildNSWAdd(B, at, j, ""), E->depth, false, extent);
  for (int i = 0; i < f.n; i++) E->tile[i] = f.tile[i];
  E->ntile = f.n;
  E->tile_row = j;
  body(E, ctx, carry);
  E->ntile = 0;
  em_loop_close(E, nc, carry);
  em_bind(E, k, at, block_level, false, extent);
  for (int i = 0; i < f.n; i++)
    if (!f.tile[i].load) block(E, &f.tile[i], &f.addr[i], rounds);
  em_loop_close(E, nc, carry);
}
