/* Zip archives (PKWARE's APPNOTE.TXT), as much as npz files need.
 *
 *   [local header, name, extra, data] ...   [central entry, name, extra] ...   (zip64 end, its locator)   end record
 *
 * Reading trusts the central directory, found through the end record at the end of the file; fields that are all ones
 * have their 64-bit value in the entry's extra field 1. All integers are little-endian. */
#include "stdlib/native/zip.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { END = 22, LOCATOR = 20, END64 = 56, CENTRAL = 46, LOCAL = 30, MAX_COMMENT = 65535, MAX_DIRECTORY = 1 << 26 };
static const uint32_t ONES = 0xffffffff;

static uint64_t le(const uint8_t *p, int bytes) {
  uint64_t v = 0;
  for (int i = bytes - 1; i >= 0; i--) v = v << 8 | p[i];
  return v;
}

/* ---- the directory -------------------------------------------------------------------------------------------- */
typedef struct Directory {
  uint64_t at, size, count;
} Directory;

static bool malformed(In *in) { return io_fail(in->fault, in->path, "is not a zip archive, or a damaged one"); }

static bool find_end64(In *in, uint64_t end_at, Directory *d) {
  uint8_t loc[LOCATOR], e[END64];
  if (end_at < LOCATOR) return malformed(in);
  if (!in_read(in, end_at - LOCATOR, loc, LOCATOR)) return false;
  if (le(loc, 4) != 0x07064b50) return malformed(in);
  if (!in_read(in, le(loc + 8, 8), e, END64)) return false;
  if (le(e, 4) != 0x06064b50) return malformed(in);
  *d = (Directory){.count = le(e + 32, 8), .size = le(e + 40, 8), .at = le(e + 48, 8)};
  return true;
}

static bool find_directory(In *in, Directory *d) {
  if (in->size < END) return malformed(in);
  size_t tail = in->size < END + MAX_COMMENT ? (size_t)in->size : END + MAX_COMMENT;
  uint8_t *buf = malloc(tail);
  if (!buf) return fault_set(in->fault, R_MEMORY, (Span){0}, "out of memory"), false;
  bool ok = in_read(in, in->size - tail, buf, tail), found = false;
  for (size_t i = tail - END + 1; ok && !found && i-- > 0;) {
    uint8_t *e = buf + i;
    if (le(e, 4) != 0x06054b50 || i + END + le(e + 20, 2) != tail) continue;
    found = true;
    *d = (Directory){.count = le(e + 10, 2), .size = le(e + 12, 4), .at = le(e + 16, 4)};
    if (d->count == 0xffff || d->size == ONES || d->at == ONES) ok = find_end64(in, in->size - tail + i, d);
  }
  free(buf);
  if (!ok) return false;
  return found && d->at <= in->size && d->size <= in->size - d->at && d->size <= MAX_DIRECTORY &&
                 d->count <= d->size / CENTRAL
             ? true
             : malformed(in);
}

/* 64-bit values stand in extra field 1 in this order, each only when its 32-bit field is all ones. */
static bool extra64(const uint8_t *x, size_t n, ZipEntry *e) {
  uint64_t *field[] = {&e->size, &e->packed, &e->at};
  while (n >= 4) {
    uint64_t id = le(x, 2), len = le(x + 2, 2);
    x += 4, n -= 4;
    if (len > n) return false;
    for (int k = 0; id == 1 && k < 3; k++) {
      if (*field[k] != ONES) continue;
      if (len < 8) return false;
      *field[k] = le(x, 8);
      x += 8, n -= 8, len -= 8;
    }
    x += len, n -= len;
  }
  return true;
}

static bool parse_entries(Arena *a, In *in, const uint8_t *p, const Directory *d, ZipEntry *out) {
  size_t left = (size_t)d->size;
  for (uint64_t k = 0; k < d->count; k++) {
    if (left < CENTRAL || le(p, 4) != 0x02014b50) return malformed(in);
    size_t name = le(p + 28, 2), extra = le(p + 30, 2), comment = le(p + 32, 2), all = CENTRAL + name + extra + comment;
    if (all > left || memchr(p + CENTRAL, 0, name)) return malformed(in);
    ZipEntry *e = &out[k];
    *e = (ZipEntry){.name = arena_strndup(a, (const char *)p + CENTRAL, name),
                    .flags = (uint16_t)le(p + 8, 2),
                    .method = (uint16_t)le(p + 10, 2),
                    .crc = (uint32_t)le(p + 16, 4),
                    .packed = le(p + 20, 4),
                    .size = le(p + 24, 4),
                    .at = le(p + 42, 4)};
    if (!extra64(p + CENTRAL + name, extra, e)) return malformed(in);
    if (e->at > in->size || e->packed > in->size - e->at) return io_fail(in->fault, in->path, "is truncated");
    if (e->method == ZIP_STORED && e->packed != e->size) return malformed(in);
    if (e->method == ZIP_DEFLATED && e->size / 1040 > e->packed)
      return malformed(in); /* deflate makes at most 1032 of one */
    p += all, left -= all;
  }
  return true;
}

bool zip_list(Arena *a, In *in, int *n, ZipEntry **out) {
  Directory d = {0};
  if (!find_directory(in, &d)) return false;
  uint8_t *buf = malloc(d.size ? (size_t)d.size : 1);
  if (!buf) return fault_set(in->fault, R_MEMORY, (Span){0}, "out of memory"), false;
  *n = (int)d.count;
  *out = arena_array(a, ZipEntry, *n);
  bool ok = in_read(in, d.at, buf, (size_t)d.size) && parse_entries(a, in, buf, &d, *out);
  free(buf);
  return ok;
}

/* ---- reading a member ----------------------------------------------------------------------------------------- */
enum { CHUNK = 1 << 16 };
struct ZipReader {
  In *in;
  const ZipEntry *entry;
  uint64_t at, left; /* packed bytes: where they go on, how many */
  uint64_t todo;     /* unpacked bytes not delivered yet */
  uint32_t crc;
  bool inflating;
  z_stream z;
  uint8_t buf[CHUNK];
};

ZipReader *zip_open(In *in, const ZipEntry *e) {
  uint8_t h[LOCAL];
  if (e->flags & 1) return io_fail(in->fault, in->path, "member %.100s is encrypted", e->name), NULL;
  if (e->method != ZIP_STORED && e->method != ZIP_DEFLATED)
    return io_fail(in->fault, in->path, "member %.100s has compression method %d", e->name, e->method), NULL;
  if (!in_read(in, e->at, h, LOCAL)) return NULL;
  uint64_t data = e->at + LOCAL + le(h + 26, 2) + le(h + 28, 2);
  if (le(h, 4) != 0x04034b50) return malformed(in), NULL;
  if (data > in->size || e->packed > in->size - data) return io_fail(in->fault, in->path, "is truncated"), NULL;
  ZipReader *r = calloc(1, sizeof *r);
  if (!r) return fault_set(in->fault, R_MEMORY, (Span){0}, "out of memory"), NULL;
  r->in = in, r->entry = e, r->at = data, r->left = e->packed, r->todo = e->size, r->crc = (uint32_t)crc32(0, NULL, 0);
  r->inflating = e->method == ZIP_DEFLATED;
  if (r->inflating && inflateInit2(&r->z, -MAX_WBITS) != Z_OK) {
    free(r);
    return fault_set(in->fault, R_MEMORY, (Span){0}, "out of memory"), NULL;
  }
  return r;
}

static bool refill(ZipReader *r) {
  size_t n = r->left < CHUNK ? (size_t)r->left : CHUNK;
  if (!n) return io_fail(r->in->fault, r->in->path, "member %.100s is truncated", r->entry->name);
  if (!in_read(r->in, r->at, r->buf, n)) return false;
  r->at += n, r->left -= n;
  r->z.next_in = r->buf, r->z.avail_in = (unsigned)n;
  return true;
}

static bool read_inflated(ZipReader *r, uint8_t *to, size_t n) {
  while (n) {
    if (!r->z.avail_in && !refill(r)) return false;
    unsigned want = n < CHUNK ? (unsigned)n : CHUNK;
    r->z.next_out = to, r->z.avail_out = want;
    int code = inflate(&r->z, Z_NO_FLUSH);
    size_t got = want - r->z.avail_out;
    to += got, n -= got;
    if (code == Z_STREAM_END ? n > 0 : code != Z_OK && !(code == Z_BUF_ERROR && !r->z.avail_in))
      return io_fail(r->in->fault, r->in->path, "member %.100s is damaged", r->entry->name);
  }
  return true;
}

bool zip_read(ZipReader *r, void *to, size_t n) {
  if (n > r->todo) return io_fail(r->in->fault, r->in->path, "member %.100s is truncated", r->entry->name);
  if (r->inflating ? !read_inflated(r, to, n) : !in_read(r->in, r->at, to, n)) return false;
  if (!r->inflating) r->at += n;
  r->todo -= n;
  r->crc = (uint32_t)crc32_z(r->crc, to, n);
  if (!r->todo && r->crc != r->entry->crc)
    return io_fail(r->in->fault, r->in->path, "member %.100s is damaged: its checksum is wrong", r->entry->name);
  return true;
}

void zip_close(ZipReader *r) {
  if (r && r->inflating) inflateEnd(&r->z);
  free(r);
}

/* ---- writing -------------------------------------------------------------------------------------------------- */
void zip_begin(ZipWriter *z, Out *out, Arena *a) { *z = (ZipWriter){.out = out, .arena = a, .limit = ONES}; }

static void put(ZipWriter *z, uint64_t v, int bytes) {
  for (int i = 0; i < bytes; i++) fputc((int)(v >> (8 * i) & 255), z->out->file);
  z->at += (uint64_t)bytes;
}
static void put_bytes(ZipWriter *z, const void *p, size_t n) {
  fwrite(p, 1, n, z->out->file);
  z->at += n;
}

static bool big(const ZipWriter *z, const ZipEntry *e) { return e->size >= z->limit || e->at >= z->limit; }

/* The fields that local and central headers share, from "version needed" to the extra field's length. */
static void put_common(ZipWriter *z, const ZipEntry *e, int extra) {
  bool b = big(z, e);
  put(z, b ? 45 : 20, 2), put(z, 1 << 11 /* names are UTF-8 */, 2), put(z, ZIP_STORED, 2);
  put(z, 0, 2), put(z, 1 << 5 | 1, 2); /* 1980-01-01: equal data give equal files */
  put(z, e->crc, 4), put(z, b ? ONES : e->size, 4), put(z, b ? ONES : e->size, 4);
  put(z, strlen(e->name), 2), put(z, b ? (uint64_t)extra : 0, 2);
}

void zip_add(ZipWriter *z, const char *name, const void *p, size_t np, const void *q, size_t nq) {
  ZipEntry e = {.name = arena_strdup(z->arena, name), .at = z->at, .size = np + nq, .packed = np + nq};
  e.crc = (uint32_t)crc32_z(crc32_z(crc32(0, NULL, 0), p, np), q, nq);
  put(z, 0x04034b50, 4), put_common(z, &e, 20), put_bytes(z, name, strlen(name));
  if (big(z, &e)) put(z, 1, 2), put(z, 16, 2), put(z, e.size, 8), put(z, e.size, 8);
  put_bytes(z, p, np), put_bytes(z, q, nq);
  vec_push(z->arena, &z->done, e);
}

void zip_end(ZipWriter *z) {
  uint64_t at = z->at, n = (uint64_t)z->done.n;
  for (int k = 0; k < z->done.n; k++) {
    const ZipEntry *e = &z->done.at[k];
    bool b = big(z, e);
    put(z, 0x02014b50, 4), put(z, 45, 2), put_common(z, e, 28);
    put(z, 0, 2), put(z, 0, 2), put(z, 0, 2), put(z, 0, 4); /* comment, disk, attributes */
    put(z, b ? ONES : e->at, 4), put_bytes(z, e->name, strlen(e->name));
    if (b) put(z, 1, 2), put(z, 24, 2), put(z, e->size, 8), put(z, e->size, 8), put(z, e->at, 8);
  }
  uint64_t size = z->at - at, end64 = z->at;
  bool b = at >= z->limit || size >= z->limit || n >= 0xffff;
  if (b) {
    put(z, 0x06064b50, 4), put(z, END64 - 12, 8), put(z, 45, 2), put(z, 45, 2), put(z, 0, 4), put(z, 0, 4);
    put(z, n, 8), put(z, n, 8), put(z, size, 8), put(z, at, 8);
    put(z, 0x07064b50, 4), put(z, 0, 4), put(z, end64, 8), put(z, 1, 4);
  }
  uint64_t n16 = b ? 0xffff : n;
  put(z, 0x06054b50, 4), put(z, 0, 4), put(z, n16, 2), put(z, n16, 2);
  put(z, b ? ONES : size, 4), put(z, b ? ONES : at, 4), put(z, 0, 2);
}
