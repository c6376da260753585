/* See lent.h. */
#include "dist/lent.h"
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif
enum { PAGE = 4096 };

void *lent_take(Lent *l, size_t bytes) {
  size_t at = 0, want = (bytes + PAGE - 1) / PAGE * PAGE;
  int k = 0;
  if (!l->base || !bytes || want < bytes || l->n == LENT_MOST) return NULL;
  while (k < l->n && l->piece[k].at - at < want) at = l->piece[k].at + l->piece[k].bytes, k++;
  if (at > l->bytes || l->bytes - at < want) return NULL;
  /* memory of a file system may run out, and then a touch would kill the process */
  if (madvise(l->base + at, want, MADV_POPULATE_WRITE)) {
    madvise(l->base + at, want, MADV_REMOVE);
    return NULL;
  }
  memmove(&l->piece[k + 1], &l->piece[k], sizeof *l->piece * (size_t)(l->n++ - k));
  l->piece[k] = (struct LentPiece){at, want};
  return l->base + at;
}

void lent_give(Lent *l, void *piece) {
  for (int k = 0; k < l->n; k++) {
    if (l->base + l->piece[k].at != piece) continue;
    madvise(piece, l->piece[k].bytes, MADV_REMOVE);
    memmove(&l->piece[k], &l->piece[k + 1], sizeof *l->piece * (size_t)(--l->n - k));
    return;
  }
}

bool lent_has(const Lent *l, const void *at, size_t bytes) {
  uintptr_t lo = (uintptr_t)l->base, p = (uintptr_t)at;
  return l->base && p >= lo && p - lo <= l->bytes && bytes <= l->bytes - (p - lo);
}
