/* What the parser's tests share: a text parsed, with its tree and messages as text. */
#ifndef TG_TESTS_LANG_PARSE_H
#define TG_TESTS_LANG_PARSE_H
#include "lang/ast.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
  Arena *a;
  Diags *d;
  uint32_t file;
  Ast *ast;
  char *tree; /* ast_print's text without the last newline */
} Parsed;

static inline Parsed parse_text_n(const char *text, size_t n) {
  Parsed p = {.a = arena_new()};
  p.d = diags_new(p.a);
  p.file = diag_source(p.d, "test.tg", text, n);
  p.ast = parse_file(p.d, p.a, names_new(p.a), p.file);
  char *s;
  size_t len;
  FILE *out = open_memstream(&s, &len);
  ast_print(out, p.ast);
  fclose(out);
  while (len && s[len - 1] == '\n') s[--len] = 0;
  p.tree = arena_strdup(p.a, s);
  free(s);
  return p;
}
static inline Parsed parse_text(const char *text) { return parse_text_n(text, strlen(text)); }
static inline void parsed_free(Parsed *p) { arena_free(p->a); }

/* The formatted text, or NULL; lives in p->a. */
static inline char *format_text(Parsed *p, const char *text) {
  return format_source(p->d, p->a, diag_source(p->d, "format.tg", text, strlen(text)));
}
#endif
