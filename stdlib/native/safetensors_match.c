/* What differs between a safetensors file and the tensors that are wanted from it. */
#include "stdlib/native/safetensors.h"
#include <string.h>

/* Edit distance up to `most`; more: most + 1. */
static int distance(const char *a, const char *b, int most) {
  enum { LONGEST = 120 };
  int n = (int)strlen(a), m = (int)strlen(b), row[LONGEST + 1];
  if (n > LONGEST || m > LONGEST || n - m > most || m - n > most) return most + 1;
  for (int k = 0; k <= m; k++) row[k] = k;
  for (int i = 1; i <= n; i++) {
    int up = row[0]++;
    for (int k = 1; k <= m; k++) {
      int best = up + (a[i - 1] != b[k - 1]);
      up = row[k];
      if (row[k] + 1 < best) best = row[k] + 1;
      if (row[k - 1] + 1 < best) best = row[k - 1] + 1;
      row[k] = best;
    }
  }
  return row[m];
}

/* The closest of the file's names that nobody wants; NULL: none is close. */
static const char *closest(const StFile *s, const char *name, const bool *taken) {
  int most = (int)strlen(name) / 2 + 1;
  const char *best = NULL;
  for (int k = 0; k < s->n; k++) {
    if (taken[k]) continue;
    int d = distance(name, s->tensor[k].name, most);
    if (d <= most) best = s->tensor[k].name, most = d - 1;
  }
  return best;
}

static const char *type_text(Arena *a, const char *dtype, int rank, const int64_t *dim) {
  char *s = arena_printf(a, "%s[", dtype);
  for (int d = 0; d < rank; d++) s = arena_printf(a, "%s%s%lld", s, d ? ", " : "", (long long)dim[d]);
  return arena_printf(a, "%s]", s);
}

static bool same(const StTensor *t, const FileTensor *want) {
  return t->known && t->type.dtype == want->dtype && t->type.rank == want->rank &&
         !memcmp(t->type.dim, want->dim, sizeof *want->dim * (size_t)want->rank);
}

int st_compare(Arena *a, const StFile *s, int n, const char *const *name, const FileTensor *want, bool exact,
               const char *what, const char *const **line) {
  VEC(const char *) out = {0};
  bool *taken = arena_array(a, bool, s->n);
  const StTensor **found = arena_array(a, const StTensor *, n);
  for (int k = 0; k < n; k++)
    if ((found[k] = st_find(s, name[k]))) taken[found[k] - s->tensor] = true;
  for (int k = 0; k < n; k++) {
    const StTensor *t = found[k];
    if (!t) {
      const char *near = closest(s, name[k], taken);
      vec_push(a, &out,
               near ? arena_printf(a, "`%s` is missing in the file, which has `%s`", name[k], near)
                    : arena_printf(a, "`%s` is missing in the file", name[k]));
    } else if (!same(t, &want[k])) {
      const char *there = type_text(a, t->known ? dt_name(t->type.dtype) : t->code, t->type.rank, t->type.dim);
      vec_push(a, &out,
               arena_printf(a, "`%s` is %s in the file and %s in %s", name[k], there,
                            type_text(a, dt_name(want[k].dtype), want[k].rank, want[k].dim), what));
    }
  }
  for (int k = 0; exact && k < s->n; k++)
    if (!taken[k]) vec_push(a, &out, arena_printf(a, "`%s` of the file is unknown to %s", s->tensor[k].name, what));
  *line = (const char *const *)out.at;
  return out.n;
}

bool st_check(Arena *a, const StFile *s, const char *path, int n, const char *const *name, const FileTensor *want,
              bool exact, const char *what, Fault *f) {
  const char *const *line;
  int count = st_compare(a, s, n, name, want, exact, what, &line), shown = count < 3 ? count : 3;
  if (!count) return true;
  char *text = arena_printf(a, "does not fit %s: ", what);
  for (int k = 0; k < shown; k++) text = arena_printf(a, "%s%s%.120s", text, k ? "; " : "", line[k]);
  if (count > shown) text = arena_printf(a, "%s; and %d more", text, count - shown);
  return io_fail(f, path, "%s", text);
}
