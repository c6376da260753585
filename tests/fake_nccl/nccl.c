/* The entry points (fake_nccl.h). */
#include "tests/fake_nccl/fake_nccl.h"
#include "dist/nccl_api.h"
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_CALLS = 32, BUSY = 3 };
static struct {
  const char *name[MAX_CALLS];
  int calls[MAX_CALLS], ncall;
  int rank; /* -1: no communicator yet */
  NcclComm comms;
  FakeQueue *queue;
  FakeOnDevice *on_device;
  int depth; /* of groups */
  Exchange *group;
  NcclComm group_comm;
  void *group_stream;
} fake = {.rank = -1};

/* ---- failures ---------------------------------------------------------------------------------------------------- */
static bool meant(const char *variable, const char *call, int count, const char **rest) {
  const char *want = getenv(variable), *rank = getenv("TG_FAKE_NCCL_RANK");
  size_t n = strlen(call);
  if (!want || strncmp(want, call, n) || want[n] != ':' || atoi(want + n + 1) != count) return false;
  *rest = strchr(want + n + 1, ':');
  return fake.rank < 0 || fake.rank == (rank ? atoi(rank) : 1);
}
static int fails(const char *call, int result) {
  int i = 0;
  const char *rest;
  while (i < fake.ncall && strcmp(fake.name[i], call)) i++;
  if (i == fake.ncall) fake.name[fake.ncall++] = call;
  fake.calls[i]++;
  if (meant("TG_FAKE_NCCL_DIE", call, fake.calls[i], &rest)) raise(rest ? atoi(rest + 1) : SIGKILL);
  if (!meant("TG_FAKE_NCCL_FAIL", call, fake.calls[i], &rest)) return OK;
  return rest ? atoi(rest + 1) : result;
}
/* Of a communicator that is used: it may have failed, or be in progress. */
static int use(NcclComm c, const char *call) {
  NcclComm at = fake.comms;
  while (at && at != c) at = at->next;
  if (!at || c->aborted) return nccl_misuse("%s of no communicator", call), INVALID_ARGUMENT;
  if (c->error) return nccl_misuse("%s of a communicator that has failed", call), INVALID_USAGE;
  if (c->busy) return nccl_misuse("%s of a communicator that is in progress", call), INVALID_USAGE;
  return c->error = fails(call, SYSTEM_ERROR);
}

/* When the device's context ends: tg keeps the library. */
static void at_end(void) {
  int left = 0;
  for (NcclComm c = fake.comms; c; c = c->next) left++;
  if (left) nccl_misuse("not freed: %d communicators", left);
  if (fake.depth) nccl_misuse("%d groups were not closed", fake.depth);
  const char *path = getenv("TG_FAKE_NCCL_COUNT");
  FILE *f = path && fake.rank >= 0 ? fopen(path, "a") : NULL;
  for (int i = 0; f && i < fake.ncall; i++) fprintf(f, "%d %s %d\n", fake.rank, fake.name[i], fake.calls[i]);
  if (f) fclose(f);
}
/* The driver that tg has open, for as long as that. */
static void find_driver(void) {
  const char *path = getenv("TG_CUDA_DRIVER");
  void *driver = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD) : NULL;
  if (!driver) return;
  fake.queue = (FakeQueue *)dlsym(driver, "fake_queue");
  fake.on_device = (FakeOnDevice *)dlsym(driver, "fake_on_device");
  FakeAtEnd *at_context_end = (FakeAtEnd *)dlsym(driver, "fake_at_end");
  if (at_context_end) at_context_end(at_end);
  dlclose(driver);
}

/* ---- exchanges --------------------------------------------------------------------------------------------------- */
static void release(NcclComm c) {
  for (NcclComm *at = &fake.comms; *at; at = &(*at)->next)
    if (*at == c) {
      *at = c->next;
      break;
    }
  if (c->users == 0) free(c);
}
static void drop(void *ctx) {
  Exchange *e = ctx;
  NcclComm c = e->comm;
  for (int i = 0; i < e->n && e->sum; i++)
    if (!e->move[i].sends) free(e->move[i].at);
  free(e->move);
  free(e);
  if (--c->users == 0 && c->aborted) free(c);
}
static bool touches(const void *ctx, const char *lo, const char *hi) {
  const Exchange *e = ctx;
  bool any = e->sum && e->sum < hi && e->sum + e->count > lo;
  for (int i = 0; i < e->n; i++) any |= e->move[i].at < hi && e->move[i].at + e->move[i].bytes > lo;
  return any && !e->comm->aborted;
}
/* From the last rank to the first: another order than tg's own. */
static void add_up(Exchange *e) {
  const Move *own = NULL;
  for (int i = 0; i < e->n; i++)
    if (e->move[i].sends) own = &e->move[i];
  int type = own->type;
  if (own->at != e->sum) memcpy(e->sum, own->at, own->bytes);
  for (int i = e->n - 1; i >= 0; i--) {
    const Move *m = &e->move[i];
    if (m->sends) continue;
    for (size_t k = 0; k < e->count; k++) {
      if (type == NCCL_F64) ((double *)(void *)e->sum)[k] += ((const double *)(const void *)m->at)[k];
      if (type == NCCL_F32) ((float *)(void *)e->sum)[k] += ((const float *)(const void *)m->at)[k];
    }
  }
}
static int step(void *ctx) {
  Exchange *e = ctx;
  bool all = true;
  if (e->comm->aborted || e->comm->error) return 0;
  for (int i = 0; i < e->n && !e->began; i++)
    if (e->move[i].sends && !message_put(e->comm, &e->move[i])) return 999;
  e->began = true;
  for (int i = 0; i < e->n; i++) {
    Move *m = &e->move[i];
    if (m->sends || m->done) continue;
    int r = message_take(e->comm, m);
    if (r < 0) e->comm->error = REMOTE_ERROR;
    if (r < 0) return 0;
    m->done = r > 0;
    all &= m->done;
  }
  if (!all) return FAKE_NOT_YET;
  if (e->sum) add_up(e);
  return 0;
}
static void hand_over(NcclComm c) {
  Exchange *e = c->waiting;
  c->waiting = NULL;
  if (!e) return;
  c->users++;
  if (fake.queue(c->stream, &(FakeWork){step, touches, drop, e})) c->error = INTERNAL_ERROR;
}
static Exchange *exchange_new(NcclComm c) {
  Exchange *e = calloc(1, sizeof *e);
  *e = (Exchange){.comm = c, .move = calloc(MAX_MOVES, sizeof *e->move)};
  return e;
}
static void add_move(Exchange *e, bool sends, int peer, Kind kind, int type, const void *at, size_t bytes) {
  NcclComm c = e->comm;
  long number = sends ? c->sent[peer]++ : c->received[peer]++;
  e->move[e->n++] = (Move){sends, false, peer, number, kind, type, (char *)(uintptr_t)at, bytes};
}
static int in_progress(NcclComm c) {
  c->busy = BUSY;
  return IN_PROGRESS;
}

/* ---- communicators ----------------------------------------------------------------------------------------------- */
int ncclGetVersion(int *version) {
  const char *s = getenv("TG_FAKE_NCCL_VERSION");
  *version = s ? atoi(s) : 22304;
  return fails("ncclGetVersion", SYSTEM_ERROR);
}
const char *ncclGetErrorString(int r) {
  static const char *const text[] = {
      "no error",         "unhandled cuda error", "unhandled system error", "internal error",
      "invalid argument", "invalid usage",        "remote process exited",  "NCCL operation in progress"};
  return r >= 0 && r < 8 ? text[r] : "unknown result code";
}
const char *ncclGetLastError(NcclComm c) { return ""; }

int ncclGetUniqueId(NcclId *id) {
  const char *dir = getenv("TG_FAKE_NCCL_DIR");
  memset(id, 0, sizeof *id);
  snprintf(id->bytes, sizeof id->bytes, "%s/fake-nccl-XXXXXX", dir ? dir : "/tmp");
  int r = fails("ncclGetUniqueId", SYSTEM_ERROR);
  return r ? r : mkdtemp(id->bytes) ? OK : SYSTEM_ERROR;
}
int ncclCommInitRankConfig(NcclComm *comm, int nrank, NcclId id, int rank, NcclConfig *config) {
  *comm = NULL;
  fake.rank = rank;
  if (!fake.queue) find_driver();
  if (!fake.queue || nrank < 1 || nrank > MAX_RANKS || rank < 0 || rank >= nrank ||
      config->magic != (unsigned)NCCL_MAGIC || config->blocking)
    return INVALID_ARGUMENT;
  NcclComm c = calloc(1, sizeof *c);
  snprintf(c->folder, sizeof c->folder, "%s", id.bytes);
  c->rank = rank, c->nrank = nrank, c->next = fake.comms;
  fake.comms = c;
  *comm = c;
  c->error = fails("ncclCommInitRankConfig", SYSTEM_ERROR);
  if (c->error) return c->error;
  return rank_arrives(c, "here") ? in_progress(c) : SYSTEM_ERROR;
}
int ncclCommGetAsyncError(NcclComm c, int *state) {
  NcclComm at = fake.comms;
  while (at && at != c) at = at->next;
  if (!at || c->aborted) return nccl_misuse("ncclCommGetAsyncError of no communicator"), INVALID_ARGUMENT;
  int r = fails("ncclCommGetAsyncError", REMOTE_ERROR);
  if (r) c->error = r;
  if (!c->joined && !c->error && ranks_arrived(c, "here") < c->nrank) return *state = IN_PROGRESS, OK;
  c->joined = true;
  if (c->busy && --c->busy == 0 && !c->error) hand_over(c);
  *state = c->error ? c->error : c->busy ? IN_PROGRESS : OK;
  return OK;
}
int ncclCommFinalize(NcclComm c) {
  int r = use(c, "ncclCommFinalize");
  if (r) return r;
  if (c->users) nccl_misuse("ncclCommFinalize with work under way, which tg has waited for");
  c->finalized = true;
  return in_progress(c);
}
int ncclCommDestroy(NcclComm c) {
  int r = use(c, "ncclCommDestroy");
  if (r) return r;
  if (!c->finalized) nccl_misuse("ncclCommDestroy before ncclCommFinalize");
  rank_arrives(c, "left");
  if (ranks_arrived(c, "left") == c->nrank) folder_clear(c, true);
  c->aborted = true;
  release(c);
  return OK;
}
int ncclCommAbort(NcclComm c) {
  NcclComm at = fake.comms;
  while (at && at != c) at = at->next;
  if (!at || c->aborted) return nccl_misuse("ncclCommAbort of no communicator"), INVALID_ARGUMENT;
  int r = fails("ncclCommAbort", SYSTEM_ERROR);
  if (c->waiting) {
    c->users++;
    drop(c->waiting);
  }
  c->aborted = true;
  rank_arrives(c, "left");
  if (ranks_arrived(c, "left") == c->nrank) folder_clear(c, false);
  release(c);
  return r;
}

/* ---- groups, messages, collectives ------------------------------------------------------------------------------- */
static int usable(const void *at, size_t count, int type, const char *call) {
  if (count && type_bytes(type) && fake.on_device(at) &&
      fake.on_device((const char *)at + count * type_bytes(type) - 1))
    return OK;
  nccl_misuse("%s of a buffer that is not on the device, or is empty", call);
  return INVALID_ARGUMENT;
}
int ncclGroupStart(void) {
  int r = fails("ncclGroupStart", SYSTEM_ERROR);
  if (!r) fake.depth++;
  return r;
}
int ncclGroupEnd(void) {
  if (!fake.depth) return nccl_misuse("ncclGroupEnd without a start"), INVALID_USAGE;
  int r = fails("ncclGroupEnd", SYSTEM_ERROR);
  Exchange *e = fake.group;
  NcclComm c = fake.group_comm;
  fake.depth--;
  fake.group = NULL, fake.group_comm = NULL;
  if (!e) return r;
  c->waiting = e, c->stream = fake.group_stream;
  if (r) c->error = r;
  return c->error ? c->error : in_progress(c);
}
static int message(bool sends, const void *at, size_t count, int type, int peer, NcclComm c, void *stream,
                   const char *call) {
  int r = fake.group && fake.group_comm == c ? (c->error = fails(call, SYSTEM_ERROR)) : use(c, call);
  if (!r) r = usable(at, count, type, call);
  if (!r && (peer < 0 || peer >= c->nrank || peer == c->rank)) r = INVALID_ARGUMENT;
  if (!r && !fake.depth) nccl_misuse("%s outside of a group: two that send to each other would wait for ever", call);
  if (r || !fake.depth) return r ? r : INVALID_USAGE;
  if (!fake.group) fake.group = exchange_new(c), fake.group_comm = c, fake.group_stream = stream;
  if (fake.group_comm != c || fake.group_stream != stream || fake.group->n == MAX_MOVES) return INVALID_USAGE;
  add_move(fake.group, sends, peer, KIND_MESSAGE, type, at, count * type_bytes(type));
  return OK;
}
int ncclSend(const void *from, size_t count, int type, int to, NcclComm c, void *stream) {
  return message(true, from, count, type, to, c, stream, "ncclSend");
}
int ncclRecv(void *to, size_t count, int type, int from, NcclComm c, void *stream) {
  return message(false, to, count, type, from, c, stream, "ncclRecv");
}
static int collective(NcclComm c, Exchange *e, void *stream) {
  if (fake.depth) return nccl_misuse("collectives in groups are not played"), c->users++, drop(e), INVALID_USAGE;
  c->waiting = e, c->stream = stream;
  return in_progress(c);
}
int ncclAllGather(const void *from, void *to, size_t count, int type, NcclComm c, void *stream) {
  int r = use(c, "ncclAllGather");
  size_t bytes = count * type_bytes(type);
  if (!r) r = usable(from, count, type, "ncclAllGather");
  if (!r) r = usable(to, count * (size_t)c->nrank, type, "ncclAllGather");
  if (!r && (const char *)from != (char *)to + bytes * (size_t)c->rank) r = INVALID_USAGE; /* only in place is played */
  if (r) return r;
  Exchange *e = exchange_new(c);
  for (int p = 0; p < c->nrank; p++) {
    if (p == c->rank) continue;
    add_move(e, true, p, KIND_GATHER, type, from, bytes);
    add_move(e, false, p, KIND_GATHER, type, (char *)to + bytes * (size_t)p, bytes);
  }
  return collective(c, e, stream);
}
int ncclAllReduce(const void *from, void *to, size_t count, int type, int op, NcclComm c, void *stream) {
  int r = use(c, "ncclAllReduce");
  size_t bytes = count * type_bytes(type);
  if (!r) r = usable(from, count, type, "ncclAllReduce");
  if (!r) r = usable(to, count, type, "ncclAllReduce");
  if (!r && (op != NCCL_SUM || (type != NCCL_F32 && type != NCCL_F64))) r = INVALID_USAGE; /* only this is played */
  if (r) return r;
  Exchange *e = exchange_new(c);
  for (int p = 0; p < c->nrank; p++) {
    if (p == c->rank) continue;
    add_move(e, true, p, KIND_SUM, type, from, bytes);
    add_move(e, false, p, KIND_SUM, type, malloc(bytes), bytes);
  }
  e->sum = to, e->count = count;
  return collective(c, e, stream);
}
