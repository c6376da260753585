/* The front end as the composition root sees it: sources in, regions of the graph out.
 *
 * A Session keeps what lives across units: names, sources, the graph, loaded modules, top-level bindings. A unit is one
 * script or one prompt entry. Elaboration is evaluation with unknown tensors: static values (numbers, sizes, strings,
 * records, functions) are computed, tensors become graph nodes, every call is followed. So everything is checked before
 * anything runs. */
#ifndef TG_LANG_LANG_H
#define TG_LANG_LANG_H
#include "graph/native.h"
#include "lang/ast.h"

typedef struct Session Session;
struct DataProgram;

/* What lang needs from rooms that it must not include. */
typedef struct Hooks {
  void (*vjp)(Graph *g, const Natives *n, int ny, Node *const *y, Node *const *ct, int nx, Node *const *x, Node **dx);
  void (*jvp)(Graph *g, const Natives *n, int nx, Node *const *x, Node *const *tx, int ny, Node *const *y, Node **ty);
  /* Runs a region now, for static(e) and for the prompt; session inputs are known to the host. */
  bool (*run)(void *ctx, Graph *g, const Region *r, Tensor *out, Fault *fault);
  /* Keeps a tensor as a session input (the host owns it from now on); returns its INPUT slot. */
  int64_t (*keep)(void *ctx, Tensor t);
  /* The library: text of module `name` (embedded in the program), or NULL. */
  const char *(*library)(void *ctx, const char *name, size_t *len);
  struct DataTable *data; /* the session's data sets (stdlib/native/data.h); NULL: none can be made */
  /* Compiles a region for data sets, to be run on chunks of rows by a thread of theirs: input k of the
   * program is the INPUT of slot[k], which `keep` gave. False with the fault. */
  bool (*program)(void *ctx, Graph *g, const Region *r, int n, const int64_t *slot, struct DataProgram *out,
                  Fault *fault);
  void *ctx;
} Hooks;

typedef struct SessionOptions {
  const Hooks *hooks;
  const Natives *natives;
  Diags *diags;
  Arena *arena; /* session lifetime */
  int narg;
  const char *const *arg;  /* `--NAME value` pairs for `arg` declarations: name, value, name, value... */
  int ranks;               /* that run the program; 0 or 1: one */
  bool no_fit;             /* fit gives its net as it is (tg build --no-fit) */
  bool inner;              /* the units are the library's own: names that begin with `_` mean what they mean there */
  volatile int *interrupt; /* non-zero: elaboration stops with R005; may be NULL */
} SessionOptions;

Session *session_new(const SessionOptions *o);
Graph *session_graph(Session *s);
Names *session_names(Session *s);

typedef enum {
  UNIT_SCRIPT,
  UNIT_ENTRY /* prompt, -e: shows the last expression's value, binds `ans`, keeps bindings */
} UnitKind;
/* Parses and elaborates. All mistakes are in diags; true when there was none: then *out holds the unit's effects (no
 * outputs) to run in order. For UNIT_ENTRY call session_commit after a successful run, or session_abandon after a
 * fault. */
bool session_unit(Session *s, uint32_t file, UnitKind kind, Region *out);
/* Entry bindings: nodes to compute together with the effects (append to the region's outputs in this order), then
 * committed as session tensors by the host's slots. Abandoning forgets the entry's bindings. */
int session_pending(Session *s, Node ***out);
void session_commit(Session *s, const int64_t *slot);
void session_abandon(Session *s);
/* `:t EXPR`: the type as text, nothing is run. NULL with diagnostics on error. */
char *session_type(Session *s, uint32_t file, Arena *a);
/* While a unit runs: the native `deferred` asks for block number `site` of the session on `rows` rows (the short last
 * batch of a set of unknown length). The region's outputs and effects; argument k of the native is the INPUT of slot
 * first + k. False with the fault. */
bool session_deferred(Session *s, int64_t site, int64_t rows, int64_t first, Region *out, Fault *f);
/* Do the names of this library module need no import? */
bool session_in_scope(const char *module);
/* Names that complete `prefix` (bindings, prelude, keywords; after a dot: fields). Returns count. */
int session_complete(Session *s, const char *prefix, const char ***out, Arena *a);
/* Documentation of a name for `?name`: signature and ## text, or NULL. */
char *session_doc(Session *s, const char *name, Arena *a);
#endif
