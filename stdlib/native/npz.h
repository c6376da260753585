/* The natives load_npz and save_npz. Conventions: README.md of stdlib/. */
#ifndef TG_STDLIB_NATIVE_NPZ_H
#define TG_STDLIB_NATIVE_NPZ_H
#include "graph/native.h"
extern const Native native_load_npz, native_save_npz;
#endif
