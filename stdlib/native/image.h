/* Images: PNG and JPEG files as u8 pixels.
 *
 * The kind is told by the file's first bytes, not by its name. Headers are parsed here; pixels are decoded by
 * libpng 1.6 and libturbojpeg, which are looked up by dlopen when the first image of their kind is read. Thread-safe.
 *
 * Faults (M_FILE, with the path): no such file; neither PNG nor JPEG; malformed or truncated; more than IMAGE_SIDE
 * pixels a side or IMAGE_PIXELS in all; CMYK; a library that is not installed, with the package's name. */
#ifndef TG_STDLIB_NATIVE_IMAGE_H
#define TG_STDLIB_NATIVE_IMAGE_H
#include "stdlib/native/io.h"

enum { IMAGE_SIDE = 65535, IMAGE_PIXELS = 1 << 28, IMAGE_FILE_BYTES = 1 << 29 };

/* From the header only. channels: 1 grey, 2 grey and alpha, 3 colour (also palettes), 4 colour and alpha. */
bool image_info(const char *path, int64_t *width, int64_t *height, int *channels, Fault *f);

/* Pixels as u8[channels, height, width] in 0..255, first row on top. Size must be the file's (a fault names both);
 * channels may differ: colour to grey by 0.299 R + 0.587 G + 0.114 B as Pillow has it, grey repeated, alpha dropped or
 * 255. 16-bit samples become 8-bit; what a PNG's tRNS chunk says is left out, and so is a JPEG's EXIF orientation. */
bool image_read(const char *path, int64_t width, int64_t height, int channels, uint8_t *out, Fault *f);
#endif
