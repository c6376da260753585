/* Bounded reading and atomic writing, under all file formats.
 *
 * Every function that fails sets the fault (M_FILE, with the path and the system's reason) and returns false; further
 * calls are then not to be made, except the closing one. */
#ifndef TG_STDLIB_NATIVE_IO_H
#define TG_STDLIB_NATIVE_IO_H
#include "stdlib/native/files.h"
#include "stdlib/native/host.h"
#include <stdio.h>

bool io_fail(Fault *f, const char *path, const char *fmt, ...) __attribute__((format(printf, 3, 4))); /* false */

/* The path as the host means it: relative ones below host->root. Result in `buf` or `path` itself. */
enum { IO_PATH = 4096 };
const char *io_path(const NativeHost *host, const char *path, char buf[IO_PATH]);

/* ---- Reading: a regular file of known size --------------------------------------------------------------------- */
typedef struct In {
  int fd;
  uint64_t size;
  const char *path;
  Fault *fault;
} In;
bool in_open(In *in, const char *path, Fault *f);
void in_close(In *in);
/* Exactly n bytes from `at`; faults when the file ends before ("is truncated"). */
bool in_read(In *in, uint64_t at, void *to, size_t n);

/* ---- Reading in order, through gzip when the file is so compressed ---------------------------------------------- */
typedef struct Stream Stream;
Stream *stream_open(const char *path, Fault *f);
void stream_close(Stream *s);
/* Up to n bytes; fewer only at the end. -1: fault. */
int64_t stream_read(Stream *s, void *to, size_t n);
/* The most bytes that the file can hold when decompressed. */
uint64_t stream_bound(const Stream *s);

/* ---- Writing: a temporary file in the same folder, renamed at the end ------------------------------------------- */
/* A path that exists and is no regular file (a pipe, /dev/stdout) is written in place. */
typedef struct Out {
  FILE *file;
  char tmp[IO_PATH + 32];
  const char *path;
  Fault *fault;
  int why;     /* errno of the first failure; 0: none */
  bool synced; /* since the last write */
} Out;
bool out_open(Out *o, const char *path, Fault *f);
/* A failure is remembered for out_commit. */
void out_write(Out *o, const void *p, size_t n);
/* Flushes and fsyncs; what fails is told by out_commit. */
void out_sync(Out *o);
/* out_sync, renames, fsyncs the folder. On false nothing is left behind and the old file is as it was. Ends o. */
bool out_commit(Out *o);
/* Forgets what was written. Ends o. */
void out_abort(Out *o);

/* ---- Results of load natives ------------------------------------------------------------------------------------ */
/* The result fits what the file promises; the oracle's wide mode asks for f64 where the file has another float. */
bool result_fits(const char *path, const FileTensor *t, const Tensor *out, Fault *f);
/* Where to read t's packed elements: out's own storage, or (in wide mode) a temporary one. NULL: fault. */
void *result_begin(const FileTensor *t, const Tensor *out, Fault *f);
/* Converts and frees the temporary. */
void result_end(const FileTensor *t, Tensor *out, void *data);
/* A run-time fault of a file: the checker's M_FILE becomes R_NATIVE. Returns ok. */
bool run_status(bool ok, Fault *f);
#endif
