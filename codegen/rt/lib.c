/* Contexts of a library, and calls (lib.h): checks, cutting a batch into plans, copies of what is strided or short. */
#include "codegen/rt/float_mode.h"
#include "codegen/rt/lib_device.h"
#include "codegen/rt/pool.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

int lib_fail(LibContext *c, int status, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(c->message, sizeof c->message, fmt, ap);
  va_end(ap);
  return status;
}

/* ---- Memory ------------------------------------------------------------------------------------------------------ */
static void *default_alloc(void *user, size_t bytes, size_t align) {
  (void)user;
  return aligned_alloc(align, (bytes + align - 1) / align * align);
}
static void default_release(void *user, void *p, size_t bytes) {
  (void)user, (void)bytes;
  free(p);
}

static LibOptions options_of(const LibOptions *o) {
  LibOptions r = {0};
  if (o) memcpy(&r, o, o->size && o->size < sizeof r ? o->size : sizeof r);
  if (!r.alloc || !r.release) {
    r.alloc = default_alloc;
    r.release = default_release;
    r.user = NULL;
  }
  if (r.threads <= 0) r.threads = rt_pool_processors();
  if (r.threads > RT_MAX_LANES) r.threads = RT_MAX_LANES;
  return r;
}

static int best_isa(const Lib *lib) {
  for (int i = lib->nisa - 1; i >= 0; i--)
    if (lib_isa_here(lib->isa[i])) return i;
  return -1;
}

static size_t up(size_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

static const LibPlan *plan_at(const LibExport *e, int isa, int i) { return e->plan[isa * e->nplan + i]; }

/* Bytes of the copies that a call of e may need: every tensor, with the rows of the largest plan. */
static size_t stage_bytes(const LibExport *e, int isa) {
  int64_t rows = e->batched ? plan_at(e, isa, e->nplan - 1)->rows : 1;
  size_t n = 0;
  for (int i = 0; i < e->nin + e->nout; i++) n += up(e->tensor[i].bytes * (e->tensor[i].batched ? (size_t)rows : 1));
  return n;
}

typedef struct Layout {
  size_t addr, ptr, fault, konst, in, out, state, arena, lane, shared, work, stage, all;
} Layout;

static size_t most(size_t a, size_t b) { return a > b ? a : b; }

/* One piece of memory: the context, its tables, and the largest plan's needs, since plans run one at a time. */
static Layout layout(const Lib *lib, int isa, int lanes, size_t work) {
  size_t nslot = 0, nptr = 0, arena = 0, lane = 0, shared = 0, stage = 0, nin = 0, nout = 0, state = 0;
  for (int k = 0; k < lib->nexport; k++) {
    const LibExport *e = &lib->export[k];
    for (int i = 0; i < e->nplan; i++) {
      const LibPlan *p = plan_at(e, isa, i);
      nslot = most(nslot, (size_t)p->nslot);
      nptr = most(nptr, (size_t)p->max_arg);
      arena = most(arena, p->arena_bytes);
      lane = most(lane, p->lane_bytes);
      shared = most(shared, p->shared_bytes);
    }
    stage = most(stage, stage_bytes(e, isa));
    nin = most(nin, (size_t)(e->nin + lib->nstate));
    nout = most(nout, (size_t)(e->nout + e->nnext));
  }
  for (int i = 0; i < lib->nstate; i++) state += 2 * up(lib->konst[lib->first_state + i].bytes);
  if (lib->device) arena = lane = shared = state = 0; /* these are the device's */
  Layout l = {.addr = up(sizeof(LibContext))};
  l.ptr = l.addr + up((nslot + 1) * sizeof(void *));
  l.fault = l.ptr + up((nptr + 1) * sizeof(void *));
  l.konst = l.fault + up((size_t)lanes * sizeof(KFault));
  l.in = l.konst + up(((size_t)lib->nconst + 1) * sizeof(void *));
  l.out = l.in + up((nin + 1) * sizeof(void *));
  l.state = l.out + up((nout + 1) * sizeof(void *));
  l.arena = l.state + up(2 * ((size_t)lib->nstate + 1) * sizeof(void *)) + state;
  l.lane = l.arena + up(arena);
  l.shared = l.lane + up(lane) * (size_t)lanes;
  l.work = l.shared + up(shared);
  l.stage = l.work + up(work);
  l.all = l.stage + stage;
  return l;
}

size_t lib_memory(const Lib *lib, const LibOptions *o) {
  LibOptions op = options_of(o);
  int isa = best_isa(lib);
  if (isa < 0) return 0;
  if (lib->device) op.threads = 1;
  Lapack two[2];
  size_t work = lib_work_bytes(lib, lib_open_routines(lib, two) ? two : NULL);
  size_t more = lib->device ? lib->device->op->memory(lib) : op.threads > 1 ? rt_pool_bytes(op.threads) : 0;
  return layout(lib, isa, op.threads, work).all + more;
}

/* ---- Contexts ---------------------------------------------------------------------------------------------------- */
static int find_constants(LibContext *c) {
  const Lib *lib = c->lib;
  if (lib->weights == LW_FILE) return lib_map_weights(c, c->o.weights_file);
  int weight = 0;
  for (int i = 0; i < lib->nconst; i++) {
    const LibConst *k = &lib->konst[i];
    c->konst[i] = k->data;
    if (k->data || !k->bytes) continue;
    const void *given = c->o.weights ? c->o.weights[weight++] : NULL;
    if (!given) return RT_NO_WEIGHTS;
    if ((uintptr_t)given % ALIGN) return RT_BAD_ALIGNMENT;
    c->konst[i] = given;
  }
  return RT_OK;
}

int lib_state_copy(LibContext *c, int i, void *to, const void *from) {
  const LibDevice *d = c->lib->device;
  size_t bytes = c->lib->konst[c->lib->first_state + i].bytes;
  if (!bytes) return RT_OK;
  if (d) return to ? d->op->get(c, to, c->state[i], bytes) : d->op->put(c, c->state[i], from, bytes);
  memcpy(to ? to : c->state[i], to ? c->state[i] : from, bytes);
  return RT_OK;
}

static int begin_states(LibContext *c) {
  int status = RT_OK;
  for (int i = 0; i < c->lib->nstate && !status; i++)
    status = lib_state_copy(c, i, NULL, c->konst[c->lib->first_state + i]);
  return status;
}

static int place_states(LibContext *c, char *at) {
  size_t n = (size_t)c->lib->nstate;
  c->state = (char **)(void *)at;
  c->spare = c->state + n + 1;
  at += up(2 * (n + 1) * sizeof(void *));
  int status = c->lib->device ? c->lib->device->op->create(c) : RT_OK;
  for (size_t i = 0; i < n && !c->lib->device; i++) {
    size_t bytes = up(c->lib->konst[c->lib->first_state + (int)i].bytes);
    c->state[i] = at;
    c->spare[i] = at + bytes;
    at += 2 * bytes;
  }
  return status ? status : begin_states(c);
}

int lib_create(const Lib *lib, const LibOptions *o, LibContext **out) {
  if (!out) return RT_BAD_ARGUMENT;
  *out = NULL;
  LibOptions op = options_of(o);
  int isa = best_isa(lib);
  if (isa < 0) return RT_NO_CPU;
  if (lib->device) op.threads = 1;
  Lapack two[2] = {0};
  int has_lapack = lib_open_routines(lib, two);
  size_t work = lib_work_bytes(lib, has_lapack ? two : NULL);
  Layout l = layout(lib, isa, op.threads, work);
  char *m = op.alloc(op.user, l.all, ALIGN);
  if (!m) return RT_NO_MEMORY;
  memset(m, 0, l.arena);
  LibContext *c = (LibContext *)(void *)m;
  *c = (LibContext){.lib = lib,
                    .o = op,
                    .bytes = l.all,
                    .lanes = 1,
                    .isa = isa,
                    .has_lapack = has_lapack,
                    .lapack = {two[0], two[1]},
                    .work = m + l.work,
                    .work_bytes = work};
  c->addr = (void **)(void *)(m + l.addr);
  c->ptr = (void **)(void *)(m + l.ptr);
  c->fault = (KFault *)(void *)(m + l.fault);
  c->konst = (const void **)(void *)(m + l.konst);
  c->arena = m + l.arena, c->lane = m + l.lane, c->shared = m + l.shared, c->stage = m + l.stage;
  c->in = (void **)(void *)(m + l.in), c->out = (void **)(void *)(m + l.out);
  int status = find_constants(c);
  if (!status) status = place_states(c, m + l.state);
  if (!status && op.threads > 1) {
    c->pool_bytes = rt_pool_bytes(op.threads);
    c->pool_memory = op.alloc(op.user, c->pool_bytes, ALIGN);
    if (!c->pool_memory)
      status = RT_NO_MEMORY;
    else
      c->pool = rt_pool_start(c->pool_memory, op.threads);
  }
  if (status) {
    lib_destroy(lib, c);
    return status;
  }
  if (c->pool) c->lanes = rt_pool_lanes(c->pool);
  *out = c;
  return RT_OK;
}

void lib_destroy(const Lib *lib, LibContext *c) {
  if (!c || c->lib != lib) return;
  LibOptions o = c->o;
  if (c->pool) rt_pool_stop(c->pool);
  if (c->pool_memory) o.release(o.user, c->pool_memory, c->pool_bytes);
  if (lib->device) lib->device->op->destroy(c);
  lib_unmap_weights(c);
  c->lib = NULL;
  o.release(o.user, c, c->bytes);
}

const char *lib_message(const Lib *lib, const LibContext *c) { return c && c->lib == lib ? c->message : ""; }

const char *lib_manifest(const Lib *lib) { return lib->manifest; }
int lib_abi(const Lib *lib) { return lib->abi; }
const char *lib_strerror(const Lib *lib, int status) {
  (void)lib;
  return rt_status_text(status);
}

/* ---- Tensors of a call ------------------------------------------------------------------------------------------- */
typedef struct View {
  char *data;
  const LibTensor *t;
  const int64_t *stride; /* in elements, rank of them; NULL: packed */
  char *stage;           /* packed copy, room for the largest plan's rows */
} View;

/* Copies `rows` rows from row b between the view and a packed buffer. */
static void copy_strided(const View *v, int64_t b, int64_t rows, char *packed, int out) {
  const LibTensor *t = v->t;
  int rank = t->rank, lead = t->batched ? 1 : 0;
  int64_t at[LIB_MAX_RANK] = {0}, dim[LIB_MAX_RANK], count = 1;
  for (int d = 0; d < rank; d++) {
    dim[d] = d < lead ? rows : t->dim[d - lead];
    count *= dim[d];
  }
  char *base = v->data + (lead ? b * v->stride[0] * t->esize : 0);
  for (int64_t i = 0; i < count; i++) {
    int64_t off = 0;
    for (int d = 0; d < rank; d++) off += at[d] * v->stride[d];
    char *there = base + off * t->esize, *here = packed + i * t->esize;
    memcpy(out ? there : here, out ? here : there, (size_t)t->esize);
    for (int d = rank - 1; d >= 0 && ++at[d] == dim[d]; d--) at[d] = 0;
  }
}

/* Where the plan finds rows b .. b + rows of an input, of which n are the caller's. */
static void *input_at(const View *v, int64_t b, int64_t n, int64_t rows) {
  const LibTensor *t = v->t;
  if (!t->batched) {
    if (!v->stride) return v->data;
    if (b == 0) copy_strided(v, 0, 1, v->stage, 0);
    return v->stage;
  }
  if (!v->stride && n == rows) return v->data + (uint64_t)b * t->bytes;
  if (v->stride)
    copy_strided(v, b, n, v->stage, 0);
  else if (t->bytes)
    memcpy(v->stage, v->data + (uint64_t)b * t->bytes, (size_t)n * t->bytes);
  for (int64_t i = n; i < rows && t->bytes;
       i++) /* rows that are computed for nothing hold what is known to be harmless */
    memcpy(v->stage + (uint64_t)i * t->bytes, v->stage + (uint64_t)(n - 1) * t->bytes, t->bytes);
  return v->stage;
}

static void *output_at(const View *v, int64_t b, int64_t n, int64_t rows) {
  if (v->stride || (v->t->batched && n != rows)) return v->stage;
  return v->data + (v->t->batched ? (uint64_t)b * v->t->bytes : 0);
}

static void output_done(const View *v, int64_t b, int64_t n, int64_t rows) {
  if (v->stride)
    copy_strided(v, b, n, v->stage, 1);
  else if (v->t->batched && n != rows && v->t->bytes)
    memcpy(v->data + (uint64_t)b * v->t->bytes, v->stage, (size_t)n * v->t->bytes);
}

/* ---- The batch --------------------------------------------------------------------------------------------------- */
typedef struct Call {
  LibContext *c;
  const LibExport *e;
  View *view;
} Call;

/* States change when all has gone well: they exchange places with their next values. */
static int run_rows(Call *k, const LibPlan *p, int64_t b, int64_t n) {
  LibContext *c = k->c;
  void **in = c->in, **out = c->out;
  const LibExport *e = k->e;
  for (int i = 0; i < c->lib->nstate; i++) in[e->nin + i] = c->state[i];
  for (int i = 0; i < e->nnext; i++) out[e->nout + i] = c->spare[e->next[i]];
  for (int i = 0; i < e->nin; i++) in[i] = input_at(&k->view[i], b, n, p->rows);
  for (int i = 0; i < e->nout; i++) out[i] = output_at(&k->view[e->nin + i], b, n, p->rows);
  const LibDevice *d = c->lib->device;
  uint64_t mode = rt_float_mode_default();
  int status = d ? d->op->run(c, e, p, in, out) : lib_run_plan(c, p, in, out);
  rt_float_mode_back(mode);
  for (int i = 0; i < e->nout && !status; i++) output_done(&k->view[e->nin + i], b, n, p->rows);
  for (int i = 0; i < e->nnext && !status; i++) {
    char *now = c->state[e->next[i]];
    c->state[e->next[i]] = c->spare[e->next[i]];
    c->spare[e->next[i]] = now;
  }
  return status;
}

/* Cost of n rows with the plans 0 .. i: as many whole ones of plan i as fit; what is left in one more of them, or in
 * smaller ones. */
static double cost_of(const LibExport *e, int isa, int64_t n, int i) {
  const LibPlan *p = plan_at(e, isa, i);
  int64_t left = n % p->rows;
  double whole = (double)(n / p->rows) * p->cost;
  if (!left) return whole;
  double smaller = i ? cost_of(e, isa, left, i - 1) : p->cost;
  return whole + (smaller < p->cost ? smaller : p->cost);
}

static const LibPlan *plan_of_rows(const LibContext *c, const LibExport *e, int64_t rows) {
  for (int i = 0; i < e->nplan; i++)
    if (plan_at(e, c->isa, i)->rows == rows) return plan_at(e, c->isa, i);
  return NULL;
}

static int run_batch(Call *k, int64_t rows) {
  const LibExport *e = k->e;
  int isa = k->c->isa, status = RT_OK;
  int64_t b = 0;
  for (int i = e->nplan - 1; b < rows && i >= 0 && !status; i--) {
    const LibPlan *p = plan_at(e, isa, i);
    for (; rows - b >= p->rows && !status; b += p->rows) status = run_rows(k, p, b, p->rows);
    int64_t left = rows - b;
    const LibPlan *exact = left ? plan_of_rows(k->c, e, left) : NULL;
    if (exact && !status) {
      status = run_rows(k, exact, b, left);
      b = rows;
    } else if (left && !status && (i == 0 || p->cost <= cost_of(e, isa, left, i - 1))) {
      status = run_rows(k, p, b, left);
      b = rows;
    }
  }
  return status;
}

static void stage_views(LibContext *c, const LibExport *e, View *view) {
  int64_t rows = e->batched ? plan_at(e, c->isa, e->nplan - 1)->rows : 1;
  char *at = c->stage;
  for (int i = 0; i < e->nin + e->nout; i++) {
    view[i].stage = at;
    at += up(e->tensor[i].bytes * (e->tensor[i].batched ? (size_t)rows : 1));
  }
}

static int run_call(LibContext *c, const LibExport *e, int64_t rows, View *view) {
  stage_views(c, e, view);
  Call k = {c, e, view};
  if (e->listed) return run_rows(&k, plan_of_rows(c, e, rows), 0, rows);
  return e->batched ? run_batch(&k, rows) : run_rows(&k, plan_at(e, c->isa, 0), 0, 1);
}

static int enter(const Lib *lib, LibContext *c, int export) {
  if (!c || c->lib != lib || export < 0 || export >= lib->nexport) return RT_BAD_ARGUMENT;
  if (__atomic_exchange_n(&c->busy, 1, __ATOMIC_ACQUIRE)) return RT_BUSY;
  c->message[0] = 0;
  return RT_OK;
}
static int leave(LibContext *c, int status) {
  if (status && !c->message[0]) lib_fail(c, status, "%s", rt_status_text(status));
  __atomic_store_n(&c->busy, 0, __ATOMIC_RELEASE);
  return status;
}

int lib_reset(const Lib *lib, LibContext *c) {
  int status = enter(lib, c, 0);
  if (status) return status;
  return leave(c, begin_states(c));
}

static int move_state(const Lib *lib, LibContext *c, const char *name, void *to, const void *from) {
  int status = enter(lib, c, 0), i = 0;
  if (status) return status;
  const LibConst *k = lib->konst + lib->first_state;
  while (name && i < lib->nstate && strcmp(k[i].name, name)) i++;
  if (!name || (!to && !from) || i == lib->nstate)
    return leave(c, lib_fail(c, RT_BAD_ARGUMENT, "no state `%s`", name ? name : ""));
  return leave(c, lib_state_copy(c, i, to, from));
}
int lib_get_state(const Lib *lib, LibContext *c, const char *name, void *data) {
  return move_state(lib, c, name, data, NULL);
}
int lib_set_state(const Lib *lib, LibContext *c, const char *name, const void *data) {
  return move_state(lib, c, name, NULL, data);
}

/* "loss: 7 rows, not 8 or 64" */
static int fail_listed(LibContext *c, const LibExport *e, int64_t rows) {
  size_t n = (size_t)snprintf(c->message, sizeof c->message, "%s: %lld rows, not", e->name, (long long)rows);
  for (int i = 0; i < e->nplan && n < sizeof c->message; i++)
    n += (size_t)snprintf(c->message + n, sizeof c->message - n, "%s %lld",
                          i && i == e->nplan - 1 ? " or"
                          : i                    ? ","
                                                 : "",
                          (long long)plan_at(e, c->isa, i)->rows);
  return RT_BAD_SIZE;
}

static int check_rows(LibContext *c, const LibExport *e, int64_t rows) {
  if (!e->batched) return RT_OK;
  if (e->listed && !plan_of_rows(c, e, rows)) return fail_listed(c, e, rows);
  if (rows < 0) return lib_fail(c, RT_BAD_SIZE, "%s: %lld rows", e->name, (long long)rows);
  for (int i = 0; i < e->nin + e->nout; i++)
    if (e->tensor[i].batched && e->tensor[i].bytes && (uint64_t)rows > (uint64_t)PTRDIFF_MAX / e->tensor[i].bytes)
      return lib_fail(c, RT_BAD_SIZE, "%s: %lld rows of %s do not fit in memory", e->name, (long long)rows,
                      e->tensor[i].name);
  return RT_OK;
}

static int check_view(LibContext *c, const LibExport *e, const View *v, int64_t rows) {
  uint64_t bytes = v->t->bytes * (v->t->batched ? (uint64_t)rows : 1);
  if (!v->data && bytes) return lib_fail(c, RT_BAD_ARGUMENT, "%s: %s is null", e->name, v->t->name);
  if ((uintptr_t)v->data % (uintptr_t)v->t->esize)
    return lib_fail(c, RT_BAD_ALIGNMENT, "%s: %s is not aligned to %d bytes", e->name, v->t->name, v->t->esize);
  return RT_OK;
}

static int call_packed(LibContext *c, const LibExport *e, int64_t rows, const void *const *in, void *const *out) {
  View view[2 * LIB_MAX_TENSOR];
  int status = check_rows(c, e, rows);
  for (int i = 0; i < e->nin + e->nout && !status; i++) {
    void *p = i < e->nin ? (void *)(uintptr_t)in[i] : out[i - e->nin];
    view[i] = (View){.data = p, .t = &e->tensor[i]};
    status = check_view(c, e, &view[i], rows);
  }
  return status ? status : run_call(c, e, rows, view);
}

int lib_call(const Lib *lib, LibContext *c, int export, int64_t rows, const void *const *in, void *const *out) {
  int status = enter(lib, c, export);
  return status ? status : leave(c, call_packed(c, &lib->export[export], rows, in, out));
}

/* ---- DLPack ------------------------------------------------------------------------------------------------------ */
enum { DL_CPU = 1, DL_INT = 0, DL_UINT = 1, DL_FLOAT = 2, DL_BFLOAT = 4, DL_BOOL = 6 };

static DLDataType dl_type(int dtype, int esize) {
  static const uint8_t code[] = {DL_BOOL, DL_UINT,  DL_INT,    DL_INT,   DL_INT,
                                 DL_INT,  DL_FLOAT, DL_BFLOAT, DL_FLOAT, DL_FLOAT};
  return (DLDataType){code[dtype], (uint8_t)(8 * esize), 1};
}

/* rows: -1 while not known. */
static int view_of(LibContext *c, const LibExport *e, const LibTensor *t, const DLTensor *d, int64_t *rows, View *v) {
  if (!d) return lib_fail(c, RT_BAD_ARGUMENT, "%s: %s is null", e->name, t->name);
  if (d->device.device_type != DL_CPU)
    return lib_fail(c, RT_BAD_DEVICE, "%s: %s is on another device", e->name, t->name);
  DLDataType want = dl_type(t->dtype, t->esize);
  if (d->dtype.code != want.code || d->dtype.bits != want.bits || d->dtype.lanes != 1)
    return lib_fail(c, RT_BAD_DTYPE, "%s: %s has DLPack dtype (%d, %d), not (%d, %d)", e->name, t->name, d->dtype.code,
                    d->dtype.bits, want.code, want.bits);
  if (d->ndim != t->rank || (t->rank && !d->shape))
    return lib_fail(c, RT_BAD_SHAPE, "%s: %s has %d axes, not %d", e->name, t->name, d->ndim, t->rank);
  int lead = t->batched ? 1 : 0;
  for (int i = lead; i < t->rank; i++)
    if (d->shape[i] != t->dim[i - lead])
      return lib_fail(c, RT_BAD_SHAPE, "%s: axis %d of %s is %lld, not %lld", e->name, i, t->name,
                      (long long)d->shape[i], (long long)t->dim[i - lead]);
  if (lead && *rows < 0) *rows = d->shape[0];
  if (lead && d->shape[0] != *rows)
    return lib_fail(c, RT_BAD_SHAPE, "%s: %s has %lld rows, others %lld", e->name, t->name, (long long)d->shape[0],
                    (long long)*rows);
  *v = (View){.data = d->data ? (char *)d->data + d->byte_offset : NULL, .t = t, .stride = d->strides};
  int64_t packed = 1;
  int same = 1;
  for (int i = t->rank - 1; i >= 0 && v->stride; i--) {
    if (d->shape[i] != 1 && v->stride[i] != packed) same = 0;
    packed *= d->shape[i];
  }
  if (same) v->stride = NULL;
  return RT_OK;
}

static int call_dl(LibContext *c, const LibExport *e, const DLTensor *const *in, int nin, const DLTensor *const *out,
                   int nout) {
  View view[2 * LIB_MAX_TENSOR];
  int64_t rows = -1;
  if (nin != e->nin || nout != e->nout || (nin && !in) || (nout && !out))
    return lib_fail(c, RT_BAD_SIZE, "%s takes %d tensors and gives %d", e->name, e->nin, e->nout);
  int status = RT_OK;
  for (int i = 0; i < nin + nout && !status; i++)
    status = view_of(c, e, &e->tensor[i], i < nin ? in[i] : out[i - nin], &rows, &view[i]);
  if (!status) status = check_rows(c, e, rows);
  for (int i = 0; i < nin + nout && !status; i++) status = check_view(c, e, &view[i], rows);
  return status ? status : run_call(c, e, rows, view);
}

int lib_call_dl(const Lib *lib, LibContext *c, int export, const DLTensor *const *in, int nin,
                const DLTensor *const *out, int nout) {
  int status = enter(lib, c, export);
  return status ? status : leave(c, call_dl(c, &lib->export[export], in, nin, out, nout));
}

/* An output of lib_call_dlpack: one piece of memory, from the C library since it may outlive the context. */
typedef struct Managed {
  DLManagedTensor m;
  int64_t shape[LIB_MAX_RANK];
} Managed;
static void managed_free(DLManagedTensor *m) { free(m); }

static DLManagedTensor *managed_new(const LibTensor *t, int64_t rows) {
  size_t bytes = t->bytes * (t->batched ? (size_t)rows : 1), head = up(sizeof(Managed));
  Managed *m = aligned_alloc(ALIGN, head + up(bytes));
  if (!m) return NULL;
  *m = (Managed){.m = {.deleter = managed_free}};
  int lead = t->batched ? 1 : 0;
  for (int d = 0; d < t->rank; d++) m->shape[d] = d < lead ? rows : t->dim[d - lead];
  m->m.dl_tensor = (DLTensor){.data = (char *)m + head,
                              .device = {DL_CPU, 0},
                              .ndim = t->rank,
                              .dtype = dl_type(t->dtype, t->esize),
                              .shape = m->shape};
  return &m->m;
}

static int call_dlpack(LibContext *c, const LibExport *e, DLManagedTensor *const *in, int nin, DLManagedTensor **out,
                       int nout) {
  const DLTensor *src[LIB_MAX_TENSOR], *dst[LIB_MAX_TENSOR];
  int64_t rows = 0;
  if (nin != e->nin || nout != e->nout || (nin && !in) || (nout && !out))
    return lib_fail(c, RT_BAD_SIZE, "%s takes %d tensors and gives %d", e->name, e->nin, e->nout);
  for (int i = 0; i < nin; i++) {
    src[i] = in[i] ? &in[i]->dl_tensor : NULL;
    if (src[i] && e->tensor[i].batched && src[i]->ndim > 0 && src[i]->shape) rows = src[i]->shape[0];
  }
  int status = check_rows(c, e, rows), made = 0;
  for (; made < nout && !status; made++) {
    out[made] = managed_new(&e->tensor[nin + made], rows);
    if (!out[made]) status = RT_NO_MEMORY;
    if (status) break;
    dst[made] = &out[made]->dl_tensor;
  }
  if (!status) status = call_dl(c, e, src, nin, dst, nout);
  for (int i = 0; i < nout && status; i++) {
    if (i < made) managed_free(out[i]);
    out[i] = NULL;
  }
  return status;
}

int lib_call_dlpack(const Lib *lib, LibContext *c, int export, DLManagedTensor *const *in, int nin,
                    DLManagedTensor **out, int nout) {
  int status = enter(lib, c, export);
  return status ? status : leave(c, call_dlpack(c, &lib->export[export], in, nin, out, nout));
}
