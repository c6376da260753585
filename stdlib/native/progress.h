/* Training as its user sees it: a bar on a terminal, a line for each epoch elsewhere; Ctrl-C; non-finite numbers.
 *
 * Natives (effects):
 *   fit_begin   attributes: epochs, steps, batches an epoch, -1 where unknown. Ctrl-C ends the fit from here on
 *   fit_step    in: epoch, batch within it, step in all i64, loss f32, rows i64; out: go on? bool
 *   fit_epoch   attributes: names; in: epoch i64, the named values f32..: the epoch's line
 *   fit_end     in: steps made i64
 *   fit_finite  in: loss is finite, gradient is finite bool, loss f32, epoch, step i64. The commit point of a step: a
 *               fault R_NAN when one is not */
#ifndef TG_STDLIB_NATIVE_PROGRESS_H
#define TG_STDLIB_NATIVE_PROGRESS_H
#include "graph/native.h"
#include <stdio.h>

/* What Ctrl-C means. Set by a signal's handler and read by whoever runs: no locks. */
typedef struct FitSignal {
  volatile int fitting;   /* fits that are running: a first Ctrl-C ends them, no more */
  volatile int requested; /* it came */
} FitSignal;

typedef struct Progress Progress;
/* `err`: where it shows; with `tty`, a bar of at most `width` columns is redrawn there. */
Progress *progress_new(FILE *err, bool tty, int width, FitSignal *signal); /* NULL: out of memory */
void progress_free(Progress *p);
/* Takes the bar off the screen before other text is written; it comes back by itself. p may be NULL. */
void progress_hide(Progress *p);
/* A run has ended, well or not. */
void progress_end_run(Progress *p);

enum { PROGRESS_NATIVES = 6 };
extern const Native progress_natives[PROGRESS_NATIVES];
#endif
