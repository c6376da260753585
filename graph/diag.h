/* Sources, spans and diagnostics.
 *
 * A Span is a half-open byte range of one registered Source. A user's mistake is a Diag: an error code (a row of
 * errors.def), a span, a message, notes ("128 comes from MLP(128)", each with its own span) and at most one
 * suggestion. `diag_fail` records the diagnostic and unwinds (longjmp) to the innermost DIAG_TRY boundary, of which
 * there is one per top-level definition, so that one file reports several. Never unwind through LLVM or user callbacks.
 *
 * Ownership: a Diags owns its sources and texts (its arena). Not thread-safe: front end only. */
#ifndef TG_GRAPH_DIAG_H
#define TG_GRAPH_DIAG_H
#include "arena.h"
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct {
  uint32_t file, lo, hi;
} Span; /* file 0: no position */

typedef enum {
#define ERR(id, code, title, doc, bad, good) id,
#include "errors.def"
#undef ERR
  ERR_COUNT
} ErrId;

typedef struct {
  const char *code, *title, *doc, *bad, *good;
} ErrInfo;
extern const ErrInfo err_info[ERR_COUNT];
ErrId err_by_code(const char *code); /* ERR_COUNT if unknown; case-insensitive */

typedef struct Note {
  Span span;
  const char *text;
  struct Note *next;
} Note;
typedef struct Diag {
  ErrId id;
  bool warning;
  Span span;
  const char *msg;
  Note *notes;      /* in the order added */
  const char *help; /* one suggestion, or NULL */
  bool open;        /* of two sizes, `apart` from each other, that a caller's sizes may make equal */
  int64_t apart;
  struct Diag *next;
} Diag;

typedef struct Source {
  const char *name, *text;
  size_t len;
} Source;

typedef struct Diags Diags;
struct Diags {
  Arena *arena;
  VEC(Source *) source; /* source.at[span.file - 1] */
  Diag *first, *last;
  int nerror, nwarning;
  jmp_buf *boundary; /* innermost DIAG_TRY */
  bool quiet;        /* trial elaboration: unwind without recording */
};

Diags *diags_new(Arena *a);
/* Registers text (copied); returns the file id for spans. */
uint32_t diag_source(Diags *d, const char *name, const char *text, size_t len);
Diag *diag_add(Diags *d, ErrId id, Span at, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
Diag *diag_warn(Diags *d, ErrId id, Span at, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void diag_note(Diags *d, Diag *to, Span at, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void diag_help(Diags *d, Diag *to, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* diag_add and unwind. */
_Noreturn void diag_fail(Diags *d, ErrId id, Span at, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Unwinds without adding (after diag_add with notes). */
_Noreturn void diag_unwind(Diags *d);
/* A mistake of ours: prints "internal error: ..." with file and line and aborts. */
_Noreturn void diag_bug(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define bug(...) diag_bug(__FILE__, __LINE__, __VA_ARGS__)

/* DIAG_TRY(d) { ... } DIAG_CAUGHT(d) { ... } DIAG_END(d)
 * Locals changed inside and read after an unwind must be volatile. No return/break/goto out of either block. */
#define DIAG_TRY(d)                                                                                                    \
  do {                                                                                                                 \
    jmp_buf here_, *outer_ = (d)->boundary;                                                                            \
    (d)->boundary = &here_;                                                                                            \
    if (!setjmp(here_)) {
#define DIAG_CAUGHT(d)                                                                                                 \
  (d)->boundary = outer_;                                                                                              \
  }                                                                                                                    \
  else {                                                                                                               \
    (d)->boundary = outer_;
#define DIAG_END(d)                                                                                                    \
  }                                                                                                                    \
  }                                                                                                                    \
  while (0)

void span_position(const Diags *d, Span s, const char **file, int *line, int *col); /* 1-based; col in characters */
Span span_join(Span a, Span b);
/* Renders as drawn above its definition in diag.c: message, code, file:line:col, source line, carets, notes, help.
 * `color`: ANSI. */
void diag_print(const Diags *d, const Diag *g, FILE *out, bool color);
void diag_print_all(const Diags *d, FILE *out, bool color);
void diags_clear(Diags *d); /* forgets diagnostics, keeps sources */
#endif
