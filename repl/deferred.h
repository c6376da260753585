/* Running deferred programs: lang/deferred.c. */
#ifndef TG_REPL_DEFERRED_H
#define TG_REPL_DEFERRED_H
#include "repl/host.h"

extern const Native deferred_native;
/* Forgets what was compiled: before a unit, and at the end. */
void deferred_drop(Host *h);
#endif
