/* The tree as an S-expression, and equality of trees.
 *
 * Printed form: a leaf is its text; a node is (head child ...), where an operator's head is its symbol and any other
 * head is the kind's word in `head` below. Absent children are left out where the grammar tells them apart, else `-`.
 */
#include "lang/ast.h"
#include <inttypes.h>
#include <string.h>

static const char *const head[] = {
    [AST_TUPLE] = "tuple",     [AST_LIST] = "list",       [AST_COMP] = "comp",         [AST_RECORD] = "record",
    [AST_FIELD] = "field",     [AST_SPREAD] = "spread",   [AST_BLOCK] = "block",       [AST_COND] = "cond",
    [AST_IFELSE] = "if",       [AST_LAMBDA] = "fn",       [AST_CALL] = "call",         [AST_ARG] = "arg",
    [AST_MEMBER] = ".",        [AST_INDEX] = "index",     [AST_SLICE] = ":",           [AST_CLAUSE] = "for",
    [AST_EXPR] = "expr",       [AST_BIND] = "bind",       [AST_DEF] = "def",           [AST_NEXT] = "next",
    [AST_IMPORT] = "import",   [AST_ARGDECL] = "argdecl", [AST_EXPORT] = "export",     [AST_MODEL] = "model",
    [AST_MEMBERS] = "members", [AST_PARAMDECL] = "param", [AST_MEMBERIF] = "memberif", [AST_PARAM] = "parameter",
    [AST_TYPE] = "type",       [AST_TTUPLE] = "ttuple",   [AST_TRECORD] = "trecord",   [AST_STRING] = "string",
    [AST_INTERP] = "interp",   [AST_FILE] = "file",
};

static void print(FILE *out, const Ast *t);

static void child(FILE *out, const Ast *t) {
  fputc(' ', out);
  if (t)
    print(out, t);
  else
    fputc('-', out);
}

static void optional(FILE *out, const Ast *t) {
  if (t) child(out, t);
}

static void labelled(FILE *out, const char *label, const Ast *t) {
  if (!t) return;
  fprintf(out, " (%s", label);
  child(out, t);
  fputc(')', out);
}

static void children(FILE *out, int n, Ast *const *kid) {
  for (int k = 0; k < n; k++) child(out, kid[k]);
}

static void group(FILE *out, const char *label, int n, Ast *const *kid) {
  fprintf(out, " (%s", label);
  children(out, n, kid);
  fputc(')', out);
}

static void quoted(FILE *out, const char *s, size_t n) {
  fputc('"', out);
  for (size_t k = 0; k < n; k++) {
    unsigned char c = (unsigned char)s[k];
    if (c == '"' || c == '\\')
      fprintf(out, "\\%c", c);
    else if (c < 32)
      fprintf(out, "\\x%02x", c);
    else
      fputc(c, out);
  }
  fputc('"', out);
}

/* The children of a composite node, after its head. */
static void body(FILE *out, const Ast *t) {
  switch ((AstKind)t->kind) {
  case AST_COMP:
    child(out, t->a);
    children(out, t->nkid, t->kid);
    labelled(out, "guard", t->b);
    break;
  case AST_FIELD:
    fprintf(out, " %s", t->name);
    optional(out, t->type);
    optional(out, t->a);
    break;
  case AST_LOOP:
    if (t->nkid2) {
      group(out, "targets", t->nkid2, t->kid2);
      child(out, t->b);
    }
    child(out, t->kid[0]);
    labelled(out, "while", t->c);
    child(out, t->a);
    break;
  case AST_COND:
    child(out, t->a);
    child(out, t->b);
    optional(out, t->c);
    break;
  case AST_IFELSE: /* condition, then, else */
    child(out, t->a);
    child(out, t->b);
    child(out, t->c);
    break;
  case AST_LAMBDA:
    group(out, "targets", t->nkid, t->kid);
    child(out, t->a);
    break;
  case AST_CALL:
  case AST_INDEX:
    child(out, t->a);
    children(out, t->nkid, t->kid);
    break;
  case AST_ARG:
    fprintf(out, " %s", t->name);
    child(out, t->a);
    break;
  case AST_MEMBER:
    child(out, t->a);
    fprintf(out, " %s", t->name);
    break;
  case AST_SLICE:
    child(out, t->a);
    child(out, t->b);
    child(out, t->c);
    break;
  case AST_CLAUSE:
    child(out, t->a);
    optional(out, t->b);
    break;
  case AST_BIND:
    group(out, "targets", t->nkid, t->kid);
    child(out, t->b);
    break;
  case AST_DEF:
    fprintf(out, " %s", t->name);
    group(out, "parameters", t->nkid, t->kid);
    labelled(out, "result", t->type);
    labelled(out, "where", t->c);
    child(out, t->a);
    break;
  case AST_NEXT:
    fprintf(out, " %s", t->name);
    child(out, t->b);
    break;
  case AST_MODEL:
    fprintf(out, " %s", t->name);
    group(out, "parameters", t->nkid, t->kid);
    if (t->ival) group(out, "input", t->nkid2, t->kid2);
    labelled(out, "result", t->type);
    child(out, t->a);
    break;
  case AST_ARGDECL:
  case AST_PARAM:
    fprintf(out, " %s", t->name);
    optional(out, t->type);
    labelled(out, "default", t->a);
    break;
  case AST_PARAMDECL:
    fprintf(out, "%s %s", t->ival ? " state" : "", t->name);
    child(out, t->type);
    child(out, t->a);
    break;
  case AST_MEMBERIF:
  case AST_BINARY:
    child(out, t->a);
    child(out, t->b);
    break;
  case AST_TYPE:
    fprintf(out, " %s", t->name ? t->name : "-");
    if (t->ival) group(out, "dims", t->nkid, t->kid);
    break;
  case AST_INTERP:
    child(out, t->a);
    if (t->name) fprintf(out, " :%s", t->name);
    break;
  default: /* one child, or a list of them */
    optional(out, t->a);
    children(out, t->nkid, t->kid);
  }
}

static void print(FILE *out, const Ast *t) {
  switch ((AstKind)t->kind) {
  case AST_NAME:
  case AST_INT:
  case AST_FLOAT:
    fputs(t->name, out);
    return;
  case AST_STR:
    quoted(out, t->name, (size_t)t->ival);
    return;
  case AST_TRUE:
    fputs("true", out);
    return;
  case AST_FALSE:
    fputs("false", out);
    return;
  case AST_NONE:
    fputs("none", out);
    return;
  case AST_ELLIPSIS:
    fputs("...", out);
    return;
  case AST_TARGET:
    if (t->name) {
      fputs(t->name, out);
    } else {
      fputs("(tuple", out);
      children(out, t->nkid, t->kid);
      fputc(')', out);
    }
    return;
  case AST_ARG:
    if (!t->name) {
      print(out, t->a);
      return;
    }
    break;
  default:
    break;
  }
  bool op = t->kind == AST_BINARY || t->kind == AST_UNARY;
  fprintf(out, "(%s", op ? ast_op_text[t->op] : t->kind == AST_LOOP ? t->name : head[t->kind]);
  body(out, t);
  fputc(')', out);
}

void ast_print(FILE *out, const Ast *t) {
  if (t->kind != AST_FILE) {
    print(out, t);
    fputc('\n', out);
    return;
  }
  for (int k = 0; k < t->nkid; k++) {
    print(out, t->kid[k]);
    fputc('\n', out);
  }
}

static bool same_text(const char *a, const char *b) { return a == b || (a && b && !strcmp(a, b)); }

bool ast_equal(const Ast *a, const Ast *b) {
  if (!a || !b) return a == b;
  if (a->kind != b->kind || a->op != b->op || a->nkid != b->nkid || a->nkid2 != b->nkid2) return false;
  if (a->ival != b->ival && a->kind != AST_EXPR) return false;
  if (memcmp(&a->fval, &b->fval, sizeof a->fval)) return false;
  if (a->kind == AST_STR ? memcmp(a->name, b->name, (size_t)a->ival) != 0 : !same_text(a->name, b->name)) return false;
  for (int k = 0; k < a->nkid; k++)
    if (!ast_equal(a->kid[k], b->kid[k])) return false;
  for (int k = 0; k < a->nkid2; k++)
    if (!ast_equal(a->kid2[k], b->kid2[k])) return false;
  return ast_equal(a->a, b->a) && ast_equal(a->b, b->b) && ast_equal(a->c, b->c) && ast_equal(a->type, b->type);
}
