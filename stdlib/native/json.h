/* A strict reader of JSON (RFC 8259) in memory: the caller asks for what must come next.
 *
 * Every function returns false when the text has something else there, ends, or breaks a rule (invalid UTF-8, control
 * characters or NUL in strings, numbers that do not fit); the reader is then not to be used further. Nothing is ever
 * read beyond `end`. Blanks before a token are skipped. */
#ifndef TG_STDLIB_NATIVE_JSON_H
#define TG_STDLIB_NATIVE_JSON_H
#include "graph/arena.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct Json {
  const char *p, *end;
} Json;

bool json_take(Json *j, char c); /* the character c, as `{` or `:` */
/* Inside an object or array opened by json_take: true when another member follows, its comma taken; *first starts true.
 * False at `close` (taken, *ok stays) and at a mistake (*ok becomes false). */
bool json_more(Json *j, char close, bool *first, bool *ok);
/* A string, decoded into `a`, NUL-terminated; *raw (may be NULL) is where its text stands between the quotes. */
bool json_string(Json *j, Arena *a, const char **out, const char **raw);
/* An integer from 0 to 2^63 - 1, without sign, fraction or exponent. */
bool json_count(Json *j, int64_t *out);
/* Passes over any value, at most 64 levels deep. */
bool json_skip(Json *j, Arena *a);
bool json_end(Json *j); /* nothing but blanks is left */

/* Appends s to `to` as a JSON string with its quotes, escaping what must be. s is valid UTF-8. */
typedef VEC(char) JsonText;
void json_add(Arena *a, JsonText *to, const char *s, size_t n);
void json_quote(Arena *a, JsonText *to, const char *s);
void json_printf(Arena *a, JsonText *to, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#endif
