/* Finding libraries that are loaded at run time: in folders of toolkits and of Python's packages. */
#ifndef TG_CODEGEN_RT_SEARCH_H
#define TG_CODEGEN_RT_SEARCH_H
#include <stdbool.h>

/* Offers every file that one of n patterns (glob(7)) names to `take`, later names first, until it takes one: true. A
 * pattern that begins with %s is meant below each folder that may hold Python's packages; these come first. */
typedef bool (*RtTake)(void *ctx, const char *path);
bool rt_search(int n, const char *const *pattern, RtTake take, void *ctx);
#endif
