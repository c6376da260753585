/* Data sets: what the checker and the host see of them.
 *
 *   DataSet    one source, or a stage over other sets: the fields of a raw row, how many rows, how to read them. Immutable
 *              but for what it keeps in memory (behind its lock); lives as long as its table
 *   DataTable  owns every set of a session, by number, and every pass that is open
 *   pass       one reading of a set from the first row on; natives name it by an i64 handle
 *
 * A raw row is a list of fields, each a tensor of fixed dtype and shape; records, tuples and mapped functions over them
 * are the front end's (lang/data.h). Opening a source reads its header only. A set's rows depend on nothing but the
 * files and the keys of its shuffles and samples, which each pass is given.
 *
 * Natives (attribute 0.i is the set's number; keys and tensors in the order of the set's parts, see nkey and ntensor):
 *   data_open    1.i rows a batch (0: single rows); in: batches to leave out i64, keys i64.., tensors..; out: handle i64,
 *                more bool: a full batch follows. *
 *   data_next    1.i rows to read now; in: handle, tensors..; out: the fields [rows, ...].., more bool, number of this batch
 *                in the pass i64. Fewer rows than asked for: a fault. With 2.i lo and 3.i hi: of these rows those
 *                from lo to hi, [hi - lo, ...]; the others are passed over. *
 *   data_rest    in: handle; out: i64 rows after the last full batch. *
 *   data_close   in: handle. *
 *   data_gather  in: row numbers i64[L...], keys.., tensors..; out: the fields [L..., ...]... A number out of range: R_INDEX.
 *   * ordered (effects) */
#ifndef TG_STDLIB_NATIVE_DATA_H
#define TG_STDLIB_NATIVE_DATA_H
#include "stdlib/native/files.h"

typedef struct DataField {
  const char *name; /* "" where the source has none */
  DType dtype;
  int rank;
  int64_t dim[TG_MAX_RANK];
} DataField;

typedef struct DataTable DataTable;
DataTable *data_table_new(volatile int *interrupt); /* NULL: out of memory. interrupt may be NULL */
void data_table_free(DataTable *t);
/* A run has ended, well or not: closes the passes it left open, and joins their threads. */
void data_table_end_run(DataTable *t);

enum { DATA_UNKNOWN = -1, DATA_ENDLESS = -2 };
typedef struct DataInfo {
  int nfield;
  const DataField *field;
  int64_t length;    /* rows; DATA_UNKNOWN: known after reading; DATA_ENDLESS */
  bool random;       /* rows can be read in any order at the cost of those rows alone */
  int nkey, ntensor; /* keys and tensors that a pass is given */
  const char *what;  /* "train.csv", "idx file x.gz": for messages */
} DataInfo;
DataInfo data_info(const DataTable *t, int64_t id);

/* ---- sources: the number of the set; -1 with the fault set (M_FILE). Asking again for the same unchanged file gives
 * the same set, so a program that is elaborated twice opens it once. ---- */
int64_t data_idx(DataTable *t, const char *path, Fault *f);
int64_t data_npy(DataTable *t, const char *path, Fault *f);
/* n tensors given to each pass, all with `length` rows: field[k] is the type of a row of tensor k. */
int64_t data_rows(DataTable *t, int n, const DataField *field, int64_t length);

/* ---- stages ---- */
int64_t data_shuffle(DataTable *t, int64_t of,
                     int64_t buffer); /* one key more. buffer: rows, for sets without random access */
int64_t data_sample(DataTable *t, int64_t of, int64_t n); /* n rows without repetition, in random order; one key more */
int64_t data_take(DataTable *t, int64_t of, int64_t n);
int64_t data_skip(DataTable *t, int64_t of, int64_t n);
int64_t data_repeat(DataTable *t, int64_t of, int64_t n); /* n < 0: without end */
int64_t data_zip(DataTable *t, int n, const int64_t *of); /* fields of all; as long as the shortest */
int64_t data_enumerate(DataTable *t, int64_t of);         /* one i64 field in front: the row's number */
/* Keeps in memory what a pass has read. What depends on keys is not kept: cache before shuffle. */
int64_t data_cache(DataTable *t, int64_t of);

/* A compiled function of a chunk of rows: in[k] is field k [n, ...] with n the chunk it was compiled for; out: a
 * bool[n] for filter, the new fields [n, ...] for map, all of them allocated. Called from one thread at a time, which
 * may not be the one that made it. */
typedef struct DataProgram {
  void *self;
  int64_t chunk;
  bool (*run)(void *self, int nin, const Tensor *in, int nout, Tensor *out, Fault *f);
  void (*free)(void *self);
} DataProgram;
/* The rows for which the program, made of this node of the graph, says true. Takes the program. */
int64_t data_filter(DataTable *t, int64_t of, uint32_t node, DataProgram p);
int64_t data_filter_known(DataTable *t, int64_t of, uint32_t node); /* made before for this node; -1: not yet */

/* Rows as the program makes them. Takes the program. */
int64_t data_mapped(DataTable *t, int64_t of, int nfield, const DataField *field, DataProgram p);

enum { DATA_NATIVES = 5 };
extern const Native data_natives[DATA_NATIVES];
/* Attributes 2j: a set's label, 2j + 1 its number; in: keys and tensors of each in turn. Prints a table. * */
extern const Native native_data_describe;
#endif
