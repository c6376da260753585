/* Diagnostics: the drawn form, windows, tabs and wide characters, unwinding, positions. */
#include "graph/diag.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static Arena *arena;
static Diags *d;
static void up(void) {
  arena = arena_new();
  d = diags_new(arena);
}
static void down(void) { arena_free(arena); }
TestSuite(graph_diag, .init = up, .fini = down);

static char *render(const Diag *g) {
  char *text = NULL;
  size_t n;
  FILE *f = open_memstream(&text, &n);
  diag_print(d, g, f, false);
  fclose(f);
  char *kept = arena_strndup(arena, text, n);
  free(text);
  return kept;
}
static uint32_t source(const char *text) { return diag_source(d, "a.tg", text, strlen(text)); }

Test(graph_diag, drawn_as_documented) {
  uint32_t f = source("a = zeros(2, 3)\nb = zeros(4, 3)\nprint(a + b)\n");
  Diag *g = diag_add(d, S_MISMATCH, (Span){f, 38, 43}, "sizes do not agree: [2, 3] + [4, 3]");
  diag_note(d, g, (Span){f, 4, 15}, "2 comes from zeros(2, 3)");
  diag_help(d, g, "slice one of them");
  cr_assert_str_eq(render(g), "error[S001]: sizes do not agree: [2, 3] + [4, 3]\n"
                              " --> a.tg:3:7\n"
                              "  |\n"
                              "3 | print(a + b)\n"
                              "  |       ^^^^^\n"
                              "note: 2 comes from zeros(2, 3)\n"
                              " --> a.tg:1:5\n"
                              "  |\n"
                              "1 | a = zeros(2, 3)\n"
                              "  |     ^^^^^^^^^^^\n"
                              "help: slice one of them\n");
}

Test(graph_diag, tabs_and_wide_characters) {
  uint32_t f = source("\tx = \"\xe6\x97\xa5\xe6\x9c\xac\" + y\n"); /* two wide characters */
  Diag *g = diag_add(d, N_UNKNOWN, (Span){f, 16, 17}, "y");
  char *s = render(g);
  cr_assert(strstr(s, "--> a.tg:1:13\n"), "%s", s);
  cr_assert(strstr(s, "1 |     x = \"\xe6\x97\xa5\xe6\x9c\xac\" + y\n"), "%s", s);
  cr_assert(strstr(s, "  |                  ^\n"), "%s", s);
}

Test(graph_diag, bad_bytes_are_replaced) {
  const char text[] = "a\0b\xff + c\n";
  uint32_t f = diag_source(d, "a.tg", text, sizeof text - 1);
  char *s = render(diag_add(d, P_CHAR, (Span){f, 3, 4}, "a byte \xff of \x1b[31m"));
  cr_assert(strstr(s, "1 | a\xef\xbf\xbd"
                      "b\xef\xbf\xbd + c\n  |    ^\n"),
            "%s", s);
  cr_assert_not(strchr(s, 0x1b));
}

Test(graph_diag, long_lines_are_windowed) {
  size_t n = 5000000;
  char *text = malloc(n);
  memset(text, 'x', n);
  memcpy(text + n / 2, "HERE", 4);
  uint32_t f = diag_source(d, "a.tg", text, n);
  free(text);
  char *s = render(diag_add(d, P_SYNTAX, (Span){f, (uint32_t)n / 2, (uint32_t)n / 2 + 4}, "long"));
  cr_assert_lt(strlen(s), 600);
  char *line = strstr(s, "1 | "), *caret = strstr(line, "  | ");
  cr_assert_eq(strstr(line, "HERE") - line, strchr(caret, '^') - caret);
  cr_assert_eq(strncmp(line + 4, "...", 3), 0);
  cr_assert(strstr(caret, "^^^^\n"));
  char *e = render(diag_add(d, P_SYNTAX, (Span){f, (uint32_t)n, (uint32_t)n}, "end"));
  cr_assert_lt(strlen(e), 600);
}

Test(graph_diag, ends_and_many_lines) {
  uint32_t f = source("f(1,\n  2\n");
  char *s = render(diag_add(d, P_SYNTAX, (Span){f, 1, 8}, "two lines"));
  cr_assert(strstr(s, "1 | f(1,\n  |  ^^^\n"), "%s", s);
  s = render(diag_add(d, P_SYNTAX, (Span){f, 9, 9}, "end of file"));
  cr_assert(strstr(s, "--> a.tg:3:1\n"), "%s", s);
  s = render(diag_add(d, P_SYNTAX, (Span){0}, "nowhere"));
  cr_assert_str_eq(s, "error[P001]: nowhere\n");
  s = render(diag_warn(d, N_UNUSED, (Span){f, 0, 1}, "w"));
  cr_assert(strstr(s, "warning[N002]: w\n") == s);
}

Test(graph_diag, unwinds_to_the_innermost_boundary) {
  volatile int outer = 0, inner = 0;
  DIAG_TRY(d) {
    DIAG_TRY(d) { diag_fail(d, T_TYPE, (Span){0}, "x"); }
    DIAG_CAUGHT(d) { inner++; }
    DIAG_END(d);
    diag_fail(d, T_ARGS, (Span){0}, "y");
  }
  DIAG_CAUGHT(d) { outer++; }
  DIAG_END(d);
  cr_assert(inner == 1 && outer == 1 && d->nerror == 2 && !d->boundary);
  cr_assert(d->first->id == T_TYPE && d->last->id == T_ARGS);
  d->quiet = true;
  DIAG_TRY(d) { diag_fail(d, T_TYPE, (Span){0}, "x"); }
  DIAG_CAUGHT(d) { outer++; }
  DIAG_END(d);
  cr_assert(outer == 2 && d->nerror == 2);
}

Test(graph_diag, error_table) {
  cr_assert_eq(err_by_code("s001"), S_MISMATCH);
  cr_assert_eq(err_by_code("nope"), ERR_COUNT);
  for (int i = 1; i < ERR_COUNT; i++) {
    cr_assert(*err_info[i].code && *err_info[i].title && *err_info[i].doc);
    cr_assert_eq(err_by_code(err_info[i].code), (ErrId)i, "%s twice", err_info[i].code);
    cr_assert_eq(!*err_info[i].bad, !*err_info[i].good, "%s", err_info[i].code);
  }
}

Test(graph_diag, spans_join) {
  Span s = span_join((Span){1, 5, 7}, (Span){1, 2, 6});
  cr_assert(s.file == 1 && s.lo == 2 && s.hi == 7);
  s = span_join((Span){0}, (Span){1, 2, 6});
  cr_assert(s.file == 1 && s.lo == 2);
}
