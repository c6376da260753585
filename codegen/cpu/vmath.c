/* Elementary functions (vmath.h). Polynomials are minimax fits (Remez exchange at 50 digits, coefficients rounded one
 * by one in f32); reductions use that n * c + x is one rounding: with c the float nearest to ln 2 (pi/2), x - n * c is
 * exact.
 *
 *   exp     x = n ln2 + r, |r| <= ln2 / 2; e^r = 1 + r + r^2 q(r); scaled by 2^n with one rounding, also of subnormals
 *   expm1   2^n (e^r - 1) + (2^n - 1), which cancels nowhere
 *   log     x = 2^k m, m in [sqrt 1/2, sqrt 2); f32: polynomial in m - 1; f64: in ((m - 1) / (m + 1))^2
 *   sin     x = n pi/2 + r; f32 is evaluated in f64; f64 carries r in two parts
 *   tanh    t / (t + 2), t = expm1(2|x|)
 *   erf     x + x P(x^2) below 1; 1 - exp(-g(x)) above, g = -log erfc as a polynomial
 *   pow     exp(y log|x|), log in two f64 (about 2^-66), then the sign and the special cases of C99 */
#include "codegen/cpu/vmath.h"
#include <math.h>

/* Short names inside this file: B is the builder, W the width at hand. */
#define OP1(o, x) B->op(B->ctx, VM_##o, W, (x), nil, nil)
#define OP2(o, x, y) B->op(B->ctx, VM_##o, W, (x), (y), nil)
#define OP3(o, x, y, z) B->op(B->ctx, VM_##o, W, (x), (y), (z))
#define N(v) B->num(B->ctx, W, (v))
#define I(v) B->bits(B->ctx, W, (int64_t)(v))
static const VmV nil = {NULL};

#define LN2_HI_F 0x1.62e430p-1
#define LN2_LO_F (-0x1.05c610p-29)
#define LN2_HI_D 0x1.62e42fefa39efp-1
#define LN2_LO_D 0x1.abc9e3b39803fp-56
#define LOG2E 0x1.71547652b82fep+0
#define TWO_OVER_PI 0x1.45f306dc9c883p-1
#define PIO2_1 0x1.921fb54442d18p+0
#define PIO2_2 0x1.1a62633145c07p-54
#define PIO2_3 (-0x1.f1976b7ed8fbcp-110)
#define TRIG_LIMIT 0x1p45

static const double exp_f[] = {0x1.fffffcp-2, 0x1.55548cp-3, 0x1.55585ap-5, 0x1.123e3ap-7, 0x1.6accdcp-10};
static const double exp_d[] = {0x1.0000000000000p-1,  0x1.555555555555bp-3,  0x1.5555555555504p-5,
                               0x1.111111110ec3dp-7,  0x1.6c16c16c2ff99p-10, 0x1.a01a01b38af7ep-13,
                               0x1.a01a013818670p-16, 0x1.71ddf00059e0ep-19, 0x1.27e5b0f4159cfp-22,
                               0x1.af6c216088713p-26, 0x1.1e42646b7381fp-29};
static const double log_f[] = {0x1.55554ap-2, -0x1.000220p-2, 0x1.99a5b4p-3, -0x1.54785ep-3,
                               0x1.226c6ap-3, -0x1.0cd418p-3, 0x1.07dc2cp-3, -0x1.42a3e6p-4};
static const double log_d[] = {0x1.5555555555593p-1, 0x1.999999997fb32p-2, 0x1.2492494217a01p-2, 0x1.c71c51e7f818dp-3,
                               0x1.7466462c76c2ap-3, 0x1.39a0f5033c7c1p-3, 0x1.2f0d8e99c6488p-3};
static const double pow_d[] = {0x1.9999999999996p-2, 0x1.2492492493049p-2, 0x1.c71c71c57dfffp-3, 0x1.745d18337a6cfp-3,
                               0x1.3b136267328d5p-3, 0x1.1120c17cc055ap-3, 0x1.de318effd5e09p-4, 0x1.eb20cfffc82f1p-4};
static const double sin_f[] = {-0x1.5555554c61a38p-3, 0x1.111108556f25cp-7, -0x1.a00f68fb88291p-13,
                               0x1.6ccbb45e670bbp-19};
static const double cos_f[] = {0x1.5555554f10703p-5, -0x1.6c16b85542f2fp-10, 0x1.a010f31d6d4bap-16,
                               -0x1.24217330a2038p-22};
static const double sin_d[] = {-0x1.5555555555548p-3, 0x1.111111110f740p-7,   -0x1.a01a019be89eep-13,
                               0x1.71de3552d421ep-19, -0x1.ae5e4863c30bfp-26, 0x1.5d8a1922c162cp-33};
static const double cos_d[] = {0x1.555555555554bp-5,   -0x1.6c16c16c1502ap-10, 0x1.a01a019c8f1d8p-16,
                               -0x1.27e4f7eff39d4p-22, 0x1.1ee9d9a215869p-29,  -0x1.8fa4da28716cbp-37};
static const double erf_small_f[] = {0x1.06eba8p-3, -0x1.812740p-2,  0x1.ce2d50p-4, -0x1.b7fe90p-6,
                                     0x1.542e0ep-8, -0x1.a50ae8p-11, 0x1.4c339cp-14};
static const double erf_large_f[] = {0x1.d97fc0p+0,  0x1.51c980p+1,  0x1.afb858p-1,  0x1.4ff4dap-5,
                                     -0x1.1b529ap-7, 0x1.484348p-12, 0x1.6074eap-11, -0x1.7b1290p-13};
static const double erf_small_d[] = {0x1.06eba8214db69p-3,   -0x1.812746b0379e6p-2,  0x1.ce2f21a042b34p-4,
                                     -0x1.b82ce31284f38p-6,  0x1.565bcd0dbd921p-8,   -0x1.c02db3db49762p-11,
                                     0x1.f9a321e4b84f9p-14,  -0x1.f4d1e434bc0cfp-17, 0x1.b9df305cad6f7p-20,
                                     -0x1.5f1f40faeea79p-23, 0x1.f7b99d7c8709ap-27,  -0x1.38ac2290d3964p-30,
                                     0x1.062759c5be8eap-34};
static const double erf_large_d[] = {
    0x1.d97fbf27aa2a1p+0,   0x1.51c9b0006c23cp+1,   0x1.afabc11a29027p-1,   0x1.5477f09c90d38p-5,
    -0x1.48c9d406e1520p-7,  0x1.033f68ef1e6e4p-9,   -0x1.f1b485ce6c22ep-13, -0x1.b8c45374023f4p-16,
    0x1.c76907d345c7cp-16,  -0x1.4192a75565746p-17, 0x1.10114ef2f34b3p-19,  -0x1.dcec8dc7d3f66p-24,
    -0x1.03bdbc47ad316p-23, 0x1.173c95d02db5ep-24,  -0x1.5c96ec5b3293cp-26, 0x1.3550e960d0eafp-28,
    -0x1.8d36aa307e885p-31, 0x1.613d64b0931afp-34,  -0x1.85d597031f56ap-38, 0x1.91ba7929c0947p-43};

/* c[0] + x (c[1] + x (...)). */
static VmV horner(const VmB *B, bool W, VmV x, const double *c, int n) {
  VmV r = N(c[n - 1]);
  for (int i = n - 2; i >= 0; i--) r = OP3(FMA, r, x, N(c[i]));
  return r;
}
#define POLY(x, c) horner(B, W, (x), (c), (int)(sizeof(c) / sizeof *(c)))

/* lo > x ? lo : x, and so on: nan stays. */
static VmV at_least(const VmB *B, bool W, VmV x, double lo) { return OP3(SEL, OP2(LT, x, N(lo)), N(lo), x); }
static VmV at_most(const VmB *B, bool W, VmV x, double hi) { return OP3(SEL, OP2(LT, N(hi), x), N(hi), x); }

/* ---- exp and its kin --------------------------------------------------------------------------------------------- */
typedef struct Split {
  VmV n, f, r;
} Split; /* x = n ln2 + r; n as an integer, and as a float f */

static Split split_exp(const VmB *B, bool W, VmV x) {
  double magic = W ? 0x1.8p52 : 0x1.8p23;
  VmV t = OP3(FMA, x, N(LOG2E), N(magic)), nf = OP2(SUB, t, N(magic));
  VmV n = OP2(ISUB, OP1(BITS, t), I(W ? 0x4338000000000000 : 0x4b400000));
  VmV r = OP3(FMA, nf, N(W ? -LN2_HI_D : -LN2_HI_F), x);
  return (Split){n, nf, OP3(FMA, nf, N(W ? -LN2_LO_D : -LN2_LO_F), r)};
}
/* 2^n as a float; n within the normal exponents. */
static VmV pow2(const VmB *B, bool W, VmV n) {
  return OP1(FLOAT, OP2(ISHL, OP2(IADD, n, I(W ? 1023 : 127)), I(W ? 52 : 23)));
}
static VmV expm1_small(const VmB *B, bool W, VmV r) {
  VmV q = W ? POLY(r, exp_d) : POLY(r, exp_f);
  return OP3(FMA, q, OP2(MUL, r, r), r);
}
/* e^x, |x| within twice the range of exponents. Where the result rounds to 0 it is 0 that is scaled: processors that
 * take an underflow in microcode need a hundred cycles for it, and a softmax with a mask is full of e^-inf. */
static VmV exp_core(const VmB *B, bool W, VmV x) {
  Split s = split_exp(B, W, x);
  VmV e = OP3(SEL, OP2(LT, x, N(W ? -745.2 : -103.98)), N(0), OP2(ADD, expm1_small(B, W, s.r), N(1)));
  return OP3(SCALE, e, s.f, s.n);
}
/* e^x where the result is normal: one scaling. */
static VmV exp_normal(const VmB *B, bool W, VmV x) {
  Split s = split_exp(B, W, x);
  return OP2(MUL, OP2(ADD, expm1_small(B, W, s.r), N(1)), pow2(B, W, s.n));
}
static VmV exp_clamp(const VmB *B, bool W, VmV x) {
  return at_most(B, W, at_least(B, W, x, W ? -746 : -104), W ? 710 : 89);
}
static VmV vm_exp(const VmB *B, bool W, VmV x) { return exp_core(B, W, exp_clamp(B, W, x)); }

/* e^x - 1 for x above -50 (-30 in f32); 2^(n-1) is used so that n = 128 does not overflow early. */
static VmV expm1_core(const VmB *B, bool W, VmV x) {
  Split s = split_exp(B, W, x);
  VmV half = OP1(FLOAT, OP2(ISHL, OP2(IADD, s.n, I(W ? 1022 : 126)), I(W ? 52 : 23)));
  VmV y = OP3(FMA, half, expm1_small(B, W, s.r), OP2(SUB, half, N(0.5)));
  return OP2(ADD, y, y);
}
static VmV vm_expm1(const VmB *B, bool W, VmV x) {
  VmV y = expm1_core(B, W, at_most(B, W, at_least(B, W, x, W ? -50 : -30), W ? 710 : 89));
  return OP3(SEL, OP2(EQ, x, N(0)), x, y);
}
static VmV vm_tanh(const VmB *B, bool W, VmV x) {
  VmV a = at_most(B, W, OP1(ABS, x), W ? 20 : 9.25);
  VmV t = expm1_core(B, W, OP2(ADD, a, a));
  return OP2(COPYSIGN, OP2(DIV, t, OP2(ADD, t, N(2))), x);
}
static VmV vm_sigmoid(const VmB *B, bool W, VmV x) {
  VmV e = exp_core(B, W, at_least(B, W, OP1(NEG, OP1(ABS, x)), W ? -746 : -104));
  return OP2(DIV, OP3(SEL, OP2(LT, x, N(0)), e, N(1)), OP2(ADD, e, N(1)));
}
static VmV vm_erf(const VmB *B, bool W, VmV x) {
  VmV a = OP1(ABS, x), z = OP2(MUL, x, x);
  VmV small = OP3(FMA, a, W ? POLY(z, erf_small_d) : POLY(z, erf_small_f), a);
  VmV u = OP2(SUB, at_most(B, W, a, W ? 6 : 4), N(1));
  VmV g = W ? POLY(u, erf_large_d) : POLY(u, erf_large_f);
  VmV large = OP2(SUB, N(1), exp_normal(B, W, OP1(NEG, g)));
  return OP2(COPYSIGN, OP3(SEL, OP2(LT, a, N(1)), small, large), x);
}

/* ---- logarithms -------------------------------------------------------------------------------------------------- */
typedef struct Parts {
  VmV k, m;
} Parts; /* x = 2^k m, m in [sqrt 1/2, sqrt 2); k as an integer; x normal and positive */

static Parts log_parts(const VmB *B, bool W, VmV x) {
  int64_t root = W ? 0x3fe6a09e667f3bcd : 0x3f3504f3, one = W ? 0x3ff0000000000000 : 0x3f800000;
  int64_t frac = W ? 0x000fffffffffffff : 0x007fffff;
  int width = W ? 52 : 23, bias = W ? 1023 : 127;
  VmV i = OP2(IADD, OP1(BITS, x), I(one - root));
  VmV k = OP2(ISUB, OP2(ISHR, i, I(width)), I(bias));
  return (Parts){k, OP1(FLOAT, OP2(IADD, OP2(IAND, i, I(frac)), I(root)))};
}
/* k ln2 + log(1 + f), 1 + f in [sqrt 1/2, sqrt 2). */
static VmV log_join(const VmB *B, bool W, VmV kf, VmV f) {
  VmV half = OP2(MUL, OP2(MUL, f, f), N(0.5));
  if (W) {
    VmV s = OP2(DIV, f, OP2(ADD, f, N(2))), z = OP2(MUL, s, s);
    VmV R = OP2(MUL, z, POLY(z, log_d));
    VmV low = OP3(FMA, s, OP2(ADD, half, R), OP2(MUL, kf, N(LN2_LO_D)));
    VmV tail = OP2(SUB, OP2(SUB, half, low), f);
    /* the head of ln2 has 32 bits, so that kf * head is exact; the rest joins the tail */
    VmV rest = OP3(FMA, kf, N(LN2_HI_D - 0x1.62e42fe000000p-1), OP1(NEG, tail));
    return OP3(FMA, kf, N(0x1.62e42fe000000p-1), rest);
  }
  VmV z = OP2(MUL, f, f);
  VmV y = OP2(MUL, OP2(MUL, f, z), POLY(f, log_f));
  y = OP3(FMA, kf, N(-0x1.bd0106p-13), y);
  y = OP2(SUB, y, half);
  return OP3(FMA, kf, N(0x1.63p-1), OP2(ADD, f, y));
}
/* The value at 0, below 0, at inf and nan; r elsewhere. */
static VmV log_special(const VmB *B, bool W, VmV x, VmV r) {
  r = OP3(SEL, OP2(LT, x, N(INFINITY)), r, x);
  return OP3(SEL, OP2(LT, N(0), x), r, OP3(SEL, OP2(EQ, x, N(0)), N(-INFINITY), N(NAN)));
}
static VmV vm_log(const VmB *B, bool W, VmV x) {
  VmV tiny = OP2(LT, x, N(W ? 0x1p-1022 : 0x1p-126));
  VmV up = OP3(SEL, tiny, OP2(MUL, x, N(W ? 0x1p54 : 0x1p25)), x);
  Parts p = log_parts(B, W, up);
  VmV k = OP3(SEL, tiny, N(W ? -54 : -25), N(0));
  VmV r = log_join(B, W, OP2(ADD, OP1(ITOF, p.k), k), OP2(SUB, p.m, N(1)));
  return log_special(B, W, x, r);
}
/* 1 + x = u + c exactly; log(u + c) from u's parts and c scaled with them. */
static VmV vm_log1p(const VmB *B, bool W, VmV x) {
  VmV u = OP2(ADD, x, N(1)), v = OP2(SUB, u, N(1));
  VmV c = OP2(ADD, OP2(SUB, N(1), OP2(SUB, u, v)), OP2(SUB, x, v));
  Parts p = log_parts(B, W, u);
  VmV down = OP1(FLOAT, OP2(ISHL, OP2(ISUB, I(W ? 1023 : 127), p.k), I(W ? 52 : 23)));
  down = OP3(SEL, OP2(LT, u, N(0x1p60)), down, N(0)); /* beyond, c does not count and the exponent may not exist */
  VmV f = OP3(FMA, c, down, OP2(SUB, p.m, N(1)));
  VmV r = log_special(B, W, u, log_join(B, W, OP1(ITOF, p.k), f));
  return OP3(SEL, OP2(EQ, x, N(0)), x, r);
}

/* ---- sine, cosine, tangent: always in f64 ------------------------------------------------------------------------ */
typedef struct Trig {
  VmV q, s, c;
} Trig; /* quadrant (low two bits), sine and cosine of the remainder */

static Trig trig(const VmB *B, VmV x, bool fine) {
  const bool W = true;
  VmV t = OP3(FMA, x, N(TWO_OVER_PI), N(0x1.8p52)), n = OP2(SUB, t, N(0x1.8p52));
  VmV r1 = OP3(FMA, n, N(-PIO2_1), x), r = OP3(FMA, n, N(-PIO2_2), r1), z = OP2(MUL, r, r);
  Trig g = {OP1(BITS, t), nil, nil};
  if (!fine) {
    g.s = OP3(FMA, OP2(MUL, r, z), POLY(z, sin_f), r);
    g.c = OP3(FMA, OP2(MUL, z, z), POLY(z, cos_f), OP3(FMA, z, N(-0.5), N(1)));
    return g;
  }
  VmV low = OP3(FMA, n, N(-PIO2_2), OP2(SUB, r1, r)); /* r + low is the remainder to 100 bits */
  low = OP3(FMA, n, N(-PIO2_3), low);
  VmV rz = OP2(MUL, r, z);
  VmV half = OP2(MUL, z, N(0.5)), one = OP2(SUB, N(1), half), lost = OP2(SUB, OP2(SUB, N(1), one), half);
  /* sin(r + low) = r + (r^3 S + low (1 - r^2/2)); cos(r + low) = 1 - r^2/2 + (r^4 C - r low) */
  g.s = OP2(ADD, r, OP3(FMA, rz, POLY(z, sin_d), OP2(MUL, low, one)));
  g.c = OP2(ADD, one, OP3(FMA, OP2(MUL, z, z), POLY(z, cos_d), OP2(SUB, lost, OP2(MUL, r, low))));
  return g;
}
static VmV vm_trig(const VmB *B, ScalarOp op, bool wide, VmV x) {
  const bool W = true;
  if (!wide) x = OP1(WIDEN, x);
  Trig g = trig(B, x, wide);
  VmV q = op == OP_COS ? OP2(IADD, g.q, I(1)) : g.q, odd = OP1(INE0, OP2(IAND, q, I(1))), y;
  if (op == OP_TAN) {
    VmV ratio = OP2(DIV, OP3(SEL, odd, g.c, g.s), OP3(SEL, odd, g.s, g.c));
    y = OP1(FLOAT, OP2(IXOR, OP1(BITS, ratio), OP2(ISHL, q, I(63))));
  } else {
    VmV sign = OP2(ISHL, OP2(ISHR, q, I(1)), I(63));
    y = OP1(FLOAT, OP2(IXOR, OP1(BITS, OP3(SEL, odd, g.c, g.s)), sign));
  }
  if (op != OP_COS) y = OP3(SEL, OP2(EQ, x, N(0)), x, y);
  VmV a = OP1(ABS, x);
  VmV far = OP2(AND, OP2(LE, N(TRIG_LIMIT), a), OP2(LT, a, N(INFINITY)));
  y = B->slow(B->ctx, op, x, far, y);
  return wide ? y : B->op(B->ctx, VM_NARROW, false, y, nil, nil);
}

/* ---- pow --------------------------------------------------------------------------------------------------------- */
typedef struct Two {
  VmV h, l;
} Two; /* unevaluated sum, |l| <= ulp(h) / 2 or so */

static Two two_mul(const VmB *B, VmV a, VmV b) {
  const bool W = true;
  VmV h = OP2(MUL, a, b);
  return (Two){h, OP3(FMA, a, b, OP1(NEG, h))};
}
static Two quick_sum(const VmB *B, VmV a, VmV b) { /* |a| >= |b| */
  const bool W = true;
  VmV h = OP2(ADD, a, b);
  return (Two){h, OP2(SUB, b, OP2(SUB, h, a))};
}
/* log a for positive finite a to about 2^-66 relative. */
static Two log_two(const VmB *B, VmV a) {
  const bool W = true;
  VmV tiny = OP2(LT, a, N(0x1p-1022));
  Parts p = log_parts(B, W, OP3(SEL, tiny, OP2(MUL, a, N(0x1p54)), a));
  VmV k = OP2(ADD, OP1(ITOF, p.k), OP3(SEL, tiny, N(-54), N(0)));
  /* s = f / (f + 2) in two parts; f and f + 2 = d.h + d.l exactly */
  VmV f = OP2(SUB, p.m, N(1));
  Two d = quick_sum(B, N(2), f);
  VmV s = OP2(DIV, f, d.h);
  VmV left = OP3(FMA, OP1(NEG, s), d.h, f);
  VmV sl = OP2(DIV, OP3(FMA, OP1(NEG, s), d.l, left), d.h);
  Two z = two_mul(B, s, s);
  z.l = OP3(FMA, OP2(ADD, s, s), sl, z.l);
  /* log m = 2s + (2/3) s^3 + s^5 P(s^2): the cubic term in two parts, the rest in one */
  Two c = two_mul(B, z.h, s);
  c.l = OP2(ADD, c.l, OP3(FMA, z.h, sl, OP2(MUL, z.l, s)));
  const double t = 0x1.5555555555555p-1, tl = 0x1.5555555555555p-55;
  Two e = two_mul(B, c.h, N(t));
  e.l = OP2(ADD, e.l, OP3(FMA, c.h, N(tl), OP2(MUL, c.l, N(t))));
  VmV rest = OP2(MUL, OP2(MUL, c.h, z.h), POLY(z.h, pow_d));
  Two m = quick_sum(B, OP2(ADD, s, s), e.h);
  m.l = OP2(ADD, m.l, OP2(ADD, OP2(ADD, OP2(ADD, sl, sl), e.l), rest));
  /* k ln2: the head has 32 bits, k * head is exact */
  const double head = 0x1.62e42fe000000p-1, mid = LN2_HI_D - 0x1.62e42fe000000p-1;
  Two kk = two_mul(B, k, N(mid));
  kk.l = OP3(FMA, k, N(LN2_LO_D), kk.l);
  VmV kh = OP2(MUL, k, N(head));
  /* kh is 0 or larger than m.h */
  Two sum = quick_sum(B, OP3(SEL, OP2(EQ, k, N(0)), m.h, kh), OP3(SEL, OP2(EQ, k, N(0)), N(0), m.h));
  Two more = quick_sum(B, sum.h, kk.h);
  VmV low = OP2(ADD, OP2(ADD, more.l, sum.l), OP2(ADD, m.l, kk.l));
  return quick_sum(B, more.h, low);
}
static VmV vm_pow_wide(const VmB *B, VmV x, VmV y, bool fine) {
  const bool W = true;
  VmV a = OP1(ABS, x), r;
  /* |y| beyond 2^65 decides over 0, 1 and inf alone; without the clamp y * log would meet inf * 0 */
  VmV yc = at_most(B, W, at_least(B, W, y, -0x1p65), 0x1p65);
  VmV zero = OP2(EQ, a, N(0)), finite = OP2(LT, a, N(INFINITY));
  VmV safe = OP3(SEL, OP2(AND, OP2(LT, N(0), a), finite), a, N(1));
  if (fine) {
    Two l = log_two(B, safe), p = two_mul(B, yc, l.h);
    p.l = OP3(FMA, yc, l.l, p.l);
    VmV h = exp_clamp(B, W, p.h);
    VmV e = exp_core(B, W, h);
    VmV low = OP3(SEL, OP2(EQ, h, p.h), p.l, N(0));
    /* e (1 + low), without inf * 0 and nan of an infinite e */
    r = OP3(SEL, OP2(LT, e, N(INFINITY)), OP3(FMA, e, low, e), e);
  } else {
    Parts q = log_parts(B, W, safe);
    VmV l = log_join(B, W, OP1(ITOF, q.k), OP2(SUB, q.m, N(1)));
    r = exp_core(B, W, exp_clamp(B, W, OP2(MUL, yc, l)));
  }
  /* 0 and inf */
  VmV down = OP2(LT, y, N(0));
  r = OP3(SEL, zero, OP3(SEL, down, N(INFINITY), N(0)), r);
  r = OP3(SEL, OP2(EQ, a, N(INFINITY)), OP3(SEL, down, N(0), N(INFINITY)), r);
  /* sign */
  VmV half = OP2(MUL, y, N(0.5));
  VmV whole = OP2(EQ, OP1(FLOOR, y), y), odd = OP2(AND, whole, OP1(NOT, OP2(EQ, OP1(FLOOR, half), half)));
  r = OP3(SEL, odd, OP2(COPYSIGN, r, x), r);
  VmV bad = OP2(AND, OP2(AND, OP2(LT, x, N(0)), finite), OP1(NOT, whole));
  r = OP3(SEL, bad, N(NAN), r);
  r = OP3(SEL, OP2(AND, OP2(EQ, x, x), OP2(EQ, y, y)), r, N(NAN));
  return OP3(SEL, OP2(OR, OP2(EQ, y, N(0)), OP2(EQ, x, N(1))), N(1), r);
}
static VmV vm_pow(const VmB *B, bool wide, VmV x, VmV y) {
  if (wide) return vm_pow_wide(B, x, y, true);
  const bool W = true;
  return B->op(B->ctx, VM_NARROW, false, vm_pow_wide(B, OP1(WIDEN, x), OP1(WIDEN, y), false), nil, nil);
}

bool vm_has(ScalarOp op) {
  switch (op) {
  case OP_EXP:
  case OP_EXPM1:
  case OP_LOG:
  case OP_LOG1P:
  case OP_SIN:
  case OP_COS:
  case OP_TAN:
  case OP_TANH:
  case OP_SIGMOID:
  case OP_ERF:
  case OP_POW:
    return true;
  default:
    return false;
  }
}
VmV vm_expand(const VmB *b, ScalarOp op, bool wide, VmV x, VmV y) {
  switch (op) {
  case OP_EXP:
    return vm_exp(b, wide, x);
  case OP_EXPM1:
    return vm_expm1(b, wide, x);
  case OP_LOG:
    return vm_log(b, wide, x);
  case OP_LOG1P:
    return vm_log1p(b, wide, x);
  case OP_SIN:
  case OP_COS:
  case OP_TAN:
    return vm_trig(b, op, wide, x);
  case OP_TANH:
    return vm_tanh(b, wide, x);
  case OP_SIGMOID:
    return vm_sigmoid(b, wide, x);
  case OP_ERF:
    return vm_erf(b, wide, x);
  case OP_POW:
    return vm_pow(b, wide, x, y);
  default:
    bug("vmath: no expansion of %s", op_info[op].name);
  }
}
