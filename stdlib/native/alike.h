/* alike: attributes: names; in: a tensor each, which must have the same bytes on every rank. An effect: all ranks meet
 * in it. One that differs from rank 0 in some tensor fails with R_RANK and the tensor's name. */
#ifndef TG_STDLIB_NATIVE_ALIKE_H
#define TG_STDLIB_NATIVE_ALIKE_H
#include "graph/native.h"
extern const Native native_alike;
#endif
