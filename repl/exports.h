/* A script's exports between elaboration and code: what `tg check` looks at and what `tg build` goes on from.
 *
 * An export is elaborated on stand-ins, a *shot* for each number of rows that is asked for. Two shots at odd numbers of
 * rows, the *probes*, show before anything runs whether an open size B can be left open. */
#ifndef TG_REPL_EXPORTS_H
#define TG_REPL_EXPORTS_H
#include "host.h"
#include "lang/export.h"

/* An export at one number of rows. */
typedef struct Shot {
  int64_t rows;
  Export x;
  int nout;   /* the export's results, then the next values of states */
  Node **out; /* values, rewritten as constants take their place */
  Region r;
} Shot;

typedef enum {
  ROWS_FIXED, /* no size is open */
  ROWS_ANY,   /* rows do not meet: any number of them, cut into the plans */
  ROWS_LISTED /* rows meet: the numbers that --batch names, each with its plan */
} RowsKind;

typedef struct Made {
  Shot probe[2]; /* the first alone when FIXED */
  RowsKind kind;
  bool *out_batched;
  int nplan; /* plans' shots by ascending rows, then the golden one */
  Shot *shot;
} Made;

enum { NBLOCK = 20, MORE_BLOCKS = 16 };

typedef struct Exports {
  Host *h;
  Graph *g;
  Arena *a;
  const char *name; /* of the library: the prefix of its functions */
  Region unit;      /* the script's effects */
  int n;
  Made *made;
  int nstate;
  ExportState *state;
  int nlisted; /* numbers that --batch names, ascending */
  int64_t listed[MORE_BLOCKS];
  int nrows; /* these and the usual blocks, ascending */
  int64_t rows[NBLOCK + MORE_BLOCKS];
  VEC(Node *) frontier;
} Exports;

/* "3,32", or NULL. False with a message: not such a list. */
bool exports_rows(Exports *x, const char *list);
/* After a successful unit: all that can be said against the exports without running anything. False with diagnostics.
 */
bool exports_check(Exports *x);
/* The shots of the plans and of the golden calls. False with diagnostics. */
bool exports_shoot(Exports *x);
/* Of the values of n shots: what does not depend on inputs but is read by what does, or is a result itself. */
void exports_frontier(Exports *x, int n, Shot *const *shot);
/* An input or a state of exports, no constant. */
bool exports_input(const Node *n);
#endif
