/* The text builder of cpu/vmath.h: elementary functions as device functions, with the CPU's bits. */
#include "codegen/cpu/vmath.h"
#include "codegen/cuda/emit.h"
#include <inttypes.h>

typedef struct Build {
  Cu *c;
  Text *t;
  int n;
} Build;

/* A value's handle is its C name. */
static VmV let(Build *b, const char *type, const char *value) {
  const char *name = arena_printf(b->c->a, "t%d", b->n++);
  text_line(b->t, "const %s %s = %s;", type, name, value);
  return (VmV){.p = (void *)(uintptr_t)name};
}

static VmV op(void *ctx, VmOp o, bool wide, VmV va, VmV vb, VmV vc) {
  Build *b = ctx;
  Arena *m = b->c->a;
  const char *x = va.p, *y = vb.p, *z = vc.p, *f = wide ? "" : "f";
  const char *ft = wide ? "double" : "float", *it = wide ? "i64" : "int", *ut = wide ? "u64" : "u32";
  char w = wide ? 'd' : 'f';
  switch (o) {
  case VM_ADD:
    return let(b, ft, arena_printf(m, "%s + %s", x, y));
  case VM_SUB:
    return let(b, ft, arena_printf(m, "%s - %s", x, y));
  case VM_MUL:
    return let(b, ft, arena_printf(m, "%s * %s", x, y));
  case VM_DIV:
    return let(b, ft, arena_printf(m, "%s / %s", x, y));
  case VM_FMA:
    return let(b, ft, arena_printf(m, "fma%s(%s, %s, %s)", f, x, y, z));
  case VM_RINT:
    return let(b, ft, arena_printf(m, "rint%s(%s)", f, x));
  case VM_FLOOR:
    return let(b, ft, arena_printf(m, "floor%s(%s)", f, x));
  case VM_ABS:
    return let(b, ft, arena_printf(m, "fabs%s(%s)", f, x));
  case VM_NEG:
    return let(b, ft, arena_printf(m, "-%s", x));
  case VM_COPYSIGN:
    return let(b, ft, arena_printf(m, "copysign%s(%s, %s)", f, x, y));
  case VM_LT:
    return let(b, "int", arena_printf(m, "%s < %s", x, y));
  case VM_LE:
    return let(b, "int", arena_printf(m, "%s <= %s", x, y));
  case VM_EQ:
    return let(b, "int", arena_printf(m, "%s == %s", x, y));
  case VM_SEL:
    return let(b, ft, arena_printf(m, "%s ? %s : %s", x, y, z));
  case VM_ISEL:
    return let(b, it, arena_printf(m, "%s ? %s : %s", x, y, z));
  case VM_AND:
    return let(b, "int", arena_printf(m, "%s & %s", x, y));
  case VM_OR:
    return let(b, "int", arena_printf(m, "%s | %s", x, y));
  case VM_NOT:
    return let(b, "int", arena_printf(m, "!%s", x));
  case VM_BITS:
    return let(b, it, arena_printf(m, "tg_bits_%c(%s)", w, x));
  case VM_FLOAT:
    return let(b, ft, arena_printf(m, "tg_float_%c(%s)", w, x));
  case VM_IADD:
    return let(b, it, arena_printf(m, "(%s)((%s)%s + (%s)%s)", it, ut, x, ut, y));
  case VM_ISUB:
    return let(b, it, arena_printf(m, "(%s)((%s)%s - (%s)%s)", it, ut, x, ut, y));
  case VM_IAND:
    return let(b, it, arena_printf(m, "%s & %s", x, y));
  case VM_IXOR:
    return let(b, it, arena_printf(m, "%s ^ %s", x, y));
  case VM_ISHL:
    return let(b, it, arena_printf(m, "(%s)((%s)%s << %s)", it, ut, x, y));
  case VM_ISHR:
    return let(b, it, arena_printf(m, "(%s)((%s)%s >> %s)", it, ut, x, y));
  case VM_ISAR:
    return let(b, it, arena_printf(m, "%s >> %s", x, y));
  case VM_ITOF:
    return let(b, ft, arena_printf(m, "(%s)%s", ft, x));
  case VM_INE0:
    return let(b, "int", arena_printf(m, "%s != 0", x));
  case VM_SCALE: { /* two factors, of which the first is exact: x is about 1 */
    const char *bias = wide ? "1023" : "127", *shift = wide ? "52" : "23";
    VmV half = let(b, it, arena_printf(m, "%s >> 1", z));
    VmV rest = let(b, it, arena_printf(m, "%s - %s", z, (char *)half.p));
    VmV p =
        let(b, ft, arena_printf(m, "tg_float_%c((%s)((%s)(%s + %s) << %s))", w, it, ut, (char *)half.p, bias, shift));
    VmV q =
        let(b, ft, arena_printf(m, "tg_float_%c((%s)((%s)(%s + %s) << %s))", w, it, ut, (char *)rest.p, bias, shift));
    return let(b, ft, arena_printf(m, "%s * %s * %s", x, (char *)p.p, (char *)q.p));
  }
  case VM_WIDEN:
    return let(b, "double", arena_printf(m, "(double)%s", x));
  case VM_NARROW:
    return let(b, "float", arena_printf(m, "(float)%s", x));
  }
  bug("cuda: primitive %d", o);
}

static VmV num(void *ctx, bool wide, double v) {
  Build *b = ctx;
  return (VmV){.p = (void *)(uintptr_t)cu_num(b->c, wide ? DT_F64 : DT_F32, v)};
}
static VmV bits(void *ctx, bool wide, int64_t v) {
  Build *b = ctx;
  return (VmV){.p = (void *)(uintptr_t)cu_int(b->c, wide ? DT_I64 : DT_I32, wide ? v : (int32_t)v)};
}
static VmV slow(void *ctx, ScalarOp o, VmV x, VmV where, VmV fast) {
  Build *b = ctx;
  const char *name = o == OP_SIN ? "sin" : o == OP_COS ? "cos" : "tan";
  return let(b, "double",
             arena_printf(b->c->a, "%s ? %s(%s) : %s", (char *)where.p, name, (char *)x.p, (char *)fast.p));
}

void cu_math(Cu *c, ScalarOp o, bool wide) {
  uint64_t bit = (uint64_t)1 << o;
  if (c->math_have[wide] & bit) return;
  c->math_have[wide] |= bit;
  Build b = {c, &c->math, 0};
  VmB builder = {&b, op, num, bits, slow};
  const char *t = wide ? "double" : "float";
  text_line(b.t, "static __device__ %s tg_%s_%c(const %s x%s) {", t, op_info[o].name, wide ? 'd' : 'f', t,
            o == OP_POW ? arena_printf(c->a, ", const %s y", t) : "");
  VmV r = vm_expand(&builder, o, wide, (VmV){.p = (void *)(uintptr_t) "x"}, (VmV){.p = (void *)(uintptr_t) "y"});
  text_line(b.t, "return %s;", (char *)r.p);
  text_line(b.t, "}");
}
