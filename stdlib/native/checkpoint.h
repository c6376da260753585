/* Checkpoints of training runs.
 *
 * A checkpoint is one safetensors file with the whole state of a run (parameters, states, the optimiser's, counters,
 * sums), each leaf under its name, and metadata that tell whose it is:
 *   tg.kind "checkpoint"   tg.version "1"   tg.run (16 hex digits)   tg.about (lines `name = value`)   tg.crc32
 * It is written aside, fsynced and renamed, so at any moment there is one whole file or none. Reading checks every byte
 * (checksum), the run (its random streams: seed and place in the program), the settings, and every name, dtype and
 * shape: a checkpoint of another run is an error that says what differs, and never silently used or overwritten.
 *
 * Natives, all effects:
 *   resume          attributes 0.s path, 1.s settings, 2.s a prefix of names or "", 3.. .s names; in: run i64, a tensor
 *                   for each name; out: the tensors of the file, or those of `in` when there is none. What has the
 * prefix may have fewer rows in the file (a shorter run's history); the others stay as in `in`. Makes the folders,
 * removes what killed writers left. checkpoint_due  0.s path, 1.f seconds; in: wanted bool; out: wanted, or so many
 * seconds have passed since the last write. Apart from the write, so that a step that writes nothing need not have the
 * state at hand. checkpoint      0.s path, 1.. .s names; in: a tensor for each name. Writes. `resume` comes before the
 * other two. Faults: R_CHECKPOINT. */
#ifndef TG_STDLIB_NATIVE_CHECKPOINT_H
#define TG_STDLIB_NATIVE_CHECKPOINT_H
#include "stdlib/native/host.h"

/* What runs keep open between calls: the checkpoints resumed, the logs written. Made when first needed, held by
 * NativeHost.train, freed by the host. */
typedef struct TrainFiles TrainFiles;
TrainFiles *train_files(NativeHost *host); /* NULL: no host */
void train_files_free(TrainFiles *t);      /* NULL: nothing to do */
Arena *train_arena(TrainFiles *t);
struct LogWriter;
struct LogWriter **train_logs(TrainFiles *t); /* the list of writers (events.h) */

/* Makes the folder and those above it. */
bool make_folders(const char *dir, Fault *f);

extern const Native native_resume, native_checkpoint_due, native_checkpoint;
#endif
