/* Messages of the parser: code, position, text and help, several in one file; limits; hostile bytes. */
#include "lang_parse.h"
#include <criterion/criterion.h>

typedef struct {
  const char *text, *code;
  int line, col;
  const char *msg, *help; /* parts that must occur; NULL: no help at all */
} Case;

static void check_one(const Case *c) {
  Parsed p = parse_text(c->text);
  cr_assert_eq(p.d->nerror, 1, "%d errors in: %s", p.d->nerror, c->text);
  Diag *g = p.d->first;
  const char *file;
  int line, col;
  span_position(p.d, g->span, &file, &line, &col);
  cr_expect_str_eq(err_info[g->id].code, c->code, "%s: code %s, message %s", c->text, err_info[g->id].code, g->msg);
  cr_expect(line == c->line && col == c->col, "%s: at %d:%d, not %d:%d", c->text, line, col, c->line, c->col);
  cr_expect(strstr(g->msg, c->msg), "%s: message: %s", c->text, g->msg);
  if (c->help)
    cr_expect(g->help && strstr(g->help, c->help), "%s: help: %s", c->text, g->help ? g->help : "none");
  else
    cr_expect_null(g->help, "%s: help: %s", c->text, g->help);
  parsed_free(&p);
}
#define CHECK(...)                                                                                                     \
  do {                                                                                                                 \
    static const Case cases_[] = {__VA_ARGS__};                                                                        \
    for (size_t k_ = 0; k_ < sizeof cases_ / sizeof *cases_; k_++) check_one(&cases_[k_]);                             \
  } while (0)

// clang-format off
Test(lang_errors, brackets) {
  CHECK({"x = (1 + 2\n", "P001", 1, 11, "expected ',' or ')' to close the '(' at line 1, found the end of the text", NULL},
        {"x = (1 + ]", "P001", 1, 10, "expected an expression, found ']'", NULL},
        {"f(a]", "P001", 1, 4, "expected ',' or ')' to close the '(' at line 1, found ']'", NULL},
        {"x = [1, 2\ny = 3", "P001", 1, 10, "expected ',' or ']' to close the '[' at line 1, found 'y'", NULL},
        {"def f() {\n  a\n", "P001", 2, 4, "expected '}' to close the '{' at line 1", NULL},
        {"a)", "P001", 1, 2, "expected a new line or ';' after the statement, found ')'", NULL},
        {"}", "P001", 1, 1, "'}' closes nothing", NULL},
        {"{a: 1 b: 2}", "P001", 1, 7, "expected ',' or '}' to close the '{' at line 1, found 'b'", NULL},
        {"{a: 1\n  b: 2}", "P001", 1, 6, "expected ',' or '}'", "commas separate the fields"},
        {"\"{a b}\"", "P001", 1, 5, "expected '}' to close the '{'", "{{"},
        {"x[]", "P001", 1, 3, "empty subscript", "x[...]"});
}

Test(lang_errors, habits_of_other_languages) {
  CHECK({"def f(x):\n  x", "P001", 1, 9, "expected '=' or '{' and the body, found ':'", "tg has no ':' here"},
        {"for i in r:\n  print(i)", "P001", 1, 11, "expected '{' before the body, found ':'", "a body is `{ ... }`"},
        {"if a: b", "P001", 1, 5, "expected '{' before the body, found ':'", "a body is `{ ... }`"},
        {"if a = 1 { 2 }", "P001", 1, 6, "expected '{' before the body, found '='", "equality is =="},
        {"x = a ** b", "P001", 1, 7, "'**' is not an operator", "x^2"}, {"a && b", "P001", 1, 3, "'&&'", "'and'"},
        {"a || b", "P001", 1, 3, "'||'", "'or'"}, {"!a", "P001", 1, 1, "'!'", "'not'"}, {"x += 1", "P001", 1, 3, "'+='", "x = x + 1"},
        {"f = lambda x: x", "P001", 1, 12, "found 'x'", "x -> e"}, {"return x", "P001", 1, 8, "found 'x'", "last expression"},
        {"elif a { b }", "P001", 1, 6, "found 'a'", "else if"}, {"from m import x", "P001", 1, 6, "found 'm'", "import m"},
        {"import a.b", "P001", 1, 9, "modules have plain names", "m.name"}, {"let x = 1", "P001", 1, 5, "found 'x'", "x = e"},
        {"x = True", "P001", 1, 5, "'True'", "true"}, {"x = None", "P001", 1, 5, "'None'", "none"},
        {"x = 'abc'", "P003", 1, 5, "double quotes", "\"...\""}, {"print x", "P001", 1, 7, "found 'x'", "print(x)"},
        {"a is b", "P001", 1, 3, "found 'is'", "=="}, {"a in b", "P001", 1, 3, "found 'in'", "any(xs == x)"},
        {"while a { b }", "P001", 1, 1, "found 'while'", "fold s"}, {"x[1] = 2", "P001", 1, 1, "a subscript can't be bound", ".at[i].set"},
        {"r.a = 2", "P001", 1, 1, "a field can't be bound", "{...r"}, {"f(x) = 2", "P001", 1, 1, "a call can't be bound", "def f"},
        {"a = b = 1", "P001", 1, 7, "one '='", "=="}, {"1 = x", "P001", 1, 1, "only names", "=="},
        {"[a for a in x for b in y]", "P001", 1, 15, "one `for`", "commas"}, {"(a for a in x)", "P001", 1, 4, "square brackets", "[e for i]"},
        {"f(*xs)", "P001", 1, 3, "can't be unpacked", "tuple"}, {"def f(*xs) = 1", "P001", 1, 7, "fixed number", "tuple"},
        {"x ? a : b", "P001", 1, 3, "'?'", "a if c else b"}, {"// comment", "P001", 1, 1, "found '//'", "#"},
        {"{\"a\": 1}", "P001", 1, 5, "found ':'", NULL}, {"class A { b }", "P001", 1, 7, "found 'A'", "model"},
        {"a \xe2\x88\x92 b", "P003", 1, 3, "U+2212", "ASCII '-'"}, {"a \xe2\x89\xa4 b", "P003", 1, 3, "U+2264", "<="},
        {"x = a if c", "P001", 1, 11, "expected 'else'", NULL}, {"1 + not a", "P001", 1, 5, "found 'not'", "(not a)"},
        {"f(a for a, b = 1)", "P001", 1, 14, "to close the '('", "=="});
}

Test(lang_errors, grammar) {
  CHECK({"a < b < c", "T007", 1, 7, "do not chain", "a < b and b < c"}, {"a == b != c", "T007", 1, 8, "do not chain", "and"},
        {"a..b..c", "P001", 1, 5, "two ends", "step"}, {"x y", "P001", 1, 3, "expected a new line or ';' after the statement, found 'y'", NULL},
        {"def 3() = 1", "P001", 1, 5, "expected the definition's name, found '3'", NULL},
        {"def f x = 1", "P001", 1, 7, "expected '(' and the parameters, found 'x'", NULL},
        {"model Net {", "P001", 1, 11, "expected '(' and the parameters, found '{'",
         "without parameters, too, there are parentheses: `model Net() { ... }`"},
        {"def f(x: 3) = x", "P001", 1, 10, "expected a type", NULL}, {"def f(x)\nb", "P001", 1, 9, "found the end of the line", "begins on this line"},
        {"model M(a) = 1", "P001", 1, 12, "expected '{' and the members", "=="},
        {"model M() { w: f32 = 1 }", "P001", 1, 16, "expected `param` or `state`", NULL},
        {"model M() { a, b = 1, 2 }", "P001", 1, 14, "expected ':' or '='", NULL},
        {"model M() { if a { b = 1 } else { b = 2 } }", "P001", 1, 28, "no else", "if not"},
        {"def f() { import m }", "P001", 1, 11, "'import' stands at top level only", NULL},
        {"fold a = 1 { a }", "P001", 1, 12, "expected 'for' after the first state", NULL}, {"for a, b in c { d }", "P001", 1, 6, "one target", "zip"},
        {"...", "P001", 1, 1, "'...' stands only", NULL}, {"x = y -> 1 -> 2", "P001", 1, 12, "'->' does not follow", "(x, y) -> e"},
        {"1 + x -> x", "P001", 1, 7, "'->' does not follow", "parentheses"}, {"x.1", "P001", 1, 3, "expected a member's name", NULL},
        {"[a for i if b else c]", "P001", 1, 15, "a guard has no else", "before the `for`"}, {"next x", "P001", 1, 7, "expected '='", NULL},
        {"x = 1 +", "P001", 1, 8, "expected an expression, found the end of the text", NULL},
        {"(x + 1, y) -> 2", "P001", 1, 2, "only names", "=="}, {"f(a, e for i)", "P001", 1, 8, "only argument", "[e for i]"});
}

Test(lang_errors, lexical) {
  CHECK({"x = 1 $ 2", "P003", 1, 7, "'$' is not a character of tg", NULL}, {"x = \"abc\ny = 1", "P004", 1, 5, "does not end on its line", "closing"},
        {"x = \"a{b\ny = 1", "P004", 1, 5, "does not end", "}"}, {"x = \"a{f(b\nc", "P004", 1, 5, "does not end", "}"},
        {"x = \"\"\"a\n\"\"\"\n", "P004", 1, 5, "no triple-quoted strings", "\\n"}, {"\"a\\qb\"", "P004", 1, 3, "unknown escape", "\\n"},
        {"\"\\u{110000}\"", "P004", 1, 2, "malformed \\u", "1f600"}, {"\"\\u41\"", "P004", 1, 2, "malformed \\u", "1f600"},
        {"\"{}\"", "P001", 1, 3, "empty interpolation", "{{}}"}, {"\"{a # b}\"", "P004", 1, 1, "no comment", "}"},
        {"1e", "P005", 1, 1, "malformed number '1e'", "1e-3"}, {"1_", "P005", 1, 1, "malformed number '1_'", "1_000"},
        {"1__0", "P005", 1, 1, "malformed", "1_000"}, {"0x", "P005", 1, 1, "malformed", "0xff"}, {"12ab", "P005", 1, 1, "malformed number '12ab'", "1.5"},
        {"1.", "P005", 1, 1, "malformed number '1.'", "1.5"}, {"x = .5", "P005", 1, 5, "begins with a digit", "0.5"}, {"2j", "P005", 1, 1, "malformed", "complex"},
        {"1e999", "P005", 1, 1, "larger than any f64", "inf"}, {"9223372036854775808", "V003", 1, 1, "does not fit in 64 bits", "float"},
        {"-9223372036854775809", "V003", 1, 2, "does not fit in 64 bits", "float"}, {"-9223372036854775808^2", "V003", 1, 2, "64 bits", "float"},
        {"0xffffffffffffffffff", "V003", 1, 1, "64 bits", NULL}, {"a\xc3\xa9 = 1", "P003", 1, 2, "'\xc3\xa9' is not a character", NULL},
        {"a \x01 b", "P003", 1, 3, "control character 0x01", NULL});
}
// clang-format on

Test(lang_errors, a_note_points_at_the_opening_bracket) {
  Parsed p = parse_text("x = f(1,\n  g(2, 3\ny = 1\n");
  cr_assert_eq(p.d->nerror, 1);
  Note *n = p.d->first->notes;
  cr_assert(n && !n->next);
  cr_expect_eq(n->span.lo, 12);
  cr_expect_eq(n->span.hi, 13);
  cr_expect_str_eq(p.tree, "(bind (targets y) 1)", "what follows is read: %s", p.tree);
  parsed_free(&p);
}

/* Mistakes in one file, each reported once, and the statements between them read. */
Test(lang_errors, several_in_one_file) {
  Parsed p = parse_text("a = 1 1\nb = 2\ndef f(x) {\n  y = x +* 2\n  z = ]\n  w = 3\n}\nc = (4\nd = 5\ne = \"x\nf = "
                        "6\ng = 1 < 2 < 3\nh = 7\n");
  cr_expect_eq(p.d->nerror, 6, "%d errors", p.d->nerror);
  cr_expect_str_eq(p.tree,
                   "(bind (targets b) 2)\n(def f (parameters (parameter x)) (block (bind (targets w) 3)))\n"
                   "(bind (targets d) 5)\n(bind (targets f) 6)\n(bind (targets h) 7)",
                   "%s", p.tree);
  parsed_free(&p);
}

Test(lang_errors, no_more_than_twenty) {
  char text[4000] = "";
  for (int k = 0; k < 200; k++) strcat(text, "a = 1 1\n");
  Parsed p = parse_text(text);
  cr_expect_eq(p.d->nerror, 20);
  parsed_free(&p);
}

static char *repeat(const char *before, const char *piece, int n, const char *after) {
  size_t len = strlen(piece);
  char *s = malloc(strlen(before) + len * (size_t)n + strlen(after) + 1), *w = s + strlen(before);
  strcpy(s, before);
  for (int k = 0; k < n; k++, w += len) memcpy(w, piece, len);
  strcpy(w, after);
  return s;
}

/* Every rule that can hold itself: 100,000 levels are one clean error, 300 are fine where they can be closed. */
Test(lang_errors, nesting) {
  static const struct {
    const char *before, *open, *close, *after;
  } rule[] = {{"x = ", "(", ")", ""},
              {"x = ", "[", "]", ""},
              {"x = ", "f(", ")", ""},
              {"x = ", "a[", "]", ""},
              {"x = ", "{", "}", ""},
              {"x = ", "{a: ", "}", ""},
              {"x = ", "-", "", "1"},
              {"x = ", "not ", "", "a"},
              {"x = ", "1 + ", "", "1"},
              {"x = ", "2^", "", "1"},
              {"x = a", ".b", "", ""},
              {"x = a", "(1)", "", ""},
              {"x = a", " |> f", "", ""},
              {"x = ", "a if c else ", "", "b"},
              {"x = ", "x -> ", "", "x"},
              {"", "{ x; ", " }", ""},
              {"", "if a { ", " }", ""},
              {"", "def f() { ", " }", ""},
              {"if a {} ", "else if b {} ", "", ""},
              {"x = ", "\"{", "}\"", ""},
              {"x = ", "[a for i in ", "]", ""},
              {"def f(x: ", "(", ")", ""},
              {"model M() { ", "if a { ", " }", " }"}};
  for (size_t k = 0; k < sizeof rule / sizeof *rule; k++) {
    bool inner = !strcmp(rule[k].open, "(") || !strcmp(rule[k].open, "[a for i in ") || !strcmp(rule[k].open, "f(");
    char *tail = repeat(inner || *rule[k].close ? (strstr(rule[k].before, "def") ? "int"
                                                   : inner                       ? "1"
                                                                                 : "1")
                                                : "",
                        rule[k].close, 300, rule[k].after);
    if (!strcmp(rule[k].before, "model M() { ")) memmove(tail, tail + 1, strlen(tail));
    if (!strcmp(rule[k].before, "def f(x: ")) {
      char *more = repeat(tail, ") = x", 1, "");
      free(tail);
      tail = more;
    }
    char *good = repeat(rule[k].before, rule[k].open, 300, tail);
    Parsed p = parse_text(good);
    if (p.d->nerror) diag_print_all(p.d, stderr, false);
    cr_expect_eq(p.d->nerror, 0, "300 levels of %s", rule[k].open);
    parsed_free(&p);
    char *bad = repeat(rule[k].before, rule[k].open, 1048000 / (int)strlen(rule[k].open) < 100000 ? 70000 : 100000, "");
    p = parse_text(bad);
    cr_expect_eq(p.d->nerror, 1, "%d errors in 100,000 levels of %s", p.d->nerror, rule[k].open);
    cr_expect_eq(p.d->first->id, P_DEPTH, "%s: %s", rule[k].open, p.d->first->msg);
    parsed_free(&p);
    free(tail);
    free(good);
    free(bad);
  }
}

Test(lang_errors, bytes_that_are_no_text) {
  static const struct {
    const char *text;
    size_t n;
    uint32_t at;
    const char *msg;
  } bad[] = {{"x = 1\0 + 2", 10, 5, "NUL byte"},          {"\0", 1, 0, "NUL byte"},
             {"x = \"\xff\"", 7, 5, "0xff is not UTF-8"}, {"# \xc3", 3, 2, "0xc3 is not UTF-8"},
             {"# \xc0\x80", 4, 2, "0xc0 is not UTF-8"},   {"# \xed\xa0\x80", 5, 2, "0xed is not UTF-8"},
             {"# \xf4\x90\x80\x80", 6, 2, "not UTF-8"},   {"# \xe2\x82", 4, 2, "not UTF-8"}};
  for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
    Parsed p = parse_text_n(bad[k].text, bad[k].n);
    cr_assert_eq(p.d->nerror, 1);
    cr_expect_eq(p.d->first->id, P_CHAR);
    cr_expect_eq(p.d->first->span.lo, bad[k].at, "case %zu at %u", k, p.d->first->span.lo);
    cr_expect(strstr(p.d->first->msg, bad[k].msg), "%s", p.d->first->msg);
    parsed_free(&p);
  }
}

Test(lang_errors, sizes) {
  char *line = repeat("x = ", "1", (1 << 20) + 1, "\n"), *file = repeat("", "x = 1\n", (17 << 20) / 6, "");
  Parsed p = parse_text(line);
  cr_assert_eq(p.d->nerror, 1);
  cr_expect_eq(p.d->first->id, P_SIZE, "%s", p.d->first->msg);
  parsed_free(&p);
  p = parse_text(file);
  cr_assert_eq(p.d->nerror, 1);
  cr_expect_eq(p.d->first->id, P_SIZE, "%s", p.d->first->msg);
  parsed_free(&p);
  free(line);
  free(file);
}

Test(lang_errors, complete) {
  static const struct {
    const char *text;
    ParseState state;
  } c[] = {{"", PARSE_DONE},
           {"1 + 1", PARSE_DONE},
           {"x = 1\n", PARSE_DONE},
           {"f(", PARSE_MORE},
           {"f(1,", PARSE_MORE},
           {"[1, [2", PARSE_MORE},
           {"{", PARSE_MORE},
           {"def f(x) {", PARSE_MORE},
           {"def f(x) {\n  a = 1", PARSE_MORE},
           {"def f(x) =", PARSE_MORE},
           {"x = 1 +", PARSE_MORE},
           {"a, b = 1,", PARSE_MORE},
           {"x |>", PARSE_MORE},
           {"a and", PARSE_MORE},
           {"x ->", PARSE_MORE},
           {"if c { 1 } else", PARSE_MORE},
           {"for i in", PARSE_MORE},
           {"## doc", PARSE_MORE},
           {"# note", PARSE_DONE},
           {"x = \"abc", PARSE_ERROR},
           {"x y", PARSE_ERROR},
           {")", PARSE_ERROR},
           {"f(]", PARSE_ERROR},
           {"x = 1 $", PARSE_ERROR},
           {"def f(x)", PARSE_ERROR},
           {"a b\nf(", PARSE_ERROR},
           {"\"{f(", PARSE_ERROR},
           {"x = (1 +\n", PARSE_MORE},
           {"model M(a) {\n  w: param[a] =", PARSE_MORE},
           {"x = 1;", PARSE_DONE}};
  for (size_t k = 0; k < sizeof c / sizeof *c; k++)
    cr_expect_eq(parse_complete(c[k].text, strlen(c[k].text)), c[k].state, "%s", c[k].text);
}
