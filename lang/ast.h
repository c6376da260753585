/* The syntax tree: what the parser makes, the formatter prints and the elaborator walks.
 *
 * One node type for all; `kind` says which children there are (listed beside it). Every node has the span of its whole
 * text. Names are interned in the parser's arena (equal name = equal pointer within one Names table). Unit lifetime. */
#ifndef TG_LANG_AST_H
#define TG_LANG_AST_H
#include "graph/diag.h"

typedef struct Ast Ast;
typedef const char *Name;

typedef enum {
  /* expressions */
  AST_NAME,   /* name */
  AST_INT,    /* ival; text in `name` as written */
  AST_FLOAT,  /* fval; text in `name` as written */
  AST_STRING, /* kid: pieces in order: AST_STR (name: text, escapes resolved) or AST_INTERP */
  AST_STR,    /* name, ival = length in bytes */
  AST_INTERP, /* a: expression; name: format after ':' or NULL */
  AST_TRUE,
  AST_FALSE,
  AST_NONE,
  AST_TUPLE,  /* kid: items; () has none; ival 1 when written without parentheses */
  AST_LIST,   /* kid: items of [a, b, c] */
  AST_COMP,   /* [a for ...]: a: body; kid: clauses; b: guard or NULL */
  AST_RECORD, /* kid: AST_FIELD or AST_SPREAD */
  AST_FIELD,  /* name; a: value or NULL for {a} */
  AST_SPREAD, /* a */
  AST_BLOCK,  /* kid: statements; the last may be an expression statement: the value */
  AST_LOOP,   /* name "fold", "scan" or "for"; kid2: init targets (AST_TARGET...); b: their value(s) (one AST_TUPLE if
                 several);   kid: one AST_CLAUSE (target in range); c: while or NULL; a: body block */
  AST_COND,   /* if a {b} else c; c: block, another COND, or NULL */
  AST_IFELSE, /* b if a else c (b: value, a: condition) */
  AST_LAMBDA, /* kid: targets; a: body */
  AST_BINARY, /* op; a, b: + - * / // % @ ^ == != < <= > >= and or |> .. */
  AST_UNARY,  /* op: - + not; a */
  AST_CALL,   /* a: callee; kid: AST_ARG...; or comprehension call f(e for ...): kid = { AST_COMP } and ival = 1 */
  AST_ARG,    /* name or NULL (positional); a */
  AST_MEMBER, /* a.name */
  AST_INDEX,  /* a[kid...]: kid: expressions, AST_SLICE, AST_ELLIPSIS */
  AST_SLICE,  /* a:b:c, each may be NULL */
  AST_ELLIPSIS,
  /* pieces */
  AST_CLAUSE, /* for: a: target (AST_TARGET/AST_ELLIPSIS); b: `in` expression or NULL */
  AST_TARGET, /* name ("_" discards), or kid: nested targets when name == NULL */
  /* statements and items */
  AST_EXPR,      /* a: expression statement; ival 1 when a `;` follows (the prompt hides its value) */
  AST_BIND,      /* kid: targets; b: value (AST_TUPLE for several) */
  AST_DEF,       /* sig: name; kid: AST_PARAM...; type: result or NULL; c: where or NULL; a: body; doc */
  AST_NEXT,      /* next name = b */
  AST_IMPORT,    /* kid: AST_FIELD-like: name = module, a: AST_NAME alias or NULL */
  AST_ARGDECL,   /* arg name [: type] [= a] */
  AST_EXPORT,    /* a: AST_DEF */
  AST_MODEL,     /* name; kid: params; short form: kid2: second params, type, a: body; long form: kid2 empty, a:
                    AST_MEMBERS; ival = 1 short */
  AST_MEMBERS,   /* kid: AST_PARAMDECL, AST_BIND, AST_DEF, AST_MEMBERIF */
  AST_PARAMDECL, /* name: param type = a (ival 0) or state (ival 1) */
  AST_MEMBERIF,  /* if a members(b) */
  AST_PARAM,     /* name; type or NULL; a: default or NULL */
  /* types */
  AST_TYPE, /* name: dtype or "model"... or NULL for [..] alone; ival 1 when dims are present; kid: dims (expressions or
               AST_ELLIPSIS) */
  AST_TTUPLE,  /* kid: types */
  AST_TRECORD, /* kid: AST_FIELD with type in `type` */
  AST_FILE     /* kid: items; doc: its first ## lines when not right above an item (at: their span) */
} AstKind;

typedef enum { /* AST_BINARY and AST_UNARY */
               BIN_ADD,
               BIN_SUB,
               BIN_MUL,
               BIN_DIV,
               BIN_FLOORDIV,
               BIN_MOD,
               BIN_MATMUL,
               BIN_POW,
               BIN_EQ,
               BIN_NE,
               BIN_LT,
               BIN_LE,
               BIN_GT,
               BIN_GE,
               BIN_AND,
               BIN_OR,
               BIN_PIPE,
               BIN_RANGE,
               UN_NEG,
               UN_POS,
               UN_NOT
} AstOp;
extern const char *const ast_op_text[]; /* "+", "-", ... by AstOp */

struct Ast {
  uint8_t kind, op;
  uint16_t height; /* of the tree below, leaves 0, wrappers (ARG, FIELD, EXPR, CLAUSE) not counted: at most 1,000 */
  Span span;       /* the whole construct */
  Span at;         /* the point of interest: operator, name, subscript bracket, field name */
  Name name;
  int64_t ival;
  double fval;
  Ast *a, *b, *c, *type;
  int nkid, nkid2;
  Ast **kid, **kid2;
  const char *doc; /* ## lines above, joined by newlines, or NULL */
  uint32_t id;     /* unique within the Names table: keys for call-site ordinals */
};

/* Interns names for the whole session. */
typedef struct Names Names;
Names *names_new(Arena *session);
Name name_of(Names *n, const char *s, size_t len);
uint32_t names_next_id(Names *n);

/* Parses a registered source. Errors go to d (several are reported: the parser resynchronises at statement ends);
 * the returned AST_FILE holds what could be read. Never recurses deeper than P_DEPTH allows. */
Ast *parse_file(Diags *d, Arena *unit, Names *names, uint32_t file);
/* For the prompt: is the text complete, does it need more lines, or is it wrong? */
typedef enum { PARSE_DONE, PARSE_MORE, PARSE_ERROR } ParseState;
ParseState parse_complete(const char *text, size_t len);
/* Canonical text of a source (comments kept); NULL with errors in d when it does not parse. */
char *format_source(Diags *d, Arena *a, uint32_t file);

/* The tree as an S-expression (--dump=ast), one statement a line, ended by a newline. */
void ast_print(FILE *out, const Ast *t);
/* Equal but for spans, ids and documentation. Names are compared by text (the trees may have different tables). */
bool ast_equal(const Ast *a, const Ast *b);
#endif
