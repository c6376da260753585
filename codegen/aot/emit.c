/* Planning for a library, and writing its module (emit.h, aot.h). */
#include "codegen/aot/emit.h"
#include "codegen/aot/cross.h"
#include "codegen/cpu/jit.h"
#include "codegen/cuda/session.h"
#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/Linker.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <stdlib.h>
#include <string.h>

static const Span NO_SPAN = {0, 0, 0};

/* ---- Targets ----------------------------------------------------------------------------------------------------- */
#define V3 "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+xsave"
#define V4 V3 ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
static const Machine machine_v2 = {LI_X86_64, NULL, "x86-64", "+sse2"};
static const Machine machine_v3 = {LI_X86_64_V3, NULL, "x86-64-v3", V3};
static const Machine machine_aarch64 = {LI_AARCH64, "aarch64-unknown-linux-gnu", "generic", "+neon,+fp-armv8"};
static const Machine machine_v4 = {LI_X86_64_V4, NULL, "x86-64-v4", V4};

const AotTarget aot_targets[] = {
    {"native", "this machine's processor"},
    {"x86-64-v3", "AVX2 and FMA: Intel since 2013, AMD since 2015"},
    {"x86-64-v4", "AVX-512"},
    {"portable", "any x86-64: code for three generations, chosen when a context is made"},
    {"aarch64", "64-bit ARM, cross-compiled"},
    {NULL, NULL},
};

bool aot_is_cross(const char *target) { return !strcmp(target, "aarch64"); }

int target_machines(const char *target, Machine *out) {
  if (!strcmp(target, "x86-64-v3")) return out[0] = machine_v3, 1;
  if (!strcmp(target, "x86-64-v4")) return out[0] = machine_v4, 1;
  if (!strcmp(target, "portable")) return out[0] = machine_v2, out[1] = machine_v3, out[2] = machine_v4, 3;
  if (!strcmp(target, "aarch64")) return out[0] = machine_aarch64, 1;
  if (strcmp(target, "native")) return 0;
  return out[0] = (Machine){LI_ANY, NULL, NULL, NULL}, 1;
}

/* ---- Collecting -------------------------------------------------------------------------------------------------- */
typedef struct Emit {
  const AotLibrary *l;
  Graph *g;
  Arena *a;
  LLVMContextRef cx;
  LLVMModuleRef m;
  Tables t;
  Fault *fault;
  int nmachine;
  Machine machine[MAX_MACHINE];
  size_t **plan; /* by export: machine * nvariant + variant */
  int kernels;
} Emit;

static bool refused(Emit *e, const char *why) {
  fault_set(e->fault, R_MEMORY, NO_SPAN, "the library could not be compiled: %s", why);
  return false;
}

static void attribute(Emit *e, LLVMValueRef f, const char *name, const char *value) {
  LLVMAttributeRef a = LLVMCreateStringAttribute(e->cx, name, (unsigned)strlen(name), value, (unsigned)strlen(value));
  LLVMAddAttributeAtIndex(f, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, a);
}

/* Every function says which machine it is for, so that one module may hold code for several. */
static bool take_modules(Emit *e, Jit *j, const Machine *to) {
  int n = jit_take_modules(j, NULL, 0);
  LLVMModuleRef *m = arena_array(e->a, LLVMModuleRef, n);
  jit_take_modules(j, m, n);
  for (int i = n - 1; i >= 0; i--) {
    for (LLVMValueRef f = LLVMGetFirstFunction(m[i]); f; f = LLVMGetNextFunction(f)) {
      if (LLVMIsDeclaration(f)) continue;
      attribute(e, f, "target-cpu", to->cpu);
      attribute(e, f, "target-features", to->features);
    }
    if (LLVMLinkModules2(e->m, m[i])) return refused(e, "its modules do not link");
  }
  return true;
}

static bool plan_export(Emit *e, Codegen *c, int k, int machine) {
  const AotExport *x = &e->l->export[k];
  for (int v = 0; v < x->nvariant; v++) {
    Plan *p = codegen_plan(c, e->g, &x->variant[v].region, e->fault);
    if (!p) return false;
    bool ok = tables_plan(&e->t, x, p, x->variant[v].rows, &e->plan[k][machine * x->nvariant + v]);
    e->kernels += plan_stats(p).kernels;
    plan_free(p);
    if (!ok) return false;
  }
  return true;
}

/* A launch costs the same for 1 row as for 16, and every kernel is compiled for every architecture. */
static void fewer_variants(AotExport *x) {
  int n = 0;
  if (!x->batch || x->listed) return;
  for (int v = 0; v < x->nvariant; v++)
    if (!n || v == x->nvariant - 1 || x->variant[v].rows >= 16 * x->variant[n - 1].rows)
      x->variant[n++] = x->variant[v];
  x->nvariant = n;
}

/* For a GPU: plans whose kernels NVRTC compiles for all architectures. */
static bool plan_device(Emit *e) {
  char why[1024];
  Cuda *cuda = cuda_open_collect(e->l->threads, e->l->cache_dir, why, sizeof why);
  if (!cuda) {
    fault_set(e->fault, R_DEVICE, NO_SPAN, "a library for a GPU needs CUDA's compiler: %s", why);
    return false;
  }
  Codegen *c = codegen_new(&(CodegenOptions){.threads = e->l->threads, .cuda = cuda});
  if (!c) return cuda_close(cuda), refused(e, "out of memory");
  Machine *to = &e->machine[0];
  char *triple = LLVMGetDefaultTargetTriple();
  to->triple = arena_strdup(e->a, triple);
  LLVMDisposeMessage(triple);
  bool ok = true;
  Plan ***plan = arena_array(e->a, Plan **, e->l->nexport);
  for (int k = 0; ok && k < e->l->nexport; k++) {
    AotExport *x = &e->l->export[k];
    fewer_variants(x);
    plan[k] = arena_array(e->a, Plan *, x->nvariant);
    for (int v = 0; ok && v < x->nvariant; v++)
      ok = (plan[k][v] = codegen_plan(c, e->g, &x->variant[v].region, e->fault)) != NULL;
  }
  ok = ok && codegen_ready(c, e->fault); /* all sources compile at once until here */
  for (int k = 0; k < e->l->nexport; k++) {
    AotExport *x = &e->l->export[k];
    e->t.inexact = false;
    for (int v = 0; plan[k] && v < x->nvariant; v++) {
      Plan *p = plan[k][v];
      ok = ok && tables_plan(&e->t, x, p, x->variant[v].rows, &e->plan[k][v]);
      if (p) e->kernels += plan_stats(p).kernels;
      plan_free(p);
    }
    if (e->t.inexact) x->golden = NULL;
  }
  codegen_free(c);
  return ok;
}

static bool plan_machine(Emit *e, int i) {
  Machine *to = &e->machine[i];
  char *triple = LLVMGetDefaultTargetTriple(), *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
  if (!to->triple) to->triple = arena_strdup(e->a, triple);
  if (!to->cpu) to->cpu = arena_strdup(e->a, cpu);
  if (!to->features) to->features = arena_strdup(e->a, features);
  LLVMDisposeMessage(triple);
  LLVMDisposeMessage(cpu);
  LLVMDisposeMessage(features);
  Jit *j = jit_new_collect(e->cx, to->triple, to->cpu, to->features);
  if (!j) return refused(e, "out of memory");
  if (to->isa == LI_AARCH64 && !cross_start_aarch64()) {
    jit_free(j);
    return refused(e, "the LLVM in this program has no code generator for aarch64");
  }
  if (to->isa == LI_ANY)
    to->isa = jit_isa(j)->vector_bits == 512 ? LI_X86_64_V4 : jit_isa(j)->fma ? LI_X86_64_V3 : LI_X86_64;
  Codegen *c = codegen_new(&(CodegenOptions){.threads = e->l->threads, .interpret_below = -1, .collect = j});
  bool ok = c != NULL;
  for (int k = 0; ok && k < e->l->nexport; k++) ok = plan_export(e, c, k, i);
  ok = ok && take_modules(e, j, to);
  /* Tables point to names that j holds. */
  for (int k = 0; k < e->t.function.n; k++) e->t.function.at[k] = arena_strdup(e->a, e->t.function.at[k]);
  for (int k = 0; k < e->t.image.link.n; k++)
    if (e->t.image.link.at[k].symbol) e->t.image.link.at[k].symbol = arena_strdup(e->a, e->t.image.link.at[k].symbol);
  if (c) codegen_free(c);
  jit_free(j);
  return ok;
}

/* ---- The module -------------------------------------------------------------------------------------------------- */
static void emit_constants(Emit *e) {
  LLVMTypeRef i8 = LLVMInt8TypeInContext(e->cx);
  for (int i = 0; i < e->t.konst.n; i++) {
    const KonstRow *k = &e->t.konst.at[i];
    if ((k->weight && e->l->weights != AOT_EMBED) || tables_left_out(&e->t, i)) continue;
    LLVMValueRef g = LLVMAddGlobal(e->m, LLVMArrayType2(i8, k->bytes), konst_symbol(e->a, i));
    LLVMSetInitializer(g, LLVMConstStringInContext2(e->cx, k->data, k->bytes, 1));
    LLVMSetGlobalConstant(g, 1);
    LLVMSetLinkage(g, LLVMInternalLinkage);
    LLVMSetAlignment(g, 64);
  }
}

static void declare_routines(Emit *e) {
  LLVMTypeRef type = LLVMInt8TypeInContext(e->cx);
  for (int i = 0; i < e->t.routine.n; i++) {
    if (LLVMGetNamedGlobal(e->m, e->t.routine.at[i])) continue;
    LLVMValueRef g = LLVMAddGlobal(e->m, type, e->t.routine.at[i]);
    LLVMSetVisibility(g, LLVMHiddenVisibility);
    LLVMSetGlobalConstant(g, 1);
  }
}

static void declare_runtime(Emit *e) {
  LLVMTypeRef ptr = LLVMPointerTypeInContext(e->cx, 0),
              type = LLVMFunctionType(LLVMVoidTypeInContext(e->cx), &ptr, 1, 0);
#define DECLARE(name) LLVMSetVisibility(LLVMAddFunction(e->m, #name, type), LLVMHiddenVisibility);
  RT_GEMM_PHASES(DECLARE)
#undef DECLARE
  if (e->l->cuda) LLVMSetVisibility(LLVMAddGlobal(e->m, ptr, "lib_cuda"), LLVMHiddenVisibility);
}

/* What the modules brought is the library's own business. */
static void hide_code(Emit *e) {
  for (LLVMValueRef f = LLVMGetFirstFunction(e->m); f; f = LLVMGetNextFunction(f))
    if (!LLVMIsDeclaration(f)) LLVMSetLinkage(f, LLVMInternalLinkage);
}

static LLVMTargetMachineRef machine_of(Emit *e, const Machine *to) {
  LLVMTargetRef target;
  char *why = NULL;
  if (LLVMGetTargetFromTriple(to->triple, &target, &why)) {
    refused(e, why);
    LLVMDisposeMessage(why);
    return NULL;
  }
  return LLVMCreateTargetMachine(target, to->triple, to->cpu, to->features, LLVMCodeGenLevelDefault, LLVMRelocPIC,
                                 LLVMCodeModelSmall);
}

static bool write_module(Emit *e, const char *what, AotOutput *out) {
  LLVMMemoryBufferRef b = NULL;
  char *why = NULL;
  LLVMTargetMachineRef tm = machine_of(e, &e->machine[0]);
  if (!tm) return false;
  LLVMPassBuilderOptionsRef po = LLVMCreatePassBuilderOptions();
  LLVMErrorRef failed = LLVMRunPasses(e->m, "globaldce", tm, po);
  LLVMDisposePassBuilderOptions(po);
  if (failed) LLVMConsumeError(failed);
  if (!strcmp(what, "llvm")) {
    char *s = LLVMPrintModuleToString(e->m);
    b = LLVMCreateMemoryBufferWithMemoryRangeCopy(s, strlen(s), "ir");
    LLVMDisposeMessage(s);
  } else if (LLVMTargetMachineEmitToMemoryBuffer(tm, e->m, !strcmp(what, "asm") ? LLVMAssemblyFile : LLVMObjectFile,
                                                 &why, &b)) {
    refused(e, why ? why : "no code");
    LLVMDisposeMessage(why);
    b = NULL;
  }
  LLVMDisposeTargetMachine(tm);
  if (!b) return false;
  out->nobject = LLVMGetBufferSize(b);
  out->object = malloc(out->nobject + 1);
  if (out->object) memcpy(out->object, LLVMGetBufferStart(b), out->nobject);
  LLVMDisposeMemoryBuffer(b);
  return out->object ? true : refused(e, "out of memory");
}

static bool emit_library(Emit *e, const char *what, AotOutput *out) {
  int isa[MAX_MACHINE];
  for (int i = 0; i < e->nmachine; i++) {
    if (!(e->l->cuda ? plan_device(e) : plan_machine(e, i))) return false;
    isa[i] = e->machine[i].isa;
  }
  hide_code(e);
  LLVMTargetMachineRef tm = machine_of(e, &e->machine[0]);
  if (!tm) return false;
  LLVMTargetDataRef td = LLVMCreateTargetDataLayout(tm);
  LLVMSetModuleDataLayout(e->m, td);
  LLVMSetTarget(e->m, e->machine[0].triple);
  LLVMDisposeTargetData(td);
  LLVMDisposeTargetMachine(tm);
  out->manifest = manifest_text(e->a, &e->t);
  size_t lib = tables_library(&e->t, e->nmachine, isa, e->plan, out->manifest);
  declare_runtime(e);
  declare_routines(e);
  emit_constants(e);
  LLVMValueRef image = image_emit(&e->t.image, e->m, "tg_library"),
               off = LLVMConstInt(LLVMInt64TypeInContext(e->cx), lib, 0);
  wrappers_emit(e->m, e->l, LLVMConstInBoundsGEP2(LLVMInt8TypeInContext(e->cx), image, &off, 1));
  char *why = NULL;
  if (LLVMVerifyModule(e->m, LLVMReturnStatusAction, &why)) bug("aot: %s", why);
  LLVMDisposeMessage(why);
  out->kernels = e->kernels;
  out->header = header_text(e->a, &e->t);
  out->pc = pc_text(e->a, e->l);
  out->python = python_text(e->a, e->l);
  return write_module(e, what, out);
}

bool aot_emit(const AotLibrary *l, Graph *g, const Diags *d, const char *target, const char *what, Arena *a,
              AotOutput *out, Fault *fault) {
  *out = (AotOutput){0};
  fault->id = E_NONE;
  Emit e = {.l = l, .g = g, .a = a, .fault = fault, .cx = LLVMContextCreate()};
  e.nmachine = target_machines(target, e.machine);
  if (!e.nmachine) bug("aot: no target %s", target);
  if (l->cuda) {
    e.nmachine = 1;
    e.machine[0] = (Machine){LI_ANY, NULL, "generic", ""}; /* what is left for the processor: the wrappers */
    if (LLVMInitializeNativeTarget() || LLVMInitializeNativeAsmPrinter())
      return refused(&e, "LLVM does not know this machine");
  }
  e.t = (Tables){.l = l, .d = d, .a = a, .image = {.a = a}, .fault = fault, .one_machine = e.nmachine == 1 && !l->cuda};
  for (int i = 0; i < l->nconst; i++) {
    const Tensor *t = l->konst[i].t;
    KonstRow k = {l->konst[i].name, t->data, tensor_bytes(t), t->dtype, t->rank, t->dim, .weight = true};
    vec_push(a, &e.t.konst, k);
  }
  for (int i = 0; i < l->nstate; i++) {
    const Tensor *t = l->state[i].t;
    KonstRow k = {l->state[i].name, t->data, tensor_bytes(t), t->dtype, t->rank, t->dim, .weight = true};
    vec_push(a, &e.t.konst, k);
  }
  e.plan = arena_array(a, size_t *, l->nexport);
  for (int k = 0; k < l->nexport; k++) {
    int n = e.nmachine * l->export[k].nvariant;
    e.plan[k] = arena_array(a, size_t, n);
  }
  e.m = LLVMModuleCreateWithNameInContext(l->name, e.cx);
  bool ok = emit_library(&e, what, out);
  LLVMDisposeModule(e.m);
  LLVMContextDispose(e.cx);
  return ok;
}
