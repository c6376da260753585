/* The npy format from memory and files; npz members are npy files inside an archive. */
#ifndef TG_STDLIB_NATIVE_NPY_H
#define TG_STDLIB_NATIVE_NPY_H
#include "stdlib/native/io.h"

/* What a header says beyond FileTensor: where the data begins, and their order. */
typedef struct Npy {
  FileTensor type;
  uint64_t data_at;
  bool fortran;
} Npy;

enum { NPY_PREFIX = 12, NPY_MAX_HEADER = 1 << 20 };
/* The length of prefix and header together, from the first NPY_PREFIX bytes (10 of them count in version 1). 0: fault.
 */
size_t npy_header_bytes(const uint8_t *prefix, const char *path, Fault *f);
/* Parses the header text; `total` bytes are in the whole file, which must hold the data. */
bool npy_parse(const uint8_t *head, size_t n, uint64_t total, const char *path, Npy *out, Fault *f);
/* Header of a file. */
bool npy_open_header(const char *path, Npy *out, Fault *f);
/* Fortran order to row-major, in place by a copy. */
bool npy_unturn(const Npy *t, void *data, Fault *f);
/* The header for t into buf (at most NPY_WRITE_HEADER bytes); 0 with the fault when npy has no such dtype. */
enum { NPY_WRITE_HEADER = 1024 };
size_t npy_make_header(const Tensor *t, const char *path, char buf[NPY_WRITE_HEADER], Fault *f);

extern const Native native_load_npy, native_save_npy;
#endif
