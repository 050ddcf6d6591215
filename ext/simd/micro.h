/* The micro-operations of element-wise chains, by name: M(name, sources). Masks are all ones or all zeros.
 *
 * What they compute is NumPy's: NaN in -> NaN out, min and max too. Those that name a bound, limit or factor beside x
 * take it as a source as well; `at_least` and `at_most` want one that is not NaN and cost less than max and min.
 */
#ifndef VLEDGE_MICRO_H
#define VLEDGE_MICRO_H

/* clang-format off */
#define VL_MICROS(M)                                                                                      \
    M(copy, 1) M(negative, 1) M(abs, 1) M(sign, 1) M(square, 1) M(sqrt, 1) M(reciprocal, 1)               \
    M(floor, 1) M(ceil, 1) M(round, 1)                                                                    \
    M(exp, 1) M(expm1, 1) M(log, 1) M(sin, 1) M(cos, 1) M(tanh, 1) M(sigmoid, 1) M(erf, 1)                \
    M(softplus, 1) M(gelu, 1) M(gelu_by_tanh, 1) M(hard_swish, 1) M(silu, 1)                              \
    M(tan, 1) M(asin, 1) M(acos, 1) M(atan, 1) M(sinh, 1) M(cosh, 1) M(asinh, 1) M(acosh, 1) M(atanh, 1)  \
    M(add, 2) M(subtract, 2) M(multiply, 2) M(divide, 2) M(maximum, 2) M(minimum, 2)                      \
    M(at_least, 2)       /* max(x, bound) */                                                              \
    M(at_most, 2)        /* min(x, bound) */                                                              \
    M(power, 2)                                                                                           \
    M(leaky, 2)          /* x < 0 ? x factor : x */                                                       \
    M(elu, 2)            /* x < 0 ? (exp(x) - 1) factor : x */                                            \
    M(multiply_add, 3)   /* a b + c, rounded after the product as well */                                 \
    M(fused_multiply_add, 3) /* rounded once where the CPU can */                                         \
    M(clip, 3)           /* min(max(x, low), high), neither NaN */                                        \
    M(hard_sigmoid, 3)   /* min(max(x factor + offset, 0), 1) */                                          \
    M(less, 2) M(less_equal, 2) M(equal, 2) M(is_nan, 1)                   /* give masks */               \
    M(both, 2) M(either, 2) M(differ, 2) M(not, 1)                         /* of masks */                 \
    M(where, 3)          /* mask ? a : b */
/* clang-format on */

enum {
#define VL_MICRO_NUMBER(name, sources) VL_MICRO_##name,
    VL_MICROS(VL_MICRO_NUMBER)
#undef VL_MICRO_NUMBER
        VL_MICRO_COUNT
};

#endif
