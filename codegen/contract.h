/* Contractions: the normal form of a sum of products, and its axes as batch, M, N and K.
 *
 *   out[b, m, n] = sum over k of a[b, m, k] * b[b, n, k]
 *
 * An output iterator is classified by which factor's value depends on it (subscripts, masks and data all count):
 * both: batch; one: M or N, N being the side that holds the innermost of these iterators; none: with N if it is the
 * innermost output iterator, else with M. Every reduction iterator is K. So matrix products, transposed and batched
 * ones, convolutions of any stride and grouping, attention, and the adjoints of all of these are one form.
 *
 * Recognition is in two steps, because the numeric contract needs the factors fixed before anything fuses:
 *   contract_normal   graph -> graph, before fusion: brings a sum of a product to `post * sum(a * b)` with exactly two
 *                     factors, guards moved into the factors' loads as masks, and factors free of K hoisted
 *   contract_find     reads the classification off a body `a * b` (whatever has been inlined into a and b since)
 * Both depend on the form alone, never on extents: the same bits for any batch size. */
#ifndef TG_CODEGEN_CONTRACT_H
#define TG_CODEGEN_CONTRACT_H
#include "graph/graph.h"

enum { CONTRACT_MAX_ITER = 32 };

typedef struct Contract {
  Expr *a, *b; /* factors over the comp's iterators: a has M (and batch, K), b has N. dtype `prod` */
  DType prod;  /* dtype of the product: f16..f64, i32 or i64 (integers wrap) */
  DType acc;   /* of the accumulator: f32 for f16, bf16 and f32; f64; i64 */
  int nbatch, nm, nn, nk;
  int batch[CONTRACT_MAX_ITER], m[CONTRACT_MAX_ITER], n[CONTRACT_MAX_ITER], k[CONTRACT_MAX_ITER]; /* ascending */
  int64_t nB, nM, nN, nK; /* products of extents; 1 for none */
} Contract;

/* The comprehension (nout outputs, nred reductions, extents of both, sum of body) as a contraction: guard NULL, body a
 * MUL of two factors, each loading something and depending on a reduction iterator (or, for integers, a cast to i64 of
 * an i32 MUL). False if it is none. Sums without M and N (dot products, depthwise filters) are found too: nM == nN
 * == 1. */
bool contract_find(int nout, int nred, const int64_t *extent, Reduce op, Expr *body, Expr *guard, Contract *out);
bool contract_find_node(const Node *n, Contract *out); /* of an ND_COMP */

/* The node in normal form: n itself if it already is, or is no sum of products; else an equal node (up to rounding)
 * whose inner sum contract_find accepts wherever that is possible. */
Node *contract_normal(Graph *g, Node *n);

/* `contraction: M = 64 N = 25088 K = 576 batch = 1` */
char *contract_text(Arena *a, const Contract *c);
#endif
