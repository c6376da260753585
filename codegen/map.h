/* Pointer -> int map in an arena: open addressing, never shrinks, no deletion. Absent keys read as -1. */
#ifndef TG_CODEGEN_MAP_H
#define TG_CODEGEN_MAP_H
#include "graph/arena.h"
#include <stdint.h>

typedef struct NumMap {
  Arena *arena;
  const void **key;
  int *val;
  int n, cap; /* cap: 0 or a power of two */
} NumMap;

static inline uint32_t nummap_hash_(const void *p) {
  uint64_t h = (uint64_t)(uintptr_t)p * 0x9E3779B97F4A7C15u;
  return (uint32_t)(h >> 32);
}

static inline int nummap_slot_(const NumMap *m, const void *key) {
  uint32_t i = nummap_hash_(key) & (uint32_t)(m->cap - 1);
  while (m->key[i] && m->key[i] != key) i = (i + 1) & (uint32_t)(m->cap - 1);
  return (int)i;
}

static inline int nummap_get(const NumMap *m, const void *key) {
  if (!m->cap) return -1;
  int i = nummap_slot_(m, key);
  return m->key[i] ? m->val[i] : -1;
}

static inline void nummap_put(NumMap *m, const void *key, int val) {
  if (2 * (m->n + 1) > m->cap) {
    NumMap big = {m->arena, NULL, NULL, m->n, m->cap ? 2 * m->cap : 16};
    big.key = arena_array(m->arena, const void *, big.cap);
    big.val = arena_array(m->arena, int, big.cap);
    for (int i = 0; i < m->cap; i++)
      if (m->key[i]) {
        int s = nummap_slot_(&big, m->key[i]);
        big.key[s] = m->key[i];
        big.val[s] = m->val[i];
      }
    *m = big;
  }
  int i = nummap_slot_(m, key);
  if (!m->key[i]) m->n++;
  m->key[i] = key;
  m->val[i] = val;
}
#endif
