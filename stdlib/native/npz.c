/* npz: a zip archive of npy files; member `w.npy` is array `w`. Other members are passed over. */
#include "stdlib/native/npz.h"
#include "stdlib/native/npy.h"
#include "stdlib/native/zip.h"
#include <stdlib.h>
#include <string.h>

/* The array's name, or NULL for another kind of member. */
static const char *array_name(Arena *a, const char *member) {
  size_t n = strlen(member);
  return n > 4 && !strcmp(member + n - 4, ".npy") ? arena_strndup(a, member, n - 4) : NULL;
}

/* A reader that stands behind the npy header; NULL: fault. */
static ZipReader *open_array(In *in, const ZipEntry *e, Npy *npy) {
  ZipReader *r = zip_open(in, e);
  if (!r) return NULL;
  /* Versions 2 and 3 have two more bytes of prefix than version 1; a member shorter than that has no header either. */
  uint8_t prefix[NPY_PREFIX] = {0}, *head = NULL;
  size_t n = 0;
  bool ok = zip_read(r, prefix, NPY_PREFIX) && (n = npy_header_bytes(prefix, in->path, in->fault)) > 0;
  if (ok && (n < NPY_PREFIX || !(head = malloc(n))))
    ok = io_fail(in->fault, in->path, "member %.100s is damaged", e->name);
  if (ok) {
    memcpy(head, prefix, NPY_PREFIX);
    ok = zip_read(r, head + NPY_PREFIX, n - NPY_PREFIX) && npy_parse(head, n, e->size, in->path, npy, in->fault);
  }
  free(head);
  if (ok) return r;
  zip_close(r);
  return NULL;
}

bool npz_list(Arena *a, const char *path, int *n, NpzMember **out, Fault *f) {
  In in;
  ZipEntry *entry;
  int count = 0;
  bool ok = in_open(&in, path, f) && zip_list(a, &in, &count, &entry);
  *n = 0;
  *out = arena_array(a, NpzMember, count);
  for (int k = 0; ok && k < count; k++) {
    const char *name = array_name(a, entry[k].name);
    if (!name) continue;
    Npy npy;
    ZipReader *r = open_array(&in, &entry[k], &npy);
    ok = r != NULL;
    if (ok) (*out)[(*n)++] = (NpzMember){name, npy.type};
    zip_close(r);
  }
  in_close(&in);
  return ok;
}

/* ---- natives -------------------------------------------------------------------------------------------------- */
static bool read_member(In *in, const ZipEntry *e, Tensor *out) {
  Npy npy;
  ZipReader *r = open_array(in, e, &npy);
  if (!r) return false;
  void *data = NULL;
  bool ok =
      result_fits(in->path, &npy.type, out, in->fault) && (data = result_begin(&npy.type, out, in->fault)) != NULL;
  if (ok) {
    size_t bytes = (size_t)tensor_count(out) * (size_t)dt_bytes(npy.type.dtype);
    ok = zip_read(r, data, bytes) && npy_unturn(&npy, data, in->fault);
    result_end(&npy.type, out, data);
  }
  zip_close(r);
  return ok;
}

static bool read_npz(Arena *a, const char *path, const Attr *name, int nout, Tensor *out, Fault *f) {
  In in;
  ZipEntry *entry;
  int count;
  bool ok = in_open(&in, path, f) && zip_list(a, &in, &count, &entry);
  for (int k = 0; ok && k < nout; k++) {
    const ZipEntry *hit = NULL;
    for (int i = 0; i < count && !hit; i++) {
      const char *array = array_name(a, entry[i].name);
      if (array && !strcmp(array, name[k].s)) hit = &entry[i];
    }
    ok = hit ? read_member(&in, hit, &out[k]) : io_fail(f, path, "has no array '%.100s'", name[k].s);
  }
  in_close(&in);
  return ok;
}

/* Attributes: 0.s the path, then a name for each of ntensor. */
static bool check_attrs(const char *what, int nattr, const Attr *attr, int ntensor, Fault *f) {
  bool ok = nattr == 1 + ntensor;
  for (int k = 0; ok && k < nattr; k++) ok = attr[k].s != NULL && strlen(attr[k].s) < IO_PATH;
  if (!ok) fault_set(f, R_NATIVE, (Span){0}, "%s: expected a path and a name for each array", what);
  return ok;
}

/* load_npz() -> an array for each name; attributes 0.s the path, 1.. .s the names. Faults: no such array, damage. */
static bool run_load(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  char buf[IO_PATH];
  if (!check_attrs("load_npz", nattr, attr, nout, f)) return false;
  Arena *a = arena_new();
  bool ok = read_npz(a, io_path(ctx, attr[0].s, buf), attr + 1, nout, out, f);
  arena_free(a);
  return run_status(ok, f);
}

static bool write_npz(Arena *a, Out *o, const Attr *name, int nin, const Tensor *in, Fault *f) {
  ZipWriter z;
  zip_begin(&z, o, a);
  for (int k = 0; k < nin; k++) {
    char head[NPY_WRITE_HEADER];
    size_t n = npy_make_header(&in[k], o->path, head, f);
    if (!n) return false;
    zip_add(&z, arena_printf(a, "%s.npy", name[k].s), head, n, in[k].data, tensor_bytes(&in[k]));
  }
  zip_end(&z);
  return true;
}

/* save_npz(arrays...), attributes 0.s the path, 1.. .s the names. Faults: two equal names; bf16; the file cannot be
 * written. */
static bool run_save(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                     Fault *f) {
  char buf[IO_PATH];
  if (!check_attrs("save_npz", nattr, attr, nin, f)) return false;
  for (int i = 1; i < nattr; i++)
    for (int k = 1; k < i; k++)
      if (!strcmp(attr[i].s, attr[k].s)) {
        fault_set(f, R_NATIVE, (Span){0}, "save_npz: two arrays are called '%.100s'", attr[i].s);
        return false;
      }
  Out o;
  if (!out_open(&o, io_path(ctx, attr[0].s, buf), f)) return run_status(false, f);
  Arena *a = arena_new();
  bool ok = write_npz(a, &o, attr + 1, nin, in, f);
  arena_free(a);
  if (ok) return run_status(out_commit(&o), f);
  out_abort(&o);
  return false;
}

const Native native_load_npz = {.name = "load_npz", .run = run_load};
const Native native_save_npz = {.name = "save_npz", .effect = true, .who = RUN_FIRST_TELL, .run = run_save};
