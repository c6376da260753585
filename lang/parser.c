/* The parser: tokens, errors, statements and recovery, and the entries parse_file and parse_complete. */
#include "lang/parser.h"
#include <string.h>

const char *const ast_op_text[] = {"+",  "-", "*",  "/",   "//", "%",  "@",  "^", "==", "!=", "<",
                                   "<=", ">", ">=", "and", "or", "|>", "..", "-", "+",  "not"};

/* ---- tokens ---- */

Token *peek(Parser *p, uint32_t k) {
  while ((uint32_t)p->tok.n <= p->i + k) {
    Token t = lexer_next(&p->lex);
    vec_push(p->a, &p->tok, t);
  }
  return &p->tok.at[p->i + k];
}

uint32_t take(Parser *p) {
  peek(p, 0);
  return p->i++;
}

bool accept(Parser *p, TokKind k) {
  if (kind(p) != k) return false;
  p->i++;
  return true;
}

bool at_word(Parser *p, uint32_t k, const char *w) {
  Token *t = peek(p, k);
  return t->kind == TK_NAME && !strcmp(t->v.name, w);
}

Name word(Parser *p, const char *s) { return name_of(p->names, s, strlen(s)); }

/* ---- errors ---- */

Span tok_span(Parser *p, uint32_t tok) {
  if (tok == p->i) peek(p, 0);
  return (Span){p->file, p->tok.at[tok].lo, p->tok.at[tok].hi};
}

/* The current token as messages call it. */
static const char *found(Parser *p) {
  Token *t = peek(p, 0);
  int n = t->hi - t->lo > 30 ? 30 : (int)(t->hi - t->lo);
  if (t->kind == TK_NAME || t->kind == TK_INT || t->kind == TK_FLOAT)
    return arena_printf(p->a, "'%.*s'", n, p->lex.text + t->lo);
  return tok_text(t->kind);
}

/* Where the mistake shows: the current token, or the end of the one before when the line has ended in between. */
static Span error_span(Parser *p) {
  Token *t = peek(p, 0);
  if (p->i > 0 && (t->kind == TK_EOF || t->kind == TK_NL || t->nl)) {
    uint32_t hi = p->tok.at[p->i - 1].hi;
    return (Span){p->file, hi, hi};
  }
  return tok_span(p, p->i);
}

static void count_error(Parser *p) {
  Token *t = peek(p, 0);
  if (!p->nerror && t->kind == TK_EOF)
    p->wants_more = p->lex.open.n > 0 || (p->i > 0 && tok_continues(p->tok.at[p->i - 1].kind));
  if (++p->nerror >= ERRORS_MAX) p->fatal = true;
}

void fail_at(Parser *p, ErrId id, Span at, const char *help, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  const char *msg = arena_vprintf(p->a, fmt, ap);
  va_end(ap);
  count_error(p);
  Diag *g = diag_add(p->d, id, at, "%s", msg);
  if (help) diag_help(p->d, g, "%s", help);
  diag_unwind(p->d);
}

/* Words of other languages that stand where tg has something else; `before`: the mistake shows at the token after. */
static const struct {
  const char *word, *help;
} habits[] = {
    {"lambda", "a function is x -> e, or (x, y) -> e"},
    {"return", "a block's value is its last expression: leave `return` out"},
    {"elif", "write `else if`"},
    {"from", "write `import m`, then m.name"},
    {"let", "a name is bound by x = e alone"},
    {"var", "a name is bound by x = e alone"},
    {"const", "a name is bound by x = e alone"},
    {"val", "a name is bound by x = e alone"},
    {"print", "print is a function: print(x)"},
    {"assert", "assert is a function: assert(c)"},
    {"is", "equality is =="},
    {"fn", "write `def f(x) = e`, or x -> e"},
    {"fun", "write `def f(x) = e`, or x -> e"},
    {"func", "write `def f(x) = e`, or x -> e"},
    {"function", "write `def f(x) = e`, or x -> e"},
    {"class", "write `model M(...) { ... }`, or a record {a: 1}"},
    {"struct", "a record is {a: 1, b: 2}"},
    {"del", "names are immutable and end with their block"},
    {"global", "names are immutable; bind a new one"},
    {"yield", "a `scan` stacks the values of its block"},
    {"with", "there is no `with`; bind names by x = e"},
    {"raise", "assert(c) fails when c is false"},
    {"then", "write a if c else b, or if c { a } else { b }"},
    {"do", "a loop's body is a block: for x in xs { ... }"},
    {"end", "a block ends with }"},
    {"xor", "write a != b for truth values"},
    {"mod", "write a % b"},
};

static const char *habit(const char *w) {
  for (size_t i = 0; i < sizeof habits / sizeof *habits; i++)
    if (!strcmp(habits[i].word, w)) return habits[i].help;
  return NULL;
}

/* One suggestion for what stands at the current token, or NULL. */
static const char *hint(Parser *p) {
  Token *t = peek(p, 0), *before = p->i > 0 ? &p->tok.at[p->i - 1] : NULL;
  if (t->kind == TK_ERROR) return t->v.err->help;
  const char *h = NULL;
  if (before && before->kind == TK_NAME && t->kind != TK_NL && t->kind != TK_EOF && !t->nl) h = habit(before->v.name);
  if (!h && t->kind == TK_NAME && !t->nl) h = habit(t->v.name);
  if (h) return h;
  TokKind start = p->tok.at[p->statement].kind;
  bool header = start == TK_DEF || start == TK_MODEL || start == TK_IF || start == TK_FOR || start == TK_FOLD ||
                start == TK_SCAN || start == TK_WHILE || (before && before->kind == TK_ELSE);
  switch ((TokKind)t->kind) {
  case TK_COLON:
    if (start == TK_DEF) return "tg has no ':' here; a body is `= e` or `{ ... }`";
    if (header) return "tg has no ':' here; a body is `{ ... }`";
    return NULL;
  case TK_LBRACE:
    if ((start != TK_MODEL && start != TK_DEF) || p->i != p->statement + 2) return NULL;
    return start == TK_DEF ? "without parameters, too, there are parentheses: `def f() { ... }`"
                           : "without parameters, too, there are parentheses: `model Net() { ... }`";
  case TK_NL:
    return header ? "a body begins on this line: `{ ... }`, or in a def `= e`" : NULL;
  case TK_ASSIGN:
    return "equality is ==; a binding `x = e` is a statement of its own";
  case TK_IN:
    return "there is no `in` test; write any(xs == x)";
  case TK_WHILE:
    return "a loop is `for t in 0..n { ... }`, or `fold s = s0 for t in 0..n while c { ... }`";
  case TK_FLOORDIV:
    return "a comment begins with #";
  case TK_STR_OPEN:
    if (before && before->kind == TK_STR_CLOSE && before->hi == t->lo) return "a quote inside a string is \\\"";
    return NULL;
  case TK_NOT:
    return "put it in parentheses: (not a)";
  default:
    return NULL;
  }
}

_Noreturn static void fail_lexical(Parser *p) {
  const LexError *e = peek(p, 0)->v.err;
  fail_at(p, e->id, tok_span(p, p->i), e->help, "%s", e->msg);
}

void unexpected(Parser *p, const char *expected) {
  if (kind(p) == TK_ERROR) fail_lexical(p);
  fail_at(p, P_SYNTAX, error_span(p), hint(p), "expected %s, found %s", expected, found(p));
}

uint32_t expect(Parser *p, TokKind k, const char *after) {
  if (kind(p) == k) return take(p);
  unexpected(p, arena_printf(p->a, "%s %s", tok_text(k), after));
}

static int line_of(Parser *p, uint32_t pos) {
  const char *file;
  int line, col;
  span_position(p->d, (Span){p->file, pos, pos}, &file, &line, &col);
  return line;
}

void expect_close(Parser *p, TokKind k, uint32_t open, const char *separator) {
  if (accept(p, k)) return;
  if (kind(p) == TK_ERROR) fail_lexical(p);
  const char *opened = p->lex.text + p->tok.at[open].lo, *help = hint(p);
  Span at = error_span(p);
  Token *from = &p->tok.at[open];
  if (from->role == ROLE_RECORD && kind(p) == TK_NL) help = "commas separate the fields of a record";
  if (from->kind == TK_INTERP_OPEN && !help) help = "write {{ for a brace itself";
  count_error(p);
  Diag *g = diag_add(p->d, P_SYNTAX, at, "expected %s%s to close the '%c' at line %d, found %s", separator, tok_text(k),
                     *opened, line_of(p, p->tok.at[open].lo), found(p));
  diag_note(p->d, g, tok_span(p, open), "'%c' was opened here", *opened);
  if (help) diag_help(p->d, g, "%s", help);
  diag_unwind(p->d);
}

_Noreturn static void too_deep(Parser *p, Span at) {
  p->fatal = true;
  fail_at(p, P_DEPTH, at, "name the parts: a = ..., then use a", "nested more than %d levels deep", DEPTH_MAX);
}

void enter(Parser *p) {
  if (++p->depth > DEPTH_MAX) {
    peek(p, 0);
    too_deep(p, tok_span(p, p->i));
  }
}

/* ---- nodes ---- */

Ast *node(Parser *p, AstKind k, uint32_t first) {
  Ast *n = arena_new_of(p->a, Ast);
  n->kind = (uint8_t)k;
  n->id = names_next_id(p->names);
  n->span = n->at = tok_span(p, first);
  return n;
}

static int raise_height(const Ast *kid, int h) {
  if (!kid) return h;
  bool wrapper = kid->kind == AST_ARG || kid->kind == AST_FIELD || kid->kind == AST_EXPR || kid->kind == AST_CLAUSE;
  int k = kid->height + !wrapper;
  return k > h ? k : h;
}

Ast *close_node(Parser *p, Ast *n) {
  if (p->i > 0 && p->tok.at[p->i - 1].hi > n->span.hi) n->span.hi = p->tok.at[p->i - 1].hi;
  int h = raise_height(n->type, raise_height(n->c, raise_height(n->b, raise_height(n->a, 0))));
  for (int k = 0; k < n->nkid; k++) h = raise_height(n->kid[k], h);
  for (int k = 0; k < n->nkid2; k++) h = raise_height(n->kid2[k], h);
  if (h > DEPTH_MAX) too_deep(p, n->at);
  n->height = (uint16_t)h;
  return n;
}

void set_kids(Parser *p, Ast *n, const AstVec *v) {
  n->kid = v->at;
  n->nkid = v->n;
}

/* The text of comments [lo, hi), one a line, without marks; NULL for none. */
static const char *comment_text(Parser *p, int lo, int hi) {
  size_t len = 1;
  for (int k = lo; k < hi; k++) len += p->lex.comments.at[k].hi - p->lex.comments.at[k].lo + 1;
  if (lo == hi) return NULL;
  char *text = arena_alloc(p->a, len), *w = text;
  for (int k = lo; k < hi; k++) {
    const char *s = p->lex.text + p->lex.comments.at[k].lo + 2, *e = p->lex.text + p->lex.comments.at[k].hi;
    if (s < e && *s == ' ') s++;
    memcpy(w, s, (size_t)(e - s));
    w += e - s;
    if (k + 1 < hi) *w++ = '\n';
  }
  *w = 0;
  return text;
}

const char *doc_above(Parser *p, uint32_t tok) {
  uint32_t pos = p->tok.at[tok].lo, before = 0;
  uint8_t nl = p->tok.at[tok].nl;
  int hi = p->lex.comments.n, lo;
  for (uint32_t k = tok; k > 0 && !before; k--)
    if (p->tok.at[k - 1].kind != TK_NL) before = p->tok.at[k - 1].hi;
  while (hi > 0 && p->lex.comments.at[hi - 1].lo > pos) hi--;
  for (lo = hi; lo > 0 && nl == 1; lo--) {
    Comment *c = &p->lex.comments.at[lo - 1];
    if (!c->doc || !c->own_line || c->lo < before) break;
    nl = c->nl;
  }
  return comment_text(p, lo, hi);
}

/* The file's own documentation: its first ## lines, when they stand before everything and not right above an item. */
static void file_doc(Parser *p, Ast *f) {
  Token *t = &p->tok.at[0];
  int lo = 0, n = 0, hi;
  while (n < p->lex.comments.n && p->lex.comments.at[n].lo < t->lo) n++;
  while (lo < n && !p->lex.comments.at[lo].doc) lo++;
  if (lo == n) return;
  for (hi = lo + 1; hi < n && p->lex.comments.at[hi].doc && p->lex.comments.at[hi].nl == 1; hi++) {}
  if (hi == n && t->nl == 1 && t->kind != TK_EOF) return;
  f->at = (Span){p->file, p->lex.comments.at[lo].lo, p->lex.comments.at[hi - 1].hi};
  f->doc = comment_text(p, lo, hi);
}

/* ---- statements ---- */

static uint32_t column(const Parser *p, uint32_t pos) {
  uint32_t lo = pos;
  while (lo > 0 && p->lex.text[lo - 1] != '\n') lo--;
  return pos - lo;
}

/* After a mistake in the statement that began at token `first`: goes to its end. A line that begins no further right
 * than the statement begins a new one even inside brackets: a bracket was forgotten. */
static void recover(Parser *p, uint32_t first) {
  uint32_t depth = p->tok.at[first].depth, col = column(p, p->tok.at[first].lo), seen = p->i;
  for (p->i = first + (seen > first);; p->i++) {
    Token *t = peek(p, 0);
    if (t->kind == TK_EOF || t->depth < depth) return;
    if (p->i >= seen && t->depth == depth && (t->kind == TK_NL || t->kind == TK_SEMI)) return;
    bool closes = t->kind == TK_RPAREN || t->kind == TK_RBRACKET || t->kind == TK_RBRACE;
    bool inner = t->kind == TK_STR_TEXT || t->kind == TK_STR_CLOSE;
    if (p->i > first && t->nl && t->depth > depth && !closes && !inner && column(p, t->lo) <= col) {
      Token start = *t;
      lexer_restart(&p->lex, &start, depth);
      p->tok.n = (int)p->i;
      return;
    }
  }
}

static bool at_end(Parser *p) {
  TokKind k = kind(p);
  return k == TK_EOF || k == TK_NL || k == TK_SEMI || k == TK_RBRACE;
}

void parse_sequence(Parser *p, AstVec *out, Ast *(*rule)(Parser *p, bool top), bool top) {
  for (;;) {
    while (kind(p) == TK_NL || kind(p) == TK_SEMI) take(p);
    if (kind(p) == TK_EOF || p->fatal || (kind(p) == TK_RBRACE && !top)) return;
    uint32_t first = p->i, outer = p->statement;
    int depth = p->depth;
    p->statement = first;
    DIAG_TRY(p->d) {
      if (kind(p) == TK_RBRACE || kind(p) == TK_RPAREN || kind(p) == TK_RBRACKET)
        fail_at(p, P_SYNTAX, tok_span(p, p->i), NULL, "%s closes nothing", tok_text(kind(p)));
      Ast *s = rule(p, top);
      if (!at_end(p)) unexpected(p, "a new line or ';' after the statement");
      if (s->kind == AST_EXPR && kind(p) == TK_SEMI) {
        s->ival = 1;
        if (top) set_role(p, p->i, ROLE_SILENT);
      }
      vec_push(p->a, out, s);
    }
    DIAG_CAUGHT(p->d) {
      p->depth = depth;
      if (!p->fatal) {
        recover(p, first);
        if (p->i == first && kind(p) != TK_EOF && !(kind(p) == TK_RBRACE && !top)) take(p);
      }
    }
    DIAG_END(p->d);
    p->statement = outer;
    if (p->fatal && !top) diag_unwind(p->d);
  }
}

Ast *parse_block(Parser *p) {
  if (kind(p) != TK_LBRACE) unexpected(p, "'{' before the body");
  uint32_t open = take(p);
  set_role(p, open, ROLE_BLOCK);
  Ast *n = node(p, AST_BLOCK, open);
  AstVec v = {0};
  parse_sequence(p, &v, parse_statement, false);
  expect_close(p, TK_RBRACE, open, "");
  set_role(p, p->i - 1, ROLE_BLOCK);
  set_kids(p, n, &v);
  return close_node(p, n);
}

/* exprs ["=" exprs] */
static Ast *parse_binding(Parser *p, uint32_t first) {
  Ast *e = parse_exprs(p);
  if (kind(p) != TK_ASSIGN) {
    Ast *n = node(p, AST_EXPR, first);
    n->a = e;
    return close_node(p, n);
  }
  Ast *n = node(p, AST_BIND, first);
  n->at = tok_span(p, p->i);
  AstVec v = {0};
  /* `a, b = ...` has two targets, `(a, b) = ...` one that is nested. */
  if (e->kind == AST_TUPLE && e->ival) {
    for (int k = 0; k < e->nkid; k++) {
      Ast *t = to_target(p, e->kid[k]);
      vec_push(p->a, &v, t);
    }
  } else {
    Ast *t = to_target(p, e);
    vec_push(p->a, &v, t);
  }
  set_kids(p, n, &v);
  set_role(p, take(p), ROLE_BODY);
  n->b = parse_exprs(p);
  if (kind(p) == TK_ASSIGN)
    fail_at(p, P_SYNTAX, tok_span(p, p->i), "bind one name in each statement, or write == for equality",
            "a binding has one '='");
  return close_node(p, n);
}

static Ast *parse_next(Parser *p, uint32_t first) {
  take(p);
  Ast *n = node(p, AST_NEXT, first);
  n->at = tok_span(p, p->i);
  n->name = peek(p, 0)->v.name;
  take(p);
  set_role(p, expect(p, TK_ASSIGN, "after `next name`"), ROLE_BODY);
  n->b = parse_exprs(p);
  return close_node(p, n);
}

Ast *parse_statement(Parser *p, bool top) {
  uint32_t first = p->i;
  bool named = kind(p) == TK_NAME && peek(p, 1)->kind == TK_NAME;
  if (kind(p) == TK_DEF) {
    take(p);
    return parse_def(p, first);
  }
  if (kind(p) == TK_MODEL) return parse_model(p);
  if (kind(p) == TK_WHILE) unexpected(p, "a statement");
  if (named && at_word(p, 0, "next")) return parse_next(p, first);
  bool item = named && (at_word(p, 0, "import") || at_word(p, 0, "arg") || at_word(p, 0, "export"));
  if (item && !top) fail_at(p, P_SYNTAX, tok_span(p, first), NULL, "'%s' stands at top level only", peek(p, 0)->v.name);
  if (item && at_word(p, 0, "import")) return parse_import(p);
  if (item && at_word(p, 0, "arg")) return parse_argdecl(p);
  if (item) return parse_export(p);
  return parse_binding(p, first);
}

/* ---- entries ---- */

/* Size and encoding: what makes the rest of the parser's assumptions true. */
static bool readable(Parser *p, const Source *s) {
  Diag *g = NULL;
  if (s->len > SOURCE_MAX) {
    g = diag_add(p->d, P_SIZE, (Span){p->file, 0, 0}, "source of %zu bytes; the limit is %d MiB", s->len,
                 SOURCE_MAX >> 20);
  } else {
    size_t bad = utf8_valid_until(s->text, s->len);
    const char *line = s->text, *end = s->text + s->len;
    while (line < end) {
      const char *nl = memchr(line, '\n', (size_t)(end - line));
      if (!nl) nl = end;
      if (nl - line > LINE_MAX_BYTES) {
        uint32_t lo = (uint32_t)(line - s->text);
        g = diag_add(p->d, P_SIZE, (Span){p->file, lo, lo}, "line of %zu bytes; the limit is %d MiB",
                     (size_t)(nl - line), LINE_MAX_BYTES >> 20);
        diag_help(p->d, g, "keep data in files: load(\"x.npy\")");
        break;
      }
      line = nl + 1;
    }
    if (!g && bad < s->len) {
      Span at = {p->file, (uint32_t)bad, (uint32_t)bad + 1};
      g = s->text[bad] ? diag_add(p->d, P_CHAR, at, "byte 0x%02x is not UTF-8", (unsigned char)s->text[bad])
                       : diag_add(p->d, P_CHAR, at, "NUL byte in the source");
      diag_help(p->d, g, "a source is text in UTF-8");
    }
  }
  if (g) p->nerror++;
  return !g;
}

void parser_init(Parser *p, Diags *d, Arena *unit, Names *names, uint32_t file) {
  *p = (Parser){.d = d, .a = unit, .names = names, .file = file};
}

Ast *parser_run(Parser *p) {
  const Source *s = p->d->source.at[p->file - 1];
  if (!readable(p, s)) return NULL;
  lexer_init(&p->lex, p->a, p->names, s->text, s->len);
  peek(p, 0);
  Ast *f = node(p, AST_FILE, 0);
  f->span = f->at = (Span){p->file, 0, (uint32_t)s->len};
  file_doc(p, f);
  AstVec v = {0};
  parse_sequence(p, &v, parse_statement, true);
  set_kids(p, f, &v);
  f->span.hi = (uint32_t)s->len;
  return f;
}

Ast *parse_file(Diags *d, Arena *unit, Names *names, uint32_t file) {
  Parser p;
  parser_init(&p, d, unit, names, file);
  Ast *f = parser_run(&p);
  if (f) return f;
  f = arena_new_of(unit, Ast);
  f->kind = AST_FILE;
  f->id = names_next_id(names);
  f->span = f->at = (Span){file, 0, 0};
  return f;
}

ParseState parse_complete(const char *text, size_t len) {
  Arena *scratch = arena_new();
  Diags *d = diags_new(scratch);
  uint32_t file = diag_source(d, "", text, len);
  Parser p;
  parser_init(&p, d, scratch, names_new(scratch), file);
  Ast *f = parser_run(&p);
  ParseState s = !p.nerror ? PARSE_DONE : p.wants_more ? PARSE_MORE : PARSE_ERROR;
  int n = p.lex.comments.n; /* documentation waits for what it documents */
  if (s == PARSE_DONE && f && !f->nkid && n && p.lex.comments.at[n - 1].doc) s = PARSE_MORE;
  arena_free(scratch);
  return s;
}
