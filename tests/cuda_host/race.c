/* Races between the threads of a launch: accesses to one byte by two threads, one of them writing, with no barrier
 * between them; in device memory by two blocks, whatever barriers they have.
 *
 * Also: a kernel keeps to its scratch, behind which lies the fault record, which only tg_fault touches (it is not
 * seen here).
 *
 *   Byte   the last writer and the last readers, valid for one launch (device memory) or one block (shared memory)
 *   Page   the bytes of 4 KiB, found by hash */
#include "codegen/rt/dev_fault.h"
#include "tests/cuda_host/fake.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, BUCKETS = 4096 };

typedef struct Byte {
  uint32_t scope;       /* of which launch or block this is the record */
  uint32_t wrote, read; /* the period between barriers; 0: not yet */
  uint32_t wblock, rblock;
  uint16_t wthread, rthread;
  bool many, blocks; /* several threads read in that period; several blocks read */
} Byte;
typedef struct Page {
  struct Page *next;
  uintptr_t number;
  uint32_t launch; /* for which `device` holds */
  bool device;
  Byte byte[PAGE];
} Page;

static struct Race {
  uint32_t launch, block, period, scopes, launch_scope, block_scope;
  uintptr_t end, record;
  Page *bucket[BUCKETS];
  char found[160];
} race;

void race_launch(const char *end, const char *record) {
  race.end = (uintptr_t)end;
  race.record = (uintptr_t)record;
  race.launch++;
  race.launch_scope = ++race.scopes;
  race.block = 0;
  race.found[0] = 0;
}
void race_block(void) {
  race.block++;
  race.block_scope = ++race.scopes;
  race.period++;
}
void race_barrier(void) { race.period++; }
const char *race_found(void) { return race.found[0] ? race.found : NULL; }

static Page *page_of(uintptr_t number) {
  Page **at = &race.bucket[(number * 0x9e3779b97f4a7c15u) >> 52];
  Page *p = *at;
  while (p && p->number != number) p = p->next;
  if (!p) {
    p = calloc(1, sizeof *p);
    if (!p) abort();
    p->number = number;
    p->next = *at;
    *at = p;
  }
  if (p->launch != race.launch) {
    p->launch = race.launch;
    p->device = fake_on_device((const void *)(number * PAGE));
  }
  return p;
}

static void report(const char *what, int thread, int other, const Page *p) {
  if (!race.found[0])
    snprintf(race.found, sizeof race.found, "thread %d %s what thread %d of %s touched, in %s memory", thread, what,
             other, p->device ? "this or another block" : "its block", p->device ? "device" : "shared");
}

static void touch_byte(const Page *p, Byte *b, int thread, bool write) {
  uint32_t scope = p->device ? race.launch_scope : race.block_scope;
  if (b->scope != scope) *b = (Byte){.scope = scope};
  if (b->wrote && (b->wblock != race.block || (b->wrote == race.period && b->wthread != thread)))
    report(write ? "writes" : "reads", thread, b->wthread, p);
  if (write) {
    if (b->read &&
        (b->blocks || b->rblock != race.block || (b->read == race.period && (b->many || b->rthread != thread))))
      report("writes", thread, b->rthread, p);
    b->wrote = race.period;
    b->wblock = race.block;
    b->wthread = (uint16_t)thread;
    return;
  }
  if (b->read && b->rblock != race.block) b->blocks = true;
  b->many = b->read == race.period && (b->many || b->rthread != thread);
  b->read = race.period;
  b->rblock = race.block;
  b->rthread = (uint16_t)thread;
}

void race_touch(int thread, const void *at, unsigned bytes, bool write) {
  uintptr_t from = (uintptr_t)at;
  if (from >= race.end && from < race.record + sizeof(CuFault) && !race.found[0])
    snprintf(race.found, sizeof race.found, "thread %d leaves the scratch by %llu bytes", thread,
             (unsigned long long)(from - race.end));
  for (uintptr_t a = from; a < from + bytes; a++) {
    Page *p = page_of(a / PAGE);
    touch_byte(p, &p->byte[a % PAGE], thread, write);
  }
}
