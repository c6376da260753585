/* While ranks that mpirun started come together: they have no signs of life in common yet, and MPI_Init waits for all
 * of them for ever. */
#ifndef TG_DIST_SIBLINGS_H
#define TG_DIST_SIBLINGS_H

typedef struct Siblings Siblings;
/* From now on a thread looks for processes of this host that belong to the same run and are stopped; when one stays so
 * (dist/watch.h), it says which rank that is and ends this process, so that mpirun ends all. NULL: the
 * launcher gives its runs no names, or there is no thread. */
Siblings *siblings_watch(void);
void siblings_free(Siblings *s);
#endif
