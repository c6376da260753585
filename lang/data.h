/* Data sets as values: a native set of raw rows (stdlib/native/data.h), and the functions of rows not yet applied.
 *
 *   DataV     what V_DATA holds (Value.ext): the set, how an element is made of a raw row's fields, batches. Immutable
 *   DataForm  a tree: fields in a structure, parts side by side, a mapped function. Mapped functions are elaborated where
 *             elements are used, over all rows of a batch at once, so they are compiled with what uses them
 *
 * A loop over a set: open; while *more: next; then, if there may be a short batch, rest and next with that many rows; close. */
#ifndef TG_LANG_DATA_H
#define TG_LANG_DATA_H
#include "lang/session.h"
#include "stdlib/native/data.h"

typedef struct DataForm {
  enum { FORM_LEAVES, FORM_PARTS, FORM_MAP, FORM_BATCH /* the batch itself */, FORM_POS /* its number */ } kind;
  Value *like; /* LEAVES: the structure, leaves in the order of the fields. PARTS: a tuple or record of as many items */
  int n;       /* LEAVES: fields; PARTS: parts; MAP: 1 */
  const struct DataForm **of;
  Value *f;
  Span at;
  int64_t first; /* POS: what the first batch is counted as */
} DataForm;

typedef struct DataV {
  int64_t id;
  const DataForm *form; /* of one row */
  Value *row;           /* what a row is, over stand-ins: for types */
  int nkey, ntensor;
  Value **key, **tensor; /* what a pass is given: i64 scalars, closed tensors */
  int64_t size;          /* rows a batch; 0: none */
  bool drop_last;
  const DataForm *after; /* of a batch: what was mapped after batch(n); NULL: nothing */
  Expr *skip;            /* batches that a loop leaves out, i64; NULL: none. A resumed fit's (_from) */
  Span at;
} DataV;

static inline const DataV *data_of(const Value *v) { return v->ext; }

typedef struct DataShape {
  int64_t size; /* rows a batch; 0: not batched, elements are single rows */
  int64_t full; /* full batches (or rows) in one pass; -1: known at run time only, or without end */
  int64_t tail; /* rows of the short last batch: 0 none, -1 known at run time only */
} DataShape;
DataShape data_shape(Elab *E, const Value *d);
/* Without end: repeat without a count. */
bool data_is_endless(Elab *E, const Value *d);

/* Ordered CALLs, emitted where the loop stands. open: begins a pass, leaving out the first `skip` batches (i64 scalar,
 * NULL: none); gives a handle (i64 scalar) and *more (bool scalar): a FULL batch follows. next: reads `rows` rows
 * (data_shape's size, 1 when not batched, or the tail's): the element (tensors [rows, ...] in the set's structure, or a
 * row when not batched; maps applied), *more, and *pos (i64 scalar): the number of this batch in the pass, the ones
 * left out counted, which keys random draws. rest: after the last full batch, the rows left for the tail (i64 scalar).
 * close: ends the pass (the host ends those that a fault or an interrupt left open). */
Expr *data_open(Elab *E, Value *d, Expr *skip, Span at, Expr **more);
Value *data_next(Elab *E, Value *d, Expr *handle, int64_t rows, Span at, Expr **more, Expr **pos);
Expr *data_rest(Elab *E, Value *d, Expr *handle, Span at);
void data_close(Elab *E, Value *d, Expr *handle, Span at);

/* ---- what other builtins do when they meet a set (builtin_data.c) ---- */
/* "a data set of {x: f32[28, 28], y: i32}, 60000 rows, in batches of 64" */
char *data_text(Elab *E, const Value *d);
int64_t data_len(Elab *E, const Value *d, Span at);        /* rows, or batches; T_STATIC when not known */
Value *data_member(Elab *E, Value *d, Name name, Span at); /* a column of all rows; `fields`; NULL: none */
Value *data_index(Elab *E, const Env *env, Value *d, Ast *e);
Value *data_map(Elab *E, Value *d, Value *f, Span at);
Value *data_zipped(Elab *E, Value *parts, Span at); /* a tuple or record of sets */
Value *data_enumerated(Elab *E, Value *d, Span at);
Value *data_part(Elab *E, Value *d, int64_t n, bool skip, Span at);
Value *data_repeated(Elab *E, Value *d, int64_t n, Span at); /* n < 0: without end */
/* A set of a table's number whose rows have the structure `like` (NULL: the fields' names make a record, a nameless
 * single field a tensor). */
Value *data_value(Elab *E, int64_t id, Value *like, Span at);
DataTable *data_table(Elab *E, Span at);
Value *data_of_tensors(Elab *E, Value *x, Span span, Span at);
/* A static count of at least `least`. */
int64_t data_count(Elab *E, Value *v, Call *c, int64_t least, const char *what);
/* Raw fields [rows, ...] as rows of the set's structure, mapped functions applied over all of them. */
Value *data_over_rows(Elab *E, const DataForm *f, Value **raw, int nfield, Dim rows, Span at);
/* The element made of a raw row's fields, by a row's form. */
Value *data_row_value(Elab *E, const DataForm *f, Value **leaf, int *next);
#endif
