/* Text as data: the alphabet, characters by number, windows of characters with those that follow. */
#include "stdlib/native/data_text.h"
#include "stdlib/native/data_set.h"
#include "stdlib/native/io.h"
#include "graph/diag.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_CODE = 0x110000, TEXT_MAX = 1 << 30 };

typedef struct Text {
  int64_t n, letters;
  const uint32_t *letter; /* ascending */
  int width;              /* bytes a character */
  void *id;               /* n numbers of letters */
} Text;

typedef struct Windows {
  const Text *text;
  int64_t width, stride;
} Windows;

/* The code point at s, of n bytes; *len its bytes, 0 if there is none (overlong forms and surrogates are none). */
static uint32_t code_at(const uint8_t *s, size_t n, size_t *len) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  size_t k = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc0 ? 2 : 0;
  *len = 0;
  if (k == 1) return *len = 1, s[0];
  if (!k || k > n || s[0] > 0xf4) return 0;
  uint32_t c = s[0] & (0xffu >> (k + 1));
  for (size_t i = 1; i < k; i++) {
    if ((s[i] & 0xc0) != 0x80) return 0;
    c = c << 6 | (s[i] & 0x3f);
  }
  if (c < least[k] || c >= MAX_CODE || (c >= 0xd800 && c < 0xe000)) return 0;
  return *len = k, c;
}

int64_t utf8_decode(const char *s, size_t n, uint32_t *out) {
  int64_t count = 0;
  for (size_t i = 0, len; i < n; i += len) {
    uint32_t c = code_at((const uint8_t *)s + i, n - i, &len);
    if (!len) return -1 - (int64_t)i;
    out[count++] = c;
  }
  return count;
}

static int64_t id_at(const Text *t, int64_t k) {
  return t->width == 1   ? ((const uint8_t *)t->id)[k]
         : t->width == 2 ? ((const uint16_t *)t->id)[k]
                         : ((const uint32_t *)t->id)[k];
}

/* The alphabet and the numbers of bytes[0..n). */
static bool number_text(Arena *a, Text *t, const uint8_t *bytes, size_t n, const char *path, Fault *f) {
  uint32_t *number = calloc(MAX_CODE, sizeof *number);
  if (!number) return data_no_memory(f, MAX_CODE * sizeof *number);
  size_t i = 0, len;
  for (; i < n; i += len, t->n++) {
    uint32_t c = code_at(bytes + i, n - i, &len);
    if (!len) break;
    number[c] = 1;
  }
  bool ok = i == n || io_fail(f, path, "is not UTF-8 text: byte %zu", i);
  for (uint32_t c = 0; ok && c < MAX_CODE; c++) t->letters += number[c];
  uint32_t *letter = arena_array(a, uint32_t, t->letters);
  for (uint32_t c = 0, k = 0; ok && c < MAX_CODE; c++)
    if (number[c]) letter[k] = c, number[c] = k++;
  t->letter = letter, t->width = t->letters <= 256 ? 1 : t->letters <= 65536 ? 2 : 4;
  ok = ok &&
       ((t->id = malloc((size_t)t->n * (size_t)t->width + 1)) || data_no_memory(f, (size_t)t->n * (size_t)t->width));
  i = 0;
  for (int64_t k = 0; ok && k < t->n; k++, i += len) {
    uint32_t v = number[code_at(bytes + i, n - i, &len)];
    if (t->width == 1)
      ((uint8_t *)t->id)[k] = (uint8_t)v;
    else if (t->width == 2)
      ((uint16_t *)t->id)[k] = (uint16_t)v;
    else
      ((uint32_t *)t->id)[k] = v;
  }
  free(number);
  return ok;
}

static bool text_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  const Text *t = it->set->self;
  for (int64_t k = 0; k < n; k++) ((int32_t *)to[0])[k] = (int32_t)id_at(t, row[k]);
  return true;
}
static void text_free(DataSet *s) { free(((Text *)s->self)->id); }
static const DataOps text_ops = {.gather = text_gather, .free = text_free};

static uint8_t *read_text(const char *path, size_t *n, Fault *f) {
  Stream *in = stream_open(path, f);
  if (!in) return NULL;
  size_t cap = 1 << 16;
  uint8_t *p = malloc(cap);
  bool ok = p || data_no_memory(f, cap);
  for (*n = 0; ok;) {
    if (*n == cap) {
      ok = cap < TEXT_MAX || io_fail(f, path, "is larger than 1 GiB");
      uint8_t *more = ok ? realloc(p, cap *= 2) : NULL;
      if (ok && !more) ok = data_no_memory(f, cap);
      if (!ok) break;
      p = more;
    }
    int64_t got = stream_read(in, p + *n, cap - *n);
    ok = got >= 0;
    if (got <= 0) break;
    *n += (size_t)got;
  }
  stream_close(in);
  if (!ok) free(p), p = NULL;
  return p;
}

int64_t data_text_open(DataTable *t, const char *path, Fault *f) {
  Arena *a = data_arena(t);
  char *key = data_file_text(t, "text", path);
  int64_t id = data_known(t, key);
  if (id >= 0) return id;
  size_t n;
  uint8_t *bytes = read_text(path, &n, f);
  if (!bytes) return -1;
  size_t bom = n >= 3 && !memcmp(bytes, "\xef\xbb\xbf", 3) ? 3 : 0;
  Text *text = arena_new_of(a, Text);
  bool ok = (n > bom || io_fail(f, path, "is empty")) && number_text(a, text, bytes + bom, n - bom, path, f);
  free(bytes);
  if (!ok) return free(text->id), -1;
  DataSet *s = data_set_new(t, &text_ops, 1, &(DataField){.name = "", .dtype = DT_I32}, 0, NULL);
  s->length = text->n, s->random = true, s->self = text, s->what = arena_strdup(a, path);
  id = data_set_add(s);
  data_remember(t, key, id);
  return id;
}

const uint32_t *data_text_alphabet(const DataTable *t, int64_t id, int64_t *n) {
  const DataSet *s = data_set(t, id);
  if (s->ops != &text_ops) bug("data set %lld is no text", (long long)id);
  const Text *text = s->self;
  *n = text->letters;
  return text->letter;
}

static bool windows_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  const Windows *w = it->set->self;
  for (int64_t k = 0; k < n; k++) {
    int64_t from = row[k] * w->stride;
    int32_t *x = (int32_t *)to[0] + k * w->width, *y = (int32_t *)to[1] + k * w->width;
    for (int64_t i = 0; i < w->width; i++) x[i] = (int32_t)id_at(w->text, from + i);
    for (int64_t i = 0; i < w->width; i++) y[i] = (int32_t)id_at(w->text, from + 1 + i);
  }
  return true;
}

int64_t data_windows(DataTable *t, int64_t of, int64_t width, int64_t stride) {
  static const DataOps ops = {.gather = windows_gather};
  DataSet *d = data_set(t, of);
  if (d->ops != &text_ops) bug("data set %lld is no text", (long long)of);
  DataField field[2] = {{.name = "x", .dtype = DT_I32, .rank = 1, .dim = {width}},
                        {.name = "y", .dtype = DT_I32, .rank = 1, .dim = {width}}};
  DataSet *s = data_set_new(t, &ops, 2, field, 1, &d);
  Windows *w = arena_new_of(data_arena(t), Windows);
  *w = (Windows){d->self, width, stride};
  s->self = w, s->length = d->length > width ? (d->length - width - 1) / stride + 1 : 0;
  return data_set_add(s);
}
