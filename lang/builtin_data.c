/* Data sets: stages as builtins. Stages that depend on nothing but positions are the native set's; functions of
 * rows are kept and applied where rows are used (data.c). */
#include "lang/builtin.h"
#include "lang/data.h"
#include "lang/model.h"
#include "lang/space.h"
#include <string.h>

/* ---- making values ---------------------------------------------------------------------------------------------- */

static Value *of_set(Elab *E, DataV *d) {
  Value *v = arena_new_of(E->a, Value);
  v->kind = V_DATA, v->ext = d;
  return v;
}

static DataForm *form_new(Elab *E, int kind, int n, const DataForm **of, Span at) {
  DataForm *f = arena_new_of(E->a, DataForm);
  f->kind = kind, f->n = n, f->of = of ? arena_copy(E->a, of, sizeof *of * (size_t)n) : NULL, f->at = at;
  return f;
}

/* What a row is, over stand-ins for its fields. Draws and effects of mapped functions leave nothing behind. */
static Value *row_type(Elab *E, const DataForm *form, int64_t id) {
  DataInfo info = data_info(E->hooks->data, id);
  Value **leaf = arena_array(E->a, Value *, info.nfield);
  for (int k = 0; k < info.nfield; k++) {
    const DataField *f = &info.field[k];
    leaf[k] = v_node(E, nd_param(E->g, f->dtype, f->rank, f->dim, *f->name ? f->name : "row"));
  }
  Stream stream = E->stream;
  bool allowed = E->effects_allowed;
  E->effects_allowed = false;
  int next = 0;
  Value *row = data_row_value(E, form, leaf, &next);
  E->stream = stream, E->effects_allowed = allowed;
  return row;
}

Value *data_value(Elab *E, int64_t id, Value *like, Span at) {
  DataInfo info = data_info(data_table(E, at), id);
  if (!like) {
    Value **zero = arena_array(E->a, Value *, info.nfield);
    Name *key = arena_array(E->a, Name, info.nfield);
    for (int k = 0; k < info.nfield; k++)
      zero[k] = v_int(E, 0, NULL), key[k] = name_of(E->names, info.field[k].name, strlen(info.field[k].name));
    like = info.nfield == 1 && !*info.field[0].name ? zero[0] : v_record(E, info.nfield, key, zero);
  }
  DataForm *f = form_new(E, FORM_LEAVES, info.nfield, NULL, at);
  f->like = like;
  DataV *d = arena_new_of(E->a, DataV);
  *d = (DataV){.id = id, .form = f, .at = at};
  d->row = row_type(E, f, id);
  return of_set(E, d);
}

static const DataV *need_data(Elab *E, Value *v, Call *c) {
  if (v->kind == V_POISON) diag_unwind(E->d);
  if (v->kind == V_DATA) return data_of(v);
  Diag *g = diag_add(E->d, T_TYPE, arg_span(c, v), "%s takes a data set, not %s", c->fname, v_type_text(E, v));
  if (v->kind == V_RECORD || v->kind == V_TENSOR) diag_help(E->d, g, "data.rows(...) makes a data set of tensors");
  elab_fail(E, g);
}

/* The set `id` over what d is given; rows as before. */
static DataV *staged(Elab *E, const DataV *d, int64_t id) {
  DataV *n = arena_copy(E->a, d, sizeof *d);
  n->id = id;
  return n;
}

static void add_key(Elab *E, DataV *d) {
  Value **key = arena_array(E->a, Value *, d->nkey + 1);
  if (d->nkey) memcpy(key, d->key, sizeof *key * (size_t)d->nkey);
  key[d->nkey] = draw_key(E);
  d->key = key, d->nkey++;
}

static void before_batch(Elab *E, const DataV *d, const char *what, Span at) {
  if (!d->size) return;
  Diag *g = diag_add(E->d, T_TYPE, at, "%s of batches: it works on rows", what);
  diag_note(E->d, g, d->at, "batches are made here");
  diag_help(E->d, g, "put it before batch(%lld)", (long long)d->size);
  elab_fail(E, g);
}

/* ---- text, lengths ---------------------------------------------------------------------------------------------- */

char *data_text(Elab *E, const Value *v) {
  const DataV *d = data_of(v);
  int64_t n = data_info(E->hooks->data, d->id).length;
  char *s = arena_printf(E->a, "a data set of %s", v_type_text(E, d->row));
  if (n >= 0) s = arena_printf(E->a, "%s, %lld row%s", s, (long long)n, n == 1 ? "" : "s");
  if (n == DATA_ENDLESS) s = arena_printf(E->a, "%s, without end", s);
  if (d->size) s = arena_printf(E->a, "%s, in batches of %lld", s, (long long)d->size);
  return s;
}

int64_t data_len(Elab *E, const Value *v, Span at) {
  DataShape s = data_shape(E, v);
  if (s.full >= 0) return s.full + (s.tail > 0);
  bool endless = data_is_endless(E, v);
  Diag *g =
      diag_add(E->d, T_STATIC, at,
               endless ? "this data set has no end" : "how many rows this data set has is known after reading it only");
  if (!endless) diag_help(E->d, g, "count them in a loop: fold n = 0 for r in d { n + 1 }");
  elab_fail(E, g);
}

/* ---- functions of rows ------------------------------------------------------------------------------------------ */

Value *data_map(Elab *E, Value *v, Value *f, Span at) {
  const DataV *d = data_of(v);
  DataV *n = arena_copy(E->a, d, sizeof *d);
  if (d->size) {
    const DataForm *of = d->after ? d->after : form_new(E, FORM_BATCH, 0, NULL, at);
    DataForm *m = form_new(E, FORM_MAP, 1, &of, at);
    m->f = f, n->after = m;
    return of_set(E, n);
  }
  DataForm *m = form_new(E, FORM_MAP, 1, (const DataForm *[]){d->form}, at);
  m->f = f, n->form = m;
  n->row = row_type(E, m, d->id);
  Value **leaf;
  if (!v_leaves(E, n->row, &leaf))
    diag_fail(E->d, T_TYPE, at, "a row becomes %s here; a data set holds tensors, and records and tuples of them",
              v_type_text(E, n->row));
  return of_set(E, n);
}

/* ---- stages ----------------------------------------------------------------------------------------------------- */

int64_t data_count(Elab *E, Value *v, Call *c, int64_t least, const char *what) {
  int64_t n = v_static_int(E, v, arg_span(c, v), what);
  if (n < least)
    diag_fail(E->d, S_NEGATIVE, arg_span(c, v), "%s is %lld or more, not %lld", what, (long long)least, (long long)n);
  return n;
}

static Value *shuffle_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  if (b[0]->kind == V_TENSOR || b[0]->kind == V_RANGE) {
    Value *perm = name_lookup(E, NULL, name_of(E->names, "permutation", 11));
    TensorV *t = v_as_tensor(E, b[0], arg_span(c, b[0]), "what is shuffled");
    return call_simple(
        E, perm, 1, (Value *[]){b[0]->kind == V_TENSOR ? b[0] : v_tensor(E, t->dtype, t->rank, t->dim, t->e)}, c->span);
  }
  const DataV *d = need_data(E, b[0], c);
  int64_t buffer = b[1] ? data_count(E, b[1], c, 1, "buffer") : 10000;
  before_batch(E, d, "shuffle", c->span);
  if (data_is_endless(E, b[0]) && data_info(E->hooks->data, d->id).random) {
    Diag *g = diag_add(E->d, T_TYPE, c->span, "shuffle of a data set without end");
    diag_help(E->d, g, "shuffle before repeat");
    elab_fail(E, g);
  }
  DataV *n = staged(E, d, data_shuffle(E->hooks->data, d->id, buffer));
  add_key(E, n);
  n->at = c->span;
  return of_set(E, n);
}

static Value *sample_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  const DataV *d = need_data(E, b[0], c);
  int64_t k = data_count(E, b[1], c, 1, "the size of a sample");
  before_batch(E, d, "sample", c->span);
  if (data_is_endless(E, b[0])) diag_fail(E->d, T_TYPE, c->span, "sample of a data set without end");
  DataV *n = staged(E, d, data_sample(E->hooks->data, d->id, k));
  add_key(E, n);
  n->at = c->span;
  return of_set(E, n);
}

static Value *cache_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  const DataV *d = need_data(E, b[0], c);
  before_batch(E, d, "cache", c->span);
  return of_set(E, staged(E, d, data_cache(E->hooks->data, d->id)));
}

/* ---- filter ----------------------------------------------------------------------------------------------------- */

enum { FILTER_CHUNK = 1024 };

/* A session input to stand for a field. Kept slots are for ever, so a type has one for each of the first fields. */
static int64_t data_slot(Elab *E, int k, DType t, int rank, const int64_t *dim, Value **v) {
  char *text = arena_printf(E->a, "input %d %d", k, t);
  for (int a = 0; a < rank; a++) text = arena_printf(E->a, "%s %lld", text, (long long)dim[a]);
  Name key = name_of(E->names, text, strlen(text));
  Node *in = map_get(&E->session->computed, key);
  if (!in) {
    in = nd_input(E->g, t, rank, dim, "row", E->hooks->keep(E->hooks->ctx, (Tensor){0}));
    map_put(E->session->opt.arena, &E->session->computed, key, in);
  }
  *v = v_node(E, in);
  return in->slot;
}

/* A function of raw rows over a chunk of them, as a region of its own: compiled once, run by the set's reader. Returns
 * the nodes of its leaves [FILTER_CHUNK, ...]. */
static int chunk_nodes(Elab *E, const DataV *d, const DataForm *form, const char *what, Node ***node, int64_t **slot,
                       Value **row, Span at) {
  DataInfo info = data_info(E->hooks->data, d->id);
  int n = info.nfield;
  Value **raw = arena_array(E->a, Value *, n), **leaf;
  *slot = arena_array(E->a, int64_t, n);
  for (int k = 0; k < n; k++) {
    int64_t dim[TG_MAX_RANK] = {FILTER_CHUNK};
    if (info.field[k].rank + 1 > TG_MAX_RANK) diag_fail(E->d, S_RANK, at, "more than %d axes", TG_MAX_RANK);
    memcpy(dim + 1, info.field[k].dim, sizeof *dim * (size_t)info.field[k].rank);
    (*slot)[k] = data_slot(E, k, info.field[k].dtype, info.field[k].rank + 1, dim, &raw[k]);
  }
  Stream stream = E->stream;
  *row = data_over_rows(E, form, raw, n, dim_of(FILTER_CHUNK), at);
  E->stream = stream;
  int m = v_leaves(E, *row, &leaf);
  *node = arena_array(E->a, Node *, m);
  for (int k = 0; k < m; k++) {
    (*node)[k] = tv_closed(E, tv_harden(E, leaf[k], at));
    Node *const *param;
    if (!nd_free_params((*node)[k], &param)) continue;
    if (E->checking) diag_unwind(E->d); /* a stand-in: nothing more can be said before a call */
    diag_fail(E->d, T_STATIC, at, "%s depends on the state of a loop or on an argument that is differentiated", what);
  }
  return m;
}

static DataProgram compile_rows(Elab *E, int nin, const int64_t *slot, int n, Node **node, Span at) {
  Region r = {.nout = n, .out = node};
  DataProgram prog = {0};
  Fault f = {0};
  if (!E->hooks->program || !E->hooks->program(E->hooks->ctx, E->g, &r, nin, slot, &prog, &f))
    diag_fail(E->d, f.id ? f.id : R_NATIVE, at, "%s", f.id ? f.msg : "there is no compiler here for functions of rows");
  prog.chunk = FILTER_CHUNK;
  return prog;
}

static int64_t compile_filter(Elab *E, const DataV *d, Value *p, Span at) {
  DataForm *m = form_new(E, FORM_MAP, 1, (const DataForm *[]){d->form}, at);
  m->f = p;
  Node **node;
  int64_t *slot;
  Value *keep;
  chunk_nodes(E, d, m, "filter", &node, &slot, &keep, at);
  int64_t id = data_filter_known(E->hooks->data, d->id, node[0]->id);
  if (id >= 0) return id;
  int nin = data_info(E->hooks->data, d->id).nfield;
  return data_filter(E->hooks->data, d->id, node[0]->id, compile_rows(E, nin, slot, 1, node, at));
}

static Value *filter_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  Value *p = b[0], *x = b[1];
  if (p->kind != V_FUN && x->kind == V_FUN) p = b[1], x = b[0]; /* d |> filter(p) */
  if (x->kind == V_TUPLE) {
    VEC(Value *) kept = {0};
    for (int k = 0; k < x->agg.n; k++) {
      Value *keep = call_simple(E, p, 1, &x->agg.at[k], c->span);
      if (v_static_bool(E, keep, c->span, "what filter asks of an item of a tuple"))
        vec_push(E->a, &kept, x->agg.at[k]);
    }
    return v_tuple(E, kept.n, kept.at);
  }
  const DataV *d = need_data(E, x, c);
  before_batch(E, d, "filter", c->span);
  Value *row = call_simple(E, p, 1, (Value *[]){d->row}, c->span);
  if (row->kind != V_BOOL && (row->kind != V_TENSOR || row->t.rank || row->t.dtype != DT_BOOL))
    diag_fail(E->d, T_TYPE, c->span, "what filter asks of a row gives a scalar bool, not %s", v_type_text(E, row));
  DataV *n = staged(E, d, compile_filter(E, d, p, c->span));
  n->at = c->span;
  return of_set(E, n);
}

/* ---- describe --------------------------------------------------------------------------------------------------- */

/* The set with its mapped functions applied by its reader: a field for each leaf of a row, named by its path. */
static int64_t compiled_rows(Elab *E, const DataV *d, Span at) {
  Node **node;
  int64_t *slot;
  Value *row;
  const char **path;
  int n = chunk_nodes(E, d, d->form, "a mapped function", &node, &slot, &row, at);
  v_leaf_paths(E, row, &path);
  DataField *field = arena_array(E->a, DataField, n);
  for (int k = 0; k < n; k++) {
    field[k] = (DataField){.name = path[k], .dtype = (DType)node[k]->dtype, .rank = node[k]->rank - 1};
    memcpy(field[k].dim, node[k]->dim + 1, sizeof *node[k]->dim * (size_t)(node[k]->rank - 1));
  }
  int nin = data_info(E->hooks->data, d->id).nfield;
  return data_mapped(E->hooks->data, d->id, n, field, compile_rows(E, nin, slot, n, node, at));
}

static Value *describe_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  int n = b[0]->agg.n;
  bool sets = false;
  for (int j = 0; j < n; j++) sets |= b[0]->agg.at[j]->kind == V_DATA;
  if (!sets && n == 1) { /* of another value: its type as text */
    const char *s = v_type_text(E, b[0]->agg.at[0]);
    return v_str(E, s, strlen(s));
  }
  if (n == 0 || n > 8) diag_fail(E->d, T_ARGS, c->span, "describe takes up to eight data sets");
  Attr *attr = arena_alloc(E->a, sizeof(Attr) * 2 * (size_t)n);
  VEC(Node *) arg = {0};
  effect_allowed(E, "describe", c->span);
  for (int j = 0; j < n; j++) {
    Value *v = b[0]->agg.at[j];
    Span at = arg_span(c, v);
    if (v->kind == V_TENSOR || v->kind == V_RECORD || v->kind == V_TUPLE) v = data_of_tensors(E, v, c->span, at);
    const DataV *d = need_data(E, v, c);
    if (data_is_endless(E, v)) diag_fail(E->d, T_TYPE, at, "describe of a data set without end");
    const Source *s = at.file ? E->d->source.at[at.file - 1] : NULL;
    attr[2 * j].s = n > 1 && s ? arena_strndup(E->a, s->text + at.lo, at.hi - at.lo < 24 ? at.hi - at.lo : 24) : "";
    int64_t id = compiled_rows(E, d, at);
    attr[2 * j + 1] = (Attr){.i = id, .f = (double)id};
    for (int k = 0; k < d->nkey; k++) vec_push(E->a, &arg, tv_closed(E, d->key[k]));
    for (int k = 0; k < d->ntensor; k++) vec_push(E->a, &arg, tv_closed(E, d->tensor[k]));
  }
  effect_call(E, "data_describe", 2 * n, attr, arg.n, arg.at, c->span);
  return v_none(E);
}

static Value *batch_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  const DataV *d = need_data(E, b[0], c);
  int64_t size = data_count(E, b[1], c, 1, "the size of a batch");
  before_batch(E, d, "batch", c->span);
  DataV *n = arena_copy(E->a, d, sizeof *d);
  n->size = size, n->drop_last = b[2] && v_static_bool(E, b[2], arg_span(c, b[2]), "drop_last"), n->at = c->span;
  return of_set(E, n);
}

Value *data_part(Elab *E, Value *v, int64_t n, bool skip, Span at) {
  const DataV *d = data_of(v);
  int64_t rows = n;
  if (n < 0) diag_fail(E->d, S_NEGATIVE, at, "a count is 0 or more, not %lld", (long long)n);
  if (d->size && __builtin_mul_overflow(n, d->size, &rows)) rows = INT64_MAX;
  DataTable *t = E->hooks->data;
  DataV *r = staged(E, d, skip ? data_skip(t, d->id, rows) : data_take(t, d->id, rows));
  if (skip && d->size && d->after) { /* batches already counted keep their numbers */
    diag_fail(E->d, T_TYPE, at, "skip of mapped batches: skip before map, or before batch(%lld)", (long long)d->size);
  }
  return of_set(E, r);
}

Value *data_repeated(Elab *E, Value *v, int64_t n, Span at) {
  const DataV *d = data_of(v);
  before_batch(E, d, "repeat", at);
  return of_set(E, staged(E, d, data_repeat(E->hooks->data, d->id, n)));
}

Value *data_enumerated(Elab *E, Value *v, Span at) {
  const DataV *d = data_of(v);
  if (d->size) {
    DataV *n = arena_copy(E->a, d, sizeof *d);
    const DataForm *of[2] = {form_new(E, FORM_POS, 0, NULL, at),
                             d->after ? d->after : form_new(E, FORM_BATCH, 0, NULL, at)};
    DataForm *f = form_new(E, FORM_PARTS, 2, of, at);
    f->like = v_tuple(E, 2, (Value *[]){v_none(E), v_none(E)});
    n->after = f;
    return of_set(E, n);
  }
  DataV *n = staged(E, d, data_enumerate(E->hooks->data, d->id));
  DataForm *count = form_new(E, FORM_LEAVES, 1, NULL, at);
  count->like = v_int(E, 0, NULL);
  DataForm *f = form_new(E, FORM_PARTS, 2, (const DataForm *[]){count, d->form}, at);
  f->like = v_tuple(E, 2, (Value *[]){v_none(E), v_none(E)});
  n->form = f, n->row = row_type(E, f, n->id);
  return of_set(E, n);
}

Value *data_zipped(Elab *E, Value *parts, Span at) {
  int n = parts->agg.n, nkey = 0, ntensor = 0;
  int64_t *id = arena_array(E->a, int64_t, n), length = -1;
  const DataForm **of = arena_array(E->a, const DataForm *, n);
  VEC(Value *) key = {0}, tensor = {0};
  if (!n) diag_fail(E->d, T_ARGS, at, "zip needs something to walk");
  for (int k = 0; k < n; k++) {
    Value *v = parts->agg.at[k];
    if (v->kind != V_DATA) {
      Diag *g = diag_add(E->d, T_TYPE, at, "zip of a data set and %s", v_type_text(E, v));
      diag_help(E->d, g, "data.rows(...) makes a data set of tensors; enumerate(d) counts rows");
      elab_fail(E, g);
    }
    const DataV *d = data_of(v);
    before_batch(E, d, "zip", at);
    id[k] = d->id, of[k] = d->form;
    for (int j = 0; j < d->nkey; j++) vec_push(E->a, &key, d->key[j]);
    for (int j = 0; j < d->ntensor; j++) vec_push(E->a, &tensor, d->tensor[j]);
    nkey += d->nkey, ntensor += d->ntensor;
    int64_t len = data_info(E->hooks->data, d->id).length;
    if (len >= 0 && length >= 0 && len != length) {
      Diag *g =
          diag_add(E->d, S_MISMATCH, at, "zip of data sets with %lld and %lld rows", (long long)length, (long long)len);
      diag_help(E->d, g, "take(%lld) cuts the longer one", (long long)(len < length ? len : length));
      elab_fail(E, g);
    }
    if (len >= 0) length = len;
  }
  DataV *d = arena_new_of(E->a, DataV);
  DataForm *f = form_new(E, FORM_PARTS, n, of, at);
  f->like = parts;
  *d = (DataV){.id = data_zip(E->hooks->data, n, id),
               .form = f,
               .nkey = nkey,
               .key = key.at,
               .ntensor = ntensor,
               .tensor = tensor.at,
               .at = at};
  d->row = row_type(E, f, d->id);
  return of_set(E, d);
}

const Builtin builtins_data[] = {
    {"shuffle", "d; buffer=", shuffle_fn,
     "The rows of d in random order; where rows can't be read in any order, by a buffer of `buffer` (10,000) rows.", 0},
    {"sample", "d, n", sample_fn, "n rows of d in random order, each at most once.", 0},
    {"cache", "d", cache_fn, "d, whose rows are kept in memory once they have been read.", 0},
    {"filter", "p, d", filter_fn,
     "The rows of a data set for which p is true: d |> filter(r -> r.y > 0); of a tuple, the items.", 0},
    {"describe", "*d", describe_fn,
     "Prints what the columns of data sets hold, side by side: count, missing, mean, deviation, quartiles, histogram. "
     "Of "
     "another value: its type as text.",
     0},
    {"batch", "d, n; drop_last=", batch_fn,
     "Batches of n rows; the last one is shorter if rows are left over, unless drop_last = true.", 0},
    {0},
};
