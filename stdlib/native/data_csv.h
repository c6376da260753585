/* CSV files as data sets. */
#ifndef TG_STDLIB_NATIVE_DATA_CSV_H
#define TG_STDLIB_NATIVE_DATA_CSV_H
#include "stdlib/native/data.h"

typedef struct CsvType {
  const char *name;
  DType dtype;
  int64_t width; /* > 0: the first bytes of a text as u8[width], zeros behind */
} CsvType;
typedef struct CsvOptions {
  int nselect; /* columns in this order; 0: all that hold numbers */
  const char *const *select;
  int ntype; /* of columns that the first rows do not decide */
  const CsvType *type;
  char sep;      /* 0: as the first line has it */
  bool skip_bad; /* rows that do not fit are left out, counted, and reported on stderr when a pass ends; else a fault
                    R_DATA */
  bool fill;     /* empty fields and NA become `missing`; else nan, and in a column without nan a misfit */
  double missing;
} CsvOptions;

/* A set of rows of one field a column, each a scalar (u8[width] for text). Length unknown, no random access. A pipe can
 * be opened and read once. -1: M_FILE. Memory: 4 MiB for each pass; a row of more than 1 MiB is a fault. */
int64_t data_csv(DataTable *t, const char *path, const CsvOptions *o, Fault *f);
#endif
