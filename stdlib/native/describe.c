/* describe: what the columns of data sets hold, as a table.
 *
 * A column's values are those of one field in all rows. A set with random access is read several times, and all is
 * exact: quartiles by radix, since the bits of a double, its sign folded in, order as its values do. Each reading
 * counts 16 more of their 64 bits among the values that share the bits above with a quartile; f32 and short integers
 * need three readings. Other sets are read once: moments exact, quartiles and histogram from a sketch of bounded size
 * (compactors: a full level of K values is sorted, and every second one goes up, standing for two; rank error below 0.5
 * %). */
#include "stdlib/native/data_set.h"
#include "stdlib/native/io.h"
#include "stdlib/native/print.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { QUARTILES = 3, RADIX = 1 << 16, BARS = 16, K = 4096, LEVELS = 44, CHUNK_VALUES = 1 << 16 };

typedef struct Sketch {
  double *level[LEVELS];
  int n[LEVELS];
  uint64_t coin;
} Sketch;

typedef struct Column {
  int64_t count, missing;
  double mean, m2, min, max;
  uint64_t prefix[QUARTILES]; /* the bits found so far */
  int64_t rank[QUARTILES];    /* of the quartile among the values with that prefix */
  int64_t *bin[QUARTILES];    /* RADIX each */
  double quartile[QUARTILES];
  double bar[BARS];
  Sketch *sketch;
} Column;

typedef struct Summary {
  DataSet *set;
  Column *col;
  int64_t rows;
  bool exact;
} Summary;

/* ---- order of doubles as integers ------------------------------------------------------------------------------- */
static uint64_t key_of(double v) {
  uint64_t u;
  if (v == 0) v = 0; /* -0 and 0 are one value */
  memcpy(&u, &v, sizeof u);
  return u >> 63 ? ~u : u | UINT64_C(1) << 63;
}
static double value_of(uint64_t k) {
  uint64_t u = k >> 63 ? k & ~(UINT64_C(1) << 63) : ~k;
  double v;
  memcpy(&v, &u, sizeof v);
  return v;
}

/* ---- the sketch ------------------------------------------------------------------------------------------------- */
static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}
static bool sketch_add(Sketch *s, int l, double v, Fault *f) {
  if (!s->level[l] && !(s->level[l] = malloc(sizeof(double) * K))) return data_no_memory(f, sizeof(double) * K);
  s->level[l][s->n[l]++] = v;
  if (s->n[l] < K || l + 1 == LEVELS) return true;
  qsort(s->level[l], K, sizeof(double), by_value);
  s->n[l] = 0;
  s->coin = data_hash(s->coin, (uint64_t)l);
  for (int k = (int)(s->coin & 1); k < K; k += 2)
    if (!sketch_add(s, l + 1, s->level[l][k], f)) return false;
  return true;
}
static void sketch_free(Sketch *s) {
  for (int l = 0; s && l < LEVELS; l++) free(s->level[l]);
  free(s);
}

typedef struct Weighted {
  double v, w;
} Weighted;
static int by_weighted(const void *a, const void *b) { return by_value(a, b); }

static int bar_of(const Column *c, double v) {
  if (!(c->max > c->min)) return 0;
  double b = (v - c->min) / (c->max - c->min) * BARS;
  return b >= BARS ? BARS - 1 : b > 0 ? (int)b : 0;
}

static bool sketch_read(Column *c, Fault *f) {
  int64_t n = 0;
  double total = 0, seen = 0;
  for (int l = 0; l < LEVELS; l++) n += c->sketch->n[l];
  Weighted *w = malloc(sizeof *w * (size_t)(n + 1));
  if (!w) return data_no_memory(f, sizeof *w * (size_t)n);
  n = 0;
  for (int l = 0; l < LEVELS; l++)
    for (int k = 0; k < c->sketch->n[l]; k++)
      w[n++] = (Weighted){c->sketch->level[l][k], ldexp(1, l)}, total += ldexp(1, l);
  if (n) qsort(w, (size_t)n, sizeof *w, by_weighted);
  int q = 0;
  for (int64_t k = 0; k < n; k++) {
    seen += w[k].w;
    while (q < QUARTILES && seen >= total * (q + 1) / 4) c->quartile[q++] = w[k].v;
    c->bar[bar_of(c, w[k].v)] += w[k].w;
  }
  free(w);
  return true;
}

/* ---- readings --------------------------------------------------------------------------------------------------- */
typedef bool (*Visit)(Column *c, double v, int reading, Fault *f);

static bool see_first(Column *c, double v, int reading, Fault *f) {
  (void)reading;
  if (v != v) return c->missing++, true;
  if (!c->count || v < c->min) c->min = v;
  if (!c->count || v > c->max) c->max = v;
  c->count++;
  double d = v - c->mean;
  c->mean += d / (double)c->count;
  c->m2 += d * (v - c->mean);
  if (c->sketch) return sketch_add(c->sketch, 0, v, f);
  c->bin[0][key_of(v) >> 48]++;
  return true;
}
static bool see_again(Column *c, double v, int reading, Fault *f) {
  (void)f;
  if (v != v) return true;
  uint64_t k = key_of(v);
  if (reading == 1) c->bar[bar_of(c, v)]++;
  for (int q = 0; q < QUARTILES; q++)
    if (k >> (64 - 16 * reading) == c->prefix[q]) c->bin[q][k >> (48 - 16 * reading) & (RADIX - 1)]++;
  return true;
}

static bool read_all(Summary *s, DataPass *pass, Visit visit, int reading, Fault *f) {
  DataSet *set = s->set;
  int64_t most = 1, rows = 0;
  for (int k = 0; k < set->nfield; k++) {
    int64_t n = (int64_t)(set->bytes[k] / (size_t)dt_bytes(set->field[k].dtype));
    if (n > most) most = n;
  }
  int64_t chunk = CHUNK_VALUES / most + 1;
  DataIter *it = data_iter_open(set, pass, 0, 0, f);
  void **to = calloc((size_t)set->nfield + 1, sizeof *to);
  bool ok = it && to;
  for (int k = 0; ok && k < set->nfield; k++)
    ok = (to[k] = malloc(set->bytes[k] * (size_t)chunk + 1)) || data_no_memory(f, set->row_bytes);
  for (int64_t got = chunk; ok && got == chunk;) {
    ok = (got = data_iter_read(it, chunk, to, f)) >= 0;
    if (ok && data_stopped(set->table)) ok = false, fault_set(f, R_INTERRUPT, (Span){0}, "interrupted");
    for (int k = 0; ok && k < set->nfield; k++) {
      DType t = set->field[k].dtype;
      int64_t n = (int64_t)(set->bytes[k] / (size_t)dt_bytes(t)) * got;
      for (int64_t i = 0; ok && i < n; i++) {
        double v = t == DT_F32      ? (double)((float *)to[k])[i]
                   : t == DT_U8     ? ((uint8_t *)to[k])[i]
                   : dt_is_float(t) ? dt_get_f(t, to[k], i)
                                    : (double)dt_get_i(t, to[k], i);
        ok = visit(&s->col[k], v, reading, f);
      }
    }
    if (ok) rows += got;
  }
  for (int k = 0; to && k < set->nfield; k++) free(to[k]);
  free(to);
  data_iter_close(it);
  s->rows = rows;
  return ok;
}

/* The bin of each quartile, and its rank among the values in it. */
static void narrow(Column *c, int reading) {
  for (int q = 0; q < QUARTILES; q++) {
    if (reading == 0) c->rank[q] = c->count ? (c->count - 1) * (q + 1) / 4 : 0;
    const int64_t *bin = c->bin[reading ? q : 0];
    int b = 0;
    while (b < RADIX - 1 && c->rank[q] >= bin[b]) c->rank[q] -= bin[b++];
    c->prefix[q] = c->prefix[q] << 16 | (uint64_t)b;
  }
  for (int q = 0; q < QUARTILES; q++) memset(c->bin[q], 0, sizeof *c->bin[q] * RADIX);
}

static bool summarise(Summary *s, DataPass *pass, Fault *f) {
  DataSet *set = s->set;
  int readings = s->exact ? 3 : 1;
  if (!(s->col = calloc((size_t)set->nfield + 1, sizeof *s->col))) return data_no_memory(f, sizeof *s->col);
  for (int k = 0; k < set->nfield; k++) {
    Column *c = &s->col[k];
    DType t = set->field[k].dtype;
    if (t == DT_F64 || t == DT_I64) readings = s->exact ? 4 : 1;
    for (int q = 0; s->exact && q < QUARTILES; q++)
      if (!(c->bin[q] = calloc(RADIX, sizeof *c->bin[q]))) return data_no_memory(f, sizeof *c->bin[q] * RADIX);
    if (!s->exact && !(c->sketch = calloc(1, sizeof *c->sketch))) return data_no_memory(f, sizeof *c->sketch);
  }
  for (int r = 0; r < readings; r++) {
    if (!read_all(s, pass, r ? see_again : see_first, r, f)) return false;
    for (int k = 0; k < set->nfield; k++) {
      if (s->exact)
        narrow(&s->col[k], r);
      else if (!sketch_read(&s->col[k], f))
        return false;
    }
  }
  for (int k = 0; s->exact && k < set->nfield; k++)
    for (int q = 0; q < QUARTILES; q++) s->col[k].quartile[q] = value_of(s->col[k].prefix[q] << (64 - 16 * readings));
  return true;
}

static void summary_free(Summary *s) {
  for (int k = 0; s->col && k < s->set->nfield; k++) {
    for (int q = 0; q < QUARTILES; q++) free(s->col[k].bin[q]);
    sketch_free(s->col[k].sketch);
  }
  free(s->col);
}

/* ---- the table -------------------------------------------------------------------------------------------------- */
enum { CELLS = 12, CELL = 96 };
typedef char Line[CELLS][CELL];

static void number(char *to, double v) {
  if (v == floor(v) && fabs(v) < 1e6)
    snprintf(to, CELL, "%.0f", v == 0 ? 0.0 : v);
  else
    snprintf(to, CELL, "%.4g", v);
}

static void bars(char *to, const Column *c) {
  static const char *const bar[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  double top = 0;
  for (int b = 0; b < BARS; b++) top = c->bar[b] > top ? c->bar[b] : top;
  *to = 0;
  for (int b = 0; top > 0 && b < BARS; b++) strcat(to, c->bar[b] > 0 ? bar[(int)(c->bar[b] / top * 7.0 + 0.5)] : " ");
}

static void type_text(char *to, const DataField *f) {
  size_t n = (size_t)snprintf(to, CELL, "%s", dt_name(f->dtype));
  for (int a = 0; a < f->rank && n < CELL - 24; a++)
    n += (size_t)snprintf(to + n, CELL - n, "%s%lld%s", a ? ", " : "[", (long long)f->dim[a],
                          a + 1 == f->rank ? "]" : "");
}

static void fill(Line l, const Summary *s, int k, const char *name, const char *label) {
  const Column *c = &s->col[k];
  memset(l, 0, sizeof(Line));
  snprintf(l[0], CELL, "%.40s%s%.24s", name, *label ? " " : "", label);
  type_text(l[1], &s->set->field[k]);
  snprintf(l[2], CELL, "%lld", (long long)c->count), snprintf(l[3], CELL, "%lld", (long long)c->missing);
  if (!c->count) return;
  number(l[4], c->mean), number(l[5], sqrt(c->m2 / (double)c->count)), number(l[6], c->min);
  for (int q = 0; q < QUARTILES; q++) number(l[7 + q], c->quartile[q]);
  number(l[10], c->max);
  bars(l[11], c);
}

static void put_table(FILE *out, int n, Line *line) {
  size_t width[CELLS] = {0};
  for (int k = 0; k < n; k++)
    for (int c = 0; c < CELLS - 1; c++) width[c] = strlen(line[k][c]) > width[c] ? strlen(line[k][c]) : width[c];
  for (int k = 0; k < n; k++) {
    for (int c = 0; c < CELLS; c++) {
      if (c == CELLS - 1)
        fprintf(out, "  %s", line[k][c]);
      else
        fprintf(out, c < 2 ? "%s%-*s" : "%s%*s", c ? "  " : "", (int)width[c], line[k][c]);
    }
    fputc('\n', out);
  }
}

static const char *base(const char *name) { return *name ? name : "row"; }

static bool put(FILE *out, int n, Summary *s, const char *const *label, Fault *f) {
  static const char *const head[CELLS] = {"",    "type", "count", "missing", "mean", "deviation",
                                          "min", "25%",  "50%",   "75%",     "max",  ""};
  int most = 1;
  for (int j = 0; j < n; j++) most += s[j].set->nfield;
  Line *line = calloc((size_t)most, sizeof *line);
  if (!line) return data_no_memory(f, sizeof *line * (size_t)most);
  for (int j = 0; j < n; j++)
    fprintf(out, "%s%s%lld row%s, %s\n", label[j], *label[j] ? ": " : "", (long long)s[j].rows,
            s[j].rows == 1 ? "" : "s", s[j].exact ? "exact" : "read once: quartiles and histogram from a sketch");
  int at = 0;
  for (int c = 0; c < CELLS; c++) strcpy(line[at][c], head[c]);
  at++;
  for (int k = 0; k < s[0].set->nfield; k++) { /* the sets' columns of one name together */
    const char *name = s[0].set->field[k].name;
    fill(line[at++], &s[0], k, base(name), label[0]);
    for (int j = 1; j < n; j++)
      for (int i = 0; i < s[j].set->nfield; i++)
        if (!strcmp(s[j].set->field[i].name, name)) fill(line[at++], &s[j], i, base(name), label[j]);
  }
  for (int j = 1; j < n; j++)
    for (int i = 0; i < s[j].set->nfield; i++) {
      bool known = false;
      for (int k = 0; k < s[0].set->nfield; k++) known |= !strcmp(s[0].set->field[k].name, s[j].set->field[i].name);
      if (!known) fill(line[at++], &s[j], i, base(s[j].set->field[i].name), label[j]);
    }
  put_table(out, at, line);
  free(line);
  return true;
}

/* data_describe: attributes 2j the label of set j, 2j + 1 its number; in: keys and tensors of each set in turn. */
static bool run(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out, Fault *f) {
  NativeHost *host = ctx;
  enum { MOST = 8 };
  if (!host || !host->data || nattr < 2 || nattr % 2 || nattr / 2 > MOST)
    return fault_set(f, R_NATIVE, (Span){0}, "data_describe: wrong arguments"), false;
  Summary s[MOST] = {0};
  const char *label[MOST];
  int n = nattr / 2, at = 0;
  bool ok = true;
  for (int j = 0; j < n && ok; j++) {
    DataSet *set = data_set(host->data, attr[2 * j + 1].i);
    s[j] = (Summary){.set = set, .exact = set->length >= 0}, label[j] = attr[2 * j].s;
    if (at + set->nkey + set->ntensor > nin)
      return fault_set(f, R_NATIVE, (Span){0}, "data_describe: wrong arguments"), false;
    int64_t *key = malloc(sizeof *key * (size_t)(set->nkey + 1));
    if (!key) ok = data_no_memory(f, 8);
    for (int k = 0; ok && k < set->nkey; k++) key[k] = dt_get_i(in[at + k].dtype, in[at + k].data, 0);
    DataPass pass = {.set = set, .key = key, .tensor = in + at + set->nkey};
    ok = ok && summarise(&s[j], &pass, f);
    free(key);
    at += set->nkey + set->ntensor;
  }
  ok = ok && put(host->out ? host->out : stdout, n, s, label, f);
  for (int j = 0; j < n; j++)
    if (s[j].set) summary_free(&s[j]);
  return run_status(ok, f);
}

const Native native_data_describe = {.name = "data_describe", .effect = true, .who = RUN_FIRST, .run = run};
