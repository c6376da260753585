/* The host's life, the pipeline from region to result, and units. */
#include "host.h"
#include "codegen/rt/clock.h"
#include "codegen/rt/trace.h"
#include "codegen/cuda/session.h"
#include "codegen/session.h"
#include "autodiff/autodiff.h"
#include "deferred.h"
#include "dist/nccl.h"
#include "dist/shard.h"
#include "nonfinite.h"
#include "ranks.h"
#include "stdlib/native/checkpoint.h"
#include "stdlib/native/data.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

const PassInfo pass_info[PASS_COUNT] = {
#define PASS(id, name, reason) {name, reason},
#include "passes.def"
#undef PASS
};
PassId pass_by_name(const char *name) {
  for (int i = 0; i < PASS_COUNT; i++)
    if (!strcmp(name, pass_info[i].name)) return (PassId)i;
  return PASS_COUNT;
}

volatile int host_interrupt;
FitSignal host_fit;
static void on_interrupt(int sig) {
  (void)sig;
  if (host_fit.fitting && !host_fit.requested) {
    host_fit.requested = 1;
    return;
  }
  if (host_interrupt++ >= 2) _exit(EXIT_INTERRUPT); /* asked three times: nothing listens */
}
void host_catch_interrupt(void) {
  struct sigaction sa = {.sa_handler = on_interrupt};
  sigemptyset(&sa.sa_mask);
  sigaction(SIGINT, &sa, NULL);
  signal(SIGXFSZ, SIG_IGN); /* a file over the limit is an error of its write */
}

/* ---- hooks ------------------------------------------------------------------------------------------------------- */
bool host_compute(Host *h, Graph *g, const Region *r, Tensor *out, Fault *fault) {
  HostOptions saved = h->o; /* not what a dump is asked for */
  memset(h->o.dump, 0, sizeof h->o.dump);
  h->o.stop = PASS_COUNT;
  bool ok = host_run(h, g, r, out, fault);
  h->o = saved;
  return ok;
}
static bool hook_run(void *ctx, Graph *g, const Region *r, Tensor *out, Fault *fault) {
  Host *h = ctx;
  bool ok = host_compute(h, g, r, out, fault);
  RtDevice *d = h->codegen ? codegen_device(h->codegen) : NULL;
  if (d) d->op->leave(d); /* this is a thread of the front end, which ends */
  return ok;
}
static int64_t hook_keep(void *ctx, Tensor t) {
  Host *h = ctx;
  vec_push(h->arena, &h->slot, t);
  return h->slot.n - 1;
}

/* ---- programs of data sets: compiled for one thread, apart from the plan that is running ---- */
typedef struct Side {
  Host *h;
  Codegen *codegen;
  Plan *plan;
  int n, nslot;
  int64_t *slot;
  Tensor *input;
} Side;
static void side_free(void *self) {
  Side *s = self;
  if (s->plan) plan_free(s->plan);
  if (s->codegen) codegen_free(s->codegen);
  free(s->slot), free(s->input), free(s);
}
static bool side_run(void *self, int nin, const Tensor *in, int nout, Tensor *out, Fault *f) {
  Side *s = self;
  for (int k = 0; k < nin; k++) s->input[s->slot[k]] = in[k];
  Tensor *r = malloc(sizeof *r * (size_t)(nout + 1));
  if (!r) return fault_set(f, R_MEMORY, (Span){0}, "out of memory"), false;
  bool ok = plan_run(s->plan, s->nslot, s->input, r, &s->h->nh, f);
  for (int k = 0; ok && k < nout; k++) {
    memcpy(out[k].data, r[k].data, tensor_bytes(&r[k]));
    tensor_drop(&r[k]);
  }
  free(r);
  return ok;
}
static bool hook_program(void *ctx, Graph *g, const Region *r0, int n, const int64_t *slot, DataProgram *out,
                         Fault *f) {
  Host *h = ctx;
  Side *s = calloc(1, sizeof *s);
  if (s)
    *s = (Side){.h = h,
                .n = n,
                .nslot = h->slot.n,
                .slot = malloc(sizeof *slot * (size_t)(n + 1)),
                .input = malloc(sizeof(Tensor) * (size_t)(h->slot.n + 1))};
  if (!s || !s->slot || !s->input) {
    if (s) side_free(s);
    return fault_set(f, R_MEMORY, (Span){0}, "out of memory"), false;
  }
  memcpy(s->slot, slot, sizeof *slot * (size_t)n);
  if (s->nslot) memcpy(s->input, h->slot.at, sizeof(Tensor) * (size_t)s->nslot);
  Region r = {r0->nout, arena_copy(g->arena, r0->out, sizeof *r0->out * (size_t)r0->nout), 0, NULL};
  graph_simplify(g, &r);
  s->codegen =
      codegen_new(&(CodegenOptions){.threads = 1, .cache_dir = host_cache_dir(h), .interrupt = &host_interrupt});
  s->plan = codegen_plan(s->codegen, g, &r, f);
  if (!s->plan) return side_free(s), false;
  *out = (DataProgram){.self = s, .run = side_run, .free = side_free};
  return true;
}

static int default_threads(void) {
  const char *s = getenv("TG_THREADS");
  int n = s ? atoi(s) : 0;
  if (n <= 0) n = (int)sysconf(_SC_NPROCESSORS_ONLN);
  return n < 1 ? 1 : n > 256 ? 256 : n;
}
static int terminal_width(void) {
  struct winsize w;
  if (isatty(1) && ioctl(1, TIOCGWINSZ, &w) == 0 && w.ws_col) return w.ws_col;
  return 0;
}

static int error_width(void) {
  struct winsize w;
  return isatty(2) && ioctl(2, TIOCGWINSZ, &w) == 0 ? w.ws_col : 0;
}

Host *host_new(const HostOptions *o) {
  Arena *arena = arena_new();
  Host *h = arena_new_of(arena, Host);
  h->o = *o, h->arena = arena;
  if (h->o.threads <= 0) h->o.threads = default_threads();
  if (!h->o.out) h->o.out = stdout;
  h->diags = diags_new(arena);
  h->natives.arena = arena;
  native_register_all(&h->natives);
  natives_add(&h->natives, &deferred_native);
  natives_add(&h->natives, &native_coll_start);
  natives_add(&h->natives, &native_coll_wait);
  natives_add(&h->natives, &native_coll_gather);
  h->nh = (NativeHost){.out = h->o.out, .width = terminal_width(), .host = h};
  h->nh.progress = progress_new(stderr, isatty(2), error_width(), &host_fit);
  ranks_begin(h);
  static const Hooks template = {.vjp = ad_vjp,
                                 .jvp = ad_jvp,
                                 .run = hook_run,
                                 .keep = hook_keep,
                                 .program = hook_program,
                                 .library = library_module};
  Hooks *hooks = arena_copy(arena, &template, sizeof template);
  hooks->ctx = h, hooks->data = h->nh.data = data_table_new(&host_interrupt);
  SessionOptions so = {.hooks = hooks,
                       .natives = &h->natives,
                       .diags = h->diags,
                       .arena = arena,
                       .narg = o->narg,
                       .arg = o->arg,
                       .interrupt = &host_interrupt,
                       .inner = o->inner,
                       .ranks = o->comm ? comm_size(o->comm) : 1,
                       .no_fit = o->no_fit};
  h->session = session_new(&so);
  return h;
}
void host_free(Host *h) {
  deferred_drop(h);
  train_files_free(h->nh.train);
  for (int i = 0; i < h->slot.n; i++) tensor_drop(&h->slot.at[i]);
  data_table_free(h->nh.data);
  rt_trace_free(h->trace);
  progress_free(h->nh.progress);
  nccl_close(h->nccl);
  if (h->codegen) codegen_free(h->codegen);
  arena_free(h->arena);
}

/* "" or "none" turns the disk cache off. */
const char *host_cache_dir(Host *h) {
  const char *s = getenv("TG_CACHE_DIR");
  if (s) return *s && strcmp(s, "none") ? s : NULL;
  const char *base = getenv("XDG_CACHE_HOME");
  if (base && *base) return arena_printf(h->arena, "%s/tg", base);
  base = getenv("HOME");
  return base && *base ? arena_printf(h->arena, "%s/.cache/tg", base) : NULL;
}

/* ---- the pipeline ------------------------------------------------------------------------------------------------ */
static bool wants(const Host *h, int from, int to) {
  for (int i = from; i <= to; i++)
    if (h->o.dump[i]) return true;
  return false;
}
static void verify(Graph *g, const Region *r) {
#ifndef NDEBUG
  graph_verify(g, r);
#else
  (void)g, (void)r;
#endif
}
static bool stop_after(Host *h, Graph *g, const Region *r, PassId p) {
  if (h->o.dump[p]) {
    Arena *a = arena_new();
    fputs(graph_print(g, a, r), h->o.out);
    arena_free(a);
  }
  return h->stopped = h->o.stop == p;
}

/* With --device cuda a device that can't be had is an error, with auto none. */
static bool open_device(Host *h, Cuda **cuda, Fault *fault) {
  char why[1024];
  int index = 0;
  *cuda = NULL;
  if (h->o.cuda && !ranks_gpu(h, &index, fault)) return false;
  if (h->o.cuda) *cuda = cuda_open(index, h->o.threads, host_cache_dir(h), why, sizeof why);
  if (*cuda || !h->o.cuda || h->o.fall_back) return true;
  fault_set(fault, R_DEVICE, (Span){0, 0, 0}, "no CUDA device: %s", why);
  return false;
}

static void go_on(void *ctx) { comm_progress(ctx); }
static void *lend(void *ctx, size_t bytes) { return comm_lend(ctx, bytes); }
static void take_back(void *ctx, void *at) { comm_take_back(ctx, at); }

static Plan *make_plan(Host *h, Graph *g, const Region *r, Fault *fault) {
  Cuda *cuda = NULL;
  if (!h->codegen && !open_device(h, &cuda, fault)) return NULL;
  if (!h->codegen)
    h->codegen = codegen_new(&(CodegenOptions){.threads = h->o.threads,
                                               .cache_dir = host_cache_dir(h),
                                               .interrupt = &host_interrupt,
                                               .profile = h->o.profile,
                                               .tf32 = h->o.tf32,
                                               .cuda = cuda,
                                               .between = h->o.comm ? go_on : NULL,
                                               .between_ctx = h->o.comm,
                                               .lend = h->o.comm ? lend : NULL,
                                               .take_back = take_back,
                                               .lend_ctx = h->o.comm,
                                               .trace = h->trace});
  if (!h->gpus_met && h->o.cuda && !ranks_meet_gpus(h, cuda, fault)) return NULL;
  return codegen_plan(h->codegen, g, r, fault);
}
/* Sums over samples, and the rank's part of the graph where there are several. */
static void shard(Host *h, Graph *g, Region *r) {
  ShardEnv env = {
      .nrank = 1, .deal = h->o.fast_reduce ? DEAL_NONE : DEAL_LARGE, .notes = h->o.dump[PASS_SHARD] ? h->o.out : NULL};
  if (h->o.comm)
    env.rank = comm_rank(h->o.comm), env.nrank = comm_size(h->o.comm), env.start = &native_coll_start,
    env.wait = &native_coll_wait, env.gather = &native_coll_gather;
  shard_region(g, r, &env);
}

Plan *host_plan(Host *h, Graph *g, Region *r, Fault *fault) {
  graph_simplify(g, r);
  shard(h, g, r);
  return make_plan(h, g, r, fault);
}

static bool run_plan(Host *h, Graph *g, const Region *r, Tensor *out, Fault *fault) {
  double t0 = rt_seconds();
  Plan *p = make_plan(h, g, r, fault);
  if (!p) return false;
  bool ok = true;
  for (int i = PASS_CLASSIFY; i < PASS_COUNT && !h->stopped; i++) {
    if (h->o.dump[i] && !plan_dump(p, pass_info[i].name, h->o.out))
      codegen_dump(h->codegen, g, r, pass_info[i].name, h->o.out);
    h->stopped = h->o.stop == (PassId)i;
  }
  h->last = plan_stats(p);
  double t1 = rt_seconds();
  h->times.compile += t1 - t0;
  if (!h->stopped) ok = plan_run(p, h->slot.n, h->slot.at, out, &h->nh, fault);
  PlanRefusal refusal;
  if (!ok && plan_refused(p, &refusal)) nonfinite_explain(h, g, &refusal, fault);
  h->times.run += rt_seconds() - t1;
  if (h->o.profile) plan_dump(p, "profile", stderr);
  plan_free(p);
  return ok;
}

bool host_run(Host *h, Graph *g, const Region *r0, Tensor *out, Fault *fault) {
  Region r = {r0->nout, arena_copy(g->arena, r0->out, sizeof *r0->out * (size_t)r0->nout), r0->neffect,
              arena_copy(g->arena, r0->effect, sizeof *r0->effect * (size_t)r0->neffect)};
  RtDevice *d = h->codegen ? codegen_device(h->codegen) : NULL;
  if (d) d->op->enter(d); /* the thread may be another one than last time; a refusal shows in what follows */
  h->stopped = false;
  memset(out, 0, sizeof *out * (size_t)r.nout);
  fault->id = E_NONE;
  verify(g, &r);
  if (stop_after(h, g, &r, PASS_GRAPH)) return true;
  if (h->o.oracle && !wants(h, PASS_SIMPLIFY, PASS_COUNT - 1)) {
    EvalOptions eo = {.native_ctx = &h->nh, .interrupt = &host_interrupt};
    return graph_eval(g, &r, h->slot.n, h->slot.at, out, &eo, fault);
  }
  graph_simplify(g, &r);
  verify(g, &r);
  if (stop_after(h, g, &r, PASS_SIMPLIFY)) return true;
  shard(h, g, &r);
  verify(g, &r);
  if (stop_after(h, g, &r, PASS_SHARD)) return true;
  return run_plan(h, g, &r, out, fault);
}

/* ---- units ------------------------------------------------------------------------------------------------------- */
void host_report(Host *h) {
  fflush(h->o.out);
  if (!ranks_repeat(h)) diag_print_all(h->diags, stderr, h->o.color);
  diags_clear(h->diags);
}
/* Ctrl-C reaches all ranks, some of them while they wait for others. */
static bool is_interrupt(const Fault *f) { return f->id == R_INTERRUPT || (f->id == R_RANK && host_interrupt); }
void host_report_fault(Host *h, const Fault *met) {
  Fault agreed = *met, *f = &agreed;
  ranks_agree(h, f);
  if (is_interrupt(f))
    diag_add(h->diags, R_INTERRUPT, (Span){0}, "interrupted");
  else if (f->id == R_RANK && h->o.comm && h->o.comm->broken) /* the place of the others' fault is unknown */
    diag_add(h->diags, f->id, (Span){0}, "%s", f->msg);
  else
    diag_add(h->diags, f->id, f->span, "%s", f->msg);
  host_report(h);
}
static int fault_exit(const Fault *f) { return is_interrupt(f) ? EXIT_INTERRUPT : EXIT_RUN; }

/* Computes the entry's bindings together with its effects and keeps them as session tensors. */
static int run_entry(Host *h, const Region *unit) {
  Graph *g = session_graph(h->session);
  Node **pending;
  int n = session_pending(h->session, &pending);
  Region r = {n, pending, unit->neffect, unit->effect};
  Tensor *out = calloc((size_t)n + 1, sizeof *out);
  int64_t *slot = calloc((size_t)n + 1, sizeof *slot);
  Fault fault = {0};
  if (!out || !slot) fault_set(&fault, R_MEMORY, (Span){0, 0, 0}, "out of memory");
  bool ok = !fault.id && (n || r.neffect ? host_run(h, g, &r, out, &fault) : true);
  data_table_end_run(h->nh.data);
  progress_end_run(h->nh.progress);
  if (ok && !h->stopped) {
    for (int i = 0; i < n; i++) slot[i] = hook_keep(h, out[i]);
    session_commit(h->session, slot);
  } else
    session_abandon(h->session);
  free(out);
  free(slot);
  if (!ok) host_report_fault(h, &fault);
  return ok ? EXIT_OK : fault_exit(&fault);
}

/* What a failed check exits with, by its last error: a wrong --argument is a matter of usage. */
static int check_exit(const Diags *d) {
  if (d->last && d->last->id == U_USAGE) return EXIT_USAGE;
  return d->last && d->last->id == R_INTERRUPT ? EXIT_INTERRUPT : EXIT_COMPILE;
}

/* --dump=ast. False when it does not parse. */
static bool dump_tree(Host *h, uint32_t file) {
  Arena *a = arena_new();
  Ast *tree = parse_file(h->diags, a, session_names(h->session), file);
  bool ok = h->diags->nerror == 0;
  if (ok) ast_print(h->o.out, tree);
  host_report(h);
  arena_free(a);
  return ok;
}

int host_unit(Host *h, const char *name, const char *text, size_t len, UnitKind kind) {
  uint32_t file = diag_source(h->diags, name, text, len);
  h->stopped = false;
  if (h->o.dump[PASS_AST] && !dump_tree(h, file)) return EXIT_COMPILE;
  if (h->o.stop == PASS_AST) return EXIT_OK;
  Region unit = {0};
  host_interrupt = 0;
  deferred_drop(h);
  host_fit = (FitSignal){0};
  h->times = (HostTimes){0};
  double t0 = rt_seconds();
  bool ok = session_unit(h->session, file, kind, &unit);
  h->times.check = rt_seconds() - t0;
  int failed = check_exit(h->diags);
  host_report(h);
  if (!ok) return failed;
  int code = EXIT_OK;
  if (kind == UNIT_ENTRY)
    code = run_entry(h, &unit);
  else if (unit.neffect || unit.nout || wants(h, PASS_GRAPH, PASS_COUNT - 1)) {
    Fault fault = {0};
    Tensor none;
    bool ok = host_run(h, session_graph(h->session), &unit, &none, &fault);
    data_table_end_run(h->nh.data);
    progress_end_run(h->nh.progress);
    if (!ok) {
      host_report_fault(h, &fault);
      code = fault_exit(&fault);
    }
  }
  fflush(h->o.out);
  return code == EXIT_OK && host_fit.requested ? EXIT_INTERRUPT : code;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */
char *host_read_stream(FILE *f, size_t *len) {
  size_t cap = 1 << 16, n = 0;
  char *buf = malloc(cap);
  while (buf) {
    n += fread(buf + n, 1, cap - n - 1, f);
    if (n + 1 < cap) break;
    char *more = realloc(buf, cap *= 2);
    if (!more) free(buf);
    buf = more;
  }
  if (!buf || ferror(f)) {
    fprintf(stderr, "tg: cannot read: %s\n", buf ? strerror(errno) : "out of memory");
    free(buf);
    return NULL;
  }
  buf[n] = 0;
  *len = n;
  return buf;
}
char *host_read_file(const char *path, size_t *len) {
  FILE *f = fopen(path, "rb");
  struct stat st;
  if (f && fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode)) {
    fprintf(stderr, "tg: %s is a folder\n", path);
    fclose(f);
    return NULL;
  }
  if (!f) {
    fprintf(stderr, "tg: cannot open %s: %s\n", path, strerror(errno));
    return NULL;
  }
  char *s = host_read_stream(f, len);
  fclose(f);
  return s;
}
