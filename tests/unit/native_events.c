/* Event files: checksums, frames, what a histogram counts; metrics.jsonl. */
#include "native_support.h"
#include "stdlib/native/checkpoint.h"
#include "stdlib/native/events.h"
#include <dirent.h>
#include <float.h>

Test(native_events, checksums) {
  cr_assert_eq(crc32c("123456789", 9), 0xe3069283u); /* the check value of CRC-32C */
  cr_assert_eq(crc32c("", 0), 0u);
  uint8_t zero[32] = {0}; /* RFC 3720, B.4 */
  cr_assert_eq(crc32c(zero, 32), 0x8a9136aau);
}

/* The only event file of a folder. */
static const char *event_file(const char *dir) {
  static char path[600];
  DIR *d = opendir(dir);
  cr_assert(d);
  int n = 0;
  for (struct dirent *e; (e = readdir(d));)
    if (strstr(e->d_name, "tfevents")) snprintf(path, sizeof path, "%s/%s", dir, e->d_name), n++;
  closedir(d);
  cr_assert_eq(n, 1);
  return path;
}

static uint64_t fixed(const uint8_t *p, int n) {
  uint64_t v = 0;
  while (n-- > 0) v = v << 8 | p[n];
  return v;
}
static uint64_t varint(const uint8_t **p) {
  uint64_t v = 0;
  int s = 0;
  while (**p & 0x80) v |= (uint64_t)(*(*p)++ & 0x7f) << s, s += 7;
  return v | (uint64_t) * (*p)++ << s;
}
/* Field `want` of a message: its payload and length (of doubles and floats 8 and 4). NULL: absent. */
static const uint8_t *field(const uint8_t *p, size_t n, int want, size_t *len) {
  for (const uint8_t *end = p + n; p < end;) {
    uint64_t key = varint(&p);
    const uint8_t *at = p;
    *len = 0;
    if ((key & 7) == 0)
      varint(&p);
    else {
      *len = (key & 7) == 2 ? (size_t)varint(&p) : (key & 7) == 1 ? 8 : 4;
      at = p, p += *len;
    }
    if ((int)(key >> 3) == want) return at;
  }
  return NULL;
}
static double number(const uint8_t *p, size_t n, int want) {
  size_t len;
  double v;
  memcpy(&v, field(p, n, want, &len), 8);
  return v;
}

typedef struct Event {
  const uint8_t *p;
  size_t n;
} Event;
static int events(const char *path, uint8_t *buf, size_t cap, Event *out) {
  size_t n = read_bytes(path, buf, cap);
  int k = 0;
  for (size_t at = 0; at < n; k++) {
    size_t size = (size_t)fixed(buf + at, 8);
    cr_assert_eq(fixed(buf + at + 8, 4), crc32c_masked(buf + at, 8));
    cr_assert_eq(fixed(buf + at + 12 + size, 4), crc32c_masked(buf + at + 12, size));
    out[k] = (Event){buf + at + 12, size};
    at += size + 16;
  }
  return k;
}

Test(native_events, scalars_and_histograms, .fini = done) {
  NativeHost host = {0};
  const char *dir = file("a/b");
  Fault f;
  Attr scalars[] = {{.s = dir}, {.s = "loss"}, {.s = "n \"quoted\""}, {.s = "wide"}, {.s = "lost"}};
  Tensor x[] = {scalar(DT_I64, 300), scalar(DT_F32, 0.1f), scalar(DT_I32, -7), scalar(DT_F64, 0.1),
                scalar(DT_F32, NAN)};
  cr_assert(call("log_scalars", &host, 5, scalars, 5, x, 0, NULL, &f), "%s", f.msg);
  Attr histos[] = {{.s = dir}, {.s = "w"}};
  Tensor y[] = {scalar(DT_I64, 301), VALUES(DT_F32, 8, 0, 0, 1, -1, 1e30, -1e-13, NAN, 1.05)};
  cr_assert(call("log_histograms", &host, 2, histos, 2, y, 0, NULL, &f), "%s", f.msg);
  train_files_free(host.train);
  static uint8_t buf[1 << 16];
  Event e[8];
  size_t len, n;
  cr_assert_eq(events(event_file(dir), buf, sizeof buf, e), 4); /* version, start, scalars, histogram */
  const uint8_t *p = field(e[0].p, e[0].n, 3, &len);
  cr_assert(len == 13 && !memcmp(p, "brain.Event:2", 13));
  p = field(e[1].p, e[1].n, 2, &len);
  cr_assert_eq(varint(&p), 300);
  const uint8_t *s = field(e[2].p, e[2].n, 5, &n), *v = field(s, n, 1, &len), *tag = field(v, len, 1, &n);
  cr_assert(n == 4 && !memcmp(tag, "loss", 4));
  float got;
  memcpy(&got, field(v, len, 2, &n), 4);
  cr_assert_eq(got, 0.1f);
  s = field(e[3].p, e[3].n, 5, &n), v = field(s, n, 1, &len);
  const uint8_t *h = field(v, len, 5, &n);
  size_t size = n, nl, nc;
  cr_assert(number(h, size, 1) == -1 && number(h, size, 2) == (double)1e30f && number(h, size, 3) == 7);
  const uint8_t *limit = field(h, size, 6, &nl), *count = field(h, size, 7, &nc);
  cr_assert(nl == nc && nl % 8 == 0);
  double sum = 0, below = -DBL_MAX;
  for (size_t k = 0; k < nl; k += 8) {
    double l, c, inside = 0;
    memcpy(&l, limit + k, 8), memcpy(&c, count + k, 8);
    for (int j = 0; j < 8; j++) inside += get(&y[1], j) >= below && get(&y[1], j) < l;
    cr_assert(l >= below && c == inside, "bucket below %g: %g, not %g", l, c, inside);
    sum += c, below = l;
  }
  cr_assert_eq(sum, 7); /* all but the nan */
  char text[512] = {0};
  char path[300];
  snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
  read_bytes(path, text, sizeof text - 1);
  cr_assert(!strncmp(text, "{\"step\": 300, \"wall_time\": ", 27), "%s", text);
  cr_assert(strstr(text, ", \"loss\": 0.1, \"n \\\"quoted\\\"\": -7, \"wide\": 0.1, \"lost\": null}\n"), "%s", text);
}
