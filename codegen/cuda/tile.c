/* Contractions in tiles. */
#include "codegen/cuda/emit.h"
bool cu_tile(Cu *c) { return false; }
