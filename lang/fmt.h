/* The formatter's data; internal to fmt*.c.
 *
 * A source is units (tokens; a string with its interpolations is one) and gaps between them; gap[k] lies before unit k
 * and gap[nunit] after the last. The order and text of units never change: only what stands in the gaps does, so the
 * meaning can't, as long as statements end where they did. fmt.c builds units and gaps and settles the author's line
 * breaks; fmt_layout.c finds indentation, adds breaks to lines that are too long, and writes. */
#ifndef TG_LANG_FMT_H
#define TG_LANG_FMT_H
#include "lang/parser.h"

enum { WIDTH = 100, INDENT = 2 };

typedef struct {
  uint8_t kind, role;
  uint32_t lo, hi;
  int width;   /* in characters */
  int match;   /* brackets: index of the partner; else -1 */
  int chain;   /* opening brace of a block: of the first block in its if-else chain (itself when alone) */
  bool silent; /* a ';' that hides the value follows */
} Unit;

typedef enum { SEP_NONE, SEP_SEMI, SEP_LINE } Sep; /* does a statement end here, and how */
typedef struct {
  uint8_t sep;
  bool brk;      /* a line ends here */
  bool forced;   /* ... because of a comment */
  bool blank;    /* the author left an empty line right before the unit */
  int com, ncom; /* comments [com, com + ncom); the first may trail the unit before */
} Gap;

typedef struct {
  Arena *a;
  const char *text;
  int nunit;
  Unit *unit;
  Gap *gap;
  Comment *comment;
} Fmt;

static inline bool is_open(const Unit *u) {
  return u->kind == TK_LPAREN || u->kind == TK_LBRACKET || u->kind == TK_LBRACE;
}
static inline bool is_close(const Unit *u) {
  return u->kind == TK_RPAREN || u->kind == TK_RBRACKET || u->kind == TK_RBRACE;
}
static inline bool opens_block(const Unit *u) { return u->kind == TK_LBRACE && u->role == ROLE_BLOCK; }
static inline bool closes_block(const Unit *u) { return u->kind == TK_RBRACE && u->role == ROLE_BLOCK; }
/* Puts the statements of the block that opens at `open`, and of its chain's other blocks, on lines of their own. */
void fmt_expand(Fmt *f, int open);
char *fmt_layout(Fmt *f);
#endif
