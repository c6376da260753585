/* The formatter: so far only the check that the text parses. */
#include "lang/parser.h"
char *format_source(Diags *d, Arena *a, uint32_t file) {
  Parser p;
  parser_init(&p, d, a, names_new(a), file);
  Ast *f = parser_run(&p);
  if (!f || p.nerror) return NULL;
  return arena_strndup(a, p.lex.text, p.lex.len);
}
