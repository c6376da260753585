/* Primaries: names, literals, strings, brackets of all kinds, loops and conditions. */
#include "lang/parser.h"
#include <string.h>

/* "(" ... ")": grouping, a tuple, or the parameters of a function. */
static Ast *parse_paren(Parser *p) {
  uint32_t open = take(p);
  bool lambda = p->lambda_at == open;
  AstVec v = {0};
  bool comma = false;
  while (kind(p) != TK_RPAREN) {
    Ast *e = parse_expr(p);
    vec_push(p->a, &v, e);
    comma = kind(p) == TK_COMMA;
    if (kind(p) == TK_FOR)
      fail_at(p, P_SYNTAX, tok_span(p, p->i), "write [e for i]", "a comprehension stands in square brackets");
    if (!accept(p, TK_COMMA)) break;
  }
  expect_close(p, TK_RPAREN, open, "',' or ");
  if (lambda && kind(p) == TK_ARROW) {
    Ast *n = node(p, AST_LAMBDA, open);
    n->at = tok_span(p, p->i);
    AstVec t = {0};
    for (int k = 0; k < v.n; k++) {
      Ast *one = to_target(p, v.at[k]);
      vec_push(p->a, &t, one);
    }
    set_kids(p, n, &t);
    set_role(p, take(p), ROLE_BODY);
    n->a = parse_expr(p);
    return close_node(p, n);
  }
  if (v.n == 1 && !comma) { /* grouping: the same node, its span widened to the parentheses */
    v.at[0]->span = span_join(tok_span(p, open), tok_span(p, p->i - 1));
    if (v.at[0]->kind == AST_TUPLE) v.at[0]->ival = 0;
    return v.at[0];
  }
  Ast *n = node(p, AST_TUPLE, open);
  set_kids(p, n, &v);
  return close_node(p, n);
}

static Ast *parse_list(Parser *p) {
  uint32_t open = take(p);
  Ast *n = node(p, AST_LIST, open);
  AstVec v = {0};
  while (kind(p) != TK_RBRACKET) {
    Ast *e = parse_expr(p);
    if (kind(p) == TK_FOR && !v.n) {
      n = parse_comp(p, e, open);
      expect_close(p, TK_RBRACKET, open, "',' or ");
      return close_node(p, n);
    }
    vec_push(p->a, &v, e);
    if (!accept(p, TK_COMMA)) break;
  }
  expect_close(p, TK_RBRACKET, open, "',' or ");
  set_kids(p, n, &v);
  return close_node(p, n);
}

/* At '{' where a record or a block may stand. A record: followed by `}`, `...`, or a name and then `:` `,` or `}`. */
static bool is_record(Parser *p) {
  TokKind k = peek(p, 1)->kind, then;
  if (k == TK_RBRACE || k == TK_ELLIPSIS) return true;
  if (k == TK_STR_OPEN) return false;
  if (!tok_is_word(k)) return false;
  then = peek(p, 2)->kind;
  return then == TK_COLON || (k == TK_NAME && (then == TK_COMMA || then == TK_RBRACE));
}

static Ast *parse_field(Parser *p) {
  uint32_t first = p->i;
  if (kind(p) == TK_ELLIPSIS) {
    set_role(p, take(p), ROLE_PREFIX);
    Ast *n = node(p, AST_SPREAD, first);
    n->a = parse_expr(p);
    return close_node(p, n);
  }
  if (kind(p) == TK_STR_OPEN)
    fail_at(p, P_SYNTAX, tok_span(p, p->i), "write {name: value}", "the keys of a record are words, not strings");
  if (!tok_is_word(kind(p))) unexpected(p, "a key");
  Ast *n = node(p, AST_FIELD, first);
  Token *t = peek(p, 0);
  bool name = t->kind == TK_NAME;
  n->name = name_of(p->names, p->lex.text + t->lo, t->hi - t->lo);
  take(p);
  if (accept(p, TK_COLON))
    n->a = parse_expr(p);
  else if (!name)
    unexpected(p, "':' after the key");
  return close_node(p, n);
}

static Ast *parse_record(Parser *p) {
  uint32_t open = take(p);
  set_role(p, open, ROLE_RECORD);
  Ast *n = node(p, AST_RECORD, open);
  AstVec v = {0};
  while (kind(p) != TK_RBRACE) {
    Ast *f = parse_field(p);
    vec_push(p->a, &v, f);
    if (kind(p) == TK_ASSIGN && !f->a)
      fail_at(p, P_SYNTAX, tok_span(p, p->i),
              "a key's value follows ':'; a block that begins with `a, b = ...` reads as a record",
              "expected ':', ',' or '}' in a record, found '='");
    if (!accept(p, TK_COMMA)) break;
  }
  expect_close(p, TK_RBRACE, open, "',' or ");
  set_role(p, p->i - 1, ROLE_RECORD);
  set_kids(p, n, &v);
  return close_node(p, n);
}

static int hex_digit(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

/* Appends code point c in UTF-8. */
static char *put_utf8(char *w, uint32_t c) {
  if (c < 0x80) {
    *w++ = (char)c;
    return w;
  }
  if (c < 0x800) {
    *w++ = (char)(0xc0 | c >> 6);
    *w++ = (char)(0x80 | (c & 0x3f));
    return w;
  }
  if (c < 0x10000)
    *w++ = (char)(0xe0 | c >> 12);
  else {
    *w++ = (char)(0xf0 | c >> 18);
    *w++ = (char)(0x80 | (c >> 12 & 0x3f));
  }
  *w++ = (char)(0x80 | (c >> 6 & 0x3f));
  *w++ = (char)(0x80 | (c & 0x3f));
  return w;
}

/* AST_STR: escapes \n \t \r \0 \\ \" \{ \u{1f600}, doubled braces. Never longer than its source text. */
static Ast *parse_text(Parser *p, uint32_t tok) {
  Ast *n = node(p, AST_STR, tok);
  uint32_t lo = p->tok.at[tok].lo, hi = p->tok.at[tok].hi;
  const char *text = p->lex.text;
  char *out = arena_alloc(p->a, hi - lo + 1), *w = out;
  for (uint32_t i = lo; i < hi; i++) {
    char c = text[i];
    if ((c == '{' || c == '}') && i + 1 < hi && text[i + 1] == c) {
      *w++ = c;
      i++;
      continue;
    }
    if (c != '\\') {
      *w++ = c;
      continue;
    }
    uint32_t from = i++;
    switch (i < hi ? text[i] : 0) {
    case 'n':
      *w++ = '\n';
      break;
    case 't':
      *w++ = '\t';
      break;
    case 'r':
      *w++ = '\r';
      break;
    case 'e':
      *w++ = 27;
      break;
    case '\\':
    case '"':
    case '{':
    case '}':
      *w++ = text[i];
      break;
    case 'u': {
      uint32_t c32 = 0, k = i + 2;
      if (i + 1 < hi && text[i + 1] == '{')
        for (; k < hi && hex_digit(text[k]) >= 0 && c32 <= 0x10ffff; k++) c32 = c32 * 16 + (uint32_t)hex_digit(text[k]);
      bool ok = k < hi && text[k] == '}' && k > i + 2 && c32 && c32 <= 0x10ffff && (c32 < 0xd800 || c32 > 0xdfff);
      if (!ok) fail_at(p, P_STRING, (Span){p->file, from, i + 1}, "a code point is \\u{1f600}", "malformed \\u escape");
      w = put_utf8(w, c32);
      i = k;
      break;
    }
    default:
      fail_at(p, P_STRING, (Span){p->file, from, i + 1 > hi ? hi : i + 1},
              "escapes are \\n \\t \\r \\e \\\\ \\\" \\{ \\} \\u{1f600}", "unknown escape");
    }
  }
  *w = 0;
  n->name = out;
  n->ival = w - out;
  return close_node(p, n);
}

static Ast *parse_string(Parser *p) {
  uint32_t first = take(p);
  Ast *n = node(p, AST_STRING, first);
  AstVec v = {0};
  for (;;) {
    Ast *piece;
    if (kind(p) == TK_STR_CLOSE) break;
    if (kind(p) == TK_STR_TEXT) {
      uint32_t t = take(p);
      piece = parse_text(p, t);
    } else if (kind(p) == TK_INTERP_OPEN) {
      uint32_t open = take(p);
      piece = node(p, AST_INTERP, open);
      if (kind(p) == TK_INTERP_CLOSE)
        fail_at(p, P_SYNTAX, tok_span(p, p->i), "write {{}} for braces themselves", "empty interpolation");
      piece->a = parse_expr(p);
      if (kind(p) == TK_FORMAT) {
        piece->name = peek(p, 0)->v.name;
        take(p);
      }
      expect_close(p, TK_INTERP_CLOSE, open, "");
      close_node(p, piece);
    } else {
      unexpected(p, "the rest of the string");
    }
    vec_push(p->a, &v, piece);
  }
  take(p);
  set_kids(p, n, &v);
  return close_node(p, n);
}

/* (("fold"|"scan") targets "=" exprs)? "for" target "in" pipe ["while" pipe] block */
static Ast *parse_loop(Parser *p) {
  uint32_t first = p->i;
  Ast *n = node(p, AST_LOOP, first);
  n->name = word(p, kind(p) == TK_FOLD ? "fold" : kind(p) == TK_SCAN ? "scan" : "for");
  if (kind(p) != TK_FOR) {
    take(p);
    AstVec v = {0};
    do {
      peek(p, 0);
      Ast *t = parse_target(p);
      vec_push(p->a, &v, t);
    } while (accept(p, TK_COMMA));
    n->kid2 = v.at;
    n->nkid2 = v.n;
    expect(p, TK_ASSIGN, "and the first state");
    n->b = parse_exprs(p);
    if (kind(p) != TK_FOR) unexpected(p, "'for' after the first state");
  }
  take(p);
  peek(p, 0);
  Ast *clause = node(p, AST_CLAUSE, p->i);
  clause->a = parse_target(p);
  if (kind(p) == TK_COMMA)
    fail_at(p, P_SYNTAX, tok_span(p, p->i),
            "loops nest: for a in xs { for b in ys { ... } }; for pairs: for (a, b) in zip(xs, ys)",
            "a loop has one target");
  expect(p, TK_IN, "and what the loop runs over");
  clause->b = parse_pipe(p);
  close_node(p, clause);
  AstVec v = {0};
  vec_push(p->a, &v, clause);
  set_kids(p, n, &v);
  if (accept(p, TK_WHILE)) n->c = parse_pipe(p);
  n->a = parse_block(p);
  return close_node(p, n);
}

static Ast *parse_cond(Parser *p) {
  uint32_t first = take(p);
  Ast *n = node(p, AST_COND, first);
  n->a = parse_pipe(p);
  n->b = parse_block(p);
  if (accept(p, TK_ELSE)) {
    enter(p);
    n->c = kind(p) == TK_IF ? parse_cond(p) : parse_block(p);
    leave(p);
  }
  return close_node(p, n);
}

static Ast *parse_name(Parser *p) {
  Ast *n = node(p, AST_NAME, p->i);
  n->name = peek(p, 0)->v.name;
  static const struct {
    const char *text, *help;
  } python[] = {
      {"True", "write true"},
      {"False", "write false"},
      {"None", "write none"},
  };
  for (size_t k = 0; k < sizeof python / sizeof *python; k++)
    if (!strcmp(n->name, python[k].text))
      fail_at(p, P_SYNTAX, n->at, python[k].help, "'%s' is not a name of tg", n->name);
  take(p);
  return close_node(p, n);
}

Ast *parse_primary(Parser *p) {
  uint32_t first = p->i;
  Ast *n;
  switch (kind(p)) {
  case TK_NAME:
    return parse_name(p);
  case TK_INT:
    if (peek(p, 0)->big)
      fail_at(p, V_OVERFLOW, tok_span(p, first), "write it with a decimal point or an exponent for a float",
              "integer does not fit in 64 bits");
    n = node(p, AST_INT, first);
    n->ival = peek(p, 0)->v.i;
    break;
  case TK_FLOAT:
    n = node(p, AST_FLOAT, first);
    n->fval = peek(p, 0)->v.f;
    break;
  case TK_TRUE:
    n = node(p, AST_TRUE, first);
    break;
  case TK_FALSE:
    n = node(p, AST_FALSE, first);
    break;
  case TK_NONE:
    n = node(p, AST_NONE, first);
    break;
  case TK_STR_OPEN:
    return parse_string(p);
  case TK_LPAREN:
    return parse_paren(p);
  case TK_LBRACKET:
    return parse_list(p);
  case TK_LBRACE:
    return is_record(p) ? parse_record(p) : parse_block(p);
  case TK_FOLD:
  case TK_SCAN:
  case TK_FOR:
    return parse_loop(p);
  case TK_IF:
    return parse_cond(p);
  case TK_ELLIPSIS:
    fail_at(p, P_SYNTAX, tok_span(p, first), NULL, "'...' stands only in subscripts, dims, records and after `for`");
  default:
    unexpected(p, "an expression");
  }
  take(p);
  if (n->kind == AST_INT || n->kind == AST_FLOAT)
    n->name = arena_strndup(p->a, p->lex.text + n->span.lo, n->span.hi - n->span.lo);
  return close_node(p, n);
}
