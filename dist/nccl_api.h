/* NCCL's entry points that tg uses, declared here since no header of it is needed to build: NCCL(result, name,
 * parameters). They are those of libnccl.so.2 from 2.14 on, the first with communicators that do not block. */
#ifndef TG_DIST_NCCL_API_H
#define TG_DIST_NCCL_API_H
#include <stdbool.h>
#include <stddef.h>

typedef struct ncclComm *NcclComm;
typedef struct NcclId {
  char bytes[128];
} NcclId;
enum { NCCL_SUCCESS = 0, NCCL_IN_PROGRESS = 7 }; /* of its results */
enum { NCCL_U8 = 1, NCCL_F32 = 7, NCCL_F64 = 8 };
enum { NCCL_SUM = 0 };
enum { NCCL_OLDEST = 21400 };

/* What 2.14 knew of it: a library reads as many bytes as `size` says and gives the rest its defaults. */
typedef struct NcclConfig {
  size_t size;
  unsigned magic, version;
  int blocking;
  int unused;
} NcclConfig;
enum { NCCL_MAGIC = 0xcafebeefu };

#define NCCL(X)                                                                                                        \
  X(int, ncclGetVersion, (int *version))                                                                               \
  X(int, ncclGetUniqueId, (NcclId * id))                                                                               \
  X(int, ncclCommInitRankConfig, (NcclComm * comm, int nrank, NcclId id, int rank, NcclConfig *config))                \
  X(int, ncclCommFinalize, (NcclComm comm))                                                                            \
  X(int, ncclCommDestroy, (NcclComm comm))                                                                             \
  X(int, ncclCommAbort, (NcclComm comm))                                                                               \
  X(int, ncclCommGetAsyncError, (NcclComm comm, int *result))                                                          \
  X(int, ncclGroupStart, (void))                                                                                       \
  X(int, ncclGroupEnd, (void))                                                                                         \
  X(int, ncclSend, (const void *from, size_t count, int type, int to, NcclComm comm, void *stream))                    \
  X(int, ncclRecv, (void *to, size_t count, int type, int from, NcclComm comm, void *stream))                          \
  X(int, ncclAllGather, (const void *from, void *to, size_t count, int type, NcclComm comm, void *stream))             \
  X(int, ncclAllReduce, (const void *from, void *to, size_t count, int type, int op, NcclComm comm, void *stream))     \
  X(const char *, ncclGetErrorString, (int result))                                                                    \
  X(const char *, ncclGetLastError, (NcclComm comm))

typedef struct NcclLib {
#define FIELD(result, name, params) result(*name) params;
  NCCL(FIELD)
#undef FIELD
  void *lib;
  int version;
} NcclLib;

/* Finds the library: TG_NCCL (a path; "none": there is none), by its name, in folders of toolkits and of Python
 * packages. False with the reason. */
bool nccl_find(NcclLib *n, char *why, size_t nwhy);
/* Where the library that was found lies; its name where nobody can tell. It stays loaded, and the text with it. */
const char *nccl_path(const NcclLib *n);
#endif
