/* CSV as rows of fields (RFC 4180, with other separators, line ends and a byte order mark tolerated). */
#include "stdlib/native/csv.h"
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 16, MAX_ROW = 1 << 26, MAX_FIELDS = 1 << 20 };

struct CsvReader {
  Stream *in; /* NULL: text in memory, the next `left` bytes of it at `mem` */
  const char *mem;
  size_t left, taken; /* taken: bytes read into buf so far */
  const char *path;
  Fault *fault;
  char sep;
  int64_t line; /* of the next character */
  size_t at, have;
  char *text;
  size_t ntext, captext;
  size_t *start;
  size_t nstart, capstart;
  char buf[BLOCK];
};

/* The next character without taking it; -1: end, -2: fault. */
static int peek(CsvReader *r) {
  if (r->at == r->have) {
    int64_t n = r->in ? stream_read(r->in, r->buf, BLOCK) : (int64_t)(r->left < BLOCK ? r->left : BLOCK);
    if (n < 0) return -2;
    if (!r->in) {
      memcpy(r->buf, r->mem, (size_t)n);
      r->mem += n, r->left -= (size_t)n;
    }
    r->taken += (size_t)n;
    r->at = 0, r->have = (size_t)n;
    if (!n) return -1;
  }
  return (unsigned char)r->buf[r->at];
}

static bool row_fault(CsvReader *r, int64_t line, const char *what) {
  return io_fail(r->fault, r->path, "line %lld: %s", (long long)line, what);
}

static bool no_memory(CsvReader *r) {
  fault_set(r->fault, R_MEMORY, (Span){0}, "no memory for a row of %.200s", r->path);
  return false;
}

static bool add_char(CsvReader *r, char c) {
  if (r->ntext == r->captext) {
    if (r->captext >= MAX_ROW) return row_fault(r, r->line, "the row is longer than 64 MB");
    size_t cap = r->captext * 2;
    char *p = realloc(r->text, cap);
    if (!p) return no_memory(r);
    r->text = p, r->captext = cap;
  }
  r->text[r->ntext++] = c;
  return true;
}

static bool begin_field(CsvReader *r) {
  if (r->nstart == r->capstart) {
    if (r->capstart >= MAX_FIELDS) return row_fault(r, r->line, "the row has more than 1,048,576 fields");
    size_t cap = r->capstart * 2;
    size_t *p = realloc(r->start, cap * sizeof *p);
    if (!p) return no_memory(r);
    r->start = p, r->capstart = cap;
  }
  r->start[r->nstart++] = r->ntext;
  return true;
}

/* The separator is decided by the first line: a comma if it has one, else a semicolon, else a tab. */
static char guess_separator(const CsvReader *r) {
  size_t n = r->have;
  for (size_t i = 0; i < r->have; i++)
    if (r->buf[i] == '\n' || r->buf[i] == '\r') n = i, i = r->have;
  for (const char *s = ",;\t"; *s; s++)
    if (memchr(r->buf, *s, n)) return *s;
  return ',';
}

static CsvReader *open_reader(const char *path, bool file, const char *text, size_t n, Fault *f) {
  CsvReader *r = malloc(sizeof *r);
  if (!r) return fault_set(f, R_MEMORY, (Span){0}, "out of memory"), NULL;
  *r = (CsvReader){.path = path, .fault = f, .line = 1, .mem = text, .left = n, .captext = 256, .capstart = 16};
  r->text = malloc(r->captext), r->start = malloc(r->capstart * sizeof *r->start);
  r->in = file ? stream_open(path, f) : NULL;
  if ((file && !r->in) || !r->text || !r->start || peek(r) == -2) {
    if (!f->id) no_memory(r);
    csv_close(r);
    return NULL;
  }
  if (r->have >= 3 && !memcmp(r->buf, "\xef\xbb\xbf", 3)) r->at = 3;
  r->sep = guess_separator(r);
  return r;
}

CsvReader *csv_open(const char *path, Fault *f) { return open_reader(path, true, "", 0, f); }
CsvReader *csv_open_text(const char *path, const char *text, size_t n, Fault *f) {
  return open_reader(path, false, text, n, f);
}
size_t csv_consumed(const CsvReader *r) { return r->taken - (r->have - r->at); }
void csv_set_separator(CsvReader *r, char sep) { r->sep = sep; }

void csv_close(CsvReader *r) {
  if (!r) return;
  if (r->in) stream_close(r->in);
  free(r->text);
  free(r->start);
  free(r);
}

char csv_separator(const CsvReader *r) { return r->sep; }

/* Behind a line end: LF, CRLF or CR. */
static bool take_newline(CsvReader *r, int c) {
  r->at++, r->line++;
  if (c == '\r') {
    int next = peek(r);
    if (next == -2) return false;
    if (next == '\n') r->at++;
  }
  return true;
}

static bool quoted_field(CsvReader *r) {
  int64_t from = r->line;
  r->at++;
  for (;;) {
    int c = peek(r);
    if (c == -2) return false;
    if (c == -1) return row_fault(r, from, "the quoted field does not end");
    if (c == 0) return row_fault(r, r->line, "a NUL byte: this is not text");
    r->at++;
    if (c == '\n') r->line++;
    if (c == '"') {
      c = peek(r);
      if (c == -2) return false;
      if (c != '"') {
        if (c >= 0 && c != r->sep && c != '\n' && c != '\r')
          return row_fault(r, r->line, "text behind a closing quote");
        return true;
      }
      r->at++;
    }
    if (!add_char(r, (char)c)) return false;
  }
}

static bool plain_field(CsvReader *r) {
  for (;;) {
    int c = peek(r);
    if (c == -2) return false;
    if (c == -1 || c == r->sep || c == '\n' || c == '\r') return true;
    if (c == 0) return row_fault(r, r->line, "a NUL byte: this is not text");
    if (!add_char(r, (char)c)) return false;
    r->at++;
  }
}

/* One line; *ended at the end of the file. */
static bool read_line(CsvReader *r, CsvRow *row, bool *ended) {
  r->ntext = r->nstart = 0;
  row->line = r->line, row->blank = true;
  for (;;) {
    if (!begin_field(r)) return false;
    int c = peek(r);
    if (c == -2) return false;
    if (c == '"') row->blank = false;
    if (c == '"' ? !quoted_field(r) : !plain_field(r)) return false;
    if (!add_char(r, 0)) return false;
    c = peek(r);
    if (c == -2) return false;
    if (c == r->sep) {
      r->at++, row->blank = false;
      continue;
    }
    *ended = c == -1;
    if (c >= 0 && !take_newline(r, c)) return false;
    break;
  }
  row->n = (int)r->nstart, row->start = r->start, row->text = r->text;
  for (const char *s = r->text; row->blank && s < r->text + r->ntext - 1; s++) row->blank = *s == ' ' || *s == '\t';
  return true;
}

int csv_next(CsvReader *r, CsvRow *row) {
  for (bool ended = false; !ended;) {
    if (!read_line(r, row, &ended)) return -1;
    if (!row->blank) return 1;
  }
  return 0;
}
