/* Expressions: one function a level of the grammar, binary operators by precedence climbing. */
#include "lang/parser.h"
#include <string.h>

/* ---- targets ---- */

Ast *parse_target(Parser *p) {
  uint32_t first = p->i;
  Ast *n = node(p, AST_TARGET, first);
  if (kind(p) == TK_NAME) {
    n->name = peek(p, 0)->v.name;
    take(p);
    return close_node(p, n);
  }
  if (kind(p) != TK_LPAREN) unexpected(p, "a name");
  enter(p);
  take(p);
  AstVec v = {0};
  do {
    if (v.n && kind(p) == TK_RPAREN) break;
    Ast *t = parse_target(p);
    vec_push(p->a, &v, t);
  } while (accept(p, TK_COMMA));
  expect_close(p, TK_RPAREN, first, "',' or ");
  leave(p);
  set_kids(p, n, &v);
  return close_node(p, n);
}

Ast *to_target(Parser *p, Ast *e) {
  Ast *n = arena_new_of(p->a, Ast);
  *n = (Ast){.kind = AST_TARGET, .span = e->span, .at = e->at, .id = names_next_id(p->names), .height = e->height};
  if (e->kind == AST_NAME) {
    n->name = e->name;
    return n;
  }
  if (e->kind == AST_INDEX)
    fail_at(p, P_SYNTAX, e->span, "a changed copy is x = x.at[i].set(v)", "values are immutable: a subscript can't be bound");
  if (e->kind == AST_MEMBER)
    fail_at(p, P_SYNTAX, e->span, "a changed copy is r = {...r, field: v}", "values are immutable: a field can't be bound");
  if (e->kind == AST_CALL)
    fail_at(p, P_SYNTAX, e->span, "a function is `def f(x) = e`; equality is ==", "a call can't be bound");
  if (e->kind != AST_TUPLE || !e->nkid)
    fail_at(p, P_SYNTAX, e->span, "equality is ==", "only names and tuples of names can be bound");
  AstVec v = {0};
  for (int k = 0; k < e->nkid; k++) {
    Ast *t = to_target(p, e->kid[k]);
    vec_push(p->a, &v, t);
  }
  set_kids(p, n, &v);
  return n;
}

/* ---- comprehensions, calls, subscripts ---- */

static Ast *parse_clause(Parser *p) {
  Ast *n = node(p, AST_CLAUSE, p->i);
  if (kind(p) == TK_ELLIPSIS) {
    n->a = node(p, AST_ELLIPSIS, take(p));
    return close_node(p, n);
  }
  n->a = parse_target(p);
  if (accept(p, TK_IN)) n->b = parse_pipe(p);
  return close_node(p, n);
}

/* "for" clauses ["if" guard]: AST_COMP around `body`, which began at token `first`. */
static Ast *parse_comp(Parser *p, Ast *body, uint32_t first) {
  Ast *n = node(p, AST_COMP, first);
  n->a = body;
  n->at = tok_span(p, p->i);
  set_role(p, take(p), ROLE_CLAUSE);
  AstVec v = {0};
  do {
    peek(p, 0);
    Ast *c = parse_clause(p);
    vec_push(p->a, &v, c);
  } while (accept(p, TK_COMMA));
  set_kids(p, n, &v);
  if (kind(p) == TK_IF) {
    set_role(p, take(p), ROLE_CLAUSE);
    n->b = parse_pipe(p);
    if (kind(p) == TK_ELSE)
      fail_at(p, P_SYNTAX, tok_span(p, p->i), "a choice stands before the `for`: a if c else b for i", "a guard has no else");
  }
  if (kind(p) == TK_FOR)
    fail_at(p, P_SYNTAX, tok_span(p, p->i), "commas separate indices: for a in xs, b in ys", "a comprehension has one `for`");
  return close_node(p, n);
}

/* After the callee and "(" at token `open`: arguments and ")". */
void parse_args(Parser *p, Ast *call, uint32_t open) {
  AstVec v = {0};
  while (kind(p) != TK_RPAREN) {
    uint32_t first = p->i;
    Ast *arg = node(p, AST_ARG, first);
    if (tok_is_word(kind(p)) && peek(p, 1)->kind == TK_ASSIGN) {
      Token *t = peek(p, 0);
      arg->name = name_of(p->names, p->lex.text + t->lo, t->hi - t->lo);
      take(p);
      take(p);
    } else if (kind(p) == TK_STAR) {
      fail_at(p, P_SYNTAX, tok_span(p, p->i), "functions take a tuple: f(xs)", "arguments can't be unpacked");
    }
    arg->a = parse_expr(p);
    if (!arg->name) arg->at = arg->a->at;
    if (kind(p) == TK_FOR && !v.n && !arg->name) {
      arg = parse_comp(p, arg->a, first);
      call->ival = 1;
    } else {
      if (kind(p) == TK_FOR)
        fail_at(p, P_SYNTAX, tok_span(p, p->i), "write [e for i] as an argument of its own",
                "a comprehension without brackets is a call's only argument");
      close_node(p, arg);
    }
    vec_push(p->a, &v, arg);
    if (call->ival || !accept(p, TK_COMMA)) break;
  }
  expect_close(p, TK_RPAREN, open, "',' or ");
  set_role(p, p->i - 1, ROLE_SUFFIX);
  set_kids(p, call, &v);
}

static bool is_arithmetic(TokKind k) {
  return k == TK_PLUS || k == TK_MINUS || k == TK_STAR || k == TK_SLASH || k == TK_FLOORDIV || k == TK_PERCENT || k == TK_MATMUL;
}

/* Arithmetic directly inside tokens [from, to) is written without spaces where the author did so throughout:
 * x[i+1, 2*j], [H-R+1], 0..n-1. */
void mark_operators(Parser *p, uint32_t from, uint32_t to) {
  uint32_t depth = p->tok.at[from].depth;
  for (int pass = 0; pass < 2; pass++) {
    for (uint32_t k = from; k < to; k++) {
      Token *t = &p->tok.at[k];
      if (t->depth != depth || t->role != ROLE_OPERATOR || !is_arithmetic(t->kind)) continue;
      bool close = k > from && k + 1 < to && p->tok.at[k - 1].hi == t->lo && t->hi == p->tok.at[k + 1].lo;
      if (pass == 0 && !close) return;
      if (pass == 1) t->role = ROLE_TIGHT;
    }
  }
}

/* "..." | expr | [expr] ":" [expr] [":" [expr]] */
static Ast *parse_sub(Parser *p) {
  uint32_t first = p->i;
  peek(p, 0);
  if (kind(p) == TK_ELLIPSIS) return close_node(p, node(p, AST_ELLIPSIS, take(p)));
  Ast *part[3] = {NULL, NULL, NULL};
  if (kind(p) != TK_COLON) part[0] = parse_expr(p);
  if (kind(p) != TK_COLON) {
    mark_operators(p, first, p->i);
    return part[0];
  }
  Ast *n = node(p, AST_SLICE, first);
  n->at = tok_span(p, p->i);
  for (int k = 1; k < 3 && kind(p) == TK_COLON; k++) {
    set_role(p, take(p), ROLE_TIGHT);
    TokKind t = kind(p);
    if (t != TK_COLON && t != TK_COMMA && t != TK_RBRACKET) part[k] = parse_expr(p);
  }
  n->a = part[0];
  n->b = part[1];
  n->c = part[2];
  mark_operators(p, first, p->i);
  return close_node(p, n);
}

static Ast *parse_index(Parser *p, Ast *of, uint32_t first) {
  uint32_t open = take(p);
  set_role(p, open, ROLE_SUFFIX);
  Ast *n = node(p, AST_INDEX, first);
  n->a = of;
  AstVec v = {0};
  if (kind(p) == TK_RBRACKET) fail_at(p, P_SYNTAX, tok_span(p, p->i), "all of it is x[...] or x", "empty subscript");
  do {
    if (v.n && kind(p) == TK_RBRACKET) break;
    Ast *s = parse_sub(p);
    vec_push(p->a, &v, s);
  } while (accept(p, TK_COMMA));
  expect_close(p, TK_RBRACKET, open, "',' or ");
  set_role(p, p->i - 1, ROLE_SUFFIX);
  n->at = span_join(tok_span(p, open), tok_span(p, p->i - 1));
  set_kids(p, n, &v);
  return close_node(p, n);
}

/* ---- primaries ---- */

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
  if (accept(p, TK_COLON)) n->a = parse_expr(p);
  else if (!name) unexpected(p, "':' after the key");
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
      fail_at(p, P_SYNTAX, tok_span(p, p->i), "a key's value follows ':'; a block that begins with `a, b = ...` reads as a record",
              "expected ':', ',' or '}' in a record, found '='");
    if (!accept(p, TK_COMMA)) break;
  }
  expect_close(p, TK_RBRACE, open, "',' or ");
  set_role(p, p->i - 1, ROLE_RECORD);
  set_kids(p, n, &v);
  return close_node(p, n);
}

static int hex_digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Appends code point c in UTF-8. */
static char *put_utf8(char *w, uint32_t c) {
  if (c < 0x80) { *w++ = (char)c; return w; }
  if (c < 0x800) { *w++ = (char)(0xc0 | c >> 6); *w++ = (char)(0x80 | (c & 0x3f)); return w; }
  if (c < 0x10000) *w++ = (char)(0xe0 | c >> 12);
  else { *w++ = (char)(0xf0 | c >> 18); *w++ = (char)(0x80 | (c >> 12 & 0x3f)); }
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
    if ((c == '{' || c == '}') && i + 1 < hi && text[i + 1] == c) { *w++ = c; i++; continue; }
    if (c != '\\') { *w++ = c; continue; }
    uint32_t from = i++;
    switch (i < hi ? text[i] : 0) {
    case 'n': *w++ = '\n'; break;
    case 't': *w++ = '\t'; break;
    case 'r': *w++ = '\r'; break;
    case 'e': *w++ = 27; break;
    case '\\': case '"': case '{': case '}': *w++ = text[i]; break;
    case 'u': {
      uint32_t c32 = 0, k = i + 2;
      if (i + 1 < hi && text[i + 1] == '{')
        for (; k < hi && hex_digit(text[k]) >= 0 && c32 <= 0x10ffff; k++) c32 = c32 * 16 + (uint32_t)hex_digit(text[k]);
      bool ok = k < hi && text[k] == '}' && k > i + 2 && c32 && c32 <= 0x10ffff && (c32 < 0xd800 || c32 > 0xdfff);
      if (!ok)
        fail_at(p, P_STRING, (Span){p->file, from, i + 1}, "a code point is \\u{1f600}", "malformed \\u escape");
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
    fail_at(p, P_SYNTAX, tok_span(p, p->i), "loops nest: for a in xs { for b in ys { ... } }; for pairs: for (a, b) in zip(xs, ys)",
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
  static const struct { const char *text, *help; } python[] = {
    {"True", "write true"}, {"False", "write false"}, {"None", "write none"},
  };
  for (size_t k = 0; k < sizeof python / sizeof *python; k++)
    if (!strcmp(n->name, python[k].text))
      fail_at(p, P_SYNTAX, n->at, python[k].help, "'%s' is not a name of tg", n->name);
  take(p);
  return close_node(p, n);
}

static Ast *parse_primary(Parser *p) {
  uint32_t first = p->i;
  Ast *n;
  switch (kind(p)) {
  case TK_NAME: return parse_name(p);
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
  case TK_TRUE: n = node(p, AST_TRUE, first); break;
  case TK_FALSE: n = node(p, AST_FALSE, first); break;
  case TK_NONE: n = node(p, AST_NONE, first); break;
  case TK_STR_OPEN: return parse_string(p);
  case TK_LPAREN: return parse_paren(p);
  case TK_LBRACKET: return parse_list(p);
  case TK_LBRACE: return is_record(p) ? parse_record(p) : parse_block(p);
  case TK_FOLD: case TK_SCAN: case TK_FOR: return parse_loop(p);
  case TK_IF: return parse_cond(p);
  case TK_ELLIPSIS:
    fail_at(p, P_SYNTAX, tok_span(p, first), NULL, "'...' stands only in subscripts, dims, records and after `for`");
  default: unexpected(p, "an expression");
  }
  take(p);
  if (n->kind == AST_INT || n->kind == AST_FLOAT)
    n->name = arena_strndup(p->a, p->lex.text + n->span.lo, n->span.hi - n->span.lo);
  return close_node(p, n);
}

/* ---- operators ---- */

static Ast *parse_postfix(Parser *p) {
  peek(p, 0);
  uint32_t first = p->i;
  Ast *e = parse_primary(p);
  for (;;) {
    if (kind(p) == TK_DOT) {
      take(p);
      if (!tok_is_word(kind(p))) unexpected(p, "a member's name after '.'");
      Ast *n = node(p, AST_MEMBER, first);
      Token *t = peek(p, 0);
      n->a = e;
      n->name = name_of(p->names, p->lex.text + t->lo, t->hi - t->lo);
      n->at = tok_span(p, take(p));
      e = close_node(p, n);
    } else if (kind(p) == TK_LPAREN) {
      uint32_t open = take(p);
      set_role(p, open, ROLE_SUFFIX);
      Ast *n = node(p, AST_CALL, first);
      n->a = e;
      n->at = e->at;
      parse_args(p, n, open);
      e = close_node(p, n);
    } else if (kind(p) == TK_LBRACKET) {
      e = parse_index(p, e, first);
    } else {
      return e;
    }
  }
}

static Ast *parse_unary(Parser *p) {
  peek(p, 0);
  uint32_t first = p->i;
  if (kind(p) != TK_MINUS && kind(p) != TK_PLUS) {
    Ast *base = parse_postfix(p);
    if (kind(p) != TK_CARET) return base;
    Ast *n = node(p, AST_BINARY, first);
    n->op = BIN_POW;
    n->at = tok_span(p, p->i);
    set_role(p, take(p), ROLE_TIGHT);
    enter(p);
    n->a = base;
    n->b = parse_unary(p);
    leave(p);
    return close_node(p, n);
  }
  enter(p);
  bool minus = kind(p) == TK_MINUS;
  set_role(p, take(p), ROLE_PREFIX);
  Ast *n;
  TokKind then = peek(p, 1)->kind;
  if (minus && kind(p) == TK_INT && peek(p, 0)->big && then != TK_CARET && then != TK_DOT && then != TK_LPAREN && then != TK_LBRACKET) {
    n = node(p, AST_INT, first); /* -2^63, the one literal whose sign belongs to it */
    n->ival = INT64_MIN;
    n->name = arena_printf(p->a, "-%.*s", (int)(peek(p, 0)->hi - peek(p, 0)->lo), p->lex.text + peek(p, 0)->lo);
    take(p);
  } else {
    n = node(p, AST_UNARY, first);
    n->op = minus ? UN_NEG : UN_POS;
    n->a = parse_unary(p);
  }
  leave(p);
  return close_node(p, n);
}

/* Levels, loosest first; `not` is a prefix between AND and COMPARE. COMPARE and RANGE do not chain. */
enum { LEVEL_PIPE = 1, LEVEL_OR, LEVEL_AND, LEVEL_NOT, LEVEL_COMPARE, LEVEL_RANGE, LEVEL_ADD, LEVEL_MUL, LEVEL_UNARY };

static int level_of(TokKind k, AstOp *op) {
  static const struct { uint8_t level, op; } table[TK_COUNT] = {
    [TK_PIPE] = {LEVEL_PIPE, BIN_PIPE}, [TK_OR] = {LEVEL_OR, BIN_OR}, [TK_AND] = {LEVEL_AND, BIN_AND},
    [TK_EQ] = {LEVEL_COMPARE, BIN_EQ}, [TK_NE] = {LEVEL_COMPARE, BIN_NE}, [TK_LT] = {LEVEL_COMPARE, BIN_LT},
    [TK_LE] = {LEVEL_COMPARE, BIN_LE}, [TK_GT] = {LEVEL_COMPARE, BIN_GT}, [TK_GE] = {LEVEL_COMPARE, BIN_GE},
    [TK_RANGE] = {LEVEL_RANGE, BIN_RANGE}, [TK_PLUS] = {LEVEL_ADD, BIN_ADD}, [TK_MINUS] = {LEVEL_ADD, BIN_SUB},
    [TK_STAR] = {LEVEL_MUL, BIN_MUL}, [TK_SLASH] = {LEVEL_MUL, BIN_DIV}, [TK_FLOORDIV] = {LEVEL_MUL, BIN_FLOORDIV},
    [TK_PERCENT] = {LEVEL_MUL, BIN_MOD}, [TK_MATMUL] = {LEVEL_MUL, BIN_MATMUL},
  };
  *op = (AstOp)table[k].op;
  return table[k].level;
}

static Ast *parse_binary(Parser *p, int min) {
  peek(p, 0);
  uint32_t first = p->i;
  Ast *e;
  AstOp op;
  if (kind(p) == TK_NOT && min <= LEVEL_NOT) {
    enter(p);
    e = node(p, AST_UNARY, take(p));
    e->op = UN_NOT;
    e->a = parse_binary(p, LEVEL_NOT);
    leave(p);
    close_node(p, e);
    min = min > LEVEL_AND ? LEVEL_UNARY : min; /* nothing tighter than `and` can follow */
  } else {
    e = parse_unary(p);
  }
  for (;;) {
    int level = level_of(kind(p), &op);
    if (!level || level < min) return e;
    Ast *n = node(p, AST_BINARY, first);
    n->op = (uint8_t)op;
    n->at = tok_span(p, p->i);
    set_role(p, take(p), op == BIN_RANGE ? ROLE_TIGHT : ROLE_OPERATOR);
    n->a = e;
    n->b = level == LEVEL_PIPE ? parse_postfix(p) : parse_binary(p, level + 1);
    e = close_node(p, n);
    AstOp again;
    int next = level_of(kind(p), &again);
    if (level == LEVEL_COMPARE && next == LEVEL_COMPARE)
      fail_at(p, T_CHAIN, tok_span(p, p->i), "write a < b and b < c", "comparisons do not chain");
    if (level == LEVEL_RANGE && next == LEVEL_RANGE)
      fail_at(p, P_SYNTAX, tok_span(p, p->i), "a slice with a step is x[a:b:step]", "a range has two ends");
    if (level == LEVEL_RANGE) mark_operators(p, first, p->i);
  }
}

Ast *parse_pipe(Parser *p) { return parse_binary(p, LEVEL_PIPE); }
Ast *parse_add(Parser *p) { return parse_binary(p, LEVEL_ADD); }

Ast *parse_expr(Parser *p) {
  enter(p);
  peek(p, 0);
  uint32_t first = p->i;
  Ast *n;
  if (kind(p) == TK_NAME && peek(p, 1)->kind == TK_ARROW) {
    n = node(p, AST_LAMBDA, first);
    Ast *t = parse_target(p);
    AstVec v = {0};
    vec_push(p->a, &v, t);
    set_kids(p, n, &v);
    n->at = tok_span(p, p->i);
    set_role(p, take(p), ROLE_BODY);
    n->a = parse_expr(p);
    leave(p);
    return close_node(p, n);
  }
  uint32_t outer = p->lambda_at;
  p->lambda_at = first;
  Ast *e = parse_pipe(p);
  p->lambda_at = outer;
  if (kind(p) == TK_ARROW)
    fail_at(p, P_SYNTAX, tok_span(p, p->i), "parameters are x -> e or (x, y) -> e; put a function inside an expression in parentheses",
            "'->' does not follow parameters");
  if (kind(p) == TK_IF) {
    n = node(p, AST_IFELSE, first);
    n->b = e;
    n->at = tok_span(p, p->i);
    set_role(p, take(p), ROLE_CLAUSE);
    n->a = parse_pipe(p);
    if (kind(p) != TK_ELSE) unexpected(p, "'else' (a choice is: a if c else b)");
    set_role(p, take(p), ROLE_CLAUSE);
    n->c = parse_expr(p);
    e = close_node(p, n);
  }
  leave(p);
  return e;
}

Ast *parse_exprs(Parser *p) {
  peek(p, 0);
  uint32_t first = p->i;
  Ast *e = parse_expr(p);
  if (kind(p) != TK_COMMA) return e;
  Ast *n = node(p, AST_TUPLE, first);
  n->ival = 1;
  AstVec v = {0};
  vec_push(p->a, &v, e);
  while (accept(p, TK_COMMA)) {
    e = parse_expr(p);
    vec_push(p->a, &v, e);
  }
  set_kids(p, n, &v);
  return close_node(p, n);
}
