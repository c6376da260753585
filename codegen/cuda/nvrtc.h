/* CUDA C to machine code through NVRTC, found at run time; several sources at once; results kept on disk.
 *
 *   CudaBuild  the library, its workers, the cache's folder
 *   CudaJob    one source on its way to an image (cubin, or PTX where NVRTC does not know the device) */
#ifndef TG_CODEGEN_CUDA_NVRTC_H
#define TG_CODEGEN_CUDA_NVRTC_H
#include <stdbool.h>
#include <stddef.h>

typedef struct CudaBuild CudaBuild;
typedef struct CudaJob CudaJob;

/* For devices of compute capability `arch` (10 * major + minor), with up to `threads` compilations at once. The library
 * is looked for at TG_NVRTC, then by its names, then in folders of toolkits and of Python packages; there one of a
 * later CUDA than `driver` (RtDevice.driver; 0: any will do) is passed by, since a driver may refuse what a later major
 * version makes. NULL with the reason in why. */
CudaBuild *cuda_build_new(int arch, int driver, int threads, const char *cache_dir, char *why, size_t nwhy);
/* PTX for that architecture and all later ones, in place of machine code. Before the first source. */
void cuda_build_as_ptx(CudaBuild *b);
void cuda_build_free(CudaBuild *b);                 /* waits for its workers; frees the jobs too */
const char *cuda_build_library(const CudaBuild *b); /* path or name of the library, and its version */
void cuda_build_version(const CudaBuild *b, int *major, int *minor);

/* Starts compiling source (copied). Lives until cuda_build_free. NULL: out of memory. */
CudaJob *cuda_build_start(CudaBuild *b, const char *source);
/* Waits. The image belongs to the job. NULL with *why, which lives as long as the job. */
const void *cuda_build_wait(CudaJob *j, size_t *bytes, bool *from_disk, const char **why);
/* What the compiler said: registers and spills of each function. "" when the image came from disk. */
const char *cuda_build_log(CudaJob *j);
void cuda_build_release(CudaJob *j); /* the image and the log are no longer needed */
#endif
