/* A Comm whose messages go through MPI, for ranks on several hosts. See messages.c. */
#ifndef TG_DIST_MPI_GROUP_H
#define TG_DIST_MPI_GROUP_H
#include "dist/comm.h"
#include <mpi.h>

/* NULL: no memory, no thread. Takes over nothing; MPI was started with MPI_THREAD_SERIALIZED or more. */
Comm *mpi_messages(MPI_Comm world);
#endif
