/* Files, the checker's half: what their headers promise, before anything runs.
 *
 * Each function reads as little as it can, trusts nothing (sizes are compared with the file's, products checked), and
 * on failure sets the fault (M_FILE, message with the path) and returns false. The other half are the natives that read
 * the data (README.md); they read the header again and fault when it no longer says the same. */
#ifndef TG_STDLIB_NATIVE_FILES_H
#define TG_STDLIB_NATIVE_FILES_H
#include "graph/native.h"

typedef struct FileTensor {
  DType dtype;
  int rank;
  int64_t dim[TG_MAX_RANK];
} FileTensor;

/* By the name's end, in any case: .npy, .npz, .csv, .safetensors; .idx, -ubyte, .idxN-ubyte, each also with .gz. */
typedef enum { FILE_UNKNOWN, FILE_NPY, FILE_NPZ, FILE_CSV, FILE_IDX, FILE_SAFETENSORS } FileKind;
FileKind file_kind(const char *path);

/* npy versions 1 to 3. Fortran order is read (and turned); big-endian and dtypes without a counterpart are refused. */
bool npy_header(const char *path, FileTensor *out, Fault *f);

/* The arrays of an npz file in the archive's order; names without .npy. Everything lives in `a`. */
typedef struct NpzMember {
  const char *name;
  FileTensor type;
} NpzMember;
bool npz_list(Arena *a, const char *path, int *n, NpzMember **out, Fault *f);

/* IDX (MNIST), plain or gzip. Codes u8 i8 i16 i32 f32 f64; big-endian by definition. */
bool idx_header(const char *path, FileTensor *out, Fault *f);

/* CSV: separated by commas (or semicolons or tabs when the first line has no comma), quotes doubled inside quotes, LF
 * or CRLF, blank lines skipped. The first line is a header unless some field of it is a number. A header field
 * `name:dtype` fixes the column's dtype; else the first 1,000 rows do: i64 if all are integers, bool if all are
 * true/false, f32 if all are numbers or empty (empty: nan), else text. Counting rows reads the whole file once. Rank-1
 * columns of nrow elements. */
typedef struct CsvColumn {
  const char *name;
  DType dtype;
  bool text;
} CsvColumn; /* text: not readable as a tensor */
typedef struct CsvInfo {
  int ncol;
  CsvColumn *col;
  int64_t nrow;
  bool header;
  char sep;
} CsvInfo;
bool csv_header(Arena *a, const char *path, CsvInfo *out, Fault *f);

/* The four files of Fashion-MNIST (also MNIST's names), each plain or .gz, all from one folder:
 * $TG_DATA_DIR/fashion-mnist, then `beside`/fashion-mnist (beside may be NULL), then /usr/share/datasets/fashion-mnist.
 * The fault names the Debian package. */
typedef struct FashionFiles {
  const char *train_x, *train_y, *test_x, *test_y;
} FashionFiles;
bool fashion_mnist_find(Arena *a, const char *beside, FashionFiles *out, Fault *f);
#endif
