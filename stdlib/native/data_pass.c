/* Passes: where the rows of batches come from.
 *
 *   direct   a set with random access that costs no more than copying: rows go straight to where they are wanted
 *   chunks   else: whole batches are read into a chunk, by the caller, or ahead of it by a thread into a ring of them
 * when the set is slow. A chunk holds a multiple of the batch, so no batch lies in two; only the last is short
 *
 * What is read depends on nothing but the set, the keys and the position, so the thread changes no bit. A fault waits
 * in the ring behind the rows that were read before it. */
#include "stdlib/native/data_pass.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RING = 4, CHUNK_BYTES = 1 << 18, RING_BYTES = 64 << 20 };

typedef struct Chunk {
  void **to;
  int64_t n;
  Fault fault;
} Chunk;

struct DataPassRun {
  DataPass pass;
  DataIter *it;
  int64_t size, number, left; /* left: rows not yet given, of a direct pass */
  bool direct, ended;         /* ended: the chunk in hand is the last */
  int64_t chunk_rows;
  Chunk chunk[RING];
  int nchunk, head, filled; /* the ring: `filled` chunks from `head` on */
  int64_t off;              /* rows of chunk[head] already given */
  bool have;                /* chunk[head] is in hand */
  bool threaded, quit;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t more, room;
};

/* ---- chunks ---------------------------------------------------------------------------------------------------- */

static void read_chunk(DataPassRun *p, Chunk *c) {
  c->fault.id = E_NONE;
  c->n = data_iter_read(p->it, p->chunk_rows, c->to, &c->fault);
  if (c->n < 0) c->n = 0;
}

static void *read_ahead(void *ctx) {
  DataPassRun *p = ctx;
  bool last = false;
  pthread_mutex_lock(&p->lock);
  while (!last) {
    while (p->filled == p->nchunk && !p->quit) pthread_cond_wait(&p->room, &p->lock);
    if (p->quit) break;
    Chunk *c = &p->chunk[(p->head + p->filled) % p->nchunk];
    pthread_mutex_unlock(&p->lock);
    read_chunk(p, c);
    last = c->n < p->chunk_rows || c->fault.id;
    pthread_mutex_lock(&p->lock);
    p->filled++;
    pthread_cond_signal(&p->more);
  }
  pthread_mutex_unlock(&p->lock);
  return NULL;
}

/* Puts the next chunk in hand. */
static bool next_chunk(DataPassRun *p, Fault *f) {
  if (!p->threaded) {
    if (p->have) p->have = false;
    read_chunk(p, &p->chunk[0]);
    p->filled = 1;
  } else {
    pthread_mutex_lock(&p->lock);
    if (p->have) {
      p->head = (p->head + 1) % p->nchunk, p->filled--, p->have = false;
      pthread_cond_signal(&p->room);
    }
    while (!p->filled) {
      struct timespec until;
      clock_gettime(CLOCK_REALTIME, &until);
      until.tv_nsec += 100000000;
      if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
      if (pthread_cond_timedwait(&p->more, &p->lock, &until) == ETIMEDOUT && data_stopped(p->pass.set->table)) {
        pthread_mutex_unlock(&p->lock);
        fault_set(f, R_INTERRUPT, (Span){0}, "interrupted");
        return false;
      }
    }
    pthread_mutex_unlock(&p->lock);
  }
  Chunk *c = &p->chunk[p->head];
  p->have = true, p->off = 0;
  p->ended = c->n < p->chunk_rows || c->fault.id;
  return true;
}

static bool make_chunks(DataPassRun *p, Fault *f) {
  DataSet *s = p->pass.set;
  size_t batch = s->row_bytes * (size_t)p->size;
  int64_t k = batch < CHUNK_BYTES ? (int64_t)(CHUNK_BYTES / (batch + 1)) + 1 : 1;
  if (k > 1024 / p->size + 1) k = 1024 / p->size + 1;
  p->chunk_rows = k * p->size;
  size_t bytes = s->row_bytes * (size_t)p->chunk_rows;
  p->threaded = s->slow && !s->borrows;
  p->nchunk = p->threaded ? (bytes * RING > RING_BYTES ? 2 : RING) : 1;
  for (int c = 0; c < p->nchunk; c++) {
    p->chunk[c].to = calloc((size_t)s->nfield + 1, sizeof(void *));
    if (!p->chunk[c].to) return data_no_memory(f, bytes);
    for (int k = 0; k < s->nfield; k++)
      if (!(p->chunk[c].to[k] = malloc(s->bytes[k] * (size_t)p->chunk_rows + 1))) return data_no_memory(f, bytes);
  }
  return true;
}

/* ---- passes ---------------------------------------------------------------------------------------------------- */

DataSet *data_pass_set(const DataPassRun *p) { return p->pass.set; }
int64_t data_pass_size(const DataPassRun *p) { return p->size; }
void data_pass_tensors(DataPassRun *p, const Tensor *tensor) { p->pass.tensor = tensor; }

void data_pass_free(DataPassRun *p) {
  if (!p) return;
  if (p->threaded) {
    atomic_store(&p->pass.stop, true);
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_signal(&p->room);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
  }
  data_iter_close(p->it);
  for (int c = 0; c < RING; c++) {
    for (int k = 0; p->chunk[c].to && k < p->pass.set->nfield; k++) free(p->chunk[c].to[k]);
    free(p->chunk[c].to);
  }
  pthread_mutex_destroy(&p->lock);
  pthread_cond_destroy(&p->more), pthread_cond_destroy(&p->room);
  free(p->pass.key);
  free(p);
}

DataPassRun *data_pass_new(DataSet *s, int64_t size, int64_t skip, const int64_t *key, const Tensor *tensor, Fault *f) {
  DataPassRun *p = calloc(1, sizeof *p);
  int64_t *keys = calloc((size_t)s->nkey + 1, sizeof *keys), rows;
  if (!p || !keys) {
    free(p), free(keys);
    return data_no_memory(f, sizeof *p), NULL;
  }
  if (s->nkey) memcpy(keys, key, sizeof *key * (size_t)s->nkey);
  p->pass = (DataPass){.set = s, .key = keys, .tensor = tensor};
  p->size = size, p->number = skip < 0 ? 0 : skip;
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->more, NULL), pthread_cond_init(&p->room, NULL);
  bool ok = (p->it = data_iter_open(s, &p->pass, 0, 0, f)) != NULL;
  if (ok && p->number) {
    if (__builtin_mul_overflow(p->number, size, &rows)) rows = INT64_MAX;
    ok = data_iter_skip(p->it, rows, f) >= 0;
  }
  p->direct = s->random && !s->slow;
  p->left = s->length < 0 ? INT64_MAX : ok ? s->length - p->it->at : 0;
  if (ok && !p->direct) {
    ok = make_chunks(p, f);
    if (p->threaded && (!ok || pthread_create(&p->thread, NULL, read_ahead, p))) {
      p->threaded = false; /* no thread to be had: the caller reads */
      p->nchunk = 1;
    }
  }
  if (!ok) data_pass_free(p), p = NULL;
  return p;
}

int64_t data_pass_ready(DataPassRun *p, Fault *f) {
  if (p->direct) return p->left < p->size ? p->left : p->size;
  if (!p->have && !next_chunk(p, f)) return -1;
  while (p->off == p->chunk[p->head].n) {
    if (p->chunk[p->head].fault.id) return *f = p->chunk[p->head].fault, -1;
    if (p->ended) return 0;
    if (!next_chunk(p, f)) return -1;
  }
  int64_t n = p->chunk[p->head].n - p->off;
  if (n < p->size && p->chunk[p->head].fault.id)
    return *f = p->chunk[p->head].fault, -1; /* no short batch before a fault */
  return n < p->size ? n : p->size;
}

bool data_pass_take(DataPassRun *p, int64_t n, void *const *to, int64_t *number, Fault *f) {
  DataSet *s = p->pass.set;
  int64_t ready = data_pass_ready(p, f);
  if (ready < 0) return false;
  if (ready < n) {
    fault_set(f, R_NATIVE, (Span){0}, "%s: %lld rows are left of this pass, %lld were asked for", s->what,
              (long long)ready, (long long)n);
    return false;
  }
  *number = p->number++;
  if (p->direct) {
    p->left -= n;
    return data_iter_read(p->it, n, to, f) == n;
  }
  Chunk *c = &p->chunk[p->head];
  for (int k = 0; k < s->nfield; k++)
    memcpy(to[k], (char *)c->to[k] + s->bytes[k] * (size_t)p->off, s->bytes[k] * (size_t)n);
  p->off += n;
  return true;
}
