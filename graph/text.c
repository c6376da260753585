/* The graph as text, one line a node, children first; parse.c reads it back.
 *
 *   %0 = input f32[4, 7] "a" slot 0
 *   %1 = const i64[3] {2, 0, 1}
 *   %2 = param i64[] "t" in 0..9
 *   %3 = comp f32[4, 5] for i0 4, i1 5 sum i2 7: (mul %0[i0, i2] %1[i2, i1]) if (lt i2 i0)
 *   %3 = comp f32[5] for i0 5 sum i1 64, i2 3 cut 24: %0[i1, i2, i0]                        Comp.chunk
 *   %4 = scan f32[4] for i0 4 sum reverse exclusive: %3[i0, 0]
 *   %5 = scatter f32[10] %4 for i0 7 add checked: at [%1[i0]] %3[i0, 0] if ...              base, or `zeros` for none
 *   %6 = loop states (%7 = %0, ...) counter %2 trip 10 reverse upto %8 while %9 next (%a, ...) stack (%b) effects (%c)
 *   %7 = cond %4 then (%5) effects (%6) else (%7)
 *   %8 = call "sort" effect attrs ("s", 3, 1/0x1.8p+0) (%1, %2) -> (f32[3], i64[])
 *   %9 = get f32[3] %8 0
 *   %9 = custom f32[3] %4 args (%0) params (%1, %2, %3) adjoints (%4)
 *   return (%3, %9) effects (%8)
 *
 * Expressions: i0, v7 (free iterator), 3 (i64), 3:i32, 0.5:f32, true; (2*i0 + i1 - 3) a linear form; (op a b),
 * (cast:f32 a); %3[i0, i1] a load, %3![..] a checked one, %3[..]?mask a masked one. `let $0 = e, $1 = e in` before a
 * body names what it uses more than once, and keeps nesting shallow. Floats are decimal where that is short and
 * exact, else hexadecimal. Spans are not part of the text. */
#include "graph/internal.h"
#include "graph/scalar_eval.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_NEST = 100 };

typedef struct {
  int uses, depth, name;
} Info; /* name: -1 inline */
typedef struct Out {
  Graph *g;
  Arena *scratch;
  char *at;
  size_t n, cap;
  int *number; /* of a node, by id */
  Info *info;  /* of an expression, by id; cleared for each node */
  VEC(Expr *) seen;
  int names;
} Out;

static void put(Out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(Out *o, const char *fmt, ...) {
  for (;;) {
    va_list ap;
    va_start(ap, fmt);
    size_t room = o->cap - o->n;
    int k = vsnprintf(o->at ? o->at + o->n : NULL, room, fmt, ap);
    va_end(ap);
    if ((size_t)k < room) {
      o->n += (size_t)k;
      return;
    }
    size_t cap = o->cap ? o->cap * 2 : 4096;
    while (cap - o->n <= (size_t)k) cap *= 2;
    char *wider = arena_alloc(o->scratch, cap);
    if (o->n) memcpy(wider, o->at, o->n);
    o->at = wider;
    o->cap = cap;
  }
}

static void put_string(Out *o, const char *s) {
  put(o, "\"");
  for (; *s; s++) {
    if (*s == '"' || *s == '\\')
      put(o, "\\%c", *s);
    else if ((unsigned char)*s < 0x20)
      put(o, "\\x%02x", (unsigned char)*s);
    else
      put(o, "%c", *s);
  }
  put(o, "\"");
}

static void put_float(Out *o, DType t, double v) {
  char s[40];
  if (v != v) {
    put(o, "nan");
    return;
  }
  snprintf(s, sizeof s, "%.7g", v);
  double back = sc_round_f(t, strtod(s, NULL));
  if (back != v || signbit(back) != signbit(v)) snprintf(s, sizeof s, "%a", v);
  put(o, "%s", s);
}

static void put_type(Out *o, DType t, int rank, const int64_t *dim) {
  put(o, "%s[", dt_name(t));
  for (int i = 0; i < rank; i++) put(o, "%s%lld", i ? ", " : "", (long long)dim[i]);
  put(o, "]");
}

/* ---- Expressions ------------------------------------------------------------------------------------------------- */

static void put_expr(Out *o, Expr *e, bool top);

static void put_lin(Out *o, Expr *e) {
  put(o, "(");
  for (int i = 0; i < e->n; i++) {
    int64_t a = e->coef[i];
    if (i)
      put(o, a < 0 ? " - " : " + ");
    else if (a < 0)
      put(o, "-");
    uint64_t mag = a < 0 ? -(uint64_t)a : (uint64_t)a;
    if (mag != 1) put(o, "%llu*", (unsigned long long)mag);
    put_expr(o, e->arg[i], false);
  }
  if (e->num.i)
    put(o, " %c %llu", e->num.i < 0 ? '-' : '+',
        (unsigned long long)(e->num.i < 0 ? -(uint64_t)e->num.i : (uint64_t)e->num.i));
  put(o, ")");
}

/* `top`: the definition itself, not its name. */
static void put_expr(Out *o, Expr *e, bool top) {
  if (!top && o->info[e->id].name >= 0) {
    put(o, "$%d", o->info[e->id].name);
    return;
  }
  switch (e->kind) {
  case EX_CONST:
    if (e->dtype == DT_BOOL)
      put(o, e->num.i ? "true" : "false");
    else if (dt_is_float(e->dtype))
      put_float(o, e->dtype, e->num.f);
    else
      put(o, "%lld", (long long)e->num.i);
    if (e->dtype != DT_BOOL && e->dtype != DT_I64) put(o, ":%s", dt_name(e->dtype));
    break;
  case EX_ITER:
    put(o, "i%lld", (long long)e->num.i);
    break;
  case EX_VAR:
    put(o, "v%lld", (long long)e->num.i);
    break;
  case EX_LIN:
    put_lin(o, e);
    break;
  case EX_LOAD:
    put(o, "%%%d%s[", o->number[e->node->id], e->checked ? "!" : "");
    for (int i = 0; i < e->n; i++) {
      if (i) put(o, ", ");
      put_expr(o, e->arg[i], false);
    }
    put(o, "]");
    if (e->mask) {
      put(o, "?");
      put_expr(o, e->mask, false);
    }
    break;
  default:
    put(o, "(%s", op_info[e->op].name);
    if (e->op == OP_CAST) put(o, ":%s", dt_name(e->dtype));
    for (int i = 0; i < e->n; i++) {
      put(o, " ");
      put_expr(o, e->arg[i], false);
    }
    put(o, ")");
  }
}

static bool is_leaf(const Expr *e) { return e->kind <= EX_VAR || (e->kind == EX_LOAD && !e->n && !e->mask); }

static void count_uses(void *ctx, Expr *e) {
  Out *o = ctx;
  Info *f = &o->info[e->id];
  if (f->depth >= 0) return; /* counted for an earlier root of this node */
  f->depth = 0;
  vec_push(o->scratch, &o->seen, e);
  for (int i = 0; i < e->n; i++) o->info[e->arg[i]->id].uses++;
  if (e->mask) o->info[e->mask->id].uses++;
}

/* Names what several places use, and cuts deep nests. `o->seen` is children first. */
static void put_lets(Out *o, int nroot, Expr *const *root) {
  for (int i = 0; i < o->seen.n; i++) o->info[o->seen.at[i]->id] = (Info){0, -1, -1};
  o->seen.n = o->names = 0;
  for (int i = 0; i < nroot; i++)
    if (root[i]) {
      ex_visit(root[i], count_uses, o);
      o->info[root[i]->id].uses++;
    }
  for (int i = 0; i < o->seen.n; i++) {
    Expr *e = o->seen.at[i];
    int depth = 0;
    for (int k = 0; k < e->n; k++)
      if (o->info[e->arg[k]->id].depth > depth) depth = o->info[e->arg[k]->id].depth;
    if (e->mask && o->info[e->mask->id].depth > depth) depth = o->info[e->mask->id].depth;
    Info *f = &o->info[e->id];
    f->depth = depth + 1;
    if (is_leaf(e) || (f->uses < 2 && f->depth < MAX_NEST)) continue;
    put(o, o->names ? ", $%d = " : "let $%d = ", o->names);
    put_expr(o, e, true);
    f->name = o->names++;
    f->depth = 0;
  }
  if (o->names) put(o, " in ");
}

/* ---- Nodes ------------------------------------------------------------------------------------------------------- */

static void put_list(Out *o, const char *head, int n, Node *const *at) {
  put(o, "%s(", head);
  for (int i = 0; i < n; i++) put(o, "%s%%%d", i ? ", " : "", o->number[at[i]->id]);
  put(o, ")");
}

static void put_region(Out *o, const char *head, const Region *r, int first) {
  put_list(o, head, r->nout - first, r->out + first);
  if (r->neffect) put_list(o, " effects ", r->neffect, r->effect);
}

static void put_iters(Out *o, int first, int n, const int64_t *extent) {
  for (int i = 0; i < n; i++) put(o, "%s i%d %lld", i ? "," : "", first + i, (long long)extent[first + i]);
}

static void put_body(Out *o, Expr *body, Expr *guard) {
  put_expr(o, body, false);
  if (!guard) return;
  put(o, " if ");
  put_expr(o, guard, false);
}

static void put_scatter(Out *o, const Node *n) {
  static const char *const how[] = {"set", "add", "max", "min"};
  const Comp *c = &n->scatter.src;
  if (n->scatter.base)
    put(o, " %%%d for", o->number[n->scatter.base->id]);
  else
    put(o, " zeros for");
  put_iters(o, 0, c->nout, c->extent);
  put(o, " %s%s: ", how[n->scatter.how], n->scatter.checked ? " checked" : "");
  Expr **root = arena_array(o->scratch, Expr *, n->rank + 2);
  if (n->rank) memcpy(root, n->scatter.idx, sizeof *root * (size_t)n->rank);
  root[n->rank] = c->body;
  root[n->rank + 1] = c->guard;
  put_lets(o, n->rank + 2, root);
  put(o, "at [");
  for (int i = 0; i < n->rank; i++) {
    if (i) put(o, ", ");
    put_expr(o, n->scatter.idx[i], false);
  }
  put(o, "] ");
  put_body(o, c->body, c->guard);
}

static void put_loop(Out *o, const Loop *l) {
  put(o, " states (");
  for (int i = 0; i < l->nstate; i++)
    put(o, "%s%%%d = %%%d", i ? ", " : "", o->number[l->param[i]->id], o->number[l->init[i]->id]);
  put(o, ")");
  if (l->counter) put(o, " counter %%%d", o->number[l->counter->id]);
  put(o, " trip %lld%s", (long long)l->trip, l->reverse ? " reverse" : "");
  if (l->trip_node) put(o, " upto %%%d", o->number[l->trip_node->id]);
  if (l->cond) put(o, " while %%%d", o->number[l->cond->id]);
  put_list(o, " next ", l->nstate, l->body.out);
  put_list(o, " stack ", l->nstack, l->body.out + l->nstate);
  if (l->body.neffect) put_list(o, " effects ", l->body.neffect, l->body.effect);
}

static void put_call(Out *o, const Node *n) {
  put(o, " ");
  put_string(o, n->call.fn->name);
  if (n->call.fn->effect) put(o, " effect");
  if (n->call.nattr) put(o, " attrs (");
  for (int i = 0; i < n->call.nattr; i++) {
    const Attr *a = &n->call.attr[i];
    if (i) put(o, ", ");
    if (a->s) put_string(o, a->s);
    put(o, "%s%lld", a->s ? " " : "", (long long)a->i);
    if (a->f != (double)a->i || signbit(a->f)) {
      put(o, "/");
      put_float(o, DT_F64, a->f);
    }
  }
  if (n->call.nattr) put(o, ")");
  put_list(o, " ", n->call.narg, n->call.arg);
  put(o, " -> (");
  for (int i = 0; i < n->nres; i++) {
    if (i) put(o, ", ");
    put_type(o, n->res[i].dtype, n->res[i].rank, n->res[i].dim);
  }
  put(o, ")");
}

static void put_data(Out *o, const Node *n) {
  int64_t size = nd_size(n);
  put(o, " {");
  for (int64_t i = 0; i < size; i++) {
    if (i) put(o, ", ");
    if (dt_is_float(n->dtype))
      put_float(o, n->dtype, dt_get_f(n->dtype, n->data, i));
    else
      put(o, "%lld", (long long)dt_get_i(n->dtype, n->data, i));
  }
  put(o, "}");
}

static void put_node(Out *o, const Node *n) {
  static const char *const kind[] = {"input", "const", "param", "comp", "scan",  "scatter",
                                     "loop",  "cond",  "call",  "get",  "custom"};
  put(o, "%%%d = %s", o->number[n->id], kind[n->kind]);
  if (n->kind != ND_LOOP && n->kind != ND_COND && n->kind != ND_CALL) {
    put(o, " ");
    put_type(o, n->dtype, n->rank, n->dim);
  }
  switch (n->kind) {
  case ND_INPUT:
  case ND_PARAM:
    put(o, " ");
    put_string(o, n->name);
    if (n->kind == ND_INPUT)
      put(o, " slot %lld", (long long)n->slot);
    else if (n->param.lo <= n->param.hi)
      put(o, " in %lld..%lld", (long long)n->param.lo, (long long)n->param.hi);
    break;
  case ND_CONST:
    put_data(o, n);
    break;
  case ND_COMP:
  case ND_SCAN: {
    const Comp *c = &n->comp;
    put(o, " for");
    put_iters(o, 0, c->nout, c->extent);
    if (c->op) put(o, " %s", red_name(c->op));
    put_iters(o, c->nout, c->nred, c->extent);
    if (c->chunk) put(o, " cut %lld", (long long)c->chunk);
    put(o, "%s%s: ", c->reverse ? " reverse" : "", c->exclusive ? " exclusive" : "");
    put_lets(o, 2, (Expr *[]){c->body, c->guard});
    put_body(o, c->body, c->guard);
    break;
  }
  case ND_SCATTER:
    put_scatter(o, n);
    break;
  case ND_LOOP:
    put_loop(o, &n->loop);
    break;
  case ND_COND:
    put(o, " %%%d", o->number[n->cond.pred->id]);
    put_region(o, " then ", &n->cond.yes, 0);
    put_region(o, " else ", &n->cond.no, 0);
    break;
  case ND_CALL:
    put_call(o, n);
    break;
  case ND_GET:
    put(o, " %%%d %d", o->number[n->get.of->id], n->get.index);
    break;
  case ND_CUSTOM:
    put(o, " %%%d", o->number[n->custom.primal->id]);
    put_list(o, " args ", n->custom.narg, n->custom.arg);
    put_list(o, " params ", n->custom.nparam, n->custom.param);
    put_list(o, " adjoints ", n->custom.narg, n->custom.adj);
    break;
  default:
    bug("node kind %d", n->kind);
  }
  put(o, "\n");
}

char *graph_print(Graph *g, Arena *a, const Region *r) {
  Out o = {.g = g, .scratch = arena_new()};
  int nroot = r->nout + r->neffect;
  Node **root = arena_array(o.scratch, Node *, nroot), **order;
  if (r->nout) memcpy(root, r->out, sizeof *root * (size_t)r->nout);
  if (r->neffect) memcpy(root + r->nout, r->effect, sizeof *root * (size_t)r->neffect);
  int n = graph_topo(g, nroot, root, &order);
  o.number = arena_array(o.scratch, int, g->next_id);
  o.info = arena_array(o.scratch, Info, g->next_id);
  for (uint32_t i = 0; i < g->next_id; i++) o.info[i] = (Info){0, -1, -1};
  for (int i = 0; i < n; i++) o.number[order[i]->id] = i;
  for (int i = 0; i < n; i++) put_node(&o, order[i]);
  put_region(&o, "return ", r, 0);
  put(&o, "\n");
  char *text = arena_strndup(a, o.at, o.n);
  arena_free(o.scratch);
  return text;
}
