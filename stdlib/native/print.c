/* Tensors as text: aligned values for people (print_tensor), nested brackets for sentences (print_inline).
 *
 *   i64[2, 3]             f32[4, 3000]                         f32[2, 2, 2]
 *      0   1   2            0.1257  -0.1321  ...   0.8713      [0, :, :]
 *     10  11  12            0.6404   0.1049  ...  -0.2214        0.5  1.25
 *                           ...                                  2.0  3.0
 *
 * One Look holds for a whole tensor: how its floats are written and how wide a cell is. It is made from the elements
 * that will be shown, which a Walk enumerates: the one place that knows what `...` hides. */
#include "stdlib/native/print.h"
#include <math.h>
#include <string.h>

enum { THRESHOLD = 1000, EDGE = 3, GAP = 2, CELL = 64, MAX_DECIMALS = 4 };

typedef struct Look {
  char fmt[8];
  int width;
} Look; /* fmt of floats; "": plain */

/* ---- what is shown -------------------------------------------------------------------------------------------- */
/* Positions 0..n of an axis, without those in lo..hi (lo == hi: none hidden). */
typedef struct Shown {
  int64_t n, lo, hi;
} Shown;

static Shown shown_axis(int64_t n, int64_t edge) {
  if (n <= 2 * edge) return (Shown){n, n, n};
  return (Shown){n, edge, n - edge};
}
static int64_t shown_next(const Shown *s, int64_t i) { return i + 1 == s->lo && s->lo < s->hi ? s->hi : i + 1; }
static bool gap_before(const Shown *s, int64_t i) { return s->lo < s->hi && i == s->hi; }

static Shown axis_of(const Tensor *t, int axis) {
  return shown_axis(t->dim[axis], tensor_count(t) > THRESHOLD ? EDGE : INT64_MAX / 2);
}

static void each_shown(const Tensor *t, int axis, int64_t at, void (*fn)(void *ctx, const Tensor *t, int64_t i),
                       void *ctx) {
  if (axis == t->rank) {
    fn(ctx, t, at);
    return;
  }
  Shown s = axis_of(t, axis);
  for (int64_t i = 0; i < s.n; i = shown_next(&s, i)) each_shown(t, axis + 1, at * t->dim[axis] + i, fn, ctx);
}

/* ---- cells ---------------------------------------------------------------------------------------------------- */
static size_t cell(char *buf, size_t n, const Tensor *t, int64_t i, const char *fmt) {
  return format_scalar(buf, n, t->dtype, (const char *)t->data + i * dt_bytes(t->dtype), fmt);
}

typedef struct Stats {
  double largest;
  bool whole;
  int decimals;
} Stats;

static void gather(void *ctx, const Tensor *t, int64_t i) {
  Stats *s = ctx;
  double v = fabs(dt_get_f(t->dtype, t->data, i));
  if (!isfinite(v)) return;
  if (v > s->largest) s->largest = v;
  if (v == floor(v)) return;
  s->whole = false;
  char buf[CELL];
  cell(buf, sizeof buf, t, i, NULL);
  const char *point = strchr(buf, '.');
  int d = strchr(buf, 'e') || !point ? MAX_DECIMALS : (int)strlen(point + 1);
  if (d > MAX_DECIMALS) d = MAX_DECIMALS;
  if (d > s->decimals) s->decimals = d;
}

typedef struct Widest {
  const Look *look;
  int width;
} Widest;
static void measure(void *ctx, const Tensor *t, int64_t i) {
  Widest *w = ctx;
  char buf[CELL];
  int n = (int)cell(buf, sizeof buf, t, i, w->look->fmt);
  if (n > w->width) w->width = n;
}

/* Fixed point with as many decimals as the values need, up to 4; 4 significant digits with an exponent when the largest
 * is so small or so large that fixed point would show nothing of it, or nothing else. */
static Look look_at(const Tensor *t) {
  Look l = {.fmt = ""};
  if (dt_is_float(t->dtype)) {
    Stats s = {.whole = true, .decimals = 1};
    each_shown(t, 0, 0, gather, &s);
    bool huge = s.largest >= (s.whole ? 1e9 : 1e6), tiny = !s.whole && s.largest < 1e-2;
    if (huge || tiny)
      snprintf(l.fmt, sizeof l.fmt, ".3e");
    else
      snprintf(l.fmt, sizeof l.fmt, ".%df", s.decimals);
  }
  Widest w = {.look = &l};
  each_shown(t, 0, 0, measure, &w);
  l.width = w.width;
  return l;
}

/* ---- aligned values ------------------------------------------------------------------------------------------- */
static void put_cell(FILE *out, const Tensor *t, int64_t i, const Look *l) {
  char buf[CELL];
  cell(buf, sizeof buf, t, i, l->fmt);
  fprintf(out, "%*s", GAP + l->width, buf);
}

static void put_vector(FILE *out, const Tensor *t, const Look *l, int width) {
  Shown s = axis_of(t, 0);
  int64_t per_line = width / (GAP + l->width), on_line = 0;
  if (per_line < 1) per_line = 1;
  for (int64_t i = 0; i < s.n; i = shown_next(&s, i)) {
    for (int gap = gap_before(&s, i); gap >= 0; gap--) { /* the dots take a cell of their own */
      if (on_line == per_line) fputc('\n', out), on_line = 0;
      if (gap)
        fprintf(out, "%*s", GAP + l->width, l->width < 3 ? ".." : "...");
      else
        put_cell(out, t, i, l);
      on_line++;
    }
  }
  fputc('\n', out);
}

static Shown columns_that_fit(const Tensor *t, const Look *l, int width) {
  Shown s = axis_of(t, t->rank - 1);
  int64_t n = s.lo + (s.n - s.hi), each = GAP + l->width, dots = GAP + 3;
  if (n * each + (s.lo < s.hi ? dots : 0) <= width) return s;
  int64_t fit = width > dots ? (width - dots) / each : 0;
  if (fit < 1) fit = 1;
  if (fit >= s.n) return s;
  return (Shown){s.n, (fit + 1) / 2, s.n - fit / 2};
}

static void put_table(FILE *out, const Tensor *t, int64_t base, const Look *l, const Shown *cols) {
  Shown rows = axis_of(t, t->rank - 2);
  int64_t nc = t->dim[t->rank - 1];
  for (int64_t r = 0; r < rows.n; r = shown_next(&rows, r)) {
    if (gap_before(&rows, r)) fprintf(out, "%*s...\n", GAP, "");
    for (int64_t c = 0; c < nc; c = shown_next(cols, c)) {
      if (gap_before(cols, c)) fprintf(out, "%*s...", GAP, "");
      put_cell(out, t, (base + r) * nc + c, l);
    }
    if (cols->lo < cols->hi && cols->hi == nc) fprintf(out, "%*s...", GAP, "");
    fputc('\n', out);
  }
}

static void put_blocks(FILE *out, const Tensor *t, int axis, int64_t *at, int64_t base, const Look *l,
                       const Shown *cols) {
  if (axis == t->rank - 2) {
    if (t->rank > 2) {
      for (int d = 0; d < axis; d++) fprintf(out, "%s%lld", d ? ", " : "[", (long long)at[d]);
      fputs(", :, :]\n", out);
    }
    put_table(out, t, base * t->dim[axis], l, cols);
    return;
  }
  Shown s = axis_of(t, axis);
  for (int64_t i = 0; i < s.n; i = shown_next(&s, i)) {
    if (gap_before(&s, i)) fputs("...\n", out);
    at[axis] = i;
    put_blocks(out, t, axis + 1, at, base * t->dim[axis] + i, l, cols);
  }
}

void print_tensor(FILE *out, const Tensor *t, int width) {
  if (width <= 0) width = 80;
  if (t->rank == 0) {
    char buf[CELL];
    cell(buf, sizeof buf, t, 0, NULL);
    fprintf(out, "%s\n", buf);
    return;
  }
  fprintf(out, "%s[", dt_name(t->dtype));
  for (int d = 0; d < t->rank; d++) fprintf(out, "%s%lld", d ? ", " : "", (long long)t->dim[d]);
  fputs("]\n", out);
  if (tensor_count(t) == 0) return;
  Look l = look_at(t);
  if (t->rank == 1) {
    put_vector(out, t, &l, width);
    return;
  }
  int64_t at[TG_MAX_RANK];
  Shown cols = columns_that_fit(t, &l, width);
  put_blocks(out, t, 0, at, 0, &l, &cols);
}

/* ---- nested brackets ------------------------------------------------------------------------------------------ */
static void put_nested(FILE *out, const Tensor *t, int axis, int64_t at, const char *fmt) {
  if (axis == t->rank) {
    char buf[2048];
    cell(buf, sizeof buf, t, at, fmt);
    fputs(buf, out);
    return;
  }
  Shown s = axis_of(t, axis);
  fputc('[', out);
  for (int64_t i = 0; i < s.n; i = shown_next(&s, i)) {
    if (i) fputs(", ", out);
    if (gap_before(&s, i)) fputs("..., ", out);
    put_nested(out, t, axis + 1, at * t->dim[axis] + i, fmt);
  }
  fputc(']', out);
}

void print_inline(FILE *out, const Tensor *t, const char *fmt) {
  if (!fmt || strcmp(fmt, "text")) {
    put_nested(out, t, 0, 0, fmt);
    return;
  }
  char c[8]; /* all characters; a matrix's rows on lines of their own */
  int64_t n = tensor_count(t), row = t->rank > 1 ? t->dim[t->rank - 1] : n;
  for (int64_t k = 0; k < n; k++) {
    if (k && k % row == 0) fputc('\n', out);
    format_scalar(c, sizeof c, t->dtype, (char *)t->data + k * dt_bytes(t->dtype), fmt);
    fputs(c, out);
  }
}
