/* Collectives of GPUs. All that is queued here goes to the Nccl's stream, between begin and end. */
#include "dist/nccl_rank.h"
#include "codegen/rt/clock.h"
#include "codegen/rt/trace.h"
#include <stdio.h>
#include <string.h>

/* ---- what is under way ------------------------------------------------------------------------------------------- */
static void retire(Nccl *n) {
  NcclOp *op = &n->op[n->first++ % NCCL_UNDER_WAY];
  struct RtTrace *trace = n->c->how.trace;
  if (trace) rt_trace_add(trace, TRACE_COLLECTIVES, op->name, op->start, rt_seconds() - op->start, op->bytes);
}

void nccl_progress(Nccl *n) {
  int state = NCCL_SUCCESS;
  bool reached = true;
  if (n->failed || n->first == n->next) return;
  if (!nccl_state(n, "a collective of NCCL", &state)) return;
  while (n->first < n->next && reached) {
    NcclOp *op = &n->op[n->first % NCCL_UNDER_WAY];
    if (!nccl_device_ok(n, n->d->op->reached(n->d, op->mark, &reached))) return;
    if (reached) retire(n);
  }
}

static bool begin(Nccl *n, const Coll *what, NcclOp **op) {
  const RtDeviceOps *d = n->d->op;
  while (n->next - n->first == NCCL_UNDER_WAY) {
    if (!nccl_device_ok(n, d->wait_mark(n->d, n->op[n->first % NCCL_UNDER_WAY].mark))) return false;
    nccl_progress(n); /* as the wait itself may have done */
    if (n->failed) return false;
  }
  *op = &n->op[n->next % NCCL_UNDER_WAY];
  RtMark *mark = (*op)->mark;
  int64_t bytes = coll_count(what, n->c->nrank) * join_bytes(what->type);
  **op = (NcclOp){.mark = mark, .start = n->c->how.trace ? rt_seconds() : 0, .bytes = bytes};
  snprintf((*op)->name, sizeof(*op)->name, "%s", what->name);
  for (int k = 0; k < what->npiece; k++) (*op)->out[(*op)->nout++] = what->piece[k].out;
  if (what->kind == COLL_GATHER) (*op)->out[(*op)->nout++] = what->out;
  if (!nccl_device_ok(n, d->mark(n->d, &n->ready))) return false;
  d->to(n->d, n->stream);
  n->stats.collectives++;
  comm_count(n->c, what);
  return nccl_device_ok(n, d->join(n->d, n->ready));
}
static bool end(Nccl *n, NcclOp *op, bool ok) {
  const RtDeviceOps *d = n->d->op;
  ok = ok && nccl_device_ok(n, d->mark(n->d, &op->mark));
  d->to(n->d, NULL);
  if (ok) n->next++;
  if (ok && n->c->how.no_overlap) ok = nccl_device_ok(n, d->join(n->d, op->mark));
  return ok;
}

/* Room that what is queued still uses is replaced when it is no longer used. */
static bool have_room(Nccl *n, NcclRoom *room, int64_t bytes) {
  const RtDeviceOps *d = n->d->op;
  if ((int64_t)room->bytes >= bytes) return true;
  if (room->at && !nccl_device_ok(n, d->wait(n->d))) return false;
  d->release(n->d, room->at);
  room->at = NULL, room->bytes = 0;
  void *at;
  if (!nccl_device_ok(n, d->alloc(n->d, (size_t)bytes, &at))) return false;
  room->at = at, room->bytes = (size_t)bytes;
  return true;
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */
static bool group_start(Nccl *n) { return nccl_ok(n, n->lib.ncclGroupStart(), "ncclGroupStart"); }
/* Also after a failure inside: the group must end. */
static bool group_end(Nccl *n, bool ok) {
  int r = n->lib.ncclGroupEnd();
  if (!ok) return false;
  return nccl_ok(n, r, "ncclGroupEnd") && nccl_settled(n, "ncclGroupEnd");
}
static bool send_to(Nccl *n, int to, const void *from, int64_t bytes) {
  if (!bytes) return true;
  n->stats.bytes += bytes;
  return nccl_ok(n, n->lib.ncclSend(from, (size_t)bytes, NCCL_U8, to, n->comm, n->stream), "ncclSend");
}
static bool receive_from(Nccl *n, int from, void *to, int64_t bytes) {
  return !bytes || nccl_ok(n, n->lib.ncclRecv(to, (size_t)bytes, NCCL_U8, from, n->comm, n->stream), "ncclRecv");
}

/* Blocks of all ranks, [at[r], at[r + 1]) of `out` from rank r, the own one being in its place. */
static bool exchange_blocks(Nccl *n, const int64_t *at, char *out) {
  int me = n->c->rank, nrank = n->c->nrank;
  int64_t own = at[me + 1] - at[me];
  bool equal = own > 0, ok = true;
  for (int r = 0; r < nrank; r++) equal &= at[r + 1] - at[r] == own;
  if (at[nrank] == at[0]) return true;
  if (equal) {
    n->stats.bytes += own * (nrank - 1);
    int r = n->lib.ncclAllGather(out + at[me], out, (size_t)own, NCCL_U8, n->comm, n->stream);
    return nccl_ok(n, r, "ncclAllGather") && nccl_settled(n, "ncclAllGather");
  }
  if (!group_start(n)) return false;
  for (int r = 0; r < nrank && ok; r++)
    if (r != me) ok = send_to(n, r, out + at[me], own) && receive_from(n, r, out + at[r], at[r + 1] - at[r]);
  return group_end(n, ok);
}

/* ---- joins ------------------------------------------------------------------------------------------------------- */
/* A JOIN in one piece. */
typedef struct Flat {
  int64_t count;
  int bytes; /* of an element */
  const char *node[TG_MAX_NODES];
  char *out; /* all of it, or the own share when it is dealt out */
} Flat;

static bool copied(Nccl *n, void *to, const void *from, int64_t bytes) {
  return nccl_device_ok(n, n->d->op->copy(n->d, to, from, (size_t)bytes));
}

/* A bucket's pieces one after another. */
static bool pack(Nccl *n, const Coll *w, int nnode, Flat *f) {
  *f = (Flat){.count = coll_count(w, n->c->nrank), .bytes = join_bytes(w->type)};
  if (w->npiece == 1) {
    for (int k = 0; k < nnode; k++) f->node[k] = w->piece[0].node[k];
    f->out = w->piece[0].out;
    return true;
  }
  int64_t all = f->count * f->bytes, at = 0;
  if (!have_room(n, &n->packed, all * nnode) || !have_room(n, &n->result, all)) return false;
  f->out = n->result.at;
  for (int k = 0; k < nnode; k++) f->node[k] = n->packed.at + all * k;
  for (int i = 0; i < w->npiece; at += w->piece[i++].count * f->bytes)
    for (int k = 0; k < nnode; k++)
      if (!copied(n, n->packed.at + all * k + at, w->piece[i].node[k], w->piece[i].count * f->bytes)) return false;
  return true;
}
static bool unpack(Nccl *n, const Coll *w, const Flat *f) {
  int64_t at = 0;
  for (int i = 0; i < w->npiece && w->npiece > 1; at += w->piece[i++].count * f->bytes)
    if (!copied(n, w->piece[i].out, f->out + at, w->piece[i].count * f->bytes)) return false;
  return true;
}

/* Each rank's nodes of each share to the share's owner; part[k]: the tree's node k of the own share. */
static bool send_nodes(Nccl *n, const Flat *f, const int64_t *at, const void **part) {
  ShardNode node[TG_MAX_NODES];
  int me = n->c->rank, own_nodes = comm_nodes(n->c, me, node), k = 0;
  int64_t own = at[me + 1] - at[me], step = own / 256 * 256 + 256;
  if (!have_room(n, &n->came, step * NCCL_MAX_PARTS) || !group_start(n)) return false;
  bool ok = true;
  for (int r = 0; r < n->c->nrank && ok; r++) {
    int nodes = comm_nodes(n->c, r, node);
    for (int j = 0; j < own_nodes && r != me && ok; j++) ok = send_to(n, r, f->node[j] + at[r], at[r + 1] - at[r]);
    for (int j = 0; j < nodes && ok; j++, k++) {
      part[k] = r == me ? f->node[j] + at[me] : n->came.at + step * k;
      if (r != me) ok = receive_from(n, r, n->came.at + step * k, own);
    }
  }
  return group_end(n, ok);
}

static bool join_exactly(Nccl *n, const Coll *w, const Flat *f) {
  int64_t at[COMM_MAX_RANKS + 1];
  int me = n->c->rank, nrank = n->c->nrank;
  RtFunction *join = n->join[w->type == JOIN_U8 ? JOIN_OR : w->op][w->type];
  NcclArgs a = {.n = 0};
  bool deals = coll_deals(w);
  for (int r = 0; r <= nrank; r++) at[r] = coll_share(w, r, nrank) * f->bytes;
  if (!send_nodes(n, f, at, a.part)) return false;
  a.out = deals ? f->out : f->out + at[me], a.n = (at[me + 1] - at[me]) / f->bytes;
  return nccl_launch(n, join, &a) && (deals || exchange_blocks(n, at, f->out));
}

/* The nodes of this rank in a row, then NCCL's sum. */
static bool sum_fast(Nccl *n, JoinType type, int nnode, const Flat *f) {
  NcclArgs a = {.out = f->out, .n = f->count, .nparts = nnode};
  const RtDeviceOps *d = n->d->op;
  const void *from = nnode == 1 ? f->node[0] : f->out;
  for (int k = 0; k < nnode; k++) a.part[k] = f->node[k];
  if (nnode == 0 && !nccl_device_ok(n, d->zero(n->d, f->out, (size_t)(f->count * f->bytes)))) return false;
  if (nnode > 1 && !nccl_launch(n, n->sum[type], &a)) return false;
  int nccl = type == JOIN_F64 ? NCCL_F64 : NCCL_F32;
  n->stats.bytes += 2 * f->count * f->bytes * (n->c->nrank - 1) / n->c->nrank; /* what NCCL's rings send, the least */
  int r = n->lib.ncclAllReduce(from, f->out, (size_t)f->count, nccl, NCCL_SUM, n->comm, n->stream);
  return nccl_ok(n, r, "ncclAllReduce") && nccl_settled(n, "ncclAllReduce");
}

static bool do_join(Nccl *n, const Coll *w) {
  ShardNode node[TG_MAX_NODES];
  int nnode = comm_nodes(n->c, n->c->rank, node);
  Flat f;
  if (coll_count(w, n->c->nrank) == 0) return true;
  if (!pack(n, w, nnode, &f)) return false;
  bool ok = comm_sums_fast(n->c, w) ? sum_fast(n, w->type, nnode, &f) : join_exactly(n, w, &f);
  return ok && unpack(n, w, &f);
}

static bool do_gather(Nccl *n, const Coll *w) {
  int64_t at[COMM_MAX_RANKS + 1] = {0};
  int me = n->c->rank, bytes = join_bytes(w->type);
  for (int r = 0; r < n->c->nrank; r++) at[r + 1] = at[r] + w->block[r] * bytes;
  char *own = (char *)w->out + at[me];
  if (w->in != own && !copied(n, own, w->in, at[me + 1] - at[me])) return false;
  return exchange_blocks(n, at, w->out);
}

/* ---- the interface ----------------------------------------------------------------------------------------------- */
static bool told(Nccl *n, bool ok, CommFault *f) {
  if (!ok) *f = n->fault;
  return ok;
}

bool nccl_start(Nccl *n, const Coll *what, CommFault *f) {
  NcclOp *op = NULL;
  nccl_progress(n);
  bool ok = !n->failed && begin(n, what, &op);
  ok = ok && (what->kind == COLL_JOIN ? do_join(n, what) : do_gather(n, what));
  ok = end(n, op, ok);
  if (!ok) nccl_abort(n); /* what is queued would wait for the rest */
  return told(n, ok, f);
}

/* One that has ended needs no waiting: what is queued from now on comes behind it. */
bool nccl_wait(Nccl *n, const void *from, void *to, size_t bytes, CommFault *f) {
  const NcclOp *op = NULL;
  for (uint64_t k = n->next; k-- > n->first && !op;) {
    const NcclOp *at = &n->op[k % NCCL_UNDER_WAY];
    for (int i = 0; i < at->nout && !op; i++)
      if (at->out[i] == from) op = at;
  }
  bool ok = !n->failed && (!op || nccl_device_ok(n, n->d->op->join(n->d, op->mark)));
  return told(n, ok && (to == from || copied(n, to, from, (int64_t)bytes)), f);
}
