/* A CUDA driver and an NVRTC that run kernels on the host: one library that stands in for both, for tests
 * (TG_CUDA_DRIVER, TG_NVRTC).
 *
 * Work is queued and runs as late as the interface allows, so that a missing wait shows; device memory can't be touched
 * by the host in between. Environment:
 *   TG_FAKE_ORDER=forward|reverse|shuffle   order of blocks, of threads and of the turns they take (default forward)
 *   TG_FAKE_FAIL=CALL:N[:RESULT]            the N-th call of CALL fails; RESULT 700 and up: everything does from then on
 *   TG_FAKE_FAIL=CALL:N+[:RESULT]           and so does every later one of CALL
 *   TG_FAKE_COUNT=FILE                      appends how often each call was made, at the end
 *   TG_FAKE_KEEP=FOLDER                     keeps the sources that were compiled
 *   TG_FAKE_CUT=NAME:LINE                   the barrier in this line of that kept source (without its .cu) holds nobody up
 *   TG_FAKE_RACE=1                          compiles by gcc so that every access to memory is seen; two threads that meet
 *                                           at a place without a barrier between them, one of them writing, are a failed
 *                                           launch
 *   TG_FAKE_CC="COMMAND"                    the C compiler (default: tcc)
 *   TG_FAKE_ARCH=80                         compute capability
 *   TG_FAKE_MEMORY=BYTES                    of the device
 *   TG_FAKE_DEVICES=1                       how many there are
 *   TG_FAKE_DRIVER=12040, TG_FAKE_NVRTC=0   the CUDA that the driver knows; the major version of NVRTC
 * At its end it says on standard error what was not freed. */
#ifndef TG_TESTS_CUDA_HOST_FAKE_H
#define TG_TESTS_CUDA_HOST_FAKE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct TgShim;
typedef enum { ORDER_FORWARD, ORDER_REVERSE, ORDER_SHUFFLE } Order;
typedef struct Launch {
  void (*fn)(const void *);
  const void *args;         /* the struct of arguments */
  struct TgShim **shim;     /* the library's tg_shim */
  bool waits, racing;       /* threads wait for each other; they report what they touch */
  int cut;                  /* line of the barrier that is left out, or 0 */
  const char *end, *record; /* of its scratch; the fault record behind that: nothing from the one on is a kernel's */
  uint32_t grid, block;
  Order order;
} Launch;
int fibers_run(const Launch *l); /* fibers.c: 0, or a CUDA result */

/* race.c: who touched what since the launch, the block, the barrier before; who left the scratch (Launch.end).
 * race_found: the first race of this launch, or NULL. */
void race_launch(const char *end, const char *record);
void race_block(void);
void race_barrier(void);
void race_touch(int thread, const void *at, unsigned bytes, bool write);
const char *race_found(void);

/* For a fake NCCL (tests/fake_nccl/): work that waits for other processes. `step` does what it can: 0 all, FAKE_NOT_YET
 * it is asked again, else a CUDA result. `touches`: reads or writes a byte of [lo, hi). `drop` frees it. */
enum { FAKE_NOT_YET = -1 };
typedef struct FakeWork {
  int (*step)(void *ctx);
  bool (*touches)(const void *ctx, const char *lo, const char *hi);
  void (*drop)(void *ctx);
  void *ctx;
} FakeWork;
typedef int FakeQueue(void *stream, const FakeWork *w); /* exported as fake_queue */
typedef bool FakeOnDevice(const void *at);              /* exported as fake_on_device */
typedef void FakeAtEnd(void (*fn)(void)); /* exported as fake_at_end: fn is called when the context ends */

/* driver.c */
bool fake_on_device(const void *at); /* device memory, not shared memory */
void fake_misuse(const char *what);  /* says it on standard error */

/* driver.c: counts the call; the result that it is to fail with, or 0. Kind is one of the calls' names. */
int fake_fails(const char *call);
#endif
