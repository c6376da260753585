/* The threads of a block as fibers: each runs until it waits or ends; a barrier opens when all that are left wait at
 * it. */
#include "tests/cuda_host/fake.h"
#include "tests/cuda_host/twin.h"
#include "graph/dtype.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
  MAX_COPIES = 64,
  MAX_THREADS = 1024,
  WARP = 32,
  STACK = 256 << 10,
  GUARD = 16 << 10 /* at the end of each stack */,
  LAUNCH_FAILED = 719
};
typedef enum { READY, AT_BARRIER, IN_WARP, ENDED } State;

typedef struct Copy {
  void *to;
  const void *from;
  int bytes, live;
} Copy;
typedef struct Fiber {
  void *sp;
  State state;
  int line;      /* of the barrier waited at */
  int exchanges; /* so far; two buffers are enough: a lane is never two ahead */
  uint64_t box[2][8];
  int ncopy; /* asked for, not waited for */
  Copy copy[MAX_COPIES];
} Fiber;

typedef struct World {
  TgShim shim;
  Fiber fiber[MAX_THREADS];
  char *stacks;
  void *main_sp;
  int at, n; /* the fiber that runs; how many */
  void (*fn)(const void *);
  const void *args;
  int cut;     /* line of the barrier that is left out */
  bool racing; /* this source reports its accesses */
} World;
static World *world;

/* Saves the callee's registers and the stack pointer in *from, goes on where `to` left off. */
void fiber_switch(void **from, void *to);
__asm__(".text\n.globl fiber_switch\n.hidden fiber_switch\n.type fiber_switch,@function\nfiber_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n");

static void yield(State s) {
  Fiber *f = &world->fiber[world->at];
  f->state = s;
  fiber_switch(&f->sp, world->main_sp);
}
static void fiber_main(void) {
  world->fn(world->args);
  if (world->fiber[world->at].ncopy) fake_misuse("copies to shared memory that nobody waits for");
  yield(ENDED);
  abort();
}

static void sync_threads(int line) {
  if (line == world->cut) return;
  world->fiber[world->at].line = line;
  yield(AT_BARRIER);
}

/* The box of lane `from` in the exchange that the running lane has just come out of. */
static uint64_t *box_of(int lane, int exchange) { return world->fiber[lane].box[exchange % 2]; }

static void *down(const void *x, int size, int by) {
  int me = world->at, e = world->fiber[me].exchanges++, from = me + by;
  memcpy(box_of(me, e), x, (size_t)size);
  yield(IN_WARP);
  if (me % WARP + by >= WARP || from >= world->n) from = me;
  return box_of(from, e);
}

static unsigned ballot(int x) {
  int me = world->at, e = world->fiber[me].exchanges++, base = me / WARP * WARP;
  unsigned votes = 0;
  *box_of(me, e) = x != 0;
  yield(IN_WARP);
  for (int lane = 0; lane < WARP && base + lane < world->n; lane++) votes |= (unsigned)*box_of(base + lane, e) << lane;
  return votes;
}

/* Element k of a fragment's words for its row. */
static float element(const uint32_t *word, int k, TgMma what) {
  float f;
  if (what == TG_MMA_TF32) return memcpy(&f, word, sizeof f), f;
  uint16_t bits = (uint16_t)(k % 2 ? *word >> 16 : *word);
  return (float)dt_get_f(what == TG_MMA_BF16 ? DT_BF16 : DT_F16, &bits, 0);
}

/* m16n8k16, tf32 m16n8k8: the fragments as PTX lays them out, a word two halves or one tf32. Each sum is formed in f64
 * and rounded once: the hardware's order is its own. */
static void mma(float *d, const unsigned *a, const unsigned *b, TgMma what) {
  int me = world->at, e = world->fiber[me].exchanges++, base = me / WARP * WARP, lane = me % WARP,
      per = what == TG_MMA_TF32 ? 1 : 2;
  uint32_t *box = (uint32_t *)(void *)box_of(me, e);
  memcpy(box, a, 16);
  memcpy(box + 4, b, 8);
  yield(IN_WARP);
  for (int i = 0; i < 4; i++) {
    int row = lane / 4 + 8 * (i / 2), col = lane % 4 * 2 + i % 2;
    double s = d[i];
    for (int k = 0; k < 8 * per; k++) {
      int word = k / per, high = word / 4;
      const uint32_t *wa = (const uint32_t *)(const void *)box_of(base + row % 8 * 4 + word % 4, e);
      const uint32_t *wb = (const uint32_t *)(const void *)box_of(base + col * 4 + word % 4, e);
      s += (double)element(&wa[(row >= 8) + 2 * high], k, what) * (double)element(&wb[4 + high], k, what);
    }
    d[i] = (float)s;
  }
}

/* As late as can be: when the thread waits. */
static void copy(void *to, const void *from, int bytes, int live) {
  Fiber *f = &world->fiber[world->at];
  if ((uintptr_t)to % (unsigned)bytes || (uintptr_t)from % (unsigned)bytes)
    fake_misuse("a copy to shared memory is not aligned");
  if (f->ncopy == MAX_COPIES) abort();
  f->copy[f->ncopy++] = (Copy){to, from, bytes, live};
}
static void copy_wait(void) {
  Fiber *f = &world->fiber[world->at];
  for (int i = 0; i < f->ncopy; i++) {
    const Copy *c = &f->copy[i];
    if (world->racing) {
      if (c->live) race_touch(world->at, c->from, (unsigned)c->bytes, false);
      race_touch(world->at, c->to, (unsigned)c->bytes, true);
    }
    if (c->live)
      memcpy(c->to, c->from, (size_t)c->bytes);
    else
      memset(c->to, 0, (size_t)c->bytes);
  }
  f->ncopy = 0;
}

/* An access of the running thread; its own stack is nobody else's affair. */
static void touch(const void *at, unsigned bytes, int write) {
  const World *w = world;
  const char *p = at, *here = __builtin_frame_address(0);
  if (p >= w->stacks && p < w->stacks + (size_t)MAX_THREADS * STACK) return;
  if (p > here - (1 << 20) && p < here + (1 << 20)) return; /* of threads that need no fiber */
  race_touch(w->at, at, bytes, write);
}

static unsigned short to_f16(float x) {
  uint16_t r;
  dt_put_f(DT_F16, &r, 0, (double)x);
  return r;
}
static float of_f16(unsigned short x) { return (float)dt_get_f(DT_F16, &x, 0); }

/* ---- Turns ------------------------------------------------------------------------------------------------------- */
static uint32_t next_random(uint32_t *state) {
  *state ^= *state << 13, *state ^= *state >> 17, *state ^= *state << 5;
  return *state;
}
static void make_turns(int *turn, int n, Order order, uint32_t *seed) {
  for (int i = 0; i < n; i++) turn[i] = order == ORDER_REVERSE ? n - 1 - i : i;
  for (int i = n - 1; i > 0 && order == ORDER_SHUFFLE; i--) {
    int j = (int)(next_random(seed) % (uint32_t)(i + 1)), t = turn[i];
    turn[i] = turn[j];
    turn[j] = t;
  }
}

/* Opens the warps and the barrier that can be. 0: nothing moves any more though some have not ended; -1 all have. */
static int release(World *w, int *result) {
  int left = 0, waiting = 0, opened = 0, line = 0;
  for (int i = 0; i < w->n; i++) {
    Fiber *f = &w->fiber[i];
    if (f->state == ENDED) continue;
    left++;
    if (f->state != AT_BARRIER) continue;
    if (waiting && f->line != line) *result = LAUNCH_FAILED;
    line = f->line;
    waiting++;
  }
  if (!left) return -1;
  for (int base = 0; base < w->n; base += WARP) {
    int in = 0, other = 0;
    for (int i = base; i < base + WARP && i < w->n; i++) {
      in += w->fiber[i].state == IN_WARP;
      other += w->fiber[i].state != IN_WARP && w->fiber[i].state != ENDED;
    }
    if (!in || other) continue;
    for (int i = base; i < base + WARP && i < w->n; i++)
      if (w->fiber[i].state == IN_WARP) w->fiber[i].state = READY;
    opened = 1;
  }
  if (waiting == left) {
    if (*result) fprintf(stderr, "fake driver: threads wait at different barriers\n");
    for (int i = 0; i < w->n; i++)
      if (w->fiber[i].state == AT_BARRIER) w->fiber[i].state = READY;
    race_barrier();
    return 1;
  }
  return opened;
}

static int run_block(World *w, Order order, uint32_t *seed) {
  int turn[MAX_THREADS], result = 0;
  uint32_t resting = order == ORDER_SHUFFLE ? next_random(seed) : 0;
  for (int i = 0; i < w->n; i++) {
    Fiber *f = &w->fiber[i];
    char *top = w->stacks + (size_t)(i + 1) * STACK;
    void **sp = (void **)(void *)top;
    *--sp = NULL;               /* alignment, and the end of the chain */
    *--sp = (void *)fiber_main; /* where ret goes */
    for (int r = 0; r < 6; r++) *--sp = NULL;
    f->sp = sp;
    f->state = READY;
    f->exchanges = 0;
    f->ncopy = 0;
  }
  for (;;) {
    make_turns(turn, w->n, order, seed);
    /* shuffled warps also go at different paces: half of them rest for a while */
    if (order == ORDER_SHUFFLE && next_random(seed) % 16 == 0) resting = next_random(seed);
    bool any = false;
    for (int i = 0; i < w->n; i++) any |= w->fiber[i].state == READY && !(resting >> (i / WARP) & 1);
    for (int i = 0; i < w->n; i++) {
      Fiber *f = &w->fiber[turn[i]];
      if (f->state != READY || (any && resting >> (turn[i] / WARP) & 1)) continue;
      w->at = turn[i];
      w->shim.thread.x = (unsigned)turn[i];
      fiber_switch(&w->main_sp, f->sp);
    }
    int moved = release(w, &result);
    if (moved < 0) return result;
    for (int i = 0; i < w->n && !moved; i++) moved = w->fiber[i].state == READY;
    if (!moved) {
      fprintf(stderr, "fake driver: threads wait for each other for ever\n");
      return LAUNCH_FAILED;
    }
  }
}

__attribute__((destructor)) static void at_end(void) {
  if (world) munmap(world->stacks, (size_t)MAX_THREADS * STACK);
  free(world);
  world = NULL;
}

int fibers_run(const Launch *l) {
  uint32_t grid = l->grid, block = l->block;
  Order order = l->order;
  if (block > MAX_THREADS || !block || !grid) return 1;
  if (!world) {
    world = calloc(1, sizeof *world);
    world->stacks = mmap(NULL, (size_t)MAX_THREADS * STACK, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (world->stacks == MAP_FAILED) abort();
    for (int i = 0; i < MAX_THREADS; i++) mprotect(world->stacks + (size_t)i * STACK, GUARD, PROT_NONE);
    world->shim = (TgShim){.sync = sync_threads,
                           .down = down,
                           .ballot = ballot,
                           .mma = mma,
                           .copy = copy,
                           .copy_wait = copy_wait,
                           .touch = touch,
                           .to_f16 = to_f16,
                           .of_f16 = of_f16};
  }
  World *w = world;
  uint32_t seed = 12345;
  int result = 0;
  *l->shim = &w->shim;
  w->fn = l->fn;
  w->args = l->args;
  w->n = (int)block;
  w->racing = l->racing;
  w->cut = l->cut;
  race_launch(l->end, l->record);
  for (uint32_t b = 0; b < grid && !result; b++) {
    /* 2654435761 is prime: the products are all numbers below grid, in some order */
    w->shim.block.x = order == ORDER_FORWARD   ? b
                      : order == ORDER_REVERSE ? grid - 1 - b
                                               : (uint32_t)(((uint64_t)b * 2654435761u + 7) % grid);
    race_block();
    if (l->waits) {
      result = run_block(w, order, &seed);
      continue;
    }
    for (uint32_t t = 0; t < block; t++) {
      w->shim.thread.x = order == ORDER_FORWARD ? t : block - 1 - t;
      w->at = (int)w->shim.thread.x;
      l->fn(l->args);
    }
  }
  if (!race_found()) return result;
  fprintf(stderr, "fake driver: race: %s\n", race_found());
  return LAUNCH_FAILED;
}
