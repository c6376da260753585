/* Element types: names, joins, and exact storage conversions. */
#include "graph/dtype.h"
#include <math.h>
#include <string.h>

typedef struct {
  const char *name;
  int bytes;
  char cls;
} Info;
static const Info info[DT_COUNT] = {
#define X(id, name, bytes, cls) [id] = {name, bytes, cls},
    DTYPES(X)
#undef X
};

const char *dt_name(DType t) { return info[t].name; }
int dt_bytes(DType t) { return info[t].bytes; }
bool dt_is_float(DType t) { return info[t].cls == 'f'; }
bool dt_is_int(DType t) { return info[t].cls == 'i' || info[t].cls == 'u'; }

bool dt_by_name(const char *s, int n, DType *out) {
  for (int t = 0; t < DT_COUNT; t++)
    if ((int)strlen(info[t].name) == n && !memcmp(info[t].name, s, (size_t)n)) {
      *out = (DType)t;
      return true;
    }
  return false;
}

bool dt_join(DType a, DType b, DType *out) {
  if (a == b || b == DT_BOOL) return *out = a, true;
  if (a == DT_BOOL) return *out = b, true;
  bool fa = dt_is_float(a), fb = dt_is_float(b);
  if (fa && fb) return false;
  if (fa || fb) return *out = fa ? a : b, true;
  DType small = a < b ? a : b, large = a < b ? b : a; /* the enum's order: u8 i8 i16 i32 i64 */
  *out = small == DT_U8 && large == DT_I8 ? DT_I16 : large;
  return true;
}

int64_t dt_int_min(DType t) { return t == DT_BOOL || info[t].cls == 'u' ? 0 : INT64_MIN >> (64 - 8 * info[t].bytes); }

int64_t dt_int_max(DType t) {
  if (t == DT_BOOL) return 1;
  return info[t].cls == 'u' ? (INT64_C(1) << 8 * info[t].bytes) - 1 : INT64_MAX >> (64 - 8 * info[t].bytes);
}

static float f16_to_f32(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = h >> 10 & 31, man = h & 0x3ffu;
  if (exp == 0) { /* zero or subnormal: man * 2^-24, exact in f32 */
    float v = ldexpf((float)man, -24);
    return sign ? -v : v;
  }
  uint32_t bits = exp == 31 ? sign | 0x7f800000u | man << 13 : sign | (exp + 112) << 23 | man << 13;
  float v;
  memcpy(&v, &bits, 4);
  return v;
}

static uint16_t f32_to_f16(float v) {
  uint32_t b;
  memcpy(&b, &v, 4);
  uint16_t sign = (uint16_t)(b >> 16 & 0x8000u);
  uint32_t a = b & 0x7fffffffu;
  if (a > 0x7f800000u) return sign | 0x7e00u;  /* nan */
  if (a >= 0x477ff000u) return sign | 0x7c00u; /* 65520 and above round to infinity */
  if (a < 0x38800000u) {                       /* below 2^-14: a multiple of 2^-24 */
    float scaled;
    memcpy(&scaled, &a, 4);
    return sign | (uint16_t)nearbyintf(scaled * 0x1p24f);
  }
  a += 0xfffu + (a >> 13 & 1); /* to nearest even */
  return sign | (uint16_t)((a - 0x38000000u) >> 13);
}

static float bf16_to_f32(uint16_t h) {
  uint32_t bits = (uint32_t)h << 16;
  float v;
  memcpy(&v, &bits, 4);
  return v;
}

static uint16_t f32_to_bf16(float v) {
  uint32_t b;
  memcpy(&b, &v, 4);
  if ((b & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(b >> 16 & 0x8000u) | 0x7fc0u;
  return (uint16_t)((b + 0x7fffu + (b >> 16 & 1)) >> 16);
}

double dt_get_f(DType t, const void *base, int64_t i) {
  switch (t) {
  case DT_F64:
    return ((const double *)base)[i];
  case DT_F32:
    return (double)((const float *)base)[i];
  case DT_F16:
    return (double)f16_to_f32(((const uint16_t *)base)[i]);
  case DT_BF16:
    return (double)bf16_to_f32(((const uint16_t *)base)[i]);
  default:
    return (double)dt_get_i(t, base, i);
  }
}

/* Floats toward zero, out of range to the nearer end, nan to 0. */
static int64_t to_int(double v, int64_t lo, int64_t hi) {
  if (v != v) return 0;
  if (v <= (double)lo) return lo;
  if (v >= (double)hi) return hi; /* (double)INT64_MAX is 2^63: everything at or above it is out of range */
  return (int64_t)v;
}

int64_t dt_get_i(DType t, const void *base, int64_t i) {
  switch (t) {
  case DT_BOOL:
    return ((const uint8_t *)base)[i] != 0;
  case DT_U8:
    return ((const uint8_t *)base)[i];
  case DT_I8:
    return ((const int8_t *)base)[i];
  case DT_I16:
    return ((const int16_t *)base)[i];
  case DT_I32:
    return ((const int32_t *)base)[i];
  case DT_I64:
    return ((const int64_t *)base)[i];
  default:
    return to_int(dt_get_f(t, base, i), INT64_MIN, INT64_MAX);
  }
}

static void put_int(DType t, void *base, int64_t i, int64_t v) {
  switch (info[t].bytes) {
  case 1:
    ((uint8_t *)base)[i] = t == DT_BOOL ? v != 0 : (uint8_t)v;
    break;
  case 2:
    ((uint16_t *)base)[i] = (uint16_t)v;
    break;
  case 4:
    ((uint32_t *)base)[i] = (uint32_t)v;
    break;
  default:
    ((int64_t *)base)[i] = v;
    break;
  }
}

static void put_float(DType t, void *base, int64_t i, float v) {
  if (t == DT_F32)
    ((float *)base)[i] = v;
  else
    ((uint16_t *)base)[i] = t == DT_F16 ? f32_to_f16(v) : f32_to_bf16(v);
}

void dt_put_f(DType t, void *base, int64_t i, double v) {
  if (t == DT_F64)
    ((double *)base)[i] = v;
  else if (dt_is_float(t))
    put_float(t, base, i, (float)v);
  else
    put_int(t, base, i, t == DT_BOOL ? v != 0 : to_int(v, dt_int_min(t), dt_int_max(t)));
}

void dt_put_i(DType t, void *base, int64_t i, int64_t v) {
  if (t == DT_F64)
    ((double *)base)[i] = (double)v;
  else if (dt_is_float(t))
    put_float(t, base, i, (float)v); /* straight from i64: through f64 it would round twice */
  else
    put_int(t, base, i, v);
}
