/* The loops of typed.c: one for each operation and element type, and a table by type for each operation. */
#ifndef VLEDGE_TYPED_LOOPS_H
#define VLEDGE_TYPED_LOOPS_H

#include "program.h"

#include <math.h>

/* n elements; strides in elements */
typedef void vl_typed_loop(int64_t n, void *out, int64_t out_step, const void *a, int64_t a_step, const void *b,
                           int64_t b_step);
typedef vl_typed_loop *const vl_typed_loops[VL_BOOL + 1]; /* by type; NULL: declined */

/* clang-format off */
#define VL_INTEGERS(M, ...)                                                                                        \
    M(I64, int64_t, ##__VA_ARGS__) M(I32, int32_t, ##__VA_ARGS__) M(I16, int16_t, ##__VA_ARGS__)                   \
    M(I8, int8_t, ##__VA_ARGS__) M(U64, uint64_t, ##__VA_ARGS__) M(U32, uint32_t, ##__VA_ARGS__)                   \
    M(U16, uint16_t, ##__VA_ARGS__) M(U8, uint8_t, ##__VA_ARGS__)
#define VL_REALS(M, ...) M(F32, float, ##__VA_ARGS__) M(F64, double, ##__VA_ARGS__)
/* clang-format on */

/* Steps of 1 and 0 have loops of their own for what masks are made of, which come in bulk: those the compiler turns into
 * vectors. */
#define VL_ELEMENTS(kind, result, expression, step_a, step_b, step_out)                                                \
    for (int64_t k = 0; k < n; k++) {                                                                                  \
        const kind x = p[k * (step_a)], y = q[k * (step_b)];                                                           \
        (void)y;                                                                                                       \
        r[k * (step_out)] = (result)(expression);                                                                      \
    }
#define VL_LOOP_HEAD(type, kind, name, result)                                                                         \
    static void name##_##type(int64_t n, void *out, int64_t out_step, const void *a, int64_t a_step, const void *b,    \
                              int64_t b_step)                                                                          \
    {                                                                                                                  \
        const kind *restrict p = a, *restrict q = b;                                                                   \
        result *restrict r = out;
#define VL_LOOP(type, kind, name, result, expression)                                                                  \
    VL_LOOP_HEAD(type, kind, name, result)                                                                             \
    VL_ELEMENTS(kind, result, expression, a_step, b_step, out_step)                                                    \
    }
#define VL_BULK_LOOP(type, kind, name, result, expression)                                                             \
    VL_LOOP_HEAD(type, kind, name, result)                                                                             \
    if (out_step == 1 && a_step == 1 && b_step == 1)                                                                   \
        VL_ELEMENTS(kind, result, expression, 1, 1, 1)                                                                 \
    else if (out_step == 1 && a_step == 1 && b_step == 0)                                                              \
        VL_ELEMENTS(kind, result, expression, 1, 0, 1)                                                                 \
    else if (out_step == 1 && a_step == 0 && b_step == 1)                                                              \
        VL_ELEMENTS(kind, result, expression, 0, 1, 1)                                                                 \
    else                                                                                                               \
        VL_ELEMENTS(kind, result, expression, a_step, b_step, out_step)                                                \
    }
#define VL_SAME_LOOP(type, kind, name, expression) VL_LOOP(type, kind, name, kind, expression)
#define VL_BOOL_LOOP(type, kind, name, expression) VL_LOOP(type, kind, name, uint8_t, expression)
#define VL_BULK_BOOL_LOOP(type, kind, name, expression) VL_BULK_LOOP(type, kind, name, uint8_t, expression)
#define VL_ENTRY(type, kind, name) [VL_##type] = name##_##type,

/* Integers compute in 64 bits without a sign, where wrapping around is defined. */
#define VL_WRAPPED(operator) ((uint64_t)x operator(uint64_t) y)

#define VL_OF_NUMBERS(name, of_integers, of_reals)                                                                     \
    VL_INTEGERS(VL_SAME_LOOP, name, of_integers)                                                                       \
    VL_REALS(VL_SAME_LOOP, name, of_reals)                                                                             \
    static vl_typed_loops name = {VL_INTEGERS(VL_ENTRY, name) VL_REALS(VL_ENTRY, name)};
#define VL_OF_INTEGERS(name, expression)                                                                               \
    VL_INTEGERS(VL_SAME_LOOP, name, expression)                                                                        \
    static vl_typed_loops name = {VL_INTEGERS(VL_ENTRY, name)};
#define VL_OF_REALS(name, expression)                                                                                  \
    VL_REALS(VL_SAME_LOOP, name, expression)                                                                           \
    static vl_typed_loops name = {VL_REALS(VL_ENTRY, name)};
/* clang-format off */
#define VL_COMPARED_IN_BULK(M, ...) M(F32, float, ##__VA_ARGS__) M(I64, int64_t, ##__VA_ARGS__) M(I32, int32_t, ##__VA_ARGS__)
#define VL_COMPARED(M, ...)                                                                                        \
    M(F64, double, ##__VA_ARGS__) M(I16, int16_t, ##__VA_ARGS__) M(I8, int8_t, ##__VA_ARGS__)                      \
    M(U64, uint64_t, ##__VA_ARGS__) M(U32, uint32_t, ##__VA_ARGS__) M(U16, uint16_t, ##__VA_ARGS__)                \
    M(U8, uint8_t, ##__VA_ARGS__)
/* clang-format on */
#define VL_COMPARISON(name, expression)                                                                                \
    VL_COMPARED_IN_BULK(VL_BULK_BOOL_LOOP, name, expression)                                                           \
    VL_COMPARED(VL_BOOL_LOOP, name, expression)                                                                        \
    static vl_typed_loops name = {VL_COMPARED_IN_BULK(VL_ENTRY, name) VL_COMPARED(VL_ENTRY, name)};
#define VL_OF_BOOLS(name, expression)                                                                                  \
    VL_BULK_LOOP(BOOL, uint8_t, name, uint8_t, expression)                                                             \
    static vl_typed_loops name = {[VL_BOOL] = name##_BOOL};

/* The sign is the divisor's, as Python has it. */
static inline double mod_F64(double x, double y)
{
    double m = fmod(x, y);
    if (m == 0)
        return copysign(0, y);
    return (y < 0) != (m < 0) ? m + y : m;
}
static inline float mod_F32(float x, float y)
{
    float m = fmodf(x, y);
    if (m == 0)
        return copysignf(0, y);
    return (y < 0) != (m < 0) ? m + y : m;
}

/* x / y and x % y without the cases that trap: the sum of a quotient by -1 wraps around */
#define VL_MINUS_ONE(y) ((y) + 1 == 0 && (y) < 1)
#define VL_QUOTIENT (y == 0 ? 0 : VL_MINUS_ONE(y) ? (uint64_t)0 - (uint64_t)x : (uint64_t)(x / y))
#define VL_REMAINDER (y == 0 || VL_MINUS_ONE(y) ? 0 : x % y)
#define VL_MODULO (y == 0 || VL_MINUS_ONE(y) ? 0 : x % y && (x % y < 0) != (y < 0) ? x % y + y : x % y)

VL_OF_NUMBERS(add, VL_WRAPPED(+), x + y)
VL_OF_NUMBERS(subtract, VL_WRAPPED(-), x - y)
VL_OF_NUMBERS(multiply, VL_WRAPPED(*), x *y)
VL_OF_NUMBERS(divide, VL_QUOTIENT, x / y)
VL_OF_NUMBERS(maximum, x > y ? x : y, x >= y || x != x ? x : y)
VL_OF_NUMBERS(minimum, x < y ? x : y, x <= y || x != x ? x : y)
/* of b, the lower bound, and the upper one behind it */
#define VL_CLIP_LOOP(type, kind, ...)                                                                                  \
    static void clip_##type(int64_t n, void *out, int64_t out_step, const void *a, int64_t a_step, const void *b,      \
                            int64_t b_step)                                                                            \
    {                                                                                                                  \
        const kind *p = a, low = ((const kind *)b)[0], high = ((const kind *)b)[1];                                    \
        kind *restrict r = out;                                                                                        \
        (void)b_step;                                                                                                  \
        for (int64_t k = 0; k < n; k++) {                                                                              \
            const kind x = p[k * a_step] < low ? low : p[k * a_step];                                                  \
            r[k * out_step] = x > high ? high : x;                                                                     \
        }                                                                                                              \
    }
VL_INTEGERS(VL_CLIP_LOOP)
static vl_typed_loops clip_integers = {VL_INTEGERS(VL_ENTRY, clip)};
VL_OF_INTEGERS(modulo, VL_MODULO)
VL_OF_NUMBERS(remainder_, VL_REMAINDER, sizeof x == 4 ? fmodf((float)x, (float)y) : fmod(x, y))
VL_OF_NUMBERS(negative, (uint64_t)0 - (uint64_t)x, -x)
VL_OF_NUMBERS(absolute, x < 0 ? (uint64_t)0 - (uint64_t)x : (uint64_t)x, sizeof x == 4 ? fabsf((float)x) : fabs(x))
VL_OF_NUMBERS(sign, (x > 0) - (x < 0), x != x ? x : (x > 0) - (x < 0))
VL_OF_NUMBERS(square, (uint64_t)x *(uint64_t)x, x *x)
VL_OF_REALS(square_root, sizeof x == 4 ? sqrtf((float)x) : sqrt(x))
VL_OF_REALS(reciprocal, 1 / x)
VL_OF_REALS(floor_, sizeof x == 4 ? floorf((float)x) : floor(x))
VL_OF_REALS(ceil_, sizeof x == 4 ? ceilf((float)x) : ceil(x))
VL_OF_REALS(round_, sizeof x == 4 ? rintf((float)x) : rint(x))
VL_OF_INTEGERS(bitwise_and, x &y)
VL_OF_INTEGERS(bitwise_or, x | y)
VL_OF_INTEGERS(bitwise_xor, x ^ y)
VL_OF_INTEGERS(bitwise_not, ~x)
VL_COMPARISON(less, x < y)
VL_COMPARISON(less_equal, x <= y)
VL_COMPARISON(greater, x > y)
VL_COMPARISON(greater_equal, x >= y)
VL_COMPARISON(equal_numbers, x == y)
VL_OF_BOOLS(equal_bools, (x != 0) == (y != 0))
VL_OF_BOOLS(logical_and, x &&y)
VL_OF_BOOLS(logical_or, x || y)
VL_OF_BOOLS(logical_xor, (x != 0) != (y != 0))
VL_OF_BOOLS(logical_not, !x)
VL_REALS(VL_BOOL_LOOP, is_nan, x != x)
static vl_typed_loops is_nan = {VL_REALS(VL_ENTRY, is_nan)};
VL_REALS(VL_BOOL_LOOP, is_inf, x - x != x - x && x == x)
static vl_typed_loops is_inf = {VL_REALS(VL_ENTRY, is_inf)};

static void modulo_F32(int64_t n, void *out, int64_t out_step, const void *a, int64_t a_step, const void *b,
                       int64_t b_step)
{
    for (int64_t k = 0; k < n; k++)
        ((float *)out)[k * out_step] = mod_F32(((const float *)a)[k * a_step], ((const float *)b)[k * b_step]);
}
static void modulo_F64(int64_t n, void *out, int64_t out_step, const void *a, int64_t a_step, const void *b,
                       int64_t b_step)
{
    for (int64_t k = 0; k < n; k++)
        ((double *)out)[k * out_step] = mod_F64(((const double *)a)[k * a_step], ((const double *)b)[k * b_step]);
}
static vl_typed_loops modulo_reals = {VL_REALS(VL_ENTRY, modulo)};

static inline uint64_t integer_power(uint64_t base, uint64_t exponent)
{
    uint64_t result = 1;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1)
            result *= base;
    return result;
}
VL_OF_NUMBERS(power_of_one_type, integer_power((uint64_t)x, (uint64_t)y),
              sizeof x == 4 ? powf((float)x, (float)y) : pow(x, y))

#endif
