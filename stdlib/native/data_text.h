/* Text files as characters, and windows over them. */
#ifndef TG_STDLIB_NATIVE_DATA_TEXT_H
#define TG_STDLIB_NATIVE_DATA_TEXT_H
#include "stdlib/native/data.h"

/* The characters (code points) of a UTF-8 file, as i32 numbers in its alphabet: rows of one nameless scalar, random
 * access. The file is read now, and kept (1, 2 or 4 bytes a character). -1: M_FILE: invalid UTF-8, more than 1 GiB. */
int64_t data_text_open(DataTable *t, const char *path, Fault *f);
/* Its alphabet: the n different code points, ascending. */
const uint32_t *data_text_alphabet(const DataTable *t, int64_t id, int64_t *n);
/* Windows of a text: rows {x: i32[width], y: i32[width]}, y the characters that follow x's, beginning at 0, stride, ..
 */
int64_t data_windows(DataTable *t, int64_t of, int64_t width, int64_t stride);
/* Code points of UTF-8; returns the number, or -1 - the byte offset of what is none. out has room for n. */
int64_t utf8_decode(const char *s, size_t n, uint32_t *out);
#endif
