/* A session over the oracle: units in, what they print and complain out. */
#ifndef TG_TEST_SESSION_SUPPORT_H
#define TG_TEST_SESSION_SUPPORT_H
#include "autodiff/autodiff.h"
#include "lang/lang.h"
#include "stdlib/native/host.h"
#include <stdlib.h>
#include <string.h>

typedef struct Prompt {
  Arena *arena;
  Diags *diags;
  Session *session;
  Natives natives;
  NativeHost host;
  Hooks hooks;
  VEC(Tensor) slot;
  char *text; /* printed by the last unit */
  size_t len;
  int kept; /* values that the last entry asked to keep */
} Prompt;

static bool prompt_run(void *ctx, Graph *g, const Region *r, Tensor *out, Fault *f) {
  Prompt *p = ctx;
  EvalOptions o = {.native_ctx = &p->host};
  return graph_eval(g, r, p->slot.n, p->slot.at, out, &o, f);
}

static int64_t prompt_keep(void *ctx, Tensor t) {
  Prompt *p = ctx;
  vec_push(p->arena, &p->slot, t);
  return p->slot.n - 1;
}

static const char *prompt_library(void *ctx, const char *name, size_t *len) {
  static const char module[] = "step = 1\n## One more than x.\ndef more(x) = x + step\n";
  *len = sizeof module - 1;
  return strcmp(name, "lib") ? NULL : module;
}

static Prompt *prompt_new(int narg, const char *const *arg) {
  Arena *a = arena_new();
  Prompt *p = arena_new_of(a, Prompt);
  p->arena = a, p->diags = diags_new(a), p->natives.arena = a;
  native_register_all(&p->natives);
  p->hooks = (Hooks){
      .vjp = ad_vjp, .jvp = ad_jvp, .run = prompt_run, .keep = prompt_keep, .library = prompt_library, .ctx = p};
  SessionOptions o = {
      .hooks = &p->hooks, .natives = &p->natives, .diags = p->diags, .arena = a, .narg = narg, .arg = arg};
  p->session = session_new(&o);
  return p;
}

static void prompt_free(Prompt *p) {
  for (int k = 0; k < p->slot.n; k++) tensor_drop(&p->slot.at[k]);
  free(p->text);
  arena_free(p->arena);
}

/* Code of the first error, "" without; the printed text is in p->text. */
static const char *prompt_unit(Prompt *p, const char *text, UnitKind kind) {
  free(p->text);
  p->text = NULL;
  p->host.out = open_memstream(&p->text, &p->len);
  diags_clear(p->diags);
  Region r;
  bool ok = session_unit(p->session, diag_source(p->diags, "test", text, strlen(text)), kind, &r);
  const char *code = "";
  if (!ok)
    code = p->diags->first ? err_info[p->diags->first->id].code : "?";
  else {
    Node **out;
    p->kept = r.nout = session_pending(p->session, &out), r.out = out;
    Tensor *t = arena_array(p->arena, Tensor, r.nout);
    int64_t *slot = arena_array(p->arena, int64_t, r.nout);
    Fault f = {0};
    graph_verify(session_graph(p->session), &r);
    if (prompt_run(p, session_graph(p->session), &r, t, &f)) {
      for (int k = 0; k < r.nout; k++) slot[k] = prompt_keep(p, t[k]);
      session_commit(p->session, slot);
    } else {
      session_abandon(p->session);
      code = err_info[f.id].code;
    }
  }
  fclose(p->host.out);
  return code;
}
#define ENTRY(p, text) prompt_unit(p, text, UNIT_ENTRY)
#endif
