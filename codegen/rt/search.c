/* See search.h. */
#include "codegen/rt/search.h"
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool try_pattern(const char *pattern, RtTake take, void *ctx) {
  bool taken = false;
  glob_t g;
  if (glob(pattern, 0, NULL, &g)) return false;
  for (size_t k = g.gl_pathc; k-- > 0 && !taken;) taken = take(ctx, g.gl_pathv[k]);
  globfree(&g);
  return taken;
}

static bool is_below(const char *pattern) { return !strncmp(pattern, "%s", 2); }

bool rt_search(int n, const char *const *pattern, RtTake take, void *ctx) {
  const char *home = getenv("HOME");
  char local[512], path[1024];
  snprintf(local, sizeof local, "%s/.local", home ? home : "");
  const char *root[] = {getenv("VIRTUAL_ENV"), getenv("CONDA_PREFIX"), home ? local : NULL, "/usr/local", "/usr"};
  for (size_t r = 0; r < sizeof root / sizeof *root; r++)
    for (int i = 0; i < n && root[r]; i++) {
      if (!is_below(pattern[i])) continue;
      if (snprintf(path, sizeof path, "%s%s", root[r], pattern[i] + 2) < (int)sizeof path &&
          try_pattern(path, take, ctx))
        return true;
    }
  for (int i = 0; i < n; i++)
    if (!is_below(pattern[i]) && try_pattern(pattern[i], take, ctx)) return true;
  return false;
}
