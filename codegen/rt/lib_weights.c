/* Weights beside the library: a safetensors file, mapped read-only, so that processes share its pages.
 *
 * The header is JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}. Only what is looked
 * for is read: a name as a quoted key, then the two offsets inside its braces. Everything is checked against the file's
 * size. */
#include "codegen/rt/lib.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void lib_unmap_weights(LibContext *c) {
  if (c->map) munmap(c->map, c->map_bytes);
  c->map = NULL;
}

static const char *skip(const char *p, const char *end, const char *text) {
  for (; p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == ':'); p++) {}
  size_t n = strlen(text);
  return (size_t)(end - p) >= n && !memcmp(p, text, n) ? p + n : NULL;
}

/* After "text" in quotes, or NULL. Names hold no quotes or backslashes: codegen/aot writes the file. */
static const char *after_key(const char *p, const char *end, const char *text) {
  size_t n = strlen(text);
  for (; (p = memchr(p, '"', (size_t)(end - p))); p++)
    if ((size_t)(end - p) > n + 1 && !memcmp(p + 1, text, n) && p[n + 1] == '"') return p + n + 2;
  return NULL;
}

static const char *number(const char *p, const char *end, uint64_t *v) {
  for (; p < end && (*p == ' ' || *p == ','); p++) {}
  if (p == end || *p < '0' || *p > '9') return NULL;
  for (*v = 0; p < end && *p >= '0' && *p <= '9'; p++) {
    if (*v > UINT64_MAX / 16) return NULL;
    *v = *v * 10 + (uint64_t)(*p - '0');
  }
  return p;
}

/* Offset of the constant's data after the header; -1: not there or not of its size. */
static int64_t find(const char *head, const char *end, const LibConst *k, uint64_t body) {
  const char *p = after_key(head, end, k->name);
  uint64_t lo, hi;
  if (!p || !(p = skip(p, end, "{"))) return -1;
  const char *close = memchr(p, '}', (size_t)(end - p));
  if (!close || !(p = after_key(p, close, "data_offsets")) || !(p = skip(p, close, "["))) return -1;
  if (!(p = number(p, close, &lo)) || !number(p, close, &hi)) return -1;
  if (hi > body || lo > hi || hi - lo != k->bytes) return -1;
  return (int64_t)lo;
}

static int use_map(LibContext *c) {
  static const uint8_t esize[] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8};
  const char *m = c->map;
  uint64_t head;
  if (c->map_bytes < 8) return RT_NO_WEIGHTS;
  memcpy(&head, m, 8);
  if (head > c->map_bytes - 8) return RT_NO_WEIGHTS;
  uint64_t body = c->map_bytes - 8 - head;
  for (int i = 0; i < c->lib->nconst; i++) {
    const LibConst *k = &c->lib->konst[i];
    c->konst[i] = k->data;
    if (k->data || !k->bytes) continue;
    int64_t at = find(m + 8, m + 8 + head, k, body);
    if (at < 0) return RT_NO_WEIGHTS;
    c->konst[i] = m + 8 + head + (uint64_t)at;
    if ((uintptr_t)c->konst[i] % esize[k->dtype]) return RT_NO_WEIGHTS;
  }
  return RT_OK;
}

/* The file's place: as the caller says, else beside the library. */
static const char *place(const Lib *lib, const char *path, char *full, size_t room) {
  Dl_info at;
  if (path) return path;
  const char *slash = lib->file[0] != '/' && dladdr(lib, &at) && at.dli_fname ? strrchr(at.dli_fname, '/') : NULL;
  size_t n = slash ? (size_t)(slash + 1 - at.dli_fname) : 0, m = strlen(lib->file) + 1;
  if (!n || n + m > room) return lib->file;
  memcpy(full, at.dli_fname, n);
  memcpy(full + n, lib->file, m);
  return full;
}

int lib_map_weights(LibContext *c, const char *path) {
  struct stat st;
  char full[4096];
  int fd = open(place(c->lib, path, full, sizeof full), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return RT_NO_WEIGHTS;
  int status = RT_NO_WEIGHTS;
  if (fstat(fd, &st) == 0 && st.st_size > 0) {
    void *m = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (m != MAP_FAILED) {
      c->map = m;
      c->map_bytes = (size_t)st.st_size;
      status = use_map(c);
    }
  }
  close(fd);
  return status;
}
