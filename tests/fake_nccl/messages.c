/* Messages and signs between the ranks of a fake NCCL: files, whole once they have their name. */
#include "tests/fake_nccl/fake_nccl.h"
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Head {
  int kind, type;
  size_t bytes;
} Head;

void nccl_misuse(const char *fmt, ...) {
  char text[512];
  va_list a;
  va_start(a, fmt);
  vsnprintf(text, sizeof text, fmt, a);
  va_end(a);
  fprintf(stderr, "fake nccl: %s\n", text);
}

static void name_of(const struct ncclComm *c, const Move *m, int from, int to, char *path, size_t room) {
  snprintf(path, room, "%s/m-%d-%d-%ld", c->folder, from, to, m->number);
}

bool message_put(const struct ncclComm *c, const Move *m) {
  char tmp[320], path[320];
  Head h = {(int)m->kind, m->type, m->bytes};
  snprintf(tmp, sizeof tmp, "%s/tmp-%d", c->folder, c->rank);
  name_of(c, m, c->rank, m->peer, path, sizeof path);
  FILE *f = fopen(tmp, "wb");
  bool ok = f && fwrite(&h, sizeof h, 1, f) == 1 && fwrite(m->at, 1, m->bytes, f) == m->bytes;
  if (f) ok = fclose(f) == 0 && ok;
  return ok && rename(tmp, path) == 0;
}

int message_take(const struct ncclComm *c, const Move *m) {
  char path[320];
  Head h;
  name_of(c, m, m->peer, c->rank, path, sizeof path);
  FILE *f = fopen(path, "rb");
  if (!f) return 0;
  bool ok = fread(&h, sizeof h, 1, f) == 1;
  if (ok && (h.kind != (int)m->kind || h.type != m->type || h.bytes != m->bytes)) {
    nccl_misuse("rank %d expects %c type %d of %zu bytes from rank %d, there come %c type %d of %zu", c->rank, m->kind,
                m->type, m->bytes, m->peer, h.kind, h.type, h.bytes);
    ok = false;
  }
  ok = ok && fread(m->at, 1, m->bytes, f) == m->bytes;
  fclose(f);
  unlink(path);
  return ok ? 1 : -1;
}

bool rank_arrives(const struct ncclComm *c, const char *what) {
  char path[320];
  snprintf(path, sizeof path, "%s/%s-%d", c->folder, what, c->rank);
  FILE *f = fopen(path, "wb");
  return f && fclose(f) == 0;
}
int ranks_arrived(const struct ncclComm *c, const char *what) {
  int n = 0;
  char path[320];
  for (int r = 0; r < c->nrank; r++) {
    snprintf(path, sizeof path, "%s/%s-%d", c->folder, what, r);
    n += access(path, F_OK) == 0;
  }
  return n;
}

void folder_clear(const struct ncclComm *c, bool whole) {
  DIR *d = opendir(c->folder);
  char path[600];
  int left = 0;
  for (struct dirent *e; d && (e = readdir(d));) {
    if (e->d_name[0] == '.') continue;
    left += e->d_name[0] == 'm';
    snprintf(path, sizeof path, "%s/%s", c->folder, e->d_name);
    unlink(path);
  }
  if (d) closedir(d);
  rmdir(c->folder);
  if (whole && left) nccl_misuse("%d messages were never received", left);
}

size_t type_bytes(int type) {
  static const size_t bytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
  return type >= 0 && type < (int)(sizeof bytes / sizeof *bytes) ? bytes[type] : 0;
}
