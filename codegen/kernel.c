/* Kernels as data: look-ups, fault sites, canonical text. */
#include "codegen/kernel.h"
#include "codegen/map.h"
#include "codegen/text.h"
#include <inttypes.h>
#include <string.h>

const KBuf *kernel_buf(const Kernel *k, const Node *n) {
  for (int i = 0; i < k->nbuf; i++)
    if (k->buf[i].node == n) return &k->buf[i];
  return NULL;
}

int64_t kernel_points(const Kernel *k) {
  int64_t n = 1;
  for (int i = 0; i < k->npar; i++) n *= k->par[i];
  return n;
}

int64_t stage_chunk(const Stage *s, int64_t *per_row) {
  int64_t inner = s->nred ? s->extent[s->nown + s->nred - 1] : 1;
  *per_row = 0;
  if (s->chunk) return s->chunk;
  if (s->order != ORD_LANES) return STAGE_CHUNK;
  if (inner < STAGE_CHUNK) return inner ? STAGE_CHUNK / inner * inner : 1;
  *per_row = (inner + STAGE_CHUNK - 1) / STAGE_CHUNK;
  return STAGE_CHUNK;
}

int64_t stage_chunks(const Stage *s) {
  int64_t per_row, size = stage_chunk(s, &per_row), total = 1;
  for (int i = 0; i < s->nred; i++) total *= s->extent[s->nown + i];
  if (per_row) return total / s->extent[s->nown + s->nred - 1] * per_row;
  return total / size + (total % size != 0);
}

/* ---- Walking a kernel's expressions in an order that depends on structure only --------------------------------- */

/* A LIN's atoms are sorted by creation; here iterators come first, by number, so that equal kernels walk equally. */
static void lin_order(const Expr *e, int *order) {
  for (int i = 0; i < e->n; i++) {
    int j = i;
    for (; j > 0; j--) {
      const Expr *a = e->arg[order[j - 1]], *b = e->arg[i];
      bool swap = b->kind == EX_ITER && (a->kind != EX_ITER || a->num.i > b->num.i);
      if (!swap) break;
      order[j] = order[j - 1];
    }
    order[j] = i;
  }
}

typedef struct Walk {
  NumMap seen; /* Expr -> number */
  int n;
  void (*fn)(void *ctx, struct Walk *w, const Expr *e);
  void *ctx;
} Walk;

/* Each distinct expression once, arguments first. Recursion is as deep as the expression, which the fuser caps. */
static void walk(Walk *w, const Expr *e) {
  if (!e || nummap_get(&w->seen, e) >= 0) return;
  if (e->kind == EX_LIN) {
    int order[64], *o = e->n <= 64 ? order : arena_array(w->seen.arena, int, e->n);
    lin_order(e, o);
    for (int i = 0; i < e->n; i++) walk(w, e->arg[o[i]]);
  } else {
    for (int i = 0; i < e->n; i++) walk(w, e->arg[i]);
  }
  if (e->kind == EX_LOAD) walk(w, e->mask);
  nummap_put(&w->seen, e, w->n++);
  w->fn(w->ctx, w, e);
}

static void walk_stage(Walk *w, const Kernel *k, const Stage *s) {
  if (s->kind == ST_SCATTER)
    for (int d = 0; d < k->buf[s->out].rank; d++) walk(w, s->at[d]);
  walk(w, s->guard);
  walk(w, s->body);
}

/* ---- Fault sites ------------------------------------------------------------------------------------------------ */
static bool can_fault(const Expr *e) {
  if (e->kind == EX_LOAD) return e->checked;
  return e->kind == EX_OP && (e->op == OP_FLOORDIV || e->op == OP_MOD) && dt_is_int((DType)e->dtype) &&
         !(e->arg[1]->kind == EX_CONST && e->arg[1]->num.i != 0);
}

/* The site table is found anew where it is asked for: kernels are small and sites rare. */
typedef struct Sites {
  const Kernel *k;
  const Expr *want;
  int n, found, alike;
  Span *span;
} Sites;

/* The same place of the source: a packed operand's expression is a copy with other iterators. */
static bool alike(const Expr *a, const Expr *b) {
  return a->kind == b->kind && a->op == b->op && (a->kind != EX_LOAD || a->node == b->node) &&
         a->span.file == b->span.file && a->span.lo == b->span.lo && a->span.hi == b->span.hi;
}

static void site_visit(void *ctx, Walk *w, const Expr *e) {
  Sites *s = ctx;
  if (!can_fault(e)) return;
  if (s->span) s->span[s->n] = e->span;
  if (e == s->want && s->found < 0) s->found = s->n;
  if (s->want && s->alike < 0 && alike(e, s->want)) s->alike = s->n;
  s->n++;
}

static int sites_walk(const Kernel *k, const Expr *want, Span *span, int *found) {
  Arena *tmp = arena_new();
  Sites s = {k, want, 0, -1, -1, span};
  Walk w = {{.arena = tmp}, 0, site_visit, &s};
  for (int i = 0; i < k->nstage; i++) {
    if (k->stage[i].kind == ST_SCATTER && k->stage[i].checked) {
      if (span) span[s.n] = k->stage[i].span;
      if (!want && s.found < 0) s.found = s.n;
      s.n++;
    }
    walk_stage(&w, k, &k->stage[i]);
  }
  arena_free(tmp);
  if (found) *found = s.found >= 0 ? s.found : s.alike;
  return s.n;
}

int kernel_site(const Kernel *k, const Expr *e) {
  int found;
  sites_walk(k, e, NULL, &found);
  if (found < 0) bug("kernel_site: no such site");
  return found;
}

void kernel_sites(Kernel *k, Arena *a) {
  k->nsite = sites_walk(k, NULL, NULL, NULL);
  k->site = arena_array(a, Span, k->nsite);
  sites_walk(k, NULL, k->site, NULL);
}

/* ---- Text ------------------------------------------------------------------------------------------------------- */
typedef struct Writer {
  Text t;
  const Kernel *k;
} Writer;

static void put_dims(Writer *t, const char *label, int n, const int64_t *dim) {
  text_put(&t->t, "%s", label);
  for (int i = 0; i < n; i++) text_put(&t->t, "%s%" PRId64, i ? " " : "", dim[i]);
}

static void put_ref(Writer *t, Walk *w, const Expr *e) {
  if (e->kind == EX_ITER)
    text_put(&t->t, "i%" PRId64, e->num.i);
  else if (e->kind == EX_CONST && !dt_is_float((DType)e->dtype))
    text_put(&t->t, "%" PRId64, e->num.i);
  else if (e->kind == EX_CONST)
    text_put(&t->t, "%a", e->num.f);
  else
    text_put(&t->t, "%%%d", nummap_get(&w->seen, e));
}

static int buf_index(const Kernel *k, const Node *n) {
  const KBuf *b = kernel_buf(k, n);
  if (!b) bug("kernel: a LOAD of node %u, which has no buffer", n->id);
  return (int)(b - k->buf);
}

static void put_expr(void *ctx, Walk *w, const Expr *e) {
  Writer *t = ctx;
  if (e->kind == EX_ITER || e->kind == EX_CONST) return;
  text_put(&t->t, "    %%%d = ", nummap_get(&w->seen, e));
  switch (e->kind) {
  case EX_LIN: {
    int order[64], *o = e->n <= 64 ? order : arena_array(t->t.a, int, e->n);
    lin_order(e, o);
    text_put(&t->t, "%" PRId64, e->num.i);
    for (int i = 0; i < e->n; i++) {
      text_put(&t->t, " + %" PRId64 "*", e->coef[o[i]]);
      put_ref(t, w, e->arg[o[i]]);
    }
    break;
  }
  case EX_LOAD:
    text_put(&t->t, "b%d[", buf_index(t->k, e->node));
    for (int i = 0; i < e->n; i++) {
      if (i) text_put(&t->t, ", ");
      put_ref(t, w, e->arg[i]);
    }
    text_put(&t->t, "]%s", e->checked ? " checked" : "");
    if (e->mask) {
      text_put(&t->t, " if ");
      put_ref(t, w, e->mask);
    }
    break;
  case EX_OP:
    text_put(&t->t, "%s.%s", op_info[e->op].name, dt_name((DType)e->dtype));
    for (int i = 0; i < e->n; i++) {
      text_put(&t->t, "%s", i ? ", " : " ");
      put_ref(t, w, e->arg[i]);
    }
    if (e->op == OP_CAST || op_info[e->op].typing == 'C' || op_info[e->op].typing == 'P')
      text_put(&t->t, " : %s", dt_name((DType)e->arg[0]->dtype));
    break;
  default:
    bug("kernel: expression kind %d", e->kind);
  }
  text_put(&t->t, "\n");
}

static const char *const stage_name[] = {"map", "reduce", "contract", "scan", "scatter"};
static const char *const space_name[] = {"global", "row", "reg"};
static const char *const combine_name[] = {"set", "add", "max", "min"};

static void put_stage(Writer *t, Walk *w, const Kernel *k, const Stage *s, int at) {
  text_put(&t->t, "  stage %d %s", at, stage_name[s->kind]);
  if (s->kind == ST_REDUCE || s->kind == ST_CONTRACT) {
    text_put(&t->t, " %s %s%s", red_name((Reduce)s->op), s->order == ORD_LANES ? "lanes" : "chain",
             s->fma ? " fma" : "");
    if (s->chunk) text_put(&t->t, " cut %" PRId64, s->chunk);
  }
  if (s->kind == ST_SCAN)
    text_put(&t->t, " %s%s%s", red_name((Reduce)s->op), s->reverse ? " reverse" : "", s->exclusive ? " exclusive" : "");
  if (s->kind == ST_SCATTER) text_put(&t->t, " %s%s", combine_name[s->how], s->checked ? " checked" : "");
  put_dims(t, " | ", s->nown, s->extent);
  put_dims(t, " ; ", s->nred, s->extent + s->nown);
  text_put(&t->t, " -> b%d", s->out);
  if (s->kind != ST_SCATTER) {
    text_put(&t->t, "(");
    for (int d = 0; d < k->buf[s->out].rank; d++) text_put(&t->t, "%s%d", d ? " " : "", s->store[d]);
    text_put(&t->t, ")");
  }
  text_put(&t->t, "\n");
  walk_stage(w, k, s);
  if (s->kind == ST_SCATTER) {
    text_put(&t->t, "    at [");
    for (int d = 0; d < k->buf[s->out].rank; d++) {
      if (d) text_put(&t->t, ", ");
      put_ref(t, w, s->at[d]);
    }
    text_put(&t->t, "]\n");
  }
  if (s->guard) {
    text_put(&t->t, "    if ");
    put_ref(t, w, s->guard);
    text_put(&t->t, "\n");
  }
  text_put(&t->t, "    = ");
  put_ref(t, w, s->body);
  text_put(&t->t, " : %s\n", dt_name((DType)s->body->dtype));
}

char *kernel_print(const Kernel *k, Arena *a) {
  Writer t = {.k = k};
  text_init(&t.t, a);
  put_dims(&t, "kernel [", k->npar, k->par);
  text_put(&t.t, "]%s\n", k->by_dest ? " by destination" : "");
  for (int i = 0; i < k->nbuf; i++) {
    const KBuf *b = &k->buf[i];
    text_put(&t.t, "  b%d %s %s", i, space_name[b->space], dt_name((DType)b->dtype));
    put_dims(&t, " [", b->rank, b->dim);
    text_put(&t.t, "]");
    if (b->space == SP_GLOBAL) {
      put_dims(&t, " strides [", b->rank, b->stride);
      text_put(&t.t, "] arg %d%s%s", b->arg, b->in ? " in" : "", b->out ? " out" : "");
    } else {
      text_put(&t.t, " par [");
      for (int d = 0; d < b->rank; d++) text_put(&t.t, "%s%d", d ? " " : "", b->par[d]);
      text_put(&t.t, "]");
    }
    text_put(&t.t, "\n");
  }
  Walk w = {{.arena = a}, 0, put_expr, &t};
  for (int i = 0; i < k->nstage; i++) put_stage(&t, &w, k, &k->stage[i], i);
  return t.t.at;
}
