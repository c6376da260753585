/* The prompt's session: what entries show, keep, forget, redefine, complete and document. */
#include "session_support.h"
#include <criterion/criterion.h>

#define SHOWS(p, entry, want)                                                                                          \
  do {                                                                                                                 \
    const char *code_ = ENTRY(p, entry);                                                                               \
    cr_expect_str_eq(code_, "", "%s fails with %s", entry, code_);                                                     \
    cr_expect_str_eq((p)->text, want, "%s printed\n%s", entry, (p)->text);                                             \
  } while (0)
#define FAILS(p, entry, want)                                                                                          \
  do {                                                                                                                 \
    const char *code_ = ENTRY(p, entry);                                                                               \
    cr_expect_str_eq(code_, want, "%s gives `%s`", entry, code_);                                                      \
  } while (0)

Test(session, shows_and_hides) {
  Prompt *p = prompt_new(0, NULL);
  SHOWS(p, "1 + 1", "2\n");
  SHOWS(p, "x = 3", "");
  SHOWS(p, "x + 1;", "");
  SHOWS(p, "ans * 10", "40\n");
  SHOWS(p, "\"text\"", "\"text\"\n");
  SHOWS(p, "x; x + 1", "4\n");
  SHOWS(p, "none", "");
  SHOWS(p, "ans", "4\n");
  SHOWS(p, "y -> y", "a function (y) -> ...\n");
  prompt_free(p);
}

Test(session, keeps_computed_values_once) {
  Prompt *p = prompt_new(0, NULL);
  SHOWS(p, "x = exp(f32([0, 0]))", "");
  cr_expect_eq(p->kept, 1);
  SHOWS(p, "y = (x, x + 1, {a: x * 2})", "");
  cr_expect_eq(p->kept, 2, "x itself is an input by now");
  SHOWS(p, "f = z -> z + x", "");
  cr_expect_eq(p->kept, 0);
  SHOWS(p, "f(y[2].a)", "f32[2]\n  3.0  3.0\n");
  prompt_free(p);
}

Test(session, failures_leave_it_as_it_was) {
  Prompt *p = prompt_new(0, NULL);
  SHOWS(p, "x = 1", "");
  FAILS(p, "x = 2; y = nope", "N001");
  SHOWS(p, "x", "1\n");
  FAILS(p, "def f(a: [N]) = a + nope", "N001");
  FAILS(p, "f(1)", "N001");
  FAILS(p, "x = 5; assert(1 == 2)", "R002");
  SHOWS(p, "x", "1\n");
  FAILS(p, "x = (", "P001");
  SHOWS(p, "x", "1\n");
  prompt_free(p);
}

Test(session, redefinition_reaches_callers) {
  Prompt *p = prompt_new(0, NULL);
  SHOWS(p, "def f(x) = g(x)", "");
  FAILS(p, "f(1)", "N001");
  SHOWS(p, "def g(x) = x + 1", "");
  SHOWS(p, "h = f", "");
  SHOWS(p, "f(1)", "2\n");
  SHOWS(p, "def g(x) = x + 100", "");
  SHOWS(p, "h(1)", "101\n");
  FAILS(p, "def g(x: [N], y: [M]) = x + y", "S001");
  SHOWS(p, "f(1)", "101\n");
  prompt_free(p);
}

Test(session, modules_from_the_library) {
  Prompt *p = prompt_new(0, NULL);
  FAILS(p, "import nothing", "M001");
  SHOWS(p, "import lib as l", "");
  SHOWS(p, "l.more(1) + l.step", "3\n");
  FAILS(p, "l.mor(1)", "N003");
  FAILS(p, "x = 1\nl.more(l)", "T001");
  const char *file;
  int line, col;
  span_position(p->diags, p->diags->first->span, &file, &line, &col);
  cr_expect_str_eq(file, "test", "a mistake inside the library is shown at the call of it");
  cr_expect_eq(line, 2);
  prompt_free(p);
}

Test(session, arguments_of_the_program) {
  static const char *const arg[] = {"n", "5", "lr", "0.5", "name", "a b"};
  static const char program[] =
      "arg n = 1\narg lr: f32 = 0.1\narg name = \"x\"\narg rest = true\nprint(n + 1, lr, name, rest)";
  Prompt *p = prompt_new(6, arg);
  cr_expect_str_eq(prompt_unit(p, program, UNIT_SCRIPT), "");
  cr_expect_str_eq(p->text, "6 0.5 a b true\n");
  prompt_free(p);
  p = prompt_new(4, arg);
  cr_expect_str_eq(prompt_unit(p, "arg n = 1\nprint(n)", UNIT_SCRIPT), "U001", "--lr is not declared");
  prompt_free(p);
  p = prompt_new(2, (const char *const[]){"n", "2.5"});
  cr_expect_str_eq(prompt_unit(p, "arg n = 1\nprint(n)", UNIT_SCRIPT), "U001", "an integer is wanted");
  cr_expect_str_eq(prompt_unit(p, "arg n = 1.0\nprint(n)", UNIT_SCRIPT), "");
  prompt_free(p);
}

Test(session, types_without_running) {
  static const struct {
    const char *text, *type;
  } cases[] = {{"1", "static 1"},
               {"0.5", "static 0.5"},
               {"true", "static true"},
               {"f32([1, 2])", "f32[2]"},
               {"f32(1)", "f32"},
               {"\"a\"", "a string"},
               {"(1, f64([[1]]))", "(1, f64[1, 1])"},
               {"{a: 1}", "{a: 1}"},
               {"x -> x", "a function (x) -> ..."},
               {"print(1)", "nothing"}};
  Prompt *p = prompt_new(0, NULL);
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    char *t = session_type(p->session, diag_source(p->diags, "t", cases[k].text, strlen(cases[k].text)), p->arena);
    cr_assert(t, "%s has no type", cases[k].text);
    cr_expect_str_eq(t, cases[k].type, "%s: %s", cases[k].text, t);
  }
  cr_expect_null(session_type(p->session, diag_source(p->diags, "t", "nope", 4), p->arena));
  SHOWS(p, "1", "1\n");
  prompt_free(p);
}

static bool offers(Prompt *p, const char *prefix, const char *name) {
  const char **at;
  int n = session_complete(p->session, prefix, &at, p->arena);
  for (int k = 0; k < n; k++)
    if (!strcmp(at[k], name)) return true;
  return false;
}

Test(session, completion_and_documentation) {
  Prompt *p = prompt_new(0, NULL);
  ENTRY(p, "## Adds.\ndef adder(x: [N], k = 2) -> [N] = x + k");
  ENTRY(p, "import lib; rec = {alpha: {beta: 1}}; t = f32([1])");
  cr_expect(offers(p, "ad", "adder"));
  cr_expect(offers(p, "is", "isnan"));
  cr_expect(offers(p, "rec.", "rec.alpha"));
  cr_expect(offers(p, "rec.alpha.b", "rec.alpha.beta"));
  cr_expect(offers(p, "lib.m", "lib.more"));
  cr_expect(offers(p, "t.sh", "t.shape"));
  cr_expect(offers(p, "wh", "while"));
  cr_expect_not(offers(p, "zz", "adder"));
  cr_expect_str_eq(session_doc(p->session, "adder", p->arena), "adder(x: [N], k = 2) -> [N]\nAdds.");
  cr_expect_str_eq(session_doc(p->session, "lib.more", p->arena), "more(x)\nOne more than x.");
  cr_expect(strstr(session_doc(p->session, "exp", p->arena), "e ^ x"));
  cr_expect_null(session_doc(p->session, "nope", p->arena));
  prompt_free(p);
}

Test(session, deep_programs_end_cleanly) {
  Prompt *p = prompt_new(0, NULL);
  FAILS(p, "def f(n) = f(n + 1)\nf(0)", "V004");
  SHOWS(p, "def g(n: int) = 0 if n == 0 else 1 + g(n - 1)\ng(900)", "900\n");
  FAILS(p, "(x -> x(x))(x -> x(x))", "V004");
  prompt_free(p);
}
