/* Single element-wise operations on any type, with NumPy's broadcasting: shape arithmetic, masks, what is not float32.
 *
 * Most are of one to eight numbers, so what counts is what a call costs; float32 in bulk goes to chains. Integers wrap
 * around and are divided towards zero; by zero gives 0.
 */
#include "typed_loops.h"

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
static int plan(const vl_tensor *a, const vl_tensor *b, vl_typed_walk *walk)
{
    walk->axes = a->axes > b->axes ? a->axes : b->axes;
    for (int k = 0; k < walk->axes; k++)
        walk->shape[k] = 1;
    return operand_strides(a, walk->axes, walk->shape, walk->a) &&
           operand_strides(b, walk->axes, walk->shape, walk->b) && vl_count(walk->axes, walk->shape) >= 0;
}

/* Axes that follow one another everywhere are one. The result's memory has no gaps and walk->shape's order. */
static void join(vl_typed_walk *walk)
{
    int64_t step = 1;
    for (int k = walk->axes - 1; k >= 0; k--) {
        walk->out[k] = step;
        step *= walk->shape[k];
    }
    int axes = 0;
    for (int k = 0; k < walk->axes; k++) {
        int64_t n = walk->shape[k];
        if (n == 1)
            continue;
        int last = axes - 1;
        int joined = last >= 0 && walk->a[last] == walk->a[k] * n && walk->b[last] == walk->b[k] * n;
        if (!joined)
            walk->shape[last = axes++] = 1;
        walk->shape[last] *= n;
        walk->out[last] = walk->out[k];
        walk->a[last] = walk->a[k];
        walk->b[last] = walk->b[k];
    }
    walk->axes = axes;
}

static void visit(const vl_typed_walk *walk, vl_pace *pace, int axis, vl_typed_loop *loop, char *out, size_t out_size,
                  const char *a, size_t a_size, const char *b, size_t b_size)
{
    if (axis >= walk->axes - 1) {
        if (walk->axes == 0) {
            loop(1, out, 0, a, 0, b, 0);
            return;
        }
        const int64_t n = walk->shape[axis];
        for (int64_t k = 0, count; k < n; k += count) {
            count = n - k < VL_PIECE ? n - k : VL_PIECE;
            if (!vl_goes_on(pace, count))
                return;
            loop(count, out + k * walk->out[axis] * (int64_t)out_size, walk->out[axis],
                 a + k * walk->a[axis] * (int64_t)a_size, walk->a[axis], b + k * walk->b[axis] * (int64_t)b_size,
                 walk->b[axis]);
        }
        return;
    }
    for (int64_t k = 0; k < walk->shape[axis] && !vl_has_ended(pace->heed); k++)
        visit(walk, pace, axis + 1, loop, out + k * walk->out[axis] * (int64_t)out_size, out_size,
              a + k * walk->a[axis] * (int64_t)a_size, a_size, b + k * walk->b[axis] * (int64_t)b_size, b_size);
}

static int run(vl_frame *f, const vl_instruction *i, vl_typed_loop *loop, const vl_tensor *a, const vl_tensor *b,
               int result)
{
    vl_typed_walk walk;
    if (!loop || !plan(a, b, &walk))
        return VL_DECLINED;
    const char *from = a->data, *other = b->data;
    const size_t a_size = vl_size_of(a->type), b_size = vl_size_of(b->type);
    vl_tensor *out = vl_new(f, i, 0, result, walk.axes, walk.shape);
    if (!out)
        return VL_NO_MEMORY;
    if (vl_count(walk.axes, walk.shape) == 0)
        return VL_DONE;
    join(&walk);
    vl_pace pace = vl_pace_of(f);
    visit(&walk, &pace, 0, loop, out->data, vl_size_of(result), from, a_size, other, b_size);
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

/* ---- bounds --------------------------------------------------------------------------------------------- */

/* "clip": x of integers, and its bounds, numbers of the same type that may be left out. */
static int run_clip(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    if (!x || x->type <= VL_F16 || x->type == VL_BOOL)
        return VL_DECLINED;
    const size_t size = vl_size_of(x->type);
    const int is_signed = x->type < VL_U64;
    uint64_t bits = 8 * size, most = UINT64_MAX >> (64 - bits) >> is_signed, least = is_signed ? ~most : 0;
    char bounds[2 * sizeof(uint64_t)] __attribute__((aligned(8)));
    memcpy(bounds, &least, size); /* the low bytes, first on every CPU that we run on */
    memcpy(bounds + size, &most, size);
    for (int k = 0; k < 2; k++) {
        const vl_tensor *bound = vl_in(f, i, 1 + k);
        if (!vl_has_in(i, 1 + k))
            continue;
        if (!bound || bound->type != x->type || bound->axes > x->axes || vl_count(bound->axes, bound->shape) != 1)
            return VL_DECLINED;
        memcpy(bounds + k * size, bound->data, size);
    }
    vl_tensor both = {.data = bounds, .type = x->type, .state = VL_TENSOR};
    return run(f, i, clip_integers[x->type], x, &both, x->type);
}

/* ---- powers ------------------------------------------------------------------------------------------ */

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
    vl_pace pace = vl_pace_of(f);
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t k = 0, count; k < width; k += count) {
            count = width - k < VL_PIECE ? width - k : VL_PIECE;
            if (!vl_goes_on(&pace, count))
                return VL_FAILED;
            where_run(size, count, out->data + (row * width + k) * (int64_t)size, (const uint8_t *)pd + po + k * sp, sp,
                      xd + (xo + k * sx) * (int64_t)size, sx, yd + (yo + k * sy) * (int64_t)size, sy);
        }
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
                                              {"clip", run_clip},
                                              {NULL, NULL}};
