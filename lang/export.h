/* Exports of a script: what `tg build` elaborates, plans and writes (public face of lang/export.c).
 *
 * An export is a def with annotated parameters. Its tensors are flattened: a record or tuple parameter is one tensor a
 * leaf. At most one size may be left open, by a name in front of tensors' other axes (`x: [B, 784]`): the run-time
 * batch. */
#ifndef TG_LANG_EXPORT_H
#define TG_LANG_EXPORT_H
#include "lang/lang.h"

typedef struct ExportTensor {
  const char
      *name; /* "x", "state_h" (record and tuple positions joined by _); results "out", "out_0", a record's keys */
  DType dtype;
  int rank;
  int64_t dim[TG_MAX_RANK];
  bool batched; /* an input whose dim 0 is the run-time size. Of outputs the caller finds out */
  Node *node;   /* input: INPUT of slot EXPORT_SLOT + position; output: its value */
} ExportTensor;

typedef struct Export {
  const char *name, *doc, *signature;
  Span span;
  const char *batch; /* the open size's name; NULL: none */
  int nin, nout, nnext;
  ExportTensor *in, *out;
  Node **next;     /* values that states take after the call */
  int *next_state; /* which */
} Export;

/* A state: a tensor of a top-level name that some export assigns by `next name = ...`. Exports read it as an INPUT,
 * since it changes from call to call; `init` is what the script made of it. */
typedef struct ExportState {
  const char *name; /* "net.dense1.w" */
  Node *init, *input;
} ExportState;

enum { EXPORT_SLOT = 1 << 20, EXPORT_STATE_SLOT = EXPORT_SLOT + (1 << 16) };

/* After a successful unit, before the first session_export. False with diagnostics. */
bool session_export_states(Session *s, int *n, ExportState **out);

/* After a successful unit: how many exports its file has. */
int session_exports(Session *s);
/* Elaborates export i with `batch` for its open size. False with diagnostics. */
bool session_export(Session *s, int i, int64_t batch, Export *out);
/* What the program calls the tensor of node n: "w", "net.dense1.w"; NULL: nothing. */
const char *session_tensor_name(Session *s, const Node *n);
#endif
