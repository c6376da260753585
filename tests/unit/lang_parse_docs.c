/* Documentation: what is attached to what, signatures, examples. */
#include "lang/docs.h"
#include "lang_parse.h"
#include <criterion/criterion.h>

static const char program[] = "# licence\n"
                              "## About the file.\n"
                              "## >>> 1 + 1\n"
                              "## 2\n"
                              "\n"
                              "## Doubles x.\n"
                              "##   indented\n"
                              "## >>> twice(2)\n"
                              "## 4\n"
                              "##\n"
                              "## and\n"
                              "## >>> [twice(i)\n"
                              "## ...  for i in 0..2]\n"
                              "## i64[2]\n"
                              "##   0  2\n"
                              "## >>> twice(3);\n"
                              "def twice(x: [N],  # the argument\n"
                              "          k = \"# no comment\") =\n"
                              "    x * 2\n"
                              "## not attached\n"
                              "\n"
                              "def other(x) { x }\n"
                              "## Rate.\n"
                              "arg lr = 1e-3\n"
                              "## Dense.\n"
                              "model D(i, o)(x: [..., i]) -> [..., o] = x\n"
                              "model E(n) {\n"
                              "  ## Weights.\n"
                              "  w: param[n] = zeros\n"
                              "  ## Applies.\n"
                              "  ## >>> E(1)(2)\n"
                              "  def apply(x) = x\n"
                              "}\n"
                              "## Exported.\n"
                              "export p(x) = x\n"
                              "y = 1\n"
                              "y = 2\n";

static const char *doc_of(Parsed *p, const char *name) {
  const Ast *t = docs_find(p->ast, name);
  cr_assert_not_null(t, "%s", name);
  return t->doc;
}

static void signature(Parsed *p, const char *name, const char *want) {
  const char *got = docs_signature(p->d, p->a, docs_find(p->ast, name));
  cr_expect_str_eq(got, want, "%s", got);
}

Test(lang_docs, attached_to_what_follows) {
  Parsed p = parse_text(program);
  cr_assert_eq(p.d->nerror, 0);
  cr_expect_str_eq(p.ast->doc, "About the file.\n>>> 1 + 1\n2");
  cr_expect_str_eq(doc_of(&p, "twice"),
                   "Doubles x.\n  indented\n>>> twice(2)\n4\n\nand\n>>> [twice(i)\n...  for i in 0..2]\n"
                   "i64[2]\n  0  2\n>>> twice(3);");
  cr_expect_null(doc_of(&p, "other"));
  cr_expect_str_eq(doc_of(&p, "lr"), "Rate.");
  cr_expect_str_eq(doc_of(&p, "D"), "Dense.");
  cr_expect_str_eq(doc_of(&p, "p"), "Exported.");
  const Ast *members = docs_find(p.ast, "E")->a;
  cr_expect_str_eq(members->kid[0]->doc, "Weights.");
  cr_expect_str_eq(members->kid[1]->doc, "Applies.\n>>> E(1)(2)");
  cr_expect_null(docs_find(p.ast, "nothing"));
  cr_expect_eq(docs_find(p.ast, "y")->b->ival, 2, "the last one counts");
  parsed_free(&p);
}

Test(lang_docs, signatures) {
  Parsed p = parse_text(program);
  signature(&p, "twice", "def twice(x: [N], k = \"# no comment\")");
  signature(&p, "other", "def other(x)");
  signature(&p, "lr", "arg lr = 1e-3");
  signature(&p, "D", "model D(i, o)(x: [..., i]) -> [..., o]");
  signature(&p, "E", "model E(n)");
  signature(&p, "p", "def p(x)");
  signature(&p, "y", "y = ...");
  parsed_free(&p);
}

Test(lang_docs, examples) {
  static const struct {
    const char *name, *expr, *expected, *source;
  } want[] = {
      {NULL, "1 + 1", "2\n", ">>> 1 + 1"},
      {"twice", "twice(2)", "4\n", ">>> twice(2)"},
      {"twice", "[twice(i)\n for i in 0..2]", "i64[2]\n  0  2\n", ">>> [twice(i)"},
      {"twice", "twice(3);", "", ">>> twice(3);"},
      {"apply", "E(1)(2)", "", ">>> E(1)(2)"},
  };
  Parsed p = parse_text(program);
  DocExample *e;
  int n = docs_examples(p.d, p.a, p.ast, &e);
  cr_assert_eq(n, 5, "%d", n);
  for (int k = 0; k < n; k++) {
    cr_expect(want[k].name ? e[k].name && !strcmp(e[k].name, want[k].name) : !e[k].name, "%d", k);
    cr_expect_str_eq(e[k].expr, want[k].expr, "%d: %s", k, e[k].expr);
    cr_expect_str_eq(e[k].expected, want[k].expected, "%d: %s", k, e[k].expected);
    cr_expect(!strncmp(program + e[k].span.lo, want[k].source, e[k].span.hi - e[k].span.lo), "%d", k);
  }
  parsed_free(&p);
}

Test(lang_docs, a_first_comment_right_above_an_item_is_its_own) {
  Parsed p = parse_text("## Of f.\ndef f() = 1\n");
  cr_expect_null(p.ast->doc);
  cr_expect_str_eq(doc_of(&p, "f"), "Of f.");
  parsed_free(&p);
}
