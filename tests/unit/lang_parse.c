/* The grammar, rule by rule: source text beside the tree that it must give. */
#include "lang_parse.h"
#include <criterion/criterion.h>

typedef struct {
  const char *text, *tree;
} Case;

static void check(const Case *c, size_t n) {
  for (size_t k = 0; k < n; k++) {
    Parsed p = parse_text(c[k].text);
    if (p.d->nerror) diag_print_all(p.d, stderr, false);
    cr_expect_eq(p.d->nerror, 0, "errors in: %s", c[k].text);
    cr_expect_str_eq(p.tree, c[k].tree, "\n%s\ngave %s\nnot  %s", c[k].text, p.tree, c[k].tree);
    parsed_free(&p);
  }
}
#define CHECK(...)                                                                                                     \
  do {                                                                                                                 \
    static const Case cases_[] = {__VA_ARGS__};                                                                        \
    check(cases_, sizeof cases_ / sizeof *cases_);                                                                     \
  } while (0)

Test(lang_parse, literals) {
  CHECK({"12", "(expr 12)"}, {"1_000", "(expr 1_000)"}, {"0xff", "(expr 0xff)"}, {"1.5", "(expr 1.5)"},
        {"1e-3", "(expr 1e-3)"}, {"2.5E+2", "(expr 2.5E+2)"}, {"true", "(expr true)"}, {"none", "(expr none)"},
        {"-9223372036854775808", "(expr -9223372036854775808)"}, {"9223372036854775807", "(expr 9223372036854775807)"},
        {"()", "(expr (tuple))"}, {"(a)", "(expr a)"}, {"(a,)", "(expr (tuple a))"}, {"(a, b)", "(expr (tuple a b))"},
        {"a, b", "(expr (tuple a b))"}, {"[]", "(expr (list))"}, {"[1, 2,]", "(expr (list 1 2))"},
        {"[[1], [2]]", "(expr (list (list 1) (list 2)))"});
}

Test(lang_parse, literal_values) {
  Parsed p = parse_text("1_000\n0xff\n1_0.5_0e1_0\n-9223372036854775808\n9223372036854775807");
  cr_assert_eq(p.ast->nkid, 5);
  cr_expect_eq(p.ast->kid[0]->a->ival, 1000);
  cr_expect_eq(p.ast->kid[1]->a->ival, 255);
  cr_expect_eq(p.ast->kid[2]->a->fval, 10.5e10);
  cr_expect_eq(p.ast->kid[3]->a->ival, INT64_MIN);
  cr_expect_eq(p.ast->kid[4]->a->ival, INT64_MAX);
  parsed_free(&p);
}

Test(lang_parse, strings) {
  CHECK({"\"\"", "(expr (string))"}, {"\"abc\"", "(expr (string \"abc\"))"},
        {"\"loss {l:.4}\"", "(expr (string \"loss \" (interp l :.4)))"},
        {"\"{a}{b + 1}\"", "(expr (string (interp a) (interp (+ b 1))))"}, {"\"{{x}}\"", "(expr (string \"{x}\"))"},
        {"\"{{{x}}}\"", "(expr (string \"{\" (interp x) \"}\"))"}, {"\"\\{x\\}\"", "(expr (string \"{x}\"))"},
        {"\"a}b\"", "(expr (string \"a}b\"))"}, {"\"\\n\\t\\\\\\\"\"", "(expr (string \"\\x0a\\x09\\\\\\\"\"))"},
        {"\"\\u{e9}\\u{1f600}\"", "(expr (string \"\xc3\xa9\xf0\x9f\x98\x80\"))"},
        {"\"{f(\"in {x:3}\")[0:1]:>8}\"",
         "(expr (string (interp (index (call f (string \"in \" (interp x :3))) (: 0 1 -)) :>8)))"},
        {"\"{ {a: 1}.a }\"", "(expr (string (interp (. (record (field a 1)) a))))"},
        {"\"# no comment\" # one", "(expr (string \"# no comment\"))"});
}

Test(lang_parse, operators) {
  CHECK({"a + b * c", "(expr (+ a (* b c)))"}, {"a - b - c", "(expr (- (- a b) c))"}, {"-x^2", "(expr (- (^ x 2)))"},
        {"2^-3", "(expr (^ 2 (- 3)))"}, {"a^b^c", "(expr (^ a (^ b c)))"}, {"(a^b)^c", "(expr (^ (^ a b) c))"},
        {"- - +a", "(expr (- (- (+ a))))"}, {"a @ b / c", "(expr (/ (@ a b) c))"},
        {"a // b % c", "(expr (% (// a b) c))"}, {"0..n - 1", "(expr (.. 0 (- n 1)))"},
        {"a < b + 1", "(expr (< a (+ b 1)))"}, {"0..3 == r", "(expr (== (.. 0 3) r))"},
        {"not a == b and c or d", "(expr (or (and (not (== a b)) c) d))"}, {"not not a", "(expr (not (not a)))"},
        {"a or not b", "(expr (or a (not b)))"}, {"a and not b < c", "(expr (and a (not (< b c))))"},
        {"x |> f |> g(1)", "(expr (|> (|> x f) (call g 1)))"}, {"a or b |> f", "(expr (|> (or a b) f))"},
        {"x |> m.f(1)", "(expr (|> x (call (. m f) 1)))"}, {"a if c else b", "(expr (if c a b))"},
        {"a if c else b if d else e", "(expr (if c a (if d b e)))"},
        {"-a.b(c)[d]", "(expr (- (index (call (. a b) c) d)))"}, {"9.sqrt()", "(expr (call (. 9 sqrt)))"},
        {"1 .e5", "(expr (. 1 e5))"});
}

Test(lang_parse, functions_as_values) {
  CHECK({"x -> x^2", "(expr (fn (targets x) (^ x 2)))"}, {"(x, y) -> x + y", "(expr (fn (targets x y) (+ x y)))"},
        {"() -> 1", "(expr (fn (targets) 1))"}, {"(x) -> x", "(expr (fn (targets x) x))"},
        {"((a, b), c) -> a", "(expr (fn (targets (tuple a b) c) a))"}, {"_ -> 1", "(expr (fn (targets _) 1))"},
        {"x -> y -> x", "(expr (fn (targets x) (fn (targets y) x)))"},
        {"f(x -> x if x > 0 else 0, 2)", "(expr (call f (fn (targets x) (if (> x 0) x 0)) 2))"},
        {"x -> { y = x; y }", "(expr (fn (targets x) (block (bind (targets y) x) (expr y))))"},
        {"1 + (x -> x)(2)", "(expr (+ 1 (call (fn (targets x) x) 2)))"});
}

Test(lang_parse, calls_and_members) {
  CHECK({"f()", "(expr (call f))"}, {"f(1, axis = -1,)", "(expr (call f 1 (arg axis (- 1))))"},
        {"f(for = 1, x = 2)", "(expr (call f (arg for 1) (arg x 2)))"}, {"a.def.if", "(expr (. (. a def) if))"},
        {"sum(x[k] for k)", "(expr (call sum (comp (index x k) (for k))))"},
        {"sum(x[k, l] for k, l)", "(expr (call sum (comp (index x k l) (for k) (for l))))"},
        {"f(a)(b)", "(expr (call (call f a) b))"}, {"x.at[i].set(v)", "(expr (call (. (index (. x at) i) set) v))"},
        {"f([e for k], 1)", "(expr (call f (comp e (for k)) 1))"});
}

Test(lang_parse, subscripts) {
  CHECK({"x[0]", "(expr (index x 0))"}, {"x[1:3, :]", "(expr (index x (: 1 3 -) (: - - -)))"},
        {"x[::2]", "(expr (index x (: - - 2)))"}, {"x[a::b]", "(expr (index x (: a - b)))"},
        {"x[:b:c]", "(expr (index x (: - b c)))"}, {"x[i:i+8]", "(expr (index x (: i (+ i 8) -)))"},
        {"x[..., 0]", "(expr (index x ... 0))"}, {"x[:, none]", "(expr (index x (: - - -) none))"},
        {"x[tok[t], d]", "(expr (index x (index tok t) d))"}, {"x[1,]", "(expr (index x 1))"});
}

Test(lang_parse, comprehensions) {
  CHECK({"[e for i, j]", "(expr (comp e (for i) (for j)))"},
        {"[e for i, j in 0..3]", "(expr (comp e (for i) (for j (.. 0 3))))"},
        {"[sum(x[..., k] for k) for ..., d]",
         "(expr (comp (call sum (comp (index x ... k) (for k))) (for ...) (for d)))"},
        {"sum(x for n if a[n] == k)", "(expr (call sum (comp x (for n) (guard (== (index a n) k)))))"},
        {"[a if c else b for i]", "(expr (comp (if c a b) (for i)))"},
        {"[x for (a, (b, _)) in zip(p, q)]", "(expr (comp x (for (tuple a (tuple b _)) (call zip p q))))"},
        {"[t(l, p) for l in (1, 2), p in (3,)]", "(expr (comp (call t l p) (for l (tuple 1 2)) (for p (tuple 3))))"},
        {"[a, [b for j]]", "(expr (list a (comp b (for j))))"});
}

Test(lang_parse, records_and_blocks) {
  CHECK({"{}", "(expr (record))"}, {"{a}", "(expr (record (field a)))"},
        {"{a, b}", "(expr (record (field a) (field b)))"}, {"{a: 1, b: 2,}", "(expr (record (field a 1) (field b 2)))"},
        {"{if: 1}", "(expr (record (field if 1)))"}, {"{...r, k: v}", "(expr (record (spread r) (field k v)))"},
        {"{\n  a\n}", "(expr (record (field a)))"},
        {"{\n  a: 1,\n  b: 2\n}", "(expr (record (field a 1) (field b 2)))"}, {"{ 1 }", "(expr (block (expr 1)))"},
        {"{ true }", "(expr (block (expr true)))"}, {"{ a + b }", "(expr (block (expr (+ a b))))"},
        {"{ a = 1; a }", "(expr (block (bind (targets a) 1) (expr a)))"},
        {"{ f(x) }", "(expr (block (expr (call f x))))"},
        {"y = { print(i)\n i + 1 }", "(bind (targets y) (block (expr (call print i)) (expr (+ i 1))))"});
}

Test(lang_parse, bindings) {
  CHECK({"x = 1", "(bind (targets x) 1)"}, {"a, b = b, a", "(bind (targets a b) (tuple b a))"},
        {"(a, b) = t", "(bind (targets (tuple a b)) t)"},
        {"(l, aux), g = f(x)", "(bind (targets (tuple l aux) g) (call f x))"},
        {"_, v = f()", "(bind (targets _ v) (call f))"}, {"next m = m + 1", "(next m (+ m 1))"},
        {"next = 1; arg = 2; import = 3; export = 4; where = 5; as = 6; param = 7; state = 8",
         "(bind (targets next) 1)\n(bind (targets arg) 2)\n(bind (targets import) 3)\n(bind (targets export) 4)\n"
         "(bind (targets where) 5)\n(bind (targets as) 6)\n(bind (targets param) 7)\n(bind (targets state) 8)"},
        {"x == 1", "(expr (== x 1))"});
}

Test(lang_parse, loops_and_conditions) {
  CHECK({"for x in xs { print(x) }", "(expr (for (for x xs) (block (expr (call print x)))))"},
        {"fold a, b = 1, 2 for t in 0..n while a < 3 { b, a }",
         "(expr (fold (targets a b) (tuple 1 2) (for t (.. 0 n)) (while (< a 3)) (block (expr (tuple b a)))))"},
        {"s = fold s = {g, d} for b in d { s }",
         "(bind (targets s) (fold (targets s) (record (field g) (field d)) (for b d) (block (expr s))))"},
        {"xs, c = scan x = x for (b, k) in zip(p, q) { f(x) }",
         "(bind (targets xs c) (scan (targets x) x (for (tuple b k) (call zip p q)) (block (expr (call f x)))))"},
        {"fold x = 0 for t in ts { {x} }", "(expr (fold (targets x) 0 (for t ts) (block (expr (record (field x))))))"},
        {"if c { 1 }", "(expr (cond c (block (expr 1))))"},
        {"if a { 1 } else if b { 2 }\nelse { 3 }",
         "(expr (cond a (block (expr 1)) (cond b (block (expr 2)) (block (expr 3)))))"},
        {"y = if c { a } else { b }", "(bind (targets y) (cond c (block (expr a)) (block (expr b))))"},
        {"if c { a } else {}", "(expr (cond c (block (expr a)) (block)))"});
}

Test(lang_parse, definitions) {
  CHECK({"def f() = 1", "(def f (parameters) 1)"},
        {"def f(a: [N, D], k: int = 3) -> [N] where N > k = a, k",
         "(def f (parameters (parameter a (type - (dims N D))) (parameter k (type int) (default 3))) (result (type - "
         "(dims N))) "
         "(where (> N k)) (tuple a k))"},
        {"def f(x: f32[..., H-R+1, 2*d]) { x }",
         "(def f (parameters (parameter x (type f32 (dims ... (+ (- H R) 1) (* 2 d))))) (block (expr x)))"},
        {"def f(x: (int, f32[]), r: {a: [N], if: int}) = x",
         "(def f (parameters (parameter x (ttuple (type int) (type f32 (dims)))) (parameter r (trecord (field a (type "
         "- (dims N))) "
         "(field if (type int))))) x)"},
        {"def f(x) -> {a: int} { {a: x} }",
         "(def f (parameters (parameter x)) (result (trecord (field a (type int)))) (block (expr "
         "(record (field a x)))))"},
        {"def f(x) =\n  x", "(def f (parameters (parameter x)) x)"},
        {"def f(m: model) = m", "(def f (parameters (parameter m (type model))) m)"});
}

Test(lang_parse, models) {
  CHECK({"model D()(x: [B, 784]) -> [B] = x |> Dense(_, 1)",
         "(model D (parameters) (input (parameter x (type - (dims B 784)))) (result (type - (dims B))) (|> x (call "
         "Dense _ 1)))"},
        {"model D(i, o, bias = true) {\n  w: param[i, 4*o] = glorot; s: state f16[o] = zeros\n  if bias { b: param[o] "
         "= zeros }\n"
         "  inner = Dense(i, o)\n  def apply(x) = x @ w\n}",
         "(model D (parameters (parameter i) (parameter o) (parameter bias (default true))) (members (param w (type - "
         "(dims i (* 4 o))) "
         "glorot) (param state s (type f16 (dims o)) zeros) (memberif bias (members (param b (type - (dims o)) "
         "zeros))) (bind (targets "
         "inner) (call Dense i o)) (def apply (parameters (parameter x)) (@ x w))))"});
}

Test(lang_parse, items) {
  CHECK({"import opt, data as d", "(import (field opt) (field data d))"},
        {"arg lr = 1e-3", "(argdecl lr (default 1e-3))"}, {"arg n: int", "(argdecl n (type int))"},
        {"export predict(x: [B, 1]) = net(x)",
         "(export (def predict (parameters (parameter x (type - (dims B 1)))) (call net x)))"});
}

Test(lang_parse, newlines) {
  CHECK({"a = 1\nb = 2", "(bind (targets a) 1)\n(bind (targets b) 2)"},
        {"a = 1; b = 2;;\n;", "(bind (targets a) 1)\n(bind (targets b) 2)"},
        {"x\n|> f\n  # note\n  |> g", "(expr (|> (|> x f) g))"}, {"x\n.f()\n.g", "(expr (. (call (. x f)) g))"},
        {"a if c\nelse b", "(expr (if c a b))"}, {"elsewhere\nelse1 = 2", "(expr elsewhere)\n(bind (targets else1) 2)"},
        {"a +\n\n  b", "(expr (+ a b))"}, {"x = a,\n b", "(bind (targets x) (tuple a b))"},
        {"x =\n 1", "(bind (targets x) 1)"}, {"f(a\n,\nb\n)", "(expr (call f a b))"}, {"a\n(b)", "(expr a)\n(expr b)"},
        {"a\n[b]", "(expr a)\n(expr (list b))"}, {"a\n-b", "(expr a)\n(expr (- b))"},
        {"f({\n a = 1\n a\n})", "(expr (call f (block (bind (targets a) 1) (expr a))))"},
        {"a\r\nb\r\n", "(expr a)\n(expr b)"},
        {"\xef\xbb\xbf"
         "a",
         "(expr a)"},
        {"", ""}, {"# only\n\n", ""});
}

Test(lang_parse, spans_and_flags) {
  Parsed p = parse_text("x = (a + b) * c;\nf(1);\ng(2)");
  Ast *mul = p.ast->kid[0]->b;
  cr_expect_eq(mul->span.lo, 4);
  cr_expect_eq(mul->span.hi, 15);
  cr_expect_eq(mul->at.lo, 12);
  cr_expect_eq(mul->a->span.lo, 4, "a parenthesised operand's span has its parentheses");
  cr_expect_eq(p.ast->kid[1]->ival, 1, "a ';' hides the value");
  cr_expect_eq(p.ast->kid[2]->ival, 0);
  parsed_free(&p);
}

Test(lang_parse, names_are_interned) {
  Arena *a = arena_new();
  Names *n = names_new(a);
  Name first = name_of(n, "alpha", 5);
  char text[16];
  for (int k = 0; k < 5000; k++) {
    int len = snprintf(text, sizeof text, "n%d", k);
    Name x = name_of(n, text, (size_t)len);
    cr_assert_str_eq(x, text);
    cr_assert_eq(x, name_of(n, text, (size_t)len));
  }
  cr_expect_eq(first, name_of(n, "alphabet", 5));
  cr_expect_neq(first, name_of(n, "alph", 4));
  arena_free(a);
}

Test(lang_parse, equality_of_trees) {
  static const char *const text[] = {"a + b",
                                     "a - b",
                                     "a + c",
                                     "f(a)",
                                     "f(a, b)",
                                     "f(x = a)",
                                     "[a]",
                                     "[a for i]",
                                     "[a for j]",
                                     "[a for i if b]",
                                     "x[:, 1]",
                                     "x[1:, 1]",
                                     "1",
                                     "1.0",
                                     "2",
                                     "\"a\"",
                                     "\"b\"",
                                     "\"{a}\"",
                                     "\"{a:1}\"",
                                     "x -> a",
                                     "(x, y) -> a",
                                     "{a}",
                                     "{a: b}",
                                     "def f(x) = x",
                                     "def f(x: int) = x",
                                     "def f(x) { x }",
                                     "def f(x) -> int = x",
                                     "def f(x) where a = x",
                                     "for i in a { b }",
                                     "for i in a while c { b }"};
  int n = (int)(sizeof text / sizeof *text);
  for (int i = 0; i < n; i++) {
    Parsed p = parse_text(text[i]);
    for (int j = 0; j < n; j++) {
      Parsed q = parse_text(text[j]);
      cr_expect_eq(ast_equal(p.ast, q.ast), i == j, "%s and %s", text[i], text[j]);
      parsed_free(&q);
    }
    parsed_free(&p);
  }
}
