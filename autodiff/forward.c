/* Forward mode: the transpose of reverse mode. With v a stand-in for the cotangent of y, vjp(v) is linear in v, so
 * jvp(t) = d/dv <vjp(v), t>. One set of rules serves both directions; what the second sweep does not need of the first
 * (all that is not linear in v) is dead and never computed. */
#include "internal.h"
#include <string.h>

static bool depends_on_any(int n, Node *const *x, Node *const *param) {
  for (int i = 0; i < n; i++) {
    Node *const *p;
    int np = nd_free_params(x[i], &p);
    for (int k = 0; k < np; k++)
      for (int j = 0; j < n; j++)
        if (p[k] == param[j]) return true;
  }
  return false;
}

void ad_jvp(Graph *g, const Natives *natives, int nx, Node *const *x, Node *const *tx, int ny, Node *const *y,
            Node **ty) {
  Arena *a = g->arena;
  Node **v = arena_array(a, Node *, ny), **dx = arena_array(a, Node *, nx), **part = arena_array(a, Node *, nx);
  Node **dv = arena_array(a, Node *, ny);
  for (int i = 0; i < ny; i++)
    v[i] = dt_is_float(y[i]->dtype) ? nd_param(g, y[i]->dtype, y[i]->rank, y[i]->dim, "v") : NULL;
  ad_vjp(g, natives, ny, y, v, nx, x, dx);
  int n = 0;
  for (int j = 0; j < nx; j++)
    if (dt_is_float(x[j]->dtype)) part[n++] = bd_dot(g, dx[j], tx[j]);
  /* Each <dx_j, t_j> is a scalar of its own dtype; the cotangent of each is 1. */
  Node **one = arena_array(a, Node *, n), **vs = arena_array(a, Node *, ny);
  for (int j = 0; j < n; j++) one[j] = nd_scalar(g, ex_num(g, part[j]->dtype, 1));
  int nv = 0;
  for (int i = 0; i < ny; i++)
    if (v[i]) vs[nv++] = v[i];
  ad_vjp(g, natives, n, part, one, nv, vs, dv);
  /* What is dead may still name v beside what is alive, as another state of one loop: it gets a value. */
  Node **zero = arena_array(a, Node *, nv);
  for (int i = 0; i < nv; i++) zero[i] = bd_zeros_like(g, vs[i]);
  if (depends_on_any(nv, dv, vs)) graph_rewrite(g, nv, vs, zero, nv, dv);
  for (int i = 0, k = 0; i < ny; i++) ty[i] = v[i] ? dv[k++] : bd_zeros_like(g, y[i]);
}
