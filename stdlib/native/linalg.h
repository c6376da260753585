/* The natives solve inv det slogdet cholesky qr svd eigh lstsq. Conventions: README.md of stdlib/. */
#ifndef TG_STDLIB_NATIVE_LINALG_H
#define TG_STDLIB_NATIVE_LINALG_H
#include "graph/native.h"
enum { LINALG_COUNT = 9 };
extern const Native linalg_natives[LINALG_COUNT];
#endif
