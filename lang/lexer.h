/* Tokens of tg, made one at a time from a source.
 *
 * Newlines are decided here: a NL token comes out only where a newline ends a statement (see `ends_statement` in
 * lexer.c), so the parser never skips any. Strings come as STR_OPEN, then STR_TEXT and INTERP_OPEN .. INTERP_CLOSE
 * in any order (FORMAT before the latter), then STR_CLOSE; inside an interpolation tokens are the usual ones.
 * Lexical mistakes are tokens too (T_ERROR): the parser reports them when it reaches them.
 * Comments are collected aside, for documentation and for the formatter. */
#ifndef TG_LANG_LEXER_H
#define TG_LANG_LEXER_H
#include "lang/ast.h"

/* TOK(id, text): text is what messages show. Order: punctuation longest first (the lexer tries in this order). */
#define PUNCTUATION(TOK) \
  TOK(T_ELLIPSIS, "...") TOK(T_PIPE, "|>") TOK(T_ARROW, "->") TOK(T_RANGE, "..") TOK(T_FLOORDIV, "//") \
  TOK(T_EQ, "==") TOK(T_NE, "!=") TOK(T_LE, "<=") TOK(T_GE, ">=") TOK(T_LT, "<") TOK(T_GT, ">") TOK(T_ASSIGN, "=") \
  TOK(T_PLUS, "+") TOK(T_MINUS, "-") TOK(T_STAR, "*") TOK(T_SLASH, "/") TOK(T_PERCENT, "%") TOK(T_MATMUL, "@") \
  TOK(T_CARET, "^") TOK(T_DOT, ".") TOK(T_COMMA, ",") TOK(T_COLON, ":") TOK(T_SEMI, ";") TOK(T_LPAREN, "(") \
  TOK(T_RPAREN, ")") TOK(T_LBRACKET, "[") TOK(T_RBRACKET, "]") TOK(T_LBRACE, "{") TOK(T_RBRACE, "}")
#define KEYWORDS(TOK) \
  TOK(T_DEF, "def") TOK(T_MODEL, "model") TOK(T_FOLD, "fold") TOK(T_SCAN, "scan") TOK(T_FOR, "for") TOK(T_IN, "in") \
  TOK(T_IF, "if") TOK(T_ELSE, "else") TOK(T_WHILE, "while") TOK(T_AND, "and") TOK(T_OR, "or") TOK(T_NOT, "not") \
  TOK(T_TRUE, "true") TOK(T_FALSE, "false") TOK(T_NONE, "none")

typedef enum {
  T_EOF, T_NL, T_NAME, T_INT, T_FLOAT, T_STR_OPEN, T_STR_TEXT, T_INTERP_OPEN, T_FORMAT, T_INTERP_CLOSE, T_STR_CLOSE,
  T_ERROR,
#define TOK(id, text) id,
  PUNCTUATION(TOK) KEYWORDS(TOK)
#undef TOK
  T_COUNT
} TokKind;
const char *tok_text(TokKind k); /* "'->'", "a name", "the end of the file" */
static inline bool tok_is_word(TokKind k) { return k == T_NAME || k >= T_DEF; }

/* What the parser learns about a token and the formatter needs; ROLE_NONE: spaced as its kind is. */
typedef enum {
  ROLE_NONE,
  ROLE_PREFIX,   /* unary sign or spread: no space after */
  ROLE_TIGHT,    /* operator or slice colon without spaces */
  ROLE_SUFFIX,   /* bracket of a call, subscript, parameter list or dims: no space before */
  ROLE_BLOCK,    /* brace of a block or of members */
  ROLE_RECORD,   /* brace of a record or record type */
  ROLE_BODY,     /* '=' or '->' before a value or body: a line break may follow */
  ROLE_SIGNATURE,/* the same after the signature of a def or model: a good place for one */
  ROLE_SILENT,   /* ';' after an expression at top level, which hides its value at the prompt */
  ROLE_OPERATOR, /* binary operator */
  ROLE_CLAUSE    /* `for` or guard `if` of a comprehension, `if` or `else` of a choice: a line may break before it */
} Role;

typedef struct { ErrId id; const char *msg, *help; } LexError;
typedef struct {
  uint8_t kind, role;
  uint8_t nl;     /* newlines since the token or comment before: 0, 1, or 2 for two and more */
  bool big;       /* INT: exactly 2^63, good only after a minus sign */
  uint32_t lo, hi;
  uint32_t depth; /* open brackets around it; an opening or closing bracket counts as outside itself */
  union { Name name; int64_t i; double f; const LexError *err; } v;
} Token;

/* `nl` as in Token; own_line: nothing but blanks before it on its line. */
typedef struct { uint32_t lo, hi; bool doc, own_line; uint8_t nl; } Comment;

typedef struct { char open; uint32_t at; } Bracket; /* ( [ {, '"' for a string, 'S' for an interpolation's brace */

typedef struct {
  Arena *arena; /* unit: tokens' texts, comments */
  Names *names;
  const char *text;
  uint32_t len, pos;
  uint32_t interps; /* interpolations open: no newline may come */
  uint8_t nl;       /* newlines skipped since the last token that is not NL */
  uint8_t since;    /* ... and since the last comment */
  uint8_t prev;     /* kind of the last token; T_NL at the beginning */
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
