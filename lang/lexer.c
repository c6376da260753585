/* The lexer: bytes to tokens, one at a time, with the newline rule and the modes of interpolated strings. */
#include "lang/lexer.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *tok_text(TokKind k) {
  static const char *const text[TK_COUNT] = {[TK_EOF] = "the end of the text",
                                             [TK_NL] = "the end of the line",
                                             [TK_NAME] = "a name",
                                             [TK_INT] = "a number",
                                             [TK_FLOAT] = "a number",
                                             [TK_STR_OPEN] = "a string",
                                             [TK_STR_TEXT] = "a string",
                                             [TK_INTERP_OPEN] = "'{'",
                                             [TK_FORMAT] = "a format",
                                             [TK_INTERP_CLOSE] = "'}'",
                                             [TK_STR_CLOSE] = "'\"'",
                                             [TK_ERROR] = "an error",
#define TOK(id, s) [id] = "'" s "'",
                                             PUNCTUATION(TOK) KEYWORDS(TOK)
#undef TOK
  };
  return text[k];
}

static bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_word(char c) { return is_alpha(c) || is_digit(c); }

/* Well-formed UTF-8 by the table of the Unicode standard (3-7): no overlong forms, no surrogates. */
size_t utf8_valid_until(const char *s, size_t len) {
  size_t i = 0;
  while (i < len) {
    unsigned char c = (unsigned char)s[i];
    if (c == 0) return i;
    if (c < 0x80) {
      i++;
      continue;
    }
    int more = c >= 0xc2 && c <= 0xdf ? 1 : c >= 0xe0 && c <= 0xef ? 2 : c >= 0xf0 && c <= 0xf4 ? 3 : 0;
    if (!more || len - i <= (size_t)more) return i;
    unsigned char lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    for (int k = 1; k <= more; k++, lo = 0x80, hi = 0xbf) {
      unsigned char d = (unsigned char)s[i + (size_t)k];
      if (d < lo || d > hi) return i;
    }
    i += (size_t)more + 1;
  }
  return len;
}

void lexer_init(Lexer *l, Arena *unit, Names *names, const char *text, size_t len) {
  *l = (Lexer){.arena = unit, .names = names, .text = text, .len = (uint32_t)len, .prev = TK_NL};
  if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) l->pos = 3; /* byte order mark */
}

static char at(const Lexer *l, uint32_t i) { return i < l->len ? l->text[i] : 0; }
static char top(const Lexer *l) { return l->open.n ? l->open.at[l->open.n - 1].open : 0; }
static void push(Lexer *l, char c, uint32_t pos) {
  Bracket b = {c, pos};
  l->interps += c == 'S';
  vec_push(l->arena, &l->open, b);
}

static bool starts_line(const Lexer *l, uint32_t pos) {
  while (pos > 0 && (l->text[pos - 1] == ' ' || l->text[pos - 1] == '\t')) pos--;
  return pos == 0 || l->text[pos - 1] == '\n';
}

static void pop(Lexer *l) { l->interps -= l->open.at[--l->open.n].open == 'S'; }

/* Skips blanks, newlines and comments; counts newlines in l->nl and stops before them inside a string. */
static void skip_space(Lexer *l) {
  bool one_line = l->interps > 0;
  for (;;) {
    char c = at(l, l->pos);
    if (c == ' ' || c == '\t' || c == '\r' || c == '\f') {
      l->pos++;
    } else if (c == '\n' && !one_line) {
      l->pos++;
      if (l->since < 2) l->since++;
      if (l->nl < 2) l->nl++;
    } else if (c == '#' && !one_line) {
      uint32_t lo = l->pos;
      const char *end = memchr(l->text + lo, '\n', l->len - lo);
      uint32_t hi = end ? (uint32_t)(end - l->text) : l->len;
      l->pos = hi;
      while (hi > lo && (at(l, hi - 1) == '\r' || at(l, hi - 1) == ' ' || at(l, hi - 1) == '\t')) hi--;
      bool doc = at(l, lo + 1) == '#' && at(l, lo + 2) != '#';
      Comment k = {lo, hi, doc, starts_line(l, lo), l->since};
      vec_push(l->arena, &l->comments, k);
      l->since = 0;
    } else {
      return;
    }
  }
}

bool tok_continues(TokKind k) {
  switch (k) {
  case TK_PIPE:
  case TK_ARROW:
  case TK_RANGE:
  case TK_FLOORDIV:
  case TK_EQ:
  case TK_NE:
  case TK_LE:
  case TK_GE:
  case TK_LT:
  case TK_GT:
  case TK_ASSIGN:
  case TK_PLUS:
  case TK_MINUS:
  case TK_STAR:
  case TK_SLASH:
  case TK_PERCENT:
  case TK_MATMUL:
  case TK_CARET:
  case TK_DOT:
  case TK_COMMA:
  case TK_COLON:
  case TK_LPAREN:
  case TK_LBRACKET:
  case TK_LBRACE:
  case TK_IN:
  case TK_IF:
  case TK_ELSE:
  case TK_WHILE:
  case TK_FOR:
  case TK_AND:
  case TK_OR:
  case TK_NOT:
  case TK_FOLD:
  case TK_SCAN:
  case TK_DEF:
  case TK_MODEL:
    return true;
  default:
    return false;
  }
}

/* The newline rule. Called with a newline just skipped, before the next token. */
static bool ends_statement(const Lexer *l) {
  if (l->prev == TK_NL || l->prev == TK_SEMI || tok_continues(l->prev)) return false;
  char t = top(l);
  if (t == '(' || t == '[') return false;
  const char *s = l->text + l->pos;
  uint32_t left = l->len - l->pos;
  if (!left || *s == '}' || *s == ';') return false; /* both end a statement by themselves */
  if (*s == '.' && left > 1 && is_alpha(s[1])) return false;
  if (left > 1 && s[0] == '|' && s[1] == '>') return false;
  return !(left >= 4 && !memcmp(s, "else", 4) && (left == 4 || !is_word(s[4])));
}

static Token error_token(Lexer *l, uint32_t lo, uint32_t hi, ErrId id, const char *help, const char *msg) {
  LexError *e = arena_new_of(l->arena, LexError);
  *e = (LexError){id, msg, help};
  l->pos = hi > l->pos ? hi : l->pos;
  return (Token){.kind = TK_ERROR, .lo = lo, .hi = hi, .v.err = e};
}

/* What people write who come from other languages, and characters outside ASCII. */
static const struct {
  const char *text, *msg, *help;
} foreign[] = {
    {"**", "'**' is not an operator", "power is '^': x^2"},
    {"&&", "'&&' is not an operator", "write 'and'"},
    {"||", "'||' is not an operator", "write 'or'"},
    {"+=", "'+=' is not an operator; names are immutable", "bind the name again: x = x + 1"},
    {"-=", "'-=' is not an operator; names are immutable", "bind the name again: x = x - 1"},
    {"*=", "'*=' is not an operator; names are immutable", "bind the name again: x = x * 2"},
    {"/=", "'/=' is not an operator; names are immutable", "bind the name again: x = x / 2"},
    {":=", "':=' is not an operator", "bind a name in a statement of its own: x = 1"},
    {"=>", "'=>' is not an operator", "a function is x -> e; at least is >="},
    {"!", "'!' is not an operator", "write 'not'"},
    {"&", "'&' is not an operator", "write 'and' for truth values"},
    {"|", "'|' is not an operator", "write 'or' for truth values, '|>' to apply a function"},
    {"~", "'~' is not an operator", "write 'not' for truth values"},
    {"?", "'?' is not an operator", "a choice is: a if c else b"},
    {"\\", "'\\' is not an operator", "a line goes on after an operator or a comma, and inside brackets"},
    {"\xe2\x88\x92", "the minus sign U+2212 is not an operator", "write the ASCII '-'"},
    {"\xe2\x80\x93", "the dash U+2013 is not an operator", "write the ASCII '-'"},
    {"\xc3\x97", "the character U+00D7 is not an operator", "write '*'"},
    {"\xc2\xb7", "the character U+00B7 is not an operator", "write '*'"},
    {"\xe2\x89\xa4", "the character U+2264 is not an operator", "write '<='"},
    {"\xe2\x89\xa5", "the character U+2265 is not an operator", "write '>='"},
    {"\xe2\x89\xa0", "the character U+2260 is not an operator", "write '!='"},
    {"\xe2\x86\x92", "the character U+2192 is not an operator", "write '->'"},
    {"\xe2\x80\xa6", "the character U+2026 is not an operator", "write three dots: ..."},
    {"\xe2\x80\x9c", "the quote U+201C does not begin a string", "write the ASCII '\"'"},
    {"\xe2\x80\x9d", "the quote U+201D does not begin a string", "write the ASCII '\"'"},
    {"\xc2\xa0", "a no-break space (U+00A0) is not a blank", "write an ordinary space"},
};

static Token lex_foreign(Lexer *l) {
  uint32_t lo = l->pos, left = l->len - lo;
  const char *s = l->text + lo;
  for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
    uint32_t n = (uint32_t)strlen(foreign[i].text);
    if (left >= n && !memcmp(s, foreign[i].text, n)) {
      ErrId id = (unsigned char)*s < 0x80 ? P_SYNTAX : P_CHAR;
      return error_token(l, lo, lo + n, id, foreign[i].help, foreign[i].msg);
    }
  }
  if (*s == '\'') {
    uint32_t hi = lo + 1;
    while (hi < l->len && l->text[hi] != '\'' && l->text[hi] != '\n') hi++;
    if (at(l, hi) == '\'') hi++;
    return error_token(l, lo, hi, P_CHAR, "write \"...\"", "strings are in double quotes");
  }
  unsigned char c = (unsigned char)*s;
  uint32_t n = 1;
  while (lo + n < l->len && ((unsigned char)s[n] & 0xc0) == 0x80) n++;
  const char *what = c < 0x20 || c == 0x7f ? arena_printf(l->arena, "the control character 0x%02x", c)
                                           : arena_printf(l->arena, "'%.*s'", (int)n, s);
  return error_token(l, lo, lo + n, P_CHAR, NULL,
                     arena_printf(l->arena, "%s is not a character of tg outside strings and comments", what));
}

static Token lex_word(Lexer *l) {
  static const struct {
    const char *text;
    uint8_t kind;
  } keyword[] = {
#define TOK(id, text) {text, id},
      KEYWORDS(TOK)
#undef TOK
  };
  uint32_t lo = l->pos;
  while (l->pos < l->len && is_word(l->text[l->pos])) l->pos++;
  Token t = {.kind = TK_NAME, .lo = lo, .hi = l->pos};
  t.v.name = name_of(l->names, l->text + lo, l->pos - lo);
  for (size_t i = 0; i < sizeof keyword / sizeof *keyword; i++)
    if (!strcmp(keyword[i].text, t.v.name)) t.kind = keyword[i].kind;
  return t;
}

/* Digits with single underscores between them; the end, or `i` itself where there is none. */
static uint32_t digits(const Lexer *l, uint32_t i, bool hex, bool *ok) {
  uint32_t lo = i;
  for (;; i++) {
    char c = at(l, i);
    bool digit = is_digit(c) || (hex && ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')));
    if (c == '_' && (i == lo || at(l, i - 1) == '_')) *ok = false;
    if (!digit && c != '_') break;
  }
  if (i > lo && at(l, i - 1) == '_') *ok = false;
  return i;
}

static Token lex_number(Lexer *l) {
  uint32_t lo = l->pos, i;
  bool hex = at(l, lo) == '0' && (at(l, lo + 1) == 'x' || at(l, lo + 1) == 'X');
  bool ok = true, decimal = false;
  if (hex) {
    i = digits(l, lo + 2, true, &ok);
    ok = ok && i > lo + 2;
  } else {
    i = digits(l, lo, false, &ok);
    if (at(l, i) == '.' && is_digit(at(l, i + 1))) {
      decimal = true;
      i = digits(l, i + 1, false, &ok);
    } else if (at(l, i) == '.' && at(l, i + 1) != '.' && !is_alpha(at(l, i + 1))) {
      ok = false; /* 1. */
      i++;
    } else if (at(l, i) == '.' && (at(l, i + 1) == 'e' || at(l, i + 1) == 'E') && is_digit(at(l, i + 2))) {
      ok = false; /* 1.e5 */
      i++;
    }
    if (at(l, i) == 'e' || at(l, i) == 'E') {
      decimal = true;
      i++;
      if (at(l, i) == '+' || at(l, i) == '-') i++;
      uint32_t from = i;
      i = digits(l, i, false, &ok);
      ok = ok && i > from;
    }
  }
  uint32_t end = i;
  while (is_word(at(l, end))) end++;
  l->pos = end;
  int shown = end - lo > 40 ? 40 : (int)(end - lo);
  if (end > i || !ok) {
    const char *help = at(l, end - 1) == '.' || strchr("jJ", at(l, end - 1)) == NULL
                           ? "numbers are 12, 1_000, 0xff, 1.5, 1e-3"
                           : "there are no complex numbers";
    return error_token(l, lo, end, P_NUMBER, help,
                       arena_printf(l->arena, "malformed number '%.*s'", shown, l->text + lo));
  }
  char *s = arena_alloc(l->arena, end - lo + 1), *w = s;
  for (uint32_t k = lo; k < end; k++)
    if (l->text[k] != '_') *w++ = l->text[k];
  *w = 0;
  Token t = {.kind = decimal ? TK_FLOAT : TK_INT, .lo = lo, .hi = end};
  errno = 0;
  if (decimal) {
    t.v.f = strtod(s, NULL);
    if (t.v.f > 1.7976931348623157e308)
      return error_token(l, lo, end, P_NUMBER, "infinity is `inf`", "number is larger than any f64");
    return t;
  }
  unsigned long long v = strtoull(hex ? s + 2 : s, NULL, hex ? 16 : 10);
  if (errno == ERANGE || v > 1ull << 63)
    return error_token(l, lo, end, V_OVERFLOW, hex ? NULL : "write it with a decimal point or an exponent for a float",
                       "integer does not fit in 64 bits");
  t.big = v == 1ull << 63;
  t.v.i = t.big ? INT64_MIN : (int64_t)v;
  return t;
}

/* A piece of a string's text, up to a quote or an interpolation; l->pos is inside the string. */
static Token lex_string_text(Lexer *l) {
  uint32_t lo = l->pos;
  if (at(l, lo) == '"') {
    l->pos++;
    pop(l);
    return (Token){.kind = TK_STR_CLOSE, .lo = lo, .hi = lo + 1};
  }
  if (at(l, lo) == '{' && at(l, lo + 1) != '{') {
    push(l, 'S', lo);
    l->pos++;
    return (Token){.kind = TK_INTERP_OPEN, .lo = lo, .hi = lo + 1};
  }
  while (l->pos < l->len) {
    char c = l->text[l->pos];
    if (c == '"' || c == '\n' || (c == '{' && at(l, l->pos + 1) != '{')) break;
    bool pair = (c == '\\' || c == '{') && l->pos + 1 < l->len && l->text[l->pos + 1] != '\n';
    bool code_point = c == '\\' && at(l, l->pos + 1) == 'u' && at(l, l->pos + 2) == '{';
    l->pos += code_point ? 3 : pair ? 2 : 1;
  }
  if (l->pos >= l->len || l->text[l->pos] == '\n') {
    uint32_t from = l->open.at[l->open.n - 1].at;
    pop(l);
    uint32_t hi = l->pos;
    while (hi > from + 1 && strchr(" \t\r", at(l, hi - 1))) hi--;
    return error_token(l, from, hi, P_STRING, "add the closing '\"'", "string does not end on its line");
  }
  return (Token){.kind = TK_STR_TEXT, .lo = lo, .hi = l->pos};
}

/* The text after ':' in an interpolation. */
static Token lex_format(Lexer *l) {
  uint32_t lo = ++l->pos;
  while (l->pos < l->len && !strchr("}\"\n{", l->text[l->pos])) l->pos++;
  Token t = {.kind = TK_FORMAT, .lo = lo, .hi = l->pos};
  t.v.name = name_of(l->names, l->text + lo, l->pos - lo);
  return t;
}

static Token lex_punctuation(Lexer *l) {
  static const struct {
    const char *text;
    uint8_t len, kind;
  } punct[] = {
#define TOK(id, text) {text, sizeof text - 1, id},
      PUNCTUATION(TOK)
#undef TOK
  };
  uint32_t lo = l->pos, left = l->len - lo;
  const char *s = l->text + lo;
  /* `**`, `+=` and the like would otherwise be read as two operators. */
  if (left > 1 &&
      ((s[1] == '=' && strchr("+-*/:", *s)) || (s[0] == '*' && s[1] == '*') || (s[0] == '=' && s[1] == '>')))
    return lex_foreign(l);
  if (left > 1 && *s == '.' && is_digit(s[1]) && l->prev != TK_NAME && l->prev != TK_RPAREN && l->prev != TK_RBRACKET) {
    uint32_t hi = lo + 1;
    while (is_word(at(l, hi))) hi++;
    return error_token(l, lo, hi, P_NUMBER,
                       arena_printf(l->arena, "write 0%.*s", hi - lo > 40 ? 40 : (int)(hi - lo), s),
                       "a number begins with a digit");
  }
  for (size_t i = 0; i < sizeof punct / sizeof *punct; i++) {
    if (left < punct[i].len || memcmp(s, punct[i].text, punct[i].len)) continue;
    l->pos += punct[i].len;
    return (Token){.kind = punct[i].kind, .lo = lo, .hi = l->pos};
  }
  return lex_foreign(l);
}

/* A closing bracket closes the innermost opening one of its kind, past strings never. */
static void close_bracket(Lexer *l, char open) {
  for (int i = l->open.n - 1; i >= 0 && l->open.at[i].open != 'S'; i--) {
    if (l->open.at[i].open != open) continue;
    l->open.n = i;
    return;
  }
}

static Token lex_code(Lexer *l) {
  char c = at(l, l->pos);
  uint32_t lo = l->pos;
  if (top(l) == 'S' && c == ':') return lex_format(l);
  if (top(l) == 'S' && c == '}') {
    pop(l);
    l->pos++;
    return (Token){.kind = TK_INTERP_CLOSE, .lo = lo, .hi = lo + 1};
  }
  if (l->interps && (c == '\n' || lo >= l->len || c == '#')) {
    while (top(l) != 'S') pop(l);
    pop(l);
    uint32_t from = l->open.at[l->open.n - 1].at;
    pop(l); /* the string around it */
    return error_token(l, from, lo, P_STRING, "close the interpolation with '}'; write {{ for a brace itself",
                       c == '#' ? "no comment may stand inside a string's {...}" : "string does not end on its line");
  }
  if (lo >= l->len) return (Token){.kind = TK_EOF, .lo = l->len, .hi = l->len};
  if (is_alpha(c)) return lex_word(l);
  if (is_digit(c)) return lex_number(l);
  if (c == '"' && at(l, lo + 1) == '"' && at(l, lo + 2) == '"') {
    const char *end = memmem(l->text + lo + 3, l->len - lo - 3, "\"\"\"", 3);
    uint32_t hi = end ? (uint32_t)(end - l->text) + 3 : lo + 3;
    return error_token(l, lo, hi, P_STRING, "join lines with \\n", "there are no triple-quoted strings");
  }
  if (c == '"') {
    push(l, '"', lo);
    l->pos++;
    return (Token){.kind = TK_STR_OPEN, .lo = lo, .hi = lo + 1};
  }
  Token t = lex_punctuation(l);
  switch (t.kind) {
  case TK_LPAREN:
    push(l, '(', lo);
    break;
  case TK_LBRACKET:
    push(l, '[', lo);
    break;
  case TK_LBRACE:
    push(l, '{', lo);
    break;
  case TK_RPAREN:
    close_bracket(l, '(');
    break;
  case TK_RBRACKET:
    close_bracket(l, '[');
    break;
  case TK_RBRACE:
    close_bracket(l, '{');
    break;
  default:
    break;
  }
  return t;
}

Token lexer_next(Lexer *l) {
  Token t;
  uint32_t before = (uint32_t)l->open.n;
  if (top(l) == '"') {
    t = lex_string_text(l);
  } else {
    skip_space(l);
    if (l->nl && ends_statement(l)) {
      t = (Token){.kind = TK_NL, .lo = l->pos, .hi = l->pos, .depth = before};
      l->prev = TK_NL;
      return t; /* the newlines themselves count for the next token */
    }
    t = lex_code(l);
  }
  t.nl = l->since;
  t.depth = before < (uint32_t)l->open.n ? before : (uint32_t)l->open.n;
  l->nl = l->since = 0;
  l->prev = t.kind;
  return t;
}

void lexer_restart(Lexer *l, const Token *t, uint32_t depth) {
  l->pos = t->lo;
  l->nl = l->since = t->nl;
  l->prev = TK_NL;
  while ((uint32_t)l->open.n > depth) pop(l);
  while (l->comments.n && l->comments.at[l->comments.n - 1].lo >= t->lo) l->comments.n--;
}
