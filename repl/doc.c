/* `tg doc`: documentation as Markdown. Without an argument, every name in scope with its first sentence, and the
 * library's modules; of a module or a file, its definitions with their ## comments; of a name, what `?name` shows. */
#include "cli.h"
#include "lang/docs.h"
#include <stdlib.h>
#include <string.h>

/* Documentation, its examples as code: an example ends at an empty line or with the text. */
static void put_text(const char *doc) {
  bool code = false;
  for (const char *s = doc; *s;) {
    size_t n = strcspn(s, "\n");
    bool example = !strncmp(s, ">>>", 3);
    if (example && !code) puts("```");
    if (!n && code) puts("```");
    code = (code || example) && n;
    printf("%.*s\n", (int)n, s);
    s += n + (s[n] == '\n');
  }
  if (code) puts("```");
}

static bool is_public(const char *name) { return name && name[0] != '_'; }

/* `all`: also what has no documentation. */
static void put_item(Host *h, const Ast *item, bool all) {
  const Ast *t = item->kind == AST_EXPORT ? item->a : item;
  bool shown = t->kind == AST_DEF || t->kind == AST_MODEL || t->kind == AST_ARGDECL;
  const char *doc = item->doc ? item->doc : t->doc;
  if (!shown || !is_public(t->name) || (!doc && !all)) return;
  const char *head = docs_signature(h->diags, h->arena, item);
  bool export = item->kind == AST_EXPORT && !strncmp(head, "def ", 4);
  printf("\n### `%s%s`\n", export ? "export " : "", export ? head + 4 : head);
  if (doc) putchar('\n'), put_text(doc);
}

static int put_file(const HostOptions *o, const char *name, const char *text, size_t len, bool all) {
  Host *h = host_new(o);
  Ast *file = parse_file(h->diags, h->arena, session_names(h->session), diag_source(h->diags, name, text, len));
  int code = h->diags->nerror ? EXIT_COMPILE : EXIT_OK;
  host_report(h);
  if (!code) {
    printf("# %s\n", name);
    if (file->doc) putchar('\n'), put_text(file->doc);
    for (int k = 0; k < file->nkid; k++) put_item(h, file->kid[k], all);
  }
  host_free(h);
  return code;
}

/* The signature, and the first sentence of what is said below it. */
static void put_line(const char *doc) {
  size_t head = strcspn(doc, "\n");
  printf("- `%.*s`", (int)head, doc);
  const char *s = doc + head + (doc[head] == '\n');
  if (*s && strncmp(s, ">>>", 3)) fputs(": ", stdout);
  for (; *s && strncmp(s, ">>>", 3) && *s != '\n'; s++) {
    bool stop = *s == '.' && (!s[1] || strchr(" \n", s[1])), line = s[1] == '\n';
    if (stop) break;
    putchar(*s);
    if (line && s[2] && s[2] != '\n' && strncmp(s + 2, ">>>", 3)) putchar(' '), s++;
  }
  putchar('\n');
}

static void put_overview(const HostOptions *o) {
  Host *h = host_new(o);
  const char **name;
  int n = session_complete(h->session, "", &name, h->arena);
  printf("# tg\n\n`tg doc NAME` says more of a name, `tg doc MODULE` and `tg doc FILE` of all that one defines.\n\n## "
         "In scope\n\n");
  for (int k = 0; k < n; k++) {
    char *doc = session_doc(h->session, name[k], h->arena);
    if (doc && is_public(name[k])) put_line(doc);
  }
  printf("\n## Modules\n\n");
  for (int k = 0; k < library_count(); k++)
    printf("- `%s`%s\n", library_name(k), session_in_scope(library_name(k)) ? ": in scope" : "");
  host_free(h);
}

/* A name in scope, or m.name of a module. */
static int put_name(const HostOptions *o, const char *name) {
  Host *h = host_new(o);
  size_t n = strcspn(name, "."), len;
  char *module = arena_strndup(h->arena, name, n);
  if (name[n] && library_module(NULL, module, &len)) {
    char *import = arena_printf(h->arena, "import %s\n", module);
    host_unit(h, "<doc>", import, strlen(import), UNIT_ENTRY);
  }
  char *doc = session_doc(h->session, name, h->arena);
  if (doc)
    puts(doc);
  else
    fprintf(stderr, "tg: no documentation of `%s`; `tg doc` lists what there is\n", name);
  host_free(h);
  return doc ? EXIT_OK : EXIT_USAGE;
}

static bool is_path(const char *s) {
  size_t n = strlen(s);
  return strchr(s, '/') || (n > 3 && !strcmp(s + n - 3, ".tg"));
}

int doc_run(const HostOptions *o, const char *what) {
  size_t len;
  const char *module = what ? library_module(NULL, what, &len) : NULL;
  if (!what) return put_overview(o), EXIT_OK;
  if (module) return put_file(o, what, module, len, false);
  if (!is_path(what)) return put_name(o, what);
  char *text = host_read_file(what, &len);
  if (!text) return EXIT_USAGE;
  int code = put_file(o, what, text, len, true);
  free(text);
  return code;
}
