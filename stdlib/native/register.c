/* The list of natives. */
#include "stdlib/native/alike.h"
#include "stdlib/native/csv.h"
#include "stdlib/native/data.h"
#include "stdlib/native/checkpoint.h"
#include "stdlib/native/effects.h"
#include "stdlib/native/events.h"
#include "stdlib/native/host.h"
#include "stdlib/native/idx.h"
#include "stdlib/native/npy.h"
#include "stdlib/native/npz.h"
#include "stdlib/native/progress.h"
#include "stdlib/native/routines.h"
#include "stdlib/native/safetensors.h"

/* The same routine under NAME_now, as an effect: a read whose place in the order matters. */
static void add_now(Natives *r, const Native *n) {
  Native *now = arena_copy(r->arena, n, sizeof *n);
  now->name = arena_printf(r->arena, "%s_now", n->name), now->effect = true;
  natives_add(r, now);
}

void native_register_all(Natives *r) {
  for (int i = 0; i < ROUTINE_NATIVES; i++) natives_add(r, &routine_natives[i]);
  for (int i = 0; i < DATA_NATIVES; i++) natives_add(r, &data_natives[i]);
  for (int i = 0; i < PROGRESS_NATIVES; i++) natives_add(r, &progress_natives[i]);
  static const Native *const row[] = {
      &native_data_describe,    &native_load_npy,   &native_save_npy,    &native_load_npz,
      &native_save_npz,         &native_load_csv,   &native_save_csv,    &native_load_idx,
      &native_save_idx,         &native_print,      &native_assert,      &native_load_safetensors,
      &native_save_safetensors, &native_after,      &native_alike,       &native_resume,
      &native_checkpoint_due,   &native_checkpoint, &native_log_scalars, &native_log_histograms,
  };
  for (size_t i = 0; i < sizeof row / sizeof *row; i++) natives_add(r, row[i]);
  static const Native *const load[] = {&native_load_npy, &native_load_npz, &native_load_csv, &native_load_idx,
                                       &native_load_safetensors};
  for (size_t i = 0; i < sizeof load / sizeof *load; i++) add_now(r, load[i]);
}
