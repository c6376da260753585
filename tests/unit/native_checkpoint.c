/* The natives resume and checkpoint: when a file is written, what comes back, what is refused. */
#include "native_support.h"
#include "stdlib/native/checkpoint.h"
#include <sys/stat.h>

enum { NAMES = 3 };
/* A run with the state {a: f32[n], n: i64, h.loss: f32[rows]}. */
typedef struct Run {
  NativeHost host;
  const char *path, *about, *grow;
  uint64_t id;
  Tensor state[NAMES], got[NAMES];
} Run;

static Run run_new(const char *path, int64_t n, int64_t rows, double first) {
  Run r = {.path = path, .about = "batch = 8\n", .grow = "", .id = 77};
  for (int side = 0; side < 2; side++) {
    Tensor *t = side ? r.got : r.state;
    t[0] = make(DT_F32, DIMS(n)), t[1] = scalar(DT_I64, 0), t[2] = make(DT_F32, DIMS(rows));
  }
  for (int64_t k = 0; k < n; k++) put(&r.state[0], k, first + (double)k);
  put(&r.state[1], 0, first);
  for (int64_t k = 0; k < rows; k++) put(&r.state[2], k, first * 10 + (double)k);
  return r;
}
static bool resume(Run *r, Fault *f) {
  Tensor id = make(DT_I64, 0, NULL), in[NAMES + 1] = {id, r->state[0], r->state[1], r->state[2]};
  memcpy(id.data, &r->id, 8);
  Attr attr[] = {{.s = r->path}, {.s = r->about}, {.s = r->grow}, {.s = "a"}, {.s = "n"}, {.s = "h.loss"}};
  return call("resume", &r->host, 6, attr, NAMES + 1, in, NAMES, r->got, f);
}
static bool checkpoint(Run *r, bool wanted, double seconds, Fault *f) {
  Tensor in = scalar(DT_BOOL, wanted), due = scalar(DT_BOOL, false);
  Attr attr[] = {{.s = r->path}, {.f = seconds}}, name[] = {{.s = r->path}, {.s = "a"}, {.s = "n"}, {.s = "h.loss"}};
  if (!call("checkpoint_due", &r->host, 2, attr, 1, &in, 1, &due, f)) return false;
  return !get(&due, 0) || call("checkpoint", &r->host, NAMES + 1, name, NAMES, r->state, 0, NULL, f);
}
static void run_end(Run *r) { train_files_free(r->host.train); }

static bool exists(const char *path) { return access(path, F_OK) == 0; }

Test(native_checkpoint, due, .fini = done) {
  Fault f;
  Run r = run_new(file("deep/er/c.safetensors"), 4, 2, 1);
  cr_assert(!checkpoint(&r, true, INFINITY, &f)); /* resume comes first */
  cr_assert(resume(&r, &f), "%s", f.msg);
  cr_assert(get(&r.got[0], 3) == 4 && get(&r.got[1], 0) == 1 && get(&r.got[2], 1) == 11); /* as given */
  cr_assert(checkpoint(&r, false, INFINITY, &f) && !exists(r.path));
  cr_assert(checkpoint(&r, false, 3600, &f) && !exists(r.path));
  cr_assert(checkpoint(&r, false, 0, &f) && exists(r.path)); /* by time */
  put(&r.state[1], 0, 5);
  cr_assert(checkpoint(&r, false, INFINITY, &f) && resume(&r, &f) && get(&r.got[1], 0) == 1);
  cr_assert(checkpoint(&r, true, INFINITY, &f) && resume(&r, &f) && get(&r.got[1], 0) == 5);
  run_end(&r);
}

Test(native_checkpoint, comes_back, .fini = done) {
  Fault f;
  const char *path = file("c.safetensors");
  Run r = run_new(path, 4, 2, 1);
  cr_assert(resume(&r, &f) && checkpoint(&r, true, INFINITY, &f), "%s", f.msg);
  run_end(&r);
  Run s = run_new(path, 4, 2, 100);
  cr_assert(resume(&s, &f), "%s", f.msg);
  for (int k = 0; k < NAMES; k++) cr_assert(!memcmp(s.got[k].data, r.state[k].data, tensor_bytes(&r.state[k])));
  run_end(&s);
  Run longer = run_new(path, 4, 5, 100); /* history with more rows: only where it may grow */
  cr_assert(!resume(&longer, &f) && f.id == R_CHECKPOINT &&
                strstr(f.msg, "`h.loss` is f32[2] in the file and f32[5] in this run"),
            "%s", f.msg);
  longer.grow = "h.";
  cr_assert(resume(&longer, &f), "%s", f.msg);
  cr_assert(get(&longer.got[2], 0) == 10 && get(&longer.got[2], 1) == 11 && get(&longer.got[2], 2) == 1002 &&
            get(&longer.got[2], 4) == 1004);
  run_end(&longer);
  Run shorter = run_new(path, 4, 1, 100);
  shorter.grow = "h.";
  cr_assert(!resume(&shorter, &f) && strstr(f.msg, "`h.loss` is f32[2] in the file and f32[1] in this run"), "%s",
            f.msg);
  run_end(&shorter);
}

Test(native_checkpoint, refused, .fini = done) {
  Fault f;
  const char *path = file("c.safetensors");
  Run r = run_new(path, 4, 2, 1);
  cr_assert(resume(&r, &f) && checkpoint(&r, true, INFINITY, &f), "%s", f.msg);
  Run other = run_new(path, 4, 2, 1);
  cr_assert(!resume(&other, &f) && strstr(f.msg, "in use by another process"), "%s", f.msg); /* another table: as one */
  run_end(&other);
  run_end(&r);
  other = run_new(path, 4, 2, 1), other.id = 78;
  cr_assert(!resume(&other, &f) && strstr(f.msg, "of another seed, or of another call"), "%s", f.msg);
  other.id = 77, other.about = "batch = 9\n";
  cr_assert(!resume(&other, &f) && strstr(f.msg, "it was written with batch = 8, this run has batch = 9"), "%s", f.msg);
  other.about = "batch = 8\nshuffle = true\n";
  cr_assert(!resume(&other, &f) && strstr(f.msg, "it was written with no shuffle, this run has shuffle = true"), "%s",
            f.msg);
  other.about = "";
  cr_assert(!resume(&other, &f) && strstr(f.msg, "it was written with batch = 8, this run has no batch"), "%s", f.msg);
  run_end(&other);
  other = run_new(path, 6, 2, 1);
  cr_assert(!resume(&other, &f) && f.id == R_CHECKPOINT &&
                strstr(f.msg, "`a` is f32[4] in the file and f32[6] in this run"),
            "%s", f.msg);
  run_end(&other);
}

Test(native_checkpoint, leftovers, .fini = done) {
  Fault f;
  Run r = run_new(file("c.safetensors"), 4, 2, 1);
  char mine[80];
  snprintf(mine, sizeof mine, "c.safetensors.%d-0.tmp", (int)getpid()); /* of a process that lives */
  /* no process has these numbers: beyond the kernel's limit of 2^22 */
  const char *const gone[] = {"c.safetensors.99999999-0.tmp", "c.safetensors.99999999-41.tmp"};
  const char *const kept[] = {mine, "c.safetensors.99999999-0.tmpx", "c.safetensors.bak",
                              "d.safetensors.99999999-0.tmp"};
  for (int k = 0; k < 2; k++) write_bytes(file(gone[k]), "x", 1);
  for (int k = 0; k < 4; k++) write_bytes(file(kept[k]), "x", 1);
  cr_assert(resume(&r, &f), "%s", f.msg);
  for (int k = 0; k < 2; k++) cr_assert(!exists(file(gone[k])), "%s", gone[k]);
  for (int k = 0; k < 4; k++) cr_assert(exists(file(kept[k])), "%s", kept[k]);
  run_end(&r);
}
