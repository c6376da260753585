/* Tokens of tg, made one at a time from a source.
 *
 * Newlines are decided here: a NL token comes out only where a newline ends a statement (see `ends_statement` in
 * lexer.c), so the parser never skips any. Strings come as STR_OPEN, then STR_TEXT and INTERP_OPEN .. INTERP_CLOSE
 * in any order (FORMAT before the latter), then STR_CLOSE; inside an interpolation tokens are the usual ones.
 * Lexical mistakes are tokens too (TK_ERROR): the parser reports them when it reaches them.
 * Comments are collected aside, for documentation and for the formatter. */
#ifndef TG_LANG_LEXER_H
#define TG_LANG_LEXER_H
#include "lang/ast.h"

/* TOK(id, text): text is what messages show. Order: punctuation longest first (the lexer tries in this order). */
// clang-format off
#define PUNCTUATION(TOK) \
  TOK(TK_ELLIPSIS, "...") TOK(TK_PIPE, "|>") TOK(TK_ARROW, "->") TOK(TK_RANGE, "..") TOK(TK_FLOORDIV, "//") \
  TOK(TK_EQ, "==") TOK(TK_NE, "!=") TOK(TK_LE, "<=") TOK(TK_GE, ">=") TOK(TK_LT, "<") TOK(TK_GT, ">") \
  TOK(TK_ASSIGN, "=") TOK(TK_PLUS, "+") TOK(TK_MINUS, "-") TOK(TK_STAR, "*") TOK(TK_SLASH, "/") \
  TOK(TK_PERCENT, "%") TOK(TK_MATMUL, "@") TOK(TK_CARET, "^") TOK(TK_DOT, ".") TOK(TK_COMMA, ",") \
  TOK(TK_COLON, ":") TOK(TK_SEMI, ";") TOK(TK_LPAREN, "(") TOK(TK_RPAREN, ")") TOK(TK_LBRACKET, "[") \
  TOK(TK_RBRACKET, "]") TOK(TK_LBRACE, "{") TOK(TK_RBRACE, "}")
#define KEYWORDS(TOK) \
  TOK(TK_DEF, "def") TOK(TK_MODEL, "model") TOK(TK_FOLD, "fold") TOK(TK_SCAN, "scan") TOK(TK_FOR, "for") \
  TOK(TK_IN, "in") TOK(TK_IF, "if") TOK(TK_ELSE, "else") TOK(TK_WHILE, "while") TOK(TK_AND, "and") \
  TOK(TK_OR, "or") TOK(TK_NOT, "not") TOK(TK_TRUE, "true") TOK(TK_FALSE, "false") TOK(TK_NONE, "none")

typedef enum {
  TK_EOF, TK_NL, TK_NAME, TK_INT, TK_FLOAT, TK_STR_OPEN, TK_STR_TEXT, TK_INTERP_OPEN, TK_FORMAT, TK_INTERP_CLOSE,
  TK_STR_CLOSE, TK_ERROR,
#define TOK(id, text) id,
  PUNCTUATION(TOK) KEYWORDS(TOK)
#undef TOK
  TK_COUNT
} TokKind;
// clang-format on
const char *tok_text(TokKind k); /* "'->'", "a name", "the end of the file" */
static inline bool tok_is_word(TokKind k) { return k == TK_NAME || k >= TK_DEF; }

/* What the parser learns about a token and the formatter needs; ROLE_NONE: spaced as its kind is. */
typedef enum {
  ROLE_NONE,
  ROLE_PREFIX,    /* unary sign or spread: no space after */
  ROLE_TIGHT,     /* operator or slice colon without spaces */
  ROLE_SUFFIX,    /* bracket of a call, subscript, parameter list or dims: no space before */
  ROLE_BLOCK,     /* brace of a block or of members */
  ROLE_RECORD,    /* brace of a record or record type */
  ROLE_BODY,      /* '=' or '->' before a value or body: a line break may follow */
  ROLE_SIGNATURE, /* the same after the signature of a def or model: a good place for one */
  ROLE_SILENT,    /* ';' after an expression at top level, which hides its value at the prompt */
  ROLE_OPERATOR,  /* binary operator */
  ROLE_CLAUSE     /* `for` or guard `if` of a comprehension, `if` or `else` of a choice: a line may break before it */
} Role;

typedef struct {
  ErrId id;
  const char *msg, *help;
} LexError;
typedef struct {
  uint8_t kind, role;
  uint8_t nl; /* newlines since the token or comment before: 0, 1, or 2 for two and more */
  bool big;   /* INT: exactly 2^63, good only after a minus sign */
  uint32_t lo, hi;
  uint32_t depth; /* open brackets around it; an opening or closing bracket counts as outside itself */
  union {
    Name name;
    int64_t i;
    double f;
    const LexError *err;
  } v;
} Token;

/* `nl` as in Token; own_line: nothing but blanks before it on its line. */
typedef struct {
  uint32_t lo, hi;
  bool doc, own_line;
  uint8_t nl;
} Comment;

typedef struct {
  char open;
  uint32_t at;
} Bracket; /* ( [ {, '"' for a string, 'S' for an interpolation's brace */

typedef struct {
  Arena *arena; /* unit: tokens' texts, comments */
  Names *names;
  const char *text;
  uint32_t len, pos;
  uint32_t interps; /* interpolations open: no newline may come */
  uint8_t nl;       /* newlines skipped since the last token that is not NL */
  uint8_t since;    /* ... and since the last comment */
  uint8_t prev;     /* kind of the last token; TK_NL at the beginning */
  VEC(Bracket) open;
  VEC(Comment) comments;
} Lexer;

/* `text` must outlive the lexer and be at most SOURCE_MAX bytes. */
enum { SOURCE_MAX = 16 << 20, LINE_MAX_BYTES = 1 << 20 };
void lexer_init(Lexer *l, Arena *unit, Names *names, const char *text, size_t len);
Token lexer_next(Lexer *l);
/* Goes back to the beginning of `t`, as if it began a statement inside `depth` open brackets. */
void lexer_restart(Lexer *l, const Token *t, uint32_t depth);
/* Could a line end here and go on in the next? (after operators, commas, `=`) */
bool tok_continues(TokKind k);
/* The byte position of the first NUL or of the first byte that is not UTF-8; len when there is none. */
size_t utf8_valid_until(const char *s, size_t len);
#endif
