/* Logs of training runs: TensorBoard's event files and metrics.jsonl.
 *
 * A folder gets `events.out.tfevents.SECONDS.HOST.PID.N` (TFRecord frames around Event messages) and `metrics.jsonl`,
 * one object a line: {"step": 12, "wall_time": 1.7e9, "loss": 0.25}; nan and inf are null there. Each record goes out
 * in one write, so what a killed run leaves is whole records; a line cut all the same (full disk) is removed by the
 * next writer. A resumed run appends; TensorBoard drops what the killed run logged beyond the point of resuming, in
 * metrics.jsonl the later line of a step counts. When a log can't be written, a line on standard error says so once and
 * the run goes on.
 *
 * Natives, both effects: log_scalars, log_histograms. Attributes: 0.s folder, 1.. .s tags; in: step (an integer
 * scalar), a tensor for each tag (a scalar of any dtype; any float tensor). */
#ifndef TG_STDLIB_NATIVE_EVENTS_H
#define TG_STDLIB_NATIVE_EVENTS_H
#include "stdlib/native/host.h"

typedef struct LogWriter LogWriter;
void logs_close(LogWriter *list);

/* CRC-32C (Castagnoli) of n bytes, and TFRecord's mask over it. */
uint32_t crc32c(const void *p, size_t n);
uint32_t crc32c_masked(const void *p, size_t n);

extern const Native native_log_scalars, native_log_histograms;
#endif
