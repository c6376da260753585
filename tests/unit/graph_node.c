/* Nodes: interning, shapes, rewriting, the text form, the verifier. */
#include "graph/internal.h"
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <string.h>

static Arena *arena;
static Graph *g;
static void up(void) {
  arena = arena_new();
  g = graph_new(arena, diags_new(arena));
}
static void down(void) { arena_free(arena); }
TestSuite(graph_node, .init = up, .fini = down);

#define DIMS(...)                                                                                                      \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]) { __VA_ARGS__ }
static Expr *I(int64_t v) { return ex_int(g, DT_I64, v); }
static Expr *it(int k) { return ex_iter(g, k); }
static Expr *op(ScalarOp o, Expr *a, Expr *b) { return ex_op2(g, o, a, b); }
static Expr *at(Node *n, int k, Expr *const *idx) { return ex_load(g, n, k, idx, NULL, false, (Span){0}); }
#define AT(n, ...) at(n, (int)(sizeof((Expr *[]){__VA_ARGS__}) / sizeof(Expr *)), (Expr *[]){__VA_ARGS__})
static Expr *val(Node *n) { return at(n, 0, NULL); }
static Node *map_(int n, const int64_t *extent, Expr *body, Expr *guard) {
  return nd_comp(g, n, 0, extent, RED_NONE, body, guard);
}
#define map(...) map_(__VA_ARGS__)
static Node *map1(Node *x, ScalarOp o) {
  return nd_comp(g, x->rank, 0, x->dim, RED_NONE, ex_op1(g, o, ex_load_full(g, x, 0)), NULL);
}

Test(graph_node, interned_by_value) {
  Node *x = nd_input(g, DT_F32, DIMS(3, 4), "x", 0), *y = nd_input(g, DT_F32, DIMS(3, 4), "x", 0);
  cr_assert_neq(x, y);
  cr_assert_eq(map1(x, OP_EXP), map1(x, OP_EXP));
  cr_assert_neq(map1(x, OP_EXP), map1(y, OP_EXP));
  float a[] = {1, 2}, b[] = {1, 3};
  cr_assert_eq(nd_const(g, DT_F32, DIMS(2), a), nd_const(g, DT_F32, DIMS(2), a));
  cr_assert_neq(nd_const(g, DT_F32, DIMS(2), a), nd_const(g, DT_F32, DIMS(2), b));
  cr_assert_eq(nd_comp(g, 2, 0, x->dim, RED_NONE, ex_load_full(g, x, 0), NULL), x);
  cr_assert_neq(nd_comp(g, 2, 0, (int64_t[]){2, 4}, RED_NONE, ex_load_full(g, x, 0), NULL), x);
  cr_assert_neq(map(DIMS(4, 3), AT(x, it(1), it(0)), NULL), x);
  cr_assert_eq((uintptr_t)nd_const(g, DT_F32, DIMS(2), a)->data % 64, 0);
}

static ErrId fails_with(void (*fn)(void)) {
  DIAG_TRY(g->diags) { fn(); }
  DIAG_CAUGHT(g->diags) { return g->diags->last->id; }
  DIAG_END(g->diags);
  return E_NONE;
}
static void too_large(void) { nd_input(g, DT_F32, DIMS(4000000000, 4000000000), "x", 0); }
static void negative(void) { nd_input(g, DT_F32, DIMS(3, -1), "x", 0); }
static void empty_but_huge(void) { nd_input(g, DT_F32, DIMS(0, INT64_MAX, INT64_MAX), "x", 0); }
static void too_many_points(void) { nd_comp(g, 0, 2, (int64_t[]){INT64_MAX, INT64_MAX}, RED_SUM, I(1), NULL); }
static void too_many_axes(void) {
  int64_t dim[40];
  for (int i = 0; i < 40; i++) dim[i] = 1;
  nd_comp(g, 40, 0, dim, RED_NONE, I(1), NULL);
}
Test(graph_node, impossible_shapes_are_the_users) {
  cr_assert_eq(fails_with(too_large), S_OVERFLOW);
  cr_assert_eq(fails_with(negative), S_NEGATIVE);
  cr_assert_eq(fails_with(empty_but_huge), S_OVERFLOW);
  cr_assert_eq(fails_with(too_many_points), S_OVERFLOW);
  cr_assert_eq(fails_with(too_many_axes), S_RANK);
}

/* A fold over 10 rows of x: s + x[t], stacking s, with a loop inside that doubles n times. */
static Node *nested_loop(Node *x, Node *init) {
  Node *s = nd_param(g, DT_F32, 0, NULL, "s"), *t = nd_counter(g, 0, 9);
  Node *u = nd_param(g, DT_F32, 0, NULL, "u");
  Node *step = nd_scalar(g, op(OP_ADD, op(OP_MUL, val(u), ex_float(g, DT_F32, 2)), val(s)));
  Node *inner = nd_loop(g, &(Loop){.nstate = 1, .init = &s, .param = &u, .trip = 3, .body = {1, &step, 0, NULL}});
  Node *next = nd_scalar(g, op(OP_ADD, val(nd_get(g, inner, 0)), AT(x, val(t))));
  Node *out[] = {next, s};
  return nd_loop(
      g,
      &(Loop){
          .nstate = 1, .init = &init, .param = &s, .counter = t, .trip = 10, .nstack = 1, .body = {2, out, 0, NULL}});
}

Test(graph_node, loops_bind_their_params) {
  Node *x = nd_input(g, DT_F32, DIMS(10), "x", 0), *zero = nd_scalar(g, ex_float(g, DT_F32, 0)), *const * free;
  Node *l = nested_loop(x, zero);
  cr_assert_eq(l->nres, 3);
  cr_assert_eq(l->res[1].dim[0], 10);
  cr_assert_eq(nd_free_params(l, &free), 0);
  cr_assert_eq(nd_free_params(l->loop.body.out[0], &free), 2);
  Node *inner = ((const NodeX *)l->loop.body.out[0])->in[0]->get.of;
  cr_assert_eq(inner->kind, ND_LOOP);
  cr_assert_eq(nd_free_params(inner, &free), 1);
  Node *out = nd_get(g, l, 0);
  graph_verify(g, &(Region){1, &out, 0, NULL});
}

Test(graph_node, rewriting_refreshes_params) {
  Node *x = nd_input(g, DT_F32, DIMS(10), "x", 0), *y = nd_input(g, DT_F32, DIMS(10), "y", 1),
       *zero = nd_scalar(g, ex_float(g, DT_F32, 0));
  Node *l = nested_loop(x, zero), *root[] = {nd_get(g, l, 0), nd_get(g, l, 1)}, *old = root[0];
  graph_rewrite(g, 1, &x, &y, 2, root);
  Node *m = root[0]->get.of;
  cr_assert_neq(m, l);
  cr_assert_eq(root[1]->get.of, m);
  cr_assert_neq(m->loop.param[0], l->loop.param[0]);
  cr_assert_neq(m->loop.counter, l->loop.counter);
  cr_assert_eq(m->loop.counter->param.hi, 9);
  graph_verify(g, &(Region){2, root, 0, NULL});
  Node *both[] = {old, root[0]};
  graph_verify(g, &(Region){2, both, 0, NULL});
  graph_rewrite(g, 1, &y, &y, 2, root); /* nothing changes */
  cr_assert_eq(root[0]->get.of, m);
  Node *z = nd_input(g, DT_F32, DIMS(10), "z", 2); /* not reached */
  graph_rewrite(g, 1, &z, &x, 2, root);
  cr_assert_eq(root[0]->get.of, m);
}

Test(graph_node, chains_of_100000_nodes) {
  Node *x = nd_input(g, DT_F32, DIMS(4), "x", 0), *y = nd_input(g, DT_F32, DIMS(4), "y", 1), *n = x, **order;
  for (int k = 0; k < 100000; k++) n = map1(n, k & 1 ? OP_SIN : OP_EXP);
  cr_assert_eq(graph_topo(g, 1, &n, &order), 100001);
  cr_assert_eq(order[0], x);
  graph_rewrite(g, 1, &x, &y, 1, &n);
  cr_assert_eq(graph_topo(g, 1, &n, &order), 100001);
  cr_assert_eq(order[0], y);
}

/* ---- Text -------------------------------------------------------------------------------------------------------- */

static const char *roundtrip(const Region *r) {
  char *text = graph_print(g, arena, r), *error;
  Region back;
  cr_assert(graph_parse(g, text, &back, &error), "%s in\n%s", error, text);
  graph_verify(g, &back);
  char *again = graph_print(g, arena, &back);
  cr_assert_str_eq(again, text);
  return text;
}
static const char *roundtrip1(Node *n) { return roundtrip(&(Region){1, &n, 0, NULL}); }

Test(graph_node, text_of_a_contraction) {
  Node *a = nd_input(g, DT_F32, DIMS(4, 7), "a", 0), *b = nd_input(g, DT_F32, DIMS(7, 5), "b", 1);
  Node *c = nd_comp(g, 2, 1, (int64_t[]){4, 5, 7}, RED_SUM, op(OP_MUL, AT(a, it(0), it(2)), AT(b, it(2), it(1))),
                    op(OP_LT, it(2), it(0)));
  cr_assert_str_eq(roundtrip1(c),
                   "%0 = input f32[4, 7] \"a\" slot 0\n"
                   "%1 = input f32[7, 5] \"b\" slot 1\n"
                   "%2 = comp f32[4, 5] for i0 4, i1 5 sum i2 7: (mul %0[i0, i2] %1[i2, i1]) if (lt i2 i0)\n"
                   "return (%2)\n");
}

Test(graph_node, text_of_constants_is_exact) {
  double d[] = {0.1, -0.0, 1.0 / 3, INFINITY, -INFINITY, NAN, 5e-324, 1e22, 123456789.123};
  roundtrip1(nd_const(g, DT_F64, DIMS(9), d));
  float f[] = {0.1f, 1e-45f, 3.4028235e38f, 16777217.0f};
  cr_assert(strstr(roundtrip1(nd_const(g, DT_F32, DIMS(2, 2), f)), "{0.1, "));
  int64_t i[] = {INT64_MIN, INT64_MAX, 0, -1};
  roundtrip1(nd_const(g, DT_I64, DIMS(4), i));
  uint8_t u[] = {0, 255, 7};
  roundtrip1(nd_const(g, DT_U8, DIMS(3), u));
  roundtrip1(nd_const(g, DT_BOOL, DIMS(0, 3), NULL));
  uint16_t h[1000];
  for (int k = 0; k < 1000; k++) h[k] = (uint16_t)(k * 31);
  char *text = graph_print(g, arena, &(Region){1, (Node *[]){nd_const(g, DT_F16, DIMS(10, 100), h)}, 0, NULL}), *error;
  Region back;
  cr_assert(graph_parse(g, text, &back, &error));
  cr_assert(!memcmp(back.out[0]->data, h, sizeof h));
  cr_assert_eq(back.out[0], nd_const(g, DT_F16, DIMS(10, 100), h));
}

Test(graph_node, text_of_every_expression) {
  Node *x = nd_input(g, DT_F32, DIMS(9, 9), "x", 0), *k = nd_input(g, DT_I32, DIMS(9), "k", 1);
  Expr *i = it(0), *j = it(1), *kj = ex_cast(g, DT_I64, AT(k, j));
  Expr *lin = ex_lin(g, -3, 3, (int64_t[]){2, -1, INT64_MIN}, (Expr *[]){i, j, kj});
  Expr *mask = ex_and(g, op(OP_GE, i, I(1)), op(OP_NE, j, I(8)));
  Expr *idx[] = {op(OP_MOD, lin, I(9)), kj};
  Expr *l = ex_load(g, x, 2, idx, mask, true, (Span){0});
  Expr *e = op(OP_ADD, op(OP_MUL, l, l), ex_float(g, DT_F32, 1.0 / 3)); /* l is shared: named */
  e = ex_select(g, op(OP_LT, l, ex_float(g, DT_F32, NAN)), e, ex_op1(g, OP_NEG, ex_float(g, DT_F32, -0.0)));
  e = op(OP_POW, e, ex_cast(g, DT_F32, AT(k, i)));
  Node *n = map(DIMS(9, 9), e, NULL);
  cr_assert(strstr(roundtrip1(n), "let $0 = "));
  Expr *bits = op(OP_XOR, op(OP_PHILOX, I(INT64_MIN), op(OP_ADD, op(OP_MUL, i, I(9)), j)), I(-1));
  roundtrip1(map(DIMS(9, 9), op(OP_SHR, op(OP_BAND, bits, I(255)), I(3)), NULL));
  roundtrip1(map(DIMS(9), op(OP_ADD, AT(k, i), ex_int(g, DT_I32, -7)), NULL));
  roundtrip1(nd_comp(g, 0, 2, (int64_t[]){9, 9}, RED_ARGMAX, AT(x, i, j), op(OP_LT, i, j)));
  roundtrip1(nd_comp(g, 0, 1, (int64_t[]){9}, RED_ALL, op(OP_GT, AT(k, i), ex_int(g, DT_I32, 0)), NULL));
  Expr *chain = AT(x, i, j);
  for (int d = 0; d < 5000; d++) chain = ex_op1(g, d & 1 ? OP_SIN : OP_EXP, chain); /* deep: cut by names */
  roundtrip1(map(DIMS(9, 9), chain, NULL));
}

/* A cut is part of the value where the order of terms counts, and nowhere else; the simplifier leaves it as it is. */
Test(graph_node, cut_reductions) {
  Node *x = nd_input(g, DT_F32, DIMS(20, 3), "x", 0), *k = nd_input(g, DT_I64, DIMS(20), "k", 1);
  int64_t *e = (int64_t[]){20, 3};
  Expr *body = AT(x, it(0), it(1)), *positive = op(OP_GT, body, ex_float(g, DT_F32, 0));
  Node *n = nd_comp_cut(g, 0, 2, e, RED_SUM, body, NULL, 9);
  cr_assert_eq(n->comp.chunk, 9);
  cr_assert_eq(n, nd_comp_cut(g, 0, 2, e, RED_SUM, body, NULL, 9));
  cr_assert_neq(n, nd_comp_cut(g, 0, 2, e, RED_SUM, body, NULL, 12));
  cr_assert_neq(n, nd_comp(g, 0, 2, e, RED_SUM, body, NULL));
  cr_assert(strstr(roundtrip1(n), " cut 9"));
  roundtrip1(nd_comp_cut(g, 0, 2, e, RED_SUM, body, positive, 3));
  Node *whole = nd_comp_cut(g, 0, 2, e, RED_PROD, body, NULL, 60); /* one chunk still orders what is below it */
  cr_assert_eq(whole->comp.chunk, 60);
  cr_assert_eq(nd_comp_cut(g, 0, 1, e, RED_SUM, AT(k, it(0)), NULL, 3),
               nd_comp(g, 0, 1, e, RED_SUM, AT(k, it(0)), NULL));
  cr_assert_eq(nd_comp_cut(g, 0, 2, e, RED_ARGMAX, body, NULL, 9), nd_comp(g, 0, 2, e, RED_ARGMAX, body, NULL));
  cr_assert_eq(nd_comp_cut(g, 0, 2, e, RED_ANY, positive, NULL, 9), nd_comp(g, 0, 2, e, RED_ANY, positive, NULL));
  Node *one = nd_comp_cut(g, 0, 2, (int64_t[]){1, 3}, RED_SUM, AT(x, it(0), it(1)), NULL, 9);
  Node *root[2] = {n, one};
  Region r = {2, root, 0, NULL};
  graph_simplify(g, &r);
  cr_assert_eq(r.out[0], n);
  cr_assert_eq(r.out[1], one);
  Node *y = nd_input(g, DT_F32, DIMS(20, 3), "y", 2), *moved = n;
  graph_rewrite(g, 1, &x, &y, 1, &moved);
  cr_assert(moved != n && moved->comp.chunk == 9);
  graph_verify(g, &r);
}

Test(graph_node, text_of_every_node) {
  Node *x = nd_input(g, DT_F32, DIMS(10), "x \"q\"\n", 3), *k = nd_input(g, DT_I64, DIMS(7), "k", 1);
  Node *zero = nd_scalar(g, ex_float(g, DT_F32, 0));
  Node *scan = nd_scan(g, DIMS(10), RED_SUM, AT(x, it(0)), true, true);
  Node *sc = nd_scatter(g, DT_F32, DIMS(10), scan, DIMS(7), (Expr *[]){AT(k, it(0))}, AT(x, it(0)),
                        op(OP_LT, it(0), I(5)), SC_ADD, true);
  Node *sc0 = nd_scatter(g, DT_F32, DIMS(10), NULL, DIMS(3), (Expr *[]){op(OP_MUL, it(0), I(3))}, AT(x, it(0)), NULL,
                         SC_SET, false);
  Node *loop = nested_loop(x, zero);
  Node *pred = nd_scalar(g, op(OP_GT, val(zero), ex_float(g, DT_F32, 1)));
  Native print = {.name = "print", .effect = true}, sort = {.name = "sort"};
  Natives table = {.arena = arena};
  natives_add(&table, &print);
  natives_add(&table, &sort);
  g->natives = &table;
  Attr attr[] = {{.s = "a\tb", .i = -3, .f = -3}, {.i = 1, .f = 1.5}, {.i = 0, .f = 0}};
  TensorType res[] = {{DT_F32, DIMS(10)}, {DT_I64, 0, NULL}};
  Node *srt = nd_call(g, &sort, 3, attr, 2, (Node *[]){sc, sc0}, 2, res);
  cr_assert_eq(srt, nd_call(g, &sort, 3, attr, 2, (Node *[]){sc, sc0}, 2, res));
  Node *pr = nd_call(g, &print, 0, NULL, 1, &sc, 0, NULL);
  cr_assert_neq(pr, nd_call(g, &print, 0, NULL, 1, &sc, 0, NULL));
  Node *a = nd_get(g, srt, 0), *b = nd_get(g, loop, 0);
  Node *cond = nd_cond(g, pred, &(Region){1, &b, 1, &pr}, &(Region){1, &zero, 0, NULL});
  Node *p[] = {nd_param(g, DT_F32, DIMS(10), "a"), nd_param(g, DT_F32, DIMS(10), "y"),
               nd_param(g, DT_F32, DIMS(10), "dy")};
  Node *adj = map(DIMS(10), op(OP_MUL, AT(p[0], it(0)), AT(p[2], it(0))), NULL);
  Node *cust = nd_custom(g, map1(a, OP_EXP), 1, &a, p, &adj);
  Node *steps = nd_get(g, loop, 2), *out[] = {cust, nd_get(g, cond, 0), steps, nd_get(g, loop, 1)};
  const char *text = roundtrip(&(Region){4, out, 1, &cond});
  cr_assert(strstr(text, "effects"));
  Region back;
  char *error;
  cr_assert(graph_parse(g, text, &back, &error));
  cr_assert_eq(back.effect[0]->cond.yes.effect[0]->call.fn, &print);
  /* a while loop with a dynamic trip count */
  Node *s = nd_param(g, DT_F32, 0, NULL, "s"), *next = map1(s, OP_EXP), *trip = nd_scalar(g, AT(k, I(0)));
  Node *go = nd_scalar(g, op(OP_LT, val(s), ex_float(g, DT_F32, 100)));
  Node *w = nd_loop(g, &(Loop){.nstate = 1,
                               .init = &zero,
                               .param = &s,
                               .trip = 50,
                               .trip_node = trip,
                               .cond = go,
                               .reverse = true,
                               .body = {1, &next, 0, NULL}});
  roundtrip1(nd_get(g, w, 0));
}

Test(graph_node, malformed_text_is_refused) {
  static const char *const bad[] = {"",
                                    "return",
                                    "return (%0)",
                                    "%1 = input f32[3] \"x\" slot 0\nreturn (%1)",
                                    "%0 = inputs f32[3]\nreturn ()",
                                    "%0 = input f32[3] \"x\nreturn ()",
                                    "%0 = input f33[3] \"x\" slot 0\nreturn ()",
                                    "%0 = input f32[-3] \"x\" slot 0\nreturn ()",
                                    "%0 = comp f32[3] for i0 3: 1\nreturn (%0)",
                                    "%0 = comp i64[3] for i0 4: 1\nreturn (%0)",
                                    "%0 = comp i64[3] for i0 3: (add 1)\nreturn (%0)",
                                    "%0 = comp i64[3] for i0 3: (mul 1 1.5:f32)\nreturn (%0)",
                                    "%0 = comp i64[3] for i0 3: $0\nreturn (%0)",
                                    "%0 = comp i64[] for sum: 1\nreturn (%0)",
                                    "%0 = comp i64[3] for i0 3: ((((\nreturn (%0)",
                                    "%0 = const u8[3] {1, 2}\nreturn (%0)",
                                    "%0 = comp u8[] for : 300:u8\nreturn (%0)",
                                    "%0 = get f32[] %0 0\nreturn (%0)",
                                    "%0 = input f32[3] \"x\" slot 0 junk\nreturn ()",
                                    "%0 = comp f32[] for : (exp 1)\nreturn (%0)",
                                    "%0 = comp f32[] for sum i0 4, i1 3 cut 4: 0.5:f32\nreturn (%0)",
                                    "%0 = comp f32[] for sum i0 4 cut 0: 0.5:f32\nreturn (%0)",
                                    "%0 = input f32[3] \"x\" slot 0\n%1 = comp f32[] for : %0[0, 0]\nreturn (%1)"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    Region r;
    char *error = NULL;
    cr_assert_not(graph_parse(g, bad[i], &r, &error), "accepted: %s", bad[i]);
    cr_assert(error && strstr(error, "line "), "%s", bad[i]);
  }
}

/* ---- Verifier ---------------------------------------------------------------------------------------------------- */

static void verify1(Node *n) { graph_verify(g, &(Region){1, &n, 0, NULL}); }
Test(graph_node, verifier_refuses_free_params, .signal = SIGABRT) {
  verify1(map1(nd_param(g, DT_F32, DIMS(3), "p"), OP_EXP));
}
Test(graph_node, verifier_refuses_foreign_iterators, .signal = SIGABRT) { verify1(map(DIMS(3), it(1), NULL)); }
Test(graph_node, verifier_refuses_variables, .signal = SIGABRT) { verify1(map(DIMS(3), ex_var(g, 1), NULL)); }
Test(graph_node, verifier_refuses_certain_overruns, .signal = SIGABRT) {
  Node *x = nd_input(g, DT_F32, DIMS(3), "x", 0);
  verify1(map(DIMS(3), AT(x, op(OP_ADD, it(0), I(3))), NULL));
}
