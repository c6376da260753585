/* From an object to a shared library: the machine's own linker, called as a program. */
#include "codegen/aot/aot.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

typedef struct Link {
  Arena *a;
  char *dir, *object, *runtime, *messages, *out;
  const char *soname;
  const char **why;
} Link;

static bool write_file(const char *path, const char *data, size_t n) {
  FILE *f = fopen(path, "wb");
  if (!f) return false;
  bool ok = fwrite(data, 1, n, f) == n;
  return fclose(f) == 0 && ok;
}

/* 127: there is no such program. */
static int run(Link *l, char *const *argv) {
  posix_spawn_file_actions_t io;
  pid_t pid;
  int status = 0;
  posix_spawn_file_actions_init(&io);
  posix_spawn_file_actions_addopen(&io, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&io, 2, l->messages, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  int e = posix_spawnp(&pid, argv[0], &io, NULL, argv, environ);
  posix_spawn_file_actions_destroy(&io);
  if (e) return e == ENOENT || e == EACCES ? 127 : 126;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return 126;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

static char *messages(Link *l) {
  char text[1500];
  FILE *f = fopen(l->messages, "rb");
  size_t n = f ? fread(text, 1, sizeof text, f) : 0;
  if (f) fclose(f);
  return arena_strndup(l->a, text, n);
}

static int by_ld(Link *l, const char *program) {
  char *so = arena_strdup(l->a, l->soname);
  char *argv[] = {(char *)program, "-shared", "-o", l->out, "-soname", so, "--gc-sections", "-z", "relro", "-z", "now", "-z", "noexecstack",
                  "--hash-style=gnu", "--build-id=sha1", "--discard-all", l->object, l->runtime, "-L/lib/x86_64-linux-gnu", "-L/usr/lib/x86_64-linux-gnu", "-L/lib64",
                  "-L/usr/lib64", "-L/lib", "-L/usr/lib", "--as-needed", "-l:libm.so.6", "--no-as-needed", "-l:libc.so.6", NULL};
  return run(l, argv);
}

static int by_cc(Link *l, const char *program) {
  char *so = arena_printf(l->a, "-Wl,-soname,%s", l->soname);
  char *argv[] = {(char *)program, "-shared", "-nostartfiles", "-o", l->out, so, "-Wl,--gc-sections,-z,relro,-z,now,-z,noexecstack", l->object, l->runtime, "-lm", NULL};
  return run(l, argv);
}

static bool link_all(Link *l, const char *path) {
  static const char *const ld[] = {"ld", "ld.bfd", "ld.gold", "ld.lld"}, *const cc[] = {"cc", "gcc", "clang"};
  char *first = NULL;
  int n = (int)(sizeof ld / sizeof *ld), m = (int)(sizeof cc / sizeof *cc);
  for (int i = 0; i < n + m; i++) {
    const char *program = i < n ? ld[i] : cc[i - n];
    int status = i < n ? by_ld(l, program) : by_cc(l, program);
    if (status == 0 && rename(l->out, path) == 0) return true;
    if (status == 0) {
      *l->why = arena_printf(l->a, "%s: %s", path, strerror(errno));
      return false;
    }
    if (status != 127 && !first) first = arena_printf(l->a, "%s failed: %s", program, messages(l));
  }
  *l->why = first ? first
                  : "there is no linker: install binutils (or a C compiler), or write the object alone with --emit=obj";
  return false;
}

bool aot_link(Arena *a, const char *path, const char *object, size_t nobject, const char **why) {
  const char *tmp = getenv("TMPDIR"), *slash = strrchr(path, '/');
  char *dir = arena_printf(a, "%s/tg-build-XXXXXX", tmp && *tmp ? tmp : "/tmp");
  *why = "out of disk space, or the temporary folder cannot be written";
  if (!mkdtemp(dir)) return false;
  size_t nrt;
  const char *rt = aot_runtime(&nrt);
  Link l = {a, dir, arena_printf(a, "%s/library.o", dir), arena_printf(a, "%s/runtime.o", dir), arena_printf(a, "%s/messages", dir),
            arena_printf(a, "%s.tmp.%d", path, (int)getpid()), slash ? slash + 1 : path, why};
  bool ok = write_file(l.object, object, nobject) && write_file(l.runtime, rt, nrt) && link_all(&l, path);
  if (!ok) unlink(l.out);
  unlink(l.object);
  unlink(l.runtime);
  unlink(l.messages);
  rmdir(dir);
  return ok;
}
