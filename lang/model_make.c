/* Construction: M(arguments) evaluates the members in order and gives a model.
 *
 * Each member draws from a stream keyed by its name, so a layer more moves no other layer's numbers. A member whose
 * expression reads parameters is derived: it is evaluated again at each use. With `_` among the arguments the
 * construction waits in a Hole until the sub-model is called (model_solve.c). */
#include "lang/model.h"
#include "lang/space.h"
#include <string.h>

/* ---- initial values -------------------------------------------------------------------------------------------- */

static DType member_dtype(Elab *E, Ast *e) {
  const Ast *t = e->type;
  DType dt = DT_F32;
  if (t->kind != AST_TYPE)
    diag_fail(E->d, T_MODEL, t->span, "a %s is a tensor: %s[sizes]", e->ival ? "state" : "param",
              e->ival ? "state" : "param");
  if (!t->name) return dt;
  if (name_is(t->name, "int")) return DT_I64;
  if (!dt_by_name(t->name, (int)strlen(t->name), &dt)) {
    Diag *g = diag_add(E->d, N_UNKNOWN, t->span, "unknown type `%s`", t->name);
    diag_help(E->d, g, "a %s is a tensor: %s[sizes] or %s f64[sizes]", e->ival ? "state" : "param",
              e->ival ? "state" : "param", e->ival ? "state" : "param");
    elab_fail(E, g);
  }
  return dt;
}

/* A function is called with the sizes: one by one if it takes as many, else as one tuple. */
static Value *call_init(Elab *E, Value *f, int rank, const Dim *dim, Ast *e) {
  Value **size = arena_array(E->a, Value *, rank);
  for (int k = 0; k < rank; k++) size[k] = v_int(E, dim[k].n, dim[k].from);
  Value *all = v_tuple(E, rank, size);
  const Fun *fn = f->kind == V_FUN ? f->fun : NULL;
  int need = 0;
  if (fn && (fn->kind == FUN_DEF || fn->kind == FUN_LAMBDA))
    for (int k = 0; k < fn->ast->nkid; k++) need += fn->kind == FUN_LAMBDA || !fn->ast->kid[k]->a;
  if (rank > 1 && need == rank) return call_simple(E, f, rank, size, e->a->span);
  return call_simple(E, f, 1, &all, e->a->span);
}

static Value *initial(Elab *E, Ast *e, Value *v, DType t, int rank, const Dim *dim) {
  Span at = e->a->span;
  if (v->kind == V_FUN) v = call_init(E, v, rank, dim, e);
  const char *what = arena_printf(E->a, "the initial value of `%s`", e->name);
  TensorV *x = v_as_tensor(E, v, at, what);
  bool ok = x->rank == 0 || x->rank == rank;
  for (int k = 0; k < x->rank && ok; k++) ok = x->dim[k].n == dim[k].n || x->dim[k].n < 0 || dim[k].n < 0;
  if (!ok) {
    Diag *g = diag_add(E->d, S_MISMATCH, at, "%s is %s, but `%s` is declared %s", what, v_type_text(E, v), e->name,
                       shape_text(E, rank, dim));
    for (int k = 0; k < rank; k++) note_origin(E, g, dim[k]);
    for (int k = 0; k < x->rank; k++) note_origin(E, g, x->dim[k]);
    elab_fail(E, g);
  }
  v = tv_cast(E, v, t, at);
  tv_check_size(E, t, rank, dim, e->span);
  return tv_seal(E, v_tensor(E, t, rank, dim, tv_at(E, v, t, rank, dim, at)));
}

/* ---- members --------------------------------------------------------------------------------------------------- */

static void add_member(Elab *E, Build *b, Member x) {
  ModelV *m = b->m;
  for (int k = 0; k < m->n; k++)
    if (m->at[k].name == x.name && m->at[k].kind != MEM_ARG) {
      Diag *g = diag_add(E->d, N_TWICE, x.span, "`%s` has a member `%s` already", m->def->name, x.name);
      diag_note(E->d, g, m->at[k].span, "the first is here");
      elab_fail(E, g);
    }
  Member *all = arena_array(E->a, Member, m->n + 1);
  if (m->n) memcpy(all, m->at, sizeof *all * (size_t)m->n);
  all[m->n] = x;
  m->at = all, m->n++;
  int64_t size;
  if ((x.kind == MEM_ARG || x.kind == MEM_VALUE) && v_is_static_int(x.v, &size))
    b->env = env_bind_sig(E, b->env, x.name, x.v, x.span); /* sizes in signatures may name it */
  else
    b->env = env_bind(E, b->env, x.name, x.v, x.span);
}

static void declared(Elab *E, Build *b, Ast *e) {
  Dim dim[TG_MAX_RANK];
  Sig s;
  sig_begin(E, &s, b->env, e->name);
  DType t = member_dtype(E, e);
  if (!e->ival && !dt_is_float(t)) {
    Diag *g = diag_add(E->d, T_MODEL, e->type->span, "a param is trained, so it is a float, not %s", dt_name(t));
    diag_help(E->d, g, "state %s[...] is kept and not trained", dt_name(t));
    elab_fail(E, g);
  }
  int rank = sig_shape(E, &s, e->type, e->name, dim);
  Member x = {.name = e->name, .kind = e->ival ? MEM_STATE : MEM_PARAM, .span = e->span, .ast = e};
  x.id = arena_alloc(E->a, 1);
  x.v = initial(E, e, elab_expr(E, b->env, e->a), t, rank, dim);
  x.v = arena_copy(E->a, x.v, sizeof *x.v);
  x.v->t.id = x.id;
  add_member(E, b, x);
}

/* Does the expression read a member that changes in training? */
static bool reads_changing(const ModelV *m, const Ast *e) {
  if (!e) return false;
  if (e->kind == AST_NAME || (e->kind == AST_FIELD && !e->a && !e->type))
    for (int k = m->n; k-- > 0;) {
      MemberKind kind = m->at[k].kind;
      if (m->at[k].name == e->name)
        return kind == MEM_PARAM || kind == MEM_STATE || kind == MEM_DERIVED || v_has_model(m->at[k].v);
    }
  bool reads = reads_changing(m, e->a) || reads_changing(m, e->b) || reads_changing(m, e->c);
  for (int k = 0; k < e->nkid && !reads; k++) reads = reads_changing(m, e->kid[k]);
  for (int k = 0; k < e->nkid2 && !reads; k++) reads = reads_changing(m, e->kid2[k]);
  return reads;
}

/* A sub-model keeps the tensors that it is given. One that is computed from a parameter would not follow it; which ones
 * are shows an evaluation on unknown parameters. */
static void refuse_computed(Elab *E, Build *b, Ast *e) {
  Elab keep = *E;
  const Env *env = b->env;
  Node **unknown = arena_array(E->a, Node *, b->m->n);
  int n = 0;
  for (int k = 0; k < b->m->n; k++) {
    const Member *x = &b->m->at[k];
    if (x->kind != MEM_PARAM && x->kind != MEM_STATE) continue;
    int64_t dim[TG_MAX_RANK];
    for (int a = 0; a < x->v->t.rank; a++) dim[a] = x->v->t.dim[a].n;
    unknown[n] = nd_param(E->g, x->v->t.dtype, x->v->t.rank, dim, x->name);
    Value *v = v_tensor(E, x->v->t.dtype, x->v->t.rank, x->v->t.dim, ex_load_full(E->g, unknown[n++], 0));
    v->t.id = x->id;
    env = env_bind(E, env, x->name, v, x->span);
  }
  for (int k = 0; k < b->m->n; k++)
    if (b->m->at[k].kind == MEM_DERIVED)
      env = env_bind(E, env, b->m->at[k].name, elab_expr(E, env, b->m->at[k].ast->b), b->m->at[k].span);
  Value **leaf;
  LeafKind *kind;
  Value *v = n ? elab_expr(E, env, e->b) : v_none(E);
  int nleaf = v_leaves(E, v, &leaf);
  v_leaf_kinds(E, v, &kind);
  *E = keep;
  for (int k = 0; k < nleaf; k++) {
    if (kind[k] == LEAF_PARAM || kind[k] == LEAF_STATE || leaf[k]->kind != V_TENSOR || leaf[k]->t.id) continue;
    int nfree;
    Index *free[TG_MAX_RANK];
    Node *root = tv_node(E, leaf[k], &nfree, free), **order;
    int count = graph_topo(E->g, 1, &root, &order);
    for (int i = 0; i < count; i++)
      for (int j = 0; j < n; j++) {
        if (order[i] != unknown[j]) continue;
        Diag *g = diag_add(E->d, T_MODEL, e->b->span,
                           "a tensor computed from the parameter `%s` is fixed here, so it would not follow training",
                           unknown[j]->name);
        diag_help(E->d, g, "give the parameter itself, or compute it in a method");
        elab_fail(E, g);
      }
  }
}

static void valued(Elab *E, Build *b, Ast *e) {
  Member x = {.name = e->kid[0]->name, .kind = MEM_VALUE, .span = e->span, .ast = e, .stream = E->stream};
  x.v = elab_expr(E, b->env, e->b);
  const bool reads = reads_changing(b->m, e->b);
  if (reads && v_has_model(x.v)) {
    Stream after = E->stream;
    E->stream = x.stream;
    refuse_computed(E, b, e);
    E->stream = after;
  } else if (reads)
    x.kind = MEM_DERIVED;
  add_member(E, b, x);
}

static void add_method(Elab *E, ModelV *m, Ast *def) {
  for (int k = 0; k < m->nmethod; k++)
    if (m->method[k]->name == def->name) {
      Diag *g = diag_add(E->d, N_TWICE, def->at, "`%s` has a method `%s` already", m->def->name, def->name);
      diag_note(E->d, g, m->method[k]->at, "the first is here");
      elab_fail(E, g);
    }
  Ast **all = arena_array(E->a, Ast *, m->nmethod + 1);
  if (m->nmethod) memcpy(all, m->method, sizeof *all * (size_t)m->nmethod);
  all[m->nmethod] = def;
  m->method = all, m->nmethod++;
}

static void add_members(Elab *E, Build *b, Ast *members) {
  const char *path = E->path;
  for (int k = 0; k < members->nkid; k++) {
    Ast *e = members->kid[k];
    const char *name = e->kind == AST_PARAMDECL ? e->name : e->kind == AST_BIND ? e->kid[0]->name : "if";
    E->stream = stream_member(&b->stream, name);
    E->path = path_join(E, path, name);
    E->g->span = e->span;
    switch (e->kind) {
    case AST_PARAMDECL:
      declared(E, b, e);
      break;
    case AST_BIND:
      valued(E, b, e);
      break;
    case AST_DEF:
      add_method(E, b->m, e);
      break;
    case AST_MEMBERIF: {
      Value *c = elab_expr(E, b->env, e->a);
      E->path = path;
      if (v_static_bool(E, c, e->a->span, "the condition of members")) add_members(E, b, e->b);
      break;
    }
    default:
      bug("a member of kind %d", e->kind);
    }
  }
  E->path = path;
}

/* ---- the model ------------------------------------------------------------------------------------------------- */

/* The body of a short form as a method. */
static Ast *short_apply(Elab *E, const Ast *model) {
  Ast *d = arena_new_of(E->a, Ast);
  d->kind = AST_DEF, d->span = model->span, d->at = model->at, d->height = model->height;
  d->name = name_of(E->names, "apply", 5);
  d->nkid = model->nkid2, d->kid = model->kid2, d->type = model->type, d->a = model->a;
  d->id = model->id;
  return d;
}

/* Sizes given to a constructor are remembered: "128 is `out` of `Dense`". */
static Value *named_size(Elab *E, const Fun *def, const Ast *param, Value *v, Span at) {
  if (v->kind != V_NUM || v->num.is_float || !at.file) return v;
  return v_int(E, v->num.i,
               origin_new(E, v->num.from, at, "%lld is `%s` of `%s`", (long long)v->num.i, param->name, def->name));
}

Value *model_build(Elab *E, Fun *def, Call *c, int n, Value **value, Span *at) {
  Ast *ast = def->ast;
  Saved saved = call_enter(E, def, def->name, c->span);
  ModelV *m = arena_new_of(E->a, ModelV);
  m->def = def, m->path = E->path ? E->path : "", m->born = E->index;
  Build b = {.m = m, .stream = E->stream, .index = E->index, .up = E->build};
  E->build = &b, E->path = m->path;
  Sig s;
  sig_begin(E, &s, fun_env(def), def->name);
  for (int k = 0; k < n; k++)
    if (value[k]) value[k] = named_size(E, def, ast->kid[k], value[k], at[k]);
  call_params(E, def, c, &s, value, at);
  b.env = s.env;
  for (int k = 0; k < n; k++)
    add_member(E, &b, (Member){.name = ast->kid[k]->name, .kind = MEM_ARG, .v = value[k], .span = at[k]});
  Value *self = v_model(E, m);
  if (ast->ival)
    add_method(E, m, short_apply(E, ast));
  else
    add_members(E, &b, ast->a);
  if (ast->ival || b.hole.n) build_solve(E, &b, self);
  E->build = b.up, E->path = b.up ? m->path : NULL;
  call_leave(E, &saved);
  return self;
}

Value *model_construct(Elab *E, Fun *def, Call *c) {
  int n = def->ast->nkid;
  Value **value = arena_array(E->a, Value *, n);
  Span *at = arena_array(E->a, Span, n);
  call_assign(E, def, c, value, at);
  int holes = 0;
  for (int k = 0; k < n; k++) holes += value[k] && value[k]->kind == V_HOLE;
  if (!holes) return model_build(E, def, c, n, value, at);
  if (!E->build) {
    int k = 0;
    while (!value[k] || value[k]->kind != V_HOLE) k++;
    const bool method = E->frame && E->frame->up; /* in a call: perhaps one that a model's method makes */
    Diag *g = diag_add(E->d, T_MODEL, at[k], "`_` stands among the members of a model, which finds the size; not here");
    diag_help(E->d, g,
              method ? "give the size of `%s`, or make the sub-model a member: name = %s(_, ...)"
                     : "give the size of `%s`",
              def->ast->kid[k]->name, def->name);
    elab_fail(E, g);
  }
  Hole *h = arena_new_of(E->a, Hole);
  *h = (Hole){.def = def, .call = *c, .n = n, .value = value, .at = at, .stream = E->stream, .path = E->path};
  h->build = E->build;
  stream_skip(E, def->name);
  ModelV *m = arena_new_of(E->a, ModelV);
  m->def = def, m->path = h->path ? h->path : "", m->hole = h;
  vec_push(E->a, &E->build->hole, h);
  return v_model(E, m);
}
