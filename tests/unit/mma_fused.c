/* Contractions with fused prologues (operands that are expressions, gathers, masked) and epilogues: the contract's
 * bits. */
#include "tests/unit/mma_check.h"
#include <criterion/criterion.h>

static const int64_t sizes[][3] = {{1, 17, 33},  {3, 5, 7},    {16, 31, 15}, {33, 100, 17},
                                   {45, 2, 100}, {100, 1, 31}, {20, 70, 5}};
enum { NSIZE = sizeof sizes / sizeof *sizes };

static Expr *relu(MmaCase *c, Expr *x) { return ex_op2(c->g, OP_MAX, x, ex_num(c->g, x->dtype, 0)); }

Test(mma, prologues) { /* relu(a) * (b * s[k]), in every layout */
  Tally t = {0};
  for (int i = 0; i < NSIZE; i++)
    for (int f = 0; f < 4; f++) {
      MmaCase c = mma_case();
      int64_t M = sizes[i][0], N = sizes[i][1], K = sizes[i][2];
      DType d = i == 3 ? DT_F64 : DT_F32;
      Node *a = f & 1 ? mma_input(&c, d, DIMS(K, M)) : mma_input(&c, d, DIMS(M, K));
      Node *b = f & 2 ? mma_input(&c, d, DIMS(N, K)) : mma_input(&c, d, DIMS(K, N));
      Node *s = mma_input(&c, d, DIMS(K));
      Expr *m = it_(&c, 0), *n = it_(&c, 1), *k = it_(&c, 2);
      Expr *x = relu(&c, f & 1 ? LOAD(&c, a, NULL, k, m) : LOAD(&c, a, NULL, m, k));
      Expr *y = ex_op2(c.g, OP_MUL, f & 2 ? LOAD(&c, b, NULL, n, k) : LOAD(&c, b, NULL, k, n), LOAD(&c, s, NULL, k));
      check(&c, nd_comp(c.g, 2, 1, (int64_t[]){M, N, K}, RED_SUM, ex_op2(c.g, OP_MUL, x, y), NULL), &t,
            arena_printf(c.arena, "prologue, size %d, layout %d", i, f));
    }
  cr_assert_geq(t.ran, 20);
}

Test(mma, gathered_rows) { /* table[tok[m], k] * b[k, n], or both gathered: * table[tok[n] , k] */
  Tally t = {0};
  for (int i = 0; i < 2 * NSIZE; i++) {
    MmaCase c = mma_case();
    bool twice = i >= NSIZE;
    int64_t M = sizes[i % NSIZE][0], N = sizes[i % NSIZE][1], K = sizes[i % NSIZE][2];
    Node *table = mma_input(&c, DT_F32, DIMS(9, K)), *b = mma_input(&c, DT_F32, DIMS(K, N)),
         *tok = mma_input(&c, DT_U8, DIMS(M > N ? M : N));
    for (int64_t j = 0; j < tensor_count(&c.t[2]); j++) ((uint8_t *)c.t[2].data)[j] %= 9;
    Expr *row = ex_cast(c.g, DT_I64, LOAD(&c, tok, NULL, it_(&c, 0)));
    Expr *x = ex_load(c.g, table, 2, (Expr *[]){row, it_(&c, 2)}, NULL, true, (Span){0});
    Expr *other = ex_cast(c.g, DT_I64, LOAD(&c, tok, NULL, it_(&c, 1)));
    Expr *y = twice ? ex_load(c.g, table, 2, (Expr *[]){other, it_(&c, 2)}, NULL, true, (Span){0})
                    : LOAD(&c, b, NULL, it_(&c, 2), it_(&c, 1));
    check(&c, nd_comp(c.g, 2, 1, (int64_t[]){M, N, K}, RED_SUM, ex_op2(c.g, OP_MUL, x, y), NULL), &t, "gathered rows");
  }
  cr_assert_geq(t.ran, 10);
}

Test(mma, masked_prologue_of_a_convolution) { /* relu of a padded image */
  Tally t = {0};
  for (int f = 0; f < 2; f++) {
    MmaCase c = mma_case();
    static const ConvShape q = {2, 3, 7, 11, 13, 3, 3, 1, 1};
    Node *n = form_conv(&c, f ? DT_F64 : DT_F32, &q);
    Expr *p = n->comp.body, *x = p->arg[0], *y = p->arg[1];
    if (x->node == c.in[1]) x = p->arg[1], y = p->arg[0];
    Expr *body = ex_op2(c.g, OP_MUL, ex_op2(c.g, OP_SUB, relu(&c, x), ex_num(c.g, x->dtype, 0.25)), y);
    check(&c, nd_comp(c.g, 4, 3, n->comp.extent, RED_SUM, body, NULL), &t, "masked prologue");
  }
  cr_assert_eq(t.ran, 2);
}

/* Adds an epilogue stage to the kernel of comp n: relu(n + bias[last axis]) where a residual is positive, else n,
 * result in dtype `to`. Returns the node whose value the oracle gives from n's sums, an input of its own. */
static Node *with_epilogue(MmaCase *c, Node *n, Kernel *k, DType to, Node **sums) {
  int rank = n->rank;
  Node *bias = mma_input(c, n->dtype, 1, n->dim + rank - 1), *res = mma_input(c, n->dtype, rank, n->dim);
  *sums = nd_input(c->g, n->dtype, rank, n->dim, "sums", c->nin);
  Node *out = NULL;
  Expr *body[2];
  for (int i = 0; i < 2; i++) { /* over the kernel's node, and over the oracle's input */
    Expr *x = ex_load_full(c->g, i ? *sums : n, 0), *b = LOAD(c, bias, NULL, it_(c, rank - 1));
    Expr *sum = x, *zero = ex_num(c->g, n->dtype, 0);
    x = ex_op2(c->g, OP_MAX, ex_op2(c->g, OP_ADD, x, b), zero);
    x = ex_select(c->g, ex_op2(c->g, OP_GT, ex_load_full(c->g, res, 0), zero), x,
                  sum); /* one rounding: the oracle's bits */
    body[i] = to == n->dtype ? x : ex_cast(c->g, to, x);
    out = nd_comp(c->g, rank, 0, n->dim, RED_NONE, body[i], NULL);
  }
  *k = *mma_kernel_of(c, n);
  KBuf *buf = arena_array(c->arena, KBuf, k->nbuf + 1);
  memcpy(buf, k->buf, sizeof *buf * (size_t)k->nbuf);
  int8_t *par = arena_array(c->arena, int8_t, rank);
  for (int i = 0; i < rank; i++) par[i] = (int8_t)i;
  buf[c->nin] = (KBuf){SP_REG, n->dtype, false, false, n, rank, n->dim, mma_strides(c->arena, rank, n->dim), par, -1};
  Node *kout = nd_comp(c->g, rank, 0, n->dim, RED_NONE, body[0], NULL);
  buf[c->nin + 1] =
      (KBuf){SP_GLOBAL, to, false, true, kout, rank, n->dim, mma_strides(c->arena, rank, n->dim), NULL, c->nin};
  k->buf = buf;
  k->nbuf++;
  Stage *st = arena_array(c->arena, Stage, 2);
  st[0] = k->stage[0];
  st[1] = (Stage){.kind = ST_MAP, .op = RED_NONE, .body = body[0], .out = c->nin + 1, .store = st[0].store};
  k->stage = st;
  k->nstage = 2;
  kernel_sites(k, c->arena);
  return out;
}

static void check_epilogue(MmaCase *c, Node *n, DType to, const char *what) {
  Kernel k;
  Node *sums, *out = with_epilogue(c, n, &k, to, &sums);
  Code code;
  bool disk, declined;
  const char *why = "";
  if (!mma_compile(the_jit(), c->g, &k, kernel_print(&k, c->arena), &code, &disk, &declined, &why)) {
    cr_assert(declined, "%s: %s", what, why);
    mma_case_free(c);
    return;
  }
  Tensor ref, got, s;
  cr_assert(mma_reference(c, n, &s));
  c->t[c->nin++] = s;
  Fault fault = {0};
  cr_assert(graph_eval(c->g, &(Region){1, &out, 0, NULL}, c->nin, c->t, &ref, &(EvalOptions){0}, &fault));
  c->nin--;
  for (int step = 0; step < 2; step++) {
    cr_assert(mma_run_code(&code, c, out, &got, step));
    for (int64_t i = 0; i < tensor_count(&ref); i++)
      cr_assert(!memcmp((char *)ref.data + i * dt_bytes(to), (char *)got.data + i * dt_bytes(to), (size_t)dt_bytes(to)),
                "%s: element %lld is %.9g, not %.9g", what, (long long)i, dt_get_f(to, got.data, i),
                dt_get_f(to, ref.data, i));
    tensor_drop(&got);
  }
  tensor_drop(&ref);
  tensor_drop(&s);
  code.drop(&code);
  mma_case_free(c);
}

Test(mma, epilogues) {
  for (int i = 0; i < NSIZE; i++)
    for (int f = 0; f < 3; f++) {
      MmaCase c = mma_case();
      check_epilogue(&c, form_matmul(&c, f == 1 ? DT_F64 : DT_F32, sizes[i][0], sizes[i][1], sizes[i][2], f & 1, false),
                     f == 2 ? DT_F16
                     : f    ? DT_F64
                            : DT_F32,
                     arena_printf(c.arena, "epilogue, size %d, form %d", i, f));
    }
}
Test(mma, epilogue_of_long_k) {
  MmaCase c = mma_case();
  check_epilogue(&c, form_matmul(&c, DT_F32, 5, 40, 9000, false, false), DT_F32, "long k");
}
Test(mma, epilogue_of_convolutions) {
  static const ConvShape q[] = {{2, 3, 5, 9, 11, 3, 3, 1, 0}, {1, 2, 6, 20, 20, 3, 3, 1, 1}};
  for (int i = 0; i < 2; i++) {
    MmaCase c = mma_case();
    check_epilogue(&c, form_conv(&c, DT_F32, &q[i]), DT_F32, "convolution");
  }
}

Test(mma, gather_out_of_range_is_a_fault) {
  MmaCase c = mma_case();
  Node *table = mma_input(&c, DT_F32, DIMS(9, 20)), *b = mma_input(&c, DT_F32, DIMS(20, 30)),
       *tok = mma_input(&c, DT_U8, DIMS(25));
  for (int64_t j = 0; j < 25; j++) ((uint8_t *)c.t[2].data)[j] = j == 13 ? 77 : (uint8_t)(j % 9);
  Expr *row = ex_cast(c.g, DT_I64, LOAD(&c, tok, NULL, it_(&c, 0)));
  Expr *x = ex_load(c.g, table, 2, (Expr *[]){row, it_(&c, 2)}, NULL, true, (Span){0});
  Node *n = nd_comp(c.g, 2, 1, (int64_t[]){25, 30, 20}, RED_SUM,
                    ex_op2(c.g, OP_MUL, x, LOAD(&c, b, NULL, it_(&c, 2), it_(&c, 1))), NULL);
  Kernel *k = mma_kernel_of(&c, n);
  Code code;
  bool disk, declined;
  const char *why = "";
  cr_assert(mma_compile(the_jit(), c.g, k, kernel_print(k, c.arena), &code, &disk, &declined, &why));
  Tensor out;
  cr_assert_not(mma_run_code(&code, &c, n, &out, 0));
  tensor_drop(&out);
  code.drop(&code);
  mma_case_free(&c);
}

Test(mma,
     merged_heads_split_k) { /* o[b, h, t, d] read as [b, t, h*D + d]: k // D and k % D; also as rows of the output */
  Tally t = {0};
  for (int f = 0; f < 3; f++) {
    MmaCase c = mma_case();
    int64_t B = 2, T = 7, H = 3, D = 8, N = 20;
    Node *o = f == 1 ? mma_input(&c, DT_F32, DIMS(B, T, H, D)) : mma_input(&c, DT_F32, DIMS(B, H, T, D));
    Node *w = mma_input(&c, DT_F32, DIMS(H * D, N));
    Expr *k = it_(&c, 3), *eight = ex_int(c.g, DT_I64, D);
    Expr *h = ex_op2(c.g, OP_FLOORDIV, k, eight), *d = ex_op2(c.g, OP_MOD, k, eight);
    Expr *x =
        f == 1 ? LOAD(&c, o, NULL, it_(&c, 0), it_(&c, 1), h, d) : LOAD(&c, o, NULL, it_(&c, 0), h, it_(&c, 1), d);
    Node *n = nd_comp(c.g, 3, 1, (int64_t[]){B, T, N, H * D}, RED_SUM,
                      ex_op2(c.g, OP_MUL, x, LOAD(&c, w, NULL, k, it_(&c, 2))), NULL);
    if (f == 2) { /* dW: out[h*D + d, n] = sum over b, t of o[b, h, t, d] * g[b, t, n] */
      Node *g = mma_input(&c, DT_F32, DIMS(B, T, N));
      Expr *m = it_(&c, 0);
      Expr *y =
          LOAD(&c, o, NULL, it_(&c, 2), ex_op2(c.g, OP_FLOORDIV, m, eight), it_(&c, 3), ex_op2(c.g, OP_MOD, m, eight));
      n = nd_comp(c.g, 2, 2, (int64_t[]){H * D, N, B, T}, RED_SUM,
                  ex_op2(c.g, OP_MUL, y, LOAD(&c, g, NULL, it_(&c, 2), it_(&c, 3), it_(&c, 1))), NULL);
    }
    MmaPlan p;
    cr_assert(mma_plan(c.g, mma_kernel_of(&c, n), jit_isa(the_jit()), &p));
    cr_expect(p.R.plain && p.V.plain, "form %d: an operand is not read as strides", f);
    check(&c, n, &t, arena_printf(c.arena, "merged heads %d", f));
  }
  cr_assert_eq(t.ran, 3);
}
