/* The natives print and assert, and the templates that both take. */
#include "stdlib/native/effects.h"
#include "stdlib/native/host.h"
#include "stdlib/native/print.h"
#include "stdlib/native/progress.h"
#include <stdlib.h>
#include <string.h>

/* ---- templates ------------------------------------------------------------------------------------------------ */
/* `{12:fmt}` at s: the operand's number, the format, and what follows. */
typedef struct Hole {
  int operand;
  char fmt[64];
  const char *end;
} Hole;

static bool parse_hole(const char *s, Hole *h) {
  const char *p = s + 1;
  int v = 0, digits = 0;
  for (; *p >= '0' && *p <= '9' && digits < 6; p++, digits++) v = v * 10 + (*p - '0');
  if (!digits) return false;
  h->operand = v, h->fmt[0] = 0;
  if (*p == ':') {
    size_t n = strcspn(++p, "}");
    if (n >= sizeof h->fmt) return false;
    memcpy(h->fmt, p, n), h->fmt[n] = 0;
    p += n;
  }
  h->end = p + 1;
  return *p == '}';
}

static bool bad_template(Fault *f, const char *text, const char *at, const char *why) {
  fault_set(f, R_NATIVE, (Span){0}, "template \"%.200s\", character %d: %s", text, (int)(at - text) + 1, why);
  return false;
}

/* Alone on its line: a tensor there is shown as a table, and brings its own newline. */
static bool alone(const char *text, const char *from, const Hole *h) {
  return !h->fmt[0] && (from == text || from[-1] == '\n') && (*h->end == 0 || *h->end == '\n');
}

static void put_scalar(FILE *out, const Tensor *t, const char *fmt) {
  char buf[2048];
  format_scalar(buf, sizeof buf, t->dtype, t->data, fmt);
  fputs(buf, out);
}

bool print_template(FILE *out, const char *text, int nin, const Tensor *in, int width, Fault *f) {
  bool ended = false; /* the table just written ended the line */
  for (const char *s = text; *s;) {
    if ((*s == '{' || *s == '}') && s[1] == *s) {
      fputc(*s, out), s += 2;
    } else if (*s == '{') {
      Hole h;
      if (!parse_hole(s, &h)) return bad_template(f, text, s, "expected {number} or {number:format}");
      if (h.operand >= nin) return bad_template(f, text, s, "no such operand");
      const Tensor *t = &in[h.operand];
      const char *why = format_check(t->dtype, h.fmt);
      if (why) return bad_template(f, text, s, why);
      if (t->rank > 0 && alone(text, s, &h)) {
        print_tensor(out, t, width);
        s = h.end;
        if (*s == '\n')
          s++;
        else
          ended = true;
        continue;
      }
      if (t->rank > 0)
        print_inline(out, t, h.fmt);
      else
        put_scalar(out, t, h.fmt);
      s = h.end;
    } else if (*s == '}') {
      return bad_template(f, text, s, "a single }");
    } else {
      size_t n = strcspn(s, "{}");
      fwrite(s, 1, n, out), s += n;
    }
  }
  if (!ended) fputc('\n', out);
  return true;
}

/* ---- print ---------------------------------------------------------------------------------------------------- */
/* print(operands...), attribute 0.s the template. Faults: malformed template; the stream refuses (disk full, closed
 * pipe). */
static bool run_print(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *res,
                      Fault *f) {
  const NativeHost *host = ctx;
  FILE *out = host && host->out ? host->out : stdout;
  const char *text = nattr > 0 && attr[0].s ? attr[0].s : nin > 0 ? "{0}" : "";
  if (host) progress_hide(host->progress);
  if (!print_template(out, text, nin, in, host ? host->width : 0, f)) return false;
  if (ferror(out)) {
    fault_set(f, R_NATIVE, (Span){0}, "print: cannot write the output");
    return false;
  }
  return true;
}

/* ---- assert --------------------------------------------------------------------------------------------------- */
static void first_false(const Tensor *t, int64_t at, char *buf, size_t n) {
  int64_t idx[TG_MAX_RANK];
  for (int d = t->rank - 1; d >= 0; d--) idx[d] = at % t->dim[d], at /= t->dim[d];
  size_t len = (size_t)snprintf(buf, n, " at [");
  for (int d = 0; d < t->rank && len < n; d++)
    len += (size_t)snprintf(buf + len, n - len, "%s%lld", d ? ", " : "", (long long)idx[d]);
  if (len < n) snprintf(buf + len, n - len, "]");
}

/* assert(condition, operands...), attribute 0.s the message's template (absent or empty: none).
 * Fault R_ASSERT with the message, and the position of the first false of a tensor. */
static bool run_assert(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *res,
                       Fault *f) {
  if (nin < 1 || in[0].dtype != DT_BOOL) {
    fault_set(f, R_NATIVE, (Span){0}, "assert: operand 0 must be bool");
    return false;
  }
  int64_t n = tensor_count(&in[0]);
  const uint8_t *c = in[0].data;
  const uint8_t *hit = n > 0 ? memchr(c, 0, (size_t)n) : NULL;
  if (!hit) return true;
  char where[200] = "";
  if (in[0].rank > 0) first_false(&in[0], hit - c, where, sizeof where);
  const char *text = nattr > 0 && attr[0].s && attr[0].s[0] ? attr[0].s : NULL;
  if (!text) {
    fault_set(f, R_ASSERT, (Span){0}, "assertion failed%s", where);
    return false;
  }
  char *msg = NULL;
  size_t len = 0;
  FILE *m = open_memstream(&msg, &len);
  if (!m) {
    fault_set(f, R_ASSERT, (Span){0}, "assertion failed%s: %s", where, text);
    return false;
  }
  bool ok = print_template(m, text, nin, in, 0, f);
  fclose(m);
  if (ok) {
    if (len && msg[len - 1] == '\n') msg[len - 1] = 0;
    fault_set(f, R_ASSERT, (Span){0}, "assertion failed%s: %s", where, msg);
  }
  free(msg);
  return false;
}

/* after(x...): does nothing, once x is there. It gives an order to what has none. */
static bool run_after(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                      Fault *f) {
  return true;
}

const Native native_after = {.name = "after", .effect = true, .run = run_after};
const Native native_print = {.name = "print", .effect = true, .who = RUN_FIRST, .run = run_print};
const Native native_assert = {.name = "assert", .effect = true, .run = run_assert};
