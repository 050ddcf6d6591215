/* Single element-wise operations on any type, with NumPy's broadcasting: shape arithmetic, masks, what is not float32.
 *
 * Most are of one to eight numbers, so what counts is what a call costs; float32 in bulk goes to chains. Integers wrap
 * around and are divided towards zero; by zero gives 0.
 */
#include "program.h"

#include <math.h>

/* n elements; strides in elements */
typedef void vl_typed_loop(int64_t n, void *out, int64_t so, const void *a, int64_t sa, const void *b, int64_t sb);
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
    static void name##_##type(int64_t n, void *out, int64_t so, const void *a, int64_t sa, const void *b, int64_t sb)  \
    {                                                                                                                  \
        const kind *restrict p = a, *restrict q = b;                                                                   \
        result *restrict r = out;
#define VL_LOOP(type, kind, name, result, expression)                                                                  \
    VL_LOOP_HEAD(type, kind, name, result)                                                                             \
    VL_ELEMENTS(kind, result, expression, sa, sb, so)                                                                  \
    }
#define VL_BULK_LOOP(type, kind, name, result, expression)                                                             \
    VL_LOOP_HEAD(type, kind, name, result)                                                                             \
    if (so == 1 && sa == 1 && sb == 1)                                                                                 \
        VL_ELEMENTS(kind, result, expression, 1, 1, 1)                                                                 \
    else if (so == 1 && sa == 1 && sb == 0)                                                                            \
        VL_ELEMENTS(kind, result, expression, 1, 0, 1)                                                                 \
    else if (so == 1 && sa == 0 && sb == 1)                                                                            \
        VL_ELEMENTS(kind, result, expression, 0, 1, 1)                                                                 \
    else                                                                                                               \
        VL_ELEMENTS(kind, result, expression, sa, sb, so)                                                              \
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

static void modulo_F32(int64_t n, void *out, int64_t so, const void *a, int64_t sa, const void *b, int64_t sb)
{
    for (int64_t k = 0; k < n; k++)
        ((float *)out)[k * so] = mod_F32(((const float *)a)[k * sa], ((const float *)b)[k * sb]);
}
static void modulo_F64(int64_t n, void *out, int64_t so, const void *a, int64_t sa, const void *b, int64_t sb)
{
    for (int64_t k = 0; k < n; k++)
        ((double *)out)[k * so] = mod_F64(((const double *)a)[k * sa], ((const double *)b)[k * sb]);
}
static vl_typed_loops modulo_reals = {VL_REALS(VL_ENTRY, modulo)};

/* ---- walks over two operands and a result -------------------------------------------------------- */

typedef struct {
    int axes;
    int64_t shape[VL_MOST_AXES], out[VL_MOST_AXES], a[VL_MOST_AXES], b[VL_MOST_AXES]; /* strides in elements */
} vl_typed_walk;

/* An operand's strides along the axes of the result, in elements; 0 if it has no such, or a strange one */
static int operand_strides(const vl_tensor *t, int axes, int64_t *shape, int64_t *strides)
{
    const int64_t size = (int64_t)vl_size_of(t->type);
    int missing = axes - t->axes;
    for (int a = 0; a < missing; a++)
        strides[a] = 0;
    for (int a = 0; a < t->axes; a++) {
        int64_t n = t->shape[a], *whole = &shape[missing + a];
        strides[missing + a] = 0;
        if (n == 1)
            continue;
        if (*whole == 1)
            *whole = n;
        else if (*whole != n)
            return 0;
        if (t->strides[a] % size)
            return 0;
        strides[missing + a] = t->strides[a] / size;
    }
    return (uintptr_t)t->data % (uintptr_t)size == 0;
}

/* The shape of the result and the strides over it; 0 where they don't broadcast. */
static int plan(const vl_tensor *a, const vl_tensor *b, vl_typed_walk *w)
{
    w->axes = a->axes > b->axes ? a->axes : b->axes;
    for (int k = 0; k < w->axes; k++)
        w->shape[k] = 1;
    return operand_strides(a, w->axes, w->shape, w->a) && operand_strides(b, w->axes, w->shape, w->b) &&
           vl_count(w->axes, w->shape) >= 0;
}

/* Axes that follow one another everywhere are one. The result's memory has no gaps and w->shape's order. */
static void join(vl_typed_walk *w)
{
    int64_t step = 1;
    for (int k = w->axes - 1; k >= 0; k--) {
        w->out[k] = step;
        step *= w->shape[k];
    }
    int axes = 0;
    for (int k = 0; k < w->axes; k++) {
        int64_t n = w->shape[k];
        if (n == 1)
            continue;
        int last = axes - 1;
        int joined = last >= 0 && w->a[last] == w->a[k] * n && w->b[last] == w->b[k] * n;
        if (!joined)
            w->shape[last = axes++] = 1;
        w->shape[last] *= n;
        w->out[last] = w->out[k];
        w->a[last] = w->a[k];
        w->b[last] = w->b[k];
    }
    w->axes = axes;
}

static void walk(const vl_typed_walk *w, int axis, vl_typed_loop *loop, char *out, size_t out_size, const char *a,
                 size_t a_size, const char *b, size_t b_size)
{
    if (axis >= w->axes - 1) {
        if (w->axes == 0)
            loop(1, out, 0, a, 0, b, 0);
        else
            loop(w->shape[axis], out, w->out[axis], a, w->a[axis], b, w->b[axis]);
        return;
    }
    for (int64_t k = 0; k < w->shape[axis]; k++)
        walk(w, axis + 1, loop, out + k * w->out[axis] * (int64_t)out_size, out_size,
             a + k * w->a[axis] * (int64_t)a_size, a_size, b + k * w->b[axis] * (int64_t)b_size, b_size);
}

static int run(vl_frame *f, const vl_instruction *i, vl_typed_loop *loop, const vl_tensor *a, const vl_tensor *b,
               int result)
{
    vl_typed_walk w;
    if (!loop || !plan(a, b, &w))
        return VL_DECLINED;
    const char *from = a->data, *other = b->data;
    const size_t a_size = vl_size_of(a->type), b_size = vl_size_of(b->type);
    vl_tensor *out = vl_new(f, i, 0, result, w.axes, w.shape);
    if (!out)
        return VL_NO_MEMORY;
    if (vl_count(w.axes, w.shape) == 0)
        return VL_DONE;
    join(&w);
    walk(&w, 0, loop, out->data, vl_size_of(result), from, a_size, other, b_size);
    return VL_DONE;
}

static int of_two(vl_frame *f, const vl_instruction *i, vl_typed_loops loops, int result)
{
    const vl_tensor *a = vl_in(f, i, 0), *b = vl_in(f, i, 1);
    if (!a || !b || a->type != b->type || i->input_count != 2)
        return VL_DECLINED;
    return run(f, i, loops[a->type], a, b, result < 0 ? a->type : result);
}

static int of_one(vl_frame *f, const vl_instruction *i, vl_typed_loops loops, int result)
{
    const vl_tensor *a = vl_in(f, i, 0);
    return a ? run(f, i, loops[a->type], a, a, result < 0 ? a->type : result) : VL_DECLINED;
}

/* "add", "subtract", ...: no parameters. Two tensors of one type, or one. */
#define VL_HANDLER(handler, of, loops, result)                                                                         \
    static int handler(vl_frame *f, const vl_instruction *i) { return of(f, i, loops, result); }
VL_HANDLER(run_add, of_two, add, -1)
VL_HANDLER(run_subtract, of_two, subtract, -1)
VL_HANDLER(run_multiply, of_two, multiply, -1)
VL_HANDLER(run_divide, of_two, divide, -1)
VL_HANDLER(run_maximum, of_two, maximum, -1)
VL_HANDLER(run_minimum, of_two, minimum, -1)
VL_HANDLER(run_remainder, of_two, remainder_, -1)
VL_HANDLER(run_bitwise_and, of_two, bitwise_and, -1)
VL_HANDLER(run_bitwise_or, of_two, bitwise_or, -1)
VL_HANDLER(run_bitwise_xor, of_two, bitwise_xor, -1)
VL_HANDLER(run_less, of_two, less, VL_BOOL)
VL_HANDLER(run_less_equal, of_two, less_equal, VL_BOOL)
VL_HANDLER(run_greater, of_two, greater, VL_BOOL)
VL_HANDLER(run_greater_equal, of_two, greater_equal, VL_BOOL)
VL_HANDLER(run_and, of_two, logical_and, VL_BOOL)
VL_HANDLER(run_or, of_two, logical_or, VL_BOOL)
VL_HANDLER(run_xor, of_two, logical_xor, VL_BOOL)
VL_HANDLER(run_not, of_one, logical_not, VL_BOOL)
VL_HANDLER(run_negative, of_one, negative, -1)
VL_HANDLER(run_absolute, of_one, absolute, -1)
VL_HANDLER(run_sign, of_one, sign, -1)
VL_HANDLER(run_square, of_one, square, -1)
VL_HANDLER(run_sqrt, of_one, square_root, -1)
VL_HANDLER(run_reciprocal, of_one, reciprocal, -1)
VL_HANDLER(run_floor, of_one, floor_, -1)
VL_HANDLER(run_ceil, of_one, ceil_, -1)
VL_HANDLER(run_round, of_one, round_, -1)
VL_HANDLER(run_bitwise_not, of_one, bitwise_not, -1)
VL_HANDLER(run_is_nan, of_one, is_nan, VL_BOOL)
VL_HANDLER(run_is_inf, of_one, is_inf, VL_BOOL)

static int run_equal(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *a = vl_in(f, i, 0);
    return of_two(f, i, a && a->type == VL_BOOL ? equal_bools : equal_numbers, VL_BOOL);
}

static int run_modulo(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *a = vl_in(f, i, 0);
    return of_two(f, i, a && a->type <= VL_F64 ? modulo_reals : modulo, -1);
}

/* ---- powers ------------------------------------------------------------------------------------------ */

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

/* "power": of integers by integers that are not negative, of reals by any number; the exponent comes as one number or of
 * the base's type. */
static int run_power(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *a = vl_in(f, i, 0), *b = vl_in(f, i, 1);
    if (!a || !b || i->input_count != 2)
        return VL_DECLINED;
    vl_tensor exponent = *b;
    union {
        float f32;
        double f64;
        int64_t i64;
        int32_t i32;
    } value;
    int64_t whole;
    if (a->type != b->type) {
        if (vl_count(b->axes, b->shape) != 1 || (uintptr_t)b->data % vl_size_of(b->type))
            return VL_DECLINED;
        double number;
        switch (b->type) {
        case VL_F32: number = *(const float *)b->data; break;
        case VL_F64: number = *(const double *)b->data; break;
        case VL_I64: number = (double)*(const int64_t *)b->data; break;
        case VL_I32: number = *(const int32_t *)b->data; break;
        default: return VL_DECLINED;
        }
        whole = number > -1e15 && number < 1e15 ? (int64_t)number : 0;
        if (a->type == VL_F32)
            value.f32 = (float)number;
        else if (a->type == VL_F64)
            value.f64 = number;
        else if (b->type <= VL_F64)
            return VL_DECLINED;
        else if (a->type == VL_I64)
            value.i64 = whole;
        else if (a->type == VL_I32 && whole == (int32_t)whole)
            value.i32 = (int32_t)whole;
        else
            return VL_DECLINED;
        exponent.type = a->type;
        exponent.data = (char *)&value;
    }
    if (a->type > VL_F16 && a->type < VL_U64) { /* signed integers */
        int64_t n = vl_count(b->axes, b->shape), exponents[16];
        if (b->axes > 1 || vl_integers(b, exponents, 16) != n)
            return VL_DECLINED;
        for (int64_t k = 0; k < n; k++)
            if (exponents[k] < 0)
                return VL_DECLINED;
    }
    return run(f, i, power_of_one_type[a->type], a, &exponent, a->type);
}

/* ---- where --------------------------------------------------------------------------------------------- */

#define VL_WHERE_BY(kind, sp, sx, sy)                                                                                  \
    for (int64_t k = 0; k < n; k++)                                                                                    \
    ((kind *restrict)out)[k] = p[k * (sp)] ? ((const kind *)x)[k * (sx)] : ((const kind *)y)[k * (sy)]
#define VL_WHERE(kind)                                                                                                 \
    if (sp == 1 && sx == 1 && sy == 1)                                                                                 \
        VL_WHERE_BY(kind, 1, 1, 1);                                                                                    \
    else if (sp == 1 && sx == 0 && sy == 1)                                                                            \
        VL_WHERE_BY(kind, 1, 0, 1);                                                                                    \
    else if (sp == 1 && sx == 1 && sy == 0)                                                                            \
        VL_WHERE_BY(kind, 1, 1, 0);                                                                                    \
    else                                                                                                               \
        VL_WHERE_BY(kind, sp, sx, sy)

static void where_run(size_t size, int64_t n, void *out, const uint8_t *p, int64_t sp, const void *x, int64_t sx,
                      const void *y, int64_t sy)
{
    switch (size) {
    case 1: VL_WHERE(uint8_t); break;
    case 2: VL_WHERE(uint16_t); break;
    case 4: VL_WHERE(uint32_t); break;
    default: VL_WHERE(uint64_t); break;
    }
}

/* "where": no parameters; x and y of one type. */
static int run_where(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *p = vl_in(f, i, 0), *x = vl_in(f, i, 1), *y = vl_in(f, i, 2);
    if (!p || !x || !y || p->type != VL_BOOL || x->type != y->type)
        return VL_DECLINED;
    int axes = p->axes > x->axes ? p->axes : x->axes;
    axes = y->axes > axes ? y->axes : axes;
    int64_t shape[VL_MOST_AXES], ps[VL_MOST_AXES], xs[VL_MOST_AXES], ys[VL_MOST_AXES];
    for (int a = 0; a < axes; a++)
        shape[a] = 1;
    if (!operand_strides(p, axes, shape, ps) || !operand_strides(x, axes, shape, xs) ||
        !operand_strides(y, axes, shape, ys))
        return VL_DECLINED;
    int64_t n = vl_count(axes, shape);
    if (n < 0)
        return VL_DECLINED;
    const size_t size = vl_size_of(x->type);
    const char *pd = p->data, *xd = x->data, *yd = y->data;
    vl_tensor *out = vl_new(f, i, 0, x->type, axes, shape);
    if (!out)
        return VL_NO_MEMORY;
    if (n == 0)
        return VL_DONE;
    /* rows: the axes that follow one another everywhere, from the last on */
    int64_t width = 1, sp = 0, sx = 0, sy = 0;
    int last = axes;
    while (last > 0) {
        int a = last - 1;
        if (shape[a] != 1 && width != 1 && (ps[a] != sp * width || xs[a] != sx * width || ys[a] != sy * width))
            break;
        if (shape[a] != 1 && width == 1) {
            sp = ps[a];
            sx = xs[a];
            sy = ys[a];
        }
        width *= shape[a];
        last = a;
    }
    int64_t index[VL_MOST_AXES] = {0}, rows = n / width, po = 0, xo = 0, yo = 0;
    for (int64_t row = 0; row < rows; row++) {
        where_run(size, width, out->data + row * width * (int64_t)size, (const uint8_t *)pd + po, sp,
                  xd + xo * (int64_t)size, sx, yd + yo * (int64_t)size, sy);
        for (int a = last - 1; a >= 0; a--) {
            po += ps[a];
            xo += xs[a];
            yo += ys[a];
            if (++index[a] < shape[a])
                break;
            po -= ps[a] * shape[a];
            xo -= xs[a] * shape[a];
            yo -= ys[a] * shape[a];
            index[a] = 0;
        }
    }
    return VL_DONE;
}

const vl_named_handler vl_typed_handlers[] = {{"add", run_add},
                                              {"subtract", run_subtract},
                                              {"multiply", run_multiply},
                                              {"divide", run_divide},
                                              {"maximum", run_maximum},
                                              {"minimum", run_minimum},
                                              {"modulo", run_modulo},
                                              {"remainder", run_remainder},
                                              {"power", run_power},
                                              {"negative", run_negative},
                                              {"absolute", run_absolute},
                                              {"sign", run_sign},
                                              {"square", run_square},
                                              {"sqrt", run_sqrt},
                                              {"reciprocal", run_reciprocal},
                                              {"floor", run_floor},
                                              {"ceil", run_ceil},
                                              {"round", run_round},
                                              {"bitwise_and", run_bitwise_and},
                                              {"bitwise_or", run_bitwise_or},
                                              {"bitwise_xor", run_bitwise_xor},
                                              {"bitwise_not", run_bitwise_not},
                                              {"less", run_less},
                                              {"less_equal", run_less_equal},
                                              {"greater", run_greater},
                                              {"greater_equal", run_greater_equal},
                                              {"equal", run_equal},
                                              {"logical_and", run_and},
                                              {"logical_or", run_or},
                                              {"logical_xor", run_xor},
                                              {"logical_not", run_not},
                                              {"is_nan", run_is_nan},
                                              {"is_inf", run_is_inf},
                                              {"where", run_where},
                                              {NULL, NULL}};
