/* What the fuzz targets of file formats share: the input as a file in memory, and results that fit. */
#ifndef TG_TESTS_FUZZ_FILE_H
#define TG_TESTS_FUZZ_FILE_H
#include "stdlib/native/files.h"
#include "stdlib/native/host.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct MemFile {
  int fd;
  char path[64];
} MemFile;

static inline MemFile mem_file(const uint8_t *data, size_t n) {
  MemFile f = {.fd = memfd_create("fuzz", MFD_CLOEXEC)};
  if (f.fd < 0) abort();
  for (size_t done = 0; done < n;) {
    ssize_t got = write(f.fd, data + done, n - done);
    if (got <= 0) abort();
    done += (size_t)got;
  }
  snprintf(f.path, sizeof f.path, "/proc/self/fd/%d", f.fd);
  return f;
}

/* The header's promise as a result tensor; false when it is over 64 MB (nothing is read then). */
static inline bool small_result(Tensor *t, const FileTensor *h) {
  size_t bytes;
  return shape_bytes(h->dtype, h->rank, h->dim, &bytes) && bytes < (64u << 20) &&
         tensor_alloc(t, h->dtype, h->rank, h->dim);
}

static inline const Native *fuzz_native(Arena *a, const char *name) {
  Natives all = {.arena = a};
  native_register_all(&all);
  const Native *n = natives_find(&all, name);
  if (!n) abort();
  return n;
}
#endif
