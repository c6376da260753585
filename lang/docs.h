/* Documentation: what `?name` shows, and the examples in ## comments that `tg test` runs.
 * Texts live in the arena given. */
#ifndef TG_LANG_DOCS_H
#define TG_LANG_DOCS_H
#include "lang/ast.h"

typedef struct {
  Name name;            /* of the item documented, also a model's member; NULL for the file's documentation */
  const char *expr;     /* after `>>> `; lines `... more` that follow are joined to it by newlines */
  const char *expected; /* the lines below, up to the next example or an empty line, each with its newline; may be "" */
  Span span;            /* of the first line of the expression */
} DocExample;

/* All examples of a parsed file, in order; returns their number. `file` is an AST_FILE. */
int docs_examples(const Diags *d, Arena *a, const Ast *file, DocExample **out);
/* The top-level item that defines `name` (the last one): AST_DEF, AST_MODEL, AST_ARGDECL, AST_EXPORT or AST_BIND;
 * or NULL. Its documentation is ->doc. */
const Ast *docs_find(const Ast *file, const char *name);
/* "def f(x: [N], k: int = 3) -> [N] where N > k", on one line; "model M(a)(x: [..., a])"; "arg lr = 1e-3";
 * "x = ...". */
char *docs_signature(const Diags *d, Arena *a, const Ast *item);
#endif
