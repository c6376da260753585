/* LAPACK, found at run time.
 *
 * The Fortran symbols are looked up once in OpenBLAS (or another LAPACK) by dlopen: a program that factors no matrix
 * does not pay for loading it, and building needs no header. Arrays are column-major and passed as void *: one table
 * serves each precision. The trailing size_t are Fortran's hidden lengths of the character arguments. Integers are 32
 * bits. */
#ifndef TG_STDLIB_NATIVE_LAPACK_H
#define TG_STDLIB_NATIVE_LAPACK_H
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
} Lapack;

/* The table for f64 (or f32), or NULL with *why. Thread-safe; OpenBLAS is kept to one thread, so equal calls give equal
 * bits. */
const Lapack *lapack_get(int f64, const char **why);
#endif
