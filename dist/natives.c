/* Collectives as natives. */
#include "dist/natives.h"
#include "dist/nccl.h"
#include <stdlib.h>
#include <string.h>

static bool wrong(Fault *f, const char *what) {
  fault_set(f, R_NATIVE, (Span){0}, "%s: wrong arguments", what);
  return false;
}
static bool status(bool ok, const CommFault *why, Fault *f) {
  if (!ok) fault_set(f, R_RANK, (Span){0}, "%s", why->msg);
  return ok;
}
static Comm *comm_of(void *ctx) {
  const NativeRanks *g = ctx ? ((const NativeCtx *)ctx)->ranks : NULL;
  return g ? g->self : NULL;
}

static bool join_type(DType t, JoinType *out) {
  switch (t) {
  case DT_F32:
    *out = JOIN_F32;
    return true;
  case DT_F64:
    *out = JOIN_F64;
    return true;
  case DT_I64:
    *out = JOIN_I64;
    return true;
  case DT_U8:
  case DT_BOOL:
    *out = JOIN_U8;
    return true;
  default:
    return false;
  }
}

/* Elements that each rank gets of a sum of `rows` rows, by the rank's own part; all of them, -1 when that is none. */
static int64_t deal(const Comm *c, const Tensor *own, int64_t rows, int64_t *block) {
  int64_t row = 1, all = 0;
  for (int d = 1; d < own->rank; d++) row *= own->dim[d];
  if (rows < 0 || own->rank < 1) return -1;
  for (int r = 0; r < comm_size(c); r++) {
    block[r] = (shard_row(rows, r + 1, comm_size(c)) - shard_row(rows, r, comm_size(c))) * row;
    all += block[r];
  }
  return block[comm_rank(c)] == tensor_count(own) ? all : -1;
}

/* With a GPU the tensors lie there (Native.on_device), the ticket unwritten: nccl_wait knows collectives by their
 * buffers. */
static bool start(Comm *c, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out, Nccl *gpu,
                  Fault *f) {
  ShardNode node[TG_MAX_NODES];
  CollPiece piece[COLL_PIECES];
  int64_t block[COMM_MAX_RANKS];
  int nnode = c ? comm_nodes(c, comm_rank(c), node) : 0, npiece = nout - 1;
  if (!c || nattr < 2 || nattr > 3 || npiece < 1 || npiece > COLL_PIECES || !attr[0].s || attr[1].i < 0 ||
      attr[1].i >= JOIN_COUNT || out[0].dtype != DT_I64 || nin != nnode * npiece)
    return wrong(f, "coll_start");
  Coll what = {.kind = COLL_JOIN, .name = attr[0].s, .op = (JoinOp)attr[1].i, .npiece = npiece, .piece = piece};
  if (!join_type(out[1].dtype, &what.type)) return wrong(f, "coll_start");
  int64_t dealt = nattr == 3 ? deal(c, &out[1], attr[2].i, block) : 0;
  if (nattr == 3 && (npiece > 1 || dealt < 0)) return wrong(f, "coll_start");
  if (nattr == 3) what.block = block;
  for (int i = 0; i < npiece; i++) {
    const Tensor *to = &out[1 + i], *from = in + i * nnode;
    piece[i] = (CollPiece){.count = what.block ? dealt : tensor_count(to), .out = to->data};
    if (to->dtype != out[1].dtype) return wrong(f, "coll_start");
    for (int k = 0; k < nnode; k++) {
      if (from[k].dtype != to->dtype || tensor_count(&from[k]) != piece[i].count) return wrong(f, "coll_start");
      piece[i].node[k] = from[k].data;
    }
  }
  CommFault why;
  if (gpu) return status(nccl_start(gpu, &what, &why), &why, f);
  *(int64_t *)out[0].data = (int64_t)comm_start(c, &what);
  return true;
}
static bool run_start(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                      Fault *f) {
  return start(comm_of(ctx), nattr, attr, nin, in, nout, out, NULL, f);
}
static bool start_there(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                        Fault *f) {
  Comm *c = comm_of(ctx);
  return c && c->nccl && start(c, nattr, attr, nin, in, nout, out, c->nccl, f);
}

static bool run_wait(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  (void)nattr, (void)attr;
  Comm *c = comm_of(ctx);
  CommFault why;
  if (!c || nin < 2 || nout != 1 || tensor_bytes(&in[1]) != tensor_bytes(&out[0])) return wrong(f, "coll_wait");
  bool ok = comm_wait(c, (uint64_t) * (const int64_t *)in[0].data, &why);
  size_t bytes = tensor_bytes(&out[0]);
  if (ok && bytes && out[0].data != in[1].data) memcpy(out[0].data, in[1].data, bytes);
  return status(ok, &why, f);
}
static bool wait_there(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                       Fault *f) {
  (void)nattr, (void)attr;
  Comm *c = comm_of(ctx);
  CommFault why;
  if (!c || !c->nccl) return false;
  if (nin < 2 || nout != 1 || tensor_bytes(&in[1]) != tensor_bytes(&out[0])) return wrong(f, "coll_wait");
  return status(nccl_wait(c->nccl, in[1].data, out[0].data, tensor_bytes(&out[0]), &why), &why, f);
}

/* As bytes: any type can be gathered. */
static bool gather(Comm *c, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out, Nccl *gpu,
                   Fault *f) {
  if (!c || nattr != 1 + comm_size(c) || nin != 1 || nout != 1 || !attr[0].s) return wrong(f, "coll_gather");
  int64_t *block = calloc((size_t)comm_size(c), sizeof *block), total = 0, bytes = (int64_t)dt_bytes(out[0].dtype);
  if (!block) return fault_set(f, R_MEMORY, (Span){0}, "out of memory"), false;
  for (int r = 0; r < comm_size(c); r++) block[r] = attr[r + 1].i * bytes, total += block[r];
  bool ok = total == (int64_t)tensor_bytes(&out[0]) && block[comm_rank(c)] == (int64_t)tensor_bytes(&in[0]);
  Coll what = {
      .kind = COLL_GATHER, .name = attr[0].s, .type = JOIN_U8, .block = block, .in = in[0].data, .out = out[0].data};
  CommFault why;
  if (!ok)
    wrong(f, "coll_gather");
  else if (gpu)
    ok = status(nccl_start(gpu, &what, &why) && nccl_wait(gpu, out[0].data, out[0].data, 0, &why), &why, f);
  else
    ok = status(comm_wait(c, comm_start(c, &what), &why), &why, f);
  free(block);
  return ok;
}
static bool run_gather(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                       Fault *f) {
  return gather(comm_of(ctx), nattr, attr, nin, in, nout, out, NULL, f);
}
static bool gather_there(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                         Fault *f) {
  Comm *c = comm_of(ctx);
  return c && c->nccl && gather(c, nattr, attr, nin, in, nout, out, c->nccl, f);
}

static bool broadcast(void *self, const char *name, void *data, size_t bytes, Fault *f) {
  CommFault why;
  return status(comm_broadcast(self, 0, data, (int64_t)bytes, name, &why), &why, f);
}
NativeRanks ranks_of_comm(Comm *c) { return (NativeRanks){comm_rank(c), comm_size(c), c, broadcast}; }

const Native native_coll_start = {
    .name = "coll_start", .effect = true, .lends = true, .run = run_start, .on_device = start_there};
const Native native_coll_wait = {
    .name = "coll_wait", .late = true, .over = 2, .run = run_wait, .on_device = wait_there};
const Native native_coll_gather = {
    .name = "coll_gather", .effect = true, .lends = true, .run = run_gather, .on_device = gather_there};
