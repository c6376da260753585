/* The object cache on disk: text key -> bytes.
 *
 * One file an entry, named by a 128-bit hash of the key; the file repeats the key and carries a checksum, so that a
 * collision, a truncated or a corrupt entry reads as absent (and is replaced by the next put). Entries are written to a
 * temporary and renamed: concurrent processes see whole entries only. Failures to write are silent: the cache is a
 * convenience. The folder is made on the first put, with mode 0700. */
#ifndef TG_CODEGEN_CPU_CACHE_H
#define TG_CODEGEN_CPU_CACHE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
  uint64_t a, b;
} CacheHash;
CacheHash cache_hash(const void *p, size_t n);

/* Two byte strings: what the kernel needs besides its code (meta), and the object file. */
typedef struct CacheEntry {
  void *block;
  const void *meta, *object;
  size_t nmeta, nobject;
} CacheEntry;

/* True: *out is filled and the caller frees out->block. */
bool cache_get(const char *dir, const char *key, CacheEntry *out);
bool cache_put(const char *dir, const char *key, const void *meta, size_t nmeta, const void *object, size_t nobject);
/* Removes the oldest entries when the folder holds more than `max` of them (down to three quarters of it). */
void cache_prune(const char *dir, int max);
#endif
