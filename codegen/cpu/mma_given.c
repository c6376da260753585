/* Packing R of a contraction on the host: panels of a library's constant (mma.h, GEMM_GIVEN in rt/gemm.h). */
#include "codegen/cpu/mma.h"
#include <stdlib.h>
#include <string.h>

typedef struct Loads {
  const Node *n;
  int found;
} Loads;
static void see_load(void *ctx, Expr *e) {
  Loads *l = ctx;
  if (e->kind == EX_LOAD && e->node == l->n) l->found++;
}

/* The kernel loads the buffer of R in one place, R itself. */
static bool read_once(const MmaPlan *p) {
  Loads l = {p->R.buf->node, 0};
  for (int i = 0; i < p->k->nstage; i++) {
    const Stage *s = &p->k->stage[i];
    ex_visit(s->body, see_load, &l);
    if (s->guard) ex_visit(s->guard, see_load, &l);
  }
  return l.found == 1;
}

void mma_given_make(const MmaPlan *p, MmaGiven *g) {
  const Operand *o = &p->R;
  memset(g, 0, sizeof *g);
  if (!p->steady || !o->plain || o->ncond || o->from != p->c.acc || !p->gemm.K || !p->gemm.R) return;
  g->rows = 1; /* no compound literal: padding is compared too (panels.c) */
  g->R = p->gemm.R;
  g->K = p->gemm.K;
  g->base = o->at.c;
  g->np = o->np;
  g->nk = o->nk;
  g->mr = p->gemm.mr;
  g->esize = p->gemm.esize;
  g->arg = o->buf->arg;
  g->row = -1;
  g->alone = read_once(p);
  for (int i = 0; i < o->np; i++) g->pext[i] = o->ext[o->p[i]], g->pstep[i] = o->at.coef[o->p[i]];
  for (int i = 0; i < o->nk; i++) g->kext[i] = o->ext[o->kk[i]], g->kstep[i] = o->at.coef[o->kk[i]];
  if (!o->row) return;
  int d = 0;
  while (d < o->buf->rank && o->buf->stride[d] != o->row_step) d++;
  g->row = o->row->arg;
  g->row_step = o->row_step;
  g->rows = d < o->buf->rank ? o->buf->dim[d] : 0;
}

static int64_t up(int64_t n, int64_t d) { return (n + d - 1) / d * d; }

size_t mma_given_bytes(const MmaGiven *g) { return (size_t)(g->rows * up(g->R, g->mr) * g->K * g->esize); }

static void offsets(int64_t n, int naxis, const int64_t *ext, const int64_t *step, int64_t *out) {
  for (int64_t i = 0; i < n; i++) {
    int64_t at = 0, flat = i;
    for (int d = naxis - 1; d >= 0; d--) at += flat % ext[d] * step[d], flat /= ext[d];
    out[i] = at;
  }
}

bool mma_given_pack(const MmaGiven *g, const void *data, void *panel) {
  int64_t *at = malloc((size_t)(g->R + g->K) * sizeof *at), *atk = at + g->R;
  if (!at) return false;
  offsets(g->R, g->np, g->pext, g->pstep, at);
  offsets(g->K, g->nk, g->kext, g->kstep, atk);
  size_t es = (size_t)g->esize;
  char *to = panel;
  memset(panel, 0, mma_given_bytes(g));
  for (int64_t row = 0; row < g->rows; row++)
    for (int64_t p = 0; p < g->R; p += g->mr)
      for (int64_t k = 0; k < g->K; k++, to += (size_t)g->mr * es)
        for (int64_t i = 0; i < g->mr && p + i < g->R; i++)
          memcpy(to + (size_t)i * es,
                 (const char *)data + (size_t)(g->base + row * g->row_step + at[p + i] + atk[k]) * es, es);
  free(at);
  return true;
}
