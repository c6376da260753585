/* IDX, the format of MNIST: 0 0 code rank, then rank sizes of 4 bytes, then the data; all big-endian; often gzipped. */
#include "stdlib/native/idx.h"
#include "stdlib/native/io.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const struct {
  uint8_t code;
  DType dtype;
} codes[] = {
    {0x08, DT_U8}, {0x09, DT_I8}, {0x0b, DT_I16}, {0x0c, DT_I32}, {0x0d, DT_F32}, {0x0e, DT_F64},
};

static bool read_exactly(Stream *s, const char *path, void *to, size_t n, Fault *f) {
  int64_t got = stream_read(s, to, n);
  return got < 0 ? false : (size_t)got == n ? true : io_fail(f, path, "is truncated");
}

static bool read_header(Stream *s, const char *path, FileTensor *t, Fault *f) {
  uint8_t h[4], d[4];
  if (!read_exactly(s, path, h, 4, f)) return false;
  bool known = false;
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
    if (codes[i].code == h[2]) t->dtype = codes[i].dtype, known = true;
  if (h[0] || h[1] || !known) return io_fail(f, path, "is not an IDX file");
  if (h[3] > TG_MAX_RANK) return io_fail(f, path, "has more than %d axes", TG_MAX_RANK);
  t->rank = h[3];
  for (int i = 0; i < t->rank; i++) {
    if (!read_exactly(s, path, d, 4, f)) return false;
    t->dim[i] = (int64_t)d[0] << 24 | d[1] << 16 | d[2] << 8 | d[3];
  }
  size_t bytes;
  if (!shape_bytes(t->dtype, t->rank, t->dim, &bytes)) return io_fail(f, path, "is too large");
  if (bytes > stream_bound(s)) return io_fail(f, path, "is truncated");
  return true;
}

bool idx_header(const char *path, FileTensor *out, Fault *f) {
  Stream *s = stream_open(path, f);
  bool ok = s && read_header(s, path, out, f);
  stream_close(s);
  return ok;
}

/* Big-endian to and from the machine's order. */
static void swap_bytes(void *data, int64_t n, int size) {
  uint16_t one = 1;
  if (size == 1 || !*(uint8_t *)&one) return;
  uint8_t *p = data;
  for (int64_t i = 0; i < n; i++, p += size)
    for (int k = 0; k < size / 2; k++) {
      uint8_t b = p[k];
      p[k] = p[size - 1 - k], p[size - 1 - k] = b;
    }
}

/* Nothing may follow the data; of a gzip file this also checks length and checksum. */
static bool at_end(Stream *s, const char *path, Fault *f) {
  char more;
  int64_t n = stream_read(s, &more, 1);
  return n < 0 ? false : n == 0 ? true : io_fail(f, path, "has more data than its header says");
}

static bool read_idx(const char *path, Tensor *out, Fault *f) {
  FileTensor t;
  void *data = NULL;
  Stream *s = stream_open(path, f);
  bool ok =
      s && read_header(s, path, &t, f) && result_fits(path, &t, out, f) && (data = result_begin(&t, out, f)) != NULL;
  if (ok) {
    int64_t n = tensor_count(out);
    ok = read_exactly(s, path, data, (size_t)n * (size_t)dt_bytes(t.dtype), f) && at_end(s, path, f);
    if (ok) swap_bytes(data, n, dt_bytes(t.dtype));
    result_end(&t, out, data);
  }
  stream_close(s);
  return ok;
}

/* load_idx() -> the tensor; attribute 0.s the path. Faults: what idx_header refuses; truncated or damaged data. */
static bool run_load(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  char buf[IO_PATH];
  if (nattr != 1 || !attr[0].s || nout != 1)
    return fault_set(f, R_NATIVE, (Span){0}, "load_idx: wrong arguments"), false;
  return run_status(read_idx(io_path(ctx, attr[0].s, buf), &out[0], f), f);
}

/* ---- writing -------------------------------------------------------------------------------------------------- */
static bool make_header(const Tensor *t, uint8_t *h, size_t *n, Fault *f) {
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
    if (codes[i].dtype == t->dtype) h[2] = codes[i].code;
  if (!h[2]) {
    fault_set(f, R_NATIVE, (Span){0}, "save_idx: IDX has no %s; it has u8 i8 i16 i32 f32 f64", dt_name(t->dtype));
    return false;
  }
  h[3] = (uint8_t)t->rank;
  for (int d = 0; d < t->rank; d++) {
    if (t->dim[d] > UINT32_MAX) return fault_set(f, R_NATIVE, (Span){0}, "save_idx: an axis is over 2^32 - 1"), false;
    for (int k = 0; k < 4; k++) h[4 + 4 * d + k] = (uint8_t)(t->dim[d] >> (24 - 8 * k));
  }
  *n = 4 + 4 * (size_t)t->rank;
  return true;
}

/* Deflates (or copies) n bytes to the file as one gzip member; `flush` Z_FINISH at the end. */
static void put(Out *o, z_stream *z, const void *p, size_t n, int flush) {
  if (!z) {
    fwrite(p, 1, n, o->file);
    return;
  }
  uint8_t buf[1 << 14];
  z->next_in = (uint8_t *)(uintptr_t)p, z->avail_in = (unsigned)n;
  do {
    z->next_out = buf, z->avail_out = sizeof buf;
    deflate(z, flush);
    fwrite(buf, 1, sizeof buf - z->avail_out, o->file);
  } while (!z->avail_out);
}

static void write_data(Out *o, z_stream *z, const Tensor *t) {
  uint8_t buf[1 << 13];
  size_t size = (size_t)dt_bytes(t->dtype), left = tensor_bytes(t);
  for (const uint8_t *p = t->data; left;) {
    size_t n = left < sizeof buf ? left : sizeof buf;
    memcpy(buf, p, n);
    swap_bytes(buf, (int64_t)(n / size), (int)size);
    put(o, z, buf, n, Z_NO_FLUSH);
    p += n, left -= n;
  }
  if (z) put(o, z, buf, 0, Z_FINISH);
}

/* save_idx(x), attribute 0.s the path; a name ending in .gz is compressed. Faults: dtype without a code; cannot be
 * written. */
static bool run_save(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  char pathbuf[IO_PATH];
  uint8_t head[4 + 4 * TG_MAX_RANK] = {0};
  size_t n;
  if (nattr != 1 || !attr[0].s || nin != 1)
    return fault_set(f, R_NATIVE, (Span){0}, "save_idx: wrong arguments"), false;
  if (!make_header(&in[0], head, &n, f)) return false;
  const char *path = io_path(ctx, attr[0].s, pathbuf), *dot = strrchr(path, '.');
  z_stream z = {0};
  bool gz = dot && !strcmp(dot, ".gz");
  if (gz && deflateInit2(&z, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    return fault_set(f, R_MEMORY, (Span){0}, "out of memory"), false;
  Out o;
  bool ok = out_open(&o, path, f);
  if (ok) {
    put(&o, gz ? &z : NULL, head, n, Z_NO_FLUSH);
    write_data(&o, gz ? &z : NULL, &in[0]);
    ok = out_commit(&o);
  }
  if (gz) deflateEnd(&z);
  return run_status(ok, f);
}

const Native native_load_idx = {.name = "load_idx", .run = run_load};
const Native native_save_idx = {.name = "save_idx", .effect = true, .who = RUN_FIRST_TELL, .run = run_save};
