/* `tg test`: the >>> examples of ## comments, each run after the definitions (not the other statements) of its file,
 * and compared with the lines below it. Without files: the library's. */
#include "cli.h"
#include "lang/docs.h"
#include <stdlib.h>
#include <string.h>

typedef struct Tally {
  int passed, failed;
} Tally;

/* Definitions, imports and arguments of a file, as one text. */
static char *definitions(Arena *a, const char *text, const Ast *file) {
  char *out = arena_strdup(a, "");
  for (int i = 0; i < file->nkid; i++) {
    const Ast *k = file->kid[i];
    if (k->kind != AST_DEF && k->kind != AST_MODEL && k->kind != AST_IMPORT && k->kind != AST_ARGDECL) continue;
    out = arena_printf(a, "%s%.*s\n", out, (int)(k->span.hi - k->span.lo), text + k->span.lo);
  }
  return out;
}
/* An example of the library may name the module, or what it defines; some names are there already. */
static char *members(Arena *a, const char *module, const Ast *file) {
  if (session_in_scope(module)) return arena_strdup(a, "");
  char *out = arena_printf(a, "import %s\n", module);
  for (int i = 0; i < file->nkid; i++)
    if (file->kid[i]->kind == AST_DEF || file->kid[i]->kind == AST_MODEL)
      out = arena_printf(a, "%s%s = %s.%s\n", out, file->kid[i]->name, module, file->kid[i]->name);
  return out;
}
/* Lines compared without trailing blanks; empty lines at either end do not count. */
static bool same_text(const char *a, const char *b) {
  for (;;) {
    size_t na = strcspn(a, "\n"), nb = strcspn(b, "\n"), ta = na, tb = nb;
    while (ta && a[ta - 1] == ' ') ta--;
    while (tb && b[tb - 1] == ' ') tb--;
    if (ta != tb || strncmp(a, b, ta)) return false;
    if (!a[na] || !a[na + 1]) return b[nb + (b[nb] == '\n')] == 0;
    if (!b[nb]) return false;
    a += na + 1, b += nb + 1;
  }
}

static void run_example(Host *h, const DocExample *e, const char *where, Tally *t) {
  char *got = NULL;
  size_t len;
  FILE *out = open_memstream(&got, &len), *was = h->o.out;
  h->o.out = h->nh.out = out;
  int code = host_unit(h, "<example>", e->expr, strlen(e->expr), UNIT_ENTRY);
  fclose(out);
  h->o.out = h->nh.out = was;
  const char *file;
  int line, col;
  span_position(h->diags, e->span, &file, &line, &col);
  if (code == EXIT_OK && same_text(got, e->expected))
    t->passed++;
  else {
    t->failed++;
    printf("FAIL %s:%d: %s\nwant:\n%sgot:\n%s", where, line, e->expr, e->expected, got);
    if (*got && got[len - 1] != '\n') putchar('\n');
  }
  free(got);
}

static void run_file(const HostOptions *options, const char *name, const char *text, size_t len, bool is_module,
                     Tally *t) {
  HostOptions o = *options;
  o.inner = is_module;
  Host *h = host_new(&o);
  uint32_t id = diag_source(h->diags, name, text, len);
  Ast *file = parse_file(h->diags, h->arena, session_names(h->session), id);
  int before = t->failed;
  if (h->diags->nerror) t->failed++;
  host_report(h);
  DocExample *ex;
  int n = docs_examples(h->diags, h->arena, file, &ex);
  if (n && t->failed == before) {
    char *defs = is_module ? members(h->arena, name, file) : definitions(h->arena, text, file);
    if (*defs && host_unit(h, name, defs, strlen(defs), UNIT_ENTRY) != EXIT_OK) t->failed++;
    for (int i = 0; i < n; i++) run_example(h, &ex[i], name, t);
  }
  host_free(h);
}

int test_run(const HostOptions *o, int n, char **path) {
  Tally t = {0};
  for (int i = 0; i < n; i++) {
    size_t len;
    char *text = host_read_file(path[i], &len);
    if (!text) return EXIT_USAGE;
    run_file(o, path[i], text, len, false, &t);
    free(text);
  }
  for (int i = 0; !n && i < library_count(); i++) {
    size_t len;
    const char *text = library_module(NULL, library_name(i), &len);
    run_file(o, library_name(i), text, len, true, &t);
  }
  printf("%d passed, %d failed\n", t.passed, t.failed);
  return t.failed ? EXIT_RUN : EXIT_OK;
}
