/* The scalar functions: one row for each unary float, number or test row of scalar.def, and the few that are made of
 * them. */
#include "lang/session.h"

static Value *unary(Elab *E, const Builtin *self, Call *c, Value **bound) {
  return tv_elementwise(E, (ScalarOp)self->data, 1, bound, &c->arg[0].span, c->span);
}

static Value *where_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  return tv_select(E, bound[0], bound[1], bound[2], c->span);
}

/* min(max(x, lo), hi); an end that is none is open. */
static Value *clip_fn(Elab *E, const Builtin *self, Call *c, Value **bound) {
  Value *r = bound[0];
  for (int k = 0; k < 2; k++) {
    if (bound[k + 1]->kind == V_NONE) continue;
    Value *pair[2] = {r, bound[k + 1]};
    Span at[2] = {c->arg[0].span, c->span};
    r = tv_elementwise(E, k ? OP_MIN : OP_MAX, 2, pair, at, c->span);
  }
  return r;
}

/* Which rows of scalar.def are functions of the language: by typing and arity. */
#define ROW_F1(id, name, doc) {name, "x", unary, doc, id},
#define ROW_N1(id, name, doc) {name, "x", unary, doc, id},
#define ROW_P1(id, name, doc) {name, "x", unary, doc, id},
#define ROW_F2(id, name, doc)
#define ROW_N2(id, name, doc)
#define ROW_C2(id, name, doc)
#define ROW_L1(id, name, doc)
#define ROW_L2(id, name, doc)
#define ROW_B2(id, name, doc)
#define ROW_S3(id, name, doc)
#define ROW_K1(id, name, doc)

const Builtin builtins_scalar[] = {
#define OP(id, name, arity, typing, fval, ival, prim, adj_x, adj_y, doc) ROW_##typing##arity(id, name, doc)
#include "graph/scalar.def"
#undef OP
    {"where", "c, a, b", where_fn,
     "a where c, else b; element by element. No gradient and no nan comes from the side not taken.", 0},
    {"clip", "x, lo, hi", clip_fn, "x limited to lo..hi; none leaves an end open.", 0},
    {0},
};
