/* npy: NumPy's format for one array (numpy/lib/format.py describes it).
 *
 *   \x93NUMPY  major minor  header length (2 bytes, little-endian; 4 from version 2)  header  data
 *
 * The header is a Python dict, {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }, padded with spaces so that
 * the data begin at a multiple of 64. Only that dict is parsed, in any order and spacing; nothing of Python beside it.
 */
#include "stdlib/native/npy.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- dtypes --------------------------------------------------------------------------------------------------- */
static const struct {
  const char *code;
  DType dtype;
} codes[] = {
    {"b1", DT_BOOL}, {"u1", DT_U8},  {"i1", DT_I8},  {"i2", DT_I16}, {"i4", DT_I32},
    {"i8", DT_I64},  {"f2", DT_F16}, {"f4", DT_F32}, {"f8", DT_F64},
};

static bool dtype_of(const char *descr, const char *path, DType *out, Fault *f) {
  const char *code = descr + (*descr && strchr("<>|=", *descr) ? 1 : 0);
  if (*descr == '>' && strcmp(code, "u1") && strcmp(code, "i1") && strcmp(code, "b1"))
    return io_fail(f, path, "is big-endian (dtype '%s'); convert it with NumPy: x.astype('<%s')", descr, code);
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
    if (!strcmp(codes[i].code, code)) return *out = codes[i].dtype, true;
  if (!strcmp(code, "V2")) return io_fail(f, path, "has dtype 'V2' (perhaps bf16); save it as float32");
  const char *hint = code[0] == 'u' ? "; convert it with NumPy: x.astype('int64')" : "";
  return io_fail(f, path, "dtype '%s' has no counterpart in tg%s", descr, hint);
}

/* ---- the header's dict ---------------------------------------------------------------------------------------- */
typedef struct Text {
  const char *p, *end;
} Text;

static void blank(Text *t) {
  while (t->p < t->end && isspace((unsigned char)*t->p)) t->p++;
}
static bool take(Text *t, char c) {
  blank(t);
  return t->p < t->end && *t->p == c ? t->p++, true : false;
}
static bool word(Text *t, const char *w) {
  blank(t);
  size_t n = strlen(w);
  return (size_t)(t->end - t->p) >= n && !memcmp(t->p, w, n) ? t->p += n, true : false;
}
/* A quoted string without escapes. */
static bool quoted(Text *t, char *buf, size_t n) {
  blank(t);
  if (t->p == t->end || (*t->p != '\'' && *t->p != '"')) return false;
  const char *from = t->p + 1, *to = memchr(from, *t->p, (size_t)(t->end - from));
  if (!to || (size_t)(to - from) >= n || memchr(from, '\\', (size_t)(to - from)) ||
      memchr(from, 0, (size_t)(to - from)))
    return false;
  memcpy(buf, from, (size_t)(to - from)), buf[to - from] = 0;
  t->p = to + 1;
  return true;
}
static bool number(Text *t, int64_t *out) {
  blank(t);
  int64_t v = 0;
  const char *from = t->p;
  for (; t->p < t->end && isdigit((unsigned char)*t->p); t->p++)
    if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *t->p - '0', &v)) return false;
  if (t->p == from) return false;
  if (t->p < t->end && *t->p == 'L') t->p++; /* Python 2 */
  *out = v;
  return true;
}

typedef enum { DICT_OK, DICT_MALFORMED, DICT_RANK, DICT_STRUCTURED } DictResult;

static DictResult shape(Text *t, FileTensor *out) {
  if (!take(t, '(')) return DICT_MALFORMED;
  for (out->rank = 0; !take(t, ')');) {
    int64_t n;
    if (!number(t, &n)) return DICT_MALFORMED;
    if (out->rank == TG_MAX_RANK) return DICT_RANK;
    out->dim[out->rank++] = n;
    if (!take(t, ',')) return take(t, ')') ? DICT_OK : DICT_MALFORMED;
  }
  return DICT_OK;
}

static DictResult dict(Text t, Npy *out, char *descr, size_t n) {
  unsigned seen = 0;
  if (!take(&t, '{')) return DICT_MALFORMED;
  while (!take(&t, '}')) {
    char key[32];
    if (!quoted(&t, key, sizeof key) || !take(&t, ':')) return DICT_MALFORMED;
    if (!strcmp(key, "descr")) {
      if (take(&t, '[')) return DICT_STRUCTURED;
      if (!quoted(&t, descr, n)) return DICT_MALFORMED;
      seen |= 1;
    } else if (!strcmp(key, "fortran_order")) {
      out->fortran = word(&t, "True");
      if (!out->fortran && !word(&t, "False")) return DICT_MALFORMED;
      seen |= 2;
    } else if (!strcmp(key, "shape")) {
      DictResult r = shape(&t, &out->type);
      if (r != DICT_OK) return r;
      seen |= 4;
    } else {
      return DICT_MALFORMED;
    }
    if (!take(&t, ',')) {
      if (!take(&t, '}')) return DICT_MALFORMED;
      break;
    }
  }
  return seen == 7 ? DICT_OK : DICT_MALFORMED;
}

/* ---- header --------------------------------------------------------------------------------------------------- */
size_t npy_header_bytes(const uint8_t *p, const char *path, Fault *f) {
  if (memcmp(p, "\x93NUMPY", 6)) return io_fail(f, path, "is not an npy file"), 0;
  if (p[6] < 1 || p[6] > 3) return io_fail(f, path, "is npy version %d; 1 to 3 are known", p[6]), 0;
  size_t n = p[6] == 1 ? 10 + (size_t)p[8] + ((size_t)p[9] << 8)
                       : 12 + (size_t)p[8] + ((size_t)p[9] << 8) + ((size_t)p[10] << 16) + ((size_t)p[11] << 24);
  if (n > NPY_MAX_HEADER) return io_fail(f, path, "has a malformed header"), 0;
  return n;
}

bool npy_parse(const uint8_t *head, size_t n, uint64_t total, const char *path, Npy *out, Fault *f) {
  *out = (Npy){.data_at = n};
  char descr[64] = "";
  const char *text = (const char *)head;
  switch (dict((Text){text + (head[6] == 1 ? 10 : 12), text + n}, out, descr, sizeof descr)) {
  case DICT_OK:
    break;
  case DICT_RANK:
    return io_fail(f, path, "has more than %d axes", TG_MAX_RANK);
  case DICT_STRUCTURED:
    return io_fail(f, path, "is a structured array; save its fields one by one");
  default:
    return io_fail(f, path, "has a malformed header");
  }
  size_t bytes;
  if (!dtype_of(descr, path, &out->type.dtype, f)) return false;
  if (!shape_bytes(out->type.dtype, out->type.rank, out->type.dim, &bytes)) return io_fail(f, path, "is too large");
  if (n > total || bytes > total - n) return io_fail(f, path, "is truncated");
  return true;
}

static bool open_npy(In *in, const char *path, Npy *out, Fault *f) {
  if (!in_open(in, path, f)) return false;
  uint8_t prefix[NPY_PREFIX] = {0};
  size_t n = in->size < NPY_PREFIX ? (size_t)in->size : NPY_PREFIX;
  if (!in_read(in, 0, prefix, n)) return false;
  size_t bytes = npy_header_bytes(prefix, path, f);
  if (!bytes) return false;
  if (bytes > in->size) return io_fail(f, path, "is truncated");
  uint8_t *head = malloc(bytes);
  if (!head) return fault_set(f, R_MEMORY, (Span){0}, "out of memory"), false;
  bool ok = in_read(in, 0, head, bytes) && npy_parse(head, bytes, in->size, path, out, f);
  free(head);
  return ok;
}

bool npy_open_header(const char *path, Npy *out, Fault *f) {
  In in;
  bool ok = open_npy(&in, path, out, f);
  in_close(&in);
  return ok;
}

bool npy_header(const char *path, FileTensor *out, Fault *f) {
  Npy npy;
  bool ok = npy_open_header(path, &npy, f);
  if (ok) *out = npy.type;
  return ok;
}

/* ---- reading -------------------------------------------------------------------------------------------------- */
bool npy_unturn(const Npy *t, void *data, Fault *f) {
  int rank = t->type.rank;
  size_t bytes, size = (size_t)dt_bytes(t->type.dtype);
  if (!t->fortran || rank < 2 || !shape_bytes(t->type.dtype, rank, t->type.dim, &bytes) || !bytes) return true;
  char *copy = malloc(bytes);
  if (!copy) return fault_set(f, R_MEMORY, (Span){0}, "out of memory"), false;
  memcpy(copy, data, bytes);
  int64_t at[TG_MAX_RANK] = {0}, stride[TG_MAX_RANK], from = 0;
  stride[0] = 1;
  for (int d = 1; d < rank; d++) stride[d] = stride[d - 1] * t->type.dim[d - 1];
  for (char *to = data; to < (char *)data + bytes; to += size) {
    memcpy(to, copy + (size_t)from * size, size);
    for (int d = rank - 1; d >= 0; d--) { /* the next index, last axis fastest */
      from += stride[d];
      if (++at[d] < t->type.dim[d]) break;
      from -= stride[d] * at[d], at[d] = 0;
    }
  }
  free(copy);
  return true;
}

static bool read_npy(const char *path, Tensor *out, Fault *f) {
  In in;
  Npy npy;
  void *data = NULL;
  bool ok = open_npy(&in, path, &npy, f) && result_fits(path, &npy.type, out, f) &&
            (data = result_begin(&npy.type, out, f)) != NULL;
  if (ok) {
    size_t bytes = (size_t)tensor_count(out) * (size_t)dt_bytes(npy.type.dtype);
    ok = in_read(&in, npy.data_at, data, bytes) && npy_unturn(&npy, data, f);
    result_end(&npy.type, out, data);
  }
  in_close(&in);
  return ok;
}

/* load_npy() -> the tensor; attribute 0.s the path. Faults: what npy_header refuses; the file changed. */
static bool run_load(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  char buf[IO_PATH];
  if (nattr != 1 || !attr[0].s || nout != 1)
    return fault_set(f, R_NATIVE, (Span){0}, "load_npy: wrong arguments"), false;
  return run_status(read_npy(io_path(ctx, attr[0].s, buf), &out[0], f), f);
}

/* ---- writing -------------------------------------------------------------------------------------------------- */
size_t npy_make_header(const Tensor *t, const char *path, char buf[NPY_WRITE_HEADER], Fault *f) {
  const char *code = NULL;
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
    if (codes[i].dtype == t->dtype) code = codes[i].code;
  if (!code) {
    fault_set(f, R_NATIVE, (Span){0}, "%.200s: npy has no %s; convert it first, as in f32(x)", path, dt_name(t->dtype));
    return 0;
  }
  char *h = buf + 10;
  size_t room = NPY_WRITE_HEADER - 10;
  int n = snprintf(h, room, "{'descr': '%c%s', 'fortran_order': False, 'shape': (", dt_bytes(t->dtype) == 1 ? '|' : '<',
                   code);
  for (int d = 0; d < t->rank; d++)
    n += snprintf(h + n, room - (size_t)n, "%s%lld%s", d ? ", " : "", (long long)t->dim[d], t->rank == 1 ? "," : "");
  n += snprintf(h + n, room - (size_t)n, "), }");
  size_t total = (10 + (size_t)n + 1 + 63) / 64 * 64;
  memset(h + n, ' ', total - 10 - (size_t)n - 1);
  buf[total - 1] = '\n';
  memcpy(buf, "\x93NUMPY\x01\x00", 8);
  buf[8] = (char)((total - 10) & 255), buf[9] = (char)((total - 10) >> 8);
  return total;
}

/* save_npy(x), attribute 0.s the path. Faults: bf16; the file cannot be written. */
static bool run_save(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  char buf[IO_PATH], head[NPY_WRITE_HEADER];
  if (nattr != 1 || !attr[0].s || nin != 1)
    return fault_set(f, R_NATIVE, (Span){0}, "save_npy: wrong arguments"), false;
  const char *path = io_path(ctx, attr[0].s, buf);
  size_t n = npy_make_header(&in[0], path, head, f);
  Out o;
  if (!n) return false;
  if (!out_open(&o, path, f)) return run_status(false, f);
  fwrite(head, 1, n, o.file);
  fwrite(in[0].data, 1, tensor_bytes(&in[0]), o.file);
  return run_status(out_commit(&o), f);
}

const Native native_load_npy = {.name = "load_npy", .run = run_load};
const Native native_save_npy = {.name = "save_npy", .effect = true, .who = RUN_FIRST_TELL, .run = run_save};
