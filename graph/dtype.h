/* Element types. DTYPE(id, name, bytes, class): class b bool, u unsigned, i signed, f float. */
#ifndef TG_GRAPH_DTYPE_H
#define TG_GRAPH_DTYPE_H
#include <stdbool.h>
#include <stdint.h>
#define DTYPES(X)                                                                                                      \
  X(DT_BOOL, "bool", 1, 'b')                                                                                           \
  X(DT_U8, "u8", 1, 'u')                                                                                               \
  X(DT_I8, "i8", 1, 'i')                                                                                               \
  X(DT_I16, "i16", 2, 'i')                                                                                             \
  X(DT_I32, "i32", 4, 'i')                                                                                             \
  X(DT_I64, "i64", 8, 'i')                                                                                             \
  X(DT_F16, "f16", 2, 'f')                                                                                             \
  X(DT_BF16, "bf16", 2, 'f')                                                                                           \
  X(DT_F32, "f32", 4, 'f')                                                                                             \
  X(DT_F64, "f64", 8, 'f')
typedef enum {
#define X(id, name, bytes, cls) id,
  DTYPES(X)
#undef X
      DT_COUNT
} DType;

const char *dt_name(DType t);
int dt_bytes(DType t);
bool dt_is_float(DType t);
bool dt_is_int(DType t); /* u8..i64; not bool */
bool dt_by_name(const char *s, int n, DType *out);
/* bool joins ints and both join floats in the other's dtype; integers join as in NumPy (u8+i8 = i16); two different
 * floats do not join: false. */
bool dt_join(DType a, DType b, DType *out);
int64_t dt_int_min(DType t), dt_int_max(DType t);
/* Storage <-> value for one element. Floats round to nearest even; f16 and bf16 through f32. */
double dt_get_f(DType t, const void *base, int64_t i);
int64_t dt_get_i(DType t, const void *base, int64_t i);
void dt_put_f(DType t, void *base, int64_t i, double v);
void dt_put_i(DType t, void *base, int64_t i, int64_t v);
#endif
