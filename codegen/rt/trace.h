/* What ran when: events of one process, as the Chrome trace format (chrome://tracing, Perfetto) shows them. */
#ifndef TG_CODEGEN_RT_TRACE_H
#define TG_CODEGEN_RT_TRACE_H
#include <stddef.h>
#include <stdint.h>

typedef enum { TRACE_KERNELS, TRACE_CALLS, TRACE_COLLECTIVES, TRACE_TRACKS } RtTrack;
typedef struct RtTrace RtTrace;

RtTrace *rt_trace_new(void); /* NULL: no memory. Times count from here */
void rt_trace_free(RtTrace *t);
/* `start` as rt_seconds gives it. Collectives may overlap each other, the rest may not. The name is copied; bytes < 0:
 * none are shown. Without memory the event is dropped. t may be NULL. */
void rt_trace_add(RtTrace *t, RtTrack track, const char *name, double start, double seconds, int64_t bytes);
/* The events of this process, shown as `process`, separated by commas (an array's elements): malloc'd; NULL: no memory.
 */
char *rt_trace_text(const RtTrace *t, int process, size_t *len);
#endif
