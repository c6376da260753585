/* Decimal numbers read from text, exactly rounded and fast. */
#ifndef TG_STDLIB_NATIVE_CSV_NUMBER_H
#define TG_STDLIB_NATIVE_CSV_NUMBER_H
#include <stdbool.h>
#include <stdint.h>

/* Reads [+-]digits[.digits][e[+-]digits] at p, of which some character before `end` is none of a number's (or p reaches
 * end); returns what follows it, or NULL when no such number begins at p. The value is rounded once, to nearest even,
 * as strtod and strtof round; out of range becomes inf or 0 as theirs does. `end` must be readable. */
const char *number_f64(const char *p, const char *end, double *v);
const char *number_f32(const char *p, const char *end, float *v);
/* [+-]digits; NULL also when it does not fit. */
const char *number_i64(const char *p, const char *end, int64_t *v);
#endif
