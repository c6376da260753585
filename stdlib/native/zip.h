/* Zip archives, as much as npz files need: stored and deflated members, zip64; no encryption, no spanning. */
#ifndef TG_STDLIB_NATIVE_ZIP_H
#define TG_STDLIB_NATIVE_ZIP_H
#include "stdlib/native/io.h"

typedef struct ZipEntry {
  const char *name;
  uint64_t at, packed, size;
  uint32_t crc;
  uint16_t method, flags;
} ZipEntry;
enum { ZIP_STORED = 0, ZIP_DEFLATED = 8 };

/* The central directory; names live in `a`. Offsets and packed sizes are within the file. */
bool zip_list(Arena *a, In *in, int *n, ZipEntry **out);

/* One member from its beginning. The entry must stay alive. */
typedef struct ZipReader ZipReader;
ZipReader *zip_open(In *in, const ZipEntry *e);
/* Exactly n bytes. After the last byte of the member its checksum is compared. */
bool zip_read(ZipReader *r, void *to, size_t n);
void zip_close(ZipReader *r);

/* Writing stored members. `limit` is where 32-bit fields end (tests lower it to get zip64 records early). */
typedef struct ZipWriter {
  Out *out;
  Arena *arena;
  uint64_t at, limit;
  VEC(ZipEntry) done;
} ZipWriter;
void zip_begin(ZipWriter *z, Out *out, Arena *a);
/* A member made of two pieces (a header and the data). */
void zip_add(ZipWriter *z, const char *name, const void *p, size_t np, const void *q, size_t nq);
void zip_end(ZipWriter *z);
#endif
