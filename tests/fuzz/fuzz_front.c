/* libFuzzer target of the front end: any bytes parse to a tree or to messages, both printable; what parses can be
 * formatted, which keeps the program (format_source checks that itself), and formatting twice changes nothing. */
#include "lang/ast.h"
#include "lang/docs.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const char *a, const char *b) {
  if (b && !strcmp(a, b)) return;
  fprintf(stderr, "formatting is not idempotent:\n--- once\n%s--- twice\n%s---\n", a, b ? b : "(an error)");
  abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Arena *a = arena_new();
  Diags *d = diags_new(a);
  uint32_t file = diag_source(d, "fuzz.tg", (const char *)data, size);
  FILE *out = fopen("/dev/null", "w");
  Ast *t = parse_file(d, a, names_new(a), file);
  ast_print(out, t);
  diag_print_all(d, out, true);
  DocExample *examples;
  docs_examples(d, a, t, &examples);
  ParseState state = parse_complete((const char *)data, size);
  if ((d->nerror > 0) != (state != PARSE_DONE) && state != PARSE_MORE) abort();
  if (!d->nerror) {
    char *once = format_source(d, a, file);
    if (!once) abort();
    uint32_t again = diag_source(d, "formatted.tg", once, strlen(once));
    same(once, format_source(d, a, again));
  }
  fclose(out);
  arena_free(a);
  return 0;
}
