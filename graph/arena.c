/* Bump allocation from zeroed blocks; see arena.h.
 *
 * Blocks come from calloc, so that large ones are the kernel's zero pages and cost nothing until touched. A block is
 * never moved; a request that does not fit in the current block starts a new one of twice the size (or as large as
 * needed). */
#include "graph/arena.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, FIRST_BLOCK = 4 << 10, LARGEST_BLOCK = 4 << 20 };

typedef struct Block {
  struct Block *prev;
  size_t cap, used;
} Block;
struct Arena {
  Block *block;
  size_t next_cap, bytes;
  void (*oom)(void *ctx, size_t wanted);
  void *ctx;
};

static size_t header(void) { return (sizeof(Block) + ALIGN - 1) & ~(size_t)(ALIGN - 1); }

static _Noreturn void out_of_memory(Arena *a, size_t wanted) {
  if (a && a->oom) a->oom(a->ctx, wanted);
  fprintf(stderr, "tg: out of memory (%zu bytes wanted)\n", wanted);
  exit(1);
}

Arena *arena_new(void) {
  Arena *a = calloc(1, sizeof *a);
  if (!a) out_of_memory(NULL, sizeof *a);
  a->next_cap = FIRST_BLOCK;
  return a;
}

void arena_free(Arena *a) {
  if (!a) return;
  for (Block *b = a->block, *prev; b; b = prev) {
    prev = b->prev;
    free(b);
  }
  free(a);
}

void arena_on_oom(Arena *a, void (*oom)(void *ctx, size_t wanted), void *ctx) {
  a->oom = oom;
  a->ctx = ctx;
}

static void *from_new_block(Arena *a, size_t bytes) {
  bool own = bytes > a->next_cap / 4; /* a large request gets a block of its own and leaves the current one current */
  size_t cap = own ? bytes : a->next_cap;
  Block *b = cap <= SIZE_MAX - header() ? calloc(1, header() + cap) : NULL;
  if (!b) out_of_memory(a, bytes);
  b->cap = cap;
  b->used = bytes;
  a->bytes += cap;
  if (own && a->block) {
    b->prev = a->block->prev;
    a->block->prev = b;
  } else {
    b->prev = a->block;
    a->block = b;
    if (a->next_cap < LARGEST_BLOCK) a->next_cap *= 2;
  }
  return (char *)b + header();
}

void *arena_alloc(Arena *a, size_t bytes) {
  if (bytes > SIZE_MAX - ALIGN) out_of_memory(a, bytes);
  bytes = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
  if (!bytes) bytes = ALIGN;
  Block *b = a->block;
  if (!b || b->cap - b->used < bytes) return from_new_block(a, bytes);
  void *p = (char *)b + header() + b->used;
  b->used += bytes;
  return p;
}

void *arena_copy(Arena *a, const void *src, size_t bytes) {
  void *p = arena_alloc(a, bytes);
  if (bytes) memcpy(p, src, bytes);
  return p;
}

char *arena_strndup(Arena *a, const char *s, size_t n) {
  char *p = arena_alloc(a, n + 1);
  if (n) memcpy(p, s, n);
  return p;
}

char *arena_strdup(Arena *a, const char *s) { return arena_strndup(a, s, strlen(s)); }

char *arena_vprintf(Arena *a, const char *fmt, va_list ap) {
  va_list again;
  va_copy(again, ap);
  int n = vsnprintf(NULL, 0, fmt, again);
  va_end(again);
  if (n < 0) return arena_strdup(a, "");
  char *p = arena_alloc(a, (size_t)n + 1);
  vsnprintf(p, (size_t)n + 1, fmt, ap);
  return p;
}

char *arena_printf(Arena *a, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  char *p = arena_vprintf(a, fmt, ap);
  va_end(ap);
  return p;
}

size_t arena_bytes(const Arena *a) { return a->bytes; }

void vec_grow_(Arena *a, void **at, int *cap, size_t elem, int n) {
  if (*cap > INT32_MAX / 2) out_of_memory(a, SIZE_MAX);
  int wider = *cap ? *cap * 2 : 8;
  void *p = arena_alloc(a, (size_t)wider * elem);
  if (n) memcpy(p, *at, (size_t)n * elem);
  *at = p;
  *cap = wider;
}
