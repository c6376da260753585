/* The library's modules, embedded by embed.cmake when tg is built. */
#include "host.h"
#include <string.h>

typedef struct {
  const char *name, *text;
  size_t len;
} LibraryFile;
extern const LibraryFile library_files[];
extern const int library_nfile;

const char *library_module(void *ctx, const char *name, size_t *len) {
  (void)ctx;
  for (int i = 0; i < library_nfile; i++)
    if (!strcmp(library_files[i].name, name)) {
      *len = library_files[i].len;
      return library_files[i].text;
    }
  return NULL;
}
int library_count(void) { return library_nfile; }
const char *library_name(int i) { return library_files[i].name; }
