/* The formatter: units and gaps from the parser's tokens, the author's line breaks settled, the result checked. */
#include "lang/fmt.h"
#include <string.h>

static int characters(const char *s, uint32_t lo, uint32_t hi) {
  int n = 0;
  for (uint32_t k = lo; k < hi; k++) n += ((unsigned char)s[k] & 0xc0) != 0x80;
  return n;
}

/* Tokens to units; NL and ';' become the separators of the gap after them. */
static void make_units(Fmt *f, Parser *p) {
  f->unit = arena_array(f->a, Unit, p->tok.n);
  f->gap = arena_array(f->a, Gap, p->tok.n + 1);
  VEC(int) open = {0};
  int n = 0;
  bool ends = false, newline = false;
  for (int k = 0; k < p->tok.n && p->tok.at[k].kind != TK_EOF; k++) {
    Token *t = &p->tok.at[k];
    newline = newline || t->nl;
    if (t->kind == TK_NL || t->kind == TK_SEMI) {
      if (t->role == ROLE_SILENT && n) f->unit[n - 1].silent = true;
      newline = newline || t->kind == TK_NL;
      ends = true;
      continue;
    }
    Gap *g = &f->gap[n];
    g->sep = !ends ? SEP_NONE : newline ? SEP_LINE : SEP_SEMI;
    g->brk = newline && n > 0;
    g->blank = t->nl > 1;
    Unit *u = &f->unit[n];
    *u = (Unit){.kind = t->kind, .role = t->role, .lo = t->lo, .hi = t->hi, .match = -1};
    if (t->kind == TK_STR_OPEN) {
      uint32_t depth = t->depth;
      do t = &p->tok.at[++k];
      while (t->kind != TK_STR_CLOSE || t->depth != depth);
      u->hi = t->hi;
    }
    u->width = characters(f->text, u->lo, u->hi);
    if (is_open(u)) vec_push(f->a, &open, n);
    if (is_close(u)) {
      u->match = open.at[--open.n];
      f->unit[u->match].match = n;
    }
    if (is_close(u) || (n && is_open(&f->unit[n - 1]))) g->blank = false;
    if (is_close(u) && g->sep != SEP_NONE) {
      g->sep = SEP_NONE;
      /* `{ a; }` is a block, `{ a }` a record. */
      if (u->match == n - 2 && f->unit[n - 1].kind == TK_NAME) f->unit[n - 1].silent = true;
    }
    n++;
    ends = newline = false;
  }
  f->nunit = n;
}

static void place_comments(Fmt *f, Parser *p) {
  f->comment = p->lex.comments.at;
  int c = 0, end = p->lex.comments.n;
  for (int k = 0; k <= f->nunit; k++) {
    Gap *g = &f->gap[k];
    g->com = c;
    while (c < end && (k == f->nunit || f->comment[c].lo < f->unit[k].lo)) c++;
    g->ncom = c - g->com;
    g->forced = g->ncom > 0 && k > 0;
    g->brk = g->brk || g->forced;
    if (g->sep == SEP_SEMI && g->brk) g->sep = SEP_LINE;
  }
}

/* The opening brace of `else { }` or `else if c { }` after the block that closes at `close`, or -1. */
static int next_block(const Fmt *f, int close) {
  int k = close + 1;
  if (k >= f->nunit || f->unit[k].kind != TK_ELSE || f->unit[k].role == ROLE_CLAUSE) return -1;
  for (k++; k < f->nunit && !opens_block(&f->unit[k]); k++)
    if (is_open(&f->unit[k])) k = f->unit[k].match;
  return k < f->nunit ? k : -1;
}

/* Breaks the lines of one block: after '{', between statements unless ';' joins them and `all` is false, before '}'. */
static void break_block(Fmt *f, int open, bool all) {
  int close = f->unit[open].match;
  if (close == open + 1) return;
  f->gap[open + 1].brk = f->gap[close].brk = true;
  for (int k = open + 1; k < close && all; k++) {
    if (f->gap[k].sep == SEP_SEMI) {
      f->gap[k].sep = SEP_LINE;
      f->gap[k].brk = true;
    }
    if (is_open(&f->unit[k])) k = f->unit[k].match;
  }
}

/* Did the author break it at its own level (then his ';' stay)? */
static bool is_broken(const Fmt *f, int open) {
  int close = f->unit[open].match;
  if (f->gap[open + 1].brk || f->gap[close].brk) return true;
  for (int k = open + 1; k < close; k++) {
    if (f->gap[k].sep == SEP_LINE) return true;
    if (is_open(&f->unit[k])) k = f->unit[k].match;
  }
  return false;
}

void fmt_expand(Fmt *f, int open) {
  for (int k = f->unit[open].chain; k >= 0; k = next_block(f, f->unit[k].match)) break_block(f, k, !is_broken(f, k));
}

/* A block is on one line or its statements are on lines of their own, and the blocks of a chain alike. */
static void settle_blocks(Fmt *f) {
  int *breaks = arena_array(f->a, int, f->nunit + 1); /* in the gaps up to k */
  for (int k = 0; k < f->nunit; k++) {
    if (opens_block(&f->unit[k])) f->unit[k].chain = k;
    breaks[k] = (k ? breaks[k - 1] : 0) + f->gap[k].brk;
  }
  for (int k = 0; k < f->nunit; k++) {
    if (!opens_block(&f->unit[k])) continue;
    int next = next_block(f, f->unit[k].match);
    if (next >= 0) f->unit[next].chain = f->unit[k].chain;
  }
  for (int k = 0; k < f->nunit; k++)
    if (opens_block(&f->unit[k]) && breaks[f->unit[k].match] > breaks[k]) fmt_expand(f, k);
}

/* Breaks that say nothing are taken out: before a comma or a block's brace, after a sign. */
static bool is_idle(const Fmt *f, int k) {
  const Unit *u = &f->unit[k], *before = u - 1;
  if (before->kind == TK_COMMA || (is_open(before) && !opens_block(before))) return u->kind == TK_COMMA;
  if (u->kind == TK_ELSE) return u->role != ROLE_CLAUSE;
  if (u->kind == TK_COMMA || u->kind == TK_COLON || u->kind == TK_ASSIGN || u->kind == TK_ARROW || u->kind == TK_IN)
    return true;
  if (opens_block(u) || (is_open(u) && u->role == ROLE_SUFFIX)) return true;
  if (u->role == ROLE_TIGHT || before->role == ROLE_TIGHT || before->role == ROLE_PREFIX) return true;
  return before->kind == TK_DOT || before->kind == TK_DEF || before->kind == TK_MODEL || before->kind == TK_NOT ||
         before->kind == TK_FOLD || before->kind == TK_SCAN || before->kind == TK_FOR || before->kind == TK_IN;
}

static void settle_breaks(Fmt *f) {
  for (int k = 1; k < f->nunit; k++) {
    Gap *g = &f->gap[k];
    if (g->sep == SEP_NONE && !g->forced && is_idle(f, k)) g->brk = false;
    if (g->sep != SEP_LINE) g->blank = false;
    const Unit *u = &f->unit[k];
    if (!is_close(u)) continue;
    if (u->match == k - 1)
      g->brk = g->forced;
    else if (u->role != ROLE_BLOCK)
      g->brk = g->forced || f->gap[u->match + 1].brk;
  }
  settle_blocks(f);
}

/* Formatting must not change the program; that it does not is checked here every time. */
static void check(Diags *d, Arena *a, Names *names, const Ast *before, int ncomment, const char *text) {
  uint32_t file = diag_source(d, "formatted text", text, strlen(text));
  Parser p;
  parser_init(&p, d, a, names, file);
  Ast *after = parser_run(&p);
  if (!after || p.nerror || !ast_equal(before, after) || p.lex.comments.n != ncomment)
    bug("the formatter would change the program");
}

char *format_source(Diags *d, Arena *a, uint32_t file) {
  Parser p;
  Names *names = names_new(a);
  parser_init(&p, d, a, names, file);
  Ast *ast = parser_run(&p);
  if (!ast || p.nerror) return NULL;
  Fmt f = {.a = a, .text = p.lex.text};
  make_units(&f, &p);
  place_comments(&f, &p);
  settle_breaks(&f);
  char *text = fmt_layout(&f);
  check(d, a, names, ast, p.lex.comments.n, text);
  return text;
}
