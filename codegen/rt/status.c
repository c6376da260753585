/* Texts of the status codes. */
#include "codegen/rt/status.h"

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
  default:
    return "unknown status";
  }
}
