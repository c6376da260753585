/* Models as text: the tree that a print shows and the table of `summary`.
 *
 *   MLP(10)                    203,530 parameters
 *     dense1  Dense(784, 256)  200,960
 *       w     f32[784, 256]    200,704
 *       ...
 *
 * summary(net) calls the model on a stand-in and records each call of a layer: what it gives, and the operations of the
 * graph between its arguments and its result. Nothing runs. A contraction of M, N and K counts 2*M*N*K, a map one for
 * each operation of an element; what a loop repeats counts each time, what it does not change once. */
#include "lang/builtin.h"
#include "lang/model.h"
#include "lang/space.h"
#include <stdlib.h>
#include <string.h>

/* ---- columns --------------------------------------------------------------------------------------------------- */

enum { NCOL = 6 };
typedef struct Row {
  const char *cell[NCOL];
} Row;
typedef struct Table {
  Elab *E;
  int ncol;
  unsigned right; /* columns aligned to the right */
  VEC(Row) row;
} Table;

/* Characters on a screen: UTF-8 continuation bytes take no room. */
static int width(const char *s) {
  int n = 0;
  for (; *s; s++) n += (*s & 0xC0) != 0x80;
  return n;
}

static char *table_text(const Table *t) {
  int w[NCOL] = {0};
  for (int k = 0; k < t->row.n; k++)
    for (int c = 0; c < t->ncol; c++) {
      int n = t->row.at[k].cell[c] ? width(t->row.at[k].cell[c]) : 0;
      if (n > w[c]) w[c] = n;
    }
  VEC(char) out = {0};
  Arena *a = t->E->a;
  for (int k = 0; k < t->row.n; k++) {
    if (k) vec_push(a, &out, '\n');
    for (int c = 0; c < t->ncol; c++) {
      const char *s = t->row.at[k].cell[c] ? t->row.at[k].cell[c] : "";
      int pad = w[c] - width(s);
      for (int i = 0; c && i < 2; i++) vec_push(a, &out, ' ');
      for (int i = 0; i < pad && t->right >> c & 1; i++) vec_push(a, &out, ' ');
      for (; *s; s++) vec_push(a, &out, *s);
      for (int i = 0; i < pad && !(t->right >> c & 1); i++) vec_push(a, &out, ' ');
    }
    while (out.n && out.at[out.n - 1] == ' ') out.n--;
  }
  vec_push(a, &out, 0);
  return out.at;
}

static char *grouped(Arena *a, int64_t n) {
  char raw[32], *s = arena_alloc(a, 48), *w = s;
  int len = snprintf(raw, sizeof raw, "%lld", (long long)n);
  for (int k = 0; k < len; k++) {
    if (k && (len - k) % 3 == 0 && raw[k - 1] != '-') *w++ = ',';
    *w++ = raw[k];
  }
  return s;
}

/* 12.3 M */
static char *scaled(Arena *a, double n, const char *unit) {
  static const char *const prefix[] = {"", "k", "M", "G", "T", "P"};
  int p = 0;
  while (n >= 999.95 && p < 5) n /= 1000, p++;
  return arena_printf(a, p ? "%.1f %s%s" : "%.0f %s%s", n, prefix[p], unit);
}

/* ---- the tree -------------------------------------------------------------------------------------------------- */

typedef struct Record {
  const char *path, *result;
  double flops;
  const struct Record *up;
} Record;

typedef struct Tree {
  Table t;
  bool leaves; /* rows for parameters too */
  const Record *record;
  VEC(const void *) seen;
} Tree;

typedef struct Count {
  int64_t params, bytes, states;
} Count;

static Count tree_model(Tree *t, const char *name, const char *path, const ModelV *m, int depth);

static bool first_time(Tree *t, const void *id) {
  for (int k = 0; k < t->seen.n; k++)
    if (t->seen.at[k] == id) return false;
  vec_push(t->t.E->a, &t->seen, id);
  return true;
}

static const char *indented(Elab *E, int depth, const char *name) {
  return arena_printf(E->a, "%*s%s", 2 * depth, "", name);
}

static Count tree_leaf(Tree *t, const Member *x, int depth) {
  Elab *E = t->t.E;
  Count c = {0};
  if (x->v->kind != V_TENSOR) return c;
  const TensorV *v = &x->v->t;
  int64_t n = 1;
  for (int k = 0; k < v->rank; k++) n *= v->dim[k].n;
  bool again = !first_time(t, x->id);
  if (!again && x->kind == MEM_PARAM) c.params = n;
  if (!again && x->kind == MEM_STATE) c.states = n;
  if (!again) c.bytes = n * (int64_t)dt_bytes(v->dtype);
  if (t->leaves) {
    const char *type = v->rank ? v_type_text(E, x->v) : arena_printf(E->a, "%s[]", dt_name(v->dtype));
    const char *count = again ? "shared" : x->kind == MEM_STATE ? "state" : grouped(E->a, n);
    vec_push(E->a, &t->t.row, ((Row){{indented(E, depth, x->name), type, count}}));
  }
  return c;
}

static Count tree_value(Tree *t, const char *name, const char *path, const Value *v, int depth) {
  Count all = {0};
  Elab *E = t->t.E;
  if (v->kind == V_MODEL) return tree_model(t, name, path, v->model, depth);
  if (v->kind != V_TUPLE && v->kind != V_RECORD) return all;
  for (int k = 0; k < v->agg.n; k++) {
    const char *key = v->kind == V_RECORD ? v->agg.key[k] : arena_printf(E->a, "%d", k);
    Count c = tree_value(t, path_join(E, name, key), path_join(E, path, key), v->agg.at[k], depth);
    all.params += c.params, all.bytes += c.bytes, all.states += c.states;
  }
  return all;
}

static void add_calls(const Tree *t, const char *path, const char **result, double *flops) {
  *result = NULL, *flops = 0;
  for (const Record *r = t->record; r; r = r->up)
    if (!strcmp(r->path, path)) *flops += r->flops, *result = r->result;
}

static Count tree_model(Tree *t, const char *name, const char *path, const ModelV *m, int depth) {
  Elab *E = t->t.E;
  int row = t->t.row.n;
  vec_push(E->a, &t->t.row, ((Row){{NULL}}));
  Count all = {0};
  for (int k = 0; k < m->n; k++) {
    const Member *x = &m->at[k];
    Count c = {0};
    if (x->kind == MEM_PARAM || x->kind == MEM_STATE)
      c = tree_leaf(t, x, depth + 1);
    else if (x->kind != MEM_DERIVED)
      c = tree_value(t, x->name, path_join(E, path, x->name), x->v, depth + 1);
    all.params += c.params, all.bytes += c.bytes, all.states += c.states;
  }
  const char *what = strchr(model_text(E, m), ' ') + 1; /* without the article */
  if (!strncmp(what, "model ", 6)) what += 6;
  if (!strncmp(what, "stack of ", 9)) what += 9;
  Row r = {{indented(E, depth, name), what, grouped(E->a, all.params)}};
  if (!t->leaves) {
    const char *result;
    double flops;
    add_calls(t, path, &result, &flops);
    r = (Row){{r.cell[0], what, result ? result : "", r.cell[2], scaled(E->a, (double)all.bytes, "B"),
               result ? scaled(E->a, flops, "") : ""}};
  }
  t->t.row.at[row] = r;
  return all;
}

char *model_tree(Elab *E, const ModelV *m) {
  Tree t = {.t = {.E = E, .ncol = 3, .right = 4}, .leaves = true};
  Count c = tree_model(&t, m->lead ? "stack" : "model", "", m, 0);
  if (t.t.row.n == 1) return arena_printf(E->a, "%s: no parameters", model_text(E, m));
  const char *what = t.t.row.at[0].cell[1];
  t.t.row.at[0] = (Row){{"", "", ""}};
  char *head = arena_printf(E->a, "%s: %s parameter%s", what, grouped(E->a, c.params), c.params == 1 ? "" : "s");
  return arena_printf(E->a, "%s%s", head, table_text(&t.t));
}

/* ---- operations ------------------------------------------------------------------------------------------------ */

static void count_op(void *ctx, Expr *e) {
  if (e->kind == EX_OP && (dt_is_float(e->dtype) || (e->n && dt_is_float(e->arg[0]->dtype)))) ++*(int *)ctx;
}

static double node_ops(const Node *n) {
  if (n->kind != ND_COMP && n->kind != ND_SCAN) return 0;
  int ops = 0;
  ex_visit(n->comp.body, count_op, &ops);
  if ((n->comp.nred || n->kind == ND_SCAN) && dt_is_float(n->dtype)) ops++;
  double size = 1;
  for (int k = 0; k < n->comp.nout + n->comp.nred; k++) size *= (double)n->comp.extent[k];
  return ops * size;
}

static int by_address(const void *a, const void *b) {
  const Node *x = *(Node *const *)a, *y = *(Node *const *)b;
  return (x > y) - (x < y);
}

/* How often loops in order[from..n) run what reads their states or counters. */
static double repeats(const Node *x, int from, int n, Node *const *order) {
  Node *const *param;
  int np = nd_free_params(x, &param);
  double times = 1;
  for (int i = from; i < n && np; i++) {
    if (order[i]->kind != ND_LOOP) continue;
    const Loop *l = &order[i]->loop;
    bool reads = false;
    for (int p = 0; p < np && !reads; p++) {
      reads = param[p] == l->counter;
      for (int s = 0; s < l->nstate && !reads; s++) reads = param[p] == l->param[s];
    }
    if (reads) times *= (double)l->trip;
  }
  return times;
}

/* Of what `out` needs and `in` does not. */
static double ops_between(Elab *E, int nin, Node *const *in, int nout, Node *const *out) {
  Node **order, **below;
  int n = graph_topo(E->g, nout, out, &order), m = graph_topo(E->g, nin, in, &below);
  if (m) qsort(below, (size_t)m, sizeof *below, by_address);
  double all = 0;
  for (int k = 0; k < n; k++) {
    if (m && bsearch(&order[k], below, (size_t)m, sizeof *below, by_address)) continue;
    double ops = node_ops(order[k]);
    if (ops > 0) all += ops * repeats(order[k], k + 1, n, order);
  }
  return all;
}

static int nodes_of(Elab *E, Value *v, Node ***out) {
  Value **leaf;
  int n = v_leaves(E, v, &leaf), m = 0;
  *out = arena_array(E->a, Node *, n);
  for (int k = 0; k < n; k++) {
    int nfree;
    Index *free[TG_MAX_RANK];
    if (leaf[k]->kind == V_TENSOR && !leaf[k]->t.weak) (*out)[m++] = tv_node(E, leaf[k], &nfree, free);
  }
  return m;
}

static Value *first_tensor(Value *v) {
  while ((v->kind == V_TUPLE || v->kind == V_RECORD) && v->agg.n) v = v->agg.at[0];
  return v;
}

/* A method's own calls of its methods are part of it. */
void model_record(Elab *E, const ModelV *m, const Call *c, Value *result, const Record *before) {
  Record r = {.path = m->path, .result = v_type_text(E, first_tensor(result))};
  Value **arg = arena_array(E->a, Value *, c->n);
  for (int k = 0; k < c->n; k++) arg[k] = c->arg[k].v;
  Node **in, **out;
  int nin = nodes_of(E, v_tuple(E, c->n, arg), &in), nout = nodes_of(E, result, &out);
  r.flops = ops_between(E, nin, in, nout, out) * E->repeat;
  const Record *kept = before;
  for (const Record *x = E->record; x != before; x = x->up) {
    if (!strcmp(x->path, r.path)) continue;
    Record *y = arena_copy(E->a, x, sizeof *x);
    y->up = kept;
    kept = y;
  }
  r.up = kept;
  E->record = arena_copy(E->a, &r, sizeof r);
}

/* ---- summary --------------------------------------------------------------------------------------------------- */

/* Parameters as unknown inputs, so that what makes their initial values does not count. */
static Value *unknown_leaf(Elab *E, void *ctx, Value *leaf, LeafKind kind) {
  (void)ctx, (void)kind;
  int64_t dim[TG_MAX_RANK];
  for (int k = 0; k < leaf->t.rank; k++) dim[k] = leaf->t.dim[k].n;
  Node *n = nd_param(E->g, leaf->t.dtype, leaf->t.rank, dim, "p");
  return v_tensor(E, leaf->t.dtype, leaf->t.rank, leaf->t.dim, ex_load_full(E->g, n, 0));
}

/* Each sub-model's path as it is reached from here. */
static void set_paths(Elab *E, Value *v, const char *path) {
  if (v->kind == V_MODEL) {
    v->model->path = path;
    for (int k = 0; k < v->model->n; k++) set_paths(E, v->model->at[k].v, path_join(E, path, v->model->at[k].name));
  }
  if (v->kind == V_TUPLE || v->kind == V_RECORD)
    for (int k = 0; k < v->agg.n; k++)
      set_paths(E, v->agg.at[k], path_join(E, path, v->kind == V_RECORD ? v->agg.key[k] : arena_printf(E->a, "%d", k)));
}

static Value *sized_input(Elab *E, const ModelV *m, Value *sizes, Call *c) {
  Ast *apply = model_apply(E, m), *type = apply->nkid ? apply->kid[0]->type : NULL;
  Dim dim[TG_MAX_RANK];
  int64_t n[TG_MAX_RANK];
  int rank = read_shape(E, sizes, c, dim);
  for (int k = 0; k < rank; k++) n[k] = dim[k].n;
  DType dt = DT_F32;
  if (type && type->kind == AST_TYPE && type->name && !dt_by_name(type->name, (int)strlen(type->name), &dt))
    dt = name_is(type->name, "int") ? DT_I64 : DT_F32;
  tv_check_size(E, dt, rank, dim, c->span);
  return v_tensor(E, dt, rank, dim, ex_load_full(E->g, nd_param(E->g, dt, rank, n, "x"), 0));
}

static Value *summary_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Value *net = bound[0];
  if (net->kind != V_MODEL || net->model->hole)
    diag_fail(E->d, T_TYPE, c->arg[0].span, "summary takes a model, not %s", v_type_text(E, net));
  const ModelV *m = net->model;
  Ast *apply = m->lead ? NULL : model_apply(E, m);
  const char *input = NULL;
  Tree t = {.t = {.E = E, .ncol = 6, .right = 8 | 16 | 32}};
  vec_push(E->a, &t.t.row, ((Row){{"layer", "model", "output", "parameters", "bytes", "FLOPs"}}));
  if (apply) {
    LeafMap map = {.fn = unknown_leaf};
    Elab keep = *E;
    Record *none = arena_new_of(E->a, Record);
    *none = (Record){.path = "-", .result = ""};
    E->record = none, E->repeat = 1, E->effect.n = E->effect.cap = 0, E->effect.at = NULL, E->next = NULL;
    E->effects_allowed = true;
    Value *whole = model_map(E, net, &map);
    set_paths(E, whole, "");
    Call inner = {.span = c->span, .callee = c->span, .fname = m->def->name};
    if (bound[1]->agg.n) {
      inner.arg = arena_array(E->a, Arg, 1), inner.n = 1;
      inner.arg[0] = (Arg){.v = sized_input(E, m, bound[1], c), .span = c->span};
      model_call(E, whole, &inner);
    } else if (!model_call_example(E, whole, &inner))
      inner.n = 0;
    if (inner.n) input = v_type_text(E, inner.arg[0].v);
    t.record = E->record;
    *E = keep;
  }
  Count n = tree_model(&t, m->def->name, "", m, 0);
  char *foot = arena_printf(E->a, "%s parameters, %s", grouped(E->a, n.params), scaled(E->a, (double)n.bytes, "B"));
  if (n.states) foot = arena_printf(E->a, "%s, %s of them in states", foot, grouped(E->a, n.states));
  if (input) foot = arena_printf(E->a, "%s; output and FLOPs of one call for an input %s", foot, input);
  Template text = {0};
  const char *body = arena_printf(E->a, "%s\n%s", table_text(&t.t), foot);
  template_text(E, &text, body, strlen(body));
  template_print(E, &text, c->span);
  return v_none(E);
}

/* ---- parameters by path ---------------------------------------------------------------------------------------- */

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
    {"summary", "net, *size", summary_fn,
     "Prints a table of the model's layers: outputs, parameters, bytes, operations; summary(net, 64, 1, 28, 28) for an "
     "input of that size. Nothing is computed.",
     0},
    {0}};
