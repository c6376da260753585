/* The native save_csv. Floats are written so that they read back exactly. */
#include "stdlib/native/csv.h"
#include "stdlib/native/print.h"
#include <string.h>

static void put_name(FILE *out, const char *s) {
  if (!s[strcspn(s, ",;\t\"\r\n")] && *s) {
    fputs(s, out);
    return;
  }
  fputc('"', out);
  for (; *s; s++) {
    if (*s == '"') fputc('"', out);
    fputc(*s, out);
  }
  fputc('"', out);
}

static void put_element(FILE *out, const Tensor *t, int64_t i) {
  char buf[64];
  format_scalar(buf, sizeof buf, t->dtype, (const char *)t->data + i * dt_bytes(t->dtype), NULL);
  fputs(buf, out);
}

/* The table: nrow rows of ncol fields; one operand [N, C], or C operands [N]. */
static bool table(int nin, const Tensor *in, int64_t *nrow, int64_t *ncol) {
  if (nin < 1 || in[0].rank < 1 || in[0].rank > 2 || (in[0].rank == 2 && nin != 1)) return false;
  *nrow = in[0].dim[0], *ncol = in[0].rank == 2 ? in[0].dim[1] : nin;
  for (int k = 1; k < nin; k++)
    if (in[k].rank != 1 || in[k].dim[0] != *nrow) return false;
  return true;
}

/* save_csv(columns... or one matrix), attributes 0.s the path, 1.. .s column names: one each, or none (no header line).
 * Faults: shapes or names that make no table; the file cannot be written. */
static bool run_save(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  int64_t nrow = 0, ncol = 0;
  bool ok = nattr >= 1 && attr[0].s && table(nin, in, &nrow, &ncol) && (nattr == 1 || nattr - 1 == ncol);
  for (int k = 1; ok && k < nattr; k++) ok = attr[k].s != NULL;
  if (!ok) {
    fault_set(f, R_NATIVE, (Span){0},
              "save_csv: expected a matrix or columns of one length, and a name for each column or none");
    return false;
  }
  char buf[IO_PATH];
  Out o;
  if (!out_open(&o, io_path(ctx, attr[0].s, buf), f)) return run_status(false, f);
  for (int k = 1; k < nattr; k++) {
    if (k > 1) fputc(',', o.file);
    put_name(o.file, attr[k].s);
  }
  if (nattr > 1) fputc('\n', o.file);
  for (int64_t r = 0; r < nrow && !ferror(o.file); r++) {
    for (int64_t c = 0; c < ncol; c++) {
      if (c) fputc(',', o.file);
      if (in[0].rank == 2)
        put_element(o.file, &in[0], r * ncol + c);
      else
        put_element(o.file, &in[c], r);
    }
    fputc('\n', o.file);
  }
  return run_status(out_commit(&o), f);
}

const Native native_save_csv = {.name = "save_csv", .effect = true, .who = RUN_FIRST_TELL, .run = run_save};
