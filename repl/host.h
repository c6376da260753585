/* The host: what one process of tg owns, and how a region of the graph gets run. The composition root: the only room
 * that knows all others. */
#ifndef TG_REPL_HOST_H
#define TG_REPL_HOST_H
#include "codegen/codegen.h"
#include "dist/natives.h"
#include "lang/lang.h"
#include "stdlib/native/host.h"
#include "stdlib/native/progress.h"

typedef enum {
#define PASS(id, name, reason) id,
#include "passes.def"
#undef PASS
  PASS_COUNT
} PassId;
typedef struct {
  const char *name, *reason;
} PassInfo;
extern const PassInfo pass_info[PASS_COUNT];
PassId pass_by_name(const char *name); /* PASS_COUNT if unknown */

typedef struct HostOptions {
  int threads;                  /* 0: TG_THREADS or all cores */
  int ranks;                    /* --ranks; 0: not said */
  Comm *comm;                   /* the ranks of this program, not owned; NULL: one */
  bool fast_reduce, no_overlap; /* --reduce=fast, --no-overlap */
  const char *trace;            /* --trace: the file */
  bool oracle;                  /* --device oracle */
  bool tf32;                    /* --tf32 */
  bool cuda, fall_back;         /* --device cuda; --device auto: cuda where it can be had, else the host */
  bool dump[PASS_COUNT];
  PassId stop; /* PASS_COUNT: run */
  bool stats, profile, color;
  bool no_fit; /* fit gives its net as it is */
  bool inner;  /* the units are examples of the library itself */
  int narg;    /* words of --NAME value pairs of scripts: two a pair */
  const char *const *arg;
  FILE *out;
} HostOptions;

/* Seconds that the last unit spent. */
typedef struct HostTimes {
  double check, compile, run;
} HostTimes;

typedef struct Host {
  HostOptions o;
  Arena *arena; /* session */
  Diags *diags;
  Natives natives;
  NativeHost nh;
  struct RtTrace *trace; /* --trace: what ran when */
  NativeRanks ranks;     /* what nh.base.ranks points to where there are several */
  Codegen *codegen;      /* made with the first region that needs it */
  struct Nccl *nccl;     /* between the ranks' GPUs; NULL: there is none, or no need */
  bool gpus_met;         /* the ranks have agreed on it */
  char no_nccl[320];     /* why the GPUs' collectives go through the host's memory */
  Session *session;
  VEC(Tensor) slot; /* session tensors: INPUT slot i is slot.at[i] */
  PlanStats last;   /* of the last plan */
  HostTimes times;
  VEC(struct HostDeferred *) deferred; /* deferred.c */
  bool stopped;                        /* --stop ended the last run early */
} Host;

/* Exit codes of the program. */
enum { EXIT_OK = 0, EXIT_RUN = 1, EXIT_USAGE = 2, EXIT_COMPILE = 3, EXIT_INTERRUPT = 130 };

Host *host_new(const HostOptions *o);
void host_free(Host *h);
/* Raised by Ctrl-C; cleared before each unit. With host_fit the only globals of the program: a signal handler's. */
extern volatile int host_interrupt;
/* While a fit runs a first Ctrl-C ends it and the program goes on; tg then exits with EXIT_INTERRUPT at its end. */
extern FitSignal host_fit;
void host_catch_interrupt(void);

/* Runs a region: passes, plan, execution. out: r->nout tensors. */
bool host_run(Host *h, Graph *g, const Region *r, Tensor *out, Fault *fault);
/* The same for what is computed on the side, while checking or to explain a fault: without dumps. */
bool host_compute(Host *h, Graph *g, const Region *r, Tensor *out, Fault *fault);
/* The passes and the plan, without running it; the caller frees it. NULL with *fault. */
Plan *host_plan(Host *h, Graph *g, Region *r, Fault *fault);
/* Parses, checks and runs one unit; prints diagnostics and faults to stderr. Returns an exit code. */
int host_unit(Host *h, const char *name, const char *text, size_t len, UnitKind kind);
/* TG_CACHE_DIR, else the user's cache folder; NULL: compiled kernels are not kept on disk. */
const char *host_cache_dir(Host *h);
void host_report(Host *h); /* prints and clears what diags hold */
void host_report_fault(Host *h, const Fault *f);

/* The library's modules, embedded when tg was built. */
const char *library_module(void *ctx, const char *name, size_t *len);
int library_count(void);
const char *library_name(int i);

/* Whole file as text (malloc'd, NUL-terminated). NULL with a message on stderr. */
char *host_read_file(const char *path, size_t *len);
char *host_read_stream(FILE *f, size_t *len);
#endif
