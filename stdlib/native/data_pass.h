/* One pass over a data set: batches in order, read ahead by a thread where that pays. */
#ifndef TG_STDLIB_NATIVE_DATA_PASS_H
#define TG_STDLIB_NATIVE_DATA_PASS_H
#include "stdlib/native/data_set.h"

typedef struct DataPassRun DataPassRun;
/* tensor: valid during this call only; later calls give them anew. size >= 1 rows a batch; the first `skip` batches are
 * left out. NULL: fault. */
DataPassRun *data_pass_new(DataSet *s, int64_t size, int64_t skip, const int64_t *key, const Tensor *tensor, Fault *f);
void data_pass_free(DataPassRun *p); /* stops and joins its thread */
DataSet *data_pass_set(const DataPassRun *p);
int64_t data_pass_size(const DataPassRun *p);
void data_pass_tensors(DataPassRun *p, const Tensor *tensor);
/* Rows that can be had without reading further, at most a batch: a full batch if there is one. -1: fault. */
int64_t data_pass_ready(DataPassRun *p, Fault *f);
/* Of the next n rows, n at most what is ready, those from lo to hi; the others are passed over. *number: which batch of
 * the pass it is. */
bool data_pass_take(DataPassRun *p, int64_t n, int64_t lo, int64_t hi, void *const *to, int64_t *number, Fault *f);

/* Reads what taking the next full batch would give, and takes nothing. False: it can't be had without reading further,
 * or at all. */
bool data_pass_look(DataPassRun *p, int64_t n, int64_t lo, int64_t hi, void *const *to);
/* Takes the batch that was looked at last, without reading it; false if that is not the next one. */
bool data_pass_claim(DataPassRun *p, int64_t n, int64_t *number);

/* In the table: handles of open passes. */
int64_t data_pass_keep(DataTable *t, DataPassRun *p);
DataPassRun *data_pass_get(const DataTable *t, int64_t handle); /* NULL: none */
void data_pass_end(DataTable *t, int64_t handle);
#endif
