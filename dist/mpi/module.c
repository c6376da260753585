/* The module tg-mpi.so: starts MPI and makes the group. Ranks that all live on one host only meet through MPI: their
 * data go through shared memory (dist/shared.c), which is faster and sees a dead neighbour at once. */
#include "dist/mpi.h"
#include "dist/mpi/group.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* Rank 0 makes the segment; its name is gone once all have it. */
static CommSegment *segment(int rank, int nrank) {
  char name[64] = "";
  size_t bytes = comm_segment_bytes(nrank, true), core = comm_segment_bytes(nrank, false);
  int fd = -1;
  if (rank == 0) {
    snprintf(name, sizeof name, "/tg-ranks-%d", (int)getpid());
    fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    /* a full file system shows here, not by a signal later; windows grow as they are used (lent.c) */
    if (fd < 0 || ftruncate(fd, (off_t)bytes) || posix_fallocate(fd, 0, (off_t)core)) *name = 0;
  }
  MPI_Bcast(name, sizeof name, MPI_CHAR, 0, MPI_COMM_WORLD);
  if (rank > 0 && *name) fd = shm_open(name, O_RDWR, 0600);
  void *at =
      fd >= 0 && *name ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0) : MAP_FAILED;
  if (fd >= 0) close(fd);
  if (rank == 0 && at != MAP_FAILED) comm_segment_init(at, nrank, true);
  int mine = at != MAP_FAILED, all = 0;
  MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD); /* after the init, before anybody reads it */
  if (rank == 0 && *name) shm_unlink(name);
  if (all) return at;
  if (mine) munmap(at, bytes);
  return NULL;
}

EXPORT Comm *tg_mpi_open(char *why, size_t room) {
  int got = MPI_THREAD_SINGLE, rank, nrank, local;
  if (MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &got) != MPI_SUCCESS) {
    snprintf(why, room, "MPI_Init failed");
    return NULL;
  }
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &nrank);
  if (nrank == 1) return comm_alone();
  MPI_Comm here;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here);
  MPI_Comm_size(here, &local);
  MPI_Comm_free(&here);
  int one_host = local == nrank, all = 0;
  MPI_Allreduce(&one_host, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  CommSegment *seg = all ? segment(rank, nrank) : NULL;
  Comm *c = seg ? comm_shared(seg, rank) : NULL;
  if (c) comm_shared_guard(c); /* mpirun does not see that a rank is stopped */
  if (!c && got < MPI_THREAD_SERIALIZED) {
    snprintf(why, room, "this MPI does not allow threads");
    return NULL;
  }
  if (!c && !(c = mpi_messages(MPI_COMM_WORLD))) snprintf(why, room, "out of memory");
  return c;
}

EXPORT void tg_mpi_close(Comm *c, bool ok) {
  CommFault f;
  if (ok && comm_size(c) > 1) ok = comm_barrier(c, &f);
  bool first = !strcmp(comm_kind(c), "mpi"); /* it sends messages; the others watch the ranks until all are through */
  if (first) comm_free(c);
  if (ok) MPI_Finalize(); /* else mpirun ends what is left */
  if (!first) comm_free(c);
}
