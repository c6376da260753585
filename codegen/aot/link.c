/* From an object to a shared library: the machine's own linker, called as a program. */
#include "codegen/aot/aot.h"
#include "codegen/aot/cross.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

typedef struct Link {
  Arena *a;
  char *dir, *object, *runtime, *messages, *out;
  const char *soname;
  const char **why;
} Link;

static bool write_file(const char *path, const void *data, size_t n) {
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
  char *argv[] = {(char *)program,
                  "-shared",
                  "-o",
                  l->out,
                  "-soname",
                  so,
                  "--gc-sections",
                  "-z",
                  "relro",
                  "-z",
                  "now",
                  "-z",
                  "noexecstack",
                  "--hash-style=gnu",
                  "--build-id=sha1",
                  "--discard-all",
                  l->object,
                  l->runtime,
                  "-L/lib/x86_64-linux-gnu",
                  "-L/usr/lib/x86_64-linux-gnu",
                  "-L/lib64",
                  "-L/usr/lib64",
                  "-L/lib",
                  "-L/usr/lib",
                  "--as-needed",
                  "-l:libm.so.6",
                  "--no-as-needed",
                  "-l:libc.so.6",
                  NULL};
  return run(l, argv);
}

static int by_cc(Link *l, const char *program) {
  char *so = arena_printf(l->a, "-Wl,-soname,%s", l->soname);
  char *argv[] = {(char *)program,
                  "-shared",
                  "-nostartfiles",
                  "-o",
                  l->out,
                  so,
                  "-Wl,--gc-sections,-z,relro,-z,now,-z,noexecstack",
                  l->object,
                  l->runtime,
                  "-lm",
                  NULL};
  return run(l, argv);
}

#define NO_CROSS                                                                                                       \
  "there is no compiler for it: install gcc-aarch64-linux-gnu, or write the object and the runtime's source "          \
  "with --emit=obj"
static const char *const ld[] = {"ld", "ld.bfd", "ld.gold", "ld.lld"}, *const cc[] = {"cc", "gcc", "clang"};
static const char *const cross_cc[] = {"aarch64-linux-gnu-gcc", "aarch64-unknown-linux-gnu-gcc"};
enum { NLD = sizeof ld / sizeof *ld, NCC = sizeof cc / sizeof *cc, NCROSS = sizeof cross_cc / sizeof *cross_cc };

static bool link_all(Link *l, const char *path, bool cross) {
  char *first = NULL;
  int n = cross ? 0 : NLD, m = cross ? NCROSS : NCC;
  for (int i = 0; i < n + m; i++) {
    const char *program = i < n ? ld[i] : (cross ? cross_cc : cc)[i - n];
    int status = i < n ? by_ld(l, program) : by_cc(l, program);
    if (status == 0 && rename(l->out, path) == 0) return true;
    if (status == 0) {
      *l->why = arena_printf(l->a, "%s: %s", path, strerror(errno));
      return false;
    }
    if (status != 127 && !first) first = arena_printf(l->a, "%s failed: %s", program, messages(l));
  }
  *l->why = first ? first
            : cross
                ? NO_CROSS
                : "there is no linker: install binutils (or a C compiler), or write the object alone with --emit=obj";
  return false;
}

static bool begin(Arena *a, Link *l, const char *path, const char **why) {
  const char *tmp = getenv("TMPDIR"), *slash = strrchr(path, '/');
  char *dir = arena_printf(a, "%s/tg-build-XXXXXX", tmp && *tmp ? tmp : "/tmp");
  *why = "out of disk space, or the temporary folder cannot be written";
  if (!mkdtemp(dir)) return false;
  *l = (Link){a,
              dir,
              arena_printf(a, "%s/library.o", dir),
              arena_printf(a, "%s/runtime.o", dir),
              arena_printf(a, "%s/messages", dir),
              arena_printf(a, "%s.tmp.%d", path, (int)getpid()),
              slash ? slash + 1 : path,
              why};
  return true;
}

static void end(Link *l) {
  unlink(l->object);
  unlink(l->runtime);
  unlink(l->messages);
  rmdir(l->dir);
}

bool aot_link(Arena *a, const char *path, bool cross, const char *object, size_t nobject, const char *rt, size_t nrt,
              const char **why) {
  Link l;
  if (!begin(a, &l, path, why)) return false;
  bool ok = write_file(l.object, object, nobject) && write_file(l.runtime, rt, nrt) && link_all(&l, path, cross);
  if (!ok) unlink(l.out);
  end(&l);
  return ok;
}

/* ---- The runtime for another kind of machine: compiled there and then from its source ---------------------------- */
bool aot_write_sources(Arena *a, const char *dir, const char **why) {
  bool ok = true;
  static const char *const below[] = {"", "/codegen", "/codegen/rt"};
  *why = arena_printf(a, "%s cannot be written", dir);
  for (int i = 0; ok && i < 3; i++) ok = mkdir(arena_printf(a, "%s%s", dir, below[i]), 0777) == 0 || errno == EEXIST;
  for (const RtSource *s = rt_sources; ok && s->path; s++)
    ok = write_file(arena_printf(a, "%s/%s", dir, s->path), s->text, s->len);
  return ok;
}

static void drop_sources(Link *l) {
  for (const RtSource *s = rt_sources; s->path; s++) unlink(arena_printf(l->a, "%s/%s", l->dir, s->path));
  rmdir(arena_printf(l->a, "%s/codegen/rt", l->dir));
  rmdir(arena_printf(l->a, "%s/codegen", l->dir));
}

static int compile(Link *l, const char *program) {
  static char *const flags[] = {"-O2",
                                "-fPIC",
                                "-fvisibility=hidden",
                                "-ffunction-sections",
                                "-fdata-sections",
                                "-fno-stack-protector",
                                "-ffp-contract=off",
                                "-fno-math-errno",
                                "-std=gnu11",
                                "-D_GNU_SOURCE",
                                "-nostdlib",
                                "-r"};
  VEC(char *) argv = {0};
  vec_push(l->a, &argv, (char *)program);
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) vec_push(l->a, &argv, flags[i]);
  vec_push(l->a, &argv, arena_printf(l->a, "-I%s", l->dir));
  for (const RtSource *s = rt_sources; s->path; s++)
    if (s->path[strlen(s->path) - 1] == 'c') vec_push(l->a, &argv, arena_printf(l->a, "%s/%s", l->dir, s->path));
  vec_push(l->a, &argv, "-o");
  vec_push(l->a, &argv, l->runtime);
  vec_push(l->a, &argv, NULL);
  return run(l, argv.at);
}

static bool read_object(Link *l, char **object, size_t *n) {
  FILE *f = fopen(l->runtime, "rb");
  struct stat st;
  bool ok = f && fstat(fileno(f), &st) == 0;
  *n = ok ? (size_t)st.st_size : 0;
  *object = arena_alloc(l->a, *n + 1);
  ok = ok && fread(*object, 1, *n, f) == *n;
  if (f) fclose(f);
  return ok;
}

bool aot_cross_runtime(Arena *a, char **object, size_t *n, bool *no_compiler, const char **why) {
  Link l;
  *no_compiler = false;
  if (!begin(a, &l, "runtime", why)) return false;
  bool ok = aot_write_sources(a, l.dir, why);
  int status = 127;
  for (int i = 0; ok && i < NCROSS && status == 127; i++) status = compile(&l, cross_cc[i]);
  if (ok && status) {
    ok = false;
    *no_compiler = status == 127;
    *why = *no_compiler ? NO_CROSS : arena_printf(a, "the runtime does not compile: %s", messages(&l));
  }
  ok = ok && read_object(&l, object, n);
  drop_sources(&l);
  end(&l);
  return ok;
}
