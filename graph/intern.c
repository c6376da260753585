/* Hash-consing tables. */
#include "graph/internal.h"
#include <string.h>

uint64_t hash_bytes(uint64_t h, const void *p, size_t n) {
  const unsigned char *s = p;
  uint64_t w;
  for (; n >= 8; n -= 8, s += 8) {
    memcpy(&w, s, 8);
    h = hash_mix(h, w);
  }
  w = n;
  for (size_t i = 0; i < n; i++) w = w << 8 | s[i];
  return hash_mix(h, w);
}

void *intern_find(const Interner *t, uint64_t hash, const void *key, InternEq eq) {
  if (!t->cap) return NULL;
  for (uint32_t i = (uint32_t)hash & (t->cap - 1); t->item[i]; i = (i + 1) & (t->cap - 1))
    if (t->hash[i] == hash && eq(t->item[i], key)) return t->item[i];
  return NULL;
}

static void place(Interner *t, uint64_t hash, void *item) {
  uint32_t i = (uint32_t)hash & (t->cap - 1);
  while (t->item[i]) i = (i + 1) & (t->cap - 1);
  t->item[i] = item;
  t->hash[i] = hash;
}

void intern_add(Arena *a, Interner *t, uint64_t hash, void *item) {
  if (t->n + 1 > t->cap / 3 * 2) {
    Interner old = *t;
    if (old.cap > UINT32_MAX / 2) bug("interning table full");
    t->cap = old.cap ? old.cap * 2 : 256;
    t->item = arena_array(a, void *, t->cap);
    t->hash = arena_array(a, uint64_t, t->cap);
    for (uint32_t i = 0; i < old.cap; i++)
      if (old.item[i]) place(t, old.hash[i], old.item[i]);
  }
  place(t, hash, item);
  t->n++;
}
