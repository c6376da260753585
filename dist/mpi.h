/* MPI: the module tg-mpi.so (dist/mpi/), built where Open MPI is found, lies beside the program and is loaded only in a
 * process that mpirun or srun started. Without it tg neither needs nor starts MPI. */
#ifndef TG_DIST_MPI_H
#define TG_DIST_MPI_H
#include "dist/comm.h"

/* Ranks of this run and of this host, as the launcher's environment says; false: nobody started us. */
bool mpi_environment(int *nrank, int *nlocal);
typedef struct MpiModule {
  Comm *comm;
  void (*close)(Comm *c, bool ok); /* leaves the group; when not ok, without waiting for the others */
} MpiModule;
/* Loads the module, starts MPI, joins the group. False with the reason. */
bool mpi_join(MpiModule *m, char *why, size_t room);

/* What the module exports, under these names. */
typedef Comm *MpiOpen(char *why, size_t room);
typedef void MpiClose(Comm *c, bool ok);
#define MPI_MODULE_FILE "tg-mpi.so"
#define MPI_MODULE_OPEN "tg_mpi_open"
#define MPI_MODULE_CLOSE "tg_mpi_close"
#endif
