/* The formatter: a table of texts and their canonical form, real programs, and random programs in random layout. */
#include "lang_parse.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdarg.h>

/* Formats, formats again, compares. */
static void check(const char *text, const char *want, const char *what) {
  Parsed p = parse_text(text);
  cr_assert_eq(p.d->nerror, 0, "%s does not parse:\n%s", what, text);
  char *got = format_text(&p, text);
  cr_assert_not_null(got, "%s does not format:\n%s", what, text);
  if (want) cr_expect_str_eq(got, want, "%s:\n%s--- became\n%s--- not\n%s", what, text, got, want);
  Parsed q = parse_text(got);
  cr_expect(ast_equal(p.ast, q.ast), "%s: another program:\n%s--- became\n%s", what, text, got);
  char *again = format_text(&q, got);
  cr_expect_str_eq(again, got, "%s: not idempotent:\n%s--- then\n%s", what, got, again);
  parsed_free(&p);
  parsed_free(&q);
}

Test(lang_fmt, table) {
  static const struct {
    const char *text, *want;
  } c[] = {
      {"", ""},
      {"\n\n  # only\n\n\n# this\n", "# only\n\n# this\n"},
      {"x=1", "x = 1\n"},
      {"x=1;;\n\n\n\ny=2\n", "x = 1\n\ny = 2\n"},
      {"a = 1 ;b=2", "a = 1; b = 2\n"},
      {"f ( x ) . g [ 1 ]", "f(x).g[1]\n"},
      {"-x^ - 2 + not_a- -b", "-x^-2 + not_a - -b\n"},
      {"not  a", "not a\n"},
      {"x[i+1,i + 1,a:b,::2,  :,-1]", "x[i+1, i + 1, a:b, ::2, :, -1]\n"},
      {"x[a + b:c]", "x[a + b:c]\n"},
      {"0 .. n-1", "0..n-1\n"},
      {"{ a :1,...r,b }", "{a: 1, ...r, b}\n"},
      {"{a=1;a}", "{ a = 1; a }\n"},
      {"{\n}", "{}\n"},
      {"{a;}", "{ a; }\n"},
      {"{f(a);}", "{ f(a) }\n"},
      {"{ a;\n # c\n }", "{\n  a;\n  # c\n}\n"},
      {"f( a=1,x->x+1 )", "f(a = 1, x -> x + 1)\n"},
      {"(x,y)->x", "(x, y) -> x\n"},
      {"()->{x}", "() -> {x}\n"},
      {"[ a for i ,j in 0..3 if c ]", "[a for i, j in 0..3 if c]\n"},
      {"def f(x:[N,2*d],k:int=3)->[N]where N>k=x", "def f(x: [N, 2*d], k: int = 3) -> [N] where N > k = x\n"},
      {"def f(x){x}", "def f(x) { x }\n"},
      {"def f(x) { y = x\n y }", "def f(x) {\n  y = x\n  y\n}\n"},
      {"def f(x) =\nx", "def f(x) =\n  x\n"},
      {"if a{1}\nelse{2}", "if a { 1 } else { 2 }\n"},
      {"if a {\n1 } else { 2 }", "if a {\n  1\n} else {\n  2\n}\n"},
      {"if a { 1 } else if b { 2 } else {\n 3 }", "if a {\n  1\n} else if b {\n  2\n} else {\n  3\n}\n"},
      {"model M(a)(x:[..., a])=x|>f", "model M(a)(x: [..., a]) = x |> f\n"},
      {"model M(a){w:param[a]=zeros\ns:state f16 [ a ]=ones}",
       "model M(a) {\n  w: param[a] = zeros\n  s: state f16[a] = ones\n}\n"},
      {"f(a,\n        b)", "f(a,\n  b)\n"},
      {"f(\na, b)", "f(\n  a, b\n)\n"},
      {"f(a, b\n)", "f(a, b)\n"},
      {"f(a\n, b)", "f(a, b)\n"},
      {"x = [a +\nb\n  for i]", "x = [a +\n     b\n     for i]\n"},
      {"x\n|> f\n|> g(1,\n2)", "x\n  |> f\n  |> g(1,\n       2)\n"},
      {"x =\ny\n|> f", "x =\n  y\n    |> f\n"},
      {"s = fold s = 0 for t in ts {\ns + t\n}", "s = fold s = 0 for t in ts {\n  s + t\n}\n"},
      {"map(d, x -> {\ny = x\ny\n})", "map(d, x -> {\n  y = x\n  y\n})\n"},
      {"f(a, x -> {\ny\n + 1\n}, b)", NULL},
      {"a #c", "a  #c\n"},
      {"a = 1        # one\nbb = 22      # two", "a = 1        # one\nbb = 22      # two\n"},
      {"a=1     # one", "a = 1   # one\n"},
      {"{ # c\n a\n # d\n}", "{  # c\n  a\n  # d\n}\n"},
      {"f(a, # first\n  b) # second", "f(a,  # first\n  b)  # second\n"},
      {"x\n# why\n|> f", "x\n  # why\n  |> f\n"},
      {"## doc\ndef f() = 1\n\n\n## other\n\n## doc\ndef g() = 1",
       "## doc\ndef f() = 1\n\n## other\n\n## doc\ndef g() = 1\n"},
      {"\"{ a+b :.3}\"", "\"{ a+b :.3}\"\n"},
      {"f(x);", "f(x);\n"},
      {"x = 1;", "x = 1\n"},
      {"1 .e5", "1 .e5\n"},
      {"3 . f()", "3.f()\n"},
      {"(1 . # c\n f)", "(1 .  # c\n f)\n"},
      {"x = f(1,   # one\n2)   # two\n", "x = f(1,   # one\n      2)  # two\n"},
      {"import  a  as b ,c", "import a as b, c\n"},
      {"a\r\nb\t\n", "a\nb\n"},
  };
  for (size_t k = 0; k < sizeof c / sizeof *c; k++) check(c[k].text, c[k].want, "table");
}

/* Lines over 100 characters are broken at the outermost place that serves. */
Test(lang_fmt, long_lines) {
#define A20 "aaaaaaaaaaaaaaaaaaaa"
#define B20 "bbbbbbbbbbbbbbbbbbbb"
#define C20 "cccccccccccccccccccc"
  check("x = f(" A20 ", " B20 "(1, 2, 3), " C20 ", " A20 ", " B20 ")",
        "x = f(" A20 ", " B20 "(1, 2, 3), " C20 ",\n      " A20 ", " B20 ")\n", "arguments");
  check("def f(" A20 ") = " B20 "(" A20 ", " C20 ", 1) + " A20 "(2)",
        "def f(" A20 ") =\n  " B20 "(" A20 ", " C20 ", 1) + " A20 "(2)\n", "body");
  check("x = " A20 " |> " B20 " |> " C20 " |> " A20 " |> " B20,
        "x = " A20 " |> " B20 " |> " C20 " |> " A20 "\n  |> " B20 "\n", "pipes");
  check("x = " A20 " + " B20 " * " C20 " + " A20 " * " B20, "x = " A20 " + " B20 " * " C20 " +\n  " A20 " * " B20 "\n",
        "sum");
  check("if " A20 " { " B20 " } else { " C20 "; " A20 "; " B20 " }",
        "if " A20 " {\n  " B20 "\n} else {\n  " C20 "\n  " A20 "\n  " B20 "\n}\n", "blocks");
  check(A20 " = 1; " B20 " = 2; " C20 " = 3; " A20 " = 4; x = 5",
        A20 " = 1; " B20 " = 2; " C20 " = 3\n" A20 " = 4; x = 5\n", "statements");
  check("x = [sum(" A20 "[m, k] * " B20 "[k, n] for k) for m in 0.." C20 ", n in 0.." A20 "]",
        "x = [sum(" A20 "[m, k] * " B20 "[k, n] for k)\n     for m in 0.." C20 ", n in 0.." A20 "]\n", "comprehension");
  check(A20 B20 C20 " = " A20 B20 "(" C20 ", 1)", NULL, "no good place");
  check("x = \"" A20 A20 A20 A20 A20 A20 "\"", "x =\n  \"" A20 A20 A20 A20 A20 A20 "\"\n", "a long string");
}

Test(lang_fmt, programs_are_as_they_should_be) {
  char dir[1024], path[2048];
  snprintf(dir, sizeof dir, "%s", __FILE__);
  *strrchr(dir, '/') = 0;
  strcat(dir, "/../fuzz/seeds");
  DIR *d = opendir(dir);
  cr_assert_not_null(d, "%s", dir);
  int n = 0;
  for (struct dirent *e; (e = readdir(d));) {
    if (!strstr(e->d_name, ".tg")) continue;
    snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
    FILE *f = fopen(path, "rb");
    char *text = calloc(1, 1 << 16);
    cr_assert(f && fread(text, 1, (1 << 16) - 1, f));
    fclose(f);
    check(text, text, e->d_name);
    free(text);
    n++;
  }
  closedir(d);
  cr_expect_geq(n, 7);
}

/* ---- random programs ----
 * A generator writes the grammar's sentences as tokens, each with what may stand before it: nothing new, or a line
 * break. One layout has single spaces; the other is as odd as the language allows. Both must give the same tree. */

typedef struct {
  char text[48];
  char gap;
} Tok; /* gap: ' ' blanks, 'n' also newlines and comments, ';' a statement ends */
typedef struct {
  Tok tok[6000];
  int n, level;
  char bracket[64];
  uint64_t seed;
} Gen;

static uint32_t roll(Gen *g, uint32_t n) {
  g->seed = g->seed * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(g->seed >> 33) % n;
}

__attribute__((format(printf, 2, 3))) static void put(Gen *g, const char *fmt, ...) {
  if (g->n == 6000) return;
  Tok *t = &g->tok[g->n++];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(t->text, sizeof t->text, fmt, ap);
  va_end(ap);
  t->gap = g->level && strchr("([", g->bracket[g->level - 1]) ? 'n' : ' ';
  if (g->n > 1 && t->gap == ' ') {
    const char *last = g->tok[g->n - 2].text;
    static const char *const open_end[] = {"+",  "-",   "*",  "/", ",",  "=",  "|>",
                                           "->", "and", "or", "{", "==", "in", "else"};
    for (size_t k = 0; k < sizeof open_end / sizeof *open_end; k++)
      if (!strcmp(last, open_end[k])) t->gap = 'n';
  }
}

static void open(Gen *g, const char *b) {
  put(g, "%s", b);
  g->bracket[g->level++] = *b;
}
static void close(Gen *g, const char *b) {
  put(g, "%s", b);
  g->level--;
}
static void end(Gen *g) {
  put(g, "%s", "");
  g->tok[g->n - 1].gap = ';';
}

static void expr(Gen *g, int budget);
static void block(Gen *g, int budget);
static void statement(Gen *g, int budget);

static void name(Gen *g) {
  static const char *const names[] = {"a", "b", "x1", "loss", "a_rather_long_name", "next", "where", "K"};
  put(g, "%s", names[roll(g, 8)]);
}
static void list(Gen *g, int budget, void (*one)(Gen *, int), int least) {
  int n = least + (int)roll(g, 3);
  for (int k = 0; k < n; k++) {
    if (k) put(g, ",");
    one(g, budget / (n ? n : 1));
  }
}
static void target(Gen *g, int budget) {
  if (budget > 4 && !roll(g, 4)) {
    open(g, "(");
    target(g, budget / 2);
    put(g, ",");
    target(g, budget / 2);
    close(g, ")");
  } else {
    name(g);
  }
}
static void argument(Gen *g, int budget) {
  if (!roll(g, 4)) {
    static const char *const words[] = {"axis", "for", "b"};
    put(g, "%s", words[roll(g, 3)]);
    put(g, "=");
  }
  expr(g, budget);
}
static void sub(Gen *g, int budget) {
  switch (roll(g, 5)) {
  case 0:
    put(g, "...");
    break;
  case 1:
    put(g, ":");
    break;
  case 2:
    expr(g, budget / 2);
    put(g, ":");
    if (roll(g, 2)) expr(g, budget / 2);
    break;
  default:
    expr(g, budget);
  }
}
static void field(Gen *g, int budget) {
  if (!roll(g, 4)) {
    put(g, "...");
    name(g);
    return;
  }
  put(g, "%s", roll(g, 4) ? "key" : "if");
  put(g, ":");
  expr(g, budget);
}
static void comp(Gen *g, int budget) {
  expr(g, budget / 2);
  put(g, "for");
  int n = 1 + (int)roll(g, 2);
  for (int k = 0; k < n; k++) {
    if (k) put(g, ",");
    target(g, 4);
    if (roll(g, 2)) {
      put(g, "in");
      name(g);
    }
  }
  if (roll(g, 2)) {
    put(g, "if");
    name(g);
    put(g, "==");
    name(g);
  }
}

static void primary(Gen *g, int budget) {
  static const char *const plain[] = {"1",   "2.5", "1e-3", "true", "none", "\"text\"", "\"{a:.4} {{b}} {f(\"c\")}\"",
                                      "0xff"};
  switch (budget < 3 ? roll(g, 2) : roll(g, 13)) {
  case 0:
    put(g, "%s", plain[roll(g, 8)]);
    break;
  case 2:
    open(g, "("), expr(g, budget - 1), close(g, ")");
    break;
  case 3:
    open(g, "("), list(g, budget - 1, expr, 2), close(g, ")");
    break;
  case 4:
    open(g, "["), list(g, budget - 1, expr, 0), close(g, "]");
    break;
  case 5:
    open(g, "["), comp(g, budget - 1), close(g, "]");
    break;
  case 6:
    name(g), open(g, "("), comp(g, budget - 1), close(g, ")");
    break;
  case 7:
    name(g), open(g, "("), list(g, budget - 1, argument, 0), close(g, ")");
    break;
  case 8:
    name(g), open(g, "["), list(g, budget - 1, sub, 1), close(g, "]");
    break;
  case 9:
    open(g, "{"), list(g, budget - 1, field, 0), close(g, "}");
    break;
  case 10:
    put(g, "if"), name(g), block(g, budget / 2), put(g, "else"), block(g, budget / 2);
    break;
  case 11:
    put(g, "fold"), name(g), put(g, "="), expr(g, budget / 3), put(g, "for"), target(g, 4), put(g, "in"), name(g);
    if (roll(g, 2)) put(g, "while"), name(g);
    block(g, budget / 2);
    break;
  default:
    name(g);
  }
  if (!roll(g, 6)) {
    put(g, ".");
    put(g, "t");
  }
}

static void expr(Gen *g, int budget) {
  if (budget < 2) {
    name(g);
    return;
  }
  static const char *const ops[] = {"+", "-", "*", "/", "^", "@", "and", "==", "..", "or", "//", "%"};
  switch (roll(g, 9)) {
  case 0:
    name(g), put(g, "->"), expr(g, budget - 1);
    break;
  case 1:
    open(g, "("), name(g), put(g, ","), name(g), close(g, ")"), put(g, "->"), expr(g, budget - 1);
    break;
  case 2:
    name(g), put(g, "if"), name(g), put(g, "else"), expr(g, budget - 1);
    break;
  case 3:
    name(g), put(g, "|>"), name(g), put(g, "|>"), name(g), open(g, "("), expr(g, budget - 1), close(g, ")");
    break;
  case 4:
    put(g, "-"), primary(g, budget - 1);
    break;
  case 5:
  case 6:
    primary(g, budget / 2), put(g, "%s", ops[roll(g, 12)]), primary(g, budget / 2);
    break;
  default:
    primary(g, budget);
  }
}

static void block(Gen *g, int budget) {
  open(g, "{");
  int n = 1 + (int)roll(g, 3);
  put(g, "f"), open(g, "("), close(g, ")"); /* never reads as a record */
  for (int k = 0; k < n; k++) {
    end(g);
    statement(g, budget / n);
  }
  close(g, "}");
}

static void dims(Gen *g) {
  open(g, "["), put(g, "N"), put(g, ","), put(g, "2"), put(g, "*"), put(g, "d"), close(g, "]");
}

static void statement(Gen *g, int budget) {
  switch (budget < 4 ? 0 : roll(g, 5)) {
  case 1:
    put(g, "def"), name(g), open(g, "("), put(g, "x"), put(g, ":"), dims(g), put(g, ","), put(g, "k"), put(g, "="),
        expr(g, 2);
    close(g, ")");
    if (roll(g, 2)) put(g, "->"), dims(g);
    if (roll(g, 2))
      block(g, budget - 2);
    else
      put(g, "="), expr(g, budget - 2);
    break;
  case 2:
    list(g, 4, target, 1), put(g, "="), list(g, budget, expr, 1);
    break;
  case 3:
    put(g, "for"), target(g, 4), put(g, "in"), name(g), block(g, budget - 2);
    break;
  default:
    name(g), put(g, "="), expr(g, budget);
  }
}

/* odd 0: single spaces and newlines; 1: any layout the language allows. */
static char *layout(Gen *g, bool odd) {
  char *s = calloc((size_t)g->n + 1, 96), *w = s;
  for (int k = 0; k < g->n; k++) {
    Tok *t = &g->tok[k];
    if (t->gap == ';') {
      static const char *const ends[] = {"\n", ";", " ; ", "\n\n\n  ", "  # note\n", "\n # own\n\n# line\n", ";\n"};
      w = stpcpy(w, odd ? ends[roll(g, 7)] : "\n");
      continue;
    }
    bool stuck = odd && k && (strchr("([", *g->tok[k - 1].text) || strchr(")],", *t->text)) && roll(g, 2);
    if (odd && t->gap == 'n' && !roll(g, 6))
      w = stpcpy(w, roll(g, 3) ? "\n   " : " # why\n");
    else if (odd && k && !strcmp(t->text, "|>") && !roll(g, 3))
      w = stpcpy(w, "\n |> "), w -= 3;
    else if (k && !stuck)
      w = stpcpy(w, odd && !roll(g, 4) ? "   " : " ");
    w = stpcpy(w, t->text);
  }
  stpcpy(w, "\n");
  return s;
}

Test(lang_fmt, random_programs) {
  const char *env = getenv("TG_SEED");
  uint64_t base = env ? strtoull(env, NULL, 10) : 20261;
  Gen *g = malloc(sizeof *g);
  int parsed = 0;
  for (uint64_t k = 0; k < 1000; k++) {
    *g = (Gen){.seed = base * 1000003 + k};
    int n = 1 + (int)roll(g, 4);
    for (int i = 0; i < n; i++) {
      if (i) end(g);
      statement(g, 4 + (int)roll(g, 60));
    }
    if (g->n >= 6000) continue;
    char *plain = layout(g, false), *odd = layout(g, true), what[64];
    snprintf(what, sizeof what, "program %d of TG_SEED=%d", (int)k, (int)base);
    Parsed p = parse_text(plain), q = parse_text(odd);
    cr_assert_eq(p.d->nerror != 0, q.d->nerror != 0, "%s: layout changes whether it parses:\n%s---\n%s", what, plain,
                 odd);
    if (!p.d->nerror) {
      cr_assert(ast_equal(p.ast, q.ast), "%s: layout changes the tree:\n%s---\n%s", what, plain, odd);
      check(plain, NULL, what);
      check(odd, NULL, what);
      parsed++;
    }
    parsed_free(&p);
    parsed_free(&q);
    free(plain);
    free(odd);
  }
  cr_expect_geq(parsed, 650, "the generator writes too few programs that parse: %d", parsed);
  free(g);
}
