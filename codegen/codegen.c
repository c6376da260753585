/* The session's compiler: one JIT, one pool of lanes, and the kernels compiled so far by their canonical text. */
#include "codegen/session.h"
#include "codegen/cpu/jit.h"
#include "codegen/cuda/session.h"
#include "codegen/dev_tensors.h"
#include "codegen/interp.h"
#include "codegen/rt/hash.h"
#include <stdlib.h>
#include <string.h>

struct CodeEntry {
  char *text;
  uint64_t hash;
  Code code;
  CudaCode *cuda; /* on the session's device; then code is empty */
  bool ready;
};

struct Codegen {
  Arena *mem;
  CodegenOptions o;
  CodegenStats stats;
  Jit *jit;
  RtPool *pool;
  CodeEntry **table; /* open addressing by hash; cap is a power of two */
  int n, cap;
  double below;        /* work of kernels that are walked */
  DevTensors *tensors; /* on the device; NULL: none yet */
};

static const double WALK_MANY = 1500, WALK_ONCE = 60000;

Codegen *codegen_new(const CodegenOptions *o) {
  Codegen *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  c->mem = arena_new();
  c->o = *o;
  if (o->cache_dir) c->o.cache_dir = arena_strdup(c->mem, o->cache_dir);
  if (c->o.threads < 1) c->o.threads = 1;
  c->below = o->interpret_below == 0 ? WALK_MANY : o->interpret_below;
  return c;
}

void codegen_expect_runs(Codegen *c, int runs) {
  if (c->o.interpret_below == 0) c->below = runs == 1 ? WALK_ONCE : WALK_MANY;
}

void codegen_free(Codegen *c) {
  if (!c) return;
  dev_tensors_free(c->tensors);
  for (int i = 0; i < c->cap; i++)
    if (c->table[i]) cuda_code_free(c->o.cuda, c->table[i]->cuda);
  cuda_close(c->o.cuda);
  for (int i = 0; i < c->cap; i++)
    if (c->table[i] && c->table[i]->code.drop) c->table[i]->code.drop(&c->table[i]->code);
  if (c->jit && c->jit != c->o.collect) jit_free(c->jit);
  rt_pool_free(c->pool);
  arena_free(c->mem);
  free(c);
}

CodegenStats codegen_stats(const Codegen *c) { return c->stats; }
void codegen_between(const Codegen *c) {
  if (c->o.between) c->o.between(c->o.between_ctx);
}
bool codegen_may_lend(const Codegen *c) { return c->o.lend && !c->o.cuda; }
void *codegen_lend(const Codegen *c, size_t bytes) { return c->o.lend(c->o.lend_ctx, bytes); }
void codegen_take_back(const Codegen *c, void *at) { c->o.take_back(c->o.lend_ctx, at); }
struct RtTrace *codegen_trace(const Codegen *c) {
  return c->o.trace;
}
volatile int *codegen_interrupt(const Codegen *c) { return c->o.interrupt; }
int codegen_lanes(const Codegen *c) { return c->o.threads; }
bool codegen_tf32(const Codegen *c) { return c->o.tf32; }
bool codegen_profile(const Codegen *c) { return c->o.profile; }
void codegen_planned(Codegen *c) { c->stats.plans++; }

RtPool *codegen_pool(Codegen *c) {
  if (!c->pool && c->o.threads > 1) {
    c->pool = rt_pool_new(c->o.threads);
    if (!c->pool) c->o.threads = 1;
  }
  return c->pool;
}

DevTensors *codegen_tensors(Codegen *c) {
  if (!c->tensors) c->tensors = dev_tensors_new(codegen_device(c));
  return c->tensors;
}

RtDevice *codegen_device(const Codegen *c) { return c->o.cuda ? cuda_device(c->o.cuda) : NULL; }
CudaCode *code_device(const CodeEntry *e) { return e->cuda; }
const Code *code_of(const CodeEntry *e) { return &e->code; }
const char *code_text(const CodeEntry *e) { return e->text; }

static uint64_t hash_text(const char *s) { return rt_hash(RT_HASH, s, strlen(s)); }

static CodeEntry **find(CodeEntry **table, int cap, const char *text, uint64_t hash) {
  int i = (int)(hash & (uint64_t)(cap - 1));
  while (table[i] && (table[i]->hash != hash || strcmp(table[i]->text, text))) i = (i + 1) & (cap - 1);
  return &table[i];
}

static void grow(Codegen *c) {
  int cap = c->cap ? 2 * c->cap : 256;
  CodeEntry **table = arena_array(c->mem, CodeEntry *, cap);
  for (int i = 0; i < c->cap; i++)
    if (c->table[i]) *find(table, cap, c->table[i]->text, c->table[i]->hash) = c->table[i];
  c->table = table;
  c->cap = cap;
}

Jit *codegen_jit(Codegen *c, Fault *fault) {
  if (!c->jit) c->jit = c->o.collect ? c->o.collect : jit_new(c->o.cache_dir);
  if (c->jit) jit_set_lanes(c->jit, c->o.threads);
  if (!c->jit) fault_set(fault, R_MEMORY, (Span){0, 0, 0}, "out of memory: the compiler could not start");
  return c->jit;
}

static CodeEntry *add(Codegen *c, CodeEntry **at, const char *text, uint64_t hash, const Code *code) {
  CodeEntry *e = arena_new_of(c->mem, CodeEntry);
  e->text = arena_strdup(c->mem, text);
  e->hash = hash;
  e->code = *code;
  *at = e;
  c->n++;
  return e;
}

bool codegen_ready(Codegen *c, Fault *fault) {
  for (int i = 0; i < c->cap; i++) {
    CodeEntry *e = c->table[i];
    const char *why = NULL;
    bool from_disk;
    if (!e || !e->cuda || e->ready) continue;
    if (!cuda_ready(c->o.cuda, e->cuda, &from_disk, &why)) {
      fault_set(fault, R_DEVICE, (Span){0, 0, 0}, "a kernel could not be made ready: %s", why);
      return false;
    }
    e->ready = true;
    if (from_disk)
      c->stats.kernels_from_disk++;
    else
      c->stats.kernels_compiled++;
  }
  return true;
}

CodeEntry *codegen_kernel(Codegen *c, Graph *g, const Kernel *k, double work, Fault *fault) {
  Arena *tmp = arena_new();
  bool small = work < c->below && !c->o.cuda;
  const char *text = kernel_print(k, tmp), *why = "the compiler refused the kernel";
  if (small) text = arena_printf(tmp, "# small\n%s", text);
  uint64_t hash = hash_text(text);
  CodeEntry *e = NULL;
  if (2 * (c->n + 1) > c->cap) grow(c);
  CodeEntry **at = find(c->table, c->cap, text, hash);
  if (*at) {
    c->stats.kernels_from_memory++;
    e = *at;
  } else if (small) {
    Code code = {0};
    interp_make(k, &code);
    e = add(c, at, text, hash, &code);
  } else if (c->o.cuda) {
    CudaCode *cuda = cuda_compile(c->o.cuda, g, k, c->o.tf32, &why);
    if (cuda) {
      e = add(c, at, text, hash, &(Code){0});
      e->cuda = cuda;
    } else {
      fault_set(fault, R_DEVICE, (Span){0, 0, 0}, "a kernel could not be compiled: %s", why);
    }
  } else if (codegen_jit(c, fault)) {
    bool from_disk = false, declined = true, ok = false;
    Code code = {0};
    if (k->stage[0].kind == ST_CONTRACT) {
      declined = false;
      ok = mma_compile(c->jit, g, k, text, &code, &from_disk, &declined, &why);
    }
    if (declined) ok = cpu_compile(c->jit, g, k, text, &code, &from_disk, &why);
    if (!ok) {
      fault_set(fault, R_MEMORY, (Span){0, 0, 0}, "a kernel could not be compiled: %s", why);
    } else {
      e = add(c, at, text, hash, &code);
      if (from_disk)
        c->stats.kernels_from_disk++;
      else
        c->stats.kernels_compiled++;
    }
  }
  arena_free(tmp);
  return e;
}
