/* PNG and JPEG: headers by hand, pixels by libpng and libturbojpeg.
 *
 * The libraries are used through their simplest interfaces, which are stable: png_image (version 1) and TurboJPEG 2.
 * Their few prototypes are declared here, so that building needs no header. */
#include "stdlib/native/image.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- the libraries ---------------------------------------------------------------------------------------------- */
typedef struct PngImage { /* png_image of png.h, PNG_IMAGE_VERSION 1 */
  void *opaque;
  uint32_t version, width, height, format, flags, colormap_entries, warning_or_error;
  char message[64];
} PngImage;
enum { PNG_VERSION = 1, PNG_ALPHA = 1, PNG_COLOR = 2, PNG_16BIT_SRGB = 4 };

enum { TJ_GREY = 6, TJ_RGB = 0, TJ_LIMIT_SCANS = 32768, TJ_ACCURATE_DCT = 4096 };

/* Written once under pthread_once, constant afterwards. */
static struct {
  int (*png_begin)(PngImage *, const void *, size_t);
  int (*png_finish)(PngImage *, const void *background, void *buffer, int32_t row_stride, void *colormap);
  void (*png_free)(PngImage *);
  void *(*tj_init)(void);
  int (*tj_header)(void *, const unsigned char *, unsigned long, int *w, int *h, int *subsamp, int *space);
  int (*tj_decompress)(void *, const unsigned char *, unsigned long, unsigned char *, int w, int pitch, int h,
                       int format, int flags);
  int (*tj_destroy)(void *);
  char *(*tj_error)(void *);
  bool png, jpeg;
} lib;
static pthread_once_t png_once = PTHREAD_ONCE_INIT, jpeg_once = PTHREAD_ONCE_INIT;

static bool find(void *from, const char *name, void *slot) {
  void *p = dlsym(from, name);
  memcpy(slot, &p, sizeof p);
  return p != NULL;
}
static void load_png(void) {
  void *l = dlopen("libpng16.so.16", RTLD_NOW | RTLD_LOCAL);
  if (!l) return;
  lib.png = find(l, "png_image_begin_read_from_memory", &lib.png_begin);
  lib.png &= find(l, "png_image_finish_read", &lib.png_finish);
  lib.png &= find(l, "png_image_free", &lib.png_free);
}
static void load_jpeg(void) {
  void *l = dlopen("libturbojpeg.so.0", RTLD_NOW | RTLD_LOCAL);
  if (!l) return;
  lib.jpeg = find(l, "tjInitDecompress", &lib.tj_init);
  lib.jpeg &= find(l, "tjDecompressHeader3", &lib.tj_header);
  lib.jpeg &= find(l, "tjDecompress2", &lib.tj_decompress);
  lib.jpeg &= find(l, "tjDestroy", &lib.tj_destroy);
  lib.jpeg &= find(l, "tjGetErrorStr2", &lib.tj_error);
}

/* ---- headers ---------------------------------------------------------------------------------------------------- */
typedef enum { KIND_PNG, KIND_JPEG } ImageKind;
typedef struct Header {
  ImageKind kind;
  int64_t width, height;
  int channels;
} Header;

static uint32_t be16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static uint32_t be32(const uint8_t *p) { return be16(p) << 16 | be16(p + 2); }

/* Signature, then IHDR: length 13, "IHDR", width, height, depth, colour type. */
static bool png_head(In *in, Header *h) {
  uint8_t b[26];
  static const int channels[] = {1, 0, 3, 3, 2, 0, 4};
  if (!in_read(in, 0, b, sizeof b)) return false;
  if (be32(b + 8) != 13 || memcmp(b + 12, "IHDR", 4) || b[25] > 6 || !channels[b[25]])
    return io_fail(in->fault, in->path, "is a malformed PNG file");
  *h = (Header){KIND_PNG, be32(b + 16), be32(b + 20), channels[b[25]]};
  return true;
}

/* Segments (FF, marker, length) up to the first frame header. */
static bool jpeg_head(In *in, Header *h) {
  uint64_t at = 2;
  for (int n = 0; n < 10000; n++) {
    uint8_t b[10];
    if (!in_read(in, at, b, 4)) return false;
    if (b[0] != 0xff) break;
    if (b[1] == 0xff) { /* a fill byte */
      at++;
      continue;
    }
    bool frame = b[1] >= 0xc0 && b[1] <= 0xcf && b[1] != 0xc4 && b[1] != 0xc8 && b[1] != 0xcc;
    if (frame) {
      if (!in_read(in, at, b, sizeof b)) return false;
      int n_comp = b[9];
      if (n_comp == 4) return io_fail(in->fault, in->path, "is a CMYK image; convert it to RGB first");
      if (n_comp != 1 && n_comp != 3) break;
      *h = (Header){KIND_JPEG, be16(b + 7), be16(b + 5), n_comp};
      return true;
    }
    if (b[1] == 0xd9 || b[1] == 0xda) break; /* end or scan without a frame */
    if (b[1] == 0x01 || (b[1] >= 0xd0 && b[1] <= 0xd8)) {
      at += 2; /* without a length */
      continue;
    }
    if (be16(b + 2) < 2) break;
    at += 2 + be16(b + 2);
  }
  return io_fail(in->fault, in->path, "is a malformed JPEG file");
}

static bool head(In *in, Header *h) {
  static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  uint8_t b[8] = {0};
  if (!in_read(in, 0, b, in->size < 8 ? (size_t)in->size : 8)) return false;
  bool ok;
  if (!memcmp(b, png, 8))
    ok = png_head(in, h);
  else if (b[0] == 0xff && b[1] == 0xd8)
    ok = jpeg_head(in, h);
  else
    return io_fail(in->fault, in->path, "is not an image (neither PNG nor JPEG)");
  if (!ok) return false;
  if (h->width < 1 || h->height < 1) return io_fail(in->fault, in->path, "is an image without pixels");
  if (h->width > IMAGE_SIDE || h->height > IMAGE_SIDE || h->width * h->height > IMAGE_PIXELS)
    return io_fail(in->fault, in->path, "is too large: %lld x %lld pixels", (long long)h->width, (long long)h->height);
  return true;
}

bool image_info(const char *path, int64_t *width, int64_t *height, int *channels, Fault *f) {
  In in;
  Header h = {0};
  bool ok = in_open(&in, path, f) && head(&in, &h);
  in_close(&in);
  if (ok) *width = h.width, *height = h.height, *channels = h.channels;
  return ok;
}

/* ---- pixels ----------------------------------------------------------------------------------------------------- */
/* Rows of pixels of n samples each, packed; n is written. */
static bool png_pixels(const Header *h, const uint8_t *file, size_t bytes, uint8_t *px, int *n, const char *path,
                       Fault *f) {
  pthread_once(&png_once, load_png);
  if (!lib.png) return io_fail(f, path, "reading PNG needs libpng; on Debian: apt install libpng16-16");
  PngImage im = {.version = PNG_VERSION};
  bool ok = lib.png_begin(&im, file, bytes);
  if (ok && ((int64_t)im.width != h->width || (int64_t)im.height != h->height)) {
    lib.png_free(&im);
    return io_fail(f, path, "is a malformed PNG file");
  }
  /* With alpha always: without it libpng would blend transparent pixels into a background. */
  im.format = h->channels > 2 ? PNG_COLOR | PNG_ALPHA : PNG_ALPHA;
  im.flags |= PNG_16BIT_SRGB;
  *n = h->channels > 2 ? 4 : 2;
  ok = ok && lib.png_finish(&im, NULL, px, 0, NULL);
  if (!ok) io_fail(f, path, "is a damaged PNG file (%.63s)", im.message);
  lib.png_free(&im);
  return ok;
}

/* A warning that many cameras' files give; the pixels are whole. All else that TurboJPEG reports is damage. */
static bool harmless(const char *message) { return strstr(message, "extraneous bytes") != NULL; }

static bool jpeg_pixels(const Header *h, const uint8_t *file, size_t bytes, uint8_t *px, int *n, const char *path,
                        Fault *f) {
  pthread_once(&jpeg_once, load_jpeg);
  if (!lib.jpeg) return io_fail(f, path, "reading JPEG needs libturbojpeg; on Debian: apt install libturbojpeg0");
  void *tj = lib.tj_init();
  if (!tj) return fault_set(f, R_MEMORY, (Span){0}, "out of memory"), false;
  int w = 0, ht = 0, sub, space;
  bool ok = lib.tj_header(tj, file, bytes, &w, &ht, &sub, &space) == 0 || harmless(lib.tj_error(tj));
  if (ok && (w != h->width || ht != h->height)) {
    lib.tj_destroy(tj);
    return io_fail(f, path, "is a malformed JPEG file");
  }
  *n = h->channels;
  if (ok &&
      lib.tj_decompress(tj, file, bytes, px, w, 0, ht, *n == 1 ? TJ_GREY : TJ_RGB, TJ_ACCURATE_DCT | TJ_LIMIT_SCANS))
    ok = harmless(lib.tj_error(tj));
  if (!ok) io_fail(f, path, "is a damaged JPEG file (%.100s)", lib.tj_error(tj));
  lib.tj_destroy(tj);
  return ok;
}

/* Packed pixels of `from` samples to planes of `to`. */
static void planes(const uint8_t *px, int from, int64_t count, int to, uint8_t *out) {
  bool from_alpha = from == 2 || from == 4, to_alpha = to == 2 || to == 4;
  int colours = from > 2 ? 3 : 1, want = to > 2 ? 3 : 1;
  for (int c = 0; c < want; c++) {
    uint8_t *o = out + c * count;
    const uint8_t *p = px + (colours == 3 ? c : 0);
    if (colours == 3 && want == 1)
      for (int64_t i = 0; i < count; i++, p += from)
        o[i] = (uint8_t)((19595 * p[0] + 38470 * p[1] + 7471 * p[2] + 32768) >> 16);
    else
      for (int64_t i = 0; i < count; i++, p += from) o[i] = *p;
  }
  if (!to_alpha) return;
  uint8_t *o = out + want * count;
  if (from_alpha)
    for (int64_t i = 0; i < count; i++) o[i] = px[i * from + from - 1];
  else
    memset(o, 255, (size_t)count);
}

static bool read_open(In *in, int64_t width, int64_t height, int channels, uint8_t *out) {
  Header h = {0};
  if (!head(in, &h)) return false;
  if (h.width != width || h.height != height)
    return io_fail(in->fault, in->path, "is %lld x %lld pixels, but %lld x %lld are expected", (long long)h.width,
                   (long long)h.height, (long long)width, (long long)height);
  if (in->size > IMAGE_FILE_BYTES) return io_fail(in->fault, in->path, "is too large for an image file");
  size_t bytes = (size_t)in->size, count = (size_t)(width * height);
  uint8_t *file = malloc(bytes), *px = malloc(count * 4);
  bool ok = file && px;
  int n = 0;
  if (!ok) fault_set(in->fault, R_MEMORY, (Span){0}, "out of memory");
  ok = ok && in_read(in, 0, file, bytes) &&
       (h.kind == KIND_PNG ? png_pixels : jpeg_pixels)(&h, file, bytes, px, &n, in->path, in->fault);
  if (ok) planes(px, n, (int64_t)count, channels, out);
  free(file);
  free(px);
  return ok;
}

bool image_read(const char *path, int64_t width, int64_t height, int channels, uint8_t *out, Fault *f) {
  In in;
  bool ok = in_open(&in, path, f) && read_open(&in, width, height, channels, out);
  in_close(&in);
  return ok;
}
