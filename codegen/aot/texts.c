/* The texts beside a library: its C header, manifest, pkg-config file and Python module. */
#include "codegen/aot/emit.h"
#include <ctype.h>
#include <string.h>

typedef struct Out {
  Arena *a;
  VEC(char) s;
} Out;

static void put(Out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(Out *o, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  char *s = arena_vprintf(o->a, fmt, ap);
  va_end(ap);
  for (; *s; s++) vec_push(o->a, &o->s, *s);
}
static char *done(Out *o) {
  vec_push(o->a, &o->s, 0);
  return o->s.at;
}

static const char *upper(Arena *a, const char *s) {
  char *u = arena_strdup(a, s);
  for (char *p = u; *p; p++) *p = (char)toupper((unsigned char)*p);
  return u;
}

static const char *c_type(DType t) {
  static const char *const name[] = {
      [DT_BOOL] = "uint8_t", [DT_U8] = "uint8_t",   [DT_I8] = "int8_t",     [DT_I16] = "int16_t", [DT_I32] = "int32_t",
      [DT_I64] = "int64_t",  [DT_F16] = "uint16_t", [DT_BF16] = "uint16_t", [DT_F32] = "float",   [DT_F64] = "double"};
  return name[t];
}

/* "f32[B, 784]" */
static const char *shape_of(Arena *a, const AotExport *e, const AotTensor *t) {
  char *s = arena_printf(a, "%s[", dt_name(t->dtype));
  for (int d = 0; d < t->rank; d++)
    s = d == 0 && t->batched ? arena_printf(a, "%s%s", s, e->batch)
                             : arena_printf(a, "%s%s%lld", s, d ? ", " : "", (long long)t->dim[d]);
  return arena_printf(a, "%s]", s);
}

/* ---- C ----------------------------------------------------------------------------------------------------------- */
static void comment(Out *o, const char *text) {
  for (const char *p = text; p && *p;) {
    const char *nl = strchr(p, '\n');
    size_t n = nl ? (size_t)(nl - p) : strlen(p);
    char *line = arena_strndup(o->a, p, n), *end;
    while ((end = strstr(line, "*/"))) end[1] = '|';
    put(o, " * %s\n", line);
    p = nl ? nl + 1 : NULL;
  }
}

static const char *listed_rows(Arena *a, const AotExport *e) {
  char *s = "";
  for (int i = 0; i < e->nvariant; i++)
    s = arena_printf(a, "%s%s%lld", s, i ? ", " : "", (long long)e->variant[i].rows);
  return s;
}

static void c_export(Out *o, const AotLibrary *l, const AotExport *e) {
  put(o, "\n/* %s\n", e->signature);
  comment(o, e->doc);
  for (int i = 0; i < e->nin + e->nout; i++) {
    const AotTensor *t = i < e->nin ? &e->in[i] : &e->out[i - e->nin];
    put(o, " * %s %s: %s\n", i < e->nin ? "in " : "out", t->name, shape_of(o->a, e, t));
  }
  if (e->listed)
    put(o, " * %s is one of %s: rows meet in the results. Other numbers give %s_BAD_SIZE.\n", e->batch,
        listed_rows(o->a, e), upper(o->a, l->name));
  put(o, " */\nint %s_%s(%s_context *context", l->name, e->name, l->name);
  if (e->batch) put(o, ", int64_t %s", e->batch);
  for (int i = 0; i < e->nin; i++) put(o, ", const %s *%s", c_type(e->in[i].dtype), e->in[i].name);
  for (int i = 0; i < e->nout; i++) put(o, ", %s *%s", c_type(e->out[i].dtype), e->out[i].name);
  put(o,
      ");\nint %s_%s_dl(%s_context *context, const %s_tensor *const *in, int nin, const %s_tensor *const *out, int "
      "nout);\n",
      l->name, e->name, l->name, l->name, l->name);
  put(o, "int %s_%s_dlpack(%s_context *context, %s_managed *const *in, int nin, %s_managed **out, int nout);\n",
      l->name, e->name, l->name, l->name, l->name);
}

static const char head_c[] =
    "\n"
    "#ifndef %2$s_H\n"
    "#define %2$s_H\n"
    "#include <stddef.h>\n"
    "#include <stdint.h>\n"
    "#ifdef __cplusplus\n"
    "extern \"C\" {\n"
    "#endif\n"
    "\n"
    "#define %2$s_ABI %3$d\n"
    "int %1$s_abi(void); /* the library's; use it when it equals %2$s_ABI */\n"
    "\n"
    "/* What every function returns. 0 is success. */\n"
    "enum {\n"
    "  %2$s_OK, %2$s_INTERRUPTED, %2$s_BAD_INDEX, %2$s_DIV_ZERO, %2$s_NO_MEMORY, %2$s_ASSERT, %2$s_ROUTINE,\n"
    "  %2$s_BAD_ARGUMENT,  /* null, or another library's */\n"
    "  %2$s_BAD_SIZE,      /* a negative or impossible number of rows or of tensors */\n"
    "  %2$s_BAD_ALIGNMENT, /* a buffer that is not aligned to its elements */\n"
    "  %2$s_BAD_SHAPE, %2$s_BAD_DTYPE, %2$s_BAD_DEVICE,\n"
    "  %2$s_BUSY,          /* another thread is calling with this context */\n"
    "  %2$s_NO_WEIGHTS, %2$s_NO_CPU,\n"
    "  %2$s_DIFFERS,       /* of the self-test */\n"
    "  %2$s_NO_DRIVER, %2$s_NO_DEVICE, %2$s_DEVICE, /* of a library for a GPU */\n"
    "  %2$s_NO_LAPACK      /* a function needs LAPACK, and none was found when the context was made */\n"
    "};\n"
    "const char *%1$s_strerror(int status);\n"
    "\n"
    "/* Zero what you do not set. */\n"
    "typedef struct %1$s_options {\n"
    "  size_t size;                 /* sizeof(%1$s_options) */\n"
    "  int threads;                 /* that a call uses; 0: all processors */\n"
    "  void *(*alloc)(void *user, size_t bytes, size_t align);\n"
    "  void (*release)(void *user, void *p, size_t bytes);\n"
    "  void *user;\n"
    "  const char *weights_file;    /* of a library built with --weights=FILE: another place */\n"
    "  const void *const *weights;  /* of one built with --weights=caller: in the manifest's order, aligned to 64 "
    "bytes */\n"
    "} %1$s_options;\n"
    "\n"
    "/* A context owns the memory and threads of calls; nothing is allocated after its creation. One thread uses it at "
    "a time;\n"
    " * threads that call at the same time have one each. options may be NULL. */\n"
    "typedef struct %1$s_context %1$s_context;\n"
    "int %1$s_create(const %1$s_options *options, %1$s_context **context);\n"
    "void %1$s_destroy(%1$s_context *context);\n"
    "size_t %1$s_memory(const %1$s_options *options);       /* bytes that a context takes */\n"
    "const char *%1$s_message(const %1$s_context *context); /* details of its last error */\n"
    "int %1$s_selftest(%1$s_context *context);              /* computes again what the build computed, and compares "
    "the bits */\n"
    "const char *%1$s_manifest(void);                       /* JSON: functions, shapes, weights, states */\n"
    "\n"
    "/* States are what functions change (`next` in the script): each context has its own, at first as the script left "
    "them. */\n"
    "int %1$s_reset(%1$s_context *context);\n"
    "int %1$s_get_state(%1$s_context *context, const char *name, void *data); /* names and sizes: the manifest */\n"
    "int %1$s_set_state(%1$s_context *context, const char *name, const void *data);\n"
    "\n"
    "/* DLPack's DLTensor and DLManagedTensor: pass theirs by a cast. Strides are in elements; NULL: packed. */\n"
    "typedef struct %1$s_tensor {\n"
    "  void *data;\n"
    "  struct { int32_t type, id; } device; /* 1, 0: the processor */\n"
    "  int32_t ndim;\n"
    "  struct { uint8_t code, bits; uint16_t lanes; } dtype; /* code 0 int, 1 unsigned, 2 float, 4 bfloat, 6 bool */\n"
    "  int64_t *shape, *strides;\n"
    "  uint64_t byte_offset;\n"
    "} %1$s_tensor;\n"
    "typedef struct %1$s_managed {\n"
    "  %1$s_tensor tensor;\n"
    "  void *manager;\n"
    "  void (*deleter)(struct %1$s_managed *self);\n"
    "} %1$s_managed;\n"
    "\n"
    "/* Each function three times: packed row-major buffers; tensors with strides, checked; and tensors of which the "
    "results are\n"
    " * made here (release them by their deleter). Results overlap nothing else. */\n";

char *header_text(Arena *a, const Tables *t) {
  const AotLibrary *l = t->l;
  Out o = {.a = a};
  const char *up = upper(a, l->name);
  put(&o, "/* %s: a library made by tg %s from %s. */", l->name, TG_VERSION, l->source);
  if (tables_need_lapack(t))
    put(&o,
        "\n\n/* Functions here factor matrices by LAPACK. %s_create looks for libopenblas.so.0 or liblapack.so.3; "
        "where there is neither,\n"
        " * these functions return %s_NO_LAPACK. OpenBLAS is set to one thread while they run. */",
        l->name, up);
  put(&o, head_c, l->name, up, LIB_ABI);
  for (int i = 0; i < l->nexport; i++) c_export(&o, l, &l->export[i]);
  put(&o, "\n#ifdef __cplusplus\n}\n#endif\n#endif\n");
  return done(&o);
}

/* ---- Manifest ---------------------------------------------------------------------------------------------------- */
static void json(Out *o, const char *s) {
  put(o, "\"");
  for (; s && *s; s++) {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\')
      put(o, "\\%c", c);
    else if (c == '\n')
      put(o, "\\n");
    else if (c < 32)
      put(o, "\\u%04x", c);
    else
      put(o, "%c", c);
  }
  put(o, "\"");
}

static void json_tensors(Out *o, const AotExport *e, const char *key, int n, const AotTensor *t) {
  put(o, "      \"%s\": [", key);
  for (int i = 0; i < n; i++) {
    put(o, "%s{\"name\": ", i ? ", " : "");
    json(o, t[i].name);
    put(o, ", \"dtype\": \"%s\", \"shape\": [", dt_name(t[i].dtype));
    for (int d = 0; d < t[i].rank; d++)
      if (d == 0 && t[i].batched)
        put(o, "\"%s\"", e->batch);
      else
        put(o, "%s%lld", d ? ", " : "", (long long)t[i].dim[d]);
    put(o, "]}");
  }
  put(o, "]");
}

static void json_export(Out *o, const AotExport *e) {
  put(o, "    {\"name\": ");
  json(o, e->name);
  put(o, ", \"signature\": ");
  json(o, e->signature);
  put(o, ", \"doc\": ");
  json(o, e->doc ? e->doc : "");
  if (e->batch) {
    put(o, ",\n      \"batch\": \"%s\", \"blocks\": [", e->batch);
    for (int i = 0; i < e->nvariant; i++) put(o, "%s%lld", i ? ", " : "", (long long)e->variant[i].rows);
    put(o, "]%s", e->listed ? ", \"listed\": true" : "");
  }
  put(o, ",\n      \"flops\": %.0f, \"bytes\": %.0f,\n", e->flops, e->bytes);
  json_tensors(o, e, "inputs", e->nin, e->in);
  put(o, ",\n");
  json_tensors(o, e, "outputs", e->nout, e->out);
  put(o, "}");
}

char *manifest_text(Arena *a, const Tables *t) {
  static const char *const where[] = {"embedded", "file", "caller"};
  const AotLibrary *l = t->l;
  Out o = {.a = a};
  put(&o, "{\"name\": \"%s\", \"abi\": %d, \"tg\": \"%s\", \"source\": ", l->name, LIB_ABI, TG_VERSION);
  json(&o, l->source);
  put(&o, ",\n  \"needs\": [%s],\n  \"exports\": [\n", tables_need_lapack(t) ? "\"LAPACK\"" : "");
  for (int i = 0; i < l->nexport; i++) {
    json_export(&o, &l->export[i]);
    put(&o, i + 1 < l->nexport ? ",\n" : "\n");
  }
  put(&o, "  ],\n  \"weights\": {\"where\": \"%s\", \"tensors\": [", where[l->weights]);
  for (int i = 0; i < l->nconst; i++) {
    const Tensor *k = l->konst[i].t;
    put(&o, "%s\n    {\"name\": ", i ? "," : "");
    json(&o, l->konst[i].name);
    put(&o, ", \"dtype\": \"%s\", \"shape\": [", dt_name(k->dtype));
    for (int d = 0; d < k->rank; d++) put(&o, "%s%lld", d ? ", " : "", (long long)k->dim[d]);
    put(&o, "], \"bytes\": %zu}", tensor_bytes(k));
  }
  put(&o, "]},\n  \"states\": [");
  for (int i = 0; i < l->nstate; i++) {
    const Tensor *k = l->state[i].t;
    put(&o, "%s\n    {\"name\": ", i ? "," : "");
    json(&o, l->state[i].name);
    put(&o, ", \"dtype\": \"%s\", \"shape\": [", dt_name(k->dtype));
    for (int d = 0; d < k->rank; d++) put(&o, "%s%lld", d ? ", " : "", (long long)k->dim[d]);
    put(&o, "], \"bytes\": %zu}", tensor_bytes(k));
  }
  put(&o, "]}\n");
  return done(&o);
}

char *pc_text(Arena *a, const AotLibrary *l) {
  return arena_printf(a,
                      "prefix=${pcfiledir}\n\nName: %s\nDescription: made by tg %s from %s\nVersion: %d\n"
                      "Cflags: -I${prefix}\nLibs: -L${prefix} -l%s\n",
                      l->name, TG_VERSION, l->source, LIB_ABI, l->name);
}

/* ---- Python ------------------------------------------------------------------------------------------------------ */
static const char head_py[] =
    "\"\"\"%1$s: a library made by tg %2$s from %3$s. Functions take and give NumPy arrays.\"\"\"\n"
    "import ctypes\n"
    "import os\n"
    "\n"
    "import numpy as np\n"
    "\n"
    "_lib = ctypes.CDLL(os.path.join(os.path.dirname(os.path.abspath(__file__)), \"lib%1$s.so\"))\n"
    "_lib.%1$s_strerror.restype = _lib.%1$s_message.restype = ctypes.c_char_p\n"
    "_lib.%1$s_message.argtypes = _lib.%1$s_destroy.argtypes = _lib.%1$s_selftest.argtypes = [ctypes.c_void_p]\n"
    "if _lib.%1$s_abi() != %4$d:\n"
    "    raise ImportError(\"lib%1$s.so has another ABI version\")\n"
    "\n"
    "\n"
    "class _Options(ctypes.Structure):\n"
    "    _fields_ = [(\"size\", ctypes.c_size_t), (\"threads\", ctypes.c_int), (\"alloc\", ctypes.c_void_p), "
    "(\"release\", ctypes.c_void_p),\n"
    "                (\"user\", ctypes.c_void_p), (\"weights_file\", ctypes.c_char_p), (\"weights\", "
    "ctypes.c_void_p)]\n"
    "\n"
    "\n"
    "class Error(Exception):\n"
    "    pass\n"
    "\n"
    "\n"
    "class Context:\n"
    "    \"\"\"Memory and threads of calls. One thread uses a context at a time.\"\"\"\n"
    "\n"
    "    def __init__(self, threads=0, weights_file=None):\n"
    "        o = _Options(ctypes.sizeof(_Options), threads, None, None, None, os.fsencode(weights_file) if "
    "weights_file else None, None)\n"
    "        self._c = ctypes.c_void_p()\n"
    "        self._check(_lib.%1$s_create(ctypes.byref(o), ctypes.byref(self._c)))\n"
    "\n"
    "    def __del__(self):\n"
    "        if getattr(self, \"_c\", None):\n"
    "            _lib.%1$s_destroy(self._c)\n"
    "\n"
    "    def _check(self, status):\n"
    "        if status:\n"
    "            text = (self._c and _lib.%1$s_message(self._c)) or _lib.%1$s_strerror(status)\n"
    "            raise Error(text.decode())\n"
    "\n"
    "    def selftest(self):\n"
    "        self._check(_lib.%1$s_selftest(self._c))\n"
    "\n"
    "    @staticmethod\n"
    "    def _take(name, x, dtype, shape):\n"
    "        x = np.ascontiguousarray(x, dtype)\n"
    "        if x.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, x.shape)):\n"
    "            raise Error(f\"{name} has shape {list(x.shape)}, not {['B' if n is None else n for n in shape]}\")\n"
    "        return x\n";

static const char *py_type(DType t) {
  static const char *const name[] = {"bool",  "uint8",   "int8",   "int16",   "int32",
                                     "int64", "float16", "uint16", "float32", "float64"};
  return name[t];
}

static void py_shape(Out *o, const AotTensor *t, const char *batch) {
  put(o, "(");
  for (int d = 0; d < t->rank; d++)
    if (d == 0 && t->batched)
      put(o, "%s, ", batch);
    else
      put(o, "%lld, ", (long long)t->dim[d]);
  put(o, ")");
}

static void py_export(Out *o, const AotLibrary *l, const AotExport *e) {
  put(o, "\n    def %s(self", e->name);
  for (int i = 0; i < e->nin; i++) put(o, ", %s", e->in[i].name);
  put(o, "):\n");
  char *doc = arena_printf(o->a, "%s%s%s", e->signature, e->doc ? "\n" : "", e->doc ? e->doc : "");
  for (char *p = doc; *p; p++)
    if (*p == '"' || *p == '\\') *p = '\'';
  put(o, "        \"\"\"%s\"\"\"\n", doc);
  const char *lead = NULL;
  for (int i = 0; i < e->nin; i++) {
    put(o, "        %s = self._take(\"%s\", %s, np.%s, ", e->in[i].name, e->in[i].name, e->in[i].name,
        py_type(e->in[i].dtype));
    py_shape(o, &e->in[i], "None");
    put(o, ")\n");
    if (!e->in[i].batched) continue;
    if (lead)
      put(o,
          "        if len(%s) != len(%s):\n            raise Error(\"%s has {} rows, %s {}\".format(len(%s), "
          "len(%s)))\n",
          e->in[i].name, lead, e->in[i].name, lead, e->in[i].name, lead);
    else
      lead = e->in[i].name;
  }
  for (int i = 0; i < e->nout; i++) {
    put(o, "        out%d = np.empty(", i);
    py_shape(o, &e->out[i], lead ? arena_printf(o->a, "len(%s)", lead) : "1");
    put(o, ", np.%s)\n", py_type(e->out[i].dtype));
  }
  put(o, "        self._check(_lib.%s_%s(self._c", l->name, e->name);
  if (e->batch) put(o, ", ctypes.c_int64(len(%s))", lead);
  for (int i = 0; i < e->nin; i++) put(o, ", ctypes.c_void_p(%s.ctypes.data)", e->in[i].name);
  for (int i = 0; i < e->nout; i++) put(o, ", ctypes.c_void_p(out%d.ctypes.data)", i);
  put(o, "))\n        return ");
  for (int i = 0; i < e->nout; i++) put(o, "%sout%d", i ? ", " : "", i);
  put(o, "\n");
}

char *python_text(Arena *a, const AotLibrary *l) {
  Out o = {.a = a};
  put(&o, head_py, l->name, TG_VERSION, l->source, LIB_ABI);
  for (int i = 0; i < l->nexport; i++) py_export(&o, l, &l->export[i]);
  return done(&o);
}
