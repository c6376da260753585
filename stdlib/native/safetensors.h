/* Safetensors: named tensors in one file (github.com/huggingface/safetensors, "Format").
 *
 *   8 bytes   length N of the header, little-endian
 *   N bytes   JSON: {"__metadata__": {text: text}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [from,
 * to]}} the rest  row-major little-endian data; offsets count from its beginning, and cover it without hole or overlap
 *
 * What is written here also has the metadata `format` = "tg" and `tg.crc32`: the CRC-32 of the whole file with its own
 * eight digits as zeros. Every reader of data checks it where it is there, so a flipped bit is an error and never a
 * weight. The data are ordered by descending element size, so that each tensor is aligned; the header is in the order
 * given.
 *
 * Faults: M_FILE with the path. Everything returned lives in the arena that was given. */
#ifndef TG_STDLIB_NATIVE_SAFETENSORS_H
#define TG_STDLIB_NATIVE_SAFETENSORS_H
#include "stdlib/native/io.h"

typedef struct StTensor {
  const char *name, *code; /* code: the file's dtype, "F32" */
  bool known;              /* the code is a dtype of tg: type.dtype is set */
  FileTensor type;
  uint64_t at, bytes; /* in the file */
} StTensor;
typedef struct StMeta {
  const char *key, *value;
} StMeta;
typedef struct StFile {
  int n, nmeta;
  StTensor *tensor;  /* in the header's order */
  StTensor **sorted; /* by name; NULL: not there (st_find then walks) */
  StMeta *meta;
  uint64_t data_at;
  uint32_t crc;
  uint64_t crc_at; /* where its digits stand in the file; 0: the file has none */
} StFile;

enum { ST_MAX_HEADER = 100 << 20 };

bool st_open(Arena *a, In *in, const char *path, StFile *out, Fault *f); /* in_close(in) in any case */
bool st_list(Arena *a, const char *path, StFile *out, Fault *f);
const char *st_meta(const StFile *s, const char *key);      /* NULL: absent */
const StTensor *st_find(const StFile *s, const char *name); /* NULL: absent */
/* Reads the whole file and compares its checksum, if it has one. */
bool st_verify(In *in, const StFile *s);
/* t's data into `to`, t->bytes of it. Bools become 0 or 1. */
bool st_read(In *in, const StTensor *t, void *to);

/* Differences between the file and what is wanted: missing names with the closest one, other dtypes and shapes, and
 * (exact) names that are not wanted; one line of text each. `what` names the wanted side, as "the model". */
int st_compare(Arena *a, const StFile *s, int n, const char *const *name, const FileTensor *want, bool exact,
               const char *what, const char *const **line);
/* st_compare as a fault; true when there is no difference. */
bool st_check(Arena *a, const StFile *s, const char *path, int n, const char *const *name, const FileTensor *want,
              bool exact, const char *what, Fault *f);

/* Writes aside, fsyncs, renames; names are distinct. `format` and `tg.crc32` are added to the metadata. */
bool st_write(const char *path, int n, const char *const *name, const Tensor *t, int nmeta, const StMeta *meta,
              Fault *f);
/* The same; `last` is asked when all is on the disk, in the file `aside`: true renames it, false (with the fault)
 * leaves the old file. */
typedef struct StLast {
  bool (*fn)(void *ctx, const char *aside, Fault *f);
  void *ctx;
} StLast;
bool st_replace(const char *path, int n, const char *const *name, const Tensor *t, int nmeta, const StMeta *meta,
                StLast last, Fault *f);

/* load_safetensors: attributes 0.s path, 1.i exact, 2.. .s names; results: the tensors.
 * save_safetensors (an effect): 0.s path, 1.s "tensor" when the file stands for one bare tensor, else "", 2.. .s names;
 * a tensor for each name. */
extern const Native native_load_safetensors, native_save_safetensors;
#endif
