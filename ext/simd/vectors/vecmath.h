/* exp, tanh and sigmoid on vectors, NaN in -> NaN out.
 *
 * All are powers of two, 2^y = 2^n 2^f with n the nearest integer and |f| <= 1/2. There 2^f = 1 + f q(f), q a
 * polynomial of degree 5 fitted for the smallest relative error of f q(f) (1.3e-8, a tenth of an ulp). Then
 *     exp(-x)    = 2^n (1 + f q(f)),  y = -x log2 e
 *     sigmoid(x) = 1 / (1 + exp(-x))
 *     tanh(x)    = m / (m + 2),  m = 2^n f q(f) + (2^n - 1),  y = 2 x log2 e
 * which keeps tanh exact in the relative sense down to zero: there n = 0 and m = f q(f). That is
 * the form for products; a tanh by itself has one that is twice as exact.
 * Errors are recorded over all exponents by tests/kernels/test_vector_math.py.
 *
 * The cells take tanh as numerator and denominator, so that a product of activations costs one
 * division. float64 is not the fast path: its lanes go to libm one by one.
 */
#if VL_F64

static __attribute__((noinline)) vec vl_each(vec x, double (*f)(double))
{
    for (int i = 0; i < L; i++)
        x[i] = f(x[i]);
    return x;
}

static double vl_scalar_softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))) + (x != x ? x : 0); }
static double vl_scalar_gelu(double x) { return x * erfc(-x * 0.70710678118654752440) / 2; }

VL_INLINE vec vl_exp(vec x) { return vl_each(x, exp); }
VL_INLINE vec vl_exp_negated(vec x) { return vl_each(-x, exp); }
VL_INLINE vec vl_finite_exp_negated(vec x) { return vl_exp_negated(VL_MAX(VL_SPLAT(-60), x)); }
VL_INLINE vec vl_tanh(vec x) { return vl_each(x, tanh); }
VL_INLINE void vl_tanh_ratio(vec x, vec *numerator, vec *denominator)
{
    *numerator = vl_tanh(x);
    *denominator = VL_SPLAT(1);
}
VL_INLINE vec vl_sigmoid(vec x) { return 1 / (1 + vl_exp_negated(x)); }
VL_INLINE vec vl_expm1(vec x) { return vl_each(x, expm1); }
VL_INLINE vec vl_softplus(vec x) { return vl_each(x, vl_scalar_softplus); }
VL_INLINE vec vl_gelu(vec x) { return vl_each(x, vl_scalar_gelu); }

#else

#define VL_LOG2E 0x1.715476p+0f
#define VL_LN2_HI 0.693359375f /* few enough bits that n * LN2_HI is exact without FMA too */
#define VL_LN2_LO -2.12194440e-4f
/* Adding VL_ROUNDER leaves the nearest integer in the low bits of the sum; and 127 more, the exponent's bias,
 * that power of two once the sum's bits are shifted to where an exponent stands. */

/* q of the header's comment */
VL_INLINE vec vl_exp2_q(vec f)
{
    vec q = VL_SPLAT(0x1.429618p-13f);
    q = VL_FMA(q, f, VL_SPLAT(0x1.5ef134p-10f));
    q = VL_FMA(q, f, VL_SPLAT(0x1.3b2c3ep-7f));
    q = VL_FMA(q, f, VL_SPLAT(0x1.c6afa4p-5f));
    q = VL_FMA(q, f, VL_SPLAT(0x1.ebfbdep-3f));
    return VL_FMA(q, f, VL_SPLAT(0x1.62e43p-1f));
}

/* f and n of y = x * factor. Without an instruction that multiplies by any power of two, to infinity and to zero,
 * |y| must be less than 126, and n is left in the form that VL_TIMES_POWER takes. */
#ifdef VL_FRACTION
#define VL_GATE_RANGE(x) (x)
#define VL_TANH_RANGE(x) VL_MIN(VL_SPLAT(9.2f), x)
VL_INLINE vec vl_fraction(vec x, float factor, vec *n)
{
    vec y = x * factor, f = VL_FRACTION(y);
    *n = y - f;
    return f;
}
#else
#define VL_GATE_RANGE(x) VL_MAX(VL_SPLAT(-60.0f), VL_MIN(VL_SPLAT(60.0f), x))
#define VL_TANH_RANGE(x) VL_MAX(VL_SPLAT(-9.2f), VL_MIN(VL_SPLAT(9.2f), x))
#define VL_TIMES_POWER(p, n) ((p) * (vec)((vecu)(n) << 23))
VL_INLINE vec vl_fraction(vec x, float factor, vec *n)
{
    const float rounder = VL_ROUNDER + 127;
    *n = VL_FMA(x, VL_SPLAT(factor), VL_SPLAT(rounder));
    return VL_FMA(x, VL_SPLAT(factor), VL_SPLAT(rounder) - *n);
}
#endif

/* exp(-x), |x| at most 60 */
VL_INLINE vec vl_exp_negated_in_range(vec x)
{
    vec n, f = vl_fraction(x, -VL_LOG2E, &n);
    return VL_TIMES_POWER(VL_FMA(f, vl_exp2_q(f), VL_SPLAT(1)), n);
}

/* exp(-x) for the gates, up to infinity or e^60: beyond 60 a gate is shut, 1/(1+e^60) is 1e-26. */
VL_INLINE vec vl_exp_negated(vec x) { return vl_exp_negated_in_range(VL_GATE_RANGE(x)); }

/* tanh(x) = numerator / denominator, denominator in [1, 2^27]. tanh(9.02) rounds to 1. */
VL_INLINE void vl_tanh_ratio(vec x, vec *numerator, vec *denominator)
{
    vec n, f = vl_fraction(VL_TANH_RANGE(x), 2 * VL_LOG2E, &n);
    vec power = VL_TIMES_POWER(VL_SPLAT(1), n);
    *numerator = VL_FMA(power, f * vl_exp2_q(f), power - 1);
    *denominator = *numerator + 2;
}

/* For what multiplies it: the same up to e^60 at most. */
VL_INLINE vec vl_finite_exp_negated(vec x)
{
#ifdef VL_FRACTION
    x = VL_MAX(VL_SPLAT(-60.0f), x);
#endif
    return vl_exp_negated(x);
}

/* By itself, where its own errors show: 1 - 2 / (exp(2|x|) + 1), and up to 0.6 the odd polynomial whose
 * relative error is least (3e-9). */
VL_INLINE vec vl_tanh(vec x)
{
    const veci sign = (veci)VL_SPLAT(-0.0f);
    vec magnitude = (vec)((veci)x & ~sign), u = x * x;
    vec far = 1.0f - 2.0f / (1.0f + vl_exp_negated(-2.0f * VL_MIN(VL_SPLAT(9.2f), magnitude)));
    vec p = VL_FMA(VL_SPLAT(-0x1.825824p-8f), u, VL_SPLAT(0x1.54b896p-6f));
    p = VL_FMA(p, u, VL_SPLAT(-0x1.b898dcp-5f));
    p = VL_FMA(p, u, VL_SPLAT(0x1.1109aep-3f));
    p = VL_FMA(p, u, VL_SPLAT(-0x1.55553ep-2f));
    return VL_IF_LESS(magnitude, VL_SPLAT(0.6f), VL_FMA(p * u, x, x), (vec)((veci)far | ((veci)x & sign)));
}

/* e^r = 1 + r p(r) for |r| <= ln 2 / 2: q's coefficients times powers of log2 e */
VL_INLINE vec vl_exp_p(vec r)
{
    vec p = VL_SPLAT(0x1.6b952ap-10f);
    p = VL_FMA(p, r, VL_SPLAT(0x1.122b42p-7f));
    p = VL_FMA(p, r, VL_SPLAT(0x1.5556fcp-5f));
    p = VL_FMA(p, r, VL_SPLAT(0x1.5554a6p-3f));
    p = VL_FMA(p, r, VL_SPLAT(0x1.fffffep-2f));
    return VL_FMA(p, r, VL_SPLAT(0x1p+0f));
}

/* The whole range, x = n ln 2 + r. Without an instruction for it, 2^n is applied in two halves, so that results reach
 * down into the subnormals and up to infinity. */
VL_INLINE vec vl_exp(vec x)
{
    vec clamped = VL_MAX(VL_SPLAT(-104.0f), VL_MIN(VL_SPLAT(89.0f), x));
    vec shifted = VL_FMA(clamped, VL_SPLAT(VL_LOG2E), VL_SPLAT(VL_ROUNDER));
    vec n = shifted - VL_SPLAT(VL_ROUNDER);
    vec r = VL_FMA(n, VL_SPLAT(-VL_LN2_HI), clamped);
    r = VL_FMA(n, VL_SPLAT(-VL_LN2_LO), r);
#ifdef VL_FRACTION
    return VL_TIMES_POWER(VL_FMA(r, vl_exp_p(r), VL_SPLAT(1)), n);
#else
    veci exponent = (veci)((vecu)shifted - (vecu)VL_SPLAT(VL_ROUNDER));
    veci half = exponent >> 1;
    vec low = (vec)(((vecu)half << 23) + (vecu)VL_SPLAT(1.0f));
    vec high = (vec)(((vecu)(exponent - half) << 23) + (vecu)VL_SPLAT(1.0f));
    return VL_FMA(r * vl_exp_p(r), high, high) * low;
#endif
}

/* From exp(-|x|), so that small results are exact in the relative sense as well. */
VL_INLINE vec vl_sigmoid(vec x)
{
    vec magnitude = (vec)((veci)x & 0x7fffffff);
    vec e = vl_exp(-magnitude);
    return VL_IF_LESS(x, VL_SPLAT(0), e, VL_SPLAT(1.0f)) / (1.0f + e);
}

#endif

/* A gate's sigmoid: nearly open it is 1 - e f, not 1 / (1 + e), whose sum loses what is small of e (cells.h). */
VL_INLINE vec vl_gate(vec x)
{
    vec e = vl_exp_negated(x), f = 1 / (1 + e);
    return VL_IF_LESS(e, VL_SPLAT(1), VL_FMA(-e, f, VL_SPLAT(1)), f);
}
