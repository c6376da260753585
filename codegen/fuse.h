/* Fusion: from a simplified region to groups, each of which becomes one kernel.
 *
 *   Place   where a node is evaluated: the root, a loop's test and body, a branch. A tree. A node that a loop does not
 *           change stands outside it; a node that only one branch wants stands inside that branch.
 *   FNode   a node with what fusion decided about it: inlined into its readers, or materialised as a member of a group
 *   Group   members that share their first np output iterators (the parallel axes P): one kernel; or one operation
 *           that is not a kernel (LOOP, COND, CALL)
 *
 * Members of a kernel group agree in a prefix: output iterator k < np of every member is P axis k, and every LOAD of a
 * member by a member subscripts dims 0..np with exactly ITER 0..np. So no iterator is ever renamed.
 *
 * Requires: a simplified region without CUSTOM. All of it lives in the arena given. */
#ifndef TG_CODEGEN_FUSE_H
#define TG_CODEGEN_FUSE_H
#include "codegen/kernel.h"
#include "codegen/map.h"

typedef enum { PL_ROOT, PL_TEST, PL_BODY, PL_YES, PL_NO } PlaceKind;
typedef struct Group Group;
typedef struct FNode FNode;

typedef struct Place {
  struct Place *up; /* BODY -> TEST -> place of the LOOP */
  FNode *owner;     /* LOOP or COND; NULL for the root */
  uint8_t kind;
  int depth, loop;    /* loop: number of the LOOP for BODY and TEST, else -1 */
  double times;       /* guess of how often it runs */
  VEC(Group *) order; /* what runs here, in order */
} Place;

struct FNode {
  Node *n;   /* whom LOADs name */
  Node *def; /* who defines it: n, or an equal COMP or SCATTER in the form that schedules want (normal.c) */
  int pos;   /* topological */
  Place *home;
  Place *sub[2];   /* LOOP: test, body. COND: yes, no */
  Group *group;    /* NULL: source (INPUT, CONST, PARAM), GET, or inlined */
  VEC(int) varies; /* LOOPs (by number) on whose PARAMs it depends */
  bool pinned;     /* wanted in memory by something that is not a kernel */
  bool effect;
  int early; /* number of the first commit point of its place that needs it; 0: none (commit.c) */
  bool inlined;
  bool product;       /* float sum of products: contract.h's normal form, before inlining */
  bool contract;      /* ... and to be scheduled as a contraction */
  uint8_t order;      /* RedOrder, before inlining */
  Expr *body, *guard; /* COMP, SCAN, SCATTER: after inlining */
  const int64_t *extent;
  Expr **at; /* SCATTER; its source iterators are permuted: nlead, nrest, the others (inline.c) */
  int nlead, nrest;
  double cost;   /* of the body at one point, in units of a vector addition; loads included */
  double points; /* iteration space */
  double wanted; /* sum over readers of their points, times their loads of this node */
  int nreader;
  FNode *reader;     /* one of them */
  uint32_t unproved; /* axes that checked loads of it may leave */
  bool straight;     /* every reader loads it at exactly its own output iterators */
  const char *why;   /* of a refusal to inline or merge */
};

struct Group {
  int id;
  Place *home;
  bool op; /* not a kernel: one member, LOOP, COND or CALL */
  bool contract, scatter;
  int np;                 /* parallel axes */
  int lo, hi;             /* least and greatest pos of a member */
  int reach;              /* greatest hi of the group and all that it depends on, also through others */
  VEC(FNode *) member;    /* by pos */
  VEC(Group *) dep;       /* must run before; same home */
  VEC(Group *) user;      /* those that have it as dep */
  Group *into;            /* merged away */
  VEC(const char *) note; /* refusals */
  int mark;               /* of searches */
  int state;              /* of the ordering */
};

typedef struct Fusion {
  Arena *a;
  Graph *g;
  Region region;
  NumMap index;       /* Node -> node.at */
  VEC(FNode *) node;  /* by pos */
  VEC(Group *) group; /* merged ones included (into != NULL) */
  Place *root;
  int nloop, mark;
} Fusion;

Fusion *fuse(Arena *a, Graph *g, const Region *r);
Region fuse_loops(Graph *g, const Region *r);     /* loops.c: an equal region in which every PARAM has one binder */
FNode *fuse_node(const Fusion *f, const Node *n); /* bug() if it is not of the region */

/* How the parts of fuse.c share the work: places.c, layout.c, inline.c, groups.c. */
void fuse_places(Fusion *f);
void fuse_layout(Fusion *f);
void fuse_inline(Fusion *f);
void fuse_groups(Fusion *f);
bool fuse_varies(const FNode *x, int loop); /* places.c: does it depend on what changes in LOOP number `loop`? */
bool fuse_can_fault(const Node *n);         /* places.c: a call, a checked load, an integer division */
/* commit.c: what runs before the commit points; are a and b parted by one; does g run before others of its place? */
void fuse_commit(Fusion *f);
/* What the step that ends in the commit point `call` is made from: states and counters of the loops around it, results
 * of effects, values from outside. */
int fuse_given(Fusion *f, FNode *call, Node ***out);
bool fuse_apart(const Group *a, const Group *b);
bool fuse_first(const Group *g);

/* normal.c: an equal node, in normal form; see there. */
Node *fuse_normal(Graph *g, Node *n);

/* What a node reads, and where: its own place, or one of its regions (0 test/yes, 1 body/no; -1 own). */
typedef void (*UseFn)(void *ctx, Node *in, int sub);
void fuse_each_use(const Node *n, UseFn fn, void *ctx);
/* The same from the bodies after inlining, for kernel nodes: every LOAD once. */
void fuse_each_load(const FNode *n, void (*fn)(void *ctx, Expr *load), void *ctx);
bool fuse_is_kernel(const Node *n); /* COMP, SCAN, SCATTER */
/* inline.c: e where `mask` holds (its value elsewhere does not matter): its loads read nothing, and its integer
 * divisions do not fault, where the mask is false. With extents (of the iterators 0..niter) loads proved to stay inside
 * are left. */
Expr *fuse_mask(Graph *g, Expr *e, Expr *mask, int niter, const int64_t *extent);
#endif
