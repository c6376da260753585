/* A strict reader of JSON, and the little that writes it. */
#include "stdlib/native/json.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void blanks(Json *j) {
  while (j->p < j->end && (*j->p == ' ' || *j->p == '\n' || *j->p == '\r' || *j->p == '\t')) j->p++;
}

bool json_take(Json *j, char c) {
  blanks(j);
  return j->p < j->end && *j->p == c ? j->p++, true : false;
}

bool json_more(Json *j, char close, bool *first, bool *ok) {
  if (!*ok || json_take(j, close)) return false;
  if (!*first && !json_take(j, ',')) return *ok = false;
  return *first = false, true;
}

bool json_end(Json *j) {
  blanks(j);
  return j->p == j->end;
}

/* ---- strings ---------------------------------------------------------------------------------------------------- */
static bool hex4(Json *j, uint32_t *out) {
  *out = 0;
  for (int k = 0; k < 4; k++) {
    if (j->p == j->end) return false;
    char c = *j->p++;
    int v = c >= '0' && c <= '9'   ? c - '0'
            : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                   : -1;
    if (v < 0) return false;
    *out = *out << 4 | (uint32_t)v;
  }
  return true;
}

static int put_utf8(char *to, uint32_t c) {
  if (c < 0x80) return to[0] = (char)c, 1;
  if (c < 0x800) return to[0] = (char)(0xc0 | c >> 6), to[1] = (char)(0x80 | (c & 63)), 2;
  if (c < 0x10000)
    return to[0] = (char)(0xe0 | c >> 12), to[1] = (char)(0x80 | (c >> 6 & 63)), to[2] = (char)(0x80 | (c & 63)), 3;
  to[0] = (char)(0xf0 | c >> 18), to[1] = (char)(0x80 | (c >> 12 & 63));
  return to[2] = (char)(0x80 | (c >> 6 & 63)), to[3] = (char)(0x80 | (c & 63)), 4;
}

/* After the backslash. Surrogates come in pairs. */
static bool escape(Json *j, char *to, int *n) {
  static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
  if (j->p == j->end) return false;
  char c = *j->p++;
  const char *at = c ? strchr(from, c) : NULL;
  if (at) return *to = into[at - from], *n = 1, true;
  uint32_t u, low;
  if (c != 'u' || !hex4(j, &u) || !u) return false;
  if (u >= 0xdc00 && u < 0xe000) return false;
  if (u >= 0xd800 && u < 0xdc00) {
    if (j->end - j->p < 2 || j->p[0] != '\\' || j->p[1] != 'u') return false;
    j->p += 2;
    if (!hex4(j, &low) || low < 0xdc00 || low >= 0xe000) return false;
    u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
  }
  return *n = put_utf8(to, u), true;
}

/* The length of the UTF-8 character at p; 0: not one (overlong, surrogate, beyond 10FFFF, cut). */
static int utf8_length(const char *s, const char *end) {
  const uint8_t *p = (const uint8_t *)s;
  if (p[0] < 0x80) return 1;
  int n = p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;
  if (!n || end - s < n) return 0;
  for (int k = 1; k < n; k++)
    if ((p[k] & 0xc0) != 0x80) return 0;
  if (p[0] == 0xe0 && p[1] < 0xa0) return 0;
  if (p[0] == 0xed && p[1] >= 0xa0) return 0;
  if (p[0] == 0xf0 && p[1] < 0x90) return 0;
  if (p[0] == 0xf4 && p[1] >= 0x90) return 0;
  return n;
}

bool json_string(Json *j, Arena *a, const char **out, const char **raw) {
  if (!json_take(j, '"')) return false;
  const char *from = j->p, *end = from; /* its end, to know the room: decoding never makes it longer */
  while (end < j->end && *end != '"') end += *end == '\\' ? 2 : 1;
  if (end >= j->end) return false;
  char *to = arena_alloc(a, (size_t)(end - from) + 1), *s = to;
  while (j->p < end) {
    int n = 1;
    if (*j->p == '\\') {
      j->p++;
      if (!escape(j, s, &n)) return false;
    } else {
      if ((uint8_t)*j->p < 0x20 || !(n = utf8_length(j->p, end))) return false;
      memcpy(s, j->p, (size_t)n);
      j->p += n;
    }
    s += n;
  }
  *s = 0, *out = to;
  if (raw) *raw = from;
  return json_take(j, '"');
}

/* ---- numbers, other values -------------------------------------------------------------------------------------- */
static bool digit(const Json *j) { return j->p < j->end && *j->p >= '0' && *j->p <= '9'; }

bool json_count(Json *j, int64_t *out) {
  blanks(j);
  if (!digit(j)) return false;
  int64_t v = *j->p++ - '0';
  if (!v && digit(j)) return false; /* no leading zeros */
  for (; digit(j); j->p++)
    if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *j->p - '0', &v)) return false;
  if (j->p < j->end && strchr(".eE", *j->p)) return false;
  return *out = v, true;
}

static bool skip_number(Json *j) {
  if (j->p < j->end && *j->p == '-') j->p++;
  if (!digit(j)) return false;
  bool zero = *j->p++ == '0';
  if (zero && digit(j)) return false;
  while (digit(j)) j->p++;
  if (j->p < j->end && *j->p == '.') {
    j->p++;
    if (!digit(j)) return false;
    while (digit(j)) j->p++;
  }
  if (j->p < j->end && (*j->p == 'e' || *j->p == 'E')) {
    j->p++;
    if (j->p < j->end && (*j->p == '+' || *j->p == '-')) j->p++;
    if (!digit(j)) return false;
    while (digit(j)) j->p++;
  }
  return true;
}

static bool skip(Json *j, Arena *a, int depth) {
  const char *s;
  blanks(j);
  if (depth == 0 || j->p == j->end) return false;
  char c = *j->p;
  if (c == '"') return json_string(j, a, &s, NULL);
  if (c == '{' || c == '[') {
    bool first = true, ok = true;
    j->p++;
    while (json_more(j, c == '{' ? '}' : ']', &first, &ok))
      if ((c == '{' && !(json_string(j, a, &s, NULL) && json_take(j, ':'))) || !skip(j, a, depth - 1)) return false;
    return ok;
  }
  static const char *const word[] = {"true", "false", "null"};
  for (int k = 0; k < 3; k++) {
    size_t n = strlen(word[k]);
    if ((size_t)(j->end - j->p) >= n && !memcmp(j->p, word[k], n)) return j->p += n, true;
  }
  return skip_number(j);
}

bool json_skip(Json *j, Arena *a) { return skip(j, a, 64); }

/* ---- writing ---------------------------------------------------------------------------------------------------- */
void json_add(Arena *a, JsonText *to, const char *s, size_t n) {
  for (size_t k = 0; k < n; k++) vec_push(a, to, s[k]);
}

void json_printf(Arena *a, JsonText *to, const char *fmt, ...) {
  char buf[256];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(buf, sizeof buf, fmt, ap);
  va_end(ap);
  json_add(a, to, buf, n < 0 ? 0 : n < (int)sizeof buf ? (size_t)n : sizeof buf - 1);
}

void json_quote(Arena *a, JsonText *to, const char *s) {
  vec_push(a, to, '"');
  for (; *s; s++) {
    if (*s == '"' || *s == '\\') vec_push(a, to, '\\');
    if ((uint8_t)*s < 0x20)
      json_printf(a, to, "\\u%04x", *s);
    else
      vec_push(a, to, *s);
  }
  vec_push(a, to, '"');
}
