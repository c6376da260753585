/* The JIT (jit.h). Objects, not modules, are handed to ORC: the object is what the disk cache keeps, so the cold and
 * the warm path load the same bytes. */
#include "codegen/cpu/jit.h"
#include "codegen/cpu/cache.h"
#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef NDEBUG
enum { VERIFY_IR = 0 };
#else
enum { VERIFY_IR = 1 };
#endif
enum { EMITTER_VERSION = 1, CACHE_MAX = 8192, PRUNE_EVERY = 64 };
static const char default_passes[] = "function(sroa,early-cse,instcombine<no-verify-fixpoint>,simplifycfg)";

struct JitCode {
  Jit *jit;
  char *key;
  char suffix[40];
  CacheHash hash;
  LLVMOrcResourceTrackerRef tracker;
  void *meta;
  size_t nmeta;
  int refs;
  LLVMModuleRef module; /* collecting: optimised, until jit_take_modules */
  JitCode *next;
};
typedef struct NameOf {
  struct NameOf *next;
  char text[];
} NameOf;

struct Jit {
  char *dir;
  char *prefix; /* of every key: versions and ISA */
  char *triple, *cpu, *features;
  Isa isa;
  bool started, broken;
  LLVMContextRef collect; /* of all modules; NULL: code is loaded and run */
  NameOf *names;          /* what jit_symbol gave out while collecting */
  LLVMTargetRef target;
  LLVMTargetMachineRef machine[4]; /* by level */
  LLVMOrcLLJITRef lljit;
  char *layout;
  JitCode *codes;
  int puts;
  char why[256];
};

/* What generated code may call by name. */
typedef struct Helper {
  const char *name;
  void *fn;
} Helper;
#define HELPER(f)                                                                                                      \
  { #f, (void *)(uintptr_t)f }
static const Helper helpers[] = {HELPER(sin),   HELPER(cos),  HELPER(tan),    HELPER(fma),    HELPER(fmod),
                                 HELPER(fmodf), HELPER(fmaf), HELPER(memcpy), HELPER(memset), HELPER(memmove)};

static bool has_feature(const char *features, const char *name) {
  size_t n = strlen(name);
  for (const char *p = features; (p = strstr(p, name)); p += n)
    if (p > features && p[-1] == '+' && (p[n] == ',' || !p[n])) return true;
  return false;
}

/* Rebuilding the program changes the key, so that a changed emitter never meets its old objects. */
static void own_build(char *out, size_t n) {
  struct stat st;
  if (stat("/proc/self/exe", &st))
    snprintf(out, n, "?");
  else
    snprintf(out, n, "%lld.%lld.%ld", (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

/* usual: where the system does not know. */
static size_t cache_bytes(int name, size_t usual) {
  long v = sysconf(name);
  return v > 0 ? (size_t)v : usual;
}

Jit *jit_new(const char *cache_dir) {
  char *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
  Jit *j = jit_new_for(cache_dir, cpu, features);
  LLVMDisposeMessage(cpu);
  LLVMDisposeMessage(features);
  return j;
}
Jit *jit_new_for(const char *cache_dir, const char *cpu, const char *features) {
  Jit *j = calloc(1, sizeof *j);
  if (!j) return NULL;
  if (cache_dir && *cache_dir) j->dir = strdup(cache_dir);
  j->cpu = LLVMCreateMessage(cpu);
  j->features = LLVMCreateMessage(features);
  bool wide = has_feature(j->features, "avx512f") && has_feature(j->features, "avx512bw") &&
              has_feature(j->features, "avx512vl") && has_feature(j->features, "avx512dq");
  j->isa = (Isa){.vector_bits = wide                               ? 512
                                : has_feature(j->features, "avx2") ? 256
                                                                   : 128,
                 .fma = has_feature(j->features, "fma"),
                 .f16c = has_feature(j->features, "f16c"),
                 .cpu = j->cpu,
                 .features = j->features,
                 .l1 = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 32 << 10),
                 .l2 = cache_bytes(_SC_LEVEL2_CACHE_SIZE, 1 << 20),
                 .l3 = cache_bytes(_SC_LEVEL3_CACHE_SIZE, 0)};
  char build[96];
  own_build(build, sizeof build);
  size_t n = strlen(j->features) + strlen(j->cpu) + 256;
  j->prefix = malloc(n);
  if (!j->prefix) {
    jit_free(j);
    return NULL;
  }
  snprintf(j->prefix, n, "tg %s emitter %d build %s\n%s\n%s\nl1 %zu l2 %zu\n", TG_VERSION, EMITTER_VERSION, build,
           j->cpu, j->features, j->isa.l1, j->isa.l2);
  return j;
}

Jit *jit_new_collect(LLVMContextRef cx, const char *triple, const char *cpu, const char *features) {
  Jit *j = jit_new_for(NULL, cpu, features);
  if (!j) return NULL;
  j->collect = cx;
  j->triple = LLVMCreateMessage(triple);
  return j;
}

static void code_free(JitCode *c);
static void forget_collected(Jit *j) {
  for (JitCode *c; (c = j->codes);) {
    j->codes = c->next;
    if (c->module) LLVMDisposeModule(c->module);
    code_free(c);
  }
  for (NameOf *n; (n = j->names); free(n)) j->names = n->next;
}

void jit_free(Jit *j) {
  if (!j) return;
  if (j->collect) forget_collected(j);
  if (j->codes) bug("jit_free: %s is still in use", j->codes->suffix);
  if (j->lljit) LLVMConsumeError(LLVMOrcDisposeLLJIT(j->lljit));
  for (int i = 0; i < 4; i++)
    if (j->machine[i]) LLVMDisposeTargetMachine(j->machine[i]);
  if (j->layout) LLVMDisposeMessage(j->layout);
  if (j->triple) LLVMDisposeMessage(j->triple);
  LLVMDisposeMessage(j->cpu);
  LLVMDisposeMessage(j->features);
  free(j->prefix);
  free(j->dir);
  free(j);
}

const Isa *jit_isa(Jit *j) { return &j->isa; }
void jit_set_lanes(Jit *j, int lanes) { j->isa.lanes = lanes; }
int jit_started(const Jit *j) { return j->started; }

/* Takes the message of an LLVM error into the session; true when there was one. */
static bool failed(Jit *j, LLVMErrorRef e, const char **why) {
  if (!e) return false;
  char *msg = LLVMGetErrorMessage(e);
  snprintf(j->why, sizeof j->why, "%s", msg);
  LLVMDisposeErrorMessage(msg);
  if (why) *why = j->why;
  return true;
}

static LLVMTargetMachineRef machine(Jit *j, int level) {
  if (!j->machine[level])
    j->machine[level] = LLVMCreateTargetMachine(j->target, j->triple, j->cpu, j->features, (LLVMCodeGenOptLevel)level,
                                                LLVMRelocPIC, LLVMCodeModelSmall);
  return j->machine[level];
}

static bool start(Jit *j, const char **why) {
  if (j->started) return true;
  if (j->broken) {
    *why = j->why;
    return false;
  }
  j->broken = true;
  snprintf(j->why, sizeof j->why, "LLVM has no code generator for this machine");
  *why = j->why;
  if (LLVMInitializeNativeTarget() || LLVMInitializeNativeAsmPrinter()) return false;
  if (!j->triple) j->triple = LLVMGetDefaultTargetTriple();
  char *msg = NULL;
  if (LLVMGetTargetFromTriple(j->triple, &j->target, &msg)) {
    LLVMDisposeMessage(msg);
    return false;
  }
  if (!machine(j, 1)) return false;
  LLVMTargetDataRef td = LLVMCreateTargetDataLayout(machine(j, 1));
  j->layout = LLVMCopyStringRepOfTargetData(td);
  LLVMDisposeTargetData(td);
  if (j->collect) {
    j->started = true;
    j->broken = false;
    return true;
  }
  LLVMTargetMachineRef mine = LLVMCreateTargetMachine(j->target, j->triple, j->cpu, j->features, LLVMCodeGenLevelLess,
                                                      LLVMRelocPIC, LLVMCodeModelSmall);
  LLVMOrcLLJITBuilderRef b = LLVMOrcCreateLLJITBuilder();
  LLVMOrcLLJITBuilderSetJITTargetMachineBuilder(b, LLVMOrcJITTargetMachineBuilderCreateFromTargetMachine(mine));
  if (failed(j, LLVMOrcCreateLLJIT(&j->lljit, b), why)) return false;
  enum { N = sizeof helpers / sizeof *helpers };
  LLVMOrcCSymbolMapPair pair[N];
  for (int i = 0; i < N; i++)
    pair[i] = (LLVMOrcCSymbolMapPair){LLVMOrcLLJITMangleAndIntern(j->lljit, helpers[i].name),
                                      {(LLVMOrcExecutorAddress)(uintptr_t)helpers[i].fn,
                                       {LLVMJITSymbolGenericFlagsExported | LLVMJITSymbolGenericFlagsCallable, 0}}};
  LLVMErrorRef e = LLVMOrcJITDylibDefine(LLVMOrcLLJITGetMainJITDylib(j->lljit), LLVMOrcAbsoluteSymbols(pair, N));
  if (failed(j, e, why)) return false;
  j->started = true;
  j->broken = false;
  return true;
}

/* Modules of this name share a context that is not theirs to dispose of. */
static const char collected_name[] = "collected";

LLVMModuleRef jit_module(Jit *j, const char **why) {
  if (!start(j, why)) return NULL;
  LLVMContextRef cx = j->collect ? j->collect : LLVMContextCreate();
  LLVMModuleRef m = LLVMModuleCreateWithNameInContext(j->collect ? collected_name : "k", cx);
  LLVMSetTarget(m, j->triple);
  LLVMSetDataLayout(m, j->layout);
  return m;
}

void jit_module_drop(LLVMModuleRef m) {
  LLVMContextRef cx = LLVMGetModuleContext(m);
  size_t n;
  bool own = strcmp(LLVMGetModuleIdentifier(m, &n), collected_name) != 0;
  LLVMDisposeModule(m);
  if (own) LLVMContextDispose(cx);
}

static char *full_key(Jit *j, const char *key) {
  size_t n = strlen(j->prefix) + strlen(key) + 1;
  char *s = malloc(n);
  if (s) snprintf(s, n, "%s%s", j->prefix, key);
  return s;
}

/* Takes ownership of full. */
static JitCode *code_new(Jit *j, char *full, const void *meta, size_t nmeta) {
  JitCode *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  c->jit = j;
  c->key = full;
  c->hash = cache_hash(full, strlen(full));
  snprintf(c->suffix, sizeof c->suffix, ".%016llx%016llx", (unsigned long long)c->hash.a,
           (unsigned long long)c->hash.b);
  c->refs = 1;
  c->nmeta = nmeta;
  c->meta = malloc(nmeta ? nmeta : 1);
  if (!c->meta) {
    free(c);
    return NULL;
  }
  if (nmeta) memcpy(c->meta, meta, nmeta);
  return c;
}

static void code_free(JitCode *c) {
  free(c->meta);
  free(c->key);
  free(c);
}

/* Loads the object (buffer consumed); on success the code is listed in memory. */
static bool code_load(JitCode *c, LLVMMemoryBufferRef object, const char **why) {
  Jit *j = c->jit;
  c->tracker = LLVMOrcJITDylibCreateResourceTracker(LLVMOrcLLJITGetMainJITDylib(j->lljit));
  if (failed(j, LLVMOrcLLJITAddObjectFileWithRT(j->lljit, c->tracker, object), why)) {
    LLVMOrcReleaseResourceTracker(c->tracker);
    return false;
  }
  c->next = j->codes;
  j->codes = c;
  return true;
}

JitCode *jit_find(Jit *j, const char *key, bool *from_disk) {
  *from_disk = false;
  char *full = full_key(j, key);
  if (!full) return NULL;
  CacheHash h = cache_hash(full, strlen(full));
  for (JitCode *c = j->codes; c; c = c->next)
    if (c->hash.a == h.a && c->hash.b == h.b && !strcmp(c->key, full)) {
      free(full);
      c->refs++;
      return c;
    }
  CacheEntry e;
  const char *why;
  if (j->collect || !cache_get(j->dir, full, &e)) {
    free(full);
    return NULL;
  }
  JitCode *c = start(j, &why) ? code_new(j, full, e.meta, e.nmeta) : NULL;
  if (!c) free(full);
  if (c && !code_load(c, LLVMCreateMemoryBufferWithMemoryRangeCopy(e.object, e.nobject, "k"), &why)) {
    code_free(c);
    c = NULL;
  }
  free(e.block);
  *from_disk = c != NULL;
  return c;
}

/* External definitions take the key's suffix: symbols of different kernels share one name space. */
static void rename_externals(LLVMModuleRef m, const char *suffix) {
  for (LLVMValueRef f = LLVMGetFirstFunction(m); f; f = LLVMGetNextFunction(f)) {
    if (LLVMIsDeclaration(f) || LLVMGetLinkage(f) != LLVMExternalLinkage) continue;
    size_t n;
    const char *old = LLVMGetValueName2(f, &n);
    char name[160];
    int len = snprintf(name, sizeof name, "%.*s%s", (int)n, old, suffix);
    LLVMSetValueName2(f, name, (size_t)len);
  }
}

static bool optimise(Jit *j, LLVMModuleRef m, const JitOptions *o, const char **why) {
  char *msg = NULL;
  if (VERIFY_IR && LLVMVerifyModule(m, LLVMReturnStatusAction, &msg)) {
    LLVMDumpModule(m);
    bug("generated code: %s", msg);
  }
  LLVMDisposeMessage(msg);
  const char *passes = o->passes ? o->passes : default_passes;
  if (!*passes) return true;
  LLVMPassBuilderOptionsRef po = LLVMCreatePassBuilderOptions();
  LLVMErrorRef e = LLVMRunPasses(m, passes, machine(j, o->level), po);
  LLVMDisposePassBuilderOptions(po);
  return !failed(j, e, why);
}

JitCode *jit_add(Jit *j, const char *key, LLVMModuleRef m, const JitOptions *o, const char **why) {
  *why = "out of memory";
  char *full = full_key(j, key);
  JitCode *c = full ? code_new(j, full, o->meta, o->nmeta) : NULL;
  if (!c) {
    free(full);
    jit_module_drop(m);
    return NULL;
  }
  rename_externals(m, c->suffix);
  if (j->collect) {
    if (optimise(j, m, o, why)) {
      c->module = m;
      c->next = j->codes;
      return j->codes = c;
    }
    jit_module_drop(m);
    code_free(c);
    return NULL;
  }
  LLVMMemoryBufferRef object = NULL;
  char *msg = NULL;
  if (!optimise(j, m, o, why)) {
    jit_module_drop(m);
    code_free(c);
    return NULL;
  }
  if (LLVMTargetMachineEmitToMemoryBuffer(machine(j, o->level), m, LLVMObjectFile, &msg, &object)) {
    snprintf(j->why, sizeof j->why, "%s", msg ? msg : "LLVM could not emit an object");
    LLVMDisposeMessage(msg);
    *why = j->why;
    jit_module_drop(m);
    code_free(c);
    return NULL;
  }
  jit_module_drop(m);
  if (j->dir) {
    if (j->puts++ % PRUNE_EVERY == 0) cache_prune(j->dir, CACHE_MAX);
    cache_put(j->dir, full, o->meta, o->nmeta, LLVMGetBufferStart(object), LLVMGetBufferSize(object));
  }
  if (!code_load(c, object, why)) {
    code_free(c);
    return NULL;
  }
  return c;
}

static void *collected_symbol(JitCode *c, const char *full) {
  if (!c->module || !LLVMGetNamedFunction(c->module, full)) return NULL;
  NameOf *n = malloc(sizeof *n + strlen(full) + 1);
  if (!n) return NULL;
  strcpy(n->text, full);
  n->next = c->jit->names;
  c->jit->names = n;
  return n->text;
}

int jit_take_modules(Jit *j, LLVMModuleRef *out, int cap) {
  int n = 0;
  for (JitCode *c = j->codes; c; c = c->next) {
    if (!c->module) continue;
    if (n < cap) {
      out[n] = c->module;
      c->module = NULL;
    }
    n++;
  }
  return n;
}

void *jit_symbol(JitCode *c, const char *name) {
  char full[160];
  snprintf(full, sizeof full, "%s%s", name, c->suffix);
  if (c->jit->collect) return collected_symbol(c, full);
  LLVMOrcExecutorAddress at = 0;
  if (failed(c->jit, LLVMOrcLLJITLookup(c->jit->lljit, &at, full), NULL)) return NULL;
  return (void *)(uintptr_t)at;
}

const void *jit_meta(const JitCode *c, size_t *n) {
  *n = c->nmeta;
  return c->meta;
}

void jit_drop(JitCode *c) {
  if (!c || --c->refs || c->jit->collect) return;
  for (JitCode **p = &c->jit->codes; *p; p = &(*p)->next)
    if (*p == c) {
      *p = c->next;
      break;
    }
  LLVMConsumeError(LLVMOrcResourceTrackerRemove(c->tracker));
  LLVMOrcReleaseResourceTracker(c->tracker);
  code_free(c);
}

bool jit_print(Jit *j, LLVMModuleRef m, const JitOptions *o, const char *what, FILE *out) {
  const char *why;
  bool good = optimise(j, m, o, &why);
  if (good && !strcmp(what, "asm")) {
    LLVMMemoryBufferRef text = NULL;
    char *msg = NULL;
    good = !LLVMTargetMachineEmitToMemoryBuffer(machine(j, o->level), m, LLVMAssemblyFile, &msg, &text);
    LLVMDisposeMessage(msg);
    if (good) {
      fwrite(LLVMGetBufferStart(text), 1, LLVMGetBufferSize(text), out);
      LLVMDisposeMemoryBuffer(text);
    }
  } else if (good) {
    char *text = LLVMPrintModuleToString(m);
    fputs(text, out);
    LLVMDisposeMessage(text);
  }
  jit_module_drop(m);
  return good;
}
