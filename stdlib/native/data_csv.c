/* CSV as a data set: rows parsed as they stream by, in a fixed buffer.
 *
 * The first rows fix names and types (csv_sample). A pass reads lines in place: one search for the line's end, then
 * numbers where they stand; quotes, spaces, words and missing values take the slower path of one field. A pipe is
 * opened once: what was read of it for the header is handed to the first pass.
 *
 * Memory: BUFFER for each pass, and LINE_MAX of it is the longest row. */
#include "stdlib/native/csv.h"
#include "stdlib/native/csv_number.h"
#include "stdlib/native/data_csv.h"
#include "stdlib/native/data_set.h"
#include "stdlib/native/io.h"
#include "graph/diag.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { LINE_MAX_BYTES = 1 << 20, BUFFER = 2 << 20, SAMPLE_MAX = 8 << 20, PAD = 16 };

typedef struct Column {
  int field; /* -1: passed over */
  DType t;
  int64_t width; /* text: bytes kept, zeros behind; 0: a number */
  bool fill;     /* missing values become `missing` */
  double missing;
  const char *name;
} Column;

typedef struct Csv {
  const char *path;
  int ncol;
  Column *col;
  char sep;
  bool skip_bad;
  bool pipe, gz;
  size_t data_at;
  int64_t line; /* of the first row */
  /* a pipe, until the first pass takes it; under the set's lock */
  int fd;
  char *head;
  size_t nhead;
  bool used;
} Csv;

typedef struct Reader {
  const Csv *csv;
  int fd;
  gzFile gz;
  char *buf;
  size_t at, have, cap;
  bool ended;
  int64_t line;                /* of what stands at `at` */
  int64_t skipped, first_line; /* bad rows */
  char first[200];
  char *scratch;
} Reader;

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

static ssize_t read_some(const Csv *c, int fd, gzFile gz, char *to, size_t n, DataPass *pass, Fault *f) {
  for (;;) {
    if (pass && c->pipe) { /* a pipe may stay silent: look now and then whether the pass is to end */
      struct pollfd p = {.fd = fd, .events = POLLIN};
      if (poll(&p, 1, 100) == 0) {
        if (!atomic_load(&pass->stop)) continue;
        return io_fail(f, c->path, "the pass was ended"), -1;
      }
    }
    if (gz) {
      int got = gzread(gz, to, (unsigned)n), code = Z_OK;
      const char *why = gzerror(gz, &code);
      if (got < 0 || (got == 0 && code == Z_BUF_ERROR))
        return io_fail(f, c->path, "%s",
                       code == Z_ERRNO       ? strerror(errno)
                       : code == Z_BUF_ERROR ? "is truncated"
                                             : why),
               -1;
      return got;
    }
    ssize_t got = read(fd, to, n);
    if (got >= 0) return got;
    if (errno == EAGAIN) continue;
    if (errno != EINTR) return io_fail(f, c->path, "%s", strerror(errno)), -1;
  }
}

/* More text behind what stands in the buffer; the line at `at` moves to its beginning. At the end a final newline is
 * added if none is there. false: fault. */
static bool refill(DataIter *it, Reader *r, Fault *f) {
  memmove(r->buf, r->buf + r->at, r->have - r->at);
  r->have -= r->at, r->at = 0;
  while (!r->ended && r->have < r->cap) {
    ssize_t got = read_some(r->csv, r->fd, r->gz, r->buf + r->have, r->cap - r->have, it->pass, f);
    if (got < 0) return false;
    if (got == 0) {
      r->ended = true;
      if (r->have && r->buf[r->have - 1] != '\n') r->buf[r->have++] = '\n'; /* PAD leaves room */
      return true;
    }
    r->have += (size_t)got;
    if (r->csv->pipe) return true; /* what a pipe has now is enough to go on with */
  }
  return true;
}

/* ---- fields ----------------------------------------------------------------------------------------------------- */

typedef enum { FIELD_OK, FIELD_BAD, FIELD_MISSING } FieldResult;

static FieldResult put_number(const Column *c, const char *s, void *to, int64_t i) {
  int64_t v;
  bool b;
  if (csv_empty(s)) {
    if (c->fill) {
      if (dt_is_float(c->t))
        dt_put_f(c->t, to, i, c->missing);
      else
        dt_put_i(c->t, to, i, (int64_t)c->missing);
      return FIELD_OK;
    }
    if (!dt_is_float(c->t)) return FIELD_MISSING;
    dt_put_f(c->t, to, i, NAN);
    return FIELD_OK;
  }
  if (dt_is_float(c->t)) return csv_float(s, c->t, to, i) ? FIELD_OK : FIELD_BAD;
  if (c->t == DT_BOOL && csv_bool(s, &b)) return dt_put_i(DT_BOOL, to, i, b), FIELD_OK;
  if (!csv_int(s, &v) || v < dt_int_min(c->t) || v > dt_int_max(c->t)) return FIELD_BAD;
  dt_put_i(c->t, to, i, v);
  return FIELD_OK;
}

static void put_text(const Column *c, const char *s, size_t n, void *to, int64_t i) {
  char *at = (char *)to + c->width * i;
  size_t m = n < (size_t)c->width ? n : (size_t)c->width;
  memcpy(at, s, m), memset(at + m, 0, (size_t)c->width - m);
}

/* The plain number at p, if it ends where the field ends: what follows it; else NULL. */
static const char *plain(const Column *c, const char *p, const char *end, void *to, int64_t i) {
  const char *q;
  switch (c->t) {
  case DT_F32: {
    float v;
    if ((q = number_f32(p, end, &v))) ((float *)to)[i] = v;
    return q;
  }
  case DT_F64: {
    double v;
    if ((q = number_f64(p, end, &v))) ((double *)to)[i] = v;
    return q;
  }
  case DT_I64:
    return number_i64(p, end, (int64_t *)to + i);
  case DT_I32: {
    int64_t v;
    if (!(q = number_i64(p, end, &v)) || v < INT32_MIN || v > INT32_MAX) return NULL;
    ((int32_t *)to)[i] = (int32_t)v;
    return q;
  }
  default:
    return NULL;
  }
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

typedef enum { ROW_OK, ROW_BAD, ROW_MORE /* a quoted field goes on behind the buffer */ } RowResult;
typedef struct Bad {
  int col;
  char text[64];
  const char *why; /* NULL: no value of the column's type */
  FieldResult kind;
} Bad;

static RowResult bad_row(Bad *b, int col, const char *s, size_t n, const char *why) {
  *b = (Bad){.col = col, .why = why};
  size_t m = n < sizeof b->text - 4 ? n : sizeof b->text - 4;
  memcpy(b->text, s, m), b->text[m] = 0;
  if (m < n) strcat(b->text, "...");
  return ROW_BAD;
}

/* A field that is not plain: *p moves behind it, *end to the end of its line if quotes go over lines. */
static RowResult slow_field(Reader *r, const Column *c, int col, const char **p, const char **end, const char *stop,
                            void *const *to, int64_t i, Bad *bad) {
  const char *s = *p;
  char *out = r->scratch;
  size_t n = 0;
  if (*s == '"') {
    for (s++;; s++) {
      const char *q = memchr(s, '"', (size_t)(stop - s));
      if (!q) return ROW_MORE;
      memcpy(out + n, s, (size_t)(q - s)), n += (size_t)(q - s);
      s = q + 1;
      if (*s != '"') break;
      out[n++] = '"';
    }
    if (s > *end) { /* over lines */
      const char *nl = memchr(s, '\n', (size_t)(stop - s));
      if (!nl) return ROW_MORE;
      *end = nl > s && nl[-1] == '\r' ? nl - 1 : nl;
    }
    if (s < *end && *s != r->csv->sep)
      return bad_row(bad, col, *p, (size_t)(*end - *p), "there is text behind a closing quote");
  } else {
    const char *q = memchr(s, r->csv->sep, (size_t)(*end - s));
    if (!q) q = *end;
    n = (size_t)(q - s);
    memcpy(out, s, n);
    s = q;
  }
  out[n] = 0;
  *p = s;
  if (c->field < 0) return ROW_OK;
  if (c->width) return put_text(c, out, n, to[c->field], i), ROW_OK;
  if (memchr(out, 0, n)) return bad_row(bad, col, out, n, "there is a NUL byte: this is not text");
  FieldResult k = put_number(c, out, to[c->field], i);
  if (k == FIELD_OK) return ROW_OK;
  bad_row(bad, col, out, n, NULL);
  bad->kind = k;
  return ROW_BAD;
}

/* The line p..end into row i. stop: behind all that is in the buffer. */
static RowResult parse_row(Reader *r, const char *p, const char **end, const char *stop, void *const *to, int64_t i,
                           Bad *bad) {
  const Csv *c = r->csv;
  for (int k = 0;; k++) {
    if (k == c->ncol) return bad_row(bad, -1, p, 0, "the row has more fields than the first");
    const Column *col = &c->col[k];
    const char *q;
    if (col->field >= 0 && !col->width && (q = plain(col, p, *end, to[col->field], i)) && (q == *end || *q == c->sep)) {
      p = q;
    } else if (col->field < 0 && *p != '"') {
      q = memchr(p, c->sep, (size_t)(*end - p));
      p = q ? q : *end;
    } else {
      RowResult s = slow_field(r, col, k, &p, end, stop, to, i, bad);
      if (s != ROW_OK) return s;
    }
    if (p == *end) {
      if (k + 1 == c->ncol) return ROW_OK;
      return bad_row(bad, -1, p, 0, "the row has fewer fields than the first");
    }
    p++;
  }
}

static void describe_bad(const Csv *c, const Bad *b, int64_t line, char *to, size_t n) {
  if (b->col < 0)
    snprintf(to, n, "%s:%lld: %s (%d)", c->path, (long long)line, b->why, c->ncol);
  else if (b->why)
    snprintf(to, n, "%s:%lld: column %s: %s: \"%s\"", c->path, (long long)line, c->col[b->col].name, b->why, b->text);
  else if (b->kind == FIELD_MISSING)
    snprintf(to, n, "%s:%lld: column %s: the value is missing, and %s has no nan; missing = gives one for it", c->path,
             (long long)line, c->col[b->col].name, dt_name(c->col[b->col].t));
  else
    snprintf(to, n, "%s:%lld: column %s: \"%s\" is no %s, which the header and the first 1,000 rows promised", c->path,
             (long long)line, c->col[b->col].name, b->text, dt_name(c->col[b->col].t));
}

static bool blank(const char *p, const char *end, char sep) {
  while (p < end && (*p == ' ' || *p == '\t') && *p != sep) p++;
  return p == end;
}

static int64_t csv_read(DataIter *it, int64_t n, void *const *to, Fault *f) {
  Reader *r = it->self;
  const Csv *c = r->csv;
  char why[400];
  for (int64_t i = 0; i < n;) {
    const char *p = r->buf + r->at, *stop = r->buf + r->have;
    const char *nl = memchr(p, '\n', (size_t)(stop - p));
    Bad bad;
    RowResult s = ROW_MORE;
    const char *end = nl;
    if (nl) {
      if (nl > p && nl[-1] == '\r') end--;
      if (blank(p, end, c->sep)) {
        r->at += (size_t)(nl + 1 - p), r->line++;
        continue;
      }
      s = parse_row(r, p, &end, stop, to, i, &bad);
    } else if (r->ended && p == stop)
      return i;
    if (s == ROW_MORE) {
      if (r->ended || (r->at == 0 && r->have == r->cap) || r->have - r->at >= LINE_MAX_BYTES) {
        snprintf(why, sizeof why,
                 r->ended ? "line %lld: a quoted field does not end" : "line %lld is longer than 1 MiB",
                 (long long)r->line);
        return io_fail(f, c->path, "%s", why), -1;
      }
      if (!refill(it, r, f)) return -1;
      continue;
    }
    int64_t line = r->line;
    if (s == ROW_BAD && (!end || end < p)) end = nl;
    nl = memchr(end, '\n', (size_t)(stop - end));
    for (const char *q = p; (q = memchr(q, '\n', (size_t)(nl - q))); q++) r->line++;
    r->line++, r->at += (size_t)(nl + 1 - p);
    if (s == ROW_OK) {
      i++;
      continue;
    }
    describe_bad(c, &bad, line, why, sizeof why);
    if (!c->skip_bad) return fault_set(f, R_DATA, (Span){0}, "%s", why), -1;
    if (!r->skipped++) snprintf(r->first, sizeof r->first, "%.199s", why);
  }
  return n;
}

/* ---- passes ----------------------------------------------------------------------------------------------------- */

static bool csv_iter_open(DataIter *it, Fault *f) {
  DataSet *s = it->set;
  Csv *c = s->self;
  Reader *r = calloc(1, sizeof *r);
  if (!r) return data_no_memory(f, sizeof *r);
  it->self = r;
  *r = (Reader){.csv = c, .fd = -1, .cap = BUFFER, .line = c->line};
  pthread_mutex_lock(&s->lock);
  bool again = c->pipe && c->used;
  if (c->pipe && !again) {
    c->used = true;
    r->fd = c->fd, r->have = c->nhead - c->data_at, r->cap = r->have > BUFFER / 2 ? r->have + BUFFER : BUFFER;
    c->fd = -1;
  }
  pthread_mutex_unlock(&s->lock);
  if (again) return io_fail(f, c->path, "is a pipe: it can be read once only; cache keeps rows for further passes");
  r->buf = malloc(r->cap + PAD), r->scratch = malloc(r->cap + PAD);
  if (!r->buf || !r->scratch) return data_no_memory(f, 2 * r->cap);
  if (c->pipe) {
    memcpy(r->buf, c->head + c->data_at, r->have);
    free(c->head), c->head = NULL;
    return true;
  }
  if ((r->fd = open(c->path, O_RDONLY | O_CLOEXEC)) < 0) return io_fail(f, c->path, "%s", strerror(errno));
  if (c->gz) {
    if (!(r->gz = gzdopen(r->fd, "rb"))) return data_no_memory(f, 1 << 16);
    r->fd = -1;
    gzbuffer(r->gz, 1 << 17);
    return gzseek(r->gz, (z_off_t)c->data_at, SEEK_SET) >= 0 || io_fail(f, c->path, "is truncated");
  }
  posix_fadvise(r->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  return lseek(r->fd, (off_t)c->data_at, SEEK_SET) >= 0 || io_fail(f, c->path, "%s", strerror(errno));
}

static void csv_iter_close(DataIter *it) {
  Reader *r = it->self;
  if (!r) return;
  if (r->skipped) {
    fprintf(stderr, "tg: %s: %lld row%s left out (on_error = \"skip\"); the first: %s\n", r->csv->path,
            (long long)r->skipped, r->skipped == 1 ? "" : "s", r->first);
  }
  if (r->gz) gzclose(r->gz);
  if (r->fd >= 0) close(r->fd);
  free(r->buf), free(r->scratch), free(r);
}

static void csv_free(DataSet *s) {
  Csv *c = s->self;
  if (c->fd >= 0) close(c->fd);
  free(c->head);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

/* The beginning of the file: enough for 1,000 rows, or all of it. */
static bool read_head(Csv *c, gzFile gz, bool *whole, Fault *f) {
  size_t cap = 1 << 18;
  int64_t rows = 0;
  if (!(c->head = malloc(cap + PAD))) return data_no_memory(f, cap);
  for (*whole = false; rows < 1100;) {
    if (c->nhead == cap) {
      if (cap == SAMPLE_MAX) break;
      char *more = realloc(c->head, 2 * cap + PAD);
      if (!more) return data_no_memory(f, 2 * cap);
      c->head = more, cap *= 2;
    }
    ssize_t got = read_some(c, c->fd, gz, c->head + c->nhead, cap - c->nhead, NULL, f);
    if (got < 0) return false;
    if (got == 0) {
      *whole = true;
      break;
    }
    for (const char *p = c->head + c->nhead, *end = p + got; (p = memchr(p, '\n', (size_t)(end - p))); p++) rows++;
    c->nhead += (size_t)got;
  }
  return true;
}

static bool open_file(Csv *c, gzFile *gz, Fault *f) {
  struct stat st;
  if (stat(c->path, &st)) return io_fail(f, c->path, "%s", errno == ENOENT ? "no such file" : strerror(errno));
  if (S_ISDIR(st.st_mode)) return io_fail(f, c->path, "is a folder");
  c->pipe = !S_ISREG(st.st_mode);
  c->fd = open(c->path, O_RDONLY | O_CLOEXEC);
  if (c->fd < 0) return io_fail(f, c->path, "%s", strerror(errno));
  uint8_t magic[2];
  if (!c->pipe && pread(c->fd, magic, 2, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b) {
    c->gz = true;
    if (!(*gz = gzdopen(c->fd, "rb"))) return data_no_memory(f, 1 << 16);
    c->fd = -1;
  }
  return true;
}

static int find_column(const CsvInfo *info, const char *name) {
  for (int k = 0; k < info->ncol; k++)
    if (!strcmp(info->col[k].name, name)) return k;
  return -1;
}

static bool no_column(const CsvInfo *info, const char *path, const char *name, Fault *f) {
  char list[200] = "";
  for (int k = 0; k < info->ncol && strlen(list) < 120; k++) {
    size_t n = strlen(list);
    snprintf(list + n, sizeof list - n, "%s%.40s", k ? ", " : "", info->col[k].name);
  }
  return io_fail(f, path, "has no column `%.60s`; its columns are %s", name, list);
}

/* Options for a column: its number in `info`; -1 with the fault. */
static bool set_columns(Arena *a, Csv *c, const CsvInfo *info, const CsvOptions *o, Fault *f) {
  c->ncol = info->ncol, c->sep = info->sep;
  c->col = arena_array(a, Column, info->ncol);
  for (int k = 0; k < info->ncol; k++)
    c->col[k] = (Column){
        .field = -1, .t = info->col[k].dtype, .name = info->col[k].name, .fill = o->fill, .missing = o->missing};
  bool *text = arena_array(a, bool, info->ncol);
  for (int k = 0; k < info->ncol; k++) text[k] = info->col[k].text;
  for (int j = 0; j < o->ntype; j++) {
    int k = find_column(info, o->type[j].name);
    if (k < 0) return no_column(info, c->path, o->type[j].name, f);
    c->col[k].t = o->type[j].width ? DT_U8 : o->type[j].dtype, c->col[k].width = o->type[j].width, text[k] = false;
  }
  int n = 0;
  for (int j = 0; j < o->nselect; j++) {
    int k = find_column(info, o->select[j]);
    if (k < 0) return no_column(info, c->path, o->select[j], f);
    if (text[k])
      return io_fail(f, c->path, "column %s holds text; types = {%s: 16} reads its first 16 bytes as u8[16]",
                     o->select[j], o->select[j]);
    if (c->col[k].field < 0) c->col[k].field = n++;
  }
  for (int k = 0; k < info->ncol && !o->nselect; k++)
    if (!text[k]) c->col[k].field = n++;
  return n || io_fail(f, c->path, "no column holds numbers");
}

static int64_t add_set(DataTable *t, const Csv *c) {
  static const DataOps ops = {.open = csv_iter_open, .close = csv_iter_close, .read = csv_read, .free = csv_free};
  Arena *a = data_arena(t);
  int n = 0;
  for (int k = 0; k < c->ncol; k++) n += c->col[k].field >= 0;
  DataField *field = arena_array(a, DataField, n);
  for (int k = 0; k < c->ncol; k++) {
    if (c->col[k].field < 0) continue;
    DataField *d = &field[c->col[k].field];
    *d = (DataField){.name = c->col[k].name, .dtype = c->col[k].t, .rank = c->col[k].width > 0};
    d->dim[0] = c->col[k].width;
  }
  DataSet *s = data_set_new(t, &ops, n, field, 0, NULL);
  s->slow = true, s->self = arena_copy(a, c, sizeof *c), s->what = c->path;
  return data_set_add(s);
}

int64_t data_csv(DataTable *t, const char *path, const CsvOptions *o, Fault *f) {
  Arena *a = data_arena(t);
  char *text = data_file_text(t, "csv", path);
  for (int k = 0; k < o->nselect; k++) text = arena_printf(a, "%s|%s", text, o->select[k]);
  for (int k = 0; k < o->ntype; k++)
    text = arena_printf(a, "%s|%s:%d/%lld", text, o->type[k].name, o->type[k].dtype, (long long)o->type[k].width);
  text = arena_printf(a, "%s|%d%d%d %.17g", text, o->sep, o->skip_bad, o->fill, o->missing);
  int64_t id = data_known(t, text);
  if (id >= 0) {
    Csv *c = data_set(t, id)->self;
    if (!c->pipe || !c->used) return id;
  }
  Csv c = {.path = arena_strdup(a, path), .fd = -1, .skip_bad = o->skip_bad};
  gzFile gz = NULL;
  bool whole;
  CsvInfo info;
  bool ok = open_file(&c, &gz, f) && read_head(&c, gz, &whole, f) &&
            csv_sample(a, c.path, c.head, c.nhead, whole, o->sep, &info, &c.data_at, &c.line, f) &&
            set_columns(a, &c, &info, o, f);
  if (gz) gzclose(gz);
  if (!c.pipe || !ok) {
    if (c.fd >= 0) close(c.fd);
    free(c.head);
    c.fd = -1, c.head = NULL;
  }
  if (!ok) return -1;
  id = add_set(t, &c);
  data_remember(t, text, id);
  return id;
}
