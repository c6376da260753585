/* Reductions over samples with a chunk of their own (Comp.chunk): every way to run one has exactly the bits that
 * kernel.h defines, here written down literally; and the partial results of a tree's nodes, each from its samples
 * alone, join to the bits of the whole. */
#include "codegen_support.h"
#include "codegen/cuda/session.h"
#include "dist/shards.h"
#include "graph/scalar_eval.h"
#include <criterion/criterion.h>

enum { N = 5, M = 18, MAX_FORM = 20 };

/* The reduction space is [rows, inner...]; what loads at one flat position: offsets of x, and of y for products. */
typedef struct Form {
  const char *name, *op;
  int64_t nout;    /* outputs */
  bool lanes, fma; /* lanes: rows of at least 16 take ORD_LANES */
  int64_t last;    /* extent of the innermost reduction axis, and how many positions a row has */
  int64_t row;
  int64_t chunk;
  bool positive;     /* only where x > 0 */
  bool square, zero; /* the term is x * x, x * 0 */
  bool step;         /* the output is 1 - sum / 8 */
  bool alone;        /* no join of parts */
} Form;

typedef struct Case {
  DType t;
  int64_t rows, inner; /* of the whole batch: samples, positions of each */
  int nform;
  Form form[MAX_FORM];
  Tensor in[3]; /* x [rows, inner, N], z [rows, N, inner], g [rows, inner, M] */
} Case;

/* Samples of a shard times positions of a sample; halved while it is long and even. */
static int64_t chunk_of(int64_t rows, int64_t row) {
  int64_t l = (rows + TG_SHARDS - 1) / TG_SHARDS;
  while (l * row > 4096 && l % 2 == 0) l /= 2;
  return l * row;
}

/* ---- The definition ---------------------------------------------------------------------------------------------- */
static DType acc_of(DType t) { return t == DT_F64 ? DT_F64 : DT_F32; }
static double combine(DType t, char op, double a, double b) {
  if (op == 'm') return a > b || a != a ? a : b;
  return sc_round_f(acc_of(t), op == 'p' ? a * b : a + b);
}
static double term(const Case *c, const Form *f, double x) {
  return f->square ? sc_round_f(c->t, x * x) : f->zero ? x * 0 : x;
}

static double one_chunk(const Case *c, const Form *f, int64_t n, const double *x, const double *y) {
  double id = f->op[0] == 'p' ? 1 : f->op[0] == 'm' ? -INFINITY : 0, a[64];
  bool lanes = f->lanes && f->last >= 16;
  for (int i = 0; i < 64; i++) a[i] = id;
  for (int64_t k = 0; k < n; k++) {
    int64_t p = lanes ? k % f->last % 64 : 0;
    if (f->positive && !(x[k] > 0)) continue;
    if (f->fma)
      a[p] = c->t == DT_F64 ? fma(x[k], y[k], a[p]) : (double)fmaf((float)x[k], (float)y[k], (float)a[p]);
    else
      a[p] = combine(c->t, f->op[0], a[p], term(c, f, x[k]));
  }
  if (!lanes) return a[0];
  for (int l = 0; l < 16; l++)
    a[l] = combine(c->t, f->op[0], combine(c->t, f->op[0], a[l], a[16 + l]),
                   combine(c->t, f->op[0], a[32 + l], a[48 + l]));
  for (int h = 8; h; h /= 2)
    for (int l = 0; l < h; l++) a[l] = combine(c->t, f->op[0], a[l], a[l + h]);
  return a[0];
}

static double defined(const Case *c, const Form *f, int64_t n, const double *x, const double *y) {
  double slot[64];
  int used = 0;
  int64_t done = 0;
  for (int64_t k = 0; k < n; k += f->chunk) {
    int64_t len = n - k < f->chunk ? n - k : f->chunk;
    slot[used++] = one_chunk(c, f, len, x + k, y + k);
    for (int64_t m = ++done; m % 2 == 0; m /= 2, used--)
      slot[used - 2] = combine(c->t, f->op[0], slot[used - 2], slot[used - 1]);
  }
  for (; used > 1; used--) slot[used - 2] = combine(c->t, f->op[0], slot[used - 2], slot[used - 1]);
  double sum = sc_round_f(c->t, slot[0]);
  return f->step ? sc_round_f(c->t, 1 - sc_round_f(c->t, sum * 0.125)) : sum;
}

/* ---- The forms --------------------------------------------------------------------------------------------------- */
typedef struct Text {
  char *at;
  size_t n;
  FILE *to;
} Text;

/* "i1 8, i2 3 cut 3" after `first` output iterators; a sample of one position has no iterator of its own. */
static void put_space(FILE *o, const Form *f, int64_t rows, int first, int64_t inner) {
  fprintf(o, "i%d %lld", first, (long long)rows);
  if (inner > 1) fprintf(o, ", i%d %lld", first + 1, (long long)inner);
  fprintf(o, " cut %lld: ", (long long)f->chunk);
}
static const char *inner_name(const Case *c, int k) {
  static const char *const name[] = {"i1", "i2", "i3"};
  return c->inner > 1 ? name[k] : "0";
}

/* The region of all forms over `rows` samples. */
static char *text_of(const Case *c, int64_t rows) {
  const char *t = dt_name(c->t), *i2 = inner_name(c, 1), *i3 = inner_name(c, 2), *i1 = inner_name(c, 0);
  long long r = rows, k = c->inner;
  Text x = {0};
  FILE *o = open_memstream(&x.at, &x.n);
  fprintf(o, "%%0 = input %s[%lld, %lld, %d] \"x\" slot 0\n", t, r, k, N);
  fprintf(o, "%%1 = input %s[%lld, %d, %lld] \"z\" slot 1\n", t, r, N, k);
  fprintf(o, "%%2 = input %s[%lld, %lld, %d] \"g\" slot 2\n", t, r, k, M);
  int at = 3, out[MAX_FORM];
  for (int j = 0; j < c->nform; j++) {
    const Form *f = &c->form[j];
    if (!strcmp(f->name, "product") || !strcmp(f->name, "step")) {
      fprintf(o, "%%%d = comp %s[%d, %d] for i0 %d, i1 %d sum ", at, t, N, M, N, M);
      put_space(o, f, rows, 2, c->inner);
      fprintf(o, "(mul %%0[i2, %s, i0] %%2[i2, %s, i1])\n", i3, i3);
    } else if (!strcmp(f->name, "dot")) {
      fprintf(o, "%%%d = comp %s[] for sum ", at, t);
      put_space(o, f, rows, 0, c->inner);
      fprintf(o, "(mul %%0[i0, %s, 2] %%2[i0, %s, 3])\n", i1, i1);
    } else if (!strcmp(f->name, "whole")) {
      fprintf(o, "%%%d = comp %s[] for %s ", at, t, f->op);
      put_space(o, f, rows, 0, c->inner);
      fprintf(o, "%%0[i0, %s, 1]\n", i1);
    } else if (!strcmp(f->name, "contiguous")) {
      fprintf(o, "%%%d = comp %s[] for %s ", at, t, f->op);
      put_space(o, f, rows, 0, c->inner);
      fprintf(o, "%%1[i0, 4, %s]\n", i1);
    } else if (!strcmp(f->name, "column")) {
      fprintf(o, "%%%d = comp %s[%d] for i0 %d %s ", at, t, M, M, f->op);
      put_space(o, f, rows, 1, c->inner);
      fprintf(o, "%%2[i1, %s, i0]\n", i2);
    } else if (!strcmp(f->name, "running")) {
      fprintf(o, "%%%d = scan %s[%d, %lld, %lld] for i0 %d, i1 %lld, i2 %lld sum: %%1[i1, i0, i2]\n", at, t, N, r, k, N,
              r, k);
      fprintf(o, "%%%d = comp %s[%d] for i0 %d sum ", at + 1, t, N, N);
      put_space(o, f, rows, 1, c->inner);
      fprintf(o, "%%%d[i0, i1, %s]\n", at++, i2);
    } else if (!strcmp(f->name, "spread")) {
      fprintf(o, "%%%d = comp %s[%d] for i0 %d sum ", at, t, N, N);
      put_space(o, f, rows, 1, c->inner);
      fprintf(o, "let $0 = (sub %%1[i1, i0, %s] %%%d[i0]) in (mul $0 $0)\n", i2, out[0]);
    } else { /* rows */
      fprintf(o, "%%%d = comp %s[%d] for i0 %d %s ", at, t, N, N, f->op);
      put_space(o, f, rows, 1, c->inner);
      char *second = f->square ? "%1[i1, i0, " : f->zero ? "0.0:" : NULL;
      if (second) fprintf(o, "(mul ");
      fprintf(o, "%%1[i1, i0, %s]", i2);
      if (second) fprintf(o, " %s%s%s)", second, f->zero ? t : i2, f->zero ? "" : "]");
      if (f->positive) fprintf(o, " if (gt %%1[i1, i0, %s] 0.0:%s)", i2, t);
      fprintf(o, "\n");
    }
    if (f->step) {
      fprintf(o, "%%%d = comp %s[%d, %d] for i0 %d, i1 %d: (sub 1.0:%s (mul %%%d[i0, i1] 0.125:%s))\n", at + 1, t, N, M,
              N, M, t, at, t);
      at++;
    }
    out[j] = at++;
  }
  fprintf(o, "return (");
  for (int j = 0; j < c->nform; j++) fprintf(o, "%s%%%d", j ? ", " : "", out[j]);
  fprintf(o, ")\n");
  fclose(o);
  return x.at;
}

static double value(const Case *c, int in, int64_t at) { return dt_get_f(c->t, c->in[in].data, at); }

/* Terms of output o: x, and y for products. */
static void terms(const Case *c, const Form *f, int64_t o, double *x, double *y) {
  double run = 0;
  for (int64_t r = 0, k = 0; r < c->rows; r++)
    for (int64_t i = 0; i < c->inner; i++, k++) {
      int64_t row = r * c->inner + i;
      y[k] = 0;
      if (!strcmp(f->name, "product") || !strcmp(f->name, "step"))
        x[k] = value(c, 0, row * N + o / M), y[k] = value(c, 2, row * M + o % M);
      else if (!strcmp(f->name, "dot"))
        x[k] = value(c, 0, row * N + 2), y[k] = value(c, 2, row * M + 3);
      else if (!strcmp(f->name, "whole"))
        x[k] = value(c, 0, row * N + 1);
      else if (!strcmp(f->name, "contiguous"))
        x[k] = value(c, 1, (r * N + 4) * c->inner + i);
      else if (!strcmp(f->name, "column"))
        x[k] = value(c, 2, row * M + o);
      else
        x[k] = value(c, 1, (r * N + o) * c->inner + i);
      if (!strcmp(f->name, "running")) {
        x[k] = run = i ? combine(c->t, 's', run, x[k]) : x[k];
        x[k] = sc_round_f(c->t, run);
      }
    }
  if (strcmp(f->name, "spread")) return;
  double sum = defined(c, &c->form[0], c->rows * c->inner, x, y);
  for (int64_t k = 0; k < c->rows * c->inner; k++) x[k] = sc_round_f(c->t, x[k] - sum);
}

static void add_form(Case *c, const char *name, const char *op, int64_t nout, Form like) {
  like.name = name, like.op = op, like.nout = nout;
  like.last = c->inner > 1 ? c->inner : 1;
  like.row = c->inner;
  like.chunk = chunk_of(c->rows, c->inner);
  c->form[c->nform++] = like;
}

static void case_make(Case *c, DType t, int64_t rows, int64_t inner) {
  *c = (Case){.t = t, .rows = rows, .inner = inner};
  add_form(c, "rows", "sum", N, (Form){.lanes = true});
  add_form(c, "rows", "sum", N, (Form){.lanes = true, .square = true}); /* shares the loop of the first */
  add_form(c, "rows", "sum", N, (Form){.lanes = true, .positive = true});
  add_form(c, "rows", "max", N, (Form){.lanes = true});
  add_form(c, "rows", "max", N, (Form){.lanes = true, .zero = true}); /* of equal ones the last */
  add_form(c, "running", "sum", N, (Form){.lanes = true});            /* sums of running sums of each sample's row */
  add_form(c, "spread", "sum", N,
           (Form){.lanes = true, .square = true, .alone = true}); /* about the first form's sum */
  add_form(c, "column", "sum", M, (Form){0});
  add_form(c, "column", "prod", M, (Form){.alone = true});
  add_form(c, "whole", "sum", 1, (Form){0});
  add_form(c, "contiguous", "sum", 1, (Form){.lanes = true});
  add_form(c, "dot", "sum", 1, (Form){.fma = true});
  add_form(c, "product", "sum", N * M, (Form){.fma = true});
  add_form(c, "step", "sum", N * M, (Form){.fma = true, .step = true, .alone = true}); /* with an epilogue */
  const int64_t dim[3][3] = {{rows, inner, N}, {rows, N, inner}, {rows, inner, M}};
  for (int i = 0; i < 3; i++) {
    tensor_alloc(&c->in[i], t, 3, dim[i]);
    prog_fill(&c->in[i], (uint64_t)(rows * 1000 + inner * 4 + i));
  }
  for (int64_t i = 0, n = tensor_count(&c->in[1]); i < n; i += 3) dt_put_f(t, c->in[1].data, i, i % 2 ? 0.0 : -0.0);
}
static void case_free(Case *c) {
  for (int i = 0; i < 3; i++) tensor_drop(&c->in[i]);
}

/* ---- Running ----------------------------------------------------------------------------------------------------- */
/* Outputs over samples [lo, hi), by the given compiler. */
static void run(Codegen *cg, const Case *c, int64_t lo, int64_t hi, Tensor *out) {
  char *text = text_of(c, hi - lo), *error;
  Prog p = {.a = arena_new(), .nin = 3};
  p.g = graph_new(p.a, diags_new(p.a));
  cr_assert(graph_parse(p.g, text, &p.r, &error), "%s: %s", text, error);
  for (int i = 0; i < 3; i++) {
    int64_t dim[3] = {hi - lo, c->in[i].dim[1], c->in[i].dim[2]};
    size_t row = tensor_bytes(&c->in[i]) / (size_t)c->rows;
    tensor_alloc(&p.in[i], c->t, 3, dim);
    memcpy(p.in[i].data, (char *)c->in[i].data + row * (size_t)lo, row * (size_t)(hi - lo));
  }
  Fault fault = {0};
  Plan *plan = codegen_plan(cg, p.g, &p.r, &fault);
  cr_assert(plan, "%s", fault.msg);
  cr_assert(plan_run(plan, 3, p.in, out, NULL, &fault), "%s", fault.msg);
  plan_free(plan);
  prog_free(&p);
  free(text);
}

static void drop(const Case *c, Tensor *out) {
  for (int j = 0; j < c->nform; j++) tensor_drop(&out[j]);
}

static void expect_same(const Case *c, int j, const Tensor *got, const Tensor *want, const char *how) {
  size_t size = (size_t)dt_bytes(c->t);
  for (int64_t i = 0; i < c->form[j].nout; i++)
    cr_assert(!memcmp((char *)got->data + (size_t)i * size, (char *)want->data + (size_t)i * size, size),
              "%s %s %s (form %d) over %lld x %lld, %s: output %lld is %a, not %a", dt_name(c->t), c->form[j].name,
              c->form[j].op, j, (long long)c->rows, (long long)c->inner, how, (long long)i,
              dt_get_f(c->t, got->data, i), dt_get_f(c->t, want->data, i));
}

static void reference(const Case *c, Tensor *out) {
  int64_t n = c->rows * c->inner;
  double *x = malloc(sizeof *x * (size_t)n), *y = malloc(sizeof *y * (size_t)n);
  for (int j = 0; j < c->nform; j++) {
    tensor_alloc(&out[j], c->t, 1, &c->form[j].nout);
    for (int64_t o = 0; o < c->form[j].nout; o++) {
      terms(c, &c->form[j], o, x, y);
      dt_put_f(c->t, out[j].data, o, defined(c, &c->form[j], n, x, y));
    }
  }
  free(x);
  free(y);
}

/* Compilers: the walker, machine code on one thread, on three; or a CUDA device that is played by the host
 * (tests/cuda_host). */
typedef struct Ways {
  int n;
  Codegen *by[3];
  const char *name[3];
} Ways;
static Ways ways_new(void) {
  Ways w = {.n = 3, .name = {"walked", "1 thread", "3 threads"}};
  for (int i = 0; i < 3; i++)
    w.by[i] = codegen_new(&(CodegenOptions){.threads = i == 2 ? 3 : 1, .interpret_below = i ? -1 : INFINITY});
  return w;
}
static Ways ways_device(const char *order) {
  char why[512];
  setenv("TG_CUDA_DRIVER", TG_FAKE_CUDA, 1);
  setenv("TG_NVRTC", TG_FAKE_CUDA, 1);
  setenv("TG_FAKE_ORDER", order, 1);
  Cuda *cuda = cuda_open(0, 1, NULL, why, sizeof why);
  cr_assert(cuda, "%s", why);
  return (Ways){.n = 1, .name = {order}, .by = {codegen_new(&(CodegenOptions){.threads = 1, .cuda = cuda})}};
}
static void ways_free(Ways *w) {
  for (int i = 0; i < w->n; i++) codegen_free(w->by[i]);
}

static void check(Ways *w, DType t, int64_t rows, int64_t inner) {
  Case c;
  Tensor want[MAX_FORM], got[MAX_FORM];
  case_make(&c, t, rows, inner);
  reference(&c, want);
  for (int i = 0; i < w->n; i++) {
    if (rows <= 20 && w->n == 3 && i == 1 + rows % 2)
      continue; /* one thread and three by turns: compiling takes long */
    run(w->by[i], &c, 0, rows, got);
    for (int j = 0; j < c.nform; j++) expect_same(&c, j, &got[j], &want[j], w->name[i]);
    drop(&c, got);
  }
  drop(&c, want);
  case_free(&c);
}

Test(codegen_cut, bits_of_small_samples) {
  static const int64_t inner[] = {1, 3, 16, 17};
  Ways w = ways_new();
  for (int i = 0; i < 4; i++) {
    for (int64_t rows = 1; rows <= 20; rows++) check(&w, rows % 5 == i ? DT_F64 : DT_F32, rows, inner[i]);
    check(&w, DT_F32, 64, inner[i]);
    check(&w, DT_F32, 100, inner[i]);
  }
  check(&w, DT_F16, 20, 17);
  check(&w, DT_BF16, 64, 3);
  check(&w, DT_F32, 3000, 3); /* halved chunks */
  check(&w, DT_F32, 40000, 1);
  ways_free(&w);
}

Test(codegen_cut, bits_of_large_samples) { /* rows longer than a chunk of 4096, and chunks of many of them */
  Ways w = ways_new();
  static const int64_t rows[] = {1, 2, 7, 8, 9, 17};
  for (int i = 0; i < 6; i++) check(&w, DT_F32, rows[i], 784);
  for (int i = 0; i < 6; i++) check(&w, DT_F32, rows[i], 5000);
  ways_free(&w);
}

Test(codegen_cut, bits_on_a_device) {
  static const int64_t shape[][2] = {{5, 1}, {20, 3}, {13, 17}, {64, 16}, {9, 784}, {17, 5000}, {3000, 3}};
  static const char *const order[] = {"forward", "shuffle"};
  for (unsigned i = 0; i < sizeof shape / sizeof *shape; i++) {
    Ways w = ways_device(order[i % 2]);
    check(&w, i % 3 == 2 ? DT_F64 : DT_F32, shape[i][0], shape[i][1]);
    ways_free(&w);
  }
}

/* ---- Parts ------------------------------------------------------------------------------------------------------- */

/* Partial results of the nodes that each of nrank ranks owns, joined. */
static void check_ranks(Codegen *cg, const Case *c, const Tensor *whole, int nrank) {
  ShardNode node[TG_SHARDS];
  int n = 0;
  for (int r = 0; r < nrank; r++) n += shard_nodes(r * TG_SHARDS / nrank, (r + 1) * TG_SHARDS / nrank, node + n);
  int64_t l = (c->rows + TG_SHARDS - 1) / TG_SHARDS;
  Tensor part[TG_SHARDS][MAX_FORM];
  bool empty[TG_SHARDS];
  for (int k = 0; k < n; k++) {
    int64_t lo = node[k].lo * l, hi = node[k].hi * l;
    if (hi > c->rows) hi = c->rows;
    empty[k] = lo >= hi;
    if (!empty[k]) run(cg, c, lo, hi, part[k]);
  }
  for (int j = 0; j < c->nform; j++) {
    const Form *f = &c->form[j];
    if (f->alone) continue;
    double none[N * M], room[TG_SHARD_DEPTH + 1][N * M], joined[N * M];
    JoinOp op = strcmp(f->op, "max") ? JOIN_SUM : JOIN_MAX;
    const void *at[TG_SHARDS];
    for (int64_t i = 0; i < f->nout; i++) dt_put_f(c->t, none, i, op == JOIN_SUM ? -0.0 : -INFINITY);
    for (int k = 0; k < n; k++) at[k] = empty[k] ? (void *)none : part[k][j].data;
    join_tree(op, c->t == DT_F32 ? JOIN_F32 : JOIN_F64, f->nout, n, node, at, joined, room);
    Tensor got = whole[j];
    got.data = joined;
    char how[40];
    snprintf(how, sizeof how, "parts of %d ranks", nrank);
    expect_same(c, j, &got, &whole[j], how);
  }
  for (int k = 0; k < n; k++)
    if (!empty[k]) drop(c, part[k]);
}

Test(codegen_cut, parts_join_to_the_whole) {
  static const int64_t shape[][2] = {{1, 3},  {2, 17}, {7, 16},  {8, 1},   {13, 20},
                                     {20, 3}, {64, 1}, {64, 33}, {100, 5}, {9, 5000}};
  Ways w = ways_new();
  for (unsigned i = 0; i < sizeof shape / sizeof *shape; i++) {
    Case c;
    Tensor whole[MAX_FORM];
    case_make(&c, i % 3 == 2 ? DT_F64 : DT_F32, shape[i][0], shape[i][1]);
    run(w.by[1], &c, 0, c.rows, whole);
    for (int nrank = 1; nrank <= TG_SHARDS; nrank++) check_ranks(w.by[i % 2 ? 1 : 0], &c, whole, nrank);
    drop(&c, whole);
    case_free(&c);
  }
  ways_free(&w);
}
