/* Inside the sharding pass (shard.h): what it knows of each node. Six steps, a file each:
 *
 *   shard_find.c   which values are sharded, and which iterator of a comprehension runs over samples
 *   shard_deal.c   whether large sums over samples are dealt out
 *   shard_sites.c  the region that each node is evaluated in
 *   shard_order.c  buckets of sums; the order of the collectives among the region's effects
 *   shard_build.c  the graph again, with the rank's own extents: loops, branches, calls
 *   shard_comp.c   the same for comprehensions: subscripts, sums over samples
 *
 * The first four look at the whole program's graph only, so all ranks decide alike. */
#ifndef TG_DIST_SHARD_PASS_H
#define TG_DIST_SHARD_PASS_H
#include "dist/shard.h"
#include "dist/shards.h"

/* How a value is sharded: axis has rows * unit places, place i belongs to sample i // unit. rows 0: it is replicated.
 */
typedef struct Split {
  int axis;
  int64_t unit, rows;
  bool dealt; /* by rows of a sum that was dealt out, not by samples: float sums over them are in the usual order */
} Split;
/* The sample of a point of an iteration space: ITER iter // unit. rows 0: there is none. */
typedef struct Sample {
  int iter;
  int64_t unit, rows;
  bool dealt; /* as in Split */
} Sample;

/* Where nodes are evaluated. */
typedef enum { SITE_ROOT, SITE_TEST, SITE_BODY, SITE_BRANCH } SiteKind;
typedef struct Site {
  struct Site *up;
  SiteKind kind;
  int depth, loop; /* loop: of TEST and BODY, its number */
  bool may_skip;   /* a loop that may make no step */
  double times;    /* how often it runs, as far as that is known */
  VEC(struct Key) key;
  struct Effect *order; /* the region's effects, collectives among them */
  int norder;
} Site;

/* Sums that are joined by one collective. */
typedef struct Bucket {
  int number; /* of its site, from 1 on */
  JoinOp op;
  DType type; /* as they are joined */
  int64_t bytes;
  VEC(struct Known *) sum;
} Bucket;

typedef struct Known {
  Node *n;
  Split *split, one; /* of each result; &one for a tensor */
  Sample by;         /* COMP, SCAN, SCATTER */
  bool sum;          /* by.iter is a reduction iterator: its value is joined over the samples, and replicated.. */
  bool dealt;        /* ..or dealt out: each rank gets rows of it, as if its axis 0 were samples */
  bool forced;       /* a loop's test: works on whole operands */
  bool pinned;       /* PARAM: replicated for good */
  bool effect;
  /* LOOP, COND: pure but for collectives inside; an effect, since a rank without samples needs no result */
  bool region;
  Site *site, *sub[2]; /* sub: TEST and BODY of a LOOP, branches of a COND */
  Site *whole_site;    /* where its blocks are gathered; NULL: nowhere */
  uint64_t varies;     /* the loops that it depends on, by number; bit 63: all beyond */
  int level;           /* longest chain of nodes below */
  bool changed;
  Bucket *bucket;              /* of a sum */
  Node *own, *whole;           /* built: the rank's part; all of it (equal when replicated) */
  Node *start, *wait, *gather; /* built: its collectives */
} Known;

/* A collective: the join of a sum, or the gathering of a sharded value. */
typedef struct Key {
  Known *of;
  bool gather, region; /* region: a LOOP or COND that holds collectives itself stands among the effects */
} Key;
typedef VEC(Key) Keys;

typedef struct Pass {
  Graph *g;
  Arena *a; /* of the pass */
  const ShardEnv *env;
  const Region *r;
  bool deals; /* large sums are dealt out */
  Site *root; /* NULL: sites were not looked for */
  int n;
  Known *at;  /* children first */
  int *index; /* by node id: position + 1, 0: not of this region */
  uint32_t cap;
} Pass;

static inline Known *known(const Pass *p, const Node *n) {
  return n->id < p->cap && p->index[n->id] ? &p->at[p->index[n->id] - 1] : NULL;
}
static inline Split split_of(const Pass *p, const Node *n) { return known(p, n)->one; }
static inline bool same_split(Split a, Split b) {
  return a.rows == b.rows && (!a.rows || (a.axis == b.axis && a.unit == b.unit && a.dealt == b.dealt));
}
static inline bool several(const Pass *p) { return p->env->nrank > 1; }
static inline bool is_kernel(const Node *n) {
  return n->kind == ND_COMP || n->kind == ND_SCAN || n->kind == ND_SCATTER;
}
/* Iterators, body and guard of a kernel. */
static inline const Comp *comp_of(const Node *n) { return n->kind == ND_SCATTER ? &n->scatter.src : &n->comp; }

/* ---- shard_find.c ---- */
/* Samples of the batch that a data_next gives; 0: it is none, or gives single rows. */
int64_t batch_of(const Node *n);

/* Forgets what was found before; looks at p->deals. */
void shard_find(Pass *p);
/* Replicated values that are read by samples only become sharded. After shard_find, on several ranks. */
void shard_spread(Pass *p);
/* The sample of subscript idx into an axis that is split so. */
Sample sample_of(Pass *p, const Comp *c, Expr *idx, Split s);
/* Does the kernel x read this load's operand, which is sharded, at its own sample? */
bool reads_own(Pass *p, const Known *x, const Expr *load);
/* Every load of a kernel, subscripts of a scatter included; equal ones once an expression. */
void each_load(const Node *n, void (*fn)(void *ctx, Expr *load), void *ctx);
/* Every value that x wants whole though it is sharded. `sub` is -1 (where x is) or the region of x: see each_use. */
typedef void (*UseFn)(void *ctx, Node *in, int sub);
void each_whole(Pass *p, Known *x, UseFn fn, void *ctx);
/* Every node that x reads; sub -1: where x itself is evaluated, else in x's region `sub` (0 TEST or yes, 1 BODY or no).
 */
void each_use(const Node *n, UseFn fn, void *ctx);

/* ---- shard_deal.c ---- */
/* Could this sum over samples be dealt out? */
bool can_deal(const Pass *p, const Node *n);
/* shard_find, with p->deals decided. */
void shard_deal(Pass *p);

/* ---- shard_sites.c ---- */
void shard_sites(Pass *p);

/* ---- shard_order.c ---- */
typedef struct Effect {
  Node *old; /* NULL: a collective */
  Key key;   /* of a bucket: its first sum */
} Effect;
void shard_order(Pass *p);

/* ---- shard_build.c ---- */
bool shard_build(Pass *p, Region *r); /* false: nothing changes */
Node *own_of(Pass *p, Node *n);
Node *whole_of(Pass *p, Node *n);
/* n as a value that is sharded so: its own part, or a slice of the whole. */
Node *part_of(Pass *p, Node *n, Split s);
/* Comes to x after all that it needs, each once in the walk's life. */
typedef struct Walk {
  Pass *p;
  uint8_t *state; /* by position; zeroed */
  bool buckets;   /* a sum needs what any sum of its bucket needs */
  void (*leave)(void *ctx, Known *x);
  void *ctx;
  VEC(Known *) todo;
} Walk;
void shard_walk(Walk *w, Known *x);
/* The dimensions of the rank's own part. */
void own_dims(const Pass *p, int rank, const int64_t *dim, Split s, int64_t *out);
/* The rank's samples. */
int64_t own_lo(const Pass *p, int64_t rows);
int64_t own_hi(const Pass *p, int64_t rows);
/* A name for people: what, the type of n, its place in the source. */
const char *shard_name(Pass *p, const char *what, const Node *n);

/* ---- shard_comp.c ---- */
Node *build_kernel(Pass *p, Known *x);
Node *build_sum(Pass *p, Known *x); /* one rank's */
void build_bucket(Pass *p, const Bucket *b);
/* How the partial results of a sum are joined, and as what. */
void shard_join(const Comp *c, JoinOp *op, DType *type);
/* Bytes of a sum's result as it is joined. Less than SHARD_SMALL take about as long to send as to announce. */
enum { SHARD_SMALL = 64 << 10 };
int64_t shard_bytes(const Node *sum);
#endif
