/* Events of a process as the Chrome trace format wants them. Names are kept once each. */
#include "codegen/rt/trace.h"
#include "codegen/rt/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 22 }; /* events: 200 MB of text; later ones are dropped, and counted */

typedef struct Event {
  double start, seconds;
  int64_t bytes;
  int name;
  uint8_t track;
} Event;

struct RtTrace {
  double zero;
  Event *event;
  int64_t n, cap, dropped;
  char **name;
  int nname, name_cap;
  int *slot; /* open addressing: name + 1 */
  uint32_t nslot;
};

RtTrace *rt_trace_new(void) {
  RtTrace *t = calloc(1, sizeof *t);
  if (t) t->zero = rt_seconds();
  return t;
}
void rt_trace_free(RtTrace *t) {
  if (!t) return;
  for (int k = 0; k < t->nname; k++) free(t->name[k]);
  free(t->name), free(t->event), free(t->slot), free(t);
}

static uint32_t hash(const char *s) {
  uint32_t h = 2166136261u;
  for (; *s; s++) h = (h ^ (unsigned char)*s) * 16777619u;
  return h;
}
static int grow_names(RtTrace *t) {
  if (t->nname < t->name_cap) return 1;
  int cap = t->name_cap ? 2 * t->name_cap : 64;
  char **name = realloc(t->name, sizeof *name * (size_t)cap);
  if (name) t->name = name;
  int *slot = calloc((size_t)cap * 2, sizeof *slot);
  if (!name || !slot) {
    free(slot);
    return 0;
  }
  free(t->slot);
  t->slot = slot, t->nslot = (uint32_t)cap * 2, t->name_cap = cap;
  for (int k = 0; k < t->nname; k++) {
    uint32_t at = hash(t->name[k]) % t->nslot;
    while (slot[at]) at = (at + 1) % t->nslot;
    slot[at] = k + 1;
  }
  return 1;
}
static int number_of(RtTrace *t, const char *name) {
  if (!grow_names(t)) return -1;
  uint32_t at = hash(name) % t->nslot;
  for (; t->slot[at]; at = (at + 1) % t->nslot)
    if (!strcmp(t->name[t->slot[at] - 1], name)) return t->slot[at] - 1;
  char *copy = strdup(name);
  if (!copy) return -1;
  t->name[t->nname] = copy;
  t->slot[at] = t->nname + 1;
  return t->nname++;
}

void rt_trace_add(RtTrace *t, RtTrack track, const char *name, double start, double seconds, int64_t bytes) {
  if (!t) return;
  if (t->n == t->cap) {
    int64_t cap = t->cap ? 2 * t->cap : 1024;
    Event *e = cap <= MOST ? realloc(t->event, sizeof *e * (size_t)cap) : NULL;
    if (e) t->event = e, t->cap = cap;
  }
  int k = t->n < t->cap ? number_of(t, name) : -1;
  if (k < 0)
    t->dropped++;
  else
    t->event[t->n++] = (Event){start - t->zero, seconds, bytes, k, (uint8_t)track};
}

static void put_quoted(FILE *f, const char *s) {
  fputc('"', f);
  for (; *s; s++) {
    if (*s == '"' || *s == '\\') fputc('\\', f);
    if ((unsigned char)*s >= ' ') fputc(*s, f);
  }
  fputc('"', f);
}

static void put_event(FILE *f, const RtTrace *t, const Event *e, int64_t k, int process) {
  static const char *const category[TRACE_TRACKS] = {"kernel", "call", "collective"};
  double from = 1e6 * e->start, took = 1e6 * e->seconds;
  fprintf(f, ",\n{\"name\": ");
  put_quoted(f, t->name[e->name]);
  fprintf(f, ", \"cat\": \"%s\", \"pid\": %d, \"tid\": %d, \"ts\": %.3f", category[e->track], process, e->track, from);
  if (e->track != TRACE_COLLECTIVES) {
    fprintf(f, ", \"ph\": \"X\", \"dur\": %.3f}", took);
    return;
  }
  fprintf(f, ", \"ph\": \"b\", \"id\": %lld, \"args\": {\"bytes\": %lld}}", (long long)k, (long long)e->bytes);
  fprintf(f, ",\n{\"name\": ");
  put_quoted(f, t->name[e->name]);
  fprintf(f, ", \"cat\": \"collective\", \"pid\": %d, \"tid\": %d, \"ts\": %.3f, \"ph\": \"e\", \"id\": %lld}", process,
          e->track, from + took, (long long)k);
}

char *rt_trace_text(const RtTrace *t, int process, size_t *len) {
  static const char *const track[TRACE_TRACKS] = {"kernels", "calls", "collectives"};
  char *text = NULL;
  FILE *f = open_memstream(&text, len);
  if (!f) return NULL;
  fprintf(f, "{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": %d, \"args\": {\"name\": \"rank %d\"}}", process,
          process);
  for (int k = 0; k < TRACE_TRACKS; k++)
    fprintf(f, ",\n{\"name\": \"thread_name\", \"ph\": \"M\", \"pid\": %d, \"tid\": %d, \"args\": {\"name\": \"%s\"}}",
            process, k, track[k]);
  if (t->dropped)
    fprintf(f,
            ",\n{\"name\": \"process_labels\", \"ph\": \"M\", \"pid\": %d, \"args\": {\"labels\": \"%lld later events "
            "are left out\"}}",
            process, (long long)t->dropped);
  for (int64_t k = 0; k < t->n; k++) put_event(f, t, &t->event[k], k, process);
  if (fclose(f) == 0) return text;
  free(text);
  return NULL;
}
