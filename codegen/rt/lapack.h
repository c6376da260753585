/* LAPACK, found at run time.
 *
 * The Fortran symbols are looked up in OpenBLAS (or another LAPACK) by dlopen: a program that factors no matrix does
 * not pay for loading it, and building needs no header. Arrays are column-major and passed as void *: one table serves
 * each precision. The trailing size_t are Fortran's hidden lengths of the character arguments. Integers are 32 bits. */
#ifndef TG_CODEGEN_RT_LAPACK_H
#define TG_CODEGEN_RT_LAPACK_H
#include <stddef.h>

typedef struct Lapack {
  void (*gesv)(const int *n, const int *nrhs, void *a, const int *lda, int *ipiv, void *b, const int *ldb, int *info);
  void (*getrf)(const int *m, const int *n, void *a, const int *lda, int *ipiv, int *info);
  void (*potrf)(const char *uplo, const int *n, void *a, const int *lda, int *info, size_t);
  void (*geqrf)(const int *m, const int *n, void *a, const int *lda, void *tau, void *work, const int *lwork,
                int *info);
  void (*orgqr)(const int *m, const int *n, const int *k, void *a, const int *lda, const void *tau, void *work,
                const int *lwork, int *info);
  void (*gesdd)(const char *jobz, const int *m, const int *n, void *a, const int *lda, void *s, void *u, const int *ldu,
                void *vt, const int *ldvt, void *work, const int *lwork, int *iwork, int *info, size_t);
  void (*syevd)(const char *jobz, const char *uplo, const int *n, void *a, const int *lda, void *w, void *work,
                const int *lwork, int *iwork, const int *liwork, int *info, size_t, size_t);
  void (*gelsd)(const int *m, const int *n, const int *nrhs, void *a, const int *lda, void *b, const int *ldb, void *s,
                const void *rcond, int *rank, void *work, const int *lwork, int *iwork, int *info);
  /* Around a call, from any thread: OpenBLAS computes on the caller's thread alone, so that bits are the same
   * everywhere. (A process that itself changes the number of threads meanwhile may see other last bits.) In the first
   * table; NULL where the library is not OpenBLAS. */
  void (*enter)(const struct Lapack *), (*leave)(const struct Lapack *);
  int (*get_threads)(void);
  void (*set_threads)(int);
} Lapack;

/* Fills the tables of f32 and of f64. 0: there is no LAPACK. Once found it stays in the process, since it may have
 * threads. */
int lapack_open(Lapack two[2]);
#define LAPACK_MISSING "LAPACK is not installed; on Debian: apt install libopenblas0"
#endif
