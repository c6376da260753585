/* Texts of the status codes. */
#include "codegen/rt/status.h"
#include "codegen/rt/lapack.h"

const char *rt_status_text(int status) {
  switch (status) {
  case RT_OK:
    return "success";
  case RT_INTERRUPTED:
    return "interrupted";
  case RT_BAD_INDEX:
    return "index out of range";
  case RT_DIV_ZERO:
    return "integer division by zero";
  case RT_NO_MEMORY:
    return "out of memory";
  case RT_ASSERT:
    return "assertion failed";
  case RT_ROUTINE:
    return "a library routine failed";
  case RT_BAD_ARGUMENT:
    return "a null or foreign argument";
  case RT_BAD_SIZE:
    return "wrong number of rows or tensors";
  case RT_BAD_ALIGNMENT:
    return "a buffer is not aligned to its elements";
  case RT_BAD_SHAPE:
    return "a tensor has the wrong shape";
  case RT_BAD_DTYPE:
    return "a tensor has the wrong dtype";
  case RT_BAD_DEVICE:
    return "a tensor is not in the processor's memory";
  case RT_BUSY:
    return "the context is in use by another call";
  case RT_NO_WEIGHTS:
    return "the weights are missing or not the library's";
  case RT_NO_CPU:
    return "the library was built for another processor";
  case RT_DIFFERS:
    return "the results differ from those of the build";
  case RT_NO_DRIVER:
    return "the NVIDIA driver (libcuda.so.1) is missing";
  case RT_NO_DEVICE:
    return "there is no GPU that the library has code for";
  case RT_DEVICE:
    return "the GPU or its driver failed";
  case RT_NO_LAPACK:
    return LAPACK_MISSING;
  default:
    return "unknown status";
  }
}
