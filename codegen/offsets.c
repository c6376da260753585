/* The arena: slots to offsets, so that slots whose lives meet do not overlap.
 *
 * What is alive at one time must lie somewhere: the largest sum of the bytes alive at a time is a lower bound
 * (Plan.live_bytes). Finding the least arena is hard in general, so a few orders are tried, each slot going to the
 * tightest gap between those of its time that have their place; the first order that meets the bound ends the search:
 *
 *   by birth    the arena grows as the program runs; good for chains of layers
 *   by size     large tensors first, small ones into what is left
 *   by life     long-lived ones first at the bottom: weights' gradients, residual branches */
#include "codegen/plan.h"
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64, SEARCH_MAX = 4000 };

typedef struct Life {
  int slot, start, end;
  size_t bytes, offset;
} Life;

static size_t align(size_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }
static int first(int64_t a, int64_t b) { return (a > b) - (a < b); }
static int then(int a, int b) { return a ? a : b; }

static int by_birth(const void *a, const void *b) {
  const Life *x = a, *y = b;
  return then(first(x->start, y->start), first(x->slot, y->slot));
}
static int by_size(const void *a, const void *b) {
  const Life *x = a, *y = b;
  return then(first((int64_t)y->bytes, (int64_t)x->bytes), by_birth(a, b));
}
static int by_life(const void *a, const void *b) {
  const Life *x = a, *y = b;
  return then(first(y->end - (int64_t)y->start, x->end - (int64_t)x->start), by_size(a, b));
}

/* Bytes alive at the time when most are; l by birth. */
static size_t most_alive(int n, const Life *l, int *active) {
  size_t most = 0;
  for (int i = 0, nactive = 0; i < n; i++) {
    int keep = 0;
    size_t sum = l[i].bytes;
    for (int j = 0; j < nactive; j++)
      if (l[active[j]].end >= l[i].start) sum += l[active[keep++] = active[j]].bytes;
    nactive = keep;
    active[nactive++] = i;
    if (sum > most) most = sum;
  }
  return most;
}

/* Places l in its order; the size of the arena. placed: room for n, those that have their place, by offset; born: the
 * order is that of birth, so what has died meets no one any more. */
static size_t place(int n, Life *l, int *placed, bool born) {
  size_t all = 0;
  for (int i = 0, nplaced = 0; i < n; i++) {
    size_t at = 0, best = SIZE_MAX, best_at = 0;
    int keep = 0;
    for (int j = 0; j < nplaced; j++)
      if (!born || l[placed[j]].end >= l[i].start) placed[keep++] = placed[j];
    nplaced = keep;
    for (int j = 0; j <= nplaced; j++) { /* the tightest gap between those of its time, else the end */
      const Life *x = j < nplaced ? &l[placed[j]] : NULL;
      if (x && (x->end < l[i].start || l[i].end < x->start)) continue;
      size_t gap = !x ? SIZE_MAX - 1 : x->offset > at ? x->offset - at : 0;
      if (gap >= l[i].bytes && gap < best) best = gap, best_at = at;
      if (x && x->offset + x->bytes > at) at = x->offset + x->bytes;
    }
    l[i].offset = best_at;
    int to = nplaced++;
    for (; to > 0 && l[placed[to - 1]].offset > best_at; to--) placed[to] = placed[to - 1];
    placed[to] = i;
    if (best_at + l[i].bytes > all) all = best_at + l[i].bytes;
  }
  return all;
}

/* One arena: the slots that are lent, or all others. *bound: the bytes alive at the time when most are. */
static size_t place_slots(Planner *p, bool lent, size_t *bound) {
  static int (*const order[])(const void *, const void *) = {by_birth, by_size, by_life};
  int nslot = p->slot.n, n = 0;
  Life *life = arena_array(p->a, Life, nslot), *best = arena_array(p->a, Life, nslot);
  int *room = arena_array(p->a, int, nslot + 1);
  for (int s = 0; s < nslot; s++) {
    const Slot *x = &p->slot.at[s];
    if (x->into < 0 && x->kind == SL_ARENA && x->lent == lent)
      life[n++] = (Life){s, x->start, x->end, align(x->bytes), 0};
  }
  qsort(life, (size_t)n, sizeof *life, by_birth);
  size_t least = SIZE_MAX;
  *bound = most_alive(n, life, room);
  for (int k = 0; k < 3 && least > *bound && (k == 0 || n <= SEARCH_MAX); k++) {
    qsort(life, (size_t)n, sizeof *life, order[k]);
    size_t all = place(n, life, room, k == 0);
    if (all >= least) continue;
    least = all;
    memcpy(best, life, sizeof *life * (size_t)n);
  }
  for (int i = 0; i < n; i++) p->slot.at[best[i].slot].offset = best[i].offset;
  return n ? least : 0;
}

void plan_offsets(Planner *p) {
  size_t own, lent;
  p->p->arena_bytes = place_slots(p, false, &own);
  p->p->lent_bytes = place_slots(p, true, &lent);
  p->p->live_bytes = own + lent;
}
