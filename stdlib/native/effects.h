/* Templates, and the natives print and assert. Conventions: README.md of stdlib/. */
#ifndef TG_STDLIB_NATIVE_EFFECTS_H
#define TG_STDLIB_NATIVE_EFFECTS_H
#include "graph/native.h"
#include <stdio.h>

/* Writes the template's text with a final newline. A number that names no operand, or a malformed format: false with
 * R_NATIVE. */
bool print_template(FILE *out, const char *text, int nin, const Tensor *in, int width, Fault *f);
extern const Native native_print, native_assert, native_after;
#endif
