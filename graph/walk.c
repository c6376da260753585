/* Traversals of expressions: visiting, rebuilding, substitution. Explicit stacks: a DAG may be 100,000 deep.
 *
 * Tables live on the C heap unless small, and are freed at the end, so callbacks must not unwind. */
#include "graph/internal.h"
#include <stdlib.h>
#include <string.h>

enum { SMALL_CAP = 32 };

/* Map from expression to result (its own address for visits); open addressing. */
typedef struct {
  Expr *key, *val;
} Slot;
typedef struct {
  Slot *slot;
  uint32_t cap, n;
  Slot few[SMALL_CAP];
} Memo;
/* Entries are expressions; the low bit says that their operands have been pushed. */
typedef struct {
  uintptr_t *at;
  int n, cap;
  uintptr_t few[SMALL_CAP];
} Stack;

static void *grab(size_t n, size_t size) {
  void *p = calloc(n, size);
  if (!p) {
    fprintf(stderr, "tg: out of memory (%zu bytes wanted)\n", n * size);
    exit(1);
  }
  return p;
}

static void memo_init(Memo *m) {
  memset(m->few, 0, sizeof m->few);
  m->slot = m->few;
  m->cap = SMALL_CAP;
  m->n = 0;
}

static Slot *memo_slot(Memo *m, const Expr *e) {
  uint32_t i = (uint32_t)(expr_x(e)->hash >> 7) & (m->cap - 1);
  while (m->slot[i].key && m->slot[i].key != e) i = (i + 1) & (m->cap - 1);
  return &m->slot[i];
}

static void memo_put(Memo *m, Expr *key, Expr *val) {
  if (m->n + 1 > m->cap / 2) {
    Slot *old = m->slot;
    uint32_t cap = m->cap;
    m->cap = cap * 2;
    m->slot = grab(m->cap, sizeof *m->slot);
    for (uint32_t i = 0; i < cap; i++)
      if (old[i].key) *memo_slot(m, old[i].key) = old[i];
    if (old != m->few) free(old);
  }
  *memo_slot(m, key) = (Slot){key, val};
  m->n++;
}

static void push(Stack *s, Expr *e) {
  if (s->n == s->cap) {
    uintptr_t *wider = grab((size_t)s->cap * 2, sizeof *wider);
    memcpy(wider, s->at, sizeof *wider * (size_t)s->n);
    if (s->at != s->few) free(s->at);
    s->at = wider;
    s->cap *= 2;
  }
  s->at[s->n++] = (uintptr_t)e;
}

static void stack_init(Stack *s) {
  s->at = s->few;
  s->n = 0;
  s->cap = SMALL_CAP;
}

static void release(Memo *m, Stack *s) {
  if (m->slot != m->few) free(m->slot);
  if (s->at != s->few) free(s->at);
}

/* The expression to work on next, or NULL at the end; *ready: all its operands have results. */
static Expr *next(Memo *m, Stack *s, bool *ready) {
  while (s->n) {
    uintptr_t top = s->at[s->n - 1];
    Expr *e = (Expr *)(top & ~(uintptr_t)1);
    *ready = top & 1;
    if (!memo_slot(m, e)->key) return e;
    s->n--;
  }
  return NULL;
}

static void open_operands(Memo *m, Stack *s, Expr *e) {
  s->at[s->n - 1] |= 1;
  if (e->mask && !memo_slot(m, e->mask)->key) push(s, e->mask);
  for (int i = e->n; i-- > 0;)
    if (!memo_slot(m, e->arg[i])->key) push(s, e->arg[i]);
}

void ex_visit(Expr *e, void (*fn)(void *ctx, Expr *e), void *ctx) {
  Memo m;
  Stack s;
  bool ready;
  if (!e->n && !e->mask) {
    fn(ctx, e);
    return;
  }
  memo_init(&m);
  stack_init(&s);
  push(&s, e);
  for (Expr *x; (x = next(&m, &s, &ready));) {
    if (!ready && (x->n || x->mask))
      open_operands(&m, &s, x);
    else {
      memo_put(&m, x, x);
      fn(ctx, x);
    }
  }
  release(&m, &s);
}

/* e with its operands replaced by their results; e itself when none differs. */
static Expr *remake(Graph *g, Memo *m, Expr *e, Node *to) {
  Expr *few[8], **arg = e->n <= 8 ? few : grab((size_t)e->n, sizeof *arg);
  Expr *mask = e->mask ? memo_slot(m, e->mask)->val : NULL, *r = e;
  bool same = mask == e->mask && to == e->node;
  for (int i = 0; i < e->n; i++) {
    arg[i] = memo_slot(m, e->arg[i])->val;
    same = same && arg[i] == e->arg[i];
  }
  if (!same) {
    Span outer = g->span;
    switch (e->kind) {
    case EX_LIN:
      r = ex_lin(g, e->num.i, e->n, e->coef, arg);
      break;
    case EX_LOAD:
      r = ex_raw_load(g, to, e->n, arg, mask, e->checked, e->span);
      break;
    case EX_OP:
      if (e->span.file) g->span = e->span; /* an operation keeps its place */
      r = e->op == OP_CAST ? ex_cast(g, e->dtype, arg[0]) : ex_op(g, e->op, e->n, arg);
      break;
    default:
      break;
    }
    g->span = outer;
  }
  if (arg != few) free(arg);
  return r;
}

Expr *ex_rebuild(Graph *g, Expr *e, const Rebuild *how) {
  Memo m;
  Stack s;
  bool ready;
  memo_init(&m);
  stack_init(&s);
  push(&s, e);
  for (Expr *x; (x = next(&m, &s, &ready));) {
    Expr *r = !ready && how->leaf ? how->leaf(how->ctx, x) : NULL;
    if (!r && !ready && (x->n || x->mask)) {
      open_operands(&m, &s, x);
      continue;
    }
    if (!r) {
      r = remake(g, &m, x, x->node && how->node ? how->node(how->ctx, x->node) : x->node);
      if (how->post) r = how->post(how->ctx, r);
    }
    memo_put(&m, x, r);
  }
  Expr *result = memo_slot(&m, e)->val;
  release(&m, &s);
  return result;
}

Expr *ex_map(Graph *g, Expr *e, ExprFn leaf, void *ctx) {
  return ex_rebuild(g, e, &(Rebuild){.leaf = leaf, .ctx = ctx});
}

typedef struct {
  int n;
  Expr *const *by;
  uint64_t mask;
} Subst;

static Expr *subst_leaf(void *ctx, Expr *e) {
  const Subst *s = ctx;
  if (!(expr_x(e)->iters & s->mask)) return e; /* nothing to replace below */
  return e->kind == EX_ITER && e->num.i < s->n ? s->by[e->num.i] : NULL;
}

Expr *ex_subst_iters(Graph *g, Expr *e, int n, Expr *const *by) {
  Subst s = {n, by, n >= 63 ? UINT64_MAX : (UINT64_C(1) << n) - 1};
  return ex_map(g, e, subst_leaf, &s);
}
