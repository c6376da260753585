/* Inside tile*.c: the shape of a contraction in tiles, and the parts of its main loop. */
#ifndef TG_CODEGEN_CUDA_TILE_H
#define TG_CODEGEN_CUDA_TILE_H
#include "codegen/contract.h"
#include "codegen/cuda/emit.h"

typedef enum { STEP_FMA, STEP_F16, STEP_BF16, STEP_TF32 } TileStep;

/* Shared memory is one pool: two buffers of A's tile, two of B's; the epilogue's strip takes their place. FMA keeps a
 * tile as [k][side] in the accumulators' type; matrix steps as [side][k] in words of 32 bits, WORDS of them a row: bk
 * elements. */
enum { TILE_PAD = 4, TILE_WORDS = 16 };

typedef struct Tile {
  Contract q;
  TileStep step;
  DType acc;
  const char *type;        /* C type of accumulators */
  int bm, bn, bk, threads; /* block */
  int ty, tx, tm, tn; /* FMA: ty x tx threads with tm x tn accumulators; else warps with tm x tn products of 16 x 8 */
  int lda, ldb;       /* elements (FMA) or words from one k (FMA) or row to the next */
  int size_a, size_b; /* of one buffer, in elements or words */
  int64_t chunk, chunks; /* positions of K; how many such */
  int64_t mt, nt;        /* tiles of M and N */
} Tile;

/* Declares the iterators of a list from their flat position. */
void cu_tile_decode(Cu *c, const char *flat, int n, const int *iter);
/* Declares `unit`, the number of the least point that needs an element of a factor: the other side's iterators are 0.
 * For faults. */
void cu_tile_unit(Cu *c, int nother, const int *other);
int64_t cu_tile_extent(const Cu *c, int iter);

/* ---- tile_bring.c: emits what fills buffer `turn` of a factor with positions k1..k1 + kn. Sees m0 or n0 and the batch
 * iterators. */
void cu_tile_bring(Cu *c, const Tile *t, bool first);
#endif
