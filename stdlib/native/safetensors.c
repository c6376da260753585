/* The safetensors format: headers, reading, writing. */
#include "stdlib/native/safetensors.h"
#include "stdlib/native/json.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const char CRC_KEY[] = "tg.crc32", FORMAT_KEY[] = "format", FORMAT[] = "tg";
enum { CRC_DIGITS = 8, CHUNK = 1 << 20 };

/* Codes and bytes an element; those that tg has no dtype for are listed and refused when read. */
static const struct {
  const char *code;
  int bytes;
  bool known;
  DType dtype;
} codes[] = {
    {"BOOL", 1, true, DT_BOOL}, {"U8", 1, true, DT_U8},   {"I8", 1, true, DT_I8},     {"I16", 2, true, DT_I16},
    {"I32", 4, true, DT_I32},   {"I64", 8, true, DT_I64}, {"F16", 2, true, DT_F16},   {"BF16", 2, true, DT_BF16},
    {"F32", 4, true, DT_F32},   {"F64", 8, true, DT_F64}, {"U16", 2, false, DT_BOOL}, {"U32", 4, false, DT_BOOL},
    {"U64", 8, false, DT_BOOL},
};
enum { NCODE = sizeof codes / sizeof *codes };

static const char *code_of(DType t) {
  for (int k = 0; k < NCODE; k++)
    if (codes[k].known && codes[k].dtype == t) return codes[k].code;
  bug("no safetensors code for dtype %d", t);
}

/* ---- the header ------------------------------------------------------------------------------------------------- */
typedef struct Reader {
  Arena *a;
  In *in;
  Json j;
  const char *text;
  StFile *out;
  uint64_t data; /* bytes of data in the file */
  VEC(StTensor) tensor;
  VEC(StMeta) meta;
} Reader;

static bool malformed(Reader *r) {
  return io_fail(r->in->fault, r->in->path, "has a malformed safetensors header (byte %lld)",
                 (long long)(r->j.p - r->text) + 8);
}

static uint64_t little(const uint8_t *p) {
  uint64_t v = 0;
  for (int k = 8; k-- > 0;) v = v << 8 | p[k];
  return v;
}

static bool read_meta(Reader *r) {
  bool first = true, ok = true;
  if (!json_take(&r->j, '{')) return malformed(r);
  while (json_more(&r->j, '}', &first, &ok)) {
    StMeta m;
    const char *raw, *end;
    if (!json_string(&r->j, r->a, &m.key, NULL) || !json_take(&r->j, ':') || !json_string(&r->j, r->a, &m.value, &raw))
      return malformed(r);
    vec_push(r->a, &r->meta, m);
    if (strcmp(m.key, CRC_KEY)) continue;
    char *stop;
    r->out->crc = (uint32_t)strtoul(m.value, &stop, 16);
    end = r->j.p - 1;
    if (strlen(m.value) != CRC_DIGITS || end - raw != CRC_DIGITS || *stop ||
        strspn(m.value, "0123456789abcdef") != CRC_DIGITS)
      return malformed(r);
    r->out->crc_at = 8 + (uint64_t)(raw - r->text);
  }
  return ok ? true : malformed(r);
}

static bool read_shape(Reader *r, StTensor *t) {
  bool first = true, ok = true;
  if (!json_take(&r->j, '[')) return malformed(r);
  t->type.rank = 0;
  while (json_more(&r->j, ']', &first, &ok)) {
    int64_t n;
    if (!json_count(&r->j, &n)) return malformed(r);
    if (t->type.rank == TG_MAX_RANK)
      return io_fail(r->in->fault, r->in->path, "`%.100s` has more than %d axes", t->name, TG_MAX_RANK);
    t->type.dim[t->type.rank++] = n;
  }
  return ok ? true : malformed(r);
}

/* The bytes that dtype and shape make must be those between the offsets, and these within the file. */
static bool place(Reader *r, StTensor *t, int64_t from, int64_t to) {
  int64_t elems = 1, bytes;
  bool big = false;
  for (int d = 0; d < t->type.rank; d++) big |= __builtin_mul_overflow(elems, t->type.dim[d], &elems);
  for (int d = 0; d < t->type.rank; d++)
    if (!t->type.dim[d]) elems = 0, big = false;
  int size = 0;
  for (int k = 0; k < NCODE; k++)
    if (!strcmp(codes[k].code, t->code))
      size = codes[k].bytes, t->known = codes[k].known, t->type.dtype = codes[k].dtype;
  if (from > to || (uint64_t)to > r->data)
    return io_fail(r->in->fault, r->in->path, "is truncated: `%.100s` ends beyond the file", t->name);
  if (size && (big || __builtin_mul_overflow(elems, size, &bytes) || bytes != to - from))
    return io_fail(r->in->fault, r->in->path, "`%.100s`: its shape does not fit its bytes", t->name);
  t->at = r->out->data_at + (uint64_t)from, t->bytes = (uint64_t)(to - from);
  return true;
}

static bool read_tensor(Reader *r, const char *name) {
  StTensor t = {.name = name};
  int64_t from = 0, to = 0;
  unsigned seen = 0;
  bool first = true, ok = true;
  if (!json_take(&r->j, '{')) return malformed(r);
  while (json_more(&r->j, '}', &first, &ok)) {
    const char *key;
    if (!json_string(&r->j, r->a, &key, NULL) || !json_take(&r->j, ':')) return malformed(r);
    unsigned bit = !strcmp(key, "dtype") ? 1 : !strcmp(key, "shape") ? 2 : !strcmp(key, "data_offsets") ? 4 : 0;
    if (seen & bit) return malformed(r);
    seen |= bit;
    bool good;
    if (bit == 1)
      good = json_string(&r->j, r->a, &t.code, NULL);
    else if (bit == 2) {
      if (!read_shape(r, &t)) return false;
      good = true;
    } else if (bit == 4)
      good = json_take(&r->j, '[') && json_count(&r->j, &from) && json_take(&r->j, ',') && json_count(&r->j, &to) &&
             json_take(&r->j, ']');
    else
      good = json_skip(&r->j, r->a);
    if (!good) return malformed(r);
  }
  if (!ok || seen != 7) return malformed(r);
  if (!place(r, &t, from, to)) return false;
  vec_push(r->a, &r->tensor, t);
  return true;
}

static int by_place(const void *a, const void *b) {
  const StTensor *x = *(const StTensor *const *)a, *y = *(const StTensor *const *)b;
  if (x->at != y->at) return x->at < y->at ? -1 : 1;
  return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}
static int by_name(const void *a, const void *b) {
  return strcmp((*(const StTensor *const *)a)->name, (*(const StTensor *const *)b)->name);
}

/* Names differ, and the data follow one another up to the end. */
static bool consistent(Reader *r) {
  int n = r->tensor.n;
  StTensor **order = arena_array(r->a, StTensor *, n);
  for (int k = 0; k < n; k++) order[k] = &r->tensor.at[k];
  qsort(order, (size_t)n, sizeof *order, by_name);
  for (int k = 1; k < n; k++)
    if (!strcmp(order[k - 1]->name, order[k]->name))
      return io_fail(r->in->fault, r->in->path, "has `%.100s` twice", order[k]->name);
  r->out->sorted = arena_copy(r->a, order, sizeof *order * (size_t)n);
  qsort(order, (size_t)n, sizeof *order, by_place);
  uint64_t at = r->out->data_at;
  for (int k = 0; k < n; at += order[k++]->bytes)
    if (order[k]->at != at)
      return io_fail(r->in->fault, r->in->path, "has a %s before `%.100s`", order[k]->at < at ? "overlap" : "hole",
                     order[k]->name);
  if (at != r->in->size)
    return io_fail(r->in->fault, r->in->path, "has %llu bytes that belong to no tensor",
                   (unsigned long long)(r->in->size - at));
  return true;
}

static bool read_header(Reader *r) {
  bool first = true, ok = true, meta = false;
  if (!json_take(&r->j, '{')) return malformed(r);
  while (json_more(&r->j, '}', &first, &ok)) {
    const char *name;
    if (!json_string(&r->j, r->a, &name, NULL) || !json_take(&r->j, ':')) return malformed(r);
    if (strcmp(name, "__metadata__")) {
      if (!read_tensor(r, name)) return false;
    } else if (meta || !read_meta(r))
      return r->in->fault->id ? false : malformed(r);
    else
      meta = true;
  }
  if (!ok || !json_end(&r->j)) return malformed(r);
  for (int k = 0; k < r->meta.n && !r->out->crc_at; k++)
    if (!strcmp(r->meta.at[k].key, FORMAT_KEY) && !strcmp(r->meta.at[k].value, FORMAT))
      return io_fail(r->in->fault, r->in->path, "is damaged: its metadata lack `%s`", CRC_KEY);
  return consistent(r);
}

bool st_open(Arena *a, In *in, const char *path, StFile *out, Fault *f) {
  *out = (StFile){0};
  if (!in_open(in, path, f)) return false;
  uint8_t prefix[9];
  if (in->size < 8) return io_fail(f, path, "is truncated, or not a safetensors file");
  if (!in_read(in, 0, prefix, in->size < 9 ? 8 : 9)) return false;
  uint64_t n = little(prefix);
  if (in->size > 8 && prefix[8] != '{') return io_fail(f, path, "is not a safetensors file");
  if (n > ST_MAX_HEADER)
    return io_fail(f, path, "has a header of more than %d MB, or is not a safetensors file", ST_MAX_HEADER >> 20);
  if (n > in->size - 8) return io_fail(f, path, "is truncated");
  char *text = malloc((size_t)n + 1);
  if (!text) return fault_set(f, R_MEMORY, (Span){0}, "out of memory"), false;
  Reader r = {.a = a, .in = in, .j = {text, text + n}, .text = text, .out = out, .data = in->size - 8 - n};
  out->data_at = 8 + n;
  bool ok = in_read(in, 8, text, (size_t)n) && read_header(&r);
  free(text);
  out->n = r.tensor.n, out->tensor = r.tensor.at, out->nmeta = r.meta.n, out->meta = r.meta.at;
  return ok;
}

bool st_list(Arena *a, const char *path, StFile *out, Fault *f) {
  In in;
  bool ok = st_open(a, &in, path, out, f);
  in_close(&in);
  return ok;
}

const char *st_meta(const StFile *s, const char *key) {
  for (int k = 0; k < s->nmeta; k++)
    if (!strcmp(s->meta[k].key, key)) return s->meta[k].value;
  return NULL;
}

const StTensor *st_find(const StFile *s, const char *name) {
  if (s->sorted) {
    StTensor key = {.name = name}, *at = &key, **hit = bsearch(&at, s->sorted, (size_t)s->n, sizeof at, by_name);
    return hit ? *hit : NULL;
  }
  for (int k = 0; k < s->n; k++)
    if (!strcmp(s->tensor[k].name, name)) return &s->tensor[k];
  return NULL;
}

/* ---- data ------------------------------------------------------------------------------------------------------- */
bool st_verify(In *in, const StFile *s) {
  if (!s->crc_at) return true;
  uint8_t *buf = malloc(CHUNK);
  if (!buf) return fault_set(in->fault, R_MEMORY, (Span){0}, "out of memory"), false;
  uLong crc = crc32(0, NULL, 0);
  bool ok = true;
  for (uint64_t at = 0, n; ok && at < in->size; at += n) {
    n = in->size - at < CHUNK ? in->size - at : CHUNK;
    ok = in_read(in, at, buf, (size_t)n);
    for (uint64_t k = s->crc_at; k < s->crc_at + CRC_DIGITS; k++)
      if (k >= at && k < at + n) buf[k - at] = '0';
    if (ok) crc = crc32_z(crc, buf, (size_t)n);
  }
  free(buf);
  if (ok && (uint32_t)crc != s->crc)
    return io_fail(in->fault, in->path, "is damaged: its checksum (`%s` in the metadata) does not fit its content",
                   CRC_KEY);
  return ok;
}

bool st_read(In *in, const StTensor *t, void *to) {
  if (!in_read(in, t->at, to, (size_t)t->bytes)) return false;
  uint8_t *b = to;
  for (uint64_t k = 0; t->type.dtype == DT_BOOL && k < t->bytes; k++) b[k] = b[k] != 0;
  return true;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */
typedef struct Placed {
  int tensor, size;
  uint64_t from;
} Placed;

static int by_size(const void *a, const void *b) {
  const Placed *x = a, *y = b;
  return x->size != y->size ? y->size - x->size : x->tensor - y->tensor;
}

/* The header's text, padded to a multiple of 8 (prefix included); *crc_at is where the digits go in it. */
static JsonText make_header(Arena *a, int n, const char *const *name, const Tensor *t, const Placed *place, int nmeta,
                            const StMeta *meta, int *crc_at) {
  JsonText h = {0};
  json_printf(a, &h, "{\"__metadata__\":{\"%s\":\"", CRC_KEY);
  *crc_at = h.n;
  json_printf(a, &h, "00000000\",\"%s\":\"%s\"", FORMAT_KEY, FORMAT);
  for (int k = 0; k < nmeta; k++) {
    vec_push(a, &h, ',');
    json_quote(a, &h, meta[k].key);
    vec_push(a, &h, ':');
    json_quote(a, &h, meta[k].value);
  }
  vec_push(a, &h, '}');
  uint64_t *from = arena_array(a, uint64_t, n);
  for (int k = 0; k < n; k++) from[place[k].tensor] = place[k].from;
  for (int k = 0; k < n; k++) {
    vec_push(a, &h, ',');
    json_quote(a, &h, name[k]);
    json_printf(a, &h, ":{\"dtype\":\"%s\",\"shape\":[", code_of(t[k].dtype));
    for (int d = 0; d < t[k].rank; d++) json_printf(a, &h, "%s%lld", d ? "," : "", (long long)t[k].dim[d]);
    json_printf(a, &h, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)from[k],
                (unsigned long long)(from[k] + tensor_bytes(&t[k])));
  }
  vec_push(a, &h, '}');
  while (h.n % 8) vec_push(a, &h, ' ');
  return h;
}

bool st_write(const char *path, int n, const char *const *name, const Tensor *t, int nmeta, const StMeta *meta,
              Fault *f) {
  return st_replace(path, n, name, t, nmeta, meta, (StLast){0}, f);
}

bool st_replace(const char *path, int n, const char *const *name, const Tensor *t, int nmeta, const StMeta *meta,
                StLast last, Fault *f) {
  Arena *a = arena_new();
  Placed *place = arena_array(a, Placed, n);
  for (int k = 0; k < n; k++) place[k] = (Placed){k, dt_bytes(t[k].dtype), 0};
  qsort(place, (size_t)n, sizeof *place, by_size);
  uint64_t at = 0;
  for (int k = 0; k < n; k++) place[k].from = at, at += tensor_bytes(&t[place[k].tensor]);
  int crc_at;
  JsonText h = make_header(a, n, name, t, place, nmeta, meta, &crc_at);
  uint8_t prefix[8];
  for (int k = 0; k < 8; k++) prefix[k] = (uint8_t)((uint64_t)h.n >> 8 * k);
  uLong crc = crc32_z(crc32_z(0, prefix, 8), (const Bytef *)h.at, (size_t)h.n);
  for (int k = 0; k < n; k++) {
    const Tensor *x = &t[place[k].tensor];
    if (tensor_bytes(x)) crc = crc32_z(crc, x->data, tensor_bytes(x));
  }
  char digits[CRC_DIGITS + 1];
  snprintf(digits, sizeof digits, "%08lx", crc & 0xffffffffu);
  memcpy(h.at + crc_at, digits, CRC_DIGITS);
  Out o;
  bool ok = h.n <= ST_MAX_HEADER ? out_open(&o, path, f) : io_fail(f, path, "cannot be written: too many names");
  if (ok) {
    out_write(&o, prefix, 8);
    out_write(&o, h.at, (size_t)h.n);
    for (int k = 0; k < n; k++) out_write(&o, t[place[k].tensor].data, tensor_bytes(&t[place[k].tensor]));
    if (last.fn) out_sync(&o);
    if (last.fn && !o.why && !last.fn(last.ctx, o.tmp, f))
      out_abort(&o), ok = false;
    else
      ok = out_commit(&o);
  }
  arena_free(a);
  return ok;
}

/* ---- natives ---------------------------------------------------------------------------------------------------- */
static bool wrong(Fault *f, const char *what) {
  fault_set(f, R_NATIVE, (Span){0}, "%s: wrong arguments", what);
  return false;
}

static FileTensor type_of(const Tensor *t) {
  FileTensor x = {t->dtype, t->rank, {0}};
  memcpy(x.dim, t->dim, sizeof *t->dim * (size_t)t->rank);
  return x;
}

static bool load(Arena *a, In *in, const char *path, bool exact, int n, const Attr *name, Tensor *out, Fault *f) {
  StFile s;
  if (!st_open(a, in, path, &s, f)) return false;
  const char **names = arena_array(a, const char *, n);
  FileTensor *want = arena_array(a, FileTensor, n);
  for (int k = 0; k < n; k++) {
    names[k] = name[k].s, want[k] = type_of(&out[k]);
    const StTensor *t = st_find(&s, name[k].s);
    if (t && t->known && dt_is_float(t->type.dtype) && out[k].dtype == DT_F64) want[k].dtype = t->type.dtype; /* wide */
  }
  if (!st_check(a, &s, path, n, names, want, exact, "the program", f) || !st_verify(in, &s)) return false;
  for (int k = 0; k < n; k++) {
    const StTensor *t = st_find(&s, names[k]);
    void *data = result_begin(&t->type, &out[k], f);
    bool ok = data && st_read(in, t, data);
    result_end(&t->type, &out[k], data);
    if (!ok) return false;
  }
  return true;
}

static bool run_load(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  char buf[IO_PATH];
  if (nattr != nout + 2 || !attr[0].s) return wrong(f, "load_safetensors");
  Arena *a = arena_new();
  In file = {.fd = -1};
  bool ok = load(a, &file, io_path(ctx, attr[0].s, buf), attr[1].i, nout, attr + 2, out, f);
  in_close(&file);
  arena_free(a);
  return run_status(ok, f);
}

static bool run_save(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  char buf[IO_PATH];
  if (nattr != nin + 2 || !attr[0].s || !attr[1].s) return wrong(f, "save_safetensors");
  Arena *a = arena_new();
  const char **name = arena_array(a, const char *, nin);
  for (int k = 0; k < nin; k++) name[k] = attr[k + 2].s;
  StMeta meta[] = {{"tg.kind", attr[1].s}};
  bool ok = st_write(io_path(ctx, attr[0].s, buf), nin, name, in, *attr[1].s ? 1 : 0, meta, f);
  arena_free(a);
  return run_status(ok, f);
}

const Native native_load_safetensors = {.name = "load_safetensors", .run = run_load};
const Native native_save_safetensors = {
    .name = "save_safetensors", .effect = true, .who = RUN_FIRST_TELL, .run = run_save};
