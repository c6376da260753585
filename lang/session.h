/* What a session and a module are inside lang/: the tables behind lang.h. Session lifetime throughout. */
#ifndef TG_LANG_SESSION_H
#define TG_LANG_SESSION_H
#include "lang/elab.h"

/* Names to pointers; open addressing on the interned pointer. */
typedef struct NameMap {
  Name *key;
  void **val;
  int n, cap;
} NameMap;
void *map_get(const NameMap *m, Name key);
void map_put(Arena *a, NameMap *m, Name key, void *val);

/* One source file's top level. Definitions are hoisted: `def` has them all from the start of the unit; `top` grows
 * statement by statement. A definition is one Fun for ever: redefining it at the prompt overwrites the Fun, so callers
 * see it. */
struct Module {
  Name name;
  const char *dir; /* where its imports are looked for first, "" for the working directory */
  bool library;    /* text from the library: its definitions are documentation, not the user's */
  bool loading;    /* M_CYCLE */
  NameMap def;     /* Value * (V_FUN) of every top-level def, export and model so far */
  const Env *top;  /* bindings so far; never NULL (ends in a nameless entry) */
  Ast *file;       /* the last unit's tree */
};

typedef struct Redefined {
  Fun *fun, old;
} Redefined;

enum { SCOPE_MODULES = 3 };

struct Session {
  Elab E;
  SessionOptions opt;
  Module *main;
  Module *scope[SCOPE_MODULES];        /* module_scope: NULL until asked for */
  NameMap builtin;                     /* Value *: builtins, dtypes and constants already looked up */
  NameMap computed;                    /* node -> Value *: what static(...) has run already */
  NameMap module;                      /* by path or library name: Module * */
  NameMap ever_bound;                  /* names that some environment has: others need no walk */
  VEC(uint32_t) library_file;          /* sources whose text is the library's */
  VEC(Name) arg_used;                  /* `arg` declarations met */
  VEC(const struct SavedFile *) saved; /* this unit's saves so far (tensor_files.h) */
  VEC(Node *) loaded;                  /* and its loads that have no order: CALLs */
  VEC(struct Deferred *) deferred;     /* by site (deferred.c) */
  struct ExportStates *stated;         /* names that exports change; NULL until asked for (export.c) */
  struct ExportMake *exporting;        /* the export that session_export elaborates now, or NULL */
  /* the entry in hand, between session_unit and commit or abandon */
  const Env *entry_top; /* main->top before it */
  Stream entry_stream;
  VEC(Value *) pending;     /* leaves with a node to be kept, in session_pending's order */
  VEC(Name) hoisted;        /* definitions that it added */
  VEC(Redefined) redefined; /* definitions that this entry overwrote, to restore */
};

/* ---- names (env.c) ---- */
/* What `name` means here: local, top level, builtin, prelude; NULL when nothing. Poisoned bindings unwind. */
Value *name_lookup(Elab *E, const Env *env, Name name);
/* Binds a parameter or dimension variable. */
const Env *env_bind_sig(Elab *E, const Env *env, Name name, Value *v, Span span);
/* The closest known name by edit distance, for a suggestion; NULL when none is close. */
const char *name_suggest(Elab *E, const Env *env, Name name);
/* Of n candidates; NULL when none is close. */
const char *closest_name(const char *name, int n, const char *const *cand);
bool name_is(Name n, const char *s);

/* ---- modules (module.c) ---- */
Module *module_new(Session *s, Name name, const char *dir, bool library);
/* The k-th library module whose names need no import, in the order of search (prelude, nn, train): read when first
 * asked for, so a program that needs none of its names does not pay for it. k < SCOPE_MODULES. */
Module *module_scope(Session *s, int k);
/* A member of a module, or NULL. */
Value *module_member(Elab *E, Module *m, Name name);
/* `import`: binds each module; M_IMPORT, M_CYCLE. */
const Env *elab_import(Elab *E, const Env *env, Ast *e);
/* Hoists the definitions of a parsed file and elaborates its items in order, one boundary an item. `show`: the prompt:
 * the last expression is printed and bound to `ans`. False when something failed. */
bool module_run(Elab *E, Module *m, Ast *file, bool show);
/* The folder of a registered source, "" for the working folder. */
const char *source_dir(Elab *E, uint32_t file);

/* ---- statements, functions ---- */
/* A statement inside a block; returns the environment after it. */
const Env *elab_stmt(Elab *E, const Env *env, Ast *e);
Fun *fun_def(Elab *E, Ast *def, const Env *env);
Value *v_fun(Elab *E, Fun *f);
/* Signature as text: "f(x: [N], k = 3) -> [N]". */
char *fun_signature(Elab *E, const Fun *f);
/* Elaborates an annotated definition on stand-in arguments (check.c); reports what fails under all trial sizes. */
void def_check(Elab *E, Fun *f);
/* Warns about locals that nothing reads (lint.c). */
void lint_unused(Elab *E, Ast *def);
/* Runs fn under one error boundary; adds the notes of calls; drops exact repeats. False when it failed; the
 * elaboration's state is as before then, effects included. */
bool elab_guarded(Elab *E, void (*fn)(Elab *E, void *ctx), void *ctx);
/* Ends a diagnostic started with diag_add. */
_Noreturn void elab_fail(Elab *E, Diag *g);

/* `next name = e` outside a model's methods: in an export, the next value of a top-level name (export.c). */
const Env *export_next(Elab *E, const Env *env, Ast *e);
/* Runs fn on a thread with a stack for elaboration (session.c). */
void session_on_stack(Session *s, void (*fn)(Session *s, void *ctx), void *ctx);

/* fn on a thread with a large stack: elaboration recurses with the program. */
void session_on_stack(Session *s, void (*fn)(Session *s, void *ctx), void *ctx);

/* ---- signatures (types.c) ---- */
/* One application of a signature: dimension variables and the float dtype that all `[..]` share. */
typedef struct Later {
  Ast *dim;
  Dim got;
  const char *what;
  int axis;
  Span at;
  Ast *type;
  const Value *v;
} Later;
typedef struct Sig {
  const Env *env;   /* grows: dimension variables, then parameters */
  const Env *outer; /* the definition's own environment: where enclosing dims are looked up */
  const char *fname;
  int nown;
  Name *own;
  Value **own_value; /* the definition's parameters; a value is NULL while not known */
  bool has_flt;
  DType flt;
  Value *flt_value;
  Span flt_at; /* the dtype of every `[..]` */
  bool has_rest;
  int nrest;
  Dim rest[TG_MAX_RANK];
  const char *rest_from;
  Span rest_at;     /* `...` */
  VEC(Later) later; /* dims that held several unknown variables */
  bool symbolic;    /* checking by itself: sizes are printed by their names */
} Sig;
void sig_begin(Elab *E, Sig *s, const Env *env, const char *fname);
/* Checks v against an annotation, binding dimension variables; returns v converted where the annotation says so. */
Value *sig_match(Elab *E, Sig *s, Ast *type, Value *v, const char *what, Span at);
/* After all parameters: dims that could not be decided before. */
void sig_finish(Elab *E, Sig *s);
/* Joins the float dtype over arguments before matching, so that literals adapt to it whatever their place. */
void sig_float(Elab *E, Sig *s, Ast *type, Value *v, const char *what, Span at);
char *type_text(Elab *E, const Ast *type); /* an annotation as text */
char *span_text(Elab *E, Span at);         /* what stands there, cut to one line */
char *expr_text(Elab *E, const Ast *e);    /* the same of a dim or default */

/* After type's dims: how many; every size must be known. `what` names it in messages. */
int sig_shape(Elab *E, Sig *s, Ast *type, const char *what, Dim *dim);
/* Binds each unbound variable of type's dims to size(ctx, n-th of them), for a stand-in. */
void sig_assign(Elab *E, Sig *s, Ast *type, int64_t (*size)(void *ctx, int nth), void *ctx, int *nth);

/* ---- calls (call.c) ---- */
typedef struct Saved {
  Stream stream;
  Module *module;
  const Frame *frame;
} Saved;
/* Into the body of f, under a name that keys its random stream (interned), and out of it. */
Saved call_enter(Elab *E, Fun *f, const char *name, Span at);
void call_leave(Elab *E, const Saved *s);
/* Counts a call of `name` that comes later. */
void stream_skip(Elab *E, const char *name);
/* Arguments by parameter, NULL where the default is wanted; then checked against the signature and bound in s->env. */
void call_assign(Elab *E, Fun *f, Call *c, Value **value, Span *at);
void call_params(Elab *E, Fun *f, Call *c, Sig *s, Value **value, Span *at);
/* Where a definition sees names from: one that is called above its place sees what is bound so far. */
const Env *fun_env(const Fun *f);

/* ---- text (strings.c) ---- */
char *num_text(Arena *a, double v); /* shortest text of a static decimal, as the f32 it will be */
/* Adds a value to a print template: operands are appended to args. */
typedef struct Template {
  VEC(char) text;
  VEC(Value *) arg;
} Template;
void template_text(Elab *E, Template *t, const char *s, size_t n);
void template_value(Elab *E, Template *t, Value *v, const char *fmt, Span at, bool nested);
/* Emits the effect that prints the template. */
void template_print(Elab *E, Template *t, Span at);
/* T_EFFECT where order has no meaning: inside a comprehension. */
void effect_allowed(Elab *E, const char *what, Span at);
/* Adds an ordered native; effect_allowed has been asked. */
void effect_call(Elab *E, const char *native, int nattr, const Attr *attr, int narg, Node *const *arg, Span at);
Value *elab_string(Elab *E, const Env *env, Ast *e);

/* ---- messages (values.c) ---- */
char *shape_text(Elab *E, int rank, const Dim *dim); /* "[M, 3]" */
/* Adds "4 is K of `a`" notes along an origin chain. */
void note_origin(Elab *E, Diag *g, Dim d);
const Origin *origin_new(Elab *E, const Origin *via, Span at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
#endif
