/* The graphs of a library's exports in Graphviz's language, one cluster an export; edges run from what is read. */
#include "codegen/aot/aot.h"
#include <string.h>

typedef struct Dot {
  Arena *a;
  VEC(char) s;
  const Node *to;
  int export;
} Dot;

static void put(Dot *o, const char *s) {
  for (; *s; s++) vec_push(o->a, &o->s, *s);
}

static const char *dims(Arena *a, const Node *n) {
  char *s = arena_printf(a, "%s[", dt_name((DType)n->dtype));
  for (int d = 0; d < n->rank; d++) s = arena_printf(a, "%s%s%lld", s, d ? ", " : "", (long long)n->dim[d]);
  return arena_printf(a, "%s]", s);
}

static const char *label(Arena *a, const Node *n) {
  switch (n->kind) {
  case ND_INPUT:
    return arena_printf(a, "%s\\n%s", n->name && *n->name ? n->name : "constant", dims(a, n));
  case ND_CONST:
    return arena_printf(a, "constant\\n%s", dims(a, n));
  case ND_COMP: {
    if (!n->comp.nred) return arena_printf(a, "map\\n%s", dims(a, n));
    char *s = arena_printf(a, "%s over", red_name(n->comp.op));
    for (int k = 0; k < n->comp.nred; k++)
      s = arena_printf(a, "%s %lld", s, (long long)n->comp.extent[n->comp.nout + k]);
    return arena_printf(a, "%s\\n%s", s, dims(a, n));
  }
  case ND_SCAN:
    return arena_printf(a, "scan\\n%s", dims(a, n));
  case ND_SCATTER:
    return arena_printf(a, "scatter\\n%s", dims(a, n));
  case ND_PARAM:
    return arena_printf(a, "state\\n%s", dims(a, n));
  case ND_LOOP:
    return arena_printf(a, "loop of %lld steps", (long long)n->loop.trip);
  case ND_COND:
    return "branch";
  case ND_CALL:
    return arena_printf(a, "call %s", n->call.fn->name);
  default:
    return arena_printf(a, "result %d\\n%s", n->get.index, dims(a, n));
  }
}

static void edge(void *ctx, Node *in) {
  Dot *o = ctx;
  put(o, arena_printf(o->a, "    e%d_n%u -> e%d_n%u;\n", o->export, in->id, o->export, o->to->id));
}

char *aot_dot(Arena *a, const AotLibrary *l, Graph *g) {
  Dot o = {.a = a};
  put(&o, arena_printf(a, "digraph %s {\n  node [shape = box, fontname = \"sans-serif\"];\n", l->name));
  for (int k = 0; k < l->nexport; k++) {
    const AotExport *e = &l->export[k];
    const Region *r = &e->variant[e->nvariant - 1].region;
    Node **order;
    int n = graph_topo(g, r->nout, r->out, &order);
    o.export = k;
    put(&o, arena_printf(a, "  subgraph cluster_%d {\n    label = \"%s\";\n", k, e->name));
    for (int i = 0; i < n; i++) {
      put(&o, arena_printf(a, "    e%d_n%u [label = \"%s\"%s];\n", k, order[i]->id, label(a, order[i]),
                           order[i]->kind == ND_INPUT ? ", style = rounded" : ""));
      o.to = order[i];
      nd_each_input(order[i], edge, &o);
    }
    for (int i = 0; i < e->nout; i++) {
      put(&o, arena_printf(a, "    e%d_out%d [label = \"%s\", style = rounded];\n", k, i, e->out[i].name));
      put(&o, arena_printf(a, "    e%d_n%u -> e%d_out%d;\n", k, r->out[i]->id, k, i));
    }
    put(&o, "  }\n");
  }
  put(&o, "}\n");
  vec_push(a, &o.s, 0);
  return o.s.at;
}
