/* The formatter's layout: spaces, indentation, breaks in long lines, and the text.
 *
 * A stack of frames follows the brackets. Lines in a block's frame are statements (indented by 2 from the line that
 * opened it) or go on with one (2 more; again 2 more after `=`). Lines in another bracket's frame align with what
 * follows the bracket; when nothing follows it on its line, they are indented by 2.
 * Layout goes line by line: a line that is too long gets one break more and is laid out anew. The choice looks at this
 * line alone and no break is taken out here, so formatting the result again changes nothing. */
#include "lang/fmt.h"
#include <string.h>

typedef struct {
  int indent; /* of its lines */
  int close;  /* of its closing bracket, where that begins a line */
  int lead;   /* of the last line that began in this frame: what it opens counts from here */
  int cont;   /* block: of the next continuation line */
  int open;   /* unit of its bracket; -1 for the file */
  bool block;
  bool comp; /* past the `for` of a comprehension */
} Frame;

typedef struct {
  Fmt *f;
  VEC(Frame) stack;
  VEC(Frame) saved; /* the stack where the current line begins */
  VEC(char) out;
} Layout;

static bool spaced(const Fmt *f, int k) {
  const Unit *u = &f->unit[k], *before = u - 1;
  if (f->gap[k].sep == SEP_SEMI) return true;
  if (u->kind == TK_COMMA || (u->kind == TK_COLON && u->role != ROLE_TIGHT)) return false;
  if (is_close(u)) return u->role == ROLE_BLOCK && u->match != k - 1;
  if (is_open(before)) return before->role == ROLE_BLOCK;
  if (before->kind == TK_COMMA || (before->kind == TK_COLON && before->role != ROLE_TIGHT)) return true;
  if (before->kind == TK_INT && u->kind == TK_DOT) { /* without a space 1.e3 would be a number, and 1. a bad one */
    const char *name = f->text + u[1].lo;
    return f->gap[k + 1].brk || ((*name == 'e' || *name == 'E') && name[1] >= '0' && name[1] <= '9');
  }
  if (u->kind == TK_DOT || before->kind == TK_DOT) return false;
  if (u->role == ROLE_TIGHT || before->role == ROLE_TIGHT || before->role == ROLE_PREFIX) return false;
  return !(is_open(u) && u->role == ROLE_SUFFIX);
}

static Frame *top(Layout *l) { return &l->stack.at[l->stack.n - 1]; }

/* The indentation of a line that begins with unit k. */
static int begin_line(Layout *l, int k) {
  const Fmt *f = l->f;
  Frame *t = top(l);
  bool after_body = k > 0 && (f->unit[k - 1].role == ROLE_BODY || f->unit[k - 1].role == ROLE_SIGNATURE);
  int indent;
  if (is_close(&f->unit[k])) {
    indent = t->close;
    if (l->stack.n > 1) t[-1].lead = indent;
  } else if (!t->block) {
    indent = t->lead = t->indent + (after_body ? INDENT : 0);
  } else if (k == t->open + 1 || f->gap[k].sep == SEP_LINE) {
    indent = t->lead = t->indent;
    t->cont = indent + INDENT;
  } else {
    indent = t->lead = t->cont;
    if (after_body) t->cont += INDENT;
  }
  return indent;
}

static void open_frame(Layout *l, int k, int col) {
  const Fmt *f = l->f;
  int lead = top(l)->lead;
  bool block = opens_block(&f->unit[k]), hangs = block || f->gap[k + 1].brk;
  Frame n = {
      .indent = hangs ? lead + INDENT : col + 1, .close = hangs ? lead : col, .lead = lead, .open = k, .block = block};
  n.cont = n.indent + INDENT;
  vec_push(f->a, &l->stack, n);
}

/* How good a break before unit k is: 0 the best; -1 where there may be none. */
static int break_class(const Fmt *f, const Frame *t, int k) {
  const Unit *u = &f->unit[k], *before = u - 1;
  if (f->gap[k].sep == SEP_SEMI) return 0;
  if (is_close(u)) return -1;
  if (opens_block(before)) return 0;
  bool brace = t->open >= 0 && f->unit[t->open].kind == TK_LBRACE; /* newlines count */
  if (u->kind == TK_PIPE) return 1;
  if (u->role == ROLE_CLAUSE && (!brace || u->kind == TK_ELSE) && t->open >= 0) return 1;
  if (u->role == ROLE_CLAUSE && u->kind == TK_ELSE) return 2;
  if (before->kind == TK_COMMA) return t->block ? 6 : t->comp ? 2 : 1;
  if (before->role == ROLE_SIGNATURE) return 0;
  if (before->role == ROLE_BODY) return 8;
  if (before->role != ROLE_OPERATOR) return -1;
  switch ((TokKind)before->kind) {
  case TK_PIPE:
    return -1;
  case TK_AND:
  case TK_OR:
    return 2;
  case TK_PLUS:
  case TK_MINUS:
    return 4;
  case TK_STAR:
  case TK_SLASH:
  case TK_FLOORDIV:
  case TK_PERCENT:
  case TK_MATMUL:
    return 5;
  default:
    return 3;
  }
}

typedef struct {
  int k, depth, class, hang;
} Break; /* k < 0: none; hang: break after this bracket instead */

static bool better(const Break *a, const Break *b) {
  if (b->k < 0) return true;
  if (a->depth != b->depth) return a->depth < b->depth;
  return a->class <= b->class; /* the rightmost of a class */
}

/* Lays out the line that begins with unit `first` at column `indent`. Gives the unit after it; in *cut the break to add
 * when the line is too long and can be broken (k >= 0). */
static int lay_line(Layout *l, int first, int indent, Break *cut) {
  const Fmt *f = l->f;
  Break best = {.k = -1}, early = {.k = -1}, late = {.k = -1};
  int col = indent, bracket = -1, base = l->stack.n, k;
  for (k = first; k < f->nunit; k++) {
    const Unit *u = &f->unit[k];
    if (k > first) {
      if (f->gap[k].brk) break;
      Frame *t = top(l);
      int class = break_class(f, t, k);
      if (class >= 0) {
        Break b = {.k = k, .depth = l->stack.n - (opens_block(u - 1) ? 1 : 0), .class = class, .hang = -1};
        if (l->stack.n > base && !t->block && t->indent > WIDTH * 3 / 5 && !f->gap[t->open + 1].brk) b.hang = t->open;
        bool is_early = class > 0 && col < indent + 16;
        Break *slot = col > WIDTH ? &late : is_early ? &early : &best;
        if (slot == &late ? late.k < 0 : better(&b, slot)) *slot = b;
      }
      if (f->gap[k].sep == SEP_SEMI) {
        col++;
        t->cont = t->indent + INDENT;
      }
      col += spaced(f, k);
    }
    if (u->kind == TK_FOR && u->role == ROLE_CLAUSE) top(l)->comp = true;
    if (is_close(u)) l->stack.n--;
    if (is_close(u) && l->stack.n < base) base = l->stack.n;
    if (is_open(u)) {
      open_frame(l, k, col);
      if (bracket < 0 && !opens_block(u) && u->match > k + 1 && !f->gap[k + 1].brk && col > indent + 8) bracket = k;
    }
    col += u->width + u->silent;
    if (col > WIDTH && (best.k >= 0 || early.k >= 0 || bracket >= 0 || late.k >= 0)) break;
  }
  *cut = (Break){.k = -1};
  if (col <= WIDTH) return k;
  if (best.k >= 0)
    *cut = best;
  else if (early.k >= 0)
    *cut = early;
  else if (bracket >= 0)
    *cut = (Break){.k = bracket + 1, .hang = bracket};
  else
    *cut = late;
  return k;
}

static void add_break(Fmt *f, const Break *b) {
  if (b->hang >= 0) {
    f->gap[b->hang + 1].brk = f->gap[f->unit[b->hang].match].brk = true;
  } else if (opens_block(&f->unit[b->k - 1])) {
    fmt_expand(f, b->k - 1);
  } else {
    Gap *g = &f->gap[b->k];
    g->brk = true;
    if (g->sep == SEP_SEMI) g->sep = SEP_LINE;
  }
}

/* ---- writing ---- */

static void put(Layout *l, const char *s, size_t n) {
  for (size_t k = 0; k < n; k++) vec_push(l->f->a, &l->out, s[k]);
}

static void put_spaces(Layout *l, int n) {
  while (n-- > 0) put(l, " ", 1);
}

static int current_column(const Layout *l) {
  int n = 0;
  for (int k = l->out.n; k > 0 && l->out.at[k - 1] != '\n'; k--) n += ((unsigned char)l->out.at[k - 1] & 0xc0) != 0x80;
  return n;
}

static int characters_between(const Fmt *f, uint32_t lo, uint32_t hi) {
  int n = 0;
  for (uint32_t i = lo; i < hi; i++) n += ((unsigned char)f->text[i] & 0xc0) != 0x80;
  return n;
}

/* The comment that trails the line just written, which began with unit `first`. Its column stays where the author moved
 * it out (to align comments) and the line is still the same one; else it follows after two spaces. */
static void put_trailing(Layout *l, int k, int first, const Comment *c) {
  const Fmt *f = l->f;
  uint32_t line = c->lo;
  while (line > 0 && f->text[line - 1] != '\n') line--;
  bool same = f->unit[first].lo >= line && (first == 0 || f->unit[first - 1].lo < line);
  int was = characters_between(f, line, c->lo), now = current_column(l);
  bool aligned = same && characters_between(f, f->unit[k - 1].hi, c->lo) > 2;
  put_spaces(l, aligned && was > now + 2 ? was - now : 2);
  put(l, f->text + c->lo, c->hi - c->lo);
}

/* Ends the current line, which began with unit `first`, and writes the comments of gap k, own ones at `indent`. */
static void put_gap(Layout *l, int k, int first, int indent) {
  Fmt *f = l->f;
  Gap *g = &f->gap[k];
  bool statement = k == 0 || k == f->nunit || g->sep == SEP_LINE || g->ncom == 0 || closes_block(&f->unit[k]);
  bool opened = k == 0 || opens_block(&f->unit[k - 1]); /* no empty line here */
  int c = g->com, end = g->com + g->ncom;
  if (c < end && k > 0 && !f->comment[c].own_line) put_trailing(l, k, first, &f->comment[c++]);
  if (k > 0) put(l, "\n", 1);
  for (; c < end; c++, opened = false) {
    if (f->comment[c].nl > 1 && statement && !opened) put(l, "\n", 1);
    put_spaces(l, indent);
    put(l, f->text + f->comment[c].lo, f->comment[c].hi - f->comment[c].lo);
    put(l, "\n", 1);
  }
  if (k < f->nunit && g->blank && !opened) put(l, "\n", 1);
}

static void put_line(Layout *l, int first, int end, int indent) {
  const Fmt *f = l->f;
  put_spaces(l, indent);
  for (int k = first; k < end; k++) {
    const Unit *u = &f->unit[k];
    if (k > first && f->gap[k].sep == SEP_SEMI && !f->unit[k - 1].silent) put(l, ";", 1);
    if (k > first && spaced(f, k)) put(l, " ", 1);
    put(l, f->text + u->lo, u->hi - u->lo);
    if (u->silent) put(l, ";", 1);
  }
}

char *fmt_layout(Fmt *f) {
  Layout l = {.f = f};
  Frame file = {.cont = INDENT, .open = -1, .block = true};
  vec_push(f->a, &l.stack, file);
  int k = 0, line = 0; /* the line being laid out, the line before */
  while (k < f->nunit) {
    l.saved.n = 0;
    for (int i = 0; i < l.stack.n; i++) vec_push(f->a, &l.saved, l.stack.at[i]);
    int indent, end, inner = top(&l)->indent;
    for (;;) {
      Break cut;
      indent = begin_line(&l, k);
      end = lay_line(&l, k, indent, &cut);
      if (cut.k < 0) break;
      add_break(f, &cut);
      l.stack.n = l.saved.n;
      memcpy(l.stack.at, l.saved.at, sizeof(Frame) * (size_t)l.saved.n);
    }
    put_gap(&l, k, line, is_close(&f->unit[k]) ? inner : indent);
    put_line(&l, k, end, indent);
    line = k;
    k = end;
  }
  put_gap(&l, k, line, 0);
  if (!f->nunit && l.out.n && l.out.at[0] == '\n') l.out.at++;
  char zero = 0;
  vec_push(f->a, &l.out, zero);
  return l.out.at;
}
