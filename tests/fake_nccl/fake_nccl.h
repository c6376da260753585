/* An NCCL between processes of one host, for tests (TG_NCCL): its messages are files in a folder named by the unique
 * id, its work waits in the queues of the fake driver (tests/cuda_host/). It is as slow to act as the real one may be:
 * a communicator is in progress for a while after each call that may be, and queues its work at the end of that.
 *
 * It checks what NCCL leaves to its user, and says on standard error ("fake nccl: ..") what is wrong: calls on a
 * communicator that is in progress, that failed or was aborted; messages that do not match in kind, type or size;
 * buffers that are not on the device; groups that are not closed; communicators and messages that are left.
 * Environment:
 *   TG_FAKE_NCCL_DIR=FOLDER          where the folder of the messages is made (default /tmp)
 *   TG_FAKE_NCCL_FAIL=CALL:N[:R]     the N-th call of CALL fails with result R (default 2, a system error). Of
 *                                    ncclCommGetAsyncError the state is R, by default 6, a remote error
 *   TG_FAKE_NCCL_DIE=CALL:N          the process is killed there
 *   TG_FAKE_NCCL_RANK=1              the rank that this happens to; what comes before there are ranks happens to all
 *   TG_FAKE_NCCL_COUNT=FILE          appends how often each call was made, at the end
 *   TG_FAKE_NCCL_VERSION=22304 */
#ifndef TG_TESTS_FAKE_NCCL_H
#define TG_TESTS_FAKE_NCCL_H
#include "tests/cuda_host/fake.h"
#include <stdint.h>

enum {
  OK = 0,
  SYSTEM_ERROR = 2,
  INTERNAL_ERROR = 3,
  INVALID_ARGUMENT = 4,
  INVALID_USAGE = 5,
  REMOTE_ERROR = 6,
  IN_PROGRESS = 7
};
enum { MAX_RANKS = 64, MAX_MOVES = 4096 };

typedef enum { KIND_MESSAGE = 'm', KIND_GATHER = 'g', KIND_SUM = 's' } Kind;

/* One block that goes from this rank to another, or comes from it. */
typedef struct Move {
  bool sends, done;
  int peer;
  long number; /* of the messages between these two in this direction */
  Kind kind;
  int type;
  char *at;
  size_t bytes;
} Move;

/* Calls that act as one: those of a group, or a collective. */
typedef struct Exchange {
  struct ncclComm *comm;
  Move *move;
  int n;
  bool began; /* what is sent has been */
  /* KIND_SUM */
  char *sum;
  size_t count;
} Exchange;

struct ncclComm {
  struct ncclComm *next;
  char folder[256];
  int rank, nrank, busy, error;
  bool joined, aborted, finalized;
  int users; /* exchanges that are queued */
  long sent[MAX_RANKS], received[MAX_RANKS];
  Exchange *waiting; /* is queued when no longer in progress */
  void *stream;
};

/* messages.c */
bool message_put(const struct ncclComm *c, const Move *m);
/* 0: not there yet; 1: taken; -1: it is another message than expected, which is said. */
int message_take(const struct ncclComm *c, const Move *m);
bool rank_arrives(const struct ncclComm *c, const char *what); /* leaves a sign */
int ranks_arrived(const struct ncclComm *c, const char *what);
void folder_clear(const struct ncclComm *c, bool whole); /* whole: says what was left there */
void nccl_misuse(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

size_t type_bytes(int type);
#endif
