/* Images: PNGs made here in every colour type, a JPEG of Pillow's, damage. */
#include "native_support.h"
#include "stdlib/native/image.h"
#include <dlfcn.h>
#include <zlib.h>

static bool has(const char *library) {
  void *l = dlopen(library, RTLD_NOW);
  if (l) dlclose(l);
  return l != NULL;
}

/* ---- a PNG writer: one row filter, one IDAT ---------------------------------------------------------------------- */
typedef struct Png {
  uint8_t at[1 << 16];
  size_t n;
} Png;

static void be32(Png *p, uint32_t v) {
  for (int k = 24; k >= 0; k -= 8) p->at[p->n++] = (uint8_t)(v >> k);
}
static void chunk(Png *p, const char *kind, const void *data, size_t n) {
  be32(p, (uint32_t)n);
  size_t from = p->n;
  memcpy(p->at + p->n, kind, 4);
  if (n) memcpy(p->at + p->n + 4, data, n);
  p->n += 4 + n;
  be32(p, (uint32_t)crc32(0, p->at + from, (uInt)(4 + n)));
}
/* rows: h of them, each packed samples. */
static void png(Png *p, int w, int h, int depth, int type, const uint8_t *palette, int npalette, const uint8_t *rows,
                size_t row) {
  static const uint8_t magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  uint8_t head[13] = {0, 0, 0, (uint8_t)w, 0, 0, 0, (uint8_t)h, (uint8_t)depth, (uint8_t)type, 0, 0, 0};
  uint8_t raw[1 << 14], z[1 << 15];
  memcpy(p->at, magic, 8);
  p->n = 8;
  chunk(p, "IHDR", head, 13);
  if (palette) chunk(p, "PLTE", palette, (size_t)npalette * 3);
  for (int y = 0; y < h; y++)
    raw[(row + 1) * (size_t)y] = 0, memcpy(raw + (row + 1) * (size_t)y + 1, rows + row * (size_t)y, row);
  uLongf n = sizeof z;
  cr_assert_eq(compress(z, &n, raw, (row + 1) * (size_t)h), Z_OK);
  chunk(p, "IDAT", z, n);
  chunk(p, "IEND", NULL, 0);
}

/* Channel c of the pixel k as the file stores it: any numbers. */
static uint8_t sample(int k, int c) { return (uint8_t)(k * 37 + c * 101 + k * k); }

Test(native_image, png_colour_types, .fini = done) {
  if (!has("libpng16.so.16")) cr_skip_test("no libpng");
  static const struct { int type, channels; } row[] = {{0, 1}, {2, 3}, {4, 2}, {6, 4}};
  enum { W = 7, H = 5, N = W * H };
  for (size_t t = 0; t < 4; t++) {
    uint8_t rows[N * 4], out[N * 4];
    int n = row[t].channels, channels;
    for (int k = 0; k < N; k++)
      for (int c = 0; c < n; c++) rows[k * n + c] = sample(k, c);
    static Png p;
    png(&p, W, H, 8, row[t].type, NULL, 0, rows, (size_t)(W * n));
    const char *path = file("x.png");
    write_bytes(path, p.at, p.n);
    Fault f = {0};
    int64_t w, h;
    cr_assert(image_info(path, &w, &h, &channels, &f), "%s", f.msg);
    cr_assert(w == W && h == H && channels == n);
    cr_assert(image_read(path, W, H, n, out, &f), "%s", f.msg);
    for (int k = 0; k < N; k++)
      for (int c = 0; c < n; c++) cr_assert_eq(out[c * N + k], sample(k, c), "type %d", row[t].type);
    cr_assert(image_read(path, W, H, 3, out, &f)); /* grey repeated, alpha dropped */
    for (int k = 0; k < N; k++)
      for (int c = 0; c < 3; c++) cr_assert_eq(out[c * N + k], sample(k, n > 2 ? c : 0));
    cr_assert(image_read(path, W, H, 1, out, &f));
    for (int k = 0; k < N; k++) {
      double grey = 0.299 * sample(k, 0) + 0.587 * sample(k, 1) + 0.114 * sample(k, 2);
      cr_assert(fabs(out[k] - (n > 2 ? grey : sample(k, 0))) <= 0.501);
    }
    cr_assert(image_read(path, W, H, 4, out, &f)); /* alpha there is, or 255 */
    for (int k = 0; k < N; k++) cr_assert_eq(out[3 * N + k], n == 2 || n == 4 ? sample(k, n - 1) : 255);
    cr_assert(!image_read(path, H, W, n, out, &f) && strstr(f.msg, "is 7 x 5 pixels, but 5 x 7 are expected"));
  }
}

Test(native_image, png_depths, .fini = done) {
  if (!has("libpng16.so.16")) cr_skip_test("no libpng");
  static Png p;
  Fault f = {0};
  uint8_t out[3 * 8];
  const char *path = file("x.png");
  static const uint8_t palette[] = {1, 2, 3, 40, 50, 60, 255, 128, 0}, indices[] = {0, 1, 2, 1, 0, 2, 2, 1};
  png(&p, 8, 1, 8, 3, palette, 3, indices, 8);
  write_bytes(path, p.at, p.n);
  cr_assert(image_read(path, 8, 1, 3, out, &f), "%s", f.msg);
  for (int k = 0; k < 8; k++)
    for (int c = 0; c < 3; c++) cr_assert_eq(out[c * 8 + k], palette[indices[k] * 3 + c]);
  png(&p, 8, 1, 1, 0, NULL, 0, (const uint8_t[]){0xa5}, 1);
  write_bytes(path, p.at, p.n);
  cr_assert(image_read(path, 8, 1, 1, out, &f), "%s", f.msg);
  for (int k = 0; k < 8; k++) cr_assert_eq(out[k], 0xa5 >> (7 - k) & 1 ? 255 : 0);
  png(&p, 2, 1, 16, 0, NULL, 0, (const uint8_t[]){0x80, 0x80, 0xff, 0xff}, 4);
  write_bytes(path, p.at, p.n);
  cr_assert(image_read(path, 2, 1, 1, out, &f) && out[0] == 0x80 && out[1] == 255, "%s %d", f.msg, out[0]);
}

Test(native_image, png_damage, .fini = done) {
  if (!has("libpng16.so.16")) cr_skip_test("no libpng");
  static Png p;
  uint8_t rows[9 * 9], out[4 * 81];
  for (int k = 0; k < 81; k++) rows[k] = sample(k, 0);
  png(&p, 9, 9, 8, 0, NULL, 0, rows, 9);
  const char *path = file("x.png");
  for (size_t n = 0; n < p.n - 12; n++) { /* all but IEND is needed */
    Fault f = {0};
    write_bytes(path, p.at, n);
    cr_assert(!image_read(path, 9, 9, 1, out, &f) && f.id == M_FILE, "%zu bytes", n);
  }
  Fault f = {0};
  write_bytes(path, "hello", 5);
  cr_assert(!image_read(path, 9, 9, 1, out, &f) && strstr(f.msg, "is not an image (neither PNG nor JPEG)"));
  p.at[16] = 0x7f; /* 2 billion pixels wide */
  write_bytes(path, p.at, p.n);
  int64_t w, h;
  int channels;
  cr_assert(!image_info(path, &w, &h, &channels, &f) && strstr(f.msg, "is too large"));
}

/* ---- JPEG -------------------------------------------------------------------------------------------------------- */
/* Pillow's, 16 x 16: value(x, y) = 10 y + 5 x; colour: (v, 255 - v, v / 2). */
static const uint8_t grey_jpg[] = {
    255, 216, 255, 224, 0,   16, 74,  70,  73, 70, 0, 1,  1,  0,   0,   1,   0,  1,   0,   0,  255, 219, 0,  67, 0,
    2,   1,   1,   1,   1,   1,  2,   1,   1,  1,  2, 2,  2,  2,   2,   4,   3,  2,   2,   2,  2,   5,   4,  4,  3,
    4,   6,   5,   6,   6,   6,  5,   6,   6,  6,  7, 9,  8,  6,   7,   9,   7,  6,   6,   8,  11,  8,   9,  10, 10,
    10,  10,  10,  6,   8,   11, 12,  11,  10, 12, 9, 10, 10, 10,  255, 192, 0,  11,  8,   0,  16,  0,   16, 1,  1,
    17,  0,   255, 196, 0,   21, 0,   1,   1,  0,  0, 0,  0,  0,   0,   0,   0,  0,   0,   0,  0,   0,   0,  8,  9,
    255, 196, 0,   26,  16,  0,  0,   7,   0,  0,  0, 0,  0,  0,   0,   0,   0,  0,   0,   0,  0,   0,   7,  8,  37,
    51,  66,  81,  255, 218, 0,  8,   1,   1,  0,  0, 63, 0,  154, 37,  34,  73, 137, 179, 40, 20,  5,   34, 73, 137,
    179, 40,  20,  5,   34,  73, 137, 179, 40, 20, 5, 34, 73, 137, 179, 40,  63, 255, 217,
};
static const uint8_t colour_jpg[] = {
    255, 216, 255, 224, 0,   16, 74,  70,  73,  70,  0,   1,   1,   0,   0,   1,   0,   1,   0,   0,   255, 219, 0,
    67,  0,   2,   1,   1,   1,  1,   1,   2,   1,   1,   1,   2,   2,   2,   2,   2,   4,   3,   2,   2,   2,   2,
    5,   4,   4,   3,   4,   6,  5,   6,   6,   6,   5,   6,   6,   6,   7,   9,   8,   6,   7,   9,   7,   6,   6,
    8,   11,  8,   9,   10,  10, 10,  10,  10,  6,   8,   11,  12,  11,  10,  12,  9,   10,  10,  10,  255, 219, 0,
    67,  1,   2,   2,   2,   2,  2,   2,   5,   3,   3,   5,   10,  7,   6,   7,   10,  10,  10,  10,  10,  10,  10,
    10,  10,  10,  10,  10,  10, 10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,
    10,  10,  10,  10,  10,  10, 10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  255, 192, 0,
    17,  8,   0,   16,  0,   16, 3,   1,   17,  0,   2,   17,  1,   3,   17,  1,   255, 196, 0,   20,  0,   1,   0,
    0,   0,   0,   0,   0,   0,  0,   0,   0,   0,   0,   0,   0,   0,   6,   255, 196, 0,   25,  16,  0,   1,   5,
    0,   0,   0,   0,   0,   0,  0,   0,   0,   0,   0,   0,   0,   0,   5,   6,   35,  49,  161, 255, 196, 0,   21,
    1,   1,   1,   0,   0,   0,  0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   8,   7,   255, 196, 0,   27,
    17,  0,   2,   2,   3,   1,  0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   6,   5,   34,  7,   49,
    50,  161, 255, 218, 0,   12, 3,   1,   0,   2,   17,  3,   17,  0,   63,  0,   76,  170, 234, 185, 52,  1,   198,
    45,  106, 160, 49,  95,  23, 243, 64,  210, 171, 170, 228, 210, 133, 24,  179, 170, 136, 213, 124, 95,  205, 60,
    13,  42,  186, 174, 93,  40, 81,  139, 90,  168, 140, 87,  197, 252, 211, 192, 210, 171, 170, 228, 210, 133, 24,
    179, 170, 136, 213, 124, 95, 205, 15,  255, 217,
};

Test(native_image, jpeg, .fini = done) {
  if (!has("libturbojpeg.so.0")) cr_skip_test("no libturbojpeg");
  enum { N = 16 * 16 };
  uint8_t out[3 * N];
  int64_t w, h;
  int channels;
  Fault f = {0};
  const char *path = file("x.jpg");
  for (int colour = 0; colour < 2; colour++) {
    const uint8_t *data = colour ? colour_jpg : grey_jpg;
    size_t bytes = colour ? sizeof colour_jpg : sizeof grey_jpg;
    write_bytes(path, data, bytes);
    cr_assert(image_info(path, &w, &h, &channels, &f), "%s", f.msg);
    cr_assert(w == 16 && h == 16 && channels == (colour ? 3 : 1));
    cr_assert(image_read(path, 16, 16, channels, out, &f), "%s", f.msg);
    for (int k = 0; k < N; k++) {
      int v = k / 16 * 10 + k % 16 * 5, want[] = {v, 255 - v, v / 2};
      for (int c = 0; c < channels; c++) cr_assert(abs(out[c * N + k] - want[c]) <= 4);
    }
    for (size_t n = 0; n < bytes - 2; n++) { /* the end marker may be missing */
      Fault g = {0};
      write_bytes(path, data, n);
      cr_assert(!image_read(path, 16, 16, channels, out, &g) && g.id == M_FILE, "%zu bytes", n);
    }
  }
}
