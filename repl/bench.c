/* `tg bench FILE`: times the expression statements of a file. Its other statements are the set-up: they run once, in
 * order, and their values are kept, so that an expression's time is its own plan's and nothing else. A line each:
 * median, minimum and number of runs, kernels, the expression. */
#include "cli.h"
#include "timing.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_RUNS = 1000, MIN_RUNS = 5 };
static const double budget = 1.0; /* seconds an expression */

/* Compiles the entry once and runs it until the budget is spent; the first run is not counted. */
static bool time_region(Host *h, Graph *g, Region *r, const char *text, Fault *fault) {
  double *t = malloc(MAX_RUNS * sizeof *t);
  Tensor *out = calloc((size_t)r->nout + 1, sizeof *out);
  Plan *p = NULL;
  bool ok = t && out && (p = host_plan(h, g, r, fault));
  int n = 0;
  double start = rt_seconds();
  for (int i = 0; ok && n < MAX_RUNS && (n < MIN_RUNS || rt_seconds() - start < budget); i++) {
    double t0 = rt_seconds();
    ok = plan_run(p, h->slot.n, h->slot.at, out, &h->nh, fault);
    double dt = rt_seconds() - t0;
    for (int k = 0; ok && k < r->nout; k++) tensor_drop(&out[k]);
    if (i) t[n++] = dt;
  }
  if (ok) {
    qsort(t, (size_t)n, sizeof *t, timing_order);
    fprintf(h->o.out, "%10.4f ms  min %10.4f  %4d runs  %3d kernels  %s\n", t[n / 2] * 1e3, t[0] * 1e3, n,
            plan_stats(p).kernels, text);
    fflush(h->o.out);
  }
  if (p) plan_free(p);
  free(t);
  free(out);
  return ok;
}

static int bench_entry(Host *h, const char *text) {
  Region unit = {0};
  Node **pending;
  char *silent = arena_printf(h->arena, "%s;", text);
  bool ok = session_unit(h->session, diag_source(h->diags, "<bench>", silent, strlen(silent)), UNIT_ENTRY, &unit);
  host_report(h);
  if (!ok) return EXIT_COMPILE;
  Fault fault = {0};
  int n = session_pending(h->session, &pending);
  Region r = {n, arena_copy(h->arena, pending, sizeof *pending * (size_t)n), unit.neffect, unit.effect};
  ok = time_region(h, session_graph(h->session), &r, text, &fault);
  session_abandon(h->session);
  if (!ok) host_report_fault(h, &fault);
  return ok ? EXIT_OK : EXIT_RUN;
}

int bench_run(const HostOptions *o, const char *path) {
  size_t len;
  char *text = host_read_file(path, &len);
  if (!text) return EXIT_USAGE;
  Host *h = host_new(o);
  host_catch_interrupt();
  Ast *file = parse_file(h->diags, h->arena, session_names(h->session), diag_source(h->diags, path, text, len));
  int code = h->diags->nerror ? EXIT_COMPILE : EXIT_OK;
  host_report(h);
  for (int i = 0; i < file->nkid && code == EXIT_OK; i++) {
    const Ast *k = file->kid[i];
    char *item = arena_strndup(h->arena, text + k->span.lo, k->span.hi - k->span.lo);
    code = k->kind == AST_EXPR ? bench_entry(h, item) : host_unit(h, path, item, strlen(item), UNIT_ENTRY);
  }
  host_free(h);
  free(text);
  return code;
}
