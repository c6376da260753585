/* CSV: the reader of rows, the text of a field as a value, and the natives load_csv and save_csv. */
#ifndef TG_STDLIB_NATIVE_CSV_H
#define TG_STDLIB_NATIVE_CSV_H
#include "stdlib/native/io.h"

/* A row of n fields; csv_field(row, k) is a string. line: where it begins, from 1. Valid until the next row. */
typedef struct CsvRow {
  int n;
  const size_t *start;
  const char *text;
  int64_t line;
  bool blank;
} CsvRow;

typedef struct CsvReader CsvReader;
CsvReader *csv_open(const char *path, Fault *f);
/* The same over text in memory, which must stay; path is for messages. */
CsvReader *csv_open_text(const char *path, const char *text, size_t n, Fault *f);
size_t csv_consumed(const CsvReader *r); /* bytes before the next row */
void csv_set_separator(CsvReader *r, char sep);
void csv_close(CsvReader *r);
/* 1: a row; 0: the end; -1: fault. Blank lines are passed over. */
int csv_next(CsvReader *r, CsvRow *row);
char csv_separator(const CsvReader *r);

static inline const char *csv_field(const CsvRow *r, int k) { return r->text + r->start[k]; }

/* Fields as values, spaces around them ignored. false: not of that kind. */
bool csv_int(const char *s, int64_t *v);
bool csv_bool(const char *s, bool *v); /* true/false in any case */
bool csv_empty(const char *s);         /* nothing, or NA */
/* A number, nan, inf, or empty (nan), into element i of a float dtype, rounded once. */
bool csv_float(const char *s, DType t, void *base, int64_t i);
/* The first row names the columns, unless some field of it is a value (or all are empty). */
bool csv_is_header(const CsvRow *first);

/* What the beginning of a file says, without the number of rows: header and types as csv_header, from at most 1,000
 * rows. `whole`: the text is all there is; else its last row may be cut and takes no part. sep 0: as the first line has
 * it. *data_at: where the first row begins, *line: its number. */
bool csv_sample(Arena *a, const char *path, const char *text, size_t n, bool whole, char sep, CsvInfo *out,
                size_t *data_at, int64_t *line, Fault *f);

extern const Native native_load_csv, native_save_csv;
#endif
