/* Scalars as text: the shortest text that reads back, and the subset of Python's format language.
 *
 * Both print through decimal digits and a point position: value = 0.d1d2d3... * 10^point, as David Gay's dtoa and
 * Python have it; then one layout rule decides between 123.4 and 1.234e+02. */
#include "stdlib/native/print.h"
#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WIDTH = 1000, MAX_DIGITS = 100, BODY = 1400 };

typedef struct Fmt {
  char fill, align, sign; /* 0: not given */
  bool zero, comma;
  int width, digits; /* -1: not given */
  char type;
} Fmt;

/* The text before padding: sign, then integer digits (grouped later), then the rest. */
typedef struct Body {
  char sign;
  bool number;
  char whole[BODY], rest[BODY];
} Body;

/* ---- the format language -------------------------------------------------------------------------------------- */
static bool is_align(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

static bool parse_count(const char **s, int max, int *out) {
  int v = 0;
  for (; isdigit((unsigned char)**s); ++*s)
    if ((v = v * 10 + (**s - '0')) > max) return false;
  *out = v;
  return true;
}

static const char *parse_fmt(const char *s, Fmt *f) {
  *f = (Fmt){.width = -1, .digits = -1};
  if (!s) return NULL;
  if (s[0] && is_align(s[1]))
    f->fill = s[0], f->align = s[1], s += 2;
  else if (is_align(s[0]))
    f->align = *s++;
  if (*s == '+' || *s == '-' || *s == ' ') f->sign = *s++;
  if (*s == '0') f->zero = true, s++;
  if (isdigit((unsigned char)*s) && !parse_count(&s, MAX_WIDTH, &f->width)) return "the width is over 1000";
  if (*s == ',') f->comma = true, s++;
  if (*s == '.') {
    s++;
    if (!isdigit((unsigned char)*s)) return "digits must follow the point";
    if (!parse_count(&s, MAX_DIGITS, &f->digits)) return "more than 100 digits";
  }
  if (*s && strchr("dfFeEgG%xXbo", *s)) f->type = *s++;
  if (*s) return "expected [[fill]align][sign][0][width][,][.digits][type], type one of d f e g % x b o";
  if (f->comma && f->type && strchr("xXbo", f->type)) return "a comma cannot group x, b or o";
  return NULL;
}

static bool is_text(const char *fmt) { return fmt && !strcmp(fmt, "text"); }

const char *format_check(DType t, const char *fmt) {
  Fmt f;
  if (is_text(fmt)) return dt_is_int(t) ? NULL : "text is for integers, the numbers of characters";
  const char *why = parse_fmt(fmt, &f);
  if (why) return why;
  if (dt_is_float(t) && f.type && strchr("dxXbo", f.type)) return "d, x, b and o need an integer; use .0f";
  return NULL;
}

/* ---- digits --------------------------------------------------------------------------------------------------- */
typedef struct Decimal {
  char d[MAX_DIGITS + 8];
  int n, point;
} Decimal;

/* From the text of %e; trailing zeros dropped (one digit stays). */
static Decimal decimal_of(const char *text, bool zero) {
  Decimal r = {.n = 0};
  const char *p = text;
  for (; *p && *p != 'e'; p++)
    if (isdigit((unsigned char)*p)) r.d[r.n++] = *p;
  r.point = zero ? 1 : atoi(p + 1) + 1;
  while (r.n > 1 && r.d[r.n - 1] == '0') r.n--;
  r.d[r.n] = 0;
  return r;
}

/* v finite, not negative; n >= 1 significant digits, correctly rounded. */
static Decimal decimal(double v, int n) {
  char text[MAX_DIGITS + 32];
  snprintf(text, sizeof text, "%.*e", n - 1, v);
  return decimal_of(text, v == 0);
}

static bool reads_back(DType t, const char *text, double v) {
  if (t == DT_F64) return strtod(text, NULL) == v;
  if (t == DT_F32) return strtof(text, NULL) == (float)v;
  uint16_t half;
  dt_put_f(t, &half, 0, strtod(text, NULL));
  return dt_get_f(t, &half, 0) == v;
}

/* The fewest digits that read back. A normal value that has a text of at most 15 digits (f32: 6) prints exactly that
 * text at 15 digits, padded with zeros; so the search starts there. Below the normal range it starts at 1. */
static Decimal shortest(DType t, double v) {
  bool f64 = t == DT_F64, normal = t >= DT_F32 && v >= (f64 ? DBL_MIN : (double)FLT_MIN);
  char text[64];
  for (int n = !normal ? 1 : f64 ? DBL_DIG : FLT_DIG;; n++) {
    snprintf(text, sizeof text, "%.*e", n - 1, v);
    if (n == 17 || reads_back(t, text, v)) break; /* 17 are always enough */
  }
  return decimal_of(text, v == 0);
}

static void put(char *to, size_t *n, const char *s, int len) {
  memcpy(to + *n, s, (size_t)len);
  *n += (size_t)len;
  to[*n] = 0;
}
static void put_zeros(char *to, size_t *n, int count) {
  for (int i = 0; i < count; i++) put(to, n, "0", 1);
}

/* 1234.5 or 1.2345e+03; the plain form always has a point. */
static void layout(Body *b, const Decimal *d, bool exponent) {
  size_t w = 0, r = 0;
  if (exponent) {
    put(b->whole, &w, d->d, 1);
    if (d->n > 1) put(b->rest, &r, ".", 1), put(b->rest, &r, d->d + 1, d->n - 1);
    r += (size_t)snprintf(b->rest + r, 16, "e%+03d", d->point - 1);
  } else if (d->point <= 0) {
    put(b->whole, &w, "0", 1);
    put(b->rest, &r, ".", 1), put_zeros(b->rest, &r, -d->point), put(b->rest, &r, d->d, d->n);
  } else {
    int in = d->n < d->point ? d->n : d->point;
    put(b->whole, &w, d->d, in), put_zeros(b->whole, &w, d->point - in);
    put(b->rest, &r, ".", 1);
    if (d->n > in)
      put(b->rest, &r, d->d + in, d->n - in);
    else
      put(b->rest, &r, "0", 1);
  }
}

/* ---- bodies --------------------------------------------------------------------------------------------------- */
static void split_printed(Body *b, const char *text) {
  size_t n = strspn(text, "0123456789");
  snprintf(b->whole, sizeof b->whole, "%.*s", (int)n, text);
  snprintf(b->rest, sizeof b->rest, "%s", text + n);
}

static void float_body(Body *b, const Fmt *f, DType t, double v) {
  b->number = true;
  b->sign = signbit(v) && !isnan(v) ? '-' : 0;
  v = fabs(v);
  char type = f->type;
  if (isnan(v) || isinf(v)) {
    bool upper = type == 'F' || type == 'E' || type == 'G';
    snprintf(b->rest, sizeof b->rest, "%s%s", isnan(v) ? (upper ? "NAN" : "nan") : (upper ? "INF" : "inf"),
             type == '%' ? "%" : "");
    return;
  }
  if (!type && f->digits < 0) {
    Decimal d = shortest(t, v);
    layout(b, &d, v != 0 && (d.point <= -4 || d.point > 16));
    return;
  }
  if (!type) { /* general form that keeps a point: one digit is kept back for it, as in Python */
    int n = f->digits > 0 ? f->digits : 1;
    Decimal d = decimal(v, n);
    layout(b, &d, v != 0 && (d.point <= -4 || d.point > n - 1));
    return;
  }
  int n = f->digits < 0 ? 6 : f->digits;
  char text[BODY];
  switch (type) {
  case 'e':
    snprintf(text, sizeof text, "%.*e", n, v);
    break;
  case 'E':
    snprintf(text, sizeof text, "%.*E", n, v);
    break;
  case 'g':
    snprintf(text, sizeof text, "%.*g", n, v);
    break;
  case 'G':
    snprintf(text, sizeof text, "%.*G", n, v);
    break;
  case '%':
    snprintf(text, sizeof text, "%.*f%%", n, v * 100);
    break;
  default:
    snprintf(text, sizeof text, "%.*f", n, v);
    break;
  }
  if (type == '%' && isinf(v * 100)) snprintf(text, sizeof text, "inf%%");
  split_printed(b, text);
}

static void int_body(Body *b, const Fmt *f, int64_t v) {
  b->number = true;
  b->sign = v < 0 ? '-' : 0;
  uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
  unsigned base = f->type == 'x' || f->type == 'X' ? 16 : f->type == 'b' ? 2 : f->type == 'o' ? 8 : 10;
  char tmp[72], *p = tmp + sizeof tmp;
  *--p = 0;
  const char *digit = f->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
  do *--p = digit[u % base];
  while (u /= base);
  snprintf(b->whole, sizeof b->whole, "%s", p);
}

static void make_body(Body *b, const Fmt *f, DType t, const void *p) {
  b->sign = 0, b->number = false, b->whole[0] = b->rest[0] = 0;
  bool as_float = f->type && strchr("fFeEgG%", f->type);
  if (dt_is_float(t))
    float_body(b, f, t, dt_get_f(t, p, 0));
  else if (as_float)
    float_body(b, f, DT_F64, (double)dt_get_i(t, p, 0));
  else if (t == DT_BOOL && !f->type)
    snprintf(b->rest, sizeof b->rest, "%s", dt_get_i(t, p, 0) ? "true" : "false");
  else
    int_body(b, f, dt_get_i(t, p, 0));
}

/* ---- padding -------------------------------------------------------------------------------------------------- */
typedef struct Sink {
  char *at;
  size_t cap, n;
} Sink;
static void emit(Sink *s, char c) {
  if (s->n + 1 < s->cap) s->at[s->n] = c;
  s->n++;
}
static void emit_n(Sink *s, char c, int n) {
  for (int i = 0; i < n; i++) emit(s, c);
}
static void emit_s(Sink *s, const char *t) {
  while (*t) emit(s, *t++);
}

static int grouped(int digits, bool comma) { return digits + (comma && digits ? (digits - 1) / 3 : 0); }

static void emit_body(Sink *s, const Fmt *f, const Body *b, char sign) {
  int have = (int)strlen(b->whole), want = have, rest = (int)strlen(b->rest) + (sign != 0);
  /* Zero padding widens the integer part itself, so that its groups stay right. */
  char fill = f->fill ? f->fill : f->zero ? '0' : ' ';
  bool widen = have && fill == '0' && (f->align ? f->align == '=' : f->zero);
  if (widen)
    while (grouped(want, f->comma) + rest < f->width) want++;
  int len = grouped(want, f->comma) + rest, pad = f->width > len ? f->width - len : 0;
  char align = f->align ? f->align : fill == '0' ? '=' : '>';
  int left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
  emit_n(s, fill, left);
  if (sign) emit(s, sign);
  if (align == '=') emit_n(s, fill, pad), pad = 0;
  for (int i = want; i > 0; i--) {
    emit(s, i > have ? '0' : b->whole[have - i]);
    if (f->comma && i > 1 && (i - 1) % 3 == 0) emit(s, ',');
  }
  emit_s(s, b->rest);
  emit_n(s, fill, pad - left);
}

/* The character of a code point as UTF-8; what is no code point is U+FFFD. */
static void emit_character(Sink *s, int64_t c) {
  if (c < 0 || c >= 0x110000 || (c >= 0xd800 && c < 0xe000)) c = 0xfffd;
  if (c < 0x80) {
    emit(s, (char)c);
    return;
  }
  int more = c >= 0x10000 ? 3 : c >= 0x800 ? 2 : 1;
  emit(s, (char)((0xff00 >> (more + 1) & 0xff) | (int)(c >> 6 * more)));
  while (more--) emit(s, (char)(0x80 | (c >> 6 * more & 0x3f)));
}

size_t format_scalar(char *buf, size_t n, DType t, const void *p, const char *fmt) {
  Fmt f;
  if (is_text(fmt) && dt_is_int(t)) {
    Sink s = {buf, n, 0};
    emit_character(&s, dt_get_i(t, p, 0));
    if (n) buf[s.n < n ? s.n : n - 1] = 0;
    return s.n;
  }
  if (format_check(t, fmt)) fmt = NULL;
  parse_fmt(fmt, &f);
  Body b;
  make_body(&b, &f, t, p);
  char sign = b.sign;
  if (!sign && b.number && (f.sign == '+' || f.sign == ' ')) sign = f.sign;
  Sink s = {buf, n, 0};
  emit_body(&s, &f, &b, sign);
  if (n) buf[s.n < n ? s.n : n - 1] = 0;
  return s.n;
}
