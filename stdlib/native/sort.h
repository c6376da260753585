/* The natives sort and argsort. Conventions: README.md of stdlib/. */
#ifndef TG_STDLIB_NATIVE_SORT_H
#define TG_STDLIB_NATIVE_SORT_H
#include "graph/native.h"
extern const Native native_sort, native_argsort;
#endif
