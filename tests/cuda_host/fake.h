/* A CUDA driver and an NVRTC that run kernels on the host: one library that stands in for both, for tests (TG_CUDA_DRIVER, TG_NVRTC).
 *
 * Work is queued and runs as late as the interface allows, so that a missing wait shows; device memory can't be touched by the
 * host in between. Environment:
 *   TG_FAKE_ORDER=forward|reverse|shuffle   order of blocks, of threads and of the turns they take (default forward)
 *   TG_FAKE_FAIL=CALL:N[:RESULT]            the N-th call of CALL fails; RESULT 700 and up: everything does from then on
 *   TG_FAKE_COUNT=FILE                      appends how often each call was made, at the end
 *   TG_FAKE_KEEP=FOLDER                     keeps the sources that were compiled
 *   TG_FAKE_CUT=N                           leaves out the N-th barrier of every source
 *   TG_FAKE_CC="COMMAND"                    the C compiler (default: tcc)
 *   TG_FAKE_ARCH=80                         compute capability
 * At its end it says on standard error what was not freed. */
#ifndef TG_TESTS_CUDA_HOST_FAKE_H
#define TG_TESTS_CUDA_HOST_FAKE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* fibers.c: one launch. Gives 0, or a CUDA result. `fn` takes the arguments' struct; shim is the library's tg_shim. */
struct TgShim;
typedef enum { ORDER_FORWARD, ORDER_REVERSE, ORDER_SHUFFLE } Order;
int fibers_run(void (*fn)(const void *), const void *args, struct TgShim **shim, bool waits, uint32_t grid, uint32_t block, Order order);

/* driver.c: counts the call; the result that it is to fail with, or 0. Kind is one of the calls' names. */
int fake_fails(const char *call);
#endif
