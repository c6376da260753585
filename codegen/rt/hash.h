/* FNV-1a: a number for bytes, as good as their comparison where nobody makes them collide on purpose. */
#ifndef TG_CODEGEN_RT_HASH_H
#define TG_CODEGEN_RT_HASH_H
#include <stddef.h>
#include <stdint.h>

#define RT_HASH 0xcbf29ce484222325u /* of nothing: where a chain of rt_hash begins */

static inline uint64_t rt_hash(uint64_t h, const void *data, size_t n) {
  const unsigned char *p = data;
  for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
  return h;
}
#endif
