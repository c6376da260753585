/* The parser's own data; internal to lang/ (the formatter uses the tokens and their roles).
 *
 * Recursive descent over a growing array of tokens. A mistake unwinds (diag_unwind) to the innermost statement, which
 * skips to its end and goes on, so one file reports several. parser.c has statements and recovery, parser_expr.c
 * and parser_primary.c expressions, parser_decl.c signatures, types, models and imports.
 * Invariants: i <= tok.n; every token before i has been consumed, at most three after it are known. */
#ifndef TG_LANG_PARSER_H
#define TG_LANG_PARSER_H
#include "lang/lexer.h"

enum { DEPTH_MAX = 1000, ERRORS_MAX = 20 };
typedef VEC(Ast *) AstVec;

typedef struct {
  Diags *d;
  Arena *a;
  Names *names;
  uint32_t file;
  Lexer lex;
  VEC(Token) tok;
  uint32_t i; /* the current token */
  int depth;  /* rules entered and not left that can hold themselves */
  int nerror;
  bool fatal;         /* nesting too deep or too many errors: no recovery */
  bool wants_more;    /* the first error came from a text that stops too early */
  uint32_t lambda_at; /* token where an expression began: only there "(" may open a function's parameters */
  uint32_t statement; /* token where the innermost statement began: for hints */
} Parser;

void parser_init(Parser *p, Diags *d, Arena *unit, Names *names, uint32_t file);
/* The whole file; p keeps tokens, roles and comments. NULL when the text can't be read at all (size, encoding). */
Ast *parser_run(Parser *p);

/* ---- tokens ---- */
Token *peek(Parser *p, uint32_t k); /* valid until the next peek or take; do not keep */
static inline TokKind kind(Parser *p) { return peek(p, 0)->kind; }
uint32_t take(Parser *p); /* consumes; gives the index of the token */
bool accept(Parser *p, TokKind k);
static inline void set_role(Parser *p, uint32_t tok, Role r) { p->tok.at[tok].role = (uint8_t)r; }
bool at_word(Parser *p, uint32_t k, const char *word);    /* is token k the NAME `word`? */
uint32_t expect(Parser *p, TokKind k, const char *after); /* message: expected '=' after the targets */
/* Closing bracket of the opening one at token `open`. */
void expect_close(Parser *p, TokKind k, uint32_t open, const char *separator);

/* ---- errors ---- */
Span tok_span(Parser *p, uint32_t tok);                     /* of a consumed token or the current one */
_Noreturn void unexpected(Parser *p, const char *expected); /* "expected X, found Y" at the current token */
_Noreturn void fail_at(Parser *p, ErrId id, Span at, const char *help, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
void enter(Parser *p); /* P_DEPTH past DEPTH_MAX */
static inline void leave(Parser *p) { p->depth--; }

/* ---- nodes ---- */
Ast *node(Parser *p, AstKind k, uint32_t first); /* its span begins at token `first` */
Ast *close_node(Parser *p, Ast *n);              /* its span ends at the token before the current; height set */
void set_kids(Parser *p, Ast *n, const AstVec *v);
Name word(Parser *p, const char *s);

/* ---- rules; each begins at the current token ---- */
Ast *parse_expr(Parser *p);
Ast *parse_pipe(Parser *p);
Ast *parse_add(Parser *p);   /* a dim */
Ast *parse_exprs(Parser *p); /* one expression, or an AST_TUPLE of several */
Ast *parse_primary(Parser *p);
Ast *parse_comp(Parser *p, Ast *body, uint32_t first); /* from `for` on; the body began at token `first` */
Ast *parse_target(Parser *p);
Ast *to_target(Parser *p, Ast *e); /* an expression read as a target; fails where it can't be one */
void parse_args(Parser *p, Ast *call, uint32_t open);
void mark_operators(Parser *p, uint32_t from, uint32_t to);
Ast *parse_block(Parser *p); /* at '{', else an error that says what a body is */
Ast *parse_statement(Parser *p, bool top);
Ast *parse_def(Parser *p, uint32_t first); /* after `def` or `export`: AST_DEF */
Ast *parse_model(Parser *p);
Ast *parse_import(Parser *p);
Ast *parse_argdecl(Parser *p);
Ast *parse_export(Parser *p);
Ast *parse_member(Parser *p, bool top);
/* Statements (or members) up to '}' or the end; a mistake in one is reported and the next begins after it. */
void parse_sequence(Parser *p, AstVec *out, Ast *(*rule)(Parser *p, bool top), bool top);
const char *doc_above(Parser *p, uint32_t tok); /* text of the ## lines right above the token, or NULL */
#endif
