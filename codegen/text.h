/* Text under construction: characters in an arena, with an indentation. What the canonical text of kernels and CUDA C
 * are written with. */
#ifndef TG_CODEGEN_TEXT_H
#define TG_CODEGEN_TEXT_H
#include "graph/arena.h"

typedef struct Text {
  Arena *a;
  char *at; /* ended by 0 */
  size_t n, cap;
  int indent;
} Text;
void text_init(Text *t, Arena *a);
void text_put(Text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_line(Text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* indented, with newline */
#endif
