/* Documentation: signatures as text, and examples found in ## comments. */
#include "lang/docs.h"
#include <string.h>

static const Source *source_of(const Diags *d, Span s) { return s.file ? d->source.at[s.file - 1] : NULL; }

static uint32_t line_start(const Source *s, uint32_t pos) {
  while (pos > 0 && s->text[pos - 1] != '\n') pos--;
  return pos;
}

static uint32_t line_end(const Source *s, uint32_t pos) {
  const char *nl = memchr(s->text + pos, '\n', s->len - pos);
  return nl ? (uint32_t)(nl - s->text) : (uint32_t)s->len;
}

/* If the line at lo is a ## line: the extent of its text without the marks and one blank, and true. */
static bool doc_line(const Source *s, uint32_t lo, uint32_t *from, uint32_t *to) {
  uint32_t hi = line_end(s, lo);
  while (lo < hi && (s->text[lo] == ' ' || s->text[lo] == '\t')) lo++;
  if (hi - lo < 2 || s->text[lo] != '#' || s->text[lo + 1] != '#' || (hi - lo > 2 && s->text[lo + 2] == '#'))
    return false;
  lo += 2;
  if (lo < hi && s->text[lo] == ' ') lo++;
  while (hi > lo && (s->text[hi - 1] == ' ' || s->text[hi - 1] == '\t' || s->text[hi - 1] == '\r')) hi--;
  *from = lo;
  *to = hi;
  return true;
}

typedef VEC(DocExample) Examples;

static bool starts(const Source *s, uint32_t from, uint32_t to, const char *mark) {
  return to - from >= 3 && !memcmp(s->text + from, mark, 3) && (to - from == 3 || s->text[from + 3] == ' ');
}

/* Text after a mark of three characters and a blank. */
static char *after_mark(Arena *a, const Source *s, uint32_t from, uint32_t to) {
  from += to - from > 3 ? 4 : 3;
  return arena_strndup(a, s->text + from, to - from);
}

/* Examples in the ## lines from position lo on. */
static void scan(const Source *s, Arena *a, uint32_t file, uint32_t lo, Name name, Examples *v) {
  uint32_t from, to;
  DocExample *e = NULL;
  while (lo < s->len && doc_line(s, lo, &from, &to)) {
    if (starts(s, from, to, ">>>")) {
      DocExample n = {name, after_mark(a, s, from, to), "", {file, from, to}};
      vec_push(a, v, n);
      e = &v->at[v->n - 1];
    } else if (e && !*e->expected && starts(s, from, to, "...")) {
      e->expr = arena_printf(a, "%s\n%s", e->expr, after_mark(a, s, from, to));
    } else if (from == to) {
      e = NULL;
    } else if (e) {
      e->expected = arena_printf(a, "%s%.*s\n", e->expected, (int)(to - from), s->text + from);
    }
    lo = line_end(s, lo) + 1;
  }
}

static Name item_name(const Ast *t) {
  switch ((AstKind)t->kind) {
  case AST_DEF:
  case AST_MODEL:
  case AST_ARGDECL:
  case AST_PARAMDECL:
    return t->name;
  case AST_EXPORT:
    return t->a->name;
  case AST_BIND:
    return t->nkid == 1 ? t->kid[0]->name : NULL;
  default:
    return NULL;
  }
}

static void scan_items(const Diags *d, Arena *a, int n, Ast *const *item, Examples *v) {
  for (int k = 0; k < n; k++) {
    const Ast *t = item[k];
    const Source *s = source_of(d, t->span);
    if (t->doc) {
      uint32_t lo = line_start(s, t->span.lo), from, to;
      while (lo > 0 && doc_line(s, line_start(s, lo - 1), &from, &to)) lo = line_start(s, lo - 1);
      scan(s, a, t->span.file, lo, item_name(t), v);
    }
    if (t->kind == AST_MODEL && t->a->kind == AST_MEMBERS) scan_items(d, a, t->a->nkid, t->a->kid, v);
    if (t->kind == AST_MEMBERIF) scan_items(d, a, t->b->nkid, t->b->kid, v);
  }
}

int docs_examples(const Diags *d, Arena *a, const Ast *file, DocExample **out) {
  Examples v = {0};
  if (file->doc) scan(source_of(d, file->at), a, file->at.file, file->at.lo, NULL, &v);
  scan_items(d, a, file->nkid, file->kid, &v);
  *out = v.at;
  return v.n;
}

const Ast *docs_find(const Ast *file, const char *name) {
  for (int k = file->nkid - 1; k >= 0; k--) {
    Name n = item_name(file->kid[k]);
    if (n && !strcmp(n, name)) return file->kid[k];
  }
  return NULL;
}

/* Source text on one line, without comments; runs of blanks are one. */
static char *flatten(Arena *a, const Source *s, uint32_t lo, uint32_t hi) {
  char *text = arena_alloc(a, hi - lo + 1), *w = text;
  bool quoted = false;
  for (uint32_t k = lo; k < hi; k++) {
    char c = s->text[k];
    if (quoted && c == '\\' && k + 1 < hi) {
      *w++ = c;
      *w++ = s->text[++k];
      continue;
    }
    if (c == '"') quoted = !quoted;
    if (!quoted && c == '#') {
      k = line_end(s, k) - 1;
    } else if (quoted || !strchr(" \t\r\n", c)) {
      if (!quoted && strchr(")]", c) && w > text && w[-1] == ' ') w--; /* a bracket on a line of its own */
      *w++ = c;
    } else if (w > text && !strchr(" ([", w[-1])) {
      *w++ = ' ';
    }
  }
  while (w > text && strchr(" \t\r=", w[-1])) w--;
  *w = 0;
  return text;
}

char *docs_signature(const Diags *d, Arena *a, const Ast *item) {
  const Ast *t = item->kind == AST_EXPORT ? item->a : item;
  const Source *s = source_of(d, t->span);
  switch ((AstKind)t->kind) {
  case AST_DEF:
    return arena_printf(a, "def %s", flatten(a, s, t->at.lo, t->a->span.lo));
  case AST_MODEL:
    return arena_printf(a, "model %s", flatten(a, s, t->at.lo, t->a->span.lo));
  case AST_BIND:
    return arena_printf(a, "%s = ...", flatten(a, s, t->span.lo, t->at.lo));
  default:
    return flatten(a, s, t->span.lo, t->span.hi);
  }
}
