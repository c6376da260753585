/* The natives that are routines of the runtime (codegen/rt/routine.h): sort argsort solve inv det slogdet cholesky qr
 * svd eigh lstsq. Conventions: README.md of stdlib/. */
#ifndef TG_STDLIB_NATIVE_ROUTINES_H
#define TG_STDLIB_NATIVE_ROUTINES_H
#include "graph/native.h"
enum { ROUTINE_NATIVES = 11 };
extern const Native routine_natives[ROUTINE_NATIVES];
#endif
