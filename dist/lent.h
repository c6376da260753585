/* A rank's window: memory that the other ranks of its host see, lent out in pieces (comm_lend). */
#ifndef TG_DIST_LENT_H
#define TG_DIST_LENT_H
#include <stdbool.h>
#include <stddef.h>

enum { LENT_MOST = 64 };
typedef struct Lent {
  char *base; /* of shared memory; NULL: there is no window */
  size_t bytes;
  int n;
  struct LentPiece {
    size_t at, bytes; /* whole pages */
  } piece[LENT_MOST]; /* by address */
} Lent;

/* Zeroed, whole pages, which the system has granted: touching them can't fail. NULL: there is no more. */
void *lent_take(Lent *l, size_t bytes);
/* Gives a piece back, to the system, too. */
void lent_give(Lent *l, void *piece);
/* Do these bytes lie in the window? */
bool lent_has(const Lent *l, const void *at, size_t bytes);
#endif
