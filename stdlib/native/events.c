/* Event files and metrics.jsonl: messages by hand, since they are few.
 *
 *   frame      length u64, masked CRC-32C of it, the message, masked CRC-32C of that; little-endian
 *   Event      1 wall_time double, 2 step int64, 3 file_version string, 5 summary, 7 session_log
 *   Summary    1 value: Value    1 tag string, 2 simple_value float, 5 histo
 *   histo      1 min, 2 max, 3 num, 4 sum, 5 sum_squares double; 6 bucket_limit, 7 bucket: packed doubles
 * (tensorflow/core/util/event.proto, framework/summary.proto). */
#include "stdlib/native/events.h"
#include "stdlib/native/checkpoint.h"
#include "stdlib/native/io.h"
#include "stdlib/native/json.h"
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct LogWriter {
  const char *dir;
  int events, jsonl; /* file descriptors */
  bool started;      /* the first step has been marked */
  bool failed;       /* said so */
  LogWriter *next;
};

static double wall_time(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- checksums --------------------------------------------------------------------------------------------------- */
uint32_t crc32c(const void *p, size_t n) {
  const uint8_t *b = p;
  uint32_t c = ~0u, table[16]; /* a nibble at a time */
  for (uint32_t k = 0; k < 16; k++) {
    table[k] = k;
    for (int j = 0; j < 4; j++) table[k] = table[k] >> 1 ^ (table[k] & 1 ? 0x82f63b78u : 0);
  }
  for (size_t k = 0; k < n; k++) {
    c ^= b[k];
    c = c >> 4 ^ table[c & 15];
    c = c >> 4 ^ table[c & 15];
  }
  return ~c;
}

uint32_t crc32c_masked(const void *p, size_t n) {
  uint32_t c = crc32c(p, n);
  return (c >> 15 | c << 17) + 0xa282ead8u;
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */
typedef struct Bytes {
  Arena *a;
  JsonText to;
} Bytes;

static void put_bytes(Bytes *b, const void *p, size_t n) { json_add(b->a, &b->to, p, n); }
static void put_fixed(Bytes *b, uint64_t v, int n) {
  for (int k = 0; k < n; k++) vec_push(b->a, &b->to, (char)(v >> 8 * k));
}
static void put_varint(Bytes *b, uint64_t v) {
  for (; v >= 0x80; v >>= 7) vec_push(b->a, &b->to, (char)(v | 0x80));
  vec_push(b->a, &b->to, (char)v);
}
enum { VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5 };
static void put_key(Bytes *b, int field, int wire) { put_varint(b, (uint64_t)(field << 3 | wire)); }
static void put_double(Bytes *b, double v) {
  uint64_t u;
  memcpy(&u, &v, sizeof u);
  put_fixed(b, u, 8);
}
static void field_double(Bytes *b, int field, double v) {
  put_key(b, field, FIXED64);
  put_double(b, v);
}
static void field_float(Bytes *b, int field, float v) {
  uint32_t u;
  memcpy(&u, &v, sizeof u);
  put_key(b, field, FIXED32);
  put_fixed(b, u, 4);
}
static void field_bytes(Bytes *b, int field, const void *p, size_t n) {
  put_key(b, field, LENGTH);
  put_varint(b, n);
  put_bytes(b, p, n);
}
static void field_message(Bytes *b, int field, const Bytes *m) { field_bytes(b, field, m->to.at, (size_t)m->to.n); }

static Bytes event_begin(Arena *a, int64_t step) {
  Bytes e = {a, {0}};
  field_double(&e, 1, wall_time());
  if (step) {
    put_key(&e, 2, VARINT);
    put_varint(&e, (uint64_t)step);
  }
  return e;
}

static Bytes framed(Arena *a, const Bytes *m) {
  Bytes f = {a, {0}};
  put_fixed(&f, (uint64_t)m->to.n, 8);
  put_fixed(&f, crc32c_masked(f.to.at, 8), 4);
  put_bytes(&f, m->to.at, (size_t)m->to.n);
  put_fixed(&f, crc32c_masked(m->to.at, (size_t)m->to.n), 4);
  return f;
}

/* ---- histograms -------------------------------------------------------------------------------------------------- */
/* TensorFlow's default buckets: limits grow by 1.1 from 1e-12 to 1e20 on both sides of 0. */
typedef struct Buckets {
  int n;
  double *limit, *count;
  double min, max, num, sum, squares;
} Buckets;

static Buckets buckets_new(Arena *a) {
  int side = 0;
  for (double v = 1e-12; v < 1e20; v *= 1.1) side++;
  Buckets b = {.n = 2 * side + 3, .min = DBL_MAX, .max = -DBL_MAX};
  b.limit = arena_array(a, double, b.n), b.count = arena_array(a, double, b.n);
  double v = 1e-12, *zero = b.limit + side + 1;
  for (int k = 1; k <= side; k++, v *= 1.1) zero[k] = v, zero[-k] = -v;
  b.limit[0] = -DBL_MAX, b.limit[b.n - 1] = DBL_MAX;
  return b;
}

/* The first bucket whose limit is above v. */
static int bucket_of(const Buckets *b, double v) {
  int lo = 0, hi = b->n - 1;
  while (lo < hi) {
    int mid = (lo + hi) / 2;
    if (b->limit[mid] > v)
      hi = mid;
    else
      lo = mid + 1;
  }
  return lo;
}

/* Numbers that are not finite belong to no bucket; they are left out. */
static void buckets_add(Buckets *b, const Tensor *t) {
  int64_t n = tensor_count(t);
  for (int64_t k = 0; k < n; k++) {
    double v = dt_get_f(t->dtype, t->data, k);
    if (!isfinite(v)) continue;
    b->count[bucket_of(b, v)]++;
    b->num++, b->sum += v, b->squares += v * v;
    if (v < b->min) b->min = v;
    if (v > b->max) b->max = v;
  }
}

/* Runs of empty buckets become one. */
static Bytes histogram(Arena *a, const Tensor *t) {
  Buckets b = buckets_new(a);
  buckets_add(&b, t);
  Bytes m = {a, {0}}, limit = {a, {0}}, count = {a, {0}};
  if (!b.num) b.min = b.max = 0;
  const double head[] = {b.min, b.max, b.num, b.sum, b.squares};
  for (int k = 0; k < 5; k++) field_double(&m, k + 1, head[k]);
  for (int k = 0; k < b.n; k++) {
    while (b.count[k] == 0 && k + 1 < b.n && b.count[k + 1] == 0) k++;
    put_double(&limit, b.limit[k]);
    put_double(&count, b.count[k]);
  }
  field_message(&m, 6, &limit);
  field_message(&m, 7, &count);
  return m;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */
static bool log_fail(LogWriter *w, const char *what) {
  if (!w->failed)
    fprintf(stderr, "warning: %s: the log cannot be written: %s; the run goes on without it\n", w->dir, what);
  w->failed = true;
  return false;
}

/* All of it or nothing. */
static bool append(LogWriter *w, int fd, const void *p, size_t n) {
  if (w->failed) return false;
  off_t before = lseek(fd, 0, SEEK_END);
  size_t done = 0;
  while (done < n) {
    ssize_t got = write(fd, (const char *)p + done, n - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      const char *why = strerror(errno);
      if (done && before >= 0) (void)!ftruncate(fd, before);
      return log_fail(w, why);
    }
    done += (size_t)got;
  }
  return true;
}

static bool append_event(LogWriter *w, Arena *a, const Bytes *e) {
  Bytes f = framed(a, e);
  return append(w, w->events, f.to.at, (size_t)f.to.n);
}

/* A last line without its newline was cut: it is no record. */
static void drop_partial_line(int fd) {
  off_t end = lseek(fd, 0, SEEK_END), at = end;
  char c = '\n';
  while (at > 0 && pread(fd, &c, 1, at - 1) == 1 && c != '\n') at--;
  if (at < end) (void)!ftruncate(fd, at);
}

static int open_events(Arena *a, const char *dir) {
  char host[64] = "";
  gethostname(host, sizeof host - 1);
  for (char *c = host; *c; c++)
    if (*c == '/') *c = '_';
  for (int k = 0; k < 1000; k++) {
    const char *path = arena_printf(a, "%s/events.out.tfevents.%010lld.%s.%d.%d", dir, (long long)time(NULL),
                                    *host ? host : "localhost", (int)getpid(), k);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_APPEND, 0666);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

static LogWriter *writer_new(TrainFiles *t, const char *dir) {
  Arena *a = train_arena(t);
  LogWriter *w = arena_new_of(a, LogWriter), **list = train_logs(t);
  *w = (LogWriter){.dir = arena_strdup(a, dir), .events = -1, .jsonl = -1, .next = *list};
  *list = w;
  Fault f = {0};
  if (!make_folders(dir, &f)) return log_fail(w, f.msg), w;
  w->jsonl = open(arena_printf(a, "%s/metrics.jsonl", dir), O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND, 0666);
  w->events = w->jsonl < 0 ? -1 : open_events(a, dir);
  if (w->events < 0) return log_fail(w, strerror(errno)), w;
  drop_partial_line(w->jsonl);
  Bytes e = event_begin(a, 0);
  field_bytes(&e, 3, "brain.Event:2", 13);
  append_event(w, a, &e);
  return w;
}

static LogWriter *writer_of(TrainFiles *t, const char *dir) {
  for (LogWriter *w = *train_logs(t); w; w = w->next)
    if (!strcmp(w->dir, dir)) return w;
  return writer_new(t, dir);
}

void logs_close(LogWriter *w) {
  for (; w; w = w->next) {
    if (w->events >= 0) close(w->events);
    if (w->jsonl >= 0) close(w->jsonl);
  }
}

/* A session that starts at a step: readers drop what an earlier one logged from there on. */
static void mark_start(LogWriter *w, Arena *a, int64_t step) {
  if (w->started) return;
  w->started = true;
  Bytes log = {a, {0}}, e = event_begin(a, step);
  put_key(&log, 1, VARINT);
  put_varint(&log, 1); /* START */
  field_message(&e, 7, &log);
  append_event(w, a, &e);
}

/* ---- natives ----------------------------------------------------------------------------------------------------- */
/* The shortest decimal that reads back as v. */
static void put_number(Arena *a, JsonText *to, DType t, const Tensor *x) {
  if (!dt_is_float(t)) {
    json_printf(a, to, "%lld", (long long)dt_get_i(t, x->data, 0));
    return;
  }
  double v = dt_get_f(t, x->data, 0);
  char buf[40];
  if (!isfinite(v)) {
    json_printf(a, to, "null");
    return;
  }
  for (int p = t == DT_F64 ? 15 : 6; p <= 17; p++) {
    snprintf(buf, sizeof buf, "%.*g", p, v);
    if (t == DT_F64 ? strtod(buf, NULL) == v : strtof(buf, NULL) == (float)v) break;
  }
  json_printf(a, to, "%s", buf);
}

static void log_scalars(LogWriter *w, Arena *a, int64_t step, int n, const Attr *tag, const Tensor *x) {
  Bytes summary = {a, {0}}, e = event_begin(a, step);
  JsonText line = {0};
  json_printf(a, &line, "{\"step\": %lld, \"wall_time\": %.3f", (long long)step, wall_time());
  for (int k = 0; k < n; k++) {
    Bytes value = {a, {0}};
    DType t = x[k].dtype;
    field_bytes(&value, 1, tag[k].s, strlen(tag[k].s));
    field_float(&value, 2, dt_is_float(t) ? (float)dt_get_f(t, x[k].data, 0) : (float)dt_get_i(t, x[k].data, 0));
    field_message(&summary, 1, &value);
    json_printf(a, &line, ", ");
    json_quote(a, &line, tag[k].s);
    json_printf(a, &line, ": ");
    put_number(a, &line, t, &x[k]);
  }
  json_printf(a, &line, "}\n");
  field_message(&e, 5, &summary);
  if (append_event(w, a, &e)) append(w, w->jsonl, line.at, (size_t)line.n);
}

static void log_histograms(LogWriter *w, Arena *a, int64_t step, int n, const Attr *tag, const Tensor *x) {
  for (int k = 0; k < n; k++) {
    Bytes summary = {a, {0}}, value = {a, {0}}, e = event_begin(a, step), histo = histogram(a, &x[k]);
    field_bytes(&value, 1, tag[k].s, strlen(tag[k].s));
    field_message(&value, 5, &histo);
    field_message(&summary, 1, &value);
    field_message(&e, 5, &summary);
    append_event(w, a, &e);
  }
}

static bool run_log(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, bool histograms, Fault *f) {
  char buf[IO_PATH];
  TrainFiles *t = train_files(ctx);
  bool ok = t && nin > 0 && nattr == nin && attr[0].s && in[0].rank == 0 && !dt_is_float(in[0].dtype);
  for (int k = 1; ok && k < nin; k++) ok = histograms ? dt_is_float(in[k].dtype) : in[k].rank == 0;
  if (!ok) return fault_set(f, R_NATIVE, (Span){0}, "log: wrong arguments"), false;
  LogWriter *w = writer_of(t, io_path(ctx, attr[0].s, buf));
  if (w->failed) return true;
  Arena *a = arena_new();
  int64_t step = dt_get_i(in[0].dtype, in[0].data, 0);
  mark_start(w, a, step);
  (histograms ? log_histograms : log_scalars)(w, a, step, nin - 1, attr + 1, in + 1);
  arena_free(a);
  return true;
}

static bool run_scalars(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                        Fault *f) {
  return run_log(ctx, nattr, attr, nin, in, false, f);
}
static bool run_histograms(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                           Fault *f) {
  return run_log(ctx, nattr, attr, nin, in, true, f);
}

const Native native_log_scalars = {.name = "log_scalars", .effect = true, .who = RUN_FIRST, .run = run_scalars};
const Native native_log_histograms = {
    .name = "log_histograms", .effect = true, .who = RUN_FIRST, .run = run_histograms};
