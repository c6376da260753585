/* Text that grows in an arena. */
#include "codegen/text.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void text_init(Text *t, Arena *a) {
  *t = (Text){.a = a, .cap = 2048};
  t->at = arena_alloc(a, t->cap);
  t->at[0] = 0;
}

static void put_list(Text *t, const char *fmt, va_list list) {
  for (;;) {
    va_list ap;
    va_copy(ap, list);
    int n = vsnprintf(t->at + t->n, t->cap - t->n, fmt, ap);
    va_end(ap);
    if ((size_t)n < t->cap - t->n) {
      t->n += (size_t)n;
      return;
    }
    size_t cap = 2 * t->cap + (size_t)n;
    char *at = arena_alloc(t->a, cap);
    memcpy(at, t->at, t->n + 1);
    t->at = at;
    t->cap = cap;
  }
}

void text_put(Text *t, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  put_list(t, fmt, ap);
  va_end(ap);
}

/* A line that begins with `}` stands one step further left, one that ends with `{` moves the next ones right. */
void text_line(Text *t, const char *fmt, ...) {
  va_list ap;
  if (fmt[0] == '}') t->indent--;
  for (int i = 0; i < t->indent; i++) text_put(t, "  ");
  va_start(ap, fmt);
  put_list(t, fmt, ap);
  va_end(ap);
  if (fmt[0] && fmt[strlen(fmt) - 1] == '{') t->indent++;
  text_put(t, "\n");
}
