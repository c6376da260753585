/* The program's LAPACK (codegen/rt/lapack.h): found by dlopen when a matrix is factored for the first time. */
#ifndef TG_STDLIB_NATIVE_LAPACK_H
#define TG_STDLIB_NATIVE_LAPACK_H
#include "codegen/rt/lapack.h"

/* The tables for f32 and f64, or NULL where there is none. Thread-safe; OpenBLAS is kept to one thread, so equal calls
 * give equal bits. */
const Lapack *lapack_get(void);
#endif
