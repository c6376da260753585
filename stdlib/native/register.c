/* The list of natives. */
#include "stdlib/native/effects.h"
#include "stdlib/native/host.h"
#include "stdlib/native/linalg.h"
#include "stdlib/native/sort.h"

void native_register_all(Natives *r) {
  for (int i = 0; i < LINALG_COUNT; i++) natives_add(r, &linalg_natives[i]);
  natives_add(r, &native_sort);
  natives_add(r, &native_argsort);
  natives_add(r, &native_print);
  natives_add(r, &native_assert);
}
