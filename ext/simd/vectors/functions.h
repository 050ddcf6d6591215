/* Functions of one number beside those of vecmath.h: what element-wise chains take them from. In double
 * what is no arithmetic is libm's, lane by lane.
 *
 * Coefficients are tools/function_coefficients.py's, errors are recorded over all exponents by
 * tests/kernels/test_chain.py. NaN in -> NaN out.
 */
VL_INLINE vec vl_abs(vec x) { return (vec)((veci)x & ~(veci)VL_SPLAT(-0.0f)); }
VL_INLINE vec vl_with_sign_of(vec sign, vec magnitude)
{
    const veci bit = (veci)VL_SPLAT(-0.0f);
    return (vec)(((veci)magnitude & ~bit) | ((veci)sign & bit));
}

/* The larger or smaller, NaN when either is: VL_MAX alone gives x when only the bound is NaN. */
VL_INLINE vec vl_maximum(vec a, vec b) { return vl_select(a == a, VL_MAX(a, b), a); }
VL_INLINE vec vl_minimum(vec a, vec b) { return vl_select(a == a, VL_MIN(a, b), a); }

/* The compiler knows the vectors' square root only from plain loops. */
#if VL_F64
#define VL_ROOT_OF_ONE __builtin_sqrt
#else
#define VL_ROOT_OF_ONE __builtin_sqrtf
#endif
VL_INLINE vec vl_sqrt(vec x)
{
    real lanes[L] __attribute__((aligned(VL_BYTES)));
    vl_store(lanes, x);
#pragma GCC unroll 16
    for (int lane = 0; lane < L; lane++)
        lanes[lane] = VL_ROOT_OF_ONE(lanes[lane]);
    return vl_load(lanes);
}

/* To the nearest integer, halves to even. From 2^23 (2^52 in double) on every number is one. */
VL_INLINE vec vl_round(vec x)
{
    const vec far = VL_SPLAT(VL_F64 ? (real)4503599627370496.0 : (real)8388608.0);
    vec magnitude = vl_abs(x), near = magnitude + far;
    VL_KEEP(near);
    return vl_with_sign_of(x, VL_IF_LESS(magnitude, far, near - far, x));
}

VL_INLINE vec vl_floor(vec x)
{
    vec n = vl_round(x);
    return vl_with_sign_of(x, VL_IF_LESS(x, n, n - 1, n));
}

VL_INLINE vec vl_ceil(vec x)
{
    vec n = vl_round(x);
    return vl_with_sign_of(x, VL_IF_LESS(n, x, n + 1, n));
}

/* -1, 0, 1 or NaN */
VL_INLINE vec vl_sign(vec x)
{
    vec one = vl_with_sign_of(x, VL_SPLAT(1));
    return vl_select((x == 0) | (x != x), x, one);
}

#if VL_F64

static double vl_scalar_gelu_by_tanh(double x)
{
    return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}
#define VL_OF_LIBM(name, function)                                                                                     \
    VL_INLINE vec vl_##name(vec x) { return vl_each(x, function); }
VL_OF_LIBM(log, log)
VL_OF_LIBM(erf, erf)
VL_OF_LIBM(gelu_by_tanh, vl_scalar_gelu_by_tanh)
VL_OF_LIBM(tan, tan)
VL_OF_LIBM(asin, asin)
VL_OF_LIBM(acos, acos)
VL_OF_LIBM(atan, atan)
VL_OF_LIBM(sinh, sinh)
VL_OF_LIBM(cosh, cosh)
VL_OF_LIBM(asinh, asinh)
VL_OF_LIBM(acosh, acosh)
VL_OF_LIBM(atanh, atanh)

#else

/* exp(x) - 1 = 2^n r p(r) + (2^n - 1) in the notation of vecmath.h: exact in the relative sense down to zero,
 * where n = 0. Beyond 2^127 the sum is exp's own. */
VL_INLINE vec vl_expm1(vec x)
{
    vec clamped = VL_MAX(VL_SPLAT(-30.0f), VL_MIN(VL_SPLAT(87.0f), x));
    vec shifted = VL_FMA(clamped, VL_SPLAT(VL_LOG2E), VL_SPLAT(VL_ROUNDER));
    vec n = shifted - VL_SPLAT(VL_ROUNDER);
    vec r = VL_FMA(n, VL_SPLAT(-VL_LN2_HI), clamped);
    r = VL_FMA(n, VL_SPLAT(-VL_LN2_LO), r);
    vecu exponent = (vecu)shifted - (vecu)VL_SPLAT(VL_ROUNDER);
    vec power = (vec)((exponent << 23) + (vecu)VL_SPLAT(1.0f));
    vec m = VL_FMA(power, r * vl_exp_p(r), power - 1);
    return VL_IF_LESS(VL_SPLAT(87.0f), x, vl_exp(x), vl_select(x == 0, x, m));
}

/* x = 2^e (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2); log(1 + f) = f - f^2/2 + f^3 p(f), p of degree 8. `rest` is added
 * to the logarithm before anything large is. */
VL_INLINE vec vl_log_and(vec x, vec rest)
{
    const vec least = VL_SPLAT(0x1p-126f), infinity = VL_SPLAT(__builtin_inff());
    vec scaled = VL_IF_LESS(x, least, x * 8388608.0f, x);
    /* the exponent's bits of sqrt(1/2) taken off first, so that 1 + f starts there */
    const veci half = (veci)VL_SPLAT(0x1.6a09e6p-1f);
    veci bits = (veci)((vecu)scaled - (vecu)half); /* of -0, less than an integer holds */
    veci exponent = bits >> 23;
    vec f = (vec)((bits & 0x7fffff) + half) - 1;
    vec e = __builtin_convertvector(exponent, vec);
    e = VL_IF_LESS(x, least, e - 23, e);
    vec p = VL_SPLAT(0x1.116b4cp-4f);
    p = VL_FMA(p, f, VL_SPLAT(-0x1.dd09b8p-4f));
    p = VL_FMA(p, f, VL_SPLAT(0x1.e79df4p-4f));
    p = VL_FMA(p, f, VL_SPLAT(-0x1.fc5d96p-4f));
    p = VL_FMA(p, f, VL_SPLAT(0x1.232eb2p-3f));
    p = VL_FMA(p, f, VL_SPLAT(-0x1.555a74p-3f));
    p = VL_FMA(p, f, VL_SPLAT(0x1.99a528p-3f));
    p = VL_FMA(p, f, VL_SPLAT(-0x1.00000ap-2f));
    p = VL_FMA(p, f, VL_SPLAT(0x1.555546p-2f));
    vec u = f * f;
    vec low = VL_FMA(e, VL_SPLAT(VL_LN2_LO), rest) + p * u * f;
    low = VL_FMA(u, VL_SPLAT(-0.5f), low);
    vec result = VL_FMA(e, VL_SPLAT(VL_LN2_HI), f + low);
    result = vl_select((x < infinity) & (x > 0), result, VL_SPLAT(__builtin_nanf("")));
    result = vl_select(x == 0, -infinity, result);
    return vl_select((x == infinity) | (x != x), x, result);
}

VL_INLINE vec vl_log(vec x) { return vl_log_and(x, VL_SPLAT(0)); }

/* log(1 + x) for x >= 0: what rounding 1 + x lost comes back by the derivative. */
VL_INLINE vec vl_log1p(vec x)
{
    vec u = 1 + x;
    VL_KEEP(u);
    return VL_IF_LESS(x, VL_SPLAT(1e-4f), x - x * x * 0.5f, vl_log_and(u, (x - (u - 1)) / u));
}

/* log(1 + exp(x)) */
VL_INLINE vec vl_softplus(vec x) { return vl_maximum(x, VL_SPLAT(0)) + vl_log1p(vl_exp(-vl_abs(x))); }

/* x + x p(x^2), and from 0.921875 on 1 - exp(t q(t) - t), t = |x|; erf(3.92) rounds to 1. */
VL_INLINE vec vl_erf(vec x)
{
    vec t = VL_MIN(VL_SPLAT(4.0f), vl_abs(x)), u = x * x;
    vec p = VL_SPLAT(-0x1.3a2df4p-11f);
    p = VL_FMA(p, u, VL_SPLAT(0x1.47417cp-8f));
    p = VL_FMA(p, u, VL_SPLAT(-0x1.b68c66p-6f));
    p = VL_FMA(p, u, VL_SPLAT(0x1.ce1a80p-4f));
    p = VL_FMA(p, u, VL_SPLAT(-0x1.8126e6p-2f));
    p = VL_FMA(p, u, VL_SPLAT(0x1.06eba6p-3f));
    vec q = VL_SPLAT(-0x1.7c9e2cp-17f);
    q = VL_FMA(q, t, VL_SPLAT(0x1.53a818p-12f));
    q = VL_FMA(q, t, VL_SPLAT(-0x1.de04b2p-9f));
    q = VL_FMA(q, t, VL_SPLAT(0x1.857962p-6f));
    q = VL_FMA(q, t, VL_SPLAT(-0x1.b33108p-4f));
    q = VL_FMA(q, t, VL_SPLAT(-0x1.4531aep-1f));
    q = VL_FMA(q, t, VL_SPLAT(-0x1.0779b8p-3f));
    vec far = vl_with_sign_of(x, 1 - vl_exp_negated_in_range(VL_FMA(-q, t, t))); /* of 17 at most */
    return VL_IF_LESS(t, VL_SPLAT(0.921875f), VL_FMA(p, x, x), far);
}

/* x / 2 (1 + erf(x / sqrt 2)) */
VL_INLINE vec vl_gelu(vec x)
{
    vec half = x * 0.5f;
    return VL_FMA(half, vl_erf(x * 0x1.6a09e6p-1f), half);
}

/* The same with tanh(sqrt(2 / pi) (x + 0.044715 x^3)) for erf */
VL_INLINE vec vl_gelu_by_tanh(vec x)
{
    vec inner = (x + 0.044715f * x * x * x) * 0x1.988454p-1f;
    return 0.5f * x * (1 + vl_tanh(inner));
}

/* x^y for normal x > 0 and finite y, in double precision, for a float's digits of log x would be too few:
 *     x = 2^e m, sqrt(1/2) <= m < sqrt(2), s = (m - 1) / (m + 1)
 *     log2 x = e + 2 log2 e (s + s^3/3 + s^5/5 + ...),  x^y = 2^n 2^f, n the integer next to y log2 x
 * Series end where a term is below 1e-10. */
typedef double vl_wide __attribute__((vector_size(VL_BYTES)));
typedef int64_t vl_wide_int __attribute__((vector_size(VL_BYTES)));
typedef float vl_half __attribute__((vector_size(VL_BYTES / 2), aligned(4), may_alias));

VL_INLINE vl_half vl_half_power(vl_half m, vl_half e, vl_half exponent)
{
    const double scale = 2.88539008177792681472; /* 2 log2 e */
    const double rounder = 6755399441055744.0;   /* 1.5 2^52, as VL_ROUNDER */
    vl_wide w = __builtin_convertvector(m, vl_wide);
    vl_wide s = (w - 1) / (w + 1), u = s * s;
    vl_wide log = u * (1.0 / 13) + 1.0 / 11;
    log = log * u + 1.0 / 9;
    log = log * u + 1.0 / 7;
    log = log * u + 1.0 / 5;
    log = log * u + 1.0 / 3;
    log = log * u + 1;
    log = log * s * scale + __builtin_convertvector(e, vl_wide);
    vl_wide t = log * __builtin_convertvector(exponent, vl_wide);
    const vl_wide limit = t - t + 200; /* beyond, 2^t is 0 or infinity to a float */
    t = (vl_wide)(((vl_wide_int)t & (t < limit)) | ((vl_wide_int)limit & ~(t < limit)));
    t = (vl_wide)(((vl_wide_int)t & (t > -limit)) | ((vl_wide_int)-limit & ~(t > -limit)));
    vl_wide shifted = t + rounder, f = (t - (shifted - rounder)) * 0.693147180559945309417;
    vl_wide p = f * (1.0 / 40320) + 1.0 / 5040;
    p = p * f + 1.0 / 720;
    p = p * f + 1.0 / 120;
    p = p * f + 1.0 / 24;
    p = p * f + 1.0 / 6;
    p = p * f + 0.5;
    p = p * f + 1;
    p = p * f + 1;
    /* the low bits of `shifted` are n, and go where a double's exponent stands */
    vl_wide power = (vl_wide)(((vl_wide_int)shifted << 52) + (vl_wide_int)(t - t + 1));
    return __builtin_convertvector(p * power, vl_half);
}

VL_INLINE vec vl_power_of_positive(vec x, vec y)
{
    const veci half = (veci)VL_SPLAT(0x1.6a09e6p-1f);
    veci bits = (veci)((vecu)x - (vecu)half);
    real m[L] __attribute__((aligned(VL_BYTES))), e[L] __attribute__((aligned(VL_BYTES)));
    real exponent[L] __attribute__((aligned(VL_BYTES)));
    vl_store(m, (vec)((bits & 0x7fffff) + half));
    vl_store(e, __builtin_convertvector(bits >> 23, vec));
    vl_store(exponent, y);
    for (int k = 0; k < L; k += L / 2)
        *(vl_half *)(m + k) = vl_half_power(*(vl_half *)(m + k), *(vl_half *)(e + k), *(vl_half *)(exponent + k));
    return vl_load(m);
}

/* r = x - n pi/2 by four parts of pi/2, of which the first three have 11 bits each, so that n times them is exact while
 * n < 2^13; sin(r) = r + r^3 s(r^2), cos(r) = 1 - r^2/2 + r^4 c(r^2). `quarter` is 0 for the sine, 1 for the cosine.
 * Beyond VL_LARGEST_ANGLE (and for infinity) the caller asks libm. */
#define VL_LARGEST_ANGLE 12000.0f
VL_INLINE vec vl_sine(vec x, int quarter)
{
    vec turned = VL_FMA(x, VL_SPLAT(0x1.45f306p-1f), VL_SPLAT(VL_ROUNDER));
    VL_KEEP(turned);
    vec n = turned - VL_SPLAT(VL_ROUNDER);
    vecu quadrant = (vecu)turned + (vl_uint)quarter;
    vec r = x - n * 0x1.92p+0f;
    r = r - n * 0x1.fb4p-12f;
    r = r - n * 0x1.444p-24f;
    r = r - n * 0x1.68c234p-39f;
    vec u = r * r;
    vec s = VL_SPLAT(0x1.6cce0cp-19f);
    s = VL_FMA(s, u, VL_SPLAT(-0x1.a00f6cp-13f));
    s = VL_FMA(s, u, VL_SPLAT(0x1.111108p-7f));
    s = VL_FMA(s, u, VL_SPLAT(-0x1.555556p-3f));
    s = VL_FMA(s * u, r, r);
    vec c = VL_SPLAT(0x1.99e8a0p-16f);
    c = VL_FMA(c, u, VL_SPLAT(-0x1.6c0c28p-10f));
    c = VL_FMA(c, u, VL_SPLAT(0x1.55554ap-5f));
    c = VL_FMA(c * u, u, VL_FMA(u, VL_SPLAT(-0.5f), VL_SPLAT(1)));
    vec result = vl_select((veci)(quadrant & 1) == 0, s, c);
    return (vec)((vecu)result ^ ((quadrant & 2) << 30));
}

/* sin / cos: each is exact to its last bits, near the poles as well. */
VL_INLINE vec vl_tan(vec x) { return vl_sine(x, 0) / vl_sine(x, 1); }

/* t + t^3 p(t^2), t <= 1; beyond, pi/2 less that of 1/|x|. pi/2 in two parts, for what is taken off it is exact. */
#define VL_HALF_PI_HI 0x1.921fb6p+0f
#define VL_HALF_PI_LO -0x1.777a5cp-25f
VL_INLINE vec vl_atan(vec x)
{
    const vec magnitude = vl_abs(x), one = VL_SPLAT(1);
    vec t = VL_IF_LESS(one, magnitude, 1 / magnitude, magnitude), u = t * t;
    vec p = VL_SPLAT(0x1.7b30a4p-9f);
    p = VL_FMA(p, u, VL_SPLAT(-0x1.0a5aa8p-6f));
    p = VL_FMA(p, u, VL_SPLAT(0x1.608348p-5f));
    p = VL_FMA(p, u, VL_SPLAT(-0x1.34b684p-4f));
    p = VL_FMA(p, u, VL_SPLAT(0x1.b4963ep-4f));
    p = VL_FMA(p, u, VL_SPLAT(-0x1.230168p-3f));
    p = VL_FMA(p, u, VL_SPLAT(0x1.9977cep-3f));
    p = VL_FMA(p, u, VL_SPLAT(-0x1.5554d6p-2f));
    vec near = VL_FMA(p * u, t, t);
    vec far = VL_HALF_PI_HI - (near - VL_HALF_PI_LO);
    return vl_with_sign_of(x, VL_IF_LESS(one, magnitude, far, near));
}

/* t + t^3 p(t^2), 0 <= t <= 1/2 */
VL_INLINE vec vl_asin_near(vec t)
{
    vec u = t * t, p = VL_SPLAT(0x1.5985eap-5f);
    p = VL_FMA(p, u, VL_SPLAT(0x1.8c04eep-6f));
    p = VL_FMA(p, u, VL_SPLAT(0x1.7482b4p-5f));
    p = VL_FMA(p, u, VL_SPLAT(0x1.3301a6p-4f));
    p = VL_FMA(p, u, VL_SPLAT(0x1.5555cap-3f));
    return VL_FMA(p * u, t, t);
}

/* From 1/2 on, asin(t) = pi/2 - 2 asin(sqrt((1 - t) / 2)), whose argument is 1/2 at most. NaN beyond 1. */
VL_INLINE vec vl_asin(vec x)
{
    const vec magnitude = vl_abs(x), half = VL_SPLAT(0.5f);
    vec rest = vl_sqrt((1 - magnitude) * 0.5f);
    vec near = vl_asin_near(VL_IF_LESS(half, magnitude, rest, magnitude));
    vec far = VL_HALF_PI_HI - (2 * near - VL_HALF_PI_LO);
    return vl_with_sign_of(x, VL_IF_LESS(half, magnitude, far, near));
}
VL_INLINE vec vl_acos(vec x)
{
    const vec magnitude = vl_abs(x), half = VL_SPLAT(0.5f);
    vec rest = vl_sqrt((1 - magnitude) * 0.5f);
    vec near = vl_asin_near(VL_IF_LESS(half, magnitude, rest, magnitude));
    vec far = VL_IF_LESS(x, VL_SPLAT(0), 2 * (VL_HALF_PI_HI - (near - VL_HALF_PI_LO)), 2 * near);
    vec middle = VL_HALF_PI_HI - (vl_with_sign_of(x, near) - VL_HALF_PI_LO);
    return VL_IF_LESS(half, magnitude, far, middle);
}

/* (m + m / (m + 1)) / 2 with m = exp|x| - 1; from 88 on half of exp|x|, in two factors as that may be infinite. */
VL_INLINE vec vl_sinh(vec x)
{
    const vec magnitude = vl_abs(x), large = VL_SPLAT(88.0f);
    vec m = vl_expm1(VL_MIN(large, magnitude)), root = vl_exp(magnitude * 0.5f);
    vec near = (m + m / (m + 1)) * 0.5f;
    return vl_with_sign_of(x, VL_IF_LESS(large, magnitude, root * 0.5f * root, near));
}
VL_INLINE vec vl_cosh(vec x)
{
    const vec magnitude = vl_abs(x), large = VL_SPLAT(88.0f);
    vec e = vl_exp(VL_MIN(large, magnitude)), root = vl_exp(magnitude * 0.5f);
    return VL_IF_LESS(large, magnitude, root * 0.5f * root, (e + 1 / e) * 0.5f);
}

/* log(t + sqrt(t^2 + 1)); from 2^12 on log 2t. */
#define VL_LN2 0x1.62e43p-1f
VL_INLINE vec vl_asinh(vec x)
{
    const vec magnitude = vl_abs(x), large = VL_SPLAT(4096.0f);
    vec t = VL_MIN(large, magnitude), u = t * t;
    vec near = vl_log1p(t + u / (1 + vl_sqrt(u + 1)));
    return vl_with_sign_of(x, VL_IF_LESS(large, magnitude, vl_log_and(magnitude, VL_SPLAT(VL_LN2)), near));
}

/* log(x + sqrt(x^2 - 1)) with t = x - 1; from 2^12 on log 2x. NaN below 1. */
VL_INLINE vec vl_acosh(vec x)
{
    const vec large = VL_SPLAT(4096.0f), one = VL_SPLAT(1);
    vec t = VL_MIN(large, VL_MAX(one, x)) - 1;
    vec near = vl_log1p(t + vl_sqrt(t * (t + 2)));
    vec result = VL_IF_LESS(large, x, vl_log_and(x, VL_SPLAT(VL_LN2)), near);
    return VL_IF_LESS(x, one, VL_SPLAT(__builtin_nanf("")), result);
}

/* log((1 + t) / (1 - t)) / 2, t = |x|: infinite at 1, NaN beyond. */
VL_INLINE vec vl_atanh(vec x)
{
    const vec magnitude = vl_abs(x), one = VL_SPLAT(1);
    vec result = vl_with_sign_of(x, vl_log1p(2 * magnitude / (1 - magnitude)) * 0.5f);
    return VL_IF_LESS(one, magnitude, VL_SPLAT(__builtin_nanf("")), result);
}

#endif
