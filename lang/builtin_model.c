/* Builtins on models: their parameters by path. */
#include "lang/builtin.h"
#include "lang/model.h"
#include <string.h>

static Value *params_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  if (!v_has_model(bound[0]))
    diag_fail(E->d, T_TYPE, c->arg[0].span, "params lists what a model trains; this is %s", v_type_text(E, bound[0]));
  Value **leaf;
  const char **path;
  LeafKind *kind;
  int n = v_leaves(E, bound[0], &leaf), m = 0;
  v_leaf_paths(E, bound[0], &path);
  v_leaf_kinds(E, bound[0], &kind);
  Name *key = arena_array(E->a, Name, n);
  for (int k = 0; k < n; k++)
    if (kind[k] == LEAF_PARAM) leaf[m] = leaf[k], key[m++] = name_of(E->names, path[k], strlen(path[k]));
  return v_record(E, m, key, leaf);
}

const Builtin builtins_model[] = {
    {"params", "net", params_fn, "The parameters of a model, each once, as a record whose keys are their paths.", 0},
    {0}};
