/* The table of user errors: one row of errors.def each. */
#include "graph/diag.h"
#include <strings.h>

const ErrInfo err_info[ERR_COUNT] = {
#define ERR(id, code, title, doc, bad, good) [id] = {code, title, doc, bad, good},
#include "errors.def"
#undef ERR
};

ErrId err_by_code(const char *code) {
  for (int i = 1; i < ERR_COUNT; i++)
    if (!strcasecmp(err_info[i].code, code)) return (ErrId)i;
  return ERR_COUNT;
}
