/* The blocked driver of contractions: C[loop, r, v] = sum over k of R[loop, r, k] * V[loop, v, k], then an epilogue.
 *
 * It knows three flat index spaces (rows r, vector columns v, k) and a few outer loop axes, never tensors: whatever an
 * operand is, a compiled pack function evaluates it at (loop, r or v, k) into panels, and a compiled micro-kernel
 * multiplies panels.
 *
 *   unit       one block of rb rows and vb columns at one loop point; numbered loop-major, row blocks fastest. A lane
 *              runs a range
 *   R panel    mr rows of a k-block: [k][mr]
 *   V panel    nr columns of a k-block: [k][nr], or V itself in place
 *
 * Order of every element's sum: one chain over ascending k in chunks of `chunk`, blocks of kb reload C (exact);
 * chunks are joined by the aligned pairwise tree. So units, blocks and panels never change a bit. Short chunks (`part`
 * steps) are joined by the micro-kernel, tile by tile; `chunk` is then a complete subtree of them, and one block of k.
 */
#ifndef TG_CODEGEN_RT_GEMM_H
#define TG_CODEGEN_RT_GEMM_H
#include <stddef.h>
#include <stdint.h>

enum { GEMM_MAX_LOOP = 16 };

typedef void (*GemmUkr)(int64_t kc, const void *a, const void *b, int64_t ldb, void *c, int64_t ldc, int64_t nrows,
                        int64_t ncols, int64_t load, void *stack);
/* Writes ceil(np / width) panels of nk rows for points p0.. and steps k0..; may write 15 elements beyond the last. */
typedef void (*GemmPack)(const void *args, const int64_t *loop, int64_t p0, int64_t np, int64_t k0, int64_t nk,
                         void *dst);
/* The same from a matrix at base, whose points or whose steps are ld elements apart (which, the function knows). */
typedef void (*GemmPackMatrix)(const void *base, int64_t ld, int64_t np, int64_t nk, void *dst);
/* Consumes finished sums c[nr, nv] (rows ldc elements apart) of rows r0.. and columns v0... */
typedef void (*GemmEpilogue)(const void *args, const int64_t *loop, int64_t r0, int64_t nr, int64_t v0, int64_t nv,
                             const void *c, int64_t ldc);

/* A matrix inside an argument: element (loop, i, j) at ptr[arg] + esize * (base + sum loop[d] * step[d] + i * ld + j),
 * and, when row_step is not 0, row_step * the i64 at ptr[row] further. */
typedef struct GemmPlace {
  int arg, esize, row;
  int64_t row_step;
  int64_t base, ld, step[GEMM_MAX_LOOP];
} GemmPlace;

/* How one side is packed. matrix: by this from `at`, where i counts points (else, by_k, steps). Else by fn. */
typedef struct GemmSide {
  GemmPack fn;
  GemmPackMatrix matrix;
  int by_k;
  GemmPlace at;
} GemmSide;

/* Panels of R that are not packed block by block: the whole side, each panel mr rows by all K. */
typedef enum {
  GEMM_PACK,   /* blocks are packed when they are needed */
  GEMM_SHARED, /* phase 0 packs the panels into shared memory: rt_gemm_pack; R is the same at all loop points */
  GEMM_GIVEN   /* they lie in argument panel.arg: a constant, packed when the library was built */
} GemmPanels;

typedef struct Gemm {
  int nloop;
  int64_t loop[GEMM_MAX_LOOP];
  int64_t part;                       /* 0: micro-kernels make one chain. Else chunk is part << n and at most kb */
  int64_t R, V, K, rb, vb, kb, chunk; /* rb a multiple of mr, vb of nr (or the whole extent) */
  int mr, nr, esize;
  int acc;           /* 0 f32, 1 f64, 2 i64 */
  GemmUkr ukr, edge; /* edge: for the last column tile when V % nr != 0 */
  GemmSide r, v;
  int panels;      /* GemmPanels */
  GemmPlace panel; /* GIVEN: base 0, no steps; a row's panels are row_step elements after those of the row before */
  int in_place;    /* V is not packed but read at v.at, rows of k */
  int columns;     /* V's panels, nr columns by all K, are packed by a phase of their own: rt_gemm_columns */
  GemmPlace c;     /* where sums go when epilogue is NULL */
  GemmEpilogue epilogue;
} Gemm;

enum { GEMM_WHOLE_V = 1 << 20 }; /* bytes of a V block over a chunk that stays packed for all its row blocks */

int64_t gemm_units(const Gemm *g);
size_t gemm_scratch(const Gemm *g); /* bytes a lane needs, 64-byte aligned */
int64_t gemm_panels(const Gemm *g); /* of R */
size_t gemm_panel_bytes(const Gemm *g);
/* One row block that is small stays packed while a lane's blocks need the same: shared panels would save nothing. */
int gemm_keeps_r(const Gemm *g);
/* Panels [lo, hi) of R into shared memory. */
void gemm_pack(const Gemm *g, const void *args, void *const *ptr, int64_t lo, int64_t hi, void *shared);
/* The same of V, at all loop points; [lo, hi) of as many pieces as there are, of a panel and about kb steps each. */
int64_t gemm_column_pieces(const Gemm *g);
void gemm_pack_columns(const Gemm *g, const void *args, void *const *ptr, int64_t lo, int64_t hi, void *shared);
/* Runs units [lo, hi). args is handed to pack functions and the epilogue; ptr are the arguments' addresses. */
void gemm_run(const Gemm *g, const void *args, void *const *ptr, int64_t lo, int64_t hi, void *scratch, void *shared);

/* Bytes of shared memory: the panels, and what the two phases below keep. */
size_t gemm_shared(const Gemm *g, int split);
/* The same in two phases, for few blocks and a long K: every chunk of every block into shared memory, units [0,
 * gemm_units * gemm_chunks); then, after a barrier, the tree and the epilogue of every block, units [0, gemm_units).
 * Needs K >= 1. */
int64_t gemm_chunks(const Gemm *g);
void gemm_run_chunks(const Gemm *g, const void *args, void *const *ptr, int64_t lo, int64_t hi, void *scratch,
                     void *shared);
void gemm_join_chunks(const Gemm *g, const void *args, void *const *ptr, int64_t lo, int64_t hi, void *scratch,
                      void *shared);
#endif
