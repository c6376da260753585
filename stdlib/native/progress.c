/* Training as its user sees it. See progress.h. */
#include "stdlib/native/progress.h"
#include "codegen/rt/clock.h"
#include "stdlib/native/host.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TREND = 16 };              /* columns of the sparkline */
static const double REDRAW = 0.1; /* seconds */

/* The losses so far in at most 2 * TREND means of `each` steps; when they are full, neighbours are joined. */
typedef struct Trend {
  int n;
  int64_t each, part;
  double sum, at[2 * TREND];
} Trend;

struct Progress {
  FILE *err;
  bool tty, shown;
  int width;
  FitSignal *signal;
  int heard;                      /* signal->requested when the fit began: an earlier fit's Ctrl-C does not end it */
  int64_t epochs, steps, batches; /* -1: unknown */
  int depth;                      /* fits within each other */
  double begun, epoch_begun, last, drawn; /* last: when a step ended; what comes after is not training */
  int64_t epoch, rows;                    /* rows of this epoch so far, in this run */
  double total;                           /* sum of loss * rows of them */
  Trend trend;
};

Progress *progress_new(FILE *err, bool tty, int width, FitSignal *signal) {
  Progress *p = calloc(1, sizeof *p);
  if (p) *p = (Progress){.err = err, .tty = tty, .width = width > 20 ? width : 80, .signal = signal};
  return p;
}
void progress_free(Progress *p) { free(p); }

void progress_hide(Progress *p) {
  if (!p || !p->shown) return;
  fputs("\r\033[K", p->err);
  fflush(p->err);
  p->shown = false, p->drawn = 0;
}

void progress_end_run(Progress *p) {
  if (!p) return;
  progress_hide(p);
  p->depth = 0;
  p->signal->fitting = 0;
}

/* ---- the sparkline ----------------------------------------------------------------------------------------------- */

static void trend_add(Trend *t, double x) {
  if (!(x - x == 0)) return;
  if (t->each == 0) t->each = 1;
  t->sum += x;
  if (++t->part < t->each) return;
  t->at[t->n++] = t->sum / (double)t->part;
  t->sum = 0, t->part = 0;
  if (t->n < 2 * TREND) return;
  for (int k = 0; k < TREND; k++) t->at[k] = 0.5 * (t->at[2 * k] + t->at[2 * k + 1]);
  t->n = TREND, t->each *= 2;
}

/* At most TREND columns of eighths, each three bytes; the least is the lowest. */
static void trend_text(const Trend *t, char *out) {
  int n = t->n < TREND ? t->n : TREND;
  double lo = 0, hi = 0, col[TREND];
  *out = 0;
  for (int k = 0; k < n; k++) {
    int from = k * t->n / n, to = (k + 1) * t->n / n;
    col[k] = 0;
    for (int j = from; j < to; j++) col[k] += t->at[j] / (to - from);
    if (k == 0 || col[k] < lo) lo = col[k];
    if (k == 0 || col[k] > hi) hi = col[k];
  }
  for (int k = 0; k < n && n > 1; k++) {
    int level = hi > lo ? (int)((col[k] - lo) / (hi - lo) * 7.999) : 0;
    *out++ = (char)0xE2, *out++ = (char)0x96, *out++ = (char)(0x81 + level), *out = 0;
  }
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

typedef struct Line {
  char at[1024];
  size_t n;
  int columns;
} Line;

__attribute__((format(printf, 2, 3))) static void put(Line *l, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(l->at + l->n, sizeof l->at - l->n, fmt, ap);
  va_end(ap);
  if (n <= 0 || (size_t)n >= sizeof l->at - l->n) {
    l->at[l->n] = 0;
    return;
  }
  for (int k = 0; k < n; k++) l->columns += (l->at[l->n + (size_t)k] & 0xC0) != 0x80;
  l->n += (size_t)n;
}

/* 31,400 */
static void put_count(Line *l, double x) {
  char s[40], out[60];
  int n = snprintf(s, sizeof s, "%.0f", x), m = 0;
  for (int k = 0; k < n && m < (int)sizeof out - 2; k++) {
    out[m++] = s[k];
    if (k + 1 < n && (n - 1 - k) % 3 == 0) out[m++] = ',';
  }
  out[m] = 0;
  put(l, "%s", out);
}

static void put_rate(Line *l, int64_t rows, double seconds) {
  if (rows <= 0 || seconds <= 0) return;
  double rate = (double)rows / seconds;
  put(l, "  ");
  double digit = 1; /* three figures are enough */
  while (rate / digit >= 1000) digit *= 10;
  put_count(l, rate >= 1 ? (double)(int64_t)(rate / digit + 0.5) * digit : rate);
  put(l, " samples/s");
}

static void put_time(Line *l, const char *what, double s) {
  if (s < 60)
    put(l, "  %s%.*f s", what, s < 10 ? 1 : 0, s);
  else if (s < 3600)
    put(l, "  %s%d:%02d", what, (int)s / 60, (int)s % 60);
  else
    put(l, "  %s%d:%02d:%02d", what, (int)(s / 3600), (int)s / 60 % 60, (int)s % 60);
}

static void put_epoch(Line *l, const Progress *p, int64_t epoch) {
  put(l, "epoch %lld", (long long)epoch + 1);
  if (p->epochs > 0) put(l, "/%lld", (long long)p->epochs);
}

/* ---- the bar ----------------------------------------------------------------------------------------------------- */

static void put_bar(Line *l, double done) {
  enum { CELLS = 20 };
  int eighths = (int)(done * CELLS * 8 + 0.5);
  put(l, "  ");
  for (int k = 0; k < CELLS; k++) {
    int e = eighths - 8 * k;
    if (e >= 8)
      put(l, "\xE2\x96\x88");
    else if (e > 0)
      put(l, "\xE2\x96%c", 0x90 - e);
    else
      put(l, "\xC2\xB7");
  }
}

static void draw(Progress *p, int64_t at, int64_t step) {
  Line l = {.n = 0};
  double t = rt_seconds(), spent = t - p->begun;
  put_epoch(&l, p, p->epoch);
  double done = -1;
  if (p->batches > 0) done = (double)(at + 1) / (double)p->batches;
  if (p->steps > 0) done = (double)step / (double)p->steps;
  if (done >= 0) put_bar(&l, done > 1 ? 1 : done);
  if (p->steps > 0)
    put(&l, "  step %lld/%lld", (long long)step, (long long)p->steps);
  else if (p->batches > 0)
    put(&l, "  %lld/%lld", (long long)at + 1, (long long)p->batches);
  else
    put(&l, "  step %lld", (long long)step);
  if (p->rows) put(&l, "  loss %.4g", p->total / (double)p->rows);
  put_rate(&l, p->rows, t - p->epoch_begun);
  if (done > 0.02 && done < 1 && p->steps > 0) put_time(&l, "eta ", spent * (1 - done) / done);
  if (done > 0.02 && done < 1 && p->steps <= 0) put_time(&l, "eta ", (t - p->epoch_begun) * (1 - done) / done);
  if (l.columns + 2 + TREND < p->width) {
    char s[3 * TREND + 1];
    trend_text(&p->trend, s);
    put(&l, "  %s", s);
  }
  while (l.columns >= p->width && l.n) /* a line that wraps can't be taken back */
    l.columns -= (l.at[--l.n] & 0xC0) != 0x80;
  fprintf(p->err, "\r%.*s\033[K", (int)l.n, l.at);
  fflush(p->err);
  p->shown = true, p->drawn = t;
}

/* ---- natives ----------------------------------------------------------------------------------------------------- */

static Progress *progress_of(void *ctx) { return ctx ? ((NativeHost *)ctx)->progress : NULL; }
static int64_t int_at(const Tensor *t) { return *(const int64_t *)t->data; }

static bool run_begin(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                      Fault *f) {
  Progress *p = progress_of(ctx);
  if (!p) return true;
  p->epochs = attr[0].i, p->steps = attr[1].i, p->batches = attr[2].i;
  p->begun = p->epoch_begun = p->last = rt_seconds();
  p->rows = 0, p->total = 0, p->epoch = 0, p->drawn = 0;
  p->trend = (Trend){0};
  if (p->depth++ == 0) p->heard = p->signal->requested;
  p->signal->fitting = 1;
  return true;
}

static bool run_step(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  Progress *p = progress_of(ctx);
  bool *go = out[0].data;
  *go = true;
  if (!p) return true;
  double loss = *(const float *)in[3].data;
  int64_t rows = int_at(&in[4]);
  p->epoch = int_at(&in[0]);
  p->last = rt_seconds();
  p->rows += rows, p->total += loss * (double)rows;
  trend_add(&p->trend, loss);
  *go = p->signal->requested == p->heard;
  if (p->tty && p->last - p->drawn >= REDRAW) draw(p, int_at(&in[1]), int_at(&in[2]) + 1);
  return true;
}

static bool run_epoch(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                      Fault *f) {
  Progress *p = progress_of(ctx);
  if (!p) return true;
  Line l = {.n = 0};
  double t = rt_seconds();
  progress_hide(p);
  if (((NativeHost *)ctx)->out) fflush(((NativeHost *)ctx)->out); /* what was printed before stands before this line */
  put_epoch(&l, p, int_at(&in[0]));
  for (int k = 0; k < nattr; k++) put(&l, "  %s %.4g", attr[k].s, (double)*(const float *)in[k + 1].data);
  put_rate(&l, p->rows, p->last - p->epoch_begun);
  put_time(&l, "", t - p->epoch_begun);
  if (p->tty && l.columns + 2 + TREND < p->width) {
    char s[3 * TREND + 1];
    trend_text(&p->trend, s);
    put(&l, "  %s", s);
  }
  fprintf(p->err, "%s\n", l.at);
  fflush(p->err);
  p->epoch_begun = t, p->rows = 0, p->total = 0;
  return true;
}

static bool run_end(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                    Fault *f) {
  Progress *p = progress_of(ctx);
  if (!p) return true;
  progress_hide(p);
  if (p->depth > 0 && --p->depth == 0) {
    const NativeRanks *ranks = ((NativeHost *)ctx)->base.ranks;
    if (p->signal->requested != p->heard && (!ranks || ranks->rank == 0))
      fprintf(p->err,
              "interrupted: fit ends after step %lld; the program goes on with what it has learned "
              "(Ctrl-C again stops it)\n",
              (long long)int_at(&in[0]));
    p->signal->fitting = 0;
  }
  return true;
}

static bool run_finite(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                       Fault *f) {
  bool loss = *(const bool *)in[0].data, gradient = *(const bool *)in[1].data;
  if (loss && gradient) return true;
  char what[64];
  if (loss)
    snprintf(what, sizeof what, "the gradient has nan or inf");
  else
    snprintf(what, sizeof what, "the loss is %g", (double)*(const float *)in[2].data);
  fault_set(f, R_NAN, (Span){0}, "%s in epoch %lld, step %lld", what, (long long)int_at(&in[3]) + 1,
            (long long)int_at(&in[4]) + 1);
  return false;
}

/* The history of a fit that was left out: nan. A native, so that `tg build` can tell who reads it. */
static bool run_unfitted(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                         Fault *f) {
  for (int k = 0; k < nout; k++)
    for (int64_t i = tensor_count(&out[k]); i-- > 0;) ((float *)out[k].data)[i] = NAN;
  return true;
}

const Native progress_natives[PROGRESS_NATIVES] = {
    {.name = "fit_begin", .effect = true, .run = run_begin},
    {.name = "fit_step", .effect = true, .who = RUN_FIRST_TELL, .run = run_step},
    {.name = "fit_epoch", .effect = true, .who = RUN_FIRST, .run = run_epoch},
    {.name = "fit_end", .effect = true, .run = run_end},
    {.name = "fit_finite", .effect = true, .commit = true, .run = run_finite},
    {.name = "fit_unfitted", .run = run_unfitted},
};
