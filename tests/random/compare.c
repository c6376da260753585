/* Runs programs on the oracle and compiled, and compares. Programs come on standard input, separated by lines `---`.
 *
 * Every tensor that a program binds at its top level is computed by the oracle in f64, before and after simplification,
 * by the compiler on one thread, and by the compiler on three, where nothing is interpreted, however small. The two
 * compiled results must agree in every bit; with the oracle's to 1e-11 (f64) or 2e-5 (f32: programs may cancel) of the
 * tensor's largest magnitude, integers exactly. A bool of rank 0 whose value depends on data is a claim and must be
 * true. A program that faults must fault everywhere. With the argument `cuda` the second compiled run is on the CUDA
 * device, and must have the CPU's bits, but for sums of f16 and bf16 products, which agree with the oracle. Closing
 * line: N passed, N failed; failing programs are printed. */
#include "repl/host.h"
#include "codegen/cuda/session.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Compare {
  Codegen *one, *three;
  const char *other;
  int passed, failed;
  const char *program;
} Compare;

static bool fail(Compare *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool fail(Compare *c, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  printf("FAIL: ");
  vprintf(fmt, ap);
  va_end(ap);
  printf("\n%s---\n", c->program);
  fflush(stdout);
  return false;
}

/* dtype: of the program's value; the oracle's is f64 in either case. */
static bool agrees(Compare *c, const char *who, int k, DType dtype, const Tensor *want, const Tensor *got) {
  double scale = 0, tol = dtype == DT_F64 ? 1e-11 : dtype == DT_F32 ? 2e-5 : 2e-2;
  int64_t n = tensor_count(got);
  bool is_f = dt_is_float(got->dtype);
  for (int64_t i = 0; i < n && is_f; i++) {
    double w = fabs(dt_get_f(want->dtype, want->data, i));
    if (isfinite(w) && w > scale) scale = w;
  }
  for (int64_t i = 0; i < n; i++) {
    if (!is_f) {
      int64_t w = dt_get_i(want->dtype, want->data, i), g = dt_get_i(got->dtype, got->data, i);
      if (w != g)
        return fail(c, "binding %d, element %lld: oracle %lld, %s %lld", k, (long long)i, (long long)w, who,
                    (long long)g);
      continue;
    }
    double w = dt_get_f(want->dtype, want->data, i), g = dt_get_f(got->dtype, got->data, i);
    if (w == g || (isnan(w) && isnan(g))) continue;
    if (!(fabs(w - g) <= tol * fmax(scale, 0.1)))
      return fail(c, "binding %d, element %lld: oracle %.17g, %s %.17g", k, (long long)i, w, who, g);
  }
  return true;
}

/* Equal bytes; of two nans the payloads may differ. */
static bool same_bits(const Tensor *a, const Tensor *b) {
  size_t bytes = tensor_bytes(a), each = dt_bytes(a->dtype);
  const char *x = a->data, *y = b->data;
  if (bytes == 0 || !memcmp(x, y, bytes)) return true;
  if (!dt_is_float(a->dtype)) return false;
  for (int64_t i = 0, n = tensor_count(a); i < n; i++)
    if (memcmp(x + (size_t)i * each, y + (size_t)i * each, each) &&
        !(isnan(dt_get_f(a->dtype, x, i)) && isnan(dt_get_f(a->dtype, y, i))))
      return false;
  return true;
}

static bool run(Codegen *cg, Graph *g, Region *r, Host *h, Tensor *out, Fault *f) {
  Plan *p = codegen_plan(cg, g, r, f);
  bool ok = p && plan_run(p, h->slot.n, h->slot.at, out, &h->nh, f);
  if (p) plan_free(p);
  return ok;
}
static void drop(int n, Tensor *t) {
  for (int i = 0; i < n; i++) tensor_drop(&t[i]);
}

static bool compare(Compare *c, Host *h, Graph *g, int n, Node **node) {
  Region r = {.nout = n, .out = node};
  Fault f = {0}, f1 = {0}, f3 = {0};
  Tensor *want = calloc((size_t)n * 4 + 1, sizeof *want), *one = want + n, *three = one + n, *plain = three + n;
  EvalOptions eo = {.wide = true, .native_ctx = &h->nh};
  graph_verify(g, &r);
  bool ok = graph_eval(g, &r, h->slot.n, h->slot.at, want, &eo, &f), good = true;
  graph_simplify(g, &r);
  graph_verify(g, &r);
  Fault fs = {0};
  bool oks = graph_eval(g, &r, h->slot.n, h->slot.at, plain, &eo, &fs);
  bool ok1 = run(c->one, g, &r, h, one, &f1), ok3 = run(c->three, g, &r, h, three, &f3);
  if (ok != oks || ok != ok1 || ok != ok3 || f.id != f1.id || f.id != f3.id)
    good = fail(c, "faults differ: oracle `%s`, compiled `%s`, on %s `%s`", f.msg, f1.msg, c->other, f3.msg);
  for (int k = 0; k < n && good && ok && oks && ok1 && ok3; k++) {
    good = agrees(c, "simplified", k, one[k].dtype, &want[k], &plain[k]) &&
           agrees(c, "compiled", k, one[k].dtype, &want[k], &one[k]);
    if (good && !same_bits(&one[k], &three[k])) good = fail(c, "binding %d: 1 thread and %s differ", k, c->other);
    if (good && one[k].dtype == DT_BOOL && one[k].rank == 0 && !*(bool *)want[k].data)
      good = fail(c, "binding %d: the claim is false", k);
  }
  if (ok) drop(n, want);
  if (oks) drop(n, plain);
  if (ok1) drop(n, one);
  if (ok3) drop(n, three);
  free(want);
  return good;
}

static void check(Compare *c, const char *text) {
  HostOptions o = {.threads = 1, .stop = PASS_COUNT};
  Host *h = host_new(&o);
  Region unit;
  c->program = text;
  bool ok = session_unit(h->session, diag_source(h->diags, "<program>", text, strlen(text)), UNIT_ENTRY, &unit);
  if (!ok) {
    host_report(h);
    fail(c, "does not compile");
  } else {
    Node **pending;
    int n = session_pending(h->session, &pending);
    if (n == 0)
      ok = true; /* all static */
    else
      ok = compare(c, h, session_graph(h->session), n, arena_copy(h->arena, pending, sizeof *pending * (size_t)n));
    session_abandon(h->session);
  }
  if (ok)
    c->passed++;
  else
    c->failed++;
  host_free(h);
}

int main(int argc, char **argv) {
  char why[1024];
  size_t len;
  bool on_device = argc > 1 && !strcmp(argv[1], "cuda");
  const char *dir = getenv("TG_CACHE_DIR");
  Cuda *cuda = on_device ? cuda_open(0, 2, dir && strcmp(dir, "none") ? dir : NULL, why, sizeof why) : NULL;
  if (on_device && !cuda) return fprintf(stderr, "compare: no CUDA device: %s\n", why), 2;
  char *all = host_read_stream(stdin, &len);
  if (!all) return 2;
  Compare c = {.one = codegen_new(&(CodegenOptions){.threads = 1}),
               .three = codegen_new(&(CodegenOptions){.threads = 3, .interpret_below = -1, .cuda = cuda}),
               .other = on_device ? "the device" : "3 threads"};
  for (char *p = all, *next; p && *p; p = next) {
    char *end = strstr(p, "\n---\n");
    next = end ? end + 5 : NULL;
    if (end) end[1] = 0;
    if (p[strspn(p, " \n")]) check(&c, p);
  }
  codegen_free(c.one);
  codegen_free(c.three);
  free(all);
  printf("%d passed, %d failed\n", c.passed, c.failed);
  return c.failed != 0;
}
