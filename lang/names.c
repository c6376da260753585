/* Names: one pointer for one spelling, for the whole session. Open addressing, power-of-two table, never deleted. */
#include "lang/ast.h"
#include <string.h>

typedef struct {
  uint64_t hash;
  Name text;
} Slot;
struct Names {
  Arena *arena;
  Slot *slot;
  size_t cap, n; /* n <= cap / 2 */
  uint32_t next_id;
};

/* FNV-1a. */
static uint64_t hash_text(const char *s, size_t len) {
  uint64_t h = 1469598103934665603u;
  for (size_t i = 0; i < len; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
  return h ^ h >> 29;
}

static Slot *slots(Arena *a, size_t cap) { return arena_alloc(a, cap * sizeof(Slot)); }

Names *names_new(Arena *session) {
  Names *n = arena_new_of(session, Names);
  n->arena = session;
  n->cap = 1024;
  n->slot = slots(session, n->cap);
  n->next_id = 1;
  return n;
}

static void grow(Names *n) {
  Slot *old = n->slot;
  size_t oldcap = n->cap;
  Slot *new = slots(n->arena, oldcap * 2);
  for (size_t i = 0; i < oldcap; i++) {
    if (!old[i].text) continue;
    size_t j = old[i].hash & (oldcap * 2 - 1);
    while (new[j].text) j = (j + 1) & (oldcap * 2 - 1);
    new[j] = old[i];
  }
  n->slot = new;
  n->cap = oldcap * 2;
}

Name name_of(Names *n, const char *s, size_t len) {
  uint64_t h = hash_text(s, len);
  size_t i = h & (n->cap - 1);
  for (; n->slot[i].text; i = (i + 1) & (n->cap - 1))
    if (n->slot[i].hash == h && !strncmp(n->slot[i].text, s, len) && !n->slot[i].text[len]) return n->slot[i].text;
  Name text = arena_strndup(n->arena, s, len);
  n->slot[i] = (Slot){h, text};
  if (++n->n * 2 > n->cap) grow(n);
  return text;
}

uint32_t names_next_id(Names *n) { return n->next_id++; }
