/* The object cache on disk (cache.h).
 *
 *   file    header | key | meta | object
 *   header  magic "TGKC", version, lengths, checksum of all that follows the header */
#include "codegen/cpu/cache.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Header {
  char magic[4];
  uint32_t version;
  uint64_t nkey, nmeta, nobject, sum_a, sum_b;
} Header;
enum { CACHE_VERSION = 2, CACHE_PATH = 4096 };

static uint64_t mix(uint64_t x) { /* finaliser of MurmurHash3 */
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdu;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53u;
  return x ^ (x >> 33);
}

CacheHash cache_hash(const void *p, size_t n) {
  const unsigned char *s = p;
  uint64_t a = 0x9e3779b97f4a7c15u ^ n, b = 0xc2b2ae3d27d4eb4fu + n;
  while (n) {
    uint64_t w = 0;
    size_t m = n < 8 ? n : 8;
    memcpy(&w, s, m);
    a = mix(a ^ w) * 0x9fb21c651e98df25u + b;
    b = (b << 29 | b >> 35) ^ mix(w + a);
    s += m;
    n -= m;
  }
  return (CacheHash){mix(a + 3 * b), mix(b ^ (a << 17 | a >> 47))};
}

static bool entry_path(char *out, const char *dir, const char *key) {
  CacheHash h = cache_hash(key, strlen(key));
  int n = snprintf(out, CACHE_PATH, "%s/%016llx%016llx.tgk", dir, (unsigned long long)h.a, (unsigned long long)h.b);
  return n > 0 && n < CACHE_PATH;
}

static bool read_all(int fd, void *p, size_t n) {
  char *at = p;
  while (n) {
    ssize_t r = read(fd, at, n);
    if (r < 0 && errno == EINTR) continue;
    if (r <= 0) return false;
    at += r;
    n -= (size_t)r;
  }
  return true;
}

static bool write_all(int fd, const void *p, size_t n) {
  const char *at = p;
  while (n) {
    ssize_t r = write(fd, at, n);
    if (r < 0 && errno == EINTR) continue;
    if (r <= 0) return false;
    at += r;
    n -= (size_t)r;
  }
  return true;
}

bool cache_get(const char *dir, const char *key, CacheEntry *out) {
  char path[CACHE_PATH];
  if (!dir || !entry_path(path, dir, key)) return false;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  struct stat st;
  char *block = NULL;
  bool good = false;
  if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= (off_t)sizeof(Header) &&
      st.st_size < (off_t)1 << 30) {
    size_t n = (size_t)st.st_size, body = n - sizeof(Header), nkey = strlen(key);
    block = malloc(n);
    Header h;
    if (block && read_all(fd, block, n)) {
      memcpy(&h, block, sizeof h);
      const char *at = block + sizeof h;
      good = !memcmp(h.magic, "TGKC", 4) && h.version == CACHE_VERSION && h.nkey == nkey && h.nmeta <= body &&
             h.nobject <= body && h.nkey + h.nmeta + h.nobject == body && !memcmp(at, key, nkey);
      if (good) {
        CacheHash sum = cache_hash(at, body);
        good = sum.a == h.sum_a && sum.b == h.sum_b;
      }
      if (good) *out = (CacheEntry){block, at + nkey, at + nkey + h.nmeta, (size_t)h.nmeta, (size_t)h.nobject};
    }
  }
  close(fd);
  if (!good) free(block);
  return good;
}

static void make_dirs(const char *dir) {
  char path[CACHE_PATH];
  size_t n = strlen(dir);
  if (n + 1 > sizeof path) return;
  memcpy(path, dir, n + 1);
  for (size_t i = 1; i <= n; i++) {
    if (path[i] != '/' && path[i]) continue;
    path[i] = 0;
    mkdir(path, 0700);
    if (i < n) path[i] = '/';
  }
}

bool cache_put(const char *dir, const char *key, const void *meta, size_t nmeta, const void *object, size_t nobject) {
  char path[CACHE_PATH], temp[CACHE_PATH];
  if (!dir || !entry_path(path, dir, key)) return false;
  int n = snprintf(temp, sizeof temp, "%s/.new-XXXXXX", dir);
  if (n <= 0 || n >= (int)sizeof temp) return false;
  int fd = mkostemp(temp, O_CLOEXEC);
  if (fd < 0) {
    make_dirs(dir);
    snprintf(temp, sizeof temp, "%s/.new-XXXXXX", dir);
    fd = mkostemp(temp, O_CLOEXEC);
  }
  if (fd < 0) return false;
  size_t nkey = strlen(key), body = nkey + nmeta + nobject;
  char *block = malloc(sizeof(Header) + body);
  bool good = block != NULL;
  if (good) {
    char *at = block + sizeof(Header);
    memcpy(at, key, nkey);
    if (nmeta) memcpy(at + nkey, meta, nmeta);
    memcpy(at + nkey + nmeta, object, nobject);
    CacheHash sum = cache_hash(at, body);
    Header h = {{'T', 'G', 'K', 'C'}, CACHE_VERSION, nkey, nmeta, nobject, sum.a, sum.b};
    memcpy(block, &h, sizeof h);
    good = write_all(fd, block, sizeof(Header) + body);
  }
  free(block);
  good = close(fd) == 0 && good;
  if (!good || rename(temp, path)) {
    unlink(temp);
    return false;
  }
  return true;
}

typedef struct Aged {
  struct timespec when;
  char name[48];
} Aged;
static int by_age(const void *x, const void *y) {
  const struct timespec *a = &((const Aged *)x)->when, *b = &((const Aged *)y)->when;
  if (a->tv_sec != b->tv_sec) return a->tv_sec < b->tv_sec ? -1 : 1;
  return a->tv_nsec < b->tv_nsec ? -1 : a->tv_nsec > b->tv_nsec;
}

void cache_prune(const char *dir, int max) {
  DIR *d = dir ? opendir(dir) : NULL;
  if (!d) return;
  Aged *all = NULL;
  int n = 0, cap = 0;
  for (struct dirent *e; (e = readdir(d));) {
    size_t len = strlen(e->d_name);
    bool entry = len == 36 && !strcmp(e->d_name + 32, ".tgk"), stray = !strncmp(e->d_name, ".new-", 5);
    if (!entry && !stray) continue;
    struct stat st;
    if (fstatat(dirfd(d), e->d_name, &st, 0)) continue;
    if (n == cap) {
      Aged *more = realloc(all, sizeof *all * (size_t)(cap = cap ? 2 * cap : 256));
      if (!more) break;
      all = more;
    }
    all[n].when = st.st_mtim;
    snprintf(all[n++].name, sizeof all->name, "%.40s", e->d_name);
  }
  if (n > max) {
    qsort(all, (size_t)n, sizeof *all, by_age);
    for (int i = 0; i < n - max + max / 4; i++) unlinkat(dirfd(d), all[i].name, 0);
  }
  free(all);
  closedir(d);
}
