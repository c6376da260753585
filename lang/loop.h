/* A loop while it is elaborated: what loop.c and loop_data.c share. Internal to lang/. */
#ifndef TG_LANG_LOOP_H
#define TG_LANG_LOOP_H
#include "lang/data.h"
#include "lang/model.h"
#include "lang/space.h"

typedef struct StateLeaf {
  DType dtype;
  bool weak;
  int rank;
  Dim dim[TG_MAX_RANK];
  Value *init;
  Node *param;
  Value *load;
} StateLeaf;

/* What a loop over a data set has beside: loop_data.c. */
typedef struct DataWalk {
  Value *set;
  DataShape shape;
  Expr *handle, *more0; /* of the pass opened before the loop */
  int64_t rows;         /* rows a step reads */
  bool stops;           /* the number of steps is known at run time only: `more` is a state */
  /* of the last attempt */
  Node *more; /* PARAM, when stops */
  Expr *next_more;
} DataWalk;

typedef struct LoopForm {
  Elab *E;
  const Env *env;
  Ast *ast, *clause;
  bool scan;
  int nt;      /* state targets */
  Value *init; /* one value, or the tuple of nt */
  int nleaf;
  StateLeaf *leaf;
  Walk walk;
  DataWalk *data; /* NULL: an ordinary loop */
  int64_t trip;   /* static, or the upper bound */
  Expr *steps;    /* number of steps known at run time only, or NULL */
  int nfree;
  Index *free[TG_MAX_RANK];
  /* of the last attempt */
  Node *counter, *alive;
  Expr *count, *go; /* go: the element takes this step (while, and steps); NULL: always */
  Value *next;      /* of the structure of init */
  Value **stack;    /* scan: stacked values: nt states, then the extras */
  int nstack;
  VEC(Node *) effect;
  /* States of models that the body gives next values (model.h) are carried: leaf[nleaf..nleaf + ncarry); those of the
   * rows of a stack that it walks are stacked. */
  int ncarry;
  const void **carry; /* whose */
  Value **carry_next; /* of the last attempt */
  const Next *mark;   /* Elab.next before the loop */
  int nrow;
  RowWrite *row; /* of the last attempt */
  /* of the loop when built: its last state, of the structure of init; and with `stops`, whether batches were left */
  Value *last;
  Expr *left;
} LoopForm;

/* The clause's values bound beside the state; the block elaborated; its value split into f->next and f->stack.
 * `strict`: the structure must be the state's. */
const Env *loop_bind_state(LoopForm *f, Value *state);
Expr *loop_while(LoopForm *f, const Env *env); /* the condition `while` as a rank-0 bool; the form has one */
void loop_split(LoopForm *f, Value *state, Value *v, bool strict);
/* Value v as the state's leaf s: its node over the free indices. */
Node *loop_state_node(LoopForm *f, Value *v, const StateLeaf *s);
/* Attempts until the state's types settle, then builds the LOOP: the value of the whole (loop.c). */
Value *loop_run(LoopForm *f);
/* The block on the short last batch: one elaboration of it. */
typedef struct Tail {
  LoopForm *f;
  Expr *guard; /* where it runs; NULL: always */
  int64_t rows;
  Value *state; /* before */
  Value *next;  /* after: leaves are hard, of the state's types */
  int nrow;     /* scan: what the step stacks, one leaf each */
  Value **row;
  VEC(Node *) effect;
} Tail;
/* False with the mistake reported. Effects go to the Tail. */
bool tail_elaborate(Tail *t);
/* An elaborated tail in a COND on its guard; where it does not run the state stays and rows are zeros. */
void tail_lazy(Tail *t);
/* The same for a number of rows known at run time only: a CALL that elaborates the block then (deferred.c). */
void deferred_tail(Tail *t, Expr *rows);
/* A fold or scan over a data set (loop_data.c). */
Value *loop_over_data(LoopForm *f, Value *set);
#endif
