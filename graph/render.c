/* Rendering of diagnostics: one source line, windowed, with carets.
 *
 *   error[S001]: sizes do not agree: [2, 3] + [4, 3]
 *    --> fit.tg:3:7
 *     |
 *   3 | print(a + b)
 *     |       ^^^^^
 *   note: 2 comes from zeros(2, 3)
 *    --> fit.tg:1:5
 *     |
 *   1 | a = zeros(2, 3)
 *     |     ^^^^^^^^^^^
 *   help: ...
 *
 * Columns are characters. A tab is drawn as four spaces, a control character or a byte that is not UTF-8 as U+FFFD;
 * wide characters count two cells and combining ones none. A line over 100 cells is cut to a window around the first
 * caret, with `...` at the cuts; no more of a line than that window is looked at. A span over several lines is marked
 * to the end of its first. */
#include "graph/diag.h"
#include <string.h>

enum { WINDOW = 100, BEFORE = 60, TAB = 4 };

typedef struct {
  uint32_t cp;
  int bytes, cells;
  bool bad;
} Glyph;

/* Ranges of zero width (combining) and of double width (East Asian wide, emoji), from Unicode's tables, coarsened. */
static int cells_of(uint32_t c) {
  static const uint32_t zero[][2] = {{0x300, 0x36f},   {0x483, 0x489},   {0x591, 0x5bd},   {0x610, 0x61a},
                                     {0x64b, 0x65f},   {0x900, 0x902},   {0x93c, 0x93c},   {0x1ab0, 0x1aff},
                                     {0x1dc0, 0x1dff}, {0x200b, 0x200f}, {0x20d0, 0x20ff}, {0xfe00, 0xfe0f},
                                     {0xfe20, 0xfe2f}, {0xfeff, 0xfeff}};
  static const uint32_t wide[][2] = {{0x1100, 0x115f},   {0x2e80, 0x303e},   {0x3041, 0x33ff},  {0x3400, 0x4dbf},
                                     {0x4e00, 0x9fff},   {0xa000, 0xa4cf},   {0xac00, 0xd7a3},  {0xf900, 0xfaff},
                                     {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},  {0x1f300, 0x1f64f},
                                     {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd}};
  if (c < 0x300) return 1;
  for (size_t i = 0; i < sizeof zero / sizeof *zero; i++)
    if (c >= zero[i][0] && c <= zero[i][1]) return 0;
  for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
    if (c >= wide[i][0] && c <= wide[i][1]) return 2;
  return 1;
}

/* Decodes the character at s (at least one byte before end). Overlong forms, surrogates and stray bytes are bad, one
 * byte each. */
static Glyph glyph(const char *s, const char *end) {
  const unsigned char *p = (const unsigned char *)s;
  int n = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;
  if (n == 1) {
    if (*p == '\t') return (Glyph){'\t', 1, TAB, false};
    return *p < 0x20 || *p == 0x7f ? (Glyph){0xfffd, 1, 1, true} : (Glyph){*p, 1, 1, false};
  }
  if (!n || end - s < n) return (Glyph){0xfffd, 1, 1, true};
  uint32_t c = *p & (0x7fu >> n);
  for (int i = 1; i < n; i++) {
    if ((p[i] & 0xc0) != 0x80) return (Glyph){0xfffd, 1, 1, true};
    c = c << 6 | (p[i] & 0x3f);
  }
  if ((n == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) || (n == 4 && (c < 0x10000 || c > 0x10ffff)))
    return (Glyph){0xfffd, 1, 1, true};
  if (c >= 0x80 && c < 0xa0) return (Glyph){0xfffd, n, 1, true};
  return (Glyph){c, n, cells_of(c), false};
}

static const Source *source_of(const Diags *d, Span s) {
  return s.file && s.file <= (uint32_t)d->source.n ? d->source.at[s.file - 1] : NULL;
}

static size_t line_start(const Source *s, size_t at) {
  const char *nl = at ? memrchr(s->text, '\n', at) : NULL;
  return nl ? (size_t)(nl - s->text) + 1 : 0;
}

static size_t line_end(const Source *s, size_t at) {
  const char *nl = memchr(s->text + at, '\n', s->len - at);
  size_t e = nl ? (size_t)(nl - s->text) : s->len;
  return e > at && s->text[e - 1] == '\r' ? e - 1 : e;
}

void span_position(const Diags *d, Span sp, const char **file, int *line, int *col) {
  const Source *s = source_of(d, sp);
  *file = s ? s->name : "";
  *line = *col = 0;
  if (!s) return;
  size_t at = sp.lo < s->len ? sp.lo : s->len, start = line_start(s, at);
  int n = 1, c = 1;
  for (const char *p = s->text, *e = s->text + start; p < e && (p = memchr(p, '\n', (size_t)(e - p))); p++) n++;
  for (const char *p = s->text + start, *e = s->text + at; p < e; c++) p += glyph(p, s->text + s->len).bytes;
  *line = n;
  *col = c;
}

typedef struct {
  FILE *out;
  bool color;
} Pen;
static const char *ink(const Pen *p, const char *code) { return p->color ? code : ""; }
#define BOLD "\033[1m"
#define RED "\033[1;31m"
#define YELLOW "\033[1;33m"
#define BLUE "\033[1;34m"
#define RESET "\033[0m"

static void put_repeat(FILE *out, char c, int n) {
  for (int i = 0; i < n; i++) fputc(c, out);
}

static void put_glyph(FILE *out, const char *p, Glyph g) {
  if (g.cp == '\t')
    put_repeat(out, ' ', TAB);
  else if (g.bad)
    fputs("\xef\xbf\xbd", out);
  else
    fwrite(p, 1, (size_t)g.bytes, out);
}

/* Steps back from `at` to the beginning of a window at most BEFORE cells wide; never more than 4 bytes a cell. */
static size_t window_start(const Source *s, size_t start, size_t at) {
  int cells = 0;
  size_t p = at;
  while (p > start && cells < BEFORE) {
    size_t q = p - 1;
    for (int i = 0; i < 3 && q > start && ((unsigned char)s->text[q] & 0xc0) == 0x80; i++) q--;
    if (q + (size_t)glyph(s->text + q, s->text + s->len).bytes != p) q = p - 1; /* stray bytes: one at a time */
    int w = glyph(s->text + q, s->text + s->len).cells;
    cells += w ? w : 1; /* so that a run of combining marks ends too */
    p = q;
  }
  return p;
}

/* The line with its carets, under a header with the position. */
static void put_excerpt(const Diags *d, const Pen *pen, Span sp, const char *mark) {
  const Source *s = source_of(d, sp);
  if (!s) return;
  const char *file;
  int line, col;
  span_position(d, sp, &file, &line, &col);
  size_t lo = sp.lo < s->len ? sp.lo : s->len, hi = sp.hi < s->len ? sp.hi : s->len;
  size_t start = line_start(s, lo), end = line_end(s, lo), left = start;
  if (hi > end) hi = end;
  char number[16];
  int width = snprintf(number, sizeof number, "%d", line);
  const char *all = s->text + s->len;

  int cells = 0; /* of the line, until past the window: decides whether to cut */
  size_t p = start;
  while (p < end && cells <= WINDOW && p - start < 8 * WINDOW) {
    Glyph g = glyph(s->text + p, all);
    cells += g.cells;
    p += (size_t)g.bytes;
  }
  if (p < end || cells > WINDOW) left = window_start(s, start, lo);

  fprintf(pen->out, "%*s%s-->%s %s:%d:%d\n", width, "", ink(pen, BLUE), ink(pen, RESET), file, line, col);
  fprintf(pen->out, "%*s %s|%s\n", width, "", ink(pen, BLUE), ink(pen, RESET));
  fprintf(pen->out, "%s%s |%s ", ink(pen, BLUE), number, ink(pen, RESET));
  int drawn = 0, before = 0, marked = 0;
  if (left > start) {
    fputs("...", pen->out);
    drawn = 3;
  }
  before = drawn;
  for (p = left; p < end && drawn < WINDOW && p - left < 8 * WINDOW;) {
    Glyph g = glyph(s->text + p, all);
    put_glyph(pen->out, s->text + p, g);
    if (p < lo)
      before += g.cells;
    else if (p < hi)
      marked += g.cells;
    drawn += g.cells;
    p += (size_t)g.bytes;
  }
  if (p < end) fputs("...", pen->out);
  fprintf(pen->out, "\n%*s %s|%s %*s%s", width, "", ink(pen, BLUE), ink(pen, RESET), before, "", ink(pen, mark));
  put_repeat(pen->out, '^', marked ? marked : 1);
  fprintf(pen->out, "%s\n", ink(pen, RESET));
}

/* Message text with control characters and broken UTF-8 shown as U+FFFD (names in it come from the user's bytes). */
static void put_text(FILE *out, const char *s) {
  for (const char *end = s + strlen(s); s < end;) {
    Glyph g = glyph(s, end);
    if (*s == '\n')
      fputc('\n', out);
    else
      put_glyph(out, s, g);
    s += g.bytes;
  }
}

void diag_print(const Diags *d, const Diag *g, FILE *out, bool color) {
  Pen pen = {out, color};
  const char *mark = g->warning ? YELLOW : RED;
  fprintf(out, "%s%s", ink(&pen, mark), g->warning ? "warning" : "error");
  if (*err_info[g->id].code) fprintf(out, "[%s]", err_info[g->id].code);
  fprintf(out, "%s: %s", ink(&pen, RESET), ink(&pen, BOLD));
  put_text(out, g->msg);
  fprintf(out, "%s\n", ink(&pen, RESET));
  put_excerpt(d, &pen, g->span, mark);
  for (const Note *n = g->notes; n; n = n->next) {
    fprintf(out, "%snote%s: ", ink(&pen, BLUE), ink(&pen, RESET));
    put_text(out, n->text);
    fputc('\n', out);
    put_excerpt(d, &pen, n->span, BLUE);
  }
  if (g->help) {
    fprintf(out, "%shelp%s: ", ink(&pen, BLUE), ink(&pen, RESET));
    put_text(out, g->help);
    fputc('\n', out);
  }
}

void diag_print_all(const Diags *d, FILE *out, bool color) {
  for (const Diag *g = d->first; g; g = g->next) {
    diag_print(d, g, out, color);
    if (g->next) fputc('\n', out);
  }
}
