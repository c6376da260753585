/* Models: immutable records of parameters, states and sub-models, with methods. Internal to lang/.
 *
 *   ModelV   one model, or a stack of models (the same with a leading axis in front of every leaf)
 *   Member   what a name in it means
 *   Next     the next values of states, collected while value_grad traces
 *   Build    a model under construction: what `_` stands for is found by calling `apply` on a stand-in
 *
 * Identity. Every parameter and state has an id, a pointer that is compared only. A model that holds the same sub-model
 * twice holds each of its leaves once: whoever lists leaves lists an id's first occurrence, and whoever replaces leaves
 * replaces all occurrences. Replacing a leaf renews its id, so two versions of a model never share one. Sharing holds
 * within one model, not between fields of a record. */
#ifndef TG_LANG_MODEL_H
#define TG_LANG_MODEL_H
#include "lang/session.h"

typedef enum {
  MEM_ARG, /* a constructor's argument */
  MEM_PARAM,
  MEM_STATE,
  MEM_VALUE,  /* `name = e`: a sub-model, a number, a structure of such... fixed at construction */
  MEM_DERIVED /* `name = e` where e reads parameters: evaluated again at each use, so that it follows training */
} MemberKind;
typedef struct Member {
  Name name;
  MemberKind kind;
  Value *v;       /* DERIVED: as it was at construction. A bare model's states: V_NONE */
  const void *id; /* PARAM, STATE */
  Span span;
  Ast *ast;      /* PARAM, STATE, VALUE, DERIVED: the declaration */
  Stream stream; /* DERIVED: where it draws from */
} Member;

/* One constructor call in a short form's text and the member that it became. */
typedef struct Site {
  const Ast *call;
  int member;
} Site;

typedef struct ModelV {
  const Fun *def;
  const char *path; /* where it was made, in the outermost model: "dense1", "blocks.qkv"; "" at the top */
  int n;
  Member *at;
  int nmethod;
  Ast **method; /* AST_DEF */
  int nsite;
  Site *site; /* short form */
  bool training;
  bool bare; /* parameters only, for gradients and an optimiser's averages: no states, no other tensors */
  int lead;  /* > 0: a stack; the axes in front of every leaf */
  Dim dim[TG_MAX_RANK];
  const Index *born;   /* innermost index around the construction */
  struct Hole *hole;   /* an argument is `_` still: no members yet */
  struct Build *build; /* under construction: `apply` runs on a stand-in */
} ModelV;

Value *v_model(Elab *E, ModelV *m);

/* ---- leaves (leaves.c) ---- */
typedef enum {
  LEAF_PLAIN /* in no model */,
  LEAF_PARAM,
  LEAF_STATE,
  LEAF_VALUE /* another tensor in a model */
} LeafKind;
/* Parallel to v_leaves. Paths: "dense1.w"; record keys and tuple positions joined by dots; a stack has one path. */
int v_leaf_paths(Elab *E, Value *v, const char ***path);
int v_leaf_kinds(Elab *E, Value *v, LeafKind **kind);
bool v_has_model(const Value *v);
/* Every leaf of a model by fn; ids are renewed. The new leaves have `lead` axes more in front (dim[0] is the new one),
 * or less. Sub-models for which keep(ctx, m) holds stay as they are. */
typedef struct LeafMap {
  Value *(*fn)(Elab *E, void *ctx, Value *leaf, LeafKind kind);
  bool (*keep)(void *ctx, const ModelV *m);
  void *ctx;
  int lead; /* at most one more */
  Dim dim;
  bool bare; /* states and other tensors are dropped */
} LeafMap;
Value *model_map(Elab *E, Value *model, const LeafMap *map);
/* As v_with_leaves, of leaves with one more axis in front: models become stacks. */
Value *v_stacked(Elab *E, Value *like, Value *const *leaf, Dim lead);
bool model_same_structure(const ModelV *a, const ModelV *b);
/* The models of all values of index i as a stack; pieces as a stack; could they be one; stack[...] (model_stack.c). */
Value *model_abstract(Elab *E, Value *model, const Index *i, Span at);
Value *model_join(Elab *E, int n, Value *const *piece, const Span *at, Span whole);
bool model_pieces_stack(Elab *E, int n, Value *const *v);
Value *model_index(Elab *E, const Env *env, Value *model, Ast *e);
int64_t model_len(Elab *E, Value *model, Span at, const char *what, const Origin **from);
/* Element k of a stack; k is inside by construction. */
Value *model_row(Elab *E, Value *stack, Expr *k);
/* All models in v with parameters only. */
Value *v_bare(Elab *E, Value *v);
/* v with parameters only where `like` has a model of that kind: an average of gradients takes g + decay * net, a whole
 * model, and stays an average. */
Value *v_bare_like(Elab *E, Value *v, const Value *like);
/* net.train, net.eval: all models in v. */
Value *v_with_mode(Elab *E, Value *v, bool training);
/* The model with parameters fn(i-th parameters of each); states and the rest are the first's that is not bare. */
typedef Value *(*ParamFn)(Elab *E, void *ctx, int n, Value **arg);
Value *model_arith(Elab *E, int n, Value *const *v, const Span *at, Span whole, const char *opname, ParamFn fn,
                   void *ctx);

/* ---- construction, `_` (model_make.c, model_solve.c) ---- */
typedef struct Hole {
  Fun *def;
  Call call;
  int n;
  Value **value;
  Span *at;
  Stream stream;
  const char *path;
  struct Build *build;
  Value *solved;
} Hole;
Value *model_construct(Elab *E, Fun *def, Call *c);
/* With all arguments known. */
Value *model_build(Elab *E, Fun *def, Call *c, int n, Value **value, Span *at);
/* The model whose `_` the arguments of its first call give. */
Value *hole_solve(Elab *E, Hole *h, Call *c);
typedef struct Build {
  ModelV *m;
  const Env *env;
  Stream stream; /* of the construction */
  const Index *index;
  VEC(Hole *) hole; /* of its members; a trial adds those of its sites */
  int declared;     /* of these, the members' */
  VEC(Site) site;
  VEC(Member) made; /* by sites */
  struct Build *up;
} Build;
/* Calls the model on stand-ins of its input's type, one row each where the type leaves it open; *c gets the arguments.
 * False when no stand-in will do. */
bool model_call_example(Elab *E, Value *model, Call *c);
/* Runs apply on stand-ins until every hole is solved. */
void build_solve(Elab *E, Build *b, Value *self);
Stream stream_member(const Stream *base, const char *name);
const char *path_join(Elab *E, const char *a, const char *b);
/* M(...) as written: the sub-model that the call stands for in the text of a short form, else a new model. */
Value *elab_construct(Elab *E, const Env *env, Fun *def, Ast *call, Call *c);

/* ---- members and calls (model_call.c) ---- */
const Env *model_env(Elab *E, Value *model);
Value *model_member(Elab *E, Value *model, Name name, Span at); /* NULL when there is none */
const char *model_suggest(Elab *E, const ModelV *m, Name name);
Value *model_call(Elab *E, Value *model, Call *c);
const char *model_label(Elab *E, const ModelV *m); /* "dense1", or the model's name */
Ast *model_apply(Elab *E, const ModelV *m);        /* the method `apply`, or NULL */
char *model_text(Elab *E, const ModelV *m);        /* for messages: "a model CNN(10)" */
char *model_tree(Elab *E, const ModelV *m);        /* for the reader: sub-models, parameters, counts (model_text.c) */
/* While a summary is made: what this call of a method gave; `before` is E->record as it began. */
void model_record(Elab *E, const ModelV *m, const Call *c, Value *result, const struct Record *before);

/* ---- next values (model_next.c) ---- */
/* Newest first; persistent. `parent`: the first entry of a row of the state `parent` of a stack; `at`: which row, for
 * rows that are read from the stack and written into it at once; NULL: whoever walks the stack collects them. */
typedef struct Next {
  const void *id;
  Value *v;
  bool write;
  const void *parent;
  Expr *at;
  const struct Next *up;
} Next;
Value *next_value(Elab *E, const void *id, Value *otherwise);
/* id is v from here on: known anew; or by a next value. */
void next_know(Elab *E, const void *id, Value *v);
void next_write(Elab *E, const void *id, Value *v);
/* States known at `mark` that have been written since: their values before and now. The same of rows of stacks. */
typedef struct Change {
  const void *id;
  Value *before, *v;
} Change;
int next_changes(Elab *E, const Next *mark, Change **out);
typedef struct RowWrite {
  const void *parent;
  Value *before, *v;
} RowWrite;
int next_rows(Elab *E, const Next *mark, RowWrite **out);
/* Closes index i, whose scope began at `mark`: rows become their stacks' values. */
void next_close(Elab *E, const Next *mark, const Index *i, Expr *guard, Span at);
/* The model stack[k], part of it; k known now: what it writes goes into the stack. */
void next_rows_of(Elab *E, const Value *stack, const Value *row, Expr *at);
const Env *elab_next(Elab *E, const Env *env, Ast *e);
/* All models in v with states of fresh ids that are tracked from here on. */
Value *next_track(Elab *E, Value *v);
/* What the states in v are by now, as a tuple; and `like` in evaluation mode with them in the place of its own. */
Value *next_values(Elab *E, Value *v);
Value *next_state(Elab *E, Value *like, Value *states);
#endif
