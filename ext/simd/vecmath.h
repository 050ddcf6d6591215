/* exp, tanh and sigmoid on vectors, NaN in -> NaN out.
 *
 * All come from one reduction: x = n ln2 + r with |r| <= ln2/2, and expm1(r) = r + r^2 q(r), q a
 * polynomial of degree 4 fitted for the smallest relative error of expm1 (1.3e-8, a tenth of an
 * ulp). Then
 *     exp(x)     = 2^n expm1(r) + 2^n
 *     sigmoid(x) = 1 / (1 + exp(-x))
 *     tanh(x)    = m / (m + 1),  m = expm1(2x) / 2 = 2^n expm1(r)/2 + (2^n - 1)/2
 * which keeps tanh exact in the relative sense down to zero: there n = 0 and m = expm1(r)/2. That is
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

VL_INLINE vec vl_exp(vec x) { return vl_each(x, exp); }
VL_INLINE vec vl_exp_negated(vec x) { return vl_each(-x, exp); }
VL_INLINE vec vl_tanh(vec x) { return vl_each(x, tanh); }
VL_INLINE void vl_tanh_ratio(vec x, vec *numerator, vec *denominator)
{
    *numerator = vl_tanh(x);
    *denominator = VL_SPLAT(1);
}
VL_INLINE vec vl_sigmoid(vec x) { return 1 / (1 + vl_exp_negated(x)); }

#else

/* Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the sum; and 127 more, the exponent's bias,
 * that power of two once the sum's bits are shifted to where an exponent stands. */
#define VL_ROUNDER 12582912.0f
#define VL_LN2_HI 0.693359375f /* few enough bits that n * LN2_HI is exact without FMA too */
#define VL_LN2_LO -2.12194440e-4f

/* q(r) of the header's comment */
VL_INLINE vec vl_expm1_q(vec r)
{
    vec q = VL_SPLAT(0x1.6bebdep-10f);
    q = VL_FMA(q, r, VL_SPLAT(0x1.122886p-7f));
    q = VL_FMA(q, r, VL_SPLAT(0x1.555676p-5f));
    q = VL_FMA(q, r, VL_SPLAT(0x1.5554aep-3f));
    return VL_FMA(q, r, VL_SPLAT(0x1.fffffep-2f));
}

/* x in [-87, 87], sign 1 or -1: expm1(r) of sign * x returned, 2^(n + more) = *scale */
VL_INLINE vec vl_reduce(vec x, int sign, int more, vec *scale)
{
    const float rounder = VL_ROUNDER + 127 + more;
    vec shifted = VL_FMA(x, VL_SPLAT(sign * 0x1.715476p+0f), VL_SPLAT(rounder));
    vec n = shifted - VL_SPLAT(rounder);
    vec r = VL_FMA(n, VL_SPLAT(-VL_LN2_HI), sign < 0 ? -x : x);
    r = VL_FMA(n, VL_SPLAT(-VL_LN2_LO), r);
    *scale = (vec)((veci)shifted << 23);
    return VL_FMA(r * r, vl_expm1_q(r), r);
}

VL_INLINE vec vl_clamp(vec x, float bound)
{
    return VL_MAX(VL_SPLAT(-bound), VL_MIN(VL_SPLAT(bound), x));
}

/* exp(-x) for the gates. Beyond 60 a gate is shut: 1/(1+e^60) is 1e-26, and the bound leaves room
 * to multiply two such denominators. */
VL_INLINE vec vl_exp_negated(vec x)
{
    vec scale, p = vl_reduce(vl_clamp(x, 60.0f), -1, 0, &scale);
    return VL_FMA(scale, p, scale);
}

/* tanh(x) = numerator / denominator, denominator in [0.5, 2^26] */
VL_INLINE void vl_tanh_ratio(vec x, vec *numerator, vec *denominator)
{
    vec scale, p;
    x = vl_clamp(x, 9.2f); /* tanh(9.02) rounds to 1 */
    p = vl_reduce(x + x, 1, -1, &scale);
    *numerator = VL_FMA(scale, p, scale - 0.5f);
    *denominator = *numerator + 1.0f;
}

/* By itself, where its own errors show: 1 - 2 / (exp(2|x|) + 1), and up to 0.6 the odd polynomial whose
 * relative error is least (3e-9). */
VL_INLINE vec vl_tanh(vec x)
{
    const veci sign = (veci)VL_SPLAT(-0.0f);
    vec magnitude = (vec)((veci)x & ~sign), u = x * x;
    vec far = 1.0f - 2.0f / (1.0f + vl_exp_negated(-2.0f * vl_clamp(magnitude, 9.2f)));
    vec p = VL_FMA(VL_SPLAT(-0x1.825824p-8f), u, VL_SPLAT(0x1.54b896p-6f));
    p = VL_FMA(p, u, VL_SPLAT(-0x1.b898dcp-5f));
    p = VL_FMA(p, u, VL_SPLAT(0x1.1109aep-3f));
    p = VL_FMA(p, u, VL_SPLAT(-0x1.55553ep-2f));
    return VL_IF_LESS(magnitude, VL_SPLAT(0.6f), VL_FMA(p * u, x, x),
                      (vec)((veci)far | ((veci)x & sign)));
}

/* The whole range: 2^n is applied in two halves, so that results reach down into the subnormals
 * and up to infinity. */
VL_INLINE vec vl_exp(vec x)
{
    vec clamped = VL_MAX(VL_SPLAT(-104.0f), VL_MIN(VL_SPLAT(89.0f), x));
    vec shifted = VL_FMA(clamped, VL_SPLAT(0x1.715476p+0f), VL_SPLAT(VL_ROUNDER));
    vec n = shifted - VL_SPLAT(VL_ROUNDER);
    vec r = VL_FMA(n, VL_SPLAT(-VL_LN2_HI), clamped);
    r = VL_FMA(n, VL_SPLAT(-VL_LN2_LO), r);
    veci exponent = (veci)shifted - (veci)VL_SPLAT(VL_ROUNDER);
    veci half = exponent >> 1;
    vec low = (vec)((half << 23) + (veci)VL_SPLAT(1.0f));
    vec high = (vec)(((exponent - half) << 23) + (veci)VL_SPLAT(1.0f));
    vec p = VL_FMA(r * r, vl_expm1_q(r), r);
    return VL_FMA(p, high, high) * low;
}

/* From exp(-|x|), so that small results are exact in the relative sense as well. */
VL_INLINE vec vl_sigmoid(vec x)
{
    vec magnitude = (vec)((veci)x & 0x7fffffff);
    vec e = vl_exp(-magnitude);
    return VL_IF_LESS(x, VL_SPLAT(0), e, VL_SPLAT(1.0f)) / (1.0f + e);
}

#endif
