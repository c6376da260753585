/* Passes: where the rows of batches come from.
 *
 *   direct   a set with random access that costs no more than copying: rows go straight to where they are wanted
 *   chunks   else: whole batches are read into a chunk, by the caller, or ahead of it by a thread into a ring of them
 * when the set is slow. A chunk holds a multiple of the batch, so no batch lies in two; only the last is short
 *
 * A rank that wants certain rows of each batch only (a window, known from its first batch on) has only those read,
 * where the set gives rows in any order; a last, short batch is read as a whole.
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
  int64_t n, lo, hi; /* of each whole batch in it the rows from lo to hi were read */
  Fault fault;
} Chunk;

struct DataPassRun {
  DataPass pass;
  DataIter *it;
  int64_t looked;             /* the number of the batch that data_pass_look has given; -1: none */
  int64_t size, number, left; /* left: rows not yet given, of a direct pass */
  int64_t lo, hi;             /* the window in a batch; behind the lock where there is a thread */
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

static bool pass_over(DataIter *it, int64_t n, Fault *f) { return !n || data_iter_skip(it, n, f) == n; }

/* Rows from lo to hi of the next `rows`; `at`: where these begin in `to`. */
static bool read_window(DataPassRun *p, int64_t rows, int64_t lo, int64_t hi, void *const *to, int64_t at, Fault *f) {
  DataSet *s = p->pass.set;
  void **here = calloc((size_t)s->nfield + 1, sizeof *here);
  if (!here) return data_no_memory(f, sizeof *here);
  for (int k = 0; k < s->nfield; k++) here[k] = (char *)to[k] + s->bytes[k] * (size_t)(at + lo);
  bool ok =
      pass_over(p->it, lo, f) && data_iter_read(p->it, hi - lo, here, f) == hi - lo && pass_over(p->it, rows - hi, f);
  free(here);
  return ok;
}

static void read_chunk(DataPassRun *p, Chunk *c) {
  DataSet *s = p->pass.set;
  c->fault.id = E_NONE;
  if (p->threaded) pthread_mutex_lock(&p->lock);
  c->lo = p->lo, c->hi = p->hi;
  if (p->threaded) pthread_mutex_unlock(&p->lock);
  if (!s->random || s->length < 0 || (c->lo == 0 && c->hi == p->size)) {
    c->lo = 0, c->hi = p->size;
    c->n = data_iter_read(p->it, p->chunk_rows, c->to, &c->fault);
    if (c->n < 0) c->n = 0;
    return;
  }
  for (c->n = 0; c->n < p->chunk_rows; c->n += p->size) {
    int64_t left = s->length - p->it->at, rows = left < p->size ? left : p->size;
    bool whole = rows < p->size; /* the last one: other rows of it may be wanted */
    if (!read_window(p, rows, whole ? 0 : c->lo, whole ? rows : c->hi, c->to, c->n, &c->fault)) return;
    if (whole) {
      c->n += rows;
      return;
    }
  }
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
  p->size = p->hi = size, p->number = skip < 0 ? 0 : skip;
  p->looked = -1;
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

/* Rows that were not read ahead, for a chunk was read with another window. */
static bool read_apart(DataPassRun *p, int64_t first, int64_t n, void *const *to, Fault *f) {
  DataIter *it = data_iter_open(p->pass.set, &p->pass, 0, 0, f);
  bool ok = it && pass_over(it, first, f) && data_iter_read(it, n, to, f) == n;
  data_iter_close(it);
  return ok;
}

static void set_window(DataPassRun *p, int64_t n, int64_t lo, int64_t hi) {
  if (n < p->size) return;
  if (p->threaded) pthread_mutex_lock(&p->lock);
  p->lo = lo, p->hi = hi;
  if (p->threaded) pthread_mutex_unlock(&p->lock);
}

bool data_pass_take(DataPassRun *p, int64_t n, int64_t lo, int64_t hi, void *const *to, int64_t *number, Fault *f) {
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
    return pass_over(p->it, lo, f) && data_iter_read(p->it, hi - lo, to, f) == hi - lo && pass_over(p->it, n - hi, f);
  }
  Chunk *c = &p->chunk[p->head];
  set_window(p, n, lo, hi);
  bool have = n < p->size || (lo >= c->lo && hi <= c->hi); /* short batches are read whole */
  if (!have && !read_apart(p, *number * p->size + lo, hi - lo, to, f)) return false;
  for (int k = 0; have && hi > lo && k < s->nfield; k++)
    memcpy(to[k], (char *)c->to[k] + s->bytes[k] * (size_t)(p->off + lo), s->bytes[k] * (size_t)(hi - lo));
  p->off += n;
  return true;
}

bool data_pass_look(DataPassRun *p, int64_t n, int64_t lo, int64_t hi, void *const *to) {
  Fault f = {0};
  p->looked = -1;
  if (n != p->size || data_pass_ready(p, &f) != n) return false;
  int64_t number = p->number, left = p->left, off = p->off, at = p->it->at, same;
  bool ok = data_pass_take(p, n, lo, hi, to, &same, &f);
  p->number = number, p->off = off;
  if (p->direct) p->left = left, p->it->at = at; /* else the iterator has read chunks, and stays where it is */
  if (ok) p->looked = number;
  return ok;
}

bool data_pass_claim(DataPassRun *p, int64_t n, int64_t *number) {
  if (p->looked != p->number || n != p->size) return false;
  p->looked = -1;
  *number = p->number++;
  if (p->direct)
    p->left -= n, p->it->at += n;
  else
    p->off += n;
  return true;
}
