/* Expressions: targets, comprehensions, calls, subscripts, and operators by precedence climbing. */
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
    fail_at(p, P_SYNTAX, e->span, "a changed copy is x = x.at[i].set(v)",
            "values are immutable: a subscript can't be bound");
  if (e->kind == AST_MEMBER)
    fail_at(p, P_SYNTAX, e->span, "a changed copy is r = {...r, field: v}",
            "values are immutable: a field can't be bound");
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
Ast *parse_comp(Parser *p, Ast *body, uint32_t first) {
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
      fail_at(p, P_SYNTAX, tok_span(p, p->i), "a choice stands before the `for`: a if c else b for i",
              "a guard has no else");
  }
  if (kind(p) == TK_FOR)
    fail_at(p, P_SYNTAX, tok_span(p, p->i),
            "commas separate indices: for a in xs, b in ys; or a bracket is missing before this `for`",
            "a comprehension has one `for`");
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
  return k == TK_PLUS || k == TK_MINUS || k == TK_STAR || k == TK_SLASH || k == TK_FLOORDIV || k == TK_PERCENT ||
         k == TK_MATMUL;
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
  if (minus && kind(p) == TK_INT && peek(p, 0)->big && then != TK_CARET && then != TK_DOT && then != TK_LPAREN &&
      then != TK_LBRACKET) {
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
  static const struct {
    uint8_t level, op;
  } table[TK_COUNT] = {
      [TK_PIPE] = {LEVEL_PIPE, BIN_PIPE},        [TK_OR] = {LEVEL_OR, BIN_OR},
      [TK_AND] = {LEVEL_AND, BIN_AND},           [TK_EQ] = {LEVEL_COMPARE, BIN_EQ},
      [TK_NE] = {LEVEL_COMPARE, BIN_NE},         [TK_LT] = {LEVEL_COMPARE, BIN_LT},
      [TK_LE] = {LEVEL_COMPARE, BIN_LE},         [TK_GT] = {LEVEL_COMPARE, BIN_GT},
      [TK_GE] = {LEVEL_COMPARE, BIN_GE},         [TK_RANGE] = {LEVEL_RANGE, BIN_RANGE},
      [TK_PLUS] = {LEVEL_ADD, BIN_ADD},          [TK_MINUS] = {LEVEL_ADD, BIN_SUB},
      [TK_STAR] = {LEVEL_MUL, BIN_MUL},          [TK_SLASH] = {LEVEL_MUL, BIN_DIV},
      [TK_FLOORDIV] = {LEVEL_MUL, BIN_FLOORDIV}, [TK_PERCENT] = {LEVEL_MUL, BIN_MOD},
      [TK_MATMUL] = {LEVEL_MUL, BIN_MATMUL},
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

Ast *parse_pipe(Parser *p) {
  enter(p);
  Ast *e = parse_binary(p, LEVEL_PIPE);
  leave(p);
  return e;
}

Ast *parse_add(Parser *p) { return parse_binary(p, LEVEL_ADD); }

Ast *parse_expr(Parser *p) {
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
    enter(p);
    n->a = parse_expr(p);
    leave(p);
    return close_node(p, n);
  }
  uint32_t outer = p->lambda_at;
  p->lambda_at = first;
  Ast *e = parse_pipe(p);
  p->lambda_at = outer;
  if (kind(p) == TK_ARROW)
    fail_at(p, P_SYNTAX, tok_span(p, p->i),
            "parameters are x -> e or (x, y) -> e; put a function inside an expression in parentheses",
            "'->' does not follow parameters");
  if (kind(p) == TK_IF) {
    n = node(p, AST_IFELSE, first);
    n->b = e;
    n->at = tok_span(p, p->i);
    set_role(p, take(p), ROLE_CLAUSE);
    n->a = parse_pipe(p);
    if (kind(p) != TK_ELSE) unexpected(p, "'else' (a choice is: a if c else b)");
    set_role(p, take(p), ROLE_CLAUSE);
    enter(p);
    n->c = parse_expr(p);
    leave(p);
    e = close_node(p, n);
  }
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
