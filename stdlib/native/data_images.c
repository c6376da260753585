/* Folders of images: names listed when opened, pixels decoded when rows are read. */
#include "stdlib/native/data_images.h"
#include "stdlib/native/data_set.h"
#include "stdlib/native/image.h"
#include "stdlib/native/io.h"
#include "graph/diag.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

typedef struct Images {
  int64_t n;
  const char **file; /* full paths */
  int32_t *label;
  int nclass;
  const char **name;
  int64_t h, w;
  int channels;
  bool resize;
} Images;

static bool is_image(const char *name) {
  const char *dot = strrchr(name, '.');
  return dot && (!strcasecmp(dot, ".png") || !strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg"));
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Names in a folder, sorted: sub-folders, or images. Hidden ones are passed over. */
static bool list(Arena *a, const char *path, bool folders, int *n, const char ***out, Fault *f) {
  DIR *d = opendir(path);
  if (!d) return io_fail(f, path, "%s", errno == ENOENT ? "no such folder" : strerror(errno));
  VEC(const char *) name = {0};
  for (struct dirent *e; (e = readdir(d));) {
    if (e->d_name[0] == '.') continue;
    bool folder = e->d_type == DT_DIR;
    if (e->d_type == DT_UNKNOWN || e->d_type == DT_LNK) {
      struct stat st;
      folder = !stat(arena_printf(a, "%s/%s", path, e->d_name), &st) && S_ISDIR(st.st_mode);
    }
    if (folders ? folder : !folder && is_image(e->d_name)) vec_push(a, &name, arena_strdup(a, e->d_name));
  }
  closedir(d);
  if (name.n) qsort(name.at, (size_t)name.n, sizeof *name.at, by_name);
  *n = name.n, *out = name.at;
  return true;
}

typedef struct Listing {
  VEC(const char *) file;
  VEC(int32_t) label;
} Listing;

static bool list_images(Arena *a, Listing *l, const char *path, int32_t label, Fault *f) {
  int n;
  const char **name;
  if (!list(a, path, false, &n, &name, f)) return false;
  for (int k = 0; k < n; k++) {
    vec_push(a, &l->file, arena_printf(a, "%s/%s", path, name[k]));
    vec_push(a, &l->label, label);
  }
  return true;
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

/* Bilinear, pixel centres aligned; a smaller result is taken from an image halved until less than twice as large. */
static void resize(const uint8_t *from, int64_t h, int64_t w, uint8_t *to, int64_t oh, int64_t ow) {
  for (int64_t y = 0; y < oh; y++) {
    double sy = ((double)y + 0.5) * (double)h / (double)oh - 0.5;
    if (sy < 0) sy = 0;
    int64_t y0 = (int64_t)sy, y1 = y0 + 1 < h ? y0 + 1 : h - 1;
    for (int64_t x = 0; x < ow; x++) {
      double sx = ((double)x + 0.5) * (double)w / (double)ow - 0.5;
      if (sx < 0) sx = 0;
      int64_t x0 = (int64_t)sx, x1 = x0 + 1 < w ? x0 + 1 : w - 1;
      double fy = sy - (double)y0, fx = sx - (double)x0;
      double top = from[y0 * w + x0] * (1 - fx) + from[y0 * w + x1] * fx;
      double low = from[y1 * w + x0] * (1 - fx) + from[y1 * w + x1] * fx;
      to[y * ow + x] = (uint8_t)(top * (1 - fy) + low * fy + 0.5);
    }
  }
}

/* The mean of 2x2 pixels, in place; an odd last row or column is left out. */
static void halve(uint8_t *p, int64_t *h, int64_t *w) {
  int64_t oh = *h / 2, ow = *w / 2;
  for (int64_t y = 0; y < oh; y++)
    for (int64_t x = 0; x < ow; x++) {
      const uint8_t *s = p + 2 * y * *w + 2 * x;
      p[y * ow + x] = (uint8_t)((s[0] + s[1] + s[*w] + s[*w + 1] + 2) / 4);
    }
  *h = oh, *w = ow;
}

static bool read_resized(const Images *m, const char *path, uint8_t *to, Fault *f) {
  int64_t w, h;
  int channels;
  if (!image_info(path, &w, &h, &channels, f)) return false;
  if (w == m->w && h == m->h) return image_read(path, w, h, m->channels, to, f);
  size_t plane = (size_t)w * (size_t)h;
  uint8_t *all = malloc(plane * (size_t)m->channels + 1);
  if (!all) return data_no_memory(f, plane * (size_t)m->channels);
  bool ok = image_read(path, w, h, m->channels, all, f);
  for (int c = 0; ok && c < m->channels; c++) {
    int64_t ph = h, pw = w;
    uint8_t *p = all + plane * (size_t)c;
    while (ph >= 2 * m->h && pw >= 2 * m->w) halve(p, &ph, &pw);
    resize(p, ph, pw, to + (size_t)c * (size_t)(m->h * m->w), m->h, m->w);
  }
  free(all);
  return ok;
}

static bool images_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f) {
  const Images *m = it->set->self;
  size_t each = it->set->bytes[0];
  for (int64_t k = 0; k < n; k++) {
    const char *path = m->file[row[k]];
    uint8_t *at = (uint8_t *)to[0] + each * (size_t)k;
    if (atomic_load(&it->pass->stop)) return io_fail(f, path, "the pass was ended");
    bool ok = m->resize ? read_resized(m, path, at, f) : image_read(path, m->w, m->h, m->channels, at, f);
    if (!ok) {
      if (f->id == M_FILE) f->id = R_DATA;
      return false;
    }
    if (m->nclass) ((int32_t *)to[1])[k] = m->label[row[k]];
  }
  return true;
}

static const DataOps image_ops = {.gather = images_gather};

int64_t data_images(DataTable *t, const char *path, int64_t height, int64_t width, int channels, Fault *f) {
  Arena *a = data_arena(t);
  char *key = arena_printf(a, "%s %lld %lld %d", data_file_text(t, "images", path), (long long)height, (long long)width,
                           channels);
  int64_t id = data_known(t, key);
  if (id >= 0) return id;
  Images *m = arena_new_of(a, Images);
  Listing l = {0};
  if (!list(a, path, true, &m->nclass, &m->name, f)) return -1;
  bool ok = true;
  for (int k = 0; ok && k < m->nclass; k++) ok = list_images(a, &l, arena_printf(a, "%s/%s", path, m->name[k]), k, f);
  if (ok && !m->nclass) ok = list_images(a, &l, path, 0, f);
  if (!ok || (!l.file.n && !io_fail(f, path, "holds no .png, .jpg or .jpeg files"))) return -1;
  int has;
  if (!image_info(l.file.at[0], &m->w, &m->h, &has, f)) return -1;
  m->resize = height > 0;
  if (m->resize) m->h = height, m->w = width;
  m->channels = channels ? channels : has <= 2 ? 1 : 3;
  m->n = l.file.n, m->file = l.file.at, m->label = l.label.at;
  DataField field[2] = {{.name = "x", .dtype = DT_U8, .rank = 3, .dim = {m->channels, m->h, m->w}},
                        {.name = "y", .dtype = DT_I32}};
  DataSet *s = data_set_new(t, &image_ops, m->nclass ? 2 : 1, field, 0, NULL);
  s->length = m->n, s->random = s->slow = true, s->self = m, s->what = arena_strdup(a, path);
  id = data_set_add(s);
  data_remember(t, key, id);
  return id;
}

int data_image_classes(const DataTable *t, int64_t id, const char *const **name) {
  const DataSet *s = data_set(t, id);
  if (s->ops != &image_ops) bug("data set %lld is no folder of images", (long long)id);
  const Images *m = s->self;
  *name = m->name;
  return m->nclass;
}
