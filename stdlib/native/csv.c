/* CSV as typed columns: what fields mean, the header, the native load_csv. */
#include "stdlib/native/csv.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SAMPLE_ROWS = 1000, MAX_NUMBER = 400 };

/* ---- fields as values ----------------------------------------------------------------------------------------- */
typedef struct Piece {
  const char *p;
  size_t n;
} Piece;
static Piece trimmed(const char *s) {
  while (*s == ' ' || *s == '\t') s++;
  size_t n = strlen(s);
  while (n && (s[n - 1] == ' ' || s[n - 1] == '\t')) n--;
  return (Piece){s, n};
}
static bool is_word(Piece p, const char *w) { return p.n == strlen(w) && !strncasecmp(p.p, w, p.n); }

bool csv_empty(const char *s) {
  Piece p = trimmed(s);
  return p.n == 0 || (p.n == 2 && !memcmp(p.p, "NA", 2));
}

bool csv_bool(const char *s, bool *v) {
  Piece p = trimmed(s);
  *v = is_word(p, "true");
  return *v || is_word(p, "false");
}

bool csv_int(const char *s, int64_t *v) {
  Piece p = trimmed(s);
  bool minus = p.n && *p.p == '-';
  if (p.n && (*p.p == '-' || *p.p == '+')) p.p++, p.n--;
  if (!p.n) return false;
  int64_t r = 0;
  for (size_t i = 0; i < p.n; i++) {
    if (!isdigit((unsigned char)p.p[i])) return false;
    int d = p.p[i] - '0';
    if (__builtin_mul_overflow(r, 10, &r) ||
        (minus ? __builtin_sub_overflow(r, d, &r) : __builtin_add_overflow(r, d, &r)))
      return false;
  }
  *v = r;
  return true;
}

bool csv_float(const char *s, DType t, void *base, int64_t i) {
  Piece p = trimmed(s);
  char buf[MAX_NUMBER];
  double v = NAN;
  if (!csv_empty(s)) {
    if (p.n >= sizeof buf) return false;
    memcpy(buf, p.p, p.n), buf[p.n] = 0;
    const char *body = buf + (*buf == '-' || *buf == '+');
    bool word = !strcasecmp(body, "nan") || !strcasecmp(body, "inf") || !strcasecmp(body, "infinity");
    if (!word && strspn(body, "0123456789.eE+-") != strlen(body)) return false; /* no hexadecimal */
    char *end;
    v = t == DT_F64 ? strtod(buf, &end) : (double)strtof(buf, &end);
    if (end == buf || *end) return false;
  }
  dt_put_f(t, base, i, v);
  return true;
}

static bool is_value(const char *s) {
  float v;
  bool b;
  return !csv_empty(s) && (csv_float(s, DT_F32, &v, 0) || csv_bool(s, &b));
}

bool csv_is_header(const CsvRow *row) {
  bool any = false;
  for (int k = 0; k < row->n; k++) {
    if (is_value(csv_field(row, k))) return false;
    any |= !csv_empty(csv_field(row, k));
  }
  return any;
}

/* ---- the header ----------------------------------------------------------------------------------------------- */
/* What the fields of a column have all been so far. */
typedef struct Kind {
  bool fixed, ints, bools, floats, empty, any;
} Kind;

/* The name as a word of tg: runs of other characters become one `_`. "sepal length (cm)" is sepal_length_cm. */
static char *word_of(Arena *a, Piece p, int k) {
  char *w = arena_array(a, char, p.n + 2);
  size_t n = 0;
  for (size_t i = 0; i < p.n; i++) {
    unsigned char c = (unsigned char)p.p[i];
    bool ok = c < 128 && (isalnum(c) || c == '_');
    if (!n && ok && isdigit(c)) w[n++] = 'c';
    if (ok)
      w[n++] = (char)c;
    else if (n && w[n - 1] != '_')
      w[n++] = '_';
  }
  if (n && w[n - 1] == '_' && p.n && p.p[p.n - 1] != '_') n--;
  w[n] = 0;
  return n ? w : arena_printf(a, "c%d", k);
}

static bool taken(const CsvColumn *col, int n, const char *name) {
  for (int i = 0; i < n; i++)
    if (!strcmp(col[i].name, name)) return true;
  return false;
}

/* `name:dtype` when what follows the last colon is a dtype. */
static Piece split_dtype(Piece p, CsvColumn *c, Kind *kind) {
  for (size_t i = p.n; i-- > 0;) {
    if (p.p[i] != ':') continue;
    if (dt_by_name(p.p + i + 1, (int)(p.n - i - 1), &c->dtype)) kind->fixed = true, p.n = i;
    break;
  }
  return p;
}

static void name_columns(Arena *a, const CsvRow *row, CsvInfo *out, Kind *kind) {
  enum { CHECKED = 4096 }; /* beyond, names are made unique by their number alone */
  for (int k = 0; k < out->ncol; k++) {
    Piece p = out->header ? split_dtype(trimmed(csv_field(row, k)), &out->col[k], &kind[k]) : (Piece){"", 0};
    const char *base = word_of(a, p, k), *name = base;
    if (k >= CHECKED && out->header)
      name = arena_printf(a, "%s_%d", base, k);
    else
      for (int i = 2; out->header && taken(out->col, k, name); i++) name = arena_printf(a, "%s_%d", base, i);
    out->col[k].name = name;
  }
}

static void look(Kind *kind, const char *s) {
  int64_t i;
  float f;
  bool b;
  if (csv_empty(s)) {
    kind->empty = true;
    return;
  }
  kind->any = true;
  kind->ints = kind->ints && csv_int(s, &i);
  kind->bools = kind->bools && csv_bool(s, &b);
  kind->floats = kind->floats && csv_float(s, DT_F32, &f, 0);
}

static void decide(CsvColumn *c, const Kind *k) {
  if (k->fixed) return;
  c->dtype = DT_F32;
  if (k->any && k->bools && !k->empty)
    c->dtype = DT_BOOL;
  else if (k->any && k->ints && !k->empty)
    c->dtype = DT_I64;
  else if (k->any && !k->floats)
    c->text = true;
}

static bool wrong_width(const CsvRow *row, int want, const char *path, Fault *f) {
  return io_fail(f, path, "line %lld: %d field%s, expected %d", (long long)row->line, row->n, row->n == 1 ? "" : "s",
                 want);
}

static bool scan(Arena *a, CsvReader *r, const char *path, CsvInfo *out, Fault *f) {
  CsvRow row;
  int more = csv_next(r, &row);
  if (more < 0) return false;
  if (!more) return io_fail(f, path, "is empty");
  out->ncol = row.n, out->header = csv_is_header(&row), out->sep = csv_separator(r);
  out->col = arena_array(a, CsvColumn, out->ncol);
  Kind *kind = arena_array(a, Kind, out->ncol);
  for (int k = 0; k < out->ncol; k++) kind[k] = (Kind){.ints = true, .bools = true, .floats = true};
  name_columns(a, &row, out, kind);
  if (out->header) more = csv_next(r, &row);
  for (; more > 0; more = csv_next(r, &row), out->nrow++) {
    if (row.n != out->ncol) return wrong_width(&row, out->ncol, path, f);
    for (int k = 0; out->nrow < SAMPLE_ROWS && k < row.n; k++) look(&kind[k], csv_field(&row, k));
  }
  for (int k = 0; k < out->ncol; k++) decide(&out->col[k], &kind[k]);
  return more == 0;
}

bool csv_sample(Arena *a, const char *path, const char *text, size_t n, bool whole, char sep, CsvInfo *out,
                size_t *data_at, int64_t *line, Fault *f) {
  *out = (CsvInfo){0};
  f->id = E_NONE;
  CsvReader *r = csv_open_text(path, text, n, f);
  if (!r) return false;
  if (sep) csv_set_separator(r, sep);
  CsvRow row;
  int more = csv_next(r, &row);
  bool ok = more > 0 || (more == 0 && io_fail(f, path, "is empty"));
  if (ok) {
    out->ncol = row.n, out->header = csv_is_header(&row), out->sep = csv_separator(r);
    out->col = arena_array(a, CsvColumn, out->ncol);
    Kind *kind = arena_array(a, Kind, out->ncol);
    for (int k = 0; k < out->ncol; k++) kind[k] = (Kind){.ints = true, .bools = true, .floats = true};
    name_columns(a, &row, out, kind);
    *data_at = out->header ? csv_consumed(r) : 0, *line = 1;
    for (size_t i = 0; i < *data_at; i++) *line += text[i] == '\n';
    if (out->header) more = csv_next(r, &row);
    for (; more > 0 && out->nrow < SAMPLE_ROWS; more = csv_next(r, &row), out->nrow++) {
      if (!whole && csv_consumed(r) == n) break; /* perhaps cut */
      for (int k = 0; row.n == out->ncol && k < row.n; k++) look(&kind[k], csv_field(&row, k));
    }
    /* rows that do not fit are the reader's to report, or to skip */
    f->id = E_NONE;
    for (int k = 0; k < out->ncol; k++) decide(&out->col[k], &kind[k]);
  }
  csv_close(r);
  return ok;
}

bool csv_header(Arena *a, const char *path, CsvInfo *out, Fault *f) {
  *out = (CsvInfo){0};
  f->id = E_NONE;
  CsvReader *r = csv_open(path, f);
  bool ok = r && scan(a, r, path, out, f);
  csv_close(r);
  return ok;
}

/* ---- load_csv ------------------------------------------------------------------------------------------------- */
static bool put_field(const char *s, Tensor *out, int64_t i) {
  int64_t v;
  bool b;
  if (dt_is_float(out->dtype)) return csv_float(s, out->dtype, out->data, i);
  if (out->dtype == DT_BOOL) {
    if (csv_bool(s, &b)) return dt_put_i(DT_BOOL, out->data, i, b), true;
    return csv_int(s, &v) && (v == 0 || v == 1) ? dt_put_i(DT_BOOL, out->data, i, v), true : false;
  }
  if (!csv_int(s, &v) || v < dt_int_min(out->dtype) || v > dt_int_max(out->dtype)) return false;
  dt_put_i(out->dtype, out->data, i, v);
  return true;
}

static bool misfit(const CsvRow *row, int k, const Tensor *out, const char *path, Fault *f) {
  const char *s = csv_field(row, k);
  return io_fail(f, path,
                 "line %lld, column %d: \"%.60s%s\" is no %s, which the header and the first 1,000 rows promised",
                 (long long)row->line, k + 1, s, strlen(s) > 60 ? "..." : "", dt_name(out->dtype));
}

static bool read_columns(CsvReader *r, const char *path, const Attr *col, int nout, Tensor *out, int64_t nrow,
                         Fault *f) {
  CsvRow row;
  int more = csv_next(r, &row), ncol = more > 0 ? row.n : 0;
  for (int k = 0; k < nout; k++)
    if (more >= 0 && (col[k].i < 0 || col[k].i >= ncol))
      return io_fail(f, path, "has no column %lld", (long long)col[k].i + 1);
  if (more > 0 && csv_is_header(&row)) more = csv_next(r, &row);
  int64_t n = 0;
  for (; more > 0; more = csv_next(r, &row), n++) {
    if (row.n != ncol) return wrong_width(&row, ncol, path, f);
    for (int k = 0; k < nout && n < nrow; k++)
      if (!put_field(csv_field(&row, (int)col[k].i), &out[k], n)) return misfit(&row, (int)col[k].i, &out[k], path, f);
  }
  if (more < 0) return false;
  return n == nrow ? true : io_fail(f, path, "has changed since the program was checked");
}

/* load_csv() -> a rank-1 tensor for each column; attributes 0.s the path, 1.. .i column numbers from 0.
 * Faults: a field that is no value of the column's dtype, with its line; a ragged row; the file changed. */
static bool run_load(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  bool ok = nattr == 1 + nout && attr[0].s && nout > 0;
  for (int k = 0; ok && k < nout; k++) ok = out[k].rank == 1 && out[k].dim[0] == out[0].dim[0];
  if (!ok) return fault_set(f, R_NATIVE, (Span){0}, "load_csv: expected a path and a number for each column"), false;
  char buf[IO_PATH];
  const char *path = io_path(ctx, attr[0].s, buf);
  f->id = E_NONE;
  CsvReader *r = csv_open(path, f);
  ok = r && read_columns(r, path, attr + 1, nout, out, out[0].dim[0], f);
  csv_close(r);
  return run_status(ok, f);
}

const Native native_load_csv = {.name = "load_csv", .run = run_load};
