/* Routines in a library (routine.h): the work space of all calls is measured when a context is made. */
#include "codegen/rt/lib.h"
#include "codegen/rt/routine.h"

static RtCall call_of(const LibCallStep *s, const RtTensor *tensor, const Lapack *lapack) {
  return (RtCall){
      .in = tensor, .out = tensor + s->nin, .nin = s->nin, .nout = s->nout, .option = s->option, .lapack = lapack};
}

int lib_open_routines(const Lib *lib, Lapack two[2]) {
  for (int i = 0; i < lib->ncall; i++)
    if (lib->call[i]->fn->open) return lib->call[i]->fn->open(two);
  return 0;
}

size_t lib_work_bytes(const Lib *lib, const Lapack *two) {
  size_t most = 0;
  for (int i = 0; i < lib->ncall; i++) {
    const LibCallStep *s = lib->call[i];
    RtCall c = call_of(s, s->tensor, two);
    c.measure = 1;
    if ((s->fn->open && !two) || s->fn->run(&c)) continue; /* what is wrong is said when it is called */
    if (c.work_bytes > most) most = c.work_bytes;
  }
  return most;
}

static int run_alone(const LibCallStep *s, RtCall *call) {
  const Lapack *la = s->fn->open && call->lapack->enter ? call->lapack : NULL;
  if (la) la->enter(la);
  int status = s->fn->run(call);
  if (la) la->leave(la);
  return status;
}

int lib_run_call(LibContext *c, const LibCallStep *s) {
  RtTensor tensor[RT_ROUTINE_MOST_TENSORS];
  if (s->fn->open && !c->has_lapack)
    return lib_fail(c, RT_NO_LAPACK, "%s: %s: %s", s->site, s->fn->name, LAPACK_MISSING);
  for (int i = 0; i < s->nin + s->nout; i++) {
    tensor[i] = s->tensor[i];
    tensor[i].data = c->addr[s->slot[i]];
  }
  RtCall call = call_of(s, tensor, c->lapack);
  call.work = c->work;
  call.work_bytes = c->work_bytes;
  int status = run_alone(s, &call);
  return status ? lib_fail(c, status, "%s: %s", s->site, call.message) : RT_OK;
}
