/* Text of scalars and tensors. */
#ifndef TG_STDLIB_NATIVE_PRINT_H
#define TG_STDLIB_NATIVE_PRINT_H
#include "graph/native.h"
#include <stdio.h>

/* The text of one element. fmt NULL or "": plain: integers in decimal, true/false, floats in the shortest text that
 * reads back as the same value of the dtype, with `.0` when whole (0.1, 3.0, 1e-05, nan, -inf, -0.0), as NumPy's str.
 * Otherwise a subset of Python's format language, `[[fill]align][sign][0][width][,][.digits][type]`, align one of < > ^
 * =, sign one of + - space, type one of d f F e E g G % x X b o (no type on a float with digits: general form with a
 * point, as Python). Or `text`: an integer
 * as the character with that code point, in UTF-8. A precision on an integer without a type is ignored; f e g % convert
 * integers; a bool with a numeric type is 0 or 1. Writes at most n bytes with the final NUL; returns the length that
 * the whole text has. A malformed fmt is ignored: check it first. */
size_t format_scalar(char *buf, size_t n, DType t, const void *p, const char *fmt);
/* NULL, or what is wrong with fmt for this dtype ("d needs an integer"). For the checker and for print. */
const char *format_check(DType t, const char *fmt);

/* A scalar: its value alone. Else the header `f32[2, 3]` and the values in aligned columns, 4 digits, at most `width`
 * columns; rank 1 wraps; of more than 1,000 elements the first and last 3 of each axis; rank > 2 in blocks under a line
 * `[0, :, :]`. Ends with a newline. */
void print_tensor(FILE *out, const Tensor *t, int width);
/* One line, nested brackets: `[[1, 2], [3, 4]]`, no newline; elements by fmt; long ones with `...` as above. `text`:
 * the characters in a row. */
void print_inline(FILE *out, const Tensor *t, const char *fmt);
#endif
