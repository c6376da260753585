/* Declarations: signatures, types, models, imports, arguments and exports. */
#include "lang/parser.h"
#include <string.h>

/* ---- types ---- */

static Ast *parse_type(Parser *p);

/* "[" [dim {"," dim}] "]" into n->kid. */
static void parse_dims(Parser *p, Ast *n) {
  uint32_t open = take(p);
  AstVec v = {0};
  while (kind(p) != TK_RBRACKET) {
    uint32_t first = p->i;
    Ast *d;
    if (kind(p) == TK_ELLIPSIS) {
      d = close_node(p, node(p, AST_ELLIPSIS, take(p)));
    } else {
      d = parse_add(p);
      mark_operators(p, first, p->i);
    }
    vec_push(p->a, &v, d);
    if (!accept(p, TK_COMMA)) break;
  }
  expect_close(p, TK_RBRACKET, open, "',' or ");
  n->ival = 1;
  set_kids(p, n, &v);
}

static Ast *parse_type_fields(Parser *p) {
  uint32_t open = take(p);
  Ast *n = node(p, AST_TRECORD, open);
  set_role(p, open, ROLE_RECORD);
  AstVec v = {0};
  while (kind(p) != TK_RBRACE) {
    if (!tok_is_word(kind(p))) unexpected(p, "a key");
    Ast *f = node(p, AST_FIELD, p->i);
    Token *t = peek(p, 0);
    f->name = name_of(p->names, p->lex.text + t->lo, t->hi - t->lo);
    take(p);
    expect(p, TK_COLON, "and the field's type");
    f->type = parse_type(p);
    close_node(p, f);
    vec_push(p->a, &v, f);
    if (!accept(p, TK_COMMA)) break;
  }
  expect_close(p, TK_RBRACE, open, "',' or ");
  set_role(p, p->i - 1, ROLE_RECORD);
  set_kids(p, n, &v);
  return close_node(p, n);
}

static Ast *parse_type_tuple(Parser *p) {
  uint32_t open = take(p);
  Ast *n = node(p, AST_TTUPLE, open);
  AstVec v = {0};
  while (kind(p) != TK_RPAREN) {
    Ast *t = parse_type(p);
    vec_push(p->a, &v, t);
    if (!accept(p, TK_COMMA)) break;
  }
  expect_close(p, TK_RPAREN, open, "',' or ");
  set_kids(p, n, &v);
  return close_node(p, n);
}

static Ast *parse_type(Parser *p) {
  enter(p);
  Ast *n = NULL;
  switch (kind(p)) {
  case TK_LPAREN:
    n = parse_type_tuple(p);
    break;
  case TK_LBRACE:
    n = parse_type_fields(p);
    break;
  case TK_LBRACKET:
    n = node(p, AST_TYPE, p->i);
    parse_dims(p, n);
    n = close_node(p, n);
    break;
  case TK_NAME:
  case TK_MODEL:
    n = node(p, AST_TYPE, p->i);
    n->name = kind(p) == TK_MODEL ? word(p, "model") : peek(p, 0)->v.name;
    take(p);
    if (kind(p) == TK_LBRACKET) {
      set_role(p, p->i, ROLE_SUFFIX);
      parse_dims(p, n);
    }
    n = close_node(p, n);
    break;
  default:
    unexpected(p, "a type, such as f32[N, 3], [N, 3] or int");
  }
  leave(p);
  return n;
}

/* ---- signatures ---- */

/* "(" [NAME [":" type] ["=" expr] {"," ...}] ")" */
static void parse_params(Parser *p, AstVec *v) {
  if (kind(p) != TK_LPAREN) unexpected(p, "'(' and the parameters");
  uint32_t open = take(p);
  set_role(p, open, ROLE_SUFFIX);
  while (kind(p) != TK_RPAREN) {
    if (kind(p) == TK_STAR)
      fail_at(p, P_SYNTAX, tok_span(p, p->i), "take a tuple: def f(xs)", "a function has a fixed number of parameters");
    if (kind(p) != TK_NAME) unexpected(p, "a parameter's name");
    Ast *n = node(p, AST_PARAM, p->i);
    n->name = peek(p, 0)->v.name;
    take(p);
    if (accept(p, TK_COLON)) n->type = parse_type(p);
    if (accept(p, TK_ASSIGN)) n->a = parse_expr(p);
    close_node(p, n);
    vec_push(p->a, v, n);
    if (!accept(p, TK_COMMA)) break;
  }
  expect_close(p, TK_RPAREN, open, "',' or ");
  set_role(p, p->i - 1, ROLE_SUFFIX);
}

static Ast *parse_result(Parser *p) {
  if (!accept(p, TK_ARROW)) return NULL;
  return parse_type(p);
}

/* "=" exprs | block */
static Ast *parse_body(Parser *p) {
  if (kind(p) == TK_LBRACE) return parse_block(p);
  if (kind(p) != TK_ASSIGN) unexpected(p, "'=' or '{' and the body");
  set_role(p, take(p), ROLE_SIGNATURE);
  return parse_exprs(p);
}

Ast *parse_def(Parser *p, uint32_t first) {
  if (kind(p) != TK_NAME) unexpected(p, "the definition's name");
  enter(p);
  Ast *n = node(p, AST_DEF, first);
  n->doc = doc_above(p, first);
  n->at = tok_span(p, p->i);
  n->name = peek(p, 0)->v.name;
  take(p);
  AstVec v = {0};
  parse_params(p, &v);
  set_kids(p, n, &v);
  n->type = parse_result(p);
  if (at_word(p, 0, "where")) {
    take(p);
    n->c = parse_pipe(p);
  }
  n->a = parse_body(p);
  leave(p);
  return close_node(p, n);
}

/* ---- models ---- */

static Ast *parse_members(Parser *p) {
  if (kind(p) != TK_LBRACE) unexpected(p, "'{' and the members, or '(' and the input");
  enter(p);
  uint32_t open = take(p);
  set_role(p, open, ROLE_BLOCK);
  Ast *n = node(p, AST_MEMBERS, open);
  AstVec v = {0};
  parse_sequence(p, &v, parse_member, false);
  expect_close(p, TK_RBRACE, open, "");
  set_role(p, p->i - 1, ROLE_BLOCK);
  set_kids(p, n, &v);
  leave(p);
  return close_node(p, n);
}

Ast *parse_model(Parser *p) {
  uint32_t first = take(p);
  if (kind(p) != TK_NAME) unexpected(p, "the model's name");
  Ast *n = node(p, AST_MODEL, first);
  n->doc = doc_above(p, first);
  n->at = tok_span(p, p->i);
  n->name = peek(p, 0)->v.name;
  take(p);
  AstVec v = {0}, input = {0};
  parse_params(p, &v);
  set_kids(p, n, &v);
  if (kind(p) == TK_LPAREN) {
    parse_params(p, &input);
    n->kid2 = input.at;
    n->nkid2 = input.n;
    n->ival = 1;
    n->type = parse_result(p);
    n->a = parse_body(p);
  } else {
    n->a = parse_members(p);
  }
  return close_node(p, n);
}

static Ast *parse_member_if(Parser *p) {
  uint32_t first = take(p);
  Ast *n = node(p, AST_MEMBERIF, first);
  n->a = parse_pipe(p);
  n->b = parse_members(p);
  if (kind(p) == TK_ELSE)
    fail_at(p, P_SYNTAX, tok_span(p, p->i), "write a second `if not (...) { ... }`",
            "an `if` among members has no else");
  return close_node(p, n);
}

/* NAME ":" ("param"|"state") type "=" expr | NAME "=" expr | "def" sig | "if" pipe members */
Ast *parse_member(Parser *p, bool top) {
  uint32_t first = p->i;
  if (kind(p) == TK_DEF) {
    take(p);
    return parse_def(p, first);
  }
  if (kind(p) == TK_IF) return parse_member_if(p);
  if (kind(p) != TK_NAME) unexpected(p, "a member: `name: param[dims] = init`, `name = e` or `def`");
  Name name = peek(p, 0)->v.name;
  take(p);
  if (accept(p, TK_COLON)) {
    Ast *n = node(p, AST_PARAMDECL, first);
    n->name = name;
    n->doc = doc_above(p, first);
    n->ival = at_word(p, 0, "state");
    if (!n->ival && !at_word(p, 0, "param")) unexpected(p, "`param` or `state` and the dims");
    take(p);
    if (kind(p) == TK_LBRACKET) set_role(p, p->i, ROLE_SUFFIX);
    n->type = parse_type(p);
    set_role(p, expect(p, TK_ASSIGN, "and the initial value"), ROLE_BODY);
    n->a = parse_expr(p);
    return close_node(p, n);
  }
  if (kind(p) != TK_ASSIGN) unexpected(p, "':' or '=' after the member's name");
  Ast *n = node(p, AST_BIND, first), *t = node(p, AST_TARGET, first);
  n->at = tok_span(p, p->i);
  t->name = name;
  AstVec v = {0};
  vec_push(p->a, &v, t);
  set_kids(p, n, &v);
  n->doc = doc_above(p, first);
  set_role(p, take(p), ROLE_BODY);
  n->b = parse_expr(p);
  return close_node(p, n);
}

/* ---- items ---- */

Ast *parse_import(Parser *p) {
  Ast *n = node(p, AST_IMPORT, take(p));
  AstVec v = {0};
  do {
    if (kind(p) != TK_NAME) unexpected(p, "a module's name");
    Ast *m = node(p, AST_FIELD, p->i);
    m->name = peek(p, 0)->v.name;
    take(p);
    if (kind(p) == TK_DOT)
      fail_at(p, P_SYNTAX, tok_span(p, p->i), "write `import m`, then m.name", "modules have plain names");
    if (at_word(p, 0, "as")) {
      take(p);
      if (kind(p) != TK_NAME) unexpected(p, "a name after `as`");
      m->a = node(p, AST_NAME, p->i);
      m->a->name = peek(p, 0)->v.name;
      take(p);
    }
    close_node(p, m);
    vec_push(p->a, &v, m);
  } while (accept(p, TK_COMMA));
  set_kids(p, n, &v);
  return close_node(p, n);
}

Ast *parse_argdecl(Parser *p) {
  uint32_t first = take(p);
  Ast *n = node(p, AST_ARGDECL, first);
  n->doc = doc_above(p, first);
  n->at = tok_span(p, p->i);
  n->name = peek(p, 0)->v.name;
  take(p);
  if (accept(p, TK_COLON)) n->type = parse_type(p);
  if (kind(p) == TK_ASSIGN) {
    set_role(p, take(p), ROLE_BODY);
    n->a = parse_expr(p);
  }
  return close_node(p, n);
}

Ast *parse_export(Parser *p) {
  uint32_t first = take(p);
  Ast *n = node(p, AST_EXPORT, first);
  n->a = parse_def(p, p->i);
  n->doc = n->a->doc = doc_above(p, first);
  n->at = n->a->at;
  return close_node(p, n);
}
