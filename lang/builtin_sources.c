/* Sources of data sets as builtins: files, folders, text, tensors of the program. The library's data.tg gives them
 * their names. */
#include "lang/builtin.h"
#include "lang/data.h"
#include "lang/space.h"
#include "stdlib/native/data_csv.h"
#include "stdlib/native/data_images.h"
#include "stdlib/native/data_text.h"
#include "stdlib/native/data_tfrecord.h"
#include "stdlib/native/print.h"
#include <string.h>

/* ---- files ------------------------------------------------------------------------------------------------------ */

enum { SRC_IDX, SRC_NPY, SRC_TFRECORD };
static Value *file_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  Fault f = {0};
  DataTable *t = data_table(E, c->span);
  const char *path = v_static_str(E, b[0], arg_span(c, b[0]), "a file's name");
  int64_t id = self->data == SRC_IDX   ? data_idx(t, path, &f)
               : self->data == SRC_NPY ? data_npy(t, path, &f)
                                       : data_tfrecord(t, path, &f);
  if (id < 0) diag_fail(E->d, f.id ? f.id : M_FILE, c->span, "%s", f.msg);
  return data_value(E, id, NULL, c->span);
}

/* A tuple of strings, or one string. */
static int names_arg(Elab *E, Value *v, Call *c, const char *what, const char ***out) {
  int n = v->kind == V_TUPLE ? v->agg.n : 1;
  *out = arena_array(E->a, const char *, n);
  for (int k = 0; k < n; k++) (*out)[k] = v_static_str(E, v->kind == V_TUPLE ? v->agg.at[k] : v, arg_span(c, v), what);
  return n;
}

static void types_arg(Elab *E, Value *v, Call *c, CsvOptions *o) {
  Span at = arg_span(c, v);
  if (v->kind != V_RECORD) diag_fail(E->d, T_TYPE, at, "types is a record, {fare: f32}, not %s", v_type_text(E, v));
  CsvType *t = arena_array(E->a, CsvType, v->agg.n);
  for (int k = 0; k < v->agg.n; k++) {
    Value *x = v->agg.at[k];
    int64_t width = 0;
    if (x->kind != V_DTYPE && (!v_is_static_int(x, &width) || width < 1 || width > 1 << 20))
      diag_fail(E->d, T_TYPE, at, "the type of a column is a dtype, or how many bytes of text are kept, not %s",
                v_type_text(E, x));
    t[k] = (CsvType){.name = v->agg.key[k], .dtype = x->kind == V_DTYPE ? x->dtype : DT_U8, .width = width};
  }
  o->ntype = v->agg.n, o->type = t;
}

static bool given(const Value *v) { return v && v->kind != V_NONE; }

static Value *csv_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  Fault f = {0};
  DataTable *t = data_table(E, c->span);
  CsvOptions o = {0};
  const char *path = v_static_str(E, b[0], arg_span(c, b[0]), "a file's name"), **names;
  if (given(b[1])) o.nselect = names_arg(E, b[1], c, "a column's name", &names), o.select = names;
  if (given(b[2])) types_arg(E, b[2], c, &o);
  if (given(b[3])) o.fill = true, o.missing = v_static_num(E, b[3], arg_span(c, b[3]), "missing");
  if (given(b[4])) {
    const char *s = v_static_str(E, b[4], arg_span(c, b[4]), "on_error");
    o.skip_bad = !strcmp(s, "skip");
    if (!o.skip_bad && strcmp(s, "stop"))
      diag_fail(E->d, T_TYPE, arg_span(c, b[4]), "on_error is \"stop\" or \"skip\", not \"%s\"", s);
  }
  if (given(b[5])) {
    const char *s = v_static_str(E, b[5], arg_span(c, b[5]), "sep");
    if (strlen(s) != 1 || *s == '"' || *s == '\n' || *s == '\r')
      diag_fail(E->d, T_TYPE, arg_span(c, b[5]), "sep is one character, such as \",\"");
    o.sep = *s;
  }
  int64_t id = data_csv(t, path, &o, &f);
  if (id < 0) diag_fail(E->d, f.id ? f.id : M_FILE, c->span, "%s", f.msg);
  return data_value(E, id, NULL, c->span);
}

/* Ranges as the tensors that they are. */
static Value *ranges_as_tensors(Elab *E, Value *v, Span at) {
  if (v->kind == V_RANGE) {
    TensorV *t = v_as_tensor(E, v, at, "a range of rows");
    return v_tensor(E, t->dtype, t->rank, t->dim, t->e);
  }
  if (v->kind != V_TUPLE && v->kind != V_RECORD) return v;
  Value **kid = arena_array(E->a, Value *, v->agg.n);
  for (int k = 0; k < v->agg.n; k++) kid[k] = ranges_as_tensors(E, v->agg.at[k], at);
  return v->kind == V_TUPLE ? v_tuple(E, v->agg.n, kid) : v_record(E, v->agg.n, v->agg.key, kid);
}

Value *data_of_tensors(Elab *E, Value *x, Span span, Span at) {
  Value **leaf;
  DataTable *t = data_table(E, span);
  x = ranges_as_tensors(E, x, at);
  if (x->kind == V_DATA) return x;
  int n = v_leaves(E, x, &leaf);
  if (!n)
    diag_fail(E->d, T_TYPE, at, "data.rows takes a tensor, or a record or tuple of tensors, not %s", v_type_text(E, x));
  DataField *field = arena_array(E->a, DataField, n);
  Value **tensor = arena_array(E->a, Value *, n);
  Dim rows = {0};
  for (int k = 0; k < n; k++) {
    Value *r = tensor[k] = tv_harden(E, leaf[k], at);
    if (r->kind != V_TENSOR || r->t.rank == 0)
      diag_fail(E->d, T_TYPE, at, "data.rows takes tensors with rows; %s has none", v_type_text(E, r));
    if (r->t.e->nvar)
      diag_fail(E->d, T_TYPE, at, "data.rows takes whole tensors; this one depends on an index of a comprehension");
    if (k == 0) rows = r->t.dim[0];
    if (r->t.dim[0].n != rows.n && r->t.dim[0].n >= 0 && rows.n >= 0) {
      Diag *g = diag_add(E->d, S_MISMATCH, at, "these tensors have %lld and %lld rows", (long long)rows.n,
                         (long long)r->t.dim[0].n);
      note_origin(E, g, rows);
      note_origin(E, g, r->t.dim[0]);
      elab_fail(E, g);
    }
    field[k] = (DataField){.name = "", .dtype = r->t.dtype, .rank = r->t.rank - 1};
    for (int a = 1; a < r->t.rank; a++) field[k].dim[a - 1] = r->t.dim[a].n < 0 ? 1 : r->t.dim[a].n;
  }
  Value *v = data_value(E, data_rows(t, n, field, rows.n < 0 ? 1 : rows.n), x, span);
  DataV *d = v->ext;
  d->tensor = tensor, d->ntensor = n;
  return v;
}

static Value *rows_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  return data_of_tensors(E, b[0], c->span, arg_span(c, b[0]));
}

/* ---- text ------------------------------------------------------------------------------------------------------- */

static Value *text_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  Fault f = {0};
  const char *path = v_static_str(E, b[0], arg_span(c, b[0]), "a file's name");
  int64_t id = data_text_open(data_table(E, c->span), path, &f);
  if (id < 0) diag_fail(E->d, f.id ? f.id : M_FILE, c->span, "%s", f.msg);
  return data_value(E, id, NULL, c->span);
}

static const uint32_t *letters_of(Elab *E, Value *text, int64_t *n) {
  return data_text_alphabet(E->hooks->data, data_of(text)->id, n);
}

static Value *vocab_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  int64_t n;
  letters_of(E, b[0], &n);
  return v_int(
      E, n,
      origin_new(E, NULL, data_of(b[0])->at, "%lld is the number of different characters of this text", (long long)n));
}

/* Numbers of the characters of a static string. */
static Value *encode_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  Span at = arg_span(c, b[1]);
  const char *s = v_static_str(E, b[1], at, "what is encoded");
  size_t bytes = b[1]->str.n;
  int64_t n, letters;
  const uint32_t *letter = letters_of(E, b[0], &letters);
  uint32_t *code = arena_array(E->a, uint32_t, bytes);
  int32_t *id = arena_array(E->a, int32_t, bytes);
  if ((n = utf8_decode(s, bytes, code)) < 0) diag_fail(E->d, T_TYPE, at, "the string is not UTF-8");
  for (int64_t k = 0; k < n; k++) {
    int64_t lo = 0, hi = letters;
    while (lo < hi) {
      int64_t mid = (lo + hi) / 2;
      if (letter[mid] < code[k])
        lo = mid + 1;
      else
        hi = mid;
    }
    if (lo == letters || letter[lo] != code[k]) {
      char ch[8];
      int32_t v = (int32_t)code[k];
      format_scalar(ch, sizeof ch, DT_I32, &v, "text");
      Diag *g = diag_add(E->d, M_FILE, at, "character %lld, `%s`, does not occur in the text", (long long)k + 1, ch);
      diag_note(E->d, g, data_of(b[0])->at, "the text is opened here");
      elab_fail(E, g);
    }
    id[k] = (int32_t)lo;
  }
  Value *v = v_node(E, nd_const(E->g, DT_I32, 1, &n, id));
  v->t.dim[0].from = origin_new(E, NULL, at, "%lld is the number of characters of this string", (long long)n);
  return v;
}

/* Numbers, also such as are known at run time only, as text: print writes the characters. */
static Value *decode_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  Span at = arg_span(c, b[1]);
  int64_t letters;
  const uint32_t *letter = letters_of(E, b[0], &letters);
  Value *ids = tv_harden(E, b[1], at);
  TensorV *t = v_as_tensor(E, ids, at, "what is decoded");
  if (!dt_is_int(t->dtype))
    diag_fail(E->d, T_TYPE, at, "what is decoded are integers, the numbers of characters, not %s", v_type_text(E, ids));
  Node *table = nd_const(E->g, DT_I32, 1, &letters, letter);
  Expr *idx = ex_cast(E->g, DT_I64, t->e);
  Value *code = v_tensor(E, DT_I32, t->rank, t->dim, ex_load(E->g, table, 1, &idx, NULL, true, user_span(E, at)));
  static const char template[] = "{0:text}";
  Value *v = v_str(E, template, sizeof template - 1);
  v->str.narg = 1, v->str.arg = arena_copy(E->a, &code, sizeof code);
  return v;
}

static Value *windows_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  const DataV *d = data_of(b[0]);
  int64_t width = data_count(E, b[1], c, 1, "the length of windows"), stride = data_count(E, b[2], c, 1, "stride");
  int64_t length = data_info(E->hooks->data, d->id).length;
  if (length <= width)
    diag_fail(E->d, V_EMPTY, c->span, "the text has %lld characters: windows of %lld and the one after need more",
              (long long)length, (long long)width);
  return data_value(E, data_windows(E->hooks->data, d->id, width, stride), NULL, c->span);
}

/* ---- images ----------------------------------------------------------------------------------------------------- */

static Value *images_fn(Elab *E, const Builtin *self, Call *c, Value **b) {
  Fault f = {0};
  const char *path = v_static_str(E, b[0], arg_span(c, b[0]), "a folder's name");
  int64_t h = 0, w = 0;
  if (given(b[1])) {
    bool two = b[1]->kind == V_TUPLE && b[1]->agg.n == 2;
    h = data_count(E, two ? b[1]->agg.at[0] : b[1], c, 1, "a side of the images");
    w = two ? data_count(E, b[1]->agg.at[1], c, 1, "a side of the images") : h;
    if (h > 1 << 16 || w > 1 << 16) diag_fail(E->d, S_OVERFLOW, c->span, "images of more than 65536 pixels a side");
  }
  bool gray = given(b[2]) && v_static_bool(E, b[2], arg_span(c, b[2]), "gray");
  int64_t id = data_images(data_table(E, c->span), path, h, w, gray ? 1 : 0, &f);
  if (id < 0) diag_fail(E->d, f.id ? f.id : M_FILE, c->span, "%s", f.msg);
  if (!self->data) return data_value(E, id, NULL, c->span);
  const char *const *name;
  int n = data_image_classes(E->hooks->data, id, &name);
  Value **v = arena_array(E->a, Value *, n);
  for (int k = 0; k < n; k++) v[k] = v_str(E, name[k], strlen(name[k]));
  return v_tuple(E, n, v);
}

const Builtin builtins_sources[] = {
    {"_data_rows", "x", rows_fn, "A data set of the rows of tensors.", 0},
    {"_data_text", "path", text_fn, "The characters of a text.", 0},
    {"_text_vocab", "text", vocab_fn, "The number of different characters.", 0},
    {"_text_encode", "text, s", encode_fn, "Characters as numbers.", 0},
    {"_text_decode", "text, ids", decode_fn, "Numbers as text.", 0},
    {"_text_windows", "text, n, stride", windows_fn, "Windows of characters.", 0},
    {"_data_images", "path, size, gray", images_fn, "A folder of images.", 0},
    {"_data_classes", "path, size, gray", images_fn, "The sub-folders of a folder of images.", 1},
    {"_data_csv", "path, select, types, missing, on_error, sep", csv_fn, "The rows of a CSV file.", 0},
    {"_data_idx", "path", file_fn, "The rows of an IDX file.", SRC_IDX},
    {"_data_tfrecord", "path", file_fn, "The records of a TFRecord file.", SRC_TFRECORD},
    {"_data_npy", "path", file_fn, "The rows of an npy file.", SRC_NPY},
    {0},
};
