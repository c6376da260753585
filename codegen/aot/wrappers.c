/* The public functions of a library: each hands its arguments to the runtime, with the library's description in front.
 * They are all that is visible in it. */
#include "codegen/aot/emit.h"
#include <string.h>

/* name after the prefix, the runtime's function, its arguments after the library (p pointer, i int), its result
 * (i int, p pointer, z size_t, v nothing). */
typedef struct Row {
  const char *name, *rt, *args;
  char result;
} Row;
static const Row rows[] = {
    {"create", "lib_create", "pp", 'i'},
    {"destroy", "lib_destroy", "p", 'v'},
    {"message", "lib_message", "p", 'p'},
    {"memory", "lib_memory", "p", 'z'},
    {"selftest", "lib_selftest", "p", 'i'},
    {"manifest", "lib_manifest", "", 'p'},
    {"reset", "lib_reset", "p", 'i'},
    {"get_state", "lib_get_state", "ppp", 'i'},
    {"set_state", "lib_set_state", "ppp", 'i'},
    {"strerror", "lib_strerror", "i", 'p'},
    {"abi", "lib_abi", "", 'i'},
};
enum { NROW = sizeof rows / sizeof *rows };

bool aot_reserved(const char *name) {
  static const char *const more[] = {"context", "options", "tensor", "managed"}, *const tail[] = {"_dl", "_dlpack"};
  for (int i = 0; i < NROW; i++)
    if (!strcmp(rows[i].name, name)) return true;
  for (int i = 0; i < 4; i++)
    if (!strcmp(more[i], name)) return true;
  size_t n = strlen(name);
  for (int i = 0; i < 2; i++) {
    size_t m = strlen(tail[i]);
    if (n > m && !strcmp(name + n - m, tail[i])) return true;
  }
  return false;
}

typedef struct Build {
  LLVMModuleRef m;
  LLVMContextRef cx;
  LLVMBuilderRef b;
  LLVMTypeRef ptr, i32, i64, none;
  LLVMValueRef lib;
  const char *prefix;
} Build;

static LLVMTypeRef type_of(const Build *w, char c) {
  return c == 'i' ? w->i32 : c == 'p' ? w->ptr : c == 'v' ? w->none : w->i64;
}

static LLVMValueRef open_function(Build *w, const char *name, LLVMTypeRef result, int n, LLVMTypeRef *arg) {
  char full[512];
  snprintf(full, sizeof full, "%s_%s", w->prefix, name);
  LLVMValueRef f = LLVMAddFunction(w->m, full, LLVMFunctionType(result, arg, (unsigned)n, 0));
  LLVMPositionBuilderAtEnd(w->b, LLVMAppendBasicBlockInContext(w->cx, f, ""));
  return f;
}

static LLVMValueRef runtime(Build *w, const char *name, LLVMTypeRef result, int n, LLVMTypeRef *arg) {
  LLVMValueRef f = LLVMGetNamedFunction(w->m, name);
  if (f) return f;
  f = LLVMAddFunction(w->m, name, LLVMFunctionType(result, arg, (unsigned)n, 0));
  LLVMSetVisibility(f, LLVMHiddenVisibility);
  return f;
}

/* Calls the runtime's function with the library and the arguments, and returns what it gives. */
static void call_through(Build *w, const char *rt, LLVMTypeRef result, int n, LLVMValueRef *arg) {
  LLVMTypeRef type[16];
  for (int i = 0; i < n; i++) type[i] = LLVMTypeOf(arg[i]);
  LLVMValueRef f = runtime(w, rt, result, n, type);
  LLVMValueRef r = LLVMBuildCall2(w->b, LLVMGlobalGetValueType(f), f, arg, (unsigned)n, "");
  LLVMSetTailCall(r, 0);
  if (result == w->none)
    LLVMBuildRetVoid(w->b);
  else
    LLVMBuildRet(w->b, r);
}

static void row_function(Build *w, const Row *r) {
  LLVMTypeRef type[8];
  LLVMValueRef arg[8] = {w->lib};
  int n = (int)strlen(r->args);
  for (int i = 0; i < n; i++) type[i] = type_of(w, r->args[i]);
  LLVMValueRef f = open_function(w, r->name, type_of(w, r->result), n, type);
  for (int i = 0; i < n; i++) arg[i + 1] = LLVMGetParam(f, (unsigned)i);
  call_through(w, r->rt, type_of(w, r->result), n + 1, arg);
}

/* Parameters first .. first + n of f as an array of pointers. */
static LLVMValueRef pointers(Build *w, LLVMValueRef f, int first, int n) {
  LLVMValueRef a = LLVMBuildArrayAlloca(w->b, w->ptr, LLVMConstInt(w->i32, (unsigned)(n ? n : 1), 0), "");
  for (int i = 0; i < n; i++) {
    LLVMValueRef at = LLVMConstInt(w->i64, (unsigned)i, 0);
    LLVMBuildStore(w->b, LLVMGetParam(f, (unsigned)(first + i)), LLVMBuildGEP2(w->b, w->ptr, a, &at, 1, ""));
  }
  return a;
}

/* int x_predict(context, [rows,] inputs..., outputs...) */
static void export_function(Build *w, Arena *a, const AotExport *e, int index) {
  int n = 0, total = e->nin + e->nout;
  LLVMTypeRef *type = arena_array(a, LLVMTypeRef, total + 2);
  type[n++] = w->ptr;
  if (e->batch) type[n++] = w->i64;
  int first = n;
  for (int i = 0; i < total; i++) type[n++] = w->ptr;
  LLVMValueRef f = open_function(w, e->name, w->i32, n, type);
  LLVMValueRef arg[6] = {w->lib, LLVMGetParam(f, 0), LLVMConstInt(w->i32, (unsigned)index, 0),
                         e->batch ? LLVMGetParam(f, 1) : LLVMConstInt(w->i64, 1, 0)};
  arg[4] = pointers(w, f, first, e->nin);
  arg[5] = pointers(w, f, first + e->nin, e->nout);
  call_through(w, "lib_call", w->i32, 6, arg);
}

/* int x_predict_dl(context, in, nin, out, nout) */
static void tensor_function(Build *w, Arena *a, const AotExport *e, int index, const char *suffix, const char *rt) {
  LLVMTypeRef type[5] = {w->ptr, w->ptr, w->i32, w->ptr, w->i32};
  LLVMValueRef f = open_function(w, arena_printf(a, "%s_%s", e->name, suffix), w->i32, 5, type);
  LLVMValueRef arg[7] = {w->lib, LLVMGetParam(f, 0), LLVMConstInt(w->i32, (unsigned)index, 0)};
  for (unsigned i = 1; i < 5; i++) arg[i + 2] = LLVMGetParam(f, i);
  call_through(w, rt, w->i32, 7, arg);
}

void wrappers_emit(LLVMModuleRef m, const AotLibrary *l, LLVMValueRef lib) {
  LLVMContextRef cx = LLVMGetModuleContext(m);
  Arena *a = arena_new();
  Build w = {m,
             cx,
             LLVMCreateBuilderInContext(cx),
             LLVMPointerTypeInContext(cx, 0),
             LLVMInt32TypeInContext(cx),
             LLVMInt64TypeInContext(cx),
             LLVMVoidTypeInContext(cx),
             lib,
             l->name};
  for (int i = 0; i < NROW; i++) row_function(&w, &rows[i]);
  for (int i = 0; i < l->nexport; i++) {
    export_function(&w, a, &l->export[i], i);
    tensor_function(&w, a, &l->export[i], i, "dl", "lib_call_dl");
    tensor_function(&w, a, &l->export[i], i, "dlpack", "lib_call_dlpack");
  }
  LLVMDisposeBuilder(w.b);
  arena_free(a);
}
