/* What the fake driver does for a kernel's text: between shim.h, which the text is compiled behind, and fibers.c. No
 * includes. */
typedef struct TgDim {
  unsigned x, y, z;
} TgDim;
typedef enum { TG_MMA_F16, TG_MMA_BF16, TG_MMA_TF32 } TgMma;
typedef struct TgShim {
  TgDim thread, block;
  void (*sync)(int line);
  void *(*down)(const void *x, int size, int by);
  unsigned (*ballot)(int x);
  void (*mma)(float *d, const unsigned *a, const unsigned *b, TgMma what);
  void (*copy)(void *to, const void *from, int bytes, int live); /* done no sooner than the thread waits */
  void (*copy_wait)(void);
  unsigned short (*to_f16)(float x);
  float (*of_f16)(unsigned short x);
  void (*touch)(const void *at, unsigned bytes, int write); /* of sources compiled for race checks */
} TgShim;
