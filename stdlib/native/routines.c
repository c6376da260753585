/* Routines of the runtime as natives: tensors and work space for their calls, faults for their errors (routines.h). */
#include "stdlib/native/routines.h"
#include "codegen/rt/routine.h"
#include "stdlib/native/lapack.h"
#include <stdlib.h>
#include <string.h>

_Static_assert((int)LD_BOOL == (int)DT_BOOL && (int)LD_F16 == (int)DT_F16 && (int)LD_F64 == (int)DT_F64,
               "dtype numbers");

static bool failed(const RtCall *c, int status, Fault *f) {
  fault_set(f, status == RT_NO_MEMORY ? R_MEMORY : R_NATIVE, (Span){0}, "%s", c->message);
  return false;
}

static bool call(const RtRoutine *r, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,
                 Fault *f) {
  RtTensor t[RT_ROUTINE_MOST_TENSORS];
  RtCall c = {.in = t, .out = t + nin, .nin = nin, .nout = nout, .option = nattr > 0 ? attr[0].i : 0, .measure = 1};
  if (nin < 1 || nin + nout > RT_ROUTINE_MOST_TENSORS) {
    fault_set(f, R_NATIVE, (Span){0}, "%s: wrong number of arguments or results", r->name);
    return false;
  }
  for (int k = 0; k < nin + nout; k++) {
    const Tensor *x = k < nin ? &in[k] : &out[k - nin];
    t[k] = (RtTensor){x->dim, x->data, (int32_t)x->dtype, x->rank};
  }
  c.lapack = r->open ? lapack_get() : NULL;
  int status = r->run(&c);
  if (status) return failed(&c, status, f);
  c.measure = 0;
  c.work = aligned_alloc(64, (c.work_bytes + 127) & ~(size_t)63);
  if (!c.work) {
    fault_set(f, R_MEMORY, (Span){0}, "%s: no memory for %zu bytes of work space", r->name, c.work_bytes);
    return false;
  }
  status = r->run(&c);
  free(c.work);
  return status ? failed(&c, status, f) : true;
}

#define ROUTINE(R)                                                                                                     \
  static bool run_##R(void *ctx, int nattr, const Attr *attr, int nin, const Tensor *in, int nout, Tensor *out,        \
                      Fault *f) {                                                                                      \
    return call(&rt_routine_##R, nattr, attr, nin, in, nout, out, f);                                                  \
  }
ROUTINE(sort)
ROUTINE(argsort)
ROUTINE(solve)
ROUTINE(inv)
ROUTINE(det)
ROUTINE(slogdet)
ROUTINE(cholesky)
ROUTINE(qr)
ROUTINE(svd)
ROUTINE(eigh)
ROUTINE(lstsq)

const Native routine_natives[ROUTINE_NATIVES] = {
    {.name = "sort", .own = 1, .run = run_sort},         {.name = "argsort", .own = 1, .run = run_argsort},
    {.name = "solve", .own = 2, .run = run_solve},       {.name = "inv", .own = 2, .run = run_inv},
    {.name = "det", .own = 2, .run = run_det},           {.name = "slogdet", .own = 2, .run = run_slogdet},
    {.name = "cholesky", .own = 2, .run = run_cholesky}, {.name = "qr", .own = 2, .run = run_qr},
    {.name = "svd", .own = 2, .run = run_svd},           {.name = "eigh", .own = 2, .run = run_eigh},
    {.name = "lstsq", .own = 2, .run = run_lstsq},
};
