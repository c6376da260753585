/* The scalar table, host tensors, faults, natives. */
#include "graph/native.h"
#include "graph/scalar_eval.h"
#include <criterion/criterion.h>
#include <string.h>

Test(graph_scalar, table_is_consistent) {
  for (int i = 0; i < OP_COUNT; i++) {
    const OpInfo *o = &op_info[i];
    cr_assert(o->name && *o->name && o->doc && *o->doc, "row %d", i);
    cr_assert(o->arity >= 1 && o->arity <= 3 && strchr("FNICPLBSK", o->typing), "%s", o->name);
    cr_assert(o->on_float || o->on_int, "%s", o->name);
    cr_assert_eq(o->arity == 3, o->typing == 'S', "%s", o->name);
    for (int k = 0; k < i; k++) cr_assert_str_neq(o->name, op_info[k].name);
  }
}

/* Every row can be evaluated in the domains it claims, and the two domains agree on small whole numbers. */
Test(graph_scalar, domains_agree_on_whole_numbers) {
  for (int i = 0; i < OP_COUNT; i++) {
    const OpInfo *o = &op_info[i];
    for (int64_t x = -3; x <= 3; x++)
      for (int64_t y = 1; y <= 3; y++) {
        double f[3] = {(double)x, (double)y, 2}, v = o->on_float ? sc_eval_f((ScalarOp)i, f) : 0;
        int64_t n[3] = {x, y, 2}, w = o->on_int ? sc_eval_i((ScalarOp)i, n) : 0;
        if (o->on_float && o->on_int)
          cr_assert_eq(v, (double)w, "%s(%d, %d): %g and %ld", o->name, (int)x, (int)y, v, (long)w);
      }
  }
}

Test(graph_scalar, floor_division_and_remainder) {
  for (int64_t x = -20; x <= 20; x++)
    for (int64_t y = -7; y <= 7; y++) {
      if (!y) continue;
      int64_t q = tg_floordiv(x, y), r = tg_floormod(x, y);
      cr_assert_eq(q, (int64_t)floor((double)x / (double)y));
      cr_assert(q * y + r == x && (r == 0 || (r < 0) == (y < 0)));
      cr_assert_eq(tg_fmod((double)x, (double)y), (double)r);
    }
  cr_assert_eq(tg_floordiv(INT64_MIN, -1), INT64_MIN);
  cr_assert_eq(tg_floormod(INT64_MIN, -1), 0);
  cr_assert(signbit(tg_fmod(6, -3)) && !signbit(tg_fmod(-6, 3)));
}

Test(graph_scalar, powers_wrap) {
  cr_assert_eq(tg_ipow(3, 4), 81);
  cr_assert_eq(tg_ipow(2, 64), 0);
  cr_assert_eq(tg_ipow(-1, -3), -1);
  cr_assert_eq(tg_ipow(5, -1), 0);
  cr_assert_eq(tg_ipow(0, 0), 1);
}

Test(graph_scalar, dtypes_join_as_in_numpy) {
  DType t;
  cr_assert(dt_join(DT_U8, DT_I8, &t) && t == DT_I16);
  cr_assert(dt_join(DT_U8, DT_I32, &t) && t == DT_I32);
  cr_assert(dt_join(DT_BOOL, DT_U8, &t) && t == DT_U8);
  cr_assert(dt_join(DT_I64, DT_F16, &t) && t == DT_F16);
  cr_assert_not(dt_join(DT_F32, DT_F64, &t));
  for (int a = 0; a < DT_COUNT; a++)
    for (int b = 0; b < DT_COUNT; b++) {
      DType p = DT_BOOL, q = DT_BOOL;
      cr_assert_eq(dt_join((DType)a, (DType)b, &p), dt_join((DType)b, (DType)a, &q));
      cr_assert_eq(p, q);
    }
}

Test(graph_scalar, storage_saturates_floats_and_wraps_integers) {
  int8_t i8;
  uint8_t u8;
  int64_t i64;
  dt_put_f(DT_I8, &i8, 0, -1000);
  cr_assert_eq(i8, -128);
  dt_put_i(DT_I8, &i8, 0, 200);
  cr_assert_eq(i8, -56);
  dt_put_f(DT_U8, &u8, 0, -0.5);
  cr_assert_eq(u8, 0);
  dt_put_f(DT_I64, &i64, 0, 1e300);
  cr_assert_eq(i64, INT64_MAX);
  dt_put_f(DT_I64, &i64, 0, NAN);
  cr_assert_eq(i64, 0);
  cr_assert_eq(dt_int_min(DT_I16), -32768);
  cr_assert_eq(dt_int_max(DT_U8), 255);
  cr_assert_eq(dt_int_max(DT_I64), INT64_MAX);
}

Test(graph_scalar, tensors_count_their_owners) {
  Tensor t, u;
  cr_assert(tensor_alloc(&t, DT_F32, 2, (int64_t[]){3, 5}));
  cr_assert_eq(tensor_bytes(&t), 60);
  cr_assert_eq((uintptr_t)t.data % 64, 0);
  memset(t.data, 1, tensor_bytes(&t));
  u = tensor_ref(&t);
  tensor_drop(&t);
  cr_assert_null(t.data);
  cr_assert_eq(((char *)u.data)[59], 1);
  tensor_drop(&u);
  cr_assert_not(tensor_alloc(&t, DT_F32, 2, (int64_t[]){INT64_MAX, 5}));
  cr_assert_not(tensor_alloc(&t, DT_F32, 1, (int64_t[]){-1}));
  cr_assert(tensor_alloc(&t, DT_F32, 2, (int64_t[]){0, 5}));
  cr_assert_eq(tensor_count(&t), 0);
  tensor_drop(&t);
}

Test(graph_scalar, faults_are_cut_to_size) {
  Fault f = {0};
  char big[2000];
  memset(big, 'x', sizeof big - 1);
  big[sizeof big - 1] = 0;
  fault_set(&f, R_NATIVE, (Span){1, 2, 3}, "%s", big);
  cr_assert(f.id == R_NATIVE && f.span.hi == 3 && strlen(f.msg) == sizeof f.msg - 1);
}
