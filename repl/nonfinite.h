/* Where a number of a refused training step became nan or inf first. */
#ifndef TG_REPL_NONFINITE_H
#define TG_REPL_NONFINITE_H
#include "repl/host.h"

/* The step is computed again from what it began with, and the first operation with finite operands and a result that is
 * none gets the fault's place; the message says what it was. Leaves the fault as it is when it can't be told. */
void nonfinite_explain(Host *h, Graph *g, const PlanRefusal *r, Fault *fault);
#endif
