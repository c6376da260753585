/* The natives load_idx and save_idx. Conventions: README.md of stdlib/. */
#ifndef TG_STDLIB_NATIVE_IDX_H
#define TG_STDLIB_NATIVE_IDX_H
#include "graph/native.h"
extern const Native native_load_idx, native_save_idx;
#endif
