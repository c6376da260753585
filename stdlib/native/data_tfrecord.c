/* TFRecord: length u64, masked CRC-32C of it, data, masked CRC-32C of those; data a protobuf tf.train.Example:
 *   Example {Features features = 1}, Features {map<string, Feature> feature = 1},
 *   Feature {BytesList 1 | FloatList 2 | Int64List 3}, each {repeated value = 1}, numbers packed or not. */
#include "stdlib/native/data_tfrecord.h"
#include "stdlib/native/data_set.h"
#include "stdlib/native/events.h"
#include "stdlib/native/io.h"
#include <stdlib.h>
#include <string.h>

enum { RECORD_MAX = 1 << 28, FEATURES_MAX = 1024 };

/* ---- protobuf --------------------------------------------------------------------------------------------------- */
typedef struct Wire {
  const uint8_t *p, *end;
} Wire;

static bool varint(Wire *w, uint64_t *v) {
  *v = 0;
  for (int shift = 0; w->p < w->end && shift < 64; shift += 7) {
    uint8_t b = *w->p++;
    *v |= (uint64_t)(b & 0x7f) << shift;
    if (!(b & 0x80)) return true;
  }
  return false;
}

/* The next field: its number, wire type and value (varint, or the bytes of a length-delimited or fixed one). false: the
 * end, or damage (then *bad). */
typedef struct Field {
  uint64_t tag, value;
  int type;
  Wire body;
} Field;
static bool next_field(Wire *w, Field *f, bool *bad) {
  uint64_t key;
  if (w->p == w->end) return false;
  *bad = true;
  if (!varint(w, &key)) return false;
  f->tag = key >> 3, f->type = (int)(key & 7);
  uint64_t n = f->type == 1 ? 8 : f->type == 5 ? 4 : 0;
  if (f->type == 0 ? !varint(w, &f->value) : f->type == 2 ? !varint(w, &n) : f->type != 1 && f->type != 5) return false;
  if (n > (uint64_t)(w->end - w->p)) return false;
  f->body = (Wire){w->p, w->p + n};
  w->p += n;
  return !(*bad = false);
}

/* Visits the numbers of a FloatList or Int64List: 4 bytes, or a varint, each. -1: malformed. to: f32 or i64, or NULL.
 */
static int64_t numbers(Wire w, bool floats, int64_t room, void *to) {
  Field f;
  int64_t n = 0;
  bool bad = false;
  while (next_field(&w, &f, &bad)) {
    if (f.tag != 1) continue;
    Wire b = f.body;
    if (floats && f.type != 2 && f.type != 5) return -1;
    if (!floats && f.type == 0) { /* not packed */
      if (to && n < room) ((int64_t *)to)[n] = (int64_t)f.value;
      n++;
      continue;
    }
    if (!floats && f.type != 2) return -1;
    if (floats && (b.end - b.p) % 4) return -1;
    while (b.p < b.end) {
      uint64_t v;
      if (floats) {
        uint32_t u = (uint32_t)b.p[0] | (uint32_t)b.p[1] << 8 | (uint32_t)b.p[2] << 16 | (uint32_t)b.p[3] << 24;
        if (to && n < room) memcpy((float *)to + n, &u, 4);
        b.p += 4;
      } else {
        if (!varint(&b, &v)) return -1;
        if (to && n < room) ((int64_t *)to)[n] = (int64_t)v;
      }
      n++;
    }
  }
  return bad ? -1 : n;
}

/* The one value of a BytesList: its length, or -1. */
static int64_t one_bytes(Wire w, const uint8_t **p) {
  Field f;
  bool bad = false, any = false;
  int64_t n = -1;
  while (next_field(&w, &f, &bad)) {
    if (f.tag != 1) continue;
    if (f.type != 2 || any) return -1;
    any = true, *p = f.body.p, n = f.body.end - f.body.p;
  }
  return bad ? -1 : n;
}

static bool read_feature(Wire w, Feature *out) {
  Field f;
  bool bad = false;
  while (next_field(&w, &f, &bad)) {
    if (f.tag < 1 || f.tag > 3) continue;
    if (f.type != 2) return false;
    out->kind = (FeatureKind)f.tag, out->list = f.body.p, out->nlist = (size_t)(f.body.end - f.body.p);
    const uint8_t *p = NULL;
    out->n = f.tag == 1 ? one_bytes(f.body, &p) : numbers(f.body, f.tag == 2, 0, NULL);
    if (out->n < 0) return false;
    if (f.tag == 1) out->list = p, out->nlist = (size_t)out->n;
  }
  return !bad;
}

int example_features(const uint8_t *p, size_t n, int most, Feature *out) {
  Wire w = {p, p + n};
  Field features, entry, part;
  bool bad = false;
  int count = 0;
  while (next_field(&w, &features, &bad)) {
    if (features.tag != 1) continue;
    if (features.type != 2) return -1;
    while (next_field(&features.body, &entry, &bad)) {
      if (entry.tag != 1) continue;
      if (entry.type != 2 || count == most) return -1;
      Feature f = {0};
      while (next_field(&entry.body, &part, &bad)) {
        if (part.type != 2) return -1;
        if (part.tag == 1) f.name = part.body.p, f.nname = (size_t)(part.body.end - part.body.p);
        if (part.tag == 2 && !read_feature(part.body, &f)) return -1;
      }
      if (bad || !f.name) return -1;
      if (f.kind) out[count++] = f;
    }
    if (bad) return -1;
  }
  return bad ? -1 : count;
}

/* ---- records ---------------------------------------------------------------------------------------------------- */
typedef struct Records {
  const char *path;
  int n;
  const char **key; /* the features' own names */
} Records;

typedef struct Reader {
  Stream *in;
  int64_t number;
  uint8_t *data;
  size_t cap;
  Feature *feature;
} Reader;

static bool damaged(Fault *f, const char *path, int64_t number, const char *what) {
  fault_set(f, R_DATA, (Span){0}, "%.200s: record %lld %s", path, (long long)number, what);
  return false;
}

static uint64_t little(const uint8_t *p, int n) {
  uint64_t v = 0;
  for (int k = n; k--;) v = v << 8 | p[k];
  return v;
}

/* 1: a record of *n bytes in r->data; 0: the end; -1: fault. */
static int next_record(Reader *r, const char *path, size_t *n, Fault *f) {
  uint8_t head[12], crc[4];
  int64_t got = stream_read(r->in, head, 12);
  if (got <= 0) return (int)got;
  r->number++;
  if (got < 12) return damaged(f, path, r->number, "is cut off"), -1;
  uint64_t len = little(head, 8);
  if (little(head + 8, 4) != crc32c_masked(head, 8))
    return damaged(f, path, r->number,
                   "has a wrong checksum of its length: this is no TFRecord file, or it is damaged"),
           -1;
  if (len > RECORD_MAX) return damaged(f, path, r->number, "is longer than 256 MiB"), -1;
  if (len > r->cap) {
    uint8_t *more = realloc(r->data, len);
    if (!more) return data_no_memory(f, len), -1;
    r->data = more, r->cap = len;
  }
  got = stream_read(r->in, r->data, len);
  if (got >= 0 && (uint64_t)got == len) got = stream_read(r->in, crc, 4) == 4 ? got : -2;
  if (got == -1 && f->id) return -1;
  if (got < 0 || (uint64_t)got < len) return f->id ? -1 : (damaged(f, path, r->number, "is cut off"), -1);
  if (little(crc, 4) != crc32c_masked(r->data, len)) return damaged(f, path, r->number, "has a wrong checksum"), -1;
  *n = len;
  return 1;
}

static int by_name(const void *a, const void *b) {
  const Feature *x = a, *y = b;
  size_t n = x->nname < y->nname ? x->nname : y->nname;
  int c = memcmp(x->name, y->name, n);
  return c ? c : (x->nname > y->nname) - (x->nname < y->nname);
}

static void reader_close(Reader *r) {
  if (r->in) stream_close(r->in);
  free(r->data), free(r->feature);
}

static bool reader_open(Reader *r, const char *path, Fault *f) {
  *r = (Reader){.in = stream_open(path, f), .feature = malloc(sizeof(Feature) * FEATURES_MAX)};
  if (r->in && !r->feature) data_no_memory(f, sizeof(Feature) * FEATURES_MAX);
  return r->in && r->feature;
}

/* The features of the record in hand, by name. */
static int read_features(Reader *r, const char *path, size_t n, Fault *f) {
  int m = example_features(r->data, n, FEATURES_MAX, r->feature);
  if (m < 0) return damaged(f, path, r->number, "is no tf.train.Example"), -1;
  if (m) qsort(r->feature, (size_t)m, sizeof *r->feature, by_name);
  return m;
}

static bool put_feature(const Feature *x, int64_t want, void *to, int64_t i) {
  if (x->n != want) return false;
  if (x->kind == FEATURE_BYTES) return memcpy((uint8_t *)to + i * want, x->list, (size_t)want), true;
  Wire w = {x->list, x->list + x->nlist};
  bool floats = x->kind == FEATURE_FLOAT;
  return numbers(w, floats, want, floats ? (void *)((float *)to + i * want) : (void *)((int64_t *)to + i * want)) ==
         want;
}

static int64_t record_read(DataIter *it, int64_t n, void *const *to, Fault *f) {
  DataSet *s = it->set;
  const Records *rec = s->self;
  Reader *r = it->self;
  for (int64_t i = 0; i < n; i++) {
    size_t len;
    int more = next_record(r, rec->path, &len, f);
    if (more <= 0) return more < 0 ? -1 : i;
    int m = read_features(r, rec->path, len, f), j = 0;
    if (m < 0) return -1;
    for (int k = 0; k < rec->n; k++) { /* both in the order of names */
      while (j < m && (r->feature[j].nname != strlen(rec->key[k]) ||
                       memcmp(r->feature[j].name, rec->key[k], r->feature[j].nname)))
        j++;
      FeatureKind kind = s->field[k].dtype == DT_F32   ? FEATURE_FLOAT
                         : s->field[k].dtype == DT_I64 ? FEATURE_INT
                                                       : FEATURE_BYTES;
      int64_t want = (int64_t)(s->bytes[k] / (size_t)dt_bytes(s->field[k].dtype));
      if (j < m && r->feature[j].kind == kind && put_feature(&r->feature[j], want, to[k], i)) continue;
      char what[160];
      snprintf(what, sizeof what, j < m ? "has another type or size of %.60s than the first" : "has no feature %.60s",
               rec->key[k]);
      return damaged(f, rec->path, r->number, what), -1;
    }
  }
  return n;
}

static bool record_open(DataIter *it, Fault *f) {
  const Records *rec = it->set->self;
  Reader *r = calloc(1, sizeof *r);
  if (!r) return data_no_memory(f, sizeof *r);
  it->self = r;
  return reader_open(r, rec->path, f);
}
static void record_close(DataIter *it) {
  if (it->self) reader_close(it->self);
  free(it->self);
}

/* A name as a word of tg: other characters become `_`. */
static char *word(Arena *a, const Feature *x, int k) {
  char *w = arena_strndup(a, (const char *)x->name, x->nname);
  for (char *s = w; *s; s++)
    if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || *s == '_' || (s > w && *s >= '0' && *s <= '9')))
      *s = '_';
  return *w ? w : arena_printf(a, "f%d", k);
}

int64_t data_tfrecord(DataTable *t, const char *path, Fault *f) {
  static const DataOps ops = {.open = record_open, .close = record_close, .read = record_read};
  Arena *a = data_arena(t);
  char *key = data_file_text(t, "tfrecord", path);
  int64_t id = data_known(t, key);
  if (id >= 0) return id;
  Reader r;
  size_t n;
  int m = -1;
  f->id = E_NONE;
  if (reader_open(&r, path, f)) {
    int more = next_record(&r, path, &n, f);
    if (more == 0) io_fail(f, path, "is empty");
    if (more > 0) m = read_features(&r, path, n, f);
    if (m == 0) io_fail(f, path, "its first record has no features"), m = -1;
  }
  if (m > 0) {
    DataField *field = arena_array(a, DataField, m);
    Records *rec = arena_new_of(a, Records);
    *rec = (Records){.path = arena_strdup(a, path), .n = m, .key = arena_array(a, const char *, m)};
    for (int k = 0; k < m; k++) {
      const Feature *x = &r.feature[k];
      DType dt = x->kind == FEATURE_FLOAT ? DT_F32 : x->kind == FEATURE_INT ? DT_I64 : DT_U8;
      bool scalar = x->n == 1 && x->kind != FEATURE_BYTES;
      field[k] = (DataField){.name = word(a, x, k), .dtype = dt, .rank = !scalar, .dim = {x->n}};
      rec->key[k] = arena_strndup(a, (const char *)x->name, x->nname);
    }
    DataSet *s = data_set_new(t, &ops, m, field, 0, NULL);
    s->slow = true, s->self = rec, s->what = rec->path;
    id = data_set_add(s);
    data_remember(t, key, id);
  } else if (f->id == R_DATA)
    f->id = M_FILE;
  reader_close(&r);
  return id;
}
