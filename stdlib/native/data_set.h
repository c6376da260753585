/* Data sets from inside: what a source or stage implements. Shared by data*.c.
 *
 *   DataSet   the description, and what is kept in memory between passes
 *   DataIter  one reading of a set. Stages hold iterators of the sets below them
 *   DataPass  what one pass was given: keys, tensors, whether to stop
 *
 * A set with random access implements `gather`; another one `read`. The other of the two is made from it. Everything is
 * called by one thread at a time for each iterator; several iterators of one set may be in use at once, so what a set
 * keeps is behind its lock. */
#ifndef TG_STDLIB_NATIVE_DATA_SET_H
#define TG_STDLIB_NATIVE_DATA_SET_H
#include "stdlib/native/data.h"
#include "stdlib/native/host.h"
#include <pthread.h>
#include <stdatomic.h>

typedef struct DataSet DataSet;
typedef struct DataIter DataIter;
typedef struct DataPass DataPass;

typedef struct DataOps {
  /* Makes it->self; the iterators below are open already. May be NULL. */
  bool (*open)(DataIter *it, Fault *f);
  void (*close)(DataIter *it); /* may be NULL */
  /* The next n rows, field k's packed at to[k]. Fewer at the end only; -1: fault. */
  int64_t (*read)(DataIter *it, int64_t n, void *const *to, Fault *f);
  /* Rows row[0..n), all within the set. */
  bool (*gather)(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f);
  void (*free)(DataSet *s); /* what self holds; may be NULL */
} DataOps;

struct DataSet {
  const DataOps *ops;
  DataTable *table;
  int64_t id, length;
  int nfield;
  DataField *field;
  size_t *bytes; /* of a row of each field */
  size_t row_bytes;
  bool random;
  bool slow;    /* reading costs more than copying from memory: worth a thread */
  bool lazy;    /* opens the iterators below itself */
  bool borrows; /* reads tensors of the run: no thread may */
  int nof;
  DataSet **of;
  int nkey, ntensor;
  int own_key, own_tensor; /* of these its own, after those of the sets below */
  int64_t n;               /* the stage's number */
  void *self;
  const char *what;
  pthread_mutex_t lock;
};

struct DataPass {
  DataSet *set;
  int64_t *key;
  const Tensor *tensor; /* valid during a native's call */
  atomic_bool stop;
};

struct DataIter {
  DataSet *set;
  DataIter **of;
  DataPass *pass;
  int key, tensor; /* where the set's own keys and tensors begin in the pass */
  int64_t at;      /* of a set with random access that is read in order */
  int64_t *row;    /* room for row numbers */
  int64_t nrow;
  void *self;
};

/* A set with its lists; the fields are copied. The caller fills the rest and adds it. Lives in the table's arena. */
DataSet *data_set_new(DataTable *t, const DataOps *ops, int nfield, const DataField *field, int nof,
                      DataSet *const *of);
int64_t data_set_add(DataSet *s);
DataSet *data_set(const DataTable *t, int64_t id); /* bug() when there is none */
Arena *data_arena(DataTable *t);
/* The set made for this text before, or -1; remember keeps it. */
int64_t data_known(DataTable *t, const char *text);
void data_remember(DataTable *t, const char *text, int64_t id);
/* What identifies a file's present content: path, size, time of change. */
char *data_file_text(DataTable *t, const char *kind, const char *path);

DataIter *data_iter_open(DataSet *s, DataPass *p, int key, int tensor, Fault *f);
void data_iter_close(DataIter *it);
int64_t data_iter_read(DataIter *it, int64_t n, void *const *to, Fault *f);
bool data_iter_gather(DataIter *it, int64_t n, const int64_t *row, void *const *to, Fault *f);
/* Passes over n rows. The number passed over; -1: fault. */
int64_t data_iter_skip(DataIter *it, int64_t n, Fault *f);
/* Room for n row numbers; NULL with the fault. */
int64_t *data_iter_rows(DataIter *it, int64_t n, Fault *f);

bool data_stopped(const DataTable *t);       /* the program is to stop */
bool data_no_memory(Fault *f, size_t bytes); /* false */
uint64_t data_hash(uint64_t key, uint64_t i);
#endif
