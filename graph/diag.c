/* Sources, recording of diagnostics, unwinding; rendering is in render.c. */
#include "graph/diag.h"
#include <stdlib.h>
#include <string.h>

Diags *diags_new(Arena *a) {
  Diags *d = arena_new_of(a, Diags);
  d->arena = a;
  return d;
}

uint32_t diag_source(Diags *d, const char *name, const char *text, size_t len) {
  Source *s = arena_new_of(d->arena, Source);
  s->name = arena_strdup(d->arena, name);
  s->text = arena_strndup(d->arena, text, len);
  s->len = len;
  vec_push(d->arena, &d->source, s);
  return (uint32_t)d->source.n;
}

/* In quiet mode nothing is linked in: the Diag returned is a scratch one, so that callers may add notes to it. */
static Diag *add(Diags *d, ErrId id, bool warning, Span at, const char *fmt, va_list ap) {
  Diag *g = arena_new_of(d->arena, Diag);
  g->id = id;
  g->warning = warning;
  g->span = at;
  if (d->quiet) {
    g->msg = "";
    return g;
  }
  g->msg = arena_vprintf(d->arena, fmt, ap);
  *(d->last ? &d->last->next : &d->first) = g;
  d->last = g;
  *(warning ? &d->nwarning : &d->nerror) += 1;
  return g;
}

Diag *diag_add(Diags *d, ErrId id, Span at, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  Diag *g = add(d, id, false, at, fmt, ap);
  va_end(ap);
  return g;
}

Diag *diag_warn(Diags *d, ErrId id, Span at, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  Diag *g = add(d, id, true, at, fmt, ap);
  va_end(ap);
  return g;
}

void diag_note(Diags *d, Diag *to, Span at, const char *fmt, ...) {
  if (d->quiet) return;
  Note *n = arena_new_of(d->arena, Note), **end = &to->notes;
  va_list ap;
  va_start(ap, fmt);
  n->text = arena_vprintf(d->arena, fmt, ap);
  va_end(ap);
  n->span = at;
  while (*end) end = &(*end)->next;
  *end = n;
}

void diag_help(Diags *d, Diag *to, const char *fmt, ...) {
  if (d->quiet) return;
  va_list ap;
  va_start(ap, fmt);
  to->help = arena_vprintf(d->arena, fmt, ap);
  va_end(ap);
}

void diag_fail(Diags *d, ErrId id, Span at, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  add(d, id, false, at, fmt, ap);
  va_end(ap);
  diag_unwind(d);
}

/* Without a boundary nobody can go on: what is recorded is shown, and the program did not compile. */
void diag_unwind(Diags *d) {
  if (d->boundary) longjmp(*d->boundary, 1);
  diag_print_all(d, stderr, false);
  exit(3);
}

void diag_bug(const char *file, int line, const char *fmt, ...) {
  fflush(stdout);
  fprintf(stderr, "tg: internal error: ");
  va_list ap;
  va_start(ap, fmt);
  vfprintf(stderr, fmt, ap);
  va_end(ap);
  fprintf(stderr, " (%s:%d)\n", file, line);
  abort();
}

Span span_join(Span a, Span b) {
  if (!a.file) return b;
  if (!b.file || a.file != b.file) return a;
  return (Span){a.file, a.lo < b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi};
}

void diags_clear(Diags *d) {
  d->first = d->last = NULL;
  d->nerror = d->nwarning = 0;
}
