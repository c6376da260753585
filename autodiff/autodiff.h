/* Derivatives: graphs in, graphs out. One algorithm for the comprehension (compiler.md 3), forward and reverse; loops,
 * branches, scans, scatters and calls each have a rule built from it. Nesting to any order is closure: what comes out
 * is an ordinary graph. Nodes that do not depend on x are constants. Nothing here fuses or schedules. */
#ifndef TG_AUTODIFF_AUTODIFF_H
#define TG_AUTODIFF_AUTODIFF_H
#include "graph/native.h"

/* dx[j] = sum_i ct[i] . dy[i]/dx[j], of x[j]'s type. x are usually PARAM stand-ins; y[i] may be x[j] itself. ct[i] has
 * y[i]'s type; NULL: zero. Integer and bool x get zeros. Every dx[j] is a node (zeros where nothing flows). */
void ad_vjp(Graph *g, const Natives *natives, int ny, Node *const *y, Node *const *ct, int nx, Node *const *x,
            Node **dx);
/* ty[i] = sum_j dy[i]/dx[j] . tx[j] (tx[j] of x[j]'s type). */
void ad_jvp(Graph *g, const Natives *natives, int nx, Node *const *x, Node *const *tx, int ny, Node *const *y,
            Node **ty);
#endif
