/* Checkpoints: reading what is there, writing what is due. */
#include "stdlib/native/checkpoint.h"
#include "codegen/rt/clock.h"
#include "stdlib/native/events.h"
#include "stdlib/native/safetensors.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- what stays between calls ------------------------------------------------------------------------------------ */
typedef struct Run {
  const char *path, *about;
  uint64_t id;
  double written; /* seconds, monotonic: the last write, or the resume */
  int lock, next; /* the present file and the one about to replace it, locked; -1: there is none */
} Run;

struct TrainFiles {
  Arena *arena;
  VEC(Run) run;
  struct LogWriter *logs;
};

TrainFiles *train_files(NativeHost *host) {
  if (!host) return NULL;
  if (!host->train) {
    Arena *a = arena_new();
    host->train = arena_new_of(a, TrainFiles);
    host->train->arena = a;
  }
  return host->train;
}

void train_files_free(TrainFiles *t) {
  if (!t) return;
  logs_close(t->logs);
  for (int k = 0; k < t->run.n; k++)
    if (t->run.at[k].lock >= 0) close(t->run.at[k].lock);
  arena_free(t->arena);
}

Arena *train_arena(TrainFiles *t) { return t->arena; }
struct LogWriter **train_logs(TrainFiles *t) {
  return &t->logs;
}

static Run *run_of(TrainFiles *t, const char *path) {
  for (int k = 0; k < t->run.n; k++)
    if (!strcmp(t->run.at[k].path, path)) return &t->run.at[k];
  return NULL;
}

/* ---- folders ----------------------------------------------------------------------------------------------------- */
bool make_folders(const char *dir, Fault *f) {
  char part[IO_PATH];
  size_t n = strlen(dir);
  if (n >= sizeof part) return io_fail(f, dir, "the path is too long");
  for (size_t k = 1; k <= n; k++) {
    if (dir[k] != '/' && dir[k]) continue;
    memcpy(part, dir, k), part[k] = 0;
    if (mkdir(part, 0777) && errno != EEXIST) return io_fail(f, part, "cannot be made: %s", strerror(errno));
  }
  struct stat st;
  if (n && (stat(dir, &st) || !S_ISDIR(st.st_mode))) return io_fail(f, dir, "is not a folder");
  return true;
}

static const char *last_part(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static const char *folder_of(Arena *a, const char *path) {
  size_t n = (size_t)(last_part(path) - path);
  return n > 1 ? arena_strndup(a, path, n - 1) : n ? "/" : ".";
}

/* NAME.PID-K.tmp of writers that live no more: a process killed while it wrote leaves one. */
static void remove_leftovers(Arena *a, const char *path) {
  const char *dir = folder_of(a, path), *name = last_part(path);
  size_t n = strlen(name);
  DIR *d = opendir(dir);
  for (struct dirent *e; d && (e = readdir(d));) {
    int pid, k, end = 0;
    if (strncmp(e->d_name, name, n) || e->d_name[n] != '.') continue;
    if (sscanf(e->d_name + n + 1, "%d-%d.tmp%n", &pid, &k, &end) != 2 || !end || e->d_name[n + 1 + (size_t)end])
      continue;
    if (pid > 0 && kill(pid, 0) && errno == ESRCH) unlink(arena_printf(a, "%s/%s", dir, e->d_name));
  }
  if (d) closedir(d);
}

/* ---- one process at a time --------------------------------------------------------------------------------------- */
/* The file that a run has read or written stays locked until the run replaces it or ends. Two processes that began with
 * no file are told apart by the file itself: the second to write finds one that it has not written. File systems
 * without locks are trusted. */
static void release(int *lock) {
  if (*lock >= 0) close(*lock);
  *lock = -1;
}

/* -1 without a fault: the file is gone, or can't be locked here. */
static bool take(Run *r, const char *file, int *lock, Fault *f) {
  *lock = open(file, O_RDONLY | O_CLOEXEC);
  if (*lock < 0 || !flock(*lock, LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK) return true;
  release(lock);
  return io_fail(f, r->path, "is in use by another process");
}

static bool present(const Run *r) { /* the file of that name is the one held */
  struct stat there, ours;
  return r->lock >= 0 && !stat(r->path, &there) && !fstat(r->lock, &ours) && ours.st_ino == there.st_ino &&
         ours.st_dev == there.st_dev;
}

/* The file that is there; again, if its owner replaced it just then. */
static bool take_present(Run *r, Fault *f) {
  release(&r->lock);
  for (int k = 0; k < 100; k++) {
    if (!take(r, r->path, &r->lock, f)) return false;
    if (present(r)) return true;
    release(&r->lock);
  }
  return true;
}

/* Just before `aside` becomes the file: what it replaces is what this run has left there. Both are locked until then,
 * so nobody finds the name without its owner. */
static bool still_ours(void *ctx, const char *aside, Fault *f) {
  Run *r = ctx;
  if (!take(r, aside, &r->next, f)) return false;
  if (access(r->path, F_OK) == 0 && !present(r)) return io_fail(f, r->path, "was written by another process meanwhile");
  return true;
}

/* ---- resuming ---------------------------------------------------------------------------------------------------- */
static bool refuse(Fault *f, const char *path, const char *why) {
  io_fail(f, path, "%s; remove the file to begin afresh, or give this run a checkpoint of its own", why);
  return false;
}

static const char *line_of(Arena *a, const char *text, const char *key) {
  size_t n = strlen(key);
  for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n')
    if (!strncmp(p, key, n) && !strncmp(p + n, " = ", 3)) return arena_strndup(a, p, strcspn(p, "\n"));
  return NULL;
}

/* The first setting that differs: "it was written with batch = 32, this run has batch = 64". */
static const char *setting_that_differs(Arena *a, const char *there, const char *here) {
  for (int side = 0; side < 2; side++) {
    const char *of = side ? here : there, *other = side ? there : here;
    for (const char *p = of; *p; p += strcspn(p, "\n"), p += *p == '\n') {
      const char *line = arena_strndup(a, p, strcspn(p, "\n")), *eq = strstr(line, " = ");
      const char *key = eq ? arena_strndup(a, line, (size_t)(eq - line)) : line;
      const char *match = line_of(a, other, key);
      if (match && !strcmp(match, line)) continue;
      const char *was = side ? match : line, *is = side ? line : match;
      return arena_printf(a, "it was written with %s, this run has %s", was ? was : arena_printf(a, "no %s", key),
                          is ? is : arena_printf(a, "no %s", key));
    }
  }
  return NULL;
}

static bool same_run(Arena *a, const StFile *s, const Run *r, Fault *f) {
  const char *kind = st_meta(s, "tg.kind"), *version = st_meta(s, "tg.version"), *id = st_meta(s, "tg.run"),
             *about = st_meta(s, "tg.about");
  if (!kind || strcmp(kind, "checkpoint") || !version || !id || !about || !s->crc_at)
    return refuse(f, r->path, "is not a checkpoint");
  if (strcmp(version, "1")) return refuse(f, r->path, "was written by another version of tg");
  const char *differs = setting_that_differs(a, about, r->about);
  if (differs) return refuse(f, r->path, arena_printf(a, "is of another run: %s", differs));
  if (strcmp(id, arena_printf(a, "%016llx", (unsigned long long)r->id)))
    return refuse(f, r->path, "is of another run: of another seed, or of another call in the program");
  return true;
}

/* The type to ask the file for: where rows may be missing, as many as it has. */
static FileTensor wanted(const StFile *s, const char *name, const char *grow, const Tensor *t) {
  FileTensor w = {t->dtype, t->rank, {0}};
  memcpy(w.dim, t->dim, sizeof t->dim[0] * (size_t)t->rank);
  const StTensor *there = *grow && !strncmp(name, grow, strlen(grow)) ? st_find(s, name) : NULL;
  if (there && t->rank && there->type.rank == t->rank && there->type.dim[0] < t->dim[0]) w.dim[0] = there->type.dim[0];
  return w;
}

static void fill(Tensor *to, const Tensor *from) {
  if (tensor_bytes(to)) memcpy(to->data, from->data, tensor_bytes(to));
}

static bool read_state(Arena *a, In *in, const Run *r, int n, const char *const *name, const char *grow,
                       const Tensor *first, Tensor *out, Fault *f) {
  StFile s;
  if (!st_open(a, in, r->path, &s, f) || !st_verify(in, &s)) {
    if (f->id != M_FILE) return false;
    char *why = arena_strdup(a, f->msg); /* the path is in it */
    fault_set(f, M_FILE, (Span){0}, "%s; remove the file to begin afresh", why);
    return false;
  }
  if (!same_run(a, &s, r, f)) return false;
  FileTensor *want = arena_array(a, FileTensor, n);
  for (int k = 0; k < n; k++) want[k] = wanted(&s, name[k], grow, &out[k]);
  if (!st_check(a, &s, r->path, n, name, want, true, "this run", f)) {
    char *why = arena_strdup(a, f->msg);
    fault_set(f, M_FILE, (Span){0}, "%s; remove the file to begin afresh", why);
    return false;
  }
  for (int k = 0; k < n; k++) {
    if (want[k].rank && want[k].dim[0] < out[k].dim[0]) fill(&out[k], &first[k]);
    if (!st_read(in, st_find(&s, name[k]), out[k].data)) return false;
  }
  return true;
}

static bool checkpoint_status(bool ok, Fault *f) {
  if (!ok && f->id == M_FILE) f->id = R_CHECKPOINT;
  return ok;
}

static bool wrong(Fault *f, const char *what) {
  fault_set(f, R_NATIVE, (Span){0}, "%s: wrong arguments", what);
  return false;
}

static bool run_resume(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                       Fault *f) {
  char buf[IO_PATH];
  TrainFiles *t = train_files(ctx);
  if (!t || nattr != nout + 3 || nin != nout + 1 || !attr[0].s || !attr[1].s || !attr[2].s) return wrong(f, "resume");
  const char *path = io_path(ctx, attr[0].s, buf);
  Run *r = run_of(t, path);
  if (!r) {
    vec_push(t->arena, &t->run, ((Run){.path = arena_strdup(t->arena, path), .lock = -1, .next = -1}));
    r = &t->run.at[t->run.n - 1];
  }
  r->about = arena_strdup(t->arena, attr[1].s), r->id = *(const uint64_t *)in[0].data, r->written = rt_seconds();
  Arena *a = arena_new();
  const char **name = arena_array(a, const char *, nout);
  for (int k = 0; k < nout; k++) name[k] = attr[k + 3].s;
  bool ok = make_folders(folder_of(a, r->path), f);
  if (ok) remove_leftovers(a, r->path);
  if (ok && access(r->path, F_OK) && errno == ENOENT) {
    release(&r->lock);
    for (int k = 0; k < nout; k++) fill(&out[k], &in[k + 1]);
  } else if (ok) {
    In file = {.fd = -1};
    ok = take_present(r, f) && read_state(a, &file, r, nout, name, attr[2].s, in + 1, out, f);
    in_close(&file);
    if (ok) fprintf(stderr, "resumed from %s\n", r->path);
  }
  arena_free(a);
  return checkpoint_status(ok, f);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */
static bool write_state(Run *r, int n, const Attr *attr, const Tensor *t, Fault *f) {
  char id[17];
  snprintf(id, sizeof id, "%016llx", (unsigned long long)r->id);
  const StMeta meta[] = {{"tg.kind", "checkpoint"}, {"tg.version", "1"}, {"tg.run", id}, {"tg.about", r->about}};
  const char **name = malloc(sizeof *name * (size_t)(n + 1));
  if (!name) return fault_set(f, R_MEMORY, (Span){0}, "out of memory"), false;
  for (int k = 0; k < n; k++) name[k] = attr[k].s;
  bool ok = st_replace(r->path, n, name, t, sizeof meta / sizeof *meta, meta, (StLast){still_ours, r}, f);
  free(name);
  if (ok && r->next >= 0) {
    release(&r->lock);
    r->lock = r->next, r->next = -1;
  }
  release(&r->next);
  r->written = rt_seconds();
  return ok;
}

static Run *resumed(void *ctx, int nattr, const Attr *attr) {
  char buf[IO_PATH];
  TrainFiles *t = train_files(ctx);
  return t && nattr > 0 && attr[0].s ? run_of(t, io_path(ctx, attr[0].s, buf)) : NULL;
}

static bool run_due(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                    Fault *f) {
  const Run *r = resumed(ctx, nattr, attr);
  if (!r || nattr != 2 || nin != 1 || nout != 1) return wrong(f, "checkpoint_due");
  *(uint8_t *)out[0].data = *(const uint8_t *)in[0].data || rt_seconds() - r->written >= attr[1].f;
  return true;
}

static bool run_checkpoint(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                           Fault *f) {
  Run *r = resumed(ctx, nattr, attr);
  if (!r || nattr != nin + 1) return wrong(f, "checkpoint");
  return checkpoint_status(write_state(r, nin, attr + 1, in, f), f);
}

const Native native_resume = {.name = "resume", .effect = true, .who = RUN_FIRST_TELL, .run = run_resume};
const Native native_checkpoint_due = {.name = "checkpoint_due", .effect = true, .who = RUN_FIRST_TELL, .run = run_due};
const Native native_checkpoint = {.name = "checkpoint", .effect = true, .who = RUN_FIRST_TELL, .run = run_checkpoint};
