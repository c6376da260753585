/* Bounded reading and atomic writing. */
#include "stdlib/native/io.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

bool io_fail(Fault *f, const char *path, const char *fmt, ...) {
  char why[400];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(why, sizeof why, fmt, ap);
  va_end(ap);
  size_t n = strlen(path); /* a long path keeps its end */
  fault_set(f, M_FILE, (Span){0}, "%s%s: %s", n > 200 ? "..." : "", n > 200 ? path + n - 200 : path, why);
  return false;
}

const char *io_path(const NativeHost *host, const char *path, char buf[IO_PATH]) {
  if (!host || !host->root || path[0] == '/') return path;
  int n = snprintf(buf, IO_PATH, "%s/%s", host->root, path);
  return n < IO_PATH ? buf : path;
}

/* ---- reading -------------------------------------------------------------------------------------------------- */
/* Looks before it opens: opening a pipe would wait for its other end. */
static int open_regular(const char *path, uint64_t *size, Fault *f) {
  struct stat st;
  if (stat(path, &st)) return io_fail(f, path, "%s", errno == ENOENT ? "no such file" : strerror(errno)), -1;
  if (S_ISDIR(st.st_mode)) return io_fail(f, path, "is a folder"), -1;
  if (!S_ISREG(st.st_mode)) return io_fail(f, path, "is not a regular file"), -1;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return io_fail(f, path, "%s", strerror(errno)), -1;
  *size = (uint64_t)st.st_size;
  return fd;
}

bool in_open(In *in, const char *path, Fault *f) {
  *in = (In){.path = path, .fault = f};
  in->fd = open_regular(path, &in->size, f);
  return in->fd >= 0;
}

void in_close(In *in) {
  if (in->fd >= 0) close(in->fd);
  in->fd = -1;
}

bool in_read(In *in, uint64_t at, void *to, size_t n) {
  if (at > in->size || n > in->size - at) return io_fail(in->fault, in->path, "is truncated");
  for (size_t done = 0; done < n;) {
    size_t want = n - done < (1u << 30) ? n - done : 1u << 30;
    ssize_t got = pread(in->fd, (char *)to + done, want, (off_t)(at + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_fail(in->fault, in->path, "%s", strerror(errno));
    if (got == 0) return io_fail(in->fault, in->path, "is truncated");
    done += (size_t)got;
  }
  return true;
}

/* ---- reading in order ----------------------------------------------------------------------------------------- */
struct Stream {
  gzFile gz;
  uint64_t size;
  const char *path;
  Fault *fault;
};
enum { GZ_BUFFER = 1 << 17 };

Stream *stream_open(const char *path, Fault *f) {
  uint64_t size;
  int fd = open_regular(path, &size, f);
  if (fd < 0) return NULL;
  Stream *s = malloc(sizeof *s);
  gzFile gz = s ? gzdopen(fd, "rb") : NULL;
  if (!gz) {
    free(s);
    close(fd);
    fault_set(f, R_MEMORY, (Span){0}, "no memory to read %.200s", path);
    return NULL;
  }
  gzbuffer(gz, GZ_BUFFER);
  *s = (Stream){gz, size, path, f};
  return s;
}

void stream_close(Stream *s) {
  if (s) gzclose(s->gz);
  free(s);
}

int64_t stream_read(Stream *s, void *to, size_t n) {
  size_t done = 0;
  while (done < n) {
    unsigned want = n - done < (1u << 30) ? (unsigned)(n - done) : 1u << 30;
    int got = gzread(s->gz, (char *)to + done, want);
    if (got < 0) {
      int code;
      const char *why = gzerror(s->gz, &code);
      io_fail(s->fault, s->path, "%s", code == Z_ERRNO ? strerror(errno) : code == Z_BUF_ERROR ? "is truncated" : why);
      return -1;
    }
    if (got == 0) {
      int code = Z_OK; /* the end of a cut gzip stream is an error that gzread keeps to itself */
      gzerror(s->gz, &code);
      if (code == Z_BUF_ERROR) return io_fail(s->fault, s->path, "is truncated"), -1;
      break;
    }
    done += (size_t)got;
  }
  return (int64_t)done;
}

/* Deflate makes at most 1032 bytes of one. */
uint64_t stream_bound(const Stream *s) { return s->size > UINT64_MAX / 1040 ? UINT64_MAX : s->size * 1040; }

/* ---- writing -------------------------------------------------------------------------------------------------- */
bool out_open(Out *o, const char *path, Fault *f) {
  *o = (Out){.path = path, .fault = f};
  struct stat st;
  bool exists = stat(path, &st) == 0;
  if (exists && S_ISDIR(st.st_mode)) return io_fail(f, path, "is a folder");
  if (exists && !S_ISREG(st.st_mode)) {
    o->file = fopen(path, "we");
    return o->file ? true : io_fail(f, path, "%s", strerror(errno));
  }
  int fd = -1;
  for (int k = 0; fd < 0 && k < 100; k++) { /* names in use are another writer's, or left by a crash */
    int n = snprintf(o->tmp, sizeof o->tmp, "%s.%d-%d.tmp", path, (int)getpid(), k);
    if (n >= (int)sizeof o->tmp) return io_fail(f, path, "the path is too long");
    fd = open(o->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno != EEXIST) break;
  }
  if (fd < 0) return io_fail(f, path, "cannot be written: %s", strerror(errno));
  if (exists)
    (void)!fchmod(fd, st.st_mode & 0777); /* keeps the old file's rights; without them it is written all the same */
  o->file = fdopen(fd, "wb");
  if (o->file) return true;
  close(fd);
  unlink(o->tmp);
  return io_fail(f, path, "%s", strerror(errno));
}

void out_write(Out *o, const void *p, size_t n) {
  o->synced = false;
  if (n && !o->why && fwrite(p, 1, n, o->file) != n) o->why = errno ? errno : EIO;
}

/* A rename lasts when its folder is on the disk, too. Where folders cannot be synced the file system sees to it. */
static void sync_folder(const char *path) {
  char dir[IO_PATH];
  const char *slash = strrchr(path, '/');
  int n = slash ? snprintf(dir, sizeof dir, "%.*s", slash > path ? (int)(slash - path) : 1, path)
                : snprintf(dir, sizeof dir, ".");
  int fd = n < IO_PATH ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
  if (fd < 0) return;
  (void)!fsync(fd);
  close(fd);
}

void out_sync(Out *o) {
  if (o->why || o->synced) return;
  if (fflush(o->file) || ferror(o->file) || (o->tmp[0] && fsync(fileno(o->file)))) o->why = errno ? errno : EIO;
  o->synced = !o->why;
}

bool out_commit(Out *o) {
  out_sync(o);
  bool ok = !o->why;
  int why = o->why;
  if (fclose(o->file) && ok) ok = false, why = errno;
  if (ok && o->tmp[0] && rename(o->tmp, o->path)) ok = false, why = errno;
  if (!ok && o->tmp[0]) unlink(o->tmp);
  if (ok && o->tmp[0]) sync_folder(o->path);
  o->file = NULL;
  return ok ? true : io_fail(o->fault, o->path, "cannot be written: %s", strerror(why));
}

void out_abort(Out *o) {
  if (o->file) fclose(o->file);
  if (o->tmp[0]) unlink(o->tmp);
  o->file = NULL;
}

/* ---- results -------------------------------------------------------------------------------------------------- */
static bool wide(const FileTensor *t, const Tensor *out) { return dt_is_float(t->dtype) && out->dtype == DT_F64; }

bool result_fits(const char *path, const FileTensor *t, const Tensor *out, Fault *f) {
  if (t->rank != out->rank || memcmp(t->dim, out->dim, sizeof t->dim[0] * (size_t)t->rank) ||
      (t->dtype != out->dtype && !wide(t, out)))
    return io_fail(f, path, "has changed since the program was checked");
  return true;
}

void *result_begin(const FileTensor *t, const Tensor *out, Fault *f) {
  if (t->dtype == out->dtype) return out->data;
  size_t bytes;
  void *p = shape_bytes(t->dtype, t->rank, t->dim, &bytes) ? malloc(bytes ? bytes : 1) : NULL;
  if (!p) fault_set(f, R_MEMORY, (Span){0}, "out of memory");
  return p;
}

void result_end(const FileTensor *t, Tensor *out, void *data) {
  if (!data || data == out->data) return;
  int64_t n = tensor_count(out);
  for (int64_t i = 0; i < n; i++) dt_put_f(out->dtype, out->data, i, dt_get_f(t->dtype, data, i));
  free(data);
}

bool run_status(bool ok, Fault *f) {
  if (!ok && f->id == M_FILE) f->id = R_NATIVE;
  return ok;
}
