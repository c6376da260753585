/* What a training run writes: checkpoints and logs. Builtins of the library's train.tg; their names begin with `_`.
 *
 * Each is one ordered CALL whose arguments are the leaves themselves: nothing is copied before something is due. */
#include "lang/builtin.h"
#include "lang/fold.h"
#include "lang/model.h"
#include "lang/space.h"
#include "lang/tensor_files.h"
#include <math.h>
#include <string.h>

/* PATH.safetensors is a file; any other path a folder with checkpoint.safetensors in it. NULL: none. */
static const char *checkpoint_path(Elab *E, Value *v, Span at) {
  if (v->kind == V_NONE) return NULL;
  const char *path = v_static_str(E, v, at, "a checkpoint's path");
  size_t n = strlen(path);
  if (!n) diag_fail(E->d, T_TYPE, at, "a checkpoint's path is empty");
  if (n > 12 && !strcmp(path + n - 12, ".safetensors")) return path;
  return arena_printf(E->a, "%s%scheckpoint.safetensors", path, path[n - 1] == '/' ? "" : "/");
}

static Node *train_call(Elab *E, const char *native, int nattr, const Attr *attr, int narg, Node *const *arg, int nres,
                        const TensorType *res, Span at) {
  const Native *fn = natives_find(E->natives, native);
  if (!fn) bug("no native `%s`", native);
  E->g->span = user_span(E, at);
  Node *n = nd_call(E->g, fn, nattr, attr, narg, arg, nres, res);
  if (!E->trial) vec_push(E->a, &E->effect, n);
  return n;
}

/* Attributes: `nhead` given ones, then the names; arguments: `first`, then the leaves. */
static Attr *with_names(Elab *E, int nhead, const Attr *head, const Leaves *l) {
  Attr *attr = arena_array(E->a, Attr, nhead + l->n);
  if (nhead) memcpy(attr, head, sizeof *head * (size_t)nhead);
  for (int k = 0; k < l->n; k++) attr[nhead + k].s = *l->name[k] ? l->name[k] : "value";
  return attr;
}
static Node **with_first(Elab *E, Node *first, const Leaves *l) {
  Node **arg = arena_array(E->a, Node *, l->n + 1);
  arg[0] = first;
  memcpy(arg + 1, l->node, sizeof *arg * (size_t)l->n);
  return arg;
}

/* Lines `name = value` of a record of static values. */
static const char *settings_text(Elab *E, Value *v, Span at) {
  if (!v) return "";
  if (v->kind != V_RECORD) diag_fail(E->d, T_TYPE, at, "settings are a record, not %s", v_type_text(E, v));
  char *text = "";
  for (int k = 0; k < v->agg.n; k++) {
    Value *x = v->agg.at[k];
    Num num;
    const char *s;
    if (x->kind == V_NONE)
      s = "none";
    else if (!v_num(x, &num))
      s = v_static_str(E, x, at, arena_printf(E->a, "the setting `%s`", v->agg.key[k]));
    else if (num.is_bool)
      s = num.i ? "true" : "false";
    else
      s = num.is_float ? num_text(E->a, num.f) : arena_printf(E->a, "%lld", (long long)num.i);
    char *line = arena_strdup(E->a, s);
    for (char *c = line; *c; c++)
      if (*c == '\n') *c = ' ';
    text = arena_printf(E->a, "%s%s = %s\n", text, v->agg.key[k], line);
  }
  return text;
}

/* _resume(path, state, about, grow): the state of the checkpoint, or the given one. */
static Value *resume_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Span at = c->span;
  const char *path = checkpoint_path(E, bound[0], arg_span(c, bound[0]));
  if (!path) return bound[1];
  effect_allowed(E, "a checkpoint", at);
  Leaves l = leaves_of(E, bound[1], arg_span(c, bound[1]), "what a checkpoint holds");
  Attr head[3] = {{.s = path}, {.s = settings_text(E, bound[2], at)}, {.s = ""}};
  if (bound[3]) head[2].s = v_static_str(E, bound[3], at, "grow");
  Node *call = train_call(E, "resume", l.n + 3, with_names(E, 3, head, &l), l.n + 1,
                          with_first(E, nd_scalar(E->g, stream_identity(E)), &l), l.n, l.type, at);
  return with_results(E, bound[1], call, 0);
}

/* _checkpoint_due(path, wanted, seconds) */
static Value *checkpoint_due_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Span at = c->span;
  const char *path = checkpoint_path(E, bound[0], arg_span(c, bound[0]));
  TensorV *wanted = v_as_tensor(E, bound[1], at, "wanted");
  if (wanted->dtype != DT_BOOL || wanted->rank)
    diag_fail(E->d, T_TYPE, at, "`wanted` is a bool, not %s", v_type_text(E, bound[1]));
  if (!path) return bound[1];
  effect_allowed(E, "a checkpoint", at);
  double seconds = bound[2] && bound[2]->kind != V_NONE ? v_static_num(E, bound[2], at, "seconds") : INFINITY;
  Attr attr[2] = {{.s = path}, {.i = 0, .f = seconds}};
  Node *in = tv_closed(E, v_tensor(E, DT_BOOL, 0, NULL, wanted->e));
  Node *due = train_call(E, "checkpoint_due", 2, attr, 1, &in, 1, &(TensorType){DT_BOOL, 0, NULL}, at);
  return v_node(E, nd_get(E->g, due, 0));
}

/* _checkpoint(path, state) */
static Value *checkpoint_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Span at = c->span;
  const char *path = checkpoint_path(E, bound[0], arg_span(c, bound[0]));
  if (!path) return v_none(E);
  effect_allowed(E, "a checkpoint", at);
  Leaves l = leaves_of(E, bound[1], arg_span(c, bound[1]), "what a checkpoint holds");
  Attr head = {.s = path};
  train_call(E, "checkpoint", l.n + 1, with_names(E, 1, &head, &l), l.n, l.node, 0, NULL, at);
  file_note_save(E, path, true, l.n, l.name, l.node);
  return v_none(E);
}

/* ---- logs -------------------------------------------------------------------------------------------------------- */

static Node *step_node(Elab *E, Value *v, Span at) {
  TensorV *t = v_as_tensor(E, tv_harden(E, v, at), at, "step");
  if (t->rank || dt_is_float(t->dtype) || t->dtype == DT_BOOL)
    diag_fail(E->d, T_TYPE, at, "`step` is an integer, not %s", v_type_text(E, v));
  return tv_closed(E, v_tensor(E, t->dtype, 0, NULL, t->e));
}

/* _log_scalars(dir, step, record), _log_histograms(dir, step, net): data tells which. */
static Value *log_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Span at = c->span;
  if (bound[0]->kind == V_NONE) return v_none(E);
  const char *dir = v_static_str(E, bound[0], arg_span(c, bound[0]), "a log's folder");
  if (!*dir) diag_fail(E->d, T_TYPE, arg_span(c, bound[0]), "a log's folder has an empty name");
  effect_allowed(E, "a log", at);
  Leaves l = leaves_of(E, bound[2], arg_span(c, bound[2]), "what is logged");
  bool histograms = self->data;
  int n = 0;
  for (int k = 0; k < l.n; k++) {
    if (!histograms && l.type[k].rank)
      diag_fail(E->d, S_RANK, arg_span(c, bound[2]), "a log takes scalars, but `%s` has %d %s", l.name[k],
                l.type[k].rank, l.type[k].rank == 1 ? "axis" : "axes");
    if (histograms && !dt_is_float(l.type[k].dtype)) continue;
    char *tag = arena_strdup(E->a, l.name[k]);
    for (char *p = tag; *p; p++)
      if (*p == '.') *p = '/';
    l.name[n] = tag, l.node[n++] = l.node[k];
  }
  l.n = n;
  if (n == 0) return v_none(E);
  Attr head = {.s = dir};
  train_call(E, histograms ? "log_histograms" : "log_scalars", n + 1, with_names(E, 1, &head, &l), n + 1,
             with_first(E, step_node(E, bound[1], at), &l), 0, NULL, at);
  return v_none(E);
}

/* _alike(value): all ranks hold the same, or it is an error. Nothing where there is one rank. */
static Value *alike_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  if (E->session->opt.ranks <= 1) return v_none(E);
  Leaves l = leaves_of(E, bound[0], arg_span(c, bound[0]), "what ranks compare");
  train_call(E, "alike", l.n, with_names(E, 0, NULL, &l), l.n, l.node, 0, NULL, c->span);
  return v_none(E);
}

const Builtin builtins_train[] = {
    {"_resume", "path, state, about=, grow=", resume_fn,
     "The state that the run's checkpoint holds, or `state` when there is none.", 0},
    {"_checkpoint_due", "path, wanted, seconds=", checkpoint_due_fn,
     "`wanted`, or have so many seconds passed since the last checkpoint?", 0},
    {"_checkpoint", "path, state", checkpoint_fn, "Writes the state.", 0},
    {"_alike", "value", alike_fn, "Several ranks: an error where they do not hold the same.", 0},
    {"_log_scalars", "dir, step, record", log_fn, "Logs scalars: a TensorBoard event file and metrics.jsonl.", 0},
    {"_log_histograms", "dir, step, values", log_fn, "Logs the distribution of every float tensor.", 1},
    {0},
};
