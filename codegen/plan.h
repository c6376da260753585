/* The plan: what runs, in which order, on which memory.
 *
 *   Value   a tensor in memory: one node's result. Many values may share one Slot, one after the other
 *   Slot    a piece of memory with one address at a time: bytes of the plan's arena, a caller's input, a constant, an
 *           output being made. Steps name values; the executor keeps one pointer a slot (Plan.addr)
 *   Step    a kernel, a copy, or a LOOP, COND, CALL with its inner blocks
 *
 * Times number the steps in order of the text, inner blocks included. A slot lives from its first value's definition to
 * its last value's last use; what a loop captures lives until the loop ends. Slots in the arena whose lives meet do not
 * overlap. A loop's state has two slots that exchange their addresses after each step, or one when it is updated in
 * place; slots that exchange addresses are joined in a ring and live equally long.
 *
 * A Plan owns everything it points to except Codes, which the Codegen owns. */
#ifndef TG_CODEGEN_PLAN_H
#define TG_CODEGEN_PLAN_H
#include "codegen/codegen.h"
#include "codegen/fuse.h"
#include "codegen/session.h"

typedef enum {
  SL_ARENA,
  SL_INPUT,
  SL_CONST,
  SL_OUT,
  SL_ROW /* a row of a loop's stack: moves with the counter */
} SlotKind;

typedef struct Slot {
  uint8_t kind;
  size_t bytes;
  int64_t number; /* INPUT: the caller's slot; OUT: output */
  void *data;     /* CONST: the plan's copy */
  size_t offset;  /* ARENA */
  bool lent;      /* ARENA: in the memory that other ranks can read */
  int start, end; /* life */
  int into;       /* merged: the slot that has taken over; else -1 */
  int ring;       /* next slot that exchanges addresses with this one; itself: none */
} Slot;

typedef struct Value {
  const Node *n;     /* NULL after the plan is made */
  const Place *home; /* the same */
  uint8_t dtype;
  int rank;
  const int64_t *dim;
  size_t bytes;
  int slot;      /* after planning: the final slot */
  int def, last; /* times: definition, last use (captures by loops included) */
  bool fresh;    /* made by a kernel or call into memory of its own */
} Value;

typedef struct KernelStep {
  CodeEntry *code;
  Kernel *kernel; /* while planning; NULL after */
  int narg;
  int *arg; /* values; after planning slots */
  int init; /* SCATTER: value copied into the destination first; -1 none, -2 zeros */
  int dest;
  size_t dest_bytes;
  int nsite;
  const Span *site;
  int site0;         /* devices: number of site 0 in the whole plan */
  bool *writes;      /* by argument */
  bool skip;         /* all results are empty */
  const char *note;  /* for the "fuse" dump */
  const char *brief; /* for the "profile" dump: its stages with their extents */
  int64_t runs;      /* profiled sessions: how often it ran, */
  double seconds;    /* how long that took, */
  double least;      /* and the shortest run */
} KernelStep;

typedef struct Block {
  int nstep, cap;
  struct Step **step;
} Block;

typedef struct LoopState {
  int init, state, next, result; /* values; after planning slots */
  int spare; /* copied: the slot that receives next before the exchange; -1: next's own slot is exchanged */
  bool in_place;
  size_t bytes;
} LoopState;

typedef struct LoopStack {
  int stack, row;
  bool direct;  /* row's slot is set to the row of the stack */
  size_t bytes; /* of a row */
} LoopStack;

typedef struct LoopStep {
  Block test, body;
  int64_t trip;
  int trip_value, cond, counter, steps; /* values or -1 */
  bool reverse;
  int nstate, nstack;
  LoopState *state;
  LoopStack *stack;
} LoopStep;

typedef struct Move {
  int dst, src;
  size_t bytes;
} Move;

typedef struct CondStep {
  int pred;
  Block branch[2]; /* yes, no */
  int nmove[2];
  Move *move[2]; /* results that a branch did not make in place */
} CondStep;

typedef struct CallStep {
  const Native *fn;
  int nattr, narg, nres;
  const Attr *attr;
  Tensor *tensor;   /* narg arguments, then nres results; data is filled in at each run */
  int *value;       /* of each; after planning slots */
  const Node *node; /* commit points: itself, */
  int ngiven;       /* and what its step is made from: kept until it has run */
  Node **given;
  Tensor *found;
  int *found_value; /* after planning slots */
  Span span;
} CallStep;

typedef enum { STEP_KERNEL, STEP_LOOP, STEP_COND, STEP_CALL } StepKind;
typedef struct Step {
  uint8_t kind;
  int time;
  union {
    KernelStep kernel;
    LoopStep loop;
    CondStep cond;
    CallStep call;
  };
} Step;

struct Plan {
  Codegen *cg;
  Arena *mem;
  Block root;
  int nslot, nvalue;
  Slot *slot;
  Value *value; /* dtype, shape, slot */
  int noutput;
  const int *output; /* values */
  int ninput;
  const int *input; /* values of INPUT nodes */
  size_t arena_bytes, lane_bytes, shared_bytes;
  size_t lent_bytes; /* of an arena of its own: what is lent */
  size_t live_bytes; /* the most that is alive at a time: no arena is smaller */
  char *arena;       /* made at the first run */
  char *lent;        /* NULL: it lies in one mapping with the arena, since nobody lends */
  char *lanes;
  char *shared;
  size_t map_bytes;
  void **addr, **fixed;    /* per slot: now; at the start of a run */
  void **ptr;              /* of the kernel being run: max_arg */
  struct KFault *fault;    /* one a lane */
  const CallStep *refused; /* the commit point that ended the last run */
  Tensor *snapshot;        /* with what its step had found: refused->ngiven */
  int max_arg;
  int nkernel;
  const char *classify_text;
  struct DevPlan *dev; /* memory on the session's device (exec_dev.c); NULL: none yet, or the host */
};
typedef struct DevPlan DevPlan;

/* ---- While planning: plan.c makes steps and values, memory.c slots ----------------------------------------------- */
typedef enum { EV_KERNEL, EV_CALL, EV_LOOP, EV_LOOP_END, EV_COND_END } EventKind;
typedef struct Event {
  uint8_t kind;
  int time, start;
  Step *step;
  FNode *of;
} Event;
typedef struct OpenLoop {
  const Place *test;
  VEC(int) captured;
} OpenLoop;

typedef struct Planner {
  Plan *p;
  Fusion *f;
  Arena *a; /* scratch: the fusion's */
  Fault *fault;
  NumMap value_of;   /* Node -> value */
  NumMap gets_of;    /* LOOP, COND, CALL -> gets */
  VEC(Node **) gets; /* its GET nodes by index; NULL: no one wants the result */
  VEC(Value) value;
  VEC(Slot) slot;
  VEC(Event) event;     /* in order */
  VEC(OpenLoop *) loop; /* those around the step being made */
  int time;
} Planner;

int planner_slot(Planner *p, SlotKind kind, size_t bytes); /* a new one */
void plan_memory(Planner *p);
void plan_offsets(Planner *p); /* offsets.c: slots to the arena */
/* dump.c */
void plan_texts(Plan *p, Fusion *f);
const char *group_notes(Arena *a, const Group *g);
const char *kernel_brief(Arena *a, const Kernel *k);
#endif
