/* All routines (routine.h), for the program: a library knows only its own. */
#include "codegen/rt/routine.h"
#include <string.h>

static const RtRoutine *const row[] = {
    &rt_routine_sort, &rt_routine_argsort, &rt_routine_solve,    &rt_routine_inv,
    &rt_routine_det,  &rt_routine_slogdet, &rt_routine_cholesky, &rt_routine_qr,
    &rt_routine_svd,  &rt_routine_eigh,    &rt_routine_lstsq,
};

const RtRoutine *rt_routine_find(const char *name) {
  for (size_t i = 0; i < sizeof row / sizeof *row; i++)
    if (!strcmp(row[i]->name, name)) return row[i];
  return NULL;
}
