/* TFRecord files of tf.train.Example as data sets. */
#ifndef TG_STDLIB_NATIVE_DATA_TFRECORD_H
#define TG_STDLIB_NATIVE_DATA_TFRECORD_H
#include "stdlib/native/data.h"

/* Rows of the features of each record, in the order of names: float lists are f32, integer lists i64, bytes u8; a list
 * of one number is a scalar, others [n]. The first record fixes names and sizes; another record that differs, a wrong
 * checksum or a cut file is a fault R_DATA that names the record. Plain or gzip. Streams; length unknown. -1: M_FILE.
 */
int64_t data_tfrecord(DataTable *t, const char *path, Fault *f);

/* One feature of an Example; lists stay where they are in the record. */
typedef enum { FEATURE_NONE, FEATURE_BYTES, FEATURE_FLOAT, FEATURE_INT } FeatureKind;
typedef struct Feature {
  const uint8_t *name;
  size_t nname;
  FeatureKind kind;
  const uint8_t *list;
  size_t nlist;
  int64_t n; /* elements; of bytes: their length */
} Feature;
/* The features of a serialised Example, at most `most`; returns the number, -1 if it is malformed. */
int example_features(const uint8_t *p, size_t n, int most, Feature *out);
#endif
