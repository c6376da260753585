/* PtrMap: pointer -> pointer, open addressing, in an arena. Zero-initialise with the arena: `PtrMap m = {.arena = a};`.
 * Keys are not NULL. Iteration order is not defined: passes must not depend on it. */
#ifndef TG_GRAPH_PTRMAP_H
#define TG_GRAPH_PTRMAP_H
#include "arena.h"
#include <stdint.h>

typedef struct PtrMap {
  Arena *arena;
  const void **key;
  void **val;
  uint32_t cap, n;
} PtrMap;

static inline uint32_t ptrmap_slot(const PtrMap *m, const void *k) {
  uint64_t h = ((uint64_t)(uintptr_t)k >> 4) * 0x9E3779B97F4A7C15u;
  uint32_t i = (uint32_t)(h >> 32) & (m->cap - 1);
  while (m->key[i] && m->key[i] != k) i = (i + 1) & (m->cap - 1);
  return i;
}
static inline void *ptrmap_get(const PtrMap *m, const void *k) { return m->cap ? m->val[ptrmap_slot(m, k)] : NULL; }
static inline int ptrmap_has(const PtrMap *m, const void *k) { return m->cap && m->key[ptrmap_slot(m, k)] == k; }
static inline void ptrmap_put(PtrMap *m, const void *k, void *v) {
  if (2 * (m->n + 1) > m->cap) {
    PtrMap old = *m;
    m->cap = old.cap ? 2 * old.cap : 64;
    m->key = arena_array(m->arena, const void *, m->cap);
    m->val = arena_array(m->arena, void *, m->cap);
    for (uint32_t i = 0; i < old.cap; i++)
      if (old.key[i]) {
        uint32_t s = ptrmap_slot(m, old.key[i]);
        m->key[s] = old.key[i], m->val[s] = old.val[i];
      }
  }
  uint32_t s = ptrmap_slot(m, k);
  if (!m->key[s]) m->n++;
  m->key[s] = k, m->val[s] = v;
}
#endif
